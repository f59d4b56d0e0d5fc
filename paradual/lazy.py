"""What vjp, grad and jvp do with Dask collections; their results are collections."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from paradual.errors import ParadualTypeError, ParadualValueError
from paradual.graphs import gradients, listed, tangents, value_and_gradients
from paradual.labels import bare
from paradual.taskgraph import is_collection
from paradual.trees import flatten_outer, unflatten
from paradual.writing import renamed


@dataclass(frozen=True, slots=True)
class LazyPullback:
    """The pullback of a function of Dask collections; its results are collections."""

    out: Any
    primals: tuple[Any, ...]

    def __call__(self, cotangent: Any) -> tuple[Any, ...]:
        """Pull a cotangent, of collections or arrays in the structure of the result, back."""
        outs, structure = flatten_outer(self.out)
        given = _matched(structure, cotangent, "the cotangent", "the result")
        ins, in_structure = flatten_outer(self.primals)
        result: tuple[Any, ...] = unflatten(in_structure, gradients(outs, ins, given))
        return result


def _matched(structure: Any, given: Any, what: str, whose: str) -> list[Any]:
    """What is given for each collection: for a Delayed that may be a container itself."""
    try:
        found: list[Any] = structure.flatten_up_to(given)
    except ValueError as error:
        raise ParadualValueError(
            f"{what} has the structure {flatten_outer(given)[1]}, but {whose} {structure}: {error}"
        ) from error
    return found


def is_lazy(primals: tuple[Any, ...], others: Any = ()) -> bool:
    """Whether to differentiate with respect to Dask collections."""
    found = [is_collection(leaf) for leaf in flatten_outer(primals)[0]]
    if any(found) and not all(found):
        raise ParadualTypeError(
            "some of the differentiated arguments are Dask collections and some are not: wrap the others, "
            "with dask.array.from_array or dask.delayed"
        )
    if not any(found) and any(is_collection(leaf) for leaf in flatten_outer(others)[0]):
        raise ParadualTypeError(
            "a function of Dask collections is differentiated with respect to plain arrays: wrap these, "
            "with dask.array.from_array or dask.delayed"
        )
    return any(found)


def independent(primals: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments of a function as variables of their own.

    One may have been computed from another, or the function may use it from outside too: that is a
    constant, as it is for a function of plain arrays.
    """
    leaves, structure = flatten_outer(primals)
    taken = bare(listed(leaves, "the arguments"), is_collection, inputs=True)
    token = uuid.uuid4().hex[:12]
    copies = [renamed(c, f"{token}-{k}") for k, c in enumerate(taken.arrays)]
    result: tuple[Any, ...] = unflatten(structure, taken.label(copies))
    return result


def lazy_value_and_grad(value: Any, primals: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
    if not is_collection(value):
        raise ParadualTypeError(
            f"the function of Dask collections returned a {type(value).__name__}: its result must be a Dask "
            "collection too, a single number (with several results use vjp, or has_aux=True)"
        )
    leaves, structure = flatten_outer(primals)
    value, found = value_and_gradients(value, leaves)
    return value, unflatten(structure, found)


def lazy_jvp(out: Any, primals: tuple[Any, ...], directions: tuple[Any, ...]) -> tuple[Any, Any]:
    leaves, structure = flatten_outer(primals)
    given = _matched(structure, directions, "the tangent", "the primals")
    outs, out_structure = flatten_outer(out)
    return out, unflatten(out_structure, tangents(outs, leaves, given))
