"""A strict stand-in for CuPy, so that programs for a device are tested where there is none.

`ndarray` computes with NumPy behind both of NumPy's protocols, and refuses what CuPy refuses: implicit
conversion, host arrays in an operation, arrays of another device, functions and parameters that CuPy does
not have (by `cupy_api.txt`), dtypes that a device does not know, atomic additions of complex numbers.  What
CuPy allows at a price is counted in `COUNTS`: transfers between host and device, and synchronisations.
"""

from __future__ import annotations

import operator
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import cupy_api
import numpy as np

VERSION = "14.2.0"
DEVICES = 2
COUNTS: Counter[str] = Counter()
FUSED: list[str] = []  # the functions that went through `fuse`
_CURRENT = threading.local()

KNOWN = frozenset("?bBhHiIlLqQefdFD")
COMPARISONS = (np.less, np.less_equal, np.equal, np.not_equal, np.greater, np.greater_equal)
ATOMIC = (np.int32, np.float16, np.float32, np.float64, np.uint32, np.uint64, np.ulonglong)
# what waits for the device: the shape of the result, or whether there is one, depends on the values
_WAITS = """
    nonzero flatnonzero argwhere unique extract compress bincount histogram digitize isin setdiff1d
    intersect1d union1d trim_zeros allclose array_equal average median nanmedian percentile quantile
    solve inv cholesky qr svd eig eigh eigvals eigvalsh lstsq pinv matrix_rank det slogdet tensorinv
    tensorsolve choose common_type piecewise unwrap interp histogram2d histogramdd norm
"""
WAITS = frozenset(_WAITS.split())


def current() -> int:
    """The number of the device that new arrays go to."""
    return int(getattr(_CURRENT, "device", 0))


class Device:
    """``cupy.cuda.Device``."""

    def __init__(self, number: Any = None) -> None:
        self.id = current() if number is None else int(getattr(number, "id", number))
        if not 0 <= self.id < DEVICES:
            raise CUDARuntimeError("cudaErrorInvalidDevice: invalid device ordinal")
        self._before: list[int] = []

    def __enter__(self) -> Device:
        self._before.append(current())
        _CURRENT.device = self.id
        return self

    def __exit__(self, *error: Any) -> None:
        _CURRENT.device = self._before.pop()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and other.id == self.id

    def __hash__(self) -> int:
        return self.id

    def __repr__(self) -> str:
        return f"<CUDA Device {self.id}>"

    def use(self) -> None:
        _CURRENT.device = self.id

    def synchronize(self) -> None:
        COUNTS["synchronize"] += 1


class CUDARuntimeError(RuntimeError):
    """``cupy.cuda.runtime.CUDARuntimeError``."""


class Pointer:
    """``cupy.ndarray.data``: where an array lies."""

    def __init__(self, array: np.ndarray, device: int) -> None:
        self.ptr, self.device_id = array.__array_interface__["data"][0], device


class Flags:
    """``cupy.ndarray.flags``, which knows nothing of writing or alignment."""

    def __init__(self, c: bool, f: bool, own: bool) -> None:
        self.c_contiguous, self.f_contiguous, self.owndata = c, f, own
        self.fnc, self.forc = f and not c, f or c

    def __getitem__(self, name: str) -> bool:
        return bool({"C_CONTIGUOUS": self.c_contiguous, "F_CONTIGUOUS": self.f_contiguous}[name])


