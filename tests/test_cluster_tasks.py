"""`par`, `map` and `submit` on a cluster: every transform, errors, and nothing is left."""

from __future__ import annotations

import gc
import pickle
import threading
import time
import traceback
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cluster_helpers import at_home_and_away, check_empty, check_untouched, same, state, workers
from distributed import Client, Event

import paradual as pdl
from paradual.errors import ParadualError, ParadualTypeError, ParadualValueError
from paradual.tape import ACTIVE, OUTSIDE

A = np.array([0.5, 1.25, -2.0])
V = np.array([0.7, -0.2, 1.1])


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with workers(2) as found:
        yield found


@pytest.fixture(autouse=True)
def nothing_is_left_behind(client: Client) -> Iterator[None]:
    yield
    check_untouched(client)


# --- every transform through tasks --------------------------------------------------------------------


def forked(x: Any) -> Any:
    def branch() -> Any:
        a, b = pdl.par(lambda: np.sin(x) * x, lambda: x[::-1] * 0.5)
        return a * b + pdl.submit(np.cosh, x * 0.3).result()

    rows = pdl.map(lambda k, r: np.tanh(r * k) * x, [0.5, 1.0, 1.5], x)
    return pdl.par(branch)[0] * sum(rows)


def plain(x: Any) -> Any:
    rows = [np.tanh(x[k] * (0.5 + 0.5 * k)) * x for k in range(3)]
    return (np.sin(x) * x * (x[::-1] * 0.5) + np.cosh(x * 0.3)) * (rows[0] + rows[1] + rows[2])


def loss(x: Any) -> Any:
    return np.sum(forked(x))


def plain_loss(x: Any) -> Any:
    return np.sum(plain(x))


@pdl.custom_vjp
def doubled(x: Any) -> Any:
    return 2.0 * x


doubled.defvjp(lambda x: (2.0 * x, x), lambda kept, g: (2.0 * g,))


