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

from gradc.aval import BFLOAT16, FLOAT16, Shape, computed_in, finfo
from gradc.node import FUNCTIONS, OPS, Node, constant
from gradc.numpy.axes import shape_of
from gradc.numpy.public import Array, ArrayLike
from gradc.ops.elementwise import apply, cast
from gradc.ops.randomness import FRACTIONS
from gradc.random.arguments import float_dtype, known_number, one_of, parameter, result_shape
from gradc.random.keys import bits_of, sampler, words_of

__all__ = [
    "cauchy", "exponential", "gumbel", "laplace", "logistic", "normal", "truncated_normal", "uniform",
]  # fmt: skip

#: of a float: the unsigned integers whose upper bits are its digits
_MADE_OF: dict[Any, np.dtype[Any]] = {made: words for words, (made, _) in FRACTIONS.items()}
#: of a narrow float, the same, and how many of their bits are its digits
_NARROW_OF: dict[Any, tuple[np.dtype[Any], int]] = {
    FLOAT16: (np.dtype(np.uint16), 10),
    BFLOAT16: (np.dtype(np.uint8), 7),
}

#: by the bytes of a dtype, the bounds beyond which `truncated_normal` counts from the end of a tail: up to there it has
#: JAX's numbers
_FAR = {8: 5.0, 4: 3.0, 2: 1.0}


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
        return OPS["fraction"].make((bits_of(words, shape, _MADE_OF[dtype]),), dtype=dtype)
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
        return OPS["normal_of_bits"].make((bits_of(words, shape, _MADE_OF[dtype]),), dtype=dtype)
    above = -1 + finfo(dtype).epsneg  # the number after −1
    return apply(OPS["erfinv"], between(words, shape, dtype, above, 1.0, "normal")) * math.sqrt(2)


@sampler
def truncated_normal(key: ArrayLike, lower: ArrayLike, upper: ArrayLike, shape: Any = None, dtype: Any = None) -> Array:
    """Standard normal numbers that lie between ``lower`` and ``upper``; shape None: that of the bounds together.

    Where both bounds lie far out on one side, beyond 5 (float32 3, narrow dtypes 1), numbers are found by the tail's
    own probability, which keeps its digits until it underflows: where the nearer bound is beyond 37 (others 12) they
    are that bound, which is less than 1/bound away on average.
    """
    target = float_dtype(dtype, "truncated_normal")
    extents = result_shape(shape, "truncated_normal", lower=lower, upper=upper)
    low, high = (
        parameter(bound, what, extents, target, "truncated_normal")
        for bound, what in ((lower, "lower"), (upper, "upper"))
    )
    words, ends = words_of(key, "truncated_normal"), (known_number(lower), known_number(upper))
    central = None not in ends and not _is_far(*ends, target)
    found = (_centrally if central else _between_any)(words, low, high)
    first, last = _just_inside(low, math.inf), _just_inside(high, -math.inf)
    return apply(OPS["minimum"], apply(OPS["maximum"], found, first), last)


def _just_inside(bound: Node, towards: float) -> Node:
    """The number after a bound, for rounding must not leave the open interval; it moves as the bound does."""
    where, stop = FUNCTIONS["where"], FUNCTIONS["stop_gradient"]
    held = stop(bound)
    after = FUNCTIONS["nextafter"](held, bound.dtype.type(towards))
    finite = FUNCTIONS["isfinite"](held)
    moved: Node = where(finite, bound, 0) + where(finite, after - held, after)
    return moved


def _is_far(low: Any, high: Any, dtype: np.dtype[Any]) -> Any:
    """Whether both bounds lie far out on one side."""
    far = _FAR[dtype.itemsize]
    return (low > far) | (high < -far)


def _centrally(words: Sequence[Node], low: Node, high: Node) -> Node:
    """Normal numbers between two bounds, by the distribution function: JAX's numbers."""
    root = low.dtype.type(math.sqrt(2))
    a, b = (apply(OPS["erf"], bound / root) for bound in (low, high))
    return apply(OPS["erfinv"], between(words, low.shape, low.dtype, a, b, "truncated_normal")) * root


