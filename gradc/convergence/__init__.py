"""Convergence: the landscape that a loss has where training stands, how a run converges, and what rounding does to it.

Start reading at `landscape`; `diagnose` reads a history.
"""

from __future__ import annotations

from gradc.convergence.diagnosis import Diagnosis, diagnose
from gradc.convergence.landscapes import Landscape, landscape
from gradc.convergence.rates import Rate

__all__ = ["Diagnosis", "Landscape", "Rate", "diagnose", "landscape"]
