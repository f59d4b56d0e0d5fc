"""A dual behaves as the array or the number that it stands for, or it refuses."""

import copy
import gc
import itertools
import math
import operator
import threading

import numpy as np
import pytest

import paradual as pdl
from paradual.dual import Dual
from paradual.errors import LeakedDualError, NotDifferentiableError, ParadualTypeError

X = np.array([[0.7, -1.3, 2.1], [1.9, 0.4, -0.6]])
Y = np.array([[1.1, 0.8, -1.7], [0.3, -2.2, 1.4]])
VECTOR = np.array([0.3, 1.7, 2.9, 0.8])


def plain(tree):
    """A result without duals."""
    return pdl.stop_gradient(tree)


def kind_of(value):
    """What NumPy tells apart: type, shape and dtype."""
    value = plain(value)
    dtype = getattr(value, "dtype", None)
    return type(value), np.shape(value), dtype


def difference_quotient(f, x, step=1e-6):
    """The gradient of the sum of f by central differences."""
    x = np.asarray(x, dtype=complex if np.iscomplexobj(x) else float)
    out = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        for unit, weight in ((1.0, 1.0), (1j, -1j)) if x.dtype.kind == "c" else ((1.0, 1.0),):
            up, down = x.copy(), x.copy()
            up[index] += step * unit
            down[index] -= step * unit
            slope = (np.sum(np.real(f(up))) - np.sum(np.real(f(down)))) / (2 * step)
            out[index] += weight * slope
    return out


def check(f, x, rtol=1e-6):
    """The value is what NumPy gives, and both modes agree with difference quotients."""
    expected = f(x)
    seen = []

    def scalar(y):
        seen.append(kind_of(out := f(y)))
        np.testing.assert_array_equal(plain(out), expected)
        return np.sum(np.real(out))

    gradient = pdl.grad(scalar)(x)
    assert seen[0] == kind_of(expected)
    assert np.shape(gradient) == np.shape(x)
    wanted = difference_quotient(lambda z: np.sum(np.real(f(x.dtype.type(1) * z))), x)
    np.testing.assert_allclose(
        gradient, wanted, rtol=rtol, atol=1e-6 * max(1, np.max(np.abs(wanted), initial=0))
    )
    direction = np.cos(np.arange(x.size, dtype=float)).reshape(x.shape)
    _, pushed = pdl.jvp(scalar, (x,), (direction,))
    np.testing.assert_allclose(pushed, np.sum(np.real(gradient) * direction), rtol=1e-9, atol=1e-9)


def constant(f, x):
    """The value is what NumPy gives, plain, and carries no derivative."""
    expected = f(x)
    seen = []

    def scalar(y):
        seen.append(f(y))
        return np.sum(y)

    np.testing.assert_array_equal(pdl.grad(scalar)(x), np.ones_like(x))
    assert not isinstance(seen[0], Dual)
    assert kind_of(seen[0]) == kind_of(expected)
    np.testing.assert_array_equal(seen[0], expected)


# --- operators ----------------------------------------------------------------------------------------

BINARY = ["add", "sub", "mul", "truediv", "pow", "mod"]
PLAIN_OPERANDS = {
    "array": np.abs(Y) + 0.5,
    "row": np.array([0.5, 1.5, 2.5]),
    "column": np.array([[1.5], [0.25]]),
    "float": 1.75,
    "int": 3,
    "float64": np.float64(0.75),
    "int64": np.int64(2),
    "0-d": np.array(1.25),
    "list": [0.5, 1.5, 2.5],
    "ints": np.array([1, 2, 3]),
}


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("other", PLAIN_OPERANDS.values(), ids=PLAIN_OPERANDS)
def test_binary_operators_on_arrays(name, other):
    op = getattr(operator, name)
    x = np.abs(X) + 0.1234567
    check(lambda a: op(a, other), x)
    check(lambda a: op(other, a), x)
    check(lambda a: op(a, a + 0.3), x)


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("kind", [float, np.float64])
@pytest.mark.parametrize(
    "other", [2, 2.5, np.float64(1.5), np.int64(2), True, np.array([1.0, 2.0])], ids=repr
)
def test_binary_operators_on_numbers(name, kind, other):
    op = getattr(operator, name)
    for order in (lambda a: op(a, other), lambda a: op(other, a)):
        x = kind(1.7)
        expected = order(x)
        seen = []

        def loss(a, order=order, seen=seen):
            seen.append(out := order(a))
            return np.sum(out)

        gradient = pdl.grad(loss)(x)
        assert kind_of(seen[0]) == kind_of(expected)
        np.testing.assert_array_equal(plain_of(seen[0]), expected)
        assert type(gradient) is kind
        step = 1e-6
        slope = (np.sum(order(x + step)) - np.sum(order(x - step))) / (2 * step)
        assert gradient == pytest.approx(slope, rel=1e-7)
        _, pushed = pdl.jvp(loss, (x,), (kind(1.0),))
        assert pushed == pytest.approx(slope, rel=1e-7)


def plain_of(value):
    return value.value if isinstance(value, Dual) else value


@pytest.mark.parametrize("kind", [float, np.float64])
def test_two_numbers(kind):
    for op in (operator.add, operator.sub, operator.mul, operator.truediv, operator.pow, operator.mod):
        gradient = pdl.grad(op, argnums=(0, 1))(kind(2.3), kind(1.2))
        for k, step in ((0, (1e-6, 0.0)), (1, (0.0, 1e-6))):
            slope = (op(2.3 + step[0], 1.2 + step[1]) - op(2.3 - step[0], 1.2 - step[1])) / 2e-6
            assert gradient[k] == pytest.approx(slope, rel=1e-8)
            assert type(gradient[k]) is kind


@pytest.mark.parametrize(
    ("base", "exponent", "slope"),
    [
        (0.0, 2, 0.0),
        (0.0, 1, 1.0),
        (0.0, 0, 0.0),
        (-2.0, 3, 12.0),
        (-2.0, 2, -4.0),
        (-2.0, 1, 1.0),
        (-2.0, 0, 0.0),
    ],
)
def test_powers_where_a_logarithm_fails(base, exponent, slope):
    for number in (base, np.float64(base), np.array([base])):
        for power in (exponent, float(exponent)):
            got = pdl.grad(lambda x, power=power: np.sum(x**power))(number)
            np.testing.assert_array_equal(got, slope)


