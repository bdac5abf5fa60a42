"""Forward mode: push tangents through the graph with each op's one derivative rule.

Enters: outputs, inputs and a tangent (or None) per input.  Leaves: a tangent (or None) per output, built in the DSL and
structurally linear in the tangents, so reverse mode can transpose it.
"""

from __future__ import annotations

from collections.abc import Sequence

from gradc.diff.calls import push_call
from gradc.diff.linear import active_nodes, partials_of, passes, scaled
from gradc.diff.loops import push_linear, push_loop
from gradc.node import Node, derived_from
from gradc.ops.control import Loop, result_count
from gradc.ops.leaves import full
from gradc.ops.record import HOLDERS, Kind


def push_forward(
    outputs: Sequence[Node], inputs: Sequence[Node], tangents: Sequence[Node | None], split: bool = False
) -> list[Node | None]:
    """Jacobian-vector product: the tangent of each output, None where it is structurally zero.

    With ``split`` the tangents of a loop come from a loop of their own, which is linear (what reverse mode transposes);
    without it from one that runs primal and tangents together, and keeps nothing.
    """
    known: dict[Node, Node | None] = {x: t for x, t in zip(inputs, tangents, strict=True) if t is not None}
    several: dict[Node, list[Node | None]] = {}  # tangents of the results of nodes that have several
    order, active = active_nodes(outputs, [x for x in inputs if x in known])
    for node in order:
        if node not in active or node in known:
            continue
        with derived_from(node.where):
            if node.op.kind in HOLDERS:
                several[node] = _through_bodies(node, [known.get(a) for a in node.args], split)
            elif node.op.kind is Kind.ITEM:
                known[node] = several[node.args[0]][node.attrs["index"]]
            else:
                known[node] = node_tangent(node, [known.get(a) for a in node.args])
    return [known.get(y) for y in outputs]


def linearise(
    outputs: Sequence[Node], inputs: Sequence[Node], tangents: Sequence[Node | None]
) -> list[Node | None]:
    """`push_forward`, split."""
    return push_forward(outputs, inputs, tangents, split=True)


def _through_bodies(node: Node, tangents: Sequence[Node | None], split: bool) -> list[Node | None]:
    """The tangent of each result of a node that holds bodies."""
    push = linearise if split else push_forward
    if all(t is None for t in tangents):
        return [None] * result_count(node)
    if node.op.kind is Kind.LOOP:
        return (push_linear if split else push_loop)(Loop.of(node), tangents, push)
    return push_call(node, tangents, push)


def node_tangent(node: Node, tangents: Sequence[Node | None]) -> Node | None:
    """The tangent of one node from those of its operands."""
    op = node.op
    given = [t if passes(op, i) else None for i, t in enumerate(tangents)]
    if all(t is None for t in given):
        return None
    if op.partials is not None:
        return _sum([scaled(t, p) for t, p in zip(given, partials_of(node), strict=True) if t is not None])
    if op.jvp is not None:
        return op.jvp(node, given)
    if op.multilinear:
        return _sum([_with_operand(node, i, t) for i, t in enumerate(given) if t is not None])
    return _jointly_linear(node, given)


def _with_operand(node: Node, i: int, operand: Node) -> Node:
    return node.op.make((*node.args[:i], operand, *node.args[i + 1 :]), **node.attrs)


def _jointly_linear(node: Node, tangents: Sequence[Node | None]) -> Node:
    """A linear op applied to the tangents, zeros standing for the absent ones."""
    args = []
    for i, (arg, t) in enumerate(zip(node.args, tangents, strict=True)):
        if not passes(node.op, i):
            args.append(arg)
        else:
            args.append(t if t is not None else full(arg.shape, 0, arg.dtype))
    return node.op.make(args, **node.attrs)


def _sum(terms: Sequence[Node | None]) -> Node | None:
    present = [t for t in terms if t is not None]
    if not present:
        return None
    total = present[0]
    for t in present[1:]:
        total = total + t
    return total
