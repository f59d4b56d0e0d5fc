"""The six benchmarks of Smeding and Vakar (JFP 35, e16, 2025), on scalars as in the paper.

A program takes all its scalars as arguments and puts them into lists itself, so that each system has
numbers of its own kind; two of the programs are there for whole arrays, too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np

import paradual as pdl

from .measure import HAND, OURS, Line, check
from .scalars import rotation, rotation_by_hand
from .systems import gradient_times, repeat


def odd(n: int) -> list[float]:
    """3, 5, 7, ..."""
    return [3.0 + 2.0 * k for k in range(n)]


def naturals(n: int) -> list[float]:
    """1, 2, 3, ..."""
    return [1.0 + k for k in range(n)]


def dot(a: Sequence[Any], b: Sequence[Any]) -> Any:
    """A fold from the right, as in the paper."""
    total: Any = 0.0
    for x, y in zip(reversed(a), reversed(b), strict=True):
        total = x * y + total
    return total


# --- one product, and a rotation ----------------------------------------------------------------------


def multiply_by_hand(x: float, y: float) -> tuple[float, ...]:
    """Value and gradient of x * y; the value so that all do the same work."""
    _ = x * y
    return y, x


def fmult(systems: list[Any], quick: bool) -> list[Line]:
    """One product of two scalars: what a gradient costs before it does anything."""
    args = (3.0, 4.0)
    seconds, compile_s = gradient_times(
        "fmult",
        systems,
        lambda xp, own: lambda x, y: x * y,
        args,
        lambda: multiply_by_hand(*args),
        2 if quick else 15,
    )
    return [Line("fmult", "us", {name: 1e6 * t for name, t in seconds.items()}, [], compile_s)]


def frotvecquat(systems: list[Any], quick: bool) -> list[Line]:
    """A vector rotated once by a quaternion, with a true cross product, which the paper's is not."""
    args = (1.0, 2.0, 3.0, 7.0, 4.0, 5.0, 6.0)
    seconds, compile_s = gradient_times(
        "frotvecquat", systems, rotation(1), args, lambda: rotation_by_hand(*args, 1), 2 if quick else 15
    )
    values = {name: 1e6 * t for name, t in seconds.items()}
    return [Line("frotvecquat", "us, sum of the 3 components", values, [], compile_s)]


# --- dot products -------------------------------------------------------------------------------------


def fdotprod(systems: list[Any], quick: bool) -> list[Line]:
    """The dot product of two lists, the time for each element."""
    n = 10 if quick else 200
    a, b = naturals(n), odd(n)

    def by_hand() -> tuple[float, ...]:
        dot(a, b)
        return (*b, *a)

    seconds, compile_s = gradient_times(
        "fdotprod",
        systems,
        lambda xp, own: lambda *leaves: dot(leaves[:n], leaves[n:]),
        (*a, *b),
        by_hand,
        2 if quick else 9,
    )
    values = {name: 1e6 * t / n for name, t in seconds.items()}
    return [Line("fdotprod", f"us per element, lists of {n}", values, [], compile_s)]


def sum_of_products(v: Sequence[Any], rows: Sequence[Sequence[Any]]) -> Any:
    """The sum of the product of a matrix and a vector."""
    total: Any = 0.0
    for row in rows:
        total = total + dot(v, row)
    return total


