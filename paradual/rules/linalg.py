"""Linear algebra, stacked matrices included.

Derivations: M. Giles, "An extended collection of matrix derivative results for forward and reverse mode
algorithmic differentiation" (2008), I. Murray, "Differentiation of the Cholesky decomposition" (2016), and
G. Golub and V. Pereyra, "The differentiation of pseudo-inverses" (1973), written without conjugation for the
convention df/dx - i df/dy.
"""

from __future__ import annotations

import math
import operator
from functools import cache
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from paradual.arrays import bare, dispatch, is_complex, shape_of
from paradual.locality import any_of, identity
from paradual.rules.decompositions import (
    conjugate,
    from_triangle,
    largest,
    regular,
    roundoff,
    to_triangle,
    two_dimensional,
)
from paradual.rules.reductions import expand, in_dtype, number, root
from paradual.rules.registry import composed, general


def _t(a: Any) -> Any:
    return np.swapaxes(a, -1, -2)


def _h(a: Any) -> Any:
    return np.conjugate(_t(a)) if is_complex(a) else _t(a)


# --- solving: from A x = b follows A dx = db - dA x -----------------------------------------------


def _is_vector(a: Any, out: Any) -> bool:
    """Whether the right-hand side, which may be a list of numbers, was one vector."""
    return len(shape_of(out)) < len(shape_of(a))


def _solve_pull(g: Any, a: Any, out: Any) -> tuple[Any, Any]:
    if _is_vector(a, out):
        u = np.linalg.solve(_t(a), np.expand_dims(g, -1))[..., 0]
        return -np.expand_dims(u, -1) * np.expand_dims(out, -2), u
    u = np.linalg.solve(_t(a), g)
    return -np.matmul(u, _t(out)), u


def _solve_push(t: Any, a: Any, out: Any) -> Any:
    da, db = t
    if _is_vector(a, out):
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


def _cofactors(a: Any, det: Any) -> Any:
    """The matrix of cofactors, the slope of the determinant: det A A^-T, where A is far from singular."""
    n = a.shape[-1]
    try:
        inverse = np.linalg.inv(a)
        size = largest(inverse) * largest(a)
        if not np.any(size * n > np.finfo(a.dtype).eps ** -0.5):  # NaN takes this way
            return np.expand_dims(det, (-2, -1)) * _t(inverse)
    except np.linalg.LinAlgError:  # exactly singular
        pass
    # A = U B V^H with U and V held fixed, so that B is nearly diagonal.  With the q smallest singular values
    # in B22 and the Schur complement S = B22 - B21 B11^-1 B12, adj B is a polynomial in S: exact at any rank
    u, s, vh = np.linalg.svd(bare(a))
    q = max(1, int(np.max(np.sum(s < np.finfo(a.dtype).eps ** 0.5 * s[..., :1], axis=-1))))
    q = n if np.any(s[..., 0] == 0) else q
    b = np.matmul(np.matmul(_h(u), a), _h(vh))
    b11, b12, b21, b22 = b[..., :-q, :-q], b[..., :-q, -q:], b[..., -q:, :-q], b[..., -q:, -q:]
    right, left = np.linalg.solve(b11, b12), _t(np.linalg.solve(_t(b11), _t(b21)))
    schur = b22 - np.matmul(b21, right)
    small = _adjugate(schur)
    det_small = np.trace(np.matmul(schur, small), axis1=-2, axis2=-1) / q
    top_left = np.expand_dims(det_small, (-2, -1)) * np.linalg.inv(b11)
    top_left = top_left + np.matmul(np.matmul(right, small), left)
    top = np.concatenate([top_left, -np.matmul(right, small)], axis=-1)
    adjugate = np.concatenate([top, np.concatenate([-np.matmul(small, left), small], axis=-1)], axis=-2)
    scale = np.expand_dims(np.linalg.det(b11) * np.linalg.det(u) * np.linalg.det(vh), (-2, -1))
    return _t(scale * np.matmul(np.matmul(_h(vh), adjugate), _h(u)))


def _adjugate(a: Any) -> Any:
    """The adjugate of a small matrix, a polynomial in its entries (Faddeev and LeVerrier)."""
    q = a.shape[-1]
    one = identity(q, a)
    m = np.zeros_like(bare(a)) + one
    for k in range(1, q):
        m = np.matmul(a, m)
        m = m - np.expand_dims(np.trace(m, axis1=-2, axis2=-1), (-2, -1)) / k * one
    return m if q % 2 else -m


