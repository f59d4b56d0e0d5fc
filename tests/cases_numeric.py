"""Cases of `test_rules`: see `paradual.rules.numeric`."""

import hypothesis.strategies as st
import numpy as np
from case_table import between, case, normal, positive, reseed, spread, z
from numpy.lib.stride_tricks import sliding_window_view
from shape_table import (
    along_an_axis,
    apart,
    axis,
    broadcast_together,
    empty,
    generator,
    of_any_shape,
    shape,
    shaped,
)

from paradual.rules.numeric import bessel_i, windows

_umath = getattr(getattr(np, "_core", None), "umath", None)

reseed(34)

# --- interpolation ------------------------------------------------------------------------------------

XP = np.array([0.0, 1.0, 2.5, 3.0, 4.5])
Y = normal(5)
X = np.array([[-1.3, 0.4, 1.7], [2.6, 4.2, 5.8]])
case(np.interp, "all", X, XP, normal(5))
case(np.interp, "x", X, fn=lambda x: np.interp(x, XP, Y))
case(np.interp, "values", normal(5), fn=lambda y: np.interp(X, XP, y))
case(np.interp, "knots", XP, fn=lambda xp: np.interp(X, xp, Y))
case(np.interp, "number", 0.7, XP, normal(5))
case(np.interp, "lists", X, fn=lambda x: np.interp(x, XP.tolist(), [1.0, 3.0, -2.0, 0.5, 2.0]))
case(np.interp, "ends", X, XP, normal(5), 0.3, 0.7)
case(
    np.interp,
    "end-numbers",
    X,
    normal(5),
    fn=lambda x, y: np.interp(x, XP, y, left=-1, right=2),
)
case(np.interp, "complex", X, XP, z(5))
case(np.interp, "complex-ends", X, XP, z(5), 0.3 + 1j, 0.7)
case(np.interp, "period", X, XP, normal(5), period=4.7)
case(np.interp, "period-unsorted", X, XP[[3, 0, 2, 4, 1]], normal(5), period=-3.1)
case(np.interp, "period-active", X, normal(5), 4.7, fn=lambda x, y, p: np.interp(x, XP, y, period=p))
case(np.interp, "one-knot", X, normal(1), fn=lambda x, y: np.interp(x, [1.0], y, left=2.0))
case(np.interp, "empty", np.zeros((0, 2)), XP, normal(5))


def interpolate(draw):
    rng, n = generator(draw), draw(st.integers(1, 4))
    xp = np.arange(n) + rng.uniform(-0.3, 0.3, n)
    x = np.floor(rng.uniform(-2, n + 1, shape(draw))) + 0.5
    period = draw(st.none() | st.just(n + 1.5))
    return (lambda x, xp, fp: np.interp(x, xp, fp, period=period)), (x, xp, rng.standard_normal(n))


shaped(np.interp, interpolate)

# --- slopes on a grid, angles ---------------------------------------------------------------------------

for edge_order in (1, 2):
    case(np.gradient, f"1d-{edge_order}", normal(5), edge_order=edge_order)
    case(np.gradient, f"all-{edge_order}", normal(3, 4), edge_order=edge_order)
    case(np.gradient, f"axis-{edge_order}", normal(2, 4), 0.5, axis=-1, edge_order=edge_order)
    case(np.gradient, f"axes-{edge_order}", normal(4, 2, 3), 0.5, 2.0, axis=(2, 0), edge_order=edge_order)
    case(np.gradient, f"points-{edge_order}", normal(4, 3), np.sort(normal(4)), 0.3, edge_order=edge_order)
    case(np.gradient, f"even-{edge_order}", normal(4), np.arange(4.0) * 0.3, edge_order=edge_order)
    case(
        np.gradient,
        f"plain-points-{edge_order}",
        normal(3, 4),
        fn=lambda f, k=edge_order: np.gradient(f, [0.0, 0.5, 2.0], np.arange(4), edge_order=k),
    )
    case(np.gradient, f"complex-{edge_order}", z(4), positive(), edge_order=edge_order)
case(np.gradient, "only-points", np.sort(normal(4)), fn=lambda x: np.gradient([1.0, 2.0, 4.0, 3.0], x))
case(np.gradient, "only-points-integers", np.sort(normal(4)), fn=lambda x: np.gradient(np.arange(4) ** 2, x))


