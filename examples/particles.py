"""Damped particles, simulated in parallel: the benchmark of Smeding and Vakar (JFP 35, e16, 2025).

Each particle is pulled to the origin and slowed down, in steps of Euler's method.  The particles are
simulated by a recursion that forks on the halves of their list; the reverse pass joins where the
program forked.  It runs on the threads of this process, on worker processes of this machine
(``--cluster 2``), or on a cluster that runs already (``--address tcp://...``).
"""

from __future__ import annotations

import argparse
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import numpy as np

import paradual as pdl

STEP, MASS, SPRING, FRICTION = 0.05, 1.0, 0.5, 0.2
ALLOWED_ERROR = 1e-12


class Particle(NamedTuple):
    """Where a particle is and how fast it moves, in the plane."""

    position: np.ndarray
    velocity: np.ndarray


# --- the program --------------------------------------------------------------------------------------


def advance(particle: Particle) -> Particle:
    """The particle after one step."""
    p, v = particle
    acceleration = (-SPRING * p - FRICTION * v) / MASS
    return Particle(p + STEP * v, v + STEP * acceleration)


def objective(particles: list[Particle], steps: int) -> float:
    """The sum over all particles of x * y at the end; each half of them is a task."""
    if len(particles) > 1:
        half = len(particles) // 2
        left, right = pdl.par(
            lambda: objective(particles[:half], steps), lambda: objective(particles[half:], steps)
        )
        return left + right
    (particle,) = particles
    for _ in range(steps):
        particle = advance(particle)
    x, y = particle.position
    return x * y


# --- what it should give ------------------------------------------------------------------------------


def closed_form(particles: list[Particle], steps: int) -> tuple[float, list[Particle]]:
    """Objective and gradient without a simulation.

    A step is a matrix, the same for x and y, so the last position is
    ``alpha * position + beta * velocity`` with the first row of its power.
    """
    step = np.array([[1.0, STEP], [-STEP * SPRING / MASS, 1.0 - STEP * FRICTION / MASS]])
    alpha, beta = np.linalg.matrix_power(step, steps)[0]
    ends = [alpha * p + beta * v for p, v in particles]
    value = sum(x * y for x, y in ends)
    return value, [Particle(alpha * end[::-1], beta * end[::-1]) for end in ends]


def relative_error(gradient: list[Particle], expected: list[Particle]) -> float:
    """The largest error, in parts of the largest slope: the motion dies out, and all slopes with it."""
    return float(np.max(np.abs(np.array(gradient) - expected)) / np.max(np.abs(expected)))


# --- to run it ----------------------------------------------------------------------------------------


def options() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(
        description="Differentiate a simulation of particles that forks, and compare with the closed form."
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--cluster", type=int, metavar="N", help="start N worker processes on this machine")
    where.add_argument("--address", metavar="tcp://...", help="join a running cluster")
    parser.add_argument("--particles", type=int, default=8, help="4 to 64 (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=500, help="of Euler's method (default: %(default)s)")
    parser.add_argument(
        "--picture", type=Path, default="particles.png", help="trajectories (default: %(default)s)"
    )
    args = parser.parse_args()
    if not 4 <= args.particles <= 64 or args.steps < 1:
        parser.error("--particles must be from 4 to 64, and --steps at least 1")
    return args


def starts(n: int) -> list[Particle]:
    """The paper's, for any number of particles: in a row, all with the same velocity."""
    return [Particle(np.array([0.5 * i, 0.1]), np.array([1.0, 1.0])) for i in range(1, n + 1)]


def draw(particles: list[Particle], gradient: list[Particle], steps: int, path: Path) -> bool:
    """Write the trajectories, and at each start the slope by position; False without matplotlib."""
    try:
        import matplotlib as mpl
    except ImportError:
        return False
    mpl.use("Agg")  # needs no screen
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 5), layout="constrained")
    for particle in particles:
        track = [particle.position]
        for _ in range(steps):
            particle = advance(particle)
            track.append(particle.position)
        axes.plot(*np.array(track).T, linewidth=0.8)
    axes.quiver(
        *np.array([p for p, _ in particles]).T,
        *np.array([p for p, _ in gradient]).T,
        width=0.003,
        zorder=3,
    )
    axes.set(
        xlabel="x",
        ylabel="y",
        title=f"{len(particles)} particles, {steps} steps; arrows: the gradient by where they start",
    )
    axes.grid(alpha=0.3)
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
    """Differentiate, compare with the closed form, and draw; 0 if they agree."""
    args = options()
    particles = starts(args.particles)
    with cluster_client(args) as client, pdl.executor(client or "threads"):
        began = perf_counter()
        value = objective(particles, args.steps)
        middle = perf_counter()
        found, gradient = pdl.value_and_grad(objective)(particles, args.steps)
        ended = perf_counter()
        with pdl.executor("inline"):
            _, sequential = pdl.value_and_grad(objective)(particles, args.steps)

    expected, slopes = closed_form(particles, args.steps)
    value_error = abs(found - expected) / max(1.0, abs(expected))
    error = relative_error(gradient, slopes)
    differing = int(np.sum(np.array(gradient) != np.array(sequential)))
    print(f"{args.particles} particles, {args.steps} steps: {args.particles - 1} forks")
    print(f"program {1e3 * (middle - began):.0f} ms, with its gradient {1e3 * (ended - middle):.0f} ms")
    print(f"objective: {found:.15g}, closed form {expected:.15g}")
    print(f"gradient of the first particle: by position {gradient[0].position}, "
          f"by velocity {gradient[0].velocity}")  # fmt: skip
    print(f"largest relative error of the gradient: {error:.2e} (allowed: {ALLOWED_ERROR:.0e})")
    print(f"entries that differ from a run without parallelism: {differing} of {np.size(sequential)}")
    drawn = draw(particles, gradient, args.steps, args.picture)
    print(f"trajectories: {args.picture}" if drawn else "no picture: matplotlib is not installed")
    return 0 if value == found and max(value_error, error) < ALLOWED_ERROR and differing == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
