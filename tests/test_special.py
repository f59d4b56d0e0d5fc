"""scipy.special: every ufunc decided, limits and kinks, refusals; and `paradual.scipy.special`."""

import hypothesis.extra.numpy as arrays_of
import hypothesis.strategies as st
import numpy as np
import pytest
import scipy.special as sp
from hypothesis import given, settings

import paradual as pdl
from paradual.errors import NotDifferentiableError, ParadualError
from paradual.rules.registry import kind
from paradual.scipy import special
from paradual.testing import check_grads

INF = np.inf


def total(f):
    return lambda x: np.sum(f(x))


# --- the table --------------------------------------------------------------------------------------------


def test_every_ufunc_is_decided():
    ufuncs = {f for f in vars(sp).values() if isinstance(f, np.ufunc)}
    assert not {f.__name__ for f in ufuncs if kind(f) is None}
    assert sum(kind(f) in ("elementwise", "general", "linear") for f in ufuncs) >= 180


LIMITS = {  # {id: (function, point, derivative)}
    "xlogy": (lambda y: sp.xlogy(0.0, y), 0.0, 0.0),
    "xlog1py": (lambda y: sp.xlog1py(0.0, y), -1.0, 0.0),
    "rel_entr": (lambda y: sp.rel_entr(0.0, y), 0.0, 0.0),
    "kl_div": (lambda y: sp.kl_div(0.0, y), 2.0, 1.0),
    "entr": (sp.entr, 0.0, INF),
    "erfinv": (sp.erfinv, 1.0, INF),
    "erfcinv": (sp.erfcinv, 2.0, -INF),
    "exprel": (sp.exprel, 0.0, 0.5),
    "j1": (sp.j1, 0.0, 0.5),
    "jv": (lambda z: sp.jv(2, z), 0.0, 0.0),
    "i1": (sp.i1, 0.0, 0.5),
    "sici": (lambda x: sp.sici(x)[0], 0.0, 1.0),
    "shichi": (lambda x: sp.shichi(x)[0], 0.0, 1.0),
    "spence": (sp.spence, 1.0, -1.0),
    "rgamma": (sp.rgamma, -2.0, 2.0),
    "log_ndtr-left": (sp.log_ndtr, -1e4, 1e4),
    "log_ndtr-right": (sp.log_ndtr, 50.0, 0.0),
    "expit-right": (sp.expit, 50.0, np.exp(-50.0)),
    "boxcox": (lambda m: sp.boxcox(2.0, m), 0.0, np.log(2) ** 2 / 2),
    "inv_boxcox": (lambda m: sp.inv_boxcox(2.0, m), 0.0, -2 * np.exp(2.0)),
    "gammainc": (lambda x: sp.gammainc(1.0, x), 0.0, 1.0),
    "legendre-end": (lambda x: sp.eval_legendre(3, x), 1.0, 6.0),
    "ellipk": (sp.ellipk, 0.0, np.pi / 8),
    "ellipe": (sp.ellipe, 0.0, -np.pi / 8),
    "agm": (lambda a: sp.agm(a, 2.0), 2.0, 0.5),
    "beip": (sp.beip, 0.0, 0.5),
    "huber": (lambda r: sp.huber(1.0, r), -3.0, -1.0),
    "pseudo_huber": (lambda r: sp.pseudo_huber(1.0, r), 0.0, 0.0),
    "lambertw": (lambda x: np.real(sp.lambertw(x)), 0.0, 1.0),
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", LIMITS)
def test_limits(name):
    f, x, expected = LIMITS[name]
    np.testing.assert_allclose(pdl.grad(f)(x), expected, rtol=1e-7)
    np.testing.assert_allclose(pdl.grad(total(f))(np.array([x])), [expected], rtol=1e-7)
    np.testing.assert_allclose(pdl.jvp(f, (x,), (1.0,))[1], expected, rtol=1e-7)


@pytest.mark.parametrize(
    "f", [sp.exprel, sp.j1, sp.i1, sp.spence, sp.ellipk, sp.ellipe, sp.log_ndtr, sp.beip]
)
def test_second_derivatives_at_removable_points(f):
    x = 1.0 if f is sp.spence else 0.0
    check_grads(f, (np.array([x]),))


VOIGT = {  # {(x, sigma, gamma): derivatives in x, sigma and gamma}, by mpmath with 40 digits
    (2.0, 0.1, 0.5): (-0.035690712490858596, 0.004970483499713581, 0.06638020814235085),
    (0.7, 0.001, 0.6): (-0.37007694539662034, 0.0006903926594734699, 0.05727249127372073),
    (5.0, 0.4, 0.3): (-0.0015774657893397955, 0.0003868446463772201, 0.012839045797363237),
    (3.0, 0.0, 0.5): (-0.011160609595925458, 0.0, 0.03255177798811592),
    (-40.0, 3.0, 0.0): (1.4711343837009794e-39, 1.9504790037235483e-38, 0.00020239919258032639),
}


@pytest.mark.parametrize("point", VOIGT, ids=str)
def test_voigt_profile_near_its_limits(point):
    got = pdl.grad(sp.voigt_profile, (0, 1, 2))(*point)
    arrays = pdl.grad(lambda *a: np.sum(sp.voigt_profile(*a)), (0, 1, 2))(*(np.full(2, x) for x in point))
    for a, b, expected in zip(got, arrays, VOIGT[point], strict=True):
        np.testing.assert_allclose([a, *b], expected, rtol=1e-10)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_quotient_of_zeros_has_no_second_derivative():
    mixed = pdl.jacobian(pdl.grad(lambda y, x: sp.xlogy(x, y)), 1)(0.0, 0.0)
    assert not np.isfinite(mixed)


PARAMETERS = {
    "jv": lambda v: sp.jv(v, 1.0),
    "kn": lambda n: sp.kn(n, 1.0),
    "gammainc": lambda a: sp.gammainc(a, 1.0),
    "betainc": lambda a: sp.betainc(a, 2.0, 0.5),
    "hyp2f1": lambda c: sp.hyp2f1(1.0, 2.0, c, 0.5),
    "zeta": lambda s: sp.zeta(s, 2.0),
    "riemann": lambda s: sp.zeta(s),
    "pbdv": lambda v: sp.pbdv(v, 1.0)[0],
    "mathieu": lambda q: sp.mathieu_cem(2, q, 1.0)[0],
    "both": lambda x: sp.jv(x, x),
    "refused": lambda x: sp.smirnov(3, x),
    "eigenvalue": lambda q: sp.mathieu_a(2, q),
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_unknown_derivatives_are_refused_when_called(name):
    f = PARAMETERS[name]
    reached = []

    def program(x):
        y = f(x)
        reached.append(y)
        return y

    for attempt in (
        lambda: pdl.grad(program)(1.5),
        lambda: pdl.jvp(program, (1.5,), (1.0,)),
        lambda: pdl.grad(lambda x: pdl.grad(lambda z: sp.jv(x, z))(1.0))(1.5),
    ):
        with pytest.raises(NotDifferentiableError, match=r"stop_gradient|custom_vjp|use "):
            attempt()
    assert not reached


def test_unknown_derivatives_name_the_argument_and_the_cure():
    with pytest.raises(NotDifferentiableError, match=r"jv is not differentiated .* 'v'.*stop_gradient\(v\)"):
        pdl.grad(lambda v: sp.jv(v, 1.0))(1.5)
    got = pdl.grad(lambda x: sp.jv(pdl.stop_gradient(x), x))(1.5)
    np.testing.assert_allclose(got, (sp.jv(0.5, 1.5) - sp.jv(2.5, 1.5)) / 2)


@pytest.mark.parametrize("f", [sp.jve, sp.yve, sp.ive])
def test_scaled_functions_of_complex_numbers_are_refused(f):
    with pytest.raises(NotDifferentiableError, match="not holomorphic"):
        pdl.grad(lambda z: np.real(f(1, z)))(1.0 + 1.0j)
    with pytest.raises(NotDifferentiableError, match="not holomorphic"):
        pdl.jvp(lambda z: f(1, z), (1.0 + 1.0j,), (1.0 + 0j,))


@pytest.mark.parametrize("f", [sp.erf, lambda x, **k: sp.jv(1, x, **k), lambda x, **k: sp.xlogy(x, x, **k)])
def test_out_is_loud_and_where_is_a_mask(f):
    x, where = np.array([1.0, 2.0]), np.array([True, False])
    with pytest.raises(ParadualError):
        pdl.grad(lambda x: np.sum(f(x, out=np.zeros(2))))(x)
    (got,) = pdl.vjp(lambda x: f(x, where=where), x)[1](np.ones(2))
    np.testing.assert_allclose(got, [pdl.grad(f)(1.0), 0.0])


@pytest.mark.parametrize("name", ["logsumexp", "softmax", "polygamma", "comb", "spherical_jn", "diric"])
def test_scipys_own_python_functions_are_loud(name):
    args = {"polygamma": (1,), "spherical_jn": (1,)}.get(name, ())
    more = {"comb": (2,), "diric": (3,)}.get(name, ())
    with pytest.raises((TypeError, ValueError)):
        pdl.grad(lambda x: np.sum(getattr(sp, name)(*args, x, *more)))(np.array([1.5, 2.5]))


# --- paradual.scipy.special -------------------------------------------------------------------------------

RNG = np.random.default_rng(5)
A, B = RNG.standard_normal((2, 3)), np.array([[0.5, -1.0, 2.0], [3.0, 1.0, 0.5]])
Z = A + 1j * RNG.standard_normal((2, 3))

CALLS = {
    "logsumexp": (special.logsumexp, (A,)),
    "logsumexp-axis": (lambda a: special.logsumexp(a, axis=1), (A,)),
    "logsumexp-axes": (lambda a: special.logsumexp(a, axis=(-1, 0), keepdims=True), (A,)),
    "logsumexp-keepdims": (lambda a: special.logsumexp(a, axis=0, keepdims=True), (A,)),
    "logsumexp-b": (lambda a, b: special.logsumexp(a, axis=1, b=b), (A, np.abs(B))),
    "logsumexp-b-broadcast": (lambda a, b: special.logsumexp(a, axis=1, b=b), (A, np.abs(B[0]))),
    "logsumexp-b-only": (lambda b: special.logsumexp(A, b=b), (np.abs(B),)),
    "logsumexp-b-zero": (lambda a: special.logsumexp(a, axis=1, b=np.array([1.0, 0.0, 2.0])), (A,)),
    "logsumexp-negative": (
        lambda a, b: special.logsumexp(a, axis=1, b=b, return_sign=True)[0],
        (A + 2 * (B < 0), np.where(B < 0, -0.1, B)),
    ),
    "logsumexp-sign": (lambda a: special.logsumexp(a, return_sign=True), (A,)),
    "logsumexp-complex": (lambda a: special.logsumexp(a, axis=0), (Z,)),
    "logsumexp-float": (special.logsumexp, (0.7,)),
    "softmax": (special.softmax, (A,)),
    "softmax-axis": (lambda a: special.softmax(a, axis=1), (A,)),
    "softmax-axes": (lambda a: special.softmax(a, axis=(0, -1)), (A,)),
    "log_softmax": (special.log_softmax, (A,)),
    "log_softmax-axis": (lambda a: special.log_softmax(a, axis=0), (A,)),
    "polygamma": (lambda x: special.polygamma(2, x), (np.abs(B),)),
    "polygamma-orders": (lambda x: special.polygamma(np.arange(3), x), (np.abs(B),)),
    "multigammaln": (lambda a: special.multigammaln(a, 3), (np.abs(B) + 2,)),
    "comb": (special.comb, (np.array([5.5, 6.2]), np.array([2.3, 1.1]))),
    "comb-repetition": (lambda n: special.comb(n, 3, repetition=True), (np.array([5.5, 6.2]),)),
    "perm": (special.perm, (np.array([5.5, 6.2]), np.array([2.3, 1.1]))),
    "factorial": (special.factorial, (np.array([0.5, 2.2, -1.5]),)),
    "passed-through": (special.erf, (A,)),
}


@pytest.mark.parametrize("name", CALLS)
def test_functions_that_do_not_dispatch(name):
    fn, args = CALLS[name]
    check_grads(fn, args, order=2, modes=("rev", "fwd"))
    single = [np.asarray(x).astype(np.complex64 if np.iscomplexobj(x) else np.float32) for x in args]
    assert all(np.asarray(g).dtype == x.dtype for g, x in zip(_pull(fn, single), single, strict=True))


def _pull(fn, args):
    out, pullback = pdl.vjp(lambda *a: fn(*a)[0] if isinstance(fn(*a), tuple) else fn(*a), *args)
    return pullback(np.ones_like(out))


@pytest.mark.parametrize("f", [special.logsumexp, special.softmax, special.log_softmax])
@given(data=st.data())
@settings(max_examples=10)
def test_random_shapes(f, data):
    shape = data.draw(arrays_of.array_shapes(max_dims=3, max_side=3))
    axis = data.draw(st.none() | arrays_of.valid_tuple_axes(len(shape), min_size=1))
    x = np.random.default_rng(data.draw(st.integers(0, 999))).normal(0, 3, shape)
    check_grads(lambda a: f(a, axis=axis), (x,))


EDGES = {  # {id: (exponents, gradient of logsumexp)}
    "large": ([1000.0, 1000.0], [0.5, 0.5]),
    "small": ([-1000.0, -1000.0], [0.5, 0.5]),
    "one-minus-infinity": ([-INF, 1.0], [0.0, 1.0]),
    "all-minus-infinity": ([-INF, -INF], [0.5, 0.5]),
    "one-infinity": ([INF, 1.0, -INF], [1.0, 0.0, 0.0]),
    "two-infinities": ([INF, 1.0, INF], [0.5, 0.0, 0.5]),
}


@pytest.mark.parametrize("name", EDGES)
def test_logsumexp_at_infinity(name):
    x, expected = map(np.array, EDGES[name])
    value, got = pdl.value_and_grad(special.logsumexp)(x)
    assert value == sp.logsumexp(x)
    np.testing.assert_allclose(got, expected)
    np.testing.assert_allclose(pdl.jvp(special.logsumexp, (x,), (np.eye(len(x))[0],))[1], expected[0])


def test_a_factor_of_zero_counts_for_nothing():
    a, b = np.array([INF, 800.0, 1.0]), np.array([0.0, 0.0, 2.0])
    value, got = pdl.value_and_grad(lambda a: special.logsumexp(a, b=b))(a)
    np.testing.assert_allclose(value, 1 + np.log(2))
    np.testing.assert_allclose(got, [0, 0, 1])


def test_without_duals_it_is_scipy():
    assert special.erf is sp.erf
    np.testing.assert_array_equal(special.logsumexp(A, axis=1), sp.logsumexp(A, axis=1))
    np.testing.assert_array_equal(special.softmax(A, axis=1), sp.softmax(A, axis=1))
    assert special.comb(5, 2, exact=True) == 10
    assert "erf" in dir(special)
    with pytest.raises(AttributeError):
        special.no_such_function  # noqa: B018


def test_refusals():
    with pytest.raises(NotDifferentiableError, match="complex"):
        pdl.grad(lambda a: np.real(special.logsumexp(a, return_sign=True)[0]))(Z)
    with pytest.raises(NotDifferentiableError, match="exact"):
        pdl.grad(lambda n: special.comb(n, 2, exact=True))(5.0)
    with pytest.raises(NotDifferentiableError, match="stop_gradient"):
        pdl.grad(lambda n: special.polygamma(n, 2.0))(1.0)
    with pytest.raises(ValueError, match="not met"):
        pdl.grad(lambda a: special.multigammaln(a, 3))(0.5)
