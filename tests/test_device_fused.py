"""Pullbacks in one kernel, on the stand-in for a device: as on the host, and only where they can be."""

import sys

import numpy as np
import pytest
from cases import CASES
from device_cases import OF_NUMBERS, REFUSED_HERE
from device_checks import (
    Bench,
    check_case,
    check_kernels,
    check_second_order,
    has_device_arguments,
    partials,
    plain_refusal,
)
from fake_cupy import FUSED
from fake_device import device

import paradual as pdl
from paradual.errors import ParadualTypeError
from paradual.rules import fused
from paradual.rules.fused import Lane, fused_product
from paradual.rules.registry import lookup

with device() as _counts:
    THERE = [
        case
        for case in CASES
        if has_device_arguments(case)
        and case.id not in OF_NUMBERS | REFUSED_HERE
        and lookup(case.function).kind == "elementwise"
        and plain_refusal(case, Bench(sys.modules["cupy"], _counts)) is None
    ]
FIRST = {case.function: case for case in reversed(THERE) if "complex" not in case.id}
PLAIN = """
    paradual.rules.numeric.bessel_i.0 paradual.rules.numeric.bessel_i.1 multiply.0 multiply.1 remainder.0
    fmod.0 exp.0 deg2rad.0 radians.0 rad2deg.0 degrees.0 copysign.1 heaviside.0 ldexp.0 ldexp.1 nextafter.0
    nextafter.1 real.0 imag.0
"""  # whose partial derivative is a number, or what it is given: there is nothing to fuse


@pytest.fixture
def bench(monkeypatch):
    """A device on which arrays of any size are worth a kernel."""
    monkeypatch.setattr(fused, "FEWEST", 1)
    with device() as counts:
        import cupy

        FUSED.clear()
        yield Bench(cupy, counts)


@pytest.mark.parametrize("case", THERE, ids=[case.id for case in THERE])
def test_a_fused_rule_on_a_device(case, bench):
    try:
        costs = check_case(case, bench)
    except ParadualTypeError as error:
        pytest.fail(f"refused: {error}")
    assert not costs.reverse["to_host"] + costs.reverse["between"] + costs.reverse["to_device"]
    assert costs.reverse["synchronize"] <= costs.masks


@pytest.mark.parametrize("case", FIRST.values(), ids=[case.id for case in FIRST.values()])
def test_second_order_of_a_fused_rule_on_a_device(case, bench):
    check_second_order(case, bench)


def test_which_rules_fuse_on_a_device():
    """All partial derivatives that compute anything."""
    plain = {name for name, partial, n in partials() if not fused.can_fuse(partial, n, np.dtype(float))}
    ours = {name for name in plain if name.partition(".")[0] in ("numpy", "paradual")}
    assert {name.removeprefix("numpy.") for name in ours} == set(PLAIN.split())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_kernel_on_a_device(bench, dtype):
    assert check_kernels(bench, dtype) > 60


def chain(x):
    y = np.sin(x) * x
    return np.sum(np.tanh(y) * y + 0.5 * np.exp(-x) / (1 + y**2))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_kernel_a_function_on_a_device(bench, dtype):
    x = np.linspace(-2, 3, 24, dtype=dtype).reshape(4, 6)
    there = pdl.grad(chain)(bench.cupy.asarray(x))
    assert there.dtype == dtype
    assert set(FUSED) == {"paradual_pullback"}
    assert len(FUSED) == 5  # sin, tanh, both operands of the quotient, the power
    np.testing.assert_allclose(there.get(), pdl.grad(chain)(x), rtol=2e-5 if dtype == np.float32 else 1e-12)


@pytest.mark.parametrize("exponent", [0, 1, 2, 2.5, -1, -0.5])
def test_numbers_in_a_kernel_on_a_device(bench, exponent):
    x = np.array([0.0, 0.5, 1.0, 2.0, np.inf, np.nan])
    ones, power = np.ones(6), lambda x: np.power(x, exponent)
    (there,) = pdl.vjp(power, bench.cupy.asarray(x))[1](bench.cupy.asarray(ones))
    with np.errstate(all="ignore"):
        (here,) = pdl.vjp(power, x)[1](ones)
    np.testing.assert_allclose(there.get(), here)
    assert FUSED == ["paradual_pullback"]


def test_operands_of_other_shapes_on_a_device(bench):
    x, y = np.linspace(0.5, 2, 12).reshape(3, 4), np.linspace(1, 2, 4)

    def loss(x, y):
        return np.sum(np.hypot(x, y) * np.logaddexp(y, x) + np.arctan2(y, x))

    there = pdl.grad(loss, (0, 1))(bench.cupy.asarray(x), bench.cupy.asarray(y))
    assert len(FUSED) == 6
    for got, expected in zip(there, pdl.grad(loss, (0, 1))(x, y), strict=True):
        np.testing.assert_allclose(got.get(), expected)


@pytest.mark.parametrize(
    "program",
    {
        "float16": lambda xp, x: np.tanh(x.astype(np.float16)).astype(float),
        "complex": lambda xp, x: np.real(np.tanh(x + 0j)),
        "integers beside": lambda xp, x: np.ldexp(x, xp.arange(6)),
        "one number": lambda xp, x: np.tanh(x[0]) + x,
    }.items(),
    ids=lambda p: p[0],
)
def test_what_is_not_fused_on_a_device(bench, program):
    def loss(xp):
        return lambda x: np.sum(program[1](xp, x))

    x = np.linspace(0.5, 2, 6)
    there = pdl.grad(loss(bench.cupy))(bench.cupy.asarray(x)).get()
    assert not FUSED
    np.testing.assert_allclose(there, pdl.grad(loss(np))(x), rtol=1e-3 if program[0] == "float16" else 1e-6)


def test_small_arrays_are_not_fused_on_a_device(bench, monkeypatch):
    monkeypatch.undo()
    n = fused.FEWEST

    def loss(x):
        return np.sum(np.tanh(x))

    pdl.grad(loss)(bench.cupy.asarray(np.ones(n - 1)))
    assert not FUSED
    pdl.grad(loss)(bench.cupy.asarray(np.ones(n)))
    assert FUSED == ["paradual_pullback"]


def test_a_partial_derivative_of_a_user_is_not_fused_on_a_device(bench):
    """It may read what changes between two calls, or ask for the truth of an element."""
    x = bench.cupy.asarray(np.ones(3))
    fused_product(x, lambda x: 2 * np.cos(x), (x,))
    assert not FUSED


def branches(x):
    return 2 * x if x > 1 else x


def reads(x):
    return float(x) * x


def counts(x):
    return x[0] * 2


def sums(x):
    return np.sum(x) * x


def steps(x):
    return sum(x) * x


def casts(x):
    return np.multiply(x, 2, dtype=np.float32)


@pytest.mark.parametrize("partial", [branches, reads, counts, sums, steps, casts])
def test_what_depends_on_more_than_one_element_is_not_fused_on_a_device(partial, monkeypatch):
    monkeypatch.setattr(partial, "__module__", "paradual.rules.elementwise")
    assert not fused.can_fuse(partial, 1, np.dtype(float))


def test_a_lane_makes_constants_of_its_dtype():
    lane = Lane(np.ones(1, np.float32), np.dtype(np.float32), np)
    for out in (2 * lane, lane / 3, 1.5 - lane, np.where(lane > 0, 1, 0.5), np.hypot(lane, 2.0)):
        assert out.dtype == np.float32
    assert (lane > 0).dtype == bool
