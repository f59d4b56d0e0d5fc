"""What follows from a rule: the pullback of a record, and the tangent of a result."""

from __future__ import annotations

from typing import Any

import numpy as np

from paradual.arrays import (
    Item,
    Scatter,
    add,
    cast,
    complete,
    fit,
    gain,
    is_complex,
    memory,
    put,
    shape_of,
    times,
    within,
    zeros,
)
from paradual.rules.fused import fused_product
from paradual.rules.registry import RULES, Rule, kept, lookup

# --- reverse mode ---------------------------------------------------------------------------------


def pull(records: list[Any], cotangents: list[Any], owned: set[int], index: int, g: Any, last: bool) -> None:
    """Add what one array record contributes to the cotangents of its operands.

    If this is the last sweep of its tape, a rule that is `thrifty` may use up what the record keeps.
    """
    f, form, edges = records[index]
    rule = RULES.get(f)
    if rule is None:
        rule = lookup(f)
    product = rule.kind == "elementwise"
    there = False  # on a device, perhaps
    if type(g) is not np.ndarray:
        if rule.thrifty:
            ((operands, _, keep),) = edges
            for one, part in zip(operands, rule.pulls[0](g, *keep, last=last), strict=True):
                if part is not None:
                    _contribute(records, cotangents, owned, one, part)
            return
        g = complete(g, form)
        there = product and type(form) is tuple and form[0] != ()
    if not product and (f is put or f is gain):
        _pull_written(records, cotangents, owned, index, g, edges)
        return
    for operand, k, keep in edges:
        if type(operand) is not int:  # one pullback for several operands
            parts = rule.pulls[k](g, *keep)
            for one, part in zip(operand, parts, strict=True):
                if one is not None and part is not None:
                    _contribute(records, cotangents, owned, one, part)
            continue
        record = records[operand]
        target = record[1] if len(record) == 3 else float
        if not product:
            c = rule.pulls[k](g, *keep)
        elif there:
            c = fused_product(g, rule.pulls[k], keep)
        else:
            c = times(g, rule.pulls[k](*keep))
        # what `fit` and `add` do with a small array of the right form that comes first
        if type(c) is np.ndarray and type(target) is tuple and target[0] == c.shape and target[1] == c.dtype:
            if cotangents[operand] is None:
                cotangents[operand] = c
                if product:
                    owned.add(operand)
            else:
                add(cotangents, owned, operand, c, target, product)
        elif type(c) is Scatter or type(c) is Item:
            add(cotangents, owned, operand, c, target)
        else:
            add(cotangents, owned, operand, fit(c, target), target, product)


def _pull_written(records: Any, cotangents: Any, owned: Any, index: int, g: Any, edges: Any) -> None:
    """The pullbacks of a write in place, in place: the cotangent goes on to the array as it was before.

    So a loop that writes element by element costs O(1) a step in the reverse pass too.
    """
    f = records[index][0]
    for operand, k, keep in reversed(edges):  # the value written, and then the array
        if k == 1:
            c = RULES[f].pulls[1](g, *keep)
            _contribute(records, cotangents, owned, operand, np.copy(c) if memory(c) is memory(g) else c)
            continue
        if index not in owned:
            g = np.copy(g, order="C")
        if f is put:
            target, at = within(g, keep[0])
            target[at] = 0
        before = cotangents[operand]
        if before is None:
            cotangents[operand] = g
            owned.add(operand)
        else:
            _contribute(records, cotangents, owned, operand, g)


def _contribute(records: Any, cotangents: Any, owned: Any, operand: int, c: Any) -> None:
    target = target_form(records[operand])
    if type(c) is not Scatter and type(c) is not Item:
        c = fit(c, target)
    add(cotangents, owned, operand, c, target)


def target_form(record: Any) -> Any:
    """The form of the slot that a record describes."""
    return record[1] if len(record) == 3 else float


