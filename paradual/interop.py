"""Functions of other libraries as single steps: `from_jax` and `from_torch`.

The tape holds the function, its arguments and its results; the reverse pass calls it again, with the
library's own derivative.  A derivative is a function of that library too, ``("pull", ...)`` or
``("push", ...)`` of the one before, and is recorded in the same way: so derivatives nest to any order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial, update_wrapper
from typing import Any

import numpy as np

from paradual.arrays import dispatch, shape_of
from paradual.dual import DUALS, duals_in, is_inexact, primal
from paradual.errors import ParadualTypeError, ParadualValueError, user_line
from paradual.labels import is_labelled
from paradual.libraries import JAX, TORCH, Library, loaded, on_cupy
from paradual.rules.modes import fit_tangent
from paradual.rules.registry import general
from paradual.trees import flatten, flatten_outer, unflatten

Function = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Program:
    """What a step computes, as data: a function with its constant arguments, and derivatives of it."""

    library: str
    fn: Function
    structure: Any  # of the arguments
    constants: tuple[tuple[int, Any], ...]  # which of the leaves are not values, and what they are
    steps: tuple[tuple[str, Any], ...] = ()  # ("pull", which arguments) or ("push", which), innermost first


_LIBRARIES = {"jax": JAX, "torch": TORCH}


def from_jax(fn: Function) -> Function:
    """Make a function of JAX arrays one of NumPy arrays, differentiated by JAX as a single step.

    Parameters
    ----------
    fn : callable
        A function of JAX arrays, or pytrees of them; best decorated with ``jax.jit``.  It does the same
        each time, and uses what is being differentiated through its arguments only.

    Returns
    -------
    callable
        Arrays and floats among its arguments (NumPy or CuPy, shapes and dtypes as they are) reach
        ``fn`` as JAX arrays, in double precision unless all are in a lower one, whatever the setting
        ``jax_enable_x64``; all else as it is.  Its results are NumPy arrays and scalars, or CuPy arrays
        if an argument is one.

    Raises
    ------
    ParadualImportError
        If JAX is not installed.
    ParadualTypeError
        When called: if a result has a dtype that NumPy lacks, or a lower precision than all arguments;
        if ``fn`` uses a value that is being differentiated and is not an argument.

    Notes
    -----
    Reverse mode is ``jax.vjp``, forward mode ``jax.jvp``, both of a second evaluation of ``fn``: the
    tape keeps its arguments and results, and no residuals.  Integers are constants.  For a complex
    z = x + iy the gradient is df/dx - i df/dy, as JAX has it.

    Examples
    --------
    >>> import numpy as np, paradual as pdl
    >>> import jax.numpy as jnp  # doctest: +SKIP
    >>> square = pdl.from_jax(lambda x: jnp.sum(x * x))  # doctest: +SKIP
    >>> pdl.grad(square)(np.array([1.0, 2.0]))  # doctest: +SKIP
    array([2., 4.])
    """
    return _wrapped("jax", fn)


def from_torch(fn: Function) -> Function:
    """Make a function of PyTorch tensors one of NumPy arrays, differentiated by PyTorch as a single step.

    Parameters
    ----------
    fn : callable
        A function of tensors, or pytrees of them; a module too.  It does the same each time (no
        dropout), and uses what is being differentiated through its arguments only.

    Returns
    -------
    callable
        Arrays and floats among its arguments (NumPy or CuPy, shapes and dtypes as they are) reach
        ``fn`` as tensors, on the CPU or where CuPy has them; all else as it is.  Its results are NumPy
        arrays and scalars, or CuPy arrays if an argument is one.

    Raises
    ------
    ParadualImportError
        If PyTorch is not installed.
    ParadualTypeError
        When called: if a result has a dtype that NumPy lacks, or a lower precision than all arguments;
        if ``fn`` uses a value that is being differentiated and is not an argument; if a result was
        detached from the arguments and its derivative is asked for.
    ParadualValueError
        In the derivative, if ``fn`` gave other results when it was called again.

    Notes
    -----
    Reverse mode is ``torch.autograd``, forward mode ``torch.func.jvp``, both of a second evaluation of
    ``fn``: the tape keeps its arguments and results, and no residuals.  Integers and parameters of a
    module are constants; give parameters as arguments with ``torch.func.functional_call``.  For a
    complex z = x + iy the gradient is df/dx - i df/dy, the conjugate of PyTorch's.

    Examples
    --------
    >>> import numpy as np, paradual as pdl
    >>> square = pdl.from_torch(lambda x: (x * x).sum())  # doctest: +SKIP
    >>> pdl.grad(square)(np.array([1.0, 2.0]))  # doctest: +SKIP
    array([2., 4.])
    """
    return _wrapped("torch", fn)


def _wrapped(library: str, fn: Function) -> Function:
    if not callable(fn):
        raise ParadualTypeError(f"from_{library} needs a function, not a {type(fn).__name__}")
    loaded(_LIBRARIES[library])
    return update_wrapper(partial(_apply, library, fn), fn, updated=())  # a module's __dict__ is its own


def _apply(library: str, fn: Function, /, *args: Any, **kwargs: Any) -> Any:
    """Call a function of a library: its arrays are operands of the step, the rest is its program."""
    for leaf in flatten_outer((args, kwargs))[0]:
        _check_argument(library, leaf)
    leaves, structure = flatten((args, kwargs))
    values = [leaf for leaf in leaves if _is_value(leaf)]
    constants = tuple((k, leaf) for k, leaf in enumerate(leaves) if not _is_value(leaf))
    *results, out_structure = step(values, Program(library, fn, structure, constants))
    return unflatten(out_structure, results)


def _is_value(leaf: Any) -> bool:
    """Whether a leaf of the arguments is an array or number that the library gets as an array."""
    if leaf.__class__ in DUALS or isinstance(leaf, float | complex):
        return True
    return (isinstance(leaf, np.ndarray | np.generic) or on_cupy(leaf)) and leaf.dtype.kind in "fciub"


def _check_argument(library: str, leaf: Any) -> None:
    cure = ""
    if is_labelled(leaf):
        cure = "pass its data, x.values, and put the labels on the result"
    elif hasattr(leaf, "__dask_graph__"):
        cure = "call the function in a task, with x.map_blocks(f) or dask.delayed(f)(x)"
    elif isinstance(leaf, np.ma.MaskedArray | np.matrix) or hasattr(leaf, "tocsr"):
        cure = "pass a plain array (for a masked one its data and its mask)"
    if cure:
        raise ParadualTypeError(
            f"a function made with from_{library} got a {type(leaf).__name__}{user_line()}: {cure}"
        )


# --- the step -------------------------------------------------------------------------------------------


def step(leaves: list[Any], program: Program) -> tuple[Any, ...]:
    """Run a program: its results, and their structure (None for a derivative), which is no array."""
    out = dispatch(step, leaves, (leaves, program))
    if out is not NotImplemented:
        return out
    library = _LIBRARIES[program.library]
    loaded(library)
    with library.scope(leaves):
        arrays = [_entered(library, leaf) for leaf in leaves]
        structures: list[Any] = []
        found = _run(library, program, len(program.steps), arrays, structures)
        results = [_left(library, program, y, leaves) for y in found]
    return (*results, None if program.steps else structures[0])


def _run(library: Library, program: Program, k: int, xs: list[Any], structures: list[Any]) -> list[Any]:
    """The results of a program's first k derivatives: all, or those of floats where it goes on."""
    outermost = k == len(program.steps)
    if k == 0:
        return _call(library, program, xs, structures, outermost)
    kind, which = program.steps[k - 1]

    def f(*ys: Any) -> list[Any]:
        return _run(library, program, k - 1, list(ys), structures)

    n, first = len(which), k == 1
    if kind == "push":
        tangents, outs = library.jvp(f, xs[:n], which, xs[n:], first)
        return [*tangents, *outs]
    mixed = any(other == "push" for other, _ in program.steps)
    cotangents, outs = library.vjp(f, xs[:n], which, xs[n:], first, outermost, mixed)
    return [*cotangents, *outs]


