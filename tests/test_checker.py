"""Proof that `check_grads` notices wrong rules: rules of the table are broken in every way, one at a time.

`test_testing` has the checker's own options and messages; here the rules themselves are replaced.
"""

import dataclasses
import operator

import numpy as np
import pytest

import paradual as pdl
from paradual import rules
from paradual.arrays import Scatter
from paradual.errors import NotDifferentiableError, ParadualError, ParadualValueError
from paradual.rules.products import contract
from paradual.rules.registry import RULES, name_of
from paradual.testing import check_grads

RNG = np.random.default_rng(11)
X, Y = RNG.uniform(0.5, 1.5, 3), RNG.uniform(0.5, 1.5, 3)
A, B = RNG.uniform(0.5, 1.5, (3, 3)), RNG.uniform(0.5, 1.5, (3, 3))
M = A + 4 * np.eye(3)
Z, W = X + 1j * RNG.uniform(0.5, 1.0, 3), Y - 1j * RNG.uniform(0.5, 1.0, 3)
C, D = M + 1j * B, B - 1j * A

# {function: (calls, arguments)}, rules of each kind; both derivatives of every rule are broken below
SAMPLE = {
    np.exp: (np.exp, (X,)),
    np.tanh: (np.tanh, (A,)),
    np.log: (np.log, (A,)),
    np.true_divide: (np.true_divide, (A, X)),
    np.multiply: (np.multiply, (X, A)),
    np.arctan2: (np.arctan2, (A, X)),
    np.power: (np.power, (A, X)),
    np.hypot: (np.hypot, (X, Y)),
    np.sum: (lambda a: np.sum(a, axis=1) ** 2, (A,)),
    np.mean: (lambda a: np.mean(a, axis=(0, 1)), (A,)),
    np.cumsum: (lambda a: np.cumsum(a, axis=1), (A,)),
    np.subtract: (np.subtract, (A, X)),
    np.transpose: (np.transpose, (A,)),
    np.reshape: (lambda a: np.reshape(a, (9,)), (A,)),
    np.concatenate: (lambda a, b: np.concatenate([a, b], axis=1), (A, B)),
    np.where: (lambda x, y: np.where(A > B, x, y), (A, X)),
    np.diag: (np.diag, (A,)),
    operator.getitem: (lambda a: a[[0, 0, 2]], (A,)),
    np.matmul: (np.matmul, (A, B)),
    contract: (lambda a, b: np.einsum("ij,kj->i", a, b), (A, B)),
    np.max: (lambda a: np.max(a, axis=1), (A,)),
    np.prod: (lambda a: np.prod(a, axis=0), (A,)),
    np.conjugate: (np.conjugate, (Z,)),
    np.linalg.solve: (np.linalg.solve, (M, B)),
    np.linalg.inv: (np.linalg.inv, (M,)),
    np.linalg.det: (np.linalg.det, (M,)),
    np.linalg.cholesky: (lambda a: np.linalg.cholesky(a + a.T), (M,)),
}
SECOND = [  # those with a second derivative, which a rule can get wrong alone
    *(np.exp, np.tanh, np.log, np.true_divide, np.multiply, np.arctan2, np.power, np.hypot),
    *(np.matmul, contract, np.prod, np.linalg.solve, np.linalg.inv, np.linalg.det, np.linalg.cholesky),
]


@pytest.fixture
def replace_rule(monkeypatch):
    """Change parts of the rule of a function until the end of the test."""

    def replace(function, **parts):
        monkeypatch.setitem(RULES, function, dataclasses.replace(RULES[function], **parts))

    return replace


def noticed(fn, args, match=None, **options):
    """The checker fails, or the sweep does."""
    with pytest.raises((AssertionError, ParadualError), match=match):
        check_grads(fn, args, **options)


def noticed_in_one_of(seeds, fn, args, **options):
    """The same, but reverse mode alone looks along one direction, which may be blind to the error."""
    with pytest.raises((AssertionError, ParadualError)):  # noqa: PT012
        for seed in range(seeds):
            check_grads(fn, args, seed=seed, **options)


# --- every sort of error, in every derivative -------------------------------------------------------------


def one_element(c):
    """An error in the largest element only."""
    return c * np.where(np.abs(c) == np.max(np.abs(c)), 1.001, 1.0)


ERRORS = {
    "larger": lambda c: c * 1.001,
    "smaller": lambda c: c * 0.999,
    "sign": lambda c: -c,
    "dropped": lambda c: c * 0,
    "one-element": one_element,
    "shifted": lambda c: c + 1e-3,
    "nan": lambda c: c * np.nan,
}


