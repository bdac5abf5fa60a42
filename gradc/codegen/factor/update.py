"""Products and triangular solves inside of factorisations: where nearly all of their arithmetic is done.

Enters: pointers, strides and sizes, known only when the code runs.  Leaves: internal functions of the module, each
emitted on first use, and calls of them.
Invariant: an element of a product is summed along k in order, in stretches of `DEPTH`, each added to the element as
one; a solve takes `SMALL` rows at a time.  Neither depends on where the matrices lie.
Start reading at `Update.subtract`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gradc.codegen import memory
from gradc.codegen.factor.number import Index, Number, fma, select, smaller
from gradc.codegen.factor.rows import Bench, Chunk, Grid, Row
from gradc.codegen.gemm.registers import transpose
from gradc.codegen.ir import REGISTER, Function, Module, Value
from gradc.codegen.target import Target

#: Terms of a sum that are taken before the element is touched again; rows of the packed operand.
DEPTH = 256
#: Rows that are solved one by one, and rows or columns of the blocks that are taken out of what is behind them.
SMALL, LARGE = 8, 64
#: Vectors of a tile, and vectors of columns that are solved side by side.
ACROSS, SIDE = 3, 4
#: Products of so few tiles across read the left operand where it is; of more it is packed first.
FEW = 2
#: an element of the left operand by its row in a tile and its place in the sum
Element = Callable[[int, Number], Number]


def named(module: Module, dtype: str, what: str, emit: Callable[[Module, str], None]) -> str:
    """The function of a module that does ``what``, emitted when it is first asked for."""
    name = f"factor.{what}.{dtype}"
    if name not in module.functions:
        emit(module, name)
    return name


@dataclass(frozen=True)
class Update:
    """The functions of modules for matrices of ``dtype``; each call takes scratch of `pack_elements`, ``pack``."""

    target: Target
    dtype: str

    @property
    def lanes(self) -> int:
        return self.target.lanes(self.dtype)

    @property
    def height(self) -> int:
        """Rows of a tile: with its vectors and their factors they fill the registers."""
        return 8 if self.target.vector_registers >= 32 else 4

    def pack_elements(self, longest: int) -> int:
        """Scratch of products in matrices of so many rows or columns, one of whose sizes m and k is at most `LARGE`."""
        return self._pack_of_b + LARGE * max(longest, DEPTH)

    @property
    def _pack_of_b(self) -> int:
        return DEPTH * ACROSS * self.lanes

    # -- calls -------------------------------------------------------------------------------------------------------
    def add(
        self, c: Grid, a: Grid, b: Grid, m: Index, n: Index, k: Index, pack: str, sign: float = 1.0, half: bool = False
    ) -> None:
        """c[:m, :n] += sign · a[:m, :k] · b[:k, :n]; if ``half``, elements left of the diagonal need not be right."""
        bench = c.bench
        name = named(bench.f.module, self.dtype, "product", self._emit_product)
        pointers = ", ".join(f"ptr {p}" for p in (c.pointer, a.pointer, b.pointer, pack))
        sizes = (c.down, a.down, a.along, b.down, m, n, k, int(half))
        scalars = ", ".join(bench.index(x).value.typed for x in sizes)
        bench.f.line(f"call void @{name}({pointers}, {scalars}, {bench.number(sign).value.typed})")

    def subtract(self, c: Grid, a: Grid, b: Grid, m: Index, n: Index, k: Index, pack: str, half: bool = False) -> None:
        """c[:m, :n] -= a[:m, :k] · b[:k, :n]."""
        self.add(c, a, b, m, n, k, pack, -1.0, half)

    def solve(self, left: Grid, x: Grid, m: Index, n: Index, pack: str, unit: bool = False) -> None:
        """x[:m, :n] becomes left⁻¹ x for at most `LARGE` rows; of ``left`` the lower triangle alone is read, and if
        ``unit`` its diagonal is 1, and not read.  An upper triangle is a lower one seen `Grid.backwards`.
        """
        bench = x.bench
        emit = self._emit_unit_solve if unit else self._emit_plain_solve
        name = named(bench.f.module, self.dtype, "solve.unit" if unit else "solve", emit)
        pointers = ", ".join(f"ptr {p}" for p in (left.pointer, x.pointer, pack))
        scalars = ", ".join(bench.index(v).value.typed for v in (left.down, left.along, x.down, m, n))
        bench.f.line(f"call void @{name}({pointers}, {scalars})")

    # -- the product -------------------------------------------------------------------------------------------------
    def _emit_product(self, module: Module, name: str) -> None:
        pointers = [("ptr", p) for p in ("c", "a", "b", "pack")]
        sizes = [("i64", s) for s in ("c.down", "a.down", "a.along", "b.down", "m", "n", "k", "half")]
        f = Function(module, name, [*pointers, *sizes, (REGISTER[self.dtype], "sign")], "internal void")
        bench = Bench(f, self.dtype, self.lanes)
        m, n, k = (bench.argument(s) for s in "mnk")
        c, b = (Grid(bench, f"%{g}", bench.argument(f"{g}.down")) for g in "cb")
        a = Grid(bench, "%a", bench.argument("a.down"), bench.argument("a.along"))
        half, width = bench.argument("half").differs(0), ACROSS * self.lanes
        for start in bench.range(0, k, DEPTH):
            depth, near = smaller(k - start, DEPTH), n <= FEW * width
            with bench.when(~near):
                self._pack_a(a.from_(0, start), m // self.height * self.height, depth)
            for j in bench.range(0, n, width):
                chunks = [bench.rest(j + v * self.lanes, n) for v in range(ACROSS)]
                self._pack(bench, b.from_(start, 0), depth, chunks)
                rows = select(half, smaller(m, j + width), m)
                whole = rows // self.height * self.height
                for i in bench.range(0, select(near, 0, whole), self.height):
                    block = Row(bench, self._packed_a(bench, i * depth), self.dtype)
                    at = self._places_in(block)
                    self._tile(c.from_(i, 0), at, depth, chunks, self.height)
                for i in bench.range(0, select(near, whole, 0), self.height):
                    self._tile(c.from_(i, 0), self._rows_of(a.from_(i, start)), depth, chunks, self.height)
                for i in bench.range(whole, rows):
                    self._tile(c.from_(i, 0), self._rows_of(a.from_(i, start)), depth, chunks, 1)
        f.finish()

    def _rows_of(self, a: Grid) -> Element:
        return lambda r, t: a[r, t]

    def _places_in(self, block: Row) -> Element:
        return lambda r, t: block[t * self.height + r]

    def _packed_a(self, bench: Bench, offset: Number) -> str:
        return memory.offset_pointer(bench.f, "%pack", (offset + self._pack_of_b).value, self.dtype)

    def _pack_a(self, a: Grid, rows: Number, depth: Number) -> None:
        """The factors of one tile after another, in the order in which it takes them; those of a transpose are
        neighbours."""
        bench, f = a.bench, a.bench.f
        across = bench.index(a.down).equals(1)
        for i in bench.range(0, rows, self.height):
            block = Row(bench, self._packed_a(bench, i * depth), self.dtype)
            for t in bench.range(0, select(across, depth, 0)):
                some = memory.load(f, a.at(i, t), self.dtype, self.height)
                memory.store(f, some, block.from_(t * self.height).pointer)
            for t in bench.range(0, select(across, 0, depth)):
                for r in range(self.height):
                    block[t * self.height + r] = a[i + r, t]

    def _packed(self, bench: Bench, t: Number, v: int) -> str:
        offset = t * (ACROSS * self.lanes) + v * self.lanes
        return memory.offset_pointer(bench.f, "%pack", offset.value, self.dtype)

    def _pack(self, bench: Bench, b: Grid, depth: Number, chunks: Sequence[Chunk]) -> None:
        """The rows of b, as wide as a tile, one after another; zeros where b ends."""
        sign = bench.wide(bench.argument("sign", self.dtype))
        for t in bench.range(0, depth):
            row = b.row(t)
            for v, chunk in enumerate(chunks):
                memory.store(bench.f, (row[chunk] * sign).value, self._packed(bench, t, v), aligned=True)

    def _tile(self, c: Grid, a: Element, depth: Number, chunks: Sequence[Chunk], height: int) -> None:
        """So many rows of c, a few vectors wide, plus the product, which grows in registers."""
        bench, f = c.bench, c.bench.f
        zero = bench.wide(0.0).value
        with f.loop(0, depth.value, 1, [zero] * (height * len(chunks))) as loop:
            t, totals = Number(f, loop.index), [Number(f, x) for x in loop.carry]
            packed = [
                Number(f, memory.load(f, self._packed(bench, t, v), self.dtype, self.lanes, aligned=True))
                for v in range(len(chunks))
            ]
            for r in range(height):
                factor = bench.wide(a(r, t))
                for v, x in enumerate(packed):
                    at = r * len(chunks) + v
                    loop.next[at] = fma(factor, x, totals[at]).value
        for r in range(height):
            row_of_c = c.row(r)
            for v, chunk in enumerate(chunks):
                row_of_c[chunk] = row_of_c[chunk] + Number(f, loop.result[r * len(chunks) + v])

    # -- the solve ---------------------------------------------------------------------------------------------------
    def _emit_plain_solve(self, module: Module, name: str) -> None:
        self._emit_solve(module, name, unit=False)

    def _emit_unit_solve(self, module: Module, name: str) -> None:
        self._emit_solve(module, name, unit=True)

    def _emit_solve(self, module: Module, name: str, unit: bool) -> None:
        """A few rows at a time, solved one by one and then taken out of those behind them."""
        pointers = [("ptr", p) for p in ("left", "x", "pack")]
        sizes = [("i64", s) for s in ("left.down", "left.along", "x.down", "m", "n")]
        f = Function(module, name, [*pointers, *sizes], "internal void")
        bench = Bench(f, self.dtype, self.lanes)
        m, n = bench.argument("m"), bench.argument("n")
        left = Grid(bench, "%left", bench.argument("left.down"), bench.argument("left.along"))
        x = Grid(bench, "%x", bench.argument("x.down"))
        for first in bench.range(0, m, SMALL):
            stop = smaller(first + SMALL, m)
            self._solve_rows(left, x, first, stop, n, unit)
            with bench.when(stop < m):
                rest, rows, depth = x.from_(stop, 0), m - stop, stop - first
                self.subtract(rest, left.from_(stop, first), x.from_(first, 0), rows, n, depth, "%pack")
        f.finish()

    def _solve_rows(self, left: Grid, x: Grid, first: Number, stop: Number, n: Number, unit: bool) -> None:
        """Rows one after another, a few vectors of columns at a time; the rows before them are in the cache."""
        bench = x.bench
        for j in bench.range(0, n, SIDE * self.lanes):
            chunks = [bench.rest(j + v * self.lanes, n) for v in range(SIDE)]
            for i in bench.range(first, stop):
                row = x.row(i)

                def step(t: Number, sums: Sequence[Number], i: Number = i) -> list[Number]:
                    factor, solved = bench.wide(-left[i, t]), x.row(t)
                    return [fma(factor, solved[chunk], s) for chunk, s in zip(chunks, sums, strict=True)]  # noqa: B023

                sums = bench.fold(first, i, [row[chunk] for chunk in chunks], step)
                divisor = None if unit else bench.wide(left[i, i])
                for chunk, s in zip(chunks, sums, strict=True):
                    row[chunk] = s if divisor is None else s / divisor


# -- transposition -----------------------------------------------------------------------------------------------------


def turned(bench: Bench, source: Grid, i: Index, j: Index, rows: Index, columns: Index) -> list[Value]:
    """The square of lanes at (i, j) of ``source``, transposed in registers; zeros beyond its rows and columns."""
    i, chunk = bench.index(i), bench.rest(bench.index(j), bench.index(columns))
    read = []
    for r in range(bench.lanes):
        inside = i + r < rows
        live = Value(bench.f.let(f"select {inside.value.typed}, {_typed(chunk)}, {_none(chunk)}"), "bool", bench.lanes)
        read.append(source.row(i + r)[Chunk(chunk.at, live)].value)
    return transpose(bench.f, read)


def _typed(chunk: Chunk) -> str:
    assert chunk.mask is not None
    return chunk.mask.typed


def _none(chunk: Chunk) -> str:
    assert chunk.mask is not None
    return f"{chunk.mask.type} zeroinitializer"


def write_square(
    bench: Bench, target: Grid, i: Index, j: Index, rows: Index, columns: Index, square: list[Value]
) -> None:
    """A square of lanes to (i, j) of ``target``, what lies within its rows and columns."""
    i, chunk = bench.index(i), bench.rest(bench.index(j), bench.index(columns))
    for r, value in enumerate(square):
        with bench.when(i + r < rows):
            target.row(i + r)[chunk] = Number(bench.f, value)
