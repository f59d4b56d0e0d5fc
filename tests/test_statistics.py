"""Statistics where they are not smooth, not defined or not allowed: ties, nan, nothing, steps, errors."""

import warnings

import numpy as np
import pytest

import paradual as pdl
from paradual.dual import Dual
from paradual.errors import NotDifferentiableError
from paradual.rules.registry import name_of
from paradual.trees import flatten

NAN = np.nan
HOLES = np.array([[1.0, NAN, 3.0], [NAN, NAN, NAN], [4.0, 6.0, 5.0]])
ORDER = [np.median, np.nanmedian]
QUANTILES = [np.quantile, np.percentile, np.nanquantile, np.nanpercentile]
NAN_FUNCTIONS = [np.nanmax, np.nanmin, np.nanmean, np.nanvar, np.nanstd, np.nanmedian]


def outcome(fn):
    """What a call returns, and the kinds of warning it gives; or the kind of error that it raises."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            out = fn()
        except Exception as error:
            return next(kind for kind in type(error).__mro__ if not kind.__module__.startswith("paradual"))
    return [np.asarray(leaf) for leaf in flatten(out)[0]], {warning.category for warning in caught}


def assert_as_numpy(fn, *args):
    """The same values, dtypes, warnings and errors with duals as without, in both modes."""
    expected = outcome(lambda: fn(*args))
    for got in (
        outcome(lambda: pdl.vjp(fn, *args)[0]),
        outcome(lambda: pdl.jvp(fn, args, tuple(np.ones_like(x) for x in args))[0]),
    ):
        if isinstance(expected, type):
            assert isinstance(got, type), f"no error, but {expected}"
            assert issubclass(got, expected)
            continue
        assert not isinstance(got, type), f"{got}, but NumPy returns {expected}"
        for a, b in zip(got[0], expected[0], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-14, strict=True)
        assert got[1] == expected[1]


# --- what NumPy does ----------------------------------------------------------------------------------------

SHAPES = [(), (1,), (4,), (0,), (0, 3), (3, 0), (2, 3)]
REDUCTIONS = [np.sum, np.prod, np.mean, np.var, np.std, np.max, np.min, np.ptp, np.average, np.any, np.all]
CUMULATIVE = [np.nancumsum, np.nancumprod, np.cumsum, np.cumprod]


@pytest.mark.parametrize("f", [*REDUCTIONS, *ORDER, *NAN_FUNCTIONS, np.nansum, np.nanprod], ids=name_of)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("axis", [None, 0, -1, 1, (), (0, 1), (0, 0), 5], ids=str)
def test_shapes_and_axes(f, shape, axis):
    x = np.arange(float(np.prod(shape))).reshape(shape) + 1
    assert_as_numpy(lambda x: f(x, axis=axis), x)


@pytest.mark.parametrize("f", CUMULATIVE, ids=name_of)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("axis", [None, 0, -1, 1, 5], ids=str)
def test_shapes_and_axes_of_cumulative_functions(f, shape, axis):
    x = np.arange(float(np.prod(shape))).reshape(shape) + 1
    assert_as_numpy(lambda x: f(x, axis=axis), x)


@pytest.mark.parametrize("f", [*NAN_FUNCTIONS, np.nansum, np.nanprod, *ORDER, np.sum, np.max], ids=name_of)
@pytest.mark.parametrize("axis", [None, 0, 1, -2, (0, 1)], ids=str)
@pytest.mark.parametrize(
    "x", [HOLES, np.full((2, 3), NAN), HOLES[0], np.array(NAN)], ids=["some", "all", "1d", "0d"]
)
def test_nan_inputs(f, axis, x):
    assert_as_numpy(lambda x: f(x, axis=axis), x)
    assert_as_numpy(lambda x: f(x, axis=axis, keepdims=True), x)


@pytest.mark.parametrize("f", QUANTILES, ids=name_of)
@pytest.mark.parametrize(
    "x", [HOLES, HOLES[:1], np.zeros((0, 3)), np.zeros((2, 0)), np.array(2.0)], ids=range(5)
)
def test_quantiles(f, x):
    for options in (
        {"q": 0.5},
        {"q": [0.1, 0.5]},
        {"q": 0.2, "axis": 0},
        {"q": 0.2, "axis": 1, "keepdims": True},
        {"q": 0.2, "axis": -1, "method": "midpoint"},
        {"q": 0.5, "axis": ()},
        {"q": [[0.5, 0.3]], "axis": 0},
        {"q": 101.0},
        {"q": -0.1},
        {"q": 0.5, "axis": 3},
        {"q": 0.5, "method": "no such method"},
        {"q": 0.5, "weights": np.ones(3), "axis": 0},
        {"q": 0.5, "weights": np.ones(2), "axis": 1, "method": "inverted_cdf"},
        {"q": 0.5, "weights": -np.ones(x.shape), "method": "inverted_cdf"},
        {
            "q": 0.7,
            "weights": np.ones(x.shape) + x.shape.index(3) if 3 in x.shape else None,
            "method": "inverted_cdf",
        },
    ):
        assert_as_numpy(lambda x, o=options: f(x, **o), x)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_precision(dtype):
    x = np.array([[1.0, 5, 2], [7, 3, 4]], dtype)
    for f in QUANTILES:
        for q in (0.3, [0.3], np.float64(0.3), np.float32(0.3), np.array([0.3], np.float32)):
            out, pullback = pdl.vjp(lambda x, f=f, q=q: f(x, q), x)
            assert out.dtype == f(x, q).dtype
            np.testing.assert_allclose(out, f(x, q), rtol=3 * float(np.finfo(dtype).eps))
            assert pullback(out)[0].dtype == dtype
    for f in (*ORDER, *NAN_FUNCTIONS, np.mean, np.var):
        out, pullback = pdl.vjp(lambda x, f=f: f(x, axis=1), x)
        assert out.dtype == dtype
        assert pullback(out)[0].dtype == dtype
    masked = pdl.vjp(lambda x: np.mean(x, where=x > 2), x)[0]
    assert masked.dtype == dtype


def test_complex_numbers():
    z = np.array([1 + 2j, 3 - 1j, 2j])
    assert_as_numpy(np.median, z)
    assert_as_numpy(lambda z: np.quantile(z, 0.5), z)
    assert_as_numpy(np.sort_complex, z)


def test_infinities():
    inf = np.array([1.0, np.inf, np.inf, np.inf])
    assert_as_numpy(np.median, inf)
    assert_as_numpy(np.nanmedian, -inf)
    np.testing.assert_array_equal(pdl.grad(np.median)(np.array([1.0, 2.0, np.inf])), [0, 1, 0])
    np.testing.assert_array_equal(pdl.grad(np.median)(np.array([1.0, 2.0, 3.0, np.inf])), [0, 0.5, 0.5, 0])


# --- where the derivative goes ------------------------------------------------------------------------------


def gradient(fn, x):
    """The gradient of the sum of ``fn(x)``, the same in both modes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        g = pdl.vjp(fn, x)[1](np.ones_like(fn(x)))[0]
        units = np.eye(x.size).reshape(-1, *x.shape)
        forward = [np.sum(pdl.jvp(fn, (x,), (unit,))[1]) for unit in units]
    np.testing.assert_allclose(np.ravel(g), forward, rtol=1e-14)
    return g


