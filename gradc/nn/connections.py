"""Residual blocks: where the norm stands.  Enters: activations and two functions of them.  Leaves: activations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gradc.errors import ShapeError
from gradc.nn.init import deepnorm_scales
from gradc.node import here
from gradc.numpy.public import Array, ArrayLike

__all__ = ["deep_norm", "post_norm", "pre_norm", "residual"]

Layer = Callable[[Any], Any]


def residual(x: ArrayLike, sublayer: Layer) -> Array:
    """x + F(x) (He et al. 2016): the Jacobian is I + ∂F/∂x."""
    return x + _like(x, sublayer(x), "residual")


def post_norm(x: ArrayLike, sublayer: Layer, norm: Layer) -> Array:
    """norm(x + F(x)), the block of Vaswani et al. 2017."""
    return norm(x + _like(x, sublayer(x), "post_norm"))


def pre_norm(x: ArrayLike, sublayer: Layer, norm: Layer) -> Array:
    """x + F(norm(x)): the way through the skip connections meets no norm (Xiong et al. 2020)."""
    return x + _like(x, sublayer(norm(x)), "pre_norm")


def deep_norm(
    x: ArrayLike, sublayer: Layer, norm: Layer, layers: int | None = None, *, alpha: float | None = None
) -> Array:
    """norm(α·x + F(x)) with α = (2·layers)^¼ of a stack of so many layers (Wang et al. 2022).

    Its weights begin with the gain β = (8·layers)^−¼: `init.deepnorm`.  Of an encoder with a decoder give ``alpha``,
    which `init.deepnorm_scales` computes, and not ``layers``.
    """
    if (layers is None) == (alpha is None):
        raise TypeError(f"{here()}: nn.deep_norm: give layers= or alpha=, one of both")
    scale = alpha if layers is None else deepnorm_scales(layers).encoder_alpha
    return norm(scale * x + _like(x, sublayer(x), "deep_norm"))


def _like(x: Any, y: Any, name: str) -> Any:
    """``y``; ShapeError unless it has the shape of ``x``, for a sum that broadcasts is no skip connection."""
    before, after = getattr(x, "shape", ()), getattr(y, "shape", ())
    if before != after:
        raise ShapeError(
            f"{here()}: nn.{name}: the sublayer must keep the shape of x: {tuple(before)} became {tuple(after)}"
        )
    return y
