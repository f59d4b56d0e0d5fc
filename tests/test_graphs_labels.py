"""Derivatives of xarray objects: what goes in, what comes out, and what is refused."""

from __future__ import annotations

import importlib
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
from graph_helpers import _synchronous as _synchronous
from xarray_helpers import DATA, DIRECTION, field, xr

import paradual as pdl
from paradual.errors import ParadualTypeError, ParadualValueError

# --- what goes in and comes out ---------------------------------------------------------------------------

V = np.arange(1.0, 5.0)


def line(**coords: Any) -> Any:
    """Four numbers, with labels and a coordinate that is a Dask array."""
    return xr.DataArray(
        da.from_array(V, chunks=3),
        dims="x",
        coords={"x": [10, 20, 30, 40], "k": ("x", da.arange(4.0, chunks=2)), "s": 2.0, **coords},
        name="n",
        attrs={"units": "m"},
    )


def check(found: Any, like: Any, values: Any) -> None:
    """A derivative with the labels of ``like``, not yet computed."""
    assert type(found) is type(like)
    assert isinstance(found.data, da.Array)
    assert (found.name, found.attrs, found.chunks) == (like.name, like.attrs, like.chunks)
    xr.testing.assert_identical(found.coords.to_dataset(), like.coords.to_dataset())
    np.testing.assert_allclose(found.values, values)


def test_a_coordinate_that_is_lazy_is_a_constant_and_stays() -> None:
    x = line()
    g = pdl.gradients((x**2 * x.k).sum(), x)
    assert isinstance(g.k.data, da.Array)
    check(g, x, 2 * V * np.arange(4))
    check(pdl.gradients((x**2 * x.k).sum(), x.k), x.k, V**2)  # unless it is asked for by itself


def test_the_functional_transforms() -> None:
    x = line()
    v = xr.DataArray([1.0, 0.0, 2.0, 0.0], dims="x")
    check(pdl.grad(lambda x: (x**3).sum())(x), x, 3 * V**2)
    value, g = pdl.value_and_grad(lambda x: (x**3).mean("x"))(x)
    assert value.compute().item() == np.mean(V**3)
    check(g, x, 3 * V**2 / 4)
    (value, aux), g = pdl.value_and_grad(lambda x: ((x**2).sum(), x + 1), has_aux=True)(x)
    check(g, x, 2 * V)
    check(aux, x, V + 1)
    out, pullback = pdl.vjp(lambda x: x**2, x)
    check(out, x, V**2)
    for cotangent in (v, v.values, v.chunk(x=1), v.assign_coords(x=x.x)):
        check(pullback(cotangent)[0], x, 2 * V * v.values)
        check(pdl.jvp(lambda x: x**2, (x,), (cotangent,))[1], x, 2 * V * v.values)
        check(pdl.hvp(lambda x: (x**3).sum(), x, cotangent), x, 6 * V * v.values)
    w = line().copy(data=da.from_array(V + 1, chunks=2)).rename("w")
    gx, gw = pdl.grad(lambda x, w: (x * w**2).sum(), argnums=(0, 1))(x, w)
    check(gx, x, (V + 1) ** 2)
    check(gw, w, 2 * V * (V + 1))


def test_gradients_of_gradients() -> None:
    x = field(DATA)
    loss = (np.sin(x) * x.mean("time")).sum()
    g = pdl.gradients(loss, x)
    v = field(DIRECTION, lazy=False)
    expected = pdl.hvp(lambda x: (np.sin(x) * x.mean("time")).sum(), field(DATA, lazy=False), v)
    xr.testing.assert_allclose(pdl.gradients(g, x, v).compute(), expected)
    xr.testing.assert_allclose(pdl.tangents(g, x, v).compute(), expected)
    xr.testing.assert_allclose(pdl.gradients(pdl.tangents(loss, x, v), x).compute(), expected)
    xr.testing.assert_allclose(pdl.gradients((g * v).sum(), x).compute(), expected)


