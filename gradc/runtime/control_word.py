"""Compiled code runs with the arithmetic it was written for: rounding to nearest, subnormal numbers kept, no traps.

Enters: the address of a step and what it is called with.  Leaves: ``void gradc_run(step, inputs, outputs, arena,
status)``, which calls it so and puts the caller's control word back.  Pool workers take over the word that stands when
a fork begins, so they compute the same way.
Only where the CPU has such a word: x86 with SSE (MXCSR) and 64-bit Arm (FPCR).  A look at it takes about a nanosecond.
Start reading at `emit_run`.
"""

from __future__ import annotations

from gradc.codegen.control_word import Word, read, word_of, write
from gradc.codegen.ir import Function, Module
from gradc.process import once
from gradc.runtime.load import Loaded, load, target_info

RUN = "gradc_run"
_POINTERS = ("step", "inputs", "outputs", "arena", "status")
_CALL = "call void %step(ptr %inputs, ptr %outputs, ptr %arena, ptr %status)"


def emit_run(module: Module, arch: str) -> None:
    """The function for a CPU of ``arch`` (LLVM's name)."""
    f = Function(module, RUN, [("ptr", name) for name in _POINTERS])
    word = word_of(arch)
    if word is None:
        f.line(_CALL)
    else:
        _with_usual(f, word)
    f.finish()


def _with_usual(f: Function, word: Word) -> None:
    """Call the step; if another word stands than the usual one, between a change to that and back."""
    given = read(f, word)
    control = f.let(f"and {word.type} {given}, {~word.tells}")
    usual = f.let(f"icmp eq {word.type} {control}, {word.usual}")
    f.line(f"br i1 {usual}, label %plain, label %other")
    f.label("other")
    write(f, word, str(word.usual))
    f.line(_CALL)
    write(f, word, given)
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
