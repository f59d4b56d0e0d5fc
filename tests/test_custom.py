"""Derivatives of the user's own: custom_vjp and custom_jvp."""

import numpy as np
import pytest

import paradual as pdl
from paradual.errors import NotDifferentiableError, ParadualTypeError, ParadualValueError
from paradual.tape import ACTIVE, OUTSIDE

A = np.array([0.5, 1.25, -2.0])
M = np.array([[0.4, -1.2, 0.9], [1.5, 0.3, -0.7], [0.2, 0.8, 1.1]])


@pytest.fixture(autouse=True)
def nothing_is_left_behind():
    yield
    assert ACTIVE.get() == (OUTSIDE,)


def segment(x):
    y = np.tanh(M @ x) * x
    return y + np.sin(y) * y[0]


# --- custom_vjp ---------------------------------------------------------------------------------------------


@pytest.fixture
def cube():
    @pdl.custom_vjp
    def cube(x):
        """The third power."""
        return x * x * x

    def fwd(x):
        return cube(x), x

    def bwd(x, g):
        return (3 * x * x * g,)

    cube.defvjp(fwd, bwd)
    return cube


def test_custom_vjp(cube):
    assert cube(2.0) == 8.0
    assert cube.__name__ == "cube"
    assert cube.__doc__ == "The third power."
    for x in (2.0, np.float64(2.0), np.array(2.0)):
        value, slope = pdl.value_and_grad(cube)(x)
        assert (value, slope) == (8.0, 12.0)
        assert pdl.jvp(cube, (x,), (x * 0 + 1.0,)) == (8.0, 12.0)
        assert pdl.grad(pdl.grad(cube))(x) == 12.0
        assert pdl.grad(pdl.grad(pdl.grad(cube)))(x) == 6.0
        assert pdl.hvp(cube, x, x * 0 + 1.0) == 12.0
        assert pdl.jvp(lambda y: pdl.jvp(cube, (y,), (1.0,))[1], (x,), (x * 0 + 1.0,))[1] == 12.0
        assert pdl.grad(lambda y: pdl.jvp(cube, (y,), (y * 0 + 1.0,))[1])(x) == 12.0
    np.testing.assert_allclose(pdl.grad(lambda x: (cube(x) * A).sum())(A), 3 * A**3)
    np.testing.assert_allclose(pdl.jacobian(cube, mode="forward")(A), np.diag(3 * A * A))
    np.testing.assert_allclose(pdl.hessian(lambda x: cube(x).sum())(A), np.diag(6 * A))
    with pdl.executor("inline"):
        slope = pdl.grad(lambda x: sum(pdl.map(lambda k: cube(x * k).sum(), [1.0, 2.0])))(A)
    np.testing.assert_allclose(slope, 27 * A * A)


def test_the_given_derivative_is_used():
    f = pdl.custom_vjp(lambda x: x * 2.0)
    f.defvjp(lambda x: (x * 2.0, None), lambda res, g: (g * 100.0,))
    assert pdl.grad(f)(1.0) == 100.0
    assert pdl.jvp(f, (1.0,), (1.0,)) == (2.0, 100.0)
    assert pdl.grad(lambda x: pdl.checkpoint(f)(x))(1.0) == 100.0
    assert pdl.grad(lambda x: pdl.par(lambda: f(x))[0])(1.0) == 100.0


def test_custom_vjp_of_pytrees():
    @pdl.custom_vjp
    def f(state, y):
        return {"p": state["a"] * y, "q": [state["b"], 7]}

    seen = []

    def bwd(residuals, g):
        state, y = residuals
        seen.append(g)
        return {"a": g["p"] * y, "b": g["q"][0]}, (g["p"] * state["a"]).sum()

    f.defvjp(lambda state, y: (f(state, y), (state, y)), bwd)

    def loss(state, y):
        out = f(state, y)
        assert out["q"][1] == 7
        return out["p"].sum() + 5.0 * out["q"][0].sum()

    slope, by_y = pdl.grad(loss, (0, 1))({"a": A, "b": M}, 2.0)
    np.testing.assert_array_equal(slope["a"], 2.0)
    np.testing.assert_array_equal(slope["b"], 5.0)
    assert by_y == A.sum()
    _, t = pdl.jvp(loss, ({"a": A, "b": M}, 2.0), ({"a": A, "b": M}, 1.0))
    assert t == pytest.approx(2 * A.sum() + 5 * M.sum() + A.sum())
    pdl.grad(lambda a: f({"a": a, "b": M}, 2.0)["p"].sum())(A)  # one result and two arguments left out
    np.testing.assert_array_equal(seen[-1]["q"][0], np.zeros((3, 3)))


