"""Native code for the harness itself: a loop that calls a function so often, the FMA peak, the memory's speed.

Enters: LLVM IR text.  Leaves: ctypes functions.  Written here by hand, so that no figure depends on what it judges.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

import numpy as np

#: what Fortran's gemm takes; a function that takes fewer pointers ignores the rest
ARGUMENTS = 13


@functools.cache
def compiled(name: str, text: str) -> Any:
    """The function ``name`` of this IR, for this CPU; the engine lives as long as the process."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    features = llvm.get_host_cpu_features().flatten()
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=features, opt=2, jit=True
    )
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(text), machine)
    engine.finalize_object()
    return engine, engine.get_function_address(name)


LOADS = "\n".join(
    f"  %p{i} = getelementptr ptr, ptr %block, i64 {i}\n  %a{i} = load ptr, ptr %p{i}" for i in range(ARGUMENTS)
)
REPEAT = f"""
define void @repeat(ptr %function, ptr %block, i64 %times) {{
entry:
{LOADS}
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
  call void %function({", ".join(f"ptr %a{i}" for i in range(ARGUMENTS))})
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %times
  br i1 %more, label %loop, label %done
done:
  ret void
}}
"""


def repeated(function: int, pointers: Sequence[int], times: int, owner: Any) -> Callable[[], None]:
    """A callable that calls the native ``function`` so many times with these pointers; keeps ``owner`` alive."""
    engine, address = compiled("repeat", REPEAT)
    loop = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)(address)
    block = (ctypes.c_void_p * ARGUMENTS)(*pointers)

    def call(held: Any = (engine, block, owner)) -> None:
        loop(function, ctypes.addressof(block), times)

    return call


def lanes(dtype: str) -> int:
    from gradc.codegen.target import Target

    return Target.host().lanes(dtype)


def peak_flops(dtype: str) -> float:
    """Fused multiply-adds per second, times two: 24 independent accumulators in registers."""
    width, kind = lanes(dtype), {"float32": "float", "float64": "double"}[dtype]
    vector, chains, steps = f"<{width} x {kind}>", range(24), 100_000
    phis = "\n".join(f"  %x{j} = phi {vector} [ zeroinitializer, %entry ], [ %y{j}, %loop ]" for j in chains)
    steps_text = "\n".join(
        f"  %y{j} = call {vector} @llvm.fma({vector} %x{j}, {vector} %f, {vector} %g)" for j in chains
    )
    sums = "\n".join(f"  %s{j} = fadd {vector} {'%f' if j == 0 else f'%s{j - 1}'}, %y{j}" for j in chains)
    text = f"""
declare {vector} @llvm.fma({vector}, {vector}, {vector})
define void @peak(ptr %given, ptr %out) {{
entry:
  %f = load {vector}, ptr %given, align 4
  %gp = getelementptr {vector}, ptr %given, i64 1
  %g = load {vector}, ptr %gp, align 4
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
{phis}
{steps_text}
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, {steps}
  br i1 %more, label %loop, label %done
done:
{sums}
  store {vector} %s{chains[-1]}, ptr %out, align 4
  ret void
}}
""".replace("@llvm.fma", f"@llvm.fma.v{width}{'f32' if kind == 'float' else 'f64'}")
    given, out = np.full(2 * width, 0.5, dtype), np.empty(width, dtype)
    _, address = compiled("peak", text)
    function = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(address)
    best = fastest(lambda: function(given.ctypes.data, out.ctypes.data))
    return 2 * width * len(chains) * steps / best


def update_bandwidth() -> float:
    """Bytes per second of x ← a·x + b on an array far larger than the caches, read and written in place."""
    n = 16_000_000
    text = """
define void @update(ptr %x) {
entry:
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
  %p = getelementptr float, ptr %x, i64 %i
  %v = load <16 x float>, ptr %p, align 4
  %w = fmul <16 x float> %v, splat (float 5.0e-1)
  %u = fadd <16 x float> %w, splat (float 1.0)
  store <16 x float> %u, ptr %p, align 4
  %next = add i64 %i, 16
  %more = icmp slt i64 %next, 16000000
  br i1 %more, label %loop, label %done
done:
  ret void
}
"""
    x = np.ones(n, np.float32)
    _, address = compiled("update", text)
    function = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(address)
    return 8 * n / fastest(lambda: function(x.ctypes.data))


def fastest(call: Callable[[], Any], rounds: int = 12) -> float:
    best = float("inf")
    for _ in range(rounds):
        start = perf_counter()
        call()
        best = min(best, perf_counter() - start)
    return best


def measured() -> dict[str, float]:
    """The machine's limits, as one thread reaches them."""
    return {"float32": peak_flops("float32"), "float64": peak_flops("float64"), "bandwidth": update_bandwidth()}
