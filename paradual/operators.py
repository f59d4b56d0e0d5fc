"""What a dual looks like from outside: NumPy's two protocols, Python's operators, ndarray's methods.

Arithmetic of Python floats is written out, because scalar programs are made of nothing else: such a
record is the paper's Contrib, operands and partial derivatives.  Everything else goes to `call`.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any

import numpy as np

from paradual.apply import FLOATS, NUMBERS, binary, call, getitem, scalar, unary
from paradual.arrays import cast, shape_of
from paradual.dual import Dual, primal
from paradual.errors import NotDifferentiableError, ParadualTypeError, user_line
from paradual.inplace import CREATE, Flat, assign, created, real_part, setitem, split_out, write_out
from paradual.rules.creation import in_order
from paradual.tape import ACTIVE
from paradual.ufuncs import ufunc_call

_new = Dual.__new__

_CAST = (
    "{0}() of a value that is being differentiated{1}: its derivative would be lost. Use the value "
    "as it is, with NumPy functions (np.sin(x), not math.sin(x)). An element of a plain array cannot "
    "hold it either (y[i] = x): collect the values in a list, and np.stack it. For a value that is "
    "meant to be constant write {0}(paradual.stop_gradient(x))"
)


class Operators(Dual):
    """The methods that `Dual` gets at the end of this module (a subclass for the type checker only)."""

    __slots__ = ()

    # --- NumPy's protocols ------------------------------------------------------------------------

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if method == "__call__" and not kwargs:
            if len(inputs) == 1:
                return unary(ufunc, inputs[0])
            if len(inputs) == 2:
                return binary(ufunc, *inputs)
        return ufunc_call(ufunc, method, inputs, kwargs)

    def __array_function__(self, f: Any, types: Any, args: Any, kwargs: Any) -> Any:
        out, args, kwargs = split_out(f, args, kwargs)
        if out is not None:
            return write_out(out, call(f, args, kwargs))
        return created(f, args, kwargs, self) if f in CREATE else call(f, args, kwargs)

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        raise ParadualTypeError(
            "a value that is being differentiated cannot be turned into a plain array"
            f"{user_line()}: its derivative would be lost. Instead of np.array([a, b]) write "
            "np.stack([a, b]); instead of np.asarray(x) use x as it is; call NumPy functions, not C "
            "code; for a value that is meant to be constant write paradual.stop_gradient(x)"
        )

    # --- arithmetic: Python floats record the paper's Contrib, everything else goes to `binary` ---

    def __add__(self, other: Any) -> Any:
        a = self.value
        if a.__class__ in FLOATS:
            tape = ACTIVE.get()[-1]
            records = tape.records
            if self.home is tape.home and records is not None:
                if other.__class__ is Dual:
                    b = other.value
                    if b.__class__ in FLOATS and other.home is self.home:
                        out = _new(Dual)
                        out.value = a + b
                        out.home = self.home
                        out.place = len(records)
                        records.append((self.place, 1.0, other.place, 1.0))
                        return out
                elif other.__class__ in NUMBERS:
                    out = _new(Dual)
                    out.value = a + other
                    out.home = self.home
                    out.place = len(records)
                    records.append((self.place, 1.0))
                    return out
            elif records is None:
                b = other.value if other.__class__ is Dual else other
                if b.__class__ in NUMBERS:
                    pushed = scalar(a + b, self, 1.0, other, 1.0)
                    if pushed is not None:
                        return pushed
        return binary(np.add, self, other, operator.add)

    def __sub__(self, other: Any) -> Any:
        a = self.value
        if a.__class__ in FLOATS:
            tape = ACTIVE.get()[-1]
            records = tape.records
            if self.home is tape.home and records is not None:
                if other.__class__ is Dual:
                    b = other.value
                    if b.__class__ in FLOATS and other.home is self.home:
                        out = _new(Dual)
                        out.value = a - b
                        out.home = self.home
                        out.place = len(records)
                        records.append((self.place, 1.0, other.place, -1.0))
                        return out
                elif other.__class__ in NUMBERS:
                    out = _new(Dual)
                    out.value = a - other
                    out.home = self.home
                    out.place = len(records)
                    records.append((self.place, 1.0))
                    return out
            elif records is None:
                b = other.value if other.__class__ is Dual else other
                if b.__class__ in NUMBERS:
                    pushed = scalar(a - b, self, 1.0, other, -1.0)
                    if pushed is not None:
                        return pushed
        return binary(np.subtract, self, other, operator.sub)

    def __mul__(self, other: Any) -> Any:
        a = self.value
        if a.__class__ in FLOATS:
            tape = ACTIVE.get()[-1]
            records = tape.records
            if self.home is tape.home and records is not None:
                if other.__class__ is Dual:
                    b = other.value
                    if b.__class__ in FLOATS and other.home is self.home:
                        out = _new(Dual)
                        out.value = a * b
                        out.home = self.home
                        out.place = len(records)
                        records.append((self.place, b, other.place, a))
                        return out
                elif other.__class__ in NUMBERS:
                    out = _new(Dual)
                    out.value = a * other
                    out.home = self.home
                    out.place = len(records)
                    records.append((self.place, other))
                    return out
            elif records is None:
                b = other.value if other.__class__ is Dual else other
                if b.__class__ in NUMBERS:
                    pushed = scalar(a * b, self, b, other, a)
                    if pushed is not None:
                        return pushed
        return binary(np.multiply, self, other, operator.mul)

    def __truediv__(self, other: Any) -> Any:
        a = self.value
        b = other.value if other.__class__ is Dual else other
        if a.__class__ in FLOATS and b.__class__ in NUMBERS and b:
            q = a / b
            out = scalar(q, self, 1.0 / b, other, -q / b)
            if out is not None:
                return out
        return binary(np.true_divide, self, other, operator.truediv)

    def __pow__(self, other: Any) -> Any:
        a = self.value
        # elsewhere the derivative may not exist, or overflow where the power does not
        if a.__class__ in FLOATS and other.__class__ in NUMBERS and other >= 1 and (a > 0 or other in (1, 2)):
            out = scalar(a**other, self, other * a ** (other - 1), None, None)
            if out is not None:
                return out
        return binary(np.power, self, other, operator.pow)

    def __neg__(self) -> Any:
        if self.value.__class__ in FLOATS:
            out = scalar(-self.value, self, -1.0, None, None)
            if out is not None:
                return out
        return unary(np.negative, self, operator.neg)

    def __radd__(self, other: Any) -> Any:
        if self.value.__class__ in FLOATS and other.__class__ in NUMBERS:
            out = scalar(other + self.value, self, 1.0, None, None)
            if out is not None:
                return out
        return binary(np.add, other, self, operator.add)

    def __rsub__(self, other: Any) -> Any:
        if self.value.__class__ in FLOATS and other.__class__ in NUMBERS:
            out = scalar(other - self.value, self, -1.0, None, None)
            if out is not None:
                return out
        return binary(np.subtract, other, self, operator.sub)

    def __rmul__(self, other: Any) -> Any:
        if self.value.__class__ in FLOATS and other.__class__ in NUMBERS:
            out = scalar(other * self.value, self, other, None, None)
            if out is not None:
                return out
        return binary(np.multiply, other, self, operator.mul)

    def __rtruediv__(self, other: Any) -> Any:
        a = self.value
        if a.__class__ in FLOATS and other.__class__ in NUMBERS and a:
            q = other / a
            out = scalar(q, self, -q / a, None, None)
            if out is not None:
                return out
        return binary(np.true_divide, other, self, operator.truediv)

    def __rpow__(self, other: Any) -> Any:
        return binary(np.power, other, self, operator.pow)

    def __mod__(self, other: Any) -> Any:
        return binary(np.remainder, self, other, operator.mod)

    def __rmod__(self, other: Any) -> Any:
        return binary(np.remainder, other, self, operator.mod)

    def __matmul__(self, other: Any) -> Any:
        return binary(np.matmul, self, other)

    def __rmatmul__(self, other: Any) -> Any:
        return binary(np.matmul, other, self)

    def __floordiv__(self, other: Any) -> Any:
        return operator.floordiv(primal(self), primal(other))

    def __rfloordiv__(self, other: Any) -> Any:
        return operator.floordiv(other, primal(self))

    def __divmod__(self, other: Any) -> Any:
        return self // other, self % other

    def __rdivmod__(self, other: Any) -> Any:
        return other // self, other % self

    def __pos__(self) -> Any:
        return unary(np.positive, self, operator.pos)

    def __abs__(self) -> Any:
        return unary(np.absolute, self, abs)

    # --- augmented assignment: see `assign` ------------------------------------------------------

    def __iadd__(self, other: Any) -> Any:
        return assign(self, self + other)

    def __isub__(self, other: Any) -> Any:
        return assign(self, self - other)

    def __imul__(self, other: Any) -> Any:
        return assign(self, self * other)

    def __itruediv__(self, other: Any) -> Any:
        return assign(self, self / other)

    def __ipow__(self, other: Any) -> Any:
        return assign(self, self**other)

    def __imod__(self, other: Any) -> Any:
        return assign(self, self % other)

    def __imatmul__(self, other: Any) -> Any:
        return assign(self, self @ other)

    def __ifloordiv__(self, other: Any) -> Any:
        return assign(self, self // other)

    def __setitem__(self, index: Any, value: Any) -> None:
        setitem(self, index, value)

    # --- comparisons and casts look at the primal only --------------------------------------------

    def __eq__(self, other: object) -> Any:
        return primal(self) == primal(other)

    def __ne__(self, other: object) -> Any:
        return primal(self) != primal(other)

    def __lt__(self, other: Any) -> Any:
        return primal(self) < primal(other)

    def __le__(self, other: Any) -> Any:
        return primal(self) <= primal(other)

    def __gt__(self, other: Any) -> Any:
        return primal(self) > primal(other)

    def __ge__(self, other: Any) -> Any:
        return primal(self) >= primal(other)

    def __bool__(self) -> bool:
        return bool(primal(self))

    def __int__(self) -> int:
        return int(primal(self))

    def __trunc__(self) -> int:
        return int(primal(self))

    def __floor__(self) -> int:
        return int(np.floor(primal(self)))

    def __ceil__(self) -> int:
        return int(np.ceil(primal(self)))

    def __round__(self, ndigits: int | None = None) -> Any:
        return round(primal(self), ndigits)

    def __float__(self) -> float:
        raise ParadualTypeError(_CAST.format("float", user_line()))

    def __complex__(self) -> complex:
        raise ParadualTypeError(_CAST.format("complex", user_line()))

    def __index__(self) -> int:
        raise ParadualTypeError(
            f"a value that is being differentiated cannot be an index{user_line()}: an index is an "
            "integer and carries no derivative. Write int(paradual.stop_gradient(x))"
        )

    def __format__(self, spec: str) -> str:
        return format(primal(self), spec)

    # --- containers ---------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.value)

    def __getitem__(self, index: Any) -> Any:
        return getitem(self, index)

    def __iter__(self) -> Iterator[Any]:
        return (self[k] for k in range(len(self)))

    def __contains__(self, item: Any) -> bool:
        return primal(item) in primal(self)

    # --- attributes (methods that only forward to a NumPy function are added in `paradual.methods`) --

    @property
    def shape(self) -> tuple[int, ...]:
        return shape_of(self.value)

    @property
    def dtype(self) -> Any:
        value = self.value
        return value.dtype if hasattr(value, "dtype") else np.dtype(type(value))

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=int))

    @property
    def itemsize(self) -> int:
        return int(self.dtype.itemsize)

    @property
    def nbytes(self) -> int:
        return self.size * self.itemsize

    @property
    def T(self) -> Any:
        return np.transpose(self)

    @property
    def mT(self) -> Any:
        return np.swapaxes(self, -1, -2)

    @property
    def real(self) -> Any:
        return np.real(self) if self.dtype.kind == "c" else self

    @real.setter
    def real(self, value: Any) -> None:
        self[...] = real_part(value) + 1j * np.imag(self) if self.dtype.kind == "c" else value

    @property
    def imag(self) -> Any:
        return np.imag(self)

    @imag.setter
    def imag(self, value: Any) -> None:
        if self.dtype.kind != "c":
            raise TypeError("array does not have imaginary part to set")
        self[...] = np.real(self) + 1j * real_part(value)

    @property
    def flat(self) -> Any:
        return Flat(self)

    @flat.setter
    def flat(self, value: Any) -> None:
        Flat(self)[:] = value

    # --- ndarray's methods, where they are not simply the NumPy function of the same name -------------

    def transpose(self, *axes: Any) -> Any:
        return np.transpose(self, _one(axes))

    def reshape(self, *shape: Any, order: Any = "C", copy: Any = None) -> Any:
        return np.reshape(self.copy() if copy else self, _one(shape), order=order)

    def flatten(self, order: Any = "C") -> Any:
        return np.copy(np.ravel(self, order))

    def astype(
        self, dtype: Any, order: Any = "K", casting: Any = "unsafe", subok: bool = True, copy: bool = True
    ) -> Any:
        dtype = np.dtype(dtype)
        if dtype.kind == "O":
            raise ParadualTypeError(_CAST.format("object", user_line()))
        if dtype.kind not in "fc":
            return primal(self).astype(dtype, order, casting, subok, copy)
        if casting != "unsafe":
            np.empty(0, self.dtype).astype(dtype, casting=casting)  # refuses what NumPy refuses
        return in_order(cast(self, dtype) if copy or dtype != self.dtype else self, order)

    def copy(self, order: Any = "C") -> Any:
        out = np.copy(self, order=order)
        return out[()] if isinstance(primal(self), np.generic) else out  # np.copy makes arrays of numbers

    def sort(self, axis: int = -1, **kwargs: Any) -> None:
        self[...] = np.sort(self, axis, **kwargs)

    def partition(self, kth: Any, axis: int = -1, *args: Any, **kwargs: Any) -> None:
        self[...] = np.partition(self, kth, axis, *args, **kwargs)

    def fill(self, value: Any) -> None:
        self[...] = value

    def put(self, indices: Any, values: Any, mode: Any = "raise") -> None:
        np.put(self, indices, values, mode)  # type: ignore[arg-type]

    def item(self, *index: Any) -> Any:
        if not index and self.size != 1:
            raise ValueError("can only convert an array of size 1 to a Python scalar")
        at = _one(index) if index else 0
        return self[at] if isinstance(at, tuple) and len(at) != 1 else np.ravel(self)[at]

    def tolist(self) -> Any:
        return self if self.ndim == 0 else [part.tolist() for part in self]

    def conj(self) -> Any:
        return np.conjugate(self) if self.dtype.kind == "c" else self  # NumPy's method makes no copy

    conjugate = conj

    def view(self, dtype: Any = None, type: Any = None) -> Any:
        if type is not None or (dtype is not None and dtype != self.dtype):
            raise NotDifferentiableError(f"x.view(dtype) of a dual{user_line()}: write x.astype()")
        return np.reshape(self, self.shape)

    def clip(self, min: Any = None, max: Any = None, *args: Any, **kwargs: Any) -> Any:
        return np.clip(self, min, max, *args, **kwargs)

    def compress(self, condition: Any, axis: Any = None) -> Any:
        return np.compress(condition, self, axis)

    def tobytes(self, *args: Any) -> Any:
        raise ParadualTypeError(_CAST.format("bytes", user_line()))


def _one(args: tuple[Any, ...]) -> Any:
    """``x.reshape(2, 3)`` and ``x.reshape((2, 3))`` mean the same."""
    if not args:
        return None
    return args[0] if len(args) == 1 and not isinstance(args[0], int) else args


def _method(name: str) -> Any:
    function = getattr(np, name)

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return function(self, *args, **kwargs)

    method.__name__ = name
    return method


_SAME_AS_FUNCTION = (
    "all any argmax argmin argpartition argsort choose cumprod cumsum diagonal dot max mean min "
    "nonzero prod ptp ravel repeat round searchsorted squeeze std sum swapaxes take trace var"
)

for _name in _SAME_AS_FUNCTION.split():
    setattr(Dual, _name, _method(_name))
for _name, _value in vars(Operators).items():
    if _name not in ("__module__", "__doc__", "__slots__", "__annotations__"):
        setattr(Dual, _name, _value)
