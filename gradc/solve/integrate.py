"""Adaptive integration of y' = f(y, t): steps of the size that the tolerance allows, and y at given times.

Enters: f, where to begin, increasing or decreasing times, and `Control`.  Leaves: y at the times, and a `Walk`.
Invariant: step sizes are constants to derivatives, so that reverse mode through the loops is the exact adjoint of the
steps that were made; what an interval between two times keeps is computed again on the way back (checkpointing).
Source: Hairer, Nørsett and Wanner, Solving Ordinary Differential Equations I, 2nd ed., §II.4 (error norm, first step)
and II (IV.2, PI control).  Start reading at `integrated`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from gradc.api.control import checkpoint, cond, scan, while_loop
from gradc.api.derivatives import stop_gradient
from gradc.aval import finfo
from gradc.node import dsl
from gradc.solve.equation import custom_root
from gradc.solve.statuses import IntegrationStatus
from gradc.solve.steps import Field, State, Step, combined, plus

SAFETY, SHRINK, GROW = 0.9, 0.2, 10.0


@dataclass(frozen=True)
class Control:
    """How to step: the method and its order, tolerances, steps between two times at most, and what ends the integration
    where it crosses zero."""

    step: Step
    order: int
    rtol: float
    atol: float
    most: int
    event: Callable[[State, Any], Any] | None = None


class Walk(NamedTuple):
    """Where an integration stands: its last step, from ``start`` over ``h``, and what comes next."""

    start: Any
    h: Any
    begin: State
    between: tuple[State, State, State, State]
    t: Any
    y: State
    slope: State
    following: Any  #: the next step's size, with its sign
    error: Any  #: of the last step, in units of the tolerance
    steps: Any
    rejected: Any
    made: Any  #: steps since the last time
    status: Any
    stop: Stop


class Stop(NamedTuple):
    """What an event has come to: its function's value, whether it crossed zero, and where."""

    value: Any
    crossed: Any
    t: Any
    y: State


def begun(f: Field, y: State, times: Any, control: Control) -> Walk:
    """Before the first step."""
    t, slope = times[0], f(y, times[0])
    h = stop_gradient(_first_step(f, y, t, slope, times[-1] - t, control))
    zero, none = tuple(0 * v for v in y), dsl.int64(0)
    value = 0 * t if control.event is None else control.event(y, t)
    stop = Stop(value, dsl.bool_(False), t, y)
    status = dsl.int64(IntegrationStatus.DONE)
    return Walk(
        t, 0 * t + 1, y, (zero, zero, zero, zero), t, y, slope, h, 0 * t + 1, none, none, none, status, stop
    )  # fmt: skip


def integrated(f: Field, y: State, times: Any, control: Control) -> tuple[State, Walk]:
    """y at all ``times``, the first being where it begins; NaN from where the integration failed."""

    @checkpoint
    def interval(walk: Walk, target: Any) -> tuple[Walk, State]:
        walk = advanced(f, walk, target, times[-1], control)
        return walk, at(walk, target)

    walk, ys = scan(interval, begun(f, y, times, control), times)
    return ys, walk


def at(walk: Walk, target: Any) -> State:
    """y at a time inside the last step; where an event has ended the integration before, y there."""
    there = _chosen(_beyond(walk, target), walk.stop.y, between(walk, (target - walk.start) / walk.h))
    return tuple(dsl.where(walk.status == IntegrationStatus.DONE, v, dsl.nan) for v in there)


def _beyond(walk: Walk, target: Any) -> Any:
    return walk.stop.crossed & ((target - walk.stop.t) * dsl.sign(walk.h) > 0)


def between(walk: Walk, part: Any) -> State:
    """y at a part of the last step."""

    def value(y: Any, q1: Any, q2: Any, q3: Any, q4: Any) -> Any:
        theta = part.astype(y.dtype)
        return y + theta * (q1 + theta * (q2 + theta * (q3 + theta * q4)))

    return tuple(value(*parts) for parts in zip(walk.begin, *walk.between, strict=True))


def advanced(f: Field, walk: Walk, target: Any, end: Any, control: Control) -> Walk:
    """Steps until ``target`` is behind, none of them beyond ``end``."""
    direction = dsl.sign(end - walk.t) + 0 * target

    def more(w: Walk) -> Any:
        return (w.status == IntegrationStatus.DONE) & ~w.stop.crossed & ((target - w.t) * direction > 0)

    last = while_loop(more, lambda w: _stepped(f, w, end, control), walk._replace(made=dsl.int64(0)), control.most)
    if control.event is None:
        return last
    fresh = last.stop.crossed & ~walk.stop.crossed
    located = cond(fresh, lambda w: _located(w, control.event), lambda w: w.stop, last)
    return last._replace(stop=located)


