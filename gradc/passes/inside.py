"""How passes reach the bodies of loops, branches and calls: one `apply`.

A pass is written for one graph; `apply` runs it on every body, innermost first, and then on the graph itself.
"""

from __future__ import annotations

from collections.abc import Callable

from gradc.graph import Graph
from gradc.node import Node
from gradc.ops.control import bodies
from gradc.ops.record import HOLDERS
from gradc.passes.rules import mapped, noted

Pass = Callable[[Graph], Graph]


def apply(step: Pass, graph: Graph) -> Graph:
    """``step`` on the bodies in ``graph``, then on ``graph``; what it reports of a body is a note on the graph."""
    if not has_bodies(graph):
        return step(graph)
    notes: list[str] = []
    done: dict[Graph, Graph] = {}

    def reached(body: Graph) -> Graph:
        if body not in done:
            done[body] = apply(step, body)
            notes.extend(n for n in done[body].notes if n not in body.notes)
        return done[body]

    def within(node: Node, args: tuple[Node, ...]) -> Node | None:
        held = bodies(node)
        new = {name: reached(body) for name, body in held.items()}
        if all(_same(new[name], body) for name, body in held.items()):
            return None
        return with_bodies(node, args, **new)

    return step(noted(mapped(graph, within), notes))


def has_bodies(graph: Graph) -> bool:
    """Whether some node of the graph holds a body."""
    return any(node.op.kind in HOLDERS for node in graph.nodes)


def with_bodies(node: Node, args: tuple[Node, ...], **held: Graph) -> Node:
    """``node`` on other bodies of the same shapes."""
    return Node(node.op, args, {**node.attrs, **held}, node.aval, node.where, node.label, node.replica)


def _same(new: Graph, old: Graph) -> bool:
    return all(a is b for a, b in zip(new.outputs, old.outputs, strict=True))
