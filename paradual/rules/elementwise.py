"""Elementwise functions: the ufuncs of arithmetic, powers, exponentials, angles, and a few more.

At kinks the derivative is an element of the Clarke subdifferential: `abs` at 0 gives 0, ties in
`maximum` and `minimum` split evenly, a power at 0 gives what the limit allows.

Complex numbers: the cotangent of z = x + iy stands for df/dx - i df/dy, so that a holomorphic
function contributes ``g * f'(z)``.  For the others the same product is right, because the sweep takes
the real part where an operand is real: abs has d = conj(z)/|z|, imag d = -i.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from paradual.arrays import bare, is_complex
from paradual.errors import NotDifferentiableError
from paradual.rules.reductions import number, plain
from paradual.rules.registry import composed, elementwise, general, linear

# --- arithmetic -----------------------------------------------------------------------------------

linear(np.add, lambda g: g, lambda g: g)


def _minus(g: Any) -> Any:
    # the cotangent of a sum is one number, spread over an array: let it stay so
    if type(g) is np.ndarray and g.size > 1 and not any(g.strides):
        return np.broadcast_to(-g[(0,) * g.ndim], g.shape)
    return -g


linear(np.subtract, lambda g: g, _minus)
linear(np.negative, _minus)
linear(np.positive, lambda g: g)
elementwise(np.multiply, lambda x2: x2, lambda x1: x1)


def _over(a: Any, x: Any) -> Any:
    # NumPy's quotient where Python has none
    return np.true_divide(a, x) if type(bare(x)) in (int, float) and x == 0 else a / x


elementwise(np.true_divide, lambda x2: _over(1, x2), lambda out, x2: _over(-out, x2))
elementwise(np.reciprocal, lambda out: -out * out)
elementwise(np.square, lambda x: 2 * x)
elementwise(np.remainder, lambda: 1.0, lambda x1, x2: -np.floor_divide(x1, x2))
elementwise(np.fmod, lambda: 1.0, lambda x1, x2, out: -np.rint((x1 - out) / x2))


# --- powers and roots -----------------------------------------------------------------------------


def _power_base(x1: Any, x2: Any) -> Any:
    if isinstance(x2, int | float):
        return x2 * x1 ** (x2 - 1) if x2 != 0 else 0.0
    lost = (x2 == 0) & ~(np.abs(x1) > 0)  # 0 / 0; elsewhere the product stays, for it depends on x2
    return np.where(lost, 0.0, x2 * x1 ** np.where(lost, 1, x2 - 1))


def _power_exponent(x1: Any, out: Any) -> Any:
    # the limit of 0**y log 0 for y > 0 is 0; in floats, for np.log of an int8 is a float16
    base = np.where(x1 == 0, 1.0, x1)
    return out * np.log(base + 0j if is_complex(out) and not is_complex(base) else base)


elementwise(np.power, _power_base, _power_exponent)
elementwise(np.float_power, _power_base, _power_exponent)
elementwise(np.sqrt, lambda out: 0.5 / out)
elementwise(np.cbrt, lambda out: 1 / (3 * out * out))
elementwise(
    np.hypot,
    lambda x1, out: x1 / np.where(out == 0, 1, out),
    lambda x2, out: x2 / np.where(out == 0, 1, out),
)

# --- exponentials and logarithms ------------------------------------------------------------------

LOG_2, LOG_10 = float(np.log(2)), float(np.log(10))

elementwise(np.exp, lambda out: out)
elementwise(np.exp2, lambda out: out * LOG_2)
elementwise(np.expm1, lambda out: out + 1)
elementwise(np.log, lambda x: 1 / x)
elementwise(np.log2, lambda x: 1 / (x * LOG_2))
elementwise(np.log10, lambda x: 1 / (x * LOG_10))
elementwise(np.log1p, lambda x: 1 / (1 + x))


def _share(x: Any, y: Any, exp: Any) -> Any:
    """``exp(x) / (exp(x) + exp(y))``; a half each where both are the same infinity."""
    return 1 / (1 + exp(np.where((x == y) & np.isinf(x), 0.0, y - x)))


elementwise(np.logaddexp, lambda x1, x2: _share(x1, x2, np.exp), lambda x1, x2: _share(x2, x1, np.exp))
elementwise(np.logaddexp2, lambda x1, x2: _share(x1, x2, np.exp2), lambda x1, x2: _share(x2, x1, np.exp2))

# --- trigonometric and hyperbolic -----------------------------------------------------------------


def _leg(x: Any) -> Any:
    # for complex numbers on the side of the branch cuts where NumPy is: x - -1 keeps a -0, x + 1 does not
    return np.sqrt(-(x - 1)) * np.sqrt(x - -1) if is_complex(x) else np.sqrt(1 - x * x)


elementwise(np.sin, lambda x: np.cos(x))
elementwise(np.cos, lambda x: -np.sin(x))
elementwise(np.tan, lambda out: 1 + out * out)
elementwise(np.arcsin, lambda x: 1 / _leg(x))
elementwise(np.arccos, lambda x: -1 / _leg(x))
elementwise(np.arctan, lambda x: 1 / (1 + x * x))


def _over_square(x: Any, x1: Any, x2: Any) -> Any:
    """``x / (x1**2 + x2**2)``, where the squares may overflow or vanish."""
    r = np.hypot(x1, x2)
    return x / r / r


elementwise(np.arctan2, lambda x1, x2: _over_square(x2, x1, x2), lambda x1, x2: -_over_square(x1, x1, x2))
elementwise(np.sinh, lambda x: np.cosh(x))
elementwise(np.cosh, lambda x: np.sinh(x))
elementwise(np.tanh, lambda out: 1 - out * out)
elementwise(np.arcsinh, lambda x: 1 / np.sqrt(x * x + 1))
elementwise(np.arccosh, lambda x: 1 / (np.sqrt(x - 1) * np.sqrt(x - -1)))
elementwise(np.arctanh, lambda x: 1 / (1 - x * x))

DEGREE = float(np.pi / 180)
for _f in (np.deg2rad, np.radians):
    elementwise(_f, lambda: DEGREE)
for _f in (np.rad2deg, np.degrees):
    elementwise(_f, lambda: 1 / DEGREE)


def _sinc(x: Any) -> Any:
    # near 0 the quotient cancels, so its series is used: pi times the sum of (-1)^k 2k z^(2k-1) / (2k+1)!
    z = np.pi * x
    small = np.abs(x) < 0.1
    series = 0.0 * z
    for k in range(6, 0, -1):
        series = (-1) ** k * 2 * k / math.factorial(2 * k + 1) + series * z * z
    y = np.where(small, 1.0, z)
    return np.pi * np.where(small, series * z, (y * np.cos(y) - np.sin(y)) / (y * y))


elementwise(np.sinc, _sinc, names="x")

# --- absolute values, maxima, parts ---------------------------------------------------------------


def _direction(x: Any) -> Any:
    """conj(z)/|z|, which is the sign of a real number; 0 at 0."""
    if not is_complex(x):
        return np.sign(x)
    size = np.abs(x)
    return np.conjugate(x) / np.where(size == 0, 1, size)


elementwise(np.absolute, lambda x: _direction(x))
elementwise(np.fabs, lambda x: np.sign(x))


def _sign(x: Any) -> Any:
    z = plain(x)
    if not is_complex(x):
        return np.sign(z)
    regular = np.isfinite(z) & (z != 0)
    x = np.where(regular, x, 1)
    return number(np.where(regular, x / np.abs(x), np.sign(z)))  # z/|z| moves along the unit circle


composed(np.sign, _sign)


def _wins(wins: Any, ties: Any) -> Any:
    return np.where(ties, 0.5, wins)


def _less(x: Any, y: Any) -> Any:
    return np.less(x, y)  # not x < y: Python's complex numbers have no order


elementwise(
    np.maximum,
    lambda x1, x2: _wins(_less(x2, x1), x1 == x2),
    lambda x1, x2: _wins(_less(x1, x2), x1 == x2),
)
elementwise(
    np.minimum,
    lambda x1, x2: _wins(_less(x1, x2), x1 == x2),
    lambda x1, x2: _wins(_less(x2, x1), x1 == x2),
)
elementwise(  # the one that is not nan wins
    np.fmax,
    lambda x1, x2: _wins(_less(x2, x1) | np.isnan(x2), x1 == x2),
    lambda x1, x2: _wins(_less(x1, x2) | np.isnan(x1), x1 == x2),
)
elementwise(
    np.fmin,
    lambda x1, x2: _wins(_less(x1, x2) | np.isnan(x2), x1 == x2),
    lambda x1, x2: _wins(_less(x2, x1) | np.isnan(x1), x1 == x2),
)
elementwise(
    np.copysign,
    lambda x1, x2: number(np.where(np.signbit(x1) == np.signbit(x2), 1.0, -1.0)),
    lambda: 0.0,
)
elementwise(np.heaviside, lambda: 0.0, lambda x1: number(np.where(x1 == 0, 1.0, 0.0)))
elementwise(np.ldexp, lambda x2: np.ldexp(1.0, x2), lambda: 0.0)  # np.exp2 of an int8 is a float16
elementwise(np.nextafter, lambda: 1.0, lambda: 0.0)

elementwise(np.real, lambda: 1.0, names="val")
elementwise(np.imag, lambda val: -1j if is_complex(val) else 0.0, names="val")
composed(np.angle, lambda z, deg=False: np.arctan2(np.imag(z), np.real(z)) * (1 / DEGREE if deg else 1))
general(np.conjugate, lambda g: np.conjugate(g), lambda t: np.conjugate(t))


def _nan_to_num(x: Any, copy: bool = True, nan: Any = 0.0, posinf: Any = None, neginf: Any = None) -> Any:
    if not copy:
        raise NotDifferentiableError("np.nan_to_num(copy=False) writes in place: leave copy=False out")
    if is_complex(x):
        return _nan_to_num(x.real, True, nan, posinf, neginf) + 1j * _nan_to_num(
            x.imag, True, nan, posinf, neginf
        )
    limits = np.finfo(x.dtype)
    x = np.where(np.isnan(x), nan, x)
    x = np.where(np.isposinf(x), float(limits.max) if posinf is None else posinf, x)
    return number(np.where(np.isneginf(x), float(limits.min) if neginf is None else neginf, x))


composed(np.nan_to_num, _nan_to_num)
general(np.real_if_close, lambda g, tol=100: g, lambda t, tol=100: t)  # fitting takes the real part


_MISSING: Any = np._NoValue  # type: ignore[attr-defined]


def _clip(
    a: Any,
    a_min: Any = _MISSING,
    a_max: Any = _MISSING,
    out: Any = None,
    *,
    min: Any = _MISSING,
    max: Any = _MISSING,
    **kwargs: Any,
) -> Any:
    if (a_min is _MISSING) != (a_max is _MISSING):
        raise TypeError("np.clip takes both a_min and a_max: one of them may be None")
    if a_min is _MISSING:
        a_min, a_max = (None if bound is _MISSING else bound for bound in (min, max))
    elif min is not _MISSING or max is not _MISSING:
        raise ValueError("np.clip takes a_min and a_max, or min and max, not both")
    if a_min is None and a_max is None:
        return np.positive(a, **kwargs)
    if a_min is not None:
        a = np.maximum(a, a_min, **kwargs)
    return a if a_max is None else np.minimum(a, a_max, **kwargs)


composed(np.clip, _clip)
if hasattr(getattr(np, "_core", None), "umath"):  # the ufunc that a.clip(low, high) of a plain array calls
    composed(np._core.umath.clip, lambda x1, x2, x3: np.minimum(np.maximum(x1, x2), x3))

# --- ufuncs of two results ---------------------------------------------------------------------------------

composed(np.divmod, lambda x1, x2: (np.floor_divide(x1, x2), np.remainder(x1, x2)))
general(np.modf, lambda g: g[0], lambda t: (t, 0.0 * t))
general(
    np.frexp,
    lambda g, out: g[0] * np.exp2(-1.0 * out[1]),
    lambda t, out: (t * np.exp2(-1.0 * out[1]), None),
)
