"""Functions that move elements without changing them: their transpose moves the cotangent back.

A transpose that does not use a parameter still names it, so that calls may pass it.
"""

from __future__ import annotations

import math
import operator
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from paradual.arrays import Scatter, bare, cast, dispatch, shape_of
from paradual.errors import NotDifferentiableError
from paradual.locality import counting
from paradual.rules.reductions import inverse_order
from paradual.rules.registry import composed, linear

# --- the shape ------------------------------------------------------------------------------------


def _unshape(g: Any, a_shape: Any, shape: Any = None, order: str = "C") -> Any:
    if order not in ("C", "F"):  # the order in memory, which a cotangent does not share
        raise NotDifferentiableError(f"np.reshape and np.ravel with order={order!r}: use 'C' or 'F'")
    return np.reshape(g, a_shape, order=order)


linear(np.reshape, _unshape, names="a shape order copy")  # NumPy 2.0 calls it newshape
linear(np.ravel, lambda g, a_shape, order="C": _unshape(g, a_shape, None, order))
linear(np.squeeze, lambda g, a_shape, axis=None: np.reshape(g, a_shape))
linear(np.expand_dims, lambda g, a_shape, axis=None: np.reshape(g, a_shape))
linear(np.broadcast_to, lambda g, shape=None: g)  # the sweep sums to the operand's shape
linear(np.copy, lambda g: g)


def _atleast(ndim: int) -> Any:
    def definition(*arrays: Any) -> Any:
        out = []
        for a in arrays:
            a = a if hasattr(a, "shape") else np.asarray(a)
            n = len(shape_of(a))
            if n == 0:
                a = np.reshape(a, (1,) * ndim)
            elif ndim > n:
                lead = 1 if (ndim - n == 2 or (ndim == 2 and n == 1)) else 0
                a = np.reshape(a, (1,) * lead + shape_of(a) + (1,) * (ndim - n - lead))
            out.append(a)
        return out[0] if len(out) == 1 else tuple(out)

    return definition


composed(np.atleast_1d, _atleast(1))
composed(np.atleast_2d, _atleast(2))
composed(np.atleast_3d, _atleast(3))


def _broadcast_arrays(*arrays: Any, subok: bool = False) -> Any:
    shape = np.broadcast_shapes(*map(shape_of, arrays))
    return tuple(np.broadcast_to(a, shape) for a in arrays)


composed(np.broadcast_arrays, _broadcast_arrays)

# --- the order of axes and of elements -------------------------------------------------------------


def _untranspose(g: Any, axes: Any = None) -> Any:
    if axes is None:
        return np.transpose(g)
    return np.transpose(g, inverse_order([axis % len(axes) for axis in axes]))


linear(np.transpose, _untranspose)
linear(np.swapaxes, lambda g, axis1, axis2: np.swapaxes(g, axis1, axis2))
linear(np.moveaxis, lambda g, source, destination: np.moveaxis(g, destination, source))


def _rollaxis(a: Any, axis: int, start: int = 0) -> Any:
    axis = normalize_axis_index(axis, a.ndim)
    start = normalize_axis_index(start + a.ndim if start < 0 else start, a.ndim + 1)
    return np.moveaxis(a, axis, start - (axis < start))


composed(np.rollaxis, _rollaxis)
linear(np.flip, lambda g, axis=None: np.flip(g, axis))
composed(np.flipud, lambda m: np.flip(m, 0))
composed(np.fliplr, lambda m: np.flip(m, 1))
linear(np.rot90, lambda g, k=1, axes=(0, 1): np.rot90(g, -k, axes))


def _unroll(g: Any, shift: Any, axis: Any = None) -> Any:
    back = tuple(-s for s in shift) if isinstance(shift, tuple | list) else -shift
    return np.roll(g, back, axis)


linear(np.roll, _unroll)
if hasattr(np, "matrix_transpose"):
    composed(np.matrix_transpose, lambda x, /: np.swapaxes(x, -1, -2))

