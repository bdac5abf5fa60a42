"""Γ and what is made of a few of them: 1/Γ, beta functions, Pochhammer's symbol, binomial coefficients.

Enters and leaves: as for all elementwise ops; computed in float64, as `gradc.ops.written` describes.
Invariant: Γ is known in two parts and a power of two, so that nothing overflows on the way and the result is rounded
once or twice.  Start reading at `gamma_parts`.

References: Abramowitz & Stegun, Handbook of Mathematical Functions, 6.1 (reflection 6.1.17, Stirling's series 6.1.40),
6.2; the polynomial is a Chebyshev fit of (Γ(2 + e) − 1)/e, its coefficients made and held by tests/test_gammas.py.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gradc.node import OPS, Label, Node
from gradc.ops.elementwise import apply, elementwise
from gradc.ops.ranges import Hazard, Range
from gradc.ops.two_parts import (
    LN2,
    LOG_ROOT_TAU,
    PI,
    Pair,
    add,
    constant,
    div,
    exp,
    log,
    log1p_excess,
    mul,
    near,
    negative,
    pick,
    single,
    times,
    value,
)
from gradc.ops.written import Mask, Number, evaluated, polynomial, sum_of

INF, NAN = math.inf, math.nan
#: (Γ(2 + e) − 1)/e for |e| ≤ 1/2; error 2⁻⁶³ of the function
GAMMA_TWO = (
    -3.3362286254296347e-07, 6.672088876290777e-07, -8.964269946524431e-07, 1.792573008733643e-06,
    -3.8305893736924356e-06, 7.658736710883484e-06, -1.5231305875647868e-05, 3.044629718059869e-05,
    -6.079333874268743e-05, 0.00012167470137306104, -0.00024094140138473382, 0.0004903883819460522,
    -0.0009195738404155168, 0.0021039333438764517, -0.002852645821115082, 0.011154045718050476,
    -0.00026698206874548166, 0.07424901075351484, 0.08157691924708627, 0.4118403304264397, 0.42278433509846713,
)  # fmt: skip
#: from here on Stirling's series, with terms down to this many
HIGH, TERMS = 10.0, 9
#: B₂ₖ/(2k(2k − 1)), the highest first
STIRLING = tuple(
    b / (2 * k * (2 * k - 1))
    for k, b in reversed(
        [*enumerate((1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510, 43867 / 798), 1)]
    )
)
#: below, Γ(−y) is −Γ(y)
TINY = 2.0**-64
#: coefficients of sin z/z − 1 and cos z − 1 in z² for z ≤ π/4
_SINE = [(-1) ** n / math.factorial(2 * n + 1) for n in range(9, 0, -1)]
_COSINE = [(-1) ** n / math.factorial(2 * n) for n in range(9, 0, -1)]


def is_whole(m: Any, x: Number) -> Mask:
    """Whether x is an integer; infinities are."""
    return m.floor(x) == x


def is_odd(m: Any, whole: Number) -> Mask:
    """Whether an integer is odd."""
    half = whole * 0.5
    return m.floor(half) != half


def is_pole(m: Any, x: Pair) -> Mask:
    """Whether Γ has a pole at a number of two parts."""
    return (x[0] <= 0.0) & is_whole(m, x[0]) & is_whole(m, x[1])


# -- Γ in parts --------------------------------------------------------------------------------------------------------


def gamma_near_two(m: Any, e: Pair) -> Pair:
    """Γ(2 + e) for |e| ≤ 1/2, exact where it is a whole number."""
    q = polynomial(e[0], GAMMA_TWO)
    # (e·q)′ = q + e·q′ of the rest of e, to a few digits.
    head, rest = m.product(e[0], q)
    slope = q + e[0] * (0.41184 + 0.1632 * e[0])
    return add(constant(m, (1.0, 0.0), q), near(head, rest + e[1] * slope))


def stirling_rest(y: Number) -> Number:
    """log Γ(y) − (y − ½)·log y + y − log √2π for y >= `HIGH`."""
    inverse = 1.0 / y
    return inverse * polynomial(inverse * inverse, STIRLING)


def stirling_step(g: Number, s: Number) -> Number:
    """`stirling_rest` of g + s less that of g, by the divided difference: accurate for small s, too."""
    far, here = 1.0 / (g + s), 1.0 / g
    above, below = far * far, here * here
    value, slope = STIRLING[0] * below + STIRLING[1], far * 0.0 + STIRLING[0]
    for c in STIRLING[2:]:
        slope, value = slope * above + value, value * below + c
    # u·p(u²): here·p(here²) and far·p(far²), with p(far²) = value + (far² − here²)·slope
    apart = -s * far * here
    return apart * (value + (far * (far + here)) * slope)


def _gamma_low(m: Any, x: Pair) -> tuple[Pair, Number]:
    """Γ(x) for 0 < x < `HIGH`, in two parts and a power of two: Γ(2 + e) times or over factors."""
    n = m.rint(x[0])
    e = sum_of(x[0] - n, x[1])
    found = gamma_near_two(m, e)
    for j in range(1, int(HIGH) - 1):
        factor = mul(m, found, sum_of(x[0] - float(j), x[1]))
        found = pick(m, n >= 2.0 + j, factor, found)
    k, f = m.reduced(m.where(n < 1.0, x[0], 1.0))
    small = near(1.0 + f, m.ldexp(x[1], -k))
    divisor = pick(m, n < 1.0, mul(m, small, add(constant(m, (1.0, 0.0), n), x)), constant(m, (1.0, 0.0), n))
    divisor = pick(m, (n < 2.0) & ~(n < 1.0), x, divisor)
    return div(m, found, divisor), -k


def log_gamma_high(m: Any, x: Pair) -> Pair:
    """log Γ(x) for x >= `HIGH`, by Stirling's series."""
    logarithm = log(m, x)
    total = mul(m, add(x, constant(m, (-0.5, 0.0), x[0])), logarithm)
    total = add(total, negative(x))
    return add(total, add(constant(m, LOG_ROOT_TAU, x[0]), single(m, stirling_rest(x[0]))))


