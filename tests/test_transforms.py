"""`grad`, `vjp`, `jvp` and their like: what they take, what they return, what they refuse, how they nest."""

import collections
import dataclasses
import itertools
import math
import pickle
import subprocess
import sys
import threading
import tracemalloc
from typing import Any, NamedTuple

import numpy as np
import pytest

import paradual as pdl
from paradual.dual import Dual
from paradual.errors import ParadualError, ParadualTypeError, ParadualValueError
from paradual.tape import ACTIVE, OUTSIDE

A = np.array([0.5, 1.25, -2.0])
M = np.array([[0.4, -1.2, 0.9], [1.5, 0.3, -0.7]])


class Pair(NamedTuple):
    left: Any
    right: Any


@dataclasses.dataclass(frozen=True)
class Model:
    weight: Any
    bias: Any


@dataclasses.dataclass
class Nested:
    model: Model
    extra: dict
    derived: Any = dataclasses.field(init=False)

    def __post_init__(self):
        if not isinstance(self.model, Model):
            raise TypeError("only with a model")
        self.derived = self.model.bias


@pytest.fixture(autouse=True)
def nothing_is_left_behind():
    yield
    assert ACTIVE.get() == (OUTSIDE,)


# --- arguments ------------------------------------------------------------------------------------------


def product(x, y, z=1.0):
    return x * y**2 * z**3


def test_argnums():
    at = (2.0, 3.0, 5.0)
    partials = (9 * 125.0, 2 * 2 * 3 * 125.0, 2 * 9 * 3 * 25.0)
    for k in range(3):
        assert pdl.grad(product, k)(*at) == partials[k]
        assert pdl.grad(product, k - 3)(*at) == partials[k]
        assert pdl.grad(product, (k,))(*at) == (partials[k],)
        assert pdl.value_and_grad(product, [k])(*at) == (product(*at), (partials[k],))
    assert pdl.grad(product, (2, 0))(*at) == (partials[2], partials[0])
    assert pdl.grad(product, [-1, 1])(*at) == (partials[2], partials[1])
    assert pdl.grad(product, ())(*at) == ()
    assert pdl.jacobian(product, (0, 2))(*at) == (partials[0], partials[2])


@pytest.mark.parametrize("argnums", [3, -4, (0, 3), [1, -9]])
def test_argnums_out_of_range(argnums):
    for transform in (pdl.grad, pdl.value_and_grad, pdl.jacobian):
        with pytest.raises(ParadualValueError, match=r"called with 3\s+positional arguments"):
            transform(product, argnums)(2.0, 3.0, 5.0)


@pytest.mark.parametrize("argnums", ["x", None, 1.5, ("x",)])
def test_argnums_of_a_wrong_type(argnums):
    with pytest.raises(TypeError):
        pdl.grad(product, argnums)(2.0, 3.0, 5.0)


@pytest.mark.parametrize("argnums", [(0, 0), (0, -3), [1, 1]])
def test_argnums_that_repeat(argnums):
    try:
        slopes = pdl.grad(product, argnums)(2.0, 3.0, 5.0)
    except ParadualValueError:
        return
    partials = (9 * 125.0, 2 * 2 * 3 * 125.0)
    assert slopes == (partials[argnums[0]],) * 2


def test_keyword_arguments_are_constants():
    assert pdl.grad(product)(2.0, y=3.0, z=2.0) == 72.0
    assert pdl.value_and_grad(product, 1)(2.0, 3.0, z=2.0) == (144.0, 96.0)
    assert pdl.jacobian(product)(2.0, y=3.0) == 9.0
    assert pdl.grad(lambda x, *rest, **named: x * len(rest) * len(named))(1.0, 2, "a", b=None) == 2.0


def test_other_arguments_may_be_anything():
    def f(name, x, table, flag, n):
        return table[name] * x * n if flag else None

    assert pdl.grad(f, 1)("a", 3.0, {"a": 2.0}, True, 4) == 8.0


def test_the_name_and_docstring_stay():
    assert pdl.grad(product).__name__ == "product"
    assert pdl.jacobian(product).__wrapped__ is product


def test_a_loss_that_is_not_a_function_of_its_arguments():
    value, slopes = pdl.value_and_grad(lambda x, y: 4.0, (0, 1))(2.0, A)
    assert value == 4.0
    assert slopes[0] == 0.0
    assert type(slopes[0]) is float
    np.testing.assert_array_equal(slopes[1], np.zeros(3))
    np.testing.assert_array_equal(pdl.grad(lambda x: np.float64(1.0))(M), np.zeros((2, 3)))
    slope = pdl.grad(lambda x, y: x * 2, 1)(1.0, np.ones(2, np.complex64))
    assert slope.dtype == np.complex64
    np.testing.assert_array_equal(slope, 0)


def test_a_function_that_returns_its_argument():
    assert pdl.value_and_grad(lambda x: x)(3.0) == (3.0, 1.0)
    value, slope = pdl.value_and_grad(lambda x: x)(np.array(3.0, np.float32))
    assert value == 3.0
    assert slope.shape == ()
    assert slope.dtype == np.float32
    out, pullback = pdl.vjp(lambda x, y: (y, x, y), A, M)
    np.testing.assert_array_equal(out[0], M)
    slopes = pullback((M, A, 2 * M))
    np.testing.assert_array_equal(slopes[0], A)
    np.testing.assert_array_equal(slopes[1], 3 * M)


