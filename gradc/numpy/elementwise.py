"""Elementwise functions: the primitives under NumPy's and the array API's names, and what is composed of them.

Enters: arrays that broadcast together.  Leaves: elementwise nodes, bit-equal to NumPy where NumPy's result is defined
by IEEE arithmetic.  Invariant: a name here means what it means in NumPy.
"""

from __future__ import annotations

import builtins
import math
from typing import Any

import numpy as np

from gradc.aval import Aval, finfo
from gradc.node import FUNCTIONS, OPS, Node, as_node, here, static_int
from gradc.numpy.public import Array, ArrayLike, composite, exported, function, in_float32
from gradc.ops.elementwise import apply, cast, loop_dtypes

__all__ = [
    "abs", "absolute", "acos", "acosh", "add", "allclose", "arccos", "arccosh", "arcsin", "arcsinh", "arctan",
    "arctan2", "arctanh", "around", "array_equal", "asin", "asinh", "atan", "atan2", "atanh", "bitwise_and",
    "bitwise_invert", "bitwise_left_shift", "bitwise_not", "bitwise_or", "bitwise_right_shift", "bitwise_xor", "cbrt",
    "ceil", "clip", "conj", "conjugate", "cos", "cosh", "deg2rad", "degrees", "divide", "divmod", "equal", "exp",
    "exp2", "expm1", "fabs", "fix", "float_power", "floor", "floor_divide", "fmax", "fmin", "greater", "greater_equal",
    "heaviside", "hypot", "invert", "isclose", "isfinite", "isinf", "isnan", "isneginf", "isposinf", "left_shift",
    "less", "less_equal", "log", "log1p", "log2", "log10", "logaddexp", "logaddexp2", "logical_and", "logical_not",
    "logical_or", "logical_xor", "maximum", "minimum", "mod", "multiply", "nan_to_num", "negative", "not_equal",
    "positive", "pow", "power", "rad2deg", "radians", "real", "reciprocal", "remainder", "right_shift", "rint",
    "round", "sign", "sin", "sinh", "sqrt", "square", "subtract", "tan", "tanh", "true_divide", "trunc",
]  # fmt: skip

# -- primitives -------------------------------------------------------------------------------------------------------
add, subtract, multiply, divide = exported("add"), exported("subtract"), exported("multiply"), exported("divide")
floor_divide, remainder, power = exported("floor_divide"), exported("remainder"), exported("power")
negative, positive, absolute, sign = exported("negative"), exported("positive"), exported("absolute"), exported("sign")
square, reciprocal, sqrt, cbrt, hypot = map(exported, ("square", "reciprocal", "sqrt", "cbrt", "hypot"))
maximum, minimum = exported("maximum"), exported("minimum")
exp, exp2, expm1, logaddexp = exported("exp"), exported("exp2"), exported("expm1"), exported("logaddexp")
log, log2, log10, log1p = exported("log"), exported("log2"), exported("log10"), exported("log1p")
sin, cos, tan = exported("sin"), exported("cos"), exported("tan")
arcsin, arccos, arctan, arctan2 = map(exported, ("arcsin", "arccos", "arctan", "arctan2"))
sinh, cosh, tanh = exported("sinh"), exported("cosh"), exported("tanh")
arcsinh, arccosh, arctanh = exported("arcsinh"), exported("arccosh"), exported("arctanh")
equal, not_equal, less, less_equal = map(exported, ("equal", "not_equal", "less", "less_equal"))
greater, greater_equal = exported("greater"), exported("greater_equal")
isnan, isinf, isfinite = exported("isnan"), exported("isinf"), exported("isfinite")
logical_and, logical_or = exported("logical_and"), exported("logical_or")
logical_xor, logical_not = exported("logical_xor"), exported("logical_not")
bitwise_and, bitwise_or, bitwise_xor = exported("bitwise_and"), exported("bitwise_or"), exported("bitwise_xor")
bitwise_invert, bitwise_left_shift = exported("bitwise_invert"), exported("bitwise_left_shift")
bitwise_right_shift = exported("bitwise_right_shift")
floor, ceil, trunc, rint = exported("floor"), exported("ceil"), exported("trunc"), exported("rint")

# -- other names of the same (array API; the names that ufuncs give themselves) ---------------------------------------
abs, pow, mod, true_divide = absolute, power, remainder, divide
acos, asin, atan, atan2 = arccos, arcsin, arctan, arctan2
acosh, asinh, atanh = arccosh, arcsinh, arctanh
invert = bitwise_not = bitwise_invert
left_shift, right_shift = bitwise_left_shift, bitwise_right_shift

