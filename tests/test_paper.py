"""The test functions and benchmarks of Smeding and Vakar (JFP 35, e16, 2025), with their closed forms.

Each program runs here as it stands under floats, `paradual.vjp`, `paradual.jvp` and the three methods of
`paradual.reference`.  Beyond the paper's own suite, values are compared too, lists by length, and the
parallel programs share values between branches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
import pytest
from paper_helpers import Case, Quaternion, Rows, Vec3, check, flat, refill, rotate

import paradual as pdl

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
