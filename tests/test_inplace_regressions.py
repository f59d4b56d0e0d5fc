"""Layouts in memory, flat iterators, chains of slices, and views made in several threads."""

import sys
import tracemalloc

import numpy as np
import pytest

import paradual as pdl
from paradual.testing import check_grads

M = np.linspace(0.3, 2.0, 12).reshape(3, 4)
S = np.linspace(0.3, 2.0, 9).reshape(3, 3)
WEIGHTS = np.linspace(0.5, 1.5, 12)


def total(y):
    return np.sum(np.sin(y) * WEIGHTS[: y.size].reshape(y.shape))


def agrees(fn, x, order=2):
    value = fn(x.copy())
    np.testing.assert_allclose(pdl.vjp(fn, x)[0], value, rtol=1e-13)
    np.testing.assert_allclose(pdl.jvp(fn, (x,), (x,))[0], value, rtol=1e-13)
    check_grads(fn, (x,), order=order)


def through_out(x):
    y = x * 1.0
    flat = y.reshape(-1)
    z = x.T * 1.0
    np.add(z, z, out=y)  # the sum of z is laid out as z is, y stays as it was
    flat[1] = 5.0
    flat[3] *= x[0, 1]
    return total(y)


def through_a_later_view(x):
    y = x * 1.0
    np.sin(x.T, out=y)
    y.reshape(-1)[1] = x[0, 0] ** 2
    return total(y)


def a_view_as_result(x):
    y = np.zeros_like(x)
    x = x * 1.0
    x[0, 1] = 2.0
    np.einsum("ij->ji", x, out=y)
    x[0, 0] = 9.0  # y is no view of x
    return total(y)


def kept_in_fortran_order(x):
    y = x.T * 1.0
    y[0] = x[0, 1]
    z = np.sin(y)  # laid out as y, though what is kept of y is a copy
    flat = z.reshape(-1)
    flat[0] = 7.0
    return total(z)


@pytest.mark.parametrize("fn", [through_out, through_a_later_view, a_view_as_result, kept_in_fortran_order])
def test_the_layout_in_memory_is_numpys(fn):
    agrees(fn, S)


def test_a_tangent_in_another_layout():
    def f(x):
        y = x * 1.0
        y.reshape(-1)[2] = x[0, 0] ** 2
        return total(y)

    t = np.cos(M)
    want = pdl.jvp(f, (M,), (t,))[1]
    np.testing.assert_allclose(pdl.jvp(f, (M,), (np.asfortranarray(t),))[1], want)
    np.testing.assert_allclose(np.sum(pdl.grad(f)(M) * t), want)


MADE = {
    "array": lambda x, order: np.array(x, order=order, like=x),
    "asarray": lambda x, order: np.asarray(x, order=order, like=x),
    "contiguous": lambda x, order: (np.ascontiguousarray if order == "C" else np.asfortranarray)(x, like=x),
    "full": lambda x, order: np.full((3, 4), x[0, 0], order=order, like=x),
    "full_like": lambda x, order: np.full_like(x.T, 2.0, order="K" if order == "C" else "F") * x.T,
}


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("name", MADE)
def test_new_arrays_are_laid_out_as_asked(name, order):
    def f(x):
        y = x * 1.0
        new = MADE[name](y, order)
        new[0, 0] = 3.0
        new.reshape(-1)[1] = x[0, 0] ** 2  # a view, or not
        return total(new) + total(y)

    agrees(f, M, order=1)


def test_flat():
    def f(x):
        y = x * 1.0
        part = y.flat[0:3]  # a copy
        y[0, 0] = 9.0
        part[1] = x[0, 2] ** 2
        y.flat[-1] = x[0, 0] ** 2
        y.flat[[0, -2]] = x[1, 1]
        y.flat[y.flat[:] > 1.5] = [x[0, 1], 2.0]
        all_of_it = y.T.flat.copy()
        s = 0.0
        for k, v in enumerate(y.T.flat):  # sees what is written on the way
            y[k % 3, (k + 1) % 4] = v * 1.1
            s = s + v * k
        return s + total(y) + total(part) + total(all_of_it)

    agrees(f, M)
    with pytest.raises(IndexError):
        pdl.grad(lambda x: x.flat[12])(M)


def tails(x):
    y = x * 1.0
    v = y
    while len(v) > 1:
        v[0] = v[0] * v[1] + 0.1
        v = v[1:]
    return np.sum(y * x)


def turned(x):
    y = x * 1.0
    v = y
    for k in range(len(x) - 1):
        v[0] = v[0] * v[-1] + 0.1
        v = v[::-1][:-1] if k % 3 else v[1:]
        v[-1] += 0.2
    empty = v[::-1][5:]
    empty[...] = 3.0
    return np.sum(y * x) + np.sum(v) + np.sum(empty)


@pytest.mark.parametrize("fn", [tails, turned])
def test_slices_of_slices(fn):
    agrees(fn, np.linspace(0.5, 1.0, 8))


def test_a_long_chain_of_slices():
    x = np.linspace(0.1, 0.2, 3000)
    got, slope = pdl.jvp(tails, (x,), (np.ones_like(x),))
    assert got == tails(x)
    tracemalloc.start()
    np.testing.assert_allclose(np.sum(pdl.grad(tails)(x)), slope)
    assert tracemalloc.get_traced_memory()[1] < 3000 * 10000
    tracemalloc.stop()


def test_views_made_by_many_threads_at_once():
    x = np.linspace(0.5, 1.5, 100)

    def f(x):
        y = x * 1.0
        y[0] = 2.0

        def part(k):
            return sum(np.sum(y[k : k + 2 + j % 3] ** 2) for j in range(40))

        parts = pdl.map(part, range(12))
        view = y[3:8]
        y[5:10] *= 2.0
        return sum(parts) + np.sum(view)

    with pdl.executor("inline"):
        want = pdl.grad(f)(x)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(5):
            np.testing.assert_array_equal(pdl.grad(f)(x), want)
    finally:
        sys.setswitchinterval(interval)
