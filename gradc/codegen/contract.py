"""Products of a schedule to calls of emitted matrix products.

Enters: a `Product`, perhaps with an epilogue.  Leaves: a function for each different product of a module, and the call.
Start reading at `Products.call`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gradc.codegen.builder import Builder
from gradc.codegen.correlation import emit_correlation, shared_extent
from gradc.codegen.fork import Crew, Piece
from gradc.codegen.gemm import Cut, Gemm, Half, emit_gemm, gemm_cut, gemm_scratch_bytes
from gradc.codegen.ir import Function, Module, Value
from gradc.codegen.memory import offset_pointer
from gradc.codegen.poll import looks
from gradc.codegen.scalars import Point, Scalars
from gradc.codegen.target import Target
from gradc.schedule.kernel import Correlation, Epilogue, Product, Split, Tiled, Total


def problem(p: Product) -> Gemm:
    """The product in the terms of the matrix product emitter."""
    return Gemm(
        p.m, p.n, p.k, p.dtype, p.left.strides, p.right.strides, p.out.strides,
        p.batch, p.left.batch, p.right.batch, p.out.batch, half=Half.UPPER if p.half else Half.NONE,
        a_dtype=p.left.dtype, b_dtype=p.right.dtype,
    )  # fmt: skip


def scratch_bytes(p: Product, target: Target) -> int:
    """Bytes of scratch that the product wants."""
    return gemm_scratch_bytes(problem(p), target)


class Products:
    """The product functions of a module, each emitted on its first use."""

    def __init__(self, target: Target):
        self.target = target
        self._known: dict[tuple[Gemm, Epilogue | None, Cut | None], str] = {}
        self._correlations: dict[tuple[Correlation, bool], str] = {}

    def call(self, f: Function, p: Product, slots: Sequence[str], scratch: str) -> None:
        """Emit the call of ``p`` into ``f``."""
        _call(f, p, self._function(f.module, p, None), slots, scratch, "%status")

    def share(self, f: Function, p: Product, how: Tiled, slots: Sequence[str], crew: Crew) -> bool:
        """Emit ``p`` into ``f``, a kernel's function, for several threads to share; whether there is anything to."""
        gemm = problem(p)
        cut = gemm_cut(gemm, self.target, p.epilogue is None, how.pieces, how.threads)
        if cut is None:
            return False
        name = self._function(f.module, p, cut)

        def body(task: Function, piece: Piece) -> None:
            _call(task, p, name, piece.slots, piece.scratch, piece.status, piece.begin, piece.end)

        crew.fork(f, Split(None, cut.extent, cut.steps, how.threads), slots, body)
        return True

    def correlate(self, f: Function, c: Correlation, slots: Sequence[str]) -> None:
        """Emit the call of ``c`` into ``f``."""
        _call_correlation(f, c, self._correlation(f.module, c, shared=False), slots, "%status")

    def share_correlation(self, f: Function, c: Correlation, how: Tiled, slots: Sequence[str], crew: Crew) -> bool:
        """As `share`, for a correlation."""
        extent = shared_extent(c, self.target)
        if extent < 2:
            return False
        name = self._correlation(f.module, c, shared=True)

        def body(task: Function, piece: Piece) -> None:
            _call_correlation(task, c, name, piece.slots, piece.status, piece.begin, piece.end)

        crew.fork(f, Split(None, extent, -(-extent // how.pieces), how.threads), slots, body)
        return True

    def _correlation(self, module: Module, c: Correlation, shared: bool) -> str:
        key = (c, shared)
        if key not in self._correlations:
            self._correlations[key] = f"correlation{len(self._correlations)}"
            emit_correlation(module, c, self.target, self._correlations[key], shared, module.polls and looks(c))
            module.hide(self._correlations[key])
        return self._correlations[key]

    def _function(self, module: Module, p: Product, cut: Cut | None) -> str:
        gemm = problem(p)
        key = (gemm, p.epilogue, cut)
        if key not in self._known:
            self._known[key] = f"product{len(self._known)}"
            epilogue = _Fused(p.epilogue) if p.epilogue is not None else None
            emit_gemm(module, gemm, self.target, self._known[key], epilogue, cut, module.polls and looks(p))
            module.hide(self._known[key])
        return self._known[key]


def _call(
    f: Function, p: Product, name: str, slots: Sequence[str], scratch: str, status: str, *bounds: Value
) -> None:  # fmt: skip
    pointers = [offset_pointer(f, slots[v.slot], v.offset, v.dtype) for v in (p.left, p.right, p.out)]
    pointers += [scratch, *(slots[s] for s in (_Fused(p.epilogue).slots if p.epilogue is not None else ()))]
    arguments = [*(f"ptr {x}" for x in pointers), *_watched(f, p, status), *(x.typed for x in bounds)]
    f.line(f"call void @{name}({', '.join(arguments)})")


def _watched(f: Function, work: Product | Correlation, status: str) -> list[str]:
    """What a function that looks whether to end gets."""
    return [f"ptr {status}", f"i64 {f.who}"] if f.module.polls and looks(work) else []


def _call_correlation(
    f: Function, c: Correlation, name: str, slots: Sequence[str], status: str, *bounds: Value
) -> None:  # fmt: skip
    pointers = [offset_pointer(f, slots[v.slot], v.offset, v.dtype) for v in (c.left, c.right, c.out)]
    arguments = [*(f"ptr {x}" for x in pointers), *_watched(f, c, status), *(x.typed for x in bounds)]
    f.line(f"call void @{name}({', '.join(arguments)})")


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
