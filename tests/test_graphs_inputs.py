"""Derivatives of Dask collections: which inputs and outputs, which cotangents and tangents they take."""

from __future__ import annotations

from typing import Any

import dask
import dask.array as da
import numpy as np
from dask import delayed
from graph_helpers import EACH_STEP, N, V, X, Z, each, rng, same
from graph_helpers import _synchronous as _synchronous

import paradual as pdl

# --- inputs and outputs -------------------------------------------------------------------------------------


def test_arrays_and_delayed_in_one_call() -> None:
    x, w, s = da.from_array(X, chunks=(2, 3)), delayed(V[:5]), delayed({"scale": 2.0})
    y = da.from_delayed(delayed(lambda w, s: w * s["scale"])(w, s), shape=(5,), dtype=float)
    value, found = pdl.value_and_gradients((x * y).sum() ** 2, (w, x, s))
    total = (X * V[:5] * 2).sum()
    gw, gx, gs = each(*found)
    np.testing.assert_allclose(value.compute(), total**2)
    np.testing.assert_allclose(gw, 2 * total * 2 * X.sum(0), 1e-12)
    np.testing.assert_allclose(gx, 2 * total * np.broadcast_to(2 * V[:5], X.shape), 1e-12)
    np.testing.assert_allclose(gs["scale"], 2 * total * total / 2, 1e-12)


def test_inputs_that_depend_on_one_another_give_total_derivatives() -> None:
    x = da.from_array(V, chunks=3)
    y = x * 2
    z = (y**2).sum() + x.sum()
    gx, gy, gz = dask.compute(*pdl.gradients(z, [x, y, z]))
    np.testing.assert_allclose(gx, 8 * V + 1)
    np.testing.assert_allclose(gy, 4 * V)
    assert gz == 1.0
    tangent = pdl.tangents(z, [x, y], [N, np.ones(7)]).compute()
    np.testing.assert_allclose(tangent, (4 * V) @ np.ones(7) + (8 * V + 1) @ N)
    w = delayed(V)
    u = w * 3
    with dask.config.set(EACH_STEP):
        gw, gu = dask.compute(*pdl.gradients(delayed(np.sum)(u * w), [w, u]))
    np.testing.assert_allclose(gw, 6 * V)
    np.testing.assert_allclose(gu, V)


def test_the_arguments_of_a_function_are_independent() -> None:
    x, w = da.from_array(V, chunks=3), delayed(V)

    def f(x: Any, y: Any) -> Any:
        return (x**2 * y).sum()

    for first in (x, w):
        for second, plain in ((first, V), (2 * first, 2 * V)):  # the gradient is partial, as it is in NumPy
            expected = pdl.grad(f, argnums=(0, 1))(V, plain)
            for k in (0, 1):
                np.testing.assert_allclose(pdl.grad(f, argnums=k)(first, second).compute(), expected[k])
            both = each(*pdl.grad(f, argnums=(0, 1))(first, second))
            np.testing.assert_allclose(both, expected)
            tangent = pdl.jvp(f, (first, second), (V, N))[1]
            np.testing.assert_allclose(tangent.compute(), pdl.jvp(f, (V, plain), (V, N))[1])
            product = each(*pdl.hvp(f, (first, second), (V, N)))
            np.testing.assert_allclose(product, pdl.hvp(f, (V, plain), (V, N)))
            pulled = each(*pdl.vjp(lambda x, y: x**2 * y, first, second)[1](N))
            np.testing.assert_allclose(pulled, (2 * V * plain * N, V**2 * N))
            outside = pdl.grad(lambda x, y=second: f(x, y))(first)  # so is what is used from outside
            np.testing.assert_allclose(outside.compute(), expected[0])
    inner = pdl.grad(lambda u: (pdl.grad(lambda v: (v**3).sum())(x) * u).sum())(x)
    np.testing.assert_allclose(inner.compute(), 3 * V**2)
    again = pdl.grad(lambda u: (pdl.grad(lambda v: (v**3).sum())(u) * u).sum())(x)
    np.testing.assert_allclose(again.compute(), 9 * V**2)
    y = x + 1
    fused = pdl.grad(lambda y: delayed(np.sum)(y**2))(y)  # which takes the array's graph as it finds it
    np.testing.assert_allclose(fused.compute(), 2 * (V + 1))


def test_the_same_input_and_the_same_output_twice() -> None:
    x = da.from_array(V, chunks=3)
    s = (x**2).sum()
    first, second = dask.compute(*pdl.gradients(s, [x, x]))
    assert same(first, 2 * V)
    assert same(second, 2 * V)
    values, g = pdl.value_and_gradients([s, s, x.sum()], x)
    assert len(values) == 3
    np.testing.assert_allclose(g.compute(), 4 * V + 1)


