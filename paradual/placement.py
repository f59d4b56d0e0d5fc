"""Where the tasks of the reverse pass run: a plugin of the Dask scheduler."""

from __future__ import annotations

from typing import Any

from distributed import SchedulerPlugin

BESIDE = "paradual-beside-tape"


class BesideTape(SchedulerPlugin):
    """Runs a task with the annotation ``beside=key`` on the worker that holds that key, wherever it is.

    Dask would do so most of the time, because a tape is large; but it moves tasks, and what they depend
    on, to workers that have nothing to do.  If the worker is lost, the key is computed again somewhere, and
    the task follows it there.
    """

    name = BESIDE
    idempotent = True

    def __init__(self) -> None:
        self.followers: dict[Any, set[Any]] = {}  # {key of a tape: keys of the tasks beside it}
        self.scheduler: Any = None

    async def start(self, scheduler: Any) -> None:
        """Remember the scheduler."""
        self.scheduler = scheduler

    def update_graph(self, scheduler: Any, *, annotations: dict[str, Any], **rest: Any) -> None:
        """Place new tasks beside the tapes that are there already."""
        for key, tape in annotations.get("beside", {}).items():
            if tape is not None:
                self.followers.setdefault(tape, set()).add(key)
                self._place(key, tape)

    def transition(self, key: Any, start: str, finish: str, *args: Any, **rest: Any) -> None:
        """Follow a tape that has just been made, perhaps anew; forget one that nobody needs any more."""
        if key in self.followers:
            if finish == "memory":
                for follower in self.followers[key]:
                    self._place(follower, key)
            elif finish == "forgotten":
                del self.followers[key]

    def remove_worker(self, scheduler: Any, worker: str, *, stimulus_id: str, **rest: Any) -> None:
        """Let tasks go elsewhere that could run only on a worker that is gone."""
        free = {}
        for followers in self.followers.values():
            for key in followers:
                task = scheduler.tasks.get(key)
                if task is not None and worker in (task.worker_restrictions or ()):
                    task.worker_restrictions = task.worker_restrictions - {worker} or None
                    if task.state == "no-worker":
                        free[key] = "processing"
        scheduler.transitions(free, stimulus_id)

    def _place(self, key: Any, tape: Any) -> None:
        task, held = self.scheduler.tasks.get(key), self.scheduler.tasks.get(tape)
        if task is not None and held is not None and held.who_has:
            task.worker_restrictions = {worker.address for worker in held.who_has}
