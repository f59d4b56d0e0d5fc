"""Cases of `test_rules`: see `paradual.rules.decompositions`, and what is computed with them."""

import itertools

import hypothesis.strategies as st
import numpy as np
from case_table import case, hermitian, normal, reseed, square, z
from shape_table import empty, generator, of_matrices, shape, shaped

from paradual.rules.decompositions import eigen_general, eigen_hermitian, mark, singular, thin_qr
from paradual.rules.linalg import pseudo_inverse

reseed(31)


def wide_apart(*shape):
    """Matrices with singular values that are far apart, and no symmetry."""
    m, n = shape[-2:]
    return normal(*shape) * 0.3 + np.eye(m, n) * np.arange(1, 2 * n, 2)


def complex_apart(*shape):
    return wide_apart(*shape) + 0.3j * normal(*shape)


def squares(v):
    """What does not depend on the phases of vectors."""
    return np.abs(v) ** 2


def h(a):
    return np.conjugate(np.swapaxes(a, -1, -2))


def marked(out):
    """The results of a decomposition's primitive as `mark` wants them used."""
    return tuple(part if part.ndim < 2 else mark(part, out[-1]) for part in out[:-1])


SHAPES = {"square": (3, 3), "tall": (4, 2), "wide": (2, 4), "stack": (2, 3, 2), "1x1": (1, 1)}

# --- eigenvalues and eigenvectors -------------------------------------------------------------------------

for UPLO in ("L", "U", "u"):
    a, b = wide_apart(3, 3), complex_apart(2, 3, 3)
    case(np.linalg.eigh, UPLO, a, fn=lambda a, u=UPLO: tuple(np.linalg.eigh(a, u)))
    case(np.linalg.eigh, f"{UPLO}-keyword", a, fn=lambda a, u=UPLO: np.linalg.eigh(a, UPLO=u).eigenvectors)
    case(
        np.linalg.eigh,
        f"{UPLO}-complex-stack",
        b,
        fn=lambda a, u=UPLO: [f(x) for f, x in zip((np.real, squares), np.linalg.eigh(a, u), strict=True)],
    )
    case(np.linalg.eigvalsh, UPLO, a, UPLO=UPLO)
    case(np.linalg.eigvalsh, f"{UPLO}-complex-stack", b, UPLO=UPLO)
case(np.linalg.eigh, "1x1", normal(1, 1), fn=lambda a: tuple(np.linalg.eigh(a)))
case(np.linalg.eigh, "0x0", normal(2, 0, 0), fn=lambda a: tuple(np.linalg.eigh(a)))
case(eigen_hermitian, "L", wide_apart(3, 3), fn=lambda a: marked(eigen_hermitian(a)))
case(mark, "array", normal(3), fn=lambda v: mark(v, 0.0))


def rotations(*stack):
    """Real matrices with complex eigenvalues that are far apart."""
    return normal(*stack, 3, 3) * 0.2 + np.array([[0.0, 2, 0], [-2, 0, 0], [0, 0, 1]])


for label, a in {
    "real": wide_apart(3, 3),
    "real-stack": wide_apart(2, 3, 3),
    "rotation": rotations(),
    "rotation-stack": rotations(2),
    "complex": complex_apart(3, 3),
    "1x1": normal(1, 1),
    "0x0": normal(0, 0),
}.items():
    case(np.linalg.eig, label, a, fn=lambda a: tuple(np.linalg.eig(a)))
    case(np.linalg.eigvals, label, a)
case(eigen_general, "complex", complex_apart(2, 2), fn=lambda a: marked(eigen_general(a)))

# --- singular values --------------------------------------------------------------------------------------


def invariants(a, full=True):
    """What the singular vectors say whatever their phases, and the basis of the space that is left over."""
    u, s, vh = np.linalg.svd(a, full)
    k = s.shape[-1]
    u0, v0 = u[..., k:], vh[..., k:, :]
    some = (squares(u[..., :k]), squares(vh[..., :k, :]), np.matmul(u[..., :k], vh[..., :k, :]))
    return s, *some, np.matmul(u0, h(u0)), np.matmul(h(v0), v0)


for label, dims in SHAPES.items():
    a, b = wide_apart(*dims), complex_apart(*dims)
    case(np.linalg.svd, f"{label}-thin", a, fn=lambda a: tuple(np.linalg.svd(a, full_matrices=False)))
    case(np.linalg.svd, f"{label}-thin-complex", b, fn=lambda a: invariants(a, False))
    case(np.linalg.svd, f"{label}-full", a, fn=invariants)
    case(np.linalg.svd, f"{label}-full-complex", b, fn=invariants)
    case(np.linalg.svd, f"{label}-values", b, compute_uv=False)
    case(np.linalg.svdvals, label, a)
    case(np.linalg.svdvals, f"{label}-complex", b)
    case(singular, label, a, fn=lambda a: marked(singular(a)))
