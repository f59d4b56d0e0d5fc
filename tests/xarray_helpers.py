"""What the tests of xarray objects share."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import pytest

xr = pytest.importorskip("xarray")
pd = pytest.importorskip("pandas")

rng = np.random.default_rng(5)
DATA = rng.normal(size=(10, 4, 3))
AREA = 1 + rng.random(size=(4, 3))
DIRECTION = rng.normal(size=DATA.shape)
TIMES = pd.date_range("2000-01-01", periods=10, freq="D")


def field(data: Any, lazy: bool = True) -> Any:
    """Temperatures on a grid, with coordinates of all kinds."""
    return xr.DataArray(
        da.from_array(data, chunks=(4, 4, 2)) if lazy else data,
        dims=("time", "lat", "lon"),
        coords={
            "time": TIMES,
            "lat": np.linspace(-60, 60, 4),
            "lon": np.arange(3) * 10.0,
            "area": (("lat", "lon"), AREA),
            "season": ("time", np.arange(10) % 3),
            "name": ("lat", list("abcd")),
        },
        name="t2m",
        attrs={"units": "K"},
    )
