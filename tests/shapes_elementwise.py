"""Random shapes for `test_random_shapes`: elementwise functions, reductions, choosing and sorting."""

import math

import hypothesis.extra.numpy as arrays_of
import hypothesis.strategies as st
import numpy as np
from shape_table import (
    along_one,
    apart,
    as_number,
    axis,
    between,
    chosen,
    complex_too,
    empty,
    generator,
    numbers,
    shape,
    shaped,
)

from paradual.rules.reductions import half_over, root

# --- one argument -----------------------------------------------------------------------------------------

ANY, POSITIVE, INNER = (-2.0, 2.0), (0.3, 2.0), (-0.8, 0.8)
OF_BOTH = {  # real and complex
    np.negative: ANY,
    np.positive: ANY,
    np.reciprocal: POSITIVE,
    np.square: ANY,
    np.sqrt: POSITIVE,
    np.exp: ANY,
    np.exp2: ANY,
    np.expm1: ANY,
    np.log: POSITIVE,
    np.log2: POSITIVE,
    np.log10: POSITIVE,
    np.log1p: POSITIVE,
    np.sin: ANY,
    np.cos: ANY,
    np.tan: INNER,
    np.arcsin: INNER,
    np.arccos: INNER,
    np.arctan: ANY,
    np.sinh: ANY,
    np.cosh: ANY,
    np.tanh: ANY,
    np.arcsinh: ANY,
    np.arccosh: (1.5, 3.0),
    np.arctanh: INNER,
    np.sinc: ANY,
    np.absolute: POSITIVE,
    np.conjugate: ANY,
    np.real: ANY,
    np.imag: ANY,
    np.angle: POSITIVE,
    np.nan_to_num: ANY,
    np.real_if_close: ANY,
}
ANGLES = (np.deg2rad, np.radians, np.rad2deg, np.degrees)
OF_REAL = {np.cbrt: POSITIVE, np.fabs: POSITIVE, **dict.fromkeys(ANGLES, ANY)}
ALSO_NEGATIVE = {np.reciprocal, np.absolute, np.cbrt, np.fabs}


def of_a_kind(f, low, high, both):
    def entry(draw):
        rng, n = generator(draw), shape(draw)
        x = between(rng, low, high, *n)
        if f in ALSO_NEGATIVE:
            x = np.asarray(x * rng.choice([-1, 1], n))
        if both:
            x = complex_too(draw, rng, x)
        # real_if_close keeps the imaginary parts of all elements, or of none
        return f, (x if f is np.real_if_close else as_number(draw, x),)

    return entry


for f, (low, high) in {**OF_BOTH, **OF_REAL}.items():
    shaped(f, of_a_kind(f, low, high, f in OF_BOTH))
    empty(f)
for f in (root, half_over):  # of sums of squares: arrays, and real
    shaped(f, lambda draw, f=f: (f, (between(generator(draw), 0.3, 2.0, *shape(draw)),)))
    empty(f, lambda x, f=f: f(x * x + 1.0))


def angle(draw):
    rng, n, deg = generator(draw), shape(draw), draw(st.booleans())
    z = np.asarray(between(rng, 0.3, 2.0, *n) + 1j * between(rng, -1, 1, *n))
    return (lambda z: np.angle(z, deg)), (z,)


def with_gaps(draw):
    rng, n = generator(draw), shape(draw)
    gaps = rng.choice([0.0, np.nan, np.inf, -np.inf], n, p=[0.4, 0.2, 0.2, 0.2])
    options = {"nan": draw(st.sampled_from([0.0, 1.5])), "posinf": 3.0, "neginf": -3.0}
    x = complex_too(draw, rng, between(rng, *ANY, *n))
    return (lambda x: np.nan_to_num(np.where(gaps == 0, x, gaps), **options)), (x,)


shaped(np.angle, angle)
shaped(np.nan_to_num, with_gaps)

# --- two arguments ----------------------------------------------------------------------------------------

