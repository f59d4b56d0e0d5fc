"""What CuPy implements of NumPy, by the rule of its documented comparison table: the same name in both.

`python tests/cupy_api.py`, where CuPy is installed (no device is needed), writes the table anew; the tests
read it.  CuPy's documentation makes its page "Comparison Table" in this way too, from the names of the two
modules; here the parameters of each function are written down as well.
"""

import ast
import functools
import inspect
from pathlib import Path
from typing import Any

import numpy as np

TABLE = Path(__file__).with_name("cupy_api.txt")
ABSENT = "-"


def parameters(text: str) -> inspect.Signature | None:
    """The signature that a row of the table says; None where CuPy has no such function."""
    if text == ABSENT:
        return None
    return inspect.signature(eval(f"lambda {text}: None", {}))


@functools.cache
def table() -> dict[str, str]:
    """``{name: parameters}``, or a dash: ``numpy.sum``, ``ufunc.add``, ``ndarray.sum``, ``attribute.T``."""
    rows = TABLE.read_text().splitlines()
    return {name: rest for name, _, rest in (row.partition(" ") for row in rows if not row.startswith("#"))}


@functools.cache
def signature(name: str) -> inspect.Signature | None:
    """What CuPy's function of this name takes; None where it has none."""
    return parameters(table().get(name, ABSENT))


def _described(found: inspect.Signature) -> str:
    """The parameters of a function, without annotations, and with any default as an ellipsis."""
    kept = [
        p.replace(annotation=p.empty, default=p.default if p.default is p.empty else ...)
        for p in found.parameters.values()
    ]
    return str(inspect.Signature(kept))[1:-1].replace("Ellipsis", "...")


def _of_function(f: Any) -> str:
    try:
        return _described(inspect.signature(f))
    except (TypeError, ValueError):
        return "x, /, out=..., **kwargs" if type(f).__name__ == "ufunc" else "a, axis=..."


def _of_method(f: Any) -> str:
    """The parameters of a compiled method, which its docstring begins with."""
    first = (f.__doc__ or "").partition("\n")[0]
    inner = first[first.find("(") + 1 : first.rfind(")")]
    names = [part.strip() for part in inner.split(",") if part.strip()]
    plain = []
    for name in names:
        word, given, _ = name.partition("=")
        plain.append(word.split()[-1] + ("=..." if given else ""))
    text = ", ".join(plain)
    try:
        ast.parse(f"lambda {text}: None")
    except SyntaxError:
        text = "self, *args, **kwargs"
    return text or "self, *args, **kwargs"


def described() -> list[str]:
    """The rows of the table, from the CuPy and NumPy that are installed."""
    import cupy
    from numpy.testing import overrides

    rows = [
        f"# CuPy {cupy.__version__} against NumPy {np.__version__}: name, and parameters or {ABSENT}",
        "# written by tests/cupy_api.py",
    ]
    found: dict[str, str] = {}
    for f in overrides.get_overridable_numpy_array_functions():
        try:
            module = functools.reduce(getattr, f.__module__.split(".")[1:], cupy)
            theirs = getattr(module, f.__name__)
        except AttributeError:
            theirs = None
        missing = theirs is None or theirs is f
        found[f"{f.__module__}.{f.__name__}"] = ABSENT if missing else _of_function(theirs)
    for ufunc in overrides.get_overridable_numpy_ufuncs():
        if getattr(np, ufunc.__name__, None) is ufunc:
            there = hasattr(cupy, ufunc.__name__) and ufunc.__name__ not in ("vecdot", "matvec", "vecmat")
            found[f"ufunc.{ufunc.__name__}"] = "*args, **kwargs" if there else ABSENT
    for name in dir(np.ndarray):
        theirs = getattr(cupy.ndarray, name, None)
        if name.startswith("_"):
            continue
        if not callable(getattr(np.ndarray, name)):
            found[f"attribute.{name}"] = ABSENT if theirs is None else "self"
        else:
            found[f"ndarray.{name}"] = ABSENT if theirs is None else _of_method(theirs)
    return rows + [f"{name} {text}" for name, text in sorted(found.items())]


if __name__ == "__main__":
    TABLE.write_text("\n".join(described()) + "\n")
