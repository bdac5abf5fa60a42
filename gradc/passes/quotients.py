"""Products with a reciprocal that nothing else needs become quotients."""

from __future__ import annotations

from gradc.graph import Graph
from gradc.node import Node, derived_from
from gradc.passes.rules import mapped
from gradc.passes.simplify import over_reciprocal


def quotients(graph: Graph) -> Graph:
    """x·(1/y) = x/y where 1/y is read once: one rounding and one instruction less.

    A reciprocal that is read more often stays, for a division costs several multiplications.
    """
    outputs = set(graph.outputs)

    def divided(node: Node, args: tuple[Node, ...]) -> Node | None:
        if node.op.name != "multiply" or any(len(graph.users[a]) > 1 or a in outputs for a in node.args if a.args):
            return None
        with derived_from(node.where, node.replica):
            return over_reciprocal(node if args is node.args else node.rebuilt(args, node.label))

    return mapped(graph, divided)
