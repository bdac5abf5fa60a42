"""A portfolio of five assets: the least risk for a wanted return, without debts, no asset above a share.

    minimise  wᵀΣw   with  Σw = 1,  μᵀw ≥ wanted,  0 ≤ w ≤ share

Needs SciPy.  Run: python examples/portfolio.py
"""

from __future__ import annotations

import numpy as np

import gradc as gc

NAMES = ("bonds", "gold", "index", "energy", "start-up")
MEAN = np.array([0.02, 0.03, 0.07, 0.09, 0.15])
RISK = np.array([0.03, 0.15, 0.16, 0.25, 0.40])
TOGETHER = np.array([
    [1.0, 0.1, -0.1, -0.2, 0.0],
    [0.1, 1.0, 0.0, 0.2, -0.1],
    [-0.1, 0.0, 1.0, 0.6, 0.5],
    [-0.2, 0.2, 0.6, 1.0, 0.3],
    [0.0, -0.1, 0.5, 0.3, 1.0],
])  # fmt: skip
COVARIANCE = TOGETHER * np.outer(RISK, RISK)
SHARE = 0.5


def variance(w, covariance):
    """wᵀΣw."""
    return w @ covariance @ w


def told(w, covariance):
    """The same, with what a reader knows of covariances."""
    return variance(w, gc.assume(covariance, symmetric=True))


def best(wanted, method="SLSQP"):
    """The weights of least variance whose mean return is ``wanted``."""
    from scipy.optimize import NonlinearConstraint

    whole = NonlinearConstraint(lambda w: w.sum(), 1.0, 1.0)
    enough = NonlinearConstraint(lambda w: MEAN @ w, wanted, np.inf)
    return gc.scipy.minimize(
        variance, np.full(len(NAMES), 0.2), args=(COVARIANCE,), method=method, bounds=(0.0, SHARE),
        constraints=(whole, enough), tol=1e-12,
    )  # fmt: skip


def main():
    weights = {}
    for wanted in (0.04, 0.06, 0.08):
        weights[wanted] = w = best(wanted).x
        shares = ", ".join(f"{name} {100 * share:.0f}%" for name, share in zip(NAMES, w, strict=True) if share > 5e-3)
        print(f"return {100 * MEAN @ w:.1f}%, risk {100 * np.sqrt(variance(w, COVARIANCE)):.1f}%: {shares}")
    print(gc.explain(told, weights[0.04], COVARIANCE))
    return weights


if __name__ == "__main__":
    main()
