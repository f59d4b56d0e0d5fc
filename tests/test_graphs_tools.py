"""Dask's own tools on graphs of derivatives: pictures, progress, profiles, reports, names."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
from dask import delayed
from dask.callbacks import Callback
from dask.diagnostics import CacheProfiler, Profiler, ProgressBar
from dask.dot import to_graphviz
from dask.utils import key_split
from graph_helpers import V
from graph_helpers import _synchronous as _synchronous

import paradual as pdl


def total(x: Any, w: Any) -> Any:
    return np.sum(np.sin(x * w))


def program() -> tuple[Any, list[Any]]:
    """A loss, and its gradient with respect to an array and a Delayed."""
    x, w = da.from_array(V, chunks=3), delayed(2.0)
    parts = [delayed(total)(b, w) for b in x.to_delayed(optimize_graph=False)]
    return pdl.value_and_gradients(delayed(sum)(parts) + (x**2).sum(), [x, w])


def expected() -> Any:
    return 2 * np.cos(2 * V) + 2 * V


def test_names_say_what_a_task_does() -> None:
    _, (gx, gw) = program()
    for g in (gx, gw):
        names = {key_split(key) for key in g.__dask_graph__()}
        for part in ("forward", "value", "reverse"):
            assert f"{part}-total" in names
        assert all("paradual" not in name for name in names)
    assert key_split(gx.__dask_keys__()[0]) == "gradient-array"
    assert {"forward-sum", "reverse-sum", "gradient-array"} <= {key_split(k) for k in gx.__dask_graph__()}
    t = pdl.tangents((da.from_array(V, chunks=3) ** 2).sum(), da.from_array(V, chunks=3), V)
    assert key_split(t.__dask_keys__()[0]) == "tangent-sum-aggregate"


def test_pictures() -> None:
    pytest.importorskip("graphviz")
    value, (gx, gw) = program()
    for collection in (value, gx, gw, pdl.gradients(gx, gw, V)):
        source = to_graphviz(dict(collection.__dask_graph__())).source
        assert "forward-total" in source
        assert "reverse-total" in source
        assert "paradual-" in dask.highlevelgraph.to_graphviz(collection.dask).source  # layer by layer


@pytest.mark.skipif(shutil.which("dot") is None, reason="needs Graphviz")
@pytest.mark.parametrize("optimize", [False, True])
def test_visualize(tmp_path: Path, optimize: bool) -> None:
    _, (gx, gw) = program()
    dask.visualize(gx, gw, filename=str(tmp_path / "graph.svg"), optimize_graph=optimize)
    assert "reverse-total" in (tmp_path / "graph.svg").read_text()
    gx.dask.visualize(filename=str(tmp_path / "layers.svg"))
    assert (tmp_path / "layers.svg").stat().st_size > 0


@pytest.mark.parametrize("scheduler", ["sync", "threads"])
def test_progress_profiles_and_callbacks(scheduler: str, capsys: pytest.CaptureFixture[str]) -> None:
    _, (gx, _) = program()
    started: list[Any] = []
    finished: list[Any] = []
    callback = Callback(
        pretask=lambda key, *_: started.append(key), posttask=lambda key, *_: finished.append(key)
    )
    with ProgressBar(), Profiler() as profile, CacheProfiler() as cache, callback:
        found = gx.compute(scheduler=scheduler)
    np.testing.assert_allclose(found, expected())
    assert "100% Completed" in capsys.readouterr().out
    assert sorted(map(str, started)) == sorted(map(str, finished))
    profiled = [result.key for result in profile.results]
    assert set(profiled) == set(finished)
    assert len(cache.results) == len(profiled)
    spent = {key_split(key) for key in profiled}
    assert {"forward-total", "reverse-total"} <= spent
    assert all(result.end_time >= result.start_time for result in profile.results)


def test_the_graph_can_be_inspected_and_cut() -> None:
    _, (gx, gw) = program()
    html = gx.dask._repr_html_()
    assert "gradient-array" in html
    assert gx.dask.to_dict().keys() == dict(gx.__dask_graph__()).keys()
    some = gx.dask.cull(gx.__dask_keys__())
    assert set(some) <= set(gx.dask)
    assert dask.base.is_dask_collection(gw)
    with dask.annotate(priority=3):
        again = (gx * 2).sum()
    np.testing.assert_allclose(again.compute(), 2 * expected().sum())


@pytest.mark.timeout(120)
def test_a_report_of_a_cluster(tmp_path: Path) -> None:
    pytest.importorskip("bokeh")
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        _, (gx, gw) = program()
        with distributed.performance_report(filename=str(tmp_path / "report.html")):
            futures = client.compute([gx, gw])
            distributed.progress(futures, notebook=False)
            found = client.gather(futures)
    np.testing.assert_allclose(found[0], expected())
    np.testing.assert_allclose(found[1], np.sum(V * np.cos(2 * V)))
    assert "forward-total" in (tmp_path / "report.html").read_text()
