"""Examples made of two.

Enters: a batch, its targets and a key.  Leaves: a batch of the same shape, and soft targets.
"""

from __future__ import annotations

from typing import Any

import gradc.numpy as gnp
from gradc import random
from gradc.errors import DTypeError, ShapeError
from gradc.node import FUNCTIONS, as_node, describe, here
from gradc.numpy.public import Array, ArrayLike, evaluated, is_traced
from gradc.numpy.reductions import inexact
from gradc.random.arguments import known_number

__all__ = ["mixup"]


def mixup(input: ArrayLike, target: ArrayLike, alpha: float = 0.2, *, key: ArrayLike) -> tuple[Array, Array]:
    """λ·x + (1 − λ)·x′ and λ·y + (1 − λ)·y′ with (x′, y′) the batch in a drawn order (Zhang et al. 2018).

    input (N, …), target (N, C), class probabilities or one-hot; or (N,) or (N, …), numbers to be predicted, as floats.
    One λ for the batch, drawn of Beta(``alpha``, ``alpha``) with ``key``.  DTypeError for integer classes (N,), which
    have no mean: take `one_hot`.
    """
    x, y = inexact(as_node(input)), as_node(target)
    if not x.ndim or not y.ndim or x.shape[0] != y.shape[0]:
        raise ShapeError(
            f"{here()}: mixup: input and target must have one example in each row.\n"
            f"  operands: {describe(x)}; {describe(y)}"
        )
    if not y.aval.is_float and y.ndim == 1:
        raise DTypeError(
            f"{here()}: mixup: integer classes have no mean; give gc.nn.one_hot(target, classes), got {describe(y)}"
        )
    known = known_number(alpha)
    if known is not None and not known > 0:
        raise ValueError(f"{here()}: mixup: alpha must be positive, got {known}")
    first, second = random.split(key)
    share: Any = as_node(random.beta(first, alpha, alpha, (), x.dtype))
    order = random.permutation(second, x.shape[0])
    y = y if y.aval.is_float else gnp.astype(y, x.dtype)

    def mixed(batch: Any) -> Any:
        weight = gnp.astype(share, batch.dtype)
        return weight * batch + (1 - weight) * FUNCTIONS["take"](batch, order, axis=0)

    results = mixed(x), mixed(y)
    return results if is_traced((input, target, alpha, key)) else (evaluated(results[0]), evaluated(results[1]))
