"""One step of an integrator: from y at t to y at t + h, with an estimate of the error and what lies between.

Enters: f(y, t), where the step begins, f there, and h.  Leaves: an `Attempt`.  y is a tuple of vectors: the first is
what errors are measured of, others ride along, and may be linear in what nobody decides by.  Start reading at
`explicit`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from gradc.api.derivatives import jvp
from gradc.api.jacobian import jacobian
from gradc.ops.factorisations.systems import solve
from gradc.ops.leaves import delta
from gradc.solve.tableaus import DOPRI5, RODAS4, TSIT5, Explicit, Rosenbrock

State = tuple[Any, ...]
Field = Callable[[State, Any], State]


class Attempt(NamedTuple):
    """The end of a step, f there, the estimate of the error, and q with y + θ(q₁ + θ(q₂ + θ(q₃ + θq₄))) between."""

    y: State
    slope: State
    error: State
    between: tuple[State, State, State, State]


#: ``step(f, y, t, slope, h)``
Step = Callable[[Field, State, Any, State, Any], Attempt]


def combined(weights: Sequence[float], parts: Sequence[State], h: Any = None) -> State:
    """Σ wᵢ xᵢ of those whose weight is not zero, times h."""
    return tuple(_combined(weights, column, h) for column in zip(*parts, strict=True))


def _combined(weights: Sequence[float], parts: Sequence[Any], h: Any) -> Any:
    terms = [w * x for w, x in zip(weights, parts, strict=False) if w]
    total = terms[0] if terms else 0 * parts[0]
    for term in terms[1:]:
        total = total + term
    return total if h is None else h.astype(total.dtype) * total


def plus(y: State, other: State) -> State:
    """The sum, vector by vector."""
    return tuple(a + b for a, b in zip(y, other, strict=True))


def explicit(method: Explicit) -> Step:
    """Steps of an explicit method."""

    def step(f: Field, y: State, t: Any, slope: State, h: Any) -> Attempt:
        k, end = [slope], y
        for c, row in zip(method.c[1:], method.a[1:], strict=True):
            end = plus(y, combined(row, k, h))
            k.append(f(end, t + c * h))
        q1, q2, q3, q4 = (combined([row[i] for row in method.p], k, h) for i in range(4))
        return Attempt(end, k[-1], combined(method.e, k, h), (q1, q2, q3, q4))

    return step


def linearly_implicit(method: Rosenbrock) -> Step:
    """Steps of a Rosenbrock method: one factorisation of 1/(γh) − ∂f/∂y, and a system for each stage."""

    def step(f: Field, y: State, t: Any, slope: State, h: Any) -> Attempt:
        (begin,), (there,) = y, slope
        size = h.astype(begin.dtype)
        slopes = jacobian(lambda v: f((v,), t)[0])(begin)
        matrix = delta(slopes.shape, ((0, 1),), begin.dtype) / (method.gamma * size) - slopes
        _, drift = jvp(lambda t: f((begin,), t)[0], (t,), (0 * t + 1,))
        k: list[State] = []
        at = begin
        for i, (c, d) in enumerate(zip(method.c, method.d, strict=True)):
            right = d * size * drift
            if i:
                at = begin + combined(method.a[i], k)[0]
                (there,) = f((at,), t + c * h)
                right = right + combined(method.m[i], k)[0] / size
            k.append((solve(matrix, (there + right)[:, None], check=False)[:, 0],))
        end = at + k[-1][0]
        (g,), (s,) = combined(method.g, k), combined(method.s, k)
        return Attempt((end,), f((end,), t + h), k[-1], ((end - begin + g,), (s - g,), (-s,), (0 * begin,)))

    return step


#: each adaptive method with its order
METHODS: dict[str, tuple[Step, int]] = {
    "dopri5": (explicit(DOPRI5), 5),
    "tsit5": (explicit(TSIT5), 5),
    "rodas4": (linearly_implicit(RODAS4), 4),
}


def classical(f: Field, y: State, t: Any, h: Any) -> State:
    """Runge's and Kutta's step of order 4."""
    k1 = f(y, t)
    k2 = f(plus(y, combined((0.5,), [k1], h)), t + h / 2)
    k3 = f(plus(y, combined((0.5,), [k2], h)), t + h / 2)
    k4 = f(plus(y, combined((1.0,), [k3], h)), t + h)
    return plus(y, combined((1 / 6, 1 / 3, 1 / 3, 1 / 6), [k1, k2, k3, k4], h))