def test_dimensions_are_matched_by_name_and_labels_are_compared() -> None:
    x = field(DATA)
    y = x**2
    turned = field(DIRECTION, lazy=False).transpose("lon", "time", "lat")
    for c in (turned, turned.chunk(time=3), turned.drop_vars(["time", "area"])):
        np.testing.assert_allclose(pdl.gradients(y, x, c).values, 2 * DATA * DIRECTION)
        np.testing.assert_allclose(pdl.tangents(y, x, c).values, 2 * DATA * DIRECTION)
    wrong = turned.assign_coords(lat=[-60, -20, 20, 61])
    for call in (pdl.gradients, pdl.tangents):
        with pytest.raises(ParadualValueError, match="other labels along 'lat'"):
            call(y, x, wrong)
        with pytest.raises(ParadualValueError, match="dimensions"):
            call(y, x, turned.rename(lat="latitude"))
        with pytest.raises(ParadualValueError, match="shape"):
            call(y, x, turned.drop_vars("time").isel(time=slice(3)))
        with pytest.raises(ParadualTypeError, match="is a Dataset"):
            call(y, x, turned.to_dataset())


def test_kinds_may_be_mixed() -> None:
    x, a, d = line(), da.from_array(V, chunks=2), dask.delayed(2.0)
    scale = da.from_delayed(d, shape=(), dtype=float)
    losses = [(x * a * scale).sum(), (x.data * a**2).sum(), (x**2).to_dataset(name="q").sum()]
    value, (gx, ga, gd) = pdl.value_and_gradients(losses, [x, a, d])
    assert [type(v) for v in value] == [xr.DataArray, da.Array, xr.Dataset]
    check(gx, x, 2 * V + V**2 + 2 * V)
    np.testing.assert_allclose(ga.compute(), 2 * V + 2 * V * V)
    assert gd.compute() == np.sum(V**2)
    v, w = line(), V.tolist()
    tangents = pdl.tangents(losses, [x, a, d], [v, w, 0.0])
    assert [type(t) for t in tangents] == [xr.DataArray, da.Array, xr.Dataset]
    same, other = pdl.gradients((x**2).sum(), [x, x.data])
    check(same, x, other.compute())
    check(pdl.gradients(a.sum(), x), x, np.zeros(4))  # unconnected
    check(pdl.gradients(x, x, V), x, V)  # itself
    with pytest.raises(ParadualTypeError, match="it is a constant, and has no gradient"):
        pdl.gradients((x > 2).sum(), x)
    part = x[1:]
    first, second = pdl.gradients((part**2).sum(), [part, x])
    check(first, part, 2 * V[1:])
    check(second, x, [0, 4, 6, 8])
    kept = (x * 2).persist()
    check(pdl.gradients((kept**2).sum(), kept), kept, 4 * V)
    check(pdl.gradients((x.variable**2).sum(), x), x, 2 * V)
    assert type(pdl.gradients((x.variable**2).sum(), x.variable)) is xr.Variable
    single = x.astype("f4")
    assert pdl.gradients((single**2).sum(), single).compute().dtype == "f4"
    index = xr.DataArray(da.ones((2, 3), chunks=2), dims=("a", "b"), coords={"a": [1, 2]}).stack(p=("a", "b"))
    check(pdl.gradients((index**2).sum(), index), index, 2 * np.ones(6))


