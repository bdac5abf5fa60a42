"""Where a function is not smooth: which side of every kink and jump a point is on.

Enters: nodes and values of their operands.  Leaves: for each op that has kinks an array saying which branch was taken.
Two points with the same branches everywhere have no kink between them (for steps small enough not to cross and return).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gradc.node import Node
from gradc.ops.indexing import BY_SIZE
from gradc.ops.record import Kind, has_results

Array = np.ndarray[Any, Any]


def has_sides(node: Node) -> bool:
    """Whether the op has kinks or jumps: its record says so, or it makes a bool or an integer of floats."""
    if has_results(node) or node.op.kind is Kind.ITEM:  # kinks inside bodies are not seen from here
        return False
    if node.op.kind is Kind.SCATTER:
        return node.attrs["how"] in BY_SIZE
    return node.op.side is not None or (not node.aval.is_float and any(a.aval.is_float for a in node.args))


def side(node: Node, args: Sequence[Array], value: Array) -> Array:
    """Which branch was taken, in an array that is equal for two points on the same side."""
    with np.errstate(all="ignore"):
        return value if node.op.side is None else np.asarray(node.op.side(value, *args, **node.attrs))


def sides(nodes: Sequence[Node], values: Mapping[Node, Any]) -> list[Array]:
    """`side` of each of ``nodes``."""
    return [side(n, [np.asarray(values[a]) for a in n.args], np.asarray(values[n])) for n in nodes]


def same_side(a: Array, b: Array) -> Array:
    """Elementwise equality, NaN being on the side of NaN."""
    return np.asarray((a == b) | ((a != a) & (b != b)))
