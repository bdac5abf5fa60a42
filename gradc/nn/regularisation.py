"""Dropout: names, arguments and meaning of torch.nn.functional, with a key in the place of a global generator.

Enters: activations, a probability and a key.  Leaves: activations of the same shape and dtype.
Invariant: the mask is a draw of `gradc.random`, made in the loop that uses it; a backward pass keeps one byte of it an
element at most.
"""

from __future__ import annotations

from gradc.aval import FLOAT32, Shape
from gradc.errors import ShapeError
from gradc.node import FUNCTIONS, Label, Node, as_node, describe, here
from gradc.numpy.public import Array, ArrayLike, function
from gradc.numpy.reductions import inexact
from gradc.numpy.shapes import spread
from gradc.ops.elementwise import cast
from gradc.random.arguments import known_number, probability
from gradc.random.continuous import unit
from gradc.random.keys import words_of

__all__ = ["dropout", "dropout2d"]


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


def _dropped(x: Node, p: ArrayLike, key: ArrayLike, drawn: Shape, name: str) -> Node:
    """``x`` with a mask over its first axes, those of ``drawn``."""
    chance = probability(p, "p", name)
    if chance.shape != ():
        raise ShapeError(f"{here()}: {name}: p must be one number, got the shape {chance.shape}")
    words = words_of(key, name)
    if known_number(p) == 1:
        zeros: Node = FUNCTIONS["zeros_like"](x)
        return zeros
    keeps = 1 - cast(chance, FLOAT32)
    mask: Node = unit(words, drawn, FLOAT32) < keeps
    mask.label = Label("random.bernoulli", (key,) if isinstance(key, Node) else (), {})
    whole = spread(mask, x.shape, tuple(range(len(drawn)))) if drawn != x.shape else mask
    result: Node = FUNCTIONS["where"](whole, x / (1 - cast(chance, x.dtype)), FUNCTIONS["zeros_like"](x))
    return result
