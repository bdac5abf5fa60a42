"""Learning-rate schedules: functions of the step number, traced like everything else."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import gradc.numpy as gnp
from gradc.node import here

Step = Any
ScheduleFn = Callable[[Step], Any]


def constant_schedule(value: float) -> ScheduleFn:
    """The same value at every step."""
    return partial(_constant, value)


def _constant(value: float, count: Step) -> Any:
    return value


def linear_schedule(init_value: float, end_value: float, transition_steps: int) -> ScheduleFn:
    """From ``init_value`` to ``end_value`` in ``transition_steps`` equal steps, constant afterwards."""
    if transition_steps <= 0:
        raise ValueError(f"{here()}: transition_steps must be positive, got {transition_steps}")
    return partial(_linear, init_value, end_value, transition_steps)


def _linear(init_value: float, end_value: float, transition_steps: int, count: Step) -> Any:
    return init_value + (end_value - init_value) * gnp.clip(count / transition_steps, 0, 1)


def exponential_decay(init_value: float, transition_steps: int, decay_rate: float) -> ScheduleFn:
    """init_value · decay_rate^(count / transition_steps)."""
    if transition_steps <= 0:
        raise ValueError(f"{here()}: transition_steps must be positive, got {transition_steps}")
    return partial(_exponential, init_value, transition_steps, decay_rate)


def _exponential(init_value: float, transition_steps: int, decay_rate: float, count: Step) -> Any:
    return init_value * decay_rate ** (count / transition_steps)


def cosine_decay_schedule(init_value: float, decay_steps: int, alpha: float = 0.0) -> ScheduleFn:
    """Half a cosine from ``init_value`` to alpha · init_value (Loshchilov & Hutter 2017)."""
    if decay_steps <= 0:
        raise ValueError(f"{here()}: decay_steps must be positive, got {decay_steps}")
    return partial(_cosine, init_value, decay_steps, alpha)


def _cosine(init_value: float, decay_steps: int, alpha: float, count: Step) -> Any:
    progress = gnp.clip(count / decay_steps, 0, 1)
    return init_value * ((1 - alpha) * 0.5 * (1 + gnp.cos(math.pi * progress)) + alpha)


def warmup_cosine_decay_schedule(
    init_value: float, peak_value: float, warmup_steps: int, decay_steps: int, end_value: float = 0.0
) -> ScheduleFn:
    """A linear warm-up to ``peak_value``, then a cosine to ``end_value`` at ``decay_steps``."""
    rise = linear_schedule(init_value, peak_value, warmup_steps)
    fall = cosine_decay_schedule(peak_value, decay_steps - warmup_steps, end_value / peak_value)
    return partial(_joined, rise, fall, warmup_steps)


def _joined(rise: ScheduleFn, fall: ScheduleFn, boundary: int, count: Step) -> Any:
    """One schedule up to ``boundary``, then another one that counts from there."""
    return gnp.where(count < boundary, rise(count), fall(count - boundary))
