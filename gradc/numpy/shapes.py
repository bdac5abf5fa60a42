"""Views: the same elements in another arrangement.

Enters: arrays and static shapes, axes, widths.  Leaves: nodes of the view kind only (broadcast, reshape, transpose, slice, pad,
concatenate, windows), never a gather.  Invariant: no view here copies once compiled.  Start reading at `static_take`, which
carries flip, roll, pad and repeat.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gradc.aval import Shape, broadcast_shapes as joint_shape
from gradc.errors import ShapeError, TraceError
from gradc.node import OPS, Node, as_node, constant, describe, here, static_int
from gradc.numpy.axes import axes_of, axis_of, nodes, shape_of
from gradc.numpy.public import Array, ArrayLike, Axes, function
from gradc.ops.elementwise import cast
from gradc.ops.leaves import full as full_node
from gradc.ops.leaves import iota

__all__ = [
    "append", "array_split", "atleast_1d", "atleast_2d", "atleast_3d", "broadcast_arrays", "broadcast_to", "column_stack",
    "concat", "concatenate", "copy", "diag", "diagflat", "diagonal", "diff", "dsplit", "dstack", "expand_dims", "flip",
    "fliplr", "flipud", "hsplit", "hstack", "matrix_transpose", "meshgrid", "moveaxis", "pad", "permute_dims", "ravel",
    "repeat", "reshape", "roll", "rollaxis", "rot90", "sliding_window_view", "split", "squeeze", "stack", "swapaxes", "tile",
    "transpose", "tril", "triu", "unstack", "vsplit", "vstack",
]  # fmt: skip

#: A static index with more runs of constant step than this becomes a gather.
MAX_RUNS = 8

# -- building blocks over Nodes ------------------------------------------------------------------------------------------


def reshaped(x: Node, shape: Sequence[int]) -> Node:
    """``x`` under another shape of the same size."""
    target = tuple(shape)
    return x if target == x.shape else OPS["reshape"].make((x,), shape=target)


def permuted(x: Node, axes: Sequence[int]) -> Node:
    """Result axis k is axis ``axes[k]`` of ``x``."""
    return x if tuple(axes) == tuple(range(x.ndim)) else OPS["transpose"].make((x,), axes=tuple(axes))


def spread(x: Node, shape: Shape, axes: Sequence[int]) -> Node:
    """``x`` broadcast to ``shape``, its axis k shown at ``axes[k]``."""
    if shape == x.shape and tuple(axes) == tuple(range(x.ndim)):
        return x
    return OPS["broadcast"].make((x,), shape=tuple(shape), axes=tuple(axes))


def sliced(x: Node, axis: int, index: range) -> Node:
    """The elements ``index`` (all of them in range) along one axis."""
    parts = [range(n) for n in x.shape]
    parts[axis] = index
    return region(x, parts)


def region(x: Node, parts: Sequence[range]) -> Node:
    """The elements ``parts[k]`` along each axis k: a slice node in canonical form, or ``x`` itself."""
    exact = [canonical_range(r) for r in parts]
    if all(r == range(n) for r, n in zip(exact, x.shape, strict=True)):
        return x
    starts, stops, steps = zip(*[(r.start, r.stop, r.step) for r in exact], strict=True)
    return OPS["slice"].make((x,), starts=starts, stops=stops, steps=steps)


def canonical_range(r: range) -> range:
    """The same numbers with the tightest stop; step 1 where there are fewer than two."""
    if len(r) < 2:
        start = r.start if len(r) else 0
        return range(start, start + len(r))
    return range(r.start, r[-1] + (1 if r.step > 0 else -1), r.step)


def joined(parts: Sequence[Node], axis: int) -> Node:
    """Parts of one dtype and fitting shapes one after another."""
    return parts[0] if len(parts) == 1 else OPS["concatenate"].make(parts, axis=axis)


def static_take(x: Node, index: np.ndarray[Any, Any], axis: int) -> Node | None:
    """Elements at in-range constant positions along an axis as a few slices and broadcasts; None if there are too many."""
    runs = affine_runs(index)
    if len(runs) > MAX_RUNS:
        return None
    return joined([_run(x, start, step, count, axis) for start, step, count in runs], axis)


def affine_runs(index: np.ndarray[Any, Any]) -> list[tuple[int, int, int]]:
    """An integer vector as (start, step, count) stretches of constant step, greedily from the front."""
    if index.size < 2:
        return [(int(index[0]) if index.size else 0, 1, index.size)]
    steps = np.diff(index)
    breaks = np.flatnonzero(np.diff(steps)) + 1  # positions in `steps` where the step changes
    runs, begin = [], 0
    bounds = [*breaks.tolist(), len(steps)]
    for end in bounds:
        if end < begin:
            continue  # the element before this break went into the previous run
        runs.append((int(index[begin]), int(steps[begin]) if begin < len(steps) else 1, end - begin + 1))
        begin = end + 1
        if len(runs) > MAX_RUNS:
            break
    if begin == len(index) - 1 and len(runs) <= MAX_RUNS:
        runs.append((int(index[-1]), 1, 1))
    return runs


def _run(x: Node, start: int, step: int, count: int, axis: int) -> Node:
    if step:
        return sliced(x, axis, range(start, start + count * step, step))
    one = sliced(x, axis, range(start, start + 1))
    shape = list(one.shape)
    shape[axis] = count
    return spread(one, tuple(shape), range(x.ndim))


# -- shape and order of axes ---------------------------------------------------------------------------------------------


@function("broadcast_to")
def broadcast_to(array: ArrayLike, shape: Any) -> Array:
    """Repeat along new leading axes and axes of length 1 until the shape is ``shape``; ShapeError if it does not fit."""
    x, target = as_node(array), shape_of(shape)
    lead = len(target) - x.ndim
    if lead < 0 or any(n not in (1, m) for n, m in zip(x.shape, target[lead:], strict=True)):
        raise ShapeError(f"{here()}: broadcast_to: shape {x.shape} of {describe(x)} does not broadcast to {target}")
    return spread(x, target, range(lead, len(target)))


@function("broadcast_arrays")
def broadcast_arrays(*args: ArrayLike) -> tuple[Array, ...]:
    """All arrays broadcast to their common shape; ShapeError if there is none."""
    given = nodes(args)
    try:
        target = joint_shape([x.shape for x in given])
    except ValueError:
        shapes = ", ".join(str(x.shape) for x in given)
        raise ShapeError(f"{here()}: broadcast_arrays: shapes {shapes} do not broadcast") from None
    return tuple(spread(x, target, range(len(target) - x.ndim, len(target))) for x in given)


@function("reshape")
def reshape(a: ArrayLike, shape: Any, order: str = "C") -> Array:
    """The same elements under ``shape``, one extent of which may be -1; ShapeError if the sizes differ.

    ``order`` is "C" (last axis fastest) or "F" (first axis fastest).
    """
    x = as_node(a)
    target = _resolved_shape(x, shape)
    if order not in ("C", "F"):
        raise TraceError(f"{here()}: reshape: order must be 'C' or 'F' (a traced array has no memory layout), got {order!r}")
    if order == "F":
        backward = reshaped(permuted(x, range(x.ndim)[::-1]), target[::-1])
        return permuted(backward, range(len(target))[::-1])
    return reshaped(x, target)


def _resolved_shape(x: Node, shape: Any) -> Shape:
    given = shape if isinstance(shape, (tuple, list)) else (tuple(shape) if getattr(shape, "ndim", 0) == 1 else (shape,))
    sizes = [static_int(n, "an extent of a shape") for n in given]
    known = math.prod(n for n in sizes if n != -1)
    if sizes.count(-1) == 1 and known > 0 and x.size % known == 0:
        sizes[sizes.index(-1)] = x.size // known
    if any(n < 0 for n in sizes) or math.prod(sizes) != x.size:
        raise ShapeError(f"{here()}: cannot reshape {describe(x)} of size {x.size} into shape {tuple(given)}")
    return tuple(sizes)


@function("ravel")
def ravel(a: ArrayLike, order: str = "C") -> Array:
    """All elements as a vector of shape (size,)."""
    x = as_node(a)
    return reshape(x, (x.size,), order)


@function("transpose", "permute_dims")
def transpose(a: ArrayLike, axes: Axes = None) -> Array:
    """Axes permuted: result axis k is axis ``axes[k]``; None reverses them.  ShapeError unless ``axes`` is a permutation."""
    x = as_node(a)
    if axes is None:
        return permuted(x, range(x.ndim)[::-1])
    order = axes_of(tuple(axes) if np.ndim(axes) else axes, x)
    if len(order) != x.ndim:
        raise ShapeError(f"{here()}: transpose: axes {tuple(axes)} must name each of the {x.ndim} axes of {describe(x)} once")
    return permuted(x, order)


permute_dims = transpose


@function("matrix_transpose", "linalg.matrix_transpose")
def matrix_transpose(x: ArrayLike) -> Array:
    """The last two axes exchanged: (…, m, n) to (…, n, m)."""
    node = as_node(x)
    if node.ndim < 2:
        raise ShapeError(f"{here()}: matrix_transpose needs at least 2 dimensions, got {describe(node)}")
    return swapaxes(node, -1, -2)


@function("swapaxes")
def swapaxes(a: ArrayLike, axis1: int, axis2: int) -> Array:
    """Two axes exchanged."""
    x = as_node(a)
    order = list(range(x.ndim))
    i, j = axis_of(axis1, x), axis_of(axis2, x)
    order[i], order[j] = j, i
    return permuted(x, order)


@function("moveaxis")
def moveaxis(a: ArrayLike, source: Axes, destination: Axes) -> Array:
    """Axes ``source`` moved to the positions ``destination``; the others keep their order."""
    x = as_node(a)
    moved, places = axes_of(source, x), axes_of(destination, x)
    if len(moved) != len(places):
        raise ShapeError(f"{here()}: moveaxis: {len(moved)} source axes but {len(places)} destinations")
    order = [k for k in range(x.ndim) if k not in moved]
    for place, axis in sorted(zip(places, moved, strict=True)):
        order.insert(place, axis)
    return permuted(x, order)


@function("rollaxis")
def rollaxis(a: ArrayLike, axis: int, start: int = 0) -> Array:
    """Axis ``axis`` moved before the axis now at ``start``."""
    x = as_node(a)
    k, place = axis_of(axis, x), start + x.ndim if start < 0 else start
    if not 0 <= place <= x.ndim:
        raise ShapeError(f"{here()}: rollaxis: start {start} is out of bounds for {describe(x)}")
    return moveaxis(x, k, place - 1 if k < place else place)


@function("expand_dims")
def expand_dims(a: ArrayLike, axis: Axes) -> Array:
    """New axes of length 1 at the positions ``axis`` of the result."""
    x = as_node(a)
    count = len(axis) if isinstance(axis, (tuple, list)) else 1
    new = axes_of(axis, x, x.ndim + count)
    sizes = iter(x.shape)
    return reshaped(x, [1 if k in new else next(sizes) for k in range(x.ndim + count)])


@function("squeeze")
def squeeze(a: ArrayLike, axis: Axes = None) -> Array:
    """Without axes of length 1: all of them, or those in ``axis``; ShapeError if one has another length."""
    x = as_node(a)
    dropped = axes_of(axis, x) if axis is not None else tuple(k for k, n in enumerate(x.shape) if n == 1)
    for k in dropped:
        if x.shape[k] != 1:
            raise ShapeError(f"{here()}: squeeze: axis {k} of {describe(x)} has length {x.shape[k]}, not 1")
    return reshaped(x, [n for k, n in enumerate(x.shape) if k not in dropped])


def _at_least(x: Node, rank: int) -> Node:
    """NumPy's rule: a vector of n becomes (1, n) and (1, n, 1), a matrix (m, n) becomes (m, n, 1)."""
    if x.ndim >= rank:
        return x
    if x.ndim == 0:
        return reshaped(x, (1,) * rank)
    lead = (1,) if x.ndim == 1 and rank > 1 else ()
    return reshaped(x, (*lead, *x.shape, *(1,) * (rank - x.ndim - len(lead))))


