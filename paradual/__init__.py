"""Derivatives of parallel NumPy programs.

>>> import numpy as np
>>> import paradual as pdl
>>> pdl.grad(lambda x: np.sum(np.sin(x)))(np.zeros(2))
array([1., 1.])
"""

from paradual import errors, operators, rules, testing  # operators: what a dual can do
from paradual.custom import checkpoint, custom_jvp, custom_vjp
from paradual.device import to_device
from paradual.diagnostics import profile, visualize
from paradual.equations import fixed_point, minimize, root
from paradual.estimators import forward_gradient
from paradual.graphs import gradients, tangents, value_and_gradients
from paradual.interop import from_jax, from_torch
from paradual.jacobians import hessian, jacobian
from paradual.linear import linear_solve
from paradual.loops import loop
from paradual.tasks import Task, executor, map, par, submit
from paradual.tracing import trace
from paradual.transforms import grad, hvp, jvp, stop_gradient, value_and_grad, vjp

__version__ = "0.1.0"
__all__ = [
    "Task",
    "checkpoint",
    "custom_jvp",
    "custom_vjp",
    "errors",
    "executor",
    "fixed_point",
    "forward_gradient",
    "from_jax",
    "from_torch",
    "grad",
    "gradients",
    "hessian",
    "hvp",
    "jacobian",
    "jvp",
    "linear_solve",
    "loop",
    "map",
    "minimize",
    "par",
    "profile",
    "root",
    "rules",
    "stop_gradient",
    "submit",
    "tangents",
    "testing",
    "to_device",
    "trace",
    "value_and_grad",
    "value_and_gradients",
    "visualize",
    "vjp",
]
del operators
