"""Axes and shapes as users write them, brought to the graph's form.

Enters: ints (also negative), tuples, None.  Leaves: non-negative ints and tuples of ints.  Invariant: what a message
names is what the user wrote.
"""

from __future__ import annotations

from typing import Any

from gradc.aval import Shape
from gradc.errors import ShapeError
from gradc.node import Node, as_node, describe, here, static_int


def axis_of(axis: Any, x: Node, ndim: int | None = None) -> int:
    """``axis`` of ``x`` as a non-negative int; ``ndim`` if the result has another rank than ``x``."""
    rank = x.ndim if ndim is None else ndim
    given = static_int(axis, "an axis")
    if not -rank <= given < rank:
        raise ShapeError(f"{here()}: axis {given} is out of bounds for {rank} dimensions of {describe(x)}")
    return given % rank


def axes_of(axis: Any, x: Node, ndim: int | None = None) -> tuple[int, ...]:
    """``axis`` as a tuple in the user's order, None meaning all; raises ShapeError for a repeated axis."""
    if axis is None:
        return tuple(range(x.ndim))
    given = axis if isinstance(axis, (tuple, list)) else (axis,)
    result = tuple(axis_of(a, x, ndim) for a in given)
    if len(set(result)) < len(result):
        raise ShapeError(f"{here()}: axis {axis!r} names an axis of {describe(x)} twice")
    return result


def shape_of(shape: Any) -> Shape:
    """A shape as a tuple of ints; TraceError for a traced extent, ShapeError for a negative one."""
    given = shape if isinstance(shape, (tuple, list)) else _extents(shape)
    result = tuple(static_int(n, "an extent of a shape") for n in given)
    if any(n < 0 for n in result):
        raise ShapeError(f"{here()}: negative extents are not allowed in a shape, got {shape!r}")
    return result


def _extents(shape: Any) -> tuple[Any, ...]:
    """What is neither a list nor a tuple: an array of extents, or a single one."""
    if isinstance(shape, Node):
        return (shape,)
    return tuple(shape) if getattr(shape, "ndim", 0) else (shape,)


def nodes(values: Any) -> list[Node]:
    """The arrays of a sequence, or the rows of an array, as Nodes."""
    return [as_node(v) for v in values]
