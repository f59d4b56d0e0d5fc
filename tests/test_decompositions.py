"""Decompositions where they are not smooth, or determined only up to a choice, and what they refuse."""

import numpy as np
import pytest

import paradual as pdl
from paradual.errors import NotDifferentiableError
from paradual.rules.registry import kind

RNG = np.random.default_rng(7)
Q = np.linalg.qr(RNG.standard_normal((3, 3)))[0]
G = RNG.standard_normal((3, 3))
EQUAL = {
    "identity": np.eye(3),
    "twice": 2 * np.eye(3),
    "zeros": np.zeros((3, 3)),
    "two-of-three": np.diag([1.0, 1.0, 2.0]),
    "rotated": (Q * [1.0, 1.0, 2.0]) @ Q.T,
    "rotated-sphere": (Q * 3.0) @ Q.T,
}
equal = pytest.mark.parametrize("a", EQUAL.values(), ids=EQUAL)


def folded(g):
    """A gradient with respect to the lower triangle, which is all that NumPy reads."""
    g = (g + g.T) / 2
    return 2 * np.tril(g, -1) + np.diag(np.diag(g))


def of_eigenvalues(f, a):
    w, v = np.linalg.eigh(a)
    return (v * f(w)) @ v.T


# --- equal eigenvalues and singular values ----------------------------------------------------------------


@equal
@pytest.mark.parametrize("mode", ["reverse", "forward"])
@pytest.mark.parametrize("values", [np.linalg.eigvalsh, lambda a: np.linalg.eigh(a)[0]], ids=["h", "eigh"])
def test_a_smooth_function_of_equal_eigenvalues(values, a, mode):
    g = pdl.jacobian(lambda a: np.sum(values(a) ** 2), mode=mode)(a)
    np.testing.assert_allclose(g, folded(2 * a), atol=1e-13)


@equal
@pytest.mark.parametrize("mode", ["reverse", "forward"])
@pytest.mark.parametrize(
    "values",
    [
        lambda a: np.linalg.svd(a, compute_uv=False),
        lambda a: np.linalg.svd(a)[1],
        lambda a: np.linalg.eigvals(a).real,
        lambda a: np.linalg.eig(a)[0].real,
    ],
    ids=["svdvals", "svd", "eigvals", "eig"],
)
def test_a_smooth_function_of_equal_values_of_any_matrix(values, a, mode):
    g = pdl.jacobian(lambda a: np.sum(values(a) ** 2), mode=mode)(a)
    np.testing.assert_allclose(g, 2 * a, atol=1e-13)


@equal
def test_a_trace_through_the_eigenvectors(a):
    g = pdl.grad(lambda a: np.trace(of_eigenvalues(lambda w: w * w, a)))(a)
    np.testing.assert_allclose(g, folded(2 * a), atol=1e-13)
    g = pdl.grad(lambda a: np.sum(of_eigenvalues(lambda w: w, a) ** 2))(a)
    np.testing.assert_allclose(g, folded(2 * a), atol=1e-13)


@equal
def test_a_sum_of_squares_through_the_singular_vectors(a):
    def f(a):
        u, s, vh = np.linalg.svd(a)
        return np.sum(((u * s) @ vh) ** 2)

    np.testing.assert_allclose(pdl.grad(f)(a @ Q), 2 * a @ Q, atol=1e-13)


@equal
@pytest.mark.parametrize("weights", [G, np.ones((3, 3))], ids=["any", "ones"])
def test_what_is_not_known_at_equal_eigenvalues_is_nan(a, weights):
    # the right gradients are the weights; the rule must not answer with another number
    g = pdl.grad(lambda a: np.sum(weights * of_eigenvalues(lambda w: w, a)))(a)
    assert np.isnan(g).any()
    g = pdl.grad(lambda a: np.sum(weights * ((lambda u, s, vh: (u * s) @ vh)(*np.linalg.svd(a)))))(a)
    assert np.isnan(g).any()
    g = pdl.grad(lambda a: np.sum(weights * of_eigenvalues(lambda w: w * w, a)))(a)
    assert np.isnan(g).any() or np.allclose(g, folded(weights @ a + a @ weights))


