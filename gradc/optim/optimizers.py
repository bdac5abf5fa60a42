"""Optimizers by name: chains of the transformations beside this file, under optax's names and arguments.

Start reading at `sgd` and `adam`; each name says of which rules it is the chain, and those stand in `descent`,
`adaptive` and `layerwise`.  ``state_dtype`` keeps the moments in that dtype between steps.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import gradc.numpy as gnp
from gradc.containers import tree_map
from gradc.node import here
from gradc.optim.adaptive import (
    scale_by_adadelta,
    scale_by_adam,
    scale_by_adamax,
    scale_by_adan,
    scale_by_amsgrad,
    scale_by_belief,
    scale_by_lion,
    scale_by_nadam_schedule,
    scale_by_radam,
    scale_by_rms,
    scale_by_rss,
    scale_by_stddev,
    scale_by_yogi,
)
from gradc.optim.clipping import add_decayed_weights, clip_by_block_rms
from gradc.optim.descent import (
    ema,
    scale_by_asgd,
    scale_by_look_ahead,
    scale_by_optimistic_gradient,
    scale_by_quickprop,
    scale_by_rprop,
    trace,
)
from gradc.optim.layerwise import (
    NEWTON_SCHULZ,
    scale_by_factored_rms,
    scale_by_muon,
    scale_by_novograd,
    scale_by_param_block_rms,
    scale_by_shape,
    scale_by_sm3,
    scale_by_trust_ratio,
)
from gradc.optim.masking import Mask, masked, partition
from gradc.optim.rules import DType, Optimizer, Scalar, Schedule, Tree, called, given_as, is_zero
from gradc.optim.transforms import chain, scale, scale_by_learning_rate, scale_by_sign, with_state_dtype

# -- along a running sum -----------------------------------------------------------------------------------------------


@called
def sgd(
    learning_rate: Schedule,
    momentum: Scalar | None = None,
    nesterov: bool = False,
    accumulator_dtype: DType = None,
    *,
    dampening: Scalar = 0.0,
    average: bool = False,
) -> Optimizer:
    """Stochastic gradient descent: p ← p − lr·g, optionally with (Nesterov) momentum (Robbins & Monro 1951).

    Momentum is the heavy ball m ← momentum·m + g; with ``average`` the running mean m ← momentum·m + (1 − momentum)·g.
    ``dampening`` is PyTorch's, see `trace`.
    """
    if momentum is None:
        return chain(scale_by_learning_rate(learning_rate))
    if average:
        if nesterov:
            raise ValueError(f"{here()}: nesterov momentum is a running sum: leave out average=True")
        along = ema(momentum, False, accumulator_dtype)
    else:
        along = trace(momentum, nesterov, accumulator_dtype, dampening=dampening)
    return chain(given_as(along, decay="momentum"), scale_by_learning_rate(learning_rate))


@called
def momentum(learning_rate: Schedule, decay: Scalar = 0.9, nesterov: bool = False) -> Optimizer:
    """`sgd` with momentum ``decay``."""
    return chain(trace(decay, nesterov), scale_by_learning_rate(learning_rate))


@called
def nesterov(learning_rate: Schedule, momentum: Scalar = 0.9) -> Optimizer:
    """Nesterov's method in its look-ahead form: g = ∇f(p − η·β·m), m ← β·m + g, p ← p − η·m (Nesterov 1983).

    Takes the gradient at the point ahead from ``grad_fn(params)``, which gc.train_step gives.  ``sgd(…,
    nesterov=True)`` walks the same way, one look ahead: its parameters are these points.
    """
    return scale_by_look_ahead(learning_rate, momentum)


@called
def sign_sgd(learning_rate: Schedule) -> Optimizer:
    """p ← p − lr·sign(g) (Bernstein et al. 2018)."""
    return chain(scale_by_sign(), scale_by_learning_rate(learning_rate))


@called
def signum(learning_rate: Schedule, beta: Scalar = 0.9, accumulator_dtype: DType = None) -> Optimizer:
    """p ← p − lr·sign(m) with the running mean m of gradients (Bernstein et al. 2018)."""
    along = given_as(ema(beta, False, accumulator_dtype), decay="beta")
    return chain(along, scale_by_sign(), scale_by_learning_rate(learning_rate))


@called
def optimistic_gradient_descent(learning_rate: Schedule, alpha: Scalar = 1.0, beta: Scalar = 1.0) -> Optimizer:
    """p ← p − lr·((α + β)·gₜ − β·gₜ₋₁), for games and saddle points (Mokhtari et al. 2020)."""
    return chain(scale_by_optimistic_gradient(alpha, beta), scale_by_learning_rate(learning_rate))


@called
def rprop(
    learning_rate: float,
    eta_minus: Scalar = 0.5,
    eta_plus: Scalar = 1.2,
    min_step_size: Scalar = 1e-6,
    max_step_size: Scalar = 50.0,
) -> Optimizer:
    """Resilient propagation: steps whose sizes follow the signs of gradients (Riedmiller & Braun 1993)."""
    return chain(scale_by_rprop(learning_rate, eta_minus, eta_plus, min_step_size, max_step_size), scale(-1.0))


@called
def quickprop(learning_rate: Schedule, mu: Scalar = 1.75) -> Optimizer:
    """To the minimum of the parabola through the last two slopes of each element (Fahlman 1988)."""
    return scale_by_quickprop(learning_rate, mu)


@called
def asgd(
    learning_rate: Schedule = 1e-2,
    lambd: Scalar = 1e-4,
    alpha: Scalar = 0.75,
    t0: Scalar = 1e6,
    weight_decay: Scalar = 0.0,
) -> Optimizer:
    """Averaged stochastic gradient descent, as PyTorch has it (Polyak & Juditsky 1992); see `averaged_params`."""
    return scale_by_asgd(learning_rate, lambd, alpha, t0, weight_decay)


# -- over the size of gradients ----------------------------------------------------------------------------------------


@called
def adagrad(
    learning_rate: Schedule,
    initial_accumulator_value: float = 0.1,
    eps: Scalar = 1e-7,
    *,
    eps_in_sqrt: bool = True,
    lr_decay: Scalar = 0.0,
    state_dtype: DType = None,
) -> Optimizer:
    """p ← p − lr·g/√(Σ g² + ε) (Duchi, Hazan & Singer 2011).

    PyTorch's: ``initial_accumulator_value=0, eps=1e-10, eps_in_sqrt=False``, and lr/(1 + t·lr_decay) at t = 0, 1, …
    """
    rate = learning_rate
    if not is_zero(lr_decay):
        if callable(lr_decay) or callable(learning_rate):
            raise ValueError(f"{here()}: lr_decay is a number, and for a learning rate that is one")
        rate = partial(_decaying, learning_rate, lr_decay)
    made = chain(scale_by_rss(initial_accumulator_value, eps, eps_in_sqrt), scale_by_learning_rate(rate))
    return with_state_dtype(made, state_dtype)


def _decaying(learning_rate: float, lr_decay: float, count: Any) -> Any:
    return learning_rate / (1 + count * lr_decay)


@called
def adadelta(
    learning_rate: Schedule = 1.0,
    rho: Scalar = 0.9,
    eps: Scalar = 1e-6,
    weight_decay: Scalar = 0.0,
    weight_decay_mask: Mask = None,
    *,
    state_dtype: DType = None,
) -> Optimizer:
    """p ← p − lr·g·√(d + ε)/√(v + ε) with running means of g² and of squared updates (Zeiler 2012).

    ``weight_decay`` is added to the gradient.
    """
    made = chain(
        add_decayed_weights(weight_decay, weight_decay_mask), scale_by_adadelta(rho, eps),
        scale_by_learning_rate(learning_rate),
    )  # fmt: skip
    return with_state_dtype(made, state_dtype)


@called
def rmsprop(
    learning_rate: Schedule,
    decay: Scalar = 0.9,
    eps: Scalar = 1e-8,
    initial_scale: float = 0.0,
    eps_in_sqrt: bool = True,
    centered: bool = False,
    momentum: Scalar | None = None,
    nesterov: bool = False,
    bias_correction: bool = False,
    *,
    state_dtype: DType = None,
) -> Optimizer:
    """p ← p − lr·g/√(v + ε) with the running mean v of g² (Tieleman & Hinton 2012).

    ``eps_in_sqrt=False``: g/(√v + ε), PyTorch's and Keras's form; ``centered``: v − m² in place of v.  ``momentum``
    sums what is left after the learning rate.
    """
    by = scale_by_stddev if centered else scale_by_rms
    made = [by(decay, eps, initial_scale, eps_in_sqrt, bias_correction), scale_by_learning_rate(learning_rate)]
    if momentum is not None:
        made.append(given_as(trace(momentum, nesterov), decay="momentum"))
    return with_state_dtype(chain(*made), state_dtype)


@called
def adam(
    learning_rate: Schedule,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    mu_dtype: DType = None,
    *,
    nesterov: bool = False,
    state_dtype: DType = None,
) -> Optimizer:
    """Adam (Kingma & Ba 2015): p ← p − lr·m̂/(√v̂ + ε)."""
    made = chain(
        scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov), scale_by_learning_rate(learning_rate)
    )
    return with_state_dtype(made, state_dtype)


@called
def adamw(
    learning_rate: Schedule,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    mu_dtype: DType = None,
    weight_decay: Scalar = 1e-4,
    mask: Mask = None,
    *,
    nesterov: bool = False,
    state_dtype: DType = None,
) -> Optimizer:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019); ``mask`` selects the decayed leaves."""
    made = chain(
        scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )
    return with_state_dtype(made, state_dtype)


