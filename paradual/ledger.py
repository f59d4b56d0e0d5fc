"""How many bytes of tapes may be kept: decided task by task, where the tapes are."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from paradual.sizes import tape_bytes
from paradual.tape import Tape
from paradual.workers import this_worker

EXTENSION = "paradual-tapes"  # what a Dask worker knows its account by
IDLE = 64  # differentiations whose limit is remembered, though none of their tapes is alive


class Account:
    """The bytes of the tapes of each differentiation that are alive in one process."""

    def __init__(self) -> None:
        self.used: dict[str, int] = {}
        self.limits: dict[str, int] = {}  # a worker's share of the budget
        self.freed: deque[tuple[str, int]] = deque()  # what died since, for it dies at any moment
        self.lock = threading.Lock()

    def claim(self, token: str, limit: Callable[[], int], tape: Tape, size: int) -> bool:
        """Reserve the bytes of a tape for as long as it lives, if there are so many left."""
        with self.lock:
            while self.freed:
                other, freed = self.freed.popleft()
                self.used[other] -= freed
                if not self.used[other]:
                    del self.used[other], self.limits[other]
            if token not in self.limits:
                if len(self.limits) >= IDLE:  # those that never kept a tape leave nothing behind for long
                    self.limits = {t: n for t, n in self.limits.items() if t in self.used}
                self.limits[token] = limit()
            used = self.used.get(token, 0)
            if used + size > self.limits[token]:
                return False
            self.used[token] = used + size
        weakref.finalize(tape, self.freed.append, (token, size)).atexit = False
        return True


@dataclass(frozen=True, slots=True)
class Ledger:
    """The budget of a derivative graph, which its workers share equally.

    A tape that is written to disk counts no more, and is not counted when it comes back.
    """

    token: str
    budget: int
    here: Account = field(default_factory=Account, compare=False)  # of a process that is no Dask worker

    def __reduce__(self) -> tuple[Any, ...]:
        return Ledger, (self.token, self.budget)

    def keeps(self, tape: Tape) -> bool:
        """Whether a tape that was just recorded may be kept."""
        size, worker = tape_bytes(tape), this_worker()
        if size == 0 or self.budget == 0:
            return size == 0
        if worker is None:
            return self.here.claim(self.token, lambda: self.budget, tape, size)
        account = worker.extensions.setdefault(EXTENSION, Account())
        share = partial(_share, self.budget, worker)
        return bool(account.claim(self.token, share, tape, size))


def _share(budget: int, worker: Any) -> int:
    """A worker's share, among those that the cluster has now."""
    from distributed.utils import sync

    return budget // max(1, len(sync(worker.loop, worker.scheduler.ncores)))