def test_datasets() -> None:
    x = line()
    ds = xr.Dataset(
        {
            "a": x,
            "b": ("y", da.ones(3, chunks=2), {"long": "B"}),
            "i": ("x", da.arange(4)),
            "c": ("y", np.ones(3)),
        },
        attrs={"title": "all kinds"},
    )
    loss = (ds.a**2 * ds.i).sum() * (ds.b * ds.c).sum()
    with pytest.raises(ParadualTypeError, match=r"'i' .* int64.*set_coords\('i'\)"):
        pdl.gradients(loss, ds)
    constants = ds.set_coords(["i", "c"])
    g = pdl.gradients(loss, constants)
    assert g.attrs == ds.attrs
    assert g.b.attrs == {"long": "B"}
    assert list(g.data_vars) == ["a", "b"]
    assert (g.a.chunks, g.b.chunks) == (x.chunks, ds.b.chunks)
    assert isinstance(g.i.data, da.Array)
    np.testing.assert_allclose(g.a, 6 * V * np.arange(4))
    np.testing.assert_allclose(g.b, np.full(3, np.sum(V**2 * np.arange(4))))
    check(pdl.gradients(loss, ds[["a"]]).a, ds.a, 6 * V * np.arange(4))
    grad = pdl.grad(lambda d: (d.a**2 * d.i).sum() * (d.b * d.c).sum())(constants)
    xr.testing.assert_identical(grad.compute(), g.compute())
    out, pullback = pdl.vjp(lambda d: d.mean("x") * 2, constants)
    (pulled,) = pullback(xr.ones_like(out))
    np.testing.assert_allclose(pulled.a, np.full(4, 0.5))
    np.testing.assert_allclose(pulled.b, np.full(3, 2.0))
    product = pdl.hvp(lambda d: (d.a**3).sum() + (d.b**3).sum(), constants, xr.ones_like(constants))
    np.testing.assert_allclose(product.a, 6 * V)
    np.testing.assert_allclose(product.b, np.full(3, 6.0))


def test_constants_of_a_dataset_among_the_outputs() -> None:
    x = line()
    ds = xr.Dataset({"a": x**2, "b": x.sum(), "i": ("x", da.arange(4)), "c": ("y", np.ones(3))})
    with pytest.raises(ParadualValueError, match="2 floating-point variables"):
        pdl.gradients(ds.sum(), x)
    check(pdl.gradients(ds[["b", "i"]].sum(), x), x, np.ones(4))
    for cotangent in (xr.ones_like(ds), {"a": np.ones(4), "b": 1.0}):
        value, g = pdl.value_and_gradients(ds, x, cotangent)
        xr.testing.assert_identical(value.compute(), ds.compute())
        check(g, x, 2 * V + 1)
    for wrong in ({"a": V}, {"a": V, "b": 1.0, "z": 1.0}):
        with pytest.raises(ParadualValueError, match="must have its variables"):
            pdl.gradients(ds, x, wrong)
    with pytest.raises(ParadualTypeError, match="must be a Dataset, or a dict"):
        pdl.gradients(ds, x, V)
    t = pdl.tangents(ds, x, np.ones(4))
    np.testing.assert_allclose(t.a, 2 * V)
    assert t.b.compute().item() == 4
    np.testing.assert_array_equal(t.i, np.zeros(4, int))
    np.testing.assert_array_equal(t.c, np.zeros(3))


X = line()


@pytest.mark.parametrize(
    ("error", "says", "wrong"),
    [
        (ParadualTypeError, "dtype int64", lambda: pdl.gradients(X.sum(), X.astype(int))),
        (ParadualTypeError, "chunk", lambda: pdl.gradients(X.sum(), X.compute())),
        (ParadualTypeError, "chunk", lambda: pdl.gradients(X.sum().compute(), X)),
        (ParadualTypeError, "'c'.*chunk", lambda: pdl.gradients(X.sum(), X.to_dataset().assign(c=("y", V)))),
        (ParadualTypeError, "chunk", lambda: pdl.gradients(X.sum(), X.copy(data=V))),  # a coordinate is lazy
        (ParadualTypeError, "DataTree", lambda: pdl.gradients(X.sum(), xr.DataTree(X.to_dataset()))),
        (ParadualTypeError, "real part", lambda: pdl.gradients((X * 1j).sum(), X)),
        (ParadualValueError, "sum it", lambda: pdl.gradients(X * 2, X)),
        (ParadualTypeError, "wrap the others", lambda: pdl.grad(lambda a, b: (a * b).sum(), (0, 1))(X, V)),
        (ParadualValueError, "structure", lambda: pdl.vjp(lambda x: {"a": x}, X)[1](X)),
        (ParadualTypeError, "use paradual.vjp", lambda: pdl.jacobian(lambda x: x**2)(X)),
    ],
)
def test_what_is_wrong_and_the_cure(error: type[Exception], says: str, wrong: Any) -> None:
    with pytest.raises(error, match=says):
        wrong()