@called
def nadam(
    learning_rate: Schedule,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    mu_dtype: DType = None,
    *,
    momentum_decay: Scalar | None = None,
    state_dtype: DType = None,
) -> Optimizer:
    """Adam with Nesterov momentum (Dozat 2016).

    ``momentum_decay=4e-3`` is PyTorch's form, with Dozat's schedule for b1; ``eps_root`` has no part in it.
    """
    if momentum_decay is None:
        return adam(learning_rate, b1, b2, eps, eps_root, mu_dtype, nesterov=True, state_dtype=state_dtype)
    scaled = scale_by_nadam_schedule(b1, b2, eps, momentum_decay, mu_dtype)
    return with_state_dtype(chain(scaled, scale_by_learning_rate(learning_rate)), state_dtype)


@called
def nadamw(
    learning_rate: Schedule,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    mu_dtype: DType = None,
    weight_decay: Scalar = 1e-4,
    mask: Mask = None,
    *,
    momentum_decay: Scalar | None = None,
    state_dtype: DType = None,
) -> Optimizer:
    """`nadam` with decoupled weight decay; ``mask`` selects the decayed leaves."""
    if momentum_decay is None:
        scaled = scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nesterov=True)
    else:
        scaled = scale_by_nadam_schedule(b1, b2, eps, momentum_decay, mu_dtype)
    made = chain(scaled, add_decayed_weights(weight_decay, mask), scale_by_learning_rate(learning_rate))
    return with_state_dtype(made, state_dtype)