@function("atleast_1d")
def atleast_1d(*arys: ArrayLike) -> Array:
    """Arrays with at least one axis; one array gives one, several give a tuple."""
    return _each(arys, 1)


@function("atleast_2d")
def atleast_2d(*arys: ArrayLike) -> Array:
    """Arrays with at least two axes; a vector (n,) becomes (1, n)."""
    return _each(arys, 2)


@function("atleast_3d")
def atleast_3d(*arys: ArrayLike) -> Array:
    """Arrays with at least three axes; (n,) becomes (1, n, 1), (m, n) becomes (m, n, 1)."""
    return _each(arys, 3)


def _each(arrays: Sequence[ArrayLike], rank: int) -> Any:
    results = tuple(_at_least(as_node(a), rank) for a in arrays)
    return results[0] if len(results) == 1 else results


@function("copy")
def copy(a: ArrayLike) -> Array:
    """The same value; traced arrays are immutable, so nothing is copied."""
    return as_node(a)


# -- reversed, rotated, padded ---------------------------------------------------------------------------------------------


@function("flip")
def flip(m: ArrayLike, axis: Axes = None) -> Array:
    """Elements in reverse order along ``axis`` (None: along all)."""
    x = as_node(m)
    turned = axes_of(axis, x)
    return region(x, [range(n)[::-1] if k in turned else range(n) for k, n in enumerate(x.shape)])


