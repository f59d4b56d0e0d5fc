"""The table of `test_rules`: for every function with a derivative rule, calls that reach all of the rule.

Every point is one where the function is smooth: no ties, no kinks, well-conditioned matrices.
"""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from paradual.arrays import cast, item, scatter_sum
from paradual.rules.products import contract
from paradual.rules.registry import name_of

RNG = np.random.default_rng(20)
MASK = np.array([[True, False, True], [False, False, True]])


@dataclass(frozen=True)
class Case:
    """A call of ``fn(*args)`` that uses the rule of ``function``, differentiated in all of ``args``."""

    function: Any
    label: str
    fn: Callable[..., Any]
    args: tuple[Any, ...]

    @property
    def id(self) -> str:
        name = name_of(self.function).replace("numpy.", "np.").removeprefix("_").removeprefix("paradual.")
        return f"{name}-{self.label}"


CASES: list[Case] = []


def case(function, label, *args, fn=None, **options):
    """Add the call ``function(*args, **options)``, or ``fn(*args)``, to the table."""
    CASES.append(Case(function, label, fn or (lambda *a: function(*a, **options)), args))


# --- points -----------------------------------------------------------------------------------------------


def normal(*shape):
    return np.asarray(RNG.standard_normal(shape))


def between(low, high):
    return lambda *shape: np.asarray(RNG.uniform(low, high, shape))


def spread(*shape):
    """Numbers of both signs, no two of them (nor their absolute values) closer than 0.1, none near 0."""
    n = int(np.prod(shape, dtype=int))
    values = (np.arange(n) * 0.37 % 2 + np.arange(n) * 0.1 + 0.3) * np.where(np.arange(n) % 3 == 1, -1, 1)
    return RNG.permutation(values).reshape(shape)


def ranked(*shape):
    """Numbers whose absolute sums along any axes are far apart."""
    scale = 1.0
    for k, n in enumerate(shape):
        scale = scale * (1.5 ** np.arange(n)).reshape([-1 if j == k else 1 for j in range(len(shape))])
    return scale * RNG.uniform(1.0, 1.1, shape) * RNG.choice([-1.0, 1.0], shape)


def z(*shape):
    return normal(*shape) + 1j * normal(*shape)


def square(*shape):
    """Matrices with singular values well away from zero and from each other."""
    return normal(*shape) * 0.3 + np.diag(np.arange(2, 2 + shape[-1]))


def hermitian(*shape):
    x = normal(*shape) * 0.3
    return x + np.swapaxes(x, -1, -2) + np.eye(shape[-1]) * 4


positive = between(0.5, 2.0)
inner = between(-0.8, 0.8)

# --- elementwise functions of one argument ----------------------------------------------------------------

UNARY = {
    np.negative: normal,
    np.positive: normal,
    np.reciprocal: positive,
    np.square: normal,
    np.sqrt: positive,
    np.cbrt: positive,
    np.exp: normal,
    np.exp2: normal,
    np.expm1: normal,
    np.log: positive,
    np.log2: positive,
    np.log10: positive,
    np.log1p: positive,
    np.sin: normal,
    np.cos: normal,
    np.tan: inner,
    np.arcsin: inner,
    np.arccos: inner,
    np.arctan: normal,
    np.sinh: normal,
    np.cosh: normal,
    np.tanh: normal,
    np.arcsinh: normal,
    np.arccosh: between(1.5, 3.0),
    np.arctanh: inner,
    np.deg2rad: normal,
    np.radians: normal,
    np.rad2deg: normal,
    np.degrees: normal,
    np.sinc: normal,
    np.absolute: spread,
    np.fabs: spread,
    np.conjugate: normal,
    np.real: normal,
    np.imag: normal,
    np.angle: positive,
    np.nan_to_num: normal,
    np.real_if_close: normal,
    np.copy: normal,
}
REAL_ONLY = {np.cbrt, np.deg2rad, np.radians, np.rad2deg, np.degrees, np.fabs}

