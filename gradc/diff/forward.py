"""Forward mode of one node: its tangent from those of its operands, by the op's one derivative rule.

Built in the DSL and structurally linear in the tangents, so reverse mode can transpose it.  `modes` walks the graph.
"""

from __future__ import annotations

from collections.abc import Sequence

from gradc.diff.linear import partials_of, passes
from gradc.node import Node
from gradc.ops.contraction import guarded
from gradc.ops.control import result_count
from gradc.ops.leaves import full
from gradc.ops.products import scaled


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
    assert op.transpose is not None, "derived as its expansion, by the modes"
    return _jointly_linear(node, given)


def result_tangents(node: Node, tangents: Sequence[Node | None]) -> list[Node | None]:
    """The tangent of each result of a node with several that holds no bodies."""
    if all(t is None for t in tangents):
        return [None] * result_count(node)
    assert node.op.jvp is not None
    return list(node.op.jvp(node, tangents))


def _with_operand(node: Node, i: int, operand: Node) -> Node:
    return guarded(node.op.make((*node.args[:i], operand, *node.args[i + 1 :]), **node.attrs))


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