def fsummatvec(systems: list[Any], quick: bool) -> list[Line]:
    """The sum of a matrix times a vector, on lists and on arrays."""
    n = 3 if quick else 14
    v, entries = odd(n), naturals(n * n)

    def in_rows(entries: Sequence[Any]) -> list[Sequence[Any]]:
        return [entries[k : k + n] for k in range(0, n * n, n)]

    def by_hand() -> tuple[float, ...]:
        rows = in_rows(entries)
        sum_of_products(v, rows)
        return (*map(sum, zip(*rows, strict=True)), *(v * n))

    seconds, compile_s = gradient_times(
        "fsummatvec",
        systems,
        lambda xp, own: lambda *leaves: sum_of_products(leaves[:n], in_rows(leaves[n:])),
        (*v, *entries),
        by_hand,
        2 if quick else 9,
    )
    values = {name: 1e6 * t / (n * n) for name, t in seconds.items()}
    lines = [Line("fsummatvec", f"us per entry, lists, {n} x {n}", values, [], compile_s)]

    m = 20 if quick else 1000
    vector, matrix = np.array(odd(m)), np.reshape(naturals(m * m), (m, m))

    def by_hand_arrays() -> tuple[Any, ...]:
        _ = (matrix @ vector).sum()
        return matrix.sum(axis=0), np.tile(vector, (m, 1))

    seconds, compile_s = gradient_times(
        "fsummatvec",
        systems,
        lambda xp, own: lambda v, m: (m @ v).sum(),
        (vector, matrix),
        by_hand_arrays,
        2 if quick else 9,
    )
    values = {name: 1e9 * t / (m * m) for name, t in seconds.items()}
    return [*lines, Line("fsummatvec", f"ns per entry, arrays, {m} x {m}", values, [], compile_s)]


# --- a neural network ---------------------------------------------------------------------------------

# Measured once, on 10,200 scalars or fewer.
NOT_ON_SCALARS = {
    "autograd": "time grows with the square of the arguments (440: 0.2 s, 1,680: 2.6 s, 10,200: 6 minutes)",
    "jax": "cannot trace the `if`; with `maximum` in its place, jit took 16 s for 440 arguments",
}


def sines(sizes: Sequence[int]) -> list[Any]:
    """The paper's weights and offsets of each layer, and the input."""
    arrays = []
    for n, m in pairwise(sizes):
        arrays += [np.sin(np.add.outer(np.arange(m), np.arange(n))), np.sin(0.41 * np.arange(m))]
    return [*arrays, np.sin(0.41 * np.arange(sizes[0]))]


def in_layers(leaves: Sequence[Any], sizes: Sequence[int]) -> tuple[list[tuple[Any, Any]], Sequence[Any]]:
    """Lists of rows and offsets, and the input, from all their numbers."""
    layers, at = [], 0
    for n, m in pairwise(sizes):
        rows = [leaves[k : k + n] for k in range(at, at + m * n, n)]
        layers.append((rows, leaves[at + m * n : at + m * n + m]))
        at += m * n + m
    return layers, leaves[at:]


def network_of_scalars(sizes: Sequence[int]) -> Any:
    """Layers of relu(W x + b), then softmax, then the sum of k * p_k.

    The paper has the sum of p_k, which is 1 and whose gradient is 0.
    """

    def make(xp: Any, own: Any) -> Any:
        def loss(*leaves: Any) -> Any:
            layers, x = in_layers(leaves, sizes)
            for rows, offsets in layers:
                z = [dot(row, x) + b for row, b in zip(rows, offsets, strict=True)]
                x = [s if s > 0.0 else 0.0 * s for s in z]
            top: Any = 0.0
            for s in x:
                top = s if s > top else top
            e = [xp.exp(s - top) for s in x]
            return dot(e, naturals(len(e))) / dot(e, [1.0] * len(e))

        return loss

    return make


def network_of_scalars_by_hand(leaves: Sequence[float], sizes: Sequence[int]) -> tuple[float, ...]:
    """Its gradient: backpropagation in lists."""
    layers, x = in_layers(leaves, sizes)
    kept = []
    for rows, offsets in layers:
        kept.append(x)
        x = [max(dot(row, x) + b, 0.0) for row, b in zip(rows, offsets, strict=True)]
    top = max(x)
    e = [math.exp(s - top) for s in x]
    total = dot(e, [1.0] * len(e))
    mean = dot(e, naturals(len(e))) / total
    g = [(k - mean) * p / total for k, p in zip(naturals(len(e)), e, strict=True)]
    out, gradient = x, []
    for (rows, _), x in zip(reversed(layers), reversed(kept), strict=True):
        g = [a if s > 0.0 else 0.0 for a, s in zip(g, out, strict=True)]
        gradient.append([a * s for a in g for s in x] + g)
        g = [dot(g, column) for column in zip(*rows, strict=True)]
        out = x
    return tuple(slope for part in [*reversed(gradient), g] for slope in part)


