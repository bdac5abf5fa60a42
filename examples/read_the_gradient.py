"""A tour of reading derivatives: small functions, and what gradc says their gradients are.

Run: python examples/read_the_gradient.py
"""

from __future__ import annotations

import numpy as np

import gradc as gc

matrix, vector = gc.spec((5, 3)), gc.spec((3,))


def product(x):
    return np.sin(x) * x


def half_squared_distance(X, Y):
    return 0.5 * np.sum((X - Y) ** 2)


def quadratic_form(x, A, b):
    return 0.5 * x @ A @ x + b @ x


def least_squares(w, X, y):
    r = X @ w - y
    return r @ r


def cross_entropy(W, X, Y):
    Z = X @ W
    p = gc.nn.softmax(Z)
    return -np.mean(np.sum(Y * np.log(p), axis=1))


EXAMPLES = (
    (product, (gc.spec(()),), (0,)),
    (half_squared_distance, (matrix, matrix), (0,)),
    (quadratic_form, (vector, gc.spec((3, 3)), vector), (0,)),
    (least_squares, (vector, matrix, gc.spec((5,))), (0,)),
    (cross_entropy, (gc.spec((3, 4)), matrix, gc.spec((5, 4))), (0,)),
)


def main():
    texts = []
    for function, arguments, argnums in EXAMPLES:
        texts.append(str(gc.explain(function, *arguments, argnums=argnums)))
        print(f"── {function.__name__} " + "─" * (60 - len(function.__name__)))
        print(texts[-1], "\n")
    return texts


if __name__ == "__main__":
    main()
