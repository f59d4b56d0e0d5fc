"""Forward mode through a long program: Newton's method with an LU factorisation and a line search.

A receiver measures its distances to two beacons, a million times while it goes round, and each time improves
its position by a step of Newton's method: factor the Jacobian, solve two triangular systems, halve the step
until the residual falls.  How does the position depend on where the second beacon is thought to be?  Forward
mode carries this derivative along and keeps nothing else: memory does not grow with the number of steps.

Receivers on several circles are tasks: on the threads of this process, on worker processes of this machine
(``--cluster 2 --receivers 2``), or on a cluster that runs already (``--address tcp://...``).
"""

from __future__ import annotations

import argparse
import math
import sys
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np
import psutil

import paradual as pdl

BASE = 10.0  # the beacons are at (0, 0) and (BASE, 0)
REST = 20  # readings at the end during which the receiver stands still
ALLOWED_ERROR, ALLOWED_GROWTH = 1e-12, 10.0  # relative; MB

# --- the program: ordinary code, on numbers -----------------------------------------------------------------


def readings(k: int, steps: int, radius: float) -> tuple[float, float]:
    """The squares of the distances that a receiver on a circle measures at step k."""
    angle = 1e-3 * min(k, steps - REST)
    x, y = 4.0 + radius * math.cos(angle), 6.0 + radius * math.sin(angle)
    return x**2 + y**2, (x - BASE) ** 2 + y**2


def lu_solve(a: float, b: float, c: float, d: float, r: float, s: float) -> tuple[float, float]:
    """Solve [[a, b], [c, d]] (u, v) = (r, s): LU with partial pivoting, then two triangular systems."""
    if c * c > a * a:
        a, b, c, d, r, s = c, d, a, b, s, r
    low = c / a  # [[a, b], [c, d]] = [[1, 0], [low, 1]] [[a, b], [0, pivot]]
    pivot = d - low * b
    v = (s - low * r) / pivot
    return (r - b * v) / a, v


def residual(x: float, y: float, base: float, near: float, far: float) -> tuple[float, float]:
    """By how much the squared distances of a position differ from those that were measured."""
    w, yy = x - base, y * y
    return x * x + yy - near, w * w + yy - far


def track(radius: float, steps: int, early: int, base: float) -> tuple[float, float, int, float, float]:
    """The last position of a receiver that takes the second beacon to be at (base, 0).

    Then how often the line search halved a step, and the largest memory of this process, in MB, until the
    step ``early`` and until the end.
    """
    x, y, halved, before, memory = 0.7, 1.2, 0, 0.0, 0.0
    process = psutil.Process()
    for k in range(steps):
        near, far = readings(k, steps, radius)
        r, s = residual(x, y, base, near, far)
        dx, dy = lu_solve(2.0 * x, 2.0 * y, 2.0 * (x - base), 2.0 * y, r, s)
        size, length = r * r + s * s, 1.0
        while True:
            p, q = x - length * dx, y - length * dy
            r, s = residual(p, q, base, near, far)
            if r * r + s * s <= size or size < 1e-20 or length < 1e-3:
                break
            length, halved = 0.5 * length, halved + 1
        x, y = p, q
        if k % 1000 == 0 or k == steps - 1:
            memory = max(memory, process.memory_info().rss / 1e6)
            before = memory if k <= early else before
    return x, y, halved, before, memory


# --- what it should give ------------------------------------------------------------------------------------


def implicit(radius: float, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Position and derivative from the two equations alone, by the implicit function theorem."""
    near, far = readings(steps, steps, radius)
    x = (near - far + BASE**2) / (2.0 * BASE)
    position = np.array([x, math.sqrt(near - x**2)])
    by_position = np.array([2.0 * position, 2.0 * (position - [BASE, 0.0])])
    by_base = np.array([0.0, -2.0 * (x - BASE)])
    return position, -np.linalg.solve(by_position, by_base)


# --- to run it ----------------------------------------------------------------------------------------------


def options() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description="Differentiate a million steps of Newton's method, forward.")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--cluster", type=int, metavar="N", help="start N worker processes on this machine")
    where.add_argument("--address", metavar="tcp://...", help="join a running cluster")
    parser.add_argument("--receivers", type=int, default=1, help="1 to 20 (default: %(default)s)")
    parser.add_argument(
        "--steps", type=int, default=1_000_000, help="of each receiver, at least 1000 (default: %(default)s)"
    )
    parser.add_argument("--picture", type=Path, metavar="FILE", help="write the positions and derivatives")
    args = parser.parse_args()
    if not 1 <= args.receivers <= 20 or args.steps < 1000:
        parser.error("--receivers must be from 1 to 20, and --steps at least 1000")
    return args


def picture(positions: np.ndarray, slopes: np.ndarray, path: Path) -> None:
    """Write where the receivers are at the end, and how that moves with the second beacon."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 5), layout="constrained")
    axes = figure.subplots()
    axes.plot([0.0, BASE], [0.0, 0.0], "k^", label="beacons")
    axes.plot(*positions.T, "o", label="receivers")
    axes.quiver(*positions.T, *slopes.T, angles="xy", width=0.004)
    axes.set(
        xlabel="x",
        ylabel="y",
        aspect="equal",
        title="Arrows: the derivative by the place of the right beacon",
    )
    axes.legend()
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
    """Differentiate, compare with the implicit function theorem, look at memory; 0 if all is well."""
    args = options()
    radii, early, short = [2.0 + 0.1 * n for n in range(args.receivers)], args.steps // 10, 1000

    def program(base: float) -> list[tuple[float, float, int, float, float]]:
        return pdl.map(partial(track, steps=args.steps, early=early, base=base), radii)

    with cluster_client(args) as client, pdl.executor(client or "threads"):
        began = perf_counter()
        found, tangents = pdl.jvp(program, (BASE,), (1.0,))
        seconds = perf_counter() - began
    with pdl.profile() as profile:  # reverse mode, of a short run: it keeps what every operation did
        pdl.grad(lambda base: track(radii[0], short, 0, base)[0])(BASE)

    positions, slopes = np.array([f[:2] for f in found]), np.array([t[:2] for t in tangents])
    exact = np.array([implicit(radius, args.steps) for radius in radii])
    off = np.max(np.abs(positions - exact[:, 0]))
    error = np.max(np.abs(slopes - exact[:, 1])) / np.max(np.abs(exact[:, 1]))
    growth = max(f[4] - f[3] for f in found)
    print(f"{args.receivers} x {args.steps:,} steps: {seconds:.1f} s, {sum(f[2] for f in found)} halved")
    print(f"position ({positions[0, 0]:.12f}, {positions[0, 1]:.12f}), off by {off:.1e}")
    print(f"its derivative by the second beacon's place: ({slopes[0, 0]:.12f}, {slopes[0, 1]:.12f})")
    print(f"relative error against the implicit function theorem: {error:.1e} (allowed: {ALLOWED_ERROR:.0e})")
    print(f"peak memory: {found[0][3]:.1f} MB in {early:,} steps, {found[0][4]:.1f} MB at the end; "
          f"growth {growth:.1f} MB (allowed: {ALLOWED_GROWTH:.0f})")  # fmt: skip
    print(
        f"reverse mode would keep {profile.tape_bytes / short * args.steps / 1e6:,.0f} MB of tape a receiver"
    )
    if args.picture:
        picture(positions, slopes, args.picture)
    return 0 if max(off, error) < ALLOWED_ERROR and growth < ALLOWED_GROWTH else 1


if __name__ == "__main__":
    sys.exit(main())
