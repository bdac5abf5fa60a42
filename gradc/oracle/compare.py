"""Two derivations of one gradient side by side: how far apart, and how far apart they may be.

Enters: `Estimate`s, each a gradient with a bound on its own error.  Leaves: `Row`s of the report. Invariant: two
numbers agree if they differ by no more than the sum of their bounds; a bound comes from an error analysis (rounding) or
from the method itself (finite differences), never from a constant chosen here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np

from gradc.aval import finfo

Array = np.ndarray[Any, Any]

#: a difference quotient whose error exceeds this part of the gradient's size confirms nothing worth saying
VAGUE = 1e-3


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


@dataclass(frozen=True, slots=True)
class Estimate:
    """One method's gradient, an entry per wanted input; ``dtype`` is what it was computed in."""

    method: str
    slopes: tuple[Slope, ...]
    dtypes: tuple[np.dtype[Any], ...]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: two methods on one input."""

    name: str
    aval: str
    pair: tuple[str, str]
    absolute: float
    relative: float
    ulp: float
    verdict: Verdict
    words: str
    singular: bool = field(default=False)  #: the only trouble is a value that is not finite in one of the two
    compared: bool = True  #: whether there was an element of which both methods say something

    @property
    def ok(self) -> bool:
        return self.verdict is not Verdict.WRONG


def compare(name: str, aval: str, a: Estimate, b: Estimate, i: int, probes: Probes | None) -> Row:
    """The row for input ``i``."""
    left, right = a.slopes[i], b.slopes[i]
    if left.probed != right.probed:
        assert probes is not None, "a method that was sampled has probes"
        left, right = (s if s.probed else _projected(s, probes) for s in (left, right))
    coarser = max((a.dtypes[i], b.dtypes[i]), key=lambda d: float(finfo(d).eps))
    return _row(name, aval, (a.method, b.method), left, right, coarser)


def _projected(slope: Slope, probes: Probes) -> Slope:
    value, error = probes.project(slope.value, slope.error)
    return Slope(value, error, np.zeros(value.shape, bool), True)


def _row(name: str, aval: str, pair: tuple[str, str], a: Slope, b: Slope, dtype: np.dtype[Any]) -> Row:
    x, y = a.value.astype(np.float64), b.value.astype(np.float64)
    with np.errstate(all="ignore"):
        allowed = a.error + b.error
        finite = np.isfinite(x) & np.isfinite(y)
        finite &= (x == y) | np.isfinite(allowed)  # an infinite bound agrees with anything
        gap = np.where(finite & (x != y), np.abs(x - y), 0.0)
        scale = float(np.max(np.where(finite, np.maximum(np.abs(x), np.abs(y)), 0.0), initial=0.0))
        wrong = finite & ~(gap <= allowed)
        lone = _alone(x, a, y, b) | _alone(y, b, x, a)
        seen = finite & (np.minimum(np.abs(x), np.abs(y)) > allowed)
        ulps = np.where(seen, gap / np.spacing(np.maximum(np.abs(x), np.abs(y)).astype(dtype)).astype(float), 0.0)
        own = sum((s.error for s in (a, b) if s.differenced), np.zeros(x.shape))
    vague = finite & (own > VAGUE * max(scale, float(np.finfo(np.float64).tiny))) & ~(a.kink | b.kink)
    verdict, words = _verdict(x, y, wrong, lone, finite, a.kink | b.kink, vague)
    if a.probed:
        words += f" ({x.size} probes)"
    compared = not x.size or bool(np.any(lone | (finite & ~a.kink & ~b.kink & ~vague)))
    biggest = float(np.max(gap, initial=0.0))
    return Row(name, aval, pair, biggest, biggest / scale if scale else 0.0, float(np.max(ulps, initial=0.0)),
               verdict, words, bool(np.any(lone)) and not np.any(wrong), compared)  # fmt: skip


def _alone(x: Array, a: Slope, y: Array, b: Slope) -> Array:
    """Where ``x`` is known and ``y`` is not finite although its method should give a value."""
    return np.isfinite(x) & np.isfinite(a.error) & ~np.isfinite(y) & np.asarray(not b.differenced)


def _verdict(
    x: Array, y: Array, wrong: Array, lone: Array, finite: Array, kink: Array, vague: Array
) -> tuple[Verdict, str]:
    if np.any(wrong):
        return Verdict.WRONG, f"DISAGREE at {_count(wrong)}: {_example(x, y, wrong)}"
    if np.any(lone):
        return Verdict.WRONG, f"NOT FINITE at {_count(lone)}: {_example(x, y, lone)}"
    missing = ~finite & ~kink
    if x.size and np.all(missing):
        return Verdict.UNSURE, "not comparable: nowhere finite in both"
    remarks = _remarks(kink, vague, missing)
    if np.any(kink):
        return Verdict.KINK, remarks
    if np.any(vague) or np.any(missing):
        return Verdict.UNSURE, remarks
    return (Verdict.EQUAL, "equal") if np.array_equal(x, y) else (Verdict.AGREE, "agree")


def _remarks(kink: Array, vague: Array, missing: Array) -> str:
    parts = [
        (kink, "kink within the difference step at"), (vague, "difference quotient says little at"),
        (missing, "not comparable (not finite, or without a bound) at"),
    ]  # fmt: skip
    said = [f"{words} {_count(mask)}" for mask, words in parts if np.any(mask)]
    rest = np.any(~(kink | vague | missing))
    return "; ".join([*said, "the rest agree"] if rest else said)


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
