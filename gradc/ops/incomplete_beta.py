"""The incomplete beta function I, its complement, and the numbers at which they have a given value.

Enters and leaves: as for all elementwise ops; computed in float64, as `gradc.ops.written` describes.
Invariant: the tail on the side of x where the mean is not is computed, and the other one taken from 1.  No way of
computing iterates more often than its limit says, for all a, b and x.  Start reading at `both_parts`.

Which way, once a and b are exchanged so that x <= a/(a + b):

- min(a, b) >= `LARGE`: the integral from 0 to x in s = log(x/t), by the double exponential rule; its exponent is a sum
  of three negative terms, whatever a, b and x are.
- Else the continued fraction of DiDonato and Morris, `FRACTION` steps: as many as that of the incomplete gamma function
  with shape min(a, b) takes, or fewer.
- Where b·x <= `SMALL` and x <= ½, so that either the fraction is slow on the other side, or the share on this side is
  the larger one although x is below the mean: 1 − I = 1 − x^a/(a·B(a, b)) − …, both of order a.

References: DiDonato, Morris, Significant digit computation of the incomplete beta function ratios (ACM TOMS 18, 1992),
for the fraction; Takahasi, Mori, Double exponential formulas for numerical integration (1974); Abramowitz & Stegun 6.6.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from gradc.node import OPS, Node
from gradc.ops.elementwise import apply, elementwise
from gradc.ops.gammas import HIGH, beta_parts, gamma_near_two, log_rising, stirling_rest, where
from gradc.ops.ranges import Range
from gradc.ops.two_parts import (
    ROOT_TAU,
    Pair,
    add,
    constant,
    div,
    exp,
    log,
    log1p,
    log1p_excess,
    mul,
    negative,
    pick,
    single,
    square_root,
    times,
    value,
)
from gradc.ops.written import Mask, Number, evaluated, polynomial, sum_of

INF, NAN = math.inf, math.nan
LARGE, SMALL = 20.0, 0.6
FRACTION, SMALL_SERIES = 200, 60
EPSILON = 2.0**-55
STEP, FIRST, LAST = 3 / 32, -42, 48


@cache
def nodes() -> tuple[tuple[float, float], ...]:
    """Places and weights of the rule on (0, ∞): exp(u − e⁻ᵘ) for evenly spaced u."""
    u = STEP * np.arange(FIRST, LAST + 1)  # exactly
    places = np.exp(u - np.exp(-u))
    weights = STEP * (1 + np.exp(-u)) * places
    return tuple(zip(places.tolist(), weights.tolist(), strict=True))


def density_parts(m: Any, a: Number, b: Number, x: Pair, y: Pair) -> tuple[Pair, Number]:
    """x^a·y^b/B(a, b) = p·2ᵏ for positive finite a and b, and x + y = 1."""
    from_mean = add(times(m, x, b), negative(times(m, y, a)))
    left, right = div(m, from_mean, single(m, a)), div(m, negative(from_mean), single(m, b))
    high = (a >= HIGH) & (b >= HIGH)
    close = high & (m.abs(left[0]) < 0.5) & (m.abs(right[0]) < 0.5)
    shape, other = m.where(close, 2.0, a), m.where(close, 2.0, b)
    half = constant(m, (0.5, 0.0), a)
    lower, upper = pick(m, close, half, x), pick(m, close, half, y)
    exponent = add(times(m, _log_share(m, lower, upper), shape), times(m, _log_share(m, upper, lower), other))
    p, k = exp(m, exponent)
    whole, j = beta_parts(m, single(m, shape), single(m, other), sum_of(shape, other))
    far = div(m, p, whole)

    def near(a: Number, b: Number, left: Pair, right: Pair, close: Mask) -> list[Number]:
        nothing = constant(m, (0.0, 0.0), a)
        first, second = m.where(close, a, HIGH), m.where(close, b, HIGH)
        total = times(m, log1p_excess(m, pick(m, close, left, nothing)), -first)
        total = add(total, times(m, log1p_excess(m, pick(m, close, right, nothing)), -second))
        both = first + second
        total = add(total, single(m, stirling_rest(both) - stirling_rest(first) - stirling_rest(second)))
        q, i = exp(m, total)
        small, large = m.where(first < second, first, second), m.where(first < second, second, first)
        spread = times(m, div(m, single(m, large), sum_of(large, small)), small)
        found = mul(m, q, div(m, square_root(m, spread), constant(m, ROOT_TAU, a)))
        return [found[0], found[1], i]

    c, d, e = m.choose_all(close, near, [far[0], far[1], k - j], [a, b, left, right, close])
    return (c, d), e


def _log_share(m: Any, x: Pair, y: Pair) -> Pair:
    """log x for x + y = 1, by y where x is near 1."""
    return pick(m, x[0] > 0.5, log1p(m, pick(m, x[0] > 0.5, negative(y), constant(m, (0.0, 0.0), x[0]))), log(m, x))


def _fraction(m: Any, given: Sequence[Number], where: Mask) -> Number:
    """I·B/(x^a·y^b) for a, b, x, y and λ = ay − bx, by Steed's method."""

    def step(
        n: Number, d: Number, change: Number, total: Number, rest: Number,
        a: Number, b: Number, x: Number, y: Number, from_mean: Number,
    ) -> list[Number]:  # fmt: skip
        over = a + (2.0 * n - 1.0)
        numerator = ((a + (n - 1.0)) / over) * ((a + b + (n - 1.0)) / over) * n * (b - n) * x * x
        bent = (a + n) / (a + 2.0 * n + 1.0) * (from_mean + 1.0 + n * (1.0 + y))
        beneath = n + n * (b - n) * x / (a + 2.0 * n - 1.0) + bent
        d = 1.0 / (numerator * d + beneath)
        change = (beneath * d - 1.0) * change
        total, lost = sum_of(total, change)
        return [d, change, total, rest + lost]

    a, _, x, _, from_mean = given
    start = (a + 1.0) / (a * (from_mean + 1.0))
    found = m.iterate(
        FRACTION,
        [start, start, start, x * 0.0],
        step,
        lambda d, change, total, *rest: m.abs(change) > EPSILON * total,
        where,
        given,
    )
    return found[2] + found[3]


