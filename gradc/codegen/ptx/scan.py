"""Running sums and products along long rows, by many threads.

Enters: a `Nest` of one scan.  Leaves: one `Step`, or two where too few rows would leave the device idle: the first then
finds the total of each *part* of a row, the second scans all parts at once, each from the total of those before it.

*Along* the row, where its elements are neighbours, a block takes a stretch of it at a time: each thread the running
totals of its own vector, a warp those of its threads by shuffles (Hillis and Steele), the block those of its warps in
shared memory; what came before is added last.  *Across* rows, neighbouring threads work for neighbouring rows, and each
walks its part in order.

The order of a sum follows from shapes and dtypes alone: the same bits in every run.  It is not that of the CPU, which
adds one element after the other, so the last bits differ; with P parts and T threads the error of element i is at most
(n/(P·T) + n/(P·T·V) + 32) · eps · Σ|x₀ … xᵢ| along rows of n, in vectors of V, where in order it is i · eps · Σ.
Start reading at `scan_steps`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from gradc.codegen import memory
from gradc.codegen.ir import Value
from gradc.codegen.ptx.each import VECTOR_BYTES, Each, accesses, in_row
from gradc.codegen.ptx.step import BLOCK, DeviceScalars, Step, blocks, global_number, spread, threads_for
from gradc.codegen.ptx.target import WARP
from gradc.codegen.ptx.thread import Thread
from gradc.codegen.reducers import Combining
from gradc.codegen.scalars import Point
from gradc.schedule.kernel import Bounded, Lookup, Nest

#: Rows shorter than this are walked by one thread each.
SHORTEST_ROW = WARP
#: Threads that keep a device busy; with fewer, rows are cut into parts: of at least so many steps of each thread.
BUSY, SHORTEST_PART = 1 << 16, 4
#: At most so many parts of a row: one for each thread that adds up their totals, or for a thread to add up in order.
MOST_ALONG, MOST_ACROSS, SHORTEST_ACROSS = BLOCK, 64, 64
ALIGN = 64


def scan_steps(nest: Nest, title: str) -> list[Step]:
    """The steps of a nest with a scan."""
    (stage, *others) = nest.stages
    if others or stage.scan is None or len(stage.inner) != 1 or stage.stores or stage.scan.store.how != "set":
        return [Each(nest, title)]
    rows, (var,) = math.prod(v.extent for v in nest.outer), stage.inner
    if stage.scan.store.offset.coefficient(var) not in (1, -1) and nest.outer:
        parts = min(BUSY // rows, var.extent // SHORTEST_ACROSS, MOST_ACROSS)
        return [Totals(nest, title, parts), Scanned(nest, title, parts)] if parts > 1 else [Each(nest, title)]
    if var.extent < SHORTEST_ROW:
        return [Each(nest, title)]
    steps = blocks(var.extent, _threads(nest) * _width(nest))
    parts = min(BUSY // (rows * _threads(nest)), steps // SHORTEST_PART, MOST_ALONG)
    if parts <= 1:
        return [ScannedAlong(nest, title, 1)]
    return [TotalsAlong(nest, title, parts), ScannedAlong(nest, title, parts)]


def _width(nest: Nest) -> int:
    """Neighbouring elements of the row that a thread takes at once."""
    (var,) = nest.stages[0].inner
    if any(isinstance(x, Lookup | Bounded) for x in nest.code):
        return 1
    width = min(4, VECTOR_BYTES // max(np.dtype(dtype).itemsize for _, dtype in accesses(nest)))
    while width > 1 and (var.extent % width or not all(in_row(f, var, width) for f, _ in accesses(nest))):
        width //= 2
    return width


def _threads(nest: Nest) -> int:
    """Threads of a block along the row: a power of two, whole warps."""
    (var,) = nest.stages[0].inner
    return min(BLOCK, max(WARP, 1 << (blocks(var.extent, _width(nest)) - 1).bit_length()))


class _Scan:
    """What all steps share: the row, the part, and the arithmetic."""

    attributes = ""
    suffix = ""

    def __init__(self, nest: Nest, title: str, parts: int, width: int):
        (self.stage,) = nest.stages
        assert self.stage.scan is not None
        self.scan, (self.var,) = self.stage.scan, self.stage.inner
        self.title, self.parts, self.width = title + self.suffix, parts, width
        self.nest = replace(nest, lane=self.var, lanes=width, packs=())
        self.rows = math.prod(v.extent for v in nest.outer)
        self.dtype = nest.code[self.scan.value].dtype
        totals = self.rows * parts * np.dtype(self.dtype).itemsize if parts > 1 else 0
        self.scratch_bytes = blocks(totals, ALIGN) * ALIGN

    def start(self, thread: Thread, slots: Sequence[str], status: str) -> None:
        self.thread, self.f, self.b = thread, thread.f, thread.b
        self.s = DeviceScalars(self.f, self.nest, slots, status)
        self.s.aligned = True
        self.needed = self.nest.needed(self.stage)
        self.running = Combining(self.scan.op, self.f, self.dtype, self.dtype, 1)
        (self.nothing,) = self.running.start()

    def row_point(self, row: Value) -> Point:
        outside = Point()
        self.s.advance(self.needed, outside)
        inside = spread(self.b, row, self.nest.outer, outside)
        self.s.advance(self.needed, inside)
        return inside

    def join(self, x: Value, y: Value) -> Value:
        (joined,) = self.running.join((x,), (y,))
        return joined

    def elements(self, index: Value, row: Point) -> tuple[list[Value], Point]:
        """The vector at ``index``, and its place."""
        point = row.at(self.var, index)
        self.s.advance(self.needed, point)
        value = self.s.value(self.scan.value, point, self.width > 1)
        return [self.thread.lane(value, k) for k in range(self.width)], point

    def total_at(self, scratch: str, row: Value, part: Value) -> str:
        """Where the total of a part is kept: neighbours are those of one row, or of one part."""
        b = self.b
        place = b.add(b.mul(part, self.rows), row) if isinstance(self, _Across) else b.add(b.mul(row, self.parts), part)
        return memory.offset_pointer(self.f, scratch, b.convert(place, "int64"), self.dtype)


# -- across rows -------------------------------------------------------------------------------------------------------


class _Across(_Scan):
    """A thread for each part of each row."""

    def __init__(self, nest: Nest, title: str, parts: int):
        super().__init__(nest, title, parts, 1)
        self.total = self.rows * parts
        self.block = threads_for(self.total)
        self.grid = blocks(self.total, self.block)
        self.length = blocks(self.var.extent, parts)

    def emit(self, thread: Thread, slots: Sequence[str], scratch: str, status: str) -> None:
        self.start(thread, slots, status)
        number = global_number(thread, self.block, self.total)
        inside = self.b.lt(number, self.total) if self.total % self.block else None
        thread.guarded(inside, lambda: self.walk(number, scratch))

    def walk(self, number: Value, scratch: str) -> None:
        row, part = self.b.irem(number, self.rows), self.b.idiv(number, self.rows)
        begin = self.b.mul(self.b.convert(part, "int64"), self.length)
        self.part_of(row, part, begin, self.b.min(self.b.add(begin, self.length), self.var.extent), scratch)

    def part_of(self, row: Value, part: Value, begin: Value, end: Value, scratch: str) -> None:
        raise AssertionError("each step has its own")


class Totals(_Across):
    """The first step across rows: the total of each part."""

    suffix = "_parts"

    def part_of(self, row: Value, part: Value, begin: Value, end: Value, scratch: str) -> None:
        point = self.row_point(row)
        with self.f.loop(begin, end, carry=[self.nothing]) as loop:
            (x,), _ = self.elements(loop.index, point)
            loop.next = [self.join(loop.carry[0], x)]
        memory.store(self.f, loop.result[0], self.total_at(scratch, row, part))


class Scanned(_Across):
    """The second step across rows: each part from the total of those before it."""

    def part_of(self, row: Value, part: Value, begin: Value, end: Value, scratch: str) -> None:
        point = self.row_point(row)
        with self.f.loop(0, self.b.convert(part, "int64"), carry=[self.nothing]) as before:
            at = self.total_at(scratch, self.b.convert(row, "int64"), before.index)
            earlier = memory.load(self.f, at, self.dtype)
            before.next = [self.join(before.carry[0], earlier)]
        with self.f.loop(begin, end, carry=[before.result[0]]) as loop:
            (x,), place = self.elements(loop.index, point)
            loop.next = [self.join(loop.carry[0], x)]
            self.s.write_scan(self.scan.store, loop.next[0], place)


# -- along rows --------------------------------------------------------------------------------------------------------


class _Along(_Scan):
    """A block for each part of each row."""

    def __init__(self, nest: Nest, title: str, parts: int):
        super().__init__(nest, title, parts, _width(nest))
        self.block = _threads(nest)
        self.stride = self.block * self.width
        self.grid = self.rows * parts
        self.length = blocks(blocks(self.var.extent, self.stride), parts) * self.stride

    def emit(self, thread: Thread, slots: Sequence[str], scratch: str, status: str) -> None:
        self.start(thread, slots, status)
        b, self.t, block = self.b, thread.number(), thread.block()
        self.row, self.part = b.idiv(block, self.parts), b.irem(block, self.parts)
        self.first = b.mul(b.convert(self.t, "int64"), self.width)
        begin = b.mul(b.convert(self.part, "int64"), self.length)
        end = b.min(b.add(begin, self.length), self.var.extent)
        self.part_of(begin, end, scratch)

    def part_of(self, begin: Value, end: Value, scratch: str) -> None:
        raise AssertionError("each step has its own")

    def over_block(self, x: Value) -> tuple[Value, Value]:
        """The total of the values of all threads before this one, and of all."""
        b, thread = self.b, self.thread
        lane, warp, warps = b.and_(self.t, WARP - 1), b.shr(self.t, 5), self.block // WARP
        for distance in (1, 2, 4, 8, 16):
            earlier = self.join(thread.from_lane_above(x, distance), x)
            x = b.select(b.ge(lane, distance), earlier, x)
        before = b.select(b.eq(lane, 0), self.nothing, thread.from_lane_above(x, 1))
        kept = thread.shared(self.dtype, warps)
        thread.barrier()  # what was there before has been read

        def keep() -> None:
            memory.store(self.f, x, memory.offset_pointer(self.f, kept, b.convert(warp, "int64"), self.dtype))

        thread.guarded(b.eq(lane, WARP - 1), keep)
        thread.barrier()
        total, of_warps = self.nothing, self.nothing
        for k in range(warps):
            of_warps = b.select(b.eq(warp, k), total, of_warps)
            at = memory.offset_pointer(self.f, kept, k, self.dtype)
            total = self.join(total, memory.load(self.f, at, self.dtype))
        return self.join(of_warps, before), total


class TotalsAlong(_Along):
    """The first step along rows: the total of each part."""

    suffix = "_parts"

    def part_of(self, begin: Value, end: Value, scratch: str) -> None:
        point = self.row_point(self.row)
        with self.f.loop(self.b.add(begin, self.first), end, self.stride, carry=[self.nothing]) as loop:
            elements, _ = self.elements(loop.index, point)
            total = loop.carry[0]
            for x in elements:
                total = self.join(total, x)
            loop.next = [total]
        _, total = self.over_block(loop.result[0])
        at = self.total_at(scratch, self.row, self.part)
        self.thread.guarded(self.b.eq(self.t, 0), lambda: memory.store(self.f, total, at))


class ScannedAlong(_Along):
    """The only step along rows, or the second one: each part from the total of those before it."""

    def part_of(self, begin: Value, end: Value, scratch: str) -> None:
        start = self._before(scratch) if self.parts > 1 else self.nothing
        point = self.row_point(self.row)
        with self.f.loop(begin, end, self.stride, carry=[start]) as loop:
            loop.next = [self._stretch(loop.index, end, loop.carry[0], point)]

    def _before(self, scratch: str) -> Value:
        """The total of all parts before this one, the same in every thread."""
        b = self.b
        place = self.total_at(scratch, self.row, b.min(self.t, self.parts - 1))
        earlier = memory.load(self.f, place, self.dtype)
        return self.over_block(b.select(b.lt(self.t, self.part), earlier, self.nothing))[1]

    def _stretch(self, start: Value, end: Value, before: Value, point: Point) -> Value:
        """A vector of each thread, from ``start`` on; returns the total behind it."""
        b = self.b
        index = b.add(start, self.first)
        inside = b.lt(index, end)
        elements, place = self.elements(b.min(index, self.var.extent - self.width), point)
        running: list[Value] = []
        for x in elements:
            x = b.select(inside, x, self.nothing)
            running.append(self.join(running[-1], x) if running else x)
        earlier, total = self.over_block(running[-1])
        first = self.join(before, earlier)
        values = self.thread.vector([self.join(first, x) for x in running])
        self.thread.guarded(inside, lambda: self.s.write_scan(self.scan.store, values, place))
        return self.join(before, total)
