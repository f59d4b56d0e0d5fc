"""Derivatives of Dask collections: a graph goes in, a graph comes out, and nothing is computed.

The optimised graph of the outputs is walked once.  Its tasks that lie between inputs and outputs are
the jobs.  In reverse mode a job with the key ``k`` becomes three tasks::

    forward-k    runs the task on duals: (value, tape)
    value-k      the value alone, for the jobs that use it: their worker need not fetch the tape
    reverse-k    sweeps the tape: {job: cotangents of the slots of that job that k used}

and an input gets a task that sums what arrives for it.  Every task that differs from the user's has a
name of its own, so that a loss and its gradient can share a scheduler.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from dask._task_spec import Alias, DataNode, GraphNode, Task, TaskRef, convert_legacy_graph
from dask.base import tokenize
from dask.core import flatten as flat_keys
from dask.highlevelgraph import HighLevelGraph
from dask.utils import ensure_dict

from paradual import jobs
from paradual.cluster import register
from paradual.errors import ParadualTypeError, ParadualValueError
from paradual.steps import Collect, Forward, Reverse, merge, part, tangent_of, value_of

Key = Any
Graph = dict[Key, GraphNode]


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
    uses: dict[Key, list[Key]]  # {job: the inputs and jobs it uses}, in program order
    inputs: list[Key]


def read(outputs: list[Any], inputs: list[Any], others: Iterable[Any] = ()) -> Program:
    """Optimise the graph of some collections together and find the jobs between inputs and outputs.

    All their keys are kept as they are: those of an input would else be fused into its users.
    """
    from dask.array.optimization import optimize

    register()
    collections = [*outputs, *inputs, *others]
    merged = HighLevelGraph.merge(*(c.__dask_graph__() for c in collections))
    futures = {k: v for k, v in ensure_dict(merged).items() if type(v).__name__ == "Future"}
    sources = list(dict.fromkeys(k for c in inputs for k in keys_of(c)))
    wanted = list(dict.fromkeys(k for c in collections for k in keys_of(c)))
    nodes: Graph = convert_legacy_graph(ensure_dict(optimize(merged, wanted)))
    _skip_aliases(nodes, set(wanted))
    active: set[Key] = set(sources)
    uses: dict[Key, list[Key]] = {}
    for key in _program_order(nodes, [k for c in outputs for k in keys_of(c)]):
        used = [d for d in _dependencies(nodes[key]) if d in active] if key in nodes else []
        if used:
            active.add(key)
            uses[key] = used
    return Program(nodes, futures, uses, sources)


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


def _dependencies(node: GraphNode) -> list[Key]:
    """What a task depends on, in the order of its arguments: the same in every process."""
    found: dict[Key, None] = {}

    def visit(argument: Any) -> None:
        if isinstance(argument, TaskRef):
            found[argument.key] = None
        elif isinstance(argument, Task):
            for inner in (*argument.args, *argument.kwargs.values()):
                visit(inner)
        elif isinstance(argument, Alias):
            found[argument.target] = None

    visit(node)
    rest = sorted((d for d in node.dependencies if d not in found), key=str)
    return [*(d for d in found if d in node.dependencies), *rest]


def _program_order(nodes: Graph, roots: Iterable[Key]) -> Iterator[Key]:
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
                    stack.extend((d, False) for d in reversed(_dependencies(nodes[key])))


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
        """Add a task of the user's as it is, with all that it needs, and refer to it."""
        program = self.program
        new: dict[Key, Key] = {}
        for k in _program_order(program.nodes, [key]):
            if k in program.futures:
                self.graph[k] = program.futures[k]
            elif k not in program.nodes:
                raise ParadualValueError(f"the graph has no task {k!r}")
            elif isinstance(program.nodes[k], DataNode):
                self.graph[k] = program.nodes[k]
            else:
                new[k] = self.name("", k)
                if new[k] not in self.graph:
                    node = program.nodes[k].substitute(new, key=new[k])
                    # a bare list or dict has no key of its own
                    self.graph[new[k]] = node if node.key == new[k] else Task(new[k], _same, node)
        return TaskRef(new.get(key, key))

    def rebuild(self, like: Any, prefix: str) -> Any:
        """A collection like the given one over the results ``prefix-...``."""
        old = {k[0] if isinstance(k, tuple) else k for k in keys_of(like)}
        rename = {name: self.name(prefix, name) for name in old}
        shared = f"paradual-{self.token}"
        layers = {shared: self.graph, **{name: self.results[name] for name in rename.values()}}
        needs: dict[str, set[str]] = {name: {shared} for name in rename.values()}
        rebuild, args = like.__dask_postpersist__()
        return rebuild(HighLevelGraph(layers, {**needs, shared: set()}), *args, rename=rename)


