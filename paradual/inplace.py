"""Writing in place into a value that is being differentiated: `x[i] = v`, `x += y`, `out=x`, `np.add.at`.

The dual stays the same object, its value is written, and it takes on a new slot: that of a record which
says what was written where.  See `paradual.kin` for the views of an array.
"""

from __future__ import annotations

import inspect
import math
from functools import cache
from typing import Any

import numpy as np

from paradual.apply import call
from paradual.arrays import (
    Region,
    form_of,
    gain,
    is_buffer,
    is_complex,
    item,
    put,
    scatter_add,
    shape_of,
    within,
    zeros,
)
from paradual.dual import DUALS, Dual, import_dual, innermost, lower, lower_index, position, primal
from paradual.errors import NotDifferentiableError, ParadualTypeError, ParadualValueError, user_line
from paradual.kin import Kin, kin_of, root_of, stale, via_of
from paradual.locality import address, beside, counting, on_device, unravel
from paradual.rules.creation import stacked
from paradual.rules.modes import target_form
from paradual.tape import ACTIVE, Home, Tape


def setitem(x: Dual, index: Any, value: Any) -> None:
    """``x[index] = value``, with NumPy's semantics: every view of the memory changes with it."""
    index = lower_index(index, x)
    value = as_array(value)
    kin = kin_of(x)
    if (
        kin is not None
        and value.__class__ in DUALS
        and kin_of(value) is kin
        and _same_memory(x, index, value)
    ):
        return  # `x[i] += v` has written into the view x[i], and assigns it to itself
    if value.__class__ in DUALS and shape_of(value)[:1] == (1,):
        value = np.reshape(value, _without_ones(shape_of(value), shape_of(primal(x)[index])))
    write(x, index, value, put)


def write(x: Dual, index: Any, value: Any, how: Any) -> None:
    """Put a value (or add it: ``how`` is `put` or `gain`) at an index of an array, and record it.

    Parameters
    ----------
    x : Dual
        The array, or a view of it.
    index : index
        An index without duals.
    value : array or Dual
        What is written; NumPy's rules of broadcasting and casting apply.
    how : callable
        `paradual.arrays.put` or `paradual.arrays.gain`.

    Raises
    ------
    NotDifferentiableError
        If the array belongs to a task that this one was forked from, or shares memory in a way that is
        not known.
    """
    root, moves = root_of(x)
    tape = ACTIVE.get()[-1]
    if root.home is not tape.home or (value.__class__ in DUALS and value.home is not tape.home):
        tape = _tape_of_write(root, value)
    last = None
    if how is put and _may_repeat(index):
        if on_device(x):
            value, last = _settled(x, index, value)
        else:
            last = _last(shape_of(x), index)
    lowered, place = (value.value, value.place) if value.__class__ in DUALS else (value, None)
    if place is not None and value.home is not tape.home:
        lowered, place = lower(value, tape)
    kin = kin_of(root)
    if kin is None or not kin.written or kin.lent or kin.opaque:
        _seize(root)
    if lowered.__class__ in DUALS and root.value.__class__ not in DUALS:
        root.value = Dual(root.value, *nothing(ACTIVE.get()[position(lowered, ACTIVE.get())], root.value))
        _forget(root, True)
    _store(x.value, index, lowered, how)
    where = Region(moves, index) if moves else index
    records = tape.records
    if records is None:
        if place is not None or how is put:
            t = 0.0 if place is None else place
            if t.__class__ in DUALS and root.place.__class__ not in DUALS:
                root.place = Dual(root.place, *nothing(innermost([t]), root.place))
            _store(*within(root.place, Region(moves, index)), t, how)
    else:
        base = root.place if root.home is tape.home else import_dual(root, tape)
        keep = (where, last) if how is put else (where,)
        edges: Any = ((base, 0, keep),) if place is None else ((base, 0, keep), (place, 1, keep))
        tape.masks = True  # a NaN that was overwritten does not matter, as with np.where
        root.home, root.place = tape.home, len(records)
        records.append((how, target_form(records[base]), edges))
    _forget(root, False)


def _tape_of_write(root: Dual, value: Any) -> Tape:
    """The tape that a write is recorded on, where that is not simply the innermost one."""
    tapes = ACTIVE.get()
    inner = innermost([value])
    if inner is not None and position(root, tapes) < tapes.index(inner):
        _enter(root, inner)  # what is written belongs to an inner differentiation, and so does the array now
    tape = tapes[position(root, tapes)]
    _check_task(root, tape)
    return tape


