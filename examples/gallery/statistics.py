"""Likelihoods, and a price with its greeks."""

from __future__ import annotations

import math

import numpy as np

import gradc as gc
from examples.gallery.row import Row, array, positive


def gaussian_log_likelihood(μ, σ, x):
    return -np.sum((x - μ) ** 2) / (2 * σ**2) - len(x) * np.log(σ)


def gaussian_mixture(μ, π, x):
    t = np.log(π) - 0.5 * (x[:, None] - μ) ** 2
    return np.sum(np.log(np.sum(np.exp(t), axis=1)))


def bernoulli_log_likelihood(θ, x):
    return np.sum(x * np.log(θ) + (1 - x) * np.log(1 - θ))


def poisson_log_likelihood(λ, k):
    return np.sum(k * np.log(λ) - λ)


def exponential_log_likelihood(λ, x):
    return np.sum(np.log(λ) - λ * x)


def entropy(p):
    return -np.sum(p * np.log(p))


def kullback_leibler(p, q):
    return np.sum(p * (np.log(p) - np.log(q)))


def variance(x):
    return np.mean((x - np.mean(x)) ** 2)


def standard_deviation(x):
    return np.std(x)


def black_scholes(S, K, r, sigma, T):
    d1 = (np.log(S / K) + (r + sigma**2 / 2) * T) / (sigma * np.sqrt(T))
    d2 = d1 - sigma * np.sqrt(T)
    C = S * normal_cdf(d1) - K * np.exp(-r * T) * normal_cdf(d2)
    return C


def normal_cdf(x):
    return 0.5 * (1 + gc.special.erf(x / math.sqrt(2)))


ROWS = (
    Row(gaussian_log_likelihood, (array(), positive(), array(5)), "?", (0, 1)),
    Row(gaussian_mixture, (array(3), positive(3), array(5)), "?", (0, 1)),
    Row(bernoulli_log_likelihood, (0.3, np.array([1.0, 0.0, 1.0, 1.0])), "?"),
    Row(poisson_log_likelihood, (positive(), positive(4)), "?"),
    Row(exponential_log_likelihood, (positive(), positive(4)), "?"),
    Row(entropy, (positive(4),), "?"),
    Row(kullback_leibler, (positive(4), positive(4)), "?", (0, 1)),
    Row(variance, (array(4),), "?"),
    Row(standard_deviation, (array(4),), "?"),
    Row(black_scholes, (100.0, 95.0, 0.05, 0.2, 1.0), "?", (0, 1, 2, 3, 4), "Black & Scholes 1973"),
)  # fmt: skip
