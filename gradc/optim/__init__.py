"""Optimizers as pure functions inside the graph, with optax's names, arguments and meaning.

>>> from gradc import optim
>>> init, update = optim.adam(1e-3)
"""

from __future__ import annotations

from gradc.optim.optimizers import adam, adamw, momentum, sgd
from gradc.optim.schedules import (
    constant_schedule,
    cosine_decay_schedule,
    exponential_decay,
    linear_schedule,
    warmup_cosine_decay_schedule,
)
from gradc.optim.transforms import (
    Optimizer,
    add_decayed_weights,
    apply_updates,
    chain,
    clip_by_global_norm,
    global_norm,
    scale,
    scale_by_adam,
    scale_by_learning_rate,
    trace,
)

__all__ = [
    "Optimizer",
    "adam",
    "adamw",
    "add_decayed_weights",
    "apply_updates",
    "chain",
    "clip_by_global_norm",
    "constant_schedule",
    "cosine_decay_schedule",
    "exponential_decay",
    "global_norm",
    "linear_schedule",
    "momentum",
    "scale",
    "scale_by_adam",
    "scale_by_learning_rate",
    "sgd",
    "trace",
    "warmup_cosine_decay_schedule",
]
