"""The level of the Nile: a Kalman filter by `gc.scan`, fitted by maximum likelihood, and smoothed by its gradient.

Each year's flow is a level and a disturbance, y = μ + ε; the level takes a step a year, μ' = μ + η (Durbin and
Koopman, Time Series Analysis by State Space Methods, 2001, chapter 2).  The filter predicts each flow from those
before; what its predictions miss gives the likelihood, which `gc.minimize` raises in one native function.  The
smoothed level, which knows the years after too, is no second algorithm: it is y + σ²ε·∂(log likelihood)/∂y.
Run: python examples/kalman_filter.py
"""

from __future__ import annotations

import math

import numpy as np

import gradc as gc

PUBLISHED = {"noise": 15099.0, "drift": 1469.1}
"""The variances that Durbin and Koopman find."""


def update(level, variance, y, noise, drift):
    """One year: what is known of the level after the flow y, as the prediction for the year after, and log p(y)."""
    surprise = y - level
    spread = variance + noise
    gain = variance / spread
    density = -0.5 * (np.log(2 * math.pi * spread) + surprise**2 / spread)
    return level + gain * surprise, gain * noise + drift, density


def filtered(y, noise, drift):
    """Predicted levels from the second year on, their variances, and the log likelihood; the first flow starts."""

    def year(known, flow):
        level, variance, total = known
        after, wider, density = update(level, variance, flow, noise, drift)
        return (after, wider, total + density), (level, variance)

    (_, _, total), (levels, variances) = gc.scan(year, (y[0], noise + drift, 0.0), y[1:])
    return levels, variances, total


def log_likelihood(y, noise, drift):
    """Of the flows after the first."""
    return filtered(y, noise, drift)[2]


def fit(y):
    """The variances of the largest likelihood; their logarithms are searched, so they stay positive."""

    def loss(p):
        return -log_likelihood(y, np.exp(p["noise"]), np.exp(p["drift"])) / len(y)

    start = {"noise": math.log(y.var()), "drift": math.log(y.var() / 10)}
    found = gc.jit(lambda p: gc.minimize(loss, p, method="bfgs"))(start)
    return {name: math.exp(value) for name, value in found.x.items()}, found


def smoothed(y, noise, drift):
    """The levels in the light of all years."""
    return y + noise * gc.grad(log_likelihood)(y, noise, drift)


def main():
    years, flow = gc.data.nile()
    variances, found = fit(flow)
    for name, value in variances.items():
        print(f"variance of the {name}: {value:8.1f}  (published: {PUBLISHED[name]})")
    print(f"log likelihood {log_likelihood(flow, **variances):.4f} after {found.nit} steps\n")
    levels = gc.jit(smoothed)(flow, **variances)
    for k in range(7, 100, 10):
        bar = " " * round(levels[k] / 20 - 30) + "o"
        print(f"{years[k]}  {levels[k]:6.0f}  {bar}")
    print()
    print(gc.explain(lambda level, variance, y, noise, drift: update(level, variance, y, noise, drift)[2],
                     1100.0, 5000.0, 1200.0, 15099.0, 1469.1, argnums=(0, 1)))  # fmt: skip
    return variances, levels


if __name__ == "__main__":
    main()
