"""Checkpoint schedules as rows of numbers: what is run, kept, fetched and reversed, in which order.

A schedule of the package ``checkpoint_schedules`` is an iterator that can be gone through once.  As rows it
can be followed many times, from many threads, and travels.  Each row is one of these::

    (FORWARD, n0, n1, keeps + 4 * storage)   run the steps n0 to n1 - 1; keep the state at n0, or what the
                                             reverse of these steps needs (their tapes), or nothing
    (REVERSE, n1, n0, clear)                 run the reverse of the steps n1 - 1 to n0
    (COPY or MOVE, n, storage, storage)      fetch or put away what was kept for step n
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from math import isqrt
from typing import Any

import numpy as np

from paradual.errors import ParadualTypeError, ParadualValueError
from paradual.optional import load

FORWARD, REVERSE, COPY, MOVE, END = range(5)
STATE, TAPES = 1, 2  # what a forward row keeps
RAM, DISK, WORK, NOWHERE = range(4)

Rows = np.ndarray[Any, np.dtype[Any]]

_STORAGES = {"RAM": RAM, "DISK": DISK, "WORK": WORK, "NONE": NOWHERE}


def check_schedule(schedule: Any, n: int) -> None:
    """Refuse what is not a schedule for n steps that can be followed from its beginning.

    Raises
    ------
    ParadualTypeError
        If it is no schedule of ``checkpoint_schedules``.
    ParadualImportError
        If that is not installed.
    ParadualValueError
        If it is for another number of steps, or was used.
    """
    if schedule is None:
        return
    package = load(
        *("checkpoint_schedules", "a loop with a schedule", "paradual[schedules]"),
        "leave the schedule out (snapshots every sqrt(n) steps)",
    )
    if not isinstance(schedule, package.CheckpointSchedule):
        raise ParadualTypeError(
            f"the schedule of a loop is None or one of checkpoint_schedules, such as "
            f"MultistageCheckpointSchedule(n, 20, 0); this is a {type(schedule).__name__}"
        )
    if hasattr(schedule, "iter") or schedule.n or schedule.r:
        raise ParadualValueError(
            f"the {type(schedule).__name__} of a loop was iterated over before, and can be only once: make "
            "a new one (a loop leaves the one that it is given as it is)"
        )
    if schedule.max_n not in (None, n):
        raise ParadualValueError(
            f"the {type(schedule).__name__} of a loop is for {schedule.max_n} steps, but the loop has {n}: "
            "make it for as many steps as the loop has"
        )


def rows_of(schedule: Any, n: int) -> tuple[Rows, Rows]:
    """A schedule for n steps as rows: those of the forward and those of the reverse pass.

    Examples
    --------
    >>> forward, reverse = rows_of(None, 3)
    >>> forward.tolist()
    [[0, 0, 2, 1], [0, 2, 3, 1]]
    >>> reverse.tolist()
    [[3, 2, 0, 2], [0, 2, 3, 10], [1, 3, 2, 1], [3, 0, 0, 2], [0, 0, 2, 10], [1, 2, 0, 1]]
    """
    actions = _square_root(n) if schedule is None else _actions(copy(schedule), n)
    # a row for each step or more, so in as few bytes as they need
    rows: Rows = np.fromiter(actions, dtype=np.dtype((np.min_scalar_type(max(n, 16)), 4)))
    middle = int(np.argmax(rows[:, 0] == END))
    return rows[:middle].copy(), rows[middle + 1 :].copy()


def uses_disk(rows: Rows) -> bool:
    """Whether anything is put on disk."""
    kind, last = rows[:, 0], rows[:, 3]
    return bool(
        np.any((kind == FORWARD) & (last // 4 == DISK) & (last % 4 > 0) | (kind >= COPY) & (last == DISK))
    )


def _square_root(n: int) -> Iterator[tuple[int, int, int, int]]:
    """Snapshots every sqrt(n) steps; each stretch between two is recorded whole when it is reversed."""
    length = isqrt(n - 1) + 1
    starts = range(0, n, length)
    for k in starts:
        yield FORWARD, k, min(k + length, n), STATE + 4 * RAM
    yield END, 0, 0, 0
    for k in reversed(starts):
        yield MOVE, k, RAM, WORK
        yield FORWARD, k, min(k + length, n), TAPES + 4 * WORK
        yield REVERSE, min(k + length, n), k, 1


def _actions(schedule: Any, n: int) -> Iterator[tuple[int, int, int, int]]:
    """The actions of a schedule; one that does not know the number of steps is told when it is reached."""
    for action in schedule:
        match type(action).__name__:
            case "Forward":
                keeps = STATE * action.write_ics + TAPES * action.write_adj_deps
                yield FORWARD, action.n0, min(action.n1, n), keeps + 4 * _STORAGES[action.storage.name]
                if schedule.max_n is None and action.n1 >= n:
                    schedule.finalize(n)
            case "Reverse":
                yield REVERSE, action.n1, action.n0, int(action.clear_adj_deps)
            case "Copy" | "Move" as name:
                kind = COPY if name == "Copy" else MOVE
                yield kind, action.n, _STORAGES[action.from_storage.name], _STORAGES[action.to_storage.name]
            case "EndForward":
                yield END, 0, 0, 0
            case "EndReverse":
                return
            case name:
                raise ParadualTypeError(f"a schedule asks for {name}, which a loop does not know")


__all__ = ["check_schedule", "rows_of", "uses_disk"]
