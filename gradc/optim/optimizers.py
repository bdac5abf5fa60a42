"""Optimizers: chains of the transformations in `gradc.optim.transforms`, under optax's names and arguments."""

from __future__ import annotations

from collections.abc import Callable

from gradc.optim.transforms import (
    Optimizer,
    Schedule,
    Tree,
    add_decayed_weights,
    chain,
    scale_by_adam,
    scale_by_learning_rate,
)
from gradc.optim.transforms import trace as momentum_trace


def sgd(learning_rate: Schedule, momentum: float | None = None, nesterov: bool = False) -> Optimizer:
    """Stochastic gradient descent: p ← p − lr·g, optionally with (Nesterov) momentum (Robbins & Monro 1951)."""
    if momentum is None:
        return chain(scale_by_learning_rate(learning_rate))
    return chain(momentum_trace(momentum, nesterov), scale_by_learning_rate(learning_rate))


def momentum(learning_rate: Schedule, decay: float = 0.9, nesterov: bool = False) -> Optimizer:
    """`sgd` with momentum ``decay``."""
    return sgd(learning_rate, decay, nesterov)


def adam(
    learning_rate: Schedule, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8, eps_root: float = 0.0
) -> Optimizer:
    """Adam (Kingma & Ba 2015)."""
    return chain(scale_by_adam(b1, b2, eps, eps_root), scale_by_learning_rate(learning_rate))


def adamw(
    learning_rate: Schedule,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    eps_root: float = 0.0,
    weight_decay: float = 1e-4,
    mask: Tree | Callable[[Tree], Tree] | None = None,
) -> Optimizer:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019); ``mask`` selects the decayed leaves."""
    return chain(
        scale_by_adam(b1, b2, eps, eps_root),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )
