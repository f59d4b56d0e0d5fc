"""`paradual.scipy.integrate.solve_ivp` against closed forms and the matrix exponential."""

import pickle

import cloudpickle
import numpy as np
import pytest
import scipy.integrate as theirs
import scipy.linalg
from helpers import nothing_is_left_behind  # noqa: F401

import paradual as pdl
from paradual.errors import NotDifferentiableError, ParadualTypeError, ParadualValueError
from paradual.scipy.integrate import solve_ivp

FINE = {"rtol": 1e-9, "atol": 1e-11}
K = np.array([[-0.5, 1.2], [-0.7, 0.1]])  # not symmetric, so that its transpose is another
Y0 = np.array([1.0, -0.4])
TIMES = np.array([0.0, 0.4, 1.0])
W = np.array([[0.3, -1.0, 0.7], [2.0, 0.5, -0.2]])


def linear(t, y, k):
    return k @ y


def exact(k, y0, times=TIMES):
    return np.stack([scipy.linalg.expm(k * t) @ y0 for t in times], axis=1)


def exact_slopes(k, y0, times, w):
    """The gradient of sum(w * y): for K by the derivative of the matrix exponential."""
    for_y0 = sum(scipy.linalg.expm(k * t).T @ w[:, i] for i, t in enumerate(times))
    for_k = np.zeros_like(k)
    for index in np.ndindex(k.shape):
        unit = np.zeros_like(k)
        unit[index] = 1
        for i, t in enumerate(times):
            for_k[index] += w[:, i] @ scipy.linalg.expm_frechet(k * t, unit * t, compute_expm=False) @ y0
    return for_y0, for_k


@pytest.mark.parametrize("method", ["RK45", "RK23", "DOP853", "Radau", "BDF", "LSODA"])
def test_linear_equations_by_every_method(method):
    tolerances = {"rtol": 1e-6, "atol": 1e-8}

    def solve(y0, k):
        return solve_ivp(linear, (0, 1), y0, method, TIMES, args=(k,), **tolerances).y

    out, pullback = pdl.vjp(solve, Y0, K)
    np.testing.assert_array_equal(
        out, theirs.solve_ivp(linear, (0, 1), Y0, method, TIMES, args=(K,), **tolerances).y
    )
    slopes = exact_slopes(K, Y0, TIMES, W)
    for got, expected in zip(pullback(W), slopes, strict=True):
        np.testing.assert_allclose(got, expected, rtol=2e-4, atol=2e-4)
    t_y0, t_k = np.array([0.3, 0.9]), K.T
    _, tangent = pdl.jvp(solve, (Y0, K), (t_y0, t_k))
    expected = np.sum(slopes[0] * t_y0) + np.sum(slopes[1] * t_k)
    assert np.sum(W * tangent) == pytest.approx(expected, abs=2e-4)


def test_backwards_in_time_and_at_the_solvers_own_steps():
    def end(y0, k):
        result = solve_ivp(linear, (1.0, 0.0), y0, args=(k,), **FINE)
        assert result.success
        assert result.y.shape == (2, len(result.t))
        return result.y[:, -1]

    out, pullback = pdl.vjp(end, Y0, K)
    np.testing.assert_allclose(out, scipy.linalg.expm(-K) @ Y0, rtol=1e-8)
    for got, expected in zip(pullback(W[:, 0]), exact_slopes(K, Y0, [-1.0], W[:, :1]), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-7, atol=1e-8)


def bernoulli(y0, c, n=2, times=(0.5, 1.0), **options):
    """y' = -c y^2, whose solution is y0 / (1 + c t y0)."""
    return solve_ivp(
        lambda t, y, c, n: [-c["c"] * y[0] ** n],
        (0, 1),
        [y0],
        t_eval=times,
        args=(c, n),
        **{**FINE, **options},
    ).y[0]


def test_numbers_pytrees_and_integers_among_the_arguments():
    def f(y0, c):
        return np.sum(bernoulli(y0, {"c": c, "name": "rate"}))

    y0, c = 1.5, 0.7
    t = np.array([0.5, 1.0])
    slopes = pdl.grad(f, (0, 1))(y0, c)
    assert slopes[0] == pytest.approx(np.sum((1 + c * t * y0) ** -2), rel=1e-8)
    assert slopes[1] == pytest.approx(np.sum(-t * y0**2 * (1 + c * t * y0) ** -2), rel=1e-8)
    assert type(slopes[1]) is float
    assert pdl.jvp(f, (y0, c), (2.0, -1.0))[1] == pytest.approx(2 * slopes[0] - slopes[1], rel=1e-8)


