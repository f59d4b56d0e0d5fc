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
    """The bytes of the arrays that a tape keeps, each once; a view counts for what it shows, as in Dask."""
    shown: dict[int, int] = {}  # {id of what owns memory: bytes that are seen of it}
    for array in arrays_on(tape):
        owner = memory(array)
        shown[id(owner)] = min(int(owner.nbytes), shown.get(id(owner), 96) + int(array.nbytes))
    records = sum(len(part.records or ()) for part in history(tape) if isinstance(part, Tape))
    return 128 * records + sum(shown.values())


def arrays_on(tape: Tape) -> list[Any]:
    """The arrays that a tape keeps, each once."""
    arrays: dict[int, Any] = {}
    stack: list[Any] = [part.records or () for part in history(tape) if isinstance(part, Tape)]
    while stack:
        part = stack.pop()
        if isinstance(part, tuple | list):
            stack.extend(part)
        elif isinstance(part, Dual):
            stack.append(part.value)
        # a tape that a loop keeps of a step, or that of a pullback
        elif isinstance(last := part if isinstance(part, Tape) else getattr(part, "last", None), Tape):
            stack.extend(inner.records or () for inner in history(last) if isinstance(inner, Tape))
        elif hasattr(part, "nbytes") and memory(part) is not None:
            arrays[id(part)] = part
    return list(arrays.values())


def size_of(tape: Tape | Stub) -> int:
    """The bytes of the records of one job."""
    return tape.size if isinstance(tape, Stub) else tape_bytes(tape.without_past())


def bytes_of(form: Any) -> int:
    """The bytes of an array of some form."""
    return math.prod(form[0]) * form[1].itemsize if type(form) is tuple else 8
