"""Cases of `test_rules`: products and linear algebra."""

import numpy as np
from case_table import case, hermitian, normal, ranked, spread, square, z

from paradual.rules.products import contract
from paradual.rules.reductions import half_over, root

# --- products ---------------------------------------------------------------------------------------------

MATMULS = {
    "matrices": ((2, 3), (3, 4)),
    "vectors": ((3,), (3,)),
    "vector-matrix": ((3,), (3, 2)),
    "matrix-vector": ((2, 3), (3,)),
    "stack-matrix": ((2, 2, 3), (3, 4)),
    "stack-vector": ((2, 2, 3), (3,)),
    "vector-stack": ((3,), (2, 3, 4)),
    "stacks": ((2, 1, 2, 3), (3, 3, 2)),
    "empty": ((2, 0), (0, 3)),
}
for label, (left_shape, right_shape) in MATMULS.items():
    a, b = normal(*left_shape), normal(*right_shape)
    case(np.matmul, label, a, b)
    case(np.matmul, f"{label}-only-left", a, fn=lambda a, b=b: a @ b)
    case(np.matmul, f"{label}-only-right", b, fn=lambda b, a=a: a @ b)
case(np.matmul, "same", normal(3, 3), fn=lambda a: a @ a)
case(np.matmul, "complex", z(2, 3), z(3, 2))
case(np.matmul, "real-complex", normal(2, 3), z(3))
DOTS = {
    "numbers": ((), ()),
    "number-matrix": ((), (2, 3)),
    "vectors": ((3,), (3,)),
    "matrices": ((2, 3), (3, 2)),
    "matrix-vector": ((2, 3), (3,)),
    "stack-vector": ((2, 2, 3), (3,)),
    "vector-stack": ((3,), (2, 3, 2)),
    "stacks": ((2, 2, 3), (2, 3, 2)),
    "matrix-stack": ((2, 3), (2, 3, 2)),
}
for label, (left_shape, right_shape) in DOTS.items():
    case(np.dot, label, normal(*left_shape), normal(*right_shape))
case(np.dot, "method", normal(2, 3), normal(3), fn=lambda a, b: a.dot(b))
case(np.dot, "complex", z(2, 3), z(3))
case(np.inner, "vectors", normal(3), normal(3))
case(np.inner, "matrices", normal(2, 3), normal(4, 3))
case(np.inner, "stack", normal(2, 2, 3), normal(3))
case(np.inner, "number", normal(), normal(3))
case(np.outer, "vectors", normal(2), normal(3))
case(np.outer, "flattened", normal(2, 2), normal(3))
case(np.vdot, "real", normal(2, 3), normal(2, 3))
case(np.vdot, "complex", z(3), z(3))
if hasattr(np, "vecdot"):
    case(np.vecdot, "stack", normal(2, 3), normal(3))
    case(np.vecdot, "axis", normal(3, 2), normal(3, 1), axis=0)
    case(np.vecdot, "complex", z(2, 3), z(3))
if hasattr(np, "matvec"):
    case(np.matvec, "stack", normal(2, 2, 3), normal(3))
    case(np.matvec, "complex", z(2, 3), z(3))
    case(np.vecmat, "stack", normal(3), normal(2, 3, 2))
    case(np.vecmat, "complex", z(3), z(3, 2))
for label, shapes, axes in [
    ("2", ((2, 3, 4), (3, 4, 2)), 2),
    ("0", ((2,), (3,)), 0),
    ("ints", ((2, 3), (2, 4)), (0, 0)),
    ("lists", ((2, 3, 4), (4, 2)), ([0, 2], [1, 0])),
    ("negative", ((2, 3), (4, 3)), (-1, -1)),
]:
    case(np.tensordot, label, normal(*shapes[0]), normal(*shapes[1]), axes=axes)
