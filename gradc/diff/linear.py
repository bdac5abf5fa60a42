"""What both modes share: which nodes depend on an input, and the partial derivatives of one.

Invariant: a structurally zero tangent or cotangent is None, never an array of zeros.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from gradc.aval import NARROW, computed_in
from gradc.errors import DTypeError, TraceError
from gradc.interpret import topological
from gradc.node import Node, describe, here
from gradc.ops.elementwise import cast
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
    if op.partials is None and op.jvp is None and op.linear is not None:
        return i in op.linear
    return True


def partials_of(node: Node) -> Sequence[Any]:
    """∂node/∂argᵢ of an elementwise node; of narrow floats computed in float32, and rounded once."""
    assert node.op.partials is not None
    if node.dtype not in NARROW or node.op.exact:
        return node.op.partials(node, *node.args, **node.attrs)
    args = [cast(a, computed_in(a.dtype)) for a in node.args]
    wide = node.op.make(args, **node.attrs)
    known = dict(zip((wide, *args), (node, *node.args), strict=True))
    return [_rounded(p, known, node.dtype) for p in node.op.partials(wide, *args, **node.attrs)]


def _rounded(partial: Any, known: Mapping[Node, Node], dtype: np.dtype[Any]) -> Any:
    """A wide partial as ``dtype``: what is a value of the narrow computation is that value."""
    if not isinstance(partial, Node):
        return partial
    return known[partial] if partial in known else cast(partial, dtype)


def refuse_without_tangent(node: Node, name: str) -> None:
    """Asking for the derivative with respect to integers or bools is an error that names them."""
    if not has_tangent(node):
        raise DTypeError(
            f"{here()}: cannot differentiate with respect to {name!r} ({node.aval}): "
            "integers and bools have no tangent.\n"
            f"  Pass it as float (e.g. {name}.astype(float)), leave it out of argnums, or declare the field of a "
            f"dataclass gc.tree.static().  {describe(node)}"
        )
