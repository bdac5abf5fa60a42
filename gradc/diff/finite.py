"""Finite differences: derivatives from function values alone, with an error bound that follows what is seen.

Enters: a function that can be evaluated, and a point.  Leaves: for each derivative its value, how far off it may be,
and the jump between the two one-sided derivatives where there is one (a kink). Nobody tells the scale on which the
function varies, so the steps come down a ladder from the size of the argument to where rounding drowns the difference.
At each step central differences are extrapolated to step zero (Richardson); the error estimate adds what the last
extrapolations disagree by, what rounding in the function values can do, and half the jump.  Every smaller step is then
evidence for or against that estimate: by as much as a smaller step contradicts it, beyond rounding and the remainder
that was claimed, its error grows.  So a step that strides over oscillations, kinks or poles is found out, and where no
step is right the error says so.  A point whose value is none of those around it has no derivative that differences
know: its error is infinite.  Reference: Ridders, "Accurate computation of F'(x) and F'(x)F''(x)", Adv. Eng.
Software 4 (1982); Higham, Accuracy and Stability of Numerical Algorithms, §1.14.

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
#: the largest step, in units of the argument's size; no short fraction, so that steps do not fall on periods
FIRST = 0.12345677
#: from one step to the next
RATIO = 4.0
#: steps at most: the last is 2⁻⁴⁹ of the argument's size
LEVELS = 24
#: how many smaller steps must have been looked at before an estimate may be believed
WITNESSES = 2
#: the value at the point is left out by those around it if it is away from them by so many roundings
SURELY = 64.0
#: columns of the tableau at most: the error of column k is O(h^2k)
COLUMNS = 7
#: how much extrapolation can amplify rounding: Π (16ᵏ + 1)/(16ᵏ − 1) over all k
AMPLIFIED = 1.15


@dataclass(frozen=True, slots=True)
class Difference:
    """A derivative estimate: ``value`` ± ``error``; ``jump`` is right minus left derivative, 0 where they agree."""

    value: Array
    error: Array
    jump: Array


class _Ladder:
    """One estimate per step, each with the error that all smaller steps so far leave it."""

    def __init__(self, shape: tuple[int, ...]):
        self.value = np.full((LEVELS, *shape), np.nan)
        self.error = np.full((LEVELS, *shape), np.inf)
        self.jump = np.zeros((LEVELS, *shape))
        self.remainder = np.zeros((LEVELS, *shape))  #: of the plain central difference at that step

    def testify(self, level: int, central: Array, rounding: Array) -> None:
        """Hold the estimates of all larger steps against the central difference at this one."""
        decay = RATIO ** (-2.0 * (level - np.arange(level))).reshape(-1, *[1] * central.ndim)
        claimed = 2 * decay * self.remainder[:level] + rounding
        excess = np.abs(self.value[:level] - central) - claimed
        self.error[:level] += np.where(excess > 0, excess, 0.0)

    def enter(self, level: int, row: Sequence[Array], before: Sequence[Array], rounding: Array, jump: Array) -> None:
        """The best column of this step's row."""
        for k in range(1, len(row)):
            spread = np.maximum(np.abs(row[k] - row[k - 1]), np.abs(row[k] - before[k - 1]))
            error = spread + AMPLIFIED * rounding + np.abs(jump) / 2
            better = error < self.error[level]
            self.value[level] = np.where(better, row[k], self.value[level])
            self.error[level] = np.where(better, error, self.error[level])
        self.jump[level] = jump
        self.remainder[level] = np.abs(row[0] - self.value[level])

    def settled(self, level: int, rounding: Array) -> bool:
        """Whether smaller steps, whose rounding alone is ``rounding``, could not be much better, and testified."""
        best = np.argmin(self.error, axis=0)
        error = np.min(self.error, axis=0)
        return bool(np.all((error <= 4 * rounding) & (level - best >= WITNESSES)))

    def best(self, level: int) -> Difference:
        """The estimate with the smallest error, elementwise; NaN with an infinite error where there is none.

        ``level`` is the last one: what nothing has testified to counts for nothing.
        """
        self.error[level + 1 - WITNESSES :] = np.inf
        self.value[level + 1 - WITNESSES :] = np.nan
        chosen = np.argmin(self.error, axis=0)[None]
        value, error, jump = (np.take_along_axis(a, chosen, axis=0)[0] for a in (self.value, self.error, self.jump))
        return Difference(np.asarray(value), np.asarray(error), np.asarray(jump))


