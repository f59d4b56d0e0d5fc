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


class Traced:
    """What a function sees of an array or a number while CuPy's `fuse` follows it: operators, and no values.

    It knows nothing of NumPy's protocols, and CuPy's functions take it without an array beside it.
    """

    __hash__ = None

    def __init__(self, content: Any) -> None:
        self._content = content

    @property
    def dtype(self) -> Any:
        return np.result_type(self._content)

    @property
    def ndim(self) -> int:
        return getattr(self._content, "ndim", -1)

    def __bool__(self) -> bool:
        raise TypeError("Cannot convert to Python scalar in cupy.fuse")

    def astype(self, dtype: Any) -> Traced:
        return Traced(self._content.astype(dtype))

    def _operator(name: str, swapped: bool = False) -> Any:
        def apply(self: Traced, *other: Any) -> Any:
            f = getattr(sys.modules["cupy"], name)
            return f(*other, self) if swapped else f(self, *other)

        return apply

    for _name, _method in (
        *(("add", "add"), ("subtract", "sub"), ("multiply", "mul"), ("true_divide", "truediv")),
        *(("floor_divide", "floordiv"), ("remainder", "mod"), ("bitwise_and", "and"), ("bitwise_or", "or")),
    ):
        locals()[f"__{_method}__"] = _operator(_name)
        locals()[f"__r{_method}__"] = _operator(_name, True)
    for _name, _method in (
        *(("power", "pow"), ("negative", "neg"), ("invert", "invert"), ("less", "lt"), ("greater", "gt")),
        *(("less_equal", "le"), ("greater_equal", "ge"), ("equal", "eq"), ("not_equal", "ne")),
    ):
        locals()[f"__{_method}__"] = _operator(_name)


NUMBERS = (np.generic, bool, int, float, complex)


def _traced(f: Any, operands: Any, options: Any) -> Traced:
    """A call of one of CuPy's functions while `fuse` follows: ufuncs and `where`, of what it follows."""
    if options:
        raise TypeError(f"Wrong arguments {options}")
    if not isinstance(f, np.ufunc) and f is not np.where:
        raise NotImplementedError(f"{f.__name__} is not supported in cupy.fuse")
    for x in operands:
        if not isinstance(x, (Traced, *NUMBERS)):
            raise TypeError(f"Unsupported type {type(x)}")
    contents = [x._content if isinstance(x, Traced) else x for x in operands]
    if any(isinstance(x, ndarray) for x in contents):
        return Traced(_call(f, contents, {}))
    with np.errstate(all="ignore"):
        return Traced(f(*contents))


def fuse(*args: Any, **kwargs: Any) -> Any:
    """``cupy.fuse``: what the function does to stand-ins for its arrays, all at once."""

    def decorated(f: Any) -> Any:
        @functools.wraps(f)
        def fused(*operands: Any) -> Any:
            if not any(isinstance(x, ndarray) for x in operands):
                return f(*operands)
            for x in operands:
                if not isinstance(x, (ndarray, *NUMBERS, type(None))):
                    raise TypeError(f"Invalid argument type for '{f.__name__}': ({type(x)})")
            FUSED.append(kwargs.get("kernel_name") or f.__name__)
            out = f(*(None if x is None else Traced(x) for x in operands))
            if isinstance(out, tuple):
                return tuple(_untraced(part) for part in out)
            return _untraced(out)

        return fused

    return decorated(args[0]) if args and callable(args[0]) else decorated


def _untraced(out: Any) -> Any:
    if not isinstance(out, Traced):
        raise TypeError(f"Fusion function can't return {type(out)}")
    return out._content


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
        if any(isinstance(x, Traced) for x in args):
            return _traced(f, args, kwargs)
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
