"""Exponentials, logarithms, powers, trigonometric, hyperbolic and special functions.

Reference: Abramowitz & Stegun, Handbook of Mathematical Functions (derivatives: 4.2-4.6, 6.3, 7.1).
Bounds (`ulp`) are held by tests/test_elementary_*.py.  lgamma below −1/2 and digamma and polygamma below 0 have zeros
that no floating-point number hits: there the unit is that of the larger term of the reflection, or of 1.  That of
logaddexp counts in the last place of the larger operand, too, for the result may cancel; that of stumpff in the last
place of 1/k! near the zeros of sine and cosine, where what the rounding of √s does to them comes on top, up to √s/2.
Functions that NumPy lacks (erf, lgamma, …) have their reference meaning here, in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from gradc.node import OPS, Node
from gradc.ops.elementwise import apply, elementwise
from gradc.ops.ranges import INF, Hazard, Range, Zeros, bounded, union
from gradc.ops.record import Sample
from gradc.ops.rounding import finite_size

Array = np.ndarray[Any, Any]

Facet = Callable[..., Range]
POSITIVE = ((0.1, 4.0),)
UNIT = ((-0.9, 0.9),)


def _rises(function: Callable[[float], float], lo: float = -INF, hi: float = INF) -> Facet:
    return lambda y, x: x.rising(function, lo, hi)


def _grows(function: Callable[[float], float], lo: float) -> Facet:
    return lambda y, x: x.growing(function, lo)


def _within(lo: float, hi: float) -> Facet:
    return lambda y, *xs: union(xs).within(lo, hi)


def _rises_from(pole: float, function: Callable[[float], float]) -> Facet:
    """Of a function with its only singular point at ``pole``, undefined to the left."""
    return lambda y, x: x.rising(function).defined(x.lo > pole or (x.lo == pole == 0 and x.zeros is Zeros.NEVER))


def _swings(y: Node, x: Range) -> Range:
    """Of sin and cos, which are NaN at ±∞."""
    return bounded(-1.0, 1.0, min(x.hazard, Hazard.NAN))


def _of_sines(lo: float, hi: float) -> Facet:
    """Of the inverse of sin or cos, which is NaN outside [−1, 1]."""
    return lambda y, x: x.within(lo, hi).defined(x.size().hi <= 1, Hazard.NAN)


# -- exponentials and logarithms ---------------------------------------------------------------------------------------
exp = elementwise(
    "exp",
    partials=lambda y, x: (y,),
    ulp=1.1,
    range=_grows(math.exp, 0.0),
    special={INF: INF, -INF: 0.0},
)
exp2 = elementwise(
    "exp2",
    sympy=lambda S, x: 2**x,
    partials=lambda y, x: (y * math.log(2),),
    ulp=1.2,
    range=_grows(lambda v: 2.0**v, 0.0),
    special={INF: INF, -INF: 0.0},
)
expm1 = elementwise(
    "expm1",
    sympy=lambda S, x: S.exp(x) - 1,
    partials=lambda y, x: (y + 1,),
    ulp=(1.5, 1.6),
    range=_grows(math.expm1, -1.0),
    special={INF: INF, -INF: 0.0},
)
log = elementwise(
    "log",
    partials=lambda y, x: (1 / x,),
    ulp=1.0,
    range=_rises_from(0.0, math.log),
    domain=POSITIVE,
    special={0.0: INF, INF: 0.0},
)
log2 = elementwise(
    "log2",
    sympy=lambda S, x: S.log(x) / S.log(2),
    partials=lambda y, x: (1 / (x * math.log(2)),),
    ulp=(1.25, 1.15),
    range=_rises_from(0.0, math.log2),
    domain=POSITIVE,
    special={0.0: INF, INF: 0.0},
)
log10 = elementwise(
    "log10",
    sympy=lambda S, x: S.log(x) / S.log(10),
    partials=lambda y, x: (1 / (x * math.log(10)),),
    ulp=(1.4, 1.2),
    range=_rises_from(0.0, math.log10),
    domain=POSITIVE,
    special={0.0: INF, INF: 0.0},
)
log1p = elementwise(
    "log1p",
    sympy=lambda S, x: S.log(1 + x),
    partials=lambda y, x: (1 / (1 + x),),
    ulp=(1.15, 1.0),
    range=_rises_from(-1.0, math.log1p),
    domain=((-0.9, 4.0),),
    special={-1.0: INF, INF: 0.0},
)
logaddexp = elementwise(
    "logaddexp",
    sympy=lambda S, x, y: S.log(S.exp(x) + S.exp(y)),
    partials=lambda z, x, y: (_sigmoid_of(x, y), _sigmoid_of(y, x)),
    ulp=(2.5, 2.4),
    scale=lambda x, y: finite_size(x) + finite_size(y),
    range=lambda z, x, y: bounded(max(x.lo, y.lo), max(x.hi, y.hi) + 1, max(x.hazard, y.hazard)),
    special={(INF, INF): (0.5, 0.5), (-INF, -INF): (0.5, 0.5), (-INF, 1.0): (0.0, 1.0)},
)


def _sigmoid_of(x: Node, y: Node) -> Node:
    """eˣ/(eˣ + eʸ); equal infinities share it."""
    return apply(OPS["sigmoid"], apply(OPS["difference"], x, y))


xlogy = elementwise(
    "xlogy",
    lambda x, y: np.where((x == 0) & (y == y), x.dtype.type(0), x * np.log(y)),
    like=np.logaddexp,
    sympy=lambda S, x, y: x * S.log(y),
    partials=lambda z, x, y: (np.log(y), x / np.where((x == 0) & (y == 0), 1, y)),
    ulp=1.6,
    range=lambda z, x, y: x * _rises_from(0.0, math.log)(z, y),
    domain=((-3.0, 3.0), (0.1, 4.0)),
    special={(0.0, 0.0): (-INF, 0.0), (0.0, 1.0): (0.0, 0.0)},
    singular="log y in x, also at x = 0; 0 in y at x = y = 0",
    doc="x·log y, and 0 where x is 0 and y a number.",
)


# -- roots -------------------------------------------------------------------------------------------------------------
sqrt = elementwise(
    "sqrt",
    partials=lambda y, x: (0.5 / (y + 0.0),),  # of −0 the root is −0, and its slope +∞
    cost=4.0,
    light=True,
    ulp=0.5,
    range=lambda y, x: replace(x.rising(math.sqrt, 0.0), zeros=x.zeros).defined(x.lo >= 0, Hazard.NAN),
    domain=POSITIVE,
    special={0.0: INF, INF: 0.0},
    singular="+inf at 0",
)
rsqrt = elementwise(
    "rsqrt",
    lambda x: 1 / np.sqrt(x),
    sympy=lambda S, x: 1 / S.sqrt(x),
    partials=lambda y, x: (-0.5 * y / x,),
    cost=6.0,
    ulp=1.5,
    range=lambda y, x: (
        replace(x.rising(math.sqrt, 0.0), zeros=x.zeros).inverse().defined(x.lo >= 0 and x.zeros is Zeros.NEVER)
    ),
    domain=POSITIVE,
    doc="1/√x.",
    special={0.0: -INF, INF: 0.0},
)
cbrt = elementwise(
    "cbrt",
    sympy=lambda S, x: S.Piecewise((S.cbrt(x), x >= 0), (-S.cbrt(-x), True)),
    partials=lambda y, x: (np.square(1 / y) / 3,),
    ulp=(0.53, 0.505),
    range=lambda y, x: replace(x.rising(lambda v: math.copysign(abs(v) ** (1 / 3), v)), zeros=x.zeros),
    domain=((0.1, 4.0),),
    special={0.0: INF, INF: 0.0, -INF: 0.0},
    singular="+inf at 0",
)
hypot = elementwise(
    "hypot",
    sympy=lambda S, x, y: S.sqrt(x**2 + y**2),
    partials=lambda z, x, y: (apply(OPS["direction_cosine"], x, y), apply(OPS["direction_cosine"], y, x)),
    cost=8.0,
    ulp=1.25,
    range=lambda z, x, y: replace(x.size() + y.size(), lo=max(x.size().lo, y.size().lo)),
    special={(0.0, 0.0): (0.0, 0.0), (INF, 1.0): (1.0, 0.0), (1.0, -INF): (0.0, -1.0)},
    singular="0 at the origin",
)


# -- trigonometric and hyperbolic --------------------------------------------------------------------------------------
sin = elementwise(
    "sin",
    partials=lambda y, x: (np.cos(x),),
    ulp=1.6,
    range=_swings,
)
cos = elementwise(
    "cos",
    partials=lambda y, x: (-np.sin(x),),
    ulp=1.6,
    range=_swings,
)
tan = elementwise(
    "tan",
    partials=lambda y, x: (1 + y * y,),
    domain=((-1.2, 1.2),),
    ulp=1.8,
    range=lambda y, x: Range(hazard=max(x.hazard, Hazard.ARITHMETIC)),
)
arcsin = elementwise(
    "arcsin",
    sympy=lambda S, x: S.asin(x),
    partials=lambda y, x: (1 / np.sqrt((1 - x) * (1 + x)),),
    domain=UNIT,
    ulp=1.8,
    range=_of_sines(-math.pi / 2, math.pi / 2),
    special={1.0: INF, -1.0: INF},
)
arccos = elementwise(
    "arccos",
    sympy=lambda S, x: S.acos(x),
    partials=lambda y, x: (-1 / np.sqrt((1 - x) * (1 + x)),),
    domain=UNIT,
    ulp=1.4,
    range=_of_sines(0.0, math.pi),
    special={1.0: -INF, -1.0: -INF},
)
arctan = elementwise(
    "arctan",
    sympy=lambda S, x: S.atan(x),
    partials=lambda y, x: (apply(OPS["lorentzian"], x),),
    ulp=1.5,
    range=_within(-math.pi / 2, math.pi / 2),
    special={INF: 0.0, -INF: 0.0},
)
arctan2 = elementwise(
    "arctan2",
    sympy=lambda S, y, x: S.atan2(y, x),
    partials=lambda z, y, x: (apply(OPS["circle_inversion"], x, y), -apply(OPS["circle_inversion"], y, x)),
    domain=((0.3, 2.0), (-2.0, 2.0)),
    special={(0.0, 0.0): (0.0, 0.0), (INF, 1.0): (0.0, 0.0), (1.0, INF): (0.0, 0.0), (INF, INF): (0.0, 0.0)},
    ulp=1.8,
    singular="0 at the origin",
    range=_within(-math.pi, math.pi),
)


def _stumpff(s: Array, k: int, hyperbolic: bool) -> Array:
    """Σⱼ (∓s)ʲ/(k + 2j)!: as it is where its terms fall, then from cosine or sine by cₖ₊₂(s) = (1/k! − cₖ(s))/s."""
    wide = np.asarray(s, np.float64)
    signed = -wide if hyperbolic else wide
    near = np.polynomial.polynomial.polyval(-signed, [1 / math.factorial(k + 2 * j) for j in range(16)])
    r = np.sqrt(wide)
    if k % 2:
        far = (np.sinh(r) if hyperbolic else np.sin(r)) / r
    else:
        far = np.cosh(r) if hyperbolic else np.cos(r)
    for j in range(k % 2, k, 2):
        far = (1 / math.factorial(j) - far) / signed
    return np.asarray(np.where(wide > 4 * max(k, 1), far, np.where(wide < 0, np.nan, near)), s.dtype)


def _stumpff_sympy(S: Any, s: Any, k: int, hyperbolic: bool) -> Any:
    signed, r = (-s if hyperbolic else s), S.sqrt(s)
    if k % 2:
        value = (S.sinh(r) if hyperbolic else S.sin(r)) / r
    else:
        value = S.cosh(r) if hyperbolic else S.cos(r)
    for j in range(k % 2, k, 2):
        value = (S.Rational(1, math.factorial(j)) - value) / signed
    return value


def _stumpff_partials(y: Node, s: Node, k: int, hyperbolic: bool) -> tuple[Node]:
    """cₖ′ = (k·cₖ₊₂ − cₖ₊₁)/2."""
    one, two = (apply(OPS["stumpff"], s, k=k + j, hyperbolic=hyperbolic) for j in (1, 2))
    slope = (k * two - one) * 0.5 if k else one * -0.5
    return (-slope if hyperbolic else slope,)


def _stumpff_range(y: Node, s: Range) -> Range:
    """Between 0 and 1/k! from k = 1 on but for sin √s/√s; NaN for s < 0, and growing where it is hyperbolic."""
    hyperbolic, largest = y.attrs["hyperbolic"], 1 / math.factorial(y.attrs["k"])
    if hyperbolic:
        return bounded(0.0, INF, Hazard.GROWTH)
    return bounded(-largest, largest, max(min(s.hazard, Hazard.NAN), Hazard.NONE if s.lo >= 0 else Hazard.NAN))


stumpff = elementwise(
    "stumpff",
    _stumpff,
    sympy=_stumpff_sympy,
    partials=_stumpff_partials,
    lower=lambda b, s, k, hyperbolic: b.stumpff(s, k, hyperbolic),
    samples=(Sample(((),), {"k": 3, "hyperbolic": False}),),
    domain=((0.2, 9.0),),
    public=False,
    ulp=10.0,
    scale=lambda *xs, **attrs: 1.0,
    range=_stumpff_range,
    doc="Stumpff's cₖ(s) = Σⱼ (−s)ʲ/(k + 2j)!, or cₖ(−s), for s >= 0: c₀(s) = cos √s, c₁(s) = sin √s/√s, smooth at 0.",
)
sinh = elementwise(
    "sinh",
    partials=lambda y, x: (np.cosh(x),),
    ulp=(2.0, 2.4),
    range=_grows(math.sinh, -INF),
    special={INF: INF, -INF: INF},
)
cosh = elementwise(
    "cosh",
    partials=lambda y, x: (np.sinh(x),),
    ulp=1.5,
    range=lambda y, x: x.size().growing(math.cosh, 1.0),
    special={INF: INF, -INF: -INF},
)
tanh = elementwise(
    "tanh",
    partials=lambda y, x: (apply(OPS["tanh_slope"], x),),
    ulp=(1.4, 1.5),
    range=_within(-1.0, 1.0),
    special={INF: 0.0, -INF: 0.0},
)
arcsinh = elementwise(
    "arcsinh",
    sympy=lambda S, x: S.asinh(x),
    partials=lambda y, x: (1 / np.hypot(x, 1),),
    ulp=(1.9, 1.8),
    range=_rises(math.asinh),
    special={INF: 0.0, -INF: 0.0},
)
arccosh = elementwise(
    "arccosh",
    sympy=lambda S, x: S.acosh(x),
    partials=lambda y, x: (apply(OPS["rsqrt"], x - 1) * apply(OPS["rsqrt"], x + 1),),
    domain=((1.2, 4.0),),
    ulp=(2.5, 2.3),
    range=lambda y, x: x.rising(math.acosh, 0.0).defined(x.lo >= 1, Hazard.NAN),
    special={1.0: INF, INF: 0.0},
)
arctanh = elementwise(
    "arctanh",
    sympy=lambda S, x: S.atanh(x),
    partials=lambda y, x: (1 / ((1 - x) * (1 + x)),),
    domain=UNIT,
    ulp=2.2,
    range=lambda y, x: Range(hazard=x.hazard).defined(x.size().hi < 1),
    special={1.0: INF, -1.0: INF},
)

# -- activations that are worth their own stable arithmetic ------------------------------------------------------------


def _stable_sigmoid(x: Array) -> Array:
    small = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1 / (1 + small), small / (1 + small)), dtype=x.dtype)


sigmoid = elementwise(
    "sigmoid",
    _stable_sigmoid,
    sympy=lambda S, x: 1 / (1 + S.exp(-x)),
    partials=lambda y, x: (y * apply(OPS["sigmoid"], -x),),
    ulp=2.0,
    title="σ",
    doc="1/(1 + e⁻ˣ), the logistic function.",
    range=_within(0.0, 1.0),
    special={INF: 0.0, -INF: 0.0},
)
softplus = elementwise(
    "softplus",
    lambda x: np.asarray(np.logaddexp(x, x.dtype.type(0)), dtype=x.dtype),
    sympy=lambda S, x: S.log(1 + S.exp(x)),
    partials=lambda y, x: (apply(OPS["sigmoid"], x),),
    ulp=(1.95, 1.8),
    doc="log(1 + eˣ).",
    range=lambda y, x: bounded(max(x.lo, 0.0), max(x.hi, 0.0) + 1, x.hazard),
    special={INF: 1.0, -INF: 0.0},
)

# -- special functions -------------------------------------------------------------------------------------------------


def _by_element(function: Callable[[float], float]) -> Callable[[Array], Array]:
    def evaluate(x: Array) -> Array:
        x = np.asarray(x)
        flat = [function(float(v)) for v in x.reshape(-1)]
        return np.array(flat, np.float64).astype(x.dtype).reshape(x.shape)

    return evaluate


_BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510, 43867 / 798)  # B2, B4, …
_DIGAMMA_ROOT = (1.4616321449683622, 9.549995429965697e-17)  # the positive zero of ψ: the nearest number and the rest


def _polygamma(x: Array, n: int) -> Array:
    """ψ⁽ⁿ⁾(x) in float64: a sum and an asymptotic series for x ≥ 0, reflection for x < 0 (A&S 6.4.7).

    At 0 the sign of the zero decides between the infinities; at a negative integer an odd n gives +∞ and an even n NaN,
    because the two sides differ.
    """
    wide = np.asarray(x, np.float64)
    reflected = wide < 0
    y = np.where(reflected, 1 - wide, wide)
    right = _digamma_right(y) if n == 0 else _polygamma_right(y, n)
    left = (right if n % 2 == 0 else -right) - _cotangent_derivative(wide, n)
    return np.asarray(np.where(reflected, left, right), x.dtype)


def _polygamma_right(x: Array, n: int) -> Array:
    """(−1)ⁿ⁺¹·n!·Σ 1/(x + k)ⁿ⁺¹: the first terms as they are, the rest by 6.4.11. All terms have one sign."""
    count = 20 + n
    total = sum((x + k) ** -float(n + 1) for k in reversed(range(1, count))) + x ** -float(n + 1)
    y = x + count
    series = sum(
        b * math.comb(2 * k + n - 1, n - 1) * y ** -float(2 * k) for k, b in reversed([*enumerate(_BERNOULLI, 1)])
    )
    rest = math.factorial(n - 1) * (1 + (n / (2 * y) + series)) * y ** -float(n - 1) / y
    return np.asarray((-1) ** (n + 1) * (math.factorial(n) * total + rest))


def _digamma_right(x: Array) -> Array:
    """ψ(x) = ψ(x) − ψ(root): 6.3.16 for the first terms and 6.3.18 for the rest, both as differences with the factor
    x − root, so that the result is accurate where it is small."""
    root, count = _DIGAMMA_ROOT[0], 20
    gap = (x - root) - _DIGAMMA_ROOT[1]
    y, z = x + count, root + count
    logarithm = np.log1p(gap / z)
    series = sum(b / (2 * k) * z ** (-2 * k) * np.expm1(-2 * k * logarithm) for k, b in enumerate(_BERNOULLI, 1))
    rest = gap / z / y / 2 + (logarithm - series)
    total = sum(gap / (root + k) / (x + k) for k in reversed(range(1, count))) + gap / root / x
    return np.where(np.isinf(x), x, total + rest)


def _cotangent_derivative(x: Array, n: int) -> Array:
    """π·dⁿ/dxⁿ cot πx = (−1)ⁿ·πⁿ⁺¹·R(cos πx)/sinⁿ⁺¹ πx, where R₀ = c and Rₙ = (1 − c²)·Rₙ₋₁′ + n·c·Rₙ₋₁."""
    cosine = numerator = np.polynomial.Polynomial([0.0, 1.0])
    for m in range(1, n + 1):
        numerator = (1 - cosine * cosine) * numerator.deriv() + m * cosine * numerator
    turn = x - np.rint(x)
    rising, falling = np.sin(np.pi * np.abs(turn)), np.sin(np.pi * (0.5 - np.abs(turn)))
    value = (-math.pi) ** n * math.pi * numerator(falling) * np.copysign(rising, turn) ** -float(n + 1)
    return np.where((turn == 0) & (n % 2 == 0), np.nan, value)


def _lgamma(x: Array) -> Array:
    """log |Γ(x)| in float64, by reflection for x < 0 (A&S 6.1.17); at −∞, where there is no limit, SciPy's −∞."""
    wide = np.asarray(x, np.float64)
    size = np.abs(wide)
    right = _lgamma_right(size)
    sine = np.sin(np.pi * np.abs(size - np.rint(size)))
    left = np.where(sine == 0, np.inf, -np.log(size) - np.log(sine / np.pi) - right)
    return np.asarray(np.where(wide < 0, np.where(np.isinf(wide), wide, left), right), x.dtype)