def gamma_of_positive(m: Any, x: Pair) -> tuple[Pair, Number]:
    """Γ(x) = p·2ᵏ for x > 0."""
    low = x[0] < HIGH
    usual = pick(m, low, x, constant(m, (2.0, 0.0), x[0]))
    p, k = _gamma_low(m, usual)

    def far(x: Pair, low: Mask) -> list[Number]:
        two = constant(m, (2.0 * HIGH, 0.0), x[0])
        q, exponent = exp(m, log_gamma_high(m, pick(m, low, two, x)))
        return [q[0], q[1], exponent]

    a, b, c = m.choose_all(~low, far, [p[0], p[1], k], [x, low])
    return (a, b), c


def sine_of_pi(m: Any, x: Pair) -> Pair:
    """sin πx in two parts."""
    n, whole = m.rint(x[0]), m.rint(x[1])
    turn = sum_of(x[0] - n, x[1] - whole)
    size = pick(m, turn[0] < 0.0, negative(turn), turn)
    steep = size[0] <= 0.25
    half = add(constant(m, (0.5, 0.0), n), negative(size))
    z = mul(m, pick(m, steep, size, half), constant(m, PI, n))
    square = z[0] * z[0]
    one = constant(m, (1.0, 0.0), n)
    sine = mul(m, z, add(one, single(m, square * polynomial(square, _SINE))))
    cosine = add(one, single(m, square * polynomial(square, _COSINE)))
    found = pick(m, steep, sine, cosine)
    return pick(m, is_odd(m, n) != (is_odd(m, whole) != (turn[0] < 0.0)), negative(found), found)


