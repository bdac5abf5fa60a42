"""Attention: its derivatives by queries, keys and values, its mask, its heads."""

from __future__ import annotations

import numpy as np

import gradc as gc
from examples.gallery.row import array
from examples.textbook.item import Entries, Says, Verdict
from examples.textbook.losses import softmax_by_hand

entry = Entries()
PROJECTIONS = {"W_K": array(4, 4), "W_Q": array(4, 4), "W_V": array(4, 4)}


def _attention_by_hand(W, X, mask=0.0):
    """Derivatives of half the squared output, backwards step by step."""
    Q, K, V = X @ W["W_Q"], X @ W["W_K"], X @ W["W_V"]
    P = softmax_by_hand(Q @ K.T / 2 + mask)
    Z = P @ V
    dP = Z @ V.T
    dS = P * (dP - (dP * P).sum(1, keepdims=True)) / 2
    return ({"W_K": X.T @ dS.T @ Q, "W_Q": X.T @ dS @ K, "W_V": X.T @ P.T @ Z},)


@entry(
    Says(6, "attention by its projections", "Z = softmax(QKᵀ/√d)V; ∂L/∂W_Q, ∂L/∂W_K, ∂L/∂W_V",
         "∂L/∂W_Q = XᵀδK\n∂L/∂W_K = XᵀδᵀQ\n∂L/∂W_V = XᵀPᵀZ"),
    args=(PROJECTIONS, array(5, 4)),
    reference=_attention_by_hand,
)  # fmt: skip
def attention(W, X):
    Q = X @ W["W_Q"]
    K = X @ W["W_K"]
    V = X @ W["W_V"]
    S = Q @ K.T / 2
    P = gc.nn.softmax(S)
    Z = P @ V
    L = 0.5 * np.sum(Z**2)
    return L


def _adam_by_hand():
    """Three steps of Adam on the projections."""
    W, X = {n: 0.1 * w for n, w in _weights().items()}, _inputs()
    m, v = ({n: np.zeros((4, 4)) for n in W} for _ in range(2))
    for t in range(1, 4):
        (g,) = _attention_by_hand(W, X)
        for n in W:
            m[n] = 0.9 * m[n] + 0.1 * g[n]
            v[n] = 0.999 * v[n] + 0.001 * g[n] ** 2
            W[n] = W[n] - 0.01 * (m[n] / (1 - 0.9**t)) / (np.sqrt(v[n] / (1 - 0.999**t)) + 1e-8)
    return W


def _weights():
    rng = np.random.default_rng(7)
    return {n: 10.0 * rng.normal(size=(4, 4)) for n in PROJECTIONS}


def _inputs():
    return np.random.default_rng(8).normal(size=(5, 4))


@entry(
    Says(7, "Adam updates the projections", "W_Q, W_K, W_V by m̂/(√v̂ + ε) of their gradients",
         "for θ = W_K, W_Q, W_V:\ng = ∂L/∂θ\nm̂ = m/(1 − β₁^t)\nθ ← θ − ηm̂/(√v̂ + ε)"),
    way="program",
    reference=_adam_by_hand,
    within=1e-9,  # 1 − 0.999ᵗ loses three digits
)  # fmt: skip
def attention_step():
    optimizer, X = gc.optim.adam(0.01), _inputs()
    W = {n: 0.1 * w for n, w in _weights().items()}
    step, state = gc.train_step(attention, optimizer), optimizer.init(W)
    said = str(gc.explain(step, W, state, X))
    for _ in range(3):
        W, state, _ = step(W, state, X)
    return said, W


@entry(
    Says(112, "attention under a causal mask", "P = softmax(QKᵀ/√d + M), M_ij = −∞ for j > i",
         "S = where(M, ½QKᵀ, −inf)"),
    args=(PROJECTIONS, array(5, 4)),
    reference=lambda W, X: _attention_by_hand(W, X, np.where(np.tri(5), 0.0, -1e9)),
)  # fmt: skip
def causal_attention(W, X):
    Q = X @ W["W_Q"]
    K = X @ W["W_K"]
    V = X @ W["W_V"]
    M = gc.nn.causal_mask(5)
    S = np.where(M, Q @ K.T / 2, -np.inf)
    P = gc.nn.softmax(S)
    Z = P @ V
    L = 0.5 * np.sum(Z**2)
    return L


def _heads_by_hand(Q, K, V):
    """The result; its derivatives are checked otherwise."""
    out = [softmax_by_hand(Q[:, h] @ K[:, h].T / np.sqrt(2)) @ V[:, h] for h in (slice(0, 2), slice(2, 4))]
    return np.concatenate(out, 1)


@entry(
    Says(
        113,
        "several heads",
        "headᵢ = softmax(QᵢKᵢᵀ/√d)Vᵢ, side by side",
        "Z = softmax(QKᵀ/√2)V",
        Verdict.UNREADABLE,
        "sums over reshaped arrays with three indices",
    ),
    args=(array(5, 4), array(5, 4), array(5, 4)),
    way="value",
    reference=_heads_by_hand,
)
def heads(Q, K, V):
    def split(x):
        return np.moveaxis(x.reshape(5, 2, 2), 1, 0)

    Z = gc.nn.scaled_dot_product_attention(split(Q), split(K), split(V))
    H = np.moveaxis(Z, 0, 1).reshape(5, 4)
    return H
