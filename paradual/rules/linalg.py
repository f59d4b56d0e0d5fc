"""Linear algebra, stacked matrices included.

Derivations: M. Giles, "An extended collection of matrix derivative results for forward and reverse mode
algorithmic differentiation" (2008), and I. Murray, "Differentiation of the Cholesky decomposition"
(2016), written without conjugation for the convention df/dx - i df/dy.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from paradual.arrays import is_complex, shape_of
from paradual.rules.reductions import expand, root
from paradual.rules.registry import composed, general


def _t(a: Any) -> Any:
    return np.swapaxes(a, -1, -2)


def _h(a: Any) -> Any:
    return np.conjugate(_t(a)) if is_complex(a) else _t(a)


# --- solving: from A x = b follows A dx = db - dA x -----------------------------------------------


def _solve_pull(g: Any, a: Any, b_shape: Any, out: Any) -> tuple[Any, Any]:
    if len(b_shape) == 1:
        u = np.linalg.solve(_t(a), np.expand_dims(g, -1))[..., 0]
        return -np.expand_dims(u, -1) * np.expand_dims(out, -2), u
    u = np.linalg.solve(_t(a), g)
    return -np.matmul(u, _t(out)), u


def _solve_push(t: Any, a: Any, b_shape: Any, out: Any) -> Any:
    da, db = t
    if len(b_shape) == 1:
        return np.linalg.solve(a, np.expand_dims(db - np.matmul(da, out[..., None])[..., 0], -1))[..., 0]
    return np.linalg.solve(a, db - np.matmul(da, out))


general(np.linalg.solve, _solve_pull, _solve_push, arrays="a b")
general(
    np.linalg.inv,
    lambda g, out: -np.matmul(np.matmul(_t(out), g), _t(out)),
    lambda t, out: -np.matmul(np.matmul(out, t), out),
)

# --- determinants: d det A = det A tr(A^-1 dA) ---------------------------------------------------------


def _stretch(g: Any) -> Any:
    return np.reshape(g, (*shape_of(g), 1, 1))


general(
    np.linalg.det,
    lambda g, a, out: _stretch(g * out) * _t(np.linalg.inv(a)),
    lambda t, a, out: out * np.trace(np.linalg.solve(a, t), axis1=-2, axis2=-1),
)


def _slogdet_pull(g: Any, a: Any, out: Any) -> Any:
    g_sign, g_log = g
    if is_complex(a):  # d sign = i sign Im tr(A^-1 dA), d log|det| = Re tr(A^-1 dA)
        g_log = g_log + 1j * np.imag(g_sign * out[0])
    return _stretch(g_log) * _t(np.linalg.inv(a))


def _slogdet_push(t: Any, a: Any, out: Any) -> Any:
    trace = np.trace(np.linalg.solve(a, t), axis1=-2, axis2=-1)
    if is_complex(a):
        return 1j * out[0] * np.imag(trace), np.real(trace)
    return trace * 0, trace


general(np.linalg.slogdet, _slogdet_pull, _slogdet_push)

# --- Cholesky: dL = L phi(L^-1 dA L^-H), where phi halves the diagonal and drops the upper triangle ------
# NumPy reads one triangle of A and the real part of its diagonal; so does the derivative.


def _phi(a: Any) -> Any:
    return np.tril(a, -1) + np.tril(np.triu(a)) / 2


def _cholesky_pull(g: Any, out: Any, upper: bool = False) -> Any:
    lower, g = (_h(out), np.conjugate(_t(g))) if upper else (out, g)
    bar = np.conjugate(g)  # the gradient in the usual inner product
    inner = np.linalg.solve(_h(lower), _phi(np.matmul(_h(lower), bar)))
    s = _h(np.linalg.solve(_h(lower), _h(inner)))
    both = np.conjugate((s + _h(s)) / 2)
    folded = 2 * np.tril(both, -1) + np.tril(np.triu(np.real(both)))
    return _t(np.conjugate(folded)) if upper else folded


def _cholesky_push(t: Any, out: Any, upper: bool = False) -> Any:
    lower, t = (_h(out), _h(t)) if upper else (out, t)
    da = np.tril(t, -1) + _h(np.tril(t, -1)) + np.tril(np.triu(np.real(t)))
    inner = np.linalg.solve(lower, da)
    dl = np.matmul(lower, _phi(_h(np.linalg.solve(lower, _h(inner)))))
    return _h(dl) if upper else dl


general(np.linalg.cholesky, _cholesky_pull, _cholesky_push)

# --- norms ------------------------------------------------------------------------------------------


def _norm2(x: Any, axis: Any, keepdims: bool) -> Any:
    square = np.real(x) ** 2 + np.imag(x) ** 2 if is_complex(x) else x * x
    return root(np.sum(square, axis=axis, keepdims=keepdims))


def _norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    if ord is None and axis is None:
        flat = _norm2(np.ravel(x), -1, False)
        return np.reshape(flat, (1,) * x.ndim) if keepdims else flat
    if axis is None:
        axis = tuple(range(x.ndim))
    axis = tuple(axis) if isinstance(axis, tuple | list) else (axis,)
    if len(axis) == 1:
        return _vector_norm(x, ord, axis[0], keepdims)
    if len(axis) != 2:
        raise ValueError("Improper number of dimensions to norm.")
    return _matrix_norm(x, ord, axis, keepdims)


def _vector_norm(x: Any, ord: Any, axis: Any, keepdims: bool) -> Any:
    if ord is None or ord == 2:
        return _norm2(x, axis, keepdims)
    if isinstance(ord, str):
        raise ValueError(f"Invalid norm order {ord!r} for vectors")
    size = np.abs(x)
    if ord == np.inf:
        return np.max(size, axis=axis, keepdims=keepdims)
    if ord == -np.inf:
        return np.min(size, axis=axis, keepdims=keepdims)
    if ord == 0:
        return np.sum((size != 0) * np.ones_like(size), axis=axis, keepdims=keepdims)
    if ord == 1:
        return np.sum(size, axis=axis, keepdims=keepdims)
    total = np.sum(size**ord, axis=axis, keepdims=keepdims)
    return np.where(total == 0, 0.0, np.where(total == 0, 1.0, total) ** (1 / ord))


def _matrix_norm(x: Any, ord: Any, axis: Any, keepdims: bool) -> Any:
    if ord is None or ord == "fro":
        return _norm2(x, axis, keepdims)
    if ord in (1, -1, np.inf, -np.inf):
        rows, columns = (k % x.ndim for k in axis)
        inside, outside = (rows, columns) if ord in (1, -1) else (columns, rows)
        total = np.sum(np.abs(x), axis=inside, keepdims=True)
        best = (np.max if ord > 0 else np.min)(total, axis=outside, keepdims=True)
    elif ord in (2, -2, "nuc"):
        matrix = np.moveaxis(x, axis, (-2, -1))
        values = np.linalg.svd(matrix, compute_uv=False)
        pick = {2: np.max, -2: np.min, "nuc": np.sum}[ord]
        best = expand(pick(values, axis=-1), x.shape, axis, False)
    else:
        raise ValueError("Invalid norm order for matrices.")
    return best if keepdims else np.squeeze(best, axis=axis)


composed(np.linalg.norm, _norm)
if hasattr(np.linalg, "vector_norm"):

    def _array_vector_norm(x: Any, /, *, axis: Any = None, keepdims: bool = False, ord: Any = 2) -> Any:
        if axis is None:
            out = _vector_norm(np.ravel(x), ord, 0, False)
            return np.reshape(out, (1,) * x.ndim) if keepdims else out
        if isinstance(axis, tuple):
            axes = [k % x.ndim for k in axis]
            rest = [k for k in range(x.ndim) if k not in axes]
            moved = np.reshape(np.transpose(x, rest + axes), [*(x.shape[k] for k in rest), -1])
            out = _vector_norm(moved, ord, -1, False)
            return expand(out, x.shape, axis, False) if keepdims else out
        return _vector_norm(x, ord, axis, keepdims)

    composed(np.linalg.vector_norm, _array_vector_norm)
    composed(
        np.linalg.matrix_norm,
        lambda x, /, *, keepdims=False, ord="fro": _matrix_norm(x, ord, (-2, -1), keepdims),
    )
    composed(np.linalg.trace, lambda x, /, *, offset=0, dtype=None: np.trace(x, offset, -2, -1, dtype))
    composed(np.linalg.diagonal, lambda x, /, *, offset=0: np.diagonal(x, offset, -2, -1))
    composed(np.linalg.matmul, lambda x1, x2, /: np.matmul(x1, x2))
    composed(np.linalg.matrix_transpose, lambda x, /: np.swapaxes(x, -1, -2))
    composed(np.linalg.outer, lambda x1, x2, /: np.outer(x1, x2))
    composed(np.linalg.tensordot, lambda x1, x2, /, *, axes=2: np.tensordot(x1, x2, axes))
    composed(np.linalg.vecdot, lambda x1, x2, /, *, axis=-1: np.vecdot(x1, x2, axis=axis))
    composed(np.linalg.cross, lambda x1, x2, /, *, axis=-1: np.cross(x1, x2, axis=axis))


def _matrix_power(a: Any, n: int) -> Any:
    if n < 0:
        return _matrix_power(np.linalg.inv(a), -n)
    if n == 0:
        identity = np.zeros_like(a)
        diagonal = np.arange(a.shape[-1])
        identity[..., diagonal, diagonal] = 1
        return identity
    result = None
    while n:
        if n & 1:
            result = a if result is None else np.matmul(result, a)
        n >>= 1
        a = np.matmul(a, a) if n else a
    return result


composed(np.linalg.matrix_power, _matrix_power)


def _multi_dot(arrays: Any, *, out: Any = None) -> Any:
    total = arrays[0]
    for a in arrays[1:]:
        total = np.dot(total, a)
    return total


composed(np.linalg.multi_dot, _multi_dot)
