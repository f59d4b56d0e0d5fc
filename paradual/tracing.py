"""`trace`: the recorded program in words, one line a record, with the values."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import numpy as np

from paradual.dual import DUALS, Dual
from paradual.rules.registry import name_of
from paradual.tape import Stub, Tape, history
from paradual.tasks import executor
from paradual.transforms import jvp, vjp

PACKAGE = os.path.dirname(__file__)


def trace(fn: Callable[..., Any], *args: Any, tangents: Any = None) -> None:
    """Print what a function records when it is differentiated, one line a record.

    Parameters
    ----------
    fn : callable
        A function of arrays, or pytrees of them.
    *args : pytree
        Its arguments.
    tangents : tuple, optional
        A direction, one tangent for each argument: each value is printed with its tangent, ``25 + 5ε``.

    Notes
    -----
    Its tasks run one after the other on the calling thread.

    Examples
    --------
    >>> import numpy as np, paradual as pdl
    >>> pdl.trace(lambda x: np.sin(x) * x, 2.0)
    job 0
      %0 = argument 0         2
      %1 = sin(%0)            0.9093
      %2 = 2 %1 + 0.9093 %0   1.819
    >>> pdl.trace(lambda x: x * x, 5.0, tangents=(0.5,))
    job 0
      %0 = argument 0         5 + 0.5ε
      %1 = multiply(%0, %0)   25 + 5ε
    """
    lines: list[tuple[str, str]] = []

    def recorded(*primals: Any) -> Any:
        values: dict[Any, Any] = {}
        before = sys.getprofile()
        sys.setprofile(_Watch(values))
        try:
            with executor("inline"):
                out, pullback = vjp(fn, *primals)
        finally:
            sys.setprofile(before)
        for tape in history(pullback.last):
            assert not isinstance(tape, Stub)
            lines.extend(_lines(tape, values))
        return out

    if tangents is None:
        recorded(*args)
    else:
        jvp(recorded, args, tuple(tangents))
    width = max((len(text) for text, value in lines if value), default=0)
    print("\n".join(f"{text:{width}}   {value}".rstrip() for text, value in lines))


class _Watch:
    """Called as functions of this package return: remembers the value of each slot that comes by.

    A tape keeps residuals, not values, and a hook for them where records are made would cost everybody.
    """

    def __init__(self, values: dict[Any, Any]) -> None:
        self.values = values

    def __call__(self, frame: FrameType, event: str, result: Any) -> None:
        if event == "return" and frame.f_code.co_filename.startswith(PACKAGE):
            for found in (result, *frame.f_locals.values()):
                for dual in found if isinstance(found, list | tuple) else (found,):
                    if dual.__class__ in DUALS:
                        self._see(dual)

    def _see(self, dual: Any) -> None:
        try:
            value, home, place = (object.__getattribute__(dual, n) for n in ("value", "home", "place"))
        except AttributeError:  # a view that derives its slot when it is asked for it
            return
        if isinstance(place, int) and (home, place) not in self.values:
            self.values[home, place] = _copied(value)


def _copied(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.copy()
    return Dual(_copied(value.value), value.home, _copied(value.place)) if value.__class__ in DUALS else value


def _lines(tape: Tape, values: dict[Any, Any]) -> list[tuple[str, str]]:
    lines = [(f"job {'.'.join(map(str, tape.home[1]))}", "")]
    for index, record in enumerate(tape.records or ()):
        value = values.get((tape.home, index))
        lines.append((f"  %{index} = {_said(record)}", "" if value is None else _shown(value)))
    return lines


def _said(record: Any) -> str:
    """A record, as one would write it."""
    if len(record) != 3:
        pairs = zip(record[1::2], record[::2], strict=True)
        return " + ".join(f"{_factor(d)} %{i}" for d, i in pairs)
    f, _, edges = record
    if f is None:
        job, index = edges
        return f"%{index} of job {'.'.join(map(str, job))}" if job else f"argument {index}"
    operands = []
    for operand, *_ in edges:
        if isinstance(operand, int):
            operands.append(f"%{operand}")
        else:
            operands += [f"%{i}" for i in _flat(operand)]
    return f"{name_of(f).rpartition('.')[2]}({', '.join(operands)})"


def _flat(places: Any) -> list[int]:
    if isinstance(places, tuple):
        return [i for place in places for i in _flat(place)]
    return [] if places is None else [places]


def _factor(d: Any) -> str:
    text = _shown(d)
    return f"({text})" if " " in text else text


def _shown(value: Any) -> str:
    """A value in few characters; with its tangent, if it has one."""
    if value.__class__ in DUALS:
        tangent = value.place
        text = "" if isinstance(tangent, int) else f" + {_shown(tangent)}ε"
        return _shown(value.value) + text
    if getattr(value, "shape", ()) == ():
        return f"{value:.4g}"
    return " ".join(np.array2string(value, precision=4, threshold=6, edgeitems=2).split())
