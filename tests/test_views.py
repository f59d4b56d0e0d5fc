"""Arrays that share memory, in loops and in random programs: every view sees what is written."""

import operator
import tracemalloc

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

import paradual as pdl
from paradual.errors import NotDifferentiableError
from paradual.testing import check_grads

X = np.array([0.7, 1.3, 0.4, 2.1, 1.6, 0.9])
M = np.linspace(0.3, 2.0, 12).reshape(3, 4)


def agrees(fn, *args):
    """The value is NumPy's, and the derivatives are right to second order in both modes."""
    value = fn(*(np.copy(a) for a in args))
    got, _ = pdl.vjp(fn, *args)
    np.testing.assert_allclose(got, value, rtol=1e-13)
    check_grads(fn, args)


# --- aliases ------------------------------------------------------------------------------------------------

VIEWS = {
    "slice": lambda x: x[1:],
    "newaxis": lambda x: x[None],
    "reshape": lambda x: x.reshape(2, 3),
    "ravel": lambda x: x.ravel(),
    "T": lambda x: x.T,
    "view": lambda x: x.view(),
    "real": lambda x: x.real,
    "row": lambda x: x.reshape(2, 3)[0],
    "squeeze": lambda x: np.squeeze(x),
    "expand_dims": lambda x: np.expand_dims(x, 0),
    "flip": lambda x: np.flip(x),
    "moveaxis": lambda x: np.moveaxis(x, 0, -1),
    "split": lambda x: np.split(x, 2)[1],
    "atleast_2d": lambda x: np.atleast_2d(x),
    "view-of-view": lambda x: x[::-1][1:],
    "itself": lambda x: x,
    "rot90": lambda x: np.rot90(x.reshape(2, 3)),
    "broadcast_to": lambda x: np.broadcast_to(x, (3, 6)),
    "windows": lambda x: np.lib.stride_tricks.sliding_window_view(x, 2),
    "copy": lambda x: x.copy(),
    "mask": lambda x: x[x > 1],
    "ints": lambda x: x[[0, 0, 2]],
    "flatten": lambda x: x.flatten(),
}


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("how", ["augmented", "item", "whole", "out"])
def test_a_view_sees_what_is_written_to_its_owner(name, how):
    def f(x):
        y = x * 1.0
        view = VIEWS[name](y)
        before = np.sum(np.sin(view))
        if how == "augmented":
            y *= x + 1.0
        elif how == "item":
            y[2] = x[0] * x[1]
            y[2:4] *= 2.0
        elif how == "whole":
            y[:] = x * x
        else:
            np.exp(x, out=y)
        return np.sum(view * view) + before + np.sum(y**3)

    agrees(f, X)


@pytest.mark.parametrize("name", VIEWS)
def test_an_owner_sees_what_is_written_to_its_view(name):
    def f(x):
        y = x * 1.0
        view, other = VIEWS[name](y), y[::2]
        before = np.sum(np.sin(y) * 2)
        view *= 2.0
        view[0] = x[0] ** 2
        view[-1] += x[1]
        return np.sum(y * y) + before + np.sum(other**3) + np.sum(view)

    if name in ("broadcast_to", "windows"):
        with pytest.raises(ValueError, match="read-only"):
            pdl.grad(f)(X)
    else:
        agrees(f, X)


def test_views_of_arrays_in_fortran_order():
    def f(x):
        y = np.copy(x.T, order="C").T
        flat = y.T.ravel()
        flat[1] = x[0, 0] ** 2
        y[1, 1] *= flat[4]
        flat[5:7] += y[0, :2]
        return np.sum(y * y) + np.sum(flat[1:4])

    agrees(f, M)


def test_a_view_outlives_its_owner():
    def f(x):
        y = (x * 1.0)[1:]
        y[0] = x[0] * y[1]
        y += y[::-1]
        return np.sum(y * y)

    agrees(f, X)


def test_residuals_keep_their_values():
    def f(x):
        y = np.exp(x)
        z = y * y  # needs y as it is now
        w = np.sin(y[1:4])
        y[2] = 7.0
        y[1:4] *= x[1:4]
        v = y * x
        y[:] = 0.0
        return np.sum(z) + np.sum(w) + np.sum(v * v) + np.sum(y)

    agrees(f, X)


def test_swapping():
    def f(x):
        y = x * 1.0
        y[0], y[1] = y[1], y[0]
        y[2:4], y[4:6] = y[4:6].copy(), y[2:4].copy()
        return y * np.arange(6)

    agrees(f, X)


def test_complex_arrays():
    def f(x, z):
        y = z * 1.0
        y[1] = x[0]
        y[2:4] += 1j * x[2:4]
        y[4] *= y[5]
        y.imag = x * y.real
        return np.abs(y) ** 2 * np.arange(1, 7)

    agrees(f, X, X + 1j * X[::-1])
    with pytest.raises(NotDifferentiableError, match="views"):
        pdl.grad(lambda z: operator.setitem(z.real, 0, 1.0) or np.sum(np.abs(z)))(X + 0j)


