"""Random shapes for `test_random_shapes`: products and linear algebra."""

import string
from itertools import pairwise

import hypothesis.extra.numpy as arrays_of
import hypothesis.strategies as st
import numpy as np
from shape_table import apart, axis, complex_too, empty, generator, numbers, of_one, shape, shaped

from paradual.rules.products import contract

# --- products with the shapes of a generalized ufunc ------------------------------------------------------


def of_signature(f, signature, max_dims=2):
    """An entry: ``f(x, y)`` of shapes that a signature allows; one or both are differentiated."""

    def entry(draw):
        rng = generator(draw)
        shapes = arrays_of.mutually_broadcastable_shapes(signature=signature, max_dims=max_dims, max_side=3)
        x, y = (numbers(draw, rng, *n) for n in draw(shapes).input_shapes)
        which = draw(st.sampled_from(["both", "left", "right"]))
        if which == "left":
            return (lambda x: f(x, y)), (x,)
        return (f, (x, y)) if which == "both" else ((lambda y: f(x, y)), (y,))

    return entry


for signature in ("(n?,k),(k,m?)->(n?,m?)", "(n,k),(k,m)->(n,m)"):
    shaped(np.matmul, of_signature(np.matmul, signature))
shaped(np.outer, of_signature(np.outer, "(n),(m)->(n,m)"))
shaped(np.vdot, of_signature(np.vdot, "(n),(n)->()", max_dims=0))
OF_SIGNATURE = {"vecdot": "(n),(n)->()", "matvec": "(n,k),(k)->(n)", "vecmat": "(k),(k,m)->(m)"}
for name, signature in OF_SIGNATURE.items():
    if hasattr(np, name):
        shaped(getattr(np, name), of_signature(getattr(np, name), signature))
if hasattr(np.linalg, "matmul"):
    shaped(np.linalg.matmul, of_signature(np.linalg.matmul, "(n,k),(k,m)->(n,m)"))
    shaped(np.linalg.outer, of_signature(np.linalg.outer, "(n),(m)->(n,m)", max_dims=0))
empty(np.matmul, lambda x: x @ np.swapaxes(x, -1, -2), lambda x: np.ones((2, x.shape[0])) @ x)
empty(np.outer, lambda x: np.outer(x, x))
empty(np.vdot, lambda x: np.vdot(x, x))


def along(f):
    """An entry: ``f(x, y, axis=axis)`` of shapes that broadcast together but for the axis."""

    def entry(draw):
        rng = generator(draw)
        n = shape(draw, 1)
        k = axis(draw, len(n), none=False)
        stretched = [1 if j != k % len(n) and draw(st.booleans()) else m for j, m in enumerate(n)]
        return (lambda x, y: f(x, y, axis=k)), (numbers(draw, rng, *n), numbers(draw, rng, *stretched))

    return entry


if hasattr(np, "vecdot"):
    shaped(np.vecdot, along(np.vecdot))
    empty(np.vecdot, lambda x: np.vecdot(x, x))
if hasattr(np.linalg, "vecdot"):
    shaped(np.linalg.vecdot, along(np.linalg.vecdot))

# --- products that sum over chosen axes -------------------------------------------------------------------


def dot(draw):
    rng = generator(draw)
    a, b = list(shape(draw, max_dims=3)), list(shape(draw, max_dims=3))
    if a and b:
        b[max(-2, -len(b))] = a[-1]
    return np.dot, (numbers(draw, rng, *a), numbers(draw, rng, *b))


def inner(draw):
    rng = generator(draw)
    a, b = list(shape(draw, max_dims=3)), list(shape(draw, max_dims=3))
    if a and b:
        b[-1] = a[-1]
    return np.inner, (numbers(draw, rng, *a), numbers(draw, rng, *b))


def tensordot(f):
    def entry(draw):
        rng = generator(draw)
        a, b = list(shape(draw)), list(shape(draw))
        count = draw(st.integers(0, min(len(a), len(b))))
        over_a = draw(st.permutations(range(len(a))))[:count]
        over_b = draw(st.permutations(range(len(b))))[:count]
        form = draw(st.sampled_from(["number", "lists", "ints"]))
        if form == "number":
            over_a, over_b = range(len(a) - count, len(a)), range(count)
        for i, j in zip(over_a, over_b, strict=True):
            b[j] = a[i]
        axes = (list(over_a), [j - len(b) if draw(st.booleans()) else j for j in over_b])
        if form == "number":
            axes = count
        elif form == "ints" and count == 1:
            axes = (axes[0][0], axes[1][0])
        return (lambda x, y: f(x, y, axes=axes)), (numbers(draw, rng, *a), numbers(draw, rng, *b))

    return entry