@pytest.mark.parametrize("f", [*NAN_FUNCTIONS, np.nansum, np.nanprod], ids=name_of)
def test_nan_entries_and_slices_have_derivative_zero(f):
    g = gradient(lambda x: f(x, axis=1), HOLES)
    assert np.all(g[np.isnan(HOLES)] == 0)
    np.testing.assert_allclose(g[0, ::2], gradient(f, np.array([1.0, 3.0])))
    np.testing.assert_allclose(g[2], gradient(f, HOLES[2]))
    for f, q in ((np.nanquantile, 0.3), (np.nanpercentile, 30)):
        g = gradient(lambda x, f=f, q=q: f(x, q, axis=1), HOLES)
        np.testing.assert_allclose(g, [[0.7, 0, 0.3], [0, 0, 0], [0.4, 0, 0.6]], atol=1e-15)


def test_ties():
    for f in (np.median, np.nanmedian):
        g = gradient(f, np.array([1.0, 2.0, 2.0, 2.0, 5.0]))
        assert g[0] == g[4] == 0
        assert np.sum(g) == 1
    np.testing.assert_array_equal(gradient(np.nanmax, np.array([2.0, NAN, 2.0, 1.0])), [0.5, 0, 0.5, 0])
    np.testing.assert_array_equal(gradient(np.ptp, np.zeros(4)), np.zeros(4))