def assign(target: Any, result: Any) -> Any:
    """``target += ...``: the array named target holds the result from now on, under all its names.

    A dual is mutable, as an array is: it takes on the value and the slot of the result.  A NumPy
    scalar or Python number is not, and the name is bound anew.
    """
    if not is_buffer(primal(target)):
        return result
    if result.shape != target.shape:
        raise ParadualValueError(
            f"a result of shape {result.shape} cannot be written into an array of shape {target.shape}"
        )
    if not np.can_cast(result.dtype, target.dtype, "same_kind"):
        raise ParadualTypeError(f"cannot write a result of {result.dtype} into {target.dtype}")
    if via_of(target) is not None or not _may_become(result, target):
        write(target, ..., result, put)
        return target
    tape = ACTIVE.get()[position(target, ACTIVE.get())]
    _check_task(target, tape)
    _check_writable(target)
    if result.dtype != target.dtype:
        result = result.astype(target.dtype)
    result = _as_buffer(result)
    if result.__class__ not in DUALS:
        target.value = result
        target.home, target.place = nothing(tape, result)
    else:
        target.value, target.home, target.place = result.value, result.home, result.place
    if kin_of(target) is not None:
        target.kin.written = target.kin.lent = False
        _forget(target, True)
    return target


def write_out(target: Any, result: Any) -> Any:
    """``out=target``, which must be an array."""
    if not is_buffer(primal(target)):
        raise TypeError("return arrays must be of ArrayType")
    return assign(target, result)


def split_out(f: Any, args: Any, kwargs: Any) -> tuple[Any, Any, Any]:
    """The dual that a function is to write its result into, if there is one, and its other arguments."""
    if kwargs.get("out").__class__ in DUALS:
        return kwargs["out"], args, {name: v for name, v in kwargs.items() if name != "out"}
    k = _place_of_out(f) if len(args) > 1 else None
    if k is not None and k < len(args) and args[k].__class__ in DUALS:
        return args[k], (*args[:k], None, *args[k + 1 :]), kwargs
    return None, args, kwargs


@cache
def _place_of_out(f: Any) -> int | None:
    """Where a function takes ``out``, if that may be given without its name."""
    try:
        parameters = inspect.signature(f).parameters.values()
    except ValueError:
        return None
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return names.index("out") if "out" in names else None


def ufunc_at(ufunc: Any, x: Any, index: Any, *operand: Any) -> None:
    """``ufunc.at(x, index, operand)``: in place, and as often as the index names an element."""
    if x.__class__ not in DUALS:
        raise NotDifferentiableError(
            f"np.{ufunc.__name__}.at into a plain array{user_line()}: it cannot hold a derivative. Create it "
            "with np.zeros_like(x), or np.zeros(shape, like=x), where x is being differentiated"
        )
    index = lower_index(index, x)
    if ufunc in (np.add, np.subtract):
        (value,) = map(as_array, operand)
        write(x, index, value if ufunc is np.add else -value, gain)
        return
    target: Any = x
    part = target[index]
    operand = tuple(np.broadcast_to(as_array(v), shape_of(part)) for v in operand)  # refuses what NumPy does
    if not _may_repeat(index):
        setitem(x, index, ufunc(part, *operand))
        return
    operand = tuple(np.copy(np.ravel(v)) for v in operand)  # it may be a view of x
    # each element as often as it occurs: first all first occurrences, then all second ones, ...
    numbers = _numbers(shape_of(x), index)
    flat = numbers.ravel()
    order = np.argsort(flat, kind="stable")
    first = np.searchsorted(flat[order], flat[order])
    rank = np.empty_like(order)
    rank[order] = np.arange(flat.size) - first
    for k in range(int(rank.max(initial=-1)) + 1):
        chosen = np.flatnonzero(rank == k)
        at = unravel(flat[chosen], shape_of(x))
        setitem(x, at, ufunc(target[at], *(v[chosen] for v in operand)))


def as_array(value: Any) -> Any:
    """What is written, as an array that its owner does not write to later."""
    return value.copy(order="K") if type(value) is np.ndarray else stacked(value)


def real_part(value: Any) -> Any:
    """What is written into the real or the imaginary part of an array."""
    value = as_array(value)
    if is_complex(value):
        raise ParadualTypeError(f"cannot write complex numbers into a real part{user_line()}: use np.real(x)")
    return value


# Functions that make a new array, with ``like=x`` or of the form of x: it can be written in place.
_NEW = """
    zeros_like ones_like empty_like full_like zeros ones empty full arange array asarray asanyarray
    ascontiguousarray asfortranarray eye identity tri fromfunction frombuffer fromiter fromstring
"""
CREATE = frozenset(getattr(np, name) for name in _NEW.split())


