"""A dual pairs a value with the slot that it has on a tape.

This module says what a dual is and which differentiation it belongs to; `paradual.apply` what
happens when a function meets one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from paradual.arrays import Move, cast, form_of, is_buffer, shape_of
from paradual.errors import LeakedDualError, ParadualTypeError, user_line
from paradual.kin import Kin, kin_of, refresh, steady
from paradual.locality import beside, on_device
from paradual.tape import ACTIVE, Home, Tape, add_leaf


class Dual:
    """A value within a differentiation.

    Parameters
    ----------
    value : array or number
        The primal: a NumPy or CuPy array, a number, or a dual of an outer differentiation.
    home : tuple
        ``(differentiation, job)``: whose value this is, and which job computed it.
    place : int or array
        In reverse mode the index of its slot on that job's tape; in forward mode its tangent.
    """

    __slots__ = ("__weakref__", "home", "kin", "place", "value", "via")
    __array_priority__ = 1000.0
    __hash__ = None  # type: ignore[assignment]

    value: Any
    home: Home
    place: Any
    kin: Kin | None  # the duals that share its memory; of a Python float it may be unset
    via: tuple[Dual, Move]  # of a view: whose, and how it is derived; of others unset
    stale: type[Dual]  # what a view is while it does not know its slot

    def __init__(self, value: Any, home: Home, place: Any) -> None:
        self.value = value
        self.home = home
        self.place = place
        self.kin = None

    def __getstate__(self) -> tuple[Any, Home, Any]:
        return self.value, self.home, self.place

    def __setstate__(self, state: tuple[Any, Home, Any]) -> None:
        self.value, self.home, self.place = state
        self.kin = None

    def __copy__(self) -> Dual:
        place = self.place
        kin = kin_of(self)
        if kin is not None and kin.written and not isinstance(place, int):
            place = np.copy(place)  # the tangent is written in place as the value is
        return Dual(steady(self), self.home, place)

    def __deepcopy__(self, memo: Any) -> Dual:
        del memo
        return cast(self, self.value.dtype) if is_buffer(primal(self)) else self.__copy__()

    def __repr__(self) -> str:
        return f"Dual({self.value!r})"


class Stale(Dual):
    """A view whose owner was written: it derives its slot anew when it is asked for it.

    Not in `Dual` itself, because a class with a ``__getattr__`` finds its attributes three times as slowly.
    """

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        if name in ("value", "home", "place"):
            return refresh(self, name, Dual)
        raise AttributeError(f"'Dual' object has no attribute {name!r}")

    def __reduce__(self) -> Any:
        return Dual, (self.value, self.home, self.place)


Dual.stale = Stale
DUALS: Any = frozenset([Dual, Stale])


def primal(x: Any) -> Any:
    """The plain value of a dual of any depth; anything else as it is."""
    while x.__class__ in DUALS:
        x = x.value
    return x


def is_inexact(value: Any) -> bool:
    """Whether a value is of a floating-point type, so that it can carry a derivative."""
    dtype = getattr(value, "dtype", None)
    return dtype.kind in "fc" if dtype is not None else isinstance(value, float | complex)


def duals_in(values: Any) -> Iterator[Dual]:
    for value in values:
        if value.__class__ in DUALS:
            yield value
        elif isinstance(value, list | tuple):
            yield from duals_in(value)
        elif isinstance(value, dict):
            yield from duals_in(value.values())


def innermost(values: Any) -> Tape | None:
    """The tape of the innermost differentiation among some operands; None if there is no dual."""
    tapes = ACTIVE.get()
    found = -1
    for dual in duals_in(values):
        found = max(found, position(dual, tapes))
    return tapes[found] if found >= 0 else None


def position(dual: Dual, tapes: tuple[Tape, ...]) -> int:
    """How deep the differentiation of a dual is among those in progress here."""
    for k in range(len(tapes) - 1, 0, -1):
        if tapes[k].home[0] == dual.home[0]:
            return k
    raise LeakedDualError(
        f"a value of shape {shape_of(dual)} was used outside the differentiation that it belongs to"
        f"{user_line()}: it was kept (in a list, a global, an attribute, a generator) after grad, "
        "vjp, jvp or their like had returned, or reached a thread or process that does not take part. "
        "Return it from the function (has_aux=True), take paradual.stop_gradient(x) inside, or start "
        "the parallel work with paradual.par, map or submit"
    )


def lower(value: Any, tape: Tape) -> tuple[Any, Any]:
    """A value as this tape's operation sees it, and its place (None for a constant)."""
    if value.__class__ in DUALS:
        if value.home[0] != tape.home[0]:
            return value.__copy__(), None  # of an outer differentiation; `+=` must not reach the tape
        if tape.records is None or value.home == tape.home:
            return value.value, value.place
        return value.value, import_dual(value, tape)
    if isinstance(value, list | tuple):
        lowered = [lower(part, tape) for part in value]
        places = tuple(place for _, place in lowered)
        active = any(place is not None for place in places)
        return [part for part, _ in lowered], places if active else None
    return value, None


def import_dual(dual: Dual, tape: Tape) -> int:
    """The leaf of this tape that stands for a dual of another job."""
    return add_leaf(tape, (dual.home[1], dual.place), form_of(dual.value))


def lower_index(index: Any, like: Any = None) -> Any:
    """An index without duals: an index is discrete, so it is a constant.

    It is moved to the device of ``like``, once, and not each time that it is used.
    """
    if isinstance(index, tuple):
        return tuple(_lower_part(part, like) for part in index)
    return _lower_part(index, like)


def _lower_part(part: Any, like: Any) -> Any:
    if part is None or part is Ellipsis or isinstance(part, int | slice | np.generic):
        return part
    if isinstance(part, list | tuple):
        if any(on_device(p) for p in part):
            return np.stack([_lower_part(p, like) for p in part])
        return beside(np.asarray([_lower_part(p, None) for p in part], dtype=None if part else int), like)
    if part.__class__ in DUALS:
        part = primal(part)
        if part.dtype.kind not in "iub" if hasattr(part, "dtype") else not isinstance(part, int):
            raise ParadualTypeError(
                f"a value that is being differentiated cannot be an index{user_line()}: an index is an "
                "integer and carries no derivative. Write x[int(i)], or x[i.astype(int)]"
            )
    # a copy: the tape keeps it, and its owner may write to it
    return part.copy() if on_device(part) else beside(np.array(part), like)
