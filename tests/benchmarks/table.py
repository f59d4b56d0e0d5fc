"""The table: which rows there are, and how they print."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from . import arrays, chunked, forks, graphs, implicit, loops, paper, scalars
from .measure import HAND, OURS, Line
from .systems import PEERS

ROWS: dict[str, Callable[[list[Any], bool], list[Line]]] = {
    "overhead": scalars.overhead,
    "scalars": scalars.rotations,
    "chain": arrays.large_chain,
    "index-loop": scalars.index_loop,
    "fill-loop": scalars.fill_loop,
    "network": arrays.perceptron,
    "wave": arrays.wave_equation,
    "dask-threads": chunked.logistic_threads,
    "dask-processes": chunked.logistic_processes,
    "fmult": paper.fmult,
    "fdotprod": paper.fdotprod,
    "fsummatvec": paper.fsummatvec,
    "frotvecquat": paper.frotvecquat,
    "fneural": paper.fneural,
    "fparticles": paper.fparticles,
    "fork": forks.fork_overhead,
    "fork-cluster": forks.fork_cluster,
    "speed-up": forks.speed_up,
    "graph-shape": graphs.graph_shape,
    "graph-building": graphs.graph_building,
    "graph-speed": graphs.graph_speed,
    "loop": loops.time_loop,
    "implicit": implicit.implicit,
}
SYSTEMS = (OURS, *PEERS, HAND)
LEGEND = """\
Each cell is the system's own value and, in parentheses, paradual's value divided by it: below 1
paradual is better. All systems of a row run in turns on one thread each (Dask and "forks on
threads": two), after a warm-up; a time is the minimum over the rounds, for Dask the median. Every
gradient was compared with the one by hand first; on Dask each form of the program is held against
the same form by hand, "fork-cluster" against Dask's own tasks without derivatives, and "graph
building" against what Dask takes to optimise the graph of the value. "compile" is what jit takes
once, in seconds, and is in no other number; loops of JAX are its own (scan), and only the lists of
fdotprod and fsummatvec are unrolled."""


def _cell(line: Line, system: str) -> str:
    if system not in line.values:
        return "-"
    value = f"{line.values[system]:.3g}"
    if system == OURS or OURS not in line.values:
        return value
    return f"{value} ({line.values[OURS] / line.values[system]:.2g})"


def _met(line: Line) -> str:
    answers = []
    for bar in line.bars:
        reached = bar.reached(line.values)
        if reached is None:
            answers.append("-")
        else:
            answers.append("yes" if (reached >= bar.limit if bar.least else reached <= bar.limit) else "NO")
    return ", ".join(answers)


def render(lines: Iterable[Line]) -> str:
    """The table as plain text, and below it why a system is not in a row."""
    lines = list(lines)
    head = ["row", "quantity", *SYSTEMS, "compile", "bar", "met"]
    cells = [
        [
            line.row,
            line.quantity,
            *(_cell(line, system) for system in SYSTEMS),
            "" if line.compile_s is None else f"{line.compile_s:.2g}",
            ", ".join(map(str, line.bars)),
            _met(line),
        ]
        for line in lines
    ]
    widths = [max(len(row[k]) for row in [head, *cells]) for k in range(len(head))]
    rule = ["-" * width for width in widths]
    table = [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in [head, rule, *cells]
    ]
    reasons = [
        f"{line.row}, {line.quantity}: no {system}: {why}"
        for line in lines
        for system, why in line.missing.items()
    ]
    return "\n".join([*table, "", *reasons] if reasons else table)


def as_data(line: Line) -> dict[str, Any]:
    """A line as JSON can hold it."""
    return {
        "row": line.row,
        "quantity": line.quantity,
        "values": line.values,
        "ratios": {
            name: line.values[OURS] / v
            for name, v in line.values.items()
            if name != OURS and OURS in line.values
        },
        "compile_s": line.compile_s,
        "missing": line.missing,
        "bars": [
            {"limit": b.limit, "against": b.against, "reached": b.reached(line.values)} for b in line.bars
        ],
    }
