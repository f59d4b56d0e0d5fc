"""GPU workers on Dask's terms: tasks that ask for one run there, forward and reverse, in one gradient.

One worker process of the cluster has the resource and the stand-in for a device, the other one has neither.
"""

import logging

import dask
import dask.array as da
import fake_cupy
import fake_device
import numpy as np
import pytest
from distributed import Client, Nanny, Scheduler, SpecCluster

import paradual as pdl
from paradual.errors import ParadualImportError

GPU = {"GPU": 1}
X = np.array([0.7, -1.3, 2.1, 0.4])


def set_up(dask_worker):
    if dask_worker.name == "gpu":
        fake_device.install()
    return dask_worker.name


@pytest.fixture(scope="module")
def client():
    workers = {
        "cpu": {"cls": Nanny, "options": {"nthreads": 1}},
        "gpu": {"cls": Nanny, "options": {"nthreads": 1, "resources": GPU}},
    }
    scheduler = {"cls": Scheduler, "options": {"dashboard_address": ":0"}}
    with (
        SpecCluster(workers=workers, scheduler=scheduler, silence_logs=logging.CRITICAL) as cluster,
        Client(cluster) as found,
    ):
        found.wait_for_workers(2, timeout=60)
        assert sorted(found.run(set_up).values()) == ["cpu", "gpu"]
        yield found


@pytest.fixture
def counts():
    with fake_device.device() as found:
        yield found


def ran(client, *prefixes):
    """The names of the workers that have run tasks whose keys begin so."""

    def keys(dask_worker):
        done = {str(entry[0]) for entry in dask_worker.state.log if "executing" in entry[1:4]}
        return dask_worker.name, done

    found = set()
    for name, done in client.run(keys).values():
        if any(key.lstrip("('").startswith(prefixes) for key in done):
            found.add(name)
    return found


def on_gpu(x):
    """A step on the device of a worker: what crosses the boundary of the task is on the host."""
    y = pdl.to_device(x, "cuda")
    return pdl.to_device(np.sin(y) * y, "cpu")


def on_cpu(x):
    return np.sin(x) * x


def test_a_task_with_a_device_runs_where_one_is(client, counts):
    def program(x):
        with dask.annotate(resources=GPU):
            task = pdl.submit(on_gpu, x)
        return np.sum(task.result() * pdl.submit(on_cpu, x).result())

    with pdl.executor(client):
        got = pdl.value_and_grad(program)(X)
    with pdl.executor("inline"):
        expected = pdl.value_and_grad(lambda x: np.sum(on_cpu(x) ** 2))(X)
    np.testing.assert_allclose(got[0], expected[0], rtol=1e-14)
    np.testing.assert_allclose(got[1], expected[1], rtol=1e-14)
    for stage in ("forward", "reverse"):
        assert ran(client, f"{stage}-on-gpu") == {"gpu"}


def test_without_the_annotation_a_task_may_find_no_device(client):
    def program(x):
        with dask.annotate(workers=["cpu"], allow_other_workers=False):
            return np.sum(pdl.submit(lambda x: on_gpu(x), x).result())

    with pdl.executor(client), pytest.raises(ParadualImportError, match=r"paradual\[cuda13\]"):
        pdl.grad(program)(X)


def outer_step(x):
    """A task that forks: its own tasks run where it runs, for it has the device."""
    left, right = pdl.par(lambda: on_gpu(x / 2), lambda: on_gpu(x * x))
    return left + right


def test_tasks_of_a_task_and_second_order_on_devices(client, counts):
    def program(x):
        with dask.annotate(resources=GPU):
            parts = [
                *pdl.map(on_gpu, [x, x * 2.0, x * 3.0]),
                *pdl.par(lambda: outer_step(x), lambda: on_gpu(x)),
            ]
        return sum(np.sum(part * part) for part in parts)

    def plain(x):
        parts = [on_cpu(x), on_cpu(x * 2.0), on_cpu(x * 3.0), on_cpu(x / 2) + on_cpu(x * x), on_cpu(x)]
        return sum(np.sum(part * part) for part in parts)

    with pdl.executor(client):
        got = pdl.grad(program)(X)
        hvp = pdl.hvp(program, X, np.cos(X))
    np.testing.assert_allclose(got, pdl.grad(plain)(X), rtol=1e-13)
    np.testing.assert_allclose(hvp, pdl.hvp(plain, X, np.cos(X)), rtol=1e-12)
    assert ran(client, "forward-on-gpu", "reverse-on-gpu", "forward-outer", "reverse-outer") == {"gpu"}


