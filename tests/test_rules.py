"""Every derivative rule, against finite differences and as the tape uses it."""

import dataclasses
import pickle

import hypothesis.extra.numpy as arrays_of
import hypothesis.strategies as st
import numpy as np
import pytest
from cases import BINARY, CASES, REDUCTIONS
from hypothesis import given, settings

import paradual as pdl
from paradual import rules
from paradual.dual import Dual
from paradual.errors import NotDifferentiableError, ParadualValueError
from paradual.rules.registry import RULES, kind, name_of
from paradual.testing import check_grads
from paradual.trees import flatten, unflatten

all_cases = pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])


def leaves(tree):
    return [leaf for leaf in flatten(tree)[0] if getattr(leaf, "dtype", np.dtype(type(leaf))).kind in "fc"]


def like(tree, seed=1):
    """Random numbers in the form of a pytree."""
    rng = np.random.default_rng(seed)

    def draw(leaf):
        dtype = getattr(leaf, "dtype", np.dtype(type(leaf)))
        x = rng.standard_normal(np.shape(leaf)) + (
            1j * rng.standard_normal(np.shape(leaf)) if dtype.kind == "c" else 0
        )
        return type(leaf)(x) if isinstance(leaf, float | complex) else np.asarray(x, dtype)

    parts, structure = flatten(tree)
    return unflatten(structure, [draw(part) for part in parts])


def assert_near(got, expected, tolerance):
    """Compare arrays relative to their largest element."""
    for a, b in zip(leaves(got), leaves(expected), strict=True):
        size = np.max(np.abs(b), initial=1.0)
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * size)


# --- the table --------------------------------------------------------------------------------------------


def test_every_rule_has_a_case():
    # not what paradual.custom adds, which has tests of its own, nor rules that other tests register
    tables = ("numpy", "_operator", "paradual.arrays", "paradual.rules")
    differentiable = {
        f
        for f, rule in RULES.items()
        if rule.kind not in ("constant", "refused")
        and (
            getattr(np, f.__name__, None) is f if isinstance(f, np.ufunc) else f.__module__.startswith(tables)
        )
    }
    forgotten = differentiable - {case.function for case in CASES}
    assert not forgotten, f"no case in tests/cases.py for {sorted(map(name_of, forgotten))}"


def test_the_names_of_the_cases_are_unique():
    ids = [case.id for case in CASES]
    assert len(ids) == len(set(ids))


@all_cases
def test_derivatives(case):
    check_grads(case.fn, case.args, order=2, modes=("rev", "fwd"))


class RuleUsed(Exception):
    """Raised in place of a derivative."""


@all_cases
def test_the_case_uses_the_rule(case, monkeypatch):
    def raise_instead(*args, **kwargs):
        raise RuleUsed

    rule = RULES[case.function]
    broken = dataclasses.replace(rule, pulls=(raise_instead,) * len(rule.pulls), push=raise_instead)
    monkeypatch.setitem(RULES, case.function, broken)
    with pytest.raises(RuleUsed):  # noqa: PT012
        out, pullback = pdl.vjp(case.fn, *case.args)
        pullback(like(out))


@all_cases
def test_the_value_is_numpys(case):
    expected = case.fn(*case.args)
    out, _ = pdl.vjp(case.fn, *case.args)
    assert_near(out, expected, 1e-13)
    for a, b in zip(leaves(out), leaves(expected), strict=True):
        assert np.shape(a) == np.shape(b)
        assert np.asarray(a).dtype == np.asarray(b).dtype


def in_single(x):
    if not isinstance(x, np.ndarray | np.generic):
        return x
    return x.astype(np.complex64 if x.dtype.kind == "c" else np.float32)


