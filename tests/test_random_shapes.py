"""Every rule at random shapes: finite differences, the inner-product identity, dtypes, pickling, nesting."""

import pickle

import numpy as np
import pytest
import shapes_arrays  # noqa: F401  (each table fills itself, as the cases do)
import shapes_elementwise  # noqa: F401
import shapes_products  # noqa: F401
from cases import CASES  # noqa: F401
from effort import tries
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from shape_table import EMPTY, SHAPED

import paradual as pdl
from paradual.rules.registry import RULES, name_of
from paradual.testing import check_grads
from paradual.trees import flatten, unflatten

ENTRIES = [(f, entry) for f, entries in SHAPED.items() for entry in entries]
IDS = [f"{name_of(f)}-{k}" for f, entries in SHAPED.items() for k in range(len(entries))]


def test_every_rule_has_an_entry():
    # not what paradual.custom adds, which has tests of its own, nor rules that other tests register
    tables = ("numpy", "_operator", "paradual.arrays", "paradual.rules")
    differentiable = {
        f
        for f, rule in RULES.items()
        if rule.kind not in ("constant", "refused")
        and (
            getattr(np, f.__name__, None) is f if isinstance(f, np.ufunc) else f.__module__.startswith(tables)
        )
    }
    forgotten = differentiable - SHAPED.keys()
    assert not forgotten, f"no entry of random shapes for {sorted(map(name_of, forgotten))}"


@pytest.mark.parametrize(("function", "entry"), ENTRIES, ids=IDS)
@given(data=st.data())
@settings(
    max_examples=tries(6, 4),
    phases=[Phase.generate],  # the shapes are small as they are
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
def test_random_shapes(function, entry, data):
    fn, args = entry(data.draw)
    args = tuple(laid_out(data.draw, x) for x in args)
    # to second order, in both modes, one against the other; values, shapes and dtypes too
    check_grads(fn, args, order=2, modes=("rev", "fwd"))
    out, pullback = pdl.vjp(fn, *args)
    rng = np.random.default_rng(1)
    leaves, structure = flatten(out)
    w = unflatten(structure, [random_like(rng, leaf) for leaf in leaves])
    for a, b in zip(pullback(w), pickle.loads(pickle.dumps(pullback))(w), strict=True):
        # pickling makes arrays contiguous, and BLAS adds up in another order then
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12 * np.max(np.abs(b), initial=1.0))
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


def laid_out(draw, x):
    """The same array, in a layout that its user may have chosen."""
    if not isinstance(x, np.ndarray) or x.ndim == 0:
        return x
    layout = draw(st.sampled_from(["C", "Fortran", "strided", "reversed", "read-only"]))
    x = x.copy()
    if layout == "Fortran":
        x = x.copy("F")
    elif layout == "reversed":
        x = x[::-1].copy()
    elif layout == "strided":
        wide = np.full((*x.shape[:-1], 2 * x.shape[-1]), np.nan, x.dtype)
        wide[..., ::2] = x
        x = wide
    # what can be written to is copied, and then lies as any other array does
    x.flags.writeable = layout == "C"
    return x[::-1] if layout == "reversed" else x[..., ::2] if layout == "strided" else x


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


# --- nothing, and numbers -----------------------------------------------------------------------------------


def forms(tree):
    return [(np.shape(leaf), np.asarray(leaf).dtype) for leaf in flatten(tree)[0]]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the mean of nothing, the inverse of nothing
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.complex128])
@pytest.mark.parametrize("function", EMPTY, ids=name_of)
def test_empty_arrays_and_arrays_of_no_axes(function, dtype):
    for call in EMPTY[function]:
        for n in [(), (0,), (0, 3), (3, 0), (2, 0, 3)]:
            x = np.full(n, 0.6, dtype)
            try:
                expected = call(x)
            except (ValueError, TypeError, IndexError, ZeroDivisionError, np.linalg.LinAlgError) as error:
                with pytest.raises(type(error)):
                    pdl.vjp(call, x)
                continue
            out, pullback = pdl.vjp(call, x)
            assert forms(out) == forms(expected)
            for a, b in zip(flatten(out)[0], flatten(expected)[0], strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-6)
            ones = unflatten(flatten(out)[1], [np.ones_like(leaf) for leaf in flatten(out)[0]])
            (g,) = pullback(ones)
            assert forms(g) == forms(x)
            value, t = pdl.jvp(call, (x,), (np.ones_like(x),))
            assert forms(value) == forms(expected)
            assert [n for n, _ in forms(t)] == [n for n, _ in forms(expected)]