def test_a_nan_that_makes_the_result_nan_has_its_derivative():
    # as in np.max: the result is that element
    for f in (np.median, lambda x: np.quantile(x, 0.2), np.max):
        np.testing.assert_array_equal(gradient(f, np.array([3.0, NAN, 1.0])), [0, 1, 0])


def test_q_is_refused():
    x = np.array([1.0, 3.0, 2.0])
    for f in QUANTILES:
        with pytest.raises(NotDifferentiableError, match=r"stop_gradient\(q\)"):
            pdl.grad(lambda q, f=f: f(x, q))(0.3)
        with pytest.raises(NotDifferentiableError, match=r"stop_gradient\(q\)"):
            pdl.grad(lambda x, f=f: np.sum(f(x, [x[0] / 9, 0.5])))(x)
    out = pdl.grad(lambda x: np.quantile(x, pdl.stop_gradient(x[0] / 2)))(x)
    np.testing.assert_array_equal(out, [0, 0, 1])


def test_the_weights_of_a_quantile_are_a_step():
    x, w = np.array([1.0, 3.0, 2.0]), np.array([1.0, 1.0, 3.0])
    gx, gw = pdl.grad(lambda x, w: np.quantile(x, 0.5, weights=w, method="inverted_cdf"), argnums=(0, 1))(
        x, w
    )
    np.testing.assert_array_equal(gx, [0, 0, 1])
    np.testing.assert_array_equal(gw, 0)


def test_overwrite_input_leaves_the_input_alone():
    x = np.array([3.0, 1.0, 2.0])
    np.testing.assert_array_equal(pdl.grad(lambda x: np.median(x, overwrite_input=True) * x[0])(x), [2, 0, 3])
    np.testing.assert_array_equal(x, [3, 1, 2])


OUT = np.zeros(())
WITH_OUT = {
    "median": lambda x: np.median(x, None, OUT),
    "quantile": lambda x: np.quantile(x, 0.5, out=OUT),
    "nanquantile": lambda x: np.nanquantile(x, 0.5, None, OUT),
    "nansum": lambda x: np.nansum(x, None, None, OUT),
    "nanmean": lambda x: np.nanmean(x, out=OUT),
    "nanvar": lambda x: np.nanvar(x, None, None, OUT),
    "nanstd": lambda x: np.nanstd(x, None, None, OUT),
    "std": lambda x: np.std(x, None, None, OUT),
    "nanmax": lambda x: np.nanmax(x, None, OUT),
    "sum-where": lambda x: np.sum(x, out=OUT, where=x > 0),
    "max-initial": lambda x: np.max(x, out=OUT, initial=0.0),
    "mean-where": lambda x: np.mean(x, out=OUT, where=x > 0),
    "var-where": lambda x: np.var(x, out=OUT, where=x > 0),
}


@pytest.mark.parametrize("name", WITH_OUT)
def test_out_is_refused(name):
    with pytest.raises(NotDifferentiableError, match="out="):
        pdl.grad(WITH_OUT[name])(np.ones(3))


# --- some of the entries ------------------------------------------------------------------------------------

