"""On which device an array lies, and constants made beside it: nothing here moves what is differentiated.

A device array is one with ``__cuda_array_interface__`` and ``__array_ufunc__``, as CuPy's are.  Its
arithmetic dispatches through NumPy's protocols, but what NumPy creates lies on the host, and does not mix
with it.
"""

from __future__ import annotations

import sys
from functools import cache
from typing import Any

import numpy as np

from paradual.errors import ParadualError, ParadualTypeError, user_line


def bare(value: Any) -> Any:
    """The plain value of a dual of any depth; anything else as it is."""
    while hasattr(type(value), "place"):
        value = value.value
    return value


@cache
def _is_device_type(kind: Any) -> bool:
    # a tensor of PyTorch says that it may lie there, but knows nothing of NumPy's protocols
    return hasattr(kind, "__cuda_array_interface__") and hasattr(kind, "__array_ufunc__")


def on_device(value: Any) -> bool:
    """Whether an array, or a dual of one, is in the memory of a device."""
    kind: Any = type(value)
    if kind is np.ndarray:
        return False
    kind = type(bare(value))
    return _is_device_type(kind)


def as_plain(value: Any, dtype: Any = None) -> Any:
    """``np.asarray(value, dtype)``, and a device array where it is."""
    kind: Any = type(value)
    if not _is_device_type(kind):
        return np.asarray(value, dtype)
    return value if dtype is None or value.dtype == dtype else value.astype(dtype)


def counting(*bounds: int, like: Any) -> Any:
    """``np.arange(*bounds)`` on the device of ``like``."""
    return np.arange(*bounds, like=bare(like)) if on_device(like) else np.arange(*bounds)


def grid(shape: Any, like: Any) -> list[Any]:
    """``np.ogrid`` of a shape, on the device of ``like``."""
    n = len(shape)
    return [
        counting(m, like=like).reshape([-1 if j == k else 1 for j in range(n)]) for k, m in enumerate(shape)
    ]


def unravel(numbers: Any, shape: Any) -> tuple[Any, ...]:
    """``np.unravel_index(numbers, shape)``, which on a device would wait to check the numbers."""
    if not on_device(numbers):
        return np.unravel_index(numbers, shape)
    parts = []
    for n in reversed(shape):
        parts.append(numbers % n if n else numbers)
        numbers = numbers // max(n, 1)
    return tuple(reversed(parts))


def identity(n: int, like: Any, m: int | None = None, dtype: Any = None) -> Any:
    """``np.eye(n, m)`` in the dtype and on the device of ``like``."""
    dtype = like.dtype if dtype is None else dtype
    if not on_device(like):
        return np.eye(n, m, dtype=dtype)
    rows, columns = counting(n, like=like), counting(n if m is None else m, like=like)
    return (rows[:, None] == columns).astype(dtype)


def one_like(value: Any) -> Any:
    """The number 1 of the dtype of a result without dimensions, on its device."""
    return np.ones_like(bare(value)) if on_device(value) else value.dtype.type(1)


def beside(constant: Any, like: Any) -> Any:
    """A plain array of the program's, moved to the device of ``like`` if that is on one."""
    if on_device(like) and not on_device(constant):
        return np.asarray(constant, like=bare(like))
    return constant


def any_of(mask: Any) -> bool:
    """Whether an entry of a mask is true, or may be: of a device this is not asked, for it would take until
    all that came before is computed."""
    return on_device(mask) or bool(np.any(mask))


def address(array: Any) -> int:
    """Where the first element of a plain array lies."""
    return int(array.data.ptr if on_device(array) else array.__array_interface__["data"][0])


REFUSALS = (
    *("no implementation found for", "returned NotImplemented from __array_ufunc__", "Unsupported type"),
    *("Implicit conversion to a NumPy array", "unexpected keyword argument", "positional argument"),
    *("scatter_add only supports", "is not supported", "Wrong arguments"),
)


def explain(error: Exception, what: str, values: Any = None) -> None:
    """Say what to do where a device has refused an operation.

    Parameters
    ----------
    error : Exception
        What was raised.
    what : str
        The function.
    values : iterable, optional
        Its operands, if it is not known that one of them is on a device.

    Raises
    ------
    ParadualTypeError
        If one of the operands is on a device, and it was the library of that device which has raised.
    """
    if isinstance(error, ParadualError) or "cupy" not in sys.modules:
        return
    text = str(error)
    if not any(part in text for part in REFUSALS) or not (values is None or _touches(list(values))):
        return
    text = text.partition("__array_ufunc__")[0] + "CuPy" if "returned NotImplemented" in text else text
    raise ParadualTypeError(
        f"{what} of an array on a device{user_line()} is refused by CuPy ({text}): it has no such function "
        "or option, or the other operand is on the host. Move what is on the host with "
        "paradual.to_device(a, 'cuda'); or compute this step on the host, with paradual.to_device(x, 'cpu'), "
        "and move the result back"
    ) from error


def _touches(value: Any) -> bool:
    return any(map(_touches, value)) if isinstance(value, list | tuple) else on_device(value)
