"""Operations of dask.array: elementwise functions, operators, reductions, scans."""

from __future__ import annotations

import operator
from typing import Any

import dask.array as da
import numpy as np
from case_table import inner, normal, positive, ranked, reseed, spread, z
from dask_table import DIFFERENTIABLE, both, constant, lazy

reseed(41)

# --- elementwise ------------------------------------------------------------------------------------------

SMOOTH = """
    abs absolute arcsinh arctan cbrt conj cos deg2rad degrees exp exp2 expm1 fabs i0 nan_to_num
    negative positive rad2deg radians real reciprocal sin sinc square tan tanh sinh cosh
"""
for _f in SMOOTH.split():
    both(_f, lambda m, x, f=_f: getattr(m, f)(x), spread(5, 4))
for _f in [
    "abs",
    "absolute",
    "angle",
    "real",
    "imag",
    "conj",
    "exp",
    "sin",
    "square",
    "reciprocal",
    "sqrt",
    "log",
]:
    both(_f, lambda m, x, f=_f: getattr(m, f)(x), z(4, 3), label="complex")
both("angle", lambda m, x: m.angle(x, deg=True), z(4), label="degrees")
for _f in ["log", "log10", "log1p", "log2", "sqrt"]:
    both(_f, lambda m, x, f=_f: getattr(m, f)(x), positive(5, 4))
for _f in ["arccos", "arcsin", "arctanh"]:
    both(_f, lambda m, x, f=_f: getattr(m, f)(x), inner(5, 4))
both("arccosh", lambda m, x: m.arccosh(x), positive(5, 4) + 1.0)
both("nan_to_num", lambda m, x: m.nan_to_num(m.where(x > 0, x, np.nan)), spread(5), label="nan")

BINARY = """
    add arctan2 copysign divide float_power fmax fmin fmod hypot logaddexp logaddexp2 maximum minimum mod
    multiply power remainder subtract true_divide nextafter
"""
for _f in BINARY.split():
    both(_f, lambda m, x, y, f=_f: getattr(m, f)(x, y), positive(4, 3), positive(4, 3) + 0.05)
    both(_f, lambda m, x, y, f=_f: getattr(m, f)(x, y), positive(4, 1), positive(3) + 0.07, label="broadcast")
both("ldexp", lambda m, x: m.ldexp(x, 3), spread(5))
both("modf", lambda m, x: m.modf(x)[0], spread(5))
both("frexp", lambda m, x: m.frexp(x)[0], spread(5))
both("divmod", lambda m, x, y: m.divmod(x, y)[1], positive(5) + 2, positive(5))
both("clip", lambda m, x: m.clip(x, -0.5, 0.9), spread(5, 4))
both("clip", lambda m, x, y, w: m.clip(x, y, w), spread(5), normal(5) - 1, positive(5) + 1, label="arrays")
both("where", lambda m, x, y: m.where(x > 0, x * y, y), spread(5, 4), normal(4))
both("where", lambda m, x: m.where(x > 0, m.sqrt(m.where(x > 0, x, 1.0)), 0.0), spread(5), label="nested")
both("select", lambda m, x: m.select([x < -0.5, x < 0.9], [x**2, m.sin(x)], 2.0), spread(5, 4))
lazy(
    "piecewise",
    lambda x: da.piecewise(x, [x < 0, x >= 0], [lambda b: b**2, lambda b: np.sin(b)]),
    spread(5),
    plain=lambda x: np.where(x < 0, x**2, np.sin(x)),
)
both("choose", lambda m, x, y: m.choose(np.array([0, 1, 1, 0, 1]), [x, y]), normal(5), normal(5))
lazy(
    "Array.choose",
    lambda x, y: da.from_array(np.array([0, 1, 1, 0, 1]), chunks=2).choose([x, y]),
    normal(5),
    normal(5),
    plain=lambda x, y: np.choose(np.array([0, 1, 1, 0, 1]), [x, y]),
)

STEPS = """
    ceil fix floor rint sign signbit spacing trunc around round isfinite isinf isnan isneginf isposinf isreal
    iscomplex isnull notnull logical_not
"""
for _f in STEPS.split():
    constant(_f, lambda m, x, f=_f: getattr(da, f)(x + 0.013), spread(5, 4))
COMPARISONS = """
    equal greater greater_equal less less_equal not_equal logical_and logical_or logical_xor floor_divide
    isclose
"""
for _f in COMPARISONS.split():
    constant(_f, lambda m, x, f=_f: getattr(m, f)(x, m.flip(x, 0)), spread(5, 4))
for _f in ["bitwise_and", "bitwise_or", "bitwise_xor", "left_shift", "right_shift"]:
    constant(_f, lambda m, x, f=_f: getattr(m, f)(m.rint(x * x).astype(int), 2), spread(5))
for _f in ["bitwise_not", "invert"]:
    constant(_f, lambda m, x, f=_f: getattr(m, f)(x > 0), spread(5))
constant("allclose", lambda m, x: m.allclose(x, x), spread(5, 4))
constant("isin", lambda m, x: m.isin(x, [1.0, 2.0]), spread(5))
constant("Array.round", lambda m, x: x.round(1), spread(5))

