"""Random shapes for `test_random_shapes`: shapes and indexing."""

import math
import operator

import hypothesis.extra.numpy as arrays_of
import hypothesis.strategies as st
import numpy as np
from shape_table import along_one, as_number, axis, chosen, empty, generator, numbers, of_one, shape, shaped

from paradual.arrays import cast, gain, item, put, scatter_sum
from paradual.rules.shaping import pad_zeros

# --- the shape --------------------------------------------------------------------------------------------


def reshape(draw, n):
    sides, left = [], math.prod(n)
    while len(sides) < 3 and draw(st.booleans()):
        sides.append(draw(st.sampled_from([d for d in range(1, left + 1) if left % d == 0])))
        left //= sides[-1]
    sides = draw(st.permutations([*sides, left]))
    if draw(st.booleans()):
        sides[draw(st.integers(0, len(sides) - 1))] = -1
    order = draw(st.sampled_from("CF"))
    return lambda x: np.reshape(x, tuple(sides), order=order)


def ravel(draw, n):
    order = draw(st.sampled_from("CF"))
    return lambda x: np.ravel(x, order=order)


def squeeze(draw, n):
    k = [k - draw(st.sampled_from([0, len(n)])) for k, m in enumerate(n) if m == 1 and draw(st.booleans())]
    k = None if draw(st.booleans()) else k[0] if len(k) == 1 and draw(st.booleans()) else tuple(k)
    return lambda x: np.squeeze(x, k)


def expand(draw, n):
    count = draw(st.integers(1, 2))
    k = draw(arrays_of.valid_tuple_axes(len(n) + count, min_size=count, max_size=count))
    return lambda x: np.expand_dims(x, k[0] if count == 1 else k)


def broadcast(draw, n):
    lead = shape(draw, 0, 2)
    to = (*lead, *(draw(st.integers(1, 3)) if m == 1 else m for m in n))
    return lambda x: np.broadcast_to(x, to)


def to_several(f, least=1, max_dims=3):
    """An entry: ``f(x, y, ...)`` of arrays of any shapes."""

    def entry(draw):
        rng = generator(draw)
        count = draw(st.integers(least, 3))
        return f, tuple(as_number(draw, numbers(draw, rng, *shape(draw, 0, max_dims))) for _ in range(count))

    return entry


def broadcast_several(draw):
    rng = generator(draw)
    shapes = arrays_of.mutually_broadcastable_shapes(num_shapes=3, max_dims=3, max_side=3)
    return np.broadcast_arrays, tuple(numbers(draw, rng, *n) for n in draw(shapes).input_shapes)


shaped(np.reshape, chosen(reshape))
shaped(np.ravel, chosen(ravel))
shaped(np.squeeze, chosen(squeeze))
shaped(np.expand_dims, chosen(expand))
shaped(np.broadcast_to, chosen(broadcast))
shaped(np.broadcast_arrays, broadcast_several)
shaped(np.copy, of_one(np.copy))
for f in (np.atleast_1d, np.atleast_2d, np.atleast_3d):
    shaped(f, to_several(f))
    empty(f)
empty(np.reshape, lambda x: np.reshape(x, -1, order="F"), lambda x: np.reshape(x, (*x.shape, 1)))
empty(np.expand_dims, lambda x: np.expand_dims(x, -1))
empty(np.broadcast_to, lambda x: np.broadcast_to(x, (0, *x.shape)))
empty(np.broadcast_arrays, lambda x: np.broadcast_arrays(x, 1.0))
for f in (np.ravel, np.squeeze, np.copy):
    empty(f)

# --- the order of axes and of elements --------------------------------------------------------------------


def transpose(draw, n):
    axes = draw(st.permutations(range(len(n))))
    axes = draw(st.none() | st.just(tuple(k - draw(st.sampled_from([0, len(n)])) for k in axes)))
    return lambda x: np.transpose(x, axes)


def two_axes(f):
    def choose(draw, n):
        a, b = (axis(draw, len(n), none=False) for _ in range(2))
        return lambda x: f(x, a, b)

    return choose


def moveaxis(draw, n):
    count = draw(st.integers(0, len(n)))
    source, there = (
        [k - draw(st.sampled_from([0, len(n)])) for k in draw(st.permutations(range(len(n))))[:count]]
        for _ in range(2)
    )
    return lambda x: np.moveaxis(x, source, there)


def rollaxis(draw, n):
    k, start = axis(draw, len(n), none=False), draw(st.integers(-len(n), len(n)))
    return lambda x: np.rollaxis(x, k, start)


def flip(draw, n):
    k = axis(draw, len(n), many=True)
    return lambda x: np.flip(x, k)


def rot90(draw, n):
    k, axes = draw(st.integers(-5, 5)), tuple(draw(st.permutations(range(len(n))))[:2])
    return lambda x: np.rot90(x, k, axes)


