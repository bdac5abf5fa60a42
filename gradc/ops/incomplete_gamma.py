"""The incomplete gamma functions P and Q, and the number at which they have a given value.

Enters and leaves: as for all elementwise ops; computed in float64, as `gradc.ops.written` describes.
Invariant: whichever of P and Q is small is computed, and the other one taken from 1, so that tails are as accurate as
what is not small.  No way of computing iterates more often than its limit says, for all a and x.  Start reading at
`both_parts`.

Which way, for a shape a and a place x:

- a >= 20 and x/a between about 0.31 and 2.36: Temme's uniform expansion, e^(−η²a/2) times a sum in 1/a and η.
- Else x <= a, or x <= `SMALL`: the series P = D·Σ xⁿ/((a + 1)⋯(a + n)). Its terms fall like e^(−n²/2a) for x = a < 20,
  and at least as fast as 0.31ⁿ for larger a: `SERIES` of them.
- In this region, where a is so small that P > ½: Q = 1 − x^a/Γ(1 + a) − …, both of order a; `SMALL_SERIES` terms of a
  series in −x with n! below.
- Else the continued fraction of Q, whose n-th step changes it by e^(−4√(xn)), and by less for a > 1: `FRACTION` steps.

References: Temme, The asymptotic expansion of the incomplete gamma functions (SIAM J. Math. Anal. 10, 1979); Gautschi,
A computational procedure for incomplete gamma functions (ACM TOMS 5, 1979); Abramowitz & Stegun, 6.5; Steed's method
for the fraction: Barnett et al., Coulomb wave functions (Comput. Phys. Comm. 8, 1974); Shepherd, Laframboise, Chebyshev
approximation of (1 + 2x)exp(x²)erfc x (Math. Comp. 36, 1981), for the form of that fit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np

from gradc.node import OPS, Node
from gradc.ops.elementwise import apply, elementwise
from gradc.ops.gammas import HIGH, gamma_near_two, gamma_of_positive, stirling_rest, where
from gradc.ops.ranges import Range
from gradc.ops.two_parts import (
    ROOT_TAU,
    Pair,
    add,
    constant,
    div,
    exp,
    log,
    log1p_excess,
    mul,
    single,
    square_root,
    times,
    value,
)
from gradc.ops.written import Mask, Number, evaluated, polynomial, sum_of

INF, NAN = math.inf, math.nan
#: (1 + 2z)·e^(z²)·erfc z in (z − 3)/(z + 3) + 3/43 for 0 <= z <= 40; error 2⁻⁶⁰
ERFCX = (
    3.000561916767595e-10, 7.576641474974981e-10, -2.0999205661209293e-09, -8.25129988018629e-09,
    4.094125879202083e-09, 5.00018927634492e-08, 2.9407172415960938e-08, -2.3173350389916843e-07,
    -3.6734158919895597e-07, 9.530640585548367e-07, 2.7108170103291553e-06, -4.02595062124563e-06,
    -1.771073901019025e-05, 2.2340804447726978e-05, 0.0001135231848518993, -0.0001976581110820417,
    -0.0006736801989687327, 0.002348409267376155, 0.0013438422073690165, -0.024726762513870796,
    0.07847882817565864, -0.14486436013999887, 0.16641908375821823, -0.07842121033861273,
    -0.12692101756633864, 1.2621915185120927,
)  # fmt: skip
#: from this shape on Temme's expansion, for |η| up to 1, and how much of it
UNIFORM, ORDERS, POWERS = 20.0, 14, 32
#: up to here the fraction of Q is slow, and the other series takes its place
SMALL = 0.6
SERIES, SMALL_SERIES, FRACTION = 64, 24, 200
EPSILON = 2.0**-55


def scaled_erfc(m: Any, z: Number) -> Number:
    """e^(z²)·erfc z for z >= 0; beyond 40 that of 40."""
    z = m.where(z < 40.0, z, 40.0)
    return polynomial((z - 3.0) / (z + 3.0) + 3 / 43, ERFCX) / (1.0 + 2.0 * z)


@cache
def temme_coefficients() -> Sequence[Sequence[float]]:
    """Of Cₖ(η) in powers of η, exactly until they are rounded.

    With λ − 1 − log λ = η²/2 and μ = λ − 1: C₀ = 1/μ − 1/η, Cₖ = Cₖ₋₁′/η + gₖ/μ, where gₖ is what makes Cₖ finite at 0.
    """
    count = POWERS + 2 * ORDERS + 2
    alpha = [Fraction(0), Fraction(1), Fraction(1, 3)]  # μ in powers of η
    for k in range(3, count + 2):
        crossed = sum(j * alpha[j] * alpha[k - j + 1] for j in range(2, k))
        alpha.append((alpha[k - 1] - crossed) / (k + 1))
    inverse = [Fraction(1)]  # η/μ
    for k in range(1, count + 1):
        inverse.append(-sum((alpha[j + 1] * inverse[k - j] for j in range(1, k + 1)), Fraction()))
    first = rows = inverse[1:]
    found = [rows]
    for _ in range(1, ORDERS):
        pole = -rows[1]
        rows = [(n + 2) * rows[n + 2] + pole * first[n] for n in range(len(rows) - 2)]
        found.append(rows)
    return [[float(c) for c in row[:POWERS]] for row in found]


def density_parts(m: Any, a: Number, x: Number) -> tuple[Pair, Number]:
    """x^a·e⁻ˣ/Γ(a + 1) = p·2ᵏ for positive finite a and x."""
    low = a < HIGH
    shape = m.where(low, a, 1.0)
    exponent = add(times(m, log(m, single(m, m.where(low, x, 1.0))), shape), (-m.where(low, x, 1.0), x * 0.0))
    p, k = exp(m, exponent)
    whole, j = gamma_of_positive(m, sum_of(m.constant(1.0, shape), shape))
    near = div(m, p, whole)

    def far(a: Number, x: Number, low: Mask) -> list[Number]:
        large = m.where(low, HIGH, a)
        place = m.where(low, HIGH, x)
        excess = log1p_excess(m, div(m, sum_of(place, -large), single(m, large)))
        total = add(times(m, excess, -large), single(m, -stirling_rest(large)))
        q, i = exp(m, total)
        root = mul(m, square_root(m, single(m, large)), constant(m, ROOT_TAU, large))
        found = div(m, q, root)
        return [found[0], found[1], i]

    a_part, b_part, c_part = m.choose_all(~low, far, [near[0], near[1], k - j], [a, x, low])
    return (a_part, b_part), c_part


def _series(m: Any, a: Number, x: Number, where: Mask) -> Number:
    """Σ xⁿ/((a + 1)⋯(a + n))."""

    def step(n: Number, term: Number, total: Number, rest: Number, a: Number, x: Number) -> list[Number]:
        term = term * (x / (a + n))
        total, lost = sum_of(total, term)
        return [term, total, rest + lost]

    one = m.constant(1.0, x)
    carry = [one, one, x * 0.0]
    _, total, rest = m.iterate(SERIES, carry, step, lambda term, total, *rest: term > EPSILON * total, where, [a, x])
    return total + rest


def _fraction(m: Any, a: Number, x: Number, where: Mask) -> Number:
    """Γ(a, x)·eˣ/x^a = 1/(x + 1 − a − 1·(1 − a)/(x + 3 − a − 2·(2 − a)/(x + 5 − a − …))), by Steed's method."""

    def step(n: Number, d: Number, change: Number, total: Number, rest: Number, a: Number, x: Number) -> list[Number]:
        numerator, denominator = n * (a - n), (x - a) + (2.0 * n + 1.0)
        d = 1.0 / (numerator * d + denominator)
        change = (denominator * d - 1.0) * change
        total, lost = sum_of(total, change)
        return [d, change, total, rest + lost]

    start = 1.0 / ((x - a) + 1.0)
    found = m.iterate(
        FRACTION,
        [start, start, start, x * 0.0],
        step,
        lambda d, change, total, *rest: m.abs(change) > EPSILON * total,
        where,
        [a, x],
    )
    return found[2] + found[3]


