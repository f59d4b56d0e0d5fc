"""Arrays, comparisons and a fixture that several test files share."""

import numpy as np
import pytest

import paradual as pdl
from paradual.dual import Dual
from paradual.tape import ACTIVE, OUTSIDE

X = np.array([[0.7, -1.3, 2.1], [1.9, 0.4, -0.6]])
Y = np.array([[1.1, 0.8, -1.7], [0.3, -2.2, 1.4]])
VECTOR = np.array([0.3, 1.7, 2.9, 0.8])
A = np.array([0.5, 1.25, -2.0])
M = np.array([[0.4, -1.2, 0.9], [1.5, 0.3, -0.7]])


def plain(tree):
    """A result without duals."""
    return pdl.stop_gradient(tree)


def kind_of(value):
    """What NumPy tells apart: type, shape and dtype."""
    value = plain(value)
    dtype = getattr(value, "dtype", None)
    return type(value), np.shape(value), dtype


def difference_quotient(f, x, step=1e-6):
    """The gradient of the sum of f by central differences."""
    x = np.asarray(x, dtype=complex if np.iscomplexobj(x) else float)
    out = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        for unit, weight in ((1.0, 1.0), (1j, -1j)) if x.dtype.kind == "c" else ((1.0, 1.0),):
            up, down = x.copy(), x.copy()
            up[index] += step * unit
            down[index] -= step * unit
            slope = (np.sum(np.real(f(up))) - np.sum(np.real(f(down)))) / (2 * step)
            out[index] += weight * slope
    return out


def check(f, x, rtol=1e-6):
    """The value is what NumPy gives, and both modes agree with difference quotients."""
    expected = f(x)
    seen = []

    def scalar(y):
        seen.append(kind_of(out := f(y)))
        np.testing.assert_array_equal(plain(out), expected)
        return np.sum(np.real(out))

    gradient = pdl.grad(scalar)(x)
    assert seen[0] == kind_of(expected)
    assert np.shape(gradient) == np.shape(x)
    wanted = difference_quotient(lambda z: np.sum(np.real(f(x.dtype.type(1) * z))), x)
    np.testing.assert_allclose(
        gradient, wanted, rtol=rtol, atol=1e-6 * max(1, np.max(np.abs(wanted), initial=0))
    )
    direction = np.cos(np.arange(x.size, dtype=float)).reshape(x.shape)
    _, pushed = pdl.jvp(scalar, (x,), (direction,))
    np.testing.assert_allclose(pushed, np.sum(np.real(gradient) * direction), rtol=1e-9, atol=1e-9)


def constant(f, x):
    """The value is what NumPy gives, plain, and carries no derivative."""
    expected = f(x)
    seen = []

    def scalar(y):
        seen.append(f(y))
        return np.sum(y)

    np.testing.assert_array_equal(pdl.grad(scalar)(x), np.ones_like(x))
    assert not isinstance(seen[0], Dual)
    assert kind_of(seen[0]) == kind_of(expected)
    np.testing.assert_array_equal(seen[0], expected)


def product(x, y, z=1.0):
    return x * y**2 * z**3


@pytest.fixture(autouse=True)
def nothing_is_left_behind():
    yield
    assert ACTIVE.get() == (OUTSIDE,)
