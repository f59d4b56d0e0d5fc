"""The row of time loops: memory, time and recomputed steps of `paradual.loop` under its schedules."""

from __future__ import annotations

import gc
import tracemalloc
import warnings
from collections.abc import Callable
from math import comb, isqrt
from typing import Any

import numpy as np

import paradual as pdl
from paradual.sizes import tape_bytes

from .measure import HAND, OURS, Bar, Line, check, interleaved

SNAPSHOTS = 20


class Diffusion:
    """A field that diffuses and reacts; the gradient of its energy with respect to the conductivity."""

    def __init__(self, size: int) -> None:
        x = np.linspace(-1.0, 1.0, size)
        self.start = np.exp(-10.0 * (x[:, None] ** 2 + x[None, :] ** 2))
        self.conductivity = 0.1 + 0.05 * np.cos(3.0 * x)[:, None] * np.ones(size)
        self.calls = 0

    def step(self, c: Any) -> Callable[[int, Any], Any]:
        """The step of the loop, which captures the conductivity."""

        def step(i: int, u: Any) -> Any:
            self.calls += 1
            return u + c * laplacian(u) + 0.001 * np.sin(u)

        return step

    def plain(self, n: int) -> Any:
        """The gradient that keeps every residual."""

        def loss(c: Any) -> Any:
            u, step = self.start, self.step(c)
            for i in range(n):
                u = step(i, u)
            return (u * u).sum()

        return pdl.grad(loss)(self.conductivity)

    def looped(self, n: int, schedule: Any = None) -> Any:
        """The gradient with `paradual.loop`."""

        def loss(c: Any) -> Any:
            u = pdl.loop(self.step(c), self.start, n, schedule)
            return (u * u).sum()

        return pdl.grad(loss)(self.conductivity)

    def by_hand(self, n: int) -> Any:
        """The gradient by the adjoint equation, which keeps every state."""
        c, states = self.conductivity, [self.start]
        for _ in range(n):
            u = states[-1]
            states.append(u + c * laplacian(u) + 0.001 * np.sin(u))
        g = 2.0 * states.pop()
        total = np.zeros_like(c)
        while states:
            u = states.pop()
            total += g * laplacian(u)
            g = g + laplacian(c * g) + 0.001 * np.cos(u) * g  # zero beyond the border: symmetric
        return total

    def residuals(self) -> float:
        """What the tape keeps of one step, in fields."""

        def kept(n: int) -> int:
            def program(c: Any) -> Any:
                u, step = self.start, self.step(c)
                for i in range(n):
                    u = step(i, u)
                return u

            return tape_bytes(pdl.vjp(program, self.conductivity)[1].last)

        return (kept(3) - kept(2)) / self.start.nbytes

    def peak(self, n: int, schedule: Any = None) -> tuple[float, Any]:
        """The memory of a gradient at its peak, in fields, and the gradient."""
        gc.collect()
        tracemalloc.start()
        try:
            gradient = self.looped(n, schedule)
            return tracemalloc.get_traced_memory()[1] / self.start.nbytes, gradient
        finally:
            tracemalloc.stop()


def laplacian(u: Any) -> Any:
    """The five-point stencil; the field is zero beyond the border."""
    p = np.pad(u, 1)
    return p[2:, 1:-1] + p[:-2, 1:-1] + p[1:-1, 2:] + p[1:-1, :-2] - 4.0 * u


def revolve_steps(n: int, snapshots: int) -> int:
    """How many steps the best schedule runs: each of the n once and the extra ones of Griewank and Walther.

    With t the smallest number for which (s + t choose s) >= n, a step is run at most t times before the run
    that is reversed, and all together t n - (s + t choose t - 1) times (ACM TOMS 26, 2000, proposition 1).
    """
    t = next(t for t in range(n + 1) if comb(snapshots + t, snapshots) >= n)
    return n + t * n - comb(snapshots + t, t - 1) if n > 1 else 1


def time_loop(systems: list[Any], quick: bool) -> list[Line]:
    """A loop of 10,000 steps on a field of 300 x 300."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that numba is not installed
        from checkpoint_schedules import MultistageCheckpointSchedule
    size, n, fits, repeats = (24, 100, 20, 2) if quick else (300, 10_000, 400, 5)
    program = Diffusion(size)
    expected = (program.by_hand(fits),)
    calls = {
        OURS: lambda: program.looped(fits),
        "revolve": lambda: program.looped(fits, MultistageCheckpointSchedule(fits, SNAPSHOTS // 2, 0)),
        "every residual": lambda: program.plain(fits),
        HAND: lambda: program.by_hand(fits),
    }
    for name, call in calls.items():
        check("loop", name, (np.asarray(call()),), expected)
    times = interleaved(calls, repeats, at_most=120.0)
    ratio = {OURS: times[OURS] / times["every residual"], HAND: times[HAND] / times["every residual"]}
    every = isqrt(n - 1) + 1
    one = program.residuals()
    lines = [
        Line("loop", f"time / keeping every residual, {fits} steps", ratio, [Bar(1.8)]),
        Line("loop", "ms a step, default", {OURS: 1e3 * times[OURS] / fits, HAND: 1e3 * times[HAND] / fits}),
    ]
    peak, whole = program.peak(n)
    bar = 1.1 * every * (1 + one)
    lines.append(Line("loop", f"peak, fields, {n:,} steps, default", {OURS: peak}, [Bar(bar)]))
    program.calls = 0
    peak, again = program.peak(n, MultistageCheckpointSchedule(n, SNAPSHOTS, 0))
    check("loop", "revolve", (again,), (whole,), 1e-11)
    bar = 1.1 * (SNAPSHOTS + one) + 5
    lines.append(Line("loop", f"peak, fields, {n:,} steps, {SNAPSHOTS} snapshots", {OURS: peak}, [Bar(bar)]))
    counts = {OURS: float(program.calls), HAND: float(revolve_steps(n, SNAPSHOTS))}
    lines.append(Line("loop", "the same: steps run", counts, [Bar(1.0, HAND)]))
    return lines
