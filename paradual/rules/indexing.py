"""Taking elements by index, choosing between arrays, and sorting (an index in disguise)."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from paradual.arrays import Item, Scatter, cast, gain, item, look, put, scatter_sum, shape_of
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


linear(put, lambda g, where: put(g, 0, where), _unput, arrays="base value", masks=True)
linear(gain, lambda g: g, lambda g, where: look(g, where), arrays="base value")

linear(
    np.where,
    lambda g, condition: np.where(condition, g, 0),
    lambda g, condition: np.where(condition, 0, g),
    arrays="x y",
    names="condition x y",
    masks=True,
)


def _select(condlist: Any, choicelist: Any, default: Any = 0) -> Any:
    out = default
    for condition, choice in zip(reversed(list(condlist)), reversed(list(choicelist)), strict=True):
        out = np.where(condition, choice, out)
    return out


composed(np.select, _select)


def _take(a: Any, indices: Any, axis: Any = None, out: Any = None, mode: str = "raise") -> Any:
    if axis is None:
        a, axis = np.ravel(a), 0
    a = np.reshape(a, (1,)) if a.ndim == 0 else a
    n = a.shape[axis]
    indices = np.asarray(indices)
    indices = indices if indices.size else indices.astype(int)  # an empty list has another dtype
    if mode == "wrap":
        indices = indices % n
    elif mode == "clip":
        indices = np.clip(indices, 0, n - 1)
    return a[(slice(None),) * (axis % a.ndim) + (indices,)]


composed(np.take, _take)


def _take_along_axis(arr: Any, indices: Any, axis: Any = -1) -> Any:
    if axis is None:
        return np.ravel(arr)[indices]
    return arr[along(arr, indices, axis)]


def along(arr: Any, indices: Any, axis: int) -> tuple[Any, ...]:
    """The index that picks elements by their places along an axis, as `np.take_along_axis` does."""
    if not shape_of(arr):
        raise np.exceptions.AxisError(axis, 0)
    if not np.issubdtype(np.asarray(indices).dtype, np.integer):
        raise IndexError("`indices` must be an integer array")
    if len(shape_of(indices)) != len(shape_of(arr)):
        raise ValueError("`indices` and `arr` must have the same number of dimensions")
    grid = list(np.ogrid[tuple(slice(n) for n in shape_of(arr))])  # length 1 in indices: for all
    grid[axis] = indices
    return tuple(grid)


composed(np.take_along_axis, _take_along_axis)


def _sort(a: Any, axis: Any = -1, kind: Any = None, order: Any = None, *, stable: Any = None) -> Any:
    if axis is None:
        a, axis = np.ravel(a), 0
    return _take_along_axis(a, np.argsort(a, axis=axis, kind="stable"), axis)


composed(np.sort, _sort)


def _partition(a: Any, kth: Any, axis: Any = -1, kind: str = "introselect", order: Any = None) -> Any:
    if axis is None:
        a, axis = np.ravel(a), 0
    return _take_along_axis(a, np.argpartition(a, kth, axis=axis), axis)


composed(np.partition, _partition)
composed(np.compress, lambda condition, a, axis=None, out=None: _take(a, np.flatnonzero(condition), axis))
composed(np.extract, lambda condition, arr: np.ravel(arr)[np.flatnonzero(condition)])
composed(
    np.choose,
    lambda a, choices, out=None, mode="raise": _select([a == k for k in range(len(choices))], choices),
)
