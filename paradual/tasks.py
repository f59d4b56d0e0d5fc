"""Forking and joining: `par`, `map`, `submit`, on the calling thread or on a pool of threads.

A fork gives the task a fresh tape for every differentiation in progress; a join closes the tapes of the
job that waits and opens their successors, whose past they and the task's last tapes are.  So after the
program has run, its last tape describes the whole job graph, and the reverse pass is a plan over it:
joins become forks and forks become joins, and no task waits for another.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import Context, ContextVar, copy_context
from functools import cache
from typing import Any

import numpy as np

from paradual.errors import InternalError, ParadualValueError
from paradual.jobs import branch, reverse_plan, successor
from paradual.rules.careful import backward_masked
from paradual.tape import ACTIVE, INPUT, Cotangents, Job, Slot, Tape, history
from paradual.work import has_nan, route, sweep

EXECUTORS = ("inline", "threads")
_EXECUTOR: ContextVar[Any] = ContextVar("paradual.executor", default="threads")


@contextmanager
def executor(which: Any) -> Iterator[None]:
    """Choose where `par`, `map` and `submit` run their tasks.

    Parameters
    ----------
    which : str
        ``"inline"``: one after the other on the calling thread; ``"threads"``: on a pool of
        threads, one for each core.

    Raises
    ------
    ParadualValueError
        If there is no such executor.

    Examples
    --------
    >>> with executor("inline"):
    ...     par(lambda: 1, lambda: 2)
    (1, 2)
    """
    if which not in EXECUTORS:
        raise ParadualValueError(f"no executor {which!r}: choose one of {', '.join(EXECUTORS)}")
    token = _EXECUTOR.set(which)
    try:
        yield
    finally:
        _EXECUTOR.reset(token)


@cache
def _pool(pid: int) -> ThreadPoolExecutor:
    # For each process its own: threads do not survive a fork of the process.
    return ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="paradual")


class Task:
    """A forked task; `result` joins it."""

    __slots__ = ("_body", "_context", "_error", "_future", "_outcome", "_tapes", "name")

    def __init__(self, fn: Callable[[], Any], name: Job = ()) -> None:
        before = ACTIVE.get()
        tapes = tuple(_fork(tape) for tape in before)
        self.name = name or tapes[-1].home[1]
        self._outcome: Any = None
        self._error: BaseException | None = None
        self._tapes: tuple[Tape, ...] | None = None

        def body() -> tuple[Any, tuple[Tape, ...]]:
            ACTIVE.set(tapes)
            value = fn()
            return value, ACTIVE.get()

        self._body = body
        self._context: Context = copy_context()
        self._future: Future[Any] | None = None

    def start(self) -> Task:
        """Hand the task to the executor."""
        if _EXECUTOR.get() == "inline":
            self._run()
        else:
            self._future = _pool(os.getpid()).submit(self._context.run, self._body)
        return self

    def _run(self) -> None:
        self._finish(lambda: self._context.run(self._body))

    def _finish(self, get: Callable[[], Any]) -> None:
        try:
            self._outcome, self._tapes = get()
        except Exception as error:
            error.add_note(f"in the paradual task {self.name or '(outside of a differentiation)'}")
            self._error = error

    def cancel(self) -> None:
        """Drop the task if it has not begun."""
        if self._future is not None:
            self._future.cancel()

    def settle(self) -> None:
        """Wait for the task; one that has not begun runs here, so that waiting never starves a pool."""
        if self._tapes is None and self._error is None:
            if self._future is None or self._future.cancel():
                self._run()
            else:
                self._finish(self._future.result)
        if self._error is not None:
            raise self._error

    def result(self) -> Any:
        """Join the task: wait for it and return what its function returned.

        Raises
        ------
        Exception
            What the function raised, with the task's place as a note.
        """
        self.settle()
        _join([self])
        return self._outcome


def _fork(tape: Tape) -> Tape:
    """The first tape of a new task, for one differentiation."""
    if tape.records is None:  # forward mode records nothing: one marker serves all jobs
        return tape
    differentiation, job = tape.home
    number = tape.forks
    tape.forks += 1
    return Tape((differentiation, branch(job, number)), [])


def _join(tasks: Sequence[Task]) -> None:
    """Close the tapes of the running job, and open successors that know the tasks' past."""
    following = []
    for depth, tape in enumerate(ACTIVE.get()):
        if tape.records is None:
            following.append(tape)
            continue
        differentiation, job = tape.home
        # a task that was forked outside of a differentiation knows nothing of it
        ends = [
            task._tapes[depth]
            for task in tasks
            if task._tapes is not None
            and depth < len(task._tapes)
            and task._tapes[depth].home[0] == differentiation
        ]
        following.append(Tape((differentiation, successor(job)), [], (tape, *ends)))
    ACTIVE.set(tuple(following))