def changed(derivative, error, part=0):
    """A partial, pullback or pushforward of which one result is wrong."""

    def wrong(*args):
        c = derivative(*args)
        if isinstance(c, list | tuple):
            return type(c)(error(one) if k == part else one for k, one in enumerate(c))
        return Scatter(c.index, error(c.value)) if type(c) is Scatter else error(c)

    return wrong


def operands(function):
    """The derivatives of the sample as (which pull, which of its results)."""
    rule, several = RULES[function], function in (contract, np.concatenate, np.linalg.solve)
    return [(0, part) for part in range(2)] if several else [(k, 0) for k in range(len(rule.pulls))]


PULLS = [(f, k, part) for f in SAMPLE for k, part in operands(f)]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize(("function", "k", "part"), PULLS, ids=[f"{name_of(f)}-{k}-{p}" for f, k, p in PULLS])
def test_an_error_in_a_pullback_is_noticed(replace_rule, function, k, part, error):
    fn, args = SAMPLE[function]
    check_grads(fn, args, order=1)
    pulls = list(RULES[function].pulls)
    pulls[k] = changed(pulls[k], ERRORS[error], part)
    replace_rule(function, pulls=tuple(pulls))
    both = RULES[function].kind == "elementwise"  # one partial serves both modes
    noticed(fn, args, order=1)
    noticed_in_one_of(4, fn, args, order=1, modes=("rev",))
    if both:
        noticed(fn, args, order=1, modes=("fwd",))
    else:
        check_grads(fn, args, order=1, modes=("fwd",))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("function", [f for f in SAMPLE if RULES[f].kind == "general"], ids=name_of)
def test_an_error_in_a_pushforward_is_noticed(replace_rule, function, error):
    fn, args = SAMPLE[function]
    replace_rule(function, push=changed(RULES[function].push, ERRORS[error]))
    noticed(fn, args, "forward mode", order=1, modes=("fwd",))
    noticed(fn, args, "forward mode", order=1)
    check_grads(fn, args, order=1, modes=("rev",))


def without_memory(derivative, skip):
    """The same derivative, which its own derivative takes for a constant."""

    def wrong(*args):
        return derivative(*args[:skip], *map(stopped, args[skip:]))

    return wrong


def stopped(x):
    return [pdl.stop_gradient(part) for part in x] if isinstance(x, list) else pdl.stop_gradient(x)


@pytest.mark.parametrize("function", SECOND, ids=name_of)
def test_a_dropped_second_order_term_of_a_pullback_is_noticed(replace_rule, function):
    fn, args = SAMPLE[function]
    skip = RULES[function].kind != "elementwise"
    replace_rule(function, pulls=tuple(without_memory(pull, skip) for pull in RULES[function].pulls))
    check_grads(fn, args, order=1)
    noticed(fn, args, " over ")
    noticed(fn, args, " over reverse mode", modes=("rev",))


@pytest.mark.parametrize("function", [f for f in SECOND if RULES[f].kind == "general"], ids=name_of)
def test_a_dropped_second_order_term_of_a_pushforward_is_noticed(replace_rule, function):
    fn, args = SAMPLE[function]
    replace_rule(function, push=without_memory(RULES[function].push, 1))
    check_grads(fn, args, order=1)
    noticed(fn, args, " over forward mode")
    noticed(fn, args, " over forward mode", modes=("fwd",))


# --- errors of a definition -------------------------------------------------------------------------------

COMPOSED = {
    np.var: (lambda a: np.var(a, axis=1), (A,)),
    np.cross: (np.cross, (A, B)),
    np.dot: (np.dot, (A, B)),
    np.linalg.norm: (np.linalg.norm, (A,)),
    np.sort: (np.sort, (A,)),
}
WRONG_DEFINITIONS = {
    "value": lambda out: out * 1.001,
    "derivative": lambda out: out * 1.001 - pdl.stop_gradient(out) * 0.001,
    "sign": lambda out: 2 * pdl.stop_gradient(out) - out,
    "dropped": pdl.stop_gradient,
    "shape": lambda out: np.expand_dims(out, 0),
    "dtype": lambda out: out.astype(np.float32),
    "second": lambda out: out + (out - pdl.stop_gradient(out)) ** 2,
}


