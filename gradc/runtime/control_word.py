"""Compiled code runs with the arithmetic it was written for: rounding to nearest, subnormal numbers kept, no traps.

Enters: the address of a step and what it is called with.  Leaves: ``void gradc_run(step, inputs, outputs, arena,
status)``, which calls it so and puts the caller's control word back.  Pool workers take over the word that stands when
a fork begins, so they compute the same way.
Only where the CPU has such a word: x86 with SSE (MXCSR) and 64-bit Arm (FPCR).  A look at it takes about a nanosecond.
Start reading at `emit_run`.
"""

from __future__ import annotations

from gradc.codegen.ir import Function, Module
from gradc.process import once
from gradc.runtime.load import Loaded, load, target_info

RUN = "gradc_run"
_POINTERS = ("step", "inputs", "outputs", "arena", "status")
_CALL = "call void %step(ptr %inputs, ptr %outputs, ptr %arena, ptr %status)"
#: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 1, section 10.2.3: all exceptions masked, and
#: nothing else set; the low six bits only tell what happened.
_MXCSR, _MXCSR_TELLS = 0x1F80, 0x3F


def emit_run(module: Module, arch: str) -> None:
    """The function for a CPU of ``arch`` (LLVM's name)."""
    f = Function(module, RUN, [("ptr", name) for name in _POINTERS])
    if arch in ("x86_64", "amd64"):
        _on_x86(f)
    elif arch in ("aarch64", "arm64"):
        _on_arm(f)
    else:
        f.line(_CALL)
    f.finish()


def _on_x86(f: Function) -> None:
    get, put = (f.module.declare(f"llvm.x86.sse.{name}", "void", "ptr") for name in ("stmxcsr", "ldmxcsr"))
    words = f.alloca("i32", 2, 8)
    ours = f.let(f"getelementptr i32, ptr {words}, i64 1")
    f.line(f"call void @{get}(ptr {words})")
    control = f.let(f"and i32 {f.let(f'load i32, ptr {words}, align 4')}, {~_MXCSR_TELLS}")
    _unless(
        f,
        f.let(f"icmp eq i32 {control}, {_MXCSR}"),
        [f"store i32 {_MXCSR}, ptr {ours}, align 4", f"call void @{put}(ptr {ours})"],
        [f"call void @{put}(ptr {words})"],
    )


def _on_arm(f: Function) -> None:
    get = f.module.declare("llvm.aarch64.get.fpcr", "i64")
    put = f.module.declare("llvm.aarch64.set.fpcr", "void", "i64")
    word = f.let(f"call i64 @{get}()")
    _unless(f, f.let(f"icmp eq i64 {word}, 0"), [f"call void @{put}(i64 0)"], [f"call void @{put}(i64 {word})"])


def _unless(f: Function, usual: str, before: list[str], after: list[str]) -> None:
    """Call the step; if the i1 does not hold, between these instructions."""
    f.line(f"br i1 {usual}, label %plain, label %other")
    f.label("other")
    for line in (*before, _CALL, *after):
        f.line(line)
    f.branch("done")
    f.label("plain")
    f.line(_CALL)
    f.branch("done")
    f.label("done")


def host_arch() -> str:
    """LLVM's name of the architecture of this process."""
    return target_info().triple.split("-", 1)[0]


@once
def runner() -> Loaded:
    """``gradc_run`` by itself."""
    module = Module()
    emit_run(module, host_arch())
    return load(str(module), RUN)