@called
def amsgrad(
    learning_rate: Schedule,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    mu_dtype: DType = None,
    bias_correction_mu: bool = True,
    bias_correction_nu: bool | str = True,
    *,
    state_dtype: DType = None,
) -> Optimizer:
    """Adam over the largest second moment so far (Reddi, Kale & Kumar 2018).

    ``bias_correction_nu="after"`` is PyTorch's form, see `scale_by_amsgrad`.
    """
    scaled = scale_by_amsgrad(b1, b2, eps, eps_root, mu_dtype, bias_correction_mu, bias_correction_nu)
    return with_state_dtype(chain(scaled, scale_by_learning_rate(learning_rate)), state_dtype)


@called
def adamax(
    learning_rate: Schedule,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    *,
    state_dtype: DType = None,
) -> Optimizer:
    """Adam in the infinity norm (Kingma & Ba 2015, algorithm 2)."""
    made = chain(scale_by_adamax(b1, b2, eps), scale_by_learning_rate(learning_rate))
    return with_state_dtype(made, state_dtype)


@called
def adamaxw(
    learning_rate: Schedule,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    weight_decay: Scalar = 1e-4,
    mask: Mask = None,
    *,
    state_dtype: DType = None,
) -> Optimizer:
    """`adamax` with decoupled weight decay; ``mask`` selects the decayed leaves."""
    made = chain(
        scale_by_adamax(b1, b2, eps), add_decayed_weights(weight_decay, mask), scale_by_learning_rate(learning_rate)
    )
    return with_state_dtype(made, state_dtype)


@called
def radam(
    learning_rate: Schedule,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    threshold: Scalar = 5.0,
    *,
    nesterov: bool = False,
    state_dtype: DType = None,
) -> Optimizer:
    """Adam with a rectified adaptive rate (Liu et al. 2020).

    PyTorch divides by √v + ε before it corrects v: the same for ε = 0.
    """
    scaled = scale_by_radam(b1, b2, eps, eps_root, threshold, nesterov=nesterov)
    return with_state_dtype(chain(scaled, scale_by_learning_rate(learning_rate)), state_dtype)


