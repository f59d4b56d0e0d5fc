"""Augmented assignment: every name of the array sees the change, or it is refused."""

import gc
import operator

import numpy as np
import pytest
from helpers import VECTOR, difference_quotient

import paradual as pdl

# --- augmented assignment -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["iadd", "isub", "imul", "itruediv", "ipow", "imod"])
@pytest.mark.parametrize("start", [VECTOR, np.array(1.25), VECTOR[:0]], ids=["array", "0-d", "empty"])
def test_another_name_sees_the_change(name, start):
    op = getattr(operator, name)

    def f(x):
        x = x * 1.0 if np.ndim(x) else x
        alias = x
        for _ in range(2):
            x = op(x, 1.5)
        return np.sum(alias * x * np.cos(alias))

    start = start.copy()
    value, slope = pdl.value_and_grad(f)(start)
    assert value == f(start.copy())
    np.testing.assert_allclose(slope, difference_quotient(lambda x: f(x.copy()), start), rtol=1e-6)


def test_floor_division_in_place_is_a_constant():
    def f(x):
        y = x * 3.0
        alias = y
        y //= 1.0
        return (alias * x).sum()

    value, slope = pdl.value_and_grad(f)(VECTOR)
    assert value == f(VECTOR)
    np.testing.assert_array_equal(slope, VECTOR * 3 // 1)
    np.testing.assert_allclose(pdl.jvp(f, (VECTOR,), (VECTOR,))[1], (slope * VECTOR).sum())


def test_matmul_in_place():
    m = np.array([[2.0, 1.0], [0.5, 3.0]])

    def f(x):
        alias = x
        x @= m
        return (alias * m).sum()

    np.testing.assert_allclose(pdl.grad(f)(np.eye(2)), m @ m.T)


def test_numbers_are_not_changed_in_place():
    def f(x):
        alias = x
        x += 1
        x *= 2
        return x * alias

    for kind in (float, np.float64):
        value, slope = pdl.value_and_grad(f)(kind(3.0))
        assert value == 24.0
        assert slope == 14.0


def test_a_list_of_duals_is_a_list():
    def f(x):
        parts = [x, x]
        parts += [x * x]
        parts[0] += 1
        return parts[0] * parts[1] * parts[2]

    assert pdl.grad(f)(2.0) == 4 * 8 + 3 * 4


def test_a_view_that_is_gone_does_no_harm():
    def f(x):
        x = x * 1.0
        view = x[1:]
        total = view.sum()
        del view
        gc.collect()
        x += x * x
        return total + (x * x).sum()

    value, slope = pdl.value_and_grad(f)(VECTOR)
    assert value == pytest.approx(f(VECTOR))
    np.testing.assert_allclose(slope, difference_quotient(f, VECTOR), rtol=1e-6)


@pytest.mark.parametrize("name", ["copy", "flatten", "mask", "int array", "sort", "astype"])
def test_a_copy_is_not_a_view(name):
    def f(x):
        x = x * 1.0
        copied = {
            "copy": lambda: x.copy(),
            "flatten": lambda: x.flatten(),
            "mask": lambda: x[x > 1],
            "int array": lambda: x[[0, 0, 2]],
            "sort": lambda: np.sort(x),
            "astype": lambda: x.astype(float),
        }[name]()
        x *= 3.0
        return x.sum() + (copied * copied).sum()

    value, slope = pdl.value_and_grad(f)(VECTOR)
    assert value == pytest.approx(f(VECTOR))
    np.testing.assert_allclose(slope, difference_quotient(f, VECTOR), rtol=1e-6)


def test_astype_without_a_copy_is_the_same_array():
    def f(x):
        x = x * 1.0
        y = x.astype(float, copy=False)
        y += 1.0
        return (x * y).sum()

    value, slope = pdl.value_and_grad(f)(VECTOR)
    assert value == f(VECTOR)
    np.testing.assert_allclose(slope, 2 * (VECTOR + 1))


@pytest.mark.parametrize(
    "same", [lambda x: np.astype(x, float, copy=False), lambda x: np.clip(x, None, None)]
)
def test_functions_that_may_return_their_argument(same):
    def f(x):
        x = x * 1.0
        y = same(x)
        x += 1.0
        return (x * y).sum()

    value, slope = pdl.value_and_grad(f)(VECTOR)
    assert value == f(VECTOR)
    np.testing.assert_allclose(slope, difference_quotient(f, VECTOR), rtol=1e-6)


def test_in_place_shapes_and_dtypes_fail_as_numpy_does():
    with pytest.raises(ValueError, match="shape"):
        pdl.grad(lambda x: operator.iadd(x, np.ones((3, 4))).sum())(VECTOR)
    with pytest.raises(TypeError):
        pdl.grad(lambda x: operator.iadd(x, 1j).sum())(VECTOR)

    def f(x):
        x += np.ones(4)  # float64 into float32
        assert x.dtype == np.float32
        return x.sum()

    assert pdl.grad(f)(VECTOR.astype(np.float32)).dtype == np.float32


def test_in_place_leaves_residuals_alone():
    def f(x):
        y = np.exp(x)
        z = y * y
        y += 5.0
        y *= x
        return (z * y).sum()

    def g(x):
        y = np.exp(x)
        return (y * y * ((y + 5.0) * x)).sum()

    np.testing.assert_allclose(pdl.grad(f)(VECTOR), pdl.grad(g)(VECTOR), rtol=1e-14)
    np.testing.assert_allclose(pdl.hessian(f)(VECTOR), pdl.hessian(g)(VECTOR), rtol=1e-12)
    np.testing.assert_allclose(
        pdl.jacobian(pdl.grad(f), mode="forward")(VECTOR), pdl.hessian(g)(VECTOR), rtol=1e-12
    )


def test_in_place_around_an_inner_differentiation():
    def f(x):
        x = x * 1.0
        out, pullback = pdl.vjp(lambda y: (y * y * x).sum(), x)
        x += 1.0
        (slope,) = pullback(1.0)
        return out + (slope * x).sum()

    def g(x):
        return (x**3).sum() + (2 * x * x * (x + 1.0)).sum()

    value, slope = pdl.value_and_grad(f)(VECTOR)
    assert value == pytest.approx(g(VECTOR))
    np.testing.assert_allclose(slope, difference_quotient(g, VECTOR), rtol=1e-6)


def test_in_place_on_the_input_of_an_inner_differentiation():
    def inner(y):
        y *= 2.0
        return (y * y).sum()

    def f(x):
        return (pdl.grad(inner)(x) * x).sum()  # 8 x * x; x itself is not changed

    np.testing.assert_allclose(pdl.grad(f)(VECTOR), 16 * VECTOR)


def test_out_of_a_dual():
    def f(x):
        x = x * 1.0
        alias = x
        np.add(x, 2.0, out=x)
        np.multiply(x, x, out=(x,))
        return alias.sum()

    np.testing.assert_allclose(pdl.grad(f)(VECTOR), 2 * (VECTOR + 2))
