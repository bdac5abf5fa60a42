"""Learning-rate schedules: functions of the step number 0, 1, 2, …, traced like everything else.

Every hyperparameter of an optimizer takes one.  The names, arguments and meaning are optax's; what PyTorch and the
papers have beside those is at the end.  A schedule can be pickled.  Start reading at `polynomial_schedule`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import gradc.numpy as gnp
from gradc.node import here

Step = Any
ScheduleFn = Callable[[Step], Any]


def _refuse_unless_positive(name: str, value: Any) -> None:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not value > 0:
        raise ValueError(f"{here()}: {name} must be positive, got {value!r}")


def _refuse_if_negative(name: str, value: Any) -> None:
    if isinstance(value, (int, float)) and not value >= 0:
        raise ValueError(f"{here()}: {name} must not be negative, got {value!r}")


# -- one shape ---------------------------------------------------------------------------------------------------------


def constant_schedule(value: float) -> ScheduleFn:
    """The same value at every step."""
    return partial(_constant, value)


def _constant(value: float, count: Step) -> Any:
    return value


def polynomial_schedule(
    init_value: float, end_value: float, power: float, transition_steps: int, transition_begin: int = 0
) -> ScheduleFn:
    """(init_value − end_value)·(1 − f)^power + end_value, where f goes from 0 to 1 in ``transition_steps`` steps."""
    _refuse_unless_positive("transition_steps", transition_steps)
    _refuse_if_negative("transition_begin", transition_begin)
    return partial(_polynomial, init_value, end_value, power, transition_steps, transition_begin)


def _polynomial(init_value: float, end_value: float, power: float, steps: int, begin: int, count: Step) -> Any:
    left = 1 - gnp.clip((count - begin) / steps, 0, 1)
    return (init_value - end_value) * left**power + end_value


def linear_schedule(
    init_value: float, end_value: float, transition_steps: int, transition_begin: int = 0
) -> ScheduleFn:
    """From ``init_value`` to ``end_value`` in ``transition_steps`` equal steps, constant before and afterwards."""
    _refuse_unless_positive("transition_steps", transition_steps)
    _refuse_if_negative("transition_begin", transition_begin)
    return partial(_linear, init_value, end_value, transition_steps, transition_begin)


def _linear(init_value: float, end_value: float, steps: int, begin: int, count: Step) -> Any:
    return init_value + (end_value - init_value) * gnp.clip((count - begin) / steps, 0, 1)


def exponential_decay(
    init_value: float,
    transition_steps: int,
    decay_rate: float,
    transition_begin: int = 0,
    staircase: bool = False,
    end_value: float | None = None,
) -> ScheduleFn:
    """init_value · decay_rate^((count − transition_begin)/transition_steps), and not beyond ``end_value``.

    ``staircase``: the exponent is a whole number, so that the rate falls once in ``transition_steps`` steps.
    """
    _refuse_unless_positive("transition_steps", transition_steps)
    _refuse_unless_positive("decay_rate", decay_rate)
    _refuse_if_negative("transition_begin", transition_begin)
    return partial(_exponential, init_value, transition_steps, decay_rate, transition_begin, staircase, end_value)


def _exponential(
    init_value: float, steps: int, decay_rate: float, begin: int, staircase: bool, end_value: float | None, count: Step
) -> Any:
    exponent = gnp.maximum(count - begin, 0) / steps
    value = init_value * decay_rate ** (gnp.floor(exponent) if staircase else exponent)
    if end_value is None:
        return value
    return gnp.maximum(value, end_value) if decay_rate < 1 else gnp.minimum(value, end_value)


def cosine_decay_schedule(init_value: float, decay_steps: int, alpha: float = 0.0, exponent: float = 1.0) -> ScheduleFn:
    """Half a cosine from ``init_value`` to alpha · init_value (Loshchilov & Hutter 2017), to the power ``exponent``."""
    _refuse_unless_positive("decay_steps", decay_steps)
    return partial(_cosine, init_value, decay_steps, alpha, exponent)


def _cosine(init_value: float, decay_steps: int, alpha: float, exponent: float, count: Step) -> Any:
    progress = gnp.clip(count / decay_steps, 0, 1)
    half = 0.5 * (1 + gnp.cos(math.pi * progress))
    return init_value * ((1 - alpha) * (half if exponent == 1 else half**exponent) + alpha)


# -- pieces ------------------------------------------------------------------------------------------------------------


def join_schedules(schedules: Sequence[ScheduleFn], boundaries: Sequence[int]) -> ScheduleFn:
    """One schedule after another: the next begins at each of ``boundaries`` and counts from there."""
    pieces, ends = tuple(schedules), tuple(boundaries)
    if len(pieces) != len(ends) + 1:
        raise ValueError(f"{here()}: {len(pieces)} schedules have {len(pieces) - 1} boundaries, got {len(ends)}")
    if not all(map(callable, pieces)):
        raise TypeError(f"{here()}: join_schedules takes functions of the step, got {pieces!r:.80}")
    return partial(_joined, pieces, ends)


def _joined(pieces: Sequence[ScheduleFn], boundaries: Sequence[int], count: Step) -> Any:
    value = pieces[0](count)
    for boundary, piece in zip(boundaries, pieces[1:], strict=True):
        value = gnp.where(count < boundary, value, piece(count - boundary))
    return value


def _boundaries(boundaries_and_scales: Mapping[int, float] | None) -> tuple[tuple[int, float], ...]:
    given = tuple(sorted((boundaries_and_scales or {}).items()))
    for boundary, scale in given:
        _refuse_if_negative(f"the scale at {boundary}", scale)
    return given


def piecewise_constant_schedule(
    init_value: float, boundaries_and_scales: Mapping[int, float] | None = None
) -> ScheduleFn:
    """``init_value``, times each scale from its boundary on; PyTorch's MultiStepLR."""
    return partial(_piecewise, init_value, _boundaries(boundaries_and_scales))


