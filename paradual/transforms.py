"""Functions in, derivatives out: `vjp`, `jvp`, and what is made of them."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any

import numpy as np

from paradual.arrays import form_of, is_buffer, is_complex, shape_of, zeros
from paradual.dual import DUALS, Dual, position, primal
from paradual.errors import InternalError, ParadualTypeError, ParadualValueError
from paradual.held import can_change
from paradual.jobs import ROOT
from paradual.lazy import LazyPullback, independent, is_lazy, lazy_jvp, lazy_value_and_grad
from paradual.locality import on_device, one_like
from paradual.reverse import reverse
from paradual.rules.modes import fit_tangent
from paradual.tape import ACTIVE, INPUT, Slot, Tape, add_leaf
from paradual.trees import check_cotangent, check_input, finish, flatten, is_array, paths, unflatten
from paradual.work import run

Function = Callable[..., Any]
Argnums = int | Sequence[int]


def _differentiation() -> str:
    return uuid.uuid4().hex  # unlike a counter, unique among all processes


# --- reverse mode -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Pullback:
    """The reverse pass of one evaluation: takes a cotangent of the result to those of the primals.

    It is plain data, so it pickles; it is not changed by use, so it may be called many times and from
    many threads.
    """

    last: Tape
    slots: tuple[Slot | None, ...]  # of the leaves of the result; None for a constant
    forms: tuple[Any, ...]
    structure: Any
    inputs: tuple[Any, ...]  # (form, like) of each leaf of the primals
    input_structure: Any
    likes: tuple[Any, ...]  # of leaves of the result on a device, something small that is there too

    def __call__(self, cotangent: Any) -> tuple[Any, ...]:
        """Pull a cotangent back.

        Parameters
        ----------
        cotangent : pytree
            Structure, shapes and dtypes of the result.

        Returns
        -------
        tuple
            The cotangent of each primal.

        Raises
        ------
        ParadualValueError, ParadualTypeError
            If structure, shapes or dtypes do not match.
        """
        leaves, structure = flatten(cotangent)
        if structure != self.structure:
            raise ParadualValueError(
                f"the cotangent has the structure {structure}, but the result has {self.structure}"
            )
        seeds = [
            (slot, check_cotangent(g, form, where, like))
            for slot, form, g, where, like in zip(
                self.slots, self.forms, leaves, paths(cotangent), self.likes, strict=True
            )
            if slot is not None
        ]
        return self._pull(seeds)

    def _pull(self, seeds: list[tuple[Slot, Any]], consume: bool = False) -> tuple[Any, ...]:
        found = reverse(self.last, seeds, own=True, consume=consume)
        leaves = [
            finish(found.pop((INPUT, k), None), form, like) for k, (form, like) in enumerate(self.inputs)
        ]
        if found:
            raise InternalError(f"cotangents were left over for the slots {sorted(found, key=str)}")
        result: tuple[Any, ...] = unflatten(self.input_structure, leaves)
        return result


def _evaluate(
    fn: Function, primals: tuple[Any, ...], numbers: list[int] | None = None
) -> tuple[Any, Pullback]:
    """Run a function on duals: its result, taken apart, and its pullback."""
    differentiation = _differentiation()
    tape = Tape((differentiation, ROOT), [])
    leaves, structure = flatten(primals)
    duals, inputs = [], []
    for k, leaf in enumerate(leaves):
        if not isinstance(leaf, float | Dual) and not (type(leaf) is np.ndarray and leaf.dtype.kind in "fc"):
            check_input(leaf, _where(primals, k, numbers))
        form = form_of(leaf)
        duals.append(Dual(_own(leaf), tape.home, add_leaf(tape, (INPUT, k), form)))
        inputs.append((form, _like(leaf)))
    out, last = run(tape, fn, *unflatten(structure, duals))
    results, out_structure = flatten(out)
    values: list[Any] = []
    slots: list[Slot | None] = []
    for leaf in results:
        if leaf.__class__ in DUALS and leaf.home[0] == differentiation:
            slots.append((leaf.home[1], leaf.place))
            values.append(leaf.value)
        else:
            if leaf.__class__ in DUALS:
                position(leaf, ACTIVE.get())  # of another differentiation in progress, or a leaked one
            slots.append(None)
            values.append(leaf)
    forms = tuple(form_of(v) if is_array(v) else None for v in values)
    likes = tuple([_like(v) if on_device(v) else None for v in values])
    pullback = Pullback(last, tuple(slots), forms, out_structure, tuple(inputs), structure, likes)
    return unflatten(out_structure, values), pullback


def _own(leaf: Any) -> Any:
    """An input that the caller's `x += 1` or `x[:] = 0` does not change."""
    if leaf.__class__ in DUALS:
        return leaf.__copy__()
    return leaf.copy(order="K") if is_buffer(leaf) and can_change(leaf) else leaf


