"""Rows about the graphs of derivatives: how many tasks, how soon they are built, and how fast they run."""

from __future__ import annotations

import gc
from collections.abc import Callable
from time import process_time
from typing import Any

import dask
import dask.array as da
import numpy as np
from dask.base import collections_to_expr
from dask.delayed import delayed

import paradual as pdl

from .chunked import tree_sum
from .measure import HAND, OURS, Bar, Line, check, interleaved

# --- their shape --------------------------------------------------------------------------------------


def regression(chunks: int) -> tuple[Any, list[Any]]:
    """Logistic regression, in chunks of samples."""
    rng = da.random.default_rng(0)
    x, y = rng.normal(size=(10 * chunks, 8), chunks=(10, 8)), rng.random(10 * chunks, chunks=10)
    w = da.from_array(np.zeros(8), chunks=-1)
    return da.log1p(da.exp(-(x @ w) * (2 * y - 1))).mean(), [w]


def perceptron(chunks: int) -> tuple[Any, list[Any]]:
    """A network of three layers, in chunks of samples."""
    rng, sizes = np.random.default_rng(0), [(8, 16), (16, 16), (16, 4)]
    weights = [da.from_array(rng.normal(size=size), chunks=-1) for size in sizes]
    y = da.random.default_rng(0).normal(size=(10 * chunks, 8), chunks=(10, 8))
    for w in weights[:-1]:
        y = da.tanh(y @ w)
    return ((y @ weights[-1]) ** 2).mean(), weights


def stencil(chunks: int) -> tuple[Any, list[Any]]:
    """Three steps of a heat equation, in chunks of space."""
    x = y = da.from_array(np.linspace(0, 1, 10 * chunks), chunks=10)
    for _ in range(3):
        y = da.map_overlap(
            lambda b: b + 0.1 * (np.roll(b, 1) - 2 * b + np.roll(b, -1)), y, depth=1, boundary="periodic"
        )
    return (y**2).sum(), [x]


def products(chunks: int) -> tuple[Any, list[Any]]:
    """A chain of products of matrices, in square chunks."""
    n = 10 * round(chunks**0.5)
    a, b = (da.from_array(np.full((n, n), k), chunks=10) for k in (0.1, 0.2))
    return (da.tensordot(da.tensordot(a, b, axes=1), a, axes=1) ** 2).sum(), [a, b]


def elementwise(chunks: int) -> tuple[Any, list[Any]]:
    """Functions of each element."""
    x = da.ones(2 * chunks, chunks=2)
    return (da.sin(x) * 2 + x**2).sum(), [x]


def _size(*collections: Any) -> int:
    return len(collections_to_expr(collections).optimize().__dask_graph__())


def graph_shape(systems: list[Any], quick: bool) -> list[Line]:
    """Tasks of value and gradient for each task of the value, both optimised."""
    chunks = 9 if quick else 64
    lines = []
    for program in (regression, perceptron, stencil, products):
        loss, inputs = program(chunks)
        value, found = pdl.value_and_gradients(loss, inputs)
        ratio = _size(value, *found) / _size(loss)
        what = f"tasks for each forward task, {program.__name__}, {chunks} chunks"
        lines.append(Line("graph shape", what, {OURS: ratio}, [Bar(3.3)]))
    return lines


