"""`par`, `map` and `submit`: the values and derivatives of the sequential program, on every executor."""

import itertools
import operator
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import paradual as pdl
from paradual.errors import ParadualValueError
from paradual.tape import ACTIVE, OUTSIDE

A = np.array([0.5, 1.25, -2.0])
both = pytest.mark.parametrize("where", ["inline", "threads"])
reproducible = settings(derandomize=True, deadline=None, database=None, max_examples=40)


@pytest.fixture(autouse=True)
def nothing_is_left_behind():
    yield
    assert ACTIVE.get() == (OUTSIDE,)
    assert pdl.par(lambda: 1, lambda: 2) == (1, 2)  # the pool works


# --- outside a differentiation ----------------------------------------------------------------------------


@both
def test_plain_calls(where):
    with pdl.executor(where):
        assert pdl.par() == ()
        assert pdl.par(lambda: 1) == (1,)
        assert pdl.par(lambda: "a", lambda: None, lambda: [3]) == ("a", None, [3])
        assert pdl.map(lambda x: x * x, range(20)) == [k * k for k in range(20)]
        assert pdl.map(operator.add, [1, 2, 3], (10, 20)) == [11, 22]
        assert pdl.map(lambda x: x, []) == []
        assert pdl.map(lambda k: k, (k for k in range(3))) == [0, 1, 2]
        assert pdl.submit(pow, 2, 5).result() == 32
        assert pdl.submit(int, "ff", base=16).result() == 255
        task = pdl.submit(lambda: 3)
        assert task.result() == task.result() == 3


@both
def test_tasks_inherit_the_context(where):
    seen = {}
    with pdl.executor(where), np.errstate(divide="raise"):
        seen["errstate"] = pdl.submit(lambda: np.geterr()["divide"]).result()
        seen["nested"] = pdl.submit(lambda: pdl.submit(lambda: np.geterr()["divide"]).result()).result()
    assert seen == {"errstate": "raise", "nested": "raise"}


# --- the executor -------------------------------------------------------------------------------------------


def threads_of_two_tasks():
    return pdl.par(threading.get_ident, threading.get_ident)


def test_the_executor_is_restored():
    here = threading.get_ident()
    with pdl.executor("inline"):
        assert threads_of_two_tasks() == (here, here)
        with pdl.executor("threads"):
            meeting = threading.Barrier(2, timeout=60)
            pdl.par(meeting.wait, meeting.wait)  # ends only if both run at once
        assert threads_of_two_tasks() == (here, here)
        with pytest.raises(KeyError), pdl.executor("threads"):
            raise KeyError
        assert threads_of_two_tasks() == (here, here)
        assert pdl.par(lambda: pdl.par(threading.get_ident))[0] == (here,)
    meeting = threading.Barrier(2, timeout=60)
    pdl.par(meeting.wait, meeting.wait)


@pytest.mark.parametrize("which", ["processes", "", None, 3, "Inline"])
def test_an_unknown_executor(which):
    with pytest.raises(ParadualValueError, match="inline, threads"), pdl.executor(which):
        pass


# --- values and derivatives ---------------------------------------------------------------------------------


@both
def test_par_map_submit(where):
    def f(x):
        a, b = pdl.par(lambda: np.sin(x), lambda: x * x)
        c = pdl.map(lambda k, y: y * k * x.sum(), [1.0, 2.0, 3.0], x)
        d = pdl.submit(lambda u, *, v: u * v, a, v=b).result()
        return (a * b).sum() + sum(c) * c[1] + d[0] + np.stack(c).sum()

    def plain(x):
        a, b = np.sin(x), x * x
        c = x * np.array([1.0, 2.0, 3.0]) * x.sum()
        return (a * b).sum() + c.sum() * c[1] + (a * b)[0] + c.sum()

    with pdl.executor(where):
        assert pdl.value_and_grad(f)(A)[0] == pytest.approx(plain(A))
        np.testing.assert_allclose(pdl.grad(f)(A), pdl.grad(plain)(A), rtol=1e-12)
        np.testing.assert_allclose(pdl.hessian(f)(A), pdl.hessian(plain)(A), rtol=1e-11)
        np.testing.assert_allclose(pdl.jvp(f, (A,), (A,))[1], pdl.grad(plain)(A) @ A, rtol=1e-12)
        np.testing.assert_allclose(pdl.hvp(f, A, A), pdl.hessian(plain)(A) @ A, rtol=1e-11)


