"""Clusters of worker processes, started by the tests themselves."""

from __future__ import annotations

import gc
import logging
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
from distributed import Client, LocalCluster

import paradual as pdl
from paradual.tape import ACTIVE, OUTSIDE


@contextmanager
def workers(number: int) -> Iterator[Client]:
    """A client of a cluster with so many processes of one thread each."""
    # not None, with which every cluster asks for the same port and warns if another one has it
    cluster = LocalCluster(
        n_workers=number, threads_per_worker=1, dashboard_address=":0", silence_logs=logging.CRITICAL
    )
    with cluster, Client(cluster) as client:
        client.wait_for_workers(number, timeout=60)
        yield client


def kill(cluster: LocalCluster, address: str | None = None, number: int = 0) -> None:
    """Kill one worker process, as a failing machine would.

    Not one that is just starting: its nanny would give up.
    """
    here = [w for w in cluster.workers.values() if w.worker_address in cluster.scheduler.workers]
    chosen = [w for w in here if address in (None, w.worker_address)]
    with suppress(ProcessLookupError):
        os.kill(chosen[number % len(chosen)].pid, signal.SIGKILL)


def mend(cluster: LocalCluster, client: Client, number: int) -> None:
    """Wait until there are so many workers again; replace those that did not come back.

    A nanny whose new worker was lost while it started gives up.
    """
    try:
        client.wait_for_workers(number, timeout=15)
    except TimeoutError:
        cluster.scale(len(cluster.worker_spec) + number - len(cluster.scheduler.workers))
        client.wait_for_workers(number, timeout=60)


def known_tasks(client: Client) -> dict[str, str]:
    """The keys that the scheduler knows, with their state."""
    found: dict[str, str] = client.run_on_scheduler(
        lambda dask_scheduler: {str(key): task.state for key, task in dask_scheduler.tasks.items()}
    )
    return found


def check_empty(client: Client, seconds: float = 20.0) -> None:
    """Everything that tasks left on the cluster is forgotten, after a while."""
    deadline = time.monotonic() + seconds
    while True:
        gc.collect()
        client.run(gc.collect)
        held, known = dict(client.futures), known_tasks(client)
        if not held and not known:
            return
        assert time.monotonic() < deadline, (sorted(map(str, held)), known)
        time.sleep(0.02)


def same(a: Any, b: Any) -> bool:
    if isinstance(a, tuple | list):
        return len(a) == len(b) and all(same(p, q) for p, q in zip(a, b, strict=True))
    p, q = np.asarray(a), np.asarray(b)
    if p.dtype == np.longdouble:  # there are bits in it that mean nothing
        return type(a) is type(b) and p.dtype == q.dtype and np.array_equal(p, q)
    return type(a) is type(b) and (p.shape, p.dtype, p.tobytes()) == (q.shape, q.dtype, q.tobytes())


def at_home_and_away(client: Client, call: Any) -> Any:
    """What a call gives: bitwise the same inline, on threads and on the cluster."""
    with pdl.executor("inline"):
        home = call()
    for where in ("threads", client):
        with pdl.executor(where):
            assert same(call(), home)
    return home


def state() -> Any:
    """Of a task: whether it is outside of any differentiation, and how NumPy reports a division by zero."""
    return ACTIVE.get() == (OUTSIDE,), np.geterr()["divide"]


def check_untouched(client: Client) -> None:
    """Differentiations that have ended leave no trace: here, on the workers, or with the scheduler."""
    assert ACTIVE.get() == (OUTSIDE,)
    assert client.submit(state, pure=False).result() == (True, "warn")
    with pdl.executor(client):
        assert pdl.par(lambda: 1, lambda: 2) == (1, 2)
    check_empty(client)