def _small_upper(m: Any, a: Number, x: Number, where: Mask) -> Number:
    """Q for small x and a: −(e^u − 1) − a·e^u·Σ (−x)ⁿ/(n!(a + n)) with u = a·log x − log Γ(1 + a)."""

    def step(n: Number, power: Number, total: Number, a: Number, x: Number) -> list[Number]:
        power = power * (-x / n)
        return [power, total + power / (a + n)]

    zero = x * 0.0
    begun = [zero + 1.0, zero]
    _, total = m.iterate(SMALL_SERIES, begun, step, lambda p, t, a, x: m.abs(p) > EPSILON * x, where, [a, x])
    low = a < 0.5
    e = m.where(low, a, a - 1.0)
    grown = value(m, add(gamma_near_two(m, single(m, e)), constant(m, (-1.0, 0.0), a)))
    # Γ(1 + a) is Γ(2 + a)/(1 + a) for a < ½, and 1 + e·q − (1 + a) is (e·q − a).
    excess = m.where(low, (grown - a) / (1.0 + a), grown)
    u = a * m.log(x) - m.log1p(excess)
    return -m.expm1(u) - a * m.exp(u) * total


def both_parts(m: Any, a: Number, x: Number) -> tuple[Number, Number]:
    """P(a, x) and Q(a, x) for positive finite a and x."""
    ratio = div(m, sum_of(x, -a), single(m, a))
    excess = log1p_excess(m, ratio)
    eta = m.sqrt(2.0 * excess[0])
    uniform = (a >= UNIFORM) & (eta <= 1.0)
    p, k = density_parts(m, a, x)
    small = ~uniform & (x <= SMALL) & (a <= m.where(x < 0.5, -0.4 / m.log(m.where(x < 0.5, x, 0.25)), 1.1 * x))
    lower = ~uniform & ((x <= SMALL) | (x <= a))
    upper = ~uniform & ~lower
    shape, place = m.where(uniform, 1.0, a), m.where(uniform, 1.0, x)

    def by_series(p: Pair, k: Number, shape: Number, place: Number, lower: Mask) -> list[Number]:
        found = m.ldexp(value(m, times(m, p, _series(m, shape, place, lower))), k)
        return [found, 1.0 - found]

    def by_fraction(p: Pair, k: Number, shape: Number, place: Number, upper: Mask) -> list[Number]:
        found = m.ldexp(value(m, times(m, p, _fraction(m, shape, place, upper) * shape)), k)
        return [1.0 - found, found]

    def by_difference(a: Number, x: Number, small: Mask) -> Number:
        return _small_upper(m, m.where(small, a, 0.1), m.where(small, x, 0.1), small)

    def by_expansion(a: Number, x: Number, excess: Pair, eta: Number, uniform: Mask) -> list[Number]:
        signed = m.where(x < a, -eta, eta)
        e, j = exp(m, times(m, excess, -m.where(uniform, a, 1.0)))
        size = _tail(m, m.where(uniform, a, UNIFORM), m.where(uniform, signed, 0.0))
        found = m.ldexp(value(m, times(m, e, size)), j)
        return [m.where(x < a, found, 1.0 - found), m.where(x < a, 1.0 - found, found)]

    nothing = [x * 0.0, x * 0.0]
    found = m.choose_all(lower, by_series, nothing, [p, k, shape, place, lower])
    found = m.choose_all(upper, by_fraction, found, [p, k, shape, place, upper])
    found = m.choose_all(uniform, by_expansion, found, [a, x, excess, eta, uniform])
    return found[0], m.choose(small, by_difference, found[1], [a, x, small])


