"""Loads, stores, masks and shuffles of whole vector registers, and index arithmetic that folds constants.

Enters: a `Function` under construction.  Leaves: `Value`s of that function.
Invariant: every access carries the alignment of its element, never that of a vector, and a masked access touches live
lanes only.  Booleans are bytes here (`storage`); everything else keeps its dtype.  Start reading at `transpose`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from gradc.codegen.bounds import inside
from gradc.codegen.ir import NARROW, REGISTER, Function, Lanes, Value, const, memory_type, vector_const
from gradc.codegen.narrow import computed, from_bits

Index = Value | int


def storage(dtype: str) -> str:
    """The dtype in which elements are kept in registers: a bool is its byte, 0 or 1."""
    return "uint8" if dtype == "bool" else dtype


def kinds(dtype: str, a: str, b: str) -> str:
    """The part of a kernel's name that says what it reads and sums."""
    return dtype if {a or dtype, b or dtype} == {dtype} else f"{a or dtype}.{b or dtype}.{dtype}"


def argument(name: str, dtype: str = "int64") -> Value:
    """A scalar parameter of the function under construction."""
    return Value(f"%{name}", dtype)


def index(x: Index) -> Value:
    return x if isinstance(x, Value) else const(x, "int64")


def plus(f: Function, *terms: Index) -> Value:
    """The sum of int64 terms; constants are added here, zeros vanish."""
    total = sum(t for t in terms if isinstance(t, int))
    values = [t for t in terms if isinstance(t, Value)]
    if total or not values:
        values.append(const(total, "int64"))
    result = values[0]
    for value in values[1:]:
        result = Lanes(f).add(result, value)
    return result


def times(f: Function, x: Index, y: Index) -> Value:
    """The product of two int64; constants are folded."""
    if isinstance(x, int) and isinstance(y, int):
        return const(x * y, "int64")
    if isinstance(x, int):
        x, y = y, x
    if isinstance(y, int) and y in (0, 1):
        return index(x if y else 0)
    return Lanes(f).mul(x, y)


def smaller(f: Function, x: Index, y: Index) -> Value:
    """min(x, y) of two int64."""
    if isinstance(x, int) and isinstance(y, int):
        return const(min(x, y), "int64")
    return Lanes(f).min(index(x), index(y))


def address(f: Function, base: str, offset: Index, dtype: str) -> str:
    """The pointer ``offset`` elements behind ``base``."""
    if isinstance(offset, int) and offset == 0:
        return base
    return f.let(f"getelementptr {memory_type(storage(dtype))}, ptr {base}, i64 {index(offset).ref}")


def _align(dtype: str) -> int:
    return np.dtype(dtype).itemsize


def _masked(access: str, v: Value) -> str:
    scalar = {"float": "f32", "double": "f64"}.get(REGISTER[v.dtype], REGISTER[v.dtype])
    return f"llvm.masked.{access}.v{v.lanes}{scalar}.p0"


def load(f: Function, pointer: str, dtype: str, lanes: int = 1, mask: Value | None = None) -> Value:
    """``lanes`` neighbouring elements; lanes outside ``mask`` are zero and their memory is not touched."""
    if dtype in NARROW:
        return computed(from_bits(Lanes(f, lanes), load(f, pointer, "uint16", lanes, mask), dtype))
    out = Value("", storage(dtype), lanes)
    pointer = inside(f, pointer, dtype, lanes, mask)
    if mask is None:
        return Value(f.let(f"load {out.type}, ptr {pointer}, align {_align(dtype)}"), out.dtype, lanes)
    name = f.module.declare(_masked("load", out), out.type, "ptr", mask.type, out.type)
    call = f"call {out.type} @{name}(ptr align {_align(dtype)} {pointer}, {mask.typed}, {out.type} zeroinitializer)"
    return Value(f.let(call), out.dtype, lanes)