def _between_any(words: Sequence[Node], low: Node, high: Node) -> Node:
    """Normal numbers between bounds that may lie far out; where a branch is not taken its bounds are harmless ones."""
    where = FUNCTIONS["where"]
    above, far = low > 0, _is_far(low, high, low.dtype)
    middle = _centrally(words, where(far, -1, low), where(far, 1, high))
    near, end = where(far, where(above, low, -high), 1), where(far, where(above, high, -low), 2)
    wide = computed_in(low.dtype)
    tail = _beyond(*(cast(x, wide) for x in (unit(words, low.shape, low.dtype), near, end)))
    outer: Node = where(far, cast(where(above, tail, -tail), low.dtype), middle)
    return outer


def _beyond(f: Node, near: Node, end: Node) -> Any:
    """Normal numbers between two positive bounds, f uniform on [0, 1) taking them from ``near`` to ``end``."""
    root = f.dtype.type(math.sqrt(2))
    most, least = (apply(OPS["erfc"], bound / root) for bound in (near, end))
    inside = most >= float(finfo(f.dtype).tiny)
    share = FUNCTIONS["where"](inside, apply(OPS["multiply_add"], f, least - most, most), 1)
    return FUNCTIONS["where"](inside, apply(OPS["erfcinv"], share) * root, near)


@sampler
def exponential(key: ArrayLike, shape: Any = (), dtype: Any = None) -> Array:
    """Numbers with the density e⁻ˣ for x >= 0: −log(1 − u), u uniform on [0, 1)."""
    target = float_dtype(dtype, "exponential")
    return -apply(OPS["log1p"], -unit(words_of(key, "exponential"), shape_of(shape), target))


@sampler
def laplace(key: ArrayLike, shape: Any = (), dtype: Any = None) -> Array:
    """Numbers with the density e^(−|x|)/2: sign u·log(1 − |u|), u uniform on (−1, 1)."""
    target, extents = float_dtype(dtype, "laplace"), shape_of(shape)
    lowest = -1.0 + float(finfo(target).epsneg)
    u = between(words_of(key, "laplace"), extents, target, lowest, 1.0, "laplace")
    return apply(OPS["sign"], u) * apply(OPS["log1p"], -apply(OPS["absolute"], u))


@sampler
def cauchy(key: ArrayLike, shape: Any = (), dtype: Any = None) -> Array:
    """Numbers with the density 1/(π(1 + x²)): tan π(u − ½), u uniform on (0, 1)."""
    target, extents = float_dtype(dtype, "cauchy"), shape_of(shape)
    u = between(words_of(key, "cauchy"), extents, target, float(finfo(target).eps), 1.0, "cauchy")
    return apply(OPS["tan"], (u - 0.5) * math.pi)


@sampler
def logistic(key: ArrayLike, shape: Any = (), dtype: Any = None) -> Array:
    """Numbers with the distribution function 1/(1 + e⁻ˣ): log u/(1 − u), u uniform on (0, 1)."""
    target = float_dtype(dtype, "logistic")
    u = positive(words_of(key, "logistic"), shape_of(shape), target)
    return apply(OPS["log"], u) - apply(OPS["log1p"], -u)


@sampler
def gumbel(key: ArrayLike, shape: Any = (), dtype: Any = None, mode: str | None = None) -> Array:
    """Numbers with the distribution function exp(−e⁻ˣ): −log(−log u), u uniform on (0, 1).

    ``mode="high"`` takes twice as many bits, so that its largest numbers reach twice as far; None is "low".
    """
    return gumbel_of(words_of(key, "gumbel"), shape_of(shape), float_dtype(dtype, "gumbel"), mode, "gumbel")


def gumbel_of(words: Sequence[Node], shape: Shape, dtype: np.dtype[Any], mode: str | None, name: str) -> Node:
    """Gumbel numbers of the words of a key."""
    one_of(mode, (None, "low", "high"), "mode", name)
    if mode != "high":
        return -apply(OPS["log"], -apply(OPS["log"], positive(words, shape, dtype)))
    both, limits = unit(words, (2, *shape), dtype), finfo(dtype)
    upper, lower = both[0], both[1]
    fine = upper + lower * 2.0**-limits.nmant + float(limits.tiny)
    u = np.where(upper >= 0.5, upper, fine)
    return -apply(OPS["log"], -apply(OPS["log1p"], -u))


def positive(words: Sequence[Node], shape: Shape, dtype: np.dtype[Any]) -> Node:
    """Numbers uniform on (0, 1): the smallest normal number in place of 0."""
    return between(words, shape, dtype, float(finfo(dtype).tiny), 1.0, "")