def kron(draw):
    rng = generator(draw)
    return np.kron, tuple(numbers(draw, rng, *shape(draw, max_side=2)) for _ in range(2))


def cross(draw):
    rng = generator(draw)
    n = shape(draw, 0, 2)
    a, b, c = (draw(st.integers(-len(n) - 1, len(n))) for _ in range(3))
    x, y = (numbers(draw, rng, *n, 3) for _ in range(2))
    args = np.moveaxis(x, -1, a), np.moveaxis(y, -1, b)
    return (lambda x, y: np.cross(x, y, axisa=a, axisb=b, axisc=c)), args


def cross_along(f):
    def entry(draw):
        rng = generator(draw)
        n = list(shape(draw, 1, 3))
        k = axis(draw, len(n), none=False)
        n[k] = 3
        return (lambda x, y: f(x, y, axis=k)), (numbers(draw, rng, *n), numbers(draw, rng, *n))

    return entry


shaped(np.dot, dot)
shaped(np.inner, inner)
shaped(np.tensordot, tensordot(np.tensordot))
shaped(np.kron, kron)
shaped(np.cross, cross, cross_along(np.cross))
empty(np.dot, lambda x: np.dot(x, np.transpose(x)), lambda x: np.dot(2.0, x))
empty(np.inner, lambda x: np.inner(x, x))
empty(np.tensordot, lambda x: np.tensordot(x, x, x.ndim), lambda x: np.tensordot(x, x, 0))
empty(np.kron, lambda x: np.kron(x, x), lambda x: np.kron(np.ones((2, 2)), x))
empty(np.cross, lambda x: np.cross(np.ones((*x.shape, 3)) * x[..., None], np.arange(3.0)))
if hasattr(np.linalg, "tensordot"):
    shaped(np.linalg.tensordot, tensordot(np.linalg.tensordot))
    shaped(np.linalg.cross, cross_along(np.linalg.cross))

# --- einsum -----------------------------------------------------------------------------------------------


def subscripts(draw, most=3):
    """The terms of a contraction, the labels of the result (None: left to NumPy), the size of each label."""
    sizes = {c: draw(st.integers(1, 3)) for c in "abcd"}
    terms = [draw(st.text("abcd", max_size=3)) for _ in range(draw(st.integers(1, most)))]
    there = sorted(set("".join(terms)))
    result = "".join(draw(st.permutations(there))[: draw(st.integers(0, len(there)))])
    return terms, draw(st.sampled_from([result, None])), sizes


def einsum(draw):
    rng = generator(draw)
    terms, result, sizes = subscripts(draw)
    arrays = [numbers(draw, rng, *(sizes[c] for c in term)) for term in terms]
    if draw(st.booleans()):  # einsum(a, [0, 1], b, [1, 2], [0, 2])
        lists = [["abcd".index(c) for c in term] for term in terms]
        last = [] if result is None else [["abcd".index(c) for c in result]]

        def of_lists(*x):
            return np.einsum(*(part for pair in zip(x, lists, strict=True) for part in pair), *last)

        return of_lists, tuple(arrays)
    text = ",".join(terms) + ("" if result is None else "->" + result)
    optimize = draw(st.booleans())
    return (lambda *x: np.einsum(text, *x, optimize=optimize)), tuple(arrays)


def einsum_with_dots(draw):
    rng = generator(draw)
    a, b = draw(arrays_of.mutually_broadcastable_shapes(num_shapes=2, max_dims=2, max_side=2)).input_shapes
    n, k, m = (draw(st.integers(1, 3)) for _ in range(3))
    terms = [
        "...ij,...jk->...ik",
        "...ij,...jk",
        "ij...,jk...->k...i",
        "ij...,...jk->...",
        "...ij,...jk->i...",
    ]
    text = draw(st.sampled_from(terms))
    left, right = text.split("->")[0].split(",")
    x = numbers(draw, rng, *((*a, n, k) if left[0] == "." else (n, k, *a)))
    y = numbers(draw, rng, *((*b, k, m) if right[0] == "." else (k, m, *b)))
    return (lambda x, y: np.einsum(text, x, y)), (x, y)


