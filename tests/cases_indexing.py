"""Cases of `test_rules`: shapes, indexing, choosing and sorting."""

import operator

import numpy as np
from case_table import MASK, case, normal, spread, square, z

from paradual.arrays import cast, item, scatter_sum
from paradual.rules.shaping import pad_zeros

# --- shapes -----------------------------------------------------------------------------------------------

case(np.reshape, "tuple", normal(2, 6), fn=lambda a: np.reshape(a, (3, 4)))
case(np.reshape, "infer", normal(2, 6), fn=lambda a: np.reshape(a, (4, -1)))
case(np.reshape, "fortran", normal(2, 6), fn=lambda a: np.reshape(a, (3, 4), order="F"))
case(np.reshape, "method", normal(2, 6), fn=lambda a: a.reshape(3, 4))
case(np.reshape, "0d", normal(), fn=lambda a: np.reshape(a, (1, 1)))
case(np.reshape, "empty", np.zeros((0, 3)), fn=lambda a: np.reshape(a, (3, 0)))
case(np.ravel, "c", normal(2, 3))
case(np.ravel, "fortran", normal(2, 3), order="F")
case(np.ravel, "flatten", normal(2, 3), fn=lambda a: a.flatten())
case(np.squeeze, "all", normal(1, 3, 1))
case(np.squeeze, "axis", normal(1, 3, 1), axis=-1)
case(np.squeeze, "axes", normal(1, 3, 1), axis=(0, 2))
case(np.expand_dims, "axis", normal(2, 3), axis=-1)
case(np.expand_dims, "axes", normal(2, 3), axis=(0, 2))
case(np.broadcast_to, "rows", normal(3), fn=lambda a: np.broadcast_to(a, (2, 3)))
case(np.broadcast_to, "ones", normal(2, 1, 3), fn=lambda a: np.broadcast_to(a, (4, 2, 5, 3)))
case(np.broadcast_to, "0d", normal(), fn=lambda a: np.broadcast_to(a, (2, 2)))
case(np.broadcast_to, "empty", normal(1, 3), fn=lambda a: np.broadcast_to(a, (0, 3)))
case(np.broadcast_arrays, "three", normal(3), normal(2, 1), 0.5)
for f in (np.atleast_1d, np.atleast_2d, np.atleast_3d):
    for shape in ((), (2,), (2, 3), (2, 3, 2)):
        case(f, f"{len(shape)}d", normal(*shape))
    case(f, "several", normal(), normal(2))
case(np.transpose, "plain", normal(2, 3, 4))
case(np.transpose, "axes", normal(2, 3, 4), axes=(1, 2, 0))
case(np.transpose, "negative", normal(2, 3, 4), axes=(-1, 0, -2))
case(np.transpose, "T", normal(2, 3), fn=lambda a: a.T)
case(np.transpose, "method", normal(2, 3, 4), fn=lambda a: a.transpose(1, 2, 0))
case(np.swapaxes, "plain", normal(2, 3, 4), fn=lambda a: np.swapaxes(a, 0, -1))
case(np.moveaxis, "one", normal(2, 3, 4), fn=lambda a: np.moveaxis(a, 0, -1))
case(np.moveaxis, "two", normal(2, 3, 4), fn=lambda a: np.moveaxis(a, (0, 1), (-1, 0)))
for axis in range(3):
    for start in range(4):
        case(
            np.rollaxis,
            f"{axis}-{start}",
            normal(2, 3, 4),
            fn=lambda a, k=axis, s=start: np.rollaxis(a, k, s),
        )
case(np.rollaxis, "negative", normal(2, 3, 4), fn=lambda a: np.rollaxis(a, -1, -2))
for axis in (None, 0, -1, (0, 2)):
    case(np.flip, f"axis{axis}".replace(" ", ""), normal(2, 3, 4), axis=axis)
