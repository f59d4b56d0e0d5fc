"""Cases of `test_rules`: see `paradual.rules.decompositions`."""

from case_table import reseed

reseed(31)
