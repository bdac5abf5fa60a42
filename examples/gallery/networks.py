"""Layers and small networks."""

from __future__ import annotations

import numpy as np

import gradc as gc
from examples.gallery.row import Rows, array

LABELS = np.array([2, 0, 3, 3, 1])
LAYERS = {"W1": array(3, 6), "b1": array(6), "W2": array(6, 7), "b2": array(7), "W3": array(7, 4), "b3": array(4)}
row = Rows()


@row(array(4))
def softmax(z):
    """
    ∂z = p ⊙ (G − Gᵀp)
    """
    p = gc.nn.softmax(z)
    return p


@row(array(3, 4))
def softmax_rows(z):
    """
    ∂z = p ⊙ (G − Σⱼ (G ⊙ p))
    """
    p = gc.nn.softmax(z)
    return p


@row(array(3, 4))
def log_softmax(z):
    """
    ∂z = G − exp(Y) ⊙ Σⱼ G
    """
    Y = gc.nn.log_softmax(z)
    return Y


@row(array(5, 3), array(3, 2), array(2), of=(0, 1, 2))
def linear_layer(X, W, b):
    """
    ∂X = GWᵀ
    ∂W = XᵀG
    ∂b = Σᵢ G
    """
    Y = X @ W + b
    return Y


@row(LAYERS, array(5, 3), LABELS)
def three_layers(params, X, y):
    """
    p = softmax(z₃)
    δ₃ = (p − onehot(y))/n
    ∂L/∂W₃ = h₂ᵀδ₃
    ∂L/∂b₃ = Σᵢ δ₃
    δ₂ = δ₃W₃ᵀ ⊙ 1[z₂ > 0]
    ∂L/∂W₂ = h₁ᵀδ₂
    ∂L/∂b₂ = Σᵢ δ₂
    δ₁ = δ₂W₂ᵀ ⊙ 1[z₁ > 0]
    ∂L/∂W₁ = Xᵀδ₁
    ∂L/∂b₁ = Σᵢ δ₁
    """
    z1 = X @ params["W1"] + params["b1"]
    h1 = gc.nn.relu(z1)
    z2 = h1 @ params["W2"] + params["b2"]
    h2 = gc.nn.relu(z2)
    z3 = h2 @ params["W3"] + params["b3"]
    L = gc.nn.cross_entropy(z3, y)
    return L


@row(array(5, 3), array(3), array(3), of=(0, 1, 2))
def batch_norm(z, γ, β):
    """
    ∂z = (G − meanᵢ(G) − u ⊙ meanᵢ(G ⊙ u)) ⊙ γ ⊘ s
    ∂γ = Σᵢ (G ⊙ u)
    ∂β = Σᵢ G
    """
    μ = np.mean(z, axis=0)
    v = np.mean((z - μ) ** 2, axis=0)
    s = np.sqrt(v + 1e-5)
    u = (z - μ) / s
    Y = γ * u + β
    return Y


@row(array(5, 3), array(3), array(3), of=(0, 1, 2))
def layer_norm(z, γ, β):
    """
    ∂z = (G ⊙ γ − meanⱼ(G ⊙ γ) − u ⊙ meanⱼ(G ⊙ u ⊙ γ)) ⊘ s
    ∂γ = Σᵢ (G ⊙ u)
    ∂β = Σᵢ G
    """
    μ = np.mean(z, axis=1, keepdims=True)
    v = np.mean((z - μ) ** 2, axis=1, keepdims=True)
    s = np.sqrt(v + 1e-5)
    u = (z - μ) / s
    Y = γ * u + β
    return Y


@row(array(5, 3), array(3), of=(0, 1))
def rms_norm(z, γ):
    """
    ∂z = (G ⊙ γ − u ⊙ meanⱼ(Y ⊙ G)) ⊘ r
    ∂γ = Σᵢ (G ⊙ u)
    """
    r = np.sqrt(np.mean(z**2, axis=1, keepdims=True))
    u = z / r
    Y = γ * u
    return Y


@row(array(5, 3), array(5, 3), array(5, 2), of=(0, 1, 2))
def attention(Q, K, V):
    """
    δ = A ⊙ (GVᵀ − Σⱼ (GVᵀ ⊙ A))/√3
    ∂Q = δK
    ∂K = δᵀQ
    ∂V = AᵀG
    """
    S = Q @ K.T / np.sqrt(3.0)
    A = gc.nn.softmax(S)
    O = A @ V  # noqa: E741
    return O


@row(array(4, 3), array(4, 3), array(4, 2), array(5, 4), of=(0, 1, 2))
def self_attention(W_Q, W_K, W_V, X):
    """
    δ = A ⊙ (GVᵀ − Σⱼ (GVᵀ ⊙ A))/√3
    ∂W_Q = XᵀδK
    ∂W_K = XᵀδᵀQ
    ∂W_V = XᵀAᵀG
    """
    Q, K, V = X @ W_Q, X @ W_K, X @ W_V
    S = Q @ K.T / np.sqrt(3.0)
    A = gc.nn.softmax(S)
    O = A @ V  # noqa: E741
    return O


@row(array(8), array(3), of=(0, 1))
def convolution(X, K):
    """
    ∂X = corr(pad(G, 2), flip(K))
    ∂K = UᵀG
    """
    U = gc.numpy.sliding_window_view(X, 3)
    Y = U @ K
    return Y


@row(array(5, 6), array(2, 2), of=(0, 1))
def convolution_2d(X, K):
    """
    ∂X = corr(pad(G, 1), flip(K))
    ∂K = corr(X, G)
    """
    Y = np.einsum("ijkl,kl->ij", gc.numpy.sliding_window_view(X, (2, 2)), K)
    return Y


@row(array(5, 3), array(3, 4), array(4, 3), of=(0, 1, 2))
def residual_block(X, W1, W2):
    """
    δ = GW₂ᵀ ⊙ (1 − h²)
    ∂X = δW₁ᵀ + G
    ∂W₁ = Xᵀδ
    ∂W₂ = hᵀG
    """
    h = np.tanh(X @ W1)
    Y = X + h @ W2
    return Y


@row(array(5, 3), array(3, 4), array(3, 4), of=(0, 1, 2))
def gated_unit(X, W, V):
    """
    δ = Y ⊙ G ⊙ (1 − σ(u))
    ∂X = δWᵀ + (G ⊙ σ(u))Vᵀ
    ∂W = Xᵀδ
    ∂V = Xᵀ(G ⊙ σ(u))
    """
    u = X @ W
    v = X @ V
    Y = gc.nn.sigmoid(u) * v
    return Y