def _lgamma_right(x: Array) -> Array:
    """x = 2 + e + m with |e| ≤ 3/4: log Γ(2 + e) by its Taylor series, and |m| factors; from 10 on 6.1.41."""
    near = np.where(x < 10, x, 2.0)
    m = np.where((near >= 1.25) & (near < 1.5), 0, np.floor(near - 1.5))
    factors = math.prod(np.where(m >= k, near - k, 1.0) for k in range(1, 9))
    divisors = np.where(m < 0, near, 1.0) * np.where(m < -1, near + 1, 1.0)
    bend = np.polynomial.polynomial.polyval(near - (m + 2), _lgamma_at_two())
    series = sum(b / (2 * k * (2 * k - 1)) * x ** -float(2 * k - 1) for k, b in enumerate(_BERNOULLI, 1))
    far = (x - 0.5) * (np.log(x) - 1) + ((math.log(2 * math.pi) - 1) / 2 + series)
    return np.where(x < 10, bend + np.log(factors) - np.log(divisors), far)


@cache
def _lgamma_at_two() -> tuple[float, ...]:
    """Taylor coefficients of log Γ at 2, where it is 0: ψ⁽ᵏ⁻¹⁾(2)/k!."""
    two = np.array(2.0)
    derivatives = [_digamma_right(two), *(_polygamma_right(two, n) for n in range(1, 40))]
    return (0.0, *(float(value) / math.factorial(k) for k, value in enumerate(derivatives, 1)))


