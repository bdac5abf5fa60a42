"""Attention.  Enters: queries, keys, values.  Leaves: for each query the mean of values, weighted by softmax of scores.

Start reading at `scaled_dot_product_attention`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import gradc.numpy as gnp
from gradc.errors import ShapeError, TraceError
from gradc.nn.activations import softmax
from gradc.node import FUNCTIONS, Node, as_node, constant, describe, here
from gradc.numpy.public import Array, ArrayLike, function
from gradc.numpy.reductions import inexact

__all__ = ["scaled_dot_product_attention"]


@function("nn.scaled_dot_product_attention")
def scaled_dot_product_attention(
    query: ArrayLike, key: ArrayLike, value: ArrayLike, attn_mask: ArrayLike = None, dropout_p: float = 0.0,
    is_causal: bool = False, scale: Any = None,
) -> Array:  # fmt: skip
    """softmax(q·kᵀ·scale + mask)·v: query (…, L, d), key (…, S, d), value (…, S, e) give (…, L, e).

    ``scale`` defaults to 1/√d.  ``attn_mask`` (…, L, S) is added to the scores, or, if boolean, says which keys a query
    sees; ``is_causal`` lets query i see keys 0 … i (Vaswani et al. 2017).  ``dropout_p`` must be 0: a pure function has
    no hidden random state.
    """
    q, k, v = (inexact(as_node(a)) for a in (query, key, value))
    _check(q, k, v)
    if dropout_p:
        raise TraceError(
            f"{here()}: scaled_dot_product_attention: dropout_p must be 0; call nn.dropout, which takes a key"
        )
    if is_causal and attn_mask is not None:
        raise TraceError(f"{here()}: scaled_dot_product_attention takes attn_mask or is_causal, not both")
    factor = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    scores = FUNCTIONS["matmul"](q, gnp.swapaxes(k, -1, -2)) * factor
    if is_causal:
        attn_mask = constant(np.tri(q.shape[-2], k.shape[-2], dtype=bool))
    return FUNCTIONS["matmul"](softmax(_masked(scores, attn_mask), -1), v)


def _masked(scores: Any, mask: ArrayLike) -> Any:
    if mask is None:
        return scores
    node = as_node(mask)
    if node.dtype == bool:
        return gnp.where(node, scores, -np.inf)
    return gnp.where(node == -np.inf, -np.inf, scores + node)  # so that nothing left out reaches a derivative


def _check(q: Node, k: Node, v: Node) -> None:
    if min(q.ndim, k.ndim, v.ndim) < 2 or q.shape[-1] != k.shape[-1] or k.shape[-2] != v.shape[-2] or not q.shape[-1]:
        raise ShapeError(
            f"{here()}: scaled_dot_product_attention: query (…, L, d), key (…, S, d) and value (…, S, e) must agree in "
            f"d > 0 and S.\n  operands: {describe(q)}; {describe(k)}; {describe(v)}"
        )
