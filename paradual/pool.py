"""Executors of this process: on the calling thread, and on a pool of threads."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from queue import Empty, SimpleQueue

from paradual.forks import Task

MOMENT = 0.0003  # seconds that the threads have to begin a task
SIZE = max(os.cpu_count() or 1, 2)
_LOCK = threading.Lock()  # over the few words that say how far a task is


class Inline:
    """Tasks run one after the other on the calling thread."""

    @property
    def near(self) -> Inline:
        """Itself."""
        return self

    def start(self, tasks: Sequence[Task]) -> None:
        """Run tasks, up to the first that fails."""
        for task in tasks:
            task.executor = self
            task.run()
            if task.error is not None:
                break

    def wait(self, tasks: Sequence[Task]) -> None:
        """Raise what a task has raised."""
        for task in tasks:
            if task.error is not None:
                raise task.error

    def cancel(self, tasks: Sequence[Task]) -> None:
        """Nothing: what has not begun does not begin."""


class _Progress:
    """How far a task on threads is."""

    __slots__ = ("claimed", "followers", "missing", "watchers")

    def __init__(self) -> None:
        self.claimed = False
        self.missing = 0  # how many of the tasks that it needs have not ended
        self.followers: list[Task] = []  # the tasks that need it
        self.watchers: list[SimpleQueue[Task]] = []  # told when it may begin, and when it has ended


class Threads:
    """Tasks run on a pool of threads, one for each core.

    Who waits for tasks helps with those that no thread has begun, so that a pool never starves, however
    deep tasks wait for tasks.  He leaves the threads a moment to begin them, for busy with one task he
    would not hear that another one has failed.
    """

    @property
    def near(self) -> Threads:
        """Itself."""
        return self

    def start(self, tasks: Sequence[Task]) -> None:
        """Hand tasks to the pool, each as soon as those that it needs have ended."""
        pool = _pool(os.getpid())
        for task in tasks:
            task.executor = self
            progress = task.handle = _Progress()
            if task.needs:
                with _LOCK:
                    for need in task.needs:
                        if isinstance(need.handle, _Progress) and not need.done:
                            need.handle.followers.append(task)
                            progress.missing += 1
            if not progress.missing:
                pool.submit(_attempt, task)

    def wait(self, tasks: Sequence[Task]) -> None:
        """Wait for tasks, and run those that no thread has begun."""
        if len(tasks) == 1 and not tasks[0].needs and not tasks[0].done:
            _attempt(tasks[0])  # the common case, without a queue
        if all(task.done for task in tasks):
            for task in tasks:
                if task.error is not None:
                    raise task.error
            return
        queue: SimpleQueue[Task] = SimpleQueue()
        pending = _unfinished(tasks)
        open_: set[int] = set()
        with _LOCK:
            for task in pending:
                if not task.done:
                    open_.add(id(task))
                    task.handle.watchers.append(queue)
        for task in tasks:
            if task.done and task.error is not None:
                raise task.error
        unclaimed = deque(pending)
        while open_:
            try:
                task = queue.get(timeout=MOMENT if unclaimed else None)
            except Empty:
                self._help(unclaimed)
                continue
            if not task.done:
                unclaimed.append(task)
                continue
            open_.discard(id(task))
            if task.error is not None:
                raise task.error

    def _help(self, unclaimed: deque[Task]) -> None:
        while unclaimed:
            task = unclaimed.popleft()
            if not task.handle.claimed and not task.handle.missing:  # else it comes by once more
                _attempt(task)
                return

    def cancel(self, tasks: Sequence[Task]) -> None:
        """Drop what has not begun; what runs ends at its next fork."""
        for task in tasks:
            task.cancelled = True
            if task.handle is not None:
                _attempt(task)  # ends it at once, unless a thread runs it


@cache
def _pool(pid: int) -> ThreadPoolExecutor:
    # For each process its own: threads do not survive a fork of the process.
    del pid
    return ThreadPoolExecutor(SIZE, thread_name_prefix="paradual")


def _unfinished(tasks: Sequence[Task]) -> list[Task]:
    """Tasks that have not ended, with those that they need, the needed ones first."""
    found: dict[int, Task] = {}
    stack = [(task, False) for task in reversed(tasks)]
    while stack:
        task, ready = stack.pop()
        if ready:
            found.setdefault(id(task), task)
        elif not task.done and id(task) not in found and isinstance(task.handle, _Progress):
            stack.append((task, True))
            stack.extend((need, False) for need in reversed(task.needs))
    return list(found.values())


def _attempt(task: Task) -> None:
    """Run a task unless a thread has begun it; then let those begin that needed it."""
    progress = task.handle
    with _LOCK:
        if progress.claimed:
            return
        progress.claimed = True
    task.run()
    ready = []
    with _LOCK:
        watchers, progress.watchers = progress.watchers, []
        for follower in progress.followers:
            follower.handle.missing -= 1
            if not follower.handle.missing:
                ready.append((follower, list(follower.handle.watchers)))
        progress.followers = []
    for follower, others in ready:
        _pool(os.getpid()).submit(_attempt, follower)
        for queue in others:
            queue.put(follower)
    for queue in watchers:
        queue.put(task)
