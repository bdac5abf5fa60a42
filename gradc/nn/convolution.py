"""Convolution and its transpose in one to three dimensions, layouts of torch.nn.functional: (…, C, *space).

Enters: an image or a batch of them, weights (out, in/groups, *kernel).  Leaves: the same rank.  Invariant: a
convolution is sliding windows of the padded image and a contraction, its transpose a contraction and the fold that adds
up windows; no window is ever an array of its own.  Start reading at `_convolved`.
"""

from __future__ import annotations

from typing import Any

import gradc.numpy as gnp
from gradc.errors import ShapeError
from gradc.nn.spaces import Extents, Widths, batched, extents, padded, shown, windows
from gradc.node import FUNCTIONS, OPS, Node, as_node, describe, here, static_int
from gradc.numpy.public import Array, ArrayLike, function
from gradc.numpy.reductions import inexact

__all__ = ["conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"]


@function("nn.conv1d")
def conv1d(
    input: ArrayLike, weight: ArrayLike, bias: ArrayLike = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
    groups: int = 1,
) -> Array:  # fmt: skip
    """The cross-correlation of (n, c, l) or (c, l) with weight (out, c/groups, k), plus bias (out,); see `conv2d`."""
    return _convolved("conv1d", 1, input, weight, bias, stride, padding, dilation, groups)


@function("nn.conv2d")
def conv2d(
    input: ArrayLike, weight: ArrayLike, bias: ArrayLike = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
    groups: int = 1,
) -> Array:  # fmt: skip
    """The cross-correlation of images (n, c, h, w) or (c, h, w) with weight (out, c/groups, kh, kw), plus bias (out,).

    ``stride``, ``padding`` and ``dilation`` are an int or a pair (rows, columns); ``padding`` may also be "valid"
    (none) or "same" (the result as large as the image; stride 1 only).  ``groups`` = c is a depthwise convolution.  The
    result is (n, out, h', w') with h' = ⌊(h + 2·padding − dilation·(kh − 1) − 1)/stride⌋ + 1.
    """
    return _convolved("conv2d", 2, input, weight, bias, stride, padding, dilation, groups)


@function("nn.conv3d")
def conv3d(
    input: ArrayLike, weight: ArrayLike, bias: ArrayLike = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
    groups: int = 1,
) -> Array:  # fmt: skip
    """The cross-correlation of (n, c, d, h, w) or (c, d, h, w) with weight (out, c/groups, kd, kh, kw), plus bias.

    Arguments as of `conv2d`, with triples in the place of pairs.
    """
    return _convolved("conv3d", 3, input, weight, bias, stride, padding, dilation, groups)


@function("nn.conv_transpose1d")
def conv_transpose1d(
    input: ArrayLike, weight: ArrayLike, bias: ArrayLike = None, stride: Any = 1, padding: Any = 0,
    output_padding: Any = 0, groups: int = 1, dilation: Any = 1,
) -> Array:  # fmt: skip
    """The transpose of `conv1d` as a map of images: (n, c, l), weight (c, out/groups, k); see `conv_transpose2d`."""
    return _transposed("conv_transpose1d", 1, input, weight, bias, stride, padding, output_padding, groups, dilation)


@function("nn.conv_transpose2d")
def conv_transpose2d(
    input: ArrayLike, weight: ArrayLike, bias: ArrayLike = None, stride: Any = 1, padding: Any = 0,
    output_padding: Any = 0, groups: int = 1, dilation: Any = 1,
) -> Array:  # fmt: skip
    """The transpose of `conv2d` as a map of images: (n, c, h, w) or (c, h, w) with weight (c, out/groups, kh, kw).

    The result has h' = (h − 1)·stride − 2·padding + dilation·(kh − 1) + output_padding + 1 rows; ``output_padding``,
    less than stride or dilation, says which of the images it is that `conv2d` brings to h rows.
    """
    return _transposed("conv_transpose2d", 2, input, weight, bias, stride, padding, output_padding, groups, dilation)


@function("nn.conv_transpose3d")
def conv_transpose3d(
    input: ArrayLike, weight: ArrayLike, bias: ArrayLike = None, stride: Any = 1, padding: Any = 0,
    output_padding: Any = 0, groups: int = 1, dilation: Any = 1,
) -> Array:  # fmt: skip
    """The transpose of `conv3d`: (n, c, d, h, w) with weight (c, out/groups, kd, kh, kw); see `conv_transpose2d`."""
    return _transposed("conv_transpose3d", 3, input, weight, bias, stride, padding, output_padding, groups, dilation)


# -- in any number of dimensions ---------------------------------------------------------------------------------------


def _convolved(
    name: str, rank: int, input: ArrayLike, weight: ArrayLike, bias: ArrayLike, stride: Any, padding: Any,
    dilation: Any, groups: Any,
) -> Any:  # fmt: skip
    x, w = as_node(input), as_node(weight)
    images, groups = batched(name, x, rank), static_int(groups, "groups")
    channels = images.shape[1]
    if w.ndim != rank + 2 or groups < 1 or w.shape[1] * groups != channels or w.shape[0] % groups:
        raise ShapeError(
            f"{here()}: {name}: weight must be (out, {channels}/groups, {shown(rank, 'k')}) with out a multiple of "
            f"groups = {groups}.\n  operands: {describe(x)}; {describe(w)}"
        )
    strides, dilations = (extents(name, k, v, rank, 1) for k, v in (("stride", stride), ("dilation", dilation)))
    sizes = w.shape[2:]
    seen = windows(
        name, padded(name, images, _padding(name, padding, sizes, strides, dilations), 0), sizes, strides, dilations
    )
    y = _with_bias(name, _correlated(seen, w, groups, rank), bias, rank)
    return y if x.ndim == rank + 2 else gnp.reshape(y, y.shape[1:])


