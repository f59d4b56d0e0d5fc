"""Order statistics, the nan-functions, covariances and histograms."""

from __future__ import annotations
