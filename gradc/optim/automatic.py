"""Optimizers that find their own learning rate, or need no schedule.

Their rules join all parameters, so the steps are written over trees.  Letters: g gradient, p parameter, m and v
moments, d the estimate of the distance to the solution.  Start reading at `prodigy`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

import gradc.numpy as gnp
from gradc.containers import leaves_of, tree_map
from gradc.node import here
from gradc.optim.adaptive import scale_by_rms
from gradc.optim.clipping import add_decayed_weights, global_norm
from gradc.optim.reading import told
from gradc.optim.rules import (
    DType,
    EmptyState,
    Optimizer,
    Scalar,
    Tree,
    called,
    copied,
    counter,
    dot,
    like,
    number,
    rule,
    scalar,
    stored_in,
    total,
    updated,
    wide,
)
from gradc.optim.schedules import linear_schedule
from gradc.optim.transforms import chain, refuse_unless_optimizer, scale_by_learning_rate
from gradc.optim.wrappers import opened, state_with


def _same_tree(function: Callable[[Any], Any], params: Tree) -> Tree:
    leaves, structure = leaves_of(params)
    return structure.of_arrays.unflatten(map(function, leaves))


def _copies(params: Tree) -> Tree:
    return _same_tree(copied, params)


def _ratio(over: Any, under: Any) -> Any:
    """over/under, 0 where ``under`` is 0: no gradient has been seen."""
    return number(gnp.where(under > 0, over / gnp.where(under > 0, under, 1.0), 0.0))


# -- distances ---------------------------------------------------------------------------------------------------------


class ProdigyState(NamedTuple):
    t: Any  #: steps taken
    m: Tree  #: running mean of d·g
    v: Tree  #: running mean of (d·g)²
    s: Tree  #: weighted sum of gradients
    p0: Tree  #: the first parameters
    d: Any  #: estimate of the distance to the solution
    r: Any  #: weighted sum of ⟨g, p₀ − p⟩


@called
def prodigy(
    learning_rate: Scalar = 1.0,
    betas: tuple[float, float] = (0.9, 0.999),
    beta3: float | None = None,
    eps: Scalar = 1e-8,
    estim_lr0: float = 1e-6,
    estim_lr_coef: Scalar = 1.0,
    weight_decay: Scalar = 0.0,
    safeguard_warmup: bool = False,
) -> Optimizer:
    """Adam with ``learning_rate`` times an estimate of the distance to the solution (Mishchenko & Defazio 2024).

    The estimate begins at ``estim_lr0`` and never shrinks; leave ``learning_rate`` at 1 or give a schedule that ends
    there.  ``safeguard_warmup`` leaves the schedule out of the estimate.
    """
    b1, b2 = betas
    return rule(
        _prodigy, ProdigyState, whole=True, wants=("params",),
        start={"p0": _copies, "d": partial(scalar, estim_lr0), "r": partial(scalar, 0.0)},
        learning_rate=learning_rate, b1=b1, b2=b2, b3=b2**0.5 if beta3 is None else beta3, eps=eps, d0=estim_lr0,
        coefficient=estim_lr_coef, weight_decay=weight_decay, safeguard=safeguard_warmup,
    )  # fmt: skip


def _prodigy(
    g: Tree, p: Tree, s: ProdigyState, learning_rate: Any, b1: Any, b2: Any, b3: Any, eps: Any, d0: Any,
    coefficient: Any, weight_decay: Any, safeguard: bool,
) -> tuple[Tree, ProdigyState]:  # fmt: skip
    d = number(s.d)
    rate = d * learning_rate * (1 - b2**s.t) ** 0.5 / (1 - b1**s.t)
    weight = d * (d if safeguard else rate) / d0
    m = tree_map(lambda m, g: b1 * m + (1 - b1) * d * g, s.m, g)
    v = tree_map(lambda v, g: b2 * v + (1 - b2) * gnp.square(d * g), s.v, g)
    sums = tree_map(lambda a, g: b3 * a + weight * g, s.s, g)
    r = b3 * number(s.r) + d / d0 * rate * dot(g, tree_map(lambda p0, p: p0 - p, s.p0, p))
    found = _ratio(coefficient * r, total(gnp.sum(gnp.abs(a)) for a in leaves_of(sums)[0]))
    d = number(gnp.maximum(d, found))

    def update(m: Any, v: Any, p: Any) -> Any:
        return -rate * (m / (gnp.sqrt(v) + d * eps) + weight_decay * p)

    return tree_map(update, m, v, p), s._replace(m=m, v=v, s=sums, d=d, r=r)


class DadaptState(NamedTuple):
    t: Any  #: steps taken
    m: Tree  #: running mean of d·g
    v: Tree  #: running mean of g²
    s: Tree  #: weighted sum of gradients
    d: Any  #: estimate of the distance to the solution
    r: Any  #: weighted sum of ⟨g, s/√v⟩


@called
def dadapt_adamw(
    learning_rate: Scalar = 1.0,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: Scalar = 1e-8,
    estim_lr0: float = 1e-6,
    weight_decay: Scalar = 0.0,
) -> Optimizer:
    """AdamW with ``learning_rate`` times an estimate of the distance to the solution (Defazio & Mishchenko 2023)."""
    b1, b2 = betas
    return rule(
        _dadapt, DadaptState, whole=True, wants=("params",),
        start={"d": partial(scalar, estim_lr0), "r": partial(scalar, 0.0)},
        learning_rate=learning_rate, b1=b1, b2=b2, eps=eps, weight_decay=weight_decay,
    )  # fmt: skip


def _dadapt(
    g: Tree, p: Tree, s: DadaptState, learning_rate: Any, b1: Any, b2: Any, eps: Any, weight_decay: Any
) -> tuple[Tree, DadaptState]:
    b = b2**0.5
    rate = number(s.d) * learning_rate * (1 - b2**s.t) ** 0.5 / (1 - b1**s.t)
    steady = dot(g, tree_map(lambda a, v: a / (gnp.sqrt(v) + eps), s.s, s.v))
    m = tree_map(lambda m, g: b1 * m + (1 - b1) * rate * g, s.m, g)
    v = tree_map(lambda v, g: b2 * v + (1 - b2) * gnp.square(g), s.v, g)
    sums = tree_map(lambda a, g: b * a + (1 - b) * rate * g, s.s, g)
    r = b * number(s.r) + (1 - b) * rate * steady
    found = _ratio(r, (1 - b) * total(gnp.sum(gnp.abs(a)) for a in leaves_of(sums)[0]))

    def update(m: Any, v: Any, p: Any) -> Any:
        return -weight_decay * rate * p - m / (gnp.sqrt(v) + eps)

    return tree_map(update, m, v, p), s._replace(m=m, v=v, s=sums, d=gnp.maximum(number(s.d), found), r=r)


# -- values ------------------------------------------------------------------------------------------------------------


@called
def scale_by_polyak(
    f_min: Scalar = 0.0, max_learning_rate: Scalar = 1.0, eps: Scalar = 0.0, variant: str = "sps"
) -> Optimizer:
    """Gradients times min((value − f_min)/(‖g‖² + ε), max_learning_rate) (Polyak 1987; Loizou et al. 2021).

    Wants ``value``, the loss, which gc.train_step gives.  ``variant="sps+"`` takes no step where it is below ``f_min``.
    """
    if variant not in ("sps", "sps+"):
        raise ValueError(f"{here()}: variant is 'sps' or 'sps+', got {variant!r:.60}")
    return rule(
        _polyak, whole=True, wants=("value",), f_min=f_min, most=max_learning_rate, eps=eps, plus=variant == "sps+"
    )


def _polyak(
    g: Tree, p: Tree, s: EmptyState, f_min: Any, most: Any, eps: Any, plus: bool, value: Any
) -> tuple[Tree, EmptyState]:
    size = number(gnp.square(number(global_norm(g)))) + eps
    gap = number(value) - f_min
    gap = gnp.maximum(gap, 0.0) if plus else gap
    known = size > np.finfo(np.float64).eps
    step = number(gnp.where(known, gnp.minimum(gap / gnp.where(known, size, 1.0), most), 0.0))
    return tree_map(lambda g: g * step, g), s


@called
def polyak_sgd(
    max_learning_rate: Scalar = 1.0,
    scaling: Scalar = 1.0,
    f_min: Scalar = 0.0,
    eps: Scalar = 0.0,
    variant: str = "sps",
) -> Optimizer:
    """Gradient descent with Polyak's step, for a loss whose least value is known; see `scale_by_polyak`."""
    return chain(scale_by_learning_rate(scaling), scale_by_polyak(f_min, max_learning_rate, eps, variant))


