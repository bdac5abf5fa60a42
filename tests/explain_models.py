"""The functions whose derivations `test_explain.py` reads: one per row, in ordinary NumPy style.

Each entry of `MODELS` is a function, its arguments and the argnums to explain.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import gradc.nn as nn
import gradc.numpy as gnp
from gradc.node import FUNCTIONS

Array = NDArray[Any]
RANDOM = np.random.default_rng(20240229)


def normal(*shape: int) -> Array:
    return RANDOM.normal(size=shape)


def positive(*shape: int) -> Array:
    return np.abs(normal(*shape)) + 0.2


class Model(NamedTuple):
    function: Callable[..., Any]
    args: tuple[Any, ...]
    argnums: int | tuple[int, ...] = 0


LABELS = np.array([2, 0, 3, 3, 1])
ONEHOT = np.eye(4)[LABELS]
CHOICES = np.array([1.0, 0.0, 0.0, 1.0, 1.0])


def sine_times_x(x):
    return np.sin(x) * x


def squared_distance(X, Y):
    return 0.5 * np.sum((X - Y) ** 2)


def matrix_product(X, W):
    Y = X @ W
    return Y


def bias(X, b):
    Y = X + b
    return Y


def hadamard(P, Q):
    return P * Q


def relu(Y):
    Z = nn.relu(Y)
    return Z


def sigmoid(Y):
    Z = nn.sigmoid(Y)
    return Z


def tanh(Y):
    Z = np.tanh(Y)
    return Z


def fifth_power(Y):
    Z = Y**5
    return Z


def power(x, k):
    return x**k


def logarithm(Y):
    Z = np.log(Y)
    return Z


def total(X):
    return X.sum()


def mean(X):
    return X.mean()


def maximum(X):
    return X.max()


def softmax(z):
    p = nn.softmax(z)
    return p


def softmax_rows(z):
    p = nn.softmax(z)
    return p


def cross_entropy_of_p(p, y):
    return -np.sum(y * np.log(p))


def cross_entropy_integer(z, y):
    return nn.cross_entropy(z, y)


def cross_entropy_onehot(z, y):
    Y = nn.one_hot(y, 4)
    p = nn.softmax(z)
    return -np.sum(Y * np.log(p)) / len(z)


def cross_entropy_naive(z, y):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    p = e / e.sum(axis=1, keepdims=True)
    return -np.mean(np.log(p[np.arange(5), y]))


def logistic_regression(w, b, X, y):
    z = X @ w + b
    p = nn.sigmoid(z)
    L = -np.mean(y * np.log(p) + (1 - y) * np.log(1 - p))
    return L


def logistic_loss(w, X, y):
    z = X @ w
    return np.mean(np.log(1 + np.exp(z)) - y * z)


def binary_cross_entropy(a, y):
    return -(y * np.log(a) + (1 - y) * np.log(1 - a))


def two_layers(params, X, y):
    z1 = X @ params["W1"] + params["b1"]
    h = nn.relu(z1)
    z2 = h @ params["W2"] + params["b2"]
    L = nn.cross_entropy(z2, y)
    return L


def three_layers(params, X, y):
    z1 = X @ params["W1"] + params["b1"]
    h1 = nn.relu(z1)
    z2 = h1 @ params["W2"] + params["b2"]
    h2 = nn.relu(z2)
    z3 = h2 @ params["W3"] + params["b3"]
    p = nn.softmax(z3)
    Y = nn.one_hot(y, 4)
    L = -np.mean(np.sum(Y * np.log(p), axis=1))
    return L


def layer_norm(x, g, b):
    mu = x.mean(axis=1, keepdims=True)
    var = ((x - mu) ** 2).mean(axis=1, keepdims=True)
    xhat = (x - mu) / np.sqrt(var + 1e-5)
    y = xhat * g + b
    return y


def quadratic_form(x, A):
    return x @ A @ x


def quadratic(w, A, b, c):
    return 0.5 * w @ A @ w + b @ w + c


def least_squares(x, A, b):
    return np.sum((A @ x - b) ** 2)


def distance(x, A, b):
    return np.linalg.norm(A @ x - b)


def ridge(w, X, y, lam):
    return 0.5 * np.sum((X @ w - y) ** 2) + 0.5 * lam * np.sum(w**2)


def lasso(w, X, y, lam):
    return 0.5 * np.sum((X @ w - y) ** 2) + lam * np.sum(np.abs(w))


def trace_of_product(A, X, B):
    return np.trace(A @ X @ B)


def bilinear(a, b, X):
    return (a @ X.T) @ (X @ b)


def factorisation(U, V, M):
    return 0.5 * np.sum((U @ V.T - M) ** 2)


def rosenbrock(x, y):
    return (1 - x) ** 2 + 100 * (y - x**2) ** 2


def chained_rosenbrock(x):
    return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def log_sum_exp(w, X):
    return np.log(np.sum(np.exp(X @ w)))


def black_scholes(S, K, r, sigma, T):
    d1 = (np.log(S / K) + (r + sigma**2 / 2) * T) / (sigma * np.sqrt(T))
    d2 = d1 - sigma * np.sqrt(T)
    C = S * 0.5 * (1 + _erf(d1 / math.sqrt(2))) - K * np.exp(-r * T) * 0.5 * (1 + _erf(d2 / math.sqrt(2)))
    return C


def _erf(u):
    return FUNCTIONS["erf"](u)


def attention(Q, K, V):
    S = Q @ K.T / np.sqrt(3.0)
    A = nn.softmax(S)
    O = A @ V  # noqa: E741
    return O


def batched_attention(Q, K, V):
    S = np.einsum("bhid,bhjd->bhij", Q, K) / np.sqrt(3.0)
    A = nn.softmax(S)
    O = A @ V  # noqa: E741
    return O


def batched_layer(X, W, b):
    return X @ W + b


def tensor_product(A, B):
    return np.einsum("ijk,jl->ikl", A, B)


def embedding(E, ids):
    return np.sum(nn.embedding(ids, E) ** 2)


def clipped(x):
    return np.clip(x, -1, 1)


def chosen(x):
    return np.sum(np.where(x > 0, x * x, -x))


def running_sum(x):
    return np.cumsum(x) @ x


def product_of_all(x):
    return np.prod(x)


def standard_deviation(x):
    return np.std(x)


def joined(x, y):
    return np.sum(np.concatenate([x, y]) ** 2)


def stacked(x):
    return np.stack([x, x * x])[1].sum()


def smallest_of_sorted(x):
    return np.take_along_axis(x, np.argsort(x, axis=1), axis=1)[:, 0].sum()


def filtered(x, w):
    return np.sum(gnp.convolve(x, w) ** 2)


def activations(x):
    return nn.gelu(x).sum() + nn.silu(x).sum()


def _layers(*widths: int) -> dict[str, Array]:
    params = {}
    for i, (rows, columns) in enumerate(pairwise(widths), 1):
        params[f"W{i}"], params[f"b{i}"] = normal(rows, columns), normal(columns)
    return params


MODELS: dict[str, Model] = {
    "sine_times_x": Model(sine_times_x, (1.3,)),
    "squared_distance": Model(squared_distance, (normal(5, 3), normal(5, 3)), (0, 1)),
    "matrix_product": Model(matrix_product, (normal(4, 3), normal(3, 2)), (0, 1)),
    "bias": Model(bias, (normal(5, 3), normal(3)), (0, 1)),
    "hadamard": Model(hadamard, (normal(2, 3), normal(2, 3)), (0, 1)),
    "relu": Model(relu, (normal(2, 3),)),
    "sigmoid": Model(sigmoid, (normal(2, 3),)),
    "tanh": Model(tanh, (normal(2, 3),)),
    "fifth_power": Model(fifth_power, (normal(2, 3),)),
    "power": Model(power, (positive(2, 3), 2.5), (0, 1)),
    "logarithm": Model(logarithm, (positive(2, 3),)),
    "total": Model(total, (normal(2, 3),)),
    "mean": Model(mean, (normal(2, 3),)),
    "maximum": Model(maximum, (normal(2, 3),)),
    "softmax": Model(softmax, (normal(4),)),
    "softmax_rows": Model(softmax_rows, (normal(3, 4),)),
    "cross_entropy_of_p": Model(cross_entropy_of_p, (positive(4), ONEHOT[0])),
    "cross_entropy_integer": Model(cross_entropy_integer, (normal(5, 4), LABELS)),
    "cross_entropy_onehot": Model(cross_entropy_onehot, (normal(5, 4), LABELS)),
    "cross_entropy_naive": Model(cross_entropy_naive, (normal(5, 4), LABELS)),
    "logistic_regression": Model(logistic_regression, (normal(3), 0.3, normal(5, 3), CHOICES), (0, 1)),
    "logistic_loss": Model(logistic_loss, (normal(3), normal(5, 3), CHOICES)),
    "binary_cross_entropy": Model(binary_cross_entropy, (0.3, 1.0)),
    "two_layers": Model(two_layers, (_layers(3, 6, 4), normal(5, 3), LABELS)),
    "three_layers": Model(three_layers, (_layers(3, 6, 7, 4), normal(5, 3), LABELS)),
    "layer_norm": Model(layer_norm, (normal(5, 3), normal(3), normal(3)), (0, 1, 2)),
    "quadratic_form": Model(quadratic_form, (normal(3), normal(3, 3)), (0, 1)),
    "quadratic": Model(quadratic, (normal(3), normal(3, 3), normal(3), 0.2)),
    "least_squares": Model(least_squares, (normal(3), normal(5, 3), normal(5)), (0, 1, 2)),
    "distance": Model(distance, (normal(3), normal(5, 3), normal(5))),
    "ridge": Model(ridge, (normal(3), normal(5, 3), normal(5), 0.1)),
    "lasso": Model(lasso, (normal(3), normal(5, 3), normal(5), 0.1)),
    "trace_of_product": Model(trace_of_product, (normal(2, 5), normal(5, 3), normal(3, 2)), (0, 1, 2)),
    "bilinear": Model(bilinear, (normal(3), normal(3), normal(5, 3)), (0, 1, 2)),
    "factorisation": Model(factorisation, (normal(4, 2), normal(5, 2), normal(4, 5)), (0, 1)),
    "rosenbrock": Model(rosenbrock, (0.3, 0.4), (0, 1)),
    "chained_rosenbrock": Model(chained_rosenbrock, (normal(5),)),
    "log_sum_exp": Model(log_sum_exp, (normal(3), normal(5, 3)), (0, 1)),
    "black_scholes": Model(black_scholes, (100.0, 95.0, 0.05, 0.2, 1.0), (0, 1, 2, 3, 4)),
    "attention": Model(attention, (normal(5, 3), normal(5, 3), normal(5, 2)), (0, 1, 2)),
    "batched_attention": Model(batched_attention, tuple(normal(2, 2, 4, 3) for _ in range(3)), (0, 1, 2)),
    "batched_layer": Model(batched_layer, (normal(2, 5, 3), normal(3, 2), normal(2)), (0, 1, 2)),
    "tensor_product": Model(tensor_product, (normal(2, 3, 4), normal(3, 5)), (0, 1)),
    "embedding": Model(embedding, (normal(6, 3), np.array([[1, 5, 0], [2, 2, 1]]))),
    "clipped": Model(clipped, (normal(2, 3),)),
    "chosen": Model(chosen, (normal(2, 3),)),
    "running_sum": Model(running_sum, (normal(4),)),
    "product_of_all": Model(product_of_all, (normal(4),)),
    "standard_deviation": Model(standard_deviation, (normal(4),)),
    "joined": Model(joined, (normal(4), normal(3)), (0, 1)),
    "stacked": Model(stacked, (normal(3),)),
    "smallest_of_sorted": Model(smallest_of_sorted, (normal(3, 4),)),
    "filtered": Model(filtered, (normal(5), normal(3)), (0, 1)),
    "activations": Model(activations, (normal(4),)),
}