def gamma_parts(m: Any, x: Pair) -> tuple[Pair, Number]:
    """Γ(x) = p·2ᵏ for finite x that is no pole; below 0 by Γ(−y) = −π/(sin πy·y·Γ(y))."""
    left = x[0] < 0.0
    y = pick(m, left, negative(x), x)
    p, k = gamma_of_positive(m, y)

    def reflected(y: Pair, p: Pair, k: Number) -> list[Number]:
        tiny = y[0] < TINY
        one = constant(m, (1.0, 0.0), k)
        over = mul(m, div(m, sine_of_pi(m, y), constant(m, PI, k)), mul(m, y, p))
        # Γ(−y) is −Γ(y) where y is tiny.
        over = pick(m, tiny, div(m, one, p), over)
        q = negative(div(m, one, over))
        return [q[0], q[1], m.where(tiny, k, -k)]

    a, b, c = m.choose_all(left, reflected, [p[0], p[1], k], [y, p, k])
    return (a, b), c


def scaled(m: Any, p: Pair, k: Number) -> Number:
    """p·2ᵏ."""
    return m.ldexp(value(m, p), k)


def _gamma(m: Any, x: Number) -> Number:
    p, k = gamma_parts(m, single(m, m.where(m.abs(x) < 1e6, x, 1.5)))
    found = scaled(m, p, k)
    found = m.where((x < 0.0) & is_whole(m, x), math.nan, found)
    found = m.where(x == 0.0, 1.0 / x, found)
    found = m.where(x >= 200.0, INF, found)
    # far below 0 what is left of it is ±0
    far = (x <= -200.0) & ~is_whole(m, x)
    found = m.where(far, m.where(is_odd(m, m.floor(x)), -0.0, m.constant(0.0, x)), found)
    return m.where(x == x, found, x)


def _rgamma(m: Any, x: Number) -> Number:
    p, k = gamma_parts(m, single(m, m.where(m.abs(x) < 1e6, x, 1.5)))
    found = scaled(m, div(m, constant(m, (1.0, 0.0), x), p), -k)
    found = m.where((x <= 0.0) & is_whole(m, x), m.where(x == 0.0, x, 0.0), found)
    found = m.where(x >= 200.0, 0.0, found)
    far = (x <= -200.0) & ~is_whole(m, x)
    found = m.where(far, m.where(is_odd(m, m.floor(x)), -INF, m.constant(INF, x)), found)
    return m.where(x == x, found, x)


def where(mask: Node, x: Any, y: Any) -> Node:
    """`np.where` of nodes."""
    found: Any = np.where(mask, x, y)
    return found


def _rgamma_slope(x: Node) -> Node:
    """(1/Γ)′ = −ψ/Γ; where ψ has poles by reflection, 1/Γ(x) = Γ(1 − x)·sin(πx)/π."""
    left = x < 0.5
    inside = where(left, 0.75, x)
    right = -apply(OPS["strong_multiply"], apply(OPS["digamma"], inside), apply(rgamma, inside))
    mirrored = 1 - where(left, x, 0.25)
    turn = math.pi * mirrored
    value = apply(gamma, mirrored) * (apply(OPS["digamma"], mirrored) * np.sin(turn) * (-1 / math.pi) - np.cos(turn))
    slope = where(left, value, right)
    slope.label = Label("rgamma_derivative", (x,), {})
    return slope


def _of_gamma(y: Node, *xs: Range) -> Range:
    return Range(hazard=max(Hazard.GROWTH, *(x.hazard for x in xs))).defined(all(x.lo > 0 for x in xs))