def _piecewise(init_value: float, scales: Sequence[tuple[int, float]], count: Step) -> Any:
    value: Any = init_value
    for boundary, scale in scales:
        value = value * gnp.where(count < boundary, 1.0, scale)
    return value


def piecewise_interpolate_schedule(
    interpolate_type: str, init_value: float, boundaries_and_scales: Mapping[int, float] | None = None
) -> ScheduleFn:
    """Like `piecewise_constant_schedule`, with a straight line ("linear") or half a cosine ("cosine") between."""
    if interpolate_type not in ("linear", "cosine"):
        raise ValueError(f"{here()}: interpolate_type is 'linear' or 'cosine', got {interpolate_type!r:.60}")
    return partial(_interpolated, interpolate_type == "cosine", init_value, _boundaries(boundaries_and_scales))


def _interpolated(cosine: bool, init_value: float, scales: Sequence[tuple[int, float]], count: Step) -> Any:
    start, value = 0, init_value
    result: Any = init_value
    for end, scale in scales:
        share = gnp.clip((count - start) / max(end - start, 1), 0, 1)
        share = 0.5 * (1 - gnp.cos(math.pi * share)) if cosine else share
        result = gnp.where(count < start, result, value + (value * scale - value) * share)
        start, value = end, value * scale
    return result


# -- warm-up, restarts, one cycle --------------------------------------------------------------------------------------


def warmup_constant_schedule(init_value: float, peak_value: float, warmup_steps: int) -> ScheduleFn:
    """A linear warm-up from ``init_value`` to ``peak_value``, constant from there on."""
    return linear_schedule(init_value, peak_value, warmup_steps)


