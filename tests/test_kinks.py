"""The value at every kink: an element of the Clarke subdifferential, the same in both modes."""

import numpy as np
import pytest

import paradual as pdl

ZERO = np.zeros(3)


def chain(x):
    """Branches that are not defined where they are not taken."""
    root = np.sqrt(np.where(x > 0, x, 0.0))
    safe = np.where(x > 0, np.log(x) / x, 0.0)
    return np.sum(np.where(x > 0, root, 0.0) + np.where(x > 0, 1 / x, x) + safe)


KINKS = {  # {id: (function, point, gradient of the sum of its result)}
    "abs": (np.abs, ZERO, ZERO),
    "abs-complex": (np.abs, ZERO + 0j, ZERO + 0j),
    "fabs": (np.fabs, ZERO, ZERO),
    "hypot": (lambda x: np.hypot(x, ZERO), ZERO, ZERO),
    "maximum-tie": (lambda x: np.maximum(x, ZERO), ZERO, ZERO + 0.5),
    "maximum-tie-right": (lambda x: np.maximum(0.0, x), ZERO, ZERO + 0.5),
    "maximum-same-array": (lambda x: np.maximum(x, x), ZERO, ZERO + 1),
    "minimum-tie": (lambda x: np.minimum(x, ZERO), ZERO, ZERO + 0.5),
    "fmax-tie": (lambda x: np.fmax(x, ZERO), ZERO, ZERO + 0.5),
    "fmin-tie": (lambda x: np.fmin(x, ZERO), ZERO, ZERO + 0.5),
    "fmax-nan": (lambda x: np.fmax(x, np.nan), np.ones(1), np.ones(1)),
    "max-ties": (np.max, np.array([1.0, 2.0, 2.0]), np.array([0, 0.5, 0.5])),
    "max-all-ties": (np.max, ZERO, ZERO + 1 / 3),
    "max-ties-axis": (
        lambda x: np.max(x, axis=1),
        np.array([[1.0, 1.0], [0, 3]]),
        np.array([[0.5, 0.5], [0, 1]]),
    ),
    "min-ties": (np.min, np.array([1.0, 1.0, 2.0]), np.array([0.5, 0.5, 0])),
    "max-nan": (np.max, np.array([1.0, np.nan, 2.0]), np.array([0.0, 1.0, 0.0])),
    "ptp-all-ties": (np.ptp, ZERO, ZERO),
    "clip-at-bound": (lambda x: np.clip(x, 0.0, 1.0), np.array([0.0, 0.5, 1.0]), np.array([0.5, 1.0, 0.5])),
    "clip-array-at-bound": (lambda x: np.clip(x, ZERO, None), ZERO, ZERO + 0.5),
    "sqrt": (np.sqrt, ZERO[:1], ZERO[:1] + np.inf),
    "cbrt": (np.cbrt, ZERO[:1], ZERO[:1] + np.inf),
    "norm": (np.linalg.norm, ZERO, ZERO),
    "norm-complex": (np.linalg.norm, ZERO + 0j, ZERO + 0j),
    "norm-fro": (lambda x: np.linalg.norm(x, "fro"), np.zeros((2, 2)), np.zeros((2, 2))),
    "norm-some-rows": (
        lambda x: np.linalg.norm(x, axis=1),
        np.array([[0.0, 0], [3, 4]]),
        np.array([[0, 0], [0.6, 0.8]]),
    ),
    "norm-1": (lambda x: np.linalg.norm(x, 1), ZERO, ZERO),
    "norm-3": (lambda x: np.linalg.norm(x, 3), ZERO, ZERO),
    "norm-inf": (lambda x: np.linalg.norm(x, np.inf), ZERO, ZERO),
    "vector_norm": (np.linalg.vector_norm, ZERO, ZERO),
    "std-of-equals": (np.std, ZERO + 2, ZERO),
    "var-of-equals": (np.var, ZERO + 2, ZERO),
    "power-0": (lambda x: x**0, ZERO, ZERO),
    "power-0.0": (lambda x: np.power(x, 0.0), ZERO, ZERO),
    "power-zeros": (lambda x: x**ZERO, ZERO, ZERO),
    "power-1": (lambda x: x**1, ZERO, ZERO + 1),
    "power-2": (lambda x: x**2, ZERO, ZERO),
    "power-array": (lambda x: x ** np.array([0.0, 1.0, 2.0]), ZERO, np.array([0.0, 1.0, 0.0])),
    "power-half": (lambda x: x**0.5, ZERO[:1], ZERO[:1] + np.inf),
    "power-negative-base": (lambda x: x**2.0, ZERO - 3, ZERO - 6),
    "power-exponent": (lambda y: ZERO**y, ZERO + 2, ZERO),
    "prod-zeros": (np.prod, np.array([0.0, 2.0, 3.0]), np.array([6.0, 0.0, 0.0])),
    "prod-two-zeros": (np.prod, np.array([0.0, 0.0, 3.0]), ZERO),
    "sinc": (np.sinc, ZERO, ZERO),
    "logaddexp-tie": (lambda x: np.logaddexp(x, ZERO), ZERO, ZERO + 0.5),
    "logaddexp-minus-infinity": (lambda x: np.logaddexp(x, -np.inf), ZERO, ZERO + 1),
    "logaddexp-both-minus-infinity": (lambda x: np.logaddexp(x, -np.inf), ZERO - np.inf, ZERO + 0.5),
    "logaddexp2-both-infinity": (lambda x: np.logaddexp2(x, np.inf), ZERO + np.inf, ZERO + 0.5),
    "heaviside": (lambda x: np.heaviside(x, 0.5), ZERO, ZERO),
    "median-ties": (np.median, np.array([1.0, 2.0, 2.0, 5.0]), np.array([0, 0.5, 0.5, 0])),
    "nanmax-ties": (np.nanmax, np.array([2.0, np.nan, 2.0]), np.array([0.5, 0, 0.5])),
    "nanmin-all-ties": (np.nanmin, ZERO, ZERO + 1 / 3),
    "nansum-nan": (np.nansum, np.array([1.0, np.nan]), np.array([1.0, 0.0])),
    "nanstd-of-equals": (np.nanstd, ZERO + 2, ZERO),
    "sort-ties": (lambda x: np.sort(x) * np.array([1.0, 1, 3]), np.array([2.0, 1, 2]), np.array([1.0, 1, 3])),
    "interp-outside": (lambda x: np.interp(x, [0.0, 1], [0.0, 2]), np.array([-1.0, 2]), np.zeros(2)),
    "floor": (lambda x: x - np.floor(x), ZERO, ZERO + 1),
    "mod": (lambda x: x % 1.0, ZERO, ZERO + 1),
    "copysign": (lambda x: np.copysign(x, 1.0), ZERO, ZERO + 1),
    "unique-ties": (lambda x: np.unique(x), np.array([2.0, 1.0, 2.0]), np.array([1.0, 1, 0])),
    "norm-2-matrix": (lambda x: np.linalg.norm(x, 2), np.diag([3.0, 1.0]), np.diag([1.0, 0.0])),
    "nuclear-norm": (lambda x: np.linalg.norm(x, "nuc"), np.zeros((2, 2)), np.zeros((2, 2))),
    "eigvalsh-of-equals": (np.linalg.eigvalsh, np.eye(2), np.eye(2)),
    "det-singular": (np.linalg.det, np.array([[1.0, 2], [2, 4]]), np.array([[4.0, -2], [-2, 1]])),
    "det-zero": (np.linalg.det, np.zeros((2, 2)), np.zeros((2, 2))),
    "average": (lambda x: np.average(x, weights=[0.0, 1, 1]), ZERO, np.array([0, 0.5, 0.5])),
    "cumprod-zero": (np.cumprod, np.array([2.0, 0.0, 3.0]), np.array([1.0, 8.0, 0.0])),
    "where-sqrt": (lambda x: np.where(x > 0, np.sqrt(x), 0.0), np.array([0.0, 4.0]), np.array([0, 0.25])),
    "where-log": (lambda x: np.where(x > 0, np.log(x), x), np.array([0.0, 4.0]), np.array([1, 0.25])),
    "where-divide": (lambda x: np.where(x != 0, 1 / x, 2 * x), np.array([0.0, 2.0]), np.array([2, -0.25])),
    "where-divide-both": (lambda x: np.where(x != 0, x / x, 1.0), np.array([0.0, 2.0]), np.array([0.0, 0.0])),
    "where-chain": (chain, np.array([0.0, -1.0, 1.0]), np.array([1.0, 1.0, 0.5])),
    "where-after-sum": (
        lambda x: np.where(np.sum(x) > 0, np.sqrt(np.sum(x)), 0.0),
        ZERO,
        ZERO,
    ),
    "where-of-norm": (
        lambda x: np.where(x[:, 0] > 0, np.sqrt(np.sum(x * x, axis=1)), 0.0),
        np.array([[0.0, 0], [3, 4]]),
        np.array([[0, 0], [0.6, 0.8]]),
    ),
    "select": (lambda x: np.select([x > 0], [np.log(x)], x), np.array([0.0, 2.0]), np.array([1, 0.5])),
}