def _call(library: Library, program: Program, xs: list[Any], structures: list[Any], kept: bool) -> list[Any]:
    """The results of the function itself; where it is differentiated, those of floats."""
    constants, values = dict(program.constants), iter(xs)
    n = len(constants) + len(xs)
    args, kwargs = unflatten(
        program.structure, [constants[k] if k in constants else next(values) for k in range(n)]
    )
    results, structure = flatten(program.fn(*args, **kwargs))
    structures.append(structure)
    for y in results:
        _check_result(library, program, y)
    return [y for y in results if kept or (library.is_own(y) and library.dtype(y).kind in "fc")]


def _name(program: Program) -> str:
    fn = program.fn
    return f"{getattr(fn, '__name__', type(fn).__name__)}, a function of {_LIBRARIES[program.library].name},"


def _check_result(library: Library, program: Program, y: Any) -> None:
    if next(duals_in([y]), None) is not None:
        raise ParadualTypeError(
            f"{_name(program)} uses a value that is being differentiated and is not one "
            "of its arguments: pass it as an argument"
        )
    if library.is_own(y):
        if library.dtype(y) is None:
            raise ParadualTypeError(
                f"{_name(program)} returned an array of dtype {y.dtype}, which "
                "NumPy does not have: cast it to float32 or float64"
            )
    elif not isinstance(y, int | str):  # what carries no derivative anyway
        raise ParadualTypeError(
            f"{_name(program)} returned a {type(y).__module__}.{type(y).__name__}: its "
            f"results must be arrays of {library.name} (or integers and text), in tuples, lists, dicts or "
            "dataclasses, for it is these that have a derivative there"
        )


