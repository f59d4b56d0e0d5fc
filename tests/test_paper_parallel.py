"""The parallel programs of Smeding and Vakar (JFP 35, e16, 2025), on every executor."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paper_helpers import close, flat

import paradual as pdl
from paradual import reference

# --- particles: closed form, in parallel ----------------------------------------------------------------

DT, MASS = 0.05, 1.0
STARTS = [((0.5 * i, 0.1), (1.0, 1.0)) for i in (1, 2, 3, 4)]


def propagator(steps: int) -> tuple[float, float]:
    """alpha and beta with x_N = alpha x_0 + beta v_0."""
    a = np.array([[1.0, DT], [-0.5 * DT, 1 - 0.2 * DT]])
    alpha, beta = np.linalg.matrix_power(a, steps)[0]
    return float(alpha), float(beta)


def particle_closed_form(steps: int) -> tuple[float, list[float]]:
    alpha, beta = propagator(steps)
    total, gradient = 0.0, []
    for (x0, y0), (vx0, vy0) in STARTS:
        x, y = alpha * x0 + beta * vx0, alpha * y0 + beta * vy0
        total += x * y
        gradient += [alpha * y, alpha * x, beta * y, beta * x]
    return total, gradient


def scalar_particle(start: Any, mass: Any, steps: int) -> Any:
    (x, y), (vx, vy) = start
    for _ in range(steps):
        ax, ay = (1.0 / mass) * (-0.5 * x - 0.2 * vx), (1.0 / mass) * (-0.5 * y - 0.2 * vy)
        x, y, vx, vy = x + DT * vx, y + DT * vy, vx + DT * ax, vy + DT * ay
    return x * y


def array_particle(start: Any, mass: Any, steps: int) -> Any:
    p, v = start
    for _ in range(steps):
        p, v = p + DT * v, v + DT * (1.0 / mass) * (-0.5 * p - 0.2 * v)
    return p[0] * p[1]


def particles(one: Any, steps: int) -> Callable[[Any, Any], Any]:
    return lambda starts, mass: sum(pdl.map(lambda start: one(start, mass, steps), starts))


@pytest.mark.parametrize("executor", ["inline", "threads"])
@pytest.mark.parametrize("state", ["scalars", "arrays"])
@pytest.mark.parametrize("steps", [10, 50, 1000])
def test_fparticles(executor: str, state: str, steps: int) -> None:
    value, gradient = particle_closed_form(steps)
    if steps == 10:
        close(value, 3.7381040176478484)
        close(propagator(10), (0.945544007012297, 0.4708666414423927))
    if steps == 1000:
        close(value, 0.00106762335129, atol=1e-14)
        close(propagator(1000), (-0.011165972929, -0.010016538170))
    starts: Any = STARTS
    fn = particles(scalar_particle, steps)
    if state == "arrays":
        starts = [(np.array(p), np.array(v)) for p, v in STARTS]
        fn = particles(array_particle, steps)
    with pdl.executor(executor):
        # every particle reads the mass at every step: the paper's hot slot
        found, (g, by_mass) = pdl.value_and_grad(fn, (0, 1))(starts, MASS)
    assert abs(found - value) < 1e-14 * max(1, abs(value))
    # relative to the largest: after 1000 damped steps all are small
    leaves = np.concatenate([np.ravel(leaf) for leaf in flat(g)])
    assert np.max(np.abs(leaves - gradient)) < 1e-12 * np.max(np.abs(gradient))
    h = 1e-5
    slope = (fn(starts, MASS + h) - fn(starts, MASS - h)) / (2 * h)
    close(by_mass, slope, rtol=1e-6, atol=1e-8)


def mapped(fn: Any, items: Sequence[Any]) -> tuple[Any, ...]:
    """The paper's parallel map: nested forks of two branches."""
    if not items:
        return ()
    first, others = pdl.par(lambda: fn(items[0]), lambda: mapped(fn, items[1:]))
    return (first, *others)


@pytest.mark.parametrize("steps", [10, 300])
def test_fparticles_by_nested_forks(steps: int) -> None:
    def f(mass: Any, *leaves: Any) -> Any:
        starts = [((x, y), (vx, vy)) for x, y, vx, vy in zip(*[iter(leaves)] * 4, strict=True)]
        return sum(mapped(lambda start: scalar_particle(start, mass, steps), starts))

    def plain(mass: Any, *leaves: Any) -> Any:
        starts = [((x, y), (vx, vy)) for x, y, vx, vy in zip(*[iter(leaves)] * 4, strict=True)]
        return sum(scalar_particle(start, mass, steps) for start in starts)

    leaves = flat(STARTS)
    value, gradient = on_each_executor(f, MASS, *leaves)
    assert value == plain(MASS, *leaves)
    close(value, particle_closed_form(steps)[0])
    close(gradient[1:], particle_closed_form(steps)[1])
    close(gradient, pdl.grad(plain, range(1 + len(leaves)))(MASS, *leaves))


