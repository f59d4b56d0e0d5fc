"""Applying functions to duals: `call`, and its fast paths for the commonest cases.

Each operation looks up the rule of the function, calls the function on the values, and records what
the rule's pullbacks keep.  `unary`, `binary`, `getitem` and `scalar` are `call` for arguments on the
innermost tape.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any

import numpy as np

from paradual.arrays import Move, Region, form_of, is_buffer, item, memory
from paradual.dual import DUALS, Dual, duals_in, innermost, is_inexact, lower, lower_index, primal
from paradual.errors import NotDifferentiableError, user_line
from paradual.held import hold
from paradual.kin import kin_of, lend, relate, root_of, steady, via_of
from paradual.labels import is_labelled
from paradual.locality import explain, on_device
from paradual.rules import modes, registry
from paradual.rules.creation import stacked
from paradual.rules.registry import RULES, Rule, bind, check_out, check_plain, check_use, kept
from paradual.tape import ACTIVE, Tape

_new = Dual.__new__

# Values whose arithmetic is Python's own and whose partial derivatives cost nothing.
FLOATS: frozenset[Any] = frozenset([float, np.float64])
NUMBERS: frozenset[Any] = frozenset([float, np.float64, int, np.int64])
EXACT: frozenset[Any] = frozenset([np.add, np.subtract, np.multiply])  # whose partials are not rounded
WEAK: frozenset[Any] = frozenset([float, int, bool, complex])  # which take the precision of the other operand
PLAIN: frozenset[Any] = NUMBERS | {np.ndarray, bool, complex, np.float32, np.complex128}


# --- recording ------------------------------------------------------------------------------------


def scalar(value: Any, x: Dual, d: Any, y: Any, e: Any) -> Dual | None:
    """Record a Python float with its partial derivatives; None where the fast path does not apply."""
    tape = ACTIVE.get()[-1]
    records = tape.records
    home = tape.home
    # of a dual that came to a worker with a task, the home is equal, but not the same tuple
    if x.home is not home and x.home != home:
        return None
    if y.__class__ is Dual and y.home is not home and y.home != home:
        return None
    out = _new(Dual)
    out.value = value
    out.home = home
    if records is None:
        t = x.place
        if t.__class__ not in FLOATS:
            return None
        t = d * t
        if y.__class__ is Dual:
            if y.place.__class__ not in FLOATS:
                return None
            t = t + e * y.place
        out.place = t
        return out
    out.place = len(records)
    records.append((x.place, d, y.place, e) if y.__class__ is Dual else (x.place, d))
    return out


def unary(f: Any, x: Any, compute: Any = None) -> Any:
    """`call` for a ufunc of one argument on the innermost tape."""
    tape = ACTIVE.get()[-1]
    records = tape.records
    rule = RULES.get(f)
    if rule is None or not rule.pickers or x.home is not tape.home:
        return call(f, (x,), {}, compute)
    if records is None and rule.kind != "elementwise":
        return call(f, (x,), {}, compute)
    a = x.value
    if a.__class__ not in FLOATS and x.kin is not None:
        a = steady(x)
    try:
        value = f(a) if compute is None else compute(a)
    except TypeError as error:
        explain(error, registry.name_of(f), (a,))
        raise
    out = _new(Dual)
    out.value = value
    out.home = x.home
    out.kin = None
    if a.__class__ is float:
        a = np.float64(a)  # the partials are NumPy's: 1 / 0 is infinite
    if records is None:
        if a.__class__ not in FLOATS and x.kin is not None and len(ACTIVE.get()) > 2:
            lend(x)
        with np.errstate(all="ignore"):
            t = x.place * rule.pulls[0](*rule.pickers[0]((a, value)))
        out.place = modes.fit_tangent(t, value)
        return out
    place = x.place  # first: a view may derive its slot now
    out.place = len(records)
    records.append((f, form_of(value), ((place, 0, rule.pickers[0]((a, value))),)))
    return out


def binary(f: Any, x: Any, y: Any, compute: Any = None) -> Any:
    """`call` for a ufunc of two arguments on the innermost tape."""
    tape = ACTIVE.get()[-1]
    records = tape.records
    home = tape.home
    rule = RULES.get(f)
    if rule is None or not rule.pickers or records is None:
        return call(f, (x, y), {}, compute)
    a, b = x, y
    i = j = None
    if x.__class__ in DUALS:
        if x.home is not home:
            return call(f, (x, y), {}, compute)
        a, i = x.value, x.place
        if a.__class__ not in FLOATS and x.kin is not None:
            a = steady(x)
    elif x.__class__ not in PLAIN:
        if x.__class__ is list or x.__class__ is tuple:
            return binary(f, stacked(x), y, compute)
        if is_labelled(x):
            return NotImplemented
        check_plain(x)
    if y.__class__ in DUALS:
        if y.home is not home:
            return call(f, (x, y), {}, compute)
        b, j = y.value, y.place
        if b.__class__ not in FLOATS and y.kin is not None:
            b = steady(y)
    elif y.__class__ not in PLAIN:
        if y.__class__ is list or y.__class__ is tuple:
            return binary(f, x, stacked(y), compute)
        if is_labelled(y):  # xarray's arithmetic goes by the names of dimensions
            return NotImplemented
        check_plain(y)
    try:
        value = f(a, b) if compute is None else compute(a, b)
    except TypeError as error:
        explain(error, registry.name_of(f), (a, b))
        raise
    if value is NotImplemented:
        return value
    if value.__class__ in FLOATS:
        # the partials are NumPy's: 1 / 0 is infinite
        a = np.float64(a) if a.__class__ is float else a
        b = np.float64(b) if b.__class__ is float else b
    env = (a, b, value)
    if (
        f not in EXACT
        and a.__class__ not in WEAK
        and b.__class__ not in WEAK
        and a.dtype is not b.dtype
        and rule.kind == "elementwise"
    ):
        env = modes.precise(env, value)
    edges: Any
    if i is None:
        keep = rule.pickers[1](env)
        edges = ((j, 1, _held(tape, keep, (a,)) if keep and a.__class__ not in NUMBERS else keep),)
    elif j is None:
        keep = rule.pickers[0](env)
        edges = ((i, 0, _held(tape, keep, (b,)) if keep and b.__class__ not in NUMBERS else keep),)
    else:
        edges = ((i, 0, rule.pickers[0](env)), (j, 1, rule.pickers[1](env)))
    out = _new(Dual)
    out.value = value
    out.home = home
    out.place = len(records)
    out.kin = None
    records.append((f, form_of(value), edges))
    return out


def _lies_there(value: Any) -> bool:
    return value.__class__ not in PLAIN and value.__class__ not in DUALS and on_device(value)


def _held(tape: Tape, keep: tuple[Any, ...], plain: Any, shared: Any = ()) -> tuple[Any, ...]:
    """What a pullback keeps, safe from those who may write to it: owners of plain arrays, and views."""
    arrays = (array for array in plain if type(array) is np.ndarray or on_device(array))
    theirs: dict[int, Any] = {id(array): None for array in arrays}
    for dual in shared:
        theirs[id(dual.value)] = dual

    def safe(part: Any) -> Any:
        if id(part) not in theirs:
            return part
        dual = theirs[id(part)]
        return hold(tape, part) if dual is None else steady(dual)

    return tuple([safe(p) for p in part] if type(part) is list else safe(part) for part in keep)


def getitem(x: Dual, index: Any) -> Any:
    """``x[index]``, whose pullback is a scatter."""
    tape = ACTIVE.get()[-1]
    records = tape.records
    if index.__class__ is not int and index.__class__ is not slice:
        index = lower_index(index, x.value)
    owner, where = x, index
    kin = None if x.value.__class__ in FLOATS else x.kin
    if kin is not None and kin.written and via_of(x) is not None:
        owner, moves = root_of(x)  # the slot of a view may be stale, and a scatter into it would be larger
        where = Region(moves, index)
    if owner.home is not tape.home or records is None:
        return call(operator.getitem, (x, index), {})
    value = x.value[index]
    out = _new(Dual)
    out.value = value
    out.home = tape.home
    out.place = len(records)
    out.kin = None
    records.append((operator.getitem, form_of(value), ((owner.place, 0, (where,)),)))
    if value.__class__ in FLOATS:
        return out
    inside = primal(value)
    if is_buffer(inside) and inside.base is not None and memory(inside) is memory(primal(x)):
        relate(x, out, (operator.getitem, (index,), {}))
    return out


# --- the general case -----------------------------------------------------------------------------


def call(f: Any, args: tuple[Any, ...], kwargs: dict[str, Any], compute: Any = None) -> Any:
    """Apply a function to arguments with duals in them, and record or push forward.

    An operation belongs to the innermost differentiation among its operands; duals of outer ones
    are constants to it, and the call on the values takes care of them in turn.

    Parameters
    ----------
    f : callable
        The function, which is the key of its rule.
    args, kwargs : tuple, dict
        Its arguments; duals may also stand in lists and tuples.
    compute : callable, optional
        What computes the value, where that is not ``f`` (Python's own operator).

    Raises
    ------
    NotDifferentiableError
        If the function, or this use of it, has no derivative rule.
    LeakedDualError
        If an operand belongs to a differentiation that is not in progress here.
    """
    try:
        return _call(f, args, kwargs, compute)
    except (TypeError, NotImplementedError) as error:
        explain(error, registry.name_of(f), (*args, *kwargs.values()))
        raise


def _call(f: Any, args: tuple[Any, ...], kwargs: dict[str, Any], compute: Any) -> Any:
    rule = RULES.get(f)
    if rule is None or rule.kind == "refused":
        rule = registry.lookup(f, user_line())
    if rule.kind == "constant":
        return f(*_strip(args), **_strip(kwargs))
    if rule.kind == "composed":
        check_out(rule, bind(rule, args, kwargs))
        assert rule.push is not None
        return rule.push(*args, **kwargs)
    if isinstance(f, np.ufunc):
        args = tuple(stacked(a) if isinstance(a, list | tuple) else a for a in args)
    for part in _flat((*args, *kwargs.values())):
        if part.__class__ not in DUALS and part.__class__ not in PLAIN:
            if isinstance(f, np.ufunc) and is_labelled(part):
                return NotImplemented
            check_plain(part)
    bound = bind(rule, args, kwargs)
    tape = innermost(bound.values())
    if tape is None:  # only constants left, as in a nested call
        return (compute or f)(*args, **kwargs)
    if (f is np.ravel or f is np.reshape) and bound.get("order") in ("A", "K"):
        bound["order"] = _order(primal(bound["a"]), bound["order"])
        if bound["order"] in ("C", "F"):
            return f(*(bound[name] for name in ("a", "shape", "order") if name in bound))
    if rule.variant is not None and registry.unknown(rule, bound):
        check_out(rule, bound)
        return rule.variant(*args, **kwargs)
    check_use(rule, bound)
    given = args, kwargs
    operands = list(duals_in(bound.values()))
    plain = [v for v in _flat(bound.values()) if type(v) is np.ndarray or _lies_there(v)]
    shared = [d for d in operands if d.value.__class__ not in FLOATS and d.kin is not None and d.kin.written]
    if shared and rule.kind != "linear" and len(ACTIVE.get()) > 2:
        for dual in shared:
            lend(dual)
    places: dict[str, Any] = {}  # {array parameter: place, or list of places; None if constant}
    for name in rule.arrays:
        if name in bound:
            bound[name], places[name] = lower(bound[name], tape)
    args = tuple(bound.get(n, a) for n, a in zip(rule.names, args, strict=False)) + args[len(rule.names) :]
    kwargs = {n: bound.get(n, v) for n, v in kwargs.items()}
    out = (compute or f)(*args, **kwargs)
    if out is NotImplemented:
        return out
    kind = getattr(getattr(out, "dtype", None), "kind", "f")
    if kind not in "fc":
        if kind == "O":
            raise NotDifferentiableError(
                f"{registry.name_of(f)}{user_line()} returned an array of objects, which has no derivative: "
                "leave dtype=object out, or write the step with other functions"
            )
        return out  # cast to integers: a step, and so a constant
    if tape.records is None:
        result = _push(tape, rule, bound, places, out, args, kwargs)
    else:
        result = _record(tape, rule, bound, places, out, plain, shared)
    owner = memory(primal(out))
    if owner is not None:
        for dual in operands:
            if memory(primal(dual)) is owner:
                relate(dual, result, _move(rule, given, dual))
    if shared and tape.records is None and result.__class__ in DUALS and kin_of(result) is None:
        theirs = [memory(primal(dual.place)) for dual in shared]
        if any(memory(primal(result.place)) is their for their in theirs):
            result.place = np.copy(result.place)  # a view of a tangent that may be written
    return result


def _order(value: Any, order: str) -> str:
    """The order of elements that 'A' and 'K' mean for an array, if it is 'C' or 'F'."""
    flags = getattr(value, "flags", None)
    if flags is None or flags.c_contiguous:
        return "C"
    return "F" if flags.f_contiguous else "C" if order == "A" else order


def _move(rule: Rule, given: Any, dual: Dual) -> Move | None:
    """How a view was derived from a dual, if its elements are the dual's own."""
    args, kwargs = given
    if rule.kind != "linear":  # the real part of a complex array, and the like
        return None
    if args and args[0] is dual:
        return rule.function, args[1:], kwargs
    name = rule.names[0]
    if kwargs.get(name) is dual:
        return rule.function, args, {n: v for n, v in kwargs.items() if n != name}
    return None


def _record(
    tape: Tape, rule: Rule, bound: Any, places: Any, out: Any, plain: list[Any], shared: list[Any]
) -> Any:
    records = tape.records
    assert records is not None
    edges: tuple[Any, ...]
    if rule.joint:
        operands = tuple(places.get(n) for n in rule.arrays)
        needed = tuple(place is not None for place in operands)
        edges = ((operands, 0, _held(tape, kept(rule.keeps[0], bound, out, needed), plain, shared)),)
    else:
        found = []
        for k, name in enumerate(rule.arrays):
            place = places.get(name)
            if place is not None:
                active = tuple(p is not None for p in place) if isinstance(place, tuple) else None
                keep = kept(rule.keeps[k], bound, out, active)
                keep = modes.precise(keep, out) if rule.kind == "elementwise" else keep
                found.append((place, k, _held(tape, keep, plain, shared)))
        edges = tuple(found)
    tape.masks = tape.masks or rule.masks
    if not isinstance(out, tuple):
        records.append((rule.function, form_of(out), edges))
        return Dual(out, tape.home, len(records) - 1)
    return _rebuild(out, record_step(tape, rule.function, list(out), edges))


def record_step(tape: Tape, f: Any, results: list[Any], edges: tuple[Any, ...]) -> list[Any]:
    """Record a function of several results: one record, and each result an `item` of it.

    Results that are not of floating-point type stay plain.
    """
    records = tape.records
    assert records is not None
    index = len(records)
    records.append((f, tuple(form_of(part) if is_inexact(part) else None for part in results), edges))
    parts: list[Any] = []
    for k, part in enumerate(results):
        if is_inexact(part):
            parts.append(Dual(part, tape.home, len(records)))
            records.append((item, form_of(part), ((index, 0, (k,)),)))
        else:
            parts.append(part)
    return parts


def _rebuild(out: Any, parts: list[Any]) -> Any:
    return type(out)(*parts) if hasattr(out, "_fields") else type(out)(parts)


def _push(tape: Tape, rule: Rule, bound: Any, places: Any, out: Any, args: Any, kwargs: Any) -> Any:
    f = rule.function

    def again(replaced: dict[str, Any]) -> Any:
        new_args = [replaced.get(n, a) for n, a in zip(rule.names, args, strict=False)]
        return f(*new_args, *args[len(rule.names) :], **{n: replaced.get(n, v) for n, v in kwargs.items()})

    with np.errstate(all="ignore"):  # the primal has warned already, where there is cause
        t = modes.push(rule, bound, places, out, again)
    if not isinstance(out, tuple):
        return Dual(out, tape.home, modes.fit_tangent(t, out))
    parts = [
        Dual(part, tape.home, modes.fit_tangent(dt, part)) if is_inexact(part) else part
        for part, dt in zip(out, t, strict=True)
    ]
    return _rebuild(out, parts)


def _flat(values: Any) -> Iterator[Any]:
    for value in values:
        if isinstance(value, list | tuple):
            yield from _flat(value)
        else:
            yield value


def _strip(value: Any) -> Any:
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        return tuple(_strip(part) for part in value)
    if isinstance(value, list):
        return [_strip(part) for part in value]
    if isinstance(value, dict):
        return {name: _strip(part) for name, part in value.items()}
    return primal(value)
