"""x·y + z, rounded once: by the target's instruction, or in arithmetic that gives the same bits.

Enters: three `Value`s of float32 or float64.  Leaves: a `Value` of the same dtype.
Invariant: the bits of `gradc.ops.fused`, on every target.  Start reading at `Fused.multiply_add`.
"""

from __future__ import annotations

from gradc.codegen.elementary.format import elementary
from gradc.codegen.ir import Lanes, Value
from gradc.ops.fused import SPLIT_RANGE, SPLITTER


class Fused(Lanes):
    """The fused product and sum."""

    @elementary
    def multiply_add(self, x: Value, y: Value, z: Value) -> Value:
        """In float64 a product of float32 is exact, and a sum that is rounded to odd may be rounded again."""
        if "fma" in self.f.module.extensions:
            return self._intrinsic("fma", x, [x, y, z])
        if x.dtype == "float64":
            return self._fused_wide(x, y, z)
        wide = [self.convert(v, "float64") for v in (x, y, z)]
        return self.convert(self._sum_to_odd(self.mul(wide[0], wide[1]), wide[2]), x.dtype)

    def _fused_wide(self, x: Value, y: Value, z: Value) -> Value:
        product = self.mul(x, y)
        a, b = self._upper_half(x), self._upper_half(y)
        c, d = self.sub(x, a), self.sub(y, b)
        rest = self.add(self.add(self.sub(self.mul(a, b), product), self.mul(a, d)), self.mul(c, b))
        rest = self.add(rest, self.mul(c, d))
        upper, lost = self._two_sum(z, rest)
        total, left = self._two_sum(product, upper)
        fused = self.add(total, self._sum_to_odd(lost, left))
        inside = self.lt(self.abs(z), SPLIT_RANGE[1])
        for size in map(self.abs, (product, x, y)):
            inside = self.and_(inside, self.and_(self.gt(size, SPLIT_RANGE[0]), self.lt(size, SPLIT_RANGE[1])))
        return self.select(inside, fused, self.add(product, z))

    def _upper_half(self, x: Value) -> Value:
        scaled = self.mul(x, SPLITTER)
        return self.sub(scaled, self.sub(scaled, x))

    def _two_sum(self, a: Value, b: Value) -> tuple[Value, Value]:
        """The sum and what rounding took from it (Knuth)."""
        total = self.add(a, b)
        other = self.sub(total, a)
        return total, self.add(self.sub(a, self.sub(total, other)), self.sub(b, other))

    def _sum_to_odd(self, a: Value, b: Value) -> Value:
        """The sum in float64; where it is not exact, the one of its two neighbours whose last bit is 1."""
        total, rest = self._two_sum(a, b)
        bits = self.bitcast(total, "int64")
        up = self.xor(self.xor(self.gt(rest, 0.0), self.gt(total, 0.0)), True)
        moved = self.add(bits, self.select(up, self.const(1, bits), -1))
        finite = self.lt(self.abs(rest), float("inf"))
        even = self.eq(self.and_(bits, 1), 0)
        inexact = self.and_(self.and_(finite, self.gt(self.abs(rest), 0.0)), even)
        return self.bitcast(self.select(inexact, moved, bits), "float64")
