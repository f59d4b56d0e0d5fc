"""`paradual.scipy.signal` against SciPy and finite differences."""

import hypothesis.strategies as st
import numpy as np
import pytest
import scipy.signal as theirs
from hypothesis import HealthCheck, given, settings
from scipy_helpers import check

import paradual as pdl
from paradual.errors import NotDifferentiableError, ParadualTypeError
from paradual.rules.registry import kind
from paradual.scipy import signal as ours
from paradual.testing import check_grads

RNG = np.random.default_rng(11)
MODES = ("full", "same", "valid")


def normal(*shape):
    return RNG.standard_normal(shape)


def z(*shape):
    return normal(*shape) + 1j * normal(*shape)


CASES = {}


def case(label, fn, *args, **options):
    """``fn(module, *args)``, called with SciPy's module and with ours."""
    CASES[label] = (fn, args, options)


# --- convolutions ------------------------------------------------------------------------------------------

for mode in MODES:
    for method in ("direct", "fft", "auto"):
        case(
            f"convolve-{mode}-{method}",
            lambda m, a, b, o=(mode, method): m.convolve(a, b, *o),
            normal(5),
            normal(3),
        )
        case(
            f"correlate-{mode}-{method}",
            lambda m, a, b, o=(mode, method): m.correlate(a, b, *o),
            normal(5),
            normal(2),
        )
    for name in ("convolve", "correlate", "fftconvolve", "oaconvolve", "convolve2d", "correlate2d"):
        call = lambda m, a, b, name=name, mode=mode: getattr(m, name)(a, b, mode=mode)  # noqa: E731
        case(f"{name}-{mode}-matrix", call, normal(4, 3), normal(2, 3))
        case(f"{name}-{mode}-swapped", call, normal(2, 2), normal(3, 4))
        case(f"{name}-{mode}-complex", call, z(3, 3), z(2, 1))
    for name in ("fftconvolve", "oaconvolve"):
        case(
            f"{name}-{mode}-axes",
            lambda m, a, b, name=name, mode=mode: getattr(m, name)(a, b, mode=mode, axes=-1),
            normal(2, 4),
            normal(1, 2),
        )
    for boundary in ("wrap", "symm"):
        for name in ("convolve2d", "correlate2d"):
            case(
                f"{name}-{mode}-{boundary}",
                lambda m, a, b, name=name, o=(mode, boundary): getattr(m, name)(a, b, *o),
                normal(4, 3),
                normal(3, 2),
            )
    case(
        f"convolve2d-{mode}-fillvalue",
        lambda m, a, b, mode=mode: m.convolve2d(a, b, mode, fillvalue=1.5),
        normal(4, 3),
        normal(2, 2),
    )
case("convolve-one", lambda m, a: m.convolve(a, np.array([1.0, 2.0, 0.5])), normal(4))
case("convolve-three", lambda m, a, b: m.convolve(a, b), normal(2, 2, 2), normal(1, 2, 2))

# --- filters ---------------------------------------------------------------------------------------------

B, A = np.array([0.5, -0.3, 0.2]), np.array([1.4, -0.5, 0.3])
for label, b, a in [
    ("both", B, A),
    ("fir", B, np.array([2.0])),
    ("iir", np.array([0.7]), A),
    ("long-a", B[:2], np.array([1.0, 0.2, -0.3, 0.1])),
]:
    case(f"lfilter-{label}", lambda m, b, a, x: m.lfilter(b, a, x), b, a, normal(6))
    case(f"lfilter-{label}-axis", lambda m, b, a, x: m.lfilter(b, a, x, axis=0), b, a, normal(5, 2))
    state = max(len(b), len(a)) - 1
    if state:
        case(
            f"lfilter-{label}-state",
            lambda m, b, a, x, zi: tuple(m.lfilter(b, a, x, zi=zi)),
            b,
            a,
            normal(6),
            normal(state),
        )
case("lfilter-short", lambda m, b, a, x: m.lfilter(b, a, x), B, A, normal(2))
case("lfilter-x", lambda m, x: m.lfilter(B, A, x), normal(2, 6))
case("lfilter-complex", lambda m, b, a, x: m.lfilter(b, a, x), B, A + 0.1j, z(5))
case("lfilter-state-axis", lambda m, x, zi: tuple(m.lfilter(B, A, x, 0, zi)), normal(5, 2), normal(2, 2))
case(
    "sosfilt",
    lambda m, b, a, x: m.sosfilt(np.concatenate([b, np.ones((2, 1), b.dtype), a], axis=1), x),
    0.4 * normal(2, 3),
    0.3 * normal(2, 2),
    normal(6),
)
for type in ("linear", "constant"):
    case(f"detrend-{type}", lambda m, x, type=type: m.detrend(x, type=type), normal(2, 6))
    case(f"detrend-{type}-axis", lambda m, x, type=type: m.detrend(x, 0, type), z(6, 2))