def test_a_power_that_overflows_only_in_its_derivative():
    value, slope = pdl.value_and_grad(lambda x: x**-1)(1e-200)
    assert value == 1e200
    assert slope == -math.inf


def test_python_division_by_zero_raises_as_python_does():
    with pytest.raises(ZeroDivisionError):
        pdl.grad(lambda x: x / 0.0)(1.0)
    with pytest.raises(ZeroDivisionError):
        pdl.grad(lambda x: 1.0 / x)(0.0)


@pytest.mark.parametrize("op", [operator.neg, operator.pos, abs], ids=lambda f: f.__name__)
def test_unary_operators(op):
    check(op, X)
    check(op, np.array(-1.5))
    for kind in (float, np.float64):
        value, slope = pdl.value_and_grad(op)(kind(-1.5))
        assert type(value) is type(op(kind(-1.5)))
        assert value == op(-1.5)
        assert slope == op(-1.0) - op(-2.0) if op is not abs else slope == -1.0


@pytest.mark.parametrize(
    ("left", "right"), [((2, 3), (3, 4)), ((3,), (3, 2)), ((2, 3), (3,)), ((3,), (3,)), ((4, 2, 3), (3, 2))]
)
def test_matmul(left, right):
    a = np.cos(np.arange(math.prod(left), dtype=float)).reshape(left)
    b = np.sin(np.arange(math.prod(right), dtype=float) + 1).reshape(right)
    check(lambda x: x @ b, a)
    check(lambda x: a @ x, b)
    check(lambda x: a.tolist() @ x, b)


