"""`scipy.linalg` with derivatives; stacked matrices where SciPy takes them.

Derivations: M. Giles, "An extended collection of matrix derivative results for forward and reverse mode
algorithmic differentiation" (2008); N. Higham, "Functions of Matrices" (2008), theorem 3.6 for functions
of matrices.  Transposes are without conjugation, for the convention df/dx - i df/dy.
"""

from __future__ import annotations

from functools import wraps
from typing import Any

import numpy as np
import scipy.linalg as _scipy

from paradual.arrays import bare, dispatch, is_complex, shape_of
from paradual.errors import NotDifferentiableError
from paradual.rules.registry import general
from paradual.rules.shaping import pad_zeros
from paradual.scipy import double, extends, passing

__getattr__ = passing("scipy.linalg")


def _t(a: Any) -> Any:
    return np.swapaxes(a, -1, -2)


def _conjugate(a: Any) -> Any:
    return np.conjugate(a) if is_complex(a) else a


def _h(a: Any) -> Any:
    return _conjugate(_t(a))


# --- triangular systems: op(T) x = b, where T is the triangle of a that is read ---------------------------


def triangular(a: Any, b: Any, trans: int, lower: bool, unit_diagonal: bool) -> Any:
    """`scipy.linalg.solve_triangular` for a matrix ``b`` and ``trans`` 0 or 1."""
    out = dispatch(triangular, [a, b], (a, b, trans, lower, unit_diagonal))
    if out is not NotImplemented:
        return out
    return _scipy.solve_triangular(a, b, trans, lower, unit_diagonal, check_finite=False)


def _read(a: Any, lower: bool, unit_diagonal: bool) -> Any:
    return np.tril(a, -1 if unit_diagonal else 0) if lower else np.triu(a, 1 if unit_diagonal else 0)


def _triangular_pull(g: Any, a: Any, trans: Any, lower: Any, unit_diagonal: Any, out: Any) -> Any:
    u = triangular(a, g, 1 - trans, lower, unit_diagonal)
    outer = np.matmul(out, _t(u)) if trans else np.matmul(u, _t(out))
    return -_read(outer, lower, unit_diagonal), u


def _triangular_push(t: Any, a: Any, trans: Any, lower: Any, unit_diagonal: Any, out: Any) -> Any:
    da = _read(t[0], lower, unit_diagonal)
    return triangular(a, t[1] - np.matmul(_t(da) if trans else da, out), trans, lower, unit_diagonal)


general(triangular, _triangular_pull, _triangular_push, arrays="a b")


@extends(_scipy.solve_triangular)
def solve_triangular(a: Any, b: Any, trans: Any = 0, lower: bool = False, unit_diagonal: bool = False) -> Any:
    trans = {"N": 0, "T": 1, "C": 2}.get(trans, trans)
    if trans == 2:  # the conjugate of the transposed system
        return _conjugate(solve_triangular(a, _conjugate(b), 1, lower, unit_diagonal))
    if len(shape_of(b)) == 1:
        return triangular(a, np.expand_dims(b, -1), trans, lower, unit_diagonal)[..., 0]
    return triangular(a, b, trans, lower, unit_diagonal)


# --- LU: A[order] = L U; with M = L^-1 dA[order] U^-1 the parts below the diagonal belong to L ------------


def lu_parts(a: Any) -> Any:
    """`scipy.linalg.lu_factor`: L and U in one matrix, and the exchanges of rows."""
    out = dispatch(lu_parts, [a], (a,))
    return tuple(_scipy.lu_factor(a, check_finite=False)) if out is NotImplemented else out


def _order(pivots: Any, m: int) -> Any:
    """The order of rows that exchanges lead to."""
    order = np.broadcast_to(np.arange(m), (*pivots.shape[:-1], m)).copy()
    for k in range(pivots.shape[-1]):
        other = pivots[..., k : k + 1]
        a, b = order[..., k : k + 1].copy(), np.take_along_axis(order, other, -1)
        order[..., k : k + 1] = b
        np.put_along_axis(order, other, a, -1)
    return order


def _rows(a: Any, order: Any) -> Any:
    """The rows of stacked matrices in another order."""
    order = np.expand_dims(order, -1)
    return np.take_along_axis(a, np.broadcast_to(order, (*order.shape[:-1], shape_of(a)[-1])), -2)


def _split(packed: Any) -> Any:
    m, n = shape_of(packed)[-2:]
    k = min(m, n)
    return np.tril(packed[..., :k], -1) + np.eye(m, k, dtype=packed.dtype), np.triu(packed[..., :k, :])


