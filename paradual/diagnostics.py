"""Looking at parallel programs: `profile` measures the two passes, `visualize` draws their job graphs."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

from paradual.forks import WATCHER
from paradual.graphs import listed
from paradual.jobs import branch
from paradual.reverse import Plan
from paradual.tape import Job, Stub, history, imports
from paradual.taskgraph import is_collection, read
from paradual.transforms import vjp
from paradual.trees import flatten

# A graph of stretches of work, in an order in which they could run: {name: (seconds, names it waits for)}.
Stretches = dict[Any, tuple[float, list[Any]]]


class JobTimes(NamedTuple):
    """What was measured of one job."""

    job: Job
    label: str  # of the task that it belongs to; empty for the program itself
    worker: str  # where the forward pass ran; empty for this process
    forward: float  # seconds, without waiting for others
    reverse: float  # seconds of its sweep
    tape: int  # bytes
    moved: int  # bytes of its tape that went to another worker for the sweep


@dataclass
class Pass:
    """One program and its reverse pass."""

    jobs: list[JobTimes]
    forward: Stretches
    reverse: Stretches


@dataclass
class Profile:
    """What `profile` has measured: work and span in seconds, and bytes of tapes.

    Attributes
    ----------
    passes : list of Pass
        One for each reverse pass that ran.
    """

    passes: list[Pass] = field(default_factory=list)

    def work(self, which: str) -> float:
        """Seconds of all jobs of a pass, ``"forward"`` or ``"reverse"``, added."""
        return sum(seconds for one in self.passes for seconds, _ in getattr(one, which).values())

    def span(self, which: str) -> float:
        """Seconds of its longest chain of jobs that wait for each other: no cluster is faster."""
        return sum(_finish(getattr(one, which)) for one in self.passes)

    def parallelism(self, which: str) -> float:
        """Work by span: how many workers could be busy, on average."""
        return self.work(which) / max(self.span(which), 1e-12)

    def simulate(self, which: str, workers: int) -> float:
        """Seconds that a pass would take on some workers, if each takes what is ready, first come first."""
        return sum(_finish(getattr(one, which), workers) for one in self.passes)

    @property
    def tape_bytes(self) -> int:
        """Bytes of all tapes."""
        return sum(row.tape for one in self.passes for row in one.jobs)

    @property
    def moved_bytes(self) -> int:
        """Bytes of tapes that went to another worker than the one that made them."""
        return sum(row.moved for one in self.passes for row in one.jobs)

    def __str__(self) -> str:
        lines = ["pass      work [s]   span [s]   parallelism"]
        for which in ("forward", "reverse"):
            numbers = self.work(which), self.span(which), self.parallelism(which)
            lines.append("{:8}{:10.4f} {:10.4f} {:13.2f}".format(which, *numbers))
        lines += [f"tapes: {_bytes(self.tape_bytes)}, of which moved: {_bytes(self.moved_bytes)}", ""]
        lines.append("job                       task             forward [s]  reverse [s]        tape")
        for one in self.passes:
            for row in one.jobs:
                name = ".".join(map(str, row.job))
                times = f"{row.forward:11.4f}  {row.reverse:11.4f}"
                lines.append(f"{name:25} {row.label:16} {times}  {_bytes(row.tape):>10}")
        return "\n".join(lines)


@contextmanager
def profile() -> Iterator[Profile]:
    """Measure the forward and reverse passes that run within this context.

    Yields
    ------
    Profile
        Work, span and parallelism of both passes, and bytes of tape, by job and in all; printed, a table.
        It is filled in as reverse passes end.  What a task on another process differentiates by itself
        is part of that task.

    Notes
    -----
    Work is the time of all jobs together, span that of the longest chain of jobs that wait for each
    other (Blumofe and Leiserson, 1999).  A job's time is without that in which it waits for tasks.

    Examples
    --------
    >>> import paradual as pdl
    >>> def f(x):
    ...     a, b = pdl.par(lambda: x * x, lambda: 3 * x)
    ...     return a * b
    >>> with pdl.profile() as measured:
    ...     _ = pdl.grad(f)(2.0)
    >>> [row.job for row in measured.passes[0].jobs]
    [(0,), (0, 0, 0), (0, 1, 0), (1,)]
    >>> measured.parallelism("reverse") >= 1
    True
    """
    found = Profile()
    token = WATCHER.set(lambda plan: found.passes.append(_measured(plan)))
    try:
        yield found
    finally:
        WATCHER.reset(token)


def _measured(plan: Plan) -> Pass:
    rows = []
    for job, tape in plan.tapes.items():
        task = plan.tasks.get(job)
        label, worker = (tape.label, tape.worker) if isinstance(tape, Stub) else ("", "")
        elsewhere = task is not None and isinstance(tape, Stub) and task.worker != worker
        size, seconds = plan.sizes[job], 0.0 if task is None else task.seconds
        rows.append(JobTimes(job, label, worker, tape.seconds, seconds, size, size * elsewhere))
    reverse: Stretches = {}
    for task in plan.in_order():
        waits = plan.waits.get(id(task), plan.waits.get(task.name, []))
        reverse[id(task)] = task.seconds, [id(other) for other in waits]
    return Pass(rows, _stretches(plan.tapes), reverse)


def _stretches(tapes: dict[Job, Any]) -> Stretches:
    """The forward pass: a job is cut where it forks a task, which may begin there."""
    forked: dict[Job, tuple[Job, int]] = {}  # {first job of a task: where it was forked}
    pieces: dict[Job, list[float]] = {}
    for job, tape in tapes.items():
        times = sorted((seconds, number) for number, seconds in tape.started.items())
        for k, (_, number) in enumerate(times):
            forked[branch(job, number)] = job, k
        bounds = [0.0, *(seconds for seconds, _ in times), tape.seconds]
        pieces[job] = [max(b - a, 0.0) for a, b in pairwise(bounds)]
    graph: Stretches = {}
    for job in _by_fork(tapes, forked):
        for k, seconds in enumerate(pieces[job]):
            if k:
                waits: list[Any] = [(job, k - 1)]
            elif job in forked:
                waits = [forked[job]]
            else:
                waits = [(t.home[1], len(pieces[t.home[1]]) - 1) for t in tapes[job].past]
            graph[job, k] = seconds, waits
    return graph


def _by_fork(tapes: dict[Job, Any], forked: dict[Job, tuple[Job, int]]) -> list[Job]:
    """Jobs, each after the one that forked it and after those it joined."""
    done: dict[Job, None] = {}
    for last in tapes:
        stack = [last]
        while stack:
            job = stack[-1]
            before = [t.home[1] for t in tapes[job].past]
            if job in forked:
                before.append(forked[job][0])
            missing = [b for b in before if b not in done]
            if missing:
                stack.extend(missing)
            else:
                done[stack.pop()] = None
    return list(done)


def _finish(graph: Stretches, workers: int | None = None) -> float:
    """When the last stretch ends, on some workers, or on as many as there is work for."""
    number = {name: k for k, name in enumerate(graph)}
    left = {name: len(waits) for name, (_, waits) in graph.items()}
    followers: dict[Any, list[Any]] = {name: [] for name in graph}
    for name, (_, waits) in graph.items():
        for other in waits:
            followers[other].append(name)
    ready = [(number[name], name) for name in graph if not left[name]]
    heapq.heapify(ready)
    running: list[tuple[float, int, Any]] = []
    now = 0.0
    while ready or running:
        while ready and (workers is None or len(running) < workers):
            k, name = heapq.heappop(ready)
            heapq.heappush(running, (now + graph[name][0], k, name))
        now, _, name = heapq.heappop(running)
        for follower in followers[name]:
            left[follower] -= 1
            if not left[follower]:
                heapq.heappush(ready, (number[follower], follower))
    return now


def _bytes(n: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if n < 1024 or unit == "GiB":
            return f"{n:.0f} {unit}" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1024
    raise AssertionError


# --- the picture -------------------------------------------------------------------------------------------


def visualize(fn: Callable[..., Any], *args: Any, filename: str | None = None) -> Any:
    """Draw the jobs of a program and of its reverse pass.

    Parameters
    ----------
    fn : callable, or collection or list of collections
        A function of arrays, or pytrees of them, which is called; or of Dask collections; or results of such
        a function.
    *args : pytree
        Its arguments; of results those that they are differentiated with respect to.
    filename : str, optional
        Where to save the picture; the ending says the format (``"jobs.svg"``, ``"jobs.png"``).

    Returns
    -------
    graphviz.Digraph or str
        The picture, which notebooks show; the same in words where graphviz is not installed.  Solid arrows
        are the forward pass, dashed ones carry cotangents.

    Examples
    --------
    >>> import paradual as pdl
    >>> from paradual.diagnostics import in_words, job_graph
    >>> def f(x):
    ...     a, b = pdl.par(lambda: x * x, lambda: 3 * x)
    ...     return a * b
    >>> print(in_words(*job_graph(f, 2.0)))
    0: 1 records
      forks 0.0.0, 0.1.0
    0.0.0: 2 records
      joins into 1
      sends cotangents to 0
    0.1.0: 2 records
      joins into 1
      sends cotangents to 0
    1: 3 records
      sends cotangents to 0.0.0, 0.1.0
    """
    jobs, forward, reverse = job_graph(fn, *args)
    try:
        import graphviz
    except ImportError:
        text = in_words(jobs, forward, reverse)
        if filename is not None:
            with open(filename, "w") as file:
                file.write(text + "\n")
        return text
    picture = graphviz.Digraph(node_attr={"shape": "box", "fontname": "sans-serif"})
    for job, text in jobs.items():
        picture.node(_name(job), f"{_name(job)}\\n{text}")
    for a, b in forward:
        picture.edge(_name(a), _name(b))
    for a, b in reverse:
        picture.edge(_name(a), _name(b), style="dashed", color="firebrick", constraint="false")
    if filename is not None:
        picture.render(outfile=filename, cleanup=True)
    return picture


def job_graph(fn: Callable[..., Any], *args: Any) -> tuple[dict[Job, str], list[Any], list[Any]]:
    """The jobs of a program with what to say of each, its forks and joins, and which way cotangents go."""
    inputs, outputs = flatten(args)[0], flatten(fn)[0]
    if all(map(is_collection, outputs)) or (inputs and all(map(is_collection, inputs))):
        outputs = outputs if not callable(fn) or is_collection(fn) else flatten(fn(*args))[0]
        return _lazy_jobs(outputs, inputs)
    _, pullback = vjp(fn, *args)
    tapes = {tape.home[1]: tape for tape in history(pullback.last)}
    jobs = {}
    for job, tape in tapes.items():
        if isinstance(tape, Stub):
            jobs[job] = f"{tape.label}, {_bytes(tape.size)}"
        else:
            jobs[job] = f"{len(tape.records or ())} records"
    forward = [(job, branch(job, n)) for job, tape in tapes.items() for n in tape.started]
    forward = [(a, b) for a, b in forward if b in tapes]
    forward += [(before.home[1], job) for job, tape in tapes.items() for before in tape.past]
    reverse = [
        (job, owner)
        for job, tape in tapes.items()
        for owner in dict.fromkeys(slot[0] for slot in imports(tape))
        if owner in tapes
    ]
    return jobs, forward, reverse


def _lazy_jobs(outputs: list[Any], inputs: list[Any]) -> tuple[dict[Job, str], list[Any], list[Any]]:
    """The same of Dask collections: nothing is computed."""
    program = read(listed(outputs, "the results"), listed(inputs, "the arguments"))
    jobs: dict[Job, str] = {(str(key),): "input" for key in program.inputs if key not in program.uses}
    jobs.update({(str(key),): f"uses {len(used)}" for key, used in program.uses.items()})
    forward = [((str(used),), (str(key),)) for key, found in program.uses.items() for used in found]
    return jobs, forward, [(key, used) for used, key in reversed(forward)]


def in_words(jobs: dict[Job, str], forward: list[Any], reverse: list[Any]) -> str:
    """A job graph as text."""
    lines = []
    for job, text in jobs.items():
        lines.append(f"{_name(job)}: {text}")
        forks = [b for a, b in forward if a == job and len(b) > len(a)]
        joins = [b for a, b in forward if a == job and len(b) < len(a)]
        users = [b for a, b in forward if a == job and isinstance(b[0], str)]  # keys of Dask
        sends = [b for a, b in reverse if a == job]
        verbs = {"forks": forks, "joins into": joins, "is used by": users, "sends cotangents to": sends}
        for verb, others in verbs.items():
            if others:
                lines.append(f"  {verb} {', '.join(map(_name, others))}")
    return "\n".join(lines)


def _name(job: Job) -> str:
    return ".".join(map(str, job))