_GAP = [(-1) ** n / math.factorial(n) for n in range(16, 1, -1)]
_EXCESS = [1 / n for n in range(33, 2, -2)]


def gap_of(m: Any, s: Number) -> tuple[Number, Number]:
    """e = 1 − e⁻ˢ, and s − e."""
    e = -m.expm1(-s)
    small = m.where(s < 0.6, s, 0.0)
    return e, m.where(s < 0.6, small * small * polynomial(small, _GAP), s - e)


def log1p_excess_of(m: Any, w: Number) -> Number:
    """w − log(1 + w) for w >= 0."""
    small = m.where(w < 0.5, w, 0.0)
    t = small / (2.0 + small)
    square = t * t
    return m.where(w < 0.5, t * (small - 2.0 * square * polynomial(square, _EXCESS)), w - m.log1p(w))


def _integral(m: Any, a: Number, b: Number, x: Number, y: Number, from_mean: Number) -> Number:
    """I·B/(x^a·y^b) = ∫ e^(−(λ/y)·e − a·(s − e) − b·φ(x·e/y))/(y + x·e) ds, e = 1 − e⁻ˢ and φ(w) = w − log(1 + w)."""
    slope, odds = from_mean / y, x / y
    unit = 1.0 / (slope + m.sqrt(a + b * odds * odds))

    def term(place: Number, weight: Number) -> Number:
        e, gap = gap_of(m, unit * place)
        exponent = slope * e + a * gap + b * log1p_excess_of(m, odds * e)
        return weight * m.exp(-exponent) / (y + x * e)

    return unit * m.total(nodes(), term, x)


def lower_tail(m: Any, a: Number, b: Number, x: Pair, y: Pair, where: Mask) -> Number:
    """I for x up to the mean."""
    p, k = density_parts(m, a, b, x, y)
    gap = value(m, add(times(m, y, a), negative(times(m, x, b))))
    from_mean = m.where(gap > 0.0, gap, 0.0)
    large = where & (a >= LARGE) & (b >= LARGE)
    # What the other way computes stands in where it does not matter.
    usual = [m.where(large, c, v) for v, c in ((a, 1.0), (b, 1.0), (x[0], 0.5), (y[0], 0.5), (from_mean, 0.0))]
    found = _fraction(m, usual, where & ~large)

    def integrated(large: Mask, *numbers: Number) -> Number:
        wide = zip(numbers, (LARGE, LARGE, 0.5, 0.5, 0.0), strict=True)
        return _integral(m, *[m.where(large, v, c) for v, c in wide])

    found = m.choose(large, integrated, found, [large, a, b, x[0], y[0], from_mean])
    return m.ldexp(value(m, times(m, p, found)), k)