@both
@pytest.mark.parametrize("depth", range(7))
def test_nesting(where, depth):
    def tree(x, y, level):
        if level == 0:
            return x * y
        left, right = pdl.par(lambda: tree(x * 1.1, y, level - 1), lambda: tree(x, np.sin(x) * y, level - 1))
        return left + right * x

    def plain(x, y, level):
        if level == 0:
            return x * y
        return plain(x * 1.1, y, level - 1) + plain(x, np.sin(x) * y, level - 1) * x

    with pdl.executor(where):
        value, slopes = pdl.value_and_grad(lambda x, y: tree(x, y, depth), (0, 1))(0.8, 1.3)
        second = pdl.grad(pdl.grad(lambda x: tree(x, 1.3, depth)))(0.8)
    expected, wanted = pdl.value_and_grad(lambda x, y: plain(x, y, depth), (0, 1))(0.8, 1.3)
    assert value == expected
    assert slopes == pytest.approx(wanted, rel=1e-12)
    assert second == pytest.approx(pdl.grad(pdl.grad(lambda x: plain(x, 1.3, depth)))(0.8), rel=1e-11)


@both
def test_results_out_of_order_twice_and_never(where):
    def f(x):
        tasks = [pdl.submit(lambda k=k: x**k * np.cos(x)) for k in range(1, 7)]
        last = tasks[5].result()
        first = tasks[0].result()
        again = tasks[5].result()
        between = x * first
        middle = tasks[2].result()
        return last * first + again * between + middle * tasks[2].result()  # tasks 1, 3, 4 are never joined

    def plain(x):
        p = [x**k * np.cos(x) for k in range(1, 7)]
        return p[5] * p[0] + p[5] * x * p[0] + p[2] * p[2]

    with pdl.executor(where):
        for x in (0.7, A):
            got = pdl.grad(lambda x: np.sum(f(x)))(x)
            np.testing.assert_allclose(got, pdl.grad(lambda x: np.sum(plain(x)))(x), rtol=1e-12)
        assert pdl.grad(pdl.grad(f))(0.7) == pytest.approx(pdl.grad(pdl.grad(plain))(0.7))


@both
def test_a_task_joined_by_another_task(where):
    def f(x):
        early = pdl.submit(lambda: x * x)
        (a, b) = pdl.par(lambda: early.result() * x, lambda: x + 1.0)
        return a * b * early.result()

    with pdl.executor(where):
        assert pdl.grad(f)(2.0) == pytest.approx(6 * 2.0**5 + 5 * 2.0**4)
        assert pdl.grad(pdl.grad(f))(2.0) == pytest.approx(30 * 2.0**4 + 20 * 2.0**3)


@both
def test_a_task_submitted_by_a_task_and_joined_outside(where):
    def f(x):
        inner = pdl.submit(lambda: pdl.submit(lambda: x**3)).result()
        return inner.result() * x

    with pdl.executor(where):
        assert pdl.grad(f)(2.0) == pytest.approx(32.0)


@both
def test_a_task_submitted_outside_the_differentiation(where):
    with pdl.executor(where):
        loading = pdl.submit(lambda: 3.0)
        assert pdl.grad(lambda x: x * x * loading.result())(2.0) == 12.0
        again = pdl.submit(lambda: 5.0)
        assert pdl.jvp(lambda x: x * again.result(), (2.0,), (1.0,)) == (10.0, 5.0)


@both
def test_a_task_submitted_in_an_outer_differentiation(where):
    def f(x):
        task = pdl.submit(lambda: x * 2.0)
        return pdl.grad(lambda y: y * y * task.result())(x)  # 2 x 2 x

    with pdl.executor(where):
        assert pdl.grad(f)(3.0) == pytest.approx(24.0)
        assert pdl.grad(pdl.grad(f))(3.0) == pytest.approx(8.0)


