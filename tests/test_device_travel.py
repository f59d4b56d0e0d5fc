"""Device arrays in duals, tapes and parcels: how large they are for Dask, and how they travel."""

import pickle
import sys
from types import ModuleType

import fake_cupy
import numpy as np
import pytest
from dask.sizeof import sizeof
from dask.utils import Dispatch
from distributed.protocol import deserialize, serialize
from fake_device import device
from helpers import nothing_is_left_behind  # noqa: F401

import paradual as pdl
from paradual import crossing, sizes
from paradual.dual import Dual
from paradual.parcels import Parcel, dumps, loads
from paradual.steps import Swept
from paradual.tape import Tape, history

X = np.linspace(0.0, 1.0, 1000)
BETWEEN_DEVICES = ("cuda", "dask", "pickle")  # what Dask asks on UCX
ELSEWHERE = ("dask", "pickle")


@pytest.fixture
def counts():
    with device() as found:
        import cupy  # noqa: F401

        sizes.register()
        crossing.register()
        yield found


def there(x):
    import cupy

    return cupy.asarray(x)


def program(x):
    return np.sum(np.sin(x) * np.exp(x)) + x[3] * np.max(x[:500])


def tape_of(x):
    return pdl.vjp(program, x)[1].last


def test_the_size_of_a_tape_counts_the_bytes_on_a_device(counts):
    y = there(X)
    assert sizes.tape_bytes(tape_of(y)) == pytest.approx(sizes.tape_bytes(tape_of(X)), rel=0.02)
    assert sizes.tape_bytes(tape_of(y)) > 3 * X.nbytes
    assert sizeof(tape_of(y)) == sizes.tape_bytes(tape_of(y))
    home = ("d", (0,))
    assert sizeof(Dual(y, home, 3)) == 64 + X.nbytes
    assert sizeof(Dual(y, home, y)) == 64 + 2 * X.nbytes
    assert sizeof(Parcel({"a": y, "b": y[:10]})) == 64 + X.nbytes + 80
    assert sizeof(Swept(("s", 0), {("s", 1): y})) > X.nbytes
    assert sizeof(crossing.Crate((y, y))) >= 2 * X.nbytes
    assert not {"to_host", "synchronize"} & set(+counts)


def arrays_in(value):
    if isinstance(value, Tape):
        return sizes.arrays_on(value)
    if isinstance(value, Parcel):
        return arrays_in(value.value)
    if isinstance(value, Dual):
        return [value.value]
    if isinstance(value, dict):
        return arrays_in(list(value.values()))
    return [a for part in value for a in arrays_in(part)] if isinstance(value, tuple | list) else [value]


CARGO = {
    "dual": lambda y: Dual(y, ("d", (0,)), 3),
    "tape": tape_of,
    "parcel": lambda y: Parcel({"a": y, "b": [Dual(y[::2], ("d", (0,)), 1)]}, (), 0.5, "tcp://w"),
    "value-and-tape": lambda y: crossing.crated((Dual(y, ("d", (0,)), 3), tape_of(y))),
    "contributions": lambda y: crossing.crated([((("k", 0), 3), y), ((("k", 0), 4), y.reshape(10, 100).T)]),
}


@pytest.mark.parametrize("families", [BETWEEN_DEVICES, ELSEWHERE], ids=["between-devices", "elsewhere"])
@pytest.mark.parametrize("name", CARGO)
def test_device_arrays_travel_by_dasks_own_serialisers(name, families, counts):
    value = CARGO[name](there(X))
    counts.clear()
    header, frames = serialize(value, serializers=families, on_error="raise")
    if families is BETWEEN_DEVICES:
        assert header["serializer"] == "cuda"
        assert counts["peer"] >= 1
        assert not counts["to_host"]
    else:
        assert counts["to_host"] >= 1
        assert not counts["peer"]
    again = deserialize(header, frames, deserializers=families)
    assert type(again) is type(value)
    sent, got = (arrays_in(v) for v in (value, again))
    assert len(sent) == len(got) > 0
    for a, b in zip(sent, got, strict=True):
        if isinstance(a, fake_cupy.ndarray):
            assert isinstance(b, fake_cupy.ndarray)
            np.testing.assert_array_equal(a._array, b._array)
            assert (a.dtype, a.device) == (b.dtype, b.device)


def test_a_tape_that_has_travelled_gives_the_same_gradient(counts):
    y = there(X)
    _, pullback = pdl.vjp(program, y)
    expected = pullback(1.0)[0]
    last = pullback.last
    again = deserialize(*serialize(last, serializers=BETWEEN_DEVICES), deserializers=BETWEEN_DEVICES)
    assert [t.home for t in history(again)] == [t.home for t in history(last)]
    moved = type(pullback)(
        again, *(getattr(pullback, name) for name in pullback.__dataclass_fields__ if name != "last")
    )
    np.testing.assert_array_equal(moved(1.0)[0].get(), expected.get())
    for copy in (pickle.loads(pickle.dumps(pullback)), loads(dumps(pullback))):
        np.testing.assert_array_equal(copy(1.0)[0].get(), expected.get())


def test_what_has_nothing_on_a_device_travels_as_before(counts):
    for value in (Dual(X, ("d", (0,)), 3), tape_of(X), Parcel(X), crossing.crated((X, tape_of(X)))):
        header, _ = serialize(value, serializers=BETWEEN_DEVICES, on_error="raise")
        assert header["serializer"] == "pickle"
    assert not counts["peer"]


@pytest.fixture
def asked(counts, monkeypatch):
    """What dask-cuda asks of all that a worker keeps, with the answers that it has itself."""
    question = Dispatch("is_device_object")
    question.register(object, lambda x: hasattr(x, "__cuda_array_interface__"))
    question.register((list, tuple), lambda parts: any(map(question, parts)))
    module = ModuleType("dask_cuda.is_device_object")
    module.is_device_object = question
    monkeypatch.setitem(sys.modules, "dask_cuda.is_device_object", module)
    crossing.register.__wrapped__()
    return question


def test_what_dask_cuda_spills_from_a_device(asked):
    home = ("d", (0,))
    for lies_there, x in ((True, there(X)), (False, X)):
        tape = tape_of(x)
        values = [tape, Dual(x, home, 1), Dual(Dual(x, home, 1), ("e", (0,)), 2), Parcel({"a": (1, x)})]
        values += [Parcel([tape, None]), Parcel(Dual(x, home, 1)), crossing.Crate((1.0, tape))]
        values += [pdl.vjp(lambda x: pdl.loop(lambda i, s: np.sin(s), x, 9), x)[1].last]
        assert [asked(value) for value in values] == [lies_there] * len(values)
    assert not asked(Tape(home, []))


def test_without_cupy_nothing_is_wrapped():
    assert type(crossing.crated((1, 2))) is tuple
    assert type(crossing.crated([1])) is list
