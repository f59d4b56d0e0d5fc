"""Whole programs on a real device: what they give on the host."""

import dask
import numpy as np
import pytest
from device_programs import COLLECTIONS, PARALLEL, SERIAL, X, collections

import paradual as pdl
from paradual.trees import flatten

from .benchmark import device

pytestmark = pytest.mark.gpu
cupy = pytest.importorskip("cupy")
if device(dry=False) is None:
    pytest.skip("there is no CUDA device", allow_module_level=True)


def equal(got, expected):
    for a, b in zip(flatten(got)[0], flatten(expected)[0], strict=True):
        assert isinstance(a, cupy.ndarray) or not isinstance(b, np.ndarray)
        np.testing.assert_allclose(cupy.asnumpy(a), b, rtol=1e-8, atol=1e-10)


MODES = {
    "grad": pdl.grad,
    "jvp": lambda f: lambda x: pdl.jvp(f, (x,), (x + 1.0,)),
    "hessian": pdl.hessian,
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("f", SERIAL, ids=lambda f: f.__name__)
def test_a_program_on_a_gpu(f, mode):
    equal(MODES[mode](f)(cupy.asarray(X)), MODES[mode](f)(X))


@pytest.mark.parametrize("executor", ["inline", "threads"])
@pytest.mark.parametrize("f", PARALLEL, ids=lambda f: f.__name__)
def test_tasks_on_a_gpu(f, executor):
    with pdl.executor(executor):
        equal(pdl.grad(f)(cupy.asarray(X)), pdl.grad(f)(X))


@pytest.mark.parametrize("f", COLLECTIONS, ids=lambda f: f.__name__)
def test_a_dask_array_with_chunks_on_a_gpu(f):
    at_home, away = collections(lambda block: pdl.to_device(block, "cuda"))
    got = dask.compute(pdl.value_and_gradients(f(*away), list(away)))
    equal(got, dask.compute(pdl.value_and_gradients(f(*at_home), list(at_home))))


def test_there_and_back_on_a_gpu():
    g = pdl.grad(lambda x: pdl.to_device(np.sum(np.sin(pdl.to_device(x, "cuda"))), "cpu"))(X)
    assert type(g) is np.ndarray
    np.testing.assert_allclose(g, np.cos(X), rtol=1e-12)


def test_a_gradient_on_a_gpu_does_not_wait():
    import cupyx

    x = cupy.asarray(X)
    pdl.grad(lambda x: np.sum(np.sin(x) * x))(x)  # kernels are compiled
    with cupyx.allow_synchronize(False):
        pdl.grad(lambda x: np.sum(np.sin(x) * x))(x)
