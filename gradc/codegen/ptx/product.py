"""Matrix products and correlations by blocks of threads.

Enters: a `Problem`.  Leaves: a `Step`.
Tiles of both operands lie in shared memory (`feed`), a tile of the result in registers, multiplied by single threads
(`simt`) or by warps on tensor cores (`mma`); each sum goes through the epilogue and out (`finish`).  Which sums belong
together, and their order, follow from shapes and the target alone.  Start reading at `ProductStep.emit`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Protocol

import numpy as np

from gradc.codegen import memory
from gradc.codegen.ir import Lanes, Value, const
from gradc.codegen.ptx.feed import Feed, Supply
from gradc.codegen.ptx.finish import Finish, store_width
from gradc.codegen.ptx.mma import Mma, fragment_for
from gradc.codegen.ptx.operand import Operand, Shelf, operand_of
from gradc.codegen.ptx.problem import Problem, Side, Walk, place_in
from gradc.codegen.ptx.simt import Simt
from gradc.codegen.ptx.step import Step, blocks, global_number, spread, threads_for
from gradc.codegen.ptx.target import Gpu
from gradc.codegen.ptx.thread import Thread
from gradc.codegen.ptx.tile import Tile
from gradc.codegen.scalars import Point
from gradc.schedule.affine import Var

#: Rows of tiles through which neighbouring blocks go before they go on to the next column.
BAND = 8


class Arithmetic(Protocol):
    """How a block multiplies its tiles.

    Tiles in shared memory have ``dtype``; ``run`` neighbouring columns of the result are one thread's; up to ``copied``
    elements are copied at once; the summed axis is cut into ``parts``.
    """

    title: str
    dtype: str
    stages: int
    tile: Tile
    parts: int
    threads: int
    run: int
    copied: int

    def as_read(self, side: Side) -> Side:
        """An operand as what its elements are read as."""

    def shelf(self, width: int, own: Walk, deep: Walk) -> Shelf:
        """How a tile of an operand lies in shared memory."""

    def start(self, thread: Thread, feed: Feed) -> None:
        """Find the thread's place in the tile."""

    def zeros(self) -> list[Value]:
        """The sums of a thread before the first tile."""

    def multiplied(self, stage: Value, sums: Sequence[Value]) -> list[Value]:
        """The sums after the tile that lies at ``stage``."""

    def runs(self) -> Iterator[tuple[Value, Value, int]]:
        """(row, column, number of its first sum) of each run of neighbouring elements in the tile."""


def product_steps(p: Problem, gpu: Gpu, tf32: bool) -> list[Step]:
    """One step, or two where few tiles and long sums would leave the device idle: the sums of parts, then their sum.

    ``tf32``: float32 operands may be rounded to it.
    """
    step = ProductStep(p, gpu, tf32)
    return [step, JoinedParts(step)] if step.how.parts > 1 else [step]


