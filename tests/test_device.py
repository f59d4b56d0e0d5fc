"""`to_device`, what it refuses, and that the stand-in for a device is as strict as CuPy."""

import pickle
import sys

import cupy_api
import dask.array as da
import fake_cupy
import numpy as np
import pytest
from fake_device import device
from helpers import nothing_is_left_behind  # noqa: F401

import paradual as pdl
from paradual.errors import ParadualImportError, ParadualTypeError, ParadualValueError
from paradual.locality import address, any_of, beside, counting, grid, identity, on_device, unravel
from paradual.testing import check_grads

X = np.array([0.7, -1.3, 2.1])


@pytest.fixture
def counts():
    with device() as found:
        yield found


def there(x):
    import cupy

    return cupy.asarray(x)


def here(x):
    return x.get() if isinstance(x, fake_cupy.ndarray) else x


# --- the stand-in -----------------------------------------------------------------------------

REFUSED = {
    "host-right": lambda x: x + np.ones(3),
    "host-left": lambda x: np.ones(3) + x,
    "host-in-list": lambda x: np.concatenate([x, np.ones(3)]),
    "conversion": np.asarray,
    "no-such-function": lambda x: np.insert(x, 0, 1.0),
    "no-such-ufunc": lambda x: np.vecdot(x, x),
    "no-such-parameter": lambda x: np.sum(x, where=x > 0),
    "no-such-option-of-a-method": lambda x: x.sum(where=x > 0),
    "objects": lambda x: x.astype(object),
    "long-double": lambda x: x.astype(np.longdouble),
    "host-index-of-floats": lambda x: x[np.array([0.5])],
    "host-value-written": lambda x: x.__setitem__(slice(None), np.ones(3)),
    "complex-scatter": lambda x: (x + 1j).scatter_add(there([0, 0]), 1.0),
    "ufunc-at": lambda x: np.multiply.at(x, there([0]), 2.0),
    "other-library": lambda x: x + pdl.dual.Dual,
    "in-place-host": lambda x: x.__iadd__(np.ones(3)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_the_stand_in_for_a_device_refuses(name, counts):
    with pytest.raises((TypeError, ValueError, IndexError, NotImplementedError)):
        REFUSED[name](there(X))


def test_the_stand_in_for_a_device_counts(counts):
    x = there(X)
    counts.clear()
    float(x[0]), bool(x[0] > 0), int(x[2]), x[1].item(), repr(x), f"{x[0]:.1f}"
    assert counts == {"synchronize": 6}
    counts.clear()
    assert x.get().tolist() == X.tolist()
    x[[0, 1]], x[np.array([0, 1])]
    assert counts == {"to_host": 1, "to_device": 2}
    counts.clear()
    assert x[x > 0].shape == (2,)
    assert counts == {"mask": 1}
    assert x[1:].base is x
    assert (x + 1).base is None
    assert np.sum(x).shape == ()
    assert isinstance(np.sum(x), fake_cupy.ndarray)
    assert isinstance(2.0 * x + np.float64(1), fake_cupy.ndarray)


def test_a_device_refuses_arrays_of_another_one(counts):
    import cupy

    with cupy.cuda.Device(1):
        y = there(X)
        y + y
    with pytest.raises(ValueError, match="current device"):
        y + y
    with pytest.raises(ValueError, match="current device"):
        pdl.grad(lambda x: np.sum(x * y))(there(X))


def test_the_table_of_what_a_device_knows():
    table = cupy_api.table()
    assert len(table) > 400
    assert cupy_api.TABLE.read_text().startswith(f"# CuPy {fake_cupy.VERSION}")
    assert cupy_api.signature("numpy.insert") is None
    assert list(cupy_api.signature("numpy.sum").parameters) == ["a", "axis", "dtype", "out", "keepdims"]
    assert cupy_api.signature("numpy.fft.fft") is not None
    assert "cupy" not in sys.modules


# --- to_device --------------------------------------------------------------------------------


def test_to_device_and_back(counts):
    y = pdl.to_device(X, "cuda")
    assert isinstance(y, fake_cupy.ndarray)
    assert counts == {"to_device": 1}
    assert pdl.to_device(y, "cuda") is y
    assert pdl.to_device(y, "cuda:0") is y
    assert pdl.to_device(X, "cpu") is X
    np.testing.assert_array_equal(pdl.to_device(y, "cpu"), X)
    assert type(pdl.to_device(np.sum(y), "cpu")) is np.float64
    z = pdl.to_device(y, "cuda:1")
    assert z.device.id == 1
    assert counts["between"] == 1
    tree = {"a": [X, 2.0, 3], "b": (np.float32(1.5), np.array(2), True)}
    moved = pdl.to_device(tree, "cuda")
    assert moved["a"][1:] == [2.0, 3]
    assert moved["b"][2] is True
    assert moved["b"][0].dtype == np.float32
    assert moved["b"][1].dtype.kind == "i"
    back = pdl.to_device(moved, "cpu")
    assert type(back["b"][0]) is np.float32
    for array in (X[::2], X[:0], np.array(1.0), X.astype(complex), np.asfortranarray(np.eye(3)[:2])):
        back = pdl.to_device(pdl.to_device(array, "cuda"), "cpu")
        np.testing.assert_array_equal(back, array)
        assert back.dtype == array.dtype
    nan = np.array([np.nan, np.inf])
    nan.flags.writeable = False
    np.testing.assert_array_equal(pdl.to_device(pdl.to_device(nan, "cuda"), "cpu"), nan)


def across(x):
    """A function whose middle is computed on the device."""
    return pdl.to_device(np.sin(pdl.to_device(x * x, "cuda")) * 2.0, "cpu") * x


@pytest.mark.parametrize("x", [X, X.astype(np.float32), X + 1j * X[::-1], np.array(0.4), X[:0]], ids=str)
def test_to_device_is_differentiated(x, counts):
    check_grads(across, (x,), order=2, modes=("rev", "fwd"))
    g = pdl.grad(lambda x: np.sum(np.abs(across(x))))(x)
    assert type(g) is np.ndarray
    assert g.dtype == x.dtype


def test_to_device_takes_the_cotangent_back(counts):
    y = there(X)
    g, h = pdl.grad(lambda x, y: np.sum(pdl.to_device(x, "cuda") * y), argnums=(0, 1))(X, y)
    assert type(g) is np.ndarray
    assert isinstance(h, fake_cupy.ndarray)
    np.testing.assert_array_equal(g, X)
    counts.clear()
    g = pdl.grad(lambda y: np.sum(pdl.to_device(y * y, "cpu")))(y)
    assert counts == {"to_host": 1, "to_device": 1}
    np.testing.assert_array_equal(here(g), 2 * X)
    z = pdl.grad(lambda y: np.sum(pdl.to_device(pdl.to_device(y, "cuda:1"), "cpu") ** 2))(y)
    assert z.device.id == 0
    hessian = pdl.hessian(lambda x: np.sum(across(x)))(X)
    np.testing.assert_allclose(hessian, np.diag(12 * X * np.cos(X**2) - 8 * X**3 * np.sin(X**2)), rtol=1e-12)


def test_a_view_of_what_was_moved_can_be_written(counts):
    def f(x):
        y = pdl.to_device(x, "cuda").copy()
        y[1:] *= 3.0
        same = pdl.to_device(y, "cuda")
        same[0] = 0.0  # it is the same array
        return np.sum(pdl.to_device(y, "cpu") * x)

    np.testing.assert_allclose(pdl.grad(f)(X), [0.0, 6 * X[1], 6 * X[2]])


WRONG = {
    "name": (lambda: pdl.to_device(X, "gpu"), ParadualValueError, "'cuda'"),
    "number": (lambda: pdl.to_device(X, "cuda:x"), ParadualValueError, "'cuda:1'"),
    "cpu-number": (lambda: pdl.to_device(X, "cpu:0"), ParadualValueError, "not known"),
    "not-a-name": (lambda: pdl.to_device(X, 1), ParadualValueError, "not known"),
    "no-such-device": (lambda: pdl.to_device(X, "cuda:7"), ParadualValueError, "there are 2"),
    "text": (lambda: pdl.to_device("abc", "cuda"), ParadualTypeError, "str"),
    "objects": (lambda: pdl.to_device(np.array([None]), "cuda"), ParadualTypeError, "astype"),
    "long-double": (lambda: pdl.to_device(np.longdouble(1), "cuda"), ParadualTypeError, "astype"),
    "dask": (lambda: pdl.to_device(da.ones(3), "cuda"), ParadualTypeError, "map_blocks"),
}


@pytest.mark.parametrize("name", WRONG)
def test_to_device_refuses(name, counts):
    call, error, match = WRONG[name]
    with pytest.raises(error, match=match):
        call()


def test_without_cupy_to_device_names_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(ParadualImportError, match=r"paradual\[cuda13\]"):
        pdl.to_device(X, "cuda")
    with pytest.raises(ParadualImportError, match=r"paradual\[cuda13\]"):
        pdl.grad(lambda x: np.sum(pdl.to_device(x, "cuda:0")))(X)


def test_without_a_device_to_device_says_so(counts, monkeypatch):
    import cupy

    def none():
        raise cupy.cuda.runtime.CUDARuntimeError("cudaErrorNoDevice")

    monkeypatch.setattr(cupy.cuda.runtime, "getDeviceCount", none)
    with pytest.raises(ParadualValueError, match="no CUDA device"):
        pdl.to_device(X, "cuda")


REFUSED_DUALS = {
    "host-operand": lambda x: np.sum(x * X),
    "host-operand-left": lambda x: np.sum(X * x),
    "host-in-list": lambda x: np.sum(np.concatenate([x, X])),
    "no-such-function": lambda x: np.sum(np.linalg.vector_norm(x) * np.spacing(x)),
    "no-such-ufunc": lambda x: np.spacing(x).sum() * x[0],
    "no-such-option": lambda x: np.sum(np.cumsum(x, out=X)),
    "list": lambda x: np.sum(np.add(x, [1.0, 2.0, 3.0])),
}


@pytest.mark.parametrize("name", REFUSED_DUALS)
def test_what_a_device_refuses_is_refused_with_the_cure(name, counts):
    with pytest.raises(TypeError, match=r"to_device|out="):
        pdl.grad(REFUSED_DUALS[name])(there(X))


def test_cotangents_and_tangents_lie_where_their_values_do(counts):
    y = there(X)
    out, pullback = pdl.vjp(lambda x: x * 2.0, y)
    with pytest.raises(ParadualTypeError, match=r"the host.*a device.*'cuda'"):
        pullback(X)
    np.testing.assert_array_equal(here(pullback(out)[0]), 4 * X)
    _, pullback = pdl.vjp(lambda x: x * 2.0, X)
    with pytest.raises(ParadualTypeError, match=r"a device.*the host.*'cpu'"):
        pullback(y)
    with pytest.raises(ParadualTypeError, match="'cuda'"):
        pdl.jvp(lambda x: x * 2.0, (y,), (X,))
    with pytest.raises(ParadualTypeError, match="'cpu'"):
        pdl.jvp(lambda x: x * 2.0, (X,), (y,))
    _, pullback = pdl.vjp(np.sum, y)
    np.testing.assert_array_equal(here(pullback(3.0)[0]), [3, 3, 3])  # a Python number is of any device
    with pytest.raises(ParadualTypeError, match="'cuda'"):
        pullback(np.float64(3.0))
    again = pickle.loads(pickle.dumps(pullback))
    np.testing.assert_array_equal(here(again(3.0)[0]), [3, 3, 3])


# --- constants beside an array ----------------------------------------------------------------


def test_constants_are_made_on_the_device_of_an_array(counts):
    y = there(np.zeros((2, 3)))
    counts.clear()
    for make in (
        lambda a: counting(2, 9, 3, like=a),
        lambda a: identity(3, a),
        lambda a: identity(3, a, 2, bool),
        lambda a: grid((2, 3), a)[1],
        lambda a: unravel(counting(6, like=a), (2, 3))[1],
    ):
        at_home, away = make(X), make(y)
        assert type(at_home) is np.ndarray
        assert isinstance(away, fake_cupy.ndarray)
        assert away.dtype == at_home.dtype
        assert not counts
        np.testing.assert_array_equal(here(away), at_home)
        counts.clear()
    assert beside(X, X) is X
    assert isinstance(beside(X, y), fake_cupy.ndarray)
    assert address(y) == address(y[:1])
    assert address(X) == address(X[:2])
    counts.clear()
    assert any_of(y > 0)  # perhaps: it is not asked
    assert not any_of(X > 5)
    assert not counts
    assert on_device(y)
    assert not on_device(X)
    assert not on_device(1.0)


class Tensor:
    """As PyTorch's: its type says that it may be on a device, and it does not dispatch."""

    nbytes, shape, dtype = 24, (3,), np.dtype(float)

    @property
    def __cuda_array_interface__(self):
        raise AttributeError("this one is on the host")

    def __array__(self, dtype=None, copy=None):
        return np.ones(3)


def test_a_tensor_of_another_library_is_not_on_a_device():
    assert not on_device(Tensor())
    np.testing.assert_array_equal(pdl.grad(lambda x: np.sum(x * np.asarray(Tensor())))(X), np.ones(3))