# --- pytrees ------------------------------------------------------------------------------------------------


def tree_loss(tree):
    leaves = []

    def walk(node):
        if isinstance(node, dict):
            for name in node:
                walk(node[name])
        elif dataclasses.is_dataclass(node):
            for f in dataclasses.fields(node):
                walk(getattr(node, f.name))
        elif isinstance(node, tuple | list):
            for part in node:
                walk(part)
        elif node is not None:
            leaves.append(node)

    walk(tree)
    return sum(((k + 1) * np.sum(leaf * leaf) for k, leaf in enumerate(leaves)), 0.0), leaves


TREES = {
    "tuple": (2.0, A),
    "list": [A, 3.0, M],
    "dict": {"b": A, "a": 1.5},
    "namedtuple": Pair(A, 2.5),
    "dataclass": Model(M, 0.5),
    "nested": {"layers": [Model(M, A), Model(A, 1.0)], "rest": (Pair(1.0, {"x": [A]}),)},
    "post init": Nested(Model(A, 2.0), {"k": M}),
    "ordered": collections.OrderedDict([("z", 1.0), ("a", A)]),
    "none": (None, A, [None, 2.0]),
    "empty parts": ((), [], {}, A),
    "0-d": {"x": np.array(2.0), "y": np.float32(3.0)},
}


@pytest.mark.parametrize("name", TREES)
def test_pytrees(name):
    tree = TREES[name]
    _, leaves = tree_loss(tree)
    value, slope = pdl.value_and_grad(lambda t: tree_loss(t)[0])(tree)
    assert value == pytest.approx(tree_loss(tree)[0])
    assert type(slope) is type(tree)
    _, found = tree_loss(slope)
    if isinstance(tree, dict):
        assert list(slope) == list(tree)
    assert len(found) == len(leaves)
    for k, (got, leaf) in enumerate(zip(found, leaves, strict=True)):
        assert type(got) is type(leaf)
        np.testing.assert_allclose(got, 2 * (k + 1) * leaf)
    out, pullback = pdl.vjp(lambda t: t, tree)
    assert type(out) is type(tree)
    for got, leaf in zip(tree_loss(pullback(tree)[0])[1], leaves, strict=True):
        np.testing.assert_array_equal(got, leaf)
    out, pushed = pdl.jvp(lambda t: t, (tree,), (tree,))
    for got, leaf in zip(tree_loss(pushed)[1], leaves, strict=True):
        np.testing.assert_array_equal(got, leaf)
    curvature = pdl.hvp(lambda t: tree_loss(t)[0], (tree,), (tree,))[0]
    for k, (got, leaf) in enumerate(zip(tree_loss(curvature)[1], leaves, strict=True)):
        np.testing.assert_allclose(got, 2 * (k + 1) * leaf)


@pytest.mark.parametrize("tree", [(), [], {}, None, ((), [None])])
def test_empty_pytrees(tree):
    assert pdl.value_and_grad(lambda t: 2.0)(tree) == (2.0, tree)
    out, pullback = pdl.vjp(lambda t: (t, 1.0), tree)
    assert out == (tree, 1.0)
    assert pullback((tree, 1.0)) == (tree,)
    assert pdl.jvp(lambda t: t, (tree,), (tree,)) == (tree, tree)


def test_vjp_of_a_function_without_arguments():
    out, pullback = pdl.vjp(lambda: 3.0)
    assert out == 3.0
    assert pullback(1.0) == ()


def test_leaves_shared_in_a_tree():
    slope = pdl.grad(lambda t: (t[0] * t[1]).sum())([A, A])
    np.testing.assert_array_equal(slope[0], A)
    np.testing.assert_array_equal(slope[1], A)
    assert not np.shares_memory(slope[0], slope[1])


# --- has_aux ------------------------------------------------------------------------------------------------


def test_aux():
    def f(x, y):
        return x * y, {"inner": (x * 2, y), "text": "a", "none": None, "many": [np.stack([x, y])], "n": 3}

    slope, aux = pdl.grad(f, has_aux=True)(3.0, 5.0)
    assert slope == 5.0
    assert aux["inner"] == (6.0, 5.0)
    assert type(aux["inner"][0]) is float
    assert (aux["text"], aux["none"], aux["n"]) == ("a", None, 3)
    np.testing.assert_array_equal(aux["many"][0], [3.0, 5.0])
    assert type(aux["many"][0]) is np.ndarray
    (value, again), slopes = pdl.value_and_grad(f, (0, 1), has_aux=True)(3.0, 5.0)
    assert (value, slopes) == (15.0, (5.0, 3.0))
    assert again["inner"] == (6.0, 5.0)


def test_aux_of_an_outer_differentiation():
    def outer(x):
        slope, aux = pdl.grad(lambda y: (x * y * y, (y * 3, x)), has_aux=True)(x)
        assert isinstance(aux[0], Dual)
        return slope * aux[0] * aux[1]  # 2 x^2 * 3 x * x

    assert pdl.grad(outer)(2.0) == 6 * 4 * 8.0


