"""Operations of dask.array: products, linear algebra, FFT, statistics."""

from __future__ import annotations

from typing import Any

import dask.array as da
import dask.array.stats as stats
import numpy as np
from case_table import hermitian, normal, positive, reseed, spread, square, z
from dask_table import both, lazy

reseed(43)

# --- products ---------------------------------------------------------------------------------------------

both("dot", lambda m, x, y: m.dot(x, y), normal(5, 4), normal(4, 3))
both("dot", lambda m, x, y: m.dot(x, y), normal(5), normal(5), label="vectors")
both("Array.dot", lambda m, x, y: x.dot(y), normal(5, 4), normal(4))
both("matmul", lambda m, x, y: m.matmul(x, y), normal(2, 5, 4), normal(4, 3))
both("matmul", lambda m, x, y: m.matmul(x, y), z(3, 4), z(4, 3), label="complex")
both("vdot", lambda m, x, y: m.vdot(x, y), z(5), z(5))
both("outer", lambda m, x, y: m.outer(x, y), normal(5), normal(4))
both("tensordot", lambda m, x, y: m.tensordot(x, y, axes=((0, 2), (1, 0))), normal(5, 4, 3), normal(3, 5, 2))
both("tensordot", lambda m, x, y: m.tensordot(x, y, axes=1), normal(5, 4), normal(4, 3), label="axes1")
for spec, shapes in {
    "ij,jk->ik": [(5, 4), (4, 3)],
    "ij,kj->": [(5, 4), (3, 4)],
    "ijk->kj": [(5, 4, 3)],
    "ii->i": [(5, 5)],
    "...i,i->...": [(2, 3, 4), (4,)],
}.items():
    both(
        "einsum",
        lambda m, *x, k=spec: m.einsum(k, *x),
        *(normal(*s) for s in shapes),
        label=spec.replace("->", "-"),
    )
both("corrcoef", lambda m, x: m.corrcoef(x), normal(3, 5))
both("cov", lambda m, x: m.cov(x), normal(3, 5))
both("cov", lambda m, x, y: m.cov(x, y, rowvar=False, ddof=0), normal(5, 2), normal(5, 2), label="columns")

# --- linear algebra ---------------------------------------------------------------------------------------

lazy(
    "linalg.qr",
    lambda x: list(da.linalg.qr(x)),
    normal(6, 3),
    chunks=(3, 3),
)
lazy("linalg.qr", lambda x: da.linalg.qr(x)[1], normal(3, 7), chunks=(3, 4), label="wide")
lazy("linalg.tsqr", lambda x: list(da.linalg.tsqr(x)), normal(8, 2), chunks=(3, 2))
lazy("linalg.tsqr", lambda x: list(da.linalg.tsqr(x)), normal(16, 2), chunks=(4, 2), label="recursive")
lazy(
    "linalg.tsqr", lambda x: da.linalg.tsqr(x, compute_svd=True)[1], normal(8, 2), chunks=(4, 2), label="svd"
)
lazy("linalg.sfqr", lambda x: list(da.linalg.sfqr(x)), normal(3, 7), chunks=(3, 3))
lazy("linalg.svd", lambda x: list(da.linalg.svd(x)), normal(8, 3), chunks=(4, 3))
lazy(
    "linalg.svd",
    lambda x: da.linalg.svd(x)[1],
    normal(3, 8),
    chunks=(3, 4),
    label="wide",
    plain=lambda x: np.linalg.svd(x)[1],
)
lazy(
    "linalg.svd",
    lambda x: da.linalg.svd(x)[1],
    normal(4, 3),
    chunks=(4, 3),
    label="one",
    plain=lambda x: np.linalg.svd(x)[1],
)
lazy(
    "linalg.svd",
    lambda x: da.linalg.svd(x, coerce_signs=False)[1],
    normal(8, 3),
    chunks=(4, 3),
    label="signs",
)
for power in (0, 2):
    lazy(
        "linalg.svd_compressed",
        lambda x, k=power: list(da.linalg.svd_compressed(x, 2, n_power_iter=k, seed=5)),
        normal(7, 5),
        chunks=(4, 3),
        label=f"{power}",
    )
