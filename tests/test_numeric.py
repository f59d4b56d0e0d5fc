"""Kinks, errors and odd arguments of the functions in `paradual.rules.numeric`, polynomials and shaping."""

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

import paradual as pdl
from paradual.errors import NotDifferentiableError
from paradual.rules.numeric import bessel_i
from paradual.trees import flatten

X = np.array([[0.3, -1.2, 2.5], [1.4, 0.6, -0.7]])
V = X[0]
INF, NAN = np.inf, np.nan


def value_of(fn, *args):
    return pdl.vjp(fn, *args)[0]


def assert_same(fn, *args):
    """The value of a call on duals is NumPy's own, in every element, shape and dtype."""
    for a, b in zip(flatten(value_of(fn, *args))[0], flatten(fn(*args))[0], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-13)
        assert np.shape(a) == np.shape(b)
        assert np.asarray(a).dtype == np.asarray(b).dtype


# --- kinks ------------------------------------------------------------------------------------------------

XP, FP = np.array([0.0, 1.0, 3.0]), np.array([1.0, 3.0, 4.0])
KINKS = {  # {id: (function, point, gradient of the sum of its result)}
    "interp-knots": (lambda x: np.interp(x, XP, FP), XP, [2.0, 0.5, 0.0]),
    "interp-outside": (lambda x: np.interp(x, XP, FP), [-1.0, 3.5, 0.5], [0.0, 0.0, 2.0]),
    "interp-ends-given": (lambda x: np.interp(x, XP, FP, left=9.0, right=NAN), [-1.0, 3.0, 0.5], [0, 0, 2]),
    "interp-step": (lambda x: np.interp(x, [0.0, 1, 1, 2], [0.0, 1, 5, 7]), [0.5, 1.0, 1.5], [1.0, 2.0, 2.0]),
    "interp-step-values": (
        lambda y: np.interp([0.5, 1.0, 1.5], [0.0, 1, 1, 2], y),
        [0.0, 1, 5, 7],
        [0.5, 0.5, 1.5, 0.5],
    ),
    "interp-step-at-the-end": (lambda x: np.interp(x, [0.0, 1, 1], [0.0, 1, 5]), [1.0, 2.0], [0.0, 0.0]),
    "interp-one-knot": (lambda x: np.interp(x, [1.0], [2.0]), [0.0, 1.0, 2.0], [0.0, 0.0, 0.0]),
    "modf-integers": (lambda x: np.modf(x)[0], [1.0, -2.0, 0.0], [1.0, 1.0, 1.0]),
    "modf-whole-part": (lambda x: np.modf(x)[1] * x, [1.5, -2.5], [1.0, -2.0]),
    "frexp-zero": (lambda x: np.frexp(x)[0], [0.0, 6.0], [1.0, 0.125]),
    "i0-zero": (np.i0, [0.0], [0.0]),
    "trim_zeros": (np.trim_zeros, [0.0, 2.0, 0.0, 3.0, 0.0], [0.0, 1.0, 1.0, 1.0, 0.0]),
    "piecewise-masked": (
        lambda x: np.piecewise(x, [x > 0], [np.sqrt, lambda x: 2 * x]),
        [0.0, 4.0],
        [2.0, 0.25],
    ),
    "remainder-quotient-rounded": (lambda y: np.remainder(1.0, y), [0.1], [-9.0]),
    "fmod-quotient-rounded": (lambda y: np.fmod(1.0, y), [0.1], [-9.0]),
    "arctan2-huge": (lambda x: np.arctan2(x, 1e200), [1e200], [0.5e-200]),
    "arctan2-tiny": (lambda x: np.arctan2(x, 1e-200), [1e-200], [0.5e200]),
    "pad-maximum-ties": (lambda x: np.pad(x, (1, 0), "maximum"), [2.0, 2.0], [1.5, 1.5]),
    "unwrap-jump": (np.unwrap, [0.0, 3.0, 7.0, 14.0], [1.0, 1.0, 1.0, 1.0]),
}


