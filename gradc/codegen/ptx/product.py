"""Matrix products and correlations by blocks of threads.

Enters: a `Problem`.  Leaves: a `Step`.
Tiles of both operands lie in shared memory (`feed`), a tile of the result in registers, multiplied by single threads
(`simt`) or by warps on tensor cores (`mma`); each sum goes through the epilogue and out (`finish`).  Which sums belong
together, and their order, follow from shapes and the target alone.  Start reading at `ProductStep.emit`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from gradc.codegen import memory
from gradc.codegen.ir import Value, const
from gradc.codegen.ptx.feed import Feed, Supply
from gradc.codegen.ptx.finish import Finish, store_width
from gradc.codegen.ptx.mma import Mma, fragment_for
from gradc.codegen.ptx.operand import Operand, Shelf, operand_of
from gradc.codegen.ptx.problem import Problem, Side, Walk, place_in
from gradc.codegen.ptx.simt import Simt
from gradc.codegen.ptx.step import blocks
from gradc.codegen.ptx.target import Gpu
from gradc.codegen.ptx.thread import Thread
from gradc.codegen.ptx.tile import Tile

#: Rows of tiles through which neighbouring blocks go before they go on to the next column.
BAND = 8


class Arithmetic(Protocol):
    """How a block multiplies its tiles.

    ``run`` neighbouring columns of the result are one thread's; up to ``copied`` elements are copied at once.
    """

    title: str
    stages: int
    tile: Tile
    threads: int
    run: int
    copied: int

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


class ProductStep:
    """A block for each tile of the result and each batch index.  ``tf32``: float32 operands may be rounded to it."""

    scratch_bytes = 0
    #: One block on a multiprocessor is enough: left alone, ptxas may spill to make room for a second.
    attributes = '"nvvm.minctasm"="1"'

    def __init__(self, p: Problem, gpu: Gpu, tf32: bool):
        self.p = p
        fragment = fragment_for(p, gpu, tf32)
        self.how: Arithmetic = Simt(p) if fragment is None else Mma(p, fragment)
        self.title, tile = self.how.title, self.how.tile
        self.tile = tile
        self.tiles_m, self.tiles_n = blocks(p.m, tile.bm), blocks(p.n, tile.bn)
        self.tiles = self.tiles_m * self.tiles_n
        self.grid, self.block = self.tiles * p.batch, self.how.threads
        operands = (
            self._operand(p.left, p.left.first, p.left.second, tile.bm),
            self._operand(p.right, p.right.second, p.right.first, tile.bn),
        )
        self.supply = Supply.of(operands, p.dtype, p.k, self.block, self.how.stages, 1, gpu)
        self.lanes = store_width(p, self.how.run)

    def _operand(self, side: Side, own: Walk, deep: Walk, width: int) -> Operand:
        return operand_of(side, own, deep, self.how.shelf(width, own, deep), self.how.copied)

    def emit(self, thread: Thread, slots: Sequence[str], scratch: str, status: str) -> None:
        self.thread, self.f, self.b, self.slots = thread, thread.f, thread.b, slots
        b, block = self.b, thread.block()
        tile, self.batch = b.irem(block, self.tiles), b.idiv(block, self.tiles)
        row, column = self._tile_at(tile)
        self.row0, self.column0 = b.mul(row, self.tile.bm), b.mul(column, self.tile.bn)
        bases = [self._base(x.side) for x in self.supply.operands]
        feed = Feed(thread, self.supply, bases, (self.row0, self.column0), const(0, "int64"))
        self.how.start(thread, feed)
        self._finish(feed.run(self.how.zeros(), self.how.multiplied), status)

    def _tile_at(self, number: Value) -> tuple[Value, Value]:
        """Row and column of a tile: neighbouring blocks are near in both, and find operands in the L2 cache."""
        b = self.b
        band = max(d for d in range(1, BAND + 1) if self.tiles_m % d == 0)
        inside = b.irem(number, band * self.tiles_n)
        return b.add(b.mul(b.idiv(number, band * self.tiles_n), band), b.irem(inside, band)), b.idiv(inside, band)

    def _base(self, side: Side) -> str:
        """The first element of an array at this block's batch index."""
        total = self.b.add(place_in(self.b, side.batch, self.batch), side.offset)
        return memory.offset_pointer(self.f, self.slots[side.slot], total, self.p.dtype)

    def _finish(self, sums: Sequence[Value], status: str) -> None:
        """Apply the epilogue and store, ``lanes`` neighbouring columns at a time."""
        b, p, lanes = self.b, self.p, self.lanes
        batch = b.convert(self.batch, "int64")
        finish = Finish(self.thread, p, lanes, list(self.slots), status, batch, self._base(p.out))
        for row, column, first in self.how.runs():
            row = b.convert(b.add(self.row0, row), "int64")
            for k in range(0, self.how.run, lanes):
                at = b.convert(b.add(b.add(self.column0, column), k), "int64")
                value = self.thread.vector(sums[first + k : first + k + lanes])

                def store(value: Value = value, row: Value = row, at: Value = at) -> None:
                    finish.store(value, row, at)

                self.thread.guarded(self._inside(row, at), store)

    def _inside(self, row: Value, column: Value) -> Value | None:
        """Whether a place is one of the result; None: it is."""
        b, p, tile = self.b, self.p, self.tile
        fits = [b.lt(at, n) for at, n, size in ((row, p.m, tile.bm), (column, p.n, tile.bn)) if n % size]
        return None if not fits else fits[0] if len(fits) == 1 else b.and_(*fits)
