"""Calls that once gave a wrong value or derivative, or did not fail where NumPy does."""

import numpy as np
import pytest

import paradual as pdl
from paradual.testing import check_grads

RNG = np.random.default_rng(7)


def normal(*shape):
    return np.asarray(RNG.standard_normal(shape))


def point(*shape):
    return normal(*shape) + 1j * normal(*shape)


# --- the sign of complex numbers moves along the unit circle ------------------------------------------------


@pytest.mark.parametrize("z", [0.6 + 0.3j, np.complex128(-1 + 2j), point(2, 3)])
def test_sign_of_complex_numbers(z):
    check_grads(np.sign, (z,))


def test_sign_has_the_values_of_numpy():
    z = np.array([0j, 3 + 4j, -2.0, complex(np.inf, 1), complex(0, -np.inf), complex(np.nan, 1)])
    out, tangent = pdl.jvp(np.sign, (z,), (np.ones_like(z),))
    np.testing.assert_allclose(out, np.sign(z), rtol=1e-15)
    assert tangent[0] == 0


def test_sign_of_real_numbers_is_constant():
    x = np.array([-2.0, 0.0, 3.0])
    np.testing.assert_array_equal(pdl.grad(lambda x: np.sum(np.sign(x) * x))(x), np.sign(x))
    z = point(3)
    with np.errstate(all="raise"):
        np.testing.assert_array_equal(pdl.grad(lambda z: np.sum(np.sign(z.real)))(z), np.zeros(3))


# --- points where a formula is cut off, and its derivative was too ------------------------------------------


@pytest.mark.parametrize("f", [np.logaddexp, np.logaddexp2])
def test_logaddexp_of_equal_numbers_curves(f):
    x = np.array([0.0, 1.5, -3.0])
    check_grads(f, (x, x.copy()))
    check_grads(f, (0.5, 0.5))


@pytest.mark.parametrize("x", [2.0, np.array([0.5, 2.0, 3.0])])
def test_power_zero_depends_on_the_exponent(x):
    check_grads(np.power, (x, 0.0))
    check_grads(lambda x, y: x**y, (x, np.array([0.0, 1.0, 2.0])))


@pytest.mark.parametrize("base", [-1.0, np.array([-2.0, 0.5, -0.3]), np.int8(-3)])
def test_complex_powers_of_negative_numbers(base):
    check_grads(lambda z: np.power(base, z), (point(3),))


def test_overflow_of_small_integers():
    x = np.array([0.5, 2.0])
    np.testing.assert_array_equal(pdl.grad(lambda x: np.sum(np.ldexp(x, np.int8(40))))(x), [2.0**40] * 2)
    g = pdl.grad(lambda x: np.sum(np.uint8(3) ** x))(x)
    np.testing.assert_allclose(g, 3**x * np.log(3), rtol=1e-15)


# --- where precisions meet, the derivative has that of the result -----------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("f", [np.divide, np.power, np.float_power, np.arctan2, np.hypot, np.logaddexp])
def test_mixed_precisions(f, dtype):
    x, low = np.array([0.3, 1.7, 2.9]), np.array([0.7, 3.0, 1.1]).astype(dtype)
    for g in (f, lambda a, b: f(b, a)):
        expected = pdl.grad(lambda x, g=g: np.sum(g(x, low.astype(float))))(x)
        np.testing.assert_allclose(pdl.grad(lambda x, g=g: np.sum(g(x, low)))(x), expected, rtol=1e-14)
        both = pdl.grad(lambda x, y, g=g: np.sum(g(x, y)))(x, low)
        np.testing.assert_allclose(both, expected, rtol=1e-14)
        pushed = pdl.jvp(lambda x, g=g: g(x, low), (x,), (np.ones(3),))[1]
        np.testing.assert_allclose(pushed, expected, rtol=1e-14)


@pytest.mark.filterwarnings("ignore:(divide by zero|invalid value):RuntimeWarning")
def test_dividing_by_the_number_zero():
    x = np.array([1.0, -2.0])
    np.testing.assert_array_equal(pdl.grad(lambda x: np.sum(x / 0))(x), [np.inf, np.inf])
    g = pdl.grad(lambda x: np.sum(np.where(x > 0, x, x / 0.0)))(x)
    np.testing.assert_array_equal(g, [1.0, np.inf])
    assert pdl.jvp(lambda x, y: x**y, (0.0, 0.5), (1.0, 0.0))[1] == np.inf


