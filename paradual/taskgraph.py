"""Reading a Dask graph, to find its jobs, and writing a new one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from dask._expr import ProhibitReuse
from dask._task_spec import (
    Alias,
    DataNode,
    GraphNode,
    Task,
    TaskRef,
    _execute_subgraph,
    convert_legacy_graph,
)
from dask.core import flatten as flat_keys
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph
from dask.utils import ensure_dict

from paradual.errors import ParadualValueError
from paradual.sizes import register

Key = Any
Graph = dict[Key, GraphNode]


def is_collection(x: Any) -> bool:
    """Whether a value is a Dask collection."""
    return hasattr(x, "__dask_graph__") and not isinstance(x, type) and x.__dask_graph__() is not None


def keys_of(collection: Any) -> list[Key]:
    """The keys of a collection's chunks, in order."""
    return list(flat_keys(collection.__dask_keys__()))


def renamed(collection: Any, token: str) -> Any:
    """The same values under names of their own, which nothing else depends on."""
    rename: dict[str, str] = {}
    layers: dict[Key, Graph] = {}
    for key in keys_of(collection):
        first, rest = (key[0], key[1:]) if isinstance(key, tuple) else (key, None)
        name = rename[first] = f"{first}-{token}"
        new = name if rest is None else (name, *rest)
        layers.setdefault(new if isinstance(collection, Delayed) else name, {})[new] = Step(
            new, _same, TaskRef(key)
        )
    graph = collection.__dask_graph__()
    for name, layer in layers.items():
        graph = HighLevelGraph.merge(graph, HighLevelGraph.from_collections(name, layer, [collection]))
    rebuild, args = collection.__dask_postpersist__()
    return rebuild(graph, *args, rename=rename)


# --- reading a graph --------------------------------------------------------------------------------


@dataclass(slots=True)
class Program:
    """A graph, and the part of it that lies between inputs and outputs."""

    nodes: Graph  # all that outputs, inputs and cotangents need, optimised
    futures: dict[Key, Any]  # {key: a persisted result}
    uses: dict[Key, list[Key]]  # {job: the inputs and jobs it uses}, in program order
    inputs: list[Key]
    given: HighLevelGraph  # the user's graph as it came


def read(outputs: list[Any], inputs: list[Any], others: Iterable[Any] = ()) -> Program:
    """Optimise the graph of some collections together and find the jobs between inputs and outputs.

    All their keys are kept as they are: those of an input would else be fused into its users.
    """
    from dask.array.optimization import optimize

    register()
    collections = [*outputs, *inputs, *others]
    merged = HighLevelGraph.merge(*(c.__dask_graph__() for c in collections))
    given, merged = merged, _name_futures(merged)
    futures = {k: v for k, v in ensure_dict(merged).items() if type(v).__name__ == "Future"}
    sources = list(dict.fromkeys(k for c in inputs for k in keys_of(c)))
    wanted = list(dict.fromkeys(k for c in collections for k in keys_of(c)))
    nodes: Graph = convert_legacy_graph(ensure_dict(optimize(_unfuse(merged), wanted)))
    _skip_aliases(nodes, set(wanted))
    _check_hidden(nodes, sources)
    active: set[Key] = set(sources)
    uses: dict[Key, list[Key]] = {}
    for key in program_order(nodes, [k for c in outputs for k in keys_of(c)]):
        used = [d for d in dependencies_of(nodes[key]) if d in active] if key in nodes else []
        if used:
            active.add(key)
            uses[key] = used
    _fuse_chains(nodes, uses, set(wanted))
    return Program(nodes, futures, uses, sources, given)


def _fuse_chains(nodes: Graph, uses: dict[Key, list[Key]], keep: set[Key]) -> None:
    """Make one job of jobs that follow each other: it then needs one tape and one reverse task.

    A job joins its only user if that uses no other job.  Dask fuses a task only if its user has no other
    dependency at all, as labels or a mask would be.
    """
    users: dict[Key, int] = {}
    for node in nodes.values():
        for key in node.dependencies:
            users[key] = users.get(key, 0) + 1
    chains: dict[Key, list[Key]] = {}  # {last job: the chain that ends with it}
    for key in list(uses):
        before = uses[key][0]
        chains[key] = [key]
        if len(uses[key]) == 1 and before in uses and users[before] == 1 and before not in keep:
            chains[key] = [*chains.pop(before), key]
            uses[key] = uses.pop(before)
    for key, chain in chains.items():
        if len(chain) > 1:
            nodes[key] = GraphNode.fuse(*(nodes[k] for k in chain))
            for k in chain[:-1]:
                del nodes[k]


