"""Pooling in one to three dimensions: names, arguments and layouts of torch.nn.functional, (…, C, *space).

Enters: an image or a batch of them.  Leaves: the same rank.  Invariant: a pool is sliding windows of the padded image
and a reduction; no window is ever an array of its own.  Start reading at `_max_pooled`; adaptive pools at `_adaptive`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np

import gradc.numpy as gnp
from gradc.errors import ShapeError
from gradc.nn.spaces import Extents, Widths, batched, extents, padded, windows
from gradc.node import Node, as_node, constant, describe, here, static_int
from gradc.numpy.public import Array, ArrayLike, function
from gradc.numpy.reductions import inexact, reduced
from gradc.numpy.shapes import taken
from gradc.ops.elementwise import cast
from gradc.ops.leaves import iota
from gradc.random.arguments import known_number

__all__ = [
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "adaptive_max_pool1d", "adaptive_max_pool2d",
    "adaptive_max_pool3d", "avg_pool1d", "avg_pool2d", "avg_pool3d", "lp_pool1d", "lp_pool2d", "lp_pool3d",
    "max_pool1d", "max_pool2d", "max_pool3d",
]  # fmt: skip

_SHARED = "shared by the largest elements of a window"


# -- the largest -------------------------------------------------------------------------------------------------------


@function("nn.max_pool1d", singular=_SHARED)
def max_pool1d(
    input: ArrayLike, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
    ceil_mode: bool = False, return_indices: bool = False,
) -> Any:  # fmt: skip
    """The largest element of each window of (…, l); arguments as of `max_pool2d`."""
    return _max_pooled("max_pool1d", 1, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


@function("nn.max_pool2d", singular=_SHARED)
def max_pool2d(
    input: ArrayLike, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
    ceil_mode: bool = False, return_indices: bool = False,
) -> Any:  # fmt: skip
    """The largest element of each window of images (…, h, w); padding counts as −∞.

    ``stride`` defaults to ``kernel_size``.  ``ceil_mode``: a window that begins in the image, or in the padding before
    it, counts even if it ends outside.  ``return_indices``: (y, where), the positions in the plane of an image, counted
    along its rows.  Where several elements of a window are largest they share the derivative, and the first is named.
    """
    return _max_pooled("max_pool2d", 2, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


@function("nn.max_pool3d", singular=_SHARED)
def max_pool3d(
    input: ArrayLike, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
    ceil_mode: bool = False, return_indices: bool = False,
) -> Any:  # fmt: skip
    """The largest element of each window of (…, d, h, w); arguments as of `max_pool2d`."""
    return _max_pooled("max_pool3d", 3, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def _max_pooled(
    name: str, rank: int, input: ArrayLike, kernel_size: Any, stride: Any, padding: Any, dilation: Any,
    ceil_mode: bool, return_indices: bool,
) -> Any:  # fmt: skip
    x = as_node(input)
    images = batched(name, x, rank)
    sizes, strides, around = _arguments(name, rank, kernel_size, stride, padding)
    dilations = extents(name, "dilation", dilation, rank, 1)
    lowest = -np.inf if x.aval.is_float else np.iinfo(x.dtype).min if x.dtype.kind in "iu" else False
    widths = _widths(images.shape[2:], sizes, strides, around, dilations, ceil_mode)
    seen = windows(name, padded(name, images, widths, lowest), sizes, strides, dilations)
    y: Any = reduced("max", seen, tuple(range(rank + 2, 2 * rank + 2)))
    space = [_in_image(n, count, *one) for n, count, *one in
             zip(images.shape[2:], seen.shape[2:], sizes, strides, around, dilations, strict=False)]  # fmt: skip
    whole = all(one.all() for one in space)
    top = y
    if not whole and x.aval.is_float:
        shares = reduce(np.multiply.outer, [one.shape[1] / np.maximum(one.sum(1), 1) for one in space])
        y = y * gnp.where(y == lowest, constant(shares.astype(x.dtype)), constant(np.ones((), x.dtype)))
    if not return_indices:
        return _like(x, y, rank)
    candidates = seen
    if not whole:
        best = gnp.reshape(top, (*top.shape, *[1] * rank))
        hit = (seen == best) | (seen != seen) if x.aval.is_float else seen == best
        for k, one in enumerate(space):
            axes = [n if a in (k + 2, k + 2 + rank) else 1 for a, n in enumerate(seen.shape)]
            hit = hit & constant(one.reshape(axes))
        candidates = cast(hit, np.int8)
    found = gnp.argmax(gnp.reshape(candidates, (*seen.shape[: rank + 2], -1)), axis=-1)
    inside = np.unravel_index(np.arange(math.prod(sizes)), sizes)
    place: Any = 0
    for k, extent in enumerate(images.shape[2:]):
        start = iota(seen.shape[: rank + 2], k + 2) * strides[k] - around[k]
        place = place * extent + start + gnp.take(constant(inside[k] * dilations[k]), found)
    return _like(x, y, rank), _like(x, place, rank)


def _in_image(extent: int, count: int, size: int, stride: int, around: int, dilation: int) -> Any:
    """Along one axis, whether an element of a window (places, size) is one of the image."""
    at = np.arange(count)[:, None] * stride - around + np.arange(size) * dilation
    return (at >= 0) & (at < extent)


# -- means -------------------------------------------------------------------------------------------------------------


@function("nn.avg_pool1d")
def avg_pool1d(
    input: ArrayLike, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Array:  # fmt: skip
    """The mean of each window of (…, l); arguments as of `avg_pool2d`."""
    return _avg_pooled("avg_pool1d", 1, input, kernel_size, stride, padding, ceil_mode, count_include_pad, None)


@function("nn.avg_pool2d")
def avg_pool2d(
    input: ArrayLike, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
    count_include_pad: bool = True, divisor_override: int | None = None,
) -> Array:  # fmt: skip
    """The mean of each window of images (…, h, w); padding counts as zeros unless ``count_include_pad`` is False.

    ``divisor_override`` divides sums by this number instead.  ``ceil_mode`` as of `max_pool2d`; what lies behind the
    padding never counts.
    """
    return _avg_pooled(
        "avg_pool2d", 2, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )


@function("nn.avg_pool3d")
def avg_pool3d(
    input: ArrayLike, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
    count_include_pad: bool = True, divisor_override: int | None = None,
) -> Array:  # fmt: skip
    """The mean of each window of (…, d, h, w); arguments as of `avg_pool2d`."""
    return _avg_pooled(
        "avg_pool3d", 3, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )


def _avg_pooled(
    name: str, rank: int, input: ArrayLike, kernel_size: Any, stride: Any, padding: Any, ceil_mode: bool,
    include: bool, divisor: int | None,
) -> Any:  # fmt: skip
    x = inexact(as_node(input))
    images = batched(name, x, rank)
    sizes, strides, around = _arguments(name, rank, kernel_size, stride, padding)
    space, ones = images.shape[2:], (1,) * rank
    widths = _widths(space, sizes, strides, around, ones, ceil_mode)
    seen = windows(name, padded(name, images, widths, 0), sizes, strides, ones)
    total: Any = reduced("sum", seen, tuple(range(rank + 2, 2 * rank + 2)))
    if divisor is not None:
        if not static_int(divisor, "divisor_override"):
            raise ValueError(f"{here()}: {name}: divisor_override must not be 0")
        return _like(x, total / divisor, rank)
    counts = [
        np.array([min(a + k, n + (p if include else 0)) - max(a, -p if include else 0)
                  for a in range(-p, -p + count * s, s)])
        for n, k, s, p, count in zip(space, sizes, strides, around, total.shape[2:], strict=True)
    ]  # fmt: skip
    whole = reduce(np.multiply.outer, counts)
    if np.all(whole == math.prod(sizes)):
        return _like(x, total / math.prod(sizes), rank)
    return _like(x, total / constant(whole.astype(x.dtype)), rank)


@function("nn.lp_pool1d", singular="0 where a window is 0")
def lp_pool1d(
    input: ArrayLike, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False
) -> Array:
    """(Σ xᵖ)^(1/p) over each window of (…, l), p = ``norm_type``; arguments as of `max_pool1d`."""
    return _lp_pooled("lp_pool1d", 1, input, norm_type, kernel_size, stride, ceil_mode)


@function("nn.lp_pool2d", singular="0 where a window is 0")
def lp_pool2d(
    input: ArrayLike, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False
) -> Array:
    """(Σ xᵖ)^(1/p) over each window of (…, h, w), p = ``norm_type``; arguments as of `max_pool2d`."""
    return _lp_pooled("lp_pool2d", 2, input, norm_type, kernel_size, stride, ceil_mode)


@function("nn.lp_pool3d", singular="0 where a window is 0")
def lp_pool3d(
    input: ArrayLike, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False
) -> Array:
    """(Σ xᵖ)^(1/p) over each window of (…, d, h, w), p = ``norm_type``; arguments as of `max_pool3d`."""
    return _lp_pooled("lp_pool3d", 3, input, norm_type, kernel_size, stride, ceil_mode)


def _lp_pooled(name: str, rank: int, input: ArrayLike, p: Any, kernel_size: Any, stride: Any, ceil_mode: bool) -> Any:
    if known_number(p) == 0:
        raise ValueError(f"{here()}: {name}: norm_type must not be 0")
    size = math.prod(extents(name, "kernel_size", kernel_size, rank, 1))
    powers = inexact(as_node(input)) ** p
    return (_avg_pooled(name, rank, powers, kernel_size, stride, 0, ceil_mode, True, None) * size) ** (1 / p)


# -- to a given size ---------------------------------------------------------------------------------------------------


@function("nn.adaptive_avg_pool1d")
def adaptive_avg_pool1d(input: ArrayLike, output_size: Any) -> Array:
    """Means of ``output_size`` parts of (…, l); arguments as of `adaptive_avg_pool2d`."""
    return _adaptive("adaptive_avg_pool1d", 1, inexact(as_node(input)), output_size, _mean_of_part)


@function("nn.adaptive_avg_pool2d")
def adaptive_avg_pool2d(input: ArrayLike, output_size: Any) -> Array:
    """Means of (rows, columns) parts of images (…, h, w): part i of n is ⌊i·h/n⌋ … ⌈(i + 1)·h/n⌉ − 1.

    ``output_size`` is an int or a pair, None for an axis that stays; 1 is global pooling.
    """
    return _adaptive("adaptive_avg_pool2d", 2, inexact(as_node(input)), output_size, _mean_of_part)


@function("nn.adaptive_avg_pool3d")
def adaptive_avg_pool3d(input: ArrayLike, output_size: Any) -> Array:
    """Means of parts of (…, d, h, w); arguments as of `adaptive_avg_pool2d`."""
    return _adaptive("adaptive_avg_pool3d", 3, inexact(as_node(input)), output_size, _mean_of_part)


@function("nn.adaptive_max_pool1d", singular=_SHARED)
def adaptive_max_pool1d(input: ArrayLike, output_size: Any) -> Array:
    """The largest element of ``output_size`` parts of (…, l); see `adaptive_avg_pool2d`."""
    return _adaptive("adaptive_max_pool1d", 1, input, output_size, _largest_of_part)


@function("nn.adaptive_max_pool2d", singular=_SHARED)
def adaptive_max_pool2d(input: ArrayLike, output_size: Any) -> Array:
    """The largest element of (rows, columns) parts of images (…, h, w); see `adaptive_avg_pool2d`."""
    return _adaptive("adaptive_max_pool2d", 2, input, output_size, _largest_of_part)


@function("nn.adaptive_max_pool3d", singular=_SHARED)
def adaptive_max_pool3d(input: ArrayLike, output_size: Any) -> Array:
    """The largest element of parts of (…, d, h, w); see `adaptive_avg_pool2d`."""
    return _adaptive("adaptive_max_pool3d", 3, input, output_size, _largest_of_part)


def _adaptive(name: str, rank: int, input: ArrayLike, output_size: Any, part: Callable[..., Any]) -> Any:
    """Axis by axis; parts of equal extents are windows of the axis split in two."""
    x = as_node(input)
    y: Any = batched(name, x, rank)
    given = tuple(output_size) if isinstance(output_size, (tuple, list)) else (output_size,) * rank
    wanted = extents(name, "output_size", [n if v is None else v for v, n in zip(given, y.shape[2:], strict=False)]
                     if len(given) == rank else given, rank, 1)  # fmt: skip
    if not min(y.shape[2:]):
        raise ShapeError(f"{here()}: {name}: an axis of {describe(x)} is empty")
    for axis, count in enumerate(wanted, 2):
        n = y.shape[axis]
        if n == count:
            continue
        starts = np.arange(count) * n // count
        ends = -(-(np.arange(count) + 1) * n // count)
        y = part(y, axis, starts, ends)
    return _like(x, y, rank)


def _parts(x: Node, axis: int, starts: Any, ends: Any) -> tuple[Any, Any]:
    """Elements of each part behind a new axis, of equal number by saying the last again, and which of them count."""
    longest = int((ends - starts).max())
    places = starts[:, None] + np.arange(longest)
    counts = places < ends[:, None]
    flat = np.minimum(places, ends[:, None] - 1).ravel()
    seen = x if np.array_equal(flat, np.arange(x.shape[axis])) else taken(x, flat, axis)
    return gnp.reshape(seen, (*x.shape[:axis], len(starts), longest, *x.shape[axis + 1 :])), counts


def _mean_of_part(x: Node, axis: int, starts: Any, ends: Any) -> Any:
    seen, counts = _parts(x, axis, starts, ends)
    if counts.all():
        return gnp.mean(seen, axis=axis + 1)
    behind = (1,) * (x.ndim - axis - 1)
    shares = (counts / (ends - starts)[:, None]).astype(seen.dtype)
    return gnp.sum(seen * constant(shares.reshape(*counts.shape, *behind)), axis=axis + 1)


def _largest_of_part(x: Node, axis: int, starts: Any, ends: Any) -> Any:
    seen, _ = _parts(x, axis, starts, ends)
    return reduced("max", seen, (axis + 1,))


# -- arguments ---------------------------------------------------------------------------------------------------------


def _arguments(name: str, rank: int, kernel_size: Any, stride: Any, padding: Any) -> tuple[Extents, Extents, Extents]:
    sizes = extents(name, "kernel_size", kernel_size, rank, 1)
    strides = sizes if stride is None else extents(name, "stride", stride, rank, 1)
    around = extents(name, "padding", padding, rank, 0)
    if any(2 * p > s for p, s in zip(around, sizes, strict=True)):
        raise ShapeError(f"{here()}: {name}: padding {padding!r} is more than half of kernel_size {kernel_size!r}")
    return sizes, strides, around


def _widths(
    space: Extents, sizes: Extents, strides: Extents, around: Extents, dilations: Extents, ceil_mode: bool
) -> Widths:
    """Padding before and after; with ``ceil_mode`` as much more as the last window needs."""
    found = []
    for n, k, s, p, d in zip(space, sizes, strides, around, dilations, strict=True):
        more, reach = 0, d * (k - 1) + 1
        if ceil_mode and n + 2 * p >= reach:
            count = -(-(n + 2 * p - reach) // s) + 1
            count -= (count - 1) * s >= n + p  # it would begin behind the image
            more = max(0, (count - 1) * s + reach - (n + 2 * p))
        found.append((p, p + more))
    return tuple(found)


def _like(x: Node, y: Any, rank: int) -> Any:
    """``y`` without the batch axis that ``x`` has not."""
    return y if x.ndim == rank + 2 else gnp.reshape(y, y.shape[1:])