@pytest.mark.parametrize("f", [lambda v: v[0, 0] + v[0, 1], lambda v: np.sum(v**3)], ids=["entries", "cubes"])
@pytest.mark.parametrize("decompose", [lambda a: np.linalg.eigh(a)[1], lambda a: np.linalg.svd(a)[0]])
def test_a_function_of_a_basis_that_was_chosen_is_nan(f, decompose):
    a = EQUAL["rotated"]
    assert np.isnan(pdl.grad(lambda a: f(decompose(a)))(a)).any()
    e = np.eye(3)[[1, 0, 2]]
    assert np.isnan(pdl.jvp(decompose, (np.diag([1.0, 1, 2]),), (e,))[1]).any()


def test_functions_of_a_whole_space_of_equal_eigenvalues():
    a = EQUAL["rotated"]

    def projector(a):
        v = np.linalg.eigh(a)[1][:, :2]
        return np.sum(G * (v @ v.T))

    def by_the_other(a):  # I - P
        v = np.linalg.eigh(a)[1][:, 2:]
        return -np.sum(G * (v @ v.T))

    h = (Q * [1.0, 1.1, 2.0]) @ Q.T  # the same projector, of a matrix without equal eigenvalues
    g = pdl.grad(projector)(a)
    assert np.isfinite(g).all()
    np.testing.assert_allclose(g, pdl.grad(by_the_other)(a), atol=1e-13)
    assert np.isfinite(pdl.grad(projector)(h)).all()
    e, step = (G + G.T) / 2, 1e-5
    differences = (projector(a + step * e) - projector(a - step * e)) / (2 * step)
    np.testing.assert_allclose(np.sum(g * e), differences, rtol=1e-8)


def test_the_polar_factor_of_an_orthogonal_matrix():
    def f(a):
        u, _, vh = np.linalg.svd(a)
        return np.sum(G * (u @ vh))

    g = pdl.grad(f)(Q)
    e, step = RNG.standard_normal((3, 3)), 1e-5
    np.testing.assert_allclose(np.sum(g * e), (f(Q + step * e) - f(Q - step * e)) / (2 * step), rtol=1e-8)


def test_second_derivatives_at_equal_eigenvalues_are_nan_and_not_wrong():
    h = pdl.hessian(lambda a: np.sum(np.linalg.eigvalsh(a) ** 2))(np.eye(2))
    assert np.isnan(h).any()


def test_kinks_have_an_element_of_the_subdifferential():
    g = pdl.grad(lambda a: np.linalg.eigvalsh(a)[-1])(np.eye(3))
    assert np.trace(g) == pytest.approx(1)
    assert (np.linalg.eigvalsh(g) >= -1e-15).all()
    np.testing.assert_allclose(pdl.grad(lambda a: np.linalg.norm(a, 2))(np.eye(3)), np.eye(3) / 3)
    np.testing.assert_allclose(pdl.grad(lambda a: np.linalg.norm(a, "nuc"))(Q), Q, atol=1e-14)
    for ord in (2, -2, "nuc"):
        np.testing.assert_array_equal(pdl.grad(lambda a, o=ord: np.linalg.norm(a, o))(np.zeros((2, 3))), 0)
    x = np.array([1.0, 2.0, 2.0])
    g = pdl.grad(lambda a: np.linalg.norm(a, "nuc"))(np.outer(x, x[:2]))
    np.testing.assert_allclose(g, np.outer(x, x[:2]) / (3 * np.sqrt(5)), atol=1e-15)


def test_zero_singular_values_with_the_vectors():
    def rebuilt(a):
        u, s, vh = np.linalg.svd(a, full_matrices=False)
        return np.sum(G * ((u * s) @ vh))

    low = G[:, :2] @ G[:2]  # a single zero is simple
    np.testing.assert_allclose(pdl.grad(rebuilt)(low), G, atol=1e-12)
    x = np.array([1.0, 2.0, 2.0])
    assert np.isnan(pdl.grad(lambda a: rebuilt(a[:, [0, 1, 1]]))(np.outer(x, x[:2]))).any()