def _fresh(t: Any) -> Any:
    """A tangent that the user may write to: neither a view nor what was given."""
    return t.copy(order="K") if is_buffer(t) else t


def _like(leaf: Any) -> Any:
    """Something small that says on which device the zeros of an input belong."""
    leaf = primal(leaf)
    return leaf[:0].copy() if is_buffer(leaf) and leaf.ndim else leaf


def _where(primals: tuple[Any, ...], k: int, numbers: list[int] | None = None) -> str:
    """Name the k-th leaf of some arguments, as one would write it."""
    path = paths(primals)[k]
    first, bracket, rest = path[1:].partition("]")
    number = int(first) if numbers is None else numbers[int(first)]
    return f"argument {number}{rest}" if bracket else f"argument {path}"


def vjp(fn: Function, *primals: Any) -> tuple[Any, Any]:
    """Evaluate a function and get its pullback.

    Parameters
    ----------
    fn : callable
        A function of arrays, or pytrees of them.
    *primals : pytree
        Where to evaluate it; arrays of float or complex dtype, floats.

    Returns
    -------
    tuple
        The result, and ``pullback(cotangent)``, which returns a tuple with the cotangent of each
        primal: shape and dtype are the primal's.  It may be called many times, from many threads, and
        pickles.

    Raises
    ------
    ParadualTypeError
        If a primal is not of a floating-point type.

    Notes
    -----
    The sweep of Smeding and Vakar (JFP 2025).  The cotangent of a complex z = x + iy stands for
    df/dx - i df/dy.

    Examples
    --------
    >>> import numpy as np
    >>> out, pullback = vjp(lambda x, y: x * y, np.array([1.0, 2.0]), 3.0)
    >>> out
    array([3., 6.])
    >>> pullback(np.array([1.0, 10.0]))
    (array([ 3., 30.]), 21.0)
    """
    if is_lazy(primals):
        primals = independent(primals)
        out = fn(*primals)
        return out, LazyPullback(out, primals)
    out, pullback = _evaluate(fn, primals)
    # what the caller does with the result must not reach what the tape has kept
    leaves, structure = flatten(out)
    owned = [leaf.copy(order="K") if is_buffer(leaf) else _own(leaf) for leaf in leaves]
    return unflatten(structure, owned), pullback


