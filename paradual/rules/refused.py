"""Functions that are not differentiated, each with the reason and the cure."""

from __future__ import annotations

import numpy as np
import numpy.lib.recfunctions

from paradual.rules.registry import refused

for _f in (np.save, np.savez, np.savez_compressed, np.savetxt):
    refused(_f, "a file keeps no derivative: save paradual.stop_gradient(x)")

for _f in (np.busday_count, np.busday_offset, np.is_busday, np.datetime_as_string):
    refused(_f, "a date carries no derivative: pass dates made of paradual.stop_gradient(x)")

for _f in vars(np.lib.recfunctions).values():
    if getattr(_f, "__module__", "") == "numpy.lib.recfunctions" and hasattr(_f, "__wrapped__"):
        refused(
            _f,
            "a structured array cannot hold a derivative: use an array for each field, in a dict",
        )
