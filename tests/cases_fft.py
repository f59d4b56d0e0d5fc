"""Cases of `test_rules`: see `paradual.rules.fft`."""

import hypothesis.strategies as st
import numpy as np
from case_table import case, normal, reseed, z
from shape_table import axis, generator, shape, shaped

reseed(32)

COMPLEX = (np.fft.fft, np.fft.ifft)  # complex or real to complex
TO_HALF = (np.fft.rfft, np.fft.ihfft)  # real to half a spectrum
FROM_HALF = (np.fft.irfft, np.fft.hfft)  # half a spectrum (or a real one) to real
OF_ONE_AXIS = (*COMPLEX, *TO_HALF, *FROM_HALF)

for f in OF_ONE_AXIS:
    kinds = {"real": normal} if f in TO_HALF else {"real": normal, "complex": z}
    for kind, points in kinds.items():
        for n in (1, 2, 3, 4, 5):
            if n > 1 or f not in FROM_HALF:  # their default length would be 0
                case(f, f"{kind}-{n}", points(n))
        for length in (1, 2, 3, 4, 6, 7):
            case(f, f"{kind}-4-to-{length}", points(4), n=length)
        for k in (0, 1, -1, -2):
            case(f, f"{kind}-axis{k}", points(2, 3, 2), axis=k)
        for norm in ("backward", "ortho", "forward", None):
            case(f, f"{kind}-{norm}", points(3), norm=norm)
            case(f, f"{kind}-{norm}-even", points(3, 2), n=4, axis=0, norm=norm)
    case(f, "positional", normal(3, 2), fn=lambda a, f=f: f(a, 4, 0, "ortho"))

for f in (np.fft.fftn, np.fft.ifftn, np.fft.rfftn, np.fft.irfftn):
    points = normal if f is np.fft.rfftn else z
    case(f, "all", points(2, 3, 2))
    case(f, "real", normal(3, 2))
    for axes in ((0,), (0, 1), (1, 0), (-1, 0), (-3, 2, 1)):
        case(f, f"axes{axes}".replace(" ", ""), points(2, 3, 4), axes=axes)
    case(f, "sizes", points(2, 3, 4), s=(3, 2, 5), axes=(0, 1, 2))
    case(f, "sizes-of-axes", points(2, 3, 4), s=(3, 6), axes=(-1, 0), norm="ortho")
    case(f, "size-kept", points(2, 3), s=(-1, 4), axes=(0, 1), norm="forward")
    case(f, "last-size-kept", points(2, 3), s=(4, -1), axes=(0, 1))
    case(f, "axis-twice", points(3, 2), axes=(0, 0))
    case(f, "axis-twice-sizes", points(3, 2), s=(5, 4, 3), axes=(0, 1, 0))
    case(f, "positional", points(2, 3), fn=lambda a, f=f: f(a, None, (0, 1), "forward"))
for f in (np.fft.fft2, np.fft.ifft2, np.fft.rfft2, np.fft.irfft2):
    points = normal if f is np.fft.rfft2 else z
    case(f, "stack", points(2, 3, 2))
    case(f, "real", normal(2, 3))
    case(f, "sizes", points(2, 3), s=(3, 4), norm="ortho")
    case(f, "axes", points(2, 3, 4), axes=(0, 2), norm="forward")

for f in (np.fft.fftshift, np.fft.ifftshift):
    case(f, "all", normal(3, 4))
    case(f, "axis", z(3, 4), axes=0)
    case(f, "axes", normal(3, 2, 5), axes=(0, -1))


def along_one(f):
    """An entry: a transform along a random axis, of a random length and norm."""

    def entry(draw):
        rng, dims = generator(draw), shape(draw, 1, min_side=2)
        x = rng.standard_normal(dims)
        if f not in TO_HALF:
            x = x + 1j * rng.standard_normal(dims)
        options = {
            "n": draw(st.none() | st.integers(1, 6)),
            "axis": axis(draw, len(dims), none=False),
            "norm": draw(st.sampled_from([None, "backward", "ortho", "forward"])),
        }
        return (lambda x: f(x, **options)), (x,)

    return entry


def along_many(f, least=1, flat=False):
    """An entry: a transform along random axes, of random lengths and norm."""

    def entry(draw):
        rng, dims = generator(draw), shape(draw, least, min_side=2)
        x = rng.standard_normal(dims)
        if f not in (np.fft.rfftn, np.fft.rfft2):
            x = x + 1j * rng.standard_normal(dims)
        axes = st.integers(-len(dims), len(dims) - 1)
        axes = tuple(draw(st.lists(axes, min_size=least, max_size=least if flat else 3)))
        options = {"axes": axes, "norm": draw(st.sampled_from([None, "ortho", "forward"]))}
        options["s"] = draw(st.none() | st.lists(st.integers(2, 4), min_size=len(axes), max_size=len(axes)))
        return (lambda x: f(x, **options)), (x,)

    return entry


def shifted(f):
    """An entry: a shift along random axes."""

    def entry(draw):
        rng, dims = generator(draw), shape(draw, 1)
        axes = axis(draw, len(dims), many=True)
        return (lambda x: f(x, axes=axes)), (rng.standard_normal(dims),)

    return entry


for f in OF_ONE_AXIS:
    shaped(f, along_one(f))
for f in (np.fft.fftn, np.fft.ifftn, np.fft.rfftn, np.fft.irfftn):
    shaped(f, along_many(f))
for f in (np.fft.fft2, np.fft.ifft2, np.fft.rfft2, np.fft.irfft2):
    shaped(f, along_many(f, 2, flat=True))
for f in (np.fft.fftshift, np.fft.ifftshift):
    shaped(f, shifted(f))

del f, k, n, axes, kind, kinds, length, norm, points