def _tail(m: Any, a: Number, eta: Number) -> Number:
    """The smaller one of P and Q over e^(−aη²/2): half a scaled erfc and Temme's sum, which has the sign of η."""
    inverse = 1.0 / a
    total = None
    for row in reversed(temme_coefficients()):
        bend = polynomial(eta, row[::-1])
        total = bend if total is None else total * inverse + bend
    assert total is not None
    rest = total / (m.sqrt(a) * ROOT_TAU[0])
    return 0.5 * scaled_erfc(m, m.abs(eta) * m.sqrt(0.5 * a)) + m.where(eta < 0.0, -rest, rest)


def _incomplete(m: Any, a: Number, x: Number, upper: bool) -> Number:
    inside = (a > 0.0) & (a < INF) & (x > 0.0) & (x < INF)
    found = both_parts(m, m.where(inside, a, 1.0), m.where(inside, x, 1.0))
    zero, one = m.constant(0.0, x), m.constant(1.0, x)
    none, all_of_it = (one, zero) if upper else (zero, one)
    # P is 0 at x = 0 and for a = ∞, and 1 at x = ∞ and for a = 0.
    beyond = m.where((x == 0.0) | (a == INF), none, all_of_it)
    undefined = (a < 0.0) | (x < 0.0) | ((a == 0.0) & (x == 0.0)) | ((a == INF) & (x == INF)) | (a != a) | (x != x)
    return m.where(undefined, NAN, m.where(inside, found[upper], beyond))


