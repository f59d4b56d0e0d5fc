"""The method as a page of executable mathematics, for scalars; and an oracle for the tests.

Read it from top to bottom: it derives, in three steps, what `paradual.tape` does.  The source is
Smeding and Vakar, "Parallel dual-numbers reverse AD", Journal of Functional Programming 35, e16, 2025.

A *codual* pairs a value x with a *backpropagator*: the linear function that takes a cotangent g of x to
the cotangents of the inputs.  If z = f(x, y), the chain rule says

    back_z(g)  =  back_x(g * df/dx)  +  back_y(g * df/dy)

so each operation makes the next backpropagator from those of its operands, and the partial derivatives
are numbers that are known by then.  The three methods below differ in one thing only: what stands for
a backpropagator.

1. `Naive`: a function, called at every use of its value.  Right, but a value used twice is called
   twice, and so are its operands, each time: exponential.
2. `Memoised`: linear factoring, back(g) + back(h) = back(g + h).  A call is not made but *staged*:
   noted down under the number of the node, and added to what is staged there already.  Numbers count up,
   so an operand has a smaller one than any of its users: from the largest to the smallest, each
   backpropagator is called once, on a sum that is complete.  Linear.
3. `Taped`: every backpropagator has the same body, "stage g * partial for each operand", so it need not
   be a function.  What is left of it is its free variables, the pairs (operand, partial): a record in a
   list, the tape; and resolving the staged calls is a sweep over that list, backwards.

>>> def doubled(n):
...     def f(x):
...         for _ in range(n):
...             x = x + x
...         return x
...     return f
>>> for n in (4, 8, 12):
...     print([grad(doubled(n), 1.0, method=m)[2] for m in METHODS])
[15, 4, 4]
[255, 8, 8]
[4095, 12, 12]

The same program text runs on floats, on these numbers and on paradual's own duals if it calls NumPy's
functions, because ``np.sin(x)`` of an object that NumPy does not know is ``x.sin()``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

Back = Any  # what stands for a backpropagator; each method has its own
Edge = tuple[Back, float]  # of an operand: its backpropagator and the partial derivative
Vector = tuple[float, ...]  # one cotangent for each input


# --- the three methods --------------------------------------------------------------------------------


class Naive:
    """A backpropagator is a function from a cotangent to those of the inputs."""

    def __init__(self, inputs: int) -> None:
        self.inputs = inputs
        self.calls = 0

    def leaf(self, k: int) -> Back:
        """The backpropagator of an input: g goes to its own entry."""
        return lambda g: tuple(g if i == k else 0.0 for i in range(self.inputs))

    def node(self, *edges: Edge) -> Back:
        """The backpropagator of an operation: the chain rule."""

        def back(g: float) -> Vector:
            self.calls += 1
            total: Vector = (0.0,) * self.inputs
            for operand, partial in edges:
                total = tuple(a + b for a, b in zip(total, operand(g * partial), strict=True))
            return total

        return back

    def gradient(self, back: Back) -> Vector:
        """What the backpropagator of the result makes of the cotangent 1."""
        result: Vector = back(1.0)
        return result


class Memoised:
    """A backpropagator is a function with a number, and it stages the calls of its operands."""

    def __init__(self, inputs: int) -> None:
        self.inputs = inputs
        self.calls = 0
        self.size = inputs  # the next number; inputs have the first ones
        self.staged: dict[int, tuple[Callable[[float], None] | None, float]] = {}

    def leaf(self, k: int) -> Back:
        """An input calls nobody: what is staged under its number is its gradient."""
        return k, None

    def node(self, *edges: Edge) -> Back:
        """The chain rule, with calls that are staged."""

        def back(g: float) -> None:
            self.calls += 1
            for operand, partial in edges:
                self.stage(operand, g * partial)

        number, self.size = self.size, self.size + 1
        return number, back

    def stage(self, operand: Back, g: float) -> None:
        """Linear factoring: one call on the sum, instead of one for each term."""
        number, back = operand
        self.staged[number] = back, self.staged.get(number, (back, 0.0))[1] + g

    def gradient(self, back: Back) -> Vector:
        """Resolve the staged calls, the largest number first."""
        self.staged = {}
        self.stage(back, 1.0)
        for number in reversed(range(self.inputs, self.size)):
            call, g = self.staged.pop(number, (None, 0.0))
            if call is not None:
                call(g)
        return tuple(self.staged.get(k, (None, 0.0))[1] for k in range(self.inputs))


class Taped:
    """A backpropagator is a number: the index of its record on a tape."""

    def __init__(self, inputs: int) -> None:
        self.inputs = inputs
        self.calls = 0
        self.tape: list[tuple[Edge, ...]] = [()] * inputs

    def leaf(self, k: int) -> Back:
        """The records of the inputs are empty, and come first."""
        return k

    def node(self, *edges: Edge) -> Back:
        """Record the free variables of the backpropagator."""
        self.tape.append(edges)
        return len(self.tape) - 1

    def gradient(self, back: Back) -> Vector:
        """Sweep the tape, the last record first."""
        g = [0.0] * len(self.tape)
        g[back] = 1.0
        for i in reversed(range(self.inputs, len(g))):
            self.calls += 1
            for operand, partial in self.tape[i]:
                g[operand] += g[i] * partial
        return tuple(g[: self.inputs])


METHODS: dict[str, type[Naive | Memoised | Taped]] = {"naive": Naive, "memoised": Memoised, "tape": Taped}


def grad(f: Callable[..., Any], *xs: float, method: str = "tape") -> tuple[float, Vector, int]:
    """Evaluate a function of floats, and its gradient.

    Parameters
    ----------
    f : callable
        Takes numbers and returns one.
    *xs : float
        Where to evaluate it.
    method : str
        ``"naive"``, ``"memoised"`` or ``"tape"``.

    Returns
    -------
    tuple
        The value, the gradient, and how many backpropagators of operations were called (on the tape:
        how many records were visited).

    Examples
    --------
    >>> grad(lambda x, y: x * y + x, 3.0, 4.0)
    (15.0, (5.0, 3.0), 2)
    >>> grad(lambda x: exp(sin(x)), 0.0, method="naive")
    (1.0, (1.0,), 2)
    """
    run = METHODS[method](len(xs))
    out = f(*(Codual(float(x), run.leaf(k), run) for k, x in enumerate(xs)))
    if not isinstance(out, Codual):  # a constant
        return float(out), (0.0,) * len(xs), 0
    return out.value, run.gradient(out.back), run.calls


# --- the numbers: each line is a value and its partial derivatives ------------------------------------


class Codual:
    """A value and what stands for its backpropagator; a float among the operands is a constant."""

    __slots__ = ("back", "run", "value")
    __hash__ = None  # type: ignore[assignment]  # `==` compares values, and they are not the identity

    def __init__(self, value: float, back: Back, run: Naive | Memoised | Taped) -> None:
        self.value, self.back, self.run = value, back, run

    def _unary(self, value: float, d: float) -> Codual:
        return Codual(value, self.run.node((self.back, d)), self.run)

    def _binary(self, value: float, d: float, other: Any, e: float) -> Codual:
        if not isinstance(other, Codual):
            return self._unary(value, d)
        return Codual(value, self.run.node((self.back, d), (other.back, e)), self.run)

    def __repr__(self) -> str:
        return f"Codual({self.value!r})"

    def __add__(self, other: Any) -> Codual:
        return self._binary(self.value + primal(other), 1.0, other, 1.0)

    def __sub__(self, other: Any) -> Codual:
        return self._binary(self.value - primal(other), 1.0, other, -1.0)

    def __mul__(self, other: Any) -> Codual:
        return self._binary(self.value * primal(other), primal(other), other, self.value)

    def __truediv__(self, other: Any) -> Codual:
        y = primal(other)
        return self._binary(self.value / y, 1 / y, other, -self.value / (y * y))

    def __pow__(self, power: float) -> Codual:
        if isinstance(power, Codual):
            return NotImplemented  # only constant powers
        return self._unary(self.value**power, power * self.value ** (power - 1) if power else 0.0)

    __radd__ = __add__
    __rmul__ = __mul__

    def __rsub__(self, other: float) -> Codual:
        return self._unary(other - self.value, -1.0)

    def __rtruediv__(self, other: float) -> Codual:
        return self._unary(other / self.value, -other / (self.value * self.value))

    def __neg__(self) -> Codual:
        return self._unary(-self.value, -1.0)

    def __abs__(self) -> Codual:
        return self._unary(abs(self.value), float((self.value > 0) - (self.value < 0)))

    def sin(self) -> Codual:
        return self._unary(math.sin(self.value), math.cos(self.value))

    def cos(self) -> Codual:
        return self._unary(math.cos(self.value), -math.sin(self.value))

    def exp(self) -> Codual:
        return self._unary(math.exp(self.value), math.exp(self.value))

    def log(self) -> Codual:
        return self._unary(math.log(self.value), 1 / self.value)

    def sqrt(self) -> Codual:
        return self._unary(math.sqrt(self.value), 0.5 / math.sqrt(self.value))

    def tanh(self) -> Codual:
        return self._unary(math.tanh(self.value), 1 - math.tanh(self.value) ** 2)

    # Control flow looks at values only, and is not differentiated.

    def __lt__(self, other: Any) -> bool:
        return bool(self.value < primal(other))

    def __le__(self, other: Any) -> bool:
        return bool(self.value <= primal(other))

    def __gt__(self, other: Any) -> bool:
        return bool(self.value > primal(other))

    def __ge__(self, other: Any) -> bool:
        return bool(self.value >= primal(other))

    def __eq__(self, other: object) -> bool:
        return bool(self.value == primal(other))

    def __bool__(self) -> bool:
        return self.value != 0


def primal(x: Any) -> Any:
    """The value of a codual; anything else as it is."""
    return x.value if isinstance(x, Codual) else x


def sin(x: Any) -> Any:
    """The sine of a float or a codual; `cos`, `exp`, `log`, `sqrt`, `tanh` likewise."""
    return x.sin() if isinstance(x, Codual) else math.sin(x)


def cos(x: Any) -> Any:
    return x.cos() if isinstance(x, Codual) else math.cos(x)


def exp(x: Any) -> Any:
    return x.exp() if isinstance(x, Codual) else math.exp(x)


def log(x: Any) -> Any:
    return x.log() if isinstance(x, Codual) else math.log(x)


def sqrt(x: Any) -> Any:
    return x.sqrt() if isinstance(x, Codual) else math.sqrt(x)


def tanh(x: Any) -> Any:
    return x.tanh() if isinstance(x, Codual) else math.tanh(x)
