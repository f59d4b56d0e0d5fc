"""Rows where the cost is that of forking and joining: on threads, and on a Dask cluster."""

from __future__ import annotations

import logging
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np
from distributed import Client, LocalCluster

import paradual as pdl

from .measure import HAND, OURS, Bar, Line, check, interleaved

OWN = HAND  # the same tasks, submitted to Dask by hand and not differentiated
CLUSTER: dict[str, Any] = {
    "threads_per_worker": 1,
    "dashboard_address": ":0",
    "silence_logs": logging.CRITICAL,
}


def forks_of_one(n: int, x: Any) -> Any:
    """A program of n forks and joins of one task that does next to nothing."""
    for _ in range(n):
        x = pdl.submit(lambda y: y * 1.0, x).result()
    return x


def forks_of_two(n: int, x: Any) -> Any:
    """The same with two tasks."""
    for _ in range(n):
        a, b = pdl.par(lambda x=x: x * 0.5, lambda x=x: x * 0.5)
        x = a + b
    return x


def without_forks(tasks: int, n: int, x: Any) -> Any:
    """What these programs compute."""
    for _ in range(n):
        x = x * 1.0 if tasks == 1 else x * 0.5 + x * 0.5
    return x


def fork_overhead(systems: list[Any], quick: bool) -> list[Line]:
    """Microseconds for one fork and join of empty tasks on threads, forward and reverse."""
    n = 20 if quick else 200
    lines = []
    for tasks, forked in ((1, forks_of_one), (2, forks_of_two)):
        program, plain = partial(forked, n), partial(without_forks, tasks, n)
        with pdl.executor("threads"):
            pull, pull_plain = pdl.vjp(program, 1.0)[1], pdl.vjp(plain, 1.0)[1]
            check("fork", OURS, pull(1.0), pull_plain(1.0))
            times = interleaved(
                {
                    "forward": partial(pdl.vjp, program, 1.0),
                    "forward without": partial(pdl.vjp, plain, 1.0),
                    "reverse": partial(pull, 1.0),
                    "reverse without": partial(pull_plain, 1.0),
                },
                3 if quick else 15,
                "median",
            )
        for which in ("forward", "reverse"):
            cost = 1e6 * (times[which] - times[f"{which} without"]) / n
            quantity = f"us per fork and join of {tasks}, {which}, threads"
            lines.append(Line("fork", quantity, {OURS: cost}, [Bar(150.0)] if tasks == 1 else []))
    return lines


def nothing(x: Any, k: float) -> Any:
    return x * k


def fork_cluster(systems: list[Any], quick: bool) -> list[Line]:
    """Milliseconds for each of many empty tasks on two worker processes, against tasks of Dask."""
    factors = np.linspace(0.1, 1.0, 20 if quick else 200).tolist()
    n = len(factors)
    with LocalCluster(n_workers=2, **CLUSTER) as cluster, Client(cluster) as client:

        def program(x: float) -> Any:
            return sum(pdl.map(partial(nothing, x), factors))

        pullback = pdl.vjp(program, 1.5)[1]
        check("fork-cluster", OURS, pullback(1.0), (sum(factors),))
        times = interleaved(
            {
                OWN: lambda: client.gather(client.map(partial(nothing, 1.5), factors, pure=False)),
                "forward": lambda: pdl.vjp(program, 1.5),
                "reverse": lambda: pullback(1.0),
            },
            3 if quick else 9,
            "median",
        )
    return [
        Line(
            "fork-cluster", f"ms per task, {which}, 2 processes",
            {OURS: 1e3 * times[which] / n, OWN: 1e3 * times[OWN] / n}, [Bar(2.5, OWN)],
        )
        for which in ("forward", "reverse")
    ]  # fmt: skip


# --- how much faster both passes are with more workers ---------------------------------------------------


def work(x: Any, steps: int, k: float) -> Any:
    """NumPy on one thread: products of matrices and elementwise functions."""
    for _ in range(steps):
        x = np.tanh(x @ x * 0.01 + np.sin(x) * k)
    return np.sum(x)


def speed_up(systems: list[Any], quick: bool) -> list[Line]:
    """The speed-up of the reverse pass over that of the forward pass, from one worker to two, and to many."""
    size, steps, tasks = (60, 3, 8) if quick else (330, 24, 8)
    x = np.random.default_rng(0).normal(size=(size, size))

    def program(x: Any) -> Any:
        return sum(pdl.map(lambda k: work(x, steps, k), np.linspace(0.1, 1.0, tasks)))

    with (
        LocalCluster(n_workers=1, **CLUSTER) as one,
        Client(one, set_as_default=False) as a,
        LocalCluster(n_workers=2, **CLUSTER) as two,
        Client(two, set_as_default=False) as b,
    ):
        rounds: list[tuple[float, float, float, float]] = []
        for _ in range(2 if quick else 7):  # in turns, so that a slow spell of the machine meets both
            times = []
            for client in (a, b):
                with pdl.executor(client):
                    start = perf_counter()
                    _, pullback = pdl.vjp(program, x)
                    between = perf_counter()
                    pullback(np.float64(1.0))
                    times += [between - start, perf_counter() - between]
            rounds.append((times[0], times[1], times[2], times[3]))
        with pdl.executor(a), pdl.profile() as measured:  # one task at a time: none disturbs another
            pdl.value_and_grad(program)(x)
    forward_1, reverse_1, forward_2, reverse_2 = np.median(rounds, axis=0)
    quantity = "speed-up of reverse / of forward"
    ratio = (reverse_1 / reverse_2) / (forward_1 / forward_2)
    lines = [
        Line("speed-up", "s a task, forward, one worker", {OURS: forward_1 / tasks}),
        Line("speed-up", "forward, 2 workers over 1", {OURS: forward_1 / forward_2}),
        Line("speed-up", f"{quantity}, 2 workers", {OURS: ratio}, [Bar(0.95, least=True)]),
    ]
    for workers in (16, 64):
        up = {w: measured.work(w) / measured.simulate(w, workers) for w in ("forward", "reverse")}
        lines.append(
            Line(
                "speed-up", f"{quantity}, {workers} workers, simulated",
                {OURS: up["reverse"] / up["forward"]}, [Bar(0.9, least=True)],
            )
        )  # fmt: skip
    return lines
