"""Random programs that fork and join, as plain data, and the functions that they stand for.

A program is a list of steps, each of which adds to the values in reach.  A step computes something, or it
forks blocks (lists of steps, with a way to reach the values and a way to hand back results) and adds what
they return.  `Plain` runs the same program without tasks.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import optree
from hypothesis import strategies as st

import paradual as pdl
from paradual.trees import flatten

CONSTANT = np.array([0.3, -0.9, 1.4])
SINGLE = np.float32

# --- what a step computes: values of any shape, of moderate size and slope --------------------------------


def like(a: Any, b: Any) -> Any:
    """b, in a shape that broadcasts to a's."""
    return b if np.shape(b) == np.shape(a) else np.mean(b)


def matrix(a: Any) -> Any:
    a = np.ravel(a)
    return np.reshape(a, (2, -1) if a.size % 2 == 0 else (1, -1))


def local(a: Any, b: Any) -> Any:
    """Written in place, into an array that nobody else sees."""
    a = np.atleast_1d(a + 0.1 * np.mean(b))
    found = np.zeros_like(a)
    found[...] = 0.5 * a
    found[0] += np.mean(b)
    found[..., -1] *= a[..., -1]
    part = found[::-1]
    part[0] = part[0] * 0.7 + np.tanh(a[0])
    return found


OPERATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "mul": lambda a, b: np.tanh(a) * like(a, b),
    "add": lambda a, b: a * 0.5 + like(a, b) * 0.3,
    "sub": lambda a, b: np.cos(a) - like(a, b),
    "div": lambda a, b: a / (2.0 + like(a, b) ** 2),
    "square": lambda a, b: a * a * 0.4,
    "constant": lambda a, b: CONSTANT * np.mean(a) - 0.2,
    "matmul": lambda a, b: matrix(a).T @ np.tanh(matrix(a)) / 3.0,
    "matvec": lambda a, b: matrix(a) @ np.sin(matrix(a)[0]) / 2.0,
    "gram": lambda a, b: matrix(a) @ np.transpose(matrix(a)) / 3.0,
    "sum": lambda a, b: np.sum(np.atleast_1d(a), axis=0) / 2.0,
    "total": lambda a, b: np.sum(np.sin(a)) * np.mean(b) / 3.0,
    "where": lambda a, b: np.where(a > 0.1, np.sin(like(a, b)), a * 0.5),
    "maximum": lambda a, b: np.maximum(a, like(a, b) * 0.9 + 0.01),
    "index": lambda a, b: np.ravel(a)[-1] * np.ravel(b)[0],
    "gather": lambda a, b: np.ravel(a)[[0, -1, 0]] + np.tanh(np.ravel(b)[0]),
    "slice": lambda a, b: np.ravel(a)[1:] if np.size(a) > 1 else a,
    "strided": lambda a, b: np.atleast_1d(a)[..., ::2],
    "reversed": lambda a, b: np.atleast_1d(a)[::-1],
    "transpose": lambda a, b: np.transpose(matrix(a)),
    "broadcast": lambda a, b: np.broadcast_to(np.ravel(a)[:2], (2, min(2, np.size(a)))),
    "local": local,
    "stopped": lambda a, b: a * like(a, pdl.stop_gradient(b)),
    "single": lambda a, b: a.astype(SINGLE) if np.ndim(a) else np.tanh(a),
}


def operate(name: str, a: Any, b: Any) -> Any:
    found = OPERATIONS[name](a, b)
    return np.ravel(found)[:8] if np.size(found) > 12 else found


# --- how a task reaches values, and how its results leave -------------------------------------------------


@dataclass
class Pair:
    first: Any
    second: Any


class Holder:
    """Values and a block, or another holder of them, behind a bound method."""

    def __init__(self, inner: Any, values: Any) -> None:
        self.inner, self.values = inner, values

    def call(self) -> Any:
        return self.inner(self.values) if not isinstance(self.inner, Holder) else self.inner.call()

    def __call__(self) -> Any:
        return self.call()


def thunk(block: Any, values: list[Any], go: Any) -> Callable[[], Any]:
    """A function of no arguments that runs a block."""
    capture = block[0]
    if capture == "partial":
        return partial(partial(run_block, block), values, go=go)
    if capture == "method":
        return Holder(lambda values: run_block(block, values, go), values).call
    if capture == "object":
        return Holder(Holder(partial(run_block, block, go=go), values), None)
    if capture == "levels":
        table = {"all": (values, [values[-1]])}

        def outer(shared: Any = table["all"][1]) -> Any:
            def middle() -> Any:
                return (lambda: run_block(block, [*table["all"][0], *shared], go))()

            return middle()

        return outer
    return lambda: run_block(block, values, go)


