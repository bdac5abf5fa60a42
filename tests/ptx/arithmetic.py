"""Arithmetic of PTX that NumPy does not have: fused products, shifts beyond the width, conversions, bit fields.

Enters: arrays of one dtype.  Leaves: an array.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

DTYPES: dict[str, Any] = {
    "pred": np.bool_, "f16": np.float16, "f32": np.float32, "f64": np.float64,
    **{f"{k}{n}": getattr(np, f"{'int' if k == 's' else 'uint'}{n}") for k in "sub" for n in (8, 16, 32, 64)},
}  # fmt: skip


def fma(a: Array, b: Array, c: Array) -> Array:
    """a·b + c, rounded once."""
    if a.dtype == np.float64:
        return _fma64(a, b, c)
    x, y, z = (v.astype(np.float64) for v in (a, b, c))
    return _added_to_odd(x * y, z).astype(a.dtype)  # the product is exact


def _added(x: Array, y: Array) -> tuple[Array, Array]:
    """The sum, and what rounding took from it."""
    total = x + y
    away = total - x
    return total, (x - (total - away)) + (y - away)


def _added_to_odd(x: Array, y: Array) -> Array:
    """The sum rounded to odd, so that a second rounding does not see a tie that is none."""
    total, error = _added(x, y)
    even = (total.view(np.uint64) & np.uint64(1)) == 0
    adjust = (error != 0) & even & np.isfinite(error)
    return np.where(adjust, np.nextafter(total, np.copysign(np.inf, error)), total)


def _fma64(a: Array, b: Array, c: Array) -> Array:
    """By the algorithm of Boldo and Melquiond (2008); what overflows or vanishes on the way is rounded twice."""
    product = a * b
    split = np.float64(134217729.0)
    ah, bh = a * split, b * split
    ah, bh = ah - (ah - a), bh - (bh - b)
    al, bl = a - ah, b - bh
    low = ((ah * bh - product) + ah * bl + al * bh) + al * bl
    upper, lost = _added(c, low)
    total, left = _added(product, upper)
    fused = total + _added_to_odd(lost, left)
    return np.where(np.isfinite(fused) & (product != 0), fused, product + c)


def extreme(a: Array, b: Array, largest: bool, nan_wins: bool) -> Array:
    """PTX's min and max: a number beats NaN unless ``nan_wins``, and −0 is below +0."""
    if a.dtype.kind != "f":
        return np.maximum(a, b) if largest else np.minimum(a, b)
    if nan_wins:
        picked = np.maximum(a, b) if largest else np.minimum(a, b)
    else:
        picked = np.fmax(a, b) if largest else np.fmin(a, b)
    zeros = (a == 0) & (b == 0)
    sign = np.signbit(a) & np.signbit(b) if largest else np.signbit(a) | np.signbit(b)
    return np.where(zeros, np.where(sign, -0.0, 0.0).astype(a.dtype), picked)


def shift(a: Array, amount: Array, left: bool) -> Array:
    bits = a.dtype.itemsize * 8
    far = amount >= bits
    inside = np.where(far, 0, amount).astype(a.dtype)
    moved = a << inside if left else a >> inside
    beyond = a >> np.array([bits - 1], a.dtype) if a.dtype.kind == "i" and not left else np.zeros(1, a.dtype)
    return np.where(far, beyond, moved)


def high_product(a: Array, b: Array) -> Array:
    """The upper half of the product."""
    bits = a.dtype.itemsize * 8
    if bits == 32:
        wide = np.int64 if a.dtype.kind == "i" else np.uint64
        return ((a.astype(wide) * b.astype(wide)) >> np.array([32], wide)).astype(a.dtype)
    mask, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    x, y = (np.atleast_1d(v).astype(np.uint64) for v in (a, b))
    xl, xh, yl, yh = x & mask, x >> half, y & mask, y >> half
    middle = xh * yl + (xl * yl >> half)
    high = xh * yh + (middle >> half) + ((xl * yh + (middle & mask)) >> half)
    if a.dtype.kind == "i":
        high = high - np.where(a < 0, y, np.uint64(0)) - np.where(b < 0, x, np.uint64(0))
    return high.astype(a.dtype)


ROUND = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}


