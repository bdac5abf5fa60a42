"""Convexity along sampled segments: f(λθ₁ + (1−λ)θ₂) ≤ λf(θ₁) + (1−λ)f(θ₂), or three points where it fails.

Enters: a scalar function of one vector and a point.  Leaves: a `Convexity`.  Values along a segment come from one
native call.  Where they contradict convexity, the three values are bounded by a running error analysis, and only what
rounding cannot explain is a counter-example.  Start reading at `convexity_along`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradc.api.compiled import jit
from gradc.api.control import scan
from gradc.aval import finfo
from gradc.containers import leaves_of
from gradc.convergence.words import number
from gradc.oracle.bounds import bounded
from gradc.trace import trace

Array = np.ndarray[Any, Any]
#: points on a segment, its ends among them
POINTS = 11


@dataclass(frozen=True)
class CounterExample:
    """Three points on a line that no convex function has: f(λθ₁ + (1−λ)θ₂) > λf(θ₁) + (1−λ)f(θ₂).

    ``first`` and ``second`` are θ₁ and θ₂, trees like the parameters; ``part`` is λ.
    """

    first: Any
    second: Any
    part: float
    between: float  #: f(λθ₁ + (1−λ)θ₂)
    chord: float  #: λf(θ₁) + (1−λ)f(θ₂)

    def __str__(self) -> str:
        above, chord = number(self.between), number(self.chord)
        return f"f(λθ₁ + (1−λ)θ₂) = {above} > λf(θ₁) + (1−λ)f(θ₂) = {chord} at λ = {number(self.part)}"


@dataclass(frozen=True)
class Convexity:
    """What sampled segments say: ``counter_example`` is None where none contradicts convexity.

    That is a proof of nothing; a counter-example is one that the function is not convex.
    """

    segments: int
    radius: float
    counter_example: CounterExample | None

    def __bool__(self) -> bool:
        return self.counter_example is None


def convexity_along(
    function: Callable[..., Any],
    at: Array,
    rest: Sequence[Any],
    back: Callable[[Any], Any],
    segments: int,
    radius: float,
    bent: Array | None,
    random: np.random.Generator,
) -> Convexity:
    """Sample ``segments`` between points at the distance ``radius`` from ``at``; ``bent`` is a direction to try first.

    ``back`` makes parameters of a vector.
    """

    def along(first: Any, second: Any, *rest: Any) -> Any:
        def step(carry: Any, part: Any) -> Any:
            return carry, function((part * first + (1 - part) * second).astype(at.dtype), *rest)

        return scan(step, (), np.linspace(1.0, 0.0, POINTS))[1]

    values_along = jit(along)
    ends = [] if bent is None else [(at + s * bent, at - s * bent) for s in (radius, 0.01 * radius)]
    ends += [(at + _step(at.size, radius, random), at + _step(at.size, radius, random)) for _ in range(segments)]
    for first, second in ends:
        found = _worst(np.asarray(values_along(first, second, *rest), np.float64))
        if found is not None:
            example = _proved(function, at.dtype, rest, back, *_points(first, second, *found))
            if example is not None:
                return Convexity(len(ends), radius, example)
    return Convexity(len(ends), radius, None)


def _step(size: int, radius: float, random: np.random.Generator) -> Array:
    direction = random.normal(size=size)
    return np.asarray(direction * (radius / np.linalg.norm(direction)))


def _worst(values: Array) -> tuple[int, int, int] | None:
    """The three points i < k < j whose middle lies highest above the chord; None if none does."""
    i, k, j = (a.ravel() for a in np.meshgrid(*[np.arange(POINTS)] * 3, indexing="ij"))
    i, k, j = (a[(i < k) & (k < j)] for a in (i, k, j))
    part = (j - k) / (j - i)
    with np.errstate(all="ignore"):
        gap = values[k] - (part * values[i] + (1 - part) * values[j])
    gap = np.where(np.isfinite(gap), gap, -np.inf)
    best = int(np.argmax(gap))
    return (int(i[best]), int(k[best]), int(j[best])) if gap[best] > 0 else None


def _points(first: Array, second: Array, i: int, k: int, j: int) -> tuple[Array, Array, float]:
    """θ₁, θ₂ and λ."""
    parts = np.linspace(1.0, 0.0, POINTS)
    ends = [parts[a] * first + (1 - parts[a]) * second for a in (i, j)]
    return ends[0], ends[1], (j - k) / (j - i)


def _proved(
    function: Callable[..., Any], dtype: Any, rest: Sequence[Any], back: Any, first: Array, second: Array, part: float
) -> CounterExample | None:
    """The counter-example, if it is larger than rounding, that of the points included."""
    points = [first.astype(dtype), second.astype(dtype)]
    middle = (part * first + (1 - part) * second).astype(dtype)
    graph = trace(function, middle, *rest)
    (y,) = graph.outputs
    values, errors = [], []
    for point, rounded in ((points[0], 0.0), (points[1], 0.0), (middle, 2 * float(finfo(dtype).eps))):
        arrays = [np.asarray(a) for a in leaves_of(((point, *rest), {}))[0]]
        off = {graph.inputs[0]: rounded * np.abs(np.asarray(point, np.float64))}
        found = bounded(graph.outputs, dict(zip(graph.inputs, arrays, strict=True)), off)
        values.append(float(found.values[y]))
        errors.append(float(found.errors[y]))
    chord = part * values[0] + (1 - part) * values[1]
    noise = part * errors[0] + (1 - part) * errors[1] + errors[2]
    if not values[2] - chord > noise:
        return None
    return CounterExample(back(points[0]), back(points[1]), part, values[2], chord)
