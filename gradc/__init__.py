"""gradc: trace NumPy code, differentiate it, read the gradient, prove it, compile it."""

from __future__ import annotations

from gradc import nn, numpy, optim, special
from gradc.api.compiled import Jitted, compile, jit, train_step
from gradc.api.derivatives import grad, hessian, hvp, jacobian, jvp, stop_gradient, value_and_grad, vjp, vmap
from gradc.api.executable import Executable
from gradc.aval import spec
from gradc.errors import (
    CompileError,
    DTypeError,
    GradcError,
    IndexingError,
    PromotionWarning,
    ShapeError,
    StorageError,
    TraceError,
)
from gradc.graph import Graph
from gradc.node import Node
from gradc.trace import trace
from gradc.version import __version__