def convert(a: Array, to: Any, modifiers: tuple[str, ...]) -> Array:
    """cvt: rounding as the modifiers say, float to integer saturates, NaN becomes 0."""
    to = np.dtype(to)
    rounding = next((ROUND[m] for m in modifiers if m in ROUND), None)
    if a.dtype.kind == "f" and rounding is not None:
        a = rounding(a)
    if to.kind == "f":
        return a.astype(to)
    if a.dtype.kind == "f":
        limits = np.iinfo(to)
        inside = np.nan_to_num(a.astype(np.float64), nan=0.0, posinf=2.0**70, neginf=-(2.0**70))
        result = np.where(inside >= float(limits.max) + (limits.bits < 64), limits.max, 0).astype(to)
        low = inside <= float(limits.min)
        fits = (inside < float(limits.max)) & ~low
        result = np.where(low, np.array([limits.min], to), result)
        return np.where(fits, np.where(fits, inside, 0).astype(to), result)
    if "sat" in modifiers:
        limits = np.iinfo(to)
        a = np.clip(a, max(limits.min, np.iinfo(a.dtype).min), min(limits.max, np.iinfo(a.dtype).max))
    return a.astype(to)


def bit_field(a: Array, start: Array, length: Array) -> Array:
    """bfe: ``length`` bits from bit ``start`` on, sign-extended for a signed dtype."""
    bits = a.dtype.itemsize * 8
    unsigned = a.view(f"u{a.dtype.itemsize}")
    kept = shift(unsigned, start.astype(np.int64), False)
    mask = np.where(length >= bits, -1, (1 << np.minimum(length, bits - 1).astype(np.int64)) - 1).astype(unsigned.dtype)
    kept = kept & mask
    if a.dtype.kind != "i":
        return kept
    up = (bits - np.minimum(length, bits)).astype(np.int64)
    return shift(shift(kept, up, True).view(a.dtype), up, False)


def insert_bits(a: Array, b: Array, start: Array, length: Array) -> Array:
    """bfi: the lowest ``length`` bits of a put into b at bit ``start``."""
    mask = (np.uint64(1) << length.astype(np.uint64)) - np.uint64(1)
    mask = (mask << start.astype(np.uint64)).astype(a.dtype)
    return (b & ~mask) | (shift(a, start.astype(np.int64), True) & mask)


def leading_zeros(a: Array) -> Array:
    bits = a.dtype.itemsize * 8
    count = np.zeros(a.shape, np.uint32)
    x = a.astype(np.uint64)
    for k in range(bits):
        count += (x >> np.uint64(k)) == 0
    return count


def reversed_bits(a: Array) -> Array:
    out = np.zeros_like(a)
    for k in range(a.dtype.itemsize * 8):
        out = (out << np.array([1], a.dtype)) | (a >> np.array([k], a.dtype) & np.array([1], a.dtype))
    return out


def permuted_bytes(a: Array, b: Array, selector: Array) -> Array:
    """prmt: four bytes chosen from the eight of (b, a)."""
    source = a.astype(np.uint64) | b.astype(np.uint64) << np.uint64(32)
    out = np.zeros(1, np.uint32)
    for k in range(4):
        choice = (selector >> np.uint32(4 * k)) & np.uint32(15)
        byte = (source >> ((choice & np.uint32(7)).astype(np.uint64) * np.uint64(8))) & np.uint64(255)
        byte = np.where(choice & 8, np.where(byte & np.uint64(128), 255, 0), byte).astype(np.uint32)
        out = out | byte << np.uint32(8 * k)
    return out


def funnel(low: Array, high: Array, amount: Array, left: bool, wrap: bool) -> Array:
    """shf: 32 bits of the pair (high, low), shifted."""
    n = (amount & np.uint32(31) if wrap else np.minimum(amount, 32)).astype(np.uint64)
    pair = low.astype(np.uint64) | high.astype(np.uint64) << np.uint64(32)
    return (((pair << n) >> np.uint64(32)) if left else pair >> n).astype(np.uint32)


COMPARE = {
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
    "lo": np.less, "ls": np.less_equal, "hi": np.greater, "hs": np.greater_equal,
}  # fmt: skip


def compare(how: str, a: Array, b: Array) -> Array:
    """setp's comparison; an ordered one is false for NaN, one that ends in u is true."""
    if how in ("nan", "num"):
        unordered = np.isnan(a) | np.isnan(b)
        return unordered if how == "nan" else ~unordered
    if how.endswith("u"):
        return COMPARE[how[:-1]](a, b) | np.isnan(a) | np.isnan(b)
    result = COMPARE[how](a, b)
    return result & ~(np.isnan(a) | np.isnan(b)) if how == "ne" and a.dtype.kind == "f" else result