KEEP = np.array([True, False, True])
BAD = [NAN, np.inf, -np.inf]
MASKED = {
    "sum": lambda x: np.sum(x, where=KEEP),
    "prod": lambda x: np.prod(x, where=KEEP),
    "max": lambda x: np.max(x, where=KEEP, initial=0.0),
    "min": lambda x: np.min(x, where=KEEP, initial=9.0),
    "mean": lambda x: np.mean(x, where=KEEP),
    "var": lambda x: np.var(x, where=KEEP),
    "std": lambda x: np.std(x, where=KEEP, ddof=1),
    "var-mean": lambda x: np.var(x, where=KEEP, mean=np.ones(1)),
}


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("name", MASKED)
def test_what_is_left_out_never_gets_through(name, bad):
    fn, good = MASKED[name], np.array([2.0, 5.0, 4.0])
    x = np.where(KEEP, good, bad)
    assert_as_numpy(fn, x)
    expected = gradient(fn, good)
    assert expected[1] == 0
    np.testing.assert_array_equal(gradient(fn, x), expected)
    hessian = pdl.jacobian(pdl.grad(fn))
    np.testing.assert_array_equal(hessian(x), hessian(good))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_nothing_left():
    x, none = np.array([1.0, 2.0]), np.zeros(2, bool)
    for fn in (
        lambda x: np.sum(x, where=none),
        lambda x: np.prod(x, where=none, initial=3.0),
        lambda x: np.max(x, where=none, initial=-4.0),
        lambda x: np.mean(x, where=none),
    ):
        assert_as_numpy(fn, x)
        np.testing.assert_array_equal(gradient(fn, x), 0)
    assert_as_numpy(lambda x: np.mean(x, where=none), x)
    assert_as_numpy(lambda x: np.var(x, where=none), x)


def test_the_initial_value():
    x = np.array([1.0, 4.0, 2.0])
    g = pdl.grad(lambda x, b: np.sum(x, initial=b), argnums=(0, 1))(x, 2.0)
    np.testing.assert_array_equal(g[0], 1)
    assert g[1] == 1
    g = pdl.grad(lambda x, b: np.max(x, initial=b), argnums=(0, 1))(x, 5.0)
    np.testing.assert_array_equal(g[0], 0)
    assert g[1] == 1
    np.testing.assert_array_equal(gradient(lambda x: np.max(x, initial=4.0), x), [0, 0.5, 0])
    assert pdl.vjp(lambda x: np.sum(x, initial=2.5), x.astype(np.float32))[0].dtype == np.float32
    for f in (np.sum, np.max):
        with pytest.raises((ValueError, TypeError)):
            f(x, initial=np.ones(2))
        with pytest.raises(ValueError, match="initial"):
            pdl.grad(lambda x, f=f: np.sum(f(x, initial=np.ones(2))))(x)


def test_errors_of_reductions_are_numpys():
    x = np.array([[1.0, 2.0], [3.0, 4.0]])
    for fn in (
        lambda x: np.max(x, where=x > 1),
        lambda x: np.min(x, where=x > 1),
        lambda x: np.nanmax(x, where=x > 1),
        lambda x: np.sum(x, where=np.ones(3, bool)),
        lambda x: np.mean(x, where=np.ones((3, 2), bool)),
        lambda x: np.var(x, ddof=1, correction=1),
        lambda x: np.var(x, axis=2),
        lambda x: np.average(x, weights=np.ones(3)),
        lambda x: np.average(x, axis=0, weights=np.ones(3)),
        lambda x: np.average(x, axis=0, weights=np.zeros(2)),
        lambda x: np.average(x, axis=3, weights=np.ones(2)),
        lambda x: np.nanmean(x, dtype=int),
        lambda x: np.median(x, axis=2),
        lambda x: np.max(x[:0]),
        lambda x: np.nanmax(x[:0]),
    ):
        assert isinstance(outcome(lambda fn=fn: fn(x)), type)
        assert_as_numpy(fn, x)


def test_too_few_degrees_of_freedom():
    x = np.array([[1.0, 2.0], [3.0, 3.0]])
    for f in (np.var, np.std, np.nanvar, np.nanstd):
        for ddof in (2, 3):
            expected, _ = outcome(lambda f=f, d=ddof: f(x, axis=1, ddof=d))
            got, raised = outcome(lambda f=f, d=ddof: pdl.vjp(lambda x: f(x, axis=1, ddof=d), x)[0])
            np.testing.assert_array_equal(got[0], expected[0])
            assert raised == {RuntimeWarning}


def test_the_dtype_of_a_reduction():
    x = np.array([1.5, 2.5, 3.7])
    for f in (np.sum, np.prod, np.mean, np.cumsum, np.cumprod, np.var, np.nansum, np.nancumsum):
        assert_as_numpy(lambda x, f=f: f(x, dtype=np.float32).astype(np.float64), x.astype(np.float16))
        assert_as_numpy(lambda x, f=f: f(x, dtype=complex), x)
        seen = []
        pdl.vjp(lambda x, f=f, seen=seen: seen.append(f(x, dtype=int)) or x, x)
        assert not isinstance(seen[0], Dual)  # a step
        np.testing.assert_array_equal(seen[0], f(x, dtype=int))
    for f in (np.sum, np.mean, np.var):
        assert_as_numpy(lambda x, f=f: f(x, dtype=int, where=x > 2) * x, x)


