"""What the table of `test_random_shapes` is made of: for each function, calls of random shapes.

An entry is a function of `draw` that returns ``(fn, args)``: the call ``fn(*args)``, differentiated in all of
``args``, at a point where it is smooth.  Sizes are small, because each is checked to second order.
"""

import hypothesis.extra.numpy as arrays_of
import hypothesis.strategies as st
import numpy as np

SHAPED = {}  # {function: [entry]}
EMPTY = {}  # {function: [call]}: calls ``call(x)`` for arrays with an axis of length 0, and of no axes


def shaped(function, *entries):
    """Give a function its entries."""
    SHAPED.setdefault(function, []).extend(entries)


def empty(function, *calls):
    """Give a function calls of one array that may be empty, by default the function itself."""
    EMPTY.setdefault(function, []).extend(calls or [function])


def generator(draw):
    """A generator of points; hypothesis shrinks the shapes, not the numbers."""
    return np.random.default_rng(draw(st.integers(0, 2**16)))


def shape(draw, min_dims=0, max_dims=3, min_side=1, max_side=3):
    """A random shape."""
    return draw(
        arrays_of.array_shapes(min_dims=min_dims, max_dims=max_dims, min_side=min_side, max_side=max_side)
    )


def apart(rng, *shape):
    """Numbers of both signs in random order, none near 0, no two (nor their absolute values) close."""
    n = int(np.prod(shape, dtype=int))
    values = np.linspace(0.3, 2.0, n) if n else np.zeros(0)
    return rng.permutation(values * np.where(np.arange(n) % 2, -1, 1)).reshape(shape)


def between(rng, low, high, *shape):
    """Uniform numbers, also where the shape is ()."""
    return np.asarray(rng.uniform(low, high, shape))


def complex_too(draw, rng, x):
    """The same numbers, or complex numbers with these real parts, at random; none near the real axis."""
    if not draw(st.booleans()):
        return x
    return np.asarray(x + 1j * between(rng, 0.2, 0.8, *x.shape) * rng.choice([-1, 1], x.shape))


def numbers(draw, rng, *shape):
    """Numbers that are `apart`, real or complex at random."""
    return complex_too(draw, rng, apart(rng, *shape))


def as_number(draw, x):
    """An array with no axes as a Python number, at random."""
    return x.item() if x.ndim == 0 and draw(st.booleans()) else x


def axis(draw, ndim, none=True, many=False):
    """None, an axis, or a tuple of axes."""
    choice = st.integers(-ndim, ndim - 1) if ndim else st.none()
    if many and ndim:
        choice = choice | arrays_of.valid_tuple_axes(ndim, min_size=1)
    return draw(st.none() | choice if none else choice)


def of_one(f, min_dims=0, max_dims=3):
    """An entry: ``f(x)``."""

    def entry(draw):
        return f, (numbers(draw, generator(draw), *shape(draw, min_dims, max_dims)),)

    return entry


def chosen(choose, min_dims=0, max_dims=3):
    """An entry: ``fn(x)``, where ``fn = choose(draw, shape)``."""

    def entry(draw):
        rng, n = generator(draw), shape(draw, min_dims, max_dims)
        return choose(draw, n), (numbers(draw, rng, *n),)

    return entry


def of_any_shape(function, low=None, high=None, min_dims=0, min_side=1, **options):
    """An entry: ``function(x, **options)``, ``x`` between two numbers or far from each other and from 0."""

    def entry(draw):
        rng, n = generator(draw), shape(draw, min_dims, min_side=min_side)
        x = apart(rng, *n) if low is None else np.asarray(rng.uniform(low, high, n))
        return (lambda x: function(x, **options)), (x,)

    return entry


def along_an_axis(function, none=True, many=False, keepdims=False, min_dims=1, max_dims=3, **options):
    """An entry: ``function(x, axis=axis, **options)``, with keepdims at random if it has any."""

    def entry(draw):
        rng, n = generator(draw), shape(draw, min_dims, max_dims)
        more = dict(options, axis=axis(draw, len(n), none, many))
        if keepdims:
            more["keepdims"] = draw(st.booleans())
        return (lambda x: function(x, **more)), (apart(rng, *n),)

    return entry


def along_one(f, none=True, **choices):
    """An entry: ``f(x, axis=axis)``, with one axis and with options chosen from strategies."""

    def entry(draw):
        rng, n = generator(draw), shape(draw, 1)
        options = {name: draw(values) for name, values in choices.items()}
        options["axis"] = axis(draw, len(n), none=none)
        return (lambda x: f(x, **options)), (numbers(draw, rng, *n),)

    return entry


def broadcast_together(function, left=(0.5, 1.0), right=(1.1, 2.0), **options):
    """An entry: ``function(x, y, **options)`` of shapes that broadcast together."""

    def entry(draw):
        rng = generator(draw)
        a, b = draw(
            arrays_of.mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=3)
        ).input_shapes
        return (lambda x, y: function(x, y, **options)), (
            np.asarray(rng.uniform(*left, a)),
            np.asarray(rng.uniform(*right, b)),
        )

    return entry


def of_matrices(function, make, max_stack=2, **options):
    """An entry: ``function(A, **options)`` of a stack of matrices ``make(rng, *stack, n)``."""

    def entry(draw):
        rng = generator(draw)
        stack = shape(draw, 0, max_stack, 1, 2)
        n = draw(st.integers(1, 3))
        return (lambda a: function(a, **options)), (make(rng, *stack, n),)

    return entry