def _all(calls: Iterable[Callable[[], Any]]) -> list[Any]:
    tasks: list[Task] = []
    try:
        for call in calls:
            tasks.append(Task(call).start())
            if tasks[-1]._future is None:  # it has run here: if it failed, do not begin the next
                tasks[-1].settle()
        for task in tasks:
            task.settle()
    except BaseException:
        for task in tasks:
            task.cancel()
        raise
    _join(tasks)
    return [task._outcome for task in tasks]


def par(*thunks: Callable[[], Any]) -> tuple[Any, ...]:
    """Call functions of no arguments in parallel and return their results.

    Parameters
    ----------
    *thunks : callable
        What to call; values that are being differentiated may be captured in closures.

    Returns
    -------
    tuple
        Their results, in order.

    Raises
    ------
    Exception
        What a function raised; functions that have not begun are then not called.

    Notes
    -----
    The parallel pair of Smeding and Vakar (JFP 2025), for any number of branches.

    Examples
    --------
    >>> import paradual as pdl
    >>> def f(x):
    ...     a, b = pdl.par(lambda: x * x, lambda: 3 * x)
    ...     return a * b
    >>> pdl.grad(f)(2.0)
    36.0
    """
    return tuple(_all(thunks))


def map(fn: Callable[..., Any], *iterables: Iterable[Any]) -> list[Any]:
    """Apply a function to each element (of each iterable) in parallel.

    Parameters
    ----------
    fn : callable
        The function.
    *iterables : iterable
        Its arguments, as for Python's `map`; the shortest decides.

    Returns
    -------
    list
        The results, in order.

    Examples
    --------
    >>> map(lambda x, y: x + y, [1, 2], [10, 20])
    [11, 22]
    """
    return _all(_Call(fn, args, {}) for args in zip(*iterables, strict=False))


