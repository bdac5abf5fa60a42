"""Gather, scatter and sort: indices that are data.

Canonical form: integer arrays of one shape index the operand's axes ``axes`` (ascending); the result has the index
shape first and the remaining axes after it.  Negative indices wrap once, an index out of range is an error that names
the user's line.  Batched operands get an index array that counts the new axis, so one rule serves every vmap.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from gradc.aval import Aval, Shape
from gradc.node import OPS, Node, dsl
from gradc.ops import definitions
from gradc.ops.consistent import axes_in, axis_in, must_be_indices, one_for_each, refuse, same_dtype, same_shape
from gradc.ops.leaves import full, iota
from gradc.ops.products import scaled
from gradc.ops.ranges import Range, Zeros
from gradc.ops.record import Kind, Op, Sample, register

Array = np.ndarray[Any, Any]


def rest_axes(ndim: int, axes: Shape) -> Shape:
    """The axes of the operand that are not indexed."""
    return tuple(a for a in range(ndim) if a not in axes)


def _front(x: Array, axes: Shape) -> Array:
    return np.transpose(x, (*axes, *rest_axes(x.ndim, axes)))


# -- gather ------------------------------------------------------------------------------------------------------------


def _indexed_shape(x: Aval, indices: Sequence[Aval], axes: Shape) -> Shape:
    """The shape of what the indices choose."""
    axes_in(axes, x.ndim)
    one_for_each("indices", indices, len(axes))
    if not indices:
        refuse("nothing is indexed")
    must_be_indices(indices)
    same_shape(indices)
    return indices[0].shape + tuple([n for a, n in enumerate(x.shape) if a not in axes])


def _gather_infer(x: Aval, *indices: Aval, axes: Shape) -> Aval:
    return Aval(_indexed_shape(x, indices, axes), x.dtype)


def _gather_transpose(ct: Node, node: Node, i: int) -> Node:
    x, *indices = node.args
    return OPS["scatter"].make((full(x.shape, 0, ct.dtype), ct, *indices), axes=node.attrs["axes"], how="add")


def _counted(args: Sequence[Node], batched: Sequence[bool], size: int) -> tuple[Node, list[Node]]:
    """Index arrays for operands with a leading batch axis: the batch's own index first, all of shape (size, *index)."""
    shape = (size, *next(a.shape[1:] if has else a.shape for a, has in zip(args, batched, strict=True)))
    full = [
        a if has else OPS["broadcast"].make((a,), shape=shape, axes=tuple(range(1, a.ndim + 1)))
        for a, has in zip(args, batched, strict=True)
    ]
    return iota(shape, 0), full


def _gather_batch(node: Node, args: Sequence[Node], batched: Sequence[bool], size: int) -> Node:
    axes = node.attrs["axes"]
    count, indices = _counted(args[1:], batched[1:], size)
    if not batched[0]:
        return node.op.make((args[0], *indices), axes=axes)
    return node.op.make((args[0], count, *indices), axes=(0, *(a + 1 for a in axes)))


def _in_range(indices: Sequence[Array], extents: Shape) -> tuple[Array, ...]:
    """Indices for NumPy, which takes the upper half of uint64 for negative numbers: those are out of range."""
    for i, n in zip(indices, extents, strict=False):
        if i.dtype == np.uint64 and np.any(wrong := i > np.iinfo(np.int64).max):
            first = i[wrong][0]
            signed = first.astype(np.int64)
            raise IndexError(f"index {first}, {signed} as a signed integer, is out of range 0 … {n - 1}")
    return tuple(i.astype(np.int64) if i.dtype == np.uint64 else i for i in indices)


_INDEX = ("float", "index:3")
register(
    Op(
        name="gather",
        kind=Kind.GATHER,
        infer=_gather_infer,
        numpy=lambda x, *indices, axes: (front := _front(x, axes))[_in_range(indices, front.shape)],
        sympy=lambda S, x, *indices, axes: _front(x, axes)[tuple(indices)],
        transpose=_gather_transpose,
        range=lambda node, x, *indices: x,
        linear=(0,),
        batch=_gather_batch,
        samples=(
            Sample(((3,), (4,)), {"axes": (0,)}, _INDEX),
            Sample(((2, 3), (2,)), {"axes": (1,)}, _INDEX),
            Sample(((3, 3, 2), (2, 2), (2, 2)), {"axes": (0, 1)}, ("float", "index:3", "index:3")),
            Sample(((3, 2), ()), {"axes": (0,)}, _INDEX),
            Sample(((3, 2), (0,)), {"axes": (0,)}, _INDEX),
        ),
        doc="Elements at computed indices.",
    )
)

