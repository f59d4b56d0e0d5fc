"""Time loops: equal to the plain loop in all derivatives, whatever is captured, written or observed."""

import pickle
import threading
import tracemalloc
from dataclasses import dataclass
from math import isqrt

import cloudpickle
import dask
import numpy as np
import pytest
from dask import delayed

import paradual as pdl
from paradual.tape import ACTIVE, OUTSIDE
from paradual.testing import check_grads

A = np.array([0.5, 1.25, -2.0])
M = np.array([[0.4, -0.2, 0.3], [0.5, 0.3, -0.7], [0.2, 0.6, 0.1]])


@pytest.fixture(autouse=True)
def nothing_is_left_behind():
    yield
    assert ACTIVE.get() == (OUTSIDE,)


def plain(step, state, n, schedule=None, *, observe=None):
    """The loop as Python has it."""
    seen = []
    for i in range(n):
        state = step(i, state)
        if observe is not None:
            seen.append(observe(i, state))
    return state if observe is None else (state, seen)


# --- programs, and the same with a plain loop ---------------------------------------------------------------


def linear(loop, n=7):
    return lambda x: (loop(lambda i, s: M @ s, x, n) * A).sum()


def captured(loop, n=7):
    """The step uses an input, what was computed from it, an element for each step, and itself twice."""

    def f(x):
        c = np.exp(-x * x)

        def step(i, s):
            return s + 0.1 * np.sin(s) * c + 0.2 * c * x[i % 3]

        return (loop(step, np.ones(3), n) * c).sum()

    return f


def leapfrog(loop, n=9):
    """A state of several leaves, one of them passed on as it is, an integer, and observations."""

    def step(i, state):
        before, now = state["u"]
        return {
            "u": (now, 2 * now - before - 0.1 * np.sin(now) * state["c"]),
            "c": state["c"],
            "k": state["k"] + 1,
        }

    def observe(i, state):
        return state["u"][1][:2] * i, None, "text", state["k"]

    def f(x):
        state, seen = loop(step, {"u": (x, x * x), "c": np.cos(x), "k": 0}, n, observe=observe)
        assert state["k"] == n
        assert [row[3] for row in seen] == list(range(1, n + 1))
        assert seen[0][1:3] == (None, "text")
        return (state["u"][1] * state["u"][0]).sum() + sum((row[0] ** 2).sum() for row in seen[2:-2])

    return f


def in_place(loop, n=6):
    """The step writes into its state; the first state stays as it is, in every mode."""

    def step(i, u):
        u[1:] += 0.3 * u[:-1]
        u[0] = u[0] * np.sin(u[2])
        u *= 1.1
        return u

    def f(x):
        start = x * 1.0
        out = loop(step, start.copy() if loop is plain else start, n)
        return (out * start).sum()

    return f


def plain_in_place(loop, n=6):
    """The step writes into a constant leaf of its state."""

    def f(x):
        start = np.ones(3)

        def step(i, state):
            u, counts = state
            counts[i % 3] += 1.0
            return u * counts * 0.5 + 0.1 * np.sin(u), counts

        u, counts = loop(step, (x, start.copy() if loop is plain else start), n)
        assert start.sum() == 3.0
        return (u * counts).sum()

    return f


def appearing(loop, n=5):
    """Leaves that become constant and those that cease to be."""

    def step(i, state):
        a, b = state
        return (b * x_of[0] if i % 2 else np.ones(3)), a + 1.0

    x_of = [None]

    def f(x):
        x_of[0] = x
        a, b = loop(step, (np.zeros(3), x), n)
        return (a * b).sum()

    return f


def nested(loop, n=3):
    def f(x):
        def outer(i, s):
            c = s * 0.1

            def inner(j, t):
                return t + 0.1 * np.sin(t * x) + c * (i + 1) / (j + 1)

            t, seen = loop(inner, s, 2, observe=lambda j, t: t.sum())
            return t * 0.9 + seen[0] * seen[1] * 0.01

        return loop(outer, x * x, n).sum()

    return f


def tasks(loop, n=3):
    def f(x):
        c = np.exp(-x)

        def step(i, s):
            a, b = pdl.par(
                lambda: np.sin(s) * c, lambda: sum(pdl.map(lambda k: s * k * 0.1, [1.0, x[0], 3.0]))
            )
            late = pdl.submit(lambda: a * s)
            return a + 0.1 * b * late.result()

        return loop(step, x * 1.0, n).sum()

    return f


