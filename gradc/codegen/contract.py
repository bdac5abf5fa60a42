"""Products of a schedule to calls of emitted matrix products.

Enters: a `Product`, perhaps with an epilogue.  Leaves: a function for each different product of a module, and the call.
Start reading at `Products.call`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gradc.codegen.builder import Builder
from gradc.codegen.correlation import emit_correlation
from gradc.codegen.gemm import Gemm, emit_gemm, gemm_scratch_bytes
from gradc.codegen.ir import Function, Value
from gradc.codegen.memory import offset_pointer
from gradc.codegen.scalars import Point, Scalars
from gradc.codegen.target import Target
from gradc.schedule.kernel import Correlation, Epilogue, Product, Total


def problem(p: Product) -> Gemm:
    """The product in the terms of the matrix product emitter."""
    return Gemm(
        p.m, p.n, p.k, p.dtype, p.left.strides, p.right.strides, p.out.strides,
        p.batch, p.left.batch, p.right.batch, p.out.batch,
    )  # fmt: skip


def scratch_bytes(p: Product, target: Target) -> int:
    """Bytes of scratch that the product wants."""
    return gemm_scratch_bytes(problem(p), target)


class Products:
    """The product functions of a module, each emitted on its first use."""

    def __init__(self, target: Target):
        self.target = target
        self._known: dict[tuple[Gemm, Epilogue | None], str] = {}
        self._correlations: dict[Correlation, str] = {}

    def call(self, f: Function, p: Product, slots: Sequence[str], scratch: str) -> None:
        """Emit the call of ``p`` into ``f``."""
        gemm = problem(p)
        fused = _Fused(p.epilogue) if p.epilogue is not None else None
        key = (gemm, p.epilogue)
        if key not in self._known:
            self._known[key] = f"product{len(self._known)}"
            emit_gemm(f.module, gemm, self.target, self._known[key], fused)
            f.module.hide(self._known[key])
        pointers = [offset_pointer(f, slots[v.slot], v.offset, p.dtype) for v in (p.left, p.right, p.out)]
        pointers += [scratch, *([slots[s] for s in fused.slots] if fused is not None else [])]
        f.line(f"call void @{self._known[key]}({', '.join(f'ptr {x}' for x in pointers)})")


    def correlate(self, f: Function, c: Correlation, slots: Sequence[str]) -> None:
        """Emit the call of ``c`` into ``f``."""
        if c not in self._correlations:
            self._correlations[c] = f"correlation{len(self._correlations)}"
            emit_correlation(f.module, c, self.target, self._correlations[c])
            f.module.hide(self._correlations[c])
        pointers = [offset_pointer(f, slots[v.slot], v.offset, c.dtype) for v in (c.left, c.right, c.out)]
        f.line(f"call void @{self._correlations[c]}({', '.join(f'ptr {x}' for x in pointers)})")


class _Fused:
    """An epilogue in the form that the matrix product emitter asks for."""

    def __init__(self, epilogue: Epilogue):
        self.epilogue = epilogue
        nest = epilogue.nest
        stores = [s for k, s in enumerate(nest.stores) if k != epilogue.result]
        used = {s.slot for s in stores} | {x.slot for x in nest.code if hasattr(x, "slot")}
        self.slots = sorted(used)
        self.extra_params = [("ptr", f"e{s}") for s in self.slots]

    def apply(self, b: Builder, acc: Value, row: Value, col: Value, mask: Value | None) -> Value:
        e = self.epilogue
        nest = replace(e.nest, lanes=b.lanes)
        pointers = [f"%e{s}" for s in range(max(self.slots, default=-1) + 1)]
        scalars = Scalars(b.f, nest, pointers, "")
        place = ((e.batch, Value("%batch", "int64")), (e.row, row), (e.column, col))
        point = Point({var: value for var, value in place if var is not None}, mask=mask)
        (element,) = (k for k, x in enumerate(nest.code) if isinstance(x, Total))
        scalars.set(element, acc, point)
        (stage,) = nest.stages
        scalars.advance(nest.needed(stage), point)
        for k, store in enumerate(stage.stores):
            if k != e.result:
                scalars.store(store, point)
        if e.result < 0:
            return acc
        return scalars.value(stage.stores[e.result].value, point, b.lanes > 1)