@pytest.mark.parametrize(
    ("advice", "program"),
    [
        ("weights", lambda x: x.interp(x=[11, 12]).sum()),
        ("pseudo-inverse", lambda x: x.polyfit("x", 1).polyfit_coefficients.sum()),
        (
            "last axes",
            lambda x: xr.apply_ufunc(
                lambda a: (a**2).sum(),
                x,
                input_core_dims=[["x"]],
                vectorize=True,
                dask="parallelized",
                output_dtypes=[float],
            ),
        ),
    ],
)
def test_what_xarray_does_in_compiled_code_is_refused_with_a_cure(advice: str, program: Any) -> None:
    x = line().chunk(x=4)
    with pytest.raises(ParadualTypeError, match="plain array") as refused:
        pdl.gradients(program(x), x).compute()
    assert any(advice in note for note in refused.value.__notes__)


def test_the_cures() -> None:
    x = field(DATA).chunk(time=-1, lat=-1)
    t = np.arange(10.0)
    fit = xr.DataArray(np.linalg.pinv(np.vander(t, 2)), dims=("degree", "time"))
    expected = x.drop_vars("time").assign_coords(time=t).polyfit("time", 1).polyfit_coefficients
    np.testing.assert_allclose(fit.dot(x), expected)
    slope = (fit.dot(x).isel(degree=0) ** 2).sum()
    found = pdl.gradients(slope, x).transpose("lat", "lon", "time")
    np.testing.assert_allclose(found, 2 * (fit.dot(x) * fit).isel(degree=0).transpose("lat", "lon", "time"))
    weights = xr.DataArray(np.eye(4)[:3] / 2 + np.eye(4)[1:] / 2, dims=("middle", "lat"))
    middles = x.interp(lat=[-40, 0, 40])
    np.testing.assert_allclose(x.dot(weights), middles.transpose("time", "lon", "lat"))
    np.testing.assert_allclose(pdl.gradients(x.dot(weights).sum(), x)[0, :, 0], [0.5, 1, 1, 0.5])


# --- xarray objects over NumPy, and inside tasks ------------------------------------------------------------


def test_a_function_of_xarray_objects_over_numpy() -> None:
    x = field(DATA, lazy=False)
    g = pdl.grad(lambda x: (np.sin(x).mean("time") * x.lat).sum())(x)
    xr.testing.assert_allclose(g, np.cos(x) / 10 * x.lat)
    assert (g.name, g.attrs) == ("t2m", {"units": "K"})
    out, pullback = pdl.vjp(lambda d: d.mean("time"), x.to_dataset())
    (pulled,) = pickle.loads(pickle.dumps(pullback))(xr.ones_like(out))
    xr.testing.assert_allclose(pulled.t2m, xr.full_like(x, 0.1))
    value, tangent = pdl.jvp(lambda x: x**2, (x,), (x,))
    xr.testing.assert_allclose(tangent, 2 * value)
    with pytest.raises(ParadualValueError, match=r"x\.data"):
        pdl.jacobian(lambda x: x**2)(x)
    with pytest.raises(ParadualValueError, match="structure"):
        pullback(xr.ones_like(out).assign_coords(lat=[1.0, 2.0, 3.0, 4.0]))
    with pytest.raises(ParadualTypeError, match="int64"):
        pdl.grad(lambda d: d.t2m.sum())(x.to_dataset().reset_coords("season"))


@pytest.mark.parametrize("order", ["the array first", "the array second"])
@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "divide", "power", "hypot"])
def test_arithmetic_of_an_array_and_a_labelled_one_is_labelled(name: str, order: str) -> None:
    f = getattr(np, name)
    labelled = xr.DataArray(V * 3, dims="x", coords={"x": [1, 2, 3, 4]})

    def g(w: Any, labels: bool = True) -> Any:
        other = labelled if labels else labelled.data
        y = f(w, other) if order == "the array first" else f(other, w)
        assert isinstance(y, xr.DataArray) == labels
        return np.sum(y.data if labels else y)

    np.testing.assert_allclose(pdl.grad(g)(V), pdl.grad(lambda w: g(w, False))(V))
    np.testing.assert_allclose(pdl.hvp(g, V, V), pdl.hvp(lambda w: g(w, False), V, V))
    operators = {"add": lambda a, b: a + b, "multiply": lambda a, b: a * b, "power": lambda a, b: a**b}
    if name in operators:
        swapped = operators[name]
        found = pdl.grad(lambda w: swapped(w, labelled).sum().data)(V)
        np.testing.assert_allclose(found, pdl.grad(lambda w: swapped(w, labelled.data).sum())(V))
        assert type(found) is np.ndarray