def _lu_pull(g: Any, out: Any) -> Any:
    packed, pivots = out
    (m, n), k = shape_of(packed)[-2:], min(shape_of(packed)[-2:])
    left, right = _split(packed)
    g_left, g_right = np.tril(g[0], -1)[..., :k], np.triu(g[0])[..., :k, :]
    square = packed[..., :k, :k]
    if m >= n:  # dU = triu(M) U and dL = F - L triu(M), where F = dA U^-1 and L M = F above
        inner = np.triu(np.matmul(g_right, _t(right)) - np.matmul(_t(left), g_left))
        inner = triangular(square, inner, 1, True, True)
        f = g_left + (
            pad_zeros(inner, [(0, 0)] * (inner.ndim - 2) + [(0, m - n), (0, 0)]) if m > n else inner
        )
        bar = _t(triangular(square, _t(f), 0, False, False))
    else:  # dL = L tril(M) and dU = F - tril(M) U, where F = L^-1 dA and M U = F on the left
        inner = np.tril(np.matmul(_t(left), g_left) - np.matmul(g_right, _t(right)), -1)
        inner = _t(triangular(square, _t(inner), 0, False, False))
        f = g_right + pad_zeros(inner, [(0, 0)] * (inner.ndim - 2) + [(0, 0), (0, n - m)])
        bar = triangular(square, f, 1, True, True)
    return _rows(bar, np.argsort(_order(pivots, m), -1))


def _lu_push(t: Any, out: Any) -> Any:
    packed, pivots = out
    (m, n), k = shape_of(packed)[-2:], min(shape_of(packed)[-2:])
    left, right = _split(packed)
    t, square = _rows(t, _order(pivots, m)), packed[..., :k, :k]
    if m >= n:
        f = _t(triangular(square, _t(t), 1, False, False))
        inner = np.triu(triangular(square, f[..., :k, :], 0, True, True))
        d_left, d_right = f - np.matmul(left, inner), np.matmul(inner, right)
    else:
        f = triangular(square, t, 0, True, True)
        inner = np.tril(_t(triangular(square, _t(f[..., :k]), 1, False, False)), -1)
        d_left, d_right = np.matmul(left, inner), f - np.matmul(inner, right)
    before = [(0, 0)] * (d_left.ndim - 2)
    d_left = np.tril(pad_zeros(d_left, [*before, (0, 0), (0, n - k)]), -1)
    return d_left + np.triu(pad_zeros(d_right, [*before, (0, m - k), (0, 0)])), None


general(lu_parts, _lu_pull, _lu_push)


@extends(_scipy.lu_factor)
def lu_factor(a: Any) -> Any:
    return lu_parts(a)


@extends(_scipy.lu_solve)
def lu_solve(lu_and_piv: Any, b: Any, trans: int = 0) -> Any:
    packed, pivots = lu_and_piv
    vector = len(shape_of(b)) == 1
    b = np.expand_dims(b, -1) if vector else b
    order = _order(pivots, shape_of(packed)[-1])
    if trans == 0:
        x = solve_triangular(packed, _rows(b, order), 0, True, True)
        x = solve_triangular(packed, x)
    else:
        x = solve_triangular(packed, b, trans)
        x = _rows(solve_triangular(packed, x, trans, True, True), np.argsort(order, -1))
    return x[..., 0] if vector else x


@extends(_scipy.lu)
def lu(a: Any, permute_l: bool = False, p_indices: bool = False) -> Any:
    packed, pivots = lu_parts(a)
    left, right = _split(packed)
    m = shape_of(a)[-2]
    back = np.argsort(_order(pivots, m), -1).astype(pivots.dtype)
    if permute_l:
        return _rows(left, back), right
    return back if p_indices else np.eye(m, dtype=bare(left).real.dtype)[back], left, right


# --- Cholesky ---------------------------------------------------------------------------------------------


@extends(_scipy.cholesky)
def cholesky(a: Any, lower: bool = False) -> Any:
    return np.linalg.cholesky(a) if lower else _h(np.linalg.cholesky(_h(a)))


@extends(_scipy.cho_factor)
def cho_factor(a: Any, lower: bool = False) -> Any:
    c = cholesky(a, lower)
    # SciPy leaves the other triangle as it was
    return c + (np.triu(a, 1) if lower else np.tril(a, -1)), lower


@extends(_scipy.cho_solve)
def cho_solve(c_and_lower: Any, b: Any) -> Any:
    c, lower = c_and_lower
    x = solve_triangular(c, b, 0 if lower else 2, lower)
    return solve_triangular(c, x, 2 if lower else 0, lower)


# --- linear systems ---------------------------------------------------------------------------------------


