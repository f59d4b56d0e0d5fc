"""Item assignment, views, and functions that write: NumPy's semantics, and derivatives to second order."""

import operator
import pickle

import numpy as np
import pytest

import paradual as pdl
from paradual.errors import LeakedDualError, NotDifferentiableError
from paradual.testing import check_grads

X = np.array([0.7, 1.3, 0.4, 2.1, 1.6, 0.9])
M = np.linspace(0.3, 2.0, 12).reshape(3, 4)


def agrees(fn, *args):
    """The value is NumPy's, and the derivatives are right to second order in both modes."""
    value = fn(*(np.copy(a) for a in args))
    got, _ = pdl.vjp(fn, *args)
    np.testing.assert_allclose(got, value, rtol=1e-13)
    check_grads(fn, args)


WRITES = {  # on a 3 x 4 array y with another array x of its shape
    "int": lambda y, x: operator.setitem(y, 1, x[0]),
    "element": lambda y, x: operator.setitem(y, (1, 2), x[0, 0] ** 2),
    "negative": lambda y, x: operator.setitem(y, (-1, -2), x[0, 0]),
    "slice": lambda y, x: operator.setitem(y, slice(1, 3), x[:2] * x[1:]),
    "strided": lambda y, x: operator.setitem(y, (slice(None, None, 2), slice(None, None, -2)), x[:2, :2]),
    "ellipsis": lambda y, x: operator.setitem(y, ..., x * y),
    "newaxis": lambda y, x: operator.setitem(y, (None, 0), x[None, 1]),
    "broadcast": lambda y, x: operator.setitem(y, slice(None), x[0]),
    "broadcast-number": lambda y, x: operator.setitem(y, (slice(None), 0), x[0, 1]),
    "leading-ones": lambda y, x: operator.setitem(y, 0, x[None, None, 1]),
    "mask": lambda y, x: operator.setitem(y, y > 1, x[y > 1] * 3),
    "mask-number": lambda y, x: operator.setitem(y, y > 1, x[0, 0]),
    "mask-rows": lambda y, x: operator.setitem(y, np.array([True, False, True]), x[:2]),
    "ints": lambda y, x: operator.setitem(y, [0, 2], x[1:]),
    "ints-twice": lambda y, x: operator.setitem(y, [0, 2, 0], x),
    "points": lambda y, x: operator.setitem(y, ([0, 1, 2], [0, 1, -1]), x[0, :3]),
    "points-twice": lambda y, x: operator.setitem(y, ([0, 1, 0], [3, 1, -1]), x[0, :3]),
    "points-twice-broadcast": lambda y, x: operator.setitem(y, ([0, 1, 0], [3, 1, -1]), x[0, 0]),
    "ints-and-slice": lambda y, x: operator.setitem(y, (slice(None), [1, 1]), x[:, :2]),
    "constant": lambda y, x: operator.setitem(y, 1, 5.0),
    "constant-array": lambda y, x: operator.setitem(y, (slice(None), 1), np.arange(3.0)),
    "list-of-duals": lambda y, x: operator.setitem(y, (1, slice(0, 2)), [x[0, 0], x[1, 1] * 2]),
    "nested-list": lambda y, x: operator.setitem(y, (slice(0, 2), slice(0, 2)), [[x[0, 0], 1.0]]),
    "itself": lambda y, x: operator.setitem(y, slice(None), y),
    "overlap": lambda y, x: operator.setitem(y, slice(1, None), y[:-1]),
    "reversed": lambda y, x: operator.setitem(y, slice(None), y[::-1]),
    "empty": lambda y, x: operator.setitem(y, slice(0, 0), x[:0]),
    "empty-mask": lambda y, x: operator.setitem(y, y < -5, x[0, 0]),
    "column-view": lambda y, x: operator.setitem(y[:, 1], slice(1, 3), x[0, :2]),
    "transposed": lambda y, x: operator.setitem(y.T, 1, x[:, 0]),
    "raveled": lambda y, x: operator.setitem(y.ravel(), slice(2, 5), x[0, :3]),
    "reshaped": lambda y, x: operator.setitem(y.reshape(2, 6), (1, slice(0, 3)), x[:, 0]),
    "view-of-view": lambda y, x: operator.setitem(y[1:].T[::-1][:2], (0, 1), x[0, 0]),
    "chained": lambda y, x: operator.setitem(y[1], 2, x[1, 1] * y[0, 0]),
    "flat": lambda y, x: operator.setitem(y.flat, 5, x[0, 0]),
    "flat-slice": lambda y, x: operator.setitem(y.flat, slice(1, 9, 3), x[0, :2]),
    "flat-all": lambda y, x: setattr(y, "flat", x[0]),
    "real": lambda y, x: setattr(y, "real", x * 2),
    "fill": lambda y, x: y.fill(x[0, 0]),
    "sort": lambda y, x: operator.isub(y, x * 1.5).sort(axis=0),
    "partition": lambda y, x: operator.isub(y, x * 1.5).partition(1),
    "put-method": lambda y, x: y.put([0, 7, -1], x[0, :3]),
    "np.put": lambda y, x: np.put(y, [0, 7, 0], x[0, :3]),
    "np.put-clip": lambda y, x: np.put(y, [0, 77], x[0, :2], mode="clip"),
    "np.put-wrap": lambda y, x: np.put(y, [1, 77], x[0, :1], mode="wrap"),
    "copyto": lambda y, x: np.copyto(y, x[0]),
    "copyto-where": lambda y, x: np.copyto(y, x * x, where=y > 1),
    "putmask": lambda y, x: np.putmask(y, y > 1, x[0, :3]),
    "place": lambda y, x: np.place(y, y > 1, x[0, :3]),
    "put_along_axis": lambda y, x: np.put_along_axis(y, np.array([[1], [0], [3]]), x[:, :1], axis=1),
    "put_along_axis-flat": lambda y, x: np.put_along_axis(y, np.array([1, 7]), x[0, :2], axis=None),
    "fill_diagonal": lambda y, x: np.fill_diagonal(y, x[0, 0]),
    "fill_diagonal-array": lambda y, x: np.fill_diagonal(y, x[0, :3]),
    "fill_diagonal-wrap": lambda y, x: np.fill_diagonal(y.T, x[0, 0], wrap=True),
    "add.at": lambda y, x: np.add.at(y, ([0, 0, 2], [1, 1, 3]), x[0, :3]),
    "add.at-rows": lambda y, x: np.add.at(y, [0, 2, 0], x),
    "subtract.at": lambda y, x: np.subtract.at(y, [1, 1], x[:2]),
    "multiply.at": lambda y, x: np.multiply.at(y, ([0, 0, 0, 2], [1, 1, 2, 3]), x[0]),
    "maximum.at": lambda y, x: np.maximum.at(y, ([0, 0, 2], [1, 1, 3]), x[0, :3] * [3, 2, 9]),
    "negative.at": lambda y, x: np.negative.at(y, ([0, 0, 0, 2], [1, 1, 2, 3])),
    "add.at-slice": lambda y, x: np.add.at(y, slice(1, 3), x[0]),
    "add.at-number": lambda y, x: np.add.at(y, (1, 2), x[0, 0]),
    "add.at-view": lambda y, x: np.add.at(y[1:], ([0, 0], [1, 1]), x[0, :2]),
    "iadd-slice": lambda y, x: operator.setitem(y, slice(1, 3), operator.iadd(y[1:3], x[:2])),
    "iadd-mask": lambda y, x: operator.setitem(y, y > 1, operator.iadd(y[y > 1], x[y > 1])),
    "iadd-ints": lambda y, x: operator.setitem(y, [0, 0], operator.iadd(y[[0, 0]], x[:2])),
    "imul-view": lambda y, x: operator.imul(y[:, 1], x[:, 0]),
    "imul-all": lambda y, x: operator.imul(y, x),
    "itruediv-row": lambda y, x: operator.itruediv(y[0], x[1]),
    "ipow-view": lambda y, x: operator.ipow(y[0], 2),
    "out": lambda y, x: np.multiply(x, x, out=y),
    "out-view": lambda y, x: np.exp(x[0], out=y[2]),
    "out-where": lambda y, x: np.log(x, out=y, where=x > 0.8),
    "sum-out": lambda y, x: np.sum(x * x, axis=1, out=y[:, 1]),
    "matmul-out": lambda y, x: np.matmul(x, x.T @ x, out=y),
    "clip-out": lambda y, x: np.clip(x * y, 0.5, 1.5, out=y),
    "cumsum-out": lambda y, x: np.cumsum(x, axis=0, out=y),
}