def value_and_grad(fn: Function, argnums: Argnums = 0, has_aux: bool = False) -> Function:
    """A function that returns the value of ``fn`` and its gradient, in one forward pass.

    Parameters
    ----------
    fn : callable
        A function whose result is a real scalar.
    argnums : int or sequence of int
        Which positional arguments to differentiate with respect to.
    has_aux : bool
        Whether ``fn`` returns ``(value, aux)`` with something that is not differentiated.

    Returns
    -------
    callable
        With the arguments of ``fn``; returns ``(value, gradient)``, or ``((value, aux), gradient)``.
        The gradient is a tuple if ``argnums`` is a sequence.  For Dask collections it is lazy.

    Raises
    ------
    ParadualTypeError, ParadualValueError
        When called, if the result is not a real scalar, or an argument not of floating-point type.

    Examples
    --------
    >>> import numpy as np
    >>> value_and_grad(lambda x: (x**2).sum())(np.array([1.0, 2.0]))
    (np.float64(5.0), array([2., 4.]))
    """

    @wraps(fn)
    def value_and_gradient(*args: Any, **kwargs: Any) -> Any:
        places = positions(argnums, len(args))
        primals = tuple(args[k] for k in places)
        aux: list[Any] = []

        def restricted(*active: Any) -> Any:
            full = list(args)
            for k, arg in zip(places, active, strict=True):
                full[k] = arg
            out = fn(*full, **kwargs)
            if has_aux:
                if not isinstance(out, tuple) or len(out) != 2:
                    raise ParadualTypeError("with has_aux=True the function must return (value, aux)")
                out, extra = out
                aux.append(extra)
                for leaf in flatten(extra)[0]:
                    if leaf.__class__ in DUALS:
                        _ = leaf.place  # a view of what was written derives its slot now
            return out

        if is_lazy(primals, (args, kwargs)):
            primals = independent(primals)
            value, gradients = lazy_value_and_grad(restricted(*primals), primals)
            if has_aux:
                value = (value, aux[-1])
            return value, gradients[0] if isinstance(argnums, int) else gradients
        value, pullback = _evaluate(restricted, primals, places)
        check_loss(value)
        slot = pullback.slots[0]
        one = 1.0 if pullback.forms[0] is float else one_like(value)
        gradients = pullback._pull([(slot, one)] if slot is not None else [], consume=True)
        if has_aux:
            value = (value, _detach(aux[-1], pullback.last.home[0]))
        return value, gradients[0] if isinstance(argnums, int) else gradients

    return value_and_gradient


def grad(fn: Function, argnums: Argnums = 0, has_aux: bool = False) -> Function:
    """A function that returns the gradient of ``fn``; parameters as `value_and_grad`.

    Returns
    -------
    callable
        With the arguments of ``fn``; returns the gradient, or ``(gradient, aux)``.

    Examples
    --------
    >>> grad(lambda x: x**3)(2.0)
    12.0
    >>> grad(grad(lambda x: x**3))(2.0)
    12.0
    """
    both = value_and_grad(fn, argnums, has_aux)

    @wraps(fn)
    def gradient(*args: Any, **kwargs: Any) -> Any:
        value, g = both(*args, **kwargs)
        return (g, value[1]) if has_aux else g

    return gradient


def positions(argnums: Argnums, n: int) -> list[int]:
    numbers = [argnums] if isinstance(argnums, int) else list(argnums)
    for k in numbers:
        if not -n <= k < n:
            raise ParadualValueError(
                f"argnums={argnums} asks for argument {k}, but the function was called with {n} "
                "positional arguments"
            )
    found = [k % n for k in numbers]
    if len(set(found)) < len(found):
        raise ParadualValueError(f"argnums={argnums} names an argument twice")
    return found


def check_loss(value: Any, name: str = "grad") -> None:
    """Refuse the result of a function that has no gradient."""
    if not is_array(value):
        raise ParadualTypeError(
            f"{name} needs a function whose result is a real number, but it returned a "
            f"{type(value).__name__}: with several results use vjp, or has_aux=True for (value, aux)"
        )
    if shape_of(value) != ():
        raise ParadualValueError(
            f"{name} needs a function whose result is a single number, but it has shape "
            f"{shape_of(value)}: sum it, or use vjp with a cotangent, or jacobian"
        )
    if isinstance(value, int) or getattr(getattr(value, "dtype", None), "kind", "f") in "iub":
        raise ParadualTypeError(
            f"{name} needs a function whose result is a floating-point number, but it is a "
            f"{getattr(value, 'dtype', type(value).__name__)}: an integer is a constant, and so is what "
            "np.argmax, int() or a comparison returns"
        )
    if is_complex(value):
        raise ParadualTypeError(
            f"{name} needs a function whose result is real, but it is complex: take its real part or its "
            "square modulus, or use vjp"
        )


