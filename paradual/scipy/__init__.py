"""SciPy functions that do not dispatch, with derivatives: the same names in the same modules."""
