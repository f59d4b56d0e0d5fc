"""The executor on a Dask cluster: tasks become Dask tasks, and their tapes stay on the workers.

A task that is recorded becomes two Dask tasks.  ``forward-…`` runs it, and holds its value and its tapes;
``value-…`` is the value alone, which travels to whoever joins the task.  So a tape moves only if its worker
is gone, and a worker that is lost costs the tasks that it held: Dask runs them again, under the same slots.
The reverse pass is one graph of ``reverse-…`` tasks, each where its tape is.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from distributed import Client, Future, default_client, get_client, get_worker, secede
from distributed.worker import thread_state

from paradual.errors import InternalError, ParadualValueError
from paradual.forks import CancelledTask, Executor, Part, Task
from paradual.letters import Handle, Letter
from paradual.pool import Inline, Threads
from paradual.remote import want
from paradual.tape import Home, Stub, Tape, history


class Cluster:
    """Tasks run on the workers of a client's cluster.

    Parameters
    ----------
    client : distributed.Client, optional
        The client; by default that of the worker on which this is used.
    """

    def __init__(self, client: Client | None = None) -> None:
        self._client = client

    def __reduce__(self) -> tuple[Any, ...]:
        return Cluster, ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Cluster) and other.client is self.client

    def __hash__(self) -> int:
        return hash(self.client)

    @property
    def client(self) -> Client:
        """The client."""
        if self._client is None:
            self._client = get_client()
        return self._client

    @property
    def near(self) -> Executor:
        """Threads; but on a worker, which has threads of its own for other tasks, the calling one."""
        return Inline() if _on_worker() else Threads()

    def start(self, tasks: Sequence[Task]) -> None:
        """Send tasks to the cluster, in one graph."""
        _check_running()
        letter = Letter(self, self.client)
        for task in tasks:
            task.executor = self
            letter.add(task)
        letter.send()
        for task in tasks:  # what was sent is not needed here any more
            task.fn = task.context = None  # type: ignore[assignment]
            task.args, task.kwargs = (), {}

    def wait(self, tasks: Sequence[Task]) -> None:
        """Fetch the results of tasks; raise the error of the first that fails."""
        missing = [task for task in tasks if not task.done]
        self._own([task for task in missing if task.tapes == ()])
        values = self._arrive(missing, [task.handle.value for task in missing])
        for task, value in zip(missing, values, strict=True):
            task.outcome = value
            self.wait(task.needs)  # of which only the tapes matter, but they say what came before
            task.done = True

    def fetch(self, parts: Sequence[Part]) -> list[Any]:
        """What tasks of the reverse pass found for a job each (nothing for None), and their tapes."""
        letter = Letter(self, self.client)
        futures = [letter.part(part) for part in parts]
        letter.send()
        values = self._arrive([part.task for part in parts], letter.resolved(futures))
        return [
            value if isinstance(value, dict) or value is None else {part.owner: value}
            for part, value in zip(parts, values, strict=True)
        ]

    def _arrive(self, tasks: Sequence[Task], futures: list[Any]) -> list[Any]:
        """Fetch what came of tasks, and see to it that the tapes of which it tells stay.

        Tapes of tasks that were forked on a worker are wanted by that worker, until they are wanted here.
        If it is lost in between they are gone, and the task that tells of them runs again.
        """
        values: list[Any] = [None] * len(tasks)
        todo = list(range(len(tasks)))
        while todo:
            kept: dict[Any, Any] = {}
            for k, parcel in zip(todo, self.gather([futures[k] for k in todo]), strict=True):
                task, values[k] = tasks[k], parcel.value
                task.ends = tuple(self._bound(end, task.handle.tapes, kept) for end in parcel.ends)
                task.seconds, task.worker = parcel.seconds, parcel.worker
            lost = self._keep(kept)
            todo = [k for k in todo if lost and not lost.isdisjoint(_keys(tasks[k].ends))]
        return values

    def _bound(self, last: Any, own: Any, kept: dict[Any, Any]) -> Stub:
        """What a task told of its tapes, with futures of this client."""
        new: dict[int, Stub] = {}
        for stub in history(last):
            assert isinstance(stub, Stub)
            where = own
            if stub.where is not None:
                key = stub.where.key
                where = kept.get(key) or kept.setdefault(key, Future(key, self.client))
            past = tuple(new[id(before)] for before in stub.past)
            new[id(stub)] = replace(stub, past=past, where=where)
        return new[id(last)]

    def _keep(self, futures: dict[Any, Any]) -> set[Any]:
        """Want keys that another client has made: those that are no longer there."""
        if not futures:
            return set()
        return set(self.client.run_on_scheduler(want, keys=list(futures), client=self.client.id))

    def _own(self, arrived: list[Task]) -> None:
        """Make futures of this client from those of tasks that were captured by the task that runs here."""
        kept: dict[Any, Any] = {}
        for task in arrived:
            for future in task.handle.futures():
                if future.client is not self.client:
                    kept[future.key] = Future(future.key, self.client)
        if lost := self._keep(kept):
            raise InternalError(f"a task was captured by another one, and is gone: {sorted(map(str, lost))}")
        for task in arrived:
            value, tapes, *rest = task.handle
            task.handle = Handle(kept.get(value.key, value), tapes and kept.get(tapes.key, tapes), *rest)

    def gather(self, futures: list[Any]) -> list[Any]:
        """The values of futures."""
        if not futures:
            return []
        if _on_worker():
            with suppress(KeyError, AttributeError):  # it has stepped aside before, or is no task's thread
                secede()  # so that those it waits for can run here
        found: list[Any] = self.client.gather(futures)
        return found

    def tapes(self, stub: Stub) -> dict[Home, Tape]:
        """The tapes of the task that a stub belongs to, fetched."""
        found: dict[Home, Tape] = self.gather([stub.where])[0][1].value
        return found

    def cancel(self, tasks: Sequence[Task]) -> None:
        """Drop tasks that have not begun; what runs ends at its next fork."""
        futures = [f for task in tasks if task.handle is not None for f in task.handle.futures()]
        if futures:
            with suppress(Exception):  # the error that led here is the one to be seen
                self.client.cancel(futures, reason="another task of the same fork has failed")


def active() -> Cluster | None:
    """The cluster that Dask would use here: that of the worker, or of the current client."""
    if _on_worker():
        return Cluster()
    try:
        client = default_client()
    except ValueError:
        return None
    return Cluster(client) if client.status == "running" and not client.asynchronous else None


def owner_of(future: Any) -> Cluster:
    """The cluster that holds a future."""
    if not isinstance(future, Future) or future.client is None:
        raise ParadualValueError(
            "the tapes of this program are on a Dask cluster that this process is not connected to: create "
            "a distributed.Client of the same scheduler first"
        )
    return Cluster(future.client)


def _on_worker() -> bool:
    try:
        get_worker()
    except ValueError:
        return False
    return True


def _check_running() -> None:
    """Stop a task that was cancelled while it ran."""
    key = getattr(thread_state, "key", None)
    if key is not None and _on_worker():
        state = get_worker().state.tasks.get(key)
        if state is None or state.state not in ("executing", "long-running"):
            raise CancelledTask


def _keys(ends: Sequence[Any]) -> set[Any]:
    return {stub.where.key for end in ends for stub in history(end) if isinstance(stub, Stub) and stub.where}
