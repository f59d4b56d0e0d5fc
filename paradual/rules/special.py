"""The ufuncs of scipy.special; loaded when SciPy is."""

from __future__ import annotations
