"""Layouts in memory, flat iterators, chains of slices, and views made in several threads."""

import sys
import tracemalloc

import numpy as np
import pytest

import paradual as pdl
from paradual.errors import NotDifferentiableError
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


def test_the_real_part_of_an_array_is_not_the_array():
    def f(z):
        y = z * 1.0
        y[...] = y.real  # begins where y begins, with its strides
        return np.sum(np.abs(y))

    with pytest.raises(NotDifferentiableError, match="real or imaginary part"):
        pdl.grad(f)(M + 1j * M)
    for part in ("real", "imag"):
        with pytest.raises(TypeError, match=r"use np\.real"):
            pdl.grad(lambda z, part=part: setattr(z * 1.0, part, z) or np.sum(np.abs(z)))(M + 1j * M)


@pytest.mark.parametrize("ufunc", [np.add, np.multiply, np.hypot, np.power])
def test_at_with_the_array_itself(ufunc):
    def f(x):
        y = x * 1.0
        ufunc.at(y, [2, 1, 2], y)  # reads what y was before
        ufunc.at(y.T, [0, 0], y.T[1:3])
        return total(y)

    agrees(f, M)
    for value in ([3.0], np.ones(5)):
        with pytest.raises(ValueError, match="broadcast"):
            pdl.grad(lambda x, value=value: ufunc.at(x, (1, 2), value) or np.sum(x))(M)


OUTS = {  # not by its name
    "sum": lambda y, x: np.sum(x * x, 0, None, y[1]),
    "cumsum": lambda y, x: np.cumsum(x * x, 1, None, y),
    "clip": lambda y, x: np.clip(x * x, 0.5, 1.0, y),
    "round": lambda y, x: np.round(x, 0, y),
    "fix": lambda y, x: np.fix(x, y),
    "method": lambda y, x: (x * x).mean(1, None, y[:, 2]),
    "clip-method": lambda y, x: (x * x).clip(0.5, 1.0, y),
    "take": lambda y, x: np.take(x, [1, 1, 0], 0, y),
    "max": lambda y, x: np.max(x, 0, y[0]),
    "einsum": lambda y, x: np.einsum("ij,ij->ij", x, x, out=y),
}


@pytest.mark.parametrize("name", OUTS)
def test_out_given_by_position(name):
    def f(x):
        y = x * 1.0
        view, before = y[:2], np.sin(y)
        OUTS[name](y, x + 0.01)
        return total(y * x) + total(view) + total(before * x)

    agrees(f, M)


def test_layouts_of_new_arrays():
    def f(x, order):
        y = x.astype(float, order=order)
        y.reshape(-1)[1] = x[0, 0] ** 2  # a view, or not
        z = y.astype(float, order="C", copy=False)
        z[1] = x[0] * 2
        return total(y) + total(z)

    for order in "CFAK":
        for turn in (np.positive, np.transpose):
            agrees(lambda x, order=order, turn=turn: f(turn(x) * 1.0, order), M)
    z = np.array([complex(np.inf, 1.0), complex(0.0, -0.0)])
    kept = []
    pdl.grad(lambda z: kept.append(pdl.stop_gradient(z.flatten())) or np.sum(z.real))(z)
    assert kept[0].tobytes() == z.tobytes()


def test_results_of_a_checkpoint_are_written():
    def f(x, wrap):
        u = x * 1.0
        for k in range(3):
            u = wrap(lambda u: np.sin(u) + u[::-1])(u)
            u[0] = x[k] ** 2  # a boundary condition
            u[:, 1] *= 1.1
        a, b = wrap(lambda u: (np.cos(u), u * 2.0))(u)
        a[1] = b[0]
        b[0] = 0.0
        return total(a) + total(b)

    agrees(lambda x: f(x, pdl.checkpoint), M)
    np.testing.assert_allclose(pdl.grad(f)(M, pdl.checkpoint), pdl.grad(f)(M, lambda g: g), rtol=1e-12)


def test_results_that_share_memory_are_not():
    @pdl.custom_vjp
    def twice(x):
        y = x * 2.0
        return y, y[1:]

    twice.defvjp(lambda x: (twice.fn(x), None), lambda r, g: (2.0 * g[0],))
    captured = []

    def seen(u):
        captured.append(u * 2.0)
        return np.real(captured[-1]), captured[-1][1:]

    def alone(u):
        y = u * 2.0
        return y, y[1:]

    for step in (twice, pdl.checkpoint(seen), pdl.checkpoint(alone), pdl.checkpoint(lambda u: (u, u[0]))):
        for k in (0, 1):

            def f(x, step=step, k=k):
                x = x * 1.0
                parts = step(x)
                parts[k][...] = 1.0
                return np.sum(parts[0]) + np.sum(parts[1])

            with pytest.raises(NotDifferentiableError, match="shares its memory"):
                pdl.grad(f)(M)


def test_copyto_with_ones_in_front_and_place_of_its_own_values():
    def f(x):
        y = x * 1.0
        np.copyto(y, x[None] ** 2, where=x > 1)
        np.place(y, y < 1, np.ravel(y)[:2] * 1.5)
        return total(y)

    agrees(f, M)
    with pytest.raises(NotDifferentiableError, match="share memory"):
        pdl.grad(lambda x: np.place(x, x > 1, np.ravel(x)) or np.sum(x))(M)


WRITES = {
    "put": lambda y, k: np.put(y, k, 1.0),
    "put-array": lambda y, k: y.put([k, -k], y[0, k]),
    "flat": lambda y, k: y.flat.__setitem__(slice(k, k + 5), y[1, 1]),
    "points": lambda y, k: y.__setitem__(([0, -1, 0], [k, k, k]), [1.0, y[0, 0], 3.0]),
    "at": lambda y, k: np.multiply.at(y, ([0, 0], [k, k]), 2.0),
}


@pytest.mark.parametrize("name", WRITES)
def test_a_write_of_few_elements_does_not_count_all(name):
    def f(x):
        y = x.reshape(2, -1) * 1.0
        WRITES[name](y, 3)  # the first write copies
        tracemalloc.start()
        WRITES[name](y, 7)
        assert tracemalloc.get_traced_memory()[1] < 50_000
        tracemalloc.stop()
        return np.sum(y[:, 3:8])

    pdl.grad(f)(np.linspace(0.5, 1.5, 200_000))
    pdl.jvp(f, (np.linspace(0.5, 1.5, 200_000),), (np.ones(200_000),))
