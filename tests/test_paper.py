"""The test functions and benchmarks of Smeding and Vakar (JFP 35, e16, 2025), with their closed forms.

Each program runs here as it stands under floats, `paradual.vjp`, `paradual.jvp` and the three methods of
`paradual.reference`.  Beyond the paper's own suite, values are compared too, lists by length, and the
parallel programs share values between branches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass
from itertools import count, pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import paradual as pdl
from paradual import reference

Rows = list[list[float]]


# --- the harness ----------------------------------------------------------------------------------------


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


# --- the paper's test functions (sections as in its suite) ----------------------------------------------


def normal(n: int) -> Callable[[np.random.Generator], list[float]]:
    return lambda rng: [float(v) for v in rng.normal(size=n) * 2]


def positive(n: int) -> Callable[[np.random.Generator], list[float]]:
    return lambda rng: [float(v) for v in rng.uniform(0.1, 4.0, size=n)]


def one(x: Any) -> Any:
    return x


def pair(*xs: Any) -> Any:
    return xs


# let, in the order in which the declarations depend on each other; local functions


def let_order1(x: Any) -> Any:
    x1 = 2.0 * x
    x2 = x1 * (x + x1)
    x3 = x1 + x2 - 1.0
    return x * x3 - x2


def let_order3(x: Any) -> Any:
    x1 = 2.0 * x
    x2 = x1 * (x + x1)
    x3 = x1 + x2 - 1.0
    return x * x3 - (x3 + x2)


def let_order4(x: Any) -> Any:
    def f(a: Any) -> Any:
        return a + 1.0

    def g(a: Any) -> Any:
        return 2.0 * a

    x1 = f(g(x))
    x2 = g(x1) + 1.0
    return x1 + x2


def let_order5(x: Any) -> Any:
    def g(a: Any) -> Any:
        return 2.0 * f(a)  # f is declared below

    def f(a: Any) -> Any:
        return a + 1.0

    x1 = f(g(x))
    x2 = g(x1) + 1.0
    return x1 + x2


# higher order: closures over what is differentiated


def higher_order(xy: Any) -> Any:
    x, y = xy

    def f(z: Any) -> Any:
        return x * z + y

    return f(y) * f(x)


def higher_order2(xy: Any) -> Any:
    x, y = xy

    def both(f: Callable[[Any], Any]) -> Any:
        return f(y) * f(x)

    return both(lambda z: x * z + y)


def composition(xy: Any) -> Any:
    x, y = xy

    def compose(g: Any, f: Any) -> Any:
        return lambda z: g(f(z))

    def f(z: Any) -> Any:
        return z * z

    def g(z: Any) -> Any:
        return 2.0 * (x - z) + y

    return compose(g, f)(y) + compose(f, g)(x)


def complexity(xy: Any) -> Any:
    x, y = xy
    before, last = x, x + y
    for _ in range(9):
        before, last = last, last + before
    return last * last


def complexity2(x: Any) -> Any:
    for _ in range(10):
        x = x + x + x + x + x - x - x - x
    return 1e-6 * x * x


# control flow and recursion


def conditional(xy: Any) -> Any:
    x, y = xy
    return x * y if x > y else x + y


def recursive(x: Any) -> Any:
    def f(x: Any) -> Any:
        return g(0.6 * x) + 1.0 if x < 10 else g(0.1 * x) + 2.0

    def g(x: Any) -> Any:
        return x if x < 1 else f(x - 1.0) + 2.0

    return f(x)


# data: lists, sums, records


def list_case(xs: list[Any]) -> Any:
    match xs:
        case []:
            return 2.0
        case [x, *_]:
            return x + 3.0


@dataclass
class Left:
    value: Any


@dataclass
class Right:
    value: Any


def sum_newtype(x: Any) -> Any:
    match x:
        case Left(v):
            return Right(v + v)
        case Right(v):
            return Left(2.0 * v)


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


def rotate_lists(vq: dict[str, list[Any]]) -> list[Any]:
    v, q = vq["v"], vq["q"]
    return flat(rotate((Vec3(*v), Quaternion(Vec3(*q[:3]), q[3]))))


def weird_type(n: int, powers: Sequence[int]) -> Callable[[Any], Any]:
    def f(arg: Any) -> Any:
        x, ys = arg
        total = 0.0
        for y in ys:
            total = total + y
        return x ** min(10, abs(n + sum(powers))) * total

    return f


def weird_jacobian(n: int, powers: Sequence[int]) -> Callable[..., Rows]:
    p = min(10, abs(n + sum(powers)))
    return lambda x, *ys: [[p * x ** (p - 1) * sum(ys) if p else 0.0, *(x**p for _ in ys)]]


@dataclass
class One:
    x: Any
    y: int
    i: int


@dataclass
class Two:
    x: Any
    i: int


def weird_sum(x: Any) -> Any:
    def total(w: One | Two) -> Any:
        match w:
            case One(x, y, i):
                return i * x * y
            case Two(x, i):
                return i + x

    return total(One(x, 3, 2)) + total(Two(x, 7))


def weird_sum_constr(x: Any) -> Any:
    return One(0.0, 1, 2) if x < 0 else Two(3.0 * x, 0)


@dataclass
class ListA:  # a float, then a ListB
    head: Any
    tail: Any


@dataclass
class ListB:  # a pair, then a ListA
    pair: Any
    tail: Any


def alternating(*xs: Any) -> Any:
    match xs:
        case []:
            return None
        case [a]:
            return ListA(a, None)
        case [a, b, c, *rest]:
            return ListA(a, ListB((b, c), alternating(*rest)))
        case [a, b]:
            return ListA(a, ListB((b, 1), None))


def alternating_sum(x: Any) -> Any:
    match x:
        case None:
            return 0.0
        case ListA(a, tail):
            return a + alternating_sum(tail)
        case ListB((a, b), tail):
            return a + b + alternating_sum(tail)


def unfold(n: int) -> Callable[[Any], Any]:
    return lambda x: alternating(*(x for _ in range(min(max(n, 0), 10))))


def sections(xyz: Any) -> Any:
    x, y, z = xyz
    triples = [
        (lambda a: (a, y, z))(x),
        (lambda a: (x, a, z))(y),
        (lambda a, b: (b, y, a))(z, x),
        (lambda a, b, c: (c, a, b))(x, y, z),
        (lambda a, b: (z, b, a))(x, y),
    ]
    total = 0.0
    for triple in triples:
        for part in triple:
            total = total + part
    return total


CASES = [
    Case("id", lambda x: x, one, normal(1), lambda x: [[1]]),
    Case("dup", lambda x: (x, x), one, normal(1), lambda x: [[1], [1]]),
    Case("plus", lambda p: p[0] + p[1], pair, normal(2), lambda x, y: [[1, 1]]),
    Case("times", lambda p: p[0] * p[1], pair, normal(2), lambda x, y: [[y, x]]),
    Case(
        "sqrt",
        lambda x: np.sqrt(x * x + 1.0),
        one,
        normal(1),
        lambda x: [[x / math.sqrt(x * x + 1)]],
    ),
    Case("log", lambda x: np.log(x), one, positive(1), lambda x: [[1 / x]]),
    Case(
        "more math",
        lambda p: np.log(p[0]) + np.exp(p[1]) + np.exp(np.log(p[0] * p[1])),
        pair,
        positive(2),
        lambda x, y: [[1 / x + y, math.exp(y) + x]],
    ),
    Case("let", lambda x: x * (3.0 + x), one, normal(1), lambda x: [[2 * x + 3]]),
    Case("let-order1", let_order1, one, normal(1), lambda x: [[18 * x * x - 8 * x - 1]]),
    Case("let-order3", let_order3, one, normal(1), lambda x: [[18 * x * x - 20 * x - 3]]),
    Case("let-order4", let_order4, one, normal(1), lambda x: [[6]]),
    Case("let-order5", let_order5, one, normal(1), lambda x: [[6]]),
    *(
        Case(
            f.__name__,
            f,
            pair,
            normal(2),
            lambda x, y: [[3 * x * x * y + 2 * x * y + y * y, x**3 + x * x + 2 * x * y + 2 * y]],
        )
        for f in (higher_order, higher_order2)
    ),
    # (g.f)(y) + (f.g)(x) = 2(x - y^2) + y + y^2
    Case("composition", composition, pair, normal(2), lambda x, y: [[2, 1 - 2 * y]]),
    Case(
        "complexity",
        complexity,
        pair,
        normal(2),
        lambda x, y: [[2 * (89 * x + 55 * y) * 89, 2 * (89 * x + 55 * y) * 55]],
    ),
    Case("complexity2", complexity2, one, normal(1), lambda x: [[1e-6 * 2**21 * x]], naive=False),
    Case("conditional", conditional, pair, normal(2), lambda x, y: [[y, x] if x > y else [1, 1]]),
    Case("recursive", recursive, one, lambda rng: [float(rng.uniform(-5, 40))], differences=False),
    Case(
        "list constr",
        lambda x: [2.0 * x, 3.0 * x, x, x + 1.0],
        one,
        normal(1),
        lambda x: [[2], [3], [1], [1]],
    ),
    Case("list case, empty", list_case, lambda *xs: list(xs), normal(0), lambda: [[]]),
    Case("list case", list_case, lambda *xs: list(xs), normal(3), lambda *xs: [[1, 0, 0]]),
    Case("Sum newtype, left", sum_newtype, Left, normal(1), lambda x: [[2]]),
    Case("Sum newtype, right", sum_newtype, Right, normal(1), lambda x: [[2]]),
    *(
        Case(
            f"WeirdType {n} {powers}",
            weird_type(n, powers),
            lambda x, *ys: (x, list(ys)),
            normal(1 + len(powers)),
            weird_jacobian(n, powers),
            differences=abs(n + sum(powers)) < 6,
        )
        for n, powers in [(0, ()), (2, (1, -3)), (1, (2,)), (-4, (1, 1)), (3, (-2, 5, 1)), (20, (3, 4))]
    ),
    Case("Vec3", lambda v: v.x + v.y + v.z, Vec3, normal(3), lambda *v: [[1, 1, 1]]),
    Case(
        "Vec3 constr",
        lambda v: Vec3(v.x + v.y, v.y + v.z, v.z + v.x),
        Vec3,
        normal(3),
        lambda *v: [[1, 1, 0], [0, 1, 1], [1, 0, 1]],
    ),
    Case(
        "quaternion as data",
        rotate,
        lambda a, b, c, i, j, k, s: (Vec3(a, b, c), Quaternion(Vec3(i, j, k), s)),
        normal(7),
    ),
    Case("quaternion in lists", rotate_lists, lambda *xs: {"v": list(xs[:3]), "q": list(xs[3:])}, normal(7)),
    Case("WeirdSum data", weird_sum, one, normal(1), lambda x: [[7]]),
    Case("WeirdSum constr", weird_sum_constr, one, normal(1), lambda x: [[0.0 if x < 0 else 3.0]]),
    *(
        Case(f"AltLists1 {n}", alternating_sum, alternating, normal(n), lambda *xs: [[1] * len(xs)])
        for n in (1, 3, 4, 6, 9)
    ),
    *(
        Case(f"AltLists2 {n}", unfold(n), one, normal(1), lambda x, n=n: [[1]] * min(max(n, 0), 10))
        for n in (-2, 0, 1, 3, 7, 9, 12)
    ),
    Case("tuple sections", sections, pair, normal(3), lambda *xyz: [[5, 5, 5]]),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_function(case: Case) -> None:
    rng = np.random.default_rng(2025)
    for _ in range(case.tries):
        check(case, case.sample(rng))


def test_unfolded_lists_have_the_right_length() -> None:
    for n, length in ((-2, 0), (0, 0), (4, 4), (12, 10)):
        out, pullback = pdl.vjp(unfold(n), 2.0)
        assert flat(out) == [2.0] * length
        assert pullback(refill(out, count(1.0))) == (length * (length + 1) / 2,)


def test_a_cotangent_of_another_constructor_is_refused() -> None:
    # the reference code has a partial pattern there
    _, pullback = pdl.vjp(weird_sum_constr, 1.0)
    with pytest.raises(ValueError, match="structure"):
        pullback(One(1.0, 1, 2))


# --- golden values of the benchmarks --------------------------------------------------------------------


def test_fmult() -> None:
    assert pdl.value_and_grad(lambda x, y: x * y, (0, 1))(3.0, 4.0) == (12.0, (4.0, 3.0))


def test_frotvecquat() -> None:
    v, q = (1.0, 2.0, 3.0), (4.0, 5.0, 6.0, 7.0)
    jacobian = [
        [4, -44, 118, 64, 48, -16, 20],
        [40, 22, 88, -48, 64, 48, 40],
        [-22, 116, 44, 16, -20, 64, 48],
    ]
    out, rows = by_reverse(rotate, (Vec3(*v), Quaternion(Vec3(*q[:3]), q[3])))
    assert flat(out) == [270.0, 348.0, 342.0]
    assert rows == jacobian

    # the same with whole arrays; the paper's cross product is a true one but for one entry
    def with_arrays(vq: Any) -> Any:
        u, s = vq[3:6], vq[6]
        v = vq[:3]
        cross = np.stack([u[1] * v[2] - u[2] * v[1], u[2] * v[2] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]])
        return 2 * (u @ v) * u + (s * s - u @ u) * v + 2 * s * cross

    vq = np.array([*v, *q])
    np.testing.assert_array_equal(with_arrays(vq), [270, 348, 342])
    for mode in ("reverse", "forward"):
        np.testing.assert_array_equal(pdl.jacobian(with_arrays, mode=mode)(vq), jacobian)


def odd(n: int) -> list[float]:
    return [3.0 + 2 * k for k in range(n)]


def naturals(n: int) -> list[float]:
    return [1.0 + k for k in range(n)]


def fdotprod(lists: tuple[list[Any], list[Any]]) -> Any:
    total: Any = 0.0
    for a, b in reversed(list(zip(*lists, strict=True))):
        total = a * b + total
    return total


@pytest.mark.parametrize("n", [0, 1, 10, 1000])
def test_fdotprod(n: int) -> None:
    l1, l2 = naturals(n), odd(n)
    value, gradient = pdl.value_and_grad(fdotprod)((l1, l2))
    assert value == sum(a * b for a, b in zip(l1, l2, strict=True))
    assert gradient == (l2, l1)
    if n == 10:
        assert value == 825.0
        assert pdl.value_and_grad(lambda p: np.dot(*p))((np.array(l1), np.array(l2)))[0] == 825.0


def test_fsummatvec() -> None:
    n = 10
    m = [naturals(n * n)[n * r : n * r + n] for r in range(n)]
    v = odd(n)

    def f(mv: Any) -> Any:
        m, v = mv
        total: Any = 0.0
        for row in m:
            total = total + fdotprod((v, row))
        return total

    value, (dm, dv) = pdl.value_and_grad(f)((m, v))
    assert value == 62250.0
    assert dm == [v] * n
    assert dv == [sum(column) for column in zip(*m, strict=True)]
    value, (dm, dv) = pdl.value_and_grad(lambda mv: np.sum(mv[0] @ mv[1]))((np.array(m), np.array(v)))
    assert value == 62250.0
    np.testing.assert_array_equal(dm, [v] * n)
    np.testing.assert_array_equal(dv, np.sum(m, axis=0))


def fneural(weights: Any, x: Any, loss: Any) -> Any:
    for w, b in weights:
        z = []
        for row, offset in zip(w, b, strict=True):
            s = fdotprod((row, x)) + offset
            z.append(s if s > 0 else 0.0 * s)
        x = z
    top: Any = 0.0
    for z in x:
        top = z if z > top else top
    e = [np.exp(z - top) for z in x]
    return loss(e, fdotprod((e, [1.0] * len(e))))


def test_fneural() -> None:
    sizes = (5, 8, 4)
    layers = [
        (
            [[math.sin(i + j) for j in range(n)] for i in range(m)],
            [math.sin(0.41 * i) for i in range(m)],
        )
        for n, m in pairwise(sizes)
    ]
    x = [math.sin(0.41 * i) for i in range(sizes[0])]

    # The benchmark's own objective is 1 whatever the weights, so its gradient is no test of anything.
    def constant(e: Any, total: Any) -> Any:
        return fdotprod((e, [1.0] * len(e))) / total

    def weighted(e: Any, total: Any) -> Any:
        return fdotprod((e, naturals(len(e)))) / total

    value, gradient = pdl.value_and_grad(lambda wx: fneural(*wx, constant))((layers, x))
    close(value, 1.0, rtol=1e-15)
    close(flat(gradient), np.zeros(len(flat((layers, x)))), atol=1e-14)

    value, gradient = pdl.value_and_grad(lambda wx: fneural(*wx, weighted))((layers, x))
    template = (layers, x)
    expected, g, _ = reference.grad(
        lambda *leaves: fneural(*refill(template, iter(leaves)), weighted), *flat(template)
    )
    close(value, expected)
    close(flat(gradient), g)
    assert np.abs(g).max() > 0.1

    def with_arrays(wx: Any) -> Any:
        layers, x = wx
        for w, b in layers:
            x = np.maximum(w @ x + b, 0.0)
        e = np.exp(x - np.maximum(np.max(x), 0.0))
        return e @ np.arange(1.0, len(e) + 1) / np.sum(e)

    arrays = ([(np.array(w), np.array(b)) for w, b in layers], np.array(x))
    value, gradient = pdl.value_and_grad(with_arrays)(arrays)
    close(value, expected)
    close(np.concatenate([np.ravel(leaf) for leaf in flat(gradient)]), g)


# --- particles: closed form, in parallel ----------------------------------------------------------------

DT, MASS = 0.05, 1.0
STARTS = [((0.5 * i, 0.1), (1.0, 1.0)) for i in (1, 2, 3, 4)]


def propagator(steps: int) -> tuple[float, float]:
    """alpha and beta with x_N = alpha x_0 + beta v_0."""
    a = np.array([[1.0, DT], [-0.5 * DT, 1 - 0.2 * DT]])
    alpha, beta = np.linalg.matrix_power(a, steps)[0]
    return float(alpha), float(beta)


def particle_closed_form(steps: int) -> tuple[float, list[float]]:
    alpha, beta = propagator(steps)
    total, gradient = 0.0, []
    for (x0, y0), (vx0, vy0) in STARTS:
        x, y = alpha * x0 + beta * vx0, alpha * y0 + beta * vy0
        total += x * y
        gradient += [alpha * y, alpha * x, beta * y, beta * x]
    return total, gradient


def scalar_particle(start: Any, mass: Any, steps: int) -> Any:
    (x, y), (vx, vy) = start
    for _ in range(steps):
        ax, ay = (1.0 / mass) * (-0.5 * x - 0.2 * vx), (1.0 / mass) * (-0.5 * y - 0.2 * vy)
        x, y, vx, vy = x + DT * vx, y + DT * vy, vx + DT * ax, vy + DT * ay
    return x * y


def array_particle(start: Any, mass: Any, steps: int) -> Any:
    p, v = start
    for _ in range(steps):
        p, v = p + DT * v, v + DT * (1.0 / mass) * (-0.5 * p - 0.2 * v)
    return p[0] * p[1]


def particles(one: Any, steps: int) -> Callable[[Any, Any], Any]:
    return lambda starts, mass: sum(pdl.map(lambda start: one(start, mass, steps), starts))


@pytest.mark.parametrize("executor", ["inline", "threads"])
@pytest.mark.parametrize("state", ["scalars", "arrays"])
@pytest.mark.parametrize("steps", [10, 50, 1000])
def test_fparticles(executor: str, state: str, steps: int) -> None:
    value, gradient = particle_closed_form(steps)
    if steps == 10:
        close(value, 3.7381040176478484)
        close(propagator(10), (0.945544007012297, 0.4708666414423927))
    if steps == 1000:
        close(value, 0.00106762335129, atol=1e-14)
        close(propagator(1000), (-0.011165972929, -0.010016538170))
    starts: Any = STARTS
    fn = particles(scalar_particle, steps)
    if state == "arrays":
        starts = [(np.array(p), np.array(v)) for p, v in STARTS]
        fn = particles(array_particle, steps)
    with pdl.executor(executor):
        # every particle reads the mass at every step: the paper's hot slot
        found, (g, by_mass) = pdl.value_and_grad(fn, (0, 1))(starts, MASS)
    assert abs(found - value) < 1e-14 * max(1, abs(value))
    # relative to the largest: after 1000 damped steps all are small
    leaves = np.concatenate([np.ravel(leaf) for leaf in flat(g)])
    assert np.max(np.abs(leaves - gradient)) < 1e-12 * np.max(np.abs(gradient))
    h = 1e-5
    slope = (fn(starts, MASS + h) - fn(starts, MASS - h)) / (2 * h)
    close(by_mass, slope, rtol=1e-6, atol=1e-8)


# --- parallel programs ----------------------------------------------------------------------------------


def on_each_executor(fn: Any, *xs: float) -> tuple[float, tuple[float, ...]]:
    """Value and gradient, which must not depend on the executor by a single bit."""
    found = []
    for executor in ("inline", "threads", "threads"):
        with pdl.executor(executor):
            found.append(pdl.value_and_grad(fn, range(len(xs)))(*xs))
    assert found[0] == found[1] == found[2]
    return found[0]


def check_parallel(fn: Any, xs: Sequence[float]) -> tuple[float, ...]:
    """Against the plain program, forward mode and the reference."""
    value, gradient = on_each_executor(fn, *xs)
    with pdl.executor("inline"):
        assert fn(*xs) == value
        expected = reference.grad(fn, *xs)[1]
    close(gradient, expected, rtol=1e-10, atol=1e-10)
    direction = tuple(math.cos(3.0 * k) for k in range(len(xs)))
    for executor in ("inline", "threads"):
        with pdl.executor(executor):
            out, along = pdl.jvp(fn, tuple(xs), direction)
        assert out == value
        close(along, np.dot(gradient, direction), rtol=1e-10, atol=1e-10)
    return gradient


def test_parallel_small() -> None:
    def f(x: Any, y: Any) -> Any:
        a, b = pdl.par(lambda: x * y * x, lambda: y + y + x)
        return a + b

    rng = np.random.default_rng(3)
    for x, y in rng.normal(size=(20, 2)) * 3:
        close(check_parallel(f, (float(x), float(y))), (2 * x * y + 1, x * x + 2))


def test_parallel_large() -> None:
    angles = [0.1 + 0.05 * math.sin(i) for i in range(300, 0, -1)]

    def rotate(a: Any, b: Any) -> Any:
        for angle in angles:
            c, s = math.cos(angle), math.sin(angle)
            a, b = c * a - s * b, s * a + c * b
        return a, b

    def f(x: Any, y: Any) -> Any:
        (a, b), (c, d) = pdl.par(lambda: rotate(x, y), lambda: rotate(y, x))
        return a + b + c + d

    turn = math.fsum(angles)
    for x, y in ((1.0, 0.5), (-3.0, 2.0), (0.0, 0.0)):
        close(check_parallel(f, (x, y)), [2 * math.cos(turn)] * 2)
        close(f(x, y), 2 * math.cos(turn) * (x + y))


# A series-parallel graph: None is the source, (before,) one more step, (left, right, before) a fork.
# Each step takes the next input.
Graph = Any
graphs = st.recursive(
    st.none(),
    lambda g: st.tuples(g) | st.tuples(g, g, g) | st.tuples(st.tuples(g), st.tuples(g), g),
    max_leaves=8,
)


def extensions(graph: Graph) -> int:
    return 0 if graph is None else (len(graph) == 1) + sum(extensions(part) for part in graph)


def go(s: Any, graph: Graph, xs: Sequence[Any], seen: tuple[Any, ...] | None) -> Any:
    """The paper's random program; with ``seen``, branches share all that was computed before."""
    if graph is None:
        return s
    *branches, before = graph
    t = go(s, before, xs, seen)
    if seen is not None:
        for k, value in enumerate(seen):
            t = t + 0.1 * np.sin(value) / (k + 1.0)
    at = extensions(before)
    if not branches:
        x = xs[at]
        return x * t / np.log((x + t) ** 2 + 2.0)
    left, right = branches
    inner = None if seen is None else (*seen, t, s, xs[-1])
    middle = at + extensions(left)
    a, b = pdl.par(
        lambda: go(t + 2.0, left, xs[at:], inner),
        lambda: go(t + 1.0, right, xs[middle:], inner),
    )
    return a + 0.9 * b