case(np.flipud, "2d", normal(2, 3))
case(np.fliplr, "2d", normal(2, 3))
case(np.rot90, "plain", normal(2, 3))
case(np.rot90, "k-1", normal(2, 3), k=-1)
case(np.rot90, "k2-axes", normal(2, 3, 4), k=3, axes=(1, 2))
case(np.roll, "flat", normal(2, 3), shift=2)
case(np.roll, "axis", normal(2, 3), shift=1, axis=1)
case(np.roll, "axes", normal(2, 3), shift=(1, 2), axis=(0, 1))
case(np.roll, "one-shift-axes", normal(2, 3), shift=1, axis=(0, 1))
if hasattr(np, "matrix_transpose"):
    case(np.matrix_transpose, "stack", normal(2, 3, 4))

case(np.concatenate, "axis0", normal(2, 3), normal(1, 3), fn=lambda a, b: np.concatenate([a, b]))
case(np.concatenate, "axis-1", normal(2, 3), normal(2, 1), fn=lambda a, b: np.concatenate((a, b), axis=-1))
case(np.concatenate, "flat", normal(2, 3), normal(2), fn=lambda a, b: np.concatenate([a, b], axis=None))
case(np.concatenate, "same", normal(2), fn=lambda a: np.concatenate([a, a * 2, a]))
case(np.concatenate, "constant", normal(2), fn=lambda a: np.concatenate([np.ones(1), a, np.arange(2)]))
case(np.concatenate, "empty", normal(0, 2), normal(1, 2), fn=lambda a, b: np.concatenate([a, b]))
case(np.concatenate, "complex", normal(2), z(2), fn=lambda a, b: np.concatenate([a, b]))
for axis in (0, 1, -1):
    case(np.stack, f"axis{axis}", normal(2), normal(2), fn=lambda a, b, k=axis: np.stack([a, b], axis=k))
case(np.stack, "numbers", 0.5, normal(), fn=lambda a, b: np.stack([a, b, 3.0]))
for f in (np.vstack, np.hstack, np.dstack, np.column_stack):
    case(f, "1d", normal(2), normal(2), fn=lambda a, b, f=f: f([a, b]))
    case(f, "2d", normal(2, 2), normal(2, 2), fn=lambda a, b, f=f: f((a, b)))
for f in (np.vstack, np.hstack, np.dstack):
    case(f, "0d", normal(), 0.3, fn=lambda a, b, f=f: f([a, b]))
case(np.append, "flat", normal(2, 3), normal(2))
case(np.append, "number", normal(2, 3), 0.5)
case(np.append, "axis", normal(2, 3), normal(2, 2), axis=1)
case(np.block, "2d", normal(2, 2), normal(2, 1), normal(3), fn=lambda a, b, c: np.block([[a, b], [c]]))
case(np.block, "1d", normal(2), 0.5, fn=lambda a, b: np.block([a, b]))
case(np.block, "deep", normal(2), normal(1, 2, 2), fn=lambda a, b: np.block([[a, a], [b, b]]))
case(np.block, "alone", normal(2, 2), fn=lambda a: np.block(a))

for f in (np.split, np.array_split, np.vsplit):
    case(f, "sections", normal(4, 2), fn=lambda a, f=f: f(a, 2))
    case(f, "indices", normal(4, 2), fn=lambda a, f=f: f(a, [1, 3]))
case(np.array_split, "uneven", normal(2, 5), fn=lambda a: np.array_split(a, 3, axis=-1))
case(np.split, "beyond", normal(3), fn=lambda a: np.split(a, [2, 5]))
case(np.hsplit, "1d", normal(4), fn=lambda a: np.hsplit(a, 2))
case(np.hsplit, "2d", normal(2, 4), fn=lambda a: np.hsplit(a, [1]))
case(np.dsplit, "3d", normal(1, 2, 4), fn=lambda a: np.dsplit(a, 2))
if hasattr(np, "unstack"):
    case(np.unstack, "axis0", normal(2, 3))
    case(np.unstack, "axis-1", normal(2, 3), axis=-1)
