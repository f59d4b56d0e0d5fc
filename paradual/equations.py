"""Solutions of equations as functions of what the equations contain: `root`, `fixed_point`, `minimize`.

A solver finds the solution on plain values; it may be any, and is not differentiated.  What the solution's
derivatives are follows from the equation: see `paradual.implicit`.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np

from paradual.arrays import is_complex, shape_of
from paradual.dual import is_inexact, primal
from paradual.errors import ParadualTypeError, ParadualValueError
from paradual.implicit import (
    Leaves,
    System,
    attach,
    correction,
    eps_of,
    plainly,
    quiet,
    ravel,
)
from paradual.krylov import Method, check_method
from paradual.solvers import Find, Problem, by_iteration, by_minimize, by_root, finder, start_of
from paradual.tape import ACTIVE
from paradual.transforms import grad, stop_gradient
from paradual.trees import flatten, paths, unflatten

Function = Callable[..., Any]


@dataclass(frozen=True)
class _Equation:
    """A function of the leaves of x that is zero at the solution; it pickles if its function does."""

    name: str  # of the public function
    fn: Function
    params: tuple[Any, ...]
    structure: Any
    like: tuple[Any, ...]  # x0, for the forms of its leaves

    def __call__(self, *leaves: Any) -> tuple[Any, ...]:
        x = unflatten(self.structure, [copy(leaf) for leaf in leaves])  # fn may write into it
        if self.name == "minimize":
            return tuple(flatten(grad(self.fn)(x, *self.params))[0])
        parts, structure = flatten(self.fn(x, *self.params))
        if structure != self.structure:
            raise ParadualValueError(
                f"{self.name}: the function returned the structure {structure}, but x0 has {self.structure}: "
                "it must return one equation for each unknown, in the same structure"
            )
        for part, x0, where in zip(parts, self.like, paths(x), strict=True):
            if shape_of(part) != shape_of(x0):
                raise ParadualValueError(
                    f"{self.name}: the function returned the shape {shape_of(part)} where x0{where} has "
                    f"{shape_of(x0)}: it must return one equation for each unknown"
                )
            if not is_inexact(primal(part)):
                raise ParadualTypeError(
                    f"{self.name}: the function returned a {type(primal(part)).__name__} of dtype "
                    f"{np.asarray(primal(part)).dtype} for x0{where}: return floating-point values"
                )
            if is_complex(part) != is_complex(x0):
                kinds = "complex", "real"
                have, want = kinds if is_complex(part) else reversed(kinds)
                raise ParadualTypeError(
                    f"{self.name}: the function returned {have} values where x0{where} is {want}: as many "
                    "real equations as unknowns are needed. Start from a complex x0, or return np.real(...)"
                )
        if self.name == "fixed_point":
            return tuple(part - leaf for part, leaf in zip(parts, leaves, strict=True))
        return tuple(parts)


def _solution(
    name: str,
    fn: Function,
    start: Any,
    params: tuple[Any, ...],
    find: Find,
    tol: tuple[float | None, float, float],
    method: Method,
    inspect: Callable[[System], None] | None = None,
) -> Any:
    """Solve on plain values, check what was found, and attach its derivatives.

    ``tol`` is what the user asked for, and the defaults in double and single precision.
    """
    check_method(method)
    x0, structure = start_of(name, start, params)
    equation = _Equation(name, fn, params, structure, tuple(x0))
    return _solved(equation, x0, find, _tolerance(x0, *tol), method, inspect)


def _solved(equation: _Equation, x0: Leaves, find: Find, tol: float, method: Method, inspect: Any) -> Any:
    if not ravel(x0).size:
        return unflatten(equation.structure, x0)
    constants = stop_gradient(equation.params)
    levels = len(ACTIVE.get())
    bare = _Equation(equation.name, equation.fn, constants, equation.structure, equation.like)

    def fn(x: Any) -> Any:
        return equation.fn(x, *constants)

    problem = Problem(
        name=equation.name,
        fn=plainly(fn, levels),
        bare=fn,
        levels=levels,
        residual=plainly(bare, levels),
        start=x0,
        structure=equation.structure,
        method=method,
    )
    with quiet(1):
        found = find(problem)
        rest, before = (ravel(problem.residual(*leaves)) for leaves in (found, x0))
    size = float(np.max(np.abs(before)))
    error = float(np.max(np.abs(rest)))
    if not error <= tol * (max(1.0, size) if np.isfinite(size) else 1.0):
        raise ParadualValueError(
            f"{equation.name}: the solver has not converged: the largest element of "
            f"{_MEANING[equation.name]} is {error:.2e} at what it returned, and {size:.2e} at x0; "
            f"tol={tol:.1e} allows {tol:.1e} times max(1, that at x0). Let the solver go on, give it a "
            "better x0, or allow a larger tol: the error of the derivatives is of its size"
        )
    scale = max(float(np.max(np.abs(ravel(leaves)))) for leaves in (found, x0)) or 1.0

    def look(system: System) -> None:
        _check_close(equation.name, system, rest, scale, tol)
        if inspect is not None:
            inspect(system)

    return unflatten(equation.structure, attach(equation, found, method, inspect=look))


_MEANING = {"root": "fn(x)", "fixed_point": "fn(x) - x", "minimize": "the gradient of fn"}


def _check_close(name: str, system: System, rest: Any, scale: float, tol: float) -> None:
    """Refuse a residual that is large for the equation's own scale, whatever its units are."""
    far = correction(system, rest)
    if not far <= tol * scale:
        raise ParadualValueError(
            f"{name}: the solver has not converged: x is about {far:.1e} from the solution, while it is of "
            f"size {scale:.1e}, and tol={tol:.1e}. Let the solver go on, or allow a larger tol"
        )