for f, points in UNARY.items():
    case(f, "array", points(2, 3))
    case(f, "0d", points())
    case(f, "float", float(points()))
    case(f, "empty", points(0, 2))
    if f not in REAL_ONLY:
        case(f, "complex", points(3) + 0.4j * positive(3))
        case(f, "complex-number", complex(points() + 0.4j))

case(np.cbrt, "negative", -positive(3))
case(np.reciprocal, "negative", -positive(3))
case(np.sinc, "near-zero", np.array([1e-4, -2e-3, 0.3]))
case(np.sinc, "zero", np.zeros(2))
case(np.angle, "deg", z(3), deg=True)
case(
    np.nan_to_num, "infinite", normal(3), fn=lambda x: np.nan_to_num(np.where(MASK[0], np.inf, x), posinf=3.0)
)
case(np.real_if_close, "close", normal(3), fn=lambda x: np.real_if_close(x + 0j))

# --- elementwise functions of two arguments ---------------------------------------------------------------

BINARY = {  # {function: (points on the left, points on the right)}
    np.add: (normal, normal),
    np.subtract: (normal, normal),
    np.multiply: (normal, normal),
    np.true_divide: (normal, positive),
    np.power: (positive, normal),
    np.float_power: (positive, normal),
    np.remainder: (between(2.1, 2.9), between(0.9, 1.0)),
    np.fmod: (between(2.1, 2.9), between(0.9, 1.0)),
    np.hypot: (positive, normal),
    np.logaddexp: (normal, normal),
    np.logaddexp2: (normal, normal),
    np.arctan2: (normal, positive),
    np.maximum: (between(0, 1), between(-2, 2)),
    np.minimum: (between(0, 1), between(-2, 2)),
    np.fmax: (between(0, 1), between(-2, 2)),
    np.fmin: (between(0, 1), between(-2, 2)),
    np.copysign: (spread, positive),
    np.heaviside: (spread, normal),
}
ALSO_COMPLEX = {np.add, np.subtract, np.multiply, np.true_divide, np.power, np.float_power}
TIES = {np.maximum, np.minimum, np.fmax, np.fmin, np.remainder, np.fmod}  # f(x, x) has a kink


def binary_cases(f, left, right):
    a, b = left(2, 3), right(2, 3)
    row, column = right(3), left(2, 1)
    left_row = left(3).tolist()
    case(f, "same-shape", a, b)
    case(f, "row", a, row)
    case(f, "outer", column, row)
    case(f, "stack", left(3), right(4, 1, 3))
    case(f, "only-left", a, fn=lambda x: f(x, row))
    case(f, "only-right", row, fn=lambda y: f(a, y))
    case(f, "float-right", a, float(right()))
    case(f, "float-left", float(left()), b)
    case(f, "floats", float(left()), float(right()))
    case(f, "0d", left(), right())
    case(f, "0d-array", left(), b)
    case(f, "number-right", a, fn=lambda x, y=1.25: f(x, y))
    case(f, "number-left", b, fn=lambda y, x=0.75: f(x, y))
    case(f, "list-left", right(3), fn=lambda y: f(left_row, y))
    case(f, "list-right", a, fn=lambda x: f(x, row.tolist()))
    case(f, "empty", left(0, 3), right(3))
    if f not in TIES:
        case(f, "same-array", positive(3), fn=lambda x: f(x, x))
    if f in ALSO_COMPLEX:
        w = positive(3) + 0.5j * normal(3)
        case(f, "complex", left(3) + 0.5j, w)
        case(f, "real-complex", left(2, 3), w)
        case(f, "complex-real", w, right(2, 3))
        case(f, "complex-number", left(3) + 0.5j, 1.5 + 0.5j)
        case(f, "complex-numbers", 0.5 + 0.5j, 1.5 + 0.5j)
        case(f, "float-complex", float(left()), 1.5 + 0.5j)


for f, (left, right) in BINARY.items():
    binary_cases(f, left, right)

for f in (np.remainder, np.fmod):
    case(f, "negative", np.array([-2.5, 2.5, -3.4]), np.array([1.1, -1.1, -1.2]))