def test_stacks_keep_nan_to_themselves():
    a = np.stack([np.eye(3), EQUAL["rotated"] + np.diag([0, 1.0, 5.0])])
    g = pdl.grad(lambda a: np.sum(G * of_stack(a)))(a)
    assert np.isnan(g[0]).any()
    np.testing.assert_allclose(g[1], folded(G), atol=1e-12)


def of_stack(a):
    w, v = np.linalg.eigh(a)
    return np.matmul(v * w[:, None, :], np.swapaxes(v, -1, -2))


def test_the_free_space_of_full_matrices():
    a = RNG.standard_normal((4, 2))
    g = pdl.grad(lambda a: np.sum(np.linalg.svd(a)[0] ** 3))(a)
    assert np.isnan(g).all()
    assert np.isfinite(pdl.grad(lambda a: np.sum(np.linalg.svd(a)[0][:, :2] ** 3))(a)).all()


@pytest.mark.parametrize("a", [[[1.0, 1.0], [0.0, 1.0]], [[0.0, 1.0], [0.0, 0.0]]])
def test_jordan_blocks_are_nan(a):
    # the gradient of the sum of w^2 is 2 A^T, which equal eigenvalues and vectors do not show
    assert np.isnan(pdl.grad(lambda a: np.real(np.sum(np.linalg.eigvals(a) ** 2)))(np.array(a))).all()
    assert np.isnan(pdl.grad(lambda a: np.real(np.linalg.eig(a)[0][0]))(np.array(a))).all()


def test_a_kink_of_eigenvalues_of_any_matrix_is_nan():
    assert np.isnan(pdl.grad(lambda a: np.real(np.linalg.eigvals(a)[0]))(np.eye(2))).any()


def test_eig_of_a_real_matrix_with_complex_eigenvalues():
    turn = np.array([[0.0, -2.0], [2.0, 0.0]])
    np.testing.assert_allclose(pdl.grad(lambda a: np.linalg.eigvals(a)[0].imag)(turn), [[0, -0.5], [0.5, 0]])
    np.testing.assert_allclose(pdl.grad(lambda a: np.sum(np.linalg.eigvals(a)).real)(turn), np.eye(2))


# --- singular matrices ------------------------------------------------------------------------------------


def test_determinants_of_singular_matrices():
    x, y = np.array([1.0, 2, 3]), np.array([3.0, -1, 2])
    ones = np.arange(1.0, 10).reshape(3, 3)
    cofactors = [[-3, 6, -3], [6, -12, 6], [-3, 6, -3]]
    np.testing.assert_allclose(pdl.grad(np.linalg.det)(ones), cofactors, atol=1e-12)
    np.testing.assert_allclose(pdl.grad(np.linalg.det)(np.outer(x, y)), 0, atol=1e-13)
    np.testing.assert_array_equal(pdl.grad(np.linalg.det)(np.zeros((1, 1))), [[1.0]])
    assert pdl.grad(lambda a: np.linalg.det(a))(np.zeros((0, 0))).shape == (0, 0)
    flip = np.array([[0.0, 0, 0, 1], [0, 0, -1, 0], [0, -1, 0, 0], [1, 0, 0, 0]])
    np.testing.assert_allclose(pdl.hessian(np.linalg.det)(np.zeros((2, 2))).reshape(4, 4), flip)


@pytest.mark.parametrize("dtype", [np.float32, np.complex64])
def test_determinants_of_singular_matrices_in_single_precision(dtype):
    a = np.array([[1, 2], [2, 4]], dtype)
    g = pdl.grad(lambda a: np.linalg.det(a).real)(a)
    assert g.dtype == dtype
    np.testing.assert_allclose(g, [[4, -2], [-2, 1]], rtol=1e-5)


