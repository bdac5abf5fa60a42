"""Common-subexpression elimination: equal computations become one node."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np

from gradc.graph import Graph, same_nodes
from gradc.node import Node
from gradc.passes.rules import mapped


def cse(graph: Graph) -> Graph:
    """Merge nodes with the same op, operands, attributes, aval and replica.

    Constants and attribute values are compared by type and bit pattern, so 0.0 and -0.0, 1 and True stay apart.
    """
    seen: dict[Hashable, Node] = {}

    def merge(node: Node, args: tuple[Node, ...]) -> Node | None:
        if node.op.name == "input":
            return None
        key = (node.op, tuple(map(id, args)), attrs_key(node), node.aval, node.replica)
        known = seen.get(key)
        if known is None:
            known = seen[key] = node if same_nodes(args, node.args) else node.rebuilt(args, node.label)
        return known

    return mapped(graph, merge)


def attrs_key(node: Node) -> Hashable:
    """The attributes as a hashable value that distinguishes bit patterns."""
    if not node.attrs:
        return ()
    return tuple((k, value_key(v)) for k, v in sorted(node.attrs.items()))


def value_key(value: Any) -> Hashable:
    """A value by type and bits."""
    if isinstance(value, np.ndarray):
        return (value.shape, str(value.dtype), value.tobytes())
    if isinstance(value, tuple):
        return tuple(map(value_key, value))
    if isinstance(value, float):
        return (float, np.float64(value).tobytes())
    return (type(value), value)
