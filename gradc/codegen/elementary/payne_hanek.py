"""Reduction of large angles, by integer arithmetic with the bits of 1/2π (Payne and Hanek, SIGNUM Newsletter 18, 1983).

Enters: angles beyond the reach of Cody and Waite's subtraction.  Leaves: the number of quarter turns, and the rest as
head + tail, right to 2^-70 of itself for every finite number of either dtype.  Invariant: only integer arithmetic and
exact or compensated sums, so FMA makes no difference.  Start reading at `reduce_large`.
"""

from __future__ import annotations

from itertools import pairwise

from gradc.codegen.elementary.format import FORMATS
from gradc.codegen.elementary.lane_by_lane import lane_by_lane
from gradc.codegen.ir import Lanes, Value

#: Numbers are cut into limbs of 28 bits, held in int64: seven products of two limbs still fit.
LIMB = 28
MASK = (1 << LIMB) - 1
#: 1/2π in limbs after the point, with two limbs of zeros in front, for angles below 2^52.
#: 196 bits after the first one that matters: 53 fall to the factor, 62 to cancellation, 80 remain.
TURN = (
    0, 0, 42722829, 194220293, 78114973, 99908941, 58131309, 145057359, 17711367, 261380330, 259714837, 141412635,
    149489975, 79167890, 79407143, 73697087, 142060658, 206203343, 195168471, 223063761, 34842225, 201960727,
    234423526, 74813024, 223143890, 119609314, 251126944, 247987749, 268400662, 100924363, 205925736, 43730907,
    81394492, 166904429, 222107901, 161978362, 146134174, 246545145, 130411764, 30309858, 155863977, 184473580,
    75380084, 34963660, 18608621, 183172147,
)  # fmt: skip
WINDOW = 7
#: 2π: two parts of 26 bits, whose products with 27 bits are exact, and the rest.
TWO_PI = (6.283185243606567, 6.357301884918343e-08, 2.4492935982947064e-16)


def reduce_large(b: Lanes, x: Value, large: Value) -> list[Value]:
    """[k modulo 4 in the two lowest bits, head, tail]: x is k·π/2 + head + tail, with |head| up to π/4.

    Only lanes in the bool ``large`` have a meaning; there |x| must be at least 2^12. Not finite: head is NaN.
    """
    wide, results = b.convert(x, "float64"), ("int64", "float64", "float64")
    quarters, head, tail = lane_by_lane(b, "gradc_reduce_large_angle", _reduce, [wide], results, large)
    if x.dtype == "float32":
        narrow = b.convert(head, "float32")
        rest = b.sub(head, b.convert(narrow, "float64"))
        head, tail = narrow, b.convert(rest, "float32")
    return [b.convert(quarters, FORMATS[x.dtype].integer), head, tail]


def _reduce(b: Lanes, inputs: list[Value]) -> list[Value]:
    """`reduce_large` for one float64."""
    x = inputs[0]
    limbs = _fraction(b, b.and_(b.bitcast(x, "int64"), (1 << 63) - 1))
    quarters, limbs[0] = _split(b, limbs[0])
    negative = b.lt(x, 0.0)
    head, tail = _angle(b, limbs)
    # x − x is NaN unless x is finite, and 0 otherwise.
    head = b.add(head, b.sub(x, x))
    return [b.select(negative, b.neg(v), v) for v in (quarters, head, tail)]


def _fraction(b: Lanes, bits: Value) -> list[Value]:
    """x/2π modulo 1 for the positive x of these bits: five limbs after the point, the highest first."""
    factor = b.or_(b.and_(bits, (1 << 52) - 1), 1 << 52)
    low, high = b.and_(factor, MASK), b.shr(factor, LIMB)
    # The factor's unit is 2^(exponent − 1075): so many bits of 1/2π only give whole turns.
    skip = b.add(b.shr(bits, 52), 2 * LIMB - 1075)
    window = _window(b, skip)
    carry, limbs = b.const(0, "int64"), []
    for k in range(WINDOW):
        column = b.add(carry, b.mul(low, window[WINDOW - 1 - k]))
        if k:
            column = b.add(column, b.mul(high, window[WINDOW - k]))
        limbs.append(b.and_(column, MASK))
        carry = b.shr(column, LIMB)
    return limbs[:1:-1]


def _window(b: Lanes, skip: Value) -> list[Value]:
    """WINDOW limbs of TURN from bit ``skip`` on, the highest first."""
    table = b.f.module.table(TURN, "int64")
    first, shift = b.idiv(skip, LIMB), b.irem(skip, LIMB)
    row = b.f.let(f"getelementptr i64, ptr {table}, i64 {first.ref}")
    words = []
    for k in range(WINDOW + 1):
        place = b.f.let(f"getelementptr i64, ptr {row}, i64 {k}")
        words.append(Value(b.f.let(f"load i64, ptr {place}, align 8"), "int64"))
    back = b.sub(LIMB, shift)
    return [b.and_(b.shr(b.or_(b.shl(u, LIMB), v), back), MASK) for u, v in pairwise(words)]


def _split(b: Lanes, top: Value) -> tuple[Value, Value]:
    """The nearest number of quarter turns, and what it leaves, with its sign, of the top limb."""
    rest = b.shr(b.shl(top, 66 - LIMB), 66 - LIMB)
    return b.shr(b.sub(top, rest), LIMB - 2), rest


def _angle(b: Lanes, limbs: list[Value]) -> tuple[Value, Value]:
    """The angle of a signed fraction of a turn, as head + tail."""
    parts = [b.mul(b.convert(v, "float64"), 2.0 ** (-LIMB * (k + 1))) for k, v in enumerate(limbs)]
    # Each sum is exact or keeps its error: the parts do not overlap and fall in size.
    head, rest = _two_sum(b, parts[0], parts[1])
    middle, low = _two_sum(b, b.add(rest, parts[2]), parts[3])
    head, rest = _two_sum(b, head, middle)
    tail = b.add(rest, b.add(low, parts[4]))
    # Times 2π: head is cut in two, so that its products with the parts of 2π are exact.
    upper = b.bitcast(b.and_(b.bitcast(head, "int64"), -1 << 27), "float64")
    lower = b.sub(head, upper)
    cross = b.add(b.mul(upper, TWO_PI[1]), b.mul(lower, TWO_PI[0]))
    small = b.add(b.mul(lower, TWO_PI[1]), b.add(b.mul(head, TWO_PI[2]), b.mul(tail, sum(TWO_PI[:2]))))
    return _two_sum(b, b.mul(upper, TWO_PI[0]), b.add(cross, small))


def _two_sum(b: Lanes, large: Value, small: Value) -> tuple[Value, Value]:
    """large + small exactly, as the rounded sum and its error, if |large| ≥ |small| or large is 0 (Dekker 1971)."""
    total = b.add(large, small)
    return total, b.sub(small, b.sub(total, large))