def slopes(draw):
    rng, n = generator(draw), shape(draw, 1, 3, 3, 4)
    k, edge_order = axis(draw, len(n)), draw(st.sampled_from([1, 2]))
    if k is None:
        return (lambda f, h: np.gradient(f, h, edge_order=edge_order)), (apart(rng, *n), 0.7)
    h = np.cumsum(rng.uniform(0.5, 1.0, n[k]))
    return (lambda f, h: np.gradient(f, h, axis=k, edge_order=edge_order)), (apart(rng, *n), h)


shaped(np.gradient, slopes)

STEPS = np.array([0.1, 2.9, -2.4, 1.0, 8.0, 7.9])
case(np.unwrap, "plain", STEPS)
case(np.unwrap, "axis", np.stack([STEPS, 2 * STEPS + 0.2], 1), axis=0)
case(np.unwrap, "discont", STEPS, discont=4.0)
case(np.unwrap, "period", STEPS, period=3.3)
shaped(np.unwrap, along_an_axis(np.unwrap, none=False))

# --- convolution --------------------------------------------------------------------------------------

for f in (np.convolve, np.correlate):
    for mode in ("full", "same", "valid"):
        for n, m in ((4, 3), (3, 4), (5, 2), (2, 5), (1, 1), (3, 3)):
            case(f, f"{mode}-{n}-{m}", normal(n), normal(m), mode=mode)
        case(f, f"{mode}-complex", z(4), z(2), mode=mode)
    case(f, "default", normal(4), normal(2))
    case(f, "mode-number", normal(4), normal(2), mode=1)
    case(f, "same-array", normal(4), fn=lambda a, f=f: f(a, a, "full"))
    case(f, "list", normal(4), fn=lambda a, f=f: f(a, [0.5, 1.0, 2.0]))
    case(f, "list-left", normal(4), fn=lambda a, f=f: f([0.5, 1.0, 2.0], a, "same"))
    case(f, "real-complex", normal(4), z(2), mode="same")
case(np.convolve, "number", normal(4), 0.5)


def convolved(f):
    def entry(draw):
        rng, mode = generator(draw), draw(st.sampled_from(["full", "same", "valid"]))
        n, m = draw(st.integers(1, 5)), draw(st.integers(1, 5))
        return (lambda a, v: f(a, v, mode)), (rng.standard_normal(n), rng.standard_normal(m))

    return entry


for f in (np.convolve, np.correlate):
    shaped(f, convolved(f))

for f in (sliding_window_view, windows):
    case(f, "1d", normal(5), fn=lambda x: sliding_window_view(x, 3))
    case(f, "axis", normal(4, 3), fn=lambda x: sliding_window_view(x, 2, axis=-1))
    case(f, "axes", normal(4, 3, 2), fn=lambda x: sliding_window_view(x, window_shape=(2, 3), axis=(1, 0)))
    case(f, "axis-twice", normal(5), fn=lambda x: sliding_window_view(x, (2, 2), axis=(0, 0)))
    case(f, "all", normal(3, 3), fn=lambda x: sliding_window_view(x, (2, 2), writeable=False))
    case(f, "complex", z(4), fn=lambda x: sliding_window_view(x, 2))


def slide(draw):
    rng, n = generator(draw), shape(draw, 1, 3)
    window = tuple(draw(st.integers(1, k)) for k in n)
    return (lambda x: sliding_window_view(x, window)), (apart(rng, *n),)


shaped(sliding_window_view, slide)
shaped(windows, slide)

# --- functions of the user's ----------------------------------------------------------------------------