def masked(loop, n=5):
    def f(x):
        def step(i, s):
            return np.where(s > 0, np.sqrt(np.maximum(s, 0.0)), 0.1 * s * x)

        return (loop(step, x * 2.0, n) ** 2).sum()

    return f


def numbers(loop, n=6):
    return lambda x: loop(lambda i, s: s * x[1] * 0.5 + s * s, x[0] * 0.1, n) * x[2]


def unused(loop, n=4):
    def f(x):
        constant = loop(lambda i, s: s * 2.0, np.ones(3), n)
        assert type(constant) is np.ndarray
        forgotten, seen = loop(lambda i, s: s * x, x, n, observe=lambda i, s: s[0])
        assert forgotten.shape == (3,)
        return (x * constant).sum() * seen[1] + loop(lambda i, s: s, x, 0).sum()

    return f


def beside(loop, n=5):
    """The step hands on what it has captured, as it is or as a view; the loop's result is used twice."""

    def f(x):
        c = x * 2.0

        def step(i, state):
            a, b, d = state
            return a * 0.5 + b[:1] * d.sum(), c if i % 2 else c[::-1], c[1:]

        a, b, d = loop(step, (x, x, x[1:]), n)
        return (a * b).sum() * d.sum() + a.sum()

    return f


PROGRAMS = [
    linear,
    captured,
    leapfrog,
    in_place,
    plain_in_place,
    appearing,
    nested,
    tasks,
    masked,
    numbers,
    unused,
    beside,
]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.__name__)
def test_a_loop_changes_nothing(program):
    looped, expected_of = program(pdl.loop), program(plain)
    value, slope = pdl.value_and_grad(looped)(A)
    expected_value, expected = pdl.value_and_grad(expected_of)(A)
    assert value == expected_value == looped(A)
    if program in (linear, leapfrog, numbers, in_place, appearing):  # others add in another order
        np.testing.assert_array_equal(slope, expected)
    np.testing.assert_allclose(slope, expected, rtol=1e-12, atol=1e-14)
    if program is not masked:
        check_grads(looped, (A,), order=1 if program in (tasks, nested) else 2)
    np.testing.assert_allclose(pdl.jvp(looped, (A,), (M[0],))[1], expected @ M[0], rtol=1e-11)
    _, pullback = pdl.vjp(looped, A)
    for _ in range(2):
        np.testing.assert_array_equal(pullback(1.0)[0], slope)
    second = pdl.hessian(expected_of)(A)
    tolerance = {"rtol": 1e-10, "atol": 1e-11 * np.abs(second).max()}
    np.testing.assert_allclose(pdl.hessian(looped)(A), second, **tolerance)
    np.testing.assert_allclose(pdl.hvp(looped, A, M[1]), second @ M[1], **tolerance)
    twice = pdl.grad(lambda x: (pdl.grad(looped)(x) * M[1]).sum())(A)
    np.testing.assert_allclose(twice, second @ M[1], **tolerance)
    crossed = pdl.grad(lambda x: pdl.jvp(looped, (x,), (M[1],))[1])(A)
    np.testing.assert_allclose(crossed, second @ M[1], **tolerance)


def test_closed_forms():
    slope = pdl.grad(linear(pdl.loop, 20))(A)
    np.testing.assert_allclose(slope, np.linalg.matrix_power(M, 20).T @ A, rtol=1e-12)
    power = lambda x: pdl.loop(lambda i, s: s * x, 1.0, 10)  # noqa: E731
    assert pdl.grad(power)(1.1) == pytest.approx(10 * 1.1**9)
    assert pdl.grad(pdl.grad(pdl.grad(power)))(1.1) == pytest.approx(720 * 1.1**7)
    assert pdl.loop(lambda i, s: s + i, 0, 5) == 10
    assert pdl.loop(lambda i, s: (s[0] + s[1], s[0]), (1, 0), np.int64(10)) == (89, 55)


@pytest.mark.parametrize("dtype", [np.float32, np.complex128, np.complex64, np.longdouble])
def test_dtypes(dtype):
    x = (A * (1 + 0.5j) if np.dtype(dtype).kind == "c" else A).astype(dtype)

    def f(loop):
        def g(x):
            out = loop(lambda i, s: s * x * dtype(0.1) + np.sin(s * dtype(0.3)), x, 6)
            return (out * np.conj(out)).real.sum()

        return g

    slope = pdl.grad(f(pdl.loop))(x)
    assert slope.dtype == dtype
    np.testing.assert_allclose(slope, pdl.grad(f(plain))(x), rtol=100 * np.finfo(dtype).eps)


