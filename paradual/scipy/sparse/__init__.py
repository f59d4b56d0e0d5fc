"""`scipy.sparse` with derivatives: products with a constant sparse matrix.

>>> import numpy as np, paradual as pdl
>>> from paradual.scipy import sparse
>>> A = sparse.csr_array([[1.0, 2.0], [0.0, 3.0]])
>>> pdl.grad(lambda x: np.sum(sparse.matmul(A, x)))(np.ones(2))
array([1., 5.])
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as _scipy

from paradual.arrays import dispatch, shape_of
from paradual.errors import ParadualTypeError
from paradual.rules.registry import linear
from paradual.scipy import differentiated, passing

__getattr__ = passing("scipy.sparse")


# A sparse matrix is handed on as its arrays: the tape keeps those safe from whoever writes to them.


def arrays_of(A: Any) -> list[Any]:
    """The arrays and the shape of a sparse matrix, by rows."""
    A = A.tocsr()
    return [A.data, A.indices, A.indptr, A.shape]


def matrix(arrays: list[Any], transposed: bool) -> Any:
    """The sparse matrix of some arrays."""
    *parts, shape = arrays
    A = _scipy.csr_array(tuple(parts), shape=shape)
    return A.T if transposed else A


def product(x: Any, arrays: Any, transposed: bool) -> Any:
    """``A @ x`` for a constant sparse matrix A, or for its transpose."""
    out = dispatch(product, [x], (x, arrays, transposed))
    return matrix(arrays, transposed) @ x if out is NotImplemented else out


linear(product, lambda g, arrays, transposed: product(g, arrays, not transposed))


def matmul(x1: Any, x2: Any) -> Any:
    """The product of a sparse and a dense array, on either side.

    SciPy's ``A @ x`` refuses an array that is being differentiated; this is what to write instead.

    Parameters
    ----------
    x1, x2 : array
        One of them a constant sparse matrix or array of two dimensions, the other one dense, of one or two.

    Returns
    -------
    array
        ``x1 @ x2``.

    Raises
    ------
    ParadualTypeError
        If neither of them is sparse.
    ValueError
        If the shapes do not match.

    Examples
    --------
    >>> import numpy as np, scipy.sparse, paradual as pdl
    >>> A = scipy.sparse.csr_array([[1.0, 2.0], [0.0, 3.0]])
    >>> pdl.grad(lambda x: np.sum(matmul(x, A)))(np.ones(2))
    array([3., 3.])
    """
    if not differentiated(x1, x2):
        return x1 @ x2
    if _scipy.issparse(x1):
        return product(x2, arrays_of(x1), False)
    if not _scipy.issparse(x2):
        raise ParadualTypeError(
            "paradual.scipy.sparse.matmul takes a sparse array: write x1 @ x2 for dense ones"
        )
    if len(shape_of(x1)) == 1:
        return product(x1, arrays_of(x2), True)
    return np.transpose(product(np.transpose(x1), arrays_of(x2), True))


import paradual.scipy.sparse.linalg as linalg  # noqa: E402  (it needs the names above)

__all__ = ["linalg", "matmul"]
