"""`scipy.special` with derivatives: the same names, those included that do not dispatch.

>>> from paradual.scipy import special
>>> import numpy as np, paradual as pdl
>>> bool(np.allclose(pdl.grad(special.logsumexp)(np.array([0.0, 0.0])), 0.5))
True

SciPy's ufuncs take values that are being differentiated as they are; its Python functions turn them
into arrays.  Those that are defined here are written in NumPy functions instead, for such values
only; without one among the arguments SciPy's own function is called.  Every other name is SciPy's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.special as sp

from paradual.arrays import is_complex, shape_of
from paradual.dual import duals_in
from paradual.errors import NotDifferentiableError

__all__ = [
    "comb",
    "factorial",
    "log_softmax",
    "logsumexp",
    "multigammaln",
    "perm",
    "polygamma",
    "softmax",
]


def __getattr__(name: str) -> Any:
    return getattr(sp, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *dir(sp)})


def _plain(*args: Any) -> bool:
    return next(duals_in(args), None) is None


def _constant(name: str, function: str, value: Any) -> None:
    if not _plain(value):
        raise NotDifferentiableError(
            f"{function} is not differentiated with respect to its argument {name!r}: pass "
            f"paradual.stop_gradient({name}) if it is constant"
        )


def _value(x: Any) -> Any:
    while hasattr(x, "place"):
        x = x.value
    return x


def _as_array(x: Any) -> Any:
    return x if hasattr(x, "shape") else np.asarray(x)


def _squeeze(x: Any, axes: Any, keepdims: bool) -> Any:
    return x if keepdims else np.squeeze(x, axis=axes)[()]


def logsumexp(
    a: Any, axis: Any = None, b: Any = None, keepdims: bool = False, return_sign: bool = False
) -> Any:
    """Compute ``log(sum(b * exp(a)))`` without overflow, as `scipy.special.logsumexp` does.

    Parameters
    ----------
    a : array
        The exponents, real or complex.
    axis : int or tuple of ints, optional
        What to sum over; all axes by default.
    b : array, optional
        Factors, also negative ones or zeros.
    keepdims : bool
        Whether the result keeps the summed axes, with length 1.
    return_sign : bool
        Whether to return ``log(abs(sum))`` and the sign of the sum.

    Returns
    -------
    array, or (array, array)
        The logarithm, and the sign if asked for.

    Raises
    ------
    NotDifferentiableError
        With ``return_sign`` for complex exponents or factors.

    Notes
    -----
    The derivative in ``a`` is ``b * exp(a - out)``, which without ``b`` is the softmax [1]_.  Where all
    exponents are minus infinity it is shared evenly, as in a tie; where some are plus infinity, between them.

    References
    ----------
    .. [1] Blanchard, Higham and Higham (2021), "Accurately computing the log-sum-exp and softmax
       functions", IMA Journal of Numerical Analysis 41(4), 2311-2330.

    Examples
    --------
    >>> import numpy as np, paradual as pdl
    >>> pdl.grad(logsumexp)(np.array([1000.0, 1000.0]))
    array([0.5, 0.5])
    """
    if _plain(a, b):
        return sp.logsumexp(a, axis=axis, b=b, keepdims=keepdims, return_sign=return_sign)
    if return_sign and (is_complex(a) or is_complex(b)):
        raise NotDifferentiableError(
            "logsumexp with return_sign=True has no derivative rule for complex numbers: take the real and "
            "imaginary parts of logsumexp(a) without it"
        )
    a = _as_array(a)
    if b is not None:
        b = _as_array(b)
        shape = np.broadcast_shapes(shape_of(a), shape_of(b))
        a, b = np.broadcast_to(a, shape), np.broadcast_to(b, shape)
    axes = tuple(range(len(shape_of(a)))) if axis is None else axis
    with np.errstate(all="ignore"):
        return _logsumexp(a, 1.0 if b is None else b, axes, keepdims, return_sign)


def _logsumexp(a: Any, b: Any, axes: Any, keepdims: bool, return_sign: bool) -> Any:
    def total(x: Any) -> Any:
        return np.sum(x, axis=axes, keepdims=True)

    counts = _value(b) != 0
    exponents = np.where(counts, np.real(_value(a)), -np.inf)
    top = np.max(exponents, axis=axes, keepdims=True, initial=-np.inf)
    # in a row whose largest exponent is infinite those that are count alone, evenly
    tie = np.isinf(exponents) & (exponents == top) & counts
    edge = np.any(tie, axis=axes, keepdims=True)
    shift = np.where(np.isfinite(top), top, 0.0).astype(
        np.asarray(np.real(_value(a))).dtype
    )  # its derivative is 0
    inside = np.where(edge, 0.0, a)
    if not is_complex(a):  # what has the factor 0 may be as large as it likes
        inside = np.where(counts, inside, np.minimum(inside, shift + 50))
    sums = total(b * np.exp(inside - shift))
    weights = np.where(tie, b, 0.0)
    limit = total(np.where(tie, a, 0.0) * (weights / np.where(edge, total(weights), 1.0)))
    sign = np.sign(_value(np.where(edge, total(weights), sums)))
    size = np.abs(sums) if return_sign else sums
    out = np.where(edge, limit, np.log(np.where(edge, 1.0, size)) + shift)
    if not (return_sign or is_complex(sums)):
        out = np.where(sign < 0, np.nan, out)
    out = _squeeze(out, axes, keepdims)
    return (out, _squeeze(sign, axes, keepdims)) if return_sign else out


def softmax(x: Any, axis: Any = None) -> Any:
    """Compute ``exp(x) / sum(exp(x))`` without overflow, as `scipy.special.softmax` does.

    Parameters
    ----------
    x : array
        The exponents.
    axis : int or tuple of ints, optional
        What to sum over; all axes by default.

    Returns
    -------
    array
        Of the shape of ``x``; its sums are 1.

    Examples
    --------
    >>> import numpy as np, paradual as pdl
    >>> pdl.grad(lambda x: softmax(x)[0])(np.array([1000.0, 1000.0]))
    array([ 0.25, -0.25])
    """
    if _plain(x):
        return sp.softmax(x, axis=axis)
    powers = np.exp(x - np.max(_value(x), axis=axis, keepdims=True))  # the shift cancels
    return powers / np.sum(powers, axis=axis, keepdims=True)


def log_softmax(x: Any, axis: Any = None) -> Any:
    """Compute the logarithm of `softmax`, as `scipy.special.log_softmax` does.

    Parameters
    ----------
    x : array
        The exponents.
    axis : int or tuple of ints, optional
        What to sum over; all axes by default.

    Returns
    -------
    array
        Of the shape of ``x``.

    Examples
    --------
    >>> import numpy as np, paradual as pdl
    >>> pdl.grad(lambda x: log_softmax(x)[0])(np.array([0.0, 0.0]))
    array([ 0.5, -0.5])
    """
    if _plain(x):
        return sp.log_softmax(x, axis=axis)
    top = np.max(_value(x), axis=axis, keepdims=True)
    shifted = x - np.where(np.isfinite(top), top, 0.0).astype(np.asarray(_value(x)).dtype)
    with np.errstate(divide="ignore"):
        return shifted - np.log(np.sum(np.exp(shifted), axis=axis, keepdims=True))


def polygamma(n: Any, x: Any) -> Any:
    """Differentiate digamma n times, as `scipy.special.polygamma` does.

    Parameters
    ----------
    n : int or array of ints
        The order; a constant.
    x : array
        Real numbers.

    Returns
    -------
    array
        By the zeta function [1]_.

    Raises
    ------
    NotDifferentiableError
        If ``n`` is being differentiated.

    References
    ----------
    .. [1] NIST Digital Library of Mathematical Functions, 25.11.12.

    Examples
    --------
    >>> import paradual as pdl, numpy as np
    >>> bool(np.isclose(pdl.grad(lambda x: polygamma(0, x))(1.0), np.pi**2 / 6))
    True
    """
    _constant("n", "polygamma", n)
    if _plain(x):
        return sp.polygamma(n, x)
    order = np.where(np.equal(n, 0), 1, n)
    higher = (-1.0) ** (order + 1) * sp.gamma(order + 1.0) * sp.zeta(order + 1, x)
    return np.where(np.equal(n, 0), sp.psi(x), higher)


def multigammaln(a: Any, d: int) -> Any:
    """Compute the logarithm of the multivariate gamma function, as `scipy.special.multigammaln` does.

    Parameters
    ----------
    a : array
        Numbers above ``(d - 1) / 2``.
    d : int
        The dimension.

    Returns
    -------
    array
        A sum of logarithms of gamma functions [1]_.

    Raises
    ------
    ValueError
        As SciPy does, if ``a`` is too small or ``d`` is no integer.

    References
    ----------
    .. [1] NIST Digital Library of Mathematical Functions, 35.3.4.

    Examples
    --------
    >>> import paradual as pdl
    >>> float(round(pdl.grad(lambda a: multigammaln(a, 1))(2.0), 6))
    0.422784
    """
    _constant("d", "multigammaln", d)
    value = sp.multigammaln(_value(a), d)  # its checks
    if _plain(a):
        return value
    return d * (d - 1) * 0.25 * float(np.log(np.pi)) + sum(sp.loggamma(a - j / 2) for j in range(int(d)))


def _inexact(function: str, exact: Any) -> None:
    if exact:
        raise NotDifferentiableError(f"{function} with exact=True counts with integers: leave exact=True out")


def comb(N: Any, k: Any, *, exact: bool = False, repetition: bool = False) -> Any:
    """Count combinations, continued by gamma functions, as `scipy.special.comb` does.

    Parameters
    ----------
    N, k : array
        How many things there are, and how many are taken.
    exact : bool
        Whether to count with integers, which are not differentiated.
    repetition : bool
        Whether a thing may be taken more than once.

    Returns
    -------
    array
        0 where there is no combination.

    Raises
    ------
    NotDifferentiableError
        If ``exact``.

    Examples
    --------
    >>> import paradual as pdl
    >>> float(round(pdl.grad(lambda n: comb(n, 2))(5.0), 6))  # of n (n - 1) / 2
    4.5
    """
    if _plain(N, k):
        return sp.comb(N, k, exact=exact, repetition=repetition)
    _inexact("comb", exact)
    if repetition:
        return sp.binom(N + k - 1, k)
    return np.where((k <= N) & (N >= 0) & (k >= 0), sp.binom(N, k), 0.0)


def perm(N: Any, k: Any, exact: bool = False) -> Any:
    """Count permutations, continued by gamma functions, as `scipy.special.perm` does.

    Parameters
    ----------
    N, k : array
        How many things there are, and how many are taken.
    exact : bool
        Whether to count with integers, which are not differentiated.

    Returns
    -------
    array
        0 where there is no permutation.

    Raises
    ------
    NotDifferentiableError
        If ``exact``.

    Examples
    --------
    >>> import paradual as pdl
    >>> float(round(pdl.grad(lambda n: perm(n, 2))(5.0), 6))  # of n (n - 1)
    9.0
    """
    if _plain(N, k):
        return sp.perm(N, k, exact=exact)
    _inexact("perm", exact)
    return np.where((k <= N) & (N >= 0) & (k >= 0), sp.poch(N - k + 1, k), 0.0)


def factorial(n: Any, exact: bool = False, **kwargs: Any) -> Any:
    """Compute ``gamma(n + 1)``, and 0 for negative numbers, as `scipy.special.factorial` does.

    Parameters
    ----------
    n : array
        Real numbers.
    exact : bool
        Whether to multiply integers, which are not differentiated.
    **kwargs
        For SciPy, where nothing is being differentiated.

    Returns
    -------
    array
        The factorials.

    Raises
    ------
    NotDifferentiableError
        If ``exact`` or an argument that only SciPy knows is given.

    Examples
    --------
    >>> import paradual as pdl
    >>> float(round(pdl.grad(factorial)(2.0), 6))  # 2 (3/2 - gamma)
    1.845569
    """
    if _plain(n):
        return sp.factorial(n, exact=exact, **kwargs)
    _inexact("factorial", exact)
    if kwargs:
        raise NotDifferentiableError(f"factorial with {', '.join(kwargs)}: use sp.gamma(n + 1)")
    return np.where(n < 0, 0.0, sp.gamma(np.where(n < 0, 0.0, n) + 1))
