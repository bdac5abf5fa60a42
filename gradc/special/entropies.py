"""SciPy's functions that are written in other ops: logarithms with a convention at 0, losses, the normal distribution.

Enters: operands that broadcast; integers are taken as float64.  Leaves: an array.  Invariant: a guard stands only where
the function has no other value, so that its derivatives are right wherever it is smooth.
"""

from __future__ import annotations

import math
from typing import Any

from gradc.aval import finfo
from gradc.node import FUNCTIONS, OPS, Node, as_node
from gradc.numpy.public import Array, ArrayLike, function
from gradc.numpy.reductions import inexact
from gradc.ops.elementwise import apply, cast, loop_dtypes

__all__ = [
    "huber", "kl_div", "loggamma", "ndtri", "pseudo_huber", "rel_entr", "xlog1py",
]  # fmt: skip


def where(mask: Any, x: Any, y: Any) -> Node:
    """`np.where` of nodes."""
    found: Node = FUNCTIONS["where"](mask, x, y)
    return found


def pair(x: ArrayLike, y: ArrayLike) -> tuple[Node, Node]:
    """Both in the dtype in which NumPy computes functions of floats; two Python numbers stay what they are."""
    a, b = as_node(x), as_node(y)
    if a.aval.weak and b.aval.weak:
        return inexact(a), inexact(b)
    *_, dtype = loop_dtypes("arctan2", (a.aval, b.aval))
    return cast(a, dtype), cast(b, dtype)


@function("xlog1py", singular="log(1 + y) in x, also at x = 0; 0 in y at x = 0, y = −1")
def xlog1py(x: ArrayLike, y: ArrayLike) -> Array:
    """x·log(1 + y), and 0 where x is 0 and y a number."""
    a, b = pair(x, y)
    return where(b != b, b, apply(OPS["strong_multiply"], a, apply(OPS["log1p"], b), left=True, right=False))


@function("rel_entr", singular="0 in x at x = 0")
def rel_entr(x: ArrayLike, y: ArrayLike) -> Array:
    """x·log(x/y) for positive x and y, 0 for x = 0 <= y, else ∞."""
    a, b = pair(x, y)
    inside = (a > 0) & (b > 0)
    above, below = where(inside, a, 1.0), where(inside, b, 1.0)
    ratio = above / below
    normal = (ratio >= finfo(ratio.dtype).smallest_normal) & (ratio < math.inf)
    # a quotient that overflows or is subnormal has its digits in the logarithms
    apart = apply(OPS["log"], above) - apply(OPS["log"], below)
    value = a * where(normal, apply(OPS["log"], where(normal, ratio, 1.0)), apart)
    outside = where((a == 0) & (b >= 0), 0.0, where((a != a) | (b != b), math.nan, math.inf))
    return where(inside, value, cast(outside, value.dtype))


@function("kl_div", singular="−1 in x at x = 0")
def kl_div(x: ArrayLike, y: ArrayLike) -> Array:
    """x·log(x/y) − x + y for positive x and y, y for x = 0 <= y, else ∞."""
    a, b = pair(x, y)
    entropy: Node = FUNCTIONS["rel_entr"](a, b)
    return where(((a > 0) & (b > 0)) | ((a == 0) & (b >= 0)), entropy - a + b, entropy)


@function("huber", singular="the slope outside at |r| = delta")
def huber(delta: ArrayLike, r: ArrayLike) -> Array:
    """r²/2 up to |r| = delta, then δ(|r| − δ/2); ∞ for a negative delta."""
    d, x = pair(delta, r)
    size = apply(OPS["absolute"], x)
    value = where(size <= d, 0.5 * x * x, d * (size - 0.5 * d))
    return where(d < 0, math.inf, value)


@function("pseudo_huber")
def pseudo_huber(delta: ArrayLike, r: ArrayLike) -> Array:
    """δ²(√(1 + (r/δ)²) − 1), 0 for δ = 0 and ∞ for a negative one; near r = 0 without the difference."""
    d, x = pair(delta, r)
    ratio = x / where(d == 0, 1.0, d)
    grown = apply(OPS["expm1"], 0.5 * apply(OPS["log1p"], ratio * ratio))
    return where(d < 0, math.inf, where(d == 0, 0.0, d * d * grown))


@function("loggamma")
def loggamma(x: ArrayLike) -> Array:
    """log Γ of a real number, NaN below 0, where SciPy's is complex."""
    z = inexact(as_node(x))
    return where(z < 0, math.nan, apply(OPS["lgamma"], z))


@function("ndtri", singular="+inf at 0 and 1")
def ndtri(y: ArrayLike) -> Array:
    """The inverse of `ndtr`: −√2·erfcinv(2p)."""
    return apply(OPS["erfcinv"], 2 * inexact(as_node(y))) * -math.sqrt(2)
