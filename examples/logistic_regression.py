"""Logistic regression on real data: the gradient as a formula, Newton's method from compiled derivatives.

The Wisconsin breast-cancer data (569 cells, 30 features, bundled).  Newton's method needs the gradient and the Hessian;
gradc compiles loss, gradient and Hessian into one native function.

Run: python examples/logistic_regression.py
"""

from __future__ import annotations

import numpy as np

import gradc as gc
from gradc import data


def loss(w, X, y, decay=1e-2):
    """Mean negative log-likelihood of labels y in {0, 1}, plus ½·decay·‖w‖²."""
    z = X @ w
    return np.mean(np.logaddexp(0.0, z) - y * z) + 0.5 * decay * w @ w


def prepared():
    """Standardised features with a column of ones, and labels, split into training and test parts."""
    train, test = data.breast_cancer().split(seed=0)
    mean, scale = train.features.mean(axis=0), train.features.std(axis=0)

    def design(features):
        return np.column_stack([np.ones(len(features)), (features - mean) / scale])

    return design(train.features), train.labels.astype(float), design(test.features), test.labels


def newton(X, y, steps=20):
    """Newton's method with step halving; returns the weights, the loss and the norm of the last gradient."""

    def derivatives(w, X, y):
        return *gc.value_and_grad(loss)(w, X, y), gc.hessian(loss)(w, X, y)

    compiled, value_at = gc.jit(derivatives), gc.jit(loss)
    w = np.zeros(X.shape[1])
    for _ in range(steps):
        value, gradient, hessian = compiled(w, X, y)
        step = np.linalg.solve(hessian, gradient)
        while value_at(w - step, X, y) > value:
            step = step / 2
            if np.linalg.norm(step) < 1e-14:
                return w, float(value), float(np.linalg.norm(gradient))
        w = w - step
    return w, float(value), float(np.linalg.norm(gradient))


def main():
    X, y, X_test, y_test = prepared()
    print(gc.explain(loss, np.zeros(X.shape[1]), X, y, argnums=0), "\n")
    w, value, slope = newton(X, y)
    accuracy = np.mean((X_test @ w > 0) == y_test)
    print(f"loss {value:.6f}, |gradient| {slope:.1e}, test accuracy {accuracy:.3f}")
    return accuracy, slope


if __name__ == "__main__":
    main()
