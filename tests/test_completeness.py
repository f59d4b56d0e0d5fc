"""Nothing is undecided: every NumPy function has a kind, every attribute of ndarray is there or refused."""

import numpy as np
import numpy.char
import numpy.fft
import numpy.lib.recfunctions
import numpy.polynomial
import numpy.strings  # modules that register functions when they are imported
import pytest
from numpy.testing.overrides import get_overridable_numpy_array_functions, get_overridable_numpy_ufuncs

import paradual as pdl
from paradual.dual import Dual
from paradual.errors import ParadualError
from paradual.rules import kind
from paradual.rules.registry import name_of

DIFFERENTIABLE = ("elementwise", "linear", "multilinear", "general")

FUNCTIONS = get_overridable_numpy_array_functions() | get_overridable_numpy_ufuncs()


def test_every_numpy_function_has_a_kind():
    undecided = sorted({name_of(f) for f in FUNCTIONS if kind(f) is None})
    assert not undecided, (
        "NumPy functions without a rule (give each one in paradual/rules, or declare it constant):\n  "
        + "\n  ".join(undecided)
    )


def test_most_numpy_functions_are_differentiable():
    names = {name_of(f) for f in FUNCTIONS if kind(f) in DIFFERENTIABLE}
    assert len(names) >= 230, f"only {len(names)} are"


def test_the_kinds_are_known_ones():
    assert {kind(f) for f in FUNCTIONS} <= {*DIFFERENTIABLE, "constant", "refused", None}


# --- what an array can do, a dual can do ------------------------------------------------------------------

# {name: why a dual does not have it}
ABSENT = {
    "ctypes": "a pointer to the memory: C code would not see the derivative",
    "data": "a buffer of the memory: its reader would not see the derivative",
    "getfield": "part of the bytes of each element carries no derivative",
    "setfield": "part of the bytes of each element carries no derivative",
    "byteswap": "the bytes in another order are another number",
    "dump": "a file keeps no derivative: save paradual.stop_gradient(x)",
    "dumps": "bytes keep no derivative: save paradual.stop_gradient(x)",
    "tofile": "a file keeps no derivative: save paradual.stop_gradient(x)",
    "itemset": "removed from NumPy 2: write x[i] = v",
    "newbyteorder": "removed from NumPy 2",
    "tostring": "removed from newer versions of NumPy: see tobytes",
    "resize": "changes the size in place: write x = np.resize(x, shape)",
    "setflags": "there are no flags to set",
    "base": "the owner of the memory is not the business of a derivative",
    "device": "where the value lies: ask paradual.stop_gradient(x).device",
    "to_device": "move paradual.stop_gradient(x), or the arguments before they are differentiated",
    "flags": "of the memory: ask paradual.stop_gradient(x).flags",
    "strides": "of the memory: ask paradual.stop_gradient(x).strides",
}


def test_a_dual_has_the_attributes_of_an_array():
    wanted = {name for name in dir(np.ndarray) if not name.startswith("_")}
    missing = sorted(name for name in wanted - ABSENT.keys() if not hasattr(Dual, name))
    assert not missing, "attributes of numpy.ndarray that paradual's Dual lacks:\n  " + "\n  ".join(missing)


def test_nothing_else_is_called_absent():
    there = sorted(name for name in ABSENT if hasattr(Dual, name))
    assert not there, f"a dual has these after all: {there}"


@pytest.mark.parametrize("name", ABSENT)
def test_an_absent_attribute_is_an_error_and_not_a_wrong_number(name):
    def fn(x):
        getattr(x, name)
        return np.sum(x)

    with pytest.raises((AttributeError, ParadualError)):
        pdl.grad(fn)(np.ones(2))
