"""Arrays put together, cut apart, repeated, shifted and padded.

Enters: arrays and static positions, counts and widths.  Leaves: nodes of the view kind (concatenate, slice, pad,
broadcast, windows).  Invariant: what `static_take` can do with a few slices never becomes a gather.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gradc.aval import promoted
from gradc.errors import ShapeError, TraceError
from gradc.node import OPS, Node, as_node, constant, describe, here, static_int
from gradc.numpy.axes import axes_of, axis_of, nodes, shape_of
from gradc.numpy.public import Array, ArrayLike, Axes, function
from gradc.numpy.shapes import (
    at_least,
    broadcast_to,
    expand_dims,
    joined,
    reshaped,
    sliced,
    spread,
    squeeze,
    taken,
    with_rank,
)
from gradc.ops.elementwise import cast

__all__ = [
    "append", "array_split", "column_stack", "concat", "concatenate", "diff", "dsplit", "dstack", "hsplit", "hstack",
    "meshgrid", "pad", "repeat", "roll", "sliding_window_view", "split", "stack", "tile", "unstack", "vsplit",
    "vstack",
]  # fmt: skip

# -- joined and split -------------------------------------------------------------------------------------------------


@function("concatenate", "concat")
def concatenate(arrays: Any, axis: int | None = 0, *, dtype: Any = None) -> Array:
    """Arrays one after another along an existing ``axis`` (None: all flattened); ShapeError unless the others agree."""
    parts = nodes(arrays)
    if not parts:
        raise ShapeError(f"{here()}: concatenate needs at least one array")
    if axis is None:
        parts, axis = [reshaped(p, (p.size,)) for p in parts], 0
    if any(p.ndim == 0 for p in parts):
        raise ShapeError(f"{here()}: concatenate: zero-dimensional arrays cannot be concatenated; use stack")
    k = axis_of(axis, parts[0])
    _check_joinable(parts, k)
    return joined(_one_dtype(parts, dtype), k)


concat = concatenate


def _one_dtype(parts: Sequence[Node], dtype: Any) -> list[Node]:
    target = promoted(*[p.dtype for p in parts]) if dtype is None else dtype
    return [cast(p, target) for p in parts]


def _check_joinable(parts: Sequence[Node], axis: int) -> None:
    first = parts[0].shape
    for position, part in enumerate(parts):
        if part.shape[:axis] + part.shape[axis + 1 :] != first[:axis] + first[axis + 1 :] or part.ndim != len(first):
            raise ShapeError(
                f"{here()}: concatenate along axis {axis}: array 0 has shape {first}, array {position} has shape "
                f"{part.shape}; all other axes must agree"
            )


@function("stack")
def stack(arrays: Any, axis: int = 0, *, dtype: Any = None) -> Array:
    """Arrays of one shape along a new ``axis``; ShapeError if their shapes differ."""
    parts = nodes(arrays)
    if not parts:
        raise ShapeError(f"{here()}: stack needs at least one array")
    for position, part in enumerate(parts):
        if part.shape != parts[0].shape:
            raise ShapeError(
                f"{here()}: stack: all arrays must have one shape, but array 0 has {parts[0].shape}, "
                f"array {position} has {part.shape}"
            )
    k = axis_of(axis, parts[0], parts[0].ndim + 1)
    return joined([expand_dims(p, k) for p in _one_dtype(parts, dtype)], k)


@function("unstack")
def unstack(x: ArrayLike, *, axis: int = 0) -> tuple[Array, ...]:
    """The slices along ``axis``, each without it."""
    node = as_node(x)
    if node.ndim == 0:
        raise ShapeError(f"{here()}: unstack needs at least 1 dimension, got {describe(node)}")
    k = axis_of(axis, node)
    return tuple(squeeze(sliced(node, k, range(i, i + 1)), k) for i in range(node.shape[k]))


@function("vstack", "row_stack")
def vstack(tup: Any, *, dtype: Any = None) -> Array:
    """Arrays under each other: along axis 0, vectors taken as rows."""
    return concatenate([at_least(p, 2) for p in nodes(tup)], 0, dtype=dtype)


@function("hstack")
def hstack(tup: Any, *, dtype: Any = None) -> Array:
    """Arrays side by side: along axis 1, vectors along axis 0."""
    parts = [at_least(p, 1) for p in nodes(tup)]
    return concatenate(parts, 0 if parts and parts[0].ndim == 1 else 1, dtype=dtype)


@function("dstack")
def dstack(tup: Any) -> Array:
    """Arrays along the third axis."""
    return concatenate([at_least(p, 3) for p in nodes(tup)], 2)


@function("column_stack")
def column_stack(tup: Any) -> Array:
    """Vectors as columns, matrices as they are, side by side."""
    return concatenate([reshaped(p, (p.size, 1)) if p.ndim < 2 else p for p in nodes(tup)], 1)


@function("append")
def append(arr: ArrayLike, values: ArrayLike, axis: int | None = None) -> Array:
    """``values`` after ``arr`` along ``axis`` (None: both flattened)."""
    return concatenate([as_node(arr), as_node(values)], axis)


@function("split")
def split(ary: ArrayLike, indices_or_sections: Any, axis: int = 0) -> list[Array]:
    """Parts along ``axis``: n equal ones (ShapeError if n does not divide it), or cut before static positions."""
    x = as_node(ary)
    if np.ndim(indices_or_sections) == 0:
        n = x.shape[axis_of(axis, x)]
        parts = static_int(indices_or_sections, "the number of sections")
        if parts <= 0 or n % parts:
            raise ShapeError(f"{here()}: split: {parts} equal parts of axis {axis} with length {n} of {describe(x)}")
    return array_split(x, indices_or_sections, axis)


@function("array_split")
def array_split(ary: ArrayLike, indices_or_sections: Any, axis: int = 0) -> list[Array]:
    """Parts along ``axis``: n nearly equal ones (the longer first), or cut before the static positions given."""
    x = as_node(ary)
    k = axis_of(axis, x)
    n = x.shape[k]
    if np.ndim(indices_or_sections):
        cuts = [static_int(i, "a position to split at") for i in indices_or_sections]
    else:
        parts = static_int(indices_or_sections, "the number of sections")
        if parts <= 0:
            raise ShapeError(f"{here()}: array_split: the number of sections must be > 0, got {parts}")
        each, extra = divmod(n, parts)
        cuts = [i * each + min(i, extra) for i in range(1, parts)]
    bounds = [slice(a, b) for a, b in zip([0, *cuts], [*cuts, n], strict=True)]
    return [sliced(x, k, range(n)[bound]) for bound in bounds]


@function("hsplit")
def hsplit(ary: ArrayLike, indices_or_sections: Any) -> list[Array]:
    """`split` along axis 1 (axis 0 of a vector)."""
    x = with_rank(ary, 1, "hsplit")
    return split(x, indices_or_sections, 1 if x.ndim > 1 else 0)


@function("vsplit")
def vsplit(ary: ArrayLike, indices_or_sections: Any) -> list[Array]:
    """`split` along axis 0 of an array with at least two axes."""
    return split(with_rank(ary, 2, "vsplit"), indices_or_sections, 0)


@function("dsplit")
def dsplit(ary: ArrayLike, indices_or_sections: Any) -> list[Array]:
    """`split` along axis 2."""
    return split(with_rank(ary, 3, "dsplit"), indices_or_sections, 2)


@function("tile")
def tile(A: ArrayLike, reps: Any) -> Array:
    """``A`` repeated ``reps`` times along each axis; a missing axis is added in front."""
    x = as_node(A)
    counts = shape_of(reps)
    rank = max(x.ndim, len(counts))
    counts, sizes = (1,) * (rank - len(counts)) + counts, (1,) * (rank - x.ndim) + x.shape
    interleaved = tuple(n for pair in zip(counts, sizes, strict=True) for n in pair)
    shown = spread(reshaped(x, sizes), interleaved, range(1, 2 * rank, 2))
    return reshaped(shown, [c * n for c, n in zip(counts, sizes, strict=True)])


@function("repeat")
def repeat(a: ArrayLike, repeats: Any, axis: int | None = None) -> Array:
    """Each element ``repeats`` times (a static int, or one per position) along ``axis`` (None: when flattened)."""
    x = as_node(a)
    if axis is None:
        x, axis = reshaped(x, (x.size,)), 0
    if isinstance(repeats, Node):
        raise TraceError(
            f"{here()}: repeat: the result's shape depends on the traced repeats; add the argument to static"
        )
    k = axis_of(axis, x)
    n, counts = x.shape[k], np.asarray(repeats)
    if counts.size == 1:
        return _each_repeated(x, int(counts.reshape(())), k)
    if counts.shape != (n,):
        raise ShapeError(f"{here()}: repeat: {counts.shape} repeats for axis {k} with length {n} of {describe(x)}")
    return taken(x, np.repeat(np.arange(n), counts), k)


def _each_repeated(x: Node, count: int, axis: int) -> Node:
    if count < 0:
        raise ShapeError(f"{here()}: repeat: repeats must be >= 0, got {count}")
    shape = (*x.shape[: axis + 1], count, *x.shape[axis + 1 :])
    shown = spread(x, shape, [k for k in range(x.ndim + 1) if k != axis + 1])
    return reshaped(shown, [n * count if k == axis else n for k, n in enumerate(x.shape)])


# -- shifted and padded -----------------------------------------------------------------------------------------------


@function("roll")
def roll(a: ArrayLike, shift: Any, axis: Axes = None) -> Array:
    """Elements moved by the static ``shift`` along ``axis``, those that fall off the end re-entering at the front."""
    x = as_node(a)
    if axis is None:
        return reshaped(roll(reshaped(x, (x.size,)), shift, 0), x.shape)
    axes = axis if isinstance(axis, (tuple, list)) else (axis,)
    shifts, along = np.broadcast_arrays(np.array(_static_ints(shift, "a shift")), np.array(axes))
    result = x
    for amount, k in zip(shifts.reshape(-1), along.reshape(-1), strict=True):
        result = _rolled(result, int(amount), axis_of(k, x))
    return result


def _static_ints(value: Any, what: str) -> Any:
    if isinstance(value, (tuple, list)):
        return [static_int(v, what) for v in value]
    return value if isinstance(value, np.ndarray) else static_int(value, what)


def _rolled(x: Node, shift: int, axis: int) -> Node:
    n = x.shape[axis]
    cut = -shift % n if n else 0
    if not cut:
        return x
    return joined([sliced(x, axis, range(cut, n)), sliced(x, axis, range(cut))], axis)


@function("fft.fftshift")
def fftshift(x: ArrayLike, axes: Axes = None) -> Array:
    """The second half of each axis before the first, so that the middle stands where the beginning was."""
    node = as_node(x)
    along = axes_of(axes, node)
    return roll(node, tuple(node.shape[k] // 2 for k in along), along)


@function("fft.ifftshift")
def ifftshift(x: ArrayLike, axes: Axes = None) -> Array:
    """What `fftshift` did, undone."""
    node = as_node(x)
    along = axes_of(axes, node)
    return roll(node, tuple(-(node.shape[k] // 2) for k in along), along)


_INDEX_MODES: dict[str, Any] = {name: name for name in ("edge", "reflect", "symmetric", "wrap")}


@function("pad")
def pad(
    array: ArrayLike, pad_width: Any, mode: str = "constant", *, constant_values: Any = 0, reflect_type: str = "even"
) -> Array:
    """``array`` with ``pad_width`` = n, (before, after) or one such pair per axis added at the ends of its axes.

    ``mode``: "constant" (``constant_values`` in the same forms; may be traced), "edge", "reflect", "symmetric", "wrap".
    """
    x = as_node(array)
    widths = _pad_widths(x, pad_width)
    if mode == "constant":
        return _padded_with(x, widths, constant_values)
    if mode not in _INDEX_MODES or reflect_type != "even":
        known = "constant, edge, reflect, symmetric, wrap, with reflect_type='even'"
        raise TraceError(
            f"{here()}: pad: mode {mode!r}, reflect_type {reflect_type!r} is not supported; supported: {known}"
        )
    for axis, (before, after) in enumerate(widths):
        if x.shape[axis] == 0 and (before or after):
            raise ShapeError(
                f"{here()}: pad: axis {axis} of {describe(x)} is empty; only mode='constant' can extend it"
            )
        index = np.pad(np.arange(x.shape[axis]), (before, after), _INDEX_MODES[mode])
        x = taken(x, index, axis)
    return x


def _pad_widths(x: Node, pad_width: Any) -> list[tuple[int, int]]:
    if isinstance(pad_width, dict):
        pad_width = [_pair(pad_width.get(k, pad_width.get(k - x.ndim, 0))) for k in range(x.ndim)]
    try:
        widths = np.broadcast_to(np.asarray(pad_width), (x.ndim, 2))
    except ValueError:
        raise ShapeError(
            f"{here()}: pad: pad_width {pad_width!r} does not give a pair for each axis of {describe(x)}"
        ) from None
    if widths.size and (widths.dtype.kind not in "iu" or widths.min() < 0):
        raise ShapeError(f"{here()}: pad: pad_width must be integers >= 0, got {pad_width!r}")
    return [(int(b), int(a)) for b, a in widths]


def _pair(width: Any) -> tuple[int, int]:
    before, after = np.broadcast_to(width, (2,)).tolist()
    return before, after


def _padded_with(x: Node, widths: list[tuple[int, int]], values: Any) -> Node:
    if isinstance(values, Node):
        return _bordered(x, widths, [(values, values)] * x.ndim)
    array = np.asarray(values).astype(x.dtype)
    if array.size == 1:
        shape = tuple(b + n + a for n, (b, a) in zip(x.shape, widths, strict=True))
        starts, steps = tuple(b for b, _ in widths), (1,) * x.ndim
        return (
            x if shape == x.shape else OPS["pad"].make((x,), shape=shape, starts=starts, steps=steps, fill=array.item())
        )
    pairs = np.broadcast_to(array, (x.ndim, 2))
    return _bordered(x, widths, [(constant(b), constant(a)) for b, a in pairs])


def _bordered(x: Node, widths: list[tuple[int, int]], values: Sequence[tuple[Node, Node]]) -> Node:
    """Borders of their own values, axis by axis as NumPy lays them: later axes own the corners."""
    for axis, sides in enumerate(widths):
        shapes = [(*x.shape[:axis], width, *x.shape[axis + 1 :]) for width in sides]
        before, after = (broadcast_to(cast(v, x.dtype), s) for v, s in zip(values[axis], shapes, strict=True))
        x = joined([before, x, after], axis)
    return x


# -- grids, windows, differences --------------------------------------------------------------------------------------


@function("meshgrid")
def meshgrid(*xi: ArrayLike, sparse: bool = False, indexing: str = "xy") -> tuple[Array, ...]:
    """Coordinate arrays of the grid spanned by vectors; "xy" exchanges the first two axes, "ij" does not."""
    vectors = [reshaped(as_node(x), (as_node(x).size,)) for x in xi]
    if indexing not in ("xy", "ij"):
        raise ShapeError(f"{here()}: meshgrid: indexing must be 'xy' or 'ij', got {indexing!r}")
    places = list(range(len(vectors)))
    if indexing == "xy" and len(vectors) > 1:
        places[:2] = [1, 0]
    shape = [0] * len(vectors)
    for v, place in zip(vectors, places, strict=True):
        shape[place] = v.size
    if sparse:
        return tuple(
            reshaped(v, [n if k == place else 1 for k, n in enumerate(shape)])
            for v, place in zip(vectors, places, strict=True)
        )
    return tuple(spread(v, tuple(shape), (place,)) for v, place in zip(vectors, places, strict=True))


@function("sliding_window_view", "lib.stride_tricks.sliding_window_view")
def sliding_window_view(x: ArrayLike, window_shape: Any, axis: Axes = None) -> Array:
    """All windows of ``window_shape`` over the axes ``axis`` (None: all); positions first, window axes appended."""
    node, sizes = as_node(x), shape_of(window_shape)
    axes = axes_of(axis, node)
    if len(axes) != len(sizes):
        raise ShapeError(
            f"{here()}: sliding_window_view: {len(sizes)} window extents for {len(axes)} axes of {describe(node)}"
        )
    for k, size in zip(axes, sizes, strict=True):
        if not 0 < size <= node.shape[k]:
            raise ShapeError(
                f"{here()}: sliding_window_view: a window of {size} on axis {k} with length {node.shape[k]} "
                f"of {describe(node)}"
            )
    ones = (1,) * len(axes)
    return OPS["windows"].make((node,), axes=axes, sizes=sizes, strides=ones, dilations=ones)


@function("diff")
def diff(a: ArrayLike, n: int = 1, axis: int = -1, prepend: ArrayLike = None, append: ArrayLike = None) -> Array:
    """The n-th difference a[i + 1] − a[i] along ``axis``; of booleans, where neighbours differ."""
    x = with_rank(a, 1, "diff")
    if n < 0:
        raise ShapeError(f"{here()}: diff: order must be >= 0, got {n}")
    if n == 0:  # NumPy's answer, whatever goes before and after
        return x
    k = axis_of(axis, x)
    parts = (
        [_edge(v, x, k) for v in (prepend,) if v is not None]
        + [x]
        + [_edge(v, x, k) for v in (append,) if v is not None]
    )
    x = concatenate(parts, k)
    for _ in range(n):
        size = x.shape[k]
        after, before = sliced(x, k, range(1, max(size, 1))), sliced(x, k, range(max(size - 1, 0)))
        x = after != before if x.dtype == bool else after - before
    return x


def _edge(value: ArrayLike, x: Node, axis: int) -> Node:
    edge = as_node(value)
    return edge if edge.ndim else broadcast_to(edge, (*x.shape[:axis], 1, *x.shape[axis + 1 :]))