def _lower(m: Any, a: Number, x: Number) -> Number:
    return _incomplete(m, a, x, False)


def _upper(m: Any, a: Number, x: Number) -> Number:
    return _incomplete(m, a, x, True)


def _density(m: Any, a: Number, x: Number) -> Number:
    """x^(a − 1)·e⁻ˣ/Γ(a)."""
    inside = (a > 0.0) & (a < INF) & (x > 0.0) & (x < INF)
    shape, place = m.where(inside, a, 1.0), m.where(inside, x, 1.0)
    p, k = density_parts(m, shape, place)
    found = m.ldexp(value(m, times(m, p, shape / place)), k)
    start = m.where(a < 1.0, INF, m.where(a == 1.0, 1.0, m.constant(0.0, a)))
    beyond = m.where((x == 0.0) & (a > 0.0), start, 0.0)
    undefined = (a < 0.0) | (x < 0.0) | (a != a) | (x != x)
    return m.where(undefined, NAN, m.where(inside, found, beyond))


# -- inverses ----------------------------------------------------------------------------------------------------------

#: Newton's method on a logarithm, which doubles the digits; where it leaves what is known, halves of the exponent: 12
#: of them find a number's size, and 40 steps are enough for the worst start
STEPS = 60


def start_of(m: Any, a: Number, p: Number, q: Number) -> Number:
    """About the x with P(a, x) = p: by the first term of the series, or by Wilson and Hilferty's cube of a normal
    number (PNAS 17, 1931), which is Abramowitz and Stegun's 26.2.23."""
    tail = m.where(p < q, p, q)
    t = m.sqrt(-2.0 * m.log(tail))
    normal = t - polynomial(t, (0.010328, 0.802853, 2.515517)) / polynomial(t, (0.001308, 0.189269, 1.432788, 1.0))
    normal = m.where(p < q, -normal, normal)
    root = 1.0 / (9.0 * a)
    cube = 1.0 - root + normal * m.sqrt(root)
    large = a * cube * cube * cube
    first = m.exp(_log_of_first(m, a, p))
    usual = m.where((cube > 0.3) & (a > 0.5), large, first)
    return m.where((q < p) & (a <= 0.5) & ~(first < 0.5), 0.5 - m.log(q), usual)


def _log_of_first(m: Any, a: Number, p: Number) -> Number:
    """log of the x with x^a/Γ(a + 1) = p, to a few digits."""
    grown, k = gamma_of_positive(m, sum_of(m.constant(1.0, a), a))
    return (m.log(p) + m.log(grown[0]) + k * math.log(2)) / a


