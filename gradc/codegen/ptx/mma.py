"""A product on tensor cores: a warp multiplies fragments of both operands by ``mma.sync``.

Enters: tiles in shared memory.  Leaves: sums in registers, float32.
A fragment of the left operand is 16 rows, one of the right operand 8 columns, both 32 bytes deep; a register holds 4
bytes along the summed axis.  Lane 4·g + t of a warp has, of the left operand, rows g and g + 8 at bytes 4t and 16 + 4t;
of the right one, column g at the same bytes; of the result, columns 2t and 2t + 1 of rows g and g + 8 (NVIDIA, PTX ISA,
"Matrix fragments for mma").  ``ldmatrix`` brings four such 8 × 16-byte pieces at once, of tiles that lie along the
summed axis, or, of 2-byte elements, across it; float32 tiles that lie across it are read element by element.
Rows of tiles start so that no two lanes of an access meet in one bank.

Invariant: which products a sum holds, and the order in which instructions add to it, follow from shapes and the target.
The order inside one instruction is the hardware's: the same bits on the same chip, in every run.
Start reading at `Mma.multiplied`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from gradc.codegen import memory
from gradc.codegen.ir import Value, const
from gradc.codegen.ptx.feed import Feed
from gradc.codegen.ptx.operand import Shelf, access_width, in_rows, own_is_near
from gradc.codegen.ptx.problem import Problem, Side, Walk
from gradc.codegen.ptx.target import WARP, Gpu
from gradc.codegen.ptx.thread import Thread
from gradc.codegen.ptx.tile import Tile, choose

#: Bytes along the summed axis of a fragment, and of a tile in shared memory.
FRAGMENT_BYTES, TILE_BYTES = 32, 64
#: Bytes between the rows of a tile beyond its width: 16-byte pieces of eight neighbouring rows lie in different banks.
PAD_BYTES = 16
#: (rows, columns) of a block and of a warp, and how near to the peak it comes, roughly.
SHAPES = (
    (128, 128, 64, 32, 1.0), (64, 64, 32, 32, 0.6), (32, 32, 16, 16, 0.3), (128, 16, 32, 16, 0.3),
    (16, 128, 16, 32, 0.3),
)  # fmt: skip
#: Tiles of so many elements leave no registers to bring narrow floats one by one.
LARGEST = 128 * 128
#: A product with a shorter side than this fills no fragment.
SHORTEST = 8
#: Rows and columns of one instruction.
ROWS, COLUMNS = 16, 8


@dataclass(frozen=True, slots=True)
class Fragment:
    """One kind of mma: what its operands are, and how many elements along the summed axis it takes."""

    title: str
    size: int  #: bytes of an element in memory
    depth: int
    intrinsic: str
    register: str  #: LLVM's type of a register of an operand
    speed: int  #: products that a multiprocessor adds up in a cycle
    rounded: bool = False  #: elements are float32, and are rounded to tf32 on their way into registers


TF32 = Fragment("product_tf32", 4, 8, "llvm.nvvm.mma.m16n8k8.row.col.tf32", "i32", 512, rounded=True)
BF16 = Fragment("product_bf16", 2, 16, "llvm.nvvm.mma.m16n8k16.row.col.bf16", "i32", 1024)
F16 = Fragment("product_f16", 2, 16, "llvm.nvvm.mma.m16n8k16.row.col.f32.f32", "<2 x half>", 1024)
#: The largest that sm_75 has.
SHORT_F16 = Fragment("product_f16", 2, 8, "llvm.nvvm.mma.m16n8k8.row.col.f32.f32", "<2 x half>", 512)


def fragment_for(p: Problem, gpu: Gpu, tf32: bool) -> Fragment | None:
    """The kind of mma for a product, or None where single threads do it.

    Narrow floats, whose products float32 holds, are multiplied by what is made for them; float32 only if ``tf32``.
    """
    dtype = p.left.dtype
    if min(p.m, p.n, p.k) < SHORTEST or p.dtype != "float32" or p.right.dtype != dtype:
        return None
    late = gpu.compute_capability >= (8, 0)
    if dtype == "float16":
        return F16 if late else SHORT_F16
    if dtype == "bfloat16":
        return BF16 if late else None
    return TF32 if dtype == "float32" and tf32 and gpu.has_tf32 else None


class Mma:
    """Each warp has ``tm`` x ``tn`` elements of the block's tile."""

    stages = 4
    run = 2

    def __init__(self, p: Problem, kind: Fragment):
        self.kind, self.title = kind, kind.title
        self.dtype = "float32" if kind.size == 4 else "uint16"  # narrow floats are moved as they are
        depth = TILE_BYTES // kind.size
        sides = ((p.left, p.left.first, p.left.second), (p.right, p.right.second, p.right.first))
        vectors = all(in_rows(side, own if own_is_near(own, deep) else deep, 2) for side, own, deep in sides)
        shapes = SHAPES if vectors or kind.size == 4 else [s for s in SHAPES if s[0] * s[1] < LARGEST]
        tiles = [Tile(bm, bn, depth, tm, tn, rate) for bm, bn, tm, tn, rate in shapes]
        self.tile, self.parts = choose(tiles, p.extents, kind.speed)
        self.threads = WARP * (self.tile.bm // self.tile.tm) * (self.tile.bn // self.tile.tn)
        self.copied = access_width(self.dtype)

    def as_read(self, side: Side) -> Side:
        """Bits, whatever they mean."""
        return replace(side, dtype=self.dtype)

    def shelf(self, width: int, own: Walk, deep: Walk) -> Shelf:
        """Along the axis along which the array in memory lies.

        Element by element, lanes of an access stand in 4 rows and 8 columns: rows are 8 banks apart then.
        """
        by_own = own_is_near(own, deep)
        pad = 2 * PAD_BYTES if by_own and self.kind.rounded else PAD_BYTES
        return Shelf(width, self.tile.bk, by_own, (width if by_own else self.tile.bk) + pad // self.kind.size)

    def start(self, thread: Thread, feed: Feed) -> None:
        """Find the warp's place in the tile and the lane's in a fragment."""
        self.thread, self.feed, self.f, self.b = thread, feed, thread.f, thread.b
        b, number = self.b, thread.number()
        across = self.tile.bn // self.tile.tn
        warp, self.lane = b.shr(number, 5), b.and_(number, WARP - 1)
        self.corner = (b.mul(b.idiv(warp, across), self.tile.tm), b.mul(b.irem(warp, across), self.tile.tn))
        self.group, self.member = b.shr(self.lane, 2), b.and_(self.lane, 3)

    def zeros(self) -> list[Value]:
        return [const(0, "float32")] * (self.tile.tm * self.tile.tn // WARP)

    # -- multiplying -------------------------------------------------------------------------------------------------
    def multiplied(self, stage: Value, sums: Sequence[Value]) -> list[Value]:
        """The tile at ``stage`` multiplied and added to ``sums``, one fragment deep after the other."""
        result = list(sums)
        bases = [self._base(which, stage) for which in (0, 1)]
        for deep in range(0, self.tile.bk, FRAGMENT_BYTES // self.kind.size):
            rows = [self._pieces(0, bases[0], i, deep) for i in range(0, self.tile.tm, ROWS)]
            pairs = [self._pieces(1, bases[1], j, deep) for j in range(0, self.tile.tn, 2 * COLUMNS)]
            columns = [half for pair in pairs for half in (pair[:2], pair[2:])]
            for i, x in enumerate(rows):
                for j, y in enumerate(columns):
                    at = 4 * (i * len(columns) + j)
                    result[at : at + 4] = self._mma(x, y, result[at : at + 4])
        return result

    def _mma(self, x: Sequence[str], y: Sequence[str], sums: Sequence[Value]) -> list[Value]:
        """16 x 8 sums and a fragment of each operand: one instruction, or one for each half of their depth."""
        count = FRAGMENT_BYTES // self.kind.size // self.kind.depth
        for k in range(count):
            a, b = x[4 // count * k : 4 // count * (k + 1)], y[2 // count * k : 2 // count * (k + 1)]
            result = "{float, float, float, float}"
            given = [*(f"{self.kind.register} {r}" for r in (*a, *b)), *(s.typed for s in sums)]
            types = [self.kind.register] * (len(a) + len(b)) + ["float"] * 4
            self.f.module.declare(self.kind.intrinsic, result, *types)
            found = self.f.let(f"call {result} @{self.kind.intrinsic}({', '.join(given)})")
            sums = [Value(self.f.let(f"extractvalue {result} {found}, {i}"), "float32") for i in range(4)]
        return list(sums)

    # -- fragments ---------------------------------------------------------------------------------------------------
    def _by_element(self, which: int) -> bool:
        """Whether a tile is read element by element."""
        return self.feed.supply.operands[which].shelf.by_own and self.kind.size == 4

    def _base(self, which: int, stage: Value) -> str:
        """Where this lane reads of the warp's first fragment.

        For ``ldmatrix`` lanes 8q … 8q + 7 say where the rows of piece q begin.  Pieces 0, 1, 2, 3 of the left operand
        follow each other along its own axis, then along the summed one; those of the right operand the other way round.
        """
        b = self.b
        if self._by_element(which):
            own, deep = self.group, self.member
        else:
            row, low, high = b.and_(self.lane, 7), b.and_(b.shr(self.lane, 3), 1), b.shr(self.lane, 4)
            beside, behind = (low, high) if which == 0 else (high, low)
            half = FRAGMENT_BYTES // 2 // self.kind.size
            own, deep = b.mul(beside, 8), b.mul(behind, half)
            if self.feed.supply.operands[which].shelf.by_own:
                deep = b.add(deep, row)
            else:
                own = b.add(own, row)
        own = b.add(own, self.corner[which])
        return self.feed.place(which, stage, b.convert(own, "int64"), b.convert(deep, "int64"))

    def _pieces(self, which: int, base: str, own: int, deep: int) -> list[str]:
        """Four registers: 16 rows or columns from ``own`` on, a fragment deep."""
        shelf, half = self.feed.supply.operands[which].shelf, FRAGMENT_BYTES // 2 // self.kind.size

        def at(own: int, deep: int) -> str:
            offset = deep * shelf.pitch + own if shelf.by_own else own * shelf.pitch + deep
            return memory.offset_pointer(self.f, base, offset, self.dtype)

        if self._by_element(which):
            order = ((0, 0), (8, 0), (0, half), (8, half)) if which == 0 else ((0, 0), (0, half), (8, 0), (8, half))
            words = [self.f.let(f"load i32, ptr {at(own + x, deep + y)}, align 4") for x, y in order]
        else:
            words = self.thread.matrices(at(own, deep), transposed=shelf.by_own)
        return [self._operand(w) for w in words]

    def _operand(self, word: str) -> str:
        """A register as the instruction takes it."""
        if self.kind.rounded:
            self.f.module.declare("llvm.nvvm.f2tf32.rna", "i32", "float")
            return self.f.let(f"call i32 @llvm.nvvm.f2tf32.rna(float {self.f.let(f'bitcast i32 {word} to float')})")
        return word if self.kind.register == "i32" else self.f.let(f"bitcast i32 {word} to {self.kind.register}")

    def runs(self) -> Iterator[tuple[Value, Value, int]]:
        """(row, column, number of its first sum) of each pair of neighbouring elements in the tile."""
        b = self.b
        row, column = b.add(self.corner[0], self.group), b.add(self.corner[1], b.mul(self.member, 2))
        columns = self.tile.tn // COLUMNS
        for i in range(self.tile.tm // ROWS):
            for j in range(columns):
                for half in (0, 1):
                    place = b.add(row, i * ROWS + 8 * half), b.add(column, j * COLUMNS)
                    yield *place, 4 * (i * columns + j) + 2 * half
