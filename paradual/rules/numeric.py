"""Interpolation, convolution, grids, and functions applied along axes."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index
from numpy.lib.stride_tricks import sliding_window_view

from paradual.arrays import cast, dispatch, is_complex, scatter_sum, shape_of
from paradual.errors import NotDifferentiableError
from paradual.locality import as_plain, beside, counting, on_device
from paradual.rules.registry import composed, constant, elementwise, general, linear, multilinear
from paradual.rules.shaping import pad_zeros

# --- interpolation and slopes on a grid -----------------------------------------------------------


def _array(x: Any, dtype: Any = None) -> Any:
    """An array of plain numbers, or a dual, in a dtype if one is given."""
    if not hasattr(x, "place"):
        return as_plain(x, dtype)
    return x if dtype is None or x.dtype == dtype else cast(x, np.dtype(dtype))


def _interp(x: Any, xp: Any, fp: Any, left: Any = None, right: Any = None, period: Any = None) -> Any:
    """Linear between knots; at a knot the slope is that of the interval to its right."""
    x, xp = _array(x), _array(xp)
    if is_complex(x) or is_complex(xp):
        raise TypeError("np.interp: x and xp must be real")
    x, xp = _array(x, float), _array(xp, float)
    fp = _array(fp, complex if is_complex(_array(fp)) else float)
    if xp.ndim != 1 or fp.ndim != 1 or xp.size == 0 or xp.size != fp.size:
        raise ValueError("np.interp: xp and fp must be one-dimensional, not empty, and of the same length")
    if period is not None:
        if period == 0:
            raise ValueError("period must be a non-zero value")
        period = abs(period)
        x, xp = x % period, xp % period
        order = np.argsort(xp)
        xp, fp, left, right = xp[order], fp[order], None, None
        xp = np.concatenate([xp[-1:] - period, xp, xp[:1] + period])
        fp = np.concatenate([fp[-1:], fp, fp[:1]])
    k = np.searchsorted(xp, x, side="right") - 1
    inside = (k >= 0) & (k < xp.size - 1) | np.isnan(x)
    k = np.where(inside, np.minimum(k, xp.size - 2), 0)
    width = np.where(inside, xp[k + 1] - xp[k], 1.0) if xp.size > 1 else 1.0
    between = fp[k] + (fp[k + 1] - fp[k]) / width * (x - xp[k]) if xp.size > 1 else fp[k] + x * 0.0
    below, above = fp[0] if left is None else left, fp[-1] if right is None else right
    out = np.where(inside, between, np.where(x == xp[-1], fp[-1], np.where(x < xp[0], below, above)))
    return out[()]


composed(np.interp, _interp)


def _slope(f: Any, h: Any, edge_order: int) -> Any:
    """Second-order differences along the first axis; h is the spacing, or one for each interval."""
    if shape_of(h) == ():
        inner = (f[2:] - f[:-2]) / (2.0 * h)
        first, last = h, h
        if edge_order == 2:
            start = (-1.5 * f[0] + 2.0 * f[1] - 0.5 * f[2]) / h
            end = (0.5 * f[-3] - 2.0 * f[-2] + 1.5 * f[-1]) / h
    else:
        first, last = h[0], h[-1]
        h = np.reshape(h, (-1,) + (1,) * (f.ndim - 1))
        p, q = h[:-1], h[1:]
        inner = -q / (p * (p + q)) * f[:-2] + (q - p) / (p * q) * f[1:-1] + p / (q * (p + q)) * f[2:]
        if edge_order == 2:
            p, q = h[0], h[1]
            start = (
                -(2.0 * p + q) / (p * (p + q)) * f[0] + (p + q) / (p * q) * f[1] - p / (q * (p + q)) * f[2]
            )
            p, q = h[-2], h[-1]
            end = (
                q / (p * (p + q)) * f[-3] - (p + q) / (p * q) * f[-2] + (2.0 * q + p) / (q * (p + q)) * f[-1]
            )
    if edge_order == 1:
        start, end = (f[1] - f[0]) / first, (f[-1] - f[-2]) / last
    return np.concatenate([start[None], inner, end[None]])


def _spacing(h: Any, n: int) -> Any:
    """The spacing that one argument of np.gradient stands for: a number, or one for each interval."""
    h = _array(h)
    if h.ndim == 0:
        return h if hasattr(h, "place") else h[()]
    if h.ndim != 1:
        raise ValueError("distances must be either scalars or 1d")
    if h.size != n:
        raise ValueError("when 1d, distances must match the length of the corresponding dimension")
    widths = np.diff(h if hasattr(h, "place") or h.dtype.kind in "fc" else h.astype(float))
    return widths if hasattr(h, "place") or np.any(widths != widths[:1]) or n < 2 else widths[0]


def _gradient(f: Any, *varargs: Any, axis: Any = None, edge_order: int = 1) -> Any:
    f = _array(f)
    axes = range(f.ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    axes = [normalize_axis_index(k, f.ndim) for k in axes]
    if len(varargs) == 1 and shape_of(varargs[0]) == ():
        varargs *= len(axes)
    if varargs and len(varargs) != len(axes):
        raise TypeError("invalid number of arguments")
    if edge_order not in (1, 2):
        raise ValueError("'edge_order' greater than 2 not supported")
    slopes = []
    for k, h in zip(axes, varargs or [1.0] * len(axes), strict=True):
        if f.shape[k] < edge_order + 1:
            raise ValueError(
                "Shape of array too small to calculate a numerical gradient, at least (edge_order + 1) "
                "elements are required."
            )
        slope = np.moveaxis(_slope(np.moveaxis(f, k, 0), _spacing(h, f.shape[k]), edge_order), 0, k)
        slopes.append(_array(slope, f.dtype if f.dtype.kind in "fc" else float))
    return slopes[0] if len(slopes) == 1 else tuple(slopes)


composed(np.gradient, _gradient)
general(  # the jumps that it adds are constant
    np.unwrap,
    lambda g, discont=None, axis=-1, period=None: g,
    lambda t, discont=None, axis=-1, period=None: t,
)

# --- convolution ----------------------------------------------------------------------------------


def _unconvolve(g: Any, other: Any, n: int, mode: Any) -> Any:
    """The transpose in the operand of length n: correlate the cotangent of the full convolution."""
    m = math.prod(shape_of(other))
    short = min(n, m)
    mode = {"v": 0, "s": 1, "f": 2}.get(str(mode)[0], mode)
    before = (short - 1, (short - 1) // 2, 0)[mode]
    whole = pad_zeros(g, [(before, n + m - 1 - before - g.shape[0])])
    return np.convolve(whole, np.flip(np.atleast_1d(other)), "valid")


multilinear(
    np.convolve,
    lambda g, a_shape, v, mode="full": _unconvolve(g, v, math.prod(a_shape), mode),
    lambda g, a, v_shape, mode="full": _unconvolve(g, a, math.prod(v_shape), mode),
)


def _correlate(a: Any, v: Any, mode: Any = "valid") -> Any:
    a, v = _array(a), _array(v)
    if a.ndim != 1 or v.ndim != 1:
        raise ValueError("np.correlate takes one-dimensional arrays")
    n = a.shape[0]
    v = np.flip(np.conjugate(v) if is_complex(v) else v)
    if mode in ("same", 1) and n < v.shape[0]:  # NumPy centres it differently then
        return np.convolve(a, v, "full")[n // 2 : n // 2 + v.shape[0]]
    return np.convolve(a, v, mode)


composed(np.correlate, _correlate)


def windows(x: Any, window: Any, axis: Any) -> Any:
    """``sliding_window_view(x, window, axis)``, a read-only view."""
    out = dispatch(windows, [x], (x, window, axis))
    return sliding_window_view(x, window, axis) if out is NotImplemented else out


def _unslide(g: Any, x_shape: Any, window: Any, axis: Any) -> Any:
    """One axis of windows at a time: what each place in the window has goes back where it came from."""
    window = tuple(window) if np.ndim(window) else (window,)
    axes = range(len(x_shape)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    for n, k in zip(reversed(window), reversed(axes), strict=True):
        none = [(0, 0)] * (len(x_shape) + len(window) - 1)
        k, window = k % len(x_shape), window[:-1]
        g = sum(pad_zeros(g[..., j], [*none[:k], (j, n - 1 - j), *none[k + 1 :]]) for j in range(n))
    return g


linear(windows, _unslide)


def _sliding_window_view(
    x: Any, window_shape: Any, axis: Any = None, *, subok: bool = False, writeable: bool = False
) -> Any:
    if writeable:
        raise NotDifferentiableError("sliding_window_view(writeable=True): leave out writeable=True")
    return windows(x, window_shape, axis)


composed(sliding_window_view, _sliding_window_view)

# --- functions of the user's ------------------------------------------------------------------------


def _piecewise(x: Any, condlist: Any, funclist: Any, *args: Any, **kw: Any) -> Any:
    shape = shape_of(x)
    if np.isscalar(condlist) or (not isinstance(condlist[0], list | np.ndarray) and shape):
        condlist = [condlist]
    masks = np.stack(condlist) if any(map(on_device, condlist)) else np.asarray(condlist, dtype=bool)
    if not shape:
        x, masks = np.reshape(x, (1,)), masks.reshape(-1, 1)
    if len(funclist) == len(masks) + 1:
        masks = np.concatenate([masks, ~np.any(masks, axis=0, keepdims=True)])
    if len(funclist) != len(masks):
        raise ValueError(
            f"with {len(masks)} condition(s), either {len(masks)} or {len(masks) + 1} functions are expected"
        )
    places: list[Any] = []
    values: list[Any] = []
    for k, (mask, f) in enumerate(zip(masks, funclist, strict=True)):
        mine = mask & ~np.any(masks[k + 1 :], axis=0)  # where several conditions hold, the last one wins
        if np.any(mask):
            part = f(x[mask], *args, **kw) if callable(f) else f
            part = np.broadcast_to(part, x[mask].shape)[mine[mask]]
            places.append(mine)
            values.append(_array(part, x.dtype))
    values = values or [np.zeros_like(x[masks[0]])]
    places = places or [masks[0]]
    return np.reshape(scatter_sum(None, places, values, x.shape, x.dtype), shape)


composed(np.piecewise, _piecewise)


def _apply_along_axis(func1d: Any, axis: int, arr: Any, *args: Any, **kwargs: Any) -> Any:
    axis = normalize_axis_index(axis, arr.ndim)
    arr = np.moveaxis(arr, axis, -1)
    lead = arr.shape[:-1]
    if 0 in lead:
        raise ValueError("Cannot apply_along_axis when any iteration dimensions are 0")
    parts = [func1d(arr[index], *args, **kwargs) for index in np.ndindex(lead)]
    parts = [np.stack(part) if isinstance(part, list | tuple) else part for part in parts]
    each = len(shape_of(parts[0]))
    out = np.reshape(np.stack(parts), lead + shape_of(parts[0]))
    return np.moveaxis(out, range(len(lead), len(lead) + each), range(axis, axis + each))


composed(np.apply_along_axis, _apply_along_axis)


def _apply_over_axes(func: Any, a: Any, axes: Any) -> Any:
    for axis in axes if np.ndim(axes) else (axes,):
        out = func(a, axis)
        out = out if len(shape_of(out)) == a.ndim else np.expand_dims(out, axis)
        if out.ndim != a.ndim:
            raise ValueError("function is not returning an array of the correct shape")
        a = out
    return a


composed(np.apply_over_axes, _apply_over_axes)

# --- grids ------------------------------------------------------------------------------------------


def _along(x: Any, axis: int, ndim: int) -> Any:
    return np.reshape(x, [-1 if k == axis else 1 for k in range(ndim)])


def _meshgrid(*xi: Any, copy: bool = True, sparse: bool = False, indexing: str = "xy") -> Any:
    if indexing not in ("xy", "ij"):
        raise ValueError("Valid values for `indexing` are 'xy' and 'ij'.")
    order = list(range(len(xi)))
    if indexing == "xy" and len(xi) > 1:
        order[:2] = 1, 0
    out = [
        np.reshape(x, [-1 if j == k else 1 for j in range(len(xi))]) for k, x in zip(order, xi, strict=True)
    ]
    if not sparse:
        out = list(np.broadcast_arrays(*out))
    return tuple(np.copy(x, order="C") for x in out) if copy else tuple(out)


composed(np.meshgrid, _meshgrid)


def _ix(*args: Any) -> Any:
    out = []
    for k, x in enumerate(args):
        x = _array(x)
        if x.ndim != 1:
            raise ValueError("Cross index must be 1 dimensional")
        x = np.flatnonzero(x) if x.dtype == bool else x
        out.append(_along(x, k, len(args)))
    return tuple(out)


composed(np.ix_, _ix)


def _ends(start: Any, stop: Any, *more: Any) -> tuple[Any, Any, Any]:
    start, stop = (np.asarray(x) if isinstance(x, list | tuple) else x for x in (start, stop))
    inexact = np.result_type(start, stop, 0.0, *more)
    return _array(start, inexact), _array(stop, inexact), inexact


def _fractions(num: Any, endpoint: bool, dtype: Any, ndim: int, like: Any = None) -> tuple[int, Any]:
    """How many steps there are, and the number of each point, along a new first axis."""
    num = operator.index(num)
    if num < 0:
        raise ValueError(f"Number of samples, {num}, must be non-negative.")
    return (num - 1 if endpoint else num), counting(num, like=like).astype(dtype).reshape((-1,) + (1,) * ndim)


def _finish(y: Any, stop: Any, exact: bool, dtype: Any, axis: int) -> Any:
    """The last point exactly the end point; in the dtype and along the axis that were asked for."""
    if exact and y.shape[0] > 1:
        y = np.concatenate([y[:-1], np.broadcast_to(stop, y.shape[1:])[None]])
    if dtype is not None:
        y = (np.floor(y) if np.dtype(dtype).kind in "iu" else y).astype(dtype)
    return np.moveaxis(y, 0, axis)


def _linspace(
    start: Any,
    stop: Any,
    num: Any = 50,
    endpoint: bool = True,
    retstep: bool = False,
    dtype: Any = None,
    axis: int = 0,
    *,
    device: Any = None,
) -> Any:
    start, stop, inexact = _ends(start, stop)
    ndim = len(np.broadcast_shapes(start.shape, stop.shape))
    steps, k = _fractions(num, endpoint, inexact, ndim, start if on_device(start) else stop)
    step = (stop - start) / steps if steps > 0 else (stop - start) * np.nan
    y = _finish(start + k * step if steps > 0 else start + k * (stop - start), stop, endpoint, dtype, axis)
    return (y, step) if retstep else y


def _logspace(
    start: Any,
    stop: Any,
    num: Any = 50,
    endpoint: bool = True,
    base: Any = 10.0,
    dtype: Any = None,
    axis: int = 0,
) -> Any:
    if shape_of(base):
        ndim = len(np.broadcast_shapes(shape_of(start), shape_of(stop), shape_of(base)))
        start, stop, base = (
            np.reshape(x, (1,) * (ndim - len(shape_of(x))) + shape_of(x)) for x in (start, stop, base)
        )
    y = np.moveaxis(np.power(base, _linspace(start, stop, num, endpoint)), 0, axis)
    return y if dtype is None else y.astype(dtype)


def whole_numbers(start: Any, stop: Any, *args: Any) -> Any:
    """``np.geomspace`` in integers, which carry no derivative."""
    out = dispatch(whole_numbers, [start, stop], (start, stop, *args))
    return np.geomspace(start, stop, *args) if out is NotImplemented else out


constant(whole_numbers)


def _geomspace(
    start: Any, stop: Any, num: Any = 50, endpoint: bool = True, dtype: Any = None, axis: int = 0
) -> Any:
    """``start * (stop / start) ** (k / steps)``, for complex end points too."""
    if dtype is not None and np.dtype(dtype).kind in "iu":
        return whole_numbers(start, stop, num, endpoint, dtype, axis)
    # like NumPy's, this never computes below double precision
    start, stop, inexact = _ends(start, stop, np.zeros((), dtype))
    if np.any(start == 0) or np.any(stop == 0):
        raise ValueError("Geometric sequence cannot include zero")
    real = np.finfo(inexact).dtype
    steps, k = _fractions(num, endpoint, real, len(np.broadcast_shapes(start.shape, stop.shape)))
    y = start * np.power(stop / start, k / max(steps, 1))
    return _finish(y, stop, endpoint, dtype, axis)


composed(np.linspace, _linspace)
composed(np.logspace, _logspace)
composed(np.geomspace, _geomspace)

# --- inserting, repeating, trimming -----------------------------------------------------------------


def _insert(arr: Any, obj: Any, values: Any, axis: Any = None) -> Any:
    """Join the array and the values, and take them in the order that np.insert gives their numbers."""
    arr, values = _array(arr), _array(values)
    if axis is None:
        arr, axis = np.ravel(arr), 0
    axis = normalize_axis_index(axis, arr.ndim)
    n = arr.shape[axis]
    count = np.insert(np.zeros(n), obj, 0).size - n
    if count == 1:  # then any number of values may go there
        values = np.reshape(values, (1,) * (arr.ndim - values.ndim) + values.shape)
        if not isinstance(obj, slice) and np.ndim(obj) == 0:
            values = np.moveaxis(values, 0, axis)
        count = values.shape[axis]
    block = (*arr.shape[:axis], count, *arr.shape[axis + 1 :])
    joined = np.concatenate([arr, _array(np.broadcast_to(values, block), arr.dtype)], axis=axis)
    return np.take(joined, beside(np.insert(np.arange(n), obj, n + np.arange(count)), arr), axis)


composed(np.insert, _insert)


def _resize(a: Any, new_shape: Any) -> Any:
    new_shape = tuple(new_shape) if np.ndim(new_shape) else (int(new_shape),)
    if any(n < 0 for n in new_shape):
        raise ValueError("all elements of `new_shape` must be non-negative")
    a = np.ravel(a)
    if a.size == 0:
        return np.zeros_like(a, shape=new_shape)
    return np.reshape(a[counting(math.prod(new_shape), like=a) % a.size], new_shape)


composed(np.resize, _resize)


def _trim_zeros(filt: Any, trim: str = "fb", axis: Any = None) -> Any:
    trim = trim.lower()
    if trim not in ("f", "b", "fb", "bf"):
        raise ValueError(f"unexpected character(s) in `trim`: {trim!r}")
    axes = range(filt.ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    axes = [normalize_axis_index(k, filt.ndim) for k in axes]
    found = np.argwhere(filt)
    index = [slice(None)] * filt.ndim
    for k in axes:
        first = int(found[:, k].min()) if len(found) and "f" in trim else None
        last = int(found[:, k].max()) + 1 if len(found) and "b" in trim else None
        index[k] = slice(first, last) if len(found) else slice(0)
    return filt[tuple(index)]


composed(np.trim_zeros, _trim_zeros)

# --- the modified Bessel functions of integer order ---------------------------------------------------


def bessel_i(x: Any, order: int) -> Any:
    """The modified Bessel function of the first kind, of an integer order.

    Its series up to 25, and beyond that its expansion at infinity (Digital Library of Mathematical
    Functions, 10.25.2 and 10.40.1), each right to about 1e-14.
    """
    out = dispatch(bessel_i, [x], (x, order))
    if out is not NotImplemented:
        return out
    n = abs(order)
    size = np.abs(x)
    near, far = np.minimum(size, 25.0), np.maximum(size, 25.0)
    quarter, total = near * near / 4, 1.0
    for k in range(70, 0, -1):
        total = 1.0 + total * quarter / (k * (k + n))
    series = total * (near / 2) ** n / math.factorial(n)
    total = 1.0
    for k in range(30, 0, -1):
        total = 1.0 - total * (4 * n * n - (2 * k - 1) ** 2) / (8 * k * far)
    with np.errstate(over="ignore"):
        expansion = total * np.exp(far) / np.sqrt(2 * np.pi * far)
    return np.where(size <= 25, series, expansion) * (np.sign(x) if n % 2 else 1.0)


elementwise(bessel_i, lambda x, order: (bessel_i(x, order - 1) + bessel_i(x, order + 1)) / 2, lambda: 0.0)
elementwise(np.i0, lambda x: bessel_i(x, 1))

# --- np.lib.scimath: complex where the real function is not defined -------------------------------------


def _widened(x: Any, outside: Any) -> Any:
    x = _array(x) if shape_of(x) or not hasattr(x, "place") else cast(x, x.dtype)  # no Python numbers
    if is_complex(x) or not np.any(outside(x)):
        return x
    return _array(x, np.complex64 if x.dtype == np.float32 else np.complex128)


def _negative(x: Any) -> Any:
    return _widened(x, lambda x: x < 0)


def _beyond_one(x: Any) -> Any:
    return _widened(x, lambda x: np.abs(x) > 1)


_scimath = np.lib.scimath
composed(_scimath.sqrt, lambda x: np.sqrt(_negative(x)))
composed(_scimath.log, lambda x: np.log(_negative(x)))
composed(_scimath.log2, lambda x: np.log2(_negative(x)))
composed(_scimath.log10, lambda x: np.log10(_negative(x)))
composed(_scimath.logn, lambda n, x: np.log(_negative(x)) / np.log(_negative(n)))
composed(_scimath.power, lambda x, p: np.power(_negative(x), _widened(p, lambda p: False)))
composed(_scimath.arccos, lambda x: np.arccos(_beyond_one(x)))
composed(_scimath.arcsin, lambda x: np.arcsin(_beyond_one(x)))
composed(_scimath.arctanh, lambda x: np.arctanh(_beyond_one(x)))
