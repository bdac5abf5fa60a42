"""Sorting and searching by many threads, in NumPy's order (`gradc.codegen.order`).

Enters: `Sort` and `Search` of a schedule.  Leaves: steps.
A sort merges runs of 1, 2, 4, … positions, one launch for each doubling: every element finds its own place, which is
its place in its run and the number of elements of the neighbouring run that come before it, by binary search.  So all
elements of all rows move at once, none is compared with itself, and equal ones keep their order.
Start reading at `sort_steps`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from gradc.codegen.ir import Function, Lanes, Value, const
from gradc.codegen.memory import load, offset_pointer, store
from gradc.codegen.order import less, place_in
from gradc.codegen.ptx.step import Step, blocks, global_number, spread, threads_for
from gradc.codegen.ptx.thread import Thread
from gradc.codegen.scalars import Point
from gradc.schedule.affine import Var
from gradc.schedule.kernel import Search, Sort


class _OneEach:
    """A thread for each of ``total`` elements."""

    title = "order"
    scratch_bytes = 0
    attributes = ""

    def __init__(self, total: int):
        self.total = total
        self.block = threads_for(total)
        self.grid = blocks(total, self.block)

    def emit(self, thread: Thread, slots: Sequence[str], scratch: str, status: str) -> None:
        number = thread.b.convert(global_number(thread, self.block, self.total), "int64")
        with thread.f.when(thread.b.lt(number, self.total)):
            self.element(thread.f, number, slots, scratch)

    def element(self, f: Function, number: Value, slots: Sequence[str], scratch: str) -> None:
        raise AssertionError("each step has its own")


# -- argsort -----------------------------------------------------------------------------------------------------------


def sort_steps(sort: Sort) -> list[Step]:
    """One step for each doubling of the runs."""
    levels = (sort.length - 1).bit_length()
    return [_Merge(sort, level, levels) for level in range(max(1, levels))]


class _Merge(_OneEach):
    """Runs of 2^level positions merged in pairs; the first level starts from the identity, the last one writes out.

    Scratch holds two arrays of positions in their rows, which the levels write in turn.
    """

    title = "argsort"

    def __init__(self, sort: Sort, level: int, levels: int):
        self.rows = math.prod(n for n, _ in sort.rows)
        super().__init__(self.rows * sort.length)
        self.sort, self.level, self.last = sort, level, level >= levels - 1
        self.kept = "int32" if sort.length < 2**31 else "int64"
        self.scratch_bytes = 2 * self.total * (4 if self.kept == "int32" else 8)

    def element(self, f: Function, number: Value, slots: Sequence[str], scratch: str) -> None:
        b, n = Lanes(f), self.sort.length
        row, at = b.idiv(number, n), b.irem(number, n)
        start = self._start(b, row)
        self.f, self.b, self.scratch = f, b, scratch
        self.keys = offset_pointer(f, slots[self.sort.source], start, self.sort.dtype)
        self.first = b.mul(row, n)
        width = 1 << self.level
        low = b.mul(b.idiv(at, 2 * width), 2 * width)
        middle = b.min(b.add(low, width), n)
        high = b.min(b.add(low, 2 * width), n)
        left = b.lt(at, middle)
        position = self._position(at)
        before = self._before(self._key(position), left, b.select(left, middle, low), b.select(left, high, middle))
        place = b.add(before, b.select(left, at, b.sub(at, middle)))
        out = offset_pointer(f, slots[self.sort.out], start, "int64")
        if self.last:
            store(f, position, offset_pointer(f, out, b.mul(place, self.sort.step), "int64"))
        else:
            store(f, b.convert(position, self.kept), self._kept(place, (self.level + 1) % 2))

    def _start(self, b: Lanes, row: Value) -> Value:
        """Where the row begins in its array."""
        variables = [Var(k, n) for k, (n, _) in enumerate(self.sort.rows)]
        point = spread(b, row, variables, Point())
        total: Value = const(0, "int64")
        for var, (_, stride) in zip(variables, self.sort.rows, strict=True):
            total = b.add(total, b.mul(point.variables[var], stride))
        return total

    def _kept(self, at: Value, half: int) -> str:
        place = self.b.add(self.b.add(self.first, at), half * self.total)
        return offset_pointer(self.f, self.scratch, place, self.kept)

    def _position(self, at: Value) -> Value:
        """The position that stands at ``at`` of the row before this level."""
        if self.level == 0:
            return at
        return self.b.convert(load(self.f, self._kept(at, self.level % 2), self.kept), "int64")

    def _key(self, position: Value) -> Value:
        dtype = self.sort.dtype
        return load(self.f, offset_pointer(self.f, self.keys, self.b.mul(position, self.sort.step), dtype), dtype)

    def _before(self, key: Value, left: Value, start: Value, stop: Value) -> Value:
        """``start`` … less the start: how many of the other run come before the key; equal ones do if they are left."""
        b = self.b
        with self.f.loop(0, self.level + 1, carry=[start, stop]) as loop:
            low, high = loop.carry
            middle = b.shr(b.add(low, high), 1)
            other = self._key(self._position(b.min(middle, self.sort.length - 1)))
            earlier = b.select(left, less(b, other, key), b.not_(less(b, key, other)))
            open_ = b.lt(low, high)
            loop.next = [
                b.select(b.and_(open_, earlier), b.add(middle, 1), low),
                b.select(b.and_(open_, b.not_(earlier)), middle, high),
            ]
        low = loop.result[0]
        # A left element's own run lies before the other run, so what was counted comes on top of its place there.
        return b.select(left, b.sub(low, start), low)


# -- searchsorted ------------------------------------------------------------------------------------------------------


class Lookups(_OneEach):
    """A thread for each value that is searched."""

    title = "search"

    def __init__(self, search: Search):
        super().__init__(search.rows * search.per_row)
        self.search = search

    def element(self, f: Function, number: Value, slots: Sequence[str], scratch: str) -> None:
        b, search = Lanes(f), self.search
        row = b.idiv(number, search.per_row)
        table = offset_pointer(f, slots[search.table], b.mul(row, search.length), search.dtype)
        value = load(f, offset_pointer(f, slots[search.values], number, search.dtype), search.dtype)
        store(f, place_in(f, search, table, value), offset_pointer(f, slots[search.out], number, "int64"))
