"""Tests and a benchmark for a real CUDA device; `RESULTS.md` has what was measured."""
