"""The checker is itself checked: it accepts right derivatives and fails for wrong ones of every sort."""

import dataclasses

import numpy as np
import pytest

import paradual as pdl
from paradual.errors import ParadualValueError
from paradual.rules.registry import RULES, Rule
from paradual.testing import check_grads

RNG = np.random.default_rng(5)
X = RNG.standard_normal(3)
A = RNG.standard_normal((3, 3))


@pytest.fixture
def replace_rule(monkeypatch):
    """Change parts of the rule of a function until the end of the test."""

    def replace(function, **parts):
        monkeypatch.setitem(RULES, function, dataclasses.replace(RULES[function], **parts))

    return replace


def fails(match, fn, *args, **options):
    with pytest.raises(AssertionError, match=match):
        check_grads(fn, args, **options)


# --- right derivatives pass -----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble])
def test_right_derivatives_pass_in_every_real_precision(dtype):
    check_grads(lambda x: np.sin(x) * x, (X.astype(dtype),))


@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
def test_right_derivatives_pass_in_every_complex_precision(dtype):
    z = (X + 1j * A[0]).astype(dtype)
    check_grads(lambda z: np.exp(z) * np.conjugate(z), (z,))
    check_grads(lambda z: np.sum(np.abs(z) ** 2), (z,))


def test_arguments_and_results_may_be_pytrees_and_hold_constants():
    def fn(parameters, k, scale):
        rows = parameters["a"][k] * scale
        return {"rows": rows, "both": (np.sum(rows) * parameters["b"], "a label", 3)}

    check_grads(fn, ({"a": A, "b": 2.0}, 1, np.float64(0.5)))


def test_a_function_that_writes_into_its_argument_is_checked():
    def fn(x):
        x *= x
        return np.sin(x)

    before = X.copy()
    check_grads(fn, (X,))
    np.testing.assert_array_equal(X, before)


def test_third_order_and_single_modes_pass():
    check_grads(lambda x: x**4, (X,), order=3)
    check_grads(np.sin, (X,), modes=("fwd",))
    check_grads(np.sin, (X,), modes=("rev",))


def test_empty_arrays_pass():
    check_grads(lambda x: (np.sin(x), np.sum(x)), (np.zeros((0, 3)),))


@pytest.mark.parametrize("options", [{"modes": ("reverse",)}, {"modes": ()}, {"order": 0}])
def test_unusable_options_are_refused(options):
    with pytest.raises(ParadualValueError, match="choose modes"):
        check_grads(np.sin, (X,), **options)


@pytest.mark.parametrize(("fn", "arg"), [(np.sin, 3), (lambda x: 1, 2.0), (np.argmax, X)])
def test_nothing_to_check_is_refused(fn, arg):
    with pytest.raises(ParadualValueError, match="to check"):
        check_grads(fn, (arg,))


def test_seed_chooses_the_directions():
    def wrong(x):
        return x * pdl.stop_gradient(x)

    messages = []
    for seed in (0, 0, 1, np.random.default_rng(0)):
        with pytest.raises(AssertionError) as caught:
            check_grads(wrong, (X,), seed=seed)
        messages.append(str(caught.value))
    assert messages[0] == messages[1] == messages[3] != messages[2]


# --- wrong derivatives fail: rules in the registry --------------------------------------------------------


@pytest.mark.parametrize("mode", ["fwd", "rev"])
def test_a_factor_of_1_001_fails(replace_rule, mode):
    replace_rule(np.sin, pulls=(lambda x: 1.001 * np.cos(x),))
    fails("differs from finite differences", np.sin, X, modes=(mode,), order=1)


def test_a_factor_of_1_05_fails_in_single_precision(replace_rule):
    replace_rule(np.sin, pulls=(lambda x: 1.05 * np.cos(x),))
    fails("forward mode, result 0", np.sin, X.astype(np.float32), order=1)


def test_a_wrong_axis_fails(replace_rule):
    def onto_columns(g, a_shape, axis=None, keepdims=False):
        return np.broadcast_to(g, a_shape)

    replace_rule(np.sum, pulls=(onto_columns,))
    fails(r"reverse mode, <J\^T w, v>", lambda a: np.sum(a, axis=1), A, order=1)


