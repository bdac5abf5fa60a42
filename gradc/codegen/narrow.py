"""Narrow floats, in scalar code and on their way between memory and registers.

Enters: operands of a node as `Value`s of whatever dtype; bits.  Leaves: the operands that a lowering takes, the result
in the node's own dtype; bits.
Invariant: a narrow `Value` is a float32 that the narrow dtype can hold, so to compute with it costs nothing.  A node is
computed in float32 and rounded once; where numbers stay what they are (`Op.exact`) nothing is rounded.  With
``fp="fast"`` a number is rounded when it is stored or cast, and what stays in registers keeps float32's precision.
Where a target has no instructions for float16, and for bfloat16 everywhere (those of CPUs flush subnormals), integer
arithmetic does it, with the same bits.  Start reading at `rounded`.
"""

from __future__ import annotations

from gradc.codegen.ir import NARROW, Lanes, Value
from gradc.ops.record import Op

# -- nodes -------------------------------------------------------------------------------------------------------------


def computed(x: Value) -> Value:
    """An operand as a lowering takes it: float32 in place of a narrow float."""
    return Value(x.ref, "float32", x.lanes) if x.is_narrow else x


def rounded(b: Lanes, op: Op, x: Value, dtype: str) -> Value:
    """What the lowering of ``op`` made, as a value of ``dtype``."""
    if dtype not in NARROW or x.dtype != "float32":
        return x
    if op.exact or b.f.module.fp == "fast":
        return Value(x.ref, dtype, x.lanes)
    return b.convert(x, dtype)


# -- bits --------------------------------------------------------------------------------------------------------------


def from_bits(b: Lanes, bits: Value, dtype: str) -> Value:
    """The narrow float with these bits, a uint16."""
    if dtype == "bfloat16":
        wide = b.bitcast(b.shl(b.convert(bits, "uint32"), 16), "float32")
    else:
        wide = b.extended(bits) if "half" in b.f.module.extensions else _half_from(b, bits)
    return Value(wide.ref, dtype, bits.lanes)


def to_bits(b: Lanes, x: Value) -> Value:
    """The bits of a narrow float, as uint16."""
    wide = Value(x.ref, "float32", x.lanes)
    if x.dtype == "bfloat16":
        bits = b.bitcast(wide, "uint32")
        return b.convert(b.shr(b.brain_rounded(bits) if b.f.module.fp == "fast" else bits, 16), "uint16")
    if "half" in b.f.module.extensions:
        return b.truncated(wide)
    with b.strict():
        return _half_to(b, b.half_rounded(wide))


def _half_from(b: Lanes, bits: Value) -> Value:
    """float16 as float32: the exponent is moved, and below 2⁻¹⁴ the steps of 2⁻²⁴ are counted."""
    word = b.convert(bits, "uint32")
    size = b.and_(word, 0x7FFF)
    moved = b.shl(size, 13)
    quiet = b.select(b.gt(size, 0x7C00), b.const(0x400000, size), 0)
    special = b.or_(b.add(moved, 224 << 23), quiet)
    with b.strict():
        tiny = b.bitcast(b.mul(b.convert(size, "float32"), 2.0**-24), "uint32")
    found = b.select(b.lt(size, 0x400), tiny, b.select(b.ge(size, 0x7C00), special, b.add(moved, 112 << 23)))
    return b.bitcast(b.or_(found, b.shl(b.and_(word, 0x8000), 16)), "float32")


def _half_to(b: Lanes, bits: Value) -> Value:
    """The bits of a float16, of the bits of the float32 that it is."""
    size = b.and_(bits, 0x7FFFFFFF)
    moved = b.shr(size, 13)
    special = b.or_(b.and_(moved, 0x3FF), 0x7C00)
    tiny = b.sub(b.bitcast(b.add(b.bitcast(size, "float32"), 0.5), "uint32"), 0x3F000000)
    found = b.select(b.ge(size, 0x7F800000), special, b.sub(moved, 112 << 10))
    found = b.select(b.lt(size, 0x38800000), tiny, found)
    return b.convert(b.or_(found, b.and_(b.shr(bits, 16), 0x8000)), "uint16")
