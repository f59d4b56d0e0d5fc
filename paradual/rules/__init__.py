"""Derivative rules: one line a function, and the place to give a ufunc or a library's function one.

>>> import numpy as np
>>> from paradual import rules
>>> rules.kind(np.sin)
'elementwise'

A rule is for a function that NumPy's protocols offer to its arguments: a ufunc, or one decorated for
``__array_function__``.  A plain Python function is differentiated through its steps, and a rule of it is
never asked for: use `paradual.custom_vjp` or `paradual.custom_jvp`.
"""

from paradual.rules import (  # the tables register themselves
    constants,
    creation,
    decompositions,
    fft,
    indexing,
    linalg,
    numeric,
    polynomials,
    products,
    reductions,
    shaping,
    statistics,
)
from paradual.rules import (
    elementwise as _elementwise,
)
from paradual.rules import (
    refused as _refused,
)
from paradual.rules.registry import (
    composed,
    constant,
    elementwise,
    general,
    kind,
    linear,
    multilinear,
    refused,
    variant,
)

__all__ = [
    "composed",
    "constant",
    "elementwise",
    "general",
    "kind",
    "linear",
    "multilinear",
    "refused",
    "variant",
]
del constants, creation, decompositions, fft, indexing, linalg, numeric, polynomials, products
del reductions, shaping, statistics, _elementwise, _refused
