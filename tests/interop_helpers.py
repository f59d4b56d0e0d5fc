"""JAX, PyTorch, and what stands in for JAX where it is not installed: the same few functions of each."""

from __future__ import annotations

from contextlib import nullcontext
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

import paradual as pdl


class Array:
    """An array of the stand-in: NumPy's, or a value that paradual differentiates, and a few operations."""

    __array_ufunc__ = None  # NumPy's arrays leave operations to it

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    dtype = property(lambda self: np.result_type(pdl.stop_gradient(self.inner)))

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return np.array(self.inner, dtype=dtype)

    def __mul__(self, other: Any) -> Array:
        return Array(self.inner * getattr(other, "inner", other))

    def __add__(self, other: Any) -> Array:
        return Array(self.inner + getattr(other, "inner", other))

    def __getitem__(self, index: Any) -> Array:
        return Array(self.inner[np.asarray(index)])

    def astype(self, dtype: Any) -> Array:
        return Array(self.inner.astype(dtype))

    def sum(self) -> Array:
        return Array(np.sum(self.inner))


def _sin(x: Any) -> Array:
    if not isinstance(x, Array):
        raise TypeError(f"the stand-in knows no {type(x).__name__}")
    with np.errstate(all="ignore"):
        return Array(np.sin(x.inner))


def _flat(f: Any) -> Any:
    return lambda *xs: [y.inner for y in f(*map(Array, xs))]


def _vjp(f: Any, *xs: Array) -> Any:
    outs, pullback = pdl.vjp(_flat(f), *[x.inner for x in xs])
    return list(map(Array, outs)), lambda seeds: tuple(map(Array, pullback([g.inner for g in seeds])))


def _jvp(f: Any, xs: Any, ts: Any) -> Any:
    outs, tangents = pdl.jvp(_flat(f), tuple(x.inner for x in xs), tuple(t.inner for t in ts))
    return list(map(Array, outs)), list(map(Array, tangents))


def standin() -> dict[str, ModuleType]:
    """The modules ``jax`` and ``jax.numpy``, as far as paradual calls them, made of NumPy and paradual."""
    jax, jnp = ModuleType("jax"), ModuleType("jax.numpy")
    jnp.asarray = lambda x: Array(np.asarray(x) if hasattr(x, "dtype") else x)
    jnp.sin = _sin
    jax.numpy, jax.Array, jax.vjp, jax.jvp = jnp, Array, _vjp, _jvp
    jax.scopes = []  # of double precision that were asked for
    jax.enable_x64 = lambda on: jax.scopes.append(on) or nullcontext()
    return {"jax": jax, "jax.numpy": jnp}


def functions(name: str) -> SimpleNamespace:
    """What the tests call of a library."""
    if name == "torch":
        import torch

        return SimpleNamespace(
            name="PyTorch",
            wrap=pdl.from_torch,
            sin=torch.sin,
            narrow=lambda x: x.float(),
            own=lambda a: torch.tensor(a),
        )
    import jax.numpy as jnp

    return SimpleNamespace(
        name="JAX", wrap=pdl.from_jax, sin=jnp.sin, narrow=lambda x: x.astype("float32"), own=jnp.asarray
    )
