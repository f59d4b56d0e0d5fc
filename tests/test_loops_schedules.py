"""Loops under the schedules of checkpoint_schedules: in memory and on disk; what they cost, what fails."""

import contextlib
import functools
import gc
import io
import os
import pickle
import resource
import signal
import subprocess
import sys
import threading
import tracemalloc
import warnings
from math import comb

import cloudpickle
import numpy as np
import pytest

import paradual as pdl
from paradual.errors import ParadualImportError, ParadualTypeError, ParadualValueError
from paradual.schedules import rows_of, uses_disk
from paradual.tape import ACTIVE, OUTSIDE

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # that numba is not installed
    cs = pytest.importorskip("checkpoint_schedules")

pytestmark = pytest.mark.filterwarnings("ignore:Numba not available")

N = 8
X = np.linspace(0.1, 0.9, 200)  # large enough to go to disk
RAM, DISK = cs.StorageType.RAM, cs.StorageType.DISK
SCHEDULES = {
    "default": lambda n: None,
    "Revolve": lambda n: cs.Revolve(n, 3),
    "one snapshot": lambda n: cs.Revolve(n, 1),
    "Multistage": lambda n: cs.MultistageCheckpointSchedule(n, 1, 2),
    "Multistage, disk": lambda n: cs.MultistageCheckpointSchedule(n, 0, 2),
    "Multistage, revolve": lambda n: cs.MultistageCheckpointSchedule(n, 3, 0, trajectory="revolve"),
    "Mixed, memory": lambda n: cs.MixedCheckpointSchedule(n, 3, storage=RAM),
    "Mixed, disk": lambda n: cs.MixedCheckpointSchedule(n, 3, storage=DISK),
    "DiskRevolve": lambda n: cs.DiskRevolve(n, 2, wd=0.1, rd=0.1),
    "PeriodicDiskRevolve": lambda n: cs.PeriodicDiskRevolve(n, 2, wd=0.1, rd=0.1),
    "HRevolve": lambda n: cs.HRevolve(n, 1, 2, wd=0.1, rd=0.1),
    "SingleMemory": lambda n: cs.SingleMemoryStorageSchedule(),
    "SingleDisk": lambda n: cs.SingleDiskStorageSchedule(),
    "SingleDisk, moved": lambda n: cs.SingleDiskStorageSchedule(move_data=True),
    "TwoLevel": lambda n: cs.TwoLevelCheckpointSchedule(3, 2),
    "TwoLevel, memory": lambda n: cs.TwoLevelCheckpointSchedule(3, 1, binomial_storage=RAM),
}


def made(name, n=N):
    with contextlib.redirect_stdout(io.StringIO()):  # one of them prints
        return SCHEDULES[name](n)


@pytest.fixture(autouse=True)
def nothing_is_left_behind(tmp_path):
    files = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    yield
    assert ACTIVE.get() == (OUTSIDE,)
    gc.collect()
    assert list(tmp_path.iterdir()) == []
    assert not files or len(os.listdir("/proc/self/fd")) <= files


def program(loop, n=N):
    def f(x):
        c = np.exp(-x)

        def step(i, state):
            u, v, k = state
            v = v + 0.1 * np.sin(u) * c + 0.01 * x[i]
            if k == 2:
                v[3:] *= 0.5
            return u + 0.1 * v, v, k + 1

        (u, v, k), seen = loop(step, (x * x, np.zeros_like(x), 0), n, lambda i, s: s[0][:4] * s[1][1:5])
        return (u * v).sum() + sum((row * row).sum() for row in seen) * k

    return f


def plain(step, state, n, observe):
    seen = []
    for i in range(n):
        state = step(i, state)
        seen.append(observe(i, state))
    return state, seen


def scheduled(name, folder, n=N):
    return program(
        lambda step, state, n, observe: pdl.loop(
            step, state, n, made(name, n), observe=observe, folder=folder
        ),
        n,
    )


EXPECTED = pdl.grad(program(plain))(X)
SECOND = pdl.hvp(program(plain), X, X)