for f in (np.power, np.float_power):
    for exponent in (0, 1, 2, 3, -1, 0.5, 2.0):
        case(f, f"to-{exponent}", positive(3), fn=lambda x, f=f, e=exponent: f(x, e))
    case(f, "of-2", normal(3), fn=lambda y, f=f: f(2.0, y))
    case(f, "integers", spread(3), fn=lambda x, f=f: f(x, np.array([0.0, 2.0, 3.0])))
case(np.copysign, "negative", spread(4), fn=lambda x: np.copysign(x, np.array([1.0, -1.0, 2.0, -0.0])))
for f in (np.maximum, np.minimum, np.fmax, np.fmin):
    case(f, "complex", z(3), z(3))
case(np.ldexp, "integers", normal(3), fn=lambda x: np.ldexp(x, np.array([0, 2, -1])))
case(np.nextafter, "array", positive(3), fn=lambda x: np.nextafter(x, 9.0) * x)

case(np.nan_to_num, "complex-infinite", z(2), fn=lambda x: np.nan_to_num(x + np.array([np.inf, 0])))
case(np.nan_to_num, "nan", normal(3), fn=lambda x: np.nan_to_num(np.where(MASK[0], np.nan, x), nan=2.0))
for low, high, label in [(-0.5, 0.5, "both"), (None, 0.5, "high"), (-0.5, None, "low")]:
    case(np.clip, label, np.array([-1.0, -0.2, 0.3, 2.0]), fn=lambda x, a=low, b=high: np.clip(x, a, b))
case(np.clip, "arrays", np.array([-1.0, 0.2, 3.0]), np.array([-0.5, -0.4, -0.3]), np.array(0.7))
case(np.clip, "keywords", normal(3), fn=lambda x: np.clip(x, min=-0.1, max=0.1))

# --- reductions -------------------------------------------------------------------------------------------

REDUCTIONS = {
    np.sum: normal,
    np.mean: normal,
    np.prod: normal,
    np.max: spread,
    np.min: spread,
    np.amax: spread,
    np.amin: spread,
    np.ptp: spread,
    np.var: normal,
    np.std: normal,
    np.average: normal,
}
for f, points in REDUCTIONS.items():
    case(f, "all", points(2, 3))
    for axis in (0, 1, -1, -3, (0, 2), (-1, 0), (0, 1, 2)):
        label = f"axis{axis}".replace(" ", "")
        case(f, label, points(2, 3, 4), axis=axis)
        case(f, f"{label}-keepdims", points(2, 3, 4), axis=axis, keepdims=True)
    case(f, "keepdims", points(2, 3), keepdims=True)
    case(f, "length1", points(3, 1), axis=0)
    if f is not np.average:
        case(f, "empty", points(0, 3), axis=1)
        case(f, "positional", points(2, 3), fn=lambda a, f=f: f(a, 1))
    if f is not np.ptp:
        case(f, "complex", z(2, 3), axis=1)
for f in (np.sum, np.mean, np.prod, np.max, np.min):
    case(f, "0d", normal())
    case(f, "method", spread(2, 3), fn=lambda a, name=f.__name__: getattr(a, name)(axis=1))
case(np.sum, "no-axis", normal(2, 3), axis=())
for f in (np.sum, np.prod):
    case(f, "empty-axis", np.zeros((0, 3)), axis=0)
    case(f, "empty-all", np.zeros((2, 0)))
    case(
        f,
        "ufunc-reduce",
        normal(2, 3),
        fn=lambda a, u={np.sum: np.add, np.prod: np.multiply}[f]: u.reduce(a, axis=1),
    )
