"""Derivatives on a distributed cluster: the same bits as at home, whatever happens to the workers."""

from __future__ import annotations

import functools
import gc
import logging
import os
import pickle
import signal
from collections.abc import Iterator
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
from dask import delayed
from dask.sizeof import sizeof
from distributed import Client, Event, LocalCluster, wait

import paradual as pdl
from paradual.dual import Dual
from paradual.sizes import register, tape_bytes
from paradual.tape import Tape

rng = np.random.default_rng(5)
X = rng.normal(size=(48, 6))
W = rng.normal(size=6)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    cluster = LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=":0", silence_logs=logging.CRITICAL
    )
    with cluster, Client(cluster) as found:
        yield found


@pytest.fixture(autouse=True)
def _waits(client: Client) -> None:
    client.wait_for_workers(2, timeout=60)


def same(a: Any, b: Any) -> bool:
    a, b = np.asarray(a), np.asarray(b)
    return (a.shape, a.dtype, a.tobytes()) == (b.shape, b.dtype, b.tobytes())


def here(c: Any) -> Any:
    return c.compute(scheduler="sync")


def elementwise(x: Any, w: Any) -> Any:
    return np.sum(np.log1p(np.exp(-np.sum(x * w, axis=1)))) + 0.1 * np.sum(w**2)


def shards(x: Any, w: Any, n: int = 8) -> Any:
    """A loss over shards, each a task that uses the same parameter."""
    rows = [delayed(np.array)(part) for part in np.split(x, n)]
    return delayed(sum)([delayed(elementwise)(row, w) for row in rows])


# --- the same as at home ------------------------------------------------------------------------------------


@pytest.mark.parametrize("tapes", ["keep", "recompute"])
def test_delayed_shards(client: Client, tapes: str) -> None:
    w = delayed(W)
    value, g = pdl.value_and_gradients(shards(X, w), w, tapes=tapes)
    found_value, found = dask.compute(value, g)

    def plain(w: Any) -> Any:
        return sum(elementwise(part, w) for part in np.split(X, 8))

    np.testing.assert_allclose(found_value, plain(W), 1e-12)
    np.testing.assert_allclose(found, pdl.grad(plain)(W), 1e-12)
    v, eps = np.arange(6.0), 1e-6
    slope = (plain(W + eps * v) - plain(W - eps * v)) / (2 * eps)
    np.testing.assert_allclose(found @ v, slope, 1e-6)
    assert same(found, here(g))
    assert same(found_value, here(value))


