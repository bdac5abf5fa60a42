"""Gamma numbers by rejection, and moments of their density, as lane arithmetic.

Enters: `Value`s: words of a key and counters, and floats.  Leaves: a `Value` of the floats' dtype.
Invariant: computed in float64; lanes that are done wait until all are, so a loop ends for every argument.  Start
reading at `GammaDraws.gamma_draw`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from math import inf, nan

from gradc.codegen.elementary.polygamma import Polygamma
from gradc.codegen.elementary.randomness import Randomness
from gradc.codegen.ir import Lanes, Value
from gradc.ops.gamma_draws import NODES, bell, nodes

#: one attempt: the number of it, and what it gives and whether that is accepted
Attempt = Callable[[Value], tuple[Value, Value]]


class GammaDraws(Polygamma, Randomness):
    """Draws that are repeated until they are accepted."""

    def until_accepted(self, attempt: Attempt, live: Value, start: float) -> Value:
        """What attempts give in lanes that are ``live``, each tried until it is accepted."""
        carry = [self.const(start, "float64"), self.not_(live)]

        def more(index: Value, values: Sequence[Value]) -> Value:
            return self.any(self.not_(values[1]))

        with self.f.loop_while(more, carry) as loop:
            value, done = loop.carry
            number = self.splat(Lanes(self.f).convert(loop.index, "uint32"))
            found, accepted = attempt(number)
            loop.next = [self.select(done, value, found), self.or_(done, accepted)]
        return loop.result[0]

    def draw_of(self, words: Sequence[Value], number: Value) -> Value:
        """The bits, uint64, of the draw of this number."""
        key_high, key_low, count_high, count_low = words
        return self.threefry(key_high, self.add(key_low, number), count_high, count_low, "both")

    def gamma_draw(self, key_high: Value, key_low: Value, count_high: Value, count_low: Value, a: Value) -> Value:
        """log g: of (1 + cx)³·d, and of U^(1/a) beside it where a < 1."""
        with self.strict():
            words = (key_high, key_low, count_high, count_low)
            shape = self.convert(a, "float64")
            small = self.lt(shape, 1.0)
            live = self.and_(self.gt(shape, 0.0), self.lt(shape, inf))
            d = self.select(live, self.select(small, self.add(shape, 1.0), shape), 1.0)
            d = self.sub(d, 1 / 3)
            c = self.div(1.0, self.sqrt(self.mul(d, 9.0)))
            cube = self.until_accepted(lambda number: self._attempt(words, number, d, c), live, 1.0)
            u = self.sub(1.0, self.fraction(self.draw_of(words, self.const(0, "uint32"))))
            boost = self.div(self.log(u), self.select(small, shape, 1.0))
            result = self.add(self.add(self.log(d), self.log(cube)), self.select(small, boost, 0.0))
            special = self.select(self.eq(shape, 0.0), self.const(-inf, shape), nan)
            special = self.select(self.eq(shape, inf), inf, special)
            return self.convert(self.select(live, result, special), a.dtype)

    def _attempt(self, words: Sequence[Value], number: Value, d: Value, c: Value) -> tuple[Value, Value]:
        twice = self.add(number, number)
        x = self.normal_of_bits(self.draw_of(words, self.add(twice, 1)))
        u = self.sub(1.0, self.fraction(self.draw_of(words, self.add(twice, 2))))
        v = self.add(1.0, self.mul(c, x))
        cube = self.mul(self.mul(v, v), v)
        positive = self.gt(v, 0.0)
        logarithm = self.log(self.select(positive, cube, 1.0))
        bound = self.add(self.mul(self.mul(x, 0.5), x), self.mul(d, self.add(self.sub(1.0, cube), logarithm)))
        return cube, self.and_(positive, self.lt(self.log(u), bound))

    def gamma_moment(self, a: Value, y: Value, n: int) -> Value:
        """The integral of ∂ⁿf/∂aⁿ below eʸ, or above it, over the density there."""
        with self.strict():
            shape, logarithm = self.convert(a, "float64"), self.convert(y, "float64")
            x = self.exp(logarithm)
            above, apart = self.gt(x, shape), self.abs(self.sub(x, shape))
            divisor = self.select(above, x, 1.0)
            root = self.select(above, self.div(1.0, self.sqrt(self.select(self.gt(x, 1.0), x, 1.0))), 0.0)
            least = self.select(self.lt(self.sqrt(x), shape), self.sqrt(x), shape)
            scale = self.select(above, self.add(self.div(apart, divisor), root), self.add(apart, least))
            unit = self.div(1.0, scale)
            from_mean = self.sub(logarithm, self.digamma(shape))
            psis = [self.polygamma(shape, k) for k in range(1, n)]
            total = self._integrated(n, (shape, x, divisor, unit, from_mean), above, psis)
            signed = self.select(above, self.div(1.0, divisor), -1.0)
            return self.convert(self.mul(self.mul(unit, total), signed), a.dtype)

    def _integrated(self, n: int, known: Sequence[Value], above: Value, psis: Sequence[Value]) -> Value:
        shape, x, divisor, unit, from_mean = known
        tables = [self.f.module.table(values, "float64") for values in nodes()]
        with self.f.loop(0, NODES, carry=[self.const(0.0, "float64")]) as loop:
            place, weight = (
                self.splat(Value(self.f.let(f"load double, ptr {self._entry(table, loop.index)}"), "float64"))
                for table in tables
            )
            t = self.mul(unit, place)
            step = self.select(above, self.log1p(self.div(t, divisor)), self.neg(t))
            outside = self.sub(self.mul(self.sub(shape, 1.0), step), t)
            inside = self.neg(self.add(self.mul(shape, t), self.mul(x, self.expm1(self.neg(t)))))
            exponent = self.select(above, outside, inside)
            exponent = self.select(self.gt(exponent, 0.0), 0.0, exponent)
            term = self.mul(self._bell(n, self.add(from_mean, step), psis), self.exp(exponent))
            loop.next = [self.add(loop.carry[0], self.mul(weight, term))]
        return loop.result[0]

    def _entry(self, table: str, index: Value) -> str:
        return self.f.let(f"getelementptr double, ptr {table}, i64 {index.ref}")

    def _bell(self, n: int, logarithm: Value, psis: Sequence[Value]) -> Value:
        def power(k: int, e: int) -> Value:
            value = logarithm if k == 0 else psis[k - 1]
            return reduce(self.mul, [value] * e)

        def total(rows: list[list[Value | float]]) -> Value:
            products = [self.mul(reduce(self.mul, row[1:]), row[0]) for row in rows]
            return reduce(self.add, products)

        found: Value = bell(n, power, total)
        return found
