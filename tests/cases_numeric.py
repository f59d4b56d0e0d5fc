"""Cases of `test_rules`: see `paradual.rules.numeric`."""

from case_table import reseed

reseed(34)