class ndarray:
    """``cupy.ndarray``."""

    __slots__ = ("__weakref__", "_array", "_device", "base")
    __array_priority__ = 100
    __hash__ = None
    __module__ = "cupy"

    def __init__(self, array: np.ndarray, device: int | None = None, base: ndarray | None = None) -> None:
        if array.dtype.char not in KNOWN:
            raise ValueError(f"Unsupported dtype {array.dtype}")
        self._array, self.base = array, base
        self._device = current() if device is None else device

    def __reduce__(self) -> Any:
        COUNTS["to_host"] += 1  # CuPy pickles by way of the host
        return _restored, (self._array, self._device)

    # --- NumPy's protocols ---------------------------------------------------------------------------------

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct a NumPy "
            "array explicitly."
        )

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if method not in ("__call__", "reduce", "accumulate", "outer", "at", "reduceat"):
            return NotImplemented
        if cupy_api.signature(f"ufunc.{ufunc.__name__}") is None:
            return NotImplemented
        out = kwargs.get("out")
        if out is not None:
            if len(out) != 1:
                raise ValueError("The 'out' parameter must have exactly one array value")
            kwargs["out"] = out[0]
        for part in (*inputs, *([] if out is None else out)):
            if not isinstance(part, ndarray | np.ndarray | np.generic | bool | int | float | complex):
                return NotImplemented
        if unknown := set(kwargs) - {"out", "dtype", "casting", "where", "axis", "keepdims"}:
            raise TypeError(f"Wrong arguments {unknown}")
        if ufunc in COMPARISONS:  # NumPy makes an array of a number on the left: CuPy looks into it
            inputs = tuple(x[()] if isinstance(x, np.ndarray) and not x.ndim else x for x in inputs)
        if method == "at":
            target, index, *values = inputs
            if ufunc is np.add:
                target.scatter_add(index, *values)
                return None
            raise TypeError(f"{ufunc.__name__}.at is not supported")
        if method == "__call__" and ufunc.nin > len(inputs) == 1 and out is None:
            raise TypeError("invalid number of arguments")
        return _computed(getattr(ufunc, method), inputs, kwargs)

    def __array_function__(self, f: Any, types: Any, args: Any, kwargs: Any) -> Any:
        found = cupy_api.signature(f"{f.__module__}.{f.__name__}")
        if found is None or not all(t in (ndarray, np.ndarray) for t in types):
            return NotImplemented
        try:
            found.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{f.__name__}() {error}") from None
        return _call(f, args, kwargs)

    # --- what costs a transfer or a synchronisation --------------------------------------------------------

    def get(self, *args: Any, **kwargs: Any) -> np.ndarray:
        COUNTS["to_host"] += 1
        return self._array.copy(order="A")

    def _waited(self) -> Any:
        COUNTS["synchronize"] += 1
        return self._array

    def __bool__(self) -> bool:
        return bool(self._waited())

    def __int__(self) -> int:
        return int(self._waited())

    def __float__(self) -> float:
        return float(self._waited())

    def __complex__(self) -> complex:
        return complex(self._waited())

    def item(self) -> Any:
        return self._waited().item()

    def tolist(self) -> Any:
        return self._waited().tolist()

    def __repr__(self) -> str:
        return repr(self._waited())

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(self._waited()[()], spec)

    def set(self, array: np.ndarray) -> None:
        COUNTS["to_device"] += 1
        self._array[...] = array

    # --- elements ------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._array)

    def __iter__(self) -> Iterator[Any]:
        if not self.ndim:
            raise TypeError("iteration over a 0-d array")
        return (self[k] for k in range(len(self)))

    def __getitem__(self, index: Any) -> Any:
        return _wrapped(self._array[_index(self, index)], (self,))

    def __setitem__(self, index: Any, value: Any) -> None:
        if isinstance(value, np.ndarray):
            raise ValueError("non-scalar numpy.ndarray cannot be used for fill")
        self._array[_index(self, index)] = _bare(value, self._device)

    def scatter_add(self, index: Any, value: Any) -> None:
        """``cupyx.scatter_add``."""
        parts = index if isinstance(index, tuple) else (index,)
        numbers = any(getattr(p, "dtype", np.dtype("V")).kind in "iu" and np.ndim(p) for p in parts)
        if numbers and not issubclass(self.dtype.type, ATOMIC):
            raise TypeError("scatter_add only supports int32, float16, float32, float64, uint32, uint64")
        if isinstance(value, np.ndarray):
            raise TypeError(f"Unsupported type {np.ndarray}")
        np.add.at(self._array, _index(self, index), _bare(value, self._device))

    # --- attributes ----------------------------------------------------------------------------------------

    @property
    def device(self) -> Device:
        return Device(self._device)

    @property
    def data(self) -> Pointer:
        return Pointer(self._array, self._device)

    @property
    def flags(self) -> Flags:
        flags = self._array.flags
        return Flags(flags.c_contiguous, flags.f_contiguous, self.base is None)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {"shape": self.shape, "typestr": self.dtype.str, "data": (self.data.ptr, False), "version": 3}

    @property
    def T(self) -> Any:
        return _wrapped(self._array.T, (self,))

    @property
    def mT(self) -> Any:
        return _wrapped(self._array.mT, (self,))

    @property
    def real(self) -> Any:
        return _wrapped(self._array.real, (self,)) if self.dtype.kind == "c" else self

    @real.setter
    def real(self, value: Any) -> None:
        self._array.real = _bare(value, self._device)

    @property
    def imag(self) -> Any:
        return _wrapped(self._array.imag, (self,))

    @imag.setter
    def imag(self, value: Any) -> None:
        self._array.imag = _bare(value, self._device)

    def __copy__(self) -> Any:
        return self.copy()

    def __deepcopy__(self, memo: Any) -> Any:
        return self.copy()