@pytest.mark.parametrize("tapes", ["keep", "recompute"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_array_program(client: Client, tapes: str, order: Any) -> None:
    x = da.from_array(np.asarray(X, order=order), chunks=(7, 4))
    w = da.from_array(W, chunks=4)
    loss = da.tanh((x[::2] * w).T[:, 1:] ** 2).std(axis=0).sum() * x.max()
    found = dask.compute(*pdl.gradients(loss, [x, w], tapes=tapes))
    home = dask.compute(*pdl.gradients(loss, [x, w], tapes=tapes), scheduler="sync")
    assert all(same(a, b) for a, b in zip(found, home, strict=True))

    def plain(x: Any, w: Any) -> Any:
        return np.sum(np.std(np.tanh(np.transpose(x[::2] * w)[:, 1:] ** 2), axis=0)) * np.max(x)

    for a, b in zip(found, pdl.grad(plain, argnums=(0, 1))(X, W), strict=True):
        np.testing.assert_allclose(a, b, 1e-10, 1e-12)


def test_products_of_matrices(client: Client) -> None:
    x, w = da.from_array(X, chunks=(6, 3)), da.from_array(W, chunks=3)
    loss = da.log1p(da.exp(-(x @ w))).mean() + ((x.T @ x) ** 2).mean()
    for tapes in ("keep", "recompute"):
        found = dask.compute(*pdl.gradients(loss, [x, w], tapes=tapes))
        home = dask.compute(*pdl.gradients(loss, [x, w], tapes=tapes), scheduler="sync")
        assert all(same(a, b) for a, b in zip(found, home, strict=True))

    def plain(x: Any, w: Any) -> Any:
        return np.mean(np.log1p(np.exp(-(x @ w)))) + np.mean((x.T @ x) ** 2)

    for a, b in zip(found, pdl.grad(plain, argnums=(0, 1))(X, W), strict=True):
        np.testing.assert_allclose(a, b, 1e-10)


def test_second_order(client: Client) -> None:
    w = delayed(W)
    v = np.linspace(-1, 1, 6)
    loss = shards(X, w, 4)
    g = pdl.gradients(loss, w)
    hessian = pdl.hessian(lambda w: sum(elementwise(part, w) for part in np.split(X, 4)))(W)
    for product in (
        pdl.gradients(g, w, v),
        pdl.gradients(g, w, v, tapes="recompute"),
        pdl.tangents(g, w, v),
        pdl.gradients(pdl.tangents(loss, w, v), w),
        pdl.hvp(lambda w: shards(X, w, 4), (w,), (v,))[0],
    ):
        found = product.compute()
        np.testing.assert_allclose(found, hessian @ v, 1e-10)
        assert same(found, here(product))


def test_value_and_gradient_and_loss_together(client: Client) -> None:
    w = delayed(W)
    loss = shards(X, w)
    value, g = pdl.value_and_gradients(loss, w)
    h = pdl.gradients(g, w, W)
    together = dask.compute(loss, value, g, h, w)
    assert same(together[0], together[1])
    for found, c in zip(together, (loss, value, g, h, w), strict=True):
        assert same(found, here(c))


# --- where the data is --------------------------------------------------------------------------------------


def test_persisted_inputs(client: Client) -> None:
    x = da.from_array(X, chunks=(6, 6))
    p = client.persist(x * 2)
    wait(p)
    w = client.persist(delayed(W) * 1.0)
    y = da.from_delayed(w, shape=(6,), dtype=float)
    gp, gw = pdl.gradients(da.tanh(p * y).sum(), [p, w])
    assert gp.chunks == p.chunks
    slope = 1 - np.tanh(2 * X * W) ** 2
    np.testing.assert_allclose(gp.compute(), slope * W, 1e-12)
    np.testing.assert_allclose(gw.compute(), (slope * 2 * X).sum(0), 1e-12)
    h = pdl.gradients(pdl.gradients((p**3).sum(), p), p, X)
    np.testing.assert_allclose(h.compute(), 6 * 2 * X * X, 1e-12)
    # a persisted gradient, used on
    g = client.persist(pdl.gradients((p**2).sum(), p))
    np.testing.assert_allclose((p - 0.5 * g).compute(), np.zeros_like(X), atol=1e-15)


def test_scattered_data(client: Client) -> None:
    rows = client.scatter(X)
    parameter = client.scatter(W)
    w = delayed(W)
    # a Future as an argument, as a Delayed, and as the input itself
    g = pdl.gradients(delayed(elementwise)(rows, w), w)
    expected = pdl.grad(elementwise, argnums=1)(X, W)
    np.testing.assert_allclose(g.compute(), expected, 1e-12)
    np.testing.assert_allclose(pdl.gradients(g, w, W).compute(), pdl.hvp(lambda w: elementwise(X, w), W, W))
    d = delayed(parameter)
    g = pdl.gradients(delayed(elementwise)(delayed(rows), d), d)
    np.testing.assert_allclose(g.compute(), expected, 1e-12)
    g = pdl.gradients(delayed(lambda pair, w: elementwise(pair[0], w))([rows], w), w)
    np.testing.assert_allclose(g.compute(), expected, 1e-12)


# --- two tasks and a join: what other libraries get wrong ---------------------------------------------------


def f1(x: Any) -> Any:
    return np.sum(np.sin(x) * x)


def f2(x: Any) -> Any:
    return np.sum(np.cos(x) * x**2)


EXACT = np.cos(W) * W + np.sin(W) - np.sin(W) * W**2 + 2 * np.cos(W) * W


@pytest.mark.parametrize("scheduler", ["cluster", "processes"])
def test_two_tasks_and_a_join(client: Client, scheduler: str) -> None:
    where: dict[str, Any] = {} if scheduler == "cluster" else {"scheduler": scheduler}
    x = delayed(W)
    g = pdl.gradients(delayed(f1)(x) + delayed(f2)(x), x)
    np.testing.assert_allclose(g.compute(**where), EXACT, 1e-12)
    # one task and a term of one's own
    g = pdl.gradients(delayed(f1)(x) + (x**2).sum(), x)
    np.testing.assert_allclose(g.compute(**where), np.cos(W) * W + np.sin(W) + 2 * W, 1e-12)
    # the tasks pinned to different workers
    if scheduler == "cluster":
        first, second = client.scheduler_info()["workers"]
        with dask.annotate(workers=[first], allow_other_workers=False):
            a = delayed(f1)(x)
        with dask.annotate(workers=[second], allow_other_workers=False):
            b = delayed(f2)(x)
        value, g = pdl.value_and_gradients(a + b, x)
        np.testing.assert_allclose(dask.compute(value, g)[1], EXACT, 1e-12)


def test_a_gradient_taken_within_each_of_two_submitted_tasks(client: Client) -> None:
    parts = client.map(lambda f, x: pdl.value_and_grad(f)(x), [f1, f2], [W, W])
    (v1, g1), (v2, g2) = client.gather(parts)
    np.testing.assert_allclose(g1 + g2, EXACT, 1e-12)
    np.testing.assert_allclose(v1 + v2, f1(W) + f2(W), 1e-12)


def test_a_long_program_in_a_task(client: Client) -> None:
    def long(x: Any) -> Any:
        for _ in range(5000):
            x = x * 0.9999
        return x

    x = delayed(2.0)
    a, b = delayed(long)(x), delayed(long)(x)  # two consumers: the tape is a task's result
    np.testing.assert_allclose(pdl.gradients(a * b, x).compute(), 2 * 2.0 * 0.9999**10000, 1e-9)


# --- closures, exceptions, pullbacks ------------------------------------------------------------------------


def test_closures(client: Client) -> None:
    scale, table = 3.0, {"k": np.arange(6.0)}

    def model(w: Any) -> Any:
        return np.sum(np.sin(w * scale) * table["k"])

    w = delayed(W)
    maker = delayed(lambda w: lambda s: np.sum(w**2 * s))(w)  # a value travels in a closure
    loss = delayed(model)(w) + delayed(lambda f, s: f(s))(maker, 2.0)
    g = pdl.gradients(loss, w)
    np.testing.assert_allclose(g.compute(), scale * np.cos(W * scale) * table["k"] + 4 * W, 1e-12)


@pdl.custom_vjp
def fragile(x: Any) -> Any:
    return x * 2


def _raise(residuals: Any, g: Any) -> Any:
    raise KeyError("no way back")


fragile.defvjp(lambda x: (x * 2, None), _raise)


@pytest.mark.parametrize("tapes", ["keep", "recompute"])
def test_an_exception_arrives_with_the_key_of_its_task(client: Client, tapes: str) -> None:
    def breaks(w: Any) -> Any:
        raise LookupError("the user's own message")

    w = delayed(W)
    with dask.config.set({"optimization.fuse.active": False}):
        bad = delayed(breaks)(w)
        with pytest.raises(LookupError, match="the user's own message") as caught:
            pdl.gradients(bad, w, tapes=tapes).compute()
        assert any(bad.key in note for note in caught.value.__notes__)
        bad = delayed(lambda w: np.sum(fragile(w)))(w)
        with pytest.raises(KeyError, match="no way back") as caught_back:
            pdl.gradients(bad, w, tapes=tapes).compute()
        assert any(bad.key in note and "reverse" in note for note in caught_back.value.__notes__)


def test_a_pullback_runs_on_a_worker(client: Client) -> None:
    _, pullback = pdl.vjp(lambda w: np.sin(w) * w, W)
    g = rng.normal(size=6)
    (home,) = pullback(g)
    (away,) = client.submit(pullback, g).result()
    (again,) = client.submit(pickle.loads(pickle.dumps(pullback)), g).result()
    assert same(home, away)
    assert same(home, again)
    np.testing.assert_allclose(home, g * (np.cos(W) * W + np.sin(W)), 1e-12)


def test_a_pullback_made_on_a_worker(client: Client) -> None:
    out, pullback = client.submit(pdl.vjp, elementwise, X, W).result()
    np.testing.assert_allclose(out, elementwise(X, W))
    np.testing.assert_allclose(pullback(1.0)[1], pdl.grad(elementwise, argnums=1)(X, W), 1e-12)


# --- a worker that dies -------------------------------------------------------------------------------------


def hold(x: Any, reached: str, released: str) -> Any:
    """The identity, which says that it was reached and waits until it may go on."""
    Event(reached).set()
    Event(released).wait(timeout="60s")
    return x


@pytest.mark.parametrize("tapes", ["keep", "recompute"])
def test_a_worker_that_dies_between_forward_and_reverse(client: Client, tapes: str) -> None:
    pids = client.run(os.getpid)
    reached, released = f"reached-{tapes}", f"released-{tapes}"
    w = delayed(W)
    loss = shards(X, w)
    with dask.config.set({"optimization.fuse.active": False}):
        held = delayed(functools.partial(hold, reached=reached, released=released))(loss)
        g = pdl.gradients(held, w, tapes=tapes)
    future = client.compute(g)
    assert Event(reached).wait(timeout="60s")
    # all shards have run: kill a worker that holds some of the tapes
    holders = {
        address
        for key, addresses in client.who_has().items()
        if str(key).startswith(("forward-", "value-"))
        for address in addresses
    }
    assert holders
    victim = sorted(holders)[0]
    os.kill(pids[victim], signal.SIGKILL)
    Event(released).set()
    found = future.result(timeout=120)
    assert same(found, here(pdl.gradients(shards(X, w), w)))
    client.wait_for_workers(2, timeout=60)


# --- sizes --------------------------------------------------------------------------------------------------


def test_a_tape_counts_its_arrays() -> None:
    register()
    x = np.ones(100_000)
    _, pullback = pdl.vjp(lambda x: np.sum(np.sin(x) * np.exp(x)), x)
    tape = pullback.last
    assert isinstance(tape, Tape)
    assert sizeof(tape) == tape_bytes(tape)
    assert 3 * x.nbytes <= sizeof(tape) < 6 * x.nbytes
    assert sizeof((1.0, tape)) >= sizeof(tape)
    _, short = pdl.vjp(lambda x: np.sum(x), x)
    assert sizeof(short.last) < 10_000
    dual = Dual(x, tape.home, 0)
    assert x.nbytes <= sizeof(dual) < x.nbytes + 1000


def test_views_on_a_tape_count_once() -> None:
    x = np.ones((1000, 100))
    _, pullback = pdl.vjp(lambda x: sum(np.sum(np.sin(x[k]) ** 2) for k in range(1000)), x)
    assert sizeof(pullback.last) < 10 * x.nbytes


def test_the_scheduler_knows_the_size_of_a_tape(client: Client) -> None:
    n = 200_000
    w = delayed(np.ones(n))
    released = "released-sizes"
    with dask.config.set({"optimization.fuse.active": False}):
        y = delayed(lambda w: np.sin(w) * np.cos(w))(w)
        held = delayed(functools.partial(hold, reached="reached-sizes", released=released))(y.sum())
        future = client.compute(pdl.gradients(held + y.sum(), w))  # two users: a job of its own
    assert Event("reached-sizes").wait(timeout="60s")
    sizes = client.run_on_scheduler(
        lambda dask_scheduler: {str(key): ts.nbytes for key, ts in dask_scheduler.tasks.items()}
    )
    Event(released).set()
    np.testing.assert_allclose(future.result(timeout=60), np.full(n, 2 * np.cos(2.0)), 1e-12)
    tape = next(size for key, size in sizes.items() if key.startswith("forward-lambda"))
    swept = next(size for key, size in sizes.items() if key.startswith("forward-sum"))
    value = next(size for key, size in sizes.items() if key.startswith("value-sum"))
    assert tape >= 2 * 8 * n
    assert swept < 10_000
    assert value < 10_000


def test_nothing_is_left_behind(client: Client) -> None:
    w = delayed(W)
    g = pdl.gradients(shards(X, w), w)
    g.compute()
    del g
    gc.collect()
    client.sync(_drained, client)
    assert not [key for key in client.futures if "gradient" in str(key)]


async def _drained(client: Client) -> None:
    import asyncio

    for _ in range(200):
        if not client.futures:
            return
        await asyncio.sleep(0.01)