def test_aux_that_is_missing():
    for f in (lambda x: x, lambda x: (x, x, x), lambda x: [x, x]):
        with pytest.raises(ParadualTypeError, match="value, aux"):
            pdl.grad(f, has_aux=True)(1.0)


# --- value_and_grad -----------------------------------------------------------------------------------------


def test_minimize():
    from scipy.optimize import minimize, rosen

    calls = []

    def f(x):
        calls.append(1)
        return (100 * (x[1:] - x[:-1] ** 2) ** 2).sum() + ((1 - x[:-1]) ** 2).sum()

    found = minimize(pdl.value_and_grad(f), np.array([-1.2, 1.0, 0.5]), jac=True, method="BFGS")
    assert found.success
    np.testing.assert_allclose(found.x, 1.0, atol=1e-5)
    assert len(calls) == found.nfev
    assert f(A) == pytest.approx(rosen(A))
    newton = minimize(
        f,
        np.array([-1.2, 1.0, 0.5]),
        jac=pdl.grad(f),
        hessp=lambda x, v: pdl.hvp(f, x, v),
        method="Newton-CG",
    )
    np.testing.assert_allclose(newton.x, 1.0, atol=1e-4)


# --- vjp ----------------------------------------------------------------------------------------------------


def smooth(x, m):
    return {"a": np.tanh(m @ x), "b": np.exp(x).sum() * m}


def test_pullback_many_times_and_linear():
    out, pullback = pdl.vjp(smooth, A, M)
    rng = np.random.default_rng(0)
    draw = lambda: {name: rng.standard_normal(part.shape) for name, part in out.items()}  # noqa: E731
    one, two = draw(), draw()
    first, second = pullback(one), pullback(two)
    both = pullback({name: 2 * one[name] - 3 * two[name] for name in one})
    for k in range(2):
        np.testing.assert_allclose(both[k], 2 * first[k] - 3 * second[k], rtol=1e-12, atol=1e-12)
        np.testing.assert_array_equal(pullback(one)[k], first[k])
    _, pushed = pdl.jvp(smooth, (A, M), (A, M))
    expected = sum((one[name] * pushed[name]).sum() for name in one)
    assert (first[0] * A).sum() + (first[1] * M).sum() == pytest.approx(expected)


def parallel(x, m):
    left, right = pdl.par(lambda: np.tanh(m @ x), lambda: pdl.map(lambda row: np.exp(row * x).sum(), m))
    return left.sum() * np.stack(right)