lazy(
    "linalg.svd_compressed",
    lambda x: da.linalg.svd_compressed(x, 2, iterator="QR", n_power_iter=2, seed=5)[1],
    normal(7, 5),
    chunks=(4, 3),
    label="qr",
)
lazy(
    "linalg.compression_matrix",
    lambda x: da.linalg.compression_matrix(x, 2, seed=5),
    normal(7, 5),
    chunks=(4, 3),
)
for lower in (False, True):
    lazy(
        "linalg.cholesky",
        lambda x, k=lower: da.linalg.cholesky((x + x.T) / 2, lower=k),
        hermitian(4, 4),
        chunks=(2, 2),
        label=f"lower-{lower}",
        plain=lambda x, k=lower: np.linalg.cholesky((x + x.T) / 2, upper=not k),
    )
    lazy(
        "linalg.solve_triangular",
        lambda a, b, k=lower: da.linalg.solve_triangular(a, b, lower=k),
        square(4, 4),
        normal(4, 3),
        chunks=[(2, 2), (2, 2)],
        label=f"lower-{lower}",
        plain=lambda a, b, k=lower: np.linalg.solve(np.tril(a) if k else np.triu(a), b),
    )
lazy("linalg.lu", lambda x: list(da.linalg.lu(x)), square(4, 4), chunks=(2, 2))
lazy("linalg.inv", lambda x: da.linalg.inv(x), square(4, 4), chunks=(2, 2), plain=np.linalg.inv)
lazy(
    "linalg.solve",
    lambda a, b: da.linalg.solve(a, b),
    square(4, 4),
    normal(4),
    chunks=[(2, 2), 2],
    plain=np.linalg.solve,
)
lazy(
    "linalg.solve",
    lambda a, b: da.linalg.solve(a @ a.T, b, assume_a="pos"),
    square(4, 4),
    normal(4, 2),
    chunks=[(2, 2), (2, 2)],
    label="pos",
    plain=lambda a, b: np.linalg.solve(a @ a.T, b),
)
lazy(
    "linalg.lstsq",
    lambda a, b: list(da.linalg.lstsq(a, b)[:2]),
    normal(7, 3),
    normal(7),
    chunks=[(4, 3), 4],
    plain=lambda a, b: [np.linalg.lstsq(a, b)[0], np.linalg.lstsq(a, b)[1]],
)
for order in (None, "fro", np.inf, -np.inf, 1, -1):
    both("linalg.norm", lambda m, x, k=order: m.linalg.norm(x, k), spread(5, 4), label=f"{order}")
for order in (None, 0, 1, 2, 3, np.inf, -np.inf):
    both(
        "linalg.norm",
        lambda m, x, k=order: m.linalg.norm(x, k, axis=0),
        spread(5, 4),
        label=f"vectors-{order}",
    )
lazy(
    "linalg.norm",
    lambda x: da.linalg.norm(x, "nuc"),
    normal(6, 3),
    chunks=(3, 3),
    label="nuc",
    plain=lambda x: np.linalg.norm(x, "nuc"),
)
lazy(
    "linalg.norm",
    lambda x: da.linalg.norm(x, 2),
    normal(6, 3),
    chunks=(3, 3),
    label="2",
    plain=lambda x: np.linalg.norm(x, 2),
)


# --- FFT --------------------------------------------------------------------------------------------------

for _f in ("fft", "ifft", "hfft", "rfft", "irfft", "ihfft"):
    point = normal if _f in ("rfft", "ihfft") else z
    for n in (None, 3, 7):
        both(
            f"fft.{_f}",
            lambda m, x, f=_f, n=n: getattr(m.fft, f)(x, n, axis=0),
            point(5, 3),
            chunks=(5, 2),
            label=f"{n}",
        )
both("fft.fft", lambda m, x: m.fft.fft(x), normal(3, 5), chunks=(2, 5), label="real")
both("fft.fft", lambda m, x: m.fft.fft(x, norm="ortho"), normal(3, 5), chunks=(2, 5), label="ortho")
for _f in ("fft2", "ifft2", "rfft2", "irfft2", "fftn", "ifftn", "rfftn", "irfftn"):
    point = normal if _f.startswith("r") else z
    both(f"fft.{_f}", lambda m, x, f=_f: getattr(m.fft, f)(x, axes=(1, 2)), point(3, 4, 5), chunks=(2, 4, 5))
