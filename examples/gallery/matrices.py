"""The identities of matrix calculus as the tables print them (Petersen & Pedersen, The Matrix Cookbook, 2012)."""

from __future__ import annotations

import numpy as np

import gradc as gc
from examples.gallery.row import Rows, array, symmetric

row = Rows()


@row(array(4, 3), array(3, 2), of=(0, 1))
def matrix_product(X, W):
    """
    ∂X = GWᵀ
    ∂W = XᵀG
    """
    Y = X @ W
    return Y


@row(array(2, 3), array(3, 4), array(4, 5), of=(0, 1, 2))
def three_matrices(A, X, B):
    """
    ∂A = GBᵀXᵀ
    ∂X = AᵀGBᵀ
    ∂B = XᵀAᵀG
    """
    Y = A @ X @ B
    return Y


@row(array(2, 3))
def transposed(X):
    """
    ∂X = Gᵀ
    """
    Y = X.T
    return Y


@row(array(5, 3), array(3), of=(0, 1))
def column_sums(X, b):
    """
    ∂X = G
    ∂b = Σᵢ G
    """
    Y = X + b
    return Y


@row(array(3), array(3), of=(0, 1), about="Cookbook 69")
def linear_form(x, a):
    """
    ∂L/∂x = a
    ∂L/∂a = x
    """
    return a @ x


@row(array(2, 3), array(2), array(3), about="Cookbook 70")
def bilinear_form(X, a, b):
    """
    ∂L/∂X = abᵀ
    """
    return a @ X @ b


@row(array(3, 2), array(2), array(3), about="Cookbook 71")
def bilinear_form_transposed(X, a, b):
    """
    ∂L/∂X = baᵀ
    """
    return a @ X.T @ b


@row(array(3), array(3, 3), of=(0, 1), about="Cookbook 81")
def quadratic_form(x, A):
    """
    ∂L/∂x = (A + Aᵀ)x
    ∂L/∂A = xxᵀ
    """
    return x @ A @ x


@row(array(3), symmetric(3))
def symmetric_quadratic_form(x, A):
    """
    ∂L/∂x = 2Ax
      A is symmetric
    """
    A = gc.assume(A, symmetric=True)
    return x @ A @ x


@row(array(3), array(3, 3), array(3), array())
def quadratic(w, A, b, c):
    """
    ∂L/∂w = ½(A + Aᵀ)w + b
    """
    return 0.5 * w @ A @ w + b @ w + c


@row(array(3), symmetric(3), array(3), array())
def symmetric_quadratic(w, A, b, c):
    """
    ∂L/∂w = Aw + b
      A is symmetric
    """
    A = gc.assume(A, symmetric=True)
    return 0.5 * w @ A @ w + b @ w + c


@row(array(5, 3), array(3), array(3), about="Cookbook 77")
def gram_form(X, a, b):
    """
    ∂L/∂X = X(baᵀ + abᵀ)
    """
    return a @ X.T @ X @ b


@row(array(3, 5), array(3), array(3))
def outer_gram_form(X, a, b):
    """
    ∂L/∂X = (abᵀ + baᵀ)X
    """
    return a @ X @ X.T @ b


@row(array(3), about="Cookbook 131")
def squared_norm(x):
    """
    ∂L/∂x = 2x
    """
    return x @ x


@row(array(3))
def norm(x):
    """
    ∂L/∂x = x/‖x‖
    """
    return np.linalg.norm(x)


@row(array(3), array(3), about="Cookbook 129")
def distance(x, a):
    """
    ∂L/∂x = (x − a)/‖x − a‖
    """
    return np.linalg.norm(x - a)


@row(array(3), array(5, 3), array(5), about="Cookbook 84")
def residual(x, A, b):
    """
    ∂L/∂x = 2Aᵀ(Ax − b)
    """
    return np.sum((A @ x - b) ** 2)


@row(array(3), array(5, 3), array(5), symmetric(5), about="Cookbook 84")
def weighted_residual(x, A, b, W):
    """
    ∂L/∂x = 2AᵀWr
      W is symmetric
    """
    W = gc.assume(W, symmetric=True)
    r = A @ x - b
    return r @ W @ r


@row(array(3, 3), about="Cookbook 99")
def trace(X):
    """
    ∂L/∂X = I
    """
    return np.trace(X)


@row(array(3, 2), array(2, 3), about="Cookbook 100")
def trace_of_product(X, A):
    """
    ∂L/∂X = Aᵀ
    """
    return np.trace(A @ X)


