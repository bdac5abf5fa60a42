"""Elements in memory: loads and stores of one element or of lanes, at any distance from each other.

Enters: a base pointer, an element offset and the distance between lanes.  Leaves: loads, stores, gathers and scatters.
Invariant: an access claims the alignment of its element unless the caller knows a larger one, and lanes outside the
mask touch no memory.  A bool is one byte in memory, 0 or 1, and one bit in a register; a narrow float is two bytes in
memory and a float32 in a register.  Start reading at `load`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gradc.codegen.bounds import each_inside, inside
from gradc.codegen.ir import NARROW, Function, Lanes, Value, const, memory_type, vector_type
from gradc.codegen.narrow import from_bits, to_bits
from gradc.codegen.target import LINE


def offset_pointer(f: Function, base: str, offset: Value | int, dtype: str) -> str:
    """The pointer ``offset`` elements behind ``base``."""
    if isinstance(offset, int):
        if offset == 0:
            return base
        offset = const(offset, "int64")
    return f.let(f"getelementptr {memory_type(dtype)}, ptr {base}, i64 {offset.ref}")


def load(
    f: Function, pointer: str, dtype: str, lanes: int = 1, mask: Value | None = None, aligned: bool = False
) -> Value:
    """``lanes`` neighbouring elements; those outside ``mask`` are 0.

    ``aligned``: they lie at a multiple of their size taken together.
    """
    kind = vector_type(memory_type(dtype), lanes)
    pointer = inside(f, pointer, dtype, lanes, mask)
    if mask is None or lanes == 1:
        ref = f.let(f"load {kind}, ptr {pointer}, align {_align(dtype) * (lanes if aligned else 1)}")
    else:
        name = f.module.declare(f"llvm.masked.load.{_suffix(dtype, lanes)}.p0", kind, "ptr", mask.type, kind)
        arguments = f"ptr align {_align(dtype)} {pointer}, {mask.typed}, {kind} zeroinitializer"
        ref = f.let(f"call {kind} @{name}({arguments})")
    return _from_memory(f, ref, dtype, lanes)


def fetch(f: Function, pointer: str, dtype: str, lanes: int) -> None:
    """Ask for the lines that hold ``lanes`` elements from ``pointer`` on; they need not exist."""
    name = f.module.declare("llvm.prefetch.p0", "void", "ptr", "i32", "i32", "i32")
    for start in range(0, lanes, max(LINE // _align(dtype), 1)):
        f.line(f"call void @{name}(ptr {offset_pointer(f, pointer, start, dtype)}, i32 0, i32 3, i32 1)")


def store(f: Function, value: Value, pointer: str, mask: Value | None = None, aligned: bool = False) -> None:
    """Write the lanes of ``value`` to neighbouring elements, those in ``mask`` only; ``aligned`` as in `load`.

    A single lane that is known is written as a scalar: of a masked store of narrowed integers that keeps one lane,
    LLVM 22 makes a store of the wide integer on x86, which reaches into the next element.
    """
    if mask is not None and live_lanes(mask, value.lanes) == 1:
        store(f, *_lane(f, value, pointer, mask.ref.strip("<>").split(", ").index("i1 true")))
        return
    kind, ref = vector_type(memory_type(value.dtype), value.lanes), _to_memory(f, value)
    pointer = inside(f, pointer, value.dtype, value.lanes, mask)
    if mask is None or value.lanes == 1:
        f.line(f"store {kind} {ref}, ptr {pointer}, align {_align(value.dtype) * (value.lanes if aligned else 1)}")
        return
    name = f.module.declare(f"llvm.masked.store.{_suffix(value.dtype, value.lanes)}.p0", "void", kind, "ptr", mask.type)
    f.line(f"call void @{name}({kind} {ref}, ptr align {_align(value.dtype)} {pointer}, {mask.typed})")


def _lane(f: Function, value: Value, pointer: str, lane: int) -> tuple[Value, str]:
    """One lane of a vector and its place."""
    one = Value(f.let(f"extractelement {value.typed}, i64 {lane}"), value.dtype)
    return one, offset_pointer(f, pointer, lane, value.dtype)


def gather(f: Function, base: str, offsets: Value, dtype: str, mask: Value | None = None) -> Value:
    """One element for each lane of ``offsets``."""
    lanes = offsets.lanes
    kind = vector_type(memory_type(dtype), lanes)
    pointers = f.let(f"getelementptr {memory_type(dtype)}, ptr {base}, {offsets.typed}")
    live = _mask(mask, lanes)
    pointers = each_inside(f, pointers, dtype, lanes, live)
    name = f.module.declare(
        f"llvm.masked.gather.{_suffix(dtype, lanes)}.v{lanes}p0", kind, f"<{lanes} x ptr>", f"<{lanes} x i1>", kind
    )
    arguments = f"<{lanes} x ptr> align {_align(dtype)} {pointers}, {live}, {kind} zeroinitializer"
    return _from_memory(f, f.let(f"call {kind} @{name}({arguments})"), dtype, lanes)


def scatter(f: Function, value: Value, base: str, offsets: Value, mask: Value | None = None) -> None:
    """Write each lane of ``value`` at its own offset; no two live lanes share one."""
    lanes, dtype = value.lanes, value.dtype
    kind, ref = vector_type(memory_type(dtype), lanes), _to_memory(f, value)
    pointers = f.let(f"getelementptr {memory_type(dtype)}, ptr {base}, {offsets.typed}")
    pointers = each_inside(f, pointers, dtype, lanes, _mask(mask, lanes))
    name = f.module.declare(
        f"llvm.masked.scatter.{_suffix(dtype, lanes)}.v{lanes}p0", "void", kind, f"<{lanes} x ptr>", f"<{lanes} x i1>"
    )
    arguments = f"{kind} {ref}, <{lanes} x ptr> align {_align(dtype)} {pointers}, {_mask(mask, lanes)}"
    f.line(f"call void @{name}({arguments})")


def load_spread(f: Function, pointer: str, dtype: str, lanes: int, step: int, live: int) -> Value:
    """Every ``step``-th element, for a small step: whole vectors, from which lanes are picked; nothing beyond lane
    ``live`` is touched."""
    reach = (live - 1) * step + 1
    parts = []
    for start in range(0, reach, lanes):
        mask = first_lanes(reach - start, lanes) if reach - start < lanes else None
        parts.append(load(f, offset_pointer(f, pointer, start, dtype), dtype, lanes, mask))
    places = [divmod(lane * step, lanes) for lane in range(lanes)]
    picked = _shuffled(f, parts[0], parts[0], [at if where == 0 else 0 for where, at in places])
    for k, part in enumerate(parts[1:], start=1):
        chosen = [lanes + at if where == k else lane for lane, (where, at) in enumerate(places)]
        picked = _shuffled(f, picked, part, chosen)
    return picked


def store_spread(f: Function, value: Value, pointer: str, step: int, live: int) -> None:
    """Write the first ``live`` lanes ``step`` elements apart, for a small step: spread over vectors, under masks."""
    lanes = value.lanes
    for start in range(0, (live - 1) * step + 1, lanes):
        places = [divmod(start + k, step) for k in range(lanes)]
        mask = [not off and lane < live for lane, off in places]
        spread = _shuffled(f, value, value, [lane if on else 0 for (lane, _), on in zip(places, mask, strict=True)])
        store(f, spread, offset_pointer(f, pointer, start, value.dtype), _constant_mask(mask))


def _shuffled(f: Function, x: Value, y: Value, chosen: Sequence[int]) -> Value:
    indices = ", ".join(f"i32 {k}" for k in chosen)
    return Value(f.let(f"shufflevector {x.typed}, {y.typed}, <{len(chosen)} x i32> <{indices}>"), x.dtype, len(chosen))


def live_lanes(mask: Value | None, lanes: int) -> int | None:
    """How many lanes a mask made by `first_lanes` leaves; None if that is known only when it runs."""
    if mask is None:
        return lanes
    return mask.ref.count("i1 true") if mask.ref.startswith("<") else None


def copy_bytes(f: Function, source: str, target: str, count: int) -> None:
    """``count`` bytes from one place to another that does not overlap it."""
    lanes = 64
    whole = count // lanes * lanes
    for start, stop, width in ((0, whole, lanes), (whole, count, 1)):
        if stop > start:
            with f.loop(start, stop, width) as loop:
                moved = load(f, offset_pointer(f, source, loop.index, "uint8"), "uint8", width)
                store(f, moved, offset_pointer(f, target, loop.index, "uint8"))


def first_lanes(count: int, lanes: int) -> Value:
    """The constant mask of the first ``count`` lanes."""
    return _constant_mask([k < count for k in range(lanes)])


def _constant_mask(live: Sequence[bool]) -> Value:
    bits = ", ".join("i1 true" if on else "i1 false" for on in live)
    return Value(f"<{bits}>", "bool", len(live))


def _mask(mask: Value | None, lanes: int) -> str:
    return f"<{lanes} x i1> splat (i1 true)" if mask is None else mask.typed


def _align(dtype: str) -> int:
    return np.dtype(dtype).itemsize


def _suffix(dtype: str, lanes: int) -> str:
    scalar = memory_type(dtype)
    return f"v{lanes}" + {"float": "f32", "double": "f64"}.get(scalar, scalar)


def _from_memory(f: Function, ref: str, dtype: str, lanes: int) -> Value:
    if dtype in NARROW:
        return from_bits(Lanes(f, lanes), Value(ref, "uint16", lanes), dtype)
    if dtype != "bool":
        return Value(ref, dtype, lanes)
    return Lanes(f, lanes).ne(Value(ref, "uint8", lanes), 0)


def _to_memory(f: Function, value: Value) -> str:
    if value.is_narrow:
        return to_bits(Lanes(f, value.lanes), value).ref
    if value.dtype != "bool":
        return value.ref
    return f.let(f"zext {value.typed} to {vector_type('i8', value.lanes)}")