@pytest.mark.parametrize("name", KINKS)
def test_kink(name):
    fn, x, expected = KINKS[name]
    x = np.asarray(x, float)
    np.testing.assert_allclose(pdl.grad(lambda x: np.sum(fn(x)))(x), expected, rtol=1e-14)
    columns = [np.sum(pdl.jvp(fn, (x,), (unit,))[1]) for unit in np.eye(x.size)]
    np.testing.assert_allclose(columns, expected, rtol=1e-14)


def test_interpolation_of_nan_is_nan():
    assert_same(lambda x: np.interp(x, XP, FP), np.array([NAN, 0.5, INF, -INF]))
    g = pdl.grad(lambda x: np.nansum(np.interp(x, XP, FP)))(np.array([NAN, 0.5]))
    assert g[1] == 2.0


def derivative(f, order):
    for _ in range(order):
        f = pdl.grad(f)
    return f


def test_high_derivatives_at_zero():
    # sinc = sum of (-1)^k (pi x)^2k / (2k+1)!, I0 = sum of (x/2)^2k / k!^2
    for order, expected in ((1, 0), (2, -(np.pi**2) / 3), (3, 0), (4, np.pi**4 / 5)):
        assert derivative(np.sinc, order)(0.0) == pytest.approx(expected, rel=1e-13)
    for order, expected in ((1, 0), (2, 1 / 2), (3, 0), (4, 3 / 8)):
        assert derivative(np.i0, order)(0.0) == pytest.approx(expected, rel=1e-13)


def test_bessel_functions():
    special = pytest.importorskip("scipy.special")
    x = np.concatenate([np.linspace(-700, 700, 301), np.linspace(-30, 30, 301), [0.0, 1e-8]])
    for order in range(-2, 6):
        np.testing.assert_allclose(bessel_i(x, order), special.iv(order, x), rtol=1e-13)
    np.testing.assert_allclose(bessel_i(np.float32(3), 1), special.iv(1, 3.0), rtol=1e-6)
    np.testing.assert_allclose(pdl.grad(np.i0)(40.0), special.iv(1, 40.0), rtol=1e-13)


@pytest.mark.parametrize("f", [np.arcsin, np.arccos, np.arctanh, np.arccosh, np.sqrt, np.log, np.log1p])
@pytest.mark.parametrize("side", [1.0, -1.0])
def test_complex_derivatives_on_a_branch_cut(f, side):
    # the derivative continues that of the side which the sign of the imaginary part names
    x = np.array([complex(-1.7, side * 0.0), complex(2.3, side * 0.0)])
    near = x + 1e-9j * side
    g = pdl.vjp(f, x)[1](np.ones(2, complex))[0]
    expected = pdl.vjp(f, near)[1](np.ones(2, complex))[0]
    np.testing.assert_allclose(g, expected, rtol=1e-6)


# --- values with odd arguments ----------------------------------------------------------------------------

VALUES = {
    "linspace-integers": (lambda a: np.linspace(a, 7.0, 4, dtype=int), 0.5),
    "linspace-none": (lambda a: np.linspace(a, 7.0, 0), 0.5),
    "linspace-one-step": (lambda a: np.linspace(a, 7.0, 1, retstep=True), 0.5),
    "linspace-equal": (lambda a: np.linspace(a, a, 5), 0.5),
    "linspace-ends-exactly": (lambda a: np.linspace(0.1, a, 4)[-1], 0.7),
    "geomspace-integers": (lambda a: np.geomspace(a, 256, 9, dtype=int), 1.0),
    "geomspace-mixed": (lambda a: np.geomspace(a, 1j, 5), -1.0),
    "logspace-dtype": (lambda a: np.logspace(a, 2, 3, dtype=np.float32), 0.5),
    "trim_zeros-all": (lambda x: np.trim_zeros(x), np.zeros(3)),
    "trim_zeros-all-front": (lambda x: np.trim_zeros(x, "f"), np.zeros(3)),
    "trim_zeros-all-back": (lambda x: np.trim_zeros(x, "b"), np.zeros(3)),
    "modf": (np.modf, np.array([INF, -INF, -0.5, NAN])),
    "frexp": (np.frexp, np.array([INF, -0.0, NAN])),
    "divmod": (lambda x: np.divmod(x, 0.7), V),
    "i0-2d": (np.i0, X),
    "resize-empty": (lambda x: np.resize(x, (2, 2)), np.zeros(0)),
    "meshgrid-matrix": (np.meshgrid, X),
    "gradient-integers": (lambda h: np.gradient([1, 4, 9, 16], h), 0.5),
    "gradient-no-axes": (lambda x: np.gradient(x, axis=()), X),
    "clip-nan": (lambda x: np.clip(x, NAN, 1.0), V),
    "pad-nan": (lambda x: np.pad(x, 1, constant_values=NAN), V),
    "unwrap-complexless": (lambda x: np.unwrap(x, axis=0), X * 9),
    "poly-empty": (np.poly, np.zeros(0)),
    "roots-zeros": (np.roots, np.zeros(3)),
    "roots-constant": (np.roots, np.ones(1)),
    "polydiv-zero": (lambda u: np.polydiv(u, [1.0, 2.0]), np.zeros(3)),
    "vander-empty": (np.vander, np.zeros(0)),
}


