"""Minima within trusted regions: truncated conjugate gradients on products with the Hessian, as one native loop.

Enters: the value and gradient of f as a function of a vector, and the product of its Hessian with a direction.  Leaves:
a `Point`.
Source: Nocedal and Wright, Numerical Optimization, 2nd ed., algorithms 4.1 and 7.2 (Steihaug).  Near a minimum
differences of f are rounding alone: both reductions are counted with that much more, as Conn, Gould and Toint propose
(Trust Region Methods, §17.4.2).  Start reading at `search`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from gradc.api.control import while_loop
from gradc.aval import finfo
from gradc.node import dsl
from gradc.solve.line_search import ValueAndGradient
from gradc.solve.quasi_newton import Point, status_at
from gradc.solve.statuses import RUNNING, MinimumStatus
from gradc.solve.vectors import length

#: a step is taken if f falls by this part of what the model says
ACCEPTED = 0.15
FIRST_RADIUS, LARGEST_RADIUS = 1.0, 1e8

#: ``product(x, v)`` is H(x) v
Product = Callable[[Any, Any], Any]


def search(f: ValueAndGradient, product: Product, start: Any, tol: float, most: int) -> Point:
    """Steps until no element of the gradient is above tol·max(1, |f|), with the less of |f| here and at the start."""
    value, gradient = f(start)
    sound = dsl.isfinite(value) & dsl.all(dsl.isfinite(gradient))
    status = dsl.where(sound, status_at(value, value, gradient, tol), MinimumStatus.NOT_FINITE)
    radius = 0 * value + FIRST_RADIUS
    one = dsl.int64(1)
    begin = Point(start, value, gradient, radius, 0 * value, dsl.bool_(True), dsl.int64(0), one, one, status)

    def step(now: Point) -> Point:
        s = _truncated(lambda v: product(now.x, v), now.g, now.memory, most=20 * start.size)
        there, g = f(now.x + s.step)
        slack = 10 * float(finfo(value.dtype).eps) * dsl.maximum(1, dsl.abs(now.f))
        ratio = (now.f - there + slack) / (s.promised + slack)
        good = (ratio > ACCEPTED) & dsl.isfinite(length(g))
        smaller = ~(ratio >= 0.25)  # a NaN too
        larger = (ratio > 0.75) & s.at_border
        radius = dsl.where(smaller, now.memory / 4, dsl.where(larger, 2 * now.memory, now.memory))
        x, fx, gx = (dsl.where(good, a, b) for a, b in ((now.x + s.step, now.x), (there, now.f), (g, now.g)))
        nit = now.nit + 1
        lost = radius < float(finfo(value.dtype).eps) * dsl.maximum(1, length(x))
        ended = dsl.where(
            lost, MinimumStatus.PRECISION_LOST, dsl.where(nit >= most, MinimumStatus.TOO_MANY_STEPS, RUNNING)
        )
        status = dsl.where(status_at(begin.f, fx, gx, tol) == MinimumStatus.FOUND, MinimumStatus.FOUND, ended)
        radius, calls = dsl.minimum(radius, LARGEST_RADIUS), now.nfev + 1
        return Point(x, fx, gx, radius, now.f - fx, dsl.bool_(False), nit, calls, calls, status)

    return while_loop(lambda now: now.status == RUNNING, step, begin)


class _Truncated(NamedTuple):
    step: Any
    residual: Any
    direction: Any
    promised: Any  #: by how much the model falls
    at_border: Any
    steps: Any


def _truncated(product: Callable[[Any], Any], g: Any, radius: Any, most: int) -> _Truncated:
    """The least value of gᵀs + ½ sᵀHs that conjugate gradients come to inside ‖s‖ ≤ radius."""
    size = length(g)
    target = size * dsl.minimum(0.5, dsl.sqrt(size))

    def more(t: _Truncated) -> Any:
        return ~t.at_border & (length(t.residual) > target) & (t.steps < most)

    def step(t: _Truncated) -> _Truncated:
        d, r = t.direction, t.residual
        ahead = product(d)
        curvature, rr = dsl.dot(d, ahead), dsl.dot(r, r)
        alpha = rr / dsl.where(curvature > 0, curvature, 1)
        out = ~(curvature > 0) | ~(length(t.step + alpha * d) < radius)
        part = dsl.where(out, _to_border(t.step, d, radius), alpha)
        residual = r + part * ahead
        promised = t.promised - part * dsl.dot(r, d) - 0.5 * part * part * curvature
        beta = dsl.dot(residual, residual) / rr
        return _Truncated(t.step + part * d, residual, beta * d - residual, promised, out, t.steps + 1)

    zero = 0 * g
    return while_loop(more, step, _Truncated(zero, g, -g, 0 * size, dsl.bool_(False), dsl.int64(0)))


def _to_border(s: Any, d: Any, radius: Any) -> Any:
    """a ≥ 0 with ‖s + a d‖ = radius, for s inside."""
    dd, sd = dsl.dot(d, d), dsl.dot(s, d)
    rest = dsl.maximum(radius * radius - dsl.dot(s, s), 0)
    return rest / (sd + dsl.sqrt(sd * sd + dd * rest))
