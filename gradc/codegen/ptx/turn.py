"""Nests that read along one axis and write along another: tile by tile, turned in shared memory.

Enters: a `Nest` whose stores step by one element along ``near``, and some of whose loads do so along ``far``.
Leaves: a `Step`.  A block reads its tile of those loads along ``far``, keeps it in shared memory, and does the work of
the nest along ``near``: neighbouring threads touch neighbouring elements both times, 16 bytes each where rows start
aligned.  Rows of the tile are an odd number of elements apart, so that neither way two lanes meet in a bank.
Nothing here knows a transpose: the forms of loads and stores decide.  Start reading at `turn_of`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from gradc.codegen import memory
from gradc.codegen.ir import Value
from gradc.codegen.ptx.each import VECTOR_BYTES, accesses, in_row
from gradc.codegen.ptx.step import BLOCK, DeviceScalars, blocks, spread
from gradc.codegen.ptx.thread import Thread
from gradc.codegen.scalars import Point
from gradc.schedule.affine import Var
from gradc.schedule.kernel import Bounded, Load, Lookup, Nest

#: Rows and columns of a tile, and elements between its rows in shared memory.
TILE, PITCH = 32, 33
#: A vector of more elements would leave threads of a block without work.
MOST_LANES = TILE * TILE // BLOCK
#: Axes shorter than this fill too little of a tile; elements nearer to each other share the bytes that memory moves.
SHORTEST, FAR = 16, 8
#: More loads than this in one tile each would take too much shared memory.
MOST_LOADS = 4


@dataclass(frozen=True, slots=True)
class Turn:
    """``loads``, positions in the code, go along ``far``, all stores along ``near``; ``width`` elements at once."""

    near: Var
    far: Var
    loads: tuple[int, ...]
    width: int


def turn_of(nest: Nest) -> Turn | None:
    """How a nest is turned, or None where its reads and writes agree, or where it is no map."""
    if nest.sequential or any(s.inner or s.reduces or s.scan or s.recur for s in nest.stages):
        return None
    for near in reversed(nest.outer):
        if near.extent >= SHORTEST and all(not s.terms and s.offset.coefficient(near) == 1 for s in nest.stores):
            options = [(_turned(nest, near, far), far) for far in nest.outer if far != near and far.extent >= SHORTEST]
            loads, far = max(options, key=lambda o: len(o[0]), default=((), near))
            if 0 < len(loads) <= MOST_LOADS:
                return Turn(near, far, loads, _width(nest, near, far, loads))
    return None


def _turned(nest: Nest, near: Var, far: Var) -> tuple[int, ...]:
    """The loads that step by one element along ``far``, and far along ``near``."""
    return tuple(
        k for k, x in enumerate(nest.code)
        if isinstance(x, Load) and x.offset.coefficient(far) == 1 and abs(x.offset.coefficient(near) or 0) >= FAR
    )  # fmt: skip


def _width(nest: Nest, near: Var, far: Var, loads: Sequence[int]) -> int:
    """Elements that one access moves, along either axis."""
    if any(isinstance(x, Lookup | Bounded) for x in nest.code):
        return 1
    others = replace(nest, code=tuple(x for k, x in enumerate(nest.code) if k not in loads))
    turned = [x.offset for k in loads if isinstance(x := nest.code[k], Load)]
    width = min(MOST_LANES, VECTOR_BYTES // max(np.dtype(dtype).itemsize for _, dtype in accesses(nest)))
    while width > 1 and not (
        near.extent % width == far.extent % width == 0
        and all(in_row(f, near, width) for f, _ in accesses(others))
        and all(in_row(f, far, width) for f in turned)
    ):
        width //= 2
    return width


class Turned:
    """A block for each tile of (``far``, ``near``) and each index of the other variables."""

    scratch_bytes = 0
    attributes = ""
    block = BLOCK

    def __init__(self, nest: Nest, turn: Turn, title: str):
        self.turn, self.title = turn, f"{title}_turned"
        self.others = tuple(v for v in nest.outer if v not in (turn.near, turn.far))
        self.tiles = blocks(turn.far.extent, TILE), blocks(turn.near.extent, TILE)
        self.grid = math.prod((*self.tiles, *(v.extent for v in self.others)))
        self.nest = replace(nest, outer=(*self.others, turn.far, turn.near), lanes=turn.width, packs=())

    def emit(self, thread: Thread, slots: Sequence[str], scratch: str, status: str) -> None:
        self.thread, self.f, self.b = thread, thread.f, thread.b
        b, turn = self.b, self.turn
        reading, writing = (
            DeviceScalars(self.f, replace(self.nest, lane=lane), slots, status) for lane in (turn.far, turn.near)
        )
        reading.aligned = writing.aligned = True
        loads = [(k, x) for k in turn.loads if isinstance(x := self.nest.code[k], Load)]
        self.tiles_at = [thread.shared(x.dtype, TILE * PITCH, n) for n, (_, x) in enumerate(loads)]
        number, t = thread.block(), thread.number()
        tile = b.irem(number, self.tiles[0] * self.tiles[1])
        outside = spread(b, b.idiv(number, self.tiles[0] * self.tiles[1]), self.others, Point())
        self.corner = (b.mul(b.idiv(tile, self.tiles[1]), TILE), b.mul(b.irem(tile, self.tiles[1]), TILE))
        threads = TILE // turn.width  # that share a row of the tile
        along, first = b.mul(b.irem(t, threads), turn.width), b.idiv(t, threads)
        rows = [b.add(first, k) for k in range(0, TILE, BLOCK // threads)]
        for row in rows:
            self._keep(reading, loads, outside, along, row)
        thread.barrier()
        for row in rows:
            self._work(writing, loads, outside, row, along)

    def _keep(
        self, s: DeviceScalars, loads: Sequence[tuple[int, Load]], outside: Point, far: Value, near: Value
    ) -> None:
        """Bring elements of each load from memory to the tile."""
        point, inside = self._place(outside, far, near)

        def body() -> None:
            for at, (_, x) in zip(self.tiles_at, loads, strict=True):
                value = s.load(x.slot, x.offset, x.dtype, point)
                for k in range(self.turn.width):
                    memory.store(self.f, self.thread.lane(value, k), self._in_tile(at, far, near, k, x.dtype))

        self.thread.guarded(inside, body)

    def _work(
        self, s: DeviceScalars, loads: Sequence[tuple[int, Load]], outside: Point, far: Value, near: Value
    ) -> None:
        """All that the nest does at a place, with the elements that the tile has."""
        point, inside = self._place(outside, far, near)

        def body() -> None:
            for at, (k, x) in zip(self.tiles_at, loads, strict=True):
                places = [self._in_tile(at, far, self.b.add(near, i), 0, x.dtype) for i in range(self.turn.width)]
                s.set(k, self.thread.vector([memory.load(self.f, p, x.dtype) for p in places]), point)
            for stage in self.nest.stages:
                s.advance(self.nest.needed(stage), point)
                for store in stage.stores:
                    s.store(store, point)

        self.thread.guarded(inside, body)

    def _place(self, outside: Point, far: Value, near: Value) -> tuple[Point, Value | None]:
        """The point of the nest at a place of the tile, and whether there is one; None: there is."""
        b, point, fits = self.b, outside.enter(), []
        for var, first, at in zip((self.turn.far, self.turn.near), self.corner, (far, near), strict=True):
            point.variables[var] = b.convert(b.add(first, at), "int64")
            if var.extent % TILE:
                fits.append(b.lt(point.variables[var], var.extent))
        return point, None if not fits else fits[0] if len(fits) == 1 else b.and_(*fits)

    def _in_tile(self, tile: str, far: Value, near: Value, further: int, dtype: str) -> str:
        """Where the tile has the element at (``far`` + ``further``, ``near``)."""
        place = self.b.add(self.b.mul(near, PITCH), self.b.add(far, further))
        return memory.offset_pointer(self.f, tile, self.b.convert(place, "int64"), dtype)
