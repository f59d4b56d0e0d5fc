"""Arrays that share memory: an array that owns it, its views, and what must not change when they are written.

NumPy's arrays are written in place, slots never are.  So a write gives the owner of the memory a new slot,
and makes its views stale: they forget their slot, and derive it anew from the owner when next asked.  Before
the first write the memory is copied, so that from then on only duals of this family refer to it; what a tape
keeps of it afterwards is a copy, or the memory itself, which is then copied before the next write.  So a loop
that reads and writes an array element by element costs O(1) a step.
"""

from __future__ import annotations

import operator
import threading
import weakref
from typing import Any

from paradual.arrays import Move, is_buffer, memory, shape_of

_LOCK = threading.Lock()  # tasks make views of what they have captured
SMALL = 1 << 14  # bytes: up to here what is kept of a written array is a copy


class Kin:
    """The duals that share one array's memory.

    Attributes
    ----------
    written : bool
        Whether the memory was written, and so belongs to these duals alone.
    lent : bool
        Whether something else has come to refer to it since.
    views, fresh : dict of weakref
        The views that know their value, and those of them that know their slot, by identity.
    opaque : list of weakref
        Those of which is not known how they are derived.
    """

    __slots__ = ("fresh", "lent", "opaque", "views", "written")

    def __init__(self) -> None:
        self.written = False
        self.lent = False
        self.views: dict[int, Any] = {}
        self.fresh: dict[int, Any] = {}
        self.opaque: list[Any] = []


def kin_of(x: Any) -> Kin | None:
    """The family of a dual, if it has one."""
    found: Kin | None = getattr(x, "kin", None)
    return found


def via_of(x: Any) -> tuple[Any, Move] | None:
    """Whose view a dual is and how it is derived, if it is one."""
    found: tuple[Any, Move] | None = getattr(x, "via", None)
    return found


def relate(x: Any, view: Any, move: Move | None = None) -> None:
    """Remember that a dual is a view of another one, and how it is derived from it."""
    kin = kin_of(x)
    if kin is None:
        with _LOCK:
            kin = kin_of(x)
            if kin is None:
                kin = x.kin = Kin()
    view.kin = kin
    if move is None:
        kin.opaque.append(weakref.ref(view))
        return
    view.via = _joined(x, move)
    _remember(kin, view)


def _joined(x: Any, move: Move) -> tuple[Any, Move]:
    """A slice of a slice is one slice: so ``v = v[1:]`` in a loop makes no longer and longer chain."""
    if via_of(x) is not None:
        owner, before = x.via
        (f, args, _), (g, more, _) = before, move
        if f is g is operator.getitem and type(args[0]) is type(more[0]) is slice:
            r = range(shape_of(owner)[0])[args[0]][more[0]]
            joined = slice(r.start, r.stop if r.stop >= 0 else None, r.step) if r else slice(0)
            return owner, (f, (joined,), {})
    return x, move


def _remember(kin: Kin, view: Any) -> None:
    views = kin.views
    with _LOCK:
        if len(views) > 8 and len(views) & (len(views) - 1) == 0:  # at powers of two: O(1) a view
            for key in [key for key, ref in views.items() if ref() is None]:
                del views[key]
        views[id(view)] = kin.fresh[id(view)] = weakref.ref(view)


def root_of(x: Any) -> tuple[Any, tuple[Move, ...]]:
    """The dual that owns the memory of another one, and the moves that lead from it to that one."""
    chain = []
    while via_of(x) is not None:
        x, move = x.via
        chain.append(move)
    return x, tuple(reversed(chain))


def shared(x: Any) -> bool:
    """Whether another dual that is still there shares the memory of a dual."""
    kin = kin_of(x)
    if kin is None or via_of(x) is not None:
        return kin is not None
    views = (ref() for ref in kin.views.values())
    return any(v is not None and v is not x for v in views) or any(ref() is not None for ref in kin.opaque)


def steady(x: Any) -> Any:
    """The value of a dual, safe from what may be written to the dual later."""
    value, kin = x.value, kin_of(x)
    if kin is None or not kin.written:
        return value  # it is copied before the first write
    if is_buffer(value):
        if value.nbytes <= SMALL or value.nbytes * 2 <= memory(value).nbytes:
            return value.copy(order="K")  # the layout decides what will be a view
        kin.lent = True
        return value
    return value.__copy__() if hasattr(value, "place") else value


def lend(x: Any) -> None:
    """Leave an array to the tape of an outer differentiation: of what is large that keeps no copy."""
    if kin_of(x) is not None and x.kin.written and x.nbytes > SMALL:
        x.kin.lent = True


def stale(kin: Kin, values: bool) -> None:
    """Make the views forget their slots, and their values too where the memory has moved."""
    for ref in list((kin.views if values else kin.fresh).values()):
        view = ref()
        if view is not None:
            for name in ("home", "place", "value") if values else ("home", "place"):
                if _has(view, name):
                    delattr(view, name)
            view.__class__ = view.stale
    kin.fresh.clear()
    if values:
        kin.views.clear()


def _has(view: Any, name: str) -> bool:
    try:
        object.__getattribute__(view, name)
    except AttributeError:
        return False
    return True


def refresh(view: Any, name: str, dual: Any) -> Any:
    """Derive the slot (or only the value) of a stale view anew; remembered where others may use it.

    What a task or a checkpoint derives stays its own: those that run beside it, or after it where its tape
    is dropped, could not use its slots.
    """
    x, (f, args, kwargs) = view.via
    if name == "value":
        found = {"value": f(x.value, *args, **kwargs)}
    else:
        derived = f(dual(x.value, x.home, x.place), *args, **kwargs)
        found = {"home": derived.home, "place": derived.place}
        if not _has(view, "value"):
            found["value"] = derived.value
    if all(_lasts(part, there) for part, there in _levels(x, found)):
        for known, part in found.items():
            setattr(view, known, part)
        _remember(view.kin, view)
        if all(_has(view, known) for known in ("value", "home", "place")):
            view.__class__ = dual
    return found[name]


def _levels(x: Any, found: dict[str, Any]) -> Any:
    """The homes of what was derived, and of what it was derived from, at each depth."""
    if "home" in found:
        yield found["home"], x.home
    a: Any = found.get("value")
    b: Any = x.value
    while hasattr(type(a), "place"):
        yield a.home, b.home
        a, b = a.value, b.value


def _lasts(here: Any, there: Any) -> bool:
    return bool(there[1][: len(here[1]) - 1] == here[1][:-1])