# -- no schedule -------------------------------------------------------------------------------------------------------


class ScheduleFreeState(NamedTuple):
    t: Any  #: steps taken
    b1: Any  #: how far the parameters are from z to the average x
    weight_sum: Any
    max_lr: Any  #: the largest learning rate so far
    base_optimizer_state: Tree
    z: Tree  #: where the optimizer itself is


@called
def schedule_free(
    base_optimizer: Optimizer,
    learning_rate: Scalar,
    b1: float = 0.9,
    weight_lr_power: float = 2.0,
    state_dtype: DType = None,
) -> Optimizer:
    """``base_optimizer`` with averages in place of a schedule (Defazio et al. 2024).

    z steps as the base optimizer says, x is a weighted mean of all z, and the parameters are y = b1·x + (1 − b1)·z,
    where gradients are taken.  Evaluate at x: `schedule_free_eval_params`.  ``learning_rate`` is that of the base
    optimizer, a number or a function of the step 1, 2, …; a mean weights each z with its power ``weight_lr_power``.
    """
    if is_not_a_share(b1):
        raise ValueError(f"{here()}: b1 lies between 0 and 1 and is not 0, got {b1!r}")
    made = ScheduleFree(refuse_unless_optimizer(base_optimizer), learning_rate, b1, weight_lr_power, state_dtype)
    return Optimizer(made.init, made.update)