def _same(x: Any) -> Any:
    return x


# --- reverse mode ----------------------------------------------------------------------------------------


def value_and_gradients(outputs: Any, inputs: Any, cotangents: Any = None, tapes: str = "keep") -> Any:
    """The values of Dask collections and their gradients, lazily, from one forward pass.

    Parameters
    ----------
    outputs : collection or list of collections
        Dask arrays or Delayed objects; real scalars, unless cotangents are given.
    inputs : collection or list of collections
        What to differentiate with respect to; they may be intermediate results or persisted.
    cotangents : collection, array or list of them, optional
        For each output the cotangent to pull back, in its shape; by default 1.
    tapes : str
        ``"keep"``: each task's tape stays on its worker until its reverse task has run;
        ``"recompute"``: it is dropped, and the reverse task runs the task again.

    Returns
    -------
    tuple
        The values in the form of ``outputs`` and the gradients in the form of ``inputs``: collections
        of the same type, chunks and dtype.

    Raises
    ------
    ParadualTypeError, ParadualValueError
        If an output is not a real scalar and has no cotangent, a cotangent does not match its output,
        or an input is not of a floating-point type.

    Examples
    --------
    >>> import dask.array as da, numpy as np
    >>> x = da.from_array(np.array([1.0, 2.0, 3.0]), chunks=2)
    >>> value, gradient = value_and_gradients((x**2).sum(), x)
    >>> value.compute(), gradient.compute()
    (np.float64(14.0), array([2., 4., 6.]))
    """
    outs, ins = _listed(outputs, "outputs"), _listed(inputs, "inputs")
    seeds = _seeds(outputs, outs, cotangents)
    if tapes not in ("keep", "recompute"):
        raise ParadualValueError(f"tapes={tapes!r}: choose 'keep' or 'recompute'")
    for c in ins:
        _check_dtype(c)
    token = tokenize("gradients", [keys_of(c) for c in (*outs, *ins)], seeds, tapes)[:12]
    program = read(outs, ins, [c for c in seeds if is_collection(c)])
    writer = Writer(program, token)
    _write_forward(writer, record=tapes == "keep")
    _write_reverse(writer, outs, seeds, recompute=tapes == "recompute")
    for c in outs:
        for key in keys_of(c):
            writer.result("result", key, value_of, token, _value(writer, key))
    values = [writer.rebuild(c, "result") for c in outs]
    gradients = [writer.rebuild(c, "gradient") for c in ins]
    return (
        values if isinstance(outputs, list | tuple) else values[0],
        gradients if isinstance(inputs, list | tuple) else gradients[0],
    )


def gradients(outputs: Any, inputs: Any, cotangents: Any = None, tapes: str = "keep") -> Any:
    """The gradients of Dask collections, lazily; parameters as `value_and_gradients`.

    Returns
    -------
    collection or list of collections
        In the form of ``inputs``, each of its input's type, chunks and dtype.

    Examples
    --------
    >>> import dask.array as da, numpy as np
    >>> x = da.from_array(np.array([1.0, 2.0, 3.0]), chunks=2)
    >>> gradients((x**2).sum(), x).compute()
    array([2., 4., 6.])
    """
    return value_and_gradients(outputs, inputs, cotangents, tapes)[1]