FUNCTIONS.update(
    {
        alias: FUNCTIONS[name]
        for alias, name in (
            ("abs", "absolute"), ("invert", "bitwise_invert"), ("left_shift", "bitwise_left_shift"),
            ("mod", "remainder"), ("right_shift", "bitwise_right_shift"), ("true_divide", "divide"), ("pow", "power"),
        )
    }
)  # fmt: skip


@function("fabs", singular="0 at 0")
def fabs(x: ArrayLike) -> Array:
    """|x| in a floating dtype."""
    return FUNCTIONS["absolute"](_inexact(as_node(x)))


@function("conjugate", "conj")
def conjugate(x: ArrayLike) -> Array:
    """``x`` itself, as there are no complex arrays; of bools int8, as in NumPy."""
    node = as_node(x)
    return cast(node, np.int8) if node.dtype == np.bool_ else node


@function("real")
def real(val: ArrayLike) -> Array:
    """``val`` itself: there are no complex arrays."""
    return as_node(val)


conj = conjugate


def _inexact(x: Node) -> Node:
    """``x`` in the floating dtype that NumPy's square root gives it."""
    return cast(x, loop_dtypes("sqrt", [Aval((), x.dtype)])[-1]) if not x.aval.is_float else x


# -- rounding ---------------------------------------------------------------------------------------------------------


@function("round", "around")
def round(a: ArrayLike, decimals: int = 0) -> Array:
    """Rounded to ``decimals`` places, halves to even; a negative number of places rounds left of the point."""
    x, places = as_node(a), static_int(decimals, "decimals")
    integral = x.dtype.kind in "iu"
    if integral and places >= 0:
        return x
    if places == 0:
        return apply(OPS["rint"], x)
    scale = 10.0 ** builtins.abs(places)
    y = cast(x, np.float64) if integral else x
    y = apply(OPS["rint"], y * scale) / scale if places > 0 else apply(OPS["rint"], y / scale) * scale
    return cast(y, x.dtype) if integral else y


around = round


@function("fix")
def fix(x: ArrayLike) -> Array:
    """Rounded towards zero."""
    return apply(OPS["trunc"], x)


# -- bounds -----------------------------------------------------------------------------------------------------------


@function("clip", singular="one half at a bound")
def clip(
    a: ArrayLike, a_min: ArrayLike = None, a_max: ArrayLike = None, *, min: ArrayLike = None, max: ArrayLike = None
) -> Array:
    """min(max(a, a_min), a_max); a bound that is None does not bind.  At a bound the derivative is one half."""
    low, high = a_min if min is None else min, a_max if max is None else max
    if (min is not None and a_min is not None) or (max is not None and a_max is not None):
        raise TypeError(f"{here()}: clip: a_min/a_max and min/max are two names of the same bounds; give one of each")
    x = as_node(a)
    if low is None:
        return x if high is None else apply(OPS["minimum"], x, high)
    if high is None:
        return apply(OPS["maximum"], x, low)
    return _clip(x, as_node(low), as_node(high))


@composite("clip")
def _clip(x: Node, low: Node, high: Node) -> Node:
    return apply(OPS["minimum"], apply(OPS["maximum"], x, low), high)


@function("fmax", singular="at a tie each operand gets one half")
def fmax(x1: ArrayLike, x2: ArrayLike) -> Array:
    """The larger of two numbers, the other one where one is NaN."""
    return _ignoring_nan("maximum", as_node(x1), as_node(x2))


@function("fmin", singular="at a tie each operand gets one half")
def fmin(x1: ArrayLike, x2: ArrayLike) -> Array:
    """The smaller of two numbers, the other one where one is NaN."""
    return _ignoring_nan("minimum", as_node(x1), as_node(x2))


def _ignoring_nan(name: str, x: Node, y: Node) -> Node:
    where = FUNCTIONS["where"]
    return where(isnan(x), y, where(isnan(y), x, apply(OPS[name], x, y)))


@function("nan_to_num")
def nan_to_num(
    x: ArrayLike, copy: Any = True, nan: ArrayLike = 0.0, posinf: ArrayLike = None, neginf: ArrayLike = None
) -> Array:
    """NaN and infinities replaced: by 0 and the largest finite numbers of the dtype unless others are given."""
    node, where = as_node(x), FUNCTIONS["where"]
    if not node.aval.is_float:
        return node
    limits = finfo(node.dtype)
    high = limits.max if posinf is None else posinf
    low = limits.min if neginf is None else neginf
    fitted = [cast(as_node(v), node.dtype) for v in (nan, high, low)]
    bounded = where(node == math.inf, fitted[1], where(node == -math.inf, fitted[2], node))
    return where(node != node, fitted[0], bounded)


