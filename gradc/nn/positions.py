"""Positional encodings: sinusoidal, rotary, ALiBi.  Enters: positions.  Leaves: what attention adds or turns by."""

from __future__ import annotations

from typing import Any

import numpy as np

import gradc.numpy as gnp
from gradc.aval import FLOAT32
from gradc.errors import ShapeError
from gradc.node import Node, as_node, constant, describe, here, static_int
from gradc.numpy.public import Array, ArrayLike, function
from gradc.numpy.reductions import inexact
from gradc.ops.elementwise import cast
from gradc.ops.leaves import iota
from gradc.random.arguments import float_dtype

__all__ = ["alibi", "alibi_slopes", "rotary", "sinusoidal"]


@function("nn.sinusoidal")
def sinusoidal(positions: Any, dim: int, *, base: float = 10000.0, dtype: Any = None) -> Array:
    """sin and cos of p/base^(2i/dim) at 2i and 2i + 1: (…, dim) of positions (…), or of 0 … n − 1 for an int n.

    ``dim`` is even; float64 unless ``dtype`` says otherwise (Vaswani et al. 2017).
    """
    kind, width = float_dtype(dtype, "nn.sinusoidal"), _even("sinusoidal", dim)
    places = iota((positions,)) if isinstance(positions, int) else as_node(positions)
    angles = _angles(places, width, base)
    pairs = gnp.stack([gnp.sin(angles), gnp.cos(angles)], axis=-1)
    return cast(gnp.reshape(pairs, (*angles.shape[:-1], width)), kind)


@function("nn.rotary")
def rotary(input: ArrayLike, positions: ArrayLike = None, *, base: float = 10000.0, interleaved: bool = True) -> Array:
    """Each pair of features of (…, L, d) turned by p/base^(2i/d), p its position (Su et al. 2021).

    ``positions`` (L,), or what broadcasts to (…, L), are 0 … L − 1 unless given.  Scores of turned queries and keys
    depend on the distance alone.  Pairs are (2i, 2i + 1); ``interleaved=False``: (i, i + d/2), as GPT-NeoX and Llama
    have it.
    """
    x = inexact(as_node(input))
    if x.ndim < 2:
        raise ShapeError(f"{here()}: nn.rotary: input is (…, L, d), got {describe(x)}")
    width = _even("rotary", x.shape[-1])
    places = iota((x.shape[-2],)) if positions is None else as_node(positions)
    angles = _angles(places, width, base)
    narrow = x.dtype.itemsize < 4
    sin, cos = (cast(f(angles), FLOAT32 if narrow else x.dtype) for f in (gnp.sin, gnp.cos))
    wide: Any = cast(x, FLOAT32) if narrow else x
    if interleaved:
        a, b = wide[..., 0::2], wide[..., 1::2]
        turned = gnp.reshape(gnp.stack([a * cos - b * sin, b * cos + a * sin], axis=-1), x.shape)
    else:
        a, b = wide[..., : width // 2], wide[..., width // 2 :]
        turned = gnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)
    return cast(turned, x.dtype)


def _angles(places: Node, width: int, base: float) -> Any:
    """p·base^(−2i/width) in float64, for each position p and i < width/2."""
    rates = constant(np.power(float(base), -np.arange(0, width, 2) / max(width, 1)))
    return gnp.expand_dims(cast(places, np.float64), -1) * rates


def alibi_slopes(num_heads: int) -> np.ndarray[Any, Any]:
    """The slope of each head: 2^(−8h/n), h = 1 … n, for n a power of 2 (Press et al. 2022).

    Between powers of 2 the slopes of the smaller one, then every other slope of the larger one, as the authors do.
    """
    n = static_int(num_heads, "num_heads")
    if n < 1:
        raise ValueError(f"{here()}: nn.alibi_slopes: num_heads must be at least 1, got {num_heads!r}")
    whole = 1 << (n.bit_length() - 1)

    def powers(count: int) -> np.ndarray[Any, Any]:
        return np.exp2(-8.0 * np.arange(1, count + 1) / count)

    return np.concatenate([powers(whole), powers(2 * whole)[0::2][: n - whole]])


@function("nn.alibi")
def alibi(num_heads: int, length: int, keys: int | None = None, *, offset: ArrayLike = 0, dtype: Any = None) -> Array:
    """−slope·|i − j| for query i and key j of each head, to be added to scores: (num_heads, length, keys).

    ``offset``: position of the first query.  A causal mask beside it is the paper's form.
    """
    rows = static_int(length, "length")
    columns = rows if keys is None else static_int(keys, "keys")
    kind = float_dtype(dtype, "nn.alibi")
    slopes = constant(alibi_slopes(num_heads).reshape(-1, 1, 1))
    shape = (1, rows, columns)
    return cast(-slopes * cast(abs(as_node(offset) + iota(shape, 1) - iota(shape, 2)), np.float64), kind)


def _even(name: str, width: Any) -> int:
    count = static_int(width, "dim")
    if count < 2 or count % 2:
        raise ShapeError(f"{here()}: nn.{name}: features come in pairs; their number must be even, got {count}")
    return count
