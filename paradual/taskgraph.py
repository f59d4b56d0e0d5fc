"""Reading a Dask graph, to find its jobs."""

from __future__ import annotations

import dis
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from types import FunctionType
from typing import Any

import dask
import numpy as np
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
from dask.blockwise import Blockwise
from dask.core import flatten as flat_keys
from dask.highlevelgraph import HighLevelGraph
from dask.utils import ensure_dict

from paradual.errors import ParadualValueError
from paradual.sizes import register

Key = Any
Graph = dict[Key, GraphNode]
Annotations = dict[Key, dict[str, Any]]


def is_collection(x: Any) -> bool:
    """Whether a value is a Dask collection."""
    return hasattr(x, "__dask_graph__") and not isinstance(x, type) and x.__dask_graph__() is not None


def keys_of(collection: Any) -> list[Key]:
    """The keys of a collection's chunks, in order."""
    return list(flat_keys(collection.__dask_keys__()))


# --- reading a graph --------------------------------------------------------------------------------


@dataclass(slots=True)
class Program:
    """A graph, and the part of it that lies between inputs and outputs."""

    nodes: Graph  # all that outputs, inputs and cotangents need, optimised
    futures: dict[Key, Any]  # {key: a persisted result}
    needs: dict[Key, list[Key]]  # {job: all that it depends on}, in the order of its arguments
    uses: dict[Key, list[Key]]  # {job: the inputs and jobs among these}, in program order
    inputs: list[Key]
    given: HighLevelGraph  # the user's graph as it came
    annotations: Annotations  # {key: what dask.annotate says of it}


def read(outputs: list[Any], inputs: list[Any], others: Iterable[Any] = ()) -> Program:
    """Optimise the graph of some collections together and find the jobs between inputs and outputs.

    All their keys are kept as they are: those of an input would else be fused into its users.
    """
    from dask.array.optimization import optimize

    register()
    collections = [*outputs, *inputs, *others]
    given = HighLevelGraph.merge(*(c.__dask_graph__() for c in collections))
    merged, futures = _name_futures(given)
    sources = list(dict.fromkeys(k for c in inputs for k in keys_of(c)))
    wanted = list(dict.fromkeys(k for c in collections for k in keys_of(c)))
    annotated = any(layer.annotations for layer in given.layers.values())
    # where it fuses tasks of all kinds Dask forgets what is said of them
    with dask.config.set({"optimization.fuse.active": False} if annotated else {}):
        optimised = optimize(_unfuse(merged), wanted)
    annotations = _annotations(given, optimised) if annotated else {}
    if isinstance(optimised, HighLevelGraph):  # nothing was fused, or converted
        optimised = convert_legacy_graph(ensure_dict(optimised))
    nodes: Graph = optimised
    _skip_aliases(nodes, set(wanted))
    _check_hidden(nodes, sources)
    active: set[Key] = set(sources)
    needs: dict[Key, list[Key]] = {}
    uses: dict[Key, list[Key]] = {}
    for key, found in program_order(nodes, [k for c in outputs for k in keys_of(c)]):
        used = [d for d in found if d in active]
        if used:
            active.add(key)
            needs[key], uses[key] = found, used
    _fuse_chains(nodes, needs, uses, set(wanted), annotations)
    return Program(nodes, futures, needs, uses, sources, given, annotations)


def _annotations(*graphs: Any) -> Annotations:
    """What is said of each task of some graphs; of one in several of them, the last one's word counts."""
    found: Annotations = {}
    for graph in graphs:
        for layer in graph.layers.values() if isinstance(graph, HighLevelGraph) else ():
            if not layer.annotations:
                continue
            for key in layer.get_output_keys() if isinstance(layer, Blockwise) else layer:
                said = {name: v(key) if callable(v) else v for name, v in layer.annotations.items()}
                found[key] = {name: v for name, v in said.items() if v is not None}
    return found


def _fuse_chains(
    nodes: Graph,
    needs: dict[Key, list[Key]],
    uses: dict[Key, list[Key]],
    keep: set[Key],
    annotations: Annotations,
) -> None:
    """Make one job of jobs that follow each other: it then needs one tape and one reverse task.

    A job joins its only user if that uses no other job, and if the same is said of where both run; inputs
    that are no jobs are there from the start.
    Dask fuses a task only if its user has no other dependency at all, as parameters or labels would be.
    """
    users: dict[Key, int] = {}
    for node in nodes.values():
        for key in node.dependencies:
            users[key] = users.get(key, 0) + 1
    chains: dict[Key, list[Key]] = {}  # {last job: the chain that ends with it}
    for key in list(uses):
        chains[key] = [key]
        before = [d for d in uses[key] if d in chains]
        alike = len(before) == 1 and annotations.get(key) == annotations.get(before[0])
        if alike and users[before[0]] == 1 and before[0] not in keep:
            chains[key] = [*chains.pop(before[0]), key]
    for key, chain in chains.items():
        if len(chain) > 1:
            nodes[key] = GraphNode.fuse(*(nodes[k] for k in chain))
            for k in chain[:-1]:
                del nodes[k]
            used = {d for k in chain for d in uses.pop(k)} - {*chain}
            needs[key] = dependencies_of(nodes[key])
            uses[key] = [d for d in needs[key] if d in used]
        else:  # in their order, for the last of a chain stands where it stood
            uses[key] = uses.pop(key)


