"""The modified Bessel function of the first kind and order 0, as NumPy has it for Kaiser's window.

Enters: arrays.  Leaves: elementwise nodes.  Invariant: at most 4 units in the last place from the exact value, over all
arguments; derivatives are those of the two series, which are smooth where they are used.
"""

from __future__ import annotations

import math

import numpy as np

from gradc.node import FUNCTIONS, Node, as_node
from gradc.numpy.public import Array, ArrayLike, composite, function
from gradc.ops.elementwise import cast

__all__ = ["i0"]

#: up to here the series in x²/4, Σ (x²/4)ᵏ/(k!)², whose terms are all positive; it ends where they vanish
_NEAR = 8.0
_SERIES = tuple(1.0 / math.factorial(k) ** 2 for k in range(25))
#: beyond, √x·e⁻ˣ·I₀(x) as a polynomial in 16/x − 1: Chebyshev's interpolation in 60 digits, written in powers
_BEYOND = (
    0.40217650944500816, 0.0033605519836677504, 0.00013621607437904054, 1.1143033800708978e-05,
    1.48384809739718e-06, 2.973596046562712e-07, 8.871360038754707e-08, 3.932889375114634e-08,
    2.1620199017859248e-08, 7.534355843803342e-09, -7.1010934904762744e-09, -1.3326094405766387e-08,
    -4.305727426988361e-09, 7.3359687108161536e-09, 5.191958083669399e-09, -3.1346276429240787e-09,
    -2.9337366286377844e-09, 1.1050558794424347e-09, 9.735776625085242e-10, -2.8033819978869995e-10,
    -1.4824893214970786e-10, 3.629355229718733e-11,
)  # fmt: skip


@function("i0")
def i0(x: ArrayLike) -> Array:
    """The modified Bessel function of the first kind and order 0."""
    node = as_node(x)
    return _i0(node if node.aval.is_float else cast(node, np.float64))


@composite("i0")
def _i0(x: Node) -> Node:
    where, size = FUNCTIONS["where"], FUNCTIONS["absolute"](x)
    near = size <= _NEAR
    quarter = FUNCTIONS["square"](where(near, x, 0) / 2)
    far = where(near, _NEAR, size)
    half = FUNCTIONS["exp"](far / 2)  # twice, so that it overflows no earlier than the result
    beyond = half * (_polynomial(16 / far - 1, _BEYOND) / FUNCTIONS["sqrt"](far) * half)
    return where(near, _polynomial(quarter, _SERIES), beyond)


def _polynomial(x: Node, coefficients: tuple[float, ...]) -> Node:
    """By Horner's rule, the lowest power first."""
    *rest, value = coefficients
    found: Node | float = value
    for c in reversed(rest):
        found = found * x + c
    return as_node(found)
