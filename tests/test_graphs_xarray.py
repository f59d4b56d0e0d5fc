"""Programs of xarray objects over Dask arrays: against the same on NumPy, and against differences."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from graph_helpers import _synchronous as _synchronous
from xarray_helpers import DATA, DIRECTION, field, xr

import paradual as pdl
from paradual.errors import ParadualTypeError

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*Performance.*"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:invalid value encountered"),
    pytest.mark.filterwarnings("ignore:.*encountered in.*:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:Degrees of freedom:RuntimeWarning"),
]


@pytest.fixture(autouse=True)
def _plain() -> Any:
    with xr.set_options(use_flox=False, use_numbagg=False, use_bottleneck=False):  # compiled code is refused
        yield


def squares(y: Any) -> Any:
    return (y**2).sum()


def whole(x: Any, *dims: str) -> Any:
    """The same with one chunk along some dimensions."""
    return x.chunk(dict.fromkeys(dims, -1)) if x.chunks else x


def masked(x: Any) -> Any:
    return x.where(x > 0)


PROGRAMS: dict[str, Callable[[Any], Any]] = {
    "sum": lambda x: x.sum() ** 2,
    "mean": lambda x: squares(x.mean("time")),
    "mean over two": lambda x: squares(x.mean(["lat", "lon"])),
    "mean with nan": lambda x: squares(masked(x).mean("time")),
    "mean with skipna=False": lambda x: squares(x.mean("time", skipna=False)),
    "std": lambda x: squares(x.std("time")),
    "var": lambda x: squares(x.var("time", ddof=1)),
    "max": lambda x: squares(x.max("time")),
    "min": lambda x: x.min() ** 2,
    "prod": lambda x: squares(x.prod("lat")),
    "median": lambda x: squares(whole(x, "time").median("time")),
    "median with skipna=False": lambda x: squares(whole(x, "time").median("time", skipna=False)),
    "quantile": lambda x: squares(whole(x, "time").quantile([0.3, 0.5], "time")),
    "reduce": lambda x: squares(x.reduce(np.sum, "time")),
    "cumsum": lambda x: squares(x.cumsum("time")),
    "cumprod": lambda x: squares(x.cumprod("lat")),
    "groupby mean": lambda x: squares(x.groupby("season").mean()),
    "groupby sum": lambda x: squares(x.groupby("season").sum("time")),
    "groupby max": lambda x: squares(x.groupby("season").max("time")),
    "groupby a part of the date": lambda x: squares(x.groupby("time.dayofweek").mean()),
    "groupby anomaly": lambda x: ((x.groupby("season") - x.groupby("season").mean()) ** 3).sum(),
    "groupby map": lambda x: squares(x.groupby("season").map(lambda g: g - g.mean("time"))),
    "groupby bins": lambda x: squares(x.groupby_bins("lat", [-90, 0, 90]).mean()),
    "rolling mean": lambda x: squares(x.rolling(time=3).mean()),
    "rolling centred": lambda x: squares(x.rolling(time=3, center=True, min_periods=1).sum()),
    "rolling max": lambda x: squares(x.rolling(time=3).max()),
    "rolling in two": lambda x: squares(x.rolling(lat=2, lon=2).mean()),
    "rolling construct": lambda x: squares(x.rolling(time=3).construct("w").mean("w")),
    "rolling weights": lambda x: squares(
        x.rolling(time=3).construct("w").dot(xr.DataArray([0.2, 0.3, 0.5], dims="w"))
    ),
    "cumulative": lambda x: squares(x.cumulative("time").sum()),
    "resample mean": lambda x: squares(x.resample(time="3D").mean()),
    "resample sum": lambda x: squares(x.resample(time="4D").sum()),
    "resample forward fill": lambda x: squares(x.resample(time="12h").ffill()),
    "weighted mean": lambda x: squares(x.weighted(np.cos(np.deg2rad(x.lat))).mean(["lat", "lon"])),
    "weighted sum": lambda x: squares(x.weighted(x.area).sum(["lat", "lon"])),
    "weighted by itself": lambda x: squares(x.weighted(x**2).mean("time")),
    "weighted std": lambda x: squares(x.weighted(x.area).std(["lat", "lon"])),
    "isel": lambda x: squares(x.isel(time=slice(1, 9, 2), lat=1)),
    "isel of points": lambda x: squares(x.isel(time=("p", [0, 3, 3]), lat=("p", [1, 2, 2]))),
    "sel": lambda x: squares(x.sel(time=slice("2000-01-04", "2000-01-08"))) + squares(x.sel(lon=10.0)),
    "sel nearest": lambda x: squares(x.sel(lat=10, method="nearest")),
    "loc": lambda x: squares(x.loc[{"lat": -60}]),
    "by a mask of labels": lambda x: squares(x[x.season == 1]),
    "head and thin": lambda x: squares(x.head(time=3)) + squares(x.thin(time=3)),
    "ufuncs": lambda x: np.sin(x).sum() + (np.exp(x) * xr.ufuncs.tanh(x)).sum(),
    "apply_ufunc": lambda x: squares(
        xr.apply_ufunc(lambda a: np.tanh(a) * a, x, dask="parallelized", output_dtypes=[float])
    ),
    "apply_ufunc along a dimension": lambda x: squares(
        xr.apply_ufunc(
            lambda a: np.mean(a**2, axis=-1),
            whole(x, "time"),
            input_core_dims=[["time"]],
            dask="parallelized",
            output_dtypes=[float],
        )
    ),
    "apply_ufunc allowed": lambda x: squares(xr.apply_ufunc(lambda a: a**2, x, dask="allowed")),
    "apply_ufunc with two results": lambda x: sum(
        squares(y)
        for y in xr.apply_ufunc(
            lambda a: (a**2, a * 3),
            x,
            dask="parallelized",
            output_core_dims=[[], []],
            output_dtypes=[float, float],
        )
    ),
    "map_blocks": lambda x: squares(xr.map_blocks(lambda b: b**2 + b.lat, x)),
    "concat": lambda x: squares(xr.concat([x, x**2], "time")),
    "concat along a new dimension": lambda x: squares(xr.concat([x, x**2], "n").cumsum("n")),
    "merge": lambda x: squares(xr.merge([x.rename("a"), (x**2).rename("b")]).to_dataarray()),
    "where": lambda x: squares(masked(x)),
    "where with another": lambda x: squares(x.where(x > 0, x**2)),
    "xr.where": lambda x: squares(xr.where(x > 0, x**2, np.sin(x))),
    "where drops": lambda x: squares(x.where(x.lat > 0, drop=True)),
    "fillna": lambda x: squares(masked(x).fillna(x**3)),
    "combine_first": lambda x: squares(masked(x).combine_first(x**3)),
    "dropna": lambda x: squares(x.where(x.season > 0).dropna("time", how="all")),
    "clip": lambda x: squares(x.clip(-0.5, 0.5)),
    "dot": lambda x: squares(xr.dot(x, x, dim="time")),
    "dot with a coordinate": lambda x: squares(x.dot(x.area)),
    "polyval": lambda x: xr.polyval(
        x.lat / 60, x.isel(lat=0).drop_vars("lat").assign_coords(lon=[0, 1, 2]).rename(lon="degree")
    ).sum(),
    "coarsen": lambda x: squares(x.coarsen(time=5).mean()),
    "coarsen max": lambda x: squares(x.coarsen(time=4, boundary="trim").max()),
    "coarsen padded": lambda x: squares(x.coarsen(lon=2, boundary="pad").mean()),
    "differentiate": lambda x: squares(x.differentiate("lat")),
    "differentiate in time": lambda x: squares(x.differentiate("time", datetime_unit="D")),
    "integrate": lambda x: squares(x.integrate("lat")),
    "cumulative_integrate": lambda x: squares(x.cumulative_integrate("lat") / 100),
    "diff": lambda x: squares(x.diff("time")),
    "shift": lambda x: squares(x.shift(time=2) * x),
    "roll": lambda x: (x.roll(time=2) * x).sum(),
    "pad": lambda x: squares(x.pad(time=2, mode="reflect")),
    "stack": lambda x: squares(x.stack(p=("lat", "lon")).cumsum("p")),
    "unstack": lambda x: squares(x.stack(p=("lat", "lon")).unstack("p").cumsum("lon")),
    "transpose": lambda x: squares(x.transpose("lon", "time", "lat").cumsum("lon")),
    "expand_dims": lambda x: squares(x.expand_dims(n=3).cumsum("n")),
    "sortby": lambda x: squares(x.sortby("lat", ascending=False).cumsum("lat")),
    "reindex": lambda x: squares(x.reindex(lat=[-60, 0, 60], method="nearest")),
    "reindex with nan": lambda x: squares(x.reindex(lat=[-60, 0, 60.0])),
    "broadcasting": lambda x: (x * x.mean("time") * x.lat).sum(),
    "alignment": lambda x: squares(x.isel(time=slice(0, 6)) * x.isel(time=slice(3, 9))),
    "cov": lambda x: xr.cov(x, x**2),
    "corr": lambda x: squares(xr.corr(x, x**2, dim="time")),
    "cross": lambda x: squares(xr.cross(whole(x, "lon"), whole(x, "lon") ** 2, dim="lon")),
    "datasets": lambda x: (
        ((xr.Dataset({"a": x, "b": x**2}) * 2).mean("time") ** 2).sum().to_dataarray().sum()
    ),
    "dataset groupby": lambda x: squares(xr.Dataset({"a": x}).groupby("season").mean()["a"]),
    "complex": lambda x: (abs(x * 1j + x) ** 2).real.sum(),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_program(name: str) -> None:
    if name in ("median", "quantile") and importlib.util.find_spec("numbagg"):
        pytest.skip("numbagg is used whatever the options say, and is compiled")
    f = PROGRAMS[name]
    x, plain = field(DATA), field(DATA, lazy=False)
    loss = f(x)
    value, g = pdl.value_and_gradients(loss, x)
    np.testing.assert_allclose(value.compute(), f(plain), 1e-10)
    assert (type(value), value.name, value.attrs) == (xr.DataArray, loss.name, loss.attrs)
    assert (type(g), g.dims, g.name, g.attrs, g.chunks, g.dtype) == (
        xr.DataArray,
        x.dims,
        "t2m",
        {"units": "K"},
        x.chunks,
        x.dtype,
    )
    xr.testing.assert_identical(g.coords.to_dataset(), x.coords.to_dataset())
    step = 1e-6 * DIRECTION
    slope = (f(field(DATA + step, False)) - f(field(DATA - step, False))).item() / 2e-6
    found = g.compute()
    np.testing.assert_allclose((found.values * DIRECTION).sum(), slope, 1e-5, 1e-5)
    np.testing.assert_allclose(pdl.tangents(loss, x, DIRECTION).compute().item(), slope, 1e-5, 1e-5)
    product = pdl.tangents(g, x, DIRECTION).compute()
    later, sooner = (pdl.gradients(f(y), y).compute() for y in (field(DATA + step), field(DATA - step)))
    np.testing.assert_allclose(product, (later - sooner) / 2e-6, 1e-4, 1e-4)
    try:
        expected = pdl.grad(f)(plain)
    except ParadualTypeError:
        return  # where xarray has another way for NumPy, which leads into compiled code
    xr.testing.assert_allclose(found, expected)