lazy(
    "fft.fft_wrap",
    lambda x: da.fft.fft_wrap(np.fft.rfft)(x),
    normal(3, 5),
    chunks=(2, 5),
    plain=np.fft.rfft,
)
both("fft.fftshift", lambda m, x: m.fft.fftshift(x, axes=0), normal(5, 4))
both("fft.ifftshift", lambda m, x: m.fft.ifftshift(x), normal(5, 4))

# --- statistics -------------------------------------------------------------------------------------------

COUNTS = np.array([0, 2, 1, 2, 2, 0, 3])
lazy(
    "bincount",
    lambda w: da.bincount(da.from_array(COUNTS, chunks=3), weights=w, minlength=4),
    normal(7),
    chunks=3,
    plain=lambda w: np.bincount(COUNTS, weights=w, minlength=4),
)
lazy(
    "bincount",
    lambda w: da.bincount(da.from_array(COUNTS, chunks=2), weights=w, minlength=4, split_every=2),
    normal(7),
    chunks=2,
    label="split",
)
POINTS = np.linspace(0.1, 2.9, 7)
for density in (False, True):
    lazy(
        "histogram",
        lambda w, d=density: da.histogram(
            da.from_array(POINTS, chunks=3), np.arange(4.0), weights=w, density=d
        )[0],
        positive(7),
        chunks=3,
        label=f"density-{density}",
        plain=lambda w, d=density: np.histogram(POINTS, np.arange(4.0), weights=w, density=d)[0],
    )
    lazy(
        "histogram2d",
        lambda w, d=density: da.histogram2d(
            da.from_array(POINTS, chunks=3),
            da.from_array(POINTS[::-1].copy(), chunks=3),
            [np.arange(4.0), np.arange(5.0)],
            weights=w,
            density=d,
        )[0],
        positive(7),
        chunks=3,
        label=f"density-{density}",
        plain=lambda w, d=density: np.histogram2d(
            POINTS, POINTS[::-1], [np.arange(4.0), np.arange(5.0)], weights=w, density=d
        )[0],
    )
    lazy(
        "histogramdd",
        lambda w, d=density: da.histogramdd(
            da.from_array(np.stack([POINTS, POINTS[::-1]], 1), chunks=(3, 2)),
            [np.arange(4.0), np.arange(5.0)],
            weights=w,
            density=d,
        )[0],
        positive(7),
        chunks=3,
        label=f"density-{density}",
    )
for _f in ("skew", "kurtosis"):
    lazy(f"stats.{_f}", lambda x, f=_f: getattr(stats, f)(x, axis=0), normal(7, 2))
lazy("stats.moment", lambda x: stats.moment(x, 3, axis=0), normal(7, 2))
lazy("ma.average", lambda x: da.ma.average(x, axis=0), normal(7, 2))

RESULTS: dict[str, tuple[Any, int]] = {
    "chisquare": (lambda x: stats.chisquare(x), 7),
    "f_oneway": (lambda x: stats.f_oneway(x[:3], x[3:]), 7),
    "kurtosistest": (lambda x: stats.kurtosistest(x), 21),
    "normaltest": (lambda x: stats.normaltest(x), 21),
    "power_divergence": (lambda x: stats.power_divergence(x, lambda_=0.5), 7),
    "skewtest": (lambda x: stats.skewtest(x), 9),
    "ttest_1samp": (lambda x: stats.ttest_1samp(x, 0.3), 7),
    "ttest_ind": (lambda x: stats.ttest_ind(x[:3], x[3:]), 7),
    "ttest_rel": (lambda x: stats.ttest_rel(x[:3], x[3:6]), 7),
}
for _f, (call, n) in RESULTS.items():
    for k, part in enumerate(("statistic", "p")):
        if part == "p" and _f in ("kurtosistest", "skewtest"):
            continue  # SciPy computes it at once: see the tests
        lazy(
            f"stats.{_f}",
            lambda x, f=call, k=k: da.from_delayed(f(x)[k], shape=(), dtype=float),
            np.arange(float(n)) ** 1.3 + 0.1,
            label=part,
        )
lazy("random.permutation", lambda x: da.random.default_rng(3).permutation(x), normal(7, 2))
