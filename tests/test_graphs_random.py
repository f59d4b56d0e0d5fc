"""Derivatives of random graphs of Dask arrays and Delayed: first and second order, on two schedulers."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import dask
import dask.array as da
import numpy as np
from dask import delayed
from effort import tries
from graph_helpers import _synchronous as _synchronous
from graph_helpers import difference, same
from hypothesis import given, settings
from hypothesis import strategies as st

import paradual as pdl

# A program is a list of (operation, operand, operand, number, way).  Values are vectors of 6 elements, lazily
# as arrays; a way is how Dask gets to do the operation, which must not matter.

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
        st.sampled_from(["array", "rechunk", "task", "container", "nout", "blocks"]),
    ),
    min_size=1,
    max_size=5,
)
PROGRAM = {"steps": STEPS, "seed": st.integers(0, 10**6), "chunks": st.integers(3, SIZE)}


def packed(f: Any, a: Any, b: Any, c: float) -> Any:
    """A task with a result of many parts, one of which is used."""
    return {"out": (None, [f(np, a, b, c)]), "name": "text", "unused": a * b}


def paired(f: Any, a: Any, b: Any, c: float) -> Any:
    return f(np, a, b, c), a - b


def joined(f: Any, blocks: Any, c: float) -> Any:
    """A task that takes an array block by block."""
    return f(np, np.concatenate(blocks["a"]), np.concatenate(blocks["b"]), c)


def vector(task: Any, chunks: int) -> Any:
    return da.from_delayed(task, shape=(SIZE,), dtype=float).rechunk(chunks)


def lazily(steps: Any, chunks: int, x: Any, w: Any, d: Any) -> Any:
    """The program on collections: an array, a Delayed vector and a Delayed dict; a number and a vector."""
    values = [x, vector(w, chunks), vector(d["u"], SIZE) * vector(d["more"][0], 3)]
    for op, i, j, c, way in steps:
        f = OPERATIONS[op]
        a, b = values[i % len(values)], values[j % len(values)]
        if way == "array":
            values.append(f(da, a, b, c))
        elif way == "rechunk":
            values.append(f(da, a.rechunk(2), b.rechunk(3), c).rechunk(chunks))
        elif way == "task":
            values.append(vector(delayed(functools.partial(f, np))(a, b, c), chunks))
        elif way == "container":
            values.append(vector(delayed(functools.partial(packed, f))(a, b=b, c=c)["out"][1][0], SIZE))
        elif way == "nout":
            first, second = delayed(functools.partial(paired, f), nout=2)(a, b, c)
            values.append(vector(first, chunks) + c * vector(second, chunks))
        else:
            blocks = {"a": list(a.to_delayed(optimize_graph=False)), "b": list(b.to_delayed())}
            values.append(vector(delayed(functools.partial(joined, f))(blocks, c), chunks))
    return (values[-1] * values[len(values) // 2]).sum() + (values[-1] ** 2).mean(), values[-1] * x


def plainly(steps: Any, x: Any, w: Any, d: Any) -> Any:
    values = [x, w, d["u"] * d["more"][0]]
    for op, i, j, c, way in steps:
        a, b = values[i % len(values)], values[j % len(values)]
        values.append(OPERATIONS[op](np, a, b, c) + (c * (a - b) if way == "nout" else 0.0))
    return (values[-1] * values[len(values) // 2]).sum() + (values[-1] ** 2).mean(), values[-1] * x


class Example:
    """A program with its arguments, a direction and what it is on plain arrays."""

    def __init__(self, steps: Any, seed: int, chunks: int) -> None:
        data = np.random.default_rng(seed).normal(size=(9, SIZE))
        self.point = (data[0], data[1], {"u": data[2], "more": (data[3],)})
        self.direction = (data[4], data[5], {"u": data[6], "more": (data[7],)})
        self.cotangents = [1.0, data[8]]
        self.inputs = [da.from_array(data[0], chunks=chunks), delayed(data[1]), delayed(self.point[2])]
        self.run = functools.partial(lazily, steps, chunks)
        self.outputs = list(self.run(*self.inputs))
        self.plain = functools.partial(plainly, steps)
        self.gradient = pdl.grad(self.total, argnums=(0, 1, 2))

    def total(self, *point: Any) -> Any:
        """The pullback of the cotangents is the gradient of this."""
        number, values = self.plain(*point)
        return number + np.sum(values * self.cotangents[1])

    def along(self, f: Any) -> Any:
        """The derivative by differences along the direction; None within a step of a jump."""

        def moved(t: float) -> Any:
            a, b, c = self.point
            u, v, w = self.direction
            c = {"u": c["u"] + t * w["u"], "more": (c["more"][0] + t * w["more"][0],)}
            return flat(f(a + t * u, b + t * v, c))

        fine, coarse = (difference(moved, 0.0, 1.0, eps) for eps in (1e-6, 1e-5))
        return fine if np.allclose(fine, coarse, 1e-4, 1e-4) else None


def flat(values: Any) -> Any:
    return np.concatenate([np.ravel(leaf) for leaf in pdl.trees.flatten(values)[0]])


def computed(gradients: list[Any], **options: Any) -> tuple[Any, ...]:
    """All in one go: dask.compute changes the order of arrays and Delayed, so the array becomes one."""
    array = delayed(np.concatenate)(list(gradients[0].to_delayed(optimize_graph=False)))
    found: tuple[Any, ...] = dask.compute(array, *gradients[1:], **options)
    return found


@settings(max_examples=tries(300, 90))
@given(**PROGRAM)
def test_first_order(steps: Any, seed: int, chunks: int) -> None:
    example = Example(steps, seed, chunks)
    values, g = pdl.value_and_gradients(example.outputs, example.inputs, example.cotangents)
    np.testing.assert_allclose(flat(dask.compute(*values)), flat(example.plain(*example.point)), 1e-10, 1e-10)
    found = computed(g)
    np.testing.assert_allclose(flat(found), flat(example.gradient(*example.point)), 1e-8, 1e-8)
    slope = example.along(example.total)
    if slope is not None:
        np.testing.assert_allclose(flat(found) @ flat(example.direction), slope[0], 1e-4, 1e-4)
    assert same(found, computed(g, scheduler="threads"))
    lean = pdl.gradients(example.outputs, example.inputs, example.cotangents, tapes="recompute")
    assert same(found, computed(lean))
    tangents = dask.compute(*pdl.tangents(example.outputs, example.inputs, example.direction))
    pushed = tangents[0] + tangents[1] @ example.cotangents[1]
    np.testing.assert_allclose(pushed, flat(found) @ flat(example.direction), 1e-8, 1e-8)


@settings(max_examples=tries(100, 30))
@given(**PROGRAM)
def test_second_order(steps: Any, seed: int, chunks: int) -> None:
    example = Example(steps, seed, chunks)
    exact = flat(pdl.jvp(example.gradient, example.point, example.direction)[1])
    g = pdl.gradients(example.outputs, example.inputs, example.cotangents)
    twice = pdl.gradients(g, example.inputs, example.direction)
    found = computed(twice)
    np.testing.assert_allclose(flat(found), exact, 1e-7, 1e-7)
    assert same(found, computed(twice, scheduler="threads"))
    np.testing.assert_allclose(
        flat(computed(pdl.tangents(g, example.inputs, example.direction))), exact, 1e-7, 1e-7
    )

    def total(*point: Any) -> Any:
        number, values = example.run(*point)
        return number + (values * example.cotangents[1]).sum()

    product = pdl.hvp(total, example.inputs, example.direction)
    np.testing.assert_allclose(flat(computed(product, scheduler="threads")), exact, 1e-7, 1e-7)
    step = example.along(example.gradient)
    if step is not None:
        np.testing.assert_allclose(exact, step, 1e-3, 1e-3)
