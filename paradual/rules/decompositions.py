"""Matrix decompositions and what is computed with them, stacked matrices included.

Derivations: M. Giles, "An extended collection of matrix derivative results for forward and reverse mode
algorithmic differentiation" (2008); M. Seeger et al., "Auto-differentiating linear algebra" (2017); S. Walter
and L. Lehmann, "Algorithmic differentiation of linear algebra functions" (2010) for QR; Z.-Q. Wan and
S.-X. Zhang, "Automatic differentiation for complex valued SVD" (2019).

**Vectors are determined up to a choice.**  A complex eigenvector or pair of singular vectors may be turned by
any phase.  A function of them that has a derivative does not depend on it.  For others the derivative is the
one with a fixed phase: no component of dv along v, and for `numpy.linalg.eig`, which makes the largest
component of each vector real, that one.

**Equal eigenvalues.**  Where some eigenvalues are equal, any basis of their space may be returned.

* What depends on the eigenvalues alone has the right derivative, in both modes, wherever it is smooth:
  ``np.sum(np.linalg.eigh(a)[0] ** 2)``.  At a kink, such as the largest of two equal eigenvalues, it has an
  element of the Clarke subdifferential; zero singular values contribute nothing, as `abs` at 0.
* What uses the vectors: dV has the terms ``(V^H dA V)_ij / (w_j - w_i)``.  In reverse mode they come with
  the antisymmetric part of ``M = V^H gV``.  Where that is not zero, the function depends on the basis that
  was chosen, and its gradient is NaN.  Where it is zero, the quotient is 0/0, and its limit need not be 0:
  for ``V f(w) V^H`` it is f'(w) times an entry that neither gw nor gV shows.  So the gradient is finite only
  where they show that the limit is 0: M has nothing beside its diagonal there and gw is the same for the
  equal eigenvalues (a trace), or gw is zero (a function of the space as a whole, such as the projector on
  it).  Otherwise it is NaN, not a number that depends on the choice.  So are second derivatives there,
  which use the vectors, and in forward mode the vectors' tangents.  Write ``V w**2 V^H`` as ``a @ a``.
  This looks at first derivatives: it does not see a dependence on the basis that is stationary at the basis
  that was chosen, as that of ``V[0, 0]`` at the identity.
* `numpy.linalg.eig`: eigenvalues of a matrix that is not Hermitian may change as the root of a change of it.
  At a kink, and where there are too few eigenvectors (a Jordan block), the gradient is NaN.

Singular values: the same, with ``U^H gU + V^H gV`` for M.  The space orthogonal to A's columns or rows may
have any basis, too, in ``full_matrices=True``: a function that depends on it has, in reverse mode, the
gradient NaN.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from paradual.arrays import bare, dispatch, is_complex
from paradual.errors import NotDifferentiableError
from paradual.locality import any_of, counting, identity
from paradual.rules.registry import composed, constant, general

NAN = float("nan")


def _t(a: Any) -> Any:
    return np.swapaxes(a, -1, -2)


def _h(a: Any) -> Any:
    return np.conjugate(_t(a)) if is_complex(a) else _t(a)


def conjugate(a: Any) -> Any:
    """The conjugate of a complex array, and a real one as it is."""
    return np.conjugate(a) if is_complex(a) else a


def two_dimensional(a: Any) -> None:
    """Raise NumPy's error for what is no matrix."""
    if a.ndim < 2:
        raise np.linalg.LinAlgError(
            f"{a.ndim}-dimensional array given. Array must be at least two-dimensional"
        )


def _of_diagonal(a: Any) -> Any:
    return np.diagonal(a, axis1=-2, axis2=-1)


def _diagonal(d: Any) -> Any:
    return np.expand_dims(d, -1) * identity(d.shape[-1], d)


def _row(d: Any) -> Any:
    return np.expand_dims(d, -2)


def _column(d: Any) -> Any:
    return np.expand_dims(d, -1)


