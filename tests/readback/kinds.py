"""Programs whose derivatives were once printed so that they could be misread, one or two of each kind.

Sizes differ from every number in a program and from each other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import gradc as gc

RANDOM = np.random.default_rng(20261201)
KINDS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {}


def normal(*shape: int) -> Any:
    return RANDOM.normal(size=shape)


def kind(*args: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Reads the decorated function of ``args``."""

    def kept(function: Callable[..., Any]) -> Callable[..., Any]:
        KINDS[function.__name__] = (function, args)
        return function

    return kept


@kind(normal(7, 5))
def variance_of_rows(X):
    """A variance says along which axis it is taken."""
    v = X.var(axis=1)
    return np.sum(np.sin(v))


@kind(normal(7, 5))
def standardised(X):
    """So does one that is nowhere named."""
    return np.sum(np.tanh((X - X.mean(axis=1, keepdims=True)) / np.sqrt(X.var(axis=1, keepdims=True) + 1)))


@kind(normal(7, 5), normal(5), normal(7))
def row_beside_column(X, v, u):
    """A row and a column of sums are no difference of vectors."""
    return u @ (gc.nn.softmax(X) * X) @ v


@kind(normal(7, 5), normal(7, 5))
def divided_by_norms(A, B):
    """A part that is a column says so where it is defined."""
    C = np.exp(-A * A / 9) * B
    D = B / np.sqrt((C**2).sum(axis=1, keepdims=True) + 1)
    return np.sum(D**2)


@kind(normal(2), normal(2))
def half_over_two_elements(μ, s):
    """½Σ over two elements is no mean."""
    return 0.5 * np.sum(μ**2 + np.exp(2 * s) - 2 * s - 1)


@kind(normal(7, 5), 1.3)
def pairwise_distances(X, h):
    """A difference of each pair of rows shows the new axis: X − X is zero."""
    D = np.sum((X[:, None, :] - X[None, :, :]) ** 2, axis=-1)
    K = np.exp(-D / (2 * h**2))
    return K


@kind(normal(1, 9), normal(9, 4))
def matrix_of_one_row(W_row, X_col):
    """A matrix of one row stays a row."""
    Y_col = W_row @ X_col
    return Y_col


@kind(normal(11, 1), normal(1, 5), normal(11, 5))
def column_and_row(c, r, A):
    """So does one beside a matrix, and a column stays a column."""
    Y = (c @ r) * A + c - r * A
    return Y


@kind(normal(11, 40), normal(40))
def groups(x, γ):
    """Means and variances of groups of features, whose axes are those of no vector."""
    X = x.reshape(11, 5, 8)
    μ = X.mean(axis=2, keepdims=True)
    v = X.var(axis=2, keepdims=True)
    return ((X - μ) / np.sqrt(v + 1e-5)).reshape(11, 40) * γ


@kind(normal(7, 5), normal(5, 5))
def product_and_its_transpose(X, W):
    """The δ of a product that is used as its transpose, too, is the derivative by it, all of it."""
    H = X @ W
    Y = H @ H.T @ H
    return np.sum(Y**2)


@kind(normal(7, 5), normal(3), normal(7, 5, 3), normal(5))
def numbers_that_fill_arrays(X, x, T, v):
    """The derivative of a sum is 𝟏 or 𝟏𝟏ᵀ, no number; and one row for all rows is 𝟏vᵀ."""
    total = np.sum(X * v) + np.log(np.sum(X)) + x.mean() + 4 * T.sum()
    return total


@kind(normal(7, 5), normal(5))
def rows_that_are_alike(X, v):
    """So it is alone."""
    return np.sum(X * np.sin(v))


WEIGHTS = {"E": normal(7, 5), "F": normal(7, 5)}
SHIFT = normal(7)


@kind(normal(5))
def captured_arrays(x):
    """Arrays that a function has from outside go by the names of what holds them, each by its own."""
    h = np.tanh(WEIGHTS["E"] @ x + SHIFT)
    return h @ (WEIGHTS["F"] @ x)


@kind(normal(5))
def captured_arrays_without_a_variable(x):
    """What nothing holds is told apart all the same."""
    return np.sum(np.sin(WEIGHTS["E"].T @ np.exp(WEIGHTS["F"] @ x)) * (2 * WEIGHTS["F"].T @ SHIFT))


@kind(normal(4), normal(7))
def quarter_over_four_elements(x, y):
    """A factor that is written in digits is no count, though as many elements are summed; 1/7 is one."""
    return 0.25 * np.sum(x**2) + 1 / len(y) * np.sum(y**2)
