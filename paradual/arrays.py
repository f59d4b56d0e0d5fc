"""Arrays as cotangents: their form, fitting them to it, adding them up; NumPy and CuPy alike.

Only NumPy's dispatching functions and `*_like` creation are used, so that an array stays on its
device, and a nested dual stays a dual.
"""

from __future__ import annotations

import math
import sys
from functools import cache
from typing import Any

import numpy as np

from paradual.errors import InternalError
from paradual.locality import bare, counting, on_device, unravel

Form = Any  # (shape, dtype), or float or complex for a Python scalar, or a tuple of forms

PYTHON_SCALARS = frozenset([float, complex])
_FLOAT64 = ((), np.dtype(float))  # one object for all: a tape has many of them


class Scatter:
    """A cotangent that is zero but for ``value`` at ``index``: the pullback of ``x[index]``."""

    __slots__ = ("index", "value")

    def __init__(self, index: Any, value: Any) -> None:
        self.index = index
        self.value = value


Move = tuple[Any, tuple[Any, ...], dict[str, Any]]  # (f, args, kwargs): the view f(x, *args, **kwargs) of x


class Region:
    """An index into a view of an array, as an index into the array: the moves to the view, and the index."""

    __slots__ = ("index", "moves")

    def __init__(self, moves: tuple[Move, ...], index: Any) -> None:
        self.moves = moves
        self.index = index


class Item:
    """A cotangent of a tuple that is zero but for ``value`` at position ``index``."""

    __slots__ = ("index", "value")

    def __init__(self, index: int, value: Any) -> None:
        self.index = index
        self.value = value


class Pending:
    """A sum of nested duals that waits to be one record: ``base`` plus scattered values.

    Adding them one by one would copy the array each time; see `scatter_sum`.
    """

    __slots__ = ("base", "parts")

    def __init__(self, base: Any) -> None:
        self.base = base
        self.parts: list[Scatter] = []


def form_of(value: Any) -> Form:
    """The form of a value: ``(shape, dtype)``, or the type of a Python scalar."""
    kind = type(value)
    if kind is np.ndarray:
        return value.shape, value.dtype
    if kind is np.float64:
        return _FLOAT64
    if kind in PYTHON_SCALARS:
        return kind
    if kind in (int, bool):
        return float
    if hasattr(kind, "place"):
        return form_of(value.value)
    return (value.shape, value.dtype) if hasattr(kind, "dtype") else complex if kind is complex else float


def shape_of(value: Any) -> tuple[int, ...]:
    """The shape of an array, a dual or a number."""
    try:
        return value.shape
    except AttributeError:
        return np.shape(value)


def is_complex(value: Any) -> bool:
    """Whether an array, a dual or a number is complex."""
    try:
        return value.dtype.kind == "c"
    except AttributeError:
        return isinstance(value, complex)


@cache
def _is_buffer_type(kind: type) -> bool:
    # np.ndarray, cupy.ndarray and their like; not NumPy scalars, Python numbers or nested duals.
    return issubclass(kind, np.ndarray) or (
        hasattr(kind, "__setitem__")
        and hasattr(kind, "__array_ufunc__")
        and not hasattr(kind, "place")
        and not issubclass(kind, np.generic)
    )


def is_buffer(value: Any) -> bool:
    """Whether a value is an array that can be written in place."""
    return type(value) is np.ndarray or _is_buffer_type(type(value))  # type: ignore[arg-type]


def sum_to(c: Any, shape: tuple[int, ...]) -> Any:
    """Undo broadcasting: sum an array over the axes along which ``shape`` was stretched."""
    have = shape_of(c)
    extra = len(have) - len(shape)
    if extra < 0 or any(n not in (1, m) for n, m in zip(shape, have[extra:], strict=True)):
        raise InternalError(
            f"a pullback returned a cotangent of shape {have} for an operand of shape {shape}: "
            "the rule of the function is wrong"
        )
    axes = tuple(range(extra)) + tuple(
        extra + k for k, n in enumerate(shape) if n == 1 and have[extra + k] != 1
    )
    c = np.sum(c, axis=axes)
    return c if shape_of(c) == shape else np.reshape(c, shape)


def fit(c: Any, form: Form) -> Any:
    """Give a cotangent the shape and dtype of its primal.

    Parameters
    ----------
    c : array
        A cotangent whose shape broadcasts over the primal's.
    form : tuple or type
        The form of the primal.

    Returns
    -------
    array
        Summed over broadcast axes; the real part where the primal is real (by the convention
        df/dx - i df/dy the cotangent of a real number is real); cast to the primal's dtype.
    """
    if form is float or form is complex:
        if shape_of(c) != ():
            c = np.sum(c)
        return np.real(c) if form is float and is_complex(c) else c
    shape, dtype = form
    try:
        if c.shape != shape:
            c = sum_to(c, shape)
    except AttributeError:  # a Python number
        if shape != ():
            raise InternalError(f"a number arrived as the cotangent of shape {shape}") from None
        return dtype.type(c.real if isinstance(c, complex) and dtype.kind != "c" else c)
    if c.dtype != dtype:
        if c.dtype.kind == "c" and dtype.kind != "c":
            c = np.real(c)
        if c.dtype != dtype:
            c = cast(c, dtype)
    return c


