"""Random integers, truth values, choices and permutations.

Enters: a key, a shape, an integer dtype, and parameters.  Leaves: arrays of integers or bools, which have no
derivative.  Invariant: the arithmetic of jax.random 0.10, so that the same key gives the same numbers.  Start reading
at `randint`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gradc.aval import Shape
from gradc.errors import DTypeError
from gradc.node import OPS, Node, as_node, here
from gradc.numpy.axes import shape_of
from gradc.numpy.public import Array, ArrayLike
from gradc.ops.elementwise import apply, cast
from gradc.ops.leaves import full
from gradc.random.arguments import integer_dtype, known_integer, parameter
from gradc.random.keys import bits_of, sampler, split_words, words_of

__all__ = ["randint"]


# -- integers ----------------------------------------------------------------------------------------------------------


@sampler
def randint(key: ArrayLike, shape: Any, minval: ArrayLike, maxval: ArrayLike, dtype: Any = None) -> Array:
    """Integers that are uniform on [minval, maxval): an array of ``shape``, of an integer dtype (None: int64).

    Where maxval is not above minval the result is minval.  Bounds outside the dtype are moved to its ends; a maxval
    above its largest number includes that one.  Of n values none is more probable than another by more than n/2ᵇ of
    itself, b being the bits of the dtype, 32 at least.

    >>> import gradc as gc
    >>> gc.random.randint(gc.random.key(0), (5,), 1, 7).tolist()
    [2, 2, 4, 3, 5]
    """
    target, extents = integer_dtype(dtype, "randint"), shape_of(shape)
    sampled = target if target.itemsize >= 4 else np.dtype(np.int32)
    low, high = known_integer(minval), known_integer(maxval)
    words = words_of(key, "randint")
    if low is None or high is None:
        bounds = [_bound(b, what, extents) for b, what in ((minval, "minval"), (maxval, "maxval"))]
        return cast(_between(words, extents, bounds, target, sampled), target)
    start, span = _known_span(low, high, target, sampled)
    return cast(full(extents, start, sampled) + cast(_below(words, extents, span, sampled), sampled), target)


def _known_span(low: int, high: int, target: np.dtype[Any], sampled: np.dtype[Any]) -> tuple[int, int]:
    """The smallest value, and how many there are modulo 2ᵇ: 0 if they are all of the dtype's."""
    ends = np.iinfo(target)
    start, stop = (min(max(bound, int(ends.min)), int(ends.max) + at) for bound, at in ((low, 0), (high, 1)))
    return start, max(stop - start, 1) % (1 << 8 * sampled.itemsize)


def _below(words: Sequence[Node], shape: Shape, span: int, dtype: np.dtype[Any]) -> Node:
    """Unsigned integers below ``span`` (0: any), of the remainders of two draws of b bits: 2ᵇ·higher + lower."""
    unsigned = np.dtype(f"uint{8 * dtype.itemsize}")
    higher, lower = (bits_of(half, shape, unsigned) for half in split_words(words))
    if span == 0:
        return lower
    multiplier = _multiplier(span, 8 * dtype.itemsize)
    rest = _rest(lower, unsigned.type(span))
    if multiplier == 0:
        return rest
    return _rest(_rest(higher, unsigned.type(span)) * unsigned.type(multiplier) + rest, unsigned.type(span))


def _multiplier(span: int, bits: int) -> int:
    """2ᵇ modulo ``span``, as the square of its root, which wraps to 0 where ``span`` is above that."""
    half = (1 << bits // 2) % span
    return half * half % (1 << bits) % span


def _rest(x: Any, span: Any) -> Node:
    return apply(OPS["remainder"], x, span)


def _bound(value: ArrayLike, what: str, shape: Shape) -> Node:
    """A bound that may be traced, in its own dtype and the shape of the result."""
    node = as_node(value)
    if node.dtype.kind not in "iu":
        raise DTypeError(f"{here()}: random.randint: {what} must be an integer, got {node.aval}")
    return parameter(value, what, shape, node.dtype, "randint")


def _between(
    words: Sequence[Node], shape: Shape, bounds: Sequence[Node], target: np.dtype[Any], sampled: np.dtype[Any]
) -> Node:
    """`randint` with bounds that are known when it runs."""
    low, high = bounds
    if sampled != target:  # the end of a narrow dtype can be said in the wider one
        ends = np.iinfo(target)
        low, high = _held(cast(low, sampled), ends.min, ends.max), _held(cast(high, sampled), ends.min, ends.max + 1)
    most, unsigned = np.iinfo(sampled).max, np.dtype(f"uint{8 * sampled.itemsize}")
    beyond = high > high.dtype.type(min(most, np.iinfo(high.dtype).max))
    start, stop = _fitted(low, sampled), _fitted(high, sampled)
    rises = stop > start
    span = _chosen(rises, cast(stop - start, unsigned), unsigned.type(1))
    span = _chosen(apply(OPS["logical_and"], beyond, rises), span + unsigned.type(1), span)
    whole = span == unsigned.type(0)  # all values of the dtype

    def rest(x: Any) -> Node:
        return _chosen(whole, x, _rest(x, span))

    higher, lower = (bits_of(half, shape, unsigned) for half in split_words(words))
    half = rest(full(shape, 1 << 4 * sampled.itemsize, unsigned))
    return start + cast(rest(rest(higher) * rest(half * half) + rest(lower)), sampled)


def _held(x: Node, low: int, high: int) -> Node:
    return apply(OPS["minimum"], apply(OPS["maximum"], x, x.dtype.type(low)), x.dtype.type(high))


def _fitted(x: Node, dtype: np.dtype[Any]) -> Node:
    """Integers in another dtype; those outside it become the nearest end."""
    mine, theirs = np.iinfo(x.dtype), np.iinfo(dtype)
    return cast(_held(x, max(mine.min, theirs.min), min(mine.max, theirs.max)), dtype)


def _chosen(mask: Node, x: Any, y: Any) -> Node:
    found: Node = np.where(mask, x, y)
    return found
