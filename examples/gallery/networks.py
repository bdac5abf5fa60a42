"""Layers and small networks."""

from __future__ import annotations

import numpy as np

import gradc as gc
from examples.gallery.row import Row, array

LABELS = np.array([2, 0, 3, 3, 1])


def softmax(z):
    p = gc.nn.softmax(z)
    return p


def softmax_rows(z):
    p = gc.nn.softmax(z)
    return p


def log_softmax(z):
    Y = gc.nn.log_softmax(z)
    return Y


def linear_layer(X, W, b):
    Y = X @ W + b
    return Y


def three_layers(params, X, y):
    z1 = X @ params["W1"] + params["b1"]
    h1 = gc.nn.relu(z1)
    z2 = h1 @ params["W2"] + params["b2"]
    h2 = gc.nn.relu(z2)
    z3 = h2 @ params["W3"] + params["b3"]
    L = gc.nn.cross_entropy(z3, y)
    return L


def batch_norm(z, γ, β):
    μ = np.mean(z, axis=0)
    v = np.mean((z - μ) ** 2, axis=0)
    s = np.sqrt(v + 1e-5)
    u = (z - μ) / s
    Y = γ * u + β
    return Y


def layer_norm(z, γ, β):
    μ = np.mean(z, axis=1, keepdims=True)
    v = np.mean((z - μ) ** 2, axis=1, keepdims=True)
    s = np.sqrt(v + 1e-5)
    u = (z - μ) / s
    Y = γ * u + β
    return Y


def rms_norm(z, γ):
    r = np.sqrt(np.mean(z**2, axis=1, keepdims=True))
    u = z / r
    Y = γ * u
    return Y


def attention(Q, K, V):
    S = Q @ K.T / np.sqrt(3.0)
    A = gc.nn.softmax(S)
    O = A @ V  # noqa: E741
    return O


def self_attention(W_Q, W_K, W_V, X):
    Q, K, V = X @ W_Q, X @ W_K, X @ W_V
    S = Q @ K.T / np.sqrt(3.0)
    A = gc.nn.softmax(S)
    O = A @ V  # noqa: E741
    return O


def convolution(X, K):
    U = gc.numpy.sliding_window_view(X, 3)
    Y = U @ K
    return Y


def convolution_2d(X, K):
    U = gc.numpy.sliding_window_view(X, (2, 2))
    Y = np.einsum("ijkl,kl->ij", U, K)
    return Y


def residual_block(X, W1, W2):
    h = np.tanh(X @ W1)
    Y = X + h @ W2
    return Y


def gated_unit(X, W, V):
    u = X @ W
    v = X @ V
    Y = gc.nn.sigmoid(u) * v
    return Y


LAYERS = {"W1": array(3, 6), "b1": array(6), "W2": array(6, 7), "b2": array(7), "W3": array(7, 4), "b3": array(4)}

ROWS = (
    Row(softmax, (array(4),), "∂z = p ⊙ (G − Gᵀp)"),
    Row(softmax_rows, (array(3, 4),), "?"),
    Row(log_softmax, (array(3, 4),), "?"),
    Row(linear_layer, (array(5, 3), array(3, 2), array(2)), "∂X = GWᵀ\n∂W = XᵀG\n∂b = Gᵀ𝟏", (0, 1, 2)),
    Row(three_layers, (LAYERS, array(5, 3), LABELS), "?"),
    Row(batch_norm, (array(5, 3), array(3), array(3)), "?", (0, 1, 2)),
    Row(layer_norm, (array(5, 3), array(3), array(3)), "?", (0, 1, 2)),
    Row(rms_norm, (array(5, 3), array(3)), "?", (0, 1)),
    Row(residual_block, (array(5, 3), array(3, 4), array(4, 3)), "?", (0, 1, 2)),
    Row(gated_unit, (array(5, 3), array(3, 4), array(3, 4)), "?", (0, 1, 2)),
    Row(attention, (array(5, 3), array(5, 3), array(5, 2)), "?", (0, 1, 2)),
    Row(self_attention, (array(4, 3), array(4, 3), array(4, 2), array(5, 4)), "?", (0, 1, 2)),
    Row(convolution, (array(8), array(3)), "?", (0, 1)),
    Row(convolution_2d, (array(5, 6), array(2, 2)), "?", (0, 1)),
)  # fmt: skip
