"""Numbers of continuous distributions that are functions of uniform ones, element by element.

Enters: a key, a shape, a floating dtype, and parameters.  Leaves: arrays; with traced parameters they are
differentiable in these, the draw being held.
Invariant: the arithmetic of jax.random 0.10, so that the same key gives the same numbers, those of `uniform` bit by
bit.  Start reading at `unit`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gradc.aval import BFLOAT16, FLOAT16, Shape, finfo
from gradc.node import OPS, Node, constant
from gradc.numpy.axes import shape_of
from gradc.numpy.public import Array, ArrayLike
from gradc.ops.elementwise import apply, cast
from gradc.ops.randomness import FRACTIONS
from gradc.random.arguments import float_dtype, known_number, parameter
from gradc.random.keys import bits_of, sampler, words_of

__all__ = ["normal", "uniform"]

#: of a float: the unsigned integers whose upper bits are its digits
_MADE_OF: dict[Any, np.dtype[Any]] = {made: words for words, (made, _) in FRACTIONS.items()}
#: of a narrow float, the same, and how many of their bits are its digits
_NARROW_OF: dict[Any, tuple[np.dtype[Any], int]] = {
    FLOAT16: (np.dtype(np.uint16), 10),
    BFLOAT16: (np.dtype(np.uint8), 7),
}


@sampler
def uniform(
    key: ArrayLike, shape: Any = (), dtype: Any = None, minval: ArrayLike = 0.0, maxval: ArrayLike = 1.0
) -> Array:
    """Numbers that are uniform on [minval, maxval): an array of ``shape``, of a floating dtype (None: float64).

    >>> import gradc as gc
    >>> gc.random.uniform(gc.random.key(0), (2,)).round(4).tolist()
    [0.4185, 0.0992]
    """
    target, extents = float_dtype(dtype, "uniform"), shape_of(shape)
    return between(words_of(key, "uniform"), extents, target, minval, maxval, "uniform")


@sampler
def normal(key: ArrayLike, shape: Any = (), dtype: Any = None) -> Array:
    """Standard normal numbers: √2·erfinv of numbers that are uniform on (−1, 1)."""
    target, extents = float_dtype(dtype, "normal"), shape_of(shape)
    return normal_of(words_of(key, "normal"), extents, target)


def unit(words: Sequence[Node], shape: Shape, dtype: np.dtype[Any]) -> Node:
    """Numbers uniform on [0, 1): random bits as their digits."""
    if dtype in _MADE_OF:
        return OPS["fraction"].make((bits_of(words, shape, _MADE_OF[dtype]),))
    source, digits = _NARROW_OF[dtype]
    upper = apply(OPS["bitwise_right_shift"], bits_of(words, shape, source), source.type(8 * source.itemsize - digits))
    return cast(upper, dtype) * 2.0**-digits


def between(
    words: Sequence[Node], shape: Shape, dtype: np.dtype[Any], low: ArrayLike, high: ArrayLike, name: str
) -> Node:
    """Numbers uniform on [low, high): f·(high − low) + low for f on [0, 1), rounded once, and never below low."""
    f, lowest, highest = unit(words, shape, dtype), known_number(low), known_number(high)
    if lowest is None or highest is None:
        a, b = parameter(low, "minval", shape, dtype, name), parameter(high, "maxval", shape, dtype, name)
        return apply(OPS["maximum"], a, apply(OPS["multiply_add"], f, b - a, a))
    start, stop = (np.asarray(bound, dtype) for bound in (lowest, highest))
    with np.errstate(all="ignore"):
        span = np.asarray(stop - start)
    if span in (1, 2) or start == 0:  # the product is exact, or nothing is added
        scaled = f if span == 1 else f * constant(span)
        moved = scaled if start == 0 else scaled + constant(start)
    else:
        moved = apply(OPS["multiply_add"], f, constant(span), constant(start))
    return moved if stop >= start else apply(OPS["maximum"], constant(start), moved)


def normal_of(words: Sequence[Node], shape: Shape, dtype: np.dtype[Any]) -> Node:
    """Standard normal numbers of the words of a key."""
    if dtype in _MADE_OF:
        return OPS["normal_of_bits"].make((bits_of(words, shape, _MADE_OF[dtype]),))
    above = -1 + finfo(dtype).epsneg  # the number after −1
    return apply(OPS["erfinv"], between(words, shape, dtype, above, 1.0, "normal")) * math.sqrt(2)