def _name_futures(graph: HighLevelGraph) -> HighLevelGraph:
    """Let a task with a Future among its arguments refer to it by its key, as in a persisted graph."""
    whole = ensure_dict(graph)
    found = {ref.key: ref for node in whole.values() for ref in _references(node) if type(ref) is not TaskRef}
    if not found:
        return graph
    named: dict[Any, Any] = {key: TaskRef(key) for key in found}
    nodes = {k: v.substitute(named) if isinstance(v, GraphNode) else v for k, v in whole.items()}
    return HighLevelGraph({"futures": {**nodes, **found}}, {"futures": set()})


def _references(node: Any) -> Iterator[TaskRef]:
    for argument in (*node.args, *node.kwargs.values()) if isinstance(node, Task) else ():
        if isinstance(argument, TaskRef):
            yield argument
        else:
            yield from _references(argument)


def _unfuse(graph: HighLevelGraph) -> Any:
    """Take the tasks apart into which Dask has already fused an input.

    ``dask.delayed(f)(array)`` and ``array.to_delayed()`` optimise the array's graph at once; what is left
    of an input is then a key within a fused task, or the copy of a task under another name.
    """
    layers = [layer for layer in graph.layers.values() if not hasattr(layer, "output")]  # not Blockwise
    if not any(_fused(v) or _original(k, v) is not None for layer in layers for k, v in layer.items()):
        return graph
    nodes: Graph = convert_legacy_graph(ensure_dict(graph))
    same: dict[Key, Key] = {}  # {name of a value: another name of it}
    does: Graph = {}  # the tasks that are neither names, nor copies, nor fused

    def name(key: Key) -> Key:
        while key in same:
            key = same[key]
        return key

    def unite(key: Key, other: Key) -> None:
        key, other = name(key), name(other)
        if key != other:
            same[key] = other

    def collect(key: Key, node: Any) -> None:
        original = _original(key, node)
        if isinstance(node, Alias):
            unite(key, node.target)
        elif original is not None:
            unite(key, original)
            collect(original, node.args[0])
        elif _fused(node):
            parts, last, outside, *refs = node.args
            unite(key, last)
            for inner, ref in zip(outside, refs, strict=True):
                unite(inner, ref.key)
            for inner, part in parts.items():
                collect(inner, part)
        elif key not in does:
            does[key] = node

    for key, node in nodes.items():
        collect(key, node)
    home: dict[Key, Key] = {}  # {value: the key of the task that computes it}
    for key in does:
        home.setdefault(name(key), key)
    for key in {**nodes, **dict.fromkeys(same), **does}:
        at = home.get(name(key))
        if at is not None:
            nodes[key] = does[key].substitute({}, key=key) if at == key else Alias(key, at)
    return nodes


def _fused(node: Any) -> bool:
    """Whether a task was fused from tasks with keys of their own (Blockwise's parts have none)."""
    if not isinstance(node, Task) or node.func is not _execute_subgraph:
        return False
    return isinstance(node.key, tuple) == isinstance(node.args[1], tuple) and not any(
        isinstance(name, str) and name.startswith("__dask_blockwise__") for name in node.args[2]
    )


def _original(key: Key, node: Any) -> Key | None:
    """The key of the task of which this one is a copy."""
    if not isinstance(node, Task) or node.func is not ProhibitReuse._identity:
        return None
    if isinstance(key, tuple):
        return (key[0].rpartition("-")[0], *key[1:])
    return key.rpartition("-")[0]


def _check_hidden(nodes: Graph, sources: list[Key]) -> None:
    """Refuse an input that Dask has fused beyond recognition: its gradient would be zero."""
    names = {k[0] for k in sources if isinstance(k, tuple)}

    def visit(node: Any) -> Any:
        if isinstance(node, Task) and node.func is _execute_subgraph:
            parts, last = node.args[:2]
            for k, part in parts.items():
                name = k.rpartition("_.")[0] or k if isinstance(k, str) else None
                if k != last and name in names:
                    return name
                found = visit(part)
                if found is not None:
                    return found
        return None

    for key, node in nodes.items():
        found = visit(node)
        if found is not None:
            raise ParadualValueError(
                f"the input {found!r} was fused into the task {key!r} before its gradient was asked for: "
                "dask.delayed(f)(array) and array.to_delayed() optimise the array at once. Give the function "
                "array.to_delayed(optimize_graph=False), or persist the input before it is used"
            )


def _skip_aliases(nodes: Graph, keep: set[Key]) -> None:
    """Let every task refer to what it means, not to another name of it."""
    target: dict[Key, Key] = {}
    for key, node in nodes.items():
        if isinstance(node, Alias) and key not in keep:
            end = node.target
            while end not in keep and isinstance(nodes.get(end), Alias):
                end = nodes[end].target  # type: ignore[attr-defined]
            target[key] = end
    if target:
        for key in list(nodes):
            if key in target:
                del nodes[key]
            elif not target.keys().isdisjoint(nodes[key].dependencies):
                nodes[key] = nodes[key].substitute(target)