# --- choosing -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("a", "mode"),
    [([0, 1, 1], "raise"), ([-1, 5, 2], "wrap"), ([-1, 5, 1], "clip"), ([True, False, True], "raise")],
)
def test_choose(a, mode):
    check_grads(lambda x, y: np.choose(a, [x, y], mode=mode), (normal(3), normal(3)))
    check_grads(lambda x: np.choose(np.array(a), x, mode=mode), (normal(2, 3),))
    x = np.ones(3, np.float32)
    assert pdl.vjp(lambda x: np.choose(a, [x, 2.5], mode=mode), x)[0].dtype == np.float32


@pytest.mark.parametrize(
    ("a", "mode", "error"),
    [
        ([0, 2, 1], "raise", ValueError),
        ([0, -1, 1], "raise", ValueError),
        ([0, 1, 1], "around", ValueError),
        ([0.0, 1.0, 1.0], "raise", TypeError),
    ],
)
def test_choose_refuses(a, mode, error):
    with pytest.raises(error):
        np.choose(a, [np.ones(3), np.ones(3)], mode=mode)
    with pytest.raises(error):
        pdl.grad(lambda x: np.sum(np.choose(a, [x, x], mode=mode)))(np.ones(3))


def test_select():
    x, both = np.ones(3, np.float32), [np.ones(3, bool)] * 2
    assert pdl.vjp(lambda x: np.select(both, [x, 2.0], 3.0), x)[0].dtype == np.float32
    assert pdl.vjp(lambda x: np.select(both, [x, [1, 2, 3]], 3.0), x)[0].dtype == np.float64
    true = np.array([True, False, True])
    check_grads(lambda x, y: np.select([true, [True, True, False]], [x, y], y), (normal(3), normal(3)))
    check_grads(lambda x: np.select(np.array([true, ~true]), x), (normal(2, 3),))


@pytest.mark.parametrize(
    ("conditions", "choices", "error"),
    [
        ([np.array([1, 0, 1])], 1, TypeError),
        ([[0.5, 0.0, 1.0]], 1, TypeError),
        ([], 0, ValueError),
        ([np.array([True, False, True])], 2, ValueError),
    ],
)
def test_select_refuses(conditions, choices, error):
    x = np.ones(3)
    with pytest.raises(error):
        np.select(conditions, [x] * choices)
    with pytest.raises(error):
        pdl.grad(lambda x: np.sum(np.select(conditions, [x] * choices) + x))(x)


@pytest.mark.parametrize("indices", [[True, False], [0.5, 1.5], [], np.int8(2), [[-1, 2], [0, 1]]])
def test_take_reads_indices_as_numpy_does(indices):
    x = normal(3, 4)
    for axis in (None, 0, -1):
        out, pullback = pdl.vjp(lambda x, k=axis: np.take(x, indices, axis=k), x)
        expected = np.take(x, indices, axis=axis)
        np.testing.assert_array_equal(out, expected)
        assert pullback(np.ones_like(expected))[0].sum() == expected.size


# --- numbers stay numbers -----------------------------------------------------------------------------------

NUMBERS = {
    "norm": lambda x: np.linalg.norm(x, 3),
    "norm of a matrix": lambda x: np.linalg.norm(np.outer(x, x), 1),
    "median": lambda x: np.median(x[0]),
    "quantile": lambda x: np.quantile(x[0], 0.3),
    "nan_to_num": lambda x: np.nan_to_num(x[0]),
    "sign": lambda x: np.sign(x[0] + 1j),
    "inner": lambda x: np.inner(x, [1.0, 2.0, 3.0]),
    "copy": lambda x: x[0].copy(),
    "average": lambda x: np.average(x, returned=True)[1] + x[0],
}


@pytest.mark.parametrize("label", NUMBERS)
def test_results_that_are_numbers(label):
    x = normal(3)
    out, expected = pdl.vjp(NUMBERS[label], x)[0], NUMBERS[label](x)
    assert type(out) is type(expected)
    np.testing.assert_allclose(out, expected, rtol=1e-14)


# --- the axes of products -----------------------------------------------------------------------------------


def test_vecdot_takes_its_axis_in_each_operand():
    check_grads(lambda x, y: np.vecdot(x, y, axis=0), (point(3, 3), point(3)))
    check_grads(lambda x, y: np.vecdot(x, y, axis=0), (normal(3, 2), normal(3)))


def test_axes_of_tensordot_do_not_wrap_around():
    check_grads(lambda x, y: np.tensordot(x, y, axes=((-1,), (0,))), (normal(3, 3), normal(3, 3)))