@pytest.mark.parametrize("f", [lambda x, m: np.tanh(m @ x) * np.exp(x).sum(), parallel], ids=["plain", "par"])
def test_pullback_from_many_threads(f):
    _, pullback = pdl.vjp(f, A, M)
    seeds = [np.array([1.0, k]) for k in range(8)]
    wanted = [pullback(seed) for seed in seeds]
    got: dict = {}
    barrier = threading.Barrier(8)

    def body(k):
        barrier.wait()
        got[k] = [pullback(seeds[k]) for _ in range(20)]

    threads = [threading.Thread(target=body, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for k in range(8):
        for slopes in got[k]:
            for a, b in zip(slopes, wanted[k], strict=True):
                np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("f", [smooth, parallel])
def test_pullbacks_pickle_into_another_process(f, tmp_path):
    _, pullback = pdl.vjp(f, A, M)
    seed = {"a": np.ones(2), "b": M} if f is smooth else np.array([1.0, -2.0])
    wanted = pullback(seed)
    for a, b in zip(pickle.loads(pickle.dumps(pullback))(seed), wanted, strict=True):
        np.testing.assert_array_equal(a, b)
    (tmp_path / "in").write_bytes(pickle.dumps((pullback, seed)))
    program = (
        "import pickle, sys\n"
        "pullback, seed = pickle.load(open(sys.argv[1], 'rb'))\n"
        "pickle.dump(pullback(seed), open(sys.argv[2], 'wb'))\n"
    )
    subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "in"), str(tmp_path / "out")], check=True, timeout=120
    )
    for a, b in zip(pickle.loads((tmp_path / "out").read_bytes()), wanted, strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_the_caller_writes_later_does_not_reach_the_pullback():
    x, m = A.copy(), M.copy()
    out, pullback = pdl.vjp(lambda a, b: (np.exp(a), b @ a, a * a), x, m)
    seed = (np.ones(3), np.ones(2), np.ones(3))
    wanted = pullback(seed)
    x[:] = 7.0
    m[:] = -7.0
    for a, b in zip(pullback(seed), wanted, strict=True):
        np.testing.assert_array_equal(a, b)
    for part in out:
        part -= 3.0  # a residual: out - target
    for a, b in zip(pullback(seed), wanted, strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_the_caller_writes_through_a_read_only_view():
    x = A.copy()
    view = x[:]
    view.flags.writeable = False
    _, pullback = pdl.vjp(lambda a: a * a, view)
    x[:] = 0.0
    np.testing.assert_array_equal(pullback(np.ones(3))[0], 2 * A)


def test_a_constant_that_is_written_later():
    c = np.ones(3)
    _, pullback = pdl.vjp(lambda a: a * c, A)
    c[:] = 0.0
    np.testing.assert_array_equal(pullback(np.ones(3))[0], np.ones(3))


def test_the_inputs_stay_as_they_are():
    x, m = A.copy(), M.copy()

    def f(a, b):
        a *= 2.0
        b += a
        a -= b.sum()
        return (a * b[0]).sum()

    def g(a, b):
        d = a * 2.0
        e = b + d
        return ((d - e.sum()) * e[0]).sum()

    for got, wanted in zip(pdl.grad(f, (0, 1))(x, m), pdl.grad(g, (0, 1))(A, M), strict=True):
        np.testing.assert_allclose(got, wanted)
    pdl.jvp(f, (x, m), (x, m))
    pdl.vjp(f, x, m)[1](1.0)
    pdl.hvp(f, (x, m), (x, m))
    np.testing.assert_array_equal(x, A)
    np.testing.assert_array_equal(m, M)


@pytest.mark.parametrize(
    ("cotangent", "error", "words"),
    [
        (np.ones(3), ParadualValueError, "structure"),
        ((np.ones(3),), ParadualValueError, "structure"),
        ((np.ones(3), 1.0, 1.0), ParadualValueError, "structure"),
        ([np.ones(3), 1.0], ParadualValueError, "structure"),
        ((np.ones(2), 1.0), ParadualValueError, r"\[0\].*shape \(2,\).*\(3,\)"),
        ((np.ones((3, 1)), 1.0), ParadualValueError, "shape"),
        ((1.0, 1.0), ParadualValueError, r"shape \(\)"),
        ((np.ones(3), np.ones(1)), ParadualValueError, r"\[1\].*shape \(1,\)"),
        ((np.ones(3) * 1j, 1.0), ParadualTypeError, "complex128"),
        ((np.ones(3), 1j), ParadualTypeError, "complex"),
        ((np.ones(3, np.longdouble), 1.0), ParadualTypeError, "cast it"),
        (("abc", 1.0), ParadualTypeError, "str"),
        ((None, 1.0), ParadualValueError, "structure"),
    ],
)
def test_cotangents_that_do_not_match(cotangent, error, words):
    _, pullback = pdl.vjp(lambda x: (x * 2, x.sum()), A)
    with pytest.raises(error, match=words):
        pullback(cotangent)
    np.testing.assert_array_equal(pullback((np.ones(3), 1.0))[0], 3 * np.ones(3))


def test_cotangents_that_cast():
    _, pullback = pdl.vjp(lambda x: (x * 2, x.sum()), A)
    for g in ((np.ones(3, int), 1), (np.ones(3, np.float32), np.float32(1)), (np.ones(3, bool), True)):
        (slope,) = pullback(g)
        assert slope.dtype == np.float64
        np.testing.assert_array_equal(slope, 3.0)
    _, pullback = pdl.vjp(lambda x: x * 2, A.astype(np.float32))
    with pytest.raises(ParadualTypeError, match="float32"):
        pullback(np.ones(3))


# --- jvp ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tangent", "error", "words"),
    [
        (((A, A),), ParadualValueError, "structure"),
        ((), ParadualValueError, "structure"),
        ((A, A), ParadualValueError, "structure"),
        ((None,), ParadualValueError, "structure"),
        ((np.ones(2),), ParadualValueError, "shape"),
        ((1.0,), ParadualValueError, "shape"),
        ((A * 1j,), ParadualTypeError, "complex128"),
    ],
)
def test_tangents_that_do_not_match(tangent, error, words):
    with pytest.raises(error, match=words):
        pdl.jvp(lambda x: x * 2, (A,), tangent)


def test_jvp_results():
    out, t = pdl.jvp(lambda x, y: (x * y, 3.0, np.zeros(2), x > 0, "s"), (A, 2.0), (np.ones(3), 0.0))
    np.testing.assert_array_equal(out[0], 2 * A)
    np.testing.assert_array_equal(t[0], 2.0)
    assert t[1] == 0.0
    np.testing.assert_array_equal(t[2], 0.0)
    np.testing.assert_array_equal(out[3], A > 0)
    np.testing.assert_array_equal(t[3], 0)
    assert pdl.jvp(lambda x: x * x, 3.0, 1.0) == (9.0, 6.0)
    assert pdl.jvp(lambda x: x * x, [3.0], [2.0]) == (9.0, 12.0)
    out, t = pdl.jvp(lambda x: x * 2, (A.astype(np.float32),), (np.ones(3, np.float32),))
    assert out.dtype == t.dtype == np.float32


def test_jvp_tangents_of_python_floats_are_python_floats():
    for f in (lambda x: x + 1, lambda x: x * x, lambda x: 2.0**x, lambda x: x % 2, abs, lambda x: x):
        out, t = pdl.jvp(f, (1.25,), (1.0,))
        assert type(out) is float
        assert type(t) is float


def test_jvp_gives_arrays_of_their_own():
    direction = np.ones(3)
    for f in (
        lambda x: x,
        lambda x: x + np.zeros((2, 3)),
        lambda x: np.broadcast_to(x, (2, 3)),
        lambda x: x.T,
    ):
        _, t = pdl.jvp(f, (A,), (direction,))
        assert t.flags.writeable
        assert not np.shares_memory(t, direction)


@pytest.mark.parametrize(
    ("start", "number"),
    [(0.5, 20_000), (np.float64(0.5), 3000), (np.array([0.5, 0.25]), 3000)],
    ids=["float", "float64", "array"],
)
def test_forward_mode_keeps_nothing(start, number):
    def steps(n):
        def f(x):
            for _ in range(n):
                x = x + np.sin(x)
            return x

        return f

    def peak(n):
        tracemalloc.start()
        try:
            pdl.jvp(steps(n), (start,), (start,))
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(10)
    few, many = peak(500), peak(number)
    assert many < few + 20_000


# --- jacobian, hessian, hvp ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "x", [0.7, np.float64(0.7), np.array(0.7), A, M, np.zeros((2, 0)), np.zeros(0)], ids=repr
)
@pytest.mark.parametrize(
    "f",
    [
        lambda x: x * x,
        lambda x: np.sum(np.sin(x)),
        lambda x: np.outer(np.cos(x), np.array([1.0, 2.0])),
        lambda x: np.concatenate([np.ravel(x), np.ravel(x * x)]),
        lambda x: np.ravel(x)[:0],
        lambda x: 2.5,
    ],
    ids=["square", "sum", "outer", "longer", "empty", "constant"],
)
def test_jacobian_modes_agree(f, x):
    out = f(x)
    jacobians = [pdl.jacobian(f, mode=mode)(x) for mode in ("auto", "reverse", "forward")]
    for j in jacobians:
        assert np.shape(j) == np.shape(out) + np.shape(x)
        np.testing.assert_allclose(j, jacobians[0], rtol=1e-14)
    flat = np.reshape(jacobians[0], (np.size(out), np.size(x)))
    for k in range(np.size(x)):
        step = np.zeros(np.size(x))
        step[k] = 1e-6
        step = np.reshape(step, np.shape(x))
        slope = (f(x + step) - np.asarray(f(x - step))) / 2e-6
        np.testing.assert_allclose(flat[:, k], np.ravel(slope), atol=1e-8)


