"""The graph that a derivative is: what its tasks depend on, their keys, their number, when they run."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
from dask import delayed
from dask.core import get_dependencies
from graph_helpers import EACH_STEP, V, X, rng, same
from graph_helpers import _synchronous as _synchronous

import paradual as pdl

SOURCES: dict[str, Callable[[], Any]] = {
    "data": lambda: da.from_array(V, chunks=3),
    "random": lambda: da.random.default_rng(3).normal(size=7, chunks=3),
    "creation": lambda: da.linspace(-1, 1, 7, chunks=3),
    "intermediate": lambda: da.from_array(V, chunks=3) * 2,
    "selection": lambda: da.from_array(V, chunks=3)[::-1],
    "persisted": lambda: (da.from_array(V, chunks=3) * 2).persist(),
    "task": lambda: delayed(lambda: V)(),
    "intermediate task": lambda: delayed(np.sin)(delayed(V)),
    "part": lambda: delayed(lambda: (V, V), nout=2)()[1],
    "array from a task": lambda: da.from_delayed(delayed(lambda: V)(), shape=(7,), dtype=float),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_a_gradient_depends_on_whatever_its_input_was(kind: str) -> None:
    x = SOURCES[kind]()
    value = x.compute()
    g = pdl.gradients((x**3).sum(), x)
    np.testing.assert_allclose(g.compute(), 3 * value**2)
    v = np.arange(7.0)
    np.testing.assert_allclose(pdl.gradients(g, x, v).compute(), 6 * value * v)
    np.testing.assert_allclose(pdl.tangents(g, x, v).compute(), 6 * value * v)
    h = pdl.gradients(g, x, v)
    np.testing.assert_allclose(pdl.gradients(h.sum() + g.sum(), x).compute(), 6 * v + 6 * value)


def test_second_order_through_an_intermediate_value() -> None:
    x = da.from_array(V, chunks=3)
    y = x * 2
    g = pdl.gradients((y**3).sum(), y)
    np.testing.assert_allclose(pdl.gradients(g, x, np.ones(7)).compute(), 6 * 2 * V * 2)
    both = pdl.gradients((y**3).sum(), [x, y])
    np.testing.assert_allclose(
        pdl.gradients(both, x, [np.ones(7)] * 2).compute(), 12 * (2 * 2 * V) + 6 * (2 * 2 * V)
    )


def test_second_order_with_respect_to_inputs_that_depend_on_one_another() -> None:
    x = da.from_array(V, chunks=3)
    y = x * 2
    both = pdl.gradients((y**3).sum(), [x, y])  # 6 y^2 and 3 y^2
    np.testing.assert_allclose(pdl.gradients(both, y, [np.ones(7)] * 2).compute(), 18 * 2 * V)


def test_a_random_source_is_drawn_once() -> None:
    noise = delayed(lambda: np.random.default_rng().normal(size=7), pure=False)()
    loss = delayed(np.sum)(noise**2)
    value, g = pdl.value_and_gradients(loss, noise)
    drawn, total, gradient, before = dask.compute(noise, value, g, loss)
    assert same(gradient, 2 * drawn)
    assert total == before


def test_nothing_is_computed_when_the_graph_is_built() -> None:
    calls: list[str] = []

    def step(w: Any) -> Any:
        calls.append("step")
        return np.sum(w**2)

    w = delayed(lambda: calls.append("source") or V, pure=False)()
    loss = delayed(step)(w)
    value, g = pdl.value_and_gradients(loss, w)
    t = pdl.tangents(loss, w, V)
    h = pdl.gradients(g, w, V)
    r = pdl.gradients(loss, w, tapes="recompute")
    assert calls == []
    dask.compute(value, g)
    assert calls == ["source", "step"]  # one forward pass serves both
    calls.clear()
    r.compute()
    assert calls == ["source", "step"]
    calls.clear()
    dask.compute(*pdl.value_and_gradients(loss, w, tapes="recompute"))
    assert calls == ["source", "step"]  # a number: what its reverse finds is kept, which is less than a tape
    np.testing.assert_allclose(t.compute(), 2 * V @ V)
    np.testing.assert_allclose(h.compute(), 2 * V)


def optimised(*collections: Any) -> dict[Any, Any]:
    merged = dask.base.collections_to_expr(dask.optimize(*collections)).__dask_graph__()
    return dict(dask._task_spec.convert_legacy_graph(dict(merged)))


def test_the_loss_and_the_gradient_share_no_key_with_different_meanings() -> None:
    x = da.from_array(X, chunks=(2, 3))
    w = delayed(V[:5])
    y = da.from_delayed(w * 2, shape=(5,), dtype=float)
    loss = da.tanh(x * y + x.mean(axis=0)).sum()
    g = pdl.gradients(loss, [x, w])
    again = pdl.gradients(loss, [x, w], tapes="recompute")
    graphs = [optimised(loss), optimised(*g), optimised(*again), optimised(pdl.gradients(loss, x))]
    graphs.append(optimised(pdl.tangents(loss, x, X)))
    graphs.append(optimised(pdl.tangents(loss, x, 2 * X)))
    graphs.append(optimised(pdl.gradients(pdl.gradients(loss, x), x, X)))
    for first, second in itertools.combinations(graphs, 2):
        for key in first.keys() & second.keys():
            assert dask.base.tokenize(first[key]) == dask.base.tokenize(second[key]), key
    value, gx, t = dask.compute(loss, g[0], pdl.tangents(loss, x, X))
    f = lambda x: np.sum(np.tanh(x * V[:5] * 2 + x.mean(axis=0)))  # noqa: E731
    np.testing.assert_allclose(value, f(X))
    np.testing.assert_allclose(gx, pdl.grad(f)(X), 1e-12)
    np.testing.assert_allclose(t, np.sum(gx * X), 1e-12)


def test_the_same_call_gives_the_same_keys_and_another_call_others() -> None:
    x = da.from_array(V, chunks=3)
    s = (x**2).sum()
    assert pdl.gradients(s, x).name == pdl.gradients(s, x).name
    names = [
        pdl.gradients(s, x).name,
        pdl.gradients(s, x, 2.0).name,
        pdl.gradients(s, x, 3.0).name,
        pdl.gradients(s, x, tapes="recompute").name,
        pdl.gradients([s, s + 1], x).name,
        pdl.tangents(s, x, V).name,
        pdl.tangents(s, x, 2 * V).name,
    ]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("n", [9, 100])
def test_many_consumers_are_summed_by_a_tree(n: int) -> None:
    w = delayed(V)
    with dask.config.set(EACH_STEP):
        parts = [delayed(lambda w, k: np.sum(w**2) * k)(w, float(k)) for k in range(n)]
        loss = functools.reduce(lambda a, b: a + b, parts)
        g = pdl.gradients(loss, w)
    graph = dict(g.__dask_graph__())
    worst = max(len(get_dependencies(graph, key)) for key in graph)
    assert worst <= 9  # eight terms, and the value
    np.testing.assert_allclose(g.compute(), 2 * V * sum(range(n)), 1e-12)
    x = da.from_array(rng.normal(size=(n, 7)), chunks=(1, 7))
    p = da.from_array(V, chunks=7)
    g = pdl.gradients(((x * p) ** 2).sum(split_every=4), p)
    graph = dict(g.__dask_graph__())
    assert max(len(get_dependencies(graph, key)) for key in graph) <= 9
    np.testing.assert_allclose(g.compute(), 2 * V * np.sum(np.asarray(x) ** 2, axis=0), 1e-12)


def test_three_tasks_for_each_forward_task() -> None:
    w = delayed(V)
    with dask.config.set(EACH_STEP):
        y = w
        for _ in range(10):
            y = delayed(np.sin)(y)
        g = pdl.gradients(delayed(np.sum)(y), w)
    assert len(dict(g.__dask_graph__())) <= 3 * 11 + 3
