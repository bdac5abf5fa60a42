"""Jacobians block by block: one for each pair of an output and an input.

Enters: a graph and some of its inputs.  Leaves: nodes on the graph's inputs.  A linearised function is simplified by
the caller's pass before it is applied to the identity: equal residuals become one node, so that terms which share them
can be told.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from gradc.diff.forward import push_forward
from gradc.diff.reverse import pull_back
from gradc.diff.structured.push import matrices
from gradc.graph import Graph
from gradc.node import Node
from gradc.trace import new_input

Mode = Literal["auto", "forward", "reverse"]
Simplified = Callable[[Graph], Graph]
#: blocks[output][input], None where an output does not depend on an input
Blocks = list[list[Node | None]]


def jacobian_blocks(graph: Graph, inputs: Sequence[Node], simplified: Simplified, mode: Mode = "auto") -> Blocks:
    """∂output/∂input for each pair, of shape output.shape + input.shape; "auto" linearises on the smaller side."""
    ins, outs = sum(x.size for x in inputs), sum(y.size for y in graph.outputs)
    forward = mode == "forward" or (mode == "auto" and ins <= outs)
    return (_by_columns if forward else _by_rows)(graph, inputs, simplified)


def _by_columns(graph: Graph, inputs: Sequence[Node], simplified: Simplified) -> Blocks:
    """One push of the identity per input."""
    columns = []
    for x in inputs:
        tangent = new_input(x.aval, "tangent")
        columns.append(_matrices(graph, push_forward(graph.outputs, [x], [tangent]), tangent, simplified, False))
    return [[column[i] for column in columns] for i in range(len(graph.outputs))]


def _by_rows(graph: Graph, inputs: Sequence[Node], simplified: Simplified) -> Blocks:
    """One pull of the identity per output; what comes out is the matrix of the transposed map."""
    rows = []
    for y in graph.outputs:
        cotangent = new_input(y.aval, "cotangent")
        rows.append(_matrices(graph, pull_back([y], inputs, [cotangent]), cotangent, simplified, True))
    return rows


def _matrices(
    graph: Graph, linear: Sequence[Node | None], leaf: Node, simplified: Simplified, transposed: bool
) -> list[Node | None]:
    """The matrix of each node that is linear in ``leaf``."""
    present = tuple(s for s in linear if s is not None)
    ready = simplified(Graph((*graph.inputs, leaf), present))
    found = iter(matrices(ready.outputs, leaf, transposed))
    return [next(found) if s is not None else None for s in linear]
