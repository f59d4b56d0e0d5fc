"""Operations of dask.array: functions of the user's: by block, with overlap, gufuncs, Delayed."""

from __future__ import annotations

import functools
import warnings
from typing import Any

import dask.array as da
import numpy as np
import scipy.linalg
import scipy.signal
import scipy.stats
from case_table import normal, reseed
from dask import delayed
from dask_table import both, lazy

import paradual as pdl
import paradual.scipy.linalg

reseed(45)

# --- functions of the user's ------------------------------------------------------------------------------

lazy(
    "map_blocks",
    lambda x: da.map_blocks(lambda b: np.tanh(b) * b, x),
    normal(5, 4),
    plain=lambda x: np.tanh(x) * x,
)
lazy(
    "map_blocks",
    lambda x: da.map_blocks(lambda b: b.sum(axis=1), x, drop_axis=1, dtype=float),
    normal(5, 4),
    label="drop-axis",
    chunks=(2, 4),
    plain=lambda x: x.sum(axis=1),
)
lazy(
    "map_blocks",
    lambda x: da.map_blocks(
        lambda b: np.stack([b, b**2]), x, new_axis=0, chunks=((2,), *x.chunks), dtype=float
    ),
    normal(5, 4),
    label="new-axis",
    plain=lambda x: np.stack([x, x**2]),
)
lazy(
    "map_blocks",
    lambda x: da.map_blocks(lambda b, block_id: b * (1 + sum(block_id)), x, dtype=float),
    normal(5),
    label="block-id",
    plain=lambda x: x * np.array([1, 1, 2, 2, 3]),
)
lazy(
    "map_blocks",
    lambda x: da.map_blocks(lambda b, block_info: b * block_info[0]["array-location"][0][0], x, dtype=float),
    normal(5),
    label="block-info",
    plain=lambda x: x * np.array([0, 0, 2, 2, 4]),
)
lazy(
    "map_blocks",
    lambda x, y: da.map_blocks(lambda b, c, k: b * c + k, x, y, k=2.0),
    normal(5, 4),
    normal(1, 4),
    label="broadcast",
    plain=lambda x, y: x * y + 2.0,
)
lazy("Array.map_blocks", lambda x: x.map_blocks(np.exp), normal(5), plain=np.exp)
# compiled functions of SciPy, for which those of paradual.scipy stand
lazy(
    "map_blocks",
    lambda x: x.map_blocks(scipy.linalg.expm),
    normal(4, 2),
    chunks=(2, 2),
    label="expm",
    plain=lambda x: np.concatenate([pdl.scipy.linalg.expm(x[:2]), pdl.scipy.linalg.expm(x[2:])]),
)
lazy(
    "map_blocks",
    lambda x: da.map_blocks(functools.partial(scipy.signal.fftconvolve, mode="same"), x, np.arange(3.0)),
    normal(7),
    chunks=7,
    label="partial",
    plain=lambda x: np.convolve(x, np.arange(3.0), mode="same"),
)
lazy("map_blocks", lambda x: x.map_blocks(scipy.stats.norm.logcdf), normal(5), label="distribution")
lazy(
    "blockwise",
    lambda x, y: da.blockwise(lambda a, b: np.outer(a, b), "ij", x, "i", y, "j", dtype=float),
    normal(5),
    normal(4),
    plain=np.outer,
)
lazy(
    "blockwise",
    lambda x, y: da.blockwise(
        lambda a, b: sum(np.dot(p, q) for p, q in zip(a, b, strict=True)), "ik", x, "ij", y, "jk", dtype=float
    ),
    normal(5, 4),
    normal(4, 3),
    label="contraction",
    plain=np.matmul,
)
lazy(
    "blockwise",
    lambda x: da.blockwise(lambda a: np.dot(a, np.ones(5)), "i", x, "ij", concatenate=True, dtype=float),
    normal(4, 5),
    label="concatenate",
    plain=lambda x: x.sum(axis=1),
)
lazy(
    "blockwise",
    lambda x: da.blockwise(lambda a: np.stack([a, a * a]), "ki", x, "i", new_axes={"k": 2}, dtype=float),
    normal(5),
    label="new-axes",
    plain=lambda x: np.stack([x, x * x]),
)
lazy("atop", lambda x: _atop(lambda a: a * a, "i", x, "i", dtype=float), normal(5), plain=lambda x: x * x)