def dependencies_of(node: GraphNode) -> list[Key]:
    """What a task depends on, in the order of its arguments: the same in every process."""
    found: dict[Key, None] = {}

    def visit(argument: Any) -> None:
        if isinstance(argument, TaskRef):
            found[argument.key] = None
        elif getattr(argument, "func", None) is _execute_subgraph:
            # its operands are in the order of their hashes: look at what the tasks within refer to
            inner, last, names, *operands = argument.args
            outside = dict(zip(names, operands, strict=True))
            stack = [last]
            seen = set()
            while stack:
                key = stack.pop()
                if key in outside:
                    visit(outside[key])
                elif key in inner and key not in seen:
                    seen.add(key)
                    stack.extend(reversed(dependencies_of(inner[key])))
        elif isinstance(argument, Task):
            for inner in (*argument.args, *argument.kwargs.values()):
                visit(inner)
        elif isinstance(argument, Alias):
            found[argument.target] = None

    visit(node)
    rest = sorted((d for d in node.dependencies if d not in found), key=str)
    return [*(d for d in found if d in node.dependencies), *rest]


def program_order(nodes: Graph, roots: Iterable[Key]) -> Iterator[Key]:
    """The keys that some roots need, every one after what it depends on."""
    seen: set[Key] = set()
    for root in roots:
        stack = [(root, False)]
        while stack:
            key, ready = stack.pop()
            if ready:
                yield key
            elif key not in seen:
                seen.add(key)
                stack.append((key, True))
                if key in nodes:
                    stack.extend((d, False) for d in reversed(dependencies_of(nodes[key])))


# --- writing a graph ----------------------------------------------------------------------------------


class Step(Task):
    """A task of ours: Dask must not fuse it with its neighbours.

    Fused into its only user, ``value-k`` would make that user fetch the tape.
    """

    __slots__ = ()

    @property
    def block_fusion(self) -> bool:
        return True


class Writer:
    """Collects the tasks of a new graph."""

    def __init__(self, program: Program, token: str) -> None:
        self.program = program
        self.token = token
        self.graph: dict[Key, Any] = {}
        self.results: dict[str, dict[Key, Any]] = {}  # {name of a collection: its tasks}
        self.owner = {k: name for name, layer in program.given.layers.items() for k in layer}
        self.used: set[str] = set()  # layers of the user's graph
        self.fused = {k: node for k, node in program.nodes.items() if k not in self.owner}

    def name(self, prefix: str, key: Key) -> Key:
        """The key of a new task that belongs to a given one."""
        first, rest = (key[0], key[1:]) if isinstance(key, tuple) else (key, None)
        name = f"{prefix}-{first}-{self.token}" if prefix else f"{first}-{self.token}"
        return name if rest is None else (name, *rest)

    def step(self, prefix: str, key: Key, function: Any, *refs: Any) -> TaskRef:
        """Add a task, and refer to it."""
        name = self.name(prefix, key)
        self.graph[name] = Step(name, function, *refs)
        return TaskRef(name)

    def result(self, prefix: str, key: Key, function: Any, *refs: Any) -> None:
        """Add a task that computes a chunk of a resulting collection."""
        name = self.name(prefix, key)
        layer = self.results.setdefault(name[0] if isinstance(name, tuple) else name, {})
        layer[name] = Step(name, function, *refs)

    def plain(self, key: Key) -> TaskRef:
        """Refer to a task of the user's as it is; one that came about by fusion is added.

        It keeps its key, so that the new graph still depends on the inputs of the old: it can be
        differentiated in its turn, and shares what it computes with the user's graph.
        """
        new: dict[Key, Key] = {}
        for k in program_order(self.fused, [key]):
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
                if new[k] not in self.graph:
                    node = self.fused[k].substitute(new, key=new[k])
                    # a bare list or dict has no key of its own
                    self.graph[new[k]] = node if node.key == new[k] else Task(new[k], _same, node)
        return TaskRef(new[key] if key in new else key)  # noqa: SIM401

    def rebuild(self, like: Any, prefix: str) -> Any:
        """A collection like the given one over the results ``prefix-...``."""
        old = {k[0] if isinstance(k, tuple) else k for k in keys_of(like)}
        rename = {name: self.name(prefix, name) for name in old}
        shared = f"paradual-{self.token}"
        given, todo = self.program.given, set(self.used)
        layers: dict[Any, Any] = {shared: self.graph}
        needs: dict[Any, set[str]] = {shared: set(self.used)}
        while todo:
            name = todo.pop()
            layers[name], needs[name] = given.layers[name], given.dependencies[name]
            todo |= needs[name] - needs.keys()
        for name in rename.values():
            # the layer of a Delayed has the name of its key: that of a block of an array is a tuple
            layer = self.name(prefix, like.key) if isinstance(like, Delayed) else name
            layers[layer], needs[layer] = self.results[name], {shared, *self.used}
        rebuild, args = like.__dask_postpersist__()
        return rebuild(HighLevelGraph(layers, needs), *args, rename=rename)


def _same(x: Any) -> Any:
    return x
