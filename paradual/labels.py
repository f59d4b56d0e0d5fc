"""xarray objects: their data are values, and their labels (dimensions, coordinates, attributes) structure.

A coordinate is a constant, even where it holds floating-point numbers or is a Dask array: the gradient
with respect to an object has the coordinates of the object.  xarray itself is never imported here: an
object of its arrives only where somebody else has done so.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from paradual.dual import DUALS, is_inexact
from paradual.errors import ParadualTypeError, ParadualValueError

_NAMES = frozenset(["DataArray", "Dataset", "Variable"])


@cache
def is_labelled_type(kind: Any) -> bool:
    """Whether a class is one of xarray's, or made of one."""
    return any(c.__name__ in _NAMES and c.__module__.partition(".")[0] == "xarray" for c in kind.__mro__)


def is_labelled(x: Any) -> bool:
    """Whether a value is xarray's DataArray, Dataset or Variable."""
    kind: Any = type(x)
    found: bool = is_labelled_type(kind)
    return found


class Labels:
    """What an xarray object is apart from its data, as the structure of a pytree.

    Two are equal if dimensions, names of variables and indexes are; names and attributes are for people.
    """

    __slots__ = ("coords", "dims", "kind", "rest")

    def __init__(self, x: Any) -> None:
        self.kind = type(x)
        if hasattr(x, "data_vars"):
            self.coords = x.drop_vars(list(x.data_vars))
            self.dims: Any = {name: v.dims for name, v in x.data_vars.items()}
            self.rest: Any = {name: (v.attrs, v.encoding) for name, v in x.data_vars.items()}
        else:
            self.coords = x.coords.to_dataset() if hasattr(x, "coords") else None
            self.dims = x.dims
            self.rest = (getattr(x, "name", None), x.attrs, x.encoding)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Labels) or (self.kind, self.dims) != (other.kind, other.dims):
            return False
        ours, theirs = self._indexes(), other._indexes()
        return ours.keys() == theirs.keys() and all(
            type(index) is type(theirs[name]) and index.equals(theirs[name]) for name, index in ours.items()
        )

    def __hash__(self) -> int:
        return hash((self.kind, tuple(self.dims)))

    def _indexes(self) -> Mapping[Hashable, Any]:
        return {} if self.coords is None else self.coords.xindexes

    def __repr__(self) -> str:
        return f"{self.kind.__name__}{self.dims}"

    def __reduce__(self) -> Any:
        return _labels, (self.kind, self.coords, self.dims, self.rest)

    def put_on(self, data: Any) -> Any:
        """An object with these labels over the data of each of its variables."""
        try:
            if isinstance(self.dims, dict):
                variables = {
                    name: (self.dims[name], part, *self.rest[name])
                    for name, part in zip(self.dims, data, strict=True)
                }
                return self.coords.assign(variables)
            name, attrs, encoding = self.rest
            if self.coords is None:
                return self.kind(self.dims, data[0], attrs, encoding)
            found = self.kind(data[0], coords=self.coords.coords, dims=self.dims, attrs=attrs)
        except ValueError as error:
            shapes = [np.shape(part) for part in data]
            raise ParadualValueError(
                f"arrays of shape {', '.join(map(str, shapes))} cannot have the labels {self}, {error}: "
                "for a Jacobian take derivatives with respect to the data, x.data"
            ) from error
        found.name, found.encoding = name, encoding  # without a name it would have the one of a Dask array
        return found


def _labels(*parts: Any) -> Labels:
    new = object.__new__(Labels)
    new.kind, new.coords, new.dims, new.rest = parts
    return new


def take_apart(x: Any) -> tuple[tuple[Any, ...], Labels, tuple[Any, ...]]:
    """The data of an xarray object, its labels, and the names of the data: what optree asks for."""
    for name, c in getattr(x, "coords", {}).items():
        if c.data.__class__ in DUALS:
            raise ParadualTypeError(
                f"the coordinate {name!r} of a {type(x).__name__} is being differentiated, but a coordinate "
                "is a constant: make it a variable, reset_coords(), or leave it out, drop_vars()"
            )
    variables = getattr(x, "data_vars", {"data": x})
    return tuple(v.data for v in variables.values()), Labels(x), tuple(variables)


def put_together(labels: Any, data: Any) -> Any:
    """The inverse of `take_apart`."""
    return labels.put_on(tuple(data))


# --- what xarray does in compiled code --------------------------------------------------------------

# {part of a file's name or a function's: what to do instead}
_CURES = {
    "/flox/": "groupby and resample use flox: xarray.set_options(use_flox=False)",
    "/numbagg/": "xarray uses numbagg: xarray.set_options(use_numbagg=False), and skipna=False for medians "
    "and quantiles",
    "/bottleneck/": "xarray uses bottleneck: xarray.set_options(use_bottleneck=False)",
    "_interpnd": "xarray's interp calls compiled code: multiply by a matrix of weights, x.dot(weights)",
    "_nanpolyfit_1d": "xarray's polyfit fills plain arrays: multiply by a pseudo-inverse, x.dot(weights), "
    "where weights come from np.linalg.pinv(np.vander(...))",
    "_vectorize_call": "np.vectorize, which is apply_ufunc(vectorize=True), fills plain arrays: write the "
    "function for whole arrays along their last axes",
}


