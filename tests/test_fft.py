"""Fourier transforms: deprecated and refused calls, errors, and transforms as matrices."""

import numpy as np
import pytest

import paradual as pdl
from paradual.errors import NotDifferentiableError
from paradual.testing import check_grads

RNG = np.random.default_rng(41)
ONE_AXIS = [np.fft.fft, np.fft.ifft, np.fft.rfft, np.fft.irfft, np.fft.hfft, np.fft.ihfft]
SEVERAL = [np.fft.fft2, np.fft.ifft2, np.fft.rfft2, np.fft.irfft2]
ANY = [np.fft.fftn, np.fft.ifftn, np.fft.rfftn, np.fft.irfftn]


def name(f):
    return f.__name__


@pytest.mark.parametrize("f", [*ONE_AXIS, *SEVERAL, *ANY], ids=name)
def test_out_is_refused(f):
    out = f(np.ones((4, 4)))

    def loss(x):
        return np.sum(np.real(f(x, out=out)))

    with pytest.raises(NotDifferentiableError, match="out="):
        pdl.grad(loss)(np.ones((4, 4)))


@pytest.mark.parametrize("f", ONE_AXIS, ids=name)
@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"n": 0}, ValueError),
        ({"axis": 2}, IndexError),
        ({"norm": "no"}, ValueError),
        ({"n": 1.5}, TypeError),
    ],
    ids=["n", "axis", "norm", "float"],
)
def test_errors_are_numpys(f, options, error):
    x = np.ones((2, 3))
    with pytest.raises(error) as plain:
        f(x, **options)
    with pytest.raises(type(plain.value)) as caught:
        pdl.vjp(lambda x: f(x, **options), x)
    assert str(caught.value) == str(plain.value)


@pytest.mark.parametrize("f", [np.fft.rfft, np.fft.ihfft, np.fft.rfftn, np.fft.rfft2], ids=name)
def test_a_real_transform_of_complex_numbers_is_numpys_error(f):
    with pytest.raises(TypeError):
        f(np.ones((2, 2)) + 1j)
    with pytest.raises(TypeError):
        pdl.vjp(f, np.ones((2, 2)) + 1j)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("f", ANY, ids=name)
def test_sizes_without_axes_are_those_of_the_last_axes(f):
    x = RNG.standard_normal((2, 3, 4))
    check_grads(lambda x: f(x, s=(3, 5)), (x,))
    check_grads(lambda x: f(x, s=(None, 5), axes=(0, 1)), (x,))


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_the_imaginary_parts_that_an_inverse_ignores_have_no_derivative(n):
    z = RNG.standard_normal(n // 2 + 1) + 1j * RNG.standard_normal(n // 2 + 1)
    for f in (np.fft.irfft, np.fft.hfft):
        weights = RNG.standard_normal(n)
        g = pdl.grad(lambda z, f=f, w=weights: np.sum(w * f(z, n)))(z)
        assert g[0].imag == 0
        if n % 2 == 0:
            assert g[-1].imag == 0


@pytest.mark.parametrize("norm", [None, "backward", "ortho", "forward"])
def test_parseval(norm):
    # the energy of a signal is that of its spectrum, so that the gradient is the signal itself
    x = RNG.standard_normal(6)
    scale = {"ortho": 1, "forward": 6}.get(norm, 1 / 6)
    g = pdl.grad(lambda x: scale * np.sum(np.abs(np.fft.fft(x, norm=norm)) ** 2) / 2)(x)
    np.testing.assert_allclose(g, x, rtol=1e-13)


def test_a_convolution_of_a_long_signal():
    x, k = RNG.standard_normal(64), RNG.standard_normal(64)

    def loss(x, k):
        return np.sum(np.fft.irfft(np.fft.rfft(x) * np.fft.rfft(k), 64) * np.arange(64))

    gx, gk = pdl.grad(loss, argnums=(0, 1))(x, k)
    shifts = np.stack([np.roll(np.arange(64.0), -s) for s in range(64)])
    np.testing.assert_allclose(gx, shifts @ k, rtol=1e-12)
    np.testing.assert_allclose(gk, shifts @ x, rtol=1e-12)
    check_grads(loss, (x, k))


def test_single_precision_stays_single():
    x = RNG.standard_normal(7).astype(np.float32)
    z = (x + 1j * x[::-1]).astype(np.complex64)
    for f in (np.fft.rfft, np.fft.ihfft):
        out, pullback = pdl.vjp(f, x)
        assert out.dtype == np.complex64
        assert pullback(out)[0].dtype == np.float32
    for f in (np.fft.irfft, np.fft.hfft):
        out, pullback = pdl.vjp(f, z)
        assert out.dtype == np.float32
        assert pullback(out)[0].dtype == np.complex64