@pytest.mark.parametrize("error", WRONG_DEFINITIONS)
@pytest.mark.parametrize("function", COMPOSED, ids=name_of)
def test_an_error_in_a_definition_is_noticed(replace_rule, function, error):
    fn, args = COMPOSED[function]
    check_grads(fn, args)
    definition = RULES[function].push
    replace_rule(function, push=lambda *a, **kw: WRONG_DEFINITIONS[error](definition(*a, **kw)))
    for modes in (("rev",), ("fwd",), ("rev", "fwd")):
        noticed(fn, args, modes=modes)
    if error == "second":
        check_grads(fn, args, order=1)


def test_a_mean_taken_for_a_constant_is_noticed_to_second_order(replace_rule):
    # the first derivative of a variance is right without that of the mean, because the deviations add up to 0
    def var(a, axis=None):
        return np.mean((a - pdl.stop_gradient(np.mean(a, axis=axis, keepdims=True))) ** 2, axis=axis)

    replace_rule(np.var, push=var)
    check_grads(np.var, (X,), order=1)
    noticed(np.var, (X,), " over ")


def test_a_variant_that_is_wrong_is_noticed(replace_rule):
    variant = RULES[np.sum].variant
    replace_rule(np.sum, variant=lambda a, **kw: variant(a, **{**kw, "where": True}))
    noticed(lambda a: np.sum(a, axis=1, where=A > 1), (A,), "value of result 0")
    check_grads(lambda a: np.sum(a, axis=1), (A,))


# --- errors of one function's own sort --------------------------------------------------------------------

OWN = {  # {what is wrong: (function, parts of its rule)}, and the call if it is not that of the sample
    "cumsum-along-the-other-axis": (
        np.cumsum,
        {"pulls": (lambda g, a_shape, axis=None: np.flip(np.cumsum(np.flip(g, 0), 0), 0),)},
    ),
    "mean-over-the-other-axis": (
        np.mean,
        {"pulls": (lambda g, a_shape, axis=None, keepdims=False: np.broadcast_to(g / 3, a_shape),)},
        lambda a: np.mean(a, axis=1),
        (A,),
    ),
    "max-spread-over-the-other-axis": (
        np.max,
        {"push": lambda t, a, out, axis=None, keepdims=False: np.sum(t * (a == out), axis=axis)},
    ),
    "concatenate-swapped": (
        np.concatenate,
        {"pulls": (lambda g, arrays_shape, axis=0: [g[:, 3:], g[:, :3]],)},
    ),
    "roll-forwards": (
        np.roll,
        {"pulls": (lambda g, shift, axis=None: np.roll(g, shift, axis),)},
        lambda a: np.roll(a, 1, 0),
        (A,),
    ),
    "transpose-with-the-same-axes": (
        np.transpose,
        {"pulls": (np.transpose,)},
        lambda a: np.transpose(a, (1, 2, 0)),
        (RNG.standard_normal((3, 3, 3)),),
    ),
    "reshape-in-the-other-order": (
        np.reshape,
        {"pulls": (lambda g, a_shape, shape=None, order="C": np.reshape(g, a_shape, order="F"),)},
    ),
    "matmul-not-transposed": (
        np.matmul,
        {"pulls": (lambda g, x1_shape, x2: np.matmul(g, x2), RULES[np.matmul].pulls[1])},
    ),
    "matmul-with-the-other-operand": (
        np.matmul,
        {"pulls": (RULES[np.matmul].pulls[0], lambda g, x1, x2_shape: np.matmul(g, x1))},
    ),
    "solve-with-the-matrix-not-transposed": (
        np.linalg.solve,
        {"pulls": (lambda g, a, out: (-(u := np.linalg.solve(a, g)) @ out.T, u),)},
    ),
    "solve-with-its-cotangents-swapped": (
        np.linalg.solve,
        {"pulls": (lambda *args: RULES_SOLVE(*args)[::-1],)},
    ),
    "where-on-the-other-side": (np.where, {"pulls": RULES[np.where].pulls[::-1]}),
    "partials-swapped": (np.arctan2, {"pulls": RULES[np.arctan2].pulls[::-1]}),
    "a-square-forgotten": (np.tanh, {"pulls": (lambda out: 1 - out,)}),
    "an-index-that-is-off-by-one": (
        operator.getitem,
        {"pulls": (lambda g, b: Scatter(b + 1, g),)},
        lambda a: a[1],
        (A,),
    ),
    "repeated-indices-that-overwrite": (
        operator.getitem,
        {"pulls": (lambda g, b: put_back(g, b),)},
        lambda a: a[[0, 0, 2]],
        (X,),
    ),
    "a-mean-over-broadcast-stacks": (
        np.linalg.inv,
        {"pulls": (lambda g, out: np.mean(RULES_INV(g, out), axis=0) if g.ndim > 2 else RULES_INV(g, out),)},
        lambda a: np.linalg.inv(np.stack([a, a * 2])),
        (M,),
    ),
}
RULES_SOLVE, RULES_INV = RULES[np.linalg.solve].pulls[0], RULES[np.linalg.inv].pulls[0]


