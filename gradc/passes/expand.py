"""Ops whose lowering is other ops (norm, logsumexp, a linear solve, …) become those, factorisations of narrow floats
those of float32."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gradc.aval import NARROW, Results, computed_in
from gradc.graph import Graph
from gradc.node import Node, derived_from
from gradc.ops.control import items
from gradc.ops.elementwise import cast
from gradc.ops.record import Kind, has_results
from gradc.passes.rules import mapped

Wanted = Callable[[Node], bool]


def expand(graph: Graph) -> Graph:
    """Replace each node whose record has ``expand``, and no ``algorithm`` that code is better made of, by that
    expansion, until there is none; derivative rules no longer apply afterwards."""
    return _expanded(graph, asks)


def expand_all(graph: Graph) -> Graph:
    """The same, of every record that has ``expand``: for machines that know no algorithms."""
    return _expanded(graph, asks_all)


def asks(node: Node) -> bool:
    """Whether `expand` has something to do."""
    op = node.op
    if op.algorithm is None or (op.parted is not None and op.parted(*(a.aval for a in node.args))):
        return op.expand is not None or _is_narrow(node)
    return _is_narrow(node)


def asks_all(node: Node) -> bool:
    """Whether `expand_all` has something to do."""
    return node.op.expand is not None or _is_narrow(node)


def _expanded(graph: Graph, wanted: Wanted) -> Graph:
    while any(map(wanted, graph.nodes)):
        graph = _once(graph, wanted)
    return graph


def _once(graph: Graph, wanted: Wanted) -> Graph:
    several: dict[Node, Sequence[Node]] = {}

    def expanded(node: Node, args: tuple[Node, ...]) -> Node | None:
        if node.op.kind is Kind.ITEM and node.args[0] in several:
            return several[node.args[0]][node.attrs["index"]]
        if not wanted(node):
            return None
        with derived_from(node.where, node.replica):
            found = _in_float32(node, args) if _is_narrow(node) else _expansion(node, args)
        if has_results(node):
            several[node] = found
            return None
        return found

    return mapped(graph, expanded)


def _expansion(node: Node, args: Sequence[Node]) -> Any:
    assert node.op.expand is not None
    return node.op.expand(*args, **node.attrs)


def _is_narrow(node: Node) -> bool:
    """Whether whole arrays of narrow floats are asked for, which are computed in float32 from the first step on."""
    return node.op.kind is Kind.WHOLE and any(a.dtype in NARROW for a in node.args)


def _in_float32(node: Node, args: Sequence[Node]) -> Any:
    """The same op on float32, each result rounded once."""
    wide = node.op.make([cast(a, computed_in(a.dtype)) for a in args], **node.attrs)
    if isinstance(node.aval, Results):
        return [cast(y, part.dtype) for y, part in zip(items(wide), node.aval.parts, strict=True)]
    return cast(wide, node.dtype)