case(np.delete, "int", normal(4), fn=lambda a: np.delete(a, 1))
case(np.delete, "list-axis", normal(2, 4), fn=lambda a: np.delete(a, [0, 2], axis=-1))
case(np.delete, "slice", normal(2, 3), fn=lambda a: np.delete(a, slice(1, 4)))
case(np.repeat, "flat", normal(2, 2), repeats=2)
case(np.repeat, "axis", normal(2, 3), repeats=2, axis=-1)
case(np.repeat, "counts", normal(2, 3), fn=lambda a: np.repeat(a, [1, 0, 2], axis=1))
case(np.repeat, "number", 0.3, fn=lambda a: np.repeat(a, 3))
case(np.tile, "int", normal(2, 2), reps=2)
case(np.tile, "more", normal(2), reps=(2, 1, 3))
case(np.tile, "fewer", normal(2, 1, 2), reps=(2, 2))
for mode in ("edge", "reflect", "symmetric", "wrap"):
    case(np.pad, mode, normal(3, 4), fn=lambda a, m=mode: np.pad(a, ((1, 0), (2, 1)), mode=m))
case(np.pad, "constant", normal(2, 2), fn=lambda a: np.pad(a, 1))
case(np.pad, "values", normal(3), fn=lambda a: np.pad(a, (1, 2), constant_values=(2.0, 3.0)))
case(np.pad, "complex", z(3), fn=lambda a: np.pad(a, 1, constant_values=2j))
for f in (np.tril, np.triu):
    for k in (0, 1, -1):
        case(f, f"k{k}", normal(3, 4), k=k)
    case(f, "stack", normal(2, 3, 3))
    case(f, "1d", normal(3))
for k in (0, 1, -1):
    case(np.diag, f"vector-k{k}", normal(3), k=k)
    case(np.diag, f"matrix-k{k}", normal(3, 4), k=k)
    case(np.diagonal, f"offset{k}", normal(3, 4), offset=k)
    case(np.trace, f"offset{k}", normal(3, 4), offset=k)
case(np.diag, "tall", normal(4, 2), k=-1)
case(np.diagflat, "2d", normal(2, 2), k=1)
for f in (np.diagonal, np.trace):
    case(f, "axes", normal(2, 3, 3), axis1=1, axis2=2)
    case(f, "axes-swapped", normal(3, 2, 4), axis1=-1, axis2=0)

# --- indexing, choosing, sorting --------------------------------------------------------------------------

INDICES = {
    "int": 1,
    "negative": -1,
    "slice": slice(0, 2),
    "reversed": slice(None, None, -2),
    "tuple": (1, 2),
    "columns": (slice(None), 1),
    "newaxis": (None, 0, ..., None),
    "ellipsis": (..., slice(1, 3)),
    "mask": np.arange(12).reshape(3, 4) % 3 == 0,
    "row-mask": np.array([True, False, True]),
    "array": np.array([2, 0]),
    "repeats": np.array([[0, 0], [2, 0]]),
    "list": [0, 2, 0],
    "pairs": (np.array([0, 0, 2]), np.array([1, 1, 3])),
    "array-slice": (np.array([1, 1]), slice(1, None)),
    "apart": (slice(None), None, np.array([0, 0])),
    "nothing": slice(0, 0),
    "all": ...,
}
for label, index in INDICES.items():
    case(operator.getitem, label, normal(3, 4), fn=lambda a, i=index: a[i])
case(operator.getitem, "complex", z(3), fn=lambda a: a[[0, 0, 1]])
case(operator.getitem, "sum-of-many", normal(4), fn=lambda a: a[0] * a[1:] + a[:-1] ** 2 + a[[0, 0, 3]])
case(operator.getitem, "iteration", normal(3), fn=lambda a: [x * x for x in a])
case(item, "slogdet", square(3, 3), fn=lambda a: np.linalg.slogdet(a))
case(cast, "float32", normal(3), fn=lambda a: a.astype(np.float32) * 2)
case(cast, "complex", normal(3), fn=lambda a: a.astype(complex) * 1j)
if hasattr(np, "astype"):
    case(np.astype, "float32", normal(3), fn=lambda a: np.astype(a, np.float32))
