"""from_jax and from_torch: what they share, with JAX, with PyTorch, and with a stand-in for JAX."""

from __future__ import annotations

import dataclasses
import sys
from types import ModuleType

import cloudpickle
import dask
import dask.array as da
import numpy as np
import pytest
from interop_helpers import functions, standin

import paradual as pdl
from paradual.errors import ParadualImportError, ParadualTypeError, ParadualValueError
from paradual.testing import check_grads

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # torch's own

A = np.array([0.5, 1.25, -2.0])
B = np.array([1.5, -0.75, 0.25])


@pytest.fixture(params=["standin", "jax", "torch"])
def lib(request, monkeypatch):
    if request.param == "standin":
        for name, module in standin().items():
            monkeypatch.setitem(sys.modules, name, module)
    else:
        pytest.importorskip(request.param)
    return functions(request.param)


@pytest.fixture
def f(lib):
    return lib.wrap(lambda x, y: lib.sin(x) * y * y)


def same(x, y):
    return np.sin(x) * y * y


# --- derivatives ------------------------------------------------------------------------------------------


def test_values_and_gradients(f):
    np.testing.assert_allclose(f(A, B), same(A, B), rtol=1e-15)
    assert type(f(A, B)) is np.ndarray
    assert f(A, B).flags.writeable
    gx, gy = pdl.grad(lambda x, y: np.sum(f(x, y)), (0, 1))(A, B)
    np.testing.assert_allclose(gx, np.cos(A) * B * B, rtol=1e-14)
    np.testing.assert_allclose(gy, 2 * np.sin(A) * B, rtol=1e-14)


