"""Derivatives of Dask collections: what is refused, and how exceptions arrive."""

from __future__ import annotations

from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
from dask import delayed
from graph_helpers import EACH_STEP, Box, N, V, difference
from graph_helpers import _synchronous as _synchronous

import paradual as pdl
from paradual.errors import InternalError, ParadualTypeError, ParadualValueError

# --- misuse -------------------------------------------------------------------------------------------------

A = da.from_array(V, chunks=3)
D = delayed(V)


@pytest.mark.parametrize(
    ("error", "says", "wrong"),
    [
        (ParadualValueError, "sum it, or give its cotangent", lambda: pdl.gradients(A**2, A)),
        (ParadualValueError, "sum it, or give its cotangent", lambda: pdl.gradients(D**2, D).compute()),
        (ParadualTypeError, "real part", lambda: pdl.gradients((A * 1j).sum(), A)),
        (ParadualTypeError, "real part", lambda: pdl.gradients((D * 1j).sum(), D).compute()),
        (ParadualTypeError, "astype", lambda: pdl.gradients(A.sum(), A.astype(int))),
        (ParadualTypeError, r"1\.0 instead of 1", lambda: pdl.gradients(A.sum(), delayed(3)).compute()),
        (ParadualTypeError, "is a str", lambda: pdl.gradients(A.sum(), delayed((1.0, "s"))).compute()),
        (ParadualValueError, r"shape \(3,\)", lambda: pdl.gradients(A**2, A, np.ones(3))),
        (ParadualValueError, r"shape \(\)", lambda: pdl.gradients(A**2, A, 1.0)),
        (ParadualValueError, r"shape \(3,\)", lambda: pdl.gradients(D**2, D, np.ones(3)).compute()),
        (ParadualValueError, "structure", lambda: pdl.gradients(D**2, D, (np.ones(7),)).compute()),
        (ParadualTypeError, "float64", lambda: pdl.gradients(A**2, A, np.ones(7) * 1j)),
        (ParadualTypeError, "astype", lambda: pdl.gradients(A.astype("f4") ** 2, A, np.ones(7))),
        (ParadualTypeError, "astype", lambda: pdl.gradients(D**2, D, np.ones(7) * 1j).compute()),
        (ParadualValueError, "1 cotangents were given for 2", lambda: pdl.gradients([A, A], A, [N])),
        (ParadualTypeError, "use paradual.grad", lambda: pdl.gradients(1.0, A)),
        (ParadualTypeError, "use paradual.grad", lambda: pdl.gradients(A.sum(), V)),
        (ParadualTypeError, "use paradual.grad", lambda: pdl.tangents({"a": A}, A, V)),
        (ParadualValueError, "'recompute'", lambda: pdl.gradients(A.sum(), A, tapes="never")),
        (ParadualValueError, "shape", lambda: pdl.tangents(A.sum(), A, np.ones(3))),
        (ParadualValueError, "structure", lambda: pdl.tangents(D.sum(), D, [V]).compute()),
        (ParadualValueError, "shape", lambda: pdl.tangents(D.sum(), D, np.ones(3)).compute()),
        (ParadualTypeError, "wrap the others", lambda: pdl.grad(lambda a, b: (a * b).sum(), (0, 1))(A, V)),
        (ParadualTypeError, "wrap these", lambda: pdl.grad(lambda a, b: (a * b).sum())(V, A)),
        (ParadualTypeError, "must be a Dask", lambda: pdl.grad(lambda a: 1.0)(A)),
        (ParadualTypeError, "use paradual.vjp", lambda: pdl.jacobian(lambda a: a**2)(A)),
        (ParadualValueError, "structure", lambda: pdl.vjp(lambda a: (a, a), A)[1](V)),
    ],
)
def test_what_is_wrong_and_the_cure(error: type[Exception], says: str, wrong: Any) -> None:
    with pytest.raises(error, match=says) as caught:
        wrong()
    assert isinstance(caught.value, TypeError | ValueError)


# --- exceptions ---------------------------------------------------------------------------------------------


@pdl.custom_vjp
def fragile(x: Any) -> Any:
    return x * 2


def _raise(residuals: Any, g: Any) -> Any:
    raise KeyError("no way back")


fragile.defvjp(lambda x: (x * 2, None), _raise)


@pytest.mark.parametrize("tapes", ["keep", "recompute"])
def test_an_exception_arrives_with_the_key_of_its_task(tapes: str) -> None:
    def breaks(w: Any) -> Any:
        raise LookupError("the user's own message")

    w = delayed(V)
    with dask.config.set(EACH_STEP):
        bad = delayed(breaks)(w)
        with pytest.raises(LookupError, match="the user's own message") as caught:
            pdl.gradients(bad, w, tapes=tapes).compute()
        assert any(bad.key in note for note in caught.value.__notes__)
        bad = delayed(lambda w: np.sum(fragile(w)))(w)
        g = pdl.gradients(bad, w, tapes=tapes)
        with pytest.raises(KeyError, match="no way back") as caught_back:
            g.compute()
        assert any(bad.key in note and "reverse" in note for note in caught_back.value.__notes__)
        with pytest.raises(ParadualTypeError, match="derivative would be lost") as refused:
            pdl.gradients(delayed(lambda w: float(w.sum()))(w), w, tapes=tapes).compute()
        assert "lambda" in refused.value.__notes__[0]


@pytest.mark.parametrize(
    "program",
    [
        lambda x: da.nanmax(x),
        lambda x: da.median(x, axis=0).sum(),
        lambda x: da.apply_along_axis(lambda r: r * r[0], 0, x).sum(),
        lambda x: da.bincount(da.from_array(np.arange(7) % 3, chunks=3), weights=x, minlength=3).sum(),
    ],
)
def test_what_has_no_rule_is_refused_or_right(program: Any) -> None:
    x = da.from_array(V, chunks=7 if "median" in program.__code__.co_names else 3)
    loss = program(x)
    slope = difference(lambda u: program(da.from_array(u, chunks=x.chunks)).compute(), V, N)
    try:
        g = pdl.gradients(loss, x).compute()
    except ParadualTypeError as error:
        assert "in the forward pass of the Dask task" in error.__notes__[0]  # noqa: PT017
    else:
        np.testing.assert_allclose(g @ N, slope, 1e-5)


def test_a_leftover_cotangent_is_an_internal_error_and_never_dropped() -> None:
    w = delayed(V)
    with dask.config.set(EACH_STEP):
        made = delayed(lambda w: Box(w))(w)
        loss = delayed(lambda b: np.sum(b.v))(made) + delayed(lambda b: np.sum(b.v))(made)
        with pytest.raises(InternalError, match="does not depend"):
            pdl.gradients(loss, w).compute()


@pytest.mark.parametrize("function", [lambda v: v.sum() > 0, lambda v: int(np.argmax(v)), np.argmax])
def test_an_output_that_turns_out_to_be_no_floating_point_number(function: Any) -> None:
    v = delayed(V)
    with pytest.raises(ParadualTypeError, match="it is a constant, and has no gradient"):
        pdl.gradients(delayed(function)(v), v).compute()


@pytest.mark.parametrize("function", [da.argmax, da.count_nonzero, lambda x: (x > 0).all()])
def test_an_output_of_integers_or_booleans_is_refused_at_once(function: Any) -> None:
    x = da.from_array(V, chunks=3)
    with pytest.raises(ParadualTypeError, match="it is a constant, and has no gradient"):
        pdl.gradients(function(x), x)
