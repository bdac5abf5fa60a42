"""What is known of a node's values before there are any: bounds, how they could stop being finite, where they are 0.

Enters: nodes.  Leaves: a `Range` for each, by the ``range`` facet of its record, kept on the node.  The chain rule asks
whether a product of a tangent and a partial may be 0·∞ (`needs_strength`), so that it is plain wherever it can be.
Invariant: a range is true of every value that finite inputs give, up to overflow of sums and products (those are what
`Hazard.ARITHMETIC` says); without a facet nothing is known and everything may happen.
Start reading at `Range`.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gradc.aval import Results, finfo
from gradc.node import OPS, Node

INF = math.inf


class Hazard(enum.IntEnum):
    """How a value could be infinite or NaN; each says more than the one before."""

    NONE = 0  #: not at all
    ARITHMETIC = 1  #: if something it is computed from is, or if sums and products overflow
    DATA = 2  #: if an array of the user's is: nothing but moves and elementwise arithmetic lies between
    NAN = 3  #: never infinite, NaN where an operand is, or is outside a domain: then so is the function's value
    GROWTH = 4  #: infinite for moderate operands, as the function's value is: exp, powers, long products
    POLE = 5  #: at some finite operand: log 0, 1/0, and every slope like them, where the value may well be finite


class Zeros(enum.IntEnum):
    """How a value could be exactly 0; each says more than the one before."""

    NEVER = 0  #: not at all
    POSSIBLE = 1  #: as any number can
    SATURATED = 2  #: where a bounded or exponential function has reached its end
    KINKED = 3  #: by the slope of relu, maximum, clip …: something was not chosen
    MASKED = 4  #: where something was not selected or nothing was placed, and sums were taken since
    GUARDED = 5  #: where something was not selected, or nothing was placed


@dataclass(frozen=True, slots=True)
class Range:
    """``lo`` ≤ value ≤ ``hi`` wherever the value is not NaN, a hazard, and zeros."""

    lo: float = -INF
    hi: float = INF
    hazard: Hazard = Hazard.DATA
    zeros: Zeros = Zeros.POSSIBLE

    # -- arithmetic: intervals, the greater hazard --------------------------------------------------------------------
    def __neg__(self) -> Range:
        return Range(-self.hi, -self.lo, self.hazard, self.zeros)

    def __add__(self, other: Range) -> Range:
        """A sum is 0 for sure only where both are."""
        zeros = min(self.zeros, other.zeros)
        lo, hi = _sum(self.lo, other.lo, -INF), _sum(self.hi, other.hi, INF)
        if zeros < Zeros.SATURATED and lo > -INF and hi < INF:
            zeros = Zeros.SATURATED  # 1 − tanh², and what else is bounded because a function is
        return bounded(lo, hi, _worse(self, other), zeros)

    def __sub__(self, other: Range) -> Range:
        return self + -other

    def __mul__(self, other: Range) -> Range:
        corners = [_product(a, b) for a in (self.lo, self.hi) for b in (other.lo, other.hi)]
        found = bounded(min(corners), max(corners), _worse(self, other), max(self.zeros, other.zeros))
        nowhere = self.zeros is other.zeros is Zeros.NEVER
        return replace(found, zeros=Zeros.NEVER) if nowhere else found

    def inverse(self) -> Range:
        """1/x, which is 0 only where x is infinite."""
        hazard = max(self.hazard, Hazard.ARITHMETIC) if self.zeros is Zeros.NEVER else Hazard.POLE
        never_infinite = self.hazard <= Hazard.NAN or self.size().hi < INF
        zeros = Zeros.NEVER if never_infinite else Zeros.SATURATED
        if self.lo > 0 or self.hi < 0:
            return Range(1 / self.hi, 1 / self.lo, hazard, zeros)
        return Range(0.0 if self.lo == 0 else -INF, 0.0 if self.hi == 0 else INF, hazard, zeros)

    def square(self) -> Range:
        """x²."""
        size = self.size()
        return replace(size * size, zeros=self.zeros)

    def size(self) -> Range:
        """|x|."""
        low = max(self.lo, -self.hi, 0.0)
        return Range(low, max(-self.lo, self.hi), self.hazard, self.zeros)

    # -- functions ----------------------------------------------------------------------------------------------------
    def within(self, lo: float, hi: float) -> Range:
        """A function of x with values in [lo, hi] that reaches them at ±∞, if not before."""
        return bounded(lo, hi, min(self.hazard, Hazard.NAN), Zeros.SATURATED if lo == 0 else Zeros.POSSIBLE)

    def rising(self, function: Callable[[float], float], lo: float = -INF, hi: float = INF) -> Range:
        """A finite function that never falls, with values in [lo, hi]."""
        return bounded(max(_at(function, self.lo, lo), lo), min(_at(function, self.hi, hi), hi), self.hazard)

    def growing(self, function: Callable[[float], float], lo: float) -> Range:
        """A function that never falls, is ``lo`` at −∞ and overflows for large x, and for small x if ``lo`` is −∞."""
        found = self.rising(function, lo)
        overflows = INF in (found.hi, -found.lo)
        hazard = max(found.hazard, Hazard.GROWTH) if overflows else min(found.hazard, Hazard.NAN)
        return bounded(found.lo, found.hi, hazard, Zeros.SATURATED)

    def defined(self, inside: bool, otherwise: Hazard = Hazard.POLE) -> Range:
        """The same, of a function that may be infinite or NaN unless its operand is ``inside`` its domain."""
        return self if inside else replace(self, hazard=max(self.hazard, otherwise))

    # -- elements of several ------------------------------------------------------------------------------------------
    def joined(self, *others: Range) -> Range:
        """Of a value that is this or one of the others."""
        found = self
        for other in others:
            zeros = max(found.zeros, other.zeros)
            found = Range(min(found.lo, other.lo), max(found.hi, other.hi), max(found.hazard, other.hazard), zeros)
        return found

    def is_told_by(self, other: Range | None) -> bool:
        """Whether all of this is allowed by what is known otherwise."""
        return other is not None and self.joined(other) == other

    def among_zeros(self) -> Range:
        """Placed among zeros, or selected instead of them."""
        return Range(min(self.lo, 0.0), max(self.hi, 0.0), self.hazard, Zeros.GUARDED)

    def repeated_sum(self, terms: float) -> Range:
        """A sum of up to ``terms`` such values, of one at least unless ``terms`` is 0."""
        if not terms:
            return NOTHING
        lo = self.lo if self.lo >= 0 else self.lo * terms
        hi = self.hi if self.hi <= 0 else self.hi * terms
        return bounded(lo, hi, max(self.hazard, Hazard.ARITHMETIC), min(self.zeros, Zeros.MASKED))


ANYTHING = Range()
#: where no facet says otherwise
UNKNOWN = Range(hazard=Hazard.POLE)
WHOLE = Range(hazard=Hazard.NONE)
NOTHING = Range(0.0, 0.0, Hazard.NONE, Zeros.POSSIBLE)
TRUTH = Range(0.0, 1.0, Hazard.NONE)
ALWAYS = Range(1.0, 1.0, Hazard.NONE, Zeros.NEVER)


def bounded(lo: float, hi: float, hazard: Hazard, zeros: Zeros = Zeros.POSSIBLE) -> Range:
    """The range, without zeros if 0 is outside the bounds."""
    if lo > 0 or hi < 0:
        return Range(lo, hi, hazard, Zeros.NEVER)
    return Range(lo, hi, hazard, max(zeros, Zeros.POSSIBLE))


def _worse(a: Range, b: Range) -> Hazard:
    return max(a.hazard, b.hazard, Hazard.ARITHMETIC)


def _sum(a: float, b: float, of_opposites: float) -> float:
    total = a + b
    return of_opposites if math.isnan(total) else total


def _product(a: float, b: float) -> float:
    """a·b for bounds, which are limits: 0·∞ is 0."""
    return 0.0 if a == 0 or b == 0 else a * b


def _at(function: Callable[[float], float], x: float, otherwise: float) -> float:
    try:
        return function(x)
    except (OverflowError, ValueError):
        return otherwise


# -- ranges of nodes ---------------------------------------------------------------------------------------------------


def range_of(node: Node) -> Range:
    """What is known of the values of ``node``, worked out once."""
    stack = [node]
    while stack:
        current = stack[-1]
        if current.range is not None:
            stack.pop()
            continue
        unknown = [a for a in current.args if a.range is None]
        if unknown:
            stack += unknown
        else:
            current.range = _found(current)
            stack.pop()
    assert node.range is not None
    return node.range


def declared(node: Node, known: Range | None) -> Node:
    """``node``, just made, with what its maker knows of it, if anything, and no facet can see."""
    node.range = known
    return node


def _found(node: Node) -> Range:
    if isinstance(node.aval, Results):
        return UNKNOWN
    if node.op.range is None:
        return UNKNOWN if node.aval.is_float else TRUTH if node.dtype == bool else WHOLE
    found = node.op.range(node, *[a.range for a in node.args])
    return _rounded(found, node.dtype) if node.aval.is_float else replace(found, hazard=Hazard.NONE)


def _rounded(found: Range, dtype: np.dtype[Any]) -> Range:
    """Bounds below the smallest normal number may be 0 once rounded."""
    if found.zeros is Zeros.NEVER and (found.lo > 0 or found.hi < 0):
        least = float(finfo(dtype).tiny)
        if found.lo > 0 and found.lo < least:
            return Range(0.0, found.hi, found.hazard)
        if found.hi < 0 and found.hi > -least:
            return Range(found.lo, 0.0, found.hazard)
    return found


def of_array(value: np.ndarray[Any, Any]) -> Range:
    """Of a known array; one that is not finite is as good as the user's data."""
    if not value.size:
        return NOTHING
    lo, hi = float(np.min(value)), float(np.max(value))
    if not (math.isfinite(lo) and math.isfinite(hi)):
        return ANYTHING
    nowhere = bool(np.all(value))
    return Range(lo, hi, Hazard.NONE, Zeros.NEVER if nowhere else Zeros.POSSIBLE)


