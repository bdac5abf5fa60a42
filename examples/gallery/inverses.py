"""Identities that need an inverse, a determinant or singular values (Petersen & Pedersen, The Matrix Cookbook)."""

from __future__ import annotations

import numpy as np

import gradc as gc
from examples.gallery.row import Rows, array, definite, regular

row = Rows()


@row(regular(3), about="Cookbook 49")
def determinant(X):
    """
    ∂L/∂X = det(X)·X⁻ᵀ
    """
    return np.linalg.det(X)


@row(regular(3), regular(3), regular(3), of=(1,), about="Cookbook 51")
def determinant_of_product(A, X, B):
    """
    ∂L/∂X = det(AXB)·Aᵀ(AXB)⁻ᵀBᵀ
    """
    return np.linalg.det(A @ X @ B)


@row(regular(3), about="Cookbook 58")
def power_of_determinant(X):
    """
    ∂L/∂X = 3det(X)³·X⁻ᵀ
    """
    return np.linalg.det(X) ** 3


@row(regular(3))
def determinant_of_inverse(X):
    """
    ∂L/∂X = −det(X⁻¹)·X⁻ᵀ
    """
    return np.linalg.det(np.linalg.inv(X))


@row(array(4, 3), about="Cookbook 54, A = I")
def determinant_of_gram(X):
    """
    ∂L/∂X = 2det(XᵀX)·X(XᵀX)⁻¹
    """
    return np.linalg.det(X.T @ X)


@row(array(4, 3), definite(4), about="Cookbook 53")
def determinant_of_quadratic(X, A):
    """
    ∂L/∂X = 2det(XᵀAX)·AX(XᵀAX)⁻¹
      A is symmetric
    """
    A = gc.assume(A, symmetric=True)
    return np.linalg.det(X.T @ A @ X)


@row(array(4, 3), regular(4), about="Cookbook 54")
def determinant_of_any_quadratic(X, A):
    """
    ∂L/∂X = det(XᵀAX)·(AX(XᵀAX)⁻¹ + AᵀX(XᵀAX)⁻ᵀ)
    """
    return np.linalg.det(X.T @ A @ X)


@row(regular(3), about="Cookbook 57")
def log_determinant(X):
    """
    ∂L/∂X = X⁻ᵀ
    """
    return np.linalg.slogdet(X)[1]


@row(definite(3), about="Cookbook 141")
def log_determinant_symmetric(X):
    """
    ∂L/∂X = X⁻¹
      X is symmetric
    """
    X = gc.assume(X, symmetric=True)
    return np.linalg.slogdet(X)[1]


@row(array(4, 3), about="Cookbook 55")
def log_determinant_of_gram(X):
    """
    ∂L/∂X = 2X(XᵀX)⁻¹
    """
    return np.linalg.slogdet(X.T @ X)[1]


@row(regular(3), regular(3))
def log_determinant_of_product(X, A):
    """
    ∂L/∂X = Aᵀ(AX)⁻ᵀ
    """
    return np.linalg.slogdet(A @ X)[1]


@row(definite(3), definite(3))
def log_determinant_shifted(X, A):
    """
    δ = (XXᵀ + A)⁻ᵀ
    ∂L/∂X = (δ + δᵀ)X
    """
    return np.linalg.slogdet(A + X @ X.T)[1]


@row(regular(3), about="Cookbook 59")
def inverse(X):
    """
    ∂X = −YᵀGYᵀ
    """
    Y = np.linalg.inv(X)
    return Y


@row(regular(3), array(3), of=(0, 1))
def linear_system(A, b):
    """
    ∂A = −A⁻ᵀGbᵀA⁻ᵀ
    ∂b = A⁻ᵀG
    """
    x = np.linalg.solve(A, b)
    return x


@row(regular(3), array(3, 2), of=(0, 1))
def linear_system_of_matrices(A, B):
    """
    ∂A = −A⁻ᵀGXᵀ
    ∂B = A⁻ᵀG
    """
    X = np.linalg.solve(A, B)
    return X


@row(regular(3), array(3), array(3), about="Cookbook 61")
def bilinear_of_inverse(X, a, b):
    """
    ∂L/∂X = −X⁻ᵀabᵀX⁻ᵀ
    """
    return a @ np.linalg.solve(X, b)


@row(definite(3), array(3), of=(0, 1))
def quadratic_of_inverse(X, a):
    """
    ∂L/∂X = −X⁻¹aaᵀX⁻¹
      X is symmetric
    ∂L/∂a = 2X⁻¹a
      X is symmetric
    """
    X = gc.assume(X, symmetric=True)
    return a @ np.linalg.solve(X, a)


@row(regular(3), about="Cookbook 64, A = 0")
def trace_of_inverse(X):
    """
    ∂L/∂X = −X⁻ᵀX⁻ᵀ
    """
    return np.trace(np.linalg.inv(X))


