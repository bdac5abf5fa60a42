"""Functions of each element, sums and means, and how cotangents pass them."""

from __future__ import annotations

import numpy as np

import gradc as gc
from examples.gallery.row import Rows, array, positive

row = Rows()


@row(array(5, 3), array(5, 3))
def half_squared_distance(X, Y):
    """
    ∂L/∂X = X − Y
    """
    return 0.5 * np.sum((X - Y) ** 2)


@row(array(2, 3), array(2, 3), of=(0, 1))
def hadamard(P, Q):
    """
    ∂P = G ⊙ Q
    ∂Q = G ⊙ P
    """
    return P * Q


@row(array(2, 3), positive(2, 3), of=(0, 1))
def quotient(P, Q):
    """
    ∂P = G ⊘ Q
    ∂Q = −G ⊙ Z ⊘ Q
    """
    Z = P / Q
    return Z


@row(array(2, 3))
def relu(Y):
    """
    ∂Y = G ⊙ 1[Y > 0]
    """
    Z = gc.nn.relu(Y)
    return Z


@row(array(2, 3))
def sigmoid(Y):
    """
    ∂Y = G ⊙ Z ⊙ (1 − Z)
    """
    Z = gc.nn.sigmoid(Y)
    return Z


@row(array(2, 3))
def tanh(Y):
    """
    ∂Y = G ⊙ (1 − Z²)
    """
    Z = np.tanh(Y)
    return Z


@row(array(2, 3))
def exponential(Y):
    """
    ∂Y = G ⊙ Z
    """
    Z = np.exp(Y)
    return Z


@row(positive(2, 3))
def logarithm(Y):
    """
    ∂Y = G ⊘ Y
    """
    Z = np.log(Y)
    return Z


@row(positive(2, 3))
def square_root(Y):
    """
    ∂Y = ½G ⊘ Z
    """
    Z = np.sqrt(Y)
    return Z


@row(positive(2, 3))
def reciprocal(Y):
    """
    ∂Y = −G ⊙ Z ⊘ Y
    """
    Z = 1 / Y
    return Z


@row(array(2, 3))
def cube(Y):
    """
    ∂Y = 3G ⊙ Y²
    """
    Z = Y**3
    return Z


@row(array(2, 3))
def sine(Y):
    """
    ∂Y = G ⊙ cos(Y)
    """
    Z = np.sin(Y)
    return Z


@row(array(2, 3))
def arctangent(Y):
    """
    ∂Y = G ⊘ (1 + Y²)
    """
    Z = np.arctan(Y)
    return Z


@row(array(2, 3))
def softplus(Y):
    """
    ∂Y = G ⊙ σ(Y)
    """
    Z = np.log(1 + np.exp(Y))
    return Z


@row(array(2, 3))
def silu(Y):
    """
    ∂Y = G ⊙ (Z ⊙ (1 − σ(Y)) + σ(Y))
    """
    Z = gc.nn.silu(Y)
    return Z


@row(array(2, 3))
def gelu(Y):
    """
    ∂Y = G ⊙ (Φ(Y) + φ(Y) ⊙ Y)
    """
    Z = gc.nn.gelu(Y)
    return Z


@row(array(3))
def absolute(x):
    """
    ∂L/∂x = sign(x)
    """
    return np.sum(np.abs(x))


@row(positive(3))
def absolute_of_positive(x):
    """
    ∂L/∂x = 2x
      x is positive
    """
    x = gc.assume(x, positive=True)
    return np.sum(np.abs(x) * x)


@row(array(2, 3))
def total(X):
    """
    ∂L/∂X = 𝟏𝟏ᵀ
    """
    return np.sum(X)


@row(array(2, 3))
def mean(X):
    """
    ∂L/∂X = 𝟏𝟏ᵀ/n
    """
    return np.mean(X)


@row(array(2, 3))
def largest(X):
    """
    ∂L/∂X = onehot(argmax(X))
    """
    return np.max(X)


@row(array())
def product_rule(x):
    """
    ∂L/∂x = x·cos(x) + sin(x)
    """
    return x * np.sin(x)


@row(positive(), array(), of=(0, 1))
def power(x, a):
    """
    ∂L/∂x = ax^(a − 1)
    ∂L/∂a = x^a·log(x)
    """
    return x**a


@row(array(), array(), of=(0, 1), about="Rosenbrock 1960")
def rosenbrock(x, y):
    """
    ∂L/∂x = 400x(x² − y) + 2(x − 1)
    ∂L/∂y = 200(y − x²)
    """
    return (1 - x) ** 2 + 100 * (y - x**2) ** 2
