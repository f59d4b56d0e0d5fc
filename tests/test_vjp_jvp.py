"""`vjp` and `jvp`: pullbacks, cotangents and tangents."""

import pickle
import subprocess
import sys
import threading
import tracemalloc

import numpy as np
import pytest
from helpers import A, M, nothing_is_left_behind  # noqa: F401

import paradual as pdl
from paradual.errors import ParadualTypeError, ParadualValueError

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
