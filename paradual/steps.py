"""The tasks of a derivative graph, as plain data that can be called: what a Dask worker runs.

A contribution is ``(slot, cotangent)``.  Who gets contributions takes those to its own slots.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from dask._task_spec import GraphNode, TaskRef, _execute_subgraph

from paradual.arrays import form_of, is_complex, settle_owned, shape_of, zeros
from paradual.crossing import crated
from paradual.dual import DUALS, Dual, is_inexact
from paradual.errors import InternalError, ParadualError, ParadualTypeError, ParadualValueError
from paradual.labels import cure
from paradual.ledger import Ledger
from paradual.locality import on_device
from paradual.reverse import reverse
from paradual.rules.modes import fit_tangent
from paradual.sizes import arrays_on, bytes_of, register
from paradual.standins import with_standins
from paradual.tape import ACTIVE, Job, Slot, Tape, add_leaf, history, imports
from paradual.trees import check_cotangent, check_input, finish, flatten, is_array, unflatten
from paradual.work import rehome, run
from paradual.workers import this_worker

Key = Any
Contributions = list[tuple[Slot, Any]]


def job_of(key: Key) -> Job:
    """The name of the first job of a Dask task."""
    return (key, 0)


@dataclass(frozen=True, slots=True)
class Forward:
    """Run a task on duals.

    In reverse mode returns ``(value, tape)``, or in place of the tape what a sweep of it found (see `Swept`),
    or None where a budget does not allow it; in forward mode the value alone.
    """

    node: Any  # the user's task
    names: tuple[Key, ...]  # what it depends on
    uses: tuple[Key, ...]  # those of them that carry derivatives
    sources: frozenset[Key]  # those of them that are inputs: they become duals here
    token: str  # the differentiation
    key: Key
    fresh: bool  # whether the task is an input itself: its value follows, and gets slots of its own
    ledger: Ledger | None  # a budget for what is kept
    forward: bool  # forward mode: the tangents of the sources follow the operands

    def __call__(self, *operands: Any) -> Any:
        register()  # on the worker, which is asked for the size of the tape
        worker = this_worker()
        if worker is not None:
            from paradual.placement import follow_tapes

            follow_tapes(worker)
        value, tape = self.record(*operands)
        if self.forward:
            return value
        if len(ACTIVE.get()) > 1:
            # a derivative of this derivative must find the same each time that this is called
            return crated((value, tape if self.ledger is None else None))
        swept = swept_at_once(value, tape)
        if swept is not None:
            return crated((value, swept))
        return crated((value, tape if self.ledger is None or self.ledger.keeps(tape) else None))

    @property
    def arity(self) -> int:
        """How many operands there are, tangents apart."""
        return len(self.names) + self.fresh

    def record(self, *operands: Any) -> tuple[Any, Tape]:
        """The task's value, with duals of this job in it, and its tape."""
        values = {name: laid_out(x) for name, x in zip(self.names, operands, strict=False)}
        tangents = iter(operands[self.arity :])
        for name in self.names:
            if name in self.sources:
                values[name] = lift(values[name], self.token, name, next(tangents) if self.forward else None)
        tape = Tape((self.token, job_of(self.key)), None if self.forward else [])
        try:
            value, last = run(tape, call_node, with_standins(self.node), values)
        except Exception as error:
            error.add_note(f"in the forward pass of the Dask task {self.key!r}")
            advice = cure(error) if isinstance(error, ParadualError) else None
            if advice:
                error.add_note(advice)
            raise
        if any(hasattr(leaf, "__dask_graph__") for leaf in flatten(value)[0]):
            raise ParadualTypeError(
                f"the Dask task {self.key!r} returned a Dask collection, from a function of dask.array that "
                "was called within it: what is being differentiated would be lost in there. Call the NumPy "
                "function"
            )
        value = rehome(value, last)
        if self.fresh:
            given = laid_out(operands[len(self.names)])
            value = _freshen(value, given, last, next(tangents, None), self.key)
        return value, last


