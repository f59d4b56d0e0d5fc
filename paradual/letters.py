"""Sending tasks to a Dask cluster: a graph in the making, with what tasks share sent once."""

from __future__ import annotations

import itertools
import re
import uuid
import weakref
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

import dask
import numpy as np
from dask._task_spec import List, TaskRef
from dask._task_spec import Task as Node
from distributed import Client, Future

from paradual.errors import ParadualTypeError
from paradual.forks import Executor, Part, Task
from paradual.parcels import dumps
from paradual.placement import BESIDE, BesideTape
from paradual.remote import first, pick, put_together, run_task
from paradual.sizes import bytes_of
from paradual.tape import Job, Stub

SHARED = 1 << 16  # bytes: an array this large is sent once for all tasks that captured it
MESSAGE = 8_000_000  # bytes: Dask warns of graphs from 10 MB on, so larger ones are sent in pieces
SPLIT = 1 << 16  # bytes: cotangents for other jobs from this size on do not travel along

_PREPARED: weakref.WeakSet[Client] = weakref.WeakSet()  # clients whose scheduler has the plugin


class Handle(NamedTuple):
    """What the cluster knows a task by."""

    value: Any  # future of the value alone
    tapes: Any  # future of what holds value and tapes; None where nothing is recorded
    shares: dict[Job, int] | None  # of the reverse pass: the bytes that go to each job
    captured: tuple[Any, ...] = ()  # tasks and futures that it will ask for when it runs
    travels: bool = True  # whether the task can be joined in another process

    def futures(self) -> list[Any]:
        return [self.value] if self.tapes is None else [self.value, self.tapes]


class Letter:
    """A graph in the making."""

    def __init__(self, executor: Executor, client: Client) -> None:
        self.executor, self.client = executor, client
        self.number = uuid.uuid4().hex  # every attempt has keys of its own: a task that is lost and run
        # again may fork again while the first attempt's tasks still run.  Of tasks that are alike Dask begins
        # with the last name, so names count down.
        self.counter = itertools.count(16**6 - 1, -1)
        self.nodes: list[tuple[Node, int]] = []  # with their size
        self.wanted: dict[str, None] = {}  # keys to get futures of
        self.resources: dict[str, Any] = {}  # {key: what its worker must have}
        self.beside: dict[str, str] = {}  # {key of a reverse task: key of its tape}
        # {id of a function: (itself, pickled, arrays left out, tasks and futures that it has captured)}
        self.functions: dict[int, tuple[Any, bytes, list[Any], list[Any]]] = {}
        self.waiting: list[tuple[Task, tuple[Any, ...], list[Any], list[Any]]] = []
        self.held: list[Any] = []  # what must not be forgotten before the letter is sent
        self.futures: dict[str, Any] = {}

    def add(self, task: Task) -> None:
        """Add a task: its function and arguments, pickled, with what they depend on left out."""
        needs: list[Any] = []
        function, *shared = self._function(task)
        arrays, captured = list(shared[0]), list(shared[1])
        arguments = self._pickled(task, (task.args, task.kwargs, self.executor), arrays, needs, captured)
        homes = [(tape.home, tape.records is not None) for tape in task.tapes[1:]]
        if task.resources is None and task.beside is None:
            task.resources = dask.get_annotations().get("resources")
        payload = (function, arguments, homes, task.name, task.label, np.geterr(), task.resources)
        self.waiting.append((task, payload, arrays, needs))
        records = any(recorded for _, recorded in homes)
        stage = "forward" if task.beside is None else "reverse"
        key = self._key(stage, task.label)
        value = self._key("value", task.label) if records else key
        self.resources.update(dict.fromkeys((key, value), task.resources))
        shares = None
        if isinstance(task.beside, Stub):
            self.beside[key] = task.beside.where.key
            shares = _shares(task.beside)
        task.handle = Handle(TaskRef(value), TaskRef(key) if records else None, shares, tuple(captured))

    def _function(self, task: Task) -> tuple[bytes, list[Any], list[Any]]:
        if id(task.fn) not in self.functions:
            arrays: list[Any] = []
            captured: list[Any] = []
            pickled = self._pickled(task, task.fn, arrays, None, captured)
            self.functions[id(task.fn)] = task.fn, pickled, arrays, captured
        return self.functions[id(task.fn)][1:]

    def _pickled(
        self, task: Task, value: Any, arrays: list[Any], needs: list[Any] | None, captured: list[Any]
    ) -> bytes:
        def left_out(part: Any) -> Any:
            if type(part) is np.ndarray and part.nbytes >= SHARED and not part.dtype.hasobject:
                arrays.append(part)
                return "array", len(arrays) - 1
            if needs is not None:
                if isinstance(part, Part) and isinstance(part.task, Task):
                    needs.append(self.part(part))
                    return "part", len(needs) - 1, part.owner
                if type(part) is Task and part in task.needs:
                    needs.append(self._of(part))
                    return "value", len(needs) - 1
                if isinstance(part, Future):
                    needs.append(part)
                    return "future", len(needs) - 1
            if type(part) is Task or isinstance(part, Future):
                captured.append(part)
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
        self.resources[key] = part.task.resources
        self.wanted[key] = None
        return TaskRef(key)

    def again(self, task: Task) -> Any:
        """Ask for the value of a task, and what it tells of its tapes, where these are."""
        key = self._key("value", task.label)
        self._put(Node(key, first, _ref(task.handle.tapes)))
        self.resources[key] = task.resources
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
        client = self.client
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
        needed = {key: resources for key, resources in self.resources.items() if resources}
        if needed or "resources" in dask.get_annotations():  # which is not meant for data, and sums
            annotations["resources"] = partial(_needed, needed)
        for graph in messages:
            keys: list[Any] = list(graph) if len(messages) > 1 else list(self.wanted)
            if graph:
                with dask.annotate(**annotations):
                    self.futures.update(zip(keys, client.get(graph, keys, sync=False), strict=True))
        self.nodes.clear()

    def resolved(self, references: list[Any]) -> list[Any]:
        """The futures of references, once the letter is sent."""
        return [ref if isinstance(ref, Future) else self.futures[ref.key] for ref in references]


def _needed(resources: dict[str, Any], key: str) -> Any:
    return resources.get(key, {})


def _ref(future: Any) -> TaskRef:
    return TaskRef(future.key)


def _shares(stub: Stub) -> dict[Job, int]:
    """How many bytes of cotangents a job sends to each other job."""
    found: dict[Job, int] = {}
    for (owner, _), form in stub.forms.items():
        found[owner] = found.get(owner, 0) + bytes_of(form)
    return found