def put_back(g, index):
    c = np.zeros(3)
    c[index] = g
    return c


@pytest.mark.parametrize("error", OWN)
def test_an_error_of_ones_own_is_noticed(replace_rule, error):
    function, parts, *call = OWN[error]
    fn, args = call or SAMPLE[function]
    check_grads(fn, args, order=1)
    replace_rule(function, **parts)
    noticed(fn, args, order=1)
    forward = "push" in parts or RULES[function].kind == "elementwise"
    noticed(fn, args, order=1, modes=("fwd" if forward else "rev",))


SHAPES = {
    "an-axis-too-many": lambda c: np.stack([c, c]),  # would be summed over
    "an-element-missing": lambda c: c[..., :-1],
    "one-element": lambda c: np.ravel(c)[:1],
    "a-number": np.sum,
}


@pytest.mark.parametrize("error", SHAPES)
@pytest.mark.parametrize(
    "function", [np.exp, np.cumsum, np.concatenate, np.matmul, np.prod, np.linalg.solve], ids=name_of
)
def test_a_cotangent_of_a_wrong_shape_is_noticed(replace_rule, function, error):
    fn, args = SAMPLE[function]
    replace_rule(function, pulls=tuple(changed(pull, SHAPES[error]) for pull in RULES[function].pulls))
    with pytest.raises((AssertionError, ParadualError, ValueError)):
        check_grads(fn, args, order=1, modes=("rev",))


# --- complex numbers --------------------------------------------------------------------------------------

OF_COMPLEX = {
    np.exp: (np.exp, (Z,)),
    np.multiply: (np.multiply, (Z, W)),
    np.true_divide: (np.true_divide, (Z, W)),
    np.absolute: (np.absolute, (Z,)),
    np.sum: (np.sum, (Z,)),
    np.cumsum: (np.cumsum, (Z,)),
    np.imag: (np.imag, (Z,)),
    np.conjugate: (np.conjugate, (Z,)),
    np.matmul: (np.matmul, (C, D)),
    contract: (lambda a, b: np.einsum("ij,jk->ik", a, b), (C, D)),
    np.linalg.inv: (np.linalg.inv, (C,)),
    np.linalg.det: (np.linalg.det, (C,)),
    np.linalg.solve: (np.linalg.solve, (C, D)),
    np.linalg.cholesky: (lambda a: np.linalg.cholesky(a @ np.conjugate(a.T)), (C,)),
    np.prod: (np.prod, (Z,)),
}
AMISS = {
    "conjugate": np.conjugate,
    "times-i": lambda c: 1j * c,
    "real-part": np.real,
    "imaginary-part": lambda c: 1j * np.imag(c),
}


@pytest.mark.parametrize("error", AMISS)
@pytest.mark.parametrize("function", OF_COMPLEX, ids=name_of)
def test_a_conjugate_too_many_and_its_like_are_noticed(replace_rule, function, error):
    fn, args = OF_COMPLEX[function]
    check_grads(fn, args, order=1)
    pulls = RULES[function].pulls
    replace_rule(function, pulls=tuple(changed(pull, AMISS[error]) for pull in pulls))
    if (function, error) == (np.imag, "imaginary-part"):
        check_grads(fn, args, order=1)  # the partial is imaginary
        return
    noticed(fn, args, order=1, modes=("rev",))
    if RULES[function].push is not None:
        replace_rule(function, pulls=pulls, push=changed(RULES[function].push, AMISS[error]))
        noticed(fn, args, "forward mode", order=1, modes=("fwd",))


def test_a_missing_conjugate_in_a_definition_is_noticed(replace_rule):
    replace_rule(np.vdot, push=lambda a, b: np.matmul(a, b))
    noticed(np.vdot, (Z, W), "value of result 0")
    check_grads(np.vdot, (X, Y))


# --- precision, and where an array lies -------------------------------------------------------------------


def test_a_rule_cannot_give_derivatives_another_precision(replace_rule):
    # the sweep casts; a definition of another precision has another result
    double = changed(RULES[np.linalg.inv].pulls[0], lambda c: c.astype(np.float64))
    push = changed(RULES[np.linalg.inv].push, lambda c: c.astype(np.float64))
    replace_rule(np.linalg.inv, pulls=(double,), push=push)
    check_grads(np.linalg.inv, (M.astype(np.float32),), order=1)
    definition = RULES[np.var].push
    replace_rule(np.var, push=lambda *a, **kw: definition(*a, **kw).astype(np.float64))
    noticed(np.var, (X.astype(np.float32),), "float64.*not .*float32")


