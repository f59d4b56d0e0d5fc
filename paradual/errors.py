"""The errors that paradual raises: each says what happened, where, and the cure."""

from __future__ import annotations

import sys

__all__ = [
    "InternalError",
    "LeakedDualError",
    "NotDifferentiableError",
    "ParadualError",
    "ParadualImportError",
    "ParadualTypeError",
    "ParadualValueError",
    "user_line",
]


class ParadualError(Exception):
    """Base class of every error that paradual raises itself."""


class ParadualTypeError(ParadualError, TypeError):
    """A value of a kind that cannot be differentiated, or cannot be cast."""


class ParadualValueError(ParadualError, ValueError):
    """A value of the right kind with a wrong shape, size or structure."""


class ParadualImportError(ParadualError, ImportError):
    """An optional package that is not installed; the message has the command."""


class NotDifferentiableError(ParadualTypeError):
    """A function, or a use of one, that has no derivative rule."""


class LeakedDualError(ParadualTypeError):
    """A dual number used after its differentiation ended, or outside of it."""


class InternalError(ParadualError, RuntimeError):
    """A broken invariant of paradual itself: never a wrong number instead."""


def user_line() -> str:
    """Name the innermost line of code outside paradual and NumPy, for messages.

    Returns
    -------
    str
        ``" (file.py, line 3, in loss)"``, or an empty string when there is none.
    """
    frame = sys._getframe(1)
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if not module.startswith(("paradual.", "numpy")) and module != "paradual":
            code = frame.f_code
            return f" ({code.co_filename}, line {frame.f_lineno}, in {code.co_name})"
        frame = frame.f_back  # type: ignore[assignment]
    return ""