def _write_forward(writer: Writer, record: bool, tangents: dict[Key, TaskRef] | None = None) -> None:
    """Add the forward task of each job, and what passes its value on."""
    program = writer.program
    sources = set(program.inputs)
    for key, used in program.uses.items():
        run = Forward(
            node=program.nodes[key],
            names=tuple(_dependencies(program.nodes[key])),
            uses=tuple(used),
            sources=frozenset(k for k in used if k not in program.uses),
            token=writer.token,
            key=key,
            fresh=key in sources,
            keeps=record,
            forward=tangents is not None,
        )
        refs = [_operand(writer, d, used) for d in run.names]
        if tangents is not None:
            refs += [tangents[d] for d in run.names if d in run.sources]
            if key in sources:
                refs.append(tangents[key])
        forward = writer.step("forward", key, run, *refs)
        if record:
            writer.step("value", key, part, forward, 0)


def _operand(writer: Writer, key: Key, used: list[Key]) -> TaskRef:
    """What a forward task gets for one of its dependencies."""
    return _value(writer, key) if key in used else writer.plain(key)


def _value(writer: Writer, key: Key) -> TaskRef:
    """The task that has the value of a key, with duals in it if the key is a job's."""
    if key not in writer.program.uses:
        return writer.plain(key)
    name = writer.name("value", key)
    return TaskRef(name if name in writer.graph else writer.name("forward", key))


def _write_reverse(writer: Writer, outs: list[Any], seeds: list[Any], recompute: bool) -> None:
    """Add the reverse task of each job and the sum of what arrives at each input."""
    program = writer.program
    seeded: dict[Key, list[Any]] = {}  # {key: the cotangents of its value}
    for c, seed in zip(outs, seeds, strict=True):
        refs = [writer.plain(k) for k in keys_of(seed)] if is_collection(seed) else [seed]
        for key, ref in zip(keys_of(c), refs, strict=True):
            seeded.setdefault(key, []).append(ref)
    uses: dict[Key, list[Key]] = {key: [] for key in program.inputs if key not in program.uses}
    uses.update(program.uses)
    sources = set(program.inputs)
    for key, consumers in jobs.reverse_plan(uses).items():
        parts = [_part(writer, c, key) for c in consumers]
        arriving = _summed(writer, key, parts)
        given = seeded.get(key, [])
        if key in sources:
            writer.result(
                "gradient", key, Collect(writer.token, key, len(given)), _value(writer, key), *given, *arriving
            )
        if key in program.uses:
            forward = TaskRef(writer.name("forward", key))
            run = writer.graph[forward.key]
            step = Reverse(run.func, len(given), recompute)
            operands = [TaskRef(a.key) for a in run.args] if recompute else []
            writer.step("reverse", key, step, *(operands or [forward]), *given, *arriving)


def _part(writer: Writer, job: Key, key: Key) -> TaskRef:
    """What a job contributes to one of the jobs it used; a task only where it used several."""
    whole = TaskRef(writer.name("reverse", job))
    if len(writer.program.uses[job]) == 1:
        return whole
    number = writer.program.uses[job].index(key)
    return writer.step(f"part{number}", job, part, whole, key)


def _summed(writer: Writer, key: Key, parts: list[TaskRef]) -> list[TaskRef]:
    """Many contributions to the slots of one job, summed by a tree of fixed shape."""
    level = 0
    while len(parts) > jobs.FAN_IN:
        groups = [parts[k : k + jobs.FAN_IN] for k in range(0, len(parts), jobs.FAN_IN)]
        parts = [
            writer.step(f"sum{level}-{n}", key, merge, *group) for n, group in enumerate(groups)
        ]
        level += 1
    return parts


def _listed(x: Any, what: str) -> list[Any]:
    listed = list(x) if isinstance(x, list | tuple) else [x]
    for c in listed:
        if not is_collection(c):
            raise ParadualTypeError(
                f"{what} must be Dask collections (arrays, Delayed), or a list of them, not "
                f"{type(c).__name__}: for a function of plain arrays use paradual.grad"
            )
    return listed


def _has_chunks(c: Any) -> bool:
    # asked of the type: every attribute of a Delayed is another Delayed
    return hasattr(type(c), "chunks") and hasattr(type(c), "dtype")


