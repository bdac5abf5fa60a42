"""How far along a direction: steps that satisfy the strong Wolfe conditions, as one native loop.

Enters: the value and gradient of f as a function of a vector, a point, a direction of descent and a first step.
Leaves: a `Step`: where it ends, with value and gradient there, which are the only ones that were computed.
Source: Nocedal and Wright, Numerical Optimization, 2nd ed., algorithms 3.5 and 3.6, with cubic interpolation (3.59).
Near a minimum differences of f are rounding alone, so f may rise by that much, and the slope decides (the approximate
Wolfe condition of Hager and Zhang, 2005).  A NaN counts as too high.  Start reading at `strong_wolfe`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from gradc.api.control import while_loop
from gradc.aval import finfo
from gradc.node import dsl

#: f, or the norm of residuals, must fall by this part of what the slope at the start promises
DECREASE = 1e-4
#: evaluations for one step
MOST_TRIES = 40
#: a bracket is cut at least so far from its ends, in parts of its width
MARGIN = 0.1

ValueAndGradient = Callable[[Any], tuple[Any, Any]]


class Step(NamedTuple):
    """Where a search along a line has come to; the conditions hold there if ``done``."""

    size: Any
    x: Any
    f: Any
    g: Any
    tries: Any
    done: Any


class _Place(NamedTuple):
    """A step, the value of f there, and its slope along the direction."""

    size: Any
    f: Any
    slope: Any


class _State(NamedTuple):
    step: Step
    following: Any  #: the step to try next
    low: _Place  #: the best end of the bracket, or the step before
    high: _Place
    bracketed: Any


def strong_wolfe(
    f: ValueAndGradient, x: Any, value: Any, gradient: Any, direction: Any, first: Any, curvature: float
) -> Step:
    """A step a with f(x + a d) ≤ f(x) + 10⁻⁴ a f'(0) and |f'(a)| ≤ ``curvature``·|f'(0)|, slopes along d."""
    slope = dsl.dot(gradient, direction)
    slack = 10 * float(finfo(value.dtype).eps) * dsl.abs(value)

    def more(s: _State) -> Any:
        return ~s.step.done & (s.step.tries < MOST_TRIES)

    def tried(s: _State) -> _State:
        size = s.following
        at = x + size * direction
        fresh, g = f(at)
        here = _Place(size, fresh, dsl.dot(g, direction))
        limit = value + DECREASE * size * slope + slack
        below_low = (fresh <= s.low.f + slack) | (~s.bracketed & (s.step.tries == 0))
        falls = (fresh <= limit) & below_low & dsl.isfinite(here.slope)
        done = falls & (dsl.abs(here.slope) <= -curvature * slope)
        away = dsl.where(s.bracketed, here.slope * dsl.sign(s.high.size - s.low.size) >= 0, here.slope >= 0)
        high = _where(~falls, here, _where(away, s.low, s.high))
        low = _where(falls, here, s.low)
        bracketed = s.bracketed | ~falls | away
        following = dsl.where(bracketed, _between(low, high), 2 * size)
        return _State(Step(size, at, fresh, g, s.step.tries + 1, done), following, low, high, bracketed)

    start = _Place(0 * value, value, slope)
    nothing = Step(0 * value, x, value, gradient, dsl.int64(0), dsl.bool_(False))
    return while_loop(more, tried, _State(nothing, first, start, start, dsl.bool_(False))).step


def _where(which: Any, a: _Place, b: _Place) -> _Place:
    return _Place(*(dsl.where(which, one, two) for one, two in zip(a, b, strict=True)))


def _between(low: _Place, high: _Place) -> Any:
    """Where the cubic through both ends is least, not too near to either; the middle if it has no such place."""
    width = high.size - low.size
    bend = low.slope + high.slope - 3 * (high.f - low.f) / width
    root = dsl.sign(width) * dsl.sqrt(dsl.maximum(bend * bend - low.slope * high.slope, 0))
    part = 1 - (high.slope + root - bend) / (high.slope - low.slope + 2 * root)
    inside = dsl.clip(part, MARGIN, 1 - MARGIN)
    return low.size + width * dsl.where(dsl.isfinite(part), inside, 0.5)