@pytest.mark.filterwarnings("ignore:(divide by zero|invalid value):RuntimeWarning")
@pytest.mark.parametrize("mode", ["reverse", "forward"])
@pytest.mark.parametrize("name", KINKS)
def test_kink(name, mode):
    fn, x, expected = KINKS[name]
    if mode == "reverse":
        g = pdl.grad(lambda x: np.sum(np.real(fn(x))))(x)
    else:
        units = np.eye(x.size).reshape(-1, *x.shape)
        columns = [np.sum(np.real(pdl.jvp(fn, (x,), (unit.astype(x.dtype),))[1])) for unit in units]
        g = np.reshape(columns, x.shape)
    np.testing.assert_allclose(g, expected, rtol=1e-14, atol=0)


@pytest.mark.parametrize("mode", ["reverse", "forward"])
@pytest.mark.filterwarnings("ignore:(divide by zero|invalid value):RuntimeWarning")
def test_second_derivatives_at_kinks(mode):
    def hessian(fn, x):
        return pdl.jacobian(pdl.grad(lambda x: np.sum(fn(x))), mode=mode)(x)

    np.testing.assert_array_equal(hessian(lambda x: x**2, ZERO), 2 * np.eye(3))
    np.testing.assert_array_equal(hessian(lambda x: x ** np.arange(3.0), ZERO), np.diag([0.0, 0, 2]))
    np.testing.assert_array_equal(hessian(lambda x: np.abs(x) * x, ZERO), np.zeros((3, 3)))
    np.testing.assert_array_equal(hessian(lambda x: np.maximum(x, 0) ** 2, ZERO - 1), np.zeros((3, 3)))
    masked = hessian(lambda x: np.where(x > 0, np.sqrt(x), x * x), np.array([0.0, 4.0]))
    np.testing.assert_array_equal(masked, np.diag([2, -1 / 32]))


def test_python_floats_at_kinks():
    assert pdl.grad(abs)(0.0) == 0.0
    assert pdl.grad(lambda x: x**0)(0.0) == 0.0
    assert pdl.grad(lambda x: x**2)(0.0) == 0.0
    assert pdl.grad(lambda x: x**1)(0.0) == 1.0
    assert pdl.grad(lambda x: x**3)(-2.0) == 12.0
    assert pdl.grad(lambda x: max(x, 0.0))(-1.0) == 0.0
