"""What the tests of the stand-in for a device and those of a real one share: a case there against NumPy's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from case_table import Case
from device_cases import moved

import paradual as pdl
from paradual.rules import fused
from paradual.rules.registry import RULES, name_of
from paradual.tape import history
from paradual.trees import flatten, unflatten


def floats(tree: Any) -> list[Any]:
    """The leaves of a pytree that may carry a derivative."""
    return [leaf for leaf in flatten(tree)[0] if np.dtype(getattr(leaf, "dtype", type(leaf))).kind in "fc"]


def arrays(tree: Any) -> list[Any]:
    """The same as arrays: on a device a result without dimensions is one."""
    return [np.asarray(leaf) if hasattr(leaf, "dtype") else leaf for leaf in floats(tree)]


def numbers_like(tree: Any, seed: int) -> Any:
    """Random numbers of NumPy's in the form of a pytree of NumPy's."""
    rng = np.random.default_rng(seed)

    def draw(leaf: Any) -> Any:
        dtype = np.dtype(getattr(leaf, "dtype", type(leaf)))
        x = rng.standard_normal(np.shape(leaf))
        x = x + 1j * rng.standard_normal(np.shape(leaf)) if dtype.kind == "c" else x
        if isinstance(leaf, float | complex) and not isinstance(leaf, np.generic):
            return type(leaf)(x)
        return np.asarray(x, dtype)

    leaves, structure = flatten(tree)
    return unflatten(structure, [draw(leaf) for leaf in leaves])


@dataclass(frozen=True)
class Bench:
    """A device to test on: the module ``cupy``, or what stands for it, and how near results must be."""

    cupy: Any
    counts: Counter[str]  # what the stand-in counts; empty on a real device
    tolerance: float = 1e-9

    def there(self, tree: Any) -> Any:
        """A pytree of NumPy's arrays, on the device; Python numbers stay."""
        leaves, structure = flatten(tree)
        return unflatten(
            structure, [self.cupy.asarray(x) if isinstance(x, np.ndarray | np.generic) else x for x in leaves]
        )

    def here(self, x: Any) -> Any:
        """A leaf for NumPy."""
        return self.cupy.asnumpy(x) if isinstance(x, self.cupy.ndarray) else x

    def moved(self, case: Case) -> Any:
        """A case on the device, each time with arrays of its own."""
        found = moved(case, self.cupy.asarray)
        self.counts.clear()
        return found

    def same(self, got: Any, expected: Any) -> None:
        """Results of the device are NumPy's, and none has come to the host."""
        before = Counter(self.counts)
        for a, b in zip(flatten(got)[0], flatten(expected)[0], strict=True):
            if isinstance(b, np.ndarray):
                assert isinstance(a, self.cupy.ndarray), f"{type(a)} for an array"
                assert a.dtype == b.dtype
                assert a.shape == b.shape
            a = self.here(a)
            finite = np.abs(b)[np.isfinite(b)] if np.ndim(b) else np.abs(b)
            size = np.max(finite, initial=1.0)
            np.testing.assert_allclose(a, b, rtol=self.tolerance, atol=self.tolerance * size)
        self.counts.clear()
        self.counts.update(before)

    def taken(self) -> Counter[str]:
        """What was counted since it was last asked."""
        found = Counter(self.counts)
        self.counts.clear()
        return found


@dataclass
class Costs:
    """What the parts of a derivative cost, as the stand-in counts it."""

    plain: Counter[str]
    forward: Counter[str]
    reverse: Counter[str]
    tangent: Counter[str]
    masks: bool  # whether something selects: then the end of the reverse pass is asked for NaN


def has_device_arguments(case: Case) -> bool:
    return any(isinstance(leaf, np.ndarray) for leaf in flatten(case.args)[0])


def plain_refusal(case: Case, bench: Bench) -> Exception | None:
    """Why CuPy itself refuses a case, if it does."""
    fn, args = bench.moved(case)
    try:
        fn(*args)
    except (TypeError, ValueError, AttributeError, IndexError, NotImplementedError) as error:
        return error
    return None


def partials() -> Iterator[tuple[str, Any, int]]:
    """The partial derivatives of elementwise rules: a name, the function, and how many operands it has."""
    for f, rule in RULES.items():
        if rule.kind == "elementwise":
            for k, (partial, keep) in enumerate(zip(rule.pulls, rule.keeps, strict=True)):
                yield f"{name_of(f)}.{k}", partial, len(keep)


def check_kernels(bench: Bench, dtype: Any) -> int:
    """A pullback in one kernel is the product that it replaces; returns how many were compared."""
    rng, found = np.random.default_rng(0), 0
    for name, partial, n in partials():
        if not fused.can_fuse(partial, n, np.dtype(dtype)):
            continue
        found += 1
        g, *keep = rng.uniform(-1.5, 1.5, (n + 1, 200)).astype(dtype)
        out = fused.fused_product(bench.there(g), partial, bench.there(keep))
        assert out.dtype == dtype
        tolerance = 2e-3 if dtype == np.float32 else 1e-11  # some cancel
        with np.errstate(all="ignore"):
            expected = g * partial(*keep)
        np.testing.assert_allclose(bench.here(out), expected, tolerance, tolerance, err_msg=name)
    return found


def check_case(case: Case, bench: Bench) -> Costs:
    """Both modes of a case on the device give what they give on the host, on the device."""
    fn, args = bench.moved(case)
    plain = Counter()
    if plain_refusal(case, bench) is None:
        plain = bench.taken()
    expected, pullback = pdl.vjp(case.fn, *case.args)
    weights, directions = numbers_like(expected, 1), numbers_like(case.args, 2)
    weights_there, directions_there = bench.there(weights), bench.there(directions)
    bench.counts.clear()
    out, pullback_there = pdl.vjp(fn, *args)
    forward = bench.taken()
    found = pullback_there(weights_there)
    reverse = bench.taken()
    for g, arg in zip(flatten(found)[0], flatten(args)[0], strict=True):
        assert isinstance(g, bench.cupy.ndarray) or not isinstance(arg, bench.cupy.ndarray)
    bench.same(found, pullback(weights))
    bench.same(floats(out), arrays(expected))
    fn, args = bench.moved(case)
    _, tangent = pdl.jvp(fn, args, directions_there)
    pushed = bench.taken()
    _, expected_tangent = pdl.jvp(case.fn, case.args, directions)
    bench.same(
        floats(tangent), [np.asarray(x) if hasattr(x, "dtype") else x for x in floats(expected_tangent)]
    )
    masks = any(tape.masks for tape in history(pullback_there.last))
    return Costs(plain, forward, reverse, pushed, masks)


def check_second_order(case: Case, bench: Bench) -> None:
    """Derivatives of the pullback of a case, in both modes, are those on the host."""
    expected, _ = pdl.vjp(case.fn, *case.args)
    weights, directions = numbers_like(expected, 1), numbers_like(case.args, 2)

    def pulled(fn: Any, w: Any) -> Any:
        return lambda *a: pdl.vjp(fn, *a)[1](w)

    fn, args = bench.moved(case)
    w, t = bench.there(weights), bench.there(directions)
    _, tangent = pdl.jvp(pulled(fn, w), args, t)
    _, expected_tangent = pdl.jvp(pulled(case.fn, weights), case.args, directions)
    bench.same(tangent, expected_tangent)
    _, again = pdl.vjp(pulled(fn, w), *args)
    _, expected_again = pdl.vjp(pulled(case.fn, weights), *case.args)
    bench.same(again(t), expected_again(directions))
