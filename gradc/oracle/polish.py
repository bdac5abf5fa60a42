"""Solutions of equations to rounding: what a search left undone is no error of a derivative.

Enters: a graph with nodes whose results solve equations (`gradc.ops.implicit`).  Leaves: the graph in which each body
ends with steps of Newton's method, by the linear system that the node's derivative solves.  A search stops where its
tolerance lets it; a difference quotient divides that by its step, and the derivative at what was found is not the one
at the solution.  Where a step is not finite, for the search failed or the solution is a multiple one, what was found
stands.
Invariant: each node keeps its results, its rule, and so its derivatives.  Start reading at `polished`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gradc.graph import Graph
from gradc.node import Node, dsl
from gradc.ops.control import by_results, every_node, item, result_count
from gradc.ops.implicit import ImplicitRule, LinearRule, LinearSolver, RootRule, implicit_rule_of
from gradc.passes import apply
from gradc.passes.rules import mapped

#: steps after the search; each squares the relative error of a root, and multiplies that of a linear system by its own
STEPS = 2


def polished(graph: Graph, kinds: tuple[type[ImplicitRule], ...] = (RootRule, LinearRule)) -> Graph:
    """``graph`` with solutions of equations of these ``kinds`` to rounding."""

    def results(node: Node, args: tuple[Node, ...]) -> Sequence[Node] | None:
        rule = implicit_rule_of(node)
        if rule is None or not isinstance(rule, kinds):
            return None
        body = _to_rounding(node.attrs["body"], rule)
        made = Node(node.op, args, {**node.attrs, "body": body}, node.aval, node.where, replica=node.replica)
        return [item(made, k) for k in range(result_count(made))]

    return apply(lambda whole: mapped(whole, by_results(results)), graph)


def searches(graph: Graph) -> bool:
    """Whether a solution of an equation is found somewhere in ``graph``."""
    return any(implicit_rule_of(node) is not None for node in every_node(graph))


def _to_rounding(body: Graph, rule: ImplicitRule) -> Graph:
    found = list(body.outputs[: rule.count])
    step = _step(body, rule)
    for _ in range(STEPS):
        nearer = [x - s for x, s in zip(found, step(found), strict=True)]
        found = [dsl.where(dsl.isfinite(y), y, x) for x, y in zip(found, nearer, strict=True)]
    return body.replace(outputs=(*found, *body.outputs[rule.count :]))


def _step(body: Graph, rule: ImplicitRule) -> Callable[[Sequence[Node]], Sequence[Node]]:
    """How far x is from the solution: (∂f/∂x)⁻¹ f(x), or A⁻¹(Ax − b)."""
    consts = rule.consts_of(body.inputs)
    if isinstance(rule, RootRule):
        return lambda x: rule.tangent.solved([*consts, *x], rule.map.inlined([*consts, *x]))
    assert isinstance(rule, LinearRule)
    right, solver = body.inputs[len(consts) :], rule.again or LinearSolver(body, rule)
    return lambda x: solver.solved(consts, [y - b for y, b in zip(rule.map.inlined([*consts, *x]), right, strict=True)])
