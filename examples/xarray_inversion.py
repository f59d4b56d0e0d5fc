"""Where did the smoke come from?  An initial field recovered from few noisy observations, with xarray.

Smoke is carried by a wind and spreads (advection and diffusion) on a periodic map, an xarray.DataArray over
Dask: its history is chunked in space and time.  A window of time is one call for each chunk, which gets the
rows next to it.  A few stations measure the smoke, with noise.  The initial field with the smallest
misfit is found by SciPy's L-BFGS (4D-Var, in the language of weather forecasts); the gradient is a DataArray
with the dimensions, coordinates and chunks of the field.  Dask computes on the threads of this process, on
worker processes (``--cluster 2``), or on a cluster that runs already (``--address tcp://...``).
"""

from __future__ import annotations

import argparse
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from time import perf_counter

import dask
import dask.array as da
import numpy as np
import xarray as xr
from scipy.optimize import minimize

import paradual as pdl

STEPS, HOURS, CELL = 6, 0.25, 10.0  # steps in a window, hours in a step, km
SPREAD, NOISE, ROUGH = 0.1, 0.02, 0.2  # diffusion; of a measurement; expected difference of neighbours
ALLOWED_MISMATCH = 1e-9  # relative, of the two checks of the gradient

# --- the model ----------------------------------------------------------------------------------------------


def advance(smoke: np.ndarray, east: np.ndarray, north: np.ndarray) -> np.ndarray:
    """Some rows after some steps, with so many more above and below that what is wrong there stays there."""
    for _ in range(STEPS):
        w, e, s, n = (np.roll(smoke, shift, axis) for axis in (1, 0) for shift in (1, -1))
        carried = 0.5 * (east * (e - w) + north * (n - s))
        smoke = smoke - carried + SPREAD * (e + w + n + s - 4.0 * smoke)
    return smoke