def is_zero(node: Node) -> bool:
    """Whether ``node`` is known to be 0 everywhere."""
    known = range_of(node)
    return known.lo == known.hi == 0 and known.hazard is Hazard.NONE


def vanishes(node: Node) -> bool:
    """Whether ``node`` is 0 wherever it is a number: zeros, what only moves or adds them, and any product with them."""
    known = range_of(node)
    return known.lo == known.hi == 0


def as_factor(node: Node) -> Range:
    """What is known of a factor: a choice between constants guards nothing, it is the slope of a kink."""
    known = range_of(node)
    if node.op is OPS["where"] and known.hazard is Hazard.NONE:
        return replace(known, zeros=min(known.zeros, Zeros.KINKED))
    return known


def union(ranges: Iterable[Range]) -> Range:
    """Of a value that is one of several."""
    first, *rest = ranges
    return first.joined(*rest)


# -- when a product is safe --------------------------------------------------------------------------------------------


def needs_strength(zeros: Zeros, hazard: Hazard) -> bool:
    """Whether such zeros must be strong when they meet such a factor: whether 0·∞ or 0·NaN may come of it that would
    not be there anyway.

    Poles of a slope are no poles of the value, so every zero has to be strong.  Where a value grows beyond bounds or is
    NaN, the result of the program is too, unless something saturated or was not chosen.  Where the user's own numbers
    are not finite, only a guard can be meant.
    """
    return not _below(_MULTIPLIED, zeros, hazard)


