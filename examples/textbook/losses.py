"""Losses: squared errors, cross-entropies, softmax."""

from __future__ import annotations

import numpy as np

import gradc as gc
from examples.gallery.row import array, probability
from examples.textbook.item import Entries, Says, Verdict
from examples.textbook.networks import one_hot

entry = Entries()


def softmax_by_hand(z):
    """Along the last axis."""
    e = np.exp(z)
    return e / e.sum(-1, keepdims=True)


@entry(
    Says(9, "binary cross-entropy over N examples", "L = −1/N Σ [y log ŷ + (1 − y) log(1 − ŷ)]",
         "L = −mean(y ⊙ log(ŷ) + (1 − y) ⊙ log(1 − ŷ))"),
    args=(probability(5), probability(5)),
    reference=lambda ŷ, y: ((ŷ - y) / (ŷ * (1 - ŷ)) / 5,),
)  # fmt: skip
def binary_cross_entropy(ŷ, y):
    L = -np.mean(y * np.log(ŷ) + (1 - y) * np.log(1 - ŷ))
    return L


@entry(
    Says(63, "half the squared error", "L = ½‖X − Y‖²_F, ∂L/∂X = X − Y", "L = ½‖X − Y‖²\n∂L/∂X = X − Y"),
    args=(array(3, 4), array(3, 4)),
    reference=lambda X, Y: (X - Y,),
)
def squared_error(X, Y):
    L = 0.5 * np.sum((X - Y) ** 2)
    return L


@entry(
    Says(77, "the Jacobian of softmax", "∂p/∂z = diag(p) − ppᵀ", "∂p/∂z = diag(p) − ppᵀ"),
    args=(array(4),),
    way="jacobian",
    reference=lambda z: np.diag(softmax_by_hand(z)) - np.outer(softmax_by_hand(z), softmax_by_hand(z)),
)
def softmax_jacobian(z):
    p = np.exp(z) / np.sum(np.exp(z))
    return p


@entry(
    Says(78, "softmax with a cotangent G", "∂L/∂z = G ⊙ p − (G·pᵀ)p", "∂z = p ⊙ (G − Gᵀp)"),
    args=(array(4),),
    reference=lambda z, G: (np.diag(softmax_by_hand(z)) - np.outer(softmax_by_hand(z), softmax_by_hand(z))) @ G,
)
def softmax_pullback(z):
    p = np.exp(z) / np.sum(np.exp(z))
    return p


@entry(
    Says(79, "cross-entropy by the probabilities", "∂L/∂p = −y ⊘ p", "∂L/∂p = −y ⊘ p"),
    args=(probability(4), probability(4)),
    reference=lambda p, y: (-y / p,),
)
def cross_entropy(p, y):
    L = -np.sum(y * np.log(p))
    return L


@entry(
    Says(80, "softmax and cross-entropy, any target", "∂L/∂z = −y + p·Σy", "∂L/∂z = (Σ y)·p − y"),
    args=(array(4), probability(4)),
    reference=lambda z, y: (-y + softmax_by_hand(z) * y.sum(),),
)
def softmax_cross_entropy(z, y):
    p = np.exp(z) / np.sum(np.exp(z))
    L = -np.sum(y * np.log(p))
    return L


@entry(
    Says(81, "softmax and cross-entropy of one class", "∂L/∂z = p − y", "∂L/∂z = p − y"),
    args=(array(4), one_hot(4)),
    reference=lambda z, y: (softmax_by_hand(z) - y,),
)
def softmax_cross_entropy_of_a_class(z, y):
    y = gc.assume(y, one_hot=True)
    p = np.exp(z) / np.sum(np.exp(z))
    L = -np.sum(y * np.log(p))
    return L


@entry(
    Says(82, "log-softmax that cannot overflow", "log p = z − m − log Σ e^(z − m), m = max z; ∂/∂z: I − 1pᵀ",
         "∂Y/∂z = I − 𝟏pᵀ", Verdict.UNREADABLE, "exp(Y) stands for 1·exp(Y)ᵀ, and a term that is zero is not "
         "left out: (Σ exp(Y) − 1) is 0"),
    args=(array(4),),
    way="jacobian",
    reference=lambda z: (np.eye(4) - np.outer(np.ones(4), softmax_by_hand(z)),),
)  # fmt: skip
def log_softmax(z):
    m = np.max(z)
    Y = z - m - np.log(np.sum(np.exp(z - m)))
    return Y


@entry(
    Says(83, "log-softmax and cross-entropy", "∂L/∂z = p − y", "∂L/∂z = p − y"),
    args=(array(4), one_hot(4)),
    reference=lambda z, y: (softmax_by_hand(z) - y,),
)
def log_softmax_cross_entropy(z, y):
    y = gc.assume(y, one_hot=True)
    L = -np.sum(y * gc.nn.log_softmax(z))
    return L


def _lm_by_hand(logits, tokens):
    p = softmax_by_hand(logits)
    wanted = np.zeros_like(p)
    wanted[np.arange(len(tokens) - 1), tokens[1:]] = 1
    grad = (p - wanted) / (len(tokens) - 1)
    grad[-1] = 0
    return (grad,)


@entry(
    Says(
        111,
        "the loss of a causal language model",
        "L = −1/T Σₜ log p(xₜ | x₍<ₜ₎)",
        "L = cross_entropy(logits[:-1], tokens[1:])\np = softmax(logits[:-1])\n"
        "∂L/∂logits = place((p − onehot(tokens[1:]))/n, [:-1, :])",
    ),
    args=(array(5, 7), np.array([3, 1, 6, 0, 2])),
    reference=_lm_by_hand,
)
def causal_language_model(logits, tokens):
    L = gc.nn.causal_lm_loss(logits, tokens)
    return L
