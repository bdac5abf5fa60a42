"""Sine, cosine, tangent and their inverses as lane arithmetic.

Enters: `Value`s of float32 or float64.  Leaves: a `Value` of the same dtype.
Invariant: the bounds of the records hold for every finite argument, with and without FMA.  The circular functions
reduce their argument by the subtraction of Cody and Waite (Software Manual for the Elementary Functions, 1980) up to
`LIMIT`, and beyond it by `payne_hanek`, in a real branch that is taken only when some lane needs it; everything else
is branch-free.  Start reading at `Trigonometric.sin`.

Every polynomial below is a minimax fit (Remez exchange in 200-bit arithmetic), its coefficients rounded to the dtype
from the lowest power up and the others fitted again each time; they stand with the highest power first. The comment
beside it gives the largest relative error that it brings to the function.
"""

from __future__ import annotations

import math

from gradc.codegen.elementary.format import FORMATS, elementary
from gradc.codegen.elementary.payne_hanek import reduce_large
from gradc.codegen.ir import Lanes, Value

#: π/2 as a sum. A product of one of the first three parts with an integer up to LIMIT·2/π has at most as many bits as
#: the significand, so it is exact even without FMA; the second part ends at the last place of numbers in [1, 2).
HALF_PI = {
    "float32": (1.5703125, 0.0004837512969970703, 7.549533620476723e-08, 2.5633440682570896e-12),
    "float64": (1.5707963109016418, 1.5893254712295857e-08, 6.123233932053594e-17, 6.36831716351095e-25),
}
#: The largest magnitude that the four parts reduce with a remainder right to 1/8 of its last place, however close to a
#: multiple of π/2: no smaller number lies nearer to one than 2^-27.9 (float32) or 2^-60.5 (float64), as the convergents
#: of 2^k/π show.
LIMIT = {"float32": 6400.0, "float64": 4194304.0}

#: (sin √s/√s − 1)/s for √s up to π/4; errors 2^-27.8 and 2^-57.2.
SINE = {
    "float32": (-0.000195177985, 0.00833218731, -0.166666552),
    "float64": (
        1.5895350210845904e-10, -2.505073401204618e-08, 2.7557313539183695e-06, -0.00019841269829359355,
        0.00833333333332184, -0.1666666666666663,
    ),
}  # fmt: skip
#: (cos √s − 1)/s for √s up to π/4; errors 2^-32.9 and 2^-59.8.
COSINE = {
    "float32": (2.44322982e-05, -0.00138873095, 0.0416666456, -0.5),
    "float64": (
        -1.1358150429202628e-11, 2.087570042195417e-09, -2.7557314203410635e-07, 2.480158728896577e-05,
        -0.0013888888888873307, 0.041666666666666595, -0.5,
    ),
}  # fmt: skip
#: (tan √s/√s − 1)/s for √s up to π/4; errors 2^-29.3 and 2^-56.8.
TANGENT = {
    "float32": (
        0.00439955248, 5.08198318e-05, 0.0108583216, 0.0212772805, 0.0540599674, 0.133326724, 0.333333492,
    ),
    "float64": (
        9.882663840994498e-06, -2.4546232215247884e-05, 4.9001061652709e-05, -2.588258111965387e-05,
        6.729711028816646e-05, 8.356897975738394e-05, 0.00024373273093704524, 0.0005888724003639952,
        0.001456043656587321, 0.0035921011737687137, 0.0088632378931122, 0.021869488401091958, 0.05396825397284529,
        0.13333333333325417, 0.3333333333333338,
    ),
}  # fmt: skip
#: (arctan √s/√s − 1)/s for √s up to 1/2; errors 2^-31.5 and 2^-57.9.
ARCTANGENT = {
    "float32": (0.0388774946, -0.0799979568, 0.109466717, -0.142729908, 0.199995533, -0.333333284),
    "float64": (
        -0.008230012701431717, 0.02344905327091055, -0.03698228612439312, 0.04584267399088033, -0.05228769449240766,
        0.05877611218886513, -0.06666203208380912, 0.07692276123935364, -0.09090907639901634, 0.11111111068475982,
        -0.14285714284982756, 0.1999999999999377, -0.33333333333333315,
    ),
}  # fmt: skip
#: (arcsin √s/√s − 1)/s for √s up to 1/2; errors 2^-27.6 and 2^-58.8.
ARCSINE = {
    "float32": (0.0421604551, 0.0241836943, 0.0454693176, 0.0749530867, 0.166667521),
    "float64": (
        0.03277046853714955, -0.021201501908243766, 0.021832651569906887, 0.0036625134997562404, 0.01078982537750198,
        0.01139757310949777, 0.013980939777277138, 0.017351605579274332, 0.0223722151732902, 0.03038194270594553,
        0.04464285717458878, 0.07499999999970863, 0.1666666666666676,
    ),
}  # fmt: skip

