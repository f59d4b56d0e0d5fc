"""Time loops in bounded memory: `loop` keeps the states that a schedule names, and computes the rest again.

In reverse mode a loop is one record on the tape, which keeps what the forward rows of the schedule have left
behind, and the reverse rows (see `paradual.schedules`).  Its pullback follows those, on a view of its own: so
it can run many times, beside each other, and elsewhere.  Only in the last sweep of a tape snapshots are used
up.  The steps themselves are the business of `paradual.timesteps`.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from paradual.apply import record_step
from paradual.arrays import complete
from paradual.custom import place_of, relate_all, same_sums, sums_of
from paradual.dual import DUALS, Dual, import_dual
from paradual.errors import InternalError, ParadualTypeError, ParadualValueError
from paradual.kin import steady
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
from paradual.snapshots import Spool, Stored, copied, fetched, put_away, secured
from paradual.tape import ACTIVE, Tape, history
from paradual.timesteps import (
    Program,
    Recorded,
    Run,
    advance,
    check_state,
    kind_of,
    not_repeated,
    reverse_step,
    senseless,
)
from paradual.trees import flatten, unflatten

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
    and Walther (ACM TOMS 26, 2000) and its successors.  It is the innermost differentiation whose memory is
    bounded: that of `grad`, and of `hvp`, which is forward mode over reverse mode.  In a gradient of a
    gradient, or of `jvp`, the outer reverse mode keeps every step.

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
    kinds = tuple(kind_of(leaf) for leaf in leaves)
    if tape.records is None or n == 0:
        return _plain(step, observe, unflatten(structure, map(secured, leaves)), n, (structure, kinds))
    differentiation, job = tape.home
    prefix = (*job, "loop", tape.forks)
    tape.forks += 1
    program = Program(step, observe, structure, kinds, differentiation, prefix, folder)
    values, seen, trees = _record(tape, program, leaves, n, schedule)
    final = unflatten(structure, values)
    if observe is None:
        return final
    rest = iter(seen)
    return final, [unflatten(tree, [next(rest) for _ in range(tree.num_leaves)]) for tree in trees]


def _record(tape: Tape, program: Program, leaves: list[Any], n: int, schedule: Any) -> tuple[Any, Any, Any]:
    """Run the loop as one record: the leaves of the last state and of the observations, and their trees."""
    rows, again = rows_of(schedule, n)
    run = Run(program, None)
    if uses_disk(rows) or uses_disk(again):
        run.spool = Spool(program.folder)  # before the first step, so that it fails early
    own = [leaf.__class__ in DUALS and leaf.home[0] == program.differentiation for leaf in leaves]
    places = [_place(leaf, tape) for leaf, on in zip(leaves, own, strict=True) if on]
    run.values = [steady(leaf) if on else secured(leaf) for leaf, on in zip(leaves, own, strict=True)]
    run.position, run.active = 0, tuple(own)
    _follow(run, rows)
    if run.position != n:
        raise senseless(f"its forward pass ends after {run.position} of {n} steps")
    found = [value if on else None for value, on in zip(run.values, run.active, strict=True)]
    marks = [on for row in run.marks for on in row]
    found.extend(leaf.value if on else None for leaf, on in zip(run.seen, marks, strict=True))
    if all(value is None for value in found):
        return run.values, run.seen, run.trees
    places.extend(place_of(tape, slot, form) for slot, form in run.used.items())
    kept = [(*key, *entry) for key, entry in run.stored.items()]
    captured = tuple(run.used.items())
    keep = (
        program,
        n,
        again,
        own,
        captured,
        run.marks,
        kept,
        list(run.tapes.items()),
        list(run.sums.items()),
    )
    parts = record_step(tape, _looped, found, ((tuple(places), 0, keep),))
    relate_all([leaf for leaf in run.sharing if leaf is not None], parts)
    # constants, and what came from outside, as they are
    merged = [
        out if part is None else part for part, out in zip(parts, [*run.values, *run.seen], strict=True)
    ]
    size = len(leaves)
    return merged[:size], merged[size:], run.trees


def _plain(step: Function, observe: Function | None, state: Any, n: int, form: Any) -> Any:
    """The loop where nothing is recorded."""
    seen = []
    for i in range(n):
        state = step(i, state)
        check_state(state, i, *form)
        if observe is not None:
            leaves, structure = flatten(observe(i, state))
            seen.append(unflatten(structure, map(copied, leaves)))
    return state if observe is None else (state, seen)


# --- what is given ----------------------------------------------------------------------------------------


def _count(n: Any) -> int:
    if isinstance(n, bool | np.bool_ | np.ndarray | Dual) or not hasattr(n, "__index__"):
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


def _place(leaf: Dual, tape: Tape) -> int:
    return leaf.place if leaf.home == tape.home else import_dual(leaf, tape)


# --- one pass over the steps ------------------------------------------------------------------------------


def _follow(run: Run, rows: Rows) -> None:
    """Do what the rows of a schedule say."""
    for row in rows:
        kind, a, b, c = row.tolist()
        if kind == FORWARD:
            _forward(run, a, b, c % 4, c // 4)
        elif kind == REVERSE:
            if a != run.left:
                raise senseless(f"it reverses step {a - 1}, where {run.left} are left")
            run.position, run.values, run.sharing, run.left = None, [], [], b
            for i in range(a - 1, b - 1, -1):
                reverse_step(run, i, bool(c))
                run.sums.pop(i + 1, None)  # that state is not reached again
        else:
            assert kind in (COPY, MOVE)
            _transfer(run, a, b, c, kind == MOVE)


def _forward(run: Run, n0: int, n1: int, keeps: int, storage: int) -> None:
    if run.position != n0:
        raise senseless(f"it runs step {n0}, but the state at hand is that of {run.position}")
    before = _snapshot(run) if keeps & STATE else None
    active, observed = run.active, run.observed
    tapes: list[tuple[int, Recorded]] = []
    if before is not None and storage == DISK:
        before = [put_away(value, _spool(run)) for value in before]
    for i in range(n0, n1):
        recorded = advance(run, i)
        if keeps & TAPES:
            if storage == WORK:
                run.tapes[i] = recorded
            else:
                tapes.append((i, _tapes_away(recorded, _spool(run)) if storage == DISK else recorded))
        del recorded
    if before is not None or tapes:
        run.stored[n0, storage] = before, active, observed, tapes
    _check_again(run, n1)


def _transfer(run: Run, n: int, source: int, target: int, move: bool) -> None:
    found = run.stored.pop((n, source), None) if move else run.stored.get((n, source))
    if found is None:
        raise senseless(f"it asks for step {n}, of which nothing is kept")
    values, active, observed, tapes = found
    if target == WORK:
        if values is not None:
            run.position, run.active, run.sharing, run.observed = n, active, [], observed
            run.values = [
                value if on else secured(value)
                for value, on in zip(map(fetched, values), active, strict=True)
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
        run.stored[n, target] = values, active, observed, tapes


def _snapshot(run: Run) -> list[Any]:
    """The leaves of the state, safe from what is written to them later."""
    leaves = []
    for k, (value, on) in enumerate(zip(run.values, run.active, strict=True)):
        related = run.sharing[k] if run.sharing else None
        leaves.append(secured(value) if not on else value if related is None else steady(related))
    return leaves


def _spool(run: Run) -> Spool:
    if run.spool is None:
        run.spool = Spool(run.program.folder)
    return run.spool


def _tapes_away(recorded: Recorded, spool: Spool) -> Recorded:
    return recorded._replace(last=_mapped(recorded.last, put_away, spool), fresh=True)


def _tapes_back(recorded: Recorded) -> Recorded:
    parts = [tape.records for tape in history(recorded.last) if isinstance(tape, Tape)]
    if not any(leaf.__class__ is Stored for leaf in flatten(parts)[0]):
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
    check = [kind is not None and kind[1].kind in "fc" for kind in run.program.kinds]
    found = run.active, sums_of(run.values, check), run.observed
    before = run.sums.setdefault(n, found)
    if before is found:
        return
    (total, size, eps), (again, _, _) = before[2], found[2]
    with np.errstate(all="ignore"):
        seen_again = ~np.isfinite(size) | (np.abs(total - again) <= eps**0.5 * size)  # a device is asked once
    if before[0] != found[0] or not same_sums(before[1], found[1]) or not seen_again:
        raise not_repeated(run, n - 1)


# --- the reverse pass -------------------------------------------------------------------------------------


def _looped(*args: Any) -> Any:
    raise InternalError("the rule of a loop is its pullback alone")


def _looped_pull(
    g: Any,
    program: Program,
    n: int,
    rows: Rows,
    first: Any,
    captured: Any,
    marks: Any,
    kept: list[Any],
    tapes: list[Any],
    sums: Any,
    last: bool = False,
) -> list[Any]:
    run = Run(program, dict(captured))
    run.stored = {(n0, storage): entry for n0, storage, *entry in kept}
    run.tapes = dict(tapes)
    if last:  # what is kept is freed as it is used
        kept.clear()
        tapes.clear()
    else:
        run.tapes = {i: recorded._replace(fresh=False) for i, recorded in run.tapes.items()}
        for key, (*entry, parts) in run.stored.items():
            run.stored[key] = *entry, [(i, recorded._replace(fresh=False)) for i, recorded in parts]
    run.sums = dict(sums)
    run.marks, run.left = marks, n
    size = len(program.kinds)
    run.cotangents, run.given = list(g[:size]), list(g[size:])
    if type(g) is list:
        g.clear()  # the sweep's own: what is in it is not to live until all steps are reversed
    run.mine = [False] * size
    run.starts = np.cumsum([0, *map(len, marks)])
    _follow(run, rows)
    if run.left:
        raise senseless(f"its reverse pass leaves {run.left} of {n} steps")
    found = [c for c, on in zip(run.cotangents, first, strict=True) if on]
    found.extend(complete(run.totals.get(slot), form) for slot, form in captured)
    return found


RULES[_looped] = Rule("general", _looped, pulls=(_looped_pull,), joint=True, thrifty=True)

__all__ = ["loop"]
