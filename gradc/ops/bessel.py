"""Bessel functions J, Y, I and K of static real order, I and K also scaled.

Enters and leaves: as for all elementwise ops; computed in float64, as `gradc.ops.written` describes.
Invariant: up to `bessel_end` a function is a power of x times a fitted one, with a logarithm taken out near 0 where it
has one; beyond, its asymptotic form with fitted factors.  Errors of J and Y count in units of their envelope beside the
value, for they have zeros; those of I and K are relative.  The families are closed under differentiation.
Start reading at `_bessel_j`.

References: Abramowitz & Stegun, Handbook of Mathematical Functions, 9.1, 9.2, 9.6, 9.7; 10.1 for half orders.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gradc.node import OPS, Node
from gradc.ops.curves import K_START, Y_START, bessel_end, bessel_scale
from gradc.ops.elementwise import apply, elementwise
from gradc.ops.fits import on, table
from gradc.ops.ranges import INF, Hazard, Range, bounded
from gradc.ops.record import Sample
from gradc.ops.written import Number, evaluated, grown

POSITIVE = ((0.3, 9.0),)
#: of orders beyond, powers of x leave the range of numbers
LARGEST_ORDER = 64.0


def _whole(order: float) -> bool:
    return order == int(order)


def _power(m: Any, x: Number, order: float) -> Number:
    """(cx)^order, by products where the order is small and whole."""
    scaled = x * bessel_scale(order)
    if not _whole(order) or abs(order) > 3:
        return m.power(scaled, order)
    value = m.constant(1.0, x)
    for _ in range(int(abs(order))):
        value = value * scaled
    return 1.0 / value if order < 0 else value


# -- J and Y -----------------------------------------------------------------------------------------------------------


def _waves(m: Any, x: Number, order: float) -> tuple[Number, Number]:
    """J and Y beyond `bessel_end`: √(2/πx) times P·cos χ − Q·sin χ and P·sin χ + Q·cos χ (A&S 9.2.5, 9.2.6)."""
    size = abs(order)
    inverse = 1.0 / x
    v = inverse * bessel_end(order)
    p = on(m, v * v, table("bessel_p", size))
    q = on(m, v * v, table("bessel_q", size)) * inverse
    reach = m.where(x < INF, x, math.nan)
    root = m.sqrt(inverse * (2 / math.pi))
    # χ = x − φ: of cos and sin of φ, both exact numbers or ±√½ for whole and half orders.
    cosine, sine = _turned(order / 2 + 0.25)
    cos, sin = m.cos(reach), m.sin(reach)
    cos_chi, sin_chi = cos * cosine + sin * sine, sin * cosine - cos * sine
    return root * (p * cos_chi - q * sin_chi), root * (p * sin_chi + q * cos_chi)


def _turned(halves: float) -> tuple[float, float]:
    """cos and sin of halves·π."""
    turn = math.fmod(halves, 2.0)
    near = math.remainder(turn, 0.5)
    quarter = round((turn - near) / 0.5) % 4
    cosine, sine = math.cos(math.pi * near), math.sin(math.pi * near)
    return [(cosine, sine), (-sine, cosine), (-cosine, -sine), (sine, -cosine)][quarter]


def _bessel_j(m: Any, x: Number, order: float) -> Number:
    """Of a negative number for whole orders only."""
    size = m.abs(x)
    near = _power(m, size, order) * on(m, size, table("bessel_j", order))
    value = m.where(size < bessel_end(order), near, _waves(m, size, order)[0])
    return _reflected(m, x, value, order)


def _reflected(m: Any, x: Number, value: Number, order: float) -> Number:
    """The value at |x|, as it is at x."""
    if not _whole(order):
        return m.where(x >= 0.0, value, math.nan)
    return m.where(m.copysign(1.0, x) < 0.0, -value, value) if int(order) % 2 else value


def _bessel_y(m: Any, x: Number, order: float) -> Number:
    """For order >= 0."""
    power = _power(m, x, order)
    middle = on(m, x, table("bessel_y", order)) / power
    first = power * on(m, x, table("bessel_j", order))
    if _whole(order):
        near = on(m, x, table("bessel_ynear", order)) / power + m.log(x) * (2 / math.pi) * first
    else:
        cosine, sine = _turned(order)
        near = (cosine * first - on(m, x, table("bessel_j", -order)) / power) * (1 / sine)
    value = m.where(x < Y_START, near, m.where(x < bessel_end(order), middle, _waves(m, x, order)[1]))
    return m.where(x > 0.0, value, m.where(x == 0.0, -INF, math.nan))


# -- I and K -----------------------------------------------------------------------------------------------------------


def _bessel_i(m: Any, x: Number, order: float, scaled: bool) -> Number:
    size = m.abs(x)
    inverse = 1.0 / size
    near = _power(m, size, order) * on(m, size, table("bessel_i", order))
    far = on(m, inverse * bessel_end(order), table("bessel_ifar", order)) * m.sqrt(inverse)
    if scaled:
        near = near * m.exp(-size)
    else:
        far = m.where(size < INF, grown(m, size, far), size)
    return _reflected(m, x, m.where(size < bessel_end(order), near, far), order)


def _bessel_k(m: Any, x: Number, order: float, scaled: bool) -> Number:
    """For order >= 0."""
    inverse, power = 1.0 / x, _power(m, x, order)
    middle = on(m, x, table("bessel_k", order)) / power
    far = on(m, inverse * bessel_end(order), table("bessel_kfar", order)) * m.sqrt(inverse)
    falling = m.where(x < bessel_end(order), middle, far)
    first = power * on(m, x, table("bessel_i", order))
    if _whole(order):
        sign = 1.0 if int(order) % 2 else -1.0
        near = on(m, x, table("bessel_knear", order)) / power + m.log(x) * sign * first
    else:
        near = (on(m, x, table("bessel_i", -order)) / power - first) * (math.pi / 2 / _turned(order)[1])
    if scaled:
        near = near * m.exp(x)
    else:
        falling = falling * m.exp(-x)
    value = m.where(x < K_START, near, falling)
    return m.where(x > 0.0, value, m.where(x == 0.0, INF, math.nan))


# -- nodes -------------------------------------------------------------------------------------------------------------


def bessel_j(order: float, x: Node) -> Any:
    """J of any real order; J₋ₙ = (−1)ⁿ·Jₙ."""
    if order < 0 and _whole(order):
        value = bessel_j(-order, x)
        return -value if int(order) % 2 else value
    return apply(OPS["bessel_j"], x, order=float(order))


def bessel_y(order: float, x: Node) -> Any:
    """Y of any real order; Y₋ᵥ = sin νπ·Jᵥ + cos νπ·Yᵥ (A&S 9.1.2)."""
    if order >= 0:
        return apply(OPS["bessel_y"], x, order=float(order))
    cosine, sine = _turned(-order)
    parts = [c * f(-order, x) for c, f in ((cosine, bessel_y), (sine, bessel_j)) if c]
    return parts[0] if len(parts) == 1 else parts[0] + parts[1]


def bessel_i(order: float, x: Node, scaled: bool = False) -> Any:
    """I of any real order, times e^−|x| if ``scaled``; I₋ₙ = Iₙ."""
    order = -order if order < 0 and _whole(order) else order
    return apply(OPS["bessel_i"], x, order=float(order), scaled=scaled)


def bessel_k(order: float, x: Node, scaled: bool = False) -> Any:
    """K of any real order, times eˣ if ``scaled``; K₋ᵥ = Kᵥ."""
    return apply(OPS["bessel_k"], x, order=float(abs(order)), scaled=scaled)


def _mean_slope(f: Callable[..., Any], x: Node, order: float, sign: float, **attrs: Any) -> Any:
    """(f of the order below + sign·f of the order above)/2."""
    below, above = f(order - 1, x, **attrs), f(order + 1, x, **attrs)
    return (below + above if sign > 0 else below - above) * 0.5


def _j_slope(y: Node, x: Node, order: float) -> tuple[Any]:
    return (-bessel_j(1, x) if order == 0 else _mean_slope(bessel_j, x, order, -1.0),)


def _y_slope(y: Node, x: Node, order: float) -> tuple[Any]:
    return (-bessel_y(1, x) if order == 0 else _mean_slope(bessel_y, x, order, -1.0),)


def _i_slope(y: Node, x: Node, order: float, scaled: bool) -> tuple[Any]:
    slope = bessel_i(1, x, scaled) if order == 0 else _mean_slope(bessel_i, x, order, 1.0, scaled=scaled)
    return (slope - np.sign(x) * y if scaled else slope,)


def _k_slope(y: Node, x: Node, order: float, scaled: bool) -> tuple[Any]:
    slope = bessel_k(1, x, scaled) if order == 0 else _mean_slope(bessel_k, x, order, 1.0, scaled=scaled)
    return (y - slope if scaled else -slope,)


# -- records -----------------------------------------------------------------------------------------------------------


def _envelope(x: Any, order: float) -> Any:
    """The size of J's waves, and of Y's where it has zeros."""
    size = np.abs(x)
    return np.where(size < max(abs(order), 0.5), 0.0, np.sqrt(2 / math.pi / np.maximum(size, 1.0)))


def _of_order(y: Node) -> Any:
    return y.attrs["order"]


def _j_range(y: Node, x: Range) -> Range:
    if _of_order(y) >= 0:
        return bounded(-1.0, 1.0, min(x.hazard, Hazard.NAN)).defined(_whole(_of_order(y)) or x.lo >= 0, Hazard.NAN)
    return Range(hazard=max(x.hazard, Hazard.GROWTH)).defined(x.lo > 0)


def _i_range(y: Node, x: Range) -> Range:
    if y.attrs["scaled"] and _whole(_of_order(y)):
        return x.within(-1.0 if int(_of_order(y)) % 2 else 0.0, 1.0)
    return Range(hazard=max(x.hazard, Hazard.GROWTH)).defined(_whole(_of_order(y)) or x.lo > 0)


def _second_range(y: Node, x: Range) -> Range:
    return Range(hazard=max(x.hazard, Hazard.GROWTH)).defined(x.lo > 0)


def _scaled_by(S: Any, value: Any, exponent: Any, scaled: bool) -> Any:
    return S.exp(exponent) * value if scaled else value


def _sympy_order(S: Any, order: float) -> Any:
    return S.nsimplify(order) if _whole(2 * order) else S.Float(order)


elementwise(
    "bessel_j",
    lambda x, order: evaluated(_bessel_j, x, order=order),
    sympy=lambda S, x, order: S.besselj(_sympy_order(S, order), x),
    partials=_j_slope,
    lower=lambda b, x, order: b.written(_bessel_j, x, order=order),
    samples=(Sample(((),), {"order": 0.0}),),
    cost=100.0,
    ulp=4.0,
    scale=_envelope,
    range=_j_range,
    domain=((-9.0, 20.0),),
    title="J{order:below}",
    public=False,
    doc="Bessel's function of the first kind, J, of static real order; NaN for x < 0 unless the order is whole.",
)
elementwise(
    "bessel_y",
    lambda x, order: evaluated(_bessel_y, x, order=order),
    sympy=lambda S, x, order: S.bessely(_sympy_order(S, order), x),
    partials=_y_slope,
    lower=lambda b, x, order: b.written(_bessel_y, x, order=order),
    samples=(Sample(((),), {"order": 0.0}),),
    cost=100.0,
    ulp=4.0,
    scale=_envelope,
    range=_second_range,
    domain=POSITIVE,
    title="Y{order:below}",
    special={0.0: math.nan},  # Y₀′ is +∞ there, but no derivative beyond, by differences of infinities
    public=False,
    doc="Bessel's function of the second kind, Y, of static order >= 0; NaN for x < 0.",
)
elementwise(
    "bessel_i",
    lambda x, order, scaled: evaluated(_bessel_i, x, order=order, scaled=scaled),
    sympy=lambda S, x, order, scaled: _scaled_by(S, S.besseli(_sympy_order(S, order), x), -S.Abs(x), scaled),
    partials=_i_slope,
    lower=lambda b, x, order, scaled: b.written(_bessel_i, x, order=order, scaled=scaled),
    samples=(Sample(((),), {"order": 0.0, "scaled": False}),),
    cost=60.0,
    ulp=4.0,
    range=_i_range,
    domain=((-9.0, 20.0),),
    title="I{order:below}",
    special={INF: INF, -INF: -INF},
    public=False,
    doc="The modified Bessel function I of static real order, or e^−|x|·I; NaN for x < 0 unless the order is whole.",
)
elementwise(
    "bessel_k",
    lambda x, order, scaled: evaluated(_bessel_k, x, order=order, scaled=scaled),
    sympy=lambda S, x, order, scaled: _scaled_by(S, S.besselk(_sympy_order(S, order), x), x, scaled),
    partials=_k_slope,
    lower=lambda b, x, order, scaled: b.written(_bessel_k, x, order=order, scaled=scaled),
    samples=(Sample(((),), {"order": 0.0, "scaled": False}),),
    cost=60.0,
    ulp=4.0,
    range=_second_range,
    domain=POSITIVE,
    title="K{order:below}",
    special={0.0: -INF, INF: 0.0},
    public=False,
    doc="The modified Bessel function K of static order >= 0, or eˣ·K; NaN for x < 0.",
)