OF_TWO = {  # {function: (left, right, whether complex too)}
    np.add: (ANY, ANY, True),
    np.subtract: (ANY, ANY, True),
    np.multiply: (ANY, ANY, True),
    np.true_divide: (ANY, POSITIVE, True),
    np.power: (POSITIVE, ANY, True),
    np.float_power: (POSITIVE, ANY, True),
    np.remainder: ((2.1, 2.6), (0.9, 1.0), False),
    np.fmod: ((2.1, 2.6), (0.9, 1.0), False),
    np.hypot: (POSITIVE, ANY, False),
    np.logaddexp: (ANY, ANY, False),
    np.logaddexp2: (ANY, ANY, False),
    np.arctan2: (ANY, POSITIVE, False),
    np.maximum: ((0.1, 0.5), (0.6, 1.0), True),
    np.minimum: ((0.1, 0.5), (0.6, 1.0), True),
    np.fmax: ((0.1, 0.5), (0.6, 1.0), True),
    np.fmin: ((0.1, 0.5), (0.6, 1.0), True),
    np.copysign: (POSITIVE, POSITIVE, False),
    np.heaviside: (POSITIVE, ANY, False),
}
ALSO_SIGNED = {np.remainder, np.fmod, np.copysign, np.heaviside}  # where each argument may have either sign
ALSO_SWAPPED = {np.maximum, np.minimum, np.fmax, np.fmin}


def together(draw):
    """Two shapes that broadcast together."""
    return draw(arrays_of.mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=3)).input_shapes


def of_two(f, left, right, both):
    def entry(draw):
        rng = generator(draw)
        a, b = together(draw)
        x, y = between(rng, *left, *a), between(rng, *right, *b)
        if f in ALSO_SIGNED:
            x, y = (np.asarray(z * rng.choice([-1, 1], z.shape)) for z in (x, y))
        if f in ALSO_SWAPPED:  # element by element
            x = np.asarray(x + rng.choice([0, 2], a))
        if both:
            x, y = complex_too(draw, rng, x), complex_too(draw, rng, y)
        x, y = as_number(draw, x), as_number(draw, y)
        which = draw(st.sampled_from(["both", "left", "right"]))
        if which == "left":
            return (lambda x: f(x, y)), (x,)
        return (f, (x, y)) if which == "both" else ((lambda y: f(x, y)), (y,))

    return entry


def of_two_numbers(f, left, right, both):
    def entry(draw):
        rng = generator(draw)
        x, y = between(rng, *left), between(rng, *right)
        if both:
            x, y = complex_too(draw, rng, x), complex_too(draw, rng, y)
        return f, (x.item(), y.item())

    return entry


for f, (left, right, both) in OF_TWO.items():
    shaped(f, of_two(f, left, right, both), of_two_numbers(f, left, right, both))
    empty(
        f,
        lambda x, f=f: f(x, x + 0.4),
        lambda x, f=f: f(x, 0.4),
        lambda x, f=f: f(x, np.full((3, 1) if x.ndim else (3,), 0.4)),
        lambda x, f=f: f(np.full((2, 1, 1), 0.4), x),
    )


def to_a_number(f):
    def entry(draw):
        rng, n = generator(draw), shape(draw)
        exponent = draw(st.sampled_from([0, 1, 2, 3, -1, 0.5, 2.0, 1j]))
        x = between(rng, *POSITIVE, *n)
        if isinstance(exponent, int | complex) and exponent != 1j:
            x = np.asarray(x * rng.choice([-1, 1], n))
        return (lambda x: f(x, exponent)), (complex_too(draw, rng, x) if exponent != 0.5 else x,)

    return entry


for f in (np.power, np.float_power):
    shaped(f, to_a_number(f))


def with_exponents(draw):
    rng = generator(draw)
    a, b = together(draw)
    e = rng.integers(-2, 4, b)
    return (lambda x: np.ldexp(x, e)), (as_number(draw, between(rng, *ANY, *a)),)


def next_to(draw):
    rng = generator(draw)
    a, b = together(draw)
    x, y = between(rng, 0.5, 1.0, *a), between(rng, 1.1, 2.0, *b)
    return (lambda x, y: np.nextafter(x, y) * y), (x, y)


shaped(np.ldexp, with_exponents)
empty(np.ldexp, lambda x: np.ldexp(x, 2))
shaped(np.nextafter, next_to)
empty(np.nextafter, lambda x: np.nextafter(x, 9.0))

# --- three arguments --------------------------------------------------------------------------------------


