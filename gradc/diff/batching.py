"""Batching: one graph for many inputs at once, by one rule per kind of op.

Enters: a graph's outputs and, for some inputs, operands with a new leading axis.  Leaves: the outputs with that axis
(or without it, where they depend on no batched input).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gradc.aval import Aval
from gradc.diff.calls import batch_call
from gradc.diff.custom import batch_custom
from gradc.diff.functions import batch_function
from gradc.diff.implicit import batch_implicit
from gradc.diff.loops import batch_loop
from gradc.interpret import topological
from gradc.node import Node, derived_from, dsl
from gradc.ops.control import Loop, inner_leaf, is_function, items
from gradc.ops.custom import DerivativeRule, rule_of
from gradc.ops.implicit import ImplicitRule
from gradc.ops.leaves import iota
from gradc.ops.record import HOLDERS, LEAVES, Kind, has_results


def batch(outputs: Sequence[Node], batched_inputs: Mapping[Node, Node], size: int) -> list[tuple[Node, bool]]:
    """``outputs`` with each input in ``batched_inputs`` replaced by a node that has a leading axis of ``size``.

    Returns each output and whether it has the batch axis.
    """
    new: dict[Node, Node] = dict(batched_inputs)
    wide: set[Node] = set(new)  # nodes that have the axis; a loop on a batch may have results that do not
    several: dict[Node, list[tuple[Node, bool]]] = {}
    for node in topological(outputs):
        if node in new or not any(a in new or a in several for a in node.args):
            continue
        args = [new.get(a, a) for a in node.args]
        flags = [a in wide for a in node.args]
        with derived_from(node.where):
            if node.op.kind is Kind.ITEM and node.args[0] in several:
                new[node], has = several[node.args[0]][node.attrs["index"]]
            elif not any(flags):
                new[node], has = node.rebuilt(args), False
            elif node.op.kind in HOLDERS:
                several[node] = batch_through_bodies(node, args, flags, size)
                continue
            elif has_results(node):
                several[node] = [(y, True) for y in items(batch_node(node, args, flags, size))]
                continue
            else:
                new[node], has = batch_node(node, args, flags, size), True
        if has:
            wide.add(node)
    return [(new.get(y, y), y in wide) for y in outputs]


def batch_through_bodies(
    node: Node, args: Sequence[Node], batched: Sequence[bool], size: int
) -> list[tuple[Node, bool]]:
    """Each result of a node that holds bodies, and whether it has the batch axis."""
    if node.op.kind is Kind.LOOP:
        return batch_loop(Loop.of(node), args, batched, size, batch)
    if (rule := rule_of(node)) is not None:
        if isinstance(rule, ImplicitRule):
            return batch_implicit(node, rule, args, batched, size, batch)
        assert isinstance(rule, DerivativeRule)
        return batch_custom(node, rule, args, batched, size, batch)
    if is_function(node):
        return batch_function(node, args, batched, size, batch)
    return batch_call(node, args, batched, size, batch)


def batch_node(node: Node, args: Sequence[Node], batched: Sequence[bool], size: int) -> Node:
    """One node on batched operands, by the rule of its kind."""
    rule = node.op.batch
    if rule is None and node.op.expand is not None:
        return _batched_expansion(node, args, batched, size)
    assert rule is not None and node.op.kind not in LEAVES, f"op {node.op.name} has no batching rule"
    return rule(node, args, batched, size)


def _batched_expansion(node: Node, args: Sequence[Node], batched: Sequence[bool], size: int) -> Node:
    assert node.op.expand is not None
    inner = [inner_leaf(a.aval, "x") if has else new for a, new, has in zip(node.args, args, batched, strict=True)]
    wide = {x: a for x, a, has in zip(inner, args, batched, strict=True) if has}
    ((found, has),) = batch([node.op.expand(*inner, **node.attrs)], wide, size)
    return found if has else dsl.broadcast_to(found, (size, *found.shape))


def one_hot_basis(aval: Aval) -> Node:
    """All unit directions of an array, stacked: shape (size, *shape), computed from indices, never stored."""
    row = iota((aval.size, *aval.shape), 0)
    own = dsl.reshape(iota((aval.size,)), aval.shape)
    hot = row == dsl.broadcast_to(own, row.shape)
    return hot.astype(aval.dtype)