def _inverse(m: Any, a: Number, p: Number, q: Number) -> Number:
    """The x with P(a, x) = p and Q(a, x) = q, of which the smaller one counts."""
    lower = p < q
    goal = m.where(lower, p, q)

    def step(
        n: Number, x: Number, low: Number, high: Number, moved: Number, a: Number, goal: Number, lower: Mask
    ) -> list[Number]:
        below, above = both_parts(m, a, x)
        found = m.where(lower, below, above)
        r, k = density_parts(m, a, x)
        size = a * m.ldexp(value(m, r), k)  # x times the density
        ahead = m.where(lower, found - goal, goal - found)
        low, high = m.where(ahead > 0.0, low, x), m.where(ahead > 0.0, x, high)
        near = m.abs(found - goal) < 0.125 * goal
        change = m.where(near, m.log1p((goal - found) / found), m.log(goal / found)) * (found / size)
        change = m.where(lower, change, -change)
        # of a tail in x itself, of which its logarithm is nearly linear
        flat = ~lower & (x > 1.0)
        next_one = m.where(flat | (m.abs(change) < 0.01), x * (1.0 + change), x * m.exp(change))
        inside = (next_one > low) & (next_one < high)
        same = m.abs(change) <= 2.0**-52
        next_one = m.where(inside | same, next_one, m.sqrt(low) * m.sqrt(high))
        return [next_one, low, high, m.where(same, 0.0, m.where(inside, m.abs(change), 1.0))]

    least, most = m.constant(5e-324, a), m.constant(1.7e308, a)
    rough = start_of(m, a, p, q)
    first = m.where((rough > 1e-300) & (rough < 1e300), rough, m.where(rough < 1.0, 1e-300, 1e300))
    carry = [first, least, most, a * 0.0 + 1.0]
    done = m.iterate(STEPS, carry, step, lambda x, low, high, moved, *given: moved > 3e-9, a == a, [a, goal, lower])
    return m.where(rough > 1e-300, done[0], rough)  # where the series is its first term


def _inverse_lower(m: Any, a: Number, p: Number) -> Number:
    return _inverse_of(m, a, p, False)


def _inverse_upper(m: Any, a: Number, q: Number) -> Number:
    return _inverse_of(m, a, q, True)


def _inverse_of(m: Any, a: Number, p: Number, upper: bool) -> Number:
    inside = (a > 0.0) & (a < INF) & (p > 0.0) & (p < 1.0)
    shape, share = m.where(inside, a, 1.0), m.where(inside, p, 0.5)
    rest = 1.0 - share
    found = _inverse(m, shape, rest, share) if upper else _inverse(m, shape, share, rest)
    ends = (INF, 0.0) if upper else (0.0, INF)
    at_end = (a >= 0.0) & (a < INF)
    beyond = m.where(at_end & (p == 0.0), ends[0], m.where(at_end & (p == 1.0), ends[1], m.constant(NAN, a)))
    return m.where(inside, found, beyond)


# -- records -----------------------------------------------------------------------------------------------------------


def _psi(x: Node) -> Node:
    return apply(OPS["digamma"], x)


def _moved(a: Node, x: Node) -> Node:
    """How x moves with a, log x by the unit: ∂P/∂a over −x times the density (`gradc.ops.gamma_draws.gamma_moment`)."""
    return apply(OPS["gamma_moment"], a, np.log(x), n=1)


def _slopes(a: Node, x: Node) -> tuple[Node, Node]:
    """∂P/∂a, which is 0 at both ends, and ∂P/∂x."""
    density = apply(gamma_density, a, x)
    within = (x > 0) & (x < INF)
    inside = where(within, x, 1.0)
    return where(within, -_moved(a, inside) * (inside * density), 0.0), density


def _density_slopes(y: Node, a: Node, x: Node) -> tuple[Node, Node]:
    """y·(log x − ψ(a)) and y·((a − 1)/x − 1), which is the difference of two densities where x is 0."""
    start = x == 0
    by_shape = apply(OPS["strong_multiply"], y, np.log(x) - _psi(a), right=False)
    away = y * ((a - 1) / where(start, 1.0, x))
    lower = apply(gamma_density, where(start & (a > 1), a - 1, 1.0), x)
    there = where(a > 1, lower, where(a < 1, -INF, where(a == 1, 0.0, a)))
    return by_shape, where(start, there, away) - where(start & (a < 1), 0.0, y)


def _inverse_slopes(x: Node, a: Node, sign: float) -> tuple[Node, Node]:
    """Of the x with P(a, x) = p, or Q(a, x) = p; 0 stays where it is, whatever the shape."""
    start = x == 0
    by_shape = where(start, 0.0, _moved(a, where(start, 1.0, x)) * x)
    return by_shape, sign / apply(gamma_density, a, x)


def _negative_slopes(a: Node, x: Node) -> tuple[Node, Node]:
    by_shape, by_place = _slopes(a, x)
    return -by_shape, -by_place