def call_node(node: Any, values: dict[Key, Any]) -> Any:
    """Call a Dask task; a fused one task by task, for Dask would plan it anew on each call."""
    if getattr(node, "func", None) is not _execute_subgraph or node.kwargs:
        return node(values)
    inner, out_key, in_keys, *operands = node.args
    found = {key: _resolved(operand, values) for key, operand in zip(in_keys, operands, strict=True)}
    stack = [out_key]
    while stack:
        key = stack[-1]
        if key not in found:
            missing = [d for d in inner[key].dependencies if d not in found]
            if missing:
                stack.extend(missing)
                continue
            found[key] = call_node(inner[key], {d: found[d] for d in inner[key].dependencies})
        stack.pop()
    return found[out_key]


def _resolved(operand: Any, values: dict[Key, Any]) -> Any:
    if isinstance(operand, TaskRef):
        return values[operand.key]
    if isinstance(operand, GraphNode):
        return operand({d: values[d] for d in operand.dependencies})
    return operand


def laid_out(value: Any) -> Any:
    """A value with every array in it contiguous and aligned.

    A view becomes contiguous when it travels, and what arrives in a network buffer may not be aligned;
    sums and products round differently then.  The last bits of a gradient must not depend on where its
    tasks ran.
    """
    leaves, structure = flatten(value)
    new = [_contiguous(leaf) for leaf in leaves]
    # what needs nothing stays what it is: a rebuilt dataclass has its fields only
    same = all(a is b for a, b in zip(leaves, new, strict=True))
    return value if same else unflatten(structure, new)


def _contiguous(leaf: Any) -> Any:
    if leaf.__class__ in DUALS:
        value = _contiguous(leaf.value)
        return leaf if value is leaf.value else Dual(value, leaf.home, leaf.place)
    if type(leaf) is np.ndarray:
        flags = leaf.flags
        if not (flags.aligned and (flags.c_contiguous or flags.f_contiguous)):
            return leaf.copy(order="F" if flags.f_contiguous and not flags.c_contiguous else "C")
    return leaf


def lift(value: Any, token: str, key: Key, tangent: Any = None) -> Any:
    """An input's value as duals: its leaves are the slots 0, 1, ... of the input."""
    leaves, structure = flatten(value)
    directions: list[Any] = list(range(len(leaves)))
    if tangent is not None:
        directions, given = flatten(tangent)
        if given != structure:
            raise ParadualValueError(f"a tangent has the structure {given}, but its input has {structure}")
        directions = [
            check_cotangent(t, form_of(leaf), " (a tangent)", leaf)
            for t, leaf in zip(directions, leaves, strict=True)
        ]
    for leaf in leaves:
        check_input(leaf, f"the input {key!r}")
    return unflatten(
        structure,
        [Dual(leaf, (token, job_of(key)), t) for leaf, t in zip(leaves, directions, strict=True)],
    )


def _freshen(value: Any, given: Any, tape: Tape, tangent: Any, key: Key) -> Any:
    """Give each leaf of an intermediate input a slot that no other leaf has, and the input's own value."""
    leaves, structure = flatten(value)
    plain, there = flatten(given)
    if there != structure:
        raise ParadualValueError(f"the input {key!r} has another structure each time it is computed")
    for leaf in plain:
        check_input(leaf, f"the input {key!r}")
    if tape.records is None:
        directions, _ = flatten(tangent)
        old = [leaf.place if _of(leaf, tape) else zeros(form_of(leaf), leaf) for leaf in leaves]
        places = [
            t + check_cotangent(d, form_of(p), like=p) for t, d, p in zip(old, directions, plain, strict=True)
        ]
    else:
        places = []
        for leaf, p in zip(leaves, plain, strict=True):
            if _of(leaf, tape):
                tape.records.append((np.positive, form_of(p), ((leaf.place, 0, ()),)))
                places.append(len(tape.records) - 1)
            else:
                places.append(add_leaf(tape, ((key, "input"), len(places)), form_of(p)))
    return unflatten(structure, [Dual(p, tape.home, t) for p, t in zip(plain, places, strict=True)])


def _of(leaf: Any, tape: Tape) -> bool:
    return leaf.__class__ in DUALS and leaf.home[0] == tape.home[0]


