"""Activation functions: names, arguments and meaning of torch.nn.functional.

Enters: a floating array of any shape (integers are taken as float64).  Leaves: an array of the same shape. Invariant:
stable for every finite argument, and so are the derivatives.
"""

from __future__ import annotations

import math
from typing import Any

import gradc.numpy as gnp
from gradc.aval import Shape
from gradc.errors import TraceError
from gradc.node import OPS, Node, as_node, here
from gradc.numpy.axes import axes_of
from gradc.numpy.public import Array, ArrayLike, composite, function
from gradc.numpy.reductions import inexact, reduced
from gradc.ops.elementwise import apply
from gradc.ops.reductions import below_finite_maximum, below_maximum

__all__ = [
    "celu", "elu", "gelu", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "log_softmax", "logsigmoid", "mish",
    "relu", "relu6", "selu", "sigmoid", "silu", "softmax", "softmin", "softplus", "softsign", "tanh",
]  # fmt: skip


def _lifted(x: ArrayLike) -> Node:
    return inexact(as_node(x))


@function("nn.relu")
def relu(input: ArrayLike) -> Array:
    """max(x, 0); derivative 0 at 0."""
    return apply(OPS["relu"], _lifted(input))


@function("nn.relu6", singular="0 at a bound")
def relu6(input: ArrayLike) -> Array:
    """min(max(x, 0), 6)."""
    return hardtanh(as_node(input), 0.0, 6.0)


@function("nn.hardtanh", singular="0 at a bound")
def hardtanh(input: ArrayLike, min_val: float = -1.0, max_val: float = 1.0) -> Array:
    """x held between ``min_val`` and ``max_val``."""
    x = _lifted(input)
    return gnp.where(x <= min_val, min_val, gnp.where(x >= max_val, max_val, x))


@function("nn.hardsigmoid", singular="0 at a bound")
def hardsigmoid(input: ArrayLike) -> Array:
    """relu6(x + 3)/6."""
    return relu6(_lifted(input) + 3.0) / 6.0


@function("nn.hardswish", singular="the slope outside at a bound")
def hardswish(input: ArrayLike) -> Array:
    """x·relu6(x + 3)/6 (Howard et al. 2019)."""
    x = _lifted(input)
    return x * relu6(x + 3.0) / 6.0


@function("nn.leaky_relu", singular="the negative slope at 0")
def leaky_relu(input: ArrayLike, negative_slope: ArrayLike = 0.01) -> Array:
    """x where x > 0, else ``negative_slope``·x."""
    return _leaky_relu(_lifted(input), as_node(negative_slope))


@composite("leaky_relu")
def _leaky_relu(x: Node, slope: Node) -> Node:
    return gnp.where(x > 0, x, slope * x)


@function("nn.elu", singular="alpha at 0, the slope from the left")
def elu(input: ArrayLike, alpha: ArrayLike = 1.0) -> Array:
    """x where x > 0, else α(eˣ − 1) (Clevert et al. 2015)."""
    return _elu(_lifted(input), as_node(alpha))


@composite("elu")
def _elu(x: Node, alpha: Node) -> Node:
    below = gnp.where(x > 0, 0.0, x)  # the branch not taken must not overflow
    return gnp.where(x > 0, x, alpha * gnp.expm1(below))


@function("nn.celu")
def celu(input: ArrayLike, alpha: ArrayLike = 1.0) -> Array:
    """max(x, 0) + min(0, α(e^(x/α) − 1)) (Barron 2017)."""
    x = _lifted(input)
    below = gnp.where(x > 0, 0.0, x)
    return gnp.where(x > 0, x, alpha * gnp.expm1(below / alpha))


@function("nn.selu")
def selu(input: ArrayLike) -> Array:
    """Scaled elu with the self-normalising constants of Klambauer et al. 2017."""
    return 1.0507009873554805 * _elu(_lifted(input), as_node(1.6732632423543772))


@function("nn.sigmoid")
def sigmoid(input: ArrayLike) -> Array:
    """1/(1 + e⁻ˣ)."""
    return apply(OPS["sigmoid"], _lifted(input))


