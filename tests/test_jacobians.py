"""`jacobian`, `hessian` and `hvp`, in both modes."""

import numpy as np
import pytest
from helpers import A, M, nothing_is_left_behind, product  # noqa: F401

import paradual as pdl
from paradual.errors import ParadualValueError

# --- jacobian, hessian, hvp ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "x", [0.7, np.float64(0.7), np.array(0.7), A, M, np.zeros((2, 0)), np.zeros(0)], ids=repr
)
@pytest.mark.parametrize(
    "f",
    [
        lambda x: x * x,
        lambda x: np.sum(np.sin(x)),
        lambda x: np.outer(np.cos(x), np.array([1.0, 2.0])),
        lambda x: np.concatenate([np.ravel(x), np.ravel(x * x)]),
        lambda x: np.ravel(x)[:0],
        lambda x: 2.5,
    ],
    ids=["square", "sum", "outer", "longer", "empty", "constant"],
)
def test_jacobian_modes_agree(f, x):
    out = f(x)
    jacobians = [pdl.jacobian(f, mode=mode)(x) for mode in ("auto", "reverse", "forward")]
    for j in jacobians:
        assert np.shape(j) == np.shape(out) + np.shape(x)
        np.testing.assert_allclose(j, jacobians[0], rtol=1e-14)
    flat = np.reshape(jacobians[0], (np.size(out), np.size(x)))
    for k in range(np.size(x)):
        step = np.zeros(np.size(x))
        step[k] = 1e-6
        step = np.reshape(step, np.shape(x))
        slope = (f(x + step) - np.asarray(f(x - step))) / 2e-6
        np.testing.assert_allclose(flat[:, k], np.ravel(slope), atol=1e-8)


@pytest.mark.parametrize("mode", ["auto", "reverse", "forward"])
def test_jacobian_of_pytrees(mode):
    def f(tree, y):
        return {"s": tree["a"].sum() * y, "v": (tree["a"] * tree["b"], y * tree["b"])}

    tree = {"a": A, "b": np.array(2.0)}
    by_tree, by_y = (pdl.jacobian(f, k, mode)(tree, 3.0) for k in (0, 1))
    np.testing.assert_allclose(by_tree["s"]["a"], 3 * np.ones(3))
    np.testing.assert_allclose(by_tree["s"]["b"], 0.0)
    np.testing.assert_allclose(by_tree["v"][0]["a"], 2 * np.eye(3))
    np.testing.assert_allclose(by_tree["v"][0]["b"], A)
    np.testing.assert_allclose(by_tree["v"][1]["b"], 3.0)
    np.testing.assert_allclose(by_y["s"], A.sum())
    np.testing.assert_allclose(by_y["v"][0], np.zeros(3))
    np.testing.assert_allclose(by_y["v"][1], 2.0)
    both = pdl.jacobian(f, (1, 0), mode)(tree, 3.0)
    np.testing.assert_allclose(both["v"][0][1]["a"], 2 * np.eye(3))
    np.testing.assert_allclose(both["v"][1][0], 2.0)


def test_jacobian_refuses_an_unknown_mode():
    with pytest.raises(ParadualValueError, match="'auto', 'reverse' or 'forward'"):
        pdl.jacobian(product, mode="backward")


def test_jacobian_of_float32():
    x = A.astype(np.float32)
    for mode in ("reverse", "forward"):
        for f in (lambda y: y * y, lambda y: y[:0]):
            j = pdl.jacobian(f, mode=mode)(x)
            assert j.dtype == np.float32


@pytest.mark.parametrize("mode", ["auto", "reverse", "forward"])
def test_jacobian_of_complex_functions(mode):
    z = np.array([1 + 2j, -0.5 + 0.3j])
    j = pdl.jacobian(lambda w: np.exp(w) * w[0], mode=mode)(z)
    np.testing.assert_allclose(j, np.diag(np.exp(z) * z[0]) + np.outer(np.exp(z), [1, 0]))
    j = pdl.jacobian(lambda w: np.abs(w) ** 2, mode=mode)(z)
    np.testing.assert_allclose(j, np.diag(2 * np.conj(z)), atol=1e-15)
    j = pdl.jacobian(lambda x: np.exp(1j * x), mode=mode)(A)
    np.testing.assert_allclose(j, np.diag(1j * np.exp(1j * A)), atol=1e-15)
    assert pdl.jacobian(lambda x: x * (1 + 2j), mode=mode)(3.0) == 1 + 2j
    assert pdl.jacobian(lambda w: w * w, mode=mode)(1 + 1j) == 2 + 2j
    with pytest.raises(ParadualValueError, match="holomorphic"):
        pdl.jacobian(lambda w: np.conj(w) * w, mode=mode)(z)


def test_hessian():
    def f(x):
        return np.exp(x[0] * x[1]) + x[2] ** 3 * x[0]

    a, b, c = A
    e = np.exp(a * b)
    wanted = [
        [b * b * e, e * (1 + a * b), 3 * c * c],
        [e * (1 + a * b), a * a * e, 0],
        [3 * c * c, 0, 6 * c * a],
    ]
    np.testing.assert_allclose(pdl.hessian(f)(A), wanted)
    for outer in ("reverse", "forward"):
        for inner in ("reverse", "forward"):
            got = pdl.jacobian(pdl.jacobian(f, mode=inner), mode=outer)(A)
            np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-12)
    for v in np.eye(3):
        np.testing.assert_allclose(pdl.hvp(f, A, v), wanted @ v, atol=1e-12)
        np.testing.assert_allclose(pdl.hvp(f, (A,), (v,))[0], wanted @ v, atol=1e-12)
        np.testing.assert_allclose(pdl.grad(lambda x, v=v: pdl.grad(f)(x) @ v)(A), wanted @ v, atol=1e-12)
    assert pdl.hessian(f)(A).shape == (3, 3)
    assert pdl.hessian(lambda x: (x**2).sum())(M).shape == (2, 3, 2, 3)
    assert pdl.hessian(lambda x: x**3)(2.0) == 12.0
    assert pdl.hessian(product, 1)(2.0, 3.0) == 4.0
    assert pdl.hvp(product, (2.0, 3.0), (0.0, 1.0)) == (6.0, 4.0)


def test_hessian_of_a_linear_function_and_a_constant():
    np.testing.assert_array_equal(pdl.hessian(lambda x: x.sum())(A), np.zeros((3, 3)))
    np.testing.assert_array_equal(pdl.hessian(lambda x: 1.0)(A), np.zeros((3, 3)))
