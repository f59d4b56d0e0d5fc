"""Derivatives of Dask graphs on clusters: where tapes stay, workers that are lost, what is left behind."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
from cluster_helpers import check_empty, kill, mend, workers
from dask import delayed
from distributed import Client, Event, LocalCluster, wait
from effort import tries
from graph_helpers import same

import paradual as pdl
from paradual.errors import NotDifferentiableError

OPTIONS: Any = {"dashboard_address": ":0", "silence_logs": logging.CRITICAL, "threads_per_worker": 1}
CHUNKS, ROWS = 16, 400
X = np.random.default_rng(1).normal(size=(CHUNKS * ROWS, 40))
W = np.random.default_rng(2).normal(size=(40, 40)) / 7


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with workers(3) as found:
        yield found


@pytest.fixture
def cluster(client: Client) -> LocalCluster:
    return client.cluster


@pytest.fixture(autouse=True)
def _waits(request: pytest.FixtureRequest) -> Iterator[None]:
    if "client" not in request.fixturenames:
        yield
        return
    client, cluster = request.getfixturevalue("client"), request.getfixturevalue("cluster")
    mend(cluster, client, 3)
    yield
    mend(cluster, client, 3)
    check_empty(client)


def layers(block: Any, w: Any, n: int = 6) -> Any:
    for _ in range(n):
        block = np.tanh(block @ w)
    return block


def program() -> tuple[Any, Any]:
    """A network on chunks, with a step that exchanges rows and one that mixes all chunks."""
    x, w = da.from_array(X, chunks=(ROWS, -1)), da.from_array(W, chunks=-1)
    y = da.map_blocks(layers, x, w, dtype=float, chunks=x.chunks)
    y = da.map_overlap(
        lambda b: 0.5 * b + 0.25 * np.roll(b, 1, 0), y, depth={0: 1, 1: 0}, boundary="periodic"
    )
    y = y @ w
    return ((y - y.mean(axis=0)) ** 2).sum() + (w**2).sum(), [x, w]


def derivative(tapes: Any = "keep") -> Any:
    loss, inputs = program()
    value, gradients = pdl.value_and_gradients(loss, inputs, tapes=tapes)
    return value, *gradients


@pytest.fixture(scope="module")
def expected() -> Any:
    return dask.compute(*derivative(), scheduler="sync")


# --- the same bits everywhere -----------------------------------------------------------------------------


@pytest.mark.parametrize("tapes", ["keep", "recompute", "8 MB"])
@pytest.mark.parametrize("scheduler", ["sync", "threads", "processes"])
def test_any_scheduler(expected: Any, scheduler: str, tapes: Any) -> None:
    assert same(dask.compute(*derivative(tapes), scheduler=scheduler), expected)


@pytest.mark.parametrize("number", [1, 2, 4])
def test_any_number_of_workers(expected: Any, number: int) -> None:
    with workers(number) as client:
        assert same(tuple(client.gather(client.compute(derivative()))), expected)
        check_empty(client)


@pytest.mark.parametrize("tapes", ["recompute", 0, "8 MB", "1 GiB"])
def test_budgets(client: Client, expected: Any, tapes: Any) -> None:
    assert same(dask.compute(*derivative(tapes)), expected)


def test_a_graph_from_before_there_was_a_cluster(expected: Any) -> None:
    graph = derivative()
    with workers(2) as client:
        assert same(dask.compute(*graph), expected)
        check_empty(client)


def test_more_workers_come_while_it_runs(expected: Any) -> None:
    with LocalCluster(n_workers=1, **OPTIONS) as cluster, Client(cluster) as client:
        cluster.adapt(minimum=1, maximum=3, interval="20ms")
        assert same(tuple(client.gather(client.compute(derivative()))), expected)


# --- where tapes and cotangents are ----------------------------------------------------------------------


def transfers(client: Client) -> int:
    """Bytes that workers have sent each other."""
    counts = client.run(
        lambda dask_worker: sum(entry["total"] for entry in dask_worker.transfer_outgoing_log)
    )
    return sum(counts.values())


def long_tape(block: Any, n: int) -> Any:
    for _ in range(n):
        block = np.sin(block)
    return block


def test_tapes_do_not_move() -> None:
    """64 chunks on 4 workers that steal from each other, each with a tape of 1.6 MB."""
    with workers(4) as client:
        x = client.persist(da.random.default_rng(0).normal(size=(64, 10_000), chunks=(1, -1)))
        wait(x)
        weights = da.from_array(np.linspace(0.5, 1.0, 10_000), chunks=-1)
        y = da.map_blocks(long_tape, x * weights, 20, dtype=float)
        loss = y.sum() * y[:, ::2].sum()  # used twice: its jobs keep their tapes
        before = transfers(client)
        value, gradient = client.compute([*pdl.value_and_gradients(loss, weights)])
        assert np.isfinite(value.result())
        moved, tapes = transfers(client) - before, 64 * 20 * 80_000
        assert gradient.result().shape == (10_000,)
        # cotangents of the weights meet for their sum, and the weights go to all
        assert moved < 0.06 * tapes
        logs = client.run(
            lambda dask_worker: [key for e in dask_worker.transfer_outgoing_log for key in e["keys"]]
        )
        assert not [
            key for keys in logs.values() for key in keys if str(key).startswith(("forward", "('forward"))
        ]


def test_the_gradient_of_a_large_input_stays_where_the_input_is() -> None:
    with workers(2) as client:
        x = client.persist(da.random.default_rng(0).normal(size=(8, 100_000), chunks=(1, -1)))
        wait(x)
        where = {str(key[1:]): held for key, held in client.who_has(x).items() if isinstance(key, tuple)}
        gradient = client.persist(pdl.gradients((da.sin(x) ** 2).sum(), x))
        wait(gradient)
        found = {
            str(key[1:]): held for key, held in client.who_has(gradient).items() if isinstance(key, tuple)
        }
        assert found == where
        del where, found


# --- memory ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("chunks", "tapes"), [(12, "keep"), (20, "recompute"), (20, "100 MB")])
def test_tapes_that_need_more_memory_than_there_is(chunks: int, tapes: Any) -> None:
    """A worker of 400 MB, of which an empty process takes 150, and chunks with tapes of 40 MB.

    What is kept is written to disk, which takes long; a budget, or none, does without.
    """
    with LocalCluster(n_workers=1, memory_limit="400 MB", **OPTIONS) as cluster, Client(cluster):
        x = da.linspace(0.0, 1.0, chunks * 250_000, chunks=250_000)
        y = da.map_blocks(long_tape, x, 20, dtype=float)
        loss = y.sum() + y[::2].sum()  # used twice: its jobs keep their tapes
        found = pdl.gradients(loss, x, tapes=tapes)[::250_000].compute()
    y, slope = np.linspace(0.0, 1.0, chunks * 250_000)[::250_000], 2.0
    for _ in range(20):
        slope, y = slope * np.cos(y), np.sin(y)
    np.testing.assert_allclose(found, slope, rtol=1e-12)


# --- workers that are lost ---------------------------------------------------------------------------------


def restart(client: Client, number: int) -> None:
    addresses = sorted(client.nthreads())
    client.restart_workers([addresses[number % len(addresses)]], timeout=60, raise_for_error=False)


def shrink(cluster: LocalCluster, number: int) -> None:
    """Scale down, which moves what the worker holds to the others, and up again."""
    cluster.scale(2)
    cluster.scale(3)


@pytest.mark.parametrize("seed", range(tries(20, 12)))  # 12: each way to lose a worker, each choice of tapes
def test_a_worker_is_lost_at_a_random_moment(
    client: Client, cluster: LocalCluster, expected: Any, seed: int
) -> None:
    chance = random.Random(seed)
    begun = time.perf_counter()
    assert same(dask.compute(*derivative()), expected)
    moment = chance.uniform(0.0, time.perf_counter() - begun)
    number = chance.randrange(3)
    how = [partial(kill, cluster, None), partial(restart, client), partial(shrink, cluster)][seed % 3]
    tapes = ["keep", "keep", "recompute", "8 MB"][seed % 4]
    killer = threading.Timer(moment, how, (number,))
    killer.start()
    found = dask.compute(*derivative(tapes))
    killer.join()
    assert same(found, expected)


# --- tasks that fail, and what is left --------------------------------------------------------------------


def raises(x: Any) -> Any:
    raise ZeroDivisionError("in the user's task")


@pdl.custom_vjp
def raises_in_reverse(x: Any) -> Any:
    return x * 1.0


def _bwd(residuals: Any, g: Any) -> Any:
    raise FloatingPointError("in the user's derivative")


raises_in_reverse.defvjp(lambda x: (x * 1.0, None), _bwd)


@pytest.mark.parametrize("tapes", ["keep", "recompute", "1 MB"])
@pytest.mark.parametrize(
    ("function", "error", "note"),
    [(raises, ZeroDivisionError, "forward pass"), (raises_in_reverse, FloatingPointError, "reverse pass")],
)
def test_an_error_says_where(client: Client, function: Any, error: Any, note: str, tapes: Any) -> None:
    w = delayed(np.ones(3))
    with dask.config.set({"optimization.fuse.active": False}):
        y = delayed(function)(w, dask_key_name="culprit")
        gradient = pdl.gradients(delayed(np.sum)(y) + delayed(np.sum)(y * w), w, tapes=tapes)
        with pytest.raises(error, match="in the user's") as caught:
            gradient.compute()
    notes = " ".join(getattr(caught.value, "__notes__", []))
    assert note in notes
    assert "culprit" in notes


def test_a_cancelled_gradient_leaves_nothing(client: Client) -> None:
    begun, go = "begun-cancel", "go-cancel"

    def waits(w: Any) -> Any:
        from distributed import get_client

        Event(begun, client=get_client()).set()
        Event(go, client=get_client()).wait(timeout=60)
        return np.sum(w**2)

    w = delayed(np.ones(3))
    future = client.compute(pdl.gradients(delayed(waits)(w) * 2.0, w))
    assert Event(begun, client=client).wait(timeout=60)
    future.cancel()
    Event(go, client=client).set()
    del future


def test_a_loss_and_its_gradient_together_apart_and_twice(client: Client, expected: Any) -> None:
    loss, inputs = program()
    gradients = pdl.gradients(loss, inputs)
    first = client.compute([loss, *gradients])
    second = client.compute(pdl.gradients(loss, inputs))
    third = client.compute(loss)
    assert same(client.gather(first)[1:], list(expected[1:]))
    assert same(client.gather(second), list(expected[1:]))
    assert same(third.result(), client.gather(first[0]))
    np.testing.assert_allclose(third.result(), expected[0], rtol=1e-14)
    del first, second, third


def test_two_clients_at_once(client: Client, cluster: LocalCluster, expected: Any) -> None:
    with Client(cluster, set_as_default=False) as other:
        futures = [c.compute([*derivative()]) for c in (client, other) for _ in range(2)]
        for c, found in zip((client, client, other, other), futures, strict=True):
            assert same(c.gather(found), list(expected))
        del futures, found


def test_what_cannot_be_differentiated_is_refused_on_a_worker(client: Client) -> None:
    w = delayed(np.ones(3))
    with pytest.raises((NotDifferentiableError, TypeError), match="float"):
        pdl.gradients(delayed(lambda w: float(w[0]))(w), w).compute()
