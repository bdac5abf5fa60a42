"""Sums of narrow floats are taken in float32 and rounded once, however many numbers they have.

Enters: a graph.  Leaves: the same numbers, said in casts: a sum, product, contraction, running sum or scattered sum of
float16 or bfloat16 is that of its operands in float32, cast back.  Loops absorb the casts; what is left for later
stages to round is elementwise.  Start reading at `accumulate`.
"""

from __future__ import annotations

from gradc.aval import NARROW, computed_in
from gradc.graph import Graph
from gradc.node import Node, derived_from
from gradc.ops.elementwise import cast
from gradc.ops.record import Kind
from gradc.passes.rules import mapped

_SUMMING = (Kind.REDUCE, Kind.PREFIX, Kind.CONTRACT, Kind.FOLD)


def accumulate(graph: Graph) -> Graph:
    """Widen what adds or multiplies many narrow floats, and narrow its result."""
    return mapped(graph, _widened)


def is_narrow_sum(node: Node) -> bool:
    """Whether a node combines many narrow floats by arithmetic."""
    if node.dtype not in NARROW or node.op.exact:
        return False
    return node.op.kind in _SUMMING or (node.op.kind is Kind.SCATTER and node.attrs["how"] == "add")


def _widened(node: Node, args: tuple[Node, ...]) -> Node | None:
    if not is_narrow_sum(node):
        return None
    with derived_from(node.where, node.replica):
        wide = [cast(a, computed_in(a.dtype)) for a in args]
        return cast(node.op.make(wide, **node.attrs), node.dtype)