# -- scatter -----------------------------------------------------------------------------------------------------------
#: ways to combine that keep one of what is combined
BY_SIZE = ("max", "min")
_COMBINE = {"add": np.add, "max": np.maximum, "min": np.minimum}


def _scatter_numpy(x: Array, v: Array, *indices: Array, axes: Shape, how: str) -> Array:
    out = np.array(x)
    front = _front(out, axes)  # a view: writing it writes out
    if how == "set":
        front[_in_range(indices, front.shape)] = v
    else:
        _COMBINE[how].at(front, _in_range(indices, front.shape), v)
    return out


def _scatter_jvp(node: Node, tangents: Sequence[Node | None]) -> Node | None:
    """set and add are linear; max and min pass the tangent of whatever attains the result, shared evenly."""
    tx, tv = tangents[0], tangents[1]
    if tx is None and tv is None:
        return None
    x, _, *indices = node.args
    axes, how = node.attrs["axes"], node.attrs["how"]
    if how == "add":
        return _placed_sum(tx, tv, x, indices, axes)
    if how == "set":
        return _overwritten(tx, tv, node)
    return _attained(tx, tv, node)


def _placed_sum(tx: Node | None, tv: Node | None, x: Node, indices: Sequence[Node], axes: Shape) -> Node:
    base = tx if tx is not None else full(x.shape, 0, x.dtype)
    if tv is None:
        return base
    return OPS["scatter"].make((base, tv, *indices), axes=axes, how="add")


def _writer(node: Node) -> tuple[Node, Node]:
    """For scatter-set: the number (from 1) of the update that lands on each element, 0 for none; and each update's
    own.
    """
    x, v, *indices = node.args
    count = dsl.reshape(iota((v.size,)) + 1, v.shape)
    last = OPS["scatter"].make((full(x.shape, 0, np.int64), count, *indices), axes=node.attrs["axes"], how="set")
    return last, count


def _overwritten(tx: Node | None, tv: Node | None, node: Node) -> Node | None:
    """Only the last update of an element counts; the operand counts where nothing was written."""
    x, _, *indices = node.args
    axes = node.attrs["axes"]
    last, count = _writer(node)
    kept = dsl.where(last == 0, tx, 0) if tx is not None else None
    if tv is None:
        return kept
    landed = OPS["gather"].make((last, *indices), axes=axes) == count
    return _placed_sum(kept, dsl.where(landed, tv, 0), x, indices, axes)


def _attained(tx: Node | None, tv: Node | None, node: Node) -> Node:
    x, v, *indices = node.args
    axes = node.attrs["axes"]
    from_x = (x == node).astype(x.dtype)
    from_v = (v == OPS["gather"].make((node, *indices), axes=axes)).astype(x.dtype)
    count = OPS["scatter"].make((from_x, from_v, *indices), axes=axes, how="add")
    left = scaled(tx, from_x / count) if tx is not None else None
    right = scaled(tv, from_v / OPS["gather"].make((count, *indices), axes=axes)) if tv is not None else None
    return _placed_sum(left, right, x, indices, axes)


def _scatter_transpose(ct: Node, node: Node, i: int) -> Node:
    """For the linear part, which is always ``how="add"``."""
    return ct if i == 0 else OPS["gather"].make((ct, *node.args[2:]), axes=node.attrs["axes"])


def _scatter_range(node: Node, x: Range, v: Range, *indices: Range) -> Range:
    """Into zeros: placed among them."""
    if node.attrs["how"] != "add":
        return x.joined(v)
    added = v.among_zeros().repeated_sum(math.inf) + x
    return replace(added, zeros=Zeros.GUARDED) if x.lo == x.hi == 0 else added


def _scatter_batch(node: Node, args: Sequence[Node], batched: Sequence[bool], size: int) -> Node:
    count, indices = _counted(args[2:], batched[2:], size)
    x, v = (
        a if has else OPS["broadcast"].make((a,), shape=(size, *a.shape), axes=tuple(range(1, a.ndim + 1)))
        for a, has in zip(args[:2], batched[:2], strict=True)
    )
    axes = (0, *(a + 1 for a in node.attrs["axes"]))
    return node.op.make((x, v, count, *indices), axes=axes, how=node.attrs["how"])


