"""Rosenbrock's valley, minimised by SciPy with gradc's compiled gradient and Hessian-vector product.

Needs SciPy.  Run: python examples/rosenbrock_scipy.py
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize

import gradc as gc


def rosenbrock(x):
    """Σ 100(xᵢ₊₁ − xᵢ²)² + (1 − xᵢ)²: minimum 0 at (1, …, 1)."""
    return np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


def solve(n=20):
    value_and_gradient = gc.jit(gc.value_and_grad(rosenbrock))
    product = gc.jit(lambda x, v: gc.hvp(rosenbrock, (x,), (v,))[0])
    start = np.tile([-1.2, 1.0], n // 2)
    return minimize(value_and_gradient, start, jac=True, hessp=product, method="Newton-CG", options={"xtol": 1e-10})


def main():
    result = solve()
    print(f"{result.message} f = {result.fun:.2e} after {result.nfev} evaluations, {result.nhev} Hessian products")
    return result


if __name__ == "__main__":
    main()
