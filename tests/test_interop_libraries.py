"""What is particular to JAX and to PyTorch: precision, conventions, and what goes wrong there."""

from __future__ import annotations

import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import cloudpickle
import numpy as np
import pytest
from helpers import difference_quotient

import paradual as pdl
from paradual.errors import ParadualTypeError, ParadualValueError
from paradual.testing import check_grads

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # torch's own

A = np.array([0.5, 1.25, -2.0])
B = np.array([1.5, -0.75, 0.25])
Z = A + 1j * B


@pytest.fixture
def jax():
    return pytest.importorskip("jax")


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


# --- JAX ------------------------------------------------------------------------------------------------


def test_jax_double_precision_is_scoped(jax):
    before = jax.config.jax_enable_x64, jax.numpy.ones(1).dtype
    f = pdl.from_jax(jax.jit(lambda x: jax.numpy.sum(jax.numpy.exp(x) * jax.numpy.arange(3.0))))
    value, gradient = pdl.value_and_grad(f)(A)
    assert value.dtype == gradient.dtype == float
    np.testing.assert_allclose(gradient, np.exp(A) * np.arange(3), rtol=1e-15)
    assert (jax.config.jax_enable_x64, jax.numpy.ones(1).dtype) == before
    with pytest.raises(KeyError):
        pdl.grad(pdl.from_jax(lambda x: {}["missing"]))(A)
    assert (jax.config.jax_enable_x64, jax.numpy.ones(1).dtype) == before


def test_jax_single_precision_stays(jax):
    f = pdl.from_jax(lambda x: jax.numpy.exp(x) * jax.numpy.arange(3.0))
    assert f(A.astype("f4")).dtype == "f4"
    assert pdl.jvp(f, (A.astype("f4"),), (A.astype("f4"),))[1].dtype == "f4"


def test_jax_jitted_functions(jax):
    f = pdl.from_jax(
        jax.jit(lambda x, y: jax.numpy.linalg.solve(jax.numpy.outer(x, x) + jax.numpy.eye(3), y))
    )
    np.testing.assert_allclose(f(A, B), np.linalg.solve(np.outer(A, A) + np.eye(3), B))
    check_grads(f, (A, B))
    again = cloudpickle.loads(cloudpickle.dumps(f))
    np.testing.assert_array_equal(again(A, B), f(A, B))


def test_jax_control_flow(jax):
    def many(x):
        return jax.lax.fori_loop(0, 5, lambda k, y: jax.numpy.sin(y) * x, x)

    def by_numpy(x):
        y = x
        for _ in range(5):
            y = np.sin(y) * x
        return y

    np.testing.assert_allclose(
        pdl.grad(lambda x: np.sum(pdl.from_jax(many)(x)))(A), pdl.grad(lambda x: np.sum(by_numpy(x)))(A)
    )


def test_jax_derivatives_within(jax):
    f = pdl.from_jax(jax.grad(lambda x: jax.numpy.sum(x**4)))
    np.testing.assert_allclose(pdl.jacobian(f)(A), np.diag(12 * A**2))


def test_jax_large_integers_are_not_cut(jax):
    f = pdl.from_jax(lambda x, i: (x, i))
    i = np.array([2**40])
    np.testing.assert_array_equal(f(A, i)[1], i)
    with pytest.raises(ParadualTypeError, match="32 bits"):
        f(A.astype("f4"), i)
    np.testing.assert_array_equal(f(A.astype("f4"), np.array([7]))[1], [7])


@pytest.mark.parametrize("dtype", [np.longdouble, np.clongdouble])
def test_jax_has_no_long_doubles(jax, dtype):
    with pytest.raises(ParadualTypeError, match="cast it to float64"):
        pdl.from_jax(lambda x: x)(A.astype(dtype))


def test_jax_results_that_numpy_lacks(jax):
    for make in (lambda x: x.astype(jax.numpy.bfloat16), lambda x: jax.random.key(0)):
        with pytest.raises(ParadualTypeError, match="NumPy does not have"):
            pdl.from_jax(make)(A)


def test_jax_complex_numbers_by_finite_differences(jax):
    f = pdl.from_jax(lambda z: jax.numpy.abs(z) ** 2 * jax.numpy.real(jax.numpy.exp(z)))

    def by_numpy(z):
        return np.abs(z) ** 2 * np.real(np.exp(z))

    np.testing.assert_allclose(
        pdl.grad(lambda z: np.sum(f(z)))(Z), difference_quotient(by_numpy, Z), rtol=1e-7, atol=1e-7
    )


