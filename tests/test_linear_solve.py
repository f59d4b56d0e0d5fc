"""`linear_solve` against `np.linalg.solve`, which has rules of its own, and finite differences."""

import numpy as np
import pytest
from helpers import nothing_is_left_behind  # noqa: F401

import paradual as pdl
from paradual.testing import check_grads

RNG = np.random.default_rng(7)
A = RNG.standard_normal((5, 5)) + 4 * np.eye(5)
B = RNG.standard_normal(5)
C = A + 1j * RNG.standard_normal((5, 5))


def own(operator, b):
    return np.linalg.solve(operator @ np.eye(b.size), b)


def solve(a, b, **options):
    return pdl.linear_solve(lambda u: a @ u, b, **options)


@pytest.mark.parametrize("solver", ["gmres", "bicgstab", "dense", "lgmres", "gcrotmk", "cgs", "tfqmr", own])
def test_general_systems(solver):
    check_grads(lambda a, b: solve(a, b, solver=solver), (A, B))
    np.testing.assert_allclose(solve(A, B, solver=solver), np.linalg.solve(A, B), rtol=1e-8)
    w = RNG.standard_normal(5)
    _, pullback = pdl.vjp(lambda a, b: solve(a, b, solver=solver), A, B)
    _, expected = pdl.vjp(np.linalg.solve, A, B)
    for got, wanted in zip(pullback(w), expected(w), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-7, atol=1e-9)


def test_symmetric_systems():
    S = A @ A.T

    def f(a, b):
        return pdl.linear_solve(lambda u: a @ (a.T @ u), b, solver="cg")

    np.testing.assert_allclose(f(A, B), np.linalg.solve(S, B), rtol=1e-7)
    check_grads(f, (A, B))


@pytest.mark.parametrize("solver", ["gmres", "dense"])
def test_complex_systems(solver):
    b = B + 1j
    np.testing.assert_allclose(solve(C, b, solver=solver), np.linalg.solve(C, b), rtol=1e-8)
    check_grads(lambda a, b: solve(a, b, solver=solver), (C, b))
    check_grads(
        lambda a, b: pdl.linear_solve(lambda u: a @ (a.conj().T @ u), b, solver="cg"), (C, b), order=1
    )


def test_a_stencil_without_its_matrix_to_third_order():
    def laplacian(u, a):
        return (2 + a) * u - np.concatenate([u[1:], u[:1]]) - 0.5 * np.concatenate([u[-1:], u[:-1]])

    b = np.cos(np.arange(6.0))
    f = lambda a: pdl.linear_solve(lambda u: laplacian(u, a), b)  # noqa: E731
    dense = lambda a: np.linalg.solve(np.stack([laplacian(e, a) for e in np.eye(6)], axis=1), b)  # noqa: E731
    orders = [lambda g: pdl.grad(g), lambda g: lambda a: pdl.jvp(g, (a,), (1.0,))[1]]
    w = np.sin(np.arange(6.0))
    ours, theirs = [lambda a: w @ f(a)], [lambda a: w @ dense(a)]
    for _ in range(3):
        ours = [mode(g) for g in ours for mode in orders]
        theirs = [mode(g) for g in theirs for mode in orders]
        for g, h in zip(ours, theirs, strict=True):
            assert g(1.3) == pytest.approx(h(1.3), rel=1e-6, abs=1e-9)


def test_pytrees_numbers_precision_and_nothing_at_all():
    def f(k, b):
        return pdl.linear_solve(lambda u: {"x": k * u["x"] + u["y"], "y": u["y"] - 0.3 * np.sum(u["x"])}, b)

    check_grads(f, (2.0, {"x": B, "y": 0.7}))
    assert type(f(2.0, {"x": B, "y": 0.7})["y"]) is float
    single = solve(A.astype(np.float32), B.astype(np.float32))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, np.linalg.solve(A, B), rtol=1e-3)
    check_grads(solve, (A.astype(np.float32), B.astype(np.float32)))
    assert pdl.linear_solve(lambda u: u, np.zeros(0)).shape == (0,)
    assert pdl.linear_solve(lambda u: 4 * u, 2.0) == pytest.approx(0.5)
    np.testing.assert_array_equal(solve(A, np.zeros(5)), np.zeros(5))
    strided = np.repeat(B, 2)[::2]
    strided.flags.writeable = False
    np.testing.assert_allclose(solve(A, strided), np.linalg.solve(A, B), rtol=1e-8)


def test_nothing_of_the_iteration_is_on_the_tape():
    scale = np.linspace(1, 2, 30)

    def records(tol):
        calls = []
        f = lambda a: pdl.linear_solve(lambda u: calls.append(1) or u * scale * a, np.ones(30), tol=tol)  # noqa: E731
        return len(pdl.vjp(f, 2.0)[1].last.records), len(calls)

    (few, short), (many, long) = records(1e-2), records(1e-12)
    assert few == many
    assert short < long