@pytest.mark.parametrize(
    "start",
    [
        np.float64(2.0),
        np.array(2.0),
        np.zeros((0, 2)),
        np.ones((3, 4)).T,
        np.arange(6.0)[::2],
        np.array([np.nan, 1.0]),
    ],
)
def test_states_of_every_kind(start):
    def f(loop):
        return lambda s: np.sum(loop(lambda i, s: s * s * 0.3 + i, s, 4))

    slope, expected = pdl.grad(f(pdl.loop))(start), pdl.grad(f(plain))(start)
    assert type(slope) is type(expected)
    np.testing.assert_array_equal(slope, expected)


def test_a_read_only_state_and_a_dataclass():
    @dataclass
    class State:
        u: object
        t: float

    start = A.copy()
    start.flags.writeable = False

    def f(x):
        def step(i, s):
            return State((s.u + x) * x, s.t + 0.5)

        out = pdl.loop(step, State(start, 0.0), 3)
        assert out.t == 1.5
        return out.u.sum()

    np.testing.assert_allclose(f(A), (A * 0 + start * A**3 + A**2 + A**3 + A**4).sum())
    np.testing.assert_allclose(pdl.grad(f)(A), 3 * start * A**2 + 2 * A + 3 * A**2 + 4 * A**3)
    np.testing.assert_array_equal(start, A)


@pytest.mark.parametrize("n", [1, 2, 3, 10, 17])
def test_each_step_is_run_twice(n):
    calls = []

    def step(i, s):
        calls.append(i)
        return np.sin(s)

    f = lambda x: pdl.loop(step, x, n).sum()  # noqa: E731
    pdl.grad(f)(A)
    assert sorted(calls) == sorted([*range(n), *range(n)])
    length = isqrt(n - 1) + 1
    assert calls[n] == (n - 1) // length * length  # the last stretch first
    calls.clear()
    f(A)
    pdl.jvp(f, (A,), (A,))
    assert calls == [*range(n), *range(n)]


# --- memory -------------------------------------------------------------------------------------------------


def peak(f, x):
    tracemalloc.start()
    try:
        slope = f(x)
        return tracemalloc.get_traced_memory()[1] / x.nbytes, slope
    finally:
        tracemalloc.stop()


def wide(loop, n, x, start):
    def step(i, u):
        for _ in range(4):
            u = np.tanh(u * 1.01 + x)
        return u

    return loop(step, start, n).sum()


def test_memory_of_the_default():
    """64 steps: 8 states, and what 8 steps keep (their four results); hvp as much for each part of a dual."""
    x = np.linspace(0.1, 1.0, 4_000)
    all_of_it, expected = peak(pdl.grad(lambda x: wide(plain, 64, x, x)), x)
    some, slope = peak(pdl.grad(lambda x: wide(pdl.loop, 64, x, x)), x)
    np.testing.assert_allclose(slope, expected, rtol=1e-12)
    assert all_of_it > 4 * 64
    assert some < 8 + 4 * 8 + 12
    twice, _ = peak(lambda x: pdl.hvp(lambda x: wide(pdl.loop, 64, x, x), x, x), x)
    assert twice < 3 * (8 + 4 * 8 + 12)
    ahead, _ = peak(lambda x: pdl.jvp(lambda x: wide(pdl.loop, 64, x, x), (x,), (x,)), x)
    assert ahead < 14


def test_snapshots_are_freed_as_they_are_used():
    """By the one pass of `grad`: when its last step is due, all other snapshots are gone."""
    x = np.linspace(0.1, 1.0, 4_000)
    seen = []

    def step(i, u):
        seen.append(tracemalloc.get_traced_memory()[0] / x.nbytes)
        return np.sin(u)

    peak(pdl.grad(lambda x: pdl.loop(step, x, 100).sum()), x)
    first, last = seen[100], seen[190]
    assert 7 < first - last < 10


