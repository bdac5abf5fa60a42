"""One matrix at a time, with the lanes of a vector along its rows.

Enters: pointers and strides.  Leaves: loops over rows and along them.
Invariant: elements are read and written where they are, those of a vector side by side and the last ones of a row under
a mask; loops whose bounds are known only when the code runs are loops of the code.  Start reading at `Bench`.

What changes from step to step lies in memory (`Cell`) or is carried by `Bench.fold`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace

from gradc.codegen import memory
from gradc.codegen.factor.number import Index, Number, fma
from gradc.codegen.gemm.registers import first_lanes, shuffle
from gradc.codegen.ir import Function, Lanes, Value, const
from gradc.codegen.poll import going_on, unless_stopped, walking
from gradc.codegen.status import ELEMENT_BITS, KIND_BITS, MOST_ELEMENT

#: what a step of a loop makes of its number and of what is carried
Step = Callable[[Number, Sequence[Number]], Sequence[Number]]


@dataclass(frozen=True, slots=True)
class Chunk:
    """The lanes of some neighbouring columns: those from ``at`` on, of which ``mask`` says the live ones."""

    at: Number
    mask: Value | None = None


@dataclass(frozen=True, slots=True)
class Cell:
    """A scalar in memory of the function's own."""

    bench: Bench
    pointer: str
    dtype: str

    def get(self) -> Number:
        return Number(self.bench.f, memory.load(self.bench.f, self.pointer, self.dtype))

    def set(self, x: Number | float) -> None:
        memory.store(self.bench.f, self.bench.number(x, self.dtype).value, self.pointer)


@dataclass(frozen=True, slots=True)
class Row:
    """Elements side by side from a pointer on."""

    bench: Bench
    pointer: str
    dtype: str

    def __getitem__(self, at: Index | Chunk) -> Number:
        f = self.bench.f
        if isinstance(at, Chunk):
            return Number(f, memory.load(f, self._at(at.at), self.dtype, self.bench.lanes, at.mask))
        return Number(f, memory.load(f, self._at(at), self.dtype))

    def __setitem__(self, at: Index | Chunk, x: Number | float) -> None:
        f = self.bench.f
        if isinstance(at, Chunk):
            wide = Lanes(f, self.bench.lanes).splat(self.bench.number(x, self.dtype).value)
            memory.store(f, wide, self._at(at.at), at.mask)
        else:
            memory.store(f, self.bench.number(x, self.dtype).value, self._at(at))

    def _at(self, at: Index) -> str:
        return memory.offset_pointer(self.bench.f, self.pointer, self.bench.index(at).value, self.dtype)

    def from_(self, at: Index) -> Row:
        """The same from an element on."""
        return replace(self, pointer=self._at(at))


@dataclass(frozen=True, slots=True)
class Grid:
    """Element (i, j) lies i·``down`` + j·``along`` elements behind a pointer; its rows are rows of memory if
    ``along`` is 1."""

    bench: Bench
    pointer: str
    down: Index
    along: Index = 1
    dtype: str = ""

    def at(self, i: Index, j: Index = 0) -> str:
        b = self.bench
        offset = b.index(i) * self.down + b.index(j) * self.along
        return memory.offset_pointer(b.f, self.pointer, offset.value, self.dtype or b.dtype)

    def __getitem__(self, place: tuple[Index, Index]) -> Number:
        return Number(self.bench.f, memory.load(self.bench.f, self.at(*place), self.dtype or self.bench.dtype))

    def __setitem__(self, place: tuple[Index, Index], x: Number | float) -> None:
        dtype = self.dtype or self.bench.dtype
        memory.store(self.bench.f, self.bench.number(x, dtype).value, self.at(*place))

    def row(self, i: Index) -> Row:
        """Row i, for vectors: of a grid whose rows are those of memory."""
        assert isinstance(self.along, int) and self.along == 1
        return Row(self.bench, self.at(i), self.dtype or self.bench.dtype)

    def from_(self, i: Index, j: Index) -> Grid:
        """The same from an element on."""
        return replace(self, pointer=self.at(i, j))

    @property
    def turned(self) -> Grid:
        """The transpose."""
        return replace(self, down=self.along, along=self.down)

    def backwards(self, rows: Index, columns: Index) -> Grid:
        """The same with its last row, and its last column, first."""
        b = self.bench
        down, along = -b.index(self.down), -b.index(self.along)
        return replace(self, pointer=self.at(b.index(rows) - 1, b.index(columns) - 1), down=down, along=along)


