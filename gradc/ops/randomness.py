"""Pseudorandom bits from a key and a counter, and the numbers that are made of bits.

Enters: words of a key and of a counter, or bits.  Leaves: elementwise ops.
Invariant: an element depends on its key and its counter alone, so the bits are the same on every machine, for any
number of threads, and wherever a loop computes them; integers wrap, and no bit is rounded.  Start reading at
`threefry`.

References: Salmon, Moraes, Dror, Shaw, Parallel Random Numbers: As Easy as 1, 2, 3 (SC 2011), for Threefry-2×32 with 20
rounds; Giles, Approximating the erfinv function (GPU Computing Gems, Jade edition, 2011).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gradc.aval import FLOAT32, Aval
from gradc.ops import elementwise as kind
from gradc.ops.consistent import refuse_dtypes, same_shape
from gradc.ops.ranges import Hazard, bounded
from gradc.ops.record import Kind, Op, Sample, register

Array = np.ndarray[Any, Any]

WORD, TWO_WORDS = np.dtype(np.uint32), np.dtype(np.uint64)
#: by how much the second word is rotated in each round of a group of four, of even and of odd groups
ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
#: the key words are completed by their sum without carries and this, the last word of Skein's key schedule
PARITY = 0x1BD11BDA
#: which part of the two words that come out is the result
PARTS: dict[str, np.dtype[Any]] = {"high": WORD, "low": WORD, "xor": WORD, "both": TWO_WORDS}
#: how many elements of the reference are computed at a time, so that they stay in a cache
_BLOCK = 1 << 14


def _threefry_infer(*words: Aval, part: str) -> Aval:
    same_shape(words)
    if len(words) != 4 or any(w.dtype != WORD for w in words):
        refuse_dtypes("its operands are four words of 32 bits, uint32")
    return Aval(words[0].shape, PARTS[part])


def _threefry(key_high: Array, key_low: Array, count_high: Array, count_low: Array, part: str) -> Array:
    words = [np.asarray(w) for w in (key_high, key_low, count_high, count_low)]
    out = np.empty(words[0].shape, PARTS[part])
    flat = [np.ravel(w) for w in words]
    for start in range(0, out.size, _BLOCK):
        here = slice(start, start + _BLOCK)
        out.reshape(-1)[here] = _part_of(*_encrypted(*(w[here] for w in flat)), part)
    return out


def _encrypted(key_high: Array, key_low: Array, count_high: Array, count_low: Array) -> tuple[Array, Array]:
    """Both words after twenty rounds, the key being added before, between and after the groups of four."""
    schedule = (key_high, key_low, key_high ^ key_low ^ np.uint32(PARITY))
    x, y = count_high + key_high, count_low + key_low
    turned = np.empty_like(y)
    for group in range(5):
        for distance in ROTATIONS[group % 2]:
            x += y
            np.left_shift(y, np.uint32(distance), out=turned)
            np.right_shift(y, np.uint32(32 - distance), out=y)
            y |= turned
            y ^= x
        x += schedule[(group + 1) % 3]
        y += schedule[(group + 2) % 3] + np.uint32(group + 1)
    return x, y


def _part_of(high: Array, low: Array, part: str) -> Array:
    if part == "both":
        return high.astype(TWO_WORDS) << np.uint64(32) | low
    return high if part == "high" else low if part == "low" else high ^ low


threefry = register(
    Op(
        name="threefry",
        kind=Kind.ELEMENTWISE,
        infer=_threefry_infer,
        numpy=_threefry,
        constant=True,
        batch=kind.batch,
        lower=lambda b, *words, part: b.threefry(*words, part),
        cost=80.0,
        range=lambda node, *words: bounded(0.0, 2.0 ** (8 * node.dtype.itemsize) - 1, Hazard.NONE),
        samples=(Sample(((),), {"part": "both"}, ("uint32",) * 4),),
        exact=True,
        doc="Threefry-2×32 with 20 rounds of a key of two words and a counter of two: one word or both of the result.",
    )
)

#: of bits of a dtype: the float that they make, and how many of them it takes
FRACTIONS: dict[np.dtype[Any], tuple[np.dtype[Any], int]] = {WORD: (FLOAT32, 23), TWO_WORDS: (np.dtype(np.float64), 52)}


def _of_bits_infer(bits: Aval, dtype: Any) -> Aval:
    if bits.dtype not in FRACTIONS:
        refuse_dtypes("it is computed of uint32 and uint64")
    if np.dtype(dtype) not in (FRACTIONS[bits.dtype][0], np.dtype(np.float64)):
        refuse_dtypes(f"{bits.dtype} makes {FRACTIONS[bits.dtype][0]}, which float64 holds, too")
    return Aval(bits.shape, np.dtype(dtype))


def fraction_of(bits: Array) -> Array:
    """The upper bits as digits of a number in [0, 1)."""
    dtype, digits = FRACTIONS[bits.dtype]
    upper = np.asarray(bits >> bits.dtype.type(8 * bits.dtype.itemsize - digits))
    return np.asarray(upper.astype(dtype) * dtype.type(2.0**-digits))


fraction = register(
    Op(
        name="fraction",
        kind=Kind.ELEMENTWISE,
        infer=_of_bits_infer,
        numpy=lambda bits, dtype: fraction_of(bits).astype(dtype),
        constant=True,
        batch=kind.batch,
        lower=lambda b, bits, dtype: b.convert(b.fraction(bits), str(np.dtype(dtype))),
        samples=tuple(Sample(((),), {"dtype": np.dtype(d)}, ("uint32",)) for d in ("float32", "float64")),
        cost=3.0,
        light=True,
        range=lambda node, bits: bounded(0.0, 1.0, Hazard.NONE),
        exact=True,
        doc="The upper 23 or 52 bits of an unsigned integer as the digits of a float in [0, 1): exact.",
    )
)

#: the numbers of the smallest and of the largest bits
LARGEST_NORMAL = {"float32": (-5.42, 5.2202), "float64": (-8.2924, 8.1608)}

# -- the normal number of a uniform one --------------------------------------------------------------------------------

#: erfinv(u)/u as a polynomial in w = −log(1 − u²) less a centre, up to a bound, then in √w less another: Giles, table 5
#: (float32) and table 6 (float64). Coefficients: highest power first.
GILES: dict[str, tuple[tuple[float, float, tuple[float, ...]], ...]] = {
    "float32": (
        (5.0, 2.5, (
            2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087, -0.00125372503,
            -0.00417768164, 0.246640727, 1.50140941,
        )),
        (math.inf, 3.0, (
            -0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773, -0.0076224613,
            0.00943887047, 1.00167406, 2.83297682,
        )),
    ),
    "float64": (
        (6.25, 3.125, (
            -3.64441206401782e-21, -1.6850591381820166e-19, 1.28584807152564e-18, 1.1157877678025181e-17,
            -1.333171662854621e-16, 2.0972767875968562e-17, 6.637638134358324e-15, -4.054566272975207e-14,
            -8.151934197605472e-14, 2.6335093153082323e-12, -1.2975133253453532e-11, -5.415412054294628e-11,
            1.0512122733215323e-09, -4.112633980346984e-09, -2.9070369957882005e-08, 4.2347877827932404e-07,
            -1.3654692000834679e-06, -1.3882523362786469e-05, 0.00018673420803405714, -0.000740702534166267,
            -0.006033670871430149, 0.24015818242558962, 1.6536545626831027,
        )),
        (16.0, 3.25, (
            2.2137376921775787e-09, 9.075656193888539e-08, -2.7517406297064545e-07, 1.8239629214389228e-08,
            1.5027403968909828e-06, -4.013867526981546e-06, 2.9234449089955446e-06, 1.2475304481671779e-05,
            -4.7318229009055734e-05, 6.828485145957318e-05, 2.4031110387097894e-05, -0.0003550375203628475,
            0.0009532893797373805, -0.0016882755560235047, 0.002491442096107851, -0.003751208507569241,
            0.005370914553590064, 1.0052589676941592, 3.0838856104922208,
        )),
        (math.inf, 5.0, (
            -2.7109920616438573e-11, -2.555641816996525e-10, 1.5076572693500548e-09, -3.789465440126737e-09,
            7.61570120807834e-09, -1.496002662714924e-08, 2.914795345090108e-08, -6.771199775845234e-08,
            2.2900482228026655e-07, -9.9298272942317e-07, 4.526062597223154e-06, -1.968177810553167e-05,
            7.599527703001776e-05, -0.00021503011930044477, -0.00013871931833623122, 1.0103004648645344,
            4.849906401408584,
        )),
    ),
}  # fmt: skip


def normal_of(bits: Array) -> Array:
    """√2·erfinv(u) by Giles's polynomials, evaluated in float64; the square is rounded in the dtype of u, as in JAX."""
    dtype, digits = FRACTIONS[bits.dtype]
    u = np.asarray(2 * fraction_of(bits) - dtype.type(1 - 2.0 ** -(digits + 1)))
    near, *far = GILES[dtype.name]
    w = np.atleast_1d(-np.log1p(-np.asarray(u * u, np.float64)))
    factor = np.polyval(near[2], w - near[1])
    for (start, _, _), (_, centre, coefficients) in zip([near, *far], far, strict=False):
        beyond = w >= start
        factor[beyond] = np.polyval(coefficients, np.sqrt(w[beyond]) - centre)
    return np.asarray(math.sqrt(2) * (factor.reshape(u.shape) * u), dtype)


normal_of_bits = register(
    Op(
        name="normal_of_bits",
        kind=Kind.ELEMENTWISE,
        infer=_of_bits_infer,
        numpy=lambda bits, dtype: normal_of(bits).astype(dtype),
        constant=True,
        batch=kind.batch,
        lower=lambda b, bits, dtype: b.convert(b.normal_of_bits(bits), str(np.dtype(dtype))),
        samples=(Sample(((),), {"dtype": FLOAT32}, ("uint32",)),),
        cost=40.0,
        ulp=6.0,
        range=lambda node, bits: bounded(*LARGEST_NORMAL[node.dtype.name], Hazard.NONE),
        doc="√2·erfinv(u), u uniform on (−1, 1) of the upper 23 or 52 bits, in the arithmetic of Giles and of JAX: the "
        "error is that of the nearest quarter of a unit of u beside the bound.",
    )
)
