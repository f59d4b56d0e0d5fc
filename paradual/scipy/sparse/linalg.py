"""`scipy.sparse.linalg` with derivatives: systems with a constant sparse matrix."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as _sparse
import scipy.sparse.linalg as _scipy

from paradual.arrays import dispatch, shape_of
from paradual.errors import NotDifferentiableError
from paradual.rules.registry import linear
from paradual.scipy import differentiated, extends, passing
from paradual.scipy.sparse import arrays_of, matrix

__getattr__ = passing("scipy.sparse.linalg")


def solution(b: Any, arrays: Any, transposed: bool, options: Any) -> Any:
    """`scipy.sparse.linalg.spsolve` for a constant sparse matrix, or for its transpose."""
    out = dispatch(solution, [b], (b, arrays, transposed, options))
    if out is not NotImplemented:
        return out
    return np.reshape(_scipy.spsolve(matrix(arrays, transposed).tocsc(), b, *options), np.shape(b))


linear(solution, lambda g, arrays, transposed, options: solution(g, arrays, not transposed, options))


@extends(_scipy.spsolve)
def spsolve(A: Any, b: Any, permc_spec: Any = None, use_umfpack: bool = True) -> Any:
    if differentiated(A):
        raise NotDifferentiableError(
            "spsolve takes a constant sparse matrix: use linalg.solve for a dense one"
        )
    x = solution(b, arrays_of(_sparse.csc_array(A)), False, (permc_spec, use_umfpack))
    return np.ravel(x) if shape_of(x)[1:] == (1,) else x  # as SciPy does
