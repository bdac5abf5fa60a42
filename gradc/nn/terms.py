"""What losses share: prediction and target of one shape, and what becomes of the losses of single examples.

Enters: arrays as a user gives them, and his word for the reduction.  Leaves: Nodes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import gradc.numpy as gnp
from gradc.errors import IndexingError, ShapeError
from gradc.node import FUNCTIONS, Node, as_node, describe, here
from gradc.numpy.public import ArrayLike, evaluated
from gradc.numpy.reductions import inexact
from gradc.ops.elementwise import cast
from gradc.ops.record import Kind
from gradc.random.arguments import known_number


def reduced_loss(loss: Node, reduction: str) -> Node:
    """The losses of all examples as one number, or as they are; ValueError for an unknown ``reduction``."""
    if reduction == "none":
        return loss
    if reduction not in ("mean", "sum"):
        raise ValueError(f"{here()}: reduction must be 'mean', 'sum' or 'none', got {reduction!r}")
    result: Node = FUNCTIONS[reduction](loss)
    return result


def pair(name: str, input: ArrayLike, target: ArrayLike) -> tuple[Node, Node]:
    """Prediction and target of one shape, as floats; targets must not broadcast, a classic source of silent errors."""
    x, y = inexact(as_node(input)), as_node(target)
    if x.shape != y.shape and y.ndim:
        raise ShapeError(
            f"{here()}: {name}: input {x.shape} and target {y.shape} must have one shape.\n"
            f"  operands: {describe(x)}; {describe(y)}"
        )
    return x, y


def weighted_loss(name: str, loss: Node, weight: ArrayLike, reduction: str) -> Node:
    """Losses times weights of their shape; "mean" divides by the sum of the weights."""
    w = cast(as_node(weight), loss.dtype)
    if w.shape != loss.shape:
        raise ShapeError(f"{here()}: {name}: weight must have the shape {loss.shape} of the input, got {describe(w)}")
    if reduction != "mean":
        return reduced_loss(loss * w, reduction)
    result: Node = gnp.sum(loss * w) / gnp.sum(w)
    return result


def above_zero(x: Node) -> Node:
    """max(x, 0) with the slope of PyTorch's clamp, which is 1 at 0."""
    result: Node = gnp.where(x >= 0, x, 0.0)
    return result


def signs(name: str, target: ArrayLike) -> Node:
    """Targets that are −1 or 1; ValueError for a known one that is neither."""
    y = as_node(target)
    if isinstance(target, Node):
        return y
    values = np.asarray(target)
    if np.any(wrong := np.abs(values) != 1):
        raise ValueError(f"{here()}: {name}: a target is −1 or 1, got {values[wrong][0]}; of 0 and 1 take 2*y - 1")
    return y


def check_positive(name: str, **numbers: Any) -> None:
    """ValueError for numbers that are known and not positive."""
    for what, value in numbers.items():
        known = known_number(value)
        if known is not None and not known > 0:
            raise ValueError(f"{here()}: {name}: {what} must be positive, got {known}")


def check_not_negative(name: str, **numbers: Any) -> None:
    """ValueError for numbers that are known and negative or NaN."""
    for what, value in numbers.items():
        known = known_number(value)
        if known is not None and not known >= 0:
            raise ValueError(f"{here()}: {name}: {what} must be at least 0, got {known}")


def class_weights(name: str, weight: ArrayLike, count: int) -> Node:
    """Weights of classes; ShapeError unless there is one for each."""
    w = as_node(weight)
    if w.shape != (count,):
        raise ShapeError(f"{here()}: {name}: weight must have shape ({count},), one per class, got {describe(w)}")
    return w


def known_value(node: Node) -> Any:
    """The values of a Node that constants alone make, known while tracing; None of any other."""
    pending, seen = [node], set()
    while pending:
        n = pending.pop()
        if n in seen:
            continue
        seen.add(n)
        if n.op.kind is Kind.INPUT:
            return None
        pending.extend(n.args)
    return evaluated(node)


def check_classes(
    name: str, classes: Node, count: int, ignored: int | None = None, *, what: str = "a target must be one of the "
    "classes", ignorable: bool = False,
) -> None:  # fmt: skip
    """IndexingError for known classes that are none of 0 … count − 1, nor ``ignored``.

    ``what`` begins the message; with ``ignorable`` the remedy for a negative one is ignore_index.
    """
    known = known_value(classes)
    if known is None:
        return
    values = np.asarray(known)
    wrong = ((values < 0) | (values >= count)) & (values != ignored)
    if wrong.any():
        first = values[wrong][0]
        remedy = f"; give ignore_index={first} to leave it out" if first < 0 and ignorable else ""
        raise IndexingError(f"{here()}: {name}: {what} 0 … {count - 1}, got {first}{remedy}")


def as_index(classes: Node) -> Node:
    """Classes as an index: a negative one is out of range, and not counted from the end."""
    return cast(classes, np.uint64)
