"""Reductions, cumulative sums and differences, and statistics."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

from paradual.arrays import cast, dispatch, is_complex, shape_of
from paradual.locality import any_of, on_device
from paradual.rules.registry import composed, constant, elementwise, general, linear, variant

Axis = Any  # None, an int or a tuple of ints


def _axes(axis: Axis, ndim: int) -> tuple[int, ...]:
    if axis is None or ndim == 0:  # a reduction of a number may name axis 0 and -1
        return tuple(range(ndim))
    return normalize_axis_tuple(axis, ndim)


def _count(shape: Any, axis: Axis) -> int:
    return math.prod(shape[a] for a in _axes(axis, len(shape)))


def inverse_order(order: Any) -> list[int]:
    """The permutation that undoes another one."""
    return sorted(range(len(order)), key=order.__getitem__)


def in_dtype(a: Any, dtype: Any) -> Any:
    """An array in the dtype that a function was told to compute in, if it was."""
    return cast(a, np.dtype(dtype)) if is_given(dtype) and a.dtype != dtype else a


def duals_in(x: Any) -> Iterator[Any]:
    """The duals among an argument and, for a list, its elements."""
    if hasattr(x, "place"):
        yield x
    elif isinstance(x, list | tuple):
        for part in x:
            yield from duals_in(part)


def plain(x: Any) -> Any:
    """The value of an argument that only decides between elements, without its derivative."""
    out = dispatch(plain, duals_in(x), (x,))
    return x if out is NotImplemented else out


constant(plain)


def as_array(x: Any) -> Any:
    """An argument that may be a list of numbers."""
    return x if hasattr(x, "shape") else np.asarray(x)


def number(x: Any) -> Any:
    """A result as NumPy returns it: a number, where `np.where` makes an array of no dimensions."""
    return x if shape_of(x) else x[()]


def is_given(option: Any) -> bool:
    """Whether an option was given, and is not NumPy's mark for a default."""
    return option is not None and option is not np._NoValue  # type: ignore[attr-defined]


def is_set(flag: Any) -> bool:
    """Whether a flag such as keepdims was given and is true."""
    return is_given(flag) and bool(flag)


def expand(g: Any, shape: Any, axis: Axis, keepdims: Any) -> Any:
    """Put the reduced axes back, with length 1, so that a cotangent broadcasts over the operand."""
    if keepdims or not shape:
        return g
    axes = _axes(axis, len(shape))
    return np.reshape(g, tuple(1 if k in axes else n for k, n in enumerate(shape)))


def _unsum(g: Any, a_shape: Any, axis: Axis = None, keepdims: Any = False) -> Any:
    return np.broadcast_to(expand(g, a_shape, axis, keepdims), a_shape)


