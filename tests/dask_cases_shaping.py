"""Operations of dask.array: indexing, in-place code, shapes, joining, padding, neighbours."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
from case_table import normal, positive, reseed, spread
from dask_table import DIFFERENTIABLE, both, constant, lazy

reseed(42)

# --- indexing ---------------------------------------------------------------------------------------------

ITEM = "Array.__getitem__"
ROWS = np.array([True, False, True, True, False])
both(ITEM, lambda m, x: x[1:5:2, ::-1], normal(6, 5), label="slice")
both(ITEM, lambda m, x: x[2, -1], normal(6, 5), label="integer")
both(ITEM, lambda m, x: x[..., None, 1], normal(6, 5), label="newaxis")
both(ITEM, lambda m, x: x[[0, 3, 3, 1]], normal(6, 5), label="fancy")
both(ITEM, lambda m, x: x[:, [4, 0, 0]][::-1], normal(6, 5), label="fancy-columns")
both(ITEM, lambda m, x: x[1:, [4, 0, 0]], normal(6, 5), label="mixed")
lazy(
    ITEM,
    lambda x: x[da.from_array(np.array([4, 0, 0, 2]), chunks=2)],
    normal(6, 5),
    label="lazy-indices",
    plain=lambda x: x[[4, 0, 0, 2]],
)
both(ITEM, lambda m, x: x[ROWS], normal(5, 4), label="mask-of-rows")
both(ITEM, lambda m, x: x[x > 0] ** 2, spread(7), label="mask")
both(ITEM, lambda m, x: x[x[:, 0] > 0] ** 2, spread(7, 2), label="lazy-mask-of-rows", chunks=(3, 2))
lazy(ITEM, lambda x: x[x > 0] ** 2, spread(5, 4), label="mask-2d")
lazy(
    ITEM,
    lambda x: (x[x > 0][:, None] * x[x > 0].sum()).sum(axis=0),
    spread(7),
    label="mask-unknown",
    plain=lambda x: (x[x > 0][:, None] * x[x > 0].sum()).sum(axis=0),
)
both("take", lambda m, x: m.take(x, [0, 2, 2], axis=1), normal(5, 4))
both("compress", lambda m, x: m.compress(ROWS, x, axis=0), normal(5, 4))
both("compress", lambda m, x: m.compress(x[:, 0] > 0, x, axis=0), spread(5, 4), label="lazy")
both("extract", lambda m, x: m.extract(x > 0, x), spread(7))
lazy(
    "Array.vindex",
    lambda x: x.vindex[[0, 3, 3], [1, 0, 4]],
    normal(6, 5),
    plain=lambda x: x[[0, 3, 3], [1, 0, 4]],
)
lazy(
    "Array.vindex",
    lambda x: x.vindex[[0, 3], :, [[1, 0], [4, 4]]],
    normal(6, 3, 5),
    label="slices",
    plain=lambda x: x[[0, 3], :, [[1, 0], [4, 4]]],
)
lazy("Array.blocks", lambda x: x.blocks[1, ::2], normal(6, 5), plain=lambda x: x[2:5][:, [0, 1, 4]])
lazy("Array.blocks", lambda x: x.blocks[[2, 0, 0]], normal(6, 5), label="list")
lazy("Array.partitions", lambda x: x.partitions[1], normal(6, 5), plain=lambda x: x[2:5])
lazy(
    "shuffle",
    lambda x: da.shuffle(x, [[0, 3], [2, 1, 1]], axis=0),
    normal(5, 3),
    plain=lambda x: x[[0, 3, 2, 1, 1]],
)
lazy(
    "Array.shuffle",
    lambda x: x.shuffle([[2], [1, 0, 0]], axis=1),
    normal(5, 3),
    plain=lambda x: x[:, [2, 1, 0, 0]],
)

SET = "Array.__setitem__"


def written(m: Any, x: Any, index: Any, value: Any) -> Any:
    y = x.copy()
    y[index] = value
    return y * x


both(SET, lambda m, x, v: written(m, x, (slice(1, 4), 2), v), normal(6, 5), normal(3), label="slice")
both(SET, lambda m, x, v: written(m, x, 3, v), normal(6, 5), normal(5), label="row")
both(SET, lambda m, x: written(m, x, (slice(None, None, -2), [0, 4]), 7.0), normal(6, 5), label="constant")
both(SET, lambda m, x, v: written(m, x, [0, 3, 5], v), normal(6, 5), normal(3, 5), label="list")
both(SET, lambda m, x, v: written(m, x, ROWS, v), normal(5, 4), normal(4), label="mask")
both(SET, lambda m, x: written(m, x, x > 0, 2.0), spread(5, 4), label="lazy-mask")
both(SET, lambda m, x, v: written(m, x, x > 0, v), spread(5, 4), np.asarray(0.7), label="lazy-mask-value")
both(SET, lambda m, x, v: written(m, x * 0, 1, v), normal(5, 4), normal(4), label="zeros")

# --- shapes -----------------------------------------------------------------------------------------------

for _f, call in {
    "ravel": lambda m, x: m.ravel(x),
    "transpose": lambda m, x: m.transpose(x, (2, 0, 1)),
    "swapaxes": lambda m, x: m.swapaxes(x, 0, 2),
    "moveaxis": lambda m, x: m.moveaxis(x, [0, 1], [-1, 0]),
    "rollaxis": lambda m, x: m.rollaxis(x, 2, 0),
    "flip": lambda m, x: m.flip(x, 1),
    "fliplr": lambda m, x: m.fliplr(x),
    "flipud": lambda m, x: m.flipud(x),
    "rot90": lambda m, x: m.rot90(x, 3, axes=(0, 2)),
    "roll": lambda m, x: m.roll(x, (1, -2), axis=(0, 1)),
    "expand_dims": lambda m, x: m.expand_dims(x, (0, 2)),
    "atleast_1d": lambda m, x: m.atleast_1d(x),
    "atleast_2d": lambda m, x: m.atleast_2d(x[0, 0]),
    "atleast_3d": lambda m, x: m.atleast_3d(x[0]),
    "squeeze": lambda m, x: m.squeeze(x[:1]),
    "broadcast_to": lambda m, x: m.broadcast_to(x[:, :1], (2, 4, 5, 3)),
    "broadcast_arrays": lambda m, x: list(m.broadcast_arrays(x, x[0] ** 2)),
    "reshape": lambda m, x: m.reshape(x, (2, 2, -1)),
    "tile": lambda m, x: m.tile(x, (2, 1, 2)),
    "repeat": lambda m, x: m.repeat(x, 2, axis=1),
    "meshgrid": lambda m, x: list(m.meshgrid(x[0, 0], x[:, 0, 1] ** 2)),
}.items():
    both(_f, call, normal(4, 5, 3))
both(
    "meshgrid",
    lambda m, x, y: list(m.meshgrid(x, y, indexing="ij", sparse=True)),
    normal(4),
    normal(3),
    label="ij",
)
both("roll", lambda m, x: m.roll(x, 3), normal(4, 3), label="flat")
both("repeat", lambda m, x: m.repeat(x, 3), normal(5), label="vector")
for merge in (True, False):
    lazy(
        "reshape",
        lambda x, k=merge: da.reshape(x, (3, 8), merge_chunks=k),
        normal(3, 2, 4),
        label=f"merge-{merge}",
        chunks=(2, 1, 3),
        plain=lambda x: x.reshape(3, 8),
    )
    lazy(
        "Array.reshape",
        lambda x, k=merge: x.reshape(12, 2, merge_chunks=k),
        normal(3, 4, 2),
        label=f"merge-{merge}",
        chunks=(1, 2, 2),
        plain=lambda x: x.reshape(12, 2),
    )
lazy(
    "reshape_blockwise",
    lambda x: da.reshape_blockwise(x, (6, 3), chunks=None) + 0.0,
    normal(2, 3, 3),
    chunks=(1, 3, 3),
    plain=lambda x: x.reshape(6, 3),
)
both("Array.ravel", lambda m, x: x.ravel(), normal(5, 4))
both("Array.flatten", lambda m, x: x.flatten(), normal(5, 4))
both("Array.squeeze", lambda m, x: x[:, :1].squeeze(1), normal(5, 4))
both("Array.swapaxes", lambda m, x: x.swapaxes(0, 1), normal(5, 4))
both("Array.transpose", lambda m, x: x.transpose(1, 0), normal(5, 4))
both("Array.T", lambda m, x: x.T, normal(5, 4))
both("Array.A", lambda m, x: x.A if m is da else x, normal(5, 4))
both("Array.repeat", lambda m, x: x.repeat(2, axis=0), normal(5, 4))
both("Array.__iter__", lambda m, x: sum(k * row for k, row in enumerate(x)), normal(5, 4))
lazy("rechunk", lambda x: da.rechunk(x, (3, 5)), normal(6, 5), plain=lambda x: x + 0)
lazy(
    "rechunk",
    lambda x: da.rechunk(x, ((1, 5), (3, 2)), threshold=1) ** 2,
    normal(6, 5),
    label="steps",
    chunks=1,
)
lazy("rechunk", lambda x: da.rechunk(x, {0: -1}, balance=True), normal(6, 5), label="balance")
lazy("Array.rechunk", lambda x: x.rechunk((1, 4)), normal(6, 5), plain=lambda x: x + 0)
lazy(
    "unify_chunks",
    lambda x, y: da.unify_chunks(x, "ij", y, "j")[1],
    normal(4, 6),
    normal(6),
    chunks=[(2, 3), (2,)],
    plain=lambda x, y: [x + 0, y + 0],
)
lazy("Array.view", lambda x: x.view(x.dtype), normal(5, 4), plain=lambda x: x + 0)

# --- joining ----------------------------------------------------------------------------------------------

for _f, call in {
    "concatenate": lambda m, x, y: m.concatenate([x, y, x * y], axis=1),
    "stack": lambda m, x, y: m.stack([x, y, x * y], axis=1),
    "hstack": lambda m, x, y: m.hstack([x, y]),
    "vstack": lambda m, x, y: m.vstack([x, y, x[0]]),
    "dstack": lambda m, x, y: m.dstack([x, y]),
    "block": lambda m, x, y: m.block([[x, y], [m.sin(x), x * y]]),
    "append": lambda m, x, y: m.append(x, y, axis=0),
    "insert": lambda m, x, y: m.insert(x, [1, 3], y[:2], axis=0),
    "delete": lambda m, x, y: m.delete(x, [1, 3], axis=0) * y[:3],
}.items():
    both(_f, call, normal(5, 4), normal(5, 4))
both("append", lambda m, x: m.append(x, x**2), normal(3, 2), label="flat")
both("insert", lambda m, x: m.insert(x, 2, 7.0, axis=1), normal(5, 4), label="constant")
both("delete", lambda m, x: m.delete(x, slice(1, 3), axis=1), normal(5, 4), label="slice")

MODES: dict[str, dict[str, Any]] = {
    "constant": {"constant_values": 2.0},
    "edge": {},
    "linear_ramp": {"end_values": 3.0},
    "maximum": {},
    "mean": {},
    "minimum": {},
    "reflect": {},
    "symmetric": {},
    "wrap": {},
}
for mode, options in MODES.items():
    both(
        "pad",
        lambda m, x, k=mode, o=options: m.pad(x, ((1, 2), (0, 1)), mode=k, **o),
        spread(5, 4),
        label=mode,
    )
for mode in ("maximum", "mean", "minimum"):
    both("pad", lambda m, x, k=mode: m.pad(x, 2, mode=k, stat_length=2), spread(5), label=f"{mode}-length")
lazy("pad", lambda x: da.pad(x, 1, mode="empty")[1:-1], normal(5), label="empty", plain=lambda x: x + 0)

for _f, call in {
    "diff": lambda m, x: m.diff(x, n=2, axis=0),
    "ediff1d": lambda m, x: m.ediff1d(x, to_begin=1.0),
    "tril": lambda m, x: m.tril(x, 1),
    "triu": lambda m, x: m.triu(x, -1),
    "diagonal": lambda m, x: m.diagonal(x, 1),
    "diag": lambda m, x: m.diag(x),
}.items():
    both(_f, call, normal(5, 5))
both("diff", lambda m, x: m.diff(x, prepend=[1.0, 2.0], append=2.0), normal(5), label="prepend")
both("gradient", lambda m, x: list(m.gradient(x)), normal(5, 4), chunks=((2, 3), 2))
both("gradient", lambda m, x: m.gradient(x, 0.5, axis=0), normal(6, 4), chunks=(3, 2), label="axis")
both(
    "gradient",
    lambda m, x: m.gradient(x, np.arange(7.0) ** 1.5, axis=0, edge_order=2),
    normal(7, 3),
    chunks=((3, 4), 2),
    label="spacing",
)
both("diag", lambda m, x: m.diag(x), normal(5), label="vector")
both("diag", lambda m, x: m.diag(x, 1), normal(4), label="offset")
both("diagonal", lambda m, x: m.diagonal(x, -1, 2, 0), normal(3, 4, 5), label="axes")
lazy(
    "coarsen",
    lambda x: da.coarsen(np.mean, x, {0: 2, 1: 3}, trim_excess=True),
    normal(7, 6),
    chunks=(4, 3),
    plain=lambda x: x[:6].reshape(3, 2, 2, 3).mean(axis=(1, 3)),
)
lazy(
    "coarsen",
    lambda x: da.coarsen(np.max, x, {0: 2}),
    spread(6),
    label="max",
    chunks=2,
    plain=lambda x: x.reshape(3, 2).max(1),
)

WINDOWS = np.lib.stride_tricks.sliding_window_view
lazy(
    "overlap.sliding_window_view",
    lambda x: da.overlap.sliding_window_view(x, 3, axis=0).mean(axis=-1),
    normal(7, 4),
    plain=lambda x: WINDOWS(x, 3, axis=0).mean(axis=-1),
)
lazy(
    "overlap.sliding_window_view",
    lambda x: da.lib.stride_tricks.sliding_window_view(x, (2, 3)).sum(axis=-1),
    normal(6, 5),
    label="2d",
    plain=lambda x: WINDOWS(x, (2, 3)).sum(axis=-1),
)

# --- indices and counts, which carry no derivative --------------------------------------------------------

for _f in ("argwhere", "nonzero", "flatnonzero"):
    constant(_f, lambda m, x, f=_f: sized(getattr(da, f)(x > 0)), spread(7))
constant("Array.nonzero", lambda m, x: sized((x > 0).nonzero()), spread(7))
constant("digitize", lambda m, x: m.digitize(x, np.array([-1.0, 0.0, 1.0])), spread(5, 4))
constant("searchsorted", lambda m, x: m.searchsorted(m.arange(5.0, chunks=2), x), spread(7))
constant(
    "ravel_multi_index", lambda m, x: m.ravel_multi_index([m.rint(x).astype(int)] * 2, (9, 9)), positive(5)
)
constant("unravel_index", lambda m, x: list(m.unravel_index(m.rint(x).astype(int), (3, 3))), positive(5))
constant("tril_indices_from", lambda m, x: list(m.tril_indices_from(x)), normal(5, 5))
constant("triu_indices_from", lambda m, x: list(m.triu_indices_from(x)), normal(5, 5))
for _f in ("zeros_like", "ones_like", "empty_like"):
    constant(_f, lambda m, x, f=_f: getattr(m, f)(x) * 0 + 1.0, normal(5, 4))
constant("full_like", lambda m, x: m.full_like(x, 3.0), normal(5, 4))
constant(
    "bincount",
    lambda m, x: m.bincount(m.rint(x).astype(int), minlength=4),
    positive(7),
    label="counts",
    table=DIFFERENTIABLE,
)


def sized(found: Any) -> Any:
    for array in found if isinstance(found, tuple) else [found]:
        array.compute_chunk_sizes()
    return found
