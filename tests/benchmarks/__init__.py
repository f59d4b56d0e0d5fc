"""Ratios of paradual's gradients to those of its peers and to those written by hand.

Run ``python -m tests.benchmarks``; the extra ``bench`` installs the peers.
"""