# --- parallel programs ----------------------------------------------------------------------------------


def on_each_executor(fn: Any, *xs: float) -> tuple[float, tuple[float, ...]]:
    """Value and gradient, which must not depend on the executor by a single bit."""
    found = []
    for executor in ("inline", "threads", "threads"):
        with pdl.executor(executor):
            found.append(pdl.value_and_grad(fn, range(len(xs)))(*xs))
    assert found[0] == found[1] == found[2]
    return found[0]


def check_parallel(fn: Any, xs: Sequence[float]) -> tuple[float, ...]:
    """Against the plain program, forward mode and the reference."""
    value, gradient = on_each_executor(fn, *xs)
    with pdl.executor("inline"):
        assert fn(*xs) == value
        expected = reference.grad(fn, *xs)[1]
    close(gradient, expected, rtol=1e-10, atol=1e-10)
    direction = tuple(math.cos(3.0 * k) for k in range(len(xs)))
    for executor in ("inline", "threads"):
        with pdl.executor(executor):
            out, along = pdl.jvp(fn, tuple(xs), direction)
        assert out == value
        close(along, np.dot(gradient, direction), rtol=1e-10, atol=1e-10)
    return gradient


def test_parallel_small() -> None:
    def f(x: Any, y: Any) -> Any:
        a, b = pdl.par(lambda: x * y * x, lambda: y + y + x)
        return a + b

    rng = np.random.default_rng(3)
    for x, y in rng.normal(size=(20, 2)) * 3:
        close(check_parallel(f, (float(x), float(y))), (2 * x * y + 1, x * x + 2))


def test_parallel_large() -> None:
    angles = [0.1 + 0.05 * math.sin(i) for i in range(300, 0, -1)]

    def rotate(a: Any, b: Any) -> Any:
        for angle in angles:
            c, s = math.cos(angle), math.sin(angle)
            a, b = c * a - s * b, s * a + c * b
        return a, b

    def f(x: Any, y: Any) -> Any:
        (a, b), (c, d) = pdl.par(lambda: rotate(x, y), lambda: rotate(y, x))
        return a + b + c + d

    turn = math.fsum(angles)
    for x, y in ((1.0, 0.5), (-3.0, 2.0), (0.0, 0.0)):
        close(check_parallel(f, (x, y)), [2 * math.cos(turn)] * 2)
        close(f(x, y), 2 * math.cos(turn) * (x + y))


# A series-parallel graph: None is the source, (before,) one more step, (left, right, before) a fork.
# Each step takes the next input.
Graph = Any
graphs = st.recursive(
    st.none(),
    lambda g: st.tuples(g) | st.tuples(g, g, g) | st.tuples(st.tuples(g), st.tuples(g), g),
    max_leaves=8,
)


def extensions(graph: Graph) -> int:
    return 0 if graph is None else (len(graph) == 1) + sum(extensions(part) for part in graph)


def go(s: Any, graph: Graph, xs: Sequence[Any], seen: tuple[Any, ...] | None) -> Any:
    """The paper's random program; with ``seen``, branches share all that was computed before."""
    if graph is None:
        return s
    *branches, before = graph
    t = go(s, before, xs, seen)
    if seen is not None:
        for k, value in enumerate(seen):
            t = t + 0.1 * np.sin(value) / (k + 1.0)
    at = extensions(before)
    if not branches:
        x = xs[at]
        return x * t / np.log((x + t) ** 2 + 2.0)
    left, right = branches
    inner = None if seen is None else (*seen, t, s, xs[-1])
    middle = at + extensions(left)
    a, b = pdl.par(
        lambda: go(t + 2.0, left, xs[at:], inner),
        lambda: go(t + 1.0, right, xs[middle:], inner),
    )
    return a + 0.9 * b


@pytest.mark.parametrize("share", [False, True], ids=["as in the paper", "shared between branches"])
def test_parallel_random(share: bool) -> None:
    @settings(derandomize=True, deadline=None, database=None, max_examples=60)
    @given(graphs, st.integers(0, 2**32))
    def random_graph(graph: Graph, seed: int) -> None:
        rng = np.random.default_rng(seed)
        xs = [float(x) for x in rng.normal(size=extensions(graph) + 2)]

        def f(s: Any, *xs: Any) -> Any:
            return go(s, graph, xs, (s, xs[-1]) if share else None)

        gradient = check_parallel(f, xs)
        if not share:
            assert gradient[-1] == 0.0  # the last input is what branches share

    random_graph()