general(
    np.linalg.det,
    lambda g, a, out: _stretch(g) * _cofactors(a, out),
    lambda t, a, out: np.sum(_cofactors(a, out) * t, axis=(-2, -1)),
)


def _slogdet_pull(g: Any, a: Any, out: Any) -> Any:
    g_sign, g_log = g
    if is_complex(a):  # d sign = i sign Im tr(A^-1 dA), d log|det| = Re tr(A^-1 dA)
        g_log = g_log + 1j * np.imag(g_sign * out[0])
    a, nan = regular(a, bare(out[0]) == 0)  # log|det| has no derivative at singular matrices: NaN
    return _stretch(g_log) * (_t(np.linalg.inv(a)) + np.where(_stretch(g_log) == 0, 0.0, nan))


def _slogdet_push(t: Any, a: Any, out: Any) -> Any:
    is_z, (a, nan) = is_complex(a), regular(a, bare(out[0]) == 0)
    trace = np.trace(np.linalg.solve(a, t + nan), axis1=-2, axis2=-1)
    if is_z:
        return 1j * out[0] * np.imag(trace), np.real(trace)
    return trace * 0, trace


general(np.linalg.slogdet, _slogdet_pull, _slogdet_push)

# --- the pseudo-inverse, as long as the rank stays the same --------------------------------------------


def pseudo_inverse(a: Any, rcond: Any = None, hermitian: bool = False) -> Any:
    """`numpy.linalg.pinv` of a matrix of which it cuts off nothing but zero singular values."""
    out = dispatch(pseudo_inverse, [a], (a, rcond, hermitian))
    if out is not NotImplemented:
        return out
    return np.linalg.pinv(
        a, **({} if rcond is None else {"rcond": rcond}), **({"hermitian": True} if hermitian else {})
    )


# dP = -P dA P + P P^H dA^H (I - A P) + (I - P A) dA^H P^H P


def _pinv_pull(g: Any, a: Any, out: Any, rcond: Any = None, hermitian: bool = False) -> Any:
    del rcond  # it decides which singular values count, and that does not change
    p, a, gh = out, from_triangle(a) if hermitian else a, _t(g)
    first = np.matmul(gh - np.matmul(a, np.matmul(p, gh)), np.matmul(p, _h(p)))
    second = np.matmul(np.matmul(_h(p), p), gh - np.matmul(np.matmul(gh, p), a))
    total = conjugate(first + second - np.matmul(np.matmul(_h(p), _h(gh)), _h(p)))
    return to_triangle(total) if hermitian else total


def _pinv_push(t: Any, a: Any, out: Any, rcond: Any = None, hermitian: bool = False) -> Any:
    del rcond
    if hermitian:
        t, a = from_triangle(t), from_triangle(a)
    p, left, right = out, np.matmul(_h(out), _h(t)), np.matmul(_h(t), _h(out))
    first = np.matmul(p, left - np.matmul(np.matmul(left, a), p) - np.matmul(t, p))
    return first + np.matmul(right - np.matmul(p, np.matmul(a, right)), p)


general(pseudo_inverse, _pinv_pull, _pinv_push)


def _cut(a: Any, rcond: Any) -> Any:
    """A matrix without its singular values up to ``rcond`` times the largest, if they are not zero."""
    s = np.linalg.svd(bare(a), compute_uv=False)
    keep = s > (np.expand_dims(rcond, -1) if np.ndim(rcond) else rcond) * largest(s, 1)
    if not np.any(~keep & (s > roundoff(s, max(a.shape[-2:])) * largest(s, 1))):
        return a
    vh = np.expand_dims(keep, -1) * np.linalg.svd(a, full_matrices=False)[2]
    return np.matmul(np.matmul(a, _h(vh)), vh)


def _pinv(a: Any, rcond: Any = None, hermitian: bool = False, *, rtol: Any = np._NoValue) -> Any:  # type: ignore[attr-defined]
    two_dimensional(a)
    if rtol is not np._NoValue:  # type: ignore[attr-defined]
        if rcond is not None:
            raise ValueError("`rtol` and `rcond` can't be both set.")
        rcond = max(a.shape[-2:]) * float(np.finfo(a.dtype).eps) if rtol is None else rtol
    if rcond is not None and 0 not in a.shape:
        whole = from_triangle(a) if hermitian else a
        cut = _cut(whole, rcond)
        if cut is not whole:
            return pseudo_inverse(cut, rcond)
    return pseudo_inverse(a, rcond, hermitian)


