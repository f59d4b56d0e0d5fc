"""Writing in place into a value that is being differentiated: `x += y` and `out=x`."""

from __future__ import annotations

from typing import Any

import numpy as np

from paradual.arrays import form_of, is_buffer, item, zeros
from paradual.dual import Dual, position, primal
from paradual.errors import NotDifferentiableError, ParadualTypeError, ParadualValueError, user_line
from paradual.tape import ACTIVE, Home


def assign(target: Any, result: Any) -> Any:
    """``target += ...``: the array named target holds the result from now on, under all its names.

    A dual is mutable, as an array is: it takes on the value and the slot of the result.  A NumPy
    scalar or Python number is not, and the name is bound anew.  Where other duals share the memory,
    NumPy would change them too: that is refused.
    """
    if not is_buffer(primal(target)):
        return result
    if result.shape != target.shape:
        raise ParadualValueError(
            f"a result of shape {result.shape} cannot be written into an array of shape {target.shape}"
        )
    if not np.can_cast(result.dtype, target.dtype, "same_kind"):
        raise ParadualTypeError(f"cannot write a result of {result.dtype} into {target.dtype}")
    kin = getattr(target, "kin", ())
    if any(ref() is not None and ref() is not target for ref in kin):
        raise NotDifferentiableError(
            f"writing in place into an array with views{user_line()}: another array that is being "
            "differentiated shares its memory and would change with it. Write x = x + y instead of "
            "x += y, or take a copy first"
        )
    if result.dtype != target.dtype:
        result = result.astype(target.dtype)
    result = _as_buffer(result)
    if result.__class__ is not Dual:
        target.value = result
        target.home, target.place = _constant_slot(target, result)
    else:
        target.value, target.home, target.place = result.value, result.home, result.place
    return target


def _as_buffer(result: Any) -> Any:
    """NumPy turns 0-d results into scalars; what is written into a 0-d array is one still."""
    if result.__class__ is Dual:
        return Dual(_as_buffer(result.value), result.home, result.place)
    return result if is_buffer(result) else np.asarray(result)


def _constant_slot(target: Dual, value: Any) -> tuple[Home, Any]:
    """A slot that nothing flows into."""
    tape = ACTIVE.get()[position(target, ACTIVE.get())]
    if tape.records is None:
        return tape.home, zeros(form_of(value), value)
    tape.records.append((item, form_of(value), ()))
    return tape.home, len(tape.records) - 1
