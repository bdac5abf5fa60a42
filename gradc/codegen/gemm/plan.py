"""How a product is computed: which way round, by which kernel, in which blocks, with what scratch.

Enters: a `Gemm` and a `Target`.  Leaves: a `Plan`, from shapes, strides and the target alone, so the order of every sum
is the same in every run.  Start reading at `make_plan`.

Costs are estimates in vector FMAs; they only rank the ways to do one product.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum
from functools import lru_cache

import numpy as np

from gradc.codegen.gemm.pack import Pack, pack_kind
from gradc.codegen.gemm.problem import Gemm, Half, Strides
from gradc.codegen.target import LINE, PAGE, Cache, Target

#: Independent FMA chains that hide the latency of one (two units, four cycles each).
CHAINS = 8
#: What a tile costs besides its FMAs: the call, the write of C.
TILE_COST = 24
#: Tiles of a height that divides most extents are a little dear to leave: every other height is one more kernel.
FAVOUR = 1.04
#: What it costs to compute the last columns or rows as a product of their own, besides that: a little, and if the other
#: operand does not fit the first cache, to read it once more, so many bytes at a time.
REST_COST, REREAD_BYTES = 100.0, 20
#: What it costs to transpose one register's worth of elements.
FLIP_COST = 6.0
#: C is computed transposed, in scratch, up to this many bytes.
STAGE_BYTES = 64 << 10
#: B of this many bytes stays in the first-level cache beside the rest: then C is walked row by row.
RESIDENT_BYTES = 16 << 10
#: Beyond so many bytes of operands a tile of inner products streams them from the second-level cache, at a price.
STREAMED_BYTES, STREAMED = 32 << 10, 1.5
#: So many tiles of rows, or columns of C, must share the copy of an operand before it is worth its price.
PACKING_ROWS = 96
PACKING_COLUMNS = 32
#: k is cut into even blocks of at most this length, for each is a pass over C.
DEPTH = 1024
#: Operands that run along k side by side are read where they lie, in blocks of at least so many steps of k.
LEAST_DEPTH = 64
#: A share of the third cache. A block of packed B takes so much where A is packed anew for each of them, or is itself
#: larger and comes from memory again; else half the second cache.
SHARE_BYTES = 4 << 20


class Stage(Enum):
    """Where kernels put C."""

    NONE = "in place"
    FLIP = "in scratch, to be transposed"  # lanes run along the axis of C that is not contiguous
    MOVE = "in scratch, to be copied element by element"  # neither axis is


@dataclass(frozen=True)
class Plan:
    """``kernel`` is "tile" or "dot"; ``problem`` is the product it sees, ``swapped`` if transposed.

    ``rows`` x ``vectors`` is the register tile (of "dot": elements of C, ``chains`` registers each), ``depth`` a block
    of k, ``a_rows`` the rows of a block of A, ``panels`` the column panels in a block of B.  If there is a ``stage``, C
    is computed in scratch and copied to ``c_strides``, strides of C as the kernel sees it.  ``cost`` is in vector FMAs.
    With ``straddled``, B is packed only if at run time its vectors turn out to lie across cache lines.  ``rest``
    computes the columns or rows of C behind those of ``problem``, from element ``corner`` on.
    """

    problem: Gemm
    c_strides: Strides
    swapped: bool
    stage: Stage
    kernel: str
    width: int
    rows: int
    vectors: int
    cost: float
    depth: int
    a_rows: int
    panels: int
    pack_a: Pack | None = None
    pack_b: Pack | None = None
    straddled: bool = False
    chains: int = 1
    rest: Plan | None = None
    corner: tuple[int, int] = (0, 0)

    @property
    def columns(self) -> int:
        """Columns of a panel of B, or elements of a row that "dot" computes at once."""
        return self.vectors if self.kernel == "dot" else self.vectors * self.width

    @property
    def buffered(self) -> bool:
        """Whether an epilogue takes tiles from a buffer: they are complete at once, and lie as C does."""
        return self.kernel == "tile" and self.stage is Stage.NONE and not self.swapped and self.depth == self.problem.k

    @property
    def rows_outside(self) -> bool:
        """Whether all panels are walked for each tile of rows, so that C is written row by row."""
        return self.problem.k * self.problem.n * self.itemsize <= RESIDENT_BYTES

    @property
    def a_stride(self) -> int:
        """Distance of two rows of packed A: a vector more than a row, lest rows share sets of the cache."""
        return self.padded(self.depth) + self.width

    @property
    def itemsize(self) -> int:
        return np.dtype(self.problem.dtype).itemsize

    def padded(self, count: int) -> int:
        """``count`` rounded up to whole vectors."""
        return -(-count // self.width) * self.width

    @property
    def stage_bytes(self) -> int:
        """C, its rows padded to whole vectors."""
        if self.stage is Stage.NONE:
            return 0
        return _align(self.problem.m * self.padded(self.problem.n) * self.itemsize)

    @property
    def a_bytes(self) -> int:
        """Packed A: rows along k for a copy of rows, else columns; both padded to whole vectors."""
        if self.pack_a is None:
            return 0
        return _align(self.padded(self.a_rows) * self.a_stride * self.itemsize)

    @property
    def b_bytes(self) -> int:
        if self.pack_b is None:
            return 0
        panels = min(self.panels, -(-self.problem.n // self.columns))
        return _align(panels * self.columns * self.padded(self.depth) * self.itemsize)

    @property
    def scratch_bytes(self) -> int:
        """What this plan needs and the rest, which comes after it, may use again."""
        return max(self.stage_bytes + self.a_bytes + self.b_bytes, self.rest.scratch_bytes if self.rest else 0)


def _align(size: int) -> int:
    return -(-size // 64) * 64


@lru_cache(maxsize=1024)
def make_plan(gemm: Gemm, target: Target) -> Plan:
    """The cheapest way to compute ``gemm`` (a `Gemm` in normal form, not empty) on ``target``.

    Columns, or rows, behind the last whole vector get a plan of their own where that is cheaper.
    """
    options = [_at_once(gemm, target)]
    width = options[0].width
    for axis, extent in enumerate((gemm.m, gemm.n)):
        live = extent % width
        unwanted = gemm.half is (Half.UPPER, Half.LOWER)[axis]  # most of those rows, or columns
        if live and extent > width and not unwanted:
            counts = extent - live, live
            parts = [replace(gemm, m=count) if axis == 0 else replace(gemm, n=count) for count in counts]
            parts[1] = replace(parts[1], half=Half.NONE)
            main, rest = (_at_once(part.normal, target) for part in parts)
            other = (gemm.n, gemm.m)[axis] * gemm.k * main.itemsize
            again = REST_COST + (other / REREAD_BYTES if other > target.caches[0].size else 0)
            corner = (extent - live, 0) if axis == 0 else (0, extent - live)
            options.append(replace(main, rest=rest, corner=corner, cost=main.cost + rest.cost + again))
    return min(options, key=lambda plan: plan.cost)


def _at_once(gemm: Gemm, target: Target) -> Plan:
    width = min(16, target.lanes(gemm.dtype))
    seen = ((gemm, False), (gemm.transposed, True))
    ways = [replace(plan, swapped=swapped) for problem, swapped in seen for plan in _ways(problem, width, target)]
    return min(ways, key=lambda plan: plan.cost)


def _ways(g: Gemm, width: int, target: Target) -> Iterator[Plan]:
    if g.b_strides[0] == 1 and g.k >= width:
        yield _dot_plan(g, width, target.vector_registers)
    if g.c_strides[1] == 1:
        yield _tile_plan(g, width, target)
    elif g.c_strides[0] != 1:
        yield _staged_plan(g, Stage.MOVE, width, target)
    elif g.m * g.n * np.dtype(g.dtype).itemsize <= STAGE_BYTES:
        yield _staged_plan(g, Stage.FLIP, width, target)


def _staged_plan(g: Gemm, stage: Stage, width: int, target: Target) -> Plan:
    padded = -(-g.n // width) * width
    plan = _tile_plan(replace(g, c_strides=(padded, 1)), width, target)
    copies = (2 if g.accumulate else 1) * FLIP_COST * padded * g.m / width
    return replace(plan, c_strides=g.c_strides, stage=stage, cost=plan.cost + copies)


def _row_limit(vectors: int, registers: int) -> int:
    """Rows of a tile, so that sums, one row of B and one element of A fit the registers."""
    return min(16 if vectors == 1 else 14, (registers - 1 - vectors) // vectors)


def _vectors(g: Gemm, width: int, registers: int) -> int:
    """Two vectors wide; a tile of few rows is wider, for enough independent chains."""
    needed = -(-g.n // width)
    if g.m * 2 >= CHAINS:
        return min(needed, 2)
    return max(1, min(needed, 14, (registers - 1) // (g.m + 1)))


def _tile_plan(g: Gemm, width: int, target: Target) -> Plan:
    registers = target.vector_registers
    vectors = _vectors(g, width, registers)
    rows, row_cost = _rows(g, vectors, _row_limit(vectors, registers))
    panels = -(-g.n // width) / vectors
    cost = row_cost * panels + _packing_cost(pack_kind(*g.b_strides), g.n * g.k, width)
    return _blocked(_plan(g, "tile", width, rows, vectors, cost), target)


def _rows(g: Gemm, vectors: int, limit: int) -> tuple[int, float]:
    """The height of tiles that covers m at least cost, the tallest of equals, and the cost of one panel.

    A core loads as many registers as it multiplies: a tile one vector wide is bound by its loads.
    """
    favoured = 8 if limit >= 8 else 4

    def cost(rows: int) -> float:
        tiles = -(-g.m // rows)
        work = tiles * (max(rows * vectors, rows + vectors, CHAINS) * g.k + TILE_COST)
        return work if rows == favoured else work * FAVOUR

    best = min(range(min(g.m, limit), 0, -1), key=cost)
    return best, cost(best)


def _dot_plan(g: Gemm, width: int, registers: int) -> Plan:
    rows, cols = _even(g.m, (registers - 1) // 5), 8  # rows x 4 sums and as many of A fit the registers
    while cols > 1 and (cols > min(g.n, width) or rows * cols + rows + 1 > registers):
        cols //= 2
    chains = max(1, CHAINS // (rows * cols))
    tiles = -(-g.m // rows) * -(-g.n // cols)
    reduction = 4 if g.c_strides[1] == 1 else 6
    cost = float(tiles * (rows * cols * (-(-g.k // width) + reduction) + 16))
    if (rows + cols) * g.k * np.dtype(g.dtype).itemsize > STREAMED_BYTES:
        cost *= STREAMED
    kind = pack_kind(*g.a_strides)
    plan = _plan(g, "dot", width, rows, cols, cost + _packing_cost(kind, g.m * g.k, width))
    return replace(plan, chains=chains, pack_a=None if kind is Pack.COPY else kind)


def _plan(g: Gemm, kernel: str, width: int, rows: int, vectors: int, cost: float) -> Plan:
    """Everything in one block, nothing packed."""
    panels = -(-g.n // (vectors * width))
    return Plan(g, g.c_strides, False, Stage.NONE, kernel, width, rows, vectors, cost, g.k, g.m, panels)


def _packing_cost(kind: Pack, elements: int, width: int) -> float:
    return {Pack.COPY: 0.0, Pack.FLIP: FLIP_COST * elements / width, Pack.GATHER: 3.0 * elements}[kind]


def _even(extent: int, limit: int) -> int:
    """The length of even pieces of at most ``limit`` that cover ``extent``."""
    return -(-extent // max(1, -(-extent // limit)))


def _blocked(plan: Plan, target: Target) -> Plan:
    """Choose blocks and copies.

    B is packed where its columns are no neighbours, or where no panel of it would stay in the first cache and enough
    rows share the copy.  What fits half the second cache with all of C is computed at once, and such a panel then read
    as it lies, as long as no vector of it takes two lines.
    """
    g, size = plan.problem, plan.itemsize
    first, second = target.caches
    kind, step = pack_kind(*g.b_strides), g.b_strides[0] * size
    widened = g.a_dtype != g.dtype and g.n >= PACKING_COLUMNS and 1 in g.a_strides  # once, not for every panel
    scattered = g.m >= PACKING_ROWS and g.k > first.rows(plan.columns * size, step)
    if (g.m * g.k + g.k * g.n + g.m * g.n) * size <= second.size // 2:
        straddled = kind is Pack.COPY and scattered and step % LINE == 0 and g.b_dtype == g.dtype
        pack_b = kind if straddled or kind is not Pack.COPY else None
        return replace(plan, pack_a=Pack.COPY if widened else None, pack_b=pack_b, straddled=straddled)
    large = g.m >= PACKING_ROWS and g.k * g.n * size > second.size // 2
    packed = kind is not Pack.COPY or scattered or large
    depth = _even(g.k, DEPTH)
    if not packed and g.a_strides[0] == 1 and g.k > DEPTH:
        strips = first.rows(LINE, g.a_strides[1] * size), first.rows(plan.columns * size, step)
        depth = _even(g.k, min(DEPTH, max(LEAST_DEPTH, min(strips) // 2)))
    tiles = _even(-(-g.m // plan.rows), max(1, second.size * 3 // 8 // (depth * size * plan.rows)))
    a_rows = min(g.m, tiles * plan.rows)
    plan = replace(plan, depth=depth, a_rows=a_rows, pack_b=kind if packed else None)
    copied = widened or _a_scattered(plan, second)
    far = copied or g.m * depth * size > SHARE_BYTES
    panels = max(1, (SHARE_BYTES if far else second.size // 2) // (depth * size * plan.columns))
    return replace(plan, panels=min(panels, plan.panels), pack_a=Pack.COPY if copied else None)


def _a_scattered(plan: Plan, second: Cache) -> bool:
    """Whether A is to be packed: each step of k goes to another page, or rows of a block push each other out."""
    g, size = plan.problem, plan.itemsize
    if g.n < PACKING_COLUMNS or 1 not in g.a_strides:
        return False
    if g.a_strides[1] != 1:
        return abs(g.a_strides[1]) * size >= PAGE
    return plan.a_rows > second.rows(plan.depth * size, g.a_strides[0] * size)
