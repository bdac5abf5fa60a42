"""Losses of a projection to many classes whose logits are never all there at once.

Enters: features, and the weight of the projection to the classes, a vocabulary.  Leaves: the loss.
Invariant: the logits of one chunk of the classes exist at a time, in the forward pass and in every derivative of it:
the memory is that of the features and the weight.  Start reading at `linear_cross_entropy`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import gradc.numpy as gnp
from gradc.aval import Aval, promoted
from gradc.errors import DTypeError, ShapeError
from gradc.graph import Graph
from gradc.nn.terms import as_index, check_classes, class_weights, reduced_loss
from gradc.node import FUNCTIONS, OPS, Node, as_node, describe, here, static_int
from gradc.numpy.public import Array, ArrayLike, function
from gradc.numpy.reductions import inexact
from gradc.ops.control import Loop, inner_leaf, items
from gradc.ops.elementwise import cast

__all__ = ["linear_cross_entropy"]


@function("nn.linear_cross_entropy")
def linear_cross_entropy(
    input: ArrayLike,
    linear_weight: ArrayLike,
    target: ArrayLike,
    *,
    linear_bias: ArrayLike = None,
    weight: ArrayLike = None,
    reduction: str = "mean",
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    chunk: int = 1024,
) -> Array:
    """`cross_entropy` of `linear` (input, linear_weight, linear_bias), whose logits are never all in memory.

    ``input`` (N, in) or (in,), ``linear_weight`` (C, in), ``linear_bias`` (C,); the other arguments as of
    `cross_entropy`.  log Σ exp of the logits is that of the log Σ exp over chunks of ``chunk`` classes, of which
    derivatives make the logits again: for N examples memory is N·chunk + N·C/chunk numbers in place of N·C, and a
    training step takes one more product.
    """
    x, W, y = inexact(as_node(input)), inexact(as_node(linear_weight)), as_node(target)
    width = static_int(chunk, "chunk")
    if width < 1:
        raise ValueError(f"{here()}: linear_cross_entropy: chunk is at least 1, got {chunk!r:.40}")
    if x.ndim not in (1, 2) or W.ndim != 2 or x.shape[-1] != W.shape[1] or not W.shape[0]:
        raise ShapeError(
            f"{here()}: linear_cross_entropy: input is (N, in) or (in,), linear_weight (C, in).\n"
            f"  operands: {describe(x)}; {describe(W)}"
        )
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"{here()}: linear_cross_entropy: label_smoothing must be in [0, 1], got {label_smoothing}")
    b = None if linear_bias is None else as_node(linear_bias)
    if b is not None and b.shape != W.shape[:1]:
        raise ShapeError(f"{here()}: linear_cross_entropy: linear_bias is ({W.shape[0]},), got {describe(b)}")
    kind = promoted(*[a.dtype for a in (x, W, b) if a is not None])
    x, W, b = cast(x, kind), cast(W, kind), None if b is None else cast(b, kind)
    rows: Any = x if x.ndim == 2 else gnp.reshape(x, (1, -1))
    target_of = _probable if y.aval.is_float or (y.ndim and y.shape == (*x.shape[:-1], W.shape[0])) else _named
    losses, shares = target_of(x, rows, W, b, y, weight, ignore_index, label_smoothing, width)
    if x.ndim == 1:
        losses, shares = gnp.reshape(losses, ()), None if shares is None else gnp.reshape(shares, ())
    if reduction == "mean" and shares is not None:
        return gnp.sum(losses) / gnp.sum(shares)
    return reduced_loss(losses, reduction)


def _named(
    x: Node, rows: Node, W: Node, b: Any, y: Node, weight: Any, ignored: int | None, smoothing: float, width: int
) -> tuple[Any, Any]:
    """The losses of integer classes, and what a mean divides by where that is not their number."""
    if y.dtype.kind not in "iu":
        raise DTypeError(f"{here()}: linear_cross_entropy: targets are integer classes, got {describe(y)}")
    if y.shape != x.shape[:-1]:
        raise ShapeError(
            f"{here()}: linear_cross_entropy: input {x.shape} needs targets of shape {x.shape[:-1]}, got {describe(y)}"
        )
    check_classes("linear_cross_entropy", y, W.shape[0], ignored, ignorable=True)
    classes = gnp.reshape(cast(y, np.int64), (-1,))
    counts = None if ignored is None else classes != ignored
    safe = classes if counts is None else gnp.where(counts, classes, 0)
    top = _log_sum_exp(rows, W, b, width)
    at = as_index(safe)
    hit = gnp.sum(rows * FUNCTIONS["take"](W, at, axis=0), axis=1)
    hit = hit if b is None else hit + FUNCTIONS["take"](b, at, axis=0)
    share = None if weight is None else cast(class_weights("linear_cross_entropy", weight, W.shape[0]), W.dtype)
    own = None if share is None else FUNCTIONS["take"](share, at, axis=0)
    losses: Any = top - hit if own is None else own * (top - hit)
    if smoothing:
        every = gnp.full(W.shape[:1], 1.0, W.dtype) if share is None else share
        mean = (top * gnp.sum(every) - _weighed(rows, W, b, every)) / W.shape[0]
        losses = (1 - smoothing) * losses + smoothing * mean
    if counts is not None:
        losses = gnp.where(counts, losses, 0.0)
        own = gnp.where(counts, 1.0 if own is None else own, cast(as_node(0.0), W.dtype))
    return losses, own


def _probable(
    x: Node, rows: Node, W: Node, b: Any, p: Node, weight: Any, ignored: int | None, smoothing: float, width: int
) -> tuple[Any, Any]:
    """The losses of class probabilities."""
    if p.shape != (*x.shape[:-1], W.shape[0]):
        raise ShapeError(
            f"{here()}: linear_cross_entropy: class probabilities are {(*x.shape[:-1], W.shape[0])}, got {describe(p)}"
        )
    if ignored is not None:
        raise ValueError(
            f"{here()}: linear_cross_entropy: ignore_index={ignored} needs integer targets; of class probabilities, "
            f"make those of an example 0 to ignore it.\n  operand: {describe(p)}"
        )
    p = cast(gnp.reshape(p, (-1, W.shape[0])), W.dtype)
    p = p * (1 - smoothing) + smoothing / W.shape[0] if smoothing else p
    p = p if weight is None else p * cast(class_weights("linear_cross_entropy", weight, W.shape[0]), W.dtype)
    top = _log_sum_exp(rows, W, b, width)
    hit = gnp.sum(rows * (p @ W), axis=1)
    return top * gnp.sum(p, axis=1) - (hit if b is None else hit + p @ b), None


def _weighed(rows: Node, W: Node, b: Any, every: Node) -> Any:
    """The sum of each example's logits, times weights of the classes."""
    total: Any = rows @ (every @ W)
    return total if b is None else total + gnp.sum(every * b)