def submit(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Task:
    """Start ``fn(*args, **kwargs)`` as a task.

    Returns
    -------
    Task
        Its `result` method joins the task and returns the result.

    Examples
    --------
    >>> submit(pow, 2, 5).result()
    32
    """
    return Task(_Call(fn, args, kwargs)).start()


class _Call:
    __slots__ = ("args", "fn", "kwargs")

    def __init__(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.fn, self.args, self.kwargs = fn, args, kwargs

    def __call__(self) -> Any:
        return self.fn(*self.args, **self.kwargs)


# --- the reverse pass -------------------------------------------------------------------------------


def reverse(
    last: Tape, seeds: list[tuple[Slot, Any]], own: bool = False, consume: bool = False
) -> Cotangents:
    """The backward of a program: every job of its history, each after those that used its values.

    Parameters
    ----------
    last : Tape
        The program's last tape.
    seeds : list of (Slot, array)
        Cotangents of its results.
    own, consume : bool
        As for `paradual.work.sweep`.

    Returns
    -------
    dict
        ``{foreign slot: cotangent}`` for the slots of jobs that are not part of the program.

    Raises
    ------
    InternalError
        If a cotangent is left over; it is never dropped.
    """
    if not last.past:
        return sweep(last, [(index, g) for (_, index), g in seeds], own, consume)
    tapes: dict[Job, Tape] = {tape.home[1]: tape for tape in history(last)}
    try:
        plan = reverse_plan(
            {job: {slot[0] for slot in tape.leaves if slot[0] in tapes} for job, tape in tapes.items()}
        )
    except ValueError as error:
        raise InternalError(f"the recorded jobs are not in order: {error}") from None
    # {job: {consumer: contributions}}: looked up in the plan's order, whenever they arrived
    masks = any(tape.masks for tape in tapes.values())
    consume = consume and not masks
    arrived: dict[Job, dict[Any, list[tuple[int, Any]]]] = {job: {} for job in tapes}
    for job, contributions in route(seeds).items():
        if job not in tapes:
            raise InternalError(f"a cotangent for job {job}, which is not part of the program")
        arrived[job][None] = contributions
    found: Cotangents = {}

    def backward_of(job: Job) -> Cotangents:
        inbox = arrived[job]
        contributions = [c for consumer in (None, *plan[job]) for c in inbox.get(consumer, ())]
        return sweep(tapes[job], contributions, own, consume) if contributions else {}

    def deliver(job: Job, result: Cotangents) -> None:
        for owner, contributions in route(result.items()).items():
            if owner in arrived:
                arrived[owner][job] = contributions
            else:
                for index, g in contributions:
                    slot = (owner, index)
                    left[slot] = [*left.get(slot, ()), (order[job], g)]

    left: dict[Slot, list[tuple[int, Any]]] = {}  # what leaves the program: {slot: [(order, g)]}
    order = {job: k for k, job in enumerate(tapes)}
    run_plan(plan, backward_of, deliver)
    for slot, parts in left.items():
        parts.sort(key=lambda part: part[0])
        total = parts[0][1]
        for _, g in parts[1:]:
            total = total + g
        found[slot] = total
    return _reverse_masked(tapes, list(plan), seeds) if masks and has_nan(found) else found


def _reverse_masked(tapes: dict[Job, Tape], order: list[Job], seeds: list[tuple[Slot, Any]]) -> Cotangents:
    """`reverse` once more, one job after the other, with the entries that np.where let through."""
    inbox: dict[Job, list[tuple[int, Any, Any]]] = {job: [] for job in tapes}
    found: Cotangents = {}
    for (job, index), g in seeds:
        inbox[job].append((index, g, True))
    with np.errstate(all="ignore"):
        for job in order:
            for slot, (g, mask) in backward_masked(tapes[job], inbox.pop(job)).items():
                if slot[0] in inbox:
                    inbox[slot[0]].append((slot[1], g, mask))
                else:
                    found[slot] = g if slot not in found else found[slot] + g
    return found


def run_plan(
    plan: dict[Job, list[Job]],
    work: Callable[[Job], Any],
    deliver: Callable[[Job, Any], None],
) -> None:
    """Run ``work(job)`` for every job of a plan, each after those it waits for, in parallel.

    The calling thread takes part: it runs what the pool has not begun.  Results are delivered here,
    one at a time.
    """
    waiting = {job: set(before) for job, before in plan.items()}
    followers: dict[Job, list[Job]] = {job: [] for job in plan}
    for job, before in plan.items():
        for other in before:
            followers[other].append(job)
    tasks: dict[Job, Task] = {}
    running: dict[Future[Any], Job] = {}
    ready = [job for job in plan if not waiting[job]]
    try:
        while ready or running:
            for job in ready:
                tasks[job] = Task(_Call(work, (job,), {}), name=job).start()
            done = [job for job in ready if tasks[job]._future is None]
            running.update({tasks[job]._future: job for job in ready if tasks[job]._future is not None})  # type: ignore[misc]
            ready = []
            if not done:
                pending = next((f for f in running if f.cancel()), None)
                if pending is None:
                    finished = wait(running, return_when=FIRST_COMPLETED).done
                    done = [running.pop(f) for f in finished]
                else:
                    done = [running.pop(pending)]
            for job in done:
                tasks[job].settle()
                deliver(job, tasks[job]._outcome)
                for follower in followers[job]:
                    waiting[follower].discard(job)
                    if not waiting[follower]:
                        ready.append(follower)
    except BaseException:
        for task in tasks.values():
            task.cancel()
        raise
    if len(ACTIVE.get()) > 1:
        _join([tasks[job] for job in plan])


__all__ = ["INPUT", "Task", "executor", "map", "par", "reverse", "submit"]
