"""Derivatives of what an equation defines, by the implicit function theorem: `attach`, and linear systems.

A solution x of ``residual(x) = 0`` was found by any means.  With A = d residual / dx there, the Newton
step ``x - A^-1 residual(x)`` does not change its value; taken on duals, it gives x its derivative: the
tangent is ``-A^-1`` that of the residual, and a cotangent g of x is one ``-A^-T g`` of the residual
(Griewank and Walther, Evaluating Derivatives, 2nd ed., chapter 15).  The residual is recorded as any
other operation, so values that its function has captured get their derivatives too.

With nested differentiations the step is taken once for each, from the outermost to the innermost, and each
evaluates the residual at the x that has the derivatives of those before it: what an earlier step leaves of
the error is of second order in the next one's infinitesimal, which is none.

A is kept as data, the pullback of the residual, and where the system is small the inverse of its matrix.
The linear system of a reverse pass is an equation too, and its solution gets its derivatives in the same
way.  Complex arrays count as pairs of real ones, so that a residual need not be holomorphic.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from typing import Any, NamedTuple

import numpy as np

from paradual.apply import record_step
from paradual.arrays import PYTHON_SCALARS, form_of, is_complex, shape_of, zeros
from paradual.dual import DUALS, Dual, duals_in, import_dual, is_inexact, position, primal
from paradual.errors import InternalError, ParadualValueError
from paradual.inplace import nothing
from paradual.krylov import FALLBACK, Method, krylov, residual_of
from paradual.rules.modes import fit_tangent
from paradual.rules.registry import RULES, Rule
from paradual.tape import ACTIVE, Tape
from paradual.tasks import executor
from paradual.transforms import Pullback, vjp
from paradual.trees import flatten, unflatten
from paradual.work import without

Leaves = list[Any]
Residual = Callable[..., tuple[Any, ...]]  # of the leaves of x, as many leaves of the same shapes

DENSE = 200  # unknowns up to which a matrix is built at once, and default solvers keep one


class System(NamedTuple):
    """A linear map as data: ``pull`` applies it; both are of leaves to leaves of the same shapes."""

    pull: Pullback
    inverse: Any  # of its matrix, or None
    method: Method
    varies: bool  # whether it depends on what outer differentiations differentiate


# --- real vectors ---------------------------------------------------------------------------------------


def ravel(leaves: Any) -> Any:
    """Plain leaves as one real vector; of a complex one first the real parts."""
    parts: Leaves = []
    for leaf in leaves:
        flat = np.reshape(leaf, -1)
        parts += [flat.real, flat.imag] if is_complex(flat) else [flat]
    return np.concatenate(parts) if parts else np.zeros(0)


def unravel(vector: Any, like: Any) -> Leaves:
    """The leaves of a real vector, with the shapes and types of others."""
    leaves, k = [], 0
    for leaf in like:
        n = math.prod(shape_of(leaf))
        part = vector[k : k + n]
        k += n
        if is_complex(leaf):
            part = part + 1j * vector[k : k + n]
            k += n
        leaves.append(as_like(part, leaf))
    return leaves


def as_like(value: Any, like: Any) -> Any:
    """A plain value with the shape and the type of another: a number stays a number."""
    if isinstance(like, float | complex) and not isinstance(like, np.generic):
        return type(like)(np.reshape(value, ()))
    shaped = np.reshape(value, shape_of(like))
    return like.dtype.type(shaped) if isinstance(like, np.generic) else np.array(shaped, like.dtype)


def _signs(like: Any) -> Any:
    """What makes of the real vector of a cotangent (df/dx - i df/dy) the real gradient."""
    parts = []
    for leaf in like:
        one = np.ones(math.prod(shape_of(leaf)))
        parts += [one, -one] if is_complex(leaf) else [one]
    return np.concatenate(parts) if parts else np.zeros(0)


def eps_of(leaves: Any) -> float:
    """The roundoff of the coarsest of some leaves."""
    return max((float(np.finfo(np.result_type(primal(leaf))).eps) for leaf in leaves), default=0.0)


# --- the differentiations in progress -------------------------------------------------------------------


@contextmanager
def quiet(first: int = 1, last: int | None = None) -> Iterator[frozenset[Any]]:
    """Let what some of the differentiations in progress record go to tapes that are dropped.

    Parameters
    ----------
    first, last : int
        Their positions: from ``first`` to before ``last``.

    Yields
    ------
    frozenset
        Their names, for `paradual.work.without`.
    """
    before = ACTIVE.get()
    last = len(before) if last is None else last
    scratch = []
    for tape in before[first:last]:
        job = (*tape.home[1], "aside", tape.forks, 0)
        tape.forks += 1
        scratch.append(tape if tape.records is None else Tape((tape.home[0], job), []))
    ACTIVE.set((*before[:first], *scratch, *before[last:]))
    try:
        yield frozenset(tape.home[0] for tape in scratch)
    finally:
        now = ACTIVE.get()
        ACTIVE.set((*now[:first], *before[first:last], *now[last:]))


def tried(fn: Callable[..., Any], *args: Any) -> Any:
    """Call a function that may have captured what is being differentiated, and may write into its arguments.

    An array that it makes like x can hold a derivative only if x can: so if it fails, once more with
    arguments that can, as constants.
    """
    leaves, structure = flatten(args)
    try:
        return fn(*unflatten(structure, [copy(leaf) for leaf in leaves]))
    except (TypeError, ValueError):
        if len(ACTIVE.get()) == 1:
            raise
        return fn(*unflatten(structure, [_lifted(copy(leaf)) for leaf in leaves]))


def _lifted(leaf: Any) -> Any:
    """An array as a constant of all differentiations in progress."""
    if shape_of(leaf) == () or not is_inexact(leaf):
        return leaf
    tapes = ACTIVE.get()
    start = position(leaf, tapes) + 1 if leaf.__class__ in DUALS else 1
    for tape in tapes[start:]:
        leaf = Dual(leaf, *nothing(tape, leaf))
    return leaf


def plainly(fn: Callable[..., Any], levels: int) -> Callable[..., Any]:
    """A function as a solver sees it: of plain values, with nothing recorded.

    Parameters
    ----------
    fn : callable
        A function that may capture values that are being differentiated.
    levels : int
        How many differentiations were in progress where the solver was called; the solver may begin
        others.
    """

    def plain(*args: Any) -> Any:
        with quiet(1, levels) as gone:
            return without(tried(fn, *args), gone)

    return plain if levels > 1 else fn


def _above(leaf: Any, depth: int) -> Any:
    """A value as the differentiation at a depth sees it: without those within."""
    tapes = ACTIVE.get()
    while leaf.__class__ in DUALS and position(leaf, tapes) > depth:
        leaf = leaf.value
    return leaf


def _next(leaves: Any, done: int) -> int:
    """The outermost differentiation, below those that are done, that a value belongs to; 0 for none."""
    tapes = ACTIVE.get()
    found = 0
    for leaf in leaves:
        while leaf.__class__ in DUALS:
            depth = position(leaf, tapes)
            if depth > done:
                found = min(found or depth, depth)
            leaf = leaf.value
    return found


# --- the step -------------------------------------------------------------------------------------------


def attach(
    residual: Residual,
    leaves: Leaves,
    method: Method,
    known: System | None = None,
    inspect: Callable[[System], None] | None = None,
) -> Leaves:
    """Give a solution of an equation the derivatives that the equation implies.

    Parameters
    ----------
    residual : callable
        A function of the leaves of x, which returns leaves of the same shapes.
    leaves : list of array
        Plain values at which it is zero.
    method : Method
        How linear systems are solved.
    known : System, optional
        The same linear map where it was looked at before: its inverse, and that it is not singular.
    inspect : callable, optional
        Looks at each system before it is used; raises where it is not what it should be.

    Returns
    -------
    list
        The same values, as duals of every differentiation that the residual depends on.

    Raises
    ------
    ParadualValueError
        If the Jacobian is singular.
    """
    done = 0
    if len(ACTIVE.get()) == 1:
        return leaves
    parts = tried(residual, *leaves)
    while depth := _next(parts, done):
        system = _system_at(residual, leaves, depth, method, known)
        if inspect is not None:
            inspect(system)
        leaves = _stepped(system, leaves, [_above(part, depth) for part in parts], depth)
        done = depth
        if _next(parts, done):
            parts = tried(residual, *leaves)
    return leaves


def _stepped(system: System, leaves: Leaves, parts: Leaves, depth: int) -> Leaves:
    tape = ACTIVE.get()[depth]
    ours = [part.__class__ in DUALS and part.home[0] == tape.home[0] for part in parts]
    if tape.records is None:
        tangents = [
            part.place if on else zeros(form_of(part), primal(part))
            for part, on in zip(parts, ours, strict=True)
        ]
        found = solved(transposed(system), tangents)
        return [Dual(x, tape.home, fit_tangent(-t, x)) for x, t in zip(leaves, found, strict=True)]
    places = tuple(
        (part.place if part.home == tape.home else import_dual(part, tape)) if on else None
        for part, on in zip(parts, ours, strict=True)
    )
    return record_step(tape, _newton, leaves, ((places, 0, (system,)),))


def _newton(*args: Any) -> Any:
    raise InternalError("the rule of an implicit step is its pullback alone")


def _newton_pull(g: Any, system: System) -> Leaves:
    return [-part for part in solved(system, list(g))]


RULES[_newton] = Rule("general", _newton, pulls=(_newton_pull,), joint=True)

# --- linear systems -------------------------------------------------------------------------------------


def _system_at(residual: Residual, leaves: Leaves, depth: int, method: Method, known: Any) -> System:
    """The transposed Jacobian as the differentiation at a depth sees it: those outside it are in it."""
    outer = frozenset(tape.home[0] for tape in ACTIVE.get()[1:depth])
    with quiet(depth) as gone, executor("inline"):
        _, pull = vjp(residual, *leaves)
        pull = without(pull, gone)
        varies = False
        if outer:  # by what it returns: a function on the tape may have captured what is not seen on it
            with quiet(1, depth):
                given = tuple(unravel(np.ones(ravel(_results(pull)).size), _results(pull)))
                varies = any(dual.home[0] in outer for dual in duals_in(without(pull(given), gone)))
    inverse = known.inverse if known is not None else None
    if inverse is None and dense(method, leaves):
        inverse = inverted(pull)
    if inverse is None and known is None and not _regular(pull, method):
        if method.solver != "auto" or ravel(_results(pull)).size > FALLBACK:
            raise ParadualValueError(
                "the Jacobian of the equation is singular at its solution, or too ill-conditioned for "
                f"linear={method.solver!r}: it did not come near the solution of a linear system with a "
                "random right-hand side. Precondition (a function solver(operator, b)), allow more "
                "iterations (maxiter), or choose 'dense' if the matrix fits into memory"
            )
        inverse = inverted(pull)
    return System(pull, inverse, method, varies)


def _regular(pull: Pullback, method: Method) -> bool:
    """Whether a system with a random right-hand side has a solution: no singular one has, though it may
    have many for the right-hand sides that come up.

    What a null vector of a matrix of n unknowns leaves of a random vector is about n^-1/2 of it.
    """
    gone = frozenset(tape.home[0] for tape in ACTIVE.get()[1:])
    n = ravel(_results(pull)).size
    b = np.random.default_rng(0).standard_normal(n)
    tol = 1e-2 / n**0.5
    with quiet(1):
        return residual_of(applied(without(pull, gone), gone), b, method._replace(tol=tol))[1] <= 2 * tol


def system_of(residual: Residual, leaves: Leaves, method: Method) -> System:
    """The transposed Jacobian at plain values, for those who solve."""
    return _system_at(residual, leaves, 1, method, None)


def _results(pull: Pullback) -> Leaves:
    """Zeros of the form of what a pullback takes."""
    return [form(0) if form in PYTHON_SCALARS else np.zeros(*form)[()] for form in pull.forms]


def transposed(system: System) -> System:
    """The transpose of a linear map: the pullback of its pullback."""

    def pulled(*v: Any) -> Any:
        return system.pull(v)

    like = _results(system.pull)
    with executor("inline"):
        _, pull = vjp(pulled, *like)
    return System(pull, _turned(system.inverse, like), system.method, system.varies)


def _turned(inverse: Any, like: Leaves) -> Any:
    """The transpose of a real matrix with respect to the pairing ``Re(sum(g * t))``."""
    if inverse is None:
        return None
    signs = _signs(like)
    return signs[:, None] * inverse.T * signs


def solved(system: System, b: Leaves) -> Leaves:
    """The solution u of ``system.pull(u) = b``, with its derivatives with respect to both."""
    gone = frozenset(tape.home[0] for tape in ACTIVE.get()[1:])
    like = _results(system.pull)
    right = ravel([primal(part) for part in b]).astype(float)
    u = unravel(_solve(system, right, eps_of(like), gone), like)
    if not system.varies and next(duals_in(b), None) is None:
        return u

    def residual(*v: Any) -> tuple[Any, ...]:
        return tuple(p - q for p, q in zip(system.pull(v), b, strict=True))

    known = system._replace(inverse=_turned(system.inverse, like))
    return attach(residual, u, system.method, known)


def _solve(system: System, b: Any, eps: float, gone: frozenset[Any]) -> Any:
    """The plain real vector u with ``pull(u) = b``."""
    if not np.all(np.isfinite(b)):
        return np.full_like(b, np.nan)  # A^-1 is full: no element is known
    if system.inverse is not None:
        return system.inverse @ b
    with quiet(1):
        pull = without(system.pull, gone) if system.varies else system.pull
        try:
            return krylov(applied(pull, gone), b, system.method, eps)
        except ParadualValueError:
            if system.method.solver != "auto" or b.size > FALLBACK:
                raise
            return inverted(pull) @ b


def correction(system: System, rest: Any) -> float:
    """About how far the Newton step for a residual leads, as far as it is known cheaply."""
    gone = frozenset(tape.home[0] for tape in ACTIVE.get()[1:])
    like = _results(system.pull)
    if system.inverse is not None:
        return float(np.max(np.abs(_turned(system.inverse, like) @ rest)))
    with quiet(1):
        signs = np.sign(np.random.default_rng(0).uniform(-1, 1, rest.size))
        across = float(np.linalg.norm(applied(without(system.pull, gone), gone)(signs)))
    # the norm of A^T times random signs is about A's Frobenius norm
    return float(np.linalg.norm(rest)) / across if across else np.inf


def applied(pull: Pullback, gone: frozenset[Any]) -> Callable[[Any], Any]:
    """A plain linear map of leaves, of real vectors."""
    like = _results(pull)

    def apply(v: Any) -> Any:
        return ravel(without(pull(tuple(unravel(v, like))), gone)).astype(float)

    return apply


def dense(method: Method, leaves: Leaves) -> bool:
    """Whether a matrix is to be built."""
    n = ravel([primal(leaf) for leaf in leaves]).size
    return method.solver == "dense" or (method.solver == "auto" and n <= DENSE)


def inverted(pull: Pullback) -> Any:
    """The inverse of the real matrix of a pullback, column by column.

    Raises
    ------
    ParadualValueError
        If it is singular to working precision, or not finite.
    """
    gone = frozenset(tape.home[0] for tape in ACTIVE.get()[1:])
    like = _results(pull)
    with quiet(1):
        apply = applied(without(pull, gone), gone)
        unit = np.zeros(ravel(like).size)
        columns = []
        for k in range(unit.size):
            unit[k] = 1
            columns.append(apply(unit))
            unit[k] = 0
    matrix = np.stack(columns, axis=-1)
    if not np.all(np.isfinite(matrix)):
        raise ParadualValueError(
            "the Jacobian of the equation is not finite at its solution, so the solution has no derivative: "
            "look for a division by zero, a root or a logarithm of zero in the function"
        )
    try:
        inverse = np.linalg.inv(matrix)
    except np.linalg.LinAlgError:
        raise singular() from None
    condition = float(np.linalg.norm(matrix, 1) * np.linalg.norm(inverse, 1))
    if not condition * eps_of(like) < 0.1:
        raise singular(f" (its condition number is {condition:.1e})")
    return inverse


def singular(why: str = "") -> ParadualValueError:
    return ParadualValueError(
        f"the Jacobian of the equation is singular at its solution{why}: the solution is not isolated, or is "
        "a multiple root, and has no derivative. Add the equation that is missing, or write the residual "
        "such that its root is simple"
    )