# --- joining ----------------------------------------------------------------------------------------


def _unjoin(g: Any, arrays_shape: Any, axis: Any = 0) -> Any:
    if axis is None:
        sizes = [math.prod(shape) for shape in arrays_shape]
        axis = 0
    else:
        sizes = [shape[axis] for shape in arrays_shape]
    parts = []
    start = 0
    for size, shape in zip(sizes, arrays_shape, strict=True):
        part = g[(slice(None),) * (axis % g.ndim) + (slice(start, start + size),)]
        parts.append(part if part.shape == shape else np.reshape(part, shape))
        start += size
    return parts


linear(np.concatenate, _unjoin, names="arrays axis out dtype casting")


def _stack(arrays: Any, axis: int = 0, out: Any = None, **kwargs: Any) -> Any:
    shapes = {shape_of(a) for a in arrays}
    if len(shapes) > 1:
        raise ValueError("all input arrays must have the same shape")
    return np.concatenate([np.expand_dims(a, axis) for a in arrays], axis=axis, **kwargs)


composed(np.stack, _stack)
composed(np.vstack, lambda tup, **kwargs: np.concatenate([np.atleast_2d(a) for a in tup], **kwargs))
composed(np.dstack, lambda tup: np.concatenate([np.atleast_3d(a) for a in tup], axis=2))
composed(
    np.column_stack,
    lambda tup: np.concatenate([a if len(shape_of(a)) > 1 else np.reshape(a, (-1, 1)) for a in tup], axis=1),
)


def _hstack(tup: Any, **kwargs: Any) -> Any:
    arrays = [np.atleast_1d(a) for a in tup]
    return np.concatenate(arrays, axis=0 if len(shape_of(arrays[0])) == 1 else 1, **kwargs)


composed(np.hstack, _hstack)


def _append(arr: Any, values: Any, axis: Any = None) -> Any:
    if axis is None:
        return np.concatenate([np.ravel(arr), np.ravel(values)])
    return np.concatenate([arr, values], axis=axis)


composed(np.append, _append)


def _block(arrays: Any) -> Any:
    def depths(a: Any) -> set[int]:
        if isinstance(a, tuple):
            raise TypeError("np.block: only lists can be used to arrange blocks, and there is a tuple")
        if not isinstance(a, list):
            return {0}
        if not a:
            raise ValueError("np.block: a list of blocks cannot be empty")
        return {1 + depth for part in a for depth in depths(part)}

    def leaves(a: Any) -> Any:
        return [leaf for part in a for leaf in leaves(part)] if isinstance(a, list) else [a]

    found = depths(arrays)
    if len(found) > 1:
        raise ValueError("np.block: the depths of the lists of blocks are mismatched")
    levels = found.pop()
    ndim = max([levels, *(len(shape_of(a)) for a in leaves(arrays))])

    def join(a: Any, level: int) -> Any:
        if not isinstance(a, list):
            return np.reshape(a, (1,) * (ndim - len(shape_of(a))) + shape_of(a))
        return np.concatenate([join(part, level + 1) for part in a], axis=ndim - levels + level)

    return join(arrays, 0) if levels else np.copy(arrays)


composed(np.block, _block)

# --- splitting --------------------------------------------------------------------------------------


def _length(ary: Any, axis: int) -> int:
    return shape_of(ary)[normalize_axis_index(axis, len(shape_of(ary)))]


def _cut(ary: Any, cuts: list[int], axis: int) -> list[Any]:
    lead = (slice(None),) * normalize_axis_index(axis, len(shape_of(ary)))
    edges = [0, *cuts, shape_of(ary)[axis]]
    return [ary[(*lead, slice(a, b))] for a, b in pairwise(edges)]


def _array_split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Any]:
    if np.ndim(indices_or_sections):
        return _cut(ary, list(indices_or_sections), axis)
    n, sections = _length(ary, axis), int(indices_or_sections)
    if sections <= 0:
        raise ValueError("number sections must be larger than 0.")
    each, extra = divmod(n, sections)
    return _cut(ary, [k * each + min(k, extra) for k in range(1, sections)], axis)


