"""Transforms inside transforms, in every order."""

import itertools
import math

import numpy as np
import pytest
from helpers import A, nothing_is_left_behind  # noqa: F401

import paradual as pdl

# --- nesting ------------------------------------------------------------------------------------------------


def by_grad(f):
    return lambda x: pdl.grad(f)(x)


def by_vjp(f):
    def derivative(x):
        out, pullback = pdl.vjp(f, x)
        return pullback(out * 0.0 + 1.0)[0]

    return derivative


def by_jvp(f):
    def derivative(x):
        out, t = pdl.jvp(f, (x,), (1.0,))
        return t + out * 0.0

    return derivative


def by_jacobian(mode):
    return lambda f: pdl.jacobian(f, mode=mode)


TRANSFORMS = {
    "grad": by_grad,
    "vjp": by_vjp,
    "jvp": by_jvp,
    "reverse": by_jacobian("reverse"),
    "forward": by_jacobian("forward"),
}


@pytest.mark.parametrize("order", list(itertools.product(TRANSFORMS, repeat=2)), ids="-".join)
def test_second_order_in_every_order(order):
    def f(x):
        return np.sin(x) * x**3 / (x + 2.0)

    derivative = f
    for name in order:
        derivative = TRANSFORMS[name](derivative)
    h = 1e-4
    wanted = (f(1.3 + h) - 2 * f(1.3) + f(1.3 - h)) / h**2
    assert derivative(1.3) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("order", list(itertools.product(["grad", "vjp", "jvp"], repeat=3)), ids="-".join)
@pytest.mark.parametrize("kind", [float, np.float64, lambda x: np.array(x)], ids=["float", "float64", "0-d"])
def test_third_order_in_every_order(order, kind):
    def f(x):
        return x**4 * np.exp(2 * x)

    derivative = f
    for name in order:
        derivative = TRANSFORMS[name](derivative)
    x = 0.7
    wanted = np.exp(2 * x) * (8 * x**4 + 48 * x**3 + 72 * x**2 + 24 * x)
    assert derivative(kind(x)) == pytest.approx(wanted, rel=1e-12)


def test_high_order():
    derivative = np.exp
    for k in range(5):
        derivative = TRANSFORMS[["grad", "jvp"][k % 2]](derivative)
    assert derivative(0.3) == pytest.approx(math.exp(0.3))


def test_third_order_of_arrays():
    def f(x):
        return (x**4).sum() * x[0]

    hessian = pdl.jacobian(pdl.hessian(f))(A)
    forward = pdl.jacobian(pdl.jacobian(pdl.grad(f), mode="forward"), mode="forward")(A)
    np.testing.assert_allclose(hessian, forward, rtol=1e-12)
    assert hessian[0, 0, 0] == pytest.approx(60 * A[0] ** 2)
    assert hessian[1, 1, 0] == pytest.approx(12 * A[1] ** 2)
    assert hessian[1, 1, 1] == pytest.approx(24 * A[1] * A[0])
    assert hessian[1, 2, 0] == 0


@pytest.mark.parametrize("outer", ["grad", "vjp", "jvp"])
@pytest.mark.parametrize("inner", ["grad", "vjp", "jvp"])
def test_perturbation_confusion(outer, inner):
    # d/dx [x * d/dy (x + y)] = 1, and not 2
    assert TRANSFORMS[outer](lambda x: x * TRANSFORMS[inner](lambda y: x + y)(1.0))(1.0) == 1.0
    # d/dx [x * d/dy (x * y * y)] at y = x: d/dx [2 x^3] = 6 x^2
    assert TRANSFORMS[outer](lambda x: x * TRANSFORMS[inner](lambda y: x * y * y)(x))(3.0) == 54.0
    # the inner function ignores its own argument
    assert TRANSFORMS[outer](lambda x: x * x + TRANSFORMS[inner](lambda y: x * x)(x))(3.0) == 6.0


def test_a_pullback_of_an_outer_differentiation_called_in_an_inner_one():
    def outer(x):
        out, pullback = pdl.vjp(lambda y: np.sin(y) * x, x)  # the cotangent of y: g x cos(x)
        return pdl.grad(lambda z: pullback(z * z)[0] * out)(x)  # 2 z x cos(x) x sin(x)

    def closed(x):
        return 2 * x**3 * math.cos(x) * math.sin(x)

    x = 0.8
    assert outer(x) == pytest.approx(closed(x))
    slope = (closed(x + 1e-6) - closed(x - 1e-6)) / 2e-6
    assert pdl.grad(outer)(x) == pytest.approx(slope, rel=1e-8)
    assert pdl.jvp(outer, (x,), (1.0,))[1] == pytest.approx(slope, rel=1e-8)


def test_the_cotangent_depends_on_the_outer_input():
    def outer(x):
        _, pullback = pdl.vjp(lambda y: y**3, A)
        return pullback(x * x)[0].sum()

    np.testing.assert_allclose(pdl.grad(outer)(A), 6 * A**3)
    _, t = pdl.jvp(lambda x: pdl.jvp(lambda y: y**3, (A,), (x * x,))[1].sum(), (A,), (np.ones(3),))
    assert t == pytest.approx((6 * A**3).sum())


def test_an_implicit_function():
    def root(a):  # Newton's method for x^3 = a
        x = 1.0
        for _ in range(40):
            x = x - (x**3 - a) / pdl.grad(lambda y: y**3 - a)(x)
        return x

    assert pdl.grad(root)(8.0) == pytest.approx(1 / 12)
    assert pdl.grad(pdl.grad(root))(8.0) == pytest.approx(-2 / 9 * 8 ** (-5 / 3))
    assert pdl.jvp(root, (8.0,), (1.0,))[1] == pytest.approx(1 / 12)