def test_every_second_derivative():
    c = 0.7

    def f(y0):
        return np.sum(bernoulli(y0, {"c": c}, times=[1.0], rtol=1e-6, atol=1e-8))

    def forward(g):
        return lambda x: pdl.jvp(g, (x,), (1.0,))[1]

    y0 = 1.5
    expected = -2 * c / (1 + c * y0) ** 3
    for outer in (pdl.grad, forward):
        for inner in (pdl.grad, forward):
            assert outer(inner(f))(y0) == pytest.approx(expected, rel=1e-4)
    # mixed, of a system whose transpose is another: a gradient of the exponential's derivative
    k = pdl.grad(
        lambda k: (
            pdl.grad(
                lambda y0: np.sum(
                    W[:, 2]
                    * solve_ivp(linear, (0, 1), y0, t_eval=[1.0], args=(k,), rtol=1e-7, atol=1e-9).y[:, 0]
                )
            )(Y0)
            @ W[:, 1]
        )
    )(K)
    _, expected_k = exact_slopes(K, W[:, 1], [1.0], W[:, 2:])
    np.testing.assert_allclose(k, expected_k, rtol=1e-5, atol=1e-6)


def test_complex_equations():
    def end(y0, c):
        return solve_ivp(
            lambda t, y, c: 1j * c * y * np.abs(y) ** 2, (0, 1), y0, t_eval=[1.0], args=(c,), **FINE
        ).y

    y0, c = np.array([1 + 0.5j]), 0.7  # |y| stays, so y = y0 exp(i c |y0|^2)
    closed = lambda y0, c: np.reshape(y0 * np.exp(1j * c * np.abs(y0) ** 2), (1, 1))  # noqa: E731
    out, pullback = pdl.vjp(end, y0, c)
    np.testing.assert_allclose(out, closed(y0, c), rtol=1e-8)
    g = np.array([[0.3 - 2j]])
    for got, expected in zip(pullback(g), pdl.vjp(closed, y0, c)[1](g), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-7)
    t = pdl.jvp(end, (y0, c), (np.array([1j]), 0.5))[1]
    np.testing.assert_allclose(t, pdl.jvp(closed, (y0, c), (np.array([1j]), 0.5))[1], rtol=1e-7)


def relaxation(k, rtol=1e-6):
    """y' = -k (y - cos t) from its slow solution, (k^2 cos t + k sin t) / (k^2 + 1)."""
    y0 = [k**2 / (k**2 + 1)]
    options = {"args": (k,), "rtol": rtol, "atol": 1e-3 * rtol}
    return solve_ivp(lambda t, y, k: [-k * (y[0] - np.cos(t))], (0, 1), y0, "Radau", [1.0], **options).y[0, 0]


def test_stiff_equations():
    k = 1e3
    expected = pdl.grad(lambda k: (k**2 * np.cos(1.0) + k * np.sin(1.0)) / (k**2 + 1))(k)
    assert pdl.grad(relaxation)(k) == pytest.approx(expected, rel=1e-2)
    assert pdl.jvp(relaxation, (k,), (1.0,))[1] == pytest.approx(expected, rel=1e-2)
    with pytest.raises(NotDifferentiableError, match="unstable"):  # and not a wrong number
        pdl.grad(pdl.grad(lambda k: relaxation(k, 1e-3)))(k)


def test_small_cotangents_and_tangents_are_as_exact_as_others():
    def f(c, scale):
        return scale * np.sum(bernoulli(1.5, {"c": c}, rtol=1e-6, atol=1e-8))

    for scale in (1e-12, 1e12):
        assert pdl.grad(f)(0.7, scale) / scale == pytest.approx(pdl.grad(f)(0.7, 1.0), rel=1e-12)
        assert pdl.jvp(lambda c: f(c, 1.0), (0.7,), (scale,))[1] / scale == pytest.approx(
            pdl.jvp(lambda c: f(c, 1.0), (0.7,), (1.0,))[1], rel=1e-12
        )
    assert pdl.jvp(lambda c: f(c, 1.0), (0.7,), (0.0,))[1] == 0.0
    pullback = pdl.vjp(lambda y0: solve_ivp(linear, (0, 1), y0, args=(K,), t_eval=TIMES).y, Y0)[1]
    np.testing.assert_array_equal(pullback(np.zeros((2, 3)))[0], np.zeros(2))
    assert np.all(np.isnan(pullback(np.full((2, 3), np.nan))[0]))