case(np.max, "ufunc-reduce", spread(2, 3), fn=lambda a: np.maximum.reduce(a))
case(np.min, "ufunc-reduce", spread(2, 3), fn=lambda a: np.minimum.reduce(a, axis=-1, keepdims=True))
case(np.prod, "one-zero", np.array([[1.0, 0.0, 2.0], [3.0, 4.0, 5.0]]), axis=1)
case(np.prod, "two-zeros", np.array([[1.0, 0.0, 0.0], [3.0, 4.0, 5.0]]))
for f in (np.var, np.std):
    case(f, "ddof", normal(2, 3), axis=1, ddof=1)
    case(f, "correction", normal(2, 3), axis=0, correction=0.5)
    case(
        f, "mean-given", normal(2, 3), fn=lambda a, f=f: f(a, axis=1, mean=np.mean(a, axis=1, keepdims=True))
    )
    case(f, "method", normal(2, 3), fn=lambda a, name=f.__name__: getattr(a, name)(axis=1))
for f in (np.sum, np.mean, np.prod, np.var, np.std, np.cumsum, np.cumprod, np.trace):
    case(f, "dtype", normal(2, 3).astype(np.float32), dtype=np.float64)
case(np.average, "weights", normal(2, 3), positive(2, 3), fn=lambda a, w: np.average(a, weights=w))
case(np.average, "weights-axis", normal(2, 3), positive(3), fn=lambda a, w: np.average(a, 1, weights=w))
case(
    np.average,
    "weights-axes",
    normal(2, 3, 4),
    positive(4, 2),
    fn=lambda a, w: np.average(a, axis=(2, 0), weights=w, keepdims=True),
)
case(np.average, "returned", normal(2, 3), positive(3), fn=lambda a, w: np.average(a, 1, w, returned=True))
case(np.average, "only-weights", positive(3), fn=lambda w: np.average(np.arange(6.0).reshape(2, 3), 1, w))

for f in (np.cumsum, np.cumprod):
    case(f, "flat", normal(2, 3))
    for axis in (0, 1, -1, -2):
        case(f, f"axis{axis}", normal(2, 3), axis=axis)
    case(f, "empty", np.zeros((0, 3)), axis=0)
    case(f, "complex", z(4))
    case(f, "method", normal(2, 3), fn=lambda a, name=f.__name__: getattr(a, name)(1))
case(np.cumprod, "zeros", np.array([2.0, 0.0, 3.0, 0.0, 4.0]))
for f in (np.cumulative_sum, np.cumulative_prod) if hasattr(np, "cumulative_sum") else ():
    case(f, "1d", normal(4))
    case(f, "axis", normal(2, 3), axis=1)
    case(f, "initial", normal(2, 3), axis=-1, include_initial=True)

for axis in (0, -1, 1):
    case(np.diff, f"axis{axis}", normal(3, 4), axis=axis)
case(np.diff, "n0", normal(3), n=0)
case(np.diff, "n2", normal(5), n=2)
case(np.diff, "ends", normal(2, 3), normal(2, 1), fn=lambda a, b: np.diff(a, prepend=b, append=0.5))
case(np.diff, "active-number", normal(2, 3), 0.7, fn=lambda a, b: np.diff(a, axis=0, append=b))
case(np.diff, "complex", z(4))
case(np.diff, "shorter-than-n", normal(2), n=3)
case(np.ediff1d, "plain", normal(2, 3))
case(np.ediff1d, "ends", normal(4), normal(2), fn=lambda a, b: np.ediff1d(a, to_end=b, to_begin=1.0))
case(np.trapezoid, "plain", normal(5))
case(np.trapezoid, "dx", normal(2, 5), dx=0.3, axis=0)
case(np.trapezoid, "x", normal(2, 5), np.sort(normal(5)))
case(np.trapezoid, "x-axis0", normal(5, 2), np.sort(normal(5)), fn=lambda y, x: np.trapezoid(y, x, axis=0))
case(np.trapezoid, "x2d", normal(2, 5), normal(2, 5))

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

# --- products ---------------------------------------------------------------------------------------------