linear(np.sum, _unsum)
linear(
    np.mean,
    lambda g, a_shape, axis=None, keepdims=False: _unsum(
        g / max(_count(a_shape, axis), 1), a_shape, axis, keepdims
    ),
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
    return np.sum(t * _shares(a, out, axis, keepdims), axis=axis, keepdims=bool(keepdims))


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
    return np.transpose(np.reshape(before * after, shape), inverse_order([*kept, *axes]))


def _prod_pull(g: Any, a: Any, axis: Axis = None, keepdims: Any = False) -> Any:
    if a.size == 0:
        return np.zeros_like(a)
    return expand(g, a.shape, axis, keepdims) * _others(a, axis)


def _prod_push(t: Any, a: Any, axis: Axis = None, keepdims: Any = False) -> Any:
    if a.size == 0:
        return np.sum(t, axis=axis, keepdims=bool(keepdims))
    return np.sum(t * _others(a, axis), axis=axis, keepdims=bool(keepdims))


general(np.prod, _prod_pull, _prod_push)


def _cumprod(a: Any, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
    """Products of prefixes, one multiplication a step: exact derivatives whatever is zero."""
    a = in_dtype(a, dtype)
    if axis is None or (a.ndim == 0 and axis in (0, -1)):
        a, axis = np.ravel(a), 0
    axis = normalize_axis_index(axis, a.ndim)
    a = np.moveaxis(a, axis, 0)
    if a.shape[0] == 0:
        return np.moveaxis(a, 0, axis)
    parts = [a[0]]
    for k in range(1, a.shape[0]):
        parts.append(parts[-1] * a[k])
    return np.stack(parts, axis)  # which is laid out as NumPy's result is


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

# --- some of the entries only: those left out are replaced first, so that no nan of theirs gets through -----


def select(a: Any, where: Any, other: Any) -> Any:
    """An array with another number in the entries that ``where`` leaves out."""
    if hasattr(where, "dtype") and where.dtype.kind != "b":
        raise TypeError(f"Cannot cast array data from {where.dtype!r} to dtype('bool') by the rule 'safe'")
    if not is_given(where) or where is True:
        return a
    return np.where(np.broadcast_to(where, shape_of(a)), a, other)


def _joined(f: Any, neutral: float, join: Any) -> Any:
    def definition(
        a: Any,
        axis: Axis = None,
        dtype: Any = None,
        out: Any = None,
        keepdims: Any = False,
        initial: Any = np._NoValue,  # type: ignore[attr-defined]
        where: Any = True,
    ) -> Any:
        if initial is None and where is not True:
            raise ValueError(
                f"reduction operation '{join.__name__}' does not have an identity, so to use a where mask "
                "one has to specify 'initial'"
            )
        total = f(select(as_array(a), where, neutral), axis=axis, dtype=dtype, out=out, keepdims=keepdims)
        if not is_given(initial):
            return total
        return join(total, _in_dtype_of(total, initial))

    return definition


def _in_dtype_of(a: Any, initial: Any) -> Any:
    if shape_of(initial):
        raise ValueError("the initial value of a reduction must be a number")
    return cast(initial, a.dtype)


variant(np.sum, _joined(np.sum, 0, np.add))
variant(np.prod, _joined(np.prod, 1, np.multiply))


def _bounded(f: Any, worst: float, join: Any) -> Any:
    def definition(
        a: Any,
        axis: Axis = None,
        out: Any = None,
        keepdims: Any = False,
        initial: Any = np._NoValue,  # type: ignore[attr-defined]
        where: Any = True,
    ) -> Any:
        a = as_array(a)
        if not is_given(initial):
            raise ValueError(
                f"reduction operation '{join.__name__}' does not have an identity, so to use a where mask "
                "one has to specify 'initial'"
            )
        initial = _in_dtype_of(a, initial)
        options = {"axis": axis, "keepdims": keepdims} | ({} if out is None else {"out": out})
        if a.size == 0:  # np.sum knows the shape of the result
            return np.sum(a, **options) + initial
        return join(f(select(a, where, worst), **options), initial)

    return definition


for _f in (np.max, np.amax):
    variant(_f, _bounded(np.max, -np.inf, np.maximum))
for _f in (np.min, np.amin):
    variant(_f, _bounded(np.min, np.inf, np.minimum))


def count(a: Any, axis: Axis, where: Any, keepdims: bool) -> Any:
    """How many entries go into each result: a number, or an array of the precision of ``a``."""
    if not is_given(where) or where is True:
        shape = shape_of(a)
        return math.prod(shape if axis is None else (shape[k] for k in normalize_axis_tuple(axis, a.ndim)))
    n = np.sum(np.broadcast_to(where, shape_of(a)), axis=axis, keepdims=keepdims)
    return n.astype(np.zeros(0, a.dtype).real.dtype)


def _mean(
    a: Any,
    axis: Axis = None,
    dtype: Any = None,
    out: Any = None,
    keepdims: Any = False,
    *,
    where: Any = True,
) -> Any:
    if is_given(dtype) and np.dtype(dtype).kind not in "fc":
        return np.mean(plain(a), axis, dtype, out, is_set(keepdims), where=where)
    a = in_dtype(a, dtype)
    total = np.sum(select(a, where, 0), axis=axis, out=out, keepdims=keepdims)
    n = count(a, axis, where, is_set(keepdims))
    if not any_of(n == 0):
        return total / n
    if not on_device(n):
        warnings.warn("Mean of empty slice", RuntimeWarning, stacklevel=4)
    return number(np.where(n == 0, np.nan, total / np.maximum(n, 1)))


variant(np.mean, _mean)

# --- spread --------------------------------------------------------------------------------------------


def deviations(a: Any, axis: Axis, keepdims: Any, where: Any, mean: Any) -> Any:
    """The sum of the squared distances from the mean."""
    kept = select(a, where, 0)
    if not is_given(mean):
        n = count(a, axis, where, True)
        n = max(n, 1) if isinstance(n, int) else np.maximum(n, 1)
        mean = np.sum(kept, axis=axis, keepdims=True) / n
    deviation = select(kept - mean, where, 0)
    square = (deviation * np.conjugate(deviation)).real if is_complex(a) else np.square(deviation)
    return np.sum(square, axis=axis, keepdims=is_set(keepdims))


def degrees(a: Any, axis: Axis, keepdims: Any, where: Any, ddof: Any, correction: Any) -> Any:
    """What the sum of squares is divided by: the number of entries less the degrees of freedom."""
    if is_given(correction):
        if ddof != 0:
            raise ValueError("ddof and correction can't be provided simultaneously.")
        ddof = correction
    left = count(a, axis, where, is_set(keepdims)) - ddof
    if not on_device(left) and np.any(left <= 0):
        warnings.warn("Degrees of freedom <= 0 for slice", RuntimeWarning, stacklevel=5)
    return left


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


def _spread(finish: Any) -> Any:
    def definition(
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
        if is_given(dtype) and np.dtype(dtype).kind not in "fc":  # a step
            options = {"where": where, "mean": plain(mean), "correction": correction}
            given = {name: value for name, value in options.items() if is_given(value)}
            return finish(np.var(plain(a), axis, dtype, None, ddof, is_set(keepdims), **given))
        a = in_dtype(a, dtype)
        n = degrees(a, axis, keepdims, where, ddof, correction)
        total = in_dtype(deviations(a, axis, keepdims, where, mean), dtype)
        if not any_of(n <= 0):
            return finish(total / n)
        scale = np.where(n > 0, 1 / np.where(n > 0, n, 1), np.inf)  # 0 / 0 is nan
        return finish(total * scale.astype(total.dtype))

    return definition


composed(np.var, _spread(lambda var: var))
composed(np.std, _spread(root))


def _average(
    a: Any, axis: Axis = None, weights: Any = None, returned: bool = False, *, keepdims: Any = False
) -> Any:
    a, keep = as_array(a), is_set(keepdims)
    if weights is None:
        out = np.mean(a, axis=axis, keepdims=keep)
        scale: Any = out.dtype.type(a.size / out.size)
    else:
        weights = as_array(weights)
        axes = normalize_axis_tuple(range(a.ndim) if axis is None else axis, a.ndim)
        if weights.shape != a.shape:
            if axis is None:
                raise TypeError("Axis must be specified when shapes of a and weights differ.")
            if weights.shape != tuple(a.shape[k] for k in axes):
                raise ValueError("Shape of weights must be consistent with shape of a along specified axis.")
            weights = expand_weights(np.transpose(weights, inverse_order(axes)), a.shape, axes)
        precision = np.result_type(a.dtype, weights.dtype, *(["f8"] if a.dtype.kind in "iub" else []))
        scale = np.sum(in_dtype(weights, precision), axis=axes, keepdims=keep)
        if np.any(scale == 0):
            raise ZeroDivisionError("Weights sum to zero, can't be normalized")
        out = np.sum(in_dtype(a * weights, precision), axis=axes, keepdims=keep) / scale
    return (out, number(np.copy(np.broadcast_to(scale, shape_of(out))))) if returned else out


def expand_weights(weights: Any, shape: Any, axes: tuple[int, ...]) -> Any:
    """Give weights along some axes the number of dimensions of the array that they weigh."""
    return np.reshape(weights, tuple(n if k in axes else 1 for k, n in enumerate(shape)))


composed(np.average, _average)

# --- differences ---------------------------------------------------------------------------------------


def _diff(a: Any, n: int = 1, axis: int = -1, prepend: Any = None, append: Any = None) -> Any:
    if n == 0:
        return a
    if n < 0:
        raise ValueError(f"order must be non-negative but got {n!r}")
    a = as_array(a)
    if a.ndim == 0:
        raise ValueError("diff requires input that is at least one dimensional")
    axis = normalize_axis_index(axis, a.ndim)
    parts = []
    for extra, before in ((prepend, True), (append, False)):
        if extra is not None and extra is not np._NoValue:
            shape = list(a.shape)
            if shape_of(extra) == ():
                shape[axis] = 1
                extra = np.broadcast_to(extra, tuple(shape))
            parts.append((extra, before))
    for extra, before in parts:
        a = np.concatenate([extra, a] if before else [a, extra], axis=axis)
    lead = (slice(None),) * axis
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
    y = as_array(y)
    if y.ndim == 0:
        raise IndexError("list assignment index out of range")  # as NumPy has it
    lead = (slice(None),) * (axis % y.ndim)
    ends = y[(*lead, slice(1, None))] + y[(*lead, slice(None, -1))]
    if x is None:
        return np.sum(ends * (dx / 2), axis=axis)
    width = _diff(x) if len(shape_of(x)) == 1 else _diff(x, axis=axis)
    if len(shape_of(x)) == 1:
        width = np.reshape(width, [-1 if k == axis % y.ndim else 1 for k in range(y.ndim)])
    return np.sum(ends * width / 2, axis=axis)


composed(np.trapezoid, _trapezoid)
