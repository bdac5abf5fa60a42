"""How a tangent or cotangent meets a partial derivative: zero is zero.

Enters: a tangent and a factor.  Leaves: their product, which is 0 where the tangent is, whatever infinite or NaN factor
it meets there.  Three forms say so, the cheapest that does is taken: a plain product where neither can be infinite or
NaN at a zero of the other (`needs_strength`); the product under the selection, where the tangent was selected; and
``strong_multiply``.
Invariant: all of them are linear in the tangent, and products of any number of factors are the same in any order.
"""

from __future__ import annotations

from typing import Any

from gradc.node import OPS, Node, dsl
from gradc.ops.elementwise import apply
from gradc.ops.ranges import as_factor, is_zero, needs_strength, range_of
from gradc.ops.record import Kind


def scaled(tangent: Node, factor: Any) -> Node | None:
    """tangent · factor, where the factor is a Node, a Python number, or None for zero."""
    if factor is None:
        return None
    if not isinstance(factor, Node) and factor == 1:
        return tangent
    if tangent.op is OPS["where"] and (chosen := _under_selection(tangent, factor)) is not None:
        return chosen
    if not isinstance(factor, Node):
        return -tangent if factor == -1 else tangent * factor
    of_tangent, of_factor = range_of(tangent), as_factor(factor)
    left, right = needs_strength(of_tangent.zeros, of_factor.hazard), needs_strength(of_factor.zeros, of_tangent.hazard)
    if not (left or right):
        return tangent * factor
    shown = _selection_shown(tangent)
    chosen = _under_selection(shown, factor) if shown is not None else None
    return apply(OPS["strong_multiply"], tangent, factor, left=left, right=right) if chosen is None else chosen


def times(tangent: Node, factor: Node) -> Node:
    """tangent · factor, of which the tangent's zeros survive: what a JVP rule multiplies by."""
    product = scaled(tangent, factor)
    assert product is not None
    return product


def _under_selection(tangent: Node, factor: Any) -> Node | None:
    """where(m, t, 0) · p = where(m, t · p, 0)."""
    mask, x, y = tangent.args
    if is_zero(y):
        return dsl.where(mask, scaled(x, factor), 0)
    return dsl.where(mask, 0, scaled(y, factor)) if is_zero(x) else None


def _selection_shown(tangent: Node) -> Node | None:
    """A view of a selection as a selection between views."""
    views = []
    node = tangent
    while node.op.kind is Kind.VIEW and len(node.args) == 1 and node.op is not OPS["pad"]:
        views.append(node)
        node = node.args[0]
    if node.op is not OPS["where"]:
        return None
    args = list(node.args)
    for view in reversed(views):
        args = [view.op.make((a,), **view.attrs) for a in args]
    return OPS["where"].make(args)