@function("flipud")
def flipud(m: ArrayLike) -> Array:
    """Rows in reverse order."""
    return flip(_with_rank(m, 1, "flipud"), 0)


@function("fliplr")
def fliplr(m: ArrayLike) -> Array:
    """Columns in reverse order."""
    return flip(_with_rank(m, 2, "fliplr"), 1)


def _with_rank(m: ArrayLike, rank: int, name: str) -> Node:
    x = as_node(m)
    if x.ndim < rank:
        raise ShapeError(f"{here()}: {name} needs at least {rank} dimensions, got {describe(x)}")
    return x


@function("rot90")
def rot90(m: ArrayLike, k: int = 1, axes: Axes = (0, 1)) -> Array:
    """Rotated by ``k`` quarter turns in the plane from ``axes[0]`` towards ``axes[1]``."""
    x = _with_rank(m, 2, "rot90")
    plane = axes_of(tuple(axes), x)
    if len(plane) != 2:
        raise ShapeError(f"{here()}: rot90: axes must name two axes, got {axes!r}")
    first, second = plane
    turns = k % 4
    if turns == 2:
        return flip(x, plane)
    if turns == 1:
        return swapaxes(flip(x, second), first, second)
    return flip(swapaxes(x, first, second), second) if turns == 3 else x


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