def generate(rng: np.random.Generator, size: int) -> Graph:
    """The paper's generator."""
    if rng.random() < 0.5:
        return (generate(rng, size),)
    if size > 0 and rng.random() < 1 - 1 / size:
        return tuple(generate(rng, size // 3) for _ in range(3))
    return None


def forks(graph: Graph) -> int:
    return 0 if graph is None else (len(graph) == 3) + sum(forks(part) for part in graph)


def test_parallel_random_in_the_sizes_of_the_paper() -> None:
    rng = np.random.default_rng(2025)
    most = 0
    for size in range(0, 100, 9):
        graph = generate(rng, size)
        most = max(most, forks(graph))
        xs = [float(x) for x in rng.normal(size=extensions(graph) + 2)]
        # the source, the last input and all values that are split are shared between branches
        gradient = check_parallel(lambda s, *xs, graph=graph: go(s, graph, xs, (s, xs[-1])), xs)
        assert np.all(np.isfinite(gradient))
    assert most > 20


def test_forks_nest_deeper_than_the_generator() -> None:
    def tree(x: Any, y: Any, depth: int) -> Any:
        if depth == 0:
            return np.sin(x) * y
        a, b = pdl.par(lambda: tree(x + y, y, depth - 1), lambda: tree(x * 0.9, x, depth - 1))
        return a * 0.5 + b * 0.5

    check_parallel(lambda x, y: tree(x, y, 6), (0.3, 0.7))


def test_a_long_row_of_forks() -> None:
    def row(x: Any, y: Any) -> Any:
        for _ in range(40):
            x, y = pdl.par(lambda x=x, y=y: np.sin(x) + 0.1 * y, lambda x=x, y=y: np.cos(y) - 0.1 * x)
        return x * y

    check_parallel(row, (0.3, 0.7))


@pytest.mark.parametrize("executor", ["inline", "threads"])
def test_branches_that_do_nothing_much(executor: str) -> None:
    def f(x: Any, y: Any) -> Any:
        captured, constant, _, nothing = pdl.par(lambda: x, lambda: 2.0, lambda: np.exp(y), lambda: None)
        assert nothing is None
        return captured * constant

    with pdl.executor(executor):
        assert pdl.value_and_grad(f, (0, 1))(3.0, 4.0) == (6.0, (2.0, 0.0))
        assert pdl.grad(lambda x: pdl.par(lambda: x)[0])(3.0) == 1.0
        assert pdl.grad(lambda x: sum(pdl.par(), x))(3.0) == 1.0


@pytest.mark.parametrize("executor", ["inline", "threads"])
def test_exceptions_come_out_of_branches(executor: str) -> None:
    def f(x: Any) -> Any:
        return sum(pdl.par(lambda: x, lambda: 1 / 0))

    with pdl.executor(executor):
        with pytest.raises(ZeroDivisionError):
            pdl.grad(f)(1.0)
        assert pdl.grad(lambda x: sum(pdl.par(lambda: x * x, lambda: x)))(1.0) == 3.0


@pytest.mark.parametrize("executor", ["inline", "threads"])
def test_nan_and_infinity_stay_in_their_branch(executor: str) -> None:
    def f(x: Any, y: Any) -> Any:
        a, b = pdl.par(lambda: x * x, lambda: y * math.inf)
        return a, b

    with pdl.executor(executor):
        out, pullback = pdl.vjp(f, 3.0, 2.0)
        assert out == (9.0, math.inf)
        assert pullback((1.0, 0.0))[0] == 6.0
        assert pullback((0.0, 1.0)) == (0.0, math.inf)
        assert math.isnan(pullback((math.nan, 0.0))[0])


def test_one_pullback_from_many_threads() -> None:
    def f(x: Any, y: Any) -> Any:
        return pdl.par(lambda: np.sin(x) * y, lambda: x * y * y, lambda: x)

    _, pullback = pdl.vjp(f, 0.4, 1.3)
    expected = [pullback((float(k), 1.0, -k / 2)) for k in range(32)]
    for _ in range(5):
        assert pdl.map(lambda k: pullback((float(k), 1.0, -k / 2)), range(32)) == expected


@pytest.mark.parametrize("executor", ["inline", "threads"])
def test_one_pullback_from_plain_threads(executor: str) -> None:
    # not from tasks: threads that know nothing of the executor
    def f(x: Any, y: Any) -> Any:
        t = x * y
        a, (b, c) = pdl.par(lambda: np.sin(t) * x, lambda: pdl.par(lambda: t * t * y, lambda: t))
        return a, b, c

    with pdl.executor(executor):
        _, pullback = pdl.vjp(f, 0.4, 1.3)
    cotangents = [(float(k), 1.0, -k / 2) for k in range(8)]
    expected = [pullback(cotangent) for cotangent in cotangents]
    found: dict[int, Any] = {}
    barrier = threading.Barrier(len(cotangents))

    def use(k: int) -> None:
        barrier.wait(60)
        found[k] = [pullback(cotangents[k]) for _ in range(20)]

    threads = [threading.Thread(target=use, args=(k,)) for k in range(len(cotangents))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {k: [row] * 20 for k, row in enumerate(expected)}


@pytest.mark.parametrize("executor", ["inline", "threads"])
def test_an_exception_in_a_branch_of_the_reverse_pass(executor: str) -> None:
    fails = [True]

    @pdl.custom_vjp
    def square(x: Any) -> Any:
        return x * x

    def backward(x: Any, g: Any) -> Any:
        if fails[0]:
            raise ZeroDivisionError("in reverse")
        return (2.0 * x * g,)

    square.defvjp(lambda x: (x * x, x), backward)

    def f(x: Any, y: Any) -> Any:
        t = x + y
        a, b = pdl.par(lambda: t * x, lambda: sum(pdl.par(lambda: square(t), lambda: y)))
        return a * b

    with pdl.executor(executor):
        out, pullback = pdl.vjp(f, 2.0, 3.0)
        assert out == f(2.0, 3.0) == 280.0
        for _ in range(2):
            with pytest.raises(ZeroDivisionError, match="in reverse"):
                pullback(1.0)
        fails[0] = False
        # f = (t x) (t^2 + y) with t = x + y
        assert pullback(1.0) == (28.0 * 7.0 + 10.0 * 10.0, 28.0 * 2.0 + 10.0 * 11.0)


@pytest.mark.parametrize("executor", ["inline", "threads"])
def test_captured_arrays_come_back_untouched(executor: str) -> None:
    def f(x: Any) -> Any:
        (a, b), c = pdl.par(lambda: pdl.par(lambda: x, lambda: x), lambda: x)
        return a, b, c

    x = np.array([1.0, 2.0])
    with pdl.executor(executor):
        out, pullback = pdl.vjp(f, x)
        cotangents = tuple(np.array([k, 10.0 * k]) for k in (1.0, 2.0, 4.0))
        before = [u.copy() for u in cotangents]
        (slope,) = pullback(cotangents)
        for part in out:
            np.testing.assert_array_equal(part, x)
        np.testing.assert_array_equal(slope, [7.0, 70.0])
        slope += 1.0  # the caller's own
        np.testing.assert_array_equal(cotangents, before)
        np.testing.assert_array_equal(pullback(cotangents)[0], [7.0, 70.0])
        assert pdl.grad(lambda x: math.prod(pdl.par(lambda: x, lambda: x, lambda: x)))(2.0) == 12.0


def sequential(*thunks: Callable[[], Any]) -> tuple[Any, ...]:
    return tuple(thunk() for thunk in thunks)


@pytest.mark.parametrize("x", [2.0, 0.0, math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("y", [3.0, 0.0, math.nan])
def test_nan_and_infinity_of_shared_values(x: float, y: float) -> None:
    def f(fork: Any, x: Any, y: Any) -> Any:
        t = x * y
        a, (b, c) = fork(lambda: t * x, lambda: fork(lambda: t * math.inf + y, lambda: y * y))
        _, d = fork(lambda: t * math.nan, lambda: t + 1.0)  # the first is not used
        return a, b, c, d

    expected, pull = pdl.vjp(lambda x, y: f(sequential, x, y), x, y)
    np.testing.assert_equal(f(sequential, x, y), expected)
    cotangents = [*np.eye(4).tolist(), [1.0, 0.0, 2.0, math.nan], [0.5, -1.0, 0.0, math.inf]]
    for executor in ("inline", "threads"):
        with pdl.executor(executor):
            out, pullback = pdl.vjp(lambda x, y: f(pdl.par, x, y), x, y)
            np.testing.assert_equal(out, expected)
            for cotangent in cotangents:
                # NaN is equal to NaN here
                np.testing.assert_equal(pullback(tuple(cotangent)), pull(tuple(cotangent)))


@pytest.mark.parametrize("executor", ["inline", "threads"])
def test_an_unused_branch_of_nan_and_infinity(executor: str) -> None:
    def f(x: Any, y: Any) -> Any:
        t = x * y
        _, (used, _) = pdl.par(lambda: t * math.nan, lambda: (t * x, t * math.inf * y))
        return used

    with pdl.executor(executor):
        assert pdl.value_and_grad(f, (0, 1))(3.0, 2.0) == (18.0, (12.0, 9.0))
