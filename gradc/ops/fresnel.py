"""Fresnel's integrals, and the waves sin(πx²/2) and cos(πx²/2) that are their derivatives.

Enters and leaves: as for all elementwise ops; computed in float64, as `gradc.ops.written` describes.
Invariant: x² is taken in two parts and reduced by whole multiples of 4 exactly, so the waves are right to their last
places for every x, near their zeros to x²·2⁻¹⁰².  Start reading at `_wave`.

Reference: Abramowitz & Stegun, Handbook of Mathematical Functions, 7.3.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gradc.node import OPS, Node
from gradc.ops.curves import FRESNEL_END
from gradc.ops.elementwise import apply, elementwise
from gradc.ops.fits import on, table
from gradc.ops.ranges import INF, Hazard, bounded
from gradc.ops.record import Sample
from gradc.ops.written import Number, evaluated

#: from here on every x² is a multiple of 4
_HUGE = 2.0**54


def _waves(m: Any, x: Number) -> tuple[Number, Number]:
    """sin(πx²/2) and cos(πx²/2) for x >= 0: by the nearest quarter turn."""
    near = m.where(x < _HUGE, x, 0.0)
    square, rest = m.product(near, near)
    turn = square - 4.0 * m.rint(square * 0.25)
    quarter = m.rint(turn)
    angle = ((turn - quarter) + rest) * (math.pi / 2)
    sine, cosine = m.sin(angle), m.cos(angle)
    odd = m.abs(quarter) == 1.0
    first, second = m.where(odd, cosine, sine), m.where(odd, sine, cosine)
    # sin of −2, −1, 0, 1, 2 quarter turns and the angle: −s, −c, s, c, −s; cos: −c, s, c, −s, −c
    half = m.abs(quarter) == 2.0
    first = m.where(half | (quarter == -1.0), -first, first)
    second = m.where(half | (quarter == 1.0), -second, second)
    return first, second


def _wave(m: Any, x: Number, quarters: int) -> Number:
    """sin(πx²/2 + quarters·π/2)."""
    sine, cosine = _waves(m, m.abs(x))
    value = cosine if quarters % 2 else sine
    value = -value if quarters % 4 >= 2 else value
    return m.where(m.abs(x) < INF, value, math.nan)


def _fresnel(m: Any, x: Number, cosine: bool) -> Number:
    """x or x³ times an even function up to `FRESNEL_END`, beyond by the auxiliary functions f and g."""
    size = m.abs(x)
    near = x * on(m, size, table("integral_fresnelc" if cosine else "integral_fresnels"))
    near = near if cosine else near * x * x
    inverse = 1.0 / size
    v = inverse * FRESNEL_END
    f = on(m, v * v, table("integral_fresnelf")) * inverse * (1 / math.pi)
    g = on(m, v * v, table("integral_fresnelg")) * inverse * inverse * inverse * (1 / math.pi**2)
    sin, cos = _waves(m, size)
    far = m.copysign(0.5 + (f * sin - g * cos) if cosine else 0.5 - (f * cos + g * sin), x)
    return m.where(size < FRESNEL_END, near, m.where(x == x, far, x))


def _wave_sympy(S: Any, x: Any, quarters: int) -> Any:
    return S.sin(S.pi * x**2 / 2 + quarters * S.pi / 2)


elementwise(
    "quadratic_wave",
    lambda x, quarters: evaluated(_wave, x, quarters=quarters),
    sympy=_wave_sympy,
    partials=lambda y, x, quarters: (math.pi * x * quadratic_wave(x, quarters + 1),),
    lower=lambda b, x, quarters: b.written(_wave, x, quarters=quarters),
    samples=(Sample(((),), {"quarters": 0}),),
    cost=40.0,
    ulp=4.0,
    scale=lambda x, quarters: np.minimum(np.square(x) * 2.0**-50, 1.0),  # what the square in two parts leaves out
    range=lambda y, x: bounded(-1.0, 1.0, min(x.hazard, Hazard.NAN)),
    public=False,
    doc="sin(πx²/2), moved by a static number of quarter turns.",
)


def quadratic_wave(x: Node, quarters: int) -> Node:
    """sin(πx²/2 + quarters·π/2)."""
    return apply(OPS["quadratic_wave"], x, quarters=quarters % 4)


def _record(name: str, cosine: bool, letter: str, doc: str) -> None:
    elementwise(
        name,
        lambda x: evaluated(_fresnel, x, cosine=cosine),
        sympy=lambda S, x: (S.fresnelc if cosine else S.fresnels)(x),
        partials=lambda y, x: (quadratic_wave(x, 1 if cosine else 0),),
        lower=lambda b, x: b.written(_fresnel, x, cosine=cosine),
        cost=100.0,
        ulp=4.0,
        range=lambda y, x: x.within(-0.8, 0.8),
        title=letter,
        public=False,
        doc=doc,
    )


_record("fresnels", False, "S", "Fresnel's integral ∫ sin(πt²/2) dt from 0 to x.")
_record("fresnelc", True, "C", "Fresnel's integral ∫ cos(πt²/2) dt from 0 to x.")