@dataclass(frozen=True, slots=True)
class Reverse:
    """Sweep the tape of a job: contributions to the slots of the jobs and inputs that it used."""

    token: str
    key: Key
    uses: tuple[Key, ...]
    given: int  # how many cotangents of the value come from outside
    again: Forward | None  # what to run if there is no tape; its operands follow its result

    def __call__(self, kept: Any, *arguments: Any) -> Contributions:
        value, tape = kept
        n = 0 if self.again is None else self.again.arity
        if tape is None and self.again is not None:
            value, tape = self.again.record(*arguments[:n])
        seeds = _seeds(value, self.token, arguments[n : n + self.given])
        for slot, g in _addressed(arguments[n + self.given :], frozenset((self.key,))):
            seeds.append((slot, laid_out(g)))
        try:
            sweep = tape.times if isinstance(tape, Swept) else partial(reverse, tape)
            found = sweep(seeds) if seeds else {}
        except Exception as error:
            error.add_note(f"in the reverse pass of the Dask task {self.key!r}")
            raise
        # an intermediate input's own leaf: its cotangent is the gradient already
        contributions = [(slot, g) for slot, g in found.items() if slot[0] != (self.key, "input")]
        for (owner, _), _ in contributions:
            if owner[0] not in self.uses:
                raise InternalError(
                    f"the task {self.key!r} used a value of {owner[0]!r} on which it does not depend: it "
                    "travelled inside an object that is not a tuple, list, dict or dataclass. Register "
                    "its class with optree (namespace 'paradual')"
                )
        return crated(contributions)


@dataclass(frozen=True, slots=True)
class Swept:
    """What the sweep of a tape found for the cotangent 1 of its job's only result, a number.

    A reverse pass is linear in its cotangent, and this one has a single number: so it can run before the
    number is known, and no tape has to wait for the end of the forward pass.
    """

    slot: Slot
    found: dict[Slot, Any]

    def __sizeof__(self) -> int:  # Dask asks
        return 64 + sum(96 + int(getattr(c, "nbytes", 0)) for c in self.found.values())

    def times(self, seeds: Contributions) -> dict[Slot, Any]:
        """The same for the cotangent that has arrived."""
        ((_, g),) = _sum(seeds)
        factor = g.reshape(()) if hasattr(g, "reshape") else g
        if type(factor) in (np.ndarray, np.float64, float) and factor == 1.0:  # not asked of a device
            return self.found
        return {slot: fit_tangent(c * factor, c) for slot, c in self.found.items()}


def swept_at_once(value: Any, tape: Tape) -> Swept | None:
    """Sweep a tape before its cotangent is known, if that takes less to keep than the tape.

    Sizes are those of the program's arrays, and not what memory they happen to share: the last bits of a
    gradient depend on this choice, and must not depend on where a task ran.
    """
    results = [leaf for leaf in flatten(value)[0] if leaf.__class__ in DUALS and leaf.home == tape.home]
    if len(results) != 1 or not is_array(results[0]):
        return None
    form = form_of(results[0].value)
    if is_complex(results[0]) or math.prod(shape_of(results[0].value)) != 1:
        return None
    own = {part.home[1] for part in history(tape)}
    used = {
        slot: form for part in history(tape) for slot, form in imports(part).items() if slot[0] not in own
    }
    if sum(map(bytes_of, used.values())) > sum(array.nbytes for array in arrays_on(tape)):
        return None
    slot = (tape.home[1], results[0].place)
    one = np.ones_like(results[0].value) if type(form) is tuple else 1.0
    try:
        found = reverse(tape, [(slot, one)])
    except Exception:  # the reverse task finds it too, if it is needed, and says where
        return None
    if any(on_device(c) != on_device(results[0]) for c in found.values()):
        return None  # the cotangent will be a number on the one side, and what it multiplies on the other
    return Swept(slot, found)


def _addressed(parts: Any, owners: frozenset[Key]) -> Contributions:
    """The contributions to the slots of some jobs, in their order."""
    return [contribution for part in parts for contribution in part if contribution[0][0][0] in owners]


