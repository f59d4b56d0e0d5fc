"""Cases of `test_rules`: arrays made of values, and functions that write."""

import numpy as np
from case_table import case, normal, reseed, z
from shape_table import generator, shape, shaped

from paradual.arrays import gain, put

reseed(37)

a, b = normal(2, 3), normal(3)


def written(function, *more, **options):
    """The array that a function has written into."""

    def fn(x, y):
        z = np.copy(x) if isinstance(x, np.ndarray) else x * 1.0
        function(z, *(y if part is None else part for part in more), **options)
        return z

    return fn


case(np.array, "list", a, b, fn=lambda x, y: np.array([x[0], y * 2], like=x))
case(np.array, "nested", a, fn=lambda x: np.array([[x[0, 0], 1.0], [x[1, 1], x[0, 2]]], ndmin=3, like=x))
case(np.array, "array", a, fn=lambda x: np.array(x, like=x))
case(np.asarray, "list", a, fn=lambda x: np.asarray([x[0], x[1]], like=x))
case(np.asarray, "array", a, fn=lambda x: np.asarray(x, dtype=x.dtype, like=x))
case(np.asanyarray, "list", a, fn=lambda x: np.asanyarray([x[0], x[1]], like=x))
case(np.ascontiguousarray, "transposed", a, fn=lambda x: np.ascontiguousarray(x.T, like=x))
case(np.asfortranarray, "number", a, fn=lambda x: np.asfortranarray(x[0, 0], like=x))
case(np.full, "number", a, fn=lambda x: np.full((2, 2), x[0, 0], like=x))
case(np.full, "row", a, fn=lambda x: np.full((2, 3), x[0], like=x))
case(np.full_like, "row", a, fn=lambda x: np.full_like(x, x[0]))
case(np.full_like, "shape", a, fn=lambda x: np.full_like(x, x[0, 1], shape=(4,)))
case(np.copyto, "broadcast", a, b, fn=written(np.copyto, None))
case(np.copyto, "where", a, b, fn=written(np.copyto, None, where=np.array([True, False, True])))
case(np.put, "repeated", a, b, fn=written(np.put, [0, 4, 0], None))
case(np.put, "clip", a, b, fn=written(np.put, [0, 40], None, mode="clip"))
case(np.put, "wrap", a, b, fn=written(np.put, [0, 8], None, mode="wrap"))
case(np.put_along_axis, "axis", a, b, fn=written(np.put_along_axis, np.array([[1, 0, 1]]), None, axis=0))
case(np.put_along_axis, "flat", a, b, fn=written(np.put_along_axis, np.array([5, 0, 1]), None, axis=None))
MASK = np.array([[True, False, True], [True, True, False]])
case(np.putmask, "repeated", a, b, fn=written(np.putmask, MASK, None))
case(np.place, "repeated", a, b, fn=written(np.place, MASK, None))
case(np.fill_diagonal, "wide", a, b, fn=lambda x, y: written(np.fill_diagonal, None)(x, y[0]))
case(np.fill_diagonal, "tall", a, b, fn=lambda x, y: written(np.fill_diagonal, None, wrap=True)(x.T, y[:2]))
case(np.fill_diagonal, "cube", normal(2, 2, 2), b, fn=lambda x, y: written(np.fill_diagonal, None)(x, y[0]))


def entry(call, min_dims=1):
    """An entry of random shapes: ``call(z, y)`` writes numbers y of any shape into a copy of z."""

    def build(draw):
        rng = generator(draw)
        x = rng.standard_normal(shape(draw, min_dims))
        y = rng.standard_normal(x.shape[-1:])

        def fn(x, y):
            z = x * 1.0
            out = call(z, y)
            return z if out is None else out

        return fn, (x, y)

    return build


def like(f):
    return lambda z, y: f([y, y * 2], like=z)


for f in (np.array, np.asarray, np.asanyarray):
    shaped(f, entry(like(f)))
for f in (np.ascontiguousarray, np.asfortranarray):
    shaped(f, entry(lambda z, y, f=f: f(z.T, like=z)))
shaped(np.full, entry(lambda z, y: np.full(z.shape, y, like=z)))
shaped(np.full_like, entry(lambda z, y: np.full_like(z, y)))
shaped(np.copyto, entry(lambda z, y: np.copyto(z, y)))
shaped(np.put, entry(lambda z, y: np.put(z, np.arange(y.size)[::-1], y)))
shaped(np.put_along_axis, entry(lambda z, y: np.put_along_axis(z, np.zeros((1,) * z.ndim, int), y[0], -1)))
shaped(np.putmask, entry(lambda z, y: np.putmask(z, z > 0, y)))
shaped(np.place, entry(lambda z, y: np.place(z, z > 0, y)))


def diagonal_filled(z, y):
    table = np.multiply.outer(z.ravel(), y)
    np.fill_diagonal(table, y[0])
    return table


shaped(np.fill_diagonal, entry(diagonal_filled))


def in_place(draw):
    rng = generator(draw)
    x = rng.standard_normal(shape(draw, 1))
    index = tuple(slice(draw_at, None) for draw_at in rng.integers(0, 2, x.ndim))
    return x, rng.standard_normal(x[index].shape), index


def written_at(draw):
    x, y, index = in_place(draw)

    def fn(x, y):
        z = x * 1.0
        z[index] = y * y
        return z

    return fn, (x, y)


def added_at(draw):
    x, y, index = in_place(draw)

    def fn(x, y):
        z = x * 1.0
        np.add.at(z, index, y * y)
        return z

    return fn, (x, y)


shaped(put, written_at)
shaped(gain, added_at)
case(put, "slice", a, b, fn=lambda x, y: written(lambda z, y: z.__setitem__(1, y), None)(x, y))
case(put, "twice", a, b, fn=lambda x, y: written(lambda z, y: z.__setitem__((0, [0, 1, 0]), y), None)(x, y))
case(gain, "twice", a, b, fn=lambda x, y: written(lambda z, y: np.add.at(z, (0, [0, 1, 0]), y), None)(x, y))


def signs(draw):
    rng = generator(draw)
    n = shape(draw)
    return np.sign, (rng.standard_normal(n) + 1j * rng.standard_normal(n),)


case(np.sign, "complex", z(2, 3))
shaped(np.sign, signs)
