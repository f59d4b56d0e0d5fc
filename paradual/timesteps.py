"""The steps of a loop: each is recorded as a job of its own, and reversed by itself.

What enters a step is the state, as slots of a job that has the loop's name, and what the step has captured.
So the reverse of a step takes cotangents of the state after it to those of the state before it, and adds to
those of what was captured, in the reversed order of the program.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from paradual.arrays import add, complete, form_of, is_buffer, shape_of
from paradual.custom import imports_of, recording, relate_all
from paradual.dual import DUALS, Dual, is_inexact, primal
from paradual.errors import ParadualTypeError, ParadualValueError, user_line
from paradual.kin import shared
from paradual.reverse import reverse
from paradual.snapshots import Spool, copied
from paradual.tape import ACTIVE, Job, Slot, Tape, history
from paradual.trees import flatten, is_array, paths, unflatten
from paradual.work import sweep_once

Function = Callable[..., Any]


class Program(NamedTuple):
    """What a loop is, whenever it runs."""

    step: Function
    observe: Function | None
    structure: Any
    kinds: tuple[Any, ...]
    differentiation: Any
    prefix: Job
    folder: Any


class Recorded(NamedTuple):
    """A step that can be reversed: its last tape, and the slots of what it returned."""

    last: Tape
    slots: tuple[Slot | None, ...]
    fresh: bool  # whether the tape may be emptied by the sweep


class Run:
    """How far one pass over the steps of a loop is, and what is at hand.

    Attributes
    ----------
    position, values, active : int, list, tuple
        The step that is due, the leaves of the state before it, and which of them are duals of the loop.
    sharing : list
        Of the leaves that share memory with other duals, the duals that the step before has returned.
    tapes : dict of Recorded
        The steps that can be reversed.
    stored : dict
        ``{(step, storage): (values, active, observed, tapes)}``: what was put away.
    sums : dict
        Of states at the ends of stretches, what tells whether they are the same when they are reached again.
    used : dict
        The slots that the steps have captured, with their forms.
    """

    __slots__ = (
        *("active", "cotangents", "given", "left", "marks", "mine", "observed", "owned", "position"),
        *("program", "seen", "sharing", "spool", "starts", "stored", "sums", "tapes", "totals"),
        *("trees", "used", "values", "wanted"),
    )

    def __init__(self, program: Program, wanted: dict[Slot, Any] | None) -> None:
        self.program = program
        self.position: int | None = None
        self.values: list[Any] = []
        self.active: tuple[bool, ...] = ()
        self.sharing: list[Any] = []
        self.tapes: dict[int, Recorded] = {}
        self.stored: dict[tuple[int, int], Any] = {}
        self.sums: dict[int, Any] = {}
        self.spool: Spool | None = None
        self.observed = 0j, 0.0, 0.0  # of all observations: their sum, its size, and how exact it is
        # of the forward pass
        self.wanted = wanted  # of the reverse pass: what the forward pass has captured
        self.used: dict[Slot, Any] = {} if wanted is None else wanted
        self.seen: list[Any] = []  # the leaves of all observations
        self.marks: list[tuple[bool, ...]] = []  # and which of them are duals of the loop, by step
        self.trees: list[Any] = []  # and their structure
        # of the reverse pass
        self.left = 0  # how many steps are still to be reversed
        self.cotangents: list[Any] = []  # of the state at hand
        self.mine: list[bool] = []  # which of them nobody else can see
        self.given: Any = ()  # of the observations
        self.starts: Any = ()  # where those of a step begin
        self.totals: dict[Slot, Any] = {}  # of what was captured
        self.owned: set[Slot] = set()


def not_repeated(run: Run, i: int) -> ParadualValueError:
    step = run.program.step
    return ParadualValueError(
        f"the step {getattr(step, '__name__', step)!r} of a loop gave other values when it was called again "
        f"in the reverse pass (noticed after step {i}): it must do the same each time (no random numbers, no "
        "state that changes beside the loop's own, no captured array that is written to)"
    )


def senseless(what: str) -> ParadualValueError:
    return ParadualValueError(
        f"the schedule of a loop does not lead through all steps and back: {what}. A schedule that keeps "
        "nothing is for loops without a reverse pass"
    )


def kind_of(leaf: Any) -> Any:
    """Shape and dtype of a leaf of the state; None of what is neither a number nor an array."""
    value = primal(leaf)
    if not is_array(value):
        return None
    dtype = getattr(value, "dtype", None)
    return shape_of(value), np.dtype(type(value)) if dtype is None else dtype


def check_state(state: Any, i: int, structure: Any, kinds: Any) -> list[Any]:
    """The leaves of the state that a step returned."""
    leaves, found = flatten(state)
    if found != structure:
        raise ParadualTypeError(
            f"step {i} of a loop{user_line()} returned a state of the structure {found}, but the loop began "
            f"with {structure}: a step returns what it is given, with other values"
        )
    for k, (leaf, kind) in enumerate(zip(leaves, kinds, strict=True)):
        if kind_of(leaf) != kind:
            raise _changed(state, k, leaf, kind, i)
    return leaves


def _changed(state: Any, k: int, leaf: Any, kind: Any, i: int) -> Exception:
    name = f"the leaf state{paths(state)[k]}" if paths(state)[k] else "the state"
    before = "no array" if kind is None else f"of shape {kind[0]} and dtype {kind[1]}"
    now = kind_of(leaf)
    after = f"a {type(leaf).__name__}" if now is None else f"of shape {now[0]} and dtype {now[1]}"
    message = f"step {i} of a loop{user_line()} changed {name}: it was {before}, and is {after}. "
    if kind is not None and now is not None and kind[0] != now[0]:
        return ParadualValueError(message + "Begin with a state of the shape that the steps return")
    return ParadualTypeError(
        message + "Cast it in the step, or begin with a state of the dtype that the steps return"
    )


# --- one step -------------------------------------------------------------------------------------------


def advance(run: Run, i: int) -> Recorded:
    """Run a step, as a job of its own, and make what it returns the state at hand."""
    program = run.program
    tape = Tape((program.differentiation, (*program.prefix, i, 0)), [])
    leaves, seen, tree, last = _call(program, tape, i, _duals(run, tape))
    homes = {part.home for part in history(last)}
    _note_captured(run, last, homes, i)
    slots = tuple([_slot(leaf, homes, run, i) for leaf in leaves])
    run.active = tuple([slot is not None for slot in slots])
    run.sharing = [
        leaf if slot is not None and shared(leaf) else None for leaf, slot in zip(leaves, slots, strict=True)
    ]
    run.values = [leaf if slot is None else leaf.value for leaf, slot in zip(leaves, slots, strict=True)]
    run.position = i + 1
    if tree is not None:
        observed = tuple([_slot(leaf, homes, run, i) for leaf in seen])
        slots += observed
        _note_observed(run, seen)
        marks = tuple([slot is not None for slot in observed])
        if run.wanted is None:
            run.seen.extend(copied(leaf) for leaf in seen)
            run.trees.append(run.trees[-1] if run.trees and run.trees[-1] == tree else tree)
            run.marks.append(run.marks[-1] if run.marks and run.marks[-1] == marks else marks)
        elif run.marks[i] != marks:
            raise not_repeated(run, i)
    return Recorded(last, slots, True)


def _duals(run: Run, tape: Tape) -> Any:
    """The state at hand, on the tape of the step that is to use it."""
    state = (*run.program.prefix, "state")
    leaves = list(run.values)
    for k, on in enumerate(run.active):
        if on:
            value = leaves[k]
            slot = (state, k)
            assert tape.records is not None
            tape.leaves[slot] = len(tape.records)
            leaves[k] = Dual(value, tape.home, len(tape.records))
            tape.records.append((None, form_of(value), slot))
    if run.sharing:
        own = [leaf for leaf, on in zip(leaves, run.active, strict=True) if on]
        related = [leaf for leaf in run.sharing if leaf is not None]
        if related or len(own) > 1:
            relate_all(related, own)
    return unflatten(run.program.structure, leaves)


def _call(program: Program, tape: Tape, i: int, state: Any) -> tuple[list[Any], list[Any], Any, Tape]:
    """Call the step, as a job of its own: what it returns, its last tape."""
    with recording(tape):
        state = program.step(i, state)
        leaves = check_state(state, i, program.structure, program.kinds)
        seen: list[Any] = []
        tree = None
        if program.observe is not None:
            seen, tree = flatten(program.observe(i, state))
            leaves = flatten(state)[0]  # it may have put other values into a list or dict
        for leaf in (*leaves, *seen):
            if leaf.__class__ in DUALS:
                _ = leaf.place  # a view of what was written derives its slot now, on this tape
        return leaves, seen, tree, ACTIVE.get()[-1]


def _slot(leaf: Any, homes: set[Any], run: Run, i: int) -> Slot | None:
    """The slot of what a step returned; None for a constant, and for what it only passed on from outside."""
    if leaf.__class__ not in DUALS or leaf.home[0] != run.program.differentiation:
        return None
    if leaf.home in homes:
        return leaf.home[1], leaf.place
    _check_foreign(leaf.home[1], run, i)
    return None


def _note_captured(run: Run, last: Tape, homes: set[Any], i: int) -> None:
    prefix = run.program.prefix
    for slot, form in imports_of(last).items():
        if slot[0][: len(prefix)] == prefix:
            if slot[0] != (*prefix, "state"):
                _check_foreign(slot[0], run, i)
        elif slot not in run.used:
            if run.wanted is not None:
                raise not_repeated(run, i)
            run.used[slot] = form


def _note_observed(run: Run, seen: list[Any]) -> None:
    total, size, eps = run.observed
    with np.errstate(all="ignore"):
        for value in map(primal, seen):
            if is_inexact(value):
                total = total + np.sum(value)  # on the device of what is observed: it is not waited for
                size = size + np.sum(np.abs(value))
                eps = max(eps, float(np.finfo(np.result_type(value)).eps))
    run.observed = total, size, eps


def _check_foreign(job: Job, run: Run, i: int) -> None:
    prefix = run.program.prefix
    if job[: len(prefix)] == prefix:
        raise ParadualValueError(
            f"step {i} of a loop{user_line()} uses a value that another step has computed and that did not "
            "come with the state (it was kept in a list, an attribute, a variable of an enclosing function): "
            "it is gone when the step is reversed. Make it part of the state, or an observation"
        )


# --- its reverse ----------------------------------------------------------------------------------------


def reverse_step(run: Run, i: int, clear: bool) -> None:
    """Take the cotangents of the state after a step to those of the state before it."""
    recorded = run.tapes.pop(i, None)
    if recorded is None:
        raise senseless(f"it reverses step {i}, of which nothing is recorded")
    if not clear:
        recorded = recorded._replace(fresh=False)
        run.tapes[i] = recorded
    size = len(run.program.kinds)
    given: list[Any] = list(run.given[run.starts[i] : run.starts[i + 1]]) if run.marks else []
    owned = [*run.mine, *(False for _ in given)]
    seeds = []
    for slot, c, own in zip(recorded.slots, [*run.cotangents, *given], owned, strict=True):
        if c is not None:
            if slot is None:
                raise not_repeated(run, i)
            seeds.append((slot, c, own))
    run.cotangents, run.mine = [None] * size, [False] * size
    if not seeds:
        return
    for slot, (c, own) in _sweep(run, recorded, seeds):
        if slot[0] == (*run.program.prefix, "state"):
            run.cotangents[slot[1]] = c
            run.mine[slot[1]] = own
        elif slot in run.totals:
            box, flags = [run.totals[slot]], {0} if slot in run.owned else set()
            add(box, flags, 0, c, run.used[slot])
            run.totals[slot] = box[0]
            run.owned = run.owned | {slot} if flags else run.owned - {slot}
        else:
            run.totals[slot] = c
            if own:
                run.owned.add(slot)


def _sweep(run: Run, recorded: Recorded, seeds: list[Any]) -> Iterator[tuple[Slot, Any]]:
    """Sweep the tapes of a step: for each foreign slot its cotangent, and whether nobody else can see it.

    Where that is possible, what was found for the captured slots goes in, and comes out with more added: so
    contributions are added one by one, as they would be without the loop, and in place.
    """
    tape, fresh = recorded.last, recorded.fresh
    if tape.past or tape.masks or len({slot for slot, _, _ in seeds}) < len(seeds):
        found = reverse(tape, [(slot, c) for slot, c, _ in seeds], consume=fresh)
        for slot, c in found.items():
            yield slot, (c, False)
        return
    start = {slot[1]: c for slot, c, _ in seeds}
    mine = {slot[1] for slot, _, own in seeds if own}
    for slot, index in tape.leaves.items():
        if slot in run.totals and index not in start:
            start[index] = run.totals.pop(slot)
            if slot in run.owned:
                run.owned.discard(slot)
                mine.add(index)
    seeds.clear()
    for slot, (c, own, form) in sweep_once(tape, start, _as_it_is, fresh, mine).items():
        if slot[0] == (*run.program.prefix, "state"):
            c = complete(c, form)
        yield slot, (c, own)


def _as_it_is(g: Any, form: Any, is_owned: bool) -> Any:
    return g, is_owned and is_buffer(g), form


__all__ = [
    "Program",
    "Recorded",
    "Run",
    "advance",
    "check_state",
    "kind_of",
    "not_repeated",
    "reverse_step",
    "senseless",
]