@dataclass(frozen=True, slots=True)
class Collect:
    """The gradient of one chunk of an input: the sum of what arrives for its slots."""

    token: str
    key: Key
    given: int

    def __call__(self, value: Any, *arguments: Any) -> Any:
        leaves, structure = flatten(value)
        if not any(_owned(leaf, self.token) for leaf in leaves):
            value = lift(value, self.token, self.key)
            leaves, structure = flatten(value)
        contributions = _seeds(value, self.token, arguments[: self.given])
        contributions += _addressed(arguments[self.given :], frozenset((self.key,)))
        sums = dict(_sum(contributions))
        gradients = []
        for leaf in leaves:
            form = form_of(leaf.value)
            g = sums.pop((leaf.home[1], leaf.place), None)
            if g is not None:
                g = settle_owned(g, form, False)
            gradients.append(finish(g, form, leaf.value))
        return unflatten(structure, gradients)


def _owned(leaf: Any, token: str) -> bool:
    return leaf.__class__ in DUALS and leaf.home[0] == token


class Nothing:
    """The cotangent of a term that is not counted."""


def chosen(mask: Any, cotangent: Any = None) -> Any:
    """The cotangent of a term, if it counts."""
    if shape_of(mask) != () or np.asarray(mask).dtype != bool:
        raise ParadualTypeError(f"a mask says True or False of each output, not {mask!r}")
    return cotangent if mask else Nothing


def _seeds(value: Any, token: str, cotangents: Any) -> Contributions:
    """Match the cotangents given for a value with the slots of the duals in it."""
    leaves, structure = flatten(value)
    found: Contributions = []
    for cotangent in cotangents:
        if cotangent is Nothing:
            continue
        if cotangent is None:
            if len(leaves) != 1 or not is_array(leaves[0]) or shape_of(leaves[0]) != ():
                raise ParadualValueError(
                    "an output has no gradient of its own, because it is not a single number: sum it, or "
                    "give its cotangent"
                )
            if is_complex(leaves[0]):
                raise ParadualTypeError("an output is complex: take its real part, or give its cotangent")
            if not is_inexact(leaves[0]):
                raise ParadualTypeError(
                    f"an output is of type {getattr(leaves[0], 'dtype', type(leaves[0]).__name__)}: it is a "
                    "constant, and has no gradient"
                )
            given = [1.0]
        else:
            given, there = flatten(cotangent)
            if there != structure:
                raise ParadualValueError(
                    f"a cotangent has the structure {there}, but its output has {structure}"
                )
        for leaf, g in zip(leaves, given, strict=True):
            if _owned(leaf, token):
                found.append(
                    ((leaf.home[1], leaf.place), check_cotangent(g, form_of(leaf.value), like=leaf.value))
                )
    return found


def _sum(contributions: Contributions) -> Contributions:
    sums: dict[Slot, Any] = {}
    for slot, g in contributions:
        total = sums.get(slot)
        sums[slot] = g if total is None else total + g
    return list(sums.items())


@dataclass(frozen=True, slots=True)
class Merge:
    """Sum what several jobs contribute to the slots of some."""

    owners: frozenset[Key]

    def __call__(self, *parts: Contributions) -> Contributions:
        return crated(_sum(_addressed(parts, self.owners)))


def _check_open(leaves: list[Any]) -> None:
    """Refuse a result with duals in objects that are no pytrees: they could not be taken out."""
    for leaf in leaves:
        inside = vars(leaf) if hasattr(leaf, "__dict__") and not callable(leaf) else {}
        if any(part.__class__ in DUALS for part in flatten(list(inside.values()))[0]):
            raise ParadualTypeError(
                f"an output holds values that are being differentiated inside a {type(leaf).__name__}: make "
                "it a dataclass, return a tuple or dict, or register the class with optree (namespace "
                "'paradual')"
            )


def value_of(token: str, value: Any) -> Any:
    """A value without the duals of a differentiation."""
    leaves, structure = flatten(value)
    _check_open(leaves)
    if not any(_owned(leaf, token) for leaf in leaves):
        return value
    return unflatten(structure, [leaf.value if _owned(leaf, token) else leaf for leaf in leaves])


def tangent_of(token: str, value: Any, lifted: Any = None) -> Any:
    """The tangent of a value; of an input itself, the one that was given for it."""
    if lifted is not None:
        return lifted
    leaves, structure = flatten(value)
    _check_open(leaves)
    return unflatten(
        structure,
        [
            fit_tangent(leaf.place, leaf.value)
            if _owned(leaf, token)
            else zeros(form_of(leaf), leaf)
            if is_array(leaf)
            else leaf
            for leaf in leaves
        ],
    )
