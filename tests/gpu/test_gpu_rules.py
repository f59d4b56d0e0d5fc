"""Every derivative rule on a real device: the calls of `cases`, as in `test_device_rules`."""

from collections import Counter

import pytest
from cases import CASES
from device_cases import OF_NUMBERS, REFUSED_HERE
from device_checks import (
    Bench,
    check_case,
    check_kernels,
    check_second_order,
    has_device_arguments,
    plain_refusal,
)

from paradual.errors import ParadualTypeError
from paradual.rules import fused
from paradual.rules.registry import lookup, name_of

from .benchmark import device

pytestmark = pytest.mark.gpu
cupy = pytest.importorskip("cupy")
if device(dry=False) is None:
    pytest.skip("there is no CUDA device", allow_module_level=True)

# whose results are determined but for signs, phases or a basis, which LAPACK and cuSOLVER choose differently
CHOSEN = ("eig", "svd", "qr", "singular", "lstsq", "pinv", "cholesky", "mark")
THERE = [
    case
    for case in CASES
    if has_device_arguments(case)
    and case.id not in OF_NUMBERS | REFUSED_HERE
    and not any(word in name_of(case.function) for word in CHOSEN)
]
FIRST = {case.function: case for case in reversed(THERE) if "complex" not in case.id}
BENCH = Bench(cupy, Counter(), tolerance=1e-7)


def outcome(check, case):
    try:
        return check(case, BENCH)
    except ParadualTypeError as error:
        return error


@pytest.mark.parametrize("case", THERE, ids=[case.id for case in THERE])
def test_a_rule_on_a_gpu(case):
    found = outcome(check_case, case)
    if isinstance(found, ParadualTypeError):
        assert "to_device" in str(found)
        assert plain_refusal(case, BENCH) is not None, found


FUSED = [case for case in THERE if lookup(case.function).kind == "elementwise"]


@pytest.mark.parametrize("case", FUSED, ids=[case.id for case in FUSED])
def test_a_fused_rule_on_a_gpu(case, monkeypatch):
    monkeypatch.setattr(fused, "FEWEST", 1)
    test_a_rule_on_a_gpu(case)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_kernel_on_a_gpu(dtype, monkeypatch):
    monkeypatch.setattr(fused, "FEWEST", 1)
    assert check_kernels(BENCH, dtype) > 60


@pytest.mark.parametrize("case", FIRST.values(), ids=[case.id for case in FIRST.values()])
def test_second_order_on_a_gpu(case):
    found = outcome(check_second_order, case)
    if isinstance(found, ParadualTypeError):
        assert "to_device" in str(found)
        assert plain_refusal(case, BENCH) is not None, found
