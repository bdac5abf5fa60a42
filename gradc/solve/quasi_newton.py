"""Minima along lines: BFGS, L-BFGS, conjugate gradients and Newton's method, as one native loop around a line search.

Enters: the value and gradient of f as a function of a vector.  Leaves: a `Point`.  Methods differ in their memory and
in the direction that they make of it (`Method`); where a step fails along such a direction, the memory is forgotten.
Source: Nocedal and Wright, Numerical Optimization, 2nd ed.: (6.17) and (6.20) for BFGS, algorithm 7.4 for L-BFGS,
(5.44) with β ≥ 0 for conjugate gradients (Polak and Ribière).  Newton's method has a memory of nothing.
Start reading at `search`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from gradc.api.control import cond, fori_loop, while_loop
from gradc.node import dsl
from gradc.ops.leaves import delta, full
from gradc.solve.line_search import ValueAndGradient, strong_wolfe
from gradc.solve.statuses import RUNNING, MinimumStatus
from gradc.solve.vectors import length

#: pairs of steps and changes of the gradient that L-BFGS keeps
PAIRS = 10


class Point(NamedTuple):
    """Where a search stands; ``memory`` is the method's own, ``fell`` by how much f fell in the last step."""

    x: Any
    f: Any
    g: Any
    memory: Any
    fell: Any
    fresh: Any  #: whether the memory is as it was at the beginning
    nit: Any
    nfev: Any
    njev: Any
    status: Any


@dataclass(frozen=True)
class Method:
    """``begin(x)`` is an empty memory, ``direction(memory, x, g)`` a direction of descent, ``learn(memory, d, s,
    y, g)`` the memory after a step s along d that changed the gradient by y, to g; ``curvature`` is that of the Wolfe
    conditions."""

    begin: Callable[[Any], Any]
    direction: Callable[[Any, Any, Any], Any]
    learn: Callable[[Any, Any, Any, Any, Any], Any]
    curvature: float = 0.9


def search(f: ValueAndGradient, start: Any, method: Method, tol: float, most: int) -> Point:
    """Steps until no element of the gradient is above tol·max(1, |f|), with the less of |f| here and at the start."""
    value, gradient = f(start)
    sound = dsl.isfinite(value) & dsl.all(dsl.isfinite(gradient))
    status = dsl.where(sound, status_at(value, value, gradient, tol), MinimumStatus.NOT_FINITE)
    begin = Point(
        start, value, gradient, method.begin(start), length(gradient) / 2, dsl.bool_(True), dsl.int64(0), dsl.int64(1),
        dsl.int64(1), status,
    )  # fmt: skip

    def step(now: Point) -> Point:
        wanted = method.direction(now.memory, now.x, now.g)
        slope = dsl.dot(wanted, now.g)
        descends = slope < 0
        direction = dsl.where(descends, wanted, -now.g)
        slope = dsl.where(descends, slope, -dsl.dot(now.g, now.g))
        guess = dsl.minimum(1, -2.02 * now.fell / slope)
        first = dsl.where(guess > 0, guess, 1)
        there = strong_wolfe(f, now.x, now.f, now.g, direction, first, method.curvature)
        s, y = there.x - now.x, there.g - now.g
        x, value, g = (dsl.where(there.done, a, b) for a, b in zip(there[1:4], now[:3], strict=True))
        memory = cond(
            there.done, lambda m: method.learn(m, direction, s, y, g), lambda m: method.begin(now.x), now.memory
        )  # fmt: skip
        nit = now.nit + 1
        stuck = ~there.done & (now.fresh | ~descends)
        ended = dsl.where(
            stuck, MinimumStatus.PRECISION_LOST, dsl.where(nit >= most, MinimumStatus.TOO_MANY_STEPS, RUNNING)
        )
        status = dsl.where(status_at(begin.f, value, g, tol) == MinimumStatus.FOUND, MinimumStatus.FOUND, ended)
        calls = now.nfev + there.tries
        return Point(x, value, g, memory, now.f - value, ~there.done, nit, calls, calls, status)

    return while_loop(lambda now: now.status == RUNNING, step, begin)


def status_at(first: Any, value: Any, gradient: Any, tol: float) -> Any:
    """Whether the gradient is small enough, as a status; f has come from ``first`` to ``value``."""
    scale = dsl.maximum(1, dsl.minimum(dsl.abs(first), dsl.abs(value)))
    least = dsl.max(dsl.abs(gradient)) <= tol * scale
    return dsl.where(least, MinimumStatus.FOUND, RUNNING)


