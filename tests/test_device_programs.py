"""Whole programs on the stand-in for a device: what they give, and that nothing crosses unasked."""

import dask
import fake_cupy
import numpy as np
import pytest
from device_programs import COLLECTIONS, PARALLEL, SENDS, SERIAL, M, X, collections, contracted, recomputed
from fake_device import device
from helpers import nothing_is_left_behind  # noqa: F401

import paradual as pdl
from paradual.errors import ParadualTypeError, ParadualValueError
from paradual.trees import flatten


@pytest.fixture
def counts():
    with device() as found:
        yield found


def there(x):
    import cupy

    return cupy.asarray(x)


def equal(got, expected, rtol=1e-10):
    for a, b in zip(flatten(got)[0], flatten(expected)[0], strict=True):
        assert isinstance(a, fake_cupy.ndarray) or not isinstance(b, np.ndarray)
        assert getattr(a, "dtype", None) == getattr(b, "dtype", None)
        a = a._array if isinstance(a, fake_cupy.ndarray) else a
        np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-12)


MODES = {
    "grad": pdl.grad,
    "value_and_grad": pdl.value_and_grad,
    "jvp": lambda f: lambda x: pdl.jvp(f, (x,), (x + 1.0,)),
    "hvp": lambda f: lambda x: pdl.hvp(f, x, x + 1.0),
    "hessian": pdl.hessian,
    "grad-of-grad": lambda f: pdl.grad(lambda x: np.sum(pdl.grad(f)(x) ** 2)),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("f", SERIAL, ids=lambda f: f.__name__)
def test_a_program_on_a_device(f, mode, counts):
    x = there(X)
    counts.clear()
    got = MODES[mode](f)(x)
    assert not counts["to_host"]
    assert not counts["between"]
    if mode == "grad":
        assert counts["to_device"] <= SENDS.get(f, 0)
        # a write or np.where: the end of the pass is asked for NaN; a checkpoint compares its sums
        assert counts["synchronize"] <= (3 if f is recomputed else 1)
    equal(got, MODES[mode](f)(X))


@pytest.mark.parametrize("executor", ["inline", "threads"])
@pytest.mark.parametrize("mode", ["grad", "jvp", "hvp"])
@pytest.mark.parametrize("f", PARALLEL, ids=lambda f: f.__name__)
def test_tasks_on_a_device(f, mode, executor, counts):
    x = there(X)
    counts.clear()
    with pdl.executor(executor):
        got = MODES[mode](f)(x)
        assert not counts
        equal(got, MODES[mode](f)(X))


@pytest.mark.parametrize("mode", ["auto", "reverse", "forward"])
def test_a_jacobian_on_a_device(mode, counts):
    def f(x):
        return np.sin(x) * np.sum(x), np.sum(x[:2]) * x[0]

    x = there(X)
    counts.clear()
    got = pdl.jacobian(f, mode=mode)(x)
    assert not counts["to_host"]
    assert not counts["to_device"]
    equal(got, pdl.jacobian(f, mode=mode)(X))


def test_dtypes_and_forms_on_a_device(counts):
    for x in (X.astype(np.float32), X.astype(np.float16), X + 1j, X[:0], np.array(0.5), M[::2, ::-1], M.T):
        y = there(x)
        counts.clear()
        got = pdl.value_and_grad(lambda x: np.sum(np.abs(np.sin(x) * x)))(y)
        assert not counts
        equal(
            got[1],
            pdl.grad(lambda x: np.sum(np.abs(np.sin(x) * x)))(x),
            rtol=1e-3 if x.itemsize == 2 else 1e-6,
        )
        assert isinstance(got[0], fake_cupy.ndarray)
        assert got[0].dtype == np.abs(x).dtype


def test_numbers_and_trees_on_a_device(counts):
    def loss(p, scale):
        return np.sum(np.tanh(p["w"] @ p["b"]) * scale), {"seen": p["b"] * 2}

    p = {"w": M, "b": M[0]}
    q = {name: there(value) for name, value in p.items()}
    counts.clear()
    (g, h), aux = pdl.grad(loss, argnums=(0, 1), has_aux=True)(q, 1.5)
    assert not counts
    (g2, h2), aux2 = pdl.grad(loss, argnums=(0, 1), has_aux=True)(p, 1.5)
    equal((g, aux), (g2, aux2))
    assert isinstance(h, fake_cupy.ndarray)  # of a Python number: to make one of it would wait
    np.testing.assert_allclose(float(h), h2)
    unused = pdl.grad(lambda x, y: np.sum(x), argnums=1)(q["w"], q["b"])
    equal(unused, np.zeros(3))


def test_the_gradient_is_the_users_own(counts):
    x = there(X)
    g = pdl.grad(lambda x: np.sum(x))(x)
    h = pdl.grad(lambda x: np.sum(x))(x)
    g[0] = 5.0
    equal(h, np.ones(4))
    constant = there(np.ones(4))
    g = pdl.grad(lambda x: np.sum(x * constant))(x)
    g += 1.0
    equal(constant, np.ones(4))
    before = X.copy()

    def writes(x):
        x[0] = 3.0
        return np.sum(x * x)

    pdl.grad(writes)(x)
    equal(x, before)


@pytest.mark.parametrize("size", [100, 5000])
@pytest.mark.parametrize("shape", [(-1,), (50, -1), (2, 5, -1)], ids=str)
def test_a_constant_on_a_device_that_is_written_later_is_copied_or_noticed(size, shape, counts):
    x, buffer = there(np.ones(size).reshape(shape)), there(np.full(size, 2.0).reshape(shape))

    def program(x, write=True):
        y = x * buffer + np.matmul(x, np.swapaxes(buffer, -1, -2)).sum() if x.ndim > 1 else x * buffer
        if write:
            buffer[...] = 3.0
        return np.sum(y * buffer)

    counts.clear()
    if size * 8 <= 1 << 14:
        g = pdl.grad(program)(x)
        assert not counts
        buffer[...] = 2.0
        assert float(g.reshape(-1)[0]) != float(pdl.grad(lambda x: program(x, False))(x).reshape(-1)[0])
    else:
        with pytest.raises(ParadualValueError, match="written to"):
            pdl.grad(program)(x)
        buffer[...] = 2.0
        counts.clear()
        pdl.grad(lambda x: program(x, False))(x)
        assert counts == {"synchronize": 1}  # all samples are compared at once, at the end
        buffer[...] = np.nan
        pdl.grad(lambda x: program(x, False))(x)  # NaN is not a change


def test_a_scatter_of_many_reads_is_added_in_place(counts):
    def f(x):
        total = x[0] * 0.0
        for k in range(1, 200):
            total = total + x[k % 50] * x[k // 4]
        return total

    rng = np.random.default_rng(0).standard_normal(50)
    x = there(rng)
    counts.clear()
    got = pdl.grad(f)(x)
    assert not counts
    equal(got, pdl.grad(f)(rng))


# --- Dask arrays ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheduler", ["sync", "threads"])
@pytest.mark.parametrize("f", COLLECTIONS, ids=lambda f: f.__name__)
def test_a_dask_array_with_chunks_on_a_device(f, scheduler, counts):
    at_home, away = collections(lambda block: pdl.to_device(block, "cuda"))
    a, w = away
    assert isinstance(a._meta, fake_cupy.ndarray)
    value, gradients = pdl.value_and_gradients(f(a, w), [a, w])
    pushed = pdl.tangents(f(a, w), w, w)
    counts.clear()
    got = dask.compute(value, gradients, pushed, scheduler=scheduler)
    assert not counts["to_host"]
    assert counts["to_device"] <= 8  # the chunks themselves, for both graphs
    assert counts["synchronize"] <= (f is contracted)  # Dask writes in place there: the end is asked for NaN
    value, gradients = pdl.value_and_gradients(f(*at_home), list(at_home))
    equal(got, dask.compute(value, gradients, pdl.tangents(f(*at_home), at_home[1], at_home[1])))


@pytest.mark.parametrize("tapes", ["keep", "recompute", "1 MiB"])
def test_a_dask_array_moved_on_the_way(tapes, counts):
    (a, w), _ = collections(lambda block: block)

    def loss(a, w, move):
        return (np.sin(a.map_blocks(move) @ w.map_blocks(move)) ** 2).sum()

    got = pdl.gradients(loss(a, w, lambda b: pdl.to_device(b, "cuda")), [a, w], tapes=tapes)
    expected = pdl.gradients(loss(a, w, lambda b: b * 1.0), [a, w])
    for g, e in zip(dask.compute(*got), dask.compute(*expected), strict=True):
        assert type(g) is np.ndarray  # back where the inputs are
        np.testing.assert_allclose(g, e)


def test_second_order_of_a_dask_array_on_a_device(counts):
    (_, _), (a, _) = collections(lambda block: pdl.to_device(block, "cuda"))
    g = pdl.gradients((pdl.gradients((a**3).sum(), a) ** 2).sum(), a).compute()
    equal(g, 36 * collections(lambda block: block)[0][0].compute() ** 3)


def test_a_delayed_on_a_device(counts):
    x = dask.delayed(X)
    shots = [dask.delayed(lambda x, k: np.sum(np.sin(pdl.to_device(k * x, "cuda"))))(x, k) for k in range(3)]
    g = pdl.gradients(shots, x).compute()
    assert type(g) is np.ndarray
    np.testing.assert_allclose(g, sum(k * np.cos(k * X) for k in range(3)))
    y = dask.delayed(there(X))
    equal(pdl.gradients(dask.delayed(np.sum)(dask.delayed(np.sin)(y)), y).compute(), np.cos(X))


# --- loops and equations --------------------------------------------------------------------------------


def test_a_loop_on_a_device(counts):
    def f(x):
        last, seen = pdl.loop(lambda i, u: np.sin(u) * x + u, x, 9, observe=lambda i, u: u[1])
        return np.sum(last**2) + sum(v * v for v in seen)

    for mode in ("grad", "jvp", "hvp"):
        y, expected = there(X), MODES[mode](f)(X)
        counts.clear()
        got = MODES[mode](f)(y)
        # each of the three stretches is compared with what it was, once its sums and once its observations
        assert not counts.keys() - {"synchronize"}
        assert counts["synchronize"] <= (0 if mode == "jvp" else 6)
        equal(got, expected)


def test_a_constant_of_a_loop_on_a_device_that_is_written_later_is_noticed(counts):
    schedules = pytest.importorskip("checkpoint_schedules")
    x, constant = there(np.linspace(0.1, 1.0, 5000)), there(np.ones(5000))

    def f(x):
        # keeps all tapes, so that no step is run again
        last = pdl.loop(lambda i, u: u * constant, x, 3, schedules.SingleMemoryStorageSchedule())
        constant[...] = 2.0
        return np.sum(last)

    with pytest.raises(ParadualValueError, match="was written to"):
        pdl.grad(f)(x)


EQUATIONS = {
    "root": lambda x: pdl.root(lambda u: u**3 + u - x, x),
    "a parameter": lambda x: pdl.root(lambda u, x: u**3 + u - np.sum(x), 1.0, x),
    "fixed_point": lambda x: pdl.fixed_point(lambda u: np.cos(u) * x, x),
    "minimize": lambda x: pdl.minimize(lambda u: np.sum((u - x) ** 2), x),
    "linear_solve": lambda x: pdl.linear_solve(lambda u: 2.0 * u, x),
}


@pytest.mark.parametrize("name", EQUATIONS)
def test_equations_are_not_solved_on_a_device(name, counts):
    y = there(X)
    with pytest.raises(ParadualTypeError, match=r"solves on the host.*to_device\(x, 'cpu'\)"):
        pdl.grad(lambda x: np.sum(EQUATIONS[name](x)))(y)
