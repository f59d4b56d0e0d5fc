"""Rules of ufuncs of which some partial derivatives, or several results, are known.

An argument in which no derivative is known (the order of a Bessel function) may be any constant; a
dual for it is refused when the function is called.
"""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any

import numpy as np

from paradual.rules.registry import RULES, Function, elementwise, general


def _refused_later() -> Any:
    raise AssertionError("this argument is refused before its derivative is asked for")


def known(f: Function, names: str, /, **partials: Function) -> None:
    """Give a ufunc its partial derivatives, by the names of its arguments, where they are known.

    Parameters
    ----------
    f : numpy.ufunc
        An elementwise function of one result.
    names : str
        The names of its arguments, in order, as its partials and error messages use them.
    **partials : callable
        The derivative with respect to the argument of that name, as for `elementwise`.
    """
    every = tuple(names.split())
    elementwise(f, *(partials.get(name, _refused_later) for name in every), names=names)
    rule = RULES[f]
    where = [k for k, name in enumerate(every) if name in partials]
    if len(where) < len(every):
        RULES[f] = replace(
            rule,
            arrays=tuple(every[k] for k in where),
            pulls=tuple(rule.pulls[k] for k in where),
            keeps=tuple(rule.keeps[k] for k in where),
            pickers=(),  # what records without asking whether an argument is refused
            allowed=rule.allowed | set(every),
        )


def several(f: Any, names: str, /, **partials: Function) -> None:
    """Give a ufunc of several results its partial derivatives: for each argument, one for each result.

    Parameters
    ----------
    f : numpy.ufunc
        A function whose results depend elementwise on its arguments.
    names : str
        The names of its arguments, in order.
    **partials : callable
        The derivatives of the results with respect to the argument of that name, as a tuple.  It may
        ask for arguments and for ``out``, the tuple of results.
    """
    arrays = [name for name in names.split() if name in partials]
    wanted = {name: tuple(inspect.signature(partials[name]).parameters) for name in arrays}
    keeps = sorted({name for some in wanted.values() for name in some})

    def slopes(name: str, values: tuple[Any, ...]) -> Any:
        given = dict(zip(keeps, values, strict=True))
        return partials[name](*(given[one] for one in wanted[name]))

    def pull(g: Any, *values: Any) -> Any:
        # a result that was not used contributes nothing, also where its derivative is infinite
        used = [k for k, a in enumerate(g) if hasattr(a, "place") or np.any(a)] or [0]
        rows = [slopes(name, values) for name in arrays]
        parts = tuple(sum(g[k] * row[k] for k in used) for row in rows)
        return parts if len(arrays) > 1 else parts[0]

    def push(t: Any, *values: Any) -> Any:
        rows = [slopes(name, values) for name in arrays]
        tangents = t if len(arrays) > 1 else (t,)
        return tuple(sum(dt * row[k] for dt, row in zip(tangents, rows, strict=True)) for k in range(f.nout))

    parameters = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_ONLY) for name in ("g", *keeps)]
    pull.__signature__ = push.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    general(f, pull, push, " ".join(arrays), names)
    RULES[f] = replace(RULES[f], allowed=RULES[f].allowed | set(names.split()))