@both
def test_a_task_of_another_differentiation(where):
    kept = []

    def first(y):
        kept.append(pdl.submit(lambda: pdl.stop_gradient(y * 7.0)))
        return y

    def second(y):
        a, _ = pdl.par(lambda: y * 3.0, lambda: 0)
        return a * kept[0].result()

    with pdl.executor(where):
        pdl.grad(first)(2.0)
        assert pdl.grad(second)(2.0) == 42.0


@both
def test_duals_that_come_back_untouched(where):
    def f(x):
        y = x * 2.0
        a, (b, c) = pdl.par(lambda: x, lambda: (y, pdl.par(lambda: y)[0]))
        return a * b * c

    with pdl.executor(where):
        assert pdl.grad(f)(3.0) == pytest.approx(12 * 9.0)
        assert pdl.grad(pdl.grad(f))(3.0) == pytest.approx(24 * 3.0)
        assert pdl.grad(lambda x: pdl.par(lambda: x)[0])(3.0) == 1.0
        assert pdl.grad(lambda x: pdl.par(lambda: 1.0)[0])(3.0) == 0.0


@both
def test_results_that_are_not_used(where):
    def f(x):
        pdl.par(lambda: x * x, lambda: np.exp(x))
        pdl.submit(lambda: x * 3.0)
        used, _ = pdl.par(lambda: x * 5.0, lambda: np.log(x))
        return used

    with pdl.executor(where):
        assert pdl.grad(f)(2.0) == 5.0


@both
def test_trees_of_results(where):
    def task(x):
        return {"a": [x * 2.0, None], "b": (np.sin(x), "text", 3)}

    def f(x):
        out = pdl.submit(task, x).result()
        assert out["b"][1:] == ("text", 3)
        return (out["a"][0] * out["b"][0]).sum()

    with pdl.executor(where):
        np.testing.assert_allclose(pdl.grad(f)(A), 2 * np.sin(A) + 2 * A * np.cos(A))


@both
def test_differentiation_inside_a_task_inside_a_differentiation(where):
    def f(x):
        def task():
            inner = pdl.grad(lambda y: sum(pdl.par(lambda: y * y * x, lambda: y * x)))(x)  # 2 x x + x
            return inner * x

        a, b = pdl.par(task, lambda: pdl.jvp(lambda y: pdl.par(lambda: y * y * y)[0] * x, (x,), (1.0,))[1])
        return a + b  # 2 x^3 + x^2 + 3 x^3

    with pdl.executor(where):
        assert f(2.0) == pytest.approx(44.0)
        assert pdl.grad(f)(2.0) == pytest.approx(15 * 4.0 + 4.0)
        assert pdl.grad(pdl.grad(f))(2.0) == pytest.approx(30 * 2.0 + 2.0)
        assert pdl.jvp(f, (2.0,), (1.0,))[1] == pytest.approx(64.0)
        assert pdl.jvp(pdl.grad(f), (2.0,), (1.0,))[1] == pytest.approx(62.0)
        assert pdl.grad(lambda x: pdl.jvp(f, (x,), (1.0,))[1])(2.0) == pytest.approx(62.0)


@both
def test_values_captured_at_several_levels(where):
    def f(x, y):
        u = x * y

        def level(k):
            v = u * k

            def deeper():
                w = v * x
                return pdl.par(lambda: w * y + u, lambda: sum(pdl.map(lambda z: z * w * v, [u, x, 2.0])))

            return sum(pdl.par(deeper)[0]) * v

        return sum(pdl.map(level, [1.0, 2.0])) * u

    def plain(x, y):
        u = x * y
        total = 0.0
        for k in (1.0, 2.0):
            v = u * k
            w = v * x
            total = total + (w * y + u + (u * w * v + x * w * v + 2.0 * w * v)) * v
        return total * u

    with pdl.executor(where):
        assert pdl.grad(f, (0, 1))(0.7, 1.3) == pytest.approx(pdl.grad(plain, (0, 1))(0.7, 1.3), rel=1e-12)
        for k in (0, 1):
            got = pdl.grad(lambda x, y, k=k: pdl.grad(f, (0, 1))(x, y)[k], (0, 1))(0.7, 1.3)
            wanted = pdl.grad(lambda x, y, k=k: pdl.grad(plain, (0, 1))(x, y)[k], (0, 1))(0.7, 1.3)
            assert got == pytest.approx(wanted, rel=1e-11)


