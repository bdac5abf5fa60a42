"""Derivatives given by the user: one rule, read by both modes and batched.

Enters: a ``custom`` node with tangents, cotangents or batch axes.  Leaves: tangents, cotangents, or a node whose rule
is batched too.  A rule is a linear map: in its own direction it is evaluated, in the other one transposed; either is a
walk over the rule's graph, so what is structurally zero stays absent.  A function with a rule of its own that the rule
calls is evaluated with it, and transposed by its body; as the rule is inlined where it is used, everything in it is
differentiated again, by its own rule, in the next derivative only.
"""

from __future__ import annotations

from collections.abc import Sequence

from gradc.diff.dependence import evaluated, refuse_unless_linear, without_rules
from gradc.diff.loops import Batch, Maybe, Pull, Push, partner, shown, wide_leaf, zeros_like
from gradc.graph import Graph
from gradc.node import OPS, Node
from gradc.ops.control import item, tell
from gradc.ops.custom import DerivativeRule, RuleKind, Widen
from gradc.ops.ranges import range_of


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
    tell(graph, zip(primals, map(range_of, node.args), strict=True))
    written = _written_out(rule, linear, push)
    forth = rule.kind == direction
    side = linear if forth else graph.outputs
    leaves = [None if g is None else partner(x, "d", g) for x, g in zip(side, given, strict=True)]
    if forth:
        found = evaluated(graph.outputs, dict(zip(linear, leaves, strict=True)))
    else:
        found = pull(written, list(linear), leaves)
    ends = [(x, g) for x, g in zip(leaves, given, strict=True) if x is not None and g is not None]
    unread = [(x, zeros_like(x)) for x in linear]  # carries of a loop that runs again for what else it makes
    known = tuple(y for y in found if y is not None)
    whole = graph.replace(inputs=(*primals, *(x for x, _ in (*ends, *unread))), outputs=known)
    inlined = iter(whole.inlined([*node.args, *(g for _, g in (*ends, *unread))]))
    return [None if y is None else next(inlined) for y in found]


def _written_out(rule: DerivativeRule, linear: Sequence[Node], push: Push) -> list[Node]:
    """The rule's outputs as plain functions of ``linear``; TraceError if they are not linear in them.

    A function with a rule of its own that the rule applies to them is its body here: what counts is its value.
    """
    known = rule.written
    if known is None:
        known = without_rules(rule.graph.outputs, linear)
        what = "tangents" if rule.kind == "jvp" else "cotangents"
        refuse_unless_linear(known, linear, push, f"the {rule.kind} rule of {rule.title}", what, "the primals")
        rule.written = known
    return known


# -- batch -------------------------------------------------------------------------------------------------------------


def batch_custom(
    node: Node, rule: DerivativeRule, args: Sequence[Node], batched: Sequence[bool], size: int, batch: Batch
) -> list[tuple[Node, bool]]:
    """Each result with the batch axis, from a node whose rule has it too."""
    body = _body(node)
    wide = _batched_body(body, batched, size, batch)

    def make(widen: Widen) -> Graph:
        return _batched_rule(rule.widened(widen), batched, _floats(body.inputs), size, batch)

    def retraced(widen: Widen) -> Graph:
        return _batched_body(rule.widened_body(body, widen), batched, size, batch)

    made = OPS["custom"].make(args, body=wide, rule=DerivativeRule(rule.kind, rule.title, make, retraced))
    made = Node(made.op, made.args, made.attrs, made.aval, node.where, replica=node.replica)
    return [(item(made, k), True) for k in range(len(wide.outputs))]


def _batched_body(body: Graph, batched: Sequence[bool], size: int, batch: Batch) -> Graph:
    """The body with the axis on all results, and on the operands that have it."""
    leaves = {x: wide_leaf(x, size) for x, has in zip(body.inputs, batched, strict=True) if has}
    outputs = tuple(shown(y, has, size) for y, has in batch(body.outputs, leaves, size))
    return body.replace(inputs=tuple(leaves.get(x, x) for x in body.inputs), outputs=outputs)


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