def roll(draw, n):
    k = axis(draw, len(n), many=True)
    shift = draw(st.integers(-4, 4))
    if isinstance(k, tuple) and draw(st.booleans()):
        shift = tuple(draw(st.integers(-4, 4)) for _ in k)
    return lambda x: np.roll(x, shift, k)


shaped(np.transpose, chosen(transpose))
shaped(np.swapaxes, chosen(two_axes(np.swapaxes), 1))
shaped(np.moveaxis, chosen(moveaxis), chosen(two_axes(np.moveaxis), 1))
shaped(np.rollaxis, chosen(rollaxis, 1))
shaped(np.flip, chosen(flip))
shaped(np.flipud, of_one(np.flipud, 1))
shaped(np.fliplr, of_one(np.fliplr, 2))
shaped(np.rot90, chosen(rot90, 2))
shaped(np.roll, chosen(roll))
empty(np.swapaxes, lambda x: np.swapaxes(x, 0, -1))
empty(np.moveaxis, lambda x: np.moveaxis(x, 0, -1))
empty(np.rollaxis, lambda x: np.rollaxis(x, -1))
empty(np.roll, lambda x: np.roll(x, 1), lambda x: np.roll(x, 1, 0))
for f in (np.transpose, np.flip, np.flipud, np.fliplr, np.rot90):
    empty(f)
if hasattr(np, "matrix_transpose"):
    shaped(np.matrix_transpose, of_one(np.matrix_transpose, 2))
    empty(np.matrix_transpose)

# --- joining ----------------------------------------------------------------------------------------------


def joined(call, min_dims=1, max_dims=3, alike=False):
    """An entry: ``call(list, axis)`` of arrays that differ along one axis only, if at all."""

    def entry(draw):
        rng, n = generator(draw), list(shape(draw, min_dims, max_dims))
        k = draw(st.integers(-len(n) - alike, len(n) - 1 + alike)) if n or alike else 0
        arrays = []
        for _ in range(draw(st.integers(1, 3))):
            if not alike:
                n[k] = draw(st.integers(0, 3))
            arrays.append(numbers(draw, rng, *n))
        return (lambda *x: call(x, k)), tuple(arrays)

    return entry


def of_equal_shapes(f):
    """An entry: ``f([x, y, ...])`` of arrays of one shape."""
    return joined(lambda x, k: f(list(x)), 0, 3, alike=True)


def stack(arrays, k):
    n = arrays[0].ndim
    return np.stack(arrays, axis=max(min(k, n), -n - 1))


def append(draw):
    rng, n = generator(draw), list(shape(draw, 1))
    k = axis(draw, len(n), none=True)
    x = numbers(draw, rng, *n)
    if k is None:
        n = shape(draw)
    else:
        n[k] = draw(st.integers(1, 3))
    return (lambda x, y: np.append(x, y, k)), (x, numbers(draw, rng, *n))


def block(draw):
    rng, lead = generator(draw), shape(draw, 0, 1)
    a, b, c, d = (draw(st.integers(1, 2)) for _ in range(4))
    parts = [numbers(draw, rng, *lead, *n) for n in ((a, c), (a, d), (b, c), (b, d))]
    form = draw(st.sampled_from(["square", "row", "column", "alone"]))
    if form == "square":
        return (lambda p, q, r, s: np.block([[p, q], [r, s]])), tuple(parts)
    if form == "row":
        return (lambda p, q: np.block([p, q])), tuple(parts[:2])
    if form == "column":
        return (lambda p, r: np.block([[p], [r]])), (parts[0], parts[2])
    return np.block, (parts[0],)


def of_numbers_and_rows(draw):
    rng, n = generator(draw), draw(st.integers(1, 3))
    return (lambda a, b, c: np.block([[a, b], [c]])), (numbers(draw, rng, n), 0.5, numbers(draw, rng, n + 1))


shaped(
    np.concatenate,
    joined(lambda x, k: np.concatenate(x, axis=k)),
    joined(lambda x, k: np.concatenate([*x, np.arange(2), x[0]], axis=None)),
)
shaped(np.stack, joined(stack, 0, 2, alike=True))
for f in (np.vstack, np.hstack, np.dstack, np.column_stack):
    shaped(f, of_equal_shapes(f))
    empty(f, lambda x, f=f: f([x, x]))
shaped(np.vstack, joined(lambda x, k: np.vstack([np.moveaxis(a, k, 0) for a in x]), 2))
shaped(np.hstack, joined(lambda x, k: np.hstack([np.moveaxis(a, k, 1) for a in x]), 2))
shaped(np.dstack, joined(lambda x, k: np.dstack([np.moveaxis(a, k, 2) for a in x]), 3))
shaped(np.append, append)
shaped(np.block, block, of_numbers_and_rows)
empty(np.concatenate, lambda x: np.concatenate([x, x]), lambda x: np.concatenate([x, np.ones(2)], axis=None))
empty(np.stack, lambda x: np.stack([x, x], axis=-1))
empty(np.append, lambda x: np.append(x, 1.0), lambda x: np.append(x, x, axis=-1))
empty(np.block, lambda x: np.block([x, x]))

