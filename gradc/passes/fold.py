"""Constant folding: what depends on constants alone is computed now, by NumPy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradc.aval import converted
from gradc.graph import Graph
from gradc.node import OPS, Node, constant, derived_from
from gradc.ops.record import HOLDERS, Kind
from gradc.passes.rules import mapped

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: results larger than this stay in the graph: a big constant costs memory and compile time
MOST_ELEMENTS = 4096


def fold(graph: Graph) -> Graph:
    """Evaluate nodes whose operands are constants; an elementwise op on broadcast scalars becomes a broadcast
    scalar.
    """

    def folded(node: Node, args: tuple[Node, ...]) -> Node | None:
        if not args or not all(map(_is_known, args)):
            return None
        if node.op.repeats or node.op.kind in (Kind.ITEM, Kind.WHOLE, *HOLDERS):
            return None
        if node.op.kind is Kind.ELEMENTWISE and not node.op.stops:
            scalars = [splat_value(a) for a in args]
            if all(s is not None for s in scalars):
                return _splat(node, scalars)
        if (
            node.size <= MOST_ELEMENTS
            and all(a.op.kind is Kind.CONSTANT for a in args)
            and node.op.kind not in (Kind.SORT, Kind.SEARCH)
        ):
            value = node.op.evaluate(*[a.attrs["value"] for a in args], **node.attrs)
            return _constant(value, node)
        return None

    return mapped(graph, folded)


def _is_known(node: Node) -> bool:
    """Whether ``node`` is a constant, or one shown in several places."""
    while node.op.repeats:
        node = node.args[0]
    return node.op.kind is Kind.CONSTANT


def splat_value(node: Node) -> NDArray[Any] | None:
    """The 0-d value that ``node`` has everywhere, if that is known."""
    while node.op.repeats:
        node = node.args[0]
    if node.op.kind is not Kind.CONSTANT:
        return None
    value: NDArray[Any] = node.attrs["value"]
    return value if value.ndim == 0 else value.reshape(()) if value.size == 1 else None


def _splat(node: Node, scalars: list[NDArray[Any] | None]) -> Node:
    value = _constant(node.op.evaluate(*scalars, **node.attrs), node)
    return value if node.shape == () else OPS["broadcast"].make((value,), shape=node.shape, axes=())


def _constant(value: Any, node: Node) -> Node:
    """``value`` in the place of ``node``, from the same line of source."""
    with derived_from(node.where):
        return constant(converted(value, node.dtype), node.aval.weak)
