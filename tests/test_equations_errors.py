"""What `root`, `fixed_point`, `minimize` and `linear_solve` refuse, and how."""

import sys

import dask.array as da
import numpy as np
import pytest
import scipy.optimize as so
from helpers import nothing_is_left_behind  # noqa: F401

import paradual as pdl
from paradual.errors import ParadualImportError, ParadualTypeError, ParadualValueError


def square(x, a):
    return x**2 - a


def root(**options):
    return lambda a: np.sum(pdl.root(options.pop("fn", square), options.pop("x0", np.ones(2)), a, **options))


def result(success):
    return lambda f, x0: so.OptimizeResult(x=np.sqrt(2) * np.ones(2), success=success, message="tired")


ROOTS = {
    "no root": ({"fn": lambda x, a: x**2 + a}, ParadualValueError, "has not converged"),
    "stopped early": ({"solver": lambda f, x0: x0 * 1.4}, ParadualValueError, "largest element of fn"),
    "says no": ({"solver": result(False)}, ParadualValueError, "says that it has not converged: tired"),
    "nan": ({"solver": lambda f, x0: x0 * np.nan}, ParadualValueError, "not finite"),
    "shape of the solver": ({"solver": lambda f, x0: np.ones(3)}, ParadualValueError, "shape"),
    "nothing from the solver": ({"solver": lambda f, x0: None}, ParadualValueError, "NoneType"),
    "complex from the solver": ({"solver": lambda f, x0: 1j * x0}, ParadualTypeError, "complex"),
    "a double root": ({"fn": lambda x, a: (x - a) ** 2}, ParadualValueError, "singular"),
    "dependent": (
        {"fn": lambda x, a: np.stack([x[0] + x[1] - a, 2 * (x[0] + x[1] - a)])},
        ParadualValueError,
        "singular",
    ),
    "dependent, without a matrix": (
        {"fn": lambda x, a: np.stack([x[0] + x[1] - a, 2 * (x[0] + x[1] - a)]), "linear": "gmres"},
        ParadualValueError,
        "singular",
    ),
    "an infinite slope": (
        {"fn": lambda x, a: np.sqrt(np.abs(x - a)), "solver": lambda f, x0: np.full(2, 2.0)},
        ParadualValueError,
        "not finite at its solution",
    ),
    "shape": ({"fn": lambda x, a: x[:1] - a}, ParadualValueError, "one equation for each unknown"),
    "structure": ({"fn": lambda x, a: [x - a]}, ParadualValueError, "one equation for each unknown"),
    "integers": ({"fn": lambda x, a: np.zeros(2, int)}, ParadualTypeError, "floating-point"),
    "complex equations": ({"fn": lambda x, a: x * 1j - a}, ParadualTypeError, "complex values where x0"),
    "real equations": ({"fn": lambda x, a: np.real(x) - a, "x0": 1j}, ParadualTypeError, "real values where"),
    "x0 of integers": ({"x0": np.ones(2, int)}, ParadualTypeError, "dtype int64"),
    "x0 an integer": ({"x0": 1}, ParadualTypeError, "1.0 instead of 1"),
    "x0 text": ({"x0": "a"}, ParadualTypeError, "x0"),
    "x0 of objects": ({"x0": np.array([None])}, ParadualTypeError, "x0"),
    "x0 masked": ({"x0": np.ma.ones(2)}, ParadualTypeError, "MaskedArray"),
    "a name": ({"solver": "newton"}, ParadualValueError, "no solver 'newton'"),
    "a number": ({"solver": 3}, ParadualTypeError, "solver=3"),
    "a linear solver": ({"linear": "lu"}, ParadualValueError, "no linear solver 'lu'"),
    "tol": ({"tol": 2.0}, ParadualValueError, "tol=2.0"),
    "a linear solver's shape": ({"linear": lambda A, b: b[:1]}, ParadualValueError, "unknowns"),
    "a linear solver's error": ({"linear": lambda A, b: b}, ParadualValueError, "random right-hand side"),
}


@pytest.mark.parametrize("name", ROOTS)
def test_roots(name):
    options, error, message = ROOTS[name]
    with np.errstate(all="ignore"), pytest.raises(error, match=message):
        pdl.grad(root(**dict(options)))(2.0)
    with np.errstate(all="ignore"), pytest.raises(error, match=message):
        pdl.jvp(root(**dict(options)), (2.0,), (1.0,))


@pytest.mark.parametrize("linear", ["dense", "gmres"])
def test_an_equation_in_small_units(linear):
    # its residual is small everywhere, the solution is not there
    f = root(fn=lambda x, a: 1e-9 * square(x, a), solver=lambda f, x0: x0 * 1.3, linear=linear)
    with pytest.raises(ParadualValueError, match="from the solution"):
        pdl.grad(f)(2.0)