def test_derivatives_of_derivatives(f):
    def loss(x, y):
        return np.sum(np.cos(f(x * x, np.exp(y))) * x)

    def by_numpy(x, y):
        return np.sum(np.cos(same(x * x, np.exp(y))) * x)

    check_grads(loss, (A, B))
    np.testing.assert_allclose(pdl.hessian(loss)(A, B), pdl.hessian(by_numpy)(A, B), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(pdl.hvp(loss, (A, B), (B, A)), pdl.hvp(by_numpy, (A, B), (B, A)), rtol=1e-12)


@pytest.mark.parametrize("orders", ["rrr", "rrf", "rfr", "frr", "rff", "frf", "ffr", "fff"])
def test_third_derivatives_in_any_nesting(lib, orders):
    def derivative(g, mode):
        return pdl.grad(g) if mode == "r" else lambda x: pdl.jvp(g, (x,), (1.0,))[1]

    g = lib.wrap(lambda x: lib.sin(x) * x * x)
    for mode in orders:
        g = derivative(g, mode)
    x = 0.7
    assert g(x) == pytest.approx(6 * np.cos(x) - 6 * x * np.sin(x) - x * x * np.cos(x), rel=1e-13)


def test_only_what_is_differentiated_gets_a_cotangent(f):
    np.testing.assert_allclose(pdl.grad(lambda x: np.sum(f(x, B)))(A), np.cos(A) * B * B, rtol=1e-14)
    _, tangent = pdl.jvp(lambda y: f(A, y), (B,), (A,))
    np.testing.assert_allclose(tangent, 2 * np.sin(A) * B * A, rtol=1e-14)


def test_pytrees_in_and_out(lib):
    @dataclasses.dataclass
    class State:
        position: object
        velocity: object

    def step(state, how, *, scale):
        moved = State(state.position + state.velocity * scale, lib.sin(state.velocity))
        return {"state": moved, "index": 3, "name": how["name"], "sum": [moved.position.sum(), None]}

    f = lib.wrap(step)
    state = State(A, B)
    out = f(state, {"name": "euler"}, scale=0.5)
    assert (out["index"], out["name"], out["sum"][1]) == (3, "euler", None)
    assert type(out["state"]) is State
    assert type(out["sum"][0]) is np.float64
    np.testing.assert_allclose(out["state"].position, A + 0.5 * B)

    def loss(state, scale):
        out = f(state, {"name": "euler"}, scale=scale)
        return np.sum(out["state"].velocity * out["state"].position) + out["sum"][0] * out["index"]

    check_grads(loss, (state, 0.5))
    gradient, slope = pdl.grad(loss, (0, 1))(state, 0.5)
    np.testing.assert_allclose(gradient.position, np.sin(B) + 3, rtol=1e-14)
    assert type(slope) is float
    assert slope == pytest.approx(np.sum(np.sin(B) * B) + 3 * np.sum(B))


def test_integers_and_booleans_are_constants(lib):
    f = lib.wrap(lambda x, i, on, n: (x[i] * n if on else x, i))
    i = np.array([2, 0])
    assert f(A, i, True, 3)[1].dtype.kind == "i"
    np.testing.assert_allclose(
        pdl.grad(lambda x: np.sum(f(x, i, True, 3)[0]) + np.sum(f(x, i, True, 3)[1]))(A), [3.0, 0.0, 3.0]
    )
    check_grads(lambda x: f(x, i, True, 3)[0], (A,))


def test_a_result_that_does_not_matter_has_no_part(lib):
    f = lib.wrap(lambda x: (x * x, x.sum()))
    np.testing.assert_allclose(pdl.grad(lambda x: np.sum(f(x)[0]))(A), 2 * A)
    np.testing.assert_allclose(pdl.grad(lambda x: f(x)[1])(A), np.ones(3))


def test_jacobian_and_kept_pullback(f):
    np.testing.assert_allclose(pdl.jacobian(lambda x: f(x, B))(A), np.diag(np.cos(A) * B * B), atol=1e-15)
    out, pullback = pdl.vjp(f, A, B)
    out[:] = 0
    first, second = pullback(A), pullback(B)
    np.testing.assert_allclose(first[0], A * np.cos(A) * B * B)
    np.testing.assert_allclose(second[0], B * np.cos(A) * B * B)


# --- dtypes and forms -------------------------------------------------------------------------------------


def test_precision_is_kept(f):
    for dtype, rtol in (("f8", 1e-14), ("f4", 1e-6)):
        x, y = A.astype(dtype), B.astype(dtype)
        assert f(x, y).dtype == dtype
        gradient = pdl.grad(lambda x, y=y: np.sum(f(x, y)))(x)
        assert gradient.dtype == dtype
        np.testing.assert_allclose(gradient, np.cos(A) * B * B, rtol=rtol)
        assert pdl.jvp(f, (x, y), (x, y))[1].dtype == dtype
    mixed = f(A.astype("f4"), B)
    assert mixed.dtype == float
    gradients = pdl.grad(lambda x, y: np.sum(f(x, y)), (0, 1))(A.astype("f4"), B)
    assert [g.dtype for g in gradients] == ["f4", "f8"]


def test_python_floats_take_the_precision_of_what_they_meet(f):
    x = A.astype("f4")
    assert f(x, 2.0).dtype == "f4"
    gx, gy = pdl.grad(lambda x, y: np.sum(f(x, y)), (0, 1))(x, 2.0)
    assert gx.dtype == "f4"
    assert type(gy) is float
    assert gy == pytest.approx(4 * np.sum(np.sin(A)), rel=1e-5)
    value, slope = pdl.value_and_grad(f)(0.3, 2.0)
    assert (value, slope) == (pytest.approx(4 * np.sin(0.3), rel=1e-15), pytest.approx(4 * np.cos(0.3)))
    assert type(slope) is float


def test_complex_numbers(lib):
    f = lib.wrap(lambda z, w: lib.sin(z) * w)
    z, w = A + 1j * B, B - 2j * A
    # of the real part of a holomorphic function the gradient df/dx - i df/dy is its derivative
    gradient = pdl.grad(lambda z: np.real(np.sum(f(z, w))))(z)
    np.testing.assert_allclose(gradient, np.cos(z) * w, rtol=1e-13)
    check_grads(f, (z, w))
    check_grads(f, (A, w))
    check_grads(lambda z: f(z, 2.0 + 1.0j), (z,))
    assert f(z.astype("c8"), 1j).dtype == "c8"


@pytest.mark.parametrize(
    "x",
    [
        np.array(0.5),
        np.float64(0.5),
        np.zeros((0, 2)),
        np.linspace(-1, 1, 12).reshape(3, 4)[::-1, ::2],
        np.asfortranarray(np.linspace(-1, 1, 6).reshape(2, 3)),
        np.array([0.5, 1.5], dtype=">f8"),
        np.broadcast_to(np.array([0.5, 1.5]), (3, 2)),  # read-only
    ],
    ids=["0-d", "scalar", "empty", "strided", "fortran", "bytes", "read-only"],
)
def test_arrays_of_all_layouts(f, x):
    np.testing.assert_allclose(f(x, 2.0), 4 * np.sin(x), rtol=1e-14)
    gradient = pdl.grad(lambda x: np.sum(f(x, 2.0)))(x)
    np.testing.assert_allclose(gradient, 4 * np.cos(x), rtol=1e-14)
    assert np.shape(gradient) == np.shape(x)


def test_nan_stays_nan(f):
    gradient = pdl.grad(lambda x: np.sum(f(x, B)))(np.array([np.nan, 0.5, np.inf]))
    np.testing.assert_array_equal(np.isnan(gradient), [True, False, True])


def test_views_that_are_written(f):
    def loss(x):
        y = x * 1
        view = y[:2]
        out = f(view, 2.0)
        y[0] = 3.0  # after the call
        return np.sum(out) + np.sum(f(view, 1.0))

    np.testing.assert_allclose(pdl.grad(loss)(A), [4 * np.cos(A[0]), 5 * np.cos(A[1]), 0.0])
    check_grads(loss, (A,))


# --- parallel programs ------------------------------------------------------------------------------------


def forked(f, x):
    parts = pdl.map(lambda k: np.sum(f(x * k, x)), [1.0, 2.0, 3.0])
    return sum(parts) * x[0]


def by_numpy(x):
    return sum(np.sum(same(x * k, x)) for k in (1.0, 2.0, 3.0)) * x[0]


@pytest.mark.parametrize("executor", ["inline", "threads"])
def test_in_tasks(f, executor):
    with pdl.executor(executor):
        gradient = pdl.grad(lambda x: forked(f, x))(A)
        second = pdl.hvp(lambda x: forked(f, x), A, B)
    np.testing.assert_allclose(gradient, pdl.grad(by_numpy)(A), rtol=1e-13)
    np.testing.assert_allclose(second, pdl.hvp(by_numpy, A, B), rtol=1e-13)


def test_functions_and_tapes_pickle(f):
    again = cloudpickle.loads(cloudpickle.dumps(f))
    np.testing.assert_array_equal(again(A, B), f(A, B))
    _, pullback = pdl.vjp(lambda x: f(x, B), A)
    pullback = cloudpickle.loads(cloudpickle.dumps(pullback))
    np.testing.assert_allclose(pullback(np.ones(3))[0], np.cos(A) * B * B, rtol=1e-14)


def test_in_checkpoints_and_custom_derivatives(f):
    np.testing.assert_allclose(
        pdl.grad(pdl.checkpoint(lambda x: np.sum(f(x, x))))(A), pdl.grad(lambda x: np.sum(same(x, x)))(A)
    )


@pytest.mark.parametrize("scheduler", ["sync", "threads"])
def test_in_dask_graphs(f, scheduler):
    x = da.from_array(np.linspace(0, 1, 8), chunks=4)
    gradient = pdl.gradients(x.map_blocks(f, 2.0, dtype=float).sum(), x)
    with dask.config.set(scheduler=scheduler):
        np.testing.assert_allclose(gradient.compute(), 4 * np.cos(np.linspace(0, 1, 8)))


@pytest.mark.parametrize("name", ["jax", "torch"])
def test_on_a_cluster(name):
    pytest.importorskip(name)
    from cluster_helpers import workers

    def wave(x, y):
        return functions(name).sin(x) * y * y

    f = (pdl.from_jax if name == "jax" else pdl.from_torch)(wave)
    with workers(2) as client, pdl.executor(client):
        gradient = pdl.grad(lambda x: forked(f, x))(A)
        second = pdl.hvp(lambda x: forked(f, x), A, B)
    np.testing.assert_allclose(gradient, pdl.grad(by_numpy)(A), rtol=1e-13)
    np.testing.assert_allclose(second, pdl.hvp(by_numpy, A, B), rtol=1e-13)


# --- what is refused --------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:__array_wrap__ must accept")  # that a tensor meets an array at all
def test_a_captured_value_is_refused(lib):
    def by_closure(make):
        return lambda x: np.sum(lib.wrap(lambda y: make(x, y))(np.ones(3)))

    for make in (
        lambda x, y: y * x,
        lambda x, y: x * y,
        lambda x, y: (lib.sin(y), x),
        lambda x, y: lib.sin(x),
        lambda x, y: lib.own(x),
        lambda x, y: {"a": [y, x[0]]},
    ):
        with pytest.raises((ParadualTypeError, TypeError)):
            pdl.grad(by_closure(make))(A)
        with pytest.raises((ParadualTypeError, TypeError)):
            pdl.jvp(by_closure(make), (A,), (B,))
    with pytest.raises(ParadualTypeError, match="pass it as an argument"):
        pdl.grad(by_closure(lambda x, y: (lib.sin(y), x)))(A)


def test_a_function_that_changes_is_refused(lib):
    calls = []

    def drifting(x):
        calls.append(x)
        return lib.sin(x) * float(len(calls))

    f = lib.wrap(drifting)
    with pytest.raises(ParadualValueError, match=r"drifting, a function of .* gave other results"):
        pdl.grad(lambda x: np.sum(f(x)))(A)
    with pytest.raises(ParadualValueError, match="gave other results"):
        pdl.jvp(f, (A,), (B,))

    def growing(x):
        calls.append(x)
        return [lib.sin(x)] * len(calls)

    with pytest.raises(ParadualValueError, match="gave other results"):
        pdl.jvp(lib.wrap(growing), (A,), (B,))
    with pytest.raises(ValueError, match=r"."):  # mostly the library's own
        pdl.grad(lambda x: np.sum(lib.wrap(growing)(x)[0]))(A)


def test_lost_precision_is_refused(lib):
    f = lib.wrap(lambda x: lib.narrow(lib.sin(x)))
    assert f(A.astype("f4")).dtype == "f4"
    for x in (A, 2.0):
        with pytest.raises(ParadualTypeError, match="returned float32 for arguments of float64"):
            f(x)
        with pytest.raises(ParadualTypeError, match="lower precision"):
            pdl.grad(lambda x: np.sum(f(x)))(x)


@pytest.mark.parametrize(
    "result", [1.5, np.ones(3), object(), 2j], ids=["float", "array", "object", "complex"]
)
def test_results_that_the_library_does_not_know_are_refused(lib, result):
    with pytest.raises(ParadualTypeError, match=f"must be arrays of {lib.name}"):
        lib.wrap(lambda x: (x, result))(A)


@pytest.mark.parametrize(
    ("x", "cure"),
    [
        (np.ma.masked_array(A, A > 1), "plain array"),
        (A[None].view(np.matrix), "plain array"),
        (da.ones(3), "map_blocks"),
        (dask.delayed(A), "delayed"),
    ],
    ids=["masked", "matrix", "dask", "delayed"],
)
def test_arguments_that_it_cannot_hold_are_refused(lib, x, cure):
    with pytest.raises(ParadualTypeError, match=cure):
        lib.wrap(lambda x: lib.sin(x))(x)


def test_labelled_arrays_are_refused(lib):
    xr = pytest.importorskip("xarray")
    with pytest.raises(ParadualTypeError, match=r"x\.values"):
        lib.wrap(lambda x: lib.sin(x))(xr.DataArray(A))


def test_errors_of_the_function_are_the_users(lib):
    def broken(x):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        pdl.grad(lambda x: np.sum(lib.wrap(broken)(x)))(A)


@pytest.mark.parametrize(("wrap", "name"), [(pdl.from_jax, "jax"), (pdl.from_torch, "torch")])
def test_a_missing_package_is_named_with_its_command(wrap, name, monkeypatch):
    class Missing:
        def find_spec(self, module, path=None, target=None):
            if module == name:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "meta_path", [Missing(), *sys.meta_path])
    with pytest.raises(ParadualImportError, match=rf'pip install "paradual\[{name}\]"') as found:
        wrap(np.sin)
    assert isinstance(found.value, ImportError)


