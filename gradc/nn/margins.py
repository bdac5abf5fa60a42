"""Losses with a margin: hinges of one class, of several, of pairs.  Names and meaning of torch.nn.functional.

Enters: scores and targets.  Leaves: a scalar for ``reduction`` "mean" and "sum", one number per example for "none".
Invariant: where a hinge bends it has PyTorch's slope.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import gradc.numpy as gnp
from gradc.errors import DTypeError, ShapeError
from gradc.nn.terms import above_zero, as_index, check_classes, class_weights, pair, reduced_loss, signs
from gradc.node import OPS, Node, as_node, describe, here
from gradc.numpy.public import Array, ArrayLike, function
from gradc.numpy.reductions import inexact
from gradc.ops.elementwise import apply, cast
from gradc.ops.leaves import iota

__all__ = [
    "hinge_embedding_loss", "hinge_loss", "margin_ranking_loss", "multi_margin_loss", "multilabel_margin_loss",
    "multilabel_soft_margin_loss", "soft_margin_loss",
]  # fmt: skip


@function("nn.hinge_loss", singular="0 at the margin", wide=True)
def hinge_loss(
    input: ArrayLike, target: ArrayLike, *, margin: ArrayLike = 1.0, squared: bool = False, reduction: str = "mean"
) -> Array:
    """max(0, margin − target·input) for targets −1 and 1, the loss of support vector machines; ``squared``: its square.

    Cortes & Vapnik 1995.
    """
    x, _ = pair("hinge_loss", input, target)
    loss = apply(OPS["relu"], margin - signs("hinge_loss", target) * x)
    return reduced_loss(apply(OPS["square"], loss) if squared else loss, reduction)


@function("nn.soft_margin_loss", wide=True)
def soft_margin_loss(input: ArrayLike, target: ArrayLike, *, reduction: str = "mean") -> Array:
    """log(1 + exp(−target·input)) for targets −1 and 1, without overflow."""
    x, _ = pair("soft_margin_loss", input, target)
    return reduced_loss(apply(OPS["softplus"], -(signs("soft_margin_loss", target) * x)), reduction)


@function("nn.hinge_embedding_loss", singular="0 at the margin", wide=True)
def hinge_embedding_loss(
    input: ArrayLike, target: ArrayLike, *, margin: ArrayLike = 1.0, reduction: str = "mean"
) -> Array:
    """The input, a distance, for the target 1, and max(0, margin − input) for −1."""
    x, _ = pair("hinge_embedding_loss", input, target)
    y = signs("hinge_embedding_loss", target)
    return reduced_loss(gnp.where(y == 1, x, apply(OPS["relu"], margin - x)), reduction)


@function("nn.margin_ranking_loss", singular="the slope inside at the margin", wide=True)
def margin_ranking_loss(
    input1: ArrayLike, input2: ArrayLike, target: ArrayLike, *, margin: ArrayLike = 0.0, reduction: str = "mean"
) -> Array:
    """max(0, margin − target·(input1 − input2)): the first should be larger for the target 1, the second for −1."""
    one, two = pair("margin_ranking_loss", input1, input2)
    if as_node(target).ndim:
        pair("margin_ranking_loss", one, target)
    y = signs("margin_ranking_loss", target)
    return reduced_loss(above_zero(margin - y * (one - two)), reduction)


@function("nn.multi_margin_loss", singular="0 at the margin", wide=True)
def multi_margin_loss(
    input: ArrayLike,
    target: ArrayLike,
    p: int = 1,
    margin: ArrayLike = 1.0,
    weight: ArrayLike = None,
    *,
    reduction: str = "mean",
) -> Array:
    """Σ_{i≠y} max(0, margin − x[y] + x[i])ᵖ/C of scores (N, C) or (C,) and classes y (N,) or (); p is 1 or 2.

    ``weight`` (C,): each example's loss times that of its class (Crammer & Singer 2001).
    """
    x, y = _scores("multi_margin_loss", input, target, one_each=True)
    if p not in (1, 2):
        raise ValueError(f"{here()}: multi_margin_loss: p must be 1 or 2, got {p!r:.40}")
    count = x.shape[-1]
    check_classes("multi_margin_loss", y, count)
    labels = gnp.expand_dims(as_index(y), -1)
    distance = margin - gnp.take_along_axis(x, labels, -1) + x
    term = apply(OPS["relu"], gnp.where(iota(x.shape, x.ndim - 1, labels.dtype) == labels, -1.0, distance))
    loss = gnp.sum(term if p == 1 else apply(OPS["square"], term), axis=-1) / float(count)
    if weight is not None:
        loss = loss * gnp.take(class_weights("multi_margin_loss", weight, count), y)
    return reduced_loss(loss, reduction)


@function("nn.multilabel_margin_loss", singular="0 at the margin", wide=True)
def multilabel_margin_loss(input: ArrayLike, target: ArrayLike, *, reduction: str = "mean") -> Array:
    """Σ_{i, j} max(0, 1 − x[jᵗʰ label] + x[i])/C over the labels of an example and the classes i that are none of them.

    Scores (N, C) or (C,); target of that shape: the classes of each example, then −1; what follows a −1 does not count.
    """
    x, y = _scores("multilabel_margin_loss", input, target, one_each=False)
    count, y = x.shape[-1], cast(y, np.int64)
    check_classes("multilabel_margin_loss", y, count, -1, what="a target must be −1 or one of the classes")
    valid = gnp.cumprod(cast(y >= 0, np.int64), axis=-1) == 1
    labels = gnp.where(valid, y, 0)
    classes = iota((*y.shape, count), y.ndim, labels.dtype)  # (…, label, class)
    hits = (gnp.expand_dims(labels, -1) == classes) & gnp.expand_dims(valid, -1)
    free = gnp.expand_dims(~gnp.any(hits, axis=-2), -2) & gnp.expand_dims(valid, -1)
    distance = 1.0 - gnp.expand_dims(gnp.take_along_axis(x, labels, -1), -1) + gnp.expand_dims(x, -2)
    terms = apply(OPS["relu"], gnp.where(free, distance, -1.0))
    return reduced_loss(gnp.sum(terms, axis=(-2, -1)) / float(count), reduction)


@function("nn.multilabel_soft_margin_loss", wide=True)
def multilabel_soft_margin_loss(
    input: ArrayLike, target: ArrayLike, weight: ArrayLike = None, *, reduction: str = "mean"
) -> Array:
    """The mean over C classes of the binary cross-entropy of logits (…, C) and targets (…, C) in {0, 1}.

    ``weight`` (C,) weights the classes.
    """
    x, y = pair("multilabel_soft_margin_loss", input, target)
    if not x.ndim:
        raise ShapeError(
            f"{here()}: multilabel_soft_margin_loss: input must have an axis of classes, got {describe(x)}"
        )
    terms = apply(OPS["softplus"], x) - y * x
    if weight is not None:
        terms = terms * class_weights("multilabel_soft_margin_loss", weight, x.shape[-1])
    return reduced_loss(gnp.mean(terms, axis=-1), reduction)


def _scores(name: str, input: ArrayLike, target: ArrayLike, one_each: bool) -> tuple[Node, Node]:
    """Scores (N, C) or (C,), and classes: one for each example, or as many as there are scores."""
    x, y = inexact(as_node(input)), as_node(target)
    if y.dtype.kind not in "iu":
        raise DTypeError(f"{here()}: {name}: targets must be integer classes, got {describe(y)}")
    wanted: Any = x.shape[:-1] if one_each else x.shape
    if x.ndim not in (1, 2) or y.shape != wanted or not x.shape[-1]:
        raise ShapeError(
            f"{here()}: {name}: input must be (N, C) or (C,), and target {wanted if x.ndim in (1, 2) else '(N,)'}.\n"
            f"  operands: {describe(x)}; {describe(y)}"
        )
    return x, y
