"""Views: the same elements in another arrangement.

Enters: arrays and static shapes, axes, widths.  Leaves: nodes of the view kind only (broadcast, reshape, transpose,
slice, pad, concatenate).  Invariant: no view here copies once compiled.  Start reading at `static_take`, which
carries pad, repeat and constant indices.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gradc.aval import Shape
from gradc.aval import broadcast_shapes as joint_shape
from gradc.errors import ShapeError, TraceError
from gradc.node import OPS, Node, as_node, constant, describe, here, static_int
from gradc.numpy.axes import axes_of, axis_of, nodes, shape_of
from gradc.numpy.public import Array, ArrayLike, Axes, function
from gradc.ops.leaves import full as full_node
from gradc.ops.leaves import iota

__all__ = [
    "atleast_1d", "atleast_2d", "atleast_3d", "broadcast_arrays", "broadcast_to", "copy", "diag", "diagflat",
    "diagonal", "expand_dims", "flip", "fliplr", "flipud", "matrix_transpose", "moveaxis", "permute_dims", "ravel",
    "reshape", "rollaxis", "rot90", "squeeze", "swapaxes", "transpose", "tril", "triu",
]  # fmt: skip

#: A static index with more runs of constant step than this becomes a gather.
MAX_RUNS = 8

# -- building blocks over Nodes ---------------------------------------------------------------------------------------


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
    """Elements at in-range constant positions along an axis as a few slices and broadcasts; None if many."""
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


def taken(x: Node, index: np.ndarray[Any, Any], axis: int) -> Node:
    """Elements at constant, non-negative, in-range positions along an axis; the axis stays where it is."""
    few = static_take(x, index, axis)
    if few is not None:
        return few
    found = OPS["gather"].make((x, constant(index.astype(np.int64))), axes=(axis,))
    order = list(range(1, x.ndim))
    order.insert(axis, 0)
    return permuted(found, order)


# -- shape and order of axes ------------------------------------------------------------------------------------------


@function("broadcast_to")
def broadcast_to(array: ArrayLike, shape: Any) -> Array:
    """Repeat along new leading axes and axes of length 1 up to ``shape``; ShapeError if it does not fit."""
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
def reshape(a: ArrayLike, shape: Any, order: str = "C", *, copy: Any = None) -> Array:
    """The same elements under ``shape``, one extent of which may be -1; ShapeError if the sizes differ.

    ``order`` is "C" (last axis fastest) or "F" (first axis fastest).
    """
    x = as_node(a)
    target = _resolved_shape(x, shape)
    if order not in ("C", "F"):
        raise TraceError(
            f"{here()}: reshape: order must be 'C' or 'F' (a traced array has no memory layout), got {order!r}"
        )
    if order == "F":
        backward = reshaped(permuted(x, range(x.ndim)[::-1]), target[::-1])
        return permuted(backward, range(len(target))[::-1])
    return reshaped(x, target)


def _resolved_shape(x: Node, shape: Any) -> Shape:
    given = (
        shape if isinstance(shape, (tuple, list)) else (tuple(shape) if getattr(shape, "ndim", 0) == 1 else (shape,))
    )
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
    """Axes permuted: result axis k is axis ``axes[k]``; None reverses them.  ShapeError if it is none."""
    x = as_node(a)
    if axes is None:
        return permuted(x, range(x.ndim)[::-1])
    order = axes_of(tuple(axes) if np.ndim(axes) else axes, x)
    if len(order) != x.ndim:
        raise ShapeError(
            f"{here()}: transpose: axes {tuple(axes)} must name each of the {x.ndim} axes of {describe(x)} once"
        )
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


def at_least(x: Node, rank: int) -> Node:
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
    results = tuple(at_least(as_node(a), rank) for a in arrays)
    return results[0] if len(results) == 1 else results


@function("copy")
def copy(a: ArrayLike) -> Array:
    """The same value; traced arrays are immutable, so nothing is copied."""
    return as_node(a)


# -- reversed and rotated ---------------------------------------------------------------------------------------------


@function("flip")
def flip(m: ArrayLike, axis: Axes = None) -> Array:
    """Elements in reverse order along ``axis`` (None: along all)."""
    x = as_node(m)
    turned = axes_of(axis, x)
    return region(x, [range(n)[::-1] if k in turned else range(n) for k, n in enumerate(x.shape)])


@function("flipud")
def flipud(m: ArrayLike) -> Array:
    """Rows in reverse order."""
    return flip(with_rank(m, 1, "flipud"), 0)


@function("fliplr")
def fliplr(m: ArrayLike) -> Array:
    """Columns in reverse order."""
    return flip(with_rank(m, 2, "fliplr"), 1)


def with_rank(m: ArrayLike, rank: int, name: str) -> Node:
    x = as_node(m)
    if x.ndim < rank:
        raise ShapeError(f"{here()}: {name} needs at least {rank} dimensions, got {describe(x)}")
    return x


@function("rot90")
def rot90(m: ArrayLike, k: int = 1, axes: Axes = (0, 1)) -> Array:
    """Rotated by ``k`` quarter turns in the plane from ``axes[0]`` towards ``axes[1]``."""
    x = with_rank(m, 2, "rot90")
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


# -- diagonals and triangles ------------------------------------------------------------------------------------------


@function("diagonal")
def diagonal(a: ArrayLike, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Array:
    """The elements (i, i + offset) of two axes, as the last axis of the result."""
    x = with_rank(a, 2, "diagonal")
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
    x = with_rank(m, 2, "tril")
    return _masked(x, iota(x.shape, x.ndim - 1) <= iota(x.shape, x.ndim - 2) + static_int(k, "k"))


@function("triu")
def triu(m: ArrayLike, k: int = 0) -> Array:
    """Zero below the k-th diagonal of the last two axes."""
    x = with_rank(m, 2, "triu")
    return _masked(x, iota(x.shape, x.ndim - 1) >= iota(x.shape, x.ndim - 2) + static_int(k, "k"))


def _masked(x: Node, mask: Node) -> Node:
    return OPS["where"].make((mask, x, full_node(x.shape, 0, x.dtype)))
