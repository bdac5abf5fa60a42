"""Sets of columns, each named by a number, and how they are written out as rows of a sparse matrix.

Set 0 is empty, set j + 1 holds column j alone, and each further set is the union of sets with smaller numbers.  What
the elements of an array depend on is then one or more arrays of numbers of the same shape (`Maps`), which views move as
they move any array: a slice, a transpose or a broadcast of a million elements costs nothing.  Unions are written down
when they arise and worked out when rows are asked for, only those that some row needs.
Start reading at `ColumnSets`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from gradc.aval import Shape
from gradc.errors import ShapeError

Numbers = np.ndarray[Any, np.dtype[np.int64]]
#: arrays of one shape; an element depends on the union of the sets that they name at its place
Maps = tuple[Numbers, ...]
#: the ends of rows, and what stands in them one row after another
Rows = tuple[Numbers, Numbers]

#: so many maps are carried along; of more, the unions are written down and one map is left
MOST_MAPS = 64
#: so many parts are laid each into a layer of its own before they are asked to share
MOST_LAYERS = 16
#: at so many elements two maps are compared before they are compared everywhere
SAMPLED = 64


class ColumnSets:
    """A table of sets over columns 0 … ``columns`` − 1; see the head of this file."""

    def __init__(self, columns: int):
        self.columns = columns
        self._starts = [columns + 1]  # the first number of each block, and of the one to come
        self._blocks: list[Rows] = []

    def singles(self, shape: Shape) -> Numbers:
        """The sets of single columns, as an array of ``shape``."""
        return np.arange(1, self.columns + 1).reshape(shape)

    def united(self, maps: Sequence[Numbers]) -> Maps:
        """One map that says at each place what ``maps`` say together; none if there is none."""
        maps = _distinct(maps)
        if len(maps) <= 1:
            return tuple(maps)
        members = np.stack([m.reshape(-1) for m in maps], 1)
        ends = np.arange(len(members) + 1) * len(maps)
        return (self.add((ends, members.reshape(-1))).reshape(maps[0].shape),)

    def together(self, maps: Sequence[Numbers], axes: Sequence[int]) -> Maps:
        """What the elements along ``axes`` depend on together: maps without these axes."""
        kept = [a for a in range(maps[0].ndim) if a not in axes] if maps else []
        parts = [m.transpose(*kept, *axes).reshape(*(m.shape[a] for a in kept), -1) for m in maps if m.size]
        if not parts:
            return ()
        members = np.concatenate(parts, -1)
        width = members.shape[-1]
        if width <= MOST_MAPS // 8:
            return self.joined([members[..., k] for k in range(width)])
        ends = np.arange(members[..., 0].size + 1) * width
        return (self.add((ends, members.reshape(-1))).reshape(members.shape[:-1]),)

    def joined(self, maps: Sequence[Numbers]) -> Maps:
        """``maps`` without what is there twice; one map, if there are too many."""
        found = _distinct(maps)
        return tuple(found) if len(found) <= MOST_MAPS else self.united(found)

    def add(self, rows: Rows) -> Numbers:
        """The numbers of new sets, each the union of the sets in a row."""
        start, count = self._starts[-1], len(rows[0]) - 1
        self._blocks.append(rows)
        self._starts.append(start + count)
        return np.arange(start, start + count)

    def rows(self, maps: Maps, size: int) -> Rows:
        """The columns of each of ``size`` elements, ascending; raises ShapeError if memory cannot hold them."""
        if not maps:
            return np.zeros(size + 1, np.int64), np.zeros(0, np.int64)
        members = np.stack([m.reshape(-1) for m in maps], 1)
        if members.max(initial=0) <= self.columns:
            return _of_singles(members)
        rows = np.arange(size + 1) * len(maps), members.reshape(-1)
        known: dict[int, tuple[Numbers, Rows]] = {}
        for block, needed in reversed(self._needed(rows[1])):
            places = np.zeros(self._starts[block + 1] - self._starts[block], np.int64)
            places[needed] = np.arange(len(needed))
            known[block] = places, self._worked_out(_taken(self._blocks[block], needed), known)
        return self._worked_out(rows, known)

    def _needed(self, members: Numbers) -> list[tuple[int, Numbers]]:
        """For each block that ``members`` lead to, the last one first: which of its sets they need."""
        pending, found = [members[members > self.columns]], []
        for block in range(len(self._blocks) - 1, -1, -1):
            start, end = self._starts[block], self._starts[block + 1]
            marks = np.zeros(end - start, bool)
            for numbers in pending:
                marks[numbers[(numbers >= start) & (numbers < end)] - start] = True
            needed = np.flatnonzero(marks)
            if len(needed):
                inner = _taken(self._blocks[block], needed)[1]
                pending.append(inner[inner > self.columns])
                found.append((block, needed))
        return found

    def _worked_out(self, rows: Rows, known: dict[int, tuple[Numbers, Rows]]) -> Rows:
        """``rows`` of numbers of sets as rows of columns; the sets in them are ``known``."""
        ends, members = rows
        count = len(ends) - 1
        row = np.repeat(np.arange(count), np.diff(ends))
        single = (members > 0) & (members <= self.columns)
        pieces = [(row[single], members[single] - 1)]
        large = members > self.columns
        holder = np.searchsorted(self._starts, members[large], "right") - 1
        for block in np.unique(holder):
            mine = holder == block
            places, inner = known[int(block)]
            chosen = places[members[large][mine] - self._starts[block]]
            lengths = np.diff(inner[0])[chosen]
            _fits_in_memory(int(lengths.sum()))
            pieces.append((np.repeat(row[large][mine], lengths), _taken(inner, chosen)[1]))
        return _sorted_rows(pieces, count, self.columns)


def _distinct(maps: Sequence[Numbers]) -> list[Numbers]:
    """Maps that say together what ``maps`` do, without what is there twice and without those that say nothing.

    Two that agree wherever both name a set are one: terms of a sum that were placed at different borders.
    """
    found: list[Numbers] = []
    for m in maps:
        if any(m is other for other in found) or not m.any():
            continue
        for k, other in enumerate(found):
            if _seem_to_agree(m, other) and _agree(m, other):
                found[k] = np.maximum(m, other)
                break
        else:
            found.append(m)
    return found


def lay(layers: list[Numbers], m: Numbers, place: tuple[slice, ...], shape: Shape) -> None:
    """Put ``m`` at ``place`` of one of ``layers`` of ``shape``: one that it agrees with there, or else a fresh one.

    Of many parts those that do not overlap share a layer.
    """
    for layer in layers:
        there = layer[place]
        if _seem_to_agree(m, there) and _agree(m, there):
            np.maximum(there, m, out=there)
            return
    if len(layers) > MOST_LAYERS:
        for layer in layers:
            if not layer[place].any():
                layer[place] = m
                return
    fresh = np.zeros(shape, np.int64)
    fresh[place] = m
    layers.append(fresh)


def _seem_to_agree(a: Numbers, b: Numbers) -> bool:
    """Whether two maps name the same set at one of some places, and other sets at none of them."""
    step = max(1, a.size // SAMPLED)
    left, right = a.flat[::step], b.flat[::step]
    both = (left > 0) & (right > 0)
    return bool((left == right)[both].all() and both.any())


def _agree(a: Numbers, b: Numbers) -> bool:
    """Whether two maps name the same set wherever both name one."""
    differ = a != b
    return not (differ.any() and (differ & (a > 0) & (b > 0)).any())


def _taken(rows: Rows, chosen: Numbers) -> Rows:
    """The ``chosen`` rows, one after another."""
    starts, lengths = rows[0][chosen], np.diff(rows[0])[chosen]
    ends = np.concatenate([[0], np.cumsum(lengths)])
    shift = np.repeat(starts - ends[:-1], lengths)
    return ends, rows[1][np.arange(ends[-1]) + shift]


def _of_singles(members: Numbers) -> Rows:
    """Rows of at most so many columns each as ``members`` has, with repetitions and empty sets among them."""
    ordered = np.sort(members, axis=1) if members.shape[1] > 1 else members
    fresh = ordered > 0
    fresh[:, 1:] &= ordered[:, 1:] != ordered[:, :-1]
    ends = np.concatenate([[0], np.cumsum(fresh.sum(1))])
    return ends, ordered[fresh] - 1


def _sorted_rows(pieces: Sequence[tuple[Numbers, Numbers]], count: int, columns: int) -> Rows:
    """Rows from pairs of a row and a column, in any order and with repetitions."""
    pieces = [(row, column) for row, column in pieces if len(row)]
    if not pieces:
        return np.zeros(count + 1, np.int64), np.zeros(0, np.int64)
    keys = np.concatenate([row * columns + column for row, column in pieces])
    ascending = keys[1:] > keys[:-1]
    if not ascending.all():
        keys.sort()
        keys = keys[np.concatenate([[True], keys[1:] != keys[:-1]])]
    row, column = np.divmod(keys, columns)
    return np.concatenate([[0], np.cumsum(np.bincount(row, minlength=count))]), column


def _fits_in_memory(entries: int) -> None:
    """Refuse what no memory of this machine can hold, before the system ends the process for it."""
    if not hasattr(os, "sysconf"):
        return
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if entries * 32 > memory:  # row, column and key of each, and the sorted copy
        raise ShapeError(
            f"the pattern has up to {entries:,} entries, more than memory can hold: the derivative is not sparse. "
            "Use gc.jvp or gc.vjp, which never store it"
        )
