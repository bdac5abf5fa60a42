"""Subnormal numbers flushed to zero, which is part of ``fp="fast"``: many CPUs take a hundred times as long with them.

Enters: the outer function of a module, around its calls.  Leaves: the control word of floating-point arithmetic set
before them and put back behind them, so that the caller computes as before.
Only where the CPU has such a word: x86 with SSE (MXCSR: flush-to-zero, denormals-are-zero) and 64-bit Arm (FPCR: FZ).
Start reading at `flushing`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from gradc.codegen.ir import Function
from gradc.codegen.target import Target

#: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 1, section 10.2.3: FTZ and DAZ.
MXCSR_BITS = 1 << 15 | 1 << 6
#: Arm Architecture Reference Manual, FPCR: FZ.
FPCR_BITS = 1 << 24


def flushes(target: Target) -> bool:
    """Whether code for ``target`` can be made to flush."""
    return target.arch in ("x86_64", "aarch64")


@contextmanager
def flushing(f: Function, target: Target) -> Iterator[None]:
    """What is emitted inside runs without subnormal numbers, where `flushes` says so."""
    if target.arch == "x86_64":
        word = f.alloca("i32", 2, 4)
        save = f.module.declare("llvm.x86.sse.stmxcsr", "void", "ptr")
        load = f.module.declare("llvm.x86.sse.ldmxcsr", "void", "ptr")
        changed = f.let(f"getelementptr i32, ptr {word}, i64 1")
        f.line(f"call void @{save}(ptr {word})")
        old = f.let(f"load i32, ptr {word}, align 4")
        f.line(f"store i32 {f.let(f'or i32 {old}, {MXCSR_BITS}')}, ptr {changed}, align 4")
        f.line(f"call void @{load}(ptr {changed})")
        yield
        f.line(f"call void @{load}(ptr {word})")
    elif target.arch == "aarch64":
        get = f.module.declare("llvm.aarch64.get.fpcr", "i64")
        put = f.module.declare("llvm.aarch64.set.fpcr", "void", "i64")
        old = f.let(f"call i64 @{get}()")
        f.line(f"call void @{put}(i64 {f.let(f'or i64 {old}, {FPCR_BITS}')})")
        yield
        f.line(f"call void @{put}(i64 {old})")
    else:
        yield
