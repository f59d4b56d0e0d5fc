"""Derivatives of Delayed: the structure of values between tasks, and what Dask has fused before."""

from __future__ import annotations

import dataclasses
import functools
from collections import OrderedDict, namedtuple
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
from dask import delayed
from graph_helpers import EACH_STEP, Box, V, X, difference, each, same
from graph_helpers import _synchronous as _synchronous

import paradual as pdl
from paradual.errors import ParadualError, ParadualValueError

# --- Delayed ------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Model:
    weight: Any
    rest: Any


Pair = namedtuple("Pair", "first second")


def test_gradient_has_the_structure_of_the_input() -> None:
    def f(m: Any) -> Any:
        a, (b, c) = m.rest["a"], m.rest["b"]
        return np.sum(m.weight**2) * a + np.sum(np.sin(b[0])) * c

    value = Model(V, {"a": 2.0, "b": ([X], np.float32(1.5))})
    m = delayed(value, traverse=False)
    g = pdl.gradients(delayed(f)(m), m).compute()
    expected = pdl.grad(f)(value)
    assert type(g) is Model
    assert type(g.rest["a"]) is float
    assert type(g.rest["b"][1]) is np.float32
    assert same(g, expected)
    np.testing.assert_allclose(g.weight, 4 * V)
    np.testing.assert_allclose(g.rest["b"][0][0], 1.5 * np.cos(X))


@pytest.mark.parametrize(
    ("pack", "unpack"),
    [
        (lambda a, b: (a, b), lambda p: p),
        (lambda a, b: [a, [b]], lambda p: (p[0], p[1][0])),
        (lambda a, b: {"b": a, "a": (b, None)}, lambda p: (p["b"], p["a"][0])),
        (Pair, lambda p: p),
        (lambda a, b: OrderedDict(z=a, y=b), lambda p: (p["z"], p["y"])),
        (Model, lambda p: (p.weight, p.rest)),
    ],
)
def test_containers_between_tasks(pack: Any, unpack: Any) -> None:
    a, b = delayed(V), delayed(2.0)
    packed = delayed(lambda a, b: pack(a * b, b**2))(a, b)
    first = delayed(lambda p: np.sum(unpack(p)[0] ** 2))(packed)
    second = delayed(lambda p: np.sum(unpack(p)[0]) * unpack(p)[1])(packed)

    def plain(a: Any, b: Any) -> Any:
        return np.sum((a * b) ** 2) + np.sum(a * b) * b**2

    with dask.config.set(EACH_STEP):
        ga, gb = dask.compute(*pdl.gradients(first + second, [a, b]))
    ea, eb = pdl.grad(plain, argnums=(0, 1))(V, 2.0)
    np.testing.assert_allclose(ga, ea, 1e-12)
    assert type(gb) is float
    np.testing.assert_allclose(gb, eb, 1e-12)


def test_traversed_containers_and_nout() -> None:
    w, x = delayed(V), da.from_array(X, chunks=(2, 3))
    halves = delayed(lambda w: (w[:3], w[3:], None), nout=3)(w)
    loss = delayed(lambda t: np.sum(t["w"][0] ** 2) * np.sum(t["x"]))({"w": [halves[0]], "x": x})
    gw, gx = each(*pdl.gradients(loss, [w, x]))
    np.testing.assert_allclose(gw, np.concatenate([2 * V[:3] * X.sum(), np.zeros(4)]), 1e-12)
    np.testing.assert_allclose(gx, np.full(X.shape, np.sum(V[:3] ** 2)), 1e-12)


def test_one_result_of_several_is_used_and_one_branch_is_not() -> None:
    w = delayed(V)
    parts = delayed(lambda w: {"used": w**2, "unused": 1 / (w * 0)}, pure=False)
    with np.errstate(divide="ignore"):
        g = pdl.gradients(delayed(np.sum)(parts(w)["used"]), w).compute()
    np.testing.assert_allclose(g, 2 * V)


def test_a_function_that_returns_its_argument_untouched() -> None:
    w = delayed(V)
    with dask.config.set(EACH_STEP):
        a = delayed(lambda w: w)(w)
        b = delayed(lambda w: w)(a)
        loss = delayed(np.sum)(a * b) + delayed(np.sum)(b)
        found = dask.compute(*pdl.gradients(loss, [w, a, b]))
    np.testing.assert_allclose(found[0], 2 * V + 1)
    np.testing.assert_allclose(found[1], 2 * V + 1)
    np.testing.assert_allclose(found[2], V + 1)


def test_an_input_with_the_same_value_twice_has_a_gradient_for_each() -> None:
    w = delayed(V)
    pair = delayed(lambda w: (w, w))(w)
    with dask.config.set(EACH_STEP):
        gw, (first, second) = dask.compute(*pdl.gradients(delayed(np.sum)(pair[0] ** 2 * pair[1]), [w, pair]))
    np.testing.assert_allclose(first, 2 * V**2)
    np.testing.assert_allclose(second, V**2)
    np.testing.assert_allclose(gw, 3 * V**2)


def test_operands_that_are_not_differentiated_arrive_as_they_are() -> None:
    @dataclasses.dataclass
    class Table:
        n: int

        def __post_init__(self) -> None:
            self.rows = np.arange(float(self.n))  # not a field

    table = delayed(lambda n: Table(n))(V.size)
    w = delayed(V)
    with dask.config.set(EACH_STEP):
        g = pdl.gradients(delayed(lambda t, w: np.sum(t.rows * w))(table, w), w)
        assert same(g.compute(), np.arange(7.0))