def test_none_is_zero():
    f = pdl.custom_vjp(lambda x, y: x * y)
    f.defvjp(lambda x, y: (x * y, y), lambda y, g: (g * y, None))
    assert pdl.grad(f, (0, 1))(2.0, 3.0) == (3.0, 0.0)
    assert pdl.jvp(f, (2.0, 3.0), (1.0, 1.0)) == (6.0, 3.0)
    assert pdl.jvp(f, (2.0, 3.0), (0.0, 1.0)) == (6.0, 0.0)
    both = pdl.custom_vjp(lambda t: t[0] * t[1])
    both.defvjp(lambda t: (t[0] * t[1], t), lambda t, g: (None,))
    assert pdl.grad(both)((2.0, 3.0)) == (0.0, 0.0)


def test_nondiff_argnums():
    calls = []

    def apply(function, x, n):
        return function(x) * n

    f = pdl.custom_vjp(apply, nondiff_argnums=(0, 2))
    f.defvjp(
        lambda function, x, n: (function(x) * n, x), lambda function, n, x, g: (calls.append(n) or g * n * 7,)
    )
    assert pdl.grad(lambda x: f(np.sin, x, 3))(1.0) == 21.0
    assert calls == [3]
    assert f(np.sin, 0.5, 2) == np.sin(0.5) * 2
    assert pdl.grad(lambda x: f(np.sin, n=3, x=x))(1.0) == 21.0
    assert pdl.jvp(lambda x: f(np.sin, x, 2), (1.0,), (1.0,))[1] == 14.0
    with pytest.raises(ParadualTypeError):
        pdl.grad(lambda x: f(np.sin, 1.0, x) * f(np.sin, x, x))(1.0)


def test_keyword_arguments(cube):
    assert pdl.grad(lambda x: cube(x=x))(2.0) == 12.0
    f = pdl.custom_vjp(lambda x, *, k: x * k)
    f.defvjp(lambda x, k: (x, k), lambda k, g: (g,))
    with pytest.raises(ParadualTypeError, match="keyword-only"):
        pdl.grad(lambda x: f(x, k=2.0))(1.0)


@pytest.mark.parametrize(
    ("cotangents", "words"),
    [
        ((), "2 cotangents"),
        ((1.0,), "2 cotangents"),
        ((1.0, 1.0, 1.0), "2 cotangents"),
        (1.0, "2 cotangents.*float"),
        (None, "2 cotangents.*NoneType"),
        (((1.0, 1.0), 1.0), "structure"),
        ((1.0, {"a": 1.0}), "structure"),
    ],
)
def test_cotangents_that_do_not_match(cotangents, words):
    f = pdl.custom_vjp(lambda x, y: x * y)
    f.defvjp(lambda x, y: (x * y, None), lambda res, g: cotangents)
    with pytest.raises(ParadualValueError, match=words):
        pdl.grad(f)(1.0, 2.0)
    with pytest.raises(ParadualValueError, match=words):
        pdl.jvp(f, (1.0, 2.0), (1.0, 1.0))


def test_a_cotangent_of_a_wrong_shape():
    f = pdl.custom_vjp(lambda x: x.sum())
    f.defvjp(lambda x: (x.sum(), None), lambda res, g: (np.ones(2),))
    with pytest.raises((ValueError, RuntimeError), match="shape"):
        pdl.grad(f)(A)


@pytest.mark.parametrize("shape", [(1, 3), (4, 3), (1,), (2,), ()], ids=str)
def test_a_cotangent_that_only_broadcasts_is_refused_in_both_modes(shape):
    f = pdl.custom_vjp(lambda x: 2 * x)
    f.defvjp(lambda x: (2 * x, None), lambda residuals, g: (np.ones(shape) * np.sum(g),))
    for attempt in (lambda: pdl.vjp(f, A)[1](A), lambda: pdl.jvp(f, (A,), (A,))):
        with pytest.raises(
            ParadualValueError, match=r"cotangent of shape .* argument of shape \(3,\): sum it"
        ):
            attempt()


