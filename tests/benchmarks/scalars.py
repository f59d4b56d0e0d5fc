"""Rows where the cost is Python's: many small operations."""

from __future__ import annotations

from typing import Any

import numpy as np

from .measure import HAND, OURS, Bar, Line, check, interleaved, peak_memory
from .systems import gradient_times, repeat

# --- overhead of an operation on arrays -------------------------------------------------------------


def chain(steps: int) -> Any:
    """The program ``x = sin(x) * x + x``, again and again, then the sum."""

    def make(xp: Any, own: Any) -> Any:
        def loss(x: Any) -> Any:
            for _ in range(steps):
                x = xp.sin(x) * x + x
            return x.sum()

        return loss

    return make


def chain_by_hand(x: Any, steps: int) -> tuple[Any, ...]:
    """Its gradient; needs of each step ``x`` and ``sin(x)``."""
    kept = []
    for _ in range(steps):
        s = np.sin(x)
        kept.append((x, s))
        x = s * x + x
    g = np.ones_like(x)
    while kept:
        x, s = kept.pop()
        d = np.cos(x)
        d *= x
        d += s
        d += 1
        g *= d
    return (g,)


def overhead(systems: list[Any], quick: bool) -> list[Line]:
    """Microseconds for each of 600 NumPy operations on five elements."""
    steps = 20 if quick else 200
    # between -1 and 0 the map contracts towards 0, so that derivatives stay finite
    x = np.linspace(-0.9, -0.1, 5)
    times, compile_s = gradient_times(
        "overhead", systems, chain(steps), (x,), lambda: chain_by_hand(x, steps), 2 if quick else 25
    )
    per_operation = {name: 1e6 * t / (3 * steps) for name, t in times.items()}
    return [Line("overhead", "us per operation", per_operation, [Bar(0.35, "autograd")], compile_s)]


# --- programs of Python floats ------------------------------------------------------------------------


def rotation(times: int) -> Any:
    """A vector v rotated many times by the quaternion (s, u), all numbers Python's."""

    def make(xp: Any, own: Any) -> Any:
        def loss(vx: Any, vy: Any, vz: Any, s: Any, ux: Any, uy: Any, uz: Any) -> Any:
            def rotate(v: Any) -> Any:
                vx, vy, vz = v
                a = 2.0 * (ux * vx + uy * vy + uz * vz)
                b = s * s - (ux * ux + uy * uy + uz * uz)
                c = 2.0 * s
                wx = uy * vz - uz * vy
                wy = uz * vx - ux * vz
                wz = ux * vy - uy * vx
                return a * ux + b * vx + c * wx, a * uy + b * vy + c * wy, a * uz + b * vz + c * wz

            vx, vy, vz = repeat(xp, times, rotate, (vx, vy, vz))
            return vx + vy + vz

        return loss

    return make


def _counting(name: str) -> Any:
    plain = getattr(float, name)

    def operation(self: Any, other: Any) -> Any:
        Counted.operations += 1
        return Counted(plain(self, other))

    return operation


class Counted(float):
    """A float that counts the operations it takes part in."""

    operations = 0
    __add__, __radd__ = _counting("__add__"), _counting("__radd__")
    __sub__, __rsub__ = _counting("__sub__"), _counting("__rsub__")
    __mul__, __rmul__ = _counting("__mul__"), _counting("__rmul__")


def operations_of(make: Any, args: tuple[float, ...]) -> int:
    """How many scalar operations a program has: counted, not estimated."""
    Counted.operations = 0
    make(np, None)(*(Counted(a) for a in args))
    return Counted.operations


def rotation_by_hand(
    vx: float, vy: float, vz: float, s: float, ux: float, uy: float, uz: float, times: int
) -> tuple[float, ...]:
    """The gradient of the sum of the rotated vector, in Python floats."""
    kept = []
    b = s * s - (ux * ux + uy * uy + uz * uz)
    c = 2.0 * s
    for _ in range(times):
        a = 2.0 * (ux * vx + uy * vy + uz * vz)
        wx, wy, wz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        kept.append((vx, vy, vz, a, wx, wy, wz))
        vx, vy, vz = a * ux + b * vx + c * wx, a * uy + b * vy + c * wy, a * uz + b * vz + c * wz
    gx = gy = gz = 1.0
    db = dc = dx = dy = dz = 0.0
    for vx, vy, vz, a, wx, wy, wz in reversed(kept):
        da = 2.0 * (gx * ux + gy * uy + gz * uz)
        db += gx * vx + gy * vy + gz * vz
        dc += gx * wx + gy * wy + gz * wz
        # the derivative of g.(u x v): v x g for u, and g x u for v
        dx += a * gx + da * vx + c * (vy * gz - vz * gy)
        dy += a * gy + da * vy + c * (vz * gx - vx * gz)
        dz += a * gz + da * vz + c * (vx * gy - vy * gx)
        gx, gy, gz = (
            b * gx + da * ux + c * (gy * uz - gz * uy),
            b * gy + da * uy + c * (gz * ux - gx * uz),
            b * gz + da * uz + c * (gx * uy - gy * ux),
        )
    ds = 2.0 * s * db + 2.0 * dc
    return gx, gy, gz, ds, dx - 2.0 * ux * db, dy - 2.0 * uy * db, dz - 2.0 * uz * db


