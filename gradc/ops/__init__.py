"""Every op, one record each.  Importing this package fills `gradc.node.OPS`."""

from __future__ import annotations

from gradc.node import OPS
from gradc.ops import (
    arithmetic,
    contraction,
    control,
    counts,
    custom,
    error_functions,
    factorisations,
    formats,
    fused,
    gamma_draws,
    gammas,
    incomplete_gamma,
    indexing,
    integrals,
    leaves,
    randomness,
    reductions,
    slopes,
    sparse,
    transcendental,
    views,
    zetas,
)
from gradc.ops.record import Kind, Op, Sample

__all__ = [
    "OPS",
    "Kind",
    "Op",
    "Sample",
    "arithmetic",
    "contraction",
    "control",
    "counts",
    "custom",
    "error_functions",
    "factorisations",
    "formats",
    "fused",
    "gamma_draws",
    "gammas",
    "incomplete_gamma",
    "indexing",
    "integrals",
    "leaves",
    "randomness",
    "reductions",
    "slopes",
    "sparse",
    "transcendental",
    "views",
    "zetas",
]
