"""Error functions beside erf: erfcx, Dawson's integral, erfi, the normal distribution, with all their derivatives.

Enters and leaves: as for all elementwise ops; computed in float64, as `gradc.ops.written` describes.
Invariant: e^(±x²) is taken of the square in two parts, so errors stay relative; the n-th derivatives of erfcx and of
Dawson's integral are members of their own family, fitted by themselves, for their formulas cancel where x is large.
Start reading at `_erfcx`.

References: Abramowitz & Stegun, Handbook of Mathematical Functions, 7.1, 7.2 (repeated integrals, which the derivatives
of erfcx are), 26.2.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gradc.node import OPS
from gradc.ops.curves import DAWSON_END, ERFCX_END
from gradc.ops.elementwise import apply, elementwise
from gradc.ops.fits import on, table
from gradc.ops.ranges import INF, Hazard, Range, bounded
from gradc.ops.record import Sample
from gradc.ops.written import Number, evaluated

#: from here on e^(x²) is infinite, and e^(−x²) is 0
SQUARE_END = 40.0


def derivative_of(S: Any, function: Any, x: Any, n: int) -> Any:
    """The n-th derivative of a function of SymPy's, at x."""
    t = S.Dummy("t", real=True)
    return S.diff(function(t), t, n).subs(t, x) if n else function(x)


def _exp_square(m: Any, x: Number, sign: float) -> Number:
    """e^(±x²)."""
    near = m.where(m.abs(x) < SQUARE_END, x, SQUARE_END)
    square, rest = m.product(near, near)
    power = m.exp(sign * square)
    return m.where(power < INF, m.fma(power, sign * rest, power), power)


# -- e^(x²)·erfc x -----------------------------------------------------------------------------------------------------


def _right(m: Any, x: Number, n: int) -> Number:
    """(−1)ⁿ·erfcx⁽ⁿ⁾(x) for x >= 0."""
    near = on(m, x, table("error_erfcx", n))
    inverse = 1.0 / x
    v = inverse * ERFCX_END
    far = on(m, v * v, table("error_erfcxfar", n))
    for _ in range(n + 1):
        far = far * inverse
    return m.where(x < ERFCX_END, near, far)


def _erfcx(m: Any, x: Number, n: int) -> Number:
    """For x < 0 2·(e^(x²))⁽ⁿ⁾ − erfcx(−x)⁽ⁿ⁾."""
    size = m.abs(x)
    value = _right(m, size, n)
    value = -value if n % 2 else value

    def left(x: Number, size: Number, value: Number) -> Number:
        *lower, highest = _hermite(n)
        power = m.constant(highest, x)
        for c in reversed(lower):
            power = power * size + c
        grown = power * _exp_square(m, size, 1.0) * 2.0
        return -grown - m.abs(value) if n % 2 else grown - value

    return m.choose(x < 0.0, left, value, [x, size, value])


def _hermite(n: int) -> list[float]:
    """The polynomial before e^(x²) in its n-th derivative, the lowest power first: all its terms are positive."""
    found = [1.0]
    for _ in range(n):
        bent = [k * c for k, c in enumerate(found)][1:]
        raised = [0.0, *(2 * c for c in found)]
        found = [c + (bent[k] if k < len(bent) else 0.0) for k, c in enumerate(raised)]
    return found


erfcx = elementwise(
    "erfcx",
    lambda x, n: evaluated(_erfcx, x, n=n),
    sympy=lambda S, x, n: derivative_of(S, lambda t: S.exp(t**2) * S.erfc(t), x, n),
    partials=lambda y, x, n: (apply(OPS["erfcx"], x, n=n + 1),),
    lower=lambda b, x, n: b.written(_erfcx, x, n=n),
    samples=(Sample(((),), {"n": 0}),),
    cost=40.0,
    ulp=4.0,
    title="erfcx{n:primes}",
    range=lambda y, x: Range(hazard=max(x.hazard, Hazard.GROWTH)) if x.lo < 0 else bounded(-INF, INF, x.hazard),
    public=False,
    doc="dⁿ/dxⁿ e^(x²)·erfc(x); n is static.",
)

# -- Dawson's integral and erfi ----------------------------------------------------------------------------------------


def _dawson(m: Any, x: Number, n: int) -> Number:
    """x times an even function for even n, itself even for odd n."""
    size = m.abs(x)
    near = on(m, size, table("error_dawson", n))
    near = near * size if n % 2 == 0 else near
    inverse = 1.0 / size
    v = inverse * DAWSON_END
    far = on(m, v * v, table("error_dawsonfar", n))
    for _ in range(n + 1):
        far = far * inverse
    value = m.where(size < DAWSON_END, near, -far if n % 2 else far)
    return m.where(x < 0.0, -value, value) if n % 2 == 0 else value