def test_third_derivatives_of_determinants_of_singular_matrices():
    f = pdl.grad(lambda t: pdl.grad(pdl.grad(lambda t: np.linalg.det(np.eye(3) * t)))(t))
    np.testing.assert_allclose(f(0.0), 6.0)


def test_slogdet_of_a_singular_matrix():
    a = np.ones((2, 2))
    sign, log = pdl.vjp(np.linalg.slogdet, a)[0]
    assert (sign, log) == (0, -np.inf)
    assert np.isnan(pdl.grad(lambda a: np.linalg.slogdet(a)[1])(a)).all()
    np.testing.assert_array_equal(pdl.grad(lambda a: np.linalg.slogdet(a)[0])(a), 0)
    both = np.stack([a, 2 * np.eye(2)])
    g = pdl.grad(lambda a: np.sum(np.linalg.slogdet(a)[1]))(both)
    np.testing.assert_array_equal(g[1], np.eye(2) / 2)
    t = pdl.jvp(lambda a: np.linalg.slogdet(a)[1], (both,), (np.stack([a, np.eye(2)]),))[1]
    np.testing.assert_array_equal(t, [np.nan, 1])


@pytest.mark.parametrize("p", [None, 2, 1, "fro", np.inf])
def test_condition_numbers_of_singular_matrices(p):
    a = np.stack([np.ones((2, 2)), np.diag([2.0, 1.0])])
    out, pullback = pdl.vjp(lambda a: np.linalg.cond(a, p), a)
    np.testing.assert_allclose(out, np.linalg.cond(a, p))
    with np.errstate(all="ignore"):
        (g,) = pullback(np.ones(2))
    assert not np.isfinite(g[0]).any()
    assert np.isfinite(g[1]).all()


def test_qr_of_a_matrix_without_full_rank_is_nan():
    a = np.stack([np.zeros((2, 2)), np.array([[2.0, 1], [1, 3]])])
    g = pdl.grad(lambda a: np.sum(np.linalg.qr(a)[1]))(a)
    assert np.isnan(g[0]).all()
    assert np.isfinite(g[1]).all()
    t = pdl.jvp(np.linalg.qr, (a,), (np.ones_like(a),))[1]
    assert np.isnan(t[1][0]).any()
    assert np.isfinite(t[1][1]).all()


# --- forms, values and errors -----------------------------------------------------------------------------


def test_results_are_named_tuples_as_in_numpy():
    a = np.diag([1.0, 2.0])

    def f(a):
        w = np.linalg.eigh(a).eigenvalues, np.real(np.linalg.eig(a).eigenvalues)
        return np.sum(w[0] + w[1]) + np.sum(np.linalg.svd(a).S) + np.sum(np.linalg.qr(a).R)

    assert np.isfinite(pdl.grad(f)(a)).all()


def test_lstsq_returns_what_numpy_returns():
    for m, n, columns in [(4, 2, ()), (4, 2, (3,)), (2, 4, (3,)), (3, 3, ())]:
        a, b = RNG.standard_normal((m, n)), RNG.standard_normal((m, *columns))
        expected = np.linalg.lstsq(a, b)
        out = pdl.vjp(lambda a, b=b: np.linalg.lstsq(a, b)[:2], a)[0]
        for x, y in zip(out, expected, strict=False):
            assert x.shape == y.shape
            np.testing.assert_allclose(x, y, atol=1e-13)
        pdl.vjp(lambda a, b=b, e=expected: same_rank(np.linalg.lstsq(a, b), e), a)


def same_rank(out, expected):
    assert out[2] == expected[2]
    return out[3]


def test_matrix_rank_is_a_constant():
    assert kind(np.linalg.matrix_rank) == "constant"
    np.testing.assert_array_equal(
        pdl.grad(lambda a: np.linalg.matrix_rank(a) * a[0, 0])(np.eye(2)), [[2, 0], [0, 0]]
    )


