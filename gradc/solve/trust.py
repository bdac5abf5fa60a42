"""Minima within trusted regions: truncated conjugate gradients on products with the Hessian, as one native loop.

Enters: the value and gradient of f as a function of a vector, and the product of its Hessian with a direction.  Leaves:
a `Point`; a `Minimiser` of the model gᵀs + ½ sᵀHs in a ball from `truncated` or, of a Hessian as a matrix, `exact`.
Source: Nocedal and Wright, Numerical Optimization, 2nd ed., algorithms 4.1 and 7.2 (Steihaug), § 4.3 (Moré and
Sorensen).  Near a minimum differences of f are rounding alone: both reductions are counted with that much more, as
Conn, Gould and Toint propose (Trust Region Methods, §17.4.2).  Start reading at `search`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from gradc.api.control import while_loop
from gradc.aval import finfo
from gradc.node import dsl
from gradc.numpy import linalg
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
        s = truncated(lambda v: product(now.x, v), now.g, now.memory, most=20 * start.size)
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


class _Conjugate(NamedTuple):
    step: Any
    residual: Any
    direction: Any
    promised: Any  #: by how much the model falls
    at_border: Any
    steps: Any


class Minimiser(NamedTuple):
    """Where gᵀs + ½ sᵀHs is least in the ball ‖s‖ ≤ radius, as far as it was looked for."""

    step: Any
    promised: Any  #: by how much the model falls
    at_border: Any


def truncated(product: Callable[[Any], Any], g: Any, radius: Any, most: int) -> Minimiser:
    """The least value of gᵀs + ½ sᵀHs that conjugate gradients come to inside ‖s‖ ≤ radius (Steihaug 1983)."""
    size = length(g)
    target = size * dsl.minimum(0.5, dsl.sqrt(size))

    def more(t: _Conjugate) -> Any:
        return ~t.at_border & (length(t.residual) > target) & (t.steps < most)

    def step(t: _Conjugate) -> _Conjugate:
        d, r = t.direction, t.residual
        ahead = product(d)
        curvature, rr = dsl.dot(d, ahead), dsl.dot(r, r)
        alpha = rr / dsl.where(curvature > 0, curvature, 1)
        out = ~(curvature > 0) | ~(length(t.step + alpha * d) < radius)
        part = dsl.where(out, _to_border(t.step, d, radius), alpha)
        residual = r + part * ahead
        promised = t.promised - part * dsl.dot(r, d) - 0.5 * part * part * curvature
        beta = dsl.dot(residual, residual) / rr
        return _Conjugate(t.step + part * d, residual, beta * d - residual, promised, out, t.steps + 1)

    zero = 0 * g
    t = while_loop(more, step, _Conjugate(zero, g, -g, 0 * size, dsl.bool_(False), dsl.int64(0)))
    return Minimiser(t.step, t.promised, t.at_border)


def _to_border(s: Any, d: Any, radius: Any) -> Any:
    """a ≥ 0 with ‖s + a d‖ = radius, for s inside."""
    dd, sd = dsl.dot(d, d), dsl.dot(s, d)
    rest = dsl.maximum(radius * radius - dsl.dot(s, s), 0)
    return rest / (sd + dsl.sqrt(sd * sd + dd * rest))


#: how near ‖s‖ comes to the radius, in parts of it, as a multiple of the rounding of a sum over s
NEAR = 8
#: evaluations of ‖s‖; each is a few operations a parameter
MOST_SHIFTS = 200


class _Shift(NamedTuple):
    """A bracket of the shift from which ‖s‖ is the radius, and where to look next."""

    low: Any
    high: Any
    at: Any
    tries: Any
    done: Any


def exact(H: Any, g: Any, radius: Any) -> Minimiser:
    """The s with ‖s‖ ≤ radius of which gᵀs + ½ sᵀHs is least, for a symmetric matrix H (Moré & Sorensen 1983).

    (H + λI)s = −g, H + λI has no eigenvalue below 0, and λ > 0 at the border alone: λ solves 1/‖s(λ)‖ = 1/radius by
    Newton's method inside a bracket, over the eigenvalues of H.  In the hard case, where g has no part along the least
    curvature, which is negative, s goes on along that to the border.  Curvatures that are rounding alone are 0, and
    what g has along them counts as 0 where it is rounding, too: nothing drifts where f is flat.  Where something is not
    finite, s is 0.
    """
    n = g.shape[0]
    if not n:
        return Minimiser(g, 0 * radius, dsl.bool_(False))
    eps = n * float(finfo(g.dtype).eps)
    finite = dsl.all(dsl.isfinite(H)) & dsl.all(dsl.isfinite(g))
    sizes, v = linalg.eigh(dsl.where(finite, H, 0))
    sizes = dsl.where(dsl.abs(sizes) <= eps * dsl.max(dsl.abs(sizes)), 0, sizes)
    c = v.T @ dsl.where(finite, g, 0)
    least, whole = dsl.min(sizes), length(c)
    c = dsl.where((dsl.abs(c) <= eps * whole) & ((sizes == 0) | (sizes == least) & (least < 0)), 0, c)
    gaps = sizes - least

    def at(shift: Any) -> Any:
        """s in terms of the eigenvectors, λ being ``shift`` above −least."""
        bend = gaps + shift
        return dsl.where(bend > 0, -c / dsl.where(bend > 0, bend, 1), 0)

    floor = dsl.maximum(least, 0)
    open_below = dsl.any((c != 0) & (gaps + floor == 0))  # ‖s‖ has no bound as λ comes down
    outside = open_below | ~(length(at(floor)) <= radius)
    shift = _at_border(at, c, gaps, radius, floor, whole, outside)
    inside = at(dsl.where(outside, shift, floor))
    hard = ~outside & (least < 0)
    rest = dsl.sqrt(dsl.maximum(radius * radius - dsl.dot(inside, inside), 0))
    y = inside + dsl.where(hard, rest, 0) * dsl.where(dsl.arange(n) == 0, 1, 0)  # eigenvalues ascend
    promised = -(dsl.dot(c, y) + 0.5 * dsl.dot(sizes * y, y))
    return Minimiser(v @ y, promised, outside | hard)


def _at_border(at: Any, c: Any, gaps: Any, radius: Any, floor: Any, whole: Any, outside: Any) -> Any:
    """The shift above ``floor`` at which ‖s‖ is the radius, where there is one."""
    near = NEAR * c.shape[0] * float(finfo(c.dtype).eps)

    def more(t: _Shift) -> Any:
        return ~t.done & (t.tries < MOST_SHIFTS)

    def closer(t: _Shift) -> _Shift:
        s = at(t.at)
        size = length(s)
        long = size > radius
        low, high = dsl.where(long, t.at, t.low), dsl.where(long, t.high, t.at)
        bend = gaps + t.at
        slope = dsl.dot(s, dsl.where(bend > 0, s / dsl.where(bend > 0, bend, 1), 0))
        newton = t.at + size * size / dsl.where(slope > 0, slope, 1) * (size - radius) / radius
        sound = (slope > 0) & (newton > low) & (newton < high)
        following = dsl.where(sound, newton, 0.5 * (low + high))
        done = (dsl.abs(size - radius) <= near * radius) | (following <= low) | (following >= high)
        return _Shift(low, high, dsl.where(done, t.at, following), t.tries + 1, done)

    high = dsl.maximum(floor, whole / radius)
    return while_loop(more, closer, _Shift(floor, high, high, dsl.int64(0), ~outside)).at
