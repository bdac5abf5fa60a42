"""Dropout: names, arguments and meaning of torch.nn.functional, with a key in the place of a global generator.

Enters: activations, a probability and a key.  Leaves: activations of the same shape and dtype.
Invariant: the mask is a draw of `gradc.random`, made in the loop that uses it; a backward pass keeps one byte of it an
element at most.
"""

from __future__ import annotations

from gradc.aval import FLOAT32, Shape
from gradc.errors import ShapeError
from gradc.nn.activations import SELU_ALPHA, SELU_SCALE
from gradc.node import FUNCTIONS, Label, Node, as_node, describe, here
from gradc.numpy.public import Array, ArrayLike, function
from gradc.numpy.reductions import inexact
from gradc.numpy.shapes import spread
from gradc.ops.elementwise import cast
from gradc.random.arguments import known_number, probability
from gradc.random.continuous import unit
from gradc.random.keys import words_of

__all__ = ["alpha_dropout", "dropout", "dropout1d", "dropout2d", "dropout3d", "feature_alpha_dropout"]

#: what selu tends to at −∞: −λ·α
_SELU_FLOOR = -SELU_SCALE * SELU_ALPHA


@function("nn.dropout")
def dropout(input: ArrayLike, p: ArrayLike, key: ArrayLike, training: bool = True) -> Array:
    """x/(1 − p) with probability 1 − p, else 0, for each element (Srivastava et al. 2014); x if not ``training``."""
    x = inexact(as_node(input))
    return _dropped(x, p, key, x.shape, "nn.dropout") if training else x


@function("nn.dropout2d")
def dropout2d(input: ArrayLike, p: ArrayLike, key: ArrayLike, training: bool = True) -> Array:
    """`dropout` of whole channels, the second axis: input (N, C, …)."""
    x = inexact(as_node(input))
    if x.ndim < 3:
        raise ShapeError(f"{here()}: dropout2d: expected input (N, C, …) of at least three axes, got {describe(x)}")
    return _dropped(x, p, key, x.shape[:2], "nn.dropout2d") if training else x


@function("nn.dropout1d")
def dropout1d(input: ArrayLike, p: ArrayLike, key: ArrayLike, training: bool = True) -> Array:
    """`dropout` of whole channels: input (N, C, L), or (C, L) of one example."""
    return _channels_dropped("dropout1d", 1, input, p, key, training)


@function("nn.dropout3d")
def dropout3d(input: ArrayLike, p: ArrayLike, key: ArrayLike, training: bool = True) -> Array:
    """`dropout` of whole channels: input (N, C, D, H, W), or (C, D, H, W) of one example."""
    return _channels_dropped("dropout3d", 3, input, p, key, training)


def _channels_dropped(name: str, rank: int, input: ArrayLike, p: ArrayLike, key: ArrayLike, training: bool) -> Node:
    x = inexact(as_node(input))
    if x.ndim not in (rank + 1, rank + 2):
        raise ShapeError(
            f"{here()}: {name}: expected (N, C, …) or (C, …) with {rank} axes behind the channels, got {describe(x)}"
        )
    return _dropped(x, p, key, x.shape[: x.ndim - rank], f"nn.{name}") if training else x


@function("nn.alpha_dropout")
def alpha_dropout(input: ArrayLike, p: ArrayLike, key: ArrayLike, training: bool = True) -> Array:
    """a·y + b, y the input or, with probability p, the floor of selu; a and b keep mean 0 and variance 1.

    For networks of selu (Klambauer et al. 2017).
    """
    x = inexact(as_node(input))
    return _floored(x, p, key, x.shape, "nn.alpha_dropout") if training else x


@function("nn.feature_alpha_dropout")
def feature_alpha_dropout(input: ArrayLike, p: ArrayLike, key: ArrayLike, training: bool = True) -> Array:
    """`alpha_dropout` of whole channels, the second axis: input (N, C, …)."""
    x = inexact(as_node(input))
    if x.ndim < 2:
        raise ShapeError(f"{here()}: feature_alpha_dropout: expected input (N, C, …), got {describe(x)}")
    return _floored(x, p, key, x.shape[:2], "nn.feature_alpha_dropout") if training else x


def _floored(x: Node, p: ArrayLike, key: ArrayLike, drawn: Shape, name: str) -> Node:
    chance = cast(probability(p, "p", name), x.dtype)
    whole = _kept(x, p, key, drawn, name)
    if known_number(p) == 1:
        return FUNCTIONS["zeros_like"](x)
    scale = FUNCTIONS["power"]((1 - chance) * (1 + chance * _SELU_FLOOR**2), -0.5)
    result: Node = scale * FUNCTIONS["where"](whole, x, _SELU_FLOOR) - scale * chance * _SELU_FLOOR
    return result


def _dropped(x: Node, p: ArrayLike, key: ArrayLike, drawn: Shape, name: str) -> Node:
    """``x`` with a mask over its first axes, those of ``drawn``."""
    whole = _kept(x, p, key, drawn, name)
    zeros: Node = FUNCTIONS["zeros_like"](x)
    if known_number(p) == 1:
        return zeros
    result: Node = FUNCTIONS["where"](whole, x / (1 - cast(probability(p, "p", name), x.dtype)), zeros)
    return result


def _kept(x: Node, p: ArrayLike, key: ArrayLike, drawn: Shape, name: str) -> Node:
    """Which elements of ``x`` stay, drawn over its first axes."""
    chance = probability(p, "p", name)
    if chance.shape != ():
        raise ShapeError(f"{here()}: {name}: p must be one number, got the shape {chance.shape}")
    words = words_of(key, name)
    mask: Node = unit(words, drawn, FLOAT32) < 1 - cast(chance, FLOAT32)
    mask.label = Label("random.bernoulli", (key,) if isinstance(key, Node) else (), {})
    return spread(mask, x.shape, tuple(range(len(drawn)))) if drawn != x.shape else mask
