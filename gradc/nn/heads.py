"""Multi-head attention as a layer, and the cache of keys and values with which it generates.

Enters: sequences (N, L, E), batch first, and weights in the layout of torch.nn.MultiheadAttention.  Leaves: (N, L, E),
and the next cache where one is given.  Start reading at `multi_head_attention`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

import gradc.numpy as gnp
from gradc.errors import ShapeError, TraceError
from gradc.nn.attention import mask_of
from gradc.node import FUNCTIONS, Node, as_node, describe, here, static_int
from gradc.numpy.public import Array, ArrayLike, evaluated, is_traced
from gradc.numpy.reductions import inexact
from gradc.ops.elementwise import cast
from gradc.ops.leaves import iota
from gradc.random.arguments import float_dtype

__all__ = ["KeyValueCache", "key_value_cache", "multi_head_attention"]


class KeyValueCache(NamedTuple):
    """Keys and values of the positions before: (N, heads, capacity, d) each, and how many there are, int64."""

    key: Array
    value: Array
    length: Array


def key_value_cache(batch: int, num_heads: int, capacity: int, head_dim: int, dtype: Any = None) -> KeyValueCache:
    """An empty cache for at most ``capacity`` positions; ``num_heads`` are those of keys and values."""
    kind = float_dtype(dtype, "nn.key_value_cache")
    shape = tuple(static_int(n, "a size of key_value_cache") for n in (batch, num_heads, capacity, head_dim))
    return KeyValueCache(np.zeros(shape, kind), np.zeros(shape, kind), np.zeros((), np.int64))


def multi_head_attention(
    query: ArrayLike, key: ArrayLike, value: ArrayLike, in_proj_weight: ArrayLike, in_proj_bias: ArrayLike,
    out_proj_weight: ArrayLike, out_proj_bias: ArrayLike, num_heads: int, *, num_kv_heads: int | None = None,
    attn_mask: ArrayLike = None, key_mask: ArrayLike = None, is_causal: bool = False, window: int | None = None,
    rotary: bool = False, dropout_p: float = 0.0, dropout_key: ArrayLike = None, cache: KeyValueCache | None = None,
) -> Any:  # fmt: skip
    """Attention of ``num_heads`` heads (Vaswani et al. 2017): (N, L, E) of query (N, L, E), key and value (N, S, E).

    ``in_proj_weight`` (E + 2·G·d, E) holds the rows of queries, keys and values, d = E/num_heads, its bias or None;
    ``out_proj_weight`` (E, E) and its bias or None follow.  G = ``num_kv_heads`` heads of keys and values (default:
    all) are shared by groups of query heads.

    Masks say what is seen: ``attn_mask`` (L, S), (N·, heads·, L, S) or to be added to the scores; ``key_mask`` (N, S)
    True for what is no padding; ``is_causal``; of a causal one, ``window`` keys.  ``rotary`` turns queries and keys.

    With ``cache`` the keys and values of this call are written behind those of the calls before, attention is causal
    over all of them, and the result is (y, next cache).  One position more than its capacity is an IndexError.
    """
    result = _attended(
        tuple(inexact(as_node(a)) for a in (query, key, value)), (in_proj_weight, in_proj_bias),
        (out_proj_weight, out_proj_bias), static_int(num_heads, "num_heads"),
        num_kv_heads, attn_mask, key_mask, is_causal, window, rotary, (dropout_p, dropout_key), cache,
    )  # fmt: skip
    given = (query, key, value, in_proj_weight, in_proj_bias, out_proj_weight, out_proj_bias, attn_mask, key_mask,
             dropout_key, *(cache or ()))  # fmt: skip
    return result if is_traced(given) else evaluated(result)


def _attended(
    inputs: Any, into: Any, out: Any, heads: int, kv_heads: Any, attn_mask: Any, key_mask: Any, is_causal: bool,
    window: Any, rotary: bool, dropout: Any, cache: KeyValueCache | None,
) -> Any:  # fmt: skip
    groups = heads if kv_heads is None else static_int(kv_heads, "num_kv_heads")
    q, k, v = _projected(inputs, into, heads, groups)
    if window is not None and not is_causal and cache is None:
        raise TraceError(f"{here()}: nn.multi_head_attention: window= counts keys of a causal mask; add is_causal=True")
    first: Any = 0 if cache is None else as_node(cache.length)
    if rotary:
        places = first + iota((q.shape[-2],)), first + iota((k.shape[-2],))
        q, k = (FUNCTIONS["nn.rotary"](x, p) for x, p in zip((q, k), places, strict=True))
    if cache is not None:
        cache, k, v = _extended(cache, k, v)
    mask = None
    if is_causal or cache is not None:
        mask = FUNCTIONS["nn.causal_mask"](q.shape[-2], k.shape[-2], window=window, offset=first)
    mask = _joint(mask, attn_mask, key_mask, k)
    y = FUNCTIONS["nn.scaled_dot_product_attention"](
        q, k, v, mask, dropout[0], enable_gqa=groups != heads, dropout_key=dropout[1]
    )
    joined = gnp.reshape(gnp.swapaxes(y, -2, -3), inputs[0].shape)
    result = FUNCTIONS["nn.linear"](joined, *out)
    return result if cache is None else (result, cache)


def _projected(inputs: Any, into: Any, heads: int, groups: int) -> list[Any]:
    """Queries, keys and values (N, heads, L, d)."""
    width, weight = inputs[0].shape[-1], as_node(into[0])
    if heads < 1 or groups < 1 or width % heads or heads % groups:
        raise ShapeError(
            f"{here()}: nn.multi_head_attention: num_heads must divide the {width} features of the query, and "
            f"num_kv_heads must divide num_heads; got num_heads={heads}, num_kv_heads={groups}"
        )
    size = width // heads
    rows = (width, groups * size, groups * size)
    if any(x.ndim != 3 for x in inputs) or weight.ndim != 2 or weight.shape[0] != sum(rows):
        raise ShapeError(
            f"{here()}: nn.multi_head_attention: sequences are (N, L, E), and in_proj_weight is ({sum(rows)}, E): rows "
            f"of queries, keys and values.\n  operands: {'; '.join(map(describe, (*inputs, weight)))}"
        )
    bias = None if into[1] is None else as_node(into[1])
    found, start = [], 0
    for x, count, of in zip(inputs, rows, (heads, groups, groups), strict=True):
        part = slice(start, start + count)
        flat = FUNCTIONS["nn.linear"](x, weight[part], None if bias is None else bias[part])
        found.append(gnp.swapaxes(gnp.reshape(flat, (*x.shape[:2], of, size)), 1, 2))
        start += count
    return found


def _extended(cache: KeyValueCache, k: Any, v: Any) -> tuple[KeyValueCache, Any, Any]:
    """The cache with these keys and values behind the others."""
    keys, values, length = (as_node(part) for part in cache)
    if keys.shape[:2] != k.shape[:2] or keys.shape[-1] != k.shape[-1] or values.shape != keys.shape:
        raise ShapeError(
            f"{here()}: nn.multi_head_attention: the cache must hold (N, heads, capacity, d) = ({k.shape[0]}, "
            f"{k.shape[1]}, …, {k.shape[-1]}), got {describe(keys)}; make one with nn.key_value_cache"
        )
    if k.shape[2] > keys.shape[2]:
        raise ShapeError(
            f"{here()}: nn.multi_head_attention: {k.shape[2]} positions for a cache of capacity {keys.shape[2]}"
        )
    at = length + iota((k.shape[2],))
    put = [x.at[:, :, at].set(cast(new, x.dtype)) for x, new in ((keys, k), (values, v))]
    return KeyValueCache(put[0], put[1], cast(length + k.shape[2], length.dtype)), put[0], put[1]


def _joint(mask: Any, attn_mask: ArrayLike, key_mask: ArrayLike, k: Node) -> Any:
    """All masks in one: boolean, unless one is to be added to the scores."""
    if key_mask is not None:
        counts = as_node(key_mask)
        if counts.dtype != bool or counts.shape != (k.shape[0], k.shape[-2]):
            raise ShapeError(
                f"{here()}: nn.multi_head_attention: key_mask must be bool ({k.shape[0]}, {k.shape[-2]}), True for "
                f"what is no padding, got {describe(counts)}"
            )
        counts = gnp.reshape(counts, (counts.shape[0], 1, 1, counts.shape[1]))
        mask = counts if mask is None else mask & counts
    if attn_mask is None:
        return mask
    node = mask_of("nn.multi_head_attention", attn_mask)
    if mask is None:
        return node
    return node & mask if node.dtype == bool else gnp.where(mask, node, -np.inf)