def warmup_cosine_decay_schedule(
    init_value: float,
    peak_value: float,
    warmup_steps: int,
    decay_steps: int,
    end_value: float = 0.0,
    exponent: float = 1.0,
) -> ScheduleFn:
    """A linear warm-up to ``peak_value``, then a cosine to ``end_value`` at ``decay_steps``."""
    alpha = 0.0 if peak_value == 0 else end_value / peak_value
    fall = cosine_decay_schedule(peak_value, decay_steps - warmup_steps, alpha, exponent)
    return _warmed(init_value, peak_value, warmup_steps, fall)


def warmup_exponential_decay_schedule(
    init_value: float,
    peak_value: float,
    warmup_steps: int,
    transition_steps: int,
    decay_rate: float,
    transition_begin: int = 0,
    staircase: bool = False,
    end_value: float | None = None,
) -> ScheduleFn:
    """A linear warm-up to ``peak_value``, then `exponential_decay`."""
    fall = exponential_decay(peak_value, transition_steps, decay_rate, transition_begin, staircase, end_value)
    return _warmed(init_value, peak_value, warmup_steps, fall)


def _warmed(init_value: float, peak_value: float, warmup_steps: int, then: ScheduleFn) -> ScheduleFn:
    if warmup_steps == 0:
        return then
    return join_schedules([linear_schedule(init_value, peak_value, warmup_steps), then], [warmup_steps])


def sgdr_schedule(cosine_kwargs: Iterable[Mapping[str, Any]]) -> ScheduleFn:
    """Warm restarts (Loshchilov & Hutter 2017): each `warmup_cosine_decay_schedule` by its arguments."""
    cycles = [dict(kwargs) for kwargs in cosine_kwargs]
    if not cycles:
        raise ValueError(f"{here()}: sgdr_schedule takes the arguments of at least one cycle")
    ends = [sum(c["decay_steps"] for c in cycles[: i + 1]) for i in range(len(cycles) - 1)]
    return join_schedules([warmup_cosine_decay_schedule(**c) for c in cycles], ends)


def cosine_restarts_schedule(
    init_value: float, first_steps: int, factor: float = 1.0, end_value: float = 0.0
) -> ScheduleFn:
    """Half cosines without end, each ``factor`` ≥ 1 times as long as the one before.

    PyTorch's CosineAnnealingWarmRestarts.
    """
    _refuse_unless_positive("first_steps", first_steps)
    if factor < 1:
        raise ValueError(f"{here()}: factor is at least 1, got {factor!r}")
    return partial(_restarted, init_value, first_steps, float(factor), end_value)


def _restarted(init_value: float, first: int, factor: float, end_value: float, count: Step) -> Any:
    if factor == 1:
        share = (count % first) / first
    else:
        cycle = gnp.floor(gnp.log1p(count * (factor - 1) / first) / math.log(factor) + 1e-9)
        length = first * factor**cycle
        share = gnp.clip((count - first * (factor**cycle - 1) / (factor - 1)) / length, 0, 1)
    return end_value + (init_value - end_value) * 0.5 * (1 + gnp.cos(math.pi * share))


def linear_onecycle_schedule(
    transition_steps: int,
    peak_value: float,
    pct_start: float = 0.3,
    pct_final: float = 0.85,
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
) -> ScheduleFn:
    """Up to ``peak_value``, down again, and on to almost nothing, in straight lines (Smith & Topin 2019)."""
    _refuse_unless_positive("transition_steps", transition_steps)
    return piecewise_interpolate_schedule(
        "linear", peak_value / div_factor,
        {int(pct_start * transition_steps): div_factor, int(pct_final * transition_steps): 1.0 / div_factor,
         transition_steps: 1.0 / final_div_factor},
    )  # fmt: skip


def cosine_onecycle_schedule(
    transition_steps: int,
    peak_value: float,
    pct_start: float = 0.3,
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
) -> ScheduleFn:
    """Up to ``peak_value`` and down to almost nothing along half cosines: PyTorch's OneCycleLR."""
    _refuse_unless_positive("transition_steps", transition_steps)
    return piecewise_interpolate_schedule(
        "cosine", peak_value / div_factor,
        {int(pct_start * transition_steps): div_factor, transition_steps: 1.0 / (div_factor * final_div_factor)},
    )  # fmt: skip


