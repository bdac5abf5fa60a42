"""The loops around the kernels for one matrix product: blocks of columns, of k and of rows, panels, tiles.

Enters: a `Plan` and the pointers of one product.  Leaves: loops and calls in the function under construction.
Invariant: blocks of k come in order, and the first one alone may overwrite C; a tile that would reach over the last row
is moved up, and adds only to rows that no tile before it had.  Start reading at `emit_product`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial

from gradc.codegen.gemm.cut import Along, Part
from gradc.codegen.gemm.dot import Dot, emit_dot
from gradc.codegen.gemm.output import Output
from gradc.codegen.gemm.pack import Pack, emit_pack, emit_panel_pack
from gradc.codegen.gemm.plan import Plan
from gradc.codegen.gemm.problem import Half
from gradc.codegen.gemm.registers import Index, address, index, plus, smaller, storage, times
from gradc.codegen.gemm.tile import Tile, emit_tile
from gradc.codegen.ir import Function, Lanes, Value, const
from gradc.codegen.poll import ACCESS, AGAIN, BETWEEN, MACS, Meter, spending, steps_between
from gradc.codegen.target import LINE

#: Called with (sums, C, row, rows, column, columns) for every block of complete sums: two pointers to its corner.
Finish = Callable[[str, str, Index, Index, Index, Index], None]

#: Where a part begins and ends; None: all of it.
Bounds = tuple[Value, Value] | None


@contextmanager
def blocks(f: Function, extent: int, size: int, part: Bounds = None) -> Iterator[tuple[Index, Index]]:
    """(start, count) of the blocks of ``size`` that cover ``extent``, or ``part`` of it; no loop if there is one."""
    if part is not None:
        begin, end = part
        with f.loop(begin, end, size) as loop:
            yield loop.index, smaller(f, size, Lanes(f).sub(end, loop.index))
    elif extent <= size:
        yield 0, extent
    else:
        with f.loop(0, extent, size) as loop:
            yield loop.index, smaller(f, size, Lanes(f).sub(extent, loop.index))


@contextmanager
def each(f: Function, count: Index, part: Bounds = None) -> Iterator[Index]:
    """Every index below ``count``, or in ``part``; no loop if there is one."""
    if part is not None:
        with f.loop(*part) as loop:
            yield loop.index
    elif isinstance(count, int) and count == 1:
        yield 0
    else:
        with f.loop(0, index(count)) as loop:
            yield loop.index


def call(f: Function, name: str, *arguments: str | Value | int, passed: Sequence[str] = ()) -> None:
    """Call an internal function: strings are pointers, ints are int64, ``passed`` are typed already."""
    typed = [f"ptr {x}" if isinstance(x, str) else index(x).typed for x in arguments]
    f.line(f"call void @{name}({', '.join([*typed, *passed])})")


@dataclass(frozen=True)
class Product:
    """One product: pointers of A, B and C as the kernel sees them, and of scratch for their packed blocks.

    If there is a ``buffer``, tiles are computed there, rows ``plan.columns`` apart, and ``finish`` brings them to C.
    If there is a ``part``, no more than that is computed.  A ``meter`` says when to look whether to end.
    """

    f: Function
    plan: Plan
    a: str
    b: str
    c: str
    a_pack: str
    b_pack: str
    finish: Finish | None
    buffer: str | None
    part: Part | None = None
    meter: Meter | None = None

    def bounds(self, along: Along, count: int) -> Bounds:
        """Which of ``count`` pieces along an axis of C are to be computed."""
        return self.part.steps(self.f, along, count) if self.part is not None else None

    def at(self, base: str, *terms: Index) -> str:
        return address(self.f, base, plus(self.f, *terms), self.plan.problem.dtype)

    def output(self, first: bool) -> Output:
        g = self.plan.problem
        return Output(g.dtype, add=g.accumulate or not first, scaled=g.alpha is not None)

    def alpha(self, output: Output) -> list[Value]:
        """The argument for a function with such an output."""
        g = self.plan.problem
        return [const(g.alpha, storage(g.dtype))] if output.scaled and g.alpha is not None else []


@dataclass(frozen=True)
class Region:
    """``panels`` neighbouring panels of columns from ``first`` on that one kind of tile fills.

    Each has ``columns`` columns in ``vectors`` registers, the last of ``last`` lanes.
    """

    first: int
    panels: int
    columns: int
    vectors: int
    last: int
    width: int

    @property
    def live(self) -> int:
        """Columns in the last register."""
        return self.columns - (self.vectors - 1) * self.width

    @property
    def masked(self) -> bool:
        return self.live < self.last


@dataclass(frozen=True)
class Depth:
    """A block of k: where it starts, how long it is, and whether it is the first."""

    start: Index
    count: Index
    first: bool


def emit_product(p: Product) -> None:
    """Emit everything that computes one product, or its part, into C."""
    if p.plan.kernel == "dot":
        _dots(p)
    else:
        for region in _regions(p.plan):
            with _panels(p, region) as (first, panels), spending(p.meter, AGAIN):
                _depths(p, partial(_rows, p, region, first, panels))
    if p.finish and not p.buffer:
        row, rows = _range(p, Along.ROWS, p.plan.problem.m, p.plan.rows)
        col, cols = _range(p, Along.COLUMNS, p.plan.problem.n, p.plan.columns)
        down, along = p.plan.problem.c_strides
        with row_blocks(p.f, p.meter, row, rows, p.plan.problem.n, p.plan.width) as (at, count):
            corner = p.at(p.c, times(p.f, at, down), times(p.f, col, along))
            p.finish(corner, corner, at, count, col, cols)


#: What an epilogue does with a vector of sums, as far as is known here.
OF_AN_EPILOGUE = 32


@contextmanager
def row_blocks(
    f: Function, meter: Meter | None, row: Index, rows: Index, columns: int, width: int
) -> Iterator[tuple[Index, Index]]:
    """(first, number) of the rows of complete sums that an epilogue gets at once: all, or those between two looks."""
    operations = OF_AN_EPILOGUE * columns / width
    size = steps_between(operations)
    if meter is None:
        yield row, rows
        return
    i, end = Lanes(f), plus(f, row, rows)
    with f.loop(index(row), end, size) as loop, spending(meter, operations * size):
        yield loop.index, i.min(i.sub(end, loop.index), size)


def _range(p: Product, along: Along, extent: int, size: int) -> tuple[Index, Index]:
    """The first and the number of rows or columns that are computed, in pieces of ``size``."""
    bounds = p.bounds(along, -(-extent // size))
    if bounds is None:
        return 0, extent
    begin, end = (times(p.f, x, size) for x in bounds)
    return begin, Lanes(p.f).sub(smaller(p.f, end, extent), begin)


@contextmanager
def _panels(p: Product, region: Region) -> Iterator[tuple[Index, Index]]:
    """(first, number) of the panels in each block of a region: those of the part, if columns are cut."""
    before = region.first // p.plan.columns
    bounds = p.bounds(Along.COLUMNS, -(-p.plan.problem.n // p.plan.columns))
    if bounds is not None:
        i = Lanes(p.f)
        begin, end = (i.min(i.max(i.sub(x, before), 0), region.panels) for x in bounds)
        bounds = begin, end
    with blocks(p.f, region.panels, p.plan.panels, bounds) as block:
        yield block


def _regions(plan: Plan) -> list[Region]:
    """The whole panels, then the rest of the columns."""
    full, rest = divmod(plan.problem.n, plan.columns)
    regions = [Region(0, full, plan.columns, plan.vectors, plan.width, plan.width)] if full else []
    if rest:
        vectors = -(-rest // plan.width)
        live = rest - (vectors - 1) * plan.width
        last = 1 << (live - 1).bit_length()
        regions.append(Region(full * plan.columns, 1, rest, vectors, last, plan.width))
    return regions


def _depths(p: Product, body: Callable[[Depth], None]) -> None:
    """The first block of k, and a loop over the others."""
    k, size = p.plan.problem.k, p.plan.depth
    body(Depth(0, min(k, size), first=True))
    if k > size:
        with p.f.loop(size, k, size) as loop:
            body(Depth(loop.index, smaller(p.f, size, Lanes(p.f).sub(k, loop.index)), first=False))


# -- tiles -------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Source:
    """Where the kernel reads an operand: a pointer to (0, 0) of a block, its strides, and what its elements are."""

    base: str
    row: Index
    col: Index
    dtype: str


def _rows(p: Product, region: Region, first: Index, panels: Index, depth: Depth) -> None:
    """All rows of a block of panels, for one block of k."""
    plan = p.plan
    columns = plus(p.f, region.first, times(p.f, first, region.columns))
    tiles, height = -(-plan.problem.m // plan.rows), max(1, plan.a_rows // plan.rows)
    wide, deep = min(plan.panels, region.panels) * region.columns, min(plan.depth, plan.problem.k)
    packing, block = deep * wide / 2, min(height * plan.rows, plan.problem.m) * deep * wide / MACS
    with ExitStack() as inside:
        inside.enter_context(spending(p.meter, packing))
        b, panel_stride = _read_b(p, region, depth, columns, panels)
        tile, count = inside.enter_context(blocks(p.f, tiles, height, p.bounds(Along.ROWS, tiles)))
        inside.enter_context(spending(p.meter, block))
        top = _tile_start(p, tile)
        a = _read_a(p, depth, top, tile, count)
        with _pairs(p, panels, count) as (panel, t):
            start, skip = _moved_up(p, plus(p.f, tile, t), plan.rows, plan.problem.m)
            a_at = address(p.f, a.base, times(p.f, Lanes(p.f).sub(start, top), a.row), a.dtype)
            b_at = address(p.f, b.base, times(p.f, panel, panel_stride), b.dtype)
            col = plus(p.f, columns, times(p.f, panel, region.columns))
            with _if_wanted(p, start, col, region.columns):
                _tile(p, region, depth, replace(a, base=a_at), replace(b, base=b_at), start, skip, col)


def _if_wanted(p: Product, row: Value, col: Value, columns: int) -> AbstractContextManager[None]:
    """Guard of a tile, of which nothing may be in the half of C that is wanted."""
    i, half = Lanes(p.f), p.plan.problem.half
    if half is Half.UPPER:
        return p.f.when(i.lt(row, plus(p.f, col, columns)))
    if half is Half.LOWER:
        return p.f.when(i.lt(col, plus(p.f, row, p.plan.rows)))
    return nullcontext()


@contextmanager
def _pairs(p: Product, panels: Index, tiles: Index) -> Iterator[tuple[Index, Index]]:
    """Every (panel, tile); a panel of B stays in the nearest cache for all tiles, or all of B does."""
    if p.plan.rows_outside:
        with each(p.f, tiles) as tile, each(p.f, panels) as panel:
            yield panel, tile
    else:
        with each(p.f, panels) as panel, each(p.f, tiles) as tile:
            yield panel, tile


def _moved_up(p: Product, piece: Index, size: int, extent: int) -> tuple[Value, Value]:
    """(start, overlap) of a piece: the last one is moved up to end with the extent, over what is done already."""
    start = times(p.f, piece, size)
    if extent % size == 0:
        return start, const(0, "int64")
    moved = smaller(p.f, start, extent - size)
    return moved, Lanes(p.f).sub(start, moved)


def _tile_start(p: Product, tile: Index) -> Value:
    return _moved_up(p, tile, p.plan.rows, p.plan.problem.m)[0]


def _read_b(p: Product, region: Region, depth: Depth, columns: Value, panels: Index) -> tuple[Source, Index]:
    """B of a block of panels, packed if the plan says so, and the distance of two panels."""
    (row, col), dtype, given = p.plan.problem.b_strides, p.plan.problem.dtype, p.plan.problem.b_dtype
    corner = address(p.f, p.b, plus(p.f, times(p.f, depth.start, row), times(p.f, columns, col)), given)
    source = Source(corner, row, col, given)
    if p.plan.pack_b is None:
        return source, region.columns * col
    width = region.vectors * p.plan.width
    room = width * p.plan.padded(p.plan.depth)
    if not p.plan.straddled:
        _pack_b(p, region, depth, source, panels, room)
        return Source(p.b_pack, width, 1, dtype), room
    i = Lanes(p.f)
    place = Value(p.f.let(f"ptrtoint ptr {corner} to i64"), "int64")
    across = i.ne(i.and_(place, LINE - 1), 0)
    with p.f.when(across):
        _pack_b(p, region, depth, source, panels, room)
    base = p.f.let(f"select {across.typed}, ptr {p.b_pack}, ptr {corner}")
    stride, distance = i.select(across, index(width), row), i.select(across, index(room), region.columns)
    return Source(base, stride, 1, dtype), distance


def _pack_b(p: Product, region: Region, depth: Depth, b: Source, panels: Index, room: int) -> None:
    """A block of panels, copied to scratch one behind the other."""
    plan, width = p.plan, region.vectors * p.plan.width
    assert plan.pack_b is not None
    if plan.pack_b is Pack.COPY and region.columns == width:
        name = emit_panel_pack(p.f.module, b.dtype, plan.problem.dtype, plan.width, region.vectors)
        call(p.f, name, b.base, b.row, depth.count, panels, p.b_pack, room)
        return
    with each(p.f, panels) as panel:
        corner = address(p.f, b.base, times(p.f, panel, times(p.f, region.columns, b.col)), b.dtype)
        target = p.at(p.b_pack, times(p.f, panel, room))
        _pack(p, plan.pack_b, replace(b, base=corner), depth.count, region.columns, target, width)


def _read_a(p: Product, depth: Depth, top: Value, tile: Index, count: Index) -> Source:
    """A of a block of tiles from row ``top`` on, packed if the plan says so: neighbours stay neighbours."""
    (row, col), dtype, given = p.plan.problem.a_strides, p.plan.problem.dtype, p.plan.problem.a_dtype
    corner = address(p.f, p.a, plus(p.f, times(p.f, top, row), times(p.f, depth.start, col)), given)
    if p.plan.pack_a is None:
        return Source(corner, row, col, given)
    end = plus(p.f, _tile_start(p, plus(p.f, tile, count, -1)), p.plan.rows)
    rows = Lanes(p.f).sub(end, top)
    if col == 1:
        stride = p.plan.a_stride
        _pack(p, p.plan.pack_a, Source(corner, row, 1, given), rows, depth.count, p.a_pack, stride)
        return Source(p.a_pack, stride, 1, dtype)
    stride = p.plan.padded(p.plan.a_rows)
    _pack(p, p.plan.pack_a, Source(corner, col, 1, given), depth.count, rows, p.a_pack, stride)
    return Source(p.a_pack, 1, stride, dtype)


def _pack(p: Product, kind: Pack, source: Source, rows: Index, cols: Index, target: str, stride: int) -> None:
    name = emit_pack(p.f.module, kind, source.dtype, p.plan.problem.dtype, p.plan.width, rows, cols)
    call(p.f, name, source.base, source.row, source.col, rows, cols, target, stride)


def _tile(p: Product, region: Region, depth: Depth, a: Source, b: Source, row: Value, skip: Value, col: Value) -> None:
    """One tile, in C or in the buffer and from there to C."""
    plan = p.plan
    output = Output(plan.problem.dtype) if p.buffer else p.output(depth.first)
    tile = Tile(plan.width, plan.rows, region.vectors, region.last, output, region.masked, a.dtype, b.dtype)
    down, along = plan.problem.c_strides
    corner = p.at(p.c, times(p.f, row, down), times(p.f, col, along))
    place, stride = (p.buffer, plan.columns) if p.buffer else (corner, down)
    live: list[Index] = [region.live] if tile.masked else []
    optional = [*live, *([skip] if output.add else []), *p.alpha(output)]
    call(p.f, emit_tile(p.f.module, tile), a.base, a.row, a.col, b.base, b.row, place, stride, depth.count, *optional)
    if p.finish and p.buffer:
        sums, new = p.at(p.buffer, times(p.f, skip, stride)), p.at(corner, times(p.f, skip, down))
        p.finish(sums, new, plus(p.f, row, skip), Lanes(p.f).sub(plan.rows, skip), col, region.columns)


# -- inner products ----------------------------------------------------------------------------------------------------
def _dots(p: Product) -> None:
    plan, g = p.plan, p.plan.problem
    a = Source(p.a, *g.a_strides, g.a_dtype)
    if plan.pack_a is not None:
        room = plan.padded(plan.depth)
        _pack_whole(p, plan.pack_a, a, room)
        a = Source(p.a_pack, room, 1, g.dtype)
    output = p.output(first=True)
    step = plan.rows * plan.columns + ACCESS * (plan.rows + plan.columns)
    one = step * g.k / plan.width
    looks = p.meter is not None and one > BETWEEN
    dot = Dot(
        plan.width, plan.rows, plan.columns, plan.chains, g.c_strides[1] == 1, output, a.dtype, g.b_dtype, looks
    )  # fmt: skip
    name = emit_dot(p.f.module, dot)
    columns, rows = -(-g.n // dot.cols), -(-g.m // dot.rows)
    bounds = p.bounds(Along.COLUMNS, columns), p.bounds(Along.ROWS, rows)
    with each(p.f, columns, bounds[0]) as across, each(p.f, rows, bounds[1]) as down:
        row, above = _moved_up(p, down, dot.rows, g.m)
        col, skip = _moved_up(p, across, dot.cols, g.n)
        a_at = address(p.f, a.base, times(p.f, row, a.row), a.dtype)
        b_at = address(p.f, p.b, times(p.f, col, g.b_strides[1]), g.b_dtype)
        c_at = p.at(p.c, times(p.f, row, g.c_strides[0]), times(p.f, col, g.c_strides[1]))
        optional = [*([above, skip] if output.add else []), *p.alpha(output)]
        passed = [f"ptr {p.meter.status}", f"i64 {p.f.who}"] if p.meter is not None and looks else []
        with spending(p.meter, one):
            call(p.f, name, a_at, a.row, b_at, g.b_strides[1], c_at, *g.c_strides, g.k, *optional, passed=passed)


def _pack_whole(p: Product, kind: Pack, a: Source, room: int) -> None:
    """All of A, in pieces along k if somebody may ask for the end meanwhile."""
    g = p.plan.problem
    if p.meter is None:
        _pack(p, kind, a, g.m, g.k, p.a_pack, room)
        return
    each_k = g.m * ACCESS / p.plan.width
    size = p.plan.width * steps_between(each_k * p.plan.width)
    with blocks(p.f, g.k, size) as (start, count), spending(p.meter, each_k * min(g.k, size)):
        corner = address(p.f, a.base, times(p.f, start, a.col), a.dtype)
        _pack(p, kind, replace(a, base=corner), g.m, count, p.at(p.a_pack, start), room)
