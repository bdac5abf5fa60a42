"""Values had from others that are computed anyway.

Enters: a lowered graph in which equal work is one node.  Leaves: the same function with fewer dear operations.
Start reading at `share`.
"""

from __future__ import annotations

from gradc.graph import Graph
from gradc.node import OPS, Node, dsl
from gradc.passes.rules import Rules, apply_rules


def share(graph: Graph) -> Graph:
    """Softmax takes the exponentials that its denominator adds up, instead of others of the same elements."""
    return apply_rules(graph, _RULES)


def _from_denominator(node: Node) -> Node | None:
    """exp(x − log Σeˣ) = eˣ·(1/Σeˣ), where x is what remains after the maximum was subtracted."""
    (difference,) = node.args
    if difference.op.name != "subtract" or difference.args[1].op.name != "broadcast" or not node.aval.is_float:
        return None
    x, shown = difference.args
    (logarithm,) = shown.args
    if logarithm.op.name != "log" or logarithm.args[0].op.name != "sum":
        return None
    (denominator,) = logarithm.args
    (powers,) = denominator.args
    if powers.op.name != "exp" or powers.args[0] is not x:
        return None
    return powers * OPS["broadcast"].make((dsl.reciprocal(denominator),), **shown.attrs)


_RULES: Rules = {"exp": (_from_denominator,)}
