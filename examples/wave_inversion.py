"""Full-waveform inversion: the velocity of sound in a plane, from what receivers on a circle record.

Waves are sent from several places (shots), one after the other; each shot is a task. One of them is lost on
purpose, and its term is left out. The time loop keeps a few snapshots only (`paradual.loop`), observations
are taken along the way, and SciPy's L-BFGS fits the velocities to the records by the gradient. It runs on
the threads of this process, on worker processes of this machine (``--cluster 2``), or on a cluster that runs
already (``--address tcp://...``).
"""

from __future__ import annotations

import argparse
import logging
import sys
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import minimize

import paradual as pdl

SPACING, INTERVAL, FREQUENCY = 10.0, 0.002, 18.0  # metres, seconds, hertz
MARGIN = 10  # cells in which waves are damped, so that none comes back from the boundary
ALLOWED_MISMATCH, ALLOWED_ORDER, ALLOWED_MISFIT = 1e-10, 0.05, 0.1


class Survey(NamedTuple):
    """What is the same for all models."""

    steps: int
    sources: np.ndarray  # (shots, 2): row and column
    receivers: tuple[np.ndarray, np.ndarray]  # rows, columns
    damping: np.ndarray
    lost: int


# --- the physics --------------------------------------------------------------------------------------


def step(i: int, state: Any, factor: Any, source: np.ndarray, damping: np.ndarray) -> Any:
    """The pressure after one more interval: a second-order scheme for p_tt = c^2 (p_xx + p_yy) + s."""
    now, before = state
    laplacian = np.zeros_like(now)
    laplacian[1:-1, 1:-1] = (
        now[2:, 1:-1] + now[:-2, 1:-1] + now[1:-1, 2:] + now[1:-1, :-2] - 4 * now[1:-1, 1:-1]
    )
    after = 2 * now - before + factor * laplacian
    phase = (np.pi * FREQUENCY * (i * INTERVAL - 1.2 / FREQUENCY)) ** 2
    after[source[0], source[1]] += (1 - 2 * phase) * np.exp(-phase)  # Ricker's wavelet
    return damping * after, damping * now


def records(velocity: Any, shot: int, survey: Survey, schedule: Any = None) -> Any:
    """What the receivers record of a shot, (steps, receivers); velocities in km/s."""
    factor = (velocity * (1000 * INTERVAL / SPACING)) ** 2
    rest = np.zeros_like(survey.damping), np.zeros_like(survey.damping)
    advance = partial(step, factor=factor, source=survey.sources[shot], damping=survey.damping)
    _, seen = pdl.loop(
        advance, rest, survey.steps, schedule, observe=lambda i, state: state[0][survey.receivers]
    )
    return np.stack(seen)


def term(velocity: Any, shot: int, survey: Survey, data: np.ndarray, snapshots: int) -> Any:
    """The part of the misfit that a shot contributes: this is a task."""
    if shot == survey.lost:
        raise OSError(f"the records of shot {shot} cannot be read")
    schedule = None
    if snapshots:
        from checkpoint_schedules import Revolve

        schedule = Revolve(survey.steps, snapshots)
    return 0.5 * np.sum((records(velocity, shot, survey, schedule) - data) ** 2)


def misfit(velocity: Any, survey: Survey, data: list[np.ndarray], snapshots: int) -> Any:
    """The sum over all shots that come through."""
    tasks = [pdl.submit(term, velocity, k, survey, seen, snapshots) for k, seen in enumerate(data)]
    total = 0.0
    for task in tasks:
        try:
            total = total + task.result()
        except OSError:
            continue  # a lost shot
    return total


# --- the survey ---------------------------------------------------------------------------------------


def survey_of(size: int, steps: int, shots: int, lost: int) -> Survey:
    """Sources and receivers on a circle, within the margin."""
    edge = np.minimum(np.arange(size), np.arange(size)[::-1])
    taper = np.exp(-((0.015 * np.maximum(MARGIN - edge, 0)) ** 2))
    radius, middle = size / 2 - MARGIN - 2, (size - 1) / 2

    def circle(count: int) -> np.ndarray:
        angle = 2 * np.pi * np.arange(count) / count
        return np.rint(middle + radius * np.stack([np.sin(angle), np.cos(angle)], axis=1)).astype(int)

    rows, columns = circle(48).T
    return Survey(steps, circle(shots), (rows, columns), np.outer(taper, taper), lost)


def true_velocity(size: int) -> np.ndarray:
    """2 km/s, with a faster and a slower body."""
    y, x = np.mgrid[:size, :size] / (size - 1)
    fast = np.exp(-(((x - 0.40) ** 2 + (y - 0.42) ** 2) / 0.08**2))
    slow = np.exp(-(((x - 0.62) ** 2 + (y - 0.58) ** 2) / 0.07**2))
    return 2.0 + 0.2 * fast - 0.2 * slow


# --- is it right? -------------------------------------------------------------------------------------