@pytest.mark.parametrize(
    ("subscripts", "a", "b"),
    [
        ("i,i", (1,), (3,)),
        ("ij,j", (2, 3), (1,)),
        ("ij,ij->i", (2, 1), (1, 3)),
        ("...i,...i->...", (2, 1), (1, 3)),
        ("ijk,jil->kl", (1, 3, 2), (1, 3, 2)),
        ("ii,i->i", (1, 1), (3,)),
        ("ii,i", (3, 3), (1,)),
    ],
)
def test_einsum_repeats_axes_of_length_one(subscripts, a, b):
    check_grads(lambda x, y: np.einsum(subscripts, x, y), (normal(*a), normal(*b)))
    check_grads(lambda x, y: np.einsum(subscripts, x, y), (point(*a), normal(*b)))


# --- results are arrays of their own, laid out as NumPy's: writes through reshape(-1) arrive ----------------

LAID_OUT = {
    "take": lambda x: np.take(x, [0, 2, 1], axis=1),
    "take one": lambda x: np.take(x, 1, axis=1),
    "take one row": lambda x: np.take(x, 0, axis=0),
    "repeat": lambda x: np.repeat(x, [1, 2, 1], axis=1),
    "insert": lambda x: np.insert(x, 1, x[:, 0], axis=1),
    "delete": lambda x: np.delete(x, 1, axis=1),
    "compress": lambda x: np.compress([True, False, True], x, axis=1),
    "cumprod": lambda x: np.cumprod(x, axis=-1),
    "vander": lambda x: np.vander(x[0], 3, increasing=True),
    "meshgrid": lambda x: np.meshgrid(x[0], x[1])[0],
}


@pytest.mark.parametrize("label", LAID_OUT)
def test_writes_through_a_view_of_a_result(label):
    def fn(x):
        y = LAID_OUT[label](x)
        y.reshape(-1)[0] = 5.0
        return x * np.sum(y), y

    x = normal(2, 3)
    out, _ = pdl.vjp(fn, x.copy())
    for got, expected in zip(out, fn(x), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-13)
    check_grads(fn, (x,))


# --- arrays given as lists, in other precisions, defaults in other words ------------------------------------


@pytest.mark.parametrize(
    ("shape", "b"),
    [
        ((2, 2), [1.0, 2.0]),
        ((1, 1), [[1.0, 2.0]]),
        ((2, 2, 2), [1.0, 2.0]),
        ((2, 1, 1), [[1.0]]),
        ((2, 1, 1), [[1.0, 2.0]]),
    ],
)
def test_solve_for_a_list(shape, b):
    check_grads(lambda a: np.linalg.solve(a, b), (normal(*shape) + 3 * np.eye(shape[-1]),))


@pytest.mark.skipif(not hasattr(np, "vecmat"), reason="NumPy 2.2 has vecmat")
def test_vecmat_conjugates_a_list():
    v, x = [1 + 2j, 3 - 1j], point(2, 3)
    np.testing.assert_allclose(pdl.vjp(lambda x: np.vecmat(v, x), x)[0], np.vecmat(v, x))
    check_grads(lambda x: np.vecmat(v, x), (x,))


@pytest.mark.parametrize("bias", [None, 0, 1, True, False])
def test_bias_of_cov(bias):
    x = normal(2, 4)
    np.testing.assert_allclose(pdl.vjp(lambda x: np.cov(x, bias=bias), x)[0], np.cov(x, bias=bias))


@pytest.mark.parametrize("rcond", [1, 1.5, -1, None])
def test_lstsq_with_a_cutoff_that_is_no_fraction(rcond):
    a, b = normal(4, 2), normal(4)
    got = pdl.vjp(lambda a, b: np.linalg.lstsq(a, b, rcond)[0], a, b)[0]
    np.testing.assert_allclose(got, np.linalg.lstsq(a, b, rcond)[0], rtol=1e-12)
    check_grads(lambda a, b: np.linalg.lstsq(a, b, rcond)[0], (a, b))


@pytest.mark.parametrize("dtypes", ["fd", "df", "fi", "id", "fD", "Fd"])
def test_lstsq_computes_in_the_precision_of_both(dtypes):
    a, b = (x.astype(t) for x, t in zip((4 * normal(4, 2), 4 * normal(4)), dtypes, strict=True))
    expected = np.linalg.lstsq(a, b)
    active = [k for k, t in enumerate(dtypes) if t != "i"]

    def fn(*points):
        full = [a, b]
        for k, point in zip(active, points, strict=True):
            full[k] = point
        x, residuals, _, s = np.linalg.lstsq(*full)
        return x, residuals, s

    out, _ = pdl.vjp(fn, *((a, b)[k] for k in active))
    for got, plain in zip(out, (expected[0], expected[1], expected[3]), strict=True):
        assert got.dtype == plain.dtype
        np.testing.assert_allclose(got, plain, rtol=1e-11)