@called
def adabelief(
    learning_rate: Schedule,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-16,
    eps_root: Scalar = 1e-16,
    *,
    nesterov: bool = False,
    state_dtype: DType = None,
) -> Optimizer:
    """Adam over the running mean of (g − m)² (Zhuang et al. 2020)."""
    scaled = scale_by_belief(b1, b2, eps, eps_root, nesterov=nesterov)
    return with_state_dtype(chain(scaled, scale_by_learning_rate(learning_rate)), state_dtype)


@called
def yogi(
    learning_rate: Schedule,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-3,
    *,
    state_dtype: DType = None,
) -> Optimizer:
    """Adam whose second moment changes slowly in both directions (Zaheer et al. 2018)."""
    return with_state_dtype(chain(scale_by_yogi(b1, b2, eps), scale_by_learning_rate(learning_rate)), state_dtype)


@called
def lion(
    learning_rate: Schedule,
    b1: Scalar = 0.9,
    b2: Scalar = 0.99,
    mu_dtype: DType = None,
    weight_decay: Scalar = 1e-3,
    mask: Mask = None,
) -> Optimizer:
    """p ← p − lr·(sign(b1·m + (1 − b1)·g) + weight_decay·p) (Chen et al. 2023)."""
    return chain(
        scale_by_lion(b1, b2, mu_dtype), add_decayed_weights(weight_decay, mask), scale_by_learning_rate(learning_rate)
    )


@called
def adan(
    learning_rate: Schedule,
    b1: Scalar = 0.98,
    b2: Scalar = 0.92,
    b3: Scalar = 0.99,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 1e-8,
    weight_decay: Scalar = 0.0,
    mask: Mask = None,
    *,
    state_dtype: DType = None,
) -> Optimizer:
    """Adam with Nesterov momentum from differences of gradients (Xie et al. 2022)."""
    made = chain(
        scale_by_adan(b1, b2, b3, eps, eps_root), add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )  # fmt: skip
    return with_state_dtype(made, state_dtype)


# -- layer by layer ----------------------------------------------------------------------------------------------------


@called
def novograd(
    learning_rate: Schedule,
    b1: Scalar = 0.9,
    b2: Scalar = 0.25,
    eps: Scalar = 1e-6,
    eps_root: Scalar = 0.0,
    weight_decay: Scalar = 0.0,
) -> Optimizer:
    """Momentum of gradients that are normalised layer by layer (Ginsburg et al. 2019)."""
    return chain(scale_by_novograd(b1, b2, eps, eps_root, weight_decay), scale_by_learning_rate(learning_rate))


@called
def lars(
    learning_rate: Schedule,
    weight_decay: Scalar = 0.0,
    weight_decay_mask: Mask = True,
    trust_coefficient: Scalar = 0.001,
    eps: Scalar = 0.0,
    trust_ratio_mask: Mask = True,
    momentum: Scalar = 0.9,
    nesterov: bool = False,
) -> Optimizer:
    """Momentum of steps as long as trust_coefficient·‖p‖ layer by layer, for large batches (You et al. 2017)."""
    return chain(
        add_decayed_weights(weight_decay, weight_decay_mask),
        masked(scale_by_trust_ratio(trust_coefficient=trust_coefficient, eps=eps), trust_ratio_mask),
        scale_by_learning_rate(learning_rate),
        given_as(trace(momentum, nesterov), decay="momentum"),
    )


@called
def lamb(
    learning_rate: Schedule,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-6,
    eps_root: Scalar = 0.0,
    weight_decay: Scalar = 0.0,
    mask: Mask = None,
    *,
    state_dtype: DType = None,
) -> Optimizer:
    """Adam's steps made as long as ‖p‖ layer by layer, for large batches (You et al. 2020)."""
    made = chain(
        scale_by_adam(b1, b2, eps, eps_root), add_decayed_weights(weight_decay, mask), scale_by_trust_ratio(),
        scale_by_learning_rate(learning_rate),
    )  # fmt: skip
    return with_state_dtype(made, state_dtype)


@called
def fromage(learning_rate: Schedule, min_norm: Scalar = 1e-6) -> Optimizer:
    """p ← (p − lr·g·‖p‖/‖g‖)/√(1 + lr²) (Bernstein et al. 2020)."""
    if callable(learning_rate):
        rate: Any = partial(_fromage_rate, learning_rate)
        shrink: Any = partial(_fromage_shrink, learning_rate)
    else:
        by = 1 / (1 + learning_rate**2) ** 0.5
        rate, shrink = learning_rate * by, by - 1
    return chain(scale_by_trust_ratio(min_norm), scale_by_learning_rate(rate), add_decayed_weights(shrink))