def _share(y: Node, a: Range, x: Range) -> Range:
    return x.within(0.0, 1.0).defined(a.lo > 0 and x.lo > 0)


def _place(y: Node, a: Range, p: Range) -> Range:
    return Range(0.0, INF, p.hazard).defined(a.lo > 0 and p.lo > 0 and p.hi < 1)


def _steep(a: Any, x: Any, upper: bool) -> Any:
    """How far x moves when the smaller one of P and Q moves by itself."""
    a, p = (np.asarray(v, np.float64) for v in (a, x))
    at = evaluated(_inverse_upper if upper else _inverse_lower, a, p)
    size = np.minimum(p, 1 - p) / evaluated(_density, a, at)
    return np.where(np.isfinite(size), size, 0.0)


gamma_density = elementwise(
    "gamma_density",
    lambda a, x: evaluated(_density, a, x),
    like=np.logaddexp,
    sympy=lambda S, a, x: x ** (a - 1) * S.exp(-x) / S.gamma(a),
    partials=_density_slopes,
    lower=lambda b, a, x: b.called(_density, a, x),
    cost=1000.0,
    ulp=(0.51, 2.5),
    range=lambda y, a, x: Range(0.0, INF, x.hazard).defined(a.lo >= 1 and x.lo > 0),
    domain=((0.4, 6.0), (0.2, 8.0)),
    public=False,
    doc="x^(a − 1)·e⁻ˣ/Γ(a), the density of the gamma distribution of shape a.",
)
gammainc = elementwise(
    "gammainc",
    lambda a, x: evaluated(_lower, a, x),
    like=np.logaddexp,
    sympy=lambda S, a, x: S.lowergamma(a, x) / S.gamma(a),
    partials=lambda y, a, x: _slopes(a, x),
    lower=lambda b, a, x: b.called(_lower, a, x),
    cost=3000.0,
    ulp=(0.51, 5.0),
    title="P",
    range=_share,
    domain=((0.4, 6.0), (0.2, 8.0)),
    public="special.gammainc",
    doc="P(a, x) = ∫₀ˣ t^(a − 1)·e⁻ᵗ dt/Γ(a), the regularised lower incomplete gamma function.",
)
gammaincc = elementwise(
    "gammaincc",
    lambda a, x: evaluated(_upper, a, x),
    like=np.logaddexp,
    sympy=lambda S, a, x: S.uppergamma(a, x) / S.gamma(a),
    partials=lambda y, a, x: _negative_slopes(a, x),
    lower=lambda b, a, x: b.called(_upper, a, x),
    cost=3000.0,
    ulp=(0.51, 5.0),
    title="Q",
    range=_share,
    domain=((0.4, 6.0), (0.2, 8.0)),
    public="special.gammaincc",
    doc="Q(a, x) = 1 − P(a, x), the regularised upper incomplete gamma function; accurate where it is small.",
)
gammaincinv = elementwise(
    "gammaincinv",
    lambda a, p: evaluated(_inverse_lower, a, p),
    like=np.logaddexp,
    sympy=None,
    partials=lambda y, a, p: _inverse_slopes(y, a, 1.0),
    lower=lambda b, a, p: b.called(_inverse_lower, a, p),
    cost=20000.0,
    ulp=(0.51, 5.0),
    scale=lambda a, p: _steep(a, p, False),
    range=_place,
    domain=((0.5, 6.0), (0.1, 0.9)),
    public="special.gammaincinv",
    doc="The x with P(a, x) = p.",
)
gammainccinv = elementwise(
    "gammainccinv",
    lambda a, q: evaluated(_inverse_upper, a, q),
    like=np.logaddexp,
    sympy=None,
    partials=lambda y, a, q: _inverse_slopes(y, a, -1.0),
    lower=lambda b, a, q: b.called(_inverse_upper, a, q),
    cost=20000.0,
    ulp=(0.51, 5.0),
    scale=lambda a, q: _steep(a, q, True),
    range=_place,
    domain=((0.5, 6.0), (0.1, 0.9)),
    public="special.gammainccinv",
    doc="The x with Q(a, x) = q.",
)