def network_of_arrays(xp: Any, own: Any) -> Any:
    """The same network on whole arrays."""

    def relu(z: Any) -> Any:
        return z * (z > 0.0)

    def loss(w1: Any, b1: Any, w2: Any, b2: Any, x: Any) -> Any:
        x = relu(w2 @ relu(w1 @ x + b1) + b2)
        e = xp.exp(x - relu(xp.max(x)))
        return (e @ own(np.array(naturals(len(e))))) / e.sum()

    return loss


def network_of_arrays_by_hand(w1: Any, b1: Any, w2: Any, b2: Any, x: Any) -> tuple[Any, ...]:
    """Its gradient: backpropagation."""
    h = np.maximum(w1 @ x + b1, 0.0)
    z = np.maximum(w2 @ h + b2, 0.0)
    p = np.exp(z - z.max())
    p /= p.sum()
    k = np.arange(1.0, len(p) + 1.0)
    g2 = (k - p @ k) * p * (z > 0.0)
    g1 = (g2 @ w2) * (h > 0.0)
    return np.outer(g1, x), g1, np.outer(g2, h), g2, g1 @ w1


def fneural(systems: list[Any], quick: bool) -> list[Line]:
    """A network of two layers with 10,200 inputs, as scalars and as arrays."""
    sizes = (4, 6, 3) if quick else (50, 100, 50)
    arrays = sines(sizes)
    leaves = np.concatenate([np.ravel(a) for a in arrays]).tolist()

    def measured(quantity: str, per_second: float, missing: dict[str, str], *program: Any) -> Line:
        able = [system for system in systems if system.name not in missing]
        seconds, compile_s = gradient_times("fneural", able, *program, 2 if quick else 9)
        values = {name: per_second * t for name, t in seconds.items()}
        quantity = f"{quantity}, {' -> '.join(map(str, sizes))}"
        return Line("fneural", quantity, values, [], compile_s, missing)

    def by_hand() -> tuple[float, ...]:
        return network_of_scalars_by_hand(leaves, sizes)

    def by_hand_arrays() -> tuple[Any, ...]:
        return network_of_arrays_by_hand(*arrays)

    truth = np.concatenate([np.ravel(g) for g in by_hand_arrays()])
    check("fneural", HAND, [by_hand()], [truth])
    return [
        measured("ms, scalars", 1e3, NOT_ON_SCALARS, network_of_scalars(sizes), tuple(leaves), by_hand),
        measured("us, arrays", 1e6, {}, network_of_arrays, tuple(arrays), by_hand_arrays),
    ]


# --- particles ----------------------------------------------------------------------------------------

DT, MASS = 0.05, 1.0


def particles(steps: int) -> Any:
    """The sum of x * y of all particles after some steps; paradual forks for each particle."""

    def make(xp: Any, own: Any) -> Any:
        def step(particle: Any) -> Any:
            x, y, vx, vy = particle
            ax, ay = 1.0 / MASS * (-0.5 * x - 0.2 * vx), 1.0 / MASS * (-0.5 * y - 0.2 * vy)
            return x + DT * vx, y + DT * vy, vx + DT * ax, vy + DT * ay

        def one(particle: Any) -> Any:
            x, y, _, _ = repeat(xp, steps, step, particle)
            return x * y

        def each(starts: Any) -> Any:
            # the paper's map over a list: nested forks of two branches
            if not starts:
                return ()
            if xp is not np:
                return tuple(map(one, starts))
            first, others = pdl.par(lambda: one(starts[0]), lambda: each(starts[1:]))
            return (first, *others)

        return lambda *leaves: sum(each([leaves[k : k + 4] for k in range(0, len(leaves), 4)]))

    return make


