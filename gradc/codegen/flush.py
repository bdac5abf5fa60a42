"""Subnormal numbers flushed to zero, which is part of ``fp="fast"``: many CPUs take a hundred times as long with them.

Enters: the outer function of a module, around its calls.  Leaves: the control word of floating-point arithmetic set
before them and put back behind them, so that the caller computes as before.
Only where the CPU has such a word: x86 with SSE (MXCSR: flush-to-zero, denormals-are-zero) and 64-bit Arm (FPCR: FZ).
Start reading at `flushing`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from gradc.codegen.control_word import read, word_of, write
from gradc.codegen.ir import Function
from gradc.codegen.target import Target


def flushes(target: Target) -> bool:
    """Whether code for ``target`` can be made to flush."""
    return word_of(target.arch) is not None


@contextmanager
def flushing(f: Function, target: Target) -> Iterator[None]:
    """What is emitted inside runs without subnormal numbers, where `flushes` says so."""
    word = word_of(target.arch)
    if word is None:
        yield
        return
    old = read(f, word)
    write(f, word, f.let(f"or {word.type} {old}, {word.flush}"))
    yield
    write(f, word, old)