def _restored(array: np.ndarray, device: int) -> ndarray:
    """An array that was pickled, perhaps in a process that has not met this module."""
    from fake_device import install

    install()
    COUNTS["to_device"] += 1
    return ndarray(array, device)


# --- computing with NumPy ----------------------------------------------------------------------------------


def _bare(value: Any, device: int | None = None) -> Any:
    """A value for NumPy: what is on the host, or on another device, is refused."""
    if isinstance(value, ndarray):
        if value._device != (current() if device is None else device):
            raise ValueError(
                "Array device must be same as the current device: array device = "
                f"{value._device} while current = {current() if device is None else device}"
            )
        return value._array
    if isinstance(value, np.ndarray):
        raise TypeError(f"Unsupported type {np.ndarray}")
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return type(value)(_bare(part, device) for part in value)
    return value


def _device_of(values: Any) -> int | None:
    for value in values:
        if isinstance(value, ndarray):
            return value._device
        if isinstance(value, list | tuple) and (found := _device_of(value)) is not None:
            return found
    return None


def _arrays(values: Any) -> Iterator[ndarray]:
    for value in values:
        if isinstance(value, ndarray):
            yield value
        elif isinstance(value, list | tuple):
            yield from _arrays(value)


def _computed(f: Any, args: Any, kwargs: Any) -> Any:
    with np.errstate(all="ignore"):  # a device reports nothing
        out = f(*_bare(list(args)), **{name: _bare(v) for name, v in kwargs.items()})
    if isinstance(kwargs.get("out"), ndarray):
        return kwargs["out"]
    return _wrapped(out, tuple(_arrays([*args, *kwargs.values()])))


def _call(f: Any, args: Any, kwargs: Any) -> Any:
    """CuPy's function of the same name."""
    if f.__name__ in WAITS or (f is np.where and len(args) == 1):
        COUNTS["waits"] += 1
    if f is np.take and isinstance(args[1], np.ndarray | list | tuple):
        COUNTS["to_device"] += 1
        args = (args[0], ndarray(np.asarray(args[1])), *args[2:])
    if f in (np.asarray, np.asanyarray, np.array, np.ascontiguousarray):
        return asarray(*args, **kwargs)
    if f in (np.zeros_like, np.ones_like, np.empty_like, np.full_like) and "device" in kwargs:
        raise TypeError("got an unexpected keyword argument 'device'")
    if f in (np.squeeze, np.real) and isinstance(out := args[0], ndarray):
        same = _computed(f, args, kwargs)
        return out if same.shape == out.shape and same.dtype == out.dtype else same
    return _computed(f, args, kwargs)


def _wrapped(value: Any, owners: tuple[ndarray, ...]) -> Any:
    """What NumPy returned, on the device; a view knows whose memory it is."""
    if isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
        if array.dtype.char not in KNOWN:
            raise ValueError(f"Unsupported dtype {array.dtype}")
        device = owners[0]._device if owners else current()
        root = _root(array)
        for owner in owners:
            if _root(owner._array) is root:
                return ndarray(array, device, owner if owner.base is None else owner.base)
        return ndarray(array if array.base is None else array.copy(order="K"), device)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_wrapped(part, owners) for part in value))
    if isinstance(value, list | tuple):
        return type(value)(_wrapped(part, owners) for part in value)
    return value


def _root(array: Any) -> Any:
    while isinstance(getattr(array, "base", None), np.ndarray):
        array = array.base
    return array


def _index(target: ndarray, index: Any) -> Any:
    """An index for NumPy; CuPy sends lists and host arrays to the device, and takes one mask at most."""
    parts = index if isinstance(index, tuple) else (index,)
    found, masks, arrays = [], 0, 0
    for part in parts:
        if isinstance(part, list | np.ndarray) and np.ndim(part):
            COUNTS["to_device"] += 1
            part = np.asarray(part) if len(part) else np.asarray(part, int)
        elif isinstance(part, ndarray):
            part = _bare(part, target._device)
        elif not isinstance(part, int | slice | np.integer | type(None) | type(Ellipsis) | bool):
            raise IndexError(f"{type(part)} is no valid index")
        if isinstance(part, np.ndarray):
            if part.dtype.kind not in "iub":
                raise IndexError("arrays used as indices must be of integer or boolean type.")
            masks += part.dtype.kind == "b"
            arrays += 1
        found.append(part)
    if masks:
        if arrays > 1:
            raise ValueError("currently, CuPy only supports slices that consist of one boolean array.")
        COUNTS["mask"] += 1  # CuPy counts the entries of a mask on the host
    return tuple(found)