def _definite(system: System) -> None:
    """Refuse a stationary point that is no minimum, where the Hessian is known."""
    if system.inverse is not None:
        lowest = float(np.min(np.linalg.eigvalsh((system.inverse + system.inverse.T) / 2)))
        if not lowest > 0:
            raise ParadualValueError(
                "minimize: the solver has stopped at a saddle point or a maximum: the Hessian has an "
                f"eigenvalue of {1 / lowest:.2e} there. Start from another x0, or use paradual.root on the "
                "gradient"
            )


def _tolerance(leaves: Leaves, tol: float | None, double: float, single: float) -> float:
    if tol is None:
        return double if eps_of(leaves) < 1e-12 else single
    if not 0 < tol < 1:
        raise ParadualValueError(f"tol={tol!r}: the solution's residual must be small, 0 < tol < 1")
    return tol


# --- the public functions --------------------------------------------------------------------------------


def root(
    fn: Function,
    x0: Any,
    *params: Any,
    solver: Any = None,
    tol: float | None = None,
    linear: Any = "auto",
) -> Any:
    """Find x with ``fn(x, *params) = 0``, with its derivatives.

    Parameters
    ----------
    fn : callable
        ``fn(x, *params)`` returns one equation for each unknown: an array of x's shape, or a pytree of
        x's structure.  It may capture values that are being differentiated.
    x0 : pytree
        Where the solver starts: arrays of float or complex dtype, floats.  It is a constant: the
        derivative with respect to it is zero.
    *params : pytree
        What the solution is differentiated with respect to; anything else in it is a constant.
    solver : str or callable, optional
        A method of `scipy.optimize.root` by name, or any function ``solver(f, x0)`` that returns x, or a
        result of SciPy's; it gets ``f(x)`` of plain values, and is not differentiated.  By default
        ``"hybr"``, for more than 200 unknowns ``"krylov"``, and up to three steps of Newton's method.
    tol : float, optional
        The largest element of ``fn(x)`` may be ``tol * max(1, that of fn(x0))``, and the distance to the
        solution about ``tol`` times the size of x: by default 1e-6, in single precision 1e-3.
    linear : str or callable
        How the linear system of a derivative is solved: ``"dense"``; ``"gmres"`` or another iteration of
        `scipy.sparse.linalg`; a function ``solver(operator, b)`` of a LinearOperator of real vectors.
        ``"auto"``: dense up to 200 unknowns, above ``"lgmres"`` and then ``"gmres"``, and dense again (up to
        2000) where they do not converge.

    Returns
    -------
    pytree
        x, in the structure, shapes and dtypes of ``x0``.

    Raises
    ------
    ParadualValueError
        If the solver has not converged, if ``fn`` returns other shapes, if the Jacobian is singular, or
        if the linear system of a derivative could not be solved.
    ParadualTypeError
        If ``x0`` or what ``fn`` returns is not of floating-point type.
    ParadualImportError
        If SciPy is needed and not installed.

    Notes
    -----
    The implicit function theorem: ``dx = -A^-1 (dfn/dparams) dparams`` with ``A = dfn/dx``.  A derivative
    costs one linear system, whatever the solver did.

    Examples
    --------
    >>> import numpy as np, paradual as pdl
    >>> pdl.root(lambda x, a: x**2 - a, np.array([1.0]), np.array([2.0])).round(6)
    array([1.414214])
    >>> slope = pdl.grad(lambda a: pdl.root(lambda x: x**2 - a, 1.0))(4.0)  # of the square root
    >>> round(slope, 9)
    0.25
    """
    find = finder(solver, by_root)
    return _solution("root", fn, x0, params, find, (tol, 1e-6, 1e-3), Method(linear))


