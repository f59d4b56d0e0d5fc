"""What a worker runs: the forward and the backward of one job.  No Dask and no choice of a device."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from time import perf_counter
from typing import Any

import numpy as np

from paradual.arrays import add, settle, settle_owned
from paradual.dual import DUALS, Dual, import_dual, primal
from paradual.errors import ParadualTypeError
from paradual.held import check_held, check_held_there
from paradual.kin import steady
from paradual.locality import explain, on_device
from paradual.rules.careful import backward_masked
from paradual.rules.modes import pull
from paradual.tape import ACTIVE, Cotangents, Job, Slot, Stub, Tape, backward, history
from paradual.trees import flatten, unflatten

Contribution = tuple[int, Any]  # (index of a slot, cotangent)
Settle = Callable[[Any, Any, bool], Any]


def run(tape: Tape, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[Any, Tape]:
    """Run a function as one more differentiation, the innermost, of the job that runs here.

    Parameters
    ----------
    tape : Tape
        Its first tape; where the function joins tasks, others follow.
    fn, *args, **kwargs
        What to call.

    Returns
    -------
    tuple
        The result of the function and the differentiation's last tape.
    """
    ACTIVE.set((*ACTIVE.get(), tape))
    try:
        out = fn(*args, **kwargs)
        for leaf in flatten(out)[0]:
            if leaf.__class__ in DUALS:
                _ = leaf.place  # a view of what was written derives its slot now, on this tape
        last = ACTIVE.get()[-1]
        last.seconds += perf_counter() - last.began
        return out, last
    finally:
        # not the tapes from before: where fn joined tasks, the outer differentiations moved on too
        ACTIVE.set(ACTIVE.get()[:-1])


def sweep(tape: Tape, seeds: Iterable[Contribution], own: bool = False, consume: bool = False) -> Cotangents:
    """The backward of one job.

    Parameters
    ----------
    tape : Tape
        Its tape.
    seeds : iterable of (int, array)
        Contributions to its slots, in the order in which they are to be added.
    own : bool
        Whether the results must be arrays that nothing else refers to.
    consume : bool
        Whether the tape may be emptied on the way.

    Returns
    -------
    dict
        ``{foreign slot: cotangent}``.
    """
    seeds = merge(seeds)
    found = sweep_once(tape, dict(seeds), settle_owned if own else settle, consume and not tape.masks)
    if tape.masks and has_nan(found):
        with np.errstate(all="ignore"):
            masked = backward_masked(tape, [(index, g, True) for index, g in seeds])
        found = {slot: g for slot, (g, _) in masked.items()}
    return found


def sweep_once(
    tape: Tape, seeds: dict[int, Any], settle: Settle, consume: bool, owned: Iterable[int] = ()
) -> dict[Slot, Any]:
    """One walk of a tape, from its last record to its first.

    Parameters
    ----------
    tape : Tape
        The tape.
    seeds : dict
        ``{index of a slot: cotangent}``; emptied, so that nothing lives longer than it is needed.
    settle : callable
        What becomes of a cotangent of a foreign slot: of it, the form of the primal, and whether it is owned.
    consume : bool
        Whether the tape may be emptied on the way.
    owned : iterable of int
        The seeds that nothing else refers to.

    Returns
    -------
    dict
        ``{foreign slot: what settle returned}``.

    Raises
    ------
    ParadualValueError
        If a constant of the tape was written to since.
    """
    check_held(tape)
    there = any(map(on_device, seeds.values()))
    with np.errstate(all="ignore"):  # an infinite slope is an answer, not an accident
        try:
            found = backward(tape, _taken(seeds), pull, settle, consume, owned)
        except (TypeError, NotImplementedError) as error:
            if there:
                explain(error, "the reverse pass")
            raise
    check_held_there(tape)
    return found


def _taken(seeds: dict[int, Any]) -> Iterator[Contribution]:
    while seeds:
        yield seeds.popitem()


def merge(contributions: Iterable[Contribution]) -> list[Contribution]:
    """Sum contributions to the same slots, in their order."""
    sums: dict[int, list[Any]] = {}
    owned: dict[int, set[int]] = {}
    for index, g in contributions:
        add(sums.setdefault(index, [None]), owned.setdefault(index, set()), 0, g, None)
    return [(index, total[0]) for index, total in sums.items()]


def has_nan(found: Cotangents) -> bool:
    """Whether any cotangent has a NaN in it."""
    marks = [np.isnan(primal(g)).any() for g in found.values()]
    there = [mark for mark in marks if on_device(mark)]
    if len(there) > 1:  # of a device this is asked once: it takes until all that came before is computed
        marks = [mark for mark in marks if not on_device(mark)] + [np.stack(there).any()]
    return any(map(bool, marks))


def route(found: Iterable[tuple[Slot, Any]]) -> dict[Job, list[Contribution]]:
    """Split pairs of a slot and its cotangent by the job that owns the slot."""
    by_owner: dict[Job, list[Contribution]] = {}
    for (job, index), g in found:
        by_owner.setdefault(job, []).append((index, g))
    return by_owner


def rehome(value: Any, tape: Tape) -> Any:
    """Make every dual of a differentiation inside a value one of the job that passes it on.

    Parameters
    ----------
    value : pytree
        What leaves the job; duals are found in containers, within duals of other differentiations,
        and on tapes.
    tape : Tape
        The job's tape for the differentiation.

    Returns
    -------
    pytree
        The same with each foreign dual imported, so that cotangents go to direct predecessors only.
    """

    return _mapped(value, tape)


# not closures: one that calls itself would keep the tape alive until the garbage collector comes by


def _mapped(value: Any, tape: Tape) -> Any:
    leaves, structure = flatten(value)
    return unflatten(structure, [_rehomed(leaf, tape) for leaf in leaves])


def _rehomed(leaf: Any, tape: Tape) -> Any:
    if leaf.__class__ in DUALS:
        if leaf.home[0] == tape.home[0]:
            if leaf.home == tape.home or tape.records is None:
                return leaf
            return Dual(leaf.value, tape.home, import_dual(leaf, tape))
        value, place = _rehomed(leaf.value, tape), leaf.place
        return Dual(value, leaf.home, place if isinstance(place, int) else _rehomed(place, tape))
    if leaf.__class__ is Tape:
        return _rehome_tape(leaf, tape)
    return leaf


def _rehome_tape(last: Tape, home: Tape) -> Tape:
    if any(isinstance(tape, Stub) for tape in history(last)):
        raise ParadualTypeError(
            "a pullback leaves a Dask task that has forked tasks to other workers: their tapes cannot "
            "follow it. Fork them to threads, with paradual.executor('threads')"
        )
    return _copied(last, _mapped, home)


def _copied(last: Tape, change: Callable[[Any, Any], Any], how: Any) -> Tape:
    """A history of tapes whose records were changed."""
    copies: dict[int, Tape] = {}
    for tape in history(last):
        assert isinstance(tape, Tape)
        records = tape.records
        if records is not None:
            records = [change(record, how) for record in records]
        copy = copies[id(tape)] = Tape(tape.home, records, tuple(copies[id(t)] for t in tape.past))
        copy.leaves, copy.masks, copy.held = tape.leaves, tape.masks, tape.held
    return copies[id(last)]


def without(value: Any, gone: frozenset[Any]) -> Any:
    """A value as it is without some differentiations: their duals are their values, on tapes too.

    Parameters
    ----------
    value : pytree
        Duals are found as in `rehome`; the tapes in it are in this process.
    gone : frozenset
        The differentiations.

    Returns
    -------
    pytree
        The same; tapes are copies.
    """
    if not gone:
        return value
    leaves, structure = flatten(value)
    return unflatten(structure, [_without(leaf, gone) for leaf in leaves])


def _without(leaf: Any, gone: frozenset[Any]) -> Any:
    if leaf.__class__ in DUALS:
        value = _without(steady(leaf), gone)
        if leaf.home[0] in gone:
            return value
        place = leaf.place
        return Dual(value, leaf.home, place if isinstance(place, int) else _without(place, gone))
    if leaf.__class__ is Tape:
        return _copied(leaf, without, gone)
    return leaf
