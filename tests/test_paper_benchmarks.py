"""The benchmarks of Smeding and Vakar (JFP 35, e16, 2025) on lists and on arrays, with golden values."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from paper_helpers import Quaternion, Vec3, by_reverse, close, flat, refill, rotate

import paradual as pdl
from paradual import reference


def test_fmult() -> None:
    assert pdl.value_and_grad(lambda x, y: x * y, (0, 1))(3.0, 4.0) == (12.0, (4.0, 3.0))


def test_frotvecquat() -> None:
    v, q = (1.0, 2.0, 3.0), (4.0, 5.0, 6.0, 7.0)
    jacobian = [
        [4, -44, 118, 64, 48, -16, 20],
        [40, 22, 88, -48, 64, 48, 40],
        [-22, 116, 44, 16, -20, 64, 48],
    ]
    out, rows = by_reverse(rotate, (Vec3(*v), Quaternion(Vec3(*q[:3]), q[3])))
    assert flat(out) == [270.0, 348.0, 342.0]
    assert rows == jacobian

    # the same with whole arrays; the paper's cross product is a true one but for one entry
    def with_arrays(vq: Any) -> Any:
        u, s = vq[3:6], vq[6]
        v = vq[:3]
        cross = np.stack([u[1] * v[2] - u[2] * v[1], u[2] * v[2] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]])
        return 2 * (u @ v) * u + (s * s - u @ u) * v + 2 * s * cross

    vq = np.array([*v, *q])
    np.testing.assert_array_equal(with_arrays(vq), [270, 348, 342])
    for mode in ("reverse", "forward"):
        np.testing.assert_array_equal(pdl.jacobian(with_arrays, mode=mode)(vq), jacobian)


def odd(n: int) -> list[float]:
    return [3.0 + 2 * k for k in range(n)]


def naturals(n: int) -> list[float]:
    return [1.0 + k for k in range(n)]


def fdotprod(lists: tuple[list[Any], list[Any]]) -> Any:
    total: Any = 0.0
    for a, b in reversed(list(zip(*lists, strict=True))):
        total = a * b + total
    return total


@pytest.mark.parametrize("n", [0, 1, 10, 1000])
def test_fdotprod(n: int) -> None:
    l1, l2 = naturals(n), odd(n)
    value, gradient = pdl.value_and_grad(fdotprod)((l1, l2))
    assert value == sum(a * b for a, b in zip(l1, l2, strict=True))
    assert gradient == (l2, l1)
    if n == 10:
        assert value == 825.0
        assert pdl.value_and_grad(lambda p: np.dot(*p))((np.array(l1), np.array(l2)))[0] == 825.0


def test_fsummatvec() -> None:
    n = 10
    m = [naturals(n * n)[n * r : n * r + n] for r in range(n)]
    v = odd(n)

    def f(mv: Any) -> Any:
        m, v = mv
        total: Any = 0.0
        for row in m:
            total = total + fdotprod((v, row))
        return total

    value, (dm, dv) = pdl.value_and_grad(f)((m, v))
    assert value == 62250.0
    assert dm == [v] * n
    assert dv == [sum(column) for column in zip(*m, strict=True)]
    value, (dm, dv) = pdl.value_and_grad(lambda mv: np.sum(mv[0] @ mv[1]))((np.array(m), np.array(v)))
    assert value == 62250.0
    np.testing.assert_array_equal(dm, [v] * n)
    np.testing.assert_array_equal(dv, np.sum(m, axis=0))


def fneural(weights: Any, x: Any, loss: Any) -> Any:
    for w, b in weights:
        z = []
        for row, offset in zip(w, b, strict=True):
            s = fdotprod((row, x)) + offset
            z.append(s if s > 0 else 0.0 * s)
        x = z
    top: Any = 0.0
    for z in x:
        top = z if z > top else top
    e = [np.exp(z - top) for z in x]
    return loss(e, fdotprod((e, [1.0] * len(e))))


def neural_inputs(sizes: tuple[int, ...]) -> Any:
    layers = [
        (
            [[math.sin(i + j) for j in range(n)] for i in range(m)],
            [math.sin(0.41 * i) for i in range(m)],
        )
        for n, m in pairwise(sizes)
    ]
    return layers, [math.sin(0.41 * i) for i in range(sizes[0])]


# The benchmark's own objective is 1 whatever the weights, so its gradient is no test of anything.
def constant(e: Any, total: Any) -> Any:
    return fdotprod((e, [1.0] * len(e))) / total


def weighted(e: Any, total: Any) -> Any:
    return fdotprod((e, naturals(len(e)))) / total


def fneural_of_arrays(wx: Any) -> Any:
    """With the objective `weighted`."""
    layers, x = wx
    for w, b in layers:
        x = np.maximum(w @ x + b, 0.0)
    e = np.exp(x - np.maximum(np.max(x), 0.0))
    return e @ np.arange(1.0, len(e) + 1) / np.sum(e)


def as_arrays(wx: Any) -> Any:
    layers, x = wx
    return [(np.array(w), np.array(b)) for w, b in layers], np.array(x)


def in_a_row(arrays: Any) -> Any:
    return np.concatenate([np.ravel(leaf) for leaf in flat(arrays)])


def test_fneural() -> None:
    layers, x = neural_inputs((5, 8, 4))
    value, gradient = pdl.value_and_grad(lambda wx: fneural(*wx, constant))((layers, x))
    close(value, 1.0, rtol=1e-15)
    close(flat(gradient), np.zeros(len(flat((layers, x)))), atol=1e-14)

    value, gradient = pdl.value_and_grad(lambda wx: fneural(*wx, weighted))((layers, x))
    template = (layers, x)
    expected, g, _ = reference.grad(
        lambda *leaves: fneural(*refill(template, iter(leaves)), weighted), *flat(template)
    )
    close(value, expected)
    close(flat(gradient), g)
    assert np.abs(g).max() > 0.1

    value, gradient = pdl.value_and_grad(fneural_of_arrays)(as_arrays((layers, x)))
    close(value, expected)
    close(in_a_row(gradient), g)


def test_fneural_against_differences() -> None:
    template = neural_inputs((5, 8, 4))
    leaves = np.array(flat(template))

    def loss(leaves: Any) -> float:
        return fneural(*refill(template, iter(leaves.tolist())), weighted)

    gradient = flat(pdl.grad(lambda wx: fneural(*wx, weighted))(template))
    h = 1e-6
    close(gradient, [(loss(leaves + h * e) - loss(leaves - h * e)) / (2 * h) for e in np.eye(leaves.size)],
          rtol=1e-6, atol=1e-8)  # fmt: skip


def test_fneural_in_the_size_of_the_paper() -> None:
    template = neural_inputs((50, 100, 50))
    value, gradient = pdl.value_and_grad(lambda wx: fneural(*wx, weighted))(template)
    found = np.array(flat(gradient))
    assert found.size == 10_200
    assert value == fneural(*template, weighted)
    arrays = as_arrays(template)
    value_of_arrays, gradient = pdl.value_and_grad(fneural_of_arrays)(arrays)
    close(value_of_arrays, value)
    close(in_a_row(gradient), found)

    # the slope along some directions, which reach each of the inputs
    rng = np.random.default_rng(0)
    for _ in range(5):
        direction = rng.normal(size=found.size)
        h = 1e-7
        ends = [
            fneural_of_arrays(as_arrays(refill(template, iter((in_a_row(arrays) + s * direction).tolist()))))
            for s in (h, -h)
        ]
        close((ends[0] - ends[1]) / (2 * h), found @ direction, rtol=1e-5, atol=1e-5)