#: π/4, π/2, 3π/4 and π, each as the nearest number and the nearest number to the rest.
PI_QUARTERS = {
    "float32": {
        1: (0.7853981852531433, -2.1855694143368964e-08), 2: (1.5707963705062866, -4.371138828673793e-08),
        3: (2.356194496154785, -5.962440319251527e-09), 4: (3.1415927410125732, -8.742277657347586e-08),
    },
    "float64": {
        1: (0.7853981633974483, 3.061616997868383e-17), 2: (1.5707963267948966, 6.123233995736766e-17),
        3: (2.356194490192345, 9.184850993605148e-17), 4: (3.141592653589793, 1.2246467991473532e-16),
    },
}  # fmt: skip


class Trigonometric(Lanes):
    """sin, cos, tan, arcsin, arccos, arctan and arctan2, in radians."""

    @elementary
    def sin(self, x: Value) -> Value:
        # The reduction returns +0 for −0.
        return self.select(self.eq(x, 0.0), x, self._sine(x, 0))

    @elementary
    def cos(self, x: Value) -> Value:
        # cos x = sin(x + π/2)
        return self._sine(x, 1)

    @elementary
    def tan(self, x: Value) -> Value:
        """The tangent of the remainder after k quarter turns, or −1 over it when k is odd."""
        quarters, head, tail = self._reduce(x, 0)
        square = self.mul(head, head)
        # The derivative of tan is 1 + tan².
        tail = self.fma(square, tail, tail)
        series = self.polynomial(square, TANGENT[x.dtype])
        tangent = self.add(head, self.fma(self.mul(square, head), series, tail))
        odd = self.ne(self.and_(quarters, 1), 0)
        ratio = self.select(odd, self.div(-1.0, tangent), tangent)
        return self.select(self.eq(x, 0.0), x, ratio)

    @elementary
    def arctan(self, x: Value) -> Value:
        angle = self._angle(self.abs(x), self.const(1.0, x), None)
        return self.copysign(angle, x)

    @elementary
    def arctan2(self, y: Value, x: Value) -> Value:
        """The angle of the point (x, y), in [−π, π]; the sign of a zero chooses the side of the cut, as in C."""
        opposite, adjacent = self.abs(y), self.abs(x)
        # The sum of the two must not overflow; what underflows by this scale had no part in the quotient.
        large = 2.0 ** (FORMATS[x.dtype].bias - 8)
        scale = self.select(self.gt(self.max(opposite, adjacent), large), 2.0**-8, self.const(1.0, x))
        endless = self.and_(self.eq(opposite, float("inf")), self.eq(adjacent, float("inf")))
        opposite = self.select(endless, 1.0, self.mul(opposite, scale))
        adjacent = self.select(endless, 1.0, self.mul(adjacent, scale))
        left = self.lt(self.copysign(1.0, x), 0.0)
        return self.copysign(self._angle(opposite, adjacent, left), y)

    @elementary
    def arcsin(self, x: Value) -> Value:
        a = self.abs(x)
        outer, root, tail = self._half_arcsine(a)
        # arcsin a = π/2 − 2 arcsin √((1 − a)/2)
        head, rest = PI_QUARTERS[x.dtype][2]
        far = self.sub(head, self.sub(self.mul(2.0, root), self.fma(-2.0, tail, self.const(rest, x))))
        return self.copysign(self.select(outer, far, self.add(root, tail)), x)

    @elementary
    def arccos(self, x: Value) -> Value:
        a = self.abs(x)
        outer, root, tail = self._half_arcsine(a)
        negative = self.lt(x, 0.0)
        near = self.mul(2.0, self.add(root, tail))
        quarter, quarter_rest = PI_QUARTERS[x.dtype][2]
        half, half_rest = PI_QUARTERS[x.dtype][4]
        # One subtraction serves both arccos x = π/2 − arcsin x and, for x < −1/2, π − 2 arcsin √((1 + x)/2).
        head = self.select(outer, half, self.const(quarter, x))
        rest = self.select(outer, half_rest, self.const(quarter_rest, x))
        root = self.select(outer, self.mul(2.0, root), x)
        tail = self.select(outer, self.mul(2.0, tail), self.copysign(tail, x))
        far = self.sub(head, self.add(root, self.sub(tail, rest)))
        return self.select(self.and_(outer, self.not_(negative)), near, far)

    # -- circular functions ----------------------------------------------------------------------------------------
    def _sine(self, x: Value, ahead: int) -> Value:
        """sin(x + ahead·π/2): ± the sine or the cosine of the remainder, as the number of quarter turns demands."""
        quarters, head, tail = self._reduce(x, ahead)
        square = self.mul(head, head)
        series = self.polynomial(square, SINE[x.dtype])
        sine = self.add(head, self.fma(self.mul(square, head), series, tail))
        # What the tail changes here is below 0.4 units in the last place.
        cosine = self.fma(square, self.polynomial(square, COSINE[x.dtype]), self.const(1.0, x))
        odd = self.ne(self.and_(quarters, 1), 0)
        sign = self.shl(self.and_(quarters, 2), x.bits - 2)
        result = self.bitcast(self.select(odd, cosine, sine), FORMATS[x.dtype].integer)
        return self.bitcast(self.xor(result, sign), x.dtype)

    def _reduce(self, x: Value, ahead: int) -> tuple[Value, Value, Value]:
        """(k + ahead modulo 4 in the two lowest bits, head, tail): x = k·π/2 + head + tail, |head| up to π/4."""
        count = self.rint(self.mul(x, 2 / math.pi))
        head, tail = self._cody_waite(x, count)
        fmt = FORMATS[x.dtype]
        quarters = self.bitcast(self.add(count, fmt.magic + ahead), fmt.integer)
        large = self.gt(self.abs(x), LIMIT[x.dtype])
        with self.f.unless_rare(self.any(large), [quarters, head, tail]) as other:
            exact = reduce_large(self, x, large)
            exact[0] = self.add(exact[0], ahead)
            other.next = [self.select(large, new, old) for new, old in zip(exact, other.next, strict=True)]
        return other.result[0], other.result[1], other.result[2]

    def _cody_waite(self, x: Value, count: Value) -> tuple[Value, Value]:
        """x − count·π/2 as head + tail, for an integer ``count``."""
        first, second, third, fourth = (self.const(-part, x) for part in HALF_PI[x.dtype])
        exact = self.fma(count, second, self.fma(count, first, x))
        head = self.fma(count, third, exact)
        return head, self.fma(count, fourth, self.fma(count, third, self.sub(exact, head)))

    # -- inverse functions -----------------------------------------------------------------------------------------
    def _angle(self, opposite: Value, adjacent: Value, left: Value | None) -> Value:
        """arctan(opposite/adjacent) of magnitudes, or π minus that where ``left``. Their sum must not overflow."""
        dtype = opposite.dtype
        low = self.le(opposite, self.mul(0.5, adjacent))
        middle = self.le(opposite, self.mul(2.0, adjacent))
        # From ratio 1/2 to 2: π/4 + arctan((o − a)/(o + a)), whose numerator is exact; above: π/2 − arctan(a/o).
        above = self.select(middle, self.sub(opposite, adjacent), self.neg(adjacent))
        below = self.select(middle, self.add(opposite, adjacent), opposite)
        numerator, denominator = self.select(low, opposite, above), self.select(low, adjacent, below)
        if left is not None:
            # 0/0 stands for the angle of a zero vector, which is that of (±1, 0).
            denominator = self.select(self.eq(denominator, 0.0), 1.0, denominator)
            numerator = self.select(left, self.neg(numerator), numerator)
        t = self.div(numerator, denominator)
        square = self.mul(t, t)
        head, rest = (self._base(part, dtype, low, middle, left) for part in (0, 1))
        tail = self.fma(self.mul(t, square), self.polynomial(square, ARCTANGENT[dtype]), rest)
        total = self.add(head, t)
        return self.add(total, self.add(self.sub(t, self.sub(total, head)), tail))

    def _base(self, part: int, dtype: str, low: Value, middle: Value, left: Value | None) -> Value:
        """The multiple of π/4 that `_angle` starts from: its head (part 0) or its rest (part 1)."""
        quarters = PI_QUARTERS[dtype]

        def chosen(when_low: float, when_middle: float, else_: float) -> Value:
            return self.select(low, when_low, self.select(middle, when_middle, self.const(else_, dtype)))

        right = chosen(0.0, quarters[1][part], quarters[2][part])
        if left is None:
            return right
        return self.select(left, chosen(quarters[4][part], quarters[3][part], quarters[2][part]), right)

    def _half_arcsine(self, a: Value) -> tuple[Value, Value, Value]:
        """(a > 1/2, root, tail): arcsin of √((1 − a)/2) there and of a elsewhere is root + tail. NaN for a > 1."""
        outer = self.gt(a, 0.5)
        square = self.select(outer, self.mul(0.5, self.sub(1.0, a)), self.mul(a, a))
        root = self.select(outer, self.sqrt(square), a)
        return outer, root, self.mul(self.mul(root, square), self.polynomial(square, ARCSINE[a.dtype]))