@row(array(2, 3), array(2, 3), about="Cookbook 103")
def trace_of_transposed_product(X, A):
    """
    ∂L/∂X = A
    """
    return np.trace(A @ X.T)


@row(array(5, 3), array(2, 5), array(3, 2), about="Cookbook 101")
def trace_of_two_sided_product(X, A, B):
    """
    ∂L/∂X = AᵀBᵀ
    """
    return np.trace(A @ X @ B)


@row(array(3, 3), about="Cookbook 106")
def trace_of_square(X):
    """
    ∂L/∂X = 2Xᵀ
    """
    return np.trace(X @ X)


@row(array(4, 3), about="Cookbook 115")
def trace_of_gram(X):
    """
    ∂L/∂X = 2X
    """
    return np.trace(X.T @ X)


@row(array(4, 3), array(4, 4), about="Cookbook 108")
def trace_of_quadratic(X, B):
    """
    ∂L/∂X = (B + Bᵀ)X
    """
    return np.trace(X.T @ B @ X)


@row(array(4, 3), symmetric(4))
def trace_of_symmetric_quadratic(X, B):
    """
    ∂L/∂X = 2BX
      B is symmetric
    """
    B = gc.assume(B, symmetric=True)
    return np.trace(X.T @ B @ X)


@row(array(4, 3), array(3, 3), about="Cookbook 111")
def trace_of_outer_quadratic(X, B):
    """
    ∂L/∂X = X(B + Bᵀ)
    """
    return np.trace(X @ B @ X.T)


@row(array(3, 3), array(3, 3), array(3, 3), about="Cookbook 118")
def trace_of_sandwich(X, A, B):
    """
    ∂L/∂X = AᵀXᵀBᵀ + BᵀXᵀAᵀ
    """
    return np.trace(A @ X @ B @ X)


@row(array(3, 4), array(2, 3), array(4, 4), array(3, 2), about="Cookbook 119")
def trace_of_transposed_sandwich(X, A, B, C):
    """
    ∂L/∂X = AᵀCᵀXBᵀ + CAXB
    """
    return np.trace(A @ X @ B @ X.T @ C)


@row(array(3, 4), array(2, 3), array(4, 5), array(2, 5), about="Cookbook 119")
def trace_of_squared_residual(X, A, B, C):
    """
    ∂L/∂X = 2AᵀRBᵀ
    """
    R = A @ X @ B + C
    return np.trace(R @ R.T)


@row(array(3, 4), about="Cookbook 132")
def squared_frobenius_norm(X):
    """
    ∂L/∂X = 2X
    """
    return np.sum(X**2)


@row(array(3, 4))
def frobenius_norm(X):
    """
    ∂L/∂X = X/‖X‖
    """
    return np.linalg.norm(X)


@row(array(3, 4), array(3, 4))
def inner_product(X, A):
    """
    ∂L/∂X = A
    """
    return np.sum(A * X)


@row(array(3), array(3, 3))
def cubed_form(x, A):
    """
    ∂L/∂x = 2(xᵀAx)(A + Aᵀ)x
    """
    return (x @ A @ x) ** 2


@row(array(3, 4), array(5, 3), array(5, 4))
def matrix_residual(X, A, B):
    """
    ∂L/∂X = Aᵀ(AX − B)
    """
    return 0.5 * np.sum((A @ X - B) ** 2)


@row(array(3), array(4), array(3, 4), of=(0, 1))
def rank_one(x, y, M):
    """
    δ = xyᵀ − M
    ∂L/∂x = δy
    ∂L/∂y = δᵀx
    """
    return 0.5 * np.sum((np.outer(x, y) - M) ** 2)


@row(array(4, 2), array(5, 2), array(4, 5), of=(0, 1))
def factorisation(U, V, M):
    """
    δ = UVᵀ − M
    ∂L/∂U = δV
    ∂L/∂V = δᵀU
    """
    return 0.5 * np.sum((U @ V.T - M) ** 2)


@row(array(3), symmetric(3))
def gaussian_exponent(x, A):
    """
    ∂L/∂x = −LAx
      A is symmetric
    """
    A = gc.assume(A, symmetric=True)
    L = np.exp(-0.5 * x @ A @ x)
    return L


@row(array(3), symmetric(3))
def rayleigh_quotient(x, A):
    """
    ∂L/∂x = 2(Ax − Lx)/‖x‖²
      A is symmetric
    """
    A = gc.assume(A, symmetric=True)
    L = (x @ A @ x) / (x @ x)
    return L
