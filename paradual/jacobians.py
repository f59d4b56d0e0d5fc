"""Whole derivative matrices, row by row or column by column."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import wraps
from typing import Any

import numpy as np

from paradual.arrays import PYTHON_SCALARS, form_of, is_complex, shape_of, zeros
from paradual.dual import primal
from paradual.errors import ParadualTypeError, ParadualValueError
from paradual.lazy import is_lazy
from paradual.tasks import Task, call_all, current
from paradual.transforms import Argnums, Function, grad, jvp, positions, vjp
from paradual.trees import flatten, unflatten


def jacobian(fn: Function, argnums: Argnums = 0, mode: str = "auto") -> Function:
    """A function that returns the Jacobian of ``fn``.

    Parameters
    ----------
    fn : callable
        A function of arrays, or pytrees of them.
    argnums : int or sequence of int
        Which positional arguments to differentiate with respect to.
    mode : str
        ``"reverse"``: one pullback for each element of the result, over one recorded evaluation;
        ``"forward"``: one pushforward for each element of the arguments; ``"auto"``: whichever needs
        fewer.

    Returns
    -------
    callable
        With the arguments of ``fn``; the Jacobian has shape ``(*result.shape, *argument.shape)``.  For
        pytrees it is a pytree of the result's structure with pytrees of the argument's in its leaves.
        For a real result and a complex argument z = x + iy it holds df/dx - i df/dy.

    Raises
    ------
    ParadualValueError
        When called, if a complex result is no holomorphic function of a complex argument: then no
        single complex number is its derivative.

    Examples
    --------
    >>> import numpy as np
    >>> jacobian(lambda x: x**2)(np.array([1.0, 2.0]))
    array([[2., 0.],
           [0., 4.]])
    """
    if mode not in ("auto", "reverse", "forward"):
        raise ParadualValueError(f"mode={mode!r}: choose 'auto', 'reverse' or 'forward'")

    @wraps(fn)
    def jacobian_of(*args: Any, **kwargs: Any) -> Any:
        places = positions(argnums, len(args))
        primals = tuple(args[k] for k in places)

        def restricted(*active: Any) -> Any:
            full = list(args)
            for k, arg in zip(places, active, strict=True):
                full[k] = arg
            return fn(*full, **kwargs)

        if is_lazy(primals):
            raise ParadualTypeError(
                "the Jacobian of a Dask collection has no chunks of its own: use paradual.vjp or "
                "paradual.gradients for products with it, or compute the collection first"
            )
        build = _forward_rows if mode == "forward" else _reverse_rows
        leaves, structure = flatten(primals)
        out, rows = build(restricted, primals, mode)
        results, out_structure = flatten(out)
        blocks = []
        for k, result in enumerate(results):
            shape = shape_of(result)
            part = [
                np.reshape(rows[k][j], (*shape, *shape_of(leaf))) if shape + shape_of(leaf) else rows[k][j]
                for j, leaf in enumerate(leaves)
            ]
            tree = unflatten(structure, part)
            blocks.append(tree[0] if isinstance(argnums, int) else tree)
        return unflatten(out_structure, blocks)

    return jacobian_of


def _size(x: Any) -> int:
    return int(np.prod(shape_of(x), dtype=int))


def _units(leaf: Any) -> Iterator[Any]:
    """The unit vectors of an array's space, one after the other."""
    form = form_of(leaf)
    if shape_of(leaf) == ():
        yield 1.0 if form in PYTHON_SCALARS else form[1].type(1)
        return
    for k in range(_size(leaf)):
        unit = np.zeros_like(primal(leaf))
        unit[np.unravel_index(k, form[0])] = 1
        yield unit


