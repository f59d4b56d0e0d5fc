"""Cases of `test_rules`: see `paradual.rules.polynomials`."""

import hypothesis.strategies as st
import numpy as np
from case_table import case, normal, positive, reseed, spread, square, z
from shape_table import apart, empty, generator, of_matrices, shape, shaped

from paradual.rules import kind
from paradual.rules.polynomials import characteristic

reseed(35)


def coefficients(rng, n):
    """A random polynomial whose leading coefficient is not 0."""
    p = rng.standard_normal(n)
    return np.where(np.arange(n) == 0, np.abs(p) + 0.5, p)


def of_two(f):
    """An entry: two polynomials of any degrees."""

    def entry(draw):
        rng = generator(draw)
        return f, tuple(coefficients(rng, draw(st.integers(1, 4))) for _ in range(2))

    return entry


def of_one(f, least=1):
    """An entry: a polynomial."""

    def entry(draw):
        return f, (coefficients(generator(draw), draw(st.integers(least, 4))),)

    return entry


case(np.polyval, "array", normal(4), normal(2, 3))
case(np.polyval, "number", normal(3), 0.7)
case(np.polyval, "constant", normal(1), normal(3), fn=lambda p, x: np.polyval(p, x) * x)
case(np.polyval, "list", normal(3), fn=lambda x: np.polyval([1, -2.0, 0.5], x))
case(np.polyval, "poly1d", normal(3), fn=lambda x: np.poly1d([1, -2.0, 0.5])(x))
case(np.polyval, "only-coefficients", normal(3), fn=lambda p: np.polyval(p, [1, 2]))
case(np.polyval, "complex", z(3), z(2))
case(np.polyval, "real-complex", normal(3), z(2))


def evaluated(draw):
    rng = generator(draw)
    return np.polyval, (coefficients(rng, draw(st.integers(1, 4))), apart(rng, *shape(draw)))


shaped(np.polyval, evaluated)
for f in (np.polyadd, np.polysub, np.polymul):
    case(f, "same", normal(3), normal(3))
    case(f, "longer", normal(4), normal(2))
    case(f, "shorter", normal(2), normal(4))
    case(f, "number", normal(3), 0.5)
    case(f, "list", normal(3), fn=lambda p, f=f: f([1.0, 2.0], p))
    case(f, "complex", z(3), normal(2))
    shaped(f, of_two(f))
case(np.polymul, "leading-zeros", normal(3), fn=lambda p: np.polymul([0, 0, 1.0, 2.0], p))
case(np.polymul, "zero", normal(3), fn=lambda p: np.polymul([0.0, 0.0], p) + p)
case(np.polydiv, "longer", normal(5), positive(3))
case(np.polydiv, "same", normal(3), positive(3))
case(np.polydiv, "shorter", normal(2), positive(3))
case(np.polydiv, "number", normal(3), 0.7)
case(np.polydiv, "complex", np.array([4 + 2j, 2 - 8j, 6j, 8]), np.array([2 + 0j, 4 - 1j]))
case(np.polydiv, "list", np.array([0.5, 2.0]), fn=lambda v: np.polydiv([1, 2, 5, 7], v))
shaped(np.polydiv, of_two(np.polydiv))
for m in (0, 1, 2, 4):
    case(np.polyder, f"{m}", normal(4), fn=lambda p, m=m: np.polyder(p * p, m))
    case(np.polyint, f"{m}", normal(3), fn=lambda p, m=m: np.polyint(p * p, m))
case(np.polyder, "complex", z(4))
case(np.polyint, "constant", normal(3), 0.5, fn=lambda p, k: np.polyint(p, 2, k))
case(np.polyint, "constants", normal(3), normal(2), fn=lambda p, k: np.polyint(p, m=2, k=k))
case(np.polyint, "list", normal(3), fn=lambda p: np.polyint(p, 2, [1, 2]))
case(np.polyint, "complex", z(2))
shaped(np.polyder, of_one(lambda p: np.polyder(p * p)))
shaped(np.polyint, of_one(lambda p: np.polyint(p * p, 2, 0.5)))

case(np.vander, "square", spread(4))
case(np.vander, "wide", spread(3), N=5)
case(np.vander, "increasing", spread(3), N=4, increasing=True)
case(np.vander, "zero", np.array([0.0, 1.0, -2.0]), N=4)
case(np.vander, "complex", z(3), N=3)
shaped(np.vander, of_one(lambda x: np.vander(x, 3, increasing=True)))

case(np.roots, "real", np.array([1.0, -6.1, 11.3, -6.2]))
case(np.roots, "conjugate", np.array([1.0, 0.3, 2.0, 1.5, 3.0]))
case(np.roots, "complex", z(4))
case(np.roots, "linear", np.array([2.0, -3.0]))
case(np.roots, "none", np.array([2.0]), fn=lambda p: np.concatenate([np.roots(p), p]))
case(np.roots, "leading-zero", normal(3), fn=lambda p: np.roots(np.concatenate([np.zeros(1), p])))
case(np.roots, "trailing-zero", normal(3), fn=lambda p: np.roots(np.concatenate([p, np.zeros(1)])))


