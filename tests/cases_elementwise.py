"""Cases of `test_rules`: elementwise functions and reductions."""

import numpy as np
from case_table import MASK, between, case, inner, normal, positive, spread, z

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
if np.lib.NumpyVersion(np.__version__) >= "2.1.0":
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

del f, axis, label, low, high, left, right, points, exponent
