"""The rule table: what kind of function each NumPy function is, and what follows from the kind.

A rule is one line; forward and reverse mode both come from it::

    elementwise(np.tanh, lambda out: 1 - out * out)          # the partial derivative
    linear(np.flip, lambda g, axis=None: np.flip(g, axis))   # the transpose
    multilinear(np.inner, ...)                               # a transpose for each argument
    general(f, pullback, pushforward)                        # as given
    composed(f, lambda x: ...)                               # written in functions that have rules
    constant(f, ...)     refused(f, reason)

The parameter names of a partial, transpose or pullback are exactly what the tape keeps.  They name
parameters of the function (``x``, or ``x1`` and ``x2``, for ufuncs), or

* ``out``: its result;
* ``a_shape``: only the shape of argument ``a`` (a list of shapes, where ``a`` is a list of arrays);
* ``active``: which of the operands need a cotangent, as a tuple of bools.

Rules call NumPy functions only, so the same line serves NumPy, CuPy and nested duals.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import Any

import numpy as np

from paradual.arrays import (
    Item,
    Scatter,
    add,
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
from paradual.errors import NotDifferentiableError, ParadualValueError

Function = Callable[..., Any]

# Parameters that say how to compute or where to put a result, and so matter to no derivative.
NEUTRAL = frozenset(["casting", "copy", "dtype", "kind", "optimize", "order", "out", "stable", "subok"])


@dataclass(frozen=True, slots=True)
class Rule:
    """What is known about one function.

    `keeps` says for each pullback what it needs, as (name, default) pairs.  `pickers` says the same
    for ufuncs, whose arguments are all positional, as functions of ``(*operands, out)``.
    """

    kind: str
    function: Function
    names: tuple[str, ...] = ()  # the function's parameters, in order
    arrays: tuple[str, ...] = ()  # those of them that a derivative flows through
    pulls: tuple[Function, ...] = ()  # one for each array, or a single one for all: see `joint`
    keeps: tuple[tuple[tuple[str, Any], ...], ...] = ()
    pickers: tuple[Function, ...] = ()
    joint: bool = False  # whether one pullback returns the cotangents of all operands
    push: Function | None = None
    push_keeps: tuple[tuple[str, Any], ...] = ()
    reason: str = ""
    masks: bool = False  # whether it selects entries (np.where)
    variant: Function | None = None  # a definition for calls with parameters that the rule does not know
    allowed: frozenset[str] = field(default=frozenset())


RULES: dict[Any, Rule] = {}  # {function: its rule}

# Tables of optional packages: loaded when a function without a rule is met and the package has been.
LATER = {"scipy.special": "paradual.rules.special"}


def find(f: Any) -> Rule | None:
    """The rule of a function, if it has one."""
    rule = RULES.get(f)
    if rule is None:
        for package, table in LATER.items():
            if package in sys.modules and table not in sys.modules:
                importlib.import_module(table)
                rule = RULES.get(f)
    return rule


def kind(f: Function) -> str | None:
    """Name the kind of rule that a function has.

    Parameters
    ----------
    f : callable
        A NumPy function or ufunc, or a function that was given a rule.

    Returns
    -------
    str or None
        ``"elementwise"``, ``"linear"``, ``"multilinear"``, ``"general"``, ``"constant"``,
        ``"refused"``; None if undecided.

    Examples
    --------
    >>> import numpy as np
    >>> kind(np.tanh), kind(np.argmax)
    ('elementwise', 'constant')
    """
    rule = find(f)
    if rule is None:
        return None
    return "general" if rule.kind == "composed" else rule.kind


# --- registration ---------------------------------------------------------------------------------


def _parameters(f: Function) -> tuple[str, ...]:
    if isinstance(f, np.ufunc):
        return ("x",) if f.nin == 1 else tuple(f"x{k + 1}" for k in range(f.nin))
    try:
        return tuple(inspect.signature(f).parameters)
    except (TypeError, ValueError):
        raise ParadualValueError(
            f"the parameters of {name_of(f)} cannot be read: give their names, names='a b axis'"
        ) from None


def _wanted(f: Function, pull: Function, skip: int, names: tuple[str, ...]) -> Any:
    """The (name, default) pairs that a pullback asks for, checked against the function."""
    wanted = list(inspect.signature(pull).parameters.values())[skip:]
    for parameter in wanted:
        base = parameter.name.removesuffix("_shape")
        if parameter.name not in ("out", "active") and base not in names:
            raise ParadualValueError(
                f"the rule of {name_of(f)} asks for {parameter.name!r}, but the function has the "
                f"parameters {', '.join(names)} (and 'out' for its result)"
            )
    return tuple((p.name, None if p.default is p.empty else p.default) for p in wanted)


def _pickers(f: Function, params: tuple[str, ...], keeps: Any) -> tuple[Function, ...]:
    """The keeps of a ufunc as functions of ``(*operands, out)``: the fast way to record."""
    if not isinstance(f, np.ufunc) or f.nout > 1:
        return ()
    place = {name: k for k, name in enumerate((*params, "out"))}
    if any(name not in place for keep in keeps for name, _ in keep):
        return ()
    return tuple(_picker([place[name] for name, _ in keep]) for keep in keeps)


def _picker(positions: list[int]) -> Function:
    if not positions:
        return lambda env: ()
    if len(positions) == 1:
        k = positions[0]
        return lambda env: (env[k],)
    return itemgetter(*positions)


def name_of(f: Any) -> str:
    """A function's name as a user would write it."""
    module = getattr(f, "__module__", None) or ""
    if isinstance(f, np.ufunc):  # a ufunc does not know its module
        module = "numpy" if getattr(np, f.__name__, None) is f else ""
    name = str(getattr(f, "__qualname__", None) or getattr(f, "__name__", repr(f)))
    return f"{module}.{name}" if module and module != "builtins" else name


