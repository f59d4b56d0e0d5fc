"""`scipy.integrate` with derivatives: rules for samples, and integrals of functions."""

from __future__ import annotations

from dataclasses import dataclass
from functools import wraps
from typing import Any

import numpy as np
import scipy.integrate as _scipy

from paradual.arrays import bare, dispatch, shape_of
from paradual.errors import NotDifferentiableError, user_line
from paradual.rules.registry import general
from paradual.scipy import adopt, differentiated, double, extends, passing
from paradual.scipy._ivp import solve_ivp as solve_ivp
from paradual.transforms import grad, jvp

__getattr__ = passing("scipy.integrate")

# --- samples: the axis of integration comes last ----------------------------------------------------------


def _last(y: Any, x: Any, dx: Any, axis: int) -> tuple[Any, Any]:
    """The samples, and the widths of the intervals between them."""
    y = np.moveaxis(y, axis, -1)
    n = shape_of(y)[-1]
    if x is None:
        return y, np.moveaxis(dx, axis, -1) if len(shape_of(dx)) > 1 else dx
    if len(shape_of(x)) > 1:
        x = np.moveaxis(x, axis, -1)
    if shape_of(x)[-1] != n:
        raise ValueError("If given, length of `x` along `axis` must be the same as `y`.")
    return y, x[..., 1:] - x[..., :-1]


def _each(h: Any, y: Any) -> Any:
    """The width of each interval."""
    return h * np.ones(shape_of(y)[-1] - 1, bare(y).real.dtype) if not shape_of(h) else h


@extends(_scipy.trapezoid)
def trapezoid(y: Any, x: Any = None, dx: Any = 1.0, axis: int = -1) -> Any:
    y, h = _last(y, x, dx, axis)
    return np.sum(h * (y[..., 1:] + y[..., :-1]) / 2, axis=-1)


def _from(initial: Any, out: Any) -> Any:
    first = np.broadcast_to(np.asarray(initial, out.dtype), (*shape_of(out)[:-1], 1))
    return np.concatenate([first, out], axis=-1)


@extends(_scipy.cumulative_trapezoid)
def cumulative_trapezoid(y: Any, x: Any = None, dx: Any = 1.0, axis: int = -1, initial: Any = None) -> Any:
    if initial is not None and (differentiated(initial) or initial != 0):
        raise ValueError("`initial` must be `None` or `0`.")
    y, h = _last(y, x, dx, axis)
    out = np.cumsum(h * (y[..., 1:] + y[..., :-1]) / 2, axis=-1)
    return np.moveaxis(out if initial is None else _from(0, out), -1, axis)


def _parabola(y0: Any, y1: Any, y2: Any, h0: Any, h1: Any) -> Any:
    """The integral over the first of two intervals of the parabola through three points."""
    r = h0 / h1
    s = h0 / (h0 + h1)
    return h0 / 6 * ((3 - s) * y0 + (3 + r * s + s) * y1 - r * s * y2)


@extends(_scipy.simpson)
def simpson(y: Any, x: Any = None, dx: Any = 1.0, axis: int = -1) -> Any:
    y, h = _last(y, x, dx, axis)
    n = shape_of(y)[-1]
    h = _each(h, y)
    if n < 3:
        return np.sum(h * (y[..., 1:] + y[..., :-1]) / 2, axis=-1)
    h = h if x is None else double(h)
    end = n - 1 - (n - 1) % 2  # pairs of intervals, and perhaps one more
    h0, h1 = h[..., 0:end:2], h[..., 1:end:2]
    y0, y1, y2 = y[..., 0:end:2], y[..., 1 : end + 1 : 2], y[..., 2 : end + 1 : 2]
    ratio = np.where(h1 == 0, 0.0, h0 / np.where(h1 == 0, 1, h1))
    inverse = np.where(h0 == 0, 0.0, h1 / np.where(h0 == 0, 1, h0))
    both = h0 + h1
    total = np.sum(both / 6 * ((2 - inverse) * y0 + (2 + ratio + inverse) * y1 + (2 - ratio) * y2), axis=-1)
    if end == n - 1:
        return total
    return total + _parabola(y[..., -1], y[..., -2], y[..., -3], h[..., -1], h[..., -2])


@extends(_scipy.cumulative_simpson)
def cumulative_simpson(y: Any, x: Any = None, dx: Any = 1.0, axis: int = -1, initial: Any = None) -> Any:
    y, h = _last(y, x, dx, axis)
    n = shape_of(y)[-1]
    h = _each(h, y)
    if n < 3:
        parts = h * (y[..., 1:] + y[..., :-1]) / 2
    else:
        if x is not None and not np.all(h > 0):
            raise ValueError("Input x must be strictly increasing.")
        h = double(h) if x is None else h
        y0, y1, y2, h0, h1 = y[..., :-2], y[..., 1:-1], y[..., 2:], h[..., :-1], h[..., 1:]
        right, left = _parabola(y0, y1, y2, h0, h1), _parabola(y2, y1, y0, h1, h0)
        # interval k begins the parabola at k where k is even, and ends the one at k - 1 where k is odd;
        # so does the last one
        k = np.arange(n - 1)
        begins = (k % 2 == 0) & (k < n - 2)
        parts = np.where(begins, right[..., np.minimum(k, n - 3)], left[..., np.maximum(k - 1, 0)])
    out = np.cumsum(parts, axis=-1)
    if initial is not None:
        initial = np.moveaxis(initial, axis, -1) if len(shape_of(initial)) > 1 else initial
        out = np.concatenate([np.broadcast_to(initial, (*shape_of(out)[:-1], 1)), out + initial], axis=-1)
    return np.moveaxis(out, -1, axis)


