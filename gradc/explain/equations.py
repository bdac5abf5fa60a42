"""Linear systems as a reader writes them: what solves A x = b by products with A is A⁻¹b.

Enters: a graph with nodes whose results solve linear equations (`gradc.ops.implicit`).  Leaves: the graph with A, which
is the derivative of the products, and its inverse in their place, where x is one vector or one number.  What a search
tells besides stays a result of the search.  That a value is NaN where its search failed goes unsaid: a formula does not
tell where it has no value.
"""

from __future__ import annotations

from collections.abc import Sequence

from gradc.diff.structured import jacobian_blocks
from gradc.graph import Graph
from gradc.interpret import topological
from gradc.node import Node
from gradc.ops.control import by_results, item, result_count
from gradc.ops.factorisations.systems import solve
from gradc.ops.implicit import LinearRule, implicit_rule_of
from gradc.passes import LINEAR, failures_unsaid, run_passes
from gradc.passes.rules import mapped


def systems_to_read(graph: Graph) -> Graph:
    """Solutions of linear systems by the inverse of their matrix, as if every search succeeded."""
    graph = failures_unsaid(graph)
    if not any(isinstance(implicit_rule_of(node), LinearRule) for node in graph.nodes):
        return graph
    return mapped(graph, by_results(_results))


def _results(node: Node, args: tuple[Node, ...]) -> Sequence[Node] | None:
    rule = implicit_rule_of(node)
    if not isinstance(rule, LinearRule) or rule.count != 1 or args[-1].ndim > 1:
        return None
    matrix = _matrix(rule, args)
    if matrix is None:
        return None
    b = args[-1]
    x = solve(matrix, b[:, None])[:, 0] if b.ndim else b / matrix
    kept = node if args is node.args else node.rebuilt(args)
    return [x, *(item(kept, k) for k in range(1, result_count(node)))]


def _matrix(rule: LinearRule, args: Sequence[Node]) -> Node | None:
    """∂map/∂x over the operands; None where it is zero, or is not free of x."""
    x = rule.map.inputs[-1]
    ((found,),) = jacobian_blocks(rule.map, [x], lambda g: run_passes(g, LINEAR))
    if found is None or x in set(topological([found])):
        return None
    (matrix,) = rule.map.replace(outputs=(found,)).inlined([*rule.consts_of(args), args[-1]])
    return matrix
