"""The methods and keyword arguments of ufuncs, against finite differences and NumPy's own values."""

import numpy as np
import pytest

import paradual as pdl
from paradual.errors import NotDifferentiableError
from paradual.testing import check_grads

X = np.array([[0.6, 1.3, 0.9], [1.7, 0.4, 1.1]])

CALLS = {
    "add.reduce": lambda x: np.add.reduce(x),
    "add.reduce-all": lambda x: np.add.reduce(x, axis=None),
    "add.reduce-where": lambda x: np.add.reduce(x, where=x > 0.8, initial=x[0, 0]),
    "multiply.reduce": lambda x: np.multiply.reduce(x, axis=(0, 1), keepdims=True),
    "maximum.reduce": lambda x: np.maximum.reduce(x, axis=-1),
    "minimum.reduce-initial": lambda x: np.minimum.reduce(x, initial=x[0, 1]),
    "subtract.reduce": lambda x: np.subtract.reduce(x, axis=1),
    "divide.reduce": lambda x: np.divide.reduce(x, axis=1, keepdims=True),
    "power.reduce": lambda x: np.power.reduce(x),
    "logaddexp.reduce": lambda x: np.logaddexp.reduce(x, axis=None),
    "logaddexp.reduce-where": lambda x: np.logaddexp.reduce(x, axis=0, where=x > 0.8),
    "hypot.reduce-initial": lambda x: np.hypot.reduce(x, initial=x[0, 0]),
    "fmax.reduce": lambda x: np.fmax.reduce(x, axis=(0, 1)),
    "add.reduceat-indices": lambda x: np.add.reduceat(x, indices=[0, 2], axis=1),
    "add.accumulate": lambda x: np.add.accumulate(x, axis=1),
    "multiply.accumulate": lambda x: np.multiply.accumulate(x),
    "maximum.accumulate": lambda x: np.maximum.accumulate(x * np.array([1, -1, 2]), axis=1),
    "subtract.accumulate": lambda x: np.subtract.accumulate(x),
    "add.outer": lambda x: np.add.outer(x, x[0]),
    "multiply.outer": lambda x: np.multiply.outer(x, x[:, 0]),
    "subtract.outer-number": lambda x: np.subtract.outer(2.0, x),
    "power.outer-list": lambda x: np.power.outer([2.0, 3.0], x),
    "arctan2.outer": lambda x: np.arctan2.outer(x[0], x),
    "add.reduceat": lambda x: np.add.reduceat(x, [0, 2, 1], axis=1),
    "multiply.reduceat": lambda x: np.multiply.reduceat(x.ravel(), [0, 3, 1, 5]),
    "no-reduceat": lambda x: np.add.reduceat(x, np.zeros(0, int)),
    "maximum.reduceat": lambda x: np.maximum.reduceat(x, [0, 1]),
    "out": lambda x: np.exp(x, out=x * 2),
    "out-wider": lambda x: np.exp(x[0], out=x * 2),
    "out-of-numbers": lambda x: np.add(1.0, 2.0, out=x * 2) * x,
    "out-where": lambda x: np.exp(x, out=x * 2, where=x > 1),
    "out-where-broadcast": lambda x: np.multiply(x, x[0], out=x * 2, where=np.array([True, False, True])),
    "where-in-where": lambda x: np.where(x > 1, np.log(x, out=np.ones_like(x), where=x > 1), 0),
    "reduce-out": lambda x: np.add.reduce(x * x, out=np.zeros(3, like=x)),
    "accumulate-out": lambda x: np.add.accumulate(x, out=x * 1.0),
    "two-outs": lambda x: np.stack(np.divmod(x * 3.1, x[0], out=(x * 1.0, x * 2.0))),
    "second-out": lambda x: np.stack(np.modf(x * 1.05, out=(None, x * 2.0))),
    "dtype": lambda x: np.add(x, x, dtype=float),
}


@pytest.mark.parametrize("name", CALLS)
def test_calls(name):
    np.testing.assert_allclose(pdl.vjp(CALLS[name], X)[0], CALLS[name](X), rtol=1e-14)
    check_grads(CALLS[name], (X,))


