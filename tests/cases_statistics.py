"""Cases of `test_rules`: see `paradual.rules.statistics`."""

from case_table import reseed

reseed(33)
