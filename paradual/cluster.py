"""The executor on a Dask cluster: tasks become Dask tasks, and their tapes stay on the workers.

A task that is recorded becomes two Dask tasks.  ``forward-…`` runs it, and holds its value and its tapes;
``value-…`` is the value alone, which travels to whoever joins the task.  So a tape moves only if its worker
is gone, and a worker that is lost costs the tasks that it held: Dask runs them again, under the same slots.
The reverse pass is one graph of ``reverse-…`` tasks, each where its tape is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from distributed import Client, Future, default_client, get_client, secede, wait
from distributed.worker import thread_state

from paradual import crossing
from paradual.errors import InternalError, ParadualValueError
from paradual.forks import CancelledTask, Executor, Part, Task, outside, tasks_in
from paradual.letters import Handle, Letter
from paradual.parcels import apart
from paradual.pool import Inline, Threads
from paradual.remote import want
from paradual.tape import Home, Stub, Tape, history
from paradual.workers import this_worker

ATTEMPTS = 20  # how often to ask for what came of a task whose worker is lost each time


class Cluster:
    """Tasks run on the workers of a client's cluster.

    Parameters
    ----------
    client : distributed.Client, optional
        The client; by default that of the worker on which this is used.
    """

    def __init__(self, client: Client | None = None) -> None:
        crossing.register()
        self._client = client

    def __reduce__(self) -> tuple[Any, ...]:
        return Cluster, ()

    @property
    def client(self) -> Client:
        """The client."""
        if self._client is None:
            self._client = outside(get_client)
        return self._client

    @property
    def near(self) -> Executor:
        """Threads; but on a worker, which has threads of its own for other tasks, the calling one."""
        return Inline() if this_worker() is not None else Threads()

    def start(self, tasks: Sequence[Task]) -> None:
        """Send tasks to the cluster, in one graph."""
        _check_running()
        letter = Letter(self, self.client)
        for task in tasks:
            task.executor = self
            letter.add(task)
        outside(letter.send)
        for task in tasks:  # what was sent is not needed here any more
            task.fn = task.context = None  # type: ignore[assignment]
            task.args, task.kwargs = (), {}

    def wait(self, tasks: Sequence[Task]) -> None:
        """Fetch the results of tasks; raise the error of the first that fails."""
        missing = [task for task in tasks if not task.done]
        self.adopt([future for task in missing for future in task.handle.futures()])
        values = self._arrive(missing, [task.handle.value for task in missing])
        for task, value in zip(missing, values, strict=True):
            task.outcome = value
            self.wait(task.needs)  # of which only the tapes matter, but they say what came before
            task.done = True

    def fetch(self, parts: Sequence[Part]) -> list[Any]:
        """What tasks of the reverse pass found for a job each (nothing for None), and their tapes."""
        letter = Letter(self, self.client)
        futures = [letter.part(part) for part in parts]
        outside(letter.send)
        values = self._arrive([part.task for part in parts], letter.resolved(futures))
        return [
            value if isinstance(value, dict) or value is None else {part.owner: value}
            for part, value in zip(parts, values, strict=True)
        ]

    def tapes(self, stub: Stub) -> dict[Home, Tape]:
        """The tapes of the task that a stub belongs to, fetched."""
        found: dict[Home, Tape] = self._gather([stub.where])[0][1].value
        return found

    def settle(self, tasks: Iterable[Task]) -> None:
        """Wait for tasks that leave with a result: the scheduler may hear of it before it does of them."""
        futures = [task.handle.value for task in tasks if not task.done and isinstance(task.handle, Handle)]
        if futures:
            _step_aside()
            outside(wait, futures)

    def cancel(self, tasks: Sequence[Task]) -> None:
        """Drop tasks that have not begun; what runs ends at its next fork."""
        futures = [f for task in tasks if task.handle is not None for f in task.handle.futures()]
        if futures:
            with suppress(Exception):  # the error that led here is the one to be seen
                outside(self.client.cancel, futures, reason="another task of the same fork has failed")

    # --- fetching what came of tasks, and keeping what it refers to ----------------------------------------

    def _gather(self, futures: list[Any]) -> list[Any]:
        if not futures:
            return []
        _step_aside()
        try:
            found: list[Any] = outside(self.client.gather, futures)
            return found
        except Exception as error:
            raised = apart(error)
        raise raised

    def _arrive(self, tasks: Sequence[Task], futures: list[Any]) -> list[Any]:
        """Fetch what came of tasks, and see to it that the tasks and tapes that it tells of stay.

        What was forked on a worker is wanted by that worker, until it is wanted here.  If the worker is lost
        in between, it is gone, and the task that tells of it has run again.
        """
        values: list[Any] = [None] * len(tasks)
        futures, todo = list(futures), list(range(len(tasks)))
        for _ in range(ATTEMPTS):
            kept: dict[Any, Any] = {}
            told: dict[int, set[Any]] = {}  # {number of a task: the keys that it tells of}
            for k, parcel in zip(todo, self._gather([futures[k] for k in todo]), strict=True):
                task, values[k] = tasks[k], parcel.value
                task.ends = tuple(self._bound(end, task.handle.tapes, kept) for end in parcel.ends)
                task.seconds, task.worker = parcel.seconds, parcel.worker
                stubs = (stub for end in task.ends for stub in history(end) if isinstance(stub, Stub))
                told[k] = {stub.where.key for stub in stubs}
                for inner in tasks_in(parcel.value) if task.beside is None else ():
                    value, tapes = (self._future(f, kept) for f in inner.handle[:2])
                    inner.handle = inner.handle._replace(value=value, tapes=tapes)
                    told[k].update(f.key for f in inner.handle.futures())
            lost = self._want(kept)
            todo = [k for k in todo if not lost.isdisjoint(told[k])]
            if not todo:
                return values
            self._ask_again(todo, tasks, futures)
        raise InternalError(f"tasks are lost again and again: {sorted(map(str, lost))}")

    def _ask_again(self, todo: list[int], tasks: Sequence[Task], futures: list[Any]) -> None:
        """Get what came of tasks from where their tapes are: a copy of it elsewhere may be older."""
        letter = Letter(self, self.client)
        asked = {k: letter.again(tasks[k]) for k in todo if tasks[k].handle.tapes is not None}
        outside(letter.send)
        for k, future in zip(asked, letter.resolved(list(asked.values())), strict=True):
            futures[k] = future

    def _bound(self, last: Any, own: Any, kept: dict[Any, Any]) -> Stub:
        """What a task told of its tapes, with futures of this client."""
        new: dict[int, Stub] = {}
        for stub in history(last):
            assert isinstance(stub, Stub)
            past = tuple(new[id(before)] for before in stub.past)
            where = own if stub.where is None else self._future(stub.where, kept)
            new[id(stub)] = replace(stub, past=past, where=where)
        return new[id(last)]

    def _future(self, foreign: Any, kept: dict[Any, Any]) -> Any:
        """A future of this client for one that came in a pickle."""
        if foreign is None:
            return None
        if foreign.key not in kept:
            kept[foreign.key] = Future(foreign.key, self.client)
        return kept[foreign.key]

    def _want(self, futures: dict[Any, Any]) -> set[Any]:
        """Tell the scheduler that futures are wanted here: those of which there is nothing left."""
        if not futures:
            return set()
        call = self.client.run_on_scheduler
        return set(outside(call, want, keys=list(futures), client=self.client.id))

    def adopt(self, futures: Sequence[Any]) -> None:
        """Want futures that came in a pickle: Dask does not by itself."""
        foreign = {future.key: future for future in futures if future.client is None}
        for future in foreign.values():
            future.bind_client(self.client)
        if lost := self._want(foreign):
            raise InternalError(f"tasks are gone that should be kept: {sorted(map(str, lost))}")


def active() -> Cluster | None:
    """The cluster that Dask would use here: that of the worker, or of the current client."""
    if this_worker() is not None:
        return Cluster()
    try:
        client = default_client()
    except ValueError:
        return None
    return Cluster(client) if client.status == "running" and not client.asynchronous else None


def owner_of(future: Any) -> Cluster:
    """The cluster that holds a future; one that came in a pickle does not say."""
    found = None
    if isinstance(future, Future):
        found = active() if future.client is None else Cluster(future.client)
    if found is None:
        raise ParadualValueError(
            "the tapes of this program are on a Dask cluster that this process is not connected to: create "
            "a distributed.Client of the same scheduler first"
        )
    return found


def _step_aside() -> None:
    """On a worker, let those tasks run here that this one waits for."""
    if this_worker() is not None:
        with suppress(KeyError, AttributeError):  # it has stepped aside before, or is no task's thread
            outside(secede)


def _check_running() -> None:
    """Stop a task that was cancelled while it ran."""
    key = getattr(thread_state, "key", None)
    worker = this_worker()
    if key is not None and worker is not None:
        state = worker.state.tasks.get(key)
        if state is None or state.state not in ("executing", "long-running"):
            raise CancelledTask