def rotations(systems: list[Any], quick: bool) -> list[Line]:
    """Microseconds for each scalar operation of a chain of quaternion rotations."""
    times = 3 if quick else 100
    q = np.array([0.9, 0.2, -0.3, 0.1])
    q *= 1.0005 / np.linalg.norm(q)  # near 1: the vector is scaled by the square of the norm each time
    args = (1.0, -0.5, 0.25, *q.tolist())
    n = operations_of(rotation(times), args)
    seconds, compile_s = gradient_times(
        "scalars", systems, rotation(times), args, lambda: rotation_by_hand(*args, times), 2 if quick else 15
    )
    values = {name: 1e6 * t / n for name, t in seconds.items()}
    return [
        Line(
            "scalars", f"us per operation (of {n:,})", values, [Bar(1.5), Bar(1 / 12, "autograd")], compile_s
        )
    ]


# --- a loop over elements -----------------------------------------------------------------------------


def squares(xp: Any, own: Any) -> Any:
    """The program ``s = s + x[i] * x[i]``."""
    if xp.__name__ == "jax.numpy":
        from jax.lax import fori_loop

        return lambda x: fori_loop(0, len(x), lambda i, s: s + x[i] * x[i], 0.0)

    def loss(x: Any) -> Any:
        s = 0.0
        for i in range(len(x)):
            s = s + x[i] * x[i]
        return s

    return loss


def squares_by_hand(x: Any) -> tuple[Any, ...]:
    """Its gradient, element by element."""
    s = 0.0
    for i in range(len(x)):
        s = s + x[i] * x[i]
    g = np.zeros_like(x)
    for i in reversed(range(len(x))):
        g[i] += 2.0 * x[i]
    return (g,)


def filled(xp: Any, own: Any) -> Any:
    """The program ``y[i] = 0.5 * y[i - 1] + x[i] * x[i]``, which fills an array."""
    if xp.__name__ == "jax.numpy":
        from jax.lax import fori_loop

        def step(x: Any, i: Any, y: Any) -> Any:
            return y.at[i].set(0.5 * y[i - 1] + x[i] * x[i])

        return lambda x: fori_loop(1, len(x), lambda i, y: step(x, i, y), xp.zeros_like(x)).sum()

    def loss(x: Any) -> Any:
        y = xp.zeros_like(x)
        for i in range(1, len(x)):
            y[i] = 0.5 * y[i - 1] + x[i] * x[i]
        return y.sum()

    return loss


def filled_by_hand(x: Any) -> tuple[Any, ...]:
    """Its gradient, element by element."""
    y, g = np.zeros_like(x), np.zeros_like(x)
    for i in range(1, len(x)):
        y[i] = 0.5 * y[i - 1] + x[i] * x[i]
    bar = 0.0
    for i in reversed(range(1, len(x))):
        bar = 1.0 + 0.5 * bar
        g[i] = bar * 2.0 * x[i]
    return (g,)


def index_loop(systems: list[Any], quick: bool) -> list[Line]:
    """A loop that reads an array element by element."""
    return growth("index loop", squares, squares_by_hand, systems, quick)


def fill_loop(systems: list[Any], quick: bool) -> list[Line]:
    """A loop that fills an array element by element; autograd has no item assignment."""
    able = [system for system in systems if system.name != "autograd"]
    return growth("fill loop", filled, filled_by_hand, able, quick)


def growth(row: str, make: Any, by_hand: Any, systems: list[Any], quick: bool) -> list[Line]:
    """How time and memory of a loop over elements grow, when it gets four times longer."""
    n = 100 if quick else 4000
    short, long = (np.linspace(0.0, 1.0, m) for m in (n, 4 * n))
    calls: dict[str, Any] = {}
    compile_s = None
    for size, x in (("short", short), ("long", long)):
        expected = by_hand(x)
        for system in systems:
            call = calls[f"{system.name} {size}"] = system.gradient(make, (x,))
            compile_s = getattr(system, "compile_s", compile_s)
            check(row, system.name, call(), expected)
        calls[f"{HAND} {size}"] = lambda x=x: by_hand(x)
    times = interleaved(calls, 1 if quick else 5, at_most=20.0)
    names = [system.name for system in systems] + [HAND]
    ratios = {name: times[f"{name} long"] / times[f"{name} short"] for name in names}
    long_ms = {name: 1e3 * times[f"{name} long"] for name in names}
    # what Torch and JAX allocate is not Python's, so tracemalloc does not see it
    peaks = {
        name: peak_memory(calls[f"{name} long"]) / peak_memory(calls[f"{name} short"])
        for name in names
        if name in (OURS, "autograd", HAND)
    }
    sizes = f"n={4 * n:,} / n={n:,}"
    return [
        Line(row, f"ms, n={4 * n:,}", long_ms, [], compile_s),
        Line(row, f"time {sizes}", ratios, [Bar(5.5)]),
        Line(row, f"peak memory {sizes}", peaks),
    ]
