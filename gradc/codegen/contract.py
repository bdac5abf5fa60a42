"""Products of a schedule to calls of emitted matrix products.

Enters: a `Product`.  Leaves: one function for each different product of a module, and the call.
"""

from __future__ import annotations

from collections.abc import Sequence

from gradc.codegen.gemm.emit import emit_gemm, gemm_scratch_bytes
from gradc.codegen.gemm.problem import Gemm
from gradc.codegen.ir import Function
from gradc.codegen.memory import offset_pointer
from gradc.codegen.target import Target
from gradc.schedule.kernel import Product


def problem(p: Product) -> Gemm:
    """The product in the terms of the matrix product emitter."""
    return Gemm(
        p.m, p.n, p.k, p.dtype, p.left.strides, p.right.strides, p.out.strides,
        p.batch, p.left.batch, p.right.batch, p.out.batch,
    )  # fmt: skip


def scratch_bytes(p: Product, target: Target) -> int:
    """Bytes of scratch that the product wants."""
    return gemm_scratch_bytes(problem(p), target)


def emit_contract(f: Function, p: Product, slots: Sequence[str], scratch: str, target: Target) -> None:
    """Call the function of the product, which is emitted on its first use."""
    gemm = problem(p)
    name = "gemm." + "".join(c if c.isalnum() else "_" for c in repr(gemm).removeprefix("Gemm"))
    if name not in f.module.functions:
        emit_gemm(f.module, gemm, target, name)
    pointers = [offset_pointer(f, slots[v.slot], v.offset, p.dtype) for v in (p.left, p.right, p.out)]
    f.line(f"call void @{name}({', '.join(f'ptr {x}' for x in [*pointers, scratch])})")
