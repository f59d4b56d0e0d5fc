"""paradual on one screen: each gradient is printed beside a check."""

import dask.array as da
import numpy as np

import paradual as pdl


def rosenbrock(x):
    """A valley that bends: the usual test of an optimiser."""
    return np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


def fork_join(x):
    """Two tasks that run in parallel, and so do their reverse passes."""
    a, b = pdl.par(lambda: np.sum(np.sin(x)), lambda: np.prod(x))
    return a * b


def finite_difference(f, x, h=1e-6):
    """The slope of f along each axis."""
    return np.array([(f(x + h * e) - f(x - h * e)) / (2.0 * h) for e in np.eye(x.size)])


def show(what, gradient, check):
    """Print a gradient, what it should be, and stop if they differ."""
    print(f"{what}\n  gradient {gradient}\n  check    {check}")
    np.testing.assert_allclose(gradient, check, rtol=1e-6)


if __name__ == "__main__":
    np.set_printoptions(precision=6, suppress=True)
    x = np.array([0.5, 1.2, 0.8])
    show("a NumPy function", pdl.grad(rosenbrock)(x), finite_difference(rosenbrock, x))
    show("two parallel tasks", pdl.grad(fork_join)(x), finite_difference(fork_join, x))

    # A Dask array in two chunks; nothing is computed until compute() runs value and gradient together.
    y = da.from_array(np.linspace(0.0, 1.0, 6), chunks=3)
    value, gradient = pdl.value_and_gradients(da.exp(y).sum(), y)
    show("a Dask array", gradient.compute(), np.exp(np.linspace(0.0, 1.0, 6)))