def mark(v: Any, used: Any) -> Any:
    """A copy of ``v`` which tells ``used`` that there is a cotangent: the pullback gives it a 1.

    So a pullback knows whether the vectors of a decomposition were used, or only its values.
    """
    out = dispatch(mark, [v, used], (v, used))
    return np.copy(v) if out is NotImplemented else out


general(mark, lambda g: (g, 1.0), lambda t: t[0], arrays="v used")

# --- which quotients are 0/0, and which of them are known to vanish ------------------------------------


def largest(a: Any, axes: int = 2) -> Any:
    """The largest absolute value along the last axes, which stay; 0 if there is none."""
    size = np.abs(bare(a))
    if 0 in size.shape[-axes:]:
        return np.zeros_like(size, shape=(*size.shape[:-axes], *[1] * axes))
    return np.max(size, axis=tuple(range(-axes, 0)), keepdims=True)


def _of_columns(a: Any) -> Any:
    """The largest absolute value in each column."""
    return _t(largest(_t(a), 1))[..., 0, :]


def _beside(w: Any) -> Any:
    """Which pairs of values are not of a value and itself."""
    return ~identity(w.shape[-1], w, dtype=bool)


def roundoff(w: Any, n: int) -> float:
    """The relative roundoff in decompositions of matrices of a size."""
    return n * float(np.finfo(w.dtype).eps)


def _over(gap: Any, same: Any, bad: Any = False) -> Any:
    """``1 / gap``, 0 where the gap is none, NaN where that is bad."""
    return np.where(same & bad, NAN, np.where(same, 0.0, 1 / np.where(same, 1.0, gap)))


def _equal(w: Any, n: int) -> Any:
    """Which values are equal to roundoff, in pairs; a value is equal to itself."""
    top = largest(w, 1)[..., None]
    return np.abs(_row(bare(w)) - _column(bare(w))) <= 8 * roundoff(w, n) * top


def _arbitrary(m: Any, gw: Any, w: Any, n: int) -> Any:
    """For pairs of equal values, whether the limit of the quotient is not known to be 0; see above."""
    m, gw, top = bare(m), bare(gw), largest(w, 1)
    tiny = 100 * roundoff(w, n)
    size = largest(m)[..., 0] + largest(gw, 1) * top  # of m; and gw is of the size of m / w
    flow = np.where(top == 0, largest(gw, 1), size / np.where(top == 0, 1.0, top))
    diagonal = np.abs(_of_diagonal(m)) > tiny * size
    shown = _row(diagonal) | _column(diagonal)
    flows = np.abs(gw) > tiny * flow
    flows = _row(flows) | _column(flows)
    uneven = np.abs(_row(gw) - _column(gw)) > tiny * flow[..., None]
    off = np.abs(m) > tiny * size[..., None]
    antisymmetric = np.abs(m - _h(m)) > tiny * size[..., None]
    off = off | _t(off)
    return (antisymmetric | (off & (flows | ~shown)) | (flows & (uneven | ~shown))) & _beside(w)


def _seen(e: Any, w: Any, n: int) -> Any:
    """Where a numerator is not zero but for roundoff."""
    return np.abs(bare(e)) > 100 * roundoff(w, n) * largest(e)


def regular(a: Any, singular: Any) -> Any:
    """Matrices with the singular ones replaced by the identity, and a number to add: NaN for those."""
    singular = np.expand_dims(singular, (-2, -1))
    if not any_of(singular):
        return a, 0.0
    nan = np.where(singular, NAN, 0.0).astype(a.dtype)
    return np.where(singular, identity(a.shape[-1], a), a), nan


# --- eigenvalues and eigenvectors of Hermitian matrices: dw = diag(E), dV = V (F * E) for E = V^H dA V -
# NumPy reads one triangle of A and the real part of its diagonal; so does the derivative.


def eigen_hermitian(a: Any, UPLO: str = "L") -> Any:
    """The eigenvalues and eigenvectors, and what `mark` marks."""
    out = dispatch(eigen_hermitian, [a], (a, UPLO))
    return (*np.linalg.eigh(a, UPLO), 0.0) if out is NotImplemented else out


