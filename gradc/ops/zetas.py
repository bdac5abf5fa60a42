"""Hurwitz' and Riemann's zeta functions, and derivatives of the first in its exponent.

Enters and leaves: as for all elementwise ops; computed in float64, as `gradc.ops.written` describes.
Invariant: powers are taken in two parts, so that a rounded base does not count as often as the exponent says.
Start reading at `series`.

References: Abramowitz & Stegun, Handbook of Mathematical Functions, 23.1.30 (Euler-Maclaurin), 23.2.6 (reflection);
the polynomial is a Chebyshev fit of ζ(s) − 1/(s − 1), its coefficients made and held by tests/test_gammas.py.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gradc.node import OPS, Label, Node
from gradc.ops.elementwise import apply, elementwise
from gradc.ops.gammas import gamma_of_positive, is_odd, is_whole, scaled, sine_of_pi, where
from gradc.ops.ranges import Hazard, Range
from gradc.ops.record import Sample
from gradc.ops.two_parts import Pair, add, constant, div, exp, log, mul, negative, single, times, value
from gradc.ops.written import Mask, Number, evaluated, polynomial, sum_of

INF, NAN = math.inf, math.nan
#: how many terms are added one by one; how many Bernoulli numbers B₂ₖ/(2k)! correct the integral behind them
HEAD = 10
BERNOULLI = tuple(
    b / math.factorial(2 * k)
    for k, b in enumerate(
        (
            1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510, 43867 / 798, -174611 / 330,
            854513 / 138, -236364091 / 2730,
        ),
        1,
    )
)  # fmt: skip
#: log 2π in two parts
LOG_TAU = (1.8378770664093456, -7.756588316134483e-17)
#: ζ(s) − 1/(s − 1) in s − ¼ for −½ <= s <= 1; error 2⁻⁶⁵
ZETA_MIDDLE = (
    4.5085314736796456e-14, 1.259203970350297e-13, -9.246912622843029e-12, 1.2393876226695896e-10,
    -5.69071067429102e-10, -7.417686621917397e-09, 1.5530524454539746e-07, -1.0172336546631536e-06,
    -3.6767637730207014e-06, 0.00011714508552933676, -0.000666090925864139, -0.0037222372122288844,
    0.07933262738814374, 0.5200549280714417,
)  # fmt: skip


def _power(m: Any, base: Pair, s: Number) -> Number:
    """base⁻ˢ."""
    p, k = exp(m, times(m, log(m, base), -s))
    return scaled(m, p, k)


def series(m: Any, s: Number, q: Number, n: int) -> Number:
    """∂ⁿ/∂sⁿ of Σ (q + k)⁻ˢ for q > 0, by the formula of Euler and Maclaurin from q + `HEAD` on."""

    def term(k: Number, total: Number, s: Number, q: Number, everywhere: Mask) -> list[Number]:
        base = sum_of(q, HEAD - k)
        power = _power(m, base, s)
        for _ in range(n):
            power = -power * m.log(base[0])
        return [total + power]

    everywhere = q == q
    w = sum_of(q, m.constant(float(HEAD), q))
    size = _power(m, w, s)
    rest = size * _behind(m, s, w[0], n)
    rest = m.where(size == 0.0, 0.0, rest)
    return m.iterate(HEAD, [rest], term, lambda total, *given: given[-1], everywhere, [s, q, everywhere])[0]


def _behind(m: Any, s: Number, w: Number, n: int) -> Number:
    """∂ⁿ/∂sⁿ of w¹⁻ˢ/(s − 1) + w⁻ˢ/2 + Σ B₂ₖ/(2k)!·s·(s + 1)⋯(s + 2k − 2)·w¹⁻ˢ⁻²ᵏ, over w⁻ˢ: of the factors the
    Taylor coefficients in s up to the n-th, of w⁻ˢ those of an exponential."""
    zero = s * 0.0
    inverse = 1.0 / w
    over = 1.0 / (s - 1.0)
    reciprocal, power = [], over
    for _ in range(n + 1):
        reciprocal.append(w * power)
        power = -power * over
    half = [zero + 0.5, *[zero] * n]
    rising = [s, *([zero + 1.0, *[zero] * n][:n])]
    scale = inverse
    corrections = [zero] * (n + 1)
    for k, b in enumerate(BERNOULLI):
        if k:
            for shift in (2.0 * k - 1.0, 2.0 * k):
                rising = [
                    (s + shift) * rising[j] + (rising[j - 1] if j else zero) for j in range(n + 1)
                ]  # fmt: skip
            scale = scale * (inverse * inverse)
        corrections = [c + (b * scale) * r for c, r in zip(corrections, rising, strict=True)]
    factors = [a + (c + h) for a, c, h in zip(reciprocal, corrections, half, strict=True)]
    logarithm = m.log(w)
    total, exponential = zero, zero + 1.0
    for j in range(n + 1):
        total = total + factors[n - j] * exponential
        exponential = exponential * logarithm * (-1.0 / (j + 1))
    return total * float(math.factorial(n))


def _hurwitz(m: Any, s: Number, q: Number, n: int = 0) -> Number:
    """Σ (q + k)⁻ˢ for s > 1; for q < 0 and whole s the negative terms are a sum of their own."""
    inside = (s > 1.0) & (s < INF) & (m.abs(q) < INF)
    exponent, place = m.where(inside, s, 2.0), m.where(inside, q, 1.0)
    left = place < 0.0
    whole = is_whole(m, place)
    first = m.floor(place)
    above = m.where(left, m.where(whole, 1.0, place - first), place)
    found = series(m, exponent, m.where(above == 0.0, 1.0, above), n)

    def below(found: Number, exponent: Number, place: Number, first: Number, left: Mask, whole: Mask) -> Number:
        near_zero = m.where(left & ~whole, 1.0 - (place - first), 1.0)
        lower = series(m, exponent, near_zero, n) - series(m, exponent, m.where(left, 1.0 - place, 1.0), n)
        return found + m.where(is_odd(m, exponent), -lower, lower)

    found = m.choose(left & ~whole, below, found, [found, exponent, place, first, left, whole])
    found = m.where(left & ~is_whole(m, exponent), NAN, found)
    found = m.where((place <= 0.0) & whole, INF, found)
    far = m.where((s > 1.0) & (q == INF), 0.0, m.where(s == 1.0, INF, m.constant(NAN, s)))
    one = m.where(q > 1.0, 0.0, m.where(q == 1.0, 1.0 if n == 0 else 0.0, m.where(q <= 0.0, NAN, m.constant(INF, s))))
    far = m.where((s == INF) & (q == q), one, far)
    found = m.where(inside, found, far)
    return m.where((s != s) | (q != q), NAN, found)


def _zetac(m: Any, s: Number) -> Number:
    """Σ k⁻ˢ from k = 2; a polynomial for −½ <= s <= 1, by reflection below."""
    right = (s > 1.0) & (s < INF)
    found = series(m, m.where(right, s, 2.0), m.constant(2.0, s), 0)
    middle = (s >= -0.5) & (s <= 1.0)
    between = add(_between(m, m.where(middle, s, 0.5)), constant(m, (-1.0, 0.0), s))
    found = m.where(middle, value(m, between), found)

    def mirrored(s: Number) -> Number:
        return _reflected(m, m.where((s < -0.5) & (s > -INF), s, -1.0)) - 1.0

    found = m.choose(s < -0.5, mirrored, found, [s])
    found = m.where(s == 1.0, INF, m.where(s == INF, 0.0, found))
    return m.where((s == s) & (s > -INF), found, NAN)


def _between(m: Any, s: Number) -> Pair:
    """ζ(s) for −½ <= s < 1."""
    one = constant(m, (1.0, 0.0), s)
    place = s - 0.25
    smooth = sum_of(m.constant(ZETA_MIDDLE[-1], s), place * polynomial(place, ZETA_MIDDLE[:-1]))
    return add(div(m, one, sum_of(s, m.constant(-1.0, s))), smooth)


def _reflected(m: Any, given: Number) -> Number:
    """ζ(s) = 2·(2π)⁻ᵗ·sin(πs/2)·Γ(t)·ζ(t) with t = 1 − s, for s < −½; of even numbers 0, else infinite below −10⁶."""
    far = given < -1e6
    half = given * 0.5
    s = m.where(far, -1.0, given)
    found = _mirrored(m, s)
    signed = m.where(is_odd(m, m.floor(half)), -INF, m.constant(INF, s))
    return m.where(far, m.where(is_whole(m, half), 0.0, signed), found)


def _mirrored(m: Any, s: Number) -> Number:
    t = sum_of(m.constant(1.0, s), -s)
    power, k = exp(m, negative(mul(m, t, constant(m, LOG_TAU, s))))
    p, j = gamma_of_positive(m, t)
    far = 1.0 + series(m, t[0], m.constant(2.0, s), 0)
    found = mul(m, mul(m, power, p), sine_of_pi(m, single(m, s * 0.5)))
    return scaled(m, times(m, found, 2.0 * far), k + j)


def _zeta(m: Any, s: Number) -> Number:
    middle = (s >= -0.5) & (s < 1.0)
    found = 1.0 + _zetac(m, m.where(s < 1.0, 2.0, s))
    found = m.where(middle, value(m, _between(m, m.where(middle, s, 0.5))), found)
    low = (s < -0.5) & (s > -INF)
    found = m.where(s == -INF, NAN, found)
    return m.choose(low, lambda s, low: _reflected(m, m.where(low, s, -1.0)), found, [s, low])


def _of_exponent(y: Node, s: Range, q: Range) -> Range:
    return Range(hazard=max(Hazard.GROWTH, s.hazard, q.hazard)).defined(s.lo > 1 and q.lo > 0)


def _of_zeta(y: Node, s: Range) -> Range:
    return Range(hazard=max(Hazard.GROWTH, s.hazard)).defined(s.lo > 1)


def _zeta_slopes(y: Node, s: Node, q: Node, n: int) -> tuple[Node, Node]:
    """∂/∂s is the next one; ∂/∂q of the sum is −s times it for s + 1, which the product rule differentiates in s."""
    by_place = -s * _derivative(s + 1, q, n)
    if n:
        by_place = by_place - n * _derivative(s + 1, q, n - 1)
    return _derivative(s, q, n + 1), by_place


def _derivative(s: Node, q: Node, n: int) -> Node:
    return apply(zeta_derivative, s, q, n=n) if n else apply(hurwitz_zeta, s, q)


hurwitz_zeta = elementwise(
    "hurwitz_zeta",
    lambda s, q: evaluated(_hurwitz, s, q),
    like=np.logaddexp,
    sympy=lambda S, s, q: S.zeta(s, q),
    partials=lambda y, s, q: _zeta_slopes(y, s, q, 0),
    lower=lambda m, s, q: m.called(_hurwitz, s, q),
    cost=2500.0,
    ulp=(0.51, 2.5),
    title="ζ",
    range=_of_exponent,
    domain=((1.5, 6.0), (0.3, 5.0)),
    public=False,
    doc="ζ(s, q) = Σ (q + k)⁻ˢ over k >= 0, Hurwitz' zeta function for s > 1.",
)
zeta_derivative = elementwise(
    "zeta_derivative",
    lambda s, q, n: evaluated(_hurwitz, s, q, n=n),
    like=np.logaddexp,
    sympy=None,
    partials=_zeta_slopes,
    lower=lambda m, s, q, n: m.called(_hurwitz, s, q, n=n),
    samples=(Sample(((),), {"n": 1}),),
    cost=3500.0,
    ulp=(0.51, 8.0),
    scale=lambda s, q, n: _size(s, q, n),
    range=_of_exponent,
    domain=((1.5, 6.0), (0.3, 5.0)),
    public=False,
    doc="∂ⁿζ(s, q)/∂sⁿ = (−1)ⁿ·Σ logⁿ(q + k)·(q + k)⁻ˢ, n >= 1.",
)


def _size(s: Any, q: Any, n: int) -> Any:
    """Of the terms, which have both signs for q < 1: without the signs the sum is twice the first one larger."""
    with np.errstate(all="ignore"):
        first = np.abs(np.log(q)) ** n * np.abs(q) ** -np.asarray(s, np.float64)
    return np.where(np.isfinite(first), 2 * first, 0.0)


def _slope_below(s: Node) -> Node:
    """ζ′(s) for s <= 0: the derivative of (2π)⁻ᵗ·2 sin(πs/2)·Γ(t)·ζ(t) with t = 1 − s > 1, taken at −1 elsewhere."""
    t = 1 - s
    turn = (math.pi / 2) * s
    size = 2 * apply(OPS["exp"], -t * math.log(2 * math.pi)) * apply(OPS["gamma"], t)
    value, slope = apply(hurwitz_zeta, t, 1), apply(zeta_derivative, t, 1, n=1)
    sine, cosine = apply(OPS["sin"], turn), apply(OPS["cos"], turn)
    bent = math.log(2 * math.pi) - apply(OPS["digamma"], t)
    return size * (value * (bent * sine + (math.pi / 2) * cosine) - sine * slope)


def _riemann_slope(s: Node) -> tuple[Node]:
    """ζ′(s) by the series for s > 1, by reflection for s < −1/4, else of ζ(s) = 1/(s − 1) + the polynomial."""
    right, left = s > 1, s < -0.25
    series_of = apply(zeta_derivative, where(right, s, 2.0), 1, n=1)
    mirrored = _slope_below(where(left, s, -1.0))
    inside = where(right | left, 0.5, s)
    slopes = [c * (len(ZETA_MIDDLE) - 1 - j) for j, c in enumerate(ZETA_MIDDLE[:-1])]
    bent = slopes[0] * (inside - 0.25) + slopes[1]
    for c in slopes[2:]:
        bent = bent * (inside - 0.25) + c
    middle = bent - 1 / np.square(inside - 1)
    slope = where(right, series_of, where(left, mirrored, middle))
    slope.label = Label("zeta_derivative", (s,), {"n": 1})
    return (slope,)


zetac = elementwise(
    "zetac",
    lambda s: evaluated(_zetac, s),
    sympy=lambda S, s: S.zeta(s) - 1,
    partials=lambda y, s: _riemann_slope(s),
    lower=lambda m, s: m.called(_zetac, s),
    cost=4000.0,
    ulp=(0.51, 3.0),
    scale=lambda s: np.where(np.asarray(s) < 0, 1.0, 0.0),
    range=_of_zeta,
    domain=((1.5, 6.0),),
    public="special.zetac",
    doc="ζ(s) − 1, accurate also where ζ(s) is near 1.",
)
riemann_zeta = elementwise(
    "riemann_zeta",
    lambda s: evaluated(_zeta, s),
    sympy=lambda S, s: S.zeta(s),
    partials=lambda y, s: _riemann_slope(s),
    lower=lambda m, s: m.called(_zeta, s),
    cost=4000.0,
    ulp=(0.51, 3.0),
    title="ζ",
    range=_of_zeta,
    domain=((1.5, 6.0),),
    public=False,
    doc="ζ(s), Riemann's zeta function of a real number.",
)