gamma = elementwise(
    "gamma",
    lambda x: evaluated(_gamma, x),
    partials=lambda y, x: (y * apply(OPS["digamma"], x),),
    lower=lambda b, x: b.called(_gamma, x),
    cost=400.0,
    ulp=(0.51, 1.5),
    title="Γ",
    range=_of_gamma,
    domain=((0.2, 5.0),),
    special={-0.0: NAN},
    public="special.gamma",
    doc="Γ(x), Euler's gamma function; NaN at negative integers, ±∞ at ±0.",
)
rgamma = elementwise(
    "rgamma",
    lambda x: evaluated(_rgamma, x),
    sympy=lambda S, x: 1 / S.gamma(x),
    partials=lambda y, x: (_rgamma_slope(x),),
    lower=lambda b, x: b.called(_rgamma, x),
    cost=400.0,
    ulp=(0.51, 1.5),
    range=lambda y, x: Range(hazard=max(Hazard.GROWTH, x.hazard)).defined(x.lo > 0),
    domain=((-2.4, 4.0),),
    public="special.rgamma",
    doc="1/Γ(x), 0 at 0 and the negative integers.",
)


# -- quotients of them -------------------------------------------------------------------------------------------------


def log_rising(m: Any, g: Pair, s: Pair) -> Pair:
    """log(Γ(g + s)/Γ(g)) for g >= `HIGH` and s > 0, Stirling's series of both taken together."""
    ratio = div(m, s, g)
    excess = log1p_excess(m, ratio)
    total = add(mul(m, s, log(m, g)), negative(mul(m, g, excess)))
    bent = add(ratio, negative(excess))  # log(1 + s/g)
    total = add(total, mul(m, add(s, constant(m, (-0.5, 0.0), s[0])), bent))
    return add(total, single(m, stirling_step(g[0], s[0])))


def _in_order(m: Any, a: Pair, b: Pair) -> tuple[Pair, Pair, Mask]:
    """The smaller and the larger one, and where Γ of the larger one and of the sum is better not taken alone."""
    swap = a[0] > b[0]
    s, g = pick(m, swap, b, a), pick(m, swap, a, b)
    return s, g, (s[0] > 0.0) & (g[0] >= HIGH)


def beta_parts(m: Any, a: Pair, b: Pair, both: Pair) -> tuple[Pair, Number]:
    """B(a, b) = p·2ᵏ where neither a nor b nor their sum is a pole."""
    s, g, large = _in_order(m, a, b)
    (p, k), (q, i) = gamma_parts(m, s), gamma_parts(m, pick(m, large, constant(m, (1.5, 0.0), s[0]), g))
    (r, j) = gamma_parts(m, pick(m, large, constant(m, (1.5, 0.0), s[0]), both))
    small = div(m, mul(m, p, q), r)

    def together(s: Pair, g: Pair, p: Pair, k: Number, large: Mask) -> list[Number]:
        rising = log_rising(
            m, pick(m, large, g, constant(m, (HIGH, 0.0), s[0])), pick(m, large, s, single(m, s[0] * 0.0 + 1.0))
        )
        e, exponent = exp(m, negative(rising))
        found = mul(m, p, e)
        return [found[0], found[1], k + exponent]

    x, y, z = m.choose_all(large, together, [small[0], small[1], k + i - j], [s, g, p, k, large])
    return (x, y), z


#: below, B is taken of positive numbers, by reflection: logarithms of Γ of large numbers would cancel
LEFT = -1e3


