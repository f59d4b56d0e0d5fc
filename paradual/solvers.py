"""Finding solutions of equations, on plain values: solvers that have names, and those of users."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from paradual.arrays import is_complex, shape_of
from paradual.dual import is_inexact
from paradual.errors import ParadualError, ParadualTypeError, ParadualValueError
from paradual.implicit import DENSE, Leaves, as_like, plainly, ravel, solved, system_of, transposed, unravel
from paradual.krylov import Method, scipy_module
from paradual.lazy import is_lazy
from paradual.locality import on_device
from paradual.transforms import stop_gradient, value_and_grad
from paradual.trees import check_input, flatten, paths, unflatten

Function = Callable[..., Any]

WITHOUT_SLOPES = ("nelder-mead", "powell", "cobyla", "cobyqa")


@dataclass(frozen=True)
class Problem:
    """What a solver is given: plain values and functions, on which nothing is recorded."""

    name: str
    fn: Function  # of x alone
    bare: Function  # the same for those who differentiate it: what it has captured may be recorded
    levels: int  # the differentiations in progress where the solution is wanted
    residual: Function  # of the leaves of x
    start: Leaves
    structure: Any
    method: Method

    @property
    def single(self) -> bool:
        """Whether x is one array or number."""
        return bool(self.structure.is_leaf())

    def __call__(self, x: Any) -> Any:
        """The function for solvers that want vectors: of an x of any shape with the right size."""
        if not self.single or shape_of(x) == shape_of(self.start[0]):
            return self.fn(x)
        out = self.fn(np.reshape(x, shape_of(self.start[0])))
        return out if self.name == "minimize" else np.reshape(out, shape_of(x))


Find = Callable[[Problem], Leaves]


def start_of(name: str, x0: Any, params: tuple[Any, ...]) -> tuple[Leaves, Any]:
    """Where a solver starts, as plain leaves of floating-point type that nobody else writes to."""
    if is_lazy((x0, params)):
        raise ParadualTypeError(
            f"{name} solves at once, and cannot take a Dask collection: call it in a task, as "
            "dask.delayed(lambda p: paradual.root(fn, x0, p))(p), or compute the collection first"
        )
    leaves, structure = flatten(stop_gradient(x0))
    what = "b" if name == "linear_solve" else "x0"
    if any(map(on_device, flatten((x0, params))[0])):
        raise ParadualTypeError(
            f"{name} solves on the host, but {what} or a parameter is on a device: move it with "
            "paradual.to_device(x, 'cpu'), and the solution back"
        )
    for leaf, where in zip(leaves, paths(x0), strict=True):
        if isinstance(leaf, int) or getattr(getattr(leaf, "dtype", None), "kind", "") in ("i", "u", "b"):
            raise ParadualTypeError(
                f"{name}: {what}{where} has dtype {np.asarray(leaf).dtype}: the unknowns are floating-point "
                "values. Cast it, x0.astype(float), or write 1.0 instead of 1"
            )
        if is_inexact(leaf) and not hasattr(leaf, "mask") and leaf.__class__ is not np.matrix:
            continue
        check_input(leaf, f"{name}: {what}{where}")
    return [np.array(leaf) if isinstance(leaf, np.ndarray) else leaf for leaf in leaves], structure


def _wide(leaves: Leaves) -> Leaves:
    """The same in double precision at least, in which SciPy's solvers work."""
    return [
        leaf if isinstance(leaf, float | complex) else leaf.astype(np.result_type(leaf.dtype, np.float64))
        for leaf in leaves
    ]


# --- what comes out --------------------------------------------------------------------------------------


