"""Fourier transforms.

A transform of complex numbers is a symmetric matrix F[j, k] = c exp(-2 pi i j k / n): its transpose is
itself, whatever the norm, because there is no conjugation in the convention df/dx - i df/dy.  The transforms
to and from half a spectrum transpose into each other in pairs, `rfft` with `hfft` and `irfft` with `ihfft`,
of the same norm: an entry of the half that stands for two entries of the whole spectrum counts twice.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from paradual.rules.registry import linear
from paradual.rules.shaping import pad_zeros


def _resized(g: Any, shape: Any) -> Any:
    """The transpose of cutting or padding to a length, and itself one: to a shape."""
    g = g[tuple(slice(n) for n in shape)]
    if g.shape == shape:
        return g
    return pad_zeros(g, [(0, n - have) for have, n in zip(g.shape, shape, strict=True)])


def _inside(g: Any, n: int, axis: int, factor: float) -> Any:
    """Scale what stands for two entries: all of half a spectrum but frequency 0, and n/2 if n is even."""
    lead, stop = (slice(None),) * (axis % g.ndim), (n + 1) // 2
    first, last = g[(*lead, slice(1))], g[(*lead, slice(stop, None))]
    return np.concatenate([first, g[(*lead, slice(1, stop))] * factor, last], axis=axis)


# --- one axis -------------------------------------------------------------------------------------


def _unfft(f: Any) -> Any:
    def transpose(g: Any, a_shape: Any, n: Any = None, axis: int = -1, norm: Any = None) -> Any:
        return _resized(f(g, axis=axis, norm=norm), a_shape)

    return transpose


def _to_real(f: Any) -> Any:
    def transpose(g: Any, a_shape: Any, n: Any = None, axis: int = -1, norm: Any = None) -> Any:
        n = a_shape[axis] if n is None else n
        return _resized(f(_inside(g, n, axis, 0.5), n, axis, norm), a_shape)

    return transpose


def _to_half(f: Any) -> Any:
    def transpose(g: Any, a_shape: Any, n: Any = None, axis: int = -1, norm: Any = None) -> Any:
        return _resized(_inside(f(g, axis=axis, norm=norm), g.shape[axis], axis, 2.0), a_shape)

    return transpose


TRANSPOSES = {
    np.fft.fft: _unfft(np.fft.fft),
    np.fft.ifft: _unfft(np.fft.ifft),
    np.fft.rfft: _to_real(np.fft.hfft),
    np.fft.ihfft: _to_real(np.fft.irfft),
    np.fft.irfft: _to_half(np.fft.ihfft),
    np.fft.hfft: _to_half(np.fft.rfft),
}
for _f, _transpose in TRANSPOSES.items():
    linear(_f, _transpose)

# --- several axes: one after the other, and back in the opposite order -------------------------------


def _unfftn(each: Any, last: Any, default: Any) -> Any:
    """The transpose of a transform ``each`` along all axes but the last one, and ``last`` along that.

    The order is NumPy's: a real transform takes its last axis first, its inverse takes that last.
    """

    def transpose(g: Any, a_shape: Any, s: Any = None, axes: Any = default, norm: Any = None) -> Any:
        if axes is None:
            axes = range(len(a_shape)) if s is None else range(-len(s), 0)
        sizes = [a_shape[axis] for axis in axes] if s is None else s
        sizes = [a_shape[axis] if n == -1 else n for n, axis in zip(sizes, axes, strict=True)]
        if s is None and last is np.fft.irfft:
            sizes[-1] = None  # its own default: twice the length of the half
        steps = [(each, n, axis) for n, axis in zip(sizes, axes, strict=True)]
        if last is np.fft.irfft:
            steps[-1] = (last, *steps[-1][1:])
        else:
            steps = [(last, *steps[-1][1:]), *reversed(steps[:-1])] if steps else steps
        shapes = [tuple(a_shape)]
        for f, n, axis in steps:
            shape = list(shapes[-1])
            n = shape[axis] if n is None else n
            shape[axis] = n // 2 + 1 if f is np.fft.rfft else n
            shapes.append(tuple(shape))
        for (f, n, axis), shape in zip(reversed(steps), reversed(shapes[:-1]), strict=True):
            g = TRANSPOSES[f](g, shape, n, axis, norm)
        return g

    return transpose


linear(np.fft.fftn, _unfftn(np.fft.fft, np.fft.fft, None))
linear(np.fft.ifftn, _unfftn(np.fft.ifft, np.fft.ifft, None))
linear(np.fft.rfftn, _unfftn(np.fft.fft, np.fft.rfft, None))
linear(np.fft.irfftn, _unfftn(np.fft.ifft, np.fft.irfft, None))
linear(np.fft.fft2, _unfftn(np.fft.fft, np.fft.fft, (-2, -1)))
linear(np.fft.ifft2, _unfftn(np.fft.ifft, np.fft.ifft, (-2, -1)))
linear(np.fft.rfft2, _unfftn(np.fft.fft, np.fft.rfft, (-2, -1)))
linear(np.fft.irfft2, _unfftn(np.fft.ifft, np.fft.irfft, (-2, -1)))

# --- the order of frequencies ------------------------------------------------------------------------

linear(np.fft.fftshift, lambda g, x_shape, axes=None: np.fft.ifftshift(g, axes))
linear(np.fft.ifftshift, lambda g, x_shape, axes=None: np.fft.fftshift(g, axes))
