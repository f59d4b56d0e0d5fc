"""The methods and attributes of a dual, and NumPy functions on lists of duals."""

import copy
import itertools

import numpy as np
import pytest
from helpers import VECTOR, X, Y, check, constant, difference_quotient

import paradual as pdl
from paradual.errors import ParadualTypeError

# --- methods and attributes ------------------------------------------------------------------------------

METHODS = {
    "T": lambda x: x.T,
    "mT": lambda x: x.mT,
    "real": lambda x: x.real,
    "imag": lambda x: x.imag,
    "flat": lambda x: np.stack(list(x.flat)),
    "transpose()": lambda x: x.transpose(),
    "transpose(1, 0)": lambda x: x.transpose(1, 0),
    "transpose((1, 0))": lambda x: x.transpose((1, 0)),
    "transpose(None)": lambda x: x.transpose(None),
    "reshape(3, 2)": lambda x: x.reshape(3, 2),
    "reshape((3, 2))": lambda x: x.reshape((3, 2)),
    "reshape(-1)": lambda x: x.reshape(-1),
    "reshape order": lambda x: x.reshape(3, 2, order="F"),
    "reshape(int64)": lambda x: x.reshape(np.int64(3), -1),
    "flatten": lambda x: x.flatten(),
    "flatten F": lambda x: x.flatten("F"),
    "ravel": lambda x: x.ravel(),
    "ravel F": lambda x: x.ravel(order="F"),
    "astype float32": lambda x: x.astype(np.float32),
    "astype complex": lambda x: x.astype(complex),
    "astype same": lambda x: x.astype(float, copy=False),
    "copy": lambda x: x.copy(),
    "copy.copy": copy.copy,
    "copy.deepcopy": copy.deepcopy,
    "view": lambda x: x.view(),
    "item": lambda x: np.stack([x.item(4), x.item(0, 1), x.item((1, 2)), x.item(-1), x.item(np.int64(2))]),
    "item of one": lambda x: x[:1, :1].item() * 1.0,
    "tolist": lambda x: np.stack(list(itertools.chain(*x.tolist()))),
    "conj": lambda x: x.conj(),
    "conjugate": lambda x: x.conjugate(),
    "clip": lambda x: x.clip(-0.5, 1.0),
    "clip min": lambda x: x.clip(min=0.0),
    "clip max": lambda x: x.clip(max=0.5),
    "dot": lambda x: x.dot(Y.T),
    "choose": lambda x: np.array([0, 1, 0]).choose([0.5, 2.0]) * x,
    "compress": lambda x: x.compress([True, False, True], axis=1),
    "cumprod": lambda x: x.cumprod(axis=1),
    "cumsum": lambda x: x.cumsum(),
    "diagonal": lambda x: x.diagonal(),
    "max": lambda x: x.max(axis=0),
    "min": lambda x: x.min(),
    "mean": lambda x: x.mean(axis=1, keepdims=True),
    "partition": lambda x: np.partition(x, 1),
    "prod": lambda x: x.prod(),
    "ptp": lambda x: np.ptp(x, axis=1),
    "repeat": lambda x: x.repeat(2, axis=0),
    "squeeze": lambda x: x[None].squeeze(0),
    "std": lambda x: x.std(ddof=1),
    "sum": lambda x: x.sum(axis=(0, 1)),
    "sum keepdims": lambda x: x.sum(0, keepdims=True),
    "swapaxes": lambda x: x.swapaxes(0, 1),
    "take": lambda x: x.take([0, 4, 4]),
    "trace": lambda x: x.trace(offset=1),
    "var": lambda x: x.var(0),
}


@pytest.mark.parametrize("name", METHODS)
def test_methods(name):
    f = METHODS[name]
    if name in ("item", "item of one", "tolist"):  # of an array these give Python floats
        np.testing.assert_array_equal(
            pdl.grad(lambda x: np.sum(f(x)))(X), np.round(difference_quotient(lambda x: f(x), X), 6)
        )
    elif name == "astype float32":
        np.testing.assert_array_equal(pdl.grad(lambda x: f(x).sum())(X), np.ones_like(X))
        assert pdl.vjp(f, X)[0].dtype == np.float32
    else:
        check(f, X)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: x.argmax(),
        lambda x: x.argmin(axis=1),
        lambda x: x.argsort(axis=0),
        lambda x: x.argpartition(1),
        lambda x: x.all(),
        lambda x: x.any(axis=0),
        lambda x: x.nonzero()[1],
        lambda x: x.round(1),
        lambda x: x.astype(int),
        lambda x: x.astype(bool),
        lambda x: x[0].searchsorted(1.0),
    ],
)
def test_methods_with_plain_results(f):
    constant(f, X)


def test_attributes():
    def f(x):
        assert x.shape == (2, 3)
        assert x.ndim == 2
        assert x.size == 6
        assert x.dtype == np.float64
        assert x.itemsize == 8
        assert x.nbytes == 48
        assert len(x) == 2
        assert np.shape(x) == (2, 3)
        assert np.ndim(x) == 2
        assert np.size(x) == 6
        assert "0.7" in repr(x)
        return x.sum()

    np.testing.assert_array_equal(pdl.grad(f)(X), np.ones((2, 3)))


def test_methods_that_refuse():
    cases = [
        (lambda x: x.view(np.int64), "astype"),
        (lambda x: x.tobytes(), "stop_gradient"),
        (lambda x: x.resize(3), "resize"),
    ]
    for f, cure in cases:
        with pytest.raises((ParadualTypeError, AttributeError), match=cure):
            pdl.grad(lambda x, f=f: f(x) or x.sum())(X)
    with pytest.raises(ValueError, match="size 1"):
        pdl.grad(lambda x: x.item())(X)


def test_casting_refuses_what_numpy_refuses():
    with pytest.raises(TypeError, match="according to the rule 'safe'"):
        pdl.grad(lambda x: x.astype(np.float32, casting="safe").sum())(X)


# --- NumPy functions on lists of duals ------------------------------------------------------------------


def test_functions_of_lists():
    def f(x):
        a, b, c = x[0], x[1], x[2]
        rows = np.stack([x[:2], x[1:3]])
        return (
            np.stack([a, b, c]) @ np.array([1.0, 2.0, 3.0])
            + np.concatenate([x, x * 2, np.ones(2)]).sum()
            + np.vstack([x, x * x])[1].sum()
            + np.hstack([a, x])[0]
            + rows[1, 0] * rows[0, 0]
            + np.where(x > 1, x, 0).sum()
        )

    np.testing.assert_allclose(pdl.grad(f)(VECTOR), difference_quotient(f, VECTOR), rtol=1e-6)
    assert pdl.grad(lambda s: np.stack([s, 2 * s, 1.0]) @ np.array([1.0, 2.0, 4.0]))(1.5) == 5.0


def test_lists_beside_duals():
    constants = [0.5, 1.5, 2.5, 0.0]
    check(lambda x: np.add(x, constants), VECTOR)
    check(lambda x: np.multiply(constants, x), VECTOR)
    check(lambda x: np.arctan2(constants, x), VECTOR)
    check(lambda x: np.arctan2(x, constants), VECTOR)
    check(lambda x: np.hypot(constants, x), VECTOR)
    check(lambda x: constants**x, VECTOR)
    check(lambda x: tuple(constants) * x, VECTOR)
