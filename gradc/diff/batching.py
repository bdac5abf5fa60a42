"""Batching: one graph for many inputs at once, by one rule per kind of op.

Enters: a graph's outputs and, for some inputs, operands with a new leading axis.  Leaves: the outputs with that axis
(or without it, where they depend on no batched input).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gradc.interpret import topological
from gradc.node import Node, derived_from
from gradc.ops.record import Kind


def batch(outputs: Sequence[Node], batched_inputs: Mapping[Node, Node], size: int) -> list[tuple[Node, bool]]:
    """``outputs`` with each input in ``batched_inputs`` replaced by a node that has a leading axis of ``size``.

    Returns each output and whether it has the batch axis.
    """
    new: dict[Node, Node] = dict(batched_inputs)
    for node in topological(outputs):
        flags = [a in new for a in node.args]
        if node in new or not any(flags):
            continue
        args = [new.get(a, a) for a in node.args]
        with derived_from(node.where):
            new[node] = batch_node(node, args, flags, size)
    return [(new.get(y, y), y in new) for y in outputs]


def batch_node(node: Node, args: Sequence[Node], batched: Sequence[bool], size: int) -> Node:
    """One node on batched operands, by the rule of its kind."""
    rule = node.op.batch
    assert rule is not None and node.op.kind is not Kind.LEAF, f"op {node.op.name} has no batching rule"
    return rule(node, args, batched, size)