case(np.tensordot, "complex", z(2, 3), z(3), axes=1)
case(np.kron, "matrices", normal(2, 2), normal(1, 3))
case(np.kron, "vectors", normal(2), normal(3))
case(np.kron, "mixed", normal(2), normal(2, 2))
case(np.kron, "number", 0.5, normal(2, 2))
case(np.cross, "3d", normal(2, 3), normal(3))
case(np.cross, "axis", normal(3, 2), normal(3, 2), axis=0)
case(np.cross, "axes", normal(3, 2), normal(2, 3), axisa=0, axisb=1, axisc=0)
EINSUMS = {
    "matmul": ("ij,jk->ik", (2, 3), (3, 2)),
    "implicit": ("ij,jk", (2, 3), (3, 2)),
    "implicit-order": ("ba", (2, 3)),
    "dots": ("...ij,...jk->...ik", (2, 1, 2, 3), (3, 3, 2)),
    "dots-implicit": ("...i,i", (2, 2, 3), (3,)),
    "trace": ("ii", (3, 3)),
    "diagonal": ("ii->i", (3, 3)),
    "diagonal-of-stack": ("iij->j", (2, 2, 3)),
    "diagonal-twice": ("ii,i->i", (3, 3), (3,)),
    "sum": ("ij->", (2, 3)),
    "sum-of-label": ("ij,k->i", (2, 3), (4,)),
    "outer": ("i,j,k->ijk", (2,), (3,), (2,)),
    "elementwise": ("ij,ij->ij", (2, 3), (2, 3)),
    "three": ("ij,jk,kl->il", (2, 3), (3, 2), (2, 2)),
    "bilinear": ("bi,ijk,bk->bj", (2, 3), (3, 2, 2), (2, 2)),
    "number": (",i->i", (), (3,)),
    "length1": ("ij,jk->ik", (2, 3), (3, 1)),
    "broadcast1": ("...i,...i->...", (2, 3), (1, 3)),
}
for label, (subscripts, *shapes) in EINSUMS.items():
    arrays = [normal(*shape) for shape in shapes]
    case(np.einsum, label, *arrays, fn=lambda *a, s=subscripts: np.einsum(s, *a))
    if len(arrays) > 1:
        rest = arrays[1:]
        case(contract, label, arrays[0], fn=lambda a, s=subscripts, b=rest: np.einsum(s, a, *b))
case(np.einsum, "dtype", normal(3, 3).astype(np.float32), fn=lambda a: np.einsum("ii", a, dtype=np.float64))
case(np.einsum, "lists", normal(2, 3), normal(3, 2), fn=lambda a, b: np.einsum(a, [0, 1], b, [1, 2], [2, 0]))
case(np.einsum, "lists-implicit", normal(2, 3), normal(3), fn=lambda a, b: np.einsum(a, [5, 1], b, [1]))
case(np.einsum, "same", normal(3, 3), fn=lambda a: np.einsum("ij,jk,ki->", a, a, a))
case(np.einsum, "complex", z(2, 3), normal(3), fn=lambda a, b: np.einsum("ij,j->i", a, b))

# --- linear algebra ---------------------------------------------------------------------------------------

SOLVES = {
    "vector": ((3, 3), (3,)),
    "matrix": ((3, 3), (3, 2)),
    "stack": ((2, 3, 3), (2, 3, 2)),
    "broadcast": ((2, 1, 3, 3), (4, 3, 2)),
    "one-matrix": ((3, 3), (2, 3, 2)),
    "stack-vector": ((2, 3, 3), (3,)),
}
for label, (left_shape, right_shape) in SOLVES.items():
    a, b = square(*left_shape), normal(*right_shape)
    case(np.linalg.solve, label, a, b)
    case(np.linalg.solve, f"{label}-only-left", a, fn=lambda a, b=b: np.linalg.solve(a, b))
    case(np.linalg.solve, f"{label}-only-right", b, fn=lambda b, a=a: np.linalg.solve(a, b))
case(np.linalg.solve, "complex", square(3, 3) + 0.3j * normal(3, 3), z(3))
case(np.linalg.solve, "real-complex", square(3, 3), z(3, 2))
for f in (np.linalg.inv, np.linalg.det, np.linalg.slogdet):
    case(f, "matrix", square(3, 3))
    case(f, "stack", square(2, 3, 3))
    case(f, "complex", square(3, 3) + 0.5j * normal(3, 3))
    case(f, "complex-stack", square(2, 2, 2) + 0.5j * normal(2, 2, 2))
    case(f, "1x1", square(1, 1))
    case(f, "negative-det", square(2, 2)[::-1])