def created(f: Any, args: Any, kwargs: Any, like: Dual) -> Any:
    """What a function makes for ``like=``, as an array that can hold values: of a device, there."""
    result = call(f, args, kwargs)
    if on_device(like) and type(result) is np.ndarray:
        if f in (np.zeros, np.ones, np.empty):
            make = np.ones_like if f is np.ones else np.zeros_like
            result = make(primal(like), shape=result.shape, dtype=result.dtype)
        else:
            result = beside(result, like)
    return constant_like(like, result)


def constant_like(x: Dual, value: Any) -> Any:
    """A plain array as one that can hold values of a dual's differentiation, and of those around it."""
    if not isinstance(value, np.ndarray) and not is_buffer(value):
        return value
    if value.dtype.names:  # TypeError: Dask then does without (its argmax)
        raise ParadualTypeError(
            f"a structured array{user_line()} cannot hold a derivative: use an array for each field, in a "
            "dict"
        )
    if value.dtype.kind not in "fc":
        return value
    if x.value.__class__ in DUALS:
        value = constant_like(x.value, value)
    tape = ACTIVE.get()[position(x, ACTIVE.get())]
    return Dual(value, *nothing(tape, value))


class Flat:
    """``x.flat``: the elements of an array in C order."""

    __slots__ = ("_array",)

    def __init__(self, array: Dual) -> None:
        self._array: Any = array

    def __len__(self) -> int:
        return int(np.prod(shape_of(self._array), dtype=int))

    def __getitem__(self, index: Any) -> Any:
        return self._array[self._where(index)]  # a copy, as NumPy's

    def __setitem__(self, index: Any, value: Any) -> None:
        at = self._where(index)
        if not isinstance(index, int | np.integer):
            size = math.prod(np.broadcast_shapes(*map(shape_of, at))) if at else 1
            value = np.ravel(as_array(value))
            value = value[counting(size, like=value) % max(value.size, 1)]  # shorter ones are repeated
        setitem(self._array, at, value)

    def __iter__(self) -> Any:
        return (self[k] for k in range(len(self)))

    def copy(self) -> Any:
        """The elements, as an array."""
        return self._array.flatten()

    def _where(self, index: Any) -> Any:
        """The index into the array."""
        n = len(self)
        numbers: Any = index if isinstance(index, int) else lower_index(index, self._array)
        if isinstance(numbers, slice):
            numbers = counting(*numbers.indices(n), like=self._array)
        elif getattr(numbers, "dtype", np.dtype(type(numbers))).kind not in "iu":
            numbers = counting(n, like=self._array)[numbers]
        else:  # not by counting all elements: a loop over them costs O(1) a step
            if not on_device(numbers) and np.any((numbers < -n) | (numbers >= n)):
                raise IndexError(f"index {numbers} is out of bounds for size {n}")
            numbers = numbers % n if n else numbers
        return unravel(numbers, shape_of(self._array))


# --- the pieces -------------------------------------------------------------------------------------------


def _store(target: Any, index: Any, value: Any, how: Any) -> None:
    if how is put:
        target[index] = value
    elif target.__class__ in DUALS:
        write(target, index, value, how)
    else:
        np.broadcast_to(value, target[index].shape)  # refuses what NumPy refuses
        scatter_add(target, index, value)


def _seize(root: Dual) -> None:
    """Make the memory of an array its own, before it is written."""
    _check_writable(root)
    kin = kin_of(root)
    if kin is None:
        kin = root.kin = Kin()
    if kin.written and not kin.lent:
        return
    value = root.value
    root.value = value.__copy__() if value.__class__ in DUALS else value.copy(order="K")
    if not isinstance(root.place, int):  # its tangent
        root.place = root.place.__copy__() if root.place.__class__ in DUALS else _laid_out(root.place, value)
    kin.written, kin.lent = True, False
    _forget(root, True)


def _laid_out(t: Any, value: Any) -> Any:
    """A copy of a tangent with its value's layout in memory, so that what is a view of one is of both."""
    new = np.empty_like(primal(value), dtype=t.dtype)
    new[...] = t
    return new


def _forget(root: Dual, values: bool) -> None:
    if root.kin is not None and root.kin.views:
        stale(root.kin, values)


def _check_writable(x: Dual) -> None:
    value = primal(x)
    if not is_buffer(value):
        raise TypeError(f"{type(value).__name__!r} object does not support item assignment")
    if not getattr(getattr(value, "flags", None), "writeable", True):
        raise ValueError("assignment destination is read-only")
    kin = kin_of(x)
    if kin is not None and kin.opaque:
        kin.opaque[:] = [ref for ref in kin.opaque if ref() is not None]
        if kin.opaque:
            raise NotDifferentiableError(
                f"writing in place into an array with views{user_line()}: another array that is being "
                "differentiated (the real or imaginary part, or what a checkpoint or custom function "
                "returned) shares its memory and would change with it. Write x = x + y instead of x += y, "
                "or take a copy first: x = x.copy()"
            )