# --- splitting --------------------------------------------------------------------------------------------


def split(f, k=None, even=True, min_dims=1):
    """An entry: ``f(x, sections)``, along a random axis or where ``k(ndim)`` says."""

    def entry(draw):
        rng, n = generator(draw), list(shape(draw, min_dims, max(min_dims, 3)))
        options = {"axis": axis(draw, len(n), none=False)} if k is None else {}
        j = options["axis"] if k is None else k(len(n))
        if draw(st.booleans()):
            cuts = sorted(draw(st.lists(st.integers(0, 4), max_size=3)))
        else:
            cuts = draw(st.integers(1, 3))
            n[j] = cuts * draw(st.integers(1, 2)) if even else draw(st.integers(1, 5))
        return (lambda x: f(x, cuts, **options)), (numbers(draw, rng, *n),)

    return entry


shaped(np.split, split(np.split))
shaped(np.array_split, split(np.array_split, even=False))
shaped(np.vsplit, split(np.vsplit, lambda ndim: 0, min_dims=2))
shaped(np.hsplit, split(np.hsplit, lambda ndim: min(ndim - 1, 1)))
shaped(np.dsplit, split(np.dsplit, lambda ndim: 2, min_dims=3))
for f in (np.split, np.array_split, np.vsplit, np.hsplit, np.dsplit):
    empty(f, lambda x, f=f: f(x, 1), lambda x, f=f: f(x, [0]))
if hasattr(np, "unstack"):
    shaped(np.unstack, along_one(np.unstack, none=False))
    empty(np.unstack, lambda x: np.unstack(x), lambda x: np.unstack(x, axis=-1))


def delete(draw, n):
    k = axis(draw, len(n))
    m = math.prod(n) if k is None else n[k]
    which = draw(st.sampled_from(["int", "list", "slice", "mask"]))
    what = {
        "int": draw(st.integers(-m, m - 1)),
        "list": draw(st.lists(st.integers(-m, m - 1), max_size=3)),
        "slice": draw(st.slices(m)),
        "mask": draw(arrays_of.arrays(bool, m)),
    }[which]
    return lambda x: np.delete(x, what, k)


# --- repeating and padding --------------------------------------------------------------------------------


def repeat(draw, n):
    k = axis(draw, len(n))
    m = math.prod(n) if k is None else n[k]
    counts = draw(st.integers(0, 2) | st.lists(st.integers(0, 2), min_size=m, max_size=m))
    return lambda x: np.repeat(x, counts, k)


def tile(draw, n):
    reps = draw(st.integers(0, 2) | st.lists(st.integers(0, 2), max_size=3).map(tuple))
    return lambda x: np.tile(x, reps)


def widths(draw, n):
    return [(draw(st.integers(0, 2)), draw(st.integers(0, 2))) for _ in n]


def pad(draw, n):
    mode = draw(st.sampled_from(["constant", "edge", "reflect", "symmetric", "wrap"]))
    form, each = draw(st.sampled_from(["pairs", "int", "pair"])), widths(draw, n)
    width = each if form == "pairs" else 1 if form == "int" else (2, 1)
    options = {"mode": mode}
    if mode == "constant" and draw(st.booleans()):
        options["constant_values"] = draw(st.sampled_from([2.0, (1.0, 2.0)]))
    return lambda x: np.pad(x, width, **options)


def padded(draw, n):
    each = widths(draw, n)
    return lambda x: pad_zeros(x, each)


shaped(np.delete, chosen(delete, 1))
shaped(np.repeat, chosen(repeat))
shaped(np.tile, chosen(tile))
shaped(np.pad, chosen(pad, 1))
shaped(pad_zeros, chosen(padded))
empty(np.delete, lambda x: np.delete(x, []), lambda x: np.delete(x, slice(0, 1), -1))
empty(np.repeat, lambda x: np.repeat(x, 2), lambda x: np.repeat(x, 2, axis=-1))
empty(np.tile, lambda x: np.tile(x, 2), lambda x: np.tile(x, (2, 1, 0)))
empty(np.pad, lambda x: np.pad(x, 1), *(lambda x, m=m: np.pad(x, 1, mode=m) for m in ("edge", "wrap")))
empty(pad_zeros, lambda x: pad_zeros(x, [(1, 0)] * x.ndim))

# --- diagonals and triangles ------------------------------------------------------------------------------


def triangle(f):
    def choose(draw, n):
        k = draw(st.integers(-3, 3))
        return lambda x: f(x, k)

    return choose


