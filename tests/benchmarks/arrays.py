"""Rows where the cost is NumPy's: large arrays on one thread."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from .measure import HAND, OURS, Bar, Line, peak_memory
from .scalars import chain, chain_by_hand
from .systems import gradient_times, repeat

# --- a chain of elementwise operations ----------------------------------------------------------------


def large_chain(systems: list[Any], quick: bool) -> list[Line]:
    """The chain of the row "overhead" ten times on a million elements."""
    steps, n = 10, 10_000 if quick else 1_000_000
    x = np.random.default_rng(0).uniform(-1.0, 0.0, n)
    make = chain(steps)
    primals = {f"{system.name} primal": system.primal(make, (x,)) for system in systems}
    times, compile_s = gradient_times(
        "chain", systems, make, (x,), lambda: chain_by_hand(x, steps), 2 if quick else 9, primals
    )
    primals_of = {s.name: times[f"{s.name} primal"] for s in systems}
    primals_of[HAND] = primals_of[OURS]  # NumPy's
    ms = {name: 1e3 * times[name] for name in primals_of}
    ratios = {name: times[name] / primals_of[name] for name in primals_of}
    # of each step the argument and its sine
    residuals = 2 * steps * x.nbytes
    calls = {s.name: s.gradient(make, (x,)) for s in systems if s.name in (OURS, "autograd")}
    calls[HAND] = lambda: chain_by_hand(x, steps)
    peaks = {name: peak_memory(call) / residuals for name, call in calls.items()}
    return [
        Line("chain", f"ms, {n:,} elements", ms, [], compile_s),
        Line("chain", "gradient / own primal", ratios, [Bar(2.2, aim=1.7)]),
        Line("chain", f"peak memory / {2 * steps} arrays", peaks, [Bar(1.2)]),
    ]


# --- a neural network -------------------------------------------------------------------------------


def network(x: Any, labels: Any) -> Any:
    """The cross-entropy of a perceptron with two hidden layers."""

    def make(xp: Any, own: Any) -> Any:
        inputs, one_hot = own(x), own(labels)

        def loss(w1: Any, b1: Any, w2: Any, b2: Any, w3: Any, b3: Any) -> Any:
            h = xp.tanh(inputs @ w1 + b1)
            h = xp.tanh(h @ w2 + b2)
            z = h @ w3 + b3
            if xp.__name__ == "torch":
                log_p = xp.log_softmax(z, dim=1)
            else:
                z = z - xp.max(z, axis=1, keepdims=True)
                log_p = z - xp.log(xp.sum(xp.exp(z), axis=1, keepdims=True))
            return -(one_hot * log_p).sum() / len(inputs)

        return loss

    return make


def network_by_hand(
    x: Any, labels: Any, w1: Any, b1: Any, w2: Any, b2: Any, w3: Any, b3: Any
) -> tuple[Any, ...]:
    """Its gradient: backpropagation."""
    h1 = np.tanh(x @ w1 + b1)
    h2 = np.tanh(h1 @ w2 + b2)
    z = h2 @ w3 + b3
    z -= z.max(axis=1, keepdims=True)
    p = np.exp(z)
    total = p.sum(axis=1, keepdims=True)
    # the loss itself, so that both do the same work
    -(labels * (z - np.log(total))).sum() / len(x)
    g3 = (p / total - labels) / len(x)
    g2 = (g3 @ w3.T) * (1 - h2 * h2)
    g1 = (g2 @ w2.T) * (1 - h1 * h1)
    return x.T @ g1, g1.sum(0), h1.T @ g2, g2.sum(0), h2.T @ g3, g3.sum(0)


def perceptron(systems: list[Any], quick: bool) -> list[Line]:
    """One gradient of a small neural network: 256 samples, 128 -> 256 -> 256 -> 10."""
    sizes = (8, 16, 16, 4) if quick else (128, 256, 256, 10)
    samples = 16 if quick else 256
    rng = np.random.default_rng(0)
    x = rng.normal(size=(samples, sizes[0]))
    labels = np.eye(sizes[-1])[rng.integers(sizes[-1], size=samples)]
    weights: list[Any] = []
    for n, m in pairwise(sizes):
        weights += [rng.normal(size=(n, m)) / np.sqrt(n), rng.normal(size=m)]
    times, compile_s = gradient_times(
        "network",
        systems,
        network(x, labels),
        tuple(weights),
        lambda: network_by_hand(x, labels, *weights),
        2 if quick else 25,
    )
    ms = {name: 1e3 * t for name, t in times.items()}
    return [Line("network", f"ms, {samples} samples, {' -> '.join(map(str, sizes))}", ms, [], compile_s)]


# --- a wave equation ----------------------------------------------------------------------------------


def wave(pulse: Any, steps: int) -> Any:
    """The energy of a wave after some leapfrog steps, as a function of the squared velocity."""

    def make(xp: Any, own: Any) -> Any:
        if xp.__name__ == "torch":

            def pad(u: Any) -> Any:
                return xp.nn.functional.pad(u, (1, 1, 1, 1))
        else:

            def pad(u: Any) -> Any:
                return xp.pad(u, ((1, 1), (1, 1)), "constant")

        start = own(pulse)

        def advance(before: Any, u: Any, c: Any) -> Any:
            p = pad(u)
            laplacian = p[2:, 1:-1] + p[:-2, 1:-1] + p[1:-1, 2:] + p[1:-1, :-2] - 4.0 * u
            return u, 2.0 * u - before + c * laplacian

        def loss(c: Any) -> Any:
            _, u = repeat(xp, steps, lambda state: advance(*state, c), (start, start))
            return (u * u).sum()

        return loss

    return make


def wave_by_hand(pulse: Any, c: Any, steps: int) -> tuple[Any, ...]:
    """Its gradient by the adjoint method: the same equation, backwards in time.

    With the field zero beyond the border, the Laplacian is its own transpose.
    """
    padded = np.zeros((pulse.shape[0] + 2, pulse.shape[1] + 2))

    def laplacian(u: Any) -> Any:
        padded[1:-1, 1:-1] = u
        out = padded[2:, 1:-1] + padded[:-2, 1:-1]
        out += padded[1:-1, 2:]
        out += padded[1:-1, :-2]
        out -= 4.0 * u
        return out

    before, u = pulse, pulse
    kept = []
    for _ in range(steps):
        curvature = laplacian(u)
        kept.append(curvature)
        following = c * curvature
        following += u
        following += u
        following -= before
        before, u = u, following
    gradient = np.zeros_like(c)
    later, g = np.zeros_like(u), 2.0 * u
    while kept:
        gradient += g * kept.pop()
        earlier = laplacian(c * g)
        earlier += g
        earlier += g
        earlier -= later
        later, g = g, earlier
    return (gradient,)


def wave_equation(systems: list[Any], quick: bool) -> list[Line]:
    """The gradient of a wave's energy with respect to the velocity field: 300 x 300, 200 steps."""
    n, steps = (24, 10) if quick else (300, 200)
    x = np.linspace(-1.0, 1.0, n)
    pulse = np.exp(-40.0 * (x[:, None] ** 2 + (x[None, :] - 0.3) ** 2))
    c = 0.15 + 0.1 * np.exp(-3.0 * ((x[:, None] - 0.4) ** 2 + x[None, :] ** 2))
    make = wave(pulse, steps)
    times, compile_s = gradient_times(
        "wave", systems, make, (c,), lambda: wave_by_hand(pulse, c, steps), 2 if quick else 7
    )
    ms = {name: 1e3 * t for name, t in times.items()}
    return [Line("wave", f"ms, {n} x {n}, {steps} steps", ms, [], compile_s)]
