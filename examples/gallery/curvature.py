"""Jacobians and Hessians as matrices, and Hessians as operators."""

from __future__ import annotations

import numpy as np

import gradc as gc
from examples.gallery.row import Rows, array, positive, symmetric

CHOICES = np.array([1.0, 0.0, 0.0, 1.0, 1.0])
LABELS = np.array([2, 0, 3, 3, 1])
row = Rows()


@row(array(4), kind="jacobian")
def softmax_jacobian(z):
    """
    ∂p/∂z = diag(p) − ppᵀ
    """
    p = gc.nn.softmax(z)
    return p


@row(array(2, 4), kind="jacobian")
def softmax_rows_jacobian(z):
    """
    ∂p/∂z = [I[i, k]I[j, l]p[i, j] − I[i, k]p[i, l]p[i, j]]ᵢⱼₖₗ
    """
    p = gc.nn.softmax(z)
    return p


@row(array(4), kind="jacobian")
def tanh_jacobian(z):
    """
    ∂h/∂z = diag(1 − h²)
    """
    h = np.tanh(z)
    return h


@row(array(3), array(4, 3), array(4), kind="jacobian")
def affine_jacobian(x, A, b):
    """
    ∂Y/∂x = A
    """
    return A @ x + b


@row(array(3), array(4, 3), array(4), kind="jacobian")
def neuron_layer_jacobian(x, W, b):
    """
    ∂a/∂x = diag(a ⊙ (1 − a)) W
    """
    a = gc.nn.sigmoid(W @ x + b)
    return a


@row(array(5, 3), array(3, 4), of=(0, 1), kind="jacobian")
def linear_layer_jacobian(X, W):
    """
    ∂Y/∂X = I ⊗ Wᵀ
    ∂Y/∂W = X ⊗ I
    """
    Y = X @ W
    return Y


@row(array(4), kind="jacobian")
def centred(x):
    """
    ∂Y/∂x = I − 𝟏𝟏ᵀ/n
    """
    return x - np.mean(x)


@row(array(4), kind="jacobian")
def unit_vector(x):
    """
    ∂Y/∂x = (I − xxᵀ/‖x‖²)/‖x‖
    """
    return x / np.linalg.norm(x)


@row(array(4), kind="jacobian")
def neighbours(x):
    """
    ∂Y/∂x = diag(x[:-1]) I[1:, :] + diag(x[1:]) I[:-1, :]
    """
    return x[1:] * x[:-1]


@row(array(3), array(3, 3), array(3), array(), kind="hessian")
def quadratic_hessian(w, A, b, c):
    """
    ∂²L/∂w² = ½(A + Aᵀ)
    """
    return 0.5 * w @ A @ w + b @ w + c


@row(array(3), symmetric(3), array(3), array(), kind="hessian")
def symmetric_quadratic_hessian(w, A, b, c):
    """
    ∂²L/∂w² = A
      A is symmetric
    """
    A = gc.assume(A, symmetric=True)
    return 0.5 * w @ A @ w + b @ w + c


@row(array(3), array(5, 3), array(5), kind="hessian")
def least_squares_hessian(w, X, y):
    """
    ∂²L/∂w² = XᵀX
    """
    return 0.5 * np.sum((X @ w - y) ** 2)


@row(array(3), array(5, 3), array(5), positive(), kind="hessian")
def ridge_hessian(w, X, y, λ):
    """
    ∂²L/∂w² = XᵀX + λI
    """
    return 0.5 * np.sum((X @ w - y) ** 2) + 0.5 * λ * np.sum(w**2)


@row(array(3), array(5, 3), array(5), positive(), kind="product")
def ridge_operator(w, X, y, λ):
    """
    ∂²L/∂w²·v = XᵀXv + λv
    """
    return 0.5 * np.sum((X @ w - y) ** 2) + 0.5 * λ * np.sum(w**2)


@row(array(3), array(5, 3), CHOICES, kind="hessian")
def logistic_hessian(w, X, y):
    """
    ∂²L/∂w² = Xᵀ diag(p ⊙ (1 − p)) X
    """
    p = gc.nn.sigmoid(X @ w)
    return -np.sum(y * np.log(p) + (1 - y) * np.log(1 - p))


@row(array(3), array(5, 3), CHOICES, kind="product")
def logistic_operator(w, X, y):
    """
    ∂²L/∂w²·v = Xᵀ(Xv ⊙ p ⊙ (1 − p))
    """
    p = gc.nn.sigmoid(X @ w)
    return -np.sum(y * np.log(p) + (1 - y) * np.log(1 - p))


@row(array(3), array(), array(5, 3), CHOICES, of=(0, 1), kind="hessian")
def logistic_hessian_with_bias(w, b, X, y):
    """
    t = p ⊙ (1 − p)
    ∂²L/∂w² = Xᵀ diag(t) X/n
    ∂²L/∂w∂b = Xᵀt/n
    ∂²L/∂b² = Σ t/n
    """
    p = gc.nn.sigmoid(X @ w + b)
    return -np.mean(y * np.log(p) + (1 - y) * np.log(1 - p))


@row(array(3), array(5, 3), 3 * CHOICES, kind="hessian")
def poisson_hessian(w, X, y):
    """
    ∂²L/∂w² = Xᵀ diag(μ) X
    """
    μ = np.exp(X @ w)
    return np.sum(μ - y * np.log(μ))


@row(array(3, 4), array(5, 3), LABELS, kind="hessian")
def softmax_regression_hessian(W, X, y):
    """
    p = softmax(XW)
    ∂²L/∂W² = [Σₘ X[m, k]X[m, i](I[j, l]p[m, j] − p[m, l]p[m, j])]ᵢⱼₖₗ/n
    """
    return gc.nn.cross_entropy(X @ W, y)


@row(array(4), kind="hessian")
def log_sum_exp_hessian(z):
    """
    p = softmax(z)
    ∂²L/∂z² = diag(p) − ppᵀ
    """
    return np.log(np.sum(np.exp(z)))


@row(array(), array(), of=(0, 1), about="Rosenbrock 1960", kind="hessian")
def rosenbrock_hessian(x, y):
    """
    ∂²L/∂x² = 2 − 400y + 1200x²
    ∂²L/∂x∂y = −400x
    ∂²L/∂y² = 200
    """
    return (1 - x) ** 2 + 100 * (y - x**2) ** 2


@row(array(4, 2), array(5, 2), array(4, 5), of=(0, 1), kind="hessian")
def factorisation_hessian(U, V, M):
    """
    ∂²L/∂U² = I ⊗ VᵀV
    ∂²L/∂U∂V = R ⊗ I + [V[k, j]U[i, l]]ᵢⱼₖₗ
    ∂²L/∂V² = I ⊗ UᵀU
    """
    R = U @ V.T - M
    return 0.5 * np.sum(R**2)


@row(array(3), array(3), kind="hessian")
def distance_hessian(x, a):
    """
    ∂²L/∂x² = I
    """
    return 0.5 * np.sum((x - a) ** 2)
