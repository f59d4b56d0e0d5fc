"""Loops in tasks on worker processes, and tasks of workers inside the steps of loops."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
from cluster_helpers import at_home_and_away, check_untouched, workers
from distributed import Client

import paradual as pdl

X = np.linspace(0.1, 0.9, 300)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with workers(2) as found:
        yield found


@pytest.fixture(autouse=True)
def nothing_is_left_behind(client: Client) -> Iterator[None]:
    yield
    check_untouched(client)


def plain(step: Any, state: Any, n: int, schedule: Any = None) -> Any:
    for i in range(n):
        state = step(i, state)
    return state


def shots(loop: Any, schedule: Any, x: Any) -> Any:
    """Each task runs a loop whose steps use what was computed outside of it."""
    c = np.exp(-x)

    def shot(k: float) -> Any:
        return (loop(lambda i, s: s + 0.1 * np.sin(k * s) * c * x, np.ones_like(x), 6, schedule) * c).sum()

    return sum(pdl.map(shot, [1.0, 2.0, 3.0]))


def forks(loop: Any, x: Any) -> Any:
    """The steps fork tasks; their tapes stay on the workers until a step is over."""
    c = x * 0.5

    def step(i: int, s: Any) -> Any:
        a, b = pdl.par(lambda: np.sin(s * c), lambda: s * 0.3)
        return a + b * x

    return loop(step, x, 4).sum()


def test_loops_in_tasks(client: Client) -> None:
    slope = at_home_and_away(client, lambda: pdl.grad(partial(shots, pdl.loop, None))(X))
    np.testing.assert_allclose(slope, pdl.grad(partial(shots, plain, None))(X), rtol=1e-12)
    second = at_home_and_away(client, lambda: pdl.hvp(partial(shots, pdl.loop, None), X, X))
    np.testing.assert_allclose(second, pdl.hvp(partial(shots, plain, None), X, X), rtol=1e-11)


@pytest.mark.filterwarnings("ignore:Numba not available")
def test_snapshots_on_the_disks_of_workers(client: Client) -> None:
    schedules = pytest.importorskip("checkpoint_schedules")
    schedule = schedules.MultistageCheckpointSchedule(6, 1, 2)
    slope = at_home_and_away(client, lambda: pdl.grad(partial(shots, pdl.loop, schedule))(X))
    np.testing.assert_allclose(slope, pdl.grad(partial(shots, plain, None))(X), rtol=1e-12)
    with pdl.executor(client):
        _, pullback = pdl.vjp(partial(shots, pdl.loop, schedule), X)
        for _ in range(2):
            np.testing.assert_array_equal(pullback(1.0)[0], slope)


def test_steps_that_fork_tasks(client: Client) -> None:
    slope = at_home_and_away(client, lambda: pdl.grad(partial(forks, pdl.loop))(X))
    np.testing.assert_allclose(slope, pdl.grad(partial(forks, plain))(X), rtol=1e-12)


def test_a_loop_in_a_delayed_task(client: Client) -> None:
    from dask import delayed

    x = delayed(X)
    parts = [delayed(lambda x, k: pdl.loop(lambda i, s: np.sin(s * x) * k, x, 5))(x, k) for k in (1.0, 2.0)]
    loss = delayed(lambda parts: (parts[0] * parts[1]).sum())(parts)
    found = client.compute(pdl.gradients(loss, x)).result()

    def f(x: Any) -> Any:
        a, b = (plain(lambda i, s, k=k: np.sin(s * x) * k, x, 5) for k in (1.0, 2.0))
        return (a * b).sum()

    np.testing.assert_allclose(found, pdl.grad(f)(X), rtol=1e-12)
