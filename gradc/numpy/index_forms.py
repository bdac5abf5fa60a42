"""NumPy index expressions, read: what each entry selects, and where the axes of the result come from.

Enters: an array and whatever the user wrote between the brackets.  Leaves: a `Selection`, the same for reading
(`getitem`) and for writing (`x.at`).  Invariant: static positions are in range and non-negative; traced ones are
int64 Nodes. Rules: NumPy's manual, "Indexing on ndarrays"; a run of advanced entries stays in place, separated ones
go to the front.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from gradc.aval import Shape, broadcast_shapes
from gradc.errors import IndexingError, TraceError
from gradc.node import FUNCTIONS, Node, as_node, describe, here
from gradc.ops.elementwise import cast

#: One advanced index: constant positions, or traced ones.
Positions = np.ndarray[Any, Any] | Node


@dataclass(frozen=True, slots=True)
class Selection:
    """What an index expression selects.

    ``parts[k]`` are the elements of axis k that a slice or an int takes (all of them where an array indexes the axis).
    ``dropped`` are the axes taken by ints.  ``arrays`` maps axes to advanced indices, all of which broadcast to
    ``lead``, the shape that replaces them.  ``layout`` lists the axes of the result without ``lead``: an axis of the
    operand, or None for a new one; ``lead`` stands before ``layout[place]``.
    """

    parts: tuple[range, ...]
    dropped: frozenset[int]
    arrays: dict[int, Positions]
    lead: Shape
    layout: tuple[int | None, ...]
    place: int

    @property
    def shape(self) -> Shape:
        """The shape of the result."""
        sizes = tuple(1 if k is None else len(self.parts[k]) for k in self.layout)
        return sizes[: self.place] + self.lead + sizes[self.place :]


def selection(x: Node, index: Any) -> Selection:
    """Read an index expression for ``x``; raises IndexingError or TraceError as the entries deserve."""
    entries = _expanded(x, [_entry(e) for e in (index if isinstance(index, tuple) else (index,))])
    parts = [range(n) for n in x.shape]
    dropped: set[int] = set()
    arrays: dict[int, Positions] = {}
    layout: list[int | None] = []
    advanced: list[int] = []  # for each advanced entry: (number of entries before it)
    places: list[int] = []
    axis = 0
    for position, entry in enumerate(entries):
        if entry is None:
            layout.append(None)
        elif isinstance(entry, slice):
            parts[axis] = range(x.shape[axis])[_static_slice(entry, x, axis)]
            layout.append(axis)
            axis += 1
        elif isinstance(entry, int):
            parts[axis] = _one(entry, x, axis)
            dropped.add(axis)
            advanced.append(position)
            places.append(len(layout))
            axis += 1
        elif entry is not Ellipsis:
            for positions in entry:
                arrays[axis] = _in_range(positions, x, axis)
                axis += 1
            advanced.append(position)
            places.append(len(layout))
    lead = _joint_shape(arrays, x)
    together = all(b == a + 1 for a, b in pairwise(advanced))
    place = places[0] if arrays and together else 0
    return Selection(tuple(parts), frozenset(dropped), arrays, lead, tuple(layout), place)


# -- entries ----------------------------------------------------------------------------------------------------------


def _entry(entry: Any) -> Any:
    """An entry as None, Ellipsis, a slice, an int, or a tuple of index arrays, one per axis that it takes."""
    if entry is None or entry is Ellipsis or isinstance(entry, slice):
        return entry
    if isinstance(entry, (bool, np.bool_)):
        return np.asarray(entry)
    if isinstance(entry, Node):
        return (_traced(entry),)
    if isinstance(entry, (list, tuple)) and _holds_node(entry):
        return (_traced(as_node(entry)),)
    if not isinstance(entry, (list, tuple, np.ndarray)):
        return _integer(entry)
    array = np.asarray(entry)
    if array.size == 0 and isinstance(entry, (list, tuple)):
        array = array.astype(np.int64)
    if array.dtype == bool:
        return array
    if array.dtype.kind not in "iu":
        raise IndexingError(
            f"{here()}: index arrays must hold integers or booleans, got dtype {array.dtype}; convert with .astype(int)"
        )
    if array.dtype == np.uint64:
        array = np.minimum(array, np.uint64(2**63 - 1))
    return int(array) if array.ndim == 0 else (array.astype(np.int64),)


def _holds_node(values: Sequence[Any]) -> bool:
    return any(isinstance(v, Node) or (isinstance(v, (list, tuple)) and _holds_node(v)) for v in values)


def _integer(entry: Any) -> int:
    try:
        return operator.index(entry)
    except TypeError:
        raise IndexingError(
            f"{here()}: only integers, slices (:), ellipsis (...), None and integer or boolean arrays are indices, "
            f"got {entry!r} of type {type(entry).__name__}"
        ) from None


def _traced(index: Node) -> Node:
    if index.dtype == bool:
        raise TraceError(
            f"{here()}: indexing with the traced boolean {describe(index)}: the shape would depend on its values.\n"
            "  Use np.where(mask, x, fill), or x * mask, or  gradc.numpy.extract(mask, x, size=n)  with the number of "
            "elements; to write, x.at[mask].set(scalar) works."
        )
    if index.dtype.kind not in "iu":
        raise IndexingError(f"{here()}: an index must be integer, got {describe(index)}; convert with .astype(int)")
    return signed(index)


def signed(index: Node) -> Node:
    """Traced positions as int64; unsigned ones that no int64 holds are beyond every array, not negative."""
    if index.dtype != np.uint64:
        return cast(index, np.int64)
    return cast(FUNCTIONS["minimum"](index, np.uint64(2**63 - 1)), np.int64)


def _expanded(x: Node, entries: list[Any]) -> list[Any]:
    """Boolean masks as positions, and one entry for each axis of ``x``, where the ellipsis was and at the end."""
    taken = sum(_axes_taken(e) for e in entries)
    if taken > x.ndim:
        raise IndexingError(f"{here()}: too many indices: {taken} for the {x.ndim} dimensions of {describe(x)}")
    marks = [i for i, e in enumerate(entries) if e is Ellipsis]
    if len(marks) > 1:
        raise IndexingError(f"{here()}: an index can only have a single ellipsis ('...')")
    at = marks[0] if marks else len(entries)
    missing: list[Any] = [slice(None)] * (x.ndim - taken)
    result = entries[:at] + ([Ellipsis] if marks else []) + missing + entries[at + 1 :]
    return _masks_as_positions(x, result)


def _axes_taken(entry: Any) -> int:
    if entry is None or entry is Ellipsis:
        return 0
    return entry.ndim if isinstance(entry, np.ndarray) else len(entry) if isinstance(entry, tuple) else 1


def _masks_as_positions(x: Node, entries: list[Any]) -> list[Any]:
    axis, result = 0, []
    for entry in entries:
        if isinstance(entry, np.ndarray):
            _check_mask(entry, x, axis)
            axis += entry.ndim
            entry = tuple(p.astype(np.int64) for p in np.nonzero(entry))
        else:
            axis += _axes_taken(entry)
        result.append(entry)
    return result


def _check_mask(mask: np.ndarray[Any, Any], x: Node, axis: int) -> None:
    if mask.ndim == 0:
        raise IndexingError(
            f"{here()}: a single boolean is not an index here; use x[None] or np.where({bool(mask)}, …)"
        )
    covered = x.shape[axis : axis + mask.ndim]
    if mask.shape != covered:
        raise IndexingError(
            f"{here()}: a boolean index of shape {mask.shape} does not match the extents {covered} "
            f"of {describe(x)} from axis {axis}"
        )


# -- positions --------------------------------------------------------------------------------------------------------


def _static_slice(entry: slice, x: Node, axis: int) -> slice:
    """The slice with Python ints; TraceError for a traced bound."""
    bounds = (entry.start, entry.stop, entry.step)
    if any(isinstance(b, Node) for b in bounds):
        raise TraceError(
            f"{here()}: a slice of axis {axis} of {describe(x)} has a traced bound, so its length is unknown.\n"
            "  For a window of fixed length write  x[start + np.arange(length)]; else add the bound to static=."
        )
    start, stop, step = (None if b is None else _integer(b) for b in bounds)
    if step == 0:
        raise IndexingError(f"{here()}: slice step cannot be zero, on axis {axis} of {describe(x)}")
    return slice(start, stop, step)


def _one(entry: int, x: Node, axis: int) -> range:
    n = x.shape[axis]
    if not -n <= entry < n:
        raise IndexingError(f"{here()}: index {entry} is out of range for axis {axis} with size {n} of {describe(x)}")
    return range(entry % n, entry % n + 1)


def _in_range(positions: Positions, x: Node, axis: int) -> Positions:
    """Constant positions checked and made non-negative; traced ones are checked when they are run."""
    if isinstance(positions, Node):
        return positions
    n = x.shape[axis]
    bad = positions[(positions < -n) | (positions >= n)]
    if bad.size:
        raise IndexingError(
            f"{here()}: index {bad.flat[0]} is out of range for axis {axis} with size {n} of {describe(x)}"
        )
    return np.where(positions < 0, positions + n, positions)


def _joint_shape(arrays: dict[int, Positions], x: Node) -> Shape:
    if not arrays:
        return ()
    shapes = [a.shape for a in arrays.values()]
    try:
        return broadcast_shapes(shapes)
    except ValueError:
        shown = ", ".join(map(str, shapes))
        raise IndexingError(
            f"{here()}: index arrays of shapes {shown} do not broadcast together, on {describe(x)}"
        ) from None