@pytest.mark.parametrize("mode", ["auto", "reverse", "forward"])
def test_jacobian_of_pytrees(mode):
    def f(tree, y):
        return {"s": tree["a"].sum() * y, "v": (tree["a"] * tree["b"], y * tree["b"])}

    tree = {"a": A, "b": np.array(2.0)}
    by_tree, by_y = (pdl.jacobian(f, k, mode)(tree, 3.0) for k in (0, 1))
    np.testing.assert_allclose(by_tree["s"]["a"], 3 * np.ones(3))
    np.testing.assert_allclose(by_tree["s"]["b"], 0.0)
    np.testing.assert_allclose(by_tree["v"][0]["a"], 2 * np.eye(3))
    np.testing.assert_allclose(by_tree["v"][0]["b"], A)
    np.testing.assert_allclose(by_tree["v"][1]["b"], 3.0)
    np.testing.assert_allclose(by_y["s"], A.sum())
    np.testing.assert_allclose(by_y["v"][0], np.zeros(3))
    np.testing.assert_allclose(by_y["v"][1], 2.0)
    both = pdl.jacobian(f, (1, 0), mode)(tree, 3.0)
    np.testing.assert_allclose(both["v"][0][1]["a"], 2 * np.eye(3))
    np.testing.assert_allclose(both["v"][1][0], 2.0)


def test_jacobian_refuses_an_unknown_mode():
    with pytest.raises(ParadualValueError, match="'auto', 'reverse' or 'forward'"):
        pdl.jacobian(product, mode="backward")


def test_jacobian_of_float32():
    x = A.astype(np.float32)
    for mode in ("reverse", "forward"):
        for f in (lambda y: y * y, lambda y: y[:0]):
            j = pdl.jacobian(f, mode=mode)(x)
            assert j.dtype == np.float32


@pytest.mark.parametrize("mode", ["auto", "reverse", "forward"])
def test_jacobian_of_complex_functions(mode):
    z = np.array([1 + 2j, -0.5 + 0.3j])
    j = pdl.jacobian(lambda w: np.exp(w) * w[0], mode=mode)(z)
    np.testing.assert_allclose(j, np.diag(np.exp(z) * z[0]) + np.outer(np.exp(z), [1, 0]))
    j = pdl.jacobian(lambda w: np.abs(w) ** 2, mode=mode)(z)
    np.testing.assert_allclose(j, np.diag(2 * np.conj(z)), atol=1e-15)
    j = pdl.jacobian(lambda x: np.exp(1j * x), mode=mode)(A)
    np.testing.assert_allclose(j, np.diag(1j * np.exp(1j * A)), atol=1e-15)
    assert pdl.jacobian(lambda x: x * (1 + 2j), mode=mode)(3.0) == 1 + 2j
    assert pdl.jacobian(lambda w: w * w, mode=mode)(1 + 1j) == 2 + 2j
    with pytest.raises(ParadualValueError, match="holomorphic"):
        pdl.jacobian(lambda w: np.conj(w) * w, mode=mode)(z)