def from_triangle(a: Any, UPLO: str = "L") -> Any:
    """The Hermitian matrix of which NumPy reads a triangle."""
    half = np.tril(a, -1) if UPLO.upper() == "L" else np.triu(a, 1)
    return half + _h(half) + np.tril(np.triu(np.real(a) if is_complex(a) else a))


def to_triangle(g: Any, UPLO: str = "L") -> Any:
    """The transpose of `from_triangle`, of a cotangent."""
    g = (g + _h(g)) / 2
    half = np.tril(g, -1) if UPLO.upper() == "L" else np.triu(g, 1)
    return 2 * half + np.tril(np.triu(np.real(g) if is_complex(g) else g))


def _eigh_pull(g: Any, out: Any, UPLO: str = "L") -> Any:
    w, v = out[0], mark(out[1], out[2])
    gw, gv, used = g
    inner = _diagonal(gw)
    if bare(used) != 0:
        m, n = np.matmul(_h(v), conjugate(gv)), w.shape[-1]
        f = _over(_row(w) - _column(w), _equal(w, n), _arbitrary(m, gw, w, n))
        inner = inner + f * (m - _h(m)) / 2
    return to_triangle(conjugate(np.matmul(np.matmul(v, inner), _h(v))), UPLO)


def _eigh_push(t: Any, out: Any, UPLO: str = "L") -> Any:
    w, v = out[0], mark(out[1], out[2])
    n = w.shape[-1]
    e = np.matmul(np.matmul(_h(v), from_triangle(t, UPLO)), v)
    bad = _seen(e, w, n) & _beside(w)
    dw = _of_diagonal(e)
    f = _over(_row(w) - _column(w), _equal(w, n), bad)
    return (np.real(dw) if is_complex(dw) else dw), np.matmul(v, f * e), 0.0


general(eigen_hermitian, _eigh_pull, _eigh_push)
_EIGH = type(np.linalg.eigh(np.eye(1)))


def _eigh(a: Any, UPLO: str = "L") -> Any:
    w, v, used = eigen_hermitian(a, UPLO)
    return _EIGH(w, mark(v, used))


composed(np.linalg.eigh, _eigh)
composed(np.linalg.eigvalsh, lambda a, UPLO="L": eigen_hermitian(a, UPLO)[0])

# --- of any square matrix: dw = diag(C), dV = V (F * C) + V diag(n) for C = V^-1 dA V ------------------
# n keeps the norm of each vector at 1 and the phase of its largest component.


def eigen_general(a: Any) -> Any:
    """The eigenvalues and eigenvectors, and what `mark` marks."""
    out = dispatch(eigen_general, [a], (a,))
    return (*np.linalg.eig(a), 0.0) if out is NotImplemented else out


def _pivot(v: Any) -> Any:
    """For each column 1 at its largest component."""
    rows = counting(v.shape[-2], like=v)[:, None]
    return rows == np.argmax(np.abs(bare(v)), axis=-2, keepdims=True) if rows.size else bare(v) != 0


def _inverse(v: Any, w: Any) -> Any:
    """The inverse of the eigenvectors, NaN where there are too few of them (Jordan blocks)."""
    v, nan = regular(v, np.linalg.slogdet(bare(v))[0] == 0)
    inverse = np.linalg.inv(v)
    lost = largest(inverse) * roundoff(w, w.shape[-1]) > 1e-3
    return inverse * np.where(lost, NAN, 1.0) + nan


