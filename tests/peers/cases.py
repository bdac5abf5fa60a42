"""Optimizers beside their peers: one problem, and each optimizer as gradc, optax or PyTorch makes it.

Nothing of gradc or its peers is imported here: an entry is a function of the module that it is written for.
`optimizers.py` runs the peers and stores what they do; `tests/test_optim_peers.py` runs gradc.  Start reading at
`CASES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Params = dict[str, np.ndarray[Any, Any]]

STEPS = 50
#: the steps after which parameters are stored
STORED = (1, 2, 5, 20, 50)
SHAPES: Mapping[str, tuple[int, ...]] = {"b": (2,), "c": (), "k": (3, 4), "w": (3, 2)}
#: where a gradient has a NaN in the cases that are about them
NANS = (4, 5, 6, 7, 30)


def _numbers(seed: float, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """Numbers between −1 and 1 that look like noise and are the same everywhere."""
    return np.sin(seed + 12.9898 * np.arange(1.0, 1.0 + np.prod(shape, dtype=int)) ** 1.3).reshape(shape)


def start() -> Params:
    """The first parameters."""
    return {name: _numbers(i, shape) * 1.5 for i, (name, shape) in enumerate(SHAPES.items())}


def _parts(name: str) -> tuple[Any, Any]:
    """Curvature and minimum of each element."""
    i = list(SHAPES).index(name)
    return 1.0 + 0.8 * _numbers(10 + i, SHAPES[name]), _numbers(20 + i, SHAPES[name])


def value(params: Params) -> Any:
    """What is minimised: a parabola with ripples."""
    total = 0.0
    for name, p in params.items():
        a, least = _parts(name)
        total = total + np.sum(0.5 * a * (p - least) ** 2 - 0.1 * np.cos(3 * p))
    return total


def gradient(params: Params, step: int, nans: bool = False) -> Params:
    """Its gradient at step 0, 1, 2, …, with noise as of batches."""
    found = {}
    for i, (name, p) in enumerate(params.items()):
        a, least = _parts(name)
        noise = 0.5 * np.cos(0.7 * step + _numbers(30 + i, SHAPES[name]) * 9)
        found[name] = np.asarray(a * (p - least) + 0.3 * np.sin(3 * p) + noise)
    if nans and step in NANS:
        found["w"] = found["w"].copy()
        found["w"][1, 1] = np.nan
    return found


@dataclass(frozen=True)
class Case:
    """One optimizer, as gradc makes it and as a peer does."""

    ours: Callable[[Any], Any]  #: of gradc.optim
    optax: Callable[[Any], Any] | None = None  #: of the module
    torch: Callable[[Any], Any] | None = None  #: of the module and the parameters
    rtol: float = 1e-9
    nans: bool = False  #: whether some gradients have a NaN
    value: bool = False  #: whether the update is told the value

    @property
    def peer(self) -> str:
        return "optax" if self.optax is not None else "torch"


def _same(make: Callable[[Any], Any], **more: Any) -> Case:
    """A case that gradc and optax write in the same words."""
    return Case(make, optax=make, **more)


def _of_examples(grads: Any, params: Any) -> Any:
    """Gradients of three examples in place of one."""
    shares = np.array([1.0, -0.5, 2.0])
    return {k: g[None] * shares.reshape(3, *[1] * g.ndim) for k, g in grads.items()}


MASK = {"b": True, "c": False, "k": True, "w": False}
LABELS = {"b": "one", "c": "two", "k": "one", "w": "two"}
#: optax's SM3 takes no scalars
NO_SCALAR = {"b": "one", "c": "two", "k": "one", "w": "one"}
#: optax keeps some states in float32, whatever the parameters are
SINGLE = 1e-6

CASES: dict[str, Case] = {
    # -- optax, in the same words
    "sgd": _same(lambda o: o.sgd(0.05)),
    "sgd, momentum": _same(lambda o: o.sgd(0.05, 0.9)),
    "sgd, nesterov": _same(lambda o: o.sgd(0.05, 0.9, True)),
    "sgd, schedule": _same(lambda o: o.sgd(o.cosine_decay_schedule(0.1, 30), 0.9)),
    "sign_sgd": _same(lambda o: o.sign_sgd(0.01)),
    "signum": _same(lambda o: o.signum(0.01)),
    "optimistic_gradient_descent": _same(lambda o: o.optimistic_gradient_descent(0.05, 0.9, 0.5)),
    "adagrad": _same(lambda o: o.adagrad(0.2)),
    "adadelta": _same(lambda o: o.adadelta(1.0, weight_decay=0.1, weight_decay_mask=MASK)),
    "rmsprop": _same(lambda o: o.rmsprop(0.02)),
    "rmsprop, outside": _same(lambda o: o.rmsprop(0.02, eps=1e-3, eps_in_sqrt=False, bias_correction=True)),
    "rmsprop, centered": _same(lambda o: o.rmsprop(0.02, eps=1e-3, centered=True, initial_scale=0.5)),
    "rmsprop, centered, outside": _same(
        lambda o: o.rmsprop(0.02, eps=1e-3, centered=True, initial_scale=2.0, eps_in_sqrt=False)
    ),
    "rmsprop, momentum": _same(lambda o: o.rmsprop(0.02, momentum=0.8, nesterov=True)),
    "adam": _same(lambda o: o.adam(0.05)),
    "adam, eps_root": _same(lambda o: o.adam(0.05, 0.8, 0.95, 1e-3, 1e-4)),
    "adam, schedule": _same(lambda o: o.adam(o.linear_schedule(0.1, 0.01, 30, 5))),
    "adamw": _same(lambda o: o.adamw(0.05, weight_decay=0.1)),
    "adamw, mask": _same(lambda o: o.adamw(0.05, weight_decay=0.1, mask=MASK)),
    "adamw, nesterov": _same(lambda o: o.adamw(0.05, weight_decay=0.1, nesterov=True)),
    "nadam": _same(lambda o: o.nadam(0.05)),
    "nadamw": _same(lambda o: o.nadamw(0.05, weight_decay=0.1)),
    "amsgrad": _same(lambda o: o.amsgrad(0.05, b2=0.9)),
    "amsgrad, raw": _same(lambda o: o.amsgrad(0.05, b2=0.9, bias_correction_mu=False, bias_correction_nu=False)),
    "adamax": _same(lambda o: o.adamax(0.05)),
    "adamaxw": _same(lambda o: o.adamaxw(0.05, weight_decay=0.1)),
    "radam": _same(lambda o: o.radam(0.05)),
    "radam, nesterov": _same(lambda o: o.radam(0.05, b2=0.9, threshold=6.0, nesterov=True)),
    "adabelief": _same(lambda o: o.adabelief(0.05)),
    "adabelief, nesterov": _same(lambda o: o.adabelief(0.05, eps_root=1e-8, nesterov=True)),
    "yogi": _same(lambda o: o.yogi(0.05)),
    "lion": _same(lambda o: o.lion(0.01)),
    "adan": _same(lambda o: o.adan(0.05, weight_decay=0.1)),
    "novograd": _same(lambda o: o.novograd(0.05, weight_decay=0.1)),
    "fromage": _same(lambda o: o.fromage(0.02)),
    "fromage, schedule": _same(lambda o: o.fromage(o.exponential_decay(0.05, 10, 0.5))),
    "lars": _same(lambda o: o.lars(0.5, 0.1, trust_coefficient=0.1, eps=1e-6)),
    "lars, mask": _same(lambda o: o.lars(0.5, 0.1, MASK, 0.1, trust_ratio_mask=MASK, nesterov=True)),
    "lamb": _same(lambda o: o.lamb(0.02, weight_decay=0.1)),
    "sm3": _same(lambda o: o.partition({"one": o.sm3(0.1), "two": o.sgd(0.1)}, NO_SCALAR)),
    "adafactor": _same(lambda o: o.adafactor(0.05, min_dim_size_to_factor=3)),
    "adafactor, plain": _same(
        lambda o: o.adafactor(
            0.05,
            momentum=0.9,
            dtype_momentum=np.float64,
            weight_decay_rate=0.01,
            multiply_by_parameter_scale=False,
            clipping_threshold=None,
        )
    ),
    "adafactor, offset": _same(lambda o: o.adafactor(0.05, min_dim_size_to_factor=3, decay_offset=-6)),
    "adafactor, no rate": _same(lambda o: o.adafactor(min_dim_size_to_factor=2)),
    "polyak_sgd": _same(lambda o: o.polyak_sgd(0.1, f_min=-3.0, eps=1e-3), value=True),
    "noisy_sgd": _same(lambda o: o.noisy_sgd(0.05, key=3)),
    "add_noise": _same(lambda o: o.chain(o.add_noise(0.5, 0.9, 7), o.adam(0.05))),
    "scale_by_lbfgs": _same(lambda o: o.chain(o.scale_by_lbfgs(3), o.scale(-0.2))),
    "lbfgs": Case(
        lambda o: o.lbfgs(0.05, 4, False, linesearch=False), optax=lambda o: o.lbfgs(0.05, 4, False, linesearch=None)
    ),
    # -- what stands beside a root: with its usual size it is lost in rounding
    "adagrad, large eps": _same(lambda o: o.adagrad(0.2, eps=0.3)),
    "adadelta, large eps": _same(lambda o: o.adadelta(1.0, 0.8, 0.02)),
    "nadam, large eps": _same(lambda o: o.nadam(0.05, 0.8, 0.95, 0.2, 0.01)),
    "amsgrad, large eps": _same(lambda o: o.amsgrad(0.05, 0.8, 0.95, 0.2, 0.03)),
    "adamax, large eps": _same(lambda o: o.adamax(0.05, 0.8, 0.9, 0.2)),
    "radam, large eps": _same(lambda o: o.radam(0.05, 0.8, 0.95, 0.2, 0.03)),
    "adabelief, large eps": _same(lambda o: o.adabelief(0.05, 0.8, 0.95, 0.2, 0.03)),
    "yogi, large eps": _same(lambda o: o.yogi(0.05, 0.8, 0.95, 0.2)),
    "adan, large eps": _same(lambda o: o.adan(0.05, 0.9, 0.8, 0.95, 0.2, 0.03)),
    "novograd, large eps": _same(lambda o: o.novograd(0.05, 0.8, 0.5, 0.2, 0.03, 0.1)),
    "lamb, large eps": _same(lambda o: o.lamb(0.02, 0.8, 0.95, 0.2, 0.03)),
    "lars, large eps": _same(lambda o: o.lars(0.5, 0.1, trust_coefficient=0.1, eps=0.2)),
    "sm3, large eps": _same(
        lambda o: o.partition(
            {"one": o.chain(o.scale_by_sm3(0.8, 0.9, 0.2), o.scale(-0.1)), "two": o.sgd(0.1)}, NO_SCALAR
        )
    ),
    "prodigy, large eps": Case(
        lambda o: o.prodigy(1.0, (0.8, 0.95), eps=0.2, estim_lr0=0.1, weight_decay=0.1),
        optax=lambda o: o.contrib.prodigy(1.0, (0.8, 0.95), eps=0.2, estim_lr0=0.1, weight_decay=0.1),
    ),
    "dadapt_adamw, large eps": Case(
        lambda o: o.dadapt_adamw(1.0, (0.8, 0.95), eps=0.2, estim_lr0=0.1, weight_decay=0.1),
        optax=lambda o: o.contrib.dadapt_adamw(1.0, (0.8, 0.95), eps=0.2, estim_lr0=0.1, weight_decay=0.1),
    ),
    "muon, large eps": Case(lambda o: o.muon(0.05, eps=0.2), optax=lambda o: o.contrib.muon(0.05, eps=0.2)),
    # -- optax.contrib
    "differentially_private_aggregate": Case(
        lambda o: o.chain(o.stateless(_of_examples), o.differentially_private_aggregate(0.7, 0.3, 5), o.sgd(0.1)),
        optax=lambda o: o.chain(
            o.stateless(_of_examples), o.contrib.differentially_private_aggregate(0.7, 0.3, 5), o.sgd(0.1)
        ),
    ),
    "muon": Case(lambda o: o.muon(0.05), optax=lambda o: o.contrib.muon(0.05)),
    "muon, adaptive": Case(
        lambda o: o.muon(0.05, weight_decay=0.1, nesterov=False, adaptive=True, ns_steps=3),
        optax=lambda o: o.contrib.muon(0.05, weight_decay=0.1, nesterov=False, adaptive=True, ns_steps=3),
    ),
    "muon, consistent_rms": Case(
        lambda o: o.muon(0.05, consistent_rms=0.2, adam_learning_rate=0.01),
        optax=lambda o: o.contrib.muon(0.05, consistent_rms=0.2, adam_learning_rate=0.01),
    ),
    "prodigy": Case(lambda o: o.prodigy(estim_lr0=0.01), optax=lambda o: o.contrib.prodigy(estim_lr0=0.01)),
    "prodigy, safeguard": Case(
        lambda o: o.prodigy(estim_lr0=0.01, weight_decay=0.1, safeguard_warmup=True),
        optax=lambda o: o.contrib.prodigy(estim_lr0=0.01, weight_decay=0.1, safeguard_warmup=True),
    ),
    "dadapt_adamw": Case(
        lambda o: o.dadapt_adamw(estim_lr0=0.01, weight_decay=0.1),
        optax=lambda o: o.contrib.dadapt_adamw(estim_lr0=0.01, weight_decay=0.1),
    ),
    "schedule_free_sgd": Case(
        lambda o: o.schedule_free_sgd(0.1, weight_decay=0.1),
        optax=lambda o: o.contrib.schedule_free_sgd(0.1, weight_decay=0.1),
    ),
    "schedule_free_adamw": Case(
        lambda o: o.schedule_free_adamw(0.05, warmup_steps=7),
        optax=lambda o: o.contrib.schedule_free_adamw(0.05, warmup_steps=7),
    ),
    "schedule_free": Case(
        lambda o: o.schedule_free(o.adam(0.05, 0.0), 0.05, 0.8, 1.0),
        optax=lambda o: o.contrib.schedule_free(o.adam(0.05, 0.0), 0.05, 0.8, 1.0),
    ),
    "sam": Case(
        lambda o: o.sam(o.sgd(0.05, 0.9), o.chain(o.normalize(), o.sgd(0.1)), 3),
        optax=lambda o: o.contrib.sam(o.sgd(0.05, 0.9), o.chain(o.contrib.normalize(), o.sgd(0.1)), 3),
    ),
    "sam, kept": Case(
        lambda o: o.sam(o.adam(0.05), o.sgd(0.1, 0.5), reset_state=False),
        optax=lambda o: o.contrib.sam(o.adam(0.05), o.sgd(0.1, 0.5), reset_state=False),
    ),
    "reduce_on_plateau": Case(
        lambda o: o.chain(o.sgd(0.3), o.reduce_on_plateau(0.5, 2, cooldown=3, min_scale=0.1)),
        optax=lambda o: o.chain(o.sgd(0.3), o.contrib.reduce_on_plateau(0.5, 2, cooldown=3, min_scale=0.1)),
        value=True,
    ),
    "reduce_on_plateau, means": Case(
        lambda o: o.chain(o.sgd(0.3), o.reduce_on_plateau(0.5, 1, rtol=0.0, atol=0.01, accumulation_size=3)),
        optax=lambda o: o.chain(
            o.sgd(0.3), o.contrib.reduce_on_plateau(0.5, 1, rtol=0.0, atol=0.01, accumulation_size=3)
        ),
        value=True,
    ),
    # -- transformations
    "trace": _same(lambda o: o.chain(o.trace(0.7, True), o.scale(-0.05))),
    "ema": _same(lambda o: o.chain(o.ema(0.9), o.scale(-0.05))),
    "ema, biased": _same(lambda o: o.chain(o.ema(0.9, False), o.scale(-0.05))),
    "scale_by_schedule": _same(lambda o: o.chain(o.scale_by_schedule(o.polynomial_schedule(0, -0.1, 2, 20)))),
    "scale_by_stddev, corrected": _same(
        lambda o: o.chain(o.scale_by_stddev(0.9, 1e-2, bias_correction=True), o.scale(-0.01))
    ),
    "scale_by_param_block_norm": _same(lambda o: o.chain(o.scale_by_param_block_norm(0.5), o.scale(-0.01))),
    "scale_by_param_block_rms": _same(lambda o: o.chain(o.scale_by_param_block_rms(0.5), o.scale(-0.01))),
    "scale_by_sm3, means": _same(
        lambda o: o.partition(
            {"one": o.chain(o.scale_by_sm3(0.5, 0.9, 1e-3), o.scale(-0.05)), "two": o.sgd(0.1)}, NO_SCALAR
        )
    ),
    "clip": _same(lambda o: o.chain(o.clip(0.3), o.sgd(0.1))),
    "clip_by_block_rms": _same(lambda o: o.chain(o.clip_by_block_rms(0.4), o.sgd(0.1))),
    "clip_by_global_norm": _same(lambda o: o.chain(o.clip_by_global_norm(1.0), o.sgd(0.1))),
    "adaptive_grad_clip": _same(lambda o: o.chain(o.adaptive_grad_clip(0.5), o.sgd(0.1))),
    "adaptive_grad_clip, axis": _same(lambda o: o.chain(o.masked(o.adaptive_grad_clip(0.5, axis=0), MASK), o.sgd(0.1))),
    "centralize": _same(lambda o: o.chain(o.centralize(), o.sgd(0.1))),
    "normalize_by_update_norm": _same(lambda o: o.chain(o.normalize_by_update_norm(0.5), o.sgd(0.1))),
    "add_decayed_weights": _same(lambda o: o.chain(o.add_decayed_weights(0.2, MASK), o.sgd(0.1, 0.9))),
    "add_decayed_weights, schedule": _same(
        lambda o: o.chain(o.add_decayed_weights(o.linear_schedule(0.5, 0.0, 20)), o.sgd(0.1))
    ),
    "keep_params_nonnegative": _same(lambda o: o.chain(o.sgd(0.1), o.keep_params_nonnegative())),
    "zero_nans": _same(lambda o: o.chain(o.zero_nans(), o.adam(0.05)), nans=True),
    # -- wrappers
    "named_chain": _same(lambda o: o.named_chain(("clip", o.clip(0.5)), ("adam", o.adam(0.05)))),
    "masked": _same(lambda o: o.chain(o.masked(o.scale_by_adam(), MASK), o.scale(-0.05))),
    "partition": _same(lambda o: o.partition({"one": o.adamw(0.05), "two": o.sgd(0.1, 0.9)}, LABELS)),
    "freeze": _same(lambda o: o.chain(o.adam(0.05), o.freeze(MASK))),
    "selective_transform": _same(lambda o: o.selective_transform(o.adamw(0.05), freeze_mask=MASK)),
    "apply_every": _same(lambda o: o.chain(o.sgd(0.05, 0.9), o.apply_every(4))),
    "MultiSteps": Case(
        lambda o: o.MultiSteps(o.adam(0.1), 4),
        optax=lambda o: o.MultiSteps(o.adam(0.1), 4).gradient_transformation(),
        rtol=SINGLE,  # it accumulates in float32
    ),
    "MultiSteps, sums": Case(
        lambda o: o.MultiSteps(o.sgd(0.02, 0.9), lambda n: 2 + n // 3, use_grad_mean=False),
        optax=lambda o: o.MultiSteps(
            o.sgd(0.02, 0.9), lambda n: 2 + n // 3, use_grad_mean=False, accumulator_dtype=np.float64
        ).gradient_transformation(),
    ),
    "MultiSteps, means": Case(
        lambda o: o.MultiSteps(o.adam(0.1), 3),
        optax=lambda o: o.MultiSteps(o.adam(0.1), 3, accumulator_dtype=np.float64).gradient_transformation(),
    ),
    "apply_if_finite": _same(lambda o: o.apply_if_finite(o.adam(0.05), 5), nans=True),
    "conditionally_transform": _same(
        lambda o: o.chain(o.conditionally_transform(o.scale_by_adam(), lambda t: t >= 10), o.scale(-0.05))
    ),
    "conditionally_mask": _same(lambda o: o.conditionally_mask(o.adam(0.05), lambda t: t % 3 != 1)),
    "inject_hyperparams": _same(
        lambda o: o.inject_hyperparams(o.adamw)(o.linear_schedule(0.1, 0.01, 30), b1=0.8, weight_decay=0.1)
    ),
    "lookahead": Case(
        lambda o: o.lookahead(o.sgd(0.05, 0.9), 5, 0.6), optax=lambda o: o.lookahead(o.sgd(0.05, 0.9), 5, 0.6)
    ),
    "lookahead, reset": Case(
        lambda o: o.lookahead(o.adam(0.05), 4, 0.5, True), optax=lambda o: o.lookahead(o.adam(0.05), 4, 0.5, True)
    ),
    # -- PyTorch
    "torch.SGD": Case(lambda o: o.sgd(0.05, 0.9, dampening=0.3), torch=lambda t, p: t.SGD(p, 0.05, 0.9, 0.3)),
    "torch.SGD, nesterov": Case(
        lambda o: o.chain(o.add_decayed_weights(0.1), o.sgd(0.05, 0.9, True)),
        torch=lambda t, p: t.SGD(p, 0.05, 0.9, weight_decay=0.1, nesterov=True),
    ),
    "torch.Adagrad": Case(
        lambda o: o.adagrad(0.2, 0.0, 1e-10, eps_in_sqrt=False, lr_decay=0.1),
        torch=lambda t, p: t.Adagrad(p, 0.2, 0.1),
    ),
    "torch.Adadelta": Case(
        lambda o: o.adadelta(0.5, weight_decay=0.1), torch=lambda t, p: t.Adadelta(p, 0.5, weight_decay=0.1)
    ),
    "torch.RMSprop": Case(
        lambda o: o.rmsprop(0.02, 0.95, 1e-3, eps_in_sqrt=False), torch=lambda t, p: t.RMSprop(p, 0.02, 0.95, 1e-3)
    ),
    "torch.RMSprop, centered": Case(
        lambda o: o.rmsprop(0.02, 0.95, 1e-3, eps_in_sqrt=False, centered=True, momentum=0.5),
        torch=lambda t, p: t.RMSprop(p, 0.02, 0.95, 1e-3, momentum=0.5, centered=True),
    ),
    "torch.Adam": Case(lambda o: o.adam(0.05), torch=lambda t, p: t.Adam(p, 0.05)),
    "torch.Adam, amsgrad": Case(
        lambda o: o.amsgrad(0.05, b2=0.9, bias_correction_nu="after"),
        torch=lambda t, p: t.Adam(p, 0.05, (0.9, 0.9), amsgrad=True),
    ),
    "torch.AdamW": Case(
        lambda o: o.adamw(0.05, weight_decay=0.1), torch=lambda t, p: t.AdamW(p, 0.05, weight_decay=0.1)
    ),
    "torch.Adamax": Case(lambda o: o.adamax(0.05), torch=lambda t, p: t.Adamax(p, 0.05)),
    "torch.NAdam": Case(lambda o: o.nadam(0.05, momentum_decay=4e-3), torch=lambda t, p: t.NAdam(p, 0.05)),
    "torch.NAdam, decoupled": Case(
        lambda o: o.nadamw(0.05, weight_decay=0.1, momentum_decay=0.01),
        torch=lambda t, p: t.NAdam(p, 0.05, weight_decay=0.1, momentum_decay=0.01, decoupled_weight_decay=True),
    ),
    "torch.RAdam": Case(lambda o: o.radam(0.05, eps=0.0), torch=lambda t, p: t.RAdam(p, 0.05, eps=0.0)),
    # optax's rprop takes each step one call later
    "torch.Rprop": Case(lambda o: o.rprop(0.05), torch=lambda t, p: t.Rprop(p, 0.05)),
    "torch.ASGD": Case(
        lambda o: o.asgd(0.1, 0.01, 0.6, 10.0, 0.1),
        torch=lambda t, p: t.ASGD(p, 0.1, 0.01, 0.6, 10.0, weight_decay=0.1),
    ),
}
