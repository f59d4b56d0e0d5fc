"""`par`, `map` and `submit`: parallel calls, on the calling thread, on threads, or on a Dask cluster."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from paradual.errors import ParadualValueError
from paradual.forks import EXECUTOR, Executor, Task, join, pause, resume
from paradual.pool import Inline, Threads

_LOCAL: dict[str, Executor] = {"inline": Inline(), "threads": Threads()}


@contextmanager
def executor(which: Any) -> Iterator[None]:
    """Choose where `par`, `map` and `submit` run their tasks, and those that these fork.

    Without it they run on the active client of `distributed`, if there is one, else on threads.

    Parameters
    ----------
    which : str or distributed.Client
        ``"inline"``: one after the other on the calling thread; ``"threads"``: on a pool of
        threads, one for each core; a client: on the workers of its cluster.

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
    token = EXECUTOR.set(_chosen(which))
    try:
        yield
    finally:
        EXECUTOR.reset(token)


def _chosen(which: Any) -> Executor:
    if isinstance(which, str) and which in _LOCAL:
        return _LOCAL[which]
    if "distributed" in sys.modules:
        from distributed import Client

        from paradual.cluster import Cluster

        if isinstance(which, Client):
            if which.asynchronous:
                raise ParadualValueError(
                    "an asynchronous client cannot wait for tasks: use Client(..., asynchronous=False)"
                )
            return Cluster(which)
    raise ParadualValueError(
        f"no executor {which!r}: choose one of {', '.join(_LOCAL)}, or a distributed.Client"
    )


def current() -> Executor:
    """The executor for tasks that are forked here."""
    found = EXECUTOR.get()
    if found is None and "distributed" in sys.modules:  # whoever has a client has imported it
        from paradual.cluster import active

        found = active()
    return found or _LOCAL["threads"]


def call_all(tasks: list[Task], where: Executor | None = None) -> list[Any]:
    """Start tasks, wait for them and join them: their results."""
    if not tasks:
        return []
    chosen = where or current()
    pause()
    try:
        chosen.start(tasks)
        chosen.wait(tasks)
    except BaseException:
        chosen.cancel(tasks)
        resume()
        del tasks  # the error refers to this frame
        raise
    join(tasks)
    return [task.outcome for task in tasks]


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
        What a function raised, as soon as it has; functions that have not begun are then not called.

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
    return tuple(call_all([Task(thunk) for thunk in thunks]))


def map(fn: Callable[..., Any], *iterables: Iterable[Any]) -> list[Any]:
    """Apply a function to each element (of each iterable) in parallel.

    Parameters
    ----------
    fn : callable
        The function.
    *iterables : iterable
        Its arguments, as for Python's `map`; the shortest decides.  A task among them stands for its
        result.

    Returns
    -------
    list
        The results, in order.

    Examples
    --------
    >>> map(lambda x, y: x + y, [1, 2], [10, 20])
    [11, 22]
    """
    return call_all([Task(fn, args) for args in zip(*iterables, strict=False)])


def submit(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Task:
    """Start ``fn(*args, **kwargs)`` as a task.

    Parameters
    ----------
    fn : callable
        The function.
    *args, **kwargs
        Its arguments.  A task among them, in any nesting of containers, stands for its result, which
        does not pass through here.

    Returns
    -------
    Task
        Its `result` method joins the task and returns the result.

    Examples
    --------
    >>> submit(pow, 2, 5).result()
    32
    >>> submit(pow, 2, submit(pow, 2, 3)).result()
    256
    """
    task = Task(fn, args, kwargs)
    pause()
    try:
        current().start([task])
    finally:
        resume()
    return task


__all__ = ["Task", "executor", "map", "par", "submit"]
