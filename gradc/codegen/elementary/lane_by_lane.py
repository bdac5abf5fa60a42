"""Rare and long work on single lanes, kept out of the loops that may need it.

Enters: a scalar computation and the lanes that need it.  Leaves: its results in those lanes.
Invariant: the computation is emitted once per module, as one internal function that loops over the lanes in memory; so
a caller pays for it in neither code size nor registers.  Start reading at `lane_by_lane`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gradc.codegen.ir import REGISTER, Function, Lanes, Module, Value, vector_type

#: Scalar values in, scalar values out, emitted through the `Lanes` of the function.
Body = Callable[[Lanes, list[Value]], list[Value]]
Signature = tuple[Sequence[str], Sequence[str]]


def lane_by_lane(
    b: Lanes, name: str, body: Body, inputs: Sequence[Value], results: Sequence[str], active: Value
) -> list[Value]:
    """``body`` of the inputs in the lanes where the bool ``active`` holds; other lanes of the results are undefined.

    ``name`` stands for the body: one name, one computation. ``results`` are the dtypes of what it returns.
    """
    dtypes = ["int64", *(v.dtype for v in inputs)]
    if name not in b.f.module.functions:
        _define(b.f.module, name, body, (dtypes, results))
    flags = b.select(active, b.const(1, "int64"), 0)
    slots = [b.f.scratch(REGISTER[dtype], b.lanes, k) for k, dtype in enumerate((*dtypes, *results))]
    sources, targets = slots[: len(dtypes)], slots[len(dtypes) :]
    for value, pointer in zip((flags, *inputs), sources, strict=True):
        b.f.line(f"store {value.typed}, ptr {pointer}, align 64")
    arguments = ", ".join(f"ptr {pointer}" for pointer in slots)
    b.f.line(f"call void @{name}({arguments}, i64 {b.lanes})")
    loaded = []
    for pointer, dtype in zip(targets, results, strict=True):
        type_ = vector_type(REGISTER[dtype], b.lanes)
        loaded.append(Value(b.f.let(f"load {type_}, ptr {pointer}, align 64"), dtype, b.lanes))
    return loaded


def _define(module: Module, name: str, body: Body, signature: Signature) -> None:
    dtypes, results = signature
    names = [*(f"in{k}" for k in range(len(dtypes))), *(f"out{k}" for k in range(len(results)))]
    parameters = [*(("ptr", n) for n in names), ("i64", "lanes")]
    # optnone: such a function takes as long to compile as ten loops, and unoptimised it is hardly slower.
    function = Function(module, name, parameters, "internal void", "nounwind noinline optnone cold")
    b = Lanes(function)
    with function.loop(0, Value("%lanes", "int64")) as loop:

        def place(name: str, dtype: str) -> str:
            return function.let(f"getelementptr {REGISTER[dtype]}, ptr %{name}, i64 {loop.index.ref}")

        def load(k: int) -> Value:
            return Value(function.let(f"load {REGISTER[dtypes[k]]}, ptr {place(f'in{k}', dtypes[k])}"), dtypes[k])

        with function.when(b.ne(load(0), 0)):
            values = body(b, [load(k) for k in range(1, len(dtypes))])
            for k, (value, dtype) in enumerate(zip(values, results, strict=True)):
                function.line(f"store {value.typed}, ptr {place(f'out{k}', dtype)}")
    function.finish()
