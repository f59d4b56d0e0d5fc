"""Derivatives of Dask collections: a graph goes in, a graph comes out, and nothing is computed.

The tasks of the optimised graph that lie between inputs and outputs are the jobs.  In reverse mode a job
with the key ``k`` becomes three tasks::

    forward-k    runs the task on duals: (value, tape); of a single number it sweeps the tape at once
    value-k      the value alone, for the jobs that use it: their worker need not fetch the tape
    reverse-k    sweeps the tape: the cotangents of the slots of other jobs that k used

and an input gets a task that sums what arrives for it (on what ways: `routes`).  Every task that differs
from the user's has a name of its own, so that a loss and its gradient can share a scheduler.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from dask._task_spec import TaskRef
from dask.base import tokenize
from dask.utils import parse_bytes

from paradual import jobs
from paradual.errors import ParadualTypeError, ParadualValueError
from paradual.labels import bare, is_labelled
from paradual.ledger import Ledger
from paradual.routes import Routes
from paradual.steps import Collect, Forward, Reverse, chosen, tangent_of, value_of
from paradual.taskgraph import Key, is_collection, keys_of, read
from paradual.writing import Writer, undisturbed

# --- reverse mode ----------------------------------------------------------------------------------------


def value_and_gradients(
    outputs: Any, inputs: Any, cotangents: Any = None, tapes: str | int = "keep", mask: Any = None
) -> Any:
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
    tapes : str or int
        ``"keep"``: each task's tape stays on its worker until its reverse task has run;
        ``"recompute"``: it is dropped, and the reverse task runs the task again; bytes, such as ``"2 GiB"``:
        tapes are kept up to this much memory of the whole cluster, of which each worker has an equal share,
        and the others are dropped.
    mask : bool or lazy bool, or list of them, optional
        For each output whether it counts, for jobs of which some terms fail: what is False is left out and
        need not be computable.  A Delayed or a 0-d array is asked when the graph runs; its output must be
        computable, but its value may be anything.

    Returns
    -------
    tuple
        The values in the form of ``outputs`` (None for one that the mask leaves out) and the gradients in
        the form of ``inputs``: collections of the same type, chunks and dtype.

    Raises
    ------
    ParadualTypeError, ParadualValueError
        If an output is not a real scalar and has no cotangent, a cotangent does not match its output,
        or an input is not of a floating-point type.

    Notes
    -----
    What is computed before the gradient is asked for is a constant: ``float(x.sum())``, ``x.persist()``,
    but also ``prepend=`` and ``append=`` of ``dask.array.diff``, which Dask computes at once.

    Examples
    --------
    >>> import dask.array as da, numpy as np
    >>> x = da.from_array(np.array([1.0, 2.0, 3.0]), chunks=2)
    >>> value, gradient = value_and_gradients((x**2).sum(), x)
    >>> value.compute(), gradient.compute()
    (np.float64(14.0), array([2., 4., 6.]))
    """
    terms, ins = listed(outputs, "outputs"), bare(listed(inputs, "inputs"), is_collection, inputs=True)
    masks, given = _masks(outputs, terms, mask), _given(outputs, terms, cotangents, "cotangents")
    counted = [k for k, m in enumerate(masks) if m is not False]
    outs = bare([terms[k] for k in counted], is_collection)
    seeds = [
        _seed(c, g)
        for c, g in zip(outs.arrays, outs.match([given[k] for k in counted], "cotangent"), strict=True)
    ]
    lazy = [masks[k] for k, arrays in zip(counted, outs.chosen, strict=True) for _ in arrays]
    budget = _budget(tapes)
    for c in ins.arrays:
        _check_dtype(c)
    token = _token("gradients", [*outs.arrays, *ins.arrays], seeds, lazy, tapes)
    with undisturbed():
        program = read(outs.arrays, ins.arrays, [c for c in (*seeds, *lazy) if is_collection(c)])
        writer = Writer(program, token)
        ledger = None if budget is None else Ledger(token, budget)
        _write_forward(writer, ledger)
        _write_reverse(writer, outs.arrays, seeds, lazy)
        for c in outs.arrays:
            for key in keys_of(c):
                writer.result("result", key, value_of, token, _value(writer, key))
        found = iter(outs.label([writer.rebuild(c, "result") for c in outs.arrays]))
        gradients = ins.label([writer.rebuild(c, "gradient") for c in ins.arrays])
    values = [None if m is False else next(found) for m in masks]
    return (
        values if isinstance(outputs, list | tuple) else values[0],
        gradients if isinstance(inputs, list | tuple) else gradients[0],
    )


def gradients(
    outputs: Any, inputs: Any, cotangents: Any = None, tapes: str | int = "keep", mask: Any = None
) -> Any:
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
    return value_and_gradients(outputs, inputs, cotangents, tapes, mask)[1]


def _write_forward(
    writer: Writer, ledger: Ledger | None = None, tangents: dict[Key, TaskRef] | None = None
) -> None:
    """Add the forward task of each job, and what passes its value on."""
    program = writer.program
    sources = set(program.inputs)
    for key, used in program.uses.items():
        run = Forward(
            node=program.nodes[key],
            names=tuple(program.needs[key]),
            uses=tuple(used),
            sources=frozenset(k for k in used if k not in program.uses),
            token=writer.token,
            key=key,
            fresh=key in sources,
            ledger=ledger,
            forward=tangents is not None,
        )
        refs = [_value(writer, d) if d in used else writer.plain(d) for d in run.names]
        if run.fresh:  # a derivative of this derivative with respect to the key must find it here
            refs.append(writer.plain(key))
        if tangents is not None:
            refs += [tangents[d] for d in run.names if d in run.sources]
            if key in sources:
                refs.append(tangents[key])
        writer.values[key] = forward = writer.step("forward", key, run, *refs)
        if tangents is None:
            writer.values[key] = writer.step("value", key, operator.itemgetter(0), forward)


