"""The calls of `cases` for a device: their points, and what they have captured, are moved there."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import numpy as np
from case_table import Case

# What the stand-in computes and paradual refuses: a list or number that NumPy's function makes an array of,
# which would lie on the host, and sums of weights.
REFUSED = """
    diff-ends diff-active-number ediff1d-ends stack-numbers vstack-0d hstack-0d dstack-0d append-number
    kron-number average-list interp-lists interp-one-knot gradient-only-points convolve-list
    convolve-list-left convolve-number correlate-list correlate-list-left piecewise-callables
    piecewise-otherwise piecewise-overlap piecewise-one-condition piecewise-nowhere piecewise-complex
    linspace-integers linspace-only-stop logspace-integers logspace-only-stop logspace-bases
    logspace-bases-axis pad-ramp pad-ramp-ends pad-active-values polyval-number polyval-only-coefficients
    polyadd-number polyadd-list polysub-number polysub-list polymul-number polymul-list
    polymul-leading-zeros polymul-zero
    histogram-weights histogram-weights-edges histogram-weights-complex histogram-data-and-weights
    histogram2d-weights histogramdd-weights histogram-weights-density histogram-weights-edges-density
    histogram-weights-complex-density histogram-data-and-weights-density histogram2d-weights-density
    histogramdd-weights-density
"""
REFUSED_HERE = {f"np.{name}" for name in REFUSED.split()}
# whose results are Python numbers spread out, which belong to no device
OF_NUMBERS = {"np.broadcast_arrays-three", "np.average-returned-keepdims", "np.meshgrid-numbers"}
OF_NUMBERS |= {"np.meshgrid-constant"}


def on_device(value: Any, move: Callable[[Any], Any], seen: dict[int, Any] | None = None) -> Any:
    """A value with every host array in it moved; of a function, what it captured and its globals."""
    seen = {} if seen is None else seen
    if id(value) in seen:
        return seen[id(value)]
    if type(value) is np.ndarray:
        return move(value)
    if type(value) in (list, tuple):
        return type(value)(on_device(part, move, seen) for part in value)
    if type(value) is dict:
        return {name: on_device(part, move, seen) for name, part in value.items()}
    if type(value) is types.FunctionType and value.__module__.startswith(("cases", "case_table", "test_")):
        return _function(value, move, seen)
    return value


def _function(f: Any, move: Any, seen: dict[int, Any]) -> Any:
    cells = tuple(types.CellType() for _ in f.__closure__ or ())
    names = f.__code__.co_names
    used = {name: f.__globals__[name] for name in names if type(f.__globals__.get(name)) is np.ndarray}
    space = f.__globals__ | {name: move(array) for name, array in used.items()}
    new = types.FunctionType(f.__code__, space, f.__name__, f.__defaults__, cells or None)
    new.__kwdefaults__ = f.__kwdefaults__
    seen[id(f)] = new
    for cell, old in zip(cells, f.__closure__ or (), strict=True):
        cell.cell_contents = on_device(old.cell_contents, move, seen)
    if f.__defaults__:
        new.__defaults__ = on_device(f.__defaults__, move, seen)
    return new


def moved(case: Case, move: Callable[[Any], Any]) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """The function of a case and its points, on a device."""
    return on_device(case.fn, move), on_device(case.args, move)