def test_what_is_not_computed_does_not_matter():
    x = np.array([0.0, 2.0])
    g = pdl.grad(lambda x: np.sum(np.log(x, out=np.zeros_like(x), where=x > 0)))(x)
    np.testing.assert_array_equal(g, [0.0, 0.5])  # and no warning


@pytest.mark.parametrize(("f", "x"), [(np.arccos, 1.7), (np.log, -0.7), (np.arccosh, 0.3), (np.sqrt, -2.0)])
def test_dtype_of_the_loop_is_that_of_the_derivative(f, x):
    point = np.array([x, 0.9 * x, 1.2 * x])
    check_grads(lambda x: f(x, dtype=complex), (x,))
    check_grads(lambda x: f(x, dtype=complex), (point,))
    check_grads(lambda x: f(x, np.zeros_like(x, complex), dtype=complex, where=[True, False, True]), (point,))


@pytest.mark.filterwarnings("ignore::numpy.exceptions.ComplexWarning")
def test_dtype_of_the_loop_may_be_real():
    x = np.array([0.3, 1.2])
    g = pdl.grad(lambda z: np.sum(np.cos(z, dtype=float, casting="unsafe")))(x + 1j)
    np.testing.assert_allclose(g, -np.sin(x))
    with pytest.raises(TypeError, match="cast"):
        pdl.grad(lambda x: np.sum(np.cos(x, dtype="f4", casting="no")))(x)


def test_the_first_element_of_a_fold_comes_through():
    x = np.array([5.5, 2.0, 1.5])
    g = pdl.grad(lambda x: np.sum(np.floor_divide.accumulate(x) * x))(x)
    np.testing.assert_allclose(g, np.floor_divide.accumulate(x) + np.array([5.5, 0, 0]))


def test_methods_have_the_types_of_numpy():
    x = X[0].astype("f4")
    for f in (
        lambda x: np.hypot.reduce(x),
        lambda x: np.hypot.reduce(x, initial=2),
        lambda x: np.maximum.reduce(x, dtype=float),
        lambda x: np.subtract.reduce(x, dtype=float),
        lambda x: np.hypot.accumulate(x, dtype=float),
    ):
        out, _ = pdl.vjp(f, x)
        assert type(out) is type(f(x))
        assert out.dtype == f(x).dtype
        np.testing.assert_allclose(out, f(x), rtol=1e-6)


def test_constant_ufuncs_stay_constant():
    def f(x):
        assert not np.logical_or.reduce(x > 5, axis=None)
        assert type(np.greater.outer(x, x)) is np.ndarray
        assert np.logical_and.reduce(x, axis=None) is np.True_
        return np.sum(x)

    np.testing.assert_array_equal(pdl.grad(f)(X), np.ones((2, 3)))


REFUSED = {
    "plain-out": (lambda x: np.exp(x, out=np.zeros((2, 3))), NotDifferentiableError, "zeros_like"),
    "plain-at": (lambda x: np.add.at(np.zeros(3), [0], x[0, :1]), NotDifferentiableError, "zeros_like"),
    "unary-reduce": (lambda x: np.sin.reduce(x), ValueError, "binary"),
    "not-reorderable": (lambda x: np.subtract.reduce(x, axis=(0, 1)), ValueError, "reorderable"),
    "empty": (lambda x: np.subtract.reduce(x[:0]), ValueError, "identity"),
    "out-of-a-number": (lambda x: np.sin(x[0, 0], out=x[0, 0]), TypeError, "ArrayType"),
    "two-results-where": (lambda x: np.modf(x, where=x > 1)[0], NotDifferentiableError, "np.where on each"),
    "reduceat-index": (lambda x: np.add.reduceat(x, [0, 7]), IndexError, "out-of-bounds"),
    "initial-none": (lambda x: np.add.reduce(x, where=x > 1, initial=None), ValueError, "identity"),
    "no-rule": (lambda x: np.frompyfunc(lambda a: a, 1, 1)(x), NotDifferentiableError, "rule"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    fn, error, match = REFUSED[name]
    with pytest.raises(error, match=match):
        pdl.grad(lambda x: np.sum(fn(x)))(X)
