"""Floored division, its remainder, and shifts, with NumPy's answers for every pair of operands.

Enters: two `Value`s of one dtype, float or integer.  Leaves: a `Value` of that dtype.
Invariant: floats equal NumPy's bit for bit (only the payload and sign of a NaN are free), with or without FMA; integer
instructions never see the operands that trap or are undefined.  Start reading at `Division.floor_divide`.
"""

from __future__ import annotations

from gradc.codegen.elementary.format import FORMATS, elementary
from gradc.codegen.elementary.lane_by_lane import lane_by_lane
from gradc.codegen.ir import Lanes, Value


class Division(Lanes):
    """floor_divide, remainder, fmod, shift_left, shift_right."""

    @elementary
    def floor_divide(self, x: Value, y: Value) -> Value:
        """np.floor_divide: x // 0 is x/0 for floats and 0 for integers; the smallest integer // −1 is itself."""
        if not x.is_float:
            return self._integer_divmod(x, y)[0]
        rest = self._fmod(x, y)
        plain, quotient = self.div(x, y), self.div(self.sub(x, rest), y)
        quotient = self.select(self._other_sign(rest, y), self.sub(quotient, 1.0), quotient)
        # The rounded quotient may lie just below the integer that it stands for.
        below = self.floor(quotient)
        nearest = self.select(self.gt(self.sub(quotient, below), 0.5), self.add(below, 1.0), below)
        nearest = self.select(self.eq(quotient, 0.0), self.copysign(0.0, plain), nearest)
        return self.select(self.eq(y, 0.0), plain, nearest)

    @elementary
    def remainder(self, x: Value, y: Value) -> Value:
        """np.remainder: it has the sign of y; x % 0 is NaN for floats and 0 for integers."""
        if not x.is_float:
            return self._integer_divmod(x, y)[1]
        rest = self._fmod(x, y)
        rest = self.select(self._other_sign(rest, y), self.add(rest, y), rest)
        return self.select(self.eq(rest, 0.0), self.copysign(0.0, y), rest)

    @elementary
    def fmod(self, x: Value, y: Value) -> Value:
        """np.fmod: it has the sign of x; fmod(x, 0) is NaN for floats and 0 for integers."""
        if x.is_float:
            return self._fmod(x, y)
        rest = self._integer_divmod(x, y)[1]
        return self.select(self._other_sign(rest, x), self.sub(rest, y), rest)

    @elementary
    def shift_left(self, x: Value, y: Value) -> Value:
        """np.left_shift: 0 where y is negative or not below the number of bits."""
        inside = self._is_distance(y)
        return self.select(inside, self.shl(x, self.select(inside, y, 0)), 0)

    @elementary
    def shift_right(self, x: Value, y: Value) -> Value:
        """np.right_shift: nothing but sign bits where y is negative or not below the number of bits."""
        inside = self._is_distance(y)
        shifted = self.shr(x, self.select(inside, y, x.bits - 1))
        return shifted if x.is_signed else self.select(inside, shifted, 0)

    # -- integers --------------------------------------------------------------------------------------------------
    def _integer_divmod(self, x: Value, y: Value) -> tuple[Value, Value]:
        """Floored quotient and remainder; (0, 0) for y = 0, and (x, 0) for the one quotient that overflows."""
        zero = self.eq(y, 0)
        unsafe = zero
        if x.is_signed:
            unsafe = self.or_(zero, self.and_(self.eq(y, -1), self.eq(x, -1 << (x.bits - 1))))
        divisor = self.select(unsafe, 1, y)
        quotient = self.idiv(x, divisor)
        rest = self.sub(x, self.mul(quotient, divisor))
        quotient = self.select(zero, 0, quotient)
        if not x.is_signed:
            return quotient, rest
        floored = self._other_sign(rest, divisor)
        return (
            self.select(floored, self.sub(quotient, 1), quotient),
            self.select(floored, self.add(rest, divisor), rest),
        )

    def _other_sign(self, rest: Value, y: Value) -> Value:
        """Where a remainder is neither zero nor of the sign of y."""
        return self.and_(self.ne(rest, 0), self.ne(self.lt(rest, 0), self.lt(y, 0)))

    def _is_distance(self, y: Value) -> Value:
        below = self.lt(y, y.bits)
        return self.and_(below, self.ge(y, 0)) if y.is_signed else below

    # -- floats ----------------------------------------------------------------------------------------------------
    def _fmod(self, x: Value, y: Value) -> Value:
        """C's fmod, exact: x less the multiple of y that leaves the sign of x and less than |y|."""
        form = FORMATS[x.dtype]
        a, b = self.abs(x), self.abs(y)
        quotient = self.trunc(self.div(a, b))
        # b in two halves: while the quotient has no more bits than one, both products are exact. So is the first
        # difference; the second is the remainder, or that less b where the quotient was rounded up.
        upper = self.bitcast(self.and_(self.bitcast(b, form.integer), form.head_mask), x.dtype)
        rest = self.sub(self.sub(a, self.mul(quotient, upper)), self.mul(quotient, self.sub(b, upper)))
        rest = self.select(self.lt(rest, 0.0), self.add(rest, b), rest)
        rest = self.select(self.lt(a, b), a, rest)
        long = self.and_(self.ge(a, self.mul(b, 2.0**form.half)), self.gt(b, 0.0))
        long = self.and_(long, self.lt(a, float("inf")))
        with self.f.unless_rare(self.any(long), [rest]) as other:
            wide = [self.convert(v, "float64") for v in (a, b)]
            (found,) = lane_by_lane(self, "gradc_long_remainder", _long_remainder, wide, ["float64"], long)
            other.next = [self.select(long, self.convert(found, x.dtype), rest)]
        return self.copysign(other.result[0], x)


def _long_remainder(b: Lanes, inputs: list[Value]) -> list[Value]:
    """fmod of two positive finite float64, the first one larger: long division of their significands."""
    (dividend, above), (divisor, exponent) = (_significand(b, v) for v in inputs)
    distance = b.sub(above, exponent)
    # A remainder has at most 53 bits, so up to 11 more come down at a time.
    rest = b.irem(dividend, divisor)
    rest = b.irem(b.shl(rest, b.convert(b.irem(distance, 11), "uint64")), divisor)
    with b.f.loop(0, b.idiv(distance, 11), carry=[rest]) as eleven:
        eleven.next = [b.irem(b.shl(eleven.carry[0], 11), divisor)]
    # Times 2^(exponent − 1075), in two factors whose exponents are normal; both products are exact.
    first = b.max(b.sub(exponent, 1075), -1022)
    second = b.sub(b.sub(exponent, 1075), first)
    found = b.convert(eleven.result[0], "float64")
    for power in (first, second):
        found = b.mul(found, b.bitcast(b.shl(b.add(power, 1023), 52), "float64"))
    return [found]


def _significand(b: Lanes, x: Value) -> tuple[Value, Value]:
    """(m, e) of a positive float64 with x = m·2^(e − 1075): uint64, int64."""
    bits = b.bitcast(x, "uint64")
    field, fraction = b.shr(bits, 52), b.and_(bits, (1 << 52) - 1)
    normal = b.gt(field, 0)
    return b.select(normal, b.or_(fraction, 1 << 52), fraction), b.convert(b.select(normal, field, 1), "int64")