def particle_by_hand(x: float, y: float, vx: float, vy: float, steps: int) -> tuple[float, ...]:
    """The gradient for one particle; the motion is linear, so nothing is kept."""
    for _ in range(steps):
        ax, ay = 1.0 / MASS * (-0.5 * x - 0.2 * vx), 1.0 / MASS * (-0.5 * y - 0.2 * vy)
        x, y, vx, vy = x + DT * vx, y + DT * vy, vx + DT * ax, vy + DT * ay
    gx, gy, gvx, gvy = y, x, 0.0, 0.0
    for _ in range(steps):
        bx, by = 1.0 / MASS * DT * gvx, 1.0 / MASS * DT * gvy
        gx, gy, gvx, gvy = gx - 0.5 * bx, gy - 0.5 * by, gvx + DT * gx - 0.2 * bx, gvy + DT * gy - 0.2 * by
    return gx, gy, gvx, gvy


def particles_closed_form(starts: Sequence[tuple[float, ...]], steps: int) -> list[float]:
    """The gradient from the power of the matrix of a step."""
    a = np.array([[1.0, DT], [-0.5 * DT / MASS, 1.0 - 0.2 * DT / MASS]])
    alpha, beta = np.linalg.matrix_power(a, steps)[0]
    gradient = []
    for x, y, vx, vy in starts:
        x, y = alpha * x + beta * vx, alpha * y + beta * vy
        gradient += [alpha * y, alpha * x, beta * y, beta * x]
    return gradient


def on_threads(call: Callable[[], Any]) -> Callable[[], Any]:
    """The call with its forks on the pool of threads."""

    def run() -> Any:
        with pdl.executor("threads"):
            return call()

    return run


def fparticles(systems: list[Any], quick: bool) -> list[Line]:
    """Four particles in Python floats; the forks on the calling thread, and on threads."""
    steps = 20 if quick else 1000
    starts = [(0.5 * i, 0.1, 1.0, 1.0) for i in (1, 2, 3, 4)]
    args = tuple(number for start in starts for number in start)
    make, ours = particles(steps), systems[0]

    def by_hand() -> tuple[float, ...]:
        return tuple(g for start in starts for g in particle_by_hand(*start, steps))

    with ThreadPoolExecutor(2) as pool, pdl.executor("inline"):

        def by_hand_on_threads() -> tuple[float, ...]:
            parts = pool.map(lambda start: particle_by_hand(*start, steps), starts)
            return tuple(g for part in parts for g in part)

        others = {
            f"{OURS} threads": on_threads(ours.gradient(make, args)),
            f"{HAND} threads": by_hand_on_threads,
        }
        expected = particles_closed_form(starts, steps)
        for name, call in {HAND: by_hand, **others}.items():
            check("fparticles", name, call(), expected)
        others[f"{OURS} primal"] = ours.primal(make, args)
        seconds, compile_s = gradient_times(
            "fparticles", systems, make, args, by_hand, 2 if quick else 5, others
        )
    ms = {name: 1e3 * t for name, t in seconds.items()}
    size = f"ms, 4 x {steps:,} steps"
    sequential = {s.name: "its program has no forks; see the line above" for s in systems if s is not ours}
    inline = {name: t for name, t in ms.items() if name not in others}
    ratios = {name: ms[name] / ms[f"{OURS} primal"] for name in (OURS, HAND)}  # of the plain program
    threads = {name: ms[f"{name} threads"] for name in (OURS, HAND)}
    return [
        Line("fparticles", f"{size}, forks inline", inline, [], compile_s),
        Line("fparticles", f"{size}, forks on threads", threads, [], None, sequential),
        Line("fparticles", "gradient / primal, inline", ratios),
    ]
