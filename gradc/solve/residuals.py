"""Least squares by Levenberg's and Marquardt's method, as one native loop.

Enters: residuals r as a function of a vector.  Leaves: a `Point` for ½‖r‖².  A step p solves (JᵀJ + μI)p = −Jᵀr, with a
damping μ that follows how well the linear model foretold the last step.
Source: Madsen, Nielsen and Tingleff, Methods for Non-Linear Least Squares Problems, 2nd ed. (2004), algorithm 3.16 with
Nielsen's strategy (2.21).  Near a minimum differences of ½‖r‖² are rounding alone, so both reductions are counted with
that much more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from gradc.api.control import cond, while_loop
from gradc.api.jacobian import jacobian
from gradc.aval import finfo
from gradc.node import dsl
from gradc.ops.leaves import delta
from gradc.solve.dense import by_cholesky, cholesky
from gradc.solve.quasi_newton import Point, status_at
from gradc.solve.statuses import RUNNING, MinimumStatus
from gradc.solve.vectors import length

#: the first damping, in parts of the largest diagonal element of JᵀJ
DAMPING = 1e-3


class _Model(NamedTuple):
    """The linear model of the residuals at a point: Jᵀr and JᵀJ."""

    gradient: Any
    gram: Any


class _Damping(NamedTuple):
    """JᵀJ, the damping, and by how much it grows after a step that failed."""

    gram: Any
    size: Any
    growth: Any


def levenberg_marquardt(residuals: Callable[[Any], Any], start: Any, tol: float, most: int) -> Point:
    """Steps until the largest element of Jᵀr is at most tol·max(1, ½‖r‖²), of the less here and at the start."""
    unit = delta((start.size, start.size), ((0, 1),), start.dtype)
    epsilon = float(finfo(start.dtype).eps)

    def model(x: Any, r: Any) -> _Model:
        j = jacobian(residuals)(x)
        return _Model(r @ j, j.T @ j)

    def step(now: Point) -> Point:
        memory: _Damping = now.memory
        p = -by_cholesky(cholesky(memory.gram + memory.size * unit), now.g)
        tried = now.x + p
        r = residuals(tried)
        value = dsl.dot(r, r) / 2
        slack = 10 * epsilon * now.f
        ratio = (now.f - value + slack) / (dsl.dot(p, memory.size * p - now.g) / 2 + slack)
        good = (ratio > 0) & dsl.isfinite(value)
        there = cond(good, model, lambda x, r: _Model(now.g, memory.gram), tried, r)
        x, f = dsl.where(good, tried, now.x), dsl.where(good, value, now.f)
        shrunk = memory.size * dsl.maximum(1 / 3, 1 - (2 * ratio - 1) ** 3)
        size = dsl.where(good, shrunk, memory.size * memory.growth)
        damping = _Damping(there.gram, size, dsl.where(good, 2, 2 * memory.growth))
        lost = ~good & (length(p) <= epsilon * (length(now.x) + epsilon))
        nit = now.nit + 1
        ended = dsl.where(
            lost, MinimumStatus.PRECISION_LOST, dsl.where(nit >= most, MinimumStatus.TOO_MANY_STEPS, RUNNING)
        )
        status = dsl.where(
            status_at(begin.f, f, there.gradient, tol) == MinimumStatus.FOUND, MinimumStatus.FOUND, ended
        )
        return Point(
            x, f, there.gradient, damping, now.f - f, dsl.bool_(False), nit, now.nfev + 1, now.njev + good, status
        )  # fmt: skip

    r = residuals(start)
    value, first = dsl.dot(r, r) / 2, model(start, r)
    sound = dsl.isfinite(value) & dsl.all(dsl.isfinite(first.gradient))
    size = DAMPING * dsl.max(dsl.sum(first.gram * unit, axis=1))
    damping = _Damping(first.gram, dsl.where(size > 0, size, DAMPING), 0 * value + 2)
    status = dsl.where(sound, status_at(value, value, first.gradient, tol), MinimumStatus.NOT_FINITE)
    one = dsl.int64(1)
    begin = Point(start, value, first.gradient, damping, 0 * value, dsl.bool_(True), dsl.int64(0), one, one, status)
    return while_loop(lambda now: now.status == RUNNING, step, begin)