TRANSFORMS: dict[str, Any] = {
    "grad": lambda f: pdl.grad(lambda x: np.sum(f(x)))(A),
    "value_and_grad": lambda f: pdl.value_and_grad(lambda x: np.sum(f(x)))(A),
    "vjp": lambda f: pdl.vjp(f, A)[1](V)[0],
    "jvp": lambda f: pdl.jvp(f, (A,), (V,)),
    "jvp of jvp": lambda f: pdl.jvp(lambda x: pdl.jvp(f, (x,), (V,))[1], (A,), (A,)),
    "jacobian, reverse": lambda f: pdl.jacobian(f, mode="reverse")(A),
    "jacobian, forward": lambda f: pdl.jacobian(f, mode="forward")(A),
    "hessian": lambda f: pdl.hessian(lambda x: np.sum(f(x)))(A),
    "hvp": lambda f: pdl.hvp(lambda x: np.sum(f(x)), A, V),
    "grad of grad": lambda f: pdl.grad(lambda x: pdl.grad(lambda y: np.sum(f(y)))(x) @ V)(A),
    "grad of jvp": lambda f: pdl.grad(lambda x: np.sum(pdl.jvp(f, (x,), (V,))[1]))(A),
    "third order": lambda f: pdl.grad(lambda x: pdl.hvp(lambda y: np.sum(f(y)), x, V) @ V)(A),
    "checkpoint": lambda f: pdl.grad(lambda x: np.sum(pdl.checkpoint(f)(x) * x))(A),
    "hvp of checkpoint": lambda f: pdl.hvp(lambda x: np.sum(pdl.checkpoint(f)(x) * x), A, V),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms(client: Client, name: str) -> None:
    home = at_home_and_away(client, lambda: TRANSFORMS[name](forked))
    expected = TRANSFORMS[name](plain)
    for p, q in zip(home, expected, strict=True):
        np.testing.assert_allclose(p, q, rtol=1e-10, atol=1e-12)


INSIDE: dict[str, tuple[Any, Any]] = {
    "checkpoint": (lambda x: pdl.checkpoint(plain)(x), plain),
    "fork in a checkpoint": (lambda x: pdl.checkpoint(forked)(x) * x, lambda x: plain(x) * x),
    "custom_vjp": (lambda x: doubled(np.sin(x)), lambda x: 2.0 * np.sin(x)),
    "grad": (lambda x: pdl.grad(loss)(x) * x, lambda x: pdl.grad(plain_loss)(x) * x),
    "jvp": (lambda x: pdl.jvp(forked, (x,), (V,))[1] * x, lambda x: pdl.jvp(plain, (x,), (V,))[1] * x),
    "pullback": (lambda x: pdl.vjp(forked, x)[1](x)[0], lambda x: pdl.vjp(plain, x)[1](x)[0]),
    "stop_gradient": (lambda x: pdl.stop_gradient(np.sin(x)) * x, lambda x: pdl.stop_gradient(np.sin(x)) * x),
}


@pytest.mark.parametrize("name", INSIDE)
def test_transforms_inside_tasks(client: Client, name: str) -> None:
    task, expected = INSIDE[name]

    def f(x: Any) -> Any:
        a, b = pdl.par(lambda: task(x * 0.9), lambda: task(x) * 0.5)
        return np.sum(a * b)

    def wanted(x: Any) -> Any:
        return np.sum(expected(x * 0.9) * (expected(x) * 0.5))

    found = at_home_and_away(client, lambda: (pdl.grad(f)(A), pdl.jvp(f, (A,), (V,))[1]))
    np.testing.assert_allclose(found[0], pdl.grad(wanted)(A), rtol=1e-10)
    if name != "custom_vjp":
        second = at_home_and_away(client, lambda: pdl.hvp(f, A, V))
        np.testing.assert_allclose(second, pdl.hvp(wanted, A, V), rtol=1e-9)


def test_a_masked_branch(client: Client) -> None:
    x = np.array([0.0, 4.0])

    def task(x: Any) -> Any:
        return np.where(x > 0, pdl.par(lambda: np.sqrt(x))[0], 0.0).sum()

    def between(x: Any) -> Any:
        root = np.sqrt(x)
        pdl.par(lambda: 0, lambda: x * 2.0)
        return np.where(x > 0, root, 0.0).sum()

    def nested(x: Any) -> Any:
        return sum(pdl.par(lambda: task(x), lambda: between(x)))

    for f, slope in ((task, 0.25), (between, 0.25), (nested, 0.5)):
        np.testing.assert_array_equal(at_home_and_away(client, lambda f=f: pdl.grad(f)(x)), [0.0, slope])


# --- pullbacks ----------------------------------------------------------------------------------------


def test_a_pullback_is_called_from_several_threads(client: Client) -> None:
    expected = pdl.vjp(plain, A)[1]
    got: dict[int, Any] = {}
    with pdl.executor(client):
        _, pullback = pdl.vjp(forked, A)
        barrier = threading.Barrier(4)

        def body(k: int) -> None:
            barrier.wait()
            got[k] = [pullback(V * (k + j))[0] for j in range(3)]

        threads = [threading.Thread(target=body, args=(k,)) for k in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for k in range(4):
            for j in range(3):
                assert same(got[k][j], pullback(V * (k + j))[0])
                np.testing.assert_allclose(got[k][j], expected(V * (k + j))[0], rtol=1e-11)


def test_a_pullback_travels(client: Client) -> None:
    with pdl.executor(client):
        _, pullback = pdl.vjp(forked, A)
        (home,) = pullback(V)
        copied = pickle.loads(pickle.dumps(pullback))
        assert same(copied(V)[0], home)
        assert same(client.submit(pullback, V, pure=False).result()[0], home)
        assert same(pdl.submit(pullback, V).result()[0], home)
        assert same(pdl.par(lambda: pullback(V)[0])[0], home)


def test_a_pullback_made_on_a_worker_of_tasks_there(client: Client) -> None:
    made = client.submit(pdl.vjp, forked, A, pure=False)  # while it lives, the tapes do
    out, pullback = made.result()
    np.testing.assert_allclose(out, plain(A))
    (found,) = pullback(V)
    np.testing.assert_allclose(found, pdl.vjp(plain, A)[1](V)[0], rtol=1e-11)


# --- tasks and tasks ----------------------------------------------------------------------------------


def tree(x: Any, y: Any, level: int) -> Any:
    if level == 0:
        return x * y
    left, right = pdl.par(lambda: tree(x * 1.1, y, level - 1), lambda: x * y if level % 2 else np.sin(y))
    return pdl.submit(lambda: left * 0.5 + x).result() + right


def test_nesting_to_depth_six(client: Client) -> None:
    def f(x: Any) -> Any:
        return sum(pdl.map(lambda k: np.sum(tree(x * k, x, 6)), [0.5, 1.0]))

    value, slope = at_home_and_away(client, lambda: pdl.value_and_grad(f)(A))
    np.testing.assert_allclose(pdl.jvp(f, (A,), (V,))[1], slope @ V, rtol=1e-11)
    assert np.isfinite(value)


def use(task: Any, x: Any) -> Any:
    return task.result() * x


def test_tasks_that_are_joined_by_tasks(client: Client) -> None:
    def f(x: Any) -> Any:
        early = pdl.submit(lambda: x * x)
        late = pdl.submit(partial(use, early, x))
        a, b = pdl.par(lambda: use(early, x), lambda: use(late, x))
        return a * b * early.result() * late.result()  # x**3 * x**4 * x**2 * x**3

    for _ in range(5):
        slope, second = at_home_and_away(client, lambda: (pdl.grad(f)(1.5), pdl.grad(pdl.grad(f))(1.5)))
        assert slope == pytest.approx(12 * 1.5**11)
        assert second == pytest.approx(132 * 1.5**10)


def test_tasks_that_leave_their_task(client: Client) -> None:
    def f(x: Any) -> Any:
        inner = pdl.submit(lambda: {"a": [pdl.submit(lambda: x**3)]}).result()
        return inner["a"][0].result() * x

    for _ in range(5):
        assert at_home_and_away(client, lambda: pdl.grad(f)(2.0)) == pytest.approx(32.0)


def test_tasks_and_futures_as_arguments(client: Client) -> None:
    data = client.scatter(V, hash=False)

    def f(x: Any) -> Any:
        a = pdl.submit(np.sin, x)
        b = pdl.submit(lambda parts, y: parts["a"][0] * parts["b"][1] * y, {"a": [a], "b": (None, a)}, x)
        return np.sum(pdl.submit(lambda b, v, a: b * v + a, b, V, a=a).result())

    def with_future(x: Any) -> Any:
        a = pdl.submit(np.sin, x)
        b = pdl.submit(lambda parts, y: parts["a"][0] * parts["b"][1] * y, {"a": [a], "b": (None, a)}, x)
        return np.sum(pdl.submit(lambda b, v, a: b * v + a, b, data, a=a).result())

    home = at_home_and_away(client, lambda: pdl.grad(f)(A))
    np.testing.assert_allclose(
        home, (2 * np.sin(A) * np.cos(A) * A + np.sin(A) ** 2) * V + np.cos(A), rtol=1e-12
    )
    with pdl.executor(client):
        assert same(pdl.grad(with_future)(A), home)
        assert same(pdl.map(lambda k, v: k * v, [1.0, 2.0], [data, data])[1], 2.0 * V)


@pytest.mark.parametrize("n", [9, 65, 150])
def test_many_tasks_use_one_value(client: Client, n: int) -> None:
    scales = (np.linspace(0.1, 3.0, n) ** 3).tolist()

    def f(x: Any) -> Any:
        y = np.sin(x)
        return sum(np.sum(part) for part in pdl.map(lambda k: np.exp(y * k) * x, scales))

    home = at_home_and_away(client, lambda: pdl.grad(f)(A))
    s, c = np.sin(A), np.cos(A)
    np.testing.assert_allclose(home, sum(np.exp(k * s) * (1 + k * c * A) for k in scales), rtol=1e-11)


# --- errors -------------------------------------------------------------------------------------------


class Boom(Exception):
    pass


def explode(x: Any) -> Any:
    raise Boom(f"the user's message, {x}")


def test_an_exception_of_a_task(client: Client) -> None:
    def nested(x: Any) -> Any:
        return pdl.par(lambda: x * 2.0, lambda: pdl.par(lambda: explode("deep"))[0])[0]

    def caught(x: Any) -> Any:
        try:
            pdl.par(lambda: x * 2.0, lambda: explode("caught"))
        except Boom:
            a, b = pdl.par(lambda: x * 3.0, lambda: x * x)
        return a * b

    calls = [
        lambda: pdl.par(lambda: 1, lambda: explode("a")),
        lambda: pdl.map(explode, [1, 2, 3]),
        lambda: pdl.submit(explode, 1).result(),
        lambda: pdl.submit(abs, pdl.submit(explode, 1)).result(),
        lambda: pdl.grad(nested)(1.0),
        lambda: pdl.grad(pdl.grad(nested))(1.0),
        lambda: pdl.jvp(nested, (1.0,), (1.0,)),
    ]
    with pdl.executor(client):
        for call in calls:
            with pytest.raises(Boom, match="the user's message") as error:
                call()
            assert "explode" in "".join(traceback.format_exception(error.value))
            assert any("in the paradual task" in note for note in error.value.__notes__)
            assert ACTIVE.get() == (OUTSIDE,)
            assert pdl.grad(lambda x: pdl.par(lambda: x * x)[0])(3.0) == 6.0
        assert pdl.grad(caught)(2.0) == 36.0


def test_siblings_that_have_not_begun_do_not_run(client: Client, tmp_path: Path) -> None:
    released, name = Event("siblings"), "siblings"

    def first() -> None:
        time.sleep(0.2)
        explode("first")

    def occupy() -> None:
        Event(name).wait(timeout="60s")

    def late(k: int) -> None:
        (tmp_path / str(k)).touch()

    with pdl.executor(client):
        with pytest.raises(Boom):
            pdl.par(first, occupy, *[partial(late, k) for k in range(30)])
        time.sleep(0.5)  # what began before the news arrived may end
        before = len(list(tmp_path.iterdir()))
        released.set()
        time.sleep(0.3)
        assert len(list(tmp_path.iterdir())) == before < 30


def test_what_cannot_be_pickled(client: Client) -> None:
    lock = threading.Lock()
    with pdl.executor(client):
        with pytest.raises(ParadualTypeError, match=r"cannot be pickled.*create it inside the task"):
            pdl.par(lambda: lock.locked())
        with pytest.raises(ParadualTypeError, match=r"cannot be pickled.*executor\('threads'\)"):
            pdl.grad(lambda x: pdl.submit(lambda k: x, lock).result())(1.0)
        with pytest.raises(TypeError, match="pickle"):
            pdl.par(lambda: threading.Lock())


def test_a_leaked_dual(client: Client) -> None:
    kept: list[Any] = []
    pdl.grad(lambda x: kept.append(x) or x * 1.0)(2.0)
    with pdl.executor(client):
        with pytest.raises(ParadualError, match="outside the differentiation"):
            pdl.par(lambda: kept[0] * 2.0)
        with pytest.raises(ParadualError, match="outside the differentiation"):
            pdl.grad(lambda x: pdl.par(lambda: kept[0] * x)[0])(1.0)


def test_an_asynchronous_client_is_refused(client: Client) -> None:
    async def body() -> None:
        async with Client(client.scheduler.address, asynchronous=True) as other:
            with pytest.raises(ParadualValueError, match="asynchronous"), pdl.executor(other):
                pass

    import asyncio

    asyncio.run(body())


def test_a_task_of_threads_is_refused(client: Client) -> None:
    with pdl.executor("threads"):
        local = pdl.submit(lambda: 3.0)
    with pdl.executor(client):
        with pytest.raises(ParadualTypeError, match="same executor"):
            pdl.submit(abs, local).result()
        with pytest.raises(ParadualTypeError, match="same executor"):
            pdl.par(lambda: local.result())
        assert pdl.par(lambda: 1)[0] + local.result() == 4.0


def leaves_a_local_task() -> Any:
    with pdl.executor("threads"):
        return pdl.submit(abs, -1)


def test_a_task_of_threads_cannot_leave_its_worker(client: Client) -> None:
    with pdl.executor(client), pytest.raises(TypeError, match="same executor"):
        pdl.submit(leaves_a_local_task).result()


# --- nothing is left ----------------------------------------------------------------------------------


def test_a_task_keeps_its_context_to_itself(client: Client) -> None:
    """What Dask starts while a task waits must not run in its differentiations, nor under its errstate."""

    def task(x: Any) -> Any:
        with np.errstate(divide="raise"):
            return sum(pdl.map(lambda k: pdl.par(lambda: x * k, lambda: x)[0], [1.0, 2.0, 3.0]))

    with pdl.executor(client):
        futures = []
        for _ in range(3):
            tasks = pdl.grad(lambda x: pdl.par(lambda: task(x), lambda: task(x * 2.0))[0])(1.0)
            assert tasks == 6.0
            futures += [client.submit(state, pure=False) for _ in range(8)]
        assert set(client.gather(futures)) == {(True, "warn")}


def test_nothing_is_left(client: Client) -> None:
    with pdl.executor(client):
        kept = pdl.vjp(forked, A)[1]
        pdl.grad(lambda x: pdl.submit(lambda: x).executor and x * 1.0)(1.0)  # a task that nobody joins
        pdl.hessian(loss)(A)
        with pytest.raises(Boom):
            pdl.grad(lambda x: pdl.par(lambda: forked(x), lambda: explode(1))[0])(A)
    gc.collect()
    assert client.futures  # the tapes of the pullback
    kept(V)
    del kept
    check_empty(client)
