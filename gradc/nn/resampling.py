"""Images of other sizes: padding, interpolation, windows as columns, pixels as channels.

Names, arguments and layouts of torch.nn.functional.  Enters: images (n, c, *space).  Leaves: the same rank, but for
`unfold` and `fold`.  Start reading at `interpolate`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import gradc.numpy as gnp
from gradc.errors import ShapeError
from gradc.nn.spaces import extents, padded, windows
from gradc.node import FUNCTIONS, OPS, Node, as_node, constant, describe, here, static_int
from gradc.numpy.public import Array, ArrayLike, function
from gradc.numpy.reductions import inexact
from gradc.numpy.shapes import taken
from gradc.ops.views import window_count

__all__ = ["channel_shuffle", "fold", "interpolate", "pad", "pixel_shuffle", "pixel_unshuffle", "unfold"]

_MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


@function("nn.pad")
def pad(input: ArrayLike, pad: Any, mode: str = "constant", value: Any = None) -> Array:
    """``input`` with (left, right, top, bottom, …) more, from the last axis on: two numbers for each axis.

    ``mode``: "constant" (``value``, 0 by default; negative numbers take away), "reflect" without the edge, "replicate"
    the edge, "circular".
    """
    x = as_node(input)
    given = [static_int(n, "pad") for n in pad]
    if len(given) % 2 or len(given) > 2 * x.ndim:
        raise ShapeError(
            f"{here()}: nn.pad: pad holds two numbers for each of the last axes of {describe(x)}, got {pad!r}"
        )
    if mode not in _MODES:
        raise ValueError(f"{here()}: nn.pad: mode must be one of {', '.join(map(repr, _MODES))}, got {mode!r:.40}")
    pairs = [(0, 0)] * (x.ndim - len(given) // 2) + [(a, b) for a, b in zip(given[-2::-2], given[::-2], strict=True)]
    if mode == "constant":
        return padded("nn.pad", x, tuple(pairs), 0 if value is None else value)
    if value is not None:
        raise ValueError(f'{here()}: nn.pad: value= belongs to mode="constant", not to {mode!r}')
    for axis, (both, n) in enumerate(zip(pairs, x.shape, strict=True)):
        most = {"reflect": n - 1, "circular": n, "replicate": math.inf if n else 0}[mode]
        if min(both) < 0 or max(both) > most:
            raise ShapeError(
                f"{here()}: nn.pad: mode {mode!r} adds 0 to {most} at each end of axis {axis} of {describe(x)}, got "
                f"{both}"
            )
    return FUNCTIONS["pad"](x, pairs, mode=_MODES[mode])


# -- windows as columns ------------------------------------------------------------------------------------------------


@function("nn.unfold")
def unfold(input: ArrayLike, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Array:
    """The windows of images (n, c, h, w), or (c, h, w), as columns: (n, c·kh·kw, places)."""
    x = as_node(input)
    if x.ndim not in (3, 4):
        raise ShapeError(f"{here()}: unfold: images are (n, c, h, w) or (c, h, w), got {describe(x)}")
    images = x if x.ndim == 4 else FUNCTIONS["expand_dims"](x, 0)
    sizes, dilations, around, strides = _window("unfold", kernel_size, dilation, padding, stride)
    seen = windows("unfold", padded("unfold", images, tuple((p, p) for p in around), 0), sizes, strides, dilations)
    columns = gnp.transpose(seen, (0, 1, 4, 5, 2, 3))
    y = gnp.reshape(columns, (seen.shape[0], seen.shape[1] * math.prod(sizes), seen.shape[2] * seen.shape[3]))
    return y if x.ndim == 4 else gnp.reshape(y, y.shape[1:])


@function("nn.fold")
def fold(
    input: ArrayLike, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
) -> Array:
    """The transpose of `unfold`: images (n, c, h, w) of ``output_size`` whose pixels sum the columns that show them."""
    x = inexact(as_node(input))
    if x.ndim not in (2, 3):
        raise ShapeError(f"{here()}: fold: columns are (n, c·kh·kw, places) or (c·kh·kw, places), got {describe(x)}")
    columns = x if x.ndim == 3 else FUNCTIONS["expand_dims"](x, 0)
    sizes, dilations, around, strides = _window("fold", kernel_size, dilation, padding, stride)
    whole = [n + 2 * p for n, p in zip(extents("fold", "output_size", output_size, 2, 1), around, strict=True)]
    places = [window_count(*one) for one in zip(whole, sizes, strides, dilations, strict=True)]
    n, rows, count = columns.shape
    if rows % math.prod(sizes) or count != math.prod(places):
        raise ShapeError(
            f"{here()}: fold: output_size {output_size!r} and kernel_size {kernel_size!r} need columns "
            f"(n, c·{math.prod(sizes)}, {math.prod(places)}), got {describe(x)}"
        )
    split = gnp.reshape(columns, (n, rows // math.prod(sizes), *sizes, *places))
    made = OPS["fold"].make(
        (gnp.transpose(split, (0, 1, 4, 5, 2, 3)),), shape=(n, split.shape[1], *whole), axes=(2, 3), sizes=sizes,
        strides=strides, dilations=dilations,
    )  # fmt: skip
    y: Any = padded("fold", made, tuple((-p, -p) for p in around), 0)
    return y if x.ndim == 3 else gnp.reshape(y, y.shape[1:])


def _window(name: str, kernel_size: Any, dilation: Any, padding: Any, stride: Any) -> tuple[Any, ...]:
    given = (("kernel_size", kernel_size, 1), ("dilation", dilation, 1), ("padding", padding, 0), ("stride", stride, 1))
    return tuple(extents(name, what, value, 2, least) for what, value, least in given)


# -- pixels and channels -----------------------------------------------------------------------------------------------


@function("nn.pixel_shuffle")
def pixel_shuffle(input: ArrayLike, upscale_factor: int) -> Array:
    """Channels as pixels: (…, c·r², h, w) to (…, c, h·r, w·r) (Shi et al. 2016)."""
    x, r = as_node(input), static_int(upscale_factor, "upscale_factor")
    if x.ndim < 3 or r < 1 or x.shape[-3] % (r * r):
        raise ShapeError(f"{here()}: pixel_shuffle: input is (…, c·{r}², h, w), got {describe(x)}")
    *lead, channels, h, w = x.shape
    split = gnp.reshape(x, (-1, channels // (r * r), r, r, h, w))
    return gnp.reshape(gnp.transpose(split, (0, 1, 4, 2, 5, 3)), (*lead, channels // (r * r), h * r, w * r))


@function("nn.pixel_unshuffle")
def pixel_unshuffle(input: ArrayLike, downscale_factor: int) -> Array:
    """The inverse of `pixel_shuffle`: (…, c, h·r, w·r) to (…, c·r², h, w)."""
    x, r = as_node(input), static_int(downscale_factor, "downscale_factor")
    if x.ndim < 3 or r < 1 or x.shape[-2] % r or x.shape[-1] % r:
        raise ShapeError(f"{here()}: pixel_unshuffle: input is (…, c, h·{r}, w·{r}), got {describe(x)}")
    *lead, channels, h, w = x.shape
    split = gnp.reshape(x, (-1, channels, h // r, r, w // r, r))
    return gnp.reshape(gnp.transpose(split, (0, 1, 3, 5, 2, 4)), (*lead, channels * r * r, h // r, w // r))


@function("nn.channel_shuffle")
def channel_shuffle(input: ArrayLike, groups: int) -> Array:
    """The channels of ``groups`` groups of (n, c, …), one of each group in turn (Zhang et al. 2018)."""
    x, count = as_node(input), static_int(groups, "groups")
    if x.ndim < 3 or count < 1 or x.shape[1] % count:
        raise ShapeError(f"{here()}: channel_shuffle: groups must divide the channels of (n, c, …), got {groups} for "
                         f"{describe(x)}")  # fmt: skip
    split = gnp.reshape(x, (x.shape[0], count, x.shape[1] // count, *x.shape[2:]))
    return gnp.reshape(gnp.swapaxes(split, 1, 2), x.shape)


# -- interpolation -----------------------------------------------------------------------------------------------------

_RANKS = {"linear": (1,), "bilinear": (2,), "trilinear": (3,), "bicubic": (2,)}
_NEAREST = {"nearest": 0.0, "nearest-exact": 0.5}


@function("nn.interpolate")
def interpolate(
    input: ArrayLike, size: Any = None, scale_factor: Any = None, mode: str = "nearest",
    align_corners: bool | None = None,
) -> Array:  # fmt: skip
    """Images (n, c, *space) brought to ``size``, or to ⌊extent·``scale_factor``⌋.

    ``mode``: "nearest", "nearest-exact", "area" (`adaptive_avg_pool2d`); "linear", "bilinear", "trilinear" of one, two
    and three axes of space; "bicubic" (Keys 1981, a = −¾).  ``align_corners``: of the last four, whether the centres of
    the corner pixels stay where they are, else the edges of the image do.
    """
    x = as_node(input) if mode in _NEAREST else inexact(as_node(input))
    rank = x.ndim - 2
    if mode not in (*_NEAREST, *_RANKS, "area"):
        known = ", ".join(map(repr, (*_NEAREST, "area", *_RANKS)))
        raise ValueError(f"{here()}: interpolate: mode must be one of {known}, got {mode!r:.40}")
    if rank not in _RANKS.get(mode, (1, 2, 3)) or not min(x.shape[2:]):
        raise ShapeError(f"{here()}: interpolate: mode {mode!r} does not take {describe(x)}; images are (n, c, *space)")
    if align_corners is not None and mode not in _RANKS:
        raise ValueError(f"{here()}: interpolate: align_corners belongs to linear and cubic modes, not to {mode!r}")
    if (size is None) == (scale_factor is None):
        raise ValueError(f"{here()}: interpolate: give size or scale_factor, one of both")
    wanted, steps = _sizes(x, rank, size, scale_factor)
    if mode == "area":
        return FUNCTIONS[f"nn.adaptive_avg_pool{rank}d"](x, wanted)
    for axis, (count, step) in enumerate(zip(wanted, steps, strict=True), 2):
        x = _along(x, axis, count, step, mode, bool(align_corners))
    return x


def _sizes(x: Node, rank: int, size: Any, scale_factor: Any) -> tuple[tuple[int, ...], list[float]]:
    """Extents, and how far apart in the image neighbours of the result are."""
    if size is not None:
        wanted = extents("interpolate", "size", size, rank, 1)
        return wanted, [n / count for n, count in zip(x.shape[2:], wanted, strict=True)]
    several = isinstance(scale_factor, tuple | list)
    factors = [float(f) for f in (scale_factor if several else [scale_factor] * rank)]
    if len(factors) != rank or min(factors) <= 0:
        raise ValueError(
            f"{here()}: interpolate: scale_factor must be a positive number, or {rank} of them, got {scale_factor!r}"
        )
    wanted = extents(
        "interpolate", "the size that scale_factor gives",
        [math.floor(n * f) for n, f in zip(x.shape[2:], factors, strict=True)], rank, 1,
    )  # fmt: skip
    return wanted, [1 / f for f in factors]


def _along(x: Node, axis: int, count: int, step: float, mode: str, align: bool) -> Any:
    """One axis: each new element is a sum of few old ones, whose places and shares are known."""
    n, at = x.shape[axis], np.arange(count)
    if mode in _NEAREST:
        return taken(x, np.minimum(np.floor((at + _NEAREST[mode]) * step).astype(int), n - 1), axis)
    place = at * ((n - 1) / (count - 1) if count > 1 else 0.0) if align else (at + 0.5) * step - 0.5
    if mode != "bicubic":
        place = np.maximum(place, 0.0)
    low = np.floor(place).astype(int)
    t = place - low
    taps = _cubic(t) if mode == "bicubic" else [(0, 1 - t), (1, t)]
    total: Any = None
    for offset, share in taps:
        seen = taken(x, np.clip(low + offset, 0, n - 1), axis)
        part = seen * constant(share.astype(x.dtype).reshape(-1, *[1] * (x.ndim - axis - 1)))
        total = part if total is None else total + part
    return total


def _cubic(t: Any) -> list[tuple[int, Any]]:
    """Places around, and their shares in a cubic convolution with a = −¾."""
    a = -0.75

    def near(d: Any) -> Any:
        return ((a + 2) * d - (a + 3)) * d * d + 1

    def far(d: Any) -> Any:
        return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a

    return [(-1, far(1 + t)), (0, near(t)), (1, near(1 - t)), (2, far(2 - t))]