def is_not_a_share(b: Any) -> bool:
    """Whether a known number is not above 0 and at most 1."""
    return isinstance(b, (int, float)) and not 0 < b <= 1


@dataclass(frozen=True, eq=False)
class ScheduleFree:
    """What `schedule_free` was told."""

    base: Optimizer
    learning_rate: Any
    b1: Any
    power: Any
    dtype: DType

    def init(self, params: Tree) -> ScheduleFreeState:
        """The state before the first step."""
        z = _copies(params) if self.dtype is None else stored_in(_copies(params), self.dtype)
        zero = np.zeros(())
        return ScheduleFreeState(counter(), np.full((), self.b1), zero, zero.copy(), self.base.init(params), z)

    def update(self, grads: Tree, state: Tree, params: Tree = None, **extra: Any) -> tuple[Tree, ScheduleFreeState]:
        """One step."""
        if params is None:
            raise ValueError(f"{here()}: schedule_free needs the parameters: call update(grads, state, params)")
        s: ScheduleFreeState = opened(state, ScheduleFreeState, "schedule_free")
        t, b1 = s.t + 1, number(told("b1", self.b1))
        rate = self.learning_rate(t) if callable(self.learning_rate) else told("learning_rate", self.learning_rate)
        most = gnp.maximum(s.max_lr, rate)
        weight = most**self.power
        weights = s.weight_sum + weight
        share = number(gnp.where(weights > 0, weight / gnp.where(weights > 0, weights, 1.0), 0.0))
        steps, base = updated(self.base, grads, s.base_optimizer_state, params, extra)
        before = tree_map(wide, s.z)
        z = tree_map(lambda z, u: z + u, before, steps)
        x = tree_map(lambda y, z: (wide(y) - (1 - b1) * z) / b1, params, before)
        x = tree_map(lambda x, z: (1 - share) * x + share * z, x, z)
        updates = tree_map(lambda x, z, y: b1 * x + (1 - b1) * z - wide(y), x, z, params)
        kept = tree_map(like, z, s.z)
        return updates, ScheduleFreeState(t, s.b1, weights, most, base, kept)


def schedule_free_eval_params(state: Tree, params: Tree) -> Tree:
    """The average x of `schedule_free` for evaluation: (y − (1 − b1)·z)/b1, of a state that may be nested."""
    s = state_with("b1", "z", state=state)
    if s is None:
        raise ValueError(f"{here()}: no state of gc.optim.schedule_free, got {state!r:.60}")
    b1 = number(s.b1)
    return tree_map(lambda y, z: like((wide(y) - (1 - b1) * wide(z)) / b1, y), params, s.z)


@called
def schedule_free_sgd(
    learning_rate: float = 1.0,
    warmup_steps: int | None = None,
    b1: float = 0.9,
    weight_decay: Scalar | None = None,
    weight_lr_power: float = 2.0,
    state_dtype: DType = None,
) -> Optimizer:
    """`schedule_free` around gradient descent, with a linear warm-up of ``warmup_steps``."""
    rate = _warm(learning_rate, warmup_steps)
    base = scale_by_learning_rate(rate)
    if weight_decay is not None:
        base = chain(add_decayed_weights(weight_decay), base)
    return schedule_free(base, rate, b1, weight_lr_power, state_dtype)


@called
def schedule_free_adamw(
    learning_rate: float = 0.0025,
    warmup_steps: int | None = None,
    b1: float = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    weight_decay: Scalar = 0.0,
    weight_lr_power: float = 2.0,
    state_dtype: DType = None,
) -> Optimizer:
    """`schedule_free` around AdamW without its first moment, with a linear warm-up of ``warmup_steps``."""
    rate = _warm(learning_rate, warmup_steps)
    base = chain(
        scale_by_rms(b2, eps, eps_in_sqrt=False, bias_correction=True), add_decayed_weights(weight_decay),
        scale_by_learning_rate(rate),
    )  # fmt: skip
    return schedule_free(base, rate, b1, weight_lr_power, state_dtype)


def _warm(learning_rate: float, warmup_steps: int | None) -> Scalar:
    return learning_rate if warmup_steps is None else linear_schedule(0.0, learning_rate, warmup_steps)


__all__ = [
    "dadapt_adamw", "polyak_sgd", "prodigy", "scale_by_polyak", "schedule_free", "schedule_free_adamw",
    "schedule_free_eval_params", "schedule_free_sgd",
]  # fmt: skip
