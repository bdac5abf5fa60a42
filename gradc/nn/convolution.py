"""Convolution and pooling over images, layouts of torch.nn.functional: (…, C, H, W), weights (out, in/groups, h, w).

Enters: an image or a batch of them.  Leaves: the same rank.  Invariant: everything is a sliding window of the padded
image, followed by a contraction or a reduction; no window is ever an array of its own unless a user asks for it.
Start reading at `conv2d`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import gradc.numpy as gnp
from gradc.errors import ShapeError
from gradc.node import FUNCTIONS, OPS, Node, as_node, describe, here, static_int
from gradc.numpy.public import Array, ArrayLike, function
from gradc.numpy.reductions import inexact, reduced

__all__ = ["avg_pool2d", "conv2d", "max_pool2d"]

Pair = tuple[int, int]


@function("nn.conv2d")
def conv2d(
    input: ArrayLike, weight: ArrayLike, bias: ArrayLike = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
    groups: int = 1,
) -> Array:  # fmt: skip
    """The cross-correlation of images (n, c, h, w) or (c, h, w) with weight (out, c/groups, kh, kw), plus bias (out,).

    ``stride``, ``padding`` and ``dilation`` are an int or a pair (rows, columns); ``padding`` may also be "valid"
    (none) or "same" (the result as large as the image; stride 1 only).  The result is (n, out, h', w') with
    h' = ⌊(h + 2·padding − dilation·(kh − 1) − 1)/stride⌋ + 1.
    """
    x, w = as_node(input), as_node(weight)
    images = _images("conv2d", x)
    groups = static_int(groups, "groups")
    _check_weight(x, w, images.shape[1], groups)
    strides, dilations = _pair("conv2d", "stride", stride, 1), _pair("conv2d", "dilation", dilation, 1)
    sizes = (w.shape[2], w.shape[3])
    around = _padding(padding, sizes, strides, dilations)
    seen = _windows("conv2d", _padded(images, around, 0), sizes, strides, dilations)
    y = _correlated(seen, w, groups)
    if bias is not None:
        y = y + gnp.reshape(as_node(bias), (-1, 1, 1))
    return y if x.ndim == 4 else gnp.reshape(y, y.shape[1:])


def _correlated(seen: Node, w: Node, groups: int) -> Array:
    """Windows (n, c, h', w', kh, kw) against weight, group by group."""
    if groups == 1:
        return FUNCTIONS["einsum"]("ncyxkl,ockl->noyx", seen, w)
    n, channels, *rest = seen.shape
    split = gnp.reshape(seen, (n, groups, channels // groups, *rest))
    kernels = gnp.reshape(w, (groups, w.shape[0] // groups, *w.shape[1:]))
    y = FUNCTIONS["einsum"]("ngcyxkl,gockl->ngoyx", split, kernels)
    return gnp.reshape(y, (n, w.shape[0], *y.shape[3:]))


@function("nn.max_pool2d")
def max_pool2d(
    input: ArrayLike, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1
) -> Array:  # fmt: skip
    """The largest element of each window of images (…, h, w); padding counts as −∞.

    ``stride`` defaults to ``kernel_size``.  Where several elements of a window are largest they share the derivative.
    """
    x = as_node(input)
    sizes, strides, around = _pooling("max_pool2d", kernel_size, stride, padding)
    lowest = -np.inf if x.aval.is_float else np.iinfo(x.dtype).min if x.dtype.kind in "iu" else False
    padded = _padded(_images("max_pool2d", x), around, lowest)
    seen = _windows("max_pool2d", padded, sizes, strides, _pair("max_pool2d", "dilation", dilation, 1))
    y = reduced("max", seen, (4, 5), False)
    return y if x.ndim == 4 else gnp.reshape(y, y.shape[1:])


@function("nn.avg_pool2d")
def avg_pool2d(
    input: ArrayLike, kernel_size: Any, stride: Any = None, padding: Any = 0, *, count_include_pad: bool = True
) -> Array:
    """The mean of each window of images (…, h, w); padding counts as zeros unless ``count_include_pad`` is False."""
    x = inexact(as_node(input))
    sizes, strides, around = _pooling("avg_pool2d", kernel_size, stride, padding)
    images = _images("avg_pool2d", x)

    def totals(of: Node) -> Node:
        return reduced("sum", _windows("avg_pool2d", _padded(of, around, 0), sizes, strides, (1, 1)), (4, 5), False)

    if count_include_pad or around == (0, 0):
        y: Any = totals(images) / (sizes[0] * sizes[1])
    else:
        y = totals(images) / totals(as_node(np.ones((1, 1, *images.shape[2:]), x.dtype)))
    return y if x.ndim == 4 else gnp.reshape(y, y.shape[1:])


# -- arguments ---------------------------------------------------------------------------------------------------------


def _images(name: str, x: Node) -> Node:
    """``x`` with a batch axis."""
    if x.ndim not in (3, 4):
        raise ShapeError(f"{here()}: {name}: images are (n, c, h, w) or (c, h, w), got {describe(x)}")
    return x if x.ndim == 4 else FUNCTIONS["expand_dims"](x, 0)


def _check_weight(x: Node, w: Node, channels: int, groups: int) -> None:
    if w.ndim != 4 or groups < 1 or w.shape[1] * groups != channels or w.shape[0] % groups:
        raise ShapeError(
            f"{here()}: conv2d: weight must be (out, {channels}/groups, kh, kw) with out a multiple of groups = "
            f"{groups}.\n  operands: {describe(x)}; {describe(w)}"
        )


def _pair(name: str, argument: str, value: Any, least: int) -> Pair:
    """An int, or a pair of them, each at least ``least``."""
    given = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(given) != 2:
        raise ShapeError(f"{here()}: {name}: {argument} is an int or a pair (rows, columns), got {value!r}")
    first, second = (static_int(v, argument) for v in given)
    if min(first, second) < least:
        raise ShapeError(f"{here()}: {name}: {argument} must be at least {least}, got {value!r}")
    return first, second


def _padding(padding: Any, sizes: Pair, strides: Pair, dilations: Pair) -> tuple[Pair, Pair] | Pair:
    """Rows and columns added, the same on both sides, or (before, after) of each for "same" with an even kernel."""
    if padding == "valid":
        return 0, 0
    if isinstance(padding, str) and padding != "same":
        raise ShapeError(
            f'{here()}: conv2d: padding is an int, a pair (rows, columns), "valid" or "same", got {padding!r}'
        )
    if padding != "same":
        return _pair("conv2d", "padding", padding, 0)
    if strides != (1, 1):
        raise ShapeError(f'{here()}: conv2d: padding="same" needs stride 1, got {strides}')
    totals = [d * (s - 1) for d, s in zip(dilations, sizes, strict=True)]
    rows, columns = ((t // 2, t - t // 2) for t in totals)
    return rows, columns


def _pooling(name: str, kernel_size: Any, stride: Any, padding: Any) -> tuple[Pair, Pair, Pair]:
    sizes = _pair(name, "kernel_size", kernel_size, 1)
    strides = sizes if stride is None else _pair(name, "stride", stride, 1)
    around = _pair(name, "padding", padding, 0)
    if any(2 * p > s for p, s in zip(around, sizes, strict=True)):
        raise ShapeError(f"{here()}: {name}: padding {padding!r} is more than half of kernel_size {kernel_size!r}")
    return sizes, strides, around


def _padded(images: Node, around: tuple[Pair, Pair] | Pair, fill: Any) -> Node:
    rows, columns = ((p, p) if isinstance(p, int) else p for p in around)
    if rows == columns == (0, 0):
        return images
    padded: Node = FUNCTIONS["pad"](images, ((0, 0), (0, 0), rows, columns), constant_values=fill)
    return padded


def _windows(name: str, images: Node, sizes: Pair, strides: Pair, dilations: Pair) -> Node:
    for extent, size, dilation in zip(images.shape[2:], sizes, dilations, strict=True):
        if (size - 1) * dilation + 1 > extent:
            raise ShapeError(
                f"{here()}: {name}: a kernel of {sizes[0]}x{sizes[1]} (dilation {dilations}) is larger than the padded "
                f"image, {describe(images)}"
            )
    return OPS["windows"].make((images,), axes=(2, 3), sizes=sizes, strides=strides, dilations=dilations)
