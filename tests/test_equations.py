"""`root`, `fixed_point` and `minimize` against closed forms, dense algebra, and unrolled loops."""

import pickle
from dataclasses import dataclass

import cloudpickle
import numpy as np
import pytest
import scipy.optimize as so
from cluster_helpers import workers
from dask import delayed
from helpers import nothing_is_left_behind  # noqa: F401

import paradual as pdl
from paradual import krylov
from paradual.dual import Dual
from paradual.sizes import tape_bytes
from paradual.testing import check_grads

RNG = np.random.default_rng(5)
M = 0.4 * RNG.standard_normal((4, 4)) + 2 * np.eye(4)  # far from symmetric
B = RNG.standard_normal(4)
LINEAR = ("dense", "gmres")


def coupled(x, a, b):
    """Four equations that depend on each other; the Jacobian is not symmetric and varies with x and a."""
    return M @ x + a * x**3 + 0.1 * x * np.roll(x, 1) - b


def solved(a, b, **options):
    return pdl.root(coupled, np.zeros(4), a, b, **options)


# --- derivatives ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("linear", LINEAR)
def test_both_modes_to_second_order(linear):
    check_grads(lambda a, b: solved(a, b, linear=linear), (0.7, B))


@pytest.mark.parametrize("linear", LINEAR)
def test_captured_values_have_derivatives(linear):
    check_grads(lambda a, b: pdl.root(lambda x: coupled(x, a, b), np.zeros(4), linear=linear), (0.7, B))


@pytest.mark.parametrize("linear", LINEAR)
def test_the_jacobian_is_the_inverse_of_that_of_the_equation(linear):
    x = solved(0.7, B)
    dense = pdl.jacobian(coupled)(x, 0.7, B)
    expected = np.linalg.inv(dense)
    for mode in ("reverse", "forward"):
        found = pdl.jacobian(lambda b: solved(0.7, b, linear=linear), mode=mode)(B)
        np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-10)


def cube_root(a, linear):
    return pdl.root(lambda x: x**3 - a, np.ones(2), linear=linear).sum() / 2


@pytest.mark.parametrize("linear", LINEAR)
def test_every_nesting_of_modes_to_third_order(linear):
    def forward(f):
        return lambda a: pdl.jvp(f, (a,), (1.0,))[1]

    a = 2.0
    expected = [a ** (-2 / 3) / 3, -2 / 9 * a ** (-5 / 3), 10 / 27 * a ** (-8 / 3)]
    functions = [lambda a: cube_root(a, linear)]
    for wanted in expected:
        functions = [mode(f) for f in functions for mode in (pdl.grad, forward)]
        for f in functions:
            assert f(a) == pytest.approx(wanted, rel=1e-7)


def test_parameters_and_captured_values_of_different_differentiations():
    # x = sqrt(a b): the mixed derivative has parts of x from both levels
    def slope(a):
        return pdl.grad(lambda b: pdl.root(lambda x, b: x * x - a * b, 1.0, b))(3.0)

    a, b = 2.0, 3.0
    assert pdl.grad(slope)(a) == pytest.approx(0.25 / np.sqrt(a * b), rel=1e-9)
    assert pdl.jvp(slope, (a,), (1.0,))[1] == pytest.approx(0.25 / np.sqrt(a * b), rel=1e-9)
    # a tangent, and not the value, belongs to the outer one: x = sqrt(y), its tangent a / (2 sqrt(y))
    assert pdl.grad(lambda a: pdl.jvp(lambda y: pdl.root(lambda x: x * x - y, 1.0), (4.0,), (a,))[1])(
        5.0
    ) == pytest.approx(0.25)


