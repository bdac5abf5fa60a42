"""Attention with heads, masks and a cache, positional encodings, forms of dropout; bad arguments of all layers.

Reference: the formulas in NumPy, head by head.  What PyTorch has is compared in `test_nn_layers.py`.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special as sp

import gradc as gc
from gradc import nn
from gradc.errors import DTypeError, IndexingError, ShapeError, TraceError

RNG = np.random.default_rng(7)
N, L, E, H = 2, 5, 8, 4
SELU_FLOOR = -1.0507009873554805 * 1.6732632423543772
X = RNG.standard_normal((N, L, E))
WO, BO = RNG.standard_normal((E, E)), RNG.standard_normal(E)


def _weights(groups):
    rows = E + 2 * groups * E // H
    return RNG.standard_normal((rows, E)) / 2, RNG.standard_normal(rows)


def _reference(x, w, b, seen, groups, turn=lambda h: h):
    """Attention head by head; ``seen`` (N, L, L)."""
    d = E // H
    out = np.zeros_like(x)
    for n in range(len(x)):
        rows = x[n] @ w.T + b
        for h in range(H):
            g = h * groups // H
            q = turn(rows[:, h * d : (h + 1) * d])
            k = turn(rows[:, E + g * d : E + (g + 1) * d])
            v = rows[:, E + groups * d + g * d : E + groups * d + (g + 1) * d]
            scores = np.where(seen[n], q @ k.T / np.sqrt(d), -np.inf)
            out[n, :, h * d : (h + 1) * d] = sp.softmax(scores, axis=-1) @ v
    return out @ WO.T + BO


def _turned(h):
    p = np.arange(len(h))[:, None] * 10000.0 ** (-np.arange(0, h.shape[1], 2) / h.shape[1])
    z = (h[:, 0::2] + 1j * h[:, 1::2]) * np.exp(1j * p)
    return np.stack([z.real, z.imag], -1).reshape(h.shape)


CAUSAL = np.broadcast_to(np.tri(L, dtype=bool), (N, L, L))
LENGTHS = np.array([5, 3])
PADDED = np.arange(L) < LENGTHS[:, None]
BAND = CAUSAL & ~np.tri(L, k=-3, dtype=bool)
SEGMENTS = np.array([[0, 0, 1, 1, 1], [2, 2, 2, 2, 3]])
SAME = SEGMENTS[:, :, None] == SEGMENTS[:, None]

VARIANTS = {
    "plain": (H, {}, np.ones((N, L, L), bool)),
    "causal, two groups": (2, {"is_causal": True}, CAUSAL),
    "window, one group": (1, {"is_causal": True, "window": 3}, BAND),
    "padding": (H, {"key_mask": PADDED}, np.broadcast_to(PADDED[:, None], (N, L, L))),
    "blocks of a causal one": (2, {"is_causal": True, "attn_mask": nn.segment_mask(SEGMENTS)[:, None]}, SAME & CAUSAL),
    "rotary": (H, {"is_causal": True, "rotary": True}, CAUSAL),
}


def test_heads_masks_groups_and_rotary():
    """Values of all variants from one compiled function, and gradients against the interpreter."""
    weights = {name: _weights(groups) for name, (groups, *_) in VARIANTS.items()}

    def layer(name, x, w, b):
        groups, options, _ = VARIANTS[name]
        return nn.multi_head_attention(x, x, x, w, b, WO, BO, H, num_kv_heads=groups, **options)

    def both(name, x, w, b):
        return layer(name, x, w, b), gc.grad(lambda x, w: np.sum(np.sin(layer(name, x, w, b))), (0, 1))(x, w)

    found = gc.jit(lambda x, weights: {k: both(k, x, *weights[k]) for k in VARIANTS})(X, weights)
    for name, (groups, options, seen) in VARIANTS.items():
        turn = _turned if options.get("rotary") else lambda h: h
        expected = _reference(X, *weights[name], seen, groups, turn)
        np.testing.assert_allclose(found[name][0], expected, rtol=1e-12, atol=1e-12, err_msg=name)
        np.testing.assert_allclose(layer(name, X, *weights[name]), expected, rtol=1e-12, atol=1e-12)
        for a, b in zip(found[name][1], both(name, X, *weights[name])[1], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-11)


def test_a_query_that_sees_nothing_gives_zero_and_no_derivative():
    w, b = _weights(H)
    nobody = np.zeros((N, L), bool)
    y = nn.multi_head_attention(X, X, X, w, b, WO, BO, H, key_mask=nobody)
    np.testing.assert_array_equal(y, np.broadcast_to(BO, y.shape))
    slope = gc.grad(lambda x: np.sum(nn.multi_head_attention(x, x, x, w, b, WO, BO, H, key_mask=nobody)))(X)
    assert not slope.any()
    scores = np.full((L, L), -np.inf)
    assert not nn.scaled_dot_product_attention(X, X, X, scores).any()
    assert not gc.grad(lambda x: np.sum(nn.scaled_dot_product_attention(x, x, x, scores)))(X).any()


@pytest.mark.parametrize("window", [None, 2])
def test_generation_with_a_cache_is_the_whole_sequence(window):
    """Token by token in a compiled scan, after a prompt of two, gives what one causal call gives."""
    w, b = _weights(2)

    def layer(x, cache=None):
        return nn.multi_head_attention(
            x, x, x, w, b, WO, BO, H, num_kv_heads=2, is_causal=True, window=window, rotary=True, cache=cache
        )

    whole = layer(X)
    cache = nn.key_value_cache(N, 2, 6, E // H)
    prompt, cache = layer(X[:, :2], cache)
    assert cache.length == 2

    @gc.jit
    def rest(x, cache):
        def step(cache, token):
            y, cache = layer(token[:, None], cache)
            return cache, y[:, 0]

        return gc.scan(step, cache, x)

    cache, ys = rest(np.moveaxis(X[:, 2:], 1, 0), cache)
    np.testing.assert_allclose(prompt, whole[:, :2], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(np.moveaxis(ys, 0, 1), whole[:, 2:], rtol=1e-12, atol=1e-12)
    assert cache.length == L and not cache.key[:, :, L:].any()
    with pytest.raises(IndexError):
        layer(X[:, :2], cache)
    with pytest.raises((IndexError, IndexingError)):
        rest(np.moveaxis(X[:, :2], 1, 0), cache)


def test_positional_encodings_are_their_formulas():
    table = nn.sinusoidal(6, 4)
    p = np.arange(6)[:, None] / 10000.0 ** (np.array([0, 2]) / 4)
    np.testing.assert_allclose(table[:, 0::2], np.sin(p), rtol=1e-14)
    np.testing.assert_allclose(table[:, 1::2], np.cos(p), rtol=1e-14)
    assert nn.sinusoidal(6, 4, dtype="float32").dtype == np.float32
    np.testing.assert_array_equal(gc.jit(lambda i: nn.sinusoidal(i, 4))(np.array([3, 5])), table[[3, 5]])
    x = RNG.standard_normal((3, L, 6))
    np.testing.assert_allclose(nn.rotary(x), np.stack([_turned(h) for h in x]), rtol=1e-13, atol=1e-14)
    halves = nn.rotary(np.concatenate([x[..., 0::2], x[..., 1::2]], -1), interleaved=False)
    turned = nn.rotary(x)
    np.testing.assert_allclose(halves, np.concatenate([turned[..., 0::2], turned[..., 1::2]], -1), atol=1e-14)
    near, far = (nn.rotary(x, np.arange(L) + k) for k in (0, 40))
    np.testing.assert_allclose(near @ near.swapaxes(1, 2), far @ far.swapaxes(1, 2), rtol=1e-11, atol=1e-11)
    assert gc.check_gradients(lambda x: np.sum(np.sin(nn.rotary(x))), x[0]).ok
    np.testing.assert_allclose(nn.alibi_slopes(8), 2.0 ** -np.arange(1, 9))
    np.testing.assert_allclose(nn.alibi_slopes(3), [2.0**-4, 2.0**-8, 2.0**-2])
    bias = nn.alibi(2, 2, 4, offset=2)
    np.testing.assert_allclose(bias[0], -(2.0**-4) * np.array([[2, 1, 0, 1], [3, 2, 1, 0]]))


def test_masks():
    np.testing.assert_array_equal(nn.causal_mask(3), np.tri(3, dtype=bool))
    np.testing.assert_array_equal(nn.causal_mask(2, 5, window=2, offset=2), [[0, 1, 1, 0, 0], [0, 0, 1, 1, 0]])
    np.testing.assert_array_equal(nn.segment_mask(np.array([0, 1]), np.array([1, 1, 0])), [[0, 0, 1], [1, 1, 0]])


def test_forms_of_dropout_drop_what_they_say_and_keep_the_moments():
    key, x = gc.random.key(1), RNG.standard_normal((40, 50, 3, 2, 2))
    y = nn.dropout3d(x, 0.25, key)
    kept = (y != 0).any((2, 3, 4))
    np.testing.assert_array_equal(y, np.where(kept[..., None, None, None], x / 0.75, 0))
    assert abs(kept.mean() - 0.75) < 4 * np.sqrt(0.25 * 0.75 / kept.size)
    one = nn.dropout1d(x[0, :, :, 0, 0], 0.5, key)
    assert {int(n) for n in (one != 0).sum(1)} == {0, 3}
    for f, axes in ((nn.alpha_dropout, ()), (nn.feature_alpha_dropout, (2, 3, 4))):
        y = f(x, 0.3, key)
        scale = (0.7 * (1 + 0.3 * SELU_FLOOR**2)) ** -0.5
        floor = np.isclose(y, 0.7 * scale * SELU_FLOOR, rtol=1e-12).all(axes)
        np.testing.assert_allclose(y[~floor], (scale * (x - 0.3 * SELU_FLOOR))[~floor], rtol=1e-12, atol=1e-12)
        assert abs(floor.mean() - 0.3) < 4 * np.sqrt(0.3 * 0.7 / floor.size)
        assert abs(y.mean()) < 0.06 and abs(y.var() - 1) < 0.1
        np.testing.assert_array_equal(f(x, 0.3, key, training=False), x)
    q = X[:, None]
    dropped = nn.scaled_dot_product_attention(q, q, np.eye(L), dropout_p=0.5, dropout_key=key)
    share = nn.scaled_dot_product_attention(q, q, np.eye(L))
    np.testing.assert_allclose(dropped, np.where(dropped == 0, 0, 2 * share), rtol=1e-14)
    assert 0 < (dropped == 0).mean() < 1


X1, X2, W2 = np.ones((2, 4, 7)), np.ones((2, 4, 5, 6)), np.ones((6, 4, 3, 3))
REFUSED = {
    "groups": (ShapeError, "divisor of H", lambda x: nn.scaled_dot_product_attention(
        np.ones((1, 3, 2, 2)), np.ones((1, 2, 2, 2)), np.ones((1, 2, 2, 2)), enable_gqa=True)),
    "dropout without a key": (TraceError, "dropout_key", lambda x: nn.scaled_dot_product_attention(
        x, x, x, dropout_p=0.1)),
    "heads": (ShapeError, "num_heads must divide", lambda x: nn.multi_head_attention(
        x, x, x, np.ones((24, 8)), None, WO, None, 3)),
    "projection": (ShapeError, r"in_proj_weight is \(24, E\)", lambda x: nn.multi_head_attention(
        x, x, x, np.ones((8, 8)), None, WO, None, 4)),
    "window": (TraceError, "add is_causal=True", lambda x: nn.multi_head_attention(
        x, x, x, np.ones((24, 8)), None, WO, None, 4, window=2)),
    "key_mask": (ShapeError, "key_mask must be bool", lambda x: nn.multi_head_attention(
        x, x, x, np.ones((24, 8)), None, WO, None, 4, key_mask=np.ones((2, 4)))),
    "cache": (ShapeError, "make one with nn.key_value_cache", lambda x: nn.multi_head_attention(
        x, x, x, np.ones((24, 8)), None, WO, None, 4, cache=nn.key_value_cache(2, 2, 9, 2))),
    "capacity": (ShapeError, "capacity 3", lambda x: nn.multi_head_attention(
        x, x, x, np.ones((24, 8)), None, WO, None, 4, cache=nn.key_value_cache(2, 4, 3, 2))),
    "odd": (ShapeError, "must be even", lambda x: nn.rotary(x[..., :3])),
    "segments": (DTypeError, "segments are integers", lambda x: nn.segment_mask(x)),
    "width of a window": (ValueError, "window must be at least 1", lambda x: nn.causal_mask(3, window=0)),
    "no heads": (ValueError, "num_heads must be at least 1", lambda x: nn.alibi(0, 3)),
    "padding_idx": (ValueError, "one of the 5 rows", lambda x: nn.embedding(np.array([1]), x[0], padding_idx=5)),
    "bags": (ShapeError, "with offsets", lambda x: nn.embedding_bag(np.array([1]), x[0])),
    "mode of bags": (ValueError, "'sum', 'mean' or 'max'", lambda x: nn.embedding_bag([[1]], x[0], mode="min")),
    "a label that is no class": (IndexError, r"a label must be one of the classes 0 … 2, got 3", lambda x: nn.one_hot(
        [0, 3], 3)),
    "a negative label": (IndexError, r"classes 0 … 2, got -1", lambda x: nn.one_hot([-1], 3)),
    "entry of a bag": (IndexError, r"one of the rows 0 … 4, got -1", lambda x: nn.embedding_bag([[-1]], x[0])),
    "entries before all bags": (ValueError, "must begin with 0", lambda x: nn.embedding_bag([1, 2], x[0], [1, 2])),
    "bags in disorder": (ValueError, "not decrease", lambda x: nn.embedding_bag([1, 2], x[0], [0, 2, 1])),
    "bags beyond the entries": (ValueError, "at most 2", lambda x: nn.embedding_bag([1, 2], x[0], [0, 3])),
    "an end alone": (ShapeError, "at least 2 integers", lambda x: nn.embedding_bag(
        [1, 2], x[0], [0], include_last_offset=True)),
    "a mask of integers": (DTypeError, r"attn_mask must be bool.*write .astype\(bool\)", lambda x:
        nn.scaled_dot_product_attention(x, x, x, np.ones((4, 4), int))),
    "a mask of integers for heads": (DTypeError, "attn_mask must be bool", lambda x: nn.multi_head_attention(
        x, x, x, np.ones((24, 8)), None, WO, None, 4, attn_mask=np.ones((5, 5), int), is_causal=True)),
    "weights of bags": (ShapeError, "mode='sum'", lambda x: nn.embedding_bag(
        [[1]], x[0], per_sample_weights=np.ones((1, 1)))),
    "bilinear": (ShapeError, r"weight \(out, in1, in2\)", lambda x: nn.bilinear(x, x, np.ones((8, 8)))),
    "channels of dropout": (ShapeError, "axes behind the channels", lambda x: nn.dropout1d(
        x[0, 0], 0.5, gc.random.key(0))),
    "rank of a convolution": (ShapeError, r"images are \(n, c, d, h, w\)", lambda x: nn.conv3d(X1, W2)),
    "weight of a convolution": (ShapeError, "weight must be", lambda x: nn.conv1d(X1, np.ones((4, 3, 3)))),
    "stride": (ShapeError, "stride must be at least 1", lambda x: nn.conv1d(X1, np.ones((4, 4, 3)), stride=0)),
    "triple": (ShapeError, "a pair", lambda x: nn.conv2d(X2, W2, stride=(1, 1, 1))),
    "bias": (ShapeError, r"bias must be \(6,\)", lambda x: nn.conv2d(X2, W2, np.ones(4))),
    "same with a stride": (ShapeError, "needs stride 1", lambda x: nn.conv2d(X2, W2, padding="same", stride=2)),
    "kernel": (ShapeError, "larger than the padded image", lambda x: nn.conv2d(X2[:, :, :2], W2)),
    "word": (ShapeError, '"valid" or "same"', lambda x: nn.conv2d(X2, W2, padding="full")),
    "output_padding": (ShapeError, "must be less than stride", lambda x: nn.conv_transpose1d(
        X1, np.ones((4, 2, 3)), output_padding=1)),
    "weight of a transpose": (ShapeError, r"weight must be \(4, out/groups", lambda x: nn.conv_transpose2d(X2, W2)),
    "nothing left": (ShapeError, "nothing is left", lambda x: nn.conv_transpose1d(
        X1[..., :1], np.ones((4, 2, 3)), padding=2)),
    "padding of a pool": (ShapeError, "more than half of kernel_size", lambda x: nn.max_pool2d(X2, 2, padding=2)),
    "divisor": (ValueError, "must not be 0", lambda x: nn.avg_pool2d(X2, 2, divisor_override=0)),
    "norm_type": (ValueError, "norm_type must not be 0", lambda x: nn.lp_pool1d(X1, 0, 2)),
    "output_size": (ShapeError, "output_size must be at least 1", lambda x: nn.adaptive_avg_pool1d(X1, 0)),
}  # fmt: skip


@pytest.mark.parametrize(("error", "text", "program"), [pytest.param(*row, id=k) for k, row in REFUSED.items()])
def test_what_is_refused_says_why(error, text, program):
    with pytest.raises(error, match=text):
        program(X)
