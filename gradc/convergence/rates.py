"""At which rate a sequence converges: linear, sublinear with its exponent, superlinear with its order, within bounds.

Enters: losses, their steps, perhaps the least value that they can have.  Leaves: a `Rate`.
Without noise and without a known minimum the decreases f(k) − f(k+1) are fitted instead of the errors: of C·qᵏ they are
C(1 − q)·qᵏ, and of C/(k + c)ᵖ about Cp/(k + c)ᵖ⁺¹, so the minimum need not be guessed.  With noise, means over
stretches of steps are fitted by f* + C·qᵏ and by f* + C/(k + c)ᵖ, weighted by their scatter.  Rates are compared by
Akaike's criterion; ``confidence`` is the weight of the one that is chosen.  Intervals are for 95 %, and count
correlated residuals as fewer.
Sources: Nocedal and Wright, Numerical Optimization, 2nd ed., appendix A.2, for the kinds of rates; Burnham and
Anderson, Model Selection and Multimodel Inference, 2nd ed., § 2.2 and § 2.9, for criterion and weights.  Start reading
at `rate_of`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Array = np.ndarray[Any, Any]
Kind = Literal["linear", "sublinear", "superlinear", "none"]

#: the quantile of the normal distribution for 95 % on both sides
_Z = 1.959964
#: fewer points tell no rate
LEAST = 5
#: the largest exponent of a sublinear rate
MOST = 4.0
#: stretches into which noisy losses are cut
STRETCHES = 40
#: ratio of successive logarithmic decreases above which convergence is faster than linear: 1 is linear, 2 quadratic
FASTER = 1.25


@dataclass(frozen=True)
class Rate:
    """How the error falls: "linear" C·qᵏ, "sublinear" C/kᵖ, "superlinear" e(k+1) ≈ C·e(k)ʳ, or "none" that is told.

    ``value`` is q, p or r, with ``low`` and ``high`` around it; ``confidence`` the weight of this kind among all.
    """

    kind: Kind
    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    confidence: float = math.nan
    points: int = 0
    late: float = math.nan  #: by how much noisy losses fall over the second half, by the fit

    def steps_for(self, factor: float) -> float:
        """Steps until the error is ``factor`` times smaller; of a sublinear rate, by how much steps so far multiply."""
        if self.kind == "linear":
            return math.log(factor) / -math.log(self.value) if 0 < self.value < 1 else math.inf if self.value else 1.0
        if self.kind != "sublinear" or not self.value > 0:
            return math.nan
        digits = math.log10(factor) / self.value
        return math.inf if digits > 300 else float(10.0**digits)


def rate_of(
    losses: Array, steps: Array, minimum: float | None, noisy: bool, rounding: float, oscillating: bool
) -> Rate:
    """The rate of losses that fall; ``rounding`` is the relative spacing of their dtype."""
    if noisy:
        return _with_noise(losses, steps, minimum)
    sizes, at = _errors(losses, steps, minimum, rounding)
    if oscillating and sizes.size:
        sizes = np.maximum.accumulate(sizes[::-1])[::-1]  # the envelope
    superlinear = _superlinear(sizes, ended=sizes.size < losses.size - 1)
    if superlinear is not None:
        return superlinear
    if sizes.size < LEAST:
        return Rate("none", points=sizes.size)
    half = max(LEAST, sizes.size // 2)
    return _linear_or_not(np.log(sizes[-half:]), at[-half:], 0 if minimum is not None else 1)


def _errors(losses: Array, steps: Array, minimum: float | None, rounding: float) -> tuple[Array, Array]:
    """Errors or decreases per step, and their steps, up to where rounding begins."""
    if minimum is not None:
        sizes, at = losses - minimum, steps.astype(float)
        noise = 16 * rounding * np.maximum(np.abs(losses), abs(minimum))
    else:
        gaps = np.diff(steps).astype(float)
        sizes, at = np.abs(np.diff(losses)) / gaps, steps[:-1] + 0.5 * (gaps - 1)
        noise = 16 * rounding * np.abs(losses[:-1]) / gaps
    lost = np.flatnonzero(~(sizes > noise))
    count = _first_of_most(lost, sizes.size)
    kept = sizes[:count] > 0
    return sizes[:count][kept], at[:count][kept]


def _first_of_most(lost: Array, size: int) -> int:
    """Where the values that are lost in rounding begin to be most of all that follow."""
    for index, place in enumerate(lost.tolist()):
        if lost.size - index > (size - place) / 2:
            return int(place)
    return size


# -- superlinear -------------------------------------------------------------------------------------------------------


def _superlinear(sizes: Array, ended: bool) -> Rate | None:
    """The order, where each step gains more digits than the one before, by `FASTER` at least."""
    y = np.log(sizes)
    gains = -np.diff(y)
    if sizes.size <= 2 and ended and sizes.size and (sizes.size == 1 or gains[0] > math.log(1e6)):
        return Rate("superlinear", math.inf, math.nan, math.nan, math.nan, sizes.size)  # at once: as of a quadratic
    if gains.size < 2 or not gains[-1] > math.log(10):
        return None
    first = gains.size - 1
    while first > 0 and gains[first - 1] > 0 and gains[first] > FASTER * gains[first - 1]:
        first -= 1
    count = gains.size - first
    if count < 2:
        return None
    x, z = y[first:-1], y[first + 1 :]
    order, spread = slope_of(x, z)
    if count == 2:  # three errors: a quotient, without a spread
        return Rate("superlinear", float(gains[-1] / gains[-2]), math.nan, math.nan, math.nan, 3)
    return Rate("superlinear", order, order - spread, order + spread, math.nan, count + 1)


# -- without noise -----------------------------------------------------------------------------------------------------


def _linear_or_not(y: Array, k: Array, less: int) -> Rate:
    """C·qᵏ or C/(k + c)ᵖ, by logarithms of errors (``less`` 0) or of decreases (1: the exponent is one less)."""
    slope, spread, rest = _line(k, y)
    span = float(k[-1])
    shifts = np.r_[1.0, span * np.geomspace(1e-2, 10.0, 60)]
    fits = [(shift, *_line(np.log(k + shift), y)) for shift in shifts]
    fits = [fit for fit in fits if -fit[1] - less <= MOST] or fits[:1]  # larger ones are linear in disguise
    best = min(fits, key=lambda fit: fit[3])
    weights = _weights([(rest, 2), (best[3], 3)], y.size, _effective(k, y, rest, best))
    q, p = math.exp(slope), -best[1] - less
    if weights[0] >= 0.5 or p > MOST:
        if not slope < 0:
            return Rate("none", points=y.size)
        return Rate("linear", q, math.exp(slope - spread), math.exp(slope + spread), weights[0], y.size)
    near = [f for f in fits if f[3] <= best[3] * (1 + _quantile(y.size - 3) ** 2 / max(1, y.size - 3))]
    low, high = min(-f[1] - f[2] for f in near) - less, max(-f[1] + f[2] for f in near) - less
    if not p > 0:  # decreases like 1/k or slower: by these steps the loss has no limit
        return Rate("none", points=y.size)
    return Rate("sublinear", p, low, high, weights[1], y.size)


def _line(x: Array, y: Array) -> tuple[float, float, float]:
    """Slope, half its interval, and the sum of squared residuals."""
    slope, spread = slope_of(x, y)
    residual = y - y.mean() - slope * (x - x.mean())
    return slope, spread, float(residual @ residual) + y.size * (1e-9 * (1 + np.abs(y).max())) ** 2


def slope_of(x: Array, y: Array) -> tuple[float, float]:
    """Least squares, with half the interval of 95 %; correlated residuals count as fewer."""
    centred = x - x.mean()
    square = float(centred @ centred)
    slope = float(centred @ y) / square
    residual = y - y.mean() - slope * centred
    free = max(1.0, _independent(residual) - 2)
    return slope, _quantile(free) * math.sqrt(float(residual @ residual) / free / square)


def _independent(residual: Array) -> float:
    """How many independent values residuals are worth, by their correlation with the next."""
    total = float(residual @ residual)
    if residual.size < 4 or total == 0:
        return float(residual.size)
    r = min(0.98, max(0.0, float(residual[1:] @ residual[:-1]) / total))
    return max(3.0, residual.size * (1 - r) / (1 + r))


def _effective(k: Array, y: Array, rest: float, best: tuple[float, float, float, float]) -> float:
    """The independent residuals of the better fit."""
    x = k if rest <= best[3] else np.log(k + best[0])
    slope = slope_of(x, y)[0]
    return _independent(y - y.mean() - slope * (x - x.mean()))


def _weights(fits: list[tuple[float, int]], size: int, effective: float) -> list[float]:
    """Akaike weights of fits with a sum of squared residuals and a number of parameters."""
    n = max(effective, 4.0)
    scores = [n * math.log(rest / size) + 2 * (count + 1) for rest, count in fits]
    relative = [math.exp(-min(700.0, (s - min(scores)) / 2)) for s in scores]
    return [r / sum(relative) for r in relative]


def _quantile(free: float) -> float:
    """The quantile of Student's distribution for 95 % (Abramowitz and Stegun 26.7.5; exact for one and two)."""
    if free < 2:
        return 12.706
    if free < 3:
        return 4.303
    z = _Z
    return (
        z + (z**3 + z) / (4 * free) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * free**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * free**3)
    )  # fmt: skip