def _of_positive(y: Node, x: Range) -> Range:
    return Range(hazard=max(x.hazard, Hazard.GROWTH)).defined(x.lo > 0)


erf = elementwise(
    "erf",
    _by_element(math.erf),
    partials=lambda y, x: (apply(OPS["gaussian"], x, n=0) * (2 / math.sqrt(math.pi)),),
    ulp=1.4,
    doc="Error function.",
    range=_within(-1.0, 1.0),
    special={INF: 0.0, -INF: 0.0},
)
erfc = elementwise(
    "erfc",
    _by_element(math.erfc),
    partials=lambda y, x: (apply(OPS["gaussian"], x, n=0) * (-2 / math.sqrt(math.pi)),),
    ulp=2.6,
    doc="1 − erf.",
    range=_within(0.0, 2.0),
    special={INF: 0.0, -INF: 0.0},
)


def _erfinv(x: float) -> float:
    """From the leading term by Newton's method on log erfc near ±1, where the root is well conditioned, else on erf."""
    size = abs(x)
    if not size < 1:
        return math.copysign(math.inf, x) if size == 1 else math.nan
    if size < 0.5:
        y = 0.9 * size
        for _ in range(6):
            y -= (math.erf(y) - size) * math.sqrt(math.pi) / 2 * math.exp(y * y)
        return math.copysign(y, x)
    rest = 1 - size
    y = math.sqrt(-math.log(rest * (1 + size)))
    for _ in range(8):
        y += math.log(math.erfc(y) / rest) * math.erfc(y) * math.sqrt(math.pi) / 2 * math.exp(y * y)
    return math.copysign(y, x)