def test_hessian():
    def f(x):
        return np.exp(x[0] * x[1]) + x[2] ** 3 * x[0]

    a, b, c = A
    e = np.exp(a * b)
    wanted = [
        [b * b * e, e * (1 + a * b), 3 * c * c],
        [e * (1 + a * b), a * a * e, 0],
        [3 * c * c, 0, 6 * c * a],
    ]
    np.testing.assert_allclose(pdl.hessian(f)(A), wanted)
    for outer in ("reverse", "forward"):
        for inner in ("reverse", "forward"):
            got = pdl.jacobian(pdl.jacobian(f, mode=inner), mode=outer)(A)
            np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-12)
    for v in np.eye(3):
        np.testing.assert_allclose(pdl.hvp(f, A, v), wanted @ v, atol=1e-12)
        np.testing.assert_allclose(pdl.hvp(f, (A,), (v,))[0], wanted @ v, atol=1e-12)
        np.testing.assert_allclose(pdl.grad(lambda x, v=v: pdl.grad(f)(x) @ v)(A), wanted @ v, atol=1e-12)
    assert pdl.hessian(f)(A).shape == (3, 3)
    assert pdl.hessian(lambda x: (x**2).sum())(M).shape == (2, 3, 2, 3)
    assert pdl.hessian(lambda x: x**3)(2.0) == 12.0
    assert pdl.hessian(product, 1)(2.0, 3.0) == 4.0
    assert pdl.hvp(product, (2.0, 3.0), (0.0, 1.0)) == (6.0, 4.0)


def test_hessian_of_a_linear_function_and_a_constant():
    np.testing.assert_array_equal(pdl.hessian(lambda x: x.sum())(A), np.zeros((3, 3)))
    np.testing.assert_array_equal(pdl.hessian(lambda x: 1.0)(A), np.zeros((3, 3)))


# --- stop_gradient ------------------------------------------------------------------------------------------


def test_stop_gradient():
    assert pdl.grad(lambda x: x * pdl.stop_gradient(x * x))(3.0) == 9.0
    slope = pdl.grad(lambda t: (pdl.stop_gradient(t)["a"] * t["a"] * t["b"]).sum())({"a": A, "b": 2.0})
    np.testing.assert_array_equal(slope["a"], 2 * A)
    assert slope["b"] == A @ A
    assert pdl.stop_gradient(None) is None
    assert pdl.stop_gradient((1, "a", None)) == (1, "a", None)
    assert pdl.grad(pdl.grad(lambda x: x * x * pdl.stop_gradient(x)))(3.0) == 6.0
    assert pdl.jvp(lambda x: x * pdl.stop_gradient(x), (3.0,), (1.0,)) == (9.0, 3.0)


def test_stop_gradient_gives_an_array_of_its_own():
    def f(x):
        y = pdl.stop_gradient(x)
        assert type(y) is np.ndarray
        y[:] = 100.0
        z = np.exp(x)
        w = pdl.stop_gradient(z)
        w *= 0.0
        return (x * x).sum() + z.sum()

    x = A.copy()
    np.testing.assert_allclose(pdl.grad(f)(x), 2 * A + np.exp(A))
    np.testing.assert_array_equal(x, A)


# --- nesting ------------------------------------------------------------------------------------------------


def by_grad(f):
    return lambda x: pdl.grad(f)(x)


def by_vjp(f):
    def derivative(x):
        out, pullback = pdl.vjp(f, x)
        return pullback(out * 0.0 + 1.0)[0]

    return derivative


def by_jvp(f):
    def derivative(x):
        out, t = pdl.jvp(f, (x,), (1.0,))
        return t + out * 0.0

    return derivative


def by_jacobian(mode):
    return lambda f: pdl.jacobian(f, mode=mode)


TRANSFORMS = {
    "grad": by_grad,
    "vjp": by_vjp,
    "jvp": by_jvp,
    "reverse": by_jacobian("reverse"),
    "forward": by_jacobian("forward"),
}


@pytest.mark.parametrize("order", list(itertools.product(TRANSFORMS, repeat=2)), ids="-".join)
def test_second_order_in_every_order(order):
    def f(x):
        return np.sin(x) * x**3 / (x + 2.0)

    derivative = f
    for name in order:
        derivative = TRANSFORMS[name](derivative)
    h = 1e-4
    wanted = (f(1.3 + h) - 2 * f(1.3) + f(1.3 - h)) / h**2
    assert derivative(1.3) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("order", list(itertools.product(["grad", "vjp", "jvp"], repeat=3)), ids="-".join)
@pytest.mark.parametrize("kind", [float, np.float64, lambda x: np.array(x)], ids=["float", "float64", "0-d"])
def test_third_order_in_every_order(order, kind):
    def f(x):
        return x**4 * np.exp(2 * x)

    derivative = f
    for name in order:
        derivative = TRANSFORMS[name](derivative)
    x = 0.7
    wanted = np.exp(2 * x) * (8 * x**4 + 48 * x**3 + 72 * x**2 + 24 * x)
    assert derivative(kind(x)) == pytest.approx(wanted, rel=1e-12)


