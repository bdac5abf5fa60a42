"""Compile the lowering of one op over arrays of any dtypes.

Enters: a lowering (``Op.lower``, or any function of a `Builder` and `Value`s), the operands' dtypes, a lane count.
Leaves: a callable on arrays.  Invariant: elements are loaded and stored as kernels do it; a bool is a byte in memory.
Start reading at `compile_lowering`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gradc.codegen import memory
from gradc.codegen.builder import Builder
from gradc.codegen.ir import Function, Module, Value
from tests.elementary_harness import Array, load

Lower = Callable[..., Value]


@dataclass
class Lowered:
    """A compiled lowering; operands are padded to whole vectors, and the result is cut back."""

    engine: Any = field(repr=False)
    function: Callable[..., None] = field(repr=False)
    dtypes: tuple[str, ...]
    result: str
    lanes: int

    def __call__(self, *operands: Array) -> Array:
        assert [str(x.dtype) for x in operands] == list(self.dtypes)
        count = operands[0].size
        whole = -(-max(count, 1) // self.lanes) * self.lanes
        padded = [np.resize(x.ravel(), whole) for x in operands]
        out = np.empty(whole, self.result)
        self.function(whole, out.ctypes.data, *[x.ctypes.data for x in padded])
        return out[:count].reshape(operands[0].shape)


def lowering_text(lower: Lower, dtypes: Sequence[str], lanes: int, fp: str = "ieee") -> tuple[str, str]:
    """(IR of ``f(count, out, *inputs)``, dtype of the result): ``out[i] = lower(inputs[i], …)`` for i < count."""
    module = Module(fp=fp)
    names = [f"in{k}" for k in range(len(dtypes))]
    f = Function(module, "f", [("i64", "count"), ("ptr", "out"), *[("ptr", name) for name in names]])
    with f.loop(0, Value("%count", "int64"), lanes) as loop:
        values = [
            memory.load(f, memory.offset_pointer(f, f"%{name}", loop.index, dtype), dtype, lanes)
            for name, dtype in zip(names, dtypes, strict=True)
        ]
        result = lower(Builder(f, lanes), *values)
        assert result.lanes == lanes
        memory.store(f, result, memory.offset_pointer(f, "%out", loop.index, result.dtype))
    f.finish()
    return str(module), result.dtype


def compile_lowering(
    lower: Lower, dtypes: Sequence[str], lanes: int, fp: str = "ieee", cpu: str | None = None
) -> Lowered:
    """The lowering over arrays of these dtypes. ``cpu`` names another CPU of this architecture."""
    text, result = lowering_text(lower, dtypes, lanes, fp)
    engine = load(text, cpu)
    signature = ctypes.CFUNCTYPE(None, ctypes.c_int64, *[ctypes.c_void_p] * (1 + len(dtypes)))
    return Lowered(engine, signature(engine.get_function_address("f")), tuple(dtypes), result, lanes)
