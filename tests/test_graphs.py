"""Derivatives of Dask collections: against the same NumPy program and against finite differences."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
from dask import delayed
from graph_helpers import N, V, W, X, Z, difference, each, same
from graph_helpers import _synchronous as _synchronous

import paradual as pdl

# --- array programs -----------------------------------------------------------------------------------------
#
# Each case is a program of one array: written once for both libraries, or twice where they differ.

CASES: dict[str, tuple[Any, Any, Any, Any]] = {}


def both(name: str, f: Callable[[Any, Any], Any], x: Any = X, chunks: Any = (2, 3)) -> None:
    CASES[name] = (functools.partial(f, da), functools.partial(f, np), x, chunks)


def two(name: str, lazy: Any, plain: Any, x: Any = X, chunks: Any = (2, 3)) -> None:
    CASES[name] = (lazy, plain, x, chunks)


both("sin", lambda m, x: (m.sin(x) * x).sum())
both("elementwise", lambda m, x: (m.exp(-(x**2)) / (1 + m.abs(x))).sum())
both("log1p-exp", lambda m, x: m.log1p(m.exp(-x)).mean())
both("hypot", lambda m, x: m.hypot(x, 1.0).sum())
both("maximum", lambda m, x: (m.maximum(x, x[::-1]) ** 2).sum())
both("arctan2", lambda m, x: m.arctan2(x, 1.0 + x**2).sum())
for _r in ("sum", "mean", "std", "var", "max", "min", "prod"):
    both(f"{_r}", lambda m, x, r=_r: getattr(x, r)() ** 2)
    both(f"{_r} axis", lambda m, x, r=_r: (getattr(m, r)(x, axis=0) ** 2).sum())
    both(f"{_r} keepdims", lambda m, x, r=_r: (getattr(x, r)(axis=1, keepdims=True) * x).sum())
    two(
        f"{_r} split_every",
        lambda x, r=_r: getattr(x, r)(split_every=2) ** 2,
        lambda x, r=_r: getattr(x, r)() ** 2,
    )
both("var ddof", lambda m, x: m.var(x, axis=1, ddof=1).sum())
both("ptp", lambda m, x: m.ptp(x, axis=0).sum() ** 2)
both("average", lambda m, x: m.average(x, axis=0, weights=np.arange(6.0) + 1).sum() ** 2)
both("centred", lambda m, x: m.sum((x - m.mean(x, axis=0)) ** 3))
two("moment", lambda x: da.moment(x, 3), lambda x: ((x - x.mean()) ** 3).mean())
both("norm", lambda m, x: m.linalg.norm(x))
both("norm axis", lambda m, x: m.linalg.norm(x, axis=1).sum())
both("trace", lambda m, x: m.trace(x) ** 2)
two(
    "reduction",
    lambda x: (
        da.reduction(
            x,
            lambda b, axis, keepdims: np.sum(b**2, axis=axis, keepdims=keepdims),
            lambda b, axis, keepdims: np.sum(b, axis=axis, keepdims=keepdims),
            dtype=float,
        )
        ** 2
    ),
    lambda x: (x**2).sum() ** 2,
)
both("matmul", lambda m, x: ((x @ W) ** 2).sum())
both("gram", lambda m, x: ((x.T @ x) ** 2).sum())
both("tensordot", lambda m, x: (m.tensordot(x, x, axes=((0,), (0,))) ** 2).sum())
both("einsum", lambda m, x: (m.einsum("ij,kj->ik", x, x) ** 3).sum())
both("einsum constant", lambda m, x: (m.einsum("ij,jk->ik", x, W) ** 2).sum())
both("dot", lambda m, x: (m.dot(x, W) ** 2).sum())
both("dot vectors", lambda m, x: m.dot(x, x) ** 2, V, 3)
both("outer", lambda m, x: (m.outer(x, x) ** 2).sum(), V, 3)
both("slice", lambda m, x: (x[1:5:2, ::-1] ** 3).sum())
both("integer index", lambda m, x: (x[2] ** 3).sum() + x[0, 0] * x[5, 4])
both("fancy index", lambda m, x: (x[[0, 3, 3, 1]] ** 3).sum())
both("fancy column", lambda m, x: (x[:, [0, 3, 3, 1]] ** 3).sum())
both("boolean index", lambda m, x: (x[x > 0] ** 3).sum())
both("boolean index 1-d", lambda m, x: (x[x > 0.1] ** 3).sum(), V, 3)
both("boolean columns", lambda m, x: (x[:, np.array([True, False, True, True, False])] ** 3).sum())
both("take", lambda m, x: (m.take(x, [0, 2, 2], axis=0) ** 2).sum())
both("compress", lambda m, x: (m.compress([True, False, True, True, False, True], x, axis=0) ** 2).sum())
two("blocks", lambda x: (x.blocks[1] ** 2).sum(), lambda x: (x[2:4] ** 2).sum())
both("concatenate", lambda m, x: (m.concatenate([x, x**2], axis=1) ** 2).sum())
both("stack", lambda m, x: (m.stack([x, x**2]) * m.stack([x**2, x])).sum())
both("block", lambda m, x: (m.block([[x, x**2], [x, m.sin(x)]]) ** 2).sum())
both("vstack", lambda m, x: (m.vstack([x, x]) ** 2).sum())
both("hstack", lambda m, x: (m.hstack([x, x]) ** 2).sum())
both("transpose", lambda m, x: (m.transpose(x) ** 3 * W[:, :1]).sum())
both("swapaxes", lambda m, x: (m.swapaxes(x, 0, 1) ** 2).sum())
both("ravel", lambda m, x: (m.ravel(x)[2:9] ** 3).sum())
both("reshape", lambda m, x: (m.reshape(x, (2, 3, 5)) ** 3).sum())
both("squeeze", lambda m, x: (m.squeeze(x[:1]) ** 2).sum())
both("flip", lambda m, x: (m.flip(x, 0) * x**2).sum(), V, 3)
both("roll", lambda m, x: (m.roll(x, 2) * x).sum(), V, 3)
both("tile", lambda m, x: (m.tile(x, 2) ** 2 * np.arange(14.0)).sum(), V, 3)
both("repeat", lambda m, x: (m.repeat(x, 2) ** 2 * np.arange(14.0)).sum(), V, 3)
both("pad", lambda m, x: (m.pad(x, 2, mode="constant") ** 2).sum(), V, 3)
both("pad reflect", lambda m, x: (m.pad(x, 2, mode="reflect") ** 3).sum(), V, 3)
both("diff", lambda m, x: (m.diff(x) ** 3).sum(), V, 3)
both("diag", lambda m, x: (m.diag(x) ** 2).sum(), V, 3)
both("tril", lambda m, x: (m.tril(x) ** 2).sum())
two("rechunk", lambda x: (x.rechunk((3, 5)) ** 3).sum(), lambda x: (x**3).sum())
two(
    "coarsen",
    lambda x: (da.coarsen(np.sum, x, {0: 2}) ** 2).sum(),
    lambda x: sum((x[k] + x[k + 1]) ** 2 for k in (0, 2, 4)).sum(),
)
two("map_blocks", lambda x: x.map_blocks(lambda b: np.tanh(b) * b).sum(), lambda x: (np.tanh(x) * x).sum())
two(
    "map_blocks with an array to every block",
    lambda x: x.map_blocks(lambda b, w=None: b * w.sum(), w=x**2, dtype=float).sum(),
    lambda x: (x * (x**2).sum()).sum(),
    V,
    3,
)
two(
    "blockwise",
    lambda x: da.blockwise(lambda a, b: np.outer(a, b), "ij", x, "i", x**2, "j", dtype=float).sum() ** 2,
    lambda x: np.outer(x, x**2).sum() ** 2,
    V,
    3,
)
two(
    "map_overlap",
    lambda x: (da.map_overlap(lambda b: b - 0.5 * np.roll(b, 1), x, depth=1, boundary="periodic") ** 3).sum(),
    lambda x: ((x - 0.5 * np.roll(x, 1)) ** 3).sum(),
    V,
    3,
)
two(
    "map_overlap reflect",
    lambda x: (
        da.map_overlap(lambda b: np.concatenate([b[:1], b[1:] * b[:-1]]), x, depth=1, boundary="reflect") ** 3
    ).sum(),
    lambda x: (np.concatenate([x[:1] * x[:1], x[1:] * x[:-1]]) ** 3).sum(),
    V,
    3,
)
two(
    "apply_gufunc",
    lambda x: (
        da.apply_gufunc(
            lambda a: np.mean(a, axis=-1), "(i)->()", x.rechunk((2, 5)), output_dtypes=float
        ).sum()
        ** 2
    ),
    lambda x: x.mean(1).sum() ** 2,
)
both("where", lambda m, x: m.where(x > 0, x**2, m.sin(x)).sum())
both("where that masks nan", lambda m, x: m.where(x > 0, m.sqrt(m.where(x > 0, x, 1.0)), x).sum())
both("clip", lambda m, x: (m.clip(x, -0.5, 0.7) * x).sum())
both("select", lambda m, x: m.select([x < -0.5, x < 0.5], [x**2, m.sin(x)], 0.0).sum())
both("cumsum", lambda m, x: (m.cumsum(x, axis=0) ** 2).sum())
both("cumprod", lambda m, x: (m.cumprod(x, axis=0) ** 2).sum())
two(
    "cumsum blelloch",
    lambda x: (da.cumsum(x, axis=0, method="blelloch") ** 2).sum(),
    lambda x: (np.cumsum(x, axis=0) ** 2).sum(),
)
both("broadcasting", lambda m, x: (x[:, None] * x[None, :] * N).sum() + (x * np.ones((3, 1))).sum(), V, 3)
both("broadcast_to", lambda m, x: (m.broadcast_to(x, (3, 7)) ** 2).sum(), V, 3)
both("an array and its own sum", lambda m, x: (x * x.sum()).sum(), V, 3)
both("predicates", lambda m, x: (x * m.isfinite(x)).sum() + (x**2 * (m.round(x) + m.sign(x))).sum())
two("topk", lambda x: (da.topk(x, 3) ** 2).sum(), lambda x: (np.sort(x)[::-1][:3] ** 2).sum(), V, 3)
two(
    "unknown chunks", lambda x: (x[x > 0] * 2).compute_chunk_sizes().sum(), lambda x: 2 * x[x > 0].sum(), V, 3
)
both("0-d", lambda m, x: x * m.sin(x), np.array(3.0), ())
both("empty", lambda m, x: (x**2).sum(), np.zeros((0, 3)), (0, 3))
both("empty chunk", lambda m, x: (x[x > 0] ** 2).sum() + (x[:0] ** 2).sum(), -np.abs(V), 3)
both("float32", lambda m, x: (m.tanh(x) ** 2 * 3.0).sum(), X.astype("f4"))
both("float32 mixed", lambda m, x: (x * V[:5]).mean(), X.astype("f4"))
both("real to complex", lambda m, x: (m.abs(m.exp(1j * x) + x) ** 2 + m.real(x * 1j + x)).sum())
both("complex abs", lambda m, x: (m.abs(x) ** 2).sum(), Z)
both("complex", lambda m, x: m.real(m.exp(x) * x).sum() + m.imag(x**3).sum(), Z)
both("complex matmul", lambda m, x: m.real((x @ W) * m.conj(x @ W)).sum(), Z)
two(
    "from_delayed",
    lambda x: da.from_delayed(delayed(np.sum)(x**2), shape=(), dtype=float),
    lambda x: (x**2).sum(),
)
two(
    "to_delayed",
    lambda x: da.from_delayed(
        delayed(lambda bs: sum(np.sum(b) for b in bs))(list((x**3).to_delayed())), shape=(), dtype=float
    ),
    lambda x: (x**3).sum(),
    V,
    3,
)


@pytest.mark.parametrize("name", CASES)
def test_array_program(name: str) -> None:
    lazy, plain, x, chunks = CASES[name]
    local = np.random.default_rng(1)
    single = x.dtype == np.float32
    v = local.normal(size=x.shape) + (1j * local.normal(size=x.shape) if x.dtype.kind == "c" else 0.0)
    v = np.asarray(v, x.dtype)
    rtol, atol = (2e-2, 2e-3) if single else (1e-5, 1e-6)
    collection = da.from_array(x.copy(), chunks=chunks)
    loss = lazy(collection)
    gradient = pdl.gradients(loss, collection)
    assert gradient.chunks == collection.chunks
    assert gradient.dtype == x.dtype
    g = np.asarray(gradient.compute())
    assert (g.shape, g.dtype) == (x.shape, x.dtype)

    def f(u: Any) -> Any:
        return np.asarray(lazy(da.from_array(u, chunks=chunks)).compute(), float)

    slope = difference(f, x, v, np.float32(1e-2) if single else 1e-6)
    np.testing.assert_allclose(np.sum(np.real(g * v)), slope, rtol, atol)
    np.testing.assert_allclose(g, pdl.grad(plain)(x), 1e-4 if single else 1e-10, 1e-4 if single else 1e-12)
    assert same(np.asarray(pdl.gradients(loss, collection, tapes="recompute").compute()), g)
    np.testing.assert_allclose(pdl.tangents(loss, collection, v).compute(), slope, rtol, atol)
    if x.dtype.kind != "c":
        expected = pdl.jvp(pdl.grad(plain), (x,), (v,))[1]
        tolerances = (1e-2, 1e-2) if single else (1e-8, 1e-9)
        product = pdl.tangents(gradient, collection, v)
        np.testing.assert_allclose(product.compute(), expected, *tolerances)
        np.testing.assert_allclose(pdl.gradients(gradient, collection, v).compute(), expected, *tolerances)


def test_where_masks_a_nan_inside_one_chunk() -> None:
    x = da.from_array(np.array([-1.0, 4.0, 0.0, 9.0]), chunks=2)
    rooted = x.map_blocks(lambda b: np.where(b > 0, np.sqrt(np.abs(b)) / np.where(b > 0, 1.0, 0.0), b))
    with np.errstate(all="ignore"):
        g = pdl.gradients(rooted.sum(), x).compute()
    np.testing.assert_allclose(g, [1.0, 0.25, 1.0, 1 / 6])


@pytest.mark.parametrize("scheduler", ["threads", "processes"])
def test_other_schedulers_give_the_same_bits(scheduler: str) -> None:
    x, w = da.from_array(X, chunks=(2, 5)), delayed(np.linspace(-1, 1, 5))
    parts = [delayed(logistic)(b, w) for b in x.to_delayed(optimize_graph=False).ravel()]
    loss = delayed(sum)(parts) + (x**2).sum()
    value, (gx, gw) = pdl.value_and_gradients(loss, [x, w])
    product = pdl.tangents(gw, w, np.ones(5))
    here = each(value, gx, gw, product)
    assert same(here, each(value, gx, gw, product, scheduler=scheduler))
    np.testing.assert_allclose(here[1], 2 * X + pdl.grad(logistic)(X, np.linspace(-1, 1, 5)))


def logistic(x: Any, w: Any) -> Any:
    return np.sum(np.log1p(np.exp(-np.sum(x * w, axis=1))))


def test_a_plain_function_with_collections() -> None:
    x, w = da.from_array(X, chunks=(2, 5)), da.from_array(V[:5], chunks=5)

    def lazy(w: Any, x: Any) -> Any:
        return da.log1p(da.exp(-(x @ w))).mean() + (w**2).sum()

    def plain(w: Any, x: Any = X) -> Any:
        return np.log1p(np.exp(-(x @ w))).mean() + (w**2).sum()

    v = np.linspace(1, 2, 5)
    expected = pdl.grad(plain)(V[:5])
    np.testing.assert_allclose(pdl.grad(lazy)(w, x).compute(), expected, 1e-12)
    value, gs = pdl.value_and_grad(lazy, argnums=(1, 0))(w, x)
    np.testing.assert_allclose(value.compute(), plain(V[:5]), 1e-12)
    np.testing.assert_allclose(gs[0].compute(), pdl.grad(plain, argnums=1)(V[:5], X), 1e-10)
    np.testing.assert_allclose(gs[1].compute(), expected, 1e-12)
    out, pullback = pdl.vjp(lambda w: {"y": x @ w, "w": w}, w)
    (g,) = pullback({"y": np.ones(6), "w": v})
    np.testing.assert_allclose(out["y"].compute(), X @ V[:5])
    np.testing.assert_allclose(g.compute(), X.sum(0) + v)
    value, tangent = pdl.jvp(lambda w: lazy(w, x), (w,), (v,))
    np.testing.assert_allclose(dask.compute(value, tangent), (plain(V[:5]), expected @ v))
    hessian = pdl.hessian(plain)(V[:5])
    np.testing.assert_allclose(pdl.hvp(lambda w: lazy(w, x), (w,), (v,))[0].compute(), hessian @ v, 1e-10)
    np.testing.assert_allclose(pdl.hvp(lambda w: lazy(w, x), w, v).compute(), hessian @ v, 1e-10)
    (value, aux), g = pdl.value_and_grad(lambda w: (lazy(w, x), w * 2), has_aux=True)(w)
    np.testing.assert_allclose(aux.compute(), 2 * V[:5])
    np.testing.assert_allclose(g.compute(), expected, 1e-12)