def _log_rising_of_small(m: Any, b: Number, a: Number) -> Pair:
    """log(Γ(a + b)/Γ(b)) for a up to about 2, relative to itself: from b + 10 on by Stirling's series."""
    far = log_rising(m, sum_of(b, m.constant(10.0, b)), single(m, a))

    def step(n: Number, total: Number, b: Number, a: Number) -> list[Number]:
        return [total - m.log1p(a / (b + (n - 1.0)))]

    steps = m.iterate(10, [b * 0.0], step, lambda t, b, a: b == b, b == b, [b, a])
    return add(far, single(m, steps[0]))


def _complement(m: Any, a: Number, b: Number, x: Number, where: Mask) -> Number:
    """1 − I for small x, b·x and a."""

    def step(n: Number, power: Number, total: Number, a: Number, b: Number, x: Number) -> list[Number]:
        power = power * ((n - b) * x / n)
        return [power, total + power / (a + n)]

    zero = x * 0.0
    begun = [zero + 1.0, zero]
    _, total = m.iterate(SMALL_SERIES, begun, step, lambda p, t, a, b, x: m.abs(p) > EPSILON * x, where, [a, b, x])
    low = a < 0.5
    e = m.where(low, a, a - 1.0)
    grown = value(m, add(gamma_near_two(m, single(m, e)), constant(m, (-1.0, 0.0), a)))
    excess = m.where(low, (grown - a) / (1.0 + a), grown)
    exponent = add(times(m, log(m, single(m, x)), a), _log_rising_of_small(m, b, a))
    u = value(m, add(exponent, single(m, -m.log1p(excess))))
    return -m.expm1(u) - a * m.exp(u) * total


def both_parts(m: Any, a: Number, b: Number, x: Pair, y: Pair) -> tuple[Number, Number]:
    """I and 1 − I for positive finite a and b, 0 < x < 1 and y = 1 − x."""
    swapped = value(m, add(times(m, y, a), negative(times(m, x, b)))) < 0.0
    # the one that is near 0 decides; of both sides
    small = swapped & (x[0] <= 0.5) & (b * x[0] <= SMALL)
    mirrored = ~swapped & (y[0] <= 0.5) & (a * y[0] <= SMALL)
    first, second = m.where(swapped, b, a), m.where(swapped, a, b)
    near, far = pick(m, swapped, y, x), pick(m, swapped, x, y)
    special = small | mirrored
    tail = lower_tail(m, first, second, near, far, ~special)
    # For shapes below 1 the mean does not part the larger share from the smaller one.
    crowded = ~special & (tail > 0.55) & (near[0] <= 0.5) & (second * near[0] <= SMALL) & (first <= 2.0)
    shape, other = m.where(crowded, first, second), m.where(crowded, second, first)
    place, either = m.where(crowded, near[0], far[0]), special | crowded
    found = m.choose(either, lambda *given: _special(m, *given), tail, [shape, other, place, either])
    tail = m.where(crowded, 1.0 - found, found)
    rest = m.where(crowded, found, 1.0 - tail)
    return m.where(swapped, rest, tail), m.where(swapped, tail, rest)


def _special(m: Any, a: Number, b: Number, x: Number, where: Mask) -> Number:
    shape, other, place = m.where(where, a, 0.1), m.where(where, b, 0.1), m.where(where, x, 0.1)
    return _complement(m, shape, other, place, where)


