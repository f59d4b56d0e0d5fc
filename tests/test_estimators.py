"""forward_gradient: unbiased, of the known variance, and of the form of its argument."""

import dask.array as da
import numpy as np
import pytest

import paradual as pdl
from paradual.errors import ParadualTypeError, ParadualValueError

A = np.array([0.5, 1.25, -2.0])


class Replayed(np.random.Generator):
    """Gives the directions that it was told to."""

    def __init__(self, directions):
        super().__init__(np.random.PCG64(0))
        self.directions = iter(directions)

    def standard_normal(self, size=None):
        v = next(self.directions)
        assert np.shape(v) == size
        return v


def f(x):
    return np.sum(np.sin(x) * x**2) + np.prod(x)


def test_it_is_exact_over_an_orthonormal_basis():
    # over directions u_1 ... u_n * sqrt(n) the mean of v v^T is the identity, as its expectation is
    basis, _ = np.linalg.qr(np.random.default_rng(1).standard_normal((3, 3)))
    found = pdl.forward_gradient(f, A, Replayed(np.sqrt(3) * basis.T), samples=3)
    np.testing.assert_allclose(found, pdl.grad(f)(A), rtol=1e-12)


def test_it_is_exact_over_a_basis_of_complex_numbers():
    def g(z):
        return np.sum(np.abs(z) ** 2 * np.real(np.exp(z)))

    z = A[:2] + 1j * A[1:]
    basis, _ = np.linalg.qr(np.random.default_rng(1).standard_normal((4, 4)))
    found = pdl.forward_gradient(g, z, Replayed((2 * basis.T).reshape(8, 2)), samples=4)
    np.testing.assert_allclose(found, pdl.grad(g)(z), rtol=1e-12)


def test_mean_and_covariance_of_a_linear_function():
    # E = c and Cov = |c|^2 I + c c^T, in closed form
    c = np.array([1.0, -2.0, 0.5])
    rng = np.random.default_rng(0)
    n = 4000
    found = np.array([pdl.forward_gradient(lambda x: c @ x, A, rng) for _ in range(n)])
    covariance = np.sum(c * c) * np.eye(3) + np.outer(c, c)
    deviations = (found.mean(axis=0) - c) / np.sqrt(np.diag(covariance) / n)
    assert np.max(np.abs(deviations)) < 4
    np.testing.assert_allclose(np.cov(found.T), covariance, atol=0.1 * np.max(covariance))
    mean_square = np.mean(np.sum((found - c) ** 2, axis=1))
    assert mean_square == pytest.approx((c.size + 1) * np.sum(c * c), rel=0.1)


def test_the_variance_falls_with_the_number_of_samples():
    rng = np.random.default_rng(0)
    many = [pdl.forward_gradient(lambda x: A @ x, A, rng, samples=5) for _ in range(400)]
    assert np.mean(np.sum((many - A) ** 2, axis=1)) == pytest.approx(4 * np.sum(A * A) / 5, rel=0.1)


def test_one_sample_is_the_slope_times_the_direction():
    v = np.random.default_rng(7).standard_normal(3)
    t = 1e-6
    slope = (f(A + t * v) - f(A - t * v)) / (2 * t)
    np.testing.assert_allclose(pdl.forward_gradient(f, A, 7), slope * v, rtol=1e-6)


def test_a_generator_moves_on_and_a_seed_does_not():
    rng = np.random.default_rng(0)
    first, second = pdl.forward_gradient(f, A, rng), pdl.forward_gradient(f, A, rng)
    assert np.all(first != second)
    np.testing.assert_array_equal(pdl.forward_gradient(f, A, 0), first)
    np.testing.assert_array_equal(pdl.forward_gradient(f, A, np.random.SeedSequence(0)), first)


def test_the_estimate_has_the_form_of_the_argument():
    x = {
        "w": A.astype("f4"),
        "m": (np.arange(6.0).reshape(3, 2).T[:, ::-1], 2.0),
        "s": np.float32(1.5),
        "z": 1.0 + 2.0j,
        "o": np.array(3.0),
        "e": np.zeros((0, 3)),
    }

    def g(x):
        m, b = x["m"]
        return np.sum(x["w"]) * b + np.sum(m * m) + x["s"] + np.abs(x["z"]) ** 2 + x["o"] + np.sum(x["e"])

    found = pdl.forward_gradient(g, x, 0, samples=2)
    assert {k: (type(v), getattr(v, "dtype", None)) for k, v in found.items() if k != "m"} == {
        k: (type(v), getattr(v, "dtype", None)) for k, v in x.items() if k != "m"
    }
    assert found["m"][0].shape == (2, 3)
    assert type(found["m"][1]) is float
    assert type(pdl.forward_gradient(lambda x: np.sum(x), A.astype("f4"), 0)) is np.ndarray


def test_it_can_be_differentiated_itself():
    def estimate(x):
        return np.sum(pdl.forward_gradient(f, x, 3) * A)

    v = np.random.default_rng(3).standard_normal(3)
    np.testing.assert_allclose(pdl.grad(estimate)(A), pdl.hvp(f, A, v) * (v @ A), rtol=1e-12)
    pdl.testing.check_grads(estimate, (A,))


def test_through_tasks():
    def g(x):
        a, b = pdl.par(lambda: np.sin(x), lambda: x * x)
        return np.sum(a * b)

    with pdl.executor("threads"):
        found = pdl.forward_gradient(g, A, 0)
    np.testing.assert_array_equal(found, pdl.forward_gradient(lambda x: np.sum(np.sin(x) * (x * x)), A, 0))


def test_a_constant_has_no_slope():
    np.testing.assert_array_equal(pdl.forward_gradient(lambda x: np.float64(3.0), A, 0), np.zeros(3))


def test_nan_stays_nan():
    assert np.all(np.isnan(pdl.forward_gradient(lambda x: np.sum(x * np.nan), A, 0)))


def test_arguments_are_not_changed():
    x = A.copy()
    x.flags.writeable = False
    pdl.forward_gradient(f, x, 0)
    np.testing.assert_array_equal(x, A)


@pytest.mark.parametrize(
    ("fn", "x", "rng", "kwargs", "error", "message"),
    [
        (f, A, None, {}, ParadualTypeError, "numpy.random.Generator"),
        (f, A, 0.5, {}, ParadualTypeError, "neither"),
        (f, A, -1, {}, ParadualValueError, "neither"),
        (f, A, 0, {"samples": 0}, ParadualValueError, "at least one"),
        (f, A, 0, {"samples": 1.5}, ParadualTypeError, "integer"),
        (f, A, 0, {"samples": True}, ParadualTypeError, "integer"),
        (f, np.arange(3), 0, {}, ParadualTypeError, "int64"),
        (f, (), 0, {}, ParadualValueError, "no leaves"),
        (f, np.ma.masked_array(A, A > 0), 0, {}, ParadualTypeError, "MaskedArray"),
        (f, da.ones(3), 0, {}, ParadualTypeError, "Dask"),
        (np.sin, A, 0, {}, ParadualValueError, "single number"),
        (lambda x: [x[0]], A, 0, {}, ParadualTypeError, "list"),
        (lambda x: 3, A, 0, {}, ParadualTypeError, "integer is a constant"),
        (lambda x: x[0] * 1j, A, 0, {}, ParadualTypeError, "complex"),
    ],
)
def test_bad_input_is_refused(fn, x, rng, kwargs, error, message):
    with pytest.raises(error, match=message):
        pdl.forward_gradient(fn, x, rng, **kwargs)
