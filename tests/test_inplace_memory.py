"""Written arrays together with views, checkpoints, tasks, custom functions and outer differentiations."""

import numpy as np

import paradual as pdl
from paradual.testing import check_grads

M = np.linspace(0.3, 2.0, 12).reshape(3, 4)


def total(y):
    return np.sum(np.sin(y) * np.linspace(0.5, 1.5, y.size).reshape(y.shape))


def test_fortran_root_second_order():
    def f(x):
        y = x.T * 1.0
        fl = y.T.ravel()
        fl[1] = x[0, 0] ** 2
        y[1, 1] *= fl[4]
        return total(y)

    check_grads(f, (M,), order=2)


def test_reads_of_read_only_views():
    def f(x):
        y = x[:, :3] * 1.0
        y[0, 0] = 2.0
        d = np.diagonal(y)
        b = np.broadcast_to(y[0], (3, 3))
        y[1, 1] = d[1] * d[0] * b[1, 2]
        return total(y) + d[1] * d[2] + np.sum(b[:, 1]) ** 2

    check_grads(f, (M,), order=2)


def test_stale_view_is_returned():
    def f(x):
        y = x * 1.0
        v = y[1:]
        y[1, 0] = x[0, 0] ** 2
        return v

    check_grads(f, (M,), order=2)
    pdl.grad(lambda x: (np.sum(x), f(x)), has_aux=True)(M)


def test_checkpoint_and_tasks_with_stale_views():
    def f(x, wrap):
        y = x * 1.0
        v = y[1:]
        y[1, 0] = x[0, 0] ** 2
        return wrap(lambda: total(y * 1.1) * np.sum(v**3) * total(np.sin(v)))()

    np.testing.assert_allclose(
        pdl.grad(lambda x: f(x, pdl.checkpoint))(M), pdl.grad(lambda x: f(x, lambda g: g))(M)
    )

    def g(x):
        y = x * 1.0
        v = y[1:]
        y[1, 0] = x[0, 0] ** 2
        ts = [pdl.submit(lambda k=k: np.sum(v**k)) for k in range(1, 5)]
        return sum(t.result() for t in reversed(ts)) * total(v)

    for which in ("inline", "threads"):
        with pdl.executor(which):
            check_grads(g, (M,), order=1)


def test_custom_residuals():
    @pdl.custom_vjp
    def cube(x):
        return x**3

    cube.defvjp(lambda x: (x**3, x), lambda r, g: (3 * r * r * g,))

    def f(x, cube):
        y = x * 1.0
        y[0, 0] = x[0, 1] ** 2
        z = cube(y)
        y[:] = 0.0
        y[1] = 3.0
        return np.sum(z) + total(y)

    np.testing.assert_allclose(pdl.grad(lambda x: f(x, cube))(M), pdl.grad(lambda x: f(x, lambda y: y**3))(M))


def test_large_written_array_under_an_outer_tape():
    x0 = np.linspace(0.5, 1.5, 5000)
    t = np.ones(5000)

    def f(x):
        y = np.zeros_like(x)
        y[1] = x[1]
        y[3] = 2.0 * x[3]
        z = np.sin(y) * x
        y[3] = 0.0
        return np.sum(z) + np.sum(y * x)

    np.testing.assert_allclose(pdl.grad(lambda x: pdl.jvp(f, (x,), (t,))[1])(x0), pdl.hvp(f, (x0,), (t,))[0])


def test_methods():
    for write in (lambda y: y.T.copy().reshape(-1), lambda y: y.conj(), lambda y: y.reshape(-1, copy=True)):

        def f(x, write=write):
            y = x * 1.0
            r = write(y)
            r[0] = 5.0
            return total(y) + total(r)

        check_grads(f, (M,), order=1)
        np.testing.assert_allclose(pdl.vjp(f, M)[0], f(M))