case(np.linalg.svd, "one-left-over", wide_apart(3, 2), fn=lambda a: tuple(np.linalg.svd(a)))
case(np.linalg.svd, "only-u", wide_apart(3, 2), fn=lambda a: np.linalg.svd(a)[0][:, :2])
case(np.linalg.svd, "only-vh", wide_apart(3, 2), fn=lambda a: np.linalg.svd(a, False).Vh)
case(np.linalg.svd, "0x3", normal(0, 3), compute_uv=False)
indefinite = wide_apart(2, 3, 3) - 2 * np.eye(3)
case(np.linalg.svd, "hermitian", indefinite, fn=lambda a: tuple(np.linalg.svd(a, hermitian=True)))
case(np.linalg.svd, "hermitian-values", indefinite, compute_uv=False, hermitian=True)
case(
    np.linalg.svd,
    "hermitian-complex",
    indefinite + 0.2j * normal(2, 3, 3),
    fn=lambda a: [
        f(x) for f, x in zip((squares, np.real, squares), np.linalg.svd(a, hermitian=True), strict=True)
    ],
)
for ord in (2, -2, "nuc"):
    case(np.linalg.norm, f"singular-{ord}", wide_apart(3, 2), ord=ord)
    case(np.linalg.norm, f"singular-{ord}-complex", complex_apart(2, 3), ord=ord)
    case(np.linalg.norm, f"singular-{ord}-axes", wide_apart(2, 3, 2), ord=ord, axis=(2, 0))
    case(
        np.linalg.norm, f"singular-{ord}-keepdims", wide_apart(2, 3, 2), ord=ord, axis=(1, -1), keepdims=True
    )
    case(np.linalg.matrix_norm, f"singular-{ord}", wide_apart(2, 3, 2), ord=ord)
case(np.linalg.norm, "matrix-f", normal(2, 3), ord="f")

# --- QR ---------------------------------------------------------------------------------------------------

for label, dims in SHAPES.items():
    for mode in ("reduced", "complete", "r"):
        for x, kind in ((wide_apart(*dims), ""), (complex_apart(*dims), "-complex")):
            case(
                np.linalg.qr,
                f"{label}-{mode}{kind}",
                x,
                fn=lambda a, mode=mode: (
                    np.linalg.qr(a, mode) if mode == "r" else tuple(np.linalg.qr(a, mode))
                ),
            )
case(np.linalg.qr, "default", wide_apart(3, 2), fn=lambda a: tuple(np.linalg.qr(a)))
case(thin_qr, "tall", wide_apart(3, 2))

# --- pseudo-inverses, least squares, tensors, condition numbers ---------------------------------------------

for label, dims in SHAPES.items():
    case(np.linalg.pinv, label, wide_apart(*dims))
    case(np.linalg.pinv, f"{label}-complex", complex_apart(*dims))
case(pseudo_inverse, "tall", wide_apart(3, 2))
case(np.linalg.pinv, "low-rank", normal(4, 2), normal(2, 3), fn=lambda a, b: np.linalg.pinv(a @ b, 1e-5))
case(np.linalg.pinv, "rcond", wide_apart(3, 3), rcond=0.4)
case(np.linalg.pinv, "rtol", complex_apart(2, 4, 3), rtol=0.4)
case(np.linalg.pinv, "rtol-None", wide_apart(3, 2), rtol=None)
case(np.linalg.pinv, "hermitian", wide_apart(2, 3, 3), hermitian=True)
case(np.linalg.pinv, "hermitian-complex", complex_apart(3, 3), hermitian=True)
case(np.linalg.pinv, "hermitian-rcond", hermitian(3, 3) + np.diag([0.0, 3, 6]), rcond=0.6, hermitian=True)
case(np.linalg.lstsq, "tall-vector", wide_apart(4, 2), normal(4))
case(np.linalg.lstsq, "tall-matrix", wide_apart(4, 2), normal(4, 3), rcond=None)
case(np.linalg.lstsq, "wide", wide_apart(2, 4), normal(2, 3), rcond=-1)
case(np.linalg.lstsq, "square", wide_apart(3, 3), normal(3))
case(np.linalg.lstsq, "complex", complex_apart(4, 2), z(4))
case(np.linalg.lstsq, "real-complex", wide_apart(3, 2), z(3, 2))
case(np.linalg.lstsq, "cut", wide_apart(4, 3), normal(4), rcond=0.4)
a, b = wide_apart(4, 2), normal(4)
case(np.linalg.lstsq, "only-left", a, fn=lambda a, b=b: np.linalg.lstsq(a, b)[:2])
case(np.linalg.lstsq, "only-right", b, fn=lambda b, a=a: np.linalg.lstsq(a, b)[:2])
case(np.linalg.tensorinv, "2", square(6, 6).reshape(2, 3, 3, 2))
case(np.linalg.tensorinv, "1", square(4, 4).reshape(4, 2, 2), ind=1)
case(np.linalg.tensorinv, "complex", square(4, 4).reshape(2, 2, 4) + 0.3j * normal(2, 2, 4), ind=2)
case(np.linalg.tensorsolve, "matrix", square(6, 6).reshape(2, 3, 6), normal(2, 3))
case(np.linalg.tensorsolve, "axes", square(6, 6).reshape(2, 3, 6).swapaxes(0, 1), normal(6), axes=(1, 0))
case(np.linalg.tensorsolve, "complex", square(4, 4).reshape(4, 2, 2) + 0j, z(4))
for p in (None, 2, -2, "fro", "nuc", 1, -1, np.inf, -np.inf):
    case(np.linalg.cond, f"{p}", wide_apart(3, 3), p=p)
    case(np.linalg.cond, f"{p}-complex-stack", complex_apart(2, 2, 2), p=p)
