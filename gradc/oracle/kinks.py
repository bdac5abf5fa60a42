"""Where a function is not smooth: which side of every kink and jump a point is on.

Enters: nodes and values of their operands.  Leaves: for each op that has kinks an array saying which branch was taken.
Two points with the same branches everywhere have no kink between them (for steps small enough not to cross and return).
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any

import numpy as np

from gradc.node import Node
from gradc.ops.control import bodies, every_node, inner_leaf
from gradc.ops.indexing import BY_SIZE
from gradc.ops.record import Kind, has_results
from gradc.oracle.walk import Walk

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


def is_jump(node: Node, moves: Container[Node] | None = None) -> bool:
    """Whether the op has sides, and an operand by which it has no derivative anywhere, which moves (None: all do)."""
    partials = node.op.partials
    if partials is None or node.op.side is None or not node.aval.is_float:
        return False
    leaves = [inner_leaf(a.aval, "x") for a in node.args]
    found = partials(inner_leaf(node.aval, "y"), *leaves, **node.attrs)
    return any(g is None and (moves is None or a in moves) for g, a in zip(found, node.args, strict=True))


def is_tie(node: Node, operands: Sequence[Array]) -> bool:
    """Whether a truth value is one of equal numbers, or what is sought is found, at least at one element."""
    if node.op.kind is Kind.SEARCH:
        line, sought = operands
        lead = line.ndim - 1
        shown = line.reshape(*line.shape[:lead], *(1,) * (sought.ndim - lead), line.shape[lead])
        return bool(np.any(shown == sought[..., None]))
    return len(operands) == 2 and not node.aval.is_float and bool(np.any(operands[0] == operands[1]))


def left_alone(there: Array, here: Array, back: Array, jump: bool) -> bool:
    """Whether neither neighbour is on the side of the point: of a tie both have another, a jump is between its two."""
    apart = ~same_side(there, here)
    return bool(np.any(apart & (~same_side(back, here) if jump else same_side(there, back))))


class Inside:
    """Ties and jumps at which a point lies in bodies: found once, by how many evaluations went before in a walk."""

    def __init__(self, holders: Sequence[Node], values: Mapping[Node, Any]):
        self._holders = [n for n in holders if any(has_sides(i) for i in _inner(n))]
        self._jumps = {i for n in self._holders for i in _inner(n) if has_sides(i) and is_jump(i)}
        self._found: dict[int, Node] = {}
        self._walk(values, self._note)

    def _note(self, count: int, node: Node, operands: Sequence[Array], value: Array) -> None:
        jumps = node in self._jumps and bool(np.any(side(node, operands, value) == 0))
        if jumps or is_tie(node, operands):
            self._found[count] = node

    @property
    def operands(self) -> list[Node]:
        """What the bodies are walked from."""
        return [a for holder in self._holders for a in holder.args] if self._found else []

    def alone(self, values_at: Callable[[float], Mapping[Node, Any]], near: float) -> bool:
        """Whether one of them says at the point what it says on neither side of it."""
        if not self._found:
            return False
        there, here, back = (self._sides(values_at(t)) for t in (near, 0.0, -near))
        common = [k for k in here if k in there and k in back]
        return any(left_alone(there[k], here[k], back[k], self._found[k] in self._jumps) for k in common)

    def _sides(self, values: Mapping[Node, Any]) -> dict[int, Array]:
        found: dict[int, Array] = {}

        def note(count: int, node: Node, operands: Sequence[Array], value: Array) -> None:
            if self._found.get(count) is node:
                found[count] = side(node, operands, value)

        self._walk(values, note)
        return found

    def _walk(self, values: Mapping[Node, Any], note: Callable[[int, Node, Sequence[Array], Array], None]) -> None:
        count = 0

        def settle(node: Node, operands: Sequence[Array], value: Array) -> Array:
            nonlocal count
            if has_sides(node):
                note(count := count + 1, node, operands, value)
            return value

        walk = Walk(settle)
        for holder in self._holders:
            walk([holder], {a: values[a] for a in holder.args})


def _inner(node: Node) -> list[Node]:
    """The nodes in the bodies that a node holds."""
    return [n for body in bodies(node).values() for n in every_node(body)]


def same_side(a: Array, b: Array) -> Array:
    """Elementwise equality, NaN being on the side of NaN."""
    return np.asarray((a == b) | ((a != a) & (b != b)))
