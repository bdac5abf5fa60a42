"""A support-vector machine on two of the bundled digits: its dual, solved by SciPy's SLSQP with compiled derivatives.

    minimise  ½ αᵀQα − Σα   with  0 ≤ α ≤ C  and  yᵀα = 0,   Q = (y yᵀ) ⊙ K

Needs SciPy.  Run: python examples/support_vector_machine.py
"""

from __future__ import annotations

import numpy as np

import gradc as gc
from gradc import data

DIGITS = (3, 8)
TRAINED_ON, PENALTY, WIDTH = 80, 10.0, 30.0


def kernel(a, b):
    """exp(−‖aᵢ − bⱼ‖²/width), of 64 pixels each."""
    squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None, :]
    return np.exp(-(squares - 2 * a @ b.T) / WIDTH)


def dual(alpha, q):
    """½ αᵀQα − Σα."""
    return 0.5 * alpha @ q @ alpha - alpha.sum()


def pairs():
    """Images and signs of the two digits."""
    digits = data.digits()
    chosen = np.isin(digits.labels, DIGITS)
    images = digits.images[chosen].reshape(-1, 64).astype(float)
    return images / images.max(), np.where(digits.labels[chosen] == DIGITS[0], 1.0, -1.0)


def train(x, y):
    """The multipliers, and the offset of the decision."""
    k = kernel(x, x)
    result = gc.scipy.minimize(
        dual,
        np.zeros(len(y)),
        args=(k * np.outer(y, y),),
        method="SLSQP",
        bounds=(0.0, PENALTY),
        constraints={"type": "eq", "fun": lambda alpha: alpha @ y},
        options={"maxiter": 200},
    )
    alpha = result.x
    inside = (alpha > 1e-6) & (alpha < PENALTY - 1e-6)
    return result, np.mean(y[inside] - (alpha * y) @ k[:, inside])


def main():
    x, y = pairs()
    known, asked = slice(0, TRAINED_ON), slice(TRAINED_ON, None)
    result, offset = train(x[known], y[known])
    decision = (result.x * y[known]) @ kernel(x[known], x[asked]) + offset
    accuracy = float(np.mean(np.sign(decision) == y[asked]))
    vectors = int(np.sum(result.x > 1e-6))
    print(f"{result.message}: {vectors} support vectors of {TRAINED_ON}, {accuracy:.3f} of {len(decision)} right")
    print(gc.explain(lambda alpha, q: dual(alpha, gc.assume(q, symmetric=True)), result.x, np.eye(TRAINED_ON)))
    return accuracy, result, float(y[known] @ result.x)


if __name__ == "__main__":
    main()
