"""A tape is what one job recorded, as plain data, and `backward` is the sweep over it.

A *slot* ``(job, index)`` names one value that was computed: the compound node ID of Smeding and
Vakar (JFP 2025).  Indices count up within their job, so no two jobs ever have to agree on a number.

A *record* says how the value of its slot came about, as a tuple of one of these forms::

    (i, d)             scalar: contributes g * d to slot i                  [the paper's Contrib]
    (i, d, j, e)       scalar: contributes g * d to slot i and g * e to slot j
    (f, form, edges)   array: function, form of the result, and for each active operand an edge
                       (index, argument number, what the pullback of that argument keeps);
                       the index is a tuple where one pullback serves several operands
    (None, form, slot) leaf: a value that came from elsewhere, and the slot that it has there

The *form* of an array is ``(shape, dtype)``; of a Python scalar, its type.  There are no closures
here: a function stands for itself (NumPy's pickle by name) and is the key into the rule table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, fields
from time import perf_counter
from typing import Any

Job = tuple[Any, ...]
Slot = tuple[Job, int]
Home = tuple[Any, Job]  # (differentiation, job)
Record = tuple[Any, ...]
Cotangents = dict[Slot, Any]  # {foreign slot: cotangent}

INPUT: Job = ()  # the pseudo-job that owns the inputs of a differentiation


class Tape:
    """What one job recorded for one differentiation.

    Parameters
    ----------
    home : tuple
        ``(differentiation, job)``: every dual recorded here carries this very pair.
    records : list of Record, or None
        None marks a differentiation in forward mode, which records nothing.
    past : tuple of Tape
        The tapes that were closed when this one was opened: at a join, that of the job before and
        the last one of each branch.  So the last tape describes the whole program (the paper's job
        descriptor), built bottom-up, with no ledger to lock.
    """

    __slots__ = (
        *("__weakref__", "began", "forks", "held", "home", "leaves"),
        *("masks", "past", "records", "seconds", "started"),
    )

    def __init__(
        self, home: Home, records: list[Record] | None = None, past: tuple[Tape | Stub, ...] = ()
    ) -> None:
        self.home = home
        self.records = records
        self.leaves: dict[Slot, int] = {}  # {foreign slot: index of its leaf here}
        self.held: dict[int, Any] = {}  # {id: (plain array, sample of its content)}: see `held`
        self.forks = 0  # how many tasks this job has forked
        self.masks = False  # whether a function here selects (np.where): see `rules.registry`
        self.past = past
        self.seconds = 0.0  # that the job ran, without the time it waited for others
        self.began = perf_counter()
        self.started: dict[int, float] = {}  # {number of a task: after how many seconds it was forked}

    def __reduce__(self) -> tuple[Any, ...]:
        return packed(self)

    def without_past(self) -> Tape:
        """The same job by itself; `held` stays behind, for elsewhere nobody can write to its arrays."""
        copy = Tape(self.home, self.records)
        copy.leaves, copy.masks = self.leaves, self.masks
        copy.seconds, copy.started = self.seconds, self.started
        return copy

    def __repr__(self) -> str:
        size = "forward" if self.records is None else f"{len(self.records)} records"
        return f"<Tape of job {self.home[1]}: {size}>"


@dataclass(frozen=True, slots=True)
class Stub:
    """What the rest of the program knows of a tape that stays on the worker that made it.

    It is the paper's job descriptor: what the job used and which jobs came before, but no records.
    """

    home: Home
    forms: dict[Slot, Any]  # {foreign slot that the job used: its form}
    masks: bool
    past: tuple[Stub, ...]
    size: int  # bytes of the records
    seconds: float
    started: dict[int, float]
    label: str  # what the task is called
    worker: str  # the address where it ran
    resources: Any = None  # that the worker had to have, and that of the reverse pass has too
    where: Any = None  # what the tape can be had from (a future); None: from the task that tells of it

    def __reduce__(self) -> tuple[Any, ...]:
        return packed(self)


OUTSIDE = Tape((None, INPUT))

# The tapes of the job that runs here, one for each differentiation in progress, outermost first.
# A context variable, because Dask workers and par() run jobs in threads; never a global.
ACTIVE: ContextVar[tuple[Tape, ...]] = ContextVar("paradual.active", default=(OUTSIDE,))


def add_leaf(tape: Tape, slot: Slot, form: Any) -> int:
    """Import a foreign slot: the index of the leaf that stands for it on this tape.

    Parameters
    ----------
    tape : Tape
        The tape of the job that uses the value.
    slot : Slot
        Where the value was computed.
    form : tuple or type
        The form of the value.

    Returns
    -------
    int
        The same index for the same slot, however often it is used.
    """
    index = tape.leaves.get(slot)
    if index is None:
        assert tape.records is not None
        index = tape.leaves[slot] = len(tape.records)
        tape.records.append((None, form, slot))
    return index


def backward(
    tape: Tape,
    seeds: Iterable[tuple[int, Any]],
    pull: Callable[..., None],
    settle: Callable[[Any, Any, bool], Any],
    consume: bool = False,
    owned: Iterable[int] = (),
) -> Cotangents:
    """Sweep one tape, last record first: linear factoring, with arrays that accumulate.

    Each record is visited once, with the complete sum of its cotangents, because an operand
    always has a smaller index than its consumer.

    Parameters
    ----------
    tape : Tape
        What a job recorded.
    seeds : iterable of (int, array)
        Cotangents of slots of this job, each already in the form of its slot.
    pull : callable
        ``pull(records, cotangents, owned, index, g, consume)`` adds what one array record contributes.
    settle : callable
        ``settle(g, form, is_owned)``: a finished cotangent of a leaf, as it may leave the job.
    consume : bool
        Free each record once it was visited, so that memory falls as the sweep goes on.
    owned : iterable of int
        Slots whose seed is an array that nobody else can see, so that more may be added to it in place.

    Returns
    -------
    dict
        ``{foreign slot: cotangent}`` for the leaves that received any.
    """
    records = tape.records
    assert records is not None
    cotangents: list[Any] = [None] * len(records)
    owned = set(owned)  # slots whose cotangent is an array that nobody else can see
    found: Cotangents = {}
    for index, g in seeds:
        c = cotangents[index]
        cotangents[index] = g if c is None else c + g
    for index in range(len(records) - 1, -1, -1):
        g = cotangents[index]
        if g is None:
            if consume:
                records[index] = ()
            continue
        record = records[index]
        size = len(record)
        if size == 4:
            i, d, j, e = record
            c = cotangents[i]
            cotangents[i] = g * d if c is None else c + g * d
            c = cotangents[j]
            cotangents[j] = g * e if c is None else c + g * e
        elif size == 2:
            i, d = record
            c = cotangents[i]
            cotangents[i] = g * d if c is None else c + g * d
        elif record[0] is None:
            found[record[2]] = settle(g, record[1], index in owned)
        else:
            pull(records, cotangents, owned, index, g, consume)
        cotangents[index] = None
        if consume:
            records[index] = ()
    return found


def imports(tape: Tape | Stub) -> dict[Slot, Any]:
    """The foreign slots that a job used, with their forms."""
    if isinstance(tape, Stub):
        return tape.forms
    records = tape.records
    assert records is not None
    return {slot: records[index][1] for slot, index in tape.leaves.items()}


def history(tape: Tape | Stub) -> Iterator[Tape | Stub]:
    """Every tape of the program that ends with this one, in program order, this one last."""
    seen: set[int] = set()
    stack: list[tuple[Tape | Stub, bool]] = [(tape, False)]
    while stack:
        current, ready = stack.pop()
        if ready:
            yield current
        elif id(current) not in seen:
            seen.add(id(current))
            stack.append((current, True))
            stack.extend((before, False) for before in reversed(current.past))


def packed(last: Tape | Stub) -> tuple[Any, ...]:
    """How a history is pickled: as a list, for as a chain a long program is deeper than pickle can go."""
    places: dict[int, int] = {}
    rows: list[Any] = []
    for tape in history(last):
        places[id(tape)] = len(rows)
        if isinstance(tape, Stub):
            state: Any = {f.name: getattr(tape, f.name) for f in fields(Stub) if f.name != "past"}
        else:
            state = (tape.home, tape.records, tape.leaves, tape.masks, tape.seconds, tape.started)
        rows.append((type(tape), state, tuple(places[id(before)] for before in tape.past)))
    return unpacked, (rows,)


def unpacked(rows: list[Any]) -> Tape | Stub:
    """The last tape of a history that was pickled."""
    made: list[Any] = []
    for kind, state, before in rows:
        past = tuple(made[k] for k in before)
        if kind is Stub:
            made.append(Stub(past=past, **state))
        else:
            home, records, leaves, masks, seconds, started = state
            tape = Tape(home, records, past)
            tape.leaves, tape.masks, tape.seconds, tape.started = leaves, masks, seconds, started
            made.append(tape)
    last: Tape | Stub = made[-1]
    return last
