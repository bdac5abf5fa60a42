"""Matrix products and correlations by blocks of threads.

Enters: a `Problem`.  Leaves: a `Step`.
Tiles of both operands lie in shared memory, a tile of the result in registers.
Each element of the result is one thread's sum along k in order, by fused multiply-add, so it has the same bits
whatever the device.  Rows and columns past the edge read the last one again and are not stored; past the end of k both
operands are zero.  While a tile is multiplied the next ones are on their way: by asynchronous copies straight into
shared memory where the device has them and the element has 4 or 8 bytes, else through registers.
Start reading at `ProductStep.emit`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from gradc.codegen import memory
from gradc.codegen.builder import Builder
from gradc.codegen.ir import Lanes, Value, const
from gradc.codegen.ptx.each import aligned_rows
from gradc.codegen.ptx.problem import Problem, Side, Walk, place_in, size
from gradc.codegen.ptx.step import DeviceScalars, blocks
from gradc.codegen.ptx.target import Gpu
from gradc.codegen.ptx.thread import Thread
from gradc.codegen.ptx.tile import Tile, access_width, tile_for
from gradc.codegen.scalars import Point
from gradc.schedule.kernel import Total

#: Tiles in shared memory: one is multiplied while the others arrive.
STAGES = 3
#: Elements between the rows of a tile in shared memory beyond its width: neighbouring rows start in other banks.
PAD = 4


@dataclass(frozen=True, slots=True)
class _Operand:
    """One operand: where it is, its own axis (rows or columns) and the summed one, and the width of its tile.

    ``vector`` elements of the own axis are copied at once.
    """

    side: Side
    own: Walk
    deep: Walk
    width: int
    vector: int

    @property
    def extent(self) -> int:
        return size(self.own)

    @property
    def own_is_near(self) -> bool:
        """Whether neighbours along its own axis lie nearer than neighbours along the summed one."""
        own, deep = (abs(walk[-1][1]) if walk else 0 for walk in (self.own, self.deep))
        return own <= deep or deep == 0


class ProductStep:
    """A block for each tile of the result and each batch index."""

    title = "product"
    scratch_bytes = 0
    #: One block on a multiprocessor is enough: left alone, ptxas may spill to make room for a second.
    attributes = '"nvvm.minctasm"="1"'

    def __init__(self, p: Problem, gpu: Gpu):
        self.p, self.gpu = p, gpu
        self.tile: Tile = tile_for(p.m, p.n, p.batch, p.dtype)
        self.access = access_width(p.dtype)
        self.tiles_n = blocks(p.n, self.tile.bn)
        self.tiles = blocks(p.m, self.tile.bm) * self.tiles_n
        self.grid, self.block = self.tiles * p.batch, self.tile.threads
        self.left = self._operand(p.left, p.left.first, p.left.second, self.tile.bm)
        self.right = self._operand(p.right, p.right.second, p.right.first, self.tile.bn)
        self.asynchronous = gpu.copies_asynchronously and np.dtype(p.dtype).itemsize in (4, 8)
        self.lanes = self._store_width()

    def _operand(self, side: Side, own: Walk, deep: Walk, width: int) -> _Operand:
        """Several elements are copied at once where they are neighbours in memory, and start aligned."""
        vector = self.access if _in_rows(side, own, self.access) else 1
        if width * self.tile.bk // vector % self.tile.threads:
            vector = 1
        return _Operand(side, own, deep, width, vector)

    def _store_width(self) -> int:
        """Neighbouring columns that are finished and stored at once."""
        p, width = self.p, self.access
        if not _in_rows(p.out, p.out.second, width):
            return 1
        e = p.epilogue
        return width if e is None or aligned_rows(e.nest, e.column, width) else 1

    # -- the kernel --------------------------------------------------------------------------------------------------
    def emit(self, thread: Thread, slots: Sequence[str], scratch: str, status: str) -> None:
        self.thread, self.f, self.b = thread, thread.f, thread.b
        self.slots, self.status = slots, status
        b, t = self.b, thread.number()
        across = self.tile.bn // self.tile.tn
        self.tx, self.ty, self.t = b.irem(t, across), b.idiv(t, across), t
        block = thread.block()
        tile, self.batch_number = (b.irem(block, self.tiles), b.idiv(block, self.tiles))
        self.row0 = b.mul(b.idiv(tile, self.tiles_n), self.tile.bm)
        self.column0 = b.mul(b.irem(tile, self.tiles_n), self.tile.bn)
        self.bases = [self._base(operand.side) for operand in (self.left, self.right)]
        self.sizes = [self.tile.bk * (side.width + PAD) for side in (self.left, self.right)]
        count = STAGES if self.asynchronous else 2
        self.shared = [thread.shared(self.p.dtype, count * size, k) for k, size in enumerate(self.sizes)]
        sums = self._by_copies() if self.asynchronous else self._by_registers()
        self._finish(sums)

    def _base(self, side: Side) -> str:
        """The first element of an array at this block's batch index."""
        total = self.b.add(place_in(self.b, side.batch, self.batch_number), side.offset)
        return memory.offset_pointer(self.f, self.slots[side.slot], total, self.p.dtype)

    @property
    def steps(self) -> int:
        """Tiles along k."""
        return blocks(self.p.k, self.tile.bk)

    def _zeros(self) -> list[Value]:
        return [const(0, self.p.dtype)] * (self.tile.tm * self.tile.tn)

    # -- bringing tiles ----------------------------------------------------------------------------------------------
    def _by_copies(self) -> list[Value]:
        """Two tiles ahead, by asynchronous copies; a barrier for each tile."""
        b, thread = self.b, self.thread
        for ahead in range(STAGES - 1):
            if ahead < self.steps:
                self._copy(const(ahead, "int64"), const(ahead, "int64"))
            thread.commit_copies()
        carry = [const(0, "int64"), const(STAGES - 1, "int64"), *self._zeros()]
        with self.f.loop(0, self.steps, carry=carry) as loop:
            here, there, *sums = loop.carry
            thread.wait_for_copies(STAGES - 2)
            thread.barrier()
            with self.f.when(b.lt(loop.index, self.steps - STAGES + 1)):
                self._copy(b.add(loop.index, STAGES - 1), there)
            thread.commit_copies()
            loop.next = [self._after(here, STAGES), self._after(there, STAGES), *self._multiplied(here, sums)]
        return loop.result[2:]

    def _by_registers(self) -> list[Value]:
        """One tile ahead, in registers; a barrier for each tile."""
        self._put(self._fetched(const(0, "int64")), const(0, "int64"))
        self.thread.barrier()
        with self.f.loop(0, self.steps, carry=[const(0, "int64"), *self._zeros()]) as loop:
            here, *sums = loop.carry
            fetched = self._fetched(self.b.add(loop.index, 1))
            sums = self._multiplied(here, sums)
            there = self._after(here, 2)
            self._put(fetched, there)
            self.thread.barrier()
            loop.next = [there, *sums]
        return loop.result[1:]

    def _after(self, stage: Value, count: int) -> Value:
        b = self.b
        return b.select(b.eq(stage, count - 1), 0, b.add(stage, 1))

    def _places(self, which: int) -> list[tuple[Value, Value]]:
        """(own, deep) inside the tile of each copy that this thread makes."""
        side, b, bk = (self.left, self.right)[which], self.b, self.tile.bk
        near = side.width // side.vector if side.own_is_near else bk
        count = side.width * bk // side.vector // self.tile.threads
        found = []
        for k in range(max(1, count)):
            number = b.add(self.t, k * self.tile.threads)
            low, high = b.irem(number, near), b.idiv(number, near)
            own, deep = (b.mul(low, side.vector), high) if side.own_is_near else (high, low)
            found.append((b.convert(own, "int64"), b.convert(deep, "int64")))
        return found

    def _source(self, which: int, own: Value, depth: Value) -> str:
        """The element of the operand at ``own`` of this block's tile and at ``depth``; past an edge the last one."""
        side, b = (self.left, self.right)[which], self.b
        first = b.convert((self.row0, self.column0)[which], "int64")
        place = b.add(first, own)
        if side.extent % side.width:
            place = b.min(place, side.extent - side.vector)
        offset = b.add(place_in(b, side.own, place), place_in(b, side.deep, depth))
        return memory.offset_pointer(self.f, self.bases[which], offset, self.p.dtype)

    def _shared_place(self, which: int, stage: Value, own: Value, deep: Value) -> Value:
        side, b = (self.left, self.right)[which], self.b
        return b.add(b.mul(stage, self.sizes[which]), b.add(b.mul(deep, side.width + PAD), own))

    def _copy(self, step: Value, stage: Value) -> None:
        b, k = self.b, self.p.k
        for which, side in enumerate((self.left, self.right)):
            for own, deep in self._places(which):
                depth = b.add(b.mul(step, self.tile.bk), deep)
                inside = b.lt(depth, k) if k % self.tile.bk else None
                source = self._source(which, own, b.min(depth, k - 1) if inside is not None else depth)
                at = memory.offset_pointer(
                    self.f, self.shared[which], self._shared_place(which, stage, own, deep), self.p.dtype
                )
                self.thread.copy(at, source, np.dtype(self.p.dtype).itemsize * side.vector, inside)

    def _fetched(self, step: Value) -> list[list[Value]]:
        """This thread's part of a tile, in registers; what lies past the end of k is zero."""
        b, k = self.b, self.p.k
        found: list[list[Value]] = [[], []]
        for which, side in enumerate((self.left, self.right)):
            many = Lanes(self.f, side.vector)
            for own, deep in self._places(which):
                depth = b.add(b.mul(step, self.tile.bk), deep)
                source = self._source(which, own, b.min(depth, k - 1))
                value = memory.load(self.f, source, self.p.dtype, side.vector, aligned=True)
                if k % self.tile.bk:
                    value = many.select(many.splat(b.lt(depth, k)), value, 0)
                found[which].append(value)
        return found

    def _put(self, fetched: list[list[Value]], stage: Value) -> None:
        for which, values in enumerate(fetched):
            for (own, deep), value in zip(self._places(which), values, strict=True):
                place = self._shared_place(which, stage, own, deep)
                at = memory.offset_pointer(self.f, self.shared[which], place, self.p.dtype)
                memory.store(self.f, value, at, aligned=True)

    # -- multiplying -------------------------------------------------------------------------------------------------
    def _multiplied(self, stage: Value, sums: Sequence[Value]) -> list[Value]:
        """The tile at ``stage`` multiplied and added to ``sums``, k after k."""
        b = Builder(self.f)
        result = list(sums)
        for deep in range(self.tile.bk):
            rows = self._fragment(0, stage, deep, self.ty, self.tile.tm)
            columns = self._fragment(1, stage, deep, self.tx, self.tile.tn)
            for i, x in enumerate(rows):
                for j, y in enumerate(columns):
                    at = i * self.tile.tn + j
                    result[at] = b.fma(x, y, result[at]) if x.is_float else b.add(result[at], b.mul(x, y))
        return result

    def _fragment(self, which: int, stage: Value, deep: int, number: Value, count: int) -> list[Value]:
        """The elements of row ``deep`` of a tile that thread ``number`` of its axis multiplies."""
        found = []
        for group in range(count // self.access):
            own = self.b.convert(self._first(which, number, group), "int64")
            place = self._shared_place(which, stage, own, const(deep, "int64"))
            at = memory.offset_pointer(self.f, self.shared[which], place, self.p.dtype)
            vector = memory.load(self.f, at, self.p.dtype, self.access, aligned=True)
            found += [_lane(self.thread, vector, k) for k in range(self.access)]
        return found

    def _first(self, which: int, number: Value, group: int) -> Value:
        """Where the ``group``-th run of neighbouring elements of a thread begins in the tile."""
        side, count = (self.left, self.right)[which], (self.tile.tm, self.tile.tn)[which]
        apart = side.width // (count // self.access)
        return self.b.add(self.b.mul(number, self.access), group * apart)

    # -- finishing ---------------------------------------------------------------------------------------------------
    def _finish(self, sums: Sequence[Value]) -> None:
        """Apply the epilogue and store, ``lanes`` neighbouring columns at a time."""
        b, tile = self.b, self.tile
        rows_whole, columns_whole = self.p.m % tile.bm == 0, self.p.n % tile.bn == 0
        self.out = self._base(self.p.out)
        for i in range(tile.tm):
            row = b.add(self._first(0, self.ty, i // self.access), i % self.access)
            row = b.convert(b.add(self.row0, row), "int64")
            row_fits = None if rows_whole else b.lt(row, self.p.m)
            for j in range(0, tile.tn, self.lanes):
                column = b.add(self._first(1, self.tx, j // self.access), j % self.access)
                column = b.convert(b.add(self.column0, column), "int64")
                fits = row_fits
                if not columns_whole:
                    inside = b.lt(column, self.p.n)
                    fits = inside if fits is None else b.and_(fits, inside)
                value = _gathered(self.thread, sums[i * tile.tn + j : i * tile.tn + j + self.lanes])
                if fits is None:
                    self._store(value, row, column)
                else:
                    with self.f.when(fits):
                        self._store(value, row, column)

    def _store(self, value: Value, row: Value, column: Value) -> None:
        b, out = self.b, self.p.out
        if self.p.epilogue is not None:
            finished = self._epilogue(value, row, column)
            if finished is None:
                return
            value = finished
        offset = b.add(place_in(b, out.first, row), place_in(b, out.second, column))
        memory.store(self.f, value, memory.offset_pointer(self.f, self.out, offset, self.p.dtype), aligned=True)

    def _epilogue(self, value: Value, row: Value, column: Value) -> Value | None:
        """What the epilogue makes of the elements, its own stores done; None where it stores the result itself."""
        e = self.p.epilogue
        assert e is not None
        scalars = DeviceScalars(self.f, replace(e.nest, lanes=self.lanes, packs=()), self.slots, self.status)
        scalars.aligned = True
        batch = self.b.convert(self.batch_number, "int64")
        place = ((e.batch, batch), (e.row, row), (e.column, column))
        point = Point({var: v for var, v in place if var is not None})
        (element,) = (k for k, x in enumerate(e.nest.code) if isinstance(x, Total))
        scalars.set(element, value, point)
        (stage,) = e.nest.stages
        scalars.advance(e.nest.needed(stage), point)
        for store in stage.stores:
            scalars.store(store, point)
        return value if e.result < 0 else None


def _in_rows(side: Side, walk: Walk, width: int) -> bool:
    """Whether runs of ``width`` elements along ``walk`` are neighbours that start at a multiple of ``width``."""
    if not walk or walk[-1][1] != 1 or walk[-1][0] % width:
        return False
    others = [s for w in (side.batch, side.first, side.second) if w is not walk for _, s in w]
    others += [s for _, s in walk[:-1]]
    return side.offset % width == 0 and all(s % width == 0 for s in others)


def _lane(thread: Thread, vector: Value, k: int) -> Value:
    if vector.lanes == 1:
        return vector
    return Value(thread.f.let(f"extractelement {vector.typed}, i64 {k}"), vector.dtype)


def _gathered(thread: Thread, values: Sequence[Value]) -> Value:
    """Scalars as the lanes of a vector."""
    if len(values) == 1:
        return values[0]
    type_ = Value("", values[0].dtype, len(values)).type
    ref = "poison"
    for k, v in enumerate(values):
        ref = thread.f.let(f"insertelement {type_} {ref}, {v.typed}, i64 {k}")
    return Value(ref, values[0].dtype, len(values))
