"""How contributions to cotangents find their way through a derivative graph, in few tasks."""

from __future__ import annotations

from dask._task_spec import TaskRef

from paradual import jobs
from paradual.steps import Merge
from paradual.taskgraph import Key
from paradual.writing import Writer


class Routes:
    """The ways of contributions from the jobs that make them to the jobs that own the slots.

    Jobs (and inputs) with the same consumers, such as the parameters of a model, are a *bundle*: what
    arrives for them is summed together.  A job that contributes to several bundles hands all it has found
    to one of them; the others get what is theirs from a task of their own.  Where there are just two, and
    many jobs contribute to either, a sum had better fetch a few bytes more than wait for such tasks.
    """

    def __init__(self, writer: Writer, consumers: dict[Key, list[Key]]) -> None:
        from dask.array.optimization import GETTERS  # dask.array takes long to import

        self.writer, self.consumers, self.slices = writer, consumers, GETTERS
        numbers: dict[tuple[Key, ...], int] = {}
        self.bundle: dict[Key, int] = {}  # {key: its bundle's number}
        self.bundles: list[list[Key]] = []
        for key, users in consumers.items():
            number = self.bundle[key] = numbers.setdefault(tuple(users), len(numbers))
            if number == len(self.bundles):
                self.bundles.append([])
            self.bundles[number].append(key)
        self.found: dict[int, list[TaskRef]] = {}  # what arrives for a bundle

    def to(self, key: Key) -> list[TaskRef]:
        """What arrives for a job, from few enough tasks."""
        bundle = self.bundle[key]
        if bundle not in self.found:
            parts = [self._part(job, bundle) for job in self.consumers[key]]
            self.found[bundle] = self._sums(key, bundle, parts)
        return self.found[bundle]

    def _part(self, job: Key, bundle: int) -> TaskRef:
        """What a job contributes to a bundle, perhaps with more."""
        whole = TaskRef(self.writer.name("reverse", job))
        others = list(dict.fromkeys(self.bundle[used] for used in self.writer.program.uses[job]))
        if len(others) == 1 or (len(others) == 2 and all(map(self._is_shared, others))):
            return whole
        if bundle == min(others, key=self._distance):
            return whole
        merge = Merge(frozenset(self.bundles[bundle]))
        return self.writer.step(f"part{others.index(bundle)}", job, merge, whole)

    def _is_shared(self, bundle: int) -> bool:
        return len(self.consumers[self.bundles[bundle][0]]) > 1

    def _distance(self, bundle: int) -> tuple[bool, bool, bool]:
        """Whether a bundle is far from the job: a slice of a neighbour, an input, or used by many jobs.

        What is near has its tape on the same worker, probably, and all can be handed to it.
        """
        program, key = self.writer.program, self.bundles[bundle][0]
        is_slice = getattr(program.nodes.get(key), "func", None) in self.slices
        return is_slice, key not in program.uses, self._is_shared(bundle)

    def _sums(self, key: Key, bundle: int, parts: list[TaskRef]) -> list[TaskRef]:
        """Many contributions to the slots of a bundle, summed by a tree of fixed shape."""
        merge = Merge(frozenset(self.bundles[bundle]))
        level = 0
        while len(parts) > jobs.FAN_IN:
            groups = [parts[k : k + jobs.FAN_IN] for k in range(0, len(parts), jobs.FAN_IN)]
            parts = [
                self.writer.step(f"sum{level}-{n}", key, merge, *group) for n, group in enumerate(groups)
            ]
            level += 1
        return parts
