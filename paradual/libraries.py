"""What `paradual.interop` asks of an array library with derivatives of its own: JAX and PyTorch.

A `Library` is a row of functions, which convert arrays and differentiate.  They are called with the
library's own arrays, also within its own transformations, so that derivatives nest to any order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from threading import RLock
from typing import Any

import numpy as np

from paradual.errors import ParadualTypeError
from paradual.optional import load

Arrays = list[Any]
Function = Callable[..., Any]  # of the library's arrays, one by one


@dataclass(frozen=True, slots=True)
class Library:
    """How to compute and differentiate with a library.

    `vjp(f, xs, active, seeds, first, outermost, mixed)` returns the cotangents of the active ``xs`` and
    the results of ``f``; ``first`` says whether ``f`` is the user's function and not a derivative of it,
    ``outermost`` whether nothing differentiates the cotangents in turn, ``mixed`` whether forward mode
    takes part.  `jvp(f, xs, varied, tangents, first)` returns the tangents and the results; a tangent
    belongs to each of the ``varied`` arguments.
    """

    name: str
    module: str
    install: str
    scope: Callable[[Arrays], AbstractContextManager[Any]]  # in which all of it happens
    enter: Callable[[Any], Any]  # from a NumPy or CuPy array, or a number
    leave: Callable[[Any], Any]  # to a NumPy array of its own
    detach: Callable[[Any], Any]  # without what the library knows of its origin
    is_own: Callable[[Any], bool]
    dtype: Callable[[Any], Any]  # NumPy's for an array of the library; None if there is none
    vjp: Callable[..., tuple[Arrays, Arrays]]
    jvp: Callable[..., tuple[Arrays, Arrays]]


def loaded(library: Library) -> Any:
    """Import a library, which is optional."""
    return load(library.module, f"a function of {library.name}", library.install)


def on_cupy(x: Any) -> bool:
    """Whether a value is a CuPy array."""
    return type(x).__module__.partition(".")[0] == "cupy"


def native(x: Any) -> np.ndarray:
    """An array in the machine's own order of bytes and in C's of elements."""
    x = np.asarray(x)
    return np.asarray(x, dtype=x.dtype.newbyteorder("="), order="C")


# --- JAX ----------------------------------------------------------------------------------------------


def _jax_scope(leaves: Arrays) -> AbstractContextManager[Any]:
    """Double precision, unless all arrays of floats are in a lower one; the user's setting is not changed."""
    dtypes = [leaf.dtype for leaf in leaves if getattr(leaf, "dtype", None) is not None]
    widths = [np.finfo(d).bits for d in dtypes if d.kind in "fc"]
    if widths and max(widths) < 64:
        return nullcontext()
    import jax

    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(True)
    from jax.experimental import enable_x64  # before JAX 0.8

    return enable_x64(True)


def _jax_enter(x: Any) -> Any:
    import jax.numpy as jnp

    if on_cupy(x):
        return jnp.from_dlpack(x)
    if not hasattr(x, "dtype"):
        return jnp.asarray(x)  # a Python number takes the precision of what it meets, as in NumPy
    x = native(x)
    out = jnp.asarray(x)
    if x.dtype.kind in "iu" and out.dtype != x.dtype and not np.array_equal(np.asarray(out), x):
        raise ParadualTypeError(
            "an argument has integers that JAX cannot hold in 32 bits, which are what it has where all "
            "floats are float32: use smaller integers, or float64"
        )
    return out


def _jax_leave(x: Any) -> Any:
    return np.array(x)  # a copy: JAX's own memory is read-only


def _jax_detach(x: Any) -> Any:
    return x


def _is_jax(x: Any) -> bool:
    import jax

    return isinstance(x, jax.Array)  # tracers too


def _jax_dtype(x: Any) -> Any:
    dtype = x.dtype
    return dtype if isinstance(dtype, np.dtype) and dtype.kind in "fciub" else None


def _jax_vjp(
    f: Function, xs: Arrays, active: Sequence[bool], seeds: Arrays, *how: bool
) -> tuple[Arrays, Arrays]:
    import jax

    del how
    outs, pullback = jax.vjp(_restricted(f, xs, active), *_chosen(xs, active))
    return list(pullback(seeds)), outs


def _jax_jvp(
    f: Function, xs: Arrays, varied: Sequence[bool], tangents: Arrays, first: bool
) -> tuple[Arrays, Arrays]:
    import jax

    del first
    outs, parts = jax.jvp(_restricted(f, xs, varied), tuple(_chosen(xs, varied)), tuple(tangents))
    return parts, outs


def _chosen(xs: Arrays, on: Sequence[bool]) -> Arrays:
    return [x for x, is_on in zip(xs, on, strict=True) if is_on]


def _restricted(f: Function, xs: Arrays, on: Sequence[bool]) -> Function:
    """A function of some of the arguments, the others being constant."""

    def of_some(*some: Any) -> Any:
        given = iter(some)
        return f(*[next(given) if is_on else x for x, is_on in zip(xs, on, strict=True)])

    return of_some