def _incomplete(m: Any, a: Number, b: Number, x: Number, upper: bool) -> Number:
    shapes = (a > 0.0) & (a < INF) & (b > 0.0) & (b < INF)
    inside = shapes & (x > 0.0) & (x < 1.0)
    place = single(m, m.where(inside, x, 0.5))
    rest = add(constant(m, (1.0, 0.0), a), negative(place))
    found = both_parts(m, m.where(inside, a, 1.0), m.where(inside, b, 1.0), place, rest)
    # All of it lies at 0 where a = 0 or b = ∞, and at 1 where b = 0 or a = ∞.
    at_zero, at_one = (a == 0.0) | (b == INF), (b == 0.0) | (a == INF)
    share = m.where(x == 0.0, 0.0, m.where(x == 1.0, 1.0, m.where(at_zero, 1.0, m.constant(0.0, x))))
    share = m.where(at_zero & (x == 0.0) & ~(a == 0.0), 0.0, share)
    undefined = (a < 0.0) | (b < 0.0) | (x < 0.0) | (x > 1.0) | (at_zero & at_one)
    undefined = undefined | (a != a) | (b != b) | (x != x)
    found = m.where(inside, found[upper], 1.0 - share if upper else share)
    return m.where(undefined, NAN, found)


def _lower(m: Any, a: Number, b: Number, x: Number) -> Number:
    return _incomplete(m, a, b, x, False)


def _upper(m: Any, a: Number, b: Number, x: Number) -> Number:
    return _incomplete(m, a, b, x, True)


def _density(m: Any, a: Number, b: Number, x: Number) -> Number:
    """x^(a − 1)·(1 − x)^(b − 1)/B(a, b)."""
    inside = (a > 0.0) & (a < INF) & (b > 0.0) & (b < INF) & (x > 0.0) & (x < 1.0)
    place = single(m, m.where(inside, x, 0.5))
    rest = add(constant(m, (1.0, 0.0), a), negative(place))
    p, k = density_parts(m, m.where(inside, a, 1.0), m.where(inside, b, 1.0), place, rest)
    found = m.ldexp(value(m, div(m, p, mul(m, place, rest))), k)
    exponent = m.where(x == 0.0, a, b)
    edge = m.where(exponent < 1.0, INF, m.where(exponent == 1.0, m.where(x == 0.0, b, a), 0.0))
    beyond = m.where((x == 0.0) | (x == 1.0), edge, NAN)
    return m.where(inside, found, m.where((a > 0.0) & (b > 0.0), beyond, NAN))


# -- inverses ----------------------------------------------------------------------------------------------------------

#: as of the incomplete gamma function, in the odds x/(1 − x)
STEPS = 59


def _inverse(m: Any, a: Number, b: Number, goal: Number) -> Number:
    """The odds x/(1 − x) with I = ``goal`` <= ½, by Newton's method on its logarithm in the logarithm of the odds, in
    which it is concave."""

    def step(
        n: Number, odds: Number, low: Number, high: Number, moved: Number, a: Number, b: Number, goal: Number
    ) -> list[Number]:
        one = constant(m, (1.0, 0.0), a)
        whole = sum_of(m.constant(1.0, odds), odds)
        x, y = div(m, single(m, odds), whole), div(m, one, whole)
        found, _ = both_parts(m, a, b, x, y)
        p, k = density_parts(m, a, b, x, y)
        size = m.ldexp(value(m, p), k)
        ahead = found > goal
        low, high = m.where(ahead, low, odds), m.where(ahead, odds, high)
        near = m.abs(found - goal) < 0.125 * goal
        change = m.where(near, m.log1p((goal - found) / found), m.log(goal / found)) * (found / size)
        next_one = m.where(m.abs(change) < 0.01, odds + odds * m.expm1(change), odds * m.exp(change))
        inside = (next_one > low) & (next_one < high)
        same = m.abs(change) <= 2.0**-52
        next_one = m.where(inside | same, next_one, m.sqrt(low) * m.sqrt(high))
        return [next_one, low, high, m.where(same, 0.0, m.where(inside, m.abs(change), 1.0))]

    t = m.sqrt(-2.0 * m.log(goal))
    normal = t - polynomial(t, (0.010328, 0.802853, 2.515517)) / polynomial(t, (0.001308, 0.189269, 1.432788, 1.0))
    p, k = beta_parts(m, single(m, a), single(m, b), sum_of(a, b))
    first = m.exp((m.log(goal) + m.log(a * p[0]) + k * math.log(2)) / a)
    mean = a / b
    middle = mean * m.exp(-normal * m.sqrt(1.0 / a + 1.0 / b))
    start = m.where((first < 0.1) & (first < 0.3 * mean), first, m.where((a > 0.5) & (b > 0.5), middle, mean))
    least, most = m.constant(1e-300, a), m.constant(1e300, a)
    begun = m.where((start > 1e-300) & (start < 1e300), start, m.where(start < 1.0, 2e-300, 1e299))
    carry = [begun, least, most, a * 0.0 + 1.0]
    done = m.iterate(STEPS, carry, step, lambda x, low, high, moved, *given: moved > 3e-9, a == a, [a, b, goal])
    return m.where(first < 1e-290, first, done[0])


