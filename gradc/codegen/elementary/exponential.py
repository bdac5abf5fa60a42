"""Exponentials, logarithms and hyperbolic functions as lane arithmetic.

Enters: `Value`s of float32 or float64.  Leaves: a `Value` of the same dtype.
Invariant: every argument gets NumPy's answer within its bound, subnormals and overflow thresholds included, with or
without a fused multiply-add in the target: constants that are multiplied exactly have short heads, and no error term
is taken from an FMA.  Powers of two are built in the exponent field, integers are rounded by adding a magic number,
because conversions between floats and integers are slow or missing on many vector units.  Start reading at
`Exponential.exp`.

The polynomials were fitted here by Remez exchange in 70-digit arithmetic; the coefficients were then rounded one after
the other from the lowest power up, the remaining ones being fitted again each time. The comment at each table gives the
largest relative error of the function that the rounded polynomial stands for.  Coefficients: highest power first.
"""

from __future__ import annotations

from math import inf, nan

from gradc.codegen.elementary import avx512
from gradc.codegen.elementary.avx512 import Avx512
from gradc.codegen.elementary.format import FORMATS, elementary
from gradc.codegen.ir import Value

# exp(r) = 1 + r + r²·P(r), |r| ≤ ln2/2: relative error 2^-28.2 and 2^-57.9.
EXP = {
    "float32": (0.0013820122, 0.008368685, 0.041668274, 0.16666521, 0.49999994),
    "float64": (
        2.500637447919389e-08, 2.763053960756176e-07, 2.7557566476910234e-06, 2.4801492257679994e-05,
        0.00019841269529008093, 0.0013888888944481603, 0.00833333333348388, 0.04166666666652666,
        0.1666666666666643, 0.5000000000000011,
    ),
}  # fmt: skip

# 2^r = 1 + r·P(r), |r| ≤ 1/2, the last coefficient being ln2: relative error 2^-27.5 and 2^-57.7.
EXP2 = {
    "float32": (0.00015546764, 0.0013383823, 0.009617466, 0.055503756, 0.2402266, 0.6931471824645996),
    "float64": (
        4.439467000129537e-10, 7.073333406536019e-09, 1.0178156461955428e-07, 1.3215438235728283e-06,
        1.5252733641294464e-05, 0.00015403530450285317, 0.0013333558146540478, 0.009618129107600563,
        0.055504108664821736, 0.2402265069591011, 0.6931471805599453,
    ),
}  # fmt: skip

# float32: log(1 + f) = f − f²/2 + f³·P(f), |f| ≤ 1/3: relative error 2^-27.7.  float64, where the division costs less
# than the twelve terms that it saves: log(1 + f) = 2s + s³·P(s²), s = f/(2 + f), √½ ≤ 1 + f ≤ √2: error 2^-59.5.
LOG = {
    "float32": (
        -0.12879555, 0.13986956, -0.121868126, 0.14005302, -0.16680329, 0.20010446, -0.249998, 0.33333215,
    ),
    "float64": (
        0.14795614483838537, 0.15314087207968072, 0.18183562741410864, 0.22222198607433188,
        0.2857142874200422, 0.3999999999941673, 0.6666666666666734,
    ),
}  # fmt: skip

# sinh(r) = r + r³·P(r²) and cosh(r) = 1 + r²·P(r²), |r| ≤ ln2/2: relative errors 2^-34.3, 2^-33.2 and 2^-61.7, 2^-70.
SINH = {
    "float32": (0.00019973061, 0.008333176, 0.16666667),
    "float64": (
        2.5109216887620906e-08, 2.755724369555384e-06, 0.00019841269886637446, 0.008333333333321426,
        0.16666666666666677,
    ),
}  # fmt: skip
COSH = {
    "float32": (0.0013935438, 0.04166646, 0.5),
    "float64": (
        2.0921746072770917e-09, 2.7557251880690217e-07, 2.4801587349152084e-05, 0.0013888888888873296,
        0.041666666666666685, 0.5,
    ),
}  # fmt: skip

