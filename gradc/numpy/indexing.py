"""Reading and functional writing at indices, sorting and searching.

Enters: arrays and index expressions.  Leaves: slices and reshapes where the index is basic, a few slices where a
constant index is a few runs, else gather and scatter.  Invariant: a static index never costs a gather that slices
could do, so its transpose is no scatter either.  Start reading at `getitem` and `At`; index expressions are read in
`index_forms`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NoReturn

import numpy as np

from gradc.aval import Shape, promoted
from gradc.errors import DTypeError, IndexingError, ShapeError, TraceError
from gradc.node import FUNCTIONS, OPS, Node, as_node, constant, describe, here
from gradc.numpy.axes import axis_of
from gradc.numpy.creation import can_cast, result_type
from gradc.numpy.index_forms import Positions, Selection, selection, signed
from gradc.numpy.public import Array, ArrayLike, function
from gradc.numpy.shapes import permuted, region, reshaped, sliced, spread, static_take, taken
from gradc.ops.elementwise import cast
from gradc.ops.leaves import full, iota

__all__ = ["argsort", "searchsorted", "select", "sort", "take", "take_along_axis"]

# -- reading ----------------------------------------------------------------------------------------------------------


@function("getitem")
def getitem(x: ArrayLike, index: Any) -> Array:
    """``x[index]`` with NumPy's rules: ints, slices, None, ..., integer arrays (also traced), boolean constants.

    IndexingError if a static index is out of range; TraceError for a traced boolean or a traced slice bound.
    """
    node = as_node(x)
    return _read(node, selection(node, index))


def _read(node: Node, chosen: Selection) -> Node:
    basic = region(node, chosen.parts)
    if not chosen.arrays:
        return reshaped(basic, chosen.shape)
    core = reshaped(basic, [len(r) for k, r in enumerate(chosen.parts) if k not in chosen.dropped])
    axes = [k for k in range(node.ndim) if k not in chosen.dropped]  # the operand's axis behind each axis of `core`
    return _arranged(_gathered(core, axes, chosen), axes, chosen)


def _gathered(core: Node, axes: Sequence[int], chosen: Selection) -> Node:
    """The lead axes first, then the axes that no array indexes."""
    by_axis = {axes.index(k): p for k, p in chosen.arrays.items()}
    found = _by_slices(core, by_axis)
    if found is not None:
        return found
    indices = [_shown(p, chosen.lead) for p in by_axis.values()]
    return OPS["gather"].make((core, *indices), axes=tuple(by_axis))


def _by_slices(core: Node, by_axis: dict[int, Positions]) -> Node | None:
    """One constant vector of few runs: slices instead of a gather."""
    ((axis, positions), *others) = by_axis.items()
    if others or isinstance(positions, Node) or positions.ndim != 1:
        return None
    found = static_take(core, positions, axis)
    return None if found is None else permuted(found, [axis, *(k for k in range(core.ndim) if k != axis)])


def _shown(positions: Positions, shape: Shape) -> Node:
    """Advanced positions broadcast to ``shape``, aligned from the right."""
    if isinstance(positions, Node):
        return spread(positions, shape, range(len(shape) - positions.ndim, len(shape)))
    return constant(np.broadcast_to(positions, shape).astype(np.int64))


def _arranged(found: Node, axes: Sequence[int], chosen: Selection) -> Node:
    """From (lead, rest) to the axes of the result."""
    rank = len(chosen.lead)
    before = sum(k is not None for k in chosen.layout[: chosen.place])
    rest = list(range(rank, found.ndim))
    order = [*rest[:before], *range(rank), *rest[before:]]
    return reshaped(permuted(found, order), chosen.shape)


@function("take")
def take(a: ArrayLike, indices: ArrayLike, axis: Any = None, *, mode: str = "raise") -> Array:
    """Elements at ``indices`` along ``axis`` (None: of the flattened array); their shape replaces the axis.

    ``mode`` says what an index out of range does: "raise", "wrap" (modulo the size) or "clip".
    """
    x = as_node(a)
    if axis is None:
        x, axis = reshaped(x, (x.size,)), 0
    k = axis_of(axis, x)
    positions = indices if isinstance(indices, Node) else _positions(indices)
    if mode not in ("raise", "wrap", "clip"):
        raise IndexingError(f"{here()}: take: mode must be 'raise', 'wrap' or 'clip', got {mode!r}")
    n = x.shape[k]
    if mode != "raise":
        if n == 0:
            raise IndexingError(f"{here()}: take from axis {k} with size 0 of {describe(x)}")
        positions = _into_range(positions, n, mode)
    return getitem(x, (slice(None),) * k + (positions,))


def _positions(indices: ArrayLike) -> Any:
    """Anything an index may be, as a constant array or a Node; an empty list means no positions."""
    if isinstance(indices, (list, tuple)):
        lifted = as_node(indices) if len(indices) else constant(np.zeros(0, np.int64))
        return lifted.attrs["value"] if lifted.op.name == "constant" else lifted
    return np.asarray(indices)


def _into_range(positions: Any, n: int, mode: str) -> Any:
    if isinstance(positions, Node):
        return positions % n if mode == "wrap" else FUNCTIONS["clip"](positions, 0, n - 1)
    return positions % n if mode == "wrap" else np.clip(positions, 0, n - 1)


@function("take_along_axis")
def take_along_axis(arr: ArrayLike, indices: ArrayLike, axis: int | None = -1) -> Array:
    """``arr[…, indices[…, i, …], …]``: positions along ``axis``, other axes matched (broadcast against each other)."""
    x, at = as_node(arr), as_node(indices)
    if axis is None:
        x, axis = reshaped(x, (x.size,)), 0
    if at.dtype.kind not in "iu" or at.ndim != x.ndim:
        raise IndexingError(
            f"{here()}: take_along_axis of {describe(x)} needs {x.ndim}-dimensional integer indices, got {describe(at)}"
        )
    k = axis_of(axis, x)
    shape = _along_shape(x, at, k)
    index = [spread(signed(at), shape, range(x.ndim)) if a == k else _own(x, a, shape) for a in range(x.ndim)]
    return OPS["gather"].make((x, *index), axes=tuple(range(x.ndim)))


def _along_shape(x: Node, at: Node, axis: int) -> Shape:
    pairs = [(1 if k == axis else n, m) for k, (n, m) in enumerate(zip(x.shape, at.shape, strict=True))]
    if any(n != m and 1 not in (n, m) for n, m in pairs):
        raise IndexingError(
            f"{here()}: take_along_axis: indices of shape {at.shape} do not fit {describe(x)}; "
            f"other axes than {axis} must agree"
        )
    return tuple(m if n == 1 else n for n, m in pairs)


def _own(x: Node, axis: int, shape: Shape) -> Node:
    """The index that leaves an axis where it is."""
    return iota(shape, axis) if x.shape[axis] != 1 else full(shape, 0, np.int64)


# -- writing ----------------------------------------------------------------------------------------------------------


@function("at")
def at(x: Node) -> At:
    """The object behind ``x.at``."""
    return At(x)


class At:
    """Functional updates of an array: ``x.at[index].set(v)`` is a new array."""

    __slots__ = ("array",)

    def __init__(self, array: Node):
        self.array = array

    def __getitem__(self, index: Any) -> Update:
        return Update(self.array, index)


class Update:
    """One place of an array, waiting for what to do there.

    ``v`` broadcasts to the shape of ``x[index]`` and is converted to the dtype of ``x`` if that loses nothing but
    digits (DTypeError otherwise); a Python number must fit into it.  Where an index names one position several times,
    each update sees what the one before it left, as with NumPy's ``ufunc.at``.  For that, `power` and `apply` must know
    the positions while tracing; traced ones cost `multiply` and `divide` the square of their number.  Both end with
    ``unique_indices=True``, the caller's word that no position repeats.
    """

    __slots__ = ("array", "index")

    def __init__(self, array: Node, index: Any):
        self.array = array
        self.index = index

    def __repr__(self) -> str:
        return "x.at[…] without .set(v), .add(v), … or .get()"

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):
            raise AttributeError(name)
        known = ", ".join(f".{k}" for k in vars(Update) if not k.startswith("_") and k not in Update.__slots__)
        raise AttributeError(f"{here()}: x.at[…] has no .{name}; it has {known}")

    def get(self) -> Node:
        """``x[index]``."""
        return getitem(self.array, self.index)

    def set(self, values: ArrayLike) -> Node:
        """``x`` with ``v`` at the index; where positions repeat, the last one counts."""
        return self._updated("set", values)

    def add(self, values: ArrayLike) -> Node:
        """``x`` with ``v`` added at the index, once for each time a position occurs."""
        return self._updated("add", values)

    def subtract(self, values: ArrayLike) -> Node:
        """``x`` with ``v`` subtracted at the index, once for each time a position occurs."""
        return self._updated("add", -_fitting_dtype(as_node(values), self.array, "subtract"))

    def max(self, values: ArrayLike) -> Node:
        """``x`` with the larger of ``x`` and ``v`` at the index."""
        return self._updated("max", values)

    def min(self, values: ArrayLike) -> Node:
        """``x`` with the smaller of ``x`` and ``v`` at the index."""
        return self._updated("min", values)

    def multiply(self, values: ArrayLike, *, unique_indices: bool = False) -> Node:
        """``x`` with the elements at the index multiplied by ``v``, once for each time a position occurs."""
        v = _fitting_dtype(as_node(values), self.array, "multiply")
        return self._computed("multiply", FUNCTIONS["multiply"], v, unique_indices, factors=True)

    def divide(self, values: ArrayLike, *, unique_indices: bool = False) -> Node:
        """``x`` with the elements at the index divided by ``v``, once for each time a position occurs."""
        v = _fitting_dtype(as_node(values), self.array, "divide")
        return self._computed("divide", FUNCTIONS["divide"], v, unique_indices, factors=True)

    def power(self, values: ArrayLike, *, unique_indices: bool = False) -> Node:
        """``x`` with the elements at the index raised to the power ``v``, once for each time a position occurs."""
        return self._computed("power", FUNCTIONS["power"], values, unique_indices)

    def apply(self, f: Callable[[Node], ArrayLike], *, unique_indices: bool = False) -> Node:
        """``x`` with the elements at the index replaced by ``f`` of them, once for each time a position occurs.

        ``f`` is elementwise: it gets an array of those elements and returns one of the same shape.
        """
        return self._computed("apply", lambda old, _: f(old), 0, unique_indices)

    def _updated(self, how: str, values: ArrayLike) -> Node:
        x = self.array
        v = _fitting_dtype(as_node(values), x, how)
        mask = _mask_of(self.index)
        if mask is not None and v.ndim == 0:
            return _where_masked(x, mask, lambda old: _COMBINE[how](old, spread(v, old.shape, ())))
        return _written(x, v, selection(x, self.index), how)

    def _computed(
        self, how: str, f: Callable[[Node, Node], ArrayLike], values: ArrayLike, unique: bool, factors: bool = False
    ) -> Node:
        """Elements replaced by ``f`` of them and the values; those for one position are ``factors``, or take turns."""
        x, v = self.array, as_node(values)

        def computed(old: Node, new: Node) -> Node:
            return _fitting_dtype(as_node(f(old, new)), x, how)

        mask = _mask_of(self.index)
        if mask is not None and v.ndim == 0:
            return _where_masked(x, mask, lambda old: computed(old, v))
        chosen = selection(x, self.index)
        v = _fitting_shape(v, chosen.shape, x)
        if unique or not chosen.arrays or math.prod(chosen.lead) < 2:
            return _written(x, computed(_read(x, chosen), v), chosen, "set")
        if any(isinstance(p, Node) for p in chosen.arrays.values()):
            if not factors:
                raise TraceError(
                    f"{here()}: .at[…].{how} of {describe(x)} at traced positions, of which some may be the same.\n"
                    "  If none repeats, say so: unique_indices=True. Else index with an array known while tracing."
                )
            return _written(x, computed(_read(x, chosen), _joint_factors(x, v, chosen)), chosen, "set")
        for turn, members in _turns(x, chosen):
            mine = taken(_with_flat_lead(v, chosen), members, chosen.place)
            x = _written(x, computed(_read(x, turn), mine), turn, "set")
        return x


def _with_flat_lead(v: Node, chosen: Selection) -> Node:
    """Values in the shape of a selection, with one axis for its index arrays."""
    end = chosen.place + len(chosen.lead)
    return reshaped(v, (*v.shape[: chosen.place], math.prod(chosen.lead), *v.shape[end:]))


def _turns(x: Node, chosen: Selection) -> list[tuple[Selection, np.ndarray[Any, Any]]]:
    """A selection at constant positions cut into ones that name no position twice: the k-th has those that occur for
    the k-th time.  Beside each stand the numbers of its members among the flat positions.
    """
    positions = {k: np.broadcast_to(np.asarray(p), chosen.lead).reshape(-1) for k, p in chosen.arrays.items()}
    keys = np.ravel_multi_index(tuple(positions.values()), tuple(x.shape[k] for k in positions))
    order = np.argsort(keys, kind="stable")
    first = np.searchsorted(keys[order], keys[order])
    turn = np.empty_like(order)
    turn[order] = np.arange(keys.size) - first
    parts = []
    for k in range(turn.max() + 1):
        members = np.flatnonzero(turn == k)
        arrays: dict[int, Positions] = {axis: p[members] for axis, p in positions.items()}
        parts.append((replace(chosen, arrays=arrays, lead=members.shape), members))
    return parts


def _joint_factors(x: Node, v: Node, chosen: Selection) -> Node:
    """For each of the traced positions the product of the values for all positions that are the same."""
    count, place = math.prod(chosen.lead), chosen.place
    same = full((count, count), True, bool)
    for axis, p in chosen.arrays.items():
        given = reshaped(_shown(p, chosen.lead), (count,))
        at_ = _traced_where(given < 0, given + x.shape[axis], given)
        same = same & (reshaped(at_, (count, 1)) == at_)
    flat = _with_flat_lead(v, chosen)
    shape = (*flat.shape[:place], count, *flat.shape[place:])
    seen = spread(flat, shape, [k for k in range(len(shape)) if k != place])
    factors = _traced_where(spread(same, shape, (place, place + 1)), seen, 1)
    product = OPS["prod"].make((cast(factors, v.dtype),), axes=(place + 1,))
    return reshaped(product, v.shape)


def _written(x: Node, v: Node, chosen: Selection, how: str) -> Node:
    v = _fitting_shape(v, chosen.shape, x)
    return _scattered(x, v, chosen, how) if chosen.arrays else _placed(x, v, chosen, how)


def _fitting_dtype(v: Node, x: Node, how: str) -> Node:
    """``v`` in the dtype of ``x``; a Python integer goes into any dtype that holds it, and any number into bool."""
    number = v.aval.weak and (v.dtype.kind == x.dtype.kind or x.dtype == bool or v.dtype.kind + x.dtype.kind == "iu")
    if not number and not can_cast(v.dtype, x.dtype, "same_kind"):
        raise DTypeError(
            f"{here()}: .at[…].{how}: {describe(v)} does not fit into {describe(x)} without loss; use .astype on one"
        )
    return cast(v, x.dtype)


def _fitting_shape(v: Node, shape: Shape, x: Node) -> Node:
    """``v`` broadcast to the indexed shape; like NumPy, superfluous leading axes of length 1 are dropped."""
    surplus = v.ndim - len(shape)
    if surplus > 0 and math.prod(v.shape[:surplus]) == 1:
        v = reshaped(v, v.shape[surplus:])
    lead = len(shape) - v.ndim
    if lead < 0 or any(n not in (1, m) for n, m in zip(v.shape, shape[lead:], strict=True)):
        raise ShapeError(
            f"{here()}: .at[…]: values of shape {v.shape} do not broadcast to the indexed shape {shape} "
            f"of {describe(x)}"
        )
    return spread(v, shape, range(lead, len(shape)))


_COMBINE: dict[str, Callable[[Node, Node], Node]] = {
    "set": lambda old, new: new,
    "add": lambda old, new: old + new,
    "max": lambda old, new: FUNCTIONS["maximum"](old, new),
    "min": lambda old, new: FUNCTIONS["minimum"](old, new),
}


def _mask_of(index: Any) -> Node | None:
    """The index if it is one boolean array, traced or not: with a scalar value that is a `where`."""
    if isinstance(index, Node) and index.dtype == bool:
        return index
    return constant(index) if isinstance(index, np.ndarray) and index.dtype == bool else None


def _where_masked(x: Node, mask: Node, f: Callable[[Node], Node]) -> Node:
    """``f`` of ``x`` where the mask holds, else ``x``."""
    if mask.shape != x.shape[: mask.ndim]:
        raise IndexingError(f"{here()}: a boolean index of shape {mask.shape} does not match {describe(x)}")
    return OPS["where"].make((spread(mask, x.shape, range(mask.ndim)), f(x), x))


def _placed(x: Node, v: Node, chosen: Selection, how: str) -> Node:
    """Update of a box of evenly spaced elements: the values padded to the shape of ``x``, and selected there."""
    ranges = [r if r.step > 0 else r[::-1] for r in chosen.parts]
    box = reshaped(v, [len(r) for r in chosen.parts])
    box = region(box, [range(len(r)) if r.step > 0 else range(len(r))[::-1] for r in chosen.parts])
    if box.shape == x.shape:
        return _COMBINE[how](x, box)
    where: dict[str, Any] = {
        "shape": x.shape,
        "starts": tuple(r.start if len(r) else 0 for r in ranges),
        "steps": tuple(r.step if len(r) > 1 else 1 for r in ranges),
    }
    if how == "add":  # x + (−0) is x, also for x = −0
        return x + OPS["pad"].make((box,), **where, fill=-0.0 if x.aval.is_float else 0)
    mask = OPS["pad"].make((full(box.shape, True, bool),), **where, fill=False)
    return OPS["where"].make((mask, _COMBINE[how](x, OPS["pad"].make((box,), **where, fill=0)), x))


def _scattered(x: Node, v: Node, chosen: Selection, how: str) -> Node:
    """Update at computed positions; axes that a slice or an int cuts are indexed by their positions, too."""
    cut = [k for k, r in enumerate(chosen.parts) if k not in chosen.arrays and r != range(x.shape[k])]
    grid = [k for k in cut if k not in chosen.dropped]  # these axes of v move behind the lead
    shape = chosen.lead + tuple(len(chosen.parts[k]) for k in grid)
    rank = len(chosen.lead)
    indices: dict[int, Node] = {k: spread(_shown(p, chosen.lead), shape, range(rank)) for k, p in chosen.arrays.items()}
    for k in cut:
        r = np.array(chosen.parts[k], np.int64)
        indices[k] = (
            full(shape, r[0], np.int64) if k in chosen.dropped else spread(constant(r), shape, (rank + grid.index(k),))
        )
    for k in chosen.dropped - set(cut):  # an int on an axis of length 1
        indices[k] = full(shape, 0, np.int64)
    axes = tuple(sorted(indices))
    updates = _updates_in_order(v, chosen, grid)
    return OPS["scatter"].make((x, updates, *[indices[k] for k in axes]), axes=axes, how=how)


def _updates_in_order(v: Node, chosen: Selection, grid: Sequence[int]) -> Node:
    """``v`` from the result's axes to (lead, grid, axes taken whole), without new axes."""
    rank, place = len(chosen.lead), chosen.place
    source = {k: j if j < place else j + rank for j, k in enumerate(chosen.layout) if k is not None}
    whole = [k for k in source if k not in grid]
    fresh = [j if j < place else j + rank for j, k in enumerate(chosen.layout) if k is None]
    order = [*range(place, place + rank), *[source[k] for k in grid], *[source[k] for k in whole], *fresh]
    arranged = permuted(v, order)
    return reshaped(arranged, arranged.shape[: v.ndim - len(fresh)])


