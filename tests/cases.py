"""The table of `test_rules`: for every function with a derivative rule, calls that reach all of the rule.

Every point is one where the function is smooth: no ties, no kinks, well-conditioned matrices.
"""

# Each adds its calls to the table, in this order: all points are drawn from one generator.
import cases_elementwise
import cases_indexing  # noqa: F401
import cases_linalg  # noqa: F401

import cases_decompositions  # noqa: F401  isort:skip
import cases_fft  # noqa: F401

import cases_statistics  # noqa: F401  isort:skip
import cases_numeric  # noqa: F401  isort:skip
import cases_polynomials  # noqa: F401
import cases_special  # noqa: F401

import cases_creation  # noqa: F401  isort:skip
from case_table import CASES

__all__ = ["BINARY", "CASES", "REDUCTIONS"]

BINARY, REDUCTIONS = cases_elementwise.BINARY, cases_elementwise.REDUCTIONS