composed(np.linalg.pinv, _pinv)


def _lstsq(a: Any, b: Any, rcond: Any = None) -> Any:
    a, b = (x if hasattr(x, "ndim") else np.asarray(x) for x in (a, b))
    dtype = np.result_type(a.dtype, b.dtype, *(x.dtype.type(0) * 1.0 for x in (a, b)))
    a, b = (in_dtype(x, dtype if is_complex(x) else dtype.type(0).real.dtype) for x in (a, b))
    rank = np.linalg.lstsq(bare(a), bare(b), rcond)[2]  # which also checks the arguments
    m, n = a.shape
    eps = float(np.finfo(dtype).eps)
    if rcond is None or not 0 <= rcond < 1:  # LAPACK takes the precision where rcond is no fraction
        x = np.matmul(pseudo_inverse(a, eps if rcond is not None else eps * max(m, n)), b)
    else:
        x = np.matmul(_pinv(a, rcond), b)
    rest = b - np.matmul(a, x)
    if rank == n < m:
        square = np.real(rest) ** 2 + np.imag(rest) ** 2 if is_complex(rest) else rest * rest
        residuals = np.sum(np.reshape(square, (m, -1)), axis=0)
    else:
        residuals = np.real(bare(rest))[:0].ravel()
    return x, residuals, rank, np.linalg.svd(a, compute_uv=False)


composed(np.linalg.lstsq, _lstsq)

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
    if x.size == 0 or x.ndim == 0:
        plain = np.linalg.norm(bare(x), ord, axis, keepdims)  # which also refuses what is not defined
        if x.size == 0:
            return plain
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
    return _matrix_norm(x, ord, normalize_axis_tuple(axis, x.ndim), keepdims)


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
    return number(np.where(total == 0, 0.0, np.where(total == 0, 1.0, total) ** (1 / ord)))


def _matrix_norm(x: Any, ord: Any, axis: Any, keepdims: bool) -> Any:
    if ord is None or ord in ("fro", "f"):
        return _norm2(x, axis, keepdims)
    if ord in (1, -1, np.inf, -np.inf):
        rows, columns = axis
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
    return best if keepdims else number(np.squeeze(best, axis=axis))


composed(np.linalg.norm, _norm)
if hasattr(np.linalg, "vector_norm"):

    def _array_vector_norm(x: Any, /, *, axis: Any = None, keepdims: bool = False, ord: Any = 2) -> Any:
        if x.size == 0 or x.ndim == 0:
            plain = np.linalg.vector_norm(bare(x), axis=axis, keepdims=keepdims, ord=ord)
            if x.size == 0:
                return plain
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

    def _array_vecdot(x1: Any, x2: Any, /, *, axis: int = -1) -> Any:
        if not shape_of(x1) or not shape_of(x2):
            raise ValueError("vecdot takes arrays of at least one dimension")
        return np.vecdot(x1, x2, axis=axis)

    def _outer(x1: Any, x2: Any, /) -> Any:
        if len(shape_of(x1)) != 1 or len(shape_of(x2)) != 1:
            raise ValueError("Input arrays must be one-dimensional: use np.outer to flatten them")
        return np.outer(x1, x2)

    def _cross(x1: Any, x2: Any, /, *, axis: int = -1) -> Any:
        if shape_of(x1)[axis] != 3 or shape_of(x2)[axis] != 3:
            raise ValueError("Both input arrays must be (arrays of) 3-dimensional vectors")
        return np.cross(x1, x2, axis=axis)

    composed(np.linalg.vector_norm, _array_vector_norm)
    composed(
        np.linalg.matrix_norm, lambda x, /, *, keepdims=False, ord="fro": _norm(x, ord, (-2, -1), keepdims)
    )
    composed(np.linalg.trace, lambda x, /, *, offset=0, dtype=None: np.trace(x, offset, -2, -1, dtype))
    composed(np.linalg.diagonal, lambda x, /, *, offset=0: np.diagonal(x, offset, -2, -1))
    composed(np.linalg.matmul, lambda x1, x2, /: np.matmul(x1, x2))
    composed(np.linalg.matrix_transpose, lambda x, /: np.swapaxes(x, -1, -2))
    composed(np.linalg.outer, _outer)
    composed(np.linalg.tensordot, lambda x1, x2, /, *, axes=2: np.tensordot(x1, x2, axes))
    composed(np.linalg.vecdot, _array_vecdot)
    composed(np.linalg.cross, _cross)