def _structured(a: Any, assume_a: Any, lower: bool) -> Any:
    """The matrix that is meant by the entries which are read."""
    if assume_a in ("sym", "symmetric"):
        half = np.tril(a, -1) if lower else np.triu(a, 1)
        return half + _t(half) + np.tril(np.triu(a))
    if assume_a in ("her", "hermitian", "pos", "positive definite"):
        half, diagonal = np.tril(a, -1) if lower else np.triu(a, 1), np.tril(np.triu(a))
        return half + _h(half) + (np.real(diagonal) if is_complex(a) else diagonal)
    bands = {
        "diagonal": (0, 0),
        "tridiagonal": (-1, 1),
        "upper triangular": (0, None),
        "lower triangular": (None, 0),
    }
    low, high = bands.get(assume_a, (None, None))
    a = a if low is None else np.triu(a, low)
    return a if high is None else np.tril(a, high)


@extends(_scipy.solve)
def solve(a: Any, b: Any, lower: bool = False, assume_a: Any = None, transposed: bool = False) -> Any:
    if transposed and is_complex(a):
        raise NotImplementedError("scipy.linalg.solve with transposed=True takes no complex matrix")
    if assume_a in ("pos", "positive definite"):
        return cho_solve((cholesky(a, lower), lower), b)
    a = _structured(a, assume_a, lower)
    return np.linalg.solve(_t(a) if transposed else a, b)


@extends(_scipy.inv)
def inv(a: Any, assume_a: Any = None, lower: bool = False) -> Any:
    return np.linalg.inv(_structured(a, assume_a, lower))


@extends(_scipy.det)
def det(a: Any) -> Any:
    return np.linalg.det(double(a))


def _shifted(p: Any, shifts: Any, n: int) -> Any:
    """Row r of a matrix moved to the right by ``shifts[r]``; zeros come in."""
    source = np.arange(n) - np.reshape(shifts, (-1, 1))
    inside = (source >= 0) & (source < n)
    rows = np.arange(len(shifts)).reshape(-1, 1)
    return np.where(
        inside.reshape(inside.shape + (1,) * (p.ndim - 2)), p[rows, np.where(inside, source, 0)], 0
    )


def banded(ab: Any, b: Any, below: int, above: int) -> Any:
    """`scipy.linalg.solve_banded` for a matrix ``b``."""
    out = dispatch(banded, [ab, b], (ab, b, below, above))
    return _scipy.solve_banded((below, above), ab, b, check_finite=False) if out is NotImplemented else out


def _banded_pull(g: Any, ab: Any, below: int, above: int, out: Any) -> Any:
    # ab[r, j] = A[j + r - above, j]; the transposed matrix has the rows in reverse, each of them shifted
    shifts = above - np.arange(below + above + 1)
    n = shape_of(ab)[-1]
    u = banded(np.flip(_shifted(ab, -shifts, n), 0), g, above, below)
    every = np.broadcast_to(u, (len(shifts), *shape_of(u)))
    return -np.sum(_shifted(every, shifts, n) * out, axis=-1), u


def _banded_push(t: Any, ab: Any, below: int, above: int, out: Any) -> Any:
    shifts = above - np.arange(below + above + 1)
    products = np.expand_dims(t[0], -1) * out
    return banded(ab, t[1] - np.sum(_shifted(products, -shifts, shape_of(ab)[-1]), axis=0), below, above)


general(banded, _banded_pull, _banded_push, arrays="ab b")


@extends(_scipy.solve_banded)
def solve_banded(l_and_u: Any, ab: Any, b: Any) -> Any:
    vector = len(shape_of(b)) == 1
    x = banded(ab, np.expand_dims(b, -1) if vector else b, *map(int, l_and_u))
    return x[..., 0] if vector else x


@extends(_scipy.solve_toeplitz)
def solve_toeplitz(c_or_cr: Any, b: Any) -> Any:  # the whole matrix: O(n^3), and not O(n^2)
    c, r = c_or_cr if isinstance(c_or_cr, tuple) else (c_or_cr, None)
    return np.linalg.solve(double(toeplitz(c, r)), b)


@wraps(_scipy.solve_sylvester)
def _solve_sylvester(a: Any, b: Any, q: Any) -> Any:
    a, b = (np.asarray(x, np.result_type(a, b)) for x in (a, b))  # SciPy's result of a mixture is wrong
    return _scipy.solve_sylvester(a, b, q)


def sylvester(a: Any, b: Any, q: Any) -> Any:
    """`scipy.linalg.solve_sylvester`: ``a x + x b = q``."""
    out = dispatch(sylvester, [a, b, q], (a, b, q))
    return _solve_sylvester(a, b, q) if out is NotImplemented else out


