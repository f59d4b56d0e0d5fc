"""The calls of `cases` for a device: their points, and what they have captured, are moved there."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import numpy as np
from case_table import Case


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