@pytest.mark.parametrize("name", WRITES)
def test_writes(name):
    def f(x):
        y = np.cos(x) * 2 + x
        total = np.sin(y)  # what was computed before keeps its own values
        view, column = y[1:], y[:, 1]
        WRITES[name](y, x)
        return np.stack([np.sum(total * y), np.sum(view**2), np.sum(column * np.arange(3)), np.sum(y * M**2)])

    agrees(f, M)


@pytest.mark.parametrize(
    "make", [np.zeros_like, np.ones_like, np.empty_like, lambda x: np.zeros(x.shape, like=x)]
)
@pytest.mark.parametrize("order", ["C", "F"])
def test_filling_a_new_array(make, order):
    def f(x):
        y = make(x)
        for index in np.ndindex(*x.shape):
            y[index] = x[index] ** 2 * (y[index[0], index[1] - 1] if index[1] else 1.0)
        return y * x

    agrees(f, np.asarray(M, order=order))


CREATED = {
    "zeros_like": lambda x: np.zeros_like(x),
    "ones_like-shape": lambda x: np.ones_like(x, shape=(2, 3)),
    "full_like": lambda x: np.full_like(x, 3.0),
    "zeros": lambda x: np.zeros((2, 3), like=x),
    "ones": lambda x: np.ones(3, dtype=np.float32, like=x),
    "full": lambda x: np.full(3, 1.5, like=x),
    "arange": lambda x: np.arange(3.0, like=x),
    "eye": lambda x: np.eye(3, like=x),
    "identity": lambda x: np.identity(3, like=x),
    "tri": lambda x: np.tri(3, like=x),
    "array": lambda x: np.array([1.0, 2.0], like=x),
    "asarray": lambda x: np.asarray([1.0, 2.0], like=x),
}