def elementwise(f: Function, *partials: Function, names: str = "") -> None:
    """Give an elementwise function its rule: one partial derivative for each argument.

    Parameters
    ----------
    f : callable
        A function that computes each element of its result from the same elements of its arguments.
    *partials : callable
        The derivative with respect to each argument, of what it names (see the module's docstring).
    names : str
        The names of the array parameters, where they cannot be read off ``f``.

    Raises
    ------
    ParadualValueError
        If there is not one partial for each argument, or one asks for an unknown name.

    Examples
    --------
    >>> import numpy as np
    >>> elementwise(np.tanh, lambda out: 1 - out * out)
    """
    params = tuple(names.split()) or _parameters(f)[: len(partials)]
    if isinstance(f, np.ufunc) and len(partials) != f.nin:
        raise ParadualValueError(
            f"{name_of(f)} takes {f.nin} arrays, but {len(partials)} partial derivatives were given"
        )
    if not partials:
        raise ParadualValueError(f"no partial derivative was given for {name_of(f)}")
    keeps = tuple(_wanted(f, partial, 0, params) for partial in partials)
    pickers = _pickers(f, params, keeps)
    RULES[f] = Rule("elementwise", f, params, params, partials, keeps, pickers, allowed=NEUTRAL)


def _structural(
    kind: str, f: Function, pulls: tuple[Function, ...], arrays: str, names: str, **more: Any
) -> None:
    params = tuple(names.split()) or _parameters(f)
    active = tuple(arrays.split()) or params[: len(pulls)]
    if not pulls or (not more.get("joint") and len(pulls) != len(active)):
        raise ParadualValueError(
            f"{name_of(f)}: {len(pulls)} transposes were given for the arrays {', '.join(active)}"
        )
    keeps = tuple(_wanted(f, pull, 1, params) for pull in pulls)
    named = {name.removesuffix("_shape") for keep in keeps for name, _ in keep} | {
        name.removesuffix("_shape") for name, _ in more.get("push_keeps", ())
    }
    allowed = frozenset(named) | frozenset(active) | NEUTRAL
    pickers = _pickers(f, params, keeps)
    RULES[f] = Rule(kind, f, params, active, pulls, keeps, pickers, allowed=allowed, **more)


def linear(
    f: Function, *transposes: Function, arrays: str = "", names: str = "", masks: bool = False
) -> None:
    """Give a function that is linear in all its array arguments together its rule.

    Parameters
    ----------
    f : callable
        The function; in forward mode it is applied to the tangents.
    *transposes : callable
        For each array argument, ``transpose(g, ...)``: the transposed linear map applied to the
        cotangent ``g``.  For a list of arrays it returns a list.
    arrays, names : str
        The names of the array parameters (default: the first ones) and of all parameters (default:
        from the signature), separated by spaces.
    masks : bool
        Whether the function selects between its arguments, as `np.where` does.
    """
    _structural("linear", f, transposes, arrays, names, masks=masks)


def multilinear(f: Function, *transposes: Function, arrays: str = "", names: str = "") -> None:
    """Give a function that is linear in each array argument its rule; parameters as `linear`."""
    _structural("multilinear", f, transposes, arrays, names)


def general(
    f: Function, pullback: Function, pushforward: Function, arrays: str = "", names: str = ""
) -> None:
    """Give a function its rule as a pullback and a pushforward.

    Parameters
    ----------
    f : callable
        The function; its result may be a tuple of arrays, ``g`` is then a tuple as well.
    pullback : callable
        ``pullback(g, ...)`` returns the cotangent of the array argument, or a tuple of them if
        there are several (or if the argument is a list).
    pushforward : callable
        ``pushforward(t, ...)`` returns the tangent of the result; ``t`` is the tangent of the
        array argument, or a tuple of them.
    arrays, names : str
        As for `linear`; by default the first parameter is the array.
    """
    params = tuple(names.split()) or _parameters(f)
    active = tuple(arrays.split()) or params[:1]
    _structural(
        "general",
        f,
        (pullback,),
        " ".join(active),
        " ".join(params),
        joint=len(active) > 1,
        push=pushforward,
        push_keeps=_wanted(f, pushforward, 1, params),
    )


