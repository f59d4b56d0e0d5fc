"""`paradual.scipy.integrate` against SciPy, finite differences and closed forms."""

import hypothesis.strategies as st
import numpy as np
import pytest
import scipy.integrate as theirs
from hypothesis import HealthCheck, given, settings
from scipy_helpers import check

import paradual as pdl
from paradual.errors import NotDifferentiableError, ParadualTypeError
from paradual.scipy import integrate as ours
from paradual.testing import check_grads

RNG = np.random.default_rng(13)


def normal(*shape):
    return RNG.standard_normal(shape)


def times(n):
    return np.cumsum(RNG.uniform(0.5, 1.5, n))


CASES = {}


def case(label, fn, *args, **options):
    """``fn(module, *args)``, called with SciPy's module and with ours."""
    CASES[label] = (fn, args, options)


for name in ("trapezoid", "cumulative_trapezoid", "simpson", "cumulative_simpson"):
    for n in (2, 3, 4, 5, 6):
        case(f"{name}-{n}", lambda m, y, x, name=name: getattr(m, name)(y, x=x), normal(n), times(n))
        case(f"{name}-{n}-axis", lambda m, y, name=name: getattr(m, name)(y, dx=0.3, axis=0), normal(n, 2))
    case(f"{name}-rows", lambda m, y, x, name=name: getattr(m, name)(y, x=x, axis=1), normal(2, 5), times(5))
    case(
        f"{name}-each-row",
        lambda m, y, x, name=name: getattr(m, name)(y, x=x, axis=0),
        normal(4, 2),
        np.stack([times(4), times(4)], axis=1),
    )
    case(f"{name}-dx", lambda m, y, dx, name=name: getattr(m, name)(y, dx=dx), normal(5), 0.3, single=False)
for name in ("cumulative_trapezoid", "cumulative_simpson"):
    case(f"{name}-initial", lambda m, y, name=name: getattr(m, name)(y, initial=0, axis=0), normal(4, 2))
case(
    "cumulative_simpson-from", lambda m, y, c: m.cumulative_simpson(y, initial=c), normal(2, 4), normal(2, 1)
)
case("romb", lambda m, y: m.romb(y, 0.25), normal(5))
case("romb-axis", lambda m, y: m.romb(y, axis=0), normal(9, 2))
case("romb-dx", lambda m, y, dx: m.romb(y, dx), normal(3), 0.5, single=False)
case("trapezoid-complex", lambda m, y, x: m.trapezoid(y, x), normal(4) + 1j * normal(4), times(4))


@pytest.mark.parametrize("label", CASES)
def test_derivatives(label):
    fn, args, options = CASES[label]
    check(lambda *a: fn(ours, *a), lambda *a: fn(theirs, *a), args, **options)


@given(
    st.integers(0, 2**16),
    st.integers(2, 7),
    st.integers(1, 2),
    st.sampled_from(["simpson", "cumulative_simpson"]),
)
@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow])
def test_simpson_of_random_shapes(seed, n, rows, name):
    rng = np.random.default_rng(seed)
    args = rng.standard_normal((rows, n)), np.cumsum(rng.uniform(0.5, 1.5, n))
    check(
        lambda y, x: getattr(ours, name)(y, x=x),
        lambda y, x: getattr(theirs, name)(y, x=x),
        args,
        single=False,
    )


# --- quad -------------------------------------------------------------------------------------------------


def wave(x, c, d):
    return np.sin(c * x) * d


def power(x, c):
    return np.exp(-c[0] * x) * x ** c[1]


def area(a, b, c, d):
    return ours.quad(wave, a, b, args=(c, d))[0]


