"""What all tests share."""

from hypothesis import settings

# The same examples on every run, and no database of earlier ones: a test fails for everyone or no one.
settings.register_profile("reproducible", derandomize=True, database=None, deadline=None)
settings.load_profile("reproducible")
