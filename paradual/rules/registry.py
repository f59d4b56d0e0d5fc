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

A rule is asked for when a function meets a value that is being differentiated through NumPy's protocols:
the function is a ufunc, or it offers ``__array_function__`` its arguments, as NumPy's functions do.  A plain
Python function does not, and is differentiated step by step: decorate it with `paradual.custom_vjp` or
`paradual.custom_jvp` to give it a derivative of its own.
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

from paradual.arrays import has_dual, shape_of
from paradual.errors import NotDifferentiableError, ParadualValueError, user_line

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
    thrifty: bool = False  # joint, gets None for missing cotangents, and is told `last`: see `modes.pull`
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
    if rule is None and type(f) is type(np.sum):  # what np.full and its like are called through, with like=
        rule = RULES.get(getattr(np, f.__name__, None))
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


def _check_names(f: Function, names: tuple[str, ...]) -> None:
    """Refuse names that the function does not have, where its signature can be read."""
    if isinstance(f, np.ufunc):
        if len(names) != f.nin:
            raise ParadualValueError(f"{name_of(f)} takes {f.nin} arrays, but {len(names)} names were given")
        if f.types and all("O" in types for types in f.types):
            raise ParadualValueError(
                f"{name_of(f)} returns arrays of objects (np.frompyfunc?), which carry no derivative: "
                "write the step as a function of arrays with paradual.custom_vjp"
            )
        return
    if (getattr(f, "__module__", None) or "").startswith("numpy"):
        return  # its parameters differ between versions
    try:
        parameters = inspect.signature(f).parameters
    except (TypeError, ValueError):
        return
    more = any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters.values())
    if len(names) > len(parameters) and not more:
        raise ParadualValueError(
            f"{name_of(f)} has the parameters {', '.join(parameters)}, but its rule {', '.join(names)}"
        )


def _wanted(f: Function, pull: Function, skip: int, names: tuple[str, ...]) -> Any:
    """The (name, default) pairs that a pullback asks for, checked against the function."""
    if not callable(pull):
        raise ParadualValueError(
            f"a rule of {name_of(f)} is given as {pull!r}: write functions, as lambda: 2.0 for a constant"
        )
    wanted = list(inspect.signature(pull).parameters.values())
    if len(wanted) < skip or any(p.kind in (p.VAR_POSITIONAL, p.KEYWORD_ONLY, p.VAR_KEYWORD) for p in wanted):
        raise ParadualValueError(
            f"the rule of {name_of(f)} must name what it needs"
            + (", after the cotangent or tangent" if skip else "")
            + f": {inspect.signature(pull)}"
        )
    wanted = wanted[skip:]
    for parameter in wanted:
        base = parameter.name.removesuffix("_shape")
        if parameter.name not in ("out", "active", *names) and base not in names:
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
    if isinstance(f, np.ufunc) and f.nout > 1:
        raise ParadualValueError(
            f"{name_of(f)} has {f.nout} results: give its rule with paradual.rules.general"
        )
    if not partials or len(params) != len(partials):
        raise ParadualValueError(
            f"{name_of(f)}: {len(partials)} partial derivatives were given for {', '.join(params)}"
        )
    _check_names(f, params)
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
    _check_names(f, params)
    if not set(active) <= set(params):
        raise ParadualValueError(
            f"{name_of(f)} has the parameters {', '.join(params)}, not all of {', '.join(active)}"
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
    if not isinstance(f, np.ufunc):
        _check_names(f, tuple(p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)))
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
    if f not in RULES or not callable(definition):
        raise ParadualValueError(f"a variant of {name_of(f)} needs a rule of the function, and a definition")
    RULES[f] = replace(RULES[f], variant=definition)


def constant(*functions: Function) -> None:
    """Declare functions whose results carry no derivative: integers, booleans, shapes, steps."""
    for f in functions:
        RULES[f] = Rule("constant", f)


def refused(f: Function, reason: str) -> None:
    """Declare a function that cannot be differentiated, with the reason and the cure."""
    if not reason.strip():
        raise ParadualValueError(f"say why {name_of(f)} is refused, and what to write instead")
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
        known = name in rule.allowed or name in rule.arrays or value is None
        if not known and not (name == "where" and value is True):
            return name
    return None


def check_use(rule: Rule, bound: dict[str, Any]) -> None:
    """Refuse a call with parameters that the rule does not know about.

    Raises
    ------
    NotDifferentiableError
        The message names the parameter.
    """
    f = name_of(rule.function)
    name = unknown(rule, bound)
    if name is not None:
        raise NotDifferentiableError(
            f"{f} with the argument {name}={bound[name]!r}{user_line()} has no derivative rule: leave the "
            "argument out, or write the step with other functions"
        )
    for name, value in bound.items():
        if name not in rule.arrays and has_dual(value):
            raise NotDifferentiableError(
                f"{f} is not differentiated with respect to its argument {name!r}{user_line()}: pass "
                f"paradual.stop_gradient({name}) if it is constant"
            )
    if bound.get("order") in ("A", "K") and rule.function in (np.reshape, np.ravel):
        raise NotDifferentiableError(
            f"{f} with order={bound['order']!r}{user_line()}: the order of the elements depends on the "
            "memory layout, which derivatives need not share. Use order='C' or 'F'"
        )
    check_out(rule, bound)


def check_out(rule: Rule, bound: dict[str, Any]) -> None:
    """Refuse to write a result into a plain array."""
    out = bound.get("out")
    if out is not None and out is not np._NoValue:
        raise NotDifferentiableError(
            f"{name_of(rule.function)} with out= on values that are being differentiated{user_line()}: use "
            "its result instead, or create the array with np.zeros_like(x) and pass it as out=array"
        )


def check_plain(value: Any) -> None:
    """Refuse matrices, sparse ones too, for which ``*`` is a matrix product, and masked arrays."""
    if isinstance(value, np.matrix | np.ma.MaskedArray) or hasattr(value, "tocsr"):
        raise NotDifferentiableError(
            f"a {type(value).__name__} together with a value that is being differentiated{user_line()}: it "
            "has an arithmetic of its own. Use np.asarray(a), for a masked array np.where(mask, x, y), for a "
            "sparse matrix paradual.scipy.sparse.matmul(a, x)"
        )


def kept(wanted: Any, bound: dict[str, Any], out: Any, active: Any = None) -> tuple[Any, ...]:
    """What a pullback named, taken from the bound arguments and the result."""
    values = []
    for name, default in wanted:
        if name == "out":  # the result, also where the function has a parameter of that name
            values.append(out)
        elif name in bound:
            values.append(bound[name])
        elif name == "active":
            values.append(active)
        elif name.endswith("_shape"):
            a = bound[name.removesuffix("_shape")]
            values.append([shape_of(x) for x in a] if isinstance(a, list | tuple) else shape_of(a))
        else:
            values.append(default)
    return tuple(values)


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
    "refused",
    "variant",
]
