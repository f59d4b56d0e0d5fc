"""Writing a new Dask graph beside the one it was made from."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from dask._task_spec import DataNode, Task, TaskRef
from dask.blockwise import Blockwise
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer

from paradual.errors import ParadualValueError
from paradual.jobs import with_name
from paradual.taskgraph import Graph, Key, Program, keys_of, program_order


@contextmanager
def undisturbed() -> Iterator[None]:
    """Build a graph without the garbage collector: it would look at every task again and again.

    Half of the time goes there otherwise, and nothing here is garbage before all is done.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class Step(Task):
    """A task of ours: Dask must not fuse it with its neighbours.

    Fused into its only user, ``value-k`` would make that user fetch the tape.
    """

    __slots__ = ()

    @property
    def block_fusion(self) -> bool:
        return True


def _keys_in(layer: Any) -> Iterable[Key]:
    keys: Iterable[Key] = layer.get_output_keys() if isinstance(layer, Blockwise) else layer
    return keys


class Writer:
    """Collects the tasks of a new graph."""

    def __init__(self, program: Program, token: str) -> None:
        self.program = program
        self.token = token
        self.graph: dict[Key, Any] = {}
        self.values: dict[Key, TaskRef] = {}  # {job: the task that has its value}
        self.results: dict[str, dict[Key, Any]] = {}  # {name of a collection: its tasks}
        self.said: dict[str, dict[Key, Any]] = {}  # {annotation: {key of a new task: its value}}
        self.owner = {k: name for name, layer in program.given.layers.items() for k in _keys_in(layer)}
        self.used: set[str] = set()  # layers of the user's graph
        self.fused = {k: node for k, node in program.nodes.items() if k not in self.owner}

    def name(self, prefix: str, key: Key) -> Key:
        """The key of a new task that belongs to a given one."""
        start = f"{prefix}-" if prefix else ""
        return with_name(key, lambda name: f"{start}{name}-{self.token}")

    def _annotate(self, name: Key, key: Key) -> None:
        """Say of a new task what is said of the task that it belongs to: it runs where that does."""
        for kind, value in self.program.annotations.get(key, {}).items():
            self.said.setdefault(kind, {})[name] = value

    def _layer(self, tasks: dict[Key, Any]) -> Any:
        """Tasks as a layer of a graph, with what is said of them."""
        said = {kind: values.get for kind, values in self.said.items() if not values.keys().isdisjoint(tasks)}
        return MaterializedLayer(tasks, annotations=said) if said else tasks

    def step(self, prefix: str, key: Key, function: Any, *refs: Any) -> TaskRef:
        """Add a task, and refer to it."""
        name = self.name(prefix, key)
        self.graph[name] = Step(name, function, *refs)
        self._annotate(name, key)
        return TaskRef(name)

    def result(self, prefix: str, key: Key, function: Any, *refs: Any) -> None:
        """Add a task that computes a chunk of a resulting collection."""
        name = self.name(prefix, key)
        layer = self.results.setdefault(name[0] if isinstance(name, tuple) else name, {})
        layer[name] = Step(name, function, *refs)
        self._annotate(name, key)

    def plain(self, key: Key) -> TaskRef:
        """Refer to a task of the user's as it is; one that came about by fusion is added.

        It keeps its key, so that the new graph still depends on the inputs of the old: it can be
        differentiated in its turn, and shares what it computes with the user's graph.
        """
        if key in self.owner:
            self.used.add(self.owner[key])
            return TaskRef(key)
        new: dict[Key, Key] = {}
        for k, _ in program_order(self.fused, [key]):
            if k in self.owner:
                self.used.add(self.owner[k])
            elif k in self.program.futures:
                self.graph[k] = self.program.futures[k]
            elif k not in self.fused:
                raise ParadualValueError(f"the graph has no task {k!r}")
            elif isinstance(self.fused[k], DataNode):
                self.graph[k] = self.fused[k]
            else:
                new[k] = self.name("", k)
                self._annotate(new[k], k)
                if new[k] not in self.graph:
                    node = self.fused[k].substitute(new, key=new[k])
                    # a bare list or dict has no key of its own
                    self.graph[new[k]] = node if node.key == new[k] else Task(new[k], _same, node)
        return TaskRef(new.get(key) or key)

    def rebuild(self, like: Any, prefix: str) -> Any:
        """A collection like the given one over the results ``prefix-...``."""
        old = {k[0] if isinstance(k, tuple) else k for k in keys_of(like)}
        rename = {name: self.name(prefix, name) for name in old}
        shared = f"paradual-{self.token}"
        given, todo = self.program.given, set(self.used)
        layers: dict[Any, Any] = {shared: self._layer(self.graph)}
        needs: dict[Any, set[str]] = {shared: set(self.used)}
        while todo:
            name = todo.pop()
            layers[name], needs[name] = given.layers[name], given.dependencies[name]
            todo |= needs[name] - needs.keys()
        for name in rename.values():
            # the layer of a Delayed has the name of its key: that of a block of an array is a tuple
            layer = self.name(prefix, like.key) if isinstance(like, Delayed) else name
            layers[layer], needs[layer] = self._layer(self.results[name]), {shared, *self.used}
        rebuild, args = like.__dask_postpersist__()
        return rebuild(HighLevelGraph(layers, needs), *args, rename=rename)


def _same(x: Any) -> Any:
    return x


def renamed(collection: Any, token: str) -> Any:
    """The same values under names of their own, which nothing else depends on."""
    rename: dict[str, str] = {}
    layers: dict[Key, Graph] = {}
    for key in keys_of(collection):
        new = with_name(key, lambda name: f"{name}-{token}")
        old, name = (key[0], new[0]) if isinstance(key, tuple) else (key, new)
        rename[old] = name
        layer = layers.setdefault(new if isinstance(collection, Delayed) else name, {})
        layer[new] = Step(new, _same, TaskRef(key))
    graph = collection.__dask_graph__()
    for name, layer in layers.items():
        graph = HighLevelGraph.merge(graph, HighLevelGraph.from_collections(name, layer, [collection]))
    rebuild, args = collection.__dask_postpersist__()
    return rebuild(graph, *args, rename=rename)
