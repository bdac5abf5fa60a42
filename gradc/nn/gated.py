"""Activations that halve or divide an axis: gated linear units and maxout.

Enters: a floating array with an axis of units.  Leaves: one whose axis is shorter.  Invariant: of (a, b), the halves of
the axis, the second is the gate, as in torch.nn.functional.glu.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradc.numpy as gnp
from gradc.errors import ShapeError
from gradc.node import FUNCTIONS, Node, as_node, describe, here, static_int
from gradc.numpy.axes import axis_of
from gradc.numpy.public import Array, ArrayLike, function
from gradc.numpy.reductions import inexact, reduced

__all__ = ["geglu", "glu", "maxout", "reglu", "swiglu"]


@function("nn.glu", wide=True)
def glu(input: ArrayLike, dim: int = -1) -> Array:
    """a·sigmoid(b) of the halves (a, b) of the input along ``dim`` (Dauphin et al. 2017)."""
    return _gated("glu", input, dim, FUNCTIONS["nn.sigmoid"])


@function("nn.reglu", singular="0 where the gate is 0", wide=True)
def reglu(input: ArrayLike, dim: int = -1) -> Array:
    """a·relu(b) of the halves (a, b) of the input along ``dim`` (Shazeer 2020)."""
    return _gated("reglu", input, dim, FUNCTIONS["nn.relu"])


@function("nn.geglu", wide=True)
def geglu(input: ArrayLike, dim: int = -1, approximate: str = "none") -> Array:
    """a·gelu(b) of the halves (a, b) of the input along ``dim`` (Shazeer 2020); ``approximate`` as in `gelu`."""
    return _gated("geglu", input, dim, lambda b: FUNCTIONS["nn.gelu"](b, approximate))


@function("nn.swiglu", wide=True)
def swiglu(input: ArrayLike, dim: int = -1) -> Array:
    """a·silu(b) of the halves (a, b) of the input along ``dim`` (Shazeer 2020)."""
    return _gated("swiglu", input, dim, FUNCTIONS["nn.silu"])


def _gated(name: str, input: ArrayLike, dim: int, gate: Callable[[Node], Any]) -> Array:
    x = inexact(as_node(input))
    axis = axis_of(dim, x)
    if x.shape[axis] % 2:
        raise ShapeError(
            f"{here()}: {name}: the input is halved along dim {dim}, so its extent there must be even, got "
            f"{x.shape[axis]} in {describe(x)}"
        )
    a, b = gnp.split(x, 2, axis)
    return a * gate(b)


@function("nn.maxout", singular="shared by the largest of a group")
def maxout(input: ArrayLike, num_pieces: int, dim: int = 1) -> Array:
    """The largest of each ``num_pieces`` neighbours along ``dim``, whose extent m·num_pieces becomes m.

    Goodfellow et al. 2013.  Largest elements of one group share its derivative.
    """
    x, pieces = inexact(as_node(input)), static_int(num_pieces, "num_pieces")
    axis = axis_of(dim, x)
    if pieces < 1 or x.shape[axis] % pieces:
        raise ShapeError(
            f"{here()}: maxout: num_pieces must be at least 1 and divide the extent along dim {dim}, got "
            f"num_pieces={pieces} for {x.shape[axis]} in {describe(x)}"
        )
    groups = (*x.shape[:axis], x.shape[axis] // pieces, pieces, *x.shape[axis + 1 :])
    return reduced("max", gnp.reshape(x, groups), (axis + 1,), False)