# -- BFGS --------------------------------------------------------------------------------------------------------------


class _Inverse(NamedTuple):
    """An approximation of the inverse of the Hessian, and whether it has learnt anything."""

    matrix: Any
    empty: Any


def _identity(x: Any) -> _Inverse:
    return _Inverse(delta((x.size, x.size), ((0, 1),), x.dtype), dsl.bool_(True))


def _by_inverse(memory: _Inverse, x: Any, g: Any) -> Any:
    return -(memory.matrix @ g)


def _updated(memory: _Inverse, direction: Any, s: Any, y: Any, g: Any) -> _Inverse:
    sy, yy = dsl.dot(s, y), dsl.dot(y, y)
    convex = sy > 0
    rho = dsl.where(convex, 1 / dsl.where(convex, sy, 1), 0)
    scale = dsl.where(memory.empty & convex, sy / dsl.where(convex, yy, 1), 1)
    old = memory.matrix * scale
    ahead = old @ y
    across = dsl.outer(ahead, rho * s)
    matrix = old - across - across.T + dsl.outer(s, (rho + rho * rho * dsl.dot(y, ahead)) * s)
    return _Inverse(matrix, memory.empty & ~convex)


# -- L-BFGS ------------------------------------------------------------------------------------------------------------


class _Pairs(NamedTuple):
    """The last steps and changes of the gradient, newest at ``count`` − 1 modulo `PAIRS`; 1/sᵀy, 0 where none is."""

    s: Any
    y: Any
    rho: Any
    scale: Any
    count: Any


def _no_pairs(x: Any) -> _Pairs:
    rows = full((PAIRS, x.size), 0, x.dtype)
    return _Pairs(rows, rows, full((PAIRS,), 0, x.dtype), dsl.dot(x, 0 * x) + 1, dsl.int64(0))


def _by_pairs(memory: _Pairs, x: Any, g: Any) -> Any:
    def place(i: Any) -> Any:
        return (memory.count + (2 * PAIRS - 1) - i) % PAIRS

    def down(i: Any, state: Any) -> Any:
        q, parts = state
        j = place(i)
        part = memory.rho[j] * dsl.dot(memory.s[j], q)
        return q - part * memory.y[j], parts.at[j].set(part)

    def up(i: Any, r: Any) -> Any:
        j = place(PAIRS - 1 - i)
        return r + memory.s[j] * (parts[j] - memory.rho[j] * dsl.dot(memory.y[j], r))

    q, parts = fori_loop(0, PAIRS, down, (g, full((PAIRS,), 0, g.dtype)))
    return -fori_loop(0, PAIRS, up, memory.scale * q)


def _with_pair(memory: _Pairs, direction: Any, s: Any, y: Any, g: Any) -> _Pairs:
    sy, yy = dsl.dot(s, y), dsl.dot(y, y)
    convex = sy > 0
    j = memory.count % PAIRS
    rho = dsl.where(convex, 1 / dsl.where(convex, sy, 1), 0)
    scale = dsl.where(convex, sy / dsl.where(convex, yy, 1), memory.scale)
    return _Pairs(memory.s.at[j].set(s), memory.y.at[j].set(y), memory.rho.at[j].set(rho), scale, memory.count + 1)


# -- conjugate gradients -----------------------------------------------------------------------------------------------


class _Last(NamedTuple):
    """The last direction, and its part in the next one."""

    direction: Any
    beta: Any


def _no_last(x: Any) -> _Last:
    return _Last(0 * x, dsl.dot(x, 0 * x))


def _conjugate(memory: _Last, x: Any, g: Any) -> Any:
    return memory.beta * memory.direction - g


def _with_last(memory: _Last, direction: Any, s: Any, y: Any, g: Any) -> _Last:
    before = g - y
    size = dsl.dot(before, before)
    return _Last(direction, dsl.maximum(0, dsl.dot(g, y) / dsl.where(size > 0, size, 1)))


BFGS = Method(_identity, _by_inverse, _updated)
LIMITED_BFGS = Method(_no_pairs, _by_pairs, _with_pair)
CONJUGATE_GRADIENTS = Method(_no_last, _conjugate, _with_last, curvature=0.1)
