"""`profile`, `visualize` and `trace`: what they say of programs whose measures are known."""

import sys
import threading

import dask.array as da
import numpy as np
import pytest
from dask import delayed

import paradual as pdl
from paradual.diagnostics import _finish, in_words, job_graph
from paradual.errors import ParadualTypeError

A = np.array([0.5, 1.25, -2.0])


def nested(x):
    def branch():
        a, b = pdl.par(lambda: np.sin(x), lambda: np.cos(x))
        return a * b

    c, d = pdl.par(branch, lambda: x * x)
    return (c * d).sum()


# --- profile -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["inline", "threads"])
def test_the_jobs_of_a_profile(where):
    with pdl.executor(where), pdl.profile() as measured:
        pdl.grad(nested)(A)
    (found,) = measured.passes
    jobs = {row.job: row for row in found.jobs}
    first, second = (0, 0, 0), (0, 1, 0)
    assert list(jobs) == [(0,), first, (*first, 0, 0), (*first, 1, 0), (0, 0, 1), second, (1,)]
    assert all(row.forward > 0 for row in found.jobs)
    # the first job of the branch records nothing before it forks, and so it is not swept
    assert [row.job for row in found.jobs if not row.reverse] == [first]
    assert [row.job for row in found.jobs if row.tape < 100] == [first]
    assert measured.moved_bytes == 0
    for which in ("forward", "reverse"):
        assert 0 < measured.span(which) <= measured.work(which)
        assert measured.parallelism(which) == pytest.approx(measured.work(which) / measured.span(which))
        assert measured.simulate(which, 1) == pytest.approx(measured.work(which))
        assert measured.simulate(which, 1000) == pytest.approx(measured.span(which))
    assert "0.0.0.1.0" in str(measured)


def test_a_job_does_not_count_the_time_in_which_it_waits():
    begun, may_end = threading.Event(), threading.Event()

    def slow(x):
        begun.set()
        assert may_end.wait(60)
        return x * 2

    def program(x):
        task = pdl.submit(slow, x)
        assert begun.wait(60)
        threading.Timer(0.3, may_end.set).start()
        return task.result()

    with pdl.executor("threads"), pdl.profile() as measured:
        pdl.grad(program)(1.0)
    jobs = {row.job: row.forward for row in measured.passes[0].jobs}
    assert jobs[0, 0, 0] > 0.25
    assert jobs[0,] < 0.2
    assert jobs[1,] < 0.2
    assert measured.span("forward") > 0.25


def test_work_and_span_of_a_known_graph():
    graph = {"a": (1.0, []), "b": (2.0, ["a"]), "c": (3.0, ["a"]), "d": (1.0, ["b", "c"])}
    assert _finish(graph) == 5.0
    assert _finish(graph, 1) == 7.0
    assert _finish(graph, 2) == 5.0
    wide = {k: (1.0, []) for k in range(10)}
    assert [_finish(wide, n) for n in (None, 1, 3, 10)] == [1.0, 10.0, 4.0, 1.0]


def test_many_large_cotangents_are_summed_by_tasks_of_their_own():
    x = np.ones(20_000)
    with pdl.executor("inline"), pdl.profile() as measured:
        pdl.grad(lambda x: sum(y.sum() for y in pdl.map(lambda k: x * k, np.arange(20.0))))(x)
    (found,) = measured.passes
    assert len(found.reverse) == 20 + 2 + 3  # the tasks, the two jobs of the program, sums of 8, 8 and 4
    assert len(found.jobs) == 22


def test_profiles_nest_and_end():
    with pdl.profile() as outer:
        pdl.grad(nested)(A)
        with pdl.profile() as inner:
            pdl.grad(nested)(A)
        pdl.grad(lambda x: (x * x).sum())(A)  # without tasks
    pdl.grad(nested)(A)
    assert (len(outer.passes), len(inner.passes)) == (2, 1)
    assert len(outer.passes[1].jobs) == 1


# --- visualize -------------------------------------------------------------------------------------


