"""Attention.  Enters: queries, keys, values.  Leaves: for each query the mean of values, weighted by softmax of scores.

A boolean mask says which keys a query sees, here and everywhere.  Start reading at `scaled_dot_product_attention`;
whole layers with heads and a cache are in `gradc.nn.heads`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import gradc.numpy as gnp
from gradc.errors import DTypeError, ShapeError, TraceError
from gradc.nn.activations import softmax
from gradc.node import FUNCTIONS, Node, as_node, constant, describe, here, static_int
from gradc.numpy.public import Array, ArrayLike, function
from gradc.numpy.reductions import inexact
from gradc.ops.leaves import iota
from gradc.random.arguments import known_number

__all__ = ["causal_mask", "scaled_dot_product_attention", "segment_mask"]


@function("nn.scaled_dot_product_attention")
def scaled_dot_product_attention(
    query: ArrayLike, key: ArrayLike, value: ArrayLike, attn_mask: ArrayLike = None, dropout_p: float = 0.0,
    is_causal: bool = False, scale: Any = None, enable_gqa: bool = False, *, dropout_key: ArrayLike = None,
) -> Array:  # fmt: skip
    """softmax(q·kᵀ·scale + mask)·v: query (…, L, d), key (…, S, d), value (…, S, e) give (…, L, e).

    ``scale`` defaults to 1/√d.  ``attn_mask`` (…, L, S) is added to the scores, or, if boolean, says which keys a query
    sees; ``is_causal`` lets query i see keys 0 … i (Vaswani et al. 2017).  A query that sees no key of a mask gives 0.
    ``enable_gqa``: query (…, H, L, d) of H heads in groups that share one head of key and value (…, G, S, d), G divides
    H (Ainslie et al. 2023).  ``dropout_p`` > 0 drops weights with ``dropout_key`` (TraceError without one: a pure
    function has no hidden random state).
    """
    q, k, v = (inexact(as_node(a)) for a in (query, key, value))
    _check(q, k, v)
    if known_number(dropout_p) != 0 and dropout_key is None:
        raise TraceError(
            f"{here()}: scaled_dot_product_attention: dropout_p must be 0, or give dropout_key=gc.random.key(…)"
        )
    if is_causal and attn_mask is not None:
        raise TraceError(f"{here()}: scaled_dot_product_attention takes attn_mask or is_causal, not both")
    factor = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    mask = constant(np.tri(q.shape[-2], k.shape[-2], dtype=bool)) if is_causal else attn_mask
    if mask is not None:
        mask = mask_of("scaled_dot_product_attention", mask)
    heads = q.shape[:-2]
    if enable_gqa:
        q, k, v, mask = _grouped(q, k, v, mask)
    scores = FUNCTIONS["matmul"](q, gnp.swapaxes(k, -1, -2)) * factor
    shares: Any = softmax(scores, -1) if mask is None else _masked_softmax(scores, as_node(mask), bool(is_causal))
    if known_number(dropout_p) != 0:
        shares = FUNCTIONS["nn.dropout"](shares, dropout_p, dropout_key)
    result = FUNCTIONS["matmul"](shares, v)
    return gnp.reshape(result, (*heads, *result.shape[-2:])) if enable_gqa else result


def mask_of(name: str, attn_mask: ArrayLike) -> Node:
    """A mask as a Node; DTypeError unless it is bool or floats, for integers could be meant as either."""
    mask = as_node(attn_mask)
    if mask.dtype != bool and not mask.aval.is_float:
        raise DTypeError(
            f"{here()}: {name}: attn_mask must be bool, True for what is seen, or floats that are added to the scores, "
            f"got {describe(mask)}; write .astype(bool) or .astype(float)"
        )
    return mask


def _masked_softmax(scores: Any, mask: Node, causal: bool) -> Any:
    """softmax of what is seen; 0, with no derivative, for a query that sees nothing."""
    seen: Any = mask if mask.dtype == bool else mask != -np.inf
    added = scores if mask.dtype == bool else scores + mask
    if causal:
        return softmax(gnp.where(seen, added, -np.inf), -1)
    some: Any = gnp.any(seen, axis=-1, keepdims=True)
    finite = gnp.where(some, gnp.where(seen, added, -np.inf), 0.0)  # 0 in a row of −∞, whose softmax is NaN
    return gnp.where(some, softmax(finite, -1), 0.0)


def _grouped(q: Node, k: Node, v: Node, mask: Any) -> tuple[Node, Node, Node, Any]:
    """Queries (…, G, H/G, L, d), keys and values (…, G, 1, S, ·), and a mask that fits."""
    if min(q.ndim, k.ndim) < 3 or not k.shape[-3] or q.shape[-3] % k.shape[-3] or v.shape[-3] != k.shape[-3]:
        raise ShapeError(
            f"{here()}: scaled_dot_product_attention: enable_gqa needs query (…, H, L, d), key (…, G, S, d) and value "
            f"(…, G, S, e) with G a divisor of H.\n  operands: {describe(q)}; {describe(k)}; {describe(v)}"
        )
    groups = k.shape[-3]
    split: Node = gnp.reshape(q, (*q.shape[:-3], groups, q.shape[-3] // groups, *q.shape[-2:]))
    if mask is not None:
        node = as_node(mask)
        if node.ndim > 2:
            of_one = node.shape[-3] == 1
            parts = (1, 1) if of_one else (groups, node.shape[-3] // groups)
            node = gnp.reshape(node, (*node.shape[:-3], *parts, *node.shape[-2:]))
        mask = node
    return split, gnp.expand_dims(k, -3), gnp.expand_dims(v, -3), mask


def _check(q: Node, k: Node, v: Node) -> None:
    if min(q.ndim, k.ndim, v.ndim) < 2 or q.shape[-1] != k.shape[-1] or k.shape[-2] != v.shape[-2] or not q.shape[-1]:
        raise ShapeError(
            f"{here()}: scaled_dot_product_attention: query (…, L, d), key (…, S, d) and value (…, S, e) must agree in "
            f"d > 0 and S.\n  operands: {describe(q)}; {describe(k)}; {describe(v)}"
        )


# -- masks -------------------------------------------------------------------------------------------------------------


@function("nn.causal_mask")
def causal_mask(length: int, keys: int | None = None, *, window: int | None = None, offset: ArrayLike = 0) -> Array:
    """Which of ``keys`` keys the query i sees: those up to i + ``offset``; bool (length, keys).

    ``window``: of these the last ``window`` alone, itself among them (Beltagy et al. 2020).  ``offset``, which may be
    traced, is the position of the first query, as in generation.
    """
    rows = static_int(length, "length")
    columns = rows if keys is None else static_int(keys, "keys")
    at, seen = as_node(offset) + iota((rows, columns), 0), iota((rows, columns), 1)
    if window is None:
        return seen <= at
    last = static_int(window, "window")
    if last < 1:
        raise ValueError(f"{here()}: nn.causal_mask: window must be at least 1, got {window!r}")
    return (seen <= at) & (seen > at - last)


@function("nn.segment_mask")
def segment_mask(query_segments: ArrayLike, key_segments: ArrayLike = None) -> Array:
    """Whether query and key are of one segment, by integers (…, L) and (…, S): a block mask, bool (…, L, S).

    Several sequences that were packed into one row see themselves alone.  For heads add an axis: ``mask[:, None]``.
    """
    q = as_node(query_segments)
    k = q if key_segments is None else as_node(key_segments)
    if min(q.ndim, k.ndim) < 1 or "f" in (q.dtype.kind, k.dtype.kind):
        raise DTypeError(
            f"{here()}: nn.segment_mask: segments are integers (…, L) and (…, S), got {describe(q)}; {describe(k)}"
        )
    return gnp.expand_dims(q, -1) == gnp.expand_dims(k, -2)