def test_average_returns_the_sum_of_the_weights():
    x, w = np.arange(6.0).reshape(2, 3), np.array([1.0, 2.0, 4.0])
    assert_as_numpy(lambda x: np.average(x, 1, w, returned=True), x)
    assert_as_numpy(lambda x: np.average(x, 1, returned=True), x)
    assert_as_numpy(lambda w: np.average(x, 1, w, True, keepdims=True), w)
    assert_as_numpy(lambda x: np.average(x, (1, 0), np.ones((3, 2)), True), x)
    assert_as_numpy(lambda w: np.average(np.arange(3), weights=w), w.astype(np.float32))


# --- covariances --------------------------------------------------------------------------------------------


def test_covariances_as_numpy():
    x = np.array([[1.0, 2.0, 4.0, 3.0], [2.0, 0.0, 1.0, 5.0]])
    for options in (
        {"ddof": 4},
        {"ddof": 9},
        {"ddof": 0.5},
        {"fweights": np.ones(4) * 0.5},
        {"fweights": np.array([1, 1, 1, -1])},
        {"fweights": np.ones(3, int)},
        {"fweights": np.ones((4, 1), int)},
        {"aweights": -np.ones(4)},
        {"aweights": np.ones(5)},
        {"aweights": np.zeros(4)},
        {"fweights": [1, 2, 1, 1], "aweights": [0.5, 1, 1, 2]},
        {"y": [1.0, 2.0, 3.0, 5.0]},
        {"y": np.ones((2, 2, 2))},
        {"y": np.ones(3)},
    ):
        assert_as_numpy(lambda x, o=options: np.cov(x, **o), x)
    assert_as_numpy(np.cov, np.ones((2, 2, 2)))
    assert_as_numpy(np.cov, np.ones((0, 3)))
    for f in (np.cov, np.corrcoef):
        assert_as_numpy(f, x[0, :1])
        assert_as_numpy(f, np.ones((2, 3)))
        assert_as_numpy(lambda x, f=f: f(x[:, :2], rowvar=False), x)
        single = pdl.vjp(lambda x, f=f: f(x, dtype=np.float32), x)[0]
        np.testing.assert_allclose(single, f(x, dtype=np.float32), rtol=1e-5, strict=True)
    with pytest.raises(NotDifferentiableError, match="fweights"):
        pdl.grad(lambda w: np.cov(x[0], fweights=w))(np.ones(4))


def test_a_correlation_of_one_is_its_maximum():
    x = np.array([1.0, 2.0, 4.0])
    g = pdl.grad(lambda x: np.corrcoef(x, 2 * np.array([1.0, 2.0, 4.0]) + 1)[0, 1])(x)
    np.testing.assert_allclose(g, 0, atol=1e-15)


# --- histograms and sets ------------------------------------------------------------------------------------


def test_counts_are_constant():
    x, edges = np.array([0.1, 0.4, 0.5, 0.9]), np.array([0.0, 0.5, 1.0])
    for fn in (
        lambda x: np.histogram(x, edges)[0],
        lambda x: np.histogram(x, 3)[0],
        lambda x: np.histogram(x, edges, weights=np.ones(4), density=True)[0],
        lambda x: np.histogram2d(x, x, [edges, edges])[0],
        lambda x: np.histogramdd(np.stack([x, x], 1), 2, [(0, 1), (0, 1)], density=True)[0],
        lambda x: np.histogram_bin_edges(x, edges),
        lambda x: np.histogram_bin_edges(x, 3, (0, 1)),
    ):
        seen = []
        pdl.vjp(lambda x, fn=fn, seen=seen: seen.append(fn(x)) or x, x)
        assert not isinstance(seen[0], Dual)
        np.testing.assert_array_equal(seen[0], fn(x))