def _sylvester_pull(g: Any, a: Any, b: Any, out: Any) -> Any:
    u = sylvester(_t(a), _t(b), g)
    return -np.matmul(u, _t(out)), -np.matmul(_t(out), u), u


general(
    sylvester,
    _sylvester_pull,
    lambda t, a, b, out: sylvester(a, b, t[2] - np.matmul(t[0], out) - np.matmul(out, t[1])),
    arrays="a b q",
)


@extends(_solve_sylvester)
def solve_sylvester(a: Any, b: Any, q: Any) -> Any:
    return sylvester(a, b, q)


@extends(_scipy.solve_continuous_lyapunov)
def solve_continuous_lyapunov(a: Any, q: Any) -> Any:
    return sylvester(a, _h(a), q)


solve_lyapunov = solve_continuous_lyapunov


@extends(_scipy.solve_discrete_lyapunov)
def solve_discrete_lyapunov(a: Any, q: Any, method: Any = None) -> Any:
    n, a = shape_of(a)[-1], double(a)  # either method has the same derivative
    system = np.eye(n * n) - np.kron(a, _conjugate(a))
    return np.reshape(np.linalg.solve(system, np.ravel(q)), (n, n))


# --- functions of a matrix: f([[A, E], [0, A]]) = [[f(A), L(A, E)], [0, f(A)]] ----------------------------
# L is the derivative of f at A; the transpose of E -> L(A, E) is G -> L(A^T, G).


def matrix_function(A: Any, f: Any) -> Any:
    """A function of a square matrix, such as `scipy.linalg.expm`."""
    out = dispatch(matrix_function, [A], (A, f))
    return f(A) if out is NotImplemented else out


def _derivative(E: Any, A: Any, f: Any) -> Any:
    n = shape_of(A)[-1]
    sizes = [float(np.max(np.abs(bare(x)), initial=0)) for x in (A, E)]
    scale = sizes[0] / sizes[1] if min(sizes) > 0 and max(sizes) < np.inf else 1.0  # L is linear in E
    top = np.concatenate([A, E * scale], axis=-1)
    bottom = np.concatenate([np.zeros(shape_of(A), bare(A).dtype), A], axis=-1)
    return matrix_function(np.concatenate([top, bottom], axis=-2), f)[..., :n, n:] / scale


general(matrix_function, lambda g, A, f: _derivative(g, _t(A), f), _derivative)


def _of_matrix(f: Any) -> Any:
    return extends(f)(lambda A: matrix_function(A, f))


expm, logm, sqrtm = map(_of_matrix, (_scipy.expm, _scipy.logm, _scipy.sqrtm))
sinm, cosm, tanm = map(_of_matrix, (_scipy.sinm, _scipy.cosm, _scipy.tanm))
sinhm, coshm, tanhm = map(_of_matrix, (_scipy.sinhm, _scipy.coshm, _scipy.tanhm))


@extends(_scipy.expm_frechet)
def expm_frechet(A: Any, E: Any, method: Any = None, compute_expm: bool = True) -> Any:
    derivative = _derivative(E, A, _scipy.expm)
    return (expm(A), derivative) if compute_expm else derivative


# --- decompositions and norms: NumPy's, which have rules --------------------------------------------------


