"""The ufuncs of scipy.special; loaded when SciPy is.

Every partial derivative is written in functions that have rules, so that it has derivatives too.
Formulas are those of the NIST Digital Library of Mathematical Functions (DLMF, https://dlmf.nist.gov)
unless a comment says otherwise.  A function of several parameters is differentiated in those where
a derivative is known; a dual for another one is refused.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.special as sp

from paradual.arrays import dispatch, is_complex
from paradual.rules import special_bessel, special_distributions, special_orthogonal
from paradual.rules.elementwise import DEGREE, LOG_2, LOG_10, _power_base, _power_exponent
from paradual.rules.partly import known, several
from paradual.rules.registry import constant, elementwise, refused

PI = float(np.pi)
ROOT_PI = float(np.sqrt(np.pi))
ROOT_2 = float(np.sqrt(2))


def over(x: Any, y: Any) -> Any:
    """``x / y``, and 0 for 0 / 0, whose own derivatives are then infinite or NaN."""
    out = dispatch(over, [x, y], (x, y))
    return np.where((x == 0) & (y == 0), 0.0, np.divide(x, y))[()] if out is NotImplemented else out


elementwise(over, lambda y: np.divide(1, y), lambda out, y: -out / y)

# --- gamma functions --------------------------------------------------------------------------------


def trigamma(x: Any) -> Any:
    """The derivative of digamma, of complex numbers too."""
    if not is_complex(x):
        return sp.zeta(2, x)
    left = np.real(x) < 0.5
    y = np.where(left, 1 - x, x)
    # DLMF 5.15.5, 5.15.8 and 5.15.6: recurrence, asymptotic series and reflection
    near = sum(1 / (y + k) ** 2 for k in range(12))
    w = y + 12
    v = 1 / (w * w)
    series = v * (1 / 6 - v * (1 / 30 - v * (1 / 42 - v * (1 / 30 - v * (5 / 66)))))
    far = near + (1 + 0.5 / w + series) / w
    s = np.sin(PI * np.where(left, x, 0.25))
    return np.where(left, PI * PI / (s * s) - far, far)


def _rgamma_slope(x: Any, out: Any) -> Any:
    # left of 1/2 by 1/gamma(x) = sin(pi x) gamma(1 - x) / pi, which has no poles there
    left = np.real(x) < 0.5
    y = np.where(left, x, 0.0)
    reflected = sp.gamma(1 - y) * (np.cos(PI * y) - np.sin(PI * y) * sp.psi(1 - y) / PI)
    return np.where(left, reflected, -out * sp.psi(np.where(left, 1.0, x)))


elementwise(sp.gamma, lambda x, out: out * sp.psi(x))
elementwise(sp.gammaln, lambda x: sp.psi(x))
elementwise(sp.loggamma, lambda x: sp.psi(x))
elementwise(sp.rgamma, lambda x: _rgamma_slope(x, sp.rgamma(x)))
for _f in {sp.psi, sp.digamma}:
    elementwise(_f, lambda x: trigamma(x))
known(
    sp.poch,
    "z m",
    z=lambda z, m, out: out * (sp.psi(z + m) - sp.psi(z)),
    m=lambda z, m, out: out * sp.psi(z + m),
)
known(
    sp.beta,
    "a b",
    a=lambda a, b, out: out * (sp.psi(a) - sp.psi(a + b)),
    b=lambda a, b, out: out * (sp.psi(b) - sp.psi(a + b)),
)
known(
    sp.betaln,
    "a b",
    a=lambda a, b: sp.psi(a) - sp.psi(a + b),
    b=lambda a, b: sp.psi(b) - sp.psi(a + b),
)
known(
    sp.binom,
    "n k",
    n=lambda n, k, out: out * (sp.psi(n + 1) - sp.psi(n - k + 1)),
    k=lambda n, k, out: out * (sp.psi(n - k + 1) - sp.psi(k + 1)),
)
constant(sp.gammasgn, sp.round)

# DLMF 25.11.17; SciPy's zeta(s, q) and zeta(s) call these
if hasattr(sp._ufuncs, "_zeta"):
    known(sp._ufuncs._zeta, "s q", q=lambda s, q: -s * sp.zeta(s + 1, q))
_NO_ZETA = (
    "SciPy has no derivative of zeta in s: wrap it with paradual.custom_vjp, or paradual.stop_gradient(s)"
)
if hasattr(sp._ufuncs, "_riemann_zeta"):
    refused(sp._ufuncs._riemann_zeta, _NO_ZETA)
refused(sp.zetac, _NO_ZETA)

# --- error functions ---------------------------------------------------------------------------------

elementwise(sp.erf, lambda x: 2 / ROOT_PI * np.exp(-x * x))
elementwise(sp.erfc, lambda x: -2 / ROOT_PI * np.exp(-x * x))
elementwise(sp.erfcx, lambda x, out: 2 * x * out - 2 / ROOT_PI)
elementwise(sp.erfi, lambda x: 2 / ROOT_PI * np.exp(x * x))
elementwise(sp.erfinv, lambda out: ROOT_PI / 2 * np.exp(out * out))
elementwise(sp.erfcinv, lambda out: -ROOT_PI / 2 * np.exp(out * out))
elementwise(sp.dawsn, lambda x, out: 1 - 2 * x * out)
elementwise(sp.wofz, lambda x, out: 2j / ROOT_PI - 2 * x * out)
elementwise(sp.ndtr, lambda x: np.exp(-x * x / 2) / (ROOT_2 * ROOT_PI))


def _log_ndtr(x: Any, out: Any) -> Any:
    left = np.real(x) < 0  # where the density and its integral both underflow, but not their ratio
    ratio = ROOT_2 / ROOT_PI / sp.erfcx(np.where(left, x, 0.0) / -ROOT_2)
    y = np.where(left, 0.0, x)
    return np.where(left, ratio, np.exp(-y * y / 2 - np.where(left, 0.0, out)) / (ROOT_2 * ROOT_PI))


elementwise(sp.log_ndtr, _log_ndtr)
elementwise(sp.ndtri, lambda out: ROOT_2 * ROOT_PI * np.exp(out * out / 2))
elementwise(sp.ndtri_exp, lambda out: ROOT_PI / ROOT_2 * sp.erfcx(out / -ROOT_2))


def _voigt(x: Any, sigma: Any, gamma: Any) -> tuple[Any, Any]:
    """Derivatives of the profile ``real(w(z)) / (sigma sqrt(2 pi))``: ``d/dx - i d/dgamma``, and d/dsigma.

    In x it is ``w'(z) / (2 sigma**2 sqrt(pi))``, whose two terms cancel far out; there the asymptotic series
    of w is used (DLMF 7.12.1).  In sigma it is sigma times the second derivative in x (heat equation).
    """
    s = x + 1j * gamma
    # the series has no exp(-z**2), which counts for a Gaussian without gamma until it vanishes
    far = (np.abs(s) > 12 * sigma) & ((gamma > 1e-12 * np.abs(x)) | (np.abs(s) > 40 * sigma))
    wide = np.where(far, 1.0, sigma)
    z = np.where(far, 1.0, s) / (ROOT_2 * wide)
    near = (1j / ROOT_PI - z * sp.wofz(z)) / (wide * wide * ROOT_PI)
    bend = -(sp.wofz(z).real / (wide * wide * ROOT_2 * ROOT_PI)) - ROOT_2 * np.real(near * z)
    s = np.where(far, s, 1.0)
    q = np.where(far, sigma, 0.0) / s
    slope, curve, term = 0.0, 0.0, 1.0
    for k in range(18):
        slope, curve = slope + term, curve + (2 * k + 2) * term
        term = term * (2 * k + 3) * q * q
    slope, curve = -1j / PI * slope / (s * s), 1j / PI * curve / (s * s * s)
    return np.where(far, slope, near), np.where(far, sigma * np.real(curve), bend)


known(
    sp.voigt_profile,
    "x sigma gamma",
    x=lambda x, sigma, gamma: np.real(_voigt(x, sigma, gamma)[0]),
    sigma=lambda x, sigma, gamma: _voigt(x, sigma, gamma)[1],
    gamma=lambda x, sigma, gamma: -np.imag(_voigt(x, sigma, gamma)[0]),
)
several(sp.fresnel, "z", z=lambda z: (np.sin(PI / 2 * z * z), np.cos(PI / 2 * z * z)))


def _modfresnel(i: complex) -> Any:
    return lambda x, out: (-np.exp(i * x * x), -2 * i * x * out[1] - (1 - i) / (ROOT_2 * ROOT_PI))


several(sp.modfresnelp, "x", x=_modfresnel(1j))
several(sp.modfresnelm, "x", x=_modfresnel(-1j))

# --- logistic functions, entropies, losses -----------------------------------------------------------

elementwise(sp.expit, lambda x, out: out * sp.expit(-x))
elementwise(sp.logit, lambda x: 1 / (x * (1 - x)))
elementwise(sp.log_expit, lambda x: sp.expit(-x))
elementwise(sp.entr, lambda x: -np.log(x) - 1)
known(sp.xlogy, "x y", x=lambda y: np.log(y), y=lambda x, y: over(x, y))
known(sp.xlog1py, "x y", x=lambda y: np.log1p(y), y=lambda x, y: over(x, 1 + y))
known(sp.rel_entr, "x y", x=lambda x, y: np.log(np.divide(x, y)) + 1, y=lambda x, y: -over(x, y))
known(sp.kl_div, "x y", x=lambda x, y: np.log(np.divide(x, y)), y=lambda x, y: 1 - over(x, y))
known(
    sp.huber,
    "delta r",
    delta=lambda delta, r: np.maximum(np.abs(r) - delta, 0),
    r=lambda delta, r: np.minimum(np.maximum(r, -delta), delta),
)


def _pseudo_huber_delta(delta: Any, r: Any) -> Any:
    size = np.hypot(delta, r)
    short = over(r * r, size + np.abs(delta))  # size - |delta| without cancellation
    return np.sign(delta) * over(short * short, size)


known(
    sp.pseudo_huber,
    "delta r",
    delta=_pseudo_huber_delta,
    r=lambda delta, r: r * over(np.abs(delta), np.hypot(delta, r)),
)

# --- exponentials and powers ---------------------------------------------------------------------------

elementwise(sp.exp2, lambda out: out * LOG_2)
elementwise(sp.exp10, lambda out: out * LOG_10)
elementwise(sp.expm1, lambda out: out + 1)
elementwise(sp.log1p, lambda x: 1 / (1 + x))
elementwise(sp.cbrt, lambda out: 1 / (3 * out * out))
elementwise(sp.exprel, lambda x: sp.hyp1f1(2, 3, x) / 2)  # exprel = 1F1(1; 2; x)
elementwise(sp.powm1, _power_base, lambda x1, out: _power_exponent(x1, out + 1))
elementwise(sp.cosm1, lambda x: -np.sin(x))
elementwise(sp.sindg, lambda x: DEGREE * sp.cosdg(x))
elementwise(sp.cosdg, lambda x: -DEGREE * sp.sindg(x))
elementwise(sp.tandg, lambda out: DEGREE * (1 + out * out))
elementwise(sp.cotdg, lambda out: -DEGREE * (1 + out * out))
elementwise(sp.radian, lambda: DEGREE, lambda: DEGREE / 60, lambda: DEGREE / 3600)


def _inv_boxcox_slope(x: Any, lmbda: Any) -> Any:
    """The derivative in lmbda of ``log1p(lmbda x) / lmbda``, the logarithm of inv_boxcox."""
    return x * x * _log1prel_slope(lmbda * x)


def _log1prel(u: Any) -> Any:
    """``log1p(u) / u``, by its hypergeometric series where that would cancel."""
    near = np.abs(u) < 0.1
    v = np.where(near, 1.0, u)
    return np.where(near, sp.hyp2f1(1, 1, 2, -np.where(near, u, 0.0)), np.log1p(v) / v)


def _log1prel_slope(u: Any) -> Any:
    near = np.abs(u) < 0.1
    v = np.where(near, 1.0, u)
    return np.where(
        near,
        -sp.hyp2f1(2, 2, 3, -np.where(near, u, 0.0)) / 2,
        (v / (1 + v) - np.log1p(v)) / (v * v),
    )


known(
    sp.inv_boxcox,
    "x lmbda",
    x=lambda x, lmbda, out: out / (1 + lmbda * x),
    lmbda=lambda x, lmbda, out: out * _inv_boxcox_slope(x, lmbda),
)
known(
    sp.inv_boxcox1p,
    "x lmbda",
    x=lambda x, lmbda, out: (out + 1) / (1 + lmbda * x),
    lmbda=lambda x, lmbda, out: (out + 1) * _inv_boxcox_slope(x, lmbda),
)

# --- exponential and trigonometric integrals, the dilogarithm ------------------------------------------

elementwise(sp.exp1, lambda x: -np.exp(-x) / x)
elementwise(sp.expi, lambda x: np.exp(x) / x)


def _expn_slope(n: Any, x: Any) -> Any:
    first = n == 0
    y = np.where(first, x, 1.0)
    return -np.where(first, np.exp(-y) * (1 + 1 / y) / y, sp.expn(np.where(first, 1, n) - 1, x))


known(sp.expn, "n x", x=_expn_slope)


def _sinhc(x: Any) -> Any:
    """``sinh(x) / x``."""
    return np.sinc(1j * x / PI) if is_complex(x) else (sp.exprel(x) + sp.exprel(-x)) / 2


several(sp.sici, "x", x=lambda x: (np.sinc(x / PI), np.cos(x) / x))
several(sp.shichi, "x", x=lambda x: (_sinhc(x), np.cosh(x) / x))
elementwise(sp.spence, lambda x: -_log1prel(x - 1))

# --- other inverses and means ----------------------------------------------------------------------------

elementwise(sp.wrightomega, lambda out: out / (1 + out))
if hasattr(sp._ufuncs, "_lambertw"):  # what sp.lambertw calls; DLMF 4.13.4
    known(sp._ufuncs._lambertw, "z k tol", z=lambda out: np.exp(-out) / (1 + out))


def _agm_slope(a: Any, b: Any, out: Any) -> Any:
    """The derivative of the mean in ``a``, from ``agm = pi (a + b) / (4 K(k**2))``, k = (a - b) / (a + b)."""
    total = a + b
    k = (a - b) / total
    slope = special_orthogonal.first_kind_slope(PI / 2, k * k)
    return out / total * (1 - 4 * k * b / total * slope / sp.ellipk(k * k))


known(sp.agm, "a b", a=lambda a, b, out: _agm_slope(a, b, out), b=lambda a, b, out: _agm_slope(b, a, out))

if isinstance(getattr(sp, "sph_harm", None), np.ufunc):  # before SciPy 1.15
    refused(sp.sph_harm, "write it with sp.lpmv and np.exp")

del special_bessel, special_distributions