@pytest.mark.parametrize("wrap", [pdl.from_jax, pdl.from_torch])
def test_only_functions_are_wrapped(wrap):
    with pytest.raises(ParadualTypeError, match="needs a function, not a ndarray"):
        wrap(A)


def test_it_looks_like_the_function(lib):
    def wave(x, speed=2.0):
        """A wave."""
        return lib.sin(x) * speed

    f = lib.wrap(wave)
    assert (f.__name__, f.__doc__) == ("wave", "A wave.")
    np.testing.assert_allclose(f(A), 2 * np.sin(A))


# --- CuPy -------------------------------------------------------------------------------------------------


def test_cupy_arrays_go_and_come_by_dlpack(lib, monkeypatch):
    # a stand-in: NumPy's arrays under CuPy's name
    class ndarray(np.ndarray):
        __module__ = "cupy"

    cupy = ModuleType("cupy")
    taken = []

    def from_dlpack(x):
        taken.append(type(x))
        return (np.array(x) if "interop_helpers" in type(x).__module__ else np.from_dlpack(x)).view(ndarray)

    cupy.from_dlpack = from_dlpack
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    if hasattr(sys.modules.get("jax"), "scopes"):  # the stand-in of JAX
        sys.modules["jax.numpy"].from_dlpack = lambda x: lib.own(np.asarray(x))
    out = lib.wrap(lambda x: (lib.sin(x), x.sum()))(A.view(ndarray))
    assert [type(part) for part in out] == [ndarray, ndarray]
    assert len(taken) == 2
    assert out[1].shape == ()
    np.testing.assert_allclose(np.asarray(out[0]), np.sin(A))