def clipped(call):
    def entry(draw):
        rng = generator(draw)
        shapes = arrays_of.mutually_broadcastable_shapes(num_shapes=3, max_dims=3, max_side=3)
        a, b, c = draw(shapes).input_shapes
        x = np.asarray(rng.choice([-1.5, 0.2, 1.5], a) + rng.uniform(-0.1, 0.1, a))
        return call(draw, x, between(rng, -1.0, -0.5, *b), between(rng, 0.8, 1.0, *c))

    return entry


def of_bounds(draw, x, low, high):
    low, high = as_number(draw, low), as_number(draw, high)
    which = draw(st.sampled_from(["both", "low", "high", "array"]))
    if which == "low":
        return (lambda x, a: np.clip(x, a, None)), (x, low)
    if which == "high":
        return (lambda x, b: np.clip(x, None, b)), (x, high)
    return (np.clip, (x, low, high)) if which == "both" else ((lambda x: np.clip(x, low, high)), (x,))


shaped(np.clip, clipped(of_bounds))
empty(np.clip, lambda x: np.clip(x, -1.0, 0.2), lambda x: np.clip(x, None, x + 1))
if hasattr(getattr(np, "_core", None), "umath"):
    UFUNC = np._core.umath.clip
    shaped(UFUNC, clipped(lambda draw, x, low, high: (UFUNC, (x, low, high))))
    empty(UFUNC, lambda x: UFUNC(x, -1.0, 0.2))

# --- reductions -------------------------------------------------------------------------------------------

EXTREMA = (np.max, np.min, np.amax, np.amin)
MASKED = (np.sum, np.prod, *EXTREMA, np.mean, np.var, np.std)  # take where=
STARTED = (np.sum, np.prod, *EXTREMA)  # take initial=
SPREAD = (np.var, np.std)


def reduced(draw, many=True, min_side=1):
    """The shape of an operand, the axes to reduce and keepdims."""
    n = shape(draw, max_dims=3, min_side=min_side)
    return n, {"axis": axis(draw, len(n), many=many), "keepdims": draw(st.booleans())}


def along(f, both=True):
    def entry(draw):
        rng = generator(draw)
        n, options = reduced(draw, min_side=2 if f is np.std else 1)
        # the deviation of one number has a kink
        x = apart(rng, *(n or (2,) if f is np.std else n))
        return (lambda x: f(x, **options)), (complex_too(draw, rng, x) if both else x,)

    return entry


def some_entries(draw, rng, n, axis):
    """A mask that leaves the ends of the reduced axes in."""
    mask = rng.random(n) < 0.6
    axes = range(len(n)) if axis is None else [k % len(n) for k in np.atleast_1d(axis)]
    for end in (0, -1):
        mask[tuple(end if k in axes else slice(None) for k in range(len(n)))] = True
    return mask


def masked(f):
    def entry(draw):
        rng = generator(draw)
        n, options = reduced(draw, min_side=2)
        n = n or (2,)
        options["where"] = some_entries(draw, rng, n, options["axis"])
        # what is left out may be anything
        hole = np.where(options["where"], 0.0, draw(st.sampled_from([0.0, np.nan])))
        x = apart(rng, *n)
        if f in EXTREMA:
            start = draw(st.sampled_from([-9.0, 0.0, 9.0]))
            return (lambda x, start: f(x + hole, initial=start, **options)), (x, start)
        if f in STARTED and draw(st.booleans()):
            return (lambda x, start: f(x + hole, initial=start, **options)), (x, 0.7)
        return (lambda x: f(x + hole, **options)), (complex_too(draw, rng, x),)

    return entry


def with_degrees(f):
    def entry(draw):
        rng = generator(draw)
        n, options = reduced(draw, min_side=2)
        n = n or (2,)
        options[draw(st.sampled_from(["ddof", "correction"]))] = draw(st.sampled_from([0, 1, 0.5]))
        x = complex_too(draw, rng, apart(rng, *n))
        if draw(st.booleans()):
            return (lambda x: f(x, **options)), (x,)
        mean = np.mean(x, axis=options["axis"], keepdims=True) + 0.1
        return (lambda x, mean: f(x, mean=mean, **options)), (x, mean)

    return entry


def product_with_zeros(draw):
    rng = generator(draw)
    n, options = reduced(draw)
    x = numbers(draw, rng, *n) * (rng.random(n) < 0.7)
    return (lambda x: np.prod(x, **options)), (x,)