def is_safe(a: Range, b: Range) -> bool:
    """Whether the plain product of a tangent and a factor will do."""
    return not (needs_strength(a.zeros, b.hazard) or needs_strength(b.zeros, a.hazard))


def is_safe_to_contract(a: Range, b: Range) -> bool:
    """`is_safe` for a sum of products, where the strong one is dearer and fewer doubts count."""
    return _below(_CONTRACTED, a.zeros, b.hazard) and _below(_CONTRACTED, b.zeros, a.hazard)


#: for each kind of zeros the least hazard that they must not meet
_Limits = Mapping[Zeros, Hazard]
_MULTIPLIED: _Limits = {
    Zeros.POSSIBLE: Hazard.POLE,
    Zeros.SATURATED: Hazard.GROWTH,
    Zeros.KINKED: Hazard.NAN,
    Zeros.MASKED: Hazard.NAN,
    Zeros.GUARDED: Hazard.ARITHMETIC,
}
_CONTRACTED: _Limits = {
    Zeros.POSSIBLE: Hazard.POLE,
    Zeros.SATURATED: Hazard.POLE,
    Zeros.KINKED: Hazard.POLE,
    Zeros.MASKED: Hazard.NAN,
    Zeros.GUARDED: Hazard.DATA,
}


def _below(limits: _Limits, zeros: Zeros, hazard: Hazard) -> bool:
    return zeros is Zeros.NEVER or hazard < limits[zeros]
