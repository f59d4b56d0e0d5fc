"""Distribution functions and their inverses: the derivative in the variable is the density.

Densities are written with logarithms of gamma functions, so that their limits at the ends of the
support come out.  The inverse of a distribution function F has the derivative 1/f in the probability,
and minus the derivative of F divided by f in a parameter.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.special as sp

from paradual.rules.partly import known
from paradual.rules.registry import elementwise, refused

PI = float(np.pi)
ROOT_2PI = float(np.sqrt(2 * np.pi))

# --- densities ----------------------------------------------------------------------------------------


def gamma_density(a: Any, x: Any) -> Any:
    """The density of the gamma distribution with shape a and scale 1."""
    return np.exp(sp.xlogy(a - 1, x) - x - sp.gammaln(a))


def beta_density(a: Any, b: Any, x: Any) -> Any:
    """The density of the beta distribution."""
    return np.exp(sp.xlogy(a - 1, x) + sp.xlog1py(b - 1, -x) - sp.betaln(a, b))


def _f_density(dfn: Any, dfd: Any, x: Any) -> Any:
    total = dfd + dfn * x
    return beta_density(dfn / 2, dfd / 2, dfn * x / total) * dfn * dfd / (total * total)


def _t_density(df: Any, t: Any) -> Any:
    return np.exp(-(df + 1) / 2 * np.log1p(t * t / df) - sp.betaln(0.5, df / 2)) / np.sqrt(df)


def _chi2_density(df: Any, nc: Any, x: Any) -> Any:
    return np.exp(-nc / 2) * gamma_density(df / 2, x / 2) / 2 * sp.hyp0f1(df / 2, nc * x / 4)


def _chi2_nc(df: Any, nc: Any, x: Any, cdf: Any) -> Any:
    # the distribution is a mixture of central ones with Poisson weights in nc / 2
    return (sp.chndtr(x, df + 2, nc) - cdf) / 2


def _ncf_density(dfn: Any, dfd: Any, nc: Any, f: Any) -> Any:
    a, b, w = dfn / 2, dfd / 2, dfn * f / (dfd + dfn * f)
    return np.exp(-nc / 2) * _f_density(dfn, dfd, f) * sp.hyp1f1(a + b, a, nc * w / 2)


def _ncf_nc(dfn: Any, dfd: Any, nc: Any, f: Any, cdf: Any) -> Any:
    return (sp.ncfdtr(dfn + 2, dfd, nc, f * dfn / (dfn + 2)) - cdf) / 2


def _nct_integral(df: Any, nc: Any, t: Any, power: int) -> Any:
    """The mean of ``u**power phi(t u - nc)``, where df u**2 has the chi-square distribution.

    The integral of ``u**(p - 1) exp(-u**2 / 2 + z u)`` is a sum of two Kummer functions (DLMF 12.5, 12.4).
    """
    p = df + power
    stretch = 1 + t * t / df
    z = nc * t / np.sqrt(df * stretch)
    even = sp.gamma(p / 2) * sp.hyp1f1(p / 2, 0.5, z * z / 2)
    odd = sp.gamma((p + 1) / 2) * sp.hyp1f1((p + 1) / 2, 1.5, z * z / 2)
    total = 2 ** (power / 2) * (even + float(np.sqrt(2)) * z * odd) * stretch ** (-p / 2)
    return total * np.exp(-nc * nc / 2) / (ROOT_2PI * sp.gamma(df / 2) * df ** (power / 2))


# --- incomplete gamma and beta functions -----------------------------------------------------------------

known(sp.gammainc, "a x", x=lambda a, x: gamma_density(a, x))
known(sp.gammaincc, "a x", x=lambda a, x: -gamma_density(a, x))
known(sp.gammaincinv, "a y", y=lambda a, out: 1 / gamma_density(a, out))
known(sp.gammainccinv, "a y", y=lambda a, out: -1 / gamma_density(a, out))
known(sp.betainc, "a b x", x=lambda a, b, x: beta_density(a, b, x))
known(sp.betaincc, "a b x", x=lambda a, b, x: -beta_density(a, b, x))
known(sp.betaincinv, "a b y", y=lambda a, b, out: 1 / beta_density(a, b, out))
known(sp.betainccinv, "a b y", y=lambda a, b, out: -1 / beta_density(a, b, out))

# --- binomial, negative binomial, Poisson: k is rounded down ---------------------------------------------

known(sp.bdtr, "k n p", p=lambda k, n, p: -beta_density(n - np.floor(k), np.floor(k) + 1, 1 - p))
known(sp.bdtrc, "k n p", p=lambda k, n, p: beta_density(n - np.floor(k), np.floor(k) + 1, 1 - p))
known(sp.bdtri, "k n y", y=lambda k, n, out: -1 / beta_density(n - np.floor(k), np.floor(k) + 1, 1 - out))
known(sp.nbdtr, "k n p", p=lambda k, n, p: beta_density(n, np.floor(k) + 1, p))
known(sp.nbdtrc, "k n p", p=lambda k, n, p: -beta_density(n, np.floor(k) + 1, p))
known(sp.nbdtri, "k n y", y=lambda k, n, out: 1 / beta_density(n, np.floor(k) + 1, out))
known(sp.pdtr, "k m", m=lambda k, m: -gamma_density(np.floor(k) + 1, m))
known(sp.pdtrc, "k m", m=lambda k, m: gamma_density(np.floor(k) + 1, m))
known(sp.pdtri, "k y", y=lambda k, out: -1 / gamma_density(np.floor(k) + 1, out))

# --- gamma, chi-square, F, Student ------------------------------------------------------------------------

known(
    sp.gdtr,
    "a b x",
    a=lambda a, b, x: x * gamma_density(b, a * x),
    x=lambda a, b, x: a * gamma_density(b, a * x),
)
known(
    sp.gdtrc,
    "a b x",
    a=lambda a, b, x: -x * gamma_density(b, a * x),
    x=lambda a, b, x: -a * gamma_density(b, a * x),
)
known(
    sp.gdtria,
    "p b x",
    p=lambda b, x, out: 1 / (x * gamma_density(b, out * x)),
    x=lambda x, out: -out / x,
)
known(
    sp.gdtrix,
    "a b p",
    a=lambda a, out: -out / a,
    p=lambda a, b, out: 1 / (a * gamma_density(b, a * out)),
)
known(sp.chdtr, "v x", x=lambda v, x: gamma_density(v / 2, x / 2) / 2)
known(sp.chdtrc, "v x", x=lambda v, x: gamma_density(v / 2, x / 2) / -2)
known(sp.chdtri, "v p", p=lambda v, out: -2 / gamma_density(v / 2, out / 2))
known(sp.fdtr, "dfn dfd x", x=lambda dfn, dfd, x: _f_density(dfn, dfd, x))
known(sp.fdtrc, "dfn dfd x", x=lambda dfn, dfd, x: -_f_density(dfn, dfd, x))
known(sp.fdtri, "dfn dfd p", p=lambda dfn, dfd, out: 1 / _f_density(dfn, dfd, out))
known(sp.stdtr, "df t", t=lambda df, t: _t_density(df, t))
known(sp.stdtrit, "df p", p=lambda df, out: 1 / _t_density(df, out))

# --- noncentral distributions ------------------------------------------------------------------------------

known(
    sp.chndtr,
    "x df nc",
    x=lambda x, df, nc: _chi2_density(df, nc, x),
    nc=lambda x, df, nc, out: _chi2_nc(df, nc, x, out),
)
known(
    sp.chndtrix,
    "p df nc",
    p=lambda df, nc, out: 1 / _chi2_density(df, nc, out),
    nc=lambda p, df, nc, out: -_chi2_nc(df, nc, out, p) / _chi2_density(df, nc, out),
)
known(
    sp.chndtrinc,
    "x df p",
    x=lambda x, df, p, out: -_chi2_density(df, out, x) / _chi2_nc(df, out, x, p),
    p=lambda x, df, p, out: 1 / _chi2_nc(df, out, x, p),
)
known(
    sp.ncfdtr,
    "dfn dfd nc f",
    nc=lambda dfn, dfd, nc, f, out: _ncf_nc(dfn, dfd, nc, f, out),
    f=lambda dfn, dfd, nc, f: _ncf_density(dfn, dfd, nc, f),
)
known(
    sp.ncfdtri,
    "dfn dfd nc p",
    nc=lambda dfn, dfd, nc, p, out: -_ncf_nc(dfn, dfd, nc, out, p) / _ncf_density(dfn, dfd, nc, out),
    p=lambda dfn, dfd, nc, out: 1 / _ncf_density(dfn, dfd, nc, out),
)
known(
    sp.nctdtr,
    "df nc t",
    nc=lambda df, nc, t: -_nct_integral(df, nc, t, 0),
    t=lambda df, nc, t: _nct_integral(df, nc, t, 1),
)
known(
    sp.nctdtrit,
    "df nc p",
    nc=lambda df, nc, out: _nct_integral(df, nc, out, 0) / _nct_integral(df, nc, out, 1),
    p=lambda df, nc, out: 1 / _nct_integral(df, nc, out, 1),
)
known(
    sp.nctdtrinc,
    "df p t",
    p=lambda df, t, out: -1 / _nct_integral(df, out, t, 0),
    t=lambda df, t, out: _nct_integral(df, out, t, 1) / _nct_integral(df, out, t, 0),
)

# --- normal, Kolmogorov ------------------------------------------------------------------------------------


def _normal_quantile_slope(p: Any) -> Any:
    return ROOT_2PI * np.exp(sp.ndtri(p) ** 2 / 2)


known(  # the mean and the standard deviation at which a normal distribution has the quantile x
    sp.nrdtrimn,
    "p std x",
    p=lambda p, std: -std * _normal_quantile_slope(p),
    std=lambda p: -sp.ndtri(p),
    x=lambda: 1.0,
)
known(
    sp.nrdtrisd,
    "mn p x",
    mn=lambda p: -1 / sp.ndtri(p),
    p=lambda p, out: -out * _normal_quantile_slope(p) / sp.ndtri(p),
    x=lambda p: 1 / sp.ndtri(p),
)
# Owen (1956): the probability is an integral in a, and normal in h
known(
    sp.owens_t,
    "h a",
    h=lambda h, a: np.exp(-h * h / 2) * sp.erf(a * h / float(np.sqrt(2))) / (-2 * ROOT_2PI),
    a=lambda h, a: np.exp(-h * h * (1 + a * a) / 2) / (2 * PI * (1 + a * a)),
)


def _kolmogorov_slope(y: Any) -> Any:
    """Minus the density, by one of the two theta series: for large y, and for small y."""
    small = y < 1
    u, v = np.where(small, 1.0, y), np.where(small & (y > 0), y, 1.0)
    large = sum((-1) ** k * 8 * k * k * u * np.exp(-2 * k * k * u * u) for k in range(1, 6))
    w = PI * PI / (8 * v * v)
    near = sum((1 - 2 * k * k * w) * np.exp(-k * k * w) for k in (1, 3, 5, 7))
    return np.where(small, np.where(y > 0, ROOT_2PI / (v * v) * near, 0.0), large)


elementwise(sp.kolmogorov, lambda x: _kolmogorov_slope(x))
elementwise(sp.kolmogi, lambda out: 1 / _kolmogorov_slope(out))

# --- power transforms: Box and Cox, Tukey ------------------------------------------------------------------


def boxcox_slope(log: Any, lmbda: Any) -> Any:
    """The derivative of boxcox in its exponent: boxcox = log(x) exprel(lmbda log(x)); smooth at 0."""
    low = np.isneginf(log)  # at x = 0 boxcox is -1/lmbda
    finite = np.where(low, 0.0, log)
    slope = finite * finite * sp.hyp1f1(2, 3, lmbda * finite) / 2
    return np.where(low, 1 / np.where(low, lmbda, 1.0) ** 2, slope)


known(
    sp.boxcox,
    "x lmbda",
    x=lambda x, lmbda: x ** (lmbda - 1),
    lmbda=lambda x, lmbda: boxcox_slope(np.log(x), lmbda),
)
known(
    sp.boxcox1p,
    "x lmbda",
    x=lambda x, lmbda: (1 + x) ** (lmbda - 1),
    lmbda=lambda x, lmbda: boxcox_slope(np.log1p(x), lmbda),
)


def _tukey_density(p: Any, lmbda: Any) -> Any:
    """1 over the derivative of the quantile ``(p**lmbda - (1 - p)**lmbda) / lmbda``."""
    return 1 / (p ** (lmbda - 1) + (1 - p) ** (lmbda - 1))


def _tukey_quantile_slope(p: Any, lmbda: Any) -> Any:
    return boxcox_slope(np.log(p), lmbda) - boxcox_slope(np.log1p(-p), lmbda)


known(
    sp.tklmbda,
    "x lmbda",
    x=lambda lmbda, out: _tukey_density(out, lmbda),
    lmbda=lambda lmbda, out: -_tukey_quantile_slope(out, lmbda) * _tukey_density(out, lmbda),
)

# --- inverses in other parameters --------------------------------------------------------------------------

_NO_INVERSE = "SciPy has no derivative of {0} in this parameter: wrap {1} with paradual.custom_vjp"
for _f, _of in {
    sp.bdtrik: sp.bdtr,
    sp.bdtrin: sp.bdtr,
    sp.btdtria: sp.betainc,
    sp.btdtrib: sp.betainc,
    sp.chdtriv: sp.chdtr,
    sp.chndtridf: sp.chndtr,
    sp.fdtridfd: sp.fdtr,
    sp.gdtrib: sp.gdtr,
    sp.nbdtrik: sp.nbdtr,
    sp.nbdtrin: sp.nbdtr,
    sp.ncfdtridfd: sp.ncfdtr,
    sp.ncfdtridfn: sp.ncfdtr,
    sp.nctdtridf: sp.nctdtr,
    sp.pdtrik: sp.pdtr,
    sp.stdtridf: sp.stdtr,
}.items():
    refused(_f, _NO_INVERSE.format(_of.__name__, _f.__name__))
refused(sp.ncfdtrinc, "SciPy finds it to four digits only: solve sp.ncfdtr for nc, with paradual.custom_vjp")
for _f in (sp.smirnov, sp.smirnovi):
    refused(_f, "its pieces depend on n: use sp.kolmogorov, its limit, or paradual.custom_vjp")
