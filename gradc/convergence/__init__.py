"""Convergence: the landscape that a loss has where training stands, how a run converges, and what rounding does to it.

Start reading at `landscape`; `diagnose` reads losses alone, `error_bound` a function at a point.
"""

from __future__ import annotations

from gradc.convergence.landscapes import Landscape, landscape

__all__ = ["Landscape", "landscape"]