@both
def test_a_masked_branch_across_a_join(where):
    def task(x):
        return np.where(x > 0, pdl.par(lambda: np.sqrt(x))[0], 0.0).sum()

    def between(x):
        root = np.sqrt(x)
        pdl.par(lambda: 0)
        return np.where(x > 0, root, 0.0).sum()

    with pdl.executor(where):
        for f in (task, between):
            np.testing.assert_array_equal(pdl.grad(f)(np.array([0.0, 4.0])), [0.0, 0.25])


@both
def test_memory_of_gradients_is_not_shared_between_tasks(where):
    def f(x):
        parts = pdl.map(lambda k: x if k else x.T.T, range(4))
        return sum(part.sum() for part in parts)

    with pdl.executor(where):
        x = A.copy()
        slope = pdl.grad(f)(x)
        np.testing.assert_array_equal(slope, 4.0)
        slope += 1.0
        np.testing.assert_array_equal(x, A)


# --- random fork-join programs ------------------------------------------------------------------------------
#
# A program is a tree.  A leaf computes with two of the values in reach; a node runs its parts one after
# the other, in par, in map or as tasks that are joined in another order, and each part sees what the parts
# before its fork have computed.

leaf = st.tuples(
    st.just("op"),
    st.sampled_from(["mul", "add", "sin", "dot", "index"]),
    st.integers(0, 9),
    st.integers(0, 9),
)
programs = st.recursive(
    leaf,
    lambda part: st.tuples(
        st.sampled_from(["seq", "par", "map", "submit", "inner"]), st.lists(part, min_size=1, max_size=4)
    ),
    max_leaves=14,
)


def operate(name, a, b):
    if name == "mul":
        return a * b * 0.7
    if name == "add":
        return a + 0.3 * b
    if name == "sin":
        return np.sin(a) - b
    if name == "dot":
        return a * (a @ b) * 0.2
    return a[[0, 2, 2]] * b[1]


def run(program, values, sequential):
    """The result of a program; `values` is what it can reach."""
    if program[0] == "op":
        _, name, i, j = program
        return operate(name, values[i % len(values)], values[j % len(values)])
    how, parts = program
    if how == "seq":
        for part in parts:
            values = [*values, run(part, values, sequential)]
        return values[-1]
    if how == "inner":  # a derivative inside, of a program with tasks

        def inner(y):
            return np.sum(run(("par", parts), [*values, y], sequential))

        return pdl.jvp(inner, (values[-1],), (values[0],))[1] * values[-1]
    thunks = [lambda part=part: run(part, values, sequential) for part in parts]
    if sequential:
        results = [thunk() for thunk in thunks]
    elif how == "par":
        results = pdl.par(*thunks)
    elif how == "map":
        results = pdl.map(lambda thunk: thunk(), thunks)
    else:
        tasks = [pdl.submit(thunk) for thunk in thunks]
        late = [task.result() for task in reversed(tasks)]
        results = late[::-1]
    total = results[0]
    for k, result in enumerate(results[1:]):
        total = total * 0.5 + result * (k + 1.0)
    return total


def scalar(program, sequential=False):
    return lambda x: np.sum(np.tanh(run(program, [x, np.cos(x)], sequential)))


@reproducible
@given(programs)
def test_random_programs(program):
    parallel, sequential = scalar(program), scalar(program, sequential=True)
    expected = pdl.value_and_grad(sequential)(A)
    found = {}
    for where in ("inline", "threads", "threads"):
        with pdl.executor(where):
            value, slope = pdl.value_and_grad(parallel)(A)
            curvature = pdl.hvp(parallel, A, A)
            reverse = pdl.grad(lambda x: pdl.grad(parallel)(x) @ A)(A)
            pushed = pdl.jvp(parallel, (A,), (A,))[1]
        results = [value, slope, curvature, reverse, pushed]
        for a, b in itertools.zip_longest(results, found.setdefault("first", results)):
            np.testing.assert_array_equal(a, b)  # bitwise, whatever the timing
    assert value == expected[0]
    np.testing.assert_allclose(slope, expected[1], rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(pushed, expected[1] @ A, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(curvature, reverse, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(curvature, pdl.hvp(sequential, A, A), rtol=1e-8, atol=1e-10)