def test_divmod_and_floor_division():
    check(lambda x: divmod(x, 0.77)[1], X)
    check(lambda x: divmod(7.1234567, x)[1], X)
    constant(lambda x: x // 0.7, X)
    constant(lambda x: 7.0 // x, X)
    constant(lambda x: divmod(x, 0.7)[0], X)
    seen = []
    assert pdl.grad(lambda x: seen.append(divmod(x, 2.0)) or divmod(x, 2.0)[1] * x)(5.5) == pytest.approx(7.0)
    assert seen[0][0] == 2.0
    assert type(seen[0][0]) is float


@pytest.mark.parametrize("name", ["eq", "ne", "lt", "le", "gt", "ge"])
def test_comparisons_are_plain(name):
    op = getattr(operator, name)
    for other in (Y, 0.4, [0.7, 0.4, 2.1], np.float64(0.4)):
        constant(lambda x, other=other: op(x, other), X)
        constant(lambda x, other=other: op(other, x), X)
    constant(lambda x: op(x, x), X)
    seen = []
    pdl.grad(lambda x: seen.append(op(x, 2.0)) or x)(2.0)
    assert seen[0] is op(2.0, 2.0)


def test_casts_that_lose_nothing():
    def f(x):
        assert bool(x) is True
        assert int(x) == 2
        assert math.floor(x) == 2
        assert math.ceil(x) == 3
        assert math.trunc(x) == 2
        assert round(x) == 3
        assert type(round(x)) is int
        assert round(x, 1) == 2.8
        assert f"{x:.3f}|{x:>6}" == "2.750|  2.75"
        assert x != "2.75"
        return x * int(x) + round(x)

    assert pdl.grad(f)(2.75) == 2.0
    assert pdl.grad(lambda x: x if x else -x)(0.0) == -1.0
    with pytest.raises(ValueError, match="ambiguous"):
        pdl.grad(lambda x: x.sum() if x else 0.0)(VECTOR)


def test_python_functions():
    def f(x):
        parts = [x * 2, x, x * x]
        assert sorted(parts) == [1.5, 2.25, 3.0]
        return sum(parts) + min(parts) * max(parts) + abs(-x) + pow(x, 2) + math.prod(parts)

    def closed(x):
        return 3 * x + x * x + 2 * x * x + x + x * x + 2 * x**4

    value, slope = pdl.value_and_grad(f)(1.5)
    assert value == pytest.approx(closed(1.5))
    assert slope == pytest.approx(4 + 8 * 1.5 + 8 * 1.5**3)
    assert type(value) is type(slope) is float


def test_python_floats_stay_python_floats():
    def f(x):
        steps = [x + 1, 2 * x, x - 1.5, 3 - x, x / 3, 3 / x, x**2, -x, abs(x), +x, x % 2, 2.0**x, x * x]
        for step in steps:
            assert type(step.value) is float
        return sum(steps)

    value, slope = pdl.value_and_grad(f)(1.25)
    assert type(value) is type(slope) is float
    assert all(type(part) is float for part in pdl.jvp(f, (1.25,), (1.0,)))
    value, slope = pdl.value_and_grad(lambda x: np.sin(x) * x)(1.25)
    assert type(value) is np.float64
    assert type(slope) is float


def test_numbers_of_every_type_come_back_as_they_went_in():
    for x in (2.0, np.float64(2.0), np.float32(2.0), np.float16(2.0), np.longdouble(2.0), np.array(2.0)):
        value, slope = pdl.value_and_grad(lambda y: y * y * 1.5)(x)
        assert kind_of(value) == kind_of(x * x * 1.5)
        assert kind_of(slope) == kind_of(x)
        assert slope == 6.0
    for x in (
        np.ones(3, np.float32),
        np.ones((2, 1), np.float16),
        np.ones(2, ">f8"),
        np.ones(0),
        np.ones((2, 0)),
    ):
        slope = pdl.grad(lambda y: np.sum(y * y))(x)
        assert kind_of(slope) == kind_of(x)
        np.testing.assert_array_equal(slope, 2 * x)


def test_float32_stays_float32():
    x = X.astype(np.float32)

    def f(y):
        for step in (y + 1, 2.5 * y, y**2, y / 3.0, np.exp(y), y @ y.T, y.mean(0), y[0], y - y.sum()):
            assert step.dtype == np.float32
        return (np.exp(y) * 2.0 @ y.T).sum()

    slope = pdl.grad(f)(x)
    assert slope.dtype == np.float32
    np.testing.assert_allclose(slope, pdl.grad(lambda y: (np.exp(y) * 2.0 @ y.T).sum())(X), rtol=1e-5)


def test_complex_arrays():
    z = X + 1j * Y
    check(lambda w: (w * np.conj(w) + w**2).real, z, 1e-5)
    check(lambda w: abs(w), z)
    check(lambda w: (w.real * w.imag) + w.conj().imag, z)
    check(lambda w: (w @ w.T).imag, z)
    check(lambda w: (2j - w).real / (abs(w) + 1), z)
    assert pdl.grad(lambda w: abs(w) ** 2)(3 + 4j) == pytest.approx(6 - 8j)
    assert type(pdl.grad(lambda w: abs(w) ** 2)(3 + 4j)) is complex
    check(lambda x: (x * (1 + 2j) * (1 - 1j)).imag, X)
    assert pdl.grad(lambda x: (x**0.5).imag)(-4.0) == pytest.approx(-0.25)


# --- methods and attributes ------------------------------------------------------------------------------

METHODS = {
    "T": lambda x: x.T,
    "mT": lambda x: x.mT,
    "real": lambda x: x.real,
    "imag": lambda x: x.imag,
    "flat": lambda x: np.stack(list(x.flat)),
    "transpose()": lambda x: x.transpose(),
    "transpose(1, 0)": lambda x: x.transpose(1, 0),
    "transpose((1, 0))": lambda x: x.transpose((1, 0)),
    "transpose(None)": lambda x: x.transpose(None),
    "reshape(3, 2)": lambda x: x.reshape(3, 2),
    "reshape((3, 2))": lambda x: x.reshape((3, 2)),
    "reshape(-1)": lambda x: x.reshape(-1),
    "reshape order": lambda x: x.reshape(3, 2, order="F"),
    "reshape(int64)": lambda x: x.reshape(np.int64(3), -1),
    "flatten": lambda x: x.flatten(),
    "flatten F": lambda x: x.flatten("F"),
    "ravel": lambda x: x.ravel(),
    "ravel F": lambda x: x.ravel(order="F"),
    "astype float32": lambda x: x.astype(np.float32),
    "astype complex": lambda x: x.astype(complex),
    "astype same": lambda x: x.astype(float, copy=False),
    "copy": lambda x: x.copy(),
    "copy.copy": copy.copy,
    "copy.deepcopy": copy.deepcopy,
    "view": lambda x: x.view(),
    "item": lambda x: np.stack([x.item(4), x.item(0, 1), x.item((1, 2)), x.item(-1), x.item(np.int64(2))]),
    "item of one": lambda x: x[:1, :1].item() * 1.0,
    "tolist": lambda x: np.stack(list(itertools.chain(*x.tolist()))),
    "conj": lambda x: x.conj(),
    "conjugate": lambda x: x.conjugate(),
    "clip": lambda x: x.clip(-0.5, 1.0),
    "clip min": lambda x: x.clip(min=0.0),
    "clip max": lambda x: x.clip(max=0.5),
    "dot": lambda x: x.dot(Y.T),
    "choose": lambda x: np.array([0, 1, 0]).choose([0.5, 2.0]) * x,
    "compress": lambda x: x.compress([True, False, True], axis=1),
    "cumprod": lambda x: x.cumprod(axis=1),
    "cumsum": lambda x: x.cumsum(),
    "diagonal": lambda x: x.diagonal(),
    "max": lambda x: x.max(axis=0),
    "min": lambda x: x.min(),
    "mean": lambda x: x.mean(axis=1, keepdims=True),
    "partition": lambda x: np.partition(x, 1),
    "prod": lambda x: x.prod(),
    "ptp": lambda x: np.ptp(x, axis=1),
    "repeat": lambda x: x.repeat(2, axis=0),
    "squeeze": lambda x: x[None].squeeze(0),
    "std": lambda x: x.std(ddof=1),
    "sum": lambda x: x.sum(axis=(0, 1)),
    "sum keepdims": lambda x: x.sum(0, keepdims=True),
    "swapaxes": lambda x: x.swapaxes(0, 1),
    "take": lambda x: x.take([0, 4, 4]),
    "trace": lambda x: x.trace(offset=1),
    "var": lambda x: x.var(0),
}


@pytest.mark.parametrize("name", METHODS)
def test_methods(name):
    f = METHODS[name]
    if name in ("item", "item of one", "tolist"):  # of an array these give Python floats
        np.testing.assert_array_equal(
            pdl.grad(lambda x: np.sum(f(x)))(X), np.round(difference_quotient(lambda x: f(x), X), 6)
        )
    elif name == "astype float32":
        np.testing.assert_array_equal(pdl.grad(lambda x: f(x).sum())(X), np.ones_like(X))
        assert pdl.vjp(f, X)[0].dtype == np.float32
    else:
        check(f, X)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: x.argmax(),
        lambda x: x.argmin(axis=1),
        lambda x: x.argsort(axis=0),
        lambda x: x.argpartition(1),
        lambda x: x.all(),
        lambda x: x.any(axis=0),
        lambda x: x.nonzero()[1],
        lambda x: x.round(1),
        lambda x: x.astype(int),
        lambda x: x.astype(bool),
        lambda x: x[0].searchsorted(1.0),
    ],
)
def test_methods_with_plain_results(f):
    constant(f, X)


def test_attributes():
    def f(x):
        assert x.shape == (2, 3)
        assert x.ndim == 2
        assert x.size == 6
        assert x.dtype == np.float64
        assert x.itemsize == 8
        assert x.nbytes == 48
        assert len(x) == 2
        assert np.shape(x) == (2, 3)
        assert np.ndim(x) == 2
        assert np.size(x) == 6
        assert "0.7" in repr(x)
        return x.sum()

    np.testing.assert_array_equal(pdl.grad(f)(X), np.ones((2, 3)))


