"""FUNCTIONS.md says what the rules say."""

import numpy as np
import pytest
import scipy
from support_table import PAGE, numpy_rows, page, scipy_rows, special_rows

TEXT = PAGE.read_text()


@pytest.mark.parametrize("rows", [numpy_rows, special_rows, scipy_rows])
def test_the_page_has_every_function_of_this_version_as_it_is(rows):
    listed = {line.split("|")[1]: line for line in TEXT.splitlines() if line.startswith("| `")}
    for line in rows():
        name = line.split("|")[1]
        if name in listed:  # a function newer than the page is for test_completeness
            assert listed[name] == line


def test_the_page_is_current():
    if f"NumPy {np.__version__} " in TEXT and f"{scipy.__version__}, and" in TEXT:
        assert page() == TEXT, "run python -m tests.support_table"
    for count in (len(numpy_rows()), len(special_rows()), len(scipy_rows())):
        assert count > 150 or count == len(scipy_rows())