def _check_dtype(c: Any) -> None:
    dtype = c.dtype if _has_chunks(c) else None
    if dtype is not None and np.dtype(dtype).kind not in "fc":
        raise ParadualTypeError(
            f"an input has dtype {dtype}: derivatives are taken with respect to floating-point values. "
            "Cast it, x.astype(float)"
        )


def _seeds(outputs: Any, outs: list[Any], cotangents: Any) -> list[Any]:
    """For each output the cotangent of its chunks: a collection, an array or None for 1."""
    if cotangents is None:
        given = [None] * len(outs)
    elif isinstance(outputs, list | tuple):
        given = list(cotangents)
        if len(given) != len(outs):
            raise ParadualValueError(f"{len(given)} cotangents were given for {len(outs)} outputs")
    else:
        given = [cotangents]
    return [_seed(c, g) for c, g in zip(outs, given, strict=True)]


def _seed(c: Any, g: Any) -> Any:
    if not _has_chunks(c):
        return g
    if g is None:
        if c.shape != ():
            raise ParadualValueError(
                f"an output of shape {c.shape} has no gradient of its own: sum it, or give its cotangent"
            )
        if c.dtype.kind == "c":
            raise ParadualTypeError("an output is complex: take its real part, or give its cotangent")
        return None
    import dask.array as da

    shape = getattr(g, "shape", np.shape(g))
    if shape != c.shape and not any(np.isnan(n) for n in (*shape, *c.shape)):
        raise ParadualValueError(f"a cotangent has shape {shape}, but its output has {c.shape}")
    if not is_collection(g):
        g = da.from_array(np.asarray(g, dtype=None if hasattr(g, "dtype") else c.dtype), chunks=c.chunks)
    if not np.can_cast(g.dtype, c.dtype, "safe"):
        raise ParadualTypeError(
            f"a cotangent has dtype {g.dtype}, but its output has {c.dtype}: cast it, g.astype({c.dtype.name!r})"
        )
    return g if g.chunks == c.chunks else g.rechunk(c.chunks)


# --- forward mode -----------------------------------------------------------------------------------------


def tangents(outputs: Any, inputs: Any, tangents: Any) -> Any:
    """The derivatives of Dask collections along a direction, lazily: forward mode.

    Parameters
    ----------
    outputs : collection or list of collections
        What to differentiate.
    inputs : collection or list of collections
        What to differentiate with respect to.
    tangents : collection, array or list of them
        A direction: for each input a tangent of its shape.

    Returns
    -------
    collection or list of collections
        In the form of ``outputs``, each of its output's type, chunks and dtype.

    Raises
    ------
    ParadualTypeError, ParadualValueError
        If a tangent does not match its input, or an input is not of a floating-point type.

    Examples
    --------
    >>> import dask.array as da, numpy as np
    >>> x = da.from_array(np.array([1.0, 2.0, 3.0]), chunks=2)
    >>> y = x**2
    >>> pushed = paradual.tangents(y, x, np.array([1.0, 0.0, 1.0]))
    >>> pushed.compute()
    array([2., 0., 6.])
    """
    outs, ins = _listed(outputs, "outputs"), _listed(inputs, "inputs")
    for c in ins:
        _check_dtype(c)
    directions = _seeds(inputs, ins, tangents)
    token = tokenize("tangents", [keys_of(c) for c in (*outs, *ins)], directions)[:12]
    program = read(outs, ins, [t for t in directions if is_collection(t)])
    writer = Writer(program, token)
    given: dict[Key, Any] = {}
    for c, t in zip(ins, directions, strict=True):
        refs = [writer.plain(k) for k in keys_of(t)] if is_collection(t) else [t]
        given.update(zip(keys_of(c), refs, strict=True))
    _write_forward(writer, record=False, tangents=given)
    for c in outs:
        for key in keys_of(c):
            lifted = [given[key]] if key in given and key not in program.uses else []
            writer.result("tangent", key, tangent_of, token, _value(writer, key), *lifted)
    results = [writer.rebuild(c, "tangent") for c in outs]
    return results if isinstance(outputs, list | tuple) else results[0]
