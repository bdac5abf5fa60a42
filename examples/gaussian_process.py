"""The Nile again, as a Gaussian process: its kernel by marginal likelihood, its derivative as the textbook prints it.

The flow is a constant, a process with the kernel s²·exp(−|t − t'|/ℓ), and noise (Rasmussen and Williams, Gaussian
Processes for Machine Learning, 2006, chapters 2 and 5).  One Cholesky factor gives the likelihood, its gradient and
the band; `gc.minimize` finds the four hyperparameters in one native function.  Run: python examples/gaussian_process.py
"""

from __future__ import annotations

import math

import numpy as np

import gradc as gc


def kernel(s, t, p):
    """The covariance of the process at times s and t: its logarithmic scale and length are in ``p``."""
    distance = np.abs(s[:, None] - t[None, :])
    return np.exp(2 * p["scale"]) * np.exp(-distance / np.exp(p["length"]))


def log_density(r, K):
    """Of a residual r whose covariance is K."""
    K = gc.assume(K, symmetric=True)
    _, log_det = np.linalg.slogdet(2 * math.pi * K)
    return -0.5 * (r @ np.linalg.solve(K, r)) - 0.5 * log_det


def covariance(t, p):
    """Of what is measured at times t."""
    return kernel(t, t, p) + np.exp(2 * p["noise"]) * np.eye(len(t))


def fit(t, y):
    """The hyperparameters of the largest marginal likelihood."""

    def loss(p):
        return -log_density(y - p["mean"], covariance(t, p)) / len(t)

    half = math.log(y.std() / 2)
    start = {"mean": y.mean(), "scale": half, "length": math.log(10.0), "noise": half}
    return gc.jit(lambda p: gc.minimize(loss, p, method="bfgs"))(start)


def predicted(at, t, y, p):
    """The mean of the process and its standard deviation at times ``at``."""
    L = np.linalg.cholesky(covariance(t, p))
    near = gc.linalg.solve_triangular(L, kernel(t, at, p), lower=True)
    fits = gc.linalg.solve_triangular(L, y - p["mean"], lower=True)
    return p["mean"] + near.T @ fits, np.sqrt(np.exp(2 * p["scale"]) - np.sum(near**2, axis=0))


def main():
    years, flow = gc.data.nile()
    t = years.astype(float)
    found = fit(t, flow)
    p = found.x
    scale, length, noise = (math.exp(p[name]) for name in ("scale", "length", "noise"))
    print(f"mean {p['mean']:.0f}, scale {scale:.0f}, length {length:.1f} years, noise {noise:.0f}")
    print(f"log likelihood {-found.fun * len(t):.3f} after {found.nit} steps\n")
    at = np.arange(1870.0, 1991.0, 10.0)
    mean, deviation = gc.jit(predicted)(at, t, flow, p)
    for year, m, d in zip(at, mean, deviation, strict=True):
        left, middle, right = (round((m + k * d) / 20 - 30) for k in (-2, 0, 2))
        line = [" "] * left + ["-"] * (right - left)
        line[middle] = "o"
        print(f"{year:.0f}  {m:5.0f} ± {2 * d:3.0f}  {''.join(line)}")
    print()
    print(gc.explain(log_density, flow - p["mean"], covariance(t, p), argnums=(0, 1)))
    return found, (mean, deviation)


if __name__ == "__main__":
    main()
