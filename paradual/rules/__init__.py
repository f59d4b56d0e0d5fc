"""Derivative rules: one line a function, and the place to give a function of your own one.

>>> import numpy as np
>>> from paradual import rules
>>> def cube(x):
...     return x * x * x
>>> rules.kind(np.sin)
'elementwise'
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
