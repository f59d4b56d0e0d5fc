"""Orthogonal polynomials, hypergeometric and Legendre functions, elliptic integrals and functions."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.special as sp

from paradual.rules.partly import known, several
from paradual.rules.registry import elementwise

PI = float(np.pi)

# --- orthogonal polynomials (DLMF 18.9.19 to 18.9.28): the next lower one of another family ---------------


def _lower(f: Any, n: Any, *args: Any) -> Any:
    """``f(n - 1, *args)``, and 0 for n = 0, where the polynomial is constant."""
    constant = np.equal(n, 0)
    return np.where(constant, 0.0, f(np.where(constant, 1, n) - 1, *args))


known(sp.eval_chebyt, "n x", x=lambda n, x: n * _lower(sp.eval_chebyu, n, x))
known(sp.eval_chebyu, "n x", x=lambda n, x: 2 * _lower(sp.eval_gegenbauer, n, 2, x))
known(sp.eval_chebyc, "n x", x=lambda n, x: n * _lower(sp.eval_chebys, n, x))
known(sp.eval_chebys, "n x", x=lambda n, x: _lower(sp.eval_gegenbauer, n, 2, x / 2))
known(sp.eval_sh_chebyt, "n x", x=lambda n, x: 2 * n * _lower(sp.eval_sh_chebyu, n, x))
known(sp.eval_sh_chebyu, "n x", x=lambda n, x: 4 * _lower(sp.eval_gegenbauer, n, 2, 2 * x - 1))
known(sp.eval_legendre, "n x", x=lambda n, x: _lower(sp.eval_gegenbauer, n, 1.5, x))
known(sp.eval_sh_legendre, "n x", x=lambda n, x: 2 * _lower(sp.eval_gegenbauer, n, 1.5, 2 * x - 1))
known(
    sp.eval_gegenbauer,
    "n alpha x",
    x=lambda n, alpha, x: 2 * alpha * _lower(sp.eval_gegenbauer, n, alpha + 1, x),
)
known(
    sp.eval_jacobi,
    "n alpha beta x",
    x=lambda n, alpha, beta, x: (
        (n + alpha + beta + 1) / 2 * _lower(sp.eval_jacobi, n, alpha + 1, beta + 1, x)
    ),
)
known(  # these have the leading coefficient 1
    sp.eval_sh_jacobi, "n p q x", x=lambda n, p, q, x: n * _lower(sp.eval_sh_jacobi, n, p + 2, q + 1, x)
)
known(sp.eval_laguerre, "n x", x=lambda n, x: -_lower(sp.eval_genlaguerre, n, 1, x))
known(
    sp.eval_genlaguerre,
    "n alpha x",
    x=lambda n, alpha, x: -_lower(sp.eval_genlaguerre, n, alpha + 1, x),
)
known(sp.eval_hermite, "n x", x=lambda n, x: 2 * n * _lower(sp.eval_hermite, n, x))
known(sp.eval_hermitenorm, "n x", x=lambda n, x: n * _lower(sp.eval_hermitenorm, n, x))

# --- Legendre and hypergeometric functions (DLMF 14.10.5, 13.3.15, 13.3.22, 15.5.1) -----------------------


def _lpmv_slope(m: Any, v: Any, x: Any, out: Any) -> Any:
    last = v + m == 0  # then the function of degree v - 1 does not count, and SciPy has none
    below = np.where(last, 0.0, (v + m) * sp.lpmv(m, np.where(last, v, v - 1), x))
    return (below - v * x * out) / (1 - x * x)


known(sp.lpmv, "m v x", x=_lpmv_slope)
known(sp.hyp0f1, "v z", z=lambda v, z: sp.hyp0f1(v + 1, z) / v)
known(sp.hyp1f1, "a b x", x=lambda a, b, x: a / b * sp.hyp1f1(a + 1, b + 1, x))
known(sp.hyp2f1, "a b c z", z=lambda a, b, c, z: a * b / c * sp.hyp2f1(a + 1, b + 1, c + 1, z))
known(sp.hyperu, "a b x", x=lambda a, b, x: -a * sp.hyperu(a + 1, b + 1, x))

# --- elliptic integrals ----------------------------------------------------------------------------------


def _sine_series(phi: Any, m: Any, a: float) -> Any:
    """Half the integral from 0 to phi of ``sin(t)**2 (1 - m sin(t)**2)**-a`` for small m, by its series."""
    sine, cosine = np.sin(phi), np.cos(phi)
    power = sine * cosine  # sin**(2k + 1) cos
    integral = (phi - power) / 2  # of sin**(2k + 2)
    factor = 0.5
    total = factor * integral
    for k in range(1, 9):
        power = power * sine * sine
        integral = ((2 * k + 1) * integral - power) / (2 * k + 2)
        factor = factor * m * ((a + k - 1) / k)
        total = total + factor * integral
    return total


def first_kind_slope(phi: Any, m: Any) -> Any:
    """The derivative of ellipkinc(phi, m) in m (DLMF 19.4.5), and its limit at m = 0."""
    near = np.abs(m) < 0.01
    far = np.where(near, 0.5, m)
    sine = np.sin(phi)
    delta = np.sqrt(1 - far * sine * sine)
    formula = (
        (sp.ellipeinc(phi, far) - far * sine * np.cos(phi) / delta) / (1 - far) - sp.ellipkinc(phi, far)
    ) / (2 * far)
    return np.where(near, _sine_series(phi, np.where(near, m, 0.0), 1.5), formula)


def second_kind_slope(phi: Any, m: Any) -> Any:
    """The derivative of ellipeinc(phi, m) in m (DLMF 19.4.6), and its limit at m = 0."""
    near = np.abs(m) < 0.01
    far = np.where(near, 0.5, m)
    formula = (sp.ellipeinc(phi, far) - sp.ellipkinc(phi, far)) / (2 * far)
    return np.where(near, -_sine_series(phi, np.where(near, m, 0.0), 0.5), formula)


def _complete_slope(m: Any, p: Any, first: Any) -> Any:
    """The derivative of ellipk in m, where p = 1 - m and ``first(p)`` is ellipkm1."""
    near = np.abs(m) < 0.01
    far, rest = np.where(near, 0.5, m), np.where(near, 0.5, p)
    formula = (sp.ellipe(far) / rest - first(rest)) / (2 * far)
    return np.where(near, _sine_series(PI / 2, np.where(near, m, 0.0), 1.5), formula)


elementwise(sp.ellipk, lambda m: _complete_slope(m, 1 - m, sp.ellipkm1), names="m")
elementwise(sp.ellipkm1, lambda p: -_complete_slope(1 - p, p, sp.ellipkm1), names="p")


def _ellipe_slope(m: Any) -> Any:
    near = np.abs(m) < 0.01
    far = np.where(near, 0.5, m)
    formula = (sp.ellipe(far) - sp.ellipk(far)) / (2 * far)
    return np.where(near, -_sine_series(PI / 2, np.where(near, m, 0.0), 0.5), formula)


elementwise(sp.ellipe, lambda m: _ellipe_slope(m), names="m")
known(
    sp.ellipkinc,
    "phi m",
    phi=lambda phi, m: 1 / np.sqrt(1 - m * np.sin(phi) ** 2),
    m=lambda phi, m: first_kind_slope(phi, m),
)
known(
    sp.ellipeinc,
    "phi m",
    phi=lambda phi, m: np.sqrt(1 - m * np.sin(phi) ** 2),
    m=lambda phi, m: second_kind_slope(phi, m),
)


def _ellipj_in_m(m: Any, out: Any) -> Any:
    # the amplitude phi keeps ellipkinc(phi, m) = u; sn = sin(phi), cn = cos(phi), dn**2 = 1 - m sn**2
    sn, cn, dn, phi = out
    turn = -dn * first_kind_slope(phi, m)
    return cn * turn, -sn * turn, -sn * (sn / 2 + m * cn * turn) / dn, turn


several(
    sp.ellipj,
    "u m",
    u=lambda m, out: (out[1] * out[2], -out[0] * out[2], -m * out[0] * out[1], out[2]),
    m=_ellipj_in_m,
)

# Carlson's symmetric forms, by their integrals (DLMF 19.16) and partial fractions; where two
# arguments are equal the quotients are 0 / 0, and the derivative is NaN


def _between(f: Any, g: Any, x: Any, y: Any) -> Any:
    return (f - g) / (2 * (x - y))


def _rd_slope(x: Any, y: Any, z: Any, out: Any) -> Any:
    return _between(sp.elliprd(y, z, x), out, x, z)


def _rj_slope(x: Any, y: Any, z: Any, p: Any, out: Any) -> Any:
    return _between(sp.elliprd(y, z, x), out, x, p)


def _rc_slope(x: Any, y: Any, out: Any) -> Any:
    return _between(1 / np.sqrt(x), out, x, y)


known(
    sp.elliprc,
    "x y",
    x=_rc_slope,
    y=lambda x, y, out: -(out / 2 + x * _rc_slope(x, y, out)) / y,  # by Euler's theorem on homogeneity
)
known(
    sp.elliprf,
    "x y z",
    x=lambda x, y, z: sp.elliprd(y, z, x) / -6,
    y=lambda x, y, z: sp.elliprd(z, x, y) / -6,
    z=lambda x, y, z: sp.elliprd(x, y, z) / -6,
)
known(
    sp.elliprd,
    "x y z",
    x=_rd_slope,
    y=lambda x, y, z, out: _rd_slope(y, x, z, out),
    z=lambda x, y, z, out: -(1.5 * out + x * _rd_slope(x, y, z, out) + y * _rd_slope(y, x, z, out)) / z,
)


def _rg_slope(x: Any, y: Any, z: Any) -> Any:
    return sp.elliprf(x, y, z) / 4 - x * sp.elliprd(y, z, x) / 12


known(
    sp.elliprg,
    "x y z",
    x=lambda x, y, z: _rg_slope(x, y, z),
    y=lambda x, y, z: _rg_slope(y, z, x),
    z=lambda x, y, z: _rg_slope(z, x, y),
)


def _rj_slope_in_p(x: Any, y: Any, z: Any, p: Any, out: Any) -> Any:
    along = x * _rj_slope(x, y, z, p, out) + y * _rj_slope(y, z, x, p, out) + z * _rj_slope(z, x, y, p, out)
    return -(1.5 * out + along) / p


known(
    sp.elliprj,
    "x y z p",
    x=_rj_slope,
    y=lambda x, y, z, p, out: _rj_slope(y, z, x, p, out),
    z=lambda x, y, z, p, out: _rj_slope(z, x, y, p, out),
    p=_rj_slope_in_p,
)