def test_what_was_masked_out_in_place_does_not_leak_a_nan():
    def f(x):
        with np.errstate(all="ignore"):
            y = np.log(x) / x
        y[x <= 0] = 0.0
        return np.sum(y)

    g = pdl.grad(f)(np.array([0.0, 2.0, -1.0]))
    np.testing.assert_allclose(g, [0, (1 - np.log(2)) / 4, 0])

    def divided(a, b):
        return np.sum(np.divide(a, b, out=np.zeros_like(a), where=b != 0))

    a, b = np.array([1.0, 2.0]), np.array([0.0, 4.0])
    da, db = pdl.grad(divided, argnums=(0, 1))(a, b)
    np.testing.assert_allclose(da, [0, 0.25])
    np.testing.assert_allclose(db, [0, -0.125])


# --- loops --------------------------------------------------------------------------------------------------


def filled(x):
    y = np.zeros_like(x)
    y[0] = x[0]
    for k in range(1, len(x)):
        y[k] = np.sin(y[k - 1]) * x[k]
    return np.sum(y)


def through_a_view(x):
    y = np.zeros_like(x)
    flat = y.reshape(4, -1).reshape(-1)[:]
    for k in range(1, len(x)):
        flat[k] = np.sum(np.cos(flat[max(k - 3, 0) : k])) * 0.3 + x[k]
    return np.sum(y * y)


def updated(x):
    y = x * 1.0
    rows = y.reshape(4, -1)
    for k in range(len(x)):
        rows[k % 4][k // 4] += x[k] * y[0]
        np.add.at(y, [k, k], x[k])
    return np.sum(y)


@pytest.mark.parametrize("loop", [filled, through_a_view, updated])
def test_loops_over_elements(loop):
    agrees(loop, np.linspace(0.5, 1.0, 8))


@pytest.mark.parametrize("loop", [filled, through_a_view, updated])
@pytest.mark.parametrize("transform", ["grad", "jvp", "hvp"])
def test_loops_over_elements_do_not_copy_the_array(loop, transform):
    def bytes_per_step(n):
        x = np.linspace(0.5, 1.0, n)
        tracemalloc.start()
        try:
            if transform == "grad":
                pdl.grad(loop)(x)
            elif transform == "jvp":
                pdl.jvp(loop, (x,), (x,))
            else:
                pdl.hvp(loop, (x,), (x,))
            return tracemalloc.get_traced_memory()[1] / n
        finally:
            tracemalloc.stop()

    n = 500 if transform == "hvp" else 1000
    small, large = bytes_per_step(n // 5), bytes_per_step(n)
    assert large < small + 0.75 * 8 * n, (small, large)  # a step does not even keep one copy


# --- any program --------------------------------------------------------------------------------------------

SOURCE = np.linspace(0.5, 1.5, 24)


def run(ops, x):
    """A program of random reads and writes on a pool of arrays and views."""
    pool = [np.copy(x.reshape(4, 6)) * 1.0, x.reshape(4, 6) * 0.5]
    total = 0.0
    for kind, a, b, index, c in ops:
        y, z = pool[a % len(pool)], pool[b % len(pool)]
        if kind == "view":
            pool.append(y[index] if np.ndim(y[index]) == 2 else y[None, 1] if len(y) > 1 else y.T)
        elif kind == "transposed":
            pool.append(y.T)
        elif kind == "copied":
            pool.append(np.sin(y))
        elif kind == "read":
            total = total + np.sum(np.cos(y[index])) * c
        elif kind == "use":
            total = total + np.sum(y * y) * 0.1 + np.sum(np.sin(y)) * c
        elif kind == "number":
            y[index] = c
        elif kind == "element":
            y[index] = np.sin(z[0, 0]) + c
        elif kind == "augmented":
            y[index] *= 1 + 0.1 * np.tanh(z[-1, -1])
        elif kind == "whole":
            y *= 1 + 0.1 * np.tanh(np.sum(z))
        elif kind == "added":
            y[index] += np.sin(np.mean(z[index])) if np.size(z[index]) else 0.0
        elif kind == "same" and y.shape == z.shape:
            y[...] = z
    return total + sum(np.sum(np.sin(y) * (k + 1)) for k, y in enumerate(pool))


PART = st.one_of(
    st.just(0), st.just(-1), st.just(slice(None)), st.just(slice(0, 1)), st.just(slice(None, None, -1)),
    st.just(slice(None, None, 2)), st.just(...), st.just(np.array([0, 0])), st.just((slice(None), 0)),
    st.just((0, 0)), st.just((slice(None), slice(0, 2))), st.just(([0, -1], [0, -1])),
)  # fmt: skip
OP = st.tuples(
    st.sampled_from(
        [
            *("view", "view", "transposed", "copied", "read", "use"),
            *("number", "element", "augmented", "whole", "added", "same"),
        ]
    ),
    st.integers(0, 9), st.integers(0, 9), PART, st.floats(-1, 1).map(lambda c: round(c, 2)),
)  # fmt: skip


@given(st.lists(OP, max_size=9))
@settings(max_examples=60, deadline=None)
def test_random_programs(ops):
    value = run(ops, SOURCE.copy())
    got, slope = pdl.value_and_grad(lambda x: run(ops, x))(SOURCE)
    np.testing.assert_allclose(got, value, rtol=1e-12)
    check_grads(lambda x: run(ops, x), (SOURCE,), order=2, atol=1e-4, rtol=1e-5)
    assert np.isfinite(slope).all()
