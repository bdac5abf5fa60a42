"""The oracle: one gradient by derivations that share no rule, compared within their error bounds, the wrong node named.

Start reading at `check.check_gradients`.
"""

from __future__ import annotations

from gradc.oracle.check import check_gradients
from gradc.oracle.report import Finding, Report

__all__ = ["Finding", "Report", "check_gradients"]