def _atop(*args: Any, **options: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return da.atop(*args, **options)


def shifted(b: Any) -> Any:
    return b * np.roll(b, 1, 0) - 0.5 * np.roll(b, -1, 0)


BOUNDARIES: dict[Any, Any] = {
    "periodic": "wrap",
    "reflect": "symmetric",
    "nearest": "edge",
    2.0: "constant",
}
for boundary, mode in BOUNDARIES.items():
    options = {"constant_values": boundary} if mode == "constant" else {}
    for _f in ("map_overlap", "Array.map_overlap"):
        lazy(
            _f,
            lambda x, f=_f, k=boundary: (
                x.map_overlap(shifted, depth={0: 2, 1: 0}, boundary=k)
                if f == "Array.map_overlap"
                else da.map_overlap(shifted, x, depth={0: 2, 1: 0}, boundary=k)
            ),
            normal(8, 3),
            chunks=(3, 2),
            label=f"{boundary}",
            plain=lambda x, k=mode, o=options: shifted(np.pad(x, ((2, 2), (0, 0)), mode=k, **o))[2:-2],
        )
    lazy(
        "overlap.overlap",
        lambda x, k=boundary: da.overlap.overlap(x, depth={0: 2}, boundary={0: k}),
        normal(8, 3),
        chunks=(4, 2),
        label=f"{boundary}",
    )
lazy(
    "map_overlap",
    lambda x: da.map_overlap(shifted, x, depth={0: (1, 2)}, boundary="none"),
    normal(8, 2),
    label="asymmetric",
)
lazy(
    "map_overlap",
    lambda x: da.map_overlap(lambda b: b * b.sum(), x, depth=1, boundary="none"),
    normal(7),
    label="none-trim",
    chunks=3,
)
lazy(
    "map_overlap",
    lambda x, y: da.map_overlap(lambda b, c: b * np.roll(c, 1), x, y, depth=1, boundary="periodic"),
    normal(7),
    normal(7),
    label="two",
    chunks=[3, 3],
)
lazy(
    "overlap.trim_internal",
    lambda x: da.overlap.trim_internal(x * x, {0: 1}, boundary="reflect"),
    normal(8),
    chunks=4,
)
lazy(
    "overlap.trim_overlap",
    lambda x: da.overlap.trim_overlap(x * x, depth={0: 1}, boundary={0: "reflect"}),
    normal(8),
    chunks=4,
)
for _f in ("periodic", "reflect", "nearest"):
    lazy(f"overlap.{_f}", lambda x, f=_f: getattr(da.overlap, f)(x, 0, 2), normal(8), chunks=4)
lazy("overlap.constant", lambda x: da.overlap.constant(x, 0, 2, 3.0), normal(8), chunks=4)
lazy("overlap.boundaries", lambda x: da.overlap.boundaries(x, {0: 1}, {0: "periodic"}), normal(8), chunks=4)
lazy("overlap.overlap_internal", lambda x: da.overlap.overlap_internal(x, {0: 1}), normal(8), chunks=4)
lazy(
    "overlap.add_dummy_padding",
    lambda x: da.overlap.add_dummy_padding(x, {0: 2}, {0: "none"}),
    normal(8),
    chunks=4,
)

GUFUNCS: dict[str, Any] = {
    "apply_gufunc": lambda x: da.apply_gufunc(
        lambda a: a.mean(axis=-1) * a[..., 0], "(i)->()", x, output_dtypes=float
    ),
    "gufunc": lambda x: da.gufunc(
        lambda a: a.mean(axis=-1) * a[..., 0], signature="(i)->()", output_dtypes=float
    )(x),
    "as_gufunc": lambda x: da.as_gufunc("(i)->()", output_dtypes=float)(
        lambda a: a.mean(axis=-1) * a[..., 0]
    )(x),
}
for _f, call in GUFUNCS.items():
    lazy(_f, call, normal(5, 4), chunks=(2, 4), plain=lambda x: x.mean(axis=-1) * x[..., 0])
lazy(
    "apply_gufunc",
    lambda x, y: list(
        da.apply_gufunc(
            lambda a, b: (np.einsum("...i,...i->...", a, b), a - b),
            "(i),(i)->(),(i)",
            x,
            y,
            output_dtypes=(float, float),
            allow_rechunk=True,
        )
    ),
    normal(5, 4),
    normal(4),
    label="two",
    plain=lambda x, y: [x @ y, x - y],
)
both("apply_along_axis", lambda m, x: m.apply_along_axis(lambda a: a[0] * a.sum(), 0, x), normal(5, 4))
lazy(
    "apply_along_axis",
    lambda x: da.apply_along_axis(np.cumsum, 1, x, dtype=float, shape=(4,)),
    normal(5, 4),
    label="shape",
    plain=lambda x: np.cumsum(x, 1),
)
both("apply_over_axes", lambda m, x: m.apply_over_axes(np.sum, x**2, [0, 2]), normal(5, 4, 3))
for weights in (False, True):
    lazy(
        "reduction",
        lambda x, w=weights: da.reduction(
            x,
            chunk=lambda b, axis, keepdims: {
                "top": np.max(b, axis=axis, keepdims=True),
                "sum": np.sum(np.exp(b - np.max(b, axis=axis, keepdims=True)), axis=axis, keepdims=True),
            },
            combine=_combine if w else None,
            aggregate=lambda p, axis, keepdims: _finish(_combine(p, axis, keepdims), axis, keepdims),
            axis=1,
            split_every=2 if w else None,
            dtype=float,
            concatenate=False,
            meta=np.empty(0),
        ),
        normal(4, 7),
        chunks=(2, 2 if weights else 4),
        label="combine" if weights else "",
        plain=lambda x: np.log(np.sum(np.exp(x), axis=1)),
    )


def _combine(parts: Any, axis: Any, keepdims: Any) -> Any:
    if not isinstance(parts, list | dict):
        return parts  # Dask asks what comes out for an empty array
    parts = list(_flat(parts))
    top = np.max(np.stack([p["top"] for p in parts]), axis=0)
    return {"top": top, "sum": sum(p["sum"] * np.exp(p["top"] - top) for p in parts)}


def _finish(p: Any, axis: Any, keepdims: Any) -> Any:
    if not isinstance(p, dict):
        return p[:, 0]
    return np.squeeze(p["top"] + np.log(p["sum"]), axis=axis)


def _flat(parts: Any) -> Any:
    for p in parts if isinstance(parts, list) else [parts]:
        if isinstance(p, list):
            yield from _flat(p)
        else:
            yield p


lazy(
    "from_delayed",
    lambda x: da.from_delayed(delayed(np.cumsum)(x**2), shape=(5,), dtype=float),
    normal(5),
    plain=lambda x: np.cumsum(x**2),
)
lazy(
    "Array.to_delayed",
    lambda x: da.stack(
        [da.from_delayed(delayed(np.sum)(b), shape=(), dtype=float) for b in (x**2).to_delayed().ravel()]
    ),
    normal(5),
    plain=lambda x: np.stack([(x[:2] ** 2).sum(), (x[2:4] ** 2).sum(), x[4] ** 2]),
)
for _f in ("asarray", "asanyarray", "array"):
    lazy(_f, lambda x, f=_f: getattr(da, f)(x) * x, normal(5), plain=lambda x: x * x)
lazy("asarray", lambda x: da.asarray([x, x**2]), normal(5), label="list", plain=lambda x: np.stack([x, x**2]))