def cure(error: BaseException) -> str | None:
    """What to do about an error that came up within xarray, or what it uses."""
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        for part, advice in _CURES.items():
            if part in code.co_filename or code.co_name.startswith(part):
                return advice
        trace = trace.tb_next
    return None


# --- xarray objects over Dask arrays ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Bare:
    """Some collections, and the Dask arrays that derivatives are about in the xarray objects among them."""

    collections: list[Any]
    parts: list[list[Any]]  # for each collection: itself, or the data of its variables
    chosen: list[list[int]]  # which of them

    @property
    def arrays(self) -> list[Any]:
        return [parts[k] for parts, chosen in zip(self.parts, self.chosen, strict=True) for k in chosen]

    def label(self, arrays: list[Any], other: Callable[[Any], Any] = lambda x: x) -> list[Any]:
        """Put arrays in the place of ours; ``other`` says what is in the place of those not chosen."""
        rest = iter(arrays)
        results = []
        for c, parts, chosen in zip(self.collections, self.parts, self.chosen, strict=True):
            new = [next(rest) if k in chosen else other(part) for k, part in enumerate(parts)]
            results.append(Labels(c).put_on(new) if is_labelled(c) else new[0])
        return results

    def match(self, given: list[Any], what: str) -> list[Any]:
        """For each of our arrays the cotangent or tangent, given for each collection."""
        found: list[Any] = []
        for c, chosen, g in zip(self.collections, self.chosen, given, strict=True):
            if hasattr(type(c), "data_vars"):
                names = list(c.data_vars)
                found += _match_dataset(c, [names[k] for k in chosen], g, what)
            else:
                found.append(_match_array(c, g, what))
        return found


def bare(collections: list[Any], is_lazy: Callable[[Any], bool], inputs: bool = False) -> Bare:
    """Take the xarray objects among some collections apart.

    Of a Dataset among outputs only what is lazy and of a floating-point type counts: the rest is constant.
    Among inputs all must be.
    """
    parts, chosen = [], []
    for c in collections:
        data, _, names = take_apart(c) if is_labelled(c) else ((c,), None, ())
        if hasattr(type(c), "data_vars") and not inputs:
            chosen.append([k for k, part in enumerate(data) if is_lazy(part) and is_inexact(part)])
        else:
            for name, part in zip(names, data, strict=False):
                _check(c, name, part, is_lazy(part), inputs)
            chosen.append(list(range(len(data))))
        parts.append(list(data))
    return Bare(collections, parts, chosen)


def _check(c: Any, name: Any, part: Any, lazy: bool, inputs: bool) -> None:
    whole = hasattr(type(c), "data_vars")
    what = f"the variable {name!r} of a Dataset" if whole else f"a {type(c).__name__}"
    if inputs and not is_inexact(part):
        raise ParadualTypeError(
            f"{what} among the inputs has dtype {part.dtype}: derivatives are taken with respect to "
            "floating-point values. Cast it, astype(float)"
            + (f", or make it a coordinate, set_coords({name!r}), which is a constant" if whole else "")
        )
    if not lazy:
        raise ParadualTypeError(
            f"{what} among the {'inputs' if inputs else 'outputs'} holds a {type(part).__name__} and no Dask "
            "array, so that no task of the graph uses it: call chunk() before it is used, or leave it out"
        )


def _match_array(c: Any, g: Any, what: str) -> Any:
    if not is_labelled(g):
        return g
    if not is_labelled(c) and not hasattr(type(c), "chunks") and g.__dask_graph__() is None:
        return g  # a value of a Delayed, which may be labelled itself
    if hasattr(type(g), "data_vars"):
        raise ParadualTypeError(f"a {what} is a Dataset, but belongs to a {type(c).__name__}: pass an array")
    if not is_labelled(c):
        return g.data
    if set(g.dims) != set(c.dims):
        raise ParadualValueError(f"a {what} has the dimensions {g.dims}, but belongs to {c.dims}")
    for name, index in getattr(c, "xindexes", {}).items():
        theirs = getattr(g, "xindexes", {}).get(name)
        if theirs is not None and not (type(theirs) is type(index) and index.equals(theirs)):
            raise ParadualValueError(
                f"a {what} has other labels along {name!r} than what it belongs to: select or reindex it "
                "to match"
            )
    return g.transpose(*c.dims).data


def _match_dataset(c: Any, names: list[Any], g: Any, what: str) -> list[Any]:
    if g is None:
        if len(names) != 1:
            raise ParadualValueError(
                f"a Dataset of {len(names)} floating-point variables has no gradient of its own: name the "
                f"variable, or give its {what}, a Dataset"
            )
        return [None]
    if not isinstance(g, Mapping):
        raise ParadualTypeError(f"a {what} of a Dataset must be a Dataset, or a dict, not {type(g).__name__}")
    missing, extra = set(names) - set(g), set(g) - set(c.data_vars) - set(c.coords)
    if missing or extra:
        raise ParadualValueError(
            f"a {what} of a Dataset must have its variables: missing are {sorted(map(str, missing))}, "
            f"unknown are {sorted(map(str, extra))}"
        )
    return [_match_array(c[name], g[name], what) for name in names]
