"""The control word of floating-point arithmetic: rounding, subnormal numbers, traps.

Enters: a function under construction and an architecture, by LLVM's name.  Leaves: instructions that read the word and
set it.  Only some CPUs have one: x86 with SSE (MXCSR) and 64-bit Arm (FPCR).  Start reading at `read`.
"""

from __future__ import annotations

from dataclasses import dataclass

from gradc.codegen.ir import Function

_ALIASES = {"amd64": "x86_64", "arm64": "aarch64"}


@dataclass(frozen=True)
class Word:
    """One architecture's word: its type, what stands there in a fresh process, bits that only tell what happened, and
    the bits that flush subnormal numbers to zero."""

    type: str
    usual: int
    tells: int
    flush: int


#: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 1, section 10.2.3: all exceptions masked, and
#: nothing else set; the low six bits only tell what happened; FTZ and DAZ.  Arm Architecture Reference Manual, FPCR:
#: nothing set; FZ.
_WORDS = {"x86_64": Word("i32", 0x1F80, 0x3F, 1 << 15 | 1 << 6), "aarch64": Word("i64", 0, 0, 1 << 24)}


def word_of(arch: str) -> Word | None:
    """The word of an architecture; None if it has none that is known."""
    return _WORDS.get(_ALIASES.get(arch, arch))


def read(f: Function, word: Word) -> str:
    """Emit what reads the word."""
    if word.type == "i64":
        return f.let(f"call i64 @{f.module.declare('llvm.aarch64.get.fpcr', 'i64')}()")
    place = f.scratch("i32", 1, 0)
    f.line(f"call void @{f.module.declare('llvm.x86.sse.stmxcsr', 'void', 'ptr')}(ptr {place})")
    return f.let(f"load i32, ptr {place}, align 4")


def write(f: Function, word: Word, value: str) -> None:
    """Emit what sets the word to ``value``."""
    if word.type == "i64":
        f.line(f"call void @{f.module.declare('llvm.aarch64.set.fpcr', 'void', 'i64')}(i64 {value})")
        return
    place = f.scratch("i32", 1, 0)
    f.line(f"store i32 {value}, ptr {place}, align 4")
    f.line(f"call void @{f.module.declare('llvm.x86.sse.ldmxcsr', 'void', 'ptr')}(ptr {place})")