erfinv = elementwise(
    "erfinv",
    _by_element(_erfinv),
    partials=lambda y, x: (math.sqrt(math.pi) / 2 * np.exp(np.square(y)),),
    ulp=4.0,
    doc="The inverse of erf.",
    range=lambda y, x: Range(hazard=x.hazard).defined(x.size().hi < 1),
    domain=UNIT,
    special={1.0: INF, -1.0: INF},
    singular="+inf at ±1",
    public="special.erfinv",
)


def _erfcinv(x: float) -> float:
    """By `_erfinv`, and below 1/2 by Newton's method on log erfc."""
    if x == 0 or not x > 0:
        return math.inf if x == 0 else math.nan
    if x >= 0.5:
        return _erfinv(1 - x)
    y = math.sqrt(-math.log(x * (2 - x)))
    for _ in range(60):
        ratio = _log_erfc(y) - math.log(x)
        step = ratio * _erfcx(y) * math.sqrt(math.pi) / 2
        y += step
        if abs(step) <= 1e-17 * y:
            break
    return y


def _log_erfc(x: float) -> float:
    """For x > 0."""
    return math.log(_erfcx(x)) - x * x


def _erfcx(x: float) -> float:
    """e^(x²)·erfc x: as it stands, and from 9 on by its continued fraction (A&S 7.1.14)."""
    if x < 9:
        head = round(x * 2.0**20) / 2.0**20 if x > -27 else -27.0  # whose square is exact
        return math.exp(head * head) * math.erfc(x) * math.exp((x - head) * (x + head)) if x > -26.65 else math.inf
    rest = 0.0
    for k in range(40, 0, -1):
        rest = k / 2 / (x + rest)
    return 1 / (x + rest) / math.sqrt(math.pi)