def _fromage_rate(learning_rate: Any, count: Any) -> Any:
    return learning_rate(count) / (1 + learning_rate(count) ** 2) ** 0.5


def _fromage_shrink(learning_rate: Any, count: Any) -> Any:
    return 1 / (1 + learning_rate(count) ** 2) ** 0.5 - 1


@called
def sm3(learning_rate: Schedule, momentum: Scalar = 0.9) -> Optimizer:
    """AdaGrad with sums for rows and columns alone (Anil et al. 2019)."""
    return chain(scale_by_sm3(momentum), scale_by_learning_rate(learning_rate))


@called
def adafactor(
    learning_rate: Schedule | None = None,
    min_dim_size_to_factor: int = 128,
    decay_rate: Scalar = 0.8,
    decay_offset: int = 0,
    multiply_by_parameter_scale: bool = True,
    clipping_threshold: Scalar | None = 1.0,
    momentum: Scalar | None = None,
    dtype_momentum: DType = None,
    weight_decay_rate: Scalar | None = None,
    eps: Scalar = 1e-30,
    factored: bool = True,
    weight_decay_mask: Mask = None,
) -> Optimizer:
    """Adam without first moment, whose second moment is a product of rows and columns (Shazeer & Stern 2018).

    Without a ``learning_rate`` a step is as long as the root mean square of its parameter.
    """
    parts = [scale_by_factored_rms(factored, decay_rate, decay_offset, min_dim_size_to_factor, eps)]
    if clipping_threshold is not None:
        parts.append(clip_by_block_rms(clipping_threshold))
    if learning_rate is not None:
        parts.append(scale_by_learning_rate(learning_rate, flip_sign=False))
    if multiply_by_parameter_scale:
        parts.append(scale_by_param_block_rms())
    if momentum is not None:
        parts.append(given_as(ema(momentum, False, dtype_momentum), decay="momentum"))
    if weight_decay_rate is not None:
        parts.append(add_decayed_weights(weight_decay_rate, weight_decay_mask))
    return chain(*parts, scale(-1.0))


@called
def muon(
    learning_rate: Schedule,
    ns_coeffs: tuple[float, float, float] = NEWTON_SCHULZ,
    ns_steps: int = 5,
    beta: Scalar = 0.95,
    eps: Scalar = 1e-8,
    weight_decay: Scalar = 0.0,
    weight_decay_mask: Mask = None,
    mu_dtype: DType = None,
    *,
    nesterov: bool = True,
    adaptive: bool = False,
    adam_b1: Scalar = 0.9,
    adam_b2: Scalar = 0.999,
    adam_eps_root: Scalar = 0.0,
    adam_weight_decay: Scalar = 0.0,
    adam_learning_rate: Schedule | None = None,
    consistent_rms: float | None = None,
) -> Optimizer:
    """Momentum with all singular values near 1 for matrices, AdamW for the other parameters (Jordan et al. 2024).

    See `scale_by_muon` and `scale_by_shape`.
    """
    matrices = chain(
        scale_by_muon(ns_coeffs, ns_steps, beta, eps, mu_dtype, nesterov=nesterov, adaptive=adaptive),
        scale_by_shape(consistent_rms),
        add_decayed_weights(weight_decay, weight_decay_mask),
        scale_by_learning_rate(learning_rate),
    )
    others = adamw(
        learning_rate if adam_learning_rate is None else adam_learning_rate, adam_b1, adam_b2, eps, adam_eps_root,
        mu_dtype, adam_weight_decay, nesterov=nesterov,
    )  # fmt: skip
    return partition({"muon": matrices, "adam": others}, _matrices)


def _matrices(params: Tree) -> Tree:
    return tree_map(lambda x: "muon" if gnp.ndim(x) == 2 else "adam", params)


__all__ = [
    "adabelief", "adadelta", "adafactor", "adagrad", "adam", "adamax", "adamaxw", "adamw", "adan", "amsgrad", "asgd",
    "fromage", "lamb", "lars", "lion", "momentum", "muon", "nadam", "nadamw", "nesterov", "novograd",
    "optimistic_gradient_descent", "quickprop", "radam", "rmsprop", "rprop", "sgd", "sign_sgd", "signum", "sm3", "yogi",
]  # fmt: skip
