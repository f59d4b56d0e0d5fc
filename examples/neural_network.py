"""A neural network, trained data-parallel: each shard of the data is a task that adds to one gradient.

The data are the 1797 handwritten digits of 8 x 8 pixels that come with scikit-learn; the network has one
hidden layer.  The training data are cut into shards, which stay where they were loaded.  A step of training
takes some samples of every shard, each in a task of its own: on the threads of this process, on worker
processes of this machine (``--cluster 2``), or on a cluster that runs already (``--address tcp://...``).
``--device cuda`` computes on a GPU, with CuPy; the program is the same.

The accuracy on held-out digits must be that of scikit-learn's MLPClassifier of the same size and settings.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

import paradual as pdl

RATE, DECAY, PENALTY = 5e-3, (0.9, 0.999), 1e-4  # of Adam; of the squares of the weights
ALLOWED_DIFFERENCE, ALLOWED_ERROR = 0.02, 1e-6  # of the accuracies; of the gradient
Array = Any  # of NumPy or CuPy

# --- the program: parameters are [weights, biases, weights, biases] -----------------------------------------


def on_device(x: np.ndarray, device: str) -> Array:
    """The same array for NumPy or CuPy."""
    if device == "cpu":
        return x
    import cupy

    return cupy.asarray(x)


def load(x: np.ndarray, labels: np.ndarray, device: str) -> tuple[Array, Array]:
    """A shard: samples, and for each label a row with a 1 in its place; a worker keeps what it has loaded."""
    return on_device(x, device), on_device(np.eye(10)[labels], device)


def scores(parameters: list[Array], x: Array) -> Array:
    """A number for each sample and digit; the largest is the answer."""
    hidden_weights, hidden_biases, weights, biases = parameters
    return np.maximum(x @ hidden_weights + hidden_biases, 0.0) @ weights + biases


def shard_loss(shard: tuple[Array, Array], rows: np.ndarray, parameters: list[Array]) -> Array:
    """The cross entropy, summed over some samples of a shard."""
    x, one_hot = shard
    rows = np.asarray(rows, like=x)
    z = scores(parameters, x[rows])
    z = z - np.max(z, axis=1, keepdims=True)
    return np.sum(np.log(np.sum(np.exp(z), axis=1))) - np.sum(z * one_hot[rows])


def loss(parameters: list[Array], shards: list[pdl.Task], batch: list[np.ndarray]) -> Array:
    """The mean over a batch, a task for each shard, and the penalty that MLPClassifier has."""
    parts = pdl.map(lambda shard, rows: shard_loss(shard, rows, parameters), shards, batch)
    penalty = 0.5 * PENALTY * sum(np.sum(w**2) for w in parameters[::2])
    return (sum(parts) + penalty) / sum(len(rows) for rows in batch)


def adam(p: list[Array], g: list[Array], m: list[Array], v: list[Array], n: int) -> tuple:
    """Parameters and moments after step n = 1, 2, ... (Kingma and Ba, ICLR 2015, algorithm 1)."""
    first, second = DECAY
    m = [first * a + (1 - first) * b for a, b in zip(m, g, strict=True)]
    v = [second * a + (1 - second) * b * b for a, b in zip(v, g, strict=True)]
    rate = RATE * (1 - second**n) ** 0.5 / (1 - first**n)
    return [a - rate * b / (c**0.5 + 1e-8) for a, b, c in zip(p, m, v, strict=True)], m, v


def train(
    parameters: list[Array], shards: list[pdl.Task], batches: Iterable
) -> tuple[list[Array], list[float]]:
    """The parameters after all batches, and the loss of each."""
    m, v, losses = [0.0 * p for p in parameters], [0.0 * p for p in parameters], []
    for batch in batches:
        value, gradient = pdl.value_and_grad(loss)(parameters, shards, batch)
        losses.append(float(value))
        parameters, m, v = adam(parameters, gradient, m, v, len(losses))
    return parameters, losses


def batches(
    sizes: list[int], samples: int, epochs: int, rng: np.random.Generator
) -> Iterator[list[np.ndarray]]:
    """About so many samples, an equal part of each shard; in an epoch each comes once, in random order."""
    pieces = max(1, sum(sizes) // samples)
    for _ in range(epochs):
        orders = [rng.permutation(size) for size in sizes]
        for k in range(pieces):
            yield [order[k::pieces] for order in orders]


# --- to check it --------------------------------------------------------------------------------------------


def gradient_error(parameters: list[Array], shards: list[pdl.Task], batch: list[np.ndarray]) -> float:
    """The square of the gradient against a central difference of the loss along it, relative."""
    g = pdl.grad(loss)(parameters, shards, batch)
    ends = [[p + h * d for p, d in zip(parameters, g, strict=True)] for h in (-1e-5, 1e-5)]
    before, after = (float(loss(end, shards, batch)) for end in ends)
    return abs((after - before) / 2e-5 / sum(float(np.sum(d * d)) for d in g) - 1.0)


# --- to run it ----------------------------------------------------------------------------------------------


def options() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description="Train a network with gradients in shards of the data.")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--cluster", type=int, metavar="N", help="start N worker processes on this machine")
    where.add_argument("--address", metavar="tcp://...", help="join a running cluster")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: %(default)s")
    parser.add_argument("--shards", type=int, default=2, help="of the data (default: %(default)s)")
    parser.add_argument("--hidden", type=int, default=64, help="width of the layer (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=200, help="samples in a step (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=60, help="passes over the data (default: %(default)s)")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="write the loss as a picture")
    args = parser.parse_args()
    if min(args.shards, args.hidden, args.batch, args.epochs) < 1 or args.shards > args.batch:
        parser.error("--hidden and --epochs must be at least 1, --shards from 1 to the samples of --batch")
    return args


def picture(losses: list[float], path: Path) -> None:
    """Write the loss of each step."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.semilogy(losses, linewidth=0.8)
    axes.set(xlabel="step", ylabel="loss of the batch", title="Handwritten digits")
    figure.savefig(path, dpi=150)


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
    """Train, compare with scikit-learn; 0 if the gradient is right and the accuracy as good."""
    args = options()
    rng = np.random.default_rng(0)
    x, labels = load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(x / 16.0, labels, random_state=0, stratify=labels)
    shapes = (64, args.hidden), (args.hidden,), (args.hidden, 10), (10,)
    start = [rng.normal(0.0, np.sqrt(2.0 / n[0]), n) if len(n) == 2 else np.zeros(n) for n in shapes]
    with cluster_client(args) as client, pdl.executor(client or "threads"):
        parts = [np.array_split(a, args.shards) for a in (x_train, y_train)]
        sizes = [len(part) for part in parts[0]]
        shards = [pdl.submit(load, *part, args.device) for part in zip(*parts, strict=True)]
        parameters = [on_device(p, args.device) for p in start]
        error = gradient_error(parameters, shards, next(batches(sizes, args.batch, 1, rng)))
        began = perf_counter()
        parameters, losses = train(parameters, shards, batches(sizes, args.batch, args.epochs, rng))
        seconds = perf_counter() - began

    answers = np.argmax(scores(parameters, on_device(x_test, args.device)), axis=1)
    ours = float(np.mean(answers == on_device(y_test, args.device)))
    theirs = MLPClassifier(
        (args.hidden,), learning_rate_init=RATE, alpha=PENALTY, batch_size=args.batch, random_state=0
    )
    for _ in range(args.epochs):
        theirs.partial_fit(x_train, y_train, classes=np.arange(10))
    reference = theirs.score(x_test, y_test)
    print(
        f"{len(losses)} steps, {args.shards} shards, {args.device}: {1e3 * seconds / len(losses):.1f} ms each"
    )
    print(f"loss of the batch: {losses[0]:.4f} at first, {losses[-1]:.4f} at the end")
    print(f"relative error of the gradient against a difference: {error:.1e} (allowed: {ALLOWED_ERROR:.0e})")
    print(f"held-out accuracy: paradual {ours:.4f}, scikit-learn {reference:.4f} "
          f"(allowed to be less: {ALLOWED_DIFFERENCE})")  # fmt: skip
    if args.picture:
        picture(losses, args.picture)
    return 0 if error < ALLOWED_ERROR and ours > reference - ALLOWED_DIFFERENCE else 1


if __name__ == "__main__":
    sys.exit(main())
