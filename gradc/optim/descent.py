"""Rules that go along a running sum or mean of gradients, and rules that look at signs and slopes of gradients alone.

Each is a step function that reads like its paper and the public name that makes an `Optimizer` of it.  Letters: g
gradient, p parameter, m running sum or mean, d last step, t number of the step.  Start reading at `trace`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import gradc.numpy as gnp
from gradc.containers import tree_map
from gradc.node import here
from gradc.optim.rules import (
    DType,
    Optimizer,
    Scalar,
    Tree,
    bias_correction,
    called,
    copied,
    is_zero,
    number,
    rule,
)


class TraceState(NamedTuple):
    m: Tree  #: the running sum of gradients


class MeanState(NamedTuple):
    t: Any  #: steps taken
    m: Tree  #: the running mean of gradients


@called
def trace(
    decay: Scalar, nesterov: bool = False, accumulator_dtype: DType = None, *, dampening: Scalar = 0.0
) -> Optimizer:
    """Momentum: m ← g + decay·m; the update is m, or g + decay·m with Nesterov (Polyak 1964; Nesterov 1983).

    ``nesterov`` is the usual reformulation, whose parameters are the points at which gradients are taken;
    `gradc.optim.nesterov` is the look-ahead form, and both walk the same way.  ``dampening``, PyTorch's:
    m ← (1 − dampening)·g + decay·m, except for the first step, which is m ← g.
    """
    dtypes = {"m": accumulator_dtype}
    if not is_zero(dampening):
        if nesterov:
            raise ValueError(f"{here()}: nesterov momentum has no dampening")
        return rule(_damped, MeanState, dtypes=dtypes, decay=decay, dampening=dampening)
    return rule(_nesterov if nesterov else _heavy_ball, TraceState, dtypes=dtypes, decay=decay)


def _heavy_ball(g: Any, p: Any, s: TraceState, decay: Any) -> tuple[Any, TraceState]:
    m = g + decay * s.m
    return m, TraceState(m)


def _nesterov(g: Any, p: Any, s: TraceState, decay: Any) -> tuple[Any, TraceState]:
    m = g + decay * s.m
    return g + decay * m, TraceState(m)


def _damped(g: Any, p: Any, s: MeanState, decay: Any, dampening: Any) -> tuple[Any, MeanState]:
    m = number(gnp.where(s.t == 1, 1.0, 1 - dampening)) * g + decay * s.m
    return m, s._replace(m=m)


@called
def ema(decay: Scalar, debias: bool = True, accumulator_dtype: DType = None) -> Optimizer:
    """The running mean of gradients: m ← decay·m + (1 − decay)·g, over 1 − decayᵗ with ``debias``."""
    return rule(_mean_corrected if debias else _mean, MeanState, dtypes={"m": accumulator_dtype}, decay=decay)


def _mean(g: Any, p: Any, s: MeanState, decay: Any) -> tuple[Any, MeanState]:
    m = decay * s.m + (1 - decay) * g
    return m, s._replace(m=m)


def _mean_corrected(g: Any, p: Any, s: MeanState, decay: Any) -> tuple[Any, MeanState]:
    m = decay * s.m + (1 - decay) * g
    return bias_correction(m, decay, s.t), s._replace(m=m)


@called
def scale_by_look_ahead(learning_rate: Scalar, momentum: Scalar = 0.9, accumulator_dtype: DType = None) -> Optimizer:
    """Nesterov's step as he wrote it: g = ∇f(p − η·β·v), v ← β·v + g, p ← p − η·v; wants ``grad_fn``.

    The gradient that ``update`` is given is not used; gc.train_step leaves it out of the compiled step.
    """
    return rule(
        _look_ahead, TraceState, whole=True, wants=("params", "grad_fn"), dtypes={"m": accumulator_dtype},
        learning_rate=learning_rate, momentum=momentum,
    )  # fmt: skip


def _look_ahead(
    g: Tree, p: Tree, s: TraceState, learning_rate: Any, momentum: Any, grad_fn: Any
) -> tuple[Tree, TraceState]:
    ahead = tree_map(lambda p, v: p - learning_rate * momentum * v, p, s.m)
    v = tree_map(lambda g, v: momentum * v + g, grad_fn(ahead), s.m)
    return tree_map(lambda v: -learning_rate * v, v), TraceState(v)


class OptimisticState(NamedTuple):
    t: Any  #: steps taken
    g_old: Tree  #: the last gradient


@called
def scale_by_optimistic_gradient(alpha: Scalar = 1.0, beta: Scalar = 1.0) -> Optimizer:
    """(α + β)·gₜ − β·gₜ₋₁, for games and saddle points; the first step is α·g (Mokhtari et al. 2020)."""
    return rule(_optimistic, OptimisticState, alpha=alpha, beta=beta)


def _optimistic(g: Any, p: Any, s: OptimisticState, alpha: Any, beta: Any) -> tuple[Any, OptimisticState]:
    before = gnp.where(s.t == 1, g, s.g_old)
    return (alpha + beta) * g - beta * before, s._replace(g_old=g)


# -- signs and slopes --------------------------------------------------------------------------------------------------


class RpropState(NamedTuple):
    d: Tree  #: the size of each element's step
    g_old: Tree  #: the last gradient, 0 where its sign had just changed


@called
def scale_by_rprop(
    learning_rate: float,
    eta_minus: Scalar = 0.5,
    eta_plus: Scalar = 1.2,
    min_step_size: Scalar = 1e-6,
    max_step_size: Scalar = 50.0,
) -> Optimizer:
    """Resilient propagation (Riedmiller & Braun 1993), without the step back: sizes of steps follow signs of gradients.

    Where the sign of an element's gradient stays, its step grows by ``eta_plus``; where it changes, the step shrinks
    by ``eta_minus`` and is left out once.  ``learning_rate`` is the first size.  For full batches.
    """
    if callable(learning_rate):
        raise TypeError(f"{here()}: rprop takes the size of the first step as a number, got {learning_rate!r:.60}")
    return rule(
        _rprop, RpropState, start={"d": learning_rate}, eta_minus=eta_minus, eta_plus=eta_plus,
        min_step_size=min_step_size, max_step_size=max_step_size,
    )  # fmt: skip


def _rprop(
    g: Any, p: Any, s: RpropState, eta_minus: Any, eta_plus: Any, min_step_size: Any, max_step_size: Any
) -> tuple[Any, RpropState]:
    same = g * s.g_old
    grown = gnp.clip(gnp.where(same > 0, eta_plus * s.d, eta_minus * s.d), min_step_size, max_step_size)
    d = gnp.where(same == 0, s.d, grown)
    g = gnp.where(same < 0, 0.0, g)
    return d * gnp.sign(g), RpropState(d, g)


class QuickpropState(NamedTuple):
    d: Tree  #: the last step
    g_old: Tree  #: the last gradient


@called
def scale_by_quickprop(learning_rate: Scalar, mu: Scalar = 1.75) -> Optimizer:
    """Quickprop (Fahlman 1988): to the minimum of the parabola through the last two slopes of each element.

    d ← d·g/(g₋₁ − g), the Newton step whose second derivative is a difference quotient, but at most ``mu`` times as
    long as the last one; where the parabola opens downwards, that far downhill.  Where there is no last step, or the
    slope still falls the same way, −learning_rate·g is added.
    """
    return rule(_quickprop, QuickpropState, learning_rate=learning_rate, mu=mu)


def _quickprop(g: Any, p: Any, s: QuickpropState, learning_rate: Any, mu: Any) -> tuple[Any, QuickpropState]:
    slope, before = gnp.sign(s.d) * g, gnp.sign(s.d) * s.g_old
    rise = gnp.where(slope > before, slope - before, 1.0)
    jump = s.d * gnp.where(slope > before, gnp.clip(-slope / rise, -mu, mu), -mu * gnp.sign(slope))
    d = jump - learning_rate * gnp.where((s.d == 0) | (slope < 0), g, 0.0)
    return d, QuickpropState(d, g)


# -- averages of the way -----------------------------------------------------------------------------------------------


class AsgdState(NamedTuple):
    t: Any  #: steps taken
    a: Tree  #: the average of the parameters


@called
def scale_by_asgd(
    learning_rate: Scalar, lambd: Scalar = 1e-4, alpha: Scalar = 0.75, t0: Scalar = 1e6, weight_decay: Scalar = 0.0
) -> Optimizer:
    """Averaged stochastic gradient descent as PyTorch has it (Polyak & Juditsky 1992); ``state.a`` is the average.

    η = lr/(1 + lambd·lr·(t − 1))^alpha, p ← (1 − lambd·η)·p − η·(g + weight_decay·p); from step t0 + 1 on the average
    is a ← a + (p − a)/(t − t0), before it is p itself.
    """
    return rule(
        _asgd, AsgdState, start={"a": copied}, wants=("params",), learning_rate=learning_rate, lambd=lambd, alpha=alpha,
        t0=t0, weight_decay=weight_decay,
    )  # fmt: skip


def _asgd(
    g: Any, p: Any, s: AsgdState, learning_rate: Any, lambd: Any, alpha: Any, t0: Any, weight_decay: Any
) -> tuple[Any, AsgdState]:
    eta = learning_rate / (1 + lambd * learning_rate * (s.t - 1)) ** alpha
    u = -eta * (g + weight_decay * p) - lambd * eta * p
    share = 1 / number(gnp.maximum(1.0, s.t - 1 - t0))
    return u, s._replace(a=s.a + (p + u - s.a) * share)


__all__ = [
    "ema", "scale_by_asgd", "scale_by_look_ahead", "scale_by_optimistic_gradient", "scale_by_quickprop",
    "scale_by_rprop", "trace",
]  # fmt: skip
