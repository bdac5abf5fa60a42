"""Common-subexpression elimination: equal computations become one node."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

import numpy as np

from gradc.graph import Graph
from gradc.node import Node
from gradc.ops.record import Kind
from gradc.passes.rules import mapped


def cse(graph: Graph) -> Graph:
    """Merge nodes with the same op, operands, attributes, aval and replica.

    Constants and attribute values are compared by type and bit pattern, so 0.0 and -0.0, 1 and True stay apart.
    """
    seen: dict[Hashable, Node] = {}

    def merge(node: Node, args: tuple[Node, ...]) -> Node | None:
        if node.op.kind is Kind.INPUT:
            return None
        key = (node.op, tuple(map(id, args)), attrs_key(node), node.aval, node.replica)
        known = seen.get(key)
        if known is None:
            known = seen[key] = node if args is node.args else node.rebuilt(args, node.label)
        return known

    return mapped(graph, merge)


def attrs_key(node: Node) -> Hashable:
    """The attributes as a hashable value that distinguishes bit patterns."""
    attrs = node.attrs.items()
    return tuple([(k, value_key(v)) for k, v in (sorted(attrs) if len(attrs) > 1 else attrs)])


def value_key(value: Any) -> Hashable:
    """A value by type and bits."""
    if isinstance(value, np.ndarray):
        return (value.shape, value.dtype, value.tobytes())
    if isinstance(value, tuple):
        return tuple(map(value_key, value))
    if isinstance(value, Graph):
        return graph_key(value)
    if isinstance(value, float):
        return (float, np.float64(value).tobytes())
    return (type(value), value)


class GraphKey:
    """What a closed graph computes.  There is one for all graphs that compute the same, so that it is compared by
    identity, however deep the graphs in it nest."""

    __slots__ = ("__weakref__", "what")

    def __init__(self, what: Hashable):
        self.what = what


_graph_keys: WeakKeyDictionary[Graph, GraphKey] = WeakKeyDictionary()
_by_what: WeakValueDictionary[Hashable, GraphKey] = WeakValueDictionary()


def graph_key(graph: Graph) -> GraphKey:
    """A closed graph by what it computes: equal for bodies that differ in leaves, names and source lines alone."""
    known = _graph_keys.get(graph)
    if known is None:
        place = {x: k for k, x in enumerate(graph.inputs)}
        nodes = tuple(
            ("input", place[n], n.aval) if n in place
            else (n.op, tuple(graph.index[a] for a in n.args), attrs_key(n), n.aval, n.replica)
            for n in graph.nodes
        )  # fmt: skip
        what = (nodes, tuple(graph.index[y] for y in graph.outputs))
        known = _graph_keys[graph] = _by_what.setdefault(what, GraphKey(what))
    return known
