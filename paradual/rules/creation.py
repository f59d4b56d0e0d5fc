"""New arrays: filled with a value, or made of nested lists; all with ``like=`` or ``*_like``."""

from __future__ import annotations

from typing import Any

import numpy as np

from paradual.arrays import bare, has_dual, memory, shape_of
from paradual.errors import NotDifferentiableError, ParadualTypeError, user_line
from paradual.rules.indexing import along
from paradual.rules.registry import composed, constant, refused

# Of a dual they make a constant that can be written: see `paradual.inplace.constant_like`.
constant(np.zeros_like, np.ones_like, np.empty_like, np.zeros, np.ones, np.empty, np.arange, np.eye)
constant(np.identity, np.tri, np.fromfunction, np.frombuffer, np.fromfile, np.fromiter, np.fromstring)
constant(np.genfromtxt, np.loadtxt)


def stacked(value: Any) -> Any:
    """A value as NumPy would make an array of it: nested lists with duals in them are stacked."""
    if not isinstance(value, list | tuple):
        return value
    if not has_dual(value):
        return np.asarray(value)
    parts = [stacked(part) for part in value]
    if len({shape_of(part) for part in parts}) > 1:
        raise ValueError(
            "setting an array element with a sequence. The requested array has an inhomogeneous shape"
        )
    return np.stack(parts)


def _of_dtype(a: Any, dtype: Any) -> Any:
    return a if dtype is None else a.astype(dtype)


def _array(
    object: Any, dtype: Any = None, *, copy: Any = True, order: Any = "K", subok: bool = False, ndmin: int = 0
) -> Any:
    if not has_dual(object):
        return np.array(object, dtype, copy=copy, order=order, subok=subok, ndmin=ndmin)
    a = stacked(object)
    if copy and a is object:
        a = np.copy(a, order=order)
    a = in_order(_of_dtype(a, dtype), order)
    return np.reshape(a, (1,) * (ndmin - a.ndim) + shape_of(a)) if a.ndim < ndmin else a


def _asarray(a: Any, dtype: Any = None, order: Any = None, *args: Any, **kwargs: Any) -> Any:
    if not has_dual(a):
        return np.asarray(a, dtype, order)
    a = stacked(a)
    return in_order(a if dtype is None or a.dtype == dtype else a.astype(dtype), order)


def in_order(a: Any, order: Any) -> Any:
    """An array, or a copy of it if it is not laid out in memory as asked: what is a view depends on that."""
    flags = getattr(bare(a), "flags", None)
    if order == "A" and flags is not None:
        order = "F" if flags.f_contiguous else "C"
    if order not in ("C", "F") or flags is None or flags[f"{order}_CONTIGUOUS"]:
        return a
    return np.copy(a, order=order)


composed(np.array, _array)
for _f in (np.asarray, np.asanyarray):
    composed(_f, _asarray)
composed(np.ascontiguousarray, lambda a, dtype=None: np.atleast_1d(_asarray(a, dtype, "C")))
composed(np.asfortranarray, lambda a, dtype=None: np.atleast_1d(_asarray(a, dtype, "F")))
refused(np.require, "the layout in memory is not kept. Use the array as it is, or np.copy(x)")


def _full(shape: Any, fill_value: Any, dtype: Any = None, order: str = "C", *, device: Any = None) -> Any:
    fill_value = stacked(fill_value)
    if not has_dual(fill_value):
        return np.full(shape, fill_value, dtype, order)
    return _of_dtype(np.copy(np.broadcast_to(fill_value, shape), order=order), dtype)


def _full_like(
    a: Any,
    fill_value: Any,
    dtype: Any = None,
    order: str = "K",
    subok: bool = True,
    shape: Any = None,
    **kw: Any,
) -> Any:
    dtype = a.dtype if dtype is None else np.dtype(dtype)
    new = np.empty_like(bare(a), dtype, order, subok, shape)  # laid out as NumPy does it
    fill_value = stacked(fill_value)
    if not has_dual(fill_value):
        new[...] = fill_value
        return new
    order = "F" if new.flags.f_contiguous and not new.flags.c_contiguous else "C"
    return _full(new.shape, fill_value, dtype, order)


composed(np.full, _full)
composed(np.full_like, _full_like)

# --- writing into an array ----------------------------------------------------------------------------------


def _target(a: Any, f: str) -> Any:
    if not has_dual(a):
        raise ParadualTypeError(_PLAIN.format(f, user_line()))
    return a


_PLAIN = (
    "np.{} of values that are being differentiated into a plain array{}, which cannot hold a derivative: "
    "create the array with np.zeros_like(x), or np.zeros(shape, like=x), where x is being differentiated"
)


def _copyto(dst: Any, src: Any, casting: str = "same_kind", where: Any = True) -> None:
    _target(dst, "copyto")
    src = stacked(src)
    if not np.can_cast(getattr(src, "dtype", type(src)), dst.dtype, casting):
        raise TypeError(
            f"Cannot cast array data from {src.dtype!r} to {dst.dtype!r} according to {casting!r}"
        )
    if where is True:
        dst[...] = src
    else:
        mask = np.broadcast_to(where, dst.shape)
        src = np.reshape(
            src, shape_of(src)[max(len(shape_of(src)) - dst.ndim, 0) :]
        )  # ones in front do not count
        dst[mask] = np.broadcast_to(src, dst.shape)[mask]


def _put(a: Any, ind: Any, v: Any, mode: str = "raise") -> None:
    _target(a, "put")
    ind = np.ravel(ind)
    if mode != "raise":
        ind = np.clip(ind, 0, a.size - 1) if mode == "clip" else ind % a.size
    if ind.size:
        a.flat[ind] = v


def _put_along_axis(arr: Any, indices: Any, values: Any, axis: Any = -1) -> None:
    _target(arr, "put_along_axis")
    if axis is None:
        arr.flat[indices] = values
        return
    arr[along(arr, indices, axis)] = values


def _place(arr: Any, mask: Any, vals: Any) -> None:
    _target(arr, "place")
    at = np.flatnonzero(mask)
    vals = np.ravel(stacked(vals))
    if at.size and not vals.size:
        raise ValueError("Cannot insert from an empty array!")
    if at.size and memory(bare(vals)) is memory(bare(arr)):
        raise NotDifferentiableError(
            f"np.place{user_line()} of values that share memory with the array: what NumPy reads of them it "
            "may have written before. Take a copy first: np.place(y, mask, v.copy())"
        )
    if at.size:
        arr.flat[at] = vals[np.arange(at.size) % vals.size]


def _putmask(a: Any, mask: Any, values: Any) -> None:
    _target(a, "putmask")
    at = np.flatnonzero(mask)
    values = np.ravel(stacked(values))
    if at.size and values.size:
        a.flat[at] = values[at % values.size]


def _fill_diagonal(a: Any, val: Any, wrap: bool = False) -> None:
    _target(a, "fill_diagonal")
    if a.ndim < 2:
        raise ValueError("array must be at least 2-d")
    if a.ndim == 2:
        step, end = a.shape[1] + 1, None if wrap else a.shape[1] * a.shape[1]
    else:
        if len(set(a.shape)) > 1:
            raise ValueError("All dimensions of input must be of equal length")
        step, end = 1 + int(np.cumprod(a.shape[:-1]).sum()), None
    a.flat[:end:step] = val


for _f, _definition in (
    (np.copyto, _copyto), (np.put, _put), (np.put_along_axis, _put_along_axis), (np.place, _place),
    (np.putmask, _putmask), (np.fill_diagonal, _fill_diagonal),
):  # fmt: skip
    composed(_f, _definition)
