"""Matrix decompositions and what is computed with them, stacked matrices included."""

from __future__ import annotations
