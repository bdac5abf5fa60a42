"""Pseudorandom bits, and uniform and normal numbers made of them, as lane arithmetic.

Enters: `Value`s of uint32, uint64, float32 or float64.  Leaves: a `Value`.
Invariant: the bits of `gradc.ops.randomness`, on every target: integers wrap, a fraction is exact.  Start reading at
`Randomness.threefry`.
"""

from __future__ import annotations

import math

from gradc.codegen.elementary.format import FORMATS, elementary
from gradc.codegen.elementary.special import Special
from gradc.codegen.ir import Value
from gradc.ops.randomness import GILES, PARITY, ROTATIONS


class Randomness(Special):
    """Threefry-2×32, and what is made of its words."""

    def threefry(self, key_high: Value, key_low: Value, count_high: Value, count_low: Value, part: str) -> Value:
        """Twenty rounds, the key being added before, between and after the groups of four."""
        schedule = (key_high, key_low, self.xor(self.xor(key_high, key_low), PARITY))
        x, y = self.add(count_high, key_high), self.add(count_low, key_low)
        for group in range(5):
            for distance in ROTATIONS[group % 2]:
                x = self.add(x, y)
                y = self.xor(self._rotated(y, distance), x)
            x = self.add(x, schedule[(group + 1) % 3])
            y = self.add(y, self.add(schedule[(group + 2) % 3], group + 1))
        if part == "both":
            return self.or_(self.shl(self.convert(x, "uint64"), 32), self.convert(y, "uint64"))
        return x if part == "high" else y if part == "low" else self.xor(x, y)

    def _rotated(self, x: Value, distance: int) -> Value:
        """To the left; targets that have an instruction for it find it."""
        return self.or_(self.shl(x, distance), self.shr(x, 32 - distance))

    def fraction(self, bits: Value) -> Value:
        """The upper bits as the digits of a number in [1, 2), less 1."""
        form = FORMATS["float32" if bits.bits == 32 else "float64"]
        digits = self.shr(bits, bits.bits - form.mantissa)
        return self.sub(self.bitcast(self.or_(digits, form.bias << form.mantissa), form.name), 1.0)

    @elementary
    def normal_of_bits(self, bits: Value) -> Value:
        """√2·u·p(w) with w = −log(1 − u²); where some w is beyond what p is made for, √w decides."""
        f = self.fraction(bits)
        u = self.sub(self.add(f, f), 1 - FORMATS[f.dtype].epsilon / 2)
        square = self.mul(u, u)
        w = self.neg(self._log_in_unit(self.sub(1.0, square)))
        return self.mul(self.mul(self.by_pieces(w, GILES[u.dtype]), u), math.sqrt(2))

    def _log_in_unit(self, x: Value) -> Value:
        """log x for a normal number x ≤ 1."""
        k, f = self._reduce_normal(x)
        return self._log_reduced(f, k)
