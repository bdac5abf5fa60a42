"""Ops whose lowering is other ops (norm, logsumexp, …) become those."""

from __future__ import annotations

from gradc.graph import Graph
from gradc.node import Node, derived_from
from gradc.passes.rules import mapped


def expand(graph: Graph) -> Graph:
    """Replace each node whose record has ``expand`` by that expansion; derivative rules no longer apply afterwards."""

    def expanded(node: Node, args: tuple[Node, ...]) -> Node | None:
        if node.op.expand is None:
            return None
        with derived_from(node.where, node.replica):
            return node.op.expand(*args, **node.attrs)

    return mapped(graph, expanded)