for f in (np.sum, np.mean, np.prod, *EXTREMA, np.ptp, *SPREAD, np.average):
    shaped(f, along(f, both=f is not np.ptp))
    empty(f)
    if f is not np.average:  # which divides by the size of its result
        empty(f, lambda x, f=f: f(x, axis=0), lambda x, f=f: f(x, axis=-1, keepdims=True))
        empty(f, lambda x, f=f: f(x, axis=()))
for f in MASKED:
    shaped(f, masked(f))
for f in STARTED:
    empty(f, lambda x, f=f: f(x, initial=0.5), lambda x, f=f: f(x, axis=-1, initial=0.5, keepdims=True))
for f in SPREAD:
    shaped(f, with_degrees(f))
shaped(np.prod, product_with_zeros)


def weighted(draw):
    rng = generator(draw)
    n, options = reduced(draw)
    axes = range(len(n)) if options["axis"] is None else [k % len(n) for k in np.atleast_1d(options["axis"])]
    whole = options["axis"] is None or draw(st.booleans())
    weights = between(rng, 0.5, 2.0, *(n if whole else [n[k] for k in axes]))
    options["returned"] = draw(st.booleans())
    return (lambda a, w: np.average(a, weights=w, **options)), (numbers(draw, rng, *n), weights)


shaped(np.average, weighted)
empty(np.average, lambda x: np.average(x, weights=np.ones_like(x) + x))

# --- cumulative sums, differences -------------------------------------------------------------------------


for f in (np.cumsum, np.cumprod):
    shaped(f, along_one(f))
    empty(f, lambda x, f=f: f(x), lambda x, f=f: f(x, axis=-1))
for name in ("cumulative_sum", "cumulative_prod"):
    if hasattr(np, name):
        f = getattr(np, name)
        shaped(f, along_one(f, none=False, include_initial=st.booleans()))
        empty(f, lambda x, f=f: f(x, axis=-1), lambda x, f=f: f(x, axis=0, include_initial=True))


def differences(draw):
    rng, n = generator(draw), shape(draw, 1)
    k, order = axis(draw, len(n), none=False), draw(st.integers(0, 3))
    end = list(n)
    end[k] = draw(st.integers(1, 2))
    ends = [0.7 if draw(st.booleans()) else numbers(draw, rng, *end) for _ in range(2)]
    x = numbers(draw, rng, *n)
    which = draw(st.sampled_from(["none", "prepend", "append", "both"]))
    if which == "none":
        return (lambda x: np.diff(x, order, k)), (x,)
    if which == "both":
        return (lambda x, a, b: np.diff(x, order, k, prepend=a, append=b)), (x, *ends)
    return (lambda x, a: np.diff(x, order, k, **{which: a})), (x, ends[0])


def flat_differences(draw):
    rng, n = generator(draw), shape(draw)
    to_end, to_begin = (numbers(draw, rng, *shape(draw, 0, 2)) for _ in range(2))
    x = complex_too(draw, rng, apart(rng, *n))
    if x.dtype.kind != "c":  # NumPy refuses ends of another kind
        to_end, to_begin = np.real(to_end), np.real(to_begin)
    if draw(st.booleans()):
        return (lambda x: np.ediff1d(x)), (x,)
    return (lambda x, a, b: np.ediff1d(x, to_end=a, to_begin=b)), (x, to_end, to_begin)


def area(draw):
    rng, n = generator(draw), shape(draw, 1)
    k, form = axis(draw, len(n), none=False), draw(st.sampled_from(["dx", "row", "full"]))
    y = numbers(draw, rng, *n)
    if form == "dx":
        return (lambda y: np.trapezoid(y, dx=0.3, axis=k)), (y,)
    x = apart(rng, *(n if form == "full" else n[k : k % len(n) + 1]))
    return (lambda y, x: np.trapezoid(y, x, axis=k)), (y, x)


shaped(np.diff, differences)
shaped(np.ediff1d, flat_differences)
shaped(np.trapezoid, area)
empty(np.diff, np.diff, lambda x: np.diff(x, 0, prepend=1.0), lambda x: np.diff(x, axis=0, prepend=1.0))
empty(np.ediff1d, lambda x: np.ediff1d(x), lambda x: np.ediff1d(x, to_end=np.ones(2)))
empty(np.trapezoid, lambda x: np.trapezoid(x))
# --- choosing ---------------------------------------------------------------------------------------------