dawsn = elementwise(
    "dawsn",
    lambda x, n: evaluated(_dawson_at, x, n=n),
    sympy=lambda S, x, n: derivative_of(S, lambda t: S.sqrt(S.pi) / 2 * S.exp(-(t**2)) * S.erfi(t), x, n),
    partials=lambda y, x, n: (apply(OPS["dawsn"], x, n=n + 1),),
    lower=lambda b, x, n: b.written(_dawson_at, x, n=n),
    samples=(Sample(((),), {"n": 0}),),
    cost=40.0,
    ulp=4.0,
    title="dawsn{n:primes}",
    scale=lambda x, n: (1 + n / 2) / (1 + np.abs(x)) ** (n + 1) if n else 0.0,
    range=lambda y, x: x.within(-math.gamma(y.attrs["n"] + 2), math.gamma(y.attrs["n"] + 2)),
    public=False,
    doc="The n-th derivative of Dawson's integral, e^(−x²)·∫₀ˣ e^(t²) dt; n is static.",
    special={INF: 0.0, -INF: 0.0},
)


def _dawson_at(m: Any, x: Number, n: int) -> Number:
    return m.where(x == 0.0, x, _dawson(m, x, n)) if n % 2 == 0 else _dawson(m, x, n)


def _erfi(m: Any, x: Number) -> Number:
    """x times a polynomial up to 1; beyond, 2/√π·e^(x²) times Dawson's integral."""
    size = m.abs(x)
    near = x * on(m, size, table("error_erfi"))
    grown = (_exp_square(m, x, 1.0) * (2 / math.sqrt(math.pi))) * _dawson(m, x, 0)
    far = m.where(size < 27.0, grown, m.copysign(INF, x))
    return m.where(size < 1.0, near, m.where(x == x, far, x))


erfi = elementwise(
    "erfi",
    lambda x: evaluated(_erfi, x),
    partials=lambda y, x: (2 / math.sqrt(math.pi) * np.exp(np.square(x)),),
    lower=lambda b, x: b.written(_erfi, x),
    cost=60.0,
    ulp=4.0,
    range=lambda y, x: Range(hazard=max(x.hazard, Hazard.GROWTH)),
    public="special.erfi",
    doc="The imaginary error function, −i·erf(ix) = 2/√π·∫₀ˣ e^(t²) dt.",
    special={INF: INF, -INF: INF},
)

# -- the normal distribution -------------------------------------------------------------------------------------------
_ROOT_HALF = math.sqrt(0.5)


def _half_exp(m: Any, x: Number) -> Number:
    """e^(−x²/2)."""
    near = m.where(m.abs(x) < SQUARE_END, x, SQUARE_END)
    square, rest = m.product(near, near)
    power = m.exp(square * -0.5)
    return m.fma(power, rest * -0.5, power)


def _tail(m: Any, size: Number) -> Number:
    """Φ(−size) for size >= 0."""
    return 0.5 * _half_exp(m, size) * _right(m, size * _ROOT_HALF, 0)


def _ndtr(m: Any, x: Number) -> Number:
    tail = _tail(m, m.abs(x))
    return m.where(x > 0.0, 1.0 - tail, tail)


def _log_ndtr(m: Any, x: Number) -> Number:
    """Below −1 by the logarithm of the factor of e^(−x²/2), which has the sign of the exponent."""
    size = m.abs(x)
    factor = 0.5 * _right(m, size * _ROOT_HALF, 0)
    tail = _half_exp(m, size) * factor
    left = m.log(m.where(x < -1.0, factor, tail)) - m.where(x < -1.0, x * x * 0.5, 0.0)
    return m.where(x > 0.0, m.log1p(-tail), m.where(x < -1e150, x * m.abs(x), left))


ndtr = elementwise(
    "ndtr",
    lambda x: evaluated(_ndtr, x),
    sympy=lambda S, x: S.erfc(-x / S.sqrt(2)) / 2,
    partials=lambda y, x: (apply(OPS["gaussian"], x * _ROOT_HALF, n=0) * (1 / math.sqrt(2 * math.pi)),),
    lower=lambda b, x: b.written(_ndtr, x),
    cost=40.0,
    ulp=4.0,
    range=lambda y, x: x.within(0.0, 1.0),
    title="Φ",
    public="special.ndtr",
    doc="Φ(x), the distribution function of the standard normal distribution.",
    special={INF: 0.0, -INF: 0.0},
)
log_ndtr = elementwise(
    "log_ndtr",
    lambda x: evaluated(_log_ndtr, x),
    sympy=lambda S, x: S.log(S.erfc(-x / S.sqrt(2)) / 2),
    partials=lambda y, x: (math.sqrt(2 / math.pi) / apply(OPS["erfcx"], x * -_ROOT_HALF, n=0),),
    lower=lambda b, x: b.written(_log_ndtr, x),
    cost=60.0,
    ulp=4.0,
    range=lambda y, x: bounded(-INF, 0.0, max(x.hazard, Hazard.GROWTH)),
    title="logΦ",
    public="special.log_ndtr",
    doc="log Φ(x), also where Φ underflows.",
    special={INF: 0.0, -INF: INF},
)