def test_a_pullback_and_hessian_vector_product():
    f = lambda b: np.sum(solved(0.7, b) ** 2)  # noqa: E731
    hessian = pdl.hessian(f)(B)
    np.testing.assert_allclose(hessian, hessian.T, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(pdl.hvp(f, B, M[0]), hessian @ M[0], rtol=1e-8, atol=1e-10)


@dataclass
class Pair:
    u: np.ndarray
    v: list


def test_pytrees_of_unknowns_and_parameters():
    def residual(x, p):
        return Pair(x.u**2 - p["a"], [x.v[0] * np.sum(x.u) - p["c"][0], x.v[1] - x.v[0] * p["k"]])

    def solve(a, c):
        x = pdl.root(residual, Pair(np.ones(2), [1.0, np.float64(1)]), {"a": a, "c": (c,), "k": 2, "s": "x"})
        assert type(pdl.stop_gradient(x).v[0]) is float
        return x.u, x.v

    a, c = np.array([4.0, 9.0]), 3.0
    u, v = solve(a, c)
    np.testing.assert_allclose([*u, *v], [2, 3, 0.6, 1.2], rtol=1e-12)
    check_grads(solve, (a, c))


@pytest.mark.parametrize("linear", LINEAR)
def test_complex_unknowns_of_functions_that_need_not_be_holomorphic(linear):
    a, start = np.array([1 + 2j, 0.5 - 1j]), np.array([1 + 1j, 1 - 1j])
    root = lambda f, a: pdl.root(f, start, a, linear=linear)  # noqa: E731
    np.testing.assert_allclose(
        pdl.jacobian(lambda a: root(lambda x, a: x**2 - a, a))(a), np.diag(0.5 / np.sqrt(a)), atol=1e-9
    )
    check_grads(
        lambda a: root(
            lambda x, a: x * (1 + 0.1 * np.real(x) ** 2) + 0.3 * np.conj(x) - 0.2j * np.roll(x, 1) * a, a
        ),
        (a,),
    )


def test_functions_that_write_into_arrays():
    def residual(x, a, c):
        out = np.zeros_like(x)
        x *= 2  # its own argument
        out[0] = x[0] ** 3 - a[0]
        out[1:] = c * x[1:] * x[0] - a[1:]
        out += 0.1 * x
        return out

    a = np.array([2.0, 3.0, 1.0])
    check_grads(lambda a, c: pdl.root(residual, np.ones(3), a, c), (a, 0.7))
    check_grads(lambda a, c: pdl.root(lambda x: residual(x, a, c), np.ones(3), linear="gmres"), (a, 0.7))
    third = pdl.grad(
        pdl.grad(lambda c: pdl.jvp(lambda a: np.sum(pdl.root(residual, np.ones(3), a, c)), (a,), (a,))[1])
    )
    step = 1e-4
    second = pdl.grad(
        lambda c: pdl.jvp(lambda a: np.sum(pdl.root(residual, np.ones(3), a, c)), (a,), (a,))[1]
    )
    assert third(0.7) == pytest.approx((second(0.7 + step) - second(0.7 - step)) / (2 * step), rel=1e-5)

    def step(x, a):
        x *= 0.3
        x += a
        return x

    slope = pdl.grad(lambda a: np.sum(pdl.fixed_point(step, np.ones(3), a)))(a)
    np.testing.assert_allclose(slope, np.full(3, 1 / 0.7), rtol=1e-10)

    def shifted(u, c):
        out = np.zeros_like(u)
        out[1:] = c * u[:-1]
        return 2 * u + out

    check_grads(lambda c: pdl.linear_solve(lambda u: shifted(u, c), a), (0.7,))


def test_single_precision_numbers_and_layouts():
    x0 = np.ones(3, np.float32)
    f = lambda b: pdl.root(lambda x, b: x**3 + x - b, x0, b)  # noqa: E731
    b = np.arange(3, dtype=np.float32)
    assert f(b).dtype == pdl.grad(lambda b: f(b).sum())(b).dtype == np.float32
    check_grads(f, (b,))
    assert type(pdl.root(lambda x: x * x - 2.0, 1.0)) is float
    assert pdl.root(lambda x: x * x - 2.0, np.ones(())).shape == ()
    x0 = np.ones((4, 4), order="F")[::2, 1::2].T
    x0.flags.writeable = False
    g = pdl.grad(lambda a: pdl.root(lambda x: x * x - a, x0).sum())(np.full((2, 2), 4.0))
    np.testing.assert_allclose(g, np.full((2, 2), 0.25), rtol=1e-12)
    assert pdl.root(lambda x: x, np.zeros((0, 2))).shape == (0, 2)
    assert pdl.root(lambda x: x, ()) == ()
    assert pdl.grad(lambda a: a + pdl.root(lambda x: x * a, np.zeros(0)).sum())(2.0) == 1.0


def test_constants_have_no_derivative():
    slopes = pdl.grad(
        lambda x0, a, unused: pdl.root(lambda x, a, n, _: x**n - a, x0, a, 2, unused), (0, 1, 2)
    )
    assert slopes(1.0, 4.0, np.ones(2))[0] == 0.0  # of the starting point, as documented
    assert slopes(1.0, 4.0, np.ones(2))[1] == pytest.approx(0.25)
    np.testing.assert_array_equal(slopes(1.0, 4.0, np.ones(2))[2], np.zeros(2))
    assert type(pdl.vjp(lambda a: pdl.root(lambda x: x * x - 2.0, 1.0), 1.0)[0]) is float


def test_a_cotangent_that_is_not_finite_stays_so():
    pullback = pdl.vjp(lambda a: pdl.root(lambda x: x * x - a, np.ones(2)), np.ones(2))[1]
    assert np.all(np.isnan(pullback(np.array([np.nan, 1.0]))[0]))


# --- solvers ----------------------------------------------------------------------------------------------


def newton(f, x):
    for _ in range(20):
        x = x - np.linalg.solve(pdl.jacobian(f)(x), f(x))
    return x


SOLVERS = {
    "root": lambda f, x0: so.root(f, x0, tol=1e-13),
    "fsolve": lambda f, x0: so.fsolve(f, x0, xtol=1e-13),
    "least_squares": lambda f, x0: so.least_squares(f, x0, xtol=1e-14, ftol=1e-14, gtol=1e-14),
    "newton_krylov": lambda f, x0: so.newton_krylov(f, x0, f_tol=1e-12),
    "with derivatives of its own": newton,
    "hybr": "hybr",
    "lm": "lm",
    "krylov": "krylov",
}


@pytest.mark.parametrize("name", SOLVERS)
def test_solvers(name):
    slope = pdl.grad(lambda a, b: np.sum(np.cos(solved(a, b))), (0, 1))(0.7, B)

    def loss(a, b):  # a is captured, b is passed
        x = pdl.root(lambda x, b: coupled(x, a, b), np.zeros(4), b, solver=SOLVERS[name])
        return np.sum(np.cos(x))

    for got, expected in zip(pdl.grad(loss, (0, 1))(0.7, B), slope, strict=True):
        np.testing.assert_allclose(got, expected, rtol=2e-5)


def test_solvers_of_one_unknown():
    for solver in (
        lambda f, x0: so.brentq(f, 0.0, 5.0, xtol=1e-14),
        lambda f, x0: so.root_scalar(f, bracket=(0.0, 5.0), xtol=1e-14),
        lambda f, x0: so.newton(f, x0, tol=1e-14),
        lambda f, x0: so.root(f, x0, tol=1e-13),
    ):
        assert pdl.grad(lambda a, s=solver: pdl.root(lambda x: x**3 - a, 1.5, solver=s))(
            8.0
        ) == pytest.approx(1 / 12, rel=1e-8)


def test_a_solver_sees_plain_values_and_leaves_nothing_on_the_tape():
    seen = []

    def solver(f, x0, n):
        x = x0
        for _ in range(n):
            x = x - 0.1 * f(x)
            seen.append(x)
        return x

    def records(n):
        def f(a, b):
            return pdl.root(
                lambda x, a: coupled(x, a, b), np.zeros(4), a, solver=lambda f, x0: solver(f, x0, n)
            )

        pullback = pdl.vjp(f, 0.7, B)[1]
        pdl.jvp(f, (0.7, B), (1.0, B))
        return len(pullback.last.records)

    assert records(150) == records(300) < 60

    def in_place(f, x0):
        for _ in range(300):
            x0 -= 0.1 * f(x0)
        return x0

    start = np.zeros(4)
    again = pdl.root(coupled, start, 0.7, B, solver=in_place)
    np.testing.assert_allclose(again, solved(0.7, B), rtol=1e-9)
    np.testing.assert_array_equal(start, np.zeros(4))
    assert not any(isinstance(x, Dual) for x in seen)


def test_a_fixed_point_has_the_derivatives_of_its_iteration():
    def step(x, a, w):
        return np.tanh(w @ x + a)

    def unrolled(a, w):
        x = np.zeros(3)
        for _ in range(60):
            x = step(x, a, w)
        return np.sum(x**2)

    a, w = RNG.standard_normal(3), 0.2 * RNG.standard_normal((3, 3))
    expected = pdl.grad(unrolled, (0, 1))(a, w)
    second = pdl.hvp(lambda a: unrolled(a, w), a, np.ones(3))
    for solver in (None, "anderson", "iteration", lambda f, x0: so.fixed_point(f, x0, xtol=1e-13)):

        def implicit(a, w, solver=solver):
            return np.sum(pdl.fixed_point(step, np.zeros(3), a, w, solver=solver) ** 2)

        for got, wanted in zip(pdl.grad(implicit, (0, 1))(a, w), expected, strict=True):
            np.testing.assert_allclose(got, wanted, rtol=1e-8, atol=1e-11)
        np.testing.assert_allclose(pdl.hvp(lambda a, f=implicit: f(a, w), a, np.ones(3)), second, rtol=1e-7)


def test_anderson_finds_what_the_iteration_does_not():
    assert pdl.grad(lambda a: pdl.fixed_point(lambda x: a * x + 1.0, 0.0))(3.0) == pytest.approx(0.25)


@pytest.mark.parametrize("linear", ["auto", "cg"])
def test_a_minimum_against_the_normal_equations(linear):
    X, y = RNG.standard_normal((12, 3)), RNG.standard_normal(12)

    def fit(weight, y):
        return pdl.minimize(
            lambda w, y: np.sum((X @ w - y) ** 2) + weight * np.sum(w**2), np.zeros(3), y, linear=linear
        )

    def closed(weight, y):
        return np.linalg.solve(X.T @ X + weight * np.eye(3), X.T @ y)

    loss = lambda f: lambda weight, y: np.sum(f(weight, y) ** 3)  # noqa: E731
    np.testing.assert_allclose(fit(0.3, y), closed(0.3, y), rtol=1e-9)
    for got, expected in zip(
        pdl.grad(loss(fit), (0, 1))(0.3, y), pdl.grad(loss(closed), (0, 1))(0.3, y), strict=True
    ):
        np.testing.assert_allclose(got, expected, rtol=1e-7, atol=1e-9)
    got = pdl.hvp(lambda w: loss(fit)(w, y), 0.3, 1.0)
    assert got == pytest.approx(pdl.hvp(lambda w: loss(closed)(w, y), 0.3, 1.0), rel=1e-6)


@pytest.mark.parametrize("solver", ["Nelder-Mead", "Newton-CG", "L-BFGS-B", lambda f, x0: so.minimize(f, x0)])
def test_minimizers(solver):
    def best(c, **options):
        return pdl.minimize(lambda x, c: np.sum((x - c) ** 4 + x**2) + x[0] * x[1], np.zeros(2), c, **options)

    c = np.array([0.5, 1.0])
    expected = pdl.jacobian(best)(c)
    np.testing.assert_allclose(
        pdl.jacobian(lambda c: best(c, solver=solver, tol=1e-3))(c), expected, rtol=1e-3
    )


def test_many_unknowns():
    # more than 200, so that iterations take the place of matrices: a chain with a source
    n = 300

    def chain(x, a):
        left, right = np.concatenate([[0.0], x[:-1]]), np.concatenate([x[1:], [0.0]])
        return (2 + a) * x + 0.1 * x**3 - 0.9 * left - 0.5 * right - 1

    def loss(a, **options):
        return np.sum(pdl.root(chain, np.zeros(n), a, **options))

    inverse = 8 * n * n  # bytes, which Dask must know of
    assert tape_bytes(pdl.vjp(lambda a: loss(a, linear="dense"), 0.5)[1].last) > inverse
    assert tape_bytes(pdl.vjp(loss, 0.5)[1].last) < inverse
    x = pdl.root(chain, np.zeros(n), 0.5)
    dense = pdl.jacobian(chain)(x, 0.5)
    assert pdl.grad(loss)(0.5) == pytest.approx(np.sum(np.linalg.solve(dense, -x)), rel=1e-7)
    c = np.linspace(-1, 1, n)
    best = lambda c: np.sum(pdl.minimize(lambda x: np.sum((x - c) ** 2 + 0.1 * x**4), np.zeros(n)))  # noqa: E731
    x = pdl.minimize(lambda x: np.sum((x - c) ** 2 + 0.1 * x**4), np.zeros(n))
    np.testing.assert_allclose(pdl.grad(best)(c), 2 / (2 + 1.2 * x**2), rtol=1e-6)


def test_a_matrix_where_iterations_do_not_converge(monkeypatch):
    def chain(x, a):
        return a * x + 0.1 * x**3 - 0.4 * np.roll(x, 1) - 1

    slope = pdl.grad(lambda a: np.sum(pdl.root(chain, np.zeros(201), a)))
    expected = slope(2.0)
    monkeypatch.setattr(krylov, "_iterated", lambda apply, b, method: np.zeros_like(b))
    assert slope(2.0) == pytest.approx(expected, rel=1e-9)
    with pytest.raises(pdl.errors.ParadualValueError, match="singular"):
        pdl.grad(lambda a: np.sum(pdl.root(chain, np.zeros(201), a, linear="lgmres")))(2.0)


# --- parallel programs ------------------------------------------------------------------------------------


def shot(a, k):
    x = pdl.root(lambda x: x**3 + x * k - a, np.ones(2), linear="gmres" if k == 2.0 else "auto")
    return np.sum(x**2)


def in_tasks(a):
    return sum(pdl.map(shot, [a * 1.0, a * a], [1.0, 2.0]))


def tasks_within(a):
    def residual(x):
        u, v = pdl.par(lambda: x**3, lambda: x * a)
        return u + v - 1.5

    return np.sum(pdl.root(residual, np.ones(2)) ** 2)


def test_inside_tasks_and_with_tasks_inside():
    a = np.array([1.0, 2.0])
    for f in (in_tasks, tasks_within):
        with pdl.executor("inline"):
            check_grads(f, (a,))
            gradient, hessian = pdl.grad(f)(a), pdl.hessian(f)(a)
        with pdl.executor("threads"):
            np.testing.assert_array_equal(pdl.grad(f)(a), gradient)
            np.testing.assert_array_equal(pdl.hessian(f)(a), hessian)
    x = delayed(np.copy)(a)
    total = delayed(sum)([delayed(shot)(x * 1.0, 1.0), delayed(shot)(x * x, 2.0)])
    slope = pdl.gradients(total, x)
    curvature = pdl.gradients(delayed(lambda g: g[0] + 2 * g[1])(slope), x)
    with pdl.executor("inline"):
        gradient, hessian = pdl.grad(in_tasks)(a), pdl.hessian(in_tasks)(a)
    np.testing.assert_allclose(slope.compute(scheduler="sync"), gradient, rtol=1e-13)
    np.testing.assert_allclose(curvature.compute(scheduler="sync"), hessian[0] + 2 * hessian[1], rtol=1e-12)


def test_on_workers():
    a = np.array([1.0, 2.0])

    def found():
        return pdl.grad(in_tasks)(a), pdl.hessian(in_tasks)(a), pdl.grad(tasks_within)(a)

    with pdl.executor("inline"):
        expected = found()
    with workers(1):
        for got, wanted in zip(found(), expected, strict=True):
            np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("linear", LINEAR)
def test_pullbacks_pickle(linear):
    out, pullback = pdl.vjp(lambda a, b: solved(a, b, linear=linear), 0.7, B)
    again = pickle.loads(pickle.dumps(pullback))
    for got, expected in zip(again(out), pullback(out), strict=True):
        np.testing.assert_array_equal(got, expected)
    own = lambda operator, b: np.linalg.solve(operator @ np.eye(b.size), b)  # noqa: E731
    out, pullback = pdl.vjp(lambda a, b: solved(a, b, linear=own), 0.7, B)
    again = pickle.loads(cloudpickle.dumps(pullback))
    for got, expected in zip(again(out), pullback(out), strict=True):
        np.testing.assert_array_equal(got, expected)


def test_checkpoints_and_custom_rules():
    check_grads(pdl.checkpoint(lambda a, b: pdl.root(lambda x: coupled(x, a, b), np.zeros(4))), (0.7, B))
    check_grads(  # around a part of the function, with what it needs as arguments
        lambda a: pdl.root(
            lambda x: pdl.checkpoint(lambda x, a: x**3 * a)(x, a) + x - 1.5, np.ones(2), linear="gmres"
        ),
        (np.array([1.0, 2.0]),),
    )

    def captured(a, linear):
        return np.sum(
            pdl.root(lambda x: pdl.checkpoint(lambda x: x**3 * a)(x) + x - 1.5, np.ones(2), linear=linear)
        )

    a = np.array([1.0, 2.0])
    expected = pdl.grad(lambda a: np.sum(pdl.root(lambda x: x**3 * a + x - 1.5, np.ones(2))))(a)
    np.testing.assert_allclose(pdl.grad(lambda a: captured(a, "dense"))(a), expected, rtol=1e-10)
    with pytest.raises(pdl.errors.LeakedDualError):  # where the system is not known as a matrix: never wrong
        pdl.grad(lambda a: captured(a, "gmres"))(a)
