"""Code that every step of a loop would compute alike moves out of the body; captured arrays become operands.

Only what cannot fail leaves a body that may not run at all: a condition may be false at once, a branch not taken.
"""

from __future__ import annotations

from collections.abc import Sequence

from gradc.graph import Graph, substitute
from gradc.node import Node, derived_from
from gradc.ops.control import Loop, bodies, inner_leaf, is_costless, lifted, once_per_body
from gradc.ops.custom import rule_of
from gradc.ops.record import HOLDERS, Kind
from gradc.passes.inside import has_bodies
from gradc.passes.rules import mapped

#: a gather can be out of range, a body can hold one, and a loop need not end
FALLIBLE = (Kind.GATHER, Kind.SCATTER, *HOLDERS)


def hoist(graph: Graph) -> Graph:
    """Move loop-invariant nodes out of loops, and arrays known at trace out of every body."""
    if not has_bodies(graph):
        return graph

    def moved(node: Node, args: tuple[Node, ...]) -> Node | None:
        with derived_from(node.where, node.replica):
            if node.op.kind is Kind.LOOP:
                return _out_of_loop(node, args)
            return _arrays_out(node, args) if node.op.kind in HOLDERS else None

    return mapped(graph, moved)


def _out_of_loop(node: Node, args: tuple[Node, ...]) -> Node | None:
    loop = Loop.of(node)
    runs = loop.steps is not None and loop.steps > 0
    body, found = lifted(loop.body, _invariant(loop.body, len(loop.consts), runs).__contains__)
    cond, tested = loop.cond, list[Node]()
    if cond is not None:
        cond, tested = lifted(cond, _invariant(cond, len(loop.consts), False).__contains__)
    if not found and not tested:
        return None
    loop = Loop.of(node.rebuilt(args))
    outside = dict(zip(loop.inner_consts, loop.consts, strict=True))
    operands = substitute(found, outside)
    if cond is not None and loop.cond is not None:
        operands += substitute(tested, dict(zip(loop.cond.inputs, loop.consts, strict=False)))
        cond = cond.replace(inputs=(*_unread(found), *cond.inputs))
        body = body.replace(inputs=(*body.inputs[: len(found)], *_unread(tested), *body.inputs[len(found) :]))
    return loop.rebuilt(body=body, cond=cond, consts=(*operands, *loop.consts)).node()


def _unread(nodes: Sequence[Node]) -> list[Node]:
    return [inner_leaf(n.aval, "unread") for n in nodes]


def _invariant(body: Graph, consts: int, runs: bool) -> set[Node]:
    """Inner nodes of which nothing changes from step to step; where the body may not run, only what cannot fail."""
    steady: set[Node] = set(body.inputs[:consts])
    changing = set(body.inputs[consts:])
    found: set[Node] = set()
    for node in body.nodes:
        if node in changing or node in steady:
            continue
        if all(a in steady for a in node.args) and (runs or not _can_fail(node)):
            steady.add(node)
            if not is_costless(node):
                found.add(node)
    return found


def _can_fail(node: Node) -> bool:
    return node.op.kind in FALLIBLE or node.dtype.kind in node.op.fails


def _arrays_out(node: Node, args: tuple[Node, ...]) -> Node | None:
    """Branches and calls take the arrays of their bodies as operands, unless a rule knows which operands there are."""
    if rule_of(node) is not None:
        return None
    held = bodies(node)
    lead = 1 if node.op.kind is Kind.BRANCH else 0
    arrays = dict.fromkeys(a for body in held.values() for a in _arrays(body))
    if not arrays:
        return None
    new = {name: _on_operands(body, tuple(arrays)) for name, body in held.items()}
    operands = (*args[:lead], *arrays, *args[lead:])
    return Node(node.op, operands, {**node.attrs, **new}, node.aval, node.where, None, node.replica)


def _arrays(body: Graph) -> list[Node]:
    return [n for n in body.nodes if n.op.kind is Kind.CONSTANT and not is_costless(n)]


@once_per_body
def _on_operands(body: Graph, arrays: tuple[Node, ...]) -> Graph:
    """``body`` with ``arrays`` as operands, in front."""
    inner, own = lifted(body, set(arrays).__contains__)
    leaves = dict(zip(own, inner.inputs, strict=False))
    front = tuple(leaves[a] if a in leaves else inner_leaf(a.aval, "unread") for a in arrays)
    return inner.replace(inputs=(*front, *inner.inputs[len(own) :]))
