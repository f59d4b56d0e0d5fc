"""`scipy.stats` with derivatives: densities and distribution functions, in x, loc, scale and the shapes.

A distribution is a line of a table: the logarithm of its standard density, or the map that takes it to
another distribution.  Distribution functions and quantiles have the density as their derivative in x; their
derivative in a shape follows where there is a map, and is refused elsewhere.

Values, and all cases at and beyond the ends of the support, are SciPy's: there the derivative is 0.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import scipy.special as special
import scipy.stats as _scipy

from paradual.arrays import bare, dispatch, shape_of
from paradual.errors import NotDifferentiableError, user_line
from paradual.rules.registry import general
from paradual.scipy import differentiated, double, passing
from paradual.scipy.linalg import solve_triangular

__getattr__ = passing("scipy.stats")

LOG_2, LOG_PI, LOG_2PI = float(np.log(2)), float(np.log(np.pi)), float(np.log(2 * np.pi))


def _plain(value: Any) -> Any:
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else bare(value)


def _number(value: Any) -> Any:
    """An argument as an array or number of double precision, in which SciPy computes."""
    if isinstance(value, list | tuple):
        value = np.asarray(value)
    return double(value) if getattr(getattr(value, "dtype", None), "kind", "") in ("f", "i", "u") else value


def _where(inside: Any, values: Any, safe: Any) -> list[Any]:
    """Values, and beyond the support others at which every formula is smooth."""
    if np.all(inside):
        return list(values)
    return [np.where(inside, value, at) for value, at in zip(values, safe, strict=True)]


def _merge(inside: Any, out: Any, value: Any) -> Any:
    """A formula where it holds, SciPy's own value elsewhere."""
    out = np.broadcast_to(out, np.shape(value)) if shape_of(out) != np.shape(value) else out
    out = out if np.all(inside) else np.where(inside, out, value)
    return out[()] if shape_of(out) == () and hasattr(out, "dtype") else out


# --- distribution functions: the derivative in x is the density -------------------------------------------


def standard(y: Any, name: str, method: str, shapes: Any) -> Any:
    """A distribution function or quantile of a standard distribution, at ``y``."""
    out = dispatch(standard, [y, *shapes], (y, name, method, shapes))
    return getattr(getattr(_scipy, name), method)(y, *shapes) if out is NotImplemented else out


def _slope(y: Any, name: str, method: str, shapes: Any, out: Any) -> Any:
    d = TABLE[name]
    if method in ("ppf", "isf"):
        size = np.exp(-d.logpdf(out, *shapes))
    else:
        of_log = method.startswith("log")
        with np.errstate(all="ignore"):
            inside = np.isfinite(d.scipy.logpdf(*_plain((y, *shapes)))) & (
                np.isfinite(out) if of_log else True
            )
        (at,) = _where(inside, (y,), (d.at,))
        log_density = d.log_density(at, *shapes)
        size = np.where(
            inside, np.exp(log_density - np.where(inside, out, 0.0) if of_log else log_density), 0.0
        )
    return -size if method in ("sf", "logsf", "isf") else size


general(
    standard,
    lambda g, y, name, method, shapes, out: g * _slope(y, name, method, shapes, out),
    lambda t, y, name, method, shapes, out: t * _slope(y, name, method, shapes, out),
)

# --- distributions ----------------------------------------------------------------------------------------


