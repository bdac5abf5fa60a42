"""Calls become what their body computes.

What a checkpoint computes again carries the call's `replica` number, part of every node's key: it is not merged with
the values of the first time, which may be gone by then.
"""

from __future__ import annotations

from collections.abc import Sequence

from gradc.graph import Graph, rewrite
from gradc.node import Node
from gradc.ops.control import bodies, by_results
from gradc.ops.record import LEAVES, Kind
from gradc.passes.rules import mapped


def inline(graph: Graph) -> Graph:
    """Write out every call, those inside calls too."""
    while any(node.op.kind is Kind.CALL for node in graph.nodes):
        graph = mapped(graph, by_results(_results))
    return graph


def _results(node: Node, args: tuple[Node, ...]) -> Sequence[Node] | None:
    if node.op.kind is not Kind.CALL:
        return None
    body, replica = bodies(node)["body"], node.replica
    operands = dict(zip(body.inputs, args, strict=True))
    if not replica:
        return body.inlined(args)

    def again(inner: Node, inner_args: tuple[Node, ...]) -> Node | None:
        if inner.op.kind in LEAVES:
            return None
        return Node(inner.op, inner_args, inner.attrs, inner.aval, inner.where, None, replica)

    return rewrite(body.outputs, again, operands)
