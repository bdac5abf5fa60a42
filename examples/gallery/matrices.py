"""The identities of matrix calculus as the tables print them (Petersen & Pedersen, The Matrix Cookbook, 2012)."""

from __future__ import annotations

import numpy as np

import gradc as gc
from examples.gallery.row import Row, array, symmetric


def matrix_product(X, W):
    Y = X @ W
    return Y


def three_matrices(A, X, B):
    Y = A @ X @ B
    return Y


def transposed(X):
    Y = X.T
    return Y


def column_sums(X, b):
    Y = X + b
    return Y


def linear_form(x, a):
    return a @ x


def bilinear_form(X, a, b):
    return a @ X @ b


def bilinear_form_transposed(X, a, b):
    return a @ X.T @ b


def quadratic_form(x, A):
    return x @ A @ x


def symmetric_quadratic_form(x, A):
    A = gc.assume(A, symmetric=True)
    return x @ A @ x


def quadratic(w, A, b, c):
    return 0.5 * w @ A @ w + b @ w + c


def symmetric_quadratic(w, A, b, c):
    A = gc.assume(A, symmetric=True)
    return 0.5 * w @ A @ w + b @ w + c


def gram_form(X, a, b):
    return a @ X.T @ X @ b


def outer_gram_form(X, a, b):
    return a @ X @ X.T @ b


def squared_norm(x):
    return x @ x


def norm(x):
    return np.linalg.norm(x)


def distance(x, a):
    return np.linalg.norm(x - a)


def residual(x, A, b):
    return np.sum((A @ x - b) ** 2)


def weighted_residual(x, A, b, W):
    W = gc.assume(W, symmetric=True)
    r = A @ x - b
    return r @ W @ r


def trace(X):
    return np.trace(X)


def trace_of_product(X, A):
    return np.trace(A @ X)


def trace_of_transposed_product(X, A):
    return np.trace(A @ X.T)


def trace_of_two_sided_product(X, A, B):
    return np.trace(A @ X @ B)


def trace_of_square(X):
    return np.trace(X @ X)


def trace_of_gram(X):
    return np.trace(X.T @ X)


def trace_of_quadratic(X, B):
    return np.trace(X.T @ B @ X)


def trace_of_symmetric_quadratic(X, B):
    B = gc.assume(B, symmetric=True)
    return np.trace(X.T @ B @ X)


def trace_of_outer_quadratic(X, B):
    return np.trace(X @ B @ X.T)


def trace_of_sandwich(X, A, B):
    return np.trace(A @ X @ B @ X)


def trace_of_transposed_sandwich(X, A, B, C):
    return np.trace(A @ X @ B @ X.T @ C)


def trace_of_squared_residual(X, A, B, C):
    R = A @ X @ B + C
    return np.trace(R @ R.T)


def squared_frobenius_norm(X):
    return np.sum(X**2)


def frobenius_norm(X):
    return np.linalg.norm(X)


def inner_product(X, A):
    return np.sum(A * X)


def cubed_form(x, A):
    return (x @ A @ x) ** 2


def matrix_residual(X, A, B):
    return 0.5 * np.sum((A @ X - B) ** 2)


def rank_one(x, y, M):
    return 0.5 * np.sum((np.outer(x, y) - M) ** 2)


def factorisation(U, V, M):
    return 0.5 * np.sum((U @ V.T - M) ** 2)


def gaussian_exponent(x, A):
    A = gc.assume(A, symmetric=True)
    L = np.exp(-0.5 * x @ A @ x)
    return L


def rayleigh_quotient(x, A):
    A = gc.assume(A, symmetric=True)
    L = (x @ A @ x) / (x @ x)
    return L


