"""Reverse mode of one node: the cotangents of its operands from that of its value.

The node is linearised by its one rule and the linear map is transposed on the spot: an elementwise node multiplies the
cotangent by its partials, a linear op uses its `transpose`, any other op's JVP is built along a direction and that
(structurally linear) little graph is transposed.  There is no table of VJPs.

A cotangent is a value and an optional mask: where the mask is false the cotangent is zero, whatever the value says.
Masks come from selections; they are applied once, by a select, so an infinite partial in a branch that was not taken
never meets a zero (0·inf would be NaN).  Cotangents of slices of one value are collected into one `superpose`.
`modes` walks the graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gradc.aval import Shape
from gradc.diff.linear import partials_of, scaled
from gradc.errors import TraceError
from gradc.interpret import topological
from gradc.node import OPS, Node, dsl


@dataclass(frozen=True, slots=True)
class Cotangent:
    """``value`` where ``mask`` holds (None: everywhere), zero elsewhere."""

    value: Node
    mask: Node | None = None

    def settled(self) -> Node:
        """The plain value, zeros written in."""
        if self.mask is None:
            return self.value
        return dsl.where(self.mask, self.value, 0)


def accumulate(parts: Sequence[Cotangent]) -> Cotangent:
    """The sum of cotangents that reach one node; placements of slices are merged into one n-ary node."""
    if len(parts) == 1:
        return parts[0]
    values = [p.settled() for p in parts]
    placed = [v for v in values if v.op.name == "superpose"]
    dense = [v for v in values if v.op.name != "superpose"]
    if len(placed) > 1:
        placed = [_merged(placed)]
    total, *rest = [*dense, *placed]
    for v in rest:
        total = total + v
    return Cotangent(total)


def _merged(placed: Sequence[Node]) -> Node:
    """All placements as one; what lies at one place is added up before it is placed."""
    at: dict[tuple[Shape, Shape, Shape], Node] = {}
    for v in placed:
        for x, start, step in zip(v.args, v.attrs["starts"], v.attrs["steps"], strict=True):
            here = x.shape, start, step
            at[here] = at[here] + x if here in at else x
    _, starts, steps = zip(*at, strict=True)
    return OPS["superpose"].make(tuple(at.values()), shape=placed[0].shape, starts=starts, steps=steps)


def pull_through(node: Node, i: int, ct: Cotangent) -> list[Cotangent]:
    """The cotangent(s) of operand ``i`` from that of ``node``."""
    op = node.op
    if op.partials is not None:
        value = scaled(ct.value, partials_of(node)[i])
        return [] if value is None else [Cotangent(value, ct.mask)]
    if op.jvp is not None:
        return _transposed_rule(node, i, ct)
    return [transposed(node, i, ct)]


def transposed(node: Node, i: int, ct: Cotangent) -> Cotangent:
    """Transpose a linear op; masks pass through selections and through views that only move elements."""
    if node.op.name == "where":
        mask = node.args[0] if i == 1 else ~node.args[0]
        return Cotangent(ct.value, mask if ct.mask is None else ct.mask & mask)
    assert node.op.transpose is not None
    if ct.mask is not None and node.op.name in ("reshape", "transpose"):
        return Cotangent(
            _required(node.op.transpose(ct.value, node, i)), _required(node.op.transpose(ct.mask, node, i))
        )
    value = _required(node.op.transpose(ct.settled(), node, i))
    if ct.mask is not None and node.op.name == "broadcast":
        return Cotangent(value, _any_over_broadcast(ct.mask, node))
    return Cotangent(value)


def _required(node: Node | None) -> Node:
    assert node is not None, "a transpose of a linear operand returns a Node"
    return node


def _any_over_broadcast(mask: Node, node: Node) -> Node:
    """A broadcast element has a cotangent if any of its copies has."""
    x, axes = node.args[0], node.attrs["axes"]
    spread = [a for k, a in enumerate(axes) if x.shape[k] == 1 and mask.shape[a] != 1]
    over = tuple(sorted({*range(mask.ndim)} - {*axes} | {*spread}))
    reduced = OPS["any"].make((mask,), axes=over) if over else mask
    return dsl.reshape(reduced, x.shape)


# -- ops that have a JVP only: linearise on a direction, then transpose ----------------------------------------------


def _transposed_rule(node: Node, i: int, ct: Cotangent) -> list[Cotangent]:
    direction = Node(
        OPS["input"], (), {"aval": node.args[i].aval, "name": "tangent", "trace": None}, node.args[i].aval
    )
    tangents: list[Node | None] = [None] * len(node.args)
    tangents[i] = direction
    assert node.op.jvp is not None
    tangent = node.op.jvp(node, tangents)
    if tangent is None:
        return []
    return transpose_linear(tangent, direction, ct, node)


def transpose_linear(tangent: Node, direction: Node, ct: Cotangent, rule_of: Node) -> list[Cotangent]:
    """Cotangents of ``direction`` for a graph that is linear in it; names the op that is not."""
    order = topological([tangent])
    dependent = {direction}
    for node in order:
        if any(a in dependent for a in node.args):
            dependent.add(node)
    pending: dict[Node, list[Cotangent]] = {tangent: [ct]}
    for node in reversed(order):
        if node is direction or node not in pending:
            continue
        total = accumulate(pending.pop(node))
        where = [i for i, a in enumerate(node.args) if a in dependent]
        _check_linear(node, where, dependent, rule_of)
        for i in where:
            parts = _linear_pull(node, i, total)
            pending.setdefault(node.args[i], []).extend(parts)
    return pending.get(direction, [])


_LINEAR_ELEMENTWISE = {"add", "subtract", "negative", "positive", "cast"}
_LINEAR_IN_ONE = {"multiply": (0, 1), "divide": (0,)}


def _check_linear(node: Node, where: Sequence[int], dependent: set[Node], rule_of: Node) -> None:
    name = node.op.name
    linear = node.op.linear if node.op.linear is not None else range(len(node.args))
    fine = (
        name in _LINEAR_ELEMENTWISE
        or (name in _LINEAR_IN_ONE and len(where) == 1 and where[0] in _LINEAR_IN_ONE[name])
        or (
            node.op.transpose is not None
            and all(i in linear for i in where)
            and (not node.op.multilinear or len(where) == 1)
        )
    )
    if not fine:
        raise TraceError(
            f"the derivative rule of {rule_of.op.name} is not linear in its tangent: it applies {name} to it"
        )


def _linear_pull(node: Node, i: int, ct: Cotangent) -> list[Cotangent]:
    if node.op.transpose is not None:
        return [transposed(node, i, ct)]
    if node.op.name == "divide":
        return [Cotangent(ct.value / node.args[1], ct.mask)]
    value = scaled(ct.value, partials_of(node)[i])
    return [] if value is None else [Cotangent(value, ct.mask)]