@pytest.mark.parametrize("name", VALUES)
def test_value(name):
    fn, x = VALUES[name]
    assert_same(fn, x)


def test_windows_are_a_read_only_view():
    def fn(x):
        windows = sliding_window_view(x, 2)
        assert not windows.value.flags.writeable
        assert np.shares_memory(windows.value, x.value)
        diagonal = np.diagonal(np.reshape(x, (2, 2)))
        assert not diagonal.value.flags.writeable
        assert np.tile(x, 1).value.flags.writeable
        assert not np.shares_memory(np.tile(x, 1).value, x.value)
        return np.sum(windows)

    np.testing.assert_array_equal(pdl.grad(fn)(np.ones(4)), [1, 2, 2, 1])


def test_repeated_roots_have_no_finite_derivative():
    with np.errstate(all="ignore"):
        g = pdl.grad(lambda p: np.sum(np.abs(np.roots(p)) ** 2))(np.array([1.0, 0.0, 0.0, 0.0]))
    assert not np.isfinite(g).all()
    # while the polynomial of a matrix with repeated eigenvalues is smooth: its slope is minus the adjugate
    g = pdl.grad(lambda a: np.poly(a)[-1])(np.diag([2.0, 2.0]))
    np.testing.assert_allclose(g, np.diag([2.0, 2.0]))


# --- constants ----------------------------------------------------------------------------------------------


def test_bits_and_text_are_refused_by_numpy_itself():
    for f in (np.bitwise_and, np.left_shift, np.gcd, np.lcm, np.strings.multiply):
        with pytest.raises(TypeError) as caught:
            pdl.grad(lambda x, f=f: np.sum(f(x, x)))(V)
        assert not isinstance(caught.value, NotDifferentiableError)
    for f in (np.invert, np.bitwise_count, np.isnat, np.packbits, np.strings.str_len, np.strings.upper):
        with pytest.raises(TypeError) as caught:
            pdl.grad(lambda x, f=f: np.sum(f(x)))(V)
        assert not isinstance(caught.value, NotDifferentiableError)


def test_indices_are_constants():
    def fn(x):
        assert np.diag_indices_from(np.outer(x, x))[0].tolist() == [0, 1, 2]
        assert np.tril_indices_from(np.outer(x, x), -1)[0].tolist() == [1, 2, 2]
        assert np.einsum_path("ij,jk", np.outer(x, x), np.outer(x, x))[0][0] == "einsum_path"
        return np.sum(x)

    pdl.grad(fn)(V)


# --- errors -------------------------------------------------------------------------------------------------

