"""Layers that PyTorch and gradc run alike, and their arguments: `torch_layers.py` stores what PyTorch makes of them.

A program is text over F, torch.nn.functional or gc.nn, and over arrays by name; derivatives are taken in the floating
arrays whose names are small letters.  Of each result stands one number in the file, a weighted sum of its elements with
weights that are all different.  No package but NumPy is needed.  Start reading at `FAMILIES`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
_RNG = np.random.default_rng(14)


def _normal(*shape: int) -> Array:
    return np.round(_RNG.standard_normal(shape), 3)


ARRAYS: dict[str, Array] = {
    "x1": _normal(3, 4),
    "x2": _normal(2, 4, 5),
    "x3": _normal(2, 4, 3, 3),
    "w4": _normal(4),
    "b4": _normal(4),
    "M4": _normal(4),
    "V4": np.abs(_normal(4)) + 0.2,
}

NORMS = [
    "F.batch_norm(x1, None, None, training=True)",
    "F.batch_norm(x2, None, None, w4, b4, training=True, eps=0.1)",
    "F.batch_norm(x3, None, None, w4, b4, True)",
    "F.batch_norm(x1, M4, V4)",
    "F.batch_norm(x3, M4, V4, w4, b4, eps=0.01)",
    "F.layer_norm(x2, (4, 5))",
    "F.layer_norm(x1, (4,), w4, b4, 0.1)",
    "F.rms_norm(x1, (4,), w4)",
    "F.rms_norm(x2, (4, 5), eps=0.1)",
    "F.group_norm(x2, 2, w4, b4)",
    "F.group_norm(x3, 1)",
    "F.group_norm(x3, 4, w4, eps=0.1)",
    "F.instance_norm(x2)",
    "F.instance_norm(x3, None, None, w4, b4, eps=0.1)",
    "F.instance_norm(x3, M4, V4, w4, b4, use_input_stats=False)",
    "F.local_response_norm(x2, 3)",
    "F.local_response_norm(x3, 2, alpha=0.5, beta=0.5, k=2.0)",
    "F.normalize(x2)",
    "F.normalize(x2, p=3.0, dim=-1)",
]

FAMILIES: dict[str, list[str]] = {"norms": NORMS}
#: text of a program: up to which derivative it is compared
CASES: dict[str, int] = {text: 2 for family in FAMILIES.values() for text in family}
