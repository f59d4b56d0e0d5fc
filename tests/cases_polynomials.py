"""Cases of `test_rules`: see `paradual.rules.polynomials`."""

from case_table import reseed

reseed(35)
