"""Regression: losses and their gradients as the textbooks print them."""

from __future__ import annotations

import numpy as np

import gradc as gc
from examples.gallery.row import Rows, array, onehot, positive, probability

CHOICES = np.array([1.0, 0.0, 0.0, 1.0, 1.0])
LABELS = np.array([2, 0, 3, 3, 1])
row = Rows()


@row(array(3), array(5, 3), array(5))
def least_squares(w, X, y):
    """
    ∂L/∂w = Xᵀ(Xw − y)
    """
    return 0.5 * np.sum((X @ w - y) ** 2)


@row(array(3), array(5, 3), array(5))
def mean_squared_error(w, X, y):
    """
    ∂L/∂w = 2Xᵀ(Xw − y)/n
    """
    return np.mean((X @ w - y) ** 2)


@row(array(3), array(5, 3), array(5), positive())
def ridge(w, X, y, λ):
    """
    ∂L/∂w = Xᵀ(Xw − y) + λw
    """
    return 0.5 * np.sum((X @ w - y) ** 2) + 0.5 * λ * np.sum(w**2)


@row(array(3), array(5, 3), array(5), positive())
def lasso(w, X, y, λ):
    """
    ∂L/∂w = Xᵀ(Xw − y) + λ·sign(w)
    """
    return 0.5 * np.sum((X @ w - y) ** 2) + λ * np.sum(np.abs(w))


@row(array(3), array(), array(5, 3), CHOICES, of=(0, 1))
def logistic_regression(w, b, X, y):
    """
    δ = (p − y)/n
    ∂L/∂w = Xᵀδ
    ∂L/∂b = Σ δ
    """
    z = X @ w + b
    p = gc.nn.sigmoid(z)
    L = -np.mean(y * np.log(p) + (1 - y) * np.log(1 - p))
    return L


@row(array(3), array(5, 3), CHOICES)
def logistic_loss(w, X, y):
    """
    ∂L/∂w = Xᵀ(σ(z) − y)/n
    """
    z = X @ w
    return np.mean(np.log(1 + np.exp(z)) - y * z)


@row(array(3), array(5, 3), 2 * CHOICES - 1)
def logistic_margin(w, X, y):
    """
    ∂L/∂w = Xᵀ((σ(m) − 1) ⊙ y)
    """
    m = y * (X @ w)
    return np.sum(np.log(1 + np.exp(-m)))


@row(array(3), array(5, 3), 2 * CHOICES - 1)
def hinge(w, X, y):
    """
    ∂L/∂w = −Xᵀ(y ⊙ 1[1 − m > 0])
    """
    m = y * (X @ w)
    return np.sum(gc.nn.relu(1 - m))


@row(array(3), array(5, 3), 3 * CHOICES)
def poisson_regression(w, X, y):
    """
    ∂L/∂w = Xᵀ(exp(z) − y)
    """
    z = X @ w
    return np.sum(np.exp(z) - y * z)


@row(array(3, 4), array(5, 3), LABELS)
def softmax_regression(W, X, y):
    """
    p = softmax(z)
    ∂L/∂W = Xᵀ(p − onehot(y))/n
    """
    z = X @ W
    return gc.nn.cross_entropy(z, y)


@row(array(3), array(5, 3), array(5), positive())
def weight_decay(w, X, y, λ):
    """
    ∂L/∂w = 2(Xᵀ(Xw − y)/n + λw)
    """
    return np.mean((X @ w - y) ** 2) + λ * np.sum(w**2)


@row(probability(4), probability(4))
def cross_entropy_of_p(p, y):
    """
    ∂L/∂p = −y ⊘ p
    """
    return -np.sum(y * np.log(p))


@row(array(5, 4), LABELS)
def cross_entropy_with_labels(z, y):
    """
    p = softmax(z)
    ∂L/∂z = (p − onehot(y))/n
    """
    return gc.nn.cross_entropy(z, y)


@row(array(5, 4), onehot(5, 4))
def cross_entropy_with_one_hot_labels(z, y):
    """
    ∂L/∂z = (p − y)/n
      y is one-hot
    """
    y = gc.assume(y, one_hot=True)
    p = gc.nn.softmax(z)
    return -np.sum(y * np.log(p)) / len(z)


@row(array(5, 4), LABELS)
def naive_cross_entropy(z, y):
    """
    ∂L/∂z = (p − onehot(y))/n
    """
    e = np.exp(z)
    p = e / e.sum(axis=1, keepdims=True)
    return -np.mean(np.log(p[np.arange(5), y]))


@row(probability(), probability())
def binary_cross_entropy(a, y):
    """
    ∂L/∂a = (a − y)/(a(1 − a))
    """
    return -(y * np.log(a) + (1 - y) * np.log(1 - a))


@row(array(), array(), array(), probability(), of=(0, 1, 2))
def neuron(w, b, x, y):
    """
    ∂L/∂w = x(a − y)
    ∂L/∂b = a − y
    ∂L/∂x = w(a − y)
    """
    z = w * x + b
    a = gc.nn.sigmoid(z)
    return -(y * np.log(a) + (1 - y) * np.log(1 - a))


@row(array(), probability())
def logit_of_neuron(z, y):
    """
    ∂L/∂z = a − y
    """
    a = gc.nn.sigmoid(z)
    return -(y * np.log(a) + (1 - y) * np.log(1 - a))


@row(array(4))
def log_sum_exp(z):
    """
    p = softmax(z)
    ∂L/∂z = p
    """
    return np.log(np.sum(np.exp(z)))