def test_high_order():
    derivative = np.exp
    for k in range(5):
        derivative = TRANSFORMS[["grad", "jvp"][k % 2]](derivative)
    assert derivative(0.3) == pytest.approx(math.exp(0.3))


def test_third_order_of_arrays():
    def f(x):
        return (x**4).sum() * x[0]

    hessian = pdl.jacobian(pdl.hessian(f))(A)
    forward = pdl.jacobian(pdl.jacobian(pdl.grad(f), mode="forward"), mode="forward")(A)
    np.testing.assert_allclose(hessian, forward, rtol=1e-12)
    assert hessian[0, 0, 0] == pytest.approx(60 * A[0] ** 2)
    assert hessian[1, 1, 0] == pytest.approx(12 * A[1] ** 2)
    assert hessian[1, 1, 1] == pytest.approx(24 * A[1] * A[0])
    assert hessian[1, 2, 0] == 0


@pytest.mark.parametrize("outer", ["grad", "vjp", "jvp"])
@pytest.mark.parametrize("inner", ["grad", "vjp", "jvp"])
def test_perturbation_confusion(outer, inner):
    # d/dx [x * d/dy (x + y)] = 1, and not 2
    assert TRANSFORMS[outer](lambda x: x * TRANSFORMS[inner](lambda y: x + y)(1.0))(1.0) == 1.0
    # d/dx [x * d/dy (x * y * y)] at y = x: d/dx [2 x^3] = 6 x^2
    assert TRANSFORMS[outer](lambda x: x * TRANSFORMS[inner](lambda y: x * y * y)(x))(3.0) == 54.0
    # the inner function ignores its own argument
    assert TRANSFORMS[outer](lambda x: x * x + TRANSFORMS[inner](lambda y: x * x)(x))(3.0) == 6.0


def test_a_pullback_of_an_outer_differentiation_called_in_an_inner_one():
    def outer(x):
        out, pullback = pdl.vjp(lambda y: np.sin(y) * x, x)  # the cotangent of y: g x cos(x)
        return pdl.grad(lambda z: pullback(z * z)[0] * out)(x)  # 2 z x cos(x) x sin(x)

    def closed(x):
        return 2 * x**3 * math.cos(x) * math.sin(x)

    x = 0.8
    assert outer(x) == pytest.approx(closed(x))
    slope = (closed(x + 1e-6) - closed(x - 1e-6)) / 2e-6
    assert pdl.grad(outer)(x) == pytest.approx(slope, rel=1e-8)
    assert pdl.jvp(outer, (x,), (1.0,))[1] == pytest.approx(slope, rel=1e-8)


def test_the_cotangent_depends_on_the_outer_input():
    def outer(x):
        _, pullback = pdl.vjp(lambda y: y**3, A)
        return pullback(x * x)[0].sum()

    np.testing.assert_allclose(pdl.grad(outer)(A), 6 * A**3)
    _, t = pdl.jvp(lambda x: pdl.jvp(lambda y: y**3, (A,), (x * x,))[1].sum(), (A,), (np.ones(3),))
    assert t == pytest.approx((6 * A**3).sum())


def test_an_implicit_function():
    def root(a):  # Newton's method for x^3 = a
        x = 1.0
        for _ in range(40):
            x = x - (x**3 - a) / pdl.grad(lambda y: y**3 - a)(x)
        return x

    assert pdl.grad(root)(8.0) == pytest.approx(1 / 12)
    assert pdl.grad(pdl.grad(root))(8.0) == pytest.approx(-2 / 9 * 8 ** (-5 / 3))
    assert pdl.jvp(root, (8.0,), (1.0,))[1] == pytest.approx(1 / 12)


# --- refusals -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("f", "words"),
    [
        (lambda x: None, "NoneType"),
        (lambda x: (x, x), "tuple"),
        (lambda x: [x], "list"),
        (lambda x: {"a": x}, "dict"),
        (lambda x: "text", "str"),
        (lambda x: object(), "object"),
        (lambda x: x * np.ones(2), r"shape \(2,\).*sum it"),
        (lambda x: np.reshape(x, (1,)), r"shape \(1,\)"),
        (lambda x: np.ones((0,)), r"shape \(0,\)"),
        (lambda x: x * 1j, "complex"),
        (lambda x: 1j, "complex"),
    ],
)
def test_a_loss_of_a_wrong_kind(f, words):
    for transform in (pdl.grad, pdl.value_and_grad):
        with pytest.raises(ParadualError, match=words) as error:
            transform(f)(2.0)
        assert isinstance(error.value, TypeError | ValueError)
    assert pdl.grad(lambda x: x * x)(2.0) == 4.0