@pytest.mark.parametrize("fixed", [0, -2, (0,), [-2]], ids=str)
def test_nondiff_argnums_are_counted_as_arguments_are(fixed):
    f = pdl.custom_vjp(lambda fn, x: fn(x), nondiff_argnums=fixed)
    f.defvjp(lambda fn, x: (fn(x), x), lambda fn, x, g: (g * np.cos(x),))
    assert pdl.grad(lambda x: f(np.sin, x))(0.5) == np.cos(0.5)
    assert pdl.jvp(lambda x: f(np.sin, x), (0.5,), (1.0,))[1] == np.cos(0.5)


def test_nondiff_argnums_that_do_not_exist():
    f = pdl.custom_vjp(lambda x: x, nondiff_argnums=(1,))
    f.defvjp(lambda x: (x, None), lambda fixed, residuals, g: (g,))
    with pytest.raises(ParadualValueError, match="1 arguments: nondiff_argnums"):
        pdl.grad(f)(1.0)


def test_fwd_and_rules_return_pairs():
    f = pdl.custom_vjp(lambda x: 2 * x)
    f.defvjp(lambda x: 2 * x, lambda residuals, g: (2 * g,))
    with pytest.raises(ParadualTypeError, match=r"fwd of <lambda> must return \(the result, residuals\)"):
        pdl.vjp(f, A[:2])  # two numbers, which would unpack
    h = pdl.custom_jvp(lambda x: 2 * x)
    h.defjvp(lambda primals, tangents: 2 * tangents[0])
    for attempt in (lambda: pdl.vjp(h, A)[1](A), lambda: pdl.jvp(h, (A,), (A,))):
        with pytest.raises(ParadualTypeError, match="must return"):
            attempt()


@pytest.mark.parametrize("tangent", [None, np.ones(2), np.float64(1.0), np.ones((2, 3))], ids=str)
def test_tangents_that_do_not_match(tangent):
    f = pdl.custom_jvp(lambda x: 2 * x)
    f.defjvp(lambda primals, tangents: (2 * primals[0], tangent))
    for attempt in (lambda: pdl.vjp(f, A)[1](A), lambda: pdl.jvp(f, (A,), (A,))):
        with pytest.raises(ParadualValueError, match="returned a tangent"):
            attempt()


def test_a_tangent_of_zero_may_be_a_number():
    f = pdl.custom_jvp(lambda x: 2 * x)
    f.defjvp(lambda primals, tangents: (2 * primals[0], 0.0))
    np.testing.assert_array_equal(pdl.vjp(f, A)[1](A)[0], np.zeros(3))
    np.testing.assert_array_equal(pdl.jvp(f, (A,), (A,))[1], np.zeros(3))


def test_undefined():
    for f in (pdl.custom_vjp(segment), pdl.custom_jvp(segment)):
        with pytest.raises(ParadualTypeError, match="segment has no derivative yet"):
            pdl.grad(lambda x, f=f: f(x).sum())(A)


def test_closing_over_a_value_that_is_differentiated():
    def by_vjp(x):
        f = pdl.custom_vjp(lambda y: y * x)
        f.defvjp(lambda y: (y * x, None), lambda res, g: (g,))
        return f(x)

    def by_residual(x):
        f = pdl.custom_vjp(lambda y: y * 2.0)
        f.defvjp(lambda y: (y * 2.0, x), lambda res, g: (g * res,))
        return f(x)

    def by_jvp(x):
        f = pdl.custom_jvp(lambda y: y * x)
        f.defjvp(lambda primals, tangents: (primals[0] * x, tangents[0]))
        return f(x)

    for f in (by_vjp, by_residual, by_jvp):
        with pytest.raises(ParadualTypeError, match="pass it as an argument"):
            pdl.grad(f)(2.0)
        with pytest.raises(ParadualTypeError, match="pass it as an argument"):
            pdl.jvp(f, (2.0,), (1.0,))