case(
    scatter_sum,
    "base",
    normal(3),
    normal(2),
    fn=lambda a, b: scatter_sum(a, [slice(0, 2), np.array([0, 0])], [b, b * b], a.shape, a.dtype),
)
case(
    scatter_sum,
    "no-base",
    normal(2),
    normal(1),
    fn=lambda a, b: scatter_sum(None, [np.array([1, 1]), slice(2, 3)], [a, b], (3,), a.dtype),
)

case(np.where, "both", normal(2, 3), normal(2, 3), fn=lambda x, y: np.where(MASK, x, y))
case(np.where, "broadcast", normal(3), normal(2, 1), fn=lambda x, y: np.where(MASK, x, y))
case(np.where, "numbers", normal(3), fn=lambda x: np.where(MASK, x, 0.0) + np.where(MASK, 2.0, x))
case(np.where, "condition-broadcast", normal(2, 3), 0.7, fn=lambda x, y: np.where(MASK[0], x, y))
case(np.where, "of-itself", spread(4), fn=lambda x: np.where(x > 0, np.sin(x), x * x))
case(np.where, "complex", normal(3), z(2, 3), fn=lambda x, y: np.where(MASK, x, y))
case(
    np.select,
    "three",
    spread(4),
    normal(4),
    fn=lambda x, y: np.select([x > 0.5, x > -0.5], [x * x, y], 3.0),
)
case(np.take, "flat", normal(2, 3), fn=lambda a: np.take(a, [0, 5, 0]))
case(np.take, "axis", normal(2, 3), fn=lambda a: np.take(a, [[2, 0], [1, 1]], axis=-1))
case(np.take, "int", normal(2, 3), fn=lambda a: np.take(a, 1, axis=0))
case(np.take, "wrap", normal(3), fn=lambda a: np.take(a, [4, -5], mode="wrap"))
case(np.take, "clip", normal(3), fn=lambda a: np.take(a, [4, -5], mode="clip"))
case(np.take, "method", normal(3, 2), fn=lambda a: a.take([1, 1], axis=0))
ORDER = np.array([[0, 2, 0], [1, 1, 2]])
case(np.take_along_axis, "axis", normal(2, 3), fn=lambda a: np.take_along_axis(a, ORDER, axis=1))
case(np.take_along_axis, "axis0", normal(3, 3), fn=lambda a: np.take_along_axis(a, ORDER, axis=0))
case(np.take_along_axis, "flat", normal(2, 3), fn=lambda a: np.take_along_axis(a, ORDER[0], axis=None))
for axis in (-1, 0, None):
    case(np.sort, f"axis{axis}", spread(3, 4), axis=axis)
    case(
        np.partition,
        f"axis{axis}",
        spread(3, 4),
        fn=lambda a, k=axis: np.sort(np.partition(a, 2, axis=k)[..., :2]),
    )
case(np.sort, "stable", spread(5), kind="stable")
case(np.sort, "complex", z(4))
case(np.compress, "flat", normal(2, 3), fn=lambda a: np.compress([True, False, True], a))
case(np.compress, "axis", normal(2, 3), fn=lambda a: np.compress([False, True], a, axis=0))
case(np.compress, "method", normal(3), fn=lambda a: a.compress([True, False, True]))
case(np.extract, "mask", normal(2, 3), fn=lambda a: np.extract(MASK, a))
case(np.choose, "arrays", normal(3), normal(3), fn=lambda a, b: np.choose(np.array([0, 1, 0]), [a, b]))
case(np.choose, "broadcast", normal(3), normal(), fn=lambda a, b: np.choose(MASK * 1, [a, b]))
case(pad_zeros, "zeros", normal(2, 3), fn=lambda a: pad_zeros(a, [(1, 0), (2, 1)]))

del f, k, axis, shape, start, mode, label, index
