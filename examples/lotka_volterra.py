"""Rabbits and foxes: the rates of Lotka and Volterra's equations, fitted to noisy counts through the integrator.

The residuals are an integration; SciPy's least squares gets them and their Jacobian as compiled functions.  The same
fit, integration and Levenberg–Marquardt in one native function, is ``gc.minimize(residuals, start, method=
"levenberg-marquardt")``.  Needs SciPy.  Run: python examples/lotka_volterra.py
"""

from __future__ import annotations

import numpy as np

import gradc as gc

TRUE = {"growth": 1.1, "hunting": 0.4, "feeding": 0.1, "death": 0.4}
FIRST = np.array([10.0, 10.0])
TIMES = np.linspace(0.0, 18.0, 25)
NOISE = 0.05


def field(y, t, p):
    """r' = growth·r − hunting·r·f,  f' = feeding·r·f − death·f."""
    r, f = y
    return np.stack([p["growth"] * r - p["hunting"] * r * f, p["feeding"] * r * f - p["death"] * f])


def counts(p):
    """Animals at `TIMES`."""
    return gc.odeint(field, FIRST, TIMES, p, rtol=1e-6, atol=1e-6)


def observed(seed=1):
    """What was counted: each number wrong by five per cent or so."""
    return counts(TRUE) * np.exp(NOISE * np.random.default_rng(seed).normal(size=(len(TIMES), 2)))


def fit(data):
    """Rates at which the logarithms of the counts are nearest to those of the data."""

    def residuals(p):
        return np.log(counts(p)) - np.log(data)

    start = {"growth": 1.0, "hunting": 0.3, "feeding": 0.08, "death": 0.5}
    return gc.scipy.least_squares(residuals, start)


def kept(r, f, p):
    """What no integration changes: it is constant along every solution."""
    return p["feeding"] * r - p["death"] * np.log(r) + p["hunting"] * f - p["growth"] * np.log(f)


def main():
    result = fit(observed())
    for name, rate in result.x.items():
        print(f"{name:8} {rate:.4f}  (true: {TRUE[name]})")
    print(f"after {result.nfev} integrations; residuals of {np.sqrt(2 * result.cost / (2 * len(TIMES))):.3f}\n")
    r, f = counts(result.x).T
    values = kept(r, f, result.x)
    print(f"kept along the fitted curve: {values.mean():.6f} ± {np.ptp(values) / 2:.1e}")
    print(gc.explain(kept, 10.0, 10.0, result.x, argnums=(0, 1)))
    return result, values


if __name__ == "__main__":
    main()
