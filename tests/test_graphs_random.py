"""Derivatives of random graphs of Dask arrays and Delayed."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import dask.array as da
import numpy as np
from dask import delayed
from graph_helpers import _synchronous as _synchronous
from graph_helpers import difference, each, same
from hypothesis import given, settings
from hypothesis import strategies as st

import paradual as pdl

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