@row(regular(3), array(3, 3), about="Cookbook 63, A = I")
def trace_of_inverse_product(X, B):
    """
    ∂L/∂X = −X⁻ᵀBᵀX⁻ᵀ
    """
    return np.trace(np.linalg.inv(X) @ B)


@row(regular(3), array(3, 3), array(3, 3), about="Cookbook 63")
def trace_of_inverse_between(X, A, B):
    """
    ∂L/∂X = −X⁻ᵀAᵀBᵀX⁻ᵀ
    """
    return np.trace(A @ np.linalg.inv(X) @ B)


@row(regular(3), regular(3), about="Cookbook 64")
def trace_of_shifted_inverse(X, A):
    """
    ∂L/∂X = −(A + X)⁻ᵀ(A + X)⁻ᵀ
    """
    return np.trace(np.linalg.inv(X + A))


@row(array(4, 3), array(3, 3), about="Cookbook 125")
def trace_of_gram_inverse(X, A):
    """
    ∂L/∂X = −X(XᵀX)⁻¹(A + Aᵀ)(XᵀX)⁻¹
    """
    return np.trace(np.linalg.inv(X.T @ X) @ A)


@row(array(4, 3), definite(4), definite(4), about="Cookbook 126")
def ratio_of_quadratics(X, B, C):
    """
    δ₂ = (XᵀCX)⁻¹
      C is symmetric
    δ₁ = −δ₂ᵀXᵀBᵀXδ₂ᵀ
      B is symmetric
      C is symmetric
    ∂L/∂X = CX(δ₁ + δ₁ᵀ) + BX(δ₂ + δ₂ᵀ)
      B is symmetric
      C is symmetric
    """
    B, C = gc.assume(B, symmetric=True), gc.assume(C, symmetric=True)
    return np.trace(np.linalg.inv(X.T @ C @ X) @ (X.T @ B @ X))


@row(regular(3), regular(3), array(3), array(3), of=(1,))
def inverse_of_product(A, X, a, b):
    """
    ∂L/∂X = −Aᵀ(AX)⁻ᵀabᵀ(AX)⁻ᵀ
    """
    return a @ np.linalg.solve(A @ X, b)


@row(regular(3), array(3), array(3))
def squared_residual_of_system(A, b, c):
    """
    ∂L/∂A = A⁻ᵀ(c − A⁻¹b)bᵀA⁻ᵀ
    """
    return 0.5 * np.sum((np.linalg.solve(A, b) - c) ** 2)


@row(array(5, 3), array(5), 0.5, of=(1,))
def ridge_regression(X, y, lam):
    """
    ∂y = X(XᵀX + λI)⁻¹G
    """
    w = np.linalg.solve(X.T @ X + lam * np.eye(3), X.T @ y)
    return w


@row(array(5, 3), array(5), of=(1,))
def least_squares_solution(X, y):
    """
    ∂y = X(XᵀX)⁻¹G
    """
    w = np.linalg.solve(X.T @ X, X.T @ y)
    return w


@row(array(3), definite(3), array(3), of=(0, 2))
def newton_step(w, H, g):
    """
    ∂w = G
    ∂g = −H⁻ᵀG
    """
    z = w - np.linalg.solve(H, g)
    return z


@row(definite(3), array(3), about="Cookbook 376")
def gaussian_covariance(S, d):
    """
    ∂L/∂S = ½(S⁻¹ − S⁻¹ddᵀS⁻¹)
      S is symmetric
    """
    S = gc.assume(S, symmetric=True)
    return 0.5 * d @ np.linalg.solve(S, d) + 0.5 * np.linalg.slogdet(S)[1]


@row(definite(3), array(3), array(3), of=(2,), about="Cookbook 375")
def gaussian_mean(S, x, m):
    """
    ∂L/∂m = −S⁻¹d
      S is symmetric
    """
    S = gc.assume(S, symmetric=True)
    d = x - m
    return 0.5 * d @ np.linalg.solve(S, d)


@row(array(3), definite(3))
def mahalanobis(x, S):
    """
    ∂L/∂x = (S⁻¹ + S⁻ᵀ)x/(2√(xᵀS⁻¹x))
    """
    return np.sqrt(x @ np.linalg.solve(S, x))


@row(array(4, 3))
def singular_values_sum(X):
    """
    ∂L/∂X = U(X) diag(1[σ(X) > 0]) V(X)ᵀ
    """
    return np.linalg.norm(X, "nuc")


@row(array(4, 3))
def spectral_norm(X):
    """
    ∂L/∂X = u₁(X)·v₁(X)ᵀ
    """
    return np.linalg.norm(X, 2)


@row(regular(3))
def condition_number(X):
    """
    ∂L/∂X = U(X) diag((place(1/σ(X)[2], [0]) + place(−σ(X)[0]/σ(X)[2]², [2])) ⊙ 1[σ(X) > 0]) V(X)ᵀ
    """
    return np.linalg.cond(X)
