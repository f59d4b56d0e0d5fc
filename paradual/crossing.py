"""How device arrays in duals, tapes and parcels travel: each by the serialiser that Dask has for it.

Dask looks for serialisers by the type of what is sent, and our types are no arrays.  Between workers that
have a way from device to device (UCX, NVLink) it asks the family "cuda" first: then what we send is a
pickle with the device arrays left out, and those follow as frames of their own.  Elsewhere, and for what
has no device arrays in it, a pickle it is; Dask's pickler takes arrays within it by way of the host.
"""

from __future__ import annotations

import sys
from functools import cache
from typing import Any

from paradual.dual import Dual
from paradual.locality import on_device
from paradual.parcels import Parcel, dumps, loads
from paradual.sizes import arrays_on
from paradual.tape import Tape
from paradual.trees import flatten


class Crate(tuple[Any, ...]):
    """A tuple of ours with device arrays in it: Dask takes a plain one apart, or pickles it."""

    __slots__ = ()


class Listed(list[Any]):
    """The same for a list."""

    __slots__ = ()


def crated(value: Any) -> Any:
    """What a task returns, as something that can travel from device to device where there are devices."""
    if "cupy" not in sys.modules:
        return value
    return Crate(value) if type(value) is tuple else Listed(value) if type(value) is list else value


@cache
def register() -> None:
    """Tell Dask of it, once a process."""
    from distributed.protocol.cuda import cuda_deserialize, cuda_serialize

    for kind in (Dual, Tape, Parcel, Crate, Listed):
        cuda_serialize.register(kind, packed)
        cuda_deserialize.register(kind, unpacked)
    if (spilling := sys.modules.get("dask_cuda.is_device_object")) is not None:
        for kind in (Dual, Tape, Parcel):
            spilling.is_device_object.register(kind, lies_there)


def lies_there(value: Any) -> bool:
    """Whether there is memory of a device in what we send: dask-cuda spills such values from the device."""
    if type(value) is Parcel:
        return any(map(lies_there, flatten(value.value)[0]))
    return any(map(on_device, arrays_on(value))) if type(value) is Tape else on_device(value)


def packed(value: Any) -> tuple[dict[str, Any], list[Any]]:
    """A header and frames: a pickle, and those of each device array.

    Raises
    ------
    NotImplementedError
        If there is none: then Dask tries the next family.
    """
    from distributed.protocol.cuda import cuda_serialize

    arrays: list[Any] = []
    places: dict[int, int] = {}  # {id of an array: its place}: one that is kept twice is sent once

    def left_out(part: Any) -> Any:
        if hasattr(type(part), "place") or not on_device(part):  # a dual is taken apart
            return None
        if id(part) not in places:
            places[id(part)] = len(arrays)
            arrays.append(part)
        return places[id(part)]

    state = (value.value, value.ends, value.seconds, value.worker) if type(value) is Parcel else value
    frames: list[Any] = [dumps((type(value) is Parcel, state), left_out)]
    if not arrays:
        raise NotImplementedError("there is nothing on a device")
    headers = []
    for array in arrays:
        header, parts = cuda_serialize.dispatch(type(array))(array)
        headers.append((type(array), header, len(parts)))
        frames += parts
    return {"arrays": dumps(headers)}, frames


def unpacked(header: dict[str, Any], frames: list[Any]) -> Any:
    """What was packed."""
    from distributed.protocol.cuda import cuda_deserialize

    arrays, at = [], 1
    for kind, inner, n in loads(header["arrays"]):
        arrays.append(cuda_deserialize.dispatch(kind)(inner, frames[at : at + n]))
        at += n
    is_parcel, state = loads(bytes(frames[0]), arrays.__getitem__)
    return Parcel(*state) if is_parcel else state


if "distributed" in sys.modules:  # a worker finds what it is sent by the name of this module
    register()
