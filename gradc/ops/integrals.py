"""Integrals of elementary functions: Ei, Eₙ, sine and cosine integrals, Spence's function, and quotients like sin x/x.

Enters and leaves: as for all elementwise ops; computed in float64, as `gradc.ops.written` describes.
Invariant: what has a logarithm at 0 is that logarithm and an entire function there, and its asymptotic form far off;
quotients that are smooth where their denominator is 0 are families closed under differentiation, fitted by themselves
there.  Near zeros of Ei the error is relative, too; near those of the cosine integrals as
large as that of their terms.
Start reading at `_expi`.

References: Abramowitz & Stegun, Handbook of Mathematical Functions, 5.1, 5.2, 27.7; DLMF 8.20(ii) for large orders.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np

from gradc.node import OPS, Node
from gradc.ops.curves import EI_END, EI_ROOT, SINE_END
from gradc.ops.elementwise import apply, elementwise
from gradc.ops.error_functions import derivative_of
from gradc.ops.fits import on, table
from gradc.ops.ranges import INF, Hazard, Range, bounded
from gradc.ops.record import Sample
from gradc.ops.written import Number, evaluated, grown, polynomial

EULER = 0.5772156649015329
POSITIVE = ((0.3, 4.0),)
#: from this order on Eₙ is its asymptotic form for large orders, and nothing is fitted; beyond the other one orders
#: are no longer told apart
LARGE_ORDER, LARGEST_EXPN = 30, 2**53


def _of_positive(y: Node, x: Range) -> Range:
    return Range(hazard=max(x.hazard, Hazard.GROWTH)).defined(x.lo > 0)


# -- exponential integrals ---------------------------------------------------------------------------------------------


def _e1(m: Any, x: Number) -> Number:
    """E₁(x) for x > 0."""
    near = (-EULER - m.log(x)) + x * on(m, -x, table("integral_ein"))
    inverse = 1.0 / x
    far = m.exp(-x) * (inverse * on(m, inverse, table("integral_enfar", 1)))
    return m.where(x < 0.25, near, m.where(x < 1.0, on(m, x, table("integral_e1")), far))


def _ei(m: Any, x: Number) -> Number:
    """Ei(x) for x > 0: up to 1 by the distance from its zero."""
    first = (EULER + m.log(x)) + x * on(m, x, table("integral_ein"))
    gap = (x - EI_ROOT[0]) - EI_ROOT[1]
    second = m.log1p(gap * (1 / EI_ROOT[0])) + gap * on(m, x, table("integral_eiroot"))
    inverse = 1.0 / x
    scaled = m.where(x < EI_END, on(m, x, table("integral_ei")), on(m, EI_END * inverse, table("integral_eifar")))
    third = m.where(x < INF, grown(m, x, scaled * inverse), x)
    return m.where(x < 0.25, first, m.where(x < 1.0, second, third))


def _expi(m: Any, x: Number) -> Number:
    size = m.abs(x)
    right = _ei(m, size)
    value = m.choose(x < 0.0, lambda size: -_e1(m, size), right, [size])
    return m.where(x == x, value, x)


def _exp1(m: Any, x: Number) -> Number:
    return m.where(x >= 0.0, _e1(m, m.abs(x)), math.nan)


expi = elementwise(
    "expi",
    lambda x: evaluated(_expi, x),
    sympy=lambda S, x: S.Ei(x),
    partials=lambda y, x: (apply(OPS["growth_quotient"], x, n=0, even=False),),
    lower=lambda b, x: b.written(_expi, x),
    cost=100.0,
    ulp=4.0,
    title="Ei",
    range=lambda y, x: Range(hazard=max(x.hazard, Hazard.GROWTH)).defined(x.lo > 0 or x.hi < 0),
    domain=POSITIVE,
    special={INF: INF, -INF: 0.0},
    public="special.expi",
    doc="The exponential integral Ei(x), the principal value of ∫ eᵗ/t dt from −∞ to x.",
)
exp1 = elementwise(
    "exp1",
    lambda x: evaluated(_exp1, x),
    sympy=lambda S, x: S.expint(1, x),
    partials=lambda y, x: (-expn_node(0, x),),
    lower=lambda b, x: b.written(_exp1, x),
    cost=60.0,
    ulp=4.0,
    title="E₁",
    range=_of_positive,
    domain=POSITIVE,
    special={0.0: -INF, INF: 0.0},
    public="special.exp1",
    doc="The exponential integral E₁(x) = ∫ e⁻ˣᵗ/t dt from 1 to ∞; NaN for x < 0.",
)


@cache
def _uniform_terms(count: int) -> tuple[tuple[int, ...], ...]:
    """Aₖ(λ)/(1 + λ)²ᵏ of DLMF 8.20.4 for k < ``count`` as polynomials in t = 1/(1 + λ), the lowest power first."""
    numerator, found = [1], []
    for k in range(count):
        terms = [0] * (2 * k + 1)
        for j, c in enumerate(numerator):  # λʲ = (1 − t)ʲ/tʲ
            for i in range(j + 1):
                terms[2 * k - j + i] += (-1) ** i * math.comb(j, i) * c
        found.append(tuple(terms))
        following = [0] * (len(numerator) + 1)
        for j, c in enumerate(numerator):  # (1 − 2kλ)·Aₖ + λ(λ + 1)·Aₖ′
            following[j] += (1 + j) * c
            following[j + 1] += (j - 2 * k) * c
        numerator = following
    return tuple(found)


@cache
def _uniform_series(n: int) -> tuple[float, ...]:
    """Σ Aₖ/(1 + λ)²ᵏ/nᵏ as one polynomial in t, the highest power first.

    In 0 <= t <= 1 the terms stay below k!/3ᵏ or 1; the sum ends before the first one that is below 2⁻⁵⁸ by that.
    """
    count = next(k for k in range(1, n) if max(math.factorial(k), 3**k) << 58 < (3 * n) ** k)
    total = [Fraction(0)] * (2 * count - 1)
    for k, terms in enumerate(_uniform_terms(count)):
        for j, c in enumerate(terms):
            total[j] += Fraction(c, n**k)
    return tuple(map(float, reversed(total)))


def _expn_of_large_order(m: Any, x: Number, n: int) -> Number:
    """DLMF 8.20.2 in λ = x/n: e⁻ˣ/(x + n)·Σ Aₖ/(1 + λ)²ᵏ/nᵏ, uniformly in x >= 0."""
    sum_ = x + float(n)
    value = m.exp(-x) / sum_ * polynomial(n / sum_, _uniform_series(n))
    return m.where(x >= 0.0, m.where(x == 0.0, 1 / (n - 1), value), math.nan)


def _expn(m: Any, x: Number, n: int) -> Number:
    if n == 1:
        return _exp1(m, x)
    if n >= LARGE_ORDER:
        return _expn_of_large_order(m, x, n)
    inverse = 1.0 / x
    far = m.exp(-x) * inverse
    if n == 0:
        return m.where(x >= 0.0, m.where(x == 0.0, INF, far), math.nan)
    far = far * on(m, inverse, table("integral_enfar", n))
    power = m.log(m.where(x == 0.0, 1.0, x)) * (1 / math.factorial(n - 1))
    for _ in range(n - 1):
        power = power * -x
    near = on(m, x, table("integral_en", n)) - power
    near = m.where(x == 0.0, 1 / (n - 1), near)
    return m.where(x >= 0.0, m.where(x < 1.0, near, far), math.nan)


expn = elementwise(
    "expn",
    lambda x, n: evaluated(_expn, x, n=n),
    sympy=lambda S, x, n: S.expint(n, x),
    partials=lambda y, x, n: (-expn_node(n - 1, x) if n else -(1 + 1 / x) * y,),
    lower=lambda b, x, n: b.written(_expn, x, n=n),
    samples=(Sample(((),), {"n": 2}),),
    cost=60.0,
    ulp=4.0,
    title="E{n:below}",
    range=_of_positive,
    domain=POSITIVE,
    special={0.0: -INF, INF: 0.0},
    public=False,
    doc="The exponential integral Eₙ(x) = ∫ e⁻ˣᵗ/tⁿ dt from 1 to ∞; n from 0 to 2⁵³ is static.",
)


def expn_node(n: int, x: Node) -> Node:
    """Eₙ(x)."""
    return apply(OPS["exp1"], x) if n == 1 else apply(OPS["expn"], x, n=n)


# -- sine and cosine integrals -----------------------------------------------------------------------------------------


def _auxiliaries(m: Any, x: Number) -> tuple[Number, Number]:
    """f and g of A&S 5.2.6 and 5.2.7."""
    inverse = 1.0 / x
    v = inverse * SINE_END
    square = v * v
    return inverse * on(m, square, table("integral_f")), inverse * inverse * on(m, square, table("integral_g"))


def _sine_integral(m: Any, x: Number) -> Number:
    size = m.abs(x)
    f, g = _auxiliaries(m, size)
    near = x * on(m, size, table("integral_si"))
    bounded_size = m.where(size < 1e300, size, 0.0)
    rest = f * m.cos(bounded_size) + g * m.sin(bounded_size)
    far = m.copysign(math.pi / 2 - rest, x)
    return m.where(size < SINE_END, near, m.where(x == x, far, x))


def _cosine_integral(m: Any, x: Number) -> Number:
    size = m.abs(x)
    f, g = _auxiliaries(m, size)
    near = (EULER + m.log(size)) + size * size * on(m, size, table("integral_cin"))
    middle = on(m, size, table("integral_ci"))
    bounded_size = m.where(size < 1e300, size, 0.0)
    far = f * m.sin(bounded_size) - g * m.cos(bounded_size)
    far = m.where(x == -INF, math.nan, m.where(x == x, far, x))
    return m.where(size < 2.0, near, m.where(size < SINE_END, middle, far))


def _hyperbolic_sine_integral(m: Any, x: Number) -> Number:
    size = m.abs(x)
    near = x * on(m, size, table("integral_shi"))
    far = m.copysign(0.5 * (_ei(m, size) + _e1(m, size)), x)
    return m.where(size < 2.0, near, m.where(x == x, far, x))


def _hyperbolic_cosine_integral(m: Any, x: Number) -> Number:
    size = m.abs(x)
    near = (EULER + m.log(size)) + size * size * on(m, size, table("integral_chin"))
    far = 0.5 * (_ei(m, size) - _e1(m, size))
    return m.where(size < 2.0, near, m.where(x == x, far, x))


def _terms_of_cosine_integral(x: Any) -> Any:
    """Near zeros what counts is the size of the terms."""
    size = np.abs(x)
    return np.where(size < 2, 1.0, 1 / size)


def _integral(
    name: str, algorithm: Callable[..., Any], sympy: str, slope: Callable[[Node], Any], title: str, doc: str,
    **facets: Any,
) -> None:  # fmt: skip
    elementwise(
        name,
        lambda x: evaluated(algorithm, x),
        sympy=lambda S, x: getattr(S, sympy)(x),
        partials=lambda y, x: (slope(x),),
        lower=lambda b, x: b.written(algorithm, x),
        cost=80.0,
        ulp=4.0,
        title=title,
        public=False,
        doc=doc,
        **facets,
    )


_integral(
    "sine_integral", _sine_integral, "Si", lambda x: quotient(x, False), "Si",
    "The sine integral ∫ sin(t)/t dt from 0 to x.",
    range=lambda y, x: x.within(-1.8520, 1.8520), special={INF: 0.0, -INF: 0.0},
)  # fmt: skip
_integral(
    "cosine_integral", _cosine_integral, "Ci", lambda x: apply(OPS["cos_quotient"], x), "Ci",
    "The cosine integral γ + log |x| + ∫ (cos(t) − 1)/t dt from 0 to x.",
    range=lambda y, x: bounded(-INF, 1.0, min(x.hazard, Hazard.NAN)).defined(x.lo > 0),
    scale=_terms_of_cosine_integral, domain=POSITIVE,
)  # fmt: skip
_integral(
    "hyperbolic_sine_integral", _hyperbolic_sine_integral, "Shi", lambda x: quotient(x, True), "Shi",
    "The hyperbolic sine integral ∫ sinh(t)/t dt from 0 to x.",
    range=lambda y, x: Range(hazard=max(x.hazard, Hazard.GROWTH)), special={INF: INF, -INF: INF},
)  # fmt: skip
_integral(
    "hyperbolic_cosine_integral", _hyperbolic_cosine_integral, "Chi",
    lambda x: apply(OPS["growth_quotient"], x, n=0, even=True), "Chi",
    "The hyperbolic cosine integral γ + log |x| + ∫ (cosh(t) − 1)/t dt from 0 to x.",
    range=_of_positive, scale=lambda x: np.where(np.abs(x) < 2, 1.0, 0.0), domain=POSITIVE,
    special={INF: INF, -INF: -INF},
)  # fmt: skip

# -- quotients that are smooth at 0 ------------------------------------------------------------------------------------


def _quotient(m: Any, x: Number, n: int, hyperbolic: bool) -> Number:
    """The n-th derivative of sin x/x or sinh x/x; from 4 + n on by x·f⁽ⁿ⁾ + n·f⁽ⁿ⁻¹⁾ = sin⁽ⁿ⁾ x."""
    size = m.abs(x)
    near = on(m, size, table("integral_quotient", n, hyperbolic))
    near = near * x if n % 2 else near
    inverse = 1.0 / size
    if hyperbolic:
        small = m.exp(-2.0 * size)
        waves = [0.5 - 0.5 * small, 0.5 + 0.5 * small]  # over eˣ
    else:
        reach = m.where(size < INF, size, 0.0)
        waves = [m.sin(reach), m.cos(reach), -m.sin(reach), -m.cos(reach)]
    value = waves[0] * inverse
    for k in range(1, n + 1):
        value = (waves[k % len(waves)] - k * value) * inverse
    if hyperbolic:
        value = m.where(size < INF, grown(m, size, value), size)
    far = m.where(x < 0.0, -value, value) if n % 2 else value
    return m.where(size < 4.0 + n, near, m.where(x == x, far, x))


def _quotient_sympy(S: Any, x: Any, n: int, hyperbolic: bool) -> Any:
    return derivative_of(S, lambda t: (S.sinh if hyperbolic else S.sin)(t) / t, x, n)


wave_quotient = elementwise(
    "wave_quotient",
    lambda x, n, hyperbolic: evaluated(_quotient, x, n=n, hyperbolic=hyperbolic),
    sympy=_quotient_sympy,
    partials=lambda y, x, n, hyperbolic: (apply(OPS["wave_quotient"], x, n=n + 1, hyperbolic=hyperbolic),),
    lower=lambda b, x, n, hyperbolic: b.written(_quotient, x, n=n, hyperbolic=hyperbolic),
    samples=(Sample(((),), {"n": 0, "hyperbolic": False}),),
    cost=60.0,
    ulp=4.0,
    scale=lambda x, n, hyperbolic: 0.0 if hyperbolic else 1 / (1 + np.abs(x)),
    range=lambda y, x: Range(hazard=max(x.hazard, Hazard.GROWTH)) if y.attrs["hyperbolic"] else x.within(-1.0, 1.0),
    public=False,
    special={INF: 0.0, -INF: 0.0},
    doc="The n-th derivative of sin(x)/x or sinh(x)/x, smooth at 0; n is static.",
)


def quotient(x: Node, hyperbolic: bool) -> Node:
    """sin x/x, or sinh x/x."""
    return apply(OPS["wave_quotient"], x, n=0, hyperbolic=hyperbolic)


def _moment(m: Any, x: Number, n: int) -> Number:
    """∫₀¹ tⁿ·eˣᵗ dt; beyond 4 + n by x·Mₙ + n·Mₙ₋₁ = eˣ."""
    left, inverse = x < 0.0, 1.0 / x
    falling = m.exp(-m.abs(x))
    power = m.where(left, falling, 1.0)  # over eˣ for x > 0
    value = m.where(left, falling - 1.0, 1.0 - falling) * inverse
    for k in range(1, n + 1):
        value = (power - k * value) * inverse
    value = m.where(left, value, grown(m, x, value))
    value = m.where(x == INF, x, m.where(x == -INF, 0.0, value))
    return m.where(m.abs(x) < 4.0 + n, on(m, x, table("integral_moment", n)), value)


def _moment_sympy(S: Any, x: Any, n: int) -> Any:
    return derivative_of(S, lambda t: (S.exp(t) - 1) / t, x, n)


exprel = elementwise(
    "exprel",
    lambda x, n: evaluated(_moment, x, n=n),
    sympy=_moment_sympy,
    partials=lambda y, x, n: (apply(OPS["exprel"], x, n=n + 1),),
    lower=lambda b, x, n: b.written(_moment, x, n=n),
    samples=(Sample(((),), {"n": 0}),),
    cost=50.0,
    ulp=4.0,
    title="exprel{n:primes}",
    scale=lambda x, n: 0.2 * n * np.abs(evaluated(_moment, x, n=n)),
    range=lambda y, x: bounded(0.0, INF, max(x.hazard, Hazard.GROWTH)),
    public=False,
    special={INF: INF, -INF: 0.0},
    doc="The n-th derivative of (eˣ − 1)/x, ∫ tⁿ·eˣᵗ dt from 0 to 1; n is static.",
)

# -- quotients with a pole at 0 and limits at ±∞ --------------------------------------------------------------------


def _growth_quotient(m: Any, x: Number, n: int, even: bool) -> Number:
    """The n-th derivative of eˣ/x or cosh x/x, over eˣ by x·f⁽ⁿ⁾ + n·f⁽ⁿ⁻¹⁾ = eˣ or the like."""
    size = m.abs(x) if even else x
    inverse = 1.0 / size
    small = m.exp(-2.0 * size) if even else m.constant(0.0, x)
    waves = [0.5 * (1.0 + small), 0.5 * (1.0 - small)] if even else [m.constant(1.0, x)]
    value = waves[0] * inverse
    for k in range(1, n + 1):
        value = (waves[k % len(waves)] - k * value) * inverse
    value = m.where(size == INF, size, grown(m, size, value))
    return m.where(x == m.abs(x), value, -value) if even and n % 2 == 0 else value


def _cos_quotient(m: Any, x: Number) -> Number:
    near = m.where(m.abs(x) < INF, x, 1.0)
    return m.where(m.abs(x) < INF, m.cos(near) / near, m.where(x == x, 0.0, x))


growth_quotient = elementwise(
    "growth_quotient",
    lambda x, n, even: evaluated(_growth_quotient, x, n=n, even=even),
    sympy=lambda S, x, n, even: derivative_of(S, lambda t: (S.cosh if even else S.exp)(t) / t, x, n),
    partials=lambda y, x, n, even: (apply(OPS["growth_quotient"], x, n=n + 1, even=even),),
    lower=lambda b, x, n, even: b.written(_growth_quotient, x, n=n, even=even),
    samples=(Sample(((),), {"n": 0, "even": False}),),
    cost=30.0,
    ulp=4.0,
    scale=lambda x, n, even: n * np.exp(np.minimum(np.abs(x), 700)) / np.abs(x) ** (n + 1),
    range=lambda y, x: Range(hazard=Hazard.POLE),
    domain=POSITIVE,
    special={INF: INF, -INF: 0.0},
    public=False,
    doc="The n-th derivative of eˣ/x, or of the odd function cosh(x)/x; n is static.",
)
cos_quotient = elementwise(
    "cos_quotient",
    lambda x: evaluated(_cos_quotient, x),
    sympy=lambda S, x: S.cos(x) / x,
    partials=lambda y, x: (-quotient(x, False) - y / x,),
    lower=lambda b, x: b.written(_cos_quotient, x),
    cost=30.0,
    ulp=4.0,
    range=lambda y, x: Range(hazard=Hazard.POLE),
    domain=POSITIVE,
    special={INF: 0.0, -INF: 0.0},
    public=False,
    doc="cos(x)/x, 0 at ±∞.",
)

# -- Spence's function -------------------------------------------------------------------------------------------------
_BASEL = (math.pi**2 / 6, 3.8e-17)


def _log_quotient(m: Any, x: Number, n: int) -> Number:
    """(−1)ⁿ·dⁿ/dxⁿ log x/(x − 1): outside of [½, 12) by (x − 1)·L⁽ⁿ⁾ + n·L⁽ⁿ⁻¹⁾ = log⁽ⁿ⁾ x."""
    near, gap, inverse = on(m, x, table("integral_logquotient", n)), 1.0 / (x - 1.0), 1.0 / x
    value, power = m.log(x) * gap, m.constant(1.0, x)
    for k in range(1, n + 1):
        power = power * inverse
        value = (k * value - math.factorial(k - 1) * power) * gap
    value = m.where(x == INF, 0.0, m.where(x == 0.0, INF, value))
    value = m.where(x < 0.0, math.nan, value)
    beyond = on(m, x, table("integral_logquotientfar", n))
    return m.where((x >= 0.5) & (x < 12.0), m.where(x < 2.0, near, beyond), value)


def _signed_log_quotient(m: Any, x: Number, n: int) -> Number:
    value = _log_quotient(m, x, n)
    return -value if n % 2 else value


log_quotient = elementwise(
    "log_quotient",
    lambda x, n: evaluated(_signed_log_quotient, x, n=n),
    sympy=lambda S, x, n: derivative_of(S, lambda t: S.log(t) / (t - 1), x, n),
    partials=lambda y, x, n: (apply(OPS["log_quotient"], x, n=n + 1),),
    lower=lambda b, x, n: b.written(_signed_log_quotient, x, n=n),
    samples=(Sample(((),), {"n": 0}),),
    cost=60.0,
    ulp=4.0,
    scale=lambda x, n: math.factorial(n) / np.abs(x) ** (n + 1) if n else 0.0,
    range=_of_positive,
    domain=POSITIVE,
    public=False,
    special={0.0: -INF, INF: 0.0},
    doc="The n-th derivative of log(x)/(x − 1), smooth at 1; n is static.",
)


def _spence(m: Any, x: Number) -> Number:
    """Li₂(1 − x) by its quotient from ½ to 2, by reflection below and by inversion above (A&S 27.7.3, 27.7.5)."""
    inverted = x >= 2.0
    y = m.where(inverted, 1.0 / x, x)
    low = y < 0.5
    z = m.where(low, 1.0 - y, y)
    near = (1.0 - z) * on(m, z, table("integral_spence"))
    rest = m.where(inverted, m.log(m.where(inverted, 1.0 - y, 1.0)), 0.0)
    logarithm = m.log(m.where(y == 0.0, 1.0, y))
    complement = m.where(inverted, rest, m.log1p(-m.where(low, y, 0.0)))
    reflected = (_BASEL[0] - near) - logarithm * complement
    value = m.where(low, reflected, near)
    mirrored = -0.5 * logarithm * logarithm - value
    value = m.where(inverted, mirrored, value)
    value = m.where(x == INF, -x, value)
    return m.where(x >= 0.0, value, math.nan)


spence = elementwise(
    "spence",
    lambda x: evaluated(_spence, x),
    sympy=lambda S, x: S.polylog(2, 1 - x),
    partials=lambda y, x: (-apply(OPS["log_quotient"], x, n=0),),
    lower=lambda b, x: b.written(_spence, x),
    cost=80.0,
    ulp=4.0,
    range=lambda y, x: Range(-INF, math.pi**2 / 6, max(x.hazard, Hazard.ARITHMETIC)).defined(x.lo >= 0),
    domain=((0.2, 1.9),),
    public="special.spence",
    special={0.0: -INF, INF: 0.0},
    doc="Spence's function, the dilogarithm Li₂(1 − x) = −∫ log(t)/(t − 1) dt from 1 to x; NaN for x < 0.",
)
