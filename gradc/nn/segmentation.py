"""Losses for classes of very different frequency: focal loss and overlap.

Enters: logits or probabilities, and targets.  Leaves: a scalar for ``reduction`` "mean" and "sum", one number per
example for "none".  Invariant: from logits, no difference of numbers near 1 is taken.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import gradc.numpy as gnp
from gradc.errors import ShapeError
from gradc.nn.terms import check_not_negative, class_weights, pair, reduced_loss
from gradc.node import FUNCTIONS, OPS, Node, as_node, describe, here
from gradc.numpy.axes import axes_of
from gradc.numpy.public import Array, ArrayLike, function
from gradc.ops.elementwise import apply, cast
from gradc.random.arguments import known_number

__all__ = ["dice_loss", "focal_loss", "sigmoid_focal_loss"]


@function("nn.sigmoid_focal_loss", wide=True)
def sigmoid_focal_loss(
    inputs: ArrayLike, targets: ArrayLike, alpha: float = 0.25, gamma: float = 2.0, reduction: str = "none"
) -> Array:
    """α_t·(1 − p_t)^γ·(−log p_t) of logits and targets in [0, 1]: p_t = p for the target 1, 1 − p for 0 (Lin et al.
    2017).

    α_t is ``alpha`` for 1 and 1 − alpha for 0; a negative ``alpha`` is none.  Name and defaults are torchvision's.
    """
    z, y = pair("sigmoid_focal_loss", inputs, targets)
    check_not_negative("sigmoid_focal_loss", gamma=gamma)
    share = known_number(alpha)
    if share is not None and share > 1:
        raise ValueError(f"{here()}: sigmoid_focal_loss: alpha must be at most 1, or negative for none, got {share}")
    missed = y * apply(OPS["sigmoid"], -z) + (1 - y) * apply(OPS["sigmoid"], z)
    loss = (apply(OPS["softplus"], z) - y * z) * _power(missed, gamma)
    if share is None or share >= 0:
        loss = loss * (alpha * y + (1 - alpha) * (1 - y))
    return reduced_loss(loss, reduction)


@function("nn.focal_loss", wide=True)
def focal_loss(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike = None,
    *,
    gamma: float = 2.0,
    ignore_index: int | None = None,
    reduction: str = "mean",
) -> Array:
    """(1 − p)^γ·(−log p) of the probability p of the target class: logits (N, C, …) or (C,) and integer targets, as in
    `cross_entropy`, which this is for γ = 0 (Lin et al. 2017).

    ``weight`` (C,) weights the classes.  "mean" divides by the number of examples, without those that are ignored; not
    by their weights.
    """
    check_not_negative("focal_loss", gamma=gamma)
    cross_entropy = FUNCTIONS["nn.cross_entropy"]
    plain: Node = cross_entropy(input, target, ignore_index=ignore_index, reduction="none")
    loss = plain * _power(-gnp.expm1(-plain), gamma)
    y = as_node(target)
    if y.aval.is_float or y.shape != loss.shape:
        raise ShapeError(f"{here()}: focal_loss: targets must be integer classes {loss.shape}, got {describe(y)}")
    y = cast(y, np.int64)  # of narrow integers ignore_index may be none
    if weight is not None:
        logits = as_node(input)
        given = class_weights("focal_loss", weight, logits.shape[1 if logits.ndim > 1 else 0])
        loss = loss * gnp.take(given, y if ignore_index is None else gnp.where(y == ignore_index, 0, y))
    if reduction != "mean" or ignore_index is None:
        return reduced_loss(loss, reduction)
    return gnp.sum(loss) / gnp.sum(gnp.astype(y != ignore_index, loss.dtype))


def _power(x: Node, gamma: Any) -> Node:
    """x^γ for x >= 0; 1 for γ = 0."""
    known = known_number(gamma)
    if known == 0:
        return gnp.ones_like(x)
    return apply(OPS["square"], x) if known == 2 else x**gamma


@function("nn.dice_loss", wide=True)
def dice_loss(
    input: ArrayLike,
    target: ArrayLike,
    *,
    dim: Any = None,
    smooth: float = 1.0,
    squared: bool = False,
    reduction: str = "mean",
) -> Array:
    """1 − (2·Σ p·y + smooth)/(Σ p + Σ y + smooth) of probabilities p and targets y of one shape, over the axes ``dim``.

    None: all but the first, one number for each example.  ``squared``: sums of squares below the line (Milletari et al.
    2016).
    """
    p, y = pair("dice_loss", input, target)
    if p.ndim < 2 and dim is None:
        raise ShapeError(f"{here()}: dice_loss: input (N, …) needs two axes at least, or give dim, got {describe(p)}")
    axes = tuple(range(1, p.ndim)) if dim is None else axes_of(dim, p)
    below = p * p + y * y if squared else p + y
    overlap, sizes = (gnp.sum(x, axis=axes) for x in (p * y, below))
    return reduced_loss(1.0 - (2.0 * overlap + smooth) / (sizes + smooth), reduction)
