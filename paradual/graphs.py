"""Derivatives of Dask collections: a graph goes in, a graph comes out, and nothing is computed.

The tasks of the optimised graph that lie between inputs and outputs are the jobs.  In reverse mode a job
with the key ``k`` becomes three tasks::

    forward-k    runs the task on duals: (value, tape)
    value-k      the value alone, for the jobs that use it: their worker need not fetch the tape
    reverse-k    sweeps the tape: the cotangents of the slots of other jobs that k used

and an input gets a task that sums what arrives for it.  Every task that differs from the user's has a
name of its own, so that a loss and its gradient can share a scheduler.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import numpy as np
from dask._task_spec import TaskRef
from dask.base import tokenize
from dask.utils import parse_bytes

from paradual import jobs
from paradual.errors import ParadualTypeError, ParadualValueError
from paradual.ledger import Ledger
from paradual.steps import Collect, Forward, Merge, Reverse, chosen, tangent_of, value_of
from paradual.taskgraph import Key, Writer, is_collection, keys_of, read, undisturbed
from paradual.trees import flatten, unflatten

# --- reverse mode ----------------------------------------------------------------------------------------


def value_and_gradients(
    outputs: Any, inputs: Any, cotangents: Any = None, tapes: str | int = "keep", mask: Any = None
) -> Any:
    """The values of Dask collections and their gradients, lazily, from one forward pass.

    Parameters
    ----------
    outputs : collection or list of collections
        Dask arrays or Delayed objects; real scalars, unless cotangents are given.
    inputs : collection or list of collections
        What to differentiate with respect to; they may be intermediate results or persisted.
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
    everything, ins = _listed(outputs, "outputs"), _listed(inputs, "inputs")
    masks = _masks(outputs, everything, mask)
    counts = [m is not False for m in masks]
    outs = [c for c, on in zip(everything, counts, strict=True) if on]
    seeds = [g for g, on in zip(_seeds(outputs, everything, cotangents), counts, strict=True) if on]
    lazy = [m for m in masks if m is not False]
    budget = _budget(tapes)
    for c in ins:
        _check_dtype(c)
    token = tokenize("gradients", [keys_of(c) for c in (*outs, *ins)], seeds, lazy, tapes)[:12]
    with undisturbed():
        program = read(outs, ins, [c for c in (*seeds, *lazy) if is_collection(c)])
        writer = Writer(program, token)
        ledger = Ledger(token, budget) if isinstance(budget, int) else None
        _write_forward(writer, record=budget != "recompute", ledger=ledger)
        _write_reverse(writer, outs, seeds, lazy)
        for c in outs:
            for key in keys_of(c):
                writer.result("result", key, value_of, token, _value(writer, key))
        values = iter([writer.rebuild(c, "result") for c in outs])
        gradients = [writer.rebuild(c, "gradient") for c in ins]
    listed = [next(values) if on else None for on in counts]
    return (
        listed if isinstance(outputs, list | tuple) else listed[0],
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
    writer: Writer, record: bool, ledger: Ledger | None = None, tangents: dict[Key, TaskRef] | None = None
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
            keeps=record,
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
        if record:
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
    routes = _Routes(writer, consumers)
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
            kept, ledger = run.func.keeps, run.func.ledger
            step = Reverse(run.func, len(given), kept, not kept or ledger is not None)
            operands = [TaskRef(a.key) for a in run.args] if step.operands else []
            writer.step("reverse", key, step, *([forward] if kept else []), *operands, *given, *arriving)


class _Routes:
    """The ways of contributions from the jobs that make them to the jobs that own the slots.

    Jobs (and inputs) with the same consumers, such as the parameters of a model, are a *bundle*: what
    arrives for them is summed together.  A job that contributes to several bundles hands all it has found
    to one of them; the others get what is theirs from a task of their own.  Where there are just two, and
    many jobs contribute to either, a sum had better fetch a few bytes more than wait for such tasks.
    """

    def __init__(self, writer: Writer, consumers: dict[Key, list[Key]]) -> None:
        from dask.array.optimization import GETTERS  # dask.array takes long to import

        self.writer, self.consumers, self.slices = writer, consumers, GETTERS
        numbers: dict[tuple[Key, ...], int] = {}
        self.bundle: dict[Key, int] = {}  # {key: its bundle's number}
        self.bundles: list[list[Key]] = []
        for key, users in consumers.items():
            number = self.bundle[key] = numbers.setdefault(tuple(users), len(numbers))
            if number == len(self.bundles):
                self.bundles.append([])
            self.bundles[number].append(key)
        self.found: dict[int, list[TaskRef]] = {}  # what arrives for a bundle

    def to(self, key: Key) -> list[TaskRef]:
        """What arrives for a job, from few enough tasks."""
        bundle = self.bundle[key]
        if bundle not in self.found:
            parts = [self._part(job, bundle) for job in self.consumers[key]]
            self.found[bundle] = self._sums(key, bundle, parts)
        return self.found[bundle]

    def _part(self, job: Key, bundle: int) -> TaskRef:
        """What a job contributes to a bundle, perhaps with more."""
        whole = TaskRef(self.writer.name("reverse", job))
        others = list(dict.fromkeys(self.bundle[used] for used in self.writer.program.uses[job]))
        if len(others) == 1 or (len(others) == 2 and all(map(self._is_shared, others))):
            return whole
        if bundle == min(others, key=self._distance):
            return whole
        merge = Merge(frozenset(self.bundles[bundle]))
        return self.writer.step(f"part{others.index(bundle)}", job, merge, whole)

    def _is_shared(self, bundle: int) -> bool:
        return len(self.consumers[self.bundles[bundle][0]]) > 1

    def _distance(self, bundle: int) -> tuple[bool, bool, bool]:
        """Whether a bundle is far from the job: a slice of a neighbour, an input, or used by many jobs.

        What is near has its tape on the same worker, probably, and all can be handed to it.
        """
        program, key = self.writer.program, self.bundles[bundle][0]
        is_slice = getattr(program.nodes.get(key), "func", None) in self.slices
        return is_slice, key not in program.uses, self._is_shared(bundle)

    def _sums(self, key: Key, bundle: int, parts: list[TaskRef]) -> list[TaskRef]:
        """Many contributions to the slots of a bundle, summed by a tree of fixed shape."""
        merge = Merge(frozenset(self.bundles[bundle]))
        level = 0
        while len(parts) > jobs.FAN_IN:
            groups = [parts[k : k + jobs.FAN_IN] for k in range(0, len(parts), jobs.FAN_IN)]
            parts = [
                self.writer.step(f"sum{level}-{n}", key, merge, *group) for n, group in enumerate(groups)
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


def _budget(tapes: Any) -> Any:
    """``"keep"``, ``"recompute"`` or a number of bytes."""
    if tapes in ("keep", "recompute"):
        return tapes
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


# --- what vjp, grad and jvp do with collections ---------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LazyPullback:
    """The pullback of a function of Dask collections; its results are collections."""

    out: Any
    primals: tuple[Any, ...]

    def __call__(self, cotangent: Any) -> tuple[Any, ...]:
        """Pull a cotangent, of collections or arrays in the structure of the result, back."""
        outs, structure = flatten(self.out)
        given, there = flatten(cotangent)
        if there != structure:
            raise ParadualValueError(
                f"the cotangent has the structure {there}, but the result has {structure}"
            )
        ins, in_structure = flatten(self.primals)
        result: tuple[Any, ...] = unflatten(in_structure, gradients(outs, ins, given))
        return result


def is_lazy(primals: tuple[Any, ...], others: Any = ()) -> bool:
    """Whether to differentiate with respect to Dask collections."""
    found = [is_collection(leaf) for leaf in flatten(primals)[0]]
    if any(found) and not all(found):
        raise ParadualTypeError(
            "some of the differentiated arguments are Dask collections and some are not: wrap the others, "
            "with dask.array.from_array or dask.delayed"
        )
    if not any(found) and any(is_collection(leaf) for leaf in flatten(others)[0]):
        raise ParadualTypeError(
            "a function of Dask collections is differentiated with respect to plain arrays: wrap these, "
            "with dask.array.from_array or dask.delayed"
        )
    return any(found)


def lazy_value_and_grad(value: Any, primals: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
    if not is_collection(value):
        raise ParadualTypeError(
            f"the function of Dask collections returned a {type(value).__name__}: its result must be a Dask "
            "collection too, a single number (with several results use vjp, or has_aux=True)"
        )
    leaves, structure = flatten(primals)
    value, found = value_and_gradients(value, leaves)
    return value, unflatten(structure, found)


def lazy_jvp(out: Any, primals: tuple[Any, ...], directions: tuple[Any, ...]) -> tuple[Any, Any]:
    leaves, structure = flatten(primals)
    given, there = flatten(directions)
    if there != structure:
        raise ParadualValueError(f"the tangents have the structure {there}, but the primals have {structure}")
    outs, out_structure = flatten(out)
    return out, unflatten(out_structure, tangents(outs, leaves, given))
