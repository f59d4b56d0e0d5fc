"""Random programs that fork and join: the same bits on every executor, and the derivatives of the program."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import optree
import pytest
from cluster_helpers import check_empty, workers
from distributed import Client
from effort import tries
from forkjoin_programs import SINGLE, Plain, loss_of, programs
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import paradual as pdl
from paradual.tape import ACTIVE, OUTSIDE

rng = np.random.default_rng(11)
X, S, Z = rng.normal(size=(2, 3)), 0.8, rng.normal(size=3)
V, T, U = rng.normal(size=(2, 3)), -0.6, rng.normal(size=3)

phases = (Phase.explicit, Phase.generate, Phase.shrink)
fixed = partial(settings, derandomize=True, deadline=None, database=None, phases=phases)


@pytest.fixture(autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    yield
    assert ACTIVE.get() == (OUTSIDE,)


def same(a: Any, b: Any) -> bool:
    a, b = optree.tree_leaves(a), optree.tree_leaves(b)
    return len(a) == len(b) and all(
        type(p) is type(q)
        and (np.shape(p), np.asarray(p).dtype, np.asarray(p).tobytes())
        == (np.shape(q), np.asarray(q).dtype, np.asarray(q).tobytes())
        for p, q in zip(a, b, strict=True)
    )


def close(a: Any, b: Any, tolerance: float) -> None:
    a, b = optree.tree_leaves(a), optree.tree_leaves(b)
    scale = max(1.0, *(float(np.max(np.abs(q))) for q in b))
    for p, q in zip(a, b, strict=True):
        np.testing.assert_allclose(p, q, rtol=0, atol=tolerance * scale)


def dot(a: Any, b: Any) -> Any:
    return sum(np.sum(p * q) for p, q in zip(a, b, strict=True))


def point(single: bool) -> tuple[Any, Any]:
    z, u = (Z.astype(SINGLE), U.astype(SINGLE)) if single else (Z, U)
    return (X, S, z), (V, T, u)


def first(loss: Any, at: Any) -> Any:
    return pdl.value_and_grad(loss, (0, 1, 2))(*at)


def second(loss: Any, at: Any, along: Any) -> Any:
    """The Hessian times a vector, forward over reverse and reverse over reverse."""
    forward = pdl.hvp(loss, at, along)
    return forward, pdl.grad(lambda *at: dot(pdl.grad(loss, (0, 1, 2))(*at), along), (0, 1, 2))(*at)


def uses_single(program: Any, single: bool) -> bool:
    return single or "'single'" in repr(program)


def difference(f: Any, h: float) -> Any:
    return (f(h) - f(-h)) / (2 * h)


# --- in this process ----------------------------------------------------------------------------------------


def check_first_order(program: Any, single: bool) -> Any:
    """Value and gradient: bitwise the same on both executors, and right."""
    at, along = point(single)
    loss, coarse = loss_of(program), uses_single(program, single)
    with pdl.executor("inline"):
        home = value, slopes = first(loss, at)
        out, tangent = pdl.jvp(loss, at, along)
    with pdl.executor("threads"):
        assert same(first(loss, at), home)
    plain = loss_of(program, Plain)
    expected = first(plain, at)
    assert same(plain(*at), out)
    assert same(expected[0], value)
    assert same(value, out)
    close(slopes, expected[1], 1e-4 if coarse else 1e-12)
    assert [type(slope) for slope in slopes] == [np.ndarray, float, np.ndarray]
    assert slopes[2].dtype == at[2].dtype
    along_gradient = dot(slopes, along)
    close(tangent, along_gradient, 1e-4 if coarse else 1e-11)
    if not (coarse or "stopped" in repr(program) or "derivative" in repr(program)):

        def moved(h: float) -> Any:
            return plain(*(p + h * v for p, v in zip(at, along, strict=True)))

        fine, rough = difference(moved, 1e-6), difference(moved, 1e-5)
        if np.isclose(fine, rough, 1e-5, 1e-5):  # else a jump or a kink is near
            np.testing.assert_allclose(along_gradient, fine, rtol=1e-4, atol=1e-4)
    return home


@fixed(max_examples=tries(850, 160))
@given(program=programs, single=st.sampled_from([False, False, False, True]))
def test_first_order(program: Any, single: bool) -> None:
    check_first_order(program, single)


@fixed(max_examples=tries(150, 30))
@given(program=programs, single=st.sampled_from([False, False, True]))
def test_second_order(program: Any, single: bool) -> None:
    at, along = point(single)
    loss, coarse = loss_of(program), uses_single(program, single)
    with pdl.executor("inline"):
        home = second(loss, at, along)
    with pdl.executor("threads"):
        assert same(second(loss, at, along), home)
    close(home[0], home[1], 1e-3 if coarse else 1e-10)
    if not coarse:
        close(home[0], pdl.hvp(loss_of(program, Plain), at, along), 1e-10)


@fixed(max_examples=tries(50, 12))
@given(program=programs)
def test_hessians(program: Any) -> None:
    def loss(z: Any) -> Any:
        return loss_of(program)(X * z, np.sum(z) * S, z)

    with pdl.executor("inline"):
        home = pdl.hessian(loss)(Z)
        close(home @ U, pdl.hvp(loss, Z, U), 1e-3 if uses_single(program, False) else 1e-10)
    with pdl.executor("threads"):
        assert same(pdl.hessian(loss)(Z), home)


# --- on clusters --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two() -> Iterator[Client]:
    with workers(2) as client:
        yield client


@pytest.fixture(params=[1, 4])
def others(request: pytest.FixtureRequest) -> Iterator[Client]:
    with workers(request.param) as client:
        yield client


def check_cluster(client: Client, program: Any, single: bool, twice: bool) -> None:
    at, along = point(single)
    loss = loss_of(program)
    with pdl.executor("inline"):
        home = second(loss, at, along) if twice else first(loss, at)
    with pdl.executor(client):
        assert same(second(loss, at, along) if twice else first(loss, at), home)


double = st.just(False)


def drawn(count: int, single: Any = double) -> list[tuple[Any, bool]]:
    """Programs, drawn before a cluster is at work: its threads use `random`, which Hypothesis watches."""
    found: list[tuple[Any, bool]] = []

    @fixed(max_examples=count)
    @given(program=programs, single=single)
    def collect(program: Any, single: bool) -> None:
        found.append((program, single))

    collect()
    return found


def check_all(client: Client, cases: list[tuple[Any, bool]], twice: bool) -> None:
    for program, single in cases:
        try:
            check_cluster(client, program, single, twice)
        except BaseException as error:
            error.add_note(f"program = {program!r}, single = {single}")
            raise


FIRST = drawn(tries(100, 27), st.sampled_from([False, False, True]))
SECOND = drawn(tries(20, 8))


def test_first_order_on_two_workers(two: Client) -> None:
    assert len(FIRST) == tries(100, 27)
    check_all(two, FIRST, twice=False)


def test_second_order_on_two_workers(two: Client) -> None:
    check_all(two, SECOND, twice=True)


def test_other_numbers_of_workers(others: Client) -> None:
    check_all(others, FIRST[:: len(FIRST) // 9], twice=False)
    check_empty(others)
