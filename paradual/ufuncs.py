"""Ufuncs with keyword arguments, and their methods: reduce, accumulate, outer, reduceat, at."""

from __future__ import annotations

from typing import Any

import numpy as np

from paradual.apply import call
from paradual.arrays import cast, shape_of
from paradual.dual import DUALS, primal
from paradual.errors import NotDifferentiableError, user_line
from paradual.inplace import constant_like, setitem, ufunc_at, write_out
from paradual.rules.creation import stacked
from paradual.rules.reductions import in_dtype, number
from paradual.rules.registry import find, name_of

REDUCE: dict[Any, Any] = {np.add: np.sum, np.multiply: np.prod, np.maximum: np.max, np.minimum: np.min}
ACCUMULATE: dict[Any, Any] = {np.add: np.cumsum, np.multiply: np.cumprod}


def ufunc_call(ufunc: Any, method: str, inputs: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A ufunc with keyword arguments, or one of its methods."""
    rule = find(ufunc)
    if method == "at":
        return ufunc_at(ufunc, *inputs)
    if method == "reduceat":
        kwargs.pop("indices", None)  # which NumPy hands over among the inputs as well
    out = kwargs.pop("out", None) or (None,)
    target = out[0]
    if any(a is not None and a.__class__ not in DUALS for a in out):
        raise NotDifferentiableError(
            f"{name_of(ufunc)} with out= (or an augmented assignment like a += x) into a plain array"
            f"{user_line()}: the array cannot hold a derivative. Write a = a + x, or create it with "
            "np.zeros_like(x), or np.zeros(shape, like=x), where x is being differentiated"
        )
    where = kwargs.pop("where", True)
    if rule is not None and rule.kind == "constant" and (method not in FOLDS or ufunc is not np.floor_divide):
        if where is not True:
            kwargs["where"] = primal(where)
        result = getattr(ufunc, method)(*(primal(x) for x in inputs), **kwargs)
    elif method == "__call__":
        if where is not True:
            if ufunc.nout > 1:
                raise NotDifferentiableError(
                    f"{name_of(ufunc)} with where={user_line()}: it has several results. Use np.where on each"
                )
            return _masked(ufunc, inputs, kwargs, primal(where), target)
        result = call(ufunc, _in_loop(ufunc, inputs, kwargs), kwargs)
    else:
        if where is not True:
            kwargs["where"] = where
        a, *rest = (stacked(x) if isinstance(x, list | tuple) else x for x in inputs)
        result = METHODS[method](ufunc, a, *rest, **kwargs)
    if len(out) > 1:
        return tuple(r if a is None else _written(a, r) for a, r in zip(out, result, strict=True))
    return result if target is None else _written(target, result, method == "__call__")


def _written(target: Any, result: Any, stretch: bool = True) -> Any:
    if stretch and shape_of(result) != target.shape:
        result = np.broadcast_to(result, target.shape)
    return write_out(target, result)


def _in_loop(ufunc: Any, inputs: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    """The operands in the types that ``dtype=`` makes NumPy compute in: the derivative is one in those."""
    dtype = kwargs.get("dtype")
    if dtype is None or ufunc.signature is not None or ufunc.nout > 1 or np.dtype(dtype).kind not in "fc":
        return inputs
    inputs = tuple(stacked(x) if isinstance(x, list | tuple) else x for x in inputs)
    given = tuple(
        type(x) if type(x) in (int, float, complex) else getattr(x, "dtype", np.dtype(bool))
        for x in map(primal, inputs)
    )
    signature = (*[None] * ufunc.nin, np.dtype(dtype))
    loop = ufunc.resolve_dtypes(
        (*given, None), signature=signature, casting=kwargs.get("casting", "same_kind")
    )
    return tuple(
        cast(x, to) if x.__class__ in DUALS and x.dtype != to else x
        for x, to in zip(inputs, loop, strict=False)
    )


def _masked(ufunc: Any, inputs: Any, kwargs: Any, where: Any, target: Any) -> Any:
    """``ufunc(*inputs, where=where, out=target)``: computed where it is wanted only, as NumPy does."""
    inputs = [stacked(x) if isinstance(x, list | tuple) else x for x in inputs]
    shape = np.broadcast_shapes(*map(shape_of, inputs), shape_of(where))
    mask = np.broadcast_to(where, shape)
    chosen = tuple(np.broadcast_to(x, shape)[mask] for x in inputs)
    chosen = call(ufunc, _in_loop(ufunc, chosen, kwargs), kwargs)
    if target is None:  # NumPy leaves the rest as it happens to be in memory
        dual = next(x for x in (chosen, *inputs) if x.__class__ in DUALS)
        target = constant_like(dual, np.full(shape, np.nan, chosen.dtype))
        if target.__class__ not in DUALS:
            target[mask] = chosen
            return target
    elif target.shape != np.broadcast_shapes(shape, target.shape):
        raise ValueError(f"non-broadcastable output operand with shape {target.shape} doesn't match {shape}")
    setitem(target, np.broadcast_to(mask, target.shape), chosen)
    return target


def _reduce(
    ufunc: Any, a: Any, axis: Any = 0, dtype: Any = None, keepdims: bool = False, **kwargs: Any
) -> Any:
    if ufunc in REDUCE:
        if ufunc in (np.maximum, np.minimum):
            a = in_dtype(a, dtype)
        elif dtype is not None:
            kwargs["dtype"] = dtype
        return REDUCE[ufunc](a, axis=axis, keepdims=keepdims, **kwargs)
    _binary(ufunc, "reduce")
    a = in_dtype(a, dtype)
    shape = shape_of(a)
    axes = tuple(range(len(shape))) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    if len(axes) > 1 and ufunc.identity is None and ufunc not in (np.fmax, np.fmin):
        raise ValueError(
            f"reduction operation {ufunc.__name__!r} is not reorderable, so at most one axis may be specified"
        )
    axes = tuple(k % len(shape) for k in axes)
    rest = [k for k in range(len(shape)) if k not in axes]
    where = np.broadcast_to(primal(kwargs.pop("where", True)), shape)
    rows = np.reshape(np.transpose(a, [*axes, *rest]), [-1, *(shape[k] for k in rest)])
    masks = np.transpose(where, [*axes, *rest]).reshape(rows.shape)
    initial = kwargs.pop("initial", np._NoValue)
    given = initial is not np._NoValue and initial is not None
    if given and initial.__class__ not in DUALS:
        initial = np.asarray(initial, a.dtype)
    if not given and ufunc.identity is None and not (len(rows) and masks.all()):
        raise ValueError(f"zero-size array to reduction operation {ufunc.__name__} which has no identity")
    total: Any = np.broadcast_to(initial if given else np.asarray(ufunc.identity or 0.0), rows.shape[1:])
    begun = np.full(rows.shape[1:], given)
    for row, mask in zip(rows, masks, strict=True):
        # not from the identity, at which a derivative may not exist
        new = row if not begun.any() else np.where(begun, ufunc(total, row, dtype=dtype), row)
        total = new if mask.all() else np.where(mask, new, total)
        begun = begun | mask
    if keepdims:
        return np.reshape(total, [1 if k in axes else n for k, n in enumerate(shape)])
    return number(total)


def _accumulate(ufunc: Any, a: Any, axis: int = 0, dtype: Any = None) -> Any:
    if ufunc in ACCUMULATE:
        return ACCUMULATE[ufunc](a, axis=axis, dtype=dtype)
    _binary(ufunc, "accumulate")
    a = in_dtype(a, dtype)
    rows = np.moveaxis(a, axis, 0)
    if not len(rows):
        return np.copy(a)
    parts = [rows[0]]
    for k in range(1, len(rows)):
        parts.append(ufunc(parts[-1], rows[k], dtype=dtype))
    return np.moveaxis(np.stack(parts), 0, axis)


def _outer(ufunc: Any, a: Any, b: Any, **kwargs: Any) -> Any:
    return ufunc(np.reshape(a, (*shape_of(a), *(1 for _ in shape_of(b)))), b, **kwargs)


def _reduceat(ufunc: Any, a: Any, indices: Any, axis: int = 0, dtype: Any = None) -> Any:
    rows, starts = np.moveaxis(a, axis, 0), [int(i) for i in primal(indices)]
    for i in starts:
        if not 0 <= i < len(rows):
            raise IndexError(f"index {i} out-of-bounds in {ufunc.__name__}.reduceat [0, {len(rows)})")
    ends = [*starts[1:], len(rows)]
    if not starts:
        return np.moveaxis(rows[:0], 0, axis)
    parts = [
        _reduce(ufunc, rows[i:j], dtype=dtype) if i < j else rows[i]
        for i, j in zip(starts, ends, strict=True)
    ]
    return np.moveaxis(np.stack(parts), 0, axis)


def _binary(ufunc: Any, method: str) -> None:
    if ufunc.nin != 2 or ufunc.nout != 1 or ufunc.signature is not None:
        raise ValueError(f"{method} only supported for binary functions")


FOLDS = ("reduce", "accumulate", "reduceat")  # in which the first element comes through as it is
METHODS: dict[str, Any] = {
    "reduce": _reduce,
    "accumulate": _accumulate,
    "outer": _outer,
    "reduceat": _reduceat,
}
