"""`paradual.scipy.stats` against SciPy and finite differences."""

import pickle

import hypothesis.strategies as st
import numpy as np
import pytest
import scipy.stats as theirs
from hypothesis import HealthCheck, given, settings

import paradual as pdl
from paradual.errors import NotDifferentiableError, ParadualTypeError
from paradual.scipy import stats as ours
from paradual.testing import check_grads

RNG = np.random.default_rng(19)
SHAPES = {
    "gamma": (2.3,), "invgamma": (2.5,), "invgauss": (0.8,), "chi2": (3.5,), "beta": (2.2, 3.1), "t": (4.5,),
    "lognorm": (0.7,), "weibull_min": (1.7,), "pareto": (2.6,), "fisk": (2.2,), "powerlaw": (1.6,),
    "johnsonsu": (0.4, 1.3),
}  # fmt: skip
CONTINUOUS = [name for name, d in ours.TABLE.items() if "ppf" in d.methods]
MAPPED = ("lognorm", "weibull_min", "pareto", "fisk", "powerlaw", "johnsonsu")
DISCRETE = {
    "poisson": (2.3,), "binom": (5.0, 0.3), "bernoulli": (0.3,), "geom": (0.4,), "nbinom": (3.5, 0.45),
}  # fmt: skip
METHODS = ("logpdf", "pdf", "cdf", "logcdf", "sf", "logsf", "ppf", "isf")
LOC, SCALE = 0.3, 1.4


def points(name, n=3):
    """Points inside the support of the distribution with these shapes, LOC and SCALE."""
    return getattr(theirs, name).ppf(np.linspace(0.2, 0.83, n), *SHAPES.get(name, ()), LOC, SCALE)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", CONTINUOUS)
