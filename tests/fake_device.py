"""The modules around the stand-in of `fake_cupy`: ``cupy`` and ``cupyx``, and how they are put in place."""

from __future__ import annotations

import functools
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from types import ModuleType
from typing import Any

import cupy_api
import numpy as np
from fake_cupy import COUNTS, DEVICES, FUSED, VERSION, CUDARuntimeError, Device, _call, asarray, ndarray


def asnumpy(a: Any, *args: Any, **kwargs: Any) -> np.ndarray:
    """``cupy.asnumpy``."""
    return a.get() if isinstance(a, ndarray) else np.asarray(a)


def fuse(*args: Any, **kwargs: Any) -> Any:
    """``cupy.fuse``, which here only remembers what it was given."""

    def decorated(f: Any) -> Any:
        @functools.wraps(f)
        def fused(*operands: Any) -> Any:
            FUSED.append(kwargs.get("kernel_name") or f.__name__)
            return f(*operands)

        return fused

    return decorated(args[0]) if args and callable(args[0]) else decorated


def scatter_add(a: ndarray, slices: Any, value: Any) -> None:
    """``cupyx.scatter_add``."""
    a.scatter_add(slices, value)


class Event:
    """``cupy.cuda.Event``."""

    def record(self) -> None:
        self.at = perf_counter()

    def synchronize(self) -> None:
        COUNTS["synchronize"] += 1


def elapsed(start: Event, end: Event) -> float:
    """``cupy.cuda.get_elapsed_time``, in milliseconds."""
    return 1000 * (end.at - start.at)


def _function(name: str, f: Any) -> Any:
    """``cupy.name``: what the protocols lead to, without them, so that it knows device arrays alone."""
    found = cupy_api.signature(name)
    assert found is not None

    def function(*args: Any, **kwargs: Any) -> Any:
        try:
            found.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{f.__name__}() {error}") from None
        _check([*args, *kwargs.values()])
        return _call(f, args, kwargs)

    function.__name__, function.__module__ = f.__name__, "cupy"
    return function


def _check(values: Any) -> None:
    for value in values:
        if isinstance(value, list | tuple):
            _check(value)
        elif hasattr(type(value), "__array_ufunc__") and not isinstance(value, ndarray | np.generic):
            raise TypeError(f"Unsupported type {type(value)}")


def modules() -> dict[str, ModuleType]:
    """``cupy`` and ``cupyx``, as far as they are needed."""
    cupy, cupyx = ModuleType("cupy"), ModuleType("cupyx")
    for row, text in cupy_api.table().items():
        kind, _, name = row.partition(".")
        if kind in ("numpy", "ufunc") and "." not in name and text != cupy_api.ABSENT:
            setattr(cupy, name, _function(row, getattr(np, name)))
    cupy.newaxis = None
    cupy.__dict__.update(
        __version__=VERSION, ndarray=ndarray, asnumpy=asnumpy, asarray=asarray, array=asarray, fuse=fuse,
        dtype=np.dtype, is_available=lambda: True,
        get_array_module=lambda *a: cupy if any(isinstance(x, ndarray) for x in a) else np,
    )  # fmt: skip
    cuda, runtime = ModuleType("cupy.cuda"), ModuleType("cupy.cuda.runtime")
    runtime.__dict__.update(getDeviceCount=lambda: DEVICES, CUDARuntimeError=CUDARuntimeError)
    cuda.__dict__.update(Device=Device, Event=Event, get_elapsed_time=elapsed, runtime=runtime)
    cupy.cuda, cupyx.scatter_add = cuda, scatter_add
    return {"cupy": cupy, "cupy.cuda": cuda, "cupy.cuda.runtime": runtime, "cupyx": cupyx}


def install() -> None:
    """Let ``import cupy`` find the stand-in from now on, in this process."""
    if not isinstance(sys.modules.get("cupy"), ModuleType):
        sys.modules.update(modules())
    register()


@functools.cache
def register() -> None:
    """What Dask's own serialisers do with CuPy's arrays (with the help of numba), they do with these."""
    from distributed.protocol.cuda import cuda_deserialize, cuda_serialize
    from distributed.protocol.serialize import dask_deserialize, dask_serialize

    def described(x: ndarray) -> dict[str, Any]:
        order = "F" if x.flags.f_contiguous and not x.flags.c_contiguous else "C"
        return {"shape": x.shape, "dtype": x.dtype.str, "order": order, "device": x.device.id}

    def restored(header: dict[str, Any], frame: Any) -> ndarray:
        array = np.ndarray(header["shape"], header["dtype"], bytearray(frame), order=header["order"])
        return ndarray(array, header["device"])

    def by_way_of_the_host(x: ndarray) -> Any:
        header = described(x)
        return header, [memoryview(x.get().tobytes(order=header["order"]))]

    def from_the_host(header: Any, frames: Any) -> ndarray:
        COUNTS["to_device"] += 1
        return restored(header, frames[0])

    def from_peer(x: ndarray) -> Any:
        COUNTS["peer"] += 1
        header = described(x)
        return header, [x._array.tobytes(order=header["order"])]

    dask_serialize.register(ndarray, by_way_of_the_host)
    dask_deserialize.register(ndarray, from_the_host)
    cuda_serialize.register(ndarray, from_peer)
    cuda_deserialize.register(ndarray, lambda header, frames: restored(header, frames[0]))


@contextmanager
def device() -> Iterator[Counter[str]]:
    """The stand-in is there within the context, which counts transfers and synchronisations."""
    before = {name: sys.modules.get(name) for name in modules()}
    sys.modules.update(modules())
    register()
    COUNTS.clear()
    try:
        yield COUNTS
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
