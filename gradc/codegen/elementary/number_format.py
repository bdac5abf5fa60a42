"""What is read off the format of numbers, or written into it: signs, exponents, powers of two, bits, common divisors.

Enters: `Value`s.  Leaves: a `Value`, exact, or rounded once where a scaled number is subnormal.
Invariant: every pair of operands has NumPy's answer; no instruction sees operands for which it is undefined.
Start reading at `NumberFormat.ldexp`.
"""

from __future__ import annotations

from gradc.codegen.elementary.format import FORMATS, elementary
from gradc.codegen.ir import Lanes, Value


class NumberFormat(Lanes):
    """signbit, binary_exponent, ldexp, gcd, bitwise_count."""

    def signbit(self, x: Value) -> Value:
        """Whether the sign is minus, that of a zero or of a NaN too."""
        return self.lt(self.bitcast(x, "int32" if x.bits == 32 else "int64"), 0)

    @elementary
    def binary_exponent(self, x: Value) -> Value:
        """The e of x = m·2ᵉ with ½ ≤ |m| < 1, int32; 0 where there is none."""
        form = FORMATS[x.dtype]
        size, lift = self.abs(x), form.mantissa + 2
        tiny = self.lt(size, form.smallest_normal)
        size = self.select(tiny, self.mul(size, 2.0**lift), size)
        field = self.convert(self.shr(self.bitcast(size, form.integer), form.mantissa), "int32")
        found = self.sub(field, self.select(tiny, self.const(form.bias - 1 + lift, "int32"), form.bias - 1))
        regular = self.and_(self.lt(size, float("inf")), self.gt(size, 0.0))
        return self.select(regular, found, 0)

    @elementary
    def ldexp(self, x: Value, n: Value) -> Value:
        """x·2ⁿ in three factors.

        What overflows does so whatever follows.  Two of them scale down by less than the least normal number over the
        spacing: where such a product is rounded, the next one leaves nothing of it.
        """
        form = FORMATS[x.dtype]
        least, most = 1 - form.bias, form.bias
        stride = least + form.mantissa + 1
        reach = 3 * most
        left = self.convert(self.max(self.min(n, reach), -reach), form.integer.removeprefix("u"))
        for last in (False, False, True):
            down = self.max(left, least) if last else self.select(self.lt(left, least), stride, left)
            part = self.min(down, most)
            x = self.mul(x, self._factor(part, x.dtype))
            left = self.sub(left, part)
        return x

    def _factor(self, n: Value, dtype: str) -> Value:
        """2ⁿ for the exponents of normal numbers."""
        form = FORMATS[dtype]
        return self.bitcast(self.shl(self.add(n, form.bias), form.mantissa), dtype)

    def gcd(self, x: Value, y: Value) -> Value:
        """The greatest common divisor by Euclid's algorithm, in all lanes until the last one is done."""
        unsigned = "u" + x.dtype if x.is_signed else x.dtype
        pair = [self.convert(self.abs(v), unsigned) for v in (x, y)]
        with self.f.loop_while(lambda index, both: self.any(self.ne(both[1], 0)), pair) as loop:
            large, small = loop.carry
            done = self.eq(small, 0)
            rest = self.irem(large, self.select(done, 1, small))
            loop.next = [self.select(done, large, small), self.select(done, 0, rest)]
        return self.convert(loop.result[0], x.dtype)

    def bitwise_count(self, x: Value) -> Value:
        """How many bits of |x| are 1, uint8."""
        size = self.convert(self.abs(x), "u" + x.dtype) if x.is_signed else x
        return self.convert(self._intrinsic("ctpop", size, [size]), "uint8")
