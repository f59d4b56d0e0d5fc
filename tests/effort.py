"""How many random programs and moments the tests try: a share of them, or all with PARADUAL_TESTS=all."""

import os

ALL = os.environ.get("PARADUAL_TESTS") == "all"


def tries(every: int, share: int) -> int:
    """The number of cases to try."""
    return every if ALL else share
