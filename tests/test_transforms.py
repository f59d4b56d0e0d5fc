"""Arguments, pytrees and auxiliary results of the transforms, `stop_gradient` and the complex convention."""

import collections
import dataclasses
from typing import Any, NamedTuple

import numpy as np
import pytest
from helpers import A, M, nothing_is_left_behind, product  # noqa: F401

import paradual as pdl
from paradual.dual import Dual
from paradual.errors import ParadualTypeError, ParadualValueError


class Pair(NamedTuple):
    left: Any
    right: Any


@dataclasses.dataclass(frozen=True)
class Model:
    weight: Any
    bias: Any


@dataclasses.dataclass
class Nested:
    model: Model
    extra: dict
    derived: Any = dataclasses.field(init=False)

    def __post_init__(self):
        if not isinstance(self.model, Model):
            raise TypeError("only with a model")
        self.derived = self.model.bias


# --- arguments ------------------------------------------------------------------------------------------


def test_argnums():
    at = (2.0, 3.0, 5.0)
    partials = (9 * 125.0, 2 * 2 * 3 * 125.0, 2 * 9 * 3 * 25.0)
    for k in range(3):
        assert pdl.grad(product, k)(*at) == partials[k]
        assert pdl.grad(product, k - 3)(*at) == partials[k]
        assert pdl.grad(product, (k,))(*at) == (partials[k],)
        assert pdl.value_and_grad(product, [k])(*at) == (product(*at), (partials[k],))
    assert pdl.grad(product, (2, 0))(*at) == (partials[2], partials[0])
    assert pdl.grad(product, [-1, 1])(*at) == (partials[2], partials[1])
    assert pdl.grad(product, ())(*at) == ()
    assert pdl.jacobian(product, (0, 2))(*at) == (partials[0], partials[2])


@pytest.mark.parametrize("argnums", [3, -4, (0, 3), [1, -9]])
def test_argnums_out_of_range(argnums):
    for transform in (pdl.grad, pdl.value_and_grad, pdl.jacobian):
        with pytest.raises(ParadualValueError, match=r"called with 3\s+positional arguments"):
            transform(product, argnums)(2.0, 3.0, 5.0)


@pytest.mark.parametrize("argnums", ["x", None, 1.5, ("x",)])
def test_argnums_of_a_wrong_type(argnums):
    with pytest.raises(TypeError):
        pdl.grad(product, argnums)(2.0, 3.0, 5.0)


@pytest.mark.parametrize("argnums", [(0, 0), (0, -3), [1, 1]])
def test_argnums_that_repeat(argnums):
    try:
        slopes = pdl.grad(product, argnums)(2.0, 3.0, 5.0)
    except ParadualValueError:
        return
    partials = (9 * 125.0, 2 * 2 * 3 * 125.0)
    assert slopes == (partials[argnums[0]],) * 2


def test_keyword_arguments_are_constants():
    assert pdl.grad(product)(2.0, y=3.0, z=2.0) == 72.0
    assert pdl.value_and_grad(product, 1)(2.0, 3.0, z=2.0) == (144.0, 96.0)
    assert pdl.jacobian(product)(2.0, y=3.0) == 9.0
    assert pdl.grad(lambda x, *rest, **named: x * len(rest) * len(named))(1.0, 2, "a", b=None) == 2.0


def test_other_arguments_may_be_anything():
    def f(name, x, table, flag, n):
        return table[name] * x * n if flag else None

    assert pdl.grad(f, 1)("a", 3.0, {"a": 2.0}, True, 4) == 8.0


def test_the_name_and_docstring_stay():
    assert pdl.grad(product).__name__ == "product"
    assert pdl.jacobian(product).__wrapped__ is product


def test_a_loss_that_is_not_a_function_of_its_arguments():
    value, slopes = pdl.value_and_grad(lambda x, y: 4.0, (0, 1))(2.0, A)
    assert value == 4.0
    assert slopes[0] == 0.0
    assert type(slopes[0]) is float
    np.testing.assert_array_equal(slopes[1], np.zeros(3))
    np.testing.assert_array_equal(pdl.grad(lambda x: np.float64(1.0))(M), np.zeros((2, 3)))
    slope = pdl.grad(lambda x, y: x * 2, 1)(1.0, np.ones(2, np.complex64))
    assert slope.dtype == np.complex64
    np.testing.assert_array_equal(slope, 0)


