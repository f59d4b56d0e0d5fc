"""What a dual refuses, with the cure in the message, and a dual outside its differentiation."""

import math
import operator
import threading

import numpy as np
import pytest
import scipy.sparse
from helpers import VECTOR, X

import paradual as pdl
from paradual.errors import LeakedDualError, NotDifferentiableError, ParadualTypeError

# --- refusals: each says the cure ---------------------------------------------------------------------------


RULE_FREE = np.frompyfunc(lambda x: x, 1, 1)


REFUSALS = {
    "float": (float, "stop_gradient"),
    "complex": (complex, "stop_gradient"),
    "math.sin": (math.sin, r"np\.sin\(x\)"),
    "math.fsum": (lambda x: math.fsum([x]), "stop_gradient"),
    "percent": (lambda x: "%f" % x, "stop_gradient"),  # noqa: UP031
    "asarray": (np.asarray, "np.stack"),
    "array": (lambda x: np.array([x, x]), "np.stack"),
    "array of objects": (lambda x: np.array([x, x], dtype=object), "np.stack"),
    "float64": (np.float64, "stop_gradient"),
    "full": (lambda x: np.full(3, x), "stop_gradient"),
    "vectorize": (lambda x: np.vectorize(lambda t: t)(x), "stop_gradient"),
    "plain index": (lambda x: [1, 2, 3][x], "int"),
    "range": (range, "int"),
    "unknown function": (RULE_FREE, r"paradual\.rules"),
    "unknown argument": (
        lambda x: np.matmul(x * X, X.T, axes=[(0, 1), (0, 1), (0, 1)]),
        "leave the argument out",
    ),
    "out=": (lambda x: np.exp(x * X, out=np.zeros_like(X)), r"a = a \+ x"),
    "sum out=": (lambda x: np.sum(x * X, axis=0, out=np.zeros(3)), "use its result"),
    "plain +=": (lambda x: operator.iadd(np.ones(3), x), r"a = a \+ x"),
    "ufunc.at": (lambda x: np.add.at(np.ones(3), [0], x), r"np\.add\.at.*zeros_like"),
    "putmask": (lambda x: np.putmask(np.ones(3), [True, False, True], x), "zeros_like"),
}


@pytest.mark.parametrize("name", REFUSALS)
@pytest.mark.parametrize("number", [1.5, np.float64(1.5), np.array(1.5)], ids=["float", "float64", "0-d"])
def test_refusals_name_the_cure_and_the_line(name, number):
    f, cure = REFUSALS[name]
    with pytest.raises(ParadualTypeError, match=cure) as error:
        pdl.grad(lambda x: f(x) and x)(number)
    assert "test_dual_errors.py" in str(error.value)
    with pytest.raises(ParadualTypeError, match=cure):
        pdl.jvp(
            lambda x: f(x) and x,
            (number,),
            (type(number)(1.0) if number.__class__ is not np.ndarray else number,),
        )


def chain(error):
    while error is not None:
        yield str(error)
        error = error.__cause__ or error.__context__


def test_writing_a_dual_into_a_plain_array():
    def f(x, where):
        where[0] = x
        return x

    for number in (1.5, np.float64(1.5), np.array(1.5)):
        target = np.zeros(3)
        with pytest.raises((TypeError, ValueError)) as error:
            pdl.grad(f)(number, target)
        assert any("stop_gradient" in text for text in chain(error.value))
        np.testing.assert_array_equal(target, 0)
    with pytest.raises((TypeError, ValueError)):
        pdl.grad(lambda x: operator.setitem(np.zeros(4), slice(None), x) or x.sum())(VECTOR)


def test_a_dual_is_no_key_and_no_index():
    with pytest.raises(TypeError, match="unhashable"):
        pdl.grad(lambda x: {x: 1}[x])(1.0)
    with pytest.raises((IndexError, ParadualTypeError)):
        pdl.grad(lambda x: np.stack([x, x])[x])(1.0)
    with pytest.raises((IndexError, ParadualTypeError)):
        pdl.grad(lambda x: VECTOR[x])(1.0)


def test_an_argument_that_is_not_differentiated():
    with pytest.raises(NotDifferentiableError, match="stop_gradient"):
        pdl.grad(lambda x: np.sum(np.tril(x, x[0, 0])))(X)


# --- a dual outside its differentiation ---------------------------------------------------------------------


