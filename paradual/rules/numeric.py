"""Interpolation, convolution, gradients on grids, sets, and functions applied along axes."""

from __future__ import annotations
