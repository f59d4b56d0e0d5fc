"""``python -m tests.benchmarks``: measure, and print the table."""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
from pathlib import Path

ROW_NAMES = (
    "overhead", "scalars", "chain", "index-loop", "fill-loop", "network", "wave", "dask-threads",
    "dask-processes", "fmult", "fdotprod", "fsummatvec", "frotvecquat", "fneural", "fparticles",
    "fork", "fork-cluster", "speed-up", "graph-shape", "graph-building", "graph-speed", "implicit", "loop",
)  # fmt: skip
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def main(arguments: list[str] | None = None) -> int:
    """Run the rows that the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description="Ratios of paradual's gradients to its peers' and to those written by hand.",
    )
    parser.add_argument(
        "--only", metavar="NAME", action="append", choices=ROW_NAMES, help="one row; repeatable"
    )
    parser.add_argument(
        "--quick", action="store_true", help="small sizes: a test that it runs, no measurement"
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the numbers there, too")
    options = parser.parse_args(arguments)

    # One thread each, as NumPy's own functions have; it must be said before the libraries load.
    for name in THREADS:
        os.environ.setdefault(name, "1")
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")
    from .systems import load
    from .table import LEGEND, ROWS, as_data, render

    systems = load()
    gc.freeze()  # what the libraries made while loading need not be looked at before each measurement
    lines = []
    for name in options.only or ROWS:
        print(f"measuring {name} ...", file=sys.stderr, flush=True)
        lines += ROWS[name](systems, options.quick)
    print(render(lines), LEGEND, sep="\n\n")
    if options.json:
        options.json.write_text(json.dumps([as_data(line) for line in lines], indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
