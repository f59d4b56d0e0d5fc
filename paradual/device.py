"""To a device and back: the only function of the library by which a value crosses.

The move is linear, and its transpose moves the cotangent back.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from paradual.arrays import dispatch
from paradual.dual import DUALS, primal
from paradual.errors import ParadualTypeError, ParadualValueError, user_line
from paradual.locality import on_device
from paradual.optional import load
from paradual.rules.registry import linear
from paradual.trees import flatten, unflatten

CPU = "cpu"


def to_device(x: Any, device: str) -> Any:
    """Move arrays to a device, or back to the host.

    Parameters
    ----------
    x : pytree
        Arrays and NumPy numbers of any dtype that the device knows, differentiated or not.  Python numbers
        belong to no device, and stay as they are.
    device : str
        ``"cpu"``; ``"cuda"``, the current device of CuPy; ``"cuda:1"``, a device by its number.

    Returns
    -------
    pytree
        The same with CuPy arrays, or with NumPy arrays and (of arrays without dimensions) numbers.  What is
        there already is not copied.  The derivative, of any order and in both modes, is moved as the value
        is: a cotangent goes back to where the operand came from.

    Raises
    ------
    ParadualValueError
        If there is no such device.
    ParadualImportError
        If CuPy is not installed.
    ParadualTypeError
        If something in ``x`` is no number and no array, or of a dtype that no device knows.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([1.0, 2.0])
    >>> to_device(x, "cpu") is x
    True
    """
    leaves, structure = flatten(x)
    target = _named(device)
    return unflatten(structure, [_leaf(leaf, target) for leaf in leaves])


def device_of(x: Any) -> str:
    """Where an array lies: ``"cpu"``, or a name such as ``"cuda:0"``."""
    x = primal(x)
    return f"cuda:{int(x.device.id)}" if on_device(x) else CPU


def move(a: Any, target: str, origin: str) -> Any:
    """An array that lies on one device, on another one; `to_device` for a single array."""
    out = dispatch(move, [a], (a, target, origin))
    if out is not NotImplemented:
        return out
    if target == origin:
        return a
    cupy = _cupy()
    if target == CPU:
        return cupy.asnumpy(a, order="A")[()]
    with cupy.cuda.Device(int(target.partition(":")[2])):
        return cupy.asarray(a)


linear(move, lambda g, target, origin: move(g, origin, target), arrays="a")


def _leaf(leaf: Any, target: str) -> Any:
    value = primal(leaf)
    if isinstance(value, bool | int | float | complex) and not isinstance(value, np.generic):
        return leaf
    dtype = getattr(value, "dtype", None)
    if dtype is None or hasattr(value, "__dask_graph__"):
        what = f"a {type(value).__name__}"
        if hasattr(value, "__dask_graph__"):
            what += ", whose chunks are moved by x.map_blocks(paradual.to_device, 'cuda')"
        raise ParadualTypeError(f"to_device{user_line()} moves arrays and numbers, not {what}")
    if target != CPU and (dtype.kind not in "biufc" or dtype.char in "gG"):
        raise ParadualTypeError(
            f"to_device{user_line()}: no device knows the dtype {dtype}. Cast it, x.astype()"
        )
    origin = device_of(value)
    if origin == target:
        return leaf
    if (
        leaf.__class__ not in DUALS
        and not on_device(value)
        and not isinstance(value, np.ndarray | np.generic)
    ):
        raise ParadualTypeError(f"to_device{user_line()} does not know where a {type(value).__name__} lies")
    return move(leaf, target, origin)


def _named(device: Any) -> str:
    """A device by its number, so that it stays the same when the current one changes."""
    name, colon, number = device.partition(":") if isinstance(device, str) else ("", "", "")
    if name == CPU and not colon:
        return CPU
    if name != "cuda" or (colon and not number.isdigit()):
        raise ParadualValueError(f"the device {device!r} is not known: say 'cpu', 'cuda', or 'cuda:1'")
    cupy = _cupy()
    try:
        count = cupy.cuda.runtime.getDeviceCount()
        chosen = int(number) if colon else int(cupy.cuda.Device().id)
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise ParadualValueError(f"there is no CUDA device here ({error}): use 'cpu'") from error
    if chosen >= count:
        raise ParadualValueError(f"there is no device {device!r}: there are {count}, from cuda:0 on")
    return f"cuda:{chosen}"


def _cupy() -> Any:
    return load(
        *("cupy", "an array on a CUDA device", "paradual[cuda13]"),
        '"paradual[cuda12]" if the driver is for CUDA 12',
    )


__all__ = ["to_device"]
