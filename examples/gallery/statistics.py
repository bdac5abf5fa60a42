"""Likelihoods, and a price with its greeks."""

from __future__ import annotations

import math

import numpy as np

import gradc as gc
from examples.gallery.row import Rows, array, positive

row = Rows()


@row(array(), positive(), array(5), of=(0, 1))
def gaussian_log_likelihood(μ, σ, x):
    """
    ∂L/∂μ = Σ (x − μ)/σ²
    ∂L/∂σ = (‖x − μ‖²/σ² − 5)/σ
    """
    return -np.sum((x - μ) ** 2) / (2 * σ**2) - len(x) * np.log(σ)


@row(array(3), positive(3), array(5), of=(0, 1))
def gaussian_mixture(μ, π, x):
    """
    p = softmax(t)
    ∂L/∂μ = Σᵢ (p ⊙ (x𝟏ᵀ − μ))
    ∂L/∂π = (Σᵢ p) ⊘ π
    """
    t = np.log(π) - 0.5 * (x[:, None] - μ) ** 2
    return np.sum(np.log(np.sum(np.exp(t), axis=1)))


@row(0.3, np.array([1.0, 0.0, 1.0, 1.0]))
def bernoulli_log_likelihood(θ, x):
    """
    ∂L/∂θ = Σ x/θ − Σ (1 − x)/(1 − θ)
    """
    return np.sum(x * np.log(θ) + (1 - x) * np.log(1 - θ))


@row(positive(), positive(4))
def poisson_log_likelihood(λ, k):
    """
    ∂L/∂λ = Σ k/λ − 4
    """
    return np.sum(k * np.log(λ) - λ)


@row(positive(), positive(4))
def exponential_log_likelihood(λ, x):
    """
    ∂L/∂λ = 4/λ − Σ x
    """
    return np.sum(np.log(λ) - λ * x)


@row(positive(4))
def entropy(p):
    """
    ∂L/∂p = −(log(p) + 1)
    """
    return -np.sum(p * np.log(p))


@row(positive(4), positive(4), of=(0, 1))
def kullback_leibler(p, q):
    """
    ∂L/∂p = 1 + log(p) − log(q)
    ∂L/∂q = −p ⊘ q
    """
    return np.sum(p * (np.log(p) - np.log(q)))


@row(array(4))
def variance(x):
    """
    ∂L/∂x = 2(x − mean(x))/n
    """
    return np.mean((x - np.mean(x)) ** 2)


@row(array(4))
def standard_deviation(x):
    """
    t = x − mean(x)
    ∂L/∂x = t/(n·√(‖t‖²/n))
    """
    return np.std(x)


@row(100.0, 95.0, 0.05, 0.2, 1.0, of=(0, 1, 2, 3, 4), about="Black & Scholes 1973")
def black_scholes(S, K, r, sigma, T):
    """
    δ = K·Φ(d₂)·exp(−rT)
    ∂C/∂S = Φ(d₁)
    ∂C/∂K = −Φ(d₂)·exp(−rT)
    ∂C/∂r = Tδ
    δ₁ = K·φ(d₂)·exp(−rT)
    ∂C/∂σ = δ₁·√T
    ∂C/∂T = δ₁σ/(2√T) + δr
    """
    d1 = (np.log(S / K) + (r + sigma**2 / 2) * T) / (sigma * np.sqrt(T))
    d2 = d1 - sigma * np.sqrt(T)
    C = S * normal_cdf(d1) - K * np.exp(-r * T) * normal_cdf(d2)
    return C


def normal_cdf(x):
    return 0.5 * (1 + gc.special.erf(x / math.sqrt(2)))
