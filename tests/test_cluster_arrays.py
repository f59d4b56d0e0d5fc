"""Arrays that travel between the tasks of a cluster: their bits and layouts arrive as they were."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from cluster_helpers import at_home_and_away, check_untouched, same, workers
from distributed import Client

import paradual as pdl


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with workers(2) as found:
        yield found


@pytest.fixture(autouse=True)
def nothing_is_left_behind(client: Client) -> Iterator[None]:
    yield
    check_untouched(client)


def test_large_arrays(client: Client) -> None:
    shared = np.random.default_rng(1).normal(size=2_500_000)  # 20 MB
    given = np.random.default_rng(2).normal(size=3_750_000)  # 30 MB

    def f(x: Any) -> Any:
        return sum(pdl.map(lambda k: np.sum(np.tanh(shared[::50] * x * k)), np.linspace(0, 1, 8).tolist()))

    def g(x: Any) -> Any:
        return pdl.submit(lambda a, y: np.sum(a[::100] * y), given, x).result() * x

    with pdl.executor("inline"):
        home = pdl.grad(f)(0.7), pdl.grad(g)(0.7)
    with pdl.executor(client):
        assert same((pdl.grad(f)(0.7), pdl.grad(g)(0.7)), home)
        x, v = shared, np.ones_like(shared)
        slope = pdl.grad(lambda x: pdl.par(lambda: np.sum(np.sin(x)), lambda: 0)[0])(x)
        assert same(slope, np.cos(x) * v)


BASE = np.random.default_rng(3).normal(size=(6, 8))
READ_ONLY = BASE.copy()
READ_ONLY.flags.writeable = False
LAYOUTS: dict[str, Any] = {
    "C": BASE,
    "Fortran": np.asfortranarray(BASE),
    "transposed": BASE.T,
    "strided": BASE[::2, 1::3],
    "reversed": BASE[::-1, ::-1],
    "reversed column": BASE[::-1, 2],
    "permuted": np.random.default_rng(4).normal(size=(2, 3, 4)).transpose(1, 2, 0),
    "broadcast": np.broadcast_to(BASE[0], (5, 8)),
    "broadcast twice": np.broadcast_to(BASE[:, None, :1], (6, 3, 4)),
    "read-only": READ_ONLY,
    "0-d": np.array(1.5),
    "empty": np.empty((0, 4)),
    "empty strided": np.empty((4, 0, 3))[::2],
    "float32": BASE.astype(np.float32)[:, ::2],
    "float16": BASE.astype(np.float16),
    "longdouble": BASE.astype(np.longdouble).T,
    "complex": (BASE + 1j * BASE[::-1])[::2],
    "one element": BASE[2:3, 3:4],
    "structured": np.array([(1.5, 2), (2.5, 3)], dtype=[("a", "f8"), ("b", "i4")])[::-1],
    "field": np.array([(1.5, 2), (2.5, 3)], dtype=[("a", "f8"), ("b", "i4")])["a"],
    "big-endian": BASE.astype(">f8")[::2],
    "integers": np.arange(24).reshape(4, 6)[:, ::-2],
    "booleans": BASE > 0,
    "large": np.random.default_rng(5).normal(size=(300, 400))[::-2],
    "large Fortran": np.asfortranarray(np.random.default_rng(6).normal(size=(300, 400))),
    "objects": np.array([1.5, "text", None], dtype=object),
}


def described(a: Any) -> Any:
    """Its bits, and the order of its axes in memory, on which the last bits of sums depend."""
    strides = [s for s, n in zip(a.strides, a.shape, strict=True) if n > 1 and a.size]
    order = tuple(np.argsort(np.abs(strides), kind="stable"))
    signs = tuple(np.sign(strides))
    flags = (a.flags.c_contiguous, a.flags.f_contiguous)
    # there are bits in a longdouble that mean nothing
    content = repr(a.tolist()) if a.dtype.hasobject or a.dtype == np.longdouble else a.tobytes()
    return type(a), a.shape, a.dtype.str, content, order, signs, flags


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts(client: Client, name: str) -> None:
    a = LAYOUTS[name]
    with pdl.executor(client):
        there, back = pdl.submit(lambda x: (described(x), x), a).result()
        assert there == described(a)
        assert described(back) == described(a)
        there, back = pdl.par(lambda: (described(a), a))[0]
        assert there == described(a)
        assert described(back) == described(a)
    if a.dtype.kind not in "fc" or a.dtype.byteorder == ">":
        return

    def f(x: Any) -> Any:
        parts = pdl.par(lambda: x * 1.0, lambda: (x, np.sum(x * x)), lambda: np.sin(a * x))
        return np.real(np.sum(parts[0] * parts[1][0]) * parts[1][1] + np.sum(parts[2]))

    at_home_and_away(client, lambda: (pdl.grad(f)(a), pdl.jvp(f, (a,), (a,))))
