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
    elementwise as _elementwise,
    indexing,
    linalg,
    products,
    reductions,
    refused as _refused,
    shaping,
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
)

__all__ = [
    "composed", "constant", "elementwise", "general", "kind", "linear", "multilinear", "refused",
]
del constants, indexing, linalg, products, reductions, shaping, _elementwise, _refused
