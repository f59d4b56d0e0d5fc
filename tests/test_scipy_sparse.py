"""`paradual.scipy.sparse` against SciPy and finite differences."""

import hypothesis.strategies as st
import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
from hypothesis import given, settings
from scipy_helpers import check

import paradual as pdl
from paradual.errors import NotDifferentiableError, ParadualTypeError
from paradual.scipy import sparse
from paradual.scipy.sparse import linalg
from paradual.testing import check_grads

RNG = np.random.default_rng(17)
DENSE = np.where(RNG.random((3, 4)) < 0.6, RNG.standard_normal((3, 4)), 0)
SQUARE = np.diag([2.0, 3.0, 4.0]) + np.array([[0, 1.0, 0], [0, 0, -1.0], [0.5, 0, 0]])
KINDS = [
    getattr(scipy.sparse, f"{form}_{kind}")
    for form in ("csr", "csc", "coo", "dia", "bsr", "lil", "dok")
    for kind in ("array", "matrix")
]


def ours(A, x, left=True):
    return sparse.matmul(A, x) if left else sparse.matmul(x, A)


def theirs(A, x, left=True):
    return A @ x if left else x @ A


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_products_from_both_sides(kind):
    A = kind(DENSE)
    for shape, left in [
        ((4,), True),
        ((4, 2), True),
        ((4, 1), True),
        ((3,), False),
        ((2, 3), False),
        ((1, 3), False),
    ]:
        x = RNG.standard_normal(shape)
        single = x.astype(np.float32)
        check(
            lambda x, left=left: ours(A, x, left), lambda x, left=left: theirs(A, x, left), (x,), single=False
        )
        out, pullback = pdl.vjp(lambda x, left=left: ours(A.astype(np.float32), x, left), single)
        assert out.dtype == pullback(out)[0].dtype == np.float32


def test_products_of_complex_numbers():
    A = scipy.sparse.csr_array(DENSE * (1 + 0.5j))
    x = RNG.standard_normal(4) + 1j * RNG.standard_normal(4)
    check(lambda x: ours(A, x), lambda x: A @ x, (x,), single=False)
    check(lambda x: ours(A, x), lambda x: A @ x, (x.real.copy(),), single=False)


@given(st.integers(0, 2**16), st.integers(1, 4), st.integers(1, 4), st.integers(0, 3), st.booleans())
@settings(max_examples=20)
def test_products_of_random_shapes(seed, m, n, k, left):
    A = scipy.sparse.random_array((m, n), density=0.5, rng=np.random.default_rng(seed), format="csr")
    rows = n if left else m
    x = np.random.default_rng(seed).standard_normal((rows, k) if k else rows)
    x = x if left or not k else x.T.copy()
    check_grads(lambda x: ours(A, x, left), (x,))
    np.testing.assert_array_equal(pdl.vjp(lambda x: ours(A, x, left), x)[0], theirs(A, x, left))


def test_a_matrix_that_is_written_to_later_does_not_change_the_derivative():
    A = scipy.sparse.csr_array(SQUARE)
    _, pullback = pdl.vjp(lambda x: sparse.matmul(A, x), np.ones(3))
    A.data[:] = 0
    np.testing.assert_allclose(pullback(np.ones(3))[0], SQUARE.T @ np.ones(3))


def test_spsolve():
    for b in (RNG.standard_normal(3), RNG.standard_normal((3, 2)), RNG.standard_normal((3, 1))):
        for A in (scipy.sparse.csc_array(SQUARE), scipy.sparse.csr_matrix(SQUARE)):
            check(
                lambda b, A=A: linalg.spsolve(A, b),
                lambda b, A=A: scipy.sparse.linalg.spsolve(A, b),
                (b,),
                single=False,
            )
    A = scipy.sparse.csc_array(SQUARE * (1 + 0.3j))
    check_grads(lambda b: linalg.spsolve(A, b, permc_spec="NATURAL"), (RNG.standard_normal(3) + 0.2j,))


def test_what_is_not_differentiated_is_refused_and_what_is_not_defined_is_scipys():
    with pytest.raises(ParadualTypeError, match="sparse"):
        pdl.vjp(lambda x: sparse.matmul(np.eye(2), x), np.ones(2))
    with pytest.raises(NotDifferentiableError, match="dense"):
        pdl.vjp(lambda a: linalg.spsolve(a, np.ones(2)), np.eye(2))
    with pytest.raises(ValueError, match="mismatch"):
        pdl.vjp(lambda x: sparse.matmul(scipy.sparse.csr_array(DENSE), x), np.ones(3))
    assert sparse.csr_array is scipy.sparse.csr_array
    assert sparse.linalg is linalg
    assert linalg.splu is scipy.sparse.linalg.splu
    with pytest.raises(ParadualTypeError):
        pdl.vjp(lambda b: linalg.cg(scipy.sparse.csr_array(SQUARE), b)[0], np.ones(3))
    A = scipy.sparse.csr_array(SQUARE)
    np.testing.assert_array_equal(sparse.matmul(A, np.ones(3)), A @ np.ones(3))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize(
    "name", ["A @ x", "x @ A", "A.dot(x)", "x.dot(A)", "A * x", "x * A", "x[0] * A", "A.multiply(x)"]
)
def test_operators_are_right_or_refused(kind, name):
    A = kind(SQUARE)

    def fn(x, A=A):
        out = eval(name, {"A": A, "x": x})
        return (np if hasattr(out, "place") or not scipy.sparse.issparse(out) else out).sum(out)

    x = RNG.standard_normal(3)
    try:
        got = pdl.grad(fn)(x)
        forward = pdl.jvp(fn, (x,), (np.ones(3),))[1]
    except (TypeError, ValueError, AttributeError, NotImplementedError):
        return
    step = np.eye(3) * 1e-6
    expected = [
        (eval(name, {"A": A, "x": x + h}).sum() - eval(name, {"A": A, "x": x - h}).sum()) / 2e-6 for h in step
    ]
    np.testing.assert_allclose(got, expected, rtol=1e-6)
    np.testing.assert_allclose(forward, np.sum(expected), rtol=1e-6)
