"""Time loops in bounded memory: `loop` keeps the states that a schedule names, and computes the rest again.

In reverse mode a loop is one record on the tape.  Each of its steps is recorded as a job of its own: what
enters is the state, as slots of a job that has the loop's name, and what the step has captured.  So the
reverse of a step takes cotangents of the state after it to those of the state before it, and adds to those
of what was captured, in the reversed order of the program.  The tape of a step lives until the step is
reversed or no longer wanted; the rows of `paradual.schedules` say when.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from paradual.apply import record_step
from paradual.arrays import add, complete, form_of, is_buffer, shape_of
from paradual.custom import imports_of, place_of, relate_all, same_sums, sums_of
from paradual.dual import DUALS, Dual, import_dual, primal
from paradual.errors import InternalError, ParadualTypeError, ParadualValueError, user_line
from paradual.held import check_held
from paradual.kin import shared, steady
from paradual.reverse import reverse
from paradual.rules.modes import pull, pull_last
from paradual.rules.registry import RULES, Rule
from paradual.schedules import (
    COPY,
    DISK,
    FORWARD,
    MOVE,
    NOWHERE,
    REVERSE,
    STATE,
    TAPES,
    WORK,
    Rows,
    check_schedule,
    rows_of,
    uses_disk,
)
from paradual.snapshots import Spool, copied, fetched, put_away
from paradual.tape import ACTIVE, Job, Slot, Tape, backward, history
from paradual.trees import flatten, is_array, paths, unflatten

Function = Callable[..., Any]


def loop(
    step: Function,
    state: Any,
    n: int,
    schedule: Any = None,
    *,
    observe: Function | None = None,
    folder: str | os.PathLike[str] | None = None,
) -> Any:
    """Run ``state = step(i, state)`` for i in range(n), with a reverse pass in bounded memory.

    Parameters
    ----------
    step : callable
        ``step(i, state)`` returns the next state: the same structure, shapes and dtypes.  It gives the same
        result when it is called again; it may capture values that are being differentiated, and fork tasks.
    state : pytree
        The first state; arrays in it are not written to, even if the steps write into theirs.
    n : int
        How many steps.
    schedule : checkpoint_schedules.CheckpointSchedule, optional
        What is kept of the forward pass, and when steps are computed again.  By default the states of every
        sqrt(n)-th step: memory for 2 sqrt(n) steps, and each step is computed twice.
    observe : callable, optional
        ``observe(i, state)`` is called after each step with the state that it returned; what it returns is
        copied.
    folder : path, optional
        Where the schedule's snapshots on disk go, as files without a name; by default the directory for
        temporary files.

    Returns
    -------
    pytree
        The last state; with ``observe`` the tuple of it and the list of the n observations.

    Raises
    ------
    ParadualTypeError, ParadualValueError
        If a step changes the state's structure, shapes or dtypes; if n or the schedule do not fit; if the
        folder cannot be used; in the reverse pass, if a step did something else when it was called again.

    Notes
    -----
    The schedules of ``checkpoint_schedules`` (``pip install 'paradual[schedules]'``) are those of Griewank
    and Walther (ACM TOMS 26, 2000) and its successors.  Memory is bounded for the innermost reverse mode;
    forward mode, alone or over reverse mode, keeps nothing more.

    Examples
    --------
    >>> import paradual as pdl
    >>> pdl.grad(lambda x: loop(lambda i, s: s * x, 1.0, 3))(2.0)
    12.0
    """
    n = _count(n)
    _check_call(step, observe, folder)
    check_schedule(schedule, n)
    leaves, structure = flatten(state)
    tape = ACTIVE.get()[-1]
    kinds = tuple(_kind(leaf) for leaf in leaves)
    if tape.records is None or n == 0:
        return _plain(step, observe, unflatten(structure, map(copied, leaves)), n, (structure, kinds))
    differentiation, job = tape.home
    prefix = (*job, "loop", tape.forks)
    tape.forks += 1
    program = Program(step, observe, structure, kinds, differentiation, prefix, folder)
    rows, again = rows_of(schedule, n)
    run = Run(program, None)
    if uses_disk(rows) or uses_disk(again):
        run.spool = Spool(folder)  # before the first step, so that it fails early
    run.position = 0
    run.active = tuple(leaf.__class__ in DUALS and leaf.home[0] == differentiation for leaf in leaves)
    run.values = [steady(leaf) if on else copied(leaf) for leaf, on in zip(leaves, run.active, strict=True)]
    places = [_place(leaf, tape) for leaf, on in zip(leaves, run.active, strict=True) if on]
    first = run.active
    del leaves, state
    _follow(run, rows)
    if run.position != n:
        raise _incomplete(n)
    places.extend(place_of(tape, slot, form) for slot, form in run.used.items())
    results = [value if on else None for value, on in zip(run.values, run.active, strict=True)]
    results.extend(
        leaf.value if on else None
        for leaf, on in zip(run.seen, (on for row in run.marks for on in row), strict=True)
    )
    outs = [*run.values, *run.seen]
    parts: list[Any] = [None] * len(results)
    if any(part is not None for part in results):
        kept = [(*key, *entry) for key, entry in run.stored.items()]
        tapes = list(run.tapes.items())
        sums = list(run.sums.items())
        keep = (
            program,
            n,
            again,
            first,
            tuple(run.used),
            tuple(run.used.values()),
            run.marks,
            kept,
            tapes,
            sums,
        )
        parts = record_step(tape, _looped, results, ((tuple(places), 0, keep),))
        relate_all([leaf for leaf in run.sharing if leaf is not None], parts)
    merged = [out if part is None else part for part, out in zip(parts, outs, strict=True)]
    final = unflatten(structure, merged[: len(kinds)])
    if observe is None:
        return final
    rest = iter(merged[len(kinds) :])
    return final, [unflatten(tree, [next(rest) for _ in range(tree.num_leaves)]) for tree in run.trees]


def _plain(step: Function, observe: Function | None, state: Any, n: int, form: Any) -> Any:
    """The loop where nothing is recorded."""
    seen = []
    for i in range(n):
        state = step(i, state)
        if observe is not None:
            leaves, structure = flatten(observe(i, state))
            seen.append(unflatten(structure, map(copied, leaves)))
        _check_state(state, i, *form)
    return state if observe is None else (state, seen)


# --- what is given ----------------------------------------------------------------------------------------


def _count(n: Any) -> int:
    if isinstance(n, bool | np.bool_) or n.__class__ in DUALS or not hasattr(n, "__index__"):
        raise ParadualTypeError(f"the number of steps of a loop is an int, not a {type(n).__name__}")
    number = operator.index(n)
    if number < 0:
        raise ParadualValueError(f"a loop cannot have {number} steps: give a number that is not negative")
    return number


def _check_call(step: Any, observe: Any, folder: Any) -> None:
    if not callable(step):
        raise ParadualTypeError(
            f"the step of a loop is called, step(i, state): it is a {type(step).__name__}"
        )
    if observe is not None and not callable(observe):
        raise ParadualTypeError(f"observe is called, observe(i, state): it is a {type(observe).__name__}")
    if folder is not None and not isinstance(folder, str | os.PathLike):
        raise ParadualTypeError(f"folder is the path of a directory, not a {type(folder).__name__}")


def _kind(leaf: Any) -> Any:
    """Shape and dtype of a leaf of the state; None of what is neither a number nor an array."""
    value = primal(leaf)
    if not is_array(value):
        return None
    dtype = getattr(value, "dtype", None)
    return shape_of(value), np.dtype(type(value)) if dtype is None else dtype


def _check_state(state: Any, i: int, structure: Any, kinds: Any) -> list[Any]:
    """The leaves of the state that a step returned."""
    leaves, found = flatten(state)
    if found != structure:
        raise ParadualTypeError(
            f"step {i} of a loop{user_line()} returned a state of the structure {found}, but the loop began "
            f"with {structure}: a step returns what it is given, with other values"
        )
    for k, (leaf, kind) in enumerate(zip(leaves, kinds, strict=True)):
        if _kind(leaf) != kind:
            raise _changed(state, k, leaf, kind, i)
    return leaves


def _changed(state: Any, k: int, leaf: Any, kind: Any, i: int) -> Exception:
    name = f"the leaf state{paths(state)[k]}" if paths(state)[k] else "the state"
    before = "no array" if kind is None else f"of shape {kind[0]} and dtype {kind[1]}"
    now = _kind(leaf)
    after = f"a {type(leaf).__name__}" if now is None else f"of shape {now[0]} and dtype {now[1]}"
    message = f"step {i} of a loop{user_line()} changed {name}: it was {before}, and is {after}. "
    if kind is not None and now is not None and kind[0] != now[0]:
        return ParadualValueError(message + "Begin with a state of the shape that the steps return")
    return ParadualTypeError(
        message + "Cast it in the step, or begin with a state of the dtype that the steps return"
    )


def _place(leaf: Dual, tape: Tape) -> int:
    return leaf.place if leaf.home == tape.home else import_dual(leaf, tape)


# --- one pass over the steps ------------------------------------------------------------------------------


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
        ``{(step, storage): (values, active, tapes)}``: what was put away.
    sums : dict
        Of states at the ends of stretches, what tells whether they are the same when they are reached again.
    used : dict
        The slots that the steps have captured; None: not yet all of them.
    """

    __slots__ = (
        *(
            "active",
            "cotangents",
            "given",
            "marks",
            "mine",
            "owned",
            "position",
            "program",
            "seen",
            "sharing",
        ),
        *("spool", "starts", "stored", "sums", "tapes", "totals", "trees", "used", "values", "wanted"),
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
        # of the forward pass
        self.wanted = wanted  # of the reverse pass: what the forward pass has captured
        self.used: dict[Slot, Any] = {} if wanted is None else wanted
        self.seen: list[Any] = []  # the leaves of all observations
        self.marks: list[tuple[bool, ...]] = []  # and which of them are duals of the loop, by step
        self.trees: list[Any] = []  # and their structure
        # of the reverse pass
        self.cotangents: list[Any] = []  # of the state at hand
        self.mine: list[bool] = []  # which of them nobody else can see
        self.given: Any = ()  # of the observations
        self.starts: Any = ()  # where those of a step begin
        self.totals: dict[Slot, Any] = {}  # of what was captured
        self.owned: set[Slot] = set()


def _follow(run: Run, rows: Rows) -> None:
    """Do what the rows of a schedule say."""
    for row in rows:
        kind, a, b, c = row.tolist()
        if kind == FORWARD:
            _forward(run, a, b, c % 4, c // 4)
        elif kind == REVERSE:
            run.position, run.values, run.sharing = None, [], []
            for i in range(a - 1, b - 1, -1):
                _reverse_step(run, i, bool(c))
                run.sums.pop(i + 1, None)  # that state is not reached again
        else:
            assert kind in (COPY, MOVE)
            _transfer(run, a, b, c, kind == MOVE)


def _forward(run: Run, n0: int, n1: int, keeps: int, storage: int) -> None:
    if run.position != n0:
        raise InternalError(f"the schedule of a loop runs step {n0}, but the state is that of {run.position}")
    before = _snapshot(run) if keeps & STATE else None
    active, tapes = run.active, []
    if before is not None and storage == DISK:
        before = [put_away(value, _spool(run)) for value in before]
    for i in range(n0, n1):
        recorded = _advance(run, i)
        if keeps & TAPES:
            if storage == WORK:
                run.tapes[i] = recorded
            else:
                tapes.append((i, _tapes_away(recorded, _spool(run)) if storage == DISK else recorded))
        del recorded
    if before is not None or tapes:
        run.stored[n0, storage] = before, active, tapes
    _check_again(run, n1)


def _transfer(run: Run, n: int, source: int, target: int, move: bool) -> None:
    found = run.stored.pop((n, source), None) if move else run.stored.get((n, source))
    if found is None:
        raise InternalError(f"the schedule of a loop asks for step {n}, of which nothing is kept")
    values, active, tapes = found
    if target == WORK:
        if values is not None:
            run.position, run.active, run.sharing = n, active, []
            run.values = [
                value if on else copied(value) for value, on in zip(map(fetched, values), active, strict=True)
            ]
        for i, recorded in tapes:
            run.tapes[i] = _tapes_back(recorded)
    elif target != NOWHERE:
        if target == DISK:
            values = None if values is None else [put_away(value, _spool(run)) for value in values]
            tapes = [(i, _tapes_away(recorded, _spool(run))) for i, recorded in tapes]
        else:
            values = None if values is None else [fetched(value) for value in values]
            tapes = [(i, _tapes_back(recorded)) for i, recorded in tapes]
        run.stored[n, target] = values, active, tapes


def _snapshot(run: Run) -> list[Any]:
    """The leaves of the state, safe from what is written to them later."""
    leaves = []
    for k, (value, on) in enumerate(zip(run.values, run.active, strict=True)):
        related = run.sharing[k] if run.sharing else None
        leaves.append(copied(value) if not on else value if related is None else steady(related))
    return leaves


def _spool(run: Run) -> Spool:
    if run.spool is None:
        run.spool = Spool(run.program.folder)
    return run.spool


def _tapes_away(recorded: Recorded, spool: Spool) -> Recorded:
    return recorded._replace(last=_mapped(recorded.last, put_away, spool), fresh=True)


def _tapes_back(recorded: Recorded) -> Recorded:
    if not any(leaf.__class__.__name__ == "Stored" for leaf in flatten(recorded.last.records)[0]):
        return recorded
    return recorded._replace(last=_mapped(recorded.last, fetched), fresh=True)


def _mapped(last: Tape, change: Function, *args: Any) -> Tape:
    """A history with other values on its tapes."""
    made: dict[int, Any] = {}
    for tape in history(last):
        new: Any = tape
        if isinstance(tape, Tape):
            leaves, structure = flatten(tape.records)
            records = unflatten(structure, [change(leaf, *args) for leaf in leaves])
            new = Tape(tape.home, records, tuple(made[id(t)] for t in tape.past))
            new.leaves, new.masks, new.held = tape.leaves, tape.masks, tape.held
        made[id(tape)] = new
    result: Tape = made[id(last)]
    return result


def _check_again(run: Run, n: int) -> None:
    """Compare a state with what it was when it was reached before, or remember it for that."""
    check = [
        on and kind is not None and kind[1].kind in "fc"
        for on, kind in zip((True,) * len(run.values), run.program.kinds, strict=True)
    ]
    found = run.active, sums_of(run.values, check)
    before = run.sums.setdefault(n, found)
    if before is not found and (before[0] != found[0] or not same_sums(before[1], found[1])):
        raise _not_repeated(run, n - 1)


def _not_repeated(run: Run, i: int) -> ParadualValueError:
    step = run.program.step
    return ParadualValueError(
        f"the step {getattr(step, '__name__', step)!r} of a loop gave other values when it was called again "
        f"in the reverse pass (noticed after step {i}): it must do the same each time (no random numbers, no "
        "state that changes beside the loop's own, no captured array that is written to)"
    )


def _incomplete(n: int) -> ParadualValueError:
    return ParadualValueError(
        f"the schedule of a loop does not lead through all {n} steps and back: a schedule that keeps nothing "
        "is for loops without a reverse pass"
    )


# --- one step ---------------------------------------------------------------------------------------------


def _advance(run: Run, i: int) -> Recorded:
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
        marks = tuple([slot is not None for slot in observed])
        if run.wanted is None:
            run.seen.extend(copied(leaf) for leaf in seen)
            run.trees.append(run.trees[-1] if run.trees and run.trees[-1] == tree else tree)
            run.marks.append(run.marks[-1] if run.marks and run.marks[-1] == marks else marks)
        elif run.marks[i] != marks:
            raise _not_repeated(run, i)
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
    """Call the step in place of the innermost job, or within the others: what it returns, its last tape."""
    before = ACTIVE.get()
    replaces = before[-1].home[0] == tape.home[0]
    ACTIVE.set((*(before[:-1] if replaces else before), tape))
    try:
        state = program.step(i, state)
        seen, tree = ([], None) if program.observe is None else flatten(program.observe(i, state))
        leaves = _check_state(state, i, program.structure, program.kinds)
        for leaf in (*leaves, *seen):
            if leaf.__class__ in DUALS:
                _ = leaf.place  # a view of what was written derives its slot now, on this tape
        return leaves, seen, tree, ACTIVE.get()[-1]
    finally:
        outer = ACTIVE.get()[:-1]
        ACTIVE.set((*outer, before[-1]) if replaces else outer)


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
                raise _not_repeated(run, i)
            run.used[slot] = form


def _check_foreign(job: Job, run: Run, i: int) -> None:
    prefix = run.program.prefix
    if job[: len(prefix)] == prefix:
        raise ParadualValueError(
            f"step {i} of a loop{user_line()} uses a value that another step has computed and that did not "
            "come with the state (it was kept in a list, an attribute, a variable of an enclosing function): "
            "it is gone when the step is reversed. Make it part of the state, or an observation"
        )


# --- the reverse pass -------------------------------------------------------------------------------------


def _looped(*args: Any) -> Any:
    raise InternalError("the rule of a loop is its pullback alone")


def _looped_pull(
    g: Any,
    program: Program,
    n: int,
    rows: Rows,
    first: Any,
    slots: Any,
    forms: Any,
    marks: Any,
    kept: list[Any],
    tapes: list[Any],
    sums: Any,
    last: bool = False,
) -> list[Any]:
    run = Run(program, dict(zip(slots, forms, strict=True)))
    run.stored = {(n0, storage): entry for n0, storage, *entry in kept}
    run.tapes = dict(tapes)
    if last:  # what is kept is freed as it is used
        kept.clear()
        tapes.clear()
    else:
        run.tapes = {i: recorded._replace(fresh=False) for i, recorded in run.tapes.items()}
        for key, (values, active, parts) in run.stored.items():
            run.stored[key] = values, active, [(i, recorded._replace(fresh=False)) for i, recorded in parts]
    run.sums = dict(sums)
    run.marks = marks
    size = len(program.kinds)
    run.cotangents, run.given = list(g[:size]), list(g[size:])
    if type(g) is list:
        g.clear()  # the sweep's own: what is in it is not to live until all steps are reversed
    run.mine = [False] * size
    run.starts = np.cumsum([0, *map(len, marks)])
    _follow(run, rows)
    if run.tapes or run.position is not None or not len(rows) or rows[-1, 0] != REVERSE or rows[-1, 2] != 0:
        raise _incomplete(n)
    found = [c for c, on in zip(run.cotangents, first, strict=True) if on]
    found.extend(complete(run.totals.get(slot), form) for slot, form in zip(slots, forms, strict=True))
    return found


def _reverse_step(run: Run, i: int, clear: bool) -> None:
    """Take the cotangents of the state after a step to those of the state before it."""
    recorded = run.tapes.pop(i, None)
    if recorded is None:
        raise InternalError(f"the schedule of a loop reverses step {i}, of which nothing is recorded")
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
                raise _not_repeated(run, i)
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
    check_held(tape)
    start = {slot[1]: c for slot, c, _ in seeds}
    mine = {slot[1] for slot, _, own in seeds if own}
    for slot, index in tape.leaves.items():
        if slot in run.totals and index not in start:
            start[index] = run.totals.pop(slot)
            if slot in run.owned:
                run.owned.discard(slot)
                mine.add(index)
    seeds.clear()
    with np.errstate(all="ignore"):
        found = backward(tape, _taken(start), pull_last if fresh else pull, _as_it_is, fresh, mine)
    for slot, (c, own, form) in found.items():
        if slot[0] == (*run.program.prefix, "state"):
            c = complete(c, form)
        yield slot, (c, own)


def _taken(start: dict[int, Any]) -> Iterator[tuple[int, Any]]:
    """What is in a dict, out of it, so that it does not live longer than it is needed."""
    while start:
        yield start.popitem()


def _as_it_is(g: Any, form: Any, is_owned: bool) -> Any:
    return g, is_owned and is_buffer(g), form


RULES[_looped] = Rule("general", _looped, pulls=(_looped_pull,), joint=True, thrifty=True)

__all__ = ["loop"]