def test_closing_over_an_outer_value():
    def outer(x):
        f = pdl.custom_vjp(lambda y: y * y * x)
        f.defvjp(lambda y: (y * y * x, y), lambda y, g: (2 * y * x * g,))
        return pdl.grad(f)(3.0)  # 6 x

    assert pdl.grad(outer)(2.0) == 6.0
    assert pdl.jvp(outer, (2.0,), (1.0,)) == (12.0, 6.0)


def test_a_reverse_pass_that_writes_into_its_cotangent():
    def bwd(mask, g):
        g[mask] = 0.0
        return (g,)

    f = pdl.custom_vjp(lambda x: np.where(x > 0, x, 0.0))
    f.defvjp(lambda x: (np.where(x > 0, x, 0.0), x <= 0), bwd)
    np.testing.assert_array_equal(pdl.grad(lambda x: (x + f(x)).sum())(A), [2, 2, 1])
    np.testing.assert_array_equal(pdl.grad(lambda x: (f(x) + x).sum())(A), [2, 2, 1])
    _, pullback = pdl.vjp(f, A)
    g = np.ones(3)
    np.testing.assert_array_equal(pullback(g)[0], [1, 1, 0])
    np.testing.assert_array_equal(g, 1.0)


def test_integer_results_stay_plain():
    f = pdl.custom_vjp(lambda x: (x * 2.0, np.argmax(x)))
    f.defvjp(lambda x: ((x * 2.0, np.argmax(x)), None), lambda res, g: (g[0] * 2.0,))

    def loss(x):
        doubled, where = f(x)
        assert isinstance(where, np.integer)
        return doubled[where]

    np.testing.assert_array_equal(pdl.grad(loss)(A), [0, 2, 0])
    assert pdl.jvp(loss, (A,), (A,))[1] == 2.5


# --- custom_jvp ---------------------------------------------------------------------------------------------


@pytest.fixture
def power():
    @pdl.custom_jvp
    def power(x, y):
        """x to the y."""
        return x**y

    @power.defjvp
    def rule(primals, tangents):
        (x, y), (s, t) = primals, tangents
        out = power(x, y)
        return out, y * x ** (y - 1) * s + out * np.log(x) * t

    assert callable(rule)
    return power


def test_custom_jvp(power):
    assert power(2.0, 3.0) == 8.0
    assert power.__doc__ == "x to the y."
    assert pdl.grad(power, (0, 1))(2.0, 3.0) == (12.0, pytest.approx(8 * np.log(2)))
    assert pdl.jvp(power, (2.0, 3.0), (1.0, 0.0)) == (8.0, 12.0)
    assert pdl.jvp(lambda x: power(x, 3.0), (2.0,), (1.0,)) == (8.0, 12.0)
    assert pdl.grad(lambda y: power(2.0, y))(3.0) == pytest.approx(8 * np.log(2))
    first = lambda x: power(x, 3.0)  # noqa: E731
    assert pdl.grad(pdl.grad(first))(2.0) == pytest.approx(12.0)
    assert pdl.grad(pdl.grad(pdl.grad(first)))(2.0) == pytest.approx(6.0)
    assert pdl.jvp(pdl.grad(first), (2.0,), (1.0,))[1] == pytest.approx(12.0)
    assert pdl.grad(lambda x: pdl.jvp(first, (x,), (1.0,))[1])(2.0) == pytest.approx(12.0)
    x = np.abs(A)
    np.testing.assert_allclose(pdl.grad(lambda x: (power(x, 2.0) * A).sum())(x), 2 * x * A)
    np.testing.assert_allclose(pdl.hessian(lambda x: power(x, 3.0).sum())(x), np.diag(6 * x))
    np.testing.assert_allclose(pdl.jacobian(first, mode="forward")(x), np.diag(3 * x * x))


def test_the_given_forward_derivative_is_used():
    f = pdl.custom_jvp(lambda x: x * 2.0)
    f.defjvp(lambda primals, tangents: (primals[0] * 2.0, tangents[0] * 100.0))
    assert pdl.jvp(f, (1.0,), (1.0,)) == (2.0, 100.0)
    assert pdl.grad(f)(1.0) == 100.0
    assert pdl.grad(lambda x: pdl.checkpoint(f)(x))(1.0) == 100.0
    assert pdl.grad(lambda x: pdl.par(lambda: f(x))[0])(1.0) == 100.0