def _split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Any]:
    if not np.ndim(indices_or_sections) and _length(ary, axis) % indices_or_sections:
        raise ValueError("array split does not result in an equal division")
    return _array_split(ary, indices_or_sections, axis)


composed(np.array_split, _array_split)
composed(np.split, _split)


def _split_along(name: str, axis: int, least: int) -> Any:
    def definition(ary: Any, indices_or_sections: Any) -> list[Any]:
        if len(shape_of(ary)) < least:
            raise ValueError(f"{name} only works on arrays of {least} or more dimensions")
        return _split(ary, indices_or_sections, min(axis, len(shape_of(ary)) - 1))

    return definition


composed(np.vsplit, _split_along("vsplit", 0, 2))
composed(np.hsplit, _split_along("hsplit", 1, 1))
composed(np.dsplit, _split_along("dsplit", 2, 3))
if hasattr(np, "unstack"):
    composed(np.unstack, lambda x, /, *, axis=0: tuple(np.moveaxis(x, axis, 0)))


def _delete(arr: Any, obj: Any, axis: Any = None) -> Any:
    if axis is None:
        arr, axis = np.ravel(arr), 0
    keep = np.delete(counting(_length(arr, axis), like=arr), obj)
    return np.take(arr, keep, axis)


composed(np.delete, _delete)

# --- repeating and padding ---------------------------------------------------------------------------


def _repeat(a: Any, repeats: Any, axis: Any = None) -> Any:
    if axis is None or (axis in (0, -1) and not shape_of(a)):
        a, axis = np.ravel(a), 0
    where = np.repeat(counting(_length(a, axis), like=a), repeats)
    return np.take(a, where, axis)


composed(np.repeat, _repeat)


def _tile(A: Any, reps: Any) -> Any:
    reps = tuple(reps) if np.ndim(reps) else (operator.index(reps),)
    ndim = max(len(reps), len(shape_of(A)))
    reps = (1,) * (ndim - len(reps)) + reps
    shape = (1,) * (ndim - len(shape_of(A))) + shape_of(A)
    split = tuple(n for pair in zip((1,) * ndim, shape, strict=True) for n in pair)
    wide = tuple(n for pair in zip(reps, shape, strict=True) for n in pair)
    tiled = np.broadcast_to(np.reshape(A, split), wide)
    return np.reshape(np.copy(tiled, order="C"), tuple(r * n for r, n in zip(reps, shape, strict=True)))


composed(np.tile, _tile)


def pad_zeros(array: Any, widths: Any) -> Any:
    """``np.pad(array, widths)``: the linear part of padding with constants."""
    out = dispatch(pad_zeros, [array], (array, widths))
    if out is not NotImplemented:
        return out
    return np.pad(array, widths) if widths else np.copy(array)  # a number has no axes to pad


linear(
    pad_zeros,
    lambda g, array_shape, widths: g[
        tuple(slice(before, before + n) for (before, _), n in zip(widths, array_shape, strict=True))
    ],
)


def _pairs(value: Any, ndim: int) -> Any:
    """What np.pad takes for each axis before and after: one for all, a pair, or a pair for each."""
    return [(None, None)] * ndim if value is None else np.broadcast_to(value, (ndim, 2))


