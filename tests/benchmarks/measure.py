"""Timing side by side, memory at its peak, and the check that comes before both."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, field
from math import ceil
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

OURS, HAND = "paradual", "by hand"


class WrongGradientError(Exception):
    """A system's gradient is not the one written by hand: its time would mean nothing."""


@dataclass
class Bar:
    """What a value of paradual, or its ratio to another system's, must not exceed (or fall short of)."""

    limit: float
    against: str | None = None
    aim: float | None = None
    least: bool = False

    def reached(self, values: dict[str, float]) -> float | None:
        """The number that is held against the limit; None if the other system is missing."""
        if self.against is None:
            return values[OURS]
        return values[OURS] / values[self.against] if self.against in values else None

    def __str__(self) -> str:
        what = f"/{self.against} " if self.against else ""
        aim = f" (aim {self.aim:.3g})" if self.aim else ""
        return f"{what}{'>=' if self.least else '<='} {self.limit:.3g}{aim}"


@dataclass
class Line:
    """One line of the table: the same quantity for every system."""

    row: str
    quantity: str
    values: dict[str, float]
    bars: list[Bar] = field(default_factory=list)
    compile_s: float | None = None
    missing: dict[str, str] = field(default_factory=dict)  # why a system is not in the values


def check(row: str, system: str, found: Any, expected: Any, rtol: float = 1e-9) -> None:
    """Compare a gradient with the one written by hand.

    Parameters
    ----------
    row, system : str
        Whose gradient it is.
    found, expected : sequence of array
        One array for each argument.
    rtol : float
        The largest error that passes, relative to the largest element of the argument's gradient.

    Raises
    ------
    WrongGradientError
        If they differ.
    """
    if len(found) != len(expected):
        raise WrongGradientError(f"{row}: {system} has {len(found)} gradients, not {len(expected)}")
    for k, (a, b) in enumerate(zip(found, expected, strict=True)):
        a, b = np.asarray(a), np.asarray(b)
        if a.shape != b.shape or not np.all(np.isfinite(b)):
            raise WrongGradientError(f"{row}: argument {k} of {system}: shape {a.shape}, not {b.shape}")
        error = np.max(np.abs(a - b)) / max(float(np.max(np.abs(b))), 1e-300)
        if not error <= rtol:
            raise WrongGradientError(f"{row}: argument {k} of {system} is wrong by {error:.2e}")


def interleaved(
    calls: dict[str, Callable[[], Any]],
    repeats: int,
    statistic: str = "minimum",
    at_least: float = 0.02,
    at_most: float = 40.0,
) -> dict[str, float]:
    """Time several systems in turns, A B C A B C, so that a slow spell of the machine meets all.

    Parameters
    ----------
    calls : dict
        ``{system: what to time}``.
    repeats : int
        How many rounds; fewer, but three at least, if they would take longer than ``at_most``.
    statistic : str
        ``"minimum"`` or ``"median"`` of the rounds.
    at_least : float
        Seconds for which a system runs in each round: short calls are repeated.
    at_most : float
        Seconds for all rounds together.

    Returns
    -------
    dict
        ``{system: seconds a call}``.
    """
    numbers = {}
    for system, call in calls.items():
        call()  # warm-up
        start = perf_counter()
        call()
        numbers[system] = max(1, ceil(at_least / max(perf_counter() - start, 1e-9)))
    rounds: dict[str, list[float]] = {system: [] for system in calls}
    began = perf_counter()
    for done in range(repeats):
        if done >= 3 and (perf_counter() - began) * (done + 1) / done > at_most:
            break
        for system, call in calls.items():
            gc.collect()  # what the system before left behind is not this one's cost
            start = perf_counter()
            for _ in range(numbers[system]):
                call()
            rounds[system].append((perf_counter() - start) / numbers[system])
    best = min if statistic == "minimum" else median
    return {system: best(times) for system, times in rounds.items()}


def peak_memory(call: Callable[[], Any]) -> int:
    """The bytes that Python and NumPy hold at most during a call, beyond what they held before."""
    call()  # caches are not the call's own
    gc.collect()
    tracemalloc.start()
    try:
        result = call()
        peak = tracemalloc.get_traced_memory()[1]
        del result
    finally:
        tracemalloc.stop()
    return peak
