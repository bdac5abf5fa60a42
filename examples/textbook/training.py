"""What the chapters on optimizers train, and the same descent in plain NumPy.

Enters: an optimizer, or its rule in NumPy.  Leaves: what gradc prints of the step, and where twenty steps lead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import gradc as gc

DRAWN = np.random.default_rng(13)
X, Y, START = DRAWN.normal(size=(8, 3)), DRAWN.normal(size=8), np.array([1.0, -2.0, 0.5])
STEPS = 20


def loss(w, X, y):
    r = X @ w - y
    L = 0.5 * np.mean(r**2)
    return L


def trained(optimizer, loss=loss, start=START):
    w, state = start.copy(), optimizer.init(start)
    step = gc.train_step(loss, optimizer)
    said = str(gc.explain(step, w, state, X, Y))
    for _ in range(STEPS):
        w, state, _ = step(w, state, X, Y)
    return said, w


def slope(w: Any) -> Any:
    """∇L of `loss`."""
    return X.T @ (X @ w - Y) / len(Y)


def descended(update: Callable[..., Any], start: Any = START, **state: Any) -> Any:
    """Where ``update(w, t, state) -> w`` leads in as many steps; it changes the ``state``, a dict, in place."""
    w = start.copy()
    for t in range(1, STEPS + 1):
        w = update(w, t, state)
    return w
