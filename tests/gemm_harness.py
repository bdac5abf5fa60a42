"""Compile generated matrix products and call them on NumPy arrays.

Enters: views A (…, m, k), B (…, k, n), C (…, m, n) with any strides.  Leaves: C filled by native code.
Invariant: the product is described by the strides of the views alone.  Start reading at `Products`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import llvmlite.binding as llvm
import numpy as np

from gradc.codegen.gemm import Epilogue, Gemm, emit_gemm, gemm_scratch_bytes
from gradc.codegen.ir import Module, Scalar
from gradc.codegen.target import Target

llvm.initialize_all_targets()
llvm.initialize_all_asmprinters()
llvm.initialize_native_asmparser()

HOST = Target.host()


def element_strides(x: np.ndarray) -> tuple[int, ...]:
    return tuple(step // x.itemsize for step in x.strides)


def describe(
    a: np.ndarray, b: np.ndarray, c: np.ndarray, accumulate: bool = False, alpha: Scalar | None = None
) -> Gemm:
    """The `Gemm` of these views; A and B are broadcast to the batch of C."""
    batch = c.shape[:-2]
    a, b = np.broadcast_to(a, batch + a.shape[-2:]), np.broadcast_to(b, batch + b.shape[-2:])
    sa, sb, sc = element_strides(a), element_strides(b), element_strides(c)
    return Gemm(
        c.shape[-2], c.shape[-1], a.shape[-1], c.dtype.name, sa[-2:], sb[-2:], sc[-2:],
        batch, sa[:-2], sb[:-2], sc[:-2], accumulate, alpha,
    )  # fmt: skip


def machine(target: Target) -> llvm.TargetMachine:
    return llvm.Target.from_triple(target.triple).create_target_machine(
        cpu=target.cpu, features=target.features, opt=2, jit=True
    )


def text(module: Module, target: Target) -> str:
    layout = machine(target).target_data
    return f'target triple = "{target.triple}"\ntarget datalayout = "{layout}"\n{module}'


def build(module: Module, target: Target) -> llvm.ExecutionEngine:
    """Verify and compile, without any optimiser pass: what was emitted is what runs."""
    parsed = llvm.parse_assembly(text(module, target))
    parsed.verify()
    engine = llvm.create_mcjit_compiler(parsed, machine(target))
    engine.finalize_object()
    return engine


class Products:
    """Products compiled together, as one module is; each is called by its number."""

    def __init__(self, gemms: list[Gemm], target: Target = HOST, epilogues: dict[int, Epilogue] | None = None):
        self.gemms, self.target = gemms, target
        self.module = Module()
        for i, gemm in enumerate(gemms):
            emit_gemm(self.module, gemm, target, f"product{i}", (epilogues or {}).get(i))
        self.engine = build(self.module, target)

    def address(self, i: int) -> int:
        """The address of the native function of product i; valid as long as this object lives."""
        address: int = self.engine.get_function_address(f"product{i}")
        return address

    def function(self, i: int, extra: int = 0) -> Callable[..., None]:
        """The native function of product i: pointers in, nothing out."""
        signature = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * (4 + extra))
        native = signature(self.address(i))
        native.owner = self  # type: ignore[attr-defined]
        return native

    def scratch(self, i: int) -> np.ndarray:
        """Scratch of exactly the promised size, full of NaN bytes, with more of them behind it (`overrun`)."""
        return aligned(gemm_scratch_bytes(self.gemms[i], self.target))

    def __call__(self, i: int, a: np.ndarray, b: np.ndarray, c: np.ndarray, *extra: np.ndarray) -> None:
        scratch = self.scratch(i)
        pointers = [x.ctypes.data for x in (a, b, c, scratch, *extra)]
        self.function(i, len(extra))(*pointers)
        assert not overrun(scratch)


def bound(a: np.ndarray, b: np.ndarray, c: np.ndarray | None = None, alpha: float = 1.0) -> np.ndarray:
    """How far two products of these floats may lie apart, one summed in the dtype of ``a`` and one in float64.

    gamma(j) = j*u / (1 - j*u) bounds any order of summation (Higham, Accuracy and Stability of Numerical Algorithms,
    2nd ed., 3.1); j = k + 2 counts the products' additions, alpha, and what C held.
    """
    magnitude = abs(alpha) * (abs(a).astype(float) @ abs(b).astype(float))
    if c is not None:
        magnitude = magnitude + abs(c)
    steps = (a.shape[-1] + 2) * np.array([np.finfo(a.dtype).eps / 2, np.finfo(float).eps / 2])
    return magnitude * float((steps / (1 - steps)).sum())


MARGIN = 1 << 14


def aligned(size: int) -> np.ndarray:
    """``size`` bytes on a 64-byte boundary, and a margin behind them, all ones."""
    room = np.full(size + 64 + MARGIN, 0xFF, np.uint8)
    start = -room.ctypes.data % 64
    return room[start : start + size]


def overrun(scratch: np.ndarray) -> bool:
    """Whether something was written to the margin of scratch made by `aligned`."""
    room = scratch.base
    assert room is not None
    start = -room.ctypes.data % 64
    return bool((room[start + scratch.size :] != 0xFF).any())
