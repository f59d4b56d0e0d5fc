"""Pytrees: nested tuples, lists, dicts and dataclasses of arrays, taken apart and put together by optree."""

from __future__ import annotations

import copyreg
import dataclasses
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, cast

import numpy as np
import optree

from paradual.arrays import PYTHON_SCALARS, fit, is_buffer, shape_of, zeros
from paradual.dual import Dual
from paradual.errors import ParadualTypeError, ParadualValueError
from paradual.labels import is_labelled, is_labelled_type, put_together, take_apart
from paradual.locality import bare, on_device

NAMESPACE = "paradual"


def _entries(node: Any) -> tuple[tuple[Any, ...], type, tuple[str, ...]]:
    names = tuple(f.name for f in dataclasses.fields(node))
    return tuple(getattr(node, name) for name in names), type(node), names


_MET: set[type] = {float, np.ndarray, Dual}  # types that were looked at


def _meet(node: Any) -> bool:
    """Register a dataclass or xarray class the first time one is seen; never a leaf because of that."""
    kind = type(node)
    if kind not in _MET:
        _register(kind)
    return False


def _register(kind: type) -> None:
    _MET.add(kind)
    with suppress(ValueError):  # it is registered already
        if is_labelled_type(kind):
            optree.register_pytree_node(cast(Any, kind), take_apart, put_together, namespace=NAMESPACE)
        elif dataclasses.is_dataclass(kind) and not optree.is_structseq_class(kind):
            optree.register_pytree_node(cast(Any, kind), _entries, _build, namespace=NAMESPACE)


def _build(kind: Any, values: Any) -> Any:
    node: Any = object.__new__(kind)  # not through __init__, which may compute and check
    for f, value in zip(dataclasses.fields(kind), values, strict=True):
        object.__setattr__(node, f.name, value)
    return node


def _kinds(structure: optree.PyTreeSpec) -> Iterator[type]:
    if structure.type is not None:
        yield structure.type
    for child in structure.children():
        yield from _kinds(child)


def _reduce(structure: optree.PyTreeSpec) -> Any:
    if structure.namespace != NAMESPACE:
        return structure.__reduce_ex__(2)
    return _restore, (tuple(dict.fromkeys(_kinds(structure))), structure.__getstate__())


def _restore(kinds: tuple[type, ...], state: Any) -> optree.PyTreeSpec:
    """A structure in a process that may never have seen its classes."""
    for kind in kinds:
        _register(kind)
    structure = optree.PyTreeSpec.__new__(optree.PyTreeSpec)
    structure.__setstate__(state)  # type: ignore[attr-defined]
    return structure


copyreg.pickle(optree.PyTreeSpec, _reduce)


def flatten(tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> tuple[list[Any], optree.PyTreeSpec]:
    """The leaves of a pytree and its structure."""
    return optree.tree_flatten(tree, is_leaf=is_leaf or _meet, namespace=NAMESPACE)


def flatten_outer(tree: Any) -> tuple[list[Any], optree.PyTreeSpec]:
    """As `flatten`, with xarray objects as leaves: with their labels they say what belongs to them."""
    return flatten(tree, lambda node: _meet(node) or is_labelled(node))


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


def is_array(value: Any) -> bool:
    """Whether a leaf is a number or an array."""
    return isinstance(value, int | float | complex) or hasattr(value, "dtype")


def check_cotangent(g: Any, form: Any, where: str = "", like: Any = None) -> Any:
    """A cotangent from outside, with the shape and dtype of its primal, on the device of ``like``, if any.

    Raises
    ------
    ParadualValueError
        If the shape is another.
    ParadualTypeError
        If the dtype cannot be cast safely (Python numbers can), or it is not on the device of its primal.
    """
    shape, dtype = ((), np.dtype(form)) if form in PYTHON_SCALARS else form
    if isinstance(g, list | tuple):
        g = np.asarray(g)
    if not hasattr(g, "dtype") and not isinstance(g, int | float | complex):
        raise ParadualTypeError(f"a cotangent{where} cannot be a {type(g).__name__}")
    if shape_of(g) != shape:
        raise ParadualValueError(
            f"the cotangent{where} has shape {shape_of(g)}, but the result it belongs to has {shape}"
        )
    weak = type(g) in (int, bool, float) or (type(g) is complex and dtype.kind == "c")
    if not weak and not np.can_cast(getattr(g, "dtype", np.dtype(type(g))), dtype, "safe"):
        raise ParadualTypeError(
            f"the cotangent{where} has dtype {getattr(g, 'dtype', type(g).__name__)}, but the result it "
            f"belongs to has {dtype}: cast it, g.astype({dtype.name!r})"
        )
    if weak and on_device(like):
        return np.zeros_like(bare(like), shape=(), dtype=dtype) + g
    if weak:
        return form(g) if form in PYTHON_SCALARS else dtype.type(g)
    if on_device(g) != on_device(like):
        raise ParadualTypeError(_ELSEWHERE.format(f"the cotangent{where}", *_sides(g, like)))
    return fit(g, form)


_ELSEWHERE = "{} lies on {}, but the value it belongs to on {}: move it, paradual.to_device(g, {!r})"


def _sides(g: Any, like: Any) -> tuple[str, str, str]:
    host, device = ("the host", "cpu"), ("a device", "cuda")
    there, here = device if on_device(g) else host, device if on_device(like) else host
    return there[0], here[0], here[1]


def finish(g: Any, form: Any, like: Any) -> Any:
    """A cotangent as the user gets it: of the primal's own type; zeros if there is none."""
    if g is None:
        g = zeros(form, like)
    elif form not in PYTHON_SCALARS:
        g = fit(g, form)
    if hasattr(g, "place"):
        return g + 0j if form is complex and g.dtype.kind != "c" else g
    if form in PYTHON_SCALARS:
        return form(g) if isinstance(g, np.generic | np.ndarray | int | float | complex) else g
    if is_buffer(like):
        if type(like) is not np.ndarray and is_buffer(g) and on_device(g) != on_device(like):
            raise ParadualTypeError(_ELSEWHERE.format("a cotangent that a pullback found", *_sides(g, like)))
        return g if is_buffer(g) else np.asarray(g)
    return form[1].type(g) if not is_buffer(g) or type(g) is np.ndarray else g
