"""Products whose result is symmetric: a matrix with itself, scaled along the summed axes or not.

Enters: a contract node.  Leaves: the two axes of its result that may be exchanged.
Invariant: only what scales whole rows of the sum lies between the operands and the array they share, so each element
and its mirror image are sums of the same terms, x·(s·y) and y·(s·x).

Those of one half stand for both: the result is symmetric to the last bit, and within the same error bound, which leaves
two roundings to a term.  (Where s·y overflows and s·x does not, both are what the one above the diagonal is.)
Start reading at `exchangeable`.
"""

from __future__ import annotations

from collections.abc import Sequence

from gradc.node import Node
from gradc.ops.leaves import number_of
from gradc.ops.record import Kind

Label = int


def exchangeable(node: Node) -> tuple[int, int] | None:
    """The axes (row, column) of a contraction's result in which it is symmetric; None if there are none."""
    left, right, out = (tuple(node.attrs[k]) for k in ("left", "right", "out"))
    rows, columns = ([k for k in out if k not in side] for side in (right, left))
    if len(rows) != 1 or len(columns) != 1 or not node.aval.is_float:
        return None
    row, column = rows[0], columns[0]
    one = _unscaled(node.args[0], left, row)
    other = _unscaled(node.args[1], [row if k == column else k for k in right], row)
    if one[0] is not other[0] or one[1] != other[1]:
        return None
    return out.index(row), out.index(column)


def _unscaled(node: Node, labels: Sequence[Label], free: Label) -> tuple[Node, list[Label]]:
    """The array below transposes and below factors that do not vary along ``free``, and the labels of its axes."""
    labels = list(labels)
    while True:
        if node.op.permutes:
            below = dict(zip(node.attrs["axes"], labels, strict=True))
            node, labels = node.args[0], [below[axis] for axis in range(len(labels))]
            continue
        inner = _scaled(node, labels.index(free))
        if inner is None:
            return node, labels
        node = inner


def _scaled(node: Node, axis: int) -> Node | None:
    """The operand of which ``node`` is a multiple that is the same all along ``axis``; None if it is not one."""
    for i in node.op.multiplies:
        if all(_is_even(a, axis) for k, a in enumerate(node.args) if k != i):
            return node.args[i]
    if node.op.chooses and _is_even(node.args[0], axis):
        return next((x for x, zero in (node.args[1:], node.args[:0:-1]) if number_of(zero) == 0), None)
    return None


def _is_even(node: Node, axis: int) -> bool:
    """Whether an array shows the same number all along ``axis``, as a broadcast does, and what is made of them."""
    pending, seen = [node], {node}
    while pending:
        node = pending.pop()
        if node.op.repeats and not _is_shown(node, axis):
            continue
        if node.op.kind is not Kind.ELEMENTWISE:
            return False
        pending += [a for a in node.args if a not in seen]
        seen.update(node.args)
    return True


def _is_shown(node: Node, axis: int) -> bool:
    """Whether a broadcast varies along ``axis``."""
    axes = node.attrs["axes"]
    return axis in axes and node.args[0].shape[axes.index(axis)] != 1