def _log_sum_exp(rows: Node, W: Node, b: Any, width: int) -> Any:
    """log Σ exp(rows·Wᵀ + b) over the classes, (N,): chunk by chunk, and over the chunks."""
    whole = W.shape[0] // width
    parts = [W] if b is None else [W, b]
    if not whole or W.shape[0] == width:
        return _of_chunk(rows, *parts)
    chunks = [gnp.reshape(a[: whole * width], (whole, width, *a.shape[1:])) for a in parts]
    fixed = inner_leaf(rows.aval, "rows")
    seen = [inner_leaf(Aval(a.shape[1:], a.dtype), "chunk") for a in chunks]
    body = Graph((fixed, *seen), (_again(fixed, *seen),), title="linear_cross_entropy")
    (found,) = items(Loop(body, (rows,), (), tuple(chunks), whole).node())
    if W.shape[0] % width:
        rest = _again(rows, *[a[whole * width :] for a in parts])
        found = gnp.concatenate([found, FUNCTIONS["expand_dims"](rest, 0)])
    return FUNCTIONS["logsumexp"](found, axis=0)


def _again(*args: Node) -> Node:
    """`_of_chunk`, which derivatives compute again."""
    leaves = [inner_leaf(a.aval, "part") for a in args]
    body = Graph(tuple(leaves), (_of_chunk(*leaves),), title="logits of a chunk")
    (made,) = items(OPS["checkpoint"].make(args, body=body))
    return made


def _of_chunk(rows: Node, *parts: Node) -> Node:
    """log Σ exp of the logits of some of the classes."""
    result: Node = FUNCTIONS["logsumexp"](FUNCTIONS["nn.linear"](rows, *parts), axis=1)
    return result