def _value(writer: Writer, key: Key) -> TaskRef:
    """The task that has the value of a key, with duals in it if the key is a job's."""
    return writer.values.get(key) or writer.plain(key)


def _write_reverse(writer: Writer, outs: list[Any], seeds: list[Any], masks: list[Any]) -> None:
    """Add the reverse task of each job and the sum of what arrives at each input."""
    program = writer.program
    seeded: dict[Key, list[Any]] = {}  # {key: the cotangents of its value}
    for n, (c, seed, mask) in enumerate(zip(outs, seeds, masks, strict=True)):
        refs = [writer.plain(k) for k in keys_of(seed)] if is_collection(seed) else [seed]
        for key, ref in zip(keys_of(c), refs, strict=True):
            if mask is not True:
                (asked,) = keys_of(mask)
                ref = writer.step(f"chosen{n}", key, chosen, writer.plain(asked), ref)
            seeded.setdefault(key, []).append(ref)
    uses: dict[Key, list[Key]] = {key: [] for key in program.inputs if key not in program.uses}
    uses.update(program.uses)
    consumers = jobs.reverse_plan(uses)
    routes = Routes(writer, consumers)
    sources = set(program.inputs)
    for key in consumers:
        arriving = routes.to(key)
        given = seeded.get(key, [])
        if key in sources:
            collect = Collect(writer.token, key, len(given))
            writer.result("gradient", key, collect, _value(writer, key), *given, *arriving)
        if key in program.uses:
            forward = TaskRef(writer.name("forward", key))
            run = writer.graph[forward.key]
            again = run.func if run.func.ledger is not None else None
            step = Reverse(writer.token, key, run.func.uses, len(given), again)
            operands = [TaskRef(a.key) for a in run.args] if again is not None else []
            writer.step("reverse", key, step, forward, *operands, *given, *arriving)


def _token(what: str, collections: list[Any], *rest: Any) -> str:
    """A name for a differentiation: the same for the same question."""
    keys = [keys_of(c) for c in collections]
    return tokenize(what, [(k[:1], len(k)) for k in keys], *rest)[:12]  # all the chunks have one name


def listed(x: Any, what: str) -> list[Any]:
    """Collections, checked to be ones that can be differentiated."""
    collections = list(x) if isinstance(x, list | tuple) else [x]
    for c in collections:
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
    return collections


def _budget(tapes: Any) -> Any:
    """A number of bytes, or None for any."""
    if isinstance(tapes, str) and tapes in ("keep", "recompute"):
        return 0 if tapes == "recompute" else None
    try:
        size = parse_bytes(tapes or "none") if isinstance(tapes, str) else operator.index(tapes)
    except (ValueError, TypeError):
        size = -1
    if size < 0 or isinstance(tapes, bool):
        raise ParadualValueError(f"tapes={tapes!r}: choose 'keep', 'recompute' or bytes, such as '2 GiB'")
    return size


def _masks(outputs: Any, outs: list[Any], mask: Any) -> list[Any]:
    """For each output True, False or a lazy collection."""
    if mask is None:
        return [True] * len(outs)
    given = list(mask) if isinstance(outputs, list | tuple) else [mask]
    if len(given) != len(outs):
        raise ParadualValueError(f"a mask of {len(given)} was given for {len(outs)} outputs")
    for m in given:
        if not is_collection(m) and not isinstance(m, bool | np.bool):
            raise ParadualTypeError(f"a mask says True or False of each output, not {m!r}")
        if is_collection(m) and len(keys_of(m)) != 1:
            raise ParadualValueError("a lazy mask of an output must be a single boolean")
    return [m if is_collection(m) else bool(m) for m in given]


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


def _given(outputs: Any, terms: list[Any], cotangents: Any, what: str) -> list[Any]:
    """What was given for each collection; None for nothing."""
    if cotangents is None:
        return [None] * len(terms)
    given = list(cotangents) if isinstance(outputs, list | tuple) else [cotangents]
    if len(given) != len(terms):
        raise ParadualValueError(f"{len(given)} {what} were given for {len(terms)} collections")
    return given


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
        if c.dtype.kind != "f":
            raise ParadualTypeError(f"an output has dtype {c.dtype}: it is a constant, and has no gradient")
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
    given = _given(inputs, listed(inputs, "inputs"), tangents, "tangents")
    bare_outs = bare(listed(outputs, "outputs"), is_collection)
    bare_ins = bare(listed(inputs, "inputs"), is_collection, inputs=True)
    outs, ins = bare_outs.arrays, bare_ins.arrays
    for c in ins:
        _check_dtype(c)
    directions = [_seed(c, t) for c, t in zip(ins, bare_ins.match(given, "tangent"), strict=True)]
    token = _token("tangents", [*outs, *ins], directions)
    with undisturbed():
        program = read(outs, ins, [t for t in directions if is_collection(t)])
        writer = Writer(program, token)
        along: dict[Key, Any] = {}
        for c, t in zip(ins, directions, strict=True):
            refs = [writer.plain(k) for k in keys_of(t)] if is_collection(t) else [t]
            along.update(zip(keys_of(c), refs, strict=True))
        _write_forward(writer, tangents=along)
        for c in outs:
            for key in keys_of(c):
                lifted = [along[key]] if key in along and key not in program.uses else []
                writer.result("tangent", key, tangent_of, token, _value(writer, key), *lifted)
        results = bare_outs.label([writer.rebuild(c, "tangent") for c in outs], np.zeros_like)
    return results if isinstance(outputs, list | tuple) else results[0]