def test_a_transposed_result_fails(replace_rule):
    replace_rule(np.linalg.inv, pulls=(lambda g, out: -out @ g @ out,))
    fails("reverse mode", np.linalg.inv, A + 4 * np.eye(3), order=1)


def test_right_in_forward_and_wrong_in_reverse_fails(replace_rule):
    replace_rule(np.negative, pulls=(lambda g: g,))
    fails("^reverse mode", np.negative, X, order=1)
    check_grads(np.negative, (X,), order=1, modes=("fwd",))


def test_right_in_reverse_and_wrong_in_forward_fails(replace_rule):
    replace_rule(np.linalg.det, push=lambda t, a, out: out * np.trace(np.linalg.solve(a, t)) * 1.001)
    fails("^forward mode", np.linalg.det, A, order=1)
    check_grads(np.linalg.det, (A,), order=1, modes=("rev",))


def test_modes_that_disagree_fail_though_both_are_within_the_tolerance(replace_rule):
    replace_rule(np.linalg.det, push=lambda t, a, out: out * np.trace(np.linalg.solve(a, t)) * (1 + 1e-8))
    fails("^reverse against forward mode.*<w, J v>", np.linalg.det, A, order=1)


def test_a_wrong_value_fails(replace_rule):
    replace_rule(np.clip, push=lambda a, low, high: np.minimum(a, high))
    fails("value of result 0.*the function's own", lambda x: np.clip(x, 0.0, 1.0), np.array([-1.0, 0.5]))


def test_a_missing_conjugate_fails(replace_rule):
    replace_rule(np.absolute, pulls=(lambda x: x / np.abs(x),))
    fails("forward mode", np.abs, X + 1j * A[0], order=1)


# --- wrong derivatives fail: custom rules -------------------------------------------------------------------


def custom(fn, pull):
    """A function with a reverse pass ``pull(g, *args)``."""
    step = pdl.custom_vjp(fn)
    step.defvjp(lambda *args: (fn(*args), args), lambda args, g: pull(g, *args))
    return step


def test_a_missing_sum_over_broadcast_axes_fails():
    # without it the cotangent of b has the shape of the result; the mean has the right shape
    step = custom(lambda a, b: a + b, lambda g, a, b: (g, np.mean(g, axis=0)))
    fails(r"reverse mode, <J\^T w, v>", step, A, X, order=1, modes=("rev",))
    right = custom(lambda a, b: a + b, lambda g, a, b: (g, np.sum(g, axis=0)))
    check_grads(right, (A, X))


def test_a_dropped_second_order_term_fails():
    step = custom(lambda x: x**3, lambda g, x: (g * 3 * pdl.stop_gradient(x) ** 2,))
    check_grads(step, (X,), order=1)
    fails("over reverse mode", step, X, modes=("rev",))
    fails("over forward mode", step, X, modes=("fwd",))


def test_a_dropped_second_order_term_of_a_custom_jvp_fails():
    @pdl.custom_jvp
    def step(x):
        return x**3

    step.defjvp(
        lambda primals, tangents: (primals[0] ** 3, 3 * pdl.stop_gradient(primals[0]) ** 2 * tangents[0])
    )
    check_grads(step, (X,), order=1)
    fails("over forward mode", step, X, modes=("fwd",))


def test_a_wrong_custom_jvp_fails():
    @pdl.custom_jvp
    def step(x, y):
        return x * y

    step.defjvp(lambda primals, tangents: (primals[0] * primals[1], tangents[0] * primals[1]))
    fails("forward mode, result 0", step, X, A)


def test_nan_fails():
    step = custom(lambda x: x * 2, lambda g, x: (g * np.where(x == x[0], np.nan, 2.0),))
    fails("nan", step, X, order=1, modes=("rev",))
    fails("nan", step, X, order=1, modes=("fwd",))


def test_a_value_that_is_not_finite_fails():
    fails("nan", lambda x: x * np.nan, X, order=1)


def test_a_direction_that_is_ignored_fails():
    fails("forward mode", lambda x: x[0] * pdl.stop_gradient(x[1]), X, order=1)