def diagonal(f):
    def choose(draw, n):
        first, second = draw(st.permutations(range(len(n))))[:2]
        offset = draw(st.integers(1 - n[first], n[second] - 1))
        axes = (k - draw(st.sampled_from([0, len(n)])) for k in (first, second))
        options = dict(zip(("axis1", "axis2"), axes, strict=True))
        return lambda x: f(x, offset, **options)

    return choose


for f in (np.tril, np.triu):
    shaped(f, chosen(triangle(f), 1))
    empty(f)
for f in (np.diagonal, np.trace):
    shaped(f, chosen(diagonal(f), 2))
    empty(f)
shaped(np.diag, chosen(triangle(np.diag), 1, 1), chosen(triangle(np.diag), 2, 2))
shaped(np.diagflat, chosen(triangle(np.diagflat)))
empty(np.diag)
empty(np.diagflat)

# --- indexing ---------------------------------------------------------------------------------------------


def an_index(draw, n, basic=None):
    """Any index that NumPy knows: numbers, slices, Ellipsis, newaxis, masks, arrays and mixtures of them."""
    if not n or draw(st.booleans()) if basic is None else basic:
        return draw(arrays_of.basic_indices(n, allow_newaxis=True, max_dims=4))
    if draw(st.integers(0, 3)) == 0:  # a mask of the first axes
        return draw(arrays_of.arrays(bool, n[: draw(st.integers(1, len(n)))]))
    one = shape(draw, 0, 2)
    parts = []
    for m in n[: draw(st.integers(1, len(n)))]:
        part = draw(st.sampled_from(["array", "slice", "int", "newaxis"]))
        if part == "newaxis":
            parts.append(None)
        if part == "int":
            parts.append(draw(st.integers(-m, m - 1)))
        elif part == "slice":
            parts.append(draw(st.slices(m)))
        else:
            parts.append(draw(arrays_of.arrays(np.intp, one, elements=st.integers(-m, m - 1))))
    return tuple(parts)


def getitem(draw, n):
    index = an_index(draw, n)
    return lambda x: x[index]


def getitem_of_basic(draw, n):
    index = an_index(draw, n, basic=True)
    return lambda x: x[index]


def items(draw, n):
    """One of several results, used twice, once or not at all."""
    k = axis(draw, len(n), none=False)
    which = draw(st.lists(st.sampled_from([0, 1]), min_size=1, max_size=3))

    def fn(x):
        several = np.linalg.slogdet(np.moveaxis(x, k, -1)[..., None, None] + 3)
        return sum(item(several, j) for j in which)

    return fn


def to_another_type(f):
    def choose(draw, n):
        dtype = np.dtype(draw(st.sampled_from(["c16", "c8", "f4"])))
        if dtype.kind == "f":
            return lambda x: f(np.abs(x), dtype)
        return lambda x: f(x, dtype) * 1j

    return choose


def written(call):
    """An entry: ``call(x, v, index)`` with a value that broadcasts to the part of x."""

    def entry(draw):
        rng, n = generator(draw), shape(draw)
        index = an_index(draw, n)
        part = np.zeros(n)[index].shape
        part = part[draw(st.integers(0, len(part))) :]
        v = numbers(draw, rng, *(1 if draw(st.booleans()) else m for m in part))
        return (lambda x, v: call(x, v, index)), (np.asarray(numbers(draw, rng, *n) + v.dtype.type(0)), v)

    return entry


def scattered(draw):
    rng, n = generator(draw), shape(draw, 1)
    indices = [an_index(draw, n) for _ in range(draw(st.integers(1, 3)))]
    values = [numbers(draw, rng, *np.zeros(n)[index].shape) for index in indices]
    base = numbers(draw, rng, *n)
    dtype = np.result_type(base, *values)
    if draw(st.booleans()):
        return (lambda *v: scatter_sum(None, indices, list(v), n, dtype)), tuple(values)
    return (lambda b, *v: scatter_sum(b, indices, list(v), n, dtype)), (base, *values)


shaped(operator.getitem, chosen(getitem), chosen(getitem), chosen(getitem_of_basic))
shaped(item, chosen(items, 1))
shaped(cast, chosen(to_another_type(cast)))
shaped(scatter_sum, scattered)
shaped(put, written(lambda x, v, index: put(x, v, index)))
shaped(gain, written(lambda x, v, index: gain(x, v, index)))
empty(
    operator.getitem,
    lambda x: x[...],
    lambda x: x[None],
    lambda x: x[:0, []],
    lambda x: x[x > 0],
)
empty(cast, lambda x: cast(x, np.dtype("f4")))
if hasattr(np, "astype"):
    shaped(np.astype, chosen(to_another_type(np.astype)))
    empty(np.astype, lambda x: np.astype(x, np.float32))

del f