# --- methods and operators ---------------------------------------------------------------------------------


def _method(name: str) -> Any:
    found = cupy_api.signature(f"ndarray.{name}")

    def method(self: ndarray, *args: Any, **kwargs: Any) -> Any:
        assert found is not None
        try:
            found.bind(self, *args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{name}() {error}") from None
        if name in WAITS:
            COUNTS["waits"] += 1
        if name == "astype" and np.dtype(args[0] if args else kwargs["dtype"]).char not in KNOWN:
            raise ValueError(f"Unsupported dtype {args or kwargs}")
        device = self._device
        given = [_bare(a, device) for a in args]
        with np.errstate(all="ignore"):
            out = getattr(self._array, name)(*given, **{n: _bare(v, device) for n, v in kwargs.items()})
        if out is self._array:
            return self
        return _wrapped(out, (self,))

    method.__name__ = name
    return method


def _operator(ufunc: Any, swapped: bool = False) -> Any:
    def apply(self: ndarray, other: Any) -> Any:
        if not isinstance(other, ndarray) and not swapped:
            theirs = getattr(other, "__array_priority__", 0)
            if not isinstance(other, np.ndarray) and theirs > self.__array_priority__:
                return NotImplemented
        return ufunc(other, self) if swapped else ufunc(self, other)

    return apply


def _in_place(ufunc: Any) -> Any:
    def apply(self: ndarray, other: Any) -> Any:
        if not isinstance(other, ndarray | np.ndarray | np.generic | bool | int | float | complex):
            raise TypeError(f"Unsupported type {type(other)}")
        return ufunc(self, other, out=self)

    return apply


_ARITHMETIC = {
    **{"add": np.add, "sub": np.subtract, "mul": np.multiply, "truediv": np.true_divide, "mod": np.remainder},
    **{"floordiv": np.floor_divide, "pow": np.power, "and": np.bitwise_and, "or": np.bitwise_or},
    **{"xor": np.bitwise_xor, "lshift": np.left_shift, "rshift": np.right_shift},
}
for _name, _ufunc in _ARITHMETIC.items():
    setattr(ndarray, f"__{_name}__", _operator(_ufunc))
    setattr(ndarray, f"__r{_name}__", _operator(_ufunc, True))
    setattr(ndarray, f"__i{_name}__", _in_place(_ufunc))
for _short, _ufunc in (
    *(("lt", np.less), ("le", np.less_equal), ("gt", np.greater), ("ge", np.greater_equal)),
    *(("eq", np.equal), ("ne", np.not_equal)),
):
    setattr(ndarray, f"__{_short}__", _operator(_ufunc))
ndarray.__matmul__ = _operator(np.matmul)
ndarray.__rmatmul__ = _operator(np.matmul, True)
for _name, _ufunc in (
    ("neg", np.negative),
    ("pos", np.positive),
    ("abs", np.absolute),
    ("invert", np.invert),
):
    setattr(ndarray, f"__{_name}__", (lambda ufunc: lambda self: ufunc(self))(_ufunc))
for _row, _text in cupy_api.table().items():
    _kind, _, _name = _row.partition(".")
    if _kind == "ndarray" and _text != cupy_api.ABSENT and not hasattr(ndarray, _name):
        setattr(ndarray, _name, _method(_name))
for _name in ("shape", "dtype", "ndim", "size", "nbytes", "itemsize", "strides"):
    setattr(ndarray, _name, property(operator.attrgetter(f"_array.{_name}")))


def asarray(a: Any, dtype: Any = None, order: Any = None, **kwargs: Any) -> ndarray:
    """``cupy.asarray``: from the host, or from another device to the current one."""
    if isinstance(a, ndarray):
        if a._device != current():
            COUNTS["between"] += 1
            a = ndarray(a._array.copy(order="K"), current())
        return a if dtype is None or a.dtype == dtype else a.astype(dtype)
    COUNTS["to_device"] += 1
    array = np.array(a, dtype, order=order or "K")
    return ndarray(array)
