"""What the tables of `test_graphs_operations` are made of: one decision for each name of dask.array.

A name is ``"cumsum"``, ``"linalg.svd"``, ``"Array.cumsum"`` or ``"Array.__add__"``.  It is differentiable
(it has a case that differentiates it), constant (a case shows that nothing flows through it), refused (a
case shows the error), or one of those in `OTHER`, which compute no array from another.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np

Chunks = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Operation:
    """A call of an operation of Dask, differentiated in all of its arguments.

    ``lazy`` takes Dask arrays, cut into ``chunks``, and returns one or several; ``plain``, if there is
    such a function, does the same with NumPy arrays.
    """

    name: str
    label: str
    lazy: Callable[..., Any]
    plain: Callable[..., Any] | None
    args: tuple[Any, ...]
    chunks: tuple[Chunks, ...]
    error: str = ""  # of a refused operation: what the message must say

    @property
    def id(self) -> str:
        return f"{self.name}-{self.label}" if self.label else self.name


DIFFERENTIABLE: list[Operation] = []
CONSTANT: list[Operation] = []
REFUSED: list[Operation] = []
REFUSED_USES: list[Operation] = []  # of operations that are differentiable otherwise


def cut(shape: tuple[int, ...]) -> Chunks:
    """Several chunks of different sizes along each axis."""
    return tuple({0: (0,), 1: (1,), 2: (2,), 3: (2, 1), 4: (1, 3)}.get(n, (2, n - 3, 1)) for n in shape)


def whole(shape: tuple[int, ...]) -> Chunks:
    """One chunk."""
    return tuple((n,) for n in shape)


def lazy(
    name: str,
    f: Callable[..., Any],
    *args: Any,
    label: str = "",
    chunks: Any = None,
    plain: Callable[..., Any] | None = None,
    table: list[Operation] = DIFFERENTIABLE,
    error: str = "",
) -> None:
    """Add a call of a function of Dask; ``chunks`` are those of the first argument, or a list of all."""
    given = list(chunks) if isinstance(chunks, list) else [chunks]
    given += [None] * (len(args) - len(given))
    arrays = tuple(np.asarray(x) for x in args)
    cuts = tuple(
        cut(x.shape) if c is None else da.core.normalize_chunks(c, x.shape)
        for x, c in zip(arrays, given, strict=True)
    )
    table.append(Operation(name, label, f, plain, arrays, cuts, error))


def both(name: str, f: Callable[..., Any], *args: Any, **options: Any) -> None:
    """Add a call that is written once, for a module of functions: dask.array or NumPy."""
    lazy(name, functools.partial(f, da), *args, plain=functools.partial(f, np), **options)


def constant(
    name: str, f: Callable[..., Any], *args: Any, table: list[Operation] = CONSTANT, **options: Any
) -> None:
    """Add a call whose results carry no derivative: they stay as they are in a product with the argument."""

    def product(m: Any, x: Any, *rest: Any) -> Any:
        results = f(m, x, *rest)
        results = results if isinstance(results, tuple | list) else [results]
        return [m.sum(x) * m.sum(r.astype(x.dtype)) for r in results]

    lazy(name, functools.partial(product, da), *args, table=table, **options)


def refused(
    name: str,
    error: str,
    f: Callable[..., Any],
    *args: Any,
    table: list[Operation] = REFUSED,
    **options: Any,
) -> None:
    """Add a call that must fail, with a message that says this."""
    lazy(name, f, *args, table=table, error=error, **options)
