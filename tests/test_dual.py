"""The operators of a dual, on arrays and on numbers, behave as those of what it stands for."""

import math
import operator
import pickle

import numpy as np
import pytest
from helpers import VECTOR, X, Y, check, constant, kind_of

import paradual as pdl
from paradual import apply, operators
from paradual.dual import Dual

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


def test_numbers_that_came_to_a_worker_take_the_fast_path_of_forward_mode(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Their home is another tuple, equal to that of the tape there."""
    taken = []

    def noted(*arguments):
        taken.append(scalar(*arguments))
        return taken[-1]

    def program(x):
        away = pickle.loads(pickle.dumps(x))
        assert away.home == x.home
        assert away.home is not x.home
        return away * 3.0 + x * away

    scalar = apply.scalar
    monkeypatch.setattr(operators, "scalar", noted)
    assert pdl.jvp(program, (2.0,), (1.0,)) == (10.0, 7.0)
    assert len(taken) == 3
    assert None not in taken