@function("pad")
def pad(array: ArrayLike, pad_width: Any, mode: str = "constant", *, constant_values: Any = 0, reflect_type: str = "even") -> Array:
    """``array`` with ``pad_width`` = n, (before, after) or one such pair per axis added at the ends of its axes.

    ``mode``: "constant" (of ``constant_values``, in the same forms; may be traced), "edge", "reflect", "symmetric", "wrap".
    """
    x = as_node(array)
    widths = _pad_widths(x, pad_width)
    if mode == "constant":
        return _padded_with(x, widths, constant_values)
    if mode not in ("edge", "reflect", "symmetric", "wrap") or reflect_type != "even":
        known = "constant, edge, reflect, symmetric, wrap, with reflect_type='even'"
        raise TraceError(f"{here()}: pad: mode {mode!r}, reflect_type {reflect_type!r} is not supported; supported: {known}")
    for axis, (before, after) in enumerate(widths):
        if x.shape[axis] == 0 and (before or after):
            raise ShapeError(f"{here()}: pad: axis {axis} of {describe(x)} is empty; only mode='constant' can extend it")
        index = np.pad(np.arange(x.shape[axis]), (before, after), mode)  # type: ignore[call-overload]
        x = taken(x, index, axis)
    return x


def _pad_widths(x: Node, pad_width: Any) -> list[tuple[int, int]]:
    if isinstance(pad_width, dict):
        pad_width = [_pair(pad_width.get(k, pad_width.get(k - x.ndim, 0))) for k in range(x.ndim)]
    try:
        widths = np.broadcast_to(np.asarray(pad_width), (x.ndim, 2))
    except ValueError:
        raise ShapeError(f"{here()}: pad: pad_width {pad_width!r} does not give a pair for each axis of {describe(x)}") from None
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
        return x if shape == x.shape else OPS["pad"].make((x,), shape=shape, starts=starts, steps=steps, fill=array.item())
    pairs = np.broadcast_to(array, (x.ndim, 2))
    return _bordered(x, widths, [(constant(b), constant(a)) for b, a in pairs])


