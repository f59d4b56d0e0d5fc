"""Write FUNCTIONS.md, the table of what has a derivative: ``python -m tests.support_table``.

It is read off the rules; `test_support_table` compares the page with them.
"""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path

import numpy as np
import numpy.char
import numpy.fft
import numpy.lib.recfunctions
import numpy.polynomial
import numpy.strings
import scipy
import scipy.special
from numpy.testing.overrides import get_overridable_numpy_array_functions, get_overridable_numpy_ufuncs

from paradual.rules.registry import find, name_of

PAGE = Path(__file__).parents[1] / "FUNCTIONS.md"
MODULES = ("linalg", "signal", "integrate", "sparse", "sparse.linalg", "special", "stats")

# What a reader must know beyond the kind.
NOTES = {
    "numpy.array": "with `like=x`; without it NumPy asks no dual, and the call is refused",
    "numpy.choose": "in the choices",
    "numpy.copyto": "into an array that is being differentiated, such as `np.zeros_like(x)`",
    "numpy.bincount": "in the weights; the counts are constant",
    "numpy.histogram": "in the weights; the counts are constant, the edges follow the range of the data",
    "numpy.histogram2d": "as histogram",
    "numpy.histogramdd": "as histogram",
    "numpy.linalg.eig": "of a matrix without multiple eigenvalues; the phase of the vectors is NumPy's",
    "numpy.linalg.eigh": "of the triangle that NumPy reads; at equal eigenvalues NaN where the vectors matter",
    "numpy.linalg.qr": "not mode 'raw'",
    "numpy.linalg.svd": "at equal singular values NaN where the vectors matter",
    "numpy.median": "the element chosen, or the mean of two",
    "numpy.pad": "not with a callable",
    "numpy.percentile": "in the data",
    "numpy.quantile": "in the data",
    "numpy.roots": "of simple roots",
    "numpy.where": "a NaN from the branch not taken does not leak",
    "numpy.zeros_like": "a constant that can be written: y[i] = x",
}
WRITERS = ("copyto", "put", "place", "putmask", "put_along_axis", "fill_diagonal")


def title(f: object) -> str:
    """The name that a user calls a function by."""
    name = name_of(f)
    return name if "." in name else f"numpy.{name}" if hasattr(np, name) else f"numpy.strings.{name}"


def note(f: object) -> str:
    rule = find(f)
    assert rule is not None
    if rule.kind == "refused":
        return rule.reason
    name = title(f)
    if name.removeprefix("numpy.") in WRITERS:
        return NOTES["numpy.copyto"]
    return NOTES.get(name, "")


def row(name: str, f: object) -> str:
    rule = find(f)
    assert rule is not None, f"{name} is undecided"
    kind = "general" if rule.kind == "composed" else rule.kind
    modes = {"constant": "no derivative", "refused": "error"}.get(kind, "forward, reverse")
    return f"| `{name}` | {kind} | {modes} | {note(f)} |"


def numpy_rows() -> list[str]:
    functions = get_overridable_numpy_array_functions() | get_overridable_numpy_ufuncs()
    named = {title(f): f for f in functions}
    return [row(name, named[name]) for name in sorted(named)]


def special_rows() -> list[str]:
    ufuncs = {name: f for name, f in vars(scipy.special).items() if isinstance(f, np.ufunc)}
    return [row(f"scipy.special.{name}", ufuncs[name]) for name in sorted(ufuncs)]


def scipy_rows() -> list[str]:
    rows = []
    for module_name in MODULES:
        module = importlib.import_module(f"paradual.scipy.{module_name}")
        original = importlib.import_module(f"scipy.{module_name}")
        names = sorted(
            name
            for name, value in vars(module).items()
            if not name.startswith("_")
            and (hasattr(original, name) or (module_name, name) == ("sparse", "matmul"))
            and not inspect.ismodule(value)
            and not isinstance(value, np.ufunc)
            and value is not getattr(original, name, None)
            and (callable(value) or hasattr(value, "logpdf") or hasattr(value, "logpmf"))
        )
        rows.extend(f"| `paradual.scipy.{module_name}.{name}` | forward, reverse |" for name in names)
    return rows


def page() -> str:
    tables = numpy_rows(), special_rows(), scipy_rows()
    differentiable = [sum("forward, reverse" in line for line in table) for table in tables]
    head = "| function | kind | modes | notes |\n|---|---|---|---|\n"
    return f"""# Functions

Every function of NumPy {np.__version__} that can be overridden, every ufunc of scipy.special in SciPy
{scipy.__version__}, and the functions of `paradual.scipy`. This page is generated: `python -m tests.support_table`.

*elementwise*, *linear*, *multilinear* and *general* functions are differentiated in forward and reverse
mode, to any order; *constant* ones have a result without a derivative (integers, booleans, shapes, steps);
*refused* ones raise an error with the cure. Methods of arrays are the functions of the same name; ufuncs
have `reduce`, `accumulate`, `outer`, `reduceat`, `at`, `out=` and `where=` too.

## NumPy: {len(tables[0])} functions, {differentiable[0]} differentiable

{head}{chr(10).join(tables[0])}

## scipy.special: {len(tables[1])} ufuncs, {differentiable[1]} differentiable

{head}{chr(10).join(tables[1])}

## paradual.scipy: {len(tables[2])} functions and distributions

| function | modes |
|---|---|
{chr(10).join(tables[2])}
"""


if __name__ == "__main__":
    PAGE.write_text(page())
