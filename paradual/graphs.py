"""Derivatives of Dask collections: a graph goes in, a graph comes out, and nothing is computed.

The tasks of the optimised graph that lie between inputs and outputs are the jobs.  In reverse mode a job
with the key ``k`` becomes three tasks::

    forward-k    runs the task on duals: (value, tape)
    value-k      the value alone, for the jobs that use it: their worker need not fetch the tape
    reverse-k    sweeps the tape: {job: cotangents of the slots of that job that k used}

and an input gets a task that sums what arrives for it.  Every task that differs from the user's has a
name of its own, so that a loss and its gradient can share a scheduler.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

import numpy as np
from dask._task_spec import TaskRef
from dask.base import tokenize

from paradual import jobs
from paradual.errors import ParadualTypeError, ParadualValueError
from paradual.labels import Bare, bare, is_labelled
from paradual.steps import Collect, Forward, Reverse, merge, part, tangent_of, value_of
from paradual.taskgraph import Key, Writer, dependencies_of, is_collection, keys_of, read, renamed
from paradual.trees import flatten_outer, unflatten

# --- reverse mode ----------------------------------------------------------------------------------------


def value_and_gradients(outputs: Any, inputs: Any, cotangents: Any = None, tapes: str = "keep") -> Any:
    """The values of Dask collections and their gradients, lazily, from one forward pass.

    Parameters
    ----------
    outputs : collection or list of collections
        Dask arrays, Delayed objects, or xarray objects over Dask arrays; real scalars, unless cotangents
        are given.
    inputs : collection or list of collections
        What to differentiate with respect to; they may be intermediate results or persisted.  Of an
        xarray object that is the data; its coordinates are constants.
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
    bare_outs, bare_ins = _bare(outputs, inputs)
    outs, ins = bare_outs.arrays, bare_ins.arrays
    seeds = _seeds(outputs, bare_outs, cotangents, "cotangent")
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
    values = bare_outs.label([writer.rebuild(c, "result") for c in outs])
    gradients = bare_ins.label([writer.rebuild(c, "gradient") for c in ins])
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
            names=tuple(dependencies_of(program.nodes[key])),
            uses=tuple(used),
            sources=frozenset(k for k in used if k not in program.uses),
            token=writer.token,
            key=key,
            fresh=key in sources,
            keeps=record,
            forward=tangents is not None,
        )
        refs = [_operand(writer, d, used) for d in run.names]
        if run.fresh:  # a derivative of this derivative with respect to the key must find it here
            refs.append(writer.plain(key))
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
                "gradient",
                key,
                Collect(writer.token, key, len(given)),
                _value(writer, key),
                *given,
                *arriving,
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
        parts = [writer.step(f"sum{level}-{n}", key, merge, *group) for n, group in enumerate(groups)]
        level += 1
    return parts


def _bare(outputs: Any, inputs: Any) -> tuple[Bare, Bare]:
    """What is differentiated, and with respect to what: arrays and Delayed."""
    return (
        bare(_listed(outputs, "outputs"), is_collection),
        bare(_listed(inputs, "inputs"), is_collection, inputs=True),
    )