def _answer(raw: Any, problem: Problem) -> Leaves:
    """The leaves of what a solver returned: x, or SciPy's result object."""
    name = problem.name
    for flag, x in (("success", "x"), ("converged", "root")):
        if hasattr(raw, flag) and hasattr(raw, x):
            if not getattr(raw, flag):
                why = getattr(raw, "message", None) or getattr(raw, "flag", "")
                raise ParadualValueError(f"{name}: the solver says that it has not converged: {why}")
            raw = getattr(raw, x)
            break
    raw = stop_gradient(raw)
    parts, structure = ([raw], problem.structure) if problem.single else flatten(raw)
    if structure != problem.structure:
        raise ParadualValueError(
            f"{name}: the solver returned the structure {structure}, but x0 has {problem.structure}"
        )
    found = []
    for part, x0 in zip(parts, problem.start, strict=True):
        kind = getattr(np.asarray(part), "dtype", np.dtype(object)).kind
        if kind not in "iufc" or np.size(part) != np.size(x0):
            raise ParadualValueError(
                f"{name}: the solver returned a {type(part).__name__} of shape {np.shape(part)}, but x0 has "
                f"the shape {shape_of(x0)}: it must return x, or a result of SciPy's with the attribute x"
            )
        if kind == "c" and not is_complex(x0):
            raise ParadualTypeError(f"{name}: the solver returned complex values for a real x0")
        if not np.all(np.isfinite(part)):
            raise ParadualValueError(
                f"{name}: the solver returned values that are not finite: it has diverged"
            )
        found.append(as_like(part, x0))
    return found


def finder(solver: Any, named: Callable[[Problem, Any], Leaves]) -> Find:
    """A solver, the user's or one that has a name, as a function of the problem."""
    if solver is not None and not isinstance(solver, str) and not callable(solver):
        raise ParadualTypeError(
            f"solver={solver!r}: give the name of a method, or a function solver(f, x0) that returns x"
        )

    def find(problem: Problem) -> Leaves:
        if callable(solver):
            own = [np.array(leaf) if isinstance(leaf, np.ndarray) else leaf for leaf in problem.start]
            return _answer(solver(problem, unflatten(problem.structure, own)), problem)
        return named(problem, solver)

    return find


# --- solvers that have names -----------------------------------------------------------------------------


def _vectors(problem: Problem) -> tuple[Leaves, Function]:
    """The residual as SciPy wants it: of real vectors in double precision."""
    wide = _wide(problem.start)
    return wide, lambda v: ravel(problem.residual(*unravel(v, wide)))


def by_root(problem: Problem, name: Any) -> Leaves:
    wide, f = _vectors(problem)
    v = ravel(wide)
    optimize = scipy_module("optimize", f"{problem.name} with solver={name!r}")
    method = name or ("hybr" if v.size <= DENSE else "krylov")
    options = {} if name or method == "hybr" else {"fatol": 1e-10 * max(1.0, float(np.max(np.abs(f(v)))))}
    _check_name(problem.name, method, _ROOTS)
    result = optimize.root(f, v, method=method, options=options)
    if name is None:
        result.success = True  # what it has reached is looked at below, and improved
    found = _answer_vector(result, problem, wide)
    return found if name else _polished(problem, found)


_ROOTS = (
    *("hybr", "lm", "broyden1", "broyden2", "anderson", "linearmixing", "diagbroyden", "excitingmixing"),
    *("krylov", "df-sane"),
)


def _check_name(what: str, name: str, names: tuple[str, ...]) -> None:
    if name.lower() not in names:
        raise ParadualValueError(
            f"{what}: no solver {name!r}: choose one of {', '.join(names)}, or give a function solver(f, x0)"
        )


def _answer_vector(result: Any, problem: Problem, wide: Leaves) -> Leaves:
    """The leaves of a result of SciPy's that is one real vector."""
    if not result.success:
        raise ParadualValueError(
            f"{problem.name}: the solver says that it has not converged: {result.message}"
        )
    if not np.all(np.isfinite(result.x)):
        raise ParadualValueError(f"{problem.name}: the solver has diverged: its x is not finite")
    return [as_like(part, x0) for part, x0 in zip(unravel(result.x, wide), problem.start, strict=True)]


