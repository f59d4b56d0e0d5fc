"""Losses and inputs of a wrong kind are refused with a message that names the cause."""

import numpy as np
import pytest
from helpers import A, M, nothing_is_left_behind  # noqa: F401

import paradual as pdl
from paradual.errors import ParadualError, ParadualTypeError

# --- refusals -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("f", "words"),
    [
        (lambda x: None, "NoneType"),
        (lambda x: (x, x), "tuple"),
        (lambda x: [x], "list"),
        (lambda x: {"a": x}, "dict"),
        (lambda x: "text", "str"),
        (lambda x: object(), "object"),
        (lambda x: x * np.ones(2), r"shape \(2,\).*sum it"),
        (lambda x: np.reshape(x, (1,)), r"shape \(1,\)"),
        (lambda x: np.ones((0,)), r"shape \(0,\)"),
        (lambda x: x * 1j, "complex"),
        (lambda x: 1j, "complex"),
    ],
)
def test_a_loss_of_a_wrong_kind(f, words):
    for transform in (pdl.grad, pdl.value_and_grad):
        with pytest.raises(ParadualError, match=words) as error:
            transform(f)(2.0)
        assert isinstance(error.value, TypeError | ValueError)
    assert pdl.grad(lambda x: x * x)(2.0) == 4.0


@pytest.mark.parametrize("f", [lambda x: np.argmax(np.stack([x, x])), lambda x: x > 1, lambda x: int(x)])
def test_a_loss_of_integer_type(f):
    with pytest.raises(ParadualTypeError, match="float"):
        pdl.grad(f)(2.0)


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (1, r"int.*1\.0 instead of 1"),
        (True, "bool"),
        (np.int64(1), "int64"),
        (np.arange(3), r"int64.*astype\(float\)"),
        (np.ones(3, np.uint8), "uint8"),
        (np.ones(3, bool), "bool"),
        (np.array(["a"]), "argnums"),
        (np.array([1.0, None], dtype=object), "object"),
        (np.array(["2020-01-01"], "M8[D]"), "argnums"),
        ("text", "str"),
        (object(), "object"),
        ([1.0, 2], r"\[1\].*int"),
        ({"a": {"b": 3}}, r"\['a'\]\['b'\]"),
        (np.ma.array([1.0, 2.0], mask=[True, False]), "np.where"),
        ((A, np.ma.array([1.0])), "MaskedArray"),
    ],
)
def test_inputs_of_a_wrong_kind(x, words):
    for call in (
        lambda: pdl.grad(lambda y: 1.0)(x),
        lambda: pdl.vjp(lambda y: 1.0, x),
        lambda: pdl.jvp(lambda y: 1.0, (x,), (x,)),
        lambda: pdl.hvp(lambda y: 1.0, (x,), (x,)),
    ):
        with pytest.raises(ParadualTypeError, match=words):
            call()


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
def test_a_matrix_is_refused():
    with pytest.raises(ParadualTypeError, match=r"matrix.*plain"):
        pdl.grad(lambda y: 1.0)(np.asmatrix(M))


def test_the_message_names_the_argument():
    with pytest.raises(ParadualTypeError, match=r"argument \[?1"):
        pdl.grad(lambda x, y: x * y, argnums=1)(1.0, 3)