class ProductStep:
    """A block for each tile of the result, each part of the summed axis and each batch index.

    Scratch holds the sums of parts: (part, batch, row, column).
    """

    #: One block on a multiprocessor is enough: left alone, ptxas may spill to make room for a second.
    attributes = '"nvvm.minctasm"="1"'

    def __init__(self, p: Problem, gpu: Gpu, tf32: bool):
        self.p = p
        fragment = fragment_for(p, gpu, tf32)
        self.how: Arithmetic = Simt(p) if fragment is None else Mma(p, fragment)
        self.tile, self.parts = tile, parts = self.how.tile, self.how.parts
        self.title = self.how.title if parts == 1 else f"{self.how.title}_parts"
        self.tiles_m, self.tiles_n = blocks(p.m, tile.bm), blocks(p.n, tile.bn)
        self.tiles = self.tiles_m * self.tiles_n
        self.grid, self.block = self.tiles * parts * p.batch, self.how.threads
        self.sums = p.m * p.n * p.batch
        self.scratch_bytes = self.sums * parts * np.dtype(p.dtype).itemsize if parts > 1 else 0
        operands = (
            self._operand(p.left, p.left.first, p.left.second, tile.bm),
            self._operand(p.right, p.right.second, p.right.first, tile.bn),
        )
        self.supply = Supply.of(operands, self.how.dtype, p.k, self.block, self.how.stages, parts, gpu)
        self.lanes = store_width(p, self.how.run)

    def _operand(self, side: Side, own: Walk, deep: Walk, width: int) -> Operand:
        return operand_of(self.how.as_read(side), own, deep, self.how.shelf(width, own, deep), self.how.copied)

    def emit(self, thread: Thread, slots: Sequence[str], scratch: str, status: str) -> None:
        self.thread, self.f, self.b, self.slots = thread, thread.f, thread.b, slots
        b, block = self.b, thread.block()
        tile, rest = b.irem(block, self.tiles), b.idiv(block, self.tiles)
        self.part, self.batch = b.irem(rest, self.parts), b.idiv(rest, self.parts)
        row, column = self._tile_at(tile)
        self.row0, self.column0 = b.mul(row, self.tile.bm), b.mul(column, self.tile.bn)
        bases = [self._base(x.side) for x in self.supply.operands]
        begin = b.mul(b.convert(self.part, "int64"), self.supply.count)
        feed = Feed(thread, self.supply, bases, (self.row0, self.column0), begin)
        self.how.start(thread, feed)
        sums = feed.run(self.how.zeros(), self.how.multiplied)
        if self.parts > 1:
            self._keep(sums, scratch)
        else:
            self._finish(sums, status)

    def _tile_at(self, number: Value) -> tuple[Value, Value]:
        """Row and column of a tile: neighbouring blocks are near in both, and find operands in the L2 cache."""
        b = self.b
        band = max(d for d in range(1, BAND + 1) if self.tiles_m % d == 0)
        inside = b.irem(number, band * self.tiles_n)
        return b.add(b.mul(b.idiv(number, band * self.tiles_n), band), b.irem(inside, band)), b.idiv(inside, band)

    def _base(self, side: Side) -> str:
        """The first element of an array at this block's batch index."""
        total = self.b.add(place_in(self.b, side.batch, self.batch), side.offset)
        return memory.offset_pointer(self.f, self.slots[side.slot], total, side.dtype)

    def _finish(self, sums: Sequence[Value], status: str) -> None:
        """Apply the epilogue and store."""
        batch = self.b.convert(self.batch, "int64")
        finish = Finish(self.thread, self.p, self.lanes, list(self.slots), status, batch, self._base(self.p.out))
        self._each(sums, self.lanes, finish.store)

    def _keep(self, sums: Sequence[Value], scratch: str) -> None:
        """Store the sums of a part."""
        b, p = self.b, self.p
        first = b.add(b.mul(b.convert(self.part, "int64"), p.batch), b.convert(self.batch, "int64"))

        def keep(value: Value, row: Value, column: Value) -> None:
            at = b.add(b.mul(b.add(b.mul(first, p.m), row), p.n), column)
            memory.store(self.f, value, memory.offset_pointer(self.f, scratch, at, p.dtype), aligned=True)

        self._each(sums, self.how.run if p.n % self.how.run == 0 else 1, keep)

    def _each(self, sums: Sequence[Value], lanes: int, store: Callable[[Value, Value, Value], None]) -> None:
        """``store(value, row, column)`` for the sums of this thread, ``lanes`` neighbouring columns at a time."""
        b = self.b
        for row, column, first in self.how.runs():
            row = b.convert(b.add(self.row0, row), "int64")
            for k in range(0, self.how.run, lanes):
                at = b.convert(b.add(b.add(self.column0, column), k), "int64")
                value = self.thread.vector(sums[first + k : first + k + lanes])
                self.thread.guarded(self._inside(row, at), partial(store, value, row, at))

    def _inside(self, row: Value, column: Value) -> Value | None:
        """Whether a place is one of the result; None: it is."""
        b, p, tile = self.b, self.p, self.tile
        fits = [b.lt(at, n) for at, n, size in ((row, p.m, tile.bm), (column, p.n, tile.bn)) if n % size]
        return None if not fits else fits[0] if len(fits) == 1 else b.and_(*fits)


class JoinedParts:
    """The sums of all parts, one after the other, and the end of the product: a thread for each run of columns."""

    attributes = ""

    def __init__(self, step: ProductStep):
        self.p, self.parts, self.scratch_bytes, self.lanes = step.p, step.parts, step.scratch_bytes, step.lanes
        self.title = f"{step.how.title}_joined"
        self.sums = step.sums
        self.total = step.sums // self.lanes
        self.block = threads_for(self.total)
        self.grid = blocks(self.total, self.block)

    def emit(self, thread: Thread, slots: Sequence[str], scratch: str, status: str) -> None:
        number = global_number(thread, self.block, self.total)
        inside = thread.b.lt(number, self.total) if self.total % self.block else None
        thread.guarded(inside, lambda: self._join(thread, number, slots, scratch, status))

    def _join(self, thread: Thread, number: Value, slots: Sequence[str], scratch: str, status: str) -> None:
        b, f, p = thread.b, thread.f, self.p
        first = b.mul(b.convert(number, "int64"), self.lanes)
        many = Lanes(f, self.lanes)
        with f.loop(0, self.parts, carry=[const(0, p.dtype, self.lanes)]) as loop:
            at = memory.offset_pointer(f, scratch, b.add(b.mul(loop.index, self.sums), first), p.dtype)
            part = memory.load(f, at, p.dtype, self.lanes, aligned=True)
            loop.next = [many.add(loop.carry[0], part)]
        axes = [Var(0, p.batch), Var(1, p.m), Var(2, p.n)]
        place = spread(b, b.mul(number, self.lanes), axes, Point()).variables
        batch, row, column = (place[v] for v in axes)
        out = b.add(place_in(b, p.out.batch, batch), p.out.offset)
        base = memory.offset_pointer(f, slots[p.out.slot], out, p.dtype)
        Finish(thread, p, self.lanes, list(slots), status, batch, base).store(loop.result[0], row, column)
