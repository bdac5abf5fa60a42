"""Layers that PyTorch and gradc run alike, and their arguments: `torch_layers.py` stores what PyTorch makes of them.

A program is text over F, torch.nn.functional or gc.nn, over T, torch or gc.nn, and over arrays by name; derivatives are
taken in the floating arrays whose names are small letters.  Of each result stands one number in the file, a weighted
sum of its elements with weights that are all different.  No package but NumPy is needed.

Start reading at `FAMILIES`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
_RNG = np.random.default_rng(14)


def _normal(*shape: int) -> Array:
    return np.round(_RNG.standard_normal(shape), 3)


ARRAYS: dict[str, Array] = {
    "x1": _normal(3, 4),
    "x2": _normal(2, 4, 5),
    "x3": _normal(2, 4, 3, 3),
    "w4": _normal(4),
    "b4": _normal(4),
    "M4": _normal(4),
    "V4": np.abs(_normal(4)) + 0.2,
    "q4": _normal(2, 4, 3, 2),
    "k4": _normal(2, 2, 5, 2),
    "u4": _normal(2, 2, 5, 3),
    "a5": _normal(3, 5),
    "SEEN": np.array([[True, False, True, True, False], [False] * 5, [True] * 5]),
    "w64": _normal(6, 4),
    "I1": np.array([0, 5, 2, 2, 3, 1]),
    "I2": np.array([[0, 5, 2], [2, 3, 1]]),
    "OFF": np.array([0, 2, 2, 5]),
    "s6": _normal(6),
    "w345": _normal(3, 4, 5),
    "x5": _normal(3, 5),
    "b3": _normal(3),
    "i1": _normal(2, 4, 7),
    "i2": _normal(2, 4, 5, 6),
    "i3": _normal(1, 2, 4, 3, 4),
    "c1": _normal(4, 2, 3),
    "c2": _normal(6, 4, 3, 2),
    "d2": _normal(4, 1, 3, 3),
    "c3": _normal(2, 2, 2, 2, 3),
    "t1": _normal(4, 3, 3),
    "t2": _normal(4, 3, 2, 3),
    "t3": _normal(2, 1, 2, 2, 2),
    "b6": _normal(6),
    "xt": _normal(4, 2, 3),
    "xb": _normal(2, 4, 3),
    "h1": _normal(1, 2, 2),
    "cc": _normal(1, 2, 2),
    "h4": _normal(4, 2, 2),
    "hc": _normal(4, 2, 2),
    "h0": _normal(2, 2),
    "k0": _normal(2, 2),
    "x0": _normal(2, 3),
    **{f"r{gates}{part}": _normal(gates * 2, *width) / 2 for gates in (1, 3, 4)
       for part, width in (("i", (3,)), ("h", (2,)), ("b", ()), ("c", ()))},
    **{f"e{k}{part}": _normal(8, *width) / 2 for k in range(4)
       for part, width in (("i", (3 if k < 2 else 4,)), ("h", (2,)), ("b", ()), ("c", ()))},
    "uf": _normal(2, 8, 12),
    "ps": _normal(2, 8, 2, 3),
    "pu": _normal(1, 2, 4, 6),
    "g2": _normal(2, 3, 4, 2),
    "g3": _normal(1, 2, 3, 2, 3),
    "m2": _normal(2, 2, 3),
    "m3": _normal(1, 3, 4),
    "p1": _normal(2, 4, 3),
    "p2": _normal(2, 4, 2, 3),
    "p3": _normal(1, 2, 2, 1, 2),
    "U1": np.tile(np.array([1, 2, 5]), (2, 4, 1)),
    "U2": np.array([[0, 3, 5], [13, 15, 22]]) + np.arange(8).reshape(2, 4, 1, 1) % 2,
    "U3": np.array([[[0, 7]], [[12, 20]]]) + np.arange(2).reshape(1, 2, 1, 1, 1),
    "v5": _normal(7, 4),
    "b7": _normal(7),
    "W7": np.abs(_normal(7)) + 0.1,
    "Y7": np.array([6, 0, 3]),
    "YI": np.array([2, -100, 3]),
    "P7": np.abs(_normal(3, 7)) / 4,
}

NORMS = [
    "F.batch_norm(x1, None, None, training=True)",
    "F.batch_norm(x2, None, None, w4, b4, training=True, eps=0.1)",
    "F.batch_norm(x3, None, None, w4, b4, True)",
    "F.batch_norm(x1, M4, V4)",
    "F.batch_norm(x3, M4, V4, w4, b4, eps=0.01)",
    "F.layer_norm(x2, (4, 5))",
    "F.layer_norm(x1, (4,), w4, b4, 0.1)",
    "F.rms_norm(x1, (4,), w4)",
    "F.rms_norm(x2, (4, 5), eps=0.1)",
    "F.group_norm(x2, 2, w4, b4)",
    "F.group_norm(x3, 1)",
    "F.group_norm(x3, 4, w4, eps=0.1)",
    "F.instance_norm(x2)",
    "F.instance_norm(x3, None, None, w4, b4, eps=0.1)",
    "F.instance_norm(x3, M4, V4, w4, b4, use_input_stats=False)",
    "F.local_response_norm(x2, 3)",
    "F.local_response_norm(x3, 2, alpha=0.5, beta=0.5, k=2.0)",
    "F.normalize(x2)",
    "F.normalize(x2, p=3.0, dim=-1)",
]

ATTENTION = [
    "F.scaled_dot_product_attention(q4, q4, q4)",
    "F.scaled_dot_product_attention(q4, q4, q4, is_causal=True, scale=0.3)",
    "F.scaled_dot_product_attention(q4, k4, u4, enable_gqa=True)",
    "F.scaled_dot_product_attention(q4, k4, u4, SEEN, enable_gqa=True)",
    "F.scaled_dot_product_attention(q4, k4, u4, a5, enable_gqa=True)",
    "F.bilinear(x1, x5, w345, b3)",
    "F.embedding(I2, w64, padding_idx=2)",
    "F.embedding(I2, w64, max_norm=1.5)",
    "F.embedding(I2, w64, max_norm=1.0, norm_type=3.0, padding_idx=0)",
    "F.embedding(I2, w64, scale_grad_by_freq=True)",
    "F.embedding_bag(I2, w64)",
    "F.embedding_bag(I1, w64, OFF, mode='sum', per_sample_weights=s6)",
    "F.embedding_bag(I1, w64, OFF, padding_idx=2)",
    "F.embedding_bag(I2, w64, mode='max', padding_idx=-4)",
]

CONVOLUTIONS = [
    "F.conv1d(i1, c1, b4, stride=2, padding=1, groups=2)",
    "F.conv1d(i1, c1, padding='same', dilation=2, groups=2)",
    "F.conv2d(i2, c2, b6, stride=(2, 1), padding=(1, 0))",
    "F.conv2d(i2, d2, padding='same', groups=4)",
    "F.conv3d(i3, c3, stride=(1, 2, 1), padding=1)",
    "F.conv3d(i3, c3, dilation=(2, 1, 1), padding='valid')",
    "F.conv_transpose1d(i1, t1, b3, stride=2, padding=1, output_padding=1)",
    "F.conv_transpose1d(i1, t1, stride=1, output_padding=1, dilation=2, groups=2)",
    "F.conv_transpose2d(i2, t2, b3, stride=(2, 1), padding=(0, 1))",
    "F.conv_transpose2d(i2, t2, b6, stride=2, groups=2, dilation=(1, 2), output_padding=1)",
    "F.conv_transpose3d(i3, t3, stride=2, padding=1, output_padding=(1, 0, 1))",
]

POOLS = [
    "F.max_pool1d(i1, 3, 2, 1)",
    "F.max_pool2d(i2, (2, 3), (2, 1), (1, 1), ceil_mode=True)",
    "F.max_pool2d(i2, 2, 3, dilation=(2, 1), ceil_mode=True, return_indices=True)",
    "F.max_pool3d(i3, 2, 1, 1, dilation=(1, 2, 1), return_indices=True)",
    "F.avg_pool1d(i1, 3, 2, 1)",
    "F.avg_pool1d(i1, 2, ceil_mode=True)",
    "F.avg_pool2d(i2, (3, 2), 2, (1, 1), True)",
    "F.avg_pool2d(i2, 3, 2, 1, True, False)",
    "F.avg_pool2d(i2, 2, divisor_override=3)",
    "F.avg_pool3d(i3, 2, 2, 1, ceil_mode=True, count_include_pad=False)",
    "F.lp_pool1d(i1, 2, 3, 2)",
    "F.lp_pool2d(i2, 4, 2, ceil_mode=True)",
    "F.lp_pool3d(i3, 2, 2)",
    "F.adaptive_avg_pool1d(i1, 3)",
    "F.adaptive_avg_pool2d(i2, (3, None))",
    "F.adaptive_avg_pool2d(i2, 1)",
    "F.adaptive_avg_pool3d(i3, (2, 3, 3))",
    "F.adaptive_max_pool1d(i1, 2)",
    "F.adaptive_max_pool2d(i2, (1, 4))",
    "F.adaptive_max_pool3d(i3, (2, 2, 2))",
    "F.max_unpool1d(p1, U1, 2)",
    "F.max_unpool1d(p1, U1, 3, 2, 1, output_size=(2, 4, 6))",
    "F.max_unpool2d(p2, U2, 2)",
    "F.max_unpool2d(p2, U2, (2, 3), (2, 2), output_size=(5, 7))",
    "F.max_unpool3d(p3, U3, (2, 2, 2))",
]

PROJECTED = [
    "F.linear_cross_entropy(x1, v5, Y7)",
    "F.linear_cross_entropy(x1, v5, Y7, linear_bias=b7, weight=W7, label_smoothing=0.2)",
    "F.linear_cross_entropy(x1, v5, YI, linear_bias=b7, weight=W7, ignore_index=-100, reduction='sum')",
    "F.linear_cross_entropy(x1, v5, Y7, label_smoothing=0.1, reduction='none')",
    "F.linear_cross_entropy(x1, v5, P7, linear_bias=b7, weight=W7, label_smoothing=0.1)",
]

_STACK = ", ".join(f"e{k}{part}" for k in range(4) for part in "ihbc")
RECURRENT = [
    "T.rnn_tanh_cell(x0, h0, r1i, r1h, r1b, r1c)",
    "T.rnn_relu_cell(x0, h0, r1i, r1h)",
    "T.gru_cell(x0, h0, r3i, r3h, r3b, r3c)",
    "T.lstm_cell(x0, (h0, k0), r4i, r4h, r4b, r4c)",
    "T.rnn_tanh(xt, h1, [r1i, r1h, r1b, r1c], True, 1, 0.0, False, False, False)",
    "T.rnn_relu(xb, h1, [r1i, r1h], False, 1, 0.0, False, False, True)",
    "T.gru(xt, h1, [r3i, r3h, r3b, r3c], True, 1, 0.0, False, False, False)",
    "T.lstm(xb, (h1, cc), [r4i, r4h, r4b, r4c], True, 1, 0.0, False, False, True)",
    f"T.lstm(xt, (h4, hc), [{_STACK}], True, 2, 0.0, False, True, False)",
]

RESAMPLING = [
    "F.pad(i2, (1, 2, 0, 1))",
    "F.pad(i1, (2, -1), value=1.5)",
    "F.pad(i1, (2, 3), mode='reflect')",
    "F.pad(i2, (2, 0, 1, 7), mode='replicate')",
    "F.pad(i2, (1, 6, 5, 2), mode='circular')",
    "F.unfold(i2, (2, 3), padding=(1, 0), stride=(2, 1))",
    "F.unfold(i2, 2, dilation=(1, 2), stride=2)",
    "F.fold(uf, (4, 5), 2)",
    "F.fold(uf, (5, 5), (2, 2), padding=(1, 1), stride=(2, 1), dilation=(1, 3))",
    "F.pixel_shuffle(ps, 2)",
    "F.pixel_unshuffle(pu, 2)",
    "F.channel_shuffle(i2, 2)",
    "F.interpolate(i1, size=5)",
    "F.interpolate(i2, scale_factor=(1.5, 2.3))",
    "F.interpolate(i3, size=(3, 5, 2), mode='nearest-exact')",
    "F.interpolate(i1, size=10, mode='linear', align_corners=True)",
    "F.interpolate(i1, scale_factor=0.6, mode='linear')",
    "F.interpolate(i2, size=(7, 4), mode='bilinear', align_corners=False)",
    "F.interpolate(i2, size=(1, 9), mode='bilinear', align_corners=True)",
    "F.interpolate(i2, scale_factor=1.7, mode='bicubic')",
    "F.interpolate(i2, size=(3, 8), mode='bicubic', align_corners=True)",
    "F.interpolate(i3, size=(5, 2, 4), mode='trilinear')",
    "F.interpolate(i2, size=(2, 5), mode='area')",
]

SAMPLING = [
    "F.affine_grid(m2, (2, 4, 3, 5), align_corners=False)",
    "F.affine_grid(m2, (2, 4, 1, 5), align_corners=True)",
    "F.affine_grid(m3, (1, 2, 2, 3, 4), align_corners=False)",
    *(
        f"F.grid_sample(i2, g2, mode='{mode}', padding_mode='{outside}', align_corners={corners})"
        for mode in ("bilinear", "nearest", "bicubic")
        for outside in ("zeros", "border", "reflection")
        for corners in (True, False)
    ),
    "F.grid_sample(i3, g3, align_corners=False)",
    "F.grid_sample(i3, g3, 'bilinear', 'reflection', True)",
    "F.grid_sample(i3, g3, 'nearest', 'border', False)",
]

FAMILIES: dict[str, list[str]] = {
    "projected": PROJECTED,
    "sampling": SAMPLING,
    "norms": NORMS,
    "attention": ATTENTION,
    "convolutions": CONVOLUTIONS,
    "pools": POOLS,
    "recurrent": RECURRENT,
    "resampling": RESAMPLING,
}
#: text of a program: up to which derivative it is compared
CASES: dict[str, int] = {text: 2 for family in FAMILIES.values() for text in family}