def test_custom_jvp_of_pytrees():
    @pdl.custom_jvp
    def f(state, n):
        return {"p": state["a"] * n, "q": (state["b"].sum(), n)}

    @f.defjvp
    def rule(primals, tangents):
        (state, n), (t, _) = primals, tangents
        return f(state, n), {"p": t["a"] * n, "q": (t["b"].sum(), 0)}

    def loss(state):
        out = f(state, 4)
        assert out["q"][1] == 4
        return (out["p"] * A).sum() * out["q"][0]

    state = {"a": A, "b": M}
    slope = pdl.grad(loss)(state)
    np.testing.assert_allclose(slope["a"], 4 * A * M.sum())
    np.testing.assert_allclose(slope["b"], 4 * (A @ A) * np.ones((3, 3)))
    _, t = pdl.jvp(loss, (state,), (state,))
    assert t == pytest.approx((slope["a"] * A).sum() + (slope["b"] * M).sum())


def test_pullbacks_with_custom_rules_can_be_called_again(cube, power):
    _, pullback = pdl.vjp(lambda x: cube(x) * power(np.abs(x), 2.0), A)
    first = pullback(np.ones(3))[0].copy()
    np.testing.assert_allclose(first, 5 * A**4, rtol=1e-12)
    np.testing.assert_array_equal(pullback(np.ones(3))[0], first)


# --- memory shared with the arguments -----------------------------------------------------------------------


def custom(fn):
    f = pdl.custom_vjp(fn)
    f.defvjp(lambda x: (fn(x), None), lambda res, g: (np.concatenate([np.zeros(3 - g.size), g]),))
    return f


@pytest.mark.parametrize("wrap", [pdl.checkpoint, custom], ids=["checkpoint", "custom_vjp"])
def test_a_view_through_a_step(wrap):
    def f(x):
        x = x * 1.0
        view = wrap(lambda y: y[1:])(x)
        x += 1.0
        return (x[1:] * view).sum()

    with pytest.raises(NotDifferentiableError, match="views"):
        pdl.grad(f)(A)


def test_the_identity_as_a_checkpoint():
    def f(x):
        x = x * 1.0
        alias = pdl.checkpoint(lambda y: y)(x)
        x += 1.0
        return (x * alias).sum()

    value, slope = pdl.value_and_grad(f)(A)
    assert value == f(A)
    np.testing.assert_allclose(slope, 2 * (A + 1))


def test_constants_of_custom_rules_that_are_written_later():
    by_vjp = pdl.custom_vjp(lambda x, c: x * c)
    by_vjp.defvjp(lambda x, c: (x * c, c), lambda c, g: (g * c, None))
    by_jvp = pdl.custom_jvp(lambda x, c: x * c)
    by_jvp.defjvp(lambda primals, tangents: (primals[0] * primals[1], tangents[0] * primals[1]))
    for f in (by_vjp, by_jvp):
        c = np.ones(3)

        def loss(x, f=f, c=c):
            y = f(x, c)
            c[:] = 5.0
            return y.sum()

        np.testing.assert_array_equal(pdl.grad(loss)(A), 1.0)


def test_a_rule_cannot_write_into_the_tape():
    def double(x):
        x *= 2.0
        return x

    f = pdl.custom_vjp(double)
    f.defvjp(lambda x: (double(x), None), lambda res, g: (2.0 * g,))
    x = A.copy()
    with pytest.raises(ValueError, match="read-only"):
        pdl.grad(lambda y: f(y).sum())(x)
    np.testing.assert_array_equal(x, A)


def test_the_result_of_an_identity_belongs_to_the_caller():
    f = pdl.custom_vjp(lambda x: x)
    f.defvjp(lambda x: (x, x), lambda x, g: (g * x,))
    x = A.copy()
    out, pullback = pdl.vjp(f, x)
    out -= 1.0
    np.testing.assert_array_equal(x, A)
    np.testing.assert_array_equal(pullback(np.ones(3))[0], A)