def _matrix_power(a: Any, n: int) -> Any:
    if a.ndim < 2 or a.shape[-1] != a.shape[-2]:
        raise np.linalg.LinAlgError("Last 2 dimensions of the array must be square")
    try:
        n = operator.index(n)
    except TypeError as error:
        raise TypeError("exponent must be an integer") from error
    if n < 0:
        return _matrix_power(np.linalg.inv(a), -n)
    if n == 0:
        return np.zeros_like(bare(a)) + identity(a.shape[-1], a)
    result = None
    while n:
        if n & 1:
            result = a if result is None else np.matmul(result, a)
        n >>= 1
        a = np.matmul(a, a) if n else a
    return result


composed(np.linalg.matrix_power, _matrix_power)


def _multi_dot(arrays: Any, *, out: Any = None) -> Any:
    arrays = [a if hasattr(a, "ndim") else np.asarray(a) for a in arrays]
    if len(arrays) < 2:
        raise ValueError("Expecting at least two arrays.")
    if any(a.ndim != 2 for a in arrays[1:-1]) or any(a.ndim not in (1, 2) for a in arrays):
        raise np.linalg.LinAlgError("multi_dot takes matrices, and vectors only at the ends")
    sizes = [1 if arrays[0].ndim == 1 else arrays[0].shape[0], *(a.shape[0] for a in arrays[1:])]
    sizes.append(1 if arrays[-1].ndim == 1 else arrays[-1].shape[1])

    @cache
    def best(i: int, j: int) -> tuple[int, int]:  # the least work for factors i to j, and where to split them
        if i == j:
            return 0, i
        work = sizes[i] * sizes[j + 1]
        return min((best(i, k)[0] + best(k + 1, j)[0] + work * sizes[k + 1], k) for k in range(i, j))

    def product(i: int, j: int) -> Any:
        k = best(i, j)[1]
        return arrays[i] if i == j else np.dot(product(i, k), product(k + 1, j))

    return product(0, len(arrays) - 1)


composed(np.linalg.multi_dot, _multi_dot)

# --- inverses and equations of tensors; condition numbers -----------------------------------------------


def _tensorinv(a: Any, ind: int = 2) -> Any:
    if ind <= 0:
        raise ValueError("Invalid ind argument.")
    shape = a.shape
    inverse = np.linalg.inv(np.reshape(a, (math.prod(shape[ind:]), -1)))
    return np.reshape(inverse, (*shape[ind:], *shape[:ind]))


composed(np.linalg.tensorinv, _tensorinv)


def _tensorsolve(a: Any, b: Any, axes: Any = None) -> Any:
    a, b = (x if hasattr(x, "ndim") else np.asarray(x) for x in (a, b))
    if axes is not None:
        last = [k % a.ndim for k in axes]
        a = np.transpose(a, [k for k in range(a.ndim) if k not in last] + last)
    shape = a.shape[b.ndim - a.ndim :] if a.ndim > b.ndim else ()
    n = math.prod(shape)
    if a.size != n**2:
        raise np.linalg.LinAlgError("a is not square: prod(a.shape[b.ndim:]) != prod(a.shape[:b.ndim])")
    return np.reshape(np.linalg.solve(np.reshape(a, (n, n)), np.ravel(b)), shape)


composed(np.linalg.tensorsolve, _tensorsolve)


def _cond(x: Any, p: Any = None) -> Any:
    if 0 in x.shape[-2:]:
        raise np.linalg.LinAlgError("cond is not defined on empty arrays")
    with np.errstate(all="ignore"):
        if p is None or p in (2, -2):
            s = np.linalg.svd(x, compute_uv=False)
            out = s[..., -1] / s[..., 0] if p == -2 else s[..., 0] / s[..., -1]
        else:
            if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
                raise np.linalg.LinAlgError("Last 2 dimensions of the array must be square")
            singular = np.linalg.slogdet(bare(x))[0] == 0
            inverse = np.linalg.inv(regular(x, singular)[0])
            out = _matrix_norm(x, p, (-2, -1), False) * _matrix_norm(inverse, p, (-2, -1), False)
            out = out * np.where(singular, np.inf, 1.0).astype(bare(out).dtype)
    known = np.isnan(np.sum(bare(x), axis=(-2, -1))) | ~np.isnan(bare(out))
    return np.where(known, out, np.inf) if any_of(~known) else out


composed(np.linalg.cond, _cond)
