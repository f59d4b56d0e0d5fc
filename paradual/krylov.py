"""Linear systems of real vectors without their matrix, by SciPy's iterations or a solver of the user's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from paradual.errors import ParadualValueError
from paradual.optional import load

FALLBACK = 2000  # unknowns up to which a matrix is built where an iteration has not converged
LINEAR = ("auto", "dense", "gmres", "lgmres", "gcrotmk", "bicgstab", "cgs", "tfqmr", "cg")
CYCLES = {"gmres": 200, "lgmres": 30, "gcrotmk": 20}  # iterations in what they count as one


class Method(NamedTuple):
    """How linear systems are solved."""

    solver: Any = "auto"  # a name, or solver(operator, b) -> x
    tol: float | None = None  # of the residual, relative to the right-hand side
    maxiter: int | None = None
    symmetric: bool = False  # and positive definite


def krylov(apply: Callable[[Any], Any], b: Any, method: Method, eps: float) -> Any:
    """Solve ``apply(u) = b`` for real vectors.

    Raises
    ------
    ParadualValueError
        If the iteration does not converge.
    """
    tol = method.tol if method.tol is not None else max(1e-10, 200 * eps)
    u, error = residual_of(apply, b, method._replace(tol=tol))
    if not error <= 10 * tol:
        name = method.solver if isinstance(method.solver, str) else "the linear solver"
        raise ParadualValueError(
            f"{name} did not solve the linear system of {b.size} unknowns: the residual is {error:.1e} of "
            f"the right-hand side, more than tol={tol:.1e} allows. Allow more iterations (maxiter), "
            "precondition (a function solver(operator, b)), or choose 'dense' if the matrix fits into memory"
        )
    return u


def residual_of(apply: Callable[[Any], Any], b: Any, method: Method) -> tuple[Any, float]:
    """What a solver finds for ``apply(u) = b``, and the norm of its residual relative to b."""
    size = float(np.linalg.norm(b))
    if size == 0:
        return np.zeros_like(b), 0.0
    u = _iterated(apply, b, method)
    if np.shape(u) != b.shape or np.asarray(u).dtype.kind not in "fiu":
        raise ParadualValueError(
            f"the linear solver returned an array of shape {np.shape(u)} and dtype {np.asarray(u).dtype} for "
            f"a real system of {b.size} unknowns"
        )
    return u, float(np.linalg.norm(apply(u) - b)) / size


def _iterated(apply: Callable[[Any], Any], b: Any, method: Method) -> Any:
    linalg = scipy_module("sparse.linalg", f"solver={method.solver!r}")
    operator = linalg.LinearOperator((b.size, b.size), matvec=apply, dtype=b.dtype)
    if callable(method.solver):
        return method.solver(operator, b)
    total = method.maxiter or max(1000, 2 * b.size)

    def run(name: str, start: Any = None) -> tuple[Any, int]:
        options = {"maxiter": -(-total // CYCLES.get(name, 1))}
        if name == "gmres":
            options["restart"] = min(b.size, CYCLES[name])
        found: tuple[Any, int] = getattr(linalg, name)(
            operator, b, start, rtol=method.tol, atol=0.0, **options
        )
        return found

    if method.solver != "auto":
        return run(method.solver)[0]
    u, failed = run("cg" if method.symmetric else "lgmres")
    # with many more vectors than lgmres keeps, and so more slowly
    return run("gmres", u)[0] if failed and not method.symmetric else u


def check_method(method: Method) -> Method:
    """Refuse a linear solver that there is not, before anything is computed."""
    if not callable(method.solver) and method.solver not in LINEAR:
        raise ParadualValueError(
            f"no linear solver {method.solver!r}: choose one of {', '.join(LINEAR)}, or a function "
            "solver(operator, b)"
        )
    return method


def scipy_module(name: str, what: str) -> Any:
    """A module of SciPy, which is optional."""
    return load(f"scipy.{name}", what, "scipy", "give a solver of your own")
