"""Polynomials as arrays of coefficients, the highest power first.

An `np.poly1d` may hold coefficients that are being differentiated; functions that would return one of their
arguments' kind are refused for it, because it cannot leave the function that is being differentiated.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.polynomial

from paradual.arrays import bare, cast, dispatch, is_complex, shape_of
from paradual.errors import NotDifferentiableError
from paradual.locality import as_plain, counting, identity
from paradual.rules.registry import composed, general
from paradual.rules.shaping import pad_zeros


def _array(x: Any) -> Any:
    return x if hasattr(x, "place") else as_plain(x)


def _coefficients(name: str, *polynomials: Any) -> list[Any]:
    if any(isinstance(p, np.poly1d) for p in polynomials):
        raise NotDifferentiableError(
            f"np.{name} of an np.poly1d is not differentiated: pass its coefficients, p.coeffs"
        )
    return [np.atleast_1d(_array(p)) for p in polynomials]


def _polyval(p: Any, x: Any) -> Any:
    """Horner's rule."""
    if isinstance(x, np.poly1d):
        _coefficients("polyval", x)
    p, x = _array(p), _array(x)
    if p.ndim == 0:
        raise TypeError("the coefficients are a number, not an array")
    y = np.zeros_like(bare(x), shape=x.shape)
    for k in range(shape_of(p)[0]):
        y = y * x + p[k]
    return y


composed(np.polyval, _polyval)


def _longer(name: str, a1: Any, a2: Any) -> tuple[Any, Any]:
    """Two polynomials with the same number of coefficients."""
    a1, a2 = _coefficients(name, a1, a2)
    n = max(len(a1), len(a2))
    return tuple(a if len(a) == n else pad_zeros(a, [(n - len(a), 0)]) for a in (a1, a2))  # type: ignore[return-value]


def _polyadd(a1: Any, a2: Any) -> Any:
    a1, a2 = _longer("polyadd", a1, a2)
    return a1 + a2


def _polysub(a1: Any, a2: Any) -> Any:
    a1, a2 = _longer("polysub", a1, a2)
    return a1 - a2


def _trimmed(a: Any) -> Any:
    if a.ndim > 1:
        raise ValueError("Polynomial must be 1d only.")
    trimmed = np.trim_zeros(a, "f")
    return trimmed if len(trimmed) else a[-1:] if len(a) else np.zeros_like(bare(a), shape=1)


def _polymul(a1: Any, a2: Any) -> Any:
    a1, a2 = _coefficients("polymul", a1, a2)
    return np.convolve(_trimmed(a1), _trimmed(a2))


def _polydiv(u: Any, v: Any) -> Any:
    """Long division; leading coefficients of the remainder that are 0 are dropped, as NumPy does."""
    u, v = _coefficients("polydiv", u, v)
    if u.ndim != 1 or v.ndim != 1:
        raise TypeError("np.polydiv takes one-dimensional arrays")
    extra, scale = len(u) - len(v), 1.0 / v[0]
    quotient = []
    r = u + 0.0 * (u[0] + v[0])
    for k in range(extra + 1):
        d = scale * r[k]
        quotient.append(d)
        r = r - pad_zeros(d * v, [(k, extra - k)])
    while len(r) > 1 and np.allclose(r[0], 0, rtol=1e-14):
        r = r[1:]
    return np.stack(quotient) if quotient else 0.0 * (u[:1] + v[0]), r


composed(np.polyadd, _polyadd)
composed(np.polysub, _polysub)
composed(np.polymul, _polymul)
composed(np.polydiv, _polydiv)


def _one(name: str, p: Any) -> Any:
    if shape_of(p) == ():
        raise TypeError(f"np.{name}: the coefficients are a number, not an array")
    return _coefficients(name, p)[0]


def _polyder(p: Any, m: int = 1) -> Any:
    p = _one("polyder", p)
    if int(m) < 0:
        raise ValueError("Order of derivative must be positive (see polyint)")
    for _ in range(int(m)):
        p = p[:-1] * counting(len(p) - 1, 0, -1, like=p)
    return p


def _polyint(p: Any, m: int = 1, k: Any = None) -> Any:
    p = _one("polyint", p)
    m = int(m)
    if m < 0:
        raise ValueError("Order of integral must be positive (see polyder)")
    k = np.zeros_like(bare(p), shape=m, dtype=float) if k is None else np.atleast_1d(_array(k))
    if len(k) == 1 and m > 1:
        k = np.broadcast_to(k, (m,))
    if len(k) < m:
        raise ValueError("k must be a scalar or a rank-1 array of length 1 or >m.")
    for j in range(m):
        p = np.concatenate([p / counting(len(p), 0, -1, like=p), k[j : j + 1]])
    return p


composed(np.polyder, _polyder)
composed(np.polyint, _polyint)


def _powers(x: Any, n: int) -> Any:
    return np.power(np.expand_dims(x, -1), counting(n - 1, -1, -1, like=x))


def _vander(x: Any, N: Any = None, increasing: bool = False) -> Any:
    if x.ndim != 1:
        raise ValueError("x must be a one-dimensional array or sequence.")
    powers = counting(len(x) if N is None else N, like=x)
    x = cast(x, np.promote_types(x.dtype, int))
    return np.power(np.expand_dims(x, -1), powers if increasing else powers[::-1])


composed(np.vander, _vander)

# --- roots: from p(r) = 0 follows p'(r) dr = -sum dp_k r^k, which a repeated root makes infinite or NaN ---


def _rate(p: Any, out: Any) -> Any:
    """The derivative of the roots with respect to the coefficients, a matrix."""
    slope = np.polyval(_polyder(p), out)
    return -_powers(out, shape_of(p)[0]) / np.expand_dims(slope, -1)


