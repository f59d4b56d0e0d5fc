"""Products of arrays: everything comes down to `np.matmul` or to a contraction, which are multilinear.

The transpose of a product is a product without conjugation, because the cotangent of z = x + iy stands
for df/dx - i df/dy.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from paradual.arrays import Scatter, bare, cast, dispatch, is_complex, shape_of
from paradual.errors import ParadualValueError
from paradual.locality import grid
from paradual.rules.reductions import in_dtype, number
from paradual.rules.registry import composed, multilinear


def _unmatmul_left(g: Any, x1_shape: Any, x2: Any) -> Any:
    if len(shape_of(x2)) == 1:  # (..., n, k) @ (k,), or (k,) @ (k,)
        return g * x2 if len(x1_shape) == 1 else np.expand_dims(g, -1) * x2
    if len(x1_shape) == 1:  # (k,) @ (..., k, m)
        return np.matmul(x2, np.expand_dims(g, -1))[..., 0]
    return np.matmul(g, np.swapaxes(x2, -1, -2))


def _unmatmul_right(g: Any, x1: Any, x2_shape: Any) -> Any:
    if len(shape_of(x1)) == 1:  # (k,) @ (..., k, m), or (k,) @ (k,)
        return g * x1 if len(x2_shape) == 1 else np.expand_dims(x1, -1) * np.expand_dims(g, -2)
    if len(x2_shape) == 1:  # (..., n, k) @ (k,)
        if len(shape_of(x1)) == 2:
            return np.matmul(g, x1)
        return np.matmul(np.expand_dims(g, -2), x1)[..., 0, :]
    return np.matmul(np.swapaxes(x1, -1, -2), g)


multilinear(np.matmul, _unmatmul_left, _unmatmul_right)


def _strong(a: Any) -> Any:
    """A Python number as the double that some functions make of it, dual or not."""
    number = bare(a)
    if not isinstance(number, int | float | complex) or isinstance(number, np.generic):
        return a
    dtype = np.dtype(complex if isinstance(number, complex) else float)
    return cast(a, dtype) if a is not number else dtype.type(a)


def _dot(a: Any, b: Any, out: Any = None) -> Any:
    n, m = len(shape_of(a)), len(shape_of(b))
    if n == 0 or m == 0:
        return np.multiply(_strong(a), _strong(b))
    if n <= 2 and m <= 2:
        return np.matmul(a, b)
    return np.tensordot(a, b, axes=(-1, max(-m, -2)))


composed(np.dot, _dot)


def _inner(a: Any, b: Any) -> Any:
    if not shape_of(a) or not shape_of(b):
        return np.multiply(_strong(a), _strong(b))
    return number(np.tensordot(a, b, axes=(-1, -1)))


composed(np.inner, _inner)
composed(np.outer, lambda a, b, out=None: np.multiply(np.reshape(a, (-1, 1)), np.reshape(b, (1, -1))))


def _conjugate(a: Any) -> Any:
    return np.conjugate(a) if is_complex(a) else a


composed(np.vdot, lambda a, b: np.matmul(_conjugate(np.ravel(a)), np.ravel(b)))


def _vecdot(x1: Any, x2: Any, axis: int = -1) -> Any:
    x1, x2 = (np.moveaxis(x, axis, -1) for x in (x1, x2))  # in each operand: they may differ in dimension
    if x1.shape[-1] != x2.shape[-1]:
        raise ValueError(f"vecdot: vectors of lengths {x1.shape[-1]} and {x2.shape[-1]}")
    return np.sum(_conjugate(x1) * x2, axis=-1)


def _matvec(x1: Any, x2: Any) -> Any:
    if len(shape_of(x1)) < 2 or not shape_of(x2):
        raise ValueError(f"matvec: a matrix of shape {shape_of(x1)} and a vector of shape {shape_of(x2)}")
    return np.matmul(x1, np.expand_dims(x2, -1))[..., 0]


def _vecmat(x1: Any, x2: Any) -> Any:
    if len(shape_of(x2)) < 2 or not shape_of(x1):
        raise ValueError(f"vecmat: a vector of shape {shape_of(x1)} and a matrix of shape {shape_of(x2)}")
    return np.matmul(_conjugate(np.expand_dims(x1, -2)), x2)[..., 0, :]


if hasattr(np, "vecdot"):
    composed(np.vecdot, _vecdot)
if hasattr(np, "matvec"):
    composed(np.matvec, _matvec)
    composed(np.vecmat, _vecmat)


def _tensordot(a: Any, b: Any, axes: Any = 2) -> Any:
    sa, sb = shape_of(a), shape_of(b)
    if np.ndim(axes) == 0:
        over_a, over_b = list(range(len(sa) - axes, len(sa))), list(range(axes))
    else:
        over_a = [axes[0]] if np.ndim(axes[0]) == 0 else list(axes[0])
        over_b = [axes[1]] if np.ndim(axes[1]) == 0 else list(axes[1])
    # an index out of range is an IndexError
    over_a, over_b = [range(len(sa))[k] for k in over_a], [range(len(sb))[k] for k in over_b]
    if [sa[k] for k in over_a] != [sb[k] for k in over_b]:
        raise ValueError("shape-mismatch for sum")
    left = [k for k in range(len(sa)) if k not in over_a]
    right = [k for k in range(len(sb)) if k not in over_b]
    n = math.prod(sa[k] for k in over_a)
    rows, columns = math.prod(sa[k] for k in left), math.prod(sb[k] for k in right)
    a = np.reshape(np.transpose(a, left + over_a), (rows, n))
    b = np.reshape(np.transpose(b, over_b + right), (n, columns))
    return np.reshape(np.matmul(a, b), [sa[k] for k in left] + [sb[k] for k in right])


composed(np.tensordot, _tensordot)


def _kron(a: Any, b: Any) -> Any:
    n = max(len(shape_of(a)), len(shape_of(b)))
    sa, sb = ((1,) * (n - len(shape_of(x))) + shape_of(x) for x in (a, b))
    a = np.reshape(a, [m for k in sa for m in (k, 1)])
    b = np.reshape(b, [m for k in sb for m in (1, k)])
    return np.reshape(a * b, [p * q for p, q in zip(sa, sb, strict=True)])


composed(np.kron, _kron)


def _cross(a: Any, b: Any, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: Any = None) -> Any:
    if axis is not None:
        axisa = axisb = axisc = axis
    a, b = np.moveaxis(a, axisa, -1), np.moveaxis(b, axisb, -1)
    if not {a.shape[-1], b.shape[-1]} <= {2, 3}:
        raise ValueError("incompatible dimensions for cross product (dimension must be 2 or 3)")
    a0, a1, b0, b1 = a[..., 0], a[..., 1], b[..., 0], b[..., 1]
    if a.shape[-1] == 2 and b.shape[-1] == 2:
        return a0 * b1 - a1 * b0
    a2 = a[..., 2] if a.shape[-1] == 3 else a0 * 0
    b2 = b[..., 2] if b.shape[-1] == 3 else b0 * 0
    parts = [a1 * b2 - a2 * b1, a2 * b0 - a0 * b2, a0 * b1 - a1 * b0]
    return np.moveaxis(np.stack(np.broadcast_arrays(*parts), axis=-1), -1, axisc)


composed(np.cross, _cross)

# --- einsum -----------------------------------------------------------------------------------------


def contract(subscripts: str, operands: list[Any], optimize: Any = True) -> Any:
    """``np.einsum(subscripts, *operands)`` with an explicit ``->`` and no ellipsis."""
    out = dispatch(contract, operands, (subscripts, operands, optimize))
    if out is not NotImplemented:
        return out
    return np.einsum(subscripts, *operands, optimize=optimize if len(operands) > 1 else False)


def _uncontract(g: Any, subscripts: str, operands: Any, operands_shape: Any, active: Any) -> list[Any]:
    """The transpose in one operand contracts the cotangent with all the others."""
    terms, result = subscripts.split("->")
    labels = terms.split(",")
    contributions: list[Any] = []
    for k, wanted in enumerate(labels):
        if not active[k]:
            contributions.append(None)
            continue
        others = [label for j, label in enumerate(labels) if j != k]
        unique = "".join(dict.fromkeys(wanted))
        there = "".join(c for c in unique if c in result or any(c in label for label in others))
        c = contract(
            ",".join([result, *others]) + "->" + there,
            [g, *(x for j, x in enumerate(operands) if j != k)],
        )
        sizes = dict(zip(wanted, operands_shape[k], strict=True))
        have = shape_of(c)
        full = [have[there.index(ch)] if ch in there else 1 for ch in unique]
        c = np.reshape(c, full)
        # where another operand is longer, it was this one that was repeated: the sweep sums over that axis
        c = np.broadcast_to(c, [sizes[ch] if n == 1 else n for ch, n in zip(unique, full, strict=True)])
        if len(unique) < len(wanted):  # a diagonal was taken: put the cotangent back onto it
            c = np.sum(
                c, axis=tuple(j for j, ch in enumerate(unique) if sizes[ch] != c.shape[j]), keepdims=True
            )
            at = grid([sizes[ch] for ch in unique], c)
            c = Scatter(tuple(at[unique.index(ch)] for ch in wanted), c)
        contributions.append(c)
    return contributions


multilinear(contract, _uncontract, arrays="operands")


def _einsum(*args: Any, out: Any = None, dtype: Any = None, optimize: Any = False, **kwargs: Any) -> Any:
    subscripts, operands = explicit_subscripts(*args)
    return contract(subscripts, [in_dtype(x, dtype) for x in operands], optimize)


composed(np.einsum, _einsum)


def explicit_subscripts(*args: Any) -> tuple[str, list[Any]]:
    """Bring the arguments of np.einsum to one form: every label written out, and the result's too."""
    if isinstance(args[0], str):
        subscripts, operands = args[0].replace(" ", ""), list(args[1:])
    else:  # einsum(a, [0, 1], b, [1, 2], [0, 2])
        operands = list(args[: len(args) // 2 * 2 : 2])
        spelled = [_spell(labels) for labels in args[1::2][: len(operands)]]
        subscripts = ",".join(spelled)
        if len(args) % 2:
            subscripts += "->" + _spell(args[-1])
    left, arrow, right = subscripts.partition("->")
    terms = left.split(",")
    if len(terms) != len(operands):
        raise ParadualValueError(f"einsum {subscripts!r} names {len(terms)} operands, not {len(operands)}")
    letters = set(subscripts)
    free = [c for c in map(chr, [*range(65, 91), *range(97, 123)]) if c not in letters]
    most = 0
    for k, term in enumerate(terms):
        if "..." in term:
            n = len(shape_of(operands[k])) - len(term.replace("...", ""))
            most = max(most, n)
    dots = "".join(free[:most])
    for k, term in enumerate(terms):
        if "..." in term:
            n = len(shape_of(operands[k])) - len(term.replace("...", ""))
            terms[k] = term.replace("...", dots[len(dots) - n :])
    if arrow:
        if dots and "..." not in right:
            raise ParadualValueError(f"einsum {subscripts!r}: the result has no place for '...'")
        result = right.replace("...", dots)
    else:
        joined = "".join(terms)
        named = sorted(c for c in set(joined) if joined.count(c) == 1 and c not in dots)
        result = dots + "".join(named)
    return ",".join(terms) + "->" + result, operands


def _spell(labels: Any) -> str:
    return "".join("..." if k is Ellipsis else chr(97 + k) if k < 26 else chr(65 + k - 26) for k in labels)
