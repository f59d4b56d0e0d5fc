"""Where the tasks of the reverse pass run: a plugin of the Dask scheduler."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from distributed import SchedulerPlugin
from distributed.protocol.pickle import dumps

from paradual.jobs import with_name

BESIDE = "paradual-beside-tape"


def follow_tapes(worker: Any) -> None:
    """See to it that the scheduler of a worker has the plugin: once for each worker."""
    if BESIDE not in worker.extensions:
        worker.extensions[BESIDE] = True
        worker.loop.add_callback(_register, worker)


async def _register(worker: Any) -> None:
    with suppress(ValueError):  # a scheduler that takes no plugins places by the size of the tapes
        await worker.scheduler.register_scheduler_plugin(
            plugin=dumps(BesideTape()), name=BESIDE, idempotent=True
        )


def tape_of(key: Any) -> Any:
    """The key of the tape that a task of a derivative graph sweeps, by the names that `graphs` gives."""
    name = key[0] if isinstance(key, tuple) and key else key
    if not isinstance(name, str) or not name.startswith("reverse-"):
        return None
    return with_name(key, lambda name: "forward-" + name.removeprefix("reverse-"))


class BesideTape(SchedulerPlugin):
    """Runs the tasks of the reverse pass on the workers that hold their tapes.

    These are tasks with the annotation ``beside=key``, and those of derivative graphs by their names (Dask
    drops annotations when it optimises the graph of an array).

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
        """Remember the scheduler, and place the tasks that it has already."""
        self.scheduler = scheduler
        self._follow_by_name(list(scheduler.tasks))

    def update_graph(
        self, scheduler: Any, *, tasks: list[Any], annotations: dict[str, Any], **rest: Any
    ) -> None:
        """Place new tasks beside the tapes that are there already."""
        for key, tape in annotations.get("beside", {}).items():
            if tape is not None:
                self._follow(key, tape)
        self._follow_by_name(tasks)

    def _follow_by_name(self, keys: list[Any]) -> None:
        known = self.scheduler.tasks
        for key in keys:
            tape = tape_of(key)
            if tape in known and key in known and known[tape] in known[key].dependencies:
                self._follow(key, tape)

    def _follow(self, key: Any, tape: Any) -> None:
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
