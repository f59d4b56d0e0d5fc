"""What Dask must know about duals and tapes: their sizes, by which it places and spills them."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

from dask.sizeof import sizeof

from paradual.arrays import memory
from paradual.dual import Dual
from paradual.parcels import Parcel
from paradual.tape import Stub, Tape, history
from paradual.trees import flatten


@cache
def register() -> None:
    """Tell Dask about our types, once a process: sizes drive spilling and placement."""

    @sizeof.register(Dual)
    def _sizeof_dual(dual: Any) -> int:
        return 64 + sizeof(dual.value) + (0 if isinstance(dual.place, int) else sizeof(dual.place))

    @sizeof.register(Tape)
    def _sizeof_tape(tape: Any) -> int:
        return tape_bytes(tape)

    @sizeof.register(Parcel)
    def _sizeof_parcel(parcel: Any) -> int:
        return 64 + sum(sizeof(leaf) for leaf in flatten(parcel.value)[0])


def tape_bytes(tape: Tape) -> int:
    """The bytes that a tape keeps alive, each array once."""
    seen: dict[int, Any] = {}

    def visit(part: Any) -> int:
        if isinstance(part, tuple | list):
            return 16 + sum(visit(p) for p in part)
        if isinstance(part, Dual):
            return visit(part.value)
        if not hasattr(part, "nbytes"):
            return 8
        owner = memory(part)
        if owner is None or id(owner) in seen:
            return 8
        seen[id(owner)] = owner
        return int(owner.nbytes) + 96

    return sum(visit(t.records or ()) for t in history(tape) if isinstance(t, Tape))


def size_of(tape: Tape | Stub) -> int:
    """The bytes of the records of one job."""
    return tape.size if isinstance(tape, Stub) else tape_bytes(tape.without_past())


def bytes_of(form: Any) -> int:
    """The bytes of an array of some form."""
    return math.prod(form[0]) * form[1].itemsize if type(form) is tuple else 8
