"""Array extents that are shown by name: the n of a mean.

Enters: a traced graph.  Leaves: the same graph with the count of each mean as a leaf of its own, so that
differentiation and constant folding keep it apart from other numbers and the formula says 1/n, not 0.000556.
Invariant: only a divisor (or factor) of a sum is replaced, and only where it is the number of summed elements or the
extent of a summed axis.  A 2 is a number that the user wrote unless a mean was asked for: ½‖w‖² of two elements is not.
So is a factor of few digits: 0.25·Σ over four elements stays 0.25, for what is no count would be read as one; 1/7 is
typed by nobody and is 1/n.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from gradc.aval import Aval, Shape
from gradc.explain.formula import Symbol
from gradc.graph import Graph
from gradc.node import OPS, Node
from gradc.passes.fold import splat_value
from gradc.passes.rules import mapped
from gradc.trace import new_input

LETTERS = ("n", "m", "N", "d", "k", "M")
#: an extent this small is more likely a literal of the formula than a count
SMALLEST = 3
#: signs of a factor that somebody typed, 0.25 or 0.0125, where 1/n of the same size comes from no program's text
LONGEST_TYPED = 7


@dataclass(frozen=True)
class Extents:
    """The named extents of a graph: one leaf and symbol per extent."""

    leaves: dict[int, Node]
    symbols: dict[int, Symbol]


def with_named_extents(graph: Graph, taken: set[str]) -> tuple[Graph, Extents]:
    """The graph with counts as leaves, and those leaves; names in ``taken`` are not used again."""
    extents = Extents({}, {})
    free = (letter for letter in LETTERS if letter not in taken)

    def leaf(size: int, like: Node) -> Node | None:
        if size not in extents.leaves:
            name = next(free, None)
            if name is None:
                return None
            extents.leaves[size] = new_input(Aval((), like.dtype), name)
            extents.symbols[size] = Symbol((), name=name, role="extent", nodes=frozenset((extents.leaves[size],)))
        found = extents.leaves[size]
        return found if found.dtype == like.dtype else None

    def named(node: Node, args: tuple[Node, ...]) -> Node | None:
        if node.op.name not in ("divide", "multiply") or not node.aval.is_float:
            return None
        for i in (1,) if node.op.name == "divide" else (0, 1):
            size = _count(node, args, i)
            divisor = leaf(size, node) if size is not None else None
            if divisor is not None:
                shown = divisor if node.shape == () else OPS["broadcast"].make((divisor,), shape=node.shape, axes=())
                return Node(OPS["divide"], (args[1 - i], shown), {}, node.aval, node.where, node.label)
        return None

    return mapped(graph, named), extents


def _count(node: Node, args: tuple[Node, ...], i: int) -> int | None:
    """The count that operand ``i`` divides by (or multiplies with the inverse of), if it is that of a sum."""
    value = splat_value(args[i])
    if value is None or not np.isfinite(value) or value == 0:
        return None
    if node.op.name == "multiply" and len(str(value)) <= LONGEST_TYPED:
        return None
    number = float(value) if node.op.name == "divide" else 1 / float(value)
    size = round(number)
    if size < 1 or abs(number - size) > 1e-6 * size:
        return None
    summed = _summed_extents(args[1 - i])
    if summed is None or (node.op.name == "divide" and number != size):
        return None
    least = 2 if node.label is not None and node.label.name == "mean" else SMALLEST
    return size if size in (prod(summed), *(s for s in summed if s >= SMALLEST)) and size >= least else None


def _summed_extents(node: Node) -> Shape | None:
    """The extents that ``node`` sums over, looking through signs, numbers and views."""
    while True:
        if node.op.name == "sum":
            return tuple(node.args[0].shape[a] for a in node.attrs["axes"])
        if node.op.name in ("negative", "reshape", "broadcast") or (
            node.op.name in ("multiply", "divide") and splat_value(node.args[1]) is not None
        ):
            node = node.args[0]
        elif node.op.name == "multiply" and splat_value(node.args[0]) is not None:
            node = node.args[1]
        else:
            return None
