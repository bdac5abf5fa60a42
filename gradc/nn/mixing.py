"""Examples made of two.

Enters: a batch, its targets and a key.  Leaves: a batch of the same shape, and soft targets.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import gradc.numpy as gnp
from gradc import random
from gradc.errors import DTypeError, ShapeError
from gradc.nn.terms import check_positive
from gradc.node import FUNCTIONS, as_node, describe, here
from gradc.numpy.public import Array, ArrayLike, evaluated, is_traced
from gradc.numpy.reductions import inexact
from gradc.ops.elementwise import cast
from gradc.ops.leaves import iota

__all__ = ["cutmix", "mixup"]


def mixup(input: ArrayLike, target: ArrayLike, alpha: float = 0.2, *, key: ArrayLike) -> tuple[Array, Array]:
    """λ·x + (1 − λ)·x′ and λ·y + (1 − λ)·y′ with (x′, y′) the batch in a drawn order (Zhang et al. 2018).

    input (N, …), target (N, C), class probabilities or one-hot; or (N,) or (N, …), numbers to be predicted, as floats.
    One λ for the batch, drawn of Beta(``alpha``, ``alpha``) with ``key``.  DTypeError for integer classes (N,), which
    have no mean: take `one_hot`.
    """
    x, y = _examples("mixup", input, target, alpha)
    first, second = random.split(key)
    share: Any = as_node(random.beta(first, alpha, alpha, (), x.dtype))
    order = random.permutation(second, x.shape[0])
    results = _mean(x, order, share), _mean(y, order, share)
    return results if is_traced((input, target, alpha, key)) else (evaluated(results[0]), evaluated(results[1]))


def cutmix(input: ArrayLike, target: ArrayLike, alpha: float = 1.0, *, key: ArrayLike) -> tuple[Array, Array]:
    """Images with a box of another image of the batch, and targets by how much of each is seen (Yun et al. 2019).

    input (N, C, H, W), target as of `mixup`.  With λ of Beta(``alpha``, ``alpha``) the box has the sides √(1 − λ)·H and
    √(1 − λ)·W, rounded down to even numbers, about a pixel drawn uniformly, as much of it as lies in the image.  All
    images have the same box, and the targets λ′·y + (1 − λ′)·y′ with λ′ the share of the image outside of it.
    """
    x, y = _examples("cutmix", input, target, alpha)
    if x.ndim != 4:
        raise ShapeError(f"{here()}: cutmix: input is images (N, C, H, W), got {describe(x)}")
    of_share, of_order, of_box = random.split(key, 3)
    share: Any = as_node(random.beta(of_share, alpha, alpha, (), np.float64))
    order = random.permutation(of_order, x.shape[0])
    side = gnp.sqrt(1 - share)
    inside: Any = True
    for axis, place in enumerate(random.split(of_box), 2):
        extent = x.shape[axis]
        middle = as_node(random.randint(place, (), 0, max(extent, 1)))
        half = cast(gnp.floor(side * extent), np.int64) // 2
        pixel = iota(x.shape[2:], axis - 2)
        inside = inside & (pixel >= middle - half) & (pixel < middle + half)
    seen = 1 - gnp.mean(cast(inside, np.float64)) if x.shape[2] * x.shape[3] else as_node(1.0)
    boxed = gnp.where(inside, FUNCTIONS["take"](x, order, axis=0), x)
    results = boxed, _mean(y, order, seen)
    return results if is_traced((input, target, alpha, key)) else (evaluated(results[0]), evaluated(results[1]))


def _examples(name: str, input: ArrayLike, target: ArrayLike, alpha: Any) -> tuple[Any, Any]:
    """A batch and its targets as floats; an error if targets have no mean."""
    x, y = inexact(as_node(input)), as_node(target)
    if not x.ndim or not y.ndim or x.shape[0] != y.shape[0]:
        raise ShapeError(
            f"{here()}: {name}: input and target must have one example in each row.\n"
            f"  operands: {describe(x)}; {describe(y)}"
        )
    if not y.aval.is_float and y.ndim == 1:
        raise DTypeError(
            f"{here()}: {name}: integer classes have no mean; give gc.nn.one_hot(target, classes), got {describe(y)}"
        )
    check_positive(name, alpha=alpha)
    return x, y if y.aval.is_float else gnp.astype(y, x.dtype)


def _mean(batch: Any, order: Any, share: Any) -> Any:
    """Each example and another one, by their shares."""
    weight = gnp.astype(share, batch.dtype)
    return weight * batch + (1 - weight) * FUNCTIONS["take"](batch, order, axis=0)
