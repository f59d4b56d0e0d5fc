"""Arrays written to after their use, inputs that stay as they are, results that belong to the caller."""

import operator
from typing import Any

import numpy as np
import pytest
from helpers import VECTOR, X, Y, difference_quotient

import paradual as pdl
from paradual.dual import primal

# --- plain arrays that are written to after their use ------------------------------------------------------


@pytest.mark.parametrize(
    "use",
    [
        lambda x, c: x * c,
        lambda x, c: c * x,
        lambda x, c: x / c,
        lambda x, c: c / x,
        lambda x, c: x**c,
        lambda x, c: c**x,
        lambda x, c: x @ c,
        lambda x, c: np.dot(c, x),
        lambda x, c: np.where(c > 1, x, 0.0),
        lambda x, c: np.maximum(x, c),
        lambda x, c: np.hypot(x, c),
        lambda x, c: np.einsum("i,i->i", x, c),
        lambda x, c: np.outer(x, c),
        lambda x, c: np.linalg.solve(np.diag(c), x),
        lambda x, c: np.average(x, weights=c),
    ],
)
def test_a_buffer_that_is_used_again(use):
    def f(x):
        c = np.array([0.5, 1.5, 2.0, 1.25])
        total = 0.0
        for k in range(3):
            c += k
            total = total + np.sum(use(x, c) * (k + 1))
        c[:] = 77.0
        return total

    wanted = difference_quotient(lambda x: f(x), VECTOR)
    np.testing.assert_allclose(pdl.grad(f)(VECTOR), wanted, rtol=1e-6, atol=1e-8)
    _, pushed = pdl.jvp(f, (VECTOR,), (np.ones(4),))
    assert pushed == pytest.approx(wanted.sum(), rel=1e-6)


def test_the_input_under_another_name():
    data = VECTOR.copy()

    def f(x):
        y = x * x
        data[:] = 0.0
        return y.sum()

    np.testing.assert_array_equal(pdl.grad(f)(data), 2 * VECTOR)


# --- what comes in is not changed, what goes out belongs to the caller --------------------------------------

OWN = {
    "add": (lambda x, y: np.sum(x + y)),
    "sum": (lambda x, y: np.sum(x) + np.sum(y)),
    "one": (lambda x, y: np.sum(x)),
    "transposed": (lambda x, y: np.sum(x.T * 2.0 + y.T)),
    "reshape": (lambda x, y: np.sum(x.reshape(-1)) + y[0, 0]),
    "index": (lambda x, y: x[0, 1] + y[1].sum()),
    "mean": (lambda x, y: np.mean(x + y)),
    "concatenate": (lambda x, y: np.concatenate([x, y]).sum()),
    "stack": (lambda x, y: np.stack([x, y])[1].sum()),
    "broadcast": (lambda x, y: np.broadcast_to(x, (4, 2, 3)).sum()),
    "product": (lambda x, y: np.sum(x * Y) + np.sum(y * Y)),
    "constant": (lambda x, y: 1.0),
    "where": (lambda x, y: np.where(x > 0, x, y).sum()),
    "residual": (lambda x, y: np.sum(x * y)),
    "exp": (lambda x, y: np.sum(np.exp(x)) + np.sum(np.exp(y))),
    "checkpoint": (lambda x, y: np.sum(pdl.checkpoint(operator.add)(x, y))),
    "par": (lambda x, y: sum(pdl.par(lambda: np.sum(x), lambda: np.sum(y)))),
}


@pytest.mark.parametrize("name", OWN)
def test_gradients_are_arrays_of_their_own(name):
    x, y = X.copy(), Y.copy()
    slopes = pdl.grad(OWN[name], argnums=(0, 1))(x, y)
    wanted = [slope.copy() for slope in slopes]
    assert not np.shares_memory(*slopes)
    for slope, start in zip(slopes, (X, Y), strict=True):
        assert slope.flags.writeable
        assert slope.shape == start.shape
        for other in (x, y, X, Y):
            assert not np.shares_memory(slope, other)
        slope += 100.0
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(y, Y)
    again = pdl.grad(OWN[name], argnums=(0, 1))(x, y)
    for slope, start in zip(again, wanted, strict=True):
        np.testing.assert_array_equal(slope, start)


@pytest.mark.parametrize("name", OWN)
def test_pullbacks_do_not_hand_out_their_cotangent(name):
    def f(x, y):
        return OWN[name](x, y) * np.ones(2), x, y

    out, pullback = pdl.vjp(f, X, Y)
    cotangent = (np.array([1.0, 2.0]), np.ones((2, 3)), np.ones((2, 3)))
    first = pullback(cotangent)
    wanted = [part.copy() for part in first]
    for part in first:
        for given in cotangent:
            assert not np.shares_memory(part, given)
        part *= -1.0
    np.testing.assert_array_equal(cotangent[1], 1.0)
    for part, start in zip(pullback(cotangent), wanted, strict=True):
        np.testing.assert_array_equal(part, start)
    assert len(out) == 3


def test_the_same_array_as_two_arguments():
    x = X.copy()
    first, second = pdl.grad(lambda a, b: np.sum(a * a * b), argnums=(0, 1))(x, x)
    np.testing.assert_allclose(first, 2 * X * X)
    np.testing.assert_allclose(second, X * X)
    assert not np.shares_memory(first, second)


@pytest.mark.parametrize("size", [5, 40_000])
def test_large_arrays_take_another_path_to_the_same_numbers(size):
    x = np.cos(np.arange(size, dtype=float)) + 1.5
    c = np.sin(np.arange(size, dtype=float))

    def f(y):
        z = y * y + c * y
        z = z * z / (y + 2.0) - np.exp(-y) * z + np.sqrt(y) * 2.0
        return (z * c * np.tanh(z / 50)).sum() + (y * y).sum()

    got = pdl.grad(f)(x)
    np.testing.assert_array_equal(got[:5], [pdl.grad(f_at(k, c))(x[k : k + 1])[0] for k in range(5)])
    _, pushed = pdl.jvp(f, (x,), (c,))
    np.testing.assert_allclose(pushed, got @ c, rtol=1e-10)


def f_at(k, c):
    def f(y):
        d = c[k : k + 1]
        z = y * y + d * y
        z = z * z / (y + 2.0) - np.exp(-y) * z + np.sqrt(y) * 2.0
        return (z * d * np.tanh(z / 50)).sum() + (y * y).sum()

    return f


def test_copies_keep_the_order_in_memory() -> None:
    # it decides in which order elements are added up, and so the last bits of a sum
    x = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    held = np.asfortranarray(np.ones((2, 3)))

    def order(y: Any) -> Any:
        assert primal(y).flags.f_contiguous
        return y

    def f(x: Any) -> Any:
        stopped = order(pdl.stop_gradient(order(x * 1.0)))
        y = order(x * held) + stopped
        y += x  # in a copy, because the sum may be a residual
        return np.sum(order(y))

    np.testing.assert_array_equal(pdl.grad(f)(x), 2 * np.ones((2, 3)))
    assert pdl.jvp(f, (x,), (x,))[1] == 30
    assert pdl.vjp(lambda x: x * 1.0, x)[0].flags.f_contiguous