@extends(_scipy.romb)
def romb(y: Any, dx: Any = 1.0, axis: int = -1, show: bool = False) -> Any:
    y = double(np.moveaxis(y, axis, -1))
    n = shape_of(y)[-1] - 1
    if n < 1 or n & (n - 1):
        raise ValueError("Number of samples must be one plus a non-negative power of 2.")
    row: list[Any] = []
    step = n
    while step:
        part = y[..., ::step]
        now = [dx * step * (np.sum(part, axis=-1) - (part[..., 0] + part[..., -1]) / 2)]
        for j, before in enumerate(row):
            now.append(now[-1] + (now[-1] - before) / (4 ** (j + 1) - 1))
        row, step = now, step // 2
    return row[-1]


@extends(_scipy.fixed_quad)
def fixed_quad(func: Any, a: Any, b: Any, args: Any = (), n: int = 5) -> Any:
    nodes, weights = np.polynomial.legendre.leggauss(n)
    return (b - a) / 2 * np.sum(weights * func((b - a) * (nodes + 1) / 2 + a, *args), axis=-1), None


# --- integrals of functions: d/db is f(b), d/da is -f(a), and the derivative in a parameter goes inside ---


@dataclass(frozen=True)
class _Partial:
    """The derivative of ``func(x, *args)`` with respect to an element of one of ``args``."""

    func: Any
    argument: int
    index: Any

    def __call__(self, x: Any, *args: Any) -> Any:
        slope = grad(self.func, argnums=self.argument + 1)(x, *args)
        return slope[self.index] if shape_of(slope) else slope


@dataclass(frozen=True)
class _Directional:
    """The derivative of ``func(x, *args)`` along a direction: ``(x, *args, *directions)``."""

    func: Any

    def __call__(self, x: Any, *both: Any) -> Any:
        n = len(both) // 2
        return jvp(lambda *args: self.func(x, *args), both[:n], both[n:])[1]


@dataclass(frozen=True)
class _Of:
    """A function of some of its arguments, ``func(x, *args)`` with the others fixed."""

    func: Any
    args: tuple[Any, ...]
    moving: tuple[int, ...]

    def __call__(self, x: Any, *moving: Any) -> Any:
        args = list(self.args)
        for k, arg in zip(self.moving, moving, strict=True):
            args[k] = arg
        out = self.func(x, *args)
        if differentiated(out) and not differentiated(x, moving):
            raise NotDifferentiableError(
                f"quad integrates a function that uses a value being differentiated{user_line()}, which is "
                "not one of its arguments: pass it in args=, as quad(lambda x, c: ..., a, b, args=(c,))"
            )
        return out


def integral(values: Any, func: Any, options: Any) -> Any:
    """`scipy.integrate.quad` of ``func(x, *args)``, where ``values`` are the limits and the arguments."""
    out = dispatch(integral, values, (values, func, options))
    if out is not NotImplemented:
        return out
    a, b, *args = values
    return _scipy.quad(func, a, b, tuple(args), **options)


def _integral_pull(g: Any, values: Any, func: Any, options: Any, active: Any) -> Any:
    a, b, *args = values
    found = [
        sign * g[0] * func(end, *args) if on and np.isfinite(end) else None
        for end, sign, on in zip((a, b), (-1, 1), active, strict=False)
    ]
    for k, arg in enumerate(args):
        if not active[k + 2]:
            found.append(None)
            continue
        shape = shape_of(arg)
        parts = [integral(values, _Partial(func, k, index), options)[0] for index in np.ndindex(shape)]
        found.append(g[0] * np.reshape(np.stack(parts), shape) if shape else g[0] * parts[0])
    return found


def _integral_push(t: Any, values: Any, func: Any, options: Any) -> Any:
    a, b, *args = values
    total = integral([*values, *t[2:]], _Directional(func), options)[0] if args else 0.0
    for end, slope, sign in ((a, t[0], -1), (b, t[1], 1)):
        if np.isfinite(end) and (differentiated(slope) or slope != 0):
            total = total + sign * slope * func(end, *args)
    return total, 0.0


general(integral, _integral_pull, _integral_push)


@extends(_scipy.quad)
def quad(
    func: Any,
    a: Any,
    b: Any,
    args: Any = (),
    epsabs: Any = 1.49e-8,
    epsrel: Any = 1.49e-8,
    limit: Any = 50,
    points: Any = None,
    limlst: Any = 50,
) -> Any:
    args = args if isinstance(args, tuple) else (args,)
    options = {"epsabs": epsabs, "epsrel": epsrel, "limit": limit, "points": points, "limlst": limlst}
    moving = tuple(k for k, arg in enumerate(args) if differentiated(arg))
    fixed = tuple(None if k in moving else arg for k, arg in enumerate(args))
    value, error = integral([a, b, *(args[k] for k in moving)], _Of(func, fixed, moving), options)
    return value, bare(error)


def _refused(name: str) -> Any:
    original = getattr(_scipy, name)

    @wraps(original)
    def function(*args: Any, **kwargs: Any) -> Any:
        if not differentiated(args, kwargs):
            return original(*args, **kwargs)
        raise NotDifferentiableError(
            f"{name} has no derivative rule{user_line()}: write the steps of the method with NumPy functions "
            "(a loop of Runge-Kutta steps), or call solve_ivp, which has derivatives"
        )

    return adopt(function, original, __name__)


odeint = _refused("odeint")
