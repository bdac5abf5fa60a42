"""x·y + z, rounded once, on machines that have an instruction for it and on those that have not.

Elsewhere a product and a sum are two roundings, and stay two; this op is for arithmetic of others whose bits are to be
met.  Enters and leaves: floats of one dtype.  Invariant: the same bits everywhere, but where a float64 product leaves
`SPLIT_RANGE` and the machine has no such instruction.  Start reading at `multiply_add`.

Reference: Boldo, Melquiond, Emulation of a FMA and Correctly Rounded Sums: Proved Algorithms Using Rounding to
Odd (IEEE Transactions on Computers 57, 2008).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gradc.ops.elementwise import elementwise
from gradc.ops.ranges import Range

Array = np.ndarray[Any, Any]

#: splits a float64 into two halves that multiply exactly (Dekker 1971)
SPLITTER = 2.0**27 + 1
#: a product between these sizes is split without overflow, and its rest is a number
SPLIT_RANGE = (2.0**-900, 2.0**900)


def _multiply_add(x: Array, y: Array, z: Array) -> Array:
    if x.dtype == np.float32:
        return _sum_to_odd(x.astype(np.float64) * y, z.astype(np.float64)).astype(np.float32)
    if x.dtype != np.float64:
        return np.asarray(x * y + z)
    product = x * y
    a, b = (v * SPLITTER - (v * SPLITTER - v) for v in (x, y))
    c, d = x - a, y - b
    rest = ((a * b - product) + a * d + c * b) + c * d
    upper, lost = _two_sum(z, rest)
    total, left = _two_sum(product, upper)
    fused = total + _sum_to_odd(lost, left)
    low, high = SPLIT_RANGE
    sizes = (np.abs(product), np.abs(x), np.abs(y))
    inside = np.logical_and.reduce([(s > low) & (s < high) for s in sizes]) & (np.abs(z) < high)
    return np.where(inside, fused, product + z)


def _two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    """The sum and what rounding took from it (Knuth)."""
    total = a + b
    other = total - a
    return total, (a - (total - other)) + (b - other)


def _sum_to_odd(a: Array, b: Array) -> Array:
    """The sum in float64; where it is not exact, the one of its two neighbours whose last bit is 1."""
    total, rest = (np.asarray(v) for v in _two_sum(a, b))
    bits = total.view(np.int64)
    step = np.where((rest > 0) == (total > 0), 1, -1)
    return (bits + np.where((rest != 0) & (bits & 1 == 0) & np.isfinite(rest), step, 0)).view(np.float64)


def _range(value: Any, x: Range, y: Range, z: Range) -> Range:
    return x * y + z


multiply_add = elementwise(
    "multiply_add",
    _multiply_add,
    sympy=lambda S, x, y, z: x * y + z,
    partials=lambda value, x, y, z: (y, x, 1),
    cost=2.0,
    ulp=0.5,
    range=_range,
    public=False,
    doc="x·y + z, rounded once on every machine.",
)