def zeros(form: Form, like: Any) -> Any:
    """Zeros of a form, on the device of ``like``."""
    if form is float or form is complex:
        return form(0)
    shape, dtype = form
    if shape == () and not is_buffer(like):
        return dtype.type(0)
    return np.zeros_like(bare(like), shape=shape, dtype=dtype)


def has_dual(value: Any) -> bool:
    """Whether a value is a dual, or a list or tuple with one in it."""
    if isinstance(value, list | tuple):
        return any(has_dual(part) for part in value)
    return hasattr(type(value), "place")


def memory(value: Any) -> Any:
    """The array that owns the memory of an array; None for what is not an array."""
    if not is_buffer(value):
        return None
    while (base := getattr(value, "base", None)) is not None:
        if not is_buffer(base):
            base = getattr(base, "base", None)  # what np.lib.stride_tricks puts in between
            if not is_buffer(base):
                break
        value = base
    return value


def dispatch(function: Any, operands: Any, args: tuple[Any, ...]) -> Any:
    """Hand a function of this module to the first nested dual among some operands, as NumPy does."""
    for operand in operands:
        if hasattr(operand, "place"):
            return operand.__array_function__(function, (type(operand),), args, {})
    return NotImplemented


def cast(x: Any, dtype: Any) -> Any:
    """``x.astype(dtype)`` as a function that dispatches (NumPy has np.astype since 2.1)."""
    out = dispatch(cast, [x], (x, dtype))
    if out is not NotImplemented:
        return out
    return (x if hasattr(x, "astype") else np.asarray(x)[()]).astype(dtype)  # a Python number has none


def item(values: tuple[Any, ...], index: int) -> Any:
    """One result of a function that returns several."""
    return values[index]


def scatter_sum(base: Any, indices: list[Any], values: list[Any], shape: Any, dtype: Any) -> Any:
    """Return ``base`` plus each value at its index, in order; ``base`` may be None for zero."""
    out = dispatch(scatter_sum, [base, *values], (base, indices, values, shape, dtype))
    if out is not NotImplemented:
        return out
    like = base if base is not None else values[0]
    total = np.zeros_like(bare(like), shape=shape, dtype=dtype)
    if base is not None:
        total += base
    for index, value in zip(indices, values, strict=True):
        scatter_add(total, index, value)
    return total


def follow(a: Any, moves: tuple[Move, ...]) -> Any:
    """The view of an array that moves lead to."""
    for f, args, kwargs in moves:
        a = f(a, *args, **kwargs)
    return a


def within(a: Any, where: Any) -> tuple[Any, Any]:
    """An array or a view of it, and the index into it, that an index or a region means."""
    if type(where) is not Region:
        return a, where
    view = follow(a, where.moves)
    plain = bare(view)
    if memory(plain) is memory(bare(a)) and getattr(getattr(plain, "flags", None), "writeable", True):
        return view, where.index
    # laid out otherwise than the array it was made of, or read-only: by the numbers of the elements
    numbers = counting(math.prod(a.shape), like=a).reshape(a.shape)
    return a, unravel(follow(numbers, where.moves)[where.index], a.shape)


def look(a: Any, where: Any) -> Any:
    """``a[where]`` for an index or a region."""
    if type(where) is Region:
        return follow(a, where.moves)[where.index]
    return a[where]


def put(base: Any, value: Any, where: Any, last: Any = None) -> Any:
    """``base`` with ``value`` at an index or region: what a write in place is, as a function.

    Where the index names an element twice, ``last`` says which of the values stays.
    """
    del last
    new = np.copy(base)
    target, index = within(new, where)
    target[index] = value
    return new


def gain(base: Any, value: Any, where: Any) -> Any:
    """``base`` plus ``value`` at an index or region: what `np.add.at` is, as a function."""
    new = np.copy(base)
    scatter_add(new, where, value)
    return new


def scatter_add(target: Any, index: Any, value: Any) -> None:
    """Add a value at an index in place; an element that the index names twice gets it twice."""
    if type(index) is Region:
        target, index = within(target, index)
    if is_complex(value) and not is_complex(target):
        value = np.real(value)
    if type(target) is not np.ndarray and on_device(target):
        _scatter_add_elsewhere(target, index, value)
    elif _may_repeat(index):
        np.add.at(target, index, value)
    else:
        target[index] += value


def _may_repeat(index: Any) -> bool:
    if type(index) is int or type(index) is slice:
        return False
    if isinstance(index, tuple):
        return any(_may_repeat(part) for part in index)
    if isinstance(index, list):
        return True
    return getattr(index, "ndim", 0) > 0 and index.dtype.kind != "b"


