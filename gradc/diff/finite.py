"""Finite differences: derivatives from function values alone, with an estimate of their own error.

Enters: a function that can be evaluated, and a point.  Leaves: for each derivative its value, how far off it may be,
and the jump between the two one-sided derivatives where there is one (a kink). Central differences at shrinking steps
are extrapolated to step zero (Richardson); the error estimate adds what the last extrapolations disagree by, what
rounding in the function values can do, and half the jump.  Reference: Ridders, "Accurate computation of F'(x) and
F'(x)F''(x)", Adv. Eng. Software 4 (1982); Higham, Accuracy and Stability of Numerical Algorithms, §1.14.

Invariant: arithmetic is in float64 whatever the dtype of the point.  Start reading at `derivative_along`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Evaluate = Callable[[Sequence[Array]], Any]

EPS = float(np.finfo(np.float64).eps)
#: rows of the tableau at most; each halves the step
LEVELS = 12
#: rows before the tableau may stop: the error of row k is O(h²ᵏ)
LEAST_LEVELS = 3
#: how much extrapolation can amplify rounding: Π (4ᵏ + 1)/(4ᵏ − 1) over all k
AMPLIFIED = 2.0


@dataclass(frozen=True, slots=True)
class Difference:
    """A derivative estimate: ``value`` ± ``error``; ``jump`` is right minus left derivative, 0 where they agree."""

    value: Array
    error: Array
    jump: Array

    @classmethod
    def undefined(cls, shape: tuple[int, ...]) -> Difference:
        """No information: NaN with an infinite error."""
        return cls(np.full(shape, np.nan), np.full(shape, np.inf), np.zeros(shape))

    def improve(self, value: Array, error: Array, jump: Array) -> None:
        """Take over the elements whose error is smaller."""
        better = error < self.error
        for old, new in ((self.value, value), (self.error, error), (self.jump, jump)):
            old[...] = np.where(better, new, old)

    def settled(self, rounding: Array) -> bool:
        """Whether the next row, whose rounding error alone is ``rounding``, could not be much better than this."""
        return bool(np.all(self.error <= 2 * rounding))


def first_step(scale: float) -> float:
    """The step that balances the truncation error h⁶ of three extrapolated rows against rounding ε/h: h = ε^(1/7)."""
    return scale * EPS ** (1 / 7)


def derivative_along(
    g: Callable[[float], Any],
    step: float,
    noise: Array | float | None = None,
    blur: float = 0.0,
    smooth: Callable[[float], Any] | None = None,
) -> Difference:
    """d g(t)/dt at t = 0, elementwise for an array-valued ``g``.

    ``step`` is the first and largest |t|; ``noise`` bounds the rounding error that comes into one value of g before its
    last operation; ``blur`` bounds the rounding error of t itself where g adds it to something.  ``smooth(t)`` says
    (elementwise, if it can) whether g has no kink between −t and t: steps across one are not used.
    """
    middle = np.asarray(g(0.0), np.float64)
    result = Difference.undefined(middle.shape)
    slopes: list[Array] = []
    jumps: list[Array] = []
    usable: list[Array] = []
    h = step
    for level in range(LEVELS):
        with np.errstate(all="ignore"):
            up, down = np.asarray(g(h), np.float64), np.asarray(g(-h), np.float64)
            here = _unit(up, down, middle) + (0.0 if noise is None else noise)
            rounding = AMPLIFIED * (here / h + np.abs(up - down) / (2 * h) * (blur / h))
            row = _extrapolated((up - down) / (2 * h), slopes, 4.0)
            gaps = _extrapolated(((up - middle) + (down - middle)) / h, jumps, 2.0)
            jump = _significant(gaps, jumps, 4 * rounding)
            usable = _still_usable(usable, True if smooth is None else smooth(h))
            for k in range(1, len(row)):
                spread = np.maximum(np.abs(row[k] - row[k - 1]), np.abs(row[k] - slopes[k - 1]))
                error = spread + rounding + np.abs(jump) / 2
                result.improve(row[k], np.where(usable[level - k], error, np.inf), jump)
        slopes, jumps, h = row, gaps, h / 2
        if level + 1 >= LEAST_LEVELS and result.settled(2 * rounding):
            break
    return result


def _still_usable(before: Sequence[Array], now: Any) -> list[Array]:
    """For each row, whether it and all rows after it are on one side of every kink."""
    return [b & now for b in before] + [np.asarray(now)]


def _unit(*values: Array) -> Array:
    return np.asarray(EPS * np.max(np.abs(values), axis=0))


def _extrapolated(first: Array, before: Sequence[Array], factor: float) -> list[Array]:
    """The next row of Richardson's tableau for an error series in h^p, h^(p+2), …; ``factor`` is 2^p."""
    row = [first]
    for previous in before:
        row.append(row[-1] + (row[-1] - previous) / (factor - 1))
        factor *= 4.0
    return row