case(np.piecewise, "callables", spread(2, 3), fn=lambda x: np.piecewise(x, [x < 0, x > 1], [np.exp, np.sin]))
case(
    np.piecewise,
    "otherwise",
    spread(5),
    fn=lambda x: np.piecewise(x, [x < 0, x > 1], [2.0, lambda x: x * x, lambda x: np.sum(x) * x]),
)
case(np.piecewise, "overlap", spread(5), fn=lambda x: np.piecewise(x, [x < 1, x < 0], [np.exp, np.sin]))
case(np.piecewise, "one-condition", spread(5), fn=lambda x: np.piecewise(x, x < 0, [np.exp, 3]))
case(
    np.piecewise,
    "arguments",
    spread(5),
    1.5,
    fn=lambda x, k: np.piecewise(x, [x < 0], [lambda x, k, j: k * x + j, 1.0], k, j=2.0),
)
case(np.piecewise, "number", 0.7, fn=lambda x: np.piecewise(x, [x < 0, x >= 0], [0.0, np.square]))
case(np.piecewise, "nowhere", spread(4), fn=lambda x: np.piecewise(x, [x > 9], [np.exp]) + x)
case(np.piecewise, "complex", z(4), fn=lambda x: np.piecewise(x, [x.real < 0], [np.exp, np.sin]))
shaped(
    np.piecewise, of_any_shape(lambda x: np.piecewise(x, [x < 0, x > 1], [np.exp, np.sin, lambda x: x * x]))
)

A = np.apply_along_axis
for k in (0, 1, -1):
    case(A, f"number-{k}", normal(2, 3, 2), fn=lambda a, k=k: A(np.var, k, a))
    case(A, f"longer-{k}", normal(2, 3, 2), fn=lambda a, k=k: A(lambda x: np.concatenate([x, x * x]), k, a))
    case(A, f"matrix-{k}", normal(2, 3, 2), fn=lambda a, k=k: A(lambda x: np.outer(x, x), k, a))
case(A, "1d", normal(4), fn=lambda a: A(np.sum, 0, a))
case(A, "list", normal(4, 2), fn=lambda a: A(lambda x: [x[0], x[1] * x[0]], 0, a))
case(A, "arguments", normal(2, 3), 1.5, fn=lambda a, k: A(lambda x, k, j: k * x + j, 1, a, k, j=2.0))
shaped(A, along_an_axis(lambda a, axis: A(np.cumsum, axis, a * a), none=False))
case(np.apply_over_axes, "axes", normal(2, 3, 4), fn=lambda a: np.apply_over_axes(np.prod, a, (0, -1)))
case(np.apply_over_axes, "one", normal(2, 3), fn=lambda a: np.apply_over_axes(np.sum, a * a, 1))
case(np.apply_over_axes, "same-shape", normal(2, 3), fn=lambda a: np.apply_over_axes(np.cumprod, a, [0, 1]))
shaped(
    np.apply_over_axes,
    along_an_axis(lambda a, axis: np.apply_over_axes(np.prod, a, axis), none=False, many=True),
)

# --- grids ----------------------------------------------------------------------------------------------

M = np.meshgrid
for indexing in ("xy", "ij"):
    for sparse in (False, True):
        label = f"{indexing}-{sparse}"
        options = {"indexing": indexing, "sparse": sparse}
        case(M, label, normal(2), normal(3), **options)
        case(M, f"{label}-three", normal(2), normal(3), normal(2), copy=False, **options)
case(M, "one", normal(3))
case(M, "numbers", 0.5, normal(3))
case(M, "constant", normal(3), fn=lambda x: M(x, [1.0, 2.0]))


def grid(f):
    def entry(draw):
        rng = generator(draw)
        xs = [rng.standard_normal(draw(st.integers(1, 3))) for _ in range(draw(st.integers(1, 3)))]
        return (lambda *xs: f(*xs)), tuple(xs)

    return entry


shaped(M, grid(M), grid(lambda *xs: M(*xs, indexing="ij", sparse=True)))
case(np.ix_, "two", normal(2), normal(3))
case(np.ix_, "boolean", normal(2), fn=lambda x: np.ix_(x, [True, False, True]))
shaped(np.ix_, grid(np.ix_))