MATMULS = {
    "matrices": ((2, 3), (3, 4)),
    "vectors": ((3,), (3,)),
    "vector-matrix": ((3,), (3, 2)),
    "matrix-vector": ((2, 3), (3,)),
    "stack-matrix": ((2, 2, 3), (3, 4)),
    "stack-vector": ((2, 2, 3), (3,)),
    "vector-stack": ((3,), (2, 3, 4)),
    "stacks": ((2, 1, 2, 3), (3, 3, 2)),
    "empty": ((2, 0), (0, 3)),
}
for label, (left_shape, right_shape) in MATMULS.items():
    a, b = normal(*left_shape), normal(*right_shape)
    case(np.matmul, label, a, b)
    case(np.matmul, f"{label}-only-left", a, fn=lambda a, b=b: a @ b)
    case(np.matmul, f"{label}-only-right", b, fn=lambda b, a=a: a @ b)
case(np.matmul, "same", normal(3, 3), fn=lambda a: a @ a)
case(np.matmul, "complex", z(2, 3), z(3, 2))
case(np.matmul, "real-complex", normal(2, 3), z(3))
DOTS = {
    "numbers": ((), ()),
    "number-matrix": ((), (2, 3)),
    "vectors": ((3,), (3,)),
    "matrices": ((2, 3), (3, 2)),
    "matrix-vector": ((2, 3), (3,)),
    "stack-vector": ((2, 2, 3), (3,)),
    "vector-stack": ((3,), (2, 3, 2)),
    "stacks": ((2, 2, 3), (2, 3, 2)),
    "matrix-stack": ((2, 3), (2, 3, 2)),
}
for label, (left_shape, right_shape) in DOTS.items():
    case(np.dot, label, normal(*left_shape), normal(*right_shape))
case(np.dot, "method", normal(2, 3), normal(3), fn=lambda a, b: a.dot(b))
case(np.dot, "complex", z(2, 3), z(3))
case(np.inner, "vectors", normal(3), normal(3))
case(np.inner, "matrices", normal(2, 3), normal(4, 3))
case(np.inner, "stack", normal(2, 2, 3), normal(3))
case(np.inner, "number", normal(), normal(3))
case(np.outer, "vectors", normal(2), normal(3))
case(np.outer, "flattened", normal(2, 2), normal(3))
case(np.vdot, "real", normal(2, 3), normal(2, 3))
case(np.vdot, "complex", z(3), z(3))
if hasattr(np, "vecdot"):
    case(np.vecdot, "stack", normal(2, 3), normal(3))
    case(np.vecdot, "axis", normal(3, 2), normal(3, 1), axis=0)
    case(np.vecdot, "complex", z(2, 3), z(3))
if hasattr(np, "matvec"):
    case(np.matvec, "stack", normal(2, 2, 3), normal(3))
    case(np.matvec, "complex", z(2, 3), z(3))
    case(np.vecmat, "stack", normal(3), normal(2, 3, 2))
    case(np.vecmat, "complex", z(3), z(3, 2))
for label, shapes, axes in [
    ("2", ((2, 3, 4), (3, 4, 2)), 2),
    ("0", ((2,), (3,)), 0),
    ("ints", ((2, 3), (2, 4)), (0, 0)),
    ("lists", ((2, 3, 4), (4, 2)), ([0, 2], [1, 0])),
    ("negative", ((2, 3), (4, 3)), (-1, -1)),
]:
    case(np.tensordot, label, normal(*shapes[0]), normal(*shapes[1]), axes=axes)
