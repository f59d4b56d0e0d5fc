"""The derivation in `paradual.reference`: its methods agree, with each other and with everything else."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import paradual as pdl
from paradual import reference
from paradual.reference import METHODS

fixed = settings(derandomize=True, deadline=None, database=None, max_examples=150)

# Each keeps values near 1 and away from singularities, whatever it is applied to, and is holomorphic
# around the real line, so that a complex step is an exact derivative.
OPERATIONS: list[Callable[[Any, Any], Any]] = [
    lambda a, b: 0.5 * (a + b),
    lambda a, b: a - 0.3 * b,
    lambda a, b: np.tanh(a) * b,
    lambda a, b: a / (2.0 + b * b),
    lambda a, b: 1.0 / (b * b + 1.5) - a,
    lambda a, b: np.sin(a) + 0.25,
    lambda a, b: 1.5 - np.cos(b),
    lambda a, b: np.exp(-a * a),
    lambda a, b: np.log(a * a + 1.0),
    lambda a, b: np.sqrt(b**2 + 0.5),
    lambda a, b: np.tanh(a) ** 3,
    lambda a, b: -a,
    lambda a, b: a + a,
]

Program = list[tuple[int, int, int]]
number = st.floats(-1.5, 1.5, allow_subnormal=False)


@st.composite
def programs(draw: st.DrawFn, steps: int = 7) -> tuple[Program, list[float]]:
    """Straight-line programs: operation, and two of the values so far, the latest ones often."""
    xs = draw(st.lists(number, min_size=1, max_size=3))
    program = []
    for n in range(draw(st.integers(1, steps))):
        operand = st.integers(0, len(xs) + n - 1) | st.just(len(xs) + n - 1)
        program.append((draw(st.integers(0, len(OPERATIONS) - 1)), draw(operand), draw(operand)))
    return program, xs


def run(program: Program, *xs: Any) -> Any:
    values = list(xs)
    for op, i, j in program:
        values.append(OPERATIONS[op](values[i], values[j]))
    return values[-1]


def complex_step(f: Callable[..., Any], xs: list[float]) -> list[float]:
    """Derivatives as Im f(x + ih)/h: no difference is taken, so nothing cancels."""
    h = 1e-30
    points = [[complex(x, h * (i == k)) for i, x in enumerate(xs)] for k in range(len(xs))]
    return [float(np.imag(f(*point))) / h for point in points]


@fixed
@given(programs())
def test_all_methods_agree(case: tuple[Program, list[float]]) -> None:
    program, xs = case

    def f(*xs: Any) -> Any:
        return run(program, *xs)

    results = {m: reference.grad(f, *xs, method=m) for m in METHODS}
    value = f(*xs)
    expected = complex_step(f, xs)
    library = pdl.value_and_grad(f, argnums=range(len(xs)))(*xs)
    for v, g, _ in [*results.values(), (*library, 0)]:
        assert math.isclose(v, value, rel_tol=1e-13, abs_tol=1e-13)
        assert len(g) == len(xs)
        np.testing.assert_allclose(g, expected, rtol=1e-9, atol=1e-10)
    tangent = [0.5 + k for k in range(len(xs))]
    _, along = pdl.jvp(f, tuple(xs), tuple(tangent))
    np.testing.assert_allclose(along, np.dot(expected, tangent), rtol=1e-9, atol=1e-9)
    # once for each operation that was evaluated, at the most
    assert results["memoised"][2] <= results["tape"][2]
    assert results["memoised"][2] <= results["naive"][2]


@fixed
@given(programs())
def test_central_differences(case: tuple[Program, list[float]]) -> None:
    program, xs = case
    _, g, _ = reference.grad(lambda *xs: run(program, *xs), *xs)
    h = 1e-6
    for k in range(len(xs)):
        up, down = ([x + s * h * (i == k) for i, x in enumerate(xs)] for s in (1, -1))
        slope = (run(program, *up) - run(program, *down)) / (2 * h)
        np.testing.assert_allclose(g[k], slope, rtol=1e-4, atol=1e-5)


def doubled(n: int) -> Callable[[Any], Any]:
    def f(x: Any) -> Any:
        for _ in range(n):
            x = x + x
        return x

    return f


@pytest.mark.parametrize("n", [0, 1, 2, 5, 10, 14])
def test_calls_are_exponential_then_linear(n: int) -> None:
    for method, calls in (("naive", 2**n - 1), ("memoised", n), ("tape", n)):
        assert reference.grad(doubled(n), 0.75, method=method) == (0.75 * 2**n, (2.0**n,), calls)


def test_linear_methods_take_long_programs() -> None:
    for method in ("memoised", "tape"):
        assert reference.grad(doubled(1000), 1.0, method=method) == (2.0**1000, (2.0**1000,), 1000)


def test_without_sharing_all_methods_call_the_same() -> None:
    def chain(x: Any) -> Any:
        for _ in range(20):
            x = reference.sin(x)
        return x

    assert {reference.grad(chain, 1.0, method=m)[2] for m in METHODS} == {20}


def test_fibonacci_calls() -> None:
    # x_n = x_{n-1} + x_{n-2}: each call makes two, so the calls are Fibonacci numbers themselves
    def fibonacci(x: Any, y: Any) -> Any:
        for _ in range(15):
            x, y = y, x + y
        return y

    counts = {m: reference.grad(fibonacci, 1.0, 1.0, method=m) for m in METHODS}
    assert {(v, g) for v, g, _ in counts.values()} == {(1597.0, (610.0, 987.0))}
    assert [counts[m][2] for m in METHODS] == [1596, 15, 15]


@pytest.mark.parametrize("method", METHODS)
def test_every_operator(method: str) -> None:
    def f(x: Any, y: Any) -> Any:
        a = (x + y) - (2.0 + x) * (y - 1.0) / (3.0 - x)
        b = abs(-x) + 2.0 / y + x**2 + y**0 + x**-1.5
        return a * b + (1 - x) * (y / 2)

    x, y = 1.25, 0.5
    value, g, _ = reference.grad(f, x, y, method=method)
    assert value == f(x, y)
    h = 1e-6
    slopes = [
        (f(x + h, y) - f(x - h, y)) / (2 * h),
        (f(x, y + h) - f(x, y - h)) / (2 * h),
    ]
    np.testing.assert_allclose(g, slopes, rtol=1e-8)


@pytest.mark.parametrize("name", ["sin", "cos", "exp", "log", "sqrt", "tanh"])
def test_functions_take_floats_and_coduals_and_numpy_calls_them(name: str) -> None:
    own, theirs = getattr(reference, name), getattr(np, name)
    x = 0.7
    assert own(x) == getattr(math, name)(x)
    [slope] = complex_step(theirs, [x])
    for method in METHODS:
        value, (g,), calls = reference.grad(own, x, method=method)
        assert (value, calls) == (own(x), 1)
        assert math.isclose(g, slope, rel_tol=1e-14)
        assert reference.grad(theirs, x, method=method)[1] == (g,)


@pytest.mark.parametrize("method", METHODS)
def test_control_flow_and_constants(method: str) -> None:
    def clipped(x: Any) -> Any:
        return x * x if x < 2 and x >= -2 and x != 7.0 else 4.0

    assert reference.grad(clipped, 1.5, method=method) == (2.25, (3.0,), 1)
    assert reference.grad(clipped, 3.0, method=method) == (4.0, (0.0,), 0)
    assert reference.grad(lambda x, y: x, 3.0, 4.0, method=method) == (3.0, (1.0, 0.0), 0)
    assert reference.grad(lambda x: 1.0 if x > 0 and x <= 3 and x else x, 3.0, method=method)[0] == 1.0
    assert reference.grad(abs, 0.0, method=method) == (0.0, (0.0,), 1)


def test_a_variable_power_is_refused() -> None:
    with pytest.raises(TypeError, match="unsupported operand"):
        reference.grad(lambda x, y: x**y, 1.0, 2.0)


def test_coduals_do_not_hash_and_say_their_value() -> None:
    seen = []
    reference.grad(lambda x: seen.append(repr(x)) or x, 2.0)
    assert seen == ["Codual(2.0)"]
    with pytest.raises(TypeError, match="unhashable"):
        reference.grad(lambda x: {x: 1}[x], 2.0)