ROWS = (
    Row(matrix_product, (array(4, 3), array(3, 2)), "∂X = GWᵀ\n∂W = XᵀG", (0, 1)),
    Row(three_matrices, (array(2, 3), array(3, 4), array(4, 5)), "?", (0, 1, 2)),
    Row(transposed, (array(2, 3),), "∂X = Gᵀ"),
    Row(column_sums, (array(5, 3), array(3)), "∂X = G\n∂b = Gᵀ𝟏", (0, 1)),
    Row(linear_form, (array(3), array(3)), "∂L/∂x = a\n∂L/∂a = x", (0, 1), "Cookbook 69"),
    Row(bilinear_form, (array(2, 3), array(2), array(3)), "∂L/∂X = abᵀ", (0,), "Cookbook 70"),
    Row(bilinear_form_transposed, (array(3, 2), array(2), array(3)), "∂L/∂X = baᵀ", (0,), "Cookbook 71"),
    Row(quadratic_form, (array(3), array(3, 3)), "∂L/∂x = (A + Aᵀ)x\n∂L/∂A = xxᵀ", (0, 1), "Cookbook 81"),
    Row(symmetric_quadratic_form, (array(3), symmetric(3)), "∂L/∂x = 2Ax\n  A is symmetric"),
    Row(quadratic, (array(3), array(3, 3), array(3), array()), "∂L/∂w = ½(A + Aᵀ)w + b"),
    Row(symmetric_quadratic, (array(3), symmetric(3), array(3), array()), "∂L/∂w = Aw + b\n  A is symmetric"),
    Row(gram_form, (array(5, 3), array(3), array(3)), "∂L/∂X = X(abᵀ + baᵀ)", (0,), "Cookbook 77"),
    Row(outer_gram_form, (array(3, 5), array(3), array(3)), "∂L/∂X = (abᵀ + baᵀ)X", (0, 1, 2)),
    Row(squared_norm, (array(3),), "∂L/∂x = 2x", (0,), "Cookbook 131"),
    Row(norm, (array(3),), "∂L/∂x = x/‖x‖"),
    Row(distance, (array(3), array(3)), "?", (0,), "Cookbook 129"),
    Row(residual, (array(3), array(5, 3), array(5)), "?", (0,), "Cookbook 84"),
    Row(weighted_residual, (array(3), array(5, 3), array(5), symmetric(5)), "?", (0,), "Cookbook 84"),
    Row(trace, (array(3, 3),), "∂L/∂X = I", (0,), "Cookbook 99"),
    Row(trace_of_product, (array(3, 2), array(2, 3)), "∂L/∂X = Aᵀ", (0,), "Cookbook 100"),
    Row(trace_of_transposed_product, (array(2, 3), array(2, 3)), "∂L/∂X = A", (0,), "Cookbook 103"),
    Row(trace_of_two_sided_product, (array(5, 3), array(2, 5), array(3, 2)), "∂L/∂X = AᵀBᵀ", (0,), "Cookbook 101"),
    Row(trace_of_square, (array(3, 3),), "∂L/∂X = 2Xᵀ", (0,), "Cookbook 106"),
    Row(trace_of_gram, (array(4, 3),), "∂L/∂X = 2X", (0,), "Cookbook 115"),
    Row(trace_of_quadratic, (array(4, 3), array(4, 4)), "∂L/∂X = (B + Bᵀ)X", (0,), "Cookbook 108"),
    Row(trace_of_symmetric_quadratic, (array(4, 3), symmetric(4)), "∂L/∂X = 2BX\n  B is symmetric"),
    Row(trace_of_outer_quadratic, (array(4, 3), array(3, 3)), "∂L/∂X = X(B + Bᵀ)", (0,), "Cookbook 111"),
    Row(trace_of_sandwich, (array(3, 3), array(3, 3), array(3, 3)), "?", (0,), "Cookbook 118"),
    Row(trace_of_transposed_sandwich, (array(3, 4), array(2, 3), array(4, 4), array(3, 2)), "?", (0,),
        "Cookbook 119"),
    Row(trace_of_squared_residual, (array(3, 4), array(2, 3), array(4, 5), array(2, 5)), "?", (0,), "Cookbook 119"),
    Row(squared_frobenius_norm, (array(3, 4),), "∂L/∂X = 2X", (0,), "Cookbook 132"),
    Row(frobenius_norm, (array(3, 4),), "∂L/∂X = X/‖X‖"),
    Row(inner_product, (array(3, 4), array(3, 4)), "∂L/∂X = A"),
    Row(cubed_form, (array(3), array(3, 3)), "?"),
    Row(matrix_residual, (array(3, 4), array(5, 3), array(5, 4)), "∂L/∂X = Aᵀ(AX − B)"),
    Row(rank_one, (array(3), array(4), array(3, 4)), "?", (0, 1)),
    Row(factorisation, (array(4, 2), array(5, 2), array(4, 5)), "δ = UVᵀ − M\n∂L/∂U = δV\n∂L/∂V = δᵀU", (0, 1)),
    Row(gaussian_exponent, (array(3), symmetric(3)), "?"),
    Row(rayleigh_quotient, (array(3), symmetric(3)), "?"),
)  # fmt: skip
