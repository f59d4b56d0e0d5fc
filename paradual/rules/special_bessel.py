"""Bessel functions and their like: Airy, Kelvin, Struve, parabolic cylinder, Mathieu, spheroidal.

Their derivatives in the argument come from recurrences in the order (DLMF 10.6, 10.29, 11.4) or, for
those that SciPy returns together with their derivative, from their differential equation.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.special as sp

from paradual.arrays import is_complex
from paradual.errors import NotDifferentiableError
from paradual.rules.partly import known, several
from paradual.rules.registry import elementwise, refused

PI = float(np.pi)
DEGREE = PI / 180

# --- integer orders -----------------------------------------------------------------------------------

elementwise(sp.j0, lambda x: -sp.j1(x))
elementwise(sp.j1, lambda x: (sp.j0(x) - sp.jv(2, x)) / 2)
elementwise(sp.y0, lambda x: -sp.y1(x))
elementwise(sp.y1, lambda x: (sp.y0(x) - sp.yv(2, x)) / 2)
elementwise(sp.i0, lambda x: sp.i1(x))
elementwise(sp.i1, lambda x: (sp.i0(x) + sp.iv(2, x)) / 2)
elementwise(sp.k0, lambda x: -sp.k1(x))
elementwise(sp.k1, lambda x: -(sp.k0(x) + sp.kv(2, x)) / 2)
elementwise(sp.i0e, lambda x, out: sp.i1e(x) - np.sign(x) * out)
elementwise(sp.i1e, lambda x, out: (sp.i0e(x) + sp.ive(2, x)) / 2 - np.sign(x) * out)
elementwise(sp.k0e, lambda x, out: out - sp.k1e(x))
elementwise(sp.k1e, lambda x, out: out - (sp.k0e(x) + sp.kve(2, x)) / 2)

# --- any order ----------------------------------------------------------------------------------------


def _holomorphic(f: Any, z: Any) -> None:
    """Refuse a scaled function of a complex number: |z| in its factor has no complex derivative."""
    if is_complex(z):
        name = f.__name__
        raise NotDifferentiableError(
            f"{name} of complex numbers has no derivative rule, because its scaling is not holomorphic: "
            f"use sp.{name.removesuffix('e')} and scale its result"
        )


def _ive_slope(v: Any, z: Any, out: Any) -> Any:
    _holomorphic(sp.ive, z)
    return (sp.ive(v - 1, z) + sp.ive(v + 1, z)) / 2 - np.sign(z) * out


def _oscillating_scaled(f: Any) -> Any:
    def slope(v: Any, z: Any) -> Any:
        _holomorphic(f, z)
        return (f(v - 1, z) - f(v + 1, z)) / 2

    return slope


for _f in {sp.jv, sp.jn}:
    known(_f, "v z", z=lambda v, z: (sp.jv(v - 1, z) - sp.jv(v + 1, z)) / 2)
known(sp.yv, "v z", z=lambda v, z: (sp.yv(v - 1, z) - sp.yv(v + 1, z)) / 2)
known(sp.yn, "n x", x=lambda n, x: (sp.yv(n - 1, x) - sp.yv(n + 1, x)) / 2)
known(sp.iv, "v z", z=lambda v, z: (sp.iv(v - 1, z) + sp.iv(v + 1, z)) / 2)
known(sp.kv, "v z", z=lambda v, z: -(sp.kv(v - 1, z) + sp.kv(v + 1, z)) / 2)
known(sp.kn, "n x", x=lambda n, x: -(sp.kv(n - 1, x) + sp.kv(n + 1, x)) / 2)
known(sp.jve, "v z", z=_oscillating_scaled(sp.jve))
known(sp.yve, "v z", z=_oscillating_scaled(sp.yve))
known(sp.ive, "v z", z=_ive_slope)
known(sp.kve, "v z", z=lambda v, z, out: out - (sp.kve(v - 1, z) + sp.kve(v + 1, z)) / 2)
known(sp.hankel1, "v z", z=lambda v, z: (sp.hankel1(v - 1, z) - sp.hankel1(v + 1, z)) / 2)
known(sp.hankel2, "v z", z=lambda v, z: (sp.hankel2(v - 1, z) - sp.hankel2(v + 1, z)) / 2)
known(sp.hankel1e, "v z", z=lambda v, z, out: (sp.hankel1e(v - 1, z) - sp.hankel1e(v + 1, z)) / 2 - 1j * out)
known(sp.hankel2e, "v z", z=lambda v, z, out: (sp.hankel2e(v - 1, z) - sp.hankel2e(v + 1, z)) / 2 + 1j * out)
# the integral of x**lmb J_nu(2 a x) from 0 to 1
known(
    sp.besselpoly,
    "a lmb nu",
    a=lambda a, lmb, nu: sp.besselpoly(a, lmb + 1, nu - 1) - sp.besselpoly(a, lmb + 1, nu + 1),
)
# the series of x**k / (k! gamma(a k + b)), differentiated term by term (DLMF 10.46)
known(sp.wright_bessel, "a b x", x=lambda a, b, x: sp.wright_bessel(a, a + b, x))
if hasattr(sp, "log_wright_bessel"):
    known(
        sp.log_wright_bessel,
        "a b x",
        x=lambda a, b, x, out: np.exp(sp.log_wright_bessel(a, a + b, x) - out),
    )

# --- Airy functions -------------------------------------------------------------------------------------

several(sp.airy, "z", z=lambda z, out: (out[1], z * out[0], out[3], z * out[2]))


def _airye_slopes(z: Any, out: Any) -> Any:
    _holomorphic(sp.airye, z)
    root = np.sqrt(np.where(z > 0, z, 0.0))  # left of 0 Bi is not scaled, and Ai is NaN
    ai, aip, bi, bip = out
    return aip + root * ai, z * ai + root * aip, bip - root * bi, z * bi - root * bip


several(sp.airye, "z", z=_airye_slopes)


def _itairy_slopes(x: Any) -> Any:
    right, left = sp.airy(x), sp.airy(-x)
    return right[0], right[2], left[0], left[2]


several(sp.itairy, "x", x=_itairy_slopes)

# --- integrals of Bessel and Struve functions -------------------------------------------------------------


def _beyond_one(f: Any, sign: int, x: Any) -> Any:
    """``sign * (f(x) - 1) / x`` of j0 (sign -1) and i0 (sign 1), by the series where that cancels."""
    near = np.abs(x) < 0.3
    y = np.where(near, x, 0.0)
    w = y * y / 4
    term = series = y / 4
    for k in range(2, 8):
        term = term * (sign * w / (k * k))
        series = series + term
    safe = np.where(near, 1.0, x)
    return np.where(near, series, sign * (f(safe) - 1) / safe)


several(sp.itj0y0, "x", x=lambda x: (sp.j0(x), sp.y0(x)))
several(sp.iti0k0, "x", x=lambda x: (sp.i0(x), sp.k0(x)))
several(sp.it2j0y0, "x", x=lambda x: (_beyond_one(sp.j0, -1, x), -sp.y0(x) / x))
several(sp.it2i0k0, "x", x=lambda x: (_beyond_one(sp.i0, 1, x), -sp.k0(x) / x))
elementwise(sp.itstruve0, lambda x: sp.struve(0, x))
elementwise(sp.it2struve0, lambda x: -sp.struve(0, x) / x)
elementwise(sp.itmodstruve0, lambda x: sp.modstruve(0, x))


def _struve_term(v: Any, x: Any) -> Any:
    return (x / 2) ** v * sp.rgamma(v + 1.5) / (2 * float(np.sqrt(PI)))


known(
    sp.struve,
    "v x",
    x=lambda v, x: (sp.struve(v - 1, x) - sp.struve(v + 1, x)) / 2 + _struve_term(v, x),
)
known(
    sp.modstruve,
    "v x",
    x=lambda v, x: (sp.modstruve(v - 1, x) + sp.modstruve(v + 1, x)) / 2 + _struve_term(v, x),
)

# --- Kelvin functions: ber + i bei solves x u'' + u' = i x u (DLMF 10.61) ---------------------------------


def _by_argument(slope: Any, x: Any, first: Any) -> Any:
    """``slope / x``; at 0 the start of its Taylor series, ``first``."""
    zero = x == 0
    return np.where(zero, first, slope / np.where(zero, 1.0, x))


elementwise(sp.ber, lambda x: sp.berp(x))
elementwise(sp.bei, lambda x: sp.beip(x))
elementwise(sp.ker, lambda x: sp.kerp(x))
elementwise(sp.kei, lambda x: sp.keip(x))
elementwise(sp.berp, lambda x, out: -sp.bei(x) - _by_argument(out, x, -x * x / 16))
elementwise(sp.beip, lambda x, out: sp.ber(x) - _by_argument(out, x, 0.5 - x**4 / 384))
elementwise(sp.kerp, lambda x, out: -sp.kei(x) - out / x)
elementwise(sp.keip, lambda x, out: sp.ker(x) - out / x)
several(
    sp.kelvin,
    "x",
    x=lambda x, out: (
        out[2],
        out[3],
        1j * out[0] - _by_argument(out[2], x, 0.5j - x * x / 16),
        1j * out[1] - out[3] / x,
    ),
)

# --- solutions of second-order equations, which SciPy returns with their derivative ------------------------

for _f in (sp.pbdv, sp.pbvv):  # DLMF 12.2
    several(_f, "v x", x=lambda v, x, out: (out[1], (x * x / 4 - v - 0.5) * out[0]))
several(sp.pbwa, "a x", x=lambda a, x, out: (out[1], (a - x * x / 4) * out[0]))


def _mathieu(eigenvalue: Any) -> Any:  # DLMF 28.2.1; x is in degrees, the derivative is in radians
    def slopes(m: Any, q: Any, x: Any, out: Any) -> Any:
        y, slope = out
        curve = (2 * q * np.cos(2 * DEGREE * x) - eigenvalue(m, q)) * y
        return slope * DEGREE, curve * DEGREE

    return slopes


def _modified_mathieu(eigenvalue: Any) -> Any:  # DLMF 28.20.1
    def slopes(m: Any, q: Any, x: Any, out: Any) -> Any:
        y, slope = out
        return slope, (eigenvalue(m, q) - 2 * q * np.cosh(2 * x)) * y

    return slopes


several(sp.mathieu_cem, "m q x", x=_mathieu(sp.mathieu_a))
several(sp.mathieu_sem, "m q x", x=_mathieu(sp.mathieu_b))
for _f in (sp.mathieu_modcem1, sp.mathieu_modcem2):
    several(_f, "m q x", x=_modified_mathieu(sp.mathieu_a))
for _f in (sp.mathieu_modsem1, sp.mathieu_modsem2):
    several(_f, "m q x", x=_modified_mathieu(sp.mathieu_b))


def _prolate(m: Any, c2: Any, eigenvalue: Any, x: Any, out: Any) -> Any:  # DLMF 30.2.1, c2 = gamma**2
    y, slope = out
    inside = 1 - x * x
    return slope, (2 * x * slope - (eigenvalue - c2 * x * x - m * m / inside) * y) / inside


def _oblate_radial(m: Any, c: Any, eigenvalue: Any, x: Any, out: Any) -> Any:  # the same at ix
    y, slope = out
    inside = 1 + x * x
    return slope, ((eigenvalue - c * c * x * x - m * m / inside) * y - 2 * x * slope) / inside


for _f in (sp.pro_ang1, sp.pro_rad1):
    several(_f, "m n c x", x=lambda m, n, c, x, out: _prolate(m, c * c, sp.pro_cv(m, n, c), x, out))
for _f in (sp.pro_ang1_cv, sp.pro_rad1_cv):
    several(_f, "m n c cv x", x=lambda m, c, cv, x, out: _prolate(m, c * c, cv, x, out))
several(
    sp.obl_rad1,
    "m n c x",
    x=lambda m, n, c, x, out: _oblate_radial(m, c, sp.obl_cv(m, n, c), x, out),
)
several(sp.obl_rad1_cv, "m n c cv x", x=lambda m, c, cv, x, out: _oblate_radial(m, c, cv, x, out))
several(
    sp.obl_ang1,
    "m n c x",
    x=lambda m, n, c, x, out: _prolate(m, -c * c, sp.obl_cv(m, n, c), x, out),
)
several(sp.obl_ang1_cv, "m n c cv x", x=lambda m, c, cv, x, out: _prolate(m, -c * c, cv, x, out))

for _f in (sp.mathieu_a, sp.mathieu_b, sp.obl_cv, sp.pro_cv):
    refused(_f, "SciPy has no derivative of this eigenvalue: wrap the step with paradual.custom_vjp")
for _f in (sp.pro_rad2, sp.pro_rad2_cv, sp.obl_rad2, sp.obl_rad2_cv):
    refused(
        _f,
        "for m > 0 SciPy's values do not fit its derivatives, nor the equation: wrap the step with "
        "paradual.custom_vjp",
    )