def rooted(draw):
    rng = generator(draw)
    gaps = np.arange(draw(st.integers(1, 4))) + 1.0 + rng.uniform(-0.3, 0.3)
    return (lambda p: np.sort(np.roots(p).real)), (np.poly(gaps) * 1.5,)


shaped(np.roots, rooted)
case(np.poly, "roots", normal(4))
case(np.poly, "complex", z(3))
case(np.poly, "conjugate", normal(2), fn=lambda x: np.poly(np.stack([x[0] + 1j * x[1], x[0] - 1j * x[1]])))
shaped(np.poly, of_one(np.poly))
for f in (np.poly, characteristic):
    case(f, "matrix", square(3, 3), fn=lambda a: np.poly(a))
    case(f, "1x1", square(1, 1), fn=lambda a: np.poly(a))
    case(f, "repeated", np.eye(2) * 1.5 + np.eye(2, k=1), fn=lambda a: np.poly(a))
    case(f, "complex-matrix", z(3, 3), fn=lambda a: np.poly(a))
shaped(characteristic, of_matrices(np.poly, lambda rng, *n: rng.standard_normal(n), max_stack=0))

T = np.array([-1.0, -0.4, 0.1, 0.7, 1.3, 2.0])
case(np.polyfit, "values", normal(6), fn=lambda y: np.polyfit(T, y, 2))
case(np.polyfit, "points", T, normal(6), deg=2)
case(np.polyfit, "several", T, normal(6, 2), deg=3)
case(np.polyfit, "weights", T, normal(6), positive(6), fn=lambda x, y, w: np.polyfit(x, y, 2, w=w))
case(np.polyfit, "weights-several", T, normal(6, 2), positive(6), fn=lambda x, y, w: np.polyfit(x, y, 2, w=w))
case(np.polyfit, "cov", T, normal(6), deg=2, cov=True)
case(np.polyfit, "cov-several", T, normal(6, 2), deg=1, cov=True)
case(
    np.polyfit,
    "unscaled",
    T,
    normal(6),
    positive(6),
    fn=lambda x, y, w: np.polyfit(x, y, 2, w=w, cov="unscaled"),
)
case(np.polyfit, "full", T, normal(6), fn=lambda x, y: np.polyfit(x, y, 2, full=True)[:2])
case(np.polyfit, "rcond", T, normal(6), deg=1, rcond=1e-9)
case(np.polyfit, "complex", T, z(6), deg=2)


def fitted(draw):
    rng, deg = generator(draw), draw(st.integers(0, 2))
    x = np.arange(5) + rng.uniform(-0.3, 0.3, 5)
    return (lambda x, y: np.polyfit(x, y, deg)), (x, apart(rng, 5, *shape(draw, 0, 1)))


shaped(np.polyfit, fitted)

# --- nothing, and numbers ---------------------------------------------------------------------------------

empty(np.polyval, lambda x: np.polyval([1.0, 2.0], x), lambda p: np.polyval(p, 2.0))
empty(np.polyadd, lambda p: np.polyadd(p, [1.0, 2.0]))
empty(np.polymul, lambda p: np.polymul(p, [1.0, 2.0]))
empty(np.polydiv, lambda p: np.polydiv(p if p.ndim < 2 else p.ravel(), [1.0, 2.0]))
empty(np.polyder, lambda p: np.polyder(p if p.ndim < 2 else p.ravel()))
empty(np.polyint, np.polyint, lambda p: np.polyint(p, 2, 3.0))
empty(np.vander, lambda x: np.vander(x, 2))
empty(np.roots)
empty(np.poly)
empty(np.polyfit, lambda y: np.polyfit([0.0, 1.0, 2.0], y, 1))

del f, m

for name in ("polyval2d", "polygrid2d", "polyvalnd"):
    f = getattr(np.polynomial.polynomial, name, None)
    if kind(f) is None:  # not in this version of NumPy, or it does not ask duals
        continue
    call = f if name != "polyvalnd" else lambda x, y, c, f=f: f((x, y), c)
    case(f, "vectors", normal(3), normal(3), normal(2, 3), fn=call)
    case(f, "numbers", normal(), normal(), normal(3, 2), fn=call)
    case(f, "several", normal(2), normal(2), normal(2, 2, 3), fn=call)
    case(f, "constant", normal(2), normal(2), normal(1, 1), fn=call)

    def entry(draw, call=call, same=name != "polygrid2d"):
        rng = generator(draw)
        x = rng.standard_normal(shape(draw, 0, 2))
        y = rng.standard_normal(x.shape if same else shape(draw, 0, 1))
        return call, (x, y, rng.standard_normal(shape(draw, 2, 2)))

    shaped(f, entry)
