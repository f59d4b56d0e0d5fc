"""A dual as a container: iteration, membership and every kind of index."""

import numpy as np
import pytest
from helpers import VECTOR, X, check, difference_quotient, plain

import paradual as pdl

# --- containers ------------------------------------------------------------------------------------------


def test_iteration_unpacking_and_membership():
    def f(x):
        first, second = x
        a, *rest = first
        assert [row.shape for row in x] == [(3,), (3,)]
        assert len(rest) == 2
        assert plain(a) in x
        assert a in x
        assert 5.0 not in x
        total = a * second[2]
        for k, row in enumerate(x):
            total = total + (k + 1) * row[1] ** 2
        for left, right in zip(first, reversed(list(second)), strict=True):
            total = total + left * right
        return total

    wanted = difference_quotient(f, X)
    np.testing.assert_allclose(pdl.grad(f)(X), wanted, atol=1e-7)


def test_iteration_over_a_number_fails_as_numpy_does():
    for x in (np.array(1.0), 1.0, np.float64(1.0)):
        with pytest.raises(TypeError):
            pdl.grad(lambda y: sum(y))(x)
        with pytest.raises(TypeError):
            pdl.grad(lambda y: float(len(y)))(x)
    with pytest.raises(ValueError, match="unpack"):
        pdl.grad(lambda y: next(a for a, b in [y]))(VECTOR)


CUBE = np.cos(np.arange(24.0)).reshape(2, 3, 4)
MASK = np.arange(12).reshape(3, 4) % 3 == 0

INDICES = {
    "int": 1,
    "negative int": -1,
    "int64": np.int64(1),
    "0-d array": np.array(1),
    "slice": slice(None, 2),
    "negative step": slice(None, None, -1),
    "strided": (slice(None), slice(None, None, 2)),
    "empty slice": slice(2, 2),
    "ellipsis": ...,
    "newaxis": None,
    "newaxis twice": (None, slice(None), None, 1),
    "ints": (1, 2, 3),
    "ellipsis last": (..., 2),
    "ellipsis middle": (0, ..., -1),
    "mask of full rank": CUBE > 0.2,
    "mask of one axis": np.array([True, False]),
    "mask of the last axes": (slice(None), MASK),
    "mask of the first axes": CUBE[:, :, 0] > 0,
    "mask of nothing": np.zeros((2, 3, 4), bool),
    "mask and int array": (np.array([True, True]), np.array([0, 2])),
    "True": True,
    "False": False,
    "int array": np.array([0, 1, 0]),
    "2-d int array": np.array([[0, 1], [1, 1]]),
    "list": [0, 0, 1],
    "empty list": [],
    "list of bools": [True, False],
    "nested list": ([[0, 1], [1, 0]], [[0, 0], [2, 2]]),
    "int arrays": (np.array([0, 1, 1]), np.array([2, 2, 2])),
    "broadcast arrays": (np.array([[0], [1]]), np.array([0, 2, 2])),
    "separated arrays": (np.array([0, 1, 1]), slice(None), np.array([3, 3, 3])),
    "mixed": (np.array([0, 0]), slice(1, None), [1, 1]),
    "mixed with newaxis": (0, None, [2, 2], slice(None, None, -1)),
    "uint8": np.array([1, 1, 0], np.uint8),
    "range": range(2),
    "tuple as an array": (slice(None), (0, 2, 2)),
    "tuples as arrays": ((0, 0, 1), (1, 1, 2)),
    "one tuple": ((0, 0, 1),),
    "negative repeats": (slice(None), [-1, 2, 2, -1]),
    "np.ix_": np.ix_([0, 1], [1, 1], [0, 3]),
    "np.s_": np.s_[1:, ::-2, [0, 0]],
}


@pytest.mark.parametrize("name", INDICES)
def test_indexing(name):
    index = INDICES[name]
    weights = np.sin(1.0 + np.arange(np.size(CUBE[index]))).reshape(CUBE[index].shape)
    check(lambda x: x[index] * weights, CUBE)


@pytest.mark.parametrize("index", [(), ..., None, (None, ...), True, False, np.array(True)], ids=repr)
def test_indexing_of_a_0d_array(index):
    x = np.array(1.5)
    check(lambda y: y[index] * 2.0, x)


def test_index_arrays_of_other_libraries():
    from array import array

    slope = pdl.grad(lambda x: (x[array("l", [0, 0, 2])] * np.array([1.0, 2.0, 4.0])).sum())(VECTOR)
    np.testing.assert_array_equal(slope, [3, 0, 4, 0])


def test_an_index_that_changes_later():
    def f(x):
        index = np.array([0, 1])
        mask = np.array([True, False, False, False])
        listed = [2, 2]
        out = x[index].sum() + x[mask].sum() + x[listed].sum()
        index[:] = 3
        mask[:] = True
        listed[:] = [0, 1]
        return out

    np.testing.assert_array_equal(pdl.grad(f)(VECTOR), [2, 1, 2, 0])


@pytest.mark.parametrize(
    "index", [9, -5, (0, 0), [9], "a", 1.0, np.array([0.5]), (slice(None), 0), [True, False]]
)
def test_a_wrong_index_fails_as_numpy_does(index):
    with pytest.raises(IndexError):
        VECTOR[index]
    with pytest.raises(IndexError):
        pdl.grad(lambda x: x[index].sum())(VECTOR)
    with pytest.raises(IndexError):
        pdl.jvp(lambda x: x[index].sum(), (VECTOR,), (VECTOR,))


def test_an_index_from_values():
    assert pdl.grad(lambda x: x[np.argmax(x)] * x[int(x[0])])(np.array([1.0, 2.0, 4.0])).tolist() == [0, 4, 2]
    np.testing.assert_array_equal(
        pdl.grad(lambda x: (x[x > 0.5] ** 2).sum())(VECTOR), 2 * VECTOR * (VECTOR > 0.5)
    )


def test_a_loop_over_elements_costs_linear_time_and_is_right():
    n = 3000
    x = np.linspace(0.0, 1.0, n)

    def f(y):
        total = 0.0
        for k in range(n - 1):
            total = total + y[k] * y[k + 1]
        return total

    wanted = np.zeros(n)
    wanted[:-1] += x[1:]
    wanted[1:] += x[:-1]
    np.testing.assert_allclose(pdl.grad(f)(x), wanted, rtol=1e-14)