def test_the_graph_of_jobs():
    jobs, forward, reverse = job_graph(nested, A)
    a, b, c = (0, 0, 0), (0, 1, 0), (0, 0, 1)
    aa, ab = (*a, 0, 0), (*a, 1, 0)
    assert set(jobs) == {(0,), (1,), a, b, c, aa, ab}
    assert set(forward) == {((0,), a), ((0,), b), (a, aa), (a, ab), (a, c), (aa, c), (ab, c)} | {
        ((0,), (1,)),
        (c, (1,)),
        (b, (1,)),
    }
    # cotangents go to the jobs whose values were used
    assert set(reverse) == {((1,), c), ((1,), b), (c, aa), (c, ab), (aa, (0,)), (ab, (0,)), (b, (0,))}
    text = in_words(jobs, forward, reverse)
    assert "0.0.1: " in text
    assert "sends cotangents to 0.0.1, 0.1.0" in text


def test_a_picture_and_its_words(tmp_path, monkeypatch):
    graphviz = pytest.importorskip("graphviz")
    picture = pdl.visualize(nested, A)
    assert isinstance(picture, graphviz.Digraph)
    assert picture.source.count("->") == 17
    assert picture.source.count("dashed") == 7
    monkeypatch.setitem(sys.modules, "graphviz", None)
    text = pdl.visualize(nested, A, filename=str(tmp_path / "jobs.txt"))
    assert (tmp_path / "jobs.txt").read_text() == text + "\n"
    assert text == in_words(*job_graph(nested, A))


# --- trace -----------------------------------------------------------------------------------------


def test_trace_of_a_program_with_tasks(capsys):
    pdl.trace(nested, A)
    lines = capsys.readouterr().out.splitlines()
    jobs = [line for line in lines if line.startswith("job")]
    assert jobs == [f"job {j}" for j in ("0", "0.0.0", "0.0.0.0.0", "0.0.0.1.0", "0.0.1", "0.1.0", "1")]
    sines = next(line for line in lines if "sin(" in line)
    assert sines.endswith("[ 0.4794 0.949 -0.9093]")
    assert lines[-1].split() == ["%3", "=", "sum(%2)", f"{nested(A):.4g}"]
    assert any("%0 of job 0" in line for line in lines)


def test_trace_with_tangents(capsys):
    pdl.trace(lambda x: x * x * 1.0, np.float64(5.0), tangents=(np.float64(0.5),))
    out = capsys.readouterr().out
    assert "25 + 5ε" in out
    assert "5 + 0.5ε" in out


def test_trace_of_writes_and_of_several_results(capsys):
    def program(m):
        y = m.copy()
        y[0] = y[1] * 2
        q, r = np.linalg.qr(y)
        return (q @ r).sum()

    pdl.trace(program, np.array([[1.0, 2.0], [3.0, 5.0]]))
    out = capsys.readouterr().out
    for word in ("put(", "qr(", "item(", "matmul(", "sum("):
        assert word in out
    assert "24" in out.splitlines()[-1]


def test_trace_leaves_the_profiler_of_the_user_alone():
    def mine(*args):
        pass

    before = sys.getprofile()
    sys.setprofile(mine)
    try:
        pdl.trace(lambda x: x * x, 2.0)
        assert sys.getprofile() is mine
        with pytest.raises(ZeroDivisionError):
            pdl.trace(lambda x: x / 0, 2.0)
        assert sys.getprofile() is mine
    finally:
        sys.setprofile(before)


def test_the_jobs_of_dask_collections():
    calls = []
    x, w = delayed(np.ones(3)), da.from_array(np.ones(4), chunks=2)
    y = delayed(lambda x: calls.append(1) or np.sum(x**2))(x, dask_key_name="squares")
    jobs, forward, reverse = job_graph([y, (w**2).sum()], x, w)
    assert len([text for text in jobs.values() if text == "input"]) == 3
    assert {(b, a) for a, b in forward} == set(reverse)
    assert (("squares",), (x.key,)) in reverse
    assert len(jobs) == 3 + 1 + 2 + 1  # inputs; the Delayed; chunks of the array and their sum
    words = in_words(jobs, forward, reverse)
    assert f"{x.key}: input\n  is used by squares" in words
    assert f"squares: uses 1\n  sends cotangents to {x.key}" in words
    lazily = job_graph(lambda w: (w**2).sum(), w)
    assert len(lazily[0]) == 2 + 2 + 1
    assert calls == []


def test_a_picture_of_dask_collections():
    w = da.from_array(np.ones(4), chunks=2)
    picture = pdl.visualize((w**2).sum(), w)
    assert "style=dashed" in picture.source
    assert "sum-aggregate" in picture.source
    with pytest.raises(ParadualTypeError, match="must be Dask collections"):
        pdl.visualize((w**2).sum(), np.ones(4))