def _scatter_add_elsewhere(target: Any, index: Any, value: Any) -> None:
    if hasattr(target, "place"):
        np.add.at(target, index, value)
        return
    import cupyx

    if target.dtype.kind == "c":  # a device adds numbers at once, but not complex ones
        cupyx.scatter_add(target.real, index, np.real(value))
        if is_complex(value):
            cupyx.scatter_add(target.imag, index, np.imag(value))
    elif target.ndim or not _may_repeat(index):
        cupyx.scatter_add(target, index, value)
    else:
        cupyx.scatter_add(target.reshape(1), index, value)


def add(cotangents: list[Any], owned: set[int], index: int, c: Any, form: Form, fresh: bool = False) -> None:
    """Add one contribution to a slot: the first is borrowed, the second allocates, the rest in place.

    Parameters
    ----------
    cotangents, owned : list, set
        The sums so far, and the slots whose sum is an array that nobody else can see.
    index : int
        The slot.
    c : array, Scatter or Item
        The contribution; arrays are already fitted.
    form : tuple or type
        The form of the slot.
    fresh : bool
        Whether ``c`` was allocated for this call, so that it may become the sum itself.
    """
    total = cotangents[index]
    kind = type(c)
    if kind is Scatter:
        if (
            type(c.index) is int
            and type(c.value) is np.float64
            and index in owned
            and type(total) is np.ndarray
        ):
            total[c.index] += c.value  # an element, one of many in a loop
        else:
            _add_scatter(cotangents, owned, index, c, form)
    elif kind is Item:
        if total is None:
            total = cotangents[index] = [None] * len(form)
        before = total[c.index]
        total[c.index] = c.value if before is None else before + c.value
    elif total is None:
        cotangents[index] = c
        if fresh and is_buffer(c):
            owned.add(index)
    elif type(total) is Pending:
        total.base = c if total.base is None else total.base + c
    elif index in owned and not hasattr(c, "place"):
        np.add(total, c, out=total)
    elif fresh and is_buffer(c) and is_buffer(total):
        cotangents[index] = np.add(total, c, out=c)
        owned.add(index)
    else:
        total = cotangents[index] = total + c
        if is_buffer(total):
            owned.add(index)
        else:
            owned.discard(index)


def _references(d: Any) -> int:
    return sys.getrefcount(d)


_FRESH = _references(np.empty(0))  # how many references an array has that was made for this call alone


def times(g: Any, d: Any) -> Any:
    """``g * d``, written over ``d`` where nothing else refers to it: a large temporary costs page faults.

    What a partial derivative has just computed has no other reference; what it only passed on has.
    """
    if (
        type(d) is np.ndarray
        and type(g) is np.ndarray
        and sys.getrefcount(d) <= _FRESH
        and d.base is None
        and d.shape == g.shape
        and d.dtype == g.dtype
        and d.flags.writeable
    ):
        return np.multiply(g, d, out=d)
    return g * d


def _add_scatter(cotangents: list[Any], owned: set[int], index: int, c: Scatter, form: Form) -> None:
    total = cotangents[index]
    if form is float or form is complex or form[0] == ():
        add(cotangents, owned, index, fit(c.value, form), form)
    elif type(total) is Pending:
        total.parts.append(c)
    elif index in owned and hasattr(total, "place"):  # a nested dual that is written in place: see `pull`
        scatter_add(total, c.index, c.value)
    elif hasattr(c.value, "place") or (total is not None and not is_buffer(total)):
        pending = cotangents[index] = Pending(total)
        owned.discard(index)
        pending.parts.append(c)
    else:
        if index not in owned:
            fresh = zeros(form, c.value)
            if not is_buffer(fresh):
                fresh = np.zeros(*form)
            if total is not None:
                np.add(fresh, total, out=fresh)
            total = cotangents[index] = fresh
            owned.add(index)
        scatter_add(total, c.index, c.value)


def complete(g: Any, form: Form) -> Any:
    """The finished sum of a slot as an array, or as a tuple of arrays without gaps."""
    if type(g) is Pending:
        indices = [part.index for part in g.parts]
        return scatter_sum(g.base, indices, [part.value for part in g.parts], *form)
    if type(g) is list:
        like = next(c for c in g if c is not None)
        return tuple(
            c if c is not None or f is None else zeros(f, like) for c, f in zip(g, form, strict=True)
        )
    return g


def settle(g: Any, form: Form, is_owned: bool) -> Any:
    """A cotangent as it leaves its job: complete; others may see it, so nobody writes to it."""
    del is_owned
    return complete(g, form)


def settle_owned(g: Any, form: Form, is_owned: bool) -> Any:
    """A cotangent as the user gets it: complete, and an array of its own."""
    g = complete(g, form)
    return g.copy(order="K") if is_buffer(g) and not is_owned else g