def _polished(problem: Problem, leaves: Leaves) -> Leaves:
    """A solution after a few steps of Newton's method, as long as they improve it."""
    rest = problem.residual(*leaves)
    with suppress(ParadualError), np.errstate(all="ignore"):  # then it is good as it is, or refused later
        for _ in range(3):
            system = transposed(system_of(problem.residual, leaves, problem.method))
            steps = solved(system, list(rest))
            better = [as_like(x - step, x) for x, step in zip(leaves, steps, strict=True)]
            after = problem.residual(*better)
            if not np.linalg.norm(ravel(after)) < 0.5 * np.linalg.norm(ravel(rest)):
                break
            leaves, rest = better, after
    return leaves


def by_iteration(problem: Problem, name: Any) -> Leaves:
    """Iterate the map, by default with Anderson's acceleration (Walker and Ni, SINUM 49, 2011)."""
    if name not in (None, "anderson", "iteration"):
        raise ParadualValueError(
            f"fixed_point: no solver {name!r}: choose 'anderson' or 'iteration', or give a function "
            "solver(f, x0)"
        )
    depth = 0 if name == "iteration" else 5
    wide, f = _vectors(problem)
    x = best = ravel(wide)
    rest = f(x)
    least, since = float(np.linalg.norm(rest)), 0
    xs: Leaves = []
    rests: Leaves = []
    for _ in range(5000):
        if not np.isfinite(least) or least == 0 or since > 20:
            break
        step = rest
        if xs:
            gamma = np.linalg.lstsq(np.stack(rests, axis=-1), rest, rcond=None)[0]
            step = rest - (np.stack(xs, axis=-1) + np.stack(rests, axis=-1)) @ gamma
        new = x + step
        new_rest = f(new)
        size = float(np.linalg.norm(new_rest))
        if not np.isfinite(size) or (xs and size > 10 * least):
            xs, rests = [], []  # the acceleration has gone astray: from the best point without it
            new = best + f(best) if xs or depth else new
            new_rest = f(new)
            size = float(np.linalg.norm(new_rest))
            if not np.isfinite(size):
                break
        elif depth:
            xs, rests = [*xs, new - x][-depth:], [*rests, new_rest - rest][-depth:]
        x, rest = new, new_rest
        since = 0 if size < 0.99 * least else since + 1
        if size < least:
            best, least = x, size
    return [as_like(part, x0) for part, x0 in zip(unravel(best, wide), problem.start, strict=True)]


def by_minimize(problem: Problem, name: Any) -> Leaves:
    wide = _wide(problem.start)
    v = ravel(wide)
    optimize = scipy_module("optimize", f"minimize with solver={name!r}")

    def of_leaves(*leaves: Any) -> Any:
        return problem.bare(unflatten(problem.structure, leaves))

    both = plainly(value_and_grad(of_leaves, argnums=tuple(range(len(wide)))), problem.levels)

    def f(v: Any) -> Any:
        value, slopes = both(*unravel(v, wide))
        return float(value), ravel(slopes).astype(float)

    if name is not None:
        _check_name("minimize", name, _MINIMIZERS)
        if name.lower() in WITHOUT_SLOPES:
            return _answer_vector(
                optimize.minimize(
                    lambda v: float(problem.fn(unflatten(problem.structure, unravel(v, wide)))),
                    v,
                    method=name,
                ),
                problem,
                wide,
            )
        return _answer_vector(optimize.minimize(f, v, method=name, jac=True), problem, wide)
    if v.size <= DENSE:
        result = optimize.minimize(f, v, method="BFGS", jac=True, options={"gtol": 1e-8})
    else:
        options = {"gtol": 1e-8, "ftol": 1e-15}
        result = optimize.minimize(f, v, method="L-BFGS-B", jac=True, options=options)
    result.success = True  # it may have stopped where roundoff ends: the gradient there is looked at
    return _polished(problem, _answer_vector(result, problem, wide))


_MINIMIZERS = (*WITHOUT_SLOPES, "cg", "bfgs", "l-bfgs-b", "tnc", "slsqp", "newton-cg")