for f in (np.linspace, np.logspace, np.geomspace):
    case(f, "numbers", 0.5, 2.0, num=4)
    case(f, "arrays", positive(2, 1), positive(3), num=4)
    case(f, "axis", positive(2), positive(3, 1), num=4, axis=-1)
    case(f, "axis1", positive(2), positive(2), num=3, axis=1)
    case(f, "endpoint", positive(2), 2.0, num=3, endpoint=False)
    case(f, "one", positive(2), positive(2), num=1)
    case(f, "one-endpoint", positive(2), positive(2), num=1, endpoint=False)
    case(f, "dtype", positive(2).astype(np.float32), positive(2).astype(np.float32), num=3, dtype=float)
    case(f, "integers", positive(2), fn=lambda x, f=f: f(1, x, 5))
    case(f, "complex", z(2), z(2), num=4)
    case(f, "only-stop", positive(2), fn=lambda x, f=f: f([1.0, 3.0], x, num=3))
    shaped(f, broadcast_together(f, num=3), broadcast_together(f, num=2, endpoint=False, axis=-1))
case(np.geomspace, "negative", -positive(2), -positive(2), num=4)
case(np.linspace, "retstep", normal(2), normal(2), num=4, retstep=True)
case(np.linspace, "retstep-endpoint", normal(2), normal(2), num=4, retstep=True, endpoint=False)
case(np.logspace, "base", positive(2), positive(2), 2.0, fn=lambda a, b, c: np.logspace(a, b, 3, base=c))
case(np.logspace, "bases", 0.5, 2.0, positive(3), fn=lambda a, b, c: np.logspace(a, b, 3, base=c))
case(
    np.logspace, "bases-axis", 0.5, 2.0, positive(3), fn=lambda a, b, c: np.logspace(a, b, 3, base=c, axis=-1)
)

# --- inserting, repeating, trimming -----------------------------------------------------------------------

INSERTS = {  # {label: (shape, obj, shape of the values, axis)}
    "flat": ((2, 3), 1, (), None),
    "flat-many": ((2, 3), [1, 4, 4], (3,), None),
    "flat-scalar-many": ((2, 3), 2, (3,), None),
    "number": ((2, 3), 1, (), 1),
    "negative": ((2, 3), -1, (2,), -1),
    "row": ((2, 3), 2, (3,), 0),
    "rows": ((2, 3), 1, (2, 3), 0),
    "columns": ((2, 3), 1, (2, 2), 1),
    "list-of-one": ((2, 3), [1], (2, 1), 1),
    "list-of-one-many": ((2, 3), [1], (2, 4), 1),
    "list": ((2, 3), [2, 0], (2,), 1),
    "list-repeated": ((2, 3), [1, 1, -1], (2, 3), 1),
    "slice": ((2, 4), slice(0, 4, 2), (2, 2), 1),
    "slice-of-one": ((2, 4), slice(1, 2), (2, 1), 1),
    "booleans": ((2, 3), np.array([True, False, True]), (2, 2), 1),
    "nothing": ((2, 3), [], (2, 1), 1),
}
for label, (n, obj, m, k) in INSERTS.items():
    case(np.insert, label, normal(*n), normal(*m), fn=lambda a, v, i=obj, k=k: np.insert(a, i, v, axis=k))
case(np.insert, "only-values", normal(2), fn=lambda v: np.insert(np.arange(3.0), [0, 2], v))
case(np.insert, "only-array", normal(3), fn=lambda a: np.insert(a, 1, [5, 6]))


def inserted(draw):
    rng, n = generator(draw), shape(draw, 1, 3)
    k = axis(draw, len(n), none=False)
    obj = draw(st.lists(st.integers(-n[k], n[k]), min_size=2, max_size=3))
    return (lambda a, v: np.insert(a, obj, v, axis=k)), (apart(rng, *n), rng.standard_normal())


shaped(np.insert, inserted)

case(np.resize, "longer", normal(2, 3), new_shape=(4, 3))
case(np.resize, "shorter", normal(2, 3), new_shape=4)
case(np.resize, "number", 0.5, new_shape=(2, 2))
case(np.resize, "to-nothing", normal(3), new_shape=(0, 2))
case(np.resize, "complex", z(2), new_shape=[5])
shaped(np.resize, of_any_shape(lambda x: np.resize(x, (2, 5))))


def padded(x):
    return np.pad(x, 2)


for trim in ("fb", "f", "b", "BF"):
    case(np.trim_zeros, trim, normal(3), fn=lambda x, t=trim: np.trim_zeros(padded(x), t))
