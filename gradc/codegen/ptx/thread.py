"""What a thread can do beyond arithmetic: know its number, wait for its block, exchange values with its warp.

Enters: a function under construction.  Leaves: calls of LLVM's NVPTX intrinsics.  Start reading at `Thread`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set

import numpy as np

from gradc.codegen.ir import Function, Lanes, Value, const, memory_type
from gradc.codegen.ptx.target import WARP

EVERYBODY = -1  # the mask of a whole warp
#: Shared memory that a kernel may declare; more is asked for at its launch.
STATIC_SHARED_BYTES = 48 * 1024
DYNAMIC = "gradc_dynamic_shared"


class Thread:
    """The thread that runs the function; ``constant`` are the slots whose memory no thread of the launch writes."""

    def __init__(self, f: Function, constant: Set[int] = frozenset()):
        self.f, self.b, self.constant = f, Lanes(f), constant
        self.shared_bytes = 0  #: in all
        self.dynamic_bytes = 0  #: of these, what a launch asks for
        self._shared: dict[tuple[str, int], str] = {}

    def _call(self, name: str, result: str, *args: str) -> str:
        types = [a.split(" ", 1)[0] for a in args]
        self.f.module.declare(name, result, *types)
        call = f"call {result} @{name}({', '.join(args)})"
        if result == "void":
            self.f.line(call)
            return ""
        return self.f.let(call)

    # -- vectors -----------------------------------------------------------------------------------------------------
    def lane(self, vector: Value, k: int) -> Value:
        """Element ``k`` of a vector."""
        if vector.lanes == 1:
            return vector
        return Value(self.f.let(f"extractelement {vector.typed}, i64 {k}"), vector.dtype)

    def vector(self, values: Sequence[Value]) -> Value:
        """Scalars as the lanes of a vector."""
        if len(values) == 1:
            return values[0]
        type_ = Value("", values[0].dtype, len(values)).type
        ref = "poison"
        for k, v in enumerate(values):
            ref = self.f.let(f"insertelement {type_} {ref}, {v.typed}, i64 {k}")
        return Value(ref, values[0].dtype, len(values))

    # -- numbers -----------------------------------------------------------------------------------------------------
    def number(self) -> Value:
        """The thread's number in its block."""
        return Value(self._call("llvm.nvvm.read.ptx.sreg.tid.x", "i32"), "uint32")

    def block(self) -> Value:
        """The block's number in the grid."""
        return Value(self._call("llvm.nvvm.read.ptx.sreg.ctaid.x", "i32"), "uint32")

    # -- blocks ------------------------------------------------------------------------------------------------------
    def barrier(self) -> None:
        """Wait for all threads of the block."""
        self._call("llvm.nvvm.barrier.cta.sync.aligned.all", "void", "i32 0")

    def shared(self, dtype: str, count: int, number: int = 0) -> str:
        """Shared memory for ``count`` elements; whoever asks for the same gets the same."""
        key = (f"{dtype}.{number}", count)
        if key not in self._shared:
            kind = memory_type(dtype)
            name = f"{self.f.name}_shared{len(self._shared)}"
            size = count * np.dtype(dtype).itemsize
            self.f.module.globals[name] = f"internal addrspace(3) global [{count} x {kind}] poison, align 16"
            self._shared[key] = f"addrspacecast (ptr addrspace(3) @{name} to ptr)"
            self.shared_bytes = -(-self.shared_bytes // 16) * 16 + size
        return self._shared[key]

    def shared_arrays(self, dtype: str, counts: Sequence[int]) -> list[str]:
        """Shared memory for several arrays, however large; asked for once."""
        size = np.dtype(dtype).itemsize
        if sum(counts) * size <= STATIC_SHARED_BYTES:
            return [self.shared(dtype, n, k) for k, n in enumerate(counts)]
        self.f.module.globals[DYNAMIC] = "external addrspace(3) global [0 x i8], align 16"
        found = []
        for n in counts:
            at = f"getelementptr (i8, ptr addrspace(3) @{DYNAMIC}, i64 {self.dynamic_bytes})"
            found.append(f"addrspacecast (ptr addrspace(3) {at} to ptr)")
            self.dynamic_bytes += -(-n * size // 16) * 16
        self.shared_bytes += self.dynamic_bytes
        return found

    def guarded(self, condition: Value | None, body: Callable[[], None]) -> None:
        """Do it where the condition holds; None: it does."""
        if condition is None:
            body()
        else:
            with self.f.when(condition):
                body()

    # -- copies from global to shared memory that nobody waits for yet ----------------------------------------------
    def copy(self, to: str, source: str, size: int, wanted: Value | None = None) -> None:
        """Start to copy ``size`` bytes (4, 8 or 16, aligned to that); zeros where not ``wanted``."""
        shared = self.f.let(f"addrspacecast ptr {to} to ptr addrspace(3)")
        far = self.f.let(f"addrspacecast ptr {source} to ptr addrspace(1)")
        name = f"llvm.nvvm.cp.async.{'cg' if size == 16 else 'ca'}.shared.global.{size}"
        pointers = ("ptr addrspace(3)", "ptr addrspace(1)")
        arguments = f"{pointers[0]} {shared}, {pointers[1]} {far}"
        if wanted is None:
            self.f.module.declare(name, "void", *pointers)
            self.f.line(f"call void @{name}({arguments})")
        else:
            taken = self.b.select(wanted, const(size, "int32"), 0)
            self.f.module.declare(f"{name}.s", "void", *pointers, "i32")
            self.f.line(f"call void @{name}.s({arguments}, {taken.typed})")

    def commit_copies(self) -> None:
        """The copies started since the last commit are a group."""
        self._call("llvm.nvvm.cp.async.commit.group", "void")

    def wait_for_copies(self, left: int) -> None:
        """Wait until at most ``left`` groups of this thread are on their way."""
        self._call("llvm.nvvm.cp.async.wait.group", "void", f"i32 {left}")

    def matrices(self, pointer: str, transposed: bool) -> list[str]:
        """Four words: ldmatrix of 8 x 16 bytes each, whose rows begin at the pointers of lanes 0 … 7, 8 … 15, …"""
        shared = self.f.let(f"addrspacecast ptr {pointer} to ptr addrspace(3)")
        kind = "{i32, i32, i32, i32}"
        name = f"llvm.nvvm.ldmatrix.sync.aligned.m8n8.x4{'.trans' if transposed else ''}.b16.p3"
        self.f.module.declare(name, kind, "ptr addrspace(3)")
        found = self.f.let(f"call {kind} @{name}(ptr addrspace(3) {shared})")
        return [self.f.let(f"extractvalue {kind} {found}, {k}") for k in range(4)]

    # -- warps -------------------------------------------------------------------------------------------------------
    def from_lane_below(self, x: Value, distance: int, width: int) -> Value:
        """The value of the lane ``distance`` further on, inside groups of ``width`` lanes."""
        return self._shuffled("down", x, distance, width)

    def from_lane_above(self, x: Value, distance: int) -> Value:
        """The value of the lane ``distance`` before; the first ones get their own."""
        return self._shuffled("up", x, distance, WARP)

    def from_first_lane(self, x: Value, width: int) -> Value:
        """The value of the first lane of each group of ``width`` lanes."""
        return self._shuffled("idx", x, 0, width)

    def _shuffled(self, mode: str, x: Value, lane: int, width: int) -> Value:
        """A value of any dtype, moved in words of 32 bits."""
        b = self.b
        clamp = (WARP - width) << 8 | (0 if mode == "up" else WARP - 1)
        words = self._words(x)
        name = f"llvm.nvvm.shfl.sync.{mode}.i32"
        moved = [
            Value(self._call(name, "i32", f"i32 {EVERYBODY}", f"i32 {w.ref}", f"i32 {lane}", f"i32 {clamp}"), "uint32")
            for w in words
        ]
        if x.dtype == "bool":
            return b.ne(moved[0], 0)
        if x.bits < 32:
            return b.bitcast(b.convert(moved[0], f"uint{x.bits}"), x.dtype)
        if x.bits == 32:
            return b.bitcast(moved[0], x.dtype)
        low, high = (b.convert(w, "uint64") for w in moved)
        return b.bitcast(b.or_(low, b.shl(high, 32)), x.dtype)

    def _words(self, x: Value) -> Sequence[Value]:
        b = self.b
        if x.dtype == "bool":
            return [Value(self.f.let(f"zext {x.typed} to i32"), "uint32")]
        raw = b.bitcast(x, f"uint{x.bits}")
        if x.bits < 64:
            return [b.convert(raw, "uint32")]
        return [b.convert(raw, "uint32"), b.convert(b.shr(raw, 32), "uint32")]