def _scatter_infer(x: Aval, v: Aval, *indices: Aval, axes: Shape, how: str) -> Aval:
    same_dtype((x, v))
    if v.shape != (chosen := _indexed_shape(x, indices, axes)):
        refuse(f"updates of {v.shape} for places of {chosen}")
    if how not in ("set", *_COMBINE):
        refuse("it is not said how updates are combined")
    return Aval(x.shape, x.dtype)


def _scatter_samples() -> tuple[Sample, ...]:
    cases = []
    for how in ("add", "set", "max", "min"):
        cases.append(Sample(((4,), (3,), (3,)), {"axes": (0,), "how": how}, ("float", "float", "index:4")))
        cases.append(Sample(((3, 2), (2, 2), (2,)), {"axes": (0,), "how": how}, ("float", "float", "index:3")))
    return tuple(cases)


register(
    Op(
        name="scatter",
        kind=Kind.SCATTER,
        infer=_scatter_infer,
        numpy=_scatter_numpy,
        jvp=_scatter_jvp,
        definition=definitions.scatter,
        transpose=_scatter_transpose,
        range=_scatter_range,
        linear=(0, 1),
        side=lambda value, x, *rest, axes, how: x == value,
        batch=_scatter_batch,
        samples=_scatter_samples(),
        singular="set: the last of several writes counts; max, min: ties share evenly",
        doc="x with v written, added, or combined by max or min at computed indices, one update after another.",
    )
)

# -- sort --------------------------------------------------------------------------------------------------------------


def _argsort_infer(x: Aval, axis: int) -> Aval:
    axis_in(axis, x.ndim)
    return Aval(x.shape, np.dtype(np.int64))


def _sort_batch(node: Node, args: Sequence[Node], batched: Sequence[bool], size: int) -> Node:
    return node.op.make(args, axis=node.attrs["axis"] + 1)


register(
    Op(
        name="argsort",
        kind=Kind.SORT,
        infer=_argsort_infer,
        constant=True,
        numpy=lambda x, axis: np.argsort(x, axis=axis, kind="stable"),
        batch=_sort_batch,
        samples=(Sample(((5,),), {"axis": 0}), Sample(((2, 3),), {"axis": 1}), Sample(((3, 2),), {"axis": 0})),
        doc="The stable permutation that sorts along an axis, NaN last.",
    )
)


def _searchsorted_numpy(a: Array, v: Array, side: str) -> Array:
    """``a`` has the batch axes of ``v``'s leading axes and is sorted along its last axis."""
    lead = a.shape[:-1]
    if not lead:
        return np.asarray(np.searchsorted(a, v, side=side))  # type: ignore[call-overload]
    out = np.empty(v.shape, np.int64)
    for index in np.ndindex(*lead):
        out[index] = np.searchsorted(a[index], v[index], side=side)  # type: ignore[call-overload]
    return out


def _searchsorted_infer(a: Aval, v: Aval, side: str) -> Aval:
    same_dtype((a, v))
    lead = a.shape[:-1]
    if not a.ndim or v.shape[: len(lead)] != lead:
        refuse("what is searched has no last axis, or other leading axes than what is sought")
    if side not in ("left", "right"):
        refuse("the side is left or right")
    return Aval(v.shape, np.dtype(np.int64))


def _searchsorted_batch(node: Node, args: Sequence[Node], batched: Sequence[bool], size: int) -> Node:
    full = [
        a if has else OPS["broadcast"].make((a,), shape=(size, *a.shape), axes=tuple(range(1, a.ndim + 1)))
        for a, has in zip(args, batched, strict=True)
    ]
    return node.op.make(full, **node.attrs)


register(
    Op(
        name="searchsorted",
        kind=Kind.SEARCH,
        infer=_searchsorted_infer,
        constant=True,
        numpy=_searchsorted_numpy,
        batch=_searchsorted_batch,
        samples=(Sample(((4,), (3,)), {"side": "left"}), Sample(((4,), (2, 2)), {"side": "right"})),
        doc="Where v would be inserted into the sorted last axis of a.",
    )
)
