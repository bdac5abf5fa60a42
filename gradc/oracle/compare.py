"""Two derivations of one gradient side by side: how far apart, and how far apart they may be.

Enters: `Estimate`s, each a gradient with a bound on its own error.  Leaves: `Row`s of the report. Invariant: two
numbers agree if they differ by no more than the sum of their bounds; a bound comes from an error analysis (rounding) or
from the method itself (finite differences), never from a constant chosen here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import numpy as np

from gradc.aval import finfo

Array = np.ndarray[Any, Any]

#: a difference quotient whose error exceeds this part of the gradient's size confirms nothing worth saying
VAGUE = 1e-3
#: a bound above this part of the gradient's size, or above 64 units in its last place, says nothing either
WIDE = 2.0**-7
#: a derivative below this part of |f|/|x| is 0 as far as anybody can tell: half of the digits of float64
SMALL = 2.0**-26


class Verdict(Enum):
    """What a comparison says."""

    EQUAL = "equal bit for bit"
    AGREE = "agree"
    KINK = "agree outside kinks"
    UNSURE = "not comparable"
    WRONG = "DISAGREE"


@dataclass(frozen=True, slots=True)
class Probes:
    """Directions in which a large input is examined: ±1 patterns over the whole array, then single elements."""

    directions: tuple[Array, ...]
    coordinates: tuple[tuple[int, ...], ...]

    def along(self) -> list[Array]:
        """Every probe as an array of the input's shape."""
        return [*self.directions, *(self._unit(c) for c in self.coordinates)]

    def _unit(self, place: tuple[int, ...]) -> Array:
        unit = np.zeros_like(self.directions[0])
        unit[place] = 1.0
        return unit

    def project(self, gradient: Array, error: Array) -> tuple[Array, Array]:
        """⟨g, v⟩ for each probe v, with bounds."""
        full = [float(np.sum(gradient * v)) for v in self.directions]
        unit = float(np.finfo(np.float64).eps) * gradient.size * float(np.sum(np.abs(gradient)))
        spread = float(np.sum(error)) + unit
        picked = [gradient[c] for c in self.coordinates]
        return np.array([*full, *picked]), np.array([*(spread for _ in full), *(error[c] for c in self.coordinates)])


@dataclass(frozen=True, slots=True)
class Slope:
    """One method's derivative with respect to one input: every element (``probed`` False) or along the probes."""

    value: Array
    error: Array
    kink: Array
    probed: bool = False
    differenced: bool = False  #: the error is a difference quotient's own estimate, not a rounding bound
    sampled: bool = False  #: the error is an estimate by random rounding, not a worst case