def fixed_point(
    fn: Function,
    x0: Any,
    *params: Any,
    solver: Any = None,
    tol: float | None = None,
    linear: Any = "auto",
) -> Any:
    """Find x with ``fn(x, *params) = x``, with its derivatives.

    Parameters
    ----------
    fn : callable
        ``fn(x, *params)`` returns the next x, in x's structure and shapes.
    x0 : pytree
        Where the solver starts; a constant.
    *params : pytree
        What the solution is differentiated with respect to.
    solver : str or callable, optional
        ``"anderson"`` (the default), ``"iteration"`` (without acceleration), or a function
        ``solver(f, x0)``, as `scipy.optimize.fixed_point` is one; no SciPy is needed for the first two.
    tol, linear
        As for `root`, where ``fn(x) - x`` takes the place of ``fn(x)``.

    Returns
    -------
    pytree
        x, in the structure, shapes and dtypes of ``x0``.

    Raises
    ------
    ParadualValueError, ParadualTypeError
        As `root`.

    Notes
    -----
    The derivative is that of the root of ``fn(x) - x``: ``dx = (1 - dfn/dx)^-1 (dfn/dparams) dparams``,
    what the derivative of the iteration converges to (Christianson, Optim. Methods Softw. 3, 1994).

    Examples
    --------
    >>> import numpy as np, paradual as pdl
    >>> round(pdl.fixed_point(np.cos, 1.0), 6)
    0.739085
    >>> x, slope = pdl.value_and_grad(lambda a: pdl.fixed_point(lambda x: a * np.cos(x), 1.0))(1.0)
    >>> bool(abs(slope - np.cos(x) / (1 + np.sin(x))) < 1e-9)
    True
    """
    find = finder(solver, by_iteration)
    return _solution("fixed_point", fn, x0, params, find, (tol, 1e-6, 1e-3), Method(linear))


def minimize(
    fn: Function,
    x0: Any,
    *params: Any,
    solver: Any = None,
    tol: float | None = None,
    linear: Any = "auto",
) -> Any:
    """Find a local minimum x of ``fn(x, *params)``, with the derivatives of x.

    Parameters
    ----------
    fn : callable
        ``fn(x, *params)`` returns a real number.
    x0 : pytree
        Where the solver starts: arrays of real dtype, floats; a constant.
    *params : pytree
        What the minimum is differentiated with respect to.
    solver : str or callable, optional
        A method of `scipy.optimize.minimize` by name, which gets gradients from paradual, or a function
        ``solver(f, x0)`` of the objective.  By default ``"BFGS"``, for more than 200 unknowns
        ``"L-BFGS-B"``, and up to three steps of Newton's method.
    tol : float, optional
        The largest element of the gradient may be ``tol * max(1, that at x0)``, and the distance to the
        stationary point about ``tol`` times the size of x: by default 1e-5, in single precision 3e-3.
    linear
        As for `root`, with ``"cg"`` in the place of the two: the matrix is the Hessian.

    Returns
    -------
    pytree
        x, in the structure, shapes and dtypes of ``x0``.

    Raises
    ------
    ParadualValueError, ParadualTypeError
        As `root`; also where the point is stationary and no minimum, as far as the Hessian is known.

    Notes
    -----
    The derivative is that of the root of the gradient.  Bounds and constraints are not known to it: where
    one is active the gradient is not zero, which is an error.

    Examples
    --------
    >>> import numpy as np, paradual as pdl
    >>> best = lambda c: pdl.minimize(lambda x, c: np.sum((x - c) ** 4 + x**2), np.zeros(2), c)
    >>> slope = pdl.jacobian(best)(np.array([1.0, 0.0]))
    >>> bool(0 < slope[0, 0] < 1), bool(abs(slope[1, 1]) < 1e-9)
    (True, True)
    """
    if any(map(is_complex, flatten(x0)[0])):
        raise ParadualTypeError("minimize: x0 is complex: write fn as a function of two real arrays")
    find, method = finder(solver, by_minimize), Method(linear, symmetric=True)
    return _solution("minimize", fn, x0, params, find, (tol, 1e-5, 3e-3), method, _definite)


__all__ = ["fixed_point", "minimize", "root"]