def test_methods_that_refuse():
    cases = [
        (lambda x: x.sort(), "np.sort"),
        (lambda x: x.view(np.int64), "astype"),
        (lambda x: x.tobytes(), "stop_gradient"),
        (lambda x: x.fill(0.0), "fill"),
        (lambda x: x.put([0], 1.0), "put"),
        (lambda x: x.resize(3), "resize"),
    ]
    for f, cure in cases:
        with pytest.raises((ParadualTypeError, AttributeError), match=cure):
            pdl.grad(lambda x, f=f: f(x) or x.sum())(X)
    with pytest.raises(ValueError, match="size 1"):
        pdl.grad(lambda x: x.item())(X)


def test_casting_refuses_what_numpy_refuses():
    with pytest.raises(TypeError, match="according to the rule 'safe'"):
        pdl.grad(lambda x: x.astype(np.float32, casting="safe").sum())(X)


# --- containers ------------------------------------------------------------------------------------------


def test_iteration_unpacking_and_membership():
    def f(x):
        first, second = x
        a, *rest = first
        assert [row.shape for row in x] == [(3,), (3,)]
        assert len(rest) == 2
        assert plain(a) in x
        assert a in x
        assert 5.0 not in x
        total = a * second[2]
        for k, row in enumerate(x):
            total = total + (k + 1) * row[1] ** 2
        for left, right in zip(first, reversed(list(second)), strict=True):
            total = total + left * right
        return total

    wanted = difference_quotient(f, X)
    np.testing.assert_allclose(pdl.grad(f)(X), wanted, atol=1e-7)


def test_iteration_over_a_number_fails_as_numpy_does():
    for x in (np.array(1.0), 1.0, np.float64(1.0)):
        with pytest.raises(TypeError):
            pdl.grad(lambda y: sum(y))(x)
        with pytest.raises(TypeError):
            pdl.grad(lambda y: float(len(y)))(x)
    with pytest.raises(ValueError, match="unpack"):
        pdl.grad(lambda y: next(a for a, b in [y]))(VECTOR)


CUBE = np.cos(np.arange(24.0)).reshape(2, 3, 4)
MASK = np.arange(12).reshape(3, 4) % 3 == 0

INDICES = {
    "int": 1,
    "negative int": -1,
    "int64": np.int64(1),
    "0-d array": np.array(1),
    "slice": slice(None, 2),
    "negative step": slice(None, None, -1),
    "strided": (slice(None), slice(None, None, 2)),
    "empty slice": slice(2, 2),
    "ellipsis": ...,
    "newaxis": None,
    "newaxis twice": (None, slice(None), None, 1),
    "ints": (1, 2, 3),
    "ellipsis last": (..., 2),
    "ellipsis middle": (0, ..., -1),
    "mask of full rank": CUBE > 0.2,
    "mask of one axis": np.array([True, False]),
    "mask of the last axes": (slice(None), MASK),
    "mask of the first axes": CUBE[:, :, 0] > 0,
    "mask of nothing": np.zeros((2, 3, 4), bool),
    "mask and int array": (np.array([True, True]), np.array([0, 2])),
    "True": True,
    "False": False,
    "int array": np.array([0, 1, 0]),
    "2-d int array": np.array([[0, 1], [1, 1]]),
    "list": [0, 0, 1],
    "empty list": [],
    "list of bools": [True, False],
    "nested list": ([[0, 1], [1, 0]], [[0, 0], [2, 2]]),
    "int arrays": (np.array([0, 1, 1]), np.array([2, 2, 2])),
    "broadcast arrays": (np.array([[0], [1]]), np.array([0, 2, 2])),
    "separated arrays": (np.array([0, 1, 1]), slice(None), np.array([3, 3, 3])),
    "mixed": (np.array([0, 0]), slice(1, None), [1, 1]),
    "mixed with newaxis": (0, None, [2, 2], slice(None, None, -1)),
    "uint8": np.array([1, 1, 0], np.uint8),
    "range": range(2),
    "tuple as an array": (slice(None), (0, 2, 2)),
    "tuples as arrays": ((0, 0, 1), (1, 1, 2)),
    "one tuple": ((0, 0, 1),),
    "negative repeats": (slice(None), [-1, 2, 2, -1]),
    "np.ix_": np.ix_([0, 1], [1, 1], [0, 3]),
    "np.s_": np.s_[1:, ::-2, [0, 0]],
}


@pytest.mark.parametrize("name", INDICES)
def test_indexing(name):
    index = INDICES[name]
    weights = np.sin(1.0 + np.arange(np.size(CUBE[index]))).reshape(CUBE[index].shape)
    check(lambda x: x[index] * weights, CUBE)


@pytest.mark.parametrize("index", [(), ..., None, (None, ...), True, False, np.array(True)], ids=repr)
def test_indexing_of_a_0d_array(index):
    x = np.array(1.5)
    check(lambda y: y[index] * 2.0, x)


def test_index_arrays_of_other_libraries():
    from array import array

    slope = pdl.grad(lambda x: (x[array("l", [0, 0, 2])] * np.array([1.0, 2.0, 4.0])).sum())(VECTOR)
    np.testing.assert_array_equal(slope, [3, 0, 4, 0])


def test_an_index_that_changes_later():
    def f(x):
        index = np.array([0, 1])
        mask = np.array([True, False, False, False])
        listed = [2, 2]
        out = x[index].sum() + x[mask].sum() + x[listed].sum()
        index[:] = 3
        mask[:] = True
        listed[:] = [0, 1]
        return out

    np.testing.assert_array_equal(pdl.grad(f)(VECTOR), [2, 1, 2, 0])


@pytest.mark.parametrize(
    "index", [9, -5, (0, 0), [9], "a", 1.0, np.array([0.5]), (slice(None), 0), [True, False]]
)
def test_a_wrong_index_fails_as_numpy_does(index):
    with pytest.raises(IndexError):
        VECTOR[index]
    with pytest.raises(IndexError):
        pdl.grad(lambda x: x[index].sum())(VECTOR)
    with pytest.raises(IndexError):
        pdl.jvp(lambda x: x[index].sum(), (VECTOR,), (VECTOR,))


def test_an_index_from_values():
    assert pdl.grad(lambda x: x[np.argmax(x)] * x[int(x[0])])(np.array([1.0, 2.0, 4.0])).tolist() == [0, 4, 2]
    np.testing.assert_array_equal(
        pdl.grad(lambda x: (x[x > 0.5] ** 2).sum())(VECTOR), 2 * VECTOR * (VECTOR > 0.5)
    )


