"""Functions within Dask tasks that know no duals, and those of ours that stand for them in a forward task.

Most tasks of dask.array call NumPy, which dispatches on its arguments.  Some call compiled functions of
SciPy, for which `paradual.scipy` has functions with derivatives, and a few of Dask's own helpers hand
their arguments on in a way that NumPy does not see.
"""

from __future__ import annotations

import copy
import functools
import importlib
from collections.abc import Callable
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

import numpy as np
from dask._task_spec import Task
from dask.array.dispatch import numel_lookup
from dask.utils import Dispatch

from paradual.dual import DUALS, duals_in, primal
from paradual.locality import on_device

Function = Callable[..., Any]


def with_standins(node: Any) -> Any:
    """A task, or a part of one, in which functions of ours stand for those that know no duals."""
    if isinstance(node, Task):
        func, args = _standin(node.func), with_standins(node.args)
        kwargs = with_standins(node.kwargs)
        if func is node.func and args is node.args and kwargs is node.kwargs:
            return node
        new = copy.copy(node)  # its key and its dependencies stay
        new.func, new.args, new.kwargs = func, args, kwargs
        return new
    if type(node) is dict:
        new_values = [with_standins(value) for value in node.values()]
        same = all(a is b for a, b in zip(new_values, node.values(), strict=True))
        return node if same else dict(zip(node, new_values, strict=True))
    if type(node) in (tuple, list):
        parts = [with_standins(part) for part in node]
        return node if all(a is b for a, b in zip(parts, node, strict=True)) else type(node)(parts)
    return _standin(node)


def _standin(function: Any) -> Any:
    if type(function) is functools.partial:
        inner = _standin(function.func)
        if inner is function.func:
            return function
        return functools.partial(inner, *function.args, **function.keywords)
    if isinstance(function, MethodType):
        return _of_distribution(function)
    if isinstance(function, Dispatch):
        return functools.partial(dispatched, function)
    if not isinstance(function, FunctionType | BuiltinFunctionType):
        return function
    module, name = function.__module__ or "", function.__name__
    ours = _OURS.get((module, name))
    if ours is not None:
        return ours
    return _of_scipy(module, name, function) if module.startswith("scipy.") else function


def _of_scipy(module: str, name: str, function: Any) -> Any:
    """What `paradual.scipy` has under the same name, if anything.

    It is imported by name: those modules are built upon this one, and SciPy may be missing.
    """
    public = ".".join(module.split(".")[:2])  # scipy.linalg._decomp_lu
    theirs = getattr(importlib.import_module(public), name, None)
    # a function is pickled by its name, but a distribution as a copy
    if theirs is not function and (isinstance(function, FunctionType) or type(theirs) is not type(function)):
        return function
    try:
        ours = importlib.import_module(f"paradual.{public}")
    except ModuleNotFoundError:
        return function
    return vars(ours).get(name, function)


def _of_distribution(method: Any) -> Any:
    """The method of a distribution of `paradual.scipy.stats` for one of SciPy's."""
    owner = method.__self__
    module = type(owner).__module__
    if not module.startswith("scipy.stats."):
        return method
    ours = _of_scipy(module, getattr(owner, "name", None) or "", owner)
    return method if ours is owner else getattr(ours, method.__name__, method)