def _correlated(seen: Node, w: Node, groups: int, rank: int) -> Any:
    """Windows (n, c, *space, *kernel) against weight, group by group."""
    at, inside = "zyx"[3 - rank :], "jkl"[3 - rank :]
    if groups == 1:
        return FUNCTIONS["einsum"](f"nc{at}{inside},oc{inside}->no{at}", seen, w)
    n, channels, *rest = seen.shape
    split = gnp.reshape(seen, (n, groups, channels // groups, *rest))
    kernels = gnp.reshape(w, (groups, w.shape[0] // groups, *w.shape[1:]))
    y = FUNCTIONS["einsum"](f"ngc{at}{inside},goc{inside}->ngo{at}", split, kernels)
    return gnp.reshape(y, (n, w.shape[0], *y.shape[3:]))


def _transposed(
    name: str, rank: int, input: ArrayLike, weight: ArrayLike, bias: ArrayLike, stride: Any, padding: Any,
    output_padding: Any, groups: Any, dilation: Any,
) -> Any:  # fmt: skip
    x, w = inexact(as_node(input)), inexact(as_node(weight))
    images, groups = batched(name, x, rank), static_int(groups, "groups")
    n, channels, *space = images.shape
    if w.ndim != rank + 2 or groups < 1 or w.shape[0] != channels or channels % groups:
        raise ShapeError(
            f"{here()}: {name}: weight must be ({channels}, out/groups, {shown(rank, 'k')}), and groups = {groups} "
            f"must divide {channels}.\n  operands: {describe(x)}; {describe(w)}"
        )
    strides, dilations = (extents(name, k, v, rank, 1) for k, v in (("stride", stride), ("dilation", dilation)))
    around, more = (extents(name, k, v, rank, 0) for k, v in
                    (("padding", padding), ("output_padding", output_padding)))  # fmt: skip
    if any(m >= max(s, d) for m, s, d in zip(more, strides, dilations, strict=True)):
        raise ShapeError(
            f"{here()}: {name}: output_padding {output_padding!r} must be less than stride {stride!r} or dilation "
            f"{dilation!r}"
        )
    sizes = w.shape[2:]
    whole = [(h - 1) * s + d * (k - 1) + 1 for h, s, d, k in zip(space, strides, dilations, sizes, strict=True)]
    if min(a - 2 * p + m for a, p, m in zip(whole, around, more, strict=True)) < 1 or not min(space):
        raise ShapeError(f"{here()}: {name}: nothing is left of {describe(x)} with padding {padding!r}")
    columns = _spread(images, w, groups, rank)
    made = OPS["fold"].make(
        (columns,), shape=(n, w.shape[1] * groups, *whole), axes=tuple(range(2, rank + 2)), sizes=sizes,
        strides=strides, dilations=dilations,
    )  # fmt: skip
    widths: Widths = tuple((-p, m - p) for p, m in zip(around, more, strict=True))
    y = _with_bias(name, padded(name, made, widths, 0), bias, rank)
    return y if x.ndim == rank + 2 else gnp.reshape(y, y.shape[1:])


def _spread(images: Node, w: Node, groups: int, rank: int) -> Any:
    """What each pixel adds to each place of its window: (n, out, *space, *kernel)."""
    at, inside = "zyx"[3 - rank :], "jkl"[3 - rank :]
    if groups == 1:
        return FUNCTIONS["einsum"](f"nc{at},co{inside}->no{at}{inside}", images, w)
    n, channels, *space = images.shape
    split = gnp.reshape(images, (n, groups, channels // groups, *space))
    kernels = gnp.reshape(w, (groups, channels // groups, *w.shape[1:]))
    y = FUNCTIONS["einsum"](f"ngc{at},gco{inside}->ngo{at}{inside}", split, kernels)
    return gnp.reshape(y, (n, groups * w.shape[1], *y.shape[3:]))


def _with_bias(name: str, y: Any, bias: ArrayLike, rank: int) -> Any:
    if bias is None:
        return y
    b = as_node(bias)
    if b.shape != (y.shape[1],):
        raise ShapeError(f"{here()}: {name}: bias must be ({y.shape[1]},), one for each output, got {describe(b)}")
    return y + gnp.reshape(b, (-1, *[1] * rank))


def _padding(name: str, padding: Any, sizes: Extents, strides: Extents, dilations: Extents) -> Widths:
    """What is added before and after, of a number, a pair or a word."""
    rank = len(sizes)
    if padding == "valid":
        return ((0, 0),) * rank
    if isinstance(padding, str) and padding != "same":
        raise ShapeError(f'{here()}: {name}: padding is an int, {shown(rank, "p")}, "valid" or "same", got {padding!r}')
    if padding != "same":
        return tuple((p, p) for p in extents(name, "padding", padding, rank, 0))
    if max(strides) > 1:
        raise ShapeError(f'{here()}: {name}: padding="same" needs stride 1, got {strides}')
    totals = [d * (k - 1) for k, d in zip(sizes, dilations, strict=True)]
    return tuple((t // 2, t - t // 2) for t in totals)