def beta_anywhere(m: Any, a: Pair, b: Pair, both: Pair) -> tuple[Pair, Number]:
    """`beta_parts`, far to the left by reflection of each Γ of a negative number.

    With s the smaller operand, g the larger one and u = s + g, each B below being of positive numbers:
    B(g, 1 − u)·sin πu/sin πs for g > 0 > u, π/(sin πs·g·B(u, 1 − s)) for u > 0, and
    π·sin πu/(sin πs·sin πg·(1 − u)·B(1 − s, 1 − g)) for g < 0.
    """
    swap = a[0] > b[0]
    s, g = pick(m, swap, b, a), pick(m, swap, a, b)
    far, second, above = s[0] < LEFT, g[0] < 0.0, both[0] > 0.0
    one = constant(m, (1.0, 0.0), s[0])
    from_s, from_g, from_both = (add(one, negative(x)) for x in (s, g, both))
    first = pick(m, second, from_g, pick(m, above, both, g))
    other = pick(m, second | above, from_s, from_both)
    total = pick(m, second, add(one, from_both), pick(m, above, add(one, g), from_s))
    p, k = beta_parts(m, pick(m, far, first, a), pick(m, far, other, b), pick(m, far, total, both))

    def reflected(
        s: Pair, g: Pair, both: Pair, from_both: Pair, one: Pair, p: Pair, k: Number, second: Mask, above: Mask
    ) -> list[Number]:
        sine, sine_of_both = sine_of_pi(m, s), sine_of_pi(m, pick(m, above, one, both))
        direct = div(m, mul(m, p, sine_of_both), sine)
        below = pick(m, second, mul(m, sine_of_pi(m, g), from_both), g)
        above_it = mul(m, constant(m, PI, s[0]), pick(m, second, sine_of_both, one))
        inverted = div(m, above_it, mul(m, mul(m, sine, below), p))
        found = pick(m, second | above, inverted, direct)
        return [found[0], found[1], m.where(second | above, -k, k)]

    given = [s, g, both, from_both, one, p, k, second, above]
    x, y, z = m.choose_all(far, reflected, [p[0], p[1], k], given)
    return (x, y), z


def _at_poles(m: Any, a: Number, b: Number) -> tuple[Number, Mask]:
    """Where a is a pole of Γ but the limit of B(a, b) along a exists: (−1)ᵇ·B(1 − a − b, b).  What stands for a there,
    and where that is."""
    pole = (a <= 0.0) & is_whole(m, a)
    other = 1.0 - a - b
    limit = pole & is_whole(m, b) & (other > 0.0) & (other < INF)
    return m.where(limit, other, a), limit


def _beta_of(m: Any, a: Number, b: Number) -> tuple[Pair, Number, Number, Mask, Mask]:
    """B = p·2ᵏ times a sign, where it is infinite, and where it is 0."""
    x, first = _at_poles(m, a, b)
    y, second = _at_poles(m, b, x)
    sign = m.where((first & is_odd(m, b)) | (second & is_odd(m, x)), -1.0, m.constant(1.0, x))
    infinite = ((x <= 0.0) & is_whole(m, x)) | ((y <= 0.0) & is_whole(m, y))
    both = sum_of(x, y)
    nothing = is_pole(m, both) | (x == INF) | (y == INF)
    plain = infinite | nothing | (x != x) | (y != y)
    x, y = (m.where(plain, 1.5, v) for v in (x, y))
    p, k = beta_anywhere(m, single(m, x), single(m, y), sum_of(x, y))
    return p, k, sign, infinite, nothing & ~infinite


def _undefined(m: Any, a: Number, b: Number) -> Mask:
    return (a != a) | (b != b) | ((a == INF) & (b == INF))


def _beta(m: Any, a: Number, b: Number) -> Number:
    p, k, sign, infinite, nothing = _beta_of(m, a, b)
    found = m.where(nothing, 0.0, m.where(infinite, INF, sign * scaled(m, p, k)))
    return m.where(_undefined(m, a, b), math.nan, found)


def log_of_parts(m: Any, p: Pair, k: Number) -> Pair:
    """log |p·2ᵏ|."""
    size = pick(m, p[0] < 0.0, negative(p), p)
    return add(log(m, size), times(m, constant(m, LN2, k), k))


def _betaln(m: Any, a: Number, b: Number) -> Number:
    p, k, _, infinite, nothing = _beta_of(m, a, b)
    found = value(m, log_of_parts(m, p, k))
    found = m.where(nothing, -INF, m.where(infinite, INF, found))
    return m.where(_undefined(m, a, b), math.nan, found)