case(np.linalg.det, "0x0-stack", np.zeros((2, 0, 0)))
for upper in (False, True):
    label = "upper" if upper else "lower"
    case(np.linalg.cholesky, label, hermitian(3, 3), upper=upper)
    case(np.linalg.cholesky, f"{label}-stack", hermitian(2, 3, 3), upper=upper)
    x = normal(3, 3)
    case(np.linalg.cholesky, f"{label}-complex", hermitian(3, 3) + 0.5j * (x - x.T), upper=upper)
case(np.linalg.cholesky, "only-lower-read", np.tril(hermitian(3, 3)))

for ord in (None, 2, 1, 3, 2.5, 0.5, -1, np.inf, -np.inf, 0):
    for x, label in ((spread(4), ""), (z(4), "-complex")):
        case(np.linalg.norm, f"vector-{ord}{label}", x, ord=ord)
    if ord is not None:
        case(np.linalg.vector_norm, f"{ord}", spread(2, 3), ord=ord, axis=1)
for ord in (None, "fro", 1, -1, np.inf, -np.inf):
    for x, label in ((ranked(2, 3), ""), (ranked(2, 3) * np.exp(1j * normal(2, 3)), "-complex")):
        case(np.linalg.norm, f"matrix-{ord}{label}", x, ord=ord)
    case(np.linalg.norm, f"matrix-{ord}-axes", ranked(2, 3, 4), ord=ord, axis=(2, 0))
    case(np.linalg.norm, f"matrix-{ord}-axes-keepdims", ranked(2, 3, 4), ord=ord, axis=(0, -1), keepdims=True)
    case(np.linalg.matrix_norm, f"{ord}", ranked(2, 2, 3), ord=ord or "fro")
    case(np.linalg.matrix_norm, f"{ord}-keepdims", ranked(2, 2, 3), ord=ord or "fro", keepdims=True)
case(np.linalg.norm, "all", normal(2, 3, 2))
case(np.linalg.norm, "all-keepdims", normal(2, 3, 2), keepdims=True)
case(np.linalg.norm, "axis", normal(2, 3), axis=0)
case(np.linalg.norm, "axis-keepdims", normal(2, 3), axis=-1, ord=1, keepdims=True)
case(np.linalg.vector_norm, "all", normal(2, 3))
case(np.linalg.vector_norm, "all-keepdims", normal(2, 3), keepdims=True, ord=3)
case(np.linalg.vector_norm, "axes", normal(2, 3, 4), axis=(0, -1))
case(np.linalg.vector_norm, "axes-keepdims", normal(2, 3, 4), axis=(2, 1), keepdims=True)
for n in (-2, -1, 0, 1, 2, 3, 5):
    case(np.linalg.matrix_power, f"{n}", square(2, 3, 3) / 3, n=n)
case(
    np.linalg.multi_dot,
    "three",
    normal(2, 3),
    normal(3, 4),
    normal(4, 2),
    fn=lambda *a: np.linalg.multi_dot(a),
)
case(np.linalg.multi_dot, "vectors", normal(3), normal(3, 4), normal(4), fn=lambda *a: np.linalg.multi_dot(a))
case(np.linalg.trace, "stack", normal(2, 3, 4), offset=1)
case(np.linalg.diagonal, "stack", normal(2, 3, 4), offset=-1)
case(np.linalg.matmul, "stack", normal(2, 2, 3), normal(3, 2))
case(np.linalg.matrix_transpose, "stack", normal(2, 3, 4))
case(np.linalg.outer, "vectors", normal(2), normal(3))
case(np.linalg.tensordot, "axes", normal(2, 3), normal(3, 2), axes=([1], [0]))
case(np.linalg.vecdot, "stack", z(2, 3), normal(3))
case(np.linalg.vecdot, "axis", normal(3, 2), normal(3, 2), axis=0)
case(np.linalg.cross, "3d", normal(2, 3), normal(2, 3))
case(np.linalg.cross, "axis", normal(3, 2), normal(3, 2), axis=0)
case(root, "array", square(2) ** 2 + 0.5)
case(half_over, "array", square(2) ** 2 + 0.5)

del arrays, rest, a, b, f, n, x, upper, label
