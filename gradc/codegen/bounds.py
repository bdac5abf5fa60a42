"""Every access of arguments and of the arena checked while it runs: ``debug="bounds"``.

Enters: addresses as they are about to be used.  Leaves: the same address, or that of memory that belongs to nobody, and
the status word `OUT_OF_BOUNDS` with the number of the kernel.
Before each kernel the outer function notes the bytes of that kernel's buffers; an access has to lie in one of them, as
a whole, or on the stack.  The notes are the module's, so whoever calls it sees to it that one call ends before the
next begins.
Invariant: nothing outside of a kernel's buffers is touched, so the process goes on and the error says what happened.
Start reading at `inside`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from gradc.codegen.ir import Function, Lanes, Module, Value, const
from gradc.codegen.status import KIND_BITS, OUT_OF_BOUNDS

CHECK, NOWHERE = "gradc.inside", 4096
#: Bytes of the stack, from the check upwards, where a product keeps the tile that its epilogue reads.
STACK = 1 << 16
GLOBALS = {
    "gradc.word": "internal global ptr null, align 8",
    "gradc.kernel": "internal global i64 0, align 8",
    "gradc.count": "internal global i64 0, align 8",
    "gradc.nowhere": f"internal global [{NOWHERE} x i8] zeroinitializer, align 64",
}
TEXT = f"""\
define internal ptr @{CHECK}(ptr %p, i64 %bytes) nounwind noinline {{
entry:
  %here = alloca i8, align 1
  %none = icmp sle i64 %bytes, 0
  br i1 %none, label %fine, label %start
start:
  %first = ptrtoint ptr %p to i64
  %stack = ptrtoint ptr %here to i64
  %up = sub i64 %first, %stack
  %own = icmp ult i64 %up, {STACK}
  br i1 %own, label %fine, label %look
look:
  %last = add i64 %first, %bytes
  %count = load i64, ptr @gradc.count, align 8
  br label %head
head:
  %k = phi i64 [ 0, %look ], [ %next, %miss ]
  %more = icmp slt i64 %k, %count
  br i1 %more, label %body, label %bad
body:
  %from = getelementptr [2 x i64], ptr @gradc.ranges, i64 %k
  %low = load i64, ptr %from, align 8
  %to = getelementptr i64, ptr %from, i64 1
  %high = load i64, ptr %to, align 8
  %above = icmp uge i64 %first, %low
  %below = icmp ule i64 %last, %high
  %in = and i1 %above, %below
  br i1 %in, label %fine, label %miss
miss:
  %next = add i64 %k, 1
  br label %head
bad:
  %word = load ptr, ptr @gradc.word, align 8
  %old = load i64, ptr %word, align 8
  %well = icmp eq i64 %old, 0
  %kernel = load i64, ptr @gradc.kernel, align 8
  %shifted = shl i64 %kernel, {KIND_BITS}
  %code = or i64 %shifted, {OUT_OF_BOUNDS}
  %new = select i1 %well, i64 %code, i64 %old
  store i64 %new, ptr %word, align 8
  ret ptr @gradc.nowhere
fine:
  ret ptr %p
}}
"""


def install(module: Module, most: int) -> None:
    """Let ``module`` check what it touches; a kernel has at most ``most`` buffers."""
    module.checks = True
    module.globals |= GLOBALS
    module.globals["gradc.ranges"] = f"internal global [{most} x [2 x i64]] zeroinitializer, align 8"
    module.functions[CHECK] = TEXT


def inside(f: Function, pointer: str, dtype: str, lanes: int = 1, mask: Value | None = None) -> str:
    """``pointer``, checked for the lanes that are live: those up to the last one in ``mask``."""
    if not f.module.checks:
        return pointer
    return _checked(f, pointer, Lanes(f).mul(_live(f, lanes, mask), np.dtype(dtype).itemsize))


def each_inside(f: Function, pointers: str, dtype: str, lanes: int, mask: str) -> str:
    """A vector of pointers, each checked where ``mask``, typed, holds."""
    if not f.module.checks:
        return pointers
    size, found = np.dtype(dtype).itemsize, pointers
    for lane in range(lanes):
        one = f.let(f"extractelement <{lanes} x ptr> {pointers}, i64 {lane}")
        live = f.let(f"extractelement {mask}, i64 {lane}")
        count = Value(f.let(f"select i1 {live}, i64 {size}, i64 0"), "int64")
        found = f.let(f"insertelement <{lanes} x ptr> {found}, ptr {_checked(f, one, count)}, i64 {lane}")
    return found


def _live(f: Function, lanes: int, mask: Value | None) -> Value:
    """How many lanes there are up to the last live one."""
    if mask is None or lanes == 1:
        return const(lanes, "int64")
    bits = f.let(f"bitcast {mask.typed} to i{lanes}")
    wide = f.let(f"zext i{lanes} {bits} to i64") if lanes < 64 else bits
    name = f.module.declare("llvm.ctlz.i64", "i64", "i64", "i1")
    return Lanes(f).sub(const(64, "int64"), Value(f.let(f"call i64 @{name}(i64 {wide}, i1 false)"), "int64"))


def _checked(f: Function, pointer: str, count: Value) -> str:
    return f.let(f"call ptr @{CHECK}(ptr {pointer}, i64 {count.ref})")


# -- the outer function ------------------------------------------------------------------------------------------------


def begin(f: Function) -> None:
    """Note whose status word it is."""
    f.line("store ptr %status, ptr @gradc.word, align 8")


def note(f: Function, kernel: int, places: Mapping[str, int]) -> None:
    """What kernel number ``kernel`` may touch: so many bytes from each pointer on."""
    f.line(f"store i64 {kernel}, ptr @gradc.kernel, align 8")
    f.line(f"store i64 {len(places)}, ptr @gradc.count, align 8")
    for k, (pointer, size) in enumerate(places.items()):
        start = Value(f.let(f"ptrtoint ptr {pointer} to i64"), "int64")
        for place, value in ((2 * k, start), (2 * k + 1, Lanes(f).add(start, size))):
            f.line(f"store {value.typed}, ptr {f.let(f'getelementptr i64, ptr @gradc.ranges, i64 {place}')}, align 8")
