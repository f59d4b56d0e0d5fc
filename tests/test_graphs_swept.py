"""Jobs whose result is a number: their reverse pass runs at once, for the cotangent 1."""

from __future__ import annotations

import itertools
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
from dask import delayed
from dask.sizeof import sizeof
from graph_helpers import _synchronous as _synchronous
from graph_helpers import same

import paradual as pdl
from paradual.steps import Forward, Swept
from paradual.tape import Tape

X = np.random.default_rng(4).normal(size=24)


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What forward tasks keep for the reverse pass."""
    found: list[Any] = []
    call = Forward.__call__

    def watched(self: Forward, *operands: Any) -> Any:
        result = call(self, *operands)
        if not self.forward:
            found.append(result[1])
        return result

    monkeypatch.setattr(Forward, "__call__", watched)
    return found


def test_terms_of_a_loss_keep_no_tape(kept: list[Any]) -> None:
    x = da.from_array(X, chunks=6)
    gradient = pdl.gradients((da.sin(x) * da.exp(x)).mean(), x).compute()
    np.testing.assert_allclose(gradient, (np.sin(X) + np.cos(X)) * np.exp(X) / 24, rtol=1e-13)
    swept = [k for k in kept if isinstance(k, Swept)]
    assert len(swept) == 4
    assert all(isinstance(k, Tape | Swept) for k in kept)


def test_a_small_tape_is_kept_rather_than_a_large_gradient(kept: list[Any]) -> None:
    x = delayed(X)
    gradient = pdl.gradients(delayed(lambda x: 3.0 * np.sum(x))(x), x).compute()
    assert same(gradient, np.full(24, 3.0))
    assert [type(k) for k in kept] == [Tape]


def test_more_than_one_number_needs_a_tape(kept: list[Any]) -> None:
    x = delayed(X)
    a, b = delayed(lambda x: (np.sum(x**2), np.sum(x**3)), nout=2)(x)
    gradient = pdl.gradients([a, b], x, [2.0, 3.0]).compute()
    np.testing.assert_allclose(gradient, 4 * X + 9 * X**2, rtol=1e-13)
    assert not any(isinstance(k, Swept) for k in kept)


REAL, COMPLEX = [np.float32, np.float64, np.longdouble], [np.complex64, np.complex128]
COTANGENTS = [1.0, 0.3, 0.0, np.float32(0.7), np.nan]
# infinity times a complex number depends on the order of the factors
KINDS = [*itertools.product(REAL, [*COTANGENTS, np.inf]), *itertools.product(COMPLEX, COTANGENTS)]


@pytest.mark.parametrize(("dtype", "cotangent"), KINDS)
def test_any_type_and_cotangent(dtype: Any, cotangent: Any, kept: list[Any]) -> None:
    z = (X * (1 + 0.5j)).astype(dtype) if np.dtype(dtype).kind == "c" else X.astype(dtype)

    def f(z: Any) -> Any:
        return np.sum(np.abs(np.sin(z)) ** 2)

    g = np.asarray(cotangent, f(z).dtype)
    x = delayed(z)
    found = pdl.gradients(delayed(f)(x), x, g).compute()
    with np.errstate(all="ignore"):
        expected = pdl.vjp(f, z)[1](g)[0]
    assert found.dtype == z.dtype
    np.testing.assert_allclose(found, expected, rtol=50 * np.finfo(dtype).eps)
    assert any(isinstance(k, Swept) for k in kept)


@pytest.mark.parametrize("tapes", ["recompute", 100, "1 GiB"])
@pytest.mark.parametrize("scheduler", ["sync", "threads", "processes"])
def test_the_same_bits_however_tapes_are_kept(tapes: Any, scheduler: str) -> None:
    def derivative(tapes: Any) -> Any:
        x, w = da.from_array(X, chunks=5), da.from_array(X[:3], chunks=3)
        y = da.map_blocks(lambda b, w: np.tanh(b * w[0]) + w[1] * b**2, x, w, dtype=float)
        return pdl.value_and_gradients(da.log1p((y**2).mean()) + w[2], [x, w], tapes=tapes)

    (value, gradients), (other, expected) = derivative(tapes), derivative("keep")
    assert same(dask.compute(value, *gradients, scheduler=scheduler), dask.compute(other, *expected))


def test_derivatives_of_derivatives_through_terms() -> None:
    def norm(x: Any) -> Any:
        g = pdl.gradients((da.sin(x) * x).mean(), x)
        return (g**2).mean()

    x = da.from_array(X, chunks=7)
    expected = pdl.grad(lambda x: np.mean(pdl.grad(lambda x: np.mean(np.sin(x) * x))(x) ** 2))(X)
    np.testing.assert_allclose(pdl.gradients(norm(x), x).compute(), expected, rtol=1e-12)
    along = pdl.tangents(norm(x), x, np.cos(X)).compute()
    np.testing.assert_allclose(along, expected @ np.cos(X), rtol=1e-12)


@pdl.custom_vjp
def without_reverse(x: Any) -> Any:
    return np.sum(x)


def _fails(residuals: Any, g: Any) -> Any:
    raise FloatingPointError("no reverse")


without_reverse.defvjp(lambda x: (np.sum(x), x), _fails)


def test_a_reverse_pass_that_fails_is_heard_where_it_is_needed() -> None:
    x = delayed(X)
    losses = [delayed(without_reverse)(x * 2.0), delayed(np.sum)(x * x)]
    value, gradient = pdl.value_and_gradients(losses, x)
    assert value[0].compute() == np.sum(X * 2.0)
    with pytest.raises(FloatingPointError, match="no reverse") as caught:
        gradient.compute()
    assert "in the reverse pass of the Dask task" in " ".join(caught.value.__notes__)
    counted = pdl.gradients(losses, x, mask=[delayed(False), True])
    np.testing.assert_allclose(counted.compute(), 2 * X)


def test_dask_knows_how_much_is_kept() -> None:
    kept = Swept((("job", 0), 0), {(("input", 0), 0): np.zeros(1000), (("input", 0), 1): 1.0})
    assert 8000 <= sizeof(kept) < 9000
    assert 8000 <= sizeof((1.0, kept)) < 9000
