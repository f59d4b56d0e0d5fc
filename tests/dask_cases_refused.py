"""Names of dask.array that are not differentiated: why, and what shows it."""

from __future__ import annotations

from typing import Any

import dask.array as da
import scipy.ndimage
from case_table import normal, positive, reseed, spread, z
from dask_cases_shaping import sized
from dask_table import REFUSED_USES, constant, refused

reseed(44)

# --- errors, with a reason --------------------------------------------------------------------------------

# Dask gathers the values in an array of a structured type, which cannot hold a derivative
refused("unique", "plain array", lambda x: da.unique(x), spread(7))
refused("union1d", "plain array", lambda x: da.union1d(x, x**2), spread(7))
# compiled code that calls Python for each element
refused(
    "frompyfunc",
    "plain array|no derivative",
    lambda x: da.frompyfunc(lambda v: v * v, 1, 1)(x).astype(float),
    normal(5),
)

# no masked array can hold a derivative: write da.where(mask, x, 0.0)
_MASKS: dict[str, Any] = {
    "masked_array": lambda x: da.ma.masked_array(x, mask=x > 0),
    "masked_equal": lambda x: da.ma.masked_equal(x, 0.5),
    "masked_where": lambda x: da.ma.masked_where(x > 0, x),
    "masked_greater": lambda x: da.ma.masked_greater(x, 0.5),
    "masked_greater_equal": lambda x: da.ma.masked_greater_equal(x, 0.5),
    "masked_less": lambda x: da.ma.masked_less(x, 0.5),
    "masked_less_equal": lambda x: da.ma.masked_less_equal(x, 0.5),
    "masked_not_equal": lambda x: da.ma.masked_not_equal(x, 0.5),
    "masked_inside": lambda x: da.ma.masked_inside(x, 0.1, 0.5),
    "masked_outside": lambda x: da.ma.masked_outside(x, 0.1, 0.5),
    "masked_invalid": lambda x: da.ma.masked_invalid(x),
    "masked_values": lambda x: da.ma.masked_values(x, 0.5),
    "fix_invalid": lambda x: da.ma.fix_invalid(x),
    "set_fill_value": lambda x: filled(da.ma.masked_where(x > 0, x)),
    "filled": lambda x: da.ma.filled(x, 1.0),
    "getdata": lambda x: da.ma.getdata(x),
    "ones_like": lambda x: da.ma.ones_like(x),
    "zeros_like": lambda x: da.ma.zeros_like(x),
    "empty_like": lambda x: da.ma.empty_like(x),
    "count": lambda x: da.ma.count(x).astype(float),
    "where": lambda x: da.ma.where(x > 0, x, 0.0),
}
for _f, _call in _MASKS.items():
    refused(f"ma.{_f}", "plain array|view", _call, spread(5))


def filled(x: Any) -> Any:
    da.ma.set_fill_value(x, 0.5)
    return x


constant("ma.getmaskarray", lambda m, x: da.ma.getmaskarray(x), spread(5))
constant("ma.nonzero", lambda m, x: sized(da.ma.nonzero(x > 0)), spread(5))

# NumPy's generators are compiled: they cannot draw from a distribution whose parameter has a derivative
for _f in ("exponential", "gamma", "normal", "poisson", "rayleigh"):
    refused(
        f"random.{_f}",
        "plain array",
        lambda x, f=_f: 1.0 * getattr(da.random.default_rng(3), f)(x),
        positive(5),
    )
refused("random.choice", "plain array", lambda x: da.random.default_rng(3).choice(x, 5), positive(5))

# Dask keeps the array within the task, computes it there, and the graph does not show it
refused("full", "holds a collection", lambda x: da.full(5, x[0]) * 1.0, normal(5))
refused("linspace", "holds a collection", lambda x: da.linspace(x[0], x[1], 5), normal(5))
refused(
    "full_like",
    "holds a collection",
    lambda x: da.full_like(x, x[0]),
    normal(5),
    label="lazy",
    table=REFUSED_USES,
)

# --- refused uses of operations that are differentiable otherwise -----------------------------------------

for _f, _use in {
    "a function of dask.array": lambda x: x.map_blocks(lambda b: da.sum(b), drop_axis=0, dtype=float),
    "a lazy copy": lambda x: x.map_blocks(lambda b: da.asarray(b), dtype=float),
}.items():
    refused("map_blocks", "returned a Dask collection", _use, normal(5), label=_f, table=REFUSED_USES)
refused(
    "apply_over_axes",
    "returned a Dask collection",
    lambda x: da.apply_over_axes(da.sum, x, [0]),
    normal(5, 4),
    label="a function of dask.array",
    table=REFUSED_USES,
)
refused(
    "apply_gufunc",
    "plain array",
    lambda x: da.apply_gufunc(lambda a: a[0] * a[1], "(i)->()", x, vectorize=True, output_dtypes=float),
    normal(5, 4),
    chunks=(2, 4),
    label="vectorize",
    table=REFUSED_USES,
)
refused(
    "map_blocks",
    "plain array",
    lambda x: x.map_blocks(scipy.ndimage.gaussian_filter, 1.0),
    normal(5),
    label="compiled code",
    table=REFUSED_USES,
)
refused(
    "Array.view", "view\\(dtype\\)", lambda x: x.view(float), z(4), label="other type", table=REFUSED_USES
)