@pytest.mark.parametrize("name", CREATED)
@pytest.mark.parametrize("mode", ["grad", "jvp", "nested"])
def test_a_new_array_is_a_constant_that_can_be_written(name, mode):
    make = CREATED[name]

    def f(x):
        y = make(x)
        before = np.sum(y)
        y[0] += x[0]
        y[-1] = y[0] * x[1]
        return np.sum(y * y) + before

    if mode == "grad":
        check_grads(f, (X,), order=1, modes=("rev",), **({"atol": 1e-2} if name == "ones" else {}))
    elif mode == "jvp":
        check_grads(f, (X,), order=1, modes=("fwd",), **({"atol": 1e-2} if name == "ones" else {}))
    elif name != "ones":
        check_grads(f, (X,))
    assert pdl.grad(lambda x: np.sum(make(x)) + x[0])(X)[0] == 1.0


def test_integer_arrays_stay_plain():
    def f(x):
        order = np.zeros_like(x, dtype=int)
        order[2] = 1
        assert type(order) is np.ndarray
        return np.sum(x[order])

    np.testing.assert_array_equal(pdl.grad(f)(X), [5, 1, 0, 0, 0, 0])


def test_duals_in_new_arrays():
    agrees(lambda x: np.array([x[0], [x[1], 2.0][0]], like=x) * 2, X)
    agrees(lambda x: np.array([[x[0], 1.0], [x[1], x[2]]], like=x, ndmin=3), X)
    agrees(lambda x: np.asarray([x[0] * x[1], x[2]], like=x), X)
    agrees(lambda x: np.full((2, 3), x[0] * x[1], like=x), X)
    agrees(lambda x: np.full_like(x, x[0] ** 2), X)


# --- differentiations inside each other, tasks, checkpoints -------------------------------------------------


def test_values_of_two_differentiations_in_one_array():
    def f(x):
        y = x * 1.0

        def inner(z):
            w = y + 0 * z
            w[0] = z * z * x[1]
            return np.sum(w * w)

        y[1] = pdl.grad(inner)(x[0])
        return np.sum(y * y)

    def written_out(x):
        return x[0] ** 2 + (4 * x[0] ** 3 * x[1] ** 2) ** 2 + np.sum(x[2:] ** 2)

    np.testing.assert_allclose(pdl.grad(f)(X), pdl.grad(written_out)(X))
    check_grads(f, (X,), order=1)


def test_an_outer_array_that_took_an_inner_value_is_used_no_more():
    def f(x):
        y = x * 1.0

        def inner(z):
            y[0] = z * z
            return np.sum(y * x)

        slope = pdl.grad(inner)(x[1])
        return slope + np.sum(y)

    with pytest.raises(LeakedDualError):
        pdl.grad(f)(X)


def test_a_task_does_not_write_into_what_it_captured():
    def f(x):
        y = x * 1.0

        def work():
            y[0] = x[1]

        pdl.par(work, work)
        return np.sum(y)

    with pytest.raises(NotDifferentiableError, match="outside of this task"):
        pdl.grad(f)(X)

    def joined(x):
        y = np.zeros_like(x)
        parts = pdl.map(lambda k: x[k] ** 2 * y[0], range(6))
        parts = [part + x[k] ** 3 for k, part in enumerate(parts)]
        for k, part in enumerate(parts):
            y[k] = part
        (z,) = pdl.par(lambda: x * y)
        z[0] = y[1]  # made in a task that is joined
        y[1] = z[2]
        return np.sum(y * z)

    with pdl.executor("inline"):
        agrees(joined, X)
    np.testing.assert_allclose(pdl.grad(joined)(X), pdl.grad(joined)(X))