def test_jax_numpy_inside_is_refused(jax):
    f = pdl.from_jax(lambda x: jax.numpy.asarray(np.sin(x)))
    with pytest.raises(jax.errors.TracerArrayConversionError):
        pdl.grad(lambda x: np.sum(f(x)))(A)


# --- PyTorch --------------------------------------------------------------------------------------------


def test_torch_complex_numbers_by_finite_differences(torch):
    f = pdl.from_torch(lambda z: torch.abs(z) ** 2 * torch.real(torch.exp(z)))

    def by_numpy(z):
        return np.abs(z) ** 2 * np.real(np.exp(z))

    wanted = difference_quotient(by_numpy, Z)
    np.testing.assert_allclose(pdl.grad(lambda z: np.sum(f(z)))(Z), wanted, rtol=1e-7, atol=1e-7)
    z = torch.tensor(Z, requires_grad=True)  # torch's own gradient is the conjugate
    (torch.abs(z) ** 2 * torch.real(torch.exp(z))).sum().backward()
    np.testing.assert_allclose(z.grad.numpy().conj(), wanted, rtol=1e-7, atol=1e-7)
    check_grads(pdl.from_torch(lambda z: torch.exp(z) * z.conj() * torch.abs(z)), (Z,))
    check_grads(pdl.from_torch(lambda z: z.conj()), (Z,))  # a lazy conjugate


def test_torch_modules(torch):
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1)).double()
    f = pdl.from_torch(model)
    check_grads(f, (A,))
    assert all(p.grad is None for p in model.parameters())
    np.testing.assert_array_equal(cloudpickle.loads(cloudpickle.dumps(f))(A), f(A))
    x = torch.tensor(A, requires_grad=True)
    model(x).sum().backward()
    np.testing.assert_allclose(pdl.grad(lambda x: np.sum(f(x)))(A), x.grad.numpy(), rtol=1e-14)


def test_torch_parameters_as_arguments(torch):
    model = torch.nn.Linear(3, 2).double()
    f = pdl.from_torch(lambda parameters, x: torch.func.functional_call(model, parameters, (x,)))
    parameters = {name: p.detach().numpy().copy() for name, p in model.named_parameters()}
    check_grads(f, (parameters, A))
    gradient = pdl.grad(lambda p: np.sum(f(p, A)))(parameters)
    np.testing.assert_allclose(gradient["weight"], np.broadcast_to(A, (2, 3)))
    np.testing.assert_allclose(gradient["bias"], np.ones(2))


def test_torch_dropout_is_refused(torch):
    model = torch.nn.Sequential(torch.nn.Linear(3, 64), torch.nn.Dropout(0.5)).double()
    f = pdl.from_torch(model)
    with pytest.raises(ParadualValueError, match=r"module\.eval\(\)"):
        pdl.grad(lambda x: np.sum(f(x)))(A)
    with pytest.raises(ParadualValueError, match=r"module\.eval\(\)"):
        pdl.jvp(f, (A,), (B,))
    model.eval()
    check_grads(f, (A,))


def test_torch_detached_results_are_refused(torch):
    def slope(x):  # without create_graph
        x = x.detach().requires_grad_()
        return torch.autograd.grad((x**3).sum(), x)[0]

    def unrecorded(x):
        with torch.no_grad():
            return x * 2

    for made in (slope, unrecorded, lambda x: torch.sin(x.detach()), lambda x: torch.ones(3).double()):
        f = pdl.from_torch(made)
        f(A)
        with pytest.raises(ParadualTypeError, match="detached"):
            pdl.grad(lambda x, f=f: np.sum(f(x) * x))(A)
        if made is unrecorded:  # which holds for reverse mode only
            np.testing.assert_allclose(pdl.jvp(f, (A,), (B,))[1], 2 * B)
        else:
            with pytest.raises((ParadualTypeError, RuntimeError)):
                pdl.jvp(f, (A,), (B,))
        with pytest.raises((ParadualTypeError, RuntimeError)):
            pdl.hvp(lambda x, f=f: np.sum(f(x) * x * x), A, B)
    f = pdl.from_torch(lambda x: (torch.sum(x * x), torch.sum(x.detach())))  # the second is only looked at
    np.testing.assert_allclose(pdl.grad(lambda x: f(x)[0])(A), 2 * A)
    with pytest.raises(ParadualTypeError, match=r"result 1 .* function of its own"):
        pdl.jvp(lambda x: f(x)[0], (A,), (B,))  # forward mode cannot know that