def leave(how: str, values: list[Any]) -> Any:
    last, first = values[-1], values[0]
    if how == "tuple":
        return last, [first]
    if how == "dict":
        return {"b": last, "a": {"deep": values[-2]}, "text": "not a value"}
    if how == "dataclass":
        return Pair(last, (Pair(first, None),))
    if how == "untouched":
        return values[len(values) // 2]
    if how == "view":
        return np.atleast_1d(first)[::-1], np.transpose(last)
    if how == "twice":
        return last, last
    return last


def arrays(tree: Any) -> list[Any]:
    return [leaf for leaf in flatten(tree)[0] if not isinstance(leaf, str)]


# --- forks, and the same without tasks --------------------------------------------------------------------


class Done:
    """What `submit` returns without tasks."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def result(self) -> Any:
        return self.value


class Tasks:
    par = staticmethod(pdl.par)
    map = staticmethod(pdl.map)
    submit = staticmethod(pdl.submit)


class Plain:
    @staticmethod
    def par(*thunks: Any) -> tuple[Any, ...]:
        return tuple(thunk() for thunk in thunks)

    @staticmethod
    def map(fn: Any, *iterables: Any) -> list[Any]:
        return [Plain.submit(fn, *args).value for args in zip(*iterables, strict=False)]

    @staticmethod
    def submit(fn: Any, *args: Any, **kwargs: Any) -> Done:
        known = optree.tree_map(lambda leaf: leaf.value if isinstance(leaf, Done) else leaf, (args, kwargs))
        return Done(fn(*known[0], **known[1]))


def run_block(block: Any, values: Any, go: Any) -> Any:
    _, how, steps = block
    return leave(how, run_steps(steps, values, go))


def run_steps(steps: Any, values: Any, go: Any) -> list[Any]:
    values = list(values)
    for step in steps:
        values.extend(arrays(perform(step, values, go)))
    return values


def combine(tree: Any, values: list[Any], block: Any, go: Any) -> Any:
    """What a task with results of other tasks among its arguments does."""
    return run_block(block, [*values, *arrays(tree)], go)


def use(task: Any, values: list[Any], block: Any, go: Any) -> Any:
    """Joins a task that it has captured."""
    before = run_block(block, values, go)
    return before, arrays(task.result())[0] * 0.5


def scaled(k: float, a: Any, b: Any) -> Any:
    return np.tanh(a * k) + like(a, b[0])


def perform(step: Any, values: list[Any], go: Any) -> Any:
    """The new values that a step makes."""
    kind = step[0]
    if kind == "op":
        _, name, i, j = step
        return operate(name, values[i % len(values)], values[j % len(values)])
    if kind == "par":
        return go.par(*[thunk(block, values, go) for block in step[1]])
    if kind == "map":
        _, block, n = step
        parts = go.map(
            lambda k, row, value: run_block(block, [*values, row * k, value], go),
            (0.5 + k for k in range(n)),
            np.atleast_1d(values[0]),
            itertools.cycle([values[-1], values[-2]]),
        )
        return parts[-1], parts[0]
    if kind == "submit":
        _, blocks, order = step
        tasks = [go.submit(thunk(block, values, go)) for block in blocks]
        tasks.append(go.submit(run_block, blocks[0], values=values, go=go))
        if order == "never":
            return ()
        if order == "some":
            return tasks[-1].result()
        if order == "reversed":
            return [task.result() for task in reversed(tasks)]
        if order == "between":
            first = tasks[-1].result()
            values = [*values, *arrays(first)]
            later = go.par(thunk(blocks[0], values, go))
            return later, tasks[0].result(), tasks[-1].result()
        return [task.result() for task in tasks + tasks]
    if kind == "chain":
        _, one, two, order = step
        a = go.submit(thunk(one, values, go))
        b = go.submit(combine, {"a": [a], "b": (values[-1], a)}, values, two, go=go)
        c = go.submit(combine, [b, {"again": a}], values=values[1:], block=one, go=go)
        d = go.map(lambda k, r: [k * leaf for leaf in arrays(r)], [0.5, 1.5, 2.0], [a, c, b])
        if order:
            return d[0], c.result(), a.result()
        return d[1]
    if kind == "joined inside":
        _, one, two = step
        early = go.submit(thunk(one, values, go))
        late = go.submit(partial(use, early, values, two, go))
        a, b = go.par(lambda: use(early, values, one, go), lambda: use(late, values, two, go))
        return a, b, early.result()
    if kind == "derivative":
        return go.par(lambda: derivative(step, values, go))
    if kind == "wide":
        _, n, i, name = step
        value, pair = values[i % len(values)], (values[-1], 0)
        parts = go.map(lambda k: scaled(k, operate(name, value, value), pair), np.linspace(-1, 1, n).tolist())
        return sum(part * (1.0 + k % 3) for k, part in enumerate(parts)) * (3.0 / n)
    _, depth, i = step
    return nested(depth, values[i % len(values)], values[0], go)


def derivative(step: Any, values: list[Any], go: Any) -> Any:
    """A derivative inside a task, of a block with tasks."""
    _, block, how = step
    y = values[-1]

    def inner(y: Any) -> Any:
        return sum(np.sum(np.sin(leaf)) for leaf in arrays(run_block(block, [*values, y * 0.9], go)))

    if how == "checkpoint":
        return pdl.checkpoint(lambda y: run_block(block, [y, np.tanh(y)], go))(y)
    if how == "grad":
        return np.tanh(pdl.grad(lambda y: inner(y) + 0.1 * np.sum(y))(y))
    if how == "vjp":
        out, pullback = pdl.vjp(inner, y)
        return np.tanh(pullback(np.ones_like(pdl.stop_gradient(out)))[0])
    return np.tanh(pdl.jvp(inner, (y,), (pdl.stop_gradient(y),))[1])


def nested(depth: int, a: Any, b: Any, go: Any) -> Any:
    if depth == 0:
        return np.sin(a) * np.mean(b)
    c = a * 0.9 + 0.1
    if depth % 3 == 0:
        left, right = go.par(lambda: nested(depth - 1, c, b, go), lambda: np.mean(b) * c)
        return left + right * 0.5
    if depth % 3 == 1:
        return go.map(lambda k, b: nested(depth - 1, c * k, b, go), [0.7], [b])[0] * np.cos(a)
    return go.submit(nested, depth - 1, a=c, b=a, go=go).result() + c


# --- programs -----------------------------------------------------------------------------------------------

index = st.integers(0, 11)
names = st.sampled_from(list(OPERATIONS))
captures = st.sampled_from(["closure", "partial", "method", "object", "levels"])
returns = st.sampled_from(["bare", "tuple", "dict", "dataclass", "untouched", "view", "twice"])
orders = st.sampled_from(["in order", "reversed", "between", "some", "never"])
simple = st.tuples(st.just("op"), names, index, index)
wide = st.tuples(st.just("wide"), st.sampled_from([3, 8, 9, 17]), index, names)
deep = st.tuples(st.just("deep"), st.integers(1, 6), index)


def forks(part: Any) -> Any:
    block = st.tuples(captures, returns, st.lists(part, min_size=1, max_size=2))
    blocks = st.lists(block, min_size=1, max_size=3)
    inner = st.sampled_from(["grad", "vjp", "jvp", "checkpoint"])
    return st.one_of(
        st.tuples(st.just("par"), blocks),
        st.tuples(st.just("map"), block, st.integers(1, 3)),
        st.tuples(st.just("submit"), blocks, orders),
        st.tuples(st.just("chain"), block, block, st.booleans()),
        st.tuples(st.just("joined inside"), block, block),
        st.tuples(st.just("derivative"), block, inner),
    )


steps = st.recursive(st.one_of(simple, simple, simple, wide, deep), forks, max_leaves=5)
programs = st.lists(steps, min_size=1, max_size=3)


def loss_of(program: Any, go: Any = Tasks) -> Callable[..., Any]:
    """The program as a function of an array, a Python float and a vector."""

    def loss(x: Any, s: Any, z: Any) -> Any:
        values = run_steps(program, [x, s, z, np.sin(x) * s, s * 0.5, z * 0.8], go)
        return sum(np.sum(np.sin(v + 0.2)) for v in values[-5:]) + 0.1 * np.sum(x)

    return loss