case(np.tensordot, "complex", z(2, 3), z(3), axes=1)
case(np.kron, "matrices", normal(2, 2), normal(1, 3))
case(np.kron, "vectors", normal(2), normal(3))
case(np.kron, "mixed", normal(2), normal(2, 2))
case(np.kron, "number", 0.5, normal(2, 2))
case(np.cross, "3d", normal(2, 3), normal(3))
case(np.cross, "axis", normal(3, 2), normal(3, 2), axis=0)
case(np.cross, "axes", normal(3, 2), normal(2, 3), axisa=0, axisb=1, axisc=0)
EINSUMS = {
    "matmul": ("ij,jk->ik", (2, 3), (3, 2)),
    "implicit": ("ij,jk", (2, 3), (3, 2)),
    "implicit-order": ("ba", (2, 3)),
    "dots": ("...ij,...jk->...ik", (2, 1, 2, 3), (3, 3, 2)),
    "dots-implicit": ("...i,i", (2, 2, 3), (3,)),
    "trace": ("ii", (3, 3)),
    "diagonal": ("ii->i", (3, 3)),
    "diagonal-of-stack": ("iij->j", (2, 2, 3)),
    "diagonal-twice": ("ii,i->i", (3, 3), (3,)),
    "sum": ("ij->", (2, 3)),
    "sum-of-label": ("ij,k->i", (2, 3), (4,)),
    "outer": ("i,j,k->ijk", (2,), (3,), (2,)),
    "elementwise": ("ij,ij->ij", (2, 3), (2, 3)),
    "three": ("ij,jk,kl->il", (2, 3), (3, 2), (2, 2)),
    "bilinear": ("bi,ijk,bk->bj", (2, 3), (3, 2, 2), (2, 2)),
    "number": (",i->i", (), (3,)),
    "length1": ("ij,jk->ik", (2, 3), (3, 1)),
    "broadcast1": ("...i,...i->...", (2, 3), (1, 3)),
}
for label, (subscripts, *shapes) in EINSUMS.items():
    arrays = [normal(*shape) for shape in shapes]
    case(np.einsum, label, *arrays, fn=lambda *a, s=subscripts: np.einsum(s, *a))
    if len(arrays) > 1:
        rest = arrays[1:]
        case(contract, label, arrays[0], fn=lambda a, s=subscripts, b=rest: np.einsum(s, a, *b))
case(np.einsum, "dtype", normal(3, 3).astype(np.float32), fn=lambda a: np.einsum("ii", a, dtype=np.float64))
case(np.einsum, "lists", normal(2, 3), normal(3, 2), fn=lambda a, b: np.einsum(a, [0, 1], b, [1, 2], [2, 0]))
case(np.einsum, "lists-implicit", normal(2, 3), normal(3), fn=lambda a, b: np.einsum(a, [5, 1], b, [1]))
case(np.einsum, "same", normal(3, 3), fn=lambda a: np.einsum("ij,jk,ki->", a, a, a))
case(np.einsum, "complex", z(2, 3), normal(3), fn=lambda a, b: np.einsum("ij,j->i", a, b))

# --- linear algebra ---------------------------------------------------------------------------------------

SOLVES = {
    "vector": ((3, 3), (3,)),
    "matrix": ((3, 3), (3, 2)),
    "stack": ((2, 3, 3), (2, 3, 2)),
    "broadcast": ((2, 1, 3, 3), (4, 3, 2)),
    "one-matrix": ((3, 3), (2, 3, 2)),
    "stack-vector": ((2, 3, 3), (3,)),
}
for label, (left_shape, right_shape) in SOLVES.items():
    a, b = square(*left_shape), normal(*right_shape)
    case(np.linalg.solve, label, a, b)
    case(np.linalg.solve, f"{label}-only-left", a, fn=lambda a, b=b: np.linalg.solve(a, b))
    case(np.linalg.solve, f"{label}-only-right", b, fn=lambda b, a=a: np.linalg.solve(a, b))
case(np.linalg.solve, "complex", square(3, 3) + 0.3j * normal(3, 3), z(3))
case(np.linalg.solve, "real-complex", square(3, 3), z(3, 2))
for f in (np.linalg.inv, np.linalg.det, np.linalg.slogdet):
    case(f, "matrix", square(3, 3))
    case(f, "stack", square(2, 3, 3))
    case(f, "complex", square(3, 3) + 0.5j * normal(3, 3))
    case(f, "complex-stack", square(2, 2, 2) + 0.5j * normal(2, 2, 2))
    case(f, "1x1", square(1, 1))
    case(f, "negative-det", square(2, 2)[::-1])
