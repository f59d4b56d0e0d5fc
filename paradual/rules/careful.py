"""The sweep once more for programs with `np.where`, when the first one gave a NaN.

``np.where(x > 0, np.sqrt(x), 0)`` at x = 0 sends a zero cotangent into the branch not taken, and
0 * inf is NaN.  That zero is not a number that happens to be 0, it says that nothing flows here.  So
this sweep carries, beside each cotangent, which of its entries were reached, and an elementwise
derivative contributes nothing where they were not.  Zeros that were computed still give NaN: there
the derivative is not known.  It costs about twice the plain sweep, and runs only when that gave NaN.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from paradual.arrays import Item, Scatter, add, complete, fit, scatter_add, shape_of
from paradual.locality import bare, counting, on_device
from paradual.rules.modes import target_form
from paradual.rules.registry import RULES, lookup
from paradual.tape import Slot, Tape


def backward_masked(tape: Tape, seeds: Iterable[tuple[int, Any, Any]]) -> dict[Slot, tuple[Any, Any]]:
    """`paradual.tape.backward`, with the entries that were reached; see the module's docstring.

    Parameters
    ----------
    tape : Tape
        What a job recorded.
    seeds : iterable of (int, array, array)
        Contributions to its slots, and which of their entries were reached (True for all).

    Returns
    -------
    dict
        ``{foreign slot: (cotangent, reached)}``.
    """
    records = tape.records
    assert records is not None
    cotangents: list[Any] = [None] * len(records)
    reached: dict[int, Any] = {}  # {index: bool array, or True for everywhere}
    owned: set[int] = set()
    found: dict[Slot, tuple[Any, Any]] = {}

    def give(index: int, c: Any, mask: Any) -> None:
        form = target_form(records[index])
        if type(c) is Scatter or type(c) is Item:
            if type(mask) is Scatter and form not in (float, complex):
                mask = _scattered(mask, form)
            elif type(mask) is not bool:
                mask = True
        else:
            c = fit(c, form)
            mask = mask if mask is True else fit(mask, form) != 0
        if cotangents[index] is None:
            reached[index] = mask
        else:
            before = reached[index]
            reached[index] = True if mask is True or before is True else before | mask
        add(cotangents, owned, index, c, form)

    for index, g, mask in seeds:
        give(index, g, mask)
    for index in range(len(records) - 1, -1, -1):
        g = cotangents[index]
        if g is None:
            continue
        cotangents[index] = None
        mask = reached[index]
        record = records[index]
        if len(record) != 3:
            for operand, d in zip(record[::2], record[1::2], strict=True):
                give(operand, _masked(g * d, mask), mask)
            continue
        f, form, edges = record
        g = complete(g, form)
        if f is None:
            found[edges] = g, mask
            continue
        rule = RULES.get(f) or lookup(f)
        for operand, k, keep in edges:
            if rule.kind == "elementwise":
                give(operand, _masked(g * rule.pulls[k](*keep), mask), mask)
                continue
            c = rule.pulls[k](g, *keep)
            m: Any = True
            if rule.kind == "linear" and mask is not True:
                # uneven weights, so that a transpose with terms of both signs does not cancel them
                m = rule.pulls[k](mask * _uneven(g), *keep)
            elif rule.masks:
                m = rule.pulls[k](np.ones_like(bare(g), dtype=float), *keep)
            if isinstance(operand, int):
                give(operand, c, m)
            else:
                ms = [True] * len(c) if m is True else m
                for one, part, part_mask in zip(operand, c, ms, strict=True):
                    if one is not None and part is not None:
                        give(one, part, part_mask)
    return found


def _masked(c: Any, mask: Any) -> Any:
    return c if mask is True else np.where(mask, c, 0)


def _uneven(g: Any) -> Any:
    """Numbers between 0.5 and 1.5 without a pattern, on the device of a cotangent."""
    shape = shape_of(g)
    if on_device(g):
        numbers = counting(math.prod(shape), like=g).reshape(shape)
        return 1.0 + 0.5 * np.sin(7919.0 * (numbers + 1) ** 2)
    return np.random.default_rng(0).uniform(0.5, 1.5, shape)


def _scattered(mask: Scatter, form: Any) -> Any:
    total = np.zeros_like(bare(mask.value), shape=form[0], dtype=float)
    scatter_add(total, mask.index, mask.value)
    return total != 0
