"""The row where an equation is solved: what the derivative of the solution costs beside the solution."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.optimize

import paradual as pdl

from .measure import HAND, OURS, Bar, Line, check, interleaved


def bratu(u: Any, source: Any) -> Any:
    """The residual of ``laplacian(u) + source exp(u) = 0`` on a square, zero at its border."""
    m = source.shape[0]
    p = np.pad(np.reshape(u, (m, m)), ((1, 1), (1, 1)))
    inside = p[1:-1, 1:-1]
    laplacian = p[2:, 1:-1] + p[:-2, 1:-1] + p[1:-1, 2:] + p[1:-1, :-2] - 4.0 * inside
    return np.reshape(laplacian + source * np.exp(inside) / (m + 1) ** 2, -1)


def by_hand(u: Any, source: Any) -> Any:
    """The gradient of ``sum(u^2)``: the adjoint equation, with the Jacobian as a dense matrix."""
    m = source.shape[0]
    line = np.eye(m, k=1) + np.eye(m, k=-1) - 2.0 * np.eye(m)
    growth = np.exp(u) / (m + 1) ** 2
    jacobian = np.kron(line, np.eye(m)) + np.kron(np.eye(m), line) + np.diag(source.ravel() * growth)
    return np.reshape(-np.linalg.solve(jacobian.T, 2.0 * u) * growth, source.shape)


SOLVERS: dict[str, Callable[[Any, Any], Any]] = {
    "scipy.optimize.root": scipy.optimize.root,
    "the same, krylov": lambda f, x0: scipy.optimize.root(f, x0, method="krylov", options={"fatol": 1e-10}),
}


def implicit(systems: list[Any], quick: bool) -> list[Line]:
    """The gradient of a function of the root of about 1,000 equations: an elliptic problem, 32 x 32."""
    del systems
    m = 6 if quick else 32
    source = np.random.default_rng(0).uniform(0.5, 1.5, (m, m))
    lines = []
    for name, solver in SOLVERS.items():

        def solve(solver: Any = solver) -> Any:
            return solver(lambda u: bratu(u, source), np.zeros(m * m)).x

        def loss(source: Any, solver: Any = solver) -> Any:
            return np.sum(pdl.root(bratu, np.zeros(m * m), source, solver=solver) ** 2)

        def gradient(loss: Any = loss) -> Any:
            return pdl.value_and_grad(loss)(source)[1]

        def hand(solve: Any = solve) -> Any:
            return by_hand(solve(), source)

        check("implicit", OURS, [gradient()], [hand()], rtol=1e-5)
        times = interleaved({OURS: gradient, HAND: hand, "solve": solve}, 2 if quick else 7)
        primal = times.pop("solve")
        bars = [Bar(1.5)] if solver is scipy.optimize.root else []
        ratios = {system: t / primal for system, t in times.items()}
        lines.append(Line("implicit", f"gradient / solution, {m * m:,} unknowns, {name}", ratios, bars))
    return lines
