"""Whatever rounding, flushing or traps the caller has set: results are those of plain arithmetic; his word stays."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import gradc as gc
from gradc.codegen.ir import Module
from gradc.process import once
from gradc.runtime.control_word import RUN, emit_run, host_arch
from gradc.runtime.load import load
from gradc.schedule import split

PLAIN = 0x1F80
WORDS = {"upward": PLAIN | 0x4000, "to zero": PLAIN | 0x6000, "flushing": PLAIN | 0x8040, "trapping": PLAIN & ~0x1000}
pytestmark = pytest.mark.skipif(host_arch() not in ("x86_64", "amd64"), reason="sets MXCSR")

_SET = """
declare void @llvm.x86.sse.stmxcsr(ptr)
declare void @llvm.x86.sse.ldmxcsr(ptr)
define i32 @exchange(i32 %new) nounwind {
  %old_at = alloca i32, align 4
  %new_at = alloca i32, align 4
  store i32 %new, ptr %new_at, align 4
  call void @llvm.x86.sse.stmxcsr(ptr %old_at)
  call void @llvm.x86.sse.ldmxcsr(ptr %new_at)
  %old = load i32, ptr %old_at, align 4
  ret i32 %old
}
"""


@once
def exchange() -> Callable[[int], int]:
    """Sets the control word; gives the one before."""
    loaded = load(_SET, "exchange")
    function = ctypes.PYFUNCTYPE(ctypes.c_uint32, ctypes.c_uint32)(loaded.address)
    function.keep = loaded  # type: ignore[attr-defined]
    return function


@contextmanager
def control(word: int) -> Iterator[None]:
    """Run with this control word, which must stand at the end too."""
    before = exchange()(word)
    after = word
    try:
        yield
    finally:
        after = exchange()(before)
    assert after & ~0x3F == word & ~0x3F


def mixed(x: Any) -> Any:
    return np.exp(x) + np.tanh(x) * np.log(x) - np.sin(x) / 3, x * 1e-300 * 1e-10, x.sum()


@pytest.mark.parametrize("word", WORDS.values(), ids=WORDS)
@pytest.mark.parametrize("how", ["called", "entry", "portable", "bound", "shared"])
def test_results_are_those_of_plain_arithmetic(word: int, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if how == "shared":
        for name, value in (("FORK_SECONDS", 0.0), ("THREAD_SECONDS", 1e-12), ("PIECE_SECONDS", 1e-12)):
            monkeypatch.setattr(split, name, value)
    monkeypatch.setenv("GRADC_CACHE", "0")
    x = np.random.default_rng(0).random(1000) + 0.1
    executable = gc.jit(mixed, threads=3 if how == "shared" else 1).lower(x)
    native = executable.native
    ways: dict[str, Callable[[], Any]] = {
        "called": lambda: executable(x),
        "entry": lambda: native.entry(x),
        "portable": lambda: native.call_portable(x),
        "bound": executable.bind(x),
        "shared": lambda: executable(x),
    }
    expected = [np.array(y) for y in ways[how]()]
    with control(word):
        found = ways[how]()
    for y, z in zip(expected, found, strict=True):
        np.testing.assert_array_equal(y, z)


def test_a_failed_step_puts_the_word_back() -> None:
    f = gc.jit(lambda x, i: x[i])
    f.lower(np.ones(3), 0)
    with control(WORDS["upward"]), pytest.raises(IndexError):
        f(np.ones(3), 7)


@pytest.mark.parametrize(("arch", "words"), [("x86_64", "stmxcsr"), ("arm64", "fpcr"), ("riscv64", "")])
def test_each_architecture_has_its_own_word(arch: str, words: str) -> None:
    module = Module()
    emit_run(module, arch)
    text = str(module)
    assert f"@{RUN}(" in text and words in text and ("br i1" in text) == bool(words)