def _inverse_of(m: Any, a: Number, b: Number, p: Number, upper: bool) -> Number:
    inside = (a > 0.0) & (a < INF) & (b > 0.0) & (b < INF) & (p > 0.0) & (p < 1.0)
    first, second, share = m.where(inside, a, 1.0), m.where(inside, b, 1.0), m.where(inside, p, 0.5)
    rest = 1.0 - share
    left, right = (rest, share) if upper else (share, rest)
    swapped = right < left
    odds = _inverse(m, m.where(swapped, second, first), m.where(swapped, first, second), m.where(swapped, right, left))
    found = m.where(swapped, 1.0 / (1.0 + odds), odds / (1.0 + odds))
    none, full = (p == 1.0, p == 0.0) if upper else (p == 0.0, p == 1.0)
    shapes = (a > 0.0) & (b > 0.0) & ~((a == INF) & (b == INF))
    ends = m.where(none, 0.0, m.where(full, 1.0, m.constant(NAN, a)))
    far = m.where(a == INF, 1.0, m.where(b == INF, 0.0, ends))
    far = m.where(shapes & (p >= 0.0) & (p <= 1.0), far, NAN)
    return m.where(inside, found, far)


def _inverse_lower(m: Any, a: Number, b: Number, p: Number) -> Number:
    return _inverse_of(m, a, b, p, False)


def _inverse_upper(m: Any, a: Number, b: Number, q: Number) -> Number:
    return _inverse_of(m, a, b, q, True)


# -- records -----------------------------------------------------------------------------------------------------------


def _psi(x: Node) -> Node:
    return apply(OPS["digamma"], x)


def _density_slopes(y: Node, a: Node, b: Node, x: Node) -> tuple[Node, Node, Node]:
    """y times differences of logarithms and ψ, 0 where y is; at an end a term of the slope is another density there."""
    both, start, end = _psi(a + b), x == 0, x == 1
    bends = np.log(x) - _psi(a) + both, np.log1p(-x) - _psi(b) + both
    in_shapes = [apply(OPS["strong_multiply"], y, bend, right=False) for bend in bends]
    left, right = start & (a > 1), end & (b > 1)
    first = apply(beta_density, where(left, a - 1, 1.0), where(left, b, 1.0), x)
    second = apply(beta_density, where(right, a, 1.0), where(right, b - 1, 1.0), x)
    rising = where(start, _at_end(a, b, first), y * ((a - 1) / where(start, 1.0, x)))
    falling = where(end, _at_end(b, a, second), y * ((b - 1) / where(end, 1.0, 1 - x)))
    return in_shapes[0], in_shapes[1], rising - falling


def _at_end(a: Node, b: Node, density: Node) -> Node:
    """(a − 1)·x^(a − 2)·(1 − x)^(b − 1)/B(a, b) for x → 0, of the density for a − 1."""
    return where(a > 1, (a + b - 1) * density, where(a < 1, -INF, where(a == 1, 0.0, a)))


def _slopes(a: Node, b: Node, x: Node) -> tuple[Node, Node, Node]:
    """Of I; how it moves with its shapes is told by `gradc.ops.beta_moments`."""
    by_a, by_b = (apply(OPS["beta_moment"], a, b, x, i=i, j=1 - i) for i in (1, 0))
    return by_a, by_b, apply(beta_density, a, b, x)


def _implicit_slopes(x: Node, a: Node, b: Node, sign: float) -> tuple[Node, Node, Node]:
    """Of the x with I(a, b, x) = p, or 1 − I = p; 0 and 1 stay where they are, whatever the shapes."""
    by_a, by_b, density = _slopes(a, b, x)
    end = (x == 0) | (x == 1)
    steep = where(end, 1.0, density)
    return where(end, 0.0, -by_a / steep), where(end, 0.0, -by_b / steep), sign / density