case(np.linalg.det, "0x0-stack", np.zeros((2, 0, 0)))
for upper in (False, True):
    label = "upper" if upper else "lower"
    case(np.linalg.cholesky, label, hermitian(3, 3), upper=upper)
    case(np.linalg.cholesky, f"{label}-stack", hermitian(2, 3, 3), upper=upper)
    x = normal(3, 3)
    case(np.linalg.cholesky, f"{label}-complex", hermitian(3, 3) + 0.5j * (x - x.T), upper=upper)
case(np.linalg.cholesky, "only-lower-read", np.tril(hermitian(3, 3)))

for ord in (None, 2, 1, 3, 2.5, 0.5, -1, np.inf, -np.inf, 0):
    for x, label in ((spread(4), ""), (z(4), "-complex")):
        case(np.linalg.norm, f"vector-{ord}{label}", x, ord=ord)
    if ord is not None:
        case(np.linalg.vector_norm, f"{ord}", spread(2, 3), ord=ord, axis=1)
for ord in (None, "fro", 1, -1, np.inf, -np.inf):
    for x, label in ((ranked(2, 3), ""), (ranked(2, 3) * np.exp(1j * normal(2, 3)), "-complex")):
        case(np.linalg.norm, f"matrix-{ord}{label}", x, ord=ord)
    case(np.linalg.norm, f"matrix-{ord}-axes", ranked(2, 3, 4), ord=ord, axis=(2, 0))
    case(np.linalg.norm, f"matrix-{ord}-axes-keepdims", ranked(2, 3, 4), ord=ord, axis=(0, -1), keepdims=True)
    case(np.linalg.matrix_norm, f"{ord}", ranked(2, 2, 3), ord=ord or "fro")
    case(np.linalg.matrix_norm, f"{ord}-keepdims", ranked(2, 2, 3), ord=ord or "fro", keepdims=True)
case(np.linalg.norm, "all", normal(2, 3, 2))
case(np.linalg.norm, "all-keepdims", normal(2, 3, 2), keepdims=True)
case(np.linalg.norm, "axis", normal(2, 3), axis=0)
case(np.linalg.norm, "axis-keepdims", normal(2, 3), axis=-1, ord=1, keepdims=True)
case(np.linalg.vector_norm, "all", normal(2, 3))
case(np.linalg.vector_norm, "all-keepdims", normal(2, 3), keepdims=True, ord=3)
case(np.linalg.vector_norm, "axes", normal(2, 3, 4), axis=(0, -1))
case(np.linalg.vector_norm, "axes-keepdims", normal(2, 3, 4), axis=(2, 1), keepdims=True)
for n in (-2, -1, 0, 1, 2, 3, 5):
    case(np.linalg.matrix_power, f"{n}", square(2, 3, 3) / 3, n=n)
case(
    np.linalg.multi_dot,
    "three",
    normal(2, 3),
    normal(3, 4),
    normal(4, 2),
    fn=lambda *a: np.linalg.multi_dot(a),
)
case(np.linalg.multi_dot, "vectors", normal(3), normal(3, 4), normal(4), fn=lambda *a: np.linalg.multi_dot(a))
case(np.linalg.trace, "stack", normal(2, 3, 4), offset=1)
case(np.linalg.diagonal, "stack", normal(2, 3, 4), offset=-1)
case(np.linalg.matmul, "stack", normal(2, 2, 3), normal(3, 2))
case(np.linalg.matrix_transpose, "stack", normal(2, 3, 4))
case(np.linalg.outer, "vectors", normal(2), normal(3))
case(np.linalg.tensordot, "axes", normal(2, 3), normal(3, 2), axes=([1], [0]))
case(np.linalg.vecdot, "stack", z(2, 3), normal(3))
case(np.linalg.vecdot, "axis", normal(3, 2), normal(3, 2), axis=0)
case(np.linalg.cross, "3d", normal(2, 3), normal(2, 3))
case(np.linalg.cross, "axis", normal(3, 2), normal(3, 2), axis=0)

del arrays, rest, a, b, f, k, n, x, axis, start, mode, upper, label, index, low, high, left, right, points
