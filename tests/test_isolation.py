"""Exceptions and other threads leave nothing behind in a differentiation."""

import threading

import numpy as np
import pytest
from helpers import nothing_is_left_behind  # noqa: F401

import paradual as pdl
from paradual.tape import ACTIVE, OUTSIDE

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
