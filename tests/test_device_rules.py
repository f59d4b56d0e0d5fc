"""Every derivative rule on the stand-in for a device: the calls of `cases`, both modes, second order."""

from collections import Counter

import pytest
from cases import CASES
from device_cases import OF_NUMBERS, REFUSED_HERE
from device_checks import Bench, check_case, check_second_order, has_device_arguments, plain_refusal
from fake_device import device

from paradual.errors import ParadualTypeError
from paradual.rules.registry import name_of

THERE = [case for case in CASES if has_device_arguments(case)]
FIRST = {case.function: case for case in reversed(THERE) if "complex" not in case.id}  # one for each rule

# functions whose derivative depends on a question that the device must answer: is the matrix singular, how
# many leading coefficients are zero, do the weights sum to zero, is the result complex (lib.scimath)
ASK = {"linalg.det", "linalg.pinv", "linalg.lstsq", "cov", "average", "polyfit", "poly", "polymul"}
ASK |= {"trim_zeros", "polydiv"}
# functions that take indices, which are sent to the device where the program has them on the host
SEND = {"take", "compress", "insert", "put", "place", "bincount", "gain", "scatter_sum"}


@pytest.fixture
def bench():
    with device() as counts:
        import cupy

        yield Bench(cupy, counts)


def short(case):
    return name_of(case.function).removeprefix("numpy.").removeprefix("paradual.arrays.")


def outcome(check, case, bench):
    """What a check returns, and how paradual refuses the case if it does."""
    try:
        return check(case, bench), None
    except ParadualTypeError as error:
        return None, error


@pytest.mark.parametrize("case", THERE, ids=[case.id for case in THERE])
def test_a_rule_on_a_device(case, bench):
    if case.id in OF_NUMBERS:
        with pytest.raises((AssertionError, ParadualTypeError), match=r"for an array|on the host"):
            check_case(case, bench)
        return
    costs, error = outcome(check_case, case, bench)
    if error is not None:
        assert "to_device" in str(error)
        assert case.id in REFUSED_HERE or plain_refusal(case, bench) is not None
        return
    assert case.id not in REFUSED_HERE
    assert not any(part[kind] for part in (costs.forward, costs.reverse, costs.tangent) for kind in NEVER)
    if short(case) not in SEND:
        assert costs.forward["to_device"] <= costs.plain["to_device"]
        assert not costs.reverse["to_device"]
        assert costs.tangent["to_device"] <= costs.plain["to_device"]
    if short(case) not in ASK and not short(case).startswith("lib.scimath"):
        assert costs.forward["synchronize"] <= costs.plain["synchronize"]
        assert costs.reverse["synchronize"] <= costs.masks
        assert costs.tangent["synchronize"] <= costs.plain["synchronize"]


NEVER = ("to_host", "between")


def test_most_cases_run_on_a_device():
    outcomes = Counter()
    for case in FIRST.values():
        with device() as counts:
            import cupy

            outcomes[plain_refusal(case, Bench(cupy, counts)) is None] += 1
    assert outcomes[True] > 200  # not all of them refused by the stand-in, unseen


SECOND = [case for case in FIRST.values() if case.id not in REFUSED_HERE | OF_NUMBERS]


@pytest.mark.parametrize("case", SECOND, ids=[case.id for case in SECOND])
def test_second_order_on_a_device(case, bench):
    _, error = outcome(check_second_order, case, bench)
    if error is not None:
        assert "to_device" in str(error)
        assert plain_refusal(case, bench) is not None
