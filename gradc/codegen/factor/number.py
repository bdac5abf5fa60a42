"""Numbers under construction, with Python's operators: what programs on matrices are written in.

Enters: `Value`s of a function.  Leaves: `Number`s, whose operators emit one instruction each.
Invariant: every operation is IEEE and stands where it is written; of a scalar and a vector, the scalar is repeated in
every lane.  A multiplication and an addition are one instruction only where `fma` says so.  Start reading at `Number`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from gradc.codegen.ir import Function, Lanes, Value, const

Binary = Callable[[Lanes, Value, Value], Value]


@dataclass(frozen=True, slots=True, eq=False)
class Number:
    """A scalar or a vector of lanes."""

    f: Function
    value: Value

    # -- arithmetic --------------------------------------------------------------------------------------------------
    def __add__(self, other: Operand) -> Number:
        return _joined(self, other, Lanes.add)

    def __radd__(self, other: Operand) -> Number:
        return _joined(self, other, lambda b, x, y: b.add(y, x))

    def __sub__(self, other: Operand) -> Number:
        return _joined(self, other, Lanes.sub)

    def __rsub__(self, other: Operand) -> Number:
        return _joined(self, other, lambda b, x, y: b.sub(y, x))

    def __mul__(self, other: Operand) -> Number:
        return _joined(self, other, Lanes.mul)

    def __rmul__(self, other: Operand) -> Number:
        return _joined(self, other, lambda b, x, y: b.mul(y, x))

    def __truediv__(self, other: Operand) -> Number:
        return _joined(self, other, Lanes.div)

    def __rtruediv__(self, other: Operand) -> Number:
        return _joined(self, other, lambda b, x, y: b.div(y, x))

    def __floordiv__(self, other: int) -> Number:
        """Of integers that are not negative."""
        return _joined(self, other, Lanes.idiv)

    def __neg__(self) -> Number:
        return Number(self.f, self._lanes.neg(self.value))

    # -- comparison; `==` stays that of objects ----------------------------------------------------------------------
    def __lt__(self, other: Operand) -> Number:
        return _joined(self, other, Lanes.lt)

    def __le__(self, other: Operand) -> Number:
        return _joined(self, other, Lanes.le)

    def __gt__(self, other: Operand) -> Number:
        return _joined(self, other, Lanes.gt)

    def __ge__(self, other: Operand) -> Number:
        return _joined(self, other, Lanes.ge)

    def equals(self, other: Operand) -> Number:
        return _joined(self, other, Lanes.eq)

    def differs(self, other: Operand) -> Number:
        return _joined(self, other, Lanes.ne)

    def __and__(self, other: Operand) -> Number:
        return _joined(self, other, Lanes.and_)

    def __or__(self, other: Operand) -> Number:
        return _joined(self, other, Lanes.or_)

    def __invert__(self) -> Number:
        return Number(self.f, self._lanes.not_(self.value))

    # -- others ------------------------------------------------------------------------------------------------------
    @property
    def _lanes(self) -> Lanes:
        return Lanes(self.f, self.value.lanes)

    @property
    def dtype(self) -> str:
        return self.value.dtype

    def converted(self, dtype: str) -> Number:
        return Number(self.f, self._lanes.convert(self.value, dtype))

    def any(self) -> Number:
        """Whether a truth value holds in some lane: a scalar."""
        return Number(self.f, self._lanes.any(self.value))


Operand: TypeAlias = Number | bool | int | float
#: a position: known while the code is written, or only when it runs
Index: TypeAlias = Number | int


def _joined(x: Number, y: Operand, method: Binary) -> Number:
    a, b = spread(x, y)
    return Number(x.f, method(Lanes(x.f, a.value.lanes), a.value, b.value))


def spread(*operands: Operand) -> list[Number]:
    """All operands with as many lanes as the widest; plain numbers take the dtype of the first `Number`."""
    numbers = [x for x in operands if isinstance(x, Number)]
    b = Lanes(numbers[0].f, max(x.value.lanes for x in numbers))

    def wide(x: Operand) -> Number:
        return Number(b.f, b.splat(x.value) if isinstance(x, Number) else const(x, numbers[0].dtype, b.lanes))

    return [wide(x) for x in operands]


def sqrt(x: Number) -> Number:
    """The square root, rounded correctly; NaN of negative numbers."""
    return Number(x.f, Lanes(x.f, x.value.lanes).sqrt(x.value))


def absolute(x: Number) -> Number:
    """Without its sign."""
    return Number(x.f, Lanes(x.f, x.value.lanes).abs(x.value))


def with_sign(x: Number, sign: Number) -> Number:
    """|x| with the sign of another."""
    a, s = spread(x, sign)
    return Number(x.f, Lanes(x.f, a.value.lanes).copysign(a.value, s.value))


def fma(x: Number, y: Operand, z: Operand) -> Number:
    """x·y + z, rounded once where the target can."""
    a, b, c = spread(x, y, z)
    return Number(x.f, Lanes(x.f, a.value.lanes).fma(a.value, b.value, c.value))


def select(condition: Number, x: Operand, y: Operand) -> Number:
    """x in the lanes where a truth value holds, else y; one of them is no plain number."""
    lanes = condition.value.lanes
    a, b = spread(x, y)
    wide = Lanes(condition.f, max(lanes, a.value.lanes))
    if lanes == 1 and wide.lanes > 1:  # one decision for all lanes
        return Number(wide.f, wide.select(condition.value, a.value, b.value))
    return Number(wide.f, wide.select(condition.value, wide.splat(a.value), wide.splat(b.value)))


def larger(x: Number, y: Operand) -> Number:
    """The larger of two numbers that are not NaN; y if one is."""
    a, b = spread(x, y)
    return select(a > b, a, b)


def smaller(x: Number, y: Operand) -> Number:
    """The smaller of two numbers that are not NaN; y if one is."""
    a, b = spread(x, y)
    return select(a < b, a, b)


#: bits of the mantissa, and the exponent of 1
_FORMATS = {"float32": ("int32", 23, 127), "float64": ("int64", 52, 1023)}


def power_of_two(x: Number) -> Number:
    """A power of two that brings the size of x near 1: exact to multiply with, and to divide by."""
    bits_of, mantissa, one = _FORMATS[x.dtype]
    b = Lanes(x.f, x.value.lanes)
    exponent = b.and_(b.shr(b.bitcast(x.value, bits_of), mantissa), 2 * one + 1)
    opposite = b.max(b.sub(const(2 * one, bits_of, x.value.lanes), exponent), 1)
    return Number(x.f, b.bitcast(b.shl(opposite, mantissa), x.dtype))