def contraction(draw):
    rng = generator(draw)
    terms, result, sizes = subscripts(draw)
    arrays = [numbers(draw, rng, *(sizes[c] for c in term)) for term in terms]
    text = ",".join(terms) + "->" + (result or "")
    active = draw(st.integers(0, len(terms) - 1))
    return (lambda x: contract(text, [*arrays[:active], x, *arrays[active + 1 :]])), (arrays[active],)


def diagonals(draw):
    rng, n = generator(draw), draw(st.integers(1, 3))
    real, other = apart(rng, n, n, n), numbers(draw, rng, n) * 1j  # complex cotangents of a real array
    return (lambda a, b: np.einsum("iii,i->i", a, b)), (real, other)


shaped(np.einsum, einsum, einsum_with_dots, diagonals)
shaped(contract, contraction)
LABELS = string.ascii_lowercase
empty(
    np.einsum,
    lambda x: np.einsum("...,...->...", x, x),
    lambda x: np.einsum(LABELS[: x.ndim] + "->", x),
    lambda x: np.einsum(LABELS[: x.ndim] + ",z->z", x, np.ones(2)),
)

# --- linear algebra ---------------------------------------------------------------------------------------


def regular(draw, rng, *stack, n):
    """Matrices with singular values well away from zero, of either sign of determinant, complex at random."""
    noise = numbers(draw, rng, *stack, n, n) * (0.3 / n)
    signs = np.where(rng.random((*stack, n)) < 0.5, 1, -1)
    return noise + np.eye(n) * (signs * np.arange(2, 2 + n))[..., None]


def definite(draw, rng, *stack, n):
    """Hermitian positive definite matrices."""
    noise = numbers(draw, rng, *stack, n, n) * (0.5 / n)
    return noise + np.conjugate(np.swapaxes(noise, -1, -2)) + 4 * np.eye(n)


def of_matrices(f, make=regular, **choices):
    """An entry: ``f(A)`` of a stack of matrices, with options chosen at random."""

    def entry(draw):
        rng, stack, n = generator(draw), shape(draw, 0, 2, 1, 2), draw(st.integers(1, 3))
        options = {name: draw(st.sampled_from(values)) for name, values in choices.items()}
        return (lambda a: f(a, **options)), (make(draw, rng, *stack, n=n),)

    return entry


def solve(draw):
    rng, n = generator(draw), draw(st.integers(1, 3))
    a, b = draw(arrays_of.mutually_broadcastable_shapes(num_shapes=2, max_dims=2, max_side=2)).input_shapes
    right = (n,) if draw(st.booleans()) else (*b, n, draw(st.integers(1, 3)))  # NumPy 2: a vector is 1-d
    a, b = regular(draw, rng, *a, n=n), numbers(draw, rng, *right)
    which = draw(st.sampled_from(["both", "left", "right"]))
    if which == "left":
        return (lambda a: np.linalg.solve(a, b)), (a,)
    return (np.linalg.solve, (a, b)) if which == "both" else ((lambda b: np.linalg.solve(a, b)), (b,))


def multi_dot(draw):
    rng = generator(draw)
    sizes = [draw(st.integers(1, 3)) for _ in range(draw(st.integers(3, 5)))]
    shapes = list(pairwise(sizes))
    if draw(st.booleans()):
        shapes[0] = shapes[0][1:]
    if draw(st.booleans()):
        shapes[-1] = shapes[-1][:1]
    return (lambda *a: np.linalg.multi_dot(a)), tuple(numbers(draw, rng, *n) for n in shapes)


L = np.linalg
shaped(L.solve, solve)
for f in (L.inv, L.det, L.slogdet):
    shaped(f, of_matrices(f))
    empty(
        f,
        lambda x, f=f: f(x[..., None, None] + 3 * np.eye(2)),
        lambda x, f=f: f(np.reshape(x, (*x.shape[:-2], 0, 0))),
    )