def read_only(x):
    """An array that nobody can write to, so that it is differentiated as it lies, and not as a copy."""
    x = np.copy(x)
    x.flags.writeable = False
    return x


LAYOUTS = {
    "fortran": read_only(A).T,
    "strided": read_only(np.repeat(A, 2, axis=1))[:, ::2],
    "reversed": read_only(A)[::-1],
    "broadcast": np.broadcast_to(read_only(X), (3, 3)),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_error_that_only_some_layouts_show_is_noticed(replace_rule, layout):
    replace_rule(np.square, pulls=(lambda x: 2 * x * (1 if x.flags.c_contiguous else 2),))
    check_grads(np.square, (A,), order=1)
    noticed(np.square, (LAYOUTS[layout],), order=1)


def test_an_error_of_layouts_inside_a_function_is_noticed(replace_rule):
    # the elements in the order of memory, as if it were the order of the axes
    replace_rule(np.square, pulls=(lambda x: 2 * np.reshape(np.ravel(x, "K"), x.shape),))
    check_grads(np.square, (A,), order=1)
    noticed(lambda a: np.square(a.T), (read_only(A),), order=1)
    noticed(lambda a: np.square(a[:, ::2].T), (read_only(A),), order=1)


def test_an_error_that_only_broadcast_operands_show_is_noticed(replace_rule):
    def average(g, x1, x2_shape):
        c = RULES_RIGHT(g, x1, x2_shape)
        return np.mean(c, axis=0) if c.ndim > len(x2_shape) else c

    RULES_RIGHT = RULES[np.matmul].pulls[1]
    replace_rule(np.matmul, pulls=(RULES[np.matmul].pulls[0], average))
    check_grads(np.matmul, (A, B), order=1)
    noticed(np.matmul, (np.stack([A, B]), B), order=1)


# --- wrong declarations are refused -----------------------------------------------------------------------


def one(x):
    return x


def two(x, y):
    return x * y


DECLARATIONS = {
    "elementwise-unknown-name": lambda: rules.elementwise(one, lambda z: z),
    "elementwise-unknown-name-of-ufunc": lambda: rules.elementwise(np.exp, lambda y: y),
    "elementwise-no-partial": lambda: rules.elementwise(one),
    "elementwise-too-few": lambda: rules.elementwise(np.arctan2, lambda x1: x1),
    "elementwise-too-many": lambda: rules.elementwise(np.exp, lambda x: x, lambda x: x),
    "elementwise-no-signature": lambda: rules.elementwise(iter, lambda x: x),
    "elementwise-not-a-function": lambda: rules.elementwise(one, 2.0),
    "linear-no-transpose": lambda: rules.linear(one),
    "linear-unknown-name": lambda: rules.linear(one, lambda g, y: g),
    "linear-unknown-shape": lambda: rules.linear(one, lambda g, y_shape: g),
    "linear-too-many": lambda: rules.linear(one, lambda g: g, lambda g: g),
    "linear-too-few": lambda: rules.linear(two, lambda g: g, arrays="x y"),
    "multilinear-no-transpose": lambda: rules.multilinear(two),
    "multilinear-unknown-name": lambda: rules.multilinear(two, lambda g, z: g, lambda g, x: g * x),
    "multilinear-too-many": lambda: rules.multilinear(one, lambda g: g, lambda g: g),
    "multilinear-too-few": lambda: rules.multilinear(two, lambda g, y: g * y, arrays="x y"),
    "general-unknown-name-in-pullback": lambda: rules.general(one, lambda g, y: g, lambda t: t),
    "general-unknown-name-in-pushforward": lambda: rules.general(one, lambda g: g, lambda t, y: t),
    "general-no-pushforward": lambda: rules.general(one, lambda g: g, None),
    "composed-not-a-function": lambda: rules.composed(one, 3.0),
}


@pytest.mark.parametrize("name", DECLARATIONS)
def test_a_wrong_declaration_is_refused(name):
    before = dict(RULES)
    with pytest.raises((ParadualValueError, TypeError)):
        DECLARATIONS[name]()
    assert before == RULES


def test_a_call_that_a_rule_does_not_know_is_refused():
    with pytest.raises(NotDifferentiableError, match="axes"):
        check_grads(lambda a: np.matmul(a, a, axes=[(0, 1)] * 3), (A,))
