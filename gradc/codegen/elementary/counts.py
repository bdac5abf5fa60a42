"""Poisson and binomial numbers as lane arithmetic.

Enters: `Value`s: words of a key and counters, and the parameters.  Leaves: a float64 `Value` of whole numbers.
Invariant: as in `gamma_draws`: the arithmetic of `gradc.ops.counts`, lanes that are done wait for the others.  Start
reading at `Counts.poisson_draw`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf, nan

from gradc.codegen.elementary.gamma_draws import GammaDraws
from gradc.codegen.ir import Lanes, Value
from gradc.ops.counts import LARGE


class Counts(GammaDraws):
    """Draws of whole numbers."""

    def _uniform(self, words: Sequence[Value], number: Value) -> Value:
        """Uniform on (0, 1]."""
        return self.sub(1.0, self.fraction(self.draw_of(words, number)))

    def _counted(self, words: Sequence[Value], step: Callable[[Value], Value], end: Value, live: Value) -> Value:
        """How many steps, each of a uniform number, a sum takes to come beyond its end, less one."""
        carry = [self.const(-1.0, "float64"), self.const(0.0, "float64"), self.not_(live)]

        def more(index: Value, values: Sequence[Value]) -> Value:
            return self.any(self.not_(values[2]))

        with self.f.loop_while(more, carry) as loop:
            count, total, done = loop.carry
            number = self.splat(Lanes(self.f).convert(loop.index, "uint32"))
            total = self.add(total, step(self._uniform(words, number)))
            count = self.select(done, count, self.add(count, 1.0))
            loop.next = [count, total, self.or_(done, self.not_(self.le(total, end)))]
        return loop.result[0]

    def _tried(self, words: Sequence[Value], number: Value) -> tuple[Value, Value, Value]:
        """u uniform on (−½, ½], v on (0, 1], and ½ − |u|."""
        twice = self.add(number, number)
        u, v = self.sub(self._uniform(words, twice), 0.5), self._uniform(words, self.add(twice, 1))
        return u, v, self.sub(0.5, self.abs(u))

    def _log_factorial(self, k: Value) -> Value:
        return self.lgamma(self.add(k, 1.0))

    def poisson_draw(self, key_high: Value, key_low: Value, count_high: Value, count_low: Value, mean: Value) -> Value:
        """By steps of the exponential distribution below `LARGE`, by Hörmann's PTRS from there on."""
        with self.strict():
            words, wide = (key_high, key_low, count_high, count_low), self.convert(mean, "float64")
            large = self.and_(self.ge(wide, LARGE), self.lt(wide, inf))
            small = self.and_(self.ge(wide, 0.0), self.lt(wide, LARGE))
            safe = self.select(large, wide, LARGE)
            drawn = self.until_accepted(lambda number: self._poisson_attempt(words, number, safe), large, nan)
            counted = self._counted(words, lambda u: self.neg(self.log(u)), wide, small)
            return self.select(small, counted, drawn)

    def _poisson_attempt(self, words: Sequence[Value], number: Value, mean: Value) -> tuple[Value, Value]:
        b = self.add(self.mul(self.sqrt(mean), 2.53), 0.931)
        a = self.add(self.mul(b, 0.02483), -0.059)
        u, v, us = self._tried(words, number)
        k = self.mul(self.add(self.div(self.mul(a, 2.0), us), b), u)
        k = self.floor(self.add(self.add(k, mean), 0.43))
        inside = self.and_(self.ge(k, 0.0), self.gt(us, 0.0))
        quick = self.le(v, self.sub(0.9277, self.div(3.6224, self.sub(b, 2.0))))
        quick = self.and_(self.ge(us, 0.07), quick)
        scaled = self.mul(v, self.add(self.div(1.1328, self.sub(b, 3.4)), 1.1239))
        reached = self.log(self.div(scaled, self.add(self.div(a, self.mul(us, us)), b)))
        whole = self.select(inside, k, 0.0)
        bound = self.sub(self.sub(self.mul(whole, self.log(mean)), mean), self._log_factorial(whole))
        return k, self.and_(inside, self.or_(quick, self.le(reached, bound)))

    def binomial_draw(
        self, key_high: Value, key_low: Value, count_high: Value, count_low: Value, n: Value, p: Value
    ) -> Value:
        """By waiting times where few succeed or few fail, else by Hörmann's BTRS."""
        with self.strict():
            words = (key_high, key_low, count_high, count_low)
            trials, chance = self.floor(self.convert(n, "float64")), self.convert(p, "float64")
            live = self.and_(self.ge(trials, 0.0), self.lt(trials, inf))
            live = self.and_(live, self.and_(self.ge(chance, 0.0), self.le(chance, 1.0)))
            turned = self.gt(chance, 0.5)
            least = self.select(turned, self.sub(1.0, chance), chance)
            large = self.and_(live, self.ge(self.mul(trials, least), LARGE))
            small = self.and_(self.and_(live, self.not_(large)), self.gt(least, 0.0))
            known = self.select(large, trials, 40.0), self.select(large, least, 0.25)
            drawn = self.until_accepted(lambda number: self._binomial_attempt(words, number, *known), large, 0.0)
            wait = self.log1p(self.neg(self.select(small, least, 0.5)))
            counted = self._counted(
                words, lambda u: self.add(self.floor(self.div(self.log(u), wait)), 1.0), trials, small
            )
            found = self.select(live, self.const(0.0, trials), nan)
            found = self.select(small, counted, self.select(large, drawn, found))
            return self.select(turned, self.sub(trials, found), found)

    def _binomial_attempt(self, words: Sequence[Value], number: Value, n: Value, p: Value) -> tuple[Value, Value]:
        q = self.sub(1.0, p)
        spread = self.sqrt(self.mul(self.mul(n, p), q))
        b = self.add(self.mul(spread, 2.53), 1.15)
        a = self.add(self.add(self.mul(b, 0.0248), -0.0873), self.mul(p, 0.01))
        u, v, us = self._tried(words, number)
        k = self.mul(self.add(self.div(self.mul(a, 2.0), us), b), u)
        k = self.floor(self.add(self.add(k, self.mul(n, p)), 0.5))
        inside = self.and_(self.and_(self.ge(k, 0.0), self.le(k, n)), self.gt(us, 0.0))
        quick = self.and_(self.ge(us, 0.07), self.le(v, self.sub(0.92, self.div(4.2, b))))
        scaled = self.mul(self.mul(v, self.add(self.div(5.1, b), 2.83)), spread)
        reached = self.log(self.div(scaled, self.add(self.div(a, self.mul(us, us)), b)))
        whole, mode = self.select(inside, k, 0.0), self.floor(self.mul(self.add(n, 1.0), p))
        top = self.add(self._log_factorial(mode), self._log_factorial(self.sub(n, mode)))
        top = self.add(top, self.mul(self.sub(whole, mode), self.log(self.div(p, q))))
        bound = self.sub(self.sub(top, self._log_factorial(whole)), self._log_factorial(self.sub(n, whole)))
        return k, self.and_(inside, self.or_(quick, self.le(reached, bound)))
