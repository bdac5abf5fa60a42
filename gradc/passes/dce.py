"""Dead-code elimination: names of nodes that no output needs are dropped with them."""

from __future__ import annotations

from gradc.graph import Graph


def dce(graph: Graph) -> Graph:
    """Keep inputs and what the outputs need.

    Nodes are held by their users, so an unused node is gone already; what is left to drop are the names that kept it.
    """
    live = graph.index
    names = {node: name for node, name in graph.names.items() if node in live}
    return graph.replace(names=names) if len(names) < len(graph.names) else graph