def graph_building(systems: list[Any], quick: bool) -> list[Line]:
    """Seconds to build the gradient of 100,000 tasks, beside those that Dask takes to optimise the value."""
    lines = []
    gc.unfreeze()  # both sides make many objects, and meet the garbage collector as it is for a user
    for program, chunks in ((elementwise, 16_000), (regression, 8_000), (stencil, 4_000)):
        times: dict[str, list[float]] = {OURS: [], HAND: []}
        for _ in range(3):
            for system, seconds in times.items():
                loss, inputs = program(chunks // 100 if quick else chunks)
                gc.collect()
                begun = process_time()
                if system == OURS:
                    pdl.value_and_gradients(loss, inputs)
                else:
                    loss.__dask_optimize__(loss.__dask_graph__(), loss.__dask_keys__())
                seconds.append(process_time() - begun)
        tasks = len(dict(loss.__dask_graph__()))
        best = {system: min(seconds) for system, seconds in times.items()}
        what = f"s to build, {program.__name__}, {tasks:,} tasks"
        lines.append(Line("graph building", what, best, [Bar(3.0, HAND)]))
    return lines


# --- how fast they run ------------------------------------------------------------------------------------

FREQUENCIES = np.random.default_rng(3).normal(size=(20, 200))


def _regression(x: Any, y: Any, w: Any) -> Any:
    """Logistic regression on random Fourier features."""
    return np.logaddexp(0.0, -y * (np.cos(x @ FREQUENCIES) @ w[0])).sum()


def _regression_by_hand(x: Any, y: Any, w: Any) -> Any:
    features = np.cos(x @ FREQUENCIES)
    z = y * (features @ w[0])
    return np.logaddexp(0.0, -z).sum(), [(-y / (1.0 + np.exp(z))) @ features]


def _perceptron(x: Any, y: Any, w: Any) -> Any:
    """The squared error of a network of three layers."""
    h = np.tanh(np.tanh(x @ w[0]) @ w[1]) @ w[2]
    return ((h[:, 0] - y) ** 2).sum()


def _perceptron_by_hand(x: Any, y: Any, w: Any) -> Any:
    a = np.tanh(x @ w[0])
    b = np.tanh(a @ w[1])
    error = (b @ w[2])[:, 0] - y
    g = np.zeros((len(x), w[2].shape[1]))
    g[:, 0] = 2 * error
    g2 = b.T @ g
    g = (g @ w[2].T) * (1 - b * b)
    g1 = a.T @ g
    g = (g @ w[1].T) * (1 - a * a)
    return (error**2).sum(), [x.T @ g, g1, g2]


def _add(*parts: Any) -> Any:
    return sum(parts)


def _add_pairs(*pairs: Any) -> Any:
    value, gradients = pairs[0][0], list(pairs[0][1])
    for other, more in pairs[1:]:
        value = value + other
        gradients = [a + b for a, b in zip(gradients, more, strict=True)]
    return value, gradients


def _calls(
    loss: Callable[..., Any], by_hand: Callable[..., Any], data: list[Any], w: Any
) -> dict[str, Callable[[], Any]]:
    def ours() -> Any:
        weights = delayed(w)
        parts = [delayed(loss, pure=False)(x, y, weights) for x, y in data]
        total = tree_sum(parts, delayed(_add, pure=False))
        return dask.compute(*pdl.value_and_gradients(total, weights))

    def hand() -> Any:
        weights = delayed(w)
        parts = [delayed(by_hand, pure=False)(x, y, weights) for x, y in data]
        return tree_sum(parts, delayed(_add_pairs, pure=False)).compute()

    return {OURS: ours, HAND: hand}


def graph_speed(systems: list[Any], quick: bool) -> list[Line]:
    """Value and gradient on two worker processes that hold the samples, 64 chunks of about 50 ms each."""
    from distributed import Client, LocalCluster, wait

    rng = np.random.default_rng(0)
    chunks, lines = (4 if quick else 64), []
    programs = {
        "regression": (_regression, _regression_by_hand, 16_000, 20, [(200,)]),
        "perceptron": (_perceptron, _perceptron_by_hand, 8_000, 64, [(64, 128), (128, 128), (128, 10)]),
    }
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster),
    ):
        for name, (loss, by_hand, rows, columns, shapes) in programs.items():
            rows = 100 if quick else rows
            x = da.random.default_rng(0).normal(size=(rows * chunks, columns), chunks=(rows, columns))
            x, y = dask.persist(x, da.where(x[:, 0] > 0.0, 1.0, -1.0))
            wait([x, y])
            blocks = [z.to_delayed(optimize_graph=False).ravel() for z in (x, y)]
            data = list(zip(*blocks, strict=True))
            w = [0.1 * rng.normal(size=shape) for shape in shapes]
            calls = _calls(loss, by_hand, data, w)
            (value, gradient), (other, expected) = calls[OURS](), calls[HAND]()
            check("graph speed", OURS, [value, *gradient], [other, *expected])
            times = interleaved(calls, 2 if quick else 11, "median", at_least=0.0, at_most=120.0)
            what = f"ms, {name}, {chunks} chunks of {rows:,} samples, 2 processes"
            values = {system: 1e3 * seconds for system, seconds in times.items()}
            lines.append(Line("graph speed", what, values, [Bar(1.15, HAND)]))
    return lines