# --- operators and methods ----------------------------------------------------------------------------------

for _f in ["add", "sub", "mul", "truediv", "pow", "mod"]:
    both(
        f"Array.__{_f}__", lambda m, x, y, f=_f: getattr(operator, f)(x, y), positive(5, 4), positive(4) + 0.3
    )
    both(f"Array.__r{_f}__", lambda m, x, f=_f: getattr(operator, f)(2.5, x), positive(5, 4))
both("Array.__matmul__", lambda m, x, y: x @ y, normal(5, 4), normal(4, 3))
both("Array.__rmatmul__", lambda m, x: np.arange(6.0).reshape(2, 3) @ x, normal(3, 4))
for _f in ["neg", "pos", "abs"]:
    both(f"Array.__{_f}__", lambda m, x, f=_f: getattr(operator, f)(x), spread(5, 4))
both("Array.__divmod__", lambda m, x, y: divmod(x, y)[1], positive(5) + 2, positive(5))
both("Array.__rdivmod__", lambda m, x: divmod(7.0, x)[1], positive(5) + 0.01)
for _f in ["lt", "le", "gt", "ge", "eq", "ne", "and", "or", "xor", "floordiv"]:
    logical = _f in ("and", "or", "xor")
    call = getattr(operator, f"__{_f}__")
    constant(
        f"Array.__{_f}__",
        lambda m, x, f=call, b=logical: f(x > 0, x[::-1] > 0) if b else f(x, x[::-1]),
        spread(5),
    )
for _f in ["and", "or", "xor"]:
    call = getattr(operator, f"__{_f}__")
    constant(f"Array.__r{_f}__", lambda m, x, f=call: f(True, x > 0), spread(5))