def mismatch(velocity: np.ndarray, survey: Survey) -> float:
    """The inner-product test of one shot's records: <J v, w> against <v, J^T w>, relative."""
    rng = np.random.default_rng(0)
    modelled = partial(records, shot=0, survey=survey)
    v = rng.normal(size=velocity.shape)
    seen, pushed = pdl.jvp(modelled, (velocity,), (v,))
    w = rng.normal(size=seen.shape)
    (pulled,) = pdl.vjp(modelled, velocity)[1](w)
    return float(abs(np.sum(pushed * w) - np.sum(v * pulled)) / abs(np.sum(pushed * w)))


def orders(objective: Any, velocity: np.ndarray, value: float, gradient: np.ndarray) -> list[float]:
    """The order of the remainder of Taylor's series after its first two terms, over four halvings: 2."""
    v = np.random.default_rng(1).normal(size=velocity.shape)
    remainders = [
        abs(objective(velocity + h * v) - value - h * np.sum(gradient * v))
        for h in 2e-4 / 2.0 ** np.arange(5)
    ]
    return [float(order) for order in np.log2(np.divide(remainders[:-1], remainders[1:]))]


def draw(path: Path, models: dict[str, np.ndarray], survey: Survey) -> None:
    """The models, with sources and receivers."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, len(models), figsize=(4 * len(models), 3.6), layout="constrained")
    for panel, (title, model) in zip(panels, models.items(), strict=True):
        picture = panel.imshow(model, vmin=1.8, vmax=2.2, cmap="RdBu_r")
        panel.plot(survey.receivers[1], survey.receivers[0], "k.", markersize=2)
        panel.plot(survey.sources[:, 1], survey.sources[:, 0], "y*", markersize=8)
        panel.set_title(title)
    figure.colorbar(picture, ax=panels, label="km/s")
    figure.savefig(path, dpi=100)


def where(arguments: argparse.Namespace) -> AbstractContextManager[object]:
    """The cluster that was asked for, if any."""
    if not (arguments.cluster or arguments.address):
        return nullcontext()
    from distributed import Client

    if arguments.address:
        return Client(arguments.address)
    logging.getLogger("distributed.worker").setLevel(logging.CRITICAL)  # it reports the lost shot at length
    return Client(
        n_workers=arguments.cluster,
        threads_per_worker=1,
        dashboard_address="127.0.0.1:0",
        silence_logs=logging.CRITICAL,
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=64, help="cells along a side")
    parser.add_argument("--steps", type=int, default=260, help="steps in time")
    parser.add_argument("--shots", type=int, default=8)
    parser.add_argument("--lose", type=int, default=3, help="the shot that is lost; -1 for none")
    parser.add_argument("--iterations", type=int, default=12)
    parser.add_argument("--snapshots", type=int, default=0, help="keep so many, by Revolve; 0: sqrt(steps)")
    parser.add_argument("--cluster", type=int, metavar="N", help="start N worker processes")
    parser.add_argument("--address", help="the scheduler of a cluster that runs already")
    parser.add_argument("--picture", type=Path, help="a file for the models before, after, and true")
    arguments = parser.parse_args()

    survey = survey_of(arguments.size, arguments.steps, arguments.shots, arguments.lose)
    true = true_velocity(arguments.size)
    before = np.full_like(true, 2.0)
    with where(arguments):
        started = perf_counter()
        data = pdl.map(partial(records, true, survey=survey), range(arguments.shots))
        objective = partial(misfit, survey=survey, data=data, snapshots=arguments.snapshots)
        value, gradient = pdl.value_and_grad(objective)(before)
        differences = mismatch(before, survey)
        found_orders = orders(objective, before, value, gradient)

        def of_vector(x: np.ndarray) -> tuple[float, np.ndarray]:
            value, gradient = pdl.value_and_grad(objective)(x.reshape(true.shape))
            return float(value), gradient.ravel()

        fit = minimize(
            of_vector, before.ravel(), jac=True, method="L-BFGS-B", bounds=[(1.6, 2.4)] * true.size,
            options={"maxiter": arguments.iterations},
        )  # fmt: skip
    after = fit.x.reshape(true.shape)
    error = [float(np.linalg.norm(model - true) / np.linalg.norm(before - true)) for model in (before, after)]
    print(f"shots: {arguments.shots}, {int(0 <= arguments.lose < arguments.shots)} of them lost")
    print(f"inner-product test: {differences:.1e} (relative)")
    print("order of Taylor's remainder: " + ", ".join(f"{order:.3f}" for order in found_orders))
    print(
        f"misfit: {float(value)!r} before, {fit.fun!r} after {fit.nit} iterations, "
        f"{fit.fun / value:.1%} of it"
    )
    print(f"error of the model: {error[1]:.2f} of what it was")
    print(f"{fit.nfev} gradients in {perf_counter() - started:.1f} s")
    if arguments.picture:
        draw(arguments.picture, {"before": before, "after": after, "true": true}, survey)
    good = (
        differences < ALLOWED_MISMATCH
        and all(abs(order - 2) < ALLOWED_ORDER for order in found_orders)
        and fit.fun < ALLOWED_MISFIT * value
        and error[1] < 1
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