def _bordered(x: Node, widths: list[tuple[int, int]], values: Sequence[tuple[Node, Node]]) -> Node:
    """Borders of their own values, axis by axis as NumPy lays them: later axes own the corners."""
    for axis, sides in enumerate(widths):
        shapes = [(*x.shape[:axis], width, *x.shape[axis + 1 :]) for width in sides]
        before, after = (
            broadcast_to(cast(v, x.dtype), s) for v, s in zip(values[axis], shapes, strict=True)
        )
        x = joined([before, x, after], axis)
    return x


def taken(x: Node, index: np.ndarray[Any, Any], axis: int) -> Node:
    """Elements at constant, non-negative, in-range positions along an axis; the axis stays where it is."""
    few = static_take(x, index, axis)
    if few is not None:
        return few
    found = OPS["gather"].make((x, constant(index.astype(np.int64))), axes=(axis,))
    order = list(range(1, x.ndim))
    order.insert(axis, 0)
    return permuted(found, order)


# -- joined and split --------------------------------------------------------------------------------------------------------


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
    target = np.result_type(*[p.dtype for p in parts]) if dtype is None else dtype
    return [cast(p, target) for p in parts]


def _check_joinable(parts: Sequence[Node], axis: int) -> None:
    first = parts[0].shape
    for position, part in enumerate(parts):
        if part.shape[:axis] + part.shape[axis + 1 :] != first[:axis] + first[axis + 1 :] or part.ndim != len(first):
            raise ShapeError(
                f"{here()}: concatenate along axis {axis}: array 0 has shape {first}, array {position} has shape {part.shape};"
                " all other axes must agree"
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


@function("vstack")
def vstack(tup: Any, *, dtype: Any = None) -> Array:
    """Arrays under each other: along axis 0, vectors taken as rows."""
    return concatenate([_at_least(p, 2) for p in nodes(tup)], 0, dtype=dtype)


@function("hstack")
def hstack(tup: Any, *, dtype: Any = None) -> Array:
    """Arrays side by side: along axis 1, vectors along axis 0."""
    parts = [_at_least(p, 1) for p in nodes(tup)]
    return concatenate(parts, 0 if parts and parts[0].ndim == 1 else 1, dtype=dtype)


@function("dstack")
def dstack(tup: Any) -> Array:
    """Arrays along the third axis."""
    return concatenate([_at_least(p, 3) for p in nodes(tup)], 2)


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
    """Parts along ``axis``: n equal ones, or cut before the static positions given; ShapeError if n does not divide it."""
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
    x = _with_rank(ary, 1, "hsplit")
    return split(x, indices_or_sections, 1 if x.ndim > 1 else 0)


@function("vsplit")
def vsplit(ary: ArrayLike, indices_or_sections: Any) -> list[Array]:
    """`split` along axis 0 of an array with at least two axes."""
    return split(_with_rank(ary, 2, "vsplit"), indices_or_sections, 0)


@function("dsplit")
def dsplit(ary: ArrayLike, indices_or_sections: Any) -> list[Array]:
    """`split` along axis 2."""
    return split(_with_rank(ary, 3, "dsplit"), indices_or_sections, 2)


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
    """Each element ``repeats`` times (a static int, or one per position) along ``axis``; None repeats the flattened array."""
    x = as_node(a)
    if axis is None:
        x, axis = reshaped(x, (x.size,)), 0
    if isinstance(repeats, Node):
        raise TraceError(f"{here()}: repeat: the result's shape depends on the traced repeats; add the argument to static")
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


# -- diagonals and triangles -----------------------------------------------------------------------------------------------------


@function("diagonal")
def diagonal(a: ArrayLike, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Array:
    """The elements (i, i + offset) of two axes, as the last axis of the result."""
    x = _with_rank(a, 2, "diagonal")
    i, j = axes_of((axis1, axis2), x)
    x = permuted(x, [*(k for k in range(x.ndim) if k not in (i, j)), i, j])
    *lead, m, n = x.shape
    start, count = _diagonal_range(m, n, static_int(offset, "offset"))
    flat = reshaped(x, (*lead, m * n))
    return sliced(flat, len(lead), range(start, start + count * (n + 1), n + 1))


def _diagonal_range(m: int, n: int, offset: int) -> tuple[int, int]:
    """Row-major position of the first element of a diagonal of an (m, n) matrix, and the number of elements."""
    row, column = max(-offset, 0), max(offset, 0)
    return row * n + column, max(0, min(m - row, n - column))





@function("diag")
def diag(v: ArrayLike, k: int = 0) -> Array:
    """The k-th diagonal of a matrix, or the square matrix with the vector ``v`` as its k-th diagonal."""
    x = as_node(v)
    if x.ndim == 2:
        return diagonal(x, k)
    if x.ndim != 1:
        raise ShapeError(f"{here()}: diag takes a vector or a matrix, got {describe(x)}")
    n = x.size + abs(static_int(k, "k"))
    start, _ = _diagonal_range(n, n, k)
    flat = OPS["pad"].make((x,), shape=(n * n,), starts=(start,), steps=(n + 1,), fill=0)
    return reshaped(flat, (n, n))


@function("diagflat")
def diagflat(v: ArrayLike, k: int = 0) -> Array:
    """The square matrix with the flattened ``v`` as its k-th diagonal."""
    return diag(ravel(as_node(v)), k)


@function("tril")
def tril(m: ArrayLike, k: int = 0) -> Array:
    """Zero above the k-th diagonal of the last two axes."""
    x = _with_rank(m, 2, "tril")
    return _masked(x, iota(x.shape, x.ndim - 1) <= iota(x.shape, x.ndim - 2) + static_int(k, "k"))


@function("triu")
def triu(m: ArrayLike, k: int = 0) -> Array:
    """Zero below the k-th diagonal of the last two axes."""
    x = _with_rank(m, 2, "triu")
    return _masked(x, iota(x.shape, x.ndim - 1) >= iota(x.shape, x.ndim - 2) + static_int(k, "k"))


def _masked(x: Node, mask: Node) -> Node:
    return OPS["where"].make((mask, x, full_node(x.shape, 0, x.dtype)))


# -- grids, windows, differences -------------------------------------------------------------------------------------------------


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
            reshaped(v, [n if k == place else 1 for k, n in enumerate(shape)]) for v, place in zip(vectors, places, strict=True)
        )
    return tuple(spread(v, tuple(shape), (place,)) for v, place in zip(vectors, places, strict=True))


@function("sliding_window_view", "lib.stride_tricks.sliding_window_view")
def sliding_window_view(x: ArrayLike, window_shape: Any, axis: Axes = None) -> Array:
    """All windows of ``window_shape`` over the axes ``axis`` (None: all); window positions first, window axes appended."""
    node, sizes = as_node(x), shape_of(window_shape)
    axes = axes_of(axis, node)
    if len(axes) != len(sizes):
        raise ShapeError(f"{here()}: sliding_window_view: {len(sizes)} window extents for {len(axes)} axes of {describe(node)}")
    for k, size in zip(axes, sizes, strict=True):
        if not 0 < size <= node.shape[k]:
            raise ShapeError(
                f"{here()}: sliding_window_view: a window of {size} on axis {k} with length {node.shape[k]} of {describe(node)}"
            )
    ones = (1,) * len(axes)
    return OPS["windows"].make((node,), axes=axes, sizes=sizes, strides=ones, dilations=ones)


@function("diff")
def diff(a: ArrayLike, n: int = 1, axis: int = -1, prepend: ArrayLike = None, append: ArrayLike = None) -> Array:
    """The n-th difference a[i + 1] − a[i] along ``axis``; of booleans, where neighbours differ."""
    x = _with_rank(a, 1, "diff")
    if n < 0:
        raise ShapeError(f"{here()}: diff: order must be >= 0, got {n}")
    k = axis_of(axis, x)
    parts = [_edge(v, x, k) for v in (prepend,) if v is not None] + [x] + [_edge(v, x, k) for v in (append,) if v is not None]
    x = concatenate(parts, k)
    for _ in range(n):
        size = x.shape[k]
        after, before = sliced(x, k, range(1, max(size, 1))), sliced(x, k, range(max(size - 1, 0)))
        x = after != before if x.dtype == bool else after - before
    return x


def _edge(value: ArrayLike, x: Node, axis: int) -> Node:
    edge = as_node(value)
    return edge if edge.ndim else broadcast_to(edge, (*x.shape[:axis], 1, *x.shape[axis + 1 :]))
