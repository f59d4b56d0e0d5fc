"""Arrays in anonymous files: what a checkpoint schedule keeps on disk.

The file has no name, so nothing is left of it when its process ends, however that ends.
"""

from __future__ import annotations

import os
import pickle
import tempfile
import threading
from typing import Any

from paradual.arrays import is_buffer
from paradual.dual import DUALS, Dual
from paradual.errors import ParadualValueError

SMALL = 1 << 10  # bytes: what is smaller than its description stays in memory


class Spool:
    """An anonymous file; the room of what is no longer wanted is used again."""

    __slots__ = ("end", "file", "folder", "lock", "room")

    def __init__(self, folder: Any) -> None:
        self.folder = folder
        self.file: Any = None
        self.lock = threading.Lock()
        self.end = 0
        self.room: dict[int, list[int]] = {}  # {bytes: where there is room for as many}
        try:
            self.file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115
        except OSError as error:
            raise _refused("be made in", folder, error) from error

    def __del__(self) -> None:
        if self.file is not None:
            self.file.close()

    def write(self, data: bytes) -> int:
        """Where the bytes were written."""
        with self.lock:
            free = self.room.get(len(data))
            place = free.pop() if free else self.end
            self.end = max(self.end, place + len(data))
            rest = memoryview(data)
            try:
                self.file.seek(place)
                while rest:
                    rest = rest[self.file.write(rest) :]
            except OSError as error:
                raise _refused("be written to", self.folder, error) from error
        return place

    def read(self, place: int, size: int) -> bytearray:
        """As many bytes from there."""
        data = bytearray(size)
        rest = memoryview(data)
        with self.lock:
            self.file.seek(place)
            while rest:
                got = self.file.readinto(rest)
                if not got:
                    raise _refused("be read from", self.folder, OSError("the file is too short"))
                rest = rest[got:]
        return data

    def release(self, place: int, size: int) -> None:
        """The bytes there are no longer wanted."""
        with self.lock:
            self.room.setdefault(size, []).append(place)


def _refused(what: str, folder: Any, error: OSError) -> ParadualValueError:
    return ParadualValueError(
        f"the snapshots of a loop cannot {what} {os.fspath(folder or tempfile.gettempdir())!r}: {error}. "
        "Give folder= a directory that exists, may be written to and has room for the snapshots that the "
        "schedule puts on disk, or use a schedule that keeps them in memory"
    )


class Stored:
    """A value on disk.  It travels to another process as itself, in memory."""

    __slots__ = ("place", "size", "spool")

    def __init__(self, value: Any, spool: Spool) -> None:
        data = pickle.dumps(value, 5)
        self.size = 0
        self.spool = spool
        self.place = spool.write(data)
        self.size = len(data)

    def __del__(self) -> None:
        if self.size:
            self.spool.release(self.place, self.size)

    def __reduce__(self) -> Any:
        return pickle.loads, (bytes(self.spool.read(self.place, self.size)),)

    def load(self) -> Any:
        """The value."""
        return pickle.loads(self.spool.read(self.place, self.size))


def put_away(value: Any, spool: Spool) -> Any:
    """A value on disk, if it is an array, with tangents or without; other values as they are.

    What an outer reverse mode records refers to its tape, which stays in memory too.
    """
    return Stored(value, spool) if _fit_for_disk(value) else value


def _fit_for_disk(value: Any) -> bool:
    while value.__class__ in DUALS:
        if isinstance(value.place, int) or _records(value.place):
            return False
        value = value.value
    return is_buffer(value) and value.dtype.kind in "fciub" and value.nbytes >= SMALL


def _records(tangent: Any) -> bool:
    while tangent.__class__ in DUALS:
        if isinstance(tangent.place, int) or _records(tangent.place):
            return True
        tangent = tangent.value
    return False


def fetched(value: Any) -> Any:
    """The value in memory."""
    return value.load() if value.__class__ is Stored else value


def copied(value: Any) -> Any:
    """A value with memory of its own; a dual keeps its slot."""
    if value.__class__ in DUALS:
        place = value.place
        return Dual(copied(value.value), value.home, place if isinstance(place, int) else copied(place))
    return value.copy(order="K") if is_buffer(value) else value


def secured(value: Any) -> Any:
    """A value that does not change when what it was taken from is written to."""
    return value.__copy__() if value.__class__ in DUALS else copied(value)


__all__ = ["Spool", "Stored", "copied", "fetched", "put_away", "secured"]
