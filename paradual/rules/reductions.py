"""Reductions, cumulative sums and differences, and statistics."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from paradual.arrays import cast, dispatch, is_complex, shape_of
from paradual.errors import NotDifferentiableError
from paradual.rules.registry import composed, elementwise, general, linear

Axis = Any  # None, an int or a tuple of ints


def _axes(axis: Axis, ndim: int) -> tuple[int, ...]:
    if axis is None:
        return tuple(range(ndim))
    return tuple(a % ndim for a in (axis if isinstance(axis, tuple | list) else (axis,)))


def _count(shape: Any, axis: Axis) -> int:
    return math.prod(shape[a] for a in _axes(axis, len(shape)))


def in_dtype(a: Any, dtype: Any) -> Any:
    """An array in the dtype that a function was told to compute in, if it was."""
    return a if dtype is None or dtype is np._NoValue else cast(a, np.dtype(dtype))  # type: ignore[attr-defined]


def expand(g: Any, shape: Any, axis: Axis, keepdims: Any) -> Any:
    """Put the reduced axes back, with length 1, so that a cotangent broadcasts over the operand."""
    if keepdims is True or not shape:
        return g
    axes = _axes(axis, len(shape))
    return np.reshape(g, tuple(1 if k in axes else n for k, n in enumerate(shape)))


def _unsum(g: Any, a_shape: Any, axis: Axis = None, keepdims: Any = False) -> Any:
    return np.broadcast_to(expand(g, a_shape, axis, keepdims), a_shape)


linear(np.sum, _unsum)
linear(
    np.mean,
    lambda g, a_shape, axis=None, keepdims=False: _unsum(g / _count(a_shape, axis), a_shape, axis, keepdims),
)


def _uncumsum(g: Any, a_shape: Any, axis: Any = None) -> Any:
    if axis is None:
        return np.reshape(np.flip(np.cumsum(np.flip(g))), a_shape)
    return np.flip(np.cumsum(np.flip(g, axis), axis=axis), axis)


linear(np.cumsum, _uncumsum)

# --- extrema: ties share evenly --------------------------------------------------------------------


def _shares(a: Any, out: Any, axis: Axis, keepdims: Any) -> Any:
    ties = (a == expand(out, shape_of(a), axis, keepdims)) | np.isnan(a)  # one nan makes the result nan
    return ties / np.maximum(np.sum(ties, axis=_axes(axis, ties.ndim), keepdims=True), 1)


def _extremum_pull(g: Any, a: Any, out: Any, axis: Axis = None, keepdims: Any = False) -> Any:
    return expand(g, shape_of(a), axis, keepdims) * _shares(a, out, axis, keepdims)


def _extremum_push(t: Any, a: Any, out: Any, axis: Axis = None, keepdims: Any = False) -> Any:
    return np.sum(t * _shares(a, out, axis, keepdims), axis=axis, keepdims=keepdims is True)


for _f in (np.max, np.min, np.amax, np.amin):
    general(_f, _extremum_pull, _extremum_push)
composed(
    np.ptp,
    lambda a, axis=None, out=None, keepdims=False: (
        np.max(a, axis=axis, keepdims=keepdims) - np.min(a, axis=axis, keepdims=keepdims)
    ),
)

# --- products ----------------------------------------------------------------------------------------


def _others(a: Any, axis: Axis) -> Any:
    """For each element the product of the others along the axes: right with any number of zeros."""
    axes = _axes(axis, a.ndim)
    kept = [k for k in range(a.ndim) if k not in axes]
    rows = np.transpose(a, [*kept, *axes])
    shape = rows.shape
    rows = np.reshape(rows, (*shape[: len(kept)], _count(a.shape, axis)))
    one = np.ones_like(rows[..., :1])
    before = np.cumprod(np.concatenate([one, rows[..., :-1]], axis=-1), axis=-1)
    after = np.flip(np.cumprod(np.concatenate([one, np.flip(rows[..., 1:], -1)], axis=-1), axis=-1), -1)
    return np.transpose(np.reshape(before * after, shape), np.argsort([*kept, *axes]))


def _prod_pull(g: Any, a: Any, axis: Axis = None, keepdims: Any = False) -> Any:
    if a.size == 0:
        return np.zeros_like(a)
    return expand(g, a.shape, axis, keepdims) * _others(a, axis)


def _prod_push(t: Any, a: Any, axis: Axis = None, keepdims: Any = False) -> Any:
    if a.size == 0:
        return np.sum(t, axis=axis, keepdims=keepdims is True)
    return np.sum(t * _others(a, axis), axis=axis, keepdims=keepdims is True)


general(np.prod, _prod_pull, _prod_push)


def _cumprod(a: Any, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
    """Products of prefixes, one multiplication a step: exact derivatives whatever is zero."""
    a = in_dtype(a, dtype)
    if axis is None:
        a, axis = np.ravel(a), 0
    a = np.moveaxis(a, axis, 0)
    if a.shape[0] == 0:
        return np.moveaxis(a, 0, axis)
    parts = [a[0]]
    for k in range(1, a.shape[0]):
        parts.append(parts[-1] * a[k])
    return np.moveaxis(np.stack(parts), 0, axis)


composed(np.cumprod, _cumprod)
if hasattr(np, "cumulative_sum"):

    def _cumulative(f: Any, first: float) -> Any:
        def definition(
            x: Any, /, *, axis: Any = None, dtype: Any = None, out: Any = None, include_initial: bool = False
        ) -> Any:
            if axis is None:
                if x.ndim > 1:
                    raise ValueError(
                        "For arrays which have more than one dimension ``axis`` argument is required."
                    )
                axis = 0
            y = f(in_dtype(x, dtype), axis=axis)
            if not include_initial:
                return y
            shape = tuple(1 if k == axis % y.ndim else n for k, n in enumerate(y.shape))
            return np.concatenate([np.zeros_like(y, shape=shape) + first, y], axis=axis)

        return definition

    composed(np.cumulative_sum, _cumulative(np.cumsum, 0.0))
    composed(np.cumulative_prod, _cumulative(np.cumprod, 1.0))

# --- spread --------------------------------------------------------------------------------------------


def _var(
    a: Any,
    axis: Axis = None,
    dtype: Any = None,
    out: Any = None,
    ddof: float = 0,
    keepdims: Any = False,
    *,
    where: Any = True,
    mean: Any = None,
    correction: Any = None,
) -> Any:
    if where is not True:
        raise NotDifferentiableError("np.var and np.std with where=: select the elements first")
    if correction is not None and correction is not np._NoValue:
        ddof = correction
    a = in_dtype(a, dtype)
    if mean is None or mean is np._NoValue:
        mean = np.mean(a, axis=axis, keepdims=True)
    deviation = a - mean
    square = (deviation * np.conjugate(deviation)).real if is_complex(a) else deviation * deviation
    total = np.sum(square, axis=axis, keepdims=keepdims is True)
    return total / (_count(a.shape, axis) - ddof)


composed(np.var, _var)


def root(x: Any) -> Any:
    """The square root of a sum of squares, whose slope at 0 is 0: norm and std have their minimum there.

    The slope jumps at 0, so that second derivatives there come out as NaN, and not as a number.
    """
    out = dispatch(root, [x], (x,))
    return np.sqrt(x) if out is NotImplemented else out


def half_over(x: Any) -> Any:
    """``0.5 / x``, and 0 at 0: the slope of `root` where it has the value x."""
    out = dispatch(half_over, [x], (x,))
    return np.where(x == 0, 0.0, 0.5 / x)[()] if out is NotImplemented else out


elementwise(root, lambda out: half_over(out))
elementwise(half_over, lambda x: -0.5 / (x * x))
composed(np.std, lambda a, *args, **kwargs: root(_var(a, *args, **kwargs)))


def _average(
    a: Any, axis: Axis = None, weights: Any = None, returned: bool = False, *, keepdims: Any = False
) -> Any:
    keep = keepdims is True
    if weights is None:
        out = np.mean(a, axis=axis, keepdims=keep)
        scale = np.ones_like(out) * _count(shape_of(a), axis)
    else:
        if shape_of(weights) != shape_of(a):
            axes = _axes(axis, len(shape_of(a)))
            order = np.argsort(axes)
            weights = np.transpose(weights, order) if len(axes) > 1 else weights
            weights = expand_weights(weights, shape_of(a), axes)
        scale = np.sum(weights * np.ones_like(a), axis=axis, keepdims=keep)
        out = np.sum(a * weights, axis=axis, keepdims=keep) / scale
    return (out, scale) if returned else out


def expand_weights(weights: Any, shape: Any, axes: tuple[int, ...]) -> Any:
    """Give weights along some axes the number of dimensions of the array that they weigh."""
    return np.reshape(weights, tuple(n if k in axes else 1 for k, n in enumerate(shape)))


composed(np.average, _average)

# --- differences ---------------------------------------------------------------------------------------


def _diff(a: Any, n: int = 1, axis: int = -1, prepend: Any = None, append: Any = None) -> Any:
    parts = []
    for extra, before in ((prepend, True), (append, False)):
        if extra is not None and extra is not np._NoValue:
            shape = list(a.shape)
            if np.ndim(extra) == 0:
                shape[axis] = 1
                extra = np.broadcast_to(extra, tuple(shape))
            parts.append((extra, before))
    for extra, before in parts:
        a = np.concatenate([extra, a] if before else [a, extra], axis=axis)
    lead = (slice(None),) * (axis % a.ndim)
    for _ in range(n):
        a = a[(*lead, slice(1, None))] - a[(*lead, slice(None, -1))]
    return a


composed(np.diff, _diff)
composed(
    np.ediff1d,
    lambda ary, to_end=None, to_begin=None: np.concatenate(
        [
            *([] if to_begin is None else [np.ravel(to_begin).astype(ary.dtype)]),
            _diff(np.ravel(ary)),
            *([] if to_end is None else [np.ravel(to_end).astype(ary.dtype)]),
        ]
    ),
)


def _trapezoid(y: Any, x: Any = None, dx: float = 1.0, axis: int = -1) -> Any:
    lead = (slice(None),) * (axis % y.ndim)
    ends = y[(*lead, slice(1, None))] + y[(*lead, slice(None, -1))]
    if x is None:
        return np.sum(ends * (dx / 2), axis=axis)
    width = _diff(x) if len(shape_of(x)) == 1 else _diff(x, axis=axis)
    if len(shape_of(x)) == 1:
        width = np.reshape(width, [-1 if k == axis % y.ndim else 1 for k in range(y.ndim)])
    return np.sum(ends * width / 2, axis=axis)


composed(np.trapezoid, _trapezoid)
