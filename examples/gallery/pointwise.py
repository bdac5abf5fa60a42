"""Functions of each element, sums and means, and how cotangents pass them."""

from __future__ import annotations

import numpy as np

import gradc as gc
from examples.gallery.row import Row, array, positive


def half_squared_distance(X, Y):
    return 0.5 * np.sum((X - Y) ** 2)


def hadamard(P, Q):
    return P * Q


def quotient(P, Q):
    Z = P / Q
    return Z


def relu(Y):
    Z = gc.nn.relu(Y)
    return Z


def sigmoid(Y):
    Z = gc.nn.sigmoid(Y)
    return Z


def tanh(Y):
    Z = np.tanh(Y)
    return Z


def exponential(Y):
    Z = np.exp(Y)
    return Z


def logarithm(Y):
    Z = np.log(Y)
    return Z


def square_root(Y):
    Z = np.sqrt(Y)
    return Z


def reciprocal(Y):
    Z = 1 / Y
    return Z


def cube(Y):
    Z = Y**3
    return Z


def sine(Y):
    Z = np.sin(Y)
    return Z


def arctangent(Y):
    Z = np.arctan(Y)
    return Z


def softplus(Y):
    Z = np.log(1 + np.exp(Y))
    return Z


def silu(Y):
    Z = gc.nn.silu(Y)
    return Z


def gelu(Y):
    Z = gc.nn.gelu(Y)
    return Z


def absolute(x):
    return np.sum(np.abs(x))


def absolute_of_positive(x):
    x = gc.assume(x, positive=True)
    return np.sum(np.abs(x) * x)


def total(X):
    return np.sum(X)


def mean(X):
    return np.mean(X)


def largest(X):
    return np.max(X)


def product_rule(x):
    return x * np.sin(x)


def power(x, a):
    return x**a


def rosenbrock(x, y):
    return (1 - x) ** 2 + 100 * (y - x**2) ** 2


ROWS = (
    Row(half_squared_distance, (array(5, 3), array(5, 3)), "∂L/∂X = X − Y"),
    Row(hadamard, (array(2, 3), array(2, 3)), "∂P = G ⊙ Q\n∂Q = G ⊙ P", (0, 1)),
    Row(quotient, (array(2, 3), positive(2, 3)), "?", (0, 1)),
    Row(relu, (array(2, 3),), "∂Y = G ⊙ 1[Y > 0]"),
    Row(sigmoid, (array(2, 3),), "∂Y = G ⊙ Z ⊙ (1 − Z)"),
    Row(tanh, (array(2, 3),), "∂Y = G ⊙ (1 − Z²)"),
    Row(exponential, (array(2, 3),), "∂Y = G ⊙ Z"),
    Row(logarithm, (positive(2, 3),), "∂Y = G ⊘ Y"),
    Row(square_root, (positive(2, 3),), "?"),
    Row(reciprocal, (positive(2, 3),), "?"),
    Row(cube, (array(2, 3),), "∂Y = 3G ⊙ Y²"),
    Row(sine, (array(2, 3),), "∂Y = G ⊙ cos(Y)"),
    Row(arctangent, (array(2, 3),), "∂Y = G ⊘ (1 + Y²)"),
    Row(softplus, (array(2, 3),), "∂Y = G ⊙ σ(Y)"),
    Row(silu, (array(2, 3),), "?"),
    Row(gelu, (array(2, 3),), "?"),
    Row(absolute, (array(3),), "∂L/∂x = sign(x)"),
    Row(absolute_of_positive, (positive(3),), "∂L/∂x = 2x\n  x is positive"),
    Row(total, (array(2, 3),), "∂L/∂X = 1"),
    Row(mean, (array(2, 3),), "∂L/∂X = 1/n"),
    Row(largest, (array(2, 3),), "∂L/∂X = onehot(argmax(X))"),
    Row(product_rule, (array(),), "∂L/∂x = x·cos(x) + sin(x)"),
    Row(power, (positive(), array()), "?", (0, 1)),
    Row(rosenbrock, (array(), array()), "∂L/∂x = 400x(x² − y) + 2(x − 1)\n∂L/∂y = 200(y − x²)", (0, 1),
        "Rosenbrock 1960"),
)  # fmt: skip