def store(f: Function, value: Value, pointer: str, mask: Value | None = None) -> None:
    """Write the lanes of ``value`` to neighbouring elements, those in ``mask`` only."""
    align = _align(value.dtype)
    pointer = inside(f, pointer, value.dtype, value.lanes, mask)
    if mask is None:
        f.line(f"store {value.typed}, ptr {pointer}, align {align}")
        return
    name = f.module.declare(_masked("store", value), "void", value.type, "ptr", mask.type)
    f.line(f"call void @{name}({value.typed}, ptr align {align} {pointer}, {mask.typed})")


def first_lanes(f: Function, live: Value, lanes: int) -> Value:
    """The mask of the first ``live`` (an int64) of ``lanes`` lanes."""
    count = Lanes(f, lanes).splat(Lanes(f).convert(live, "int32"))
    return Lanes(f, lanes).lt(vector_const(list(range(lanes)), "int32"), count)


def shuffle(f: Function, x: Value, y: Value | None, lanes: Sequence[int]) -> Value:
    """Choose ``lanes`` from x followed by y."""
    second = f"{x.type} poison" if y is None else y.typed
    mask = ", ".join(f"i32 {lane}" for lane in lanes)
    return Value(f.let(f"shufflevector {x.typed}, {second}, <{len(lanes)} x i32> <{mask}>"), x.dtype, len(lanes))


def extract(f: Function, x: Value, lane: int) -> Value:
    """One lane as a scalar."""
    if x.lanes == 1:
        return x
    return Value(f.let(f"extractelement {x.typed}, i64 {lane}"), x.dtype)


def first_part(f: Function, x: Value, lanes: int) -> Value:
    """The first ``lanes`` lanes."""
    if lanes == x.lanes:
        return x
    return extract(f, x, 0) if lanes == 1 else shuffle(f, x, None, range(lanes))


def concatenate(f: Function, parts: Sequence[Value]) -> Value:
    """The lanes of all parts (a power of two of them), one after the other."""
    level = list(parts)
    while len(level) > 1:
        level = [shuffle(f, x, y, range(2 * x.lanes)) for x, y in zip(level[::2], level[1::2], strict=True)]
    return level[0]


def transpose(f: Function, rows: Sequence[Value]) -> list[Value]:
    """Transpose every block of ``len(rows)`` lanes: lane i of block q of result j is lane j of block q of row i.

    Perfect shuffles within blocks: where a block is 128 bits, they are the unpack instructions of every CPU.
    """
    block, width, span = len(rows), rows[0].lanes, len(rows)
    while span > 1:
        mixed: list[Value] = []
        for x, y in zip(rows[: block // 2], rows[block // 2 :], strict=True):
            for part in (0, block // 2):
                pairs = [start + part + lane for start in range(0, width, block) for lane in range(block // 2)]
                mixed.append(shuffle(f, x, y, [lane + side for lane in pairs for side in (0, width)]))
        rows, span = mixed, span // 2
    return list(rows)


Join = Callable[[Lanes, Value, Value], Value]


def sum_lanes(f: Function, vectors: Sequence[Value], join: Join) -> Value:
    """Lane i of the result is the sum of all lanes of vector i, by a binary tree over neighbouring lanes.

    ``len(vectors)`` is a power of two that is at most the number of lanes; ``join`` adds.
    """
    level, count = list(vectors), len(vectors)
    while len(level) > 1:
        level = [_join_neighbours(f, x, y, join) for x, y in zip(level[::2], level[1::2], strict=True)]
    total = level[0]
    while total.lanes > count:
        total = _join_neighbours(f, total, None, join)
    return total


def _join_neighbours(f: Function, x: Value, y: Value | None, join: Join) -> Value:
    """Sums of the pairs of lanes of x followed by y."""
    if y is None and x.lanes == 2:
        return join(Lanes(f), extract(f, x, 0), extract(f, x, 1))
    count = x.lanes * (1 if y is None else 2)
    even, odd = (shuffle(f, x, y, range(parity, count, 2)) for parity in (0, 1))
    return join(Lanes(f, even.lanes), even, odd)
