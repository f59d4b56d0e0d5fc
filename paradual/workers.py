"""Where in a Dask cluster this code runs, asked without importing `distributed`."""

from __future__ import annotations

import sys
from typing import Any


def this_worker() -> Any:
    """The Dask worker that runs this task; None elsewhere, as on Dask's schedulers of one machine."""
    if "distributed" not in sys.modules:
        return None
    from distributed import get_worker

    try:
        return get_worker()
    except ValueError:
        return None