def _reverse_rows(fn: Function, primals: Any, mode: str) -> tuple[Any, list[list[Any]]]:
    out, pullback = vjp(fn, *primals)
    results, _ = flatten(out)
    leaves, _ = flatten(primals)
    if mode == "auto" and sum(map(_size, results)) > sum(map(_size, leaves)):
        return _forward_rows(fn, primals, mode)

    def row(slot: Any, unit: Any, result: Any) -> list[Any]:
        found = flatten(pullback._pull([(slot, unit)] if slot is not None else []))[0]
        if is_complex(result) and slot is not None:  # that was the real part; now the imaginary part
            imaginary = flatten(pullback._pull([(slot, -1j * unit)]))[0]
            found = [
                _holomorphic(d, 1j * e) if is_complex(leaf) else d + 1j * e
                for d, e, leaf in zip(found, imaginary, leaves, strict=True)
            ]
        return found

    each = list(zip(pullback.slots, results, strict=True))
    calls = [(slot, unit, result) for slot, result in each for unit in _units(result)]
    if pullback.last.past:  # a program with tasks: replays of its tapes, side by side
        found: Iterator[Any] = iter(
            call_all([Task(row, call, label="row") for call in calls], current().near)
        )
    else:
        found = itertools.starmap(row, calls)
    rows = []
    for _, result in each:
        block = list(itertools.islice(found, _size(result)))
        rows.append([_stacked([part[j] for part in block], result, leaf) for j, leaf in enumerate(leaves)])
    return out, rows


def _holomorphic(d: Any, e: Any) -> Any:
    """The derivative, taken along the real and along the imaginary axis; they must agree."""
    a, b = primal(d), primal(e)
    size = np.max(np.abs(a), initial=0.0) + np.max(np.abs(b), initial=0.0)
    if not np.allclose(a, b, rtol=0, atol=size * np.finfo(np.result_type(a)).eps ** 0.5, equal_nan=True):
        raise ParadualValueError(
            "jacobian of a complex function of a complex argument that is not holomorphic: it has no "
            "complex derivative. Take the Jacobians of np.real(f(z)) and np.imag(f(z)), or write f as a "
            "function of the real and imaginary parts of z"
        )
    return d


def _stacked(parts: list[Any], result: Any, leaf: Any) -> Any:
    if not parts:
        return np.zeros((0, *shape_of(leaf)), np.result_type(primal(leaf)))
    return parts[0] if shape_of(result) == () else np.stack(parts)


def _forward_rows(fn: Function, primals: Any, mode: str) -> tuple[Any, list[list[Any]]]:
    leaves, structure = flatten(primals)
    columns: list[list[Any]] = []  # [leaf][element]: the leaves of the tangent of the result
    out: Any = None
    for j, leaf in enumerate(leaves):
        columns.append([])
        for unit in _units(leaf):
            direction = [unit if i == j else zeros(form_of(x), x) for i, x in enumerate(leaves)]
            out, t = jvp(fn, primals, unflatten(structure, direction))
            column = flatten(t)[0]
            if is_complex(leaf):
                direction[j] = 1j * unit
                along = flatten(jvp(fn, primals, unflatten(structure, direction))[1])[0]
                column = [
                    _holomorphic(d, -1j * e) if is_complex(result) else d - 1j * e
                    for d, e, result in zip(column, along, flatten(out)[0], strict=True)
                ]
            columns[j].append(column)
    if out is None:  # no element at all to differentiate with respect to
        out = fn(*primals)
    results, _ = flatten(out)
    rows: list[list[Any]] = []
    for k, result in enumerate(results):
        rows.append([])
        for j, leaf in enumerate(leaves):
            parts = [column[k] for column in columns[j]]
            if not parts:
                rows[k].append(np.zeros((*shape_of(result), 0), np.result_type(primal(result))))
            else:
                rows[k].append(parts[0] if shape_of(leaf) == () else np.stack(parts, axis=-1))
    return out, rows


def hessian(fn: Function, argnums: int = 0) -> Function:
    """A function that returns the Hessian of a scalar function.

    Returns
    -------
    callable
        With the arguments of ``fn``; the Hessian has shape ``(*x.shape, *x.shape)``.

    Examples
    --------
    >>> import numpy as np
    >>> hessian(lambda x: x[0] ** 2 * x[1])(np.array([3.0, 5.0]))
    array([[10.,  6.],
           [ 6.,  0.]])
    """
    return jacobian(grad(fn, argnums), argnums, mode="reverse")