def test_a_loop_over_elements_costs_linear_time_and_is_right():
    n = 3000
    x = np.linspace(0.0, 1.0, n)

    def f(y):
        total = 0.0
        for k in range(n - 1):
            total = total + y[k] * y[k + 1]
        return total

    wanted = np.zeros(n)
    wanted[:-1] += x[1:]
    wanted[1:] += x[:-1]
    np.testing.assert_allclose(pdl.grad(f)(x), wanted, rtol=1e-14)


# --- NumPy functions on lists of duals ------------------------------------------------------------------


def test_functions_of_lists():
    def f(x):
        a, b, c = x[0], x[1], x[2]
        rows = np.stack([x[:2], x[1:3]])
        return (
            np.stack([a, b, c]) @ np.array([1.0, 2.0, 3.0])
            + np.concatenate([x, x * 2, np.ones(2)]).sum()
            + np.vstack([x, x * x])[1].sum()
            + np.hstack([a, x])[0]
            + rows[1, 0] * rows[0, 0]
            + np.where(x > 1, x, 0).sum()
        )

    np.testing.assert_allclose(pdl.grad(f)(VECTOR), difference_quotient(f, VECTOR), rtol=1e-6)
    assert pdl.grad(lambda s: np.stack([s, 2 * s, 1.0]) @ np.array([1.0, 2.0, 4.0]))(1.5) == 5.0


def test_lists_beside_duals():
    constants = [0.5, 1.5, 2.5, 0.0]
    check(lambda x: np.add(x, constants), VECTOR)
    check(lambda x: np.multiply(constants, x), VECTOR)
    check(lambda x: np.arctan2(constants, x), VECTOR)
    check(lambda x: np.arctan2(x, constants), VECTOR)
    check(lambda x: np.hypot(constants, x), VECTOR)
    check(lambda x: constants**x, VECTOR)
    check(lambda x: tuple(constants) * x, VECTOR)


# --- refusals: each says the cure ---------------------------------------------------------------------------


def rule_free(x):
    return np.interp(x, [0.0, 1.0], [0.0, 1.0])


REFUSALS = {
    "float": (float, "stop_gradient"),
    "complex": (complex, "stop_gradient"),
    "math.sin": (math.sin, r"np\.sin\(x\)"),
    "math.fsum": (lambda x: math.fsum([x]), "stop_gradient"),
    "percent": (lambda x: "%f" % x, "stop_gradient"),  # noqa: UP031
    "asarray": (np.asarray, "np.stack"),
    "array": (lambda x: np.array([x, x]), "np.stack"),
    "array of objects": (lambda x: np.array([x, x], dtype=object), "np.stack"),
    "float64": (np.float64, "stop_gradient"),
    "full": (lambda x: np.full(3, x), "stop_gradient"),
    "vectorize": (lambda x: np.vectorize(lambda t: t)(x), "stop_gradient"),
    "plain index": (lambda x: [1, 2, 3][x], "int"),
    "range": (range, "int"),
    "unknown function": (rule_free, r"numpy\.interp.*paradual\.rules"),
    "where=": (lambda x: np.exp(x * X, where=X > 0), "leave the argument out"),
    "sum where": (lambda x: np.sum(x * X, where=X > 0), "leave the argument out"),
    "out=": (lambda x: np.exp(x * X, out=np.zeros_like(X)), r"a = a \+ x"),
    "sum out=": (lambda x: np.sum(x * X, axis=0, out=np.zeros(3)), "use its result"),
    "plain +=": (lambda x: operator.iadd(np.ones(3), x), r"a = a \+ x"),
    "ufunc.outer": (lambda x: np.add.outer(x, X), r"numpy\.add\.outer"),
    "ufunc.accumulate": (lambda x: np.add.accumulate(x * X), r"numpy\.add\.accumulate"),
    "ufunc.at": (lambda x: np.add.at(np.ones(3), [0], x), r"numpy\.add\.at"),
    "putmask": (lambda x: np.putmask(np.ones(3), [True, False, True], x), "np.where"),
}


@pytest.mark.parametrize("name", REFUSALS)
@pytest.mark.parametrize("number", [1.5, np.float64(1.5), np.array(1.5)], ids=["float", "float64", "0-d"])
def test_refusals_name_the_cure_and_the_line(name, number):
    f, cure = REFUSALS[name]
    with pytest.raises(ParadualTypeError, match=cure) as error:
        pdl.grad(lambda x: f(x) and x)(number)
    assert "test_dual.py" in str(error.value)
    with pytest.raises(ParadualTypeError, match=cure):
        pdl.jvp(
            lambda x: f(x) and x,
            (number,),
            (type(number)(1.0) if number.__class__ is not np.ndarray else number,),
        )


def chain(error):
    while error is not None:
        yield str(error)
        error = error.__cause__ or error.__context__


def test_writing_a_dual_into_a_plain_array():
    def f(x, where):
        where[0] = x
        return x

    for number in (1.5, np.float64(1.5), np.array(1.5)):
        target = np.zeros(3)
        with pytest.raises((TypeError, ValueError)) as error:
            pdl.grad(f)(number, target)
        assert any("stop_gradient" in text for text in chain(error.value))
        np.testing.assert_array_equal(target, 0)
    with pytest.raises((TypeError, ValueError)):
        pdl.grad(lambda x: operator.setitem(np.zeros(4), slice(None), x) or x.sum())(VECTOR)


def test_writing_into_a_dual():
    with pytest.raises(NotDifferentiableError, match=r"np\.where.*np\.stack"):
        pdl.grad(lambda x: operator.setitem(x, 0, 1.0) or x.sum())(VECTOR)

    def augmented(x):
        x[0] += 1.0
        return x.sum()

    with pytest.raises(NotDifferentiableError, match=r"np\.where"):
        pdl.grad(augmented)(VECTOR)


def test_a_dual_is_no_key_and_no_index():
    with pytest.raises(TypeError, match="unhashable"):
        pdl.grad(lambda x: {x: 1}[x])(1.0)
    with pytest.raises((IndexError, ParadualTypeError)):
        pdl.grad(lambda x: np.stack([x, x])[x])(1.0)
    with pytest.raises((IndexError, ParadualTypeError)):
        pdl.grad(lambda x: VECTOR[x])(1.0)