def test_a_scalar_among_labelled_arrays() -> None:
    labelled, other = xr.DataArray(V, dims="x"), xr.DataArray(np.ones(3), dims="y")
    assert pdl.grad(lambda s: (s * labelled * other).sum())(2.0) == 30.0
    assert pdl.grad(lambda s: ((labelled * s).mean() - other).sum())(2.0) == 7.5


@pytest.mark.parametrize("kind", ["DataArray", "Dataset", "Variable"])
def test_delayed_values_that_are_labelled(kind: str) -> None:
    template = {
        "DataArray": xr.DataArray(V, dims="x", coords={"x": list("abcd")}),
        "Dataset": xr.Dataset({"a": ("x", V), "b": ((), 2.0)}),
        "Variable": xr.Variable("x", V),
    }[kind]

    def total(y: Any) -> Any:
        return (y.a**2).sum() * y.b if kind == "Dataset" else (y**2).sum()

    with dask.config.set({"optimization.fuse.active": False}):
        made = dask.delayed(template, traverse=False)
        twice = made * 2
        loss = dask.delayed(total)(twice) + dask.delayed(total)(made)
        value, (g, h) = pdl.value_and_gradients(loss, [made, twice])
        found, inner = dask.compute(g, h)
        t = pdl.tangents(twice, made, template).compute()
    assert type(found) is type(inner) is type(t) is type(template)
    expected = pdl.grad(lambda y: total(y * 2) + total(y))(template)
    xr.testing.assert_allclose(found, expected)
    xr.testing.assert_allclose(t, 2 * template)
    assert value.compute().item() == total(template * 2) + total(template)


MODULE = """
import dataclasses

@dataclasses.dataclass
class Model:
    weight: object

def loss(model, x):
    return Model((model.weight**2 * x).sum())
"""
READER = """
import pickle, sys
with open(sys.argv[1], "rb") as file:
    pullback = pickle.load(file)
import models, xarray as xr
model, x = pullback(models.Model(xr.DataArray(1.0)))
print(type(model).__name__, model.weight.values.tolist(), x.dims)
"""


def test_a_pullback_is_read_by_a_process_that_never_saw_its_classes(tmp_path: Path) -> None:
    (tmp_path / "models.py").write_text(MODULE)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(tmp_path))
        models = importlib.import_module("models")
        x = xr.DataArray(V, dims="x")
        _, pullback = pdl.vjp(models.loss, models.Model(x), xr.ones_like(x))
        (tmp_path / "pullback").write_bytes(pickle.dumps(pullback))
    paths = [str(tmp_path), str(Path(pdl.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, "-c", READER, str(tmp_path / "pullback")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )
    assert done.stdout.split("\n")[0] == "Model [2.0, 4.0, 6.0, 8.0] ('x',)", done.stderr


def test_a_loss_that_is_labelled_has_its_derivative() -> None:
    np.testing.assert_allclose(pdl.grad(lambda x: (xr.DataArray(x, dims="x") ** 2).sum())(V), 2 * V)
    w = dask.delayed(V)
    loss = dask.delayed(lambda w: (xr.DataArray(w, dims="x") ** 2).sum())(w)
    np.testing.assert_allclose(pdl.gradients(loss, w).compute(), 2 * V)


def test_a_coordinate_that_is_differentiated_is_refused() -> None:
    w = dask.delayed(V)
    with dask.config.set({"optimization.fuse.active": False}):
        made = dask.delayed(lambda w: xr.DataArray(np.ones(4), dims="x").assign_coords(z=("x", w)))(w)
        loss = dask.delayed(lambda y: (y * y.z).sum())(made) + dask.delayed(lambda y: y.sum())(made)
        with pytest.raises(ParadualTypeError, match="reset_coords"):
            pdl.gradients(loss, w).compute()
