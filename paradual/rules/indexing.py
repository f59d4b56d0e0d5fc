"""Taking elements by index, choosing between arrays, and sorting (an index in disguise)."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np

from paradual.arrays import Item, Region, Scatter, bare, cast, gain, item, look, put, scatter_sum, shape_of
from paradual.locality import as_plain, beside, counting, grid, on_device
from paradual.rules.registry import composed, linear

linear(operator.getitem, lambda g, b: Scatter(b, g))
linear(item, lambda g, index: Item(index, g))
linear(cast, lambda g: g)
if hasattr(np, "astype"):
    composed(np.astype, lambda x, dtype, /, *, copy=True, device=None: x.astype(dtype, copy=copy))

# base + values at indices, in order: what a sum of scatter contributions is to an outer derivative
linear(
    scatter_sum,
    lambda g, shape, dtype: g,
    lambda g, indices: [look(g, index) for index in indices],
    arrays="base values",
)


# Writing in place.  The sweep has a faster way for these two, which writes into the cotangent: see `pull`.
def _unput(g: Any, where: Any, last: Any) -> Any:
    part = look(g, where)
    return part if last is None else np.where(last, part, 0)  # what was overwritten at once was never there


linear(put, lambda g, where, last: put(g, 0, where), _unput, arrays="base value", masks=True)
linear(gain, lambda g, where: g, lambda g, where: look(g, where), arrays="base value")

linear(
    np.where,
    lambda g, condition: np.where(condition, g, 0),
    lambda g, condition: np.where(condition, 0, g),
    arrays="x y",
    names="condition x y",
    masks=True,
)


def _weak(x: Any) -> bool:
    """Whether a value is a Python number, or a dual of one: it has no say in the dtype of a result."""
    return type(bare(x)) in (int, float, complex)


def _first(conditions: list[Any], choices: list[Any], otherwise: Any) -> Any:
    """The first of the choices whose condition is true, in the dtype of all of them together."""
    values = [x if _weak(x) or hasattr(x, "shape") else np.asarray(x) for x in (*choices, otherwise)]
    dtype = np.result_type(*(bare(x) if _weak(x) else x.dtype for x in values))
    out = values.pop()
    for condition in reversed(conditions):
        out = np.where(condition, values.pop(), out)
    return out if out.dtype == dtype else cast(out, dtype)


def _select(condlist: Any, choicelist: Any, default: Any = 0) -> Any:
    conditions, choices = list(condlist), list(choicelist)
    if len(conditions) != len(choices):
        raise ValueError("list of cases must be same length as list of conditions")
    if not conditions:
        raise ValueError("select with an empty condition list is not possible")
    for k, condition in enumerate(conditions):
        dtype = condition.dtype if hasattr(condition, "dtype") else np.asarray(condition).dtype
        if dtype.kind != "b":
            raise TypeError(f"invalid entry {k} in condlist: should be boolean ndarray")
    return _first(conditions, choices, default)


composed(np.select, _select)


def _untake(g: Any, a_shape: Any, indices: Any, axis: Any = None, mode: str = "raise") -> Any:
    shape = a_shape or (1,)
    if on_device(g):  # whose library takes no other mode
        if axis is None:
            return Scatter(Region(((np.reshape, (-1,), {}),), indices), g)
        return Scatter((slice(None),) * (axis % len(shape)) + (indices,), g)
    # NumPy itself reads the indices and the mode
    numbers = np.take(np.arange(math.prod(shape) if axis is None else shape[axis]), indices, mode=mode)
    if axis is None:
        return Scatter(np.unravel_index(numbers, shape), g)
    return Scatter((slice(None),) * (axis % len(shape)) + (numbers,), g)


# not a definition by indexing, whose results are views for one index, and laid out otherwise for several
linear(np.take, _untake)


def _take_along_axis(arr: Any, indices: Any, axis: Any = -1) -> Any:
    if axis is None:
        if np.ndim(indices) != 1:
            raise ValueError("when axis=None, `indices` must have a single dimension.")
        return np.ravel(arr)[indices]
    return arr[along(arr, indices, axis)]


def along(arr: Any, indices: Any, axis: int) -> tuple[Any, ...]:
    """The index that picks elements by their places along an axis, as `np.take_along_axis` does."""
    if not shape_of(arr):
        raise np.exceptions.AxisError(axis, 0)
    if not np.issubdtype(as_plain(indices).dtype, np.integer):
        raise IndexError("`indices` must be an integer array")
    if len(shape_of(indices)) != len(shape_of(arr)):
        raise ValueError("`indices` and `arr` must have the same number of dimensions")
    at = grid(shape_of(arr), arr)  # length 1 in indices: for all
    at[axis] = indices
    return tuple(at)


composed(np.take_along_axis, _take_along_axis)


def _sort(a: Any, axis: Any = -1, kind: Any = None, order: Any = None, *, stable: Any = None) -> Any:
    np.sort(np.empty(0), kind=kind, order=order, stable=stable)  # raises what NumPy raises
    if axis is None:
        a, axis = np.ravel(a), 0
    return _take_along_axis(a, np.argsort(a, axis=axis, kind="stable"), axis)


composed(np.sort, _sort)


def _partition(a: Any, kth: Any, axis: Any = -1, kind: str = "introselect", order: Any = None) -> Any:
    if axis is None:
        a, axis = np.ravel(a), 0
    return _take_along_axis(a, np.argpartition(a, kth, axis=axis), axis)


composed(np.partition, _partition)


def _compress(condition: Any, a: Any, axis: Any = None, out: Any = None) -> Any:
    if np.ndim(condition) != 1:
        raise ValueError("condition must be a 1-d array")
    return np.take(a, beside(np.flatnonzero(condition), a), axis)


composed(np.compress, _compress)
composed(np.extract, lambda condition, arr: np.ravel(arr)[np.flatnonzero(condition)])


def _choose(a: Any, choices: Any, out: Any = None, mode: str = "raise") -> Any:
    choices = list(choices)
    which = np.choose(
        as_plain(a), counting(len(choices), like=a), mode=mode
    )  # NumPy itself reads a and the mode
    return _first([which == k for k in range(len(choices))], choices, choices[-1])


composed(np.choose, _choose)
