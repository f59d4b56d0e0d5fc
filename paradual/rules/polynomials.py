"""Polynomials as arrays of coefficients."""

from __future__ import annotations
