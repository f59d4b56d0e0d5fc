"""Every operation of dask.array: its derivative against differences, forward mode and NumPy's; or why not."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import warnings
from collections.abc import Callable
from typing import Any

import dask
import dask.array as da
import dask.array.stats
import dask_cases_elementwise  # noqa: F401 - the tables fill themselves
import dask_cases_products  # noqa: F401
import dask_cases_programs  # noqa: F401
import dask_cases_refused  # noqa: F401
import dask_cases_shaping  # noqa: F401
import numpy as np
import pytest
from dask_names import OTHER, public_names
from dask_table import CONSTANT, DIFFERENTIABLE, REFUSED, REFUSED_USES, Operation
from graph_helpers import _synchronous as _synchronous
from graph_helpers import same

import paradual as pdl
from paradual.errors import ParadualError
from paradual.rules import registry

Arrays = list[Any]


def names(table: list[Operation]) -> set[str]:
    return {operation.name for operation in table}


# --- nothing is undecided -----------------------------------------------------------------------------------


def test_every_name_is_in_exactly_one_table() -> None:
    tables = [names(DIFFERENTIABLE), names(CONSTANT), names(REFUSED), set(" ".join(OTHER.values()).split())]
    for a, b in itertools.combinations(tables, 2):
        assert not a & b
    undecided = sorted(public_names() - set.union(*tables))
    assert not undecided, f"names of dask.array without a decision (see dask_table.py): {undecided}"
    # members that only some releases of Dask have
    unknown = sorted(set.union(*tables) - public_names())
    assert not unknown, f"names that dask.array does not have: {unknown}"


def test_most_of_dask_array_is_differentiable() -> None:
    assert len(names(DIFFERENTIABLE)) >= 270
    assert names(REFUSED_USES) <= names(DIFFERENTIABLE) | names(CONSTANT)


def test_no_case_is_there_twice() -> None:
    ids = [operation.id for operation in (*DIFFERENTIABLE, *CONSTANT, *REFUSED, *REFUSED_USES)]
    assert len(ids) == len(set(ids))


# --- derivatives --------------------------------------------------------------------------------------------


def listed(results: Any) -> Arrays:
    return list(results) if isinstance(results, list | tuple) else [results]


def drawn(rng: np.random.Generator, like: Any) -> Any:
    """Random numbers of the shape and type of an array."""
    t = rng.standard_normal(like.shape) + 0.1
    return (t + 1j * rng.standard_normal(like.shape) if like.dtype.kind == "c" else t).astype(like.dtype)


def evaluated(operation: Operation, args: Any) -> tuple[Arrays, Arrays]:
    """The operation's arguments and results as collections, the results with chunks of known sizes."""
    xs = [da.from_array(x, chunks=c) for x, c in zip(args, operation.chunks, strict=True)]
    outs = listed(operation.lazy(*xs))
    for y in outs:
        if any(np.isnan(n) for n in y.shape):
            y.compute_chunk_sizes()
    return xs, outs


def differences(operation: Operation, directions: Arrays, eps: float) -> Arrays:
    """Of the results along a direction, by evaluating the program twice."""
    up, down = (
        dask.compute(
            *evaluated(
                operation,
                [x + x.dtype.type(s * eps) * v for x, v in zip(operation.args, directions, strict=True)],
            )[1]
        )
        for s in (1, -1)
    )
    return [(np.asarray(a) - np.asarray(b)) / (2 * eps) for a, b in zip(up, down, strict=True)]


def paired(weights: Arrays, values: Arrays) -> float:
    return float(sum(np.sum(np.real(w * v)) for w, v in zip(weights, values, strict=True)))


def check(operation: Operation) -> None:
    """The gradient of a random linear functional of the results, and their derivative in a direction."""
    rng = np.random.default_rng(3)
    single = any(x.dtype == np.float32 for x in operation.args)
    eps, near, exact = (1e-2, 1e-3, 1e-4) if single else (1e-6, 1e-6, 1e-9)
    xs, outs = evaluated(operation, [x.copy() for x in operation.args])
    weights, directions = [drawn(rng, y) for y in outs], [drawn(rng, x) for x in xs]
    gradients = pdl.gradients(outs, xs, weights)
    for g, x in zip(gradients, xs, strict=True):
        assert (type(g), g.chunks, g.dtype) == (type(x), x.chunks, x.dtype)
    values, gs, ts = dask.compute(outs, gradients, pdl.tangents(outs, xs, directions))
    for g, x in zip(gs, operation.args, strict=True):
        assert (np.shape(g), g.dtype) == (x.shape, x.dtype)
        assert isinstance(g, np.ndarray) or x.shape == ()
    slopes = differences(operation, directions, eps)
    for t, d in zip(ts, slopes, strict=True):
        np.testing.assert_allclose(
            t, d, near, near * max(1.0, np.max(np.abs(d), initial=0)), err_msg="forward mode and differences"
        )
    found = paired(gs, directions)
    size = max(1.0, sum(np.sum(np.abs(w * d)) for w, d in zip(weights, slopes, strict=True)))
    np.testing.assert_allclose(
        found, paired(weights, slopes), near, near * size, err_msg="reverse mode and differences"
    )
    np.testing.assert_allclose(
        found, paired(weights, ts), exact, exact * size, err_msg="reverse and forward mode"
    )
    if operation.plain is None:
        return
    plain = operation.plain
    out, pullback = pdl.vjp(lambda *args: listed(plain(*args)), *operation.args)
    for a, b in zip(values, out, strict=True):
        np.testing.assert_allclose(a, b, exact, exact, err_msg="the values of Dask and NumPy")
    for g, e in zip(gs, pullback(weights), strict=True):
        np.testing.assert_allclose(
            g, e, 10 * exact, exact, err_msg="the gradients of Dask's program and NumPy's"
        )


