"""Cases of `test_rules`: see `paradual.rules.fft`."""

from case_table import reseed

reseed(32)