def test_values_on_a_device_between_tasks_on_devices(client, counts):
    def first(x):
        return {"y": pdl.to_device(x, "cuda") ** 2}

    def second(tree, x):
        return pdl.to_device(np.sum(np.sin(tree["y"])), "cpu") * x[0]

    def program(x):
        with dask.annotate(resources=GPU):
            a = pdl.submit(first, x)
            b = pdl.submit(second, a, x)
        return b.result()

    with pdl.executor(client):
        got = pdl.grad(program)(X)
        with dask.annotate(resources=GPU):
            value = pdl.submit(first, X).result()["y"]
    np.testing.assert_allclose(got, pdl.grad(lambda x: np.sum(np.sin(x**2)) * x[0])(X), rtol=1e-13)
    assert isinstance(value, fake_cupy.ndarray)  # it has come to this process, by way of the host
    np.testing.assert_allclose(value.get(), X**2)


@pytest.mark.parametrize("tapes", ["keep", "recompute"])
def test_the_reverse_tasks_of_a_dask_array_run_where_its_tasks_do(tapes, client, counts):
    rng = np.random.default_rng(0)
    host = rng.standard_normal((8, 3)), rng.standard_normal(3)
    a, w = da.from_array(host[0], chunks=(4, 3)), da.from_array(host[1], chunks=3)
    with dask.annotate(resources=GPU):
        y = da.map_blocks(on_gpu_block, a, w, dtype=float, drop_axis=1)
    value = (y**2).sum()
    expected_value = (da.map_blocks(on_cpu_block, a, w, dtype=float, drop_axis=1) ** 2).sum()
    expected = dask.compute(*pdl.gradients(expected_value, [a, w]), scheduler="sync")
    with dask.config.set({"optimization.fuse.active": False}):  # else Dask forgets what was said
        gradients = pdl.gradients(value, [a, w], tapes=tapes)
        got = client.gather(client.compute(gradients))
        for key, annotation in annotations(gradients[0]).items():
            assert annotation == {"resources": GPU}, key
        assert any(str(key).lstrip("('").startswith("reverse-") for key in annotations(gradients[0]))
    for g, e in zip(got, expected, strict=True):
        assert type(g) is np.ndarray
        np.testing.assert_allclose(g, e, rtol=1e-13)


def on_gpu_block(a, w):
    return (
        pdl.to_device(np.sin(pdl.to_device(a, "cuda") @ pdl.to_device(w, "cuda")), "cpu")
        if a.size
        else a[:, 0]
    )


def on_cpu_block(a, w):
    return np.sin(a @ w) if a.size else a[:, 0]


def annotations(collection):
    """What is said of each task of a collection's graph."""
    found = {}
    for layer in collection.__dask_graph__().layers.values():
        for kind, value in (layer.annotations or {}).items():
            for key in layer:
                said = value(key) if callable(value) else value
                if said is not None:
                    found.setdefault(key, {})[kind] = said
    return found


def test_delayed_tasks_with_a_device(client, counts):
    x = dask.delayed(X)
    with dask.annotate(resources=GPU):
        shots = [dask.delayed(on_gpu_number)(x, k) for k in range(3)]
    mixed = [dask.delayed(lambda s, x: s * np.sum(x))(shot, x) for shot in shots]
    gradient = pdl.gradients(mixed, x)
    expected = pdl.grad(lambda x: sum(np.sum(np.sin(k * x)) * np.sum(x) for k in range(3)))(X)
    np.testing.assert_allclose(gradient.compute(), expected, rtol=1e-13)
    assert {str(v) for v in annotations(gradient).values()} == {str({"resources": GPU})}


def on_gpu_number(x, k):
    return pdl.to_device(np.sum(np.sin(k * pdl.to_device(x, "cuda"))), "cpu")