def derivative_along(
    g: Callable[[float], Any], step: float, noise: Array | float | None = None, blur: float = 0.0
) -> Difference:
    """d g(t)/dt at t = 0, elementwise for an array-valued ``g``.

    ``step`` is the first and largest |t|; ``noise`` bounds the rounding error that comes into one value of g before its
    last operation; ``blur`` bounds the rounding error of t itself where g adds it to something.
    """
    middle = np.asarray(g(0.0), np.float64)
    ladder = _Ladder(middle.shape)
    slopes: list[Array] = []
    jumps: list[Array] = []
    apart: list[Array] = []
    limits: list[Array] = []
    jump = np.zeros(middle.shape)
    h = step
    for level in range(LEVELS):
        with np.errstate(all="ignore"):
            up, down = np.asarray(g(h), np.float64), np.asarray(g(-h), np.float64)
            here = _unit(up, down, middle) + (0.0 if noise is None else noise)
            central = (up - down) / (2 * h)
            rounding = here / h + np.abs(central) * (blur / h)
            row = _extrapolated(central, slopes, RATIO**2)
            bent = (up - middle) + (down - middle)
            gaps = _extrapolated(bent / h, jumps, RATIO)
            gone = _extrapolated(bent, apart, RATIO**2)
            limits.append(_significant(gone, apart, SURELY * here))
            jump = _significant(gaps, jumps, 4 * rounding, jump)
            ladder.testify(level, central, rounding)
            ladder.enter(level, row, slopes, rounding, jump)
            slopes, jumps, apart, h = row, gaps, gone, h / RATIO
            if ladder.settled(level, rounding):
                break
    found = ladder.best(level)
    hole = _left_out(limits)
    if noise is None or not hole.any():
        return found
    return Difference(found.value, np.where(hole, np.inf, found.error), np.where(hole, jumps[0], found.jump))


def _unit(*values: Array) -> Array:
    return np.asarray(EPS * np.max(np.abs(values), axis=0))


def _extrapolated(first: Array, before: Sequence[Array], factor: float) -> list[Array]:
    """The next row of Richardson's tableau for an error series in h^p, h^(p+2), …; ``factor`` is RATIO^p."""
    row = [first]
    for previous in before[: COLUMNS - 1]:
        row.append(row[-1] + (row[-1] - previous) / (factor - 1))
        factor *= RATIO**2
    return row


def _significant(row: Sequence[Array], before: Sequence[Array], rounding: Array, known: Array | float = 0.0) -> Array:
    """The extrapolated jump where it exceeds its own uncertainty: of the column that knows it best, for the last one
    still holds what the largest step strode over.

    Else ``known``, what larger steps told of it, if this step does not speak against that, and 0 if it does: a jump
    that rounding drowns is still there.
    """
    best, least = np.zeros_like(row[0]), np.full_like(row[0], np.inf)
    for k in range(1, len(row)):
        spread = np.maximum(np.abs(row[k] - row[k - 1]), np.abs(row[k] - before[k - 1]))
        best, least = np.where(spread < least, row[k], best), np.where(spread < least, spread, least)
    doubt = 2 * (least + rounding)
    return np.asarray(np.where(np.abs(best) > doubt, best, np.where(np.abs(best - known) <= doubt, known, 0.0)))


def _left_out(limits: Sequence[Array]) -> Array:
    """Whether the value at the point is none of those around it: g(h) + g(−h) − 2g(0), extrapolated, is not 0."""
    last, before = limits[-1], limits[-2]
    return np.asarray((last != 0) & (np.abs(last - before) <= np.abs(last) / 16))


# -- gradients ---------------------------------------------------------------------------------------------------------


def finite_difference(
    evaluate: Evaluate, arrays: Sequence[Array], wanted: Sequence[int], noise: float | None = None
) -> tuple[list[Array], list[Array]]:
    """The gradient of a scalar function with respect to ``arrays[i]`` for i in ``wanted``, and its error estimates.

    ``evaluate`` takes all arrays, the wanted ones in float64, and returns a scalar; it is called 7 to 49 times per
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
    result = Difference(np.full(shape, np.nan), np.full(shape, np.inf), np.zeros(shape))
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
) -> Difference:
    """The derivative of ``evaluate`` (of any shape) along ``direction``: argument number -> array of its shape.

    A given ``noise`` includes what rounding x + t·v does.
    """
    point = [np.asarray(a, np.float64) if i in direction else np.asarray(a) for i, a in enumerate(arrays)]

    def g(t: float) -> Any:
        return evaluate([a + t * direction[i] if i in direction else a for i, a in enumerate(point)])

    moved = {i: point[i] for i in direction}
    own = blur(moved, direction) if noise is None else 0.0
    return derivative_along(g, default_step(moved, direction), noise, own)


def default_step(point: Mapping[int, Array], direction: Mapping[int, Array]) -> float:
    """The largest step: for the size of what moves, or of the array around it if that is larger (an entry may be 0)."""
    moved = {i: v for i, v in direction.items() if np.any(v)}
    local = max((float(np.max(np.abs(point[i][v != 0]))) for i, v in moved.items()), default=0.0)
    around = max((float(np.mean(np.abs(point[i]))) for i in moved), default=0.0)
    return FIRST * (max(local, around) or 1.0) / _largest(direction)


def blur(point: Mapping[int, Array], direction: Mapping[int, Array]) -> float:
    """How far x + t·v may be off in t because it is rounded."""
    shifts = [np.abs(point[i][v != 0] / v[v != 0]) for i, v in direction.items()]
    return EPS / 2 * max((float(np.max(s)) for s in shifts if s.size), default=0.0)


def _largest(direction: Mapping[int, Array]) -> float:
    return max((float(np.max(np.abs(v), initial=0.0)) for v in direction.values()), default=0.0) or 1.0