@pytest.mark.parametrize("share", [False, True], ids=["as in the paper", "shared between branches"])
def test_parallel_random(share: bool) -> None:
    @settings(derandomize=True, deadline=None, database=None, max_examples=60)
    @given(graphs, st.integers(0, 2**32))
    def random_graph(graph: Graph, seed: int) -> None:
        rng = np.random.default_rng(seed)
        xs = [float(x) for x in rng.normal(size=extensions(graph) + 2)]

        def f(s: Any, *xs: Any) -> Any:
            return go(s, graph, xs, (s, xs[-1]) if share else None)

        gradient = check_parallel(f, xs)
        if not share:
            assert gradient[-1] == 0.0  # the last input is what branches share

    random_graph()


def test_forks_nest_deeper_than_the_generator() -> None:
    def tree(x: Any, y: Any, depth: int) -> Any:
        if depth == 0:
            return np.sin(x) * y
        a, b = pdl.par(lambda: tree(x + y, y, depth - 1), lambda: tree(x * 0.9, x, depth - 1))
        return a * 0.5 + b * 0.5

    check_parallel(lambda x, y: tree(x, y, 6), (0.3, 0.7))


def test_a_long_row_of_forks() -> None:
    def row(x: Any, y: Any) -> Any:
        for _ in range(40):
            x, y = pdl.par(lambda x=x, y=y: np.sin(x) + 0.1 * y, lambda x=x, y=y: np.cos(y) - 0.1 * x)
        return x * y

    check_parallel(row, (0.3, 0.7))