def test_torch_results_of_constant_arguments_are_constant(torch):
    f = pdl.from_torch(lambda x, y: (torch.sin(x), torch.cos(y)))
    np.testing.assert_allclose(pdl.grad(lambda x: np.sum(f(x, B)[0] * f(x, B)[1]))(A), np.cos(A) * np.cos(B))
    np.testing.assert_allclose(pdl.jvp(lambda x: f(x, B)[1], (A,), (B,))[1], np.zeros(3))


def test_torch_derivatives_within(torch):
    def force(x):
        (g,) = torch.autograd.grad((x**4).sum(), x, create_graph=True)
        return g

    f = pdl.from_torch(lambda x: force(x if x.requires_grad else x.requires_grad_()))
    np.testing.assert_allclose(f(A), 4 * A**3)
    np.testing.assert_allclose(pdl.grad(lambda x: np.sum(f(x)))(A), 12 * A**2)
    np.testing.assert_allclose(pdl.grad(lambda x: np.sum(pdl.grad(lambda x: np.sum(f(x)))(x)))(A), 24 * A)


def test_torch_functions_with_derivatives_of_their_own(torch):
    class Cube(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x**3

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return 3 * x**2 * g

    f = pdl.from_torch(Cube.apply)
    np.testing.assert_allclose(pdl.grad(lambda x: np.sum(f(x)))(A), 3 * A**2)
    np.testing.assert_allclose(pdl.grad(lambda x: np.sum(pdl.grad(lambda x: np.sum(f(x)))(x)))(A), 6 * A)
    with pytest.raises(RuntimeError, match="setup_context"):
        pdl.jvp(f, (A,), (B,))


def test_torch_forward_mode_in_two_threads(torch):
    first, second = threading.Event(), threading.Event()

    def begins(x):
        first.set()
        second.wait(0.2)  # in vain: PyTorch cannot have both at once
        return torch.sin(x)

    def follows(x):
        second.set()
        return torch.cos(x)

    def later():
        assert first.wait(60)
        return pdl.jvp(pdl.from_torch(follows), (A,), (B,))[1]

    first.clear()
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(later)
        f = pdl.from_torch(begins)
        np.testing.assert_allclose(pdl.jvp(f, (A,), (B,))[1], np.cos(A) * B)
        np.testing.assert_allclose(other.result(), -np.sin(A) * B)


def test_torch_modes_of_the_caller_do_not_matter(torch):
    f = pdl.from_torch(lambda x: (x**3).sum())
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            np.testing.assert_allclose(pdl.grad(f)(A), 3 * A**2)
            np.testing.assert_allclose(pdl.hvp(f, A, B), 6 * A * B)
            assert not torch.is_grad_enabled()


def test_torch_cannot_write_into_the_callers_array(torch):
    def overwrites(x):
        x *= 2
        return x.sum()

    x = A.copy()
    assert pdl.from_torch(overwrites)(x) == 2 * A.sum()
    np.testing.assert_array_equal(x, A)
    with pytest.raises(RuntimeError, match="in-place"):
        pdl.grad(pdl.from_torch(overwrites))(x)
    kept = torch.zeros(3).double()
    out = pdl.from_torch(lambda x: kept)(A)
    out[:] = 1.0
    assert kept.sum() == 0


@pytest.mark.parametrize("dtype", [np.longdouble, np.clongdouble])
def test_torch_has_no_long_doubles(torch, dtype):
    with pytest.raises(ParadualTypeError, match="cast it to float64"):
        pdl.from_torch(lambda x: x)(A.astype(dtype))


def test_torch_results_that_numpy_lacks(torch):
    with pytest.raises(ParadualTypeError, match=r"dtype torch\.bfloat16, which NumPy does not have"):
        pdl.from_torch(lambda x: x.bfloat16())(A)


def test_a_program_of_both(jax, torch):
    f = pdl.from_jax(lambda x: jax.numpy.sin(x) * x)
    g = pdl.from_torch(lambda x: torch.exp(x) * x)

    def loss(x):
        a, b = pdl.par(lambda: f(g(x)), lambda: g(f(x)))
        return np.sum(a * b * x)

    def by_numpy(x):
        def f(x):
            return np.sin(x) * x

        def g(x):
            return np.exp(x) * x

        return np.sum(f(g(x)) * g(f(x)) * x)

    np.testing.assert_allclose(pdl.grad(loss)(A), pdl.grad(by_numpy)(A), rtol=1e-12)
    np.testing.assert_allclose(pdl.hvp(loss, A, B), pdl.hvp(by_numpy, A, B), rtol=1e-12)


def doubled(x):
    return x + x


def test_functions_of_modules_pickle_by_name(torch):
    f = pdl.from_torch(doubled)
    _, pullback = pdl.vjp(f, A)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(pullback))(B)[0], 2 * B)