# -- choosing ---------------------------------------------------------------------------------------------------------

_traced_where = FUNCTIONS["where"]


@function("select")
def select(condlist: Sequence[ArrayLike], choicelist: Sequence[ArrayLike], default: ArrayLike = 0) -> Array:
    """For each element the choice of the first condition that holds, else ``default``."""
    if len(condlist) != len(choicelist) or not condlist:
        raise ShapeError(f"{here()}: select: {len(condlist)} conditions for {len(choicelist)} choices")
    dtype = result_type(*choicelist, default)
    result = cast(as_node(default), dtype)
    for mask, choice in zip(reversed(condlist), reversed(choicelist), strict=True):
        result = _traced_where(mask, cast(as_node(choice), dtype), result)
    return result


# -- sorting and searching --------------------------------------------------------------------------------------------


def _refuse_unknown_kind(name: str, kind: Any) -> None:
    """ValueError for what is no algorithm of NumPy's: they are stable here whichever is named."""
    known = ("quicksort", "heapsort", "mergesort", "stable")
    if kind is not None and not (isinstance(kind, str) and kind in known):
        raise ValueError(
            f"{here()}: {name}: kind must be 'quicksort', 'heapsort', 'mergesort' or 'stable', got {kind!r:.60}"
        )


@function("argsort")
def argsort(
    a: ArrayLike, axis: int | None = -1, kind: Any = None, *, stable: Any = None, descending: Any = False
) -> Array:
    """The stable permutation that sorts along ``axis`` (None: the flattened array), int64, NaN last (else first)."""
    _refuse_unknown_kind("argsort", kind)
    x = as_node(a)
    if axis is None:
        x, axis = reshaped(x, (x.size,)), 0
    k = axis_of(axis, x)
    if not descending:
        return OPS["argsort"].make((x,), axis=k)
    turned = sliced(x, k, range(x.shape[k])[::-1])  # reversed twice, so that ties keep their order
    order = x.shape[k] - 1 - OPS["argsort"].make((turned,), axis=k)
    return sliced(order, k, range(x.shape[k])[::-1])


