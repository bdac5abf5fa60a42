"""A product by the arithmetic of single threads: each element of the result is one thread's sum.

Enters: tiles in shared memory.  Leaves: sums in registers.
Invariant: along k in order, by fused multiply-add, so that it has the same bits whatever the device.
Start reading at `Simt.multiplied`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gradc.codegen import memory
from gradc.codegen.builder import Builder
from gradc.codegen.ir import Value, const
from gradc.codegen.ptx.feed import Feed
from gradc.codegen.ptx.operand import Shelf, access_width
from gradc.codegen.ptx.problem import Problem, Side, Walk
from gradc.codegen.ptx.step import blocks
from gradc.codegen.ptx.thread import Thread
from gradc.codegen.ptx.tile import Tile, choose

#: Elements between the rows of a tile in shared memory beyond its width: neighbouring rows start in other banks.
PAD = 4
#: itemsize -> tiles; registers and shared memory of all of them fit every device since sm_75.
TILES: dict[int, tuple[Tile, ...]] = {
    4: (
        Tile(128, 128, 8, 8, 8, 1.0), Tile(64, 64, 8, 4, 4, 0.7), Tile(32, 32, 16, 4, 4, 0.45),
        Tile(64, 16, 16, 4, 4, 0.4), Tile(16, 64, 16, 4, 4, 0.4),
    ),
    8: (
        Tile(64, 64, 8, 4, 4, 1.0), Tile(32, 32, 16, 4, 4, 0.7), Tile(64, 16, 16, 4, 4, 0.6),
        Tile(16, 64, 16, 4, 4, 0.6),
    ),
}  # fmt: skip
#: itemsize -> products that a multiprocessor adds up in a cycle (sm_80).
SPEED = {4: 64, 8: 32}


class Simt:
    """Each thread has ``tm`` x ``tn`` elements of the block's tile, in runs of neighbours."""

    title = "product"
    stages = 3

    def __init__(self, p: Problem):
        self.dtype = p.dtype
        self.run = min(4, access_width(p.dtype))  #: neighbouring columns that one thread has
        size = 8 if self.run == 2 else 4
        self.tile, self.parts = choose(TILES[size], p.extents, SPEED[size])
        self.copied = self.run
        self.threads = (self.tile.bm // self.tile.tm) * (self.tile.bn // self.tile.tn)

    def as_read(self, side: Side) -> Side:
        """As it is; narrow floats become float32 on their way."""
        return side

    def shelf(self, width: int, own: Walk, deep: Walk) -> Shelf:
        return Shelf(width, self.tile.bk, True, width + PAD)

    def start(self, thread: Thread, feed: Feed) -> None:
        """Find the thread's place in the tile."""
        self.thread, self.feed, self.b = thread, feed, thread.b
        number, across = thread.number(), self.tile.bn // self.tile.tn
        self.tx, self.ty = self.b.irem(number, across), self.b.idiv(number, across)

    def zeros(self) -> list[Value]:
        return [const(0, self.dtype)] * (self.tile.tm * self.tile.tn)

    def multiplied(self, stage: Value, sums: Sequence[Value]) -> list[Value]:
        """The tile at ``stage`` multiplied and added to ``sums``, k after k."""
        b = Builder(self.thread.f)
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
        for group in range(count // self.run):
            own = self.b.convert(self._first(which, number, group), "int64")
            at = self.feed.place(which, stage, own, const(deep, "int64"))
            vector = memory.load(self.thread.f, at, self.dtype, self.run, aligned=True)
            found += [self.thread.lane(vector, k) for k in range(self.run)]
        return found

    def _first(self, which: int, number: Value, group: int) -> Value:
        """Where the ``group``-th run of neighbouring elements of a thread begins in the tile."""
        width, count = ((self.tile.bm, self.tile.tm), (self.tile.bn, self.tile.tn))[which]
        apart = width // blocks(count, self.run)
        return self.b.add(self.b.mul(number, self.run), group * apart)

    def runs(self) -> Iterator[tuple[Value, Value, int]]:
        """(row, column, number of its first sum) of each run of neighbouring elements in the tile."""
        for i in range(self.tile.tm):
            row = self.b.add(self._first(0, self.ty, i // self.run), i % self.run)
            for j in range(0, self.tile.tn, self.run):
                yield row, self._first(1, self.tx, j // self.run), i * self.tile.tn + j