def test_a_checkpoint_may_write_into_arrays_of_its_own():
    def step(y):
        y = y.copy()
        y[1:] += y[:-1] ** 2
        return y

    def f(x):
        for _ in range(3):
            x = pdl.checkpoint(step)(x)
        return np.sum(x)

    check_grads(f, (X * 0.3,))


def test_a_dual_that_was_written_pickles_and_copies():
    def f(x):
        y = x * 1.0
        view = y[2:]
        y[3] = x[0] ** 2
        again = pickle.loads(pickle.dumps(view))
        y[3] = 0.0
        return np.sum(again * x[2:])

    np.testing.assert_allclose(pdl.grad(f)(X), [2 * X[0] * X[3], 0, 2 * X[2], X[0] ** 2, 2 * X[4], 2 * X[5]])


# --- what NumPy refuses, and what cannot be -----------------------------------------------------------------

BAD = {
    "shape": (lambda y: operator.setitem(y, slice(0, 2), np.ones(3)), ValueError),
    "dual-shape": (lambda y: operator.setitem(y, slice(0, 2), y[:3]), ValueError),
    "index": (lambda y: operator.setitem(y, 6, 1.0), IndexError),
    "mask-shape": (lambda y: operator.setitem(y, np.ones(5, bool), 1.0), IndexError),
    "float-index": (lambda y: operator.setitem(y, 1.0, 1.0), IndexError),
    "ragged": (lambda y: operator.setitem(y, slice(0, 2), [y[0], y[:2]]), ValueError),
    "text": (lambda y: operator.setitem(y, 0, "a"), ValueError),
    "read-only": (lambda y: operator.setitem(np.broadcast_to(y, (2, 6)), 0, 1.0), ValueError),
    "diagonal": (lambda y: operator.setitem(np.diagonal(y.reshape(2, 3)), 0, 1.0), ValueError),
    "scalar": (lambda y: operator.setitem(y[0], ..., 1.0), TypeError),
    "put-index": (lambda y: np.put(y, [9], 1.0), IndexError),
    "copyto-dtype": (lambda y: np.copyto(y, 1j * y), TypeError),
    "at-shape": (lambda y: np.add.at(y, [0, 1], np.ones(3)), ValueError),
}


@pytest.mark.parametrize("name", BAD)
def test_what_numpy_refuses(name):
    fn, error = BAD[name]
    with pytest.raises(error):
        fn(X.copy())
    with pytest.raises(error):
        pdl.grad(lambda x: fn(x * 1.0) or np.sum(x))(X)


def test_the_value_is_untouched_where_a_write_fails():
    def f(x):
        y = x * 1.0
        for fn, error in BAD.values():
            with pytest.raises(error):
                fn(y)
        return np.sum(y * y)

    np.testing.assert_array_equal(pdl.grad(f)(X), 2 * X)


PLAIN = {
    "setitem": lambda x: operator.setitem(np.zeros(6), slice(None), x),
    "at": lambda x: np.add.at(np.zeros(6), [0, 1], x[:2]),
    "copyto": lambda x: np.copyto(np.zeros(6), x),
    "put": lambda x: np.put(np.zeros(6), [0], x[0]),
    "out": lambda x: np.exp(x, out=np.zeros(6)),
    "where": lambda x: np.exp(x, out=np.zeros(6), where=x > 0),
    "iadd": lambda x: operator.iadd(np.zeros(6), x),
    "fill_diagonal": lambda x: np.fill_diagonal(np.zeros((2, 2)), x[0]),
}


@pytest.mark.parametrize("name", PLAIN)
def test_a_plain_array_cannot_hold_a_dual(name):
    with pytest.raises(TypeError, match=r"zeros_like|stop_gradient|like=x"):
        pdl.grad(lambda x: PLAIN[name](x) or np.sum(x))(X)


def test_the_input_of_the_caller_is_not_written():
    x = X.copy()
    np.testing.assert_array_equal(
        pdl.grad(lambda x: operator.setitem(x, 0, 0.0) or np.sum(x * x))(x), [0, *2 * X[1:]]
    )
    np.testing.assert_array_equal(x, X)
