"""Which tapes of a Dask graph are kept: all, none, or as many as a budget allows; and terms left out."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
from dask import delayed
from graph_helpers import same

import paradual as pdl
from paradual.errors import ParadualTypeError, ParadualValueError
from paradual.ledger import Account, Ledger
from paradual.tape import Tape

N, CHUNKS = 2000, 10
X = np.random.default_rng(3).normal(size=N * CHUNKS)
ONE = 8 * N  # bytes of one chunk


@pytest.fixture(autouse=True)
def _synchronous() -> Iterator[None]:
    with dask.config.set(scheduler="sync"):
        yield


class Calls:
    """Counts how often a chunk was computed."""

    def __init__(self) -> None:
        self.number = 0

    def __call__(self, block: Any) -> Any:
        self.number += 1
        y = np.sin(block)  # keeps its argument
        return np.exp(y * 0.1)  # and its result: two arrays for each chunk

    def __dask_tokenize__(self) -> Any:
        return "calls", id(self)


def program(calls: Any) -> tuple[Any, Any]:
    """The chunks are used twice, so that they are computed in jobs of their own."""
    x = da.from_array(X, chunks=N)
    y = x.map_blocks(calls, meta=np.empty(0))
    return y.sum() + 0.5 * y[::2].sum(), x


def bytes_of_tapes(kept: int) -> int:
    return kept * 2 * ONE


@pytest.mark.parametrize(
    ("tapes", "again"),
    [
        ("keep", 0),
        ("recompute", CHUNKS),
        (0, CHUNKS),
        ("0 B", CHUNKS),
        (bytes_of_tapes(CHUNKS) * 2, 0),
        ("1 GiB", 0),
        (bytes_of_tapes(4) + ONE, CHUNKS - 4),
        (np.int64(bytes_of_tapes(1) + ONE), CHUNKS - 1),
    ],
)
def test_a_budget_decides_job_by_job(tapes: Any, again: int) -> None:
    calls = Calls()
    loss, x = program(calls)
    found = dask.compute(*pdl.value_and_gradients(loss, x, tapes=tapes))
    assert calls.number == CHUNKS + again
    loss, x = program(Calls())
    assert same(found, dask.compute(*pdl.value_and_gradients(loss, x)))
    slope = np.exp(np.sin(X) * 0.1) * 0.1 * np.cos(X)
    np.testing.assert_allclose(found[1], slope * np.tile([1.5, 1.0], len(X) // 2), rtol=1e-12)


def test_what_a_budget_allows_is_free_again_for_the_next_time() -> None:
    calls = Calls()
    loss, x = program(calls)
    gradient = pdl.gradients(loss, x, tapes=bytes_of_tapes(4) + ONE)
    gradient.compute()
    gc.collect()
    gradient.compute()
    assert calls.number == 2 * (2 * CHUNKS - 4)


def test_threads_share_a_budget() -> None:
    calls = Calls()
    loss, x = program(calls)
    gradient = pdl.gradients(loss, x, tapes=bytes_of_tapes(4) + ONE)
    assert same(gradient.compute(scheduler="threads"), pdl.gradients(loss, x).compute())


@pytest.mark.parametrize("tapes", ["recompute", 0, bytes_of_tapes(3), "1 GiB"])
def test_derivatives_of_derivatives(tapes: Any) -> None:
    def directional(tapes: Any) -> Any:
        x = da.from_array(X[:40], chunks=10)
        first = pdl.gradients((da.sin(x) * x**2).sum(), x, tapes=tapes)
        return pdl.gradients((first * da.cos(x)).sum(), x, tapes=tapes)

    x = X[:40]
    expected = pdl.grad(lambda x: np.sum(pdl.grad(lambda x: np.sum(np.sin(x) * x**2))(x) * np.cos(x)))(x)
    np.testing.assert_allclose(directional(tapes).compute(), expected, rtol=1e-12, atol=1e-12)
    assert same(directional(tapes).compute(scheduler="threads"), directional(tapes).compute())


@pytest.mark.parametrize("tapes", ["lots", "", -1, "-3 GiB", 1.5, None, True, [1], "2 GiBs"])
def test_a_budget_that_is_none(tapes: Any) -> None:
    loss, x = program(Calls())
    with pytest.raises(ParadualValueError, match="choose 'keep', 'recompute' or bytes"):
        pdl.gradients(loss, x, tapes=tapes)


def test_an_account() -> None:
    account, tapes = Account(), [Tape((None, (k,)), []) for k in range(4)]
    assert [account.claim("a", lambda: 10, tape, 4) for tape in tapes] == [True, True, False, False]
    assert account.claim("b", lambda: 4, tapes[2], 4)  # another differentiation's
    del tapes[:2]
    assert account.claim("a", lambda: 10, tapes[0], 9)
    del tapes[:]
    tape = Tape((None, ()), [])
    assert account.claim("c", lambda: 1, tape, 1)
    assert account.used == {"c": 1}
    assert account.limits == {"c": 1}


def test_tapes_without_bytes_and_differentiations_that_keep_nothing() -> None:
    ledger, empty = Ledger("a", 100), [Tape((None, (k,)), []) for k in range(4)]
    assert all(ledger.keeps(tape) for tape in empty)
    del empty[:]
    assert ledger.keeps(Tape((None, ()), []))
    account, tape = Account(), Tape((None, ()), [])
    assert not any(account.claim(str(k), lambda: 1, tape, 2) for k in range(1000))
    assert len(account.limits) <= 64
    assert account.used == {}


# --- terms that do not count ------------------------------------------------------------------------------


def shot(x: Any, k: int) -> Any:
    return np.sum(np.sin(x * (k + 1)))


def fails(x: Any, k: int) -> Any:
    raise RuntimeError(f"shot {k} was lost")


Y = X[:6]
FINISHED = [0, 2, 3]


def expected() -> Any:
    return pdl.grad(lambda x: sum(shot(x, k) for k in FINISHED))(Y)


def test_terms_that_failed_are_left_out() -> None:
    x = delayed(Y)
    losses = [delayed(shot if k in FINISHED else fails)(x, k) for k in range(5)]
    mask = [k in FINISHED for k in range(5)]
    with pytest.raises(RuntimeError, match=r"shot \d was lost"):
        pdl.gradients(losses, x).compute()
    values, gradient = pdl.value_and_gradients(losses, x, mask=mask)
    assert [value is not None for value in values] == mask
    assert [value.compute() for value in values if value is not None] == [shot(Y, k) for k in FINISHED]
    np.testing.assert_allclose(gradient.compute(), expected(), rtol=1e-13)
    with_bools = pdl.gradients(losses, [x], mask=[np.bool_(m) for m in mask])[0]
    assert same(with_bools.compute(), gradient.compute())


def test_a_mask_that_is_known_when_the_graph_runs() -> None:
    """A shot that catches its own failure says so, and returns anything."""

    def guarded(x: Any, k: int) -> Any:
        if k in FINISHED:
            return shot(x, k), True
        return np.sum(np.log(x * np.nan)), False

    x = delayed(Y)
    pairs = [delayed(guarded, nout=2)(x, k) for k in range(5)]
    losses, mask = [value for value, _ in pairs], [finished for _, finished in pairs]
    found = pdl.gradients(losses, x, mask=mask).compute()
    np.testing.assert_allclose(found, expected(), rtol=1e-13)
    mixed = [mask[k] if k % 2 else k in FINISHED for k in range(5)]
    assert same(pdl.gradients(losses, x, mask=mixed).compute(), found)


def test_masks_of_arrays_and_cotangents() -> None:
    x = da.from_array(Y, chunks=4)
    a, b = da.sin(x), (x**3).sum()
    finite = ~da.isnan(b)
    found = pdl.gradients([a, b], x, [np.arange(6.0), 2.0], mask=[True, finite]).compute()
    np.testing.assert_allclose(found, np.arange(6.0) * np.cos(Y) + 6 * Y**2, rtol=1e-13)
    found = pdl.gradients([a, b], x, [np.arange(6.0), 2.0], mask=[finite, False]).compute()
    np.testing.assert_allclose(found, np.arange(6.0) * np.cos(Y), rtol=1e-13)


def test_nothing_counts() -> None:
    x = da.from_array(Y, chunks=4)
    loss = (x**2).sum()
    assert same(pdl.gradients([loss, loss], x, mask=[False, False]).compute(), np.zeros(6))
    value, gradient = pdl.value_and_gradients(loss, x, mask=False)
    assert value is None
    assert same(gradient.compute(), np.zeros(6))
    assert same(pdl.gradients(loss, x, mask=delayed(False)).compute(), np.zeros(6))


@pytest.mark.parametrize(
    "mask", [[True], [True, False, True], True, np.ones((2, 2), bool), [1, 0], ["a", "b"]]
)
def test_masks_that_are_none(mask: Any) -> None:
    x = da.from_array(Y, chunks=4)
    with pytest.raises((ParadualTypeError, ParadualValueError, TypeError), match=r"mask|iterable"):
        pdl.gradients([x.sum(), x.sum()], x, mask=mask)


@pytest.mark.parametrize("mask", [1, np.float64(1.0), None, "yes", np.array([True]), np.array(["a", "b"])])
def test_lazy_masks_that_are_none(mask: Any) -> None:
    x = da.from_array(Y, chunks=4)
    with pytest.raises(ParadualTypeError, match="a mask says True or False"):
        pdl.gradients(x.sum(), x, mask=delayed(lambda: mask)()).compute()
