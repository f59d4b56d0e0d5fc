"""Tasks that raise, and tasks that wait for tasks."""

import threading
import traceback

import numpy as np
import pytest
from hypothesis import settings

import paradual as pdl
from paradual.tape import ACTIVE, OUTSIDE

A = np.array([0.5, 1.25, -2.0])
both = pytest.mark.parametrize("where", ["inline", "threads"])
reproducible = settings(derandomize=True, deadline=None, database=None, max_examples=40)


@pytest.fixture(autouse=True)
def nothing_is_left_behind():
    yield
    assert ACTIVE.get() == (OUTSIDE,)
    assert pdl.par(lambda: 1, lambda: 2) == (1, 2)  # the pool works


# --- exceptions ---------------------------------------------------------------------------------------------


class Boom(Exception):
    pass


def explode(x):
    raise Boom(str(x))


@both
def test_an_exception_of_a_task(where):
    def nested(x):
        return pdl.par(lambda: x * 2.0, lambda: pdl.par(lambda: explode("deep"))[0])[0]

    calls = [
        lambda: pdl.par(lambda: 1, lambda: explode("a")),
        lambda: pdl.map(explode, [1, 2, 3]),
        lambda: pdl.submit(explode, 1).result(),
        lambda: pdl.grad(lambda x: pdl.par(lambda: explode(x))[0])(1.0),
        lambda: pdl.grad(nested)(1.0),
        lambda: pdl.grad(pdl.grad(nested))(1.0),
        lambda: pdl.jvp(nested, (1.0,), (1.0,)),
    ]
    with pdl.executor(where):
        for call in calls:
            with pytest.raises(Boom) as error:
                call()
            assert "in explode" in "".join(traceback.format_exception(error.value))
            assert any("in the paradual task" in note for note in error.value.__notes__)
            assert ACTIVE.get() == (OUTSIDE,)
            assert pdl.grad(lambda x: pdl.par(lambda: x * x)[0])(3.0) == 6.0


@both
def test_the_note_names_the_place(where):
    def f(x):
        pdl.par(lambda: 0)
        return pdl.par(lambda: 1.0, lambda: pdl.par(lambda: 2.0, lambda: explode(x))[0])[1] * x

    with pdl.executor(where), pytest.raises(Boom) as error:
        pdl.grad(f)(1.0)
    assert error.value.__notes__ == [
        "in the paradual task (1, 1, 0, 1, 0)",
        "in the paradual task (1, 1, 0)",
    ]


def test_tasks_that_have_not_begun_are_dropped():
    ran = []

    def call():
        return pdl.par(*[lambda k=k: ran.append(k) if k else explode(k) for k in range(50)])

    with pdl.executor("inline"), pytest.raises(Boom):
        call()
    assert ran == []

    # both threads of a full pool wait until the failure was seen, so that the rest cannot have begun
    release = threading.Event()
    workers = []

    def occupy():
        workers.append(1)
        release.wait(60)

    import os

    with pdl.executor("threads"):
        busy = [pdl.submit(occupy) for _ in range(os.cpu_count() or 1)]
        with pytest.raises(Boom):
            call()
        assert ran == []
        release.set()
        for task in busy:
            task.result()
    assert ran == []


@pytest.mark.parametrize("order", [1, -1])
def test_a_failure_ends_the_call_while_others_run(order):
    release, ended = threading.Event(), []

    def slow(x):
        assert release.wait(60)
        ended.append(x)
        pdl.par(lambda: ended.append("a fork of a task that nobody waits for"))

    with pdl.executor("threads"):
        for _ in range(3):
            calls = [lambda: slow(1), lambda: explode("at once")][::order]
            with pytest.raises(Boom, match="at once"):
                pdl.grad(lambda x, calls=calls: x * pdl.par(*calls)[0])(1.0)
            assert ended == []
            release.set()
            pdl.par(lambda: 1, lambda: 2)
            while len(ended) < 1:
                pass
            release.clear()
            assert ended == [1]
            ended.clear()


@both
def test_a_failed_task_fails_each_time_and_runs_once(where):
    calls = []

    def task():
        calls.append(1)
        explode("once")

    with pdl.executor(where):
        failed = pdl.submit(task)
        for _ in range(2):
            with pytest.raises(Boom, match="once"):
                failed.result()
    assert len(calls) == 1


@both
def test_an_exception_that_is_caught_in_the_program(where):
    def f(x):
        try:
            pdl.par(lambda: x * 2.0, lambda: explode("caught"))
        except Boom:
            a, b = pdl.par(lambda: x * 3.0, lambda: x * x)
        return a * b

    with pdl.executor(where):
        assert pdl.grad(f)(2.0) == 36.0
        assert pdl.grad(pdl.grad(f))(2.0) == 36.0


# --- no deadlock --------------------------------------------------------------------------------------------


def test_more_nested_waits_than_threads():
    def f(x, level):
        if level == 0:
            return x * 1.5
        return pdl.submit(lambda: f(x, level - 1) * 1.0).result() + pdl.par(lambda: x)[0]

    assert pdl.grad(lambda x: f(x, 60))(1.0) == pytest.approx(61.5)


def test_waits_in_every_thread_of_the_pool():
    def wide(x, level):
        if level == 0:
            return x
        return sum(pdl.map(lambda k: wide(x * k, level - 1), [0.5, 1.0, 1.5, 2.0]))

    assert pdl.grad(lambda x: wide(x, 4))(1.0) == pytest.approx(5.0**4)


def test_gradients_from_many_threads_at_once():
    def f(x):
        a, b = pdl.par(lambda: x * x, lambda: sum(pdl.map(lambda k: x * k, [1.0, 2.0])))
        return a * b

    got = {}
    barrier = threading.Barrier(6)

    def body(k):
        barrier.wait()
        got[k] = [pdl.grad(f)(float(k)) for _ in range(15)]

    threads = [threading.Thread(target=body, args=(k,)) for k in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == {k: [9.0 * k * k] * 15 for k in range(6)}
