"""Lengthy arithmetic that a kernel needs many times, as a function of the module that is called instead of repeated.

Enters: an op and its operands as `Value`s.  Leaves: the `Value` of a call.
Invariant: the function is the op's own lowering, so a call gives the same bits as the arithmetic in place.  Compile
time then counts the calls, not the instructions behind them.  Start reading at `call`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gradc.codegen.builder import Builder
from gradc.codegen.ir import Function, Value
from gradc.ops.record import Op

#: Up to so many times in one kernel the arithmetic stands in place, where it shares registers and hides latencies.
IN_PLACE = 8


def call(b: Builder, op: Op, attrs: tuple[tuple[str, Any], ...], args: Sequence[Value]) -> Value:
    """``op`` of ``args`` by a call; the function is emitted once for each op, attributes and operand types."""
    module = b.f.module
    key = (op.name, attrs, b.lanes, tuple((a.dtype, a.lanes) for a in args))
    if key not in module.shared:
        module.shared[key] = _function(b, op, attrs, args, f"{op.name}.{len(module.shared)}")
    name, result = module.shared[key]
    return Value(b.f.let(f"call {result.type} @{name}({', '.join(a.typed for a in args)})"), result.dtype, result.lanes)


def _function(
    b: Builder, op: Op, attrs: tuple[tuple[str, Any], ...], args: Sequence[Value], name: str
) -> tuple[str, Value]:
    """The function's name, and a value of the type that it returns."""
    assert op.lower is not None
    f = Function(b.f.module, name, [(a.type, f"x{k}") for k, a in enumerate(args)])
    inside = [Value(f"%x{k}", a.dtype, a.lanes) for k, a in enumerate(args)]
    result: Value = op.lower(Builder(f, b.lanes), *inside, **dict(attrs))
    f.result = f"internal {result.type}"
    f.finish(result)
    return name, result
