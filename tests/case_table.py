"""What the table of `test_rules` is made of: the calls, and the points they are made at."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from paradual.rules.registry import name_of

RNG = np.random.default_rng(20)
MASK = np.array([[True, False, True], [False, False, True]])


@dataclass(frozen=True)
class Case:
    """A call of ``fn(*args)`` that uses the rule of ``function``, differentiated in all of ``args``."""

    function: Any
    label: str
    fn: Callable[..., Any]
    args: tuple[Any, ...]

    @property
    def id(self) -> str:
        name = name_of(self.function).replace("numpy.", "np.").removeprefix("_").removeprefix("paradual.")
        return f"{name}-{self.label}"


CASES: list[Case] = []


def reseed(seed):
    """Draw the points that follow from a generator of their own, so that tables do not move each other's."""
    RNG.bit_generator.state = np.random.default_rng(seed).bit_generator.state


def case(function, label, *args, fn=None, **options):
    """Add the call ``function(*args, **options)``, or ``fn(*args)``, to the table."""
    CASES.append(Case(function, label, fn or (lambda *a: function(*a, **options)), args))


# --- points -----------------------------------------------------------------------------------------------


def normal(*shape):
    return np.asarray(RNG.standard_normal(shape))


def between(low, high):
    return lambda *shape: np.asarray(RNG.uniform(low, high, shape))


def spread(*shape):
    """Numbers of both signs, no two of them (nor their absolute values) closer than 0.1, none near 0."""
    n = int(np.prod(shape, dtype=int))
    values = (np.arange(n) * 0.37 % 2 + np.arange(n) * 0.1 + 0.3) * np.where(np.arange(n) % 3 == 1, -1, 1)
    return RNG.permutation(values).reshape(shape)


def ranked(*shape):
    """Numbers whose absolute sums along any axes are far apart."""
    scale = 1.0
    for k, n in enumerate(shape):
        scale = scale * (1.5 ** np.arange(n)).reshape([-1 if j == k else 1 for j in range(len(shape))])
    return scale * RNG.uniform(1.0, 1.1, shape) * RNG.choice([-1.0, 1.0], shape)


def z(*shape):
    return normal(*shape) + 1j * normal(*shape)


def square(*shape):
    """Matrices with singular values well away from zero and from each other."""
    return normal(*shape) * 0.3 + np.diag(np.arange(2, 2 + shape[-1]))


def hermitian(*shape):
    x = normal(*shape) * 0.3
    return x + np.swapaxes(x, -1, -2) + np.eye(shape[-1]) * 4


positive = between(0.5, 2.0)
inner = between(-0.8, 0.8)