def test_a_function_that_returns_its_argument():
    assert pdl.value_and_grad(lambda x: x)(3.0) == (3.0, 1.0)
    value, slope = pdl.value_and_grad(lambda x: x)(np.array(3.0, np.float32))
    assert value == 3.0
    assert slope.shape == ()
    assert slope.dtype == np.float32
    out, pullback = pdl.vjp(lambda x, y: (y, x, y), A, M)
    np.testing.assert_array_equal(out[0], M)
    slopes = pullback((M, A, 2 * M))
    np.testing.assert_array_equal(slopes[0], A)
    np.testing.assert_array_equal(slopes[1], 3 * M)


# --- pytrees ------------------------------------------------------------------------------------------------


def tree_loss(tree):
    leaves = []

    def walk(node):
        if isinstance(node, dict):
            for name in node:
                walk(node[name])
        elif dataclasses.is_dataclass(node):
            for f in dataclasses.fields(node):
                walk(getattr(node, f.name))
        elif isinstance(node, tuple | list):
            for part in node:
                walk(part)
        elif node is not None:
            leaves.append(node)

    walk(tree)
    return sum(((k + 1) * np.sum(leaf * leaf) for k, leaf in enumerate(leaves)), 0.0), leaves


TREES = {
    "tuple": (2.0, A),
    "list": [A, 3.0, M],
    "dict": {"b": A, "a": 1.5},
    "namedtuple": Pair(A, 2.5),
    "dataclass": Model(M, 0.5),
    "nested": {"layers": [Model(M, A), Model(A, 1.0)], "rest": (Pair(1.0, {"x": [A]}),)},
    "post init": Nested(Model(A, 2.0), {"k": M}),
    "ordered": collections.OrderedDict([("z", 1.0), ("a", A)]),
    "none": (None, A, [None, 2.0]),
    "empty parts": ((), [], {}, A),
    "0-d": {"x": np.array(2.0), "y": np.float32(3.0)},
}


@pytest.mark.parametrize("name", TREES)
def test_pytrees(name):
    tree = TREES[name]
    _, leaves = tree_loss(tree)
    value, slope = pdl.value_and_grad(lambda t: tree_loss(t)[0])(tree)
    assert value == pytest.approx(tree_loss(tree)[0])
    assert type(slope) is type(tree)
    _, found = tree_loss(slope)
    if isinstance(tree, dict):
        assert list(slope) == list(tree)
    assert len(found) == len(leaves)
    for k, (got, leaf) in enumerate(zip(found, leaves, strict=True)):
        assert type(got) is type(leaf)
        np.testing.assert_allclose(got, 2 * (k + 1) * leaf)
    out, pullback = pdl.vjp(lambda t: t, tree)
    assert type(out) is type(tree)
    for got, leaf in zip(tree_loss(pullback(tree)[0])[1], leaves, strict=True):
        np.testing.assert_array_equal(got, leaf)
    out, pushed = pdl.jvp(lambda t: t, (tree,), (tree,))
    for got, leaf in zip(tree_loss(pushed)[1], leaves, strict=True):
        np.testing.assert_array_equal(got, leaf)
    curvature = pdl.hvp(lambda t: tree_loss(t)[0], (tree,), (tree,))[0]
    for k, (got, leaf) in enumerate(zip(tree_loss(curvature)[1], leaves, strict=True)):
        np.testing.assert_allclose(got, 2 * (k + 1) * leaf)


@pytest.mark.parametrize("tree", [(), [], {}, None, ((), [None])])
def test_empty_pytrees(tree):
    assert pdl.value_and_grad(lambda t: 2.0)(tree) == (2.0, tree)
    out, pullback = pdl.vjp(lambda t: (t, 1.0), tree)
    assert out == (tree, 1.0)
    assert pullback((tree, 1.0)) == (tree,)
    assert pdl.jvp(lambda t: t, (tree,), (tree,)) == (tree, tree)


def test_vjp_of_a_function_without_arguments():
    out, pullback = pdl.vjp(lambda: 3.0)
    assert out == 3.0
    assert pullback(1.0) == ()


def test_leaves_shared_in_a_tree():
    slope = pdl.grad(lambda t: (t[0] * t[1]).sum())([A, A])
    np.testing.assert_array_equal(slope[0], A)
    np.testing.assert_array_equal(slope[1], A)
    assert not np.shares_memory(slope[0], slope[1])


# --- has_aux ------------------------------------------------------------------------------------------------


