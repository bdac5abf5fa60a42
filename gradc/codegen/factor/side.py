"""Small matrices side by side: each lane of a vector holds an element of another matrix.

Enters: pointers to matrices one after another.  Leaves: `Tile`s, whose elements are `Number`s of all lanes, and loops.
Invariant: a lane never looks at another one, so what becomes of a matrix does not depend on its neighbours; lanes
beyond the last matrix repeat it, and write nothing.  The smallest matrices are held in registers, where every loop of a
program is written out; others lie in scratch, where lanes are neighbours.  Start reading at `Side`.

A program is the same text for both: ``for k in side.range(0, n)`` gives numbers known now, or one that counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TypeAlias

from gradc.codegen import memory
from gradc.codegen.factor.number import Index, Number, select
from gradc.codegen.factor.rows import report
from gradc.codegen.gemm.registers import transpose
from gradc.codegen.ir import Function, Lanes, Value, const
from gradc.codegen.poll import going_on
from gradc.schedule.factor import ALWAYS_ASIDE, Factor, Matrix


@dataclass
class Tile:
    """The same matrix of every lane: element (i, j) in a register, or in scratch behind ``pointer``."""

    side: Side
    rows: int
    columns: int
    pointer: str = ""
    held: dict[tuple[int, int], Number] = field(default_factory=dict)

    def __getitem__(self, place: tuple[Index, Index]) -> Number:
        if self.side.unrolled:
            return self.held[_known(place)]
        return self.side.load(self.pointer, self.offset(place))

    def __setitem__(self, place: tuple[Index, Index], x: Number | float) -> None:
        if self.side.unrolled:
            self.held[_known(place)] = self.side.number(x)
        else:
            self.side.store(self.pointer, self.offset(place), self.side.number(x))

    def offset(self, place: tuple[Index, Index]) -> Number:
        """Where an element lies, counted in vectors."""
        i, j = map(self.side.index, place)
        return i * self.columns + j

    @property
    def turned(self) -> Turned:
        """The transpose."""
        return Turned(self)


@dataclass(frozen=True)
class Turned:
    """A tile with rows and columns exchanged."""

    of: Tile

    @property
    def side(self) -> Side:
        return self.of.side

    @property
    def pointer(self) -> str:
        return self.of.pointer

    @property
    def rows(self) -> int:
        return self.of.columns

    @property
    def columns(self) -> int:
        return self.of.rows

    def __getitem__(self, place: tuple[Index, Index]) -> Number:
        return self.of[place[1], place[0]]

    def __setitem__(self, place: tuple[Index, Index], x: Number | float) -> None:
        self.of[place[1], place[0]] = x

    def offset(self, place: tuple[Index, Index]) -> Number:
        return self.of.offset((place[1], place[0]))


def _known(place: tuple[Index, Index]) -> tuple[int, int]:
    i, j = place
    assert isinstance(i, int) and isinstance(j, int)
    return i, j


class Side:
    """Where a program for the matrices side by side from number ``first`` of the batch on is written."""

    def __init__(
        self, f: Function, work: Factor, unrolled: bool, status: str, first: Number, end: Number, scratch: Sequence[str]
    ):
        self.f, self.work, self.status, self.first, self.end = f, work, status, first, end
        self.dtype, self.lanes = work.dtype, work.lanes
        self.unrolled = unrolled
        self._scratch = iter(scratch)

    # -- numbers and loops -------------------------------------------------------------------------------------------
    def number(self, x: Number | float) -> Number:
        """A number in every lane."""
        value = x.value if isinstance(x, Number) else const(x, self.dtype, self.lanes)
        return Number(self.f, Lanes(self.f, self.lanes).splat(value))

    def index(self, x: Index) -> Number:
        return x if isinstance(x, Number) else Number(self.f, const(x, "int64"))

    def range(self, lo: Index, hi: Index) -> Iterator[Index]:
        if self.unrolled:
            assert isinstance(lo, int) and isinstance(hi, int)
            yield from range(lo, hi)
            return
        with self.f.loop(self.index(lo).value, self.index(hi).value) as loop:
            yield Number(self.f, loop.index)

    def down(self, hi: Index, lo: Index) -> Iterator[Index]:
        """From hi − 1 to lo."""
        for k in self.range(0, hi - lo):
            yield hi - 1 - k

    def fold(
        self, lo: Index, hi: Index, start: Sequence[Number], step: Callable[[Index, Sequence[Number]], Sequence[Number]]
    ) -> Sequence[Number]:
        """What a loop carries: ``start``, then ``step(k, carried)`` for each k."""
        if self.unrolled:
            for k in self.range(lo, hi):
                start = step(k, start)
            return start
        with self.f.loop(self.index(lo).value, self.index(hi).value, 1, [x.value for x in start]) as loop:
            found = step(Number(self.f, loop.index), [Number(self.f, x) for x in loop.carry])
            loop.next = [x.value for x in found]
        return [Number(self.f, x) for x in loop.result]

    def counted(self, k: Index) -> Number:
        """A position as a number of `dtype`, which it is small enough for, in every lane."""
        return self.number(float(k) if isinstance(k, int) else k.converted(self.dtype))

    def exchange(self, t: AnyTile, k: Index, place: Number) -> None:
        """Row k and row ``place``, another one in each lane and not before it, change places."""
        if not self.unrolled:
            self._exchange_in_memory(t, k, place)
            return
        assert isinstance(k, int)
        first = [t[k, j] for j in range(t.columns)]
        for i in range(k + 1, t.rows):
            hit = place.equals(float(i))
            for j, x in enumerate(first):
                y = t[i, j]
                t[i, j], t[k, j] = select(hit, x, y), select(hit, y, t[k, j])

    def _exchange_in_memory(self, t: AnyTile, k: Index, place: Number) -> None:
        lane = Number(self.f, Lanes(self.f, self.lanes).lane_index())
        other = place.converted("int64")
        for j in self.range(0, t.columns):
            at = t.offset((other, j)) * self.lanes + lane
            x, y = t[k, j], memory.gather(self.f, t.pointer, at.value, self.dtype)
            memory.scatter(self.f, x.value, t.pointer, at.value)
            t[k, j] = Number(self.f, y)

    def put(self, t: AnyTile, i: Index, place: Number, x: Number) -> None:
        """Element (i, place) of a tile in memory, ``place`` another one in each lane."""
        lane = Number(self.f, Lanes(self.f, self.lanes).lane_index())
        at = t.offset((i, place.converted("int64"))) * self.lanes + lane
        memory.scatter(self.f, x.value, t.pointer, at.value)

    def while_(self, more: Callable[[], Number], most: int) -> Iterator[Number]:
        """A loop of at most so many steps that goes on while ``more()``, a scalar, holds; of tiles in memory."""
        assert not self.unrolled

        def condition(index: Value, _: Sequence[Value]) -> Value:
            return going_on(self.f, self.status, (more() & (Number(self.f, index) < most)).value)

        with self.f.loop_while(condition) as loop:
            yield Number(self.f, loop.index)

    # -- memory ------------------------------------------------------------------------------------------------------
    def load(self, pointer: str, element: Number) -> Number:
        place = memory.offset_pointer(self.f, pointer, (element * self.lanes).value, self.dtype)
        return Number(self.f, memory.load(self.f, place, self.dtype, self.lanes, aligned=True))

    def store(self, pointer: str, element: Number, x: Number) -> None:
        place = memory.offset_pointer(self.f, pointer, (element * self.lanes).value, self.dtype)
        memory.store(self.f, x.value, place, aligned=True)

    def tile(self, rows: int, columns: int) -> Tile:
        """A matrix that holds nothing yet; its scratch is the next piece that the program asked for."""
        return Tile(self, rows, columns, "" if self.unrolled else next(self._scratch))

    def source(self, number: int) -> Tile:
        """An operand."""
        m = self.work.sources[number]
        tile, pointers = self.tile(*_sides(m)), self._pointers(m, number)
        if self.unrolled:
            for first in range(0, m.size, self.lanes):
                for k, x in enumerate(self._read(pointers, const(first, "int64"), min(self.lanes, m.size - first))):
                    tile.held[divmod(first + k, tile.columns)] = x
            return tile
        for at, count in self._stretches(m.size):
            for k, x in enumerate(self._read(pointers, at, count)):
                self.store(tile.pointer, Number(self.f, at) + k, x)
        return tile

    def write(self, number: int, tile: Tile, bad: Number | None = None) -> None:
        """A result, NaN in the lanes that are ``bad``."""
        m = self.work.targets[number]
        if m.slot < 0:
            return
        pointers = self._pointers(m, len(self.work.sources) + number)

        def kept(x: Number) -> Number:
            if bad is not None and m.dtype == self.dtype:
                return select(bad, math.nan, x)
            return x.converted(m.dtype)

        if self.unrolled:
            for first in range(0, m.size, self.lanes):
                places = [divmod(k, tile.columns) for k in range(first, min(first + self.lanes, m.size))]
                self._write(m, pointers, const(first, "int64"), [kept(tile[place]) for place in places])
            return
        for at, count in self._stretches(m.size):
            self._write(m, pointers, at, [kept(self.load(tile.pointer, Number(self.f, at) + k)) for k in range(count)])

    def _stretches(self, size: int) -> Iterator[tuple[Value, int]]:
        """A matrix as stretches of as many elements as there are lanes, and last what is left."""
        whole = size // self.lanes * self.lanes
        with self.f.loop(0, whole, self.lanes) as loop:
            yield loop.index, self.lanes
        if size > whole:
            yield const(whole, "int64"), size - whole

    def _pointers(self, m: Matrix, number: int) -> list[str]:
        """Where the matrix of each lane begins."""
        found = []
        for lane in range(self.lanes):
            at = self.first + lane
            place = select(at < self.end, at, self.end - 1) if lane else at
            found.append(memory.offset_pointer(self.f, f"%m{number}", (place * m.size).value, m.dtype))
        return found

    def _read(self, pointers: Sequence[str], at: Value, count: int) -> list[Number]:
        """Elements from ``at`` on, each in all lanes."""
        mask = memory.first_lanes(count, self.lanes) if count < self.lanes else None
        places = [memory.offset_pointer(self.f, p, at, self.dtype) for p in pointers]
        rows = [memory.load(self.f, p, self.dtype, self.lanes, mask) for p in places]
        return [Number(self.f, x) for x in self._transposed(rows)[:count]]

    def _write(self, m: Matrix, pointers: Sequence[str], at: Value, elements: Sequence[Number]) -> None:
        fill = [elements[0].value] * (self.lanes - len(elements))
        mask = memory.first_lanes(len(elements), self.lanes) if fill else None
        for lane, row in enumerate(self._transposed([*(x.value for x in elements), *fill])):
            with self._live(lane):
                memory.store(self.f, row, memory.offset_pointer(self.f, pointers[lane], at, m.dtype), mask)

    def _transposed(self, rows: list[Value]) -> list[Value]:
        return transpose(self.f, rows) if self.lanes > 1 else rows

    @contextmanager
    def _live(self, lane: int) -> Iterator[None]:
        with self.f.when((self.first + lane < self.end).value) if lane else nullcontext():
            yield

    # -- failures ----------------------------------------------------------------------------------------------------
    def fails_where(self, bad: Number, kind: int) -> Number | None:
        """Tell of the first lane that is ``bad``; or give back the lanes whose results are NaN instead."""
        if self.work.node < 0:
            return bad
        b = Lanes(self.f)
        if self.lanes == 1:
            lane = const(0, "int64")
        else:
            bits = self.f.let(f"bitcast {bad.value.typed} to i{self.lanes}")
            name = self.f.module.declare("llvm.cttz.i64", "i64", "i64", "i1")
            wide = self.f.let(f"zext i{self.lanes} {bits} to i64")
            lane = Value(self.f.let(f"call i64 @{name}(i64 {wide}, i1 false)"), "int64")
        report(self.f, self.status, b.any(bad.value), kind, self.work.node, b.add(self.first.value, lane))
        return None


AnyTile: TypeAlias = Tile | Turned


def _sides(m: Matrix) -> tuple[int, int]:
    return (m.shape[0], m.shape[1]) if len(m.shape) == 2 else (1, m.shape[0])


def is_tiny(work: Factor) -> bool:
    """Whether registers can hold the matrices."""
    return max((n for m in (*work.sources, *work.targets) for n in m.shape), default=0) <= ALWAYS_ASIDE
