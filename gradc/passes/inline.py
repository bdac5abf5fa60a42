"""Calls become what their body computes: checkpoints, functions with a rule, and functions that one node calls.

A function that several nodes call stays one body; `write_out` writes those out too, for whoever wants to see all that
is computed.  What a checkpoint computes again carries the call's `replica` number, part of every node's key: it is not
merged with the values of the first time, which may be gone by then.  Start reading at `inline`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from gradc.graph import Graph, rewrite
from gradc.node import Node
from gradc.ops.control import MOST_WRITTEN, bodies, every_body, inside_out, is_function, written_size
from gradc.ops.implicit import implicit_rule_of
from gradc.ops.record import HOLDERS, LEAVES, Kind
from gradc.passes.inside import has_bodies, whole, with_bodies
from gradc.passes.rules import mapped, noted

Chosen = Callable[[Node], bool]


@whole
def inline(graph: Graph) -> Graph:
    """Write out every call, those inside calls too, but for functions that several nodes call."""
    return _inlined(graph, lambda node: not is_function(node))


@whole
def inline_to_read(graph: Graph) -> Graph:
    """`inline`, but for what solves an equation: a reader wants that, and not how it is searched for."""
    return _inlined(graph, lambda node: not is_function(node) and implicit_rule_of(node) is None)


def _inlined(graph: Graph, chosen: Chosen) -> Graph:
    while any(node.op.kind is Kind.CALL and chosen(node) for body in every_body(graph) for node in body.nodes):
        graph = _written(inline_once(graph), chosen)
    return inline_once(graph)


@whole
def inline_once(graph: Graph) -> Graph:
    """Write out every function that one node calls."""
    while once := _called_once(graph):
        graph = _written(graph, _calls_of(once))
    return graph


@whole
def write_out(graph: Graph) -> Graph:
    """Write out every function, however many nodes call it."""
    return _written(graph, is_function)


def looked_into(graph: Graph) -> Graph:
    """``graph`` with every function written out, for whoever looks at single nodes; itself if that were too many."""
    return write_out(graph) if written_size(graph) <= MOST_WRITTEN else graph


def _calls_of(functions: set[Graph]) -> Chosen:
    return lambda node: is_function(node) and node.attrs["body"] in functions


def _called_once(graph: Graph) -> set[Graph]:
    """The functions that one node calls, of all that there are in ``graph`` and the bodies in it."""
    calls = Counter(
        node.attrs["body"] for body in every_body(graph) for node in body.nodes if is_function(node)
    )  # fmt: skip
    return {body for body, count in calls.items() if count == 1}


def _written(graph: Graph, chosen: Chosen) -> Graph:
    """``graph`` with the ``chosen`` calls written out, here and in bodies."""
    if not has_bodies(graph):
        return graph
    done: dict[Graph, Graph] = {}
    for body in inside_out(graph):
        done[body] = _written_here(body, chosen, done)
    return done[graph]


def _written_here(graph: Graph, chosen: Chosen, done: Mapping[Graph, Graph]) -> Graph:
    results: dict[Node, Sequence[Node]] = {}
    named: dict[Node, str] = {}
    notes: dict[str, None] = {}

    def rule(node: Node, args: tuple[Node, ...]) -> Node | None:
        if node.op.kind is Kind.ITEM:
            return results[node.args[0]][node.attrs["index"]] if node.args[0] in results else None
        if node.op.kind not in HOLDERS:
            return None
        held = {name: done[body] for name, body in bodies(node).items()}
        notes.update(dict.fromkeys(n for body in held.values() for n in body.notes))
        if node.op.kind is Kind.CALL and chosen(node):
            results[node] = _results(held["body"], node, args, named)
            return None
        return None if all(new is old for new, old in zip(held.values(), bodies(node).values(), strict=True)) else (
            with_bodies(node, args, **held)
        )  # fmt: skip

    after = noted(mapped(graph, rule), tuple(notes))
    return after.replace(names=_with_names(after, named)) if named else after


def _results(body: Graph, node: Node, args: tuple[Node, ...], named: dict[Node, str]) -> Sequence[Node]:
    """What ``node`` computes by ``body``; names of the user's inside of a function go to ``named``."""
    replica, operands = node.replica, dict(zip(body.inputs, args, strict=True))

    def again(inner: Node, inner_args: tuple[Node, ...]) -> Node | None:
        if not replica or inner.op.kind in LEAVES:
            return None
        return Node(inner.op, inner_args, inner.attrs, inner.aval, inner.where, None, replica)

    known: dict[Node, Node] = {}
    found = rewrite(body.outputs, again, operands, known)
    if is_function(node):
        named |= {known[n]: name for n, name in body.names.items() if n in known and n not in operands}
    return found


def _with_names(graph: Graph, found: Mapping[Node, str]) -> dict[Node, str]:
    """The names of ``graph`` and those ``found`` in what was written out; one that several values have is numbered."""
    names = dict(graph.names)
    taken = set(names.values())
    values: dict[str, list[Node]] = {}
    for node in graph.nodes:
        if node in found and node not in names:
            values.setdefault(found[node], []).append(node)
    for name, nodes in values.items():
        number = 0 if len(nodes) == 1 and name not in taken else 1
        for node in nodes:
            while number and f"{name}_{number}" in taken:
                number += 1
            names[node] = f"{name}_{number}" if number else name
            taken.add(names[node])
    return names
