"""Estimates of derivatives that cost less than the derivatives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from paradual.arrays import PYTHON_SCALARS, bare, form_of, is_buffer, is_complex, shape_of
from paradual.errors import ParadualTypeError, ParadualValueError
from paradual.lazy import is_lazy
from paradual.transforms import check_loss, jvp
from paradual.trees import check_input, finish, flatten, paths, unflatten


def forward_gradient(fn: Callable[[Any], Any], x: Any, rng: Any, *, samples: int = 1) -> Any:
    """Estimate a gradient without bias, in one forward pass and the memory of the program itself.

    Parameters
    ----------
    fn : callable
        A function of one argument whose result is a real scalar.
    x : pytree
        Where; arrays of float or complex dtype, floats.
    rng : numpy.random.Generator or seed
        Where the random directions come from: a generator, which moves on, or what
        `numpy.random.default_rng` makes one of (an integer gives the same directions on every call).
    samples : int
        How many directions to average over; each costs one forward pass.

    Returns
    -------
    pytree
        An estimate of the gradient, with the structure, shapes and dtypes of ``x``.

    Raises
    ------
    ParadualTypeError, ParadualValueError
        If the result is not a real scalar, an argument not of floating-point type, or there is no
        ``rng`` or no sample.

    Notes
    -----
    The slope along v times v, for v from N(0, I): its expectation is the gradient, because that of
    v v^T is I (Baydin, Pearlmutter, Syme, Wood and Torr, "Gradients without backpropagation",
    arXiv:2202.08587, 2022).  Its covariance for the gradient g of n numbers is |g|^2 I + g g^T, divided by
    the number of samples: a mean square error of (n + 1) |g|^2.  Of z = x + iy both parts of a
    direction are from N(0, 1), and the estimate is of df/dx - i df/dy.

    Examples
    --------
    >>> import numpy as np
    >>> forward_gradient(lambda x: x[0] - 2 * x[1], np.ones(2), 0, samples=200).round()
    array([ 1., -2.])
    """
    if isinstance(samples, bool) or not isinstance(samples, int | np.integer):
        raise ParadualTypeError(f"samples must be an integer, not a {type(samples).__name__}")
    if samples < 1:
        raise ParadualValueError(f"samples={samples}: at least one direction is needed")
    if is_lazy((x,)):
        raise ParadualTypeError(
            "forward_gradient estimates with respect to arrays, not Dask collections: call it in a task, "
            "with dask.delayed, or take paradual.tangents along directions of your own"
        )
    generator = _generator(rng)
    leaves, structure = flatten(x)
    for leaf, where in zip(leaves, paths(x), strict=True):
        check_input(leaf, f"x{where}")
    if not leaves:
        raise ParadualValueError("x has no leaves: there is nothing to differentiate with respect to")
    totals: list[Any] = [0.0] * len(leaves)
    for _ in range(samples):
        directions = [_direction(leaf, generator) for leaf in leaves]
        value, slope = jvp(fn, (x,), (unflatten(structure, directions),))
        check_loss(value, "forward_gradient")
        totals = [total + np.conj(v) * slope for total, v in zip(totals, directions, strict=True)]
    return unflatten(
        structure,
        [
            finish(total / samples, form_of(leaf), bare(leaf))
            for total, leaf in zip(totals, leaves, strict=True)
        ],
    )


def _generator(rng: Any) -> np.random.Generator:
    if rng is None:
        raise ParadualTypeError(
            "forward_gradient needs a source of randomness: pass a numpy.random.Generator, which moves on "
            "from call to call, or a seed"
        )
    try:
        return np.random.default_rng(rng)  # a generator as it is
    except (TypeError, ValueError) as error:
        kind = ParadualTypeError if isinstance(error, TypeError) else ParadualValueError
        raise kind(f"rng={rng!r} is neither a numpy.random.Generator nor a seed of one: {error}") from error


def _direction(leaf: Any, generator: np.random.Generator) -> Any:
    """A tangent of a value whose real numbers are independent and from N(0, 1)."""
    v: Any = generator.standard_normal(shape_of(leaf))  # in double precision: the same for any dtype
    if is_complex(leaf):
        v = v + 1j * generator.standard_normal(shape_of(leaf))
    form, like = form_of(leaf), bare(leaf)
    if form in PYTHON_SCALARS:
        return form(v)
    return np.asarray(v, dtype=form[1], like=like) if is_buffer(like) else form[1].type(v)


__all__ = ["forward_gradient"]
