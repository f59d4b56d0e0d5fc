"""What the tests of derivatives of Dask collections share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dask
import numpy as np
import pytest

import paradual as pdl

EACH_STEP = {"optimization.fuse.active": False}  # every task a job: nothing is fused away


@pytest.fixture(autouse=True)
def _synchronous() -> Any:
    with dask.config.set(scheduler="sync"):
        yield


rng = np.random.default_rng(11)
X = rng.normal(size=(6, 5))
V = rng.normal(size=7)
Z = X + 1j * rng.normal(size=X.shape)
W = rng.normal(size=(5, 4))
N = np.arange(7.0)


def difference(f: Callable[[Any], Any], x: Any, v: Any, eps: float = 1e-6) -> Any:
    """The central difference of a function along a direction."""
    return (np.asarray(f(x + eps * v)) - np.asarray(f(x - eps * v))) / (2 * eps)


def each(*collections: Any, **options: Any) -> list[Any]:
    """Compute one collection after the other: dask.compute changes the order of arrays and Delayed."""
    return [c.compute(**options) for c in collections]


def same(a: Any, b: Any) -> bool:
    """Bitwise equal, in structure too."""
    la, sa = pdl.trees.flatten(a)
    lb, sb = pdl.trees.flatten(b)
    return sa == sb and all(
        np.asarray(p).dtype == np.asarray(q).dtype
        and np.shape(p) == np.shape(q)
        and np.asarray(p).tobytes() == np.asarray(q).tobytes()
        for p, q in zip(la, lb, strict=True)
    )


class Box:
    """Not a pytree."""

    def __init__(self, v: Any) -> None:
        self.v = v
