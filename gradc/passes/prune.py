"""What nobody reads leaves loops, branches and calls; those that need not be one are written out.

A carry that no step changes is a const.  A loop whose result somebody reads is not dropped, even if all results are
known, where nothing says that it ends: then neither does the program.  A loop of no step is its start, a loop of one
step its body, a branch on a known bool the body it takes.
"""

from __future__ import annotations

from collections.abc import Sequence

from gradc.graph import Graph
from gradc.node import Node, derived_from
from gradc.ops.control import (
    Loop,
    bodies,
    by_results,
    item,
    narrowed,
    once_per_body,
    read_inputs,
    result_count,
    unrolled,
)
from gradc.ops.custom import rule_of
from gradc.ops.record import Kind
from gradc.passes.fold import splat_value
from gradc.passes.inside import has_bodies
from gradc.passes.rules import mapped


def prune(graph: Graph) -> Graph:
    """Drop unread results, operands and carries; write out what runs at most once."""
    if not has_bodies(graph):
        return graph
    read: dict[Node, set[int]] = {}
    for node in graph.nodes:
        if node.op.kind is Kind.ITEM:
            read.setdefault(node.args[0], set()).add(node.attrs["index"])

    def results(node: Node, args: tuple[Node, ...]) -> Sequence[Node] | None:
        with derived_from(node.where, node.replica):
            wanted = read.get(node, set())
            if node.op.kind is Kind.LOOP:
                return _loop(node, args, wanted)
            return _call(node, args, wanted)

    return mapped(graph, by_results(results))


# -- loops -------------------------------------------------------------------------------------------------------------


def _loop(node: Node, args: tuple[Node, ...], wanted: set[int]) -> Sequence[Node] | None:
    loop = Loop.of(node.rebuilt(args))
    if loop.steps is not None and loop.steps <= 1:
        return unrolled(loop)
    found = narrowed(loop, wanted)
    if found is None:
        return None
    smaller, places = found
    made, count = smaller.node(), len(loop.carries)
    return [
        item(made, places[k]) if k in places else loop.carries[k] if k < count else item(node, k)
        for k in range(result_count(node))
    ]


# -- branches and calls ------------------------------------------------------------------------------------------------


def _call(node: Node, args: tuple[Node, ...], wanted: set[int]) -> Sequence[Node] | None:
    if rule_of(node) is not None:  # it speaks of all operands and results
        return None
    held, lead = bodies(node), 1 if node.op.kind is Kind.BRANCH else 0
    known = splat_value(args[0]) if lead else None
    if known is not None:
        return held["body" if bool(known) else "otherwise"].inlined(args[1:])
    results = sorted(wanted)
    outputs = {name: tuple(body.outputs[k] for k in results) for name, body in held.items()}
    used = {name: read_inputs(ys) for name, ys in outputs.items()}
    operands = len(args) - lead
    read = [k for k in range(operands) if any(body.inputs[k] in used[name] for name, body in held.items())]
    if len(read) == operands and len(results) == result_count(node):
        return None
    new = {name: _part(body, tuple(read), tuple(results)) for name, body in held.items()}
    plain = node.op.make((*args[:lead], *(args[lead + k] for k in read)), **new)
    made = Node(plain.op, plain.args, plain.attrs, plain.aval, node.where, None, node.replica)
    places = {k: place for place, k in enumerate(results)}
    return [item(made, places[k]) if k in places else item(node, k) for k in range(result_count(node))]


@once_per_body
def _part(body: Graph, read: tuple[int, ...], results: tuple[int, ...]) -> Graph:
    """``body`` with some of its inputs and outputs."""
    return body.replace(inputs=tuple(body.inputs[k] for k in read), outputs=tuple(body.outputs[k] for k in results))