def _poch(m: Any, x: Number, n: Number) -> Number:
    both = sum_of(x, n)
    below, above = (x <= 0.0) & is_whole(m, x), is_pole(m, both)
    # Γ(x + n)/Γ(x) = (−1)ⁿ·Γ(1 − x)/Γ(1 − x − n)
    turned = below & above
    start = pick(m, turned, add(constant(m, (1.0, 0.0), x), negative(both)), single(m, x))
    end = pick(m, turned, sum_of(1.0 - x, x * 0.0), both)
    unusual = ((below | above) & ~turned) | ~(m.abs(x) < INF) | ~(m.abs(n) < INF)
    half = constant(m, (1.5, 0.0), x)
    start, end = pick(m, unusual, half, start), pick(m, unusual, half, end)
    step = pick(m, unusual, constant(m, (0.0, 0.0), x), single(m, n))
    p, k = _rising_parts(m, start, end, step)
    found = scaled(m, p, k)
    found = m.where(turned & is_odd(m, n), -found, found)
    found = m.where(above & ~turned, INF, m.where(below & ~turned, 0.0, found))
    far = m.where(n == INF, m.where(x > 0.0, INF, found), m.where(x == INF, m.where(n > 0.0, INF, 0.0), math.nan))
    found = m.where((m.abs(x) < INF) & (m.abs(n) < INF), found, far)
    found = m.where(n == 0.0, 1.0, found)
    return m.where((x != x) | (n != n), math.nan, found)


def _rising_parts(m: Any, start: Pair, end: Pair, step: Pair) -> tuple[Pair, Number]:
    """Γ(end)/Γ(start) = p·2ᵏ, neither being a pole; ``step`` is the difference."""
    up = step[0] >= 0.0
    low = pick(m, up, start, end)
    large = low[0] >= HIGH
    half = constant(m, (1.5, 0.0), low[0])
    p, k = gamma_parts(m, pick(m, large, half, end))
    q, j = gamma_parts(m, pick(m, large, half, start))
    small = div(m, p, q)

    def together(step: Pair, low: Pair, up: Mask, large: Mask) -> list[Number]:
        length = pick(m, step[0] < 0.0, negative(step), step)
        rising = log_rising(m, pick(m, large, low, constant(m, (HIGH, 0.0), low[0])), length)
        e, exponent = exp(m, pick(m, up, rising, negative(rising)))
        return [e[0], e[1], exponent]

    x, y, z = m.choose_all(large, together, [small[0], small[1], k - j], [step, low, up, large])
    return (x, y), z


#: below, a binomial coefficient of whole numbers is known to less than a half, and so rounded to be exact
EXACT = 2.0**50


def _binom(m: Any, n: Number, k: Number) -> Number:
    one = constant(m, (1.0, 0.0), n)
    total, top, rest = sum_of(n, m.constant(1.0, n)), sum_of(k, m.constant(1.0, k)), sum_of(n, -k)
    rest = add(rest, one)
    undefined = (n < 0.0) & is_whole(m, n)
    nothing = ((top[0] <= 0.0) & is_whole(m, k)) | is_pole(m, rest)
    nothing = nothing & ~undefined
    odd = nothing | undefined | ~(m.abs(n) < INF) | ~(m.abs(k) < INF)
    usual = [pick(m, odd, c, v) for v, c in ((top, one), (rest, one), (total, one))]
    both = pick(m, odd, constant(m, (2.0, 0.0), n), add(total, one))
    p, e = beta_anywhere(m, usual[0], usual[1], both)
    found = scaled(m, div(m, one, mul(m, p, usual[2])), -e)
    whole = is_whole(m, n) & is_whole(m, k) & (m.abs(found) < EXACT)
    found = m.where(nothing, 0.0, m.where(whole, m.rint(found), found))
    far = m.where((n == INF) & (m.abs(k) < INF), m.where(k > 0.0, INF, m.where(k == 0.0, 1.0, math.nan)), math.nan)
    found = m.where((m.abs(n) < INF) & (m.abs(k) < INF), found, far)
    return m.where(undefined | (n != n) | (k != k), math.nan, found)


def _psi(x: Node) -> Node:
    return apply(OPS["digamma"], x)


