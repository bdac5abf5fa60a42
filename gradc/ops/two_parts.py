"""Numbers in two parts, an unevaluated sum of two floats: sums, products, logarithms and exponentials of them.

Enters and leaves: pairs (head, rest), |rest| about 2⁻⁵³·|head| or less, of numbers as in `gradc.ops.written`.
Invariant: errors are below 2⁻¹⁰⁰ of sums and products and below 2⁻⁷⁰ of logarithms, relative to the result; an
exponential is as good as 2⁻⁵⁷.  Start reading at `add`.

References: Dekker, A floating-point technique for extending the available precision (Numer. Math. 18, 1971); Knuth, The
Art of Computer Programming 2, 4.2.2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from gradc.ops.written import Number, polynomial, sum_of

Pair = tuple[Number, Number]

#: log 2, π, log √(2π) in two parts
LN2 = (0.6931471805599453, 2.3190468138462996e-17)
PI = (3.141592653589793, 1.2246467991473532e-16)
LOG_ROOT_TAU = (0.9189385332046728, -3.878294158067242e-17)
#: √2π
ROOT_TAU = (2.5066282746310007, -1.8328579980459167e-16)


def near(head: Number, rest: Number) -> Pair:
    """The pair of two numbers of which the first is the larger."""
    total = head + rest
    return total, rest - (total - head)


def add(x: Pair, y: Pair) -> Pair:
    """x + y."""
    total, rest = sum_of(x[0], y[0])
    lower, lost = sum_of(x[1], y[1])
    total, rest = near(total, rest + lower)
    return near(total, rest + lost)


def negative(x: Pair) -> Pair:
    """−x."""
    return -x[0], -x[1]


def mul(m: Any, x: Pair, y: Pair) -> Pair:
    """x·y."""
    head, rest = m.product(x[0], y[0])
    return near(head, rest + (x[0] * y[1] + x[1] * y[0]))


def times(m: Any, x: Pair, y: Number) -> Pair:
    """x·y of a single number y."""
    head, rest = m.product(x[0], y)
    return near(head, rest + x[1] * y)


def div(m: Any, x: Pair, y: Pair) -> Pair:
    """x/y."""
    q = x[0] / y[0]
    head, rest = m.product(q, y[0])
    left = ((x[0] - head) - rest) + (x[1] - q * y[1])
    return near(q, left / y[0])


def square_root(m: Any, x: Pair) -> Pair:
    """√x for positive x: a step of Newton's method."""
    root = m.sqrt(x[0])
    head, rest = m.product(root, root)
    return near(root, (((x[0] - head) - rest) + x[1]) / (2.0 * root))


def constant(m: Any, value: Sequence[float], like: Number) -> Pair:
    """A constant pair for every number."""
    return m.constant(value[0], like), m.constant(value[1], like)


def single(m: Any, x: Number) -> Pair:
    """A number as a pair."""
    return x, m.constant(0.0, x)


def value(m: Any, x: Pair) -> Number:
    """The nearest number; an infinite head has no rest."""
    return m.where(m.abs(x[0]) < math.inf, x[0] + x[1], x[0])


def pick(m: Any, mask: Any, x: Pair, y: Pair) -> Pair:
    """Of two pairs, one by a mask."""
    return m.where(mask, x[0], y[0]), m.where(mask, x[1], y[1])


# -- logarithms --------------------------------------------------------------------------------------------------------


def _split(x: Fraction) -> tuple[float, float]:
    head = float(x)
    return head, float(x - Fraction(head))


#: 1/3, 1/5, 1/7 in two parts; of (artanh s)/s − 1 in s² what follows, up to s⁴⁰ < 2⁻⁹⁷ for |s| ≤ 0.1716
_ODD = [_split(Fraction(1, n)) for n in (3, 5, 7)]
_ODD_REST = [1 / n for n in range(41, 8, -2)]


def _artanh_excess(m: Any, s: Pair) -> Pair:
    """(artanh s)/s − 1 for |s| ≤ 0.1716 = (√2 − 1)/(√2 + 1)."""
    square = mul(m, s, s)
    inner = single(m, square[0] * polynomial(square[0], _ODD_REST))
    for c in reversed(_ODD):
        inner = mul(m, add(inner, constant(m, c, s[0])), square)
    return inner


def _twice_artanh(m: Any, s: Pair) -> Pair:
    excess = mul(m, s, _artanh_excess(m, s))
    total = add(s, excess)
    return 2 * total[0], 2 * total[1]


def log(m: Any, x: Pair) -> Pair:
    """log x for positive finite x."""
    k, f = m.reduced(x[0])
    s = div(m, single(m, f), sum_of(m.constant(2.0, f), f))
    found = add(times(m, constant(m, LN2, k), k), _twice_artanh(m, s))
    return near(found[0], found[1] + x[1] / x[0])


def _near_one(mu: Pair) -> Any:
    """Whether 1 + μ lies between √½ and √2."""
    return (mu[0] > -0.29) & (mu[0] < 0.41)


def _slanted(m: Any, mu: Pair) -> Pair:
    """μ/(2 + μ)."""
    return div(m, mu, add(constant(m, (2.0, 0.0), mu[0]), mu))


def log1p(m: Any, mu: Pair) -> Pair:
    """log(1 + μ), also where μ is small."""
    close = _near_one(mu)
    small = pick(m, close, mu, constant(m, (0.0, 0.0), mu[0]))
    one = add(constant(m, (1.0, 0.0), mu[0]), pick(m, close, constant(m, (0.0, 0.0), mu[0]), mu))
    return pick(m, close, _twice_artanh(m, _slanted(m, small)), log(m, one))


def log1p_excess(m: Any, mu: Pair) -> Pair:
    """μ − log(1 + μ) ≥ 0, also where μ is small: s·(μ − 2s·((artanh s)/s − 1)/s) with s = μ/(2 + μ)."""
    close = _near_one(mu)
    zero = constant(m, (0.0, 0.0), mu[0])
    small = pick(m, close, mu, zero)
    s = _slanted(m, small)
    excess = _artanh_excess(m, s)
    inside = mul(m, s, add(small, (-2 * excess[0], -2 * excess[1])))
    far = pick(m, close, zero, mu)
    outside = add(far, negative(log(m, add(constant(m, (1.0, 0.0), mu[0]), far))))
    return pick(m, close, inside, outside)


# -- exponentials ------------------------------------------------------------------------------------------------------

#: 1/15!, …, 1/2!: with the first two terms e^r to 2⁻⁶⁰ for |r| ≤ ln2/2
_EXP = [1 / math.factorial(n) for n in range(15, 1, -1)]
#: beyond, every power of e is 0 or infinite whatever it is multiplied by
_EXP_RANGE = 2.0**45


def exp(m: Any, x: Pair) -> tuple[Pair, Number]:
    """(p, k) with eˣ = p·2ᵏ and p near 1; k is a whole number."""
    beyond = m.abs(x[0]) < _EXP_RANGE
    head = m.where(beyond, x[0], m.where(x[0] > 0, _EXP_RANGE, -_EXP_RANGE))
    rest = m.where(beyond, x[1], 0.0)
    k = m.rint(head * (1 / math.log(2)))
    r = add((head, rest), negative(times(m, constant(m, LN2, k), k)))
    bend = r[0] * r[0] * polynomial(r[0], _EXP)
    total = add(r, single(m, bend))
    total = near(total[0], total[1] + r[1] * total[0])
    return add(constant(m, (1.0, 0.0), k), total), k