def test_an_argument_that_is_not_differentiated():
    with pytest.raises(NotDifferentiableError, match="stop_gradient"):
        pdl.grad(lambda x: np.sum(np.tril(x, x[0, 0])))(X)


# --- a dual outside its differentiation ---------------------------------------------------------------------


USES = {
    "add": lambda x: x + 1,
    "radd": lambda x: 1 + x,
    "multiply an array": lambda x: VECTOR * x,
    "negate": lambda x: -x,
    "divide": lambda x: x / 2,
    "power": lambda x: x**2,
    "sin": np.sin,
    "stack": lambda x: np.stack([x, x]),
    "in a new grad": lambda x: pdl.grad(lambda y: np.sum(y * x))(1.0),
    "in a new jvp": lambda x: pdl.jvp(lambda y: x * y, (1.0,), (1.0,)),
    "as an input": lambda x: pdl.grad(lambda y: np.sum(y * y))(x),
    "returned": lambda x: pdl.grad(lambda y: np.sum(x) if np.ndim(x) else x)(1.0),
    "in par": lambda x: pdl.par(lambda: x * 2),
    "in checkpoint": lambda x: pdl.grad(lambda y: np.sum(pdl.checkpoint(lambda z: z * x)(y)))(1.0),
}
ARRAY_USES = {
    "index": lambda x: x[0],
    "iterate": list,
    "method": lambda x: x.sum(),
    "copy": lambda x: x.copy(),
    "+=": lambda x: operator.iadd(x, 1),
    "//=": lambda x: operator.ifloordiv(x, 2),
}


@pytest.mark.parametrize("name", [*USES, *ARRAY_USES])
@pytest.mark.parametrize("mode", ["reverse", "forward"])
def test_a_leaked_dual(name, mode):
    kept = []

    def f(x):
        kept.extend([x, x * 2.0])
        return np.sum(x)

    for start in (1.5, VECTOR) if name in USES else (VECTOR,):
        kept.clear()
        if mode == "reverse":
            pdl.grad(f)(start)
        else:
            pdl.jvp(f, (start,), (start,))
        for x in kept:
            with pytest.raises(LeakedDualError, match="stop_gradient"):
                {**USES, **ARRAY_USES}[name](x)
        assert np.shape(pdl.stop_gradient(kept[0])) == np.shape(start)  # its value can still be had


def test_a_generator_consumed_too_late():
    def f(x):
        return x.sum(), (y * 2.0 for y in [x])

    _, late = pdl.grad(f, has_aux=True)(VECTOR)
    with pytest.raises(LeakedDualError, match="generator"):
        next(late)


def test_an_inner_dual_in_the_outer_differentiation():
    def outer(x):
        kept = []
        inner = pdl.grad(lambda y: kept.append(y * x) or y * y * x)(x)
        return inner * kept[0]

    with pytest.raises(LeakedDualError, match="outside the differentiation"):
        pdl.grad(outer)(2.0)


def test_an_inner_dual_assigned_to_the_outer_array():
    def outer(x):
        def inner(y):
            nonlocal x
            x += y
            return (x * y).sum()

        pdl.grad(inner)(VECTOR)
        return x.sum()

    with pytest.raises(LeakedDualError):
        pdl.grad(outer)(VECTOR.copy())


def test_a_plain_thread_does_not_take_part():
    errors = []

    def f(x):
        def body(use):
            try:
                use(x)
            except LeakedDualError as error:
                errors.append(error)

        for use in (USES["add"], USES["sin"], USES["in a new grad"]):
            thread = threading.Thread(target=body, args=(use,))
            thread.start()
            thread.join()
        return x * x

    assert pdl.grad(f)(3.0) == 6.0
    assert len(errors) == 3
    assert all("paradual.par" in str(error) for error in errors)


# --- augmented assignment -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["iadd", "isub", "imul", "itruediv", "ipow", "imod"])
@pytest.mark.parametrize("start", [VECTOR, np.array(1.25), VECTOR[:0]], ids=["array", "0-d", "empty"])
def test_another_name_sees_the_change(name, start):
    op = getattr(operator, name)

    def f(x):
        x = x * 1.0 if np.ndim(x) else x
        alias = x
        for _ in range(2):
            x = op(x, 1.5)
        return np.sum(alias * x * np.cos(alias))

    start = start.copy()
    value, slope = pdl.value_and_grad(f)(start)
    assert value == f(start.copy())
    np.testing.assert_allclose(slope, difference_quotient(lambda x: f(x.copy()), start), rtol=1e-6)


