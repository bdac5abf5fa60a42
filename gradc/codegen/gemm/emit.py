"""The function of a product: its batch, its scratch, its staging.

Enters: a `Gemm`.  Leaves: one function in the module, and the internal functions that it calls.
Invariant: C is written by kernels only — or, where they fill a stage in scratch, by the copy at the end.
Start reading at `emit_gemm`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from gradc.codegen.gemm.blocks import Product, call, each, emit_product, row_blocks
from gradc.codegen.gemm.cut import Along, Cut, Part, choose_cut
from gradc.codegen.gemm.output import Epilogue, Finisher, Output
from gradc.codegen.gemm.pack import Pack, emit_pack
from gradc.codegen.gemm.plan import Plan, Stage, make_plan
from gradc.codegen.gemm.problem import Gemm, Half, Strides
from gradc.codegen.gemm.registers import Index, address, argument, load, plus, storage, store, times
from gradc.codegen.ir import REGISTER, Function, Lanes, Module, Value, const
from gradc.codegen.poll import ACCESS, AGAIN, BETWEEN, MACS, Meter, spending
from gradc.codegen.target import Target

POINTERS = [("ptr noalias", name) for name in ("a", "b", "c", "scratch")]
#: What a function that looks whether to end gets: the status word, and which thread of a crew runs it.
LOOKING = [("ptr", "status"), ("i64", "who")]


def gemm_scratch_bytes(gemm: Gemm, target: Target) -> int:
    """Bytes of scratch, aligned to 64, that the function of ``gemm`` needs, with or without an epilogue; 0 if none."""
    return 0 if gemm.empty else max(_plan(gemm, target, fold).scratch_bytes for fold in (False, True))


def gemm_cut(gemm: Gemm, target: Target, fold: bool, wanted: int, threads: int) -> Cut | None:
    """How ``threads`` threads share a product in about ``wanted`` pieces; ``fold`` if it has no epilogue."""
    return None if gemm.empty else choose_cut(_plan(gemm, target, fold), wanted, threads)


def emit_gemm(
    module: Module, gemm: Gemm, target: Target, name: str, epilogue: Epilogue | None = None, cut: Cut | None = None,
    looks: bool = False,
) -> None:  # fmt: skip
    """Add ``define void @name(ptr %a, ptr %b, ptr %c, ptr %scratch, …)`` to ``module``.

    The pointers are those of the elements with index zero.  Behind them come the ``extra_params`` of the epilogue, if
    there is one, then ``ptr %status, i64 %who`` if it ``looks`` whether to end, see `gradc.codegen.poll`, and
    ``i64 %begin, i64 %end``, the steps to be done, if there is a ``cut``.  Scratch may hold anything, and holds nothing
    of worth afterwards.
    """
    if epilogue is not None and gemm.half is not Half.NONE:
        raise ValueError("an epilogue sees every element, so all of them must be computed")
    bounds = [("i64", "begin"), ("i64", "end")] if cut is not None else []
    watched = LOOKING if looks else []
    f = Function(module, name, [*POINTERS, *(epilogue.extra_params if epilogue else ()), *watched, *bounds])
    meter = None
    if looks:
        f.who, meter = "%who", Meter.of(f, "%status")
    if not gemm.empty:
        seen = (gemm.folded if epilogue is None else gemm).normal
        plan = make_plan(seen, target)
        part = Part(cut.along, cut.extent, argument("begin"), argument("end")) if cut is not None else None
        finisher = _finisher(f"{name}.epilogue", seen, plan, epilogue, module)
        pieces = [_Piece(f, seen, plan, finisher, (0, 0), part, meter)]
        if plan.rest is not None:
            finisher = _finisher(f"{name}.rest.epilogue", seen, plan.rest, epilogue, module)
            pieces.append(_Piece(f, seen, plan.rest, finisher, plan.corner, meter=meter))
        _Batch(f, seen, pieces, part, meter).emit()
    f.finish()


def _finisher(name: str, g: Gemm, plan: Plan, epilogue: Epilogue | None, module: Module) -> Finisher | None:
    """The function of the epilogue, if there is one, in ``module``.

    Sums come from a buffer of tiles if the plan allows, or else from C, where they are joined to what was there.
    """
    if epilogue is None:
        return None
    lanes = plan.width if g.c_strides[1] == 1 else 1
    finisher = Finisher(name, epilogue, Output(g.dtype), lanes, g.c_strides)
    if plan.buffered:
        output = Output(g.dtype, add=g.accumulate, scaled=g.alpha is not None)
        finisher = replace(finisher, output=output, source_row=plan.columns)
    finisher.emit(module)
    return finisher


def _plan(gemm: Gemm, target: Target, fold: bool) -> Plan:
    """Batch axes are folded into rows unless an epilogue asks for the row within its matrix."""
    return make_plan((gemm.folded if fold else gemm).normal, target)


@dataclass(frozen=True)
class _Batch:
    """The loops over all products of a batch, each computed in ``pieces``."""

    f: Function
    gemm: Gemm
    pieces: Sequence[_Piece]
    part: Part | None
    meter: Meter | None

    def emit(self) -> None:
        if self.part is None or self.part.along is not Along.BATCH:
            self._axis(0, 0, (0, 0, 0))
            return
        with self.f.loop(self.part.begin, self.part.end) as loop:
            self._matrix(loop.index, self._offsets(loop.index))

    def _offsets(self, number: Value) -> tuple[Index, ...]:
        """Where matrix ``number`` of the batch lies in A, B and C."""
        g, i, f = self.gemm, Lanes(self.f), self.f
        offsets: tuple[Index, ...] = (0, 0, 0)
        for axis in reversed(range(len(g.batch))):
            place, number = i.irem(number, g.batch[axis]), i.idiv(number, g.batch[axis])
            strides = (g.a_batch[axis], g.b_batch[axis], g.c_batch[axis])
            offsets = tuple(plus(f, o, times(f, place, s)) for o, s in zip(offsets, strides, strict=True))
        return offsets

    def _axis(self, axis: int, number: Index, offsets: tuple[Index, ...]) -> None:
        g = self.gemm
        if axis == len(g.batch):
            self._matrix(number, offsets)
            return
        with each(self.f, g.batch[axis]) as i:
            strides = (g.a_batch[axis], g.b_batch[axis], g.c_batch[axis])
            moved = tuple(plus(self.f, o, times(self.f, i, s)) for o, s in zip(offsets, strides, strict=True))
            self._axis(axis + 1, plus(self.f, times(self.f, number, g.batch[axis]), i), moved)

    def _matrix(self, number: Index, offsets: tuple[Index, ...]) -> None:
        g = self.gemm
        operations = g.m * g.n * g.k / MACS + ACCESS * (g.m * g.k + g.k * g.n + g.m * g.n) / self.pieces[0].plan.width
        with spending(self.meter, operations if operations <= BETWEEN else AGAIN):
            self._computed(number, offsets)

    def _computed(self, number: Index, offsets: tuple[Index, ...]) -> None:
        main, *rest = self.pieces
        main.emit(number, offsets)
        for piece in rest:
            if self.part is None or self.part.along is Along.BATCH:
                piece.emit(number, offsets)
            else:  # whoever has the last part
                with self.f.when(Lanes(self.f).eq(self.part.end, self.part.extent)):
                    piece.emit(number, offsets)


@dataclass(frozen=True)
class _Piece:
    """A plan for the part of C whose first element is at ``corner``: one matrix of the batch, or what ``part`` says."""

    f: Function
    gemm: Gemm
    plan: Plan
    finisher: Finisher | None
    corner: tuple[int, int]
    part: Part | None = None
    meter: Meter | None = None

    def emit(self, number: Index, offsets: tuple[Index, ...]) -> None:
        f, plan, g, (row, col) = self.f, self.plan, self.gemm, self.corner
        starts = (row * g.a_strides[0], col * g.b_strides[1], row * g.c_strides[0] + col * g.c_strides[1])
        at = (plus(f, o, s) if s else o for o, s in zip(offsets, starts, strict=True))
        dtypes = (g.a_dtype, g.b_dtype, g.dtype)
        a, b, c = (address(f, *place) for place in zip(("%a", "%b", "%c"), at, dtypes, strict=True))
        if plan.swapped:
            a, b = b, a
        a_pack = address(f, "%scratch", plan.stage_bytes // plan.itemsize, g.dtype)
        b_pack = address(f, a_pack, plan.a_bytes // plan.itemsize, g.dtype)
        finish = partial(self._finish, number) if self.finisher else None
        if plan.stage is Stage.NONE:
            buffer = self._buffer() if self.finisher and plan.buffered else None
            emit_product(Product(f, plan, a, b, c, a_pack, b_pack, finish, buffer, self.part, self.meter))
            return
        if plan.problem.accumulate:
            self._copy(c, plan.c_strides, "%scratch", plan.problem.c_strides)
        emit_product(Product(f, plan, a, b, "%scratch", a_pack, b_pack, None, None, meter=self.meter))
        self._copy("%scratch", plan.problem.c_strides, c, plan.c_strides)
        if finish:
            down = plan.c_strides[0]
            with row_blocks(f, self.meter, 0, plan.problem.m, plan.problem.n, plan.width) as (first, rows):
                corner = address(f, c, times(f, first, down), g.dtype)
                finish(corner, corner, first, rows, 0, plan.problem.n)

    def _copy(self, source: str, source_strides: Strides, target: str, target_strides: Strides) -> None:
        """Copy C between its place and its stage."""
        f, plan, g = self.f, self.plan, self.plan.problem
        if plan.stage is Stage.FLIP:
            into_stage = target == "%scratch"
            rows, cols = (g.m, g.n) if into_stage else (g.n, g.m)
            stride = target_strides[0] if into_stage else target_strides[1]
            across = source_strides[1] if into_stage else source_strides[0]
            name = emit_pack(f.module, Pack.FLIP, g.dtype, g.dtype, plan.width, rows, cols)
            call(f, name, source, 1, across, rows, cols, target, stride)
            return
        with each(f, g.m) as row, spending(self.meter, g.n * ACCESS), each(f, g.n) as col:
            at, to = (
                address(f, base, plus(f, times(f, row, strides[0]), times(f, col, strides[1])), g.dtype)
                for base, strides in ((source, source_strides), (target, target_strides))
            )
            store(f, load(f, at, g.dtype), to)

    def _buffer(self) -> str:
        """Room for one tile on the stack."""
        kind = REGISTER[storage(self.plan.problem.dtype)]
        return self.f.alloca(kind, self.plan.rows * self.plan.columns)

    def _finish(self, number: Index, sums: str, c: str, row: Index, rows: Index, col: Index, cols: Index) -> None:
        """Call the epilogue of a block, given as the kernel sees it."""
        assert self.finisher is not None
        if self.plan.swapped:
            row, rows, col, cols = col, cols, row, rows
        row, col = plus(self.f, row, self.corner[0]), plus(self.f, col, self.corner[1])
        g, output = self.plan.problem, self.finisher.output
        alpha = [const(g.alpha, storage(g.dtype))] if output.scaled and g.alpha is not None else []
        passed = [f"{type_.split()[0]} %{name}" for type_, name in self.finisher.epilogue.extra_params]
        call(self.f, self.finisher.name, sums, c, rows, cols, row, col, number, *alpha, passed=passed)