def test_other_transforms_inside_a_task() -> None:
    w = delayed(V)

    def inner(w: Any) -> Any:
        both = pdl.map(lambda u: np.sum(u**2), [w, 2 * w])
        cubes = pdl.checkpoint(lambda u: np.sum(u**3))(w)
        return sum(both) + cubes + np.sum(pdl.grad(lambda u: np.sum(u**3) * w[0])(w))

    g = pdl.gradients(delayed(inner)(w), w).compute()
    np.testing.assert_allclose(g, pdl.grad(inner)(V), 1e-12)
    slope = difference(inner, V, np.ones(7))
    np.testing.assert_allclose(g.sum(), slope, 1e-6)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize(
    ("make", "use"),
    [
        (lambda w: Box(w), lambda b: np.sum(b.v**3)),
        (lambda w: Box(w * 1), lambda b: np.sum(b.v**3)),
        (lambda w: lambda: w, lambda b: np.sum(b() ** 3)),
        (lambda w: functools.partial(np.multiply, w * w), lambda b: np.sum(b(1.0) * b(1.0) ** 0.5)),
        (lambda w: {"box": [Box(w)], "w": w}, lambda b: np.sum(b["box"][0].v ** 2 * b["w"])),
        (lambda w: Model(w, Box(w)), lambda b: np.sum(b.weight**2 * b.rest.v)),
        (lambda w: Model(w, 1.0), lambda b: np.sum(b.weight**3)),
        (lambda w: np.array([w, None], dtype=object), lambda b: np.sum(b[0] ** 3)),
    ],
)
def test_duals_hidden_in_an_object_are_right_or_refused(make: Any, use: Any, order: int) -> None:
    values = np.abs(V)
    w = delayed(values)
    with dask.config.set(EACH_STEP):
        made = delayed(make)(w)
        loss = delayed(use)(made) + delayed(use)(made)
        try:
            g = pdl.gradients(loss, w)
            g = g if order == 1 else pdl.gradients(g, w, np.ones(7))
            found = g.compute()
        except ParadualError as error:
            assert "paradual" in str(error) or "optree" in str(error)  # noqa: PT017 - the cure
        else:
            np.testing.assert_allclose(found, 6 * values**2 if order == 1 else 12 * values, 1e-12)


def test_an_output_that_is_no_pytree_is_refused() -> None:
    w = delayed(V)
    with pytest.raises(ParadualValueError, match="sum it, or give its cotangent"):
        pdl.gradients(delayed(lambda w: Box(w.sum()))(w), w).compute()


# --- what Dask has fused before it was asked ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "plain"),
    [
        (lambda x: delayed(np.sum)(x), lambda x: np.sum(x)),
        (lambda x: delayed(np.sum)(x**2), lambda x: np.sum(x**2)),
        (lambda x: delayed(lambda a, b: np.sum(a * b))(x * 2, b=x), lambda x: 2 * np.sum(x**2)),
        (lambda x: delayed(np.sum)(da.cumsum(x, axis=0) ** 2), lambda x: np.sum(np.cumsum(x) ** 2)),
        (lambda x: delayed(np.sum)(x * x.sum()) + (x**2).sum(), lambda x: np.sum(x) ** 2 + np.sum(x**2)),
        (lambda x: sum(delayed(np.sum)(b) for b in (x**2).to_delayed()), lambda x: np.sum(x**2)),
        (
            lambda x: delayed(lambda b: np.sum(b[0]) + np.sum(b[1]))([x + 1, x**2]),
            lambda x: np.sum(x + 1 + x**2),
        ),
        (lambda x: dask.optimize((x**3).sum())[0], lambda x: np.sum(x**3)),
        (
            lambda x: delayed(np.sum)(da.from_delayed(delayed(np.sum)(x**2), (), float) * x),
            lambda x: np.sum(x**2) * np.sum(x),
        ),
    ],
)
def test_an_array_given_to_delayed_keeps_its_derivative(build: Any, plain: Any) -> None:
    x = da.from_array(V, chunks=3)
    loss = build(x)
    np.testing.assert_allclose(loss.compute(), plain(V), 1e-12)
    np.testing.assert_allclose(pdl.gradients(loss, x).compute(), pdl.grad(plain)(V), 1e-12)
    v = np.arange(7.0)
    np.testing.assert_allclose(pdl.tangents(loss, x, v).compute(), pdl.grad(plain)(V) @ v, 1e-12)
    second = pdl.gradients(pdl.gradients(loss, x), x, v).compute()
    np.testing.assert_allclose(second, pdl.hvp(plain, V, v), 1e-12)


def test_an_input_fused_beyond_recognition_is_refused() -> None:
    x = da.from_array(V, chunks=3)
    y = x + 1
    loss = delayed(np.sum)(y**2)
    np.testing.assert_allclose(pdl.gradients(loss, x).compute(), 2 * (V + 1))
    with pytest.raises(ParadualValueError, match="optimize_graph=False"):
        pdl.gradients(loss, y)
    y = (x + 1).persist()
    np.testing.assert_allclose(pdl.gradients(delayed(np.sum)(y**2), y).compute(), 2 * (V + 1))
