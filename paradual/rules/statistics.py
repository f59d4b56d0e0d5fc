"""Order statistics, the nan-functions, covariances and histograms.

A quantile takes elements, or interpolates between two neighbours in the sorted order: the cotangent goes to
those elements.  Entries that a nan-function leaves out have derivative 0, and so has the nan that it returns
where nothing is left.  Which bin an element falls into, and which elements of a set are equal, is a step: a
count has no derivative, a weighted count is linear in the weights, and a set is a choice of elements, of
equal ones the first.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from paradual.arrays import bare, cast, is_complex
from paradual.errors import NotDifferentiableError, user_line
from paradual.locality import any_of, as_plain, counting, on_device
from paradual.rules.reductions import (
    as_array,
    degrees,
    deviations,
    duals_in,
    in_dtype,
    inverse_order,
    is_given,
    is_set,
    number,
    plain,
    root,
)
from paradual.rules.registry import composed, linear


def _is_active(x: Any) -> bool:
    return next(duals_in(x), None) is not None


def _fixed(f: Any, name: str, value: Any) -> Any:
    if _is_active(value):
        raise NotDifferentiableError(
            f"np.{f.__name__} is not differentiated with respect to its argument {name!r}{user_line()}: "
            f"pass paradual.stop_gradient({name}) if it is constant"
        )
    return value


# --- order statistics: NumPy's own quantile of the ranks 0, 1, 2, ... says where the result stands ------


def _at_rank(f: Any, a: Any, axis: Any, keepdims: Any, weights: Any = None, **q: Any) -> Any:
    a = as_array(a)
    keepdims = is_set(keepdims)
    if weights is not None:
        q["weights"] = plain(weights)
    if a.size == 0:
        return f(plain(a), axis=axis, keepdims=keepdims, **q)
    axes = normalize_axis_tuple(range(a.ndim) if axis is None else axis, a.ndim)
    order = [*(k for k in range(a.ndim) if k not in axes), *axes]
    batch = tuple(a.shape[k] for k in order[: a.ndim - len(axes)])
    rows = np.reshape(np.transpose(a, order), (*batch, math.prod(a.shape[k] for k in axes)))
    values = plain(rows)
    skips, n = f.__name__.startswith("nan"), rows.shape[-1]
    if skips or weights is not None:
        places = np.argsort(values, axis=-1, kind="stable")
        ranks = np.argsort(places, axis=-1).astype(float)
        ranks = np.where(np.isnan(values), np.nan, ranks) if skips else ranks
        ranks = np.reshape(ranks, [a.shape[k] for k in order]).transpose(inverse_order(order))
        at = f(ranks, axis=axis, **q)
        form = at.shape[: at.ndim - len(batch)]
    elif on_device(values):  # which is not asked for the ranks
        at = f(counting(n, like=values).astype(float), **q)
        form = at.shape
        places = np.argsort(values, axis=-1)
        at = np.broadcast_to(np.reshape(at, (*form, *[1] * len(batch))), form + batch)
    else:
        at = np.asarray(f(np.arange(float(n)), **q))
        form = at.shape
        kth = {n - 1, *np.floor(at).astype(int).flat, *np.ceil(at).astype(int).flat}
        places = np.argpartition(values, sorted(map(int, kth)), axis=-1)
        at = np.asarray(at, like=values)
        at = np.broadcast_to(np.reshape(at, (*form, *[1] * len(batch))), form + batch)
    at = np.moveaxis(np.reshape(at, (-1, *batch)), 0, -1)
    if skips:
        nothing = np.isnan(at)
        at = np.where(nothing, 0, at)
    else:  # nan is last in order, and makes the result nan
        at = np.where(np.isnan(np.take_along_axis(values, places[..., -1:], axis=-1)), n - 1, at)
    low, high = np.floor(at).astype(int), np.ceil(at).astype(int)
    out = np.take_along_axis(rows, np.take_along_axis(places, low, axis=-1), axis=-1)
    if any_of(low != high):
        above = np.take_along_axis(rows, np.take_along_axis(places, high, axis=-1), axis=-1)
        between = (out + above) / 2 if f in MEDIANS else out + (above - out) * (at - low).astype(_real(a))
        out = np.where(low == high, out, between)
    if skips and any_of(nothing):
        out = np.where(nothing, np.nan, out)
    out = np.moveaxis(out, -1, 0) if form else out[..., 0]
    dtype = f(
        np.zeros_like(plain(a), shape=1), **{name: value for name, value in q.items() if name != "weights"}
    ).dtype
    out = out if out.dtype == dtype else cast(out, dtype)
    if keepdims:
        return np.reshape(out, form + tuple(1 if k in axes else m for k, m in enumerate(a.shape)))
    return number(out if out.shape == form + batch else np.reshape(out, form + batch))


def _real(a: Any) -> Any:
    return np.zeros(0, a.dtype).real.dtype


MEDIANS = (np.median, np.nanmedian)


def _median(f: Any) -> Any:
    def definition(
        a: Any, axis: Any = None, out: Any = None, overwrite_input: bool = False, keepdims: Any = False
    ) -> Any:
        return _at_rank(f, a, axis, keepdims)

    return definition


def _quantile(f: Any) -> Any:
    def definition(
        a: Any,
        q: Any,
        axis: Any = None,
        out: Any = None,
        overwrite_input: bool = False,
        method: str = "linear",
        keepdims: Any = False,
        *,
        weights: Any = None,
    ) -> Any:
        return _at_rank(f, a, axis, keepdims, weights, q=_fixed(f, "q", q), method=method)

    return definition


for _f in MEDIANS:
    composed(_f, _median(_f))
for _f in (np.quantile, np.percentile, np.nanquantile, np.nanpercentile):
    composed(_f, _quantile(_f))

# --- leaving out nan ---------------------------------------------------------------------------------


def _filled(a: Any, value: float) -> Any:
    return np.where(np.isnan(a), value, a)


composed(np.nansum, lambda a, *args, **kwargs: np.sum(_filled(a, 0.0), *args, **kwargs))
composed(np.nanprod, lambda a, *args, **kwargs: np.prod(_filled(a, 1.0), *args, **kwargs))
composed(np.nancumsum, lambda a, *args, **kwargs: np.cumsum(_filled(a, 0.0), *args, **kwargs))
composed(np.nancumprod, lambda a, *args, **kwargs: np.cumprod(_filled(a, 1.0), *args, **kwargs))


def _present(a: Any, where: Any) -> Any:
    there = ~np.isnan(a)
    return there if where is np._NoValue else there & where


def _inexact(dtype: Any) -> Any:
    if is_given(dtype) and np.dtype(dtype).kind not in "fc":
        raise TypeError("If a is inexact, then dtype must be inexact")
    return dtype


def _nanmean(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    keepdims: Any = False,
    *,
    where: Any = np._NoValue,
) -> Any:
    there = _present(a, where)
    return np.mean(a, axis=axis, dtype=_inexact(dtype), keepdims=keepdims, where=there)


composed(np.nanmean, _nanmean)


def _nanspread(finish: Any) -> Any:
    def definition(
        a: Any,
        axis: Any = None,
        dtype: Any = None,
        out: Any = None,
        ddof: float = 0,
        keepdims: Any = False,
        *,
        where: Any = np._NoValue,
        mean: Any = np._NoValue,
        correction: Any = np._NoValue,
    ) -> Any:
        a, there = in_dtype(a, _inexact(dtype)), _present(a, where)
        n = degrees(a, axis, keepdims, there, ddof, correction)
        total = in_dtype(deviations(a, axis, keepdims, there, mean), dtype)
        if not any_of(n <= 0):
            return finish(total / n)
        return number(np.where(n > 0, finish(np.where(n > 0, total, 1) / np.where(n > 0, n, 1)), np.nan))

    return definition


composed(np.nanvar, _nanspread(lambda var: var))
composed(np.nanstd, _nanspread(root))


def _nan_extremum(f: Any, worst: float) -> Any:
    def definition(
        a: Any,
        axis: Any = None,
        out: Any = None,
        keepdims: Any = False,
        initial: Any = np._NoValue,
        where: Any = np._NoValue,
    ) -> Any:
        keepdims = is_set(keepdims)
        missing = np.isnan(a)
        given = {"initial": initial, "where": where}
        options = {name: value for name, value in given.items() if value is not np._NoValue}
        out = f(np.where(missing, worst, a), axis=axis, keepdims=keepdims, **options)
        if initial is np._NoValue and any_of(lost := np.all(missing, axis=axis, keepdims=keepdims)):
            if not on_device(lost):
                warnings.warn("All-NaN slice encountered", RuntimeWarning, stacklevel=3)
            return number(np.where(lost, np.nan, out))
        return out

    return definition


composed(np.nanmax, _nan_extremum(np.max, -np.inf))
composed(np.nanmin, _nan_extremum(np.min, np.inf))

# --- covariances ---------------------------------------------------------------------------------------

# since NumPy 2.2 one row of observations is transposed as well
_TRANSPOSES_ONE_ROW = np.cov(np.zeros((1, 2)), rowvar=False, ddof=0).ndim == 2


def _variables(x: Any, name: str, rowvar: Any, dtype: Any) -> Any:
    if x.ndim > 2:
        raise ValueError(f"{name} has more than 2 dimensions")
    flip = x.ndim == 2 and not rowvar and (x.shape[0] != 1 or (name == "m" and _TRANSPOSES_ONE_ROW))
    x = np.reshape(x, (1, -1)) if x.ndim < 2 else x
    return cast(np.transpose(x) if flip else x, dtype)


def _cov(
    m: Any,
    y: Any = None,
    rowvar: Any = True,
    bias: Any = False,
    ddof: Any = None,
    fweights: Any = None,
    aweights: Any = None,
    *,
    dtype: Any = None,
) -> Any:
    arrays = [as_array(m)] if y is None else [as_array(m), as_array(y)]
    dtype = np.result_type(*arrays, np.float64) if dtype is None else np.dtype(dtype)
    x = _variables(arrays[0], "m", rowvar, dtype)
    if x.shape[0] == 0:
        return np.zeros((0, 0))
    if y is not None:
        x = np.concatenate([x, _variables(arrays[1], "y", rowvar, dtype)], axis=0)
    # NumPy checks the weights, and warns where there are too few observations
    none = np.zeros_like(bare(x), shape=(1, x.shape[1]), dtype=float)
    np.cov(none, None, True, bias, ddof, _fixed(np.cov, "fweights", fweights), plain(aweights))
    ddof = (1 if bias == 0 else 0) if ddof is None else ddof  # as NumPy asks: bias=None counts as given
    if fweights is None and aweights is None:
        deviation = x - np.mean(x, axis=1, keepdims=True)
        weighted, scale = deviation, x.shape[1] - ddof
    else:
        w = 1.0 if fweights is None else as_plain(fweights, float)
        w = w if aweights is None else w * as_array(aweights)
        scale = total = np.sum(w)
        if ddof != 0:
            scale = total - ddof * (1 if aweights is None else np.sum(w * as_array(aweights)) / total)
        deviation = x - np.sum(x * w, axis=1, keepdims=True) / total
        weighted = deviation * w
    c = np.matmul(
        deviation, np.conjugate(np.transpose(weighted)) if is_complex(x) else np.transpose(weighted)
    )
    return np.squeeze(c * cast(np.true_divide(1, scale if scale > 0 else 0.0), _real(c)))


composed(np.cov, _cov)


def _corrcoef(
    x: Any, y: Any = None, rowvar: Any = True, bias: Any = None, ddof: Any = None, *, dtype: Any = None
) -> Any:
    del bias, ddof  # without effect in NumPy too
    c = _cov(x, y, rowvar, dtype=dtype)
    if c.ndim == 0:
        return c / c
    size = np.sqrt(np.real(np.diagonal(c)))
    c = c / np.expand_dims(size, 1) / np.expand_dims(size, 0)
    if is_complex(c):
        return np.clip(np.real(c), -1, 1) + 1j * np.clip(np.imag(c), -1, 1)
    return np.clip(c, -1, 1)


composed(np.corrcoef, _corrcoef)

# --- histograms: steps in the data, linear in the weights; equal bins move with the extremes of the data ---

linear(
    np.bincount,
    lambda g, x, minlength=0: g[as_plain(x)],
    arrays="weights",
    names="x weights minlength",
)


def _edges(edges: Any, bins: Any, range: Any, x: Any) -> Any:
    """Edges as NumPy found them, which follow the ends that they were spaced between."""
    if _is_active(bins):
        return np.stack(bins) if isinstance(bins, list | tuple) else bins
    if (not isinstance(bins, str) and np.ndim(bins)) or (range is None and x.size == 0):
        return edges
    ends = (np.min(x), np.max(x)) if range is None else range
    share = (edges - edges[0]) / (edges[-1] - edges[0])
    out = edges
    for end, part in zip(ends, (1 - share, share), strict=True):
        if _is_active(end):
            out = out + (end - plain(end)) * part
    return out


def _binned(columns: list[Any], edges: list[Any], weights: Any) -> Any:
    """The sum of the weights in each bin."""
    shape = tuple(len(e) - 1 for e in edges)
    at = [np.searchsorted(e, x, side="right") - 1 for e, x in zip(edges, columns, strict=True)]
    at = [np.where(x == e[-1], len(e) - 2, k) for e, x, k in zip(edges, columns, at, strict=True)]
    inside = np.flatnonzero(
        np.all([(x >= e[0]) & (x <= e[-1]) for e, x in zip(edges, columns, strict=True)], axis=0)
    )
    flat = np.ravel_multi_index(tuple(k[inside] for k in at), shape)
    return np.reshape(np.bincount(flat, weights[inside], math.prod(shape)), shape)


def _histogram(a: Any, bins: Any = 10, range: Any = None, density: Any = None, weights: Any = None) -> Any:
    a = as_array(a)
    count, edges = np.histogram(plain(a), plain(bins), plain(range), weights=plain(weights))
    if _is_active(weights):
        weights = np.ravel(weights)
        parts = [np.real(weights), np.imag(weights)] if is_complex(weights) else [weights]
        dtype, sums = count.dtype, [_binned([plain(np.ravel(a))], [edges], part) for part in parts]
        count = cast(sums[0] if len(sums) == 1 else sums[0] + 1j * sums[1], dtype)
    edges = _edges(edges, bins, range, a)
    if density:
        return count / cast(np.diff(edges), float) / np.sum(count), edges
    return count, edges


composed(np.histogram, _histogram)
composed(
    np.histogram_bin_edges,
    lambda a, bins=10, range=None, weights=None: _edges(
        np.histogram_bin_edges(plain(a), plain(bins), plain(range), plain(weights)), bins, range, as_array(a)
    ),
)


def _histogramdd(
    sample: Any, bins: Any = 10, range: Any = None, density: Any = None, weights: Any = None
) -> Any:
    if hasattr(sample, "shape"):
        columns = [sample] if sample.ndim == 1 else [sample[:, k] for k in np.arange(sample.shape[1])]
    else:
        columns = [as_array(x) for x in sample]
    fixed = [plain(x) for x in columns]
    count, edges = np.histogramdd(fixed, plain(bins), plain(range), weights=plain(weights))
    kind = type(edges)
    if _is_active(weights):
        count = _binned(fixed, edges, weights)
    each = bins if hasattr(bins, "__len__") else [bins] * len(columns)
    ranges = [None] * len(columns) if range is None else range
    edges = [_edges(*parts) for parts in zip(edges, each, ranges, columns, strict=True)]
    if density:
        total = np.sum(count)
        for k, e in enumerate(edges):
            count = count / np.reshape(np.diff(e), [-1 if j == k else 1 for j, _ in enumerate(edges)])
        count = count / total
    return count, kind(edges)


def _histogram2d(
    x: Any, y: Any, bins: Any = 10, range: Any = None, density: Any = None, weights: Any = None
) -> Any:
    if len(x) != len(y):
        raise ValueError("x and y must have the same length.")
    if hasattr(bins, "__len__") and len(bins) not in (1, 2):
        bins = [bins, bins]
    count, edges = _histogramdd([x, y], bins, range, density, weights)
    return count, edges[0], edges[1]


composed(np.histogramdd, _histogramdd)
composed(np.histogram2d, _histogram2d)

# --- sets: of equal elements the first --------------------------------------------------------------------


def _unique(
    ar: Any,
    return_index: bool = False,
    return_inverse: bool = False,
    return_counts: bool = False,
    axis: Any = None,
    **kwargs: Any,
) -> Any:
    _, index, *rest = np.unique(plain(ar), True, return_inverse, return_counts, axis, **kwargs)
    values = np.ravel(ar)[index] if axis is None else np.take(ar, index, axis)
    out = (values, index, *rest) if return_index else (values, *rest)
    return out if len(out) > 1 else values


def _found(values: Any, flat: Any) -> Any:
    """Elements of an array that are known by their values."""
    order = np.argsort(flat, kind="stable")
    return flat[order[np.searchsorted(plain(flat), values, sorter=order)]]


def _unique_parts(f: Any) -> Any:
    def definition(x: Any) -> Any:
        out = f(plain(x))
        return out._replace(values=_found(out.values, np.ravel(x)))

    return definition


composed(np.unique, _unique)
for _f in (np.unique_all, np.unique_counts, np.unique_inverse):
    composed(_f, _unique_parts(_f))
composed(np.unique_values, lambda x: _found(np.unique_values(plain(x)), np.ravel(x)))


def _joined(*arrays: Any) -> Any:
    return np.concatenate([np.ravel(as_array(x)) for x in arrays])


def _intersect1d(ar1: Any, ar2: Any, assume_unique: bool = False, return_indices: bool = False) -> Any:
    _, *index = np.intersect1d(plain(ar1), plain(ar2), assume_unique, True)
    values = np.ravel(as_array(ar1))[index[0]]
    return (values, *index) if return_indices else values


composed(np.intersect1d, _intersect1d)
composed(np.union1d, lambda ar1, ar2: _found(np.union1d(plain(ar1), plain(ar2)), _joined(ar1, ar2)))
composed(
    np.setxor1d,
    lambda ar1, ar2, assume_unique=False: _found(
        np.setxor1d(plain(ar1), plain(ar2), assume_unique), _joined(ar1, ar2)
    ),
)
composed(
    np.setdiff1d,
    lambda ar1, ar2, assume_unique=False: _found(
        np.setdiff1d(plain(ar1), plain(ar2), assume_unique), np.ravel(as_array(ar1))
    ),
)
composed(np.sort_complex, lambda a: cast(np.sort(a), np.sort_complex(np.zeros(1, a.dtype)).dtype))
