"""The problems of `benchmark`: ours and by hand with CuPy, and the same for torch and jax.

Each has its gradient written out by hand, for any precision: that is what is timed against, and in double
precision what the gradients are checked with.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import paradual as pdl

Arrays = dict[str, Any]


@dataclass(frozen=True)
class Problem:
    """Something to differentiate.

    Attributes
    ----------
    name, what : str
        The row's name, and its size in words.
    inputs : callable
        ``inputs(xp, dtype)``: the arrays by name; the first ``active`` of them are differentiated.
    loss : callable
        ``loss(np, *arrays)``: the program, for NumPy's functions or another library's of the same names.
    by_hand : callable
        ``by_hand(np, *arrays)``: the value and the gradients.
    moved, work : float
        Bytes that the gradient must move at least, and floating-point operations that it must do.
    tolerance : float
        How near gradients in single precision must be to those in double precision.
    """

    name: str
    what: str
    inputs: Callable[[Any, Any], Arrays]
    active: int
    loss: Callable[..., Any]
    by_hand: Callable[..., Any]
    moved: float = 0.0
    work: float = 0.0
    tolerance: float = 1e-3
    operations: int = 0  # of a loop whose time is told per operation


def ramp(xp: Any, dtype: Any, *shape: int, low: float = -1.0, high: float = 1.0) -> Any:
    """Numbers without a pattern between two bounds, made on the device."""
    n = int(np.prod(shape))
    x = xp.sin(xp.arange(n, dtype=np.float64) * 12.9898) * 0.5 + 0.5
    return ((high - low) * x + low).astype(dtype).reshape(shape)


# --- an elementwise chain ---------------------------------------------------------------------------------


def chain_loss(xp: Any, x: Any) -> Any:
    y = xp.sin(x) * x
    return xp.sum(xp.tanh(y) * y + 0.5 * x)


def chain_by_hand(xp: Any, x: Any) -> Any:
    s = xp.sin(x)
    y = s * x
    t = xp.tanh(y)
    value = xp.sum(t * y + 0.5 * x)
    dy = (1 - t * t) * y + t
    return value, [dy * (xp.cos(x) * x + s) + 0.5]


def chain(n: int) -> Problem:
    return Problem(
        *("elementwise chain", f"{n:,} float32", lambda xp, dtype: {"x": ramp(xp, dtype, n)}),
        *(1, chain_loss, chain_by_hand),
        moved=2 * 4.0 * n,  # fused into one kernel: x in, the gradient out
    )


# --- a step of a network ----------------------------------------------------------------------------------


def network_loss(xp: Any, w: Any, v: Any, x: Any) -> Any:
    out = xp.tanh(x @ w) @ v
    return xp.mean(out - 0.5) ** 2 + xp.mean(out**2)


def network_by_hand(xp: Any, w: Any, v: Any, x: Any) -> Any:
    h = xp.tanh(x @ w)
    out = h @ v
    mean = xp.mean(out - 0.5)
    g = (2 * mean + 2 * out) / out.size
    dv = h.T @ g
    dh = (g @ v.T) * (1 - h * h)
    return mean**2 + xp.mean(out**2), [x.T @ dh, dv]


def network(batch: int, width: int) -> Problem:
    def inputs(xp: Any, dtype: Any) -> Arrays:
        scale = 1 / np.sqrt(width)
        return {
            "w": ramp(xp, dtype, width, width) * dtype(scale),
            "v": ramp(xp, dtype, width, width) * dtype(scale),
            "x": ramp(xp, dtype, batch, width),
        }

    return Problem(
        *("MLP step", f"{batch:,} x {width:,} float32", inputs, 2, network_loss, network_by_hand),
        work=2.0 * batch * width * width * 5,  # two products forward, three in reverse
        tolerance=5e-3,
    )


# --- the wave equation ------------------------------------------------------------------------------------


def wave_loss(xp: Any, speed: Any, u: Any, steps: int) -> Any:
    before = u
    for _ in range(steps):
        inside = (
            (u[2:, 1:-1] + u[:-2, 1:-1] + u[1:-1, 2:] + u[1:-1, :-2] - 4.0 * u[1:-1, 1:-1]) * speed
            + 2.0 * u[1:-1, 1:-1]
            - before[1:-1, 1:-1]
        )
        before, u = u, xp.pad(inside, 1)
    return xp.sum(u * u)


def laplacian(u: Any) -> Any:
    return u[2:, 1:-1] + u[:-2, 1:-1] + u[1:-1, 2:] + u[1:-1, :-2] - 4.0 * u[1:-1, 1:-1]


def wave_by_hand(xp: Any, speed: Any, u: Any, steps: int) -> Any:
    before, kept = u, []
    for _ in range(steps):
        lap = laplacian(u)
        kept.append(lap)
        inside = lap * speed + 2.0 * u[1:-1, 1:-1] - before[1:-1, 1:-1]
        before, u = u, xp.pad(inside, 1)
    gradient = xp.zeros_like(speed)
    g, g_before = 2.0 * u, xp.zeros_like(u)
    for lap in reversed(kept):
        inner = g[1:-1, 1:-1]
        gradient += inner * lap
        spread = inner * speed
        new = g_before  # what the state of the step before is for the one after
        new[2:, 1:-1] += spread
        new[:-2, 1:-1] += spread
        new[1:-1, 2:] += spread
        new[1:-1, :-2] += spread
        new[1:-1, 1:-1] += 2.0 * inner - 4.0 * spread
        g_before = xp.zeros_like(u)
        g_before[1:-1, 1:-1] -= inner
        g = new
    return xp.sum(u * u), [gradient]


def wave(n: int, steps: int) -> Problem:
    def inputs(xp: Any, dtype: Any) -> Arrays:
        return {
            "speed": ramp(xp, dtype, n - 2, n - 2, low=0.05, high=0.2),
            "u": ramp(xp, dtype, n, n),
            "steps": steps,
        }

    return Problem(
        *("2-D wave equation", f"{n:,} x {n:,}, {steps} steps, float32", inputs, 1, wave_loss, wave_by_hand),
        moved=4.0 * n * n * steps * (5 + 8),  # u, before, speed in, u and the Laplacian out; then in reverse
        tolerance=5e-3,
    )


# --- a linear system --------------------------------------------------------------------------------------


def solve_loss(xp: Any, a: Any, b: Any) -> Any:
    return xp.sum(xp.linalg.solve(a, b) ** 2)


def solve_by_hand(xp: Any, a: Any, b: Any) -> Any:
    x = xp.linalg.solve(a, b)
    y = xp.linalg.solve(a.T, 2 * x)
    return xp.sum(x**2), [-xp.matmul(y, x.T), y]


def solve(n: int, columns: int) -> Problem:
    def inputs(xp: Any, dtype: Any) -> Arrays:
        diagonal = xp.arange(n * n, dtype=np.float64).reshape(n, n) % (n + 1) == 0
        return {
            "a": ramp(xp, dtype, n, n) + dtype(n) * diagonal.astype(dtype),
            "b": ramp(xp, dtype, n, columns),
        }

    return Problem(
        *("matrix solve", f"{n:,} x {n:,}, {columns} right sides, float32"),
        *(inputs, 2, solve_loss, solve_by_hand),
        work=2 * (2 / 3 * n**3) + 3 * 2.0 * n * n * columns,
    )


# --- small arrays -----------------------------------------------------------------------------------------


def small_loss(xp: Any, x: Any, rounds: int) -> Any:
    y = x
    for _ in range(rounds):
        y = xp.sin(y) * 1.5
    return xp.sum(y)


def small_by_hand(xp: Any, x: Any, rounds: int) -> Any:
    kept, y = [], x
    for _ in range(rounds):
        kept.append(y)
        y = xp.sin(y) * 1.5
    g = xp.ones_like(x)
    for y_before in reversed(kept):
        g = g * 1.5 * xp.cos(y_before)
    return xp.sum(y), [g]


def small(n: int, rounds: int) -> Problem:
    return Problem(
        *("small arrays, per operation", f"{n} float32, {2 * rounds} operations"),
        lambda xp, dtype: {"x": ramp(xp, dtype, n), "rounds": rounds},
        *(1, small_loss, small_by_hand),
        operations=2 * rounds,
    )


def problems(dry: bool) -> list[Problem]:
    """The problems at their sizes, or at tiny ones."""
    if dry:
        return [chain(1000), network(8, 6), wave(9, 4), solve(6, 2), small(5, 4)]
    return [chain(100_000_000), network(8192, 4096), wave(4096, 100), solve(4096, 64), small(5, 500)]


# --- the systems ------------------------------------------------------------------------------------------


def ours(problem: Problem, arrays: Arrays) -> Callable[[], Any]:
    """The gradient by paradual."""
    values = list(arrays.values())
    gradient = pdl.value_and_grad(lambda *a: problem.loss(np, *a), argnums=tuple(range(problem.active)))
    return lambda: gradient(*values)


def primal(problem: Problem, arrays: Arrays) -> Callable[[], Any]:
    """The value by itself."""
    values = list(arrays.values())
    return lambda: problem.loss(np, *values)


def by_hand(problem: Problem, arrays: Arrays) -> Callable[[], Any]:
    """The gradient by hand."""
    values = list(arrays.values())
    return lambda: problem.by_hand(np, *values)


def with_torch(problem: Problem, arrays: Arrays, to_host: Callable[[Any], Any]) -> Callable[[], Any]:
    """The gradient by torch, eagerly."""
    import torch

    class Names:
        """NumPy's names for what the problems use of torch."""

        sin, tanh, sum, mean, linalg = torch.sin, torch.tanh, torch.sum, torch.mean, torch.linalg

        @staticmethod
        def pad(x: Any, width: int) -> Any:
            return torch.nn.functional.pad(x, (width,) * 4)

    values = [torch.tensor(to_host(a), device="cuda") if hasattr(a, "dtype") else a for a in arrays.values()]
    active = values[: problem.active]
    for value in active:
        value.requires_grad_(True)

    def gradient() -> Any:
        loss = problem.loss(Names, *values)
        return loss, torch.autograd.grad(loss, active)

    return gradient


def with_jax(problem: Problem, arrays: Arrays, to_host: Callable[[Any], Any]) -> Callable[[], Any]:
    """The gradient by jax, compiled; the first call compiles."""
    import jax
    import jax.numpy as jnp

    values = [jnp.asarray(to_host(a)) if hasattr(a, "dtype") else a for a in arrays.values()]
    numbers = [k for k, value in enumerate(values) if isinstance(value, int)]
    gradient = jax.jit(
        jax.value_and_grad(lambda *a: problem.loss(jnp, *a), argnums=tuple(range(problem.active))),
        static_argnums=tuple(numbers),
    )
    return lambda: jax.block_until_ready(gradient(*values))


def elapsed(run: Callable[[], Any]) -> float:
    """Seconds by the clock on the wall, for a system that waits by itself."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