case("detrend-breaks", lambda m, x: m.detrend(x, bp=[3]), normal(7))
for mode in ("interp", "nearest", "mirror", "wrap", "constant"):
    case(
        f"savgol_filter-{mode}",
        lambda m, x, mode=mode: m.savgol_filter(x, 5, 2, mode=mode),
        normal(2, 7),
        tolerance=1e-12,
    )
    case(
        f"savgol_filter-{mode}-deriv",
        lambda m, x, mode=mode: m.savgol_filter(x, 3, 2, 1, 0.5, 0, mode, 1.0),
        normal(6, 2),
        tolerance=1e-12,
    )
if kind(np.fft.fft) not in (None, "refused"):
    for n in (5, 6):
        case(f"hilbert-{n}", lambda m, x: m.hilbert(x), normal(2, n))
        case(f"hilbert-{n}-axis", lambda m, x: m.hilbert(x, 7, axis=0), normal(n, 2))
        for num in (3, 4, 5, 6, 7, 8):
            case(f"resample-{n}-{num}", lambda m, x, num=num: m.resample(x, num), normal(n))
            case(f"resample-{n}-{num}-complex", lambda m, x, num=num: m.resample(x, num, axis=1), z(2, n))
    case("resample-t", lambda m, x: m.resample(x, 4, t=np.arange(6.0)), normal(6))


@pytest.mark.parametrize("label", CASES)
def test_derivatives(label):
    fn, args, options = CASES[label]
    check(lambda *a: fn(ours, *a), lambda *a: fn(theirs, *a), args, **options)


SIDES = st.lists(st.integers(1, 4), min_size=1, max_size=2)


@given(st.integers(0, 2**16), SIDES, st.data(), st.sampled_from(["full", "same"]), st.booleans())
@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow])
def test_convolutions_of_random_shapes(seed, shape, data, mode, correlate):
    rng = np.random.default_rng(seed)
    other = data.draw(st.lists(st.integers(1, 4), min_size=len(shape), max_size=len(shape)))
    name = "correlate" if correlate else "convolve"
    args = rng.standard_normal(shape), rng.standard_normal(other)
    check(lambda a, b: getattr(ours, name)(a, b, mode), lambda a, b: getattr(theirs, name)(a, b, mode), args)


@given(st.integers(0, 2**16), st.integers(1, 4), st.integers(1, 4), st.integers(1, 6))
@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow])
def test_filters_of_random_lengths(seed, nb, na, n):
    rng = np.random.default_rng(seed)
    a = np.concatenate([[1.5], 0.3 * rng.standard_normal(na - 1)])
    args = rng.standard_normal(nb), a, rng.standard_normal(n)
    np.testing.assert_allclose(pdl.vjp(ours.lfilter, *args)[0], theirs.lfilter(*args), rtol=1e-12, atol=1e-12)
    check_grads(ours.lfilter, args)


@given(st.integers(0, 2**16), st.integers(1, 9), st.integers(1, 9))
@settings(max_examples=15)
def test_resampling_of_random_lengths(seed, n, num):
    x = np.random.default_rng(seed).standard_normal(n)
    np.testing.assert_allclose(
        pdl.vjp(lambda x: ours.resample(x, num), x)[0], theirs.resample(x, num), rtol=1e-12, atol=1e-12
    )


def test_what_scipy_refuses_is_refused():
    with pytest.raises(ValueError, match="valid"):
        pdl.vjp(lambda a: ours.convolve(a, np.ones((1, 3)), "valid"), np.ones((2, 2)))
    with pytest.raises(ValueError, match="dimensionality"):
        pdl.vjp(lambda a: ours.convolve(a, np.ones((1, 3))), np.ones(2))
    with pytest.raises(ValueError, match="acceptable mode"):
        pdl.vjp(lambda a: ours.convolve(a, np.ones(2), "no"), np.ones(2))
    with pytest.raises(ValueError, match="real"):
        pdl.vjp(ours.hilbert, np.ones(3) + 0j)
    with pytest.raises(ValueError, match="window_length"):
        pdl.vjp(lambda x: ours.savgol_filter(x, 5, 2), np.ones(3))


def test_what_has_no_derivative_is_refused():
    for fn in (
        lambda x: ours.filtfilt(B, A, x),
        lambda x: ours.resample(x, 4, window="hann"),
        lambda x: ours.savgol_filter(x, 4, 2),
        lambda x: ours.sosfilt(np.array([[1.0, 0, 0, 1, 0, 0]]), x, zi=np.zeros((1, 2))),
    ):
        with pytest.raises(ParadualTypeError):
            pdl.vjp(fn, np.linspace(0, 1, 20))
    with pytest.raises(NotDifferentiableError, match="fillvalue"):
        pdl.vjp(lambda v: ours.convolve2d(np.ones((2, 2)), np.ones((2, 2)), fillvalue=v), 1.0)
    assert ours.windows is theirs.windows
