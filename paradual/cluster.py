"""The executor on a Dask cluster: tasks become Dask tasks, and their tapes stay on the workers.

A task that is recorded becomes two Dask tasks.  ``forward-…`` runs it, and holds its value and its tapes;
``value-…`` is the value alone, which travels to whoever joins the task.  So a tape moves only if its worker
is gone, and a worker that is lost costs the tasks that it held: Dask runs them again, under the same slots.
The reverse pass is one graph of ``reverse-…`` tasks, each where its tape is.
"""

from __future__ import annotations

import itertools
import re
import uuid
import weakref
from collections.abc import Sequence
from contextlib import suppress
from contextvars import copy_context
from dataclasses import replace
from typing import Any, NamedTuple

import dask
import numpy as np
from dask._task_spec import List, TaskRef
from dask._task_spec import Task as Node
from distributed import Client, Future, default_client, get_client, get_worker, secede

from paradual.errors import ParadualTypeError, ParadualValueError
from paradual.forks import EXECUTOR, SUM, CancelledTask, Executor, Part, Task, noted, perform
from paradual.parcels import Parcel, dumps, loads
from paradual.placement import BESIDE, BesideTape
from paradual.pool import Inline, Threads
from paradual.sizes import register, tape_bytes
from paradual.tape import OUTSIDE, Home, Job, Stub, Tape, history, imports

SHARED = 1 << 16  # bytes: an array this large is sent once for all tasks that captured it
MESSAGE = 8_000_000  # bytes: Dask warns of graphs from 10 MB on, so larger ones are sent in pieces
SPLIT = 1 << 16  # bytes: cotangents for other jobs from this size on do not travel along

_PREPARED: weakref.WeakSet[Client] = weakref.WeakSet()  # clients whose scheduler has the plugin


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
        letter = _Letter(self)
        for task in tasks:
            task.executor = self
            letter.add(task)
        letter.send()

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
        letter = _Letter(self)
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
        self._keep(kept)
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


class Handle(NamedTuple):
    """What the cluster knows a task by."""

    value: Any  # future of the value alone
    tapes: Any  # future of what holds value and tapes; None where nothing is recorded
    shares: dict[Job, int] | None  # of the reverse pass: the bytes that go to each job
    travels: bool = True  # whether the task can be joined in another process

    def futures(self) -> list[Any]:
        return [self.value] if self.tapes is None else [self.value, self.tapes]


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
    from distributed.worker import thread_state

    key = getattr(thread_state, "key", None)
    if key is not None and _on_worker():
        state = get_worker().state.tasks.get(key)
        if state is None or state.state not in ("executing", "long-running"):
            raise CancelledTask


def _keys(ends: Sequence[Any]) -> set[Any]:
    return {stub.where.key for end in ends for stub in history(end) if isinstance(stub, Stub) and stub.where}


def want(keys: list[Any], client: str, dask_scheduler: Any = None) -> list[Any]:
    """On the scheduler: keep keys for a client; return those that it does not know."""
    known = [key for key in keys if key in dask_scheduler.tasks]
    dask_scheduler.client_desires_keys(known, client)
    return [key for key in keys if key not in dask_scheduler.tasks]


# --- sending tasks ---------------------------------------------------------------------------------


