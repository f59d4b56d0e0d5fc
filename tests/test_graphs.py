"""Derivatives of Dask collections: against the same NumPy program and against finite differences."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
from dask import delayed
from dask.core import get_dependencies
from hypothesis import given, settings
from hypothesis import strategies as st

import paradual as pdl
from paradual.errors import InternalError, ParadualError, ParadualTypeError, ParadualValueError

EACH_STEP = {"optimization.fuse.active": False}  # every task a job: nothing is fused away


@pytest.fixture(autouse=True)
def _synchronous() -> Any:
    with dask.config.set(scheduler="sync"):
        yield


rng = np.random.default_rng(11)
X = rng.normal(size=(6, 5))
V = rng.normal(size=7)
Z = X + 1j * rng.normal(size=X.shape)
W = rng.normal(size=(5, 4))
N = np.arange(7.0)


def difference(f: Callable[[Any], Any], x: Any, v: Any, eps: float = 1e-6) -> Any:
    """The central difference of a function along a direction."""
    return (np.asarray(f(x + eps * v)) - np.asarray(f(x - eps * v))) / (2 * eps)


def each(*collections: Any, **options: Any) -> list[Any]:
    """Compute one collection after the other: dask.compute changes the order of arrays and Delayed."""
    return [c.compute(**options) for c in collections]


def same(a: Any, b: Any) -> bool:
    """Bitwise equal, in structure too."""
    la, sa = pdl.trees.flatten(a)
    lb, sb = pdl.trees.flatten(b)
    return sa == sb and all(
        np.asarray(p).dtype == np.asarray(q).dtype
        and np.shape(p) == np.shape(q)
        and np.asarray(p).tobytes() == np.asarray(q).tobytes()
        for p, q in zip(la, lb, strict=True)
    )


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


class Box:
    """Not a pytree."""

    def __init__(self, v: Any) -> None:
        self.v = v


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


def test_an_output_of_integers_or_booleans_is_a_constant() -> None:
    x, w = da.from_array(V, chunks=3), delayed(V)
    assert same(pdl.gradients((x > 0).sum(), x).compute(), np.zeros(7))
    assert same(pdl.gradients((w > 0).all(), w).compute(), np.zeros(7))


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


A = da.from_array(V, chunks=3)
D = delayed(V)


@pytest.mark.parametrize(
    ("error", "says", "wrong"),
    [
        (ParadualValueError, "sum it, or give its cotangent", lambda: pdl.gradients(A**2, A)),
        (ParadualValueError, "sum it, or give its cotangent", lambda: pdl.gradients(D**2, D).compute()),
        (ParadualTypeError, "real part", lambda: pdl.gradients((A * 1j).sum(), A)),
        (ParadualTypeError, "real part", lambda: pdl.gradients((D * 1j).sum(), D).compute()),
        (ParadualTypeError, "astype", lambda: pdl.gradients(A.sum(), A.astype(int))),
        (ParadualTypeError, r"1\.0 instead of 1", lambda: pdl.gradients(A.sum(), delayed(3)).compute()),
        (ParadualTypeError, "is a str", lambda: pdl.gradients(A.sum(), delayed((1.0, "s"))).compute()),
        (ParadualValueError, r"shape \(3,\)", lambda: pdl.gradients(A**2, A, np.ones(3))),
        (ParadualValueError, r"shape \(\)", lambda: pdl.gradients(A**2, A, 1.0)),
        (ParadualValueError, r"shape \(3,\)", lambda: pdl.gradients(D**2, D, np.ones(3)).compute()),
        (ParadualValueError, "structure", lambda: pdl.gradients(D**2, D, (np.ones(7),)).compute()),
        (ParadualTypeError, "float64", lambda: pdl.gradients(A**2, A, np.ones(7) * 1j)),
        (ParadualTypeError, "astype", lambda: pdl.gradients(A.astype("f4") ** 2, A, np.ones(7))),
        (ParadualTypeError, "astype", lambda: pdl.gradients(D**2, D, np.ones(7) * 1j).compute()),
        (ParadualValueError, "1 cotangents were given for 2", lambda: pdl.gradients([A, A], A, [N])),
        (ParadualTypeError, "use paradual.grad", lambda: pdl.gradients(1.0, A)),
        (ParadualTypeError, "use paradual.grad", lambda: pdl.gradients(A.sum(), V)),
        (ParadualTypeError, "use paradual.grad", lambda: pdl.tangents({"a": A}, A, V)),
        (ParadualValueError, "'recompute'", lambda: pdl.gradients(A.sum(), A, tapes="never")),
        (ParadualValueError, "shape", lambda: pdl.tangents(A.sum(), A, np.ones(3))),
        (ParadualValueError, "structure", lambda: pdl.tangents(D.sum(), D, [V]).compute()),
        (ParadualValueError, "shape", lambda: pdl.tangents(D.sum(), D, np.ones(3)).compute()),
        (ParadualTypeError, "wrap the others", lambda: pdl.grad(lambda a, b: (a * b).sum(), (0, 1))(A, V)),
        (ParadualTypeError, "wrap these", lambda: pdl.grad(lambda a, b: (a * b).sum())(V, A)),
        (ParadualTypeError, "must be a Dask", lambda: pdl.grad(lambda a: 1.0)(A)),
        (ParadualTypeError, "use paradual.vjp", lambda: pdl.jacobian(lambda a: a**2)(A)),
        (ParadualValueError, "structure", lambda: pdl.vjp(lambda a: (a, a), A)[1](V)),
    ],
)
def test_what_is_wrong_and_the_cure(error: type[Exception], says: str, wrong: Any) -> None:
    with pytest.raises(error, match=says) as caught:
        wrong()
    assert isinstance(caught.value, TypeError | ValueError)


# --- derivatives of derivatives -----------------------------------------------------------------------------


def shared(m: Any, w: Any, x: Any) -> Any:
    return m.log1p(m.exp(-m.tanh(x @ w) * (w**2).sum())).sum()


@pytest.mark.parametrize("tapes", ["keep", "recompute"])
@pytest.mark.parametrize("kind", ["array", "delayed"])
def test_second_order_with_shared_parameters(kind: str, tapes: str) -> None:
    x = da.from_array(X, chunks=(2, 5))
    v = np.linspace(-1, 1, 5)
    if kind == "array":
        w: Any = da.from_array(V[:5], chunks=3)
        loss = shared(da, w, x)
    else:
        w = delayed(V[:5])
        blocks = x.to_delayed(optimize_graph=False).ravel()
        loss = delayed(sum)([delayed(functools.partial(shared, np))(w, b) for b in blocks])
    plain = functools.partial(shared, np)
    hessian = pdl.hessian(lambda w: plain(w, X))(V[:5])
    step = difference(lambda w: pdl.grad(plain)(w, X), V[:5], v)
    np.testing.assert_allclose(hessian @ v, step, 1e-6)  # not only against ourselves
    g = pdl.gradients(loss, w, tapes=tapes)
    over_reverse = pdl.gradients(g, w, v, tapes=tapes).compute()
    over_forward = pdl.gradients(pdl.tangents(loss, w, v), w, tapes=tapes).compute()
    forward = pdl.tangents(g, w, v).compute()
    for found in (over_reverse, over_forward, forward):
        np.testing.assert_allclose(found, hessian @ v, 1e-10)
    gx = pdl.gradients(pdl.gradients(loss, w, tapes=tapes), x, v, tapes=tapes).compute()
    mixed = pdl.vjp(lambda x: pdl.grad(plain)(V[:5], x), X)[1](v)[0]
    np.testing.assert_allclose(gx, mixed, 1e-9, 1e-12)


def test_third_order() -> None:
    x = da.from_array(V, chunks=3)
    u, v = np.linspace(1, 2, 7), np.linspace(-1, 1, 7)

    def f(m: Any, x: Any) -> Any:
        return (m.sin(x) * x.sum()).sum()

    plain = functools.partial(f, np)
    second = pdl.gradients(pdl.gradients(f(da, x), x), x, v)
    third = pdl.gradients(second, x, u).compute()
    expected = pdl.vjp(lambda x: pdl.hvp(plain, x, v), V)[1](u)[0]
    np.testing.assert_allclose(third, expected, 1e-10)
    np.testing.assert_allclose(third @ N, difference(lambda x: pdl.hvp(plain, x, v), V, N) @ u, 1e-5)
    w = delayed(1.2)
    g = functools.reduce(lambda loss, _: pdl.gradients(loss, w), range(3), delayed(np.sin)(w) * w)
    np.testing.assert_allclose(g.compute(), -3 * np.sin(1.2) - 1.2 * np.cos(1.2), 1e-12)


# --- the graph ----------------------------------------------------------------------------------------------


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
    assert calls == ["source", "step"]  # only in the reverse pass: nobody asked for the value
    calls.clear()
    dask.compute(*pdl.value_and_gradients(loss, w, tapes="recompute"))
    assert calls == ["source", "step", "step"]
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


# --- errors -------------------------------------------------------------------------------------------------


@pdl.custom_vjp
def fragile(x: Any) -> Any:
    return x * 2


def _raise(residuals: Any, g: Any) -> Any:
    raise KeyError("no way back")


fragile.defvjp(lambda x: (x * 2, None), _raise)


@pytest.mark.parametrize("tapes", ["keep", "recompute"])
def test_an_exception_arrives_with_the_key_of_its_task(tapes: str) -> None:
    def breaks(w: Any) -> Any:
        raise LookupError("the user's own message")

    w = delayed(V)
    with dask.config.set(EACH_STEP):
        bad = delayed(breaks)(w)
        with pytest.raises(LookupError, match="the user's own message") as caught:
            pdl.gradients(bad, w, tapes=tapes).compute()
        assert any(bad.key in note for note in caught.value.__notes__)
        bad = delayed(lambda w: np.sum(fragile(w)))(w)
        g = pdl.gradients(bad, w, tapes=tapes)
        with pytest.raises(KeyError, match="no way back") as caught_back:
            g.compute()
        assert any(bad.key in note and "reverse" in note for note in caught_back.value.__notes__)
        with pytest.raises(ParadualTypeError, match="derivative would be lost") as refused:
            pdl.gradients(delayed(lambda w: float(w.sum()))(w), w, tapes=tapes).compute()
        assert "lambda" in refused.value.__notes__[0]


@pytest.mark.parametrize(
    "program",
    [
        lambda x: da.nanmax(x),
        lambda x: da.median(x, axis=0).sum(),
        lambda x: da.apply_along_axis(lambda r: r * r[0], 0, x).sum(),
        lambda x: da.bincount(da.from_array(np.arange(7) % 3, chunks=3), weights=x, minlength=3).sum(),
    ],
)
def test_what_has_no_rule_is_refused_or_right(program: Any) -> None:
    x = da.from_array(V, chunks=7 if "median" in program.__code__.co_names else 3)
    loss = program(x)
    slope = difference(lambda u: program(da.from_array(u, chunks=x.chunks)).compute(), V, N)
    try:
        g = pdl.gradients(loss, x).compute()
    except ParadualTypeError as error:
        assert "in the forward pass of the Dask task" in error.__notes__[0]  # noqa: PT017
    else:
        np.testing.assert_allclose(g @ N, slope, 1e-5)


def test_a_leftover_cotangent_is_an_internal_error_and_never_dropped() -> None:
    w = delayed(V)
    with dask.config.set(EACH_STEP):
        made = delayed(lambda w: Box(w))(w)
        loss = delayed(lambda b: np.sum(b.v))(made) + delayed(lambda b: np.sum(b.v))(made)
        with pytest.raises(InternalError, match="does not depend"):
            pdl.gradients(loss, w).compute()


# --- random graphs ------------------------------------------------------------------------------------------
#
# A program is a list of (operation, operand, operand, number).  Values are vectors of 6 elements, lazily as
# arrays or as Delayed; each operation keeps them of moderate size.

SIZE = 6
OPERATIONS: list[Callable[[Any, Any, Any, float], Any]] = [
    lambda m, a, b, c: m.sin(a) + c * b,
    lambda m, a, b, c: m.tanh(a * b),
    lambda m, a, b, c: a / (1.5 + m.cos(b)),
    lambda m, a, b, c: m.where(m.sin(5 * b) > 2 * c, a, b * c),
    lambda m, a, b, c: m.cumsum(a, axis=0) / SIZE - b,
    lambda m, a, b, c: a[::-1] * c + b.mean(),
    lambda m, a, b, c: m.concatenate([b[2:], a[:2]]),
    lambda m, a, b, c: m.sqrt(1 + a**2) * (b**2).sum() / (1 + (b**2).sum()),
]
STEPS = st.lists(
    st.tuples(
        st.integers(0, len(OPERATIONS) - 1),
        st.integers(0, 20),
        st.integers(0, 20),
        st.sampled_from([-0.4, -0.1, 0.25, 0.45]),
        st.booleans(),
    ),
    min_size=1,
    max_size=7,
)


def lazily(steps: Any, x: Any, w: Any, chunks: int) -> Any:
    """The program on collections: x an array, w a Delayed; some steps are tasks, some array operations."""
    values = [x, da.from_delayed(w, shape=(SIZE,), dtype=float).rechunk(chunks)]
    for op, i, j, c, as_task in steps:
        a, b = values[i % len(values)], values[j % len(values)]
        if as_task:
            out = delayed(functools.partial(OPERATIONS[op], np))(a, b, c)
            values.append(da.from_delayed(out, shape=(SIZE,), dtype=float))
        else:
            values.append(OPERATIONS[op](da, a, b, c))
    return (values[-1] * values[len(values) // 2]).sum() + (values[-1] ** 2).mean()


def plainly(steps: Any, x: Any, w: Any) -> Any:
    values = [x, w]
    for op, i, j, c, _ in steps:
        values.append(OPERATIONS[op](np, values[i % len(values)], values[j % len(values)], c))
    return (values[-1] * values[len(values) // 2]).sum() + (values[-1] ** 2).mean()


@settings(derandomize=True, deadline=None, database=None, max_examples=60)
@given(steps=STEPS, seed=st.integers(0, 1000), chunks=st.integers(2, SIZE))
def test_random_graphs(steps: Any, seed: int, chunks: int) -> None:
    local = np.random.default_rng(seed)
    a, b, va, vb = local.normal(size=(4, SIZE))
    x, w = da.from_array(a, chunks=chunks), delayed(b)
    loss = lazily(steps, x, w, chunks)
    value, g = pdl.value_and_gradients(loss, [x, w])
    out, ga, gb = each(value, *g)
    np.testing.assert_allclose(out, plainly(steps, a, b), 1e-10, 1e-10)
    fine = difference(lambda t: plainly(steps, a + t * va, b + t * vb), 0.0, 1.0, 1e-6)
    coarse = difference(lambda t: plainly(steps, a + t * va, b + t * vb), 0.0, 1.0, 1e-5)
    if not np.isclose(fine, coarse, 1e-4, 1e-4):
        return  # within a step of a jump
    slope = ga @ va + gb @ vb
    np.testing.assert_allclose(slope, fine, 1e-4, 1e-4)
    np.testing.assert_allclose(pdl.tangents(loss, [x, w], [va, vb]).compute(), slope, 1e-9, 1e-9)
    ea, eb = pdl.grad(functools.partial(plainly, steps), argnums=(0, 1))(a, b)
    np.testing.assert_allclose(ga, ea, 1e-8, 1e-8)
    np.testing.assert_allclose(gb, eb, 1e-8, 1e-8)
    assert same([ga, gb], each(*g, scheduler="threads"))
    assert same([ga, gb], each(*pdl.gradients(loss, [x, w], tapes="recompute")))
    if seed % 4 == 0:
        hx, hw = each(*pdl.gradients(g, [x, w], [va, vb]))
        plain = functools.partial(plainly, steps)
        exact = pdl.jvp(pdl.grad(plain, argnums=(0, 1)), (a, b), (va, vb))[1]
        np.testing.assert_allclose(hx, exact[0], 1e-7, 1e-7)
        np.testing.assert_allclose(hw, exact[1], 1e-7, 1e-7)
        step = difference(
            lambda t: np.concatenate(pdl.grad(plain, argnums=(0, 1))(a + t * va, b + t * vb)), 0.0, 1.0, 1e-5
        )
        again = difference(
            lambda t: np.concatenate(pdl.grad(plain, argnums=(0, 1))(a + t * va, b + t * vb)), 0.0, 1.0, 1e-4
        )
        if np.allclose(step, again, 1e-2, 1e-2):
            np.testing.assert_allclose(np.concatenate([hx, hw]), step, 1e-3, 1e-3)