class Bench:
    """Where a function on matrices of ``dtype`` is written: loops, cells, and what is said of failures.

    If it ``looks``, its long loops look now and then whether to end (`gradc.codegen.poll`).
    """

    def __init__(self, f: Function, dtype: str, lanes: int, status: str = "", looks: bool = False):
        self.f, self.dtype, self.lanes, self.status, self.looks = f, dtype, lanes, status, looks

    # -- numbers -----------------------------------------------------------------------------------------------------
    def number(self, x: Number | float, dtype: str = "") -> Number:
        """A scalar constant, or what is a number already."""
        return x if isinstance(x, Number) else Number(self.f, const(x, dtype or self.dtype))

    def index(self, x: Index) -> Number:
        return self.number(x, "int64")

    def argument(self, name: str, dtype: str = "int64") -> Number:
        """A parameter of the function."""
        return Number(self.f, Value(f"%{name}", dtype))

    def wide(self, x: Number | float) -> Number:
        """A scalar in every lane."""
        return Number(self.f, Lanes(self.f, self.lanes).splat(self.number(x).value))

    def cell(self, x: Number | float, dtype: str = "") -> Cell:
        cell = Cell(self, self.f.alloca("i64", 1, 8), dtype or self.dtype)
        cell.set(x)
        return cell

    def row(self, count: int, dtype: str = "") -> Row:
        """A few elements of the function's own."""
        return Row(self, self.f.alloca("i64", count, 64), dtype or self.dtype)

    # -- loops -------------------------------------------------------------------------------------------------------
    def range(self, lo: Index, hi: Index, step: int = 1) -> Iterator[Number]:
        """``for i in bench.range(lo, hi)``: a loop of the code, whose body is written once."""
        with self.f.loop(self.index(lo).value, self.index(hi).value, step) as loop:
            yield Number(self.f, loop.index)

    def down(self, hi: Index, lo: Index) -> Iterator[Number]:
        """From hi − 1 to lo."""
        for k in self.range(0, self.index(hi) - lo):
            yield self.index(hi) - 1 - k

    def watched(self, count: int, step: int, operations: float) -> Iterator[Number]:
        """``range(0, count, step)``, each step of so many operations, which ends early if the function shall."""
        if not self.looks:
            yield from self.range(0, count, step)
            return
        with walking(self.f, self.status, 0, count, step, operations, 0, -(-count // step)) as loop:
            yield Number(self.f, loop.index)

    def across(self, lo: Index, hi: Index) -> Iterator[Chunk]:
        """Vector after vector of the columns from lo to hi; the body is written twice, once for the last, masked."""
        lo, hi = self.index(lo), self.index(hi)
        whole = lo + (hi - lo) // self.lanes * self.lanes
        whole = Number(self.f, Lanes(self.f).max(whole.value, lo.value))
        for at in self.range(lo, whole, self.lanes):
            yield Chunk(at)
        with self.when(whole < hi):
            yield self.rest(whole, hi)

    def rest(self, at: Number, hi: Number) -> Chunk:
        """The columns from ``at`` up to ``hi``, at most a vector of them."""
        return Chunk(at, first_lanes(self.f, (hi - at).value, self.lanes))

    def fold(self, lo: Index, hi: Index, start: Sequence[Number], step: Step) -> list[Number]:
        """What a loop carries: ``start``, then ``step(i, carried)`` for each i."""
        carry = [x.value for x in start]
        with self.f.loop(self.index(lo).value, self.index(hi).value, 1, carry) as loop:
            inside = [Number(self.f, x) for x in loop.carry]
            loop.next = [x.value for x in step(Number(self.f, loop.index), inside)]
        return [Number(self.f, x) for x in loop.result]

    def while_(self, more: Callable[[], Number], most: Index = 1 << 62) -> Iterator[Number]:
        """A loop that goes on while ``more()``, written before each step, holds, and nobody asks for the end."""

        def condition(index: Value, _: Sequence[Value]) -> Value:
            goes_on = (more() & (Number(self.f, index) < most)).value
            return going_on(self.f, self.status, goes_on) if self.looks else goes_on

        with self.f.loop_while(condition) as loop:
            yield Number(self.f, loop.index)

    @contextmanager
    def when(self, condition: Number) -> Iterator[None]:
        with self.f.when(condition.value):
            yield

    def unless_stopped(self) -> AbstractContextManager[None]:
        return unless_stopped(self.f, self.status) if self.looks else nullcontext()

    # -- along rows --------------------------------------------------------------------------------------------------
    def dot(self, lo: Index, hi: Index, terms: Callable[[Chunk], tuple[Number, Number]]) -> Number:
        """Σ x·y over columns, in four interleaved vectors of sums that are joined at the end."""
        lo, hi, lanes = self.index(lo), self.index(hi), self.lanes
        zero = self.wide(0.0)
        four = lo + (hi - lo) // (4 * lanes) * (4 * lanes)
        with self.f.loop(lo.value, four.value, 4 * lanes, [zero.value] * 4) as loop:
            for k, total in enumerate(loop.carry):
                x, y = terms(Chunk(Number(self.f, loop.index) + k * lanes))
                loop.next[k] = fma(x, y, Number(self.f, total)).value
        sums = [Number(self.f, x) for x in loop.result]
        first = (sums[0] + sums[1]) + (sums[2] + sums[3])
        at = Number(self.f, Lanes(self.f).max(four.value, lo.value))
        with self.f.loop(at.value, hi.value, lanes, [first.value]) as rest:
            x, y = terms(self.rest(Number(self.f, rest.index), hi))
            rest.next = [fma(x, y, Number(self.f, rest.carry[0])).value]
        return self.summed(Number(self.f, rest.result[0]))

    def summed(self, x: Number) -> Number:
        """The sum of all lanes, halves added to halves."""
        return self.joined(x, lambda a, b: a + b)

    def joined(self, x: Number, join: Callable[[Number, Number], Number]) -> Number:
        """All lanes as one, halves joined with halves."""
        value = x.value
        while value.lanes > 1:
            half = value.lanes // 2
            if half == 1:
                return join(self.lane(Number(self.f, value), 0), self.lane(Number(self.f, value), 1))
            low, high = (shuffle(self.f, value, None, list(range(k, k + half))) for k in (0, half))
            value = join(Number(self.f, low), Number(self.f, high)).value
        return Number(self.f, value)

    def lane(self, x: Number, k: int) -> Number:
        """Lane k of a vector."""
        if x.value.lanes == 1:
            return x
        return Number(self.f, Value(self.f.let(f"extractelement {x.value.typed}, i64 {k}"), x.dtype))

    # -- failures ----------------------------------------------------------------------------------------------------
    def report(self, bad: Number, kind: int, node: int, element: Number) -> None:
        """Write the status word if ``bad`` holds and nothing failed before: of which node, in which matrix."""
        report(self.f, self.status, bad.value, kind, node, element.value)


def report(f: Function, status: str, bad: Value, kind: int, node: int, element: Value) -> None:
    """Write the status word if the scalar ``bad`` holds and nothing failed before."""
    i = Lanes(f)
    with f.when(bad):
        old = Value(f.let(f"load i64, ptr {status}, align 8"), "int64")
        told = i.shl(i.min(i.add(element, 1), MOST_ELEMENT), ELEMENT_BITS)
        word = i.or_(told, node << KIND_BITS | kind)
        new = i.select(i.eq(old, 0), word, old)
        f.line(f"store {new.typed}, ptr {status}, align 8")
