"""Reflections and rotations of the rows of a matrix, and rows put in order: what eigen- and singular values share.

Enters: grids whose rows are those of memory.  Leaves: calls of internal functions of the module, each emitted once.
Invariant: sequences of rotations wait until there are many, so that a few columns take all of them while they are in
the cache; each row takes its rotations in the order in which they were made.  Start reading at `Waiting`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from gradc.codegen.factor.number import Index, Number, absolute, fma, larger, power_of_two, select, sqrt
from gradc.codegen.factor.orthogonal import reflection
from gradc.codegen.factor.rows import Bench, Chunk, Grid, Row
from gradc.codegen.factor.update import named
from gradc.codegen.ir import REGISTER, Function, Module
from gradc.codegen.target import Target

#: Vectors of columns that are rotated side by side.
SIDE = 2
#: Sequences that wait at most.
MOST_WAITING = 16


@dataclass(frozen=True)
class Rotations:
    """The functions of modules for matrices of ``dtype``."""

    target: Target
    dtype: str

    # -- rotations ---------------------------------------------------------------------------------------------------
    def sequences(self, w: Waiting) -> None:
        """What waits is done: rotation t of a sequence is c·first + s·second and c·second − s·first of row t and the
        next, counted from where the sequence starts."""
        bench = w.bench
        name = named(bench.f.module, self.dtype, "rotate", self._emit_sequences)
        pointers = (w.rows.pointer, w.cosines.pointer, w.sines.pointer, w.starts.pointer, w.counts.pointer)
        sizes = (w.rows.down, bench.index(w.rows.down) * w.step, w.cosines.down, w.number.get(), w.width)
        arguments = [f"ptr {p}" for p in pointers] + [bench.index(x).value.typed for x in sizes]
        bench.f.line(f"call void @{name}({', '.join(arguments)})")

    def _emit_sequences(self, module: Module, name: str) -> None:
        """Some columns at a time: the row that two rotations share stays in registers."""
        params = [("ptr", p) for p in ("rows", "cosines", "sines", "starts", "counts")]
        params += [("i64", p) for p in ("down", "step", "along", "number", "width")]
        f = Function(module, name, params, "internal void")
        b = Bench(f, self.dtype, self.target.lanes(self.dtype))
        g, width, step = Grid(b, "%rows", b.argument("down")), b.argument("width"), b.argument("step")
        cosines, sines = (Grid(b, f"%{p}", b.argument("along")) for p in ("cosines", "sines"))
        starts, counts = (Row(b, f"%{p}", "int64") for p in ("starts", "counts"))
        for j in b.range(0, width, SIDE * b.lanes):
            chunks = [b.rest(j + v * b.lanes, width) for v in range(SIDE)]
            for q in b.range(0, b.argument("number")):
                rows = Grid(b, g.at(starts[q]), step)
                self._one_sequence(rows, counts[q], chunks, cosines.row(q), sines.row(q))
        f.finish()

    def _one_sequence(self, g: Grid, count: Number, chunks: Sequence[Chunk], cosines: Row, sines: Row) -> None:
        b = g.bench

        def step(t: Number, firsts: Sequence[Number]) -> list[Number]:
            c, s = b.wide(cosines[t]), b.wide(sines[t])
            upper, lower, kept = g.row(t), g.row(t + 1), []
            for chunk, first in zip(chunks, firsts, strict=True):
                second = lower[chunk]
                upper[chunk] = fma(c, first, s * second)
                kept.append(fma(-s, first, c * second))  # what waits for the step before is one operation
            return kept

        last = b.fold(0, count, [g.row(0)[chunk] for chunk in chunks], step)
        for chunk, x in zip(chunks, last, strict=True):
            g.row(count)[chunk] = x

    # -- reflections -------------------------------------------------------------------------------------------------
    def reflect(self, g: Grid, rows: Index, v: Row, width: Index, tau: Number) -> None:
        """g[:rows, :width] times I − τ v vᵀ."""
        bench = g.bench
        name = named(bench.f.module, self.dtype, "reflect", self._emit_reflect)
        sizes = ", ".join(bench.index(x).value.typed for x in (g.down, rows, width))
        bench.f.line(f"call void @{name}(ptr {g.pointer}, ptr {v.pointer}, {sizes}, {tau.value.typed})")

    def _emit_reflect(self, module: Module, name: str) -> None:
        params = [("ptr", "g"), ("ptr", "v"), *(("i64", p) for p in ("down", "rows", "width"))]
        f = Function(module, name, [*params, (REGISTER[self.dtype], "tau")], "internal void")
        b = Bench(f, self.dtype, self.target.lanes(self.dtype))
        g, v, width = Grid(b, "%g", b.argument("down")), Row(b, "%v", self.dtype), b.argument("width")
        tau = b.argument("tau", self.dtype)
        for r in b.range(0, b.argument("rows")):
            row = g.row(r)
            along = b.wide(-(tau * b.dot(0, width, lambda c, row=row: (row[c], v[c]))))  # type: ignore[misc]
            for chunk in b.across(0, width):
                row[chunk] = fma(along, v[chunk], row[chunk])
        f.finish()


class Waiting:
    """Sequences of rotations of the rows of a grid, each so wide, that are still to be done.

    Those of a sequence go from its first row on, ``step`` by step (1 or −1).  ``cosines`` and ``sines`` are grids of
    `MOST_WAITING` rows.
    """

    def __init__(self, turn: Rotations, rows: Grid, width: int, step: int, cosines: Grid, sines: Grid):
        self.turn, self.bench = turn, rows.bench
        self.rows, self.width, self.step, self.cosines, self.sines = rows, width, step, cosines, sines
        self.starts, self.counts = (self.bench.row(MOST_WAITING, "int64") for _ in range(2))
        self.number = self.bench.cell(0, "int64")

    @property
    def next(self) -> tuple[Row, Row]:
        """Where the cosines and sines of the next sequence are to be written."""
        return self.cosines.row(self.number.get()), self.sines.row(self.number.get())

    def take(self, start: Number, count: Number | int) -> None:
        """The next sequence is complete."""
        k = self.number.get()
        self.starts[k], self.counts[k] = start, self.bench.index(count)
        self.number.set(k + 1)
        with self.bench.when(k + 1 >= MOST_WAITING):
            self.done()

    def done(self) -> None:
        """Nothing waits any more."""
        self.turn.sequences(self)
        self.number.set(self.bench.index(0))

    def pair(self, i: Number, j: Number, cosine: Number, sine: Number) -> None:
        """Rotate rows i and j, after all that waits."""
        self.done()
        apart = Grid(self.bench, self.rows.at(i), (j - i) * self.rows.down)
        for chunk in self.bench.across(0, self.width):
            first, second = apart.row(0)[chunk], apart.row(1)[chunk]
            c, s = self.bench.wide(cosine), self.bench.wide(sine)
            apart.row(0)[chunk], apart.row(1)[chunk] = fma(c, first, s * second), fma(-s, first, c * second)


#: What brings numbers whose squares are below `_least_square` to where squares are normal.
_UP = {"float32": 2.0**100, "float64": 2.0**800}


def _least_square(dtype: str) -> float:
    info = np.finfo(dtype)
    return float(info.tiny / info.eps)


def rotation(f: Number, g: Number) -> tuple[Number, Number, Number]:
    """r, cosine and sine of the rotation of (f, g) to (r, 0); neither is large."""
    square, up = fma(f, f, g * g), _UP[f.dtype]
    tiny = square < _least_square(f.dtype)
    one = f * 0.0 + 1.0
    usual = [x.value for x in (f, g, square, one)]
    with f.f.unless_rare(tiny.value, usual) as rare:
        large = f * up, g * up
        rare.next = [x.value for x in (*large, fma(large[0], large[0], large[1] * large[1]), one * (1.0 / up))]
    f, g, square, down = (Number(f.f, x) for x in rare.result)
    r = sqrt(square)
    nothing = r.equals(0.0)
    safe = select(nothing, 1.0, r)
    return r * down, select(nothing, 1.0, f / safe), select(nothing, 0.0, g / safe)


def reflector(b: Bench, row: Row, head: Index, lo: Index, hi: Index) -> tuple[Number, Number]:
    """τ and β of the reflection that brings row[head] to β and row[lo:hi] to 0; they become its vector, head 1."""
    size = larger(largest(b, row, lo, hi), absolute(row[head]))
    scale = power_of_two(size)
    wide = b.wide(scale)
    rest = b.dot(lo, hi, lambda c: (row[c] * wide, row[c] * wide))
    tau, beta, divisor = reflection(row[head] * scale, rest)
    for c in b.across(lo, hi):
        row[c] = row[c] * wide / divisor
    row[head] = 1.0
    return tau, beta / scale


def largest(b: Bench, row: Row, lo: Index, hi: Index) -> Number:
    """The largest size among row[lo:hi], or 0."""
    lo, hi = b.index(lo), b.index(hi)
    with b.f.loop(lo.value, hi.value, b.lanes, [b.wide(0.0).value]) as loop:
        x = absolute(row[b.rest(Number(b.f, loop.index), hi)])
        loop.next = [larger(x, Number(b.f, loop.carry[0])).value]
    return b.joined(Number(b.f, loop.result[0]), larger)


def exchange(b: Bench, g: Grid, i: Index, j: Index, width: Index) -> None:
    """Rows i and j change places."""
    upper, lower = g.row(i), g.row(j)
    for chunk in b.across(0, width):
        x, y = upper[chunk], lower[chunk]
        upper[chunk], lower[chunk] = y, x


def in_order(
    b: Bench, x: Row, count: int, first: Callable[[Number, Number], Number], rows: Sequence[tuple[Grid, Index]]
) -> None:
    """Bring the numbers x, and with them rows of grids (each so wide), into the order in which ``first`` puts them."""
    for i in b.range(0, count - 1):

        def better(j: Number, best: Sequence[Number]) -> list[Number]:
            wins = first(x[j], best[0])
            return [select(wins, x[j], best[0]), select(wins, j, best[1])]

        found, place = b.fold(i + 1, count, [x[i], i], better)
        with b.when(place.differs(i)):
            x[place] = x[i]
            x[i] = found
            for g, width in rows:
                exchange(b, g, i, place, width)
