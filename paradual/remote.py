"""What the workers of a Dask cluster run for the tasks that are sent to them."""

from __future__ import annotations

from contextvars import copy_context
from typing import Any

import numpy as np
from distributed import get_worker

from paradual.crossing import crated
from paradual.forks import EXECUTOR, HOST, Part, noted, perform, tasks_in
from paradual.parcels import Parcel, loads
from paradual.sizes import register, size_of
from paradual.tape import OUTSIDE, Home, Job, Stub, Tape, history, imports


def run_task(payload: tuple[Any, ...], blobs: list[Any], needs: list[Any]) -> Any:
    """Run a task: a parcel with its value; if it records, that and a parcel with its tapes."""
    register()  # this process is asked for the sizes of what it holds
    function, arguments, homes, name, label, errors, resources = payload
    arrays = [loads(blob) if isinstance(blob, bytes) else blob.value for blob in blobs]

    def found(place: tuple[Any, ...]) -> Any:
        kind, k, *owner = place
        if kind == "array":
            return arrays[k]
        content = _content(needs[k])
        if kind == "part":
            return Part(content if isinstance(content, dict) else {owner[0]: content}, owner[0])
        return content

    host = copy_context()

    def body() -> Any:
        HOST.set(host)
        tapes = (OUTSIDE, *(Tape(home, [] if recorded else None) for home, recorded in homes))
        fn = loads(function, found)
        args, kwargs, executor = loads(arguments, found)
        # what the worker was asked for is taken: the tasks that this one forks would wait for it
        EXECUTOR.set(executor.near if resources else executor)
        with np.errstate(**errors):
            done = perform(tapes, fn, args, kwargs)
        executor.settle(tasks_in(done[0]))
        return done

    try:
        value, ends, seconds = host.copy().run(body)
    except Exception as error:
        raise noted(error, name) from error.__cause__
    worker = get_worker().address
    if not any(recorded for _, recorded in homes):
        return Parcel(value, (), seconds, worker)
    store: dict[Home, Tape] = {}
    stubs = tuple(_stub(end, store, label, worker, resources) for end in ends if _records(end))
    return crated((Parcel(value, stubs, seconds, worker), Parcel(store)))


def _content(result: Any) -> Any:
    """What the result of a Dask task is for the task that depends on it."""
    if type(result) is Parcel:
        return result.value
    if isinstance(result, tuple) and len(result) == 2 and type(result[1]) is Parcel:
        return result[1].value  # the tapes of a task
    return result


def _records(end: Any) -> bool:
    return isinstance(end, Stub) or (end is not OUTSIDE and end.records is not None)


def _stub(last: Any, store: dict[Home, Tape], label: str, worker: str, resources: Any) -> Stub:
    """What the rest of the program will know of a task's tapes, which stay here."""
    stubs: dict[int, Stub] = {}
    for tape in history(last):
        if isinstance(tape, Tape):
            store[tape.home] = alone = tape.without_past()
            past = tuple(stubs[id(before)] for before in tape.past)
            stubs[id(tape)] = Stub(
                tape.home, imports(tape), tape.masks, past, size_of(alone), tape.seconds, tape.started,
                label, worker, resources,
            )  # fmt: skip
        else:
            stubs[id(tape)] = tape
    return stubs[id(last)]


def first(result: tuple[Parcel, Parcel]) -> Parcel:
    """The value of a task, without its tapes."""
    return result[0]


def pick(parcel: Parcel, owner: Job | None) -> Parcel:
    """What a task of the reverse pass found for one job; for None only its tapes."""
    value = None if owner is None else parcel.value.get(owner, [])
    return Parcel(value, parcel.ends, parcel.seconds, parcel.worker)


def put_together(pieces: list[bytes]) -> Parcel:
    """An array that was sent in pieces.  Several tasks see it, so none may write to it."""
    array = loads(b"".join(pieces))
    array.flags.writeable = False
    return Parcel(array)


def want(keys: list[Any], client: str, dask_scheduler: Any = None) -> list[Any]:
    """On the scheduler: keep keys for a client; return those that it does not know."""
    known = [key for key in keys if key in dask_scheduler.tasks]
    dask_scheduler.client_desires_keys(known, client)
    return [key for key in keys if key not in dask_scheduler.tasks]