def test_floor_division_in_place_is_a_constant():
    def f(x):
        y = x * 3.0
        alias = y
        y //= 1.0
        return (alias * x).sum()

    value, slope = pdl.value_and_grad(f)(VECTOR)
    assert value == f(VECTOR)
    np.testing.assert_array_equal(slope, VECTOR * 3 // 1)
    np.testing.assert_allclose(pdl.jvp(f, (VECTOR,), (VECTOR,))[1], (slope * VECTOR).sum())


def test_matmul_in_place():
    m = np.array([[2.0, 1.0], [0.5, 3.0]])

    def f(x):
        alias = x
        x @= m
        return (alias * m).sum()

    np.testing.assert_allclose(pdl.grad(f)(np.eye(2)), m @ m.T)


def test_numbers_are_not_changed_in_place():
    def f(x):
        alias = x
        x += 1
        x *= 2
        return x * alias

    for kind in (float, np.float64):
        value, slope = pdl.value_and_grad(f)(kind(3.0))
        assert value == 24.0
        assert slope == 14.0


def test_a_list_of_duals_is_a_list():
    def f(x):
        parts = [x, x]
        parts += [x * x]
        parts[0] += 1
        return parts[0] * parts[1] * parts[2]

    assert pdl.grad(f)(2.0) == 4 * 8 + 3 * 4


VIEWS = {
    "slice": lambda x: x[1:],
    "newaxis": lambda x: x[None],
    "reshape": lambda x: x.reshape(2, 2),
    "ravel": lambda x: x.ravel(),
    "T": lambda x: x.T,
    "view": lambda x: x.view(),
    "real": lambda x: x.real,
    "row": lambda x: x.reshape(2, 2)[0],
    "squeeze": lambda x: np.squeeze(x),
    "expand_dims": lambda x: np.expand_dims(x, 0),
    "broadcast_to": lambda x: np.broadcast_to(x, (3, 4)),
    "flip": lambda x: np.flip(x),
    "moveaxis": lambda x: np.moveaxis(x, 0, -1),
    "split": lambda x: np.split(x, 2),
    "atleast_2d": lambda x: np.atleast_2d(x),
    "a view of a view": lambda x: x[::-1][1:],
}


@pytest.mark.parametrize("name", VIEWS)
def test_a_live_view_is_not_left_behind(name):
    def f(x):
        x = x * 1.0
        view = VIEWS[name](x)
        x += 1.0
        return x.sum() + sum(np.sum(part) for part in (view if isinstance(view, list) else [view]))

    with pytest.raises(NotDifferentiableError, match=r"x = x \+ y"):
        pdl.grad(f)(VECTOR)

    def through_the_view(x):
        x = x * 1.0
        view = VIEWS[name](x)
        view = view[0] if isinstance(view, list) else view
        view *= 2.0
        return x.sum()

    with pytest.raises(NotDifferentiableError, match=r"x = x \+ y"):
        pdl.grad(through_the_view)(VECTOR)
    with pytest.raises(NotDifferentiableError, match=r"x = x \+ y"):
        pdl.jvp(f, (VECTOR,), (VECTOR,))


def test_a_view_that_is_gone_does_no_harm():
    def f(x):
        x = x * 1.0
        view = x[1:]
        total = view.sum()
        del view
        gc.collect()
        x += x * x
        return total + (x * x).sum()

    value, slope = pdl.value_and_grad(f)(VECTOR)
    assert value == pytest.approx(f(VECTOR))
    np.testing.assert_allclose(slope, difference_quotient(f, VECTOR), rtol=1e-6)


@pytest.mark.parametrize("name", ["copy", "flatten", "mask", "int array", "sort", "astype"])
def test_a_copy_is_not_a_view(name):
    def f(x):
        x = x * 1.0
        copied = {
            "copy": lambda: x.copy(),
            "flatten": lambda: x.flatten(),
            "mask": lambda: x[x > 1],
            "int array": lambda: x[[0, 0, 2]],
            "sort": lambda: np.sort(x),
            "astype": lambda: x.astype(float),
        }[name]()
        x *= 3.0
        return x.sum() + (copied * copied).sum()

    value, slope = pdl.value_and_grad(f)(VECTOR)
    assert value == pytest.approx(f(VECTOR))
    np.testing.assert_allclose(slope, difference_quotient(f, VECTOR), rtol=1e-6)


def test_astype_without_a_copy_is_the_same_array():
    def f(x):
        x = x * 1.0
        y = x.astype(float, copy=False)
        y += 1.0
        return (x * y).sum()

    value, slope = pdl.value_and_grad(f)(VECTOR)
    assert value == f(VECTOR)
    np.testing.assert_allclose(slope, 2 * (VECTOR + 1))


@pytest.mark.parametrize(
    "same", [lambda x: np.astype(x, float, copy=False), lambda x: np.clip(x, None, None)]
)
def test_functions_that_may_return_their_argument(same):
    def f(x):
        x = x * 1.0
        y = same(x)
        x += 1.0
        return (x * y).sum()

    value, slope = pdl.value_and_grad(f)(VECTOR)
    assert value == f(VECTOR)
    np.testing.assert_allclose(slope, difference_quotient(f, VECTOR), rtol=1e-6)


def test_in_place_shapes_and_dtypes_fail_as_numpy_does():
    with pytest.raises(ValueError, match="shape"):
        pdl.grad(lambda x: operator.iadd(x, np.ones((3, 4))).sum())(VECTOR)
    with pytest.raises(TypeError):
        pdl.grad(lambda x: operator.iadd(x, 1j).sum())(VECTOR)

    def f(x):
        x += np.ones(4)  # float64 into float32
        assert x.dtype == np.float32
        return x.sum()

    assert pdl.grad(f)(VECTOR.astype(np.float32)).dtype == np.float32


def test_in_place_leaves_residuals_alone():
    def f(x):
        y = np.exp(x)
        z = y * y
        y += 5.0
        y *= x
        return (z * y).sum()

    def g(x):
        y = np.exp(x)
        return (y * y * ((y + 5.0) * x)).sum()

    np.testing.assert_allclose(pdl.grad(f)(VECTOR), pdl.grad(g)(VECTOR), rtol=1e-14)
    np.testing.assert_allclose(pdl.hessian(f)(VECTOR), pdl.hessian(g)(VECTOR), rtol=1e-12)
    np.testing.assert_allclose(
        pdl.jacobian(pdl.grad(f), mode="forward")(VECTOR), pdl.hessian(g)(VECTOR), rtol=1e-12
    )


def test_in_place_around_an_inner_differentiation():
    def f(x):
        x = x * 1.0
        out, pullback = pdl.vjp(lambda y: (y * y * x).sum(), x)
        x += 1.0
        (slope,) = pullback(1.0)
        return out + (slope * x).sum()

    def g(x):
        return (x**3).sum() + (2 * x * x * (x + 1.0)).sum()

    value, slope = pdl.value_and_grad(f)(VECTOR)
    assert value == pytest.approx(g(VECTOR))
    np.testing.assert_allclose(slope, difference_quotient(g, VECTOR), rtol=1e-6)


def test_in_place_on_the_input_of_an_inner_differentiation():
    def inner(y):
        y *= 2.0
        return (y * y).sum()

    def f(x):
        return (pdl.grad(inner)(x) * x).sum()  # 8 x * x; x itself is not changed

    np.testing.assert_allclose(pdl.grad(f)(VECTOR), 16 * VECTOR)


def test_out_of_a_dual():
    def f(x):
        x = x * 1.0
        alias = x
        np.add(x, 2.0, out=x)
        np.multiply(x, x, out=(x,))
        return alias.sum()

    np.testing.assert_allclose(pdl.grad(f)(VECTOR), 2 * (VECTOR + 2))


# --- plain arrays that are written to after their use ------------------------------------------------------


@pytest.mark.parametrize(
    "use",
    [
        lambda x, c: x * c,
        lambda x, c: c * x,
        lambda x, c: x / c,
        lambda x, c: c / x,
        lambda x, c: x**c,
        lambda x, c: c**x,
        lambda x, c: x @ c,
        lambda x, c: np.dot(c, x),
        lambda x, c: np.where(c > 1, x, 0.0),
        lambda x, c: np.maximum(x, c),
        lambda x, c: np.hypot(x, c),
        lambda x, c: np.einsum("i,i->i", x, c),
        lambda x, c: np.outer(x, c),
        lambda x, c: np.linalg.solve(np.diag(c), x),
        lambda x, c: np.average(x, weights=c),
    ],
)
def test_a_buffer_that_is_used_again(use):
    def f(x):
        c = np.array([0.5, 1.5, 2.0, 1.25])
        total = 0.0
        for k in range(3):
            c += k
            total = total + np.sum(use(x, c) * (k + 1))
        c[:] = 77.0
        return total

    wanted = difference_quotient(lambda x: f(x), VECTOR)
    np.testing.assert_allclose(pdl.grad(f)(VECTOR), wanted, rtol=1e-6, atol=1e-8)
    _, pushed = pdl.jvp(f, (VECTOR,), (np.ones(4),))
    assert pushed == pytest.approx(wanted.sum(), rel=1e-6)


def test_the_input_under_another_name():
    data = VECTOR.copy()

    def f(x):
        y = x * x
        data[:] = 0.0
        return y.sum()

    np.testing.assert_array_equal(pdl.grad(f)(data), 2 * VECTOR)


# --- what comes in is not changed, what goes out belongs to the caller --------------------------------------

OWN = {
    "add": (lambda x, y: np.sum(x + y)),
    "sum": (lambda x, y: np.sum(x) + np.sum(y)),
    "one": (lambda x, y: np.sum(x)),
    "transposed": (lambda x, y: np.sum(x.T * 2.0 + y.T)),
    "reshape": (lambda x, y: np.sum(x.reshape(-1)) + y[0, 0]),
    "index": (lambda x, y: x[0, 1] + y[1].sum()),
    "mean": (lambda x, y: np.mean(x + y)),
    "concatenate": (lambda x, y: np.concatenate([x, y]).sum()),
    "stack": (lambda x, y: np.stack([x, y])[1].sum()),
    "broadcast": (lambda x, y: np.broadcast_to(x, (4, 2, 3)).sum()),
    "product": (lambda x, y: np.sum(x * Y) + np.sum(y * Y)),
    "constant": (lambda x, y: 1.0),
    "where": (lambda x, y: np.where(x > 0, x, y).sum()),
    "residual": (lambda x, y: np.sum(x * y)),
    "exp": (lambda x, y: np.sum(np.exp(x)) + np.sum(np.exp(y))),
    "checkpoint": (lambda x, y: np.sum(pdl.checkpoint(operator.add)(x, y))),
    "par": (lambda x, y: sum(pdl.par(lambda: np.sum(x), lambda: np.sum(y)))),
}


@pytest.mark.parametrize("name", OWN)
def test_gradients_are_arrays_of_their_own(name):
    x, y = X.copy(), Y.copy()
    slopes = pdl.grad(OWN[name], argnums=(0, 1))(x, y)
    wanted = [slope.copy() for slope in slopes]
    assert not np.shares_memory(*slopes)
    for slope, start in zip(slopes, (X, Y), strict=True):
        assert slope.flags.writeable
        assert slope.shape == start.shape
        for other in (x, y, X, Y):
            assert not np.shares_memory(slope, other)
        slope += 100.0
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(y, Y)
    again = pdl.grad(OWN[name], argnums=(0, 1))(x, y)
    for slope, start in zip(again, wanted, strict=True):
        np.testing.assert_array_equal(slope, start)


@pytest.mark.parametrize("name", OWN)
def test_pullbacks_do_not_hand_out_their_cotangent(name):
    def f(x, y):
        return OWN[name](x, y) * np.ones(2), x, y

    out, pullback = pdl.vjp(f, X, Y)
    cotangent = (np.array([1.0, 2.0]), np.ones((2, 3)), np.ones((2, 3)))
    first = pullback(cotangent)
    wanted = [part.copy() for part in first]
    for part in first:
        for given in cotangent:
            assert not np.shares_memory(part, given)
        part *= -1.0
    np.testing.assert_array_equal(cotangent[1], 1.0)
    for part, start in zip(pullback(cotangent), wanted, strict=True):
        np.testing.assert_array_equal(part, start)
    assert len(out) == 3


def test_the_same_array_as_two_arguments():
    x = X.copy()
    first, second = pdl.grad(lambda a, b: np.sum(a * a * b), argnums=(0, 1))(x, x)
    np.testing.assert_allclose(first, 2 * X * X)
    np.testing.assert_allclose(second, X * X)
    assert not np.shares_memory(first, second)


@pytest.mark.parametrize("size", [5, 40_000])
def test_large_arrays_take_another_path_to_the_same_numbers(size):
    x = np.cos(np.arange(size, dtype=float)) + 1.5
    c = np.sin(np.arange(size, dtype=float))

    def f(y):
        z = y * y + c * y
        z = z * z / (y + 2.0) - np.exp(-y) * z + np.sqrt(y) * 2.0
        return (z * c * np.tanh(z / 50)).sum() + (y * y).sum()

    got = pdl.grad(f)(x)
    np.testing.assert_array_equal(got[:5], [pdl.grad(f_at(k, c))(x[k : k + 1])[0] for k in range(5)])
    _, pushed = pdl.jvp(f, (x,), (c,))
    np.testing.assert_allclose(pushed, got @ c, rtol=1e-10)


def f_at(k, c):
    def f(y):
        d = c[k : k + 1]
        z = y * y + d * y
        z = z * z / (y + 2.0) - np.exp(-y) * z + np.sqrt(y) * 2.0
        return (z * d * np.tanh(z / 50)).sum() + (y * y).sum()

    return f
