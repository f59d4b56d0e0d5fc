"""SciPy functions that do not dispatch, with derivatives: the same names in the same modules.

SciPy's functions call compiled code, which knows no duals.  So replace ``from scipy import linalg`` by
``from paradual.scipy import linalg``: where no argument is being differentiated SciPy's own function is
called, and what has no derivative here is SciPy's own function, which refuses a dual.

>>> import numpy as np, paradual as pdl
>>> from paradual.scipy import linalg
>>> pdl.grad(lambda a: np.sum(linalg.expm(a)))(np.zeros((2, 2)))
array([[1., 1.],
       [1., 1.]])
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

from paradual.arrays import cast
from paradual.dual import duals_in
from paradual.errors import NotDifferentiableError, user_line

Function = Callable[..., Any]


def __getattr__(name: str) -> Any:
    if not name.startswith("_"):
        ours = f"{__name__}.{name}"
        try:
            return importlib.import_module(ours)
        except ModuleNotFoundError as missing:
            if missing.name != ours:
                raise
    return getattr(importlib.import_module("scipy"), name)


def passing(module: str) -> Function:
    """A module's ``__getattr__``: names that it does not define are those of a SciPy module."""

    def attribute(name: str) -> Any:
        return getattr(importlib.import_module(module), name)

    return attribute


def differentiated(*values: Any) -> bool:
    """Whether a value is being differentiated, or one in a list, tuple or dict."""
    return next(duals_in(values), None) is not None


def double(a: Any) -> Any:
    """An array in double precision, where SciPy computes in no other."""
    return a if a.dtype in (float, complex) else cast(a, np.result_type(a.dtype, float))


def extends(original: Function) -> Function:
    """Make a definition that is written in functions with rules the derivative of a SciPy function.

    The definition has those of the function's parameters that it knows, by the same names; another one
    that is not at its default is refused.  Whether to overwrite an argument does not matter.
    """
    signature = inspect.signature(original)
    several = [p.name for p in signature.parameters.values() if p.kind is p.VAR_POSITIONAL]

    def decorate(definition: Function) -> Function:
        known = inspect.signature(definition).parameters

        @wraps(original)
        def function(*args: Any, **kwargs: Any) -> Any:
            if not differentiated(args, kwargs):
                return original(*args, **kwargs)
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            if bound.arguments.get("check_finite"):
                _check_finite(bound.arguments)
            for name in [name for name in bound.arguments if name not in (*known, *several)]:
                value = bound.arguments.pop(name)
                neutral = name.startswith("overwrite") or name == "check_finite"
                default = signature.parameters[name].default
                same = value is default or (isinstance(value, str | int | float) and value == default)
                if not neutral and not same:
                    raise NotDifferentiableError(
                        f"{original.__name__} with the argument {name}={value!r}{user_line()} has no "
                        "derivative rule: leave the argument out, or write the step with other functions"
                    )
            args = bound.arguments.pop(several[0]) if several else ()
            return definition(*args, **bound.arguments)

        return adopt(function, original, definition.__module__)

    return decorate


def adopt(function: Function, original: Function, module: str) -> Function:
    """Give a wrapper of a SciPy function the module that it pickles from, and a docstring."""
    function.__module__ = module
    function.__qualname__ = function.__name__ = original.__name__
    function.__doc__ = f"`{module.removeprefix('paradual.')}.{original.__name__}` with derivatives."
    return function


def _check_finite(arguments: Any) -> None:
    for dual in duals_in(arguments.values()):
        if not np.all(np.isfinite(dual)):
            raise ValueError("array must not contain infs or NaNs")
