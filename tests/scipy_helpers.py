"""What is checked for each function of `paradual.scipy`."""

import pickle

import numpy as np

import paradual as pdl
from paradual.dual import Dual
from paradual.testing import check_grads
from paradual.trees import flatten, unflatten


def in_single(x):
    if not isinstance(x, np.ndarray | np.generic):
        return x
    return np.asarray(x).astype(np.complex64 if x.dtype.kind == "c" else np.float32)


def floats(tree):
    return [leaf for leaf in flatten(tree)[0] if np.asarray(leaf).dtype.kind in "fc"]


def random_like(rng, leaf):
    dtype = np.asarray(leaf).dtype
    x = rng.standard_normal(np.shape(leaf))
    if dtype.kind == "c":
        x = x + 1j * rng.standard_normal(np.shape(leaf))
    return type(leaf)(x) if isinstance(leaf, float | complex) else np.asarray(x, dtype)


def check(ours, theirs, args, tolerance=1e-13, order=2, single=True):
    """Values are SciPy's, derivatives are right to second order in both modes, a pullback pickles."""
    expected = theirs(*args)
    duals = []

    def watched(*duals_in):
        out = ours(*duals_in)
        duals.extend(leaf for leaf in flatten(out)[0] if isinstance(leaf, Dual))
        return out

    out, pullback = pdl.vjp(watched, *args)
    assert duals, "no derivative flows through"
    compare(out, expected, tolerance)
    compare(ours(*args), expected, 0)
    check_grads(ours, args, order=order)
    rng = np.random.default_rng(1)
    leaves, structure = flatten(out)
    w = unflatten(structure, [random_like(rng, leaf) for leaf in leaves])
    for a, b in zip(pullback(w), pickle.loads(pickle.dumps(pullback))(w), strict=True):
        np.testing.assert_array_equal(a, b)
    if single:
        small = tuple(in_single(x) for x in args)
        plain = theirs(*small)
        value, tangent = pdl.jvp(ours, small, tuple(random_like(rng, x) for x in small))
        reverse, pull = pdl.vjp(ours, *small)
        for a, b, c, t in zip(*map(floats, (plain, value, reverse, tangent)), strict=True):
            kinds = [np.asarray(x).dtype for x in (a, b, c, t)]
            assert len(set(kinds)) == 1, kinds
        w = unflatten(flatten(reverse)[1], [random_like(rng, leaf) for leaf in flatten(reverse)[0]])
        for g, x in zip(pull(w), small, strict=True):
            assert np.asarray(g).dtype == np.asarray(x).dtype


def compare(got, expected, tolerance):
    """The same structure, shapes and dtypes; values relative to the largest element."""
    for a, b in zip(flatten(got)[0], flatten(expected)[0], strict=True):
        assert np.shape(a) == np.shape(b)
        assert np.asarray(a).dtype == np.asarray(b).dtype
        size = np.max(np.abs(b), initial=1e-300, where=np.isfinite(b))
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * size)
