"""Fork and join on a cluster that loses workers, tasks that fail, Ctrl-C; and where tapes stay."""

from __future__ import annotations

import gc
import random
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from cluster_helpers import kill, mend, workers
from distributed import Client, Event, LocalCluster, get_worker

import paradual as pdl

X = np.random.default_rng(0).normal(size=(60, 60))


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with workers(3) as found:
        yield found


@pytest.fixture
def cluster(client: Client) -> LocalCluster:
    return client.cluster


@pytest.fixture(autouse=True)
def _nothing_is_left(client: Client, cluster: LocalCluster) -> Iterator[None]:
    mend(cluster, client, 3)
    yield
    assert pdl.map(abs, [-1, 2]) == [1, 2]
    gc.collect()
    deadline = time.monotonic() + 20
    while tasks := client.run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.tasks)):
        assert time.monotonic() < deadline, tasks
        time.sleep(0.01)
    assert not client.futures


def steps(x: Any, k: float, n: int = 8) -> Any:
    for _ in range(n):
        x = np.tanh(x @ np.cos(x) * 0.05 + k * 0.01)
    return x


def tree(x: Any, level: int) -> Any:
    if level == 0:
        return steps(x, 1.0)
    a, b = pdl.par(lambda: tree(x * 1.1, level - 1), lambda: tree(np.sin(x), level - 1))
    return steps(a, 2.0, 3) + b @ x.T


def loss(x: Any) -> Any:
    y = tree(x, 2)
    parts = pdl.map(lambda k: steps(y + k * x, k), np.linspace(0, 1, 5))
    return np.sum(sum(parts) ** 2)


def same(a: Any, b: Any) -> bool:
    return all(np.asarray(p).tobytes() == np.asarray(q).tobytes() for p, q in zip(a, b, strict=True))


@pytest.fixture(scope="module")
def expected() -> Any:
    with pdl.executor("inline"):
        return pdl.value_and_grad(loss)(X)


# --- workers that are lost ------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(10))
def test_a_worker_killed_at_a_random_moment(
    client: Client, cluster: LocalCluster, expected: Any, seed: int
) -> None:
    chance = random.Random(seed)
    begun = time.perf_counter()
    assert same(pdl.value_and_grad(loss)(X), expected)
    moment = chance.uniform(0.0, time.perf_counter() - begun)
    killer = threading.Timer(moment, kill, (cluster, None, chance.randrange(3)))
    killer.start()
    found = pdl.value_and_grad(loss)(X)
    killer.join()
    assert same(found, expected)


def announce(name: str) -> None:
    """Say which worker runs this, and wait until it has been killed (or, the second time, go on)."""
    client = get_worker()._get_client()
    if not Event(f"{name}-done", client=client).is_set():
        client.set_metadata(f"{name}-where", get_worker().address)
        Event(f"{name}-here", client=client).set()
        Event(f"{name}-done", client=client).wait()


def killed_when_announced(client: Client, cluster: LocalCluster, name: str, run: Any) -> Any:
    """The result of a call, during which the worker is killed that announces itself."""

    def body() -> None:
        assert Event(f"{name}-here", client=client).wait(60)
        kill(cluster, client.get_metadata(f"{name}-where"))
        Event(f"{name}-done", client=client).set()

    killer = threading.Thread(target=body)
    killer.start()
    found = run()
    killer.join()
    return found


@pytest.mark.parametrize("place", ["leaf", "nested", "after the join"])
def test_a_worker_killed_in_the_forward_pass(client: Client, cluster: LocalCluster, place: str) -> None:
    def program(x: Any, name: str | None) -> Any:
        def leaf(k: float, here: bool) -> Any:
            if here and name:
                announce(name)
            return steps(x, k)

        def branch() -> Any:
            a, b = pdl.par(lambda: leaf(1.0, place == "nested"), lambda: leaf(2.0, False))
            if place == "after the join" and name:
                announce(name)
            return a @ b

        c, d = pdl.par(branch, lambda: leaf(3.0, place == "leaf"))
        return np.sum(c * d)

    name = f"forward-{place}"
    with pdl.executor("inline"):
        wanted = pdl.value_and_grad(lambda x: program(x, None))(X)
    found = killed_when_announced(
        client, cluster, name, lambda: pdl.value_and_grad(lambda x: program(x, name))(X)
    )
    assert same(found, wanted)


