"""gradc: trace NumPy code, differentiate it, read the gradient, prove it, compile it.

>>> import gradc as gc, numpy as np
>>> f = lambda w, x: (np.tanh(x @ w) ** 2).sum()
>>> g = gc.jit(gc.grad(f))
>>> g(np.ones((3, 2)), np.ones((4, 3))).shape
(3, 2)

Start with README.md; `docs/rooms.md` shows how the package is laid out.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import gradc.startup  # noqa: F401 - before anything else
from gradc import nn, numpy, special, tree
from gradc.api.batched import vmap
from gradc.api.compiled import Jitted, compile, jit, train_step
from gradc.api.control import checkpoint, cond, fori_loop, scan, while_loop
from gradc.api.custom import CustomDerivative, custom_derivative
from gradc.api.derivatives import grad, hvp, jvp, stop_gradient, value_and_grad, vjp
from gradc.api.explain import explain
from gradc.api.jacobian import hessian, jacobian
from gradc.errors import (
    ArtefactWarning,
    CacheWarning,
    CheckpointError,
    CheckpointMismatchError,
    CheckpointWarning,
    CompileError,
    DeviceError,
    DivergedError,
    DTypeError,
    FrozenWarning,
    GradcError,
    IndexingError,
    KeyReuseWarning,
    LinAlgError,
    NumericalError,
    PromotionWarning,
    ShapeError,
    StorageError,
    TraceError,
    VerificationError,
    VersionsWarning,
)
from gradc.explain import assume
from gradc.graph import Graph
from gradc.node import Node
from gradc.trace import spec, trace
from gradc.version import __version__

if TYPE_CHECKING:
    from gradc import linalg, optim, random, scipy, sparse, training
    from gradc.api.curvature import Curvature, fisher, gauss_newton
    from gradc.api.executable import Executable
    from gradc.api.kronecker import KroneckerFactors, kfac_factors
    from gradc.api.precision import MixedPrecision, MixedPrecisionState, mixed_precision
    from gradc.convergence import Diagnosis, ErrorBound, Landscape, diagnose, error_bound, landscape
    from gradc.diagnostics.forecast import Forecast, forecast
    from gradc.diagnostics.report import HealthReport, health
    from gradc.diagnostics.trace import trace_nans
    from gradc.explain import Derivation
    from gradc.oracle import Report, check_gradients
    from gradc.solve import (
        FixedPoint,
        Integration,
        LinearSolution,
        Minimum,
        Root,
        custom_linear_solve,
        custom_root,
        fixed_point,
        linear_solve,
        minimize,
        odeint,
        root,
    )
    from gradc.sparse import sparse_hessian, sparse_jacobian
    from gradc.storage import Checkpoints, Restored, load, load_metadata, save
    from gradc.training import History, Run, fit

#: Names that are loaded on first use, by the module that holds them: together they would take three times as long as
#: ``import gradc``.
_LATER = {
    **dict.fromkeys(("Curvature", "fisher", "gauss_newton"), "gradc.api.curvature"),
    **dict.fromkeys(
        ("Diagnosis", "ErrorBound", "Landscape", "diagnose", "error_bound", "landscape"), "gradc.convergence"
    ),
    **dict.fromkeys(("Derivation",), "gradc.explain"),
    **dict.fromkeys(("Executable",), "gradc.api.executable"),
    **dict.fromkeys(("Forecast", "forecast"), "gradc.diagnostics.forecast"),
    **dict.fromkeys(("HealthReport", "health"), "gradc.diagnostics.report"),
    **dict.fromkeys(("trace_nans",), "gradc.diagnostics.trace"),
    **dict.fromkeys(("KroneckerFactors", "kfac_factors"), "gradc.api.kronecker"),
    **dict.fromkeys(("MixedPrecision", "MixedPrecisionState", "mixed_precision"), "gradc.api.precision"),
    **dict.fromkeys(("History", "Run", "fit"), "gradc.training"),
    **dict.fromkeys(("Report", "check_gradients"), "gradc.oracle"),
    **dict.fromkeys(("Checkpoints", "Restored", "load", "load_metadata", "save"), "gradc.storage"),
    **dict.fromkeys(("sparse_hessian", "sparse_jacobian"), "gradc.sparse"),
    **dict.fromkeys(
        ("FixedPoint", "Integration", "LinearSolution", "Minimum", "Root", "custom_linear_solve", "custom_root",
         "fixed_point", "linear_solve", "minimize", "odeint", "root"), "gradc.solve"),
}  # fmt: skip
#: Namespaces that are loaded on first use.
_SPACES = ("data", "linalg", "optim", "random", "scipy", "sparse", "training")


def __getattr__(name: str) -> Any:
    if name in _SPACES:
        return import_module(f"gradc.{name}")
    if name not in _LATER:
        raise AttributeError(f"module 'gradc' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_LATER[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


__all__ = [
    "ArtefactWarning",
    "CacheWarning",
    "CheckpointError",
    "CheckpointMismatchError",
    "CheckpointWarning",
    "Checkpoints",
    "CompileError",
    "Curvature",
    "CustomDerivative",
    "DTypeError",
    "Derivation",
    "DeviceError",
    "Diagnosis",
    "DivergedError",
    "ErrorBound",
    "Executable",
    "FixedPoint",
    "Forecast",
    "FrozenWarning",
    "GradcError",
    "Graph",
    "HealthReport",
    "History",
    "IndexingError",
    "Integration",
    "Jitted",
    "KeyReuseWarning",
    "KroneckerFactors",
    "Landscape",
    "LinAlgError",
    "LinearSolution",
    "Minimum",
    "MixedPrecision",
    "MixedPrecisionState",
    "Node",
    "NumericalError",
    "PromotionWarning",
    "Report",
    "Restored",
    "Root",
    "Run",
    "ShapeError",
    "StorageError",
    "TraceError",
    "VerificationError",
    "VersionsWarning",
    "__version__",
    "assume",
    "check_gradients",
    "checkpoint",
    "compile",
    "cond",
    "custom_derivative",
    "custom_linear_solve",
    "custom_root",
    "data",
    "diagnose",
    "error_bound",
    "explain",
    "fisher",
    "fit",
    "fixed_point",
    "forecast",
    "fori_loop",
    "gauss_newton",
    "grad",
    "health",
    "hessian",
    "hvp",
    "jacobian",
    "jit",
    "jvp",
    "kfac_factors",
    "landscape",
    "linalg",
    "linear_solve",
    "load",
    "load_metadata",
    "minimize",
    "mixed_precision",
    "nn",
    "numpy",
    "odeint",
    "optim",
    "random",
    "root",
    "save",
    "scan",
    "scipy",
    "sparse",
    "sparse_hessian",
    "sparse_jacobian",
    "spec",
    "special",
    "stop_gradient",
    "trace",
    "trace_nans",
    "train_step",
    "training",
    "tree",
    "value_and_grad",
    "vjp",
    "vmap",
    "while_loop",
]