@pytest.mark.parametrize("name", SCHEDULES)
def test_gradients(name, tmp_path):
    f = scheduled(name, tmp_path)
    np.testing.assert_allclose(pdl.grad(f)(X), EXPECTED, rtol=1e-12)
    np.testing.assert_allclose(pdl.hvp(f, X, X), SECOND, rtol=1e-11)
    np.testing.assert_allclose(pdl.grad(lambda x: (pdl.grad(f)(x) * X).sum())(X), SECOND, rtol=1e-11)
    np.testing.assert_allclose(pdl.jvp(f, (X,), (X,))[1], EXPECTED @ X, rtol=1e-12)
    _, pullback = pdl.vjp(f, X)
    there = pickle.loads(cloudpickle.dumps(pullback))
    for call in (pullback, pullback, there, there):
        np.testing.assert_allclose(call(1.0)[0], EXPECTED, rtol=1e-12)


# HRevolve cannot be made for one step
@pytest.mark.parametrize(
    ("name", "n"), [(k, n) for k in SCHEDULES for n in (1, 2, 3) if k[0] != "H" or n > 1]
)
def test_short_loops(name, n, tmp_path):
    slope = pdl.grad(scheduled(name, tmp_path, n))(X)
    np.testing.assert_allclose(slope, pdl.grad(program(plain, n))(X), rtol=1e-12)


@pytest.mark.parametrize("name", ["Multistage", "Mixed, disk", "SingleMemory", "SingleDisk"])
def test_steps_with_tasks_and_masks(name, tmp_path):
    def f(wrap):
        def g(x):
            def step(i, s):
                a, b = pdl.par(lambda: np.sin(s * x), lambda: np.where(s > 0.3, np.sqrt(np.abs(s)), 0.1))
                return a + b * x

            return wrap(step, x).sum()

        return g

    def by_hand(step, s):
        for i in range(N):
            s = step(i, s)
        return s

    slope = pdl.grad(f(lambda step, s: pdl.loop(step, s, N, made(name), folder=tmp_path)))(X)
    np.testing.assert_allclose(slope, pdl.grad(f(by_hand))(X), rtol=1e-12)


