"""Error functions and gamma functions as lane arithmetic.

Enters: `Value`s of float32 or float64.  Leaves: a `Value` of the same dtype.
Invariant: the bounds of the records hold for every argument, with or without FMA; branch-free, but for the
reflection of `lgamma` and `digamma`, a real branch that is taken only when some lane is negative.  Start reading at
`Special.erf`.

Every polynomial is a minimax fit (Remez exchange in 200-bit arithmetic), its coefficients then rounded to the dtype,
the highest power first; the comment beside it gives its largest relative error after that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce
from itertools import pairwise
from math import inf, nan

from gradc.codegen.elementary.division import Division
from gradc.codegen.elementary.exponential import Exponential
from gradc.codegen.elementary.format import FORMATS, elementary
from gradc.codegen.ir import Value

#: Up to which w a polynomial is made for, the centre of its variable, and its coefficients.
Piece = tuple[float, float, Sequence[float]]

#: erf(√s)/√s − 1 for √s up to 1; errors 2^-28.6 and 2^-55.6 of erf.
ERF = {
    "float32": (
        7.85373923e-05, -0.000801017159, 0.00518832728, -0.0268538129, 0.112835854, -0.37612626, 0.128379166,
    ),
    "float64": (
        -7.779109536406086e-10, 1.3710802012778954e-08, -1.6206276240023495e-07, 1.6447127238882299e-06,
        -1.4924712004825395e-05, 0.00012055293564755278, -0.0008548325929041063, 0.0052239776061160995,
        -0.02686617064311167, 0.1128379167094419, -0.3761263890318352, 0.12837916709551256,
    ),
}  # fmt: skip
#: log erfc(1 + u) for u up to 3 and 5; errors 2^-26.7 and 2^-55.9 of erf(1 + u).
LOG_ERFC = {
    "float32": (
        0.000186340956, -0.00182924117, 0.00989527442, -0.0415033922, -0.843117654, -2.6389668, -1.84960556,
    ),
    "float64": (
        -4.924506082207079e-12, 1.2062302558516556e-10, -1.3317966882025732e-09, 8.592543977450376e-09,
        -3.367524490108202e-08, 5.8776323357014286e-08, 2.033287952868199e-07, -2.1298382454391667e-06,
        9.669192560801214e-06, -2.7197314838663726e-05, 2.6295420114259144e-05, 0.00023731678428060533,
        -0.0019779013074596057, 0.010033825194625678, -0.041561098026635185, -0.8431072563593325, -2.6389675142347775,
        -1.8496055099332482,
    ),
}  # fmt: skip
#: From here on xⁿ·e^(−x²) is 0 for n up to 25, and e^(−x²) still within reach of two powers of two.
GAUSSIAN_END = {"float32": 13.0, "float64": 37.0}
#: (1 + 2a)·e^(a²)·erfc(a)/ERFCX_SCALE − 1, in (a − ERFCX_CENTRE)/(a + ERFCX_CENTRE) for a from 1/2 to ERFC_END: the
#: form of Shepherd and Laframboise (Mathematics of Computation 36, 1981); errors 2^-27.5 and 2^-58.0 of 1 + polynomial.
ERFCX_SCALE = 1.1875
ERFCX_CENTRE = {"float32": 2.5, "float64": 3.5}
#: From here on erfc is below half the smallest subnormal.
ERFC_END = {"float32": 10.2, "float64": 27.5}
ERFCX = {
    "float32": (
        0.000448021223, 0.000345956505, -0.00366024254, 0.000807417789, 0.0275831874, -0.0867121965, 0.132741347,
        -0.0833889395, -0.103037283, 0.0651268885,
    ),
    "float64": (
        8.668803137025292e-09, 4.564868148704275e-10, -7.808239698843421e-08, -6.618522648696784e-09,
        5.051020326666591e-07, -3.730177577426272e-08, -3.21193080217617e-06, 1.96069563533207e-06,
        2.0430194938104337e-05, -3.602714003989237e-05, -0.0001023262372606636, 0.00047527108639539527,
        -0.0002545413716698888, -0.003549490448161714, 0.016083647109445334, -0.04111437964459932, 0.0740910769051493,
        -0.09691755634542258, 0.08212134328695461, -0.008888923227131225, -0.11790246748431109, 0.04618883778623527,
    ),
}  # fmt: skip
#: erfinv(x)/x in w = −log(1 − x²) less a centre, up to a bound, then in √w less another; errors 2^-24.6 and 2^-26.5;
#: 2^-56.0, 2^-55.0 and 2^-55.6.
ERFINV = {
    "float32": (
        (5.0, 2.5, (
            -8.643e-09, 2.4252822e-08, 4.6406169e-07, -3.476942e-06, -4.9532982e-06, 0.00021841053, -0.0012527597,
            -0.0041775, 0.2466403, 1.5014094,
        )),
        (inf, 3.0, (
            0.0001295667, -0.0003176411, -7.823344e-05, 0.0014937688, -0.003585602, 0.0056845336, -0.007639854,
            0.009445351, 1.0016751, 2.8329768,
        )),
    ),
    "float64": (
        (6.25, 3.125, (
            -3.038018876284581e-22, 3.1946111833873447e-21, 1.6693562457953445e-20, -3.4738398966751463e-19,
            6.934741769458346e-19, 1.5511744471023716e-17, -1.2344719519593094e-16, -3.9416536690722335e-17,
            6.5336732146370385e-15, -4.001988832945782e-14, -8.079758910180054e-14, 2.6305259093780404e-12,
            -1.2978471204416839e-11, -5.4143028853333365e-11, 1.051222428344143e-09, -4.112660448543263e-09,
            -2.9070389539102623e-08, 4.234788168428719e-07, -1.365469177808252e-06, -1.3882523393979457e-05,
            0.00018673420802098174, -0.0007407025341546313, -0.006033670871427167, 0.24015818242558834,
            1.6536545626831027,
        )),
        (16.0, 3.25, (
            9.004124333332554e-09, -1.534234487402822e-08, -2.4832295787567186e-08, 1.3169138481335479e-07,
            -2.405285252892699e-07, -2.7743384211825247e-08, 1.478068771206383e-06, -3.985621758730845e-06,
            2.934115328328333e-06, 1.2464994320875051e-05, -4.732110342212362e-05, 6.828712582546576e-05,
            2.4031585782822654e-05, -0.00035503781505632294, 0.0009532893340158211, -0.001688275535339991,
            0.0024914420983884623, -0.0037512085082293347, 0.005370914553543737, 1.0052589676941655,
            3.0838856104922208,
        )),
        (inf, 5.0, (
            -2.150334876968247e-11, 4.291733789051717e-11, 7.49576067462568e-11, -4.3762433328611347e-10,
            1.3050430974342098e-09, -3.4714928077256453e-09, 7.833552132786932e-09, -1.5254652615796382e-08,
            2.9010711499475763e-08, -6.755655349959522e-08, 2.2905594882603712e-07, -9.93029239390838e-07,
            4.526051803955937e-06, -1.9681770728846616e-05, 7.599527818636334e-05, -0.0002150301198253809,
            -0.0001387193183851429, 1.0103004648645453, 4.849906401408584,
        )),
    ),
}  # fmt: skip
#: The same for erfcinv(y)/(1 − y) in w = −log(y(2 − y)), which goes on to the smallest y: in place of what ERFINV has
#: behind its first piece in float32, and behind all pieces in float64; errors 2^-26.5; 2^-25.4; 2^-53.9; 2^-52.1.
ERFCINV_BEYOND = {
    "float32": (
        (21.16, 3.0, (
            -2.4230148e-05, 0.00014286311, -0.00027025424, -9.696556e-05, 0.0014599325, -0.0035776685, 0.005694533,
            -0.007640782, 0.009444407, 1.0016751, 2.8329768,
        )),
        (inf, 7.0, (
            -5.4296295e-10, 9.484083e-09, -6.857053e-08, 3.3230364e-07, -1.5451772e-06, 5.922324e-06, 6.143708e-06,
            -0.0005123805, 1.0085957, 6.8690195,
        )),
    ),
    "float64": (
        (144.0, 9.0, (
            4.735620537516612e-19, -4.4600026448710355e-18, 2.0422463231794397e-17, -1.8410973993700045e-16,
            2.0265087240638916e-15, -1.794607538042222e-14, 1.5282723947135024e-13, -1.3097748350293964e-12,
            1.09984646720151e-11, -8.950257894012188e-11, 6.983720769642491e-10, -5.0985706873442734e-09,
            3.283935501604916e-08, -1.518574048774088e-07, -2.3678757953417497e-07, 2.0555353782823467e-05,
            -0.0004089375548162906, 1.0067273648820398, 8.884270510145466,
        )),
        (inf, 19.0, (
            1.9409480192280907e-25, -5.572180732489482e-24, 5.419789861333505e-23, -4.252982080228329e-22,
            1.0662733566402573e-20, -2.1220720337969337e-19, 2.937492070422518e-18, -3.532032352865802e-17,
            3.0565566399256853e-16, 1.9829128267678097e-15, -2.0525541334429973e-13, 7.499025917974917e-12,
            -2.2090329037118053e-10, 5.940513137921634e-09, -1.5270736151125186e-07, 3.849489795954869e-06,
            -9.721005044715814e-05, 1.0025348182729235, 18.925614253426723,
        )),
    ),
}  # fmt: skip
#: log Γ(2 + e)/(e(e + 1)) for −3/4 ≤ e ≤ 1/2; errors 2^-25.6 and 2^-56.1.
LGAMMA_TWO = {
    "float32": (
        9.93594076e-05, -7.29488529e-05, 0.000145753773, -0.000416127499, 0.000923686603, -0.00210579415,
        0.00499782851, -0.01238437, 0.0329650305, -0.100317299, 0.422784328,
    ),
    "float64": (
        1.3712836780059605e-07, 8.165928703194002e-08, 1.772191771340589e-08, -3.4325126865069696e-07,
        3.9929150727795353e-07, -7.790066794844e-07, 1.82477039299324e-06, -3.8667525958085e-06,
        8.215857320641452e-06, -1.7658666120718537e-05, 3.817005345128655e-05, -8.30954080943796e-05,
        0.0001825525208441677, -0.0004057073818204483, 0.0009153769288249032, -0.0021081308344457384,
        0.004998641164516576, -0.01238419219336383, 0.032965000621157724, -0.10031730167435396, 0.42278433509846713,
    ),
}  # fmt: skip
#: x·(log Γ(x) − (x − 1/2)(log x − 1) − (log 2π − 1)/2) in 1/x² for x ≥ 5; errors 2^-31.9 and 2^-59.9 of log Γ.
STIRLING = {
    "float32": (0.00076015864, -0.0027772875, 0.0833333358),
    "float64": (
        -0.013306384763552009, 0.005559209823320368, -0.0018916984860282897, 0.000841297623512816,
        -0.0005952336882968491, 0.0007936507723888734, -0.002777777777738507, 0.08333333333333331,
    ),
}  # fmt: skip
#: ψ(3/2 + e)/(3/2 + e − root) for |e| ≤ 1/2; errors 2^-25.4 and 2^-54.1.
DIGAMMA_ROOT = {
    "float32": (
        -0.00762625411, 0.011233029, -0.011144802, 0.0169091728, -0.0270896722, 0.0408948585, -0.0619141012,
        0.0949807018, -0.148405164, 0.240542665, -0.423627406, 0.951055884,
    ),
    "float64": (
        0.00012120972328575073, -0.00017838156083768014, 9.324733153176535e-05, -0.00014459617919170153,
        0.000325907785941852, -0.00048606678702019365, 0.0006902735025169422, -0.0010364224359169954,
        0.0015635051124557491, -0.0023455015801438217, 0.003518088486468755, -0.005279936436379132,
        0.007927023345395409, -0.011908220167399026, 0.017907248234651778, -0.026975796657019473, 0.04076083394341892,
        -0.06192213327555677, 0.09498872445284934, -0.14840492305388014, 0.24054248424078722, -0.4236274212814606,
        0.9510558760318328,
    ),
}  # fmt: skip
#: x²·(log x − 1/2x − ψ(x)) in 1/x² for x ≥ 6; errors 2^-34.5 and 2^-63.5 of ψ.
DIGAMMA_FAR = {
    "float32": (-0.00378703978, 0.00396190211, -0.00833329838, 0.0833333358),
    "float64": (
        1.2450991376408695, -0.3685180332723039, 0.08146619028133184, -0.021064316496112803, 0.0075754966094983955,
        -0.004166665307280843, 0.003968253964683788, -0.008333333333329713, 0.08333333333333333,
    ),
}  # fmt: skip
#: sin(π√s)/√s for √s up to 1/2; errors 2^-24.5 and 2^-54.4.
SINE_PI = {
    "float32": (0.0775602981, -0.598242104, 2.55006981, -5.16770983, 3.14159274),
    "float64": (
        7.694704385547975e-07, -2.1903183236206956e-05, 0.00046629968793340625, -0.007370430478595533,
        0.08214588656987436, -0.5992645293187372, 2.550164039877294, -5.167712780049969, 3.141592653589793,
    ),
}  # fmt: skip

#: The positive zero of ψ, as the nearest number and the rest.
ROOT = {
    "float32": (1.4616321325302124, 1.2438149938918909e-08),
    "float64": (1.4616321449683622, 9.549995429965697e-17),
}


class Special(Division, Exponential):
    """erf, erfc, lgamma and digamma, with SciPy's values at infinities and poles."""

    # -- error functions -------------------------------------------------------------------------------------------
    @elementary
    def erf(self, x: Value) -> Value:
        """A polynomial up to |x| = 1; beyond, 1 − e^q with a polynomial q = log erfc |x|."""
        a = self.abs(x)
        near = self._erf_near(x)
        end = 3.0 if x.dtype == "float32" else 5.0
        u = self.sub(a, 1.0)
        u = self.select(self.gt(u, end), end, u)
        shifted, r = self._reduce_exp(self.polynomial(u, LOG_ERFC[x.dtype]), FORMATS[x.dtype].bias)
        power = self._power_of_two(shifted)
        far = self.sub(1.0, self.fma(power, self._expm1_reduced(r), power))
        return self.select(self.gt(a, 1.0), self.copysign(far, x), near)

    @elementary
    def erfc(self, x: Value) -> Value:
        """1 − erf x up to |x| = 1/2; beyond, e^(−x²) times a slowly varying factor: the error stays relative."""
        a = self.abs(x)
        near = self.sub(1.0, self._erf_near(x))
        end = ERFC_END[x.dtype]
        tail = self._erfc_tail(self.select(self.gt(a, end), end, a))
        far = self.select(self.lt(x, 0.0), self.sub(2.0, tail), tail)
        return self.select(self.gt(a, 0.5), far, near)

    def _erf_near(self, x: Value) -> Value:
        return self.fma(x, self.polynomial(self.mul(x, x), ERF[x.dtype]), x)

    def _erfc_tail(self, a: Value) -> Value:
        """erfc(a) for a ≥ 1/2."""
        centre = ERFCX_CENTRE[a.dtype]
        t = self.div(self.sub(a, centre), self.add(a, centre))
        twice = self.add(a, a)
        denominator = self.add(twice, 1.0)
        factor = self.div(ERFCX_SCALE, denominator)
        # What rounding took from a² and from 1 + 2a goes into the exponent.
        square, rest = self._square(a)
        lost = self.mul(self.sub(1.0, self.sub(denominator, twice)), self.mul(factor, 1 / ERFCX_SCALE))
        shifted, r = self._reduce_exp(self.neg(square), 2 * FORMATS[a.dtype].bias)
        r = self.sub(r, self.add(rest, lost))
        # (1 + polynomial)·e^r − 1, so that both only add small terms to the factor.
        growth, small = self._expm1_reduced(r), self.polynomial(t, ERFCX[a.dtype])
        growth = self.add(growth, self.fma(growth, small, small))
        return self._scale(self.fma(factor, growth, factor), shifted)

    @elementary
    def erfinv(self, x: Value) -> Value:
        """x·p(w) with w = −log((1 − x)(1 + x)), in the variables of Giles (GPU Computing Gems, 2011); √w decides where
        some |x| is near 1."""
        a = self.abs(x)
        w = self.neg(self.log(self.mul(self.sub(1.0, a), self.add(1.0, a))))
        value = self.mul(self.by_pieces(w, ERFINV[x.dtype]), x)
        return self.select(self.eq(a, 1.0), self.copysign(self.const(inf, x), x), value)

    @elementary
    def erfcinv(self, x: Value) -> Value:
        """erfinv(1 − x) for x ≥ 1/2, where the difference is exact; below, 1 − x times the same function of w, which is
        taken of x itself."""
        rest = self.sub(1.0, x)
        w = self.neg(self.log(self.mul(x, self.sub(2.0, x))))
        pieces: tuple[Piece, ...] = ERFINV[x.dtype]
        whole: tuple[Piece, ...]
        if x.dtype == "float32":
            whole = (pieces[0], *ERFCINV_BEYOND[x.dtype])
        else:
            whole = (*pieces[:-1], (36.0, *pieces[-1][1:]), *ERFCINV_BEYOND[x.dtype])
        value = self.mul(self.by_pieces(w, whole), rest)
        value = self.select(self.eq(x, 2.0), -inf, value)
        return self.select(self.eq(x, 0.0), inf, value)

    def by_pieces(self, w: Value, pieces: Sequence[Piece]) -> Value:
        """The first of several polynomials in w; where some w is beyond its bound, which is rare, the next in √w."""
        value = self.polynomial(self.sub(w, pieces[0][1]), pieces[0][2])
        for (bound, _, _), (_, centre, coefficients) in pairwise(pieces):
            far = self.ge(w, bound)
            with self.f.unless_rare(self.any(far), [value]) as other:
                beyond = self.polynomial(self.sub(self.sqrt(w), centre), coefficients)
                other.next = [self.select(far, beyond, value)]
            value = other.result[0]
        return value

    def gaussian(self, x: Value, n: int) -> Value:
        """xⁿ·e^(−x²), the power of two last, so that the factors may be small where the product is not."""
        with self.strict():
            end = GAUSSIAN_END[x.dtype]
            x = self._clamp(x, -end, end)
            square, rest = self._square(self.abs(x))
            shifted, r = self._reduce_exp(self.neg(square), 2 * FORMATS[x.dtype].bias)
            growth = self.add(self._expm1_reduced(self.sub(r, rest)), 1.0)
            return self._scale(reduce(self.mul, [x] * n, growth), shifted)

    def _square(self, a: Value) -> tuple[Value, Value]:
        """a² as the nearest number and the rest."""
        square, upper = self.mul(a, a), self._head(a)
        lower = self.sub(a, upper)
        exact = self.fma(upper, upper, self.neg(square))
        return square, self.fma(lower, lower, self.fma(self.add(upper, upper), lower, exact))

    # -- gamma functions -------------------------------------------------------------------------------------------
    @elementary
    def lgamma(self, x: Value) -> Value:
        """log |Γ(x)|; infinite at 0 and the negative integers."""
        reflected = self.le(x, -0.5)
        y = self.select(reflected, self.neg(x), x)
        value = self._lgamma_right(y)
        with self.f.unless_rare(self.any(reflected), [value]) as other:
            # Γ(−y)·Γ(y) = −π/(y·sin πy)
            sine = self._sine_pi(self.abs(self.sub(y, self.rint(y))))
            mirror = self.sub(self.log(self.div(math.pi, self.mul(y, sine))), value)
            mirror = self.select(self.eq(sine, 0.0), inf, mirror)
            other.next = [self.select(self.eq(x, -inf), x, self.select(reflected, mirror, value))]
        return other.result[0]

    def _lgamma_right(self, x: Value) -> Value:
        """log |Γ(x)| for x > −1/2: Γ(2 + e) times or over a product of numbers x ± k; from 5 on Stirling's series."""
        far = self.ge(x, 5.0)
        up, low, middle = (self.lt(x, bound) for bound in (0.5, 1.25, 2.5))
        # x = 2 + e + m, m from −2 to 3: the product has |m| factors.
        m = self.select(middle, self.select(low, -1.0, self.const(0.0, x)), self.floor(self.sub(x, 1.5)))
        m = self.select(up, -2.0, m)
        e = self.select(up, x, self.sub(x, self.add(m, 2.0)))
        product = self.select(low, self.abs(x), 1.0)
        product = self.select(up, self.mul(product, self.add(x, 1.0)), product)
        for k in (1.0, 2.0, 3.0):
            product = self.select(self.ge(m, k), self.mul(product, self.sub(x, k)), product)
        logarithm = self.log(self.select(far, x, product))
        signed = self.select(low, self.neg(logarithm), logarithm)
        bend = self.polynomial(e, LGAMMA_TWO[x.dtype])
        near = self.fma(self.mul(e, self.add(e, 1.0)), bend, signed)
        return self.select(far, self._stirling(x, logarithm), near)

    def _stirling(self, x: Value, logarithm: Value) -> Value:
        """log Γ(x) for x ≥ 5, given log x."""
        inverse = self.div(1.0, x)
        series = self.polynomial(self.mul(inverse, inverse), STIRLING[x.dtype])
        rest = self.fma(inverse, series, self.const((math.log(2 * math.pi) - 1) / 2, x))
        return self.fma(self.sub(x, 0.5), self.sub(logarithm, 1.0), rest)

    @elementary
    def digamma(self, x: Value) -> Value:
        """Γ′(x)/Γ(x); NaN at the negative integers, −∞ at 0 and +∞ at −0."""
        reflected = self.lt(x, 0.0)
        y = self.select(reflected, self.sub(1.0, x), x)
        value = self._digamma_right(y)
        with self.f.unless_rare(self.any(reflected), [value]) as other:
            # ψ(x) = ψ(1 − x) − π cot πx, the cotangent taken from x less the nearest integer.
            turn = self.sub(x, self.rint(x))
            size = self.abs(turn)
            cotangent = self.div(self._sine_pi(self.sub(0.5, size)), self._sine_pi(size))
            cotangent = self.select(self.eq(turn, 0.0), nan, self.copysign(cotangent, turn))
            mirror = self.fma(cotangent, -math.pi, value)
            other.next = [self.select(reflected, mirror, value)]
        return other.result[0]

    def _digamma_right(self, x: Value) -> Value:
        """ψ(x) for x ≥ 0: a polynomial on [1, 2), shifted there by ψ(x + 1) = ψ(x) + 1/x; from 6 on a series."""
        far, low = self.ge(x, 6.0), self.lt(x, 1.0)
        # The shifts sum to numerator/denominator.
        numerator = self.select(low, -1.0, self.const(0.0, x))
        denominator = self.select(low, x, 1.0)
        for k in (1.0, 2.0, 3.0, 4.0):
            factor, used = self.sub(x, k), self.ge(x, k + 1.0)
            numerator = self.select(used, self.fma(numerator, factor, denominator), numerator)
            denominator = self.select(used, self.mul(denominator, factor), denominator)
        near = self.select(low, self.add(x, 1.0), self.add(self.sub(x, self.floor(x)), 1.0))
        head, rest = ROOT[x.dtype]
        slope = self.polynomial(self.sub(near, 1.5), DIGAMMA_ROOT[x.dtype])
        near = self.mul(self.sub(self.sub(near, head), rest), slope)
        near = self.add(near, self.div(numerator, denominator))
        return self.select(far, self._digamma_far(x), near)

    def _digamma_far(self, x: Value) -> Value:
        inverse = self.div(1.0, x)
        series = self.mul(inverse, self.polynomial(self.mul(inverse, inverse), DIGAMMA_FAR[x.dtype]))
        return self.sub(self.log(x), self.mul(inverse, self.add(series, 0.5)))

    def _sine_pi(self, x: Value) -> Value:
        """sin πx for 0 ≤ x ≤ 1/2."""
        return self.mul(x, self.polynomial(self.mul(x, x), SINE_PI[x.dtype]))