def _entered(library: Library, leaf: Any) -> Any:
    try:
        x = library.enter(leaf)
    except ParadualTypeError:
        raise
    except (TypeError, ValueError) as error:
        raise ParadualTypeError(
            f"{library.name} cannot hold an argument of dtype {leaf.dtype}: cast it to float64 or float32"
        ) from error
    if is_inexact(leaf) and hasattr(leaf, "dtype") and library.dtype(x) != leaf.dtype.newbyteorder("="):
        raise ParadualTypeError(
            f"{library.name} turned an argument of dtype {leaf.dtype} into {library.dtype(x)}: its precision "
            "would be lost"
        )
    return x


def _left(library: Library, program: Program, y: Any, leaves: list[Any]) -> Any:
    """A result as an array of its own; loud where it has lost the precision of the arguments."""
    if not library.is_own(y):
        return y
    dtype = library.dtype(y)
    if dtype.kind in "fc":
        widths = [np.finfo(leaf.dtype).bits for leaf in leaves if is_inexact(leaf) and hasattr(leaf, "dtype")]
        if not widths:  # of Python floats
            widths = [64 for leaf in leaves if is_inexact(leaf)]
        if widths and np.finfo(dtype).bits < min(widths):
            raise ParadualTypeError(
                f"{_name(program)} returned {dtype} for arguments of float{min(widths)}: "
                "it casts to a lower precision within. Cast the arguments, x.astype(np.float32), or nothing"
            )
    if any(on_cupy(leaf) for leaf in leaves):
        import cupy

        return cupy.from_dlpack(library.detach(y)).copy()  # not memory that the library may use again
    return library.leave(y)[()]


def _derivative(
    program: Program, kind: str, which: Any, leaves: list[Any], more: list[Any], out: Any
) -> list[Any]:
    """The results of a derivative, after a look whether the program has given the same as before."""
    *found, _ = step([*leaves, *more], replace(program, steps=(*program.steps, (kind, which))))
    before = [y for y in out if is_inexact(y)]
    n = sum(which) if kind == "pull" else len(before)
    if len(found) != n + len(before) or not all(map(_same, before, found[n:])):
        raise ParadualValueError(
            f"{_name(program)} gave other results when it was called again "
            "for its derivative: it must do the same each time (no dropout: module.eval(); random "
            "numbers as arguments; no state that changes)"
        )
    return found[:n]


def _same(before: Any, after: Any) -> bool:
    """Whether results agree up to what another order of additions explains; NaN is the same as NaN."""
    before, after = primal(before), primal(after)
    if shape_of(before) != shape_of(after) or before.dtype != after.dtype:
        return False
    with np.errstate(all="ignore"):
        tolerance = np.finfo(before.dtype).eps ** 0.5 * np.max(
            np.abs(before), initial=0, where=np.isfinite(before)
        )
        close = np.abs(before - after) <= tolerance
        return bool(np.all(close | (before == after) | (np.isnan(before) & np.isnan(after))))


def _pull(g: Any, leaves: list[Any], program: Program, out: Any, active: Any) -> list[Any]:
    seeds = [part for part, y in zip(g, out, strict=True) if is_inexact(y)]
    found = iter(_derivative(program, "pull", active, leaves, seeds, out))
    return [next(found) if on else None for on in active]


def _push(t: Any, leaves: list[Any], program: Program, out: Any) -> list[Any]:
    which = tuple(is_inexact(leaf) for leaf in leaves)
    tangents = [fit_tangent(part, leaf) for part, leaf, on in zip(t, leaves, which, strict=True) if on]
    if not any(is_inexact(y) for y in out):
        return [None] * len(out)
    found = iter(_derivative(program, "push", which, leaves, tangents, out))
    return [next(found) if is_inexact(y) else None for y in out]


general(step, _pull, _push)

__all__ = ["from_jax", "from_torch"]
