"""Convergence: the landscape that a loss has where training stands, how a run converges, and what rounding does to it.

Start reading at `landscape`; `diagnose` reads a history, `error_bound` a function at a point.
"""

from __future__ import annotations

from gradc.convergence.diagnosis import Diagnosis, diagnose
from gradc.convergence.error_bounds import Contribution, ErrorBound, error_bound
from gradc.convergence.landscapes import Landscape, landscape
from gradc.convergence.rates import Rate

__all__ = [
    "Contribution", "Diagnosis", "ErrorBound", "Landscape", "Rate", "diagnose", "error_bound", "landscape",
]  # fmt: skip