def test_forms_of_the_arguments():
    def gradient(y0):
        return pdl.grad(lambda y0: np.sum(solve_ivp(linear, (0, 1), y0, args=(K,), t_eval=[1.0], **FINE).y))(
            y0
        )

    expected = scipy.linalg.expm(K).T @ np.ones(2)
    single = gradient(Y0.astype(np.float32))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, expected, rtol=1e-6)
    strided = np.repeat(Y0, 2)[::2]
    strided.flags.writeable = False
    np.testing.assert_allclose(gradient(strided), expected, rtol=1e-8)
    of_k = pdl.grad(lambda k: np.sum(solve_ivp(linear, (0, 1), [1, 2], args=(k,), t_eval=[1.0], **FINE).y))(K)
    np.testing.assert_allclose(
        of_k, exact_slopes(K, np.array([1.0, 2.0]), [1.0], np.ones((2, 1)))[1], rtol=1e-7, atol=1e-8
    )
    # a right-hand side that is a number
    decay = lambda c: np.sum(solve_ivp(lambda t, y, c: -c * y[0], (0, 1), [2.0], args=(c,), **FINE).y[:, -1])  # noqa: E731
    assert pdl.grad(decay)(0.7) == pytest.approx(-2 * np.exp(-0.7), rel=1e-7)
    assert pdl.jvp(decay, (0.7,), (1.0,))[1] == pytest.approx(-2 * np.exp(-0.7), rel=1e-7)
    # a Jacobian of the user's, and a parameter that nothing depends on
    options = {"jac": lambda t, y, k, unused: k}
    slopes = pdl.grad(
        lambda k, u: np.sum(
            solve_ivp(lambda t, y, k, u: k @ y, (0, 1), Y0, "BDF", [1.0], args=(k, u), **options, **FINE).y
        ),
        (0, 1),
    )(K, np.ones(3))
    np.testing.assert_allclose(
        slopes[0], exact_slopes(K, Y0, [1.0], np.ones((2, 1)))[1], rtol=1e-5, atol=1e-5
    )
    np.testing.assert_array_equal(slopes[1], np.zeros(3))


def test_in_tasks_and_pickled():
    def shot(k, y0):
        return np.sum(solve_ivp(linear, (0, 1), y0, args=(k,), t_eval=TIMES).y ** 2)

    def total(k):
        return sum(pdl.map(lambda y0: shot(k, y0), [Y0, -2 * Y0]))

    with pdl.executor("inline"):
        expected = pdl.grad(total)(K)
    with pdl.executor("threads"):
        np.testing.assert_array_equal(pdl.grad(total)(K), expected)
    out, pullback = pdl.vjp(lambda k: shot(k, Y0), K)
    again = pickle.loads(cloudpickle.dumps(pullback))
    np.testing.assert_array_equal(again(out)[0], pullback(out)[0])


REFUSED = {
    "captured": lambda c: solve_ivp(lambda t, y: -c * y, (0, 1), Y0),
    "captured beside y0": lambda c: solve_ivp(lambda t, y: -c * y, (0, 1), Y0 * c),
    "captured beside args": lambda c: solve_ivp(lambda t, y, d: -c * d * y, (0, 1), Y0, args=(c,)),
    "t_span": lambda c: solve_ivp(lambda t, y: -y, (0, c), Y0),
    "t_eval": lambda c: solve_ivp(lambda t, y: -y, (0, 9), Y0, t_eval=[c]),
    "rtol": lambda c: solve_ivp(lambda t, y: -y, (0, 9), Y0, rtol=c),
    "events": lambda c: solve_ivp(lambda t, y: -y, (0, 1), Y0 * c, events=lambda t, y: y[0]),
    "dense_output": lambda c: solve_ivp(lambda t, y: -y, (0, 1), Y0 * c, dense_output=True),
    "vectorized": lambda c: solve_ivp(lambda t, y: -y, (0, 1), Y0 * c, vectorized=True),
    "args": lambda c: solve_ivp(lambda t, y, c: -y * c, (0, 1), Y0, args=c),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    for transform in (lambda f: pdl.vjp(f, 2.0), lambda f: pdl.jvp(f, (2.0,), (1.0,))):
        with pytest.raises(
            ParadualTypeError, match=name.split()[0] if "captured" not in name else "in args="
        ):
            transform(lambda c: REFUSED[name](c).y)


def test_bad_input():
    with pytest.raises(ParadualValueError, match="has not reached"):  # it is infinite at t = 1
        pdl.grad(lambda c: np.sum(solve_ivp(lambda t, y: y * y, (0, 2), np.ones(1) * c).y))(1.0)
    with pytest.raises(ParadualValueError, match="1-dimensional"):
        pdl.grad(lambda c: np.sum(solve_ivp(lambda t, y: y, (0, 2), c).y))(1.0)
    with pytest.raises(ValueError, match="t_eval"):
        pdl.grad(lambda c: np.sum(solve_ivp(lambda t, y: y, (0, 2), Y0 * c, t_eval=[3.0]).y))(1.0)
    plain = pdl.grad(lambda c: c * solve_ivp(lambda t, y: -y, (0, 1), Y0, events=lambda t, y: y[0]).y[0, -1])
    assert plain(1.0) == pytest.approx(np.exp(-1), rel=1e-3)  # a constant: as SciPy's