def _poch_slope(y: Node, x: Node, n: Node) -> Node:
    """(x)ₙ·(ψ(x + n) − ψ(x)); where ψ(x) may be a pole, the second term is Γ(x + n)·(1/Γ)′(x)."""
    right = x > 0.5
    inside = where(right, x, 1.0)
    away = where(right, 0.0, apply(gamma, where(right, 1.0, x + n)) * _rgamma_slope(x))
    return y * _psi(x + n) + where(right, -y * _psi(inside), away)


def _binom_slopes(y: Node, n: Node, k: Node) -> tuple[Node, Node]:
    """With ψ; outside of 0 <= k <= n, where its poles meet zeros, with the derivative of 1/Γ."""
    rest = n - k
    inside = (k > -0.5) & (rest > -0.5)
    low, high = (where(inside, v, 0.0) + 1 for v in (k, rest))
    a, b, c = _psi(n + 1), _psi(low), _psi(high)
    size = apply(gamma, where(inside, 1.0, n + 1))
    p, q = (where(inside, 1.0, v) + 1 for v in (k, rest))
    by_k = size * _rgamma_slope(p) * apply(rgamma, q)
    by_rest = size * apply(rgamma, p) * _rgamma_slope(q)
    return (
        y * a + where(inside, -y * c, by_rest),
        where(inside, y * (c - b), by_k - by_rest),
    )


beta = elementwise(
    "beta",
    lambda a, b: evaluated(_beta, a, b),
    like=np.logaddexp,
    sympy=lambda S, a, b: S.beta(a, b),
    partials=lambda y, a, b: (y * (_psi(a) - _psi(a + b)), y * (_psi(b) - _psi(a + b))),
    lower=lambda m, a, b: m.called(_beta, a, b),
    cost=1200.0,
    ulp=(0.51, 1.5),
    title="B",
    range=_of_gamma,
    domain=((0.2, 4.0),),
    public="special.beta",
    doc="B(a, b) = Γ(a)·Γ(b)/Γ(a + b), Euler's beta function.",
)
betaln = elementwise(
    "betaln",
    lambda a, b: evaluated(_betaln, a, b),
    like=np.logaddexp,
    sympy=lambda S, a, b: S.loggamma(a) + S.loggamma(b) - S.loggamma(a + b),
    partials=lambda y, a, b: (_psi(a) - _psi(a + b), _psi(b) - _psi(a + b)),
    lower=lambda m, a, b: m.called(_betaln, a, b),
    cost=1300.0,
    ulp=(0.51, 2.5),
    scale=lambda *xs: 1.0,
    range=_of_gamma,
    domain=((0.2, 4.0),),
    public="special.betaln",
    doc="log |B(a, b)|.",
)
poch = elementwise(
    "poch",
    lambda x, n: evaluated(_poch, x, n),
    like=np.logaddexp,
    sympy=lambda S, x, n: S.gamma(x + n) / S.gamma(x),
    partials=lambda y, x, n: (_poch_slope(y, x, n), y * _psi(x + n)),
    lower=lambda m, x, n: m.called(_poch, x, n),
    cost=1200.0,
    ulp=(0.51, 1.5),
    range=_of_gamma,
    domain=((0.2, 4.0),),
    public="special.poch",
    doc="(x)ₙ = Γ(x + n)/Γ(x), Pochhammer's symbol: x·(x + 1)·…·(x + n − 1) for whole n.",
)
binom = elementwise(
    "binom",
    lambda n, k: evaluated(_binom, n, k),
    like=np.logaddexp,
    sympy=lambda S, n, k: S.binomial(n, k, evaluate=False),
    partials=_binom_slopes,
    lower=lambda m, n, k: m.called(_binom, n, k),
    cost=1200.0,
    ulp=(0.51, 1.5),
    title="C",
    range=_of_gamma,
    domain=((2.2, 5.0), (0.2, 1.9)),
    public="special.binom",
    doc="n over k for real numbers: Γ(n + 1)/(Γ(k + 1)·Γ(n − k + 1)); exact for whole numbers below 2⁵⁰.",
)
