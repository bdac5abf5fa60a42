"""How passes reach the bodies of loops, branches and calls: one `apply`.

A pass is written for one graph; `apply` runs it on every body, innermost first, and then on the graph itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gradc.graph import Graph
from gradc.node import Node
from gradc.ops.control import bodies, held_in, inside_out
from gradc.ops.record import HOLDERS
from gradc.passes.rules import mapped, noted

Pass = Callable[[Graph], Graph]


#: passes that see to bodies themselves
_WHOLE: set[Pass] = set()


def whole(step: Pass) -> Pass:
    """A pass that looks at a graph and all bodies in it at once."""
    _WHOLE.add(step)
    return step


def apply(step: Pass, graph: Graph) -> Graph:
    """``step`` on the bodies in ``graph``, each once and innermost first, then on ``graph``.

    What it reports of a body is a note on what holds it.
    """
    if step in _WHOLE or not has_bodies(graph):
        return step(graph)
    done: dict[Graph, Graph] = {}
    for body in inside_out(graph):
        done[body] = step(on_bodies(body, done))
    return done[graph]


def on_bodies(graph: Graph, done: Mapping[Graph, Graph]) -> Graph:
    """``graph`` on what has become of the bodies that its nodes hold, with what was noted on the way."""
    notes = {n: None for body in held_in(graph) for n in done[body].notes if n not in body.notes}

    def within(node: Node, args: tuple[Node, ...]) -> Node | None:
        held = bodies(node)
        if all(_same(done[body], body) for body in held.values()):
            return None
        return with_bodies(node, args, **{name: done[body] for name, body in held.items()})

    return noted(mapped(graph, within), tuple(notes))


def has_bodies(graph: Graph) -> bool:
    """Whether some node of the graph holds a body."""
    return any(node.op.kind in HOLDERS for node in graph.nodes)


def with_bodies(node: Node, args: tuple[Node, ...], **held: Graph) -> Node:
    """``node`` on other bodies of the same shapes."""
    return Node(node.op, args, {**node.attrs, **held}, node.aval, node.where, node.label, node.replica)


def _same(new: Graph, old: Graph) -> bool:
    return all(a is b for a, b in zip(new.outputs, old.outputs, strict=True))
