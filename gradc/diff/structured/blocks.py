"""Jacobians block by block: one for each pair of an output and an input.

Enters: a graph and some of its inputs.  Leaves: nodes on the graph's inputs.  A linearised function is simplified by
the caller's pass before it is applied to the identity: equal residuals become one node, so that terms which share them
can be told.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from gradc.diff.batching import batch, one_hot_basis
from gradc.diff.loops import shown
from gradc.diff.modes import pull_back, push_forward
from gradc.diff.structured.push import matrices
from gradc.graph import Graph
from gradc.interpret import computed_from, topological
from gradc.node import Node, dsl
from gradc.ops.record import HOLDERS, Kind
from gradc.trace import new_input

Mode = Literal["auto", "forward", "reverse"]
Simplified = Callable[[Graph], Graph]
#: blocks[output][input], None where an output does not depend on an input
Blocks = list[list[Node | None]]


def jacobian_blocks(
    graph: Graph, inputs: Sequence[Node], simplified: Simplified, mode: Mode = "auto", lanes: bool = False
) -> Blocks:
    """∂output/∂input for each pair, of shape output.shape + input.shape; "auto" linearises on the smaller side.

    With ``lanes`` a program of single numbers, which has no structure, takes all directions side by side.
    """
    ins, outs = sum(x.size for x in inputs), sum(y.size for y in graph.outputs)
    forward = mode == "forward" or (mode == "auto" and ins <= outs)
    return (_by_columns if forward else _by_rows)(graph, inputs, simplified, lanes)


def _by_columns(graph: Graph, inputs: Sequence[Node], simplified: Simplified, lanes: bool) -> Blocks:
    """One push of the identity per input."""
    columns = []
    for x in inputs:
        tangent = new_input(x.aval, "tangent")
        pushed = push_forward(graph.outputs, [x], [tangent])
        columns.append(_matrices(graph, pushed, tangent, simplified, False, lanes))
    return [[column[i] for column in columns] for i in range(len(graph.outputs))]


def _by_rows(graph: Graph, inputs: Sequence[Node], simplified: Simplified, lanes: bool) -> Blocks:
    """One pull of the identity per output; what comes out is the matrix of the transposed map."""
    rows = []
    for y in graph.outputs:
        cotangent = new_input(y.aval, "cotangent")
        pulled = pull_back([y], inputs, [cotangent])
        rows.append(_matrices(graph, pulled, cotangent, simplified, True, lanes))
    return rows


def _matrices(
    graph: Graph, linear: Sequence[Node | None], leaf: Node, simplified: Simplified, transposed: bool, lanes: bool
) -> list[Node | None]:
    """The matrix of each node that is linear in ``leaf``."""
    present = tuple(s for s in linear if s is not None)
    ready = simplified(Graph((*graph.inputs, leaf), present))
    side_by_side = lanes and leaf.size > 1 and _single_numbers(ready.outputs, leaf)
    found = iter((_in_lanes if side_by_side else matrices)(ready.outputs, leaf, transposed))
    return [next(found) if s is not None else None for s in linear]


def _single_numbers(outputs: Sequence[Node], leaf: Node) -> bool:
    """Whether everything that is computed from ``leaf`` is one number, but for its pieces and their collection."""
    dependent = computed_from([leaf], topological(outputs)) - {leaf}
    plain = (Kind.VIEW, Kind.FOLD)
    return not any(n.op.kind in HOLDERS or (n.size > 1 and n.op.kind not in plain) for n in dependent)


def _in_lanes(outputs: Sequence[Node], leaf: Node, transposed: bool) -> list[Node]:
    """The matrices of ``outputs``, all unit directions of ``leaf`` along one axis.

    What does not read ``leaf`` after all, for it came through an array of no element, is 0 as linear functions are.
    """
    pairs = batch(outputs, {leaf: one_hot_basis(leaf.aval)}, leaf.size)
    found = [shown(y, has, leaf.size) for y, has in pairs]
    if transposed:
        return [dsl.reshape(m, leaf.shape + y.shape) for m, y in zip(found, outputs, strict=True)]
    return [dsl.reshape(dsl.moveaxis(m, 0, -1), y.shape + leaf.shape) for m, y in zip(found, outputs, strict=True)]
