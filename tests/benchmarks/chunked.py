"""The row where the cost is Dask's: logistic regression in chunks, on threads and on a cluster."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dask
import dask.array as da
import numpy as np
from dask.delayed import Delayed, delayed

import paradual as pdl

from .measure import HAND, OURS, Bar, Line, check, interleaved

FAN_IN = 4


def tree_sum(parts: list[Delayed], add: Callable[..., Any]) -> Delayed:
    """Sum many tasks a few at a time, so that they need not all meet in one."""
    while len(parts) > 1:
        parts = [add(*parts[k : k + FAN_IN]) for k in range(0, len(parts), FAN_IN)]
    return parts[0]


def chunks_of(x: da.Array, y: da.Array) -> list[tuple[Delayed, Delayed]]:
    """The chunks of samples and labels, side by side."""
    # without optimisation: it would copy the graph of the data for every chunk
    return list(
        zip(x.to_delayed(optimize_graph=False).ravel(), y.to_delayed(optimize_graph=False), strict=True)
    )


# --- by hand ----------------------------------------------------------------------------------------


def hand_expressions(x: da.Array, y: da.Array, w: Any) -> Callable[[], Any]:
    """Value and gradient as two expressions of Dask arrays, computed together."""

    def run() -> Any:
        weights = da.from_array(w, chunks=-1)
        z = y * (x @ weights)
        value = da.logaddexp(0.0, -z).sum()
        gradient = x.T @ (-y / (1.0 + da.exp(z)))
        return dask.compute(value, gradient)

    return run


def _both(x: Any, y: Any, w: Any) -> tuple[Any, Any]:
    z = y * (x @ w)
    return np.logaddexp(0.0, -z).sum(), (-y / (1.0 + np.exp(z))) @ x


def _sum_pairs(*pairs: tuple[Any, Any]) -> tuple[Any, Any]:
    return sum(value for value, _ in pairs), sum(g for _, g in pairs)


def hand_tasks(x: da.Array, y: da.Array, w: Any) -> Callable[[], Any]:
    """One task for each chunk that computes both, and a tree of sums."""
    task, add = delayed(_both, pure=False), delayed(_sum_pairs, pure=False)

    def run() -> Any:
        weights = delayed(w)
        return tree_sum([task(a, b, weights) for a, b in chunks_of(x, y)], add).compute()

    return run


# --- paradual -----------------------------------------------------------------------------------------


def our_expressions(x: da.Array, y: da.Array, w: Any) -> Callable[[], Any]:
    """The loss as an expression of Dask arrays, and its gradient by paradual."""

    def run() -> Any:
        weights = da.from_array(w, chunks=-1)
        loss = da.logaddexp(0.0, -y * (x @ weights)).sum()
        return dask.compute(*pdl.value_and_gradients(loss, weights))

    return run


def _loss(x: Any, y: Any, w: Any) -> Any:
    return np.logaddexp(0.0, -y * (x @ w)).sum()


def _sum(*parts: Any) -> Any:
    return sum(parts)


def our_tasks(x: da.Array, y: da.Array, w: Any) -> Callable[[], Any]:
    """One task for each chunk's loss and a tree of sums, and its gradient by paradual."""
    task, add = delayed(_loss, pure=False), delayed(_sum, pure=False)

    def run() -> Any:
        weights = delayed(w)
        loss = tree_sum([task(a, b, weights) for a, b in chunks_of(x, y)], add)
        return dask.compute(*pdl.value_and_gradients(loss, weights))

    return run


# --- the row ------------------------------------------------------------------------------------------

FORMS = {
    f"{OURS} expressions": our_expressions,
    f"{OURS} tasks": our_tasks,
    f"{HAND} expressions": hand_expressions,
    f"{HAND} tasks": hand_tasks,
}


def _data(quick: bool) -> tuple[da.Array, da.Array, Any]:
    n, features, chunks = (8_000, 10, 4) if quick else (800_000, 50, 16)
    rng = da.random.default_rng(0)
    x = rng.normal(size=(n, features), chunks=(n // chunks, features))
    # made of the samples, so that a cluster puts the labels where the samples are
    y = da.where(x[:, 0] > 0.0, 1.0, -1.0)
    return x, y, 0.1 * np.random.default_rng(0).normal(size=features)


def _measure(where: str, quick: bool) -> list[Line]:
    x, y, w = _data(quick)
    x, y = dask.persist(x, y)
    if where != "threads":
        from distributed import wait

        wait([x, y])
    calls = {name: form(x, y, w) for name, form in FORMS.items()}
    expected = calls[f"{HAND} tasks"]()
    for name, call in calls.items():
        check(f"dask, {where}", name, call(), expected)
    # a median: what a scheduler does varies to both sides
    times = {
        name: 1e3 * t for name, t in interleaved(calls, 2 if quick else 15, "median", at_least=0.0).items()
    }
    size = f"{x.shape[0]:,} x {x.shape[1]}, {x.numblocks[0]} chunks"
    # each form of the program against the same form of its gradient by hand
    return [
        Line(
            f"dask, {where}",
            f"ms, {size}, {what}",
            {OURS: times[f"{OURS} {form}"], HAND: times[f"{HAND} {form}"]},
            [Bar(1.3, HAND)],
        )
        for form, what in (("expressions", "arrays"), ("tasks", "one delayed task each"))
    ]


def logistic_threads(systems: list[Any], quick: bool) -> list[Line]:
    """Value and gradient of logistic regression on the threads of this process."""
    with dask.config.set(scheduler="threads"):
        return _measure("threads", quick)


def logistic_processes(systems: list[Any], quick: bool) -> list[Line]:
    """Value and gradient of logistic regression on two worker processes that hold the data."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0") as cluster,
        Client(cluster),
    ):
        return _measure("2 processes", quick)