def _explicit(graph: HighLevelGraph) -> Iterator[tuple[Key, Any]]:
    """The tasks of a graph that are written out: those of a Blockwise layer are all alike."""
    for layer in graph.layers.values():
        if not isinstance(layer, Blockwise):
            yield from layer.items()


def _name_futures(graph: HighLevelGraph) -> tuple[HighLevelGraph, dict[Key, Any]]:
    """Let a task with a Future among its arguments refer to it by its key, as in a persisted graph.

    Returns the graph, and the Futures by their keys.
    """
    futures = {key: node for key, node in _explicit(graph) if type(node).__name__ == "Future"}
    literals = [
        argument
        for layer in graph.layers.values()
        if isinstance(layer, Blockwise)
        for argument, index in layer.indices
        if index is None
    ]
    found = {
        ref.key: ref
        for node in (*(node for _, node in _explicit(graph)), *literals)
        for ref in _references(node)
        if type(ref) is not TaskRef
    }
    if not found:
        return graph, futures
    named: dict[Any, Any] = {key: TaskRef(key) for key in found}
    nodes = {k: v.substitute(named) if isinstance(v, GraphNode) else v for k, v in ensure_dict(graph).items()}
    return HighLevelGraph({"futures": {**nodes, **found}}, {"futures": set()}), {**futures, **found}


def _references(node: Any) -> Iterator[TaskRef]:
    if isinstance(node, TaskRef):
        yield node
    for argument in (*node.args, *node.kwargs.values()) if isinstance(node, Task) else ():
        yield from _references(argument)


def _unfuse(graph: HighLevelGraph) -> Any:
    """Take the tasks apart into which Dask has already fused an input.

    ``dask.delayed(f)(array)`` and ``array.to_delayed()`` optimise the array's graph at once; what is left
    of an input is then a key within a fused task, or the copy of a task under another name.
    """
    if not any(_fused(v) or _original(k, v) is not None for k, v in _explicit(graph)):
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
    """Refuse an input that Dask has fused beyond recognition, or computes within a task: it would be lost."""
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
        found = visit(node) if names else None
        if found is not None:
            raise ParadualValueError(
                f"the input {found!r} was fused into the task {key!r} before its gradient was asked for: "
                "dask.delayed(f)(array) and array.to_delayed() optimise the array at once. Give the function "
                "array.to_delayed(optimize_graph=False), or persist the input before it is used"
            )
    keys = set(sources)
    for key, held in _collections_in(nodes):
        if not keys.isdisjoint(ensure_dict(held.__dask_graph__())):
            raise ParadualValueError(
                f"the task {key!r} holds a collection that depends on an input, as a fill value or in a "
                "closure: Dask computes it within the task, as a constant. Make it an operand, "
                "x * da.ones(shape) instead of da.full(shape, x), or an argument of the function"
            )


def _collections_in(nodes: Graph) -> Iterator[tuple[Key, Any]]:
    """The collections within tasks, where their dependencies do not show them, with the tasks' keys."""
    plain: set[type] = {TaskRef, str, int, float, bool, type(None), slice, np.dtype, np.ndarray}
    known: set[int] = set()  # what was looked at: chunks share functions

    def visit(part: Any) -> Iterator[Any]:
        kind = type(part)
        if isinstance(part, Task):
            inner: Any = (part.func, *part.args, *part.kwargs.values())
        elif kind is DataNode:
            inner = (part.value,)
        elif kind is partial:
            inner = (part.func, *part.args, *part.keywords.values())
        elif kind is tuple:
            inner = part
        elif kind is dict or kind is list or kind is FunctionType:  # these may hold themselves
            if id(part) in known:
                return
            known.add(id(part))
            inner = _parts(part)
        else:
            if is_collection(part):
                yield part
            elif not hasattr(kind, "__dask_graph__"):
                plain.add(kind)
            return
        for argument in inner:
            if type(argument) not in plain and id(argument) not in known:
                yield from visit(argument)

    for key, node in nodes.items():
        for found in visit(node):
            yield key, found


def _parts(holder: Any) -> Iterator[Any]:
    if isinstance(holder, FunctionType):
        for cell in holder.__closure__ or ():
            with suppress(ValueError):  # nothing is in it yet
                yield cell.cell_contents
        yield holder.__defaults__
        yield holder.__kwdefaults__
        read = [i.argval for i in dis.get_instructions(holder) if i.opname == "LOAD_GLOBAL"]
        yield from (v for v in map(holder.__globals__.get, read) if is_collection(v))
    else:
        yield from holder.values() if isinstance(holder, dict) else holder


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
    if len(node.dependencies) < 2:
        return list(node.dependencies)
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


def program_order(nodes: Graph, roots: Iterable[Key]) -> Iterator[tuple[Key, list[Key]]]:
    """The keys that some roots need, every one after what it depends on, and with it."""
    seen: set[Key] = set()
    for root in roots:
        stack: list[tuple[Key, list[Key] | None]] = [(root, None)]
        while stack:
            key, needs = stack.pop()
            if needs is not None:
                yield key, needs
            elif key not in seen:
                seen.add(key)
                needs = dependencies_of(nodes[key]) if key in nodes else []
                stack.append((key, needs))
                stack.extend((d, None) for d in reversed(needs))