def _check_task(x: Dual, tape: Tape) -> None:
    there, here = x.home[1], tape.home[1]
    if there[: len(here) - 1] != here[:-1]:  # neither of this task nor of one that it has joined
        raise NotDifferentiableError(
            f"writing in place into an array that was made outside of this task or checkpoint{user_line()}: "
            "others may read it at the same time, and what is computed again would write it again. Take a "
            "copy first (x = x.copy()), or return what is to be written and write it outside"
        )


def _enter(root: Dual, inner: Tape) -> None:
    """Make an array of an outer differentiation one of an inner one, so that it can hold its values."""
    value = Dual(root.value, root.home, root.place)
    kin = kin_of(root)
    if kin is not None and kin.written:
        value = value.__copy__()
        value.value = value.value.copy(order="K") if is_buffer(value.value) else value.value.__copy__()
    root.value = value
    root.home, root.place = nothing(inner, value)
    if kin is not None:
        kin.written = kin.lent = False
        _forget(root, True)


def nothing(tape: Any, value: Any) -> tuple[Home, Any]:
    """A slot that nothing flows into."""
    if tape.records is None:
        return tape.home, zeros(form_of(value), value)
    tape.records.append((item, form_of(value), ()))
    return tape.home, len(tape.records) - 1


def _may_become(result: Any, target: Dual) -> bool:
    """Whether a result can be an array's memory from now on: nobody else's, and laid out as it was.

    The layout decides whether a later ``y.reshape(-1)`` is a view.
    """
    there, here = primal(result), primal(target)
    if not is_buffer(there) or there.base is not None or getattr(result, "kin", None) is not None:
        return False
    return bool(there.strides == here.strides)


def _as_buffer(result: Any) -> Any:
    """NumPy turns 0-d results into scalars; what is written into a 0-d array is one still."""
    if result.__class__ in DUALS:
        return Dual(_as_buffer(result.value), result.home, result.place)
    return result if is_buffer(result) else np.asarray(result)


def _same_memory(x: Dual, index: Any, value: Dual) -> bool:
    there, here = primal(x)[index], primal(value)
    return (
        is_buffer(there)
        and there.dtype == here.dtype  # the real part begins where its array does
        and there.shape == here.shape
        and there.strides == here.strides
        and address(there) == address(here)
    )


def _without_ones(shape: tuple[int, ...], room: tuple[int, ...]) -> tuple[int, ...]:
    while len(shape) > len(room) and shape[0] == 1:
        shape = shape[1:]
    return shape


def _may_repeat(index: Any) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    return any(getattr(part, "ndim", 0) and part.dtype.kind in "iu" for part in parts)


def _numbers(shape: Any, index: Any) -> Any:
    """The number of each element that an index names, in C order of the array."""
    parts = index if isinstance(index, tuple) else (index,)
    if len(parts) == len(shape) and all(_is_integral(part) for part in parts):
        numbers: Any = 0  # not by counting all elements: a loop over them costs O(1) a step
        for n, part in zip(shape, parts, strict=True):
            numbers = numbers * n + np.where(part < 0, part + n, part).astype(np.intp)
        return numbers
    return np.arange(int(np.prod(shape, dtype=int))).reshape(shape)[index]


def _is_integral(part: Any) -> bool:
    return type(part) is int or getattr(getattr(part, "dtype", None), "kind", "") in ("i", "u")


def _settled(x: Dual, index: Any, value: Any) -> tuple[Any, Any]:
    """What a device writes where an index may name an element twice, and which of the values that is.

    A device writes them in no order.  So it is asked once, with numbers, which of them stays; that one is
    written to the element each time, and it alone gets the cotangent.
    """
    plain = primal(x)
    shape = plain[index].shape
    numbers = counting(math.prod(shape), like=plain).reshape(shape)
    written = np.zeros_like(plain, dtype=numbers.dtype)
    written[index] = numbers
    stays = written[index]
    if shape_of(value):
        value = np.ravel(np.broadcast_to(value, shape))[stays]
    return value, stays == numbers


def _last(shape: Any, index: Any) -> Any:
    """Where an index names an element for the last time, if it names any of them twice: that write stays."""
    numbers = _numbers(shape, index)
    flat = numbers.ravel()
    seen = np.unique(flat[::-1], return_index=True)[1]
    if len(seen) == len(flat):
        return None
    last = np.zeros(len(flat), bool)
    last[len(flat) - 1 - seen] = True
    return last.reshape(numbers.shape)
