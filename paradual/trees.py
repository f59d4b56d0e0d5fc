"""Pytrees: nested tuples, lists, dicts and dataclasses of arrays, taken apart and put together by optree."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import optree

from paradual.dual import Dual
from paradual.errors import ParadualTypeError

NAMESPACE = "paradual"


def _entries(node: Any) -> tuple[tuple[Any, ...], type, tuple[str, ...]]:
    names = tuple(f.name for f in dataclasses.fields(node))
    return tuple(getattr(node, name) for name in names), type(node), names


def _meet(node: Any) -> bool:
    """Register a dataclass the first time one is seen; never a leaf because of that."""
    kind = type(node)
    if dataclasses.is_dataclass(kind) and not optree.is_structseq_class(kind):
        try:
            optree.register_pytree_node(
                kind, _entries, lambda cls, values: _build(cls, values), namespace=NAMESPACE
            )
        except ValueError:
            pass  # it is registered already
    return False


def _build(kind: type, values: Any) -> Any:
    node = object.__new__(kind)  # not through __init__, which may compute and check
    for f, value in zip(dataclasses.fields(kind), values, strict=True):  # type: ignore[arg-type]
        object.__setattr__(node, f.name, value)
    return node


def flatten(tree: Any) -> tuple[list[Any], optree.PyTreeSpec]:
    """The leaves of a pytree and its structure."""
    return optree.tree_flatten(tree, is_leaf=_meet, namespace=NAMESPACE)


def unflatten(structure: optree.PyTreeSpec, leaves: Any) -> Any:
    """Put a pytree together again."""
    return optree.tree_unflatten(structure, leaves)


def paths(tree: Any) -> list[str]:
    """For each leaf of a pytree, how to get at it, as one would write it."""
    accessors, _, _ = optree.tree_flatten_with_accessor(tree, is_leaf=_meet, namespace=NAMESPACE)
    return [accessor.codify("") for accessor in accessors]


def check_input(leaf: Any, where: str) -> None:
    """Refuse what cannot be differentiated with respect to.

    Raises
    ------
    ParadualTypeError
        For integers, booleans, text, objects, masked arrays and matrices.
    """
    if isinstance(leaf, float | complex | Dual):
        return
    dtype = getattr(leaf, "dtype", None)
    kind = getattr(dtype, "kind", None)
    if isinstance(leaf, np.ma.MaskedArray | np.matrix):
        raise ParadualTypeError(
            f"{where} is a {type(leaf).__name__}, whose arithmetic has rules of its own: pass a plain "
            "array (for a masked one its data and its mask, and select with np.where)"
        )
    if kind in ("i", "u", "b") or isinstance(leaf, int):
        raise ParadualTypeError(
            f"{where} has dtype {dtype or type(leaf).__name__}: derivatives are taken with respect to "
            "floating-point values. Cast it, x.astype(float) or 1.0 instead of 1, or leave it out of "
            "the arguments named by argnums"
        )
    if kind not in ("f", "c"):
        raise ParadualTypeError(
            f"{where} is a {type(leaf).__name__}{f' of dtype {dtype}' if dtype is not None else ''}: "
            "derivatives are taken with respect to floats and arrays of floats, in any nesting of "
            "tuples, lists, dicts and dataclasses. Leave it out of the arguments named by argnums"
        )