# -- what textbooks have beside these ----------------------------------------------------------------------------------


def step_decay_schedule(init_value: float, step_size: int, gamma: float = 0.1) -> ScheduleFn:
    """init_value · gamma^⌊count/step_size⌋: PyTorch's StepLR."""
    return exponential_decay(init_value, step_size, gamma, staircase=True)


def inverse_time_decay(
    init_value: float, transition_steps: int = 1, decay_rate: float = 1.0, power: float = 1.0
) -> ScheduleFn:
    """init_value/(1 + decay_rate·count/transition_steps)^power: 1/k.

    Its sum is infinite and that of its squares is not, as Robbins & Monro (1951) ask; any power in (1/2, 1] has it.
    """
    _refuse_unless_positive("transition_steps", transition_steps)
    return partial(_inverse, init_value, transition_steps, decay_rate, power)


def _inverse(init_value: float, steps: int, decay_rate: float, power: float, count: Step) -> Any:
    return init_value / (1 + decay_rate * count / steps) ** power


def inverse_sqrt_schedule(peak_value: float, warmup_steps: int) -> ScheduleFn:
    """A linear warm-up to ``peak_value`` at step ``warmup_steps``, then peak_value·√(warmup_steps/count)."""
    _refuse_unless_positive("warmup_steps", warmup_steps)
    return partial(_inverse_sqrt, peak_value, warmup_steps)


def _inverse_sqrt(peak_value: float, warmup_steps: int, count: Step) -> Any:
    late = gnp.maximum(count, warmup_steps)
    return peak_value * gnp.minimum(count / warmup_steps, gnp.sqrt(warmup_steps / late))


def noam_schedule(model_size: int, warmup_steps: int, factor: float = 1.0) -> ScheduleFn:
    """factor·model_size^(−1/2)·min(n^(−1/2), n·warmup_steps^(−3/2)) with n = count + 1 (Vaswani et al. 2017)."""
    _refuse_unless_positive("model_size", model_size)
    _refuse_unless_positive("warmup_steps", warmup_steps)
    return partial(_noam, factor * model_size**-0.5, warmup_steps)


def _noam(factor: float, warmup_steps: int, count: Step) -> Any:
    n = count + 1
    return factor * gnp.minimum(1 / gnp.sqrt(n), n * warmup_steps**-1.5)


# -- batches -----------------------------------------------------------------------------------------------------------


def linear_scaling(learning_rate: float, batch_size: int, base_batch_size: int) -> float:
    """The rate for another batch size: learning_rate·batch_size/base_batch_size (Goyal et al. 2017), for SGD."""
    return learning_rate * _batches(batch_size, base_batch_size)


def sqrt_scaling(learning_rate: float, batch_size: int, base_batch_size: int) -> float:
    """The rate for another batch size: learning_rate·√(batch_size/base_batch_size) (Krizhevsky 2014), for Adam."""
    return learning_rate * _batches(batch_size, base_batch_size) ** 0.5


def _batches(batch_size: int, base_batch_size: int) -> float:
    _refuse_unless_positive("batch_size", batch_size)
    _refuse_unless_positive("base_batch_size", base_batch_size)
    return batch_size / base_batch_size


__all__ = [
    "constant_schedule", "cosine_decay_schedule", "cosine_onecycle_schedule", "cosine_restarts_schedule",
    "exponential_decay", "inverse_sqrt_schedule", "inverse_time_decay", "join_schedules", "linear_onecycle_schedule",
    "linear_scaling", "linear_schedule", "noam_schedule", "piecewise_constant_schedule",
    "piecewise_interpolate_schedule", "polynomial_schedule", "sgdr_schedule", "sqrt_scaling", "step_decay_schedule",
    "warmup_constant_schedule", "warmup_cosine_decay_schedule", "warmup_exponential_decay_schedule",
]  # fmt: skip
