"""Gradients on a CUDA device, by one command: `python -m tests.gpu.benchmark`.

It prints a table in Markdown: paradual, CuPy by hand, torch and jax where they are installed, and what the
bandwidth or the arithmetic of the device allows, which are measured first.  Times are those between two
events of the device (of jax by the clock, around a call that waits), medians over rounds after a warm-up.
Every gradient is compared with the one by hand in double precision first.  Without a device it says so and
ends with an error: there are no numbers then.  `--dry` runs it all at tiny sizes, on the stand-in of the
tests where there is no device, to see that it runs; its times mean nothing, and it shows none.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from . import problems as p

ROUNDS, SECONDS = 9, 12.0  # at most, for one cell


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--dry", action="store_true", help="tiny sizes, no times; without a device too")
    parser.add_argument("--only", action="append", default=[], help="a word of the rows to run")
    options = parser.parse_args(arguments)
    cupy = device(options.dry)
    if cupy is None:
        print("no CUDA device and CuPy here: nothing was measured", file=sys.stderr)
        return 1
    chosen = [
        problem
        for problem in p.problems(options.dry)
        if not options.only or any(word in problem.name for word in options.only)
    ]
    bandwidth, rate = limits(cupy, options.dry)
    print(heading(cupy, bandwidth, rate, options.dry))
    print("| | size | paradual | / primal | by hand | / primal | torch | jax, jit | bound | / by hand |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for problem in chosen:
        print(row(cupy, problem, bandwidth, rate, options.dry), flush=True)
    return 0


def device(dry: bool) -> Any:
    """CuPy with a device; in a dry run the stand-in for it; or None."""
    if sys.modules.get("cupy", ...) is None or (
        "cupy" not in sys.modules and not importlib.util.find_spec("cupy")
    ):
        if not dry:
            return None
        sys.path.insert(0, str(Path(__file__).parents[1]))
        importlib.import_module("fake_device").install()
    import cupy

    try:
        return cupy if cupy.cuda.runtime.getDeviceCount() else None
    except cupy.cuda.runtime.CUDARuntimeError:
        return None


def seconds(cupy: Any, run: Callable[[], Any], dry: bool = False) -> float:
    """The median time of a call, between two events of the device."""
    run()
    times: list[float] = []
    while len(times) < (1 if dry else ROUNDS) and sum(times) < SECONDS:
        start, end = cupy.cuda.Event(), cupy.cuda.Event()
        start.record()
        run()
        end.record()
        end.synchronize()
        times.append(cupy.cuda.get_elapsed_time(start, end) / 1000)
    return median(times)


def limits(cupy: Any, dry: bool) -> tuple[float, float]:
    """Bytes a second of a copy, and operations a second of a product of matrices in single precision."""
    n, m = (1000, 16) if dry else (200_000_000, 8192)
    source = p.ramp(cupy, np.float32, n)
    target = source.copy()

    def copy() -> None:
        target[...] = source

    bandwidth = 2 * source.nbytes / seconds(cupy, copy, dry)
    a = p.ramp(cupy, np.float32, m, m)
    return bandwidth, 2.0 * m**3 / seconds(cupy, lambda: a @ a, dry)


def heading(cupy: Any, bandwidth: float, rate: float, dry: bool) -> str:
    """What was measured, and where."""
    versions = f"Python {sys.version.split()[0]}, NumPy {np.__version__}, CuPy {cupy.__version__}"
    if dry:
        return f"A dry run: {versions}; every gradient is right, and no time was kept.\n"
    name = cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()
    return (
        f"{name}; {versions}; a copy moves {bandwidth / 1e9:,.0f} GB/s, a product of matrices does "
        f"{rate / 1e12:.1f} TFLOP/s in float32. Medians of up to {ROUNDS} rounds.\n"
    )


def row(cupy: Any, problem: p.Problem, bandwidth: float, rate: float, dry: bool) -> str:
    """Check and measure a problem: a row of the table."""
    expected = reference(cupy, problem)
    arrays = problem.inputs(cupy, np.float32)
    ways = {"paradual": p.ours(problem, arrays), "by hand": p.by_hand(problem, arrays)}
    found: dict[str, float] = {}
    for name, run in ways.items():
        check(problem, name, run()[1], expected, cupy)
        found[name] = seconds(cupy, run, dry)
    found["primal"] = seconds(cupy, p.primal(problem, arrays), dry)
    free(cupy)
    for name, build in (("torch", p.with_torch), ("jax", p.with_jax)) if not dry else ():
        time = other(cupy, problem, name, build, arrays, expected)
        if time is not None:
            found[name] = time
        free(cupy)
    bound = max(problem.moved / bandwidth, problem.work / rate)
    ratio = f"{found['paradual'] / found['by hand']:.2f}"
    cells = [problem.name, problem.what]
    for name in ("paradual", "by hand"):
        cells += [shown(problem, found[name]), f"{found[name] / found['primal']:.2f}"]
    cells += [shown(problem, found[name]) if name in found else "" for name in ("torch", "jax")]
    cells += [shown(problem, bound) if bound else "", ratio]
    if dry:
        cells = cells[:2] + ["-" if cell else "" for cell in cells[2:]]
    return f"| {' | '.join(cells)} |"


def reference(cupy: Any, problem: p.Problem) -> list[Any]:
    """The gradients by hand in double precision, kept in single precision."""
    gradients = problem.by_hand(np, *problem.inputs(cupy, np.float64).values())[1]
    kept = [g.astype(np.float32) for g in gradients]
    free(cupy)
    return kept


def check(problem: p.Problem, name: str, gradients: Any, expected: list[Any], cupy: Any) -> None:
    """Refuse to time a gradient that is not right."""
    for g, e in zip(gradients, expected, strict=True):
        error = float(np.max(np.abs(cupy.asarray(g) - e)) / np.max(np.abs(e)))
        if not error <= problem.tolerance:
            raise SystemExit(
                f"{problem.name}: the gradient of {name} is off by {error:.1e} of its largest entry"
            )


def other(cupy: Any, problem: p.Problem, name: str, build: Any, arrays: Any, expected: Any) -> float | None:
    """The time of another library, if it is there and sees the device."""
    if importlib.util.find_spec(name) is None:
        return None
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if name == "torch":
        import torch

        if not torch.cuda.is_available():
            return None
    else:
        import jax

        if jax.default_backend() != "gpu":
            return None
    run = build(problem, arrays, cupy.asnumpy)
    gradients = run()[1]
    check(problem, name, [np.asarray(g.cpu() if name == "torch" else g) for g in gradients], expected, cupy)
    if name == "jax":
        return median(p.elapsed(run) for _ in range(5))
    times: list[float] = []
    while len(times) < ROUNDS and sum(times) < SECONDS:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / 1000)
    return median(times)


def shown(problem: p.Problem, time: float) -> str:
    """A time for people."""
    if problem.operations:
        return f"{time / problem.operations * 1e6:.1f} us"
    return f"{time * 1e3:,.2f} ms"


def free(cupy: Any) -> None:
    """Give memory back that no array has, so that it is there for the next system."""
    pool = getattr(cupy, "get_default_memory_pool", None)
    if pool is not None:
        pool().free_all_blocks()


if __name__ == "__main__":
    sys.exit(main())