general(
    np.roots,
    lambda g, p, out: np.matmul(g, _rate(p, out)),
    lambda t, p, out: np.matmul(_rate(p, out), t),
)


def characteristic(a: Any) -> Any:
    """The characteristic polynomial of a matrix."""
    out = dispatch(characteristic, [a], (a,))
    return np.poly(a) if out is NotImplemented else out


def _adjugates(a: Any, out: Any) -> list[Any]:
    """Minus the derivatives of the coefficients: d c_k = -tr(M_k dA) (Faddeev and LeVerrier)."""
    n = shape_of(a)[0]
    matrices = [identity(n, a)]
    for k in range(1, n):
        matrices.append(np.matmul(a, matrices[-1]) + out[k] * matrices[0])
    return matrices


def _uncharacteristic(g: Any, a: Any, out: Any) -> Any:
    return -sum(g[k + 1] * np.swapaxes(m, 0, 1) for k, m in enumerate(_adjugates(a, out)))


def _push_characteristic(t: Any, a: Any, out: Any) -> Any:
    rates = [-np.sum(np.swapaxes(m, 0, 1) * t) for m in _adjugates(a, out)]
    return np.stack([0.0 * rates[0], *rates])


general(characteristic, _uncharacteristic, _push_characteristic)


def _poly(seq_of_zeros: Any) -> Any:
    zeros = np.atleast_1d(seq_of_zeros)
    if zeros.ndim == 2 and zeros.shape[0] == zeros.shape[1] != 0:
        return characteristic(zeros)
    if zeros.ndim != 1:
        raise ValueError("input must be 1d or non-empty square 2d array.")
    if len(zeros) == 0:
        return 1.0
    if zeros.dtype.char not in "GDFgdf":
        zeros = cast(zeros, np.dtype(float))
    p = one = np.ones_like(bare(zeros), shape=1)
    for k in range(len(zeros)):
        p = np.convolve(p, np.concatenate([one, -zeros[k : k + 1]]))
    if is_complex(p) and np.all(np.sort(p) == np.sort(np.conjugate(p))):  # NumPy then drops the zeros
        return np.copy(np.real(p))
    return p


composed(np.poly, _poly)

# --- least squares ----------------------------------------------------------------------------------


def _polyfit(
    x: Any, y: Any, deg: Any, rcond: Any = None, full: bool = False, w: Any = None, cov: Any = False
) -> Any:
    x, y = _array(x) + 0.0, _array(y) + 0.0
    n = int(deg) + 1
    if n < 1:
        raise ValueError("expected deg >= 0")
    if x.ndim != 1 or x.size == 0 or y.ndim not in (1, 2) or x.shape[0] != y.shape[0]:
        raise TypeError("expected a 1D x that is not empty, and a 1D or 2D y of the same length")
    rcond = len(x) * np.finfo(x.dtype).eps if rcond is None else rcond
    a, b = np.vander(x, n), y
    if w is not None:
        w = _array(w) + 0.0
        if w.ndim != 1 or w.shape != y.shape[:1]:
            raise TypeError("expected w and y to have the same length")
        a, b = a * w[:, None], b * (w[:, None] if y.ndim == 2 else w)
    scale = np.sqrt(np.sum(a * a, axis=0))
    a = a / scale
    c, residuals, rank, s = np.linalg.lstsq(a, b, rcond)
    c = np.transpose(np.transpose(c) / scale)
    if rank != n and not full:
        warnings.warn("Polyfit may be poorly conditioned", np.exceptions.RankWarning, stacklevel=2)
    if full:
        return c, residuals, rank, s, rcond
    if not cov:
        return c
    base = np.linalg.inv(np.matmul(np.transpose(a), a)) / np.outer(scale, scale)
    if cov != "unscaled":
        if len(x) <= n:
            raise ValueError("the number of data points must exceed order to scale the covariance matrix")
        residuals = residuals / (len(x) - n)
    factor = 1.0 if cov == "unscaled" else residuals
    return c, base * factor if y.ndim == 1 else base[:, :, None] * factor


composed(np.polyfit, _polyfit)

# --- several variables: the functions of numpy.polynomial that ask duals -----------------------------


def _horner(coefficients: Any, t: Any) -> Any:
    total = coefficients[-1] + 0 * t
    for k in range(len(coefficients) - 2, -1, -1):
        total = total * t + coefficients[k]
    return total


def _nested(points: Any, c: Any) -> Any:
    return _horner([_nested(points[1:], row) if points[1:] else row for row in c], points[0])


def _polyvalnd(pts: Any, c: Any) -> Any:
    shape = shape_of(pts[0])
    if any(shape_of(x) != shape for x in pts):
        raise ValueError("x, y, z are incompatible")
    missing = max(len(pts) - len(shape_of(c)), 0)
    c = np.reshape(c, (*shape_of(c), *(1,) * missing, *(1 for _ in shape)))
    return _nested(list(pts), c)


def _polygrid2d(x: Any, y: Any, c: Any) -> Any:
    shape = (*shape_of(x), *shape_of(y))
    x = np.broadcast_to(np.reshape(x, (*shape_of(x), *(1 for _ in shape_of(y)))), shape)
    return _polyvalnd((x, np.broadcast_to(y, shape)), c)


for _name, _definition in (
    ("polyval2d", lambda x, y, c: _polyvalnd((x, y), c)),
    ("polygrid2d", _polygrid2d),
    ("polyvalnd", _polyvalnd),
):
    _f = getattr(np.polynomial.polynomial, _name, None)
    if type(_f) is type(np.sum):  # one that asks duals, as some versions' do
        composed(_f, _definition)
