"""Where rounding can change a choice: the place of an extreme element, an order, a place in an ordered axis.

Enters: values of operands and bounds on their errors.  Leaves: for each whole number that was chosen a bound of 0 if
the errors cannot change it, of inf if they can; and what an uncertain index does to what is read there.  An element
that is off may be anywhere between its ends (`_ends`); exact elements that tie are told apart by where they stand.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gradc.node import Node
from gradc.ops.record import Kind

Array = np.ndarray[Any, Any]


def _ends(x: Array, error: Array) -> tuple[Array, Array]:
    """The least and the largest that an element may be: beyond its value wherever it is off; NaN is the largest."""
    key = np.where(np.isnan(x), np.inf, x)
    low, high = np.where(np.isinf(error), -np.inf, key - error), np.where(np.isinf(error), np.inf, key + error)
    off = error > 0
    return np.where(off, np.nextafter(low, -np.inf), key), np.where(off, np.nextafter(high, np.inf), key)


def of_another_element(node: Node, x: Array, error: Array, value: Array) -> Array:
    """Of the place of an extreme element: whether another one can be it."""
    if not np.any(error > 0):
        return np.zeros(node.shape)
    (axis,) = node.attrs["axes"]
    low, high = _ends(x, error)
    if node.op.keeps == "lt":
        low, high = np.where(np.isnan(x), low, -high), np.where(np.isnan(x), high, -low)
    chosen = np.expand_dims(value, axis)
    least = np.take_along_axis(low, chosen, axis)
    others = high.astype(np.float64)
    np.put_along_axis(others, chosen, -np.inf, axis)
    return np.where(np.any(others > least, axis=axis), np.inf, 0.0)


def in_another_order(x: Array, error: Array, order: Array, axis: int) -> Array:
    """Of an order: whether another element can stand there."""
    if not np.any(error > 0):
        return np.zeros(x.shape)
    low, high = (np.moveaxis(np.take_along_axis(end, order, axis), axis, -1) for end in _ends(x, error))
    before = np.maximum.accumulate(high, -1)[..., :-1]
    behind = np.minimum.accumulate(low[..., ::-1], -1)[..., ::-1][..., 1:]
    mixed = before > behind  # across the gap between two neighbours
    edge = np.zeros((*mixed.shape[:-1], 1), bool)
    uncertain = np.concatenate([edge, mixed], -1) | np.concatenate([mixed, edge], -1)
    return np.moveaxis(np.where(uncertain, np.inf, 0.0), -1, axis)


def of_another_place(node: Node, args: Sequence[Array], errors: Sequence[Array], value: Array) -> Array:
    """Of where an element would be inserted: whether it can be elsewhere."""
    if not any(np.any(e > 0) for e in errors):
        return np.zeros(node.shape)
    (low, high), (least, most) = (_ends(a, e) for a, e in zip(args, errors, strict=True))
    first = node.op.numpy(np.sort(high, -1), least, **node.attrs)
    last = node.op.numpy(np.sort(low, -1), most, **node.attrs)
    return np.where(first != last, np.inf, 0.0)


def at_uncertain_places(node: Node, args: Sequence[Array], errors: Sequence[Array], moved: Array) -> Array:
    """Of what is read at indices of which some are uncertain: no bound there.

    The element at a place of the operand's own order moves by no more than the operand's largest error along the axis,
    whichever element it is.
    """
    for k, (axis, index) in enumerate(zip(node.attrs["axes"], node.args[1:], strict=True), 1):
        uncertain = np.reshape(errors[k] > 0, errors[k].shape + (1,) * (moved.ndim - errors[k].ndim))
        if not np.any(uncertain):
            continue
        if _is_own_order(node, index, axis):
            moved = np.where(uncertain, np.max(errors[0], axis=axis, keepdims=True), moved)
        else:
            moved = np.where(uncertain, np.inf, moved)
    return moved


def _is_own_order(node: Node, index: Node, axis: int) -> bool:
    """Whether what is read is the operand, put into its own order along ``axis``."""
    x, axes = node.args[0], node.attrs["axes"]
    others = [(a, other) for a, other in zip(axes, node.args[1:], strict=True) if a != axis and x.shape[a] != 1]
    stay = all(other.op.counts and other.attrs["axis"] == a for a, other in others)
    ordered = index.op.kind is Kind.SORT and index.args[0] is x and index.attrs["axis"] == axis
    return ordered and stay and len(axes) == x.ndim and node.shape == x.shape
