"""Random array programs against finite differences, and derivatives of derivatives against closed forms."""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import paradual as pdl

fixed = settings(derandomize=True, deadline=None, database=None, max_examples=120)


# --- random programs ------------------------------------------------------------------------------------
#
# A program is a list of (operation, operand, operand, number); each appends its result to the values so
# far.  Every operation takes arrays of any shape and gives values of moderate size and slope, so that a
# difference quotient means something.  What branches on a value notes down how far it is from the jump.

Step = tuple[int, int, int, int]


def matrix(a: Any) -> Any:
    """Anything as a matrix of at most 3 rows."""
    a = np.ravel(a)
    rows = next(n for n in (3, 2, 1) if a.size % n == 0)
    return np.reshape(a, (rows, a.size // rows))


def like(a: Any, b: Any) -> Any:
    """b, in a shape that broadcasts with a's."""
    try:
        np.broadcast_shapes(np.shape(a), np.shape(b))
    except ValueError:
        return np.mean(b)
    return b


class Margin:
    """The distance from the nearest kink or jump that a program came by."""

    def __init__(self) -> None:
        self.least = math.inf

    def note(self, gaps: Any) -> None:
        self.least = min(self.least, float(np.min(np.abs(pdl.stop_gradient(gaps)), initial=math.inf)))


def top(a: Any, axis: int | None, margin: Margin) -> Any:
    plain = np.sort(pdl.stop_gradient(a), axis=axis)
    if plain.shape[-1 if axis is None else axis] > 1:
        margin.note(np.diff(plain, axis=-1 if axis is None else axis))
    return np.max(a, axis=axis)


def larger(a: Any, b: Any, margin: Margin) -> Any:
    margin.note(a - b)
    return np.maximum(a, b)


def select(a: Any, b: Any, margin: Margin) -> Any:
    margin.note(a)
    return np.where(a > 0, np.sin(b), 0.5 * a)


def size(a: Any, margin: Margin) -> Any:
    margin.note(a)
    return np.abs(a)


def ordered(a: Any, margin: Margin) -> Any:
    flat = np.ravel(a)
    margin.note(np.diff(np.sort(pdl.stop_gradient(flat))))
    return np.sort(flat)


def clipped(a: Any, margin: Margin) -> Any:
    margin.note(np.stack([pdl.stop_gradient(a) - 0.6, pdl.stop_gradient(a) + 0.4]))
    return np.clip(a, -0.4, 0.6)


Operation = Callable[[Any, Any, int, Margin], Any]
OPERATIONS: dict[str, Operation] = {
    "add": lambda a, b, k, m: 0.5 * (a + like(a, b)),
    "subtract": lambda a, b, k, m: a - 0.3 * like(a, b),
    "multiply": lambda a, b, k, m: np.tanh(a) * like(a, b),
    "divide": lambda a, b, k, m: a / (2.0 + like(a, b) ** 2),
    "reciprocal": lambda a, b, k, m: 1.0 / (a * a + 1.5),
    "sin": lambda a, b, k, m: np.sin(a) + 0.1 * k,
    "cos": lambda a, b, k, m: np.cos(a),
    "tanh": lambda a, b, k, m: np.tanh(a),
    "exp": lambda a, b, k, m: np.exp(-a * a),
    "log": lambda a, b, k, m: np.log1p(a * a),
    "sqrt": lambda a, b, k, m: np.sqrt(a**2 + 0.5),
    "power": lambda a, b, k, m: (1.5 + np.sin(a)) ** np.tanh(like(a, b)),
    "arctan2": lambda a, b, k, m: np.arctan2(a, 1.0 + like(a, b) ** 2),
    "negative": lambda a, b, k, m: -a,
    "sum": lambda a, b, k, m: np.sum(np.atleast_1d(a), axis=k % max(np.ndim(a), 1), keepdims=k > 3) / 3,
    "sum of all": lambda a, b, k, m: np.sum(np.sin(a)) / (1 + np.size(a)),
    "mean": lambda a, b, k, m: np.mean(np.atleast_1d(a), axis=-1 - k % max(np.ndim(a), 1)),
    "var": lambda a, b, k, m: np.var(np.atleast_1d(a), axis=0),
    "prod": lambda a, b, k, m: np.prod(1.0 + 0.3 * np.sin(a)),
    "cumsum": lambda a, b, k, m: np.cumsum(np.ravel(a)) / (1 + np.size(a)),
    "matmul": lambda a, b, k, m: matrix(a).T @ np.tanh(matrix(a)) / 3.0,
    "matvec": lambda a, b, k, m: matrix(a) @ np.sin(matrix(a)[k % len(matrix(a))]) / 2.0,
    "outer": lambda a, b, k, m: np.outer(np.ravel(a)[:3], np.tanh(np.ravel(b)[:4])),
    "einsum": lambda a, b, k, m: np.einsum("ij,kj->ik", matrix(a), np.tanh(matrix(a))) / 2.0,
    "reshape": lambda a, b, k, m: np.reshape(a, (-1, 1) if k % 2 else -1),
    "transpose": lambda a, b, k, m: matrix(a).T,
    "slice": lambda a, b, k, m: np.ravel(a)[k % 2 :: 1 + k % 3] if np.size(a) > 1 else a,
    "reverse": lambda a, b, k, m: np.atleast_1d(a)[::-1],
    "item": lambda a, b, k, m: np.ravel(a)[k % np.size(a)],
    "gather": lambda a, b, k, m: np.ravel(a)[np.array([0, k, 2 * k, k]) % np.size(a)],
    "new axis": lambda a, b, k, m: np.atleast_1d(a)[..., None],
    "concatenate": lambda a, b, k, m: np.concatenate([np.ravel(a), np.ravel(b)])[:16],
    "stack": lambda a, b, k, m: np.stack([np.mean(a), np.sum(np.tanh(b)), np.ravel(a)[0]]),
    "roll": lambda a, b, k, m: np.roll(a, k),
    "max": lambda a, b, k, m: top(np.atleast_1d(a), 0, m) if k % 2 else top(np.ravel(a), None, m),
    "maximum": lambda a, b, k, m: larger(a, like(a, b), m),
    "where": lambda a, b, k, m: select(a, like(a, b), m),
    "abs": lambda a, b, k, m: size(a, m),
    "sort": lambda a, b, k, m: ordered(a, m),
    "clip": lambda a, b, k, m: clipped(a, m),
}
NAMES = list(OPERATIONS)


def run(program: list[Step], x: Any, margin: Margin | None = None) -> Any:
    """A scalar function of an array: the program, and a sum of what nobody has used and of the last."""
    margin = margin or Margin()
    values = [x, 0.5 * x[0], x[1, 2]]
    used = set()
    for op, i, j, k in program:
        i, j = i % len(values), j % len(values)
        used |= {i, j}
        values.append(OPERATIONS[NAMES[op]](values[i], values[j], k, margin))
    rest = [v for k, v in enumerate(values) if k not in used]
    return sum(np.sum(np.sin(v + 0.2)) for v in rest)


# 0 is the newest value when negative indices wrap around: programs get long chains as well as sharing
operand = st.integers(-4, -1) | st.integers(0, 12)
steps = st.tuples(st.integers(0, len(NAMES) - 1), operand, operand, st.integers(0, 5))
programs = st.lists(steps, min_size=1, max_size=8)
seeds = st.integers(0, 2**32 - 1)


def point(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Where to differentiate, and along which direction."""
    rng = np.random.default_rng(seed)
    v = rng.normal(size=(2, 3))
    return rng.normal(size=(2, 3)), v / np.linalg.norm(v)


def smooth_at(program: list[Step], x: np.ndarray) -> Callable[[Any], Any]:
    """The program as a function, where no kink is near; elsewhere the example is dropped."""
    margin = Margin()
    run(program, x, margin)
    assume(margin.least > 0.01)
    return lambda x: run(program, x)


def difference(f: Callable[[Any], Any], x: np.ndarray, v: np.ndarray) -> Any:
    """The derivative of f along v, by central differences of fourth order."""
    h = 1e-3
    near, far = f(x + h * v) - f(x - h * v), f(x + 2 * h * v) - f(x - 2 * h * v)
    return (8 * near - far) / (12 * h)


def close(found: Any, expected: Any, tolerance: float, scale: Any = 1.0) -> None:
    """Relative to the largest entry, or to a scale that is larger."""
    bound = tolerance * max(1.0, float(np.max(np.abs(scale))), float(np.max(np.abs(expected))))
    assert np.shape(found) == np.shape(expected)
    assert np.all(np.abs(found - expected) <= bound), (found, expected)


@fixed
@given(programs, seeds)
def test_first_order(program: list[Step], seed: int) -> None:
    x, v = point(seed)
    f = smooth_at(program, x)
    value, g = pdl.value_and_grad(f)(x)
    assert value == f(x)
    assert g.shape == x.shape
    assert g.dtype == x.dtype
    along = np.vdot(g, v)
    out, tangent = pdl.jvp(f, (x,), (v,))
    assert out == value
    close(tangent, along, 1e-11, g)
    close(along, difference(f, x, v), 1e-6, g)


@fixed
@given(programs, seeds)
def test_second_order(program: list[Step], seed: int) -> None:
    x, v = point(seed)
    f = smooth_at(program, x)
    gradient = pdl.grad(f)
    forward_over_reverse = pdl.hvp(f, x, v)
    close(forward_over_reverse, difference(gradient, x, v), 1e-5, gradient(x))
    scale = forward_over_reverse
    close(pdl.grad(lambda x: np.vdot(gradient(x), v))(x), forward_over_reverse, 1e-10, scale)
    close(pdl.grad(lambda x: pdl.jvp(f, (x,), (v,))[1])(x), forward_over_reverse, 1e-10, scale)
    twice = pdl.jvp(lambda x: pdl.jvp(f, (x,), (v,))[1], (x,), (v,))[1]
    close(twice, np.vdot(forward_over_reverse, v), 1e-10, scale)


@fixed
@given(programs, seeds)
def test_checkpoint_and_tasks_change_nothing(program: list[Step], seed: int) -> None:
    x, _ = point(seed)
    value, g = pdl.value_and_grad(lambda x: run(program, x))(x)
    half = len(program) // 2

    def split(x: Any) -> Any:
        a, b = pdl.par(
            lambda: run(program[:half], x), lambda: pdl.checkpoint(lambda y: run(program[half:], y))(x)
        )
        return a + b

    parts = [pdl.grad(lambda x, p=p: run(p, x))(x) for p in (program[:half], program[half:])]
    close(pdl.grad(split)(x), parts[0] + parts[1], 1e-12, parts)
    assert pdl.value_and_grad(pdl.checkpoint(lambda x: run(program, x)))(x)[0] == value
    np.testing.assert_array_equal(pdl.grad(pdl.checkpoint(lambda x: run(program, x)))(x), g)


@pytest.mark.parametrize("name", NAMES)
def test_every_operation_is_exercised(name: str) -> None:
    """Each by itself, so that none hides behind the examples that Hypothesis happens to choose."""
    tried = 0
    for seed in range(12):
        x, v = point(seed)
        for program in ([(NAMES.index(name), 0, 1, seed)], [(NAMES.index(name), 1, 0, seed)]):
            margin = Margin()
            run(program, x, margin)
            if margin.least < 0.01:
                continue
            tried += 1
            f = partial(run, program)
            g = pdl.grad(f)(x)
            close(np.vdot(g, v), difference(f, x, v), 1e-8, g)
            close(pdl.hvp(f, x, v), difference(pdl.grad(f), x, v), 1e-7, g)
    assert tried > 5


# --- derivatives of derivatives of scalars --------------------------------------------------------------


def by_grad(f: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return pdl.grad(f)


def by_vjp(f: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def derivative(x: Any) -> Any:
        _, pullback = pdl.vjp(f, x)
        return pullback(1.0)[0]

    return derivative


def by_jvp(f: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda x: pdl.jvp(f, (x,), (1.0,))[1]


DERIVATIVES = [by_grad, by_vjp, by_jvp]
MIXED = [pytest.param(*ops, id=" ".join(op.__name__ for op in ops)) for ops in
         itertools.product(DERIVATIVES, repeat=3)]  # fmt: skip
PAIRS = [pytest.param(*ops, id=" ".join(op.__name__ for op in ops)) for ops in
         itertools.product(DERIVATIVES, repeat=2)]  # fmt: skip

# a function and its first three derivatives
CLOSED: list[list[Callable[[Any], Any]]] = [
    [lambda x: x**4, lambda x: 4 * x**3, lambda x: 12 * x**2, lambda x: 24 * x],
    [lambda x: np.sin(2 * x), lambda x: 2 * math.cos(2 * x), lambda x: -4 * math.sin(2 * x),
     lambda x: -8 * math.cos(2 * x)],
    [lambda x: 1 / x, lambda x: -1 / x**2, lambda x: 2 / x**3, lambda x: -6 / x**4],
    [lambda x: x * np.exp(-x), lambda x: (1 - x) * math.exp(-x), lambda x: (x - 2) * math.exp(-x),
     lambda x: (3 - x) * math.exp(-x)],
    [lambda x: np.log(x), lambda x: 1 / x, lambda x: -1 / x**2, lambda x: 2 / x**3],
    [lambda x: np.sqrt(x), lambda x: 0.5 * x**-0.5, lambda x: -0.25 * x**-1.5, lambda x: 0.375 * x**-2.5],
    [lambda x: 3.0 * x, lambda x: 3.0, lambda x: 0.0, lambda x: 0.0],
    [lambda x: 3.0, lambda x: 0.0, lambda x: 0.0, lambda x: 0.0],
]  # fmt: skip


@pytest.mark.parametrize(("outer", "middle", "inner"), MIXED)
def test_up_to_third_order(outer: Any, middle: Any, inner: Any) -> None:
    for f, d1, d2, d3 in CLOSED:
        for x in (0.7, 1.9):
            tolerance = {"rel_tol": 1e-12, "abs_tol": 1e-12}
            assert math.isclose(inner(f)(x), d1(x), **tolerance)
            assert math.isclose(middle(inner(f))(x), d2(x), **tolerance)
            assert math.isclose(outer(middle(inner(f)))(x), d3(x), **tolerance)


@pytest.mark.parametrize(("outer", "inner"), PAIRS)
def test_perturbations_are_not_confused(outer: Any, inner: Any) -> None:
    # d/dx (x * d/dy (x + y)) = d/dx x = 1; where tags are confused it comes out as 2
    assert outer(lambda x: x * inner(lambda y: x + y)(1.0))(1.0) == 1.0
    # the inner derivative does not depend on x at all
    assert outer(lambda x: inner(lambda y: y * y)(3.0) + 0 * x)(2.0) == 0.0
    # d/dx (x * d/dy (x * y)) = d/dx x^2, at any y, x itself included
    assert outer(lambda x: x * inner(lambda y: x * y)(2.0))(3.0) == 6.0
    assert outer(lambda x: x * inner(lambda y: x * y)(x))(3.0) == 6.0
    # d/dx [d/dy (x y^2) at y = x^2] = d/dx 2x^3
    assert outer(lambda x: inner(lambda y: x * y * y)(x * x))(2.0) == 24.0
    # a function that returns a variable of the outer derivative alone
    assert outer(lambda x: inner(lambda y: x * x)(5.0) + x)(2.0) == 1.0
    # the inner function closes over a value computed outside, which shares its operand
    assert outer(lambda x: (lambda z: inner(lambda y: z * y + x * z)(x))(x**2))(3.0) == 6.0


@pytest.mark.parametrize(("outer", "middle", "inner"), MIXED)
def test_three_levels_see_each_other(outer: Any, middle: Any, inner: Any) -> None:
    # f = x^2 y^2 z^2 with y = x, z = xy inside: d/dz = 2 x^2 y^2 z = 2 x^3 y^3; d/dy = 6 x^3 y^2 = 6 x^5
    def f(x: Any) -> Any:
        return middle(lambda y: inner(lambda z: x * x * y * y * z * z)(x * y))(x)

    assert math.isclose(f(1.5), 6 * 1.5**5, rel_tol=1e-13)
    assert math.isclose(outer(f)(1.5), 30 * 1.5**4, rel_tol=1e-13)


@pytest.mark.parametrize(("outer", "inner"), PAIRS)
@pytest.mark.parametrize("executor", ["inline", "threads"])
def test_nested_through_tasks(outer: Any, inner: Any, executor: str) -> None:
    def f(x: Any) -> Any:
        a, b = pdl.par(
            lambda: inner(lambda y: x * np.sum(np.stack(pdl.par(lambda: y * y * x, lambda: x * y))))(x),
            lambda: x * x,
        )
        return a * b

    # d/dy x(x y^2 + x y) = 2 x^2 y + x^2 at y = x: 2x^3 + x^2; times x^2, the derivative is 10x^4 + 4x^3
    with pdl.executor(executor):
        assert f(1.5) == (2 * 1.5**3 + 1.5**2) * 1.5**2
        assert math.isclose(outer(f)(1.5), 10 * 1.5**4 + 4 * 1.5**3, rel_tol=1e-13)


@pytest.mark.parametrize("level", [1, 2, 3])
def test_arrays_of_any_order(level: int) -> None:
    x = np.array([0.3, -1.2, 2.0])

    def derivative(g: Callable[[Any], Any]) -> Callable[[Any], Any]:
        return pdl.grad(lambda x: np.sum(g(x)))  # entry by entry, as each depends on its own alone

    def g(x: Any) -> Any:
        return np.sin(x) * np.exp(0.5 * x)

    for _ in range(level):
        g = derivative(g)
    # the k-th derivative of exp(ax) is a^k exp(ax), here with a = 1/2 + i
    a = 0.5 + 1j
    np.testing.assert_allclose(g(x), np.imag(a**level * np.exp(a * x)), rtol=1e-12)


def test_many_threads_differentiate_at_once() -> None:
    """Differentiations in progress are the context's, so that threads do not see each other's."""
    failures: list[Any] = []
    start = threading.Barrier(8)

    def work(number: int) -> None:
        operators = [DERIVATIVES[(number + k) % 3] for k in range(3)]
        start.wait()
        for k in range(200):
            x = 0.1 + 0.01 * k + number
            found = [
                operators[0](operators[1](lambda x: x * x * np.sin(x)))(x),
                operators[1](lambda x: x * operators[2](lambda y: x + y * y)(x))(x),
            ]
            expected = [(2 - x * x) * math.sin(x) + 4 * x * math.cos(x), 4 * x]
            if not np.allclose(found, expected, rtol=1e-12, atol=1e-12):
                failures.append((number, k, found, expected))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_nested_gradients_in_tasks_all_at_once() -> None:
    def second(x: Any) -> Any:
        return pdl.grad(pdl.grad(lambda x: sum(pdl.map(lambda k: x**k, [1, 2, 3]))))(x)

    xs = [0.01 * k for k in range(200)]
    with pdl.executor("threads"):
        found = pdl.map(second, xs)
    np.testing.assert_allclose(found, [2 + 6 * x for x in xs], rtol=1e-13)