@pytest.mark.parametrize("nested", [False, True])
def test_a_worker_killed_in_the_reverse_pass(client: Client, cluster: LocalCluster, nested: bool) -> None:
    def program(x: Any, name: str | None) -> Any:
        watched = pdl.custom_vjp(lambda y: y * 2)

        def bwd(_: Any, g: Any) -> Any:
            if name:
                announce(name)
            return (g * 2,)

        watched.defvjp(lambda y: (y * 2, None), bwd)

        def inner() -> Any:
            return steps(watched(steps(x, 1.0)), 2.0)

        def outer() -> Any:
            return pdl.par(inner)[0] * x if nested else inner()

        a, b = pdl.par(outer, lambda: steps(x, 3.0))
        return np.sum(a * b)

    name = f"reverse-{nested}"
    with pdl.executor("inline"):
        wanted = pdl.value_and_grad(lambda x: program(x, None))(X)
    found = killed_when_announced(
        client, cluster, name, lambda: pdl.value_and_grad(lambda x: program(x, name))(X)
    )
    assert same(found, wanted)


def test_tapes_that_are_lost_between_the_passes(client: Client, cluster: LocalCluster, expected: Any) -> None:
    value, pullback = pdl.vjp(loss, X)
    for number in range(2):
        kill(cluster, None, number)
        mend(cluster, client, 3)
        assert same((value, *pullback(np.float64(1.0))), expected)


# --- tasks that fail ------------------------------------------------------------------------------


class Boom(Exception):
    pass


def test_a_failure_ends_the_call_and_the_rest_does_not_begin(client: Client, tmp_path: Any) -> None:
    def task(k: int) -> int:
        if k == 0:
            raise Boom("the first")
        (tmp_path / str(k)).touch()
        Event("failed", client=get_worker()._get_client()).wait(1)  # what runs runs on
        return k

    with pytest.raises(Boom, match="the first") as error:
        pdl.grad(lambda x: x * sum(pdl.map(task, range(40))))(1.0)
    assert "in the paradual task (0, 0, 0)" in error.value.__notes__
    Event("failed", client=client).set()
    assert pdl.map(abs, range(-3, 3)) == [3, 2, 1, 0, 1, 2]  # the workers are free again
    assert len(list(tmp_path.iterdir())) <= 20  # of 39: those that had begun


def test_a_failure_in_the_reverse_pass(client: Client) -> None:
    bad = pdl.custom_vjp(lambda x: x)

    def bwd(_: Any, g: Any) -> Any:
        raise Boom("reverse")

    bad.defvjp(lambda x: (x, None), bwd)
    with pytest.raises(Boom, match="reverse") as error:
        pdl.grad(lambda x: sum(pdl.map(lambda k: bad(x) * k, [1.0, 2.0])))(1.0)
    assert any("in the paradual task (0, " in note for note in error.value.__notes__)


def test_ctrl_c_leaves_the_cluster_usable(client: Client) -> None:
    def task(k: int) -> int:
        client = get_worker()._get_client()
        Event("ctrl-c-begun", client=client).set()
        Event("ctrl-c-over", client=client).wait(60)
        return k

    def interrupt() -> None:
        assert Event("ctrl-c-begun", client=client).wait(60)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)  # as the terminal does

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        pdl.grad(lambda x: x * sum(pdl.map(task, range(10))))(1.0)
    thread.join()
    Event("ctrl-c-over", client=client).set()
    assert pdl.grad(lambda x: sum(pdl.map(lambda k: x * k, [1.0, 2.0])))(1.0) == 3.0


# --- where tapes are ------------------------------------------------------------------------------


def transfers(client: Client) -> int:
    """How many tapes have travelled between workers."""

    def keys(dask_worker: Any) -> list[Any]:
        return [key for row in dask_worker.transfer_incoming_log for key in row["keys"]]

    found = client.run(keys)
    return sum(str(key).startswith("forward-") for worker in found.values() for key in worker)


def test_tapes_do_not_move(client: Client) -> None:
    x = np.random.default_rng(1).normal(size=(100, 100))

    def big(k: float) -> Any:  # 2 MB of residuals
        y = x0 * k
        for _ in range(12):
            y = np.sin(y) * y
        return y.sum()

    with pdl.profile() as measured:
        for _ in range(3):
            x0: Any = None

            def program(x: Any) -> Any:
                nonlocal x0
                x0 = x
                return sum(pdl.map(big, np.linspace(0.1, 1.0, 24)))

            pdl.value_and_grad(program)(x)
    assert measured.tape_bytes > 3 * 24 * 1_000_000
    assert measured.moved_bytes == 0
    assert transfers(client) == 0
