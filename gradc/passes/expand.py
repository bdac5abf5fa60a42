"""Ops whose lowering is other ops (norm, logsumexp, …) become those."""

from __future__ import annotations

from collections.abc import Callable

from gradc.graph import Graph
from gradc.node import Node, derived_from
from gradc.passes.rules import mapped


def expand(graph: Graph) -> Graph:
    """Replace each node whose record has ``expand``, and no ``algorithm`` that code is made of, by that expansion;
    derivative rules no longer apply afterwards."""
    return _expanded(graph, lambda node: node.op.algorithm is None)


def expand_all(graph: Graph) -> Graph:
    """The same, of every record that has ``expand``: for machines that know no algorithms."""
    return _expanded(graph, lambda node: True)


def _expanded(graph: Graph, wanted: Callable[[Node], bool]) -> Graph:
    def expanded(node: Node, args: tuple[Node, ...]) -> Node | None:
        if node.op.expand is None or not wanted(node):
            return None
        with derived_from(node.where, node.replica):
            return node.op.expand(*args, **node.attrs)

    return mapped(graph, expanded)