case(np.trim_zeros, "inside", normal(2, 2), fn=lambda x: np.trim_zeros(np.ravel(padded(x))))
shaped(np.trim_zeros, of_any_shape(lambda x: np.trim_zeros(padded(np.ravel(x)))))
if np.lib.NumpyVersion(np.__version__) >= "2.2.0":
    case(np.trim_zeros, "2d", normal(2, 3), fn=lambda x: np.trim_zeros(padded(x)))
    case(np.trim_zeros, "axis", normal(2, 3), fn=lambda x: np.trim_zeros(padded(x), axis=-1))
    case(np.trim_zeros, "axes", normal(2, 3, 2), fn=lambda x: np.trim_zeros(padded(x), "f", (0, 2)))

# --- parts of numbers, Bessel functions ---------------------------------------------------------------------

case(np.divmod, "floats", between(2.1, 2.9)(2, 3), between(0.9, 1.0)(3), fn=lambda x, y: np.divmod(x, y)[1])
case(np.divmod, "operator", between(2.1, 2.9)(3), fn=lambda x: np.divmod(x, 1.05)[1])
case(np.modf, "array", spread(2, 3) + 0.05)
case(np.modf, "number", 2.3)
case(np.frexp, "array", spread(2, 3))
case(np.frexp, "number", 2.3)
case(np.frexp, "recombined", spread(3), fn=lambda x: np.ldexp(*np.frexp(x)) * x)
for f in (np.modf, np.frexp):
    shaped(f, of_any_shape(lambda x, f=f: f(x + 0.05)[0] * x))
shaped(np.divmod, broadcast_together(lambda x, y: np.divmod(x, y)[1], (2.1, 2.9), (0.9, 1.0)))

for f in (np.i0, lambda x: bessel_i(x, 2)):
    function = f if f is np.i0 else bessel_i
    case(function, "array", 3 * normal(2, 3), fn=f)
    case(function, "zero", np.zeros(2), fn=f)
    shaped(function, of_any_shape(f, -4.0, 4.0))

# --- np.lib.scimath -----------------------------------------------------------------------------------------

S = np.lib.scimath
for f in (S.sqrt, S.log, S.log2, S.log10, S.arccos, S.arcsin, S.arctanh):
    case(f, "inside", between(0.2, 0.8)(2, 3))
    case(f, "outside", np.array([-0.4, 0.6, -2.5, 1.9]))
    case(f, "complex", z(3))
    case(f, "number", -1.7)
    shaped(f, of_any_shape(f, 0.2, 0.8), of_any_shape(f, -2.0, -1.2))
case(S.logn, "inside", positive(3), between(1.5, 2)(3))
case(S.logn, "outside", -positive(3), positive(3) + 1)
case(S.power, "inside", positive(3), normal(3))
case(S.power, "outside", spread(3), normal(3))
case(S.power, "negative-integer", spread(3), fn=lambda x: S.power(x, -2))
case(S.power, "integer-base", normal(2), fn=lambda p: S.power([2, -3], p))
shaped(S.logn, broadcast_together(lambda x, y: S.logn(-y, x), (0.5, 1.0)))
shaped(S.power, broadcast_together(lambda x, y: S.power(-x, y)))

# --- np.pad, np.diagonal, np.rollaxis and elementwise functions: what the other tables leave out ------------

PADS = {  # {label: (mode, options)}
    "ramp": ("linear_ramp", {}),
    "ramp-ends": ("linear_ramp", {"end_values": ((1, 2), (3, 4))}),
    "mean": ("mean", {}),
    "mean-length": ("mean", {"stat_length": ((1, 2), (3, 9))}),
    "maximum": ("maximum", {"stat_length": 2}),
    "minimum": ("minimum", {}),
    "median": ("median", {}),
    "reflect-odd": ("reflect", {"reflect_type": "odd"}),
    "symmetric-odd": ("symmetric", {"reflect_type": "odd"}),
    "values-of-axes": ("constant", {"constant_values": ((1, 2), (3, 4))}),
}
for label, (mode, options) in PADS.items():
    case(np.pad, label, spread(3, 4), pad_width=((1, 0), (2, 1)), mode=mode, **options)
    if mode != "median" and not any(
        isinstance(option, tuple) for option in options.values()
    ):  # medians may tie
        shaped(np.pad, of_any_shape(np.pad, min_dims=1, min_side=2, pad_width=1, mode=mode, **options))