def _negative_slopes(a: Node, b: Node, x: Node) -> tuple[Node, Node, Node]:
    by_a, by_b, density = _slopes(a, b, x)
    return -by_a, -by_b, -density


def _share(y: Node, a: Range, b: Range, x: Range) -> Range:
    return x.within(0.0, 1.0).defined(a.lo > 0 and b.lo > 0 and x.lo > 0 and x.hi < 1)


def _steep(a: Any, b: Any, p: Any, upper: bool) -> Any:
    """How far x moves when the smaller one of I and 1 − I moves by itself."""
    a, b, p = (np.asarray(v, np.float64) for v in (a, b, p))
    at = evaluated(_inverse_upper if upper else _inverse_lower, a, b, p)
    size = np.minimum(p, 1 - p) / evaluated(_density, a, b, at)
    return np.where(np.isfinite(size), size, 0.0)


_SHAPES = ((0.4, 6.0), (0.4, 6.0), (0.1, 0.9))
beta_density = elementwise(
    "beta_density",
    lambda a, b, x: evaluated(_density, a, b, x),
    sympy=lambda S, a, b, x: x ** (a - 1) * (1 - x) ** (b - 1) / S.beta(a, b),
    partials=_density_slopes,
    lower=lambda m, a, b, x: m.called(_density, a, b, x),
    cost=2500.0,
    ulp=(0.51, 3.0),
    range=lambda y, a, b, x: Range(0.0, INF, x.hazard).defined(a.lo >= 1 and b.lo >= 1 and x.lo > 0 and x.hi < 1),
    domain=_SHAPES,
    public=False,
    doc="x^(a − 1)·(1 − x)^(b − 1)/B(a, b), the density of the beta distribution.",
)
betainc = elementwise(
    "betainc",
    lambda a, b, x: evaluated(_lower, a, b, x),
    sympy=lambda S, a, b, x: S.betainc_regularized(a, b, 0, x),
    partials=lambda y, a, b, x: _slopes(a, b, x),
    lower=lambda m, a, b, x: m.called(_lower, a, b, x),
    cost=6000.0,
    ulp=(0.51, 5.0),
    title="I",
    range=_share,
    domain=_SHAPES,
    public="special.betainc",
    doc="I(a, b, x) = ∫₀ˣ t^(a − 1)·(1 − t)^(b − 1) dt/B(a, b), the regularised incomplete beta function.",
)
betaincc = elementwise(
    "betaincc",
    lambda a, b, x: evaluated(_upper, a, b, x),
    sympy=lambda S, a, b, x: 1 - S.betainc_regularized(a, b, 0, x),
    partials=lambda y, a, b, x: _negative_slopes(a, b, x),
    lower=lambda m, a, b, x: m.called(_upper, a, b, x),
    cost=6000.0,
    ulp=(0.51, 5.0),
    range=_share,
    domain=_SHAPES,
    public="special.betaincc",
    doc="1 − I(a, b, x), accurate where it is small.",
)
betaincinv = elementwise(
    "betaincinv",
    lambda a, b, p: evaluated(_inverse_lower, a, b, p),
    sympy=None,
    partials=lambda y, a, b, p: _implicit_slopes(y, a, b, 1.0),
    lower=lambda m, a, b, p: m.called(_inverse_lower, a, b, p),
    cost=40000.0,
    ulp=(0.51, 5.0),
    scale=lambda a, b, p: _steep(a, b, p, False),
    range=_share,
    domain=_SHAPES,
    public="special.betaincinv",
    doc="The x with I(a, b, x) = p.",
)
betainccinv = elementwise(
    "betainccinv",
    lambda a, b, q: evaluated(_inverse_upper, a, b, q),
    sympy=None,
    partials=lambda y, a, b, q: _implicit_slopes(y, a, b, -1.0),
    lower=lambda m, a, b, q: m.called(_inverse_upper, a, b, q),
    cost=40000.0,
    ulp=(0.51, 5.0),
    scale=lambda a, b, q: _steep(a, b, q, True),
    range=_share,
    domain=_SHAPES,
    public="special.betainccinv",
    doc="The x with 1 − I(a, b, x) = q.",
)
