"""Optimizers around an optimizer: that accumulate, average, look ahead, skip, or take hyperparameters from the state.

Enters: one optimizer, or a function that makes one.  Leaves: another.  A choice is made element by element, so both
sides are computed and one compiled step serves all steps.  Start reading at `multi_steps`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

import gradc.numpy as gnp
from gradc.containers import leaves_of, one_level, tree_map
from gradc.node import here
from gradc.optim.reading import joined, note_scale
from gradc.optim.rules import (
    DType,
    Optimizer,
    Scalar,
    Tree,
    called,
    copied,
    counter,
    filled,
    like,
    number,
    rule,
    scalar,
    select,
    stored_in,
    updated,
    wide,
)
from gradc.optim.transforms import refuse_unless_optimizer


def opened(state: Tree, kind: Any, what: str) -> Any:
    """A state as the named tuple ``kind``; ValueError for what cannot be one."""
    if not isinstance(state, tuple) or len(state) != len(kind._fields):
        raise ValueError(f"{here()}: {what} got a state {state!r:.60}; use its own init")
    return kind(*state)


def _at_least_one(name: str, value: Any) -> None:
    if callable(value):
        return
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"{here()}: {name} is a whole number from 1 on, got {value!r:.60}")


def all_finite(tree: Tree) -> Any:
    """Whether no leaf has a NaN or an infinity."""
    flag: Any = np.bool_(True)
    leaves = leaves_of(tree)[0]
    for leaf in leaves:
        flag = flag & gnp.all(gnp.isfinite(leaf))
    return joined(flag, "finite", leaves)


# -- accumulation ------------------------------------------------------------------------------------------------------


class MultiStepsState(NamedTuple):
    mini_step: Any  #: gradients accumulated since the last update
    gradient_step: Any  #: updates made
    inner_opt_state: Tree
    acc_grads: Tree  #: their mean, or their sum


@called
def multi_steps(
    opt: Optimizer,
    every_k_schedule: int | Callable[[Any], Any],
    use_grad_mean: bool = True,
    should_skip_update_fn: Callable[[Tree, Any, Tree], Any] | None = None,
    accumulator_dtype: DType = None,
) -> Optimizer:
    """One update of ``opt`` for every k gradients, of their mean or sum: a large batch in k small ones.

    ``every_k_schedule``: k, or a function of the number of updates made that gives it.  The first k − 1 updates are 0.
    ``should_skip_update_fn(grads, gradient_step, params)`` is true for gradients that are left out, such as
    `skip_not_finite`.  Accumulated is in ``accumulator_dtype``: by default that of the parameters, float32 for narrow
    ones.  Also called MultiSteps, as in optax.
    """
    _at_least_one("every_k_schedule", every_k_schedule)
    made = Accumulation(refuse_unless_optimizer(opt), every_k_schedule, use_grad_mean, should_skip_update_fn,
                       accumulator_dtype)  # fmt: skip
    return Optimizer(made.init, made.update)


MultiSteps = multi_steps


@dataclass(frozen=True, eq=False)
class Accumulation:
    """What `multi_steps` was told."""

    inner: Optimizer
    every: Any
    mean: bool
    skips: Callable[[Tree, Any, Tree], Any] | None
    dtype: DType

    def init(self, params: Tree) -> MultiStepsState:
        """The state before the first step."""
        leaves, structure = leaves_of(params)
        zeros = structure.of_arrays.unflatten(filled(p, 0.0) for p in leaves)
        zeros = zeros if self.dtype is None else stored_in(zeros, self.dtype)
        return MultiStepsState(counter(), counter(), self.inner.init(params), zeros)

    def update(self, grads: Tree, state: Tree, params: Tree = None, **extra: Any) -> tuple[Tree, MultiStepsState]:
        """One step."""
        s: MultiStepsState = opened(state, MultiStepsState, "multi_steps")
        count = self.every(s.gradient_step) if callable(self.every) else self.every
        share = number(1 / (s.mini_step + 1)) if self.mean else None

        def joined(g: Any, a: Any) -> Any:
            return wide(a) + wide(g) if share is None else wide(a) + (wide(g) - wide(a)) * share

        sums = tree_map(joined, grads, s.acc_grads)
        updates, inner = updated(self.inner, sums, s.inner_opt_state, params, extra)
        now = s.mini_step + 1 >= count
        skip = None if self.skips is None else self.skips(grads, s.gradient_step, params)
        emit = now if skip is None else now & ~gnp.asarray(skip)
        after = MultiStepsState(
            gnp.where(emit, 0, s.mini_step + 1),
            s.gradient_step + gnp.astype(gnp.asarray(emit), np.int64),
            select(emit, inner, s.inner_opt_state),
            tree_map(lambda a, old: like(gnp.where(emit, 0.0, a), old), sums, s.acc_grads),
        )
        if skip is not None:
            kept = ~gnp.asarray(skip)
            after = after._replace(mini_step=gnp.where(kept, after.mini_step, s.mini_step),
                                   acc_grads=select(kept, after.acc_grads, s.acc_grads))  # fmt: skip
        return tree_map(lambda u: gnp.where(emit, u, 0.0), updates), after


def has_updated(state: MultiStepsState) -> Any:
    """Whether the last step of a `multi_steps` updated the parameters."""
    s: MultiStepsState = opened(state, MultiStepsState, "has_updated")
    return (s.mini_step == 0) & (s.gradient_step > 0)


def skip_not_finite(grads: Tree, gradient_step: Any, params: Tree) -> Any:
    """For `multi_steps`: leave out gradients with a NaN or an infinity."""
    return ~all_finite(grads)


class EveryState(NamedTuple):
    t: Any  #: steps taken
    a: Tree  #: the sum of the updates since the last one that was passed on


@called
def apply_every(k: int = 1) -> Optimizer:
    """The sum of every k updates, 0 at the steps between; unlike `multi_steps`, others step each time."""
    _at_least_one("k", k)
    return rule(_every, EveryState, k=k)


def _every(g: Any, p: Any, s: EveryState, k: Any) -> tuple[Any, EveryState]:
    a = g + gnp.where((s.t - 1) % k == 0, 0.0, s.a)
    return gnp.where(s.t % k == 0, a, 0.0), s._replace(a=a)


# -- skipped steps -----------------------------------------------------------------------------------------------------


class ApplyIfFiniteState(NamedTuple):
    notfinite_count: Any  #: steps in a row whose gradients were not finite
    last_finite: Any  #: whether the last ones were
    total_notfinite: Any  #: steps in all whose gradients were not
    inner_state: Tree


@called
def apply_if_finite(inner: Optimizer, max_consecutive_errors: int) -> Optimizer:
    """``inner``, which neither steps nor changes its state where a gradient has a NaN or an infinity.

    After more than ``max_consecutive_errors`` of those in a row it is given them nevertheless.
    """
    made = IfFinite(refuse_unless_optimizer(inner), max_consecutive_errors)
    return Optimizer(made.init, made.update)


@dataclass(frozen=True, eq=False)
class IfFinite:
    """What `apply_if_finite` was told."""

    inner: Optimizer
    most: int

    def init(self, params: Tree) -> ApplyIfFiniteState:
        """The state before the first step."""
        return ApplyIfFiniteState(counter(), np.ones((), np.bool_), counter(), self.inner.init(params))

    def update(self, grads: Tree, state: Tree, params: Tree = None, **extra: Any) -> tuple[Tree, ApplyIfFiniteState]:
        """One step."""
        s: ApplyIfFiniteState = opened(state, ApplyIfFiniteState, "apply_if_finite")
        finite = all_finite(grads)
        bad = gnp.where(finite, 0, s.notfinite_count + 1)
        updates, inner = updated(self.inner, grads, s.inner_state, params, extra)
        step = finite | (bad > self.most)
        after = ApplyIfFiniteState(
            bad, finite, gnp.where(finite, s.total_notfinite, s.total_notfinite + 1),
            select(step, inner, s.inner_state),
        )  # fmt: skip
        return tree_map(lambda u: gnp.where(step, u, 0.0), updates), after


class ConditionalState(NamedTuple):
    t: Any  #: steps taken
    inner_state: Tree


@called
def conditionally_transform(
    inner: Optimizer, should_transform_fn: Callable[..., Any], forward_extra_args: bool = False
) -> Optimizer:
    """``inner`` at the steps t = 0, 1, … where ``should_transform_fn(t)`` is true; gradients as they are at others."""
    made = Conditional(refuse_unless_optimizer(inner), should_transform_fn, forward_extra_args, False)
    return Optimizer(made.init, made.update)


@called
def conditionally_mask(
    inner: Optimizer, should_transform_fn: Callable[..., Any], forward_extra_args: bool = False
) -> Optimizer:
    """``inner`` at the steps t = 0, 1, … where ``should_transform_fn(t)`` is true; no update at others."""
    made = Conditional(refuse_unless_optimizer(inner), should_transform_fn, forward_extra_args, True)
    return Optimizer(made.init, made.update)


@dataclass(frozen=True, eq=False)
class Conditional:
    """What `conditionally_transform` and `conditionally_mask` were told."""

    inner: Optimizer
    condition: Callable[..., Any]
    forwards: bool
    masks: bool

    def init(self, params: Tree) -> ConditionalState:
        """The state before the first step."""
        return ConditionalState(counter(), self.inner.init(params))

    def update(self, grads: Tree, state: Tree, params: Tree = None, **extra: Any) -> tuple[Tree, ConditionalState]:
        """One step."""
        s: ConditionalState = opened(state, ConditionalState, "conditionally_transform")
        flag = self.condition(s.t, **(extra if self.forwards else {}))
        updates, inner = updated(self.inner, grads, s.inner_state, params, extra)
        chosen = tree_map(lambda u, g: gnp.where(flag, u, 0.0 if self.masks else wide(g)), updates, grads)
        return chosen, ConditionalState(s.t + 1, select(flag, inner, s.inner_state))


# -- averages of parameters --------------------------------------------------------------------------------------------


class AverageState(NamedTuple):
    t: Any  #: steps taken
    a: Tree  #: the average of the parameters


@called
def params_ema(decay: Scalar) -> Optimizer:
    """The last of a chain: a running mean of the parameters, a ← decay·a + (1 − decay)·p; updates pass as they are.

    It begins at the first parameters.  `averaged_params` finds it in the state.  With ``decay=swa_decay(start)`` it is
    the plain mean of all parameters from step ``start`` on: stochastic weight averaging (Izmailov et al. 2018).
    """
    return rule(_averaged, AverageState, start={"a": copied}, wants=("params",), decay=decay)


def _averaged(g: Any, p: Any, s: AverageState, decay: Any) -> tuple[Any, AverageState]:
    return g, s._replace(a=decay * s.a + (1 - decay) * (p + g))


def swa_decay(start: int = 0) -> Callable[[Any], Any]:
    """For `params_ema`: the plain mean of the parameters after steps ``start`` + 1, ``start`` + 2, …"""
    return partial(_swa_decay, start)


def _swa_decay(start: int, count: Any) -> Any:
    n = gnp.maximum(count - start, 0)
    return n / (n + 1)


def averaged_params(state: Tree) -> Tree:
    """The average of the parameters in the state of an optimizer with `params_ema` or `asgd`; ValueError if none."""
    found = state_with("a", "t", state=state)
    if found is None:
        raise ValueError(f"{here()}: no average of parameters in this state: add gc.optim.params_ema to the chain")
    return found.a


def state_with(*fields: str, state: Tree) -> Any:
    """The first named tuple with these fields in a nested state, or None."""
    pending = [state]
    while pending:
        part = pending.pop()
        names = getattr(part, "_fields", ())
        if set(fields) <= set(names):
            return part
        pending += reversed(list((one_level(part) or {}).values()))
    return None


class LookaheadState(NamedTuple):
    t: Any  #: steps taken
    slow: Tree  #: the slow parameters
    fast_state: Tree


@called
def lookahead(
    fast_optimizer: Optimizer, sync_period: int, slow_step_size: Scalar, reset_state: bool = False
) -> Optimizer:
    """``fast_optimizer``, and every ``sync_period`` steps back to a point between where they led and where they began.

    slow ← slow + slow_step_size·(p − slow), p ← slow (Zhang et al. 2019).  The slow parameters stand in the state; in
    optax they are half of the parameters.  ``reset_state``: the fast optimizer begins anew after each such step.
    """
    _at_least_one("sync_period", sync_period)
    made = Lookahead(refuse_unless_optimizer(fast_optimizer), sync_period, slow_step_size, reset_state)
    return Optimizer(made.init, made.update)


@dataclass(frozen=True, eq=False)
class Lookahead:
    """What `lookahead` was told."""

    fast: Optimizer
    period: int
    step_size: Any
    resets: bool

    def init(self, params: Tree) -> LookaheadState:
        """The state before the first step."""
        leaves, structure = leaves_of(params)
        return LookaheadState(counter(), structure.of_arrays.unflatten(map(copied, leaves)), self.fast.init(params))

    def update(self, grads: Tree, state: Tree, params: Tree = None, **extra: Any) -> tuple[Tree, LookaheadState]:
        """One step."""
        if params is None:
            raise ValueError(f"{here()}: lookahead needs the parameters: call update(grads, state, params)")
        s: LookaheadState = opened(state, LookaheadState, "lookahead")
        updates, fast = updated(self.fast, grads, s.fast_state, params, extra)
        step = number(self.step_size(s.t) if callable(self.step_size) else self.step_size)
        now = (s.t + 1) % self.period == 0
        slow = tree_map(lambda s, p, u: s + gnp.where(now, (wide(p) + u - s) * step, 0.0), s.slow, params, updates)
        moved = tree_map(lambda u, s, p: gnp.where(now, s - wide(p), u), updates, slow, params)
        if self.resets:
            fast = select(now, self.fast.init(params), fast)
        return moved, LookaheadState(s.t + 1, slow, fast)


# -- sharpness ---------------------------------------------------------------------------------------------------------


class SamState(NamedTuple):
    t: Any  #: steps since the last one of ``optimizer``
    opt_state: Tree
    adv_state: Tree
    cache: Tree  #: the parameters that the steps uphill began at; None in opaque mode


@called
def sam(
    optimizer: Optimizer,
    adv_optimizer: Optimizer,
    sync_period: int = 2,
    reset_state: bool = True,
    opaque_mode: bool = False,
) -> Optimizer:
    """Sharpness-aware minimisation (Foret et al. 2021): ``optimizer`` with the gradient of a point uphill.

    ``adv_optimizer`` goes uphill, usually ``chain(normalize(), sgd(rho))``, ``sync_period`` − 1 times.  By default each
    call of ``update`` is one of these steps, and every ``sync_period``-th goes back and on; with ``opaque_mode`` one
    call does all of them and takes the gradients from ``grad_fn(params)``, which gc.train_step gives.
    """
    _at_least_one("sync_period", sync_period)
    made = Sam(refuse_unless_optimizer(optimizer), refuse_unless_optimizer(adv_optimizer), sync_period, reset_state,
               opaque_mode)  # fmt: skip
    return Optimizer(made.init, made.update)


@dataclass(frozen=True, eq=False)
class Sam:
    """What `sam` was told."""

    outer: Optimizer
    uphill: Optimizer
    period: int
    resets: bool
    opaque: bool

    def init(self, params: Tree) -> SamState:
        """The state before the first step."""
        leaves, structure = leaves_of(params)
        cache = None if self.opaque else structure.of_arrays.unflatten(map(copied, leaves))
        return SamState(counter(), self.outer.init(params), self.uphill.init(params), cache)

    def update(self, grads: Tree, state: Tree, params: Tree = None, **extra: Any) -> tuple[Tree, SamState]:
        """One step."""
        if params is None:
            raise ValueError(f"{here()}: sam needs the parameters: call update(grads, state, params)")
        s: SamState = opened(state, SamState, "sam")
        return (self._all if self.opaque else self._one)(grads, s, params, extra)

    def _all(self, grads: Tree, s: SamState, params: Tree, extra: Mapping[str, Any]) -> tuple[Tree, SamState]:
        grad_fn = extra.get("grad_fn")
        if grad_fn is None:
            raise ValueError(f"{here()}: sam in opaque mode needs grad_fn: gc.train_step gives it; elsewhere call "
                             "update(grads, state, params, grad_fn=…)")  # fmt: skip
        point, uphill = params, s.adv_state
        for _ in range(self.period - 1):
            up, uphill = updated(self.uphill, grads, uphill, point, extra)
            point = tree_map(lambda p, u: like(wide(p) - u, p), point, up)
            grads = grad_fn(point)
        updates, outer = updated(self.outer, grads, s.opt_state, params, extra)
        return updates, SamState(s.t, outer, self.uphill.init(params) if self.resets else uphill, None)

    def _one(self, grads: Tree, s: SamState, params: Tree, extra: Mapping[str, Any]) -> tuple[Tree, SamState]:
        first, last = s.t == 0, s.t == self.period - 1
        up, uphill = updated(self.uphill, grads, s.adv_state, params, extra)
        down, outer = updated(self.outer, grads, s.opt_state, s.cache, extra)
        updates = tree_map(lambda c, p, d, u: gnp.where(last, c - wide(p) + d, -u), s.cache, params, down, up)
        cache = tree_map(lambda p, c: gnp.where(first, wide(p), c), params, s.cache)
        begun = self.uphill.init(params) if self.resets else s.adv_state
        after = SamState((s.t + 1) % self.period, select(last, outer, s.opt_state), select(last, begun, uphill), cache)
        return updates, after


# -- hyperparameters in the state --------------------------------------------------------------------------------------


class InjectState(NamedTuple):
    t: Any  #: steps taken
    hyperparams: dict[str, Any]  #: by name; write here to change one between steps
    inner_state: Tree


def inject_hyperparams(
    inner_factory: Callable[..., Optimizer], static_args: str | Iterable[str] = (), hyperparam_dtype: DType = np.float64
) -> Callable[..., Optimizer]:
    """``inner_factory`` whose numbers stand in the state: change ``state.hyperparams["learning_rate"]`` between steps.

    Nothing compiles again.  Functions of the step are evaluated each step and seen there, too.  ``static_args`` names
    arguments that stay as they are; so do bools, strings, None, and whole numbers whose default is one.

    >>> import gradc as gc, numpy as np
    >>> optimizer = gc.optim.inject_hyperparams(gc.optim.sgd)(learning_rate=0.5)
    >>> state = optimizer.init(np.ones(2))
    >>> state.hyperparams["learning_rate"][...] = 0.25
    >>> optimizer.update(np.ones(2), state)[0]
    array([-0.25, -0.25])
    """
    signature = inspect.signature(inner_factory)
    static = {static_args} if isinstance(static_args, str) else set(static_args)
    if unknown := static - set(signature.parameters):
        known = ", ".join(signature.parameters)
        raise ValueError(f"{here()}: static_args: no argument {', '.join(sorted(unknown))}; there are {known}")
    return partial(_injected, inner_factory, frozenset(static), hyperparam_dtype)


def _injected(factory: Callable[..., Optimizer], static: frozenset[str], dtype: DType, *args: Any, **more: Any) -> Any:
    signature = inspect.signature(factory)
    try:
        bound = signature.bind(*args, **more)
    except TypeError as error:
        raise TypeError(f"{here()}: {getattr(factory, '__name__', 'the factory')}: {error}") from None
    bound.apply_defaults()
    numbers, schedules, fixed = {}, {}, {}
    for name, value in bound.arguments.items():
        whole = isinstance(value, int) and type(signature.parameters[name].default) is int
        if name in static or whole or isinstance(value, bool):
            fixed[name] = value
        elif callable(value):
            schedules[name] = value
        elif isinstance(value, (int, float, np.number, np.ndarray)):
            numbers[name] = value
        else:
            fixed[name] = value
    made = Injected(factory, fixed, numbers, schedules, dtype)
    name = f"inject_hyperparams({getattr(factory, '__name__', '…')})"
    return Optimizer(made.init, made.update).made_by(name, *args, **more)


@dataclass(frozen=True, eq=False)
class Injected:
    """What `inject_hyperparams` was told."""

    factory: Callable[..., Optimizer]
    fixed: Mapping[str, Any]
    numbers: Mapping[str, Any]
    schedules: Mapping[str, Callable[[Any], Any]]
    dtype: DType

    def init(self, params: Tree) -> InjectState:
        """The state before the first step."""
        numbers = {name: np.array(value, self.dtype) for name, value in self.numbers.items()}
        first = {name: np.array(float(f(np.int64(0))), self.dtype) for name, f in self.schedules.items()}
        given = {name: value.item() for name, value in (numbers | first).items()}
        return InjectState(counter(), numbers | first, self.factory(**self.fixed, **given).init(params))

    def update(self, grads: Tree, state: Tree, params: Tree = None, **extra: Any) -> tuple[Tree, InjectState]:
        """One step."""
        s: InjectState = opened(state, InjectState, "inject_hyperparams")
        names = set(self.numbers) | set(self.schedules)
        given: Any = s.hyperparams
        if not isinstance(given, dict) or set(given) != names:
            raise ValueError(f"{here()}: hyperparams of the state are {', '.join(sorted(names))}, got "
                             f"{s.hyperparams!r:.80}")  # fmt: skip
        values = dict(s.hyperparams) | {
            name: gnp.astype(gnp.asarray(f(s.t)), self.dtype) for name, f in self.schedules.items()
        }
        inner = self.factory(**self.fixed, **{name: number(value) for name, value in values.items()})
        updates, after = updated(inner, grads, s.inner_state, params, extra)
        return updates, InjectState(s.t + 1, values, after)


# -- reduced where it no longer helps ----------------------------------------------------------------------------------


class PlateauState(NamedTuple):
    scale: Any  #: what updates are multiplied by
    best_value: Any
    plateau_count: Any  #: means in a row that were not better
    cooldown_count: Any  #: means left in which nothing is counted
    count: Any  #: values in the mean so far
    avg_value: Any  #: their mean


@called
def reduce_on_plateau(
    factor: float = 0.1,
    patience: int = 10,
    rtol: float = 1e-4,
    atol: float = 0.0,
    cooldown: int = 0,
    accumulation_size: int = 1,
    min_scale: float = 0.0,
) -> Optimizer:
    """Updates times a scale that shrinks by ``factor`` where ``value`` has not got better ``patience`` times in a row.

    Better: below (1 − rtol)·best − atol.  Wants ``value``, the loss, which gc.train_step gives; means of
    ``accumulation_size`` values are compared.  After each reduction ``cooldown`` of those are not counted.
    """
    if not 0 < factor < 1:
        raise ValueError(f"{here()}: factor lies between 0 and 1, got {factor!r}")
    if not (0 <= rtol <= 1 and atol >= 0 and (rtol or atol)):
        raise ValueError(f"{here()}: rtol lies between 0 and 1, atol is not negative, and one of them is above 0; "
                         f"got rtol={rtol!r}, atol={atol!r}")  # fmt: skip
    _at_least_one("patience", patience)
    _at_least_one("accumulation_size", accumulation_size)
    start = {
        "scale": partial(scalar, 1.0), "best_value": partial(scalar, np.inf), "avg_value": partial(scalar, 0.0),
        "plateau_count": _counter, "cooldown_count": _counter, "count": _counter,
    }  # fmt: skip
    return rule(
        _plateau, PlateauState, whole=True, wants=("value",), start=start, factor=factor, patience=patience, rtol=rtol,
        atol=atol, cooldown=cooldown, size=accumulation_size, min_scale=min_scale,
    )  # fmt: skip


def _counter(params: Tree) -> Any:
    return counter()


def _plateau(
    g: Tree, p: Tree, s: PlateauState, factor: Any, patience: Any, rtol: Any, atol: Any, cooldown: Any, size: Any,
    min_scale: Any, value: Any,
) -> tuple[Tree, PlateauState]:  # fmt: skip
    count = s.count + 1
    mean = s.avg_value + (value - s.avg_value) / count
    compared = count == size
    better = mean < (1 - rtol) * s.best_value - atol
    resting = s.cooldown_count > 0
    worse = gnp.where(better | resting, 0, s.plateau_count + 1)
    reduced = worse == patience
    scale = gnp.where(reduced, gnp.maximum(s.scale * factor, min_scale), s.scale)
    rest = gnp.where(resting, s.cooldown_count - 1, gnp.where(reduced, cooldown, 0))
    after = PlateauState(
        gnp.where(compared, scale, s.scale),
        gnp.where(compared & better, mean, s.best_value),
        gnp.where(compared, gnp.where(reduced, 0, worse), s.plateau_count),
        gnp.where(compared, rest, s.cooldown_count),
        gnp.where(compared, 0, count),
        gnp.where(compared, 0.0, mean),
    )
    by = number(after.scale)
    note_scale(by)
    return tree_map(lambda g: g * by, g), after


__all__ = [
    "MultiSteps", "apply_every", "apply_if_finite", "averaged_params", "conditionally_mask", "conditionally_transform",
    "has_updated", "inject_hyperparams", "lookahead", "multi_steps", "params_ema", "reduce_on_plateau", "sam",
    "skip_not_finite", "swa_decay",
]  # fmt: skip
