"""Functions whose results carry no derivative: tests, signs and steps, indices, shapes, new arrays."""

from __future__ import annotations

import numpy as np
import numpy.char
import numpy.strings

from paradual.rules.registry import constant

# tests and comparisons
constant(np.less, np.less_equal, np.equal, np.not_equal, np.greater, np.greater_equal)
constant(np.logical_and, np.logical_or, np.logical_xor, np.logical_not)
constant(np.isfinite, np.isinf, np.isnan, np.signbit, np.isneginf, np.isposinf)
constant(np.isclose, np.allclose, np.array_equal, np.array_equiv, np.all, np.any)
constant(np.isreal, np.iscomplex, np.isrealobj, np.iscomplexobj, np.isin)
if "in1d" in vars(np):  # gone in NumPy 2.4
    constant(vars(np)["in1d"])

# steps
constant(np.floor, np.ceil, np.trunc, np.rint, np.floor_divide, np.round, np.around, np.fix)
constant(np.spacing)

# indices and counts
constant(np.argmax, np.argmin, np.nanargmax, np.nanargmin, np.argsort, np.lexsort, np.argpartition)
constant(np.argwhere, np.nonzero, np.flatnonzero, np.count_nonzero, np.searchsorted, np.digitize)

# shapes and types
constant(np.shape, np.ndim, np.size, np.result_type, np.can_cast, np.min_scalar_type)
constant(np.common_type, np.shares_memory, np.may_share_memory)
constant(np.diag_indices_from, np.tril_indices_from, np.triu_indices_from)
constant(np.ravel_multi_index, np.unravel_index, np.einsum_path, np.isnat)

# integers and bits: NumPy itself refuses them for floating-point numbers
constant(np.bitwise_and, np.bitwise_or, np.bitwise_xor, np.invert, np.left_shift, np.right_shift)
constant(np.bitwise_count, np.gcd, np.lcm, np.packbits, np.unpackbits)

# text: NumPy itself refuses numbers here
constant(np.array_repr, np.array_str, np.array2string)
_core = getattr(np, "_core", None)  # private, but the only place to find what lies under np.strings
_umath = getattr(_core, "umath", None)
for _module in (np.strings, np.char, getattr(_core, "strings", np.strings)):
    for _f in list(vars(_module).values()):
        if getattr(_f, "__module__", "") in ("numpy.strings", "numpy.char"):
            constant(_f)
for _name, _f in list(vars(_umath).items()):
    if isinstance(_f, np.ufunc) and (not _f.types or _name == "_ones_like"):  # text has no type codes
        constant(_f)