# --- values that are very small or very large ---------------------------------------------------------------

SCALED = {
    "square": lambda x: x * x,
    "root": np.sqrt,
    "logarithm": np.log,
    "inverse": lambda x: 1 / x,
    "norm": np.linalg.norm,
    "shares": lambda x: x / np.sum(x),
}


@pytest.mark.parametrize("size", [1e-8, 1e-4, 1e4, 1e8])
@pytest.mark.parametrize("name", SCALED)
def test_right_derivatives_of_any_size_pass(name, size):
    check_grads(SCALED[name], (size * X[:2] ** 2,))
    if size < 1e8:  # float32 has no numbers in between
        check_grads(SCALED[name], ((size * X[:2] ** 2).astype(np.float32),), order=1)


@pytest.mark.parametrize("fn", [lambda x: x * x + 1e6, lambda x: np.var(1e4 + x), lambda x: np.exp(1e3 * x)])
def test_right_derivatives_pass_where_the_usual_step_does_not_suit(fn):
    check_grads(fn, (X / 10,), order=1)


@pytest.mark.parametrize("size", [1e-8, 1e-4, 1e4, 1e8])
def test_wrong_derivatives_of_any_size_fail(size):
    x = size * X[:2] ** 2
    for modes in (("rev", "fwd"), ("rev",), ("fwd",)):
        fails("differs", lambda x: np.log(x / size) * x * pdl.stop_gradient(x / size), x, modes=modes)
        fails("differs", lambda x: x * pdl.stop_gradient(np.sqrt(x / size)), x, modes=modes)


def test_a_step_that_is_given_is_kept():
    fails("nan", np.log, np.array([1e-8, 2e-8]), eps=1e-6)


# --- wrong shapes and dtypes fail ---------------------------------------------------------------------------
# The sweep gives every cotangent the form of its primal, so that no rule can get this wrong: the
# transforms themselves are replaced here.


def test_a_cotangent_of_another_dtype_fails(monkeypatch):
    def vjp(fn, *primals):
        out, pullback = pdl.vjp(fn, *primals)
        return out, lambda g: tuple(part.astype(np.float64) for part in pullback(g))

    monkeypatch.setattr("paradual.testing.vjp", vjp)
    fails("cotangent of argument 0 has .*float64.*, not .*float32", np.sin, X.astype(np.float32))


def test_a_cotangent_of_another_shape_fails(monkeypatch):
    def vjp(fn, *primals):
        out, pullback = pdl.vjp(fn, *primals)
        return out, lambda g: tuple(part[None] for part in pullback(g))

    monkeypatch.setattr("paradual.testing.vjp", vjp)
    fails(r"cotangent of argument 0 has shape and dtype \(\(1, 3\)", np.sin, X)


def test_a_missing_cotangent_fails(monkeypatch):
    def vjp(fn, *primals):
        out, pullback = pdl.vjp(fn, *primals)
        return out, lambda g: pullback(g)[:1]

    monkeypatch.setattr("paradual.testing.vjp", vjp)
    fails("there are 1, not 2", np.multiply, X, X)


def test_a_tangent_of_another_dtype_fails(monkeypatch):
    def jvp(fn, primals, tangents):
        out, t = pdl.jvp(fn, primals, tangents)
        return out, tuple(part.astype(np.float64) for part in t)

    monkeypatch.setattr("paradual.testing.jvp", jvp)
    fails("tangent of result 0 has .*float64.*, not .*float32", np.sin, X.astype(np.float32))


def test_the_message_names_values_and_tolerance():
    fails(
        r"forward mode, result 0 at \(\d,\): \S+ differs from finite differences, \S+, by \S+; "
        r"the tolerance is \d",
        lambda x: x * pdl.stop_gradient(x),
        X,
    )


def test_a_rule_replaced_in_a_test_is_restored(replace_rule, monkeypatch):
    before = RULES[np.sin]
    replace_rule(np.sin, pulls=(lambda x: x,))
    assert isinstance(RULES[np.sin], Rule)
    monkeypatch.undo()
    assert RULES[np.sin] is before
