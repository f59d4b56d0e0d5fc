"""`scipy.integrate.solve_ivp` with derivatives: the tangent and the adjoint equation, by SciPy's own methods.

With y' = f(t, y, p), the tangent of y solves ``s' = f_y s + f_p dp``, beside y and on the same steps.  A
cotangent travels backwards, ``l' = -f_y^T l``, from one output time to the one before, where the cotangent
of that output is added; ``f_p^T l`` sums up to the cotangent of p (Cao, Li, Petzold and Serban, SIAM J. Sci.
Comput. 24, 2003).  Along it y is what the method's own interpolation says, of a solution that is computed
again, so that nothing unstable is integrated.  Where an outer differentiation looks at this, y is integrated
backwards too, anew from each step of the solution, and compared: a problem for which that is too unstable
is refused.

All this is right to the tolerances, as the solution is.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.integrate as _scipy

from paradual.arrays import dispatch, fit, shape_of
from paradual.dual import is_inexact, primal
from paradual.errors import NotDifferentiableError, ParadualTypeError, ParadualValueError, user_line
from paradual.rules.creation import stacked
from paradual.rules.registry import general
from paradual.scipy import adopt, differentiated
from paradual.tape import ACTIVE
from paradual.transforms import jvp, vjp
from paradual.trees import flatten, unflatten

_original = _scipy.solve_ivp
_signature = inspect.signature(_original)
_DRIFT = 1e3  # tolerances by which y may miss its former value when it is integrated back over a step


# --- right-hand sides: (t, state, *moving), where what moves are arrays ------------------------------------


@dataclass(frozen=True)
class _Of:
    """``fun(t, y, *args)`` as a function of the leaves of args that move."""

    fun: Any
    leaves: tuple[Any, ...]
    moving: tuple[int, ...]
    structure: Any
    where: str  # solve_ivp was called
    matrix: bool = False  # of a Jacobian

    def __call__(self, t: Any, y: Any, *moving: Any) -> Any:
        leaves = list(self.leaves)
        for k, leaf in zip(self.moving, moving, strict=True):
            leaves[k] = leaf
        out = stacked(self.fun(t, y, *unflatten(self.structure, leaves)))
        if differentiated(out) and not differentiated(t, y, moving):
            raise NotDifferentiableError(_CAPTURED.format(where=self.where))
        if self.matrix or shape_of(out) == shape_of(y):
            return out
        return np.broadcast_to(out, shape_of(y))  # as SciPy does with a number


@dataclass(frozen=True)
class _Tangent:
    """Of y and its tangent; the tangents of what moves follow it."""

    fun: Any
    n: int

    def __call__(self, t: Any, state: Any, *both: Any) -> Any:
        half = len(both) // 2
        y, s = state[: self.n], state[self.n :]
        out, tangent = jvp(lambda *v: self.fun(t, *v), (y, *both[:half]), (s, *both[half:]))
        return np.concatenate([out, tangent])


def _pulled(fun: Any, t: Any, y: Any, cotangent: Any, moving: Any) -> tuple[Any, Any]:
    """A right-hand side, and the cotangents of y and of what moves, as one vector."""
    out, pull = vjp(lambda *v: fun(t, *v), y, *moving)
    parts = pull(fit(cotangent, pull.forms[0]))
    return out, np.concatenate([np.reshape(part, -1) for part in parts])


@dataclass(frozen=True)
class _Adjoint:
    """Of y, its cotangent, and the cotangents of what moves."""

    fun: Any
    n: int
    form: Any  # of y
    limit: float  # beyond which it has blown up

    def __call__(self, t: Any, state: Any, *moving: Any) -> Any:
        y = fit(state[: self.n], self.form)
        if not _largest([y]) < self.limit:
            raise ParadualValueError("the solution, integrated backwards, has blown up")
        out, back = _pulled(self.fun, t, y, state[self.n : 2 * self.n], moving)
        return np.concatenate([out, -back])


# --- solutions at given times -----------------------------------------------------------------------------


def ivp(values: Any, fun: Any, times: Any, span: Any, method: Any, options: Any, known: Any = None) -> Any:
    """The solution at given times, shape ``(n, len(times))``; ``values`` are y0 and what moves."""
    out = dispatch(ivp, values, (values, fun, times, span, method, options, known))
    if out is not NotImplemented:
        return out
    return known if known is not None else _run(values, fun, times, span, method, options).y


def _run(values: Any, fun: Any, times: Any, span: Any, method: Any, options: Any, **more: Any) -> Any:
    """SciPy's solution for plain values.

    Raises
    ------
    ParadualValueError
        If it does not reach the end.
    """
    y0, *moving = values
    result = _original(fun, span, y0, method, times, args=tuple(moving) or None, **more, **options)
    if not result.success or not np.all(np.isfinite(result.y)):
        raise ParadualValueError(
            f"solve_ivp has not reached t = {span[1]} from t = {span[0]}: {result.message} A derivative of "
            "what it has found is not known"
        )
    return result


def _others(options: Any, n: int, moving: Any = ()) -> Any:
    """The options for an equation of n other unknowns, and the cotangents of what moves.

    These have the unit of one over what moves: where that is large, they are small, and count as much.
    """
    found = {name: value for name, value in options.items() if name in ("rtol", "max_step", "min_step")}
    atol = float(np.min(options.get("atol", 1e-6)))
    parts = [np.reshape(atol / np.maximum(1.0, np.abs(primal(part))), -1) for part in moving]
    found["atol"] = np.concatenate([np.full(n, atol), *parts])
    return found


def _largest(parts: Any) -> float:
    return max((float(np.max(np.abs(primal(part)), initial=0.0)) for part in parts), default=0.0)


def _push(t: Any, values: Any, fun: Any, times: Any, span: Any, method: Any, options: Any) -> Any:
    y0, *moving = values
    n = shape_of(y0)[0]
    # a tangent of the size of the values, for the tolerances are absolute too
    size = _largest(
        [np.abs(primal(d)) / np.maximum(1.0, np.abs(primal(v))) for d, v in zip(t, values, strict=True)]
    )
    if size == 0 and not differentiated(t):
        return np.zeros((n, len(times)))
    size = size if 0 < size < np.inf else 1.0
    start, *directions = [part / size for part in t]
    state = np.concatenate([y0, start])
    both = ivp([state, *moving, *directions], _Tangent(fun, n), times, span, method, _others(options, 2 * n))
    return size * both[n:]


def _pull(
    g: Any, values: Any, fun: Any, times: Any, span: Any, method: Any, options: Any, known: Any, active: Any
) -> Any:
    del known
    y0, *moving = values
    size = _largest([g])
    if not np.isfinite(size):
        return [value * np.nan if on else None for value, on in zip(values, active, strict=True)]
    size = size or 1.0
    if differentiated(g, values):
        total = _back_anew(g / size, values, fun, times, span, method, options)
    else:
        total = _back(g / size, values, fun, times, span, method, options)
    found, k = [], 0
    for value, on in zip([y0, *moving], active, strict=True):
        shape = shape_of(value)
        n = int(np.prod(shape))
        part = total[k : k + n]
        found.append(size * (np.reshape(part, shape) if shape else part[0]) if on else None)
        k += n
    return found


def _back(g: Any, values: Any, fun: Any, times: Any, span: Any, method: Any, options: Any) -> Any:
    """The cotangents of plain values, along an interpolated solution."""
    y0, *moving = values
    n = len(y0)
    path = _run(values, fun, None, span, method, options, dense_output=True).sol
    sizes = [int(np.prod(shape_of(value))) for value in values]
    state = np.zeros(sum(sizes), np.result_type(g, *values, float))

    def rhs(t: Any, state: Any) -> Any:
        return -_pulled(fun, t, path(t), state[:n], moving)[1]

    more = _others(options, n, moving)
    asked = [k for k in range(len(times)) if np.any(g[:, k])]  # what else there is adds nothing
    ends = [span[0], *(times[k] for k in asked)]
    for k, before in zip(reversed(asked), reversed(ends[:-1]), strict=True):
        state[:n] += g[:, k]
        if before != times[k]:
            state = _run([state], rhs, [before], (times[k], before), method, more).y[:, -1]
    return state


def _back_anew(g: Any, values: Any, fun: Any, times: Any, span: Any, method: Any, options: Any) -> Any:
    """The same for values that are being differentiated: y is integrated backwards beside its cotangent.

    Raises
    ------
    NotDifferentiableError
        If that is unstable.
    """
    y0, *moving = values
    n = shape_of(y0)[0]
    steps = _run([primal(value) for value in values], fun, None, span, method, options).t
    knots = np.union1d(steps, times)
    knots = knots if span[1] >= span[0] else knots[::-1]
    path = ivp(values, fun, knots, span, method, options)
    place = {float(t): k for k, t in enumerate(times)}
    more = _others(options, 2 * n, moving)
    close = more["atol"][0] + more.get("rtol", 1e-3) * np.abs(primal(path))
    adjoint = _Adjoint(fun, n, ((n,), primal(path).dtype), 1e3 * (1 + _largest([path])))
    rest: Any = np.zeros(sum(int(np.prod(shape_of(value))) for value in values))
    for k in range(len(knots) - 1, -1, -1):
        now = float(knots[k])
        if now in place:
            rest = np.concatenate([rest[:n] + g[:, place[now]], rest[n:]])
        if k == 0:
            break
        before = knots[k - 1 : k]
        state = np.concatenate([path[:, k], rest])
        try:
            with np.errstate(all="ignore"):
                end = ivp([state, *moving], adjoint, before, (now, float(before[0])), method, more)[:, 0]
        except (ParadualValueError, ArithmeticError, ValueError) as error:  # it has blown up
            raise _unstable(before[0], now, "") from error
        drift = np.abs(primal(end[:n]) - primal(path[:, k - 1]))
        if not np.all(drift <= _DRIFT * close[:, k - 1]):
            raise _unstable(before[0], now, f": it misses its former value by {float(np.max(drift)):.1e}")
        rest = end[n:]
    return rest


def _unstable(before: Any, now: Any, why: str) -> NotDifferentiableError:
    return NotDifferentiableError(
        "the second derivative of solve_ivp needs the solution backwards in time, and that is too unstable "
        f"between t = {before:.3g} and {now:.3g}{why}. Take first derivatives only, limit the steps "
        "(max_step=), or use tighter tolerances"
    )


general(ivp, _pull, _push)


@dataclass(frozen=True)
class _Guarded:
    """A right-hand side of plain arguments, which must give plain values."""

    fun: Any
    where: str

    def __call__(self, t: Any, y: Any, *args: Any) -> Any:
        out = self.fun(t, y, *args)
        if differentiated(out):
            raise NotDifferentiableError(_CAPTURED.format(where=self.where))
        return out


_CAPTURED = (
    "solve_ivp integrates a function that uses a value being differentiated{where}, which is not one of its "
    "arguments: pass it in args=, as solve_ivp(lambda t, y, c: ..., t_span, y0, args=(c,))"
)


def solve_ivp(*given: Any, **named: Any) -> Any:
    if len(ACTIVE.get()) == 1:  # nothing is being differentiated
        return _original(*given, **named)
    bound = _signature.bind(*given, **named)
    bound.apply_defaults()
    call = dict(bound.arguments)
    options = dict(call.pop("options"))
    args, y0 = call["args"], stacked(call["y0"])
    fixed_parts = {name: call[name] for name in ("t_span", "t_eval", "events")} | options
    for name, value in fixed_parts.items():
        if differentiated(value):
            raise NotDifferentiableError(
                f"solve_ivp is not differentiated with respect to {name}{user_line()}: pass "
                "paradual.stop_gradient of it if it is constant. For a time, integrate over s from 0 to 1, "
                "with t = t0 + s * (t1 - t0) and the derivative times (t1 - t0), where t0 and t1 are in args="
            )
    if differentiated(args) and not isinstance(args, tuple | list):
        raise ParadualTypeError(f"solve_ivp: args must be a tuple{user_line()}: write args=(c,)")
    leaves, structure = flatten(() if args is None else args)
    moving = tuple(k for k, leaf in enumerate(leaves) if differentiated(leaf))
    if not moving and not differentiated(y0):
        return _original(**{**call, "fun": _Guarded(call["fun"], user_line())}, **options)
    for name, cure in _WITHOUT.items():
        if call[name] not in (None, False):
            raise NotDifferentiableError(f"solve_ivp with {name}= has no derivative{user_line()}: {cure}")
    if len(shape_of(y0)) != 1:
        raise ParadualValueError(f"solve_ivp: `y0` must be 1-dimensional, and has the shape {shape_of(y0)}")
    fixed = tuple(None if k in moving else leaf for k, leaf in enumerate(leaves))
    fun = _Of(call["fun"], fixed, moving, structure, user_line())
    if callable(options.get("jac")):
        options["jac"] = _Of(options["jac"], fixed, moving, structure, user_line(), matrix=True)
    if not is_inexact(primal(y0)):
        y0 = y0.astype(float)
    span, method = tuple(map(float, call["t_span"])), call["method"]
    values = [y0, *(leaves[k] for k in moving)]
    result = _run([primal(value) for value in values], fun, call["t_eval"], span, method, options)
    result.y = ivp(values, fun, result.t, span, method, options, result.y)
    return result


_WITHOUT = {
    "dense_output": "ask for the times that are needed, with t_eval=",
    "events": "the time of an event is the root of an equation, see paradual.root",
    "vectorized": "leave it out",
}
adopt(solve_ivp, _original, "paradual.scipy.integrate")
solve_ivp.__doc__ = """`scipy.integrate.solve_ivp` with derivatives of y with respect to ``y0`` and ``args``.

