"""Ops on how numbers are written: signs, exponents, scaling by powers of two, exact remainders, counted bits.

Values are NumPy's bit for bit, on every target.  What NumPy's functions with two results give (`frexp`, `modf`) is
composed of these in `gradc.numpy.formats`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gradc.aval import Aval
from gradc.node import Node, dsl
from gradc.ops import elementwise as kind
from gradc.ops.arithmetic import CHEAP, LIGHT, PREDICATE, step
from gradc.ops.consistent import must_be_float
from gradc.ops.elementwise import elementwise
from gradc.ops.ranges import INF, TRUTH, Hazard, Range, Zeros, bounded
from gradc.ops.record import Kind, Op, Sample, register

Array = np.ndarray[Any, Any]


# -- signs -------------------------------------------------------------------------------------------------------------
elementwise("signbit", lower=lambda b, x: b.signbit(x), range=lambda y, x: TRUTH, **CHEAP, **PREDICATE)


def _sign_of(y: Node) -> Node:
    """±1, by the sign of ``y``, zeros too."""
    sign: Node = dsl.copysign(np.ones((), y.dtype), y)
    return sign


elementwise(
    "copysign",
    sympy=lambda S, x, y: S.Piecewise((x, x > 0), (-x, x < 0), (0, True)) * S.Piecewise((-1, y < 0), (1, True)),
    partials=lambda z, x, y: (np.sign(x) * _sign_of(y), None),
    lower=lambda b, x, y: b.copysign(x, y),
    **LIGHT,
    side=lambda value, x, y: np.sign(x) * np.copysign(1, y),
    range=lambda z, x, y: bounded(-x.size().hi, x.size().hi, x.hazard, x.zeros),
    exact=True,
    special={(0.0, 1.0): (0.0, 0.0), (INF, 1.0): (1.0, 0.0), (-INF, 1.0): (-1.0, 0.0), (1.0, INF): (1.0, 0.0)},
    singular="0 in x at x = 0; 0 in y everywhere, also at the jump",
    doc="|x| with the sign of y, be it of a zero.",
)


# -- exponents ---------------------------------------------------------------------------------------------------------
def _exponent_infer(x: Aval) -> Aval:
    must_be_float(x)
    return Aval(x.shape, np.dtype(np.int32))


def _exponent(x: Array) -> Array:
    return np.where(np.isfinite(x), np.frexp(x)[1], np.int32(0)).astype(np.int32)


register(
    Op(
        name="exponent",
        kind=Kind.ELEMENTWISE,
        infer=_exponent_infer,
        numpy=_exponent,
        partials=lambda y, x: (None,),
        batch=kind.batch,
        lower=lambda b, x: b.binary_exponent(x),
        range=lambda y, x: Range(-1100.0, 1100.0, Hazard.NONE),
        cost=4.0,
        doc="The integer e with x = m·2ᵉ, ½ ≤ |m| < 1; 0 for zeros, infinities and NaN.",
    )
)


elementwise(
    "ldexp",
    partials=lambda y, x, n: (np.ldexp(np.ones((), x.dtype), n), None),
    transpose=lambda ct, node, i: np.ldexp(ct, node.args[1]),
    sympy=lambda S, x, n: x * S.Float(2) ** n,
    lower=lambda b, x, n: b.ldexp(x, n),
    linear=(0,),
    cost=8.0,
    ulp=0.5,
    samples=(Sample(((), ()), dtypes=("float", "index:8")),),
    doc="x·2ⁿ, rounded once where the result is subnormal.",
)

# -- remainders of integers and of floats ------------------------------------------------------------------------------
elementwise(
    "fmod",
    sympy=lambda S, x, y: x - y * step(S, "trunc")(x / y),
    partials=lambda z, x, y: (1, np.rint((z - x) / y)),  # x less the remainder is a multiple of y, up to rounding
    cost=8.0,
    ulp=0.5,
    side=lambda value, x, y: np.trunc(x / y),
    range=lambda z, x, y: bounded(min(x.lo, 0.0), max(x.hi, 0.0), max(x.hazard, y.hazard)).defined(
        y.zeros is Zeros.NEVER, Hazard.NAN
    ),
    domain=((-3.0, 3.0), (0.5, 3.0)),
    special={(4.0, 2.0): (1.0, -2.0)},
    singular="at a jump: the derivative of the branch away from 0",
    doc="x less the multiple of y that leaves the sign of x and less than |y|, as in C.",
)
elementwise("gcd", lower=lambda b, x, y: b.gcd(x, y), cost=200.0, samples=(Sample(((), ()), dtypes=("index:8",) * 2),),
            **PREDICATE)  # fmt: skip
elementwise("bitwise_count", lower=lambda b, x: b.bitwise_count(x), **CHEAP, **PREDICATE)