case(np.pad, "active-values", normal(2), 0.5, fn=lambda x, c: np.pad(x, (2, 1), constant_values=c))
if np.lib.NumpyVersion(np.__version__) >= "2.2.0":
    case(np.pad, "dict", normal(2, 3), pad_width={-1: (1, 2)}, mode="mean")
for axes in ((0, 1), (2, 0), (-1, -2), (1, 2)):
    case(np.diagonal, f"axes{axes}".replace(" ", ""), normal(2, 3, 4), offset=1, axis1=axes[0], axis2=axes[1])
for start in (-2, 1, 3):
    case(np.rollaxis, f"start{start}", normal(2, 3, 4), axis=1, start=start)
case(np.tile, "once", normal(2), reps=1)
case(np.delete, "mask", normal(2, 3), fn=lambda a: np.delete(a, np.array([True, False, True]), -1))
case(np.block, "numbers", normal(2), 0.5, fn=lambda a, b: np.block([[a, b], [1.0, b, b]]))
case(np.sinc, "small", np.array([0.05, -0.09, 0.099]))
case(np.arcsin, "beyond", np.array([-1.5, 2.5]) + 0j, fn=lambda x: np.arcsin(x.real + 0j))
case(np.arccos, "beyond", np.array([-1.5, 2.5]) + 0j, fn=lambda x: np.arccos(x.real + 0j))
case(np.remainder, "rounded", np.array([0.1, 0.3]), fn=lambda y: np.remainder(1.05, y))
if _umath is not None:
    case(_umath.clip, "bounds", np.array([-1.0, 0.2]), 0.7, fn=lambda a, b: np.array([0.5, 0.9]).clip(a, b))

# --- nothing, and numbers ---------------------------------------------------------------------------------

empty(np.interp, lambda x: np.interp(x, [0.0, 1.0], [2.0, 5.0]))
empty(np.gradient)
empty(np.unwrap)
empty(np.convolve, lambda x: np.convolve(x, x))
empty(np.correlate, lambda x: np.correlate(x, x, "full"))
empty(sliding_window_view, lambda x: sliding_window_view(x, 1, axis=0))
empty(np.piecewise, lambda x: np.piecewise(x, [x.real > 0], [np.exp, np.sin]))
empty(A, lambda x: A(np.cumsum, -1, x))
empty(np.apply_over_axes, lambda x: np.apply_over_axes(np.sum, x, 0))
empty(M, lambda x: M(x, x))
empty(np.ix_)
empty(np.linspace, lambda x: np.linspace(x, 2.0, 3), lambda x: np.linspace(x, x, 0))
empty(np.logspace, lambda x: np.logspace(x, 2.0, 3))
empty(np.geomspace, lambda x: np.geomspace(x, 2.0, 3))
empty(np.insert, lambda x: np.insert(x, 0, 1.0), lambda x: np.insert(x, [], 1.0, axis=0))
empty(np.resize, lambda x: np.resize(x, (2, 3)), lambda x: np.resize(x, 0))
empty(np.trim_zeros)
empty(np.modf)
empty(np.frexp)
empty(np.divmod, lambda x: np.divmod(x, 0.5))
empty(np.i0)
for f in (S.sqrt, S.log, S.log2, S.log10, S.arccos, S.arcsin, S.arctanh):
    empty(f)
empty(S.power, lambda x: S.power(-x, 0.5))
empty(S.logn, lambda x: S.logn(2, -x))
empty(np.pad, lambda x: np.pad(x, 1), lambda x: np.pad(x, 0, "mean"), lambda x: np.pad(x, 1, "linear_ramp"))
empty(np.tile, lambda x: np.tile(x, (2, 1)), lambda x: np.tile(x, 0))
empty(np.diagonal)
empty(np.delete, lambda x: np.delete(x, []), lambda x: np.delete(x, slice(None), 0))
empty(np.rollaxis, lambda x: np.rollaxis(x, -1))
empty(np.block, lambda x: np.block([x, x]))
empty(np.clip, lambda x: np.clip(x, 0.1, None))
empty(np.nan_to_num)

del axes, f, function, label, mode, start, n, m, k, obj, trim, indexing, sparse, options, edge_order
