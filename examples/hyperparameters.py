"""Hyperparameters tuned by their gradient: through training, Adam and all.

A classifier of handwritten digits has 51 hyperparameters: a learning rate, and for each pixel a penalty of
its weights; too many for a grid.  Training is an unrolled Adam, whose steps call ``pdl.grad``; the loss
on held-out digits is differentiated through all of them with respect to the hyperparameters, which a second
Adam then improves (Maclaurin, Duvenaud and Adams, "Gradient-based hyperparameter optimization through
reversible learning", ICML 2015).  Each fold of the cross-validation is a task: on the threads of this
process, on worker processes of this machine (``--cluster 2``), or on a cluster that runs already
(``--address tcp://...``).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import numpy as np
from sklearn.datasets import load_digits

import paradual as pdl

SIDE, CLASSES = 8, 10
ALLOWED_ERROR = 1e-6


class Hyper(NamedTuple):
    """What is tuned, as logarithms: so it stays positive, and its size does not matter."""

    rate: float
    penalties: np.ndarray  # one for each pixel


class Adam(NamedTuple):
    """Where Adam stands: parameters, and running means of gradients and of their squares."""

    parameters: np.ndarray
    mean: np.ndarray
    square: np.ndarray


# --- the program --------------------------------------------------------------------------------------


def begin(parameters: np.ndarray) -> Adam:
    """The state before the first step."""
    return Adam(parameters, np.zeros_like(parameters), np.zeros_like(parameters))


def advance(i: int, state: Adam, gradient: np.ndarray, rate: float) -> Adam:
    """The state after step i (Kingma and Ba, arXiv:1412.6980)."""
    mean = 0.9 * state.mean + 0.1 * gradient
    square = 0.999 * state.square + 0.001 * gradient**2
    direction = mean / (1 - 0.9 ** (i + 1))
    # epsilon within the root, which has a slope then even where a gradient is 0: some pixels are never inked
    size = np.sqrt(square / (1 - 0.999 ** (i + 1)) + 1e-16)
    return Adam(state.parameters - rate * direction / size, mean, square)


def cross_entropy(weights: np.ndarray, x: np.ndarray, y: np.ndarray) -> float:
    """The mean of -log(probability of the right digit)."""
    scores = x @ weights
    scores = scores - pdl.stop_gradient(scores).max(axis=1, keepdims=True)
    return np.mean(np.log(np.sum(np.exp(scores), axis=1)) - scores[np.arange(len(y)), y])


def penalised(weights: np.ndarray, hyper: Hyper, x: np.ndarray, y: np.ndarray) -> float:
    """What training minimises; the bias, in the last row, is free."""
    squares = np.sum(weights[:-1] ** 2, axis=1)
    return cross_entropy(weights, x, y) + np.sum(np.exp(hyper.penalties) * squares) / 2


def train(hyper: Hyper, x: np.ndarray, y: np.ndarray, steps: int) -> np.ndarray:
    """The weights after so many steps of Adam."""

    def step(i: int, state: Adam) -> Adam:
        gradient = pdl.grad(penalised)(state.parameters, hyper, x, y)
        return advance(i, state, gradient, np.exp(hyper.rate))

    # keeps the state of every sqrt(steps)-th step, and no more: the steps between are computed again
    return pdl.loop(step, begin(np.zeros((x.shape[1], CLASSES))), steps).parameters


class Fold(NamedTuple):
    """What to train on and what to validate with."""

    x: np.ndarray
    y: np.ndarray
    x_held_out: np.ndarray
    y_held_out: np.ndarray


def objective(hyper: Hyper, folds: list[Fold], steps: int) -> float:
    """The loss of cross-validation; each fold is a task."""

    def validated(fold: Fold) -> float:
        weights = train(hyper, fold.x, fold.y, steps)
        return cross_entropy(weights, fold.x_held_out, fold.y_held_out)

    losses = pdl.map(validated, folds)
    return sum(losses) / len(losses)


def tune(
    start: Hyper, loss: Callable[[Hyper], float], iterations: int, rate: float
) -> tuple[Hyper, list[Hyper], list[float]]:
    """The best hyperparameters that Adam comes by, with all of them and their losses."""
    rates, penalties = begin(np.array(start.rate)), begin(start.penalties)
    seen, losses = [], []
    for i in range(iterations + 1):
        hyper = Hyper(float(rates.parameters), penalties.parameters)
        value, slope = pdl.value_and_grad(loss)(hyper)
        seen.append(hyper)
        losses.append(float(value))
        rate_now, penalties_now = np.exp(hyper.rate), np.exp(hyper.penalties)
        print(f"iteration {i:3d}: loss {value:.6f}, learning rate {rate_now:.4f}, penalties from "
              f"{penalties_now.min():.5f} to {penalties_now.max():.5f}", flush=True)  # fmt: skip
        rates = advance(i, rates, np.array(slope.rate), rate)
        penalties = advance(i, penalties, slope.penalties, rate)
    return seen[int(np.argmin(losses))], seen, losses


# --- to run it ----------------------------------------------------------------------------------------


def options() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(
        description="Tune learning rate and penalties of a classifier by the gradient through its training."
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--cluster", type=int, metavar="N", help="start N worker processes on this machine")
    where.add_argument("--address", metavar="tcp://...", help="join a running cluster")
    parser.add_argument(
        "--digits", type=int, default=600, help="to train on: 100 to 1500 (default: %(default)s)"
    )
    parser.add_argument("--folds", type=int, default=4, help="of the cross-validation (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=80, help="of training (default: %(default)s)")
    parser.add_argument("--iterations", type=int, default=15, help="of tuning (default: %(default)s)")
    parser.add_argument(
        "--picture", type=Path, default="hyperparameters.png", help="losses, penalties (default: %(default)s)"
    )
    args = parser.parse_args()
    if not 100 <= args.digits <= 1500 or args.folds < 2 or min(args.steps, args.iterations) < 1:
        parser.error("--digits must be from 100 to 1500, --folds at least 2, --steps and --iterations 1")
    return args


def data(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Pixels and a constant, and labels, to train with and to test with; and which pixels those are.

    A pixel that next to no digit has ink in says nothing: its weights stay where they began.
    """
    images, labels = load_digits(return_X_y=True)
    inked = np.mean(images > 0, axis=0) > 0.05
    x = np.hstack([images[:, inked] / 16, np.ones((len(images), 1))])
    order = np.random.default_rng(0).permutation(len(x))
    first, rest = order[:n], order[n:]
    return x[first], labels[first], x[rest], labels[rest], inked


