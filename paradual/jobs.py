"""Jobs and the order of the reverse pass: pure data about names; nothing is called here.

A *job* is a sequential stretch of the program; its name is a path.  A task that is forked from job
``(..., s)`` as its branch number b has the path ``(..., s, b)``, and its jobs are ``(..., s, b, 0)``,
``(..., s, b, 1)`` and so on: a join ends one job and opens the next.  The names need no counter that
two jobs share, and a job that runs again gets the same name.

The reverse pass walks the same graph backwards: a job runs when all jobs that used its values have.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, TypeVar

from paradual.tape import Job

Name = TypeVar("Name", bound=Hashable)

ROOT: Job = (0,)
FAN_IN = 8  # how many cotangents of one slot a task sums, at the most


def branch(job: Job, number: int) -> Job:
    """The first job of a task forked from a job."""
    return (*job, number, 0)


def successor(job: Job) -> Job:
    """The job that a task goes on with after a join."""
    return (*job[:-1], job[-1] + 1)


def with_name(key: Any, change: Callable[[Any], str]) -> Any:
    """The key of a Dask task under another name: a tuple begins with its name."""
    return (change(key[0]), *key[1:]) if isinstance(key, tuple) else change(key)


def reverse_plan(uses: Mapping[Name, Iterable[Name]]) -> dict[Name, list[Name]]:
    """Turn the job graph round.

    Parameters
    ----------
    uses : mapping
        ``{job: the jobs whose values it uses}``, in program order: every job after those it uses.

    Returns
    -------
    dict
        ``{job: the jobs whose cotangents it receives}``, in the order of the reverse pass; the
        receivers of one job are in program order, which fixes the order of all additions.

    Raises
    ------
    ValueError
        If a job uses a later one, or itself.

    Examples
    --------
    >>> reverse_plan({"a": [], "b": ["a"], "c": ["a", "b"]})
    {'c': [], 'b': ['c'], 'a': ['b', 'c']}
    """
    consumers: dict[Name, list[Name]] = {}
    for job, used in uses.items():
        for earlier in dict.fromkeys(used):
            if earlier not in consumers:
                raise ValueError(f"job {job!r} uses a value of {earlier!r}, which does not precede it")
            consumers[earlier].append(job)
        consumers[job] = []
    return {job: consumers[job] for job in reversed(consumers)}
