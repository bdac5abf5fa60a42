"""Reverse mode of one node: the cotangents of its operands from that of its value.

The node is linearised by its one rule and the linear map is transposed on the spot: an elementwise node multiplies the
cotangent by its partials, a linear op uses its `transpose`, any other op's JVP is built along a direction and that
(structurally linear) little graph is transposed.  There is no table of VJPs.

Where a cotangent is 0 it stays 0, whatever it is multiplied by (`gradc.ops.products`).  Cotangents of slices of one
value are collected into one `superpose`.  `modes` walks the graph.
"""

from __future__ import annotations

from collections.abc import Sequence

from gradc.aval import Shape
from gradc.diff.linear import partials_of
from gradc.errors import TraceError
from gradc.interpret import computed_from, topological
from gradc.node import OPS, Node
from gradc.ops.control import inner_leaf
from gradc.ops.products import scaled
from gradc.ops.record import has_results


def accumulate(parts: Sequence[Node]) -> Node:
    """The sum of cotangents that reach one node; placements of slices are merged into one n-ary node."""
    if len(parts) == 1:
        return parts[0]
    placed = [v for v in parts if v.op.boxes is not None]
    dense = [v for v in parts if v.op.boxes is None]
    if len(placed) > 1:
        placed = [_merged(placed)]
    total, *rest = [*dense, *placed]
    for v in rest:
        total = total + v
    return total


def _merged(placed: Sequence[Node]) -> Node:
    """All placements as one; what lies at one place is added up before it is placed."""
    at: dict[tuple[Shape, Shape, Shape], Node] = {}
    for v in placed:
        for x, start, step in zip(v.args, v.attrs["starts"], v.attrs["steps"], strict=True):
            here = x.shape, start, step
            at[here] = at[here] + x if here in at else x
    _, starts, steps = zip(*at, strict=True)
    return OPS["superpose"].make(tuple(at.values()), shape=placed[0].shape, starts=starts, steps=steps)


def pull_through(node: Node, i: int, ct: Node) -> Node | None:
    """The cotangent of operand ``i`` from that of ``node``; None where it is structurally zero."""
    op = node.op
    if op.partials is not None:
        return scaled(ct, partials_of(node)[i])
    if op.jvp is not None:
        return _transposed_rule(node, i, [ct])
    assert op.transpose is not None
    return op.transpose(ct, node, i)


# -- ops that have a JVP only: linearise on a direction, then transpose ----------------------------------------------


def pull_through_results(node: Node, i: int, cts: Sequence[Node | None]) -> Node | None:
    """`pull_through` for a node with several results that holds no bodies."""
    return _transposed_rule(node, i, cts)


def _transposed_rule(node: Node, i: int, cts: Sequence[Node | None]) -> Node | None:
    direction = inner_leaf(node.args[i].aval, "tangent")
    tangents: list[Node | None] = [None] * len(node.args)
    tangents[i] = direction
    assert node.op.jvp is not None
    found = node.op.jvp(node, tangents)
    pairs = zip(found, cts, strict=True) if has_results(node) else [(found, *cts)]
    return transpose_linear([(t, ct) for t, ct in pairs if t is not None and ct is not None], direction, node)


def transpose_linear(pairs: Sequence[tuple[Node, Node]], direction: Node, rule_of: Node) -> Node | None:
    """The cotangent of ``direction`` for tangents that are linear in it, each given with its own; names the op that is
    not linear.
    """
    order = topological([tangent for tangent, _ in pairs])
    dependent = computed_from([direction], order)
    pending: dict[Node, list[Node]] = {}
    for tangent, ct in pairs:
        if tangent in dependent:
            pending.setdefault(tangent, []).append(ct)
    for node in reversed(order):
        if node is direction or node not in pending:
            continue
        total = accumulate(pending.pop(node))
        where = [i for i, a in enumerate(node.args) if a in dependent]
        _check_linear(node, where, rule_of)
        for i in where:
            part = _linear_pull(node, i, total)
            if part is not None:
                pending.setdefault(node.args[i], []).append(part)
    received = pending.get(direction)
    return None if received is None else accumulate(received)


def _check_linear(node: Node, where: Sequence[int], rule_of: Node) -> None:
    if not is_linear_in(node, where):
        raise TraceError(
            f"the derivative rule of {rule_of.op.name} is not linear in its tangent: it applies {node.op.name} to it"
        )


def is_linear_in(node: Node, where: Sequence[int]) -> bool:
    """Whether a node is linear in all the operands at ``where`` together."""
    op = node.op
    linear = op.linear if op.linear is not None else () if op.transpose is None else range(len(node.args))
    return all(i in linear for i in where) and (not op.multilinear or len(where) == 1)


def _linear_pull(node: Node, i: int, ct: Node) -> Node | None:
    if node.op.transpose is not None:
        return node.op.transpose(ct, node, i)
    return scaled(ct, partials_of(node)[i])