def split(x: np.ndarray, y: np.ndarray, n: int) -> list[Fold]:
    """Each n-th of the digits in turn is held out."""
    number = np.arange(len(x)) % n
    return [Fold(x[number != k], y[number != k], x[number == k], y[number == k]) for k in range(n)]


def slopes(loss: Callable[[Hyper], float], hyper: Hyper) -> tuple[float, float]:
    """The slope of a loss in a random direction: by its gradient, and by a difference quotient."""
    direction = np.random.default_rng(1).standard_normal(1 + hyper.penalties.size)
    gradient = pdl.grad(loss)(hyper)
    found = gradient.rate * direction[0] + gradient.penalties @ direction[1:]
    h = 1e-5
    up, down = (Hyper(hyper.rate + t * direction[0], hyper.penalties + t * direction[1:]) for t in (h, -h))
    return float(found), float((loss(up) - loss(down)) / (2 * h))


def draw(seen: list[Hyper], losses: list[float], inked: np.ndarray, path: Path) -> bool:
    """Write the losses, and the penalty of each pixel at the end; False without matplotlib."""
    try:
        import matplotlib as mpl
    except ImportError:
        return False
    mpl.use("Agg")  # needs no screen
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
    left.plot(losses, marker=".", label="loss of cross-validation")
    left.plot([np.exp(hyper.rate) for hyper in seen], marker=".", label="learning rate")
    left.set(xlabel="iteration", yscale="log")
    left.legend()
    left.grid(alpha=0.3)
    pixels = np.full(SIDE * SIDE, np.nan)
    pixels[inked] = seen[-1].penalties / np.log(10)
    image = right.imshow(pixels.reshape(SIDE, SIDE), cmap="viridis")
    right.set(title="log10 of each pixel's penalty", xticks=[], yticks=[])
    figure.colorbar(image, ax=right)
    figure.savefig(path, dpi=150)
    return True


def cluster_client(args: argparse.Namespace) -> AbstractContextManager:
    """Where the tasks run: a client, or nothing for the threads of this process."""
    if args.cluster is None and args.address is None:
        return nullcontext()
    from distributed import Client

    if args.address is not None:
        return Client(args.address)
    return Client(
        n_workers=args.cluster, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0"
    )


def main() -> int:
    """Check the gradient, tune, and test on other digits; 0 if it is right and the loss has fallen."""
    args = options()
    x, y, x_test, y_test, inked = data(args.digits)
    folds = split(x, y, args.folds)
    start = Hyper(float(np.log(0.02)), np.full(x.shape[1] - 1, np.log(0.01)))

    def loss(hyper: Hyper) -> float:
        return objective(hyper, folds, args.steps)

    def test(hyper: Hyper) -> tuple[float, float]:
        weights = train(hyper, x, y, args.steps)
        right = np.argmax(x_test @ weights, axis=1) == y_test
        return float(cross_entropy(weights, x_test, y_test)), float(np.mean(right))

    with cluster_client(args) as client, pdl.executor(client or "threads"):
        found, expected = slopes(loss, start)
        began = perf_counter()
        best, seen, losses = tune(start, loss, args.iterations, rate=0.3)
        seconds = (perf_counter() - began) / len(losses)

    error = abs(found - expected) / abs(expected)
    before, after = test(start), test(best)
    print(f"{len(start.penalties) + 1} hyperparameters, {args.folds} folds, {args.steps} steps of training: "
          f"{seconds:.2f} s for a loss and its gradient")  # fmt: skip
    print(f"slope in a random direction: {found:.9f}, by a difference quotient {expected:.9f}")
    print(f"relative error: {error:.2e} (allowed: {ALLOWED_ERROR:.0e})")
    print(f"loss of cross-validation: {losses[0]:.4f} before, {min(losses):.4f} after")
    print(f"on {len(y_test)} other digits: loss {before[0]:.4f} before, {after[0]:.4f} after; "
          f"accuracy {before[1]:.3f} before, {after[1]:.3f} after")  # fmt: skip
    drawn = draw(seen, losses, inked, args.picture)
    print(f"losses and penalties: {args.picture}" if drawn else "no picture: matplotlib is not installed")
    return 0 if error < ALLOWED_ERROR and min(losses) < losses[0] and after[0] < before[0] else 1


if __name__ == "__main__":
    sys.exit(main())