@all_cases
def test_single_precision_stays_single(case):
    args = tuple(in_single(arg) for arg in case.args)
    plain = case.fn(*args)
    out, pullback = pdl.vjp(case.fn, *args)
    w, t = like(out), like(args, seed=2)
    cotangents = pullback(w)
    value, tangent = pdl.jvp(case.fn, args, t)
    for a, b, dt, expected in zip(*map(leaves, (out, value, tangent, plain)), strict=True):
        dtype = np.asarray(expected).dtype
        assert np.asarray(a).dtype == np.asarray(b).dtype == np.asarray(dt).dtype == dtype
    for g, arg in zip(cotangents, args, strict=True):
        assert type(g) is type(arg)
        assert np.asarray(g).dtype == np.asarray(arg).dtype
    reference, double = pdl.vjp(case.fn, *case.args)
    w = unflatten(
        flatten(reference)[1],
        [
            type(r)(x) if isinstance(r, float | complex) else np.asarray(x, r.dtype)
            for r, x in zip(flatten(reference)[0], flatten(w)[0], strict=True)
        ],
    )
    assert_near(cotangents, double(w), 2e-4)


def in_precision(x, dtype):
    if not isinstance(x, np.ndarray | np.generic):
        return x
    return np.asarray(x).astype(np.result_type(dtype, 1j) if x.dtype.kind == "c" else dtype)


@all_cases
@pytest.mark.parametrize("dtype", [np.float16, np.longdouble], ids=["half", "long"])
@pytest.mark.filterwarnings("ignore")  # in half precision much overflows
def test_half_and_long_precision(case, dtype):
    args = tuple(in_precision(arg, dtype) for arg in case.args)
    try:
        plain = case.fn(*args)
    except TypeError:  # NumPy itself does not compute this in such a precision, as LAPACK does not
        return
    if (
        dtype is np.longdouble and case.function is np.histogram and "weights" in case.id
    ):  # counted in double precision
        with pytest.raises(TypeError, match="Cannot cast"):
            pdl.vjp(case.fn, *args)
        return
    out, pullback = pdl.vjp(case.fn, *args)
    cotangents = pullback(like(out))
    for a, b in zip(leaves(out), leaves(plain), strict=True):
        assert np.asarray(a).dtype == np.asarray(b).dtype
    for g, arg in zip(cotangents, args, strict=True):
        assert np.asarray(g).dtype == np.asarray(arg).dtype


def strided(x):
    """The same numbers, not contiguous and read-only."""
    if not isinstance(x, np.ndarray) or x.ndim == 0:
        return x
    wide = np.full((*x.shape[:-1], 2 * x.shape[-1]), np.nan, x.dtype)
    wide[..., ::2] = x
    wide.flags.writeable = False  # of what can be written a copy is taken, which is contiguous
    return wide[..., ::2]


@all_cases
def test_strided_and_read_only_arguments(case):
    args = tuple(strided(arg) for arg in case.args)
    out, pullback = pdl.vjp(case.fn, *case.args)
    w, t = like(out), like(args, seed=2)
    _, tangent = pdl.jvp(case.fn, case.args, t)
    _, again = pdl.vjp(case.fn, *args)
    assert_near(again(w), pullback(w), 1e-12)
    assert_near(pdl.jvp(case.fn, args, t)[1], tangent, 1e-12)


@all_cases
def test_the_pullback_pickles(case):
    out, pullback = pdl.vjp(case.fn, *case.args)
    w = like(out)
    again = pickle.loads(pickle.dumps(pullback))
    for a, b in zip(again(w), pullback(w), strict=True):
        np.testing.assert_array_equal(a, b)


# --- any shapes -------------------------------------------------------------------------------------------

SMOOTH = [f for f in BINARY if f not in (np.remainder, np.fmod, np.heaviside)]


@pytest.mark.parametrize("f", SMOOTH, ids=name_of)
@given(
    shapes=arrays_of.mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=3, min_side=0),
    seed=st.integers(0, 2**16),
)
@settings(max_examples=12)
def test_broadcasting(f, shapes, seed):
    rng = np.random.default_rng(seed)
    a, b = shapes.input_shapes
    left, right = rng.uniform(0.5, 1.0, a), rng.uniform(1.1, 2.0, b)
    if rng.random() < 0.5 and f not in (np.power, np.float_power, np.copysign):
        left, right = right, left
    check_grads(f, (left, right), seed=rng)


