"""Algorithms that are written once: of arrays in the interpreter, of lanes in code.

Enters: a function of a machine ``m`` and of numbers, in float64: operators, comparisons and the methods of `Arrays`.
Leaves: arrays here; in code the same text is emitted by `gradc.codegen.elementary.written`, whose machine has the same
methods.  Invariant: float32 is computed in float64 and rounded once; a number that is done waits while others iterate,
so that nobody's value depends on its neighbours.  What works on a part of the numbers (`Arrays.choose`,
`Arrays.iterate`) names all those that it reads, and here gets that part of them alone.  Start reading at `evaluated`,
then at an algorithm, say `gradc.ops.gammas.gamma_parts`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gradc.node import OPS

#: an array of float64, or the lanes of one in code
Number = Any
#: an array of bool, or the lanes of one
Mask = Any
#: what work on a part of the numbers reads: a number, a mask, or a number in two parts (`gradc.ops.two_parts`)
Given = Any
#: ``algorithm(m, *numbers, **attrs)``
Algorithm = Callable[..., Number]


class Arrays:
    """The machine of the interpreter: numbers are arrays of float64."""

    def constant(self, value: float, like: Number) -> Number:
        return np.full(np.shape(like), value)

    def where(self, mask: Mask, x: Number | float, y: Number | float) -> Number:
        return np.where(mask, x, y)

    def choose(self, mask: Mask, rare: Callable[..., Number], usual: Number, given: Sequence[Given]) -> Number:
        """``rare(*given)`` where ``mask`` holds, not computed elsewhere: it reads no other numbers."""
        return self.choose_all(mask, lambda *numbers: [rare(*numbers)], [usual], given)[0]

    def choose_all(
        self, mask: Mask, rare: Callable[..., Sequence[Number]], usual: Sequence[Number], given: Sequence[Given]
    ) -> list[Number]:
        """`choose` of several numbers at once."""
        at = np.flatnonzero(mask)
        if not at.size:
            return list(usual)
        found = [np.array(old) for old in usual]
        for to, new in zip(found, rare(*_taken(given, at)), strict=True):
            to[at] = new
        return found

    def abs(self, x: Number) -> Number:
        return np.abs(x)

    def sqrt(self, x: Number) -> Number:
        return np.sqrt(x)

    def floor(self, x: Number) -> Number:
        return np.floor(x)

    def rint(self, x: Number) -> Number:
        return np.rint(x)

    def exp(self, x: Number) -> Number:
        return np.exp(x)

    def expm1(self, x: Number) -> Number:
        return np.expm1(x)

    def log(self, x: Number) -> Number:
        return np.log(x)

    def log1p(self, x: Number) -> Number:
        return np.log1p(x)

    def polygamma(self, x: Number, n: int) -> Number:
        """ψ and its derivatives."""
        return OPS["polygamma"].evaluate(x, n=n) if n else OPS["digamma"].evaluate(x)

    def copysign(self, x: Number, sign: Number) -> Number:
        return np.copysign(x, sign)

    def sin(self, x: Number) -> Number:
        return np.sin(x)

    def cos(self, x: Number) -> Number:
        return np.cos(x)

    def power(self, x: Number, y: float) -> Number:
        return np.power(x, y)

    def fma(self, x: Number, y: Number, z: Number) -> Number:
        """x·y + z, rounded once or twice."""
        return x * y + z

    def entries(self, rows: Sequence[Sequence[float]], place: Number) -> list[Number]:
        """Of each row the entry at ``place``, a whole number within it; anything where that is NaN."""
        index = np.where(place == place, place, 0.0).astype(np.int64)
        return [np.asarray(row)[index] for row in rows]

    def ldexp(self, x: Number, exponent: Number) -> Number:
        """x·2ⁿ of whole numbers n, rounded once."""
        return np.ldexp(x, np.clip(np.nan_to_num(exponent), -4000, 4000).astype(np.int64))

    def reduced(self, x: Number) -> tuple[Number, Number]:
        """(k, f) with x = 2ᵏ·(1 + f) and 1 + f near 1, exactly, for positive finite x."""
        fraction, exponent = np.frexp(x)
        small = fraction < math.sqrt(0.5)
        return np.where(small, exponent - 1, exponent) * 1.0, np.where(small, 2 * fraction, fraction) - 1

    def product(self, x: Number, y: Number) -> tuple[Number, Number]:
        """x·y and what rounding took from it (Dekker)."""
        p = x * y
        a, b = _head(x), _head(y)
        c, d = x - a, y - b
        return p, ((a * b - p) + a * d + c * b) + c * d

    def iterate(
        self,
        limit: int,
        carry: Sequence[Number],
        step: Callable[..., Sequence[Number]],
        going: Callable[..., Mask],
        start: Mask,
        given: Sequence[Given],
    ) -> list[Number]:
        """``carry = step(k, *carry, *given)`` for k = 1 … ``limit`` where ``start`` holds, as long as ``going(*carry,
        *given)``: neither reads other numbers."""
        values, at, k = [np.array(x) for x in carry], np.flatnonzero(start), 1.0
        live, numbers = _taken(values, at), _taken(given, at)
        while k <= limit and at.size:
            live = [np.broadcast_to(x, at.shape) for x in step(k, *live, *numbers)]
            more = np.flatnonzero(going(*live, *numbers))
            if more.size < at.size:
                for to, found in zip(values, live, strict=True):
                    to[at] = found
                at, live, numbers = at[more], _taken(live, more), _taken(numbers, more)
            k += 1.0
        for to, found in zip(values, live, strict=True):
            to[at] = found
        return values

    def total(self, rows: Sequence[Sequence[float]], term: Callable[..., Number], like: Number) -> Number:
        """The sum of ``term(*row)`` over rows of constants, with what rounding takes from it (Knuth)."""
        total = lost = self.constant(0.0, like)
        for row in rows:
            total, rest = sum_of(total, term(*row))
            lost = lost + rest
        return total + lost


def _taken(given: Sequence[Given], at: np.ndarray[Any, Any]) -> list[Given]:
    """Of each array, and of those of a pair, the numbers at some places."""
    return [tuple(part[at] for part in x) if isinstance(x, tuple) else x[at] for x in given]


def sum_of(a: Number, b: Number) -> tuple[Number, Number]:
    """a + b, and what rounding took from it (Knuth, The Art of Computer Programming 2, 4.2.2)."""
    total = a + b
    other = total - a
    return total, (a - (total - other)) + (b - other)


def _head(x: Number) -> Number:
    """x with the lower half of its significand cleared."""
    bits = np.ascontiguousarray(x, np.float64).view(np.int64)
    return (bits & np.int64(-(1 << 27))).view(np.float64)


def evaluated(algorithm: Algorithm, *arrays: Any, **attrs: Any) -> Any:
    """The algorithm of arrays that broadcast: in float64, the result rounded to the dtype that they share."""
    dtype = np.result_type(*arrays)
    numbers = np.broadcast_arrays(*[np.asarray(x, np.float64) for x in arrays])
    shape = numbers[0].shape
    with np.errstate(all="ignore"):
        found = algorithm(Arrays(), *[np.ravel(x) for x in numbers], **attrs)
        return np.asarray(found, np.float64).reshape(shape).astype(dtype)


def grown(m: Any, x: Number, factor: Number) -> Number:
    """eˣ·factor for factors below 1, where it is finite even if eˣ is not."""
    high = x > 700.0
    return (m.exp(m.where(high, x - 700.0, x)) * factor) * m.where(high, math.exp(700.0), 1.0)


def polynomial(x: Number, coefficients: Sequence[float]) -> Number:
    """By Horner's scheme; coefficients from the highest power down."""
    value = coefficients[0] * x + coefficients[1]
    for c in coefficients[2:]:
        value = value * x + c
    return value
