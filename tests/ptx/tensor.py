"""What a warp does as one: ldmatrix, and products on tensor cores.

Enters: registers of all lanes.  Leaves: the same.  The layouts are those of NVIDIA, PTX ISA 9.0, "Matrix fragments for
mma.m16n8k8/k16" and "ldmatrix".  Sums are taken in float64 and rounded once: hardware rounds or cuts after each few
products, which a bound on the error must allow for.  Start reading at `product`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.ptx.memory import Array, FaultError

WARP = 32
LANE = np.arange(WARP)
GROUP, MEMBER = LANE // 4, LANE % 4


def rounded_to_tf32(bits: Array) -> Array:
    """cvt.rna.tf32.f32: the lowest 13 bits away, to nearest, ties away from zero."""
    kept = (bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)
    special = (bits & np.uint32(0x7F800000)) == np.uint32(0x7F800000)
    nan = special & ((bits & np.uint32(0x7FFFFF)) != 0)
    return np.where(nan, np.uint32(0x7FFFFFFF), np.where(special, bits, kept)).astype(np.uint32)


def _numbers(word: Array, dtype: str, what: object) -> Array:
    """The elements of a register: one tf32, or two of 16 bits."""
    if dtype == "tf32":
        values = word.view(np.float32)
        if ((word & np.uint32(0x1FFF)) != 0)[~np.isnan(values)].any():
            raise FaultError(f"{what}: an operand is not rounded to tf32")
        return values.astype(np.float64)[..., None]
    halves = np.stack([word & np.uint32(0xFFFF), word >> np.uint32(16)], axis=-1)
    if dtype == "f16":
        return halves.astype(np.uint16).view(np.float16).astype(np.float64)
    return (halves << np.uint32(16)).astype(np.uint32).view(np.float32).astype(np.float64)


def product(a: list[Array], b: list[Array], c: list[Array], dtype: str, what: object) -> list[Array]:
    """D = A·B + C for each warp: registers, as arrays of warps x 32 lanes; float32 sums."""
    per_word = 1 if dtype == "tf32" else 2
    depth = 4 * per_word * len(b)
    warps = a[0].shape[0]
    left, right = np.zeros((warps, 16, depth)), np.zeros((warps, depth, 8))
    for r, word in enumerate(a):
        values = _numbers(word, dtype, what)
        for k in range(per_word):
            left[:, GROUP + 8 * (r % 2), MEMBER * per_word + k + 4 * per_word * (r // 2)] = values[..., k]
    for r, word in enumerate(b):
        values = _numbers(word, dtype, what)
        for k in range(per_word):
            right[:, MEMBER * per_word + k + 4 * per_word * r, GROUP] = values[..., k]
    places = [(GROUP + 8 * (r // 2), 2 * MEMBER + r % 2) for r in range(4)]
    total = left @ right
    for (row, column), word in zip(places, c, strict=True):
        total[:, row, column] += word.view(np.float32)
    return [total[:, row, column].astype(np.float32) for row, column in places]


def matrices(g: Any, address: Array, count: int, transposed: bool, mask: Any, what: Any) -> list[Array]:
    """ldmatrix: a word of each 8 x 8 matrix for each lane; rows begin where lanes 8q … 8q + 7 say."""
    if (address % np.uint64(16)).any():
        raise FaultError(f"{what}: a row is not aligned to 16 bytes")
    rows = address.reshape(-1, WARP)
    found = []
    for q in range(count):
        if not transposed:
            at = rows[:, 8 * q + GROUP] + (4 * MEMBER).astype(np.uint64)
            found.append(g.load("shared", at.ravel(), 4, mask, what))
            continue
        halves = []
        for k in (0, 1):
            at = rows[:, 8 * q + 2 * MEMBER + k] + (2 * GROUP).astype(np.uint64)
            halves.append(g.load("shared", at.ravel(), 2, mask, what).astype(np.uint32))
        found.append(halves[0] | halves[1] << np.uint32(16))
    return found