def where(draw):
    rng = generator(draw)
    shapes = arrays_of.mutually_broadcastable_shapes(num_shapes=3, max_dims=3, max_side=3)
    a, b, c = draw(shapes).input_shapes
    condition = draw(arrays_of.arrays(bool, a))
    return (lambda x, y: np.where(condition, x, y)), tuple(
        as_number(draw, numbers(draw, rng, *n)) for n in (b, c)
    )


def of_conditions(call, count):
    """An entry: ``call(masks, choices)`` of masks and arrays of one shape."""

    def entry(draw):
        rng, n = generator(draw), shape(draw)
        masks = [draw(arrays_of.arrays(bool, n)) for _ in range(count)]
        return (lambda *x: call(masks, list(x))), tuple(numbers(draw, rng, *n) for _ in range(count))

    return entry


def take(draw, n):
    k, mode = axis(draw, len(n)), draw(st.sampled_from(["raise", "wrap", "clip"]))
    m = math.prod(n) if k is None else n[k]
    reach = m if mode == "raise" else m + 4
    indices = draw(arrays_of.arrays(np.intp, shape(draw, 0, 2), elements=st.integers(-reach, reach - 1)))
    return lambda x: np.take(x, indices, axis=k, mode=mode)


def take_along_axis(draw, n):
    k = axis(draw, len(n))
    m = math.prod(n) if k is None else n[k]
    to = [1 if draw(st.booleans()) else j for j in n]
    if k is None:
        to = [0]
    to[k or 0] = draw(st.integers(1, 4))
    indices = draw(arrays_of.arrays(np.intp, to, elements=st.integers(-m, m - 1)))
    return lambda x: np.take_along_axis(x, indices, axis=k)


def compress(draw, n):
    k = axis(draw, len(n))
    m = math.prod(n) if k is None else n[k]
    condition = draw(arrays_of.arrays(bool, draw(st.integers(0, m))))
    return lambda x: np.compress(condition, x, axis=k)


def extract(draw, n):
    condition = draw(arrays_of.arrays(bool, n))
    return lambda x: np.extract(condition, x)


def choose(draw):
    rng = generator(draw)
    shapes = draw(arrays_of.mutually_broadcastable_shapes(num_shapes=3, max_dims=2, max_side=3))
    mode = draw(st.sampled_from(["raise", "wrap", "clip"]))
    reach = st.integers(0, 1) if mode == "raise" else st.integers(-3, 4)
    a = draw(arrays_of.arrays(np.intp, shapes.input_shapes[0], elements=reach))
    return (lambda x, y: np.choose(a, [x, y], mode=mode)), tuple(
        numbers(draw, rng, *n) for n in shapes.input_shapes[1:]
    )


shaped(np.where, where)
shaped(np.select, of_conditions(lambda masks, x: np.select(masks, x, 0.5), 2))
shaped(np.take, chosen(take, 1))
shaped(np.take_along_axis, chosen(take_along_axis, 1))
shaped(np.compress, chosen(compress, 1))
shaped(np.extract, chosen(extract))
shaped(np.choose, choose)
empty(np.where, lambda x: np.where(x > 0, x, 1.0), lambda x: np.where(True, x, 1.0))
empty(np.select, lambda x: np.select([x > 0], [x], 1.0))
empty(np.take, lambda x: np.take(x, []), lambda x: np.take(x, np.zeros(0, int), axis=-1))
empty(np.take_along_axis, lambda x: np.take_along_axis(x, np.argsort(x), -1))
empty(np.compress, lambda x: np.compress([], x), lambda x: np.compress([], x, axis=-1))
empty(np.extract, lambda x: np.extract(x > 0, x))
empty(np.choose, lambda x: np.choose(0, [x, x]))

# --- sorting ----------------------------------------------------------------------------------------------


def partition(draw, n):
    k = axis(draw, len(n))
    m = math.prod(n) if k is None else n[k]
    kth = draw(st.integers(-m, m - 1))
    return lambda x: np.partition(x, kth, axis=k)


shaped(np.sort, along_one(np.sort, kind=st.sampled_from([None, "stable"])))
shaped(np.partition, chosen(partition, 1))
empty(np.sort, lambda x: np.sort(x), lambda x: np.sort(x, axis=None))
empty(np.partition, lambda x: np.partition(x, 0))

del f, low, high, left, right, both, name
