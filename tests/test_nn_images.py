"""Convolution, pooling and attention mean what torch.nn.functional means, traced, compiled and differentiated.

Reference: loops over positions in NumPy, in float64.  Start at `CONVOLUTIONS`.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from scipy import special as sp

import gradc as gc
from gradc import nn
from gradc.errors import ShapeError, TraceError
from tests.namespace_harness import leaf, same, traced

RNG = np.random.default_rng(0)
#: Sums of at most 60 terms, in two orders.
ULPS = 64


def placed(x: np.ndarray, padding: tuple[int, int], fill: float) -> np.ndarray:
    (r, c) = padding
    return np.pad(x, ((0, 0), (0, 0), (r, r), (c, c)), constant_values=fill)


def windows(x: np.ndarray, size: Any, stride: Any, dilation: Any = (1, 1)) -> Any:
    """(row, column, window) of every position."""
    counts = [(n - d * (k - 1) - 1) // s + 1 for n, k, s, d in zip(x.shape[2:], size, stride, dilation, strict=True)]
    for i, j in product(*map(range, counts)):
        r, c = i * stride[0], j * stride[1]
        yield i, j, x[:, :, r : r + size[0] * dilation[0] : dilation[0], c : c + size[1] * dilation[1] : dilation[1]]


def convolved(x: Any, w: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> np.ndarray:
    padded, part, kernels = placed(x, padding, 0), x.shape[1] // groups, w.shape[0] // groups
    positions = list(windows(padded, w.shape[2:], stride, dilation))
    out = np.zeros((len(x), w.shape[0], positions[-1][0] + 1, positions[-1][1] + 1))
    for (i, j, seen), g in product(positions, range(groups)):
        mine, own = seen[:, g * part : (g + 1) * part], slice(g * kernels, (g + 1) * kernels)
        size = min(mine.shape[2], w.shape[2]), min(mine.shape[3], w.shape[3])
        out[:, own, i, j] = np.einsum("nckl,ockl->no", mine[..., : size[0], : size[1]], w[own])
    return out


#: images, weight, stride, padding, dilation, groups
CONVOLUTIONS = [
    ((2, 3, 7, 8), (4, 3, 3, 2), (1, 1), (0, 0), (1, 1), 1),
    ((2, 1, 9, 9), (3, 1, 5, 5), (1, 1), (2, 2), (1, 1), 1),
    ((1, 2, 8, 7), (5, 2, 3, 3), (2, 3), (1, 2), (1, 1), 1),
    ((3, 2, 9, 8), (2, 2, 2, 3), (1, 1), (1, 0), (2, 3), 1),
    ((2, 6, 5, 6), (4, 3, 3, 3), (1, 2), (1, 1), (1, 1), 2),
    ((1, 4, 6, 6), (4, 1, 3, 3), (1, 1), (1, 1), (1, 1), 4),
    ((2, 17, 3, 3), (19, 17, 1, 1), (1, 1), (0, 0), (1, 1), 1),
    ((5, 2, 4, 4), (3, 2, 4, 4), (1, 1), (0, 0), (1, 1), 1),
    ((1, 1, 20, 19), (1, 1, 3, 4), (1, 1), (1, 1), (1, 1), 1),
]


@pytest.mark.parametrize(("images", "weight", "stride", "padding", "dilation", "groups"), CONVOLUTIONS)
def test_conv2d(images, weight, stride, padding, dilation, groups):
    x, w, b = (RNG.standard_normal(s) for s in (images, weight, weight[:1]))

    def conv(x, w, b):
        return nn.conv2d(x, w, b, stride, padding, dilation, groups)

    expected = convolved(x, w, stride, padding, dilation, groups) + b[:, None, None]
    same(conv(x, w, b), expected, ULPS)
    same(traced(conv, x, w, b), expected, ULPS)
    same(gc.jit(conv)(x, w, b), expected, ULPS)
    small = [a.astype(np.float32) for a in (x, w, b)]
    same(gc.jit(conv)(*small), expected.astype(np.float32), ULPS)


@pytest.mark.parametrize(("images", "weight", "stride", "padding", "dilation", "groups"), CONVOLUTIONS)
def test_derivatives_of_conv2d(images, weight, stride, padding, dilation, groups):
    """⟨ct, conv(t, w)⟩ = ⟨ct transposed through x, t⟩, and so for w: convolution is linear in each."""
    x, w = (RNG.standard_normal(s) for s in (images, weight))
    ct = RNG.standard_normal(convolved(x, w, stride, padding, dilation, groups).shape)

    def inner(x, w):
        return np.sum(nn.conv2d(x, w, None, stride, padding, dilation, groups) * ct)

    dx, dw = gc.jit(gc.grad(inner, (0, 1)))(x, w)
    oracle = gc.grad(inner, (0, 1))(x, w)
    same([dx, dw], oracle, ULPS)
    tx, tw = (RNG.standard_normal(s) for s in (images, weight))
    for given, found in ((convolved(tx, w, stride, padding, dilation, groups), np.sum(dx * tx)),
                         (convolved(x, tw, stride, padding, dilation, groups), np.sum(dw * tw))):  # fmt: skip
        np.testing.assert_allclose(found, np.sum(given * ct), rtol=1e-12, atol=1e-12 * np.abs(given * ct).sum())


def test_conv2d_of_one_image_and_padding_in_words():
    x, w = RNG.standard_normal((2, 6, 5)), RNG.standard_normal((3, 2, 3, 4))
    full = np.pad(x, ((0, 0), (1, 1), (1, 2)))
    expected = convolved(full[None], w, (1, 1), (0, 0), (1, 1), 1)[0]
    same(nn.conv2d(x, w, padding="same"), expected, ULPS)
    same(nn.conv2d(full, w, padding="valid"), expected, ULPS)


def test_conv2d_of_no_image():
    x, w = np.zeros((0, 2, 5, 5)), RNG.standard_normal((3, 2, 3, 3))
    assert gc.jit(nn.conv2d)(x, w).shape == (0, 3, 3, 3)
    dw = gc.jit(gc.grad(lambda w: np.sum(nn.conv2d(x, w))))(w)
    same(dw, np.zeros_like(w))


POOLS = [
    ((2, 3, 6, 8), (2, 2), (2, 2), (0, 0)),
    ((1, 2, 7, 9), (2, 3), (2, 3), (0, 0)),
    ((2, 1, 7, 7), (3, 3), (2, 2), (1, 1)),
    ((1, 5, 5, 6), (3, 2), (1, 1), (1, 0)),
]


@pytest.mark.parametrize(("images", "size", "stride", "padding"), POOLS)
def test_pools(images, size, stride, padding):
    x = RNG.standard_normal(images)

    def expected(fill, how):
        found = {(i, j): how(seen, axis=(2, 3)) for i, j, seen in windows(placed(x, padding, fill), size, stride)}
        rows, columns = (1 + max(k) for k in zip(*found, strict=True))
        return np.stack([[found[i, j] for j in range(columns)] for i in range(rows)]).transpose(2, 3, 0, 1)

    for pool, values in (
        (lambda x: nn.max_pool2d(x, size, stride, padding), expected(-np.inf, np.max)),
        (lambda x: nn.avg_pool2d(x, size, stride, padding), expected(0, np.mean)),
        (lambda x: nn.avg_pool2d(x, size, stride, padding, count_include_pad=False), expected(np.nan, np.nanmean)),
    ):
        same(traced(pool, x), values, ULPS)
        same(gc.jit(pool)(x), values, ULPS)
        weights = RNG.standard_normal(values.shape)
        found = gc.jit(gc.grad(lambda x, p=pool, w=weights: np.sum(p(x) * w)))(x)
        moved = x + 1e-6 * (tangent := RNG.standard_normal(images))
        np.testing.assert_allclose(
            np.sum(found * tangent), np.sum((pool(moved) - pool(x)) / 1e-6 * weights), rtol=1e-5, atol=1e-5
        )


def test_pools_of_integers_and_of_one_image():
    x = RNG.integers(-9, 9, (3, 4, 4))
    same(nn.max_pool2d(x, 2), x.reshape(3, 2, 2, 2, 2).max((2, 4)))
    for size in (4, 2):
        found = nn.adaptive_avg_pool2d(x, size)
        same(found, x.reshape(3, size, 4 // size, size, 4 // size).mean((2, 4)), ULPS)
    same(nn.avg_pool2d(x, 2), x.reshape(3, 2, 2, 2, 2).mean((2, 4)), ULPS)
    same(nn.max_pool2d(np.zeros((1, 1, 2, 2), np.uint8), 2, 1, 1), np.zeros((1, 1, 3, 3), np.uint8))


def test_padding_is_never_what_a_max_pool_finds():
    """Neither named by an index, nor given a share of the derivative where an image is −∞ itself."""
    low = np.array([[-np.inf, -np.inf, -np.inf, 1]])
    lines = [(low, [0, 0, 3, 3]), (np.array([[-128, -128, 5, 1]], np.int8), [0, 2, 2, 2]),
             (np.zeros((1, 4), bool), [0, 0, 1, 2]), (np.array([[1, np.nan, 0, 2]]), [1, 1, 1, 3])]  # fmt: skip
    for x, expected in lines:
        for pool in (
            nn.max_pool1d,
            lambda *a, **k: nn.max_pool2d(a[0][:, None], *[(1, n) for n in a[1:3]], (0, 1), **k),
        ):
            assert np.ravel(pool(x, 3, 1, 1, return_indices=True)[1]).tolist() == expected
    found = gc.jit(gc.grad(lambda x: np.sum(nn.max_pool1d(x, 3, 1, 1))))(low)
    same(found, np.array([[1 / 2 + 1 / 3, 1 / 2 + 1 / 3, 1 / 3, 2]]), ULPS)


# -- attention ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("shapes", [((2, 3, 5, 4), (2, 3, 7, 4), (2, 3, 7, 6)), ((5, 4), (5, 4), (5, 4))])
def test_attention(shapes):
    q, k, v = (RNG.standard_normal(s) for s in shapes)
    scores = q @ k.swapaxes(-1, -2) / 2
    sees = RNG.random(scores.shape) < 0.6
    sees[..., 0] = True
    causal = np.tri(*scores.shape[-2:], dtype=bool)
    cases = [
        ({}, scores), ({"scale": 0.3}, scores * 0.6), ({"attn_mask": scores}, 2 * scores),
        ({"attn_mask": sees}, np.where(sees, scores, -np.inf)),
        ({"is_causal": True}, np.where(causal, scores, -np.inf)),
    ]  # fmt: skip
    for options, weighed in cases:
        expected = sp.softmax(weighed, -1) @ v
        same(traced(lambda q, k, v, o=options: nn.scaled_dot_product_attention(q, k, v, **o), q, k, v), expected, ULPS)
        compiled = gc.jit(lambda q, k, v, o=options: nn.scaled_dot_product_attention(q, k, v, **o))
        same(compiled(q, k, v), expected, ULPS)


def test_derivatives_of_masked_attention_are_finite_and_agree():
    q, k, v = (RNG.standard_normal((2, 6, 3)) for _ in range(3))

    def total(q, k, v):
        return np.sum(nn.scaled_dot_product_attention(q, k, v, is_causal=True) ** 2)

    same(gc.jit(gc.grad(total, (0, 1, 2)))(q, k, v), gc.grad(total, (0, 1, 2), method="finite")(q, k, v), 1e8)


# -- careless and hostile use ------------------------------------------------------------------------------------------
X, W = leaf(np.zeros((2, 4, 6, 6)), "x"), leaf(np.zeros((8, 4, 3, 3)), "w")
MISTAKES: list[tuple[Any, type[Exception], str]] = [
    (lambda: nn.conv2d(X, leaf(np.zeros((8, 3, 3, 3)))), ShapeError, r"weight must be \(out, 4/groups, kh, kw\)"),
    (lambda: nn.conv2d(X, W, groups=3), ShapeError, "groups = 3"),
    (lambda: nn.conv2d(X, W, groups=0), ShapeError, "groups = 0"),
    (lambda: nn.conv2d(X[0, 0], W), ShapeError, r"images are \(n, c, h, w\) or \(c, h, w\)"),
    (lambda: nn.conv2d(X, W, stride=0), ShapeError, "stride must be at least 1"),
    (lambda: nn.conv2d(X, W, padding=(1, 2, 3)), ShapeError, "padding is an int or a pair"),
    (lambda: nn.conv2d(X, W, padding=-1), ShapeError, "padding must be at least 0"),
    (lambda: nn.conv2d(X, W, padding="same", stride=2), ShapeError, "needs stride 1"),
    (lambda: nn.conv2d(X, W, dilation=4), ShapeError, "larger than the padded image"),
    (lambda: nn.max_pool2d(X, 7), ShapeError, "larger than the padded image"),
    (lambda: nn.max_pool2d(X, 2, padding=2), ShapeError, "more than half"),
    (lambda: nn.scaled_dot_product_attention(X, X, X[..., 1:, :]), ShapeError, "must agree in d > 0 and S"),
    (lambda: nn.scaled_dot_product_attention(X, X, X, dropout_p=0.1), TraceError, "dropout_p must be 0"),
    (lambda: nn.scaled_dot_product_attention(X, X, X, np.ones((6, 6)), is_causal=True), TraceError, "not both"),
]  # fmt: skip


@pytest.mark.parametrize(("program", "error", "text"), MISTAKES)
def test_mistakes_are_told_with_line_and_remedy(program, error, text):
    with pytest.raises(error, match=text) as caught:
        program()
    assert f"{__file__}:{program.__code__.co_firstlineno}" in str(caught.value)
