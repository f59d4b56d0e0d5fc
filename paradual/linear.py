"""`linear_solve`: linear equations without their matrix, with derivatives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from paradual.arrays import is_complex, shape_of
from paradual.errors import ParadualValueError
from paradual.implicit import (
    Leaves,
    attach,
    dense,
    eps_of,
    plainly,
    quiet,
    ravel,
    system_of,
    transposed,
    unravel,
)
from paradual.krylov import Method, check_method, krylov
from paradual.solvers import start_of
from paradual.tape import ACTIVE
from paradual.trees import flatten, unflatten

Function = Callable[..., Any]


@dataclass(frozen=True)
class _Linear:
    """The residual ``matvec(u) - b`` of the leaves of u."""

    matvec: Function
    b: tuple[Any, ...]
    structure: Any

    def product(self, *leaves: Any) -> Leaves:
        parts, structure = flatten(self.matvec(unflatten(self.structure, leaves)))
        forms = [(shape_of(part), is_complex(part)) for part in parts]
        if structure != self.structure or forms != [(shape_of(q), is_complex(q)) for q in self.b]:
            raise ParadualValueError(
                "linear_solve: matvec must return what it gets: b's structure, shapes and kind (real or "
                f"complex); it returned {structure} with the shapes {[shape for shape, _ in forms]}"
            )
        return parts

    def __call__(self, *leaves: Any) -> tuple[Any, ...]:
        return tuple(p - q for p, q in zip(self.product(*leaves), self.b, strict=True))


def linear_solve(
    matvec: Function, b: Any, *, solver: Any = "gmres", tol: float | None = None, maxiter: int | None = None
) -> Any:
    """Solve ``matvec(u) = b`` for a linear function without its matrix, with derivatives.

    Parameters
    ----------
    matvec : callable
        ``matvec(u)``, linear in u and invertible; it may capture values that are being differentiated,
        which get their derivatives.
    b : pytree
        The right-hand side: arrays of float or complex dtype, floats.
    solver : str or callable
        ``"gmres"``, ``"bicgstab"``, ``"cg"`` (for a symmetric or Hermitian, positive definite matvec), or
        another iteration of `scipy.sparse.linalg` by name; ``"dense"``; ``"auto"``, as in `root`; or a
        function ``solver(operator, b)`` that returns u.  It solves the transposed systems of the reverse
        pass too.  The operator and b are real: a complex system is given as a real one of twice the size.
    tol : float, optional
        The residual relative to b; by default 1e-10, in single precision 200 roundoffs.
    maxiter : int, optional
        The largest number of iterations.

    Returns
    -------
    pytree
        u, in the structure, shapes and dtypes of ``b``.

    Raises
    ------
    ParadualValueError
        If ``matvec`` is not linear, changes the shape, or is not symmetric where it must be; if the
        iteration does not converge, here or in the reverse pass.

    Notes
    -----
    With ``A u = b``, ``du = A^-1 (db - dA u)``; a cotangent g of u is ``A^-T g`` of b.

    Examples
    --------
    >>> import numpy as np, paradual as pdl
    >>> u = pdl.linear_solve(lambda u: np.array([2.0, 4.0]) * u, np.ones(2))
    >>> u.round(9)
    array([0.5 , 0.25])
    >>> solve = lambda d: pdl.linear_solve(lambda u: d * u, np.ones(2), solver="cg")
    >>> pdl.grad(lambda d: solve(d).sum())(np.array([2.0, 4.0])).round(9)
    array([-0.25  , -0.0625])
    """
    method = check_method(Method(solver, tol, maxiter))
    plain, structure = start_of("linear_solve", b, ())
    if not ravel(plain).size:
        return b
    given = tuple(flatten(b)[0])
    equation = _Linear(matvec, given, structure)
    product = plainly(equation.product, len(ACTIVE.get()))

    def apply(v: Any) -> Any:
        return ravel(product(*unravel(v, plain))).astype(float)

    eps = eps_of(plain)
    with quiet(1):
        _check_linear(apply, plain, method, eps)
        right = ravel(plain).astype(float)
        if not np.all(np.isfinite(right)):
            raise ParadualValueError("linear_solve: b is not finite")
        zeros = [np.zeros_like(leaf)[()] if shape_of(leaf) else leaf * 0 for leaf in plain]
        exact = None
        if dense(method, plain):
            system = transposed(system_of(_Plain(product), zeros, method))
            exact = system.inverse
            found = exact @ right
            found = found + exact @ (right - apply(found))
        else:
            found = krylov(apply, right, method, eps)
    u = unravel(found, plain)
    return unflatten(structure, attach(equation, u, method))


@dataclass(frozen=True)
class _Plain:
    product: Function

    def __call__(self, *leaves: Any) -> tuple[Any, ...]:
        return tuple(self.product(*leaves))


def _check_linear(apply: Function, like: Leaves, method: Method, eps: float) -> None:
    """Refuse a function that is affine or not linear, by its values at a few random points."""
    n = ravel(like).size
    rng = np.random.default_rng(0)
    u, v = rng.standard_normal(n), rng.standard_normal(n)
    at_u, at_v, at_zero = apply(u), apply(v), apply(np.zeros(n))
    both = apply(u + 2 * v)
    if not all(np.all(np.isfinite(at)) for at in (at_u, at_v, both)):
        raise ParadualValueError("linear_solve: matvec returned values that are not finite")
    size = max(float(np.max(np.abs(at))) for at in (at_u, at_v, both))
    close = max(1e-9, 1e3 * eps) * size
    if np.max(np.abs(at_zero), initial=0.0) > close:
        raise ParadualValueError(
            "linear_solve: matvec is not linear: it is not zero at zero. Subtract what it adds from both "
            "sides, or use paradual.root"
        )
    if np.max(np.abs(both - at_u - 2 * at_v)) > close:
        raise ParadualValueError(
            "linear_solve: matvec is not linear: matvec(u + 2 v) is not matvec(u) + 2 matvec(v). Use "
            "paradual.root for an equation that is not linear"
        )
    if method.solver == "cg" and abs(v @ at_u - u @ at_v) > close * n**0.5:
        raise ParadualValueError(
            "linear_solve: solver='cg' needs a symmetric (or Hermitian) matvec, and this one "
            "is not: choose 'gmres' or 'bicgstab'"
        )


__all__ = ["linear_solve"]