# tanh(x) = x + x³·P(x²), |x| ≤ 0.55: relative error 2^-24.7 and 2^-60.6.
TANH = {
    "float32": (0.0164370872, -0.0526716895, 0.133207262, -0.333329469),
    "float64": (
        -1.948921009953416e-05, 8.330772162272132e-05, -0.00023337557243384107, 0.0005884421637753618,
        -0.001455542287578006, 0.0035920919443217124, -0.008863232592908991, 0.02186948838532836,
        -0.05396825396374157, 0.13333333333326586, -0.333333333333333,
    ),
}  # fmt: skip

# 2p − 1 where p is the pivot: the largest f that the LOG polynomials are made for.
LOG_HIGH = {"float32": 1 / 3, "float64": 0.41421356237309503}
LOG2_E = 1.4426950408889634
# ln2 as head + tail; the head times an exponent (at most 8 and 11 bits) is exact.
LN2 = {"float32": (0.693145751953125, 1.4286068203094173e-06), "float64": (0.6931471805601177, -1.7239444525614835e-13)}
# log10(2), split likewise.
LOG10_2 = {
    "float32": (0.301025390625, 4.605038981195214e-06),
    "float64": (0.3010299956640665, -8.532344317057107e-14),
}
# 1/ln2 and 1/ln10 with heads of half a significand, which half a significand multiplies exactly.
INVERSE_LN2 = {
    "float32": (1.44287109375, -0.00017605286103659264),
    "float64": (1.4426950514316559, -1.0542692476429138e-08),
}
INVERSE_LN10 = {
    "float32": (0.434326171875, -3.168997174817235e-05),
    "float64": (0.4342944845557213, -2.6524694553078553e-09),
}

# Where exp is surely 0 and surely infinite; where exp2 is; where expm1 is −1.
EXP_RANGE = {"float32": (-104.0, 89.0), "float64": (-746.0, 710.0)}
EXP2_RANGE = {"float32": (-151.0, 128.0), "float64": (-1076.0, 1024.0)}
EXPM1_LOW = {"float32": -20.0, "float64": -40.0}
# Beyond these tanh is ±1, and sinh and cosh are infinite.
TANH_HIGH = {"float32": 10.0, "float64": 20.0}
SINH_HIGH = {"float32": 89.7, "float64": 710.6}

# What a logarithm is where its argument is no positive finite number.
LOG_SPECIALS = {
    avx512.QUIET: avx512.ITSELF_QUIET, avx512.SIGNALLING: avx512.ITSELF_QUIET, avx512.ZERO: avx512.TO_MINUS_INFINITY,
    avx512.NEGATIVE: avx512.NAN, avx512.MINUS_INFINITY: avx512.NAN, avx512.INFINITY: avx512.TO_INFINITY,
}  # fmt: skip