constant("Array.__rfloordiv__", lambda m, x: 7.0 // x, spread(5))
constant("Array.__invert__", lambda m, x: ~(x > 0), spread(5))
for _f in ["lshift", "rshift"]:
    call = getattr(operator, _f)
    constant(f"Array.__{_f}__", lambda m, x, f=call: f(m.rint(x * x).astype(int), 1), spread(5))
    constant(f"Array.__r{_f}__", lambda m, x, f=call: f(64, m.rint(x * x).astype(int)), spread(5))
both("Array.clip", lambda m, x: x.clip(-0.5, 0.9), spread(5))
both("Array.conj", lambda m, x: x.conj() * x**2, z(4, 3))
both("Array.real", lambda m, x: x.real, z(4, 3))
both("Array.imag", lambda m, x: x.imag, z(4, 3))
both("Array.copy", lambda m, x: x.copy() ** 2, normal(5))
both("Array.astype", lambda m, x: (x**2).astype("f4").astype("f8"), np.asarray(normal(5), "f4"), label="f4")
both("Array.astype", lambda m, x: x.astype(complex) * (1 + 2j), normal(5), label="complex")
constant("Array.astype", lambda m, x: (x * 3).astype(int), spread(5), label="int", table=DIFFERENTIABLE)

# --- reductions -------------------------------------------------------------------------------------------

SIMPLE = "sum prod mean var std max min"
HOLES = np.where(np.arange(20).reshape(5, 4) % 7 == 3, np.nan, 0.0)


def reductions(name: str, x: Any, holes: Any = 0.0, axes: Any = (None, 0, (0, 1))) -> None:
    """The function with its options; ``holes`` are NaN where an element is missing."""
    for axis in axes:
        both(
            name,
            lambda m, x, f=name, a=axis: getattr(m, f)(x + holes, axis=a),
            x,
            label=f"axis{axis}".replace(" ", ""),
        )
    both(name, lambda m, x, f=name: getattr(m, f)(x + holes, axis=1, keepdims=True), x, label="keepdims")


for _f in SIMPLE.split():
    reductions(_f, ranked(5, 4) if _f in ("max", "min") else spread(5, 4))
    lazy(
        _f,
        lambda x, f=_f: getattr(da, f)(x, axis=(0, 1), split_every=2),
        spread(7, 4),
        label="split",
        chunks=(1, 2),
        plain=lambda x, f=_f: getattr(np, f)(x),
    )
    lazy(
        _f,
        lambda x, f=_f: getattr(da, f)(x, axis=0, split_every={0: 3}, keepdims=True),
        spread(7, 2),
        label="split-axis",
        chunks=(1, 2),
        plain=lambda x, f=_f: getattr(np, f)(x, axis=0, keepdims=True),
    )
    both(f"Array.{_f}", lambda m, x, f=_f: getattr(x, f)(axis=1), spread(5, 4))
    reductions(f"nan{_f}", spread(5, 4), HOLES)
for _f in ("var", "std"):
    both(_f, lambda m, x, f=_f: getattr(m, f)(x, axis=0, ddof=1), spread(5, 4), label="ddof")
    both(f"nan{_f}", lambda m, x, f=_f: getattr(m, f)(x + HOLES, axis=0, ddof=1), spread(5, 4), label="ddof")
for _f in ("sum", "mean", "prod", "var", "std"):
    both(_f, lambda m, x, f=_f: getattr(m, f)(x, axis=0), z(5, 3), label="complex")
both("sum", lambda m, x: m.sum(x, axis=0, dtype="f8"), np.asarray(normal(5, 4), "f4"), label="dtype")
both("ptp", lambda m, x: m.ptp(x, axis=0), spread(5, 4))
both("average", lambda m, x: m.average(x, axis=0), spread(5, 4))
both("average", lambda m, x, w: m.average(x, axis=0, weights=w), spread(5, 4), positive(5), label="weights")
both(
    "average",
    lambda m, x, w: m.average(x, axis=1, weights=w, returned=True),
    spread(5, 4),
    positive(5, 4),
    label="returned",
)
for _f in ("median", "nanmedian"):
    both(_f, lambda m, x, f=_f: getattr(m, f)(x, axis=0), spread(5, 4))
    both(_f, lambda m, x, f=_f: getattr(m, f)(x, axis=1, keepdims=True), spread(5, 4), label="even")
both("nanmedian", lambda m, x: m.nanmedian(x + HOLES, axis=0), spread(5, 4), label="holes")
for _f in ("quantile", "nanquantile"):
    both(_f, lambda m, x, f=_f: getattr(m, f)(x, 0.3, axis=0), spread(5, 4))
    for method in ("linear", "lower", "higher", "midpoint", "nearest", "median_unbiased"):
        both(
            _f,
            lambda m, x, f=_f, k=method: getattr(m, f)(x, [0.23, 0.61], axis=1, method=k),
            spread(3, 5),
            label=method,
        )
both("nanquantile", lambda m, x: m.nanquantile(x + HOLES, 0.4, axis=0), spread(5, 4), label="holes")
for method in ("linear", "lower", "higher", "midpoint", "nearest"):
    lazy(
        "percentile",
        lambda x, k=method: da.percentile(x, [20, 60], method=k),
        spread(7),
        label=method,
        chunks=7,
        plain=lambda x, k=method: np.percentile(x, [20, 60], method=k),
    )
    lazy(
        "percentile",
        lambda x, k=method: da.percentile(x, [20, 60], method=k),
        spread(7),
        label=f"{method}-chunks",
    )
both("nanpercentile", lambda m, x: m.nanpercentile(x + HOLES, 40, axis=0), spread(5, 4))
for _f in ("moment", "Array.moment"):
    for order in (2, 3, 4):
        lazy(
            _f,
            lambda x, f=_f, k=order: da.moment(x, k, axis=0) if f == "moment" else x.moment(k, axis=0),
            spread(5, 4),
            label=f"{order}",
            plain=lambda x, k=order: ((x - x.mean(0)) ** k).mean(0),
        )
both("trace", lambda m, x: m.trace(x), normal(5, 4))
both("trace", lambda m, x: m.trace(x, offset=1), normal(5, 4), label="offset")
both("Array.trace", lambda m, x: x.trace(), normal(5, 4))
for _f in ("topk", "Array.topk"):
    for k in (3, -2):
        lazy(
            _f,
            lambda x, f=_f, k=k: da.topk(x, k, axis=0) if f == "topk" else x.topk(k, axis=0),
            spread(7, 2),
            label=f"{k}",
            plain=lambda x, k=k: _top(x, k),
        )
lazy(
    "topk",
    lambda x: da.topk(x, 2, split_every=2),
    spread(7),
    chunks=1,
    label="split",
    plain=lambda x: _top(x, 2),
)


def _top(x: Any, k: int) -> Any:
    y = np.sort(x, axis=0)
    return y[::-1][:k] if k > 0 else y[:-k]


for _f in ("all", "any", "argmax", "argmin", "nanargmax", "nanargmin", "count_nonzero"):
    constant(_f, lambda m, x, f=_f: getattr(m, f)(x if "arg" in f else x > 0.5, axis=0), spread(5, 4))
for _f in ("all", "any", "argmax", "argmin"):
    constant(f"Array.{_f}", lambda m, x, f=_f: getattr(x if "arg" in f else x > 0.5, f)(axis=0), spread(5, 4))
constant("argtopk", lambda m, x: da.argtopk(x, 2), spread(7))
constant("Array.argtopk", lambda m, x: x.argtopk(-2), spread(7))

for _f in ("cumsum", "cumprod", "nancumsum", "nancumprod"):
    for method in ("sequential", "blelloch"):
        for axis in (0, 1):
            lazy(
                _f,
                lambda x, f=_f, k=method, a=axis: getattr(da, f)(x, axis=a, method=k),
                spread(7, 4),
                label=f"{method}-axis{axis}",
                plain=lambda x, f=_f, a=axis: getattr(np, f)(x, axis=a),
            )
    both(_f, lambda m, x, f=_f: getattr(m, f)(x, axis=None), spread(5, 2), label="flat")
for _f in ("nancumsum", "nancumprod"):
    both(_f, lambda m, x, f=_f: getattr(m, f)(x + HOLES, axis=0), spread(5, 4), label="holes")
for _f in ("cumsum", "cumprod"):
    both(f"Array.{_f}", lambda m, x, f=_f: getattr(x, f)(axis=0), spread(5, 4))
