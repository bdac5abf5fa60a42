"""Box and Cox' power transforms (Journal of the Royal Statistical Society B 26, 1964), and their inverses.

Enters: operands that broadcast; integers are taken as float64.  Leaves: an array.  Invariant: smooth in λ where λ is 0,
to all orders, by the series of what is divided by it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from gradc.node import OPS, Node
from gradc.numpy.public import Array, ArrayLike, function
from gradc.ops.elementwise import apply
from gradc.special.entropies import pair, where

__all__ = ["boxcox", "boxcox1p", "inv_boxcox", "inv_boxcox1p"]

#: (eᶻ − 1)/z and log(1 + z)/z in z: up to which |z| they are taken, and coefficients, the highest power first
_EXPM1 = (0.5, [1 / math.factorial(k + 1) for k in range(18, -1, -1)])
_LOG1P = (0.125, [(-1) ** k / (k + 1) for k in range(24, -1, -1)])


def _series(z: Node, coefficients: Sequence[float]) -> Node:
    value = coefficients[0] * z + coefficients[1]
    for c in coefficients[2:]:
        value = value * z + c
    return value


def _raised(logarithm: Node, power: Node) -> Node:
    """(e^(λ·l) − 1)/λ, and l for λ = 0."""
    z = apply(OPS["strong_multiply"], logarithm, power)
    reach, coefficients = _EXPM1
    near = (apply(OPS["absolute"], z) < reach) | (power == 0)
    close = where(near, z, 0.0)
    far = apply(OPS["expm1"], where(near, 1.0, z)) / where(near, 1.0, power)
    return where(power != power, power, where(near, logarithm * _series(close, coefficients), far))


def _exponent(y: Node, power: Node) -> Node:
    """log(1 + λ·y)/λ, and y for λ = 0."""
    z = apply(OPS["strong_multiply"], y, power, left=False)
    reach, coefficients = _LOG1P
    near = apply(OPS["absolute"], z) < reach
    close = where(near, z, 0.0)
    far = apply(OPS["log1p"], where(near, 1.0, z)) / where(near, 1.0, power)
    return where(near, y * _series(close, coefficients), far)


@function("boxcox")
def boxcox(x: ArrayLike, lmbda: ArrayLike) -> Array:
    """(xᵏ − 1)/k with k = ``lmbda``, and log x for k = 0."""
    a, power = pair(x, lmbda)
    return _raised(apply(OPS["log"], a), power)


@function("boxcox1p")
def boxcox1p(x: ArrayLike, lmbda: ArrayLike) -> Array:
    """((1 + x)ᵏ − 1)/k with k = ``lmbda``, and log(1 + x) for k = 0."""
    a, power = pair(x, lmbda)
    return _raised(apply(OPS["log1p"], a), power)


@function("inv_boxcox")
def inv_boxcox(y: ArrayLike, lmbda: ArrayLike) -> Array:
    """The x whose `boxcox` is y: (1 + k·y)^(1/k), and eʸ for k = 0."""
    b, power = pair(y, lmbda)
    return apply(OPS["exp"], _exponent(b, power))


@function("inv_boxcox1p")
def inv_boxcox1p(y: ArrayLike, lmbda: ArrayLike) -> Array:
    """The x whose `boxcox1p` is y: (1 + k·y)^(1/k) − 1, and eʸ − 1 for k = 0."""
    b, power = pair(y, lmbda)
    return apply(OPS["expm1"], _exponent(b, power))