# -- angles, logarithms, powers ---------------------------------------------------------------------------------------


@function("deg2rad", "radians")
def deg2rad(x: ArrayLike) -> Array:
    """Degrees to radians."""
    return _scaled(_inexact(as_node(x)), factor=(math.pi, 180))


@function("rad2deg", "degrees")
def rad2deg(x: ArrayLike) -> Array:
    """Radians to degrees."""
    return _scaled(_inexact(as_node(x)), factor=(180, math.pi))


@in_float32
def _scaled(x: Node, *, factor: tuple[float, float]) -> Node:
    up, down = map(x.dtype.type, factor)
    return x * (up / down)


radians, degrees = deg2rad, rad2deg


@function("logaddexp2")
def logaddexp2(x1: ArrayLike, x2: ArrayLike) -> Array:
    """log₂(2^x1 + 2^x2), without overflow."""
    return _logaddexp2(*_in_one_loop(x1, x2))


@in_float32
def _logaddexp2(x: Node, y: Node) -> Node:
    return FUNCTIONS["logaddexp"](x * math.log(2), y * math.log(2)) / math.log(2)


def _in_one_loop(x1: ArrayLike, x2: ArrayLike) -> list[Node]:
    """Both in the floating dtype that NumPy's functions of two floating numbers compute them in."""
    nodes = [as_node(x1), as_node(x2)]
    *_, dtype = loop_dtypes("logaddexp", [x.aval for x in nodes])
    return [cast(x, dtype) for x in nodes]


@function("float_power")
def float_power(x1: ArrayLike, x2: ArrayLike) -> Array:
    """x1 to the power of x2, in float64."""
    return apply(OPS["power"], cast(as_node(x1), np.float64), cast(as_node(x2), np.float64))


@function("heaviside", singular="0 in x1 everywhere, also at the jump")
def heaviside(x1: ArrayLike, x2: ArrayLike) -> Array:
    """0 for x1 < 0, x2 for x1 = 0, 1 for x1 > 0."""
    x, y = _in_one_loop(x1, x2)
    where = FUNCTIONS["where"]
    return where(x == 0, y, where(x != x, x, cast(x > 0, x.dtype)))


@function("divmod")
def divmod(x1: ArrayLike, x2: ArrayLike) -> tuple[Array, Array]:
    """Quotient rounded down, and remainder with the sign of the divisor."""
    return FUNCTIONS["floor_divide"](x1, x2), FUNCTIONS["remainder"](x1, x2)


# -- comparison -------------------------------------------------------------------------------------------------------


@function("isposinf")
def isposinf(x: ArrayLike) -> Array:
    """Whether an element is +∞."""
    return as_node(x) == math.inf


@function("isneginf")
def isneginf(x: ArrayLike) -> Array:
    """Whether an element is −∞."""
    return as_node(x) == -math.inf


@function("isclose")
def isclose(
    a: ArrayLike, b: ArrayLike, rtol: ArrayLike = 1e-5, atol: ArrayLike = 1e-8, equal_nan: Any = False
) -> Array:
    """Whether |a − b| <= atol + rtol·|b|; infinities are close to themselves."""
    x, y = as_node(a), as_node(b)
    y = y * 1.0 if y.aval.weak else _inexact(y)
    near = (FUNCTIONS["absolute"](x - y) <= atol + rtol * FUNCTIONS["absolute"](y)) & isfinite(y) | (x == y)
    return near | ((x != x) & (y != y)) if equal_nan else near


@function("allclose")
def allclose(
    a: ArrayLike, b: ArrayLike, rtol: ArrayLike = 1e-5, atol: ArrayLike = 1e-8, equal_nan: Any = False
) -> Array:
    """Whether all elements are close, by `isclose`."""
    return FUNCTIONS["all"](isclose(as_node(a), b, rtol, atol, equal_nan))


@function("array_equal")
def array_equal(a1: ArrayLike, a2: ArrayLike) -> Array:
    """Whether shapes and all elements are equal."""
    x, y = as_node(a1), as_node(a2)
    return FUNCTIONS["all"](x == y) if x.shape == y.shape else as_node(False)