def test_quad_in_limits_and_arguments():
    def closed(a, b, c, d):
        return d * (np.cos(c * a) - np.cos(c * b)) / c

    point = (0.3, 1.7, 2.0, 0.6)
    check_grads(area, point, order=2)
    check(area, lambda *args: theirs.quad(wave, *args[:2], args=args[2:])[0], point, single=False)
    for k in range(4):
        np.testing.assert_allclose(pdl.grad(area, k)(*point), pdl.grad(closed, k)(*point), rtol=1e-12)
        only = pdl.grad(lambda v, k=k: area(*point[:k], v, *point[k + 1 :]))(point[k])
        np.testing.assert_allclose(only, pdl.grad(closed, k)(*point), rtol=1e-12)
    hessian = pdl.hessian(lambda p: area(p[0], p[1], p[2], p[3]))(np.array(point))
    expected = pdl.hessian(lambda p: closed(p[0], p[1], p[2], p[3]))(np.array(point))
    np.testing.assert_allclose(hessian, expected, rtol=1e-10)


def test_quad_of_an_array_argument_to_infinity():
    def gamma(c):  # Gamma(p + 1) / r^(p + 1)
        return ours.quad(power, 0, np.inf, args=(c,))[0]

    c = np.array([1.5, 2.0])
    np.testing.assert_allclose(pdl.grad(gamma)(c)[0], -3 * 2 / 1.5**4, rtol=1e-8)
    np.testing.assert_allclose(pdl.jvp(gamma, (c,), (np.array([1.0, 0]),))[1], -3 * 2 / 1.5**4, rtol=1e-8)
    check_grads(gamma, (c,), order=1, rtol=1e-5)


def test_quad_passes_other_arguments_and_options_on():
    def kink(x, c, what, k):
        assert what == "sine"
        return abs(x - 0.5) * c**k

    def f(c):
        value, error = ours.quad(kink, 0, 1, args=(c, "sine", 2), points=[0.5], epsabs=1e-10)
        assert isinstance(error, float)
        return value

    np.testing.assert_allclose(pdl.grad(f)(3.0), 1.5, rtol=1e-12)
    np.testing.assert_allclose(pdl.jvp(f, (3.0,), (1.0,))[1], 1.5, rtol=1e-12)


def test_quad_refuses_what_it_cannot_differentiate():
    with pytest.raises(NotDifferentiableError, match="args="):
        pdl.grad(lambda c: ours.quad(lambda x: c * x, 0, c)[0])(2.0)
    with pytest.raises(ParadualTypeError):
        pdl.grad(lambda c: ours.quad(lambda x: c * x, 0, 1)[0])(2.0)
    with pytest.raises(NotDifferentiableError, match="weight"):
        pdl.grad(lambda c: ours.quad(wave, 0, 1, (c, 1.0), weight="cos", wvar=1.0)[0])(2.0)


def test_fixed_quad():
    def f(a, b, c):
        return ours.fixed_quad(lambda x, c: np.exp(c * x), a, b, args=(c,), n=4)[0]

    np.testing.assert_allclose(
        pdl.vjp(f, 0.1, 0.9, 1.3)[0], theirs.fixed_quad(lambda x: np.exp(1.3 * x), 0.1, 0.9, n=4)[0]
    )
    check_grads(f, (0.1, 0.9, 1.3))
    check_grads(lambda c: ours.fixed_quad(lambda x: np.exp(c * x), 0.0, 1.0)[0] * c, (0.7,))


def test_errors_are_scipys():
    y = np.arange(4.0)
    for fn in (
        lambda y: ours.trapezoid(y, np.arange(3.0)),
        lambda y: ours.simpson(y, x=np.arange(3.0)),
        lambda y: ours.cumulative_trapezoid(y, initial=1.0),
        lambda y: ours.cumulative_simpson(y, x=np.array([0.0, 2.0, 1.0, 3.0])),
        ours.romb,
    ):
        with pytest.raises(ValueError):  # noqa: PT011
            fn(y)
        with pytest.raises(ValueError):  # noqa: PT011
            pdl.vjp(fn, y)


def test_odeint_is_refused_with_the_cure():
    def solve(y0):
        return ours.odeint(lambda y, t: -y, y0, np.linspace(0, 1, 3))

    assert np.shape(solve(np.ones(1)))
    with pytest.raises(NotDifferentiableError, match="solve_ivp"):
        pdl.vjp(solve, np.ones(1))
    with pytest.raises(ParadualTypeError):  # hidden in the function
        pdl.vjp(lambda c: ours.odeint(lambda y, t: -c * y, np.ones(1), np.linspace(0, 1, 3)), 2.0)
