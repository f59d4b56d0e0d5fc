"""`scipy.signal` with derivatives: convolutions, linear filters, and resampling.

A convolution is bilinear; its transpose is the convolution with the reversed other factor.  A recursive
filter solves a triangular Toeplitz system, A(a) y = b * x, so its transpose runs backwards in time.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.signal as _scipy

from paradual.arrays import dispatch, is_complex, shape_of
from paradual.errors import NotDifferentiableError
from paradual.rules.registry import general, linear, multilinear
from paradual.rules.shaping import pad_zeros
from paradual.scipy import differentiated, extends, passing

__getattr__ = passing("scipy.signal")

# --- convolutions ----------------------------------------------------------------------------------------


def full(in1: Any, in2: Any, axes: Any, method: str) -> Any:
    """The full convolution along some axes, by ``method``: direct, fft, auto, or oa (overlap and add)."""
    out = dispatch(full, [in1, in2], (in1, in2, axes, method))
    if out is not NotImplemented:
        return out
    if method == "oa":
        return _scipy.oaconvolve(in1, in2, axes=axes)
    if method == "fft":
        return _scipy.fftconvolve(in1, in2, axes=axes)
    if len(axes) == np.ndim(in1):
        return _scipy.convolve(in1, in2, method=method)
    return np.moveaxis(  # along one axis only
        np.vectorize(np.convolve, signature="(n),(m)->(k)")(
            np.moveaxis(in1, axes[0], -1), np.moveaxis(in2, axes[0], -1)
        ),
        -1,
        axes[0],
    )


def _part(a: Any, axes: Any, start: Any, size: Any) -> Any:
    index = [slice(None)] * len(shape_of(a))
    for axis, first, n in zip(axes, start, size, strict=True):
        index[axis] = slice(first, first + n)
    return a[tuple(index)]


def _unfull(g: Any, other: Any, shape: Any, axes: Any, method: str) -> Any:
    sizes = shape_of(other)
    return _part(
        full(g, np.flip(other, axes), axes, method),
        axes,
        [sizes[k] - 1 for k in axes],
        [shape[k] for k in axes],
    )


multilinear(
    full,
    lambda g, in1_shape, in2, axes, method: _unfull(g, in2, in1_shape, axes, method),
    lambda g, in1, in2_shape, axes, method: _unfull(g, in1, in2_shape, axes, method),
)


def _convolve(in1: Any, in2: Any, mode: str, axes: Any, method: str) -> Any:
    n1, n2 = shape_of(in1), shape_of(in2)
    if len(n1) != len(n2):
        raise ValueError("in1 and in2 should have the same dimensionality")
    if not n1:
        return in1 * in2
    axes = range(len(n1)) if axes is None else np.atleast_1d(axes)
    axes = tuple(int(k) % len(n1) for k in axes)
    if mode not in ("full", "same", "valid"):
        raise ValueError("acceptable mode flags are 'valid', 'same', or 'full'")
    out = full(in1, in2, axes, method)
    if mode == "full":
        return out
    if mode == "same":
        return _part(out, axes, [(n2[k] - 1) // 2 for k in axes], [n1[k] for k in axes])
    if any(n1[k] < n2[k] for k in axes) and any(n1[k] > n2[k] for k in axes):
        raise ValueError("For 'valid' mode, one must be at least as large as the other in every dimension")
    return _part(out, axes, [min(n1[k], n2[k]) - 1 for k in axes], [abs(n1[k] - n2[k]) + 1 for k in axes])


def _reversed(in2: Any) -> Any:
    return np.flip(np.conjugate(in2) if is_complex(in2) else in2)


@extends(_scipy.convolve)
def convolve(in1: Any, in2: Any, mode: str = "full", method: str = "auto") -> Any:
    return _convolve(in1, in2, mode, None, method)


@extends(_scipy.fftconvolve)
def fftconvolve(in1: Any, in2: Any, mode: str = "full", axes: Any = None) -> Any:
    return _convolve(in1, in2, mode, axes, "fft")


@extends(_scipy.oaconvolve)
def oaconvolve(in1: Any, in2: Any, mode: str = "full", axes: Any = None) -> Any:
    return _convolve(in1, in2, mode, axes, "oa")


@extends(_scipy.correlate)
def correlate(in1: Any, in2: Any, mode: str = "full", method: str = "auto") -> Any:
    return _convolve(in1, _reversed(in2), mode, None, method)


def _in_two(in1: Any, in2: Any, mode: str, boundary: str, fillvalue: Any, first: Any) -> Any:
    if len(shape_of(in1)) != 2 or len(shape_of(in2)) != 2:
        raise ValueError("in1 and in2 should have the same dimensionality")  # as SciPy says it
    modes = {"fill": "constant", "wrap": "wrap", "symm": "symmetric"}
    if boundary not in modes or differentiated(fillvalue):
        raise NotDifferentiableError(
            f"convolve2d with boundary={boundary!r}, fillvalue={fillvalue!r} has no derivative rule: use "
            "'fill' with a constant, 'wrap' or 'symm'"
        )
    if mode == "valid":
        return _convolve(in1, in2, mode, None, "direct")
    n1, n2 = shape_of(in1), shape_of(in2)
    if boundary == "fill" and fillvalue == 0:
        out = _convolve(in1, in2, "full", None, "direct")
    else:
        more = {"constant_values": fillvalue} if boundary == "fill" else {}
        in1 = np.pad(in1, [(n - 1, n - 1) for n in n2], modes[boundary], **more)
        out = full(in1, in2, (0, 1), "direct")
        out = _part(out, (0, 1), [n - 1 for n in n2], [n + m - 1 for n, m in zip(n1, n2, strict=True)])
    return out if mode == "full" else _part(out, (0, 1), [first(n) for n in n2], n1)


@extends(_scipy.convolve2d)
def convolve2d(in1: Any, in2: Any, mode: str = "full", boundary: str = "fill", fillvalue: Any = 0) -> Any:
    return _in_two(in1, in2, mode, boundary, fillvalue, lambda n: (n - 1) // 2)


@extends(_scipy.correlate2d)
def correlate2d(in1: Any, in2: Any, mode: str = "full", boundary: str = "fill", fillvalue: Any = 0) -> Any:
    return _in_two(in1, _reversed(in2), mode, boundary, fillvalue, lambda n: n // 2)


# --- recursive filters, along the last axis --------------------------------------------------------------


def recursion(a: Any, w: Any) -> Any:
    """Solve ``a * y = w`` (a convolution) for y."""
    out = dispatch(recursion, [a, w], (a, w))
    return _scipy.lfilter(np.ones(1, np.asarray(a).dtype), a, w) if out is NotImplemented else out


def _fir(b: Any, x: Any) -> Any:
    """``b * x`` (a convolution), as long as x."""
    b = np.reshape(b, (1,) * (len(shape_of(x)) - 1) + shape_of(b))
    return full(b, x, (len(shape_of(x)) - 1,), "direct")[..., : shape_of(x)[-1]]


def _lags(u: Any, y: Any, n: int) -> Any:
    """The sums of ``u[..., i] * y[..., i - k]`` for k < n."""
    size = shape_of(y)[-1]
    terms = [np.sum(u[..., k:] * y[..., : size - k]) if k < size else 0.0 * np.sum(u) for k in range(n)]
    return np.stack(terms)


def _recursion_pull(g: Any, a: Any, out: Any) -> Any:
    u = np.flip(recursion(a, np.flip(g, -1)), -1)
    return -_lags(u, out, shape_of(a)[0]), u


general(recursion, _recursion_pull, lambda t, a, out: recursion(a, t[1] - _fir(t[0], out)), arrays="a w")


@extends(_scipy.lfilter)
def lfilter(b: Any, a: Any, x: Any, axis: int = -1, zi: Any = None) -> Any:
    b, a = np.atleast_1d(b), np.atleast_1d(a)
    x = np.moveaxis(x, axis, -1)
    n, order = shape_of(x)[-1], max(b.shape[0], a.shape[0]) - 1
    if zi is None:
        return np.moveaxis(recursion(a, _fir(b, x)), -1, axis)
    # with a state, which enters as `a[0] * zi` and is what is left over: a * y = b * x + zi - zf delayed by n
    start = a[0] * np.moveaxis(zi, axis, -1)
    wide = [(0, 0)] * (len(shape_of(x)) - 1)
    w = _fir(b, pad_zeros(x, [*wide, (0, order)])) + pad_zeros(start, [*wide, (0, n)])
    y = recursion(a, w[..., :n])
    left = w[..., n:] - _fir(a, pad_zeros(y, [*wide, (0, order)]))[..., n:]
    return np.moveaxis(y, -1, axis), np.moveaxis(left / a[0], -1, axis)


@extends(_scipy.sosfilt)
def sosfilt(sos: Any, x: Any, axis: int = -1) -> Any:
    if len(shape_of(sos)) != 2 or shape_of(sos)[1] != 6:
        raise ValueError("sos array must be shape (n_sections, 6)")
    if np.any(sos[:, 3] != 1):
        raise ValueError("sos[:, 3] should be all ones")
    for k in range(shape_of(sos)[0]):
        x = lfilter(sos[k, :3], sos[k, 3:], x, axis)
    return x


# --- detrending, the analytic signal, resampling, smoothing -------------------------------------------------


def without_trend(data: Any, axis: int, type: str, bp: Any) -> Any:
    """`scipy.signal.detrend`, an orthogonal projection and so its own transpose."""
    out = dispatch(without_trend, [data], (data, axis, type, bp))
    return _scipy.detrend(data, axis, type, bp) if out is NotImplemented else out


linear(without_trend, lambda g, axis, type, bp: without_trend(g, axis, type, bp))


@extends(_scipy.detrend)
def detrend(data: Any, axis: int = -1, type: str = "linear", bp: Any = 0) -> Any:
    return without_trend(data, axis, type, bp)


@extends(_scipy.hilbert)
def hilbert(x: Any, N: Any = None, axis: int = -1) -> Any:
    if is_complex(x):
        raise ValueError("x must be real.")
    n = shape_of(x)[axis] if N is None else N
    if n <= 0:
        raise ValueError("N must be positive.")
    weights = np.zeros(n, x.dtype)  # of no negative frequency, and twice of each positive one
    weights[0] = 1
    weights[1 : (n + 1) // 2] = 2
    if n % 2 == 0:
        weights[n // 2] = 1
    weights = weights.reshape([-1 if k == axis % x.ndim else 1 for k in range(x.ndim)])
    return np.fft.ifft(np.fft.fft(x, n, axis=axis) * weights, axis=axis)


@extends(_scipy.resample)
def resample(x: Any, num: int, t: Any = None, axis: int = 0, window: Any = None, domain: str = "time") -> Any:
    if domain not in ("time", "freq"):
        raise ValueError(f"Acceptable domain flags are 'time' or 'freq', not domain={domain}")
    if domain == "freq" or window is not None:
        raise NotDifferentiableError(
            "resample with window= or domain='freq' has no derivative rule: use np.fft"
        )
    x = np.moveaxis(x, axis, -1)
    n = shape_of(x)[-1]
    # each frequency of the result is one of x; the last of an even number has no partner: its two halves
    # are parted when more frequencies come in, and joined when some go
    frequency = np.round(np.fft.fftfreq(num, 1 / num)).astype(int)
    edge = 2 * np.abs(frequency) == min(num, n)
    weights = (2 * np.abs(frequency) < min(num, n)) + edge * (0.5 if num > n else 1.0)
    spectrum = np.fft.fft(x)
    chosen = spectrum[..., frequency % n] * weights.astype(x.real.dtype)
    if num < n:
        chosen = chosen + spectrum[..., -frequency % n] * edge.astype(x.real.dtype)
    out = np.fft.ifft(chosen) * (num / n)
    out = np.moveaxis(out if is_complex(x) else np.real(out), -1, axis)
    return out if t is None else (out, np.arange(num) * (t[1] - t[0]) * n / num + t[0])


@extends(_scipy.savgol_filter)
def savgol_filter(
    x: Any,
    window_length: int,
    polyorder: int,
    deriv: int = 0,
    delta: float = 1.0,
    axis: int = -1,
    mode: str = "interp",
    cval: float = 0.0,
) -> Any:
    if is_complex(x) or window_length % 2 == 0:
        raise NotDifferentiableError(
            "savgol_filter of complex numbers or with an even window has no derivative rule"
        )
    options = (window_length, polyorder, deriv, delta)
    _scipy.savgol_filter(np.zeros(shape_of(x)), *options, axis, mode, cval)  # refuses what SciPy refuses
    x = np.moveaxis(x, axis, -1)
    dtype, half = x.dtype, window_length // 2
    weights = _scipy.savgol_coeffs(window_length, polyorder, deriv, delta).astype(dtype)
    weights = weights.reshape((1,) * (x.ndim - 1) + (-1,))
    pads = {"mirror": "reflect", "constant": "constant", "nearest": "edge", "wrap": "wrap"}
    if mode in pads:
        more = {"constant_values": cval} if mode == "constant" else {}
        x = np.pad(x, [(0, 0)] * (x.ndim - 1) + [(half, window_length - 1 - half)], pads[mode], **more)
    middle = full(weights, x, (x.ndim - 1,), "direct")[..., window_length - 1 : shape_of(x)[-1]]
    if mode == "interp":  # at the ends, the polynomials that fit the first and the last window
        fits = _scipy.savgol_filter(np.eye(window_length), *options, axis=0).astype(dtype)
        first = np.matmul(x[..., :window_length], fits[:half].T)
        last = np.matmul(x[..., shape_of(x)[-1] - window_length :], fits[window_length - half :].T)
        middle = np.concatenate([first, middle, last], axis=-1)
    return np.moveaxis(middle, -1, axis)