shaped(L.cholesky, of_matrices(L.cholesky, definite, upper=[False, True]))
shaped(L.matrix_power, of_matrices(L.matrix_power, n=[-2, -1, 0, 1, 2, 3]))
shaped(L.multi_dot, multi_dot)
empty(
    L.solve,
    lambda x: L.solve(np.eye(x.shape[0]), x),
    lambda x: L.solve(np.eye(2) * (x[..., None, None] + 2), np.ones(2)),
)
empty(L.cholesky, lambda x: L.cholesky(x[..., None, None] + 2))
empty(L.matrix_power, lambda x: L.matrix_power(x[..., None, None] + 2, 2))
empty(L.multi_dot, lambda x: L.multi_dot([x, np.transpose(x), x]))

# --- norms ------------------------------------------------------------------------------------------------

OF_VECTORS = [None, 2, 1, 3, 2.5, 0.5, -1, np.inf, -np.inf, 0]
OF_MATRICES = ["fro", None, 1, -1, np.inf, -np.inf]
if hasattr(np.linalg, "svdvals"):  # the singular values of random matrices are apart
    OF_MATRICES += [2, -2, "nuc"]


def norm(draw):
    rng, n = generator(draw), shape(draw, 1)
    options = {"keepdims": draw(st.booleans())}
    many = draw(st.booleans()) and len(n) > 1
    if many:
        options["axis"] = tuple(draw(st.permutations(range(len(n))))[:2])
        options["ord"] = draw(st.sampled_from(OF_MATRICES))
    elif draw(st.booleans()):
        options["axis"] = axis(draw, len(n), none=False)
        options["ord"] = draw(st.sampled_from(OF_VECTORS))
    return (lambda x: L.norm(x, **options)), (complex_too(draw, rng, apart_in_sums(rng, *n)),)


def apart_in_sums(rng, *n):
    """Numbers that are apart, and so are their absolute sums along any axes."""
    scale = np.ones(())
    for k, m in enumerate(n):
        scale = scale * (1.4 ** rng.permutation(m)).reshape([-1 if j == k else 1 for j in range(len(n))])
    return np.asarray(scale * rng.uniform(1.0, 1.05, n) * rng.choice([-1.0, 1.0], n))


def vector_norm(draw):
    rng, n = generator(draw), shape(draw)
    options = {"axis": axis(draw, len(n), many=True), "keepdims": draw(st.booleans())}
    options["ord"] = draw(st.sampled_from(OF_VECTORS[1:]))
    return (lambda x: L.vector_norm(x, **options)), (numbers(draw, rng, *n),)


def matrix_norm(draw):
    rng, n = generator(draw), shape(draw, 2)
    options = {"keepdims": draw(st.booleans()), "ord": draw(st.sampled_from(OF_MATRICES))}
    return (lambda x: L.matrix_norm(x, **options)), (complex_too(draw, rng, apart_in_sums(rng, *n)),)


shaped(L.norm, norm)
empty(L.norm, L.norm, lambda x: L.norm(x, axis=-1, keepdims=True), lambda x: L.norm(x, 1, axis=0))
if hasattr(L, "vector_norm"):
    shaped(L.vector_norm, vector_norm)
    shaped(L.matrix_norm, matrix_norm)
    empty(L.vector_norm, lambda x: L.vector_norm(x), lambda x: L.vector_norm(x, axis=-1, ord=1))
    empty(L.matrix_norm, lambda x: L.matrix_norm(x))

# --- the array API's names of NumPy's functions -----------------------------------------------------------


def offset(f):
    def entry(draw):
        rng, n, k = generator(draw), shape(draw, 2), draw(st.integers(-2, 2))
        k = max(min(k, n[-1] - 1), 1 - n[-2])
        return (lambda a: f(a, offset=k)), (numbers(draw, rng, *n),)

    return entry


if hasattr(L, "matrix_transpose"):
    shaped(L.trace, offset(L.trace))
    shaped(L.diagonal, offset(L.diagonal))
    shaped(L.matrix_transpose, of_one(L.matrix_transpose, 2))
    for f in (L.trace, L.diagonal, L.matrix_transpose):
        empty(f)
    empty(L.matmul, lambda x: L.matmul(np.ones((2, x.shape[0])), x))
    empty(L.outer, lambda x: L.outer(x, np.ones(2)))
    empty(L.tensordot, lambda x: L.tensordot(x, x, axes=x.ndim))
    empty(L.vecdot, lambda x: L.vecdot(x, x))
    empty(L.cross, lambda x: L.cross(np.ones((*x.shape, 3)) * x[..., None], np.arange(3.0)))

del f, name, signature