@function("sort")
def sort(
    a: ArrayLike, axis: int | None = -1, kind: Any = None, *, stable: Any = None, descending: Any = False
) -> Array:
    """Elements in ascending order along ``axis`` (None: of the flattened array), NaN last."""
    _refuse_unknown_kind("sort", kind)
    x = as_node(a)
    if axis is None:
        x, axis = reshaped(x, (x.size,)), 0
    return take_along_axis(x, argsort(x, axis, descending=descending), axis)


@function("searchsorted")
def searchsorted(a: ArrayLike, v: ArrayLike, side: str = "left", sorter: ArrayLike = None) -> Array:
    """Where ``v`` would be inserted into the sorted vector ``a`` to keep it sorted, int64, in the shape of ``v``.

    Equal elements come after the position for side "left", before it for "right".
    """
    line, values = as_node(a), as_node(v)
    if line.ndim != 1:
        raise ShapeError(f"{here()}: searchsorted: a must be a vector, got {describe(line)}")
    if side not in ("left", "right"):
        raise IndexingError(f"{here()}: searchsorted: side must be 'left' or 'right', got {side!r}")
    if sorter is not None:
        line = take(line, sorter)
    dtype = promoted(line.dtype, values.dtype)
    return OPS["searchsorted"].make((cast(line, dtype), cast(values, dtype)), side=side)