def test_persisted_inputs_and_outputs() -> None:
    x = da.from_array(V, chunks=3).persist()
    y = da.sin(x).persist()  # a constant from here on
    g = pdl.gradients((x**2 * y).sum(), [x, y])
    gx, gy = dask.compute(*g)
    np.testing.assert_allclose(gx, 2 * V * np.sin(V))
    np.testing.assert_allclose(gy, V**2)
    w = (delayed(V) * 2).persist()
    np.testing.assert_allclose(pdl.gradients(delayed(np.sum)(w**2), w).compute(), 4 * V)


def test_an_unconnected_input_has_a_gradient_of_zeros() -> None:
    s = (da.from_array(V, chunks=3) ** 2).sum()
    other = da.ones((3, 2), chunks=(2, 1), dtype="f4")
    pair = delayed({"a": np.ones(2, "f4"), "b": [1.0]})
    g, h = pdl.gradients(s, [other, pair])
    assert (g.shape, g.chunks, g.dtype) == (other.shape, other.chunks, other.dtype)
    assert same(g.compute(), np.zeros((3, 2), "f4"))
    assert same(h.compute(), {"a": np.zeros(2, "f4"), "b": [0.0]})
    assert pdl.tangents(s, other, np.ones((3, 2), "f4")).compute() == 0
    z = da.from_array(Z, chunks=2)
    assert same(pdl.gradients(s, z).compute(), np.zeros_like(Z))


def test_several_outputs_and_the_form_of_the_result() -> None:
    x, w = da.from_array(V, chunks=3), delayed(2.0)
    a, b = (x**2).sum(), delayed(np.sin)(w)
    value, gradient = pdl.value_and_gradients(a, x)
    assert isinstance(value, da.Array)
    assert isinstance(gradient, da.Array)
    values, gradients = pdl.value_and_gradients([a, b], (x, w))
    assert (type(values), type(gradients)) == (list, list)
    va, vb, gx, gw = each(*values, *gradients)
    np.testing.assert_allclose((va, vb, gw), (np.sum(V**2), np.sin(2.0), np.cos(2.0)))
    np.testing.assert_allclose(gx, 2 * V)
    assert pdl.gradients(a, []) == []
    (alone,) = pdl.tangents([a], [x], [N])
    np.testing.assert_allclose(alone.compute(), 2 * V @ N)


def test_unknown_chunk_sizes() -> None:
    x = da.from_array(V, chunks=3)
    u = x[x > 0]
    g = pdl.gradients((u**2).sum(), u)
    assert np.isnan(g.shape[0])
    np.testing.assert_allclose(g.compute(), 2 * V[V > 0])
    cotangent = pdl.gradients(u**2, x, u)
    np.testing.assert_allclose(cotangent.compute(), np.where(V > 0, 2 * V**2, 0))
    h = pdl.gradients(pdl.gradients((u**3).sum(), u), u, u)
    np.testing.assert_allclose(h.compute(), 6 * V[V > 0] ** 2)


# --- cotangents and tangents --------------------------------------------------------------------------------


def test_explicit_cotangents() -> None:
    x, w = da.from_array(X, chunks=(2, 3)), delayed(V)
    c = rng.normal(size=X.shape)
    for given_ in (c, c.tolist(), da.from_array(c, chunks=(5, 2)), da.from_array(c, chunks=(2, 3))):
        np.testing.assert_allclose(pdl.gradients(x**2, x, given_).compute(), 2 * X * c)
    np.testing.assert_allclose(pdl.gradients((x**2).sum(), x, 3.0).compute(), 6 * X)
    np.testing.assert_allclose(pdl.gradients([x**2, x.sum()], x, [c, None]).compute(), 2 * X * c + 1)
    # one that depends on the inputs is a constant all the same
    np.testing.assert_allclose(pdl.gradients(x**2, x, x**3).compute(), 2 * X**4)
    np.testing.assert_allclose(pdl.gradients(w**2, w, w * 3).compute(), 6 * V**2)
    np.testing.assert_allclose(pdl.gradients(w**2, w, da.ones(7, chunks=7)).compute(), 2 * V)
    pair = delayed(lambda w: {"a": w, "b": w[0] ** 2})(w)
    np.testing.assert_allclose(
        pdl.gradients(pair, w, {"a": V, "b": 1.0}).compute(), V + 2 * V[0] * np.eye(7)[0]
    )
    np.testing.assert_allclose(pdl.gradients(x * 1j, x, c + 0j).compute(), np.zeros(X.shape), atol=1e-15)


def test_a_float32_cotangent_of_a_float64_output_is_cast() -> None:
    x = da.from_array(V, chunks=3)
    g = pdl.gradients(x**2, x, np.ones(7, "f4")).compute()
    assert same(g, 2 * V)


def test_tangents_that_are_collections() -> None:
    x, w = da.from_array(V, chunks=3), delayed({"w": V})
    y = x * da.from_delayed(w["w"], shape=(7,), dtype=float)
    t = pdl.tangents([y, y.sum()], [x, w], [da.from_array(N, chunks=2), delayed({"w": np.ones(7)})])
    assert t[0].chunks == y.chunks
    ty, ts = dask.compute(*t)
    np.testing.assert_allclose(ty, V * N + V)
    np.testing.assert_allclose(ts, np.sum(V * N + V))
