"""Newton-like searches for roots: a direction, and as much of it as makes the residual smaller.

Enters: F from vectors to vectors, and where to begin.  Leaves: a `Point`.  Each step goes along a direction d with
F'(x) d ≈ −F(x), halved until ‖F‖ has fallen enough (Dennis and Schnabel, Numerical Methods for Unconstrained
Optimization and Nonlinear Equations, §6.3 with c = 10⁻⁴); a NaN counts as too large.
Start reading at `search`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from gradc.api.control import cond, while_loop
from gradc.api.derivatives import jvp
from gradc.api.jacobian import jacobian
from gradc.node import dsl
from gradc.solve import krylov
from gradc.solve.dense import inverted, solved
from gradc.solve.line_search import DECREASE
from gradc.solve.statuses import RUNNING, RootStatus
from gradc.solve.vectors import length

#: the least part of a direction that is tried
SHORTEST = 2.0**-30

Function = Callable[[Any], Any]


class Point(NamedTuple):
    """Where a search stands; ``memory`` is the method's own."""

    x: Any
    f: Any
    norm: Any
    memory: Any
    steps: Any
    evaluations: Any
    status: Any


@dataclass(frozen=True)
class Method:
    """``begin(F, x)`` is the memory, ``direction(F, point)`` a direction, ``learn(F, memory, s, y, moved, x)`` the
    memory after a step s by which F changed by y; ``moved`` says whether there was one."""

    begin: Callable[[Function, Any], Any]
    direction: Callable[[Function, Point], Any]
    learn: Callable[[Function, Any, Any, Any, Any, Any], Any]
    #: whether another memory may help where no part of a direction does
    fresh: Callable[[Any], Any]


def search(function: Function, start: Any, method: Method, tol: float, most: int) -> Point:
    """Steps until ‖F‖ ≤ tol·max(1, ‖F(x₀)‖)."""
    f = function(start)
    first = length(f)
    limit = tol * dsl.maximum(first, 1)
    status = dsl.where(dsl.isfinite(first), dsl.where(first <= limit, RootStatus.FOUND, RUNNING), RootStatus.NOT_FINITE)
    begin = Point(start, f, first, method.begin(function, start), dsl.int64(0), dsl.int64(1), status)

    def step(now: Point) -> Point:
        found = _along(function, now, method.direction(function, now))
        moved = found.norm <= (1 - DECREASE * found.part) * now.norm
        x, f, norm = (dsl.where(moved, a, b) for a, b in zip(found[1:4], now[:3], strict=True))
        memory = method.learn(function, now.memory, x - now.x, f - now.f, moved, x)
        steps = now.steps + 1
        stuck = ~moved & method.fresh(now.memory)
        ended = dsl.where(stuck, RootStatus.NO_PROGRESS, dsl.where(steps >= most, RootStatus.TOO_MANY_STEPS, RUNNING))
        status = dsl.where(norm <= limit, RootStatus.FOUND, ended)
        return Point(x, f, norm, memory, steps, now.evaluations + found.tries, status)

    return while_loop(lambda now: now.status == RUNNING, step, begin)


class _Try(NamedTuple):
    part: Any
    x: Any
    f: Any
    norm: Any
    tries: Any


def _along(function: Function, now: Point, direction: Any) -> _Try:
    """The first of x + d, x + d/2, x + d/4 … at which ‖F‖ is small enough, or the last that is tried."""

    def more(t: _Try) -> Any:
        return ~(t.norm <= (1 - DECREASE * t.part) * now.norm) & (t.part > SHORTEST)

    def halved(t: _Try) -> _Try:
        part = t.part / 2
        x = now.x + part * direction
        f = function(x)
        return _Try(part, x, f, length(f), t.tries + 1)

    one = 0 * now.norm + 1
    return while_loop(more, halved, _Try(2 * one, now.x, now.f, dsl.inf * one, dsl.int64(0)))


# -- methods -----------------------------------------------------------------------------------------------------------


def _nothing(*_: Any) -> Any:
    return ()


def _always(memory: Any) -> Any:
    return dsl.bool_(True)


def _newton(function: Function, now: Point) -> Any:
    return -solved(jacobian(function)(now.x), now.f)


def _by_products(function: Function, now: Point) -> Any:
    """F'(x) d = −F(x) up to a residual that gets smaller with F (Eisenstat and Walker)."""

    def product(v: Any) -> Any:
        return jvp(function, (now.x,), (v,))[1]

    forcing = dsl.minimum(0.1, dsl.sqrt(now.norm))
    problem = krylov.Problem(product, lambda v: v, forcing * now.norm, 10 * now.x.size)
    return krylov.search(problem, -now.f, 0 * now.f, krylov.generalised_minimal_residual).x


class _Inverse(NamedTuple):
    """Broyden's approximation of the inverse of F', and whether it is the inverse itself."""

    matrix: Any
    exact: Any


def _inverted(function: Function, x: Any) -> _Inverse:
    return _Inverse(inverted(jacobian(function)(x)), dsl.bool_(True))


def _broyden(function: Function, now: Point) -> Any:
    return -(now.memory.matrix @ now.f)


def _updated(function: Function, memory: _Inverse, s: Any, y: Any, moved: Any, x: Any) -> _Inverse:
    """Broyden's update by Sherman and Morrison's formula; the inverse itself where no step could be made."""

    def by_one(matrix: Any) -> _Inverse:
        ahead = matrix @ y
        size = dsl.dot(s, ahead)
        scale = dsl.where(size != 0, 1 / dsl.where(size != 0, size, 1), 0)
        return _Inverse(matrix + dsl.outer((s - ahead) * scale, s @ matrix), dsl.bool_(False))

    return cond(moved, by_one, lambda matrix: _inverted(function, x), memory.matrix)


METHODS: dict[str, Method] = {
    "newton": Method(_nothing, _newton, _nothing, _always),
    "broyden": Method(_inverted, _broyden, _updated, lambda memory: memory.exact),
    "krylov": Method(_nothing, _by_products, _nothing, _always),
}
