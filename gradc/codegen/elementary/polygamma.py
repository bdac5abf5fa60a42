"""Derivatives of digamma as lane arithmetic.

Enters: a `Value` of float32 or float64 and the order n >= 1, a Python int.  Leaves: a
`Value` of the same dtype.  Invariant: the error is within `ulp`, with or without FMA; branch-free but for the
reflection, a real branch that is taken only when some lane is negative; no intermediate result overflows or underflows
before the result does.  Start reading at `Polygamma.polygamma`.

All constants are generated in Python for the order at hand, exactly, and rounded once.
Reference: Abramowitz & Stegun, Handbook of Mathematical Functions, 6.4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from math import nan

from gradc.codegen.elementary.format import FORMATS, elementary
from gradc.codegen.elementary.special import Special
from gradc.codegen.ir import Value
from gradc.errors import CompileError

#: Up to this order the bound `ulp` is tested.
TESTED_ORDER = 5


def ulp(n: int) -> float:
    """The largest error of order n, in units in the last place of the exact result, for x ≥ 0.

    For x < 0 it is twice that, in units of the larger term of the reflection: even orders have zeros that no number
    hits. It grows with the order because each of the n + 1 factors of 1/(x + k)ⁿ⁺¹ is rounded.
    """
    return n + 2.0


#: How many terms of the asymptotic series follow its first two.
TERMS = {"float32": 5, "float64": 11}
#: How many terms of sin(πt)/πt follow its first one, for |t| ≤ 1/2: the next one is below 2^-31 and 2^-60.
SINE_TERMS = {"float32": 6, "float64": 10}
#: The largest n for which n! and the powers of `Polygamma._polygamma_size`, up to (2·shift)ⁿ⁺¹, are finite.
LARGEST_ORDER = {"float32": 22, "float64": 129}


class Polygamma(Special):
    """polygamma of any static order."""

    def polygamma(self, x: Value, n: int) -> Value:
        """The n-th derivative of digamma, n >= 1.

        At 0 and the negative integers: +∞ for odd n; for even n −∞ at 0, +∞ at −0, and NaN at the others, where the two
        sides differ. At +∞ ±0, at −∞ NaN. Raises CompileError for n above `LARGEST_ORDER`.
        """
        return elementary(lambda lanes, value: lanes._polygamma(value, n))(self, x)

    def _polygamma(self, x: Value, n: int) -> Value:
        if not 1 <= n <= LARGEST_ORDER[x.dtype]:
            raise CompileError(f"polygamma in {x.dtype} takes orders from 1 to {LARGEST_ORDER[x.dtype]}, not {n}")
        reflected = self.lt(x, 0.0)
        size = self._polygamma_size(self.select(reflected, self.sub(1.0, x), x), n)
        value = size if n % 2 else self.neg(size)
        with self.f.unless_rare(self.any(reflected), [value]) as other:
            other.next = [self.select(reflected, self.sub(self._cotangent_term(x, n), size), value)]
        return other.result[0]

    def _polygamma_size(self, x: Value, n: int) -> Value:
        """n!·Σ 1/(x + k)^(n + 1) = |ψ⁽ⁿ⁾(x)| for x ≥ 0 (6.4.10): the first terms as they are, then a series."""
        steps = shift(n, x.dtype)
        low = self.lt(x, float(steps))
        rest = self._polygamma_far(self.select(low, self.add(x, float(steps)), x), n)
        numerator = self.const(math.factorial(n), x)
        total = self.const(0.0, x)
        for k in reversed(range(1, steps)):
            total = self.add(total, self.div(numerator, self._integer_power(self.add(x, float(k)), n + 1)))
        near = self.add(self.add(rest, total), self._divided(numerator, x, n + 1))
        return self.select(low, near, rest)

    def _polygamma_far(self, x: Value, n: int) -> Value:
        """The asymptotic series 6.4.11 for x ≥ `shift`: (n − 1)!/xⁿ times 1 + n/2x + Σ cₖ/x²ᵏ."""
        inverse = self.div(1.0, x)
        series = self.polynomial(self.mul(inverse, inverse), series_coefficients(n, TERMS[x.dtype]))
        bend = self.mul(inverse, self.fma(inverse, series, self.const(n / 2, x)))
        first = self.const(math.factorial(n - 1), x)
        return self._divided(self.fma(first, bend, first), x, n)

    def _cotangent_term(self, x: Value, n: int) -> Value:
        """−π·dⁿ/dxⁿ cot πx (6.4.7) = ±R(cos πt)/(sin(πt)/π)ⁿ⁺¹, where t is x less the nearest integer."""
        turn = self.sub(x, self.rint(x))
        square = self.mul(turn, turn)
        bend = self.mul(square, self.polynomial(square, sine_coefficients(SINE_TERMS[x.dtype])))
        sine = self.fma(turn, bend, turn)
        cosine = self._sine_pi(self.sub(0.5, self.abs(turn)))
        numerator = self.polynomial(self.mul(cosine, cosine), cotangent_numerator(n))
        if n % 2:
            return self._divided(numerator, sine, n + 1)
        term = self._divided(self.mul(self.neg(cosine), numerator), sine, n + 1)
        return self.select(self.eq(turn, 0.0), nan, term)

    def _divided(self, x: Value, base: Value, exponent: int) -> Value:
        """x/base^exponent in two steps: neither power leaves the range unless the quotient is far outside of it."""
        for part in ((exponent + 1) // 2, exponent // 2):
            x = self.div(x, self._integer_power(base, part)) if part else x
        return x

    def _integer_power(self, x: Value, exponent: int) -> Value:
        """x^exponent for exponent ≥ 1, by squaring."""
        result = x if exponent % 2 else None
        while exponent := exponent // 2:
            x = self.mul(x, x)
            if exponent % 2:
                result = x if result is None else self.mul(result, x)
        assert result is not None
        return result


# -- constants -------------------------------------------------------------------------------------------------------
@cache
def bernoulli(n: int) -> Fraction:
    """The Bernoulli number Bₙ, by its recurrence (23.1.3)."""
    if n == 0:
        return Fraction(1)
    return -sum((math.comb(n + 1, k) * bernoulli(k) for k in range(n)), Fraction()) / (n + 1)


def series_coefficients(n: int, terms: int) -> Sequence[float]:
    """c_terms, …, c₁ of 6.4.11 as in `Polygamma._polygamma_far`: cₖ = B₂ₖ·(2k + n − 1)!/((2k)!·(n − 1)!)."""
    return [float(bernoulli(2 * k) * math.comb(2 * k + n - 1, n - 1)) for k in range(terms, 0, -1)]


@cache
def shift(n: int, dtype: str) -> int:
    """From which integer on the series has no visible error: its first term left out is an upper bound of that."""
    omitted = abs(series_coefficients(n, TERMS[dtype] + 1)[0])
    return math.ceil((omitted * 16 / FORMATS[dtype].epsilon) ** (0.5 / (TERMS[dtype] + 1)))


def sine_coefficients(terms: int) -> Sequence[float]:
    """The Taylor series of sin(πt)/πt in t² without its first term, 1: the coefficients from the highest power down."""
    return [(-1) ** k * math.pi ** (2 * k) / math.factorial(2 * k + 1) for k in range(terms, 0, -1)]


def cotangent_numerator(n: int) -> Sequence[int]:
    """R in dⁿ/dθⁿ cot θ = (−1)ⁿ·R(cos θ)/sinⁿ⁺¹ θ, n ≥ 1: its coefficients of every other power, the highest first.

    R is even or odd, as n − 1 is; the lowest power, 1 or cos θ, is the last one given. All of them are positive.
    """
    rising = [0, 1]
    for m in range(1, n + 1):
        # (R/sin^m)′ = −((1 − c²)·R′ + m·c·R)/sin^(m + 1), with c = cos θ.
        slope = [*(k * c for k, c in enumerate(rising) if k), 0, 0, 0]
        lifted = [0, *rising, 0]
        rising = [slope[k] - (slope[k - 2] if k > 1 else 0) + m * lifted[k] for k in range(len(lifted))]
        while rising[-1] == 0:
            rising.pop()
    return rising[::-2]
