"""Why a gradient is zero, and which answers at singular points a derivation relies on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from gradc.diff.linear import active_nodes, has_tangent, partials_of, passes
from gradc.explain.naming import Naming
from gradc.graph import Graph
from gradc.interpret import topological
from gradc.node import Node

if TYPE_CHECKING:
    from gradc.explain.derivation import Line


def why_zero(graph: Graph, wanted: Node, naming: Naming) -> str:
    """In words: the input has no tangent, reaches no result, or reaches it only through steps that are locally constant."""
    name, result = graph.names.get(wanted, "the input"), " and ".join(naming.output_names)
    if not has_tangent(wanted):
        return f"{name} is {wanted.dtype}: integers and bools have no tangent"
    reached = {wanted}
    order = topological(graph.outputs)
    for node in order:
        if any(a in reached for a in node.args):
            reached.add(node)
    if not any(y in reached for y in graph.outputs):
        return f"{result} does not depend on {name}"
    steps = [n for n in _blocking(graph, wanted, order) if n in reached]
    shown = ", ".join(dict.fromkeys(f"{n.op.name} ({n.where})" if n.where else n.op.name for n in steps))
    return f"{name} reaches {result} only through {shown}, locally constant"


def _blocking(graph: Graph, wanted: Node, order: Sequence[Node]) -> list[Node]:
    """The first nodes on each way that let no tangent through."""
    _, active = active_nodes(graph.outputs, [wanted])
    live: set[Node] = {wanted}
    blocked = []
    for node in order:
        if node is wanted or not any(a in live for a in node.args):
            continue
        if node in active and any(a in live and _lets_through(node, i) for i, a in enumerate(node.args)):
            live.add(node)
        else:
            blocked.append(node)
    return blocked


def _lets_through(node: Node, i: int) -> bool:
    if node.op.partials is not None:
        return partials_of(node)[i] is not None
    return passes(node.op, i)


def conventions(graph: Graph, belongs_to: Mapping[Node, Node], lines: Sequence[Line]) -> tuple[str, ...]:
    """The declared derivative at singular points of every op that a displayed formula differentiates through."""
    used = {node for line in lines if line.kind != "forward" for node in line.nodes}
    places = {node.where for node in used}
    found: dict[str, str] = {}
    for node in graph.nodes:
        if node.op.singular and node.op.name != "where" and node.where in places and has_tangent(node):
            found.setdefault(node.op.name, node.op.singular)
    return tuple(f"{name}: {text}" for name, text in found.items())