@pytest.mark.parametrize("f", REDUCTIONS, ids=name_of)
@given(data=st.data())
@settings(max_examples=12)
def test_reduction_axes(f, data):
    shape = data.draw(arrays_of.array_shapes(max_dims=4, max_side=3))
    axis = data.draw(
        st.none()
        | st.integers(-len(shape), len(shape) - 1)
        | arrays_of.valid_tuple_axes(len(shape), min_size=1)
    )
    keepdims = data.draw(st.booleans())
    n = int(np.prod(shape))
    x = np.random.default_rng(n).permutation(np.linspace(0.5, 2.0, n)).reshape(shape)
    # the deviation of equal numbers has a kink
    if f is np.std and all(shape[k] == 1 for k in np.atleast_1d(range(len(shape)) if axis is None else axis)):
        f = np.var
    check_grads(lambda a: f(a, axis=axis, keepdims=keepdims), (x,))


@given(
    shape=arrays_of.array_shapes(min_dims=1, max_dims=3, max_side=4),
    data=st.data(),
)
@settings(max_examples=60)
def test_indexing(shape, data):
    index = data.draw(
        arrays_of.basic_indices(shape, allow_newaxis=True)
        | arrays_of.integer_array_indices(shape, result_shape=arrays_of.array_shapes(max_dims=2, max_side=3))
        | arrays_of.arrays(bool, shape)
    )
    check_grads(lambda a: a[index] * a[index], (np.random.default_rng(3).standard_normal(shape),))


# --- constants and refusals -------------------------------------------------------------------------------

V = np.array([1.5, -0.5, 2.0])
OF_ONE = """
    logical_not isfinite isinf isnan signbit isneginf isposinf all any isreal iscomplex isrealobj
    iscomplexobj floor ceil trunc rint round around fix spacing argmax argmin nanargmax nanargmin
    argsort argwhere nonzero flatnonzero count_nonzero shape ndim size min_scalar_type common_type
    array_repr array_str array2string
"""
OF_TWO = """
    less less_equal equal not_equal greater greater_equal floor_divide logical_and logical_or logical_xor
    isclose allclose array_equal array_equiv isin shares_memory may_share_memory result_type
"""
CONSTANTS = {
    **{getattr(np, name): (V,) for name in OF_ONE.split()},
    **{getattr(np, name): (V, V) for name in OF_TWO.split()},
    np.lexsort: ((V, V),),
    np.argpartition: (V, 1),
    np.searchsorted: (np.sort(V), V),
    np.digitize: (V, np.sort(V)),
}


@pytest.mark.filterwarnings("ignore:numpy.fix is deprecated:DeprecationWarning")  # since NumPy 2.5
@pytest.mark.parametrize("f", CONSTANTS, ids=name_of)
def test_a_constant_function_returns_plain_values(f):
    args = CONSTANTS[f]
    assert kind(f) == "constant"
    expected = f(*args)
    active = tuple(arg for arg in args if not isinstance(arg, int))
    fixed = args[len(active) :]
    seen = []

    def fn(*duals):
        seen.append(f(*duals, *fixed))
        return np.sum(flatten(duals)[0][0])

    pdl.vjp(fn, *active)
    pdl.jvp(fn, active, like(active))
    assert len(seen) == 2
    for out in seen:
        assert not any(isinstance(leaf, Dual) for leaf in flatten(out)[0])
        for a, b in zip(flatten(out)[0], flatten(expected)[0], strict=True):
            assert type(a) is type(b)
            if f is not np.shares_memory and f is not np.may_share_memory:
                np.testing.assert_array_equal(a, b)