def _eig_pull(g: Any, out: Any) -> Any:
    w, v = out[0], mark(out[1], out[2])
    gw, gv, used = g
    n = w.shape[-1]
    m = np.zeros_like(bare(v))
    if bare(used) != 0:
        c = np.sum(gv * v, axis=-2, keepdims=True)
        gv = gv - conjugate(v) * (np.real(c) if is_complex(c) else c)
        if is_complex(v):
            pivot = _pivot(v)
            gv = gv - np.where(pivot, 1j * np.imag(c) / np.where(pivot, v, 1.0), 0.0)
        m = np.matmul(_t(v), gv)
    # for equal eigenvalues: either the trace of their block, or neither their sizes nor their vectors
    tiny, size, top = 100 * roundoff(w, n), largest(gw, 1), largest(w, 1)
    uneven = np.abs(_row(bare(gw)) - _column(bare(gw))) > tiny * size[..., None]
    seen = np.abs(bare(m)) > tiny * (largest(m) + (size * top)[..., None])
    flows = bool(bare(used)) & (np.abs(bare(gw)) > tiny * np.where(top == 0, size, size + largest(m)[..., 0]))
    bad = (uneven | seen | _row(flows) | _column(flows)) & _beside(w)
    same = _equal(w, n)
    inner = _diagonal(gw) + _over(_row(w) - _column(w), same) * m + np.where(same & bad, NAN, 0.0)
    return np.matmul(np.matmul(_t(_inverse(v, w)), inner), _t(v))


def _eig_push(t: Any, out: Any) -> Any:
    w, v = out[0], mark(out[1], out[2])
    n = w.shape[-1]
    c = np.matmul(_inverse(v, w), np.matmul(t, v))
    bad = _seen(c, w, n) & _beside(w)
    dv = np.matmul(v, _over(_row(w) - _column(w), _equal(w, n), bad) * c)
    along = np.sum(conjugate(v) * dv, axis=-2, keepdims=True)
    if is_complex(v):
        pivot = _pivot(v)
        turn = np.sum(np.where(pivot, dv / np.where(pivot, v, 1.0), 0.0), axis=-2, keepdims=True)
        along = np.real(along) + 1j * np.imag(turn)
    return _of_diagonal(c), dv - v * along, 0.0


general(eigen_general, _eig_pull, _eig_push)
_EIG = type(np.linalg.eig(np.eye(1)))


def _eig(a: Any) -> Any:
    w, v, used = eigen_general(a)
    return _EIG(w, mark(v, used))


composed(np.linalg.eig, _eig)
composed(np.linalg.eigvals, lambda a: eigen_general(a)[0])

# --- singular values: for E = U^H dA V, X = U^H dU + V^H dV and Y = U^H dU - V^H dV, -------------------
# (s_j - s_i) X_ij = (E + E^H)_ij and (s_j + s_i) Y_ij = (E - E^H)_ij.  What of dU is orthogonal to
# U is (dA V - U E) / s; what of U is orthogonal to A's columns turns against it.


def singular(a: Any, full: bool = False) -> Any:
    """The decomposition, and what `mark` marks."""
    out = dispatch(singular, [a], (a, full))
    return (*np.linalg.svd(a, full), 0.0) if out is NotImplemented else out


def _parts(out: Any) -> Any:
    u, s, vh = mark(out[0], out[3]), out[1], mark(out[2], out[3])
    k, v = s.shape[-1], _h(vh)
    size = max(u.shape[-2], v.shape[-2])
    zero = bare(s) <= roundoff(s, size) * largest(s, 1)
    return u[..., :k], u[..., k:], s, v[..., :k], v[..., k:], size, zero


def _over_sum(s: Any, zero: Any, bad: Any) -> Any:
    """``1 / (s_i + s_j)``; a real singular value of zero by itself has a numerator of 0."""
    return _over(_row(s) + _column(s), _row(zero) & _column(zero), bad)