@function("nn.logsigmoid")
def logsigmoid(input: ArrayLike) -> Array:
    """log(1/(1 + e⁻ˣ)) = −softplus(−x)."""
    return -apply(OPS["softplus"], -_lifted(input))


@function("nn.tanh")
def tanh(input: ArrayLike) -> Array:
    """Hyperbolic tangent."""
    return apply(OPS["tanh"], _lifted(input))


@function("nn.softplus")
def softplus(input: ArrayLike, beta: ArrayLike = 1.0) -> Array:
    """log(1 + e^(βx))/β; stable without the threshold that PyTorch takes."""
    x = _lifted(input)
    if isinstance(beta, (int, float)) and beta == 1:
        return apply(OPS["softplus"], x)
    return apply(OPS["softplus"], x * beta) / beta


@function("nn.softsign")
def softsign(input: ArrayLike) -> Array:
    """x/(1 + |x|)."""
    x = _lifted(input)
    return x / (1.0 + abs(x))


@function("nn.gelu")
def gelu(input: ArrayLike, approximate: str = "none") -> Array:
    """x·Φ(x), Φ the normal distribution function; "tanh" for its approximation (Hendrycks & Gimpel 2016)."""
    if approximate not in ("none", "tanh"):
        raise TraceError(f"{here()}: gelu: approximate must be 'none' or 'tanh', got {approximate!r}")
    return _gelu(_lifted(input), approximate=approximate)


@composite("gelu")
def _gelu(x: Node, *, approximate: str) -> Node:
    if approximate == "tanh":
        return 0.5 * x * (1.0 + gnp.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))
    return 0.5 * x * apply(OPS["erfc"], x * -math.sqrt(0.5))  # erfc(−x/√2) = 1 + erf(x/√2), without its cancellation


@function("nn.silu")
def silu(input: ArrayLike) -> Array:
    """x·sigmoid(x), also called swish."""
    return _silu(_lifted(input))


@composite("silu")
def _silu(x: Node) -> Node:
    return x * apply(OPS["sigmoid"], x)


@function("nn.mish")
def mish(input: ArrayLike) -> Array:
    """x·tanh(softplus(x)) (Misra 2019)."""
    return _mish(_lifted(input))


@composite("mish")
def _mish(x: Node) -> Node:
    return x * gnp.tanh(apply(OPS["softplus"], x))


@function("nn.softmax")
def softmax(input: ArrayLike, dim: Any = -1, *, axis: Any = None) -> Array:
    """eˣ/Σeˣ along ``dim`` (alias ``axis``), of x − max x: the same for x + c, to the last bits of x.

    NaN, with its derivatives, where max x is ±∞.
    """
    x = _lifted(input)
    return _softmax(x, axes=axes_of(dim if axis is None else axis, x))


@function("nn.log_softmax")
def log_softmax(input: ArrayLike, dim: Any = -1, *, axis: Any = None) -> Array:
    """log(eˣ/Σeˣ) along ``dim`` (alias ``axis``), as (x − max x) − log Σ exp(x − max x).

    Where max x is ±∞ it is x − max x, as SciPy has it: NaN and −∞; derivatives are NaN where it is.
    """
    x = _lifted(input)
    return _log_softmax(x, axes=axes_of(dim if axis is None else axis, x))


@function("nn.softmin")
def softmin(input: ArrayLike, dim: Any = -1, *, axis: Any = None) -> Array:
    """softmax(−x) along ``dim`` (alias ``axis``)."""
    return softmax(-_lifted(input), dim, axis=axis)


@composite("softmax")
def _softmax(x: Node, *, axes: Shape) -> Node:
    return gnp.exp(_normalised(below_maximum(x, tuple(sorted(axes))), axes))


@composite("log_softmax")
def _log_softmax(x: Node, *, axes: Shape) -> Node:
    return _normalised(below_finite_maximum(x, tuple(sorted(axes))), axes)


def _normalised(shifted: Node, axes: Shape) -> Node:
    """x − logsumexp(x), of which both have lost the maximum: it may be all that a number of the dtype can hold."""
    return shifted - reduced("logsumexp", shifted, axes, True)
