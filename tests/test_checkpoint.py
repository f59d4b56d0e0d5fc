"""Checkpoints: equal to the plain program, cheaper, and loud where the function does not repeat."""

import pickle
import tracemalloc

import numpy as np
import pytest

import paradual as pdl
from paradual.errors import NotDifferentiableError, ParadualValueError
from paradual.tape import ACTIVE, OUTSIDE

A = np.array([0.5, 1.25, -2.0])
M = np.array([[0.4, -1.2, 0.9], [1.5, 0.3, -0.7], [0.2, 0.8, 1.1]])


@pytest.fixture(autouse=True)
def nothing_is_left_behind():
    yield
    assert ACTIVE.get() == (OUTSIDE,)


# --- checkpoint: equal to the plain program ---------------------------------------------------------------


def segment(x):
    y = np.tanh(M @ x) * x
    return y + np.sin(y) * y[0]


def chain(wrap, n=4):
    def f(x):
        for _ in range(n):
            x = wrap(segment)(x)
        return (x * x).sum()

    return f


def captured(wrap):
    def f(x):
        scale = np.exp(x[0])

        def step(y):
            return y * scale + x[1] * np.cos(y)

        return (wrap(step)(x * x) * wrap(step)(scale * x)).sum()

    return f


def nested(wrap):
    def f(x):
        outer = wrap(lambda y: wrap(lambda z: np.sin(z) * x)(y) + wrap(segment)(y * x[0]))
        return wrap(lambda y: outer(y).sum() * outer(x).sum())(x)

    return f


def trees(wrap):
    def step(state, scale=2.0, *, name="k"):
        return {"a": state["a"] * scale, "n": 3, name: (state["b"] @ state["a"], None, "text")}

    def f(x):
        out = wrap(step)({"a": x, "b": np.sin(x)}, scale=x[0], name="v")
        assert out["n"] == 3
        assert out["v"][1:] == (None, "text")
        return (out["a"] * out["v"][0]).sum()

    return f


def tasks(wrap):
    def step(y):
        a, b = pdl.par(lambda: np.sin(y), lambda: sum(pdl.map(lambda k: y * k, [1.0, y[0], 3.0])))
        late = pdl.submit(lambda: y * a)
        return a * b + late.result()

    def f(x):
        a, b = pdl.par(lambda: wrap(step)(x), lambda: wrap(segment)(x))
        return (wrap(step)(a) * b).sum()

    return f


def untouched(wrap):
    def f(x):
        y, z = wrap(lambda u, v: (v, u))(x, x * x)
        unused = wrap(segment)(x)
        constant = wrap(lambda u: np.ones(3))(x)
        assert unused.shape == (3,)
        assert type(constant) is np.ndarray
        return (y * z * constant).sum() + wrap(lambda: x.sum() * 2.0)() * wrap(lambda: 3.0)()

    return f


def floats(wrap):
    def f(x):
        def step(s):
            for _ in range(3):
                s = s * s * 0.5 + s
            return s

        return wrap(step)(x[0]) * wrap(lambda s: s**2)(x[1]) + x[2]

    return f


PROGRAMS = [chain, captured, nested, trees, tasks, untouched, floats]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.__name__)
def test_checkpoint_changes_nothing(program):
    plain, kept = program(lambda fn: fn), program(pdl.checkpoint)
    value, slope = pdl.value_and_grad(kept)(A)
    expected_value, expected = pdl.value_and_grad(plain)(A)
    assert value == expected_value == kept(A)
    if program in (chain, untouched, floats):  # the others add contributions in another order
        np.testing.assert_array_equal(slope, expected)
    np.testing.assert_allclose(slope, expected, rtol=1e-13)
    np.testing.assert_allclose(pdl.jvp(kept, (A,), (M[0],))[1], expected @ M[0], rtol=1e-12)
    second = pdl.hessian(plain)(A)
    np.testing.assert_allclose(pdl.hessian(kept)(A), second, rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(pdl.hvp(kept, A, M[1]), second @ M[1], rtol=1e-11, atol=1e-11)
    reverse = pdl.grad(lambda x: pdl.jvp(kept, (x,), (M[1],))[1])(A)
    np.testing.assert_allclose(reverse, second @ M[1], rtol=1e-11, atol=1e-11)


def test_third_order_through_a_checkpoint():
    f = pdl.checkpoint(lambda x: x**4)
    assert pdl.grad(pdl.grad(pdl.grad(f)))(2.0) == pytest.approx(48.0)
    assert pdl.jvp(pdl.grad(pdl.grad(f)), (2.0,), (1.0,))[1] == pytest.approx(48.0)


def test_a_checkpoint_outside_a_differentiation():
    calls = []
    f = pdl.checkpoint(lambda x, y=1: calls.append(1) or (x, y))
    assert f(2, y=3) == (2, 3)
    assert len(calls) == 1
    assert pdl.checkpoint(segment).__name__ == "segment"


def test_a_checkpoint_of_outer_values_inside_an_inner_differentiation():
    def f(x):
        step = pdl.checkpoint(lambda y: y * x * x)
        return pdl.grad(lambda y: step(y) * y + pdl.checkpoint(lambda: x**3)())(x)  # 2 y x^2 at y = x

    assert pdl.grad(f)(2.0) == pytest.approx(6 * 4.0)
    assert pdl.grad(pdl.grad(f))(2.0) == pytest.approx(24.0)


def test_a_checkpoint_calls_its_function_once_more_for_a_pullback():
    calls = []

    def step(x):
        calls.append(1)
        return np.sin(x)

    _, pullback = pdl.vjp(pdl.checkpoint(step), A)
    assert len(calls) == 1
    first = pullback(np.ones(3))[0]
    assert len(calls) == 2
    np.testing.assert_array_equal(pullback(np.ones(3))[0], first)
    assert len(calls) == 3
    np.testing.assert_allclose(first, np.cos(A))
    pdl.vjp(lambda x: pdl.checkpoint(step)(x).sum() * 0 + x.sum(), A)
    pdl.jvp(pdl.checkpoint(step), (A,), (A,))
    assert len(calls) == 5


def test_a_pullback_with_a_checkpoint_pickles():
    _, pullback = pdl.vjp(pdl.checkpoint(segment), A)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(pullback))(A)[0], pullback(A)[0])