def test_aux():
    def f(x, y):
        return x * y, {"inner": (x * 2, y), "text": "a", "none": None, "many": [np.stack([x, y])], "n": 3}

    slope, aux = pdl.grad(f, has_aux=True)(3.0, 5.0)
    assert slope == 5.0
    assert aux["inner"] == (6.0, 5.0)
    assert type(aux["inner"][0]) is float
    assert (aux["text"], aux["none"], aux["n"]) == ("a", None, 3)
    np.testing.assert_array_equal(aux["many"][0], [3.0, 5.0])
    assert type(aux["many"][0]) is np.ndarray
    (value, again), slopes = pdl.value_and_grad(f, (0, 1), has_aux=True)(3.0, 5.0)
    assert (value, slopes) == (15.0, (5.0, 3.0))
    assert again["inner"] == (6.0, 5.0)


def test_aux_of_an_outer_differentiation():
    def outer(x):
        slope, aux = pdl.grad(lambda y: (x * y * y, (y * 3, x)), has_aux=True)(x)
        assert isinstance(aux[0], Dual)
        return slope * aux[0] * aux[1]  # 2 x^2 * 3 x * x

    assert pdl.grad(outer)(2.0) == 6 * 4 * 8.0


def test_aux_that_is_missing():
    for f in (lambda x: x, lambda x: (x, x, x), lambda x: [x, x]):
        with pytest.raises(ParadualTypeError, match="value, aux"):
            pdl.grad(f, has_aux=True)(1.0)


# --- value_and_grad -----------------------------------------------------------------------------------------


def test_minimize():
    from scipy.optimize import minimize, rosen

    calls = []

    def f(x):
        calls.append(1)
        return (100 * (x[1:] - x[:-1] ** 2) ** 2).sum() + ((1 - x[:-1]) ** 2).sum()

    found = minimize(pdl.value_and_grad(f), np.array([-1.2, 1.0, 0.5]), jac=True, method="BFGS")
    assert found.success
    np.testing.assert_allclose(found.x, 1.0, atol=1e-5)
    assert len(calls) == found.nfev
    assert f(A) == pytest.approx(rosen(A))
    newton = minimize(
        f,
        np.array([-1.2, 1.0, 0.5]),
        jac=pdl.grad(f),
        hessp=lambda x, v: pdl.hvp(f, x, v),
        method="Newton-CG",
    )
    np.testing.assert_allclose(newton.x, 1.0, atol=1e-4)


# --- stop_gradient ------------------------------------------------------------------------------------------


def test_stop_gradient():
    assert pdl.grad(lambda x: x * pdl.stop_gradient(x * x))(3.0) == 9.0
    slope = pdl.grad(lambda t: (pdl.stop_gradient(t)["a"] * t["a"] * t["b"]).sum())({"a": A, "b": 2.0})
    np.testing.assert_array_equal(slope["a"], 2 * A)
    assert slope["b"] == A @ A
    assert pdl.stop_gradient(None) is None
    assert pdl.stop_gradient((1, "a", None)) == (1, "a", None)
    assert pdl.grad(pdl.grad(lambda x: x * x * pdl.stop_gradient(x)))(3.0) == 6.0
    assert pdl.jvp(lambda x: x * pdl.stop_gradient(x), (3.0,), (1.0,)) == (9.0, 3.0)


def test_stop_gradient_gives_an_array_of_its_own():
    def f(x):
        y = pdl.stop_gradient(x)
        assert type(y) is np.ndarray
        y[:] = 100.0
        z = np.exp(x)
        w = pdl.stop_gradient(z)
        w *= 0.0
        return (x * x).sum() + z.sum()

    x = A.copy()
    np.testing.assert_allclose(pdl.grad(f)(x), 2 * A + np.exp(A))
    np.testing.assert_array_equal(x, A)


# --- complex numbers ----------------------------------------------------------------------------------------


def test_the_complex_convention():
    z = np.array([0.3 + 0.7j, -1.1 + 0.2j])

    def f(w):
        return (np.abs(w) ** 2 * np.real(w)).sum() + np.imag(w[0] * w[1] ** 2)

    slope = pdl.grad(f)(z)
    assert slope.dtype == complex
    for k in range(2):
        unit = np.zeros(2, complex)
        unit[k] = 1e-6
        dx = (f(z + unit) - f(z - unit)) / 2e-6
        dy = (f(z + 1j * unit) - f(z - 1j * unit)) / 2e-6
        assert slope[k] == pytest.approx(dx - 1j * dy, abs=1e-8)
    for direction in (unit, 1j * unit):
        _, t = pdl.jvp(f, (z,), (direction,))
        assert t == pytest.approx(np.real(slope @ direction))
    assert pdl.grad(lambda w: (w * w).real)(1 + 2j) == 2 * (1 + 2j)