@pytest.mark.parametrize("f", [lambda x: np.argmax(np.stack([x, x])), lambda x: x > 1, lambda x: int(x)])
def test_a_loss_of_integer_type(f):
    with pytest.raises(ParadualTypeError, match="float"):
        pdl.grad(f)(2.0)


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (1, r"int.*1\.0 instead of 1"),
        (True, "bool"),
        (np.int64(1), "int64"),
        (np.arange(3), r"int64.*astype\(float\)"),
        (np.ones(3, np.uint8), "uint8"),
        (np.ones(3, bool), "bool"),
        (np.array(["a"]), "argnums"),
        (np.array([1.0, None], dtype=object), "object"),
        (np.array(["2020-01-01"], "M8[D]"), "argnums"),
        ("text", "str"),
        (object(), "object"),
        ([1.0, 2], r"\[1\].*int"),
        ({"a": {"b": 3}}, r"\['a'\]\['b'\]"),
        (np.ma.array([1.0, 2.0], mask=[True, False]), "np.where"),
        ((A, np.ma.array([1.0])), "MaskedArray"),
    ],
)
def test_inputs_of_a_wrong_kind(x, words):
    for call in (
        lambda: pdl.grad(lambda y: 1.0)(x),
        lambda: pdl.vjp(lambda y: 1.0, x),
        lambda: pdl.jvp(lambda y: 1.0, (x,), (x,)),
        lambda: pdl.hvp(lambda y: 1.0, (x,), (x,)),
    ):
        with pytest.raises(ParadualTypeError, match=words):
            call()


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
def test_a_matrix_is_refused():
    with pytest.raises(ParadualTypeError, match=r"matrix.*plain"):
        pdl.grad(lambda y: 1.0)(np.asmatrix(M))


def test_the_message_names_the_argument():
    with pytest.raises(ParadualTypeError, match=r"argument \[?1"):
        pdl.grad(lambda x, y: x * y, argnums=1)(1.0, 3)


# --- nothing is left behind ---------------------------------------------------------------------------------


class Stop(BaseException):
    pass


@pytest.mark.parametrize("error", [ValueError, Stop])
def test_after_an_exception(error):
    def fail(x):
        inner = pdl.grad(lambda y: y * x)(x)
        pdl.par(lambda: inner, lambda: 1)
        raise error("stop")

    transforms = [
        lambda: pdl.grad(fail)(1.0),
        lambda: pdl.vjp(fail, 1.0),
        lambda: pdl.jvp(fail, (1.0,), (1.0,)),
        lambda: pdl.jacobian(fail)(1.0),
        lambda: pdl.hessian(fail)(1.0),
        lambda: pdl.grad(lambda x: pdl.grad(fail)(x))(1.0),
        lambda: pdl.grad(lambda x: pdl.jvp(fail, (x,), (x,))[1])(1.0),
        lambda: pdl.grad(lambda x: pdl.checkpoint(fail)(x))(1.0),
    ]
    for transform in transforms:
        with pytest.raises(error, match="stop"):
            transform()
        assert ACTIVE.get() == (OUTSIDE,)
        assert pdl.grad(lambda x: x * x)(3.0) == 6.0


def test_an_exception_inside_that_is_caught():
    def f(x):
        def inner(y):
            z = y * x
            raise KeyError(z.value)

        with pytest.raises(KeyError):
            pdl.grad(inner)(x)
        return x * x * x

    assert pdl.grad(f)(2.0) == 12.0
    assert pdl.grad(pdl.grad(f))(2.0) == 12.0


def test_an_exception_in_the_sweep():
    f = pdl.custom_vjp(lambda x: x)
    f.defvjp(lambda x: (x, None), lambda res, g: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        pdl.grad(lambda x: pdl.grad(f)(x) * x)(1.0)
    assert ACTIVE.get() == (OUTSIDE,)


# --- complex numbers ----------------------------------------------------------------------------------------


def test_the_complex_convention():
    z = np.array([0.3 + 0.7j, -1.1 + 0.2j])

    def f(w):
        return (np.abs(w) ** 2 * np.real(w)).sum() + np.imag(w[0] * w[1] ** 2)

    slope = pdl.grad(f)(z)
    assert slope.dtype == complex
    for k in range(2):
        unit = np.zeros(2, complex)
        unit[k] = 1e-6
        dx = (f(z + unit) - f(z - unit)) / 2e-6
        dy = (f(z + 1j * unit) - f(z - 1j * unit)) / 2e-6
        assert slope[k] == pytest.approx(dx - 1j * dy, abs=1e-8)
    for direction in (unit, 1j * unit):
        _, t = pdl.jvp(f, (z,), (direction,))
        assert t == pytest.approx(np.real(slope @ direction))
    assert pdl.grad(lambda w: (w * w).real)(1 + 2j) == 2 * (1 + 2j)


# --- threads ------------------------------------------------------------------------------------------------


def test_differentiations_in_many_threads_do_not_meet():
    wrong = []
    barrier = threading.Barrier(8)

    def body(seed):
        barrier.wait()
        for k in range(250):
            x = 0.1 + ((seed * 250 + k) % 17) / 10
            value = pdl.grad(lambda a: a * pdl.grad(lambda b: a * b**3)(a))(x)  # 3 a^4
            slope = pdl.jvp(pdl.grad(lambda a: (a * a * np.array([1.0, 2.0])).sum()), (x,), (1.0,))
            if abs(value - 12 * x**3) > 1e-9 or abs(slope[1] - 6.0) > 1e-9:
                wrong.append((seed, k, value, slope))
        if ACTIVE.get() != (OUTSIDE,):
            wrong.append(seed)

    threads = [threading.Thread(target=body, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
