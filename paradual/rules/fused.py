"""The pullback of an elementwise function as one kernel, on a device that can compile one.

A kernel for each operation of a partial derivative, and one for the product, would write and read every
intermediate array.  CuPy's `fuse` makes one kernel of a function that it follows with stand-ins for arrays.
They know CuPy's functions only, and partial derivatives are written for NumPy: a `Lane` leads from one to
the other.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

FEWEST = 1 << 16  # elements for which a pass over memory costs more than `fuse` does on the host


def fused_product(g: Any, partial: Callable[..., Any], keep: Any) -> Any:
    """``g * partial(*keep)`` in one kernel.

    Parameters
    ----------
    g : array
        A cotangent, on a device or not.
    partial : callable
        A partial derivative of an elementwise rule.
    keep : sequence
        What it is computed from: device arrays that broadcast to the shape of ``g``, and numbers.

    Returns
    -------
    array
        As the product is; in several kernels where one cannot do it (other dtypes than float32 and float64,
        or several in one product; a partial derivative that calls what is no ufunc, and a user's, which may
        read what changes between two calls) or would not be worth it (a small array, a partial derivative
        that is a number or what it was given).
    """
    library = sys.modules.get(type(g).__module__)
    if not (hasattr(library, "fuse") and _suits(g, keep) and can_fuse(partial, len(keep), g.dtype)):
        return g * partial(*keep)
    number = g.dtype.type  # what Python's numbers become beside such an array
    operands = [value if type(value) is type(g) else number(value) for value in keep]
    return _kernel(partial, g.dtype, library)(g, *operands)


def _suits(g: Any, keep: Any) -> bool:
    arrays = [value for value in keep if type(value) not in (int, float)]
    return (
        g.size >= FEWEST
        and g.dtype.char in "fd"
        and bool(arrays)
        and all(type(array) is type(g) and array.dtype == g.dtype for array in arrays)
    )


@cache
def can_fuse(partial: Callable[..., Any], n: int, dtype: Any) -> bool:
    """Whether a partial derivative computes something, with nothing but ufuncs and `np.where`."""
    if not partial.__module__.startswith("paradual."):
        return False
    lanes = [Lane(np.ones(1, dtype), dtype, np) for _ in range(n)]
    try:
        with np.errstate(all="ignore"):
            d = partial(*lanes)
    except (TypeError, AttributeError):
        return False
    return isinstance(d, Lane) and d.dtype in (dtype, np.dtype(bool)) and all(d is not lane for lane in lanes)


@cache
def _kernel(partial: Callable[..., Any], dtype: Any, cupy: Any) -> Any:
    def product(g: Any, *keep: Any) -> Any:
        d = partial(*(Lane(value, dtype, cupy) for value in keep))
        return (Lane(g, dtype, cupy) * d).content

    return cupy.fuse(kernel_name="paradual_pullback")(product)


class Lane(NDArrayOperatorsMixin):
    """One element of each array, whichever: NumPy's functions of it are those of another module.

    Parameters
    ----------
    content : object
        What that module computes with.
    dtype : dtype
        What Python's numbers become beside it.
    module : module
        CuPy, or NumPy itself.
    """

    def __init__(self, content: Any, dtype: Any, module: Any) -> None:
        self.content, self.number, self.module = content, dtype, module

    shape = ()

    @property
    def dtype(self) -> Any:
        """That of the elements."""
        return self.content.dtype

    def _call(self, name: str, operands: Any) -> Lane:
        contents = [
            x.content if isinstance(x, Lane) else self.number.type(x) if type(x) in (int, float) else x
            for x in operands
        ]
        return Lane(getattr(self.module, name)(*contents), self.number, self.module)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *operands: Any, **options: Any) -> Any:
        name = ufunc.__name__
        if method != "__call__" or options or getattr(np, name, None) is not ufunc:
            return NotImplemented
        return self._call(name, operands)

    def __array_function__(self, f: Any, types: Any, operands: Any, options: Any) -> Any:
        return self._call("where", operands) if f is np.where and len(operands) == 3 else NotImplemented

    def __bool__(self) -> bool:
        raise TypeError("the elements of an array are not all one truth")

    def __getitem__(self, index: Any) -> Lane:
        if index != ():
            raise TypeError("a lane is one element")
        return self


__all__ = ["FEWEST", "Lane", "can_fuse", "fused_product"]
