"""Delayed in all its forms: what is called, how it is called, and what its values are made of."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import dask
import dask.array as da
import dask.bag as db
import numpy as np
import pytest
from dask import delayed
from dask.graph_manipulation import wait_on
from graph_helpers import EACH_STEP, N, V, each, same
from graph_helpers import _synchronous as _synchronous

import paradual as pdl
from paradual.errors import InternalError, ParadualTypeError


@dataclasses.dataclass
class Model:
    weight: Any
    label: Any = None

    def loss(self, x: Any, scale: Any = 1.0) -> Any:
        return np.sum(self.weight**2 * x) * scale


class Plain:
    """Not a pytree, so that it must not leave the task it was made in."""

    def __init__(self, weight: Any) -> None:
        self.weight = weight

    def loss(self, scale: Any) -> Any:
        return np.sum(self.weight**2) * scale


class Pair(NamedTuple):
    first: Any
    second: Any


def squares(w: Any) -> Any:
    return np.sum(w**2)


# Each program takes a Delayed vector to a Delayed number, and a vector to a number.

PROGRAMS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "methods": (
        lambda w: w.sum() * w.mean(axis=0) + w.reshape((7, 1)).T.dot(w)[0],
        lambda w: w.sum() * w.mean(axis=0) + w.reshape((7, 1)).T.dot(w)[0],
    ),
    "attributes": (lambda w: w.T.sum() + w.real.sum() * w.shape[0], lambda w: 8 * w.sum()),
    "operators": (
        lambda w: ((-w) + 2 * w - w / 2 + w**2.0).sum() + abs(w).sum() + (w @ w) + (3 - w).sum(),
        lambda w: ((-w) + 2 * w - w / 2 + w**2.0).sum() + abs(w).sum() + (w @ w) + (3 - w).sum(),
    ),
    "items": (
        lambda w: w[delayed(1)] * w[0] + w[1:].sum() + w[slice(delayed(2), 4)].sum(),
        lambda w: w[1] * w[0] + w[1:].sum() + w[2:4].sum(),
    ),
    "keywords": (
        lambda w: delayed(lambda a, *, b, c=1.0: np.sum(a * b) * c)(w, b=w * 2, c=delayed(3.0)),
        lambda w: 6 * squares(w),
    ),
    "containers among keywords": (
        lambda w: delayed(lambda a, **k: np.sum(a * k["o"]["z"][0]))(w, o={"z": (w, None), "s": "text"}),
        squares,
    ),
    "containers among arguments": (
        lambda w: delayed(lambda m: m[0].loss(m[1].first) + np.sum(m[1].second["s"]))(
            [Model(w, "name"), Pair(w, {"s": w, "n": None})]
        ),
        lambda w: np.sum(w**3) + np.sum(w),
    ),
    "slices and iterators": (
        lambda w: delayed(lambda parts: sum(np.sum(p) for p in parts))(iter([w[:2], w * 2])),
        lambda w: np.sum(w[:2]) + 2 * np.sum(w),
    ),
    "nout": (
        lambda w: (
            lambda a, b, c: (a * b["v"]).sum() + delayed(lambda a, c: a.sum() if c is None else 0.0)(a, c)
        )(*delayed(lambda w: (w * 2, {"s": "text", "v": w**2}, None), nout=3)(w)),
        lambda w: np.sum(2 * w**3) + 2 * np.sum(w),
    ),
    "a class": (lambda w: delayed(Model)(w, label="name").loss(w, scale=2.0), lambda w: 2 * np.sum(w**3)),
    "an object used twice": (
        lambda w: (lambda m: m.loss(1.0) + m.loss(2.0, scale=w.sum()) + m.weight.sum())(delayed(Model)(w)),
        lambda w: squares(w) + 2 * squares(w) * np.sum(w) + np.sum(w),
    ),
    "a plain object used once": (lambda w: delayed(Plain)(w).loss(2.0), lambda w: 2 * squares(w)),
    "a pure function": (
        lambda w: delayed(squares, pure=True)(w) + delayed(np.sum)(w, pure=True),
        lambda w: squares(w) + np.sum(w),
    ),
    "a name of its own": (lambda w: delayed(squares)(w, dask_key_name="mine"), squares),
    "a name that is a tuple": (lambda w: delayed(squares)(w, dask_key_name=("mine", 1)), squares),
    "captured arrays": (lambda w: delayed(lambda w: np.sum(w * N))(w), lambda w: np.sum(w * N)),
    "a partial function": (
        lambda w: delayed(functools.partial(np.multiply, N))(w).sum(),
        lambda w: np.sum(w * N),
    ),
    "a copy written in place": (
        lambda w: delayed(_written)(w * 2),
        lambda w: np.sum((2 * w)[1:] ** 2),
    ),
    "an array from it": (
        lambda w: delayed(squares)(da.from_delayed(w * 2, shape=(7,), dtype=float).rechunk(3)),
        lambda w: 4 * squares(w),
    ),
    "blocks of an array from it": (
        lambda w: sum(
            delayed(squares)(b)
            for b in da.from_delayed(w, shape=(7,), dtype=float).rechunk(3).to_delayed(optimize_graph=False)
        ),
        squares,
    ),
    "waiting": (lambda w: wait_on(delayed(squares)(w)), squares),
}


def _written(w: Any) -> Any:
    w = w.copy()
    w[0] = 0.0
    w *= w
    return np.sum(w)


@pytest.mark.parametrize("name", PROGRAMS)
def test_program(name: str) -> None:
    lazy, plain = PROGRAMS[name]
    expected, product = pdl.grad(plain)(V), pdl.hvp(plain, V, N)
    for options in ({}, EACH_STEP):
        with dask.config.set(options):
            w = delayed(V)
            loss = lazy(w)
            value, g = pdl.value_and_gradients(loss, w)
            np.testing.assert_allclose(each(value, loss), [plain(V)] * 2)
            found = g.compute()
            np.testing.assert_allclose(found, expected, 1e-12, 1e-12)
            assert same(found, pdl.gradients(loss, w, tapes="recompute").compute())
            assert same(found, g.compute(scheduler="threads"))
            np.testing.assert_allclose(pdl.tangents(loss, w, N).compute(), expected @ N, 1e-12)
            np.testing.assert_allclose(pdl.gradients(g, w, N).compute(), product, 1e-11, 1e-11)
            np.testing.assert_allclose(pdl.grad(lazy)(w).compute(), expected, 1e-12, 1e-12)


def test_a_plain_object_used_by_two_tasks_is_refused() -> None:
    w = delayed(V)
    with dask.config.set(EACH_STEP):
        made = delayed(Plain)(w)
        with pytest.raises(InternalError, match="Register its class"):
            pdl.gradients(made.loss(1.0) + made.loss(2.0), w).compute()


@pytest.mark.parametrize(
    "value",
    [
        {"a": V, "b": {"c": [2.0, (np.float32(1.0),)]}, "n": None},
        Pair(V, {"x": 1.5}),
        Model(V, [np.ones((2, 2)), ()]),
        (Model({"deep": V}), Pair([], 1.0 + 2.0j)),
        [V, V],
    ],
)
def test_any_structure_as_an_input_an_output_and_a_tangent(value: Any) -> None:
    w = delayed(value, traverse=False)
    with dask.config.set(EACH_STEP):
        out = delayed(lambda v: {"same": v, "text": "s", "count": 3, "nothing": None})(w)
        cotangent = {"same": value, "text": "s", "count": 0, "nothing": None}
        values, g = pdl.value_and_gradients(out, w, cotangent)
        assert same(values.compute()["same"], value)
        assert values.compute()["text"] == "s"
        assert same(g.compute(), value)
        t = pdl.tangents(out, w, value).compute()
        assert same(t["same"], value)
        assert (t["text"], t["count"], t["nothing"]) == ("s", 0, None)


@pytest.mark.parametrize(("value", "says"), [({"a": V, "n": 3}, "dtype int"), ([V, "text"], "is a str")])
def test_what_is_no_floating_point_number_is_no_input(value: Any, says: str) -> None:
    w = delayed(value)
    part = w["a"] if isinstance(value, dict) else w[0]
    with pytest.raises(ParadualTypeError, match=says):
        pdl.gradients(delayed(squares)(part), w).compute()
    np.testing.assert_allclose(pdl.gradients(delayed(squares)(part), part).compute(), 2 * V)  # but a part is


def test_blocks_of_an_array_are_inputs_and_outputs() -> None:
    x = da.from_array(V, chunks=3)
    first, second, third = (x * 2).to_delayed(optimize_graph=False)
    loss = delayed(squares)(first) * delayed(np.sum)(second)
    values, g = pdl.value_and_gradients([loss, third], [first, second, x], [None, np.ones(1)])
    a, b = 2 * V[:3], 2 * V[3:6]
    found = each(*values, *g)
    np.testing.assert_allclose(found[0], squares(a) * b.sum())
    np.testing.assert_allclose(found[1], 2 * V[6:])
    np.testing.assert_allclose(found[2], 2 * a * b.sum())
    np.testing.assert_allclose(found[3], np.full(3, squares(a)))
    np.testing.assert_allclose(found[4], 2 * np.concatenate([found[2], found[3], [1.0]]))
    again = pdl.gradients(g[0], x, np.ones(3)).compute()
    np.testing.assert_allclose(again[:3], 4 * np.full(3, b.sum()))
    both = each(*pdl.grad(lambda a, b: delayed(squares)(a) * b.sum(), argnums=(0, 1))(first, second))
    assert same(both, found[2:4])


def test_a_loss_and_its_gradient_together_apart_and_twice() -> None:
    w, x = da.from_delayed(delayed(V), shape=(7,), dtype=float), da.from_array(V, chunks=3)
    loss = (2 * w * x**2).sum()
    g = pdl.gradients(loss, [w, x])
    apart = [loss.compute(), *each(*g)]
    for _ in range(2):
        together = dask.compute(loss, *g)
        assert same(list(together), apart)
    kept = dask.persist(loss, *g)
    assert same([k.compute() for k in kept], apart)
    optimised = dask.optimize(loss, *g)
    assert same([o.compute() for o in optimised], apart)
    value, again = pdl.value_and_gradients(loss, [w, x])
    assert same([value.compute(), *each(*again)], apart)
    once, twice = dask.compute(g[1], pdl.gradients(loss, [w, x])[1])
    assert same(once, twice)


# --- bags ---------------------------------------------------------------------------------------------------


def test_bags_of_numbers_and_arrays() -> None:
    numbers = db.from_sequence([1.0, 2.0, 3.0, 4.0], npartitions=2)
    arrays = db.from_sequence([V, 2 * V, 3 * V], npartitions=2)
    w = delayed(V)
    assert pdl.gradients(numbers.map(lambda x: x**2).sum(), numbers).compute() == [2.0, 4.0, 6.0, 8.0]
    assert pdl.gradients(numbers.filter(lambda x: x > 1.5).fold(lambda a, b: a * b), numbers).compute() == [
        0.0,
        12.0,
        8.0,
        6.0,
    ]
    loss = arrays.map(lambda x, w: np.sum(x * w), w=w).mean()
    value, (g, gw) = pdl.value_and_gradients(loss, [arrays, w])
    np.testing.assert_allclose(value.compute(), 2 * squares(V))
    assert type(g) is db.Bag
    np.testing.assert_allclose(g.compute(), [V / 3] * 3)
    np.testing.assert_allclose(gw.compute(), 2 * V)
    t = pdl.tangents(arrays.map(squares), arrays, arrays).compute()
    np.testing.assert_allclose(t, [2 * squares(k * V) for k in (1, 2, 3)])
    with pytest.raises(ParadualTypeError, match="derivative would be lost"):
        pdl.gradients(numbers.std(), numbers).compute()  # whose formula casts to float
    words = db.from_sequence(["a", "b"], npartitions=1)
    with pytest.raises(ParadualTypeError, match="is a str"):
        pdl.gradients(numbers.sum(), words).compute()


def test_data_frames_are_refused() -> None:
    pytest.importorskip("pyarrow")
    dd, pd = pytest.importorskip("dask.dataframe"), pytest.importorskip("pandas")
    frame = dd.from_pandas(pd.DataFrame({"a": V}), npartitions=2)
    x = da.from_array(V, chunks=3)
    for wrong in (
        lambda: pdl.gradients(frame.a.sum(), frame),
        lambda: pdl.gradients(dd.from_dask_array(x).sum(), x),
        lambda: pdl.grad(lambda f: f.a.sum())(frame),
    ):
        with pytest.raises(ParadualTypeError, match="to_dask_array"):
            wrong()
    with pytest.raises(ParadualTypeError, match="derivative would be lost"):
        pdl.gradients(dd.from_dask_array(x).to_dask_array(lengths=[3, 3, 1]).sum(), x).compute()
    y = frame.a.to_dask_array(lengths=True)
    np.testing.assert_allclose(pdl.gradients((y**2).sum(), y).compute(), 2 * V)