def test_arguments_that_change_in_place():
    def f(x):
        y = x * 1.0
        z = pdl.checkpoint(lambda u: u * u)(y)
        y += 10.0
        return (z * y).sum()

    np.testing.assert_allclose(pdl.grad(f)(A), 3 * A**2 + 20 * A)

    def inside(x):
        def step(u):
            u *= 2.0
            return u * u

        return pdl.checkpoint(step)(x * 1.0).sum()

    with pytest.raises(NotDifferentiableError, match="outside of this task or checkpoint"):
        pdl.grad(inside)(A)


def test_a_masked_branch_across_a_checkpoint_stays_nan():
    # what np.where lets through is known within a program's jobs, not within a checkpoint: NaN, not a guess
    def f(x):
        return np.where(x > 0, pdl.checkpoint(np.sqrt)(x), 0.0).sum()

    np.testing.assert_array_equal(pdl.grad(f)(np.array([0.0, 4.0])), [np.nan, 0.25])


def test_memory_of_a_chain():
    x = np.linspace(0.1, 1.0, 20_000)

    def wide(y):
        for _ in range(8):
            y = np.tanh(y * 1.01 + 0.01)
        return y

    def program(wrap):
        def f(y):
            for _ in range(50):
                y = wrap(wide)(y)
            return y.sum()

        return f

    def peak(f):
        tracemalloc.start()
        try:
            slope = pdl.grad(f)(x)
            return tracemalloc.get_traced_memory()[1], slope
        finally:
            tracemalloc.stop()

    plain, expected = peak(program(lambda fn: fn))
    kept, slope = peak(program(pdl.checkpoint))
    np.testing.assert_array_equal(slope, expected)
    assert plain > 350 * x.nbytes
    assert kept < 90 * x.nbytes


# --- checkpoint: what cannot be repeated --------------------------------------------------------------------


def test_a_function_that_is_not_repeatable():
    rng = np.random.default_rng(0)
    state = {"calls": 0}

    def counted(x):
        state["calls"] += 1
        return x * state["calls"]

    def random(x):
        return x * rng.standard_normal(3)

    def other_values(x, y):
        state["calls"] += 1
        return x * 1.0 if state["calls"] % 2 else x * y

    def other_size(x):
        state["calls"] += 1
        return [x * 2.0] * (1 + state["calls"] % 2)

    def other_kind(x):
        state["calls"] += 1
        return x * 2.0 if state["calls"] % 2 else np.ones(3)

    for f in (counted, random):
        state["calls"] = 0
        with pytest.raises(ParadualValueError, match="must do the same each time"):
            pdl.grad(lambda x, f=f: pdl.checkpoint(f)(x).sum())(A)
    for f in (other_values, other_size, other_kind):
        state["calls"] = 0

        def g(x, f=f):
            y = x * 3.0
            closed = (lambda u: f(u, y)) if f is other_values else f
            out = pdl.checkpoint(closed)(x)
            return sum(part.sum() for part in (out if isinstance(out, list) else [out]))

        with pytest.raises(ParadualValueError, match="must do the same each time"):
            pdl.grad(g)(A)


def test_a_captured_array_that_is_written_to():
    c = np.ones(3)

    def f(x):
        y = pdl.checkpoint(lambda u: u * c)(x)
        c[:] = 2.0
        return y.sum()

    with pytest.raises(ParadualValueError, match="captured array that is written to"):
        pdl.grad(f)(A)


def test_a_result_that_is_not_finite_is_repeatable():
    with np.errstate(all="ignore"):
        slope = pdl.grad(lambda x: pdl.checkpoint(lambda y: np.log(y) * 1.0)(x)[1:].sum())(
            np.array([0.0, 2.0])
        )
    assert slope[1] == 0.5


@pytest.mark.parametrize("size", [3, 20_000])
def test_many_tasks_inside_a_checkpoint_use_what_is_outside(size):
    """More than a sum takes at once: the tapes of the tasks are emptied when the sums are planned."""
    x = np.linspace(0.1, 1.0, size)

    def f(x):
        return sum(part.sum() for part in pdl.map(lambda k: np.sin(x * k), range(1, 20)))

    for executor in ("inline", "threads"):
        with pdl.executor(executor):
            np.testing.assert_allclose(
                pdl.grad(lambda x: pdl.checkpoint(lambda y: f(y * 2.0) + f(x))(x))(x),
                pdl.grad(lambda x: f(x * 2.0) + f(x))(x),
                rtol=1e-12,
                atol=1e-11,  # sums of some hundreds that cancel
            )