def _listed(x: Any, what: str) -> list[Any]:
    listed = list(x) if isinstance(x, list | tuple) else [x]
    for c in listed:
        if type(c).__module__.startswith("dask.dataframe"):
            raise ParadualTypeError(
                f"{what} include a {type(c).__name__} of dask.dataframe, but the code of pandas cannot be "
                "differentiated: use df.to_dask_array(lengths=True)"
            )
        if not is_collection(c):
            raise ParadualTypeError(
                f"{what} must be Dask collections (arrays, Delayed, xarray objects over Dask arrays), or a "
                f"list of them, not {type(c).__name__}: for a function of plain arrays use paradual.grad"
                + (", or call chunk() before the object is used" if is_labelled(c) else "")
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


def _seeds(outputs: Any, outs: Bare, cotangents: Any, what: str) -> list[Any]:
    """For each output the cotangent of its chunks: a collection, an array or None for 1."""
    n = len(outs.collections)
    if cotangents is None:
        given = [None] * n
    elif isinstance(outputs, list | tuple):
        given = list(cotangents)
        if len(given) != n:
            raise ParadualValueError(f"{len(given)} cotangents were given for {n} outputs")
    else:
        given = [cotangents]
    return [_seed(c, g) for c, g in zip(outs.arrays, outs.match(given, what), strict=True)]


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
    if is_collection(g) and not _has_chunks(g):
        raise ParadualTypeError("the cotangent of a Dask array must be an array: use dask.array.from_delayed")
    if c.dtype.kind not in "fc":
        raise ParadualTypeError(f"an output has dtype {c.dtype}: it is a constant, and has no cotangent")
    if not is_collection(g):
        if any(np.isnan(n) for n in c.shape):
            raise ParadualValueError(
                "an output has chunks of unknown sizes, so that an array cannot be cut to match: compute "
                "them, x.compute_chunk_sizes(), or give a Dask array with the same chunks"
            )
        g = da.from_array(np.asarray(g, dtype=None if hasattr(g, "dtype") else c.dtype), chunks=c.chunks)
    if not np.can_cast(g.dtype, c.dtype, "safe"):
        raise ParadualTypeError(
            f"a cotangent has dtype {g.dtype}, but its output has {c.dtype}: cast it, "
            f"g.astype({c.dtype.name!r})"
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
    >>> tangents(y, x, np.array([1.0, 0.0, 1.0])).compute()
    array([2., 0., 6.])
    """
    bare_outs, bare_ins = _bare(outputs, inputs)
    outs, ins = bare_outs.arrays, bare_ins.arrays
    for c in ins:
        _check_dtype(c)
    directions = _seeds(inputs, bare_ins, tangents, "tangent")
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
    results = bare_outs.label([writer.rebuild(c, "tangent") for c in outs], np.zeros_like)
    return results if isinstance(outputs, list | tuple) else results[0]


# --- what vjp, grad and jvp do with collections ---------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LazyPullback:
    """The pullback of a function of Dask collections; its results are collections."""

    out: Any
    primals: tuple[Any, ...]

    def __call__(self, cotangent: Any) -> tuple[Any, ...]:
        """Pull a cotangent, of collections or arrays in the structure of the result, back."""
        outs, structure = flatten_outer(self.out)
        given = _matched(structure, cotangent, "the cotangent", "the result")
        ins, in_structure = flatten_outer(self.primals)
        result: tuple[Any, ...] = unflatten(in_structure, gradients(outs, ins, given))
        return result


def _matched(structure: Any, given: Any, what: str, whose: str) -> list[Any]:
    """What is given for each collection: for a Delayed that may be a container itself."""
    try:
        found: list[Any] = structure.flatten_up_to(given)
    except ValueError as error:
        raise ParadualValueError(
            f"{what} has the structure {flatten_outer(given)[1]}, but {whose} {structure}: {error}"
        ) from error
    return found


def is_lazy(primals: tuple[Any, ...], others: Any = ()) -> bool:
    """Whether to differentiate with respect to Dask collections."""
    found = [is_collection(leaf) for leaf in flatten_outer(primals)[0]]
    if any(found) and not all(found):
        raise ParadualTypeError(
            "some of the differentiated arguments are Dask collections and some are not: wrap the others, "
            "with dask.array.from_array or dask.delayed"
        )
    if not any(found) and any(is_collection(leaf) for leaf in flatten_outer(others)[0]):
        raise ParadualTypeError(
            "a function of Dask collections is differentiated with respect to plain arrays: wrap these, "
            "with dask.array.from_array or dask.delayed"
        )
    return any(found)


def independent(primals: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments of a function as variables of their own.

    One may have been computed from another, or the function may use it from outside too: that is a
    constant, as it is for a function of plain arrays.
    """
    leaves, structure = flatten_outer(primals)
    taken = bare(_listed(leaves, "the arguments"), is_collection, inputs=True)
    token = uuid.uuid4().hex[:12]
    copies = [renamed(c, f"{token}-{k}") for k, c in enumerate(taken.arrays)]
    result: tuple[Any, ...] = unflatten(structure, taken.label(copies))
    return result


def lazy_value_and_grad(value: Any, primals: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
    if not is_collection(value):
        raise ParadualTypeError(
            f"the function of Dask collections returned a {type(value).__name__}: its result must be a Dask "
            "collection too, a single number (with several results use vjp, or has_aux=True)"
        )
    leaves, structure = flatten_outer(primals)
    value, found = value_and_gradients(value, leaves)
    return value, unflatten(structure, found)


def lazy_jvp(out: Any, primals: tuple[Any, ...], directions: tuple[Any, ...]) -> tuple[Any, Any]:
    leaves, structure = flatten_outer(primals)
    given = _matched(structure, directions, "the tangent", "the primals")
    outs, out_structure = flatten_outer(out)
    return out, unflatten(out_structure, tangents(outs, leaves, given))
