"""Layers without state: affine maps, embeddings.  Layouts of torch.nn.functional.

Enters: activations and parameters.  Leaves: activations.  Invariant: parameters keep PyTorch's layout, (out, in) for
weights.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import gradc.numpy as gnp
from gradc.errors import DTypeError, ShapeError, TraceError
from gradc.node import FUNCTIONS, as_node, describe, here, static_int
from gradc.numpy.public import Array, ArrayLike, function
from gradc.ops.elementwise import cast
from gradc.ops.leaves import iota

__all__ = ["embedding", "linear", "one_hot"]


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
