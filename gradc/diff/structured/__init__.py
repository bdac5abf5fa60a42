"""The matrix of a linear graph: a structural identity pushed through it.

Enters: nodes that are linear in one leaf, a tangent or a cotangent.  Leaves: for each the array of all its partial
derivatives by that leaf.  The identity is a product of Kronecker deltas, never a dense array: contracting with it
renames an index, elementwise ops keep it, views move it, and it is written out where an op has no rule for it or where
it is still there in the result.  The normal form is that of `gradc.diff.structured.terms`: start reading there; then at
the rules in `rules` and `moves`.
"""

from __future__ import annotations

from gradc.diff.structured.blocks import Blocks, Mode, jacobian_blocks
from gradc.diff.structured.push import matrices

__all__ = ["Blocks", "Mode", "jacobian_blocks", "matrices"]
