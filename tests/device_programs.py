"""Programs for any device: what the tests run on the stand-in for one, and on a real one.

Each takes arrays and returns a number; they use everything that is not a single rule.
"""

import dask
import dask.array as da
import numpy as np

import paradual as pdl

X = np.array([0.7, -1.3, 2.1, 0.4])
M = np.array([[0.4, -1.2, 0.9], [1.5, 0.3, -0.7], [0.2, 0.8, 2.4]])


def smooth(x):
    return np.sum(np.sin(x) * x**2)


def filled(x):
    y = np.zeros_like(x)
    for k in range(4):
        y[k] = x[k] * np.sin(x[k - 1])
    y += x
    y[1:] *= x[:-1]
    y[::2] -= 1.0
    return np.sum(y * x)


def made_like(x):
    y = np.zeros(4, like=x)
    z = np.ones((2, 2), like=x)
    y[:] = x
    return np.sum(y * x) * np.sum(z)


def written_twice(x):
    y = np.zeros_like(x)
    y[[0, 1, 1]] = x[:3] * 2
    return np.sum(y**2 * x)


def written_twice_2d(x):
    y = np.outer(x, x)
    y[[0, 1, 0]] = x  # rows
    y[[0, 0], 1] = x[:2] ** 2
    return np.sum(y**2 * x)


def added_at(x):
    y = np.zeros_like(x)
    np.add.at(y, [0, 1, 1], x[:3] * 2)
    return np.sum(y**2 * x)


def masked(x):
    y = x.copy()
    y[x > 0.5] *= 2
    return np.sum(y**3)


def viewed(x):
    y = x.copy()
    flat = y.reshape(2, 2)
    flat[0] = flat[1] * 2
    return np.sum(y * x)


def through_flat(x):
    y = np.outer(x, x)
    y.flat[1:6:2] = x[:3]
    return y.flat[3] * np.sum(y * y)


def selected(x):
    return np.sum(np.where(x > 0, np.sqrt(np.maximum(x, 0.0)), 0.0))


def augmented(x):
    total = np.sum(x) * 0.0
    for value in x:
        total += value * value
    return total


def gathered(x):
    return np.sum(x[[0, 0, 2]] ** 3) + np.sum(np.abs((x + 1j * x)[[1, 1]]) ** 2)


def out(x):
    y = np.zeros_like(x)
    np.sin(x, out=y)
    return np.sum(y * x)


def algebra(x):
    a = np.outer(x, x) + 3.0 * np.diag(np.ones_like(x))
    return np.linalg.slogdet(a)[1] + np.sum(np.linalg.solve(a, x)) + np.einsum("ij,i,j->", a, x, x)


def transformed(x):
    return np.sum(np.abs(np.fft.fft(x)) ** 2) + np.sum(np.abs(np.fft.rfft(x)))


def stopped(x):
    return pdl.stop_gradient(np.sum(x)) * np.sum(x * x)


def recomputed(x):
    step = pdl.checkpoint(lambda y: np.sin(y) * y)
    for _ in range(3):
        x = step(x)
    return np.sum(x**2)


@pdl.custom_vjp
def clipped(x):
    return x * 1.0


clipped.defvjp(lambda x: (x * 1.0, x), lambda x, g: (np.clip(g, -1, 1) * np.cos(x),))


@pdl.custom_jvp
def cube(x):
    return x**3


@cube.defjvp
def cube_jvp(primals, tangents):
    (x,), (t,) = primals, tangents
    return cube(x), 3 * x * x * t


def custom(x):
    return np.sum(100 * clipped(x)) + np.sum(cube(x))


def tree(x, level=3):
    if level == 0:
        return np.sin(x) * x
    left, right = pdl.par(lambda: tree(x / 2, level - 1), lambda: tree(x * x, level - 1))
    return left + right * x


def forked(x):
    return np.sum(tree(x))


def mapped(x):
    return sum(pdl.map(lambda k: np.sum(np.sin(k * x)), range(40)))


def submitted(x):
    task = pdl.submit(np.sin, x)
    return np.sum(pdl.submit(np.multiply, task, x).result() * task.result())


def nested(x):
    return np.sum(pdl.grad(smooth)(x) ** 2) + pdl.jvp(smooth, (x,), (x,))[1]


SERIAL = [
    *(smooth, filled, made_like, written_twice, written_twice_2d, added_at, masked, viewed, through_flat),
    *(selected, augmented, gathered, out, algebra, transformed, stopped, recomputed, custom, nested),
]
PARALLEL = [forked, mapped, submitted]
# what the program itself sends or asks for: lists as indices, masks
SENDS = {written_twice: 1, written_twice_2d: 2, added_at: 1, gathered: 2}


# --- Dask arrays: functions of two of them, on the host or on a device


def logistic(a, w):
    return da.log1p(da.exp(-(a @ w))).mean()


def sine(a, w):
    return da.sin(a @ w).sum()


def shaped(a, w):
    b = da.concatenate([a[:6] * w, a[6:].T[::-1].T * 2.0])
    return (b.sum(axis=0) * w).sum() + (b.max(axis=1) ** 2).mean()


def contracted(a, w):
    return da.einsum("ij,j->i", a, w).std() + da.tensordot(a, a, axes=([0], [0])).sum()


COLLECTIONS = [logistic, sine, shaped, contracted]


def collections(move):
    """Two Dask arrays on the host and on a device."""
    rng = np.random.default_rng(3)
    a, w = rng.standard_normal((12, 3)), rng.standard_normal(3)
    a, w = da.from_array(a, chunks=(4, 3)), da.from_array(w, chunks=3)
    return (a, w), (a.map_blocks(move), w.map_blocks(move))


def computed(*parts, scheduler="sync"):
    return dask.compute(*parts, scheduler=scheduler)