@pytest.mark.parametrize("operation", DIFFERENTIABLE, ids=lambda operation: operation.id)
def test_derivative(operation: Operation) -> None:
    check(operation)


@pytest.mark.parametrize("operation", CONSTANT, ids=lambda operation: operation.id)
def test_constant(operation: Operation) -> None:
    check(operation)


@pytest.mark.parametrize(("name", "function"), [("tanh", np.tanh), ("fft.rfft-None", np.fft.rfft)])
def test_the_check_notices_a_wrong_rule(name: str, function: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    operation = next(o for o in DIFFERENTIABLE if o.id == name)
    check(operation)
    rule = registry.RULES[function]
    wrong = dataclasses.replace(rule, pulls=tuple(functools.partial(_larger, pull) for pull in rule.pulls))
    monkeypatch.setitem(registry.RULES, function, wrong)
    with pytest.raises(AssertionError, match="differences"):
        check(operation)


def _larger(pull: Callable[..., Any], *kept: Any) -> Any:
    return 1.001 * pull(*kept)


# --- errors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", [*REFUSED, *REFUSED_USES], ids=lambda operation: operation.id)
def test_refused(operation: Operation) -> None:
    with warnings.catch_warnings():  # Dask does not like what it is to do here
        warnings.simplefilter("ignore", FutureWarning)
        xs, outs = evaluated(operation, [x.copy() for x in operation.args])
        dask.compute(*outs)  # it works where nothing is differentiated

    def differentiated() -> None:
        dask.compute(pdl.gradients(outs, xs, [np.ones(y.shape, y.dtype) for y in outs]))

    with pytest.raises(ParadualError, match=operation.error):
        differentiated()
    with pytest.raises(ParadualError, match=operation.error):
        dask.compute(pdl.tangents(outs, xs, [np.ones_like(x) for x in operation.args]))


# {a use in which Dask (or SciPy) computes an array while the graph is built: it is a constant from then on}
AT_ONCE = {
    "diff prepend": lambda x: da.diff(np.arange(3.0), prepend=x),
    "diff append": lambda x: da.diff(da.arange(3.0), append=x),
    "skewtest p": lambda x: da.from_delayed(da.stats.skewtest(x)[1], shape=(), dtype=float),
    "kurtosistest p": lambda x: da.from_delayed(da.stats.kurtosistest(x)[1], shape=(), dtype=float),
    "persist": lambda x: (2 * x).persist(),
    "float": lambda x: da.ones(3) * float(x.sum()),
}


@pytest.mark.parametrize("use", AT_ONCE)
def test_what_dask_computes_at_once_is_a_constant(use: str) -> None:
    x = da.from_array(np.arange(21.0) ** 1.3, chunks=8)
    y = AT_ONCE[use](x)
    np.testing.assert_array_equal(pdl.gradients(y.sum(), x).compute(), np.zeros(21))


# --- functions of ours in tasks -----------------------------------------------------------------------------

STANDINS = (
    "linalg.solve-pos",
    "linalg.lu",
    "Array.__setitem__-row",
    "percentile-linear",
    "histogramdd-density-True",
    "stats.ttest_1samp-p",
    "map_blocks-expm",
    "map_blocks-partial",
)


def test_functions_that_stand_for_others_travel() -> None:
    gradients = []
    # Dask's table of percentiles travels whole, and cannot where dask.dataframe lacks a package of its own
    travel = set(STANDINS) - {"percentile-linear"}
    for operation in (o for o in DIFFERENTIABLE if o.id in travel):
        xs, outs = evaluated(operation, [x.copy() for x in operation.args])
        weights = [np.ones(y.shape, y.dtype) for y in outs]
        for tapes in ("keep", "recompute"):
            gradients.extend(pdl.gradients(outs, xs, weights, tapes=tapes))
    assert len(gradients) >= 2 * len(travel)
    here = dask.compute(*gradients)
    assert same(here, dask.compute(*gradients, scheduler="processes", num_workers=1))


@pytest.mark.parametrize("name", STANDINS)
def test_second_derivatives_through_functions_that_stand_for_others(name: str) -> None:
    """The gradient is an operation too: of the operation's arguments."""
    operation = next(o for o in DIFFERENTIABLE if o.id == name)

    def gradient(*xs: Any) -> Arrays:
        outs = listed(operation.lazy(*xs))
        return pdl.gradients(sum((da.sin(y) * (1 + k)).sum() for k, y in enumerate(outs)), list(xs))

    check(dataclasses.replace(operation, lazy=gradient, plain=None))