def test_differences_of_lists():
    check_grads(lambda x: np.diff([1.0, 2.0], append=x), (normal(2),))
    check_grads(lambda x: np.trapezoid([1.0, 3.0, 2.0], x), (normal(3),))


# --- what NumPy refuses -------------------------------------------------------------------------------------

REFUSED = {
    "vecdot of numbers": (lambda x: np.vecdot(x[0, 0], x[0, 0]), ValueError),
    "vecdot of other lengths": (lambda x: np.vecdot(x[0], x[0, :1]), ValueError),
    "vecdot along no axis": (lambda x: np.vecdot(x, x, axis=2), ValueError),
    "matvec of vectors": (lambda x: np.matvec(x[0], x[0]), ValueError),
    "matvec with a number": (lambda x: np.matvec(x, x[0, 0]), ValueError),
    "vecmat of vectors": (lambda x: np.vecmat(x[0], x[0]), ValueError),
    "cross of 4": (lambda x: np.cross(x, x), ValueError),
    "cross of 3 and 4": (lambda x: np.cross(x[:, :3], x), ValueError),
    "cross of 1": (lambda x: np.cross(x[:, :1], x[:, :1]), ValueError),
    "tensordot along no axis": (lambda x: np.tensordot(x, x, axes=((0,), (5,))), IndexError),
    "tensordot over more axes": (lambda x: np.tensordot(x[0], x[0], axes=2), IndexError),
    "einsum without ...": (lambda x: np.einsum("i...->i", x), ValueError),
    "norm over an axis that is missing": (lambda x: np.linalg.norm(x, 1, axis=(0, 2)), ValueError),
    "norm over an axis twice": (lambda x: np.linalg.norm(x, 1, axis=(1, -1)), ValueError),
    "sum where without a start": (lambda x: np.sum(x, where=x > 0, initial=None), ValueError),
    "diff along no axis": (lambda x: np.diff(x, axis=2), np.exceptions.AxisError),
    "diff before the first axis": (lambda x: np.diff(x, axis=-3), np.exceptions.AxisError),
    "cumprod along a tuple": (lambda x: np.cumprod(x, axis=(1,)), TypeError),
    "sum where integers": (lambda x: np.sum(x, where=np.ones(4, int)), TypeError),
    "std where integers": (lambda x: np.std(x, where=np.ones(4, int)), TypeError),
    "tile by a float": (lambda x: np.tile(x, 1.5), TypeError),
    "take in no mode": (lambda x: np.take(x, [0], mode="around"), ValueError),
    "take out of range": (lambda x: np.take(x, [4], axis=1), IndexError),
    "take of nothing": (lambda x: np.take(x[:0], [0], axis=0, mode="clip"), IndexError),
    "take_along_axis of a matrix": (lambda x: np.take_along_axis(x, np.eye(2, dtype=int), None), ValueError),
    "compress by a matrix": (lambda x: np.compress([[True]], x), ValueError),
    "sort of no kind": (lambda x: np.sort(x, kind="bogo"), ValueError),
    "sort by a field": (lambda x: np.sort(x, order="a"), ValueError),
    "sort told twice": (lambda x: np.sort(x, kind="stable", stable=True), ValueError),
}
if not hasattr(np, "vecdot"):
    REFUSED = {label: call for label, call in REFUSED.items() if not label.startswith("vecdot")}
if not hasattr(np, "matvec"):
    REFUSED = {label: call for label, call in REFUSED.items() if not label.startswith(("matvec", "vecmat"))}


@pytest.mark.parametrize("label", REFUSED)
def test_refused_as_by_numpy(label):
    call, error = REFUSED[label]
    x = normal(2, 4)
    with pytest.raises(error):
        call(x)
    with pytest.raises(error):
        pdl.vjp(call, x)


@pytest.mark.parametrize("order", ["A", "K", "C", "F"])
def test_orders_that_depend_on_the_layout(order):
    a = np.arange(6.0).reshape(2, 3)
    for x in (a, np.asfortranarray(a)):
        for f in (lambda x: np.ravel(x, order), lambda x: x.flatten(order), lambda x: x.ravel(order=order)):
            np.testing.assert_array_equal(pdl.vjp(f, x)[0], f(x))
            g = pdl.grad(lambda x, f=f: np.sum(f(x * 1.0) * np.arange(6.0)))(x)
            np.testing.assert_array_equal(f(np.asarray(g, order="F" if x is not a else "C")), np.arange(6.0))
    for x in (a, np.asfortranarray(a)):
        if order != "K":
            np.testing.assert_array_equal(
                pdl.vjp(lambda x: np.reshape(x, (3, 2), order=order), x)[0],
                np.reshape(x, (3, 2), order=order),
            )
