"""Two loops that do nothing but what a machine does fastest: multiply-adds in registers, and copying.

Enters: a `Target`.  Leaves: a `Module` with one function, for measuring what code on this machine can reach at most.
Start reading at `multiply_adds`.
"""

from __future__ import annotations

from gradc.codegen.ir import Function, Lanes, Module, Value, const
from gradc.codegen.memory import load, offset_pointer, store
from gradc.codegen.target import Target

#: Accumulators: enough to hide the latency of a multiply-add on two units, few enough for 16 registers.
CHAINS = 12
#: Registers copied in one step.
UNROLL = 4


def multiply_adds(target: Target, dtype: str, name: str) -> Module:
    """``void name(ptr %out, i64 %steps)``: each step is `CHAINS` independent fused multiply-adds of whole registers.

    They stay near 1, so no operand is slow.
    """
    module, lanes = Module(), target.lanes(dtype)
    f = Function(module, name, [("ptr", "out"), ("i64", "steps")])
    b = Lanes(f, lanes)
    factor, summand = const(0.5, dtype, lanes), const(0.5, dtype, lanes)
    with f.loop(0, Value("%steps", "int64"), carry=[const(1.0, dtype, lanes)] * CHAINS) as loop:
        loop.next = [b.fma(x, factor, summand) for x in loop.carry]
    for k, x in enumerate(loop.result):
        store(f, x, offset_pointer(f, "%out", k * lanes, dtype))
    f.finish()
    return module


def multiply_add_flops(target: Target, dtype: str) -> int:
    """Arithmetic operations of one step of `multiply_adds`."""
    return 2 * CHAINS * target.lanes(dtype)


def copies(target: Target, name: str) -> Module:
    """``void name(ptr %from, ptr %to, i64 %count, i64 %times)``: copy ``count`` float32, ``times`` times.

    ``count`` is a multiple of `copy_step`.
    """
    module, lanes = Module(), target.lanes("float32")
    f = Function(module, name, [("ptr noalias", "from"), ("ptr noalias", "to"), ("i64", "count"), ("i64", "times")])
    with f.loop(0, Value("%times", "int64")), f.loop(0, Value("%count", "int64"), UNROLL * lanes) as along:
        places = [Lanes(f).add(along.index, k * lanes) if k else along.index for k in range(UNROLL)]
        values = [load(f, offset_pointer(f, "%from", at, "float32"), "float32", lanes) for at in places]
        for value, at in zip(values, places, strict=True):
            store(f, value, offset_pointer(f, "%to", at, "float32"))
    f.finish()
    return module


def copy_step(target: Target) -> int:
    """Elements that one step of `copies` takes."""
    return UNROLL * target.lanes("float32")