def test_comparison_operators_and_casts_look_at_the_value():
    def fn(x):
        assert x[0] > x[1]
        assert (x >= 1.5).tolist() == [True, False, True]
        assert int(x[2]) == 2
        assert bool(x[0])
        assert (x // 1).tolist() == [1.0, -1.0, 2.0]
        return x[0]

    np.testing.assert_array_equal(pdl.grad(fn)(V), [1, 0, 0])


REFUSED = sorted((f for f, rule in RULES.items() if rule.kind == "refused"), key=name_of)


@pytest.mark.parametrize("f", REFUSED, ids=name_of)
def test_a_refused_function_says_why_and_what_to_do(f):
    def fn(x):
        if isinstance(f, np.ufunc):
            return x.__array_ufunc__(f, "__call__", *[x] * f.nin)
        return x.__array_function__(f, (Dual,), (x,), {})  # as NumPy calls it

    with pytest.raises(NotDifferentiableError) as caught:
        pdl.grad(fn)(V)
    message = str(caught.value)
    assert name_of(f) in message
    assert RULES[f].reason in message
    assert "test_rules.py" in message  # the user's line
    cures = ("write", "wrap", "solve", "use", "build", "save", "pass", "take", "compute", "instead", "give")
    assert any(word in message.lower() for word in cures)


USES = {
    "sum-out": (lambda x: np.sum(x, out=np.zeros(())), "out="),
    "dot-out": (lambda x: np.dot(x, x, out=np.zeros(())), "out="),
    "clip-out": (lambda x: np.clip(x, 0.0, 1.0, out=np.zeros(3)), "out="),
    "cumprod-out": (lambda x: np.cumprod(x, 0, None, np.zeros(3)), "out="),
    "add-out": (lambda x: np.add(x, 1, out=np.zeros(3)), "out="),
    "ravel-order-K": (lambda x: np.ravel(np.stack([x, x, x, x])[::2, ::2], order="K"), "order"),
    "nan_to_num-in-place": (lambda x: np.nan_to_num(x, copy=False), "copy"),
    "pad-empty": (lambda x: np.pad(x, 1, mode="empty"), "concatenate"),
    "save": (lambda x: np.save("nowhere", x), "stop_gradient"),
    "no-rule": (lambda x: np.frompyfunc(lambda a: a, 1, 1)(x), "paradual.rules"),
    "where-condition": (lambda x: np.where(x, x, x), "condition"),
}


@pytest.mark.parametrize("name", USES)
def test_a_use_without_a_derivative_is_refused(name):
    fn, match = USES[name]
    with pytest.raises(NotDifferentiableError, match=match):
        pdl.grad(lambda x: np.sum(fn(x)))(V)


def test_out_none_is_not_the_result():
    np.testing.assert_array_equal(pdl.grad(lambda x: np.max(x, out=None))(V), [0, 0, 1])
    np.testing.assert_array_equal(pdl.grad(lambda x: np.sum(np.exp(x, out=None)))(V), np.exp(V))


@pytest.mark.parametrize(
    "f", [lambda x: np.linalg.norm(x) ** 2, lambda x: np.std(x) ** 2], ids=["norm", "std"]
)
def test_second_derivatives_at_a_kink_are_nan_and_not_a_number(f):
    # the slope of norm and std jumps where they are 0: it is 0 by convention, and its own slope is not known
    np.testing.assert_array_equal(pdl.grad(f)(np.zeros(2)), 0)
    assert np.isnan(pdl.hessian(f)(np.zeros(2))).all()
    assert np.isnan(pdl.hvp(f, (np.zeros(2),), (np.array([1.0, 2.0]),))[0]).any()


DECLARATIONS = {
    "keyword-only": lambda: rules.elementwise(np.exp, lambda *, x: x),
    "a-number": lambda: rules.elementwise(np.exp, 2.0),
    "none": lambda: rules.linear(np.negative, None),
    "two-results": lambda: rules.elementwise(np.modf, lambda: 1.0),
}


@pytest.mark.parametrize("name", DECLARATIONS)
def test_a_wrong_declaration_names_the_cure(name):
    before = dict(RULES)
    with pytest.raises(ParadualValueError, match=r"must name|write functions|rules\.general"):
        DECLARATIONS[name]()
    assert before == RULES