case(np.linalg.cond, "tall", wide_apart(3, 2))

# --- determinants of singular matrices, products ------------------------------------------------------------

case(np.linalg.det, "singular", normal(3, 2) @ normal(2, 3))
case(np.linalg.det, "rank-n-2", normal(4, 2) @ normal(2, 4))
case(np.linalg.det, "singular-complex", z(3, 2) @ z(2, 3))
case(np.linalg.det, "zeros", np.zeros((3, 3)))
case(np.linalg.det, "zero-1x1", np.zeros((1, 1)))
case(np.linalg.det, "some-singular", np.stack([square(3, 3), np.ones((3, 3)), np.zeros((3, 3))]))
case(np.linalg.slogdet, "0x0", normal(2, 0, 0))
case(np.linalg.matrix_power, "0-complex", z(2, 2), n=0)
CHAINS = {
    "two": ((2, 3), (3, 2)),
    "left-vector": ((3,), (3, 2), (2, 4)),
    "right-vector": ((2, 3), (3, 2), (2,)),
    "four": ((2, 5), (5, 1), (1, 4), (4, 2)),
    "two-vectors": ((3,), (3,)),
}
for label, chain in CHAINS.items():
    case(np.linalg.multi_dot, label, *(z(*s) for s in chain), fn=lambda *a: np.linalg.multi_dot(a))


# --- random shapes ----------------------------------------------------------------------------------------


def distinct(rng, *shape):
    """Matrices with singular values far apart."""
    m, n = shape[-2], shape[-1]
    k = min(m, n)
    u = np.linalg.qr(rng.standard_normal((*shape[:-2], m, m)))[0][..., :k]
    v = np.linalg.qr(rng.standard_normal((*shape[:-2], n, n)))[0][..., :k]
    return np.matmul(u * (1.0 + np.arange(k)), np.swapaxes(v, -1, -2))


def distinct_squares(rng, *dims):
    return distinct(rng, *dims, dims[-1])


def of_rectangles(function):
    """An entry: ``function(A)`` of a stack of real or complex matrices."""

    def entry(draw):
        rng, stack = generator(draw), shape(draw, 0, 2, 1, 2)
        m, n = draw(st.integers(1, 4)), draw(st.integers(1, 4))
        a = distinct(rng, *stack, m, n)
        if draw(st.booleans()):
            a = a * np.exp(1j * rng.standard_normal((*stack, 1, n)))
        return function, (a,)

    return entry


def lower(rng, *dims):
    """One triangle of matrices with eigenvalues far apart."""
    return np.tril(rng.standard_normal((*dims, dims[-1])) * 0.2) + np.diag(2.0 * np.arange(dims[-1]) + 1)


def dominant(rng, *dims):
    """Matrices with eigenvalues far apart; not triangular, whose eigenvalues come in another order."""
    return lower(rng, *dims) + rng.uniform(0.1, 0.3, (*dims, dims[-1]))


def least_squares(draw):
    rng, columns = generator(draw), shape(draw, 0, 1)
    m, n = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    return (lambda a, b: [np.linalg.lstsq(a, b)[k] for k in (0, 1, 3)]), (
        distinct(rng, m, n),
        rng.standard_normal((m, *columns)),
    )