def test_equal_bins_follow_the_extremes_of_the_data():
    x = np.array([0.3, -1.0, 0.5, 3.0])
    np.testing.assert_allclose(
        pdl.jacobian(lambda x: np.histogram_bin_edges(x, 2))(x),
        [[0, 1, 0, 0], [0, 0.5, 0, 0.5], [0, 0, 0, 1]],
    )
    for f in (np.histogram, np.histogram_bin_edges):
        assert_as_numpy(lambda x, f=f: f(x, 3), np.ones(4))
        assert_as_numpy(lambda x, f=f: f(x, 3), np.zeros(0))
        assert_as_numpy(lambda x, f=f: f(x, 3), np.array([1.0, NAN]))
        assert_as_numpy(lambda x, f=f: f(x, 3, (0, 2)), np.array([1.0, NAN]))
        assert_as_numpy(lambda x, f=f: f(x, 0), x)
        assert_as_numpy(lambda x, f=f: f(x, [2.0, 1.0]), x)
        assert_as_numpy(lambda x, f=f: f(x, "no rule"), x)


def test_errors_of_histograms_are_numpys():
    x, w = np.linspace(0, 1, 4), np.ones(4)
    for fn in (
        lambda w: np.histogram(x, weights=w[:3]),
        lambda w: np.histogram(x, "auto", weights=w),
        lambda w: np.histogram2d(x, x[:3], weights=w),
        lambda w: np.histogram2d(w, w, [3]),
        lambda w: np.histogramdd([x, x], [3, 3, 3], weights=w),
        lambda w: np.histogramdd([x, x], 3, weights=w + 1j),
        lambda w: np.bincount([-1, 0, 1, 2], w),
        lambda w: np.bincount([0, 1], w),
        lambda w: np.bincount([0, 1, 2, 3], w + 1j),
    ):
        assert isinstance(outcome(lambda fn=fn: fn(w)), type)
        assert_as_numpy(fn, w)
    with pytest.raises(TypeError):
        pdl.vjp(np.bincount, w)


def test_of_equal_elements_the_first():
    x = np.array([2.0, 1.0, 2.0, 1.0, NAN])
    np.testing.assert_array_equal(pdl.jacobian(np.unique)(x), np.eye(5)[[1, 0, 4]])
    np.testing.assert_array_equal(pdl.jacobian(lambda x: np.union1d(x[:2], x[2:4]))(x), np.eye(5)[[1, 0]])
    np.testing.assert_array_equal(pdl.jacobian(lambda x: np.intersect1d(x[:2], x[2:4]))(x), np.eye(5)[[1, 0]])
    rows = np.array([[1.0, 2.0], [0.0, 5.0], [1.0, 2.0]])
    np.testing.assert_array_equal(gradient(lambda x: np.unique(x, axis=0), rows), [[1, 1], [1, 1], [0, 0]])


@pytest.mark.parametrize("f", [np.unique_all, np.unique_counts, np.unique_inverse], ids=name_of)
def test_the_parts_of_unique_have_names(f):
    x = np.array([[2.0, 1.0], [2.0, NAN]])
    seen = []
    pdl.vjp(lambda x: seen.append(f(x)) or x, x)
    assert isinstance(seen[0].values, Dual)
    assert type(seen[0]) is type(f(x))
    np.testing.assert_array_equal(seen[0].values.value, f(x).values)
    for a, b in zip(seen[0][1:], f(x)[1:], strict=True):
        np.testing.assert_array_equal(a, b)


def test_unique_as_numpy():
    x = np.array([[2.0, NAN, 1.0], [NAN, 2.0, 1.0]])
    for options in ({}, {"equal_nan": False}, {"axis": 0}, {"axis": 2}, {"return_inverse": True, "axis": 1}):
        assert_as_numpy(lambda x, o=options: np.unique(x, **o), x)
    assert_as_numpy(np.unique_values, x)
    for f in (np.unique, np.unique_values, np.sort_complex):
        assert_as_numpy(f, np.zeros(0))
    for f in (np.union1d, np.intersect1d, np.setxor1d, np.setdiff1d):
        assert_as_numpy(lambda x, f=f: f(x, x[:0]), x)
        assert_as_numpy(lambda x, f=f: f(x, [1, 7]), x)
        assert_as_numpy(lambda x, f=f: f([1.0, 7.0, 5.0], x), x)
