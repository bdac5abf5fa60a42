"""Layers without state: affine maps, embeddings, normalisation.  Layouts of torch.nn.functional.

Enters: activations and parameters.  Leaves: activations.  Invariant: parameters keep PyTorch's layout, (out, in) for
weights.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import gradc.numpy as gnp
from gradc.aval import Shape, finfo
from gradc.errors import DTypeError, ShapeError, TraceError
from gradc.node import FUNCTIONS, OPS, Node, as_node, describe, here, static_int
from gradc.numpy.axes import axes_of, shape_of
from gradc.numpy.public import Array, ArrayLike, Axes, composite, function
from gradc.numpy.reductions import inexact, reduced
from gradc.ops.elementwise import apply, cast
from gradc.ops.leaves import iota

__all__ = ["embedding", "layer_norm", "linear", "normalize", "one_hot", "rms_norm"]


@function("nn.linear")
def linear(input: ArrayLike, weight: ArrayLike, bias: ArrayLike = None) -> Array:
    """x·Wᵀ + b: input (…, in), weight (out, in) or (in,), bias (out,); result (…, out)."""
    x, w = as_node(input), as_node(weight)
    if x.ndim == 0 or w.ndim not in (1, 2) or x.shape[-1] != w.shape[-1]:
        raise ShapeError(
            f"{here()}: linear: input {x.shape} and weight {w.shape}: last axes must be equal; weight is (out, in).\n"
            f"  operands: {describe(x)}; {describe(w)}"
        )
    product = FUNCTIONS["matmul"](x, gnp.transpose(w))
    return product if bias is None else product + bias


@function("nn.embedding")
def embedding(input: ArrayLike, weight: ArrayLike) -> Array:
    """The rows of weight (count, width) at the integers of input (…): result (…, width)."""
    return FUNCTIONS["take"](weight, as_node(input), axis=0)


@function("nn.one_hot")
def one_hot(labels: ArrayLike, num_classes: int = -1, *, dtype: Any = np.int64) -> Array:
    """1 at the position that each label names, else 0: labels (…) to (…, num_classes), int64 unless ``dtype`` is given.

    ``num_classes`` -1, one more than the largest label, needs constant labels (TraceError otherwise).
    """
    node = as_node(labels)
    if node.dtype.kind not in "iu":
        raise DTypeError(f"{here()}: one_hot: labels must be integers, got {describe(node)}")
    count = static_int(num_classes, "num_classes")
    if count < 0:
        if node.op.name != "constant":
            raise TraceError(f"{here()}: one_hot: give num_classes; {describe(node)} has no values while tracing")
        count = int(node.attrs["value"].max(initial=-1)) + 1
    shape = (*node.shape, count)
    return cast(FUNCTIONS["expand_dims"](node, -1) == iota(shape, node.ndim, node.dtype), dtype)


@function("nn.layer_norm")
def layer_norm(
    input: ArrayLike, normalized_shape: Any, weight: ArrayLike = None, bias: ArrayLike = None, eps: float = 1e-5
) -> Array:
    """(x − mean)/√(var + eps)·weight + bias over the last axes, of shape ``normalized_shape`` (Ba et al. 2016)."""
    x = inexact(as_node(input))
    y = _layer_norm(x, axes=_last_axes("layer_norm", x, normalized_shape), eps=eps)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


@composite("layer_norm")
def _layer_norm(x: Node, *, axes: Shape, eps: float) -> Node:
    deviation = x - gnp.mean(x, axis=axes, keepdims=True)
    variance = gnp.mean(deviation * deviation, axis=axes, keepdims=True)
    return deviation * apply(OPS["rsqrt"], variance + eps)


@function("nn.rms_norm")
def rms_norm(input: ArrayLike, normalized_shape: Any, weight: ArrayLike = None, eps: Any = None) -> Array:
    """x/√(mean x² + eps)·weight over the last axes (Zhang & Sennrich 2019); ``eps`` defaults to the dtype's epsilon."""
    x = inexact(as_node(input))
    small = float(finfo(x.dtype).eps) if eps is None else eps
    y = _rms_norm(x, axes=_last_axes("rms_norm", x, normalized_shape), eps=small)
    return y if weight is None else y * weight


@composite("rms_norm")
def _rms_norm(x: Node, *, axes: Shape, eps: float) -> Node:
    return x * apply(OPS["rsqrt"], gnp.mean(x * x, axis=axes, keepdims=True) + eps)


def _last_axes(name: str, x: Node, normalized_shape: Any) -> Shape:
    sizes = shape_of(normalized_shape)
    if not sizes or x.shape[x.ndim - len(sizes) :] != sizes or len(sizes) > x.ndim:
        raise ShapeError(f"{here()}: {name}: normalized_shape {sizes} must be the last extents of {describe(x)}")
    return tuple(range(x.ndim - len(sizes), x.ndim))


@function("nn.normalize")
def normalize(input: ArrayLike, p: float = 2.0, dim: Axes = 1, eps: float = 1e-12) -> Array:
    """x / max(‖x‖ₚ, eps) along ``dim``."""
    x = inexact(as_node(input))
    if p == 2:
        size = reduced("norm", x, axes_of(dim, x), True)
    else:
        size = FUNCTIONS["linalg.vector_norm"](x, axis=dim, ord=p, keepdims=True)
    return x / gnp.maximum(size, eps)
