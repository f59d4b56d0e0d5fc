"""How values travel between processes: duals with their slots, arrays with their memory layout.

A sum or a product of matrices rounds differently when an array is laid out differently in memory, and a
plain pickle makes every view contiguous.  The last bits of a derivative must not depend on where its tasks
ran, so here an array arrives with the order of its axes, and with gaps where it had gaps.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Sequence
from copy import copy
from typing import Any

import cloudpickle
import numpy as np

from paradual.tape import Stub


class Parcel:
    """What a task on a worker made: pickled like this when it travels, and left alone when it does not.

    Attributes
    ----------
    value : object
        The result.
    ends : tuple of Stub
        The last tape of the task in each differentiation.
    seconds : float
        How long it ran.
    worker : str
        The address where it ran.
    """

    __slots__ = ("ends", "seconds", "value", "worker")

    def __init__(
        self, value: Any, ends: tuple[Stub, ...] = (), seconds: float = 0.0, worker: str = ""
    ) -> None:
        self.value, self.ends, self.seconds, self.worker = value, ends, seconds, worker

    def __reduce__(self) -> tuple[Any, ...]:
        return _opened, (dumps(self.value), self.ends, self.seconds, self.worker)


def _opened(data: bytes, ends: tuple[Stub, ...], seconds: float, worker: str) -> Parcel:
    return Parcel(loads(data), ends, seconds, worker)


class _Pickler(cloudpickle.Pickler):
    def __init__(self, file: io.BytesIO, left_out: Callable[[Any], Any] | None) -> None:
        super().__init__(file, protocol=5)
        self.left_out = left_out

    def persistent_id(self, value: Any) -> Any:
        return None if self.left_out is None else self.left_out(value)

    def reducer_override(self, value: Any) -> Any:
        if type(value) is np.ndarray and not value.dtype.hasobject:
            flags = value.flags
            if not (flags.c_contiguous or flags.f_contiguous):
                return _spread_out, _compact(value)
        return super().reducer_override(value)


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, found: Callable[[Any], Any]) -> None:
        super().__init__(file)
        self.found = found

    def persistent_load(self, name: Any) -> Any:
        return self.found(name)


def dumps(value: Any, left_out: Callable[[Any], Any] | None = None) -> bytes:
    """Pickle a value.

    Parameters
    ----------
    value : object
        Functions of ``__main__`` and lambdas included.
    left_out : callable, optional
        Returns a name for a part that is to be left out, and None for the others.

    Returns
    -------
    bytes
        To be read by `loads`.

    Examples
    --------
    >>> a = np.arange(12.0)[::2]
    >>> loads(dumps(a)).strides == a.strides
    True
    """
    file = io.BytesIO()
    _Pickler(file, left_out).dump(value)
    return file.getvalue()


def loads(data: bytes, found: Callable[[Any], Any] | None = None) -> Any:
    """The value that was pickled; ``found(name)`` returns a part that was left out."""
    return pickle.loads(data) if found is None else _Unpickler(io.BytesIO(data), found).load()


def apart(error: Exception) -> Exception:
    """A twin of an exception that came from a worker, to be raised instead of it.

    The client keeps the exception for as long as there is a future of the task; and its traceback, the
    frames that it was raised through, would keep the future.
    """
    twin = copy(error)  # it came in a pickle, so it can be copied
    twin.__traceback__, twin.__cause__ = error.__traceback__, error.__cause__
    twin.__suppress_context__ = error.__suppress_context__
    error.__traceback__ = None
    return twin


def _compact(a: Any) -> tuple[Any, ...]:
    """The elements of a strided array, and strides like its own with gaps of one element at most."""
    strides = [0] * a.ndim
    packed = size = a.itemsize  # what the next stride would be without a gap: in ``a``, and in the copy
    for axis in sorted(range(a.ndim), key=lambda k: abs(a.strides[k])):
        stride = a.strides[axis]
        if stride == 0 or a.shape[axis] < 2:
            continue
        step = size + a.itemsize * (abs(stride) > packed)
        strides[axis] = step if stride > 0 else -step
        packed, size = abs(stride) * a.shape[axis], step * a.shape[axis]
    # along an axis of stride 0 all elements are one
    distinct = a[tuple(slice(0, 1) if s == 0 else slice(None) for s in strides)]
    return np.ascontiguousarray(distinct), a.shape, tuple(strides), bool(a.flags.writeable)


def _spread_out(
    distinct: Any, shape: Sequence[int], strides: Sequence[int], writeable: bool
) -> np.ndarray[Any, Any]:
    spans = [(n - 1) * s for n, s in zip(shape, strides, strict=True)]
    memory = np.empty((sum(map(abs, spans)) // distinct.itemsize + 1,), distinct.dtype)
    first = -sum(s for s in spans if s < 0)
    whole = np.ndarray(shape, distinct.dtype, memory, first, strides)
    np.ndarray(distinct.shape, distinct.dtype, memory, first, strides)[...] = distinct
    whole.flags.writeable = writeable
    return whole
