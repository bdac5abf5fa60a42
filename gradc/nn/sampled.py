"""Activations that draw: names and meaning of torch.nn.functional, with a key in the place of a global generator.

Enters: an array and a key of `gradc.random`.  Leaves: an array of the same shape and dtype.
"""

from __future__ import annotations

from gradc.errors import ShapeError
from gradc.node import FUNCTIONS, Node, as_node, here
from gradc.numpy.axes import axis_of
from gradc.numpy.public import Array, ArrayLike, function
from gradc.numpy.reductions import inexact
from gradc.ops.elementwise import cast
from gradc.ops.leaves import iota
from gradc.random.arguments import known_number
from gradc.random.continuous import between, gumbel_of
from gradc.random.keys import words_of

__all__ = ["gumbel_softmax", "rrelu"]


@function("nn.rrelu", singular="the negative slope at 0")
def rrelu(
    input: ArrayLike, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False, *, key: ArrayLike = None
) -> Array:
    """x where x > 0, else a·x (Xu et al. 2015).

    In ``training`` each element's a is drawn with ``key``, uniform on [lower, upper); else a is their mean.
    """
    x = inexact(as_node(input))
    least, most = known_number(lower), known_number(upper)
    if least is not None and most is not None and least > most:
        raise ValueError(f"{here()}: rrelu: lower must be at most upper, got lower={least}, upper={most}")
    if not training:
        return FUNCTIONS["nn.leaky_relu"](x, (lower + upper) / 2)
    if key is None:
        raise ValueError(f"{here()}: rrelu: training=True draws slopes, so give key=gc.random.key(seed)")
    slope = between(words_of(key, "nn.rrelu"), x.shape, x.dtype, lower, upper, "nn.rrelu")
    return FUNCTIONS["nn.leaky_relu"](x, slope)


@function("nn.gumbel_softmax")
def gumbel_softmax(
    logits: ArrayLike, tau: ArrayLike = 1.0, hard: bool = False, dim: int = -1, *, key: ArrayLike
) -> Array:
    """softmax((logits + g)/tau) along ``dim`` with Gumbel noise g of ``key``: a soft draw of a category.

    ``hard``: 1 at the largest and 0 elsewhere, with the derivative of the soft draw, straight through (Jang et al.
    2017, Maddison et al. 2017).  ``tau`` must be positive.
    """
    x = inexact(as_node(logits))
    if x.ndim == 0:
        raise ShapeError(f"{here()}: gumbel_softmax: logits need an axis of categories, got a number")
    warmth = known_number(tau)
    if warmth is not None and warmth <= 0:
        raise ValueError(f"{here()}: gumbel_softmax: tau must be positive, got {warmth}")
    axis = axis_of(dim, x)
    noise = gumbel_of(words_of(key, "nn.gumbel_softmax"), x.shape, x.dtype, None, "nn.gumbel_softmax")
    soft = FUNCTIONS["nn.softmax"]((x + noise) / tau, axis)
    if not hard:
        return soft
    largest: Node = FUNCTIONS["expand_dims"](FUNCTIONS["argmax"](soft, axis), axis)
    chosen = cast(iota(x.shape, axis) == largest, x.dtype)
    return chosen + (soft - FUNCTIONS["stop_gradient"](soft))
