"""Activation functions: names, arguments and meaning of torch.nn.functional.

Enters: a floating array of any shape (integers are taken as float64).  Leaves: an array of the same shape. Invariant:
stable for every finite argument, and so are the derivatives.
"""

from __future__ import annotations

import math
from typing import Any

import gradc.numpy as gnp
from gradc.aval import Shape
from gradc.errors import ShapeError
from gradc.node import OPS, Node, as_node, describe, here
from gradc.numpy.axes import axes_of, axis_of
from gradc.numpy.public import Array, ArrayLike, composite, function
from gradc.numpy.reductions import inexact, reduced
from gradc.ops.elementwise import apply
from gradc.ops.reductions import below_finite_maximum, below_maximum
from gradc.random.arguments import known_number

__all__ = [
    "celu", "crelu", "elu", "gelu", "hardshrink", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "log_softmax",
    "logsigmoid", "mish", "prelu", "relu", "relu6", "relu_squared", "selu", "sigmoid", "silu", "softmax", "softmin",
    "softplus", "softshrink", "softsign", "tanh", "tanhshrink", "threshold",
]  # fmt: skip

#: λ and α of Klambauer et al. 2017
SELU_SCALE, SELU_ALPHA = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717


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
    """x held between ``min_val`` and ``max_val``; ValueError if they are known and in the wrong order."""
    x = _lifted(input)
    least, most = known_number(min_val), known_number(max_val)
    if least is not None and most is not None and least > most:
        raise ValueError(f"{here()}: hardtanh: min_val must be at most max_val, got min_val={least}, max_val={most}")
    return gnp.where(x <= min_val, min_val, gnp.where(x >= max_val, max_val, x))


@function("nn.hardsigmoid", singular="0 at a bound", wide=True)
def hardsigmoid(input: ArrayLike) -> Array:
    """relu6(x + 3)/6."""
    return relu6(_lifted(input) + 3.0) / 6.0


@function("nn.hardswish", singular="the slope outside at a bound", wide=True)
def hardswish(input: ArrayLike) -> Array:
    """x·relu6(x + 3)/6 (Howard et al. 2019)."""
    x = _lifted(input)
    return _faded(x, relu6(x + 3.0)) / 6.0


@function("nn.relu_squared")
def relu_squared(input: ArrayLike) -> Array:
    """relu(x)² (So et al. 2021); its first derivative has no kink."""
    return apply(OPS["square"], apply(OPS["relu"], _lifted(input)))


@function("nn.crelu")
def crelu(input: ArrayLike, dim: int = 1) -> Array:
    """relu(x) and relu(−x), one behind the other along ``dim``, which doubles its extent (Shang et al. 2016)."""
    x = _lifted(input)
    return gnp.concatenate([apply(OPS["relu"], x), apply(OPS["relu"], -x)], axis_of(dim, x))


@function("nn.threshold", singular="0 at the threshold")
def threshold(input: ArrayLike, threshold: ArrayLike, value: ArrayLike) -> Array:
    """x where x > ``threshold``, else ``value``."""
    x = _lifted(input)
    return gnp.where(x <= threshold, value, x)


@function("nn.prelu", singular="the weight at 0, and 0 for the weight")
def prelu(input: ArrayLike, weight: ArrayLike) -> Array:
    """x where x > 0, else weight·x (He et al. 2015): input (N, C, …), weight (C,), one for each channel, (1,) or ()."""
    x, w = _lifted(input), as_node(weight)
    channels = x.shape[1] if x.ndim > 1 else 1
    if w.shape not in ((), (1,), (channels,)):
        raise ShapeError(
            f"{here()}: prelu: weight must have the shape () or (1,), or ({channels},) for the channels of the input, "
            f"got {w.shape}.\n  operands: {describe(x)}; {describe(w)}"
        )
    slope = gnp.reshape(w, (-1, *[1] * (x.ndim - 2))) if x.ndim > 1 and w.ndim else gnp.reshape(w, ())
    return _leaky_relu(x, slope)


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


@function("nn.celu", wide=True)
def celu(input: ArrayLike, alpha: ArrayLike = 1.0) -> Array:
    """max(x, 0) + min(0, α(e^(x/α) − 1)) (Barron 2017)."""
    x = _lifted(input)
    below = gnp.where(x > 0, 0.0, x)
    return gnp.where(x > 0, x, alpha * gnp.expm1(below / alpha))


@function("nn.selu", wide=True)
def selu(input: ArrayLike) -> Array:
    """Scaled elu with the self-normalising constants of Klambauer et al. 2017."""
    return SELU_SCALE * _elu(_lifted(input), as_node(SELU_ALPHA))


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


@function("nn.softplus", wide=True)
def softplus(input: ArrayLike, beta: ArrayLike = 1.0, threshold: ArrayLike = None) -> Array:
    """log(1 + e^(βx))/β, and x itself where βx > ``threshold``.

    None, the default, is no threshold: the formula is exact for every x.  PyTorch's default is 20, which changes values
    by at most e⁻²⁰/β = 2.1e-9/β, and derivatives by as much.
    """
    x = _lifted(input)
    if known_number(beta) == 1:
        y = apply(OPS["softplus"], x)
    else:
        y = apply(OPS["softplus"], x * beta) / beta
    return y if threshold is None else gnp.where(x * beta > threshold, x, y)


