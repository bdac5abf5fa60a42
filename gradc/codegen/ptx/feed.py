"""Tiles of both operands of a product, brought into shared memory while others are multiplied.

Enters: two `Operand`s, the block's place, and a run of tiles along the summed axis.  Leaves: a loop over those tiles.
By asynchronous copies straight into shared memory where the device has them and what is copied at once has 4 bytes or
more; else through registers, one tile ahead, as are narrow floats that are multiplied in float32.  Rows and columns
past the edge read the last one again; past the end of the summed axis both operands are zero.
Start reading at `Feed.run`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from gradc.codegen import memory
from gradc.codegen.ir import Lanes, Value, const
from gradc.codegen.ptx.operand import Operand
from gradc.codegen.ptx.problem import place_in
from gradc.codegen.ptx.step import blocks
from gradc.codegen.ptx.target import Gpu
from gradc.codegen.ptx.thread import Thread

#: ``multiply(stage, sums)``: the sums after the tile that lies at ``stage``
Multiply = Callable[[Value, Sequence[Value]], list[Value]]


@dataclass(frozen=True, slots=True)
class Supply:
    """What is decided before any code is written: operands, tiles in shared memory, and how they get there.

    The summed axis is cut into ``parts`` of equally many tiles.
    """

    operands: tuple[Operand, Operand]
    dtype: str
    k: int  #: length of the summed axis
    threads: int
    stages: int  #: tiles of each operand in shared memory: one is multiplied while the others arrive
    asynchronous: bool
    parts: int = 1

    @classmethod
    def of(
        cls, operands: tuple[Operand, Operand], dtype: str, k: int, threads: int, stages: int, parts: int, gpu: Gpu
    ) -> Supply:
        size = np.dtype(dtype).itemsize
        plain = all(x.side.dtype == dtype and x.vector * size in (4, 8, 16) for x in operands)
        asynchronous = gpu.copies_asynchronously and plain
        return cls(operands, dtype, k, threads, stages if asynchronous else 2, asynchronous, parts)

    @property
    def depth(self) -> int:
        return self.operands[0].shelf.depth

    @property
    def count(self) -> int:
        """Tiles of a part."""
        return blocks(blocks(self.k, self.depth), self.parts)

    @property
    def ragged(self) -> bool:
        """Whether the last part reaches past the end of the summed axis."""
        return self.parts * self.count * self.depth != self.k


class Feed:
    """The tiles of one part, which begins with the tile ``begin``."""

    def __init__(self, thread: Thread, supply: Supply, bases: Sequence[str], corners: Sequence[Value], begin: Value):
        self.thread, self.f, self.b, self.supply = thread, thread.f, thread.b, supply
        self.bases, self.corners, self.begin, self.count = bases, corners, begin, supply.count
        self.t = thread.number()
        self.sizes = [x.shelf.elements for x in supply.operands]
        self.shared = thread.shared_arrays(supply.dtype, [supply.stages * n for n in self.sizes])

    def run(self, zeros: Sequence[Value], multiply: Multiply) -> list[Value]:
        """The sums after all tiles."""
        return self._by_copies(zeros, multiply) if self.supply.asynchronous else self._by_registers(zeros, multiply)

    def place(self, which: int, stage: Value, own: Value, deep: Value) -> str:
        """Where an element of the tile at ``stage`` lies."""
        b, shelf = self.b, self.supply.operands[which].shelf
        row, column = (deep, own) if shelf.by_own else (own, deep)
        at = b.add(b.mul(stage, self.sizes[which]), b.add(b.mul(row, shelf.pitch), column))
        return memory.offset_pointer(self.f, self.shared[which], at, self.supply.dtype)

    # -- loops over tiles --------------------------------------------------------------------------------------------
    def _by_copies(self, zeros: Sequence[Value], multiply: Multiply) -> list[Value]:
        """All stages but one ahead; a barrier for each tile."""
        b, thread, stages = self.b, self.thread, self.supply.stages
        for ahead in range(stages - 1):
            if ahead < self.count:
                self._copy(const(ahead, "int64"), const(ahead, "int64"))
            thread.commit_copies()
        carry = [const(0, "int64"), const(stages - 1, "int64"), *zeros]
        with self.f.loop(0, self.count, carry=carry) as loop:
            here, there, *sums = loop.carry
            thread.wait_for_copies(stages - 2)
            thread.barrier()
            with self.f.when(b.lt(loop.index, self.count - stages + 1)):
                self._copy(b.add(loop.index, stages - 1), there)
            thread.commit_copies()
            loop.next = [self._after(here), self._after(there), *multiply(here, sums)]
        return loop.result[2:]

    def _by_registers(self, zeros: Sequence[Value], multiply: Multiply) -> list[Value]:
        """One tile ahead, in registers; a barrier for each tile."""
        self._put(self._fetched(const(0, "int64")), const(0, "int64"))
        self.thread.barrier()
        with self.f.loop(0, self.count, carry=[const(0, "int64"), *zeros]) as loop:
            here, *sums = loop.carry
            fetched = self._fetched(self.b.add(loop.index, 1))
            sums = multiply(here, sums)
            there = self._after(here)
            self._put(fetched, there)
            self.thread.barrier()
            loop.next = [there, *sums]
        return loop.result[1:]

    def _after(self, stage: Value) -> Value:
        b = self.b
        return b.select(b.eq(stage, self.supply.stages - 1), 0, b.add(stage, 1))

    # -- one tile ----------------------------------------------------------------------------------------------------
    def _places(self, x: Operand) -> list[tuple[Value, Value, Value | None]]:
        """(own, deep, whether) inside the tile of each copy that this thread makes.

        Neighbouring threads walk along the axis along which the array in memory does.
        """
        b, shelf, threads = self.b, x.shelf, self.supply.threads
        across, along = (x.vector, 1) if shelf.by_own else (1, x.vector)
        own_first = shelf.by_own if x.vector > 1 else x.own_is_near
        near = shelf.width // across if own_first else shelf.depth // along
        total = shelf.width * shelf.depth // x.vector
        found = []
        for k in range(blocks(total, threads)):
            number = b.add(self.t, k * threads)
            live = b.lt(number, total) if (k + 1) * threads > total else None
            low, high = b.irem(number, near), b.idiv(number, near)
            own, deep = (low, high) if own_first else (high, low)
            found.append((b.convert(b.mul(own, across), "int64"), b.convert(b.mul(deep, along), "int64"), live))
        return found

    def _source(self, which: int, own: Value, depth: Value) -> str:
        """The element of an operand at ``own`` of this block's tile and at ``depth``; past an edge the last one."""
        x, b = self.supply.operands[which], self.b
        place = b.add(b.convert(self.corners[which], "int64"), own)
        if x.extent % x.shelf.width:
            place = b.min(place, x.extent - (x.vector if x.shelf.by_own else 1))
        offset = b.add(place_in(b, x.own, place), place_in(b, x.deep, depth))
        return memory.offset_pointer(self.f, self.bases[which], offset, x.side.dtype)

    def _depth(self, which: int, tile: Value, deep: Value, ahead: bool) -> tuple[Value, Value | None]:
        """The place along the summed axis, brought inside it, and whether it was; None: it is.

        ``ahead``: the tile may lie behind the last one; such a tile is brought, and never multiplied.
        """
        b, x, s = self.b, self.supply.operands[which], self.supply
        depth = b.add(b.mul(b.add(self.begin, tile), s.depth), deep)
        inside = b.lt(depth, s.k) if s.ragged else None
        if s.ragged or ahead:
            depth = b.min(depth, s.k - (1 if x.shelf.by_own else x.vector))
        return depth, inside

    def _copy(self, tile: Value, stage: Value) -> None:
        size = np.dtype(self.supply.dtype).itemsize
        for which, x in enumerate(self.supply.operands):
            for own, deep, live in self._places(x):

                def copy(which: int = which, x: Operand = x, own: Value = own, deep: Value = deep) -> None:
                    depth, inside = self._depth(which, tile, deep, False)
                    source, to = self._source(which, own, depth), self.place(which, stage, own, deep)
                    self.thread.copy(to, source, size * x.vector, inside)

                self.thread.guarded(live, copy)

    def _fetched(self, tile: Value) -> list[list[Value]]:
        """This thread's part of a tile, in registers; what lies past the end of the summed axis is zero."""
        found: list[list[Value]] = [[], []]
        for which, x in enumerate(self.supply.operands):
            many = Lanes(self.f, x.vector)
            for own, deep, live in self._places(x):
                if live is not None:  # others read the first element, and put nothing
                    own, deep = (self.b.select(live, v, 0) for v in (own, deep))
                depth, inside = self._depth(which, tile, deep, True)
                source = self._source(which, own, depth)
                value = memory.load(self.f, source, x.side.dtype, x.vector, aligned=True)
                value = many.convert(value, self.supply.dtype)
                if inside is not None:
                    value = many.select(many.splat(inside), value, 0)
                found[which].append(value)
        return found

    def _put(self, fetched: list[list[Value]], stage: Value) -> None:
        for which, (x, values) in enumerate(zip(self.supply.operands, fetched, strict=True)):
            for (own, deep, live), value in zip(self._places(x), values, strict=True):

                def put(which: int = which, own: Value = own, deep: Value = deep, value: Value = value) -> None:
                    memory.store(self.f, value, self.place(which, stage, own, deep), aligned=True)

                self.thread.guarded(live, put)
