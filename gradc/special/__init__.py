"""Special functions under SciPy's names; they also serve SciPy's own ufuncs on traced values.

Enters: arrays of any shape.  Leaves: elementwise nodes of the same shape.  Invariant: a name means what it means in
`scipy.special`, the limits at 0 included.
"""

from __future__ import annotations

import math
from typing import Any

import gradc.numpy as gnp
from gradc.errors import DTypeError
from gradc.node import FUNCTIONS, OPS, Node, as_node, here, static_int
from gradc.numpy.axes import axes_of
from gradc.numpy.public import Array, ArrayLike, Axes, composite, exported, function
from gradc.numpy.reductions import inexact
from gradc.ops.elementwise import apply

__all__ = [
    "digamma", "entr", "erf", "erfc", "expit", "gammaln", "log_expit", "log_softmax", "logit", "logsumexp", "ndtr",
    "polygamma", "psi", "rel_entr", "softmax", "xlog1py", "xlogy",
]  # fmt: skip

erf, erfc, digamma = exported("erf"), exported("erfc"), exported("digamma")
logsumexp = gnp.logsumexp


@function("gammaln")
def gammaln(x: ArrayLike) -> Array:
    """log |Γ(x)|."""
    return apply(OPS["lgamma"], x)


@function("psi")
def psi(x: ArrayLike) -> Array:
    """ψ(x) = Γ'(x)/Γ(x)."""
    return apply(OPS["digamma"], x)


@function("polygamma")
def polygamma(n: int, x: ArrayLike) -> Array:
    """ψ⁽ⁿ⁾(x), the n-th derivative of ψ; ``n`` >= 0 is static."""
    order = static_int(n, "the order n")
    if order < 0:
        raise DTypeError(f"{here()}: polygamma: the order must be >= 0, got {order}")
    return apply(OPS["polygamma"], x, n=order) if order else psi(as_node(x))


@function("expit")
def expit(x: ArrayLike) -> Array:
    """1/(1 + e⁻ˣ)."""
    return apply(OPS["sigmoid"], x)


@function("log_expit")
def log_expit(x: ArrayLike) -> Array:
    """log(1/(1 + e⁻ˣ)), without overflow."""
    return -apply(OPS["softplus"], -as_node(x))


@function("logit")
def logit(x: ArrayLike) -> Array:
    """log(x/(1 − x)), the inverse of `expit`."""
    node = inexact(as_node(x))
    return gnp.log(node / (1.0 - node))


@function("ndtr")
def ndtr(x: ArrayLike) -> Array:
    """The normal distribution function ½·erfc(−x/√2)."""
    return 0.5 * apply(OPS["erfc"], as_node(x) * -math.sqrt(0.5))


@function("xlogy")
def xlogy(x: ArrayLike, y: ArrayLike) -> Array:
    """x·log y, 0 where x is 0 (and y is a number)."""
    return _zero_times(as_node(x), as_node(y), "log", 1.0)


@function("xlog1py")
def xlog1py(x: ArrayLike, y: ArrayLike) -> Array:
    """x·log(1 + y), 0 where x is 0 (and y is a number)."""
    return _zero_times(as_node(x), as_node(y), "log1p", 0.0)


def _zero_times(x: Node, y: Node, name: str, harmless: float) -> Array:
    """x·f(y) with x = 0 winning over every value of y but NaN; the branch not taken stays finite."""
    idle = (x == 0) & ~gnp.isnan(y)
    return gnp.where(idle, 0.0, x * FUNCTIONS[name](gnp.where(idle, harmless, y)))


@function("entr")
def entr(x: ArrayLike) -> Array:
    """−x·log x; 0 at 0, −∞ below."""
    node = inexact(as_node(x))
    inside = gnp.where(node > 0, node, 1.0)
    return gnp.where(
        node < 0, -math.inf, gnp.where(node == 0, 0.0, gnp.where(node != node, node, -inside * gnp.log(inside)))
    )


@function("rel_entr")
def rel_entr(x: ArrayLike, y: ArrayLike) -> Array:
    """x·log(x/y) for x, y > 0; 0 for x = 0 <= y; +∞ elsewhere."""
    p, q = inexact(as_node(x)), inexact(as_node(y))
    proper = (p > 0) & (q > 0)
    ratio = gnp.where(proper, p, 1.0) / gnp.where(proper, q, 1.0)
    outside = gnp.where((p == 0) & (q >= 0), 0.0, gnp.where(gnp.isnan(p) | gnp.isnan(q), math.nan, math.inf))
    return gnp.where(proper, p * gnp.log(ratio), outside)


@function("special.softmax")
def softmax(x: ArrayLike, axis: Axes = None) -> Array:
    """eˣ/Σeˣ over ``axis`` (None: all elements)."""
    node = inexact(as_node(x))
    return _softmax(node, axes=axes_of(axis, node))


@composite("softmax")
def _softmax(x: Node, *, axes: tuple[int, ...]) -> Any:
    return gnp.exp(x - gnp.logsumexp(x, axes, keepdims=True))


@function("special.log_softmax")
def log_softmax(x: ArrayLike, axis: Axes = None) -> Array:
    """log of `softmax`, without cancellation."""
    node = inexact(as_node(x))
    return _log_softmax(node, axes=axes_of(axis, node))


@composite("log_softmax")
def _log_softmax(x: Node, *, axes: tuple[int, ...]) -> Any:
    return x - gnp.logsumexp(x, axes, keepdims=True)