@function("nn.softsign", wide=True)
def softsign(input: ArrayLike) -> Array:
    """x/(1 + |x|)."""
    x = _lifted(input)
    return x / (1.0 + abs(x))


def _width(name: str, lambd: ArrayLike) -> ArrayLike:
    """The half-width of the interval that is shrunk to 0; ValueError for a known negative one."""
    given = known_number(lambd)
    if given is not None and given < 0:
        raise ValueError(f"{here()}: {name}: lambd must be at least 0, got {given}")
    return lambd


@function("nn.hardshrink", singular="0 at a bound")
def hardshrink(input: ArrayLike, lambd: ArrayLike = 0.5) -> Array:
    """x where |x| > ``lambd``, else 0."""
    x, width = _lifted(input), _width("hardshrink", lambd)
    return gnp.where(abs(x) <= width, 0.0, x)


@function("nn.softshrink", singular="0 at a bound", wide=True)
def softshrink(input: ArrayLike, lambd: ArrayLike = 0.5) -> Array:
    """x − lambd where x > ``lambd``, x + lambd where x < −``lambd``, else 0: the proximal step of lambd·|x|."""
    x, width = _lifted(input), _width("softshrink", lambd)
    return gnp.where(abs(x) <= width, 0.0, x - width * gnp.sign(x))


@function("nn.tanhshrink", wide=True)
def tanhshrink(input: ArrayLike) -> Array:
    """x − tanh x."""
    x = _lifted(input)
    return x - gnp.tanh(x)


@function("nn.gelu")
def gelu(input: ArrayLike, approximate: str = "none") -> Array:
    """x·Φ(x), Φ the normal distribution function; "tanh" for its approximation (Hendrycks & Gimpel 2016)."""
    if approximate not in ("none", "tanh"):
        raise ValueError(f"{here()}: gelu: approximate must be 'none' or 'tanh', got {approximate!r}")
    return _gelu(_lifted(input), approximate=approximate)


@composite("gelu")
def _gelu(x: Node, *, approximate: str) -> Node:
    x = apply(OPS["extended"], x)
    if approximate == "tanh":
        return _faded(0.5 * x, 1.0 + gnp.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))
    gate = apply(OPS["erfc"], x * -math.sqrt(0.5))  # erfc(−x/√2) = 1 + erf(x/√2), without its cancellation
    return _faded(0.5 * x, gate)


@function("nn.silu")
def silu(input: ArrayLike) -> Array:
    """x·sigmoid(x), also called swish."""
    return _silu(_lifted(input))


@composite("silu")
def _silu(x: Node) -> Node:
    x = apply(OPS["extended"], x)
    return _faded(x, apply(OPS["sigmoid"], x))


@function("nn.mish")
def mish(input: ArrayLike) -> Array:
    """x·tanh(softplus(x)) (Misra 2019)."""
    return _mish(_lifted(input))


@composite("mish")
def _mish(x: Node) -> Node:
    x = apply(OPS["extended"], x)
    return _faded(x, gnp.tanh(apply(OPS["softplus"], x)))


def _faded(x: Node, gate: Node) -> Node:
    """x·gate, and 0 where the gate is 0: also at x = −∞."""
    return apply(OPS["strong_multiply"], x, gate, left=False, right=True)


def _of_dtype(x: ArrayLike, dtype: Any) -> Node:
    return _lifted(x) if dtype is None else _lifted(gnp.astype(as_node(x), dtype))


@function("nn.softmax")
def softmax(input: ArrayLike, dim: Any = -1, *, axis: Any = None, dtype: Any = None) -> Array:
    """eˣ/Σeˣ along ``dim`` (alias ``axis``), of x − max x: the same for x + c, to the last bits of x.

    ``dtype``: that to which x is cast first.  NaN, with its derivatives, where max x is ±∞.
    """
    x = _of_dtype(input, dtype)
    return _softmax(x, axes=axes_of(dim if axis is None else axis, x))


@function("nn.log_softmax")
def log_softmax(input: ArrayLike, dim: Any = -1, *, axis: Any = None, dtype: Any = None) -> Array:
    """log(eˣ/Σeˣ) along ``dim`` (alias ``axis``), as (x − max x) − log Σ exp(x − max x).

    ``dtype``: that to which x is cast first.  Where max x is ±∞ it is x − max x, as SciPy has it: NaN and −∞;
    derivatives are NaN where it is.
    """
    x = _of_dtype(input, dtype)
    return _log_softmax(x, axes=axes_of(dim if axis is None else axis, x))


@function("nn.softmin")
def softmin(input: ArrayLike, dim: Any = -1, *, axis: Any = None, dtype: Any = None) -> Array:
    """softmax(−x) along ``dim`` (alias ``axis``), of x cast to ``dtype``."""
    return softmax(-_of_dtype(input, dtype), dim, axis=axis)


@composite("softmax")
def _softmax(x: Node, *, axes: Shape) -> Node:
    return gnp.exp(_normalised(below_maximum(x, tuple(sorted(axes))), axes))


@composite("log_softmax")
def _log_softmax(x: Node, *, axes: Shape) -> Node:
    return _normalised(below_finite_maximum(x, tuple(sorted(axes))), axes)


def _normalised(shifted: Node, axes: Shape) -> Node:
    """x − logsumexp(x), of which both have lost the maximum: it may be all that a number of the dtype can hold."""
    return shifted - reduced("logsumexp", shifted, axes, True)