Parameters
----------
fun, t_span, y0, method, t_eval, args, **options
    As SciPy's.  What is differentiated is in ``y0``, shape (n,), or in ``args``, a tuple of arrays, numbers
    and pytrees of them; the times are constants.

Returns
-------
OdeResult
    SciPy's; its ``y``, shape ``(n, len(t))``, has derivatives.  Without ``t_eval`` the times are the
    solver's steps, and the derivatives those at fixed times.

Raises
------
NotDifferentiableError
    Under a differentiation: with events, ``dense_output`` or ``vectorized``; with respect to times; if
    ``fun`` uses a value being differentiated that is not in ``args``; for a second derivative of a stiff
    problem.
ParadualValueError
    If the integration does not reach the end, forwards or backwards.

Notes
-----
Derivatives are right to the tolerances ``rtol`` and ``atol``, as y is: choose them for the derivatives too.
Forward mode integrates the tangent beside y, reverse mode the adjoint equation backwards (Cao, Li, Petzold
and Serban, SIAM J. Sci. Comput. 24, 2003).

Examples
--------
>>> import numpy as np, paradual as pdl
>>> from paradual.scipy.integrate import solve_ivp
>>> def end(c):
...     return solve_ivp(lambda t, y, c: -c * y, (0, 1), np.ones(1), args=(c,), rtol=1e-8, atol=1e-8).y[0, -1]
>>> bool(abs(pdl.grad(end)(2.0) + np.exp(-2)) < 1e-6)
True
"""