# -- with noise --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Stretches:
    """Means over stretches of steps that grow geometrically, their spread, and steps at which models are evaluated."""

    means: Array
    spreads: Array
    at: Array  #: (stretches, 9)

    @classmethod
    def of(cls, losses: Array, steps: Array) -> _Stretches:
        count = min(STRETCHES, max(2, losses.size // 6))
        edges = np.unique(np.round(np.geomspace(6, losses.size, count)).astype(int))
        edges = np.r_[0, edges[np.r_[True, np.diff(edges) >= 6]]]
        edges[-1] = losses.size
        means, spreads, at = [], [], []
        for a, b in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
            part = losses[a:b]
            changes = np.diff(part)
            means.append(part.mean())
            spreads.append(math.sqrt(float(changes @ changes) / (2 * changes.size) / part.size))
            at.append(np.interp(np.linspace(a, b - 1, 9), np.arange(losses.size), steps))
        floor = 1e-12 * float(np.abs(losses).max()) + 1e-300
        return cls(np.array(means), np.maximum(np.array(spreads), floor), np.array(at))

    def fitted(self, shape: Array, minimum: float | None) -> tuple[float, float]:
        """χ² of f* + C·shape, and C, which is not negative."""
        w = 1 / self.spreads
        if minimum is None:
            columns = np.stack([w, w * shape], axis=1)
            (_, c), *_ = np.linalg.lstsq(columns, w * self.means, rcond=None)
            if c > 0:
                rest = w * self.means - columns @ np.linalg.lstsq(columns, w * self.means, rcond=None)[0]
                return float(rest @ rest), float(c)
            level = float((w * w) @ self.means / (w @ w))
        else:
            level, y = minimum, w * (self.means - minimum)
            c = max(0.0, float((w * shape) @ y / ((w * shape) @ (w * shape))))
            rest = y - c * w * shape
            return float(rest @ rest), c
        rest = w * (self.means - level)
        return float(rest @ rest), 0.0


@dataclass(frozen=True)
class _Fit:
    """f* + C·shape with its parameter, χ², C, and the shape in the middle and at the end of the run."""

    value: float
    square: float
    size: float
    halves: Array


def _with_noise(losses: Array, steps: Array, minimum: float | None) -> Rate:
    """The rate of the means."""
    if losses.size < 60:
        return Rate("none", points=losses.size)
    seen = _Stretches.of(losses, steps)
    span = float(steps[-1] - steps[0]) + 1
    times = seen.at - steps[0]
    paces = np.geomspace(span / 300, 5 * span, 90)
    powers = np.geomspace(0.1, MOST, 75)
    shifts = np.r_[1.0, np.geomspace(2.0, max(4.0, span / 4), 12)]
    halves = np.array([span / 2, span])  # between them lies the second half
    falling: list[_Fit] = []
    for t in paces:
        falling.append(_Fit(math.exp(-1 / t), *seen.fitted(np.exp(-times / t).mean(1), minimum), np.exp(-halves / t)))
    sinking: list[_Fit] = []
    for p in powers:
        for c in shifts:
            shape = ((times + c) ** -p).mean(1)
            sinking.append(_Fit(float(p), *seen.fitted(shape, minimum), (halves + c) ** -p))
    free = max(1, seen.means.size - 4)
    best = {name: min(fits, key=lambda fit: fit.square) for name, fits in (("q", falling), ("p", sinking))}
    scale = max(1.0, min(fit.square for fit in best.values()) / free)
    scores = {name: best[name].square / scale + 2 * count for name, count in (("q", 3), ("p", 4))}
    constant = seen.fitted(np.zeros(seen.means.size), minimum)[0] / scale + 2
    if constant <= min(scores.values()) or best["q"].size == 0 == best["p"].size:
        return Rate("none", points=losses.size)
    total = sum(math.exp(-(s - min(scores.values())) / 2) for s in scores.values())
    name = min(scores, key=lambda key: scores[key])
    chosen, fits = best[name], falling if name == "q" else sinking
    near = {fit.value for fit in fits if fit.square <= chosen.square + _Z**2 * scale and fit.size > 0}
    tried = sorted({fit.value for fit in fits})
    low, high = tried.index(min(near)), tried.index(max(near))
    kind: Kind = "linear" if name == "q" else "sublinear"
    within = tried[max(0, low - 1)], tried[min(len(tried) - 1, high + 1)]  # no finer than what was tried
    late = chosen.size * float(chosen.halves[0] - chosen.halves[1])
    return Rate(kind, chosen.value, *within, 1 / total, losses.size, late)


__all__ = ["Kind", "Rate", "rate_of", "slope_of"]
