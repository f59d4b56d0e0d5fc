"""Loops: what is refused or noticed, and arrays that are written to or share memory."""

import tracemalloc

import numpy as np
import pytest

import paradual as pdl
from paradual.errors import NotDifferentiableError, ParadualTypeError, ParadualValueError
from paradual.tape import ACTIVE, OUTSIDE

A = np.array([0.5, 1.25, -2.0])


@pytest.fixture(autouse=True)
def nothing_is_left_behind():
    yield
    assert ACTIVE.get() == (OUTSIDE,)


def plain(step, state, n, *, observe):
    seen = []
    for i in range(n):
        state = step(i, state)
        seen.append(observe(i, state))
    return state, seen


@pytest.mark.parametrize(
    ("n", "error", "match"),
    [
        (-1, ParadualValueError, "not negative"),
        (2.0, ParadualTypeError, "an int, not a float"),
        (True, ParadualTypeError, "an int, not a bool"),
        ("3", ParadualTypeError, "an int, not a str"),
        (None, ParadualTypeError, "an int, not a NoneType"),
        (np.array([3, 4]), ParadualTypeError, "an int, not a ndarray"),
    ],
)
def test_the_number_of_steps(n, error, match):
    with pytest.raises(error, match=match):
        pdl.loop(lambda i, s: s, A, n)
    with pytest.raises(ParadualTypeError, match="an int, not a Dual"):
        pdl.grad(lambda x: pdl.loop(lambda i, s: s, x, x))(3.0)


def test_arguments_of_other_kinds():
    with pytest.raises(ParadualTypeError, match=r"called, step\(i, state\): it is a int"):
        pdl.loop(3, A, 2)
    with pytest.raises(ParadualTypeError, match="observe is called"):
        pdl.loop(lambda i, s: s, A, 2, observe=[])
    with pytest.raises(ParadualTypeError, match="path of a directory, not a int"):
        pdl.loop(lambda i, s: s, A, 2, folder=3)


