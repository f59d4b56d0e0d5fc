"""What the tests after the paper share: the harness that compares all ways to differentiate a program."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np

import paradual as pdl
from paradual import reference

Rows = list[list[float]]


@dataclass(frozen=True)
class Case:
    """A program, how its argument is built of floats, where to try it, and its Jacobian."""

    name: str
    fn: Callable[[Any], Any]
    build: Callable[..., Any]
    sample: Callable[[np.random.Generator], list[float]]
    jacobian: Callable[..., Rows] | None = None
    differences: bool = True  # False next to jumps, where a difference quotient means nothing
    naive: bool = True  # False where the naive method would never end
    tries: int = 25


def parts(x: Any) -> list[Any]:
    """What a structure is made of; what is discrete stays where it is."""
    if isinstance(x, tuple | list):
        return list(x)
    if isinstance(x, dict):
        return list(x.values())
    if is_dataclass(x):
        return [getattr(x, f.name) for f in fields(x)]
    return []


def flat(x: Any) -> list[Any]:
    """The numbers of a structure that carry derivatives: all that are not integers."""
    if isinstance(x, tuple | list | dict) or is_dataclass(x):
        return [leaf for part in parts(x) for leaf in flat(part)]
    return [] if x is None or isinstance(x, int) else [x]


def flat_like(tangent: Any, x: Any) -> list[Any]:
    """The tangents of the numbers that `flat` finds in x."""
    if isinstance(x, tuple | list | dict) or is_dataclass(x):
        pairs = zip(parts(tangent), parts(x), strict=True)
        return [leaf for t, part in pairs for leaf in flat_like(t, part)]
    return [tangent] if flat(x) else []


def refill(x: Any, values: Iterator[float]) -> Any:
    """The same structure with other numbers."""
    if isinstance(x, tuple | list):
        return type(x)(refill(part, values) for part in x)
    if isinstance(x, dict):
        return {name: refill(part, values) for name, part in x.items()}
    if is_dataclass(x):
        return type(x)(*(refill(part, values) for part in parts(x)))
    return x if x is None or isinstance(x, int) else next(values)


def one_hot(n: int, k: int) -> Iterator[float]:
    return iter([float(i == k) for i in range(n)])


def by_reverse(fn: Callable[[Any], Any], x: Any) -> tuple[Any, Rows]:
    out, pullback = pdl.vjp(fn, x)
    n = len(flat(out))
    return out, [flat(pullback(refill(out, one_hot(n, k)))[0]) for k in range(n)]


def by_forward(fn: Callable[[Any], Any], x: Any) -> tuple[Any, Rows]:
    n = len(flat(x))
    out, columns = fn(x), []
    for k in range(n):
        value, tangent = pdl.jvp(fn, (x,), (refill(x, one_hot(n, k)),))
        assert flat(value) == flat(out)
        columns.append(flat_like(tangent, value))
    return out, [list(row) for row in zip(*columns, strict=True)]


def by_reference(case: Case, xs: list[float], method: str) -> tuple[list[float], Rows]:
    values, rows = [], []
    for k in range(len(flat(case.fn(case.build(*xs))))):
        value, g, _ = reference.grad(lambda *xs, k=k: flat(case.fn(case.build(*xs)))[k], *xs, method=method)
        values.append(value)
        rows.append(list(g))
    return values, rows


def by_differences(case: Case, xs: list[float]) -> Rows:
    h = 1e-6
    columns = []
    for k in range(len(xs)):
        up, down = ([x + s * h * (i == k) for i, x in enumerate(xs)] for s in (1, -1))
        ends = (flat(case.fn(case.build(*point))) for point in (up, down))
        columns.append([(b - a) / (2 * h) for b, a in zip(*ends, strict=True)])
    return [list(row) for row in zip(*columns, strict=True)]


def close(found: Any, expected: Any, rtol: float = 1e-11, atol: float = 1e-11) -> None:
    assert np.shape(found) == np.shape(expected)
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=atol)


def check(case: Case, xs: list[float]) -> None:
    x = case.build(*xs)
    plain = flat(case.fn(x))
    out, rows = by_reverse(case.fn, x)
    assert flat(out) == plain, "the value must not depend on being differentiated"
    assert len(rows) == len(plain)
    if case.jacobian is not None:
        close(rows, case.jacobian(*xs))
    if xs and plain:
        close(by_forward(case.fn, x)[1], rows)
        if case.differences:
            close(by_differences(case, xs), rows, rtol=1e-5, atol=1e-5)
    for method in ("naive", "memoised", "tape") if case.naive else ("memoised", "tape"):
        values, expected = by_reference(case, xs, method)
        close(values, plain)
        close(rows, expected)


# --- the rotation of a vector by a quaternion, a test function and a benchmark ------------------------------


@dataclass(frozen=True)
class Vec3:
    x: Any
    y: Any
    z: Any

    def __add__(self, other: Vec3) -> Vec3:
        return Vec3(self.x + other.x, self.y + other.y, self.z + other.z)

    def scale(self, s: Any) -> Vec3:
        return Vec3(s * self.x, s * self.y, s * self.z)

    def dot(self, other: Vec3) -> Any:
        return self.x * other.x + self.y * other.y + self.z * other.z

    def cross(self, other: Vec3) -> Vec3:
        # The second component is the paper's, a true one has az*bx - ax*bz: kept for its golden values.
        return Vec3(
            self.y * other.z - self.z * other.y,
            self.z * other.z - self.x * other.z,
            self.x * other.y - self.y * other.x,
        )


@dataclass(frozen=True)
class Quaternion:
    v: Vec3
    s: Any


def rotate(vq: tuple[Vec3, Quaternion]) -> Vec3:
    v, q = vq
    u, s = q.v, q.s
    return u.scale(2.0 * u.dot(v)) + v.scale(s * s - u.dot(u)) + u.cross(v).scale(2.0 * s)
