"""Forking and joining jobs: what a task is, and what becomes of the tapes.

A fork gives the task a fresh tape for every differentiation in progress; a join closes the tapes of the
job that waits and opens their successors, whose past they and the task's last tapes are.  So after the
program has run, its last tape describes the whole job graph.  Where a task runs is its executor's business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import Context, ContextVar, copy_context
from time import perf_counter
from typing import Any, NamedTuple, Protocol

from paradual.errors import ParadualTypeError
from paradual.jobs import branch, successor
from paradual.tape import ACTIVE, OUTSIDE, Job, Stub, Tape
from paradual.trees import flatten, unflatten


class Executor(Protocol):
    """Where tasks run."""

    @property
    def near(self) -> Executor:
        """The executor of this process that goes with it."""

    def start(self, tasks: Sequence[Task]) -> None:
        """Begin tasks; each comes after those it needs."""

    def wait(self, tasks: Sequence[Task]) -> None:
        """Return when all have ended; raise what one of them has raised, as soon as it has."""

    def cancel(self, tasks: Sequence[Task]) -> None:
        """Drop tasks that have not begun."""


# Where the tasks that are forked here run; None: to be chosen when one is.
EXECUTOR: ContextVar[Executor | None] = ContextVar("paradual.executor", default=None)
RUNNING: ContextVar[Task | None] = ContextVar("paradual.running", default=None)
# The context in which another engine runs the task that this is a part of.
HOST: ContextVar[Context | None] = ContextVar("paradual.host", default=None)
# Called with each reverse pass that has ended: see `diagnostics.profile`.
WATCHER: ContextVar[Callable[[Any], None] | None] = ContextVar("paradual.watcher", default=None)


class CancelledTask(BaseException):
    """Ends a task that nobody waits for any more: another one of its fork has failed."""


class Part(NamedTuple):
    """What a task of the reverse pass found for one job, as an argument of another task."""

    task: Any  # the task; its result, where that is known
    owner: Job | None


SUM = "sum"  # `Task.beside` of a task that sums cotangents


class Task:
    """A forked task; `result` joins it.

    Tasks among its arguments, in any nesting of containers, stand for their results: it begins when they
    have ended, and the results need not pass through here.
    """

    __slots__ = (
        *("__weakref__", "args", "beside", "cancelled", "context", "done", "ends", "error", "executor", "fn"),
        *("handle", "kwargs", "label", "name", "needs", "outcome", "parent", "resources", "seconds", "tapes"),
        "worker",
    )

    def __init__(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        name: Job = (),
        label: str = "",
    ) -> None:
        self.parent = RUNNING.get()
        check_wanted(self.parent)
        self.tapes = tuple(_fork(tape) for tape in ACTIVE.get())
        self.fn, self.args, self.kwargs = fn, args, kwargs or {}
        self.name = name or self.tapes[-1].home[1]  # of the job, for people
        self.label = label or label_of(fn)
        self.needs = tuple(tasks_in((args, self.kwargs))) if args or kwargs else ()
        self.context = copy_context()
        self.executor: Executor | None = None
        self.handle: Any = None  # what the executor knows it by
        self.resources: Any = None  # that its worker must have
        self.beside: Any = None  # of the reverse pass: the stub of the tape that it sweeps; or SUM
        self.done = self.cancelled = False
        self.outcome: Any = None
        self.error: BaseException | None = None
        self.ends: tuple[Tape | Stub, ...] = ()
        self.seconds = 0.0
        self.worker = ""

    def result(self) -> Any:
        """Join the task: wait for it and return what its function returned.

        Raises
        ------
        Exception
            What the function raised, with the task's place as a note.
        """
        assert self.executor is not None
        pause()
        try:
            self.executor.wait([self])
        except BaseException:
            resume()
            raise
        join([self])
        return self.outcome

    def run(self) -> None:
        """Run the task here and keep what comes of it."""
        try:
            if self.cancelled:
                raise CancelledTask
            self.context.run(self._body)
        except BaseException as error:
            self.error = noted(error, self.name)
        finally:
            self.done = True
            self.context = None  # type: ignore[assignment]
            self.tapes = ()

    def _body(self) -> None:
        RUNNING.set(self)
        for need in self.needs:  # they have ended, but perhaps elsewhere
            assert need.executor is not None
            need.executor.wait([need])
        args, kwargs = with_results((self.args, self.kwargs)) if self.needs else (self.args, self.kwargs)
        self.outcome, self.ends, self.seconds = perform(self.tapes, self.fn, args, kwargs)
        self.fn = self.args = self.kwargs = None  # type: ignore[assignment]

    def __reduce__(self) -> Any:
        if self.handle is None or not hasattr(self.handle, "travels"):
            raise ParadualTypeError(
                f"the task {self.label!r} was submitted to threads of this process, so a task of another "
                "process cannot join it: submit both to the same executor, or pass on its result"
            )
        return _arrived, (self.executor, self.handle, self.needs, self.name, self.label)


def _arrived(executor: Executor, handle: Any, needs: tuple[Task, ...], name: Job, label: str) -> Task:
    """A task that was captured by another one, on the worker that runs that one."""
    task = object.__new__(Task)
    task.executor, task.handle, task.needs, task.name, task.label = executor, handle, needs, name, label
    task.done = task.cancelled = False
    task.outcome = task.error = task.parent = task.beside = None
    task.ends = task.tapes = ()
    task.seconds, task.worker = 0.0, ""
    return task


def perform(
    tapes: tuple[Tape, ...], fn: Callable[..., Any], args: Any, kwargs: Any
) -> tuple[Any, tuple[Tape | Stub, ...], float]:
    """Call a function as a task: its result, its last tape in each differentiation, and the seconds."""
    ACTIVE.set(tapes)
    began = perf_counter()
    resume()
    value = fn(*args, **kwargs)
    pause()
    return value, ACTIVE.get(), perf_counter() - began


def outside(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call into another engine in a context that knows no tapes.

    What it starts meanwhile keeps the context that it was called in: connections would hold the tapes for as
    long as they are open, and the worker's next task would run inside this task's differentiations.
    """
    host = HOST.get()
    context = copy_context() if host is None else host.copy()
    return context.run(_bare, call, args, kwargs)