def tensors(draw):
    rng = generator(draw)
    p, q = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    a = lower(rng, p * q)
    return (lambda a, b: np.linalg.tensorsolve(a, b)), (
        a.reshape(p, q, q, p),
        rng.standard_normal((p, q)),
    )


def inverse_tensor(draw):
    rng = generator(draw)
    p, q = draw(st.integers(1, 2)), draw(st.integers(1, 3))
    return (lambda a: np.linalg.tensorinv(a, ind=1)), (lower(rng, p * q).reshape(p * q, p, q),)


def chain_of_matrices(draw):
    rng = generator(draw)
    sizes = [draw(st.integers(1, 3)) for _ in range(draw(st.integers(3, 5)))]
    arrays = [rng.standard_normal(pair) for pair in itertools.pairwise(sizes)]
    arrays[0] = arrays[0][0] if draw(st.booleans()) else arrays[0]
    arrays[-1] = arrays[-1][:, 0] if draw(st.booleans()) else arrays[-1]
    return (lambda *a: np.linalg.multi_dot(a)), tuple(arrays)


shaped(np.linalg.eigh, of_matrices(lambda a: tuple(np.linalg.eigh(a)), lower))
shaped(np.linalg.eigvalsh, of_matrices(np.linalg.eigvalsh, lower, UPLO="L"))
shaped(np.linalg.eig, of_matrices(lambda a: tuple(np.linalg.eig(a)), dominant))
shaped(np.linalg.eigvals, of_matrices(np.linalg.eigvals, dominant))
shaped(np.linalg.svd, of_rectangles(invariants), of_rectangles(lambda a: invariants(a, False)))
shaped(np.linalg.svdvals, of_rectangles(np.linalg.svdvals))
shaped(
    np.linalg.qr, *(of_rectangles(lambda a, m=m: tuple(np.linalg.qr(a, m))) for m in ("reduced", "complete"))
)
shaped(np.linalg.pinv, of_rectangles(np.linalg.pinv))
shaped(np.linalg.lstsq, least_squares)
shaped(np.linalg.tensorsolve, tensors)
shaped(np.linalg.tensorinv, inverse_tensor)
shaped(np.linalg.multi_dot, chain_of_matrices)
shaped(np.linalg.cond, *(of_matrices(np.linalg.cond, lower, p=p) for p in (None, "fro")))
shaped(
    np.linalg.det,
    of_matrices(np.linalg.det, lower),
    of_matrices(np.linalg.det, lambda r, *n: np.ones((*n, n[-1]))),
)
shaped(
    np.linalg.norm, *(of_rectangles(lambda a, o=o: np.linalg.norm(a, o, (-2, -1))) for o in (2, -2, "nuc"))
)
shaped(np.linalg.matrix_norm, of_rectangles(lambda a: np.linalg.matrix_norm(a, ord="nuc")))

shaped(mark, lambda draw: (lambda v: mark(v, 0.0), (generator(draw).standard_normal(shape(draw)),)))
shaped(eigen_hermitian, of_matrices(lambda a: marked(eigen_hermitian(a)), lower))
shaped(eigen_general, of_matrices(lambda a: marked(eigen_general(a)), dominant))
shaped(singular, of_matrices(lambda a: marked(singular(a)), distinct_squares))
shaped(thin_qr, of_matrices(thin_qr, lower))
shaped(pseudo_inverse, of_rectangles(pseudo_inverse))

# --- no matrices, and matrices of nothing -------------------------------------------------------------------

EMPTY_CALLS = {
    np.linalg.eigh: [lambda a: tuple(np.linalg.eigh(a))],
    np.linalg.eigvalsh: [np.linalg.eigvalsh],
    np.linalg.eig: [lambda a: tuple(np.linalg.eig(a))],
    np.linalg.eigvals: [np.linalg.eigvals],
    np.linalg.svd: [lambda a, full=full: tuple(np.linalg.svd(a, full)) for full in (True, False)],
    np.linalg.qr: [lambda a: tuple(np.linalg.qr(a)), lambda a: tuple(np.linalg.qr(a, "complete"))],
    np.linalg.pinv: [np.linalg.pinv],
    np.linalg.cond: [np.linalg.cond, lambda a: np.linalg.cond(a, "fro")],
}
for function, calls in EMPTY_CALLS.items():
    for call in calls:
        empty(
            function,
            call,
            lambda x, f=call: f(x[..., None, None] + np.diag([2.0, 3.0]).astype(x.dtype)),
            lambda x, f=call: f(np.reshape(x, (*x.shape[:-2], 0, 0))),
        )
