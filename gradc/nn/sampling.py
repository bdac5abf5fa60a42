"""Images read at any places, and pooled images laid out again: names, arguments and meaning of torch.nn.functional.

Enters: images (n, c, *space), and places between −1 and 1 or positions that a pool told.  Leaves: such images.
Invariant: what is read outside of an image is 0, the edge, or the image's reflection, by ``padding_mode``.  Start
reading at `grid_sample`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np

import gradc.numpy as gnp
from gradc.aval import computed_in
from gradc.errors import DTypeError, IndexingError, ShapeError
from gradc.nn.spaces import Extents, batched, extents
from gradc.nn.terms import known_value
from gradc.node import FUNCTIONS, OPS, Node, as_node, constant, describe, here, static_int
from gradc.numpy.public import Array, ArrayLike, function
from gradc.numpy.reductions import inexact
from gradc.ops.elementwise import cast
from gradc.ops.leaves import full, iota

__all__ = ["affine_grid", "grid_sample", "max_unpool1d", "max_unpool2d", "max_unpool3d"]

#: of the cubic convolution of Keys (1981), as PyTorch has it
_CUBIC = -0.75


@function("nn.affine_grid")
def affine_grid(theta: ArrayLike, size: Any, align_corners: bool = False) -> Array:
    """The places that affine maps ``theta`` (n, 2, 3) or (n, 3, 4) send those of an image to: (n, h, w, 2) or (n, d, h,
    w, 3), for `grid_sample`.

    ``size`` is that of the image, (n, c, h, w) or (n, c, d, h, w).  A place is (x, y) or (x, y, z), −1 and 1 being the
    edges of the image, or with ``align_corners`` the centres of its outermost pixels (Jaderberg et al. 2015).
    """
    maps = inexact(as_node(theta))
    whole = [static_int(n, "size") for n in size]
    rank = len(whole) - 2
    if rank not in (2, 3) or maps.shape != (whole[0], rank, rank + 1):
        raise ShapeError(
            f"{here()}: affine_grid: theta (n, 2, 3) goes with size (n, c, h, w), theta (n, 3, 4) with size (n, c, d, "
            f"h, w), got {describe(maps)} and {size!r:.60}"
        )
    if min(whole) < 1:
        raise ShapeError(f"{here()}: affine_grid: every extent of size is at least 1, got {size!r:.60}")
    lines = [_line(n, align_corners) for n in whole[:1:-1]]  # x first
    space = tuple(whole[2:])
    places = [np.broadcast_to(line.reshape(-1, *[1] * k), space) for k, line in enumerate(lines)]
    ones = constant(np.stack([*places, np.ones(space)], axis=-1).astype(maps.dtype))
    return FUNCTIONS["einsum"]("...k,njk->n...j", ones, maps)


def _line(extent: int, align_corners: bool) -> Any:
    """The places of the pixels along an axis."""
    if extent == 1:
        return np.zeros(1)
    line = np.linspace(-1.0, 1.0, extent)
    return line if align_corners else line * (extent - 1) / extent


@function("nn.grid_sample", singular="of one side where a place meets a pixel or an edge")
def grid_sample(
    input: ArrayLike, grid: ArrayLike, mode: str = "bilinear", padding_mode: str = "zeros",
    align_corners: bool = False,
) -> Array:  # fmt: skip
    """Images (n, c, h, w) read at places ``grid`` (n, …, 2), or (n, c, d, h, w) at (n, …, 3): (n, c, …).

    A place is (x, y) or (x, y, z), −1 and 1 being the edges of the image, or with ``align_corners`` the centres of its
    outermost pixels.  ``mode``: "bilinear" between the pixels around it (trilinear of volumes), "nearest", a half to
    the even one, or "bicubic" over four rows and columns (Keys 1981), of images alone.  ``padding_mode`` is what stands
    outside: "zeros", the edge ("border"), or the image mirrored ("reflection").  A place that is not a number is −1.
    (Jaderberg et al. 2015.)
    """
    x, places = inexact(as_node(input)), as_node(grid)
    _check_sampled(x, places, mode, padding_mode)
    if not places.aval.is_float:
        raise DTypeError(f"{here()}: grid_sample: grid holds floats between -1 and 1, got {describe(places)}")
    space = x.shape[2:]
    wide = computed_in(places.dtype)
    axes = [cast(places[..., k], wide) for k in range(len(space))][::-1]  # as the axes of the image
    at = [_in_pixels(u, n, align_corners) for u, n in zip(axes, space, strict=True)]
    outside = _OUTSIDE[padding_mode]
    if mode != "bicubic":
        at = [outside(u, n, align_corners) for u, n in zip(at, space, strict=True)]
    corners: list[list[tuple[Any, Any]]]
    if mode == "nearest":
        corners = [[(gnp.round(u), None)] for u in at]
    elif mode == "bilinear":
        corners = [_linear(u) for u in at]
    else:
        corners = [[(outside(u, n, align_corners), w) for u, w in _cubic(u)] for u, n in zip(at, space, strict=True)]
        if padding_mode != "zeros":  # nearest to what rounding left of whole numbers
            corners = [[(gnp.round(u), w) for u, w in axis] for axis in corners]
    total: Any = None
    for corner in product(*corners):
        term = _read(x, [u for u, _ in corner])
        weights = [w for _, w in corner if w is not None]
        if weights:
            term = term * FUNCTIONS["expand_dims"](cast(math.prod(weights[1:], start=weights[0]), x.dtype), 1)
        total = term if total is None else total + term
    return total


def _check_sampled(x: Node, places: Node, mode: str, padding_mode: str) -> None:
    rank = x.ndim - 2
    if rank not in (2, 3) or places.ndim != x.ndim or places.shape[-1] != rank or places.shape[0] != x.shape[0]:
        raise ShapeError(
            f"{here()}: grid_sample: images (n, c, h, w) need grid (n, …, …, 2), volumes (n, c, d, h, w) need grid "
            f"(n, …, …, …, 3).\n  operands: {describe(x)}; {describe(places)}"
        )
    if min(x.shape[2:]) < 1:
        raise ShapeError(f"{here()}: grid_sample: there is nothing to read in {describe(x)}")
    if mode not in ("bilinear", "nearest", "bicubic"):
        raise ValueError(f"{here()}: grid_sample: mode is 'bilinear', 'nearest' or 'bicubic', got {mode!r:.40}")
    if mode == "bicubic" and rank != 2:
        raise ShapeError(f"{here()}: grid_sample: mode 'bicubic' reads images (n, c, h, w), got {describe(x)}")
    if padding_mode not in _OUTSIDE:
        raise ValueError(
            f"{here()}: grid_sample: padding_mode is {', '.join(map(repr, _OUTSIDE))}, got {padding_mode!r:.40}"
        )


def _in_pixels(u: Any, extent: int, align_corners: bool) -> Any:
    """Places between −1 and 1 counted in pixels, 0 being the centre of the first one."""
    u = gnp.where(gnp.isnan(u), -1.0, u)
    return (u + 1) * ((extent - 1) / 2) if align_corners else ((u + 1) * extent - 1) / 2


def _as_it_is(u: Any, extent: int, align_corners: bool) -> Any:
    return u


def _to_edge(u: Any, extent: int, align_corners: bool) -> Any:
    """Within the image; no derivative outside, nor at the edge."""
    inside = (u > 0) & (u < extent - 1)
    return gnp.where(inside, u, gnp.clip(FUNCTIONS["stop_gradient"](u), 0, extent - 1))


def _mirrored(u: Any, extent: int, align_corners: bool) -> Any:
    """Reflected at the edges of the image, or at the centres of its outermost pixels, as often as it takes."""
    low, span = (0.0, extent - 1.0) if align_corners else (-0.5, float(extent))
    if span == 0:
        return gnp.zeros_like(u)
    apart = u - low
    sign = gnp.where(apart < 0, -1.0, 1.0)
    far = apart * sign
    turns = FUNCTIONS["stop_gradient"](gnp.floor(far / span))
    rest = far - turns * span
    return _to_edge(gnp.where(turns % 2 == 0, rest + low, span - rest + low), extent, align_corners)


_OUTSIDE: dict[str, Callable[[Any, int, bool], Any]] = {
    "zeros": _as_it_is, "border": _to_edge, "reflection": _mirrored,
}  # fmt: skip


def _linear(u: Any) -> list[tuple[Any, Any]]:
    """The pixels on either side, and their weights."""
    low = FUNCTIONS["stop_gradient"](gnp.floor(u))
    part = u - low
    return [(low, 1 - part), (low + 1, part)]


def _cubic(u: Any) -> list[tuple[Any, Any]]:
    """The four pixels around, and their weights."""
    low = FUNCTIONS["stop_gradient"](gnp.floor(u))
    t, a = u - low, _CUBIC

    def near(d: Any) -> Any:
        return ((a + 2) * d - (a + 3)) * d * d + 1

    def far(d: Any) -> Any:
        return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a

    return [(low - 1, far(t + 1)), (low, near(t)), (low + 1, near(1 - t)), (low + 2, far(2 - t))]


def _read(x: Node, places: Sequence[Any]) -> Any:
    """The pixels of each image at whole places, 0 outside."""
    inside: Any = True
    index = []
    for u, n in zip(places, x.shape[2:], strict=True):
        inside = inside & (u >= 0) & (u <= n - 1)
        index.append(cast(gnp.clip(FUNCTIONS["stop_gradient"](u), 0, n - 1), np.int64))
    shape = (*x.shape[:2], *index[0].shape[1:])
    spread = [gnp.broadcast_to(FUNCTIONS["expand_dims"](i, 1), shape) for i in index]
    found = OPS["gather"].make((x, iota(shape, 0), iota(shape, 1), *spread), axes=tuple(range(x.ndim)))
    return gnp.where(FUNCTIONS["expand_dims"](inside, 1), found, 0.0)


# -- pools laid out again ----------------------------------------------------------------------------------------------


@function("nn.max_unpool1d")
def max_unpool1d(
    input: ArrayLike, indices: ArrayLike, kernel_size: Any, stride: Any = None, padding: Any = 0,
    output_size: Any = None,
) -> Array:  # fmt: skip
    """What `max_pool1d` left of (…, l), at the positions it came from; arguments as of `max_unpool2d`."""
    return _unpooled("max_unpool1d", 1, input, indices, kernel_size, stride, padding, output_size)


@function("nn.max_unpool2d")
def max_unpool2d(
    input: ArrayLike, indices: ArrayLike, kernel_size: Any, stride: Any = None, padding: Any = 0,
    output_size: Any = None,
) -> Array:  # fmt: skip
    """Images (…, h, w) of zeros with what `max_pool2d` left of them at the positions it came from.

    ``indices`` are those that `max_pool2d` told (``return_indices``), in the plane of an image, counted along its rows.
    The image is as large as the least that such a pool makes ``input`` of, or ``output_size``, which is at most a
    stride away from that.  Where a position is named more than once the last one stands.
    """
    return _unpooled("max_unpool2d", 2, input, indices, kernel_size, stride, padding, output_size)


@function("nn.max_unpool3d")
def max_unpool3d(
    input: ArrayLike, indices: ArrayLike, kernel_size: Any, stride: Any = None, padding: Any = 0,
    output_size: Any = None,
) -> Array:  # fmt: skip
    """What `max_pool3d` left of (…, d, h, w), at the positions it came from; arguments as of `max_unpool2d`."""
    return _unpooled("max_unpool3d", 3, input, indices, kernel_size, stride, padding, output_size)


def _unpooled(
    name: str, rank: int, input: ArrayLike, indices: ArrayLike, kernel_size: Any, stride: Any, padding: Any,
    output_size: Any,
) -> Any:  # fmt: skip
    x, at = as_node(input), as_node(indices)
    if at.dtype.kind not in "iu" or at.shape != x.shape:
        raise ShapeError(
            f"{here()}: {name}: indices are integers, one for each element of input.\n"
            f"  operands: {describe(x)}; {describe(at)}"
        )
    images, at = batched(name, x, rank), batched(name, at, rank)
    sizes = extents(name, "kernel_size", kernel_size, rank, 1)
    strides = sizes if stride is None else extents(name, "stride", stride, rank, 1)
    around = extents(name, "padding", padding, rank, 0)
    space = _unpooled_space(name, images.shape[2:], sizes, strides, around, output_size)
    count = math.prod(space)
    known = known_value(at)
    if known is not None and (wrong := np.asarray(known)[(np.asarray(known) < 0) | (np.asarray(known) >= count)]).size:
        raise IndexingError(
            f"{here()}: {name}: indices lie in [0, {count}), positions of an image of {'x'.join(map(str, space))}, got "
            f"{wrong.flat[0]}; give the output_size that was pooled"
        )
    lead = images.shape[:2]
    flat, places = (gnp.reshape(a, (*lead, -1)) for a in (images, at))
    zeros = full((*lead, count), 0, images.dtype)
    rows = (iota(places.shape, 0), iota(places.shape, 1), cast(places, np.uint64))
    y = gnp.reshape(zeros.at[rows].set(flat), (*lead, *space))
    return y if x.ndim == rank + 2 else gnp.reshape(y, y.shape[1:])


def _unpooled_space(
    name: str, pooled: Extents, sizes: Extents, strides: Extents, around: Extents, output_size: Any
) -> Extents:
    """How large the image is that was pooled."""
    least = tuple((n - 1) * s - 2 * p + k for n, s, p, k in zip(pooled, strides, around, sizes, strict=True))
    if output_size is None:
        return least
    given = tuple(static_int(n, "output_size") for n in output_size)[-len(least) :]
    near = len(given) == len(least) and all(abs(g - n) < s for g, n, s in zip(given, least, strides, strict=True))
    if not near:
        raise ShapeError(
            f"{here()}: {name}: output_size lies less than a stride {strides} from {least}, got {output_size!r:.60}"
        )
    return given