def dispatched(lookup: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
    """What Dask chooses by the type of an argument, chosen by the type of the value in a dual.

    The table travels with the task, as a copy: a dual's type registered here would not be known there.
    Of a device Dask chooses CuPy's own functions, which know no duals, where NumPy's lead to the same.
    """
    chosen = lookup.dispatch(type(primal(x)))
    if on_device(x) and "numel" not in chosen.__name__ and next(duals_in([x, *args]), None) is not None:
        chosen = lookup.dispatch(np.ndarray)
    return chosen(x, *args, **kwargs)


# --- Dask's own helpers -------------------------------------------------------------------------------


def _safe(name: str, a: Any, like: Any, kwargs: Any) -> Any:
    from dask.array import utils

    dual = next(duals_in([a]), None)
    if dual is None:
        return getattr(utils, f"{name}_safe")(a, like=like, **kwargs)
    return getattr(np, name)(a, like=dual, **kwargs)


def array_safe(a: Any, like: Any, **kwargs: Any) -> Any:
    """An array.  ``like=`` dispatches on the model, which may be a plain array where the values are duals."""
    return _safe("array", a, like, kwargs)


def asarray_safe(a: Any, like: Any, **kwargs: Any) -> Any:
    """See `array_safe`."""
    return _safe("asarray", a, like, kwargs)


def asanyarray_safe(a: Any, like: Any, **kwargs: Any) -> Any:
    """See `array_safe`."""
    return _safe("asanyarray", a, like, kwargs)


def solve_triangular_safe(a: Any, b: Any, lower: bool = False) -> Any:
    """Solve a triangular system of a chunk."""
    from dask.array import utils

    if next(duals_in([a, b]), None) is None:
        return utils.solve_triangular_safe(a, b, lower=lower)
    return importlib.import_module("paradual.scipy.linalg").solve_triangular(a, b, lower=lower)


def solve_triangular_lower(a: Any, b: Any) -> Any:
    """Solve a lower triangular system of a chunk."""
    return solve_triangular_safe(a, b, lower=True)


def histogramdd_rect(sample: Any, bins: Any, range: Any, weights: Any) -> Any:
    """The histogram of a chunk, with an axis in front: Dask has it in a tuple, where no dual is seen."""
    return np.histogramdd(sample, bins, range=range, weights=weights)[0][None]


def histogramdd_multiarg(*args: Any) -> Any:
    """See `histogramdd_rect`; here the sample is one array for each coordinate."""
    *sample, bins, range, weights = args
    return np.histogramdd(tuple(sample), bins=bins, range=range, weights=weights)[0][None]


def count_of(x: Any, **kwargs: Any) -> Any:
    """How many elements go into each result of a reduction; on a device where the elements are on one."""
    return (
        numel_lookup(primal(x), **kwargs) if on_device(x) else numel_lookup.dispatch(np.ndarray)(x, **kwargs)
    )


for _kind in DUALS:
    numel_lookup.register(_kind, count_of)


def chunk_einsum(*operands: Any, subscripts: str, ncontract_inds: int, kernel_dtype: Any, **kw: Any) -> Any:
    """The contraction of some chunks, with an axis for each label that Dask sums over."""
    from dask.array import einsumfuncs

    first = operands[0]
    if on_device(first) and first.__class__ not in DUALS and next(duals_in(operands), None) is not None:
        out = np.einsum(subscripts, *operands, dtype=kernel_dtype, **kw)  # CuPy's own knows no duals
        return np.reshape(out, out.shape + (1,) * ncontract_inds)
    options = {"subscripts": subscripts, "ncontract_inds": ncontract_inds, "kernel_dtype": kernel_dtype}
    return einsumfuncs.chunk_einsum(*operands, **options, **kw)


def matmul(a: Any, b: Any) -> Any:
    """The product of two chunks, with the axis that Dask sums over kept."""
    return np.matmul(a, b)[..., None, :]


def isnull(values: Any) -> Any:
    """Where values are missing: pandas would make plain arrays of them."""
    from dask.array import routines

    dual = next(duals_in([values]), None)
    return routines._asarray_isnull(values) if dual is None else np.isnan(values)


_OURS: dict[tuple[str, str], Function] = {
    ("dask.array.utils", "array_safe"): array_safe,
    ("dask.array.utils", "asarray_safe"): asarray_safe,
    ("dask.array.utils", "asanyarray_safe"): asanyarray_safe,
    ("dask.array.utils", "solve_triangular_safe"): solve_triangular_safe,
    ("dask.array.linalg", "_solve_triangular_lower"): solve_triangular_lower,
    ("dask.array.routines", "_block_histogramdd_rect"): histogramdd_rect,
    ("dask.array.routines", "_block_histogramdd_multiarg"): histogramdd_multiarg,
    ("dask.array.routines", "_asarray_isnull"): isnull,
    ("dask.array.routines", "_matmul"): matmul,
    ("dask.array.einsumfuncs", "chunk_einsum"): chunk_einsum,
}
