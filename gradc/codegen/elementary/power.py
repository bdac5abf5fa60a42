"""Powers and roots as lane arithmetic.

Enters: `Value`s of float32 or float64; integers for `ipow`.  Leaves: a `Value` of the
same dtype.  Invariant: as in `exponential`.  Start reading at `Power.pow`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf, nan

from gradc.codegen.elementary import avx512
from gradc.codegen.elementary.exponential import EXP2, EXP2_RANGE, Exponential
from gradc.codegen.elementary.format import FORMATS, elementary
from gradc.codegen.ir import Value

# log2((1 + s)/(1 − s)) = s·(A + B·s² + s⁴·P(s²)), |s| ≤ 0.1716 (that is √½ to √2): relative error 2^-73.4.
LOG2_SERIES = (
    0.17281886906163046, 0.1684513806133779, 0.19240132603772994, 0.2219522703334932,
    0.26230819865726707, 0.32059889791279605, 0.41219858311134566, 0.5770780163555851,
)  # fmt: skip
# A = 2/ln2 and B = A/3 with heads of half a significand.
LOG2_A = (2.8853901028633118, -2.1085384952858276e-08)
LOG2_B = (0.9617967009544373, -7.028461650952758e-09)
# For float32, computed in float64: log2((1 + s)/(1 − s)) = s·P(s²), |s| ≤ 0.1716, relative error 2^-37.8;
# 2^r = P(r), |r| ≤ 1/2, relative error 2^-29.
WIDE_LOG2 = (0.34073962200121266, 0.4116721503154005, 0.5770835956358682, 0.9617966732772145, 2.8853900817901468)
WIDE_EXP2 = (
    0.00015345569142397798, 0.0013400061346019673, 0.009618490799300133, 0.055503284569385976,
    0.24022646865630756, 0.6931472058830503, 1.0000000005578327,
)  # fmt: skip
# The shift that leaves the upper bits of z, and what a third of them is taken from: z^(-1/3) within 3.5 %.
CBRT_INVERSE = {"float32": (8, 5546485), "float64": (32, 1430186315)}
# (1 − h)^(-2/3), |h| ≤ 0.1021, relative error 2^-12.9 and 2^-17.3, then less 2^-12.3 and 2^-16.8: never above.
CBRT_START = {
    "float32": (0.56143697, 0.67042003, 0.99978915),
    "float64": (0.5005469840629726, 0.560306206588616, 0.6666373054997963, 0.9999850270874773),
}
# ((1 + ρ)^(1/3) − 1)/ρ, 0 ≤ ρ ≤ 0.0265 and 1e-4: absolute error 2^-25.3 and 2^-49.
CBRT = {
    "float32": (0.060130138, -0.11109537, 0.33333331),
    "float64": (0.06172222222222222, -0.11111111087962962, 0.33333333333333204),
}
# What leaves 8 and 17 bits of a significand.
CBRT_MASK = {"float32": -1 << 16, "float64": -1 << 36}
# The smallest numbers are scaled up by a cube, their roots down again.
CBRT_SCALES = {"float32": (2.0**24, 2.0**-8), "float64": (2.0**54, 2.0**-18)}
CBRT_SPECIALS = {
    avx512.QUIET: avx512.ITSELF_QUIET, avx512.SIGNALLING: avx512.ITSELF_QUIET, avx512.ZERO: avx512.ITSELF,
    avx512.MINUS_INFINITY: avx512.ITSELF, avx512.INFINITY: avx512.ITSELF,
}  # fmt: skip
# hypot: (above which both sides are scaled down, by what; below which they are scaled up, by what).
HYPOT_SCALES = {
    "float32": ((2.0**62, 2.0**-66), (2.0**-40, 2.0**87)),
    "float64": ((2.0**510, 2.0**-600), (2.0**-450, 2.0**600)),
}


# Powers of 0 and infinity, by whether the exponent is negative.
POW_SPECIALS = {
    True: {avx512.ZERO: avx512.TO_INFINITY, avx512.INFINITY: avx512.TO_ZERO},
    False: {avx512.ZERO: avx512.TO_ZERO, avx512.INFINITY: avx512.TO_INFINITY},
}


class Power(Exponential):
    """Powers and roots, on `Value`s of one lane or many."""

    # -- general powers --------------------------------------------------------------------------------------------
    @elementary
    def pow(self, x: Value, y: Value) -> Value:
        """x^y with the special cases of IEEE 754-2019, 9.2.1, which are NumPy's and C's."""
        magnitude = self._pow_magnitude(self.abs(x), y)
        negative = self.lt(self.bitcast(x, f"int{x.bits}"), 0)
        with self.f.unless_rare(self.any(negative), [magnitude]) as other:
            half = self.mul(y, 0.5)
            integer = self.eq(self.trunc(y), y)
            odd = self.and_(integer, self.ne(self.trunc(half), half))
            signed = self.select(odd, self.copysign(magnitude, x), magnitude)
            undefined = self.and_(self.and_(self.lt(x, 0.0), self.gt(x, -inf)), self.not_(integer))
            other.next = [self.select(undefined, nan, signed)]
        one = self.or_(self.eq(y, 0.0), self.eq(x, 1.0))
        return self.select(one, 1.0, self.select(self.unordered(x, y), nan, other.result[0]))

    def _pow_magnitude(self, a: Value, y: Value) -> Value:
        """a^y for a ≥ 0."""
        # |log2 a| ≥ epsilon for a ≠ 1, so beyond this bound the result is 0, 1 or infinity and stays so.
        limit = 2.0 ** (FORMATS[a.dtype].mantissa + 12)
        bounded = self._clamp(y, -limit, limit)
        result = (self._pow_single if a.dtype == "float32" else self._pow_double)(a, bounded)
        down = self.lt(y, 0.0)
        if self.has_avx512:
            return self.fixed(result, a, POW_SPECIALS[True], POW_SPECIALS[False], down)
        zero, infinite = self.eq(a, 0.0), self.eq(a, inf)
        result = self.select(zero, self.select(down, self.const(inf, a), 0.0), result)
        return self.select(infinite, self.select(down, self.const(0.0, a), inf), result)

    def _pow_single(self, a: Value, y: Value) -> Value:
        """a^y of float32 for positive finite a, in float64: it is shorter than two-part sums of float32."""
        wide_a, wide_y = self.convert(a, "float64"), self.convert(y, "float64")
        k, f = self._reduce_normal(wide_a)
        s = self.div(f, self.add(f, 2.0))
        logarithm = self.fma(s, self._estrin(self.mul(s, s), WIDE_LOG2), k)
        exponent = self._clamp(self.mul(wide_y, logarithm), *EXP2_RANGE["float32"])
        form = FORMATS["float64"]
        shifted = self.add(exponent, form.magic + form.bias)
        r = self.sub(exponent, self.sub(shifted, form.magic + form.bias))
        return self.convert(self.mul(self._estrin(r, WIDE_EXP2), self._power_of_two(shifted)), "float32")

    def _pow_double(self, a: Value, y: Value) -> Value:
        """a^y of float64 for positive finite a, with y·log2 a in two parts."""
        log_head, log_tail = self._log2_parts(a)
        y_head = self._head(y)
        head = self.mul(y_head, log_head)
        tail = self.fma(y, log_tail, self.mul(self.sub(y, y_head), log_head))
        return self._exp2_parts(head, tail)

    def _exp2_parts(self, head: Value, tail: Value) -> Value:
        """2^(head + tail), where |tail| < 2^-14 unless the result is 0 or infinite anyway."""
        form = FORMATS[head.dtype]
        low, high = EXP2_RANGE[head.dtype]
        head, tail = self._clamp(head, low - 2, high + 2), self._clamp(tail, -1.0, 1.0)
        magic = form.magic + 2 * form.bias
        shifted = self.add(head, magic)
        r = self.add(self.sub(head, self.sub(shifted, magic)), tail)
        return self._scale(self.fma(r, self._estrin(r, EXP2[r.dtype]), 1.0), shifted)

    def _log2_parts(self, a: Value) -> tuple[Value, Value]:
        """log2 a in two parts, the first of half a significand; together good to 12 bits more than the format has.

        log2(1 + f) is a series in s = f/(2 + f), of which s and the first two terms are carried in two parts. Products
        of heads are exact; this is the scheme of fdlibm's e_pow.c (Sun Microsystems, 1993), without its table.
        """
        k, f = self._reduce_log(a)
        s, s_head, s_tail = self._quotient_parts(f)
        square, exact_square = self.mul(s, s), self.mul(s_head, s_head)
        square_head = self._head(exact_square)
        linear = self.mul(square_head, LOG2_B[0])
        rest = self.mul(self.mul(square, square), self._estrin(square, LOG2_SERIES))
        rest = self.add(rest, self.fma(square, LOG2_B[1], LOG2_A[1]))
        lacking = self.fma(s_tail, self.add(s_head, s), self.sub(exact_square, square_head))
        rest = self.fma(lacking, LOG2_B[0], rest)
        t_head = self._head(self.add(self.add(linear, LOG2_A[0]), rest))
        t_tail = self.sub(rest, self.sub(self.sub(t_head, LOG2_A[0]), linear))
        large, small = self.mul(s_head, t_head), self.fma(s_tail, t_head, self.mul(t_tail, s))
        head = self._head(self.add(self.add(large, small), k))
        return head, self.sub(small, self.sub(self.sub(head, k), large))

    def _quotient_parts(self, f: Value) -> tuple[Value, Value, Value]:
        """s = f/(2 + f) rounded, its head, and what the head lacks."""
        denominator = self.add(f, 2.0)
        inverse = self.div(1.0, denominator)
        s = self.mul(f, inverse)
        s_head, d_head = self._head(s), self._head(denominator)
        d_tail = self.sub(f, self.sub(d_head, 2.0))
        residual = self.sub(self.sub(f, self.mul(s_head, d_head)), self.mul(s_head, d_tail))
        return s, s_head, self.mul(inverse, residual)

    def _estrin(self, x: Value, coefficients: Sequence[float]) -> Value:
        """The polynomial by Estrin's scheme: a few products more than Horner's, but a short chain of dependent ones."""
        terms = [self.const(c, x) for c in reversed(coefficients)]
        while len(terms) > 1:
            pairs = [self.fma(high, x, low) for low, high in zip(terms[::2], terms[1::2], strict=False)]
            terms, x = pairs + terms[len(pairs) * 2 :], self.mul(x, x)
        return terms[0]

    def ipow(self, x: Value, y: Value) -> Value:
        """x^y for integers of one dtype, y ≥ 0, wrapping as NumPy does; a negative y gives an unspecified number.

        Squares as often as the widest exponent of the lanes has bits.
        """
        exponents = y if y.lanes == 1 else self._intrinsic("vector.reduce.or", Value("", y.dtype), [y], suffix=[y])
        name = f"llvm.ctlz.{exponents.type}"
        self.f.module.declare(name, exponents.type, exponents.type, "i1")
        zeros = Value(self.f.let(f"call {exponents.type} @{name}({exponents.typed}, i1 false)"), f"uint{y.bits}")
        count = self.convert(zeros, "int64")
        steps = Value(self.f.let(f"sub i64 {y.bits}, {count.ref}"), "int64")
        unsigned = f"uint{y.bits}"
        start = [self.const(1, x), x, self.bitcast(y, unsigned)]
        with self.f.loop(0, steps, carry=start) as loop:
            result, base, left = loop.carry
            odd = self.ne(self.and_(left, 1), 0)
            loop.next = [self.select(odd, self.mul(result, base), result), self.mul(base, base), self.shr(left, 1)]
        return loop.result[0]

    # -- roots -----------------------------------------------------------------------------------------------------
    @elementary
    def rsqrt(self, x: Value) -> Value:
        """1/√x."""
        return self.div(1.0, self.sqrt(x))

    @elementary
    def hypot(self, x: Value, y: Value) -> Value:
        """√(x² + y²) without overflow or underflow in between; an infinity wins over NaN."""
        a, b = self.abs(x), self.abs(y)
        choose = self._by_size(a, b)
        (_, down), (_, up) = HYPOT_SCALES[x.dtype]
        scale = choose(down, up)
        a, b = self.mul(a, scale), self.mul(b, scale)
        root = self.sqrt(self.fma(a, a, self.mul(b, b)))
        result = self.mul(root, choose(1 / down, 1 / up))
        return self.select(self.or_(self.eq(a, inf), self.eq(b, inf)), inf, result)

    @elementary
    def direction_cosine(self, x: Value, y: Value) -> Value:
        """x/√(x² + y²), 0 at the origin; infinities count as 1 and finite numbers beside them as 0."""
        a, b = self.abs(x), self.abs(y)
        far = self.or_(self.eq(a, inf), self.eq(b, inf))
        a, b = (self.select(far, self.select(self.eq(v, inf), 1.0, self.mul(v, 0.0)), v) for v in (a, b))
        choose = self._by_size(a, b)
        (_, down), (_, up) = HYPOT_SCALES[x.dtype]
        scale = choose(down, up)
        p, q = self.mul(a, scale), self.mul(b, scale)
        root = self.sqrt(self.fma(p, p, self.mul(q, q)))
        root = self.select(self.eq(root, 0.0), 1.0, root)
        # What is scaled down comes after the quotient, which may be small already; what is scaled up before.
        return self.copysign(self.mul(self.div(self.mul(a, choose(1.0, up)), root), choose(down, 1.0)), x)

    @elementary
    def circle_inversion(self, x: Value, y: Value) -> Value:
        """x/(x² + y²), 0 at the origin and at infinity."""
        a, b = self.abs(x), self.abs(y)
        choose = self._by_size(a, b)
        (_, down), (_, up) = HYPOT_SCALES[x.dtype]
        scale = choose(down, up)
        p, q = self.mul(a, scale), self.mul(b, scale)
        square = self.fma(p, p, self.mul(q, q))
        square = self.select(self.eq(square, 0.0), 1.0, square)
        result = self.mul(self.mul(self.div(self.mul(a, choose(1.0, up)), square), scale), choose(down, 1.0))
        far = self.or_(self.eq(a, inf), self.eq(b, inf))
        return self.copysign(self.select(far, 0.0, result), x)

    def _by_size(self, a: Value, b: Value) -> Callable[[float, float], Value]:
        """How to choose: the first number where the square of the larger one may overflow, the second one where it may
        underflow, else 1."""
        larger = self.select(self.lt(a, b), b, a)
        (above, _), (below, _) = HYPOT_SCALES[a.dtype]
        huge, tiny = self.gt(larger, above), self.lt(larger, below)
        return lambda if_huge, if_tiny: self.select(huge, if_huge, self.select(tiny, if_tiny, self.const(1.0, a)))

    @elementary
    def cbrt(self, x: Value) -> Value:
        """A root y of few enough bits that y³ is exact, times (1 + ρ)^(1/3) where x = y³·(1 + ρ).

        The small second term of that is all that is rounded before the last addition, so roots that the format holds
        are found exactly.
        """
        form = FORMATS[x.dtype]
        a, (up, down) = self.abs(x), CBRT_SCALES[x.dtype]
        small = self.lt(a, 4 * form.smallest_normal)  # so that y³ is normal, too
        z = self.select(small, self.mul(a, up), a)
        y = self._upper_bits(self._cbrt_start(z), CBRT_MASK[x.dtype])
        cube = self.mul(self.mul(y, y), y)
        excess = self.div(self.sub(z, cube), cube)
        root = self.fma(self.mul(y, excess), self.polynomial(excess, CBRT[x.dtype]), y)
        root = self.copysign(self.select(small, self.mul(root, down), root), x)
        if self.has_avx512:
            return self.fixed(root, x, CBRT_SPECIALS)
        regular = self.and_(self.gt(a, 0.0), self.lt(a, inf))
        return self.select(regular, root, x)

    def _cbrt_start(self, z: Value) -> Value:
        """z^(1/3) of normal z, a little too small: z·w² with w near z^(-1/3), corrected by 1 − z·w³.

        The bits of z, as an integer, are nearly a multiple of log2 z; a third of them, taken from a constant, are those
        of w. The upper ones become a float by standing in the low bits of a power of two.
        """
        form = FORMATS[z.dtype]
        shift, start = CBRT_INVERSE[z.dtype]
        raised = self.or_(self.shr(self.bitcast(z, form.integer), shift), (form.bias + form.mantissa) << form.mantissa)
        third = self.fma(self.bitcast(raised, z.dtype), -1 / 3, 2.0**form.mantissa * 4 / 3 + start)
        w = self.bitcast(self.shl(self.bitcast(third, form.integer), shift), z.dtype)
        rough = self.mul(z, self.mul(w, w))
        return self.mul(rough, self.polynomial(self.fma(self.neg(rough), w, 1.0), CBRT_START[z.dtype]))
