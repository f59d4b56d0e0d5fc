"""Checking derivatives against finite differences, and the two modes against each other.

Nothing here knows a rule: a derivative is compared with differences of the function's own values, and
forward with reverse mode through the inner product ``Re<w, J v> = Re<J^T w, v>``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from paradual.arrays import is_buffer, shape_of
from paradual.dual import is_inexact
from paradual.errors import ParadualError, ParadualValueError
from paradual.transforms import jvp, vjp
from paradual.trees import flatten, unflatten

Function = Callable[..., Any]
Leaves = Sequence[Any]

# Step and tolerances by precision.  A central difference errs by about step^2 (truncation) plus
# roundoff / step, which the cube root of the roundoff balances: 4e-11 in float64, 2e-5 in float32.
# The tolerances leave room for functions with large higher derivatives.
STEPS = {16: 1e-1, 32: 5e-3, 64: 6e-6}
TOLERANCES = {16: 2e-1, 32: 2e-3, 64: 1e-6}


@dataclass(frozen=True)
class _Check:
    """What stays the same at every order."""

    modes: tuple[str, ...]
    eps: float
    refine: bool  # whether another step may be taken where this one does not suit the function
    roundoff: float
    atol: float
    rtol: float
    exact: float  # absolute and relative tolerance between results that differ by roundoff only
    rng: np.random.Generator


def check_grads(
    fn: Function,
    args: Sequence[Any],
    order: int = 2,
    modes: Sequence[str] = ("rev", "fwd"),
    atol: float | None = None,
    rtol: float | None = None,
    eps: float | None = None,
    seed: int | np.random.Generator = 0,
) -> None:
    """Check the derivatives of a function, at one point and along random directions.

    Parameters
    ----------
    fn : callable
        The function; its result may be a pytree.
    args : sequence
        Its arguments, arrays or pytrees of them.  Only leaves of floating-point type are varied.
    order : int
        How often to differentiate.  From the second order on, the derivatives of the tangent and of
        the cotangents are checked, each in every mode.
    modes : sequence of str
        ``"rev"`` (`paradual.vjp`), ``"fwd"`` (`paradual.jvp`), or both; with both, also that one is the
        transpose of the other.
    atol, rtol : float, optional
        Tolerance of the comparison with finite differences: ``atol + rtol * size``, where ``size`` is
        that of the largest number compared.  By default both are 1e-6 in double precision and 2e-3 in
        single precision; the coarsest dtype among arguments and results decides.  Derivatives that are
        small beside the function's values need an ``atol`` of their own.
    eps : float, optional
        The step of the finite differences: the function must be smooth that far around the point.  By
        default 6e-6 in double and 5e-3 in single precision, and where this does not suit the function
        (values of 1e-8 or 1e8, say) the step at which its differences settle best.
    seed : int or numpy.random.Generator
        Where the directions come from.

    Raises
    ------
    AssertionError
        If a value, a derivative, its shape or its dtype is wrong; the message says which.
    ParadualValueError
        If there is nothing to check: no argument or no result of floating-point type, or no mode.

    Notes
    -----
    A cotangent of z = x + iy stands for df/dx - i df/dy, so it is paired with a tangent by
    ``Re(sum(g * t))``, without conjugation.

    Examples
    --------
    >>> import numpy as np, paradual as pdl
    >>> check_grads(lambda x, y: np.sin(x) * y, (np.array([1.0, 2.0]), 3.0))
    >>> check_grads(lambda x: x * pdl.stop_gradient(x), (2.0,))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    AssertionError: forward mode, result 0: ... differs from finite differences, ...
    """
    unknown = set(modes) - {"rev", "fwd"}
    if unknown or not modes or order < 1:
        raise ParadualValueError(f"choose modes from 'rev' and 'fwd', order >= 1: {modes!r}, {order}")
    leaves, structure = flatten(tuple(args))
    active = [k for k, leaf in enumerate(leaves) if is_inexact(leaf)]

    def flat(*points: Any) -> tuple[Any, ...]:
        full = list(leaves)
        for k, point in zip(active, points, strict=True):
            full[k] = point
        return tuple(part for part in flatten(fn(*unflatten(structure, full)))[0] if is_inexact(part))

    points = [leaves[k] for k in active]
    results = flat(*_shifted(points, points, 0.0))
    if not points or not results:
        raise ParadualValueError("check_grads: no argument, or no result, of floating-point type to check")
    # long doubles are checked as doubles are
    bits = min(64, *(np.finfo(_dtype(leaf)).bits for leaf in (*points, *results)))
    tolerance = TOLERANCES[bits]
    check = _Check(
        modes=tuple(modes),
        eps=STEPS[bits] if eps is None else eps,
        refine=eps is None,
        roundoff=float(np.finfo(f"f{bits // 8}").eps),
        atol=tolerance if atol is None else atol,
        rtol=tolerance if rtol is None else rtol,
        exact=float(np.finfo(f"f{bits // 8}").eps) ** (2 / 3),
        rng=np.random.default_rng(seed),
    )
    _check_order(check, flat, points, order, "")
    _check_alone(check, flat, points)


def _check_order(check: _Check, f: Function, points: Leaves, order: int, of: str) -> None:
    """Check the first derivative of ``f``, then those of its derivatives; ``of`` names ``f``."""
    state = check.rng.bit_generator.state
    try:
        t, w = _check_first(check, f, points, of)
    except AssertionError:
        step = _settled(check, f, points) if check.refine else None
        if step is None:
            raise
        check.rng.bit_generator.state = state  # the same directions
        t, w = _check_first(replace(check, eps=step), f, points, of)
    if order == 1:
        return
    n = len(points)
    if "fwd" in check.modes:

        def forward(*both: Any) -> Any:
            return jvp(f, both[:n], both[n:])[1]

        _check_order(check, forward, [*points, *t], order - 1, f" over forward mode{of}")
    if "rev" in check.modes:

        def reverse(*both: Any) -> Any:
            return vjp(f, *both[:n])[1](both[n:])

        _check_order(check, reverse, [*points, *w], order - 1, f" over reverse mode{of}")


def _settled(check: _Check, f: Function, points: Leaves) -> float | None:
    """The step at which the finite differences change least if it is halved, if that is little.

    No derivative is asked, so that a wrong one has no say in this.
    """
    t = [_random(np.random.default_rng(0), p) for p in points]
    # not further than the points are from 0, where other branches of the function may be
    reach = 0.25 * min(max(1.0, float(np.max(np.abs(p), initial=0.0))) for p in points)
    settled = []
    for step in [h for k in range(-12, 13) if (h := check.eps * 8.0**k) <= reach]:
        with suppress(ArithmeticError, ValueError), np.errstate(all="ignore"):
            sizes = [float(np.max(np.abs(v), initial=0.0)) for v in f(*_shifted(points, t, step))]
            whole, half = (_differences(f, points, t, h) for h in (step, step / 2))
            slopes = [float(np.max(np.abs(d), initial=0.0)) for d in half]
            change = [float(np.max(np.abs(a - b), initial=0.0)) for a, b in zip(whole, half, strict=True)]
            error = max(change) + check.roundoff * max(sizes) / step
            if max(slopes) > 0 and error <= check.rtol * max(slopes):  # false for NaN
                settled.append((error / max(slopes), step))
    return min(settled)[1] if settled else None


def _check_first(check: _Check, f: Function, points: Leaves, of: str) -> tuple[list[Any], list[Any]]:
    """Check the first derivative of ``f``, and return the directions: of the arguments, of the results."""
    values = f(*_shifted(points, points, 0.0))
    t = [_random(check.rng, p) for p in points]
    w = [_random(check.rng, v) for v in values]
    differences = _differences(f, points, t, check.eps)
    # a small function has small derivatives; roundoff in its intermediate values sets a limit
    scale = max([float(np.max(np.abs(v), initial=0.0)) for v in (*values, *differences)], default=0.0)
    atol = check.atol * min(1.0, max(scale, 1e-2)) if np.isfinite(scale) else check.atol
    tangents, cotangents = (), ()
    if "fwd" in check.modes:
        name = f"forward mode{of}"
        found, tangents = jvp(f, tuple(points), tuple(t))
        _assert_same_values(check, name, found, values)
        _assert_forms(f"{name}: the tangent of result", tangents, values)
        for k, (got, expected) in enumerate(zip(tangents, differences, strict=True)):
            _assert_close(f"{name}, result {k}", got, expected, atol, check.rtol)
    if "rev" in check.modes:
        name = f"reverse mode{of}"
        found, pullback = vjp(f, *points)
        _assert_same_values(check, name, found, values)
        cotangents = pullback(tuple(w))
        _assert_forms(f"{name}: the cotangent of argument", cotangents, points)
        # one direction sees one number: take more where forward mode does not look at every entry
        more = 0 if "fwd" in check.modes else 2
        for v in (t, *([_random(check.rng, p) for p in points] for _ in range(more))):
            along = differences if v is t else _differences(f, points, v, check.eps)
            got, expected = _inner(cotangents, v), _inner(w, along)
            size = _size_of_terms(w, along)
            _assert_close(f"{name}, <J^T w, v>", got, expected, atol, check.rtol, size)
    if tangents and cotangents:
        size = _size_of_terms(w, tangents) + _size_of_terms(cotangents, t)
        got, expected = _inner(cotangents, t), _inner(w, tangents)
        name = f"reverse against forward mode{of}, <J^T w, v>"
        _assert_close(name, got, expected, check.exact, check.exact, size, "<w, J v>")
    return t, w


def _check_alone(check: _Check, f: Function, points: Leaves) -> None:
    """Check that each argument alone has the same derivative as with the others active.

    A function that refuses constants for some of its arguments is loud (NumPy does not ask duals about
    ``initial=``, for one), and so passes.
    """
    if len(points) < 2:
        return
    values = f(*_shifted(points, points, 0.0))
    w = tuple(_random(check.rng, v) for v in values)
    t = [_random(check.rng, p) for p in points]
    exact = check.exact * 100
    for k in range(len(points)):

        def alone(p: Any, k: int = k) -> Any:
            fixed = _shifted(points, points, 0.0)
            return f(*fixed[:k], p, *fixed[k + 1 :])

        only = [u if j == k else u * 0 for j, u in enumerate(t)]
        with suppress(ParadualError, TypeError, ValueError):
            if "rev" in check.modes:
                got, expected = vjp(alone, points[k])[1](w)[0], vjp(f, *points)[1](w)[k]
                size = float(np.max(np.abs(expected), initial=0.0))
                name, by = f"reverse mode, argument {k} alone", "that with all active"
                _assert_close(name, got, expected, exact, exact, size, by)
            if "fwd" in check.modes:
                parts = jvp(alone, (points[k],), (t[k],))[1]
                for got, expected in zip(parts, jvp(f, tuple(points), tuple(only))[1], strict=True):
                    size = float(np.max(np.abs(expected), initial=0.0))
                    name, by = f"forward mode, argument {k} alone", "that with all active"
                    _assert_close(name, got, expected, exact, exact, size, by)


# --- directions and differences -----------------------------------------------------------------------


def _dtype(value: Any) -> Any:
    return value.dtype if hasattr(value, "dtype") else np.dtype(type(value))


def _random(rng: np.random.Generator, like: Any) -> Any:
    """Random numbers of the form of a value, and on its device."""
    dtype = _dtype(like)
    x = rng.standard_normal(shape_of(like))
    if dtype.kind == "c":
        x = x + 1j * rng.standard_normal(shape_of(like))
    if is_buffer(like):
        return np.asarray(x, dtype=dtype, like=like)
    return dtype.type(x) if isinstance(like, np.generic) else type(like)(x)


def _shifted(points: Leaves, t: Leaves, eps: float) -> list[Any]:
    """``points + eps * t`` as new arrays: the function may write into its arguments."""
    moved = [p + eps * d for p, d in zip(points, t, strict=True)]
    return [np.asarray(q, like=p) if is_buffer(p) else q for p, q in zip(points, moved, strict=True)]


def _differences(f: Function, points: Leaves, t: Leaves, eps: float) -> list[Any]:
    with np.errstate(all="ignore"):  # beyond a function's domain they are NaN, which is noticed
        above, below = f(*_shifted(points, t, eps)), f(*_shifted(points, t, -eps))
    return [(a - b) / (2 * eps) for a, b in zip(above, below, strict=True)]


def _inner(g: Leaves, t: Leaves) -> float:
    return sum(float(np.real(np.sum(a * b))) for a, b in zip(g, t, strict=True))


def _size_of_terms(g: Leaves, t: Leaves) -> float:
    """What an inner product would be if its terms did not cancel: roundoff is relative to this."""
    return sum(float(np.sum(np.abs(a * b))) for a, b in zip(g, t, strict=True))


# --- assertions ---------------------------------------------------------------------------------------


def _assert_close(
    what: str,
    got: Any,
    expected: Any,
    atol: float,
    rtol: float,
    size: float = 0.0,
    by: str = "finite differences",
) -> None:
    if 0 in shape_of(got):
        return
    gap = np.abs(got - expected)
    tolerance = atol + rtol * max(size, float(np.max(np.abs(expected))))
    if not float(np.max(gap)) <= tolerance:  # written so that NaN fails
        # the largest difference, or the first NaN, which argmax prefers
        worst = np.unravel_index(int(np.argmax(gap)), shape_of(gap))
        where = f" at {tuple(map(int, worst))}" if worst else ""
        a, b = (x[worst] if worst else x for x in (got, expected))
        raise AssertionError(
            f"{what}{where}: {a} differs from {by}, {b}, by {gap[worst] if worst else gap}; "
            f"the tolerance is {tolerance:.2g}"
        )


def _assert_same_values(check: _Check, name: str, got: Leaves, expected: Leaves) -> None:
    _assert_forms(f"{name}: the value of result", got, expected)
    for k, (a, b) in enumerate(zip(got, expected, strict=True)):
        _assert_close(f"{name}, value of result {k}", a, b, check.exact, check.exact, by="the function's own")


def _assert_forms(what: str, got: Leaves, expected: Leaves) -> None:
    if len(got) != len(expected):
        raise AssertionError(f"{what}: there are {len(got)}, not {len(expected)}")
    for k, (a, b) in enumerate(zip(got, expected, strict=True)):
        have, want = (shape_of(a), _dtype(a)), (shape_of(b), _dtype(b))
        if have != want:
            raise AssertionError(f"{what} {k} has shape and dtype {have}, not {want}")