def _bare(call: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    ACTIVE.set((OUTSIDE,))
    RUNNING.set(None)
    return call(*args, **kwargs)


def noted(error: BaseException, name: Job) -> BaseException:
    """An exception of a task, with its place."""
    if isinstance(error, Exception):
        error.add_note(f"in the paradual task {name or '(outside of a differentiation)'}")
    return error


def check_wanted(task: Task | None) -> None:
    """Stop a task that was cancelled, or that an ancestor forked who was, when it comes by here."""
    while task is not None:
        if task.cancelled:
            raise CancelledTask
        task = task.parent


def label_of(fn: Any) -> str:
    """What to call a task: the name of its function; for a lambda, of the function that it stands in."""
    while hasattr(fn, "func"):  # a partial
        fn = fn.func
    name = getattr(fn, "__qualname__", None) or type(fn).__qualname__
    parts = [part for part in name.split(".") if part not in ("<lambda>", "<locals>")]
    return parts[-1] if parts else "lambda"


# --- results of tasks among the arguments of others -------------------------------------------------------


def tasks_in(tree: Any) -> Iterator[Task]:
    """The tasks in a nesting of containers."""
    for leaf in flatten(tree)[0]:
        if leaf.__class__ is Task:
            yield leaf


def with_results(tree: Any) -> Any:
    """Arguments with results in the place of tasks."""
    leaves, structure = flatten(tree)
    return unflatten(structure, [leaf.outcome if leaf.__class__ is Task else leaf for leaf in leaves])


# --- tapes -------------------------------------------------------------------------------------------------


def _fork(tape: Tape) -> Tape:
    """The first tape of a new task, for one differentiation."""
    if tape.records is None:  # forward mode records nothing: one marker serves all jobs
        return tape
    differentiation, job = tape.home
    number = tape.forks
    tape.forks += 1
    tape.started[number] = tape.seconds + perf_counter() - tape.began
    return Tape((differentiation, branch(job, number)), [])


def join(tasks: Iterable[Task]) -> None:
    """Close the tapes of the running job, and open successors that know the tasks' past."""
    active = ACTIVE.get()
    if len(active) == 1:
        return
    known = list(_with_needs(tasks))
    following = []
    for tape in active:
        if tape.records is None:
            following.append(tape)
            continue
        differentiation, job = tape.home
        # a task that was forked outside of a differentiation knows nothing of it
        ends = [end for task in known for end in task.ends if end.home[0] == differentiation]
        following.append(Tape((differentiation, successor(job)), [], (tape, *ends)))
    ACTIVE.set(tuple(following))


def _with_needs(tasks: Iterable[Task]) -> Iterator[Task]:
    """Tasks after those whose results they were given."""
    seen: set[int] = set()
    stack: list[tuple[Task, bool]] = [(task, False) for task in reversed(list(tasks))]
    while stack:
        task, ready = stack.pop()
        if ready or not task.needs:
            if id(task) not in seen:
                seen.add(id(task))
                yield task
        elif id(task) not in seen:
            stack.append((task, True))
            stack.extend((need, False) for need in reversed(task.needs))


def pause() -> None:
    """Stop the clocks of the job that runs here: it is about to wait."""
    now = perf_counter()
    for tape in ACTIVE.get()[1:]:
        tape.seconds += now - tape.began
        tape.began = now


def resume() -> None:
    """Start the clocks of the job that runs here."""
    now = perf_counter()
    for tape in ACTIVE.get()[1:]:
        tape.began = now
