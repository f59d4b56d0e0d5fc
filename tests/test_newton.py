"""A long Newton iteration with an LU factorisation and a line search, in forward mode: constant memory.

The system u^2 + v = c, u + v^2 = 3 is followed while c moves slowly, so that the iteration never stops.
Each step factors the 2 x 2 Jacobian into L and U in scalar arithmetic, solves two triangular systems, and
halves the step until the residual falls.
"""

import gc
import tracemalloc

import numpy as np
import psutil
import pytest

import paradual as pdl
from paradual.scipy import linalg

SHORT, LONG = 100_000, 1_000_000
START = (1.2, 1.4)
FAR = (0.45, 0.5)  # where a whole Newton step goes up


def residual(u, v, c):
    return u * u + v - c, v * v + u - 3.0


def wave(k, period=1000):
    return 1.0 + 0.05 * abs(k % period - period // 2) / period


def newton(theta, steps, start=START, period=1000, search=None):
    """Follow the solution for c = theta (1 + a small wave of k); also count the halved steps."""
    (u, v), halved = start, 0
    for k in range(steps):
        c = theta * wave(k, period)
        r, s = residual(u, v, c)
        # the Jacobian [[2 u, 1], [1, 2 v]] = [[1, 0], [low, 1]] [[2 u, 1], [0, pivot]]
        low = 0.5 / u
        pivot = 2.0 * v - low
        dv = (s - low * r) / pivot
        du = (r - dv) * low
        size, length = r * r + s * s, 1.0
        while True:
            p, q = residual(u - du, v - dv, c)
            if p * p + q * q <= size or size < 1e-20 or length < 1e-3:
                break
            du, dv, length, halved = 0.5 * du, 0.5 * dv, 0.5 * length, halved + 1
        u, v = u - du, v - dv
    if search is not None:
        search.append(halved)
    return u, v


def slopes(u, v, scale):
    """By the implicit function theorem: J (du, dv) = (dc, 0)."""
    return np.linalg.solve([[2 * u, 1.0], [1.0, 2 * v]], [scale, 0.0])


def test_the_derivative_of_the_iteration_is_that_of_the_solution():
    search = []
    (u, v), (du, dv) = pdl.jvp(lambda theta: newton(theta, 60, FAR, period=1, search=search), (3.0,), (1.0,))
    assert search[0] > 0, "the line search was not used"
    assert abs(u * u + v - 3.0) < 1e-14
    np.testing.assert_allclose([du, dv], slopes(u, v, 1.0), rtol=1e-12)
    reverse = pdl.jacobian(lambda theta: np.stack(newton(theta, 60, FAR, period=1)), mode="reverse")(3.0)
    np.testing.assert_allclose(reverse, [du, dv], rtol=1e-12)
    curvature = pdl.jvp(
        lambda theta: pdl.jvp(lambda t: newton(t, 60, FAR, period=1), (theta,), (1.0,))[1], (3.0,), (1.0,)
    )[1]
    expected = (slopes_at(3.0 + 1e-5) - slopes_at(3.0 - 1e-5)) / 2e-5
    np.testing.assert_allclose(curvature, expected, rtol=1e-6)


def slopes_at(theta):
    return slopes(*newton(theta, 60, FAR, period=1), 1.0)


def test_the_same_iteration_with_lu_of_scipy():
    def solve(theta):
        x = np.array(START)
        c = np.stack([theta, 3.0 + 0 * theta])
        for _ in range(8):
            f = np.stack([x[0] * x[0] + x[1], x[0] + x[1] * x[1]]) - c
            jacobian = np.stack([np.stack([2 * x[0], x[0] * 0 + 1]), np.stack([x[0] * 0 + 1, 2 * x[1]])])
            p, lower, upper = linalg.lu(jacobian)
            y = linalg.solve_triangular(lower, p.T @ f, lower=True, unit_diagonal=True)
            x = x - linalg.solve_triangular(upper, y)
        return x

    x, dx = pdl.jvp(solve, (3.0,), (1.0,))
    np.testing.assert_allclose(dx, slopes(*x, 1.0), rtol=1e-12)
    np.testing.assert_allclose(pdl.jacobian(solve, mode="reverse")(3.0), dx, rtol=1e-12)


@pytest.mark.timeout(900)
def test_memory_does_not_grow_with_the_length_of_the_iteration():
    process, used = psutil.Process(), {}

    def follow(theta, steps):
        out = newton(theta, steps)
        used[steps] = process.memory_info().rss  # whatever was recorded is still there
        return out

    for steps in (200, SHORT, LONG):
        (u, v), tangent = pdl.jvp(lambda theta, steps=steps: follow(theta, steps), (3.0,), (1.0,))
        scale = wave(steps - 1)
        np.testing.assert_allclose(u * u + v, 3.0 * scale, rtol=1e-6)
        np.testing.assert_allclose(tangent, slopes(u, v, scale), rtol=1e-3)
    assert used[LONG] < used[SHORT] + 1e6, used


def test_python_allocates_no_more_for_a_longer_iteration():
    peaks = []
    for steps in (50, 150, 600):
        gc.collect()
        tracemalloc.start()
        pdl.jvp(lambda theta, steps=steps: newton(theta, steps), (3.0,), (1.0,))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < 1.1 * peaks[1] + 5000, peaks