CHANGES = [
    (lambda i, s: {"u": s["u"]}, TypeError, "step 0 .* of the structure"),
    (lambda i, s: s["u"], TypeError, "step 0 .* of the structure"),
    (lambda i, s: None, TypeError, "step 0 .* of the structure"),
    (
        lambda i, s: {**s, "u": s["u"][: 3 - i // 2]},
        ValueError,
        r"step 2 .*state\['u'\].*shape \(3,\).*is of shape \(2,\)",
    ),
    (lambda i, s: {**s, "u": s["u"][None]}, ValueError, r"step 0 .*state\['u'\].*shape \(1, 3\)"),
    (lambda i, s: {**s, "u": s["u"] * (1j if i else 1.0)}, TypeError, r"step 1 .*state\['u'\].*complex128"),
    (
        lambda i, s: {**s, "u": s["u"].astype(np.float32)},
        TypeError,
        "is of shape .* and dtype float32. Cast it",
    ),
    (lambda i, s: {**s, "k": s["k"] + 0.5}, TypeError, r"step 0 .*state\['k'\].*int64, and is .*float64"),
    (lambda i, s: {**s, "k": "text"}, TypeError, r"state\['k'\].*is a str"),
    (lambda i, s: {**s, "k": s["u"]}, ValueError, r"state\['k'\]"),
]


@pytest.mark.parametrize(("step", "error", "match"), CHANGES)
def test_a_step_that_changes_the_form_of_the_state(step, error, match):
    """The same error in every mode, with the step and the leaf."""

    def f(x):
        return pdl.loop(step, {"u": x, "k": 0}, 4)["u"].sum()

    for call in (f, pdl.grad(f), lambda x: pdl.jvp(f, (x,), (x,))):
        with pytest.raises(error, match=match) as caught:
            call(A)
        assert isinstance(caught.value, ParadualTypeError | ParadualValueError)
        assert "test_loops_refused.py" in str(caught.value)


def test_a_step_that_does_not_repeat():
    rng = np.random.default_rng(0)
    count = [0]
    buffer = np.ones(3)

    def counted(x):
        def step(i, s):
            count[0] += 1
            return s * x * count[0]

        return pdl.loop(step, x, 5).sum()

    def random(x):
        return pdl.loop(lambda i, s: s * x + rng.standard_normal(3), x, 5).sum()

    def kind(x):
        def step(i, s):
            count[0] += 1
            return np.ones(3) if count[0] == 10 else s * x

        return pdl.loop(step, x, 5).sum()

    def observed(x):
        return sum(pdl.loop(lambda i, s: s * x, x, 5, observe=lambda i, s: s[0] * rng.standard_normal())[1])

    def used(x):
        y = x * 2.0

        def step(i, s):
            count[0] += 1
            return s * y if count[0] > 5 else s * 1.0

        return pdl.loop(step, x, 5).sum()

    def written(x):
        out = pdl.loop(lambda i, s: s * buffer, x, 5).sum()
        buffer[:] = 2.0
        return out

    for f in (counted, random, kind, observed, used, written):
        count[0] = 0
        with pytest.raises(ParadualValueError, match="must do the same each time"):
            pdl.grad(f)(A)


def test_values_that_do_not_come_with_the_state():
    kept = []

    def step(i, s):
        kept.append(s * 2.0)
        return s * kept[0]

    with pytest.raises(ParadualValueError, match=r"step 1 of a loop.*that another step has computed"):
        pdl.grad(lambda x: pdl.loop(step, x, 3).sum())(A)
    kept.clear()

    def handed_on(i, s):
        kept.append(s * 2.0)
        return kept[0]

    with pytest.raises(ParadualValueError, match=r"step 1 of a loop.*that another step has computed"):
        pdl.grad(lambda x: pdl.loop(handed_on, x, 3).sum())(A)


def test_arrays_that_share_memory():
    """Right or refused: what NumPy would change through another name."""

    def step_outside(x):
        c = x * 2.0

        def step(i, s):
            nonlocal c
            c += s
            return s * 2.0

        return pdl.loop(step, x, 3).sum() + c.sum()

    def views(x):
        def step(i, state):
            a = state[0]
            if i == 1:
                a[0] = 7.0  # state[1] changes with it
            return a, a[:2]

        return sum(leaf.sum() for leaf in pdl.loop(step, (x, x[:2]), 3))

    def of_outside(x):
        c = x * 2.0

        def step(i, s):
            s *= 2.0  # the second time this is c
            return c[:]

        return pdl.loop(step, x, 3).sum() + c.sum()

    for f in (step_outside, views, of_outside):
        with pytest.raises(NotDifferentiableError, match="writing in place"):
            pdl.grad(f)(A)


def test_what_is_written_after_the_loop():
    def f(loop):
        def g(x):
            y = x * 1.0
            state, seen = loop(
                lambda i, s: (s[0] * y, s[1] + 1.0), (y.copy(), np.zeros(3)), 3, observe=lambda i, s: s[0]
            )
            seen = [row.copy() for row in seen]
            u = state[0]
            u *= y
            seen[0][0] = 5.0
            return u.sum() + (seen[0] * seen[-1] * state[1]).sum()

        return g

    np.testing.assert_allclose(pdl.grad(f(pdl.loop))(A), pdl.grad(f(plain))(A), rtol=1e-13)
    assert f(pdl.loop)(A) == pdl.value_and_grad(f(pdl.loop))(A)[0]


def test_observations_are_copies_in_every_mode():
    def f(x):
        def step(i, s):
            s += x
            return s

        out, seen = pdl.loop(step, x, 3, observe=lambda i, s: s)
        return sum((k + 1) * row.sum() for k, row in enumerate(seen)) + out.sum() * 0

    expected = (2 + 2 * 3 + 3 * 4) * A.sum()
    assert f(A) == pytest.approx(expected)
    assert pdl.jvp(f, (A,), (A,)) == pytest.approx((expected, expected))
    np.testing.assert_allclose(pdl.grad(f)(A), np.full(3, 20.0))


def test_the_cotangent_that_is_given_stays_as_it_is():
    """What is found for a leaf that is passed on is added to in place, but not that."""
    x = np.linspace(0.1, 0.9, 50)
    _, pullback = pdl.vjp(lambda x: pdl.loop(lambda i, s: (s[0] + s[1], s[1]), (x, x * 2.0), 4), x)
    given = np.ones(50), x.copy()
    found = pullback(given)[0]
    np.testing.assert_array_equal(given[0], 1.0)
    np.testing.assert_array_equal(given[1], x)
    np.testing.assert_allclose(found, 1.0 + 2 * (x + 4))


def test_the_same_value_twice():
    """In the state, and in an observation: its cotangents are added."""

    def f(loop):
        def g(x):
            def step(i, state):
                a, b = state
                c = np.sin(a) * b + x
                return c, c

            (a, b), seen = loop(step, (x, x), 4, observe=lambda i, s: (s[0], s[0]))
            return (a * b).sum() + sum((p * q * (k + 1.0)).sum() for k, (p, q) in enumerate(seen))

        return g

    np.testing.assert_allclose(pdl.grad(f(pdl.loop))(A), pdl.grad(f(plain))(A), rtol=1e-13)


def test_a_small_observation_does_not_keep_the_state():
    x = np.linspace(0.1, 0.9, 4_000)

    def f(x):
        u, seen = pdl.loop(lambda i, u: np.sin(u) * 1.1, x, 49, observe=lambda i, u: u[5:7])
        return u.sum() + sum(part.sum() for part in seen)

    for call in (pdl.grad(f), f, lambda x: pdl.jvp(f, (x,), (x,))):
        tracemalloc.start()
        try:
            call(x)
            assert tracemalloc.get_traced_memory()[1] < 30 * x.nbytes
        finally:
            tracemalloc.stop()