def precise(keep: Any, out: Any) -> Any:
    """What a partial derivative is computed from, in the precision of the result: 1 / x would lose it.

    Where a float64 meets a float32, the derivative is a float64's too.
    """
    dtype = getattr(out, "dtype", _DOUBLE)
    for value in keep:
        own = getattr(value, "dtype", dtype)
        if own is not dtype and own.kind in "fc" and own.itemsize < dtype.itemsize:
            return tuple(_precise(value, dtype) for value in keep)
    return keep


def _precise(value: Any, dtype: Any) -> Any:
    own = getattr(value, "dtype", dtype)
    if own.kind not in "fc":
        return value
    wide = np.promote_types(own, np.finfo(dtype).dtype)
    return value if wide == own else cast(value, wide)


_DOUBLE = np.dtype(float)

# --- forward mode ---------------------------------------------------------------------------------


def fit_tangent(t: Any, out: Any) -> Any:
    """Give a tangent the shape and dtype of its primal; that of a Python float is one."""
    if type(out) is float and isinstance(t, np.generic):
        return float(t.real)
    shape = shape_of(out)
    if shape_of(t) != shape:
        t = np.broadcast_to(t, shape)
    if is_complex(t) and not is_complex(out):
        t = np.real(t)
    if is_complex(out) and not is_complex(t):
        t = t + 0j  # a Python number has no dtype to be cast to
    dtype = getattr(out, "dtype", None)
    return t if dtype is None or getattr(t, "dtype", dtype) == dtype else t.astype(dtype)


def zeros_for(value: Any) -> Any:
    """A zero tangent of a value; None where there is no value."""
    if value is None:
        return None
    if isinstance(value, int | float | complex) and not isinstance(value, np.generic):
        return 0.0
    return (
        zeros((value.shape, value.dtype), value)
        if value.dtype.kind in "fc"
        else np.zeros_like(value, dtype=float)
    )


def push(rule: Rule, bound: dict[str, Any], tangents: dict[str, Any], out: Any, call: Any) -> Any:
    """The tangent of a result, as its kind says.

    Parameters
    ----------
    rule : Rule
        The rule of the function.
    bound : dict
        Its arguments by name.
    tangents : dict
        For each array parameter, its tangent, or a list of them; None where there is none.
    out : array
        The result.
    call : callable
        ``call(replacement)`` calls the function with some array arguments replaced, by name.
    """
    if rule.kind == "elementwise":
        total = None
        for name, slope, keep in zip(rule.arrays, rule.pulls, rule.keeps, strict=True):
            t = tangents.get(name)
            if t is not None:
                values = kept(keep, bound, out)
                if type(out) is float or type(out) is np.float64:  # 1 / 0 is infinite
                    values = tuple(np.float64(v) if type(v) is float else v for v in values)
                term = t * slope(*precise(values, out))
                total = term if total is None else total + term
        return total
    if rule.kind == "general":
        full = tuple(_filled(bound[name], tangents.get(name)) for name in rule.arrays)
        t = full if len(rule.arrays) > 1 else full[0]
        assert rule.push is not None
        return rule.push(t, *kept(rule.push_keeps, bound, out))
    if rule.kind == "linear":
        return call({n: _filled(bound[n], tangents.get(n)) for n in rule.arrays if n in bound})
    total = None
    for name in rule.arrays:
        t = tangents.get(name)
        if t is None:
            continue
        if isinstance(bound[name], list | tuple):  # multilinear in a list: replace one at a time
            for k, part in enumerate(t):
                if part is not None:
                    operands = list(bound[name])
                    operands[k] = part
                    term = call({name: operands})
                    total = term if total is None else total + term
        else:
            term = call({name: t})
            total = term if total is None else total + term
    return total


def _filled(value: Any, t: Any) -> Any:
    if isinstance(value, list | tuple):
        parts = t if t is not None else [None] * len(value)
        return [_filled(v, part) for v, part in zip(value, parts, strict=True)]
    return zeros_for(value) if t is None else t
