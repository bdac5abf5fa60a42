"""Random integers, truth values, choices and permutations.

Enters: a key, a shape, an integer dtype, and parameters.  Leaves: arrays of integers or bools, which have no
derivative.  Invariant: the arithmetic of jax.random 0.10, so that the same key gives the same numbers.  Start reading
at `randint`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gradc.aval import Shape, finfo
from gradc.errors import DTypeError, ShapeError
from gradc.node import FUNCTIONS, OPS, Node, as_node, here, static_int
from gradc.numpy.axes import axis_of, shape_of
from gradc.numpy.public import Array, ArrayLike
from gradc.numpy.reductions import inexact
from gradc.numpy.shapes import region, reshaped
from gradc.ops.elementwise import apply, cast
from gradc.ops.leaves import full, iota
from gradc.ops.record import Kind
from gradc.random.arguments import (
    integer_dtype,
    known_integer,
    number_dtype,
    one_of,
    parameter,
    probability,
    result_shape,
)
from gradc.random.continuous import gumbel_of, unit
from gradc.random.keys import bits_of, sampler, split_words, words_of

__all__ = ["bernoulli", "categorical", "choice", "permutation", "rademacher", "randint"]


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
        low, high = (_fitted(bound, sampled, ends.min, ends.max + at) for bound, at in ((low, 0), (high, 1)))
    most, unsigned = np.iinfo(sampled).max, np.dtype(f"uint{8 * sampled.itemsize}")
    beyond = high > high.dtype.type(min(most, np.iinfo(high.dtype).max))
    start, stop = (_fitted(bound, sampled, np.iinfo(sampled).min, most) for bound in (low, high))
    rises = stop > start
    span = _chosen(rises, cast(stop - start, unsigned), unsigned.type(1))
    span = _chosen(apply(OPS["logical_and"], beyond, rises), span + unsigned.type(1), span)
    whole = span == unsigned.type(0)  # all values of the dtype

    def rest(x: Any) -> Node:
        return _chosen(whole, x, _rest(x, span))

    higher, lower = (bits_of(half, shape, unsigned) for half in split_words(words))
    half = rest(full(shape, 1 << 4 * sampled.itemsize, unsigned))
    return start + cast(rest(rest(higher) * rest(half * half) + rest(lower)), sampled)


def _fitted(x: Node, dtype: np.dtype[Any], least: int, most: int) -> Node:
    """Integers in another dtype; those outside ``least`` … ``most`` become the nearest end before they are cast."""
    mine = np.iinfo(x.dtype)
    low, high = x.dtype.type(max(mine.min, least)), x.dtype.type(min(mine.max, most))
    return cast(apply(OPS["minimum"], apply(OPS["maximum"], x, low), high), dtype)


def _chosen(mask: Node, x: Any, y: Any) -> Node:
    found: Node = np.where(mask, x, y)
    return found


# -- truth values ------------------------------------------------------------------------------------------------------


@sampler
def bernoulli(key: ArrayLike, p: ArrayLike = 0.5, shape: Any = None, mode: str = "low") -> Array:
    """Truth values that hold with probability ``p``, in [0, 1]; shape None: that of ``p``.

    A draw is compared in the dtype of ``p``, so that float32 resolves 2⁻²³; ``mode="high"`` takes twice as many bits.
    """
    one_of(mode, ("low", "high"), "mode", "bernoulli")
    node = probability(p, "p", "bernoulli")
    extents = result_shape(shape, "bernoulli", p=node)
    chance = parameter(node, "p", extents, node.dtype, "bernoulli")
    words = words_of(key, "bernoulli")
    if mode == "low":
        return unit(words, extents, node.dtype) < chance
    both = unit(words, (2, *extents), node.dtype)
    return both[1] * 2.0 ** -finfo(node.dtype).nmant < chance - both[0]


@sampler
def rademacher(key: ArrayLike, shape: Any = (), dtype: Any = None) -> Array:
    """−1 or 1, each with probability ½: an array of ``shape``, of an integer or floating dtype (None: int64)."""
    target = number_dtype(dtype, "rademacher")
    heads = unit(words_of(key, "rademacher"), shape_of(shape), np.dtype(np.float64)) < 0.5
    return cast(heads, target) * target.type(2) - target.type(1)


# -- choices -----------------------------------------------------------------------------------------------------------


@sampler
def categorical(
    key: ArrayLike, logits: ArrayLike, axis: int = -1, shape: Any = None, replace: bool = True, mode: str | None = None
) -> Array:
    """Positions along ``axis`` of ``logits``, with probabilities proportional to their exponentials.

    ``shape`` ends with that of the logits without ``axis``; what stands before it counts the draws of each (None: one).
    ``replace=False`` draws different positions; ValueError if logits that are known have fewer above −inf; of
    traced ones the others follow then.  ``mode`` is that of `gumbel`: what is drawn is where the sum of the logits and
    of such noise is largest.
    """
    node = inexact(as_node(logits))
    place = axis_of(axis, node)
    batch = tuple(n for k, n in enumerate(node.shape) if k != place)
    extents = batch if shape is None else shape_of(shape)
    lead = extents[: len(extents) - len(batch)]
    if extents[len(lead) :] != batch:
        raise ShapeError(
            f"{here()}: random.categorical: shape {extents} must end with {batch}, the shape of the logits without "
            f"axis {axis}"
        )
    words = words_of(key, "categorical")
    if replace:
        noise = gumbel_of(words, (*lead, *node.shape), node.dtype, mode, "categorical")
        return FUNCTIONS["argmax"](noise + node, len(lead) + place)
    count = math.prod(lead)
    if count > node.shape[place]:
        raise ShapeError(
            f"{here()}: random.categorical: {count} different positions of {node.shape[place]} cannot be drawn"
        )
    _enough(node, -math.inf, place, count, "categorical", "logits above −inf")
    largest = _largest(gumbel_of(words, node.shape, node.dtype, mode, "categorical") + node, place, count)
    return reshaped(FUNCTIONS["moveaxis"](largest, place, 0), extents)


@sampler
def choice(
    key: ArrayLike, a: ArrayLike, shape: Any = (), replace: bool = True, p: ArrayLike | None = None, axis: int = 0,
    mode: str | None = None,
) -> Array:  # fmt: skip
    """Elements of ``a`` along ``axis``, or integers below it if it is one, an array of ``shape`` of them.

    ``p`` are probabilities that sum to 1 (None: all alike); ``replace=False`` draws each at most once, and takes
    ``mode`` from `gumbel` where ``p`` is given: ValueError if a ``p`` that is known has too few elements above 0; of a
    traced one those that are 0 follow when no others are left.
    """
    count, source, place = _population(a, axis, "choice")
    extents = shape_of(shape)
    drawn = math.prod(extents)
    if drawn and not count:
        raise ShapeError(f"{here()}: random.choice: there is nothing to choose from")
    if not replace and drawn > count:
        raise ShapeError(f"{here()}: random.choice: {drawn} different elements of {count} cannot be chosen")
    words = words_of(key, "choice")
    if p is not None:
        places = _weighted(words, extents, count, replace, p, mode)
    elif replace:
        places = cast(_below(words, extents, max(count, 1), np.dtype(np.int64)), np.int64)
    else:
        places = reshaped(_shuffled(words, iota((count,)), 0)[:drawn], extents)
    return places if source is None else FUNCTIONS["take"](source, places, axis=place)


def _population(a: ArrayLike, axis: int, name: str) -> tuple[int, Node | None, int]:
    """How many elements there are, the array that they are of (None: the integers from 0 on), and its axis."""
    node = as_node(a)
    if node.ndim:
        place = axis_of(axis, node)
        return node.shape[place], node, place
    count = static_int(a, f"random.{name}: a number in place of an array")
    if count < 0:
        raise ShapeError(f"{here()}: random.{name}: expected an array or a number >= 0, got {count}")
    return count, None, 0


def _weighted(words: Sequence[Node], shape: Shape, count: int, replace: bool, p: ArrayLike, mode: str | None) -> Node:
    """Positions drawn with probabilities: by the sums of these, or the largest of logarithms with noise."""
    chances = inexact(probability(p, "p", "choice"))
    if chances.shape != (count,):
        raise ShapeError(f"{here()}: random.choice: p has the shape {chances.shape}, expected {(count,)}")
    if replace:
        sums = FUNCTIONS["cumsum"](chances)
        r = sums[-1] * (1 - unit(words, shape, chances.dtype))
        return FUNCTIONS["searchsorted"](sums, r)
    _enough(as_node(p), 0, 0, math.prod(shape), "choice", "probabilities above 0")
    noise = gumbel_of(words, (count,), chances.dtype, mode, "choice")
    return reshaped(_largest(noise + np.log(chances), 0, math.prod(shape)), shape)


def _enough(x: Node, impossible: float, axis: int, count: int, name: str, what: str) -> None:
    """ValueError where fewer than ``count`` different positions of a known array are possible ones."""
    if x.op.kind is Kind.CONSTANT and x.size:
        fewest = int((x.attrs["value"] > impossible).sum(axis).min())
        if fewest < count:
            raise ValueError(
                f"{here()}: random.{name}: {count} different positions cannot be drawn with {fewest} {what}"
            )


def _largest(x: Node, axis: int, count: int) -> Node:
    """The positions of the largest elements along an axis, in falling order."""
    order = FUNCTIONS["argsort"](-x, axis)
    parts = [range(n) if k != axis else range(count) for k, n in enumerate(x.shape)]
    return region(order, parts)


@sampler
def permutation(key: ArrayLike, x: ArrayLike, axis: int = 0, independent: bool = False) -> Array:
    """``x`` in random order along ``axis``, or the integers below it if it is one.

    Rows are moved as a whole; ``independent`` orders each of them for itself.
    """
    count, source, place = _population(x, axis, "permutation")
    words = words_of(key, "permutation")
    if source is None:
        return _shuffled(words, iota((count,)), 0)
    if independent or source.ndim == 1:
        return _shuffled(words, source, place)
    return FUNCTIONS["take"](source, _shuffled(words, iota((count,)), 0), axis=place)


def _shuffled(words: Sequence[Node], x: Node, axis: int) -> Node:
    """``x`` sorted by random words, several times: often enough that equal words in all of them are improbable."""
    rounds = math.ceil(3 * math.log(max(1, x.size)) / math.log(np.iinfo(np.uint32).max))
    for _ in range(rounds):
        words, own = split_words(words)
        order = FUNCTIONS["argsort"](bits_of(own, x.shape, np.dtype(np.uint32)), axis, kind="stable")
        x = FUNCTIONS["take_along_axis"](x, order, axis)
    return x