def _svd_pull(g: Any, out: Any, full: bool = False) -> Any:
    del full  # as the shapes show
    u, u0, s, v, v0, size, zero = _parts(out)
    gs, used, k = g[1], g[3], s.shape[-1]
    if bare(used) == 0:
        return conjugate(np.matmul(u * _row(np.where(zero, 0.0, gs)), _h(v)))
    gu, gv = conjugate(g[0]), _t(g[2])
    mu, mv = np.matmul(_h(u), gu[..., :k]), np.matmul(_h(v), gv[..., :k])
    x, y = (mu + mv) / 2, (mu - mv) / 2
    y = y - _h(y)
    tiny = 100 * roundoff(s, size)
    scale = largest(mu) + largest(mv) + (largest(gs, 1) * largest(s, 1))[..., None]
    flows = zero & (np.abs(bare(gs)) > tiny * largest(gs, 1))
    bad = (np.abs(bare(y)) > tiny * scale) | _row(flows) | _column(flows)
    beside = _beside(s)
    inner = _diagonal(gs) + _over_sum(s, zero, bad if is_complex(u) else bad & beside) * y
    inner = inner + _over(_row(s) - _column(s), _equal(s, size), _arbitrary(mu + mv, gs, s, size)) * (
        x - _h(x)
    )
    total = np.matmul(np.matmul(u, inner), _h(v))
    for q, q0, bar, m, left in ((u, u0, gu, mu, True), (v, v0, gv, mv, False)):
        if q.shape[-2] == k:
            continue
        rest = bar[..., :k] - np.matmul(q, m)
        if q0.shape[-1]:
            rest = rest - np.matmul(q0, np.matmul(_h(bar[..., k:]), q))
            free = np.matmul(_h(q0), bar[..., k:])
            turned = (free - _h(free)) * _beside(free)
            chosen = largest(turned) > tiny * largest(free)  # it depends on the basis that was chosen
            rest = rest * np.where(chosen, NAN, 1.0) if any_of(chosen) else rest
        seen = _of_columns(rest) > tiny * (scale + largest(bar))[..., 0]
        rest = rest * _row(_over(s, zero, seen | flows))
        total = total + (np.matmul(rest, _h(v)) if left else np.matmul(u, _h(rest)))
    return conjugate(total)


def _svd_push(t: Any, out: Any, full: bool = False) -> Any:
    del full
    u, u0, s, v, v0, size, zero = _parts(out)
    e = np.matmul(np.matmul(_h(u), t), v)
    plus, minus = e + _h(e), e - _h(e)
    bad = _seen(e, s, size) | _t(_seen(e, s, size))
    beside = bad & _beside(s)
    x = _over(_row(s) - _column(s), _equal(s, size), beside) * plus / 2
    y = _over_sum(s, zero, bad if is_complex(u) else beside) * minus / 2
    ds = _of_diagonal(e)
    ds = np.real(ds) if is_complex(ds) else ds

    def tangent(q: Any, q0: Any, turn: Any, image: Any) -> Any:
        dq = np.matmul(q, turn)
        if q.shape[-2] == s.shape[-1]:
            return dq
        rest = image - np.matmul(q, np.matmul(_h(q), image))
        seen = _of_columns(rest) > 100 * roundoff(s, size) * largest(t)[..., 0]
        rest = rest * _row(_over(s, zero, seen))
        if not q0.shape[-1]:
            return dq + rest
        return np.concatenate([dq + rest, -np.matmul(q, np.matmul(_h(rest), q0))], axis=-1)

    du = tangent(u, u0, x + y, np.matmul(t, v))
    dv = tangent(v, v0, x - y, np.matmul(_h(t), u))
    return du, ds, _h(dv), 0.0


general(singular, _svd_pull, _svd_push)
_SVD = type(np.linalg.svd(np.eye(1)))


def _values(a: Any) -> Any:
    """The singular values by themselves; those that are zero have slope 0 in both modes, as `abs` has."""
    s = singular(a)[1]
    zero = bare(s) <= roundoff(s, max(a.shape[-2:])) * largest(s, 1)
    return np.where(zero, bare(s), s) if any_of(zero) else s