def test_snapshots_are_kept_for_as_long_as_the_pullback():
    x = np.linspace(0.1, 1.0, 4_000)
    _, pullback = pdl.vjp(lambda x: wide(pdl.loop, 64, x, x), x)
    first = pullback(1.0)[0]
    used, again = peak(lambda x: pullback(1.0)[0], x)
    np.testing.assert_array_equal(again, first)
    assert used < 4 * 8 + 12
    found = [None] * 3

    def call(k):
        found[k] = pullback(1.0)[0]

    threads = [threading.Thread(target=call, args=(k,)) for k in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for slope in found:
        np.testing.assert_array_equal(slope, first)


def test_one_element_of_a_long_series_at_each_step():
    """The cotangent of what is read element by element is added to in place: no O(n) a step."""
    series = np.linspace(0.0, 1.0, 50_000)
    f = lambda w: pdl.loop(lambda i, s: s * 0.9 + w[i] * w[i + 1], 0.0, 200)  # noqa: E731
    used, slope = peak(pdl.grad(f), series)
    expected = pdl.grad(lambda w: plain(lambda i, s: s * 0.9 + w[i] * w[i + 1], 0.0, 200))(series)
    np.testing.assert_array_equal(slope, expected)
    assert used < 2.6  # the input's copy, and one cotangent


# --- where loops run -------------------------------------------------------------------------------------


def test_pullbacks_pickle():
    _, pullback = pdl.vjp(leapfrog(pdl.loop), A)
    there = pickle.loads(cloudpickle.dumps(pullback))
    np.testing.assert_array_equal(there(1.0)[0], pullback(1.0)[0])


@pytest.mark.parametrize("executor", ["inline", "threads"])
def test_loops_in_tasks(executor):
    def f(loop):
        def g(x):
            parts = pdl.map(lambda k: loop(lambda i, s: np.sin(s * x) * k, x, 5).sum(), [1.0, 2.0, x[1]])
            return sum(parts) * loop(lambda i, s: s * 0.9, parts[0], 3)

        return g

    with pdl.executor(executor):
        np.testing.assert_allclose(pdl.grad(f(pdl.loop))(A), pdl.grad(f(plain))(A), rtol=1e-12)
        np.testing.assert_allclose(pdl.hvp(f(pdl.loop), A, A), pdl.hvp(f(plain), A, A), rtol=1e-11)


@pytest.mark.parametrize("tapes", ["keep", "recompute"])
@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_loops_in_dask_graphs(tapes, scheduler):
    x = delayed(A)
    shots = [
        delayed(lambda x, k: (captured(pdl.loop)(x) * k, in_place(pdl.loop)(x)))(x, k) for k in (1.0, 2.0)
    ]
    loss = delayed(lambda parts: sum(a * b for a, b in parts))(shots)
    expected = pdl.grad(lambda x: 3 * captured(plain)(x) * in_place(plain)(x))(A)
    with dask.config.set(scheduler=scheduler):
        np.testing.assert_allclose(pdl.gradients(loss, x, tapes=tapes).compute(), expected, rtol=1e-12)


def test_a_state_with_labels():
    xr = pytest.importorskip("xarray")
    labelled = lambda x: xr.Dataset({"u": ("a", x), "v": ("a", x * 2.0)}, coords={"a": [1, 2, 3]})  # noqa: E731

    def f(loop):
        def g(x):
            state = loop(lambda i, s: s.assign(u=s.u + 0.1 * np.sin(s.v), v=s.v * s.u), labelled(x), 4)
            return (state.u * state.v).sum().data[()]

        return g

    np.testing.assert_allclose(pdl.grad(f(pdl.loop))(A), pdl.grad(f(plain))(A), rtol=1e-13)


def test_jacobians_and_profiles():
    f = lambda x: pdl.loop(lambda i, s: M @ np.sin(s) * x, x, 5)  # noqa: E731
    expected = pdl.jacobian(f, mode="forward")(A)
    np.testing.assert_allclose(pdl.jacobian(f, mode="reverse")(A), expected, rtol=1e-12)
    np.testing.assert_allclose(pdl.jacobian(f, mode="reverse")(A).T @ A, pdl.vjp(f, A)[1](A)[0], rtol=1e-12)
    with pdl.executor("inline"), pdl.profile() as seen:
        pdl.grad(tasks(pdl.loop))(A)
    assert str(seen)


def test_outer_values_in_an_inner_differentiation():
    def f(x):
        return pdl.grad(
            lambda y: pdl.loop(lambda i, s: s * y * x, x, 3) * y + pdl.loop(lambda i, s: s * x, x, 2)
        )(x)

    # d/dy (x^4 y^4 + x^3) at y = x is 4 x^7
    assert pdl.grad(f)(1.5) == pytest.approx(28 * 1.5**6)