V3, V2 = np.ones(3), np.ones(2)
ERRORS = {
    "eigh-UPLO": lambda a: np.linalg.eigh(a, "X")[0],
    "eigh-rectangle": lambda a: np.linalg.eigh(a[:2])[0],
    "eig-rectangle": lambda a: np.linalg.eig(a[:2])[0],
    "svd-vector": lambda a: np.linalg.svd(a[0])[1],
    "qr-mode": lambda a: np.linalg.qr(a, "other"),
    "qr-vector": lambda a: np.linalg.qr(a[0]),
    "eigh-vector": lambda a: np.linalg.eigh(a[0])[0],
    "pinv-both": lambda a: np.linalg.pinv(a, 1e-3, rtol=1e-3),
    "pinv-vector": lambda a: np.linalg.pinv(a[0]),
    "lstsq-shapes": lambda a: np.linalg.lstsq(a, a[:2])[0],
    "lstsq-vector": lambda a: np.linalg.lstsq(a[0], a)[0],
    "tensorinv-ind": lambda a: np.linalg.tensorinv(a, 0),
    "tensorinv-square": lambda a: np.linalg.tensorinv(a[:2], 1),
    "tensorsolve-square": lambda a: np.linalg.tensorsolve(a[:2], a[0]),
    "cond-empty": lambda a: np.linalg.cond(a[:0]),
    "cond-rectangle": lambda a: np.linalg.cond(a[:2], 1),
    "cond-order": lambda a: np.linalg.cond(a, 7),
    "cross-2d": lambda a: np.linalg.cross(a[:, :2], a[:, :2]),
    "outer-matrix": lambda a: np.linalg.outer(a, a),
    "multi_dot-one": lambda a: np.linalg.multi_dot([a]),
    "multi_dot-vector-inside": lambda a: np.linalg.multi_dot([a, a[0], a]),
    "multi_dot-shapes": lambda a: np.linalg.multi_dot([a, a[:2], a]),
    "matrix_power-rectangle": lambda a: np.linalg.matrix_power(a[:2], 0),
    "matrix_power-float": lambda a: np.linalg.matrix_power(a, 0.5),
    "norm-order": lambda a: np.linalg.norm(a, 7),
    "norm-name": lambda a: np.linalg.norm(a, "other"),
    "norm-vector-nuc": lambda a: np.linalg.norm(a[0], "nuc"),
    "norm-dimensions": lambda a: np.linalg.norm(np.stack([a, a]), 2),
    "norm-axes": lambda a: np.linalg.norm(a, 2, axis=(0, 0)),
    "det-rectangle": lambda a: np.linalg.det(a[:2]),
}


@pytest.mark.parametrize("name", ERRORS)
def test_what_numpy_refuses_raises_its_error(name):
    f, a = ERRORS[name], np.diag([1.0, 2.0, 3.0])
    with pytest.raises((ValueError, TypeError)) as expected:
        f(a)
    with pytest.raises((ValueError, TypeError)) as caught:
        pdl.vjp(f, a)
    assert type(caught.value) is type(expected.value)


def test_the_raw_mode_of_qr_is_refused():
    with pytest.raises(NotDifferentiableError, match="reduced"):
        pdl.grad(lambda a: np.sum(np.linalg.qr(a, "raw")[0]))(np.eye(2))


@pytest.mark.parametrize("dtype", [np.float32, np.complex64])
def test_single_precision_at_equal_values(dtype):
    a = np.asarray(Q @ np.diag([1.0, 1, 2]) @ Q.T, dtype)
    for values in (np.linalg.eigvalsh, lambda a: np.linalg.svd(a)[1]):
        g = pdl.grad(lambda a, f=values: np.sum(f(a) ** 2))(a)
        assert g.dtype == dtype
        assert np.isfinite(g).all()
    g = pdl.grad(lambda a: np.sum(np.linalg.svd(a, compute_uv=False) ** 2))(a)
    np.testing.assert_allclose(g, 2 * a, atol=1e-5)
    assert np.isnan(pdl.grad(lambda a: np.sum(np.abs(np.linalg.eigh(a)[1]) ** 3))(a)).any()
