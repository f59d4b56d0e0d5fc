"""What all tests share."""

import gc

import pytest
from hypothesis import settings

for _module in ("deploy_helpers", "helpers", "graph_helpers", "paper_helpers", "xarray_helpers"):
    pytest.register_assert_rewrite(_module)

# The same examples on every run, and no database of earlier ones: a test fails for everyone or no one.
settings.register_profile("reproducible", derandomize=True, database=None, deadline=None)
settings.load_profile("reproducible")


def pytest_collection_finish() -> None:
    """Tens of thousands of collected tests are not worth a look at each collection of garbage."""
    gc.collect()
    gc.freeze()
