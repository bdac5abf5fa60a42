"""What the elementary functions know about a binary format, and the frame that each of them is emitted in.

Enters: a dtype name, or a method that emits lane arithmetic.  Leaves: the constants of the format; the method, wrapped.
Invariant: the arithmetic of an elementary function is IEEE whatever the module's fp mode, because compensated sums and
rounding by a magic number lose their meaning when instructions are reassociated; so the stated error holds in any mode.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps

from gradc.codegen.ir import Lanes, Scalar, Value


@dataclass(frozen=True, slots=True)
class Format:
    """One IEEE 754 binary interchange format, with the unsigned integer type of the same width."""

    name: str
    integer: str
    #: Stored significand bits: 23 or 52.
    mantissa: int
    bias: int
    #: Half of the significand, the implicit bit included, rounded down: two such halves multiply exactly.
    half: int
    #: The bits of p, where a logarithm takes its argument as 2^k·m with m in [p, 2p): near 2/3 and √½.
    pivot: int

    @property
    def magic(self) -> float:
        """1.5·2^mantissa: adding it rounds to an integer, which then stands in the low bits of the sum."""
        return 1.5 * 2.0**self.mantissa

    @property
    def magic_bits(self) -> int:
        """The bits of `magic`; the lowest `mantissa` − 1 of them are 0."""
        return ((self.bias + self.mantissa) << self.mantissa) + (1 << (self.mantissa - 1))

    @property
    def pivot_twice(self) -> float:
        """2p as a number, exactly."""
        kind, code = {"float32": ("<I", "<f"), "float64": ("<Q", "<d")}[self.name]
        p: float = struct.unpack(code, struct.pack(kind, self.pivot))[0]
        return 2 * p

    @property
    def smallest_normal(self) -> float:
        return 2.0 ** (1 - self.bias)

    @property
    def epsilon(self) -> float:
        """The spacing of numbers in [1, 2)."""
        return 2.0**-self.mantissa

    @property
    def head_mask(self) -> int:
        """And-mask of the bits that leaves the upper `half` significand bits of a number."""
        return -1 << (self.mantissa + 1 - self.half)


FORMATS = {
    "float32": Format("float32", "uint32", 23, 127, 12, 0x3F2AAAAA),
    "float64": Format("float64", "uint64", 52, 1023, 26, 0x3FE6A09E667F3BCD),
}


def elementary(method: Callable[..., Value]) -> Callable[..., Value]:
    """Emit ``method`` in IEEE mode; Python scalars are lifted."""

    @wraps(method)
    def emit(lanes: Lanes, *operands: Value | Scalar) -> Value:
        values = lanes.lift(*operands)
        module = lanes.f.module
        mode, module.fp = module.fp, "ieee"
        try:
            return method(lanes, *values)
        finally:
            module.fp = mode

    return emit
