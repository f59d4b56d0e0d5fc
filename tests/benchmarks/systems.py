"""paradual and its peers behind one face: the gradient of a function of plain arrays.

A program is a function ``make(xp, own)`` that returns the function to differentiate: ``xp`` has
the array functions of the system, and ``own(array)`` makes a constant one of the system's arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from time import perf_counter
from typing import Any

import numpy as np

import paradual as pdl

from .measure import HAND, OURS, check, interleaved

Make = Callable[[Any, Callable[[Any], Any]], Callable[..., Any]]
PEERS = ("autograd", "torch", "jax")


class Paradual:
    """This library."""

    name = OURS

    def program(self, make: Make) -> Callable[..., Any]:
        """The program in this system's arrays."""
        return make(np, lambda x: x)

    def gradient(self, make: Make, args: tuple[Any, ...]) -> Callable[[], Any]:
        """What computes the gradient with respect to all arguments."""
        g = pdl.grad(self.program(make), argnums=tuple(range(len(args))))
        return lambda: g(*args)

    def primal(self, make: Make, args: tuple[Any, ...]) -> Callable[[], Any]:
        """What computes the program alone."""
        f = self.program(make)
        return lambda: f(*args)


class Autograd(Paradual):
    """HIPS autograd; its own primal is NumPy's."""

    name = "autograd"

    def __init__(self) -> None:
        import autograd
        import autograd.numpy

        self.autograd = autograd

    def program(self, make: Make) -> Callable[..., Any]:
        return make(self.autograd.numpy, lambda x: x)

    def gradient(self, make: Make, args: tuple[Any, ...]) -> Callable[[], Any]:
        g = self.autograd.grad(self.program(make), argnum=tuple(range(len(args))))
        return lambda: g(*args)


class Torch:
    """PyTorch on the CPU, on one thread, as NumPy is."""

    name = "torch"

    def __init__(self) -> None:
        import torch

        torch.set_num_threads(1)
        self.torch = torch

    def own(self, x: Any) -> Any:
        return self.torch.tensor(x, dtype=self.torch.float64)

    def gradient(self, make: Make, args: tuple[Any, ...]) -> Callable[[], Any]:
        f = make(self.torch, self.own)
        tensors = [self.own(a).requires_grad_() for a in args]
        return lambda: self.torch.autograd.grad(f(*tensors), tensors)

    def primal(self, make: Make, args: tuple[Any, ...]) -> Callable[[], Any]:
        f = make(self.torch, self.own)
        tensors = [self.own(a) for a in args]

        def run() -> Any:
            with self.torch.no_grad():
                return f(*tensors)

        return run


class Jax:
    """JAX, compiled for these arguments; `compile_s` is what tracing and compiling took."""

    name = "jax"

    def __init__(self) -> None:
        import jax

        jax.config.update("jax_enable_x64", True)
        jax.config.update("jax_platforms", "cpu")
        self.jax = jax
        self.compile_s = 0.0

    def _compiled(self, f: Callable[..., Any], args: tuple[Any, ...]) -> Callable[[], Any]:
        arrays = [self.jax.numpy.asarray(a, dtype=float) for a in args]
        start = perf_counter()
        compiled = self.jax.jit(f).lower(*arrays).compile()
        self.compile_s = perf_counter() - start
        return lambda: self.jax.block_until_ready(compiled(*arrays))

    def program(self, make: Make) -> Callable[..., Any]:
        return make(self.jax.numpy, self.jax.numpy.asarray)

    def gradient(self, make: Make, args: tuple[Any, ...]) -> Callable[[], Any]:
        return self._compiled(self.jax.grad(self.program(make), argnums=tuple(range(len(args)))), args)

    def primal(self, make: Make, args: tuple[Any, ...]) -> Callable[[], Any]:
        return self._compiled(self.program(make), args)


def repeat(xp: Any, times: int, step: Callable[[Any], Any], state: Any) -> Any:
    """Apply a step again and again: a Python loop; for JAX its own kind of loop.

    XLA compiles a long loop that jit has unrolled for many minutes.
    """
    if xp.__name__ == "jax.numpy":
        from jax.lax import scan

        return scan(lambda carry, _: (step(carry), None), state, None, length=times)[0]
    for _ in range(times):
        state = step(state)
    return state


def load(names: tuple[str, ...] = PEERS) -> list[Any]:
    """paradual, and those peers that are installed."""
    kinds: dict[str, Any] = {"autograd": Autograd, "torch": Torch, "jax": Jax}
    return [Paradual(), *(kinds[name]() for name in names if find_spec(name) is not None)]


def gradient_times(
    row: str,
    systems: list[Any],
    make: Make,
    args: tuple[Any, ...],
    by_hand: Callable[[], Any],
    repeats: int,
    others: dict[str, Callable[[], Any]] | None = None,
    rtol: float = 1e-9,
) -> tuple[dict[str, float], float | None]:
    """Check the gradient of every system and time them side by side.

    Parameters
    ----------
    row : str
        For the message, should one be wrong.
    systems : list
        As from `load`.
    make : callable
        The program; see the head of this module.
    args : tuple
        What to differentiate with respect to, as NumPy arrays or floats.
    by_hand : callable
        What computes the tuple of gradients in NumPy: the truth.
    repeats : int
        Rounds of `interleaved`.
    others : dict, optional
        More to be timed in the same rounds.
    rtol : float
        As for `check`.

    Returns
    -------
    tuple
        ``{system: seconds}``, and the seconds that JAX took to compile, if it is there.
    """
    expected = by_hand()
    calls: dict[str, Callable[[], Any]] = {}
    compile_s = None
    for system in systems:
        calls[system.name] = system.gradient(make, args)
        compile_s = getattr(system, "compile_s", compile_s)
        check(row, system.name, calls[system.name](), expected, rtol)
    calls[HAND] = by_hand
    return interleaved({**calls, **(others or {})}, repeats), compile_s