def test_continuous(name, method):
    shapes = SHAPES.get(name, ())
    x = np.array([0.2, 0.5, 0.83]) if method in ("ppf", "isf") else points(name)
    function = getattr(getattr(ours, name), method)
    args = (x, *map(np.float64, shapes), LOC, SCALE)
    if method in ("logpdf", "pdf") or name in MAPPED:
        fn = function
    else:  # not in the shapes
        args, fn = (x, LOC, SCALE), lambda x, loc, scale: function(x, *shapes, loc=loc, scale=scale)
    expected = getattr(getattr(theirs, name), method)(x, *shapes, LOC, SCALE)
    out, pullback = pdl.vjp(fn, *args)
    np.testing.assert_allclose(out, expected, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(pdl.jvp(fn, args, args)[0], expected, rtol=1e-12, atol=1e-14)
    np.testing.assert_array_equal(fn(*args), expected)
    check_grads(fn, args, order=2, rtol=1e-5)
    for a, b in zip(pullback(out), pickle.loads(pickle.dumps(pullback))(out), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")  # of SciPy's own, for gumbel
@pytest.mark.parametrize("name", CONTINUOUS)
def test_at_and_beyond_the_support_values_are_scipys_and_gradients_are_finite(name):
    shapes = SHAPES.get(name, ())
    low, high = getattr(theirs, name).support(*shapes, LOC, SCALE)
    x = np.array([low - 1, low, *points(name), high, high + 1, np.nan, 1e3, -1e3])
    x = np.where(np.isinf(x), 0.7, x)
    for method in METHODS[:6]:
        function = getattr(getattr(ours, name), method)
        out, pullback = pdl.vjp(lambda x, s, f=function: f(x, *shapes, loc=LOC, scale=s), x, SCALE)
        expected = getattr(getattr(theirs, name), method)(x, *shapes, LOC, SCALE)
        # SciPy's tail of fisk is 1 - cdf, and less precise than ours
        np.testing.assert_allclose(out, expected, rtol=1e-9 if name == "fisk" else 1e-12, atol=1e-15)
        g, g_scale = pullback(np.ones(len(x)))
        assert np.all(np.isfinite(g)), (method, g)
        assert np.isfinite(g_scale)
        beyond = (x < low) | (x > high) | np.isnan(x)
        assert np.all(g[beyond] == 0)
        bad = pdl.vjp(lambda s, f=function: f(0.5, *shapes, loc=LOC, scale=s), -1.0)
        assert np.isnan(bad[0])
        assert bad[1](np.float64(1.0))[0] == 0


@pytest.mark.parametrize("method", ["logpmf", "pmf", "cdf", "logcdf", "sf", "logsf"])
@pytest.mark.parametrize("name", DISCRETE)
def test_discrete(name, method):
    shapes = DISCRETE[name]
    k = np.array([-1, 0, 1, 2, 4, 7]) + 1
    function = getattr(getattr(ours, name), method)
    p = shapes[-1]

    def fn(p):
        return function(k, *shapes[:-1], p, loc=1)

    expected = getattr(getattr(theirs, name), method)(k, *shapes, loc=1)
    out, pullback = pdl.vjp(fn, p)
    np.testing.assert_allclose(out, expected, rtol=1e-12, atol=1e-14)
    np.testing.assert_array_equal(fn(p), expected)
    assert np.isfinite(pullback(np.ones(len(k)))[0])
    inside = np.isfinite(expected)
    check_grads(lambda p: fn(p)[inside], (p,), order=2)
    if name == "nbinom" and method in ("logpmf", "pmf"):
        check_grads(lambda n, p: function(k, n, p, loc=1)[inside], (3.5, p))


def test_arguments_broadcast_and_may_be_named():
    x, loc, scale = RNG.standard_normal((2, 3)), RNG.standard_normal(3), np.array([[0.5], [1.5]])
    fn = ours.norm.logpdf
    np.testing.assert_allclose(pdl.vjp(fn, x, loc, scale)[0], theirs.norm.logpdf(x, loc, scale), rtol=1e-13)
    check_grads(fn, (x, loc, scale))
    check_grads(lambda a, s: ours.gamma.logpdf(0.7, a=a, scale=s), (2.0, 1.5))
    check_grads(lambda x: ours.t.cdf(x, df=3), (0.4,))
    assert type(pdl.vjp(lambda x: ours.norm.cdf(x), 0.3)[0]) is np.float64
    with pytest.raises(TypeError):
        pdl.grad(lambda a: ours.gamma.logpdf(a))(1.0)
    with pytest.raises(TypeError):
        pdl.grad(lambda a: ours.norm.logpdf(a, 0, 1, 2))(1.0)


def test_single_precision_is_computed_in_double_as_scipy_does():
    x = np.array([0.5, 1.5], np.float32)
    out, pullback = pdl.vjp(ours.gamma.logpdf, x, np.float32(2.0))
    assert out.dtype == theirs.gamma.logpdf(x, 2.0).dtype
    g, g_shape = pullback(np.ones(2))
    assert g.dtype == g_shape.dtype == np.float32


def test_frozen_distributions():
    assert ours.norm(0, 1).cdf(0.3) == theirs.norm(0, 1).cdf(0.3)
    check_grads(lambda x, m, s: ours.norm(m, scale=s).logpdf(x), (0.3, 0.1, 1.2))
    with pytest.raises(NotDifferentiableError, match="rvs"):
        pdl.grad(lambda m: ours.norm(m).rvs())(0.1)


def test_what_is_refused():
    with pytest.raises(NotDifferentiableError, match="shapes"):
        pdl.grad(lambda df: ours.t.cdf(0.4, df))(3.0)
    with pytest.raises(NotDifferentiableError, match="step function"):
        pdl.grad(lambda k: ours.poisson.logpmf(k, 2.0))(3.0)
    with pytest.raises(ParadualTypeError):
        pdl.grad(lambda m: ours.norm.mean(m))(1.0)
    with pytest.raises(ParadualTypeError):
        pdl.grad(lambda x: ours.vonmises.logpdf(x, 1.0))(1.0)
    assert ours.zscore is theirs.zscore
    assert ours.norm.interval(0.9) == theirs.norm.interval(0.9)
    assert pickle.loads(pickle.dumps(ours.norm)) is ours.norm


def test_tails_keep_their_precision():
    for x in (-30.0, -100.0):
        np.testing.assert_allclose(pdl.grad(ours.norm.logcdf)(x), -x, rtol=2e-3)
        np.testing.assert_allclose(pdl.grad(ours.norm.logsf)(-x), x, rtol=2e-3)
    np.testing.assert_allclose(pdl.grad(ours.expon.logsf)(800.0), -1)


@given(st.integers(0, 2**16), st.sampled_from(CONTINUOUS), st.lists(st.integers(1, 3), max_size=2))
@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
def test_densities_of_random_shapes(seed, name, shape):
    rng = np.random.default_rng(seed)
    shapes = [np.asarray(s * rng.uniform(0.9, 1.1, shape)) for s in SHAPES.get(name, ())]
    x = np.asarray(getattr(theirs, name).ppf(rng.uniform(0.2, 0.8, shape), *shapes))
    np.testing.assert_allclose(
        pdl.vjp(getattr(ours, name).logpdf, x, *shapes)[0],
        getattr(theirs, name).logpdf(x, *shapes),
        rtol=1e-11,
        atol=1e-13,
    )
    check_grads(getattr(ours, name).logpdf, (x, *shapes), rtol=1e-5)


# --- several variables -------------------------------------------------------------------------------------


def test_multivariate_normal():
    a = RNG.standard_normal((3, 3))
    cov, mean, x = a @ a.T + np.eye(3), RNG.standard_normal(3), RNG.standard_normal((4, 3))
    for method in ("logpdf", "pdf"):
        fn, expected = getattr(ours.multivariate_normal, method), getattr(theirs.multivariate_normal, method)
        for args in (
            (x, mean, cov),
            (x[0], mean, cov),
            (x, mean, np.array([1.0, 2.0, 3.0])),
            (x, mean, 1.7),
            (x[0], mean),
        ):
            np.testing.assert_allclose(pdl.vjp(fn, *args)[0], expected(*args), rtol=1e-12)
            assert np.shape(pdl.vjp(fn, *args)[0]) == np.shape(expected(*args))
            check_grads(fn, args)
    for x in (np.array([0.3, 0.7]), np.array(0.4)):
        np.testing.assert_allclose(
            pdl.vjp(ours.multivariate_normal.logpdf, x)[0], theirs.multivariate_normal.logpdf(x)
        )
    with pytest.raises(np.linalg.LinAlgError):
        pdl.vjp(lambda x: ours.multivariate_normal.logpdf(x, np.zeros(2), np.ones((2, 2))), np.ones(2))
    with pytest.raises(NotDifferentiableError, match="allow_singular"):
        pdl.vjp(lambda x: ours.multivariate_normal.logpdf(x, allow_singular=True), np.ones(1))


def test_dirichlet():
    alpha, x = np.array([1.5, 2.5, 0.7]), np.array([0.2, 0.5, 0.3])
    expected = theirs.dirichlet.logpdf(x, alpha)
    np.testing.assert_allclose(pdl.vjp(lambda a: ours.dirichlet.logpdf(x, a), alpha)[0], expected, rtol=1e-13)
    np.testing.assert_allclose(pdl.vjp(ours.dirichlet.logpdf, x[:2], alpha)[0], expected, rtol=1e-12)
    check_grads(ours.dirichlet.logpdf, (x[:2], alpha))
    check_grads(lambda a: ours.dirichlet.pdf(x, a), (alpha,))
    stack = RNG.dirichlet(alpha, 4).T
    np.testing.assert_allclose(
        pdl.vjp(lambda a: ours.dirichlet.logpdf(stack, a), alpha)[0],
        theirs.dirichlet.logpdf(stack, alpha),
        rtol=1e-12,
    )
    with pytest.raises(ValueError, match="simplex"):
        pdl.vjp(lambda a: ours.dirichlet.logpdf(np.ones(3), a), alpha)


def test_entropies():
    mean, root = np.arange(3.0), RNG.standard_normal((3, 3))
    for cov in (root @ root.T + np.eye(3), np.array([0.5, 1.0, 2.0]), 2.5):
        centre = mean if np.shape(cov) else None
        value, pullback = pdl.vjp(lambda c, m=centre: ours.multivariate_normal.entropy(m, c), cov)
        np.testing.assert_allclose(value, theirs.multivariate_normal.entropy(centre, cov), rtol=1e-13)
        assert np.shape(pullback(1.0)[0]) == np.shape(cov)
    check_grads(lambda r, m: ours.multivariate_normal.entropy(m, r @ r.T + np.eye(3)), (root, mean))
    check_grads(lambda c: ours.multivariate_normal.entropy(cov=c), (2.5,))
    alpha = np.array([0.7, 1.6, 3.1])
    value = pdl.vjp(ours.dirichlet.entropy, alpha)[0]
    np.testing.assert_allclose(value, theirs.dirichlet.entropy(alpha), rtol=1e-13)
    check_grads(ours.dirichlet.entropy, (alpha,))
    with pytest.raises(ValueError, match="greater than 0"):
        pdl.vjp(ours.dirichlet.entropy, -alpha)