def composed(f: Function, definition: Function) -> None:
    """Define the derivative of a function by writing it in functions that have rules."""
    parameters = inspect.signature(definition).parameters.values()
    names = tuple(p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD))
    RULES[f] = Rule("composed", f, names, push=definition)


def variant(f: Function, definition: Function) -> None:
    """Define calls of a function with parameters that its rule does not know, as `composed` does.

    Parameters
    ----------
    f : callable
        A function that has a rule, which stays the one for all other calls.
    definition : callable
        The function written in functions that have rules, with all its parameters.
    """
    RULES[f] = replace(RULES[f], variant=definition)


def constant(*functions: Function) -> None:
    """Declare functions whose results carry no derivative: integers, booleans, shapes, steps."""
    for f in functions:
        RULES[f] = Rule("constant", f)


def refused(f: Function, reason: str) -> None:
    """Declare a function that cannot be differentiated, with the reason and the cure."""
    RULES[f] = Rule("refused", f, reason=reason)


def lookup(f: Any, where: str = "") -> Rule:
    """The rule of a function that can be applied to a dual.

    Raises
    ------
    NotDifferentiableError
        If the function is refused or has no rule; the message names the cure.
    """
    rule = find(f)
    if rule is None:
        raise NotDifferentiableError(
            f"{name_of(f)}{where} has no derivative rule. Write it with functions that have one, "
            "give it one (one line: see paradual.rules, for example "
            f"paradual.rules.elementwise({getattr(f, '__name__', 'f')}, lambda x: ...)), or wrap "
            "the step with paradual.custom_vjp"
        )
    if rule.kind == "refused":
        raise NotDifferentiableError(f"{name_of(f)}{where} is not differentiated: {rule.reason}")
    return rule


# --- what the tape keeps --------------------------------------------------------------------------


def bind(rule: Rule, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a call by name, without those that NumPy counts as not given."""
    bound = dict(zip(rule.names, args, strict=False))
    bound.update(kwargs)
    return {name: v for name, v in bound.items() if v is not np._NoValue}


def unknown(rule: Rule, bound: dict[str, Any]) -> str | None:
    """A parameter of a call that the rule does not know about, if there is one."""
    for name, value in bound.items():
        if not (name in rule.allowed or name in rule.arrays or value is None):
            if not (name == "where" and value is True):
                return name
    return None


def kept(wanted: Any, bound: dict[str, Any], out: Any, active: Any = None) -> tuple[Any, ...]:
    """What a pullback named, taken from the bound arguments and the result."""
    values = []
    for name, default in wanted:
        if name in bound:
            values.append(bound[name])
        elif name == "out":
            values.append(out)
        elif name == "active":
            values.append(active)
        elif name.endswith("_shape"):
            a = bound[name.removesuffix("_shape")]
            values.append([shape_of(x) for x in a] if isinstance(a, list | tuple) else shape_of(a))
        else:
            values.append(default)
    return tuple(values)


# --- reverse mode ---------------------------------------------------------------------------------


def pull(records: list[Any], cotangents: list[Any], owned: set[int], index: int, g: Any) -> None:
    """Add what one array record contributes to the cotangents of its operands."""
    f, form, edges = records[index]
    if type(g) is not np.ndarray:
        g = complete(g, form)
    if f is put or f is gain:
        _pull_written(records, cotangents, owned, index, g, edges)
        return
    rule = RULES.get(f)
    if rule is None:
        rule = lookup(f)
    product = rule.kind == "elementwise"
    for operand, k, keep in edges:
        if type(operand) is not int:  # one pullback for several operands
            parts = rule.pulls[k](g, *keep)
            for one, part in zip(operand, parts, strict=True):
                if one is not None and part is not None:
                    _contribute(records, cotangents, owned, one, part)
            continue
        record = records[operand]
        target = record[1] if len(record) == 3 else float
        c = times(g, rule.pulls[k](*keep)) if product else rule.pulls[k](g, *keep)
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
        for name, partial, keep in zip(rule.arrays, rule.pulls, rule.keeps, strict=True):
            t = tangents.get(name)
            if t is not None:
                term = t * partial(*kept(keep, bound, out))
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


__all__ = [
    "RULES",
    "Rule",
    "composed",
    "constant",
    "elementwise",
    "general",
    "kind",
    "linear",
    "lookup",
    "multilinear",
    "pull",
    "push",
    "refused",
    "variant",
]