erfcinv = elementwise(
    "erfcinv",
    _by_element(_erfcinv),
    partials=lambda y, x: (-math.sqrt(math.pi) / 2 * np.exp(np.square(y)),),
    ulp=4.0,
    doc="The inverse of erfc.",
    range=lambda y, x: Range(hazard=x.hazard).defined(x.lo > 0 and x.hi < 2),
    domain=((0.1, 1.9),),
    special={0.0: -INF, 2.0: -INF},
    singular="-inf at 0 and 2",
    public="special.erfcinv",
)
lgamma = elementwise(
    "lgamma",
    _lgamma,
    sympy=lambda S, x: S.loggamma(x),
    partials=lambda y, x: (apply(OPS["digamma"], x),),
    domain=POSITIVE,
    ulp=3.5,
    scale=lambda *xs, **attrs: 1.0,
    title="logΓ",
    doc="log |Γ(x)|.",
    range=_of_positive,
    special={0.0: -INF, INF: INF},
)
digamma = elementwise(
    "digamma",
    lambda x: _polygamma(x, 0),
    sympy=lambda S, x: S.polygamma(0, x),
    partials=lambda y, x: (apply(OPS["polygamma"], x, n=1),),
    domain=POSITIVE,
    ulp=4.0,
    scale=lambda *xs, **attrs: 1.0,
    title="ψ",
    doc="ψ(x) = Γ'(x)/Γ(x).",
    range=_of_positive,
    special={0.0: INF, INF: 0.0},
)
polygamma = elementwise(
    "polygamma",
    _polygamma,
    sympy=lambda S, x, n: S.polygamma(n, x),
    partials=lambda y, x, n: (apply(OPS["polygamma"], x, n=n + 1),),
    lower=lambda b, x, n: b.polygamma(x, n),
    samples=(Sample(((),), {"n": 2}),),
    domain=POSITIVE,
    public=False,
    ulp=14.0,
    scale=lambda *xs, **attrs: 1.0,
    doc="ψ⁽ⁿ⁾(x), the n-th derivative of ψ; n >= 1 is static.",
    range=_of_positive,
)
