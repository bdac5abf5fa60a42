"""Random programs on arrays whose sizes are all different, and none of which is a number in them.

Enters: a seed.  Leaves: a program of a few steps, and its arguments.  Start reading at `program`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import gradc as gc

#: examples, features, units: sizes of which none is a number below
ROWS, COLUMNS, UNITS = 7, 5, 11

Step = Callable[[Any, Any, Any, Any], Any]
#: of a matrix X (rows × columns), weights W (columns × columns), a vector v of a column each, and u of a row each
STEPS: tuple[Step, ...] = (
    lambda X, W, u, v: X @ W,
    lambda X, W, u, v: X * v,
    lambda X, W, u, v: X + v,
    lambda X, W, u, v: X * u[:, None],
    lambda X, W, u, v: X - u[:, None],
    lambda X, W, u, v: np.tanh(X @ W + v),
    lambda X, W, u, v: X - X.mean(axis=0),
    lambda X, W, u, v: X - X.mean(axis=1, keepdims=True),
    lambda X, W, u, v: X / X.shape[0] + X / 3,
    lambda X, W, u, v: X / np.sqrt(np.sum(X**2, axis=1, keepdims=True) + 1),
    lambda X, W, u, v: X / np.sqrt(np.sum(X**2, axis=0) + 1),
    lambda X, W, u, v: gc.nn.softmax(X) * X,
    lambda X, W, u, v: np.outer(u, v) * X,
    lambda X, W, u, v: X + np.outer(np.sin(u), v),
    lambda X, W, u, v: np.maximum(X, 0) + X / 2,
    lambda X, W, u, v: np.exp(-X * X / 9) * X,
    lambda X, W, u, v: X * (u @ X @ v) / 8,
    lambda X, W, u, v: (X - X.mean(axis=1, keepdims=True)) / np.sqrt(X.var(axis=1, keepdims=True) + 1),
    lambda X, W, u, v: X @ np.outer(v, v) / 4,
    lambda X, W, u, v: (X @ X.T) @ X / 6,
    lambda X, W, u, v: X[::-1] + X,
    lambda X, W, u, v: X * np.max(X, axis=1, keepdims=True),
    lambda X, W, u, v: np.exp(X - np.max(X, axis=1, keepdims=True)),
    lambda X, W, u, v: np.where(X > u[:, None], X, v),
    lambda X, W, u, v: X / (1 + np.abs(X)),
)
ENDS: tuple[Step, ...] = (
    lambda X, W, u, v: np.sum(X**2),
    lambda X, W, u, v: u @ X @ v,
    lambda X, W, u, v: np.mean(X**2),
    lambda X, W, u, v: np.sum(np.sum((X[:, None, :] - X[None, :, :]) ** 2, axis=-1) * np.outer(u, u)),
    lambda X, W, u, v: np.sum(np.logaddexp(X @ v, u)),
    lambda X, W, u, v: 0.5 * np.mean(np.sum((X - v) ** 2, axis=1)),
    lambda X, W, u, v: -np.mean(np.sum(gc.nn.log_softmax(X) * v, axis=1)),
    lambda X, W, u, v: X @ W,
    lambda X, W, u, v: np.max(X * X + u[:, None]),
)


def program(seed: int) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """A program, and its arguments."""
    rng = np.random.default_rng(seed)
    chosen, end = rng.integers(0, len(STEPS), rng.integers(1, 5)), ENDS[rng.integers(0, len(ENDS))]
    named = rng.random() < 0.5

    def composed(X: Any, W: Any, u: Any, v: Any) -> Any:
        for k in chosen:
            H = STEPS[k](X, W, u, v)
            X = H
        L = end(X, W, u, v)
        return L

    def in_one(X: Any, W: Any, u: Any, v: Any) -> Any:
        return end(_run(chosen, X, W, u, v), W, u, v)

    sizes = ((ROWS, COLUMNS), (COLUMNS, COLUMNS), (ROWS,), (COLUMNS,))
    return (composed if named else in_one), tuple(rng.normal(size=size) for size in sizes)


def _run(chosen: Any, X: Any, W: Any, u: Any, v: Any) -> Any:
    for k in chosen:
        X = STEPS[k](X, W, u, v)
    return X
