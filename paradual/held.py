"""Plain arrays that a tape refers to, and that their owner may write to before the reverse pass.

A loop that reuses a buffer would silently change the derivative of what it computed with the buffer's
former content.  So a small array is copied when it is recorded.  Of a large one a sample is remembered
and compared before the sweep: 512 elements spread evenly over it, which any write to more than one in 512
neighbouring elements changes.  Of an array on a device the sample stays there, and all samples are
compared at once when the sweep has been sent off: so the device is waited for at the end, and once.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from paradual.errors import ParadualValueError, user_line
from paradual.tape import Tape

COPIED = 1 << 14  # bytes: up to here a copy costs no more than a sample
SAMPLES = 512


def can_change(array: Any) -> bool:
    """Whether anybody can write to the memory of an array."""
    while type(array) is np.ndarray:
        if array.flags.writeable:
            return True
        array = array.base
    return array is not None  # a buffer, a memory map: not ours to know


def hold(tape: Tape, array: Any) -> Any:
    """A plain array as the tape may keep it: a copy, or itself with a sample to compare."""
    if type(array) is not np.ndarray:
        if array.nbytes <= COPIED:
            return array.copy(order="K")
        # for each use, because it is not known whether it was written to since the last one
        tape.held[-1 - len(tape.held)] = array, array[_grid(array.shape)].copy()
        return array
    if not can_change(array):
        return array
    if array.nbytes <= COPIED:
        return array.copy(order="K")
    key, sample = id(array), _sample(array)
    if tape.held.setdefault(key, (array, sample))[1] != sample:
        raise _changed(array)
    return array


def check_held(tape: Tape) -> None:
    """Refuse to sweep a tape whose constants were written to.

    Raises
    ------
    ParadualValueError
        If a sample differs.
    """
    for array, sample in tape.held.values():
        if type(array) is np.ndarray and _sample(array) != sample:
            raise _changed(array)


def check_held_there(tape: Tape) -> None:
    """The same for constants on a device, when all else has been sent there.

    Raises
    ------
    ParadualValueError
        If a sample differs.
    """
    there = [(array, sample) for array, sample in tape.held.values() if type(array) is not np.ndarray]
    if there:
        marks = [((now := array[_grid(array.shape)]) != sample) & (now == now) for array, sample in there]
        if bool(np.stack([mark.any() for mark in marks]).any()):
            changed = next(array for (array, _), mark in zip(there, marks, strict=True) if bool(mark.any()))
            raise _changed(changed)


def _grid(shape: tuple[int, ...]) -> tuple[slice, ...]:
    """An index that picks some 512 elements, evenly over an array however it lies in memory."""
    each = max(1, round(SAMPLES ** (1 / max(len(shape), 1))))
    return tuple(slice(None, None, max(n // each, 1)) for n in shape)


def _sample(array: np.ndarray[Any, Any]) -> int:
    step = max(array.size // SAMPLES, 1)
    flat = array.reshape(-1) if array.flags.c_contiguous else array.flat
    return hash(flat[::step].tobytes())


def _changed(array: Any) -> ParadualValueError:
    return ParadualValueError(
        f"an array of shape {array.shape} and dtype {array.dtype} was written to after a value that is "
        f"being differentiated had been computed with it{user_line()}: the derivative needs its former "
        "content. Write into a new array, or use a copy: x * a.copy()"
    )