JAX = Library(
    *("JAX", "jax", "paradual[jax]", _jax_scope, _jax_enter, _jax_leave, _jax_detach, _is_jax),
    *(_jax_dtype, _jax_vjp, _jax_jvp),
)

# --- PyTorch: its gradient of a real function is df/dx + i df/dy, the conjugate of paradual's ------------


_LEVELS = RLock()  # PyTorch counts the levels of its forward mode for all threads together


def _torch_scope(leaves: Arrays) -> AbstractContextManager[Any]:
    """Differentiable, wherever the call stands."""
    import torch

    del leaves
    stack = ExitStack()
    stack.enter_context(torch.inference_mode(False))
    stack.enter_context(torch.enable_grad())
    return stack


def _torch_enter(x: Any) -> Any:
    import torch

    if on_cupy(x):
        return torch.from_dlpack(x).clone()
    return torch.from_numpy(np.array(native(x)))  # a copy: the function may write into it


def _torch_leave(x: Any) -> Any:
    return np.array(_torch_detach(x).cpu().numpy())


def _torch_detach(x: Any) -> Any:
    return x.detach().resolve_conj().resolve_neg()


_NUMPY_DTYPES = frozenset(np.dtype(code).name for code in "?bhilqBHILQefdFD")  # bfloat16 is in none of them


def _is_torch(x: Any) -> bool:
    import torch

    return isinstance(x, torch.Tensor)


def _torch_dtype(x: Any) -> Any:
    name = str(x.dtype).removeprefix("torch.")
    return np.dtype(name) if name in _NUMPY_DTYPES else None


def _torch_vjp(
    f: Function, xs: Arrays, active: Sequence[bool], seeds: Arrays, first: bool, outermost: bool, mixed: bool
) -> tuple[Arrays, Arrays]:
    import torch

    seeds = [g.conj() for g in seeds]
    # all that the user's function may depend on: so a result that depends on nothing was detached in it
    varied = [x.is_floating_point() or x.is_complex() for x in xs] if first else list(active)
    linked: list[bool] = []
    if mixed:  # torch.func composes with forward mode; torch.autograd, with any function but not with that

        def noted(*ys: Any) -> tuple[Any, ...]:
            results = f(*ys)
            linked[:] = [y.requires_grad for y in results]
            return tuple(results)

        outs, pullback = torch.func.vjp(_restricted(noted, xs, varied), *_chosen(xs, varied))
        found = dict(zip(np.flatnonzero(varied), pullback(tuple(seeds)), strict=True))
        parts = [found[k] for k in np.flatnonzero(active)]
    else:
        leaves = [
            x.detach().requires_grad_() if on and not x.requires_grad else x
            for x, on in zip(xs, varied, strict=True)
        ]
        outs, targets = f(*leaves), _chosen(leaves, active)
        linked = [y.requires_grad for y in outs]
        ends, starts = _chosen(outs, linked), _chosen(seeds, linked)
        grads = (
            torch.autograd.grad(ends, targets, starts, create_graph=not outermost, allow_unused=True)
            if ends
            else [None] * len(targets)
        )
        parts = [torch.zeros_like(x) if g is None else g for x, g in zip(targets, grads, strict=True)]
    for k, (g, on) in enumerate(zip(seeds, linked, strict=True)):
        if first and not on and bool((g != 0).any()):
            raise _detached(k)
    return [g.conj() for g in parts], list(outs)


def _torch_jvp(
    f: Function, xs: Arrays, varied: Sequence[bool], tangents: Arrays, first: bool
) -> tuple[Arrays, Arrays]:
    import torch
    from torch.autograd.forward_ad import unpack_dual

    def checked(*ys: Any) -> tuple[Any, ...]:
        results = f(*ys)
        for k, y in enumerate(results) if first else ():
            if unpack_dual(y).tangent is None:
                raise _detached(k)
        return tuple(results)

    with _LEVELS:
        outs, parts = torch.func.jvp(
            _restricted(checked, xs, varied), tuple(_chosen(xs, varied)), tuple(tangents)
        )
    return list(parts), list(outs)


def _detached(k: int) -> ParadualTypeError:
    return ParadualTypeError(
        f"result {k} of the PyTorch function does not depend on any of its arguments, as far as PyTorch "
        "knows: it was detached, computed under no_grad or by NumPy, or is the result of "
        "torch.autograd.grad without create_graph=True. Leave these out; if it is meant to be constant "
        "write y + 0 * x.sum(), or compute it in a function of its own"
    )


TORCH = Library(
    *(
        "PyTorch",
        "torch",
        "paradual[torch]",
        _torch_scope,
        _torch_enter,
        _torch_leave,
        _torch_detach,
        _is_torch,
    ),
    *(_torch_dtype, _torch_vjp, _torch_jvp),
)