class _Letter:
    """A graph in the making."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.number = uuid.uuid4().hex  # every attempt has keys of its own: a task that is lost and run
        self.counter = itertools.count()  # again may fork again while the first attempt's tasks still run
        self.nodes: list[tuple[Node, int]] = []  # with their size
        self.wanted: dict[str, None] = {}  # keys to get futures of
        self.beside: dict[str, str] = {}  # {key of a reverse task: key of its tape}
        self.functions: dict[int, tuple[Any, bytes, list[Any]]] = {}  # {id: (function, pickled, arrays)}
        self.waiting: list[tuple[Task, tuple[Any, ...], list[Any], list[Any]]] = []
        self.handles: list[tuple[Task, str, str | None, Any]] = []
        self.held: list[Any] = []  # what must not be forgotten before the letter is sent
        self.futures: dict[str, Any] = {}

    def add(self, task: Task) -> None:
        """Add a task: its function and arguments, pickled, with what they depend on left out."""
        needs: list[Any] = []
        function, arrays = self._function(task)
        arrays = list(arrays)
        arguments = self._pickled(task, (task.args, task.kwargs), arrays, needs)
        homes = [(tape.home, tape.records is not None) for tape in task.tapes[1:]]
        payload = (function, arguments, homes, task.name, task.label, np.geterr())
        self.waiting.append((task, payload, arrays, needs))
        records = any(recorded for _, recorded in homes)
        stage = "forward" if task.beside is None else "sum" if task.beside is SUM else "reverse"
        key = self._key(stage, task.label)
        value = self._key("value", task.label) if records else key
        shares = None
        if isinstance(task.beside, Stub):
            self.beside[key] = task.beside.where.key
            shares = _shares(task.beside)
        task.handle = Handle(TaskRef(value), TaskRef(key) if records else None, shares)

    def _function(self, task: Task) -> tuple[bytes, list[Any]]:
        known = self.functions.get(id(task.fn))
        if known is None:
            arrays: list[Any] = []
            known = (task.fn, self._pickled(task, task.fn, arrays, None), arrays)
            self.functions[id(task.fn)] = known
        return known[1], known[2]

    def _pickled(self, task: Task, value: Any, arrays: list[Any], needs: list[Any] | None) -> bytes:
        def left_out(part: Any) -> Any:
            if type(part) is np.ndarray and part.nbytes >= SHARED and not part.dtype.hasobject:
                arrays.append(part)
                return "array", len(arrays) - 1
            if needs is None:
                if type(part) is Task or isinstance(part, Future):
                    self.held.append(part)
                return None
            if isinstance(part, Part) and isinstance(part.task, Task):
                needs.append(self.part(part))
                return "part", len(needs) - 1, part.owner
            if isinstance(part, Part):
                return None
            if type(part) is Task and part in task.needs:
                needs.append(self._of(part))
                return "value", len(needs) - 1
            if isinstance(part, Future):
                needs.append(part)
                return "future", len(needs) - 1
            return None

        try:
            return dumps(value, left_out)
        except Exception as error:
            if isinstance(error, ParadualTypeError):
                raise
            raise ParadualTypeError(
                f"the task {task.label!r} cannot be sent to a worker, because what it captured or was given "
                f"cannot be pickled ({error}): create it inside the task, or run the task here, with "
                "paradual.executor('threads')"
            ) from error

    def _of(self, task: Task) -> Any:
        """What to depend on for the result of a task."""
        if not isinstance(task.handle, Handle):
            raise ParadualTypeError(
                f"the task {task.label!r} was submitted to threads of this process, so a task on the cluster "
                "cannot take it as an argument: submit both to the same executor, or pass on its result"
            )
        self.held.append(task)
        return task.handle.value

    def part(self, part: Part) -> Any:
        """What to depend on for what a task found for one job; not all that it found, if that is much."""
        value, shares = self._of(part.task), part.task.handle.shares
        if shares is None and part.owner is not None:
            return value
        if part.owner is not None and sum(shares.values()) - shares.get(part.owner, 0) < SPLIT:
            return value
        key = self._key("part", part.task.label)
        self._put(Node(key, pick, _ref(value), part.owner))
        self.wanted[key] = None
        return TaskRef(key)

    def _key(self, stage: str, label: str) -> str:
        """A name that the dashboard groups by what comes before the number."""
        words = re.sub(r"[^A-Za-z]+", "-", label).strip("-") or "task"
        return f"{stage}-{words}-{self.number}{next(self.counter):06x}"

    def _put(self, node: Node, size: int = 0) -> None:
        self.nodes.append((node, size + 1000))

    def send(self) -> None:
        """Hand the graph to the scheduler, in messages of moderate size."""
        uses: dict[int, int] = {}
        for _, _, arrays, _ in self.waiting:
            for name in {id(array) for array in arrays}:
                uses[name] = uses.get(name, 0) + 1
        sent: dict[int, Any] = {}
        parts, self.nodes = self.nodes, []
        for task, payload, arrays, needs in self.waiting:
            blobs = [self._blob(array, uses[id(array)], sent) for array in arrays]
            handle = task.handle
            key = _ref(handle.value if handle.tapes is None else handle.tapes).key
            size = len(payload[0]) + len(payload[1]) + sum(len(b) for b in blobs if isinstance(b, bytes))
            self._put(Node(key, run_task, payload, List(*blobs), List(*[_ref(n) for n in needs])), size)
            if handle.tapes is not None:
                self._put(Node(handle.value.key, first, TaskRef(key)))
                self.wanted[handle.tapes.key] = None
            self.wanted[handle.value.key] = None
        self.nodes.extend(parts)
        self._post()
        for task, *_ in self.waiting:
            handle = task.handle
            value = self.futures[handle.value.key]
            tapes = handle.tapes and self.futures[handle.tapes.key]
            task.handle = handle._replace(value=value, tapes=tapes)
        self.waiting.clear()

    def _blob(self, array: Any, uses: int, sent: dict[int, Any]) -> Any:
        """An array as an argument: pickled, or as a task of its own if several tasks use it."""
        if id(array) not in sent:
            data = dumps(array)
            if uses == 1 and len(data) <= MESSAGE:
                return data
            pieces = []
            for k in range(0, len(data), MESSAGE):
                key = self._key("data", "piece")
                self._put(Node(key, bytes, data[k : k + MESSAGE]), MESSAGE)
                pieces.append(TaskRef(key))
            key = self._key("data", "array")
            self._put(Node(key, put_together, List(*pieces)))
            sent[id(array)] = TaskRef(key)
        return sent[id(array)]

    def _post(self) -> None:
        client = self.cluster.client
        if self.beside and client not in _PREPARED:
            with suppress(ValueError):  # a scheduler that takes no plugins places by the size of the tapes
                client.register_plugin(BesideTape(), name=BESIDE)
            _PREPARED.add(client)
        messages: list[dict[Any, Node]] = [{}]
        total = 0
        for node, size in self.nodes:
            if total + size > MESSAGE + 500_000 and messages[-1]:
                messages.append({})
                total = 0
            messages[-1][node.key] = node
            total += size
        annotations: dict[str, Any] = {"beside": self.beside.get} if self.beside else {}
        for graph in messages:
            keys: list[Any] = list(graph) if len(messages) > 1 else list(self.wanted)
            if graph:
                with dask.annotate(**annotations):
                    self.futures.update(zip(keys, client.get(graph, keys, sync=False), strict=True))
        self.nodes.clear()

    def resolved(self, references: list[Any]) -> list[Any]:
        """The futures of references, once the letter is sent."""
        return [ref if isinstance(ref, Future) else self.futures[ref.key] for ref in references]


def _ref(future: Any) -> TaskRef:
    return TaskRef(future.key)


def _shares(stub: Stub) -> dict[Job, int]:
    """How many bytes of cotangents a job sends to each other job."""
    found: dict[Job, int] = {}
    for (owner, _), form in stub.forms.items():
        size = int(np.prod(form[0], dtype=int)) * form[1].itemsize if type(form) is tuple else 8
        found[owner] = found.get(owner, 0) + size
    return found


# --- what the workers run --------------------------------------------------------------------------


def run_task(payload: tuple[Any, ...], blobs: list[Any], needs: list[Any]) -> Any:
    """Run a task: a parcel with its value; if it records, that and a parcel with its tapes."""
    register()  # this process is asked for the sizes of what it holds
    function, arguments, homes, name, label, errors = payload
    arrays = [loads(blob) if isinstance(blob, bytes) else blob.value for blob in blobs]

    def found(place: tuple[Any, ...]) -> Any:
        kind, k, *owner = place
        if kind == "array":
            return arrays[k]
        content = _content(needs[k])
        if kind == "part":
            return Part(content if isinstance(content, dict) else {owner[0]: content}, owner[0])
        return content

    def body() -> Any:
        EXECUTOR.set(Cluster())
        tapes = (OUTSIDE, *(Tape(home, [] if recorded else None) for home, recorded in homes))
        fn = loads(function, found)
        args, kwargs = loads(arguments, found)
        with np.errstate(**errors):
            return perform(tapes, fn, args, kwargs)

    try:
        value, ends, seconds = copy_context().run(body)
    except Exception as error:
        raise noted(error, name) from error.__cause__
    worker = get_worker().address
    if not any(recorded for _, recorded in homes):
        return Parcel(value, (), seconds, worker)
    store: dict[Home, Tape] = {}
    stubs = tuple(_stub(end, store, label, worker) for end in ends if _records(end))
    return Parcel(value, stubs, seconds, worker), Parcel(store)


def _content(result: Any) -> Any:
    """What the result of a Dask task is for the task that depends on it."""
    if type(result) is Parcel:
        return result.value
    if type(result) is tuple and len(result) == 2 and type(result[1]) is Parcel:
        return result[1].value  # the tapes of a task
    return result


def _records(end: Any) -> bool:
    return isinstance(end, Stub) or (end is not OUTSIDE and end.records is not None)


def _stub(last: Any, store: dict[Home, Tape], label: str, worker: str) -> Stub:
    """What the rest of the program will know of a task's tapes, which stay here."""
    stubs: dict[int, Stub] = {}
    for tape in history(last):
        if isinstance(tape, Tape):
            store[tape.home] = alone = tape.without_past()
            past = tuple(stubs[id(before)] for before in tape.past)
            stubs[id(tape)] = Stub(
                tape.home, imports(tape), tape.masks, past, tape_bytes(alone), tape.seconds, tape.started,
                label, worker,
            )  # fmt: skip
        else:
            stubs[id(tape)] = tape
    return stubs[id(last)]


def first(result: tuple[Parcel, Parcel]) -> Parcel:
    """The value of a task, without its tapes."""
    return result[0]


def pick(parcel: Parcel, owner: Job | None) -> Parcel:
    """What a task of the reverse pass found for one job; for None only its tapes."""
    value = None if owner is None else parcel.value.get(owner, [])
    return Parcel(value, parcel.ends, parcel.seconds, parcel.worker)


def put_together(pieces: list[bytes]) -> Parcel:
    """An array that was sent in pieces.  Several tasks see it, so none may write to it."""
    array = loads(b"".join(pieces))
    array.flags.writeable = False
    return Parcel(array)
