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
    """exp(x − (log Σe + m)) = e·(1/Σe) where e = exp(x − m): no larger than 1, for m is a maximum or 0.

    Both are NaN in a row of −∞, and where x is +∞; a row with +∞ may be NaN where it would be 0.
    """
    (difference,) = node.args
    if difference.op.name != "subtract" or difference.args[1].op.name != "broadcast" or not node.aval.is_float:
        return None
    x, shown = difference.args
    (total,) = shown.args
    if total.op.name != "add" or total.args[0].op.name != "log":
        return None
    (denominator,), top = total.args[0].args, total.args[1]
    if denominator.op.name != "sum" or not _is_shifted(denominator.args[0], x, top, shown):
        return None
    return denominator.args[0] * OPS["broadcast"].make((dsl.reciprocal(denominator),), **shown.attrs)


def _is_shifted(e: Node, x: Node, top: Node, like: Node) -> bool:
    """Whether ``e`` is exp(x − top), ``top`` being shown as ``like`` is."""
    if e.op.name != "exp" or e.args[0].op.name != "subtract":
        return False
    first, second = e.args[0].args
    return first is x and second.op.name == "broadcast" and second.args[0] is top and second.attrs == like.attrs


_RULES: Rules = {"exp": (_from_denominator,)}
