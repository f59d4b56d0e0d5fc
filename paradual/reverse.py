"""The reverse pass of a program: one plan over the tapes of its jobs, joins become forks and forks joins.

Every job is swept once, after all jobs that used its values; no task waits for another.  A job whose tape
is here is swept here, one whose tape stayed on a worker is swept there, and what they find goes from one
to the next.  Contributions are added in the order of the program, many of them by a tree of fixed shape,
so that a gradient does not depend on where or when its jobs ran.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np

from paradual.errors import InternalError
from paradual.forks import SUM, WATCHER, Executor, Part, Task, join, pause, resume, with_results
from paradual.jobs import FAN_IN, reverse_plan
from paradual.rules.careful import backward_masked
from paradual.sizes import bytes_of, size_of
from paradual.tape import ACTIVE, Cotangents, Home, Job, Slot, Stub, Tape, history, imports
from paradual.tasks import current
from paradual.trees import flatten, unflatten
from paradual.work import Contribution, has_nan, merge, route, sweep

WORTH_A_TASK = 1 << 16  # bytes: cotangents of this size are summed by tasks of their own


def reverse(
    last: Tape | Stub, seeds: list[tuple[Slot, Any]], own: bool = False, consume: bool = False
) -> Cotangents:
    """The backward of a program: every job of its history, each after those that used its values.

    Parameters
    ----------
    last : Tape
        The program's last tape.
    seeds : list of (Slot, array)
        Cotangents of its results.
    own, consume : bool
        As for `paradual.work.sweep`.

    Returns
    -------
    dict
        ``{foreign slot: cotangent}`` for the slots of jobs that are not part of the program.

    Raises
    ------
    InternalError
        If a cotangent is left over; it is never dropped.
    """
    if isinstance(last, Tape) and not last.past and WATCHER.get() is None:
        return sweep(last, [(index, g) for (_, index), g in seeds], own, consume)
    return Plan(last, seeds, own, consume).run()


class Plan:
    """The jobs of one reverse pass, and how far it is.

    A job is *near* if its tape is in this process, and *far* if it stayed on a worker.
    """

    def __init__(self, last: Tape | Stub, seeds: list[tuple[Slot, Any]], own: bool, consume: bool) -> None:
        self.tapes: dict[Job, Tape | Stub] = {tape.home[1]: tape for tape in history(last)}
        self.seeds = route(seeds)
        # what each job used, with its form; asked now, for the sweep may empty the tapes
        self.imports = {job: imports(tape) for job, tape in self.tapes.items()}
        uses = {job: {slot[0] for slot in used} for job, used in self.imports.items()}
        outside = dict.fromkeys(owner for used in uses.values() for owner in used if owner not in uses)
        for job in self.seeds:
            if job not in self.tapes:
                raise InternalError(f"a cotangent for job {job}, which is not part of the program")
        try:
            plan = reverse_plan({**{owner: set[Job]() for owner in outside}, **uses})
        except ValueError as error:
            raise InternalError(f"the recorded jobs are not in order: {error}") from None
        # {job: those that send it cotangents}, in reverse order: without what gets none, or passes none on
        self.senders: dict[Job, list[Job]] = {}
        for job, consumers in plan.items():
            found = [c for c in consumers if c in self.senders]
            if (found or job in self.seeds) and (uses.get(job) or job in outside):
                self.senders[job] = found
        self.outside = [owner for owner in outside if owner in self.senders]
        self.masks = any(tape.masks for tape in self.tapes.values())
        self.own, self.consume = own, consume and not self.masks
        watched = WATCHER.get() is not None
        self.sizes = {job: size_of(tape) for job, tape in self.tapes.items()} if watched else {}
        self.near: Executor = current().near
        self.far: Any = None  # the executor where the tapes are that are not here
        self.tasks: dict[Job, Task] = {}
        self.made: list[Task] = []  # the same and sums of cotangents, in order
        self.parts: dict[Job, list[Any]] = {}  # what near jobs receive from far ones, once it is here
        self.waits: dict[Any, list[Task]] = {}  # {job, or id of a sum: the tasks it receives from}

    def run(self) -> Cotangents:
        """Sweep all jobs: what they contribute to slots of jobs outside of the program."""
        pause()
        try:
            self._sweep_all()
            for owner in self.outside:
                self._await(owner)
            self.near.wait([task for task in self.made if task.executor is self.near])
            if len(ACTIVE.get()) > 1 or WATCHER.get() is not None:
                self._fetch([Part(task, None) for task in self.made if task.executor is self.far])
        except BaseException:
            for executor in (self.near, self.far):
                if executor is not None:
                    executor.cancel([task for task in self.made if task.executor is executor])
            resume()
            raise
        join([*self.in_order()])
        found: Cotangents = {}
        for owner in self.outside:
            contributions = collected(with_results(self.parts[owner]))
            found.update({(owner, index): g for index, g in merge(contributions)})
        if self.masks and has_nan(found):
            found = self._masked()
        watcher = WATCHER.get()
        if watcher is not None:
            watcher(self)
        return found

    def in_order(self) -> Iterator[Task]:
        """The tasks in the order of the plan, whenever they began: it decides the order of additions."""
        sums: dict[Job, list[Task]] = {}
        for task in self.made:
            if task.beside is SUM:
                sums.setdefault(task.name, []).append(task)
        for job in self.senders:
            yield from sums.get(job, ())
            if job in self.tasks:
                yield self.tasks[job]

    def _sweep_all(self) -> None:
        """Begin the sweep of every job as soon as what it receives is known, or on its way."""
        jobs = [job for job in self.senders if job in self.tapes]
        waits = {job: len(self.senders[job]) for job in jobs}
        followers: dict[Job, list[Job]] = {job: [] for job in jobs}
        for job in jobs:
            for sender in self.senders[job]:
                followers[sender].append(job)
        ready = deque(job for job in jobs if not waits[job])

        def known(job: Job) -> None:
            waits[job] -= 1
            if not waits[job]:
                ready.append(job)

        rest = iter(jobs)
        while True:
            batch: list[Task] = []
            crossing: list[Job] = []
            while ready:
                job = ready.popleft()
                self.tasks[job] = task = self._task(job, batch)
                batch.append(task)
                for follower in followers[job]:
                    if self._is_stub(follower) == self._is_stub(job):
                        known(follower)
                    elif self._is_stub(follower):
                        crossing.append(job)
            self._start(batch)
            if crossing:  # near results that far jobs need are sent with these
                self.near.wait([self.tasks[job] for job in dict.fromkeys(crossing)])
                for job in dict.fromkeys(crossing):
                    for follower in followers[job]:
                        if self._is_stub(follower):
                            known(follower)
                continue
            # the first of those that are left is near, and waits for nothing but results of far jobs
            blocked = next((job for job in rest if job not in self.tasks), None)
            if blocked is None:
                return
            self._await(blocked)
            ready.append(blocked)

    def _is_stub(self, job: Job) -> bool:
        return isinstance(self.tapes.get(job), Stub)

    def _start(self, batch: list[Task]) -> None:
        self.made.extend(batch)
        for executor in (self.far, self.near):
            chosen = [task for task in batch if task.executor is executor]
            if chosen:
                executor.start(chosen)

    def _task(self, job: Job, batch: list[Task]) -> Task:
        """The task that sweeps a job."""
        tape, seeds = self.tapes[job], self.seeds.get(job, [])
        parts = self.parts.pop(job, None) or self._received(job, batch)
        if isinstance(tape, Tape):
            task = Task(sweep_job, (tape, seeds, parts, self.own, self.consume), name=job, label="sweep")
            task.executor = self.near
            return task
        if self.far is None:
            from paradual.cluster import owner_of  # a stub exists only where there is a cluster

            self.far = owner_of(tape.where)
            self.far.adopt([stub.where for stub in self.tapes.values() if isinstance(stub, Stub)])
        task = Task(sweep_held, (tape.where, tape.home, seeds, parts), name=job, label=tape.label)
        task.beside, task.executor, task.resources = tape, self.far, tape.resources
        return task

    def _received(self, owner: Job, batch: list[Task]) -> list[Any]:
        """What a job receives, by sender; from more than FAN_IN of them, sums by a tree of fixed shape.

        A group of the tree is a task of its own, if that is worth it, or a list that is summed at its end.
        """
        senders = self.senders[owner]
        nodes: list[Any] = []
        for sender in senders:
            task = self.tasks[sender]
            if self._is_stub(owner) and not self._is_stub(sender):
                nodes.append(Part(Found({owner: task.outcome.get(owner, [])}), owner))
            else:
                nodes.append(Part(task, owner))
        executor = self.far
        if len(nodes) > FAN_IN and not any(map(self._is_stub, (owner, *senders))):
            large = any(self._bytes(sender, owner) >= WORTH_A_TASK for sender in senders)
            executor = self.near if large else None
        while len(nodes) > FAN_IN:
            groups = [nodes[k : k + FAN_IN] for k in range(0, len(nodes), FAN_IN)]
            nodes = [self._sum(owner, group, executor, batch) for group in groups]
        if self.sizes:
            self.waits[owner] = tasks_of(nodes)
        return nodes

    def _sum(self, owner: Job, group: list[Any], executor: Any, batch: list[Task]) -> Any:
        if not all(
            isinstance(part, Part) and isinstance(part.task, Task) and part.task.executor is executor
            for part in group
        ):
            return group
        task = Task(sum_parts, (owner, group), name=owner, label="sum")
        task.beside, task.executor = SUM, executor
        task.resources = next((part.task.resources for part in group if part.task.resources), None)
        batch.append(task)
        if self.sizes:
            self.waits[id(task)] = tasks_of(group)
        return Part(task, owner)

    def _bytes(self, sender: Job, owner: Job) -> int:
        """How many bytes of cotangents one job sends to another."""
        forms = (form for slot, form in self.imports[sender].items() if slot[0] == owner)
        return sum(bytes_of(form) for form in forms)

    def _is_far(self, part: Any) -> bool:
        return isinstance(part, Part) and isinstance(part.task, Task) and part.task.executor is self.far

    def _await(self, job: Job) -> None:
        """Fetch what a near job receives from far ones."""
        sums: list[Task] = []
        nodes = self._received(job, sums)
        self._start(sums)
        leaves, structure = flatten(nodes, is_leaf=lambda node: isinstance(node, Part))
        found = iter(self._fetch([part for part in leaves if self._is_far(part)]))
        here = [Part(next(found), job) if self._is_far(part) else part for part in leaves]
        self.parts[job] = unflatten(structure, here)

    def _fetch(self, parts: list[Part]) -> list[Any]:
        return self.far.fetch(parts) if parts else []

    def _masked(self) -> Cotangents:
        """The pass once more, one job after the other, with the entries that np.where let through."""
        inbox: dict[Job, list[tuple[int, Any, Any]]] = {job: [] for job in self.tapes}
        found: Cotangents = {}
        for job, contributions in self.seeds.items():
            inbox[job] = [(index, g, True) for index, g in contributions]
        with np.errstate(all="ignore"):
            for job in reversed(self.tapes):
                received = inbox.pop(job)
                if not received or job not in self.senders:  # nothing comes of it: its tape can stay away
                    continue
                for slot, (g, mask) in backward_masked(self._tape_here(self.tapes[job]), received).items():
                    if slot[0] in inbox:
                        inbox[slot[0]].append((slot[1], g, mask))
                    else:
                        found[slot] = g if slot not in found else found[slot] + g
        return found

    def _tape_here(self, tape: Tape | Stub) -> Tape:
        if isinstance(tape, Tape):
            return tape
        held: Tape = self.far.tapes(tape)[tape.home]
        return held


# --- what the tasks of the pass do ------------------------------------------------------------------------


class Found(dict[Job, list[Contribution]]):
    """What a job contributes: ``{owner: contributions to its slots}``; not looked into for tasks."""


def sweep_job(
    tape: Tape, seeds: list[Contribution], parts: list[Any], own: bool = False, consume: bool = False
) -> Found:
    """Sweep the tape of a job with the sum of what it receives."""
    contributions = [*seeds, *collected(parts)]
    if not contributions:
        return Found()
    try:
        return Found(route(sweep(tape, contributions, own, consume).items()))
    except Exception as error:
        error.add_note("in the reverse pass")
        raise


def sweep_held(tapes: dict[Home, Tape], home: Home, seeds: list[Contribution], parts: list[Any]) -> Found:
    """The same on the worker that made the tape."""
    return sweep_job(tapes[home], seeds, parts)


def tasks_of(nodes: list[Any]) -> list[Task]:
    """The tasks among what a job receives."""
    found: list[Task] = []
    for node in nodes:
        if isinstance(node, list):
            found.extend(tasks_of(node))
        elif isinstance(node.task, Task):
            found.append(node.task)
    return found


def sum_parts(owner: Job, parts: list[Any]) -> Found:
    """Sum what several jobs contribute to the slots of one."""
    return Found({owner: merge(collected(parts))})


def collected(parts: list[Any]) -> list[Contribution]:
    """All contributions that a job receives, each group of them summed."""
    found: list[Contribution] = []
    for part in parts:
        if isinstance(part, list):
            found.extend(merge(collected(part)))
        else:
            found.extend(part.task.get(part.owner, ()))
    return found