def _detach(tree: Any, differentiation: Any) -> Any:
    leaves, structure = flatten(tree)
    return unflatten(
        structure,
        [x.value if x.__class__ in DUALS and x.home[0] == differentiation else x for x in leaves],
    )


# --- forward mode -------------------------------------------------------------------------------------


def jvp(fn: Function, primals: Any, tangents: Any) -> tuple[Any, Any]:
    """Evaluate a function and its derivative along a direction: forward mode.

    Nothing is recorded: memory does not depend on how long the program runs.

    Parameters
    ----------
    fn : callable
        A function of arrays, or pytrees of them.
    primals : tuple
        Its arguments.
    tangents : tuple
        A direction: for each argument a tangent of the same structure and shapes.

    Returns
    -------
    tuple
        The result and its tangent.

    Raises
    ------
    ParadualValueError, ParadualTypeError
        If structure, shapes or dtypes of the tangents do not match.

    Examples
    --------
    >>> jvp(lambda x: x**3, (2.0,), (1.0,))
    (8.0, 12.0)
    """
    if not isinstance(primals, tuple | list):
        primals, tangents = (primals,), (tangents,)
    primals, tangents = tuple(primals), tuple(tangents)
    if is_lazy(primals):
        primals = independent(primals)
        return lazy_jvp(fn(*primals), primals, tangents)
    leaves, structure = flatten(primals)
    directions, tangent_structure = flatten(tangents)
    if structure != tangent_structure:
        raise ParadualValueError(
            f"the tangents have the structure {tangent_structure}, but the primals have {structure}"
        )
    tape = Tape((_differentiation(), ROOT))
    duals = []
    for k, (leaf, t) in enumerate(zip(leaves, directions, strict=True)):
        check_input(leaf, _where(primals, k))
        t = check_cotangent(t, form_of(leaf), f" (a tangent) of {_where(primals, k)}", leaf)
        duals.append(Dual(_own(leaf), tape.home, t))
    out, _ = run(tape, fn, *unflatten(structure, duals))
    results, out_structure = flatten(out)
    values, tangent_out = [], []
    for leaf in results:
        if leaf.__class__ in DUALS and leaf.home[0] == tape.home[0]:
            values.append(leaf.value)
            tangent_out.append(_fresh(fit_tangent(leaf.place, leaf.value)))
        else:
            if leaf.__class__ in DUALS:
                position(leaf, ACTIVE.get())
            values.append(leaf)
            tangent_out.append(zeros(form_of(leaf), leaf) if is_array(leaf) else leaf)
    return unflatten(out_structure, values), unflatten(out_structure, tangent_out)


def hvp(fn: Function, primals: Any, vectors: Any) -> Any:
    """The Hessian of a scalar function times a vector: forward over reverse.

    Parameters
    ----------
    fn : callable
        A function whose result is a real scalar.
    primals, vectors : tuple
        Its arguments, and a direction for each (or one argument and its direction by themselves).

    Returns
    -------
    tuple
        For each argument its part of the product (or the product by itself).

    Examples
    --------
    >>> hvp(lambda x, y: x**2 * y, (3.0, 5.0), (1.0, 0.0))
    (10.0, 6.0)
    """
    if not isinstance(primals, tuple | list):
        return hvp(fn, (primals,), (vectors,))[0]
    gradient = grad(fn, argnums=tuple(range(len(primals))))
    return jvp(gradient, tuple(primals), tuple(vectors))[1]


def stop_gradient(x: Any) -> Any:
    """The same value as a constant: no derivative flows through it.

    Parameters
    ----------
    x : pytree
        Values, differentiated or not.

    Returns
    -------
    pytree
        Plain arrays and numbers.

    Examples
    --------
    >>> grad(lambda x: x * stop_gradient(x))(3.0)
    3.0
    """
    leaves, structure = flatten(x)
    return unflatten(structure, [_stopped(leaf) for leaf in leaves])


def _stopped(leaf: Any) -> Any:
    plain = primal(leaf) if leaf.__class__ in DUALS else leaf
    return plain.copy(order="K") if plain is not leaf and is_buffer(plain) else plain
