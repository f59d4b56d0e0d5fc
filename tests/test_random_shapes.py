"""Every rule at random shapes: finite differences, the inner-product identity, dtypes, pickling, nesting."""

import pickle

import numpy as np
import pytest
from cases import CASES  # noqa: F401  (fills the table)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shape_table import SHAPED

import paradual as pdl
from paradual.rules.registry import name_of
from paradual.testing import check_grads
from paradual.trees import flatten, unflatten

ENTRIES = [(f, entry) for f, entries in SHAPED.items() for entry in entries]
IDS = [f"{name_of(f)}-{k}" for f, entries in SHAPED.items() for k in range(len(entries))]


@pytest.mark.parametrize(("function", "entry"), ENTRIES, ids=IDS)
@given(data=st.data())
@settings(max_examples=8, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_random_shapes(function, entry, data):
    fn, args = entry(data.draw)
    # to second order, in both modes, one against the other; values, shapes and dtypes too
    check_grads(fn, args, order=2, modes=("rev", "fwd"))
    out, pullback = pdl.vjp(fn, *args)
    rng = np.random.default_rng(1)
    leaves, structure = flatten(out)
    w = unflatten(structure, [random_like(rng, leaf) for leaf in leaves])
    for a, b in zip(pullback(w), pickle.loads(pickle.dumps(pullback))(w), strict=True):
        np.testing.assert_array_equal(a, b)
    single = tuple(in_single(x) for x in args)
    plain = flatten(fn(*single))[0]
    value, tangent = pdl.jvp(fn, single, tuple(random_like(rng, x) for x in single))
    for a, b, t in zip(plain, flatten(value)[0], flatten(tangent)[0], strict=True):
        assert np.asarray(a).dtype == np.asarray(b).dtype
        assert np.asarray(t).dtype == (np.asarray(a).dtype if np.asarray(a).dtype.kind in "fc" else float)
    cotangents = pdl.vjp(fn, *single)[1](unflatten(structure, [random_like(rng, leaf) for leaf in plain]))
    for g, x in zip(cotangents, single, strict=True):
        assert type(g) is type(x)
        assert np.asarray(g).dtype == np.asarray(x).dtype


def random_like(rng, leaf):
    dtype = getattr(leaf, "dtype", np.dtype(type(leaf)))
    x = rng.standard_normal(np.shape(leaf))
    if dtype.kind == "c":
        x = x + 1j * rng.standard_normal(np.shape(leaf))
    return type(leaf)(x) if isinstance(leaf, float | complex) else np.asarray(x, dtype)


def in_single(x):
    if not isinstance(x, np.ndarray | np.generic):
        return x
    return np.asarray(x).astype(np.complex64 if x.dtype.kind == "c" else np.float32)
