"""Convolution as a sum of products, and as a matrix product of patches."""

from __future__ import annotations

import numpy as np

import gradc as gc
from examples.gallery.row import array
from examples.textbook.item import Entries, Says, Verdict

entry = Entries()


def _convolved(X, K):
    h, w = X.shape[0] - K.shape[0] + 1, X.shape[1] - K.shape[1] + 1
    return np.array([[np.sum(X[i : i + K.shape[0], j : j + K.shape[1]] * K) for j in range(w)] for i in range(h)])


def _convolution_by_hand(X, K, G):
    """Derivatives with the cotangent G, window by window."""
    dX, dK = np.zeros_like(X), np.zeros_like(K)
    for i in range(X.shape[0] - K.shape[0] + 1):
        for j in range(X.shape[1] - K.shape[1] + 1):
            dX[i : i + K.shape[0], j : j + K.shape[1]] += G[i, j] * K
            dK += G[i, j] * X[i : i + K.shape[0], j : j + K.shape[1]]
    return dX, dK


@entry(
    Says(84, "a convolution and its derivatives", "y_ij = sum(X[i:i+k, j:j+k] ⊙ K)",
         "∂X = corr(pad(G, 2), flip(K))\n∂K = corr(X, G)"),
    args=(array(4, 4), array(3, 3)),
    of=(0, 1),
    reference=_convolution_by_hand,
)  # fmt: skip
def convolution(X, K):
    Y = np.einsum("ijkl,kl->ij", np.lib.stride_tricks.sliding_window_view(X, (3, 3)), K)
    return Y


@entry(
    Says(85, "the example with numbers", "Y = [[−6, −6], [−6, −6]]", "[[-6. -6.]\n [-6. -6.]]"),
    way="program",
    reference=lambda: _convolved(np.arange(1.0, 17.0).reshape(4, 4), np.tile([1.0, 0.0, -1.0], (3, 1))),
)
def numbers():
    X = np.arange(1.0, 17.0).reshape(1, 1, 4, 4)
    K = np.tile([1.0, 0.0, -1.0], (3, 1)).reshape(1, 1, 3, 3)
    Y = gc.jit(gc.nn.conv2d)(X, K)[0, 0]
    return str(Y), Y


def _patches(X):
    return np.array([[X[i + r, j + s] for i in range(2) for j in range(2)] for r in range(3) for s in range(3)])


@entry(
    Says(86, "the product of kernel and patches (im2col)", "Y_col = W_row·X_col",
         "Y_col = W_row·X_col"),
    Says(87, "its derivatives (col2im)", "∂W_row = G·X_colᵀ, ∂X_col = W_rowᵀ·G",
         "∂W_row = G·X_colᵀ", Verdict.WORSE,
         "X_col is written out, and col2im is a fold"),
    args=(array(4, 4), array(1, 9)),
    of=(0, 1),
    reference=lambda X, W_row, G: (_convolution_by_hand(X, W_row.reshape(3, 3), G.reshape(2, 2))[0], G @ _patches(X).T),
)  # fmt: skip
def patches(X, W_row):
    windows = np.lib.stride_tricks.sliding_window_view(X, (3, 3))
    X_col = windows.reshape(4, 9).T
    Y_col = W_row @ X_col
    return Y_col


def _images_by_hand(x, w, G):
    dx, dw = np.zeros_like(x), np.zeros_like(w)
    for n in range(len(x)):
        for o in range(len(w)):
            for c in range(x.shape[1]):
                a, b = _convolution_by_hand(x[n, c], w[o, c], G[n, o])
                dx[n, c] += a
                dw[o, c] += b
    return dx, dw


@entry(
    Says(88, "a convolution of images (N, C, H, W)", "Y = corr(x, w), ∂x = corr(pad(G), flip(w)), ∂w = corr(x, G)",
         "Y = corr(x, w)", Verdict.UNREADABLE, "sums over windows with six indices"),
    args=(array(2, 2, 4, 4), array(3, 2, 3, 3)),
    of=(0, 1),
    reference=_images_by_hand,
)  # fmt: skip
def images(x, w):
    Y = gc.nn.conv2d(x, w)
    return Y