class Exponential(Avx512):
    """Exponentials, logarithms and hyperbolic functions, on `Value`s of one lane or many."""

    # -- exponentials ----------------------------------------------------------------------------------------------
    @elementary
    def exp(self, x: Value) -> Value:
        """e^x = 2^n·e^r with n = round(x/ln2) and |r| ≤ ln2/2."""
        form = FORMATS[x.dtype]
        x, vanishes = self._without_far(x, EXP_RANGE[x.dtype])
        shifted, r = self._reduce_exp(x, 2 * form.bias)
        return self.select(vanishes, 0.0, self._scale(self.add(self._expm1_reduced(r), 1.0), shifted))

    @elementary
    def exp2(self, x: Value) -> Value:
        form = FORMATS[x.dtype]
        x, vanishes = self._without_far(x, EXP2_RANGE[x.dtype])
        magic = form.magic + 2 * form.bias
        shifted = self.add(x, magic)
        r = self.sub(x, self.sub(shifted, magic))
        return self.select(vanishes, 0.0, self._scale(self.fma(r, self.polynomial(r, EXP2[x.dtype]), 1.0), shifted))

    @elementary
    def expm1(self, x: Value) -> Value:
        """2^n·(e^r − 1) + (2^n − 1), halved until the end so that 2^n does not overflow before the result does."""
        form = FORMATS[x.dtype]
        shifted, r = self._reduce_exp(self._clamp(x, EXPM1_LOW[x.dtype], EXP_RANGE[x.dtype][1]), form.bias - 1)
        half = self._power_of_two(shifted)
        curved = self.mul(self.mul(r, r), self.polynomial(r, EXP[x.dtype]))
        result = self.mul(self.fma(half, curved, self.fma(half, r, self.sub(half, 0.5))), 2.0)
        return self.select(self.lt(self.abs(x), form.epsilon / 8), x, result)

    @elementary
    def sigmoid(self, x: Value) -> Value:
        """With e = e^−|x| and q = e/(1 + e): 1 − q for positive x, else e − e·q, accurate down to subnormals."""
        e = self._exp_of_negative(self.abs(x))
        q = self.div(e, self.add(e, 1.0))
        return self.select(self.lt(x, 0.0), self.fma(self.neg(e), q, e), self.sub(1.0, q))

    @elementary
    def softplus(self, x: Value) -> Value:
        """log(1 + e^x) = max(x, 0) + log1p(e^−|x|)."""
        return self.add(self.select(self.gt(x, 0.0), x, 0.0), self._log1p_exp(self.abs(x)))

    @elementary
    def logaddexp(self, x: Value, y: Value) -> Value:
        """log(e^x + e^y) = max(x, y) + log1p(e^−|x−y|); equal infinities count as distance 0."""
        distance = self.select(self.eq(x, y), 0.0, self.abs(self.sub(x, y)))
        return self.add(self.max(x, y), self._log1p_exp(distance))

    def xlogy(self, x: Value, y: Value) -> Value:
        """x·log y, where 0 times any number is 0."""
        return self.select(self.and_(self.eq(x, 0.0), self.eq(y, y)), 0.0, self.mul(x, self.log(y)))

    def _without_far(self, x: Value, bounds: tuple[float, float]) -> tuple[Value, Value]:
        """``x`` at most the upper bound, and whether it lies below the lower one, where 0 stands in for it.

        The power of a masked −inf would otherwise be a product that underflows, which costs a CPU ten times as much;
        not so where `scaled` makes it.
        """
        low, high = bounds
        vanishes, bounded = self.lt(x, low), self.select(self.gt(x, high), high, x)
        return bounded if self.has_avx512 else self.select(vanishes, 0.0, bounded), vanishes

    def _clamp(self, x: Value, low: float, high: float) -> Value:
        """Into [low, high]; NaN stays NaN. Written so that it is one min and one max instruction."""
        x = self.select(self.gt(x, high), high, x)
        return self.select(self.lt(x, low), low, x)

    def _reduce_exp(self, x: Value, offset: int, half: Value | None = None) -> tuple[Value, Value]:
        """(magic + n + offset, r) with x = n·ln2 + r: the first has n + offset in its low bits.

        ``half`` is x/2, where that is known before x.
        """
        head, tail = LN2[x.dtype]
        magic = FORMATS[x.dtype].magic + offset
        shifted = self.fma(x, LOG2_E, magic) if half is None else self.fma(half, 2 * LOG2_E, magic)
        n = self.sub(shifted, magic)
        return shifted, self.fma(n, -tail, self.fma(n, -head, x))

    def _expm1_reduced(self, r: Value) -> Value:
        """e^r − 1 for |r| ≤ ln2/2."""
        return self.fma(self.mul(r, r), self.polynomial(r, EXP[r.dtype]), r)

    def _power_of_two(self, shifted: Value) -> Value:
        """2^(k − bias) where k in [0, 2·bias] stands in the low bits of ``shifted``: move k to the exponent field."""
        form = FORMATS[shifted.dtype]
        return self.bitcast(self.shl(self.bitcast(shifted, form.integer), form.mantissa), shifted.dtype)

    def _scale(self, p: Value, shifted: Value) -> Value:
        """p·2^(k − 2·bias), k in the low bits of ``shifted``: in two steps, and only the second can round."""
        form = FORMATS[p.dtype]
        if self.has_avx512:
            return self.scaled(p, self.sub(shifted, form.magic + 2 * form.bias))
        bits = self.bitcast(shifted, form.integer)
        first = self.shr(bits, 1)
        second = self.sub(bits, first)
        for k in (first, second):
            p = self.mul(p, self.bitcast(self.shl(k, form.mantissa), p.dtype))
        return p

    def _exp_of_negative(self, x: Value) -> Value:
        """e^−x for x ≥ 0."""
        form = FORMATS[x.dtype]
        limit = -EXP_RANGE[x.dtype][0]
        x = self.select(self.gt(x, limit), limit, x)
        shifted, r = self._reduce_exp(self.neg(x), 2 * form.bias)
        return self._scale(self.add(self._expm1_reduced(r), 1.0), shifted)

    def _log1p_exp(self, x: Value) -> Value:
        """log(1 + e^−x) for x ≥ 0: 1 + e^−x lies in [1, 2], so its exponent is 0 or 1."""
        e = self._exp_of_negative(x)
        upper = self.gt(e, LOG_HIGH[x.dtype])
        f = self.select(upper, self.fma(e, 0.5, -0.5), e)
        return self._log_reduced(f, self.select(upper, self.const(1.0, e), 0.0))

    # -- logarithms ------------------------------------------------------------------------------------------------
    @elementary
    def log(self, x: Value) -> Value:
        """x = 2^k·(1 + f); log x = k·ln2 + log(1 + f)."""
        k, f = self._reduce_log(x)
        return self._log_specials(x, self._log_reduced(f, k))

    @elementary
    def log2(self, x: Value) -> Value:
        """Exact on powers of two."""
        k, f = self._reduce_log(x)
        return self._log_specials(x, self._log_base(k, f, (1.0, 0.0), INVERSE_LN2[x.dtype]))

    @elementary
    def log10(self, x: Value) -> Value:
        """Exact on those powers of ten that the format holds exactly."""
        k, f = self._reduce_log(x)
        return self._log_specials(x, self._log_base(k, f, LOG10_2[x.dtype], INVERSE_LN10[x.dtype]))

    @elementary
    def log1p(self, x: Value) -> Value:
        """1 + x = 2^k·(1 + f): k from the rounded sum; f = x·2^−k + (2^−k − 1), and what that sum loses."""
        form = FORMATS[x.dtype]
        u = self.add(x, 1.0)
        biased = self._biased_exponent(u)
        # 4·2^−k stays in the normal range for the largest k; x/4 is exact but for x so small that log1p(x) is x.
        field = self.shl(self.sub(2 * form.bias + 2, biased), form.mantissa)
        scale = self.bitcast(field, x.dtype)
        scaled, constant = self.mul(self.mul(x, 0.25), scale), self.fma(scale, 0.25, -1.0)
        f = self.add(scaled, constant)
        # Where the sum is not exact, the constant is the larger part. 1 − f stands for the slope 1/(1 + f).
        lost = self.mul(self.sub(scaled, self.sub(f, constant)), self.sub(1.0, f))
        result = self._log_specials(u, self._log_reduced(f, self._exponent_value(biased, x.dtype), lost))
        return self.select(self.lt(self.abs(x), form.epsilon / 8), x, result)

    def _biased_exponent(self, x: Value) -> Value:
        """k + bias as an integer, where x = 2^k·m and m in [p, 2p); for normal positive x."""
        form = FORMATS[x.dtype]
        return self.shr(self._offset_bits(x), form.mantissa)

    def _offset_bits(self, x: Value) -> Value:
        """The bits of x as an unsigned integer, moved so that the exponent field steps at the pivot instead of 1."""
        form = FORMATS[x.dtype]
        return self.add(self.bitcast(x, form.integer), (form.bias << form.mantissa) - form.pivot)

    def _exponent_value(self, biased: Value, dtype: str, lowered: Value | None = None) -> Value:
        """biased − bias as a float; ``lowered`` marks lanes whose argument was scaled up by 2^(mantissa + 1)."""
        form = FORMATS[dtype]
        offset = form.magic + form.bias
        value = self.bitcast(self.add(biased, form.magic_bits), dtype)
        if lowered is None:
            return self.sub(value, offset)
        return self.sub(value, self.select(lowered, self.const(offset + form.mantissa + 1, dtype), offset))

    def _reduce_log(self, x: Value) -> tuple[Value, Value]:
        """(k, f) with x = 2^k·(1 + f) and 1 + f in [p, 2p), p the format's pivot, for every positive finite x."""
        form = FORMATS[x.dtype]
        if self.has_avx512:
            k, m = self.exponent(x), self.significand(x)
            upper = self.ge(m, form.pivot_twice)
            f = self.select(upper, self.fma(m, 0.5, -1.0), self.sub(m, 1.0))
            return self.select(upper, self.add(k, 1.0), k), f
        subnormal = self.lt(x, form.smallest_normal)
        return self._reduce_normal(self.select(subnormal, self.mul(x, 2.0 ** (form.mantissa + 1)), x), subnormal)

    def _reduce_normal(self, x: Value, lowered: Value | None = None) -> tuple[Value, Value]:
        """`_reduce_log` of normal numbers; k is smaller by mantissa + 1 where ``lowered``."""
        form = FORMATS[x.dtype]
        offset = self._offset_bits(x)
        k = self._exponent_value(self.shr(offset, form.mantissa), x.dtype, lowered)
        significand = self.add(self.and_(offset, (1 << form.mantissa) - 1), form.pivot)
        return k, self.sub(self.bitcast(significand, x.dtype), 1.0)

    def _log_tail(self, f: Value, carry: Value | float = 0.0) -> Value:
        """log(1 + f) − f + carry, for f as `_reduce_log` leaves it."""
        if f.dtype == "float32":
            inner = self.fma(f, self.polynomial(f, LOG[f.dtype]), -0.5)
            return self.fma(self.mul(f, f), inner, carry)
        # With h = f²/2 and s = f/(2 + f): 2s = f − s·f = f − h + s·h, as in fdlibm's e_log.c (Sun Microsystems, 1993).
        s = self.div(f, self.add(f, 2.0))
        square, half = self.mul(s, s), self.mul(self.mul(f, f), 0.5)
        inner = self.fma(square, self.polynomial(square, LOG[f.dtype]), half)
        return self.sub(self.fma(s, inner, carry), half)

    def _log_reduced(self, f: Value, k: Value, carry: Value | None = None) -> Value:
        """k·ln2 + log(1 + f) + carry, the small parts first."""
        head, tail = LN2[f.dtype]
        rest = self._log_tail(f, self.mul(k, tail) if carry is None else self.fma(k, tail, carry))
        return self.fma(k, head, self.add(f, rest))

    def _log_base(self, k: Value, f: Value, unit: tuple[float, float], inverse: tuple[float, float]) -> Value:
        """k·unit + log(1 + f)·inverse, both as head and tail; exact but for a small rest: f is cut in two."""
        f_head = self._head(f)
        large, small = self.mul(k, unit[0]), self.mul(f_head, inverse[0])
        total = self.add(large, small)
        lost = self.sub(small, self.sub(total, large))
        rest = self.fma(self.sub(f, f_head), inverse[0], self.fma(f, inverse[1], lost))
        rest = self.fma(self._log_tail(f), sum(inverse), rest)
        return self.add(total, self.fma(k, unit[1], rest) if unit[1] else rest)

    def _head(self, x: Value) -> Value:
        """x with the lower half of its significand cleared."""
        return self._upper_bits(x, FORMATS[x.dtype].head_mask)

    def _upper_bits(self, x: Value, mask: int) -> Value:
        """x without the bits that an and-mask clears."""
        return self.bitcast(self.and_(self.bitcast(x, FORMATS[x.dtype].integer), mask), x.dtype)

    def _log_specials(self, x: Value, result: Value) -> Value:
        """Infinity and NaN are themselves, zero gives −infinity, negative numbers give NaN."""
        if self.has_avx512:
            return self.fixed(result, x, LOG_SPECIALS)
        result = self.select(self.lt(x, inf), result, x)
        outside = self.select(self.eq(x, 0.0), self.const(-inf, x), nan)
        return self.select(self.gt(x, 0.0), result, outside)

    # -- hyperbolic functions --------------------------------------------------------------------------------------
    @elementary
    def tanh(self, x: Value) -> Value:
        """1 − 2/(e^2|x| + 1), and a polynomial where that would cancel."""
        magnitude, high = self.abs(x), TANH_HIGH[x.dtype]
        bounded = self.select(self.gt(magnitude, high), high, magnitude)
        shifted, r = self._reduce_exp(self.add(bounded, bounded), FORMATS[x.dtype].bias, bounded)
        power, p = self._power_of_two(shifted), self._expm1_reduced(r)
        upper = self.sub(1.0, self.div(2.0, self.fma(power, p, self.add(power, 1.0))))
        square = self.mul(x, x)
        lower = self.fma(self.mul(square, magnitude), self.polynomial(square, TANH[x.dtype]), magnitude)
        return self.copysign(self.select(self.gt(magnitude, 0.55), upper, lower), x)

    @elementary
    def tanh_slope(self, x: Value) -> Value:
        """4e/(1 + e)² with e = e^−2|x|."""
        magnitude = self.abs(x)
        e = self._exp_of_negative(self.add(magnitude, magnitude))
        total = self.add(e, 1.0)
        return self.div(self.mul(e, 4.0), self.mul(total, total))

    @elementary
    def sinh(self, x: Value) -> Value:
        """(2^n − 2^−n)/2·cosh r + (2^n + 2^−n)/2·sinh r."""
        (up, down), s, c = self._hyperbolic_parts(self.abs(x))
        difference, total = self.sub(up, down), self.add(up, down)
        lost = self.sub(self.sub(up, difference), down)
        half = self.add(difference, self.fma(total, s, self.fma(difference, c, lost)))
        tiny = self.lt(self.abs(x), FORMATS[x.dtype].epsilon)
        return self.copysign(self.select(tiny, self.abs(x), self.add(half, half)), x)

    @elementary
    def cosh(self, x: Value) -> Value:
        """(2^n + 2^−n)/2·cosh r + (2^n − 2^−n)/2·sinh r."""
        (up, down), s, c = self._hyperbolic_parts(self.abs(x))
        difference, total = self.sub(up, down), self.add(up, down)
        lost = self.sub(down, self.sub(total, up))
        half = self.add(total, self.fma(difference, s, self.fma(total, c, lost)))
        return self.add(half, half)

    def _hyperbolic_parts(self, x: Value) -> tuple[tuple[Value, Value], Value, Value]:
        """((2^n/4, 2^−n/4), sinh r, cosh r − 1) for x = n·ln2 + r ≥ 0.

        A quarter, because 2^n may overflow where the result does not; 2^−n is 0 where it no longer matters.
        """
        form = FORMATS[x.dtype]
        high = SINH_HIGH[x.dtype]
        shifted, r = self._reduce_exp(self.select(self.gt(x, high), high, x), form.bias - 2)
        bits = self.bitcast(shifted, form.integer)
        mirrored = self.sub(2 * (form.magic_bits + form.bias - 2), bits)
        zero = self.const(form.magic_bits, form.integer)
        mirrored = self.select(self.lt(mirrored, zero), zero, mirrored)
        up, down = self._power_of_two(shifted), self._power_of_two(self.bitcast(mirrored, x.dtype))
        square = self.mul(r, r)
        sinh = self.fma(self.mul(square, r), self.polynomial(square, SINH[x.dtype]), r)
        cosh = self.mul(square, self.polynomial(square, COSH[x.dtype]))
        return (up, down), sinh, cosh

    @elementary
    def arcsinh(self, x: Value) -> Value:
        """log1p(a + a²/(1 + √(1 + a²))) for a = |x|, and log a + ln2 before a² overflows."""
        a = self.abs(x)
        square = self.mul(a, a)
        root = self.sqrt(self.add(square, 1.0))
        return self.copysign(self._log1p_unless_huge(a, self.add(a, self.div(square, self.add(root, 1.0)))), x)

    @elementary
    def arccosh(self, x: Value) -> Value:
        """log1p(t + √(t·(t + 2))) for t = x − 1, and log x + ln2 before t² overflows; NaN below 1."""
        t = self.sub(x, 1.0)
        argument = self.add(t, self.sqrt(self.mul(t, self.add(t, 2.0))))
        return self.select(self.lt(x, 1.0), nan, self._log1p_unless_huge(x, argument))

    def _log1p_unless_huge(self, x: Value, argument: Value) -> Value:
        """log1p(argument); where x is so large that its square is near overflow, log(2x)."""
        huge = self.gt(x, 2.0 ** (FORMATS[x.dtype].bias // 2 - 3))
        addend = self.select(huge, self.const(sum(LN2[x.dtype]), x), 0.0)
        return self.add(self.log1p(self.select(huge, x, argument)), addend)

    @elementary
    def arctanh(self, x: Value) -> Value:
        """log((1 + a)/(1 − a))/2 for a = |x|: ±infinity at ±1, NaN beyond."""
        a = self.abs(x)
        complement = self.sub(1.0, a)
        return self.copysign(self.mul(self.log1p(self.div(self.add(a, a), complement)), 0.5), x)
