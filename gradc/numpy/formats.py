"""How numbers are written: the parts of floats, neighbours, bits, common divisors; and what is asked of real numbers
because others are complex.

Enters: arrays.  Leaves: elementwise nodes, equal to NumPy's to the last bit.  Invariant: a narrow float is taken apart
in float32, which holds it, by the limits of its own dtype.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gradc.aval import BFLOAT16, FLOAT32, NARROW, computed_in, finfo
from gradc.errors import DTypeError, TraceError
from gradc.node import FUNCTIONS, OPS, Node, as_node, constant, describe, here
from gradc.numpy.creation import zeros_like
from gradc.numpy.public import Array, ArrayLike, composite, exported, function
from gradc.numpy.reductions import inexact
from gradc.numpy.shapes import broadcast_to
from gradc.ops.elementwise import apply, cast, loop_dtypes

__all__ = [
    "angle", "array_equiv", "bitwise_count", "common_type", "copysign", "fmod", "frexp", "gcd", "imag", "iscomplex",
    "isreal", "lcm", "ldexp", "min_scalar_type", "modf", "nextafter", "real_if_close", "signbit", "sinc", "spacing",
]  # fmt: skip

copysign, signbit, ldexp, fmod = map(exported, ("copysign", "signbit", "ldexp", "fmod"))
gcd, bitwise_count = exported("gcd"), exported("bitwise_count")
_where, _absolute = FUNCTIONS["where"], FUNCTIONS["absolute"]


# -- parts of a number ------------------------------------------------------------------------------------------------


@function("frexp")
def frexp(x: ArrayLike) -> tuple[Array, Array]:
    """(m, e) with x = m·2ᵉ, ½ ≤ |m| < 1, e int32; e is 0 for zeros, infinities and NaN, which are their own m."""
    node = inexact(as_node(x))
    exponent = OPS["exponent"].make((node,))
    return apply(OPS["ldexp"], node, -exponent), exponent


@function("modf")
def modf(x: ArrayLike) -> tuple[Array, Array]:
    """The fractional and the whole part, both with the sign of x; the derivative of the first is 1."""
    node = inexact(as_node(x))
    rest = _where(FUNCTIONS["isinf"](node), copysign(0.0, node), apply(OPS["fmod"], node, 1.0))
    return rest, apply(OPS["trunc"], node)


@function("nextafter")
def nextafter(x1: ArrayLike, x2: ArrayLike) -> Array:
    """The number of the dtype that follows x1 in the direction of x2; its derivative in x1 is 1."""
    x, y = as_node(x1), as_node(x2)
    dtype = loop_dtypes("copysign", [x.aval, y.aval])[-1]
    return cast(_after(cast(x, dtype), cast(y, dtype)), dtype)


def _after(x: Node, y: Node) -> Node:
    """Of numbers of one dtype, in the dtype in which it is computed."""
    limits, wide = finfo(x.dtype), computed_in(x.dtype)
    x, y = (cast(v, wide) for v in (x, y))
    size, least = _absolute(x), float(limits.smallest_subnormal)
    outwards = (y > x) == (x > 0)
    step = _distance(x, limits)
    shorter = (size > float(limits.smallest_normal)) & (_absolute(frexp(x)[0]) == 0.5)
    step = _where(outwards, step, -_where(shorter, step / 2, step))
    moved = _where(size == math.inf, copysign(float(limits.max), x), x + copysign(1.0, x) * step)
    if wide != limits.dtype:  # beyond the largest number of a narrow dtype
        moved = _where(_absolute(moved) > float(limits.max), copysign(math.inf, moved), moved)
    moved = _where(moved == 0, copysign(0.0, x), moved)
    moved = _where(x == 0, copysign(least, y), moved)
    there = x if wide != limits.dtype else _where(x == 0, y, x)  # of two zeros the second, but of narrow ones the first
    return _where(x == y, there, _where((x != x) | (y != y), x + y, moved))


def _distance(x: Node, limits: Any) -> Node:
    """The distance from |x| to the next larger number of the format with those limits; finite numbers only."""
    exponent = FUNCTIONS["maximum"](OPS["exponent"].make((x,)) - 1, int(limits.minexp)) - int(limits.nmant)
    exponent = _where(x == 0, int(limits.minexp) - int(limits.nmant), exponent)
    return apply(OPS["ldexp"], np.ones((), x.dtype), exponent)


@function("spacing", singular="0 everywhere")
def spacing(x: ArrayLike) -> Array:
    """The distance to the next number away from 0, with the sign of x; NaN for infinities.

    Of narrow floats it is, as in NumPy, the distance to the next larger number, which has no sign.
    """
    node = inexact(as_node(x))
    if node.dtype in NARROW:
        wide = cast(node, FLOAT32)
        found = _after(node, as_node(np.asarray(math.inf, node.dtype))) - wide
        return cast(FUNCTIONS["stop_gradient"](_where(FUNCTIONS["isfinite"](wide), found, math.nan)), node.dtype)
    limits = finfo(node.dtype)
    step = _where(_absolute(node) == float(limits.max), math.inf, _distance(node, limits))
    return _where(FUNCTIONS["isfinite"](node), _where(node < 0, -step, step), math.nan)


# -- whole numbers ----------------------------------------------------------------------------------------------------


@function("lcm")
def lcm(x1: ArrayLike, x2: ArrayLike) -> Array:
    """The least common multiple of |x1| and |x2|; 0 where one is 0."""
    common = FUNCTIONS["gcd"](x1, x2)
    x, y = (_size(cast(as_node(v), common.dtype)) for v in (x1, x2))
    divisor = cast(common, x.dtype)
    found = FUNCTIONS["floor_divide"](x, divisor) * y  # x // 0 is 0
    return cast(found, common.dtype)


def _size(x: Node) -> Node:
    """|x| of integers as unsigned ones, which hold that of the smallest, too."""
    unsigned = x.dtype if x.dtype.kind == "u" else np.dtype(f"u{x.dtype}")
    return cast(_absolute(x), unsigned)


# -- real numbers beside complex ones ---------------------------------------------------------------------------------


@function("angle", singular="0 everywhere, also at the jump")
def angle(z: ArrayLike, deg: Any = False) -> Array:
    """0 for a real number that is not negative, π (or 180) for one that is, by its sign."""
    found = FUNCTIONS["arctan2"](0, FUNCTIONS["stop_gradient"](as_node(z)))
    return found * (180 / math.pi) if deg else found


@function("imag")
def imag(val: ArrayLike) -> Array:
    """Zeros: there are no complex arrays."""
    return zeros_like(as_node(val))


@function("isreal")
def isreal(x: ArrayLike) -> Array:
    """True: there are no complex arrays."""
    return broadcast_to(as_node(np.True_), as_node(x).shape)


@function("iscomplex")
def iscomplex(x: ArrayLike) -> Array:
    """False: there are no complex arrays."""
    return broadcast_to(as_node(np.False_), as_node(x).shape)


@function("real_if_close")
def real_if_close(a: ArrayLike, tol: Any = 100) -> Array:
    """``a`` itself: there are no complex arrays."""
    return as_node(a)


@function("common_type")
def common_type(*arrays: ArrayLike) -> type:
    """The floating type that holds all arrays: integers count as float64, as in NumPy."""
    dtypes = [as_node(a).dtype for a in arrays]
    for node, dtype in zip(map(as_node, arrays), dtypes, strict=True):
        if dtype.kind == "b":
            raise DTypeError(f"{here()}: common_type: {describe(node)} is no number; convert with .astype")
    if BFLOAT16 in dtypes:
        widest = max((d for d in dtypes if d != BFLOAT16), key=lambda d: d.itemsize, default=BFLOAT16)
        return BFLOAT16.type if widest == BFLOAT16 else np.common_type(np.empty(0, widest), np.empty(0, np.float32))
    return np.common_type(*[np.empty(0, d) for d in dtypes])


@function("min_scalar_type")
def min_scalar_type(a: ArrayLike) -> np.dtype[Any]:
    """The dtype of an array; of one number the smallest dtype that holds it, so its value must be known."""
    if isinstance(a, Node) and not a.shape:
        raise TraceError(
            f"{here()}: min_scalar_type: the dtype would depend on the value of {describe(a)}.\n"
            "  Its own dtype is x.dtype; a shape or a dtype must be known while tracing."
        )
    return a.dtype if isinstance(a, Node) else np.min_scalar_type(a)


@function("array_equiv")
def array_equiv(a1: ArrayLike, a2: ArrayLike) -> Array:
    """Whether the shapes broadcast and all elements are then equal."""
    x, y = as_node(a1), as_node(a2)
    try:
        np.broadcast_shapes(x.shape, y.shape)
    except ValueError:
        return constant(np.False_)
    return FUNCTIONS["all"](x == y)


# -- sin πx/πx --------------------------------------------------------------------------------------------------------


@function("sinc")
def sinc(x: ArrayLike) -> Array:
    """sin(πx)/(πx), 1 at 0; smooth there, with all derivatives."""
    node = as_node(x)
    return _sinc(node if node.aval.is_float else cast(node, np.float64))


@composite("sinc")
def _sinc(x: Node) -> Node:
    """Near 0 by Stumpff's series in (πx)², whose derivatives do not cancel."""
    y = x * math.pi
    near = _absolute(y) < 1.0
    series = apply(OPS["stumpff"], FUNCTIONS["square"](_where(near, y, 0)), k=1, hyperbolic=False)
    far = _where(near, 1, y)
    return _where(near, series, FUNCTIONS["sin"](far) / far)
