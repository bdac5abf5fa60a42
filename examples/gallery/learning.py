"""Regression: losses and their gradients as the textbooks print them."""

from __future__ import annotations

import numpy as np

import gradc as gc
from examples.gallery.row import Row, array, onehot, positive, probability

CHOICES = np.array([1.0, 0.0, 0.0, 1.0, 1.0])
LABELS = np.array([2, 0, 3, 3, 1])


def least_squares(w, X, y):
    return 0.5 * np.sum((X @ w - y) ** 2)


def mean_squared_error(w, X, y):
    return np.mean((X @ w - y) ** 2)


def ridge(w, X, y, λ):
    return 0.5 * np.sum((X @ w - y) ** 2) + 0.5 * λ * np.sum(w**2)


def lasso(w, X, y, λ):
    return 0.5 * np.sum((X @ w - y) ** 2) + λ * np.sum(np.abs(w))


def logistic_regression(w, b, X, y):
    z = X @ w + b
    p = gc.nn.sigmoid(z)
    L = -np.mean(y * np.log(p) + (1 - y) * np.log(1 - p))
    return L


def logistic_loss(w, X, y):
    z = X @ w
    return np.mean(np.log(1 + np.exp(z)) - y * z)


def logistic_margin(w, X, y):
    m = y * (X @ w)
    return np.sum(np.log(1 + np.exp(-m)))


def hinge(w, X, y):
    m = y * (X @ w)
    return np.sum(gc.nn.relu(1 - m))


def poisson_regression(w, X, y):
    z = X @ w
    return np.sum(np.exp(z) - y * z)


def softmax_regression(W, X, y):
    z = X @ W
    return gc.nn.cross_entropy(z, y)


def weight_decay(w, X, y, λ):
    return np.mean((X @ w - y) ** 2) + λ * np.sum(w**2)


def cross_entropy_of_p(p, y):
    return -np.sum(y * np.log(p))


def cross_entropy_with_labels(z, y):
    return gc.nn.cross_entropy(z, y)


def cross_entropy_with_one_hot_labels(z, y):
    y = gc.assume(y, one_hot=True)
    p = gc.nn.softmax(z)
    return -np.sum(y * np.log(p)) / len(z)


def naive_cross_entropy(z, y):
    e = np.exp(z)
    p = e / e.sum(axis=1, keepdims=True)
    return -np.mean(np.log(p[np.arange(5), y]))


def binary_cross_entropy(a, y):
    return -(y * np.log(a) + (1 - y) * np.log(1 - a))


def neuron(w, b, x, y):
    z = w * x + b
    a = gc.nn.sigmoid(z)
    return -(y * np.log(a) + (1 - y) * np.log(1 - a))


def log_sum_exp(z):
    return np.log(np.sum(np.exp(z)))


ROWS = (
    Row(least_squares, (array(3), array(5, 3), array(5)), "∂L/∂w = Xᵀ(Xw − y)"),
    Row(mean_squared_error, (array(3), array(5, 3), array(5)), "?"),
    Row(ridge, (array(3), array(5, 3), array(5), positive()), "∂L/∂w = Xᵀ(Xw − y) + λw"),
    Row(lasso, (array(3), array(5, 3), array(5), positive()), "∂L/∂w = Xᵀ(Xw − y) + λ·sign(w)"),
    Row(weight_decay, (array(3), array(5, 3), array(5), positive()), "?"),
    Row(logistic_regression, (array(3), array(), array(5, 3), CHOICES), "δ = (p − y)/n\n∂L/∂w = Xᵀδ\n∂L/∂b = Σ δ", (0, 1)),
    Row(logistic_loss, (array(3), array(5, 3), CHOICES), "∂L/∂w = Xᵀ(σ(z) − y)/n"),
    Row(logistic_margin, (array(3), array(5, 3), 2 * CHOICES - 1), "?"),
    Row(hinge, (array(3), array(5, 3), 2 * CHOICES - 1), "?"),
    Row(poisson_regression, (array(3), array(5, 3), 3 * CHOICES), "?"),
    Row(softmax_regression, (array(3, 4), array(5, 3), LABELS), "p = softmax(z)\n∂L/∂W = Xᵀ(p − onehot(y))/n"),
    Row(log_sum_exp, (array(4),), "?"),
    Row(cross_entropy_of_p, (probability(4), probability(4)), "∂L/∂p = −y ⊘ p"),
    Row(cross_entropy_with_labels, (array(5, 4), LABELS), "p = softmax(z)\n∂L/∂z = (p − onehot(y))/n"),
    Row(cross_entropy_with_one_hot_labels, (array(5, 4), onehot(5, 4)), "∂L/∂z = (p − y)/n\n  y is one-hot"),
    Row(naive_cross_entropy, (array(5, 4), LABELS), "∂L/∂z = (p − onehot(y))/n"),
    Row(binary_cross_entropy, (probability(), probability()), "∂L/∂a = (a − y)/(a(1 − a))"),
    Row(neuron, (array(), array(), array(), probability()), "?", (0, 1, 2)),
)  # fmt: skip