REFUSED = {
    "poly1d": (lambda x: np.polyadd(np.poly1d([1.0, 2.0]), x), "coeffs"),
    "poly1d-argument": (lambda x: np.polyval(x, np.poly1d([1.0, 2.0])), "coeffs"),
    "pad-callable": (lambda x: np.pad(x, 1, lambda *args: None), "concatenate"),
    "pad-empty": (lambda x: np.pad(x, 1, "empty"), "concatenate"),
    "pad-odd-far": (lambda x: np.pad(x, 5, "reflect", reflect_type="odd"), "two calls"),
    "windows-writeable": (lambda x: sliding_window_view(x, 2, writeable=True), "leave out"),
    "unwrap-period": (lambda x: np.unwrap(x, period=x[0]), "period"),
    "busday": (lambda x: np.is_busday(x), "stop_gradient"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_use_without_a_derivative_is_refused(name):
    fn, match = REFUSED[name]
    with pytest.raises(NotDifferentiableError, match=match):
        pdl.grad(lambda x: np.sum(fn(x)))(V)


WRONG = [  # calls that NumPy refuses
    (np.squeeze, X, 0),
    (np.expand_dims, X, 5),
    (np.rollaxis, X, 3),
    (np.rollaxis, X, 0, 4),
    (np.split, X, 2, 1),
    (np.split, X, 0),
    (np.array_split, X, 0),
    (np.hsplit, np.float64(2), 2),
    (np.vsplit, V, 2),
    (np.dsplit, X, 2),
    (np.delete, X, 7, 0),
    (np.delete, X, 1, 7),
    (np.repeat, X, 2, 5),
    (np.repeat, X, [1, 2, 3], 0),
    (np.pad, X, 1.5),
    (np.pad, X, -1),
    (np.pad, X, (1, 2, 3)),
    (np.pad, X, 1, "nowhere"),
    (np.diagonal, V),
    (np.diagonal, X, 0, 1, 1),
    (np.block, [X, [X]]),
    (np.block, [X, (X,)]),
    (np.block, [X, []]),
    (np.stack, [X, V]),
    (np.tile, X, -1),
    (np.insert, X, 9, 1.0, 0),
    (np.insert, X, 0, 1.0, 4),
    (np.insert, X, [[0]], 1.0, 0),
    (np.resize, X, -1),
    (np.gradient, X, 1.0, 2.0, 3.0),
    (np.gradient, X[:1]),
    (np.gradient, V, np.ones(2)),
    (np.gradient, V, np.ones((3, 3))),
    (np.interp, X, [1.0, 2.0], [1.0]),
    (np.interp, X, [], []),
    (np.interp, X, XP, FP, None, None, 0),
    (np.trim_zeros, V, "q"),
    (np.ix_, X),
    (np.convolve, X, X),
    (np.convolve, V, []),
    (np.convolve, V, V, "some"),
    (np.correlate, X, X),
    (np.correlate, V, []),
    (np.linspace, X, 1.0, -1),
    (np.linspace, X, 1.0, 2.5),
    (np.geomspace, X, 0.0),
    (np.piecewise, X, [X > 0], [1, 2, 3]),
    (np.apply_along_axis, np.sum, 5, X),
    (np.apply_along_axis, np.sum, 1, np.zeros((0, 2))),
    (np.apply_over_axes, np.sum, X, 5),
    (np.vander, X),
    (np.roots, X),
    (np.poly, X),
    (np.polyfit, V, X, 1),
    (np.polyfit, V, V, -1),
    (np.polyder, V, -1),
    (np.polyint, V, -1),
    (np.polyint, V, 3, [1.0, 2.0]),
    (np.clip, V, 1.0),
    (np.i0, V + 1j),
    (np.unwrap, X, None, 7),
    (sliding_window_view, X, (9, 9)),
]


@pytest.mark.parametrize("call", WRONG, ids=[f"{call[0].__name__}-{k}" for k, call in enumerate(WRONG)])
def test_what_numpy_refuses_is_refused_alike(call):
    f, *args = call

    def is_array(arg):
        return isinstance(arg, np.ndarray | np.generic) and arg.dtype.kind in "fc"

    def nested(part, duals):
        if isinstance(part, list | tuple):
            return type(part)(nested(p, duals) for p in part)
        return next(duals) if is_array(part) else part

    def arrays(part):
        return [a for p in part for a in arrays(p)] if isinstance(part, list | tuple) else [part]

    with pytest.raises(Exception) as expected:  # noqa: PT011
        f(*args)
    with pytest.raises(type(expected.value)):
        pdl.vjp(lambda *duals: f(*nested(args, iter(duals))), *filter(is_array, arrays(args)))