class _Distribution:
    """A distribution of SciPy; what is not defined here is SciPy's."""

    methods: tuple[str, ...] = ()

    def __init__(self, name: str) -> None:
        self.name = name
        self.scipy = getattr(_scipy, name)
        shapes = self.scipy.shapes
        self.shapes = [part.strip() for part in shapes.split(",")] if shapes else []
        self.__doc__ = f"`scipy.stats.{name}` with derivatives."

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "scipy" not in vars(self):
            raise AttributeError(name)
        if name in self.methods:
            return partial(self._call, name)
        return getattr(self.scipy, name)

    def __reduce__(self) -> str:
        return self.name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The distribution with its parameters fixed."""
        return _Frozen(self, args, kwargs) if differentiated(args, kwargs) else self.scipy(*args, **kwargs)

    def _call(self, method: str, x: Any, *args: Any, **kwargs: Any) -> Any:
        if not differentiated(x, args, kwargs):
            return getattr(self.scipy, method)(x, *args, **kwargs)
        names = [*self.shapes, "loc", "scale"] if isinstance(self, _Continuous) else [*self.shapes, "loc"]
        given = dict(zip(names, args, strict=False))
        if len(args) > len(names) or set(kwargs) - set(names) or set(kwargs) & set(given):
            raise TypeError(f"{self.name}.{method} takes the parameters {', '.join(names)}, each once")
        given = {"loc": 0, "scale": 1, **given, **kwargs}
        if any(name not in given for name in self.shapes):
            raise TypeError(f"{self.name}.{method} misses a shape parameter: {', '.join(self.shapes)}")
        shapes = [_number(given[name]) for name in self.shapes]
        return self._evaluate(method, _number(x), shapes, _number(given["loc"]), _number(given["scale"]))

    def _evaluate(self, method: str, x: Any, shapes: list[Any], loc: Any, scale: Any) -> Any:
        raise NotImplementedError


class _Frozen:
    """A distribution whose parameters are being differentiated."""

    def __init__(self, dist: _Distribution, args: Any, kwargs: Any) -> None:
        self.dist, self.args, self.kwds = dist, args, kwargs

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "dist" not in vars(self):
            raise AttributeError(name)
        if name in self.dist.methods:
            return lambda x: getattr(self.dist, name)(x, *self.args, **self.kwds)
        raise NotDifferentiableError(
            f"{self.dist.name}(...).{name}{user_line()} has no derivative rule: use one of "
            f"{', '.join(self.dist.methods)}, or paradual.stop_gradient of the parameters"
        )


class _Continuous(_Distribution):
    """Given by the logarithm of its standard density, ``log_density(y, *shapes)``."""

    methods = ("logpdf", "pdf", "cdf", "logcdf", "sf", "logsf", "ppf", "isf")

    def __init__(self, name: str, log_density: Any, at: float = 0.5) -> None:
        super().__init__(name)
        self.log_density = log_density
        self.at = at  # a point of the support

    def _evaluate(self, method: str, x: Any, shapes: list[Any], loc: Any, scale: Any) -> Any:
        value = getattr(self.scipy, method)(*_plain((x, *shapes, loc, scale)))
        if method in ("logpdf", "pdf"):
            inside = np.isfinite(value) & ((value != 0) if method == "pdf" else True)
            # at an end of the support the density may be 0 or infinite
            x, loc, scale, *shapes = _where(
                inside, (x, loc, scale, *shapes), (self.at, 0.0, 1.0, *[1.0] * len(shapes))
            )
            out = self.log_density((x - loc) / scale, *shapes) - np.log(scale)
            return _merge(inside, np.exp(out) if method == "pdf" else out, value)
        inside = ~np.isnan(value)
        x, loc, scale = _where(inside, (x, loc, scale), (self.at, 0.0, 1.0))
        if method in ("ppf", "isf"):
            out = self._function(method, x, shapes) * scale + loc
        else:
            out = self._function(method, (x - loc) / scale, shapes)
        return _merge(inside, out, value)

    def _function(self, method: str, y: Any, shapes: list[Any]) -> Any:
        return standard(y, self.name, method, shapes)


class _Mapped(_Continuous):
    """Given by the increasing map ``z = forward(y, *shapes)`` to another distribution."""

    def __init__(
        self, name: str, base: _Continuous, forward: Any, log_slope: Any, backward: Any, at: float = 0.5
    ):
        super().__init__(
            name, lambda y, *shapes: base.log_density(forward(y, *shapes)) + log_slope(y, *shapes), at
        )
        self.base, self.forward, self.backward = base, forward, backward

    def _function(self, method: str, y: Any, shapes: list[Any]) -> Any:
        if method in ("ppf", "isf"):
            return self.backward(standard(y, self.base.name, method, []), *shapes)
        low, high = self.scipy.support(*_plain(shapes))
        value = getattr(self.scipy, method)(*_plain((y, *shapes)))
        inside = (low < y) & (y < high)
        y, *shapes = _where(inside, (y, *shapes), (self.at, *[1.0] * len(shapes)))
        return _merge(inside, standard(self.forward(y, *shapes), self.base.name, method, []), value)


class _Discrete(_Distribution):
    """Given by the logarithm of its probabilities, and its distribution functions where they are known."""

    methods = ("logpmf", "pmf", "cdf", "logcdf", "sf", "logsf")

    def __init__(self, name: str, log_mass: Any, cdf: Any, sf: Any) -> None:
        super().__init__(name)
        self.log_mass, self.functions = log_mass, {"cdf": cdf, "sf": sf}

    def _evaluate(self, method: str, x: Any, shapes: list[Any], loc: Any, scale: Any) -> Any:
        if differentiated(x, loc):
            raise NotDifferentiableError(
                f"{self.name}.{method}{user_line()} is a step function of k and loc: "
                "pass paradual.stop_gradient(k)"
            )
        value = getattr(self.scipy, method)(*_plain((x, *shapes, loc)))
        k = np.floor(np.subtract(x, loc))
        low, high = self.scipy.support(*_plain(shapes))
        if method in ("logpmf", "pmf"):
            inside = np.isfinite(value) & ((value != 0) if method == "pmf" else True)
        else:
            inside = (low <= k) & (k < high) & ~np.isnan(value)
        k, *shapes = _where(
            inside, (k, *shapes), (1.0, *[0.5 if name == "p" else 2.0 for name in self.shapes])
        )
        if method in ("logpmf", "pmf"):
            out = self.log_mass(k, *shapes)
            return _merge(inside, np.exp(out) if method == "pmf" else out, value)
        out = self.functions[method.removeprefix("log")](k, *shapes)
        return _merge(inside, np.log(out) if method.startswith("log") else out, value)


# --- the table --------------------------------------------------------------------------------------------

norm = _Continuous("norm", lambda y: -(y * y + LOG_2PI) / 2)
expon = _Continuous("expon", lambda y: -y)
uniform = _Continuous("uniform", lambda y: y * 0)
laplace = _Continuous("laplace", lambda y: -np.abs(y) - LOG_2)
logistic = _Continuous("logistic", lambda y: special.log_expit(y) + special.log_expit(-y))
cauchy = _Continuous("cauchy", lambda y: -LOG_PI - np.log1p(y * y))
halfnorm = _Continuous("halfnorm", lambda y: (LOG_2 - LOG_PI - y * y) / 2)
halfcauchy = _Continuous("halfcauchy", lambda y: LOG_2 - LOG_PI - np.log1p(y * y))
rayleigh = _Continuous("rayleigh", lambda y: np.log(y) - y * y / 2)
maxwell = _Continuous("maxwell", lambda y: (LOG_2 - LOG_PI - y * y) / 2 + 2 * np.log(y))
gumbel_r = _Continuous("gumbel_r", lambda y: -y - np.exp(-y))
gumbel_l = _Continuous("gumbel_l", lambda y: y - np.exp(y))
gamma = _Continuous("gamma", lambda y, a: special.xlogy(a - 1, y) - y - special.gammaln(a))
invgamma = _Continuous("invgamma", lambda y, a: -(a + 1) * np.log(y) - special.gammaln(a) - 1 / y)
invgauss = _Continuous("invgauss", lambda y, mu: -(LOG_2PI + 3 * np.log(y)) / 2 - (1 - y / mu) ** 2 / (2 * y))
chi2 = _Continuous(
    "chi2", lambda y, df: special.xlogy(df / 2 - 1, y) - y / 2 - special.gammaln(df / 2) - LOG_2 * df / 2
)
beta = _Continuous(
    "beta", lambda y, a, b: special.xlog1py(b - 1, -y) + special.xlogy(a - 1, y) - special.betaln(a, b)
)
t = _Continuous(
    "t",
    lambda y, df: (
        special.gammaln((df + 1) / 2)
        - special.gammaln(df / 2)
        - (np.log(df) + LOG_PI) / 2
        - (df + 1) / 2 * np.log1p(y * y / df)
    ),
)

lognorm = _Mapped(
    "lognorm",
    norm,
    lambda y, s: np.log(y) / s,
    lambda y, s: -np.log(s) - np.log(y),
    lambda z, s: np.exp(s * z),
)
weibull_min = _Mapped(
    "weibull_min",
    expon,
    lambda y, c: y**c,
    lambda y, c: np.log(c) + special.xlogy(c - 1, y),
    lambda z, c: z ** (1 / c),
)
pareto = _Mapped(
    "pareto",
    expon,
    lambda y, b: b * np.log(y),
    lambda y, b: np.log(b) - np.log(y),
    lambda z, b: np.exp(z / b),
    at=2.0,
)
fisk = _Mapped(
    "fisk",
    logistic,
    lambda y, c: c * np.log(y),
    lambda y, c: np.log(c) - np.log(y),
    lambda z, c: np.exp(z / c),
)
powerlaw = _Mapped(
    "powerlaw",
    uniform,
    lambda y, a: y**a,
    lambda y, a: np.log(a) + special.xlogy(a - 1, y),
    lambda z, a: z ** (1 / a),
)
johnsonsu = _Mapped(
    "johnsonsu",
    norm,
    lambda y, a, b: a + b * np.arcsinh(y),
    lambda y, a, b: np.log(b) - np.log1p(y * y) / 2,
    lambda z, a, b: np.sinh((z - a) / b),
)

poisson = _Discrete(
    "poisson",
    lambda k, mu: special.xlogy(k, mu) - special.gammaln(k + 1) - mu,
    lambda k, mu: special.gammaincc(k + 1, mu),
    lambda k, mu: special.gammainc(k + 1, mu),
)
binom = _Discrete(
    "binom",
    lambda k, n, p: (
        special.gammaln(n + 1)
        - special.gammaln(k + 1)
        - special.gammaln(n - k + 1)
        + special.xlogy(k, p)
        + special.xlog1py(n - k, -p)
    ),
    lambda k, n, p: special.betainc(n - k, k + 1, 1 - p),
    lambda k, n, p: special.betainc(k + 1, n - k, p),
)
bernoulli = _Discrete(
    "bernoulli",
    lambda k, p: special.xlogy(k, p) + special.xlog1py(1 - k, -p),
    lambda k, p: 1 - p + 0 * k,
    lambda k, p: p + 0 * k,
)
geom = _Discrete(
    "geom",
    lambda k, p: special.xlog1py(k - 1, -p) + np.log(p),
    lambda k, p: -np.expm1(k * np.log1p(-p)),
    lambda k, p: np.exp(k * np.log1p(-p)),
)
nbinom = _Discrete(
    "nbinom",
    lambda k, n, p: (
        special.gammaln(n + k)
        - special.gammaln(k + 1)
        - special.gammaln(n)
        + n * np.log(p)
        + special.xlog1py(k, -p)
    ),
    lambda k, n, p: special.betainc(n, k + 1, p),
    lambda k, n, p: special.betainc(k + 1, n, 1 - p),
)

TABLE = {d.name: d for d in list(globals().values()) if isinstance(d, _Distribution)}

# --- of several variables ---------------------------------------------------------------------------------


class _Multivariate:
    """A distribution of several variables; what is not defined here is SciPy's."""

    def __init__(self, name: str, log_density: Any, entropy: Any) -> None:
        self.name, self.log_density, self._entropy = name, log_density, entropy
        self.scipy = getattr(_scipy, name)
        self.__doc__ = f"`scipy.stats.{name}` with derivatives."

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "scipy" not in vars(self):
            raise AttributeError(name)
        return getattr(self.scipy, name)

    def __reduce__(self) -> str:
        return self.name

    def logpdf(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """The logarithm of the density."""
        if not differentiated(x, args, kwargs):
            return self.scipy.logpdf(x, *args, **kwargs)
        return self.log_density(x, *args, **kwargs)

    def pdf(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """The density."""
        if not differentiated(x, args, kwargs):
            return self.scipy.pdf(x, *args, **kwargs)
        return np.exp(self.log_density(x, *args, **kwargs))

    def entropy(self, *args: Any, **kwargs: Any) -> Any:
        """The differential entropy."""
        if not differentiated(args, kwargs):
            return self.scipy.entropy(*args, **kwargs)
        return self._entropy(*args, **kwargs)


def _covariance(mean: Any, cov: Any) -> tuple[Any, int]:
    """The covariance as a matrix, and its size."""
    if len(shape_of(cov)) == 2:
        return cov, shape_of(cov)[0]
    n = max(shape_of(mean)[0] if len(shape_of(mean)) else 1, *(shape_of(cov) or (1,)))
    return np.eye(n) * cov, n  # it was a number, or the diagonal


def _normal(x: Any, mean: Any = None, cov: Any = 1, allow_singular: bool = False) -> Any:
    if allow_singular or isinstance(cov, _scipy.Covariance):
        raise NotDifferentiableError(
            "multivariate_normal with allow_singular=True or a Covariance has no derivative rule: pass a "
            "positive definite matrix"
        )
    _scipy.multivariate_normal.logpdf(*_plain((x, mean, cov)))  # refuses what SciPy refuses
    x, mean, cov = map(_number, (x, mean, cov))
    cov, n = _covariance(mean, cov)
    if not shape_of(x) or (len(shape_of(x)) == 1 and n == 1):
        x = np.expand_dims(x, -1)
    deviation = x if mean is None else x - mean
    root = np.linalg.cholesky(cov)
    flat = np.reshape(deviation, (-1, n))
    z = solve_triangular(root, np.transpose(flat), lower=True)
    log_det = 2 * np.sum(np.log(np.diagonal(root)))
    out = -(n * LOG_2PI + log_det + np.sum(z * z, axis=0)) / 2
    return np.reshape(out, shape_of(deviation)[:-1])[()]


def _normal_entropy(mean: Any = None, cov: Any = 1) -> Any:
    _scipy.multivariate_normal.entropy(*_plain((mean, cov)))  # refuses what SciPy refuses
    cov, n = _covariance(_number(mean), _number(cov))
    return n * (1 + LOG_2PI) / 2 + np.sum(np.log(np.diagonal(np.linalg.cholesky(cov))))


def _dirichlet_entropy(alpha: Any) -> Any:
    _scipy.dirichlet.entropy(_plain(alpha))  # refuses what SciPy refuses
    alpha = _number(alpha)
    total = np.sum(alpha)
    scale = np.sum(special.gammaln(alpha)) - special.gammaln(total)
    spread = (total - shape_of(alpha)[0]) * special.psi(total)
    return scale + spread - np.sum((alpha - 1) * special.psi(alpha))


def _dirichlet(x: Any, alpha: Any) -> Any:
    _scipy.dirichlet.logpdf(*_plain((x, alpha)))  # refuses what SciPy refuses
    x, alpha = _number(x), _number(alpha)
    if shape_of(x)[0] + 1 == shape_of(alpha)[0]:  # the last one makes the sum 1
        x = np.concatenate([x, 1 - np.sum(x, axis=0, keepdims=True)])
    weights = np.reshape(alpha - 1, (-1, *[1] * (len(shape_of(x)) - 1)))
    scale = np.sum(special.gammaln(alpha)) - special.gammaln(np.sum(alpha))
    return np.sum(special.xlogy(weights, x), axis=0) - scale


multivariate_normal = _Multivariate("multivariate_normal", _normal, _normal_entropy)
dirichlet = _Multivariate("dirichlet", _dirichlet, _dirichlet_entropy)
