"""Functions whose results carry no derivative: tests, signs and steps, indices, shapes, new arrays."""

from __future__ import annotations

import numpy as np

from paradual.rules.registry import constant

# tests and comparisons
constant(np.less, np.less_equal, np.equal, np.not_equal, np.greater, np.greater_equal)
constant(np.logical_and, np.logical_or, np.logical_xor, np.logical_not)
constant(np.isfinite, np.isinf, np.isnan, np.signbit, np.isneginf, np.isposinf)
constant(np.isclose, np.allclose, np.array_equal, np.array_equiv, np.all, np.any)
constant(np.isreal, np.iscomplex, np.isrealobj, np.iscomplexobj, np.isin)

# steps
constant(np.sign, np.floor, np.ceil, np.trunc, np.rint, np.floor_divide, np.round, np.around, np.fix)
constant(np.spacing)

# indices and counts
constant(np.argmax, np.argmin, np.nanargmax, np.nanargmin, np.argsort, np.lexsort, np.argpartition)
constant(np.argwhere, np.nonzero, np.flatnonzero, np.count_nonzero, np.searchsorted, np.digitize)

# shapes and types
constant(np.shape, np.ndim, np.size, np.result_type, np.can_cast, np.min_scalar_type)
constant(np.common_type, np.shares_memory, np.may_share_memory)

# new arrays of the same form
constant(np.zeros_like, np.ones_like, np.empty_like)

# text
constant(np.array_repr, np.array_str, np.array2string)