def _pad(array: Any, pad_width: Any, mode: Any = "constant", **kwargs: Any) -> Any:
    if callable(mode) or mode == "empty":
        raise NotDifferentiableError(
            f"np.pad(mode={mode!r}) has no derivative rule: use another mode, or np.concatenate"
        )
    # else by gathering, where it can: np.pad of the indices says where each element comes from
    if mode in ("edge", "reflect", "symmetric", "wrap") and kwargs.get("reflect_type") != "odd":
        index = counting(array.size, like=array).reshape(array.shape)
        return np.ravel(array)[np.pad(index, pad_width, mode=mode, **kwargs)]
    values = kwargs.get("constant_values", 0)
    if not hasattr(values, "place"):  # NumPy checks the arguments, and pads zeros with the constants
        constants = np.pad(np.zeros_like(bare(array)), pad_width, mode, **kwargs)
    if isinstance(pad_width, dict):
        every = [pad_width.get(k, pad_width.get(k - array.ndim, 0)) for k in range(array.ndim)]
        pad_width = [np.broadcast_to(w, 2) for w in every]
    widths = [tuple(map(int, pair)) for pair in np.broadcast_to(pad_width, (array.ndim, 2))]
    if not widths:
        return np.copy(array)
    if mode == "constant" and not hasattr(values, "place"):
        return pad_zeros(array, widths) + constants if np.any(values) else pad_zeros(array, widths)
    for axis, (before, after) in enumerate(widths):  # one axis after the other, as NumPy does
        x = np.moveaxis(array, axis, 0)
        parts = [
            _edge(x, before, mode, 0, axis, array.ndim, kwargs),
            x,
            np.flip(_edge(np.flip(x, 0), after, mode, 1, axis, array.ndim, kwargs), 0),
        ]
        array = np.moveaxis(np.concatenate(parts), 0, axis)
    return array


_STATISTICS = {"maximum": "max", "mean": "mean", "median": "median", "minimum": "min"}


def _edge(x: Any, width: int, mode: str, side: int, axis: int, ndim: int, options: Any) -> Any:
    """What np.pad puts before the first axis of x; side is 1 where that is the end, flipped."""
    shape = (width, *x.shape[1:])
    if width == 0:
        return x[:0]
    if mode == "constant":
        return np.broadcast_to(cast(_pairs(options["constant_values"], ndim)[axis][side], x.dtype), shape)
    if mode == "linear_ramp":
        end = _pairs(options.get("end_values", 0), ndim)[axis][side]
        return np.linspace(end, x[0], width, endpoint=False, dtype=x.dtype)
    if mode in _STATISTICS:
        length = _pairs(options.get("stat_length"), ndim)[axis][side]
        statistic = getattr(np, _STATISTICS[mode])(x[:length], axis=0, keepdims=True)
        return np.broadcast_to(statistic, shape)
    first = 1 if mode == "reflect" else 0
    if width > x.shape[0] - first:
        raise NotDifferentiableError(
            f"np.pad(mode={mode!r}, reflect_type='odd') by more than the array's own length: use two calls"
        )
    return 2 * x[:1] - np.flip(x[first : first + width], 0)


composed(np.pad, _pad)

# --- diagonals and triangles --------------------------------------------------------------------------

linear(np.tril, lambda g, k=0: np.tril(g, k))
linear(np.triu, lambda g, k=0: np.triu(g, k))


def _undiagonal(g: Any, a_shape: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    axis1, axis2 = axis1 % len(a_shape), axis2 % len(a_shape)
    n = counting(g.shape[-1], like=g)
    index: list[Any] = [slice(None)] * len(a_shape)
    index[axis1], index[axis2] = n + max(-offset, 0), n + max(offset, 0)
    # indexing puts the diagonal where the two axes are, or first if they are apart
    place = min(axis1, axis2) if abs(axis1 - axis2) == 1 else 0
    return Scatter(tuple(index), np.moveaxis(g, -1, place))


linear(np.diagonal, _undiagonal)
composed(
    np.trace,
    lambda a, offset=0, axis1=0, axis2=1, dtype=None, out=None: np.sum(
        np.diagonal(a, offset, axis1, axis2), axis=-1, dtype=dtype
    ),
)


def _undiag(g: Any, v_shape: Any, k: int = 0) -> Any:
    if len(v_shape) == 1:
        return np.diagonal(g, k)
    n = g.shape[0]
    n = counting(n, like=g)
    return Scatter((n + max(-k, 0), n + max(k, 0)), g)


linear(np.diag, _undiag)
composed(np.diagflat, lambda v, k=0: np.diag(np.ravel(v), k))