def _stepped(f: Field, now: Walk, end: Any, control: Control) -> Walk:
    left = end - now.t
    h = stop_gradient(dsl.where(dsl.abs(now.following) < dsl.abs(left), now.following, left))
    tried = control.step(f, now.y, now.t, now.slope, h)
    error = stop_gradient(_norm(tried.error, now.y, tried.y, control)).astype(now.error.dtype)
    good = error <= 1
    beta = 0.4 / control.order**2
    calm = error ** (0.75 * beta - 1 / control.order) * now.error**beta
    growth = dsl.clip(SAFETY * calm, SHRINK, dsl.where(good, GROW, 1.0).astype(error.dtype))
    following = h * dsl.where(dsl.isfinite(error), growth, SHRINK)
    t = dsl.where(dsl.abs(h) < dsl.abs(left), now.t + h, end)
    small = ~good & ~(dsl.abs(h) > 16 * float(finfo(now.t.dtype).eps) * dsl.abs(now.t))
    made = now.made + 1
    arrived = good & (t == end)
    late = (made >= control.most) & ~arrived
    status = dsl.where(
        small, IntegrationStatus.TOO_SMALL_STEPS, dsl.where(late, IntegrationStatus.TOO_MANY_STEPS, now.status)
    )
    stop = now.stop
    if control.event is not None:
        value = control.event(tried.y, t)
        crossed = good & (now.stop.value != 0) & (dsl.sign(value) * dsl.sign(now.stop.value) <= 0)
        stop = Stop(dsl.where(good, value, now.stop.value), crossed, now.stop.t, now.stop.y)
    taken = Walk(
        now.t, h, now.y, tried.between, t, tried.y, tried.slope, following, dsl.maximum(error, 1e-4), now.steps + 1,
        now.rejected, made, status, stop,
    )  # fmt: skip
    refused = now._replace(following=following, rejected=now.rejected + 1, made=made, status=status)
    return _chosen(good, taken, refused)


def _chosen(good: Any, a: Any, b: Any) -> Any:
    """``a`` where ``good``, else ``b``, part by part."""
    if isinstance(a, tuple):
        parts = [_chosen(good, x, y) for x, y in zip(a, b, strict=True)]
        return type(a)(*parts) if hasattr(a, "_fields") else tuple(parts)
    return a if a is b else dsl.where(good, a, b)


def _norm(error: State, y: State, after: State, control: Control) -> Any:
    """The root mean square of errors in units of the tolerance, of the first vector."""
    scale = control.atol + control.rtol * dsl.maximum(dsl.abs(y[0]), dsl.abs(after[0]))
    return _mean_square(error[0] / scale)


def _mean_square(x: Any) -> Any:
    return dsl.sqrt(dsl.dot(x, x) / x.size)


def _first_step(f: Field, y: State, t: Any, slope: State, span: Any, control: Control) -> Any:
    """A step whose Euler part is about a hundredth of y, and whose curvature is within the tolerance."""
    scale = control.atol + control.rtol * dsl.abs(y[0])
    size, speed = _mean_square(y[0] / scale), _mean_square(slope[0] / scale)
    rough = dsl.where((size < 1e-5) | (speed < 1e-5), 1e-6, 0.01 * size / dsl.where(speed > 0, speed, 1))
    rough = dsl.minimum(rough.astype(t.dtype), dsl.abs(span))
    h = rough * dsl.sign(span)
    moved = f(plus(y, combined((1.0,), [slope], h)), t + h)
    bend = _mean_square((moved[0] - slope[0]) / scale).astype(t.dtype) / dsl.where(rough > 0, rough, 1)
    most = dsl.maximum(speed.astype(t.dtype), bend)
    straight = most <= 1e-15
    fine = (0.01 / dsl.where(straight, 1, most)) ** (1 / control.order)
    fine = dsl.where(straight, dsl.maximum(1e-6, rough * 1e-3), fine)
    found = dsl.minimum(dsl.minimum(100 * rough, fine), dsl.abs(span))
    return dsl.where(dsl.isfinite(found), found, rough) * dsl.sign(span)


# -- events ------------------------------------------------------------------------------------------------------------


def _located(walk: Walk, event: Callable[[Any, Any], Any] | None) -> Stop:
    """Where the event's function is zero inside the last step: a root, with the derivatives of one."""
    assert event is not None

    def value(part: Any) -> Any:
        return event(between(walk, part), walk.start + part * walk.h)

    part = custom_root(value, 0 * walk.t + 1, _bisected, lambda g, b: b / g(0 * b + 1))
    return Stop(walk.stop.value, walk.stop.crossed, walk.start + part * walk.h, between(walk, part))


def _bisected(value: Callable[[Any], Any], end: Any) -> Any:
    """A root between 0 and ``end``, at which the sign is the other one."""
    sign = dsl.sign(value(0 * end))

    def halved(state: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
        low, high, tries = state
        middle = (low + high) / 2
        below = dsl.sign(value(middle)) == sign
        return dsl.where(below, middle, low), dsl.where(below, high, middle), tries + 1

    tries = 2 - int(dsl.log2(float(finfo(end.dtype).eps)))
    low, high, _ = while_loop(lambda s: s[2] < tries, halved, (0 * end, end, dsl.int64(0)))
    return (low + high) / 2
