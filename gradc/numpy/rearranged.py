"""Elements in other places: blocks, insertions, selections by number, order, and functions along axes.

Enters: arrays and static positions.  Leaves: slices, concatenations, gathers at known positions where they can be.
Invariant: no shape depends on a traced value; what NumPy writes into memory is refused in `gradc.node`, or makes a new
array here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gradc.errors import IndexingError, ShapeError, TraceError
from gradc.node import FUNCTIONS, OPS, Node, as_node, describe, here
from gradc.numpy.axes import axis_of, shape_of
from gradc.numpy.indexing import argsort, sort, take, take_along_axis
from gradc.numpy.public import Array, ArrayLike, Axes, evaluated, function, is_traced
from gradc.numpy.shapes import broadcast_arrays, joined, moveaxis, reshaped, taken
from gradc.ops.elementwise import cast
from gradc.ops.leaves import full, iota

__all__ = [
    "apply_along_axis", "apply_over_axes", "argpartition", "block", "choose", "delete", "insert", "lexsort",
    "partition", "piecewise", "put_along_axis", "resize",
]  # fmt: skip

_where = FUNCTIONS["where"]


# -- put together -----------------------------------------------------------------------------------------------------


@function("block")
def block(arrays: Any) -> Array:
    """Nested lists of blocks as one array: the innermost lists along the last axis, the next ones before it."""
    depth = _depth(arrays)
    leaves = [as_node(a) for a in _leaves(arrays)]
    rank = max(depth, *(x.ndim for x in leaves))
    return _joined_blocks(arrays, rank - depth, rank)


def _leaves(arrays: Any) -> list[Any]:
    return [leaf for part in arrays for leaf in _leaves(part)] if isinstance(arrays, list) else [arrays]


def _depth(arrays: Any) -> int:
    """How deep the lists nest; ShapeError unless they do so evenly, and hold something."""
    if isinstance(arrays, tuple):
        raise ShapeError(f"{here()}: block: arrays must be in lists, not in tuples")
    if not isinstance(arrays, list):
        return 0
    if not arrays:
        raise ShapeError(f"{here()}: block: a list is empty")
    depths = {_depth(a) for a in arrays}
    if len(depths) > 1:
        raise ShapeError(f"{here()}: block: lists nest to different depths, {sorted(d + 1 for d in depths)}")
    return depths.pop() + 1


def _joined_blocks(arrays: Any, axis: int, rank: int) -> Node:
    if not isinstance(arrays, list):
        x = as_node(arrays)
        return reshaped(x, (1,) * (rank - x.ndim) + x.shape)
    return FUNCTIONS["concatenate"]([_joined_blocks(a, axis + 1, rank) for a in arrays], axis)


@function("resize")
def resize(a: ArrayLike, new_shape: Any) -> Array:
    """The elements in order, again and again, as many as ``new_shape`` has."""
    x, shape = as_node(a), shape_of(new_shape)
    size = math.prod(shape)
    if not x.size:
        return full(shape, 0, x.dtype)
    flat = FUNCTIONS["tile"](reshaped(x, (x.size,)), -(-size // x.size))
    return reshaped(flat[:size], shape)


def _line(arr: ArrayLike, axis: int | None) -> tuple[Node, int]:
    x = as_node(arr)
    return (reshaped(x, (x.size,)), 0) if axis is None else (x, axis_of(axis, x))


@function("insert")
def insert(arr: ArrayLike, obj: Any, values: ArrayLike, axis: int | None = None) -> Array:
    """``values`` before the positions ``obj`` along ``axis`` (None: of the flattened array).

    ``obj`` is a number, which may be traced, a slice, or positions or a mask that are known.
    """
    x, k = _line(arr, axis)
    n = x.shape[k]
    new = cast(as_node(values), x.dtype)
    if isinstance(obj, Node):
        return _inserted_somewhere(x, k, obj, new)
    at = np.arange(n)[obj] if isinstance(obj, slice) else np.asarray(obj)
    if at.dtype == bool:
        at = np.flatnonzero(at)
    if at.ndim > 1 or (at.dtype.kind not in "iu" and at.size):
        raise IndexingError(f"{here()}: insert: obj must be whole numbers, in at most one dimension, got {obj!r:.60}")
    at = at.astype(np.int64)
    if at.size and (at.min() < -n or at.max() > n):
        where = f"axis {k} with size {n} of {describe(x)}"
        raise IndexingError(f"{here()}: insert: {obj!r:.60} is out of range for {where}")
    at = np.where(at < 0, at + n, at)
    new = _fitted(new, x, k, at.ndim == 0, at.size)
    at = np.repeat(at.reshape(-1), new.shape[k]) if at.size == 1 else at
    before = np.argsort(np.concatenate([at, np.arange(n)]), kind="stable")
    order = np.where(before < at.size, n + before, before - at.size)
    return taken(joined([x, new], k), order, k)


def _fitted(new: Node, x: Node, axis: int, single: bool, count: int) -> Node:
    """Values in the shape in which they are inserted; for a single number their first axis is that of the array."""
    new = reshaped(new, (1,) * (x.ndim - new.ndim) + new.shape)
    new = moveaxis(new, 0, axis) if single else new
    size = new.shape[axis] if count == 1 else count
    return FUNCTIONS["broadcast_to"](new, (*x.shape[:axis], size, *x.shape[axis + 1 :]))


def _inserted_somewhere(x: Node, axis: int, at: Node, new: Node) -> Node:
    if at.ndim or at.dtype.kind not in "iu":
        raise TraceError(
            f"{here()}: insert: of traced positions only a single whole number can be one, got {describe(at)}.\n"
            "  Positions that are known, NumPy arrays or static arguments, work."
        )
    n = x.shape[axis]
    new = _fitted(new, x, axis, True, 1)
    m = new.shape[axis]
    place = iota((n + m,))
    begin = _where(at < 0, at + n, at)
    source = _where(place < begin, place, _where(place < begin + m, n + place - begin, place - m))
    source = _where((begin < 0) | (begin > n), n + m, source)  # an error when the graph runs
    return take(joined([x, new], axis), source, axis)


@function("delete")
def delete(arr: ArrayLike, obj: Any, axis: int | None = None) -> Array:
    """The elements along ``axis`` (None: of the flattened array) that ``obj`` does not name.

    ``obj`` is a number, which may be traced, a slice, or positions or a mask that are known.
    """
    x, k = _line(arr, axis)
    n = x.shape[k]
    if isinstance(obj, Node):
        return _without_one(x, k, obj)
    chosen = obj if isinstance(obj, (slice, int, np.integer)) else np.asarray(obj)
    if isinstance(chosen, np.ndarray):
        chosen = chosen.astype(np.int64) if not chosen.size and not isinstance(obj, np.ndarray) else chosen
        if chosen.dtype == bool and chosen.shape != (n,):
            raise IndexingError(f"{here()}: delete: a mask of shape {chosen.shape} for axis {k} with size {n}")
    keep = np.ones(n, bool)
    try:
        keep[chosen] = False
    except IndexError as error:
        raise IndexingError(f"{here()}: delete: {error}; axis {k} with size {n} of {describe(x)}") from None
    return taken(x, np.flatnonzero(keep), k)


def _without_one(x: Node, axis: int, at: Node) -> Node:
    if at.ndim or at.dtype.kind not in "iu":
        raise TraceError(
            f"{here()}: delete: of traced positions only a single whole number can be one, got {describe(at)}.\n"
            "  Positions that are known, NumPy arrays or static arguments, work; else keep the shape with a mask."
        )
    n = x.shape[axis]
    place = iota((max(n - 1, 0),))
    left_out = _where(at < 0, at + n, at)
    source = place + cast(place >= left_out, np.int64)
    return take(x, _where((left_out < 0) | (left_out >= n), n, source), axis)  # n: an error when the graph runs


# -- chosen -----------------------------------------------------------------------------------------------------------


@function("choose")
def choose(a: ArrayLike, choices: Any, *, mode: str = "raise") -> Array:
    """For each element of ``a`` that of the array with its number among ``choices``, all broadcast together."""
    at = as_node(a)
    if at.dtype.kind not in "iub":
        raise IndexingError(f"{here()}: choose: the first array must hold whole numbers, got {describe(at)}")
    parts = FUNCTIONS["unstack"](choices) if isinstance(choices, (Node, np.ndarray)) else [as_node(p) for p in choices]
    if not parts:
        raise ShapeError(f"{here()}: choose needs at least one choice")
    dtype = FUNCTIONS["result_type"](*parts)
    at, *shown = broadcast_arrays(cast(at, np.int64), *[cast(p, dtype) for p in parts])
    n = len(shown)
    if mode == "wrap":
        at = at % n
    elif mode == "clip":
        at = FUNCTIONS["clip"](at, 0, n - 1)
    elif mode == "raise":
        at = _where(at < 0, n, at)  # beyond the end, so that it is an error
    else:
        raise IndexingError(f"{here()}: choose: mode must be 'raise', 'wrap' or 'clip', got {mode!r}")
    table = FUNCTIONS["stack"](shown)
    return take_along_axis(table, reshaped(at, (1, *at.shape)), 0)[0]


@function("piecewise")
def piecewise(x: ArrayLike, condlist: Any, funclist: Sequence[Any], *args: Any, **kw: Any) -> Array:
    """For each element the function, or number, of the last condition that holds, in the dtype of ``x``.

    A function more than conditions is that of all other elements, else they are 0.  Each function is called once, with
    all of ``x``.
    """
    node = as_node(x)
    single = not isinstance(condlist, (list, tuple)) or (
        node.ndim != 0 and not isinstance(condlist[0], (list, tuple, np.ndarray, Node))
    )
    given = [condlist] if single else condlist
    masks = [cast(as_node(c), bool) for c in (FUNCTIONS["unstack"](given) if isinstance(given, Node) else given)]
    if len(funclist) == len(masks) + 1:
        none = ~FUNCTIONS["any"](FUNCTIONS["stack"](broadcast_arrays(*masks)), 0) if masks else as_node(np.True_)
        masks.append(none)
    if len(funclist) != len(masks):
        raise ShapeError(
            f"{here()}: piecewise: {len(masks)} conditions need {len(masks)} or {len(masks) + 1} functions, "
            f"got {len(funclist)}"
        )
    y = full(node.shape, 0, node.dtype)
    for mask, f in zip(masks, funclist, strict=True):
        value = f(node, *args, **kw) if callable(f) else f
        y = _where(mask, cast(as_node(value), node.dtype), y)
    return y


def _put_along_axis(arr: ArrayLike, indices: ArrayLike, values: ArrayLike, axis: int | None = -1) -> Array:
    """A new array: ``arr`` with ``values`` at positions along ``axis``, other axes matched, as in `take_along_axis`.

    NumPy's function writes into its argument; this one does not.
    """
    x, at = as_node(arr), as_node(indices)
    line, k = _line(x, axis)
    if at.dtype.kind not in "iu" or at.ndim != line.ndim:
        raise IndexingError(
            f"{here()}: put_along_axis into {describe(line)} needs {line.ndim}-dimensional integer indices, "
            f"got {describe(at)}"
        )
    shape = tuple(m if a == k else n for a, (n, m) in enumerate(zip(line.shape, at.shape, strict=True)))
    at = FUNCTIONS["broadcast_to"](cast(at, np.int64), shape)
    new = FUNCTIONS["broadcast_to"](cast(as_node(values), x.dtype), shape)
    places = [at if a == k else iota(shape, a) for a in range(line.ndim)]
    found = OPS["scatter"].make((line, new, *places), axes=tuple(range(line.ndim)), how="set")
    return reshaped(found, x.shape)


def put_along_axis(arr: ArrayLike, indices: ArrayLike, values: ArrayLike, axis: int | None = -1) -> Array:
    found = _put_along_axis(arr, indices, values, axis)
    return found if is_traced([arr, indices, values]) else evaluated(found)


put_along_axis.__doc__ = _put_along_axis.__doc__


# -- order ------------------------------------------------------------------------------------------------------------


def _checked_places(name: str, kth: Any, x: Node, axis: int) -> None:
    places = np.asarray(kth) if not isinstance(kth, Node) else None
    if places is None or places.dtype.kind not in "iu":
        raise TraceError(f"{here()}: {name}: kth must be known whole numbers, got {kth!r:.60}; add them to static=")
    n = x.shape[axis]
    if places.size and n and (places.min() < -n or places.max() >= n):
        raise IndexingError(f"{here()}: {name}: kth={kth!r:.60} is out of range for axis {axis} of {describe(x)}")


@function("partition")
def partition(a: ArrayLike, kth: Any, axis: int | None = -1, kind: str = "introselect") -> Array:
    """The elements with the smaller ones before those at ``kth`` and the larger ones behind: here all are sorted."""
    x, k = _line(a, axis)
    _checked_places("partition", kth, x, k)
    return sort(x, k)


@function("argpartition")
def argpartition(a: ArrayLike, kth: Any, axis: int | None = -1, kind: str = "introselect") -> Array:
    """The positions of `partition`, int64: here those of all elements, sorted."""
    x, k = _line(a, axis)
    _checked_places("argpartition", kth, x, k)
    return argsort(x, k)


@function("lexsort")
def lexsort(keys: Any, axis: int = -1) -> Array:
    """The stable permutation that sorts by the last of the ``keys``, among equals by the one before it, and so on."""
    given = FUNCTIONS["unstack"](keys) if isinstance(keys, (Node, np.ndarray)) else [as_node(key) for key in keys]
    if not given or given[0].ndim == 0 or any(key.shape != given[0].shape for key in given):
        raise ShapeError(f"{here()}: lexsort needs keys of one shape, with an axis to sort along")
    k = axis_of(axis, given[0])
    order = argsort(given[0], k)
    for key in given[1:]:
        order = take_along_axis(order, argsort(take_along_axis(key, order, k), k), k)
    return order


# -- functions along axes ---------------------------------------------------------------------------------------------


@function("apply_along_axis")
def apply_along_axis(func1d: Callable[..., Any], axis: int, arr: ArrayLike, *args: Any, **kwargs: Any) -> Array:
    """``func1d`` of each vector along ``axis``, whose place its result takes.

    It is called, and traced, once a vector: of many, `gradc.vmap` makes one program.
    """
    x = as_node(arr)
    k = axis_of(axis, x)
    rest = [n for a, n in enumerate(x.shape) if a != k]
    if 0 in rest:
        raise ShapeError(f"{here()}: apply_along_axis: {describe(x)} has no vector along axis {k}")
    rows = FUNCTIONS["unstack"](reshaped(moveaxis(x, k, -1), (math.prod(rest), x.shape[k])))
    found = FUNCTIONS["stack"]([as_node(func1d(row, *args, **kwargs)) for row in rows])
    result = reshaped(found, (*rest, *found.shape[1:]))
    own = len(rest)
    return moveaxis(result, tuple(range(own, result.ndim)), tuple(range(k, k + result.ndim - own)))


@function("apply_over_axes")
def apply_over_axes(func: Callable[..., Any], a: ArrayLike, axes: Axes) -> Array:
    """``func(a, axis)`` for one axis after another; a result with an axis less gets it back with length 1."""
    x = as_node(a)
    for axis in axes if isinstance(axes, (tuple, list)) else (axes,):
        k = axis_of(axis, x)
        found = as_node(func(x, k))
        if found.ndim not in (x.ndim, x.ndim - 1):
            raise ShapeError(f"{here()}: apply_over_axes: the function made {found.shape} of {x.shape} along axis {k}")
        x = found if found.ndim == x.ndim else FUNCTIONS["expand_dims"](found, k)
    return x
