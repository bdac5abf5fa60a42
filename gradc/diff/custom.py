"""Derivatives given by the user: one rule, read by both modes and batched.

Enters: a ``custom`` node with tangents, cotangents or batch axes.  Leaves: tangents, cotangents, or a node whose rule
is batched too.  A rule is a linear map: in its own direction it is evaluated, in the other one transposed; either is a
mode applied to the rule's graph, so what is structurally zero stays absent.  As the rule is inlined where it is used,
it is differentiated again like everything else.
"""

from __future__ import annotations

from collections.abc import Sequence

from gradc.diff.loops import Batch, Maybe, Pull, Push, partner, shown, wide_leaf
from gradc.errors import TraceError
from gradc.graph import Graph
from gradc.interpret import topological
from gradc.node import OPS, Node, here
from gradc.ops.control import item
from gradc.ops.custom import DerivativeRule, RuleKind


def push_custom(node: Node, rule: DerivativeRule, tangents: Maybe, push: Push, pull: Pull) -> list[Node | None]:
    """The tangent of each result."""
    body = _body(node)
    found = _applied(node, rule, "jvp", [tangents[i] for i in _floats(body.inputs)], push, pull)
    tangent = dict(zip(_floats(body.outputs), found, strict=True))
    return [tangent.get(k) for k in range(len(body.outputs))]


def pull_custom(
    node: Node, rule: DerivativeRule, moves: Sequence[bool], cotangents: Maybe, push: Push, pull: Pull
) -> list[Node | None]:
    """The cotangent of each operand that moves."""
    body = _body(node)
    found = _applied(node, rule, "vjp", [cotangents[k] for k in _floats(body.outputs)], push, pull)
    cotangent = dict(zip(_floats(body.inputs), found, strict=True))
    return [cotangent.get(i) if m else None for i, m in enumerate(moves)]


def _body(node: Node) -> Graph:
    body: Graph = node.attrs["body"]
    return body


def _floats(nodes: Sequence[Node]) -> list[int]:
    """The places of those that have a tangent."""
    return [k for k, x in enumerate(nodes) if x.aval.is_float]


def _applied(
    node: Node, rule: DerivativeRule, direction: RuleKind, given: Maybe, push: Push, pull: Pull
) -> list[Node | None]:
    """The rule's linear map, or its transpose, on what is given; what it gives for each float of the other side."""
    graph, count = rule.graph, len(node.args)
    primals, linear = graph.inputs[:count], graph.inputs[count:]
    ends = linear if rule.kind == direction else graph.outputs
    present = [(x, g) for x, g in zip(ends, given, strict=True) if g is not None]
    along, values = [x for x, _ in present], [g for _, g in present]
    leaves = [partner(x, "d") for x in along]
    found = push(graph.outputs, along, leaves) if rule.kind == direction else pull(along, list(linear), leaves)
    known = [y for y in found if y is not None]
    _refuse_nonlinear(known, linear, rule)
    inlined = iter(graph.replace(inputs=(*primals, *leaves), outputs=tuple(known)).inlined([*node.args, *values]))
    return [None if y is None else next(inlined) for y in found]


def _refuse_nonlinear(found: Sequence[Node], linear: Sequence[Node], rule: DerivativeRule) -> None:
    """The derivative of a linear map does not read its argument."""
    what = "tangents" if rule.kind == "jvp" else "cotangents"
    if any(x in set(linear) for x in topological(found)):
        raise TraceError(
            f"{here()}: the {rule.kind} rule of {rule.title} is not linear in its {what}.\n"
            f"  Multiply {what} by values of the primals, and add such products; nothing else is a derivative."
        )


# -- batch -------------------------------------------------------------------------------------------------------------


def batch_custom(
    node: Node, rule: DerivativeRule, args: Sequence[Node], batched: Sequence[bool], size: int, batch: Batch
) -> list[tuple[Node, bool]]:
    """Each result with the batch axis, from a node whose rule has it too."""
    body = _body(node)
    leaves = {x: wide_leaf(x, size) for x, has in zip(body.inputs, batched, strict=True) if has}
    outputs = tuple(shown(y, has, size) for y, has in batch(body.outputs, leaves, size))
    wide = body.replace(inputs=tuple(leaves.get(x, x) for x in body.inputs), outputs=outputs)

    def make() -> Graph:
        return _batched_rule(rule, batched, _floats(body.inputs), size, batch)

    made = OPS["custom"].make(args, body=wide, rule=DerivativeRule(rule.kind, rule.title, make))
    made = Node(made.op, made.args, made.attrs, made.aval, node.where, replica=node.replica)
    return [(item(made, k), True) for k in range(len(outputs))]


def _batched_rule(
    rule: DerivativeRule, batched: Sequence[bool], floats: Sequence[int], size: int, batch: Batch
) -> Graph:
    """The rule for batches: results, and so their tangents and cotangents, all have the axis; operands where said."""
    graph, count = rule.graph, len(batched)
    linear = graph.inputs[count:]
    moving = [batched[i] for i in floats]
    has = [*batched, *(moving if rule.kind == "jvp" else [True] * len(linear))]
    leaves = {x: wide_leaf(x, size) for x, h in zip(graph.inputs, has, strict=True) if h}
    found = [shown(y, h, size) for y, h in batch(graph.outputs, leaves, size)]
    if rule.kind == "vjp":  # an operand shared by the batch gathers the cotangents of all
        found = [y if h else OPS["sum"].make((y,), axes=(0,)) for y, h in zip(found, moving, strict=True)]
    return graph.replace(inputs=tuple(leaves.get(x, x) for x in graph.inputs), outputs=tuple(found))