def winds(size: int) -> list[da.Array]:
    """The wind to the east and to the north, in cells a step, without divergence."""
    y, x = 2.0 * np.pi * np.mgrid[:size, :size] / size
    return [da.from_array(a, chunks=(size // 4, -1)) for a in (0.2 + 0.2 * np.sin(y), 0.25 * np.cos(x))]


def field(values: np.ndarray) -> xr.DataArray:
    """A map of the smoke, in four chunks of rows."""
    size = len(values)
    km = CELL * np.arange(size)
    lazy = da.from_array(values, chunks=(size // 4, -1))
    return xr.DataArray(lazy, {"y": km, "x": km}, ("y", "x"), name="smoke", attrs={"units": "mg/m3"})


def history(start: xr.DataArray, windows: int) -> xr.DataArray:
    """The smoke at the end of each window, in chunks of space and time."""
    wind, maps = winds(start.sizes["x"]), [start]

    def window(smoke: da.Array) -> da.Array:
        rows = {"depth": {0: STEPS, 1: 0}, "boundary": {0: "periodic", 1: "none"}}
        return da.map_overlap(advance, smoke, *wind, **rows, dtype=float)

    for _ in range(windows):
        maps.append(xr.apply_ufunc(window, maps[-1], dask="allowed", keep_attrs=True))
    hours = xr.DataArray(STEPS * HOURS * np.arange(1, windows + 1), dims="time", attrs={"units": "h"})
    return xr.concat(maps[1:], hours.rename("time"))


def measured(start: xr.DataArray, windows: int, stations: xr.Dataset) -> xr.DataArray:
    """The smoke at each station at the end of each window."""
    return history(start, windows).isel(y=stations.row, x=stations.column)


def cost(start: xr.DataArray, observed: xr.DataArray, stations: xr.Dataset) -> xr.DataArray:
    """The misfit, and a penalty for what is rough."""
    misfit = (measured(start, observed.sizes["time"], stations) - observed) / NOISE
    rough = sum((start.diff(axis) ** 2).sum() for axis in start.dims) / ROUGH**2
    return 0.5 * (misfit**2).sum() + 0.5 * rough


# --- to solve it, and to check it ---------------------------------------------------------------------------


def recover(
    observed: xr.DataArray, stations: xr.Dataset, size: int, iterations: int
) -> tuple[xr.DataArray, list]:
    """The initial field, and the cost after each evaluation; it starts from no smoke."""
    costs: list[float] = []

    def evaluate(values: np.ndarray) -> tuple[float, np.ndarray]:
        start = field(values.reshape(size, size))
        value, gradient = dask.compute(*pdl.value_and_gradients(cost(start, observed, stations), start))
        costs.append(float(value))
        return costs[-1], gradient.values.ravel()

    start, options = np.zeros(size * size), {"maxiter": iterations, "maxcor": 20}
    found = minimize(evaluate, start, jac=True, method="L-BFGS-B", options=options)
    return field(found.x.reshape(size, size)), costs


def mismatches(
    observed: xr.DataArray, stations: xr.Dataset, size: int, rng: np.random.Generator
) -> list[float]:
    """Of the adjoint <M d, w> = <d, M' w>, and of the slope of the cost against a difference; relative."""
    at, d = (field(rng.standard_normal((size, size))) for _ in range(2))
    w = observed.copy(data=rng.standard_normal(observed.shape))
    out = measured(at, observed.sizes["time"], stations)
    forward, backward = (pdl.tangents(out, at, d) * w).sum(), (pdl.gradients(out, at, w) * d).sum()
    slope = (pdl.gradients(cost(at, observed, stations), at) * d).sum()
    ends = [cost(at + h * d, observed, stations) for h in (-1e-3, 1e-3)]  # exact, for the cost is quadratic
    forward, backward, slope, before, after = map(float, dask.compute(forward, backward, slope, *ends))
    return [abs(forward / backward - 1.0), abs((after - before) / 2e-3 / slope - 1.0)]


# --- to run it ----------------------------------------------------------------------------------------------


def options() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description="Recover an initial field with gradients of xarray objects.")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--cluster", type=int, metavar="N", help="start N worker processes on this machine")
    where.add_argument("--address", metavar="tcp://...", help="join a running cluster")
    parser.add_argument("--size", type=int, default=48, help="cells in a row (default: %(default)s)")
    parser.add_argument("--stations", type=int, default=40, help="default: %(default)s")
    parser.add_argument("--windows", type=int, default=6, help="of 1.5 hours (default: %(default)s)")
    parser.add_argument("--iterations", type=int, default=20, help="at most (default: %(default)s)")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="write the fields as a picture")
    args = parser.parse_args()
    if args.size < 4 * STEPS or not 1 <= args.stations <= args.size**2:
        parser.error(f"--size must be at least {4 * STEPS}, --stations from 1 to the number of cells")
    if min(args.windows, args.iterations) < 1:
        parser.error("--windows and --iterations must be at least 1")
    return args


def picture(fields: dict[str, xr.DataArray], stations: xr.Dataset, path: Path) -> None:
    """Write the fields side by side, with the stations."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.5 * len(fields), 4), layout="constrained")
    for axes, (title, smoke) in zip(figure.subplots(1, len(fields)), fields.items(), strict=True):
        smoke.plot(ax=axes, vmin=0.0, vmax=1.0)
        axes.plot(CELL * stations.column, CELL * stations.row, "w.", markersize=3)
        axes.set(title=title, aspect="equal")
    figure.savefig(path, dpi=150)


def cluster_client(args: argparse.Namespace) -> AbstractContextManager:
    """Where Dask computes: a client, or nothing for the threads of this process."""
    if args.cluster is None and args.address is None:
        return nullcontext()
    from distributed import Client

    if args.address is not None:
        return Client(args.address)
    return Client(
        n_workers=args.cluster, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0"
    )


def main() -> int:
    """Measure a known field with noise, recover it, compare; 0 if that and the gradient are right."""
    args = options()
    rng, size = np.random.default_rng(0), args.size
    y, x = np.mgrid[:size, :size] / size
    puffs = ((1.0, 0.3, 0.35, 0.1), (0.7, 0.65, 0.7, 0.15))  # height, place, width
    truth = field(sum(a * np.exp(-((x - u) ** 2 + (y - v) ** 2) / w**2) for a, u, v, w in puffs))
    row, column = np.divmod(rng.choice(size * size, args.stations, replace=False), size)
    stations = xr.Dataset({"row": ("station", row), "column": ("station", column)})
    with cluster_client(args):
        observed = measured(truth, args.windows, stations).compute()
        observed = observed + NOISE * rng.standard_normal(observed.shape)
        adjoint, difference = mismatches(observed, stations, size, rng)
        began = perf_counter()
        found, costs = recover(observed, stations, size, args.iterations)
        seconds = perf_counter() - began
        slopes = pdl.gradients(cost(found, observed, stations), found)
        found, truth, last = dask.compute(found, truth, history(truth, args.windows).isel(time=-1))

    before, after = (float(np.sqrt(((f - truth) ** 2).mean())) for f in (0.0, found))
    print(f"field {dict(truth.sizes)}; {observed.size} measurements of {observed.sizes['station']} stations")
    print(f"its gradient: {slopes.dims}, coordinates {list(slopes.coords)}, chunks {slopes.chunks}")
    print(
        f"{len(costs)} evaluations, {seconds / len(costs):.2f} s each; cost {costs[0]:.1f} to {costs[-1]:.1f}"
    )
    print(f"mismatch of the adjoint {adjoint:.1e}, of the slope with a difference {difference:.1e} "
          f"(allowed: {ALLOWED_MISMATCH:.0e})")  # fmt: skip
    print(f"error of the field: {before:.4f} before, {after:.4f} after (allowed: half of it)")
    if args.picture:
        picture({"true": truth, "recovered": found, "true, at the end": last}, stations, args.picture)
    return 0 if max(adjoint, difference) < ALLOWED_MISMATCH and after < 0.5 * before else 1


if __name__ == "__main__":
    sys.exit(main())
