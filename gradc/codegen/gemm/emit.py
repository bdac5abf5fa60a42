"""The function of a product: its batch, its scratch, its staging.

Enters: a `Gemm`.  Leaves: one function in the module, and the internal functions that it calls.
Invariant: C is written by kernels only — or, where they fill a stage in scratch, by the copy at the end.
Start reading at `emit_gemm`.
"""

from __future__ import annotations

from dataclasses import dataclass

from gradc.codegen.gemm.blocks import Finish, Product, call, each, emit_product
from gradc.codegen.gemm.output import Epilogue, emit_epilogue
from gradc.codegen.gemm.pack import Pack, emit_pack
from gradc.codegen.gemm.plan import Plan, Stage, make_plan
from gradc.codegen.gemm.problem import Gemm, Strides
from gradc.codegen.gemm.registers import Index, address, load, plus, store, times
from gradc.codegen.ir import Function, Module
from gradc.codegen.target import Target

POINTERS = [("ptr noalias", name) for name in ("a", "b", "c", "scratch")]


def gemm_scratch_bytes(gemm: Gemm, target: Target) -> int:
    """Bytes of scratch, aligned to 64, that the function of ``gemm`` needs, with or without an epilogue; 0 if none."""
    return 0 if gemm.empty else max(_plan(gemm, target, fold).scratch_bytes for fold in (False, True))


def emit_gemm(module: Module, gemm: Gemm, target: Target, name: str, epilogue: Epilogue | None = None) -> None:
    """Add ``define void @name(ptr %a, ptr %b, ptr %c, ptr %scratch, …)`` to ``module``.

    The pointers are those of the elements with index zero.  Behind them come the ``extra_params`` of the epilogue, if
    there is one.  Scratch may hold anything, and holds nothing of worth afterwards.
    """
    extra = list(epilogue.extra_params) if epilogue else []
    f = Function(module, name, [*POINTERS, *extra])
    if not gemm.empty:
        batch = _Batch(f, _plan(gemm, target, fold=epilogue is None), epilogue)
        if epilogue:
            strides = gemm.normal.c_strides
            emit_epilogue(module, f"{name}.epilogue", epilogue, gemm.dtype, strides, batch.plan.width)
        batch.emit()
    f.finish()


def _plan(gemm: Gemm, target: Target, fold: bool) -> Plan:
    """Batch axes are folded into rows unless an epilogue asks for the row within its matrix."""
    return make_plan((gemm.folded if fold else gemm).normal, target)


@dataclass(frozen=True)
class _Batch:
    """The loops over all products of a batch."""

    f: Function
    plan: Plan
    epilogue: Epilogue | None

    def emit(self) -> None:
        self._axis(0, 0, (0, 0, 0))

    def _axis(self, axis: int, number: Index, offsets: tuple[Index, ...]) -> None:
        g = self.plan.problem
        if axis == len(g.batch):
            self._matrix(number, offsets)
            return
        with each(self.f, g.batch[axis]) as i:
            strides = (g.a_batch[axis], g.b_batch[axis], g.c_batch[axis])
            moved = tuple(plus(self.f, o, times(self.f, i, s)) for o, s in zip(offsets, strides, strict=True))
            self._axis(axis + 1, plus(self.f, times(self.f, number, g.batch[axis]), i), moved)

    def _matrix(self, number: Index, offsets: tuple[Index, ...]) -> None:
        f, plan = self.f, self.plan
        names = ("%b", "%a", "%c") if plan.swapped else ("%a", "%b", "%c")
        a, b, c = (address(f, base, at, plan.problem.dtype) for base, at in zip(names, offsets, strict=True))
        a_pack = address(f, "%scratch", plan.stage_bytes // plan.itemsize, plan.problem.dtype)
        b_pack = address(f, a_pack, plan.a_bytes // plan.itemsize, plan.problem.dtype)
        finish = self._finish(number) if self.epilogue else None
        if plan.stage is Stage.NONE:
            emit_product(Product(f, plan, a, b, c, a_pack, b_pack, finish))
            return
        if plan.problem.accumulate:
            self._copy(c, plan.c_strides, "%scratch", plan.problem.c_strides)
        emit_product(Product(f, plan, a, b, "%scratch", a_pack, b_pack, None))
        self._copy("%scratch", plan.problem.c_strides, c, plan.c_strides)
        if finish:
            finish(c, 0, plan.problem.m, 0, plan.problem.n)

    def _copy(self, source: str, source_strides: Strides, target: str, target_strides: Strides) -> None:
        """Copy C between its place and its stage."""
        f, plan, g = self.f, self.plan, self.plan.problem
        if plan.stage is Stage.FLIP:
            into_stage = target == "%scratch"
            rows, cols = (g.m, g.n) if into_stage else (g.n, g.m)
            stride = target_strides[0] if into_stage else target_strides[1]
            across = source_strides[1] if into_stage else source_strides[0]
            room = plan.padded(cols) if into_stage else cols
            name = emit_pack(f.module, Pack.FLIP, g.dtype, plan.width)
            call(f, name, source, 1, across, rows, cols, target, stride, room)
            return
        with each(f, g.m) as row, each(f, g.n) as col:
            at, to = (
                address(f, base, plus(f, times(f, row, strides[0]), times(f, col, strides[1])), g.dtype)
                for base, strides in ((source, source_strides), (target, target_strides))
            )
            store(f, load(f, at, g.dtype), to)

    def _finish(self, number: Index) -> Finish:
        f, extra = self.f, self.epilogue.extra_params if self.epilogue else []
        passed = [f"{type_.split()[0]} %{name}" for type_, name in extra]

        def finish(pointer: str, row: Index, rows: Index, col: Index, cols: Index) -> None:
            if self.plan.swapped:
                row, rows, col, cols = col, cols, row, rows
            call(f, f"{f.name}.epilogue", pointer, rows, cols, row, col, number, passed=passed)

        return finish