@extends(_scipy.norm)
def norm(a: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    return np.linalg.norm(a, ord, axis, keepdims)


@extends(_scipy.svd)
def svd(a: Any, full_matrices: bool = True, compute_uv: bool = True, lapack_driver: str = "gesdd") -> Any:
    out = np.linalg.svd(a, full_matrices, compute_uv)
    return tuple(out) if compute_uv else out


@extends(_scipy.svdvals)
def svdvals(a: Any) -> Any:
    return np.linalg.svd(a, compute_uv=False)


@extends(_scipy.eigh)
def eigh(
    a: Any, b: Any = None, lower: bool = True, eigvals_only: bool = False, subset_by_index: Any = None
) -> Any:
    chosen = slice(None) if subset_by_index is None else slice(subset_by_index[0], subset_by_index[1] + 1)
    plain, read_lower = a, lower
    if b is not None:  # a v = w b v with b = L L^H: the matrix L^-1 a L^-H has the vectors L^H v
        root = cholesky(b, lower) if lower else _h(cholesky(b))
        half = solve_triangular(root, _structured(a, "her", lower), lower=True)
        plain, read_lower = _h(solve_triangular(root, _h(half), lower=True)), True
    if eigvals_only:
        return np.linalg.eigvalsh(plain, "L" if read_lower else "U")[..., chosen]
    values, vectors = np.linalg.eigh(plain, "L" if read_lower else "U")
    if b is not None:
        vectors = solve_triangular(root, vectors, 2, True)
    # the sign or phase of each vector, a constant, as SciPy's driver chooses it
    same = _scipy.eigh(bare(a), bare(b), lower=lower)[1]
    overlap = np.sum(np.conj(bare(vectors)) * same, axis=-2, keepdims=True)
    vectors = vectors * (overlap / np.abs(overlap)).astype(vectors.dtype)
    return values[..., chosen], vectors[..., chosen]


@extends(_scipy.eigvalsh)
def eigvalsh(a: Any, b: Any = None, lower: bool = True, subset_by_index: Any = None) -> Any:
    return eigh(a, b, lower=lower, eigvals_only=True, subset_by_index=subset_by_index)


@extends(_scipy.eig)
def eig(a: Any) -> Any:
    values, vectors = np.linalg.eig(a)
    return values + 0j, vectors


@extends(_scipy.eigvals)
def eigvals(a: Any) -> Any:
    return np.linalg.eigvals(a) + 0j


@extends(_scipy.qr)
def qr(a: Any, mode: str = "full", pivoting: bool = False) -> Any:
    if mode not in ("full", "r", "economic"):
        raise NotDifferentiableError(
            f"qr(mode={mode!r}) has no derivative rule: use 'full', 'r' or 'economic'"
        )
    order = ()
    if pivoting:
        order = (_scipy.qr(bare(a), mode="r", pivoting=True)[1],)
        a = np.take_along_axis(a, np.broadcast_to(np.expand_dims(order[0], -2), shape_of(a)), -1)
    if mode != "r":
        return (*np.linalg.qr(a, "complete" if mode == "full" else "reduced"), *order)
    r = np.linalg.qr(a, "r")
    more = max(shape_of(a)[-2] - shape_of(a)[-1], 0)  # SciPy's R has as many rows as the matrix
    return (pad_zeros(r, [(0, 0)] * (r.ndim - 2) + [(0, more), (0, 0)]) if more else r, *order)


@extends(_scipy.pinv)
def pinv(a: Any, atol: Any = None, rtol: Any = None, return_rank: bool = False) -> Any:
    values = np.linalg.svd(bare(a), compute_uv=False)
    largest = float(np.max(values, initial=0)) or 1.0
    rtol = max(shape_of(a)) * np.finfo(values.dtype).eps if rtol is None else rtol
    cutoff = float(rtol) + float(atol or 0.0) / largest  # NumPy's is relative
    out = np.linalg.pinv(a, cutoff)
    return (out, np.sum(values > cutoff * largest)) if return_rank else out


@extends(_scipy.lstsq)
def lstsq(a: Any, b: Any, cond: Any = None, lapack_driver: Any = None) -> Any:
    x, residues, rank, s = np.linalg.lstsq(a, b, np.finfo(a.dtype).eps if cond is None else cond)
    if len(shape_of(b)) == 1 and residues.size:
        residues = residues[0]
    return x, residues, rank, None if lapack_driver == "gelsy" else s


# --- matrices of a given pattern --------------------------------------------------------------------------


@extends(_scipy.toeplitz)
def toeplitz(c: Any, r: Any = None) -> Any:
    r = _conjugate(c) if r is None else r
    rows, columns = shape_of(c)[-1], shape_of(r)[-1]
    values = np.concatenate([np.flip(c, -1), r[..., 1:]], axis=-1)
    return values[..., np.arange(columns) - np.arange(rows)[:, None] + rows - 1]


@extends(_scipy.circulant)
def circulant(c: Any) -> Any:
    n = shape_of(c)[-1]
    return c[..., (np.arange(n)[:, None] - np.arange(n)) % n]


@extends(_scipy.hankel)
def hankel(c: Any, r: Any = None) -> Any:
    rows = shape_of(c)[-1]
    columns = rows if r is None else shape_of(r)[-1]
    last = np.zeros(rows - 1, bare(c).dtype) if r is None else r[..., 1:]
    return np.concatenate([c, last], axis=-1)[..., np.arange(rows)[:, None] + np.arange(columns)]


@extends(_scipy.block_diag)
def block_diag(*arrs: Any) -> Any:
    blocks = [np.atleast_2d(a) for a in arrs]
    width, start, rows = sum(a.shape[-1] for a in blocks), 0, []
    for a in blocks:
        n = a.shape[1]
        rows.append(pad_zeros(a, [(0, 0), (start, width - start - n)]))
        start += n
    return np.concatenate(rows, axis=0)
