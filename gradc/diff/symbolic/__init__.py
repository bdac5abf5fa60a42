"""Symbolic mode: derivatives by SymPy from the ops' meanings and index formulas; shares no rule with the other modes.

Start reading at `chain.symbolic_pull_back`.
"""

from __future__ import annotations

from gradc.diff.symbolic.chain import symbolic_pull_back

__all__ = ["symbolic_pull_back"]
