"""What both modes share: which nodes depend on an input, and the partial derivatives of one.

Invariant: a structurally zero tangent or cotangent is None, never an array of zeros.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from gradc.errors import DTypeError, TraceError
from gradc.interpret import topological
from gradc.node import Node, describe, here
from gradc.ops.record import Op


def has_tangent(node: Node) -> bool:
    """Only floats have a tangent space; integers and bools are locally constant."""
    return node.aval.is_float


def active_nodes(outputs: Iterable[Node], inputs: Sequence[Node]) -> tuple[list[Node], set[Node]]:
    """Nodes in topological order, and those whose tangent may be non-zero."""
    order = topological(outputs)
    active = {n for n in inputs if has_tangent(n)}
    for node in order:
        if node in active or node.op.constant or not has_tangent(node) or not _reached(node, active):
            continue
        if not node.op.differentiable:
            raise TraceError(
                f"{node.where or here()}: {node.op.name} has no derivative rule, and its record does not say "
                f"constant=True: no derivative of {describe(node)} can be taken"
            )
        active.add(node)
    return order, active


def _reached(node: Node, active: set[Node]) -> bool:
    return any(a in active and passes(node.op, i) for i, a in enumerate(node.args))


def passes(op: Op, i: int) -> bool:
    """Whether operand ``i`` can carry a tangent through ``op``."""
    if op.partials is None and op.linear is not None:
        return i in op.linear
    return True


def partials_of(node: Node) -> Sequence[Any]:
    """∂node/∂argᵢ of an elementwise node."""
    assert node.op.partials is not None
    return node.op.partials(node, *node.args, **node.attrs)


def refuse_without_tangent(node: Node, name: str) -> None:
    """Asking for the derivative with respect to integers or bools is an error that names them."""
    if not has_tangent(node):
        raise DTypeError(
            f"{here()}: cannot differentiate with respect to {name!r} ({node.aval}): "
            "integers and bools have no tangent.\n"
            f"  Pass it as float (e.g. {name}.astype(float)), leave it out of argnums, or declare the field of a "
            f"dataclass gc.tree.static().  {describe(node)}"
        )