@pytest.mark.parametrize("executor", ["inline", "threads"])
def test_branches_that_do_nothing_much(executor: str) -> None:
    def f(x: Any, y: Any) -> Any:
        captured, constant, _, nothing = pdl.par(lambda: x, lambda: 2.0, lambda: np.exp(y), lambda: None)
        assert nothing is None
        return captured * constant

    with pdl.executor(executor):
        assert pdl.value_and_grad(f, (0, 1))(3.0, 4.0) == (6.0, (2.0, 0.0))
        assert pdl.grad(lambda x: pdl.par(lambda: x)[0])(3.0) == 1.0
        assert pdl.grad(lambda x: sum(pdl.par(), x))(3.0) == 1.0


@pytest.mark.parametrize("executor", ["inline", "threads"])
def test_exceptions_come_out_of_branches(executor: str) -> None:
    def f(x: Any) -> Any:
        return sum(pdl.par(lambda: x, lambda: 1 / 0))

    with pdl.executor(executor):
        with pytest.raises(ZeroDivisionError):
            pdl.grad(f)(1.0)
        assert pdl.grad(lambda x: sum(pdl.par(lambda: x * x, lambda: x)))(1.0) == 3.0


@pytest.mark.parametrize("executor", ["inline", "threads"])
def test_nan_and_infinity_stay_in_their_branch(executor: str) -> None:
    def f(x: Any, y: Any) -> Any:
        a, b = pdl.par(lambda: x * x, lambda: y * math.inf)
        return a, b

    with pdl.executor(executor):
        out, pullback = pdl.vjp(f, 3.0, 2.0)
        assert out == (9.0, math.inf)
        assert pullback((1.0, 0.0))[0] == 6.0
        assert pullback((0.0, 1.0)) == (0.0, math.inf)
        assert math.isnan(pullback((math.nan, 0.0))[0])


def test_one_pullback_from_many_threads() -> None:
    def f(x: Any, y: Any) -> Any:
        return pdl.par(lambda: np.sin(x) * y, lambda: x * y * y, lambda: x)

    _, pullback = pdl.vjp(f, 0.4, 1.3)
    expected = [pullback((float(k), 1.0, -k / 2)) for k in range(32)]
    for _ in range(5):
        assert pdl.map(lambda k: pullback((float(k), 1.0, -k / 2)), range(32)) == expected