@dataclass(frozen=True, slots=True)
class Estimate:
    """One method's gradient, an entry per wanted input; ``dtype`` is what it was computed in."""

    method: str
    slopes: tuple[Slope, ...]
    dtypes: tuple[np.dtype[Any], ...]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: two methods on one input.

    Of its ``entries`` (elements, or probes) ``settled`` are compared by both methods and say something; ``kinks`` have
    no derivative to compare; ``reasons`` tells of the others why not, with their number.
    """

    name: str
    aval: str
    pair: tuple[str, str]
    absolute: float
    relative: float
    ulp: float
    verdict: Verdict
    words: str
    derivative: bool = True  #: not of the function's own values
    alone: int = 0  #: entries that one method has and the other not, where nothing else is wrong
    entries: int = 0
    settled: int = 0
    kinks: int = 0
    reasons: tuple[tuple[str, int], ...] = ()

    @property
    def ok(self) -> bool:
        return self.verdict is not Verdict.WRONG

    @property
    def singular(self) -> bool:
        """Whether the only trouble is a value that is not finite in one of the two."""
        return self.alone > 0

    @property
    def compared(self) -> bool:
        """Whether there was an entry of which both methods say something."""
        return self.settled > 0 or not self.entries

    def excused(self) -> Row:
        """The row where every rule is right although one method is not finite: the point is singular."""
        words = self.words.replace("NOT FINITE", "not comparable: singular or overflowing")
        return replace(
            self, verdict=Verdict.UNSURE, words=words, settled=self.settled - self.alone, alone=0,
            reasons=(*self.reasons, ("singular or overflowing in one of the two", self.alone)),
        )  # fmt: skip


def compare(name: str, aval: str, a: Estimate, b: Estimate, i: int, probes: Probes | None, natural: float) -> Row:
    """The row for input ``i``; derivatives that are small beside ``natural`` are 0 as far as anybody can tell."""
    left, right = a.slopes[i], b.slopes[i]
    if left.probed != right.probed:
        assert probes is not None, "a method that was sampled has probes"
        left, right = (s if s.probed else _projected(s, probes) for s in (left, right))
    coarser = max((a.dtypes[i], b.dtypes[i]), key=lambda d: float(finfo(d).eps))
    return _row(name, aval, (a.method, b.method), left, right, coarser, natural)


def _projected(slope: Slope, probes: Probes) -> Slope:
    value, error = probes.project(slope.value, slope.error)
    return Slope(value, error, np.zeros(value.shape, bool), True, sampled=slope.sampled)


def _row(name: str, aval: str, pair: tuple[str, str], a: Slope, b: Slope, dtype: np.dtype[Any], natural: float) -> Row:
    x, y = a.value.astype(np.float64), b.value.astype(np.float64)
    kink = a.kink | b.kink
    with np.errstate(all="ignore"):
        allowed = a.error + b.error
        both = np.isfinite(x) & np.isfinite(y)
        finite = both & ((x == y) | np.isfinite(allowed))  # an infinite bound agrees with anything
        gap = np.where(finite & (x != y), np.abs(x - y), 0.0)
        scale = float(np.max(np.where(finite, np.maximum(np.abs(x), np.abs(y)), 0.0), initial=0.0))
        wrong = finite & ~(gap <= allowed)
        lone = _alone(x, a, y, b) | _alone(y, b, x, a)
        seen = finite & (np.minimum(np.abs(x), np.abs(y)) > allowed)
        ulps = np.where(seen, gap / np.spacing(np.maximum(np.abs(x), np.abs(y)).astype(dtype)).astype(float), 0.0)
        own = sum((s.error for s in (a, b) if s.differenced), np.zeros(x.shape))
    vague = finite & (own > VAGUE * max(scale, float(np.finfo(np.float64).tiny))) & ~kink
    wide = (
        finite
        & (x != y)
        & (allowed > max(max(WIDE, 64 * float(finfo(dtype).eps)) * scale, natural))
        & ~(kink | vague | wrong)
    )
    gaps = {
        "kink within the difference step": kink, "difference quotient says little": vague,
        "bounds too wide to say something": wide, "NaN in both": np.isnan(x) & np.isnan(y) & ~kink,
        "not comparable (not finite, or without a bound)": ~finite & ~kink & ~(np.isnan(x) & np.isnan(y)),
    }  # fmt: skip
    verdict, words = _verdict(x, y, wrong, lone, gaps)
    if a.probed:
        words += f" ({x.size} probes)"
    settled = lone | wrong | (finite & ~kink & ~vague & ~wide)
    biggest = float(np.max(gap, initial=0.0))
    reasons = tuple((why, n) for why, mask in list(gaps.items())[1:] if (n := int(np.sum(mask & ~settled))))
    return Row(
        name, aval, pair, biggest, biggest / scale if scale else 0.0, float(np.max(ulps, initial=0.0)), verdict, words,
        alone=0 if np.any(wrong) else int(np.sum(lone)), entries=x.size, settled=int(np.sum(settled)),
        kinks=int(np.sum(kink & ~settled)), reasons=reasons,
    )  # fmt: skip


def _alone(x: Array, a: Slope, y: Array, b: Slope) -> Array:
    """Where ``x`` is known and ``y`` is not finite although its method should give a value."""
    return np.isfinite(x) & np.isfinite(a.error) & ~np.isfinite(y) & np.asarray(not b.differenced)


def _verdict(x: Array, y: Array, wrong: Array, lone: Array, gaps: dict[str, Array]) -> tuple[Verdict, str]:
    if np.any(wrong):
        return Verdict.WRONG, f"DISAGREE at {_count(wrong)}: {_example(x, y, wrong)}"
    if np.any(lone):
        return Verdict.WRONG, f"NOT FINITE at {_count(lone)}: {_example(x, y, lone)}"
    kink, *_, nan, missing = gaps.values()
    if x.size and np.all(nan):
        return Verdict.UNSURE, "not comparable: NaN in both everywhere"
    if x.size and np.all(nan | missing):
        return Verdict.UNSURE, "not comparable: nowhere finite in both"
    if not any(np.any(mask) for mask in gaps.values()):
        return (Verdict.EQUAL, "equal") if np.array_equal(x, y) else (Verdict.AGREE, "agree")
    said = [f"{words} at {_count(mask)}" for words, mask in gaps.items() if np.any(mask)]
    rest = ~np.any(list(gaps.values()), axis=0)
    words = "; ".join([*said, "the rest agree"] if np.any(rest) else said)
    return (Verdict.KINK if np.any(kink) else Verdict.UNSURE), words


def _count(mask: Array) -> str:
    return f"{int(np.sum(mask))} of {mask.size}"


def _example(x: Array, y: Array, mask: Array) -> str:
    with np.errstate(all="ignore"):
        gap = np.where(mask, np.nan_to_num(np.abs(x - y), nan=np.inf), -1.0)
    place = np.unravel_index(int(np.argmax(gap)), x.shape)
    index = f"[{','.join(str(int(k)) for k in place)}] " if place else ""
    return f"{index}{x[place]:.9g} against {y[place]:.9g}"


def pairs(estimates: Sequence[Estimate]) -> list[tuple[Estimate, Estimate]]:
    """Every two methods, in the order given."""
    return [(a, b) for i, a in enumerate(estimates) for b in estimates[i + 1 :]]
