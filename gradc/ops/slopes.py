"""Slopes that are ops of their own, because a formula of other ops would cancel, overflow, or be 0·∞ somewhere.

Enters and leaves: what the ops of `transcendental` and `arithmetic` do.  Invariant: each family is closed, the
derivatives of its members are polynomials in them, so what is right for the members is right for derivatives of every
order: at zeros, at infinities, and where squares leave the dtype.

Start reading at `gaussian`; the derivatives of xʸ come last.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np

from gradc.node import OPS, Node
from gradc.ops.elementwise import apply, elementwise
from gradc.ops.ranges import INF, Hazard, Range, Zeros, bounded
from gradc.ops.record import Sample

Array = np.ndarray[Any, Any]


def strong(x: Any, y: Any) -> Node:
    """x·y, and 0 where either is 0."""
    return apply(OPS["strong_multiply"], x, y)


# -- of one number -----------------------------------------------------------------------------------------------------


def _tanh_slope(x: Array) -> Array:
    small = np.exp(-2 * np.abs(x))
    return np.asarray(4 * small / np.square(1 + small), dtype=x.dtype)


tanh_slope = elementwise(
    "tanh_slope",
    _tanh_slope,
    sympy=lambda S, x: 1 - S.tanh(x) ** 2,
    partials=lambda y, x: (-2 * y * np.tanh(x),),
    ulp=3.0,
    range=lambda y, x: x.within(0.0, 1.0),
    public=False,
    doc="1 − tanh²x = 1/cosh²x, without the difference, which cancels where tanh x is near ±1.",
    special={INF: 0.0, -INF: 0.0},
)


def _gaussian(x: Array, n: int) -> Array:
    """With x = h + l, h of half the digits: exp(−h²)·exp(−l·(x + h)), where h² is exact."""
    digits = np.finfo(x.dtype).nmant // 2
    near = np.clip(x, -50, 50).astype(x.dtype)  # 0 from there on
    fraction, exponent = np.frexp(near)
    head = np.ldexp(np.rint(np.ldexp(fraction, digits)), exponent - digits)
    return np.asarray(np.exp(-head * head) * near**n * np.exp((head - near) * (near + head)), x.dtype)


def _gaussian_partials(y: Node, x: Node, n: int) -> tuple[Node]:
    """n·xⁿ⁻¹·exp(−x²) − 2·xⁿ⁺¹·exp(−x²)."""
    falls = -2 * apply(OPS["gaussian"], x, n=n + 1)
    return (n * apply(OPS["gaussian"], x, n=n - 1) + falls if n else falls,)


def _more_factors(x: Array, n: int) -> Array:
    """Beside the bound for n up to 1, each further factor adds half a unit."""
    return 0.5 / 1.7 * max(n - 1, 0) * np.abs(_gaussian(x, n))


def _gaussian_range(y: Node, x: Range) -> Range:
    n = y.attrs["n"]
    top = (n / (2 * math.e)) ** (n / 2)  # at x² = n/2
    return replace(x.within(-top if n % 2 else 0.0, top), zeros=Zeros.SATURATED)


gaussian = elementwise(
    "gaussian",
    _gaussian,
    sympy=lambda S, x, n: x**n * S.exp(-(x**2)),
    partials=_gaussian_partials,
    lower=lambda b, x, n: b.gaussian(x, n),
    samples=(Sample(((),), {"n": 1}),),
    ulp=1.7,
    scale=_more_factors,
    range=_gaussian_range,
    public=False,
    doc="xⁿ·exp(−x²), accurate also where x² is large: what rounding takes from the square goes into the exponent.",
)
lorentzian = elementwise(
    "lorentzian",
    lambda x: 1 / (1 + x * x),
    sympy=lambda S, x: 1 / (1 + x**2),
    partials=lambda y, x: (-2 * y * apply(OPS["circle_inversion"], x, 1),),
    lower=lambda b, x: b.div(1.0, b.add(1.0, b.mul(x, x))),
    cost=5.0,
    range=lambda y, x: x.within(0.0, 1.0),
    public=False,
    doc="1/(1 + x²).",
    special={INF: 0.0, -INF: 0.0},
)


# -- of a point of the plane -------------------------------------------------------------------------------------------


def _scaled(x: Array, y: Array) -> tuple[Array, Array, Array]:
    """Both times 2⁻ⁿ, and n, so that the larger one lies between ½ and 1; infinities become ±1 and others 0."""
    far = np.isinf(x) | np.isinf(y)
    x, y = (np.where(far, np.where(np.isinf(v), np.sign(v), v * 0), v) for v in (x, y))
    exponent = np.frexp(np.fmax(np.abs(x), np.abs(y)))[1]
    return np.ldexp(x, -exponent), np.ldexp(y, -exponent), exponent


def _direction_cosine(x: Array, y: Array) -> Array:
    a, b, _ = _scaled(x, y)
    radius = np.hypot(a, b)
    return np.asarray(a / np.where(radius == 0, 1, radius), x.dtype)


def _circle_inversion(x: Array, y: Array) -> Array:
    a, b, exponent = _scaled(x, y)
    square = a * a + b * b
    inside = np.ldexp(a / np.where(square == 0, 1, square), -exponent)
    return np.asarray(np.where(np.isinf(x) | np.isinf(y), np.copysign(0, x), inside), x.dtype)


def _cosine(x: Node, y: Node) -> Node:
    return apply(OPS["direction_cosine"], x, y)


def _inverted(x: Node, y: Node) -> Node:
    return apply(OPS["circle_inversion"], x, y)


direction_cosine = elementwise(
    "direction_cosine",
    _direction_cosine,
    like=np.hypot,
    sympy=lambda S, x, y: x / S.sqrt(x**2 + y**2),
    partials=lambda z, x, y: (_cosine(y, x) * _inverted(y, x), -_cosine(y, x) * _inverted(x, y)),
    ulp=2.0,
    range=lambda z, x, y: bounded(-1.0, 1.0, min(max(x.hazard, y.hazard), Hazard.NAN)),
    public=False,
    special={
        (0.0, 0.0): (0.0, 0.0), (INF, INF): (0.0, 0.0), (INF, 1.0): (0.0, 0.0), (1.0, -INF): (0.0, 0.0),
    },
    singular="0 at the origin",
    doc="x/√(x² + y²): 0 at the origin, and of two infinities that of the diagonal, as their arctan2 is.",
)  # fmt: skip


def _inversion_range(z: Node, x: Range, y: Range) -> Range:
    nearest = max(x.size().lo, y.size().lo)
    largest = 1 / nearest if nearest > 0 else INF
    hazard = Hazard.ARITHMETIC if nearest > 0 else Hazard.POLE
    return bounded(-largest, largest, max(min(x.hazard, Hazard.NAN), min(y.hazard, Hazard.NAN), hazard))


circle_inversion = elementwise(
    "circle_inversion",
    _circle_inversion,
    like=np.hypot,
    sympy=lambda S, x, y: x / (x**2 + y**2),
    partials=lambda z, x, y: (_curvature(x, y), -2 * z * _inverted(y, x)),
    ulp=2.5,
    range=_inversion_range,
    domain=((0.3, 2.0), (-2.0, 2.0)),
    public=False,
    special={(0.0, 0.0): (0.0, 0.0), (INF, INF): (0.0, 0.0), (INF, 1.0): (0.0, 0.0), (1.0, -INF): (0.0, 0.0)},
    singular="0 at the origin",
    doc="x/(x² + y²), the first coordinate of the point's image by inversion in the unit circle; 0 at the origin.",
)


def _curvature(x: Node, y: Node) -> Node:
    """(y² − x²)/(x² + y²)²."""
    one, other = _inverted(x, y), _inverted(y, x)
    return (other - one) * (other + one)


# -- where a kink is ---------------------------------------------------------------------------------------------------


def _even_square(x: Array, r: Array, n: int) -> Array:
    value = np.where((r == 0) & (n == 2), x.dtype.type(2), x.dtype.type(0))
    return np.broadcast_to(value, np.broadcast_shapes(x.shape, r.shape))


even_square = elementwise(
    "even_square",
    _even_square,
    like=np.hypot,
    sympy=lambda S, x, r, n: S.Piecewise((2 if n == 2 else 0, S.Eq(r, 0)), (0, True)),
    partials=lambda y, x, r, n: (apply(OPS["even_square"], x, r, n=n + 1) if n < 2 else None, None),
    lower=lambda b, x, r, n: b.select(b.eq(r, 0), b.const(2, x), b.const(0, x)) if n == 2 else b.const(0, x),
    samples=(Sample(((),), {"n": 2}),),
    cost=1.0,
    exact=True,
    range=lambda y, x, r: bounded(0.0, 2.0, Hazard.NONE, Zeros.GUARDED),
    public=False,
    doc="The n-th derivative of x² where r is 0, and 0 elsewhere; r is 0 nowhere but where x is, so the second one "
    "alone has values other than 0: what an even function of |x| adds to its second derivative there.",
)

settled = elementwise(
    "settled",
    lambda x: x,
    like=np.positive,
    sympy=lambda S, x: x,
    partials=lambda y, x: (1,),
    lower=lambda b, x: x,
    cost=0.0,
    light=True,
    linear=(0,),
    range=lambda y, x: x,
    exact=True,
    public=False,
    doc="x, whose kink was seen to: the next derivative does not look for it again.",
)

# -- of powers ---------------------------------------------------------------------------------------------------------


def _polynomials(m: int, n: int) -> list[list[float]]:
    """binomial(n, k)·dᵏ/dyᵏ y(y − 1)…(y − m + 1) for k = 1 … n, the highest power of y first; [] for 0."""
    falling = np.polynomial.Polynomial.fromroots(range(m)) if m else np.polynomial.Polynomial([1.0])
    bent = [falling.deriv(k) * math.comb(n, k) for k in range(1, n + 1)]
    return [np.trim_zeros(p.coef[::-1], "f").tolist() for p in bent]


def _power_derivative(x: Any, y: Any, m: int, n: int, times: Callable[[Any, Any], Any]) -> Any:
    """xʸ⁻ᵐ·Σₖ binomial(n, k)·(dᵏ/dyᵏ y(y − 1)…(y − m + 1))·logⁿ⁻ᵏ x, by Horner's rule, of arrays or nodes.

    Products are strong: where x is 0 or ∞ the factor that is 0 decides, since powers outgrow logarithms.
    """
    powers = x ** (y - m) if m else x**y
    factors = [y - j if j else y for j in range(m)]
    logarithm = np.log(x) if n else None
    total: Any = reduce(times, factors) if factors else None
    for polynomial in _polynomials(m, n):
        total = logarithm if total is None else times(total, logarithm)
        if polynomial:
            total = total + reduce(lambda value, c: value * y + c, polynomial)
    result = powers if total is None else times(total, powers)
    return result if m or not n else np.where((x == 0) & (y == 0), x * 0, result)


def _symbolic_power_derivative(S: Any, x: Any, y: Any, m: int, n: int) -> Any:
    """By symbols of its own: of xˣ both operands are one symbol, and each is differentiated by alone."""
    base, exponent = S.symbols("base exponent", real=True, cls=S.Dummy)
    derivative = S.diff(base**exponent, *[base] * m, *[exponent] * n)
    return derivative.subs({base: x, exponent: y}, simultaneous=True)


power_derivative = elementwise(
    "power_derivative",
    lambda x, y, m, n: np.asarray(_power_derivative(x, y, m, n, OPS["strong_multiply"].numpy), x.dtype),
    like=np.logaddexp,
    sympy=_symbolic_power_derivative,
    partials=lambda z, x, y, m, n: (power_slope(x, y, m + 1, n), power_slope(x, y, m, n + 1)),
    expand=lambda x, y, m, n: _power_derivative(x, y, m, n, strong),
    samples=(Sample(((),), {"m": 1, "n": 1}),),
    domain=((0.2, 3.0), (-2.0, 2.0)),
    public=False,
    doc="∂ᵐ⁺ⁿ xʸ/∂xᵐ∂yⁿ; m and n are static. The limit from x > 0 at x = 0, but 0 in y at x = y = 0.",
)


def power_slope(x: Node, y: Node, m: int, n: int) -> Node:
    """The m-th derivative in x of the n-th one in y of xʸ."""
    return apply(OPS["power_derivative"], x, y, m=m, n=n)