def _svd(a: Any, full_matrices: bool = True, compute_uv: bool = True, hermitian: bool = False) -> Any:
    two_dimensional(a)
    if not hermitian:
        if not compute_uv:
            return _values(a)
        m, n = a.shape[-2:]
        u, s, vh, used = singular(a, bool(full_matrices) and m != n)
        return _SVD(mark(u, used), s, mark(vh, used))
    w, v, used = eigen_hermitian(a)
    order = np.flip(np.argsort(np.abs(bare(w)), axis=-1), -1)
    w = np.take_along_axis(w, order, axis=-1)
    if not compute_uv:
        return np.abs(w)
    v = np.take_along_axis(mark(v, used), np.broadcast_to(_row(order), v.shape), axis=-1)
    return _SVD(v, np.abs(w), _h(v * _row(np.sign(bare(w)))))


composed(np.linalg.svd, _svd)
if hasattr(np.linalg, "svdvals"):
    composed(np.linalg.svdvals, lambda x, /: _values(x))
constant(np.linalg.matrix_rank)

# --- QR: for C = Q^H dA R^-1, Q^H dQ is antisymmetric and dR R^-1 upper triangular with a real diagonal


def thin_qr(a: Any) -> Any:
    """The reduced decomposition of matrices with no more columns than rows."""
    out = dispatch(thin_qr, [a], (a,))
    return tuple(np.linalg.qr(a)) if out is NotImplemented else out


def _real_diagonal(a: Any) -> Any:
    return np.tril(np.triu(np.real(a) if is_complex(a) else a))


def _full_rank(r: Any) -> Any:
    pivots = np.abs(_of_diagonal(bare(r)))
    return regular(r, np.any(pivots <= roundoff(r, r.shape[-1]) * largest(r)[..., 0], axis=-1))


def _qr_pull(g: Any, out: Any) -> Any:
    (q, r), (gq, gr) = out, (conjugate(g[0]), conjugate(g[1]))
    m = np.matmul(r, _h(gr)) - np.matmul(_h(gq), q)
    low = np.tril(m, -1)
    total = gq + np.matmul(q, low + _h(low) + _real_diagonal(m))
    r, nan = _full_rank(r)
    return conjugate(_h(np.linalg.solve(r, _h(total) + nan[..., :1] if np.ndim(nan) else _h(total))))


def _qr_push(t: Any, out: Any) -> Any:
    q, r = out
    safe, nan = _full_rank(r)
    t = _h(np.linalg.solve(_h(safe), _h(t)))
    t = t + nan[..., :1] if np.ndim(nan) else t
    c = np.matmul(_h(q), t)
    low = np.tril(c, -1)
    x = np.triu(c, 1) + _h(low) + _real_diagonal(c)
    return t - np.matmul(q, x), np.matmul(x, r)


general(thin_qr, _qr_pull, _qr_push)
_QR = type(np.linalg.qr(np.eye(1)))


def _qr(a: Any, mode: str = "reduced") -> Any:
    if mode not in ("reduced", "complete", "r"):
        if mode in ("raw", "full", "f", "economic", "e"):
            raise NotDifferentiableError(
                f"np.linalg.qr with mode={mode!r}: take mode='reduced', 'complete' or 'r' instead"
            )
        raise ValueError(f"Unrecognized mode '{mode}'")
    two_dimensional(a)
    m, n = a.shape[-2:]
    q, r = thin_qr(a[..., :m])
    if m < n:
        r = np.concatenate([r, np.matmul(_h(q), a[..., m:])], axis=-1)
    if mode == "r":
        return r
    if mode == "complete" and m > n:
        # Q = I - Y T Y^H with unit lower trapezoidal Y: its first n columns determine the others
        w = identity(m, a, n) - q
        below = np.matmul(np.linalg.pinv(_h(w[..., :n, :])), _h(w[..., n:, :]))
        q = np.concatenate([q, identity(m, a)[:, n:] - np.matmul(w, below)], axis=-1)
        r = np.concatenate([r, np.zeros_like(bare(r), shape=(*r.shape[:-2], m - n, n))], axis=-2)
    return _QR(q, r)


composed(np.linalg.qr, _qr)