def test_other_errors():
    with pytest.raises(ParadualValueError, match="fixed_point: the solver has not converged"):
        pdl.grad(lambda a: pdl.fixed_point(lambda x: a * x + 1.0, 1.0, solver="iteration"))(3.0)
    with pytest.raises(ParadualValueError, match="choose 'anderson'"):
        pdl.fixed_point(np.cos, 1.0, solver="newton")
    with pytest.raises(ParadualValueError, match="saddle point"):
        pdl.grad(
            lambda a: np.sum(
                pdl.minimize(
                    lambda x: x[0] ** 2 - x[1] ** 2 + a * x[0],
                    np.zeros(2),
                    solver=lambda f, x0: np.array([-1.0, 0]),
                )
            )
        )(2.0)
    with pytest.raises(ParadualValueError, match="the gradient of fn is"):  # where a bound is active
        pdl.grad(lambda a: pdl.minimize(lambda x: (x - a) ** 2, 0.0, solver=lambda f, x0: 1.0))(2.0)
    with pytest.raises(ParadualTypeError, match="two real arrays"):
        pdl.minimize(lambda x: np.abs(x) ** 2, 1j)
    with pytest.raises(ParadualValueError, match="no solver 'adam'"):
        pdl.minimize(lambda x: x**2, 1.0, solver="adam")
    with pytest.raises(ParadualTypeError, match="real number"):
        pdl.minimize(lambda x: (x, x), 1.0)
    for call in (
        lambda: pdl.root(square, 1.0, da.ones(2)),
        lambda: pdl.fixed_point(square, da.ones(2), 1.0),
        lambda: pdl.linear_solve(lambda u: u, da.ones(2)),
    ):
        with pytest.raises(ParadualTypeError, match="Dask"):
            call()


LINEAR = {
    "affine": (lambda u, a: u * a + 1, {}, ParadualValueError, "not zero at zero"),
    "not linear": (lambda u, a: u * u * a, {}, ParadualValueError, "not linear"),
    "not symmetric": (lambda u, a: u + a * np.roll(u, 1), {"solver": "cg"}, ParadualValueError, "symmetric"),
    "singular": (lambda u, a: np.stack([a * u[0], 0 * u[1], u[2]]), {}, ParadualValueError, "did not solve"),
    "singular, dense": (
        lambda u, a: np.stack([a * u[0], 0 * u[1], u[2]]),
        {"solver": "dense"},
        ParadualValueError,
        "singular",
    ),
    "shape": (lambda u, a: u[:1] * a, {}, ParadualValueError, "b's structure"),
    "kind": (lambda u, a: u * (a + 1j), {}, ParadualValueError, "real or complex"),
    "nan": (lambda u, a: u * a * np.nan, {}, ParadualValueError, "not finite"),
    "integers": (lambda u, a: u * a, {"b": np.ones(3, int)}, ParadualTypeError, "b has dtype int64"),
    "b is nan": (lambda u, a: u * a, {"b": np.full(3, np.nan)}, ParadualValueError, "b is not finite"),
    "name": (lambda u, a: u * a, {"solver": "lu"}, ParadualValueError, "no linear solver"),
}


@pytest.mark.parametrize("name", LINEAR)
def test_linear_systems(name):
    matvec, options, error, message = LINEAR[name]
    options = dict(options)
    b = options.pop("b", np.ones(3))
    with pytest.raises(error, match=message):
        pdl.grad(lambda a: np.sum(pdl.linear_solve(lambda u: matvec(u, a), b, **options)))(2.0)


def test_an_iteration_that_ends_too_early():
    scale = np.arange(1.0, 501.0)
    with pytest.raises(ParadualValueError, match="maxiter"):
        pdl.linear_solve(lambda u: u * scale, np.ones(500), solver="cg", maxiter=5)
    # the solution is a unit vector, found at once; those of the reverse pass are not
    b = np.eye(500)[0]

    def solution(maxiter):
        return pdl.vjp(
            lambda a: pdl.linear_solve(lambda u: u * scale * a, b, solver="cg", maxiter=maxiter), 1.0
        )

    with pytest.raises(ParadualValueError, match="random right-hand side"):
        solution(5)
    out, pullback = solution(100)
    np.testing.assert_allclose(out, b)
    with pytest.raises(ParadualValueError, match="cg did not solve"):
        pullback(np.ones(500))


def test_a_singular_system_that_has_solutions():
    # the tangent of the residual is in the range of the Jacobian: there are many tangents of x, not one
    f = root(fn=lambda x, a: np.stack([x[0] + x[1] - a, 2 * (x[0] + x[1] - a)]), linear="gmres")
    with pytest.raises(ParadualValueError, match="singular"):
        pdl.jvp(f, (2.0,), (1.0,))
    n = 250  # a chain with free ends

    def chain(x, a):
        d = x[1:] - x[:-1]
        return np.concatenate([d, [0.0]]) - np.concatenate([[0.0], d]) + a * np.sin(np.arange(n)) * 0

    with pytest.raises(ParadualValueError, match="singular"):
        pdl.grad(lambda a: np.sum(pdl.root(chain, np.zeros(n), a, solver=lambda f, x0: x0, linear="cg")))(1.0)


def test_without_scipy(monkeypatch):
    for name in ("optimize", "sparse.linalg"):
        monkeypatch.setitem(sys.modules, f"scipy.{name}", None)
    for call in (
        lambda: pdl.root(square, 1.0, 2.0),
        lambda: pdl.minimize(lambda x: x**2, 1.0),
        lambda: pdl.linear_solve(lambda u: 2 * u, np.ones(2)),
    ):
        with pytest.raises(ParadualImportError, match="pip install scipy"):
            call()
    own = lambda f, x0: np.sqrt(2.0) * x0  # noqa: E731
    slope = pdl.grad(lambda a: np.sum(pdl.root(square, np.ones(2), a, solver=own)))
    assert slope(2.0) == pytest.approx(1 / np.sqrt(2))
    assert pdl.grad(lambda a: pdl.fixed_point(lambda x: np.cos(a * x), 1.0))(1.0) < 0
    np.testing.assert_allclose(pdl.linear_solve(lambda u: 2 * u, np.ones(2), solver="dense"), 0.5)
