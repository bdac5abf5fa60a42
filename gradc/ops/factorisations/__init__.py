"""Factorisations of matrices, and what is made of them: ops of whole arrays.

Enters: matrices in the last two axes, leading axes in front.  Leaves: one array, or several that ``item`` nodes read.
Invariant: each op takes leading axes itself; what can fail says so by ``check`` (an error, or NaN).  Start reading at
`systems` for what a record holds, then `elimination` for one with several results.
"""

from __future__ import annotations

from gradc.ops.factorisations import determinants, elimination, functions, orthogonal, systems, triangular

__all__ = ["determinants", "elimination", "functions", "orthogonal", "systems", "triangular"]