def test_the_threads_of_a_pullback_share_its_snapshots(tmp_path):
    _, pullback = pdl.vjp(scheduled("Multistage", tmp_path), X)
    found = [None] * 4

    def call(k):
        found[k] = pullback(1.0)[0]

    threads = [threading.Thread(target=call, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for slope in found:
        np.testing.assert_array_equal(slope, found[0])


# --- what schedules cost ---------------------------------------------------------------------------------


@functools.cache
def fewest_steps(n, snapshots):
    """The best number of steps run, found by trying every first stretch; the last is reversed at once."""
    if n == 1:
        return 1
    if snapshots == 1:
        return n * (n + 1) // 2
    return min(k + fewest_steps(n - k, snapshots - 1) + fewest_steps(k, snapshots) for k in range(1, n))


@pytest.mark.parametrize(("n", "snapshots"), [(1, 1), (7, 2), (20, 3), (40, 4), (31, 1), (60, 8)])
def test_revolve_runs_as_many_steps_as_its_theory_says(n, snapshots):
    calls = []

    def step(i, s):
        calls.append(i)
        return np.sin(s)

    for schedule in (cs.Revolve(n, snapshots), cs.MultistageCheckpointSchedule(n, max(snapshots, 1), 0)):
        calls.clear()
        pdl.grad(lambda x, schedule=schedule: pdl.loop(step, x, n, schedule))(0.5)
        assert len(calls) == fewest_steps(n, snapshots)
        if n > 1:  # Griewank and Walther (ACM TOMS 26, 2000), proposition 1
            t = next(t for t in range(n) if comb(snapshots + t, t) >= n)
            assert len(calls) == n + t * n - comb(snapshots + t, t - 1)


def test_a_schedule_that_keeps_everything_runs_each_step_once():
    calls = []

    def step(i, s):
        calls.append(i)
        return np.sin(s)

    for schedule in (cs.SingleMemoryStorageSchedule(), cs.SingleDiskStorageSchedule()):
        calls.clear()
        _, pullback = pdl.vjp(lambda x, schedule=schedule: pdl.loop(step, x, 8, schedule), X)
        pullback(X)
        pullback(X)
        assert calls == [*range(8)]


def peak(f, x):
    gc.collect()
    tracemalloc.start()
    try:
        slope = f(x)
        return tracemalloc.get_traced_memory()[1] / x.nbytes, slope
    finally:
        tracemalloc.stop()


def test_memory(tmp_path):
    x = np.linspace(0.1, 0.9, 5_000)

    def f(schedule):
        return pdl.grad(
            lambda x: pdl.loop(lambda i, u: np.tanh(u * 1.01 + x), x, 30, schedule, folder=tmp_path).sum()
        )

    expected = peak(f(cs.SingleMemoryStorageSchedule()), x)
    assert expected[0] > 30
    for schedule, states in (
        (cs.MultistageCheckpointSchedule(30, 6, 0), 6),
        (cs.MultistageCheckpointSchedule(30, 3, 3), 3),
        (cs.MultistageCheckpointSchedule(30, 0, 6), 0),
        (cs.SingleDiskStorageSchedule(), 0),
    ):
        some, slope = peak(f(schedule), x)
        np.testing.assert_allclose(slope, expected[1], rtol=1e-12)
        assert some < states + 14


def test_room_on_disk_is_used_again(tmp_path):
    sizes = []

    def step(i, u):
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                if str(tmp_path) in os.readlink(f"/proc/self/fd/{name}"):
                    sizes.append(os.stat(f"/proc/self/fd/{name}").st_size)
        return np.sin(u)

    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("needs /proc")
    schedule = cs.MultistageCheckpointSchedule(60, 0, 3)
    pdl.grad(lambda x: pdl.loop(step, x, 60, schedule, folder=tmp_path).sum())(X)
    assert 0 < max(sizes) < 4 * (X.nbytes + 500)


# --- what is refused -------------------------------------------------------------------------------------


def test_schedules_that_do_not_fit():
    f = lambda schedule, n=5: pdl.loop(lambda i, s: s * 2.0, X, n, schedule)  # noqa: E731
    with pytest.raises(ParadualValueError, match="is for 7 steps, but the loop has 5"):
        f(cs.Revolve(7, 2))
    used = cs.Revolve(5, 2)
    next(iter(used))
    with pytest.raises(ParadualValueError, match="was iterated over before"):
        f(used)
    for wrong in ("revolve", 20, cs.Revolve, []):
        with pytest.raises(ParadualTypeError, match="None or one of checkpoint_schedules"):
            f(wrong)
    _, pullback = pdl.vjp(lambda x: pdl.loop(lambda i, s: s * x, x, 5, cs.NoneCheckpointSchedule()), X)
    with pytest.raises(ParadualValueError, match="keeps nothing"):
        pullback(X)
    np.testing.assert_array_equal(f(cs.NoneCheckpointSchedule()), X * 32)


def test_a_schedule_serves_many_gradients():
    schedule = cs.Revolve(5, 2)
    gradient = pdl.grad(lambda x: pdl.loop(lambda i, s: s * x, x, 5, schedule).sum())
    for _ in range(2):
        np.testing.assert_allclose(gradient(X), 6 * X**5, rtol=1e-13)
    pdl.testing.check_grads(lambda x: pdl.loop(lambda i, s: s * x, x, 5, schedule).sum(), (X,))


def test_the_package_is_missing(monkeypatch):
    schedule = cs.Revolve(5, 2)
    monkeypatch.setitem(sys.modules, "checkpoint_schedules", None)
    with pytest.raises(ParadualImportError, match=r'pip install "paradual\[schedules\]"'):
        pdl.loop(lambda i, s: s, X, 5, schedule)
    assert pdl.grad(lambda x: pdl.loop(lambda i, s: s * x, x, 5).sum())(X).shape == X.shape


def folders(tmp_path):
    yield tmp_path / "missing"
    file = tmp_path / "file"
    file.write_text("")
    yield file
    file.unlink()
    if os.path.isdir("/proc/self") and os.geteuid() == 0:
        yield "/proc"  # where even root cannot make a file
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    if os.geteuid() != 0:
        yield str(closed)
    closed.rmdir()


def test_folders_that_cannot_be_used(tmp_path):
    calls = []

    def f(x, folder, schedule):
        return pdl.loop(lambda i, s: calls.append(i) or s * x, x, 5, schedule, folder=folder).sum()

    for folder in folders(tmp_path):
        with pytest.raises(ParadualValueError, match=r"cannot be made in .*Give folder=") as caught:
            pdl.grad(f)(X, folder, cs.MultistageCheckpointSchedule(5, 0, 2))
        assert str(folder) in str(caught.value)
        assert isinstance(caught.value.__cause__, OSError)
        assert calls == []  # before the first step
        pdl.grad(f)(X, folder, cs.MultistageCheckpointSchedule(5, 2, 0))
        calls.clear()


@pytest.mark.parametrize("room", [1000, 4500])
def test_a_full_disk(room, tmp_path):
    """In the forward pass, and in the reverse pass of what had room in the forward pass."""
    schedule = (
        cs.MultistageCheckpointSchedule(30, 0, 3) if room < 4500 else cs.TwoLevelCheckpointSchedule(15, 2)
    )
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def f(x):
        return pdl.loop(lambda i, s: s * x, x, 30, schedule, folder=tmp_path).sum()

    pullback = None if room < 4500 else pdl.vjp(f, X)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(ParadualValueError, match=r"cannot be written to .*File too large.*has room"):
            pdl.grad(f)(X) if pullback is None else pullback(1.0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_nothing_is_left_of_a_process_that_is_killed(tmp_path):
    code = """
import os, sys, warnings
warnings.simplefilter("ignore")
import numpy as np, paradual as pdl
from checkpoint_schedules import MultistageCheckpointSchedule
def step(i, s):
    if i == 3:
        print("here", flush=True)
        sys.stdin.read()
    return s * 1.5
schedule = MultistageCheckpointSchedule(9, 0, 8)
pdl.grad(lambda x: pdl.loop(step, x, 9, schedule, folder=sys.argv[1]).sum())(np.ones(9000))
"""
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "here\n"
        process.send_signal(signal.SIGKILL)
        process.wait(60)
    assert list(tmp_path.iterdir()) == []


def test_a_schedule_as_rows():
    assert uses_disk(rows_of(cs.MultistageCheckpointSchedule(9, 0, 2), 9)[0])
    assert not any(map(uses_disk, rows_of(cs.MultistageCheckpointSchedule(9, 2, 0), 9)))
    forward, reverse = rows_of(None, 10_000)
    assert len(forward) == 100
    assert len(reverse) == 300
    assert max(len(row) for row in rows_of(None, 1)) == 3


def test_an_action_of_another_kind():
    class Strange(cs.CheckpointSchedule):
        def _iterator(self):
            yield cs.Forward(0, 2, False, False, RAM)
            yield object()

        def uses_storage_type(self, storage_type):
            return False

        is_exhausted = False

    with pytest.raises(ParadualTypeError, match="asks for object"):
        pdl.grad(lambda x: pdl.loop(lambda i, s: s * x, x, 2, Strange(2)))(2.0)


@pytest.mark.parametrize(
    ("actions", "match"),
    [
        ([cs.Forward(0, 1, True, False, RAM), cs.EndForward()], "ends after 1 of 2"),
        (
            [cs.Forward(1, 2, True, False, RAM), cs.EndForward()],
            "runs step 1, but the state at hand is that of 0",
        ),
        (
            [cs.Forward(0, 2, True, False, RAM), cs.EndForward(), cs.Copy(1, RAM, cs.StorageType.WORK)],
            "asks for step 1",
        ),
        (
            [cs.Forward(0, 2, True, False, RAM), cs.EndForward(), cs.Reverse(2, 1, True)],
            "reverses step 1, of which",
        ),
        (
            [cs.Forward(0, 2, False, True, cs.StorageType.WORK), cs.EndForward(), cs.Reverse(1, 0, True)],
            "where 2 are left",
        ),
        (
            [cs.Forward(0, 2, False, True, cs.StorageType.WORK), cs.EndForward(), cs.Reverse(2, 1, True)],
            "leaves 1 of 2",
        ),
    ],
)
def test_a_schedule_that_does_not_lead_through(actions, match):
    """It would be a wrong gradient."""

    class Wrong(cs.CheckpointSchedule):
        def _iterator(self):
            yield from actions

        def uses_storage_type(self, storage_type):
            return False

        is_exhausted = False

    with pytest.raises(ParadualValueError, match=match):
        pdl.grad(lambda x: pdl.loop(lambda i, s: s * x, x, 2, Wrong(2)))(2.0)
