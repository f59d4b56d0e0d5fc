"""Cases of `test_rules`: the ufuncs of scipy.special."""

from case_table import reseed

reseed(36)