USES = {
    "add": lambda x: x + 1,
    "radd": lambda x: 1 + x,
    "multiply an array": lambda x: VECTOR * x,
    "negate": lambda x: -x,
    "divide": lambda x: x / 2,
    "power": lambda x: x**2,
    "sin": np.sin,
    "stack": lambda x: np.stack([x, x]),
    "in a new grad": lambda x: pdl.grad(lambda y: np.sum(y * x))(1.0),
    "in a new jvp": lambda x: pdl.jvp(lambda y: x * y, (1.0,), (1.0,)),
    "as an input": lambda x: pdl.grad(lambda y: np.sum(y * y))(x),
    "returned": lambda x: pdl.grad(lambda y: np.sum(x) if np.ndim(x) else x)(1.0),
    "in par": lambda x: pdl.par(lambda: x * 2),
    "in checkpoint": lambda x: pdl.grad(lambda y: np.sum(pdl.checkpoint(lambda z: z * x)(y)))(1.0),
}
ARRAY_USES = {
    "index": lambda x: x[0],
    "iterate": list,
    "method": lambda x: x.sum(),
    "copy": lambda x: x.copy(),
    "+=": lambda x: operator.iadd(x, 1),
    "//=": lambda x: operator.ifloordiv(x, 2),
}


@pytest.mark.parametrize("name", [*USES, *ARRAY_USES])
@pytest.mark.parametrize("mode", ["reverse", "forward"])
def test_a_leaked_dual(name, mode):
    kept = []

    def f(x):
        kept.extend([x, x * 2.0])
        return np.sum(x)

    for start in (1.5, VECTOR) if name in USES else (VECTOR,):
        kept.clear()
        if mode == "reverse":
            pdl.grad(f)(start)
        else:
            pdl.jvp(f, (start,), (start,))
        for x in kept:
            with pytest.raises(LeakedDualError, match="stop_gradient"):
                {**USES, **ARRAY_USES}[name](x)
        assert np.shape(pdl.stop_gradient(kept[0])) == np.shape(start)  # its value can still be had


def test_a_generator_consumed_too_late():
    def f(x):
        return x.sum(), (y * 2.0 for y in [x])

    _, late = pdl.grad(f, has_aux=True)(VECTOR)
    with pytest.raises(LeakedDualError, match="generator"):
        next(late)


def test_an_inner_dual_in_the_outer_differentiation():
    def outer(x):
        kept = []
        inner = pdl.grad(lambda y: kept.append(y * x) or y * y * x)(x)
        return inner * kept[0]

    with pytest.raises(LeakedDualError, match="outside the differentiation"):
        pdl.grad(outer)(2.0)


def test_an_inner_dual_assigned_to_the_outer_array():
    def outer(x):
        def inner(y):
            nonlocal x
            x += y
            return (x * y).sum()

        pdl.grad(inner)(VECTOR)
        return x.sum()

    with pytest.raises(LeakedDualError):
        pdl.grad(outer)(VECTOR.copy())


def test_a_plain_thread_does_not_take_part():
    errors = []

    def f(x):
        def body(use):
            try:
                use(x)
            except LeakedDualError as error:
                errors.append(error)

        for use in (USES["add"], USES["sin"], USES["in a new grad"]):
            thread = threading.Thread(target=body, args=(use,))
            thread.start()
            thread.join()
        return x * x

    assert pdl.grad(f)(3.0) == 6.0
    assert len(errors) == 3
    assert all("paradual.par" in str(error) for error in errors)


FOREIGN = {
    "matrix": np.eye(2).view(np.matrix),
    "masked": np.ma.masked_array(np.ones(2), [True, False]),
    "sparse": scipy.sparse.csr_matrix(np.eye(2)),
}


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize(
    "use",
    [
        lambda x, a: x * a,
        lambda x, a: x[0] * a,
        lambda x, a: a * x,
        lambda x, a: np.multiply(x, a),
        lambda x, a: np.where(x > 0, x, a),
        lambda x, a: np.concatenate([x, a]),
    ],
)
def test_matrices_with_an_arithmetic_of_their_own(name, use):
    with pytest.raises(TypeError, match=r"asarray|plain array|stop_gradient"):
        pdl.grad(lambda x: np.sum(use(x, FOREIGN[name])))(np.ones(2))