def _significant(row: Sequence[Array], before: Sequence[Array], rounding: Array) -> Array:
    """The extrapolated jump where it exceeds its own uncertainty, else 0."""
    if not before:
        return np.zeros_like(row[0])
    spread = np.maximum(np.abs(row[-1] - row[-2]), np.abs(row[-1] - before[-1]))
    return np.asarray(np.where(np.abs(row[-1]) > 2 * (spread + rounding), row[-1], 0.0))


# -- gradients ---------------------------------------------------------------------------------------------------------


def finite_difference(
    evaluate: Evaluate, arrays: Sequence[Array], wanted: Sequence[int], noise: float | None = None
) -> tuple[list[Array], list[Array]]:
    """The gradient of a scalar function with respect to ``arrays[i]`` for i in ``wanted``, and its error estimates.

    ``evaluate`` takes all arrays, the wanted ones in float64, and returns a scalar; it is called 7 to 25 times per
    element.  The first step of an element is chosen from its magnitude and float64's precision (`default_step`).
    """
    gradients, errors = [], []
    for i in wanted:
        found = difference_of(evaluate, arrays, i, noise)
        gradients.append(found.value)
        errors.append(found.error)
    return gradients, errors


def difference_of(evaluate: Evaluate, arrays: Sequence[Array], i: int, noise: float | None = None) -> Difference:
    """The gradient with respect to ``arrays[i]``, element by element."""
    shape = np.shape(arrays[i])
    result = Difference.undefined(shape)
    for index in np.ndindex(shape):
        unit = np.zeros(shape)
        unit[index] = 1.0
        one = difference_along(evaluate, arrays, {i: unit}, noise)
        result.value[index], result.error[index], result.jump[index] = one.value, one.error, one.jump
    return result


def difference_along(
    evaluate: Evaluate,
    arrays: Sequence[Array],
    direction: Mapping[int, Array],
    noise: Array | float | None = None,
    smooth: Callable[[float], Any] | None = None,
    shrink: float = 1.0,
) -> Difference:
    """The derivative of ``evaluate`` (of any shape) along ``direction``: argument number -> array of its shape.

    A given ``noise`` includes what rounding x + t·v does; ``shrink`` makes the first step that much smaller.
    """
    point = [np.asarray(a, np.float64) if i in direction else np.asarray(a) for i, a in enumerate(arrays)]

    def g(t: float) -> Any:
        return evaluate([a + t * direction[i] if i in direction else a for i, a in enumerate(point)])

    moved = {i: point[i] for i in direction}
    own = blur(moved, direction) if noise is None else 0.0
    return derivative_along(g, default_step(moved, direction) / shrink, noise, own, smooth)


def default_step(point: Mapping[int, Array], direction: Mapping[int, Array]) -> float:
    """`first_step` at the scale of what moves, or of the array around it where that is larger (an entry may be 0)."""
    moved = {i: v for i, v in direction.items() if np.any(v)}
    local = max((float(np.max(np.abs(point[i][v != 0]))) for i, v in moved.items()), default=0.0)
    around = max((float(np.mean(np.abs(point[i]))) for i in moved), default=0.0)
    return first_step(max(local, around) or 1.0) / _largest(direction)


def blur(point: Mapping[int, Array], direction: Mapping[int, Array]) -> float:
    """How far x + t·v may be off in t because it is rounded."""
    shifts = [np.abs(point[i][v != 0] / v[v != 0]) for i, v in direction.items()]
    return EPS / 2 * max((float(np.max(s)) for s in shifts if s.size), default=0.0)


def _largest(direction: Mapping[int, Array]) -> float:
    return max((float(np.max(np.abs(v), initial=0.0)) for v in direction.values()), default=0.0) or 1.0
