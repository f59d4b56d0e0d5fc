"""Derivatives of derivatives of Dask collections."""

from __future__ import annotations

import functools
from typing import Any

import dask.array as da
import numpy as np
import pytest
from dask import delayed
from graph_helpers import N, V, X, difference
from graph_helpers import _synchronous as _synchronous

import paradual as pdl


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
