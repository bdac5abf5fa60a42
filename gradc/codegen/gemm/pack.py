"""Copies of a block into a dense one: ``dst[r*dst_row + c] = src[r*row + c*col]`` for r < rows, c < cols.

Enters: a block with any strides.  Leaves: one internal function per dtype and kind, which all products share.
Invariant: only columns c < ``room`` of those rows are written (a copy of vectors: whole vectors); those from ``cols``
on get zeros or a repeated element, so packed panels hold no left-over memory.  Start reading at `emit_pack`.
"""

from __future__ import annotations

from enum import Enum

import numpy as np

from gradc.codegen.gemm.registers import (
    address,
    argument,
    concatenate,
    first_lanes,
    load,
    plus,
    smaller,
    storage,
    store,
    times,
    transpose,
)
from gradc.codegen.ir import Function, Lanes, Module, Value

#: Wider registers transpose no faster, and their shuffles take longer to compile.
FLIP_BYTES = 32

PARAMS = [
    ("ptr noalias readonly", "src"), ("i64", "row"), ("i64", "col"), ("i64", "rows"), ("i64", "cols"),
    ("ptr noalias", "dst"), ("i64", "dst_row"), ("i64", "room"),
]  # fmt: skip


#: Neighbouring panels that are copied together: a row of theirs is long enough for the hardware to fetch it ahead.
PANELS = 4

PANEL_PARAMS = [
    ("ptr noalias readonly", "src"), ("i64", "row"), ("i64", "rows"), ("i64", "panels"),
    ("ptr noalias", "dst"), ("i64", "dst_panel"),
]  # fmt: skip


class Pack(Enum):
    """What the strides of the source allow."""

    COPY = "copy"  # col == 1: rows of vectors
    FLIP = "flip"  # row == 1: squares transposed in registers
    GATHER = "gather"  # neither: element by element


def pack_kind(row: int, col: int) -> Pack:
    """The fastest copy for a source with these strides."""
    return Pack.COPY if col == 1 else Pack.FLIP if row == 1 else Pack.GATHER


def emit_pack(module: Module, kind: Pack, dtype: str, width: int) -> str:
    """Make sure that the module has this copy; return its name. ``width`` lanes fill a register."""
    if kind is Pack.FLIP:
        width = min(width, FLIP_BYTES // np.dtype(dtype).itemsize)
    name = f"gemm.{kind.value}.{dtype}.{width}"
    if name not in module.functions:
        f = Function(module, name, PARAMS, result="internal void")
        {Pack.COPY: _copy, Pack.FLIP: _flip, Pack.GATHER: _gather}[kind](f, storage(dtype), width)
        f.finish()
    return name


def emit_panel_pack(module: Module, dtype: str, width: int, vectors: int) -> str:
    """Make sure that the module has the copy of whole panels of ``vectors`` registers, ``dst_panel`` elements apart."""
    name = f"gemm.panels.{dtype}.{vectors}x{width}"
    if name not in module.functions:
        f = Function(module, name, PANEL_PARAMS, result="internal void")
        with f.loop(0, argument("panels"), PANELS) as group:
            count = smaller(f, PANELS, Lanes(f).sub(argument("panels"), group.index))
            with f.loop(0, argument("rows")) as down, f.loop(0, count) as one:
                panel = plus(f, group.index, one.index)
                source = plus(f, times(f, down.index, argument("row")), times(f, panel, vectors * width))
                target = plus(f, times(f, panel, argument("dst_panel")), times(f, down.index, vectors * width))
                for v in range(vectors):
                    vector = load(f, address(f, "%src", plus(f, source, v * width), dtype), dtype, width)
                    store(f, vector, address(f, "%dst", plus(f, target, v * width), dtype))
        f.finish()
    return name


def _copy(f: Function, dtype: str, width: int) -> None:
    cols = argument("cols")
    whole = Lanes(f).sub(cols, Lanes(f).irem(cols, width))
    rest = first_lanes(f, Lanes(f).sub(cols, whole), width)
    with f.loop(0, argument("rows")) as down:
        source = address(f, "%src", times(f, down.index, argument("row")), dtype)
        target = address(f, "%dst", times(f, down.index, argument("dst_row")), dtype)
        with f.loop(0, whole, width) as along:
            vector = load(f, address(f, source, along.index, dtype), dtype, width)
            store(f, vector, address(f, target, along.index, dtype))
        with f.when(Lanes(f).lt(whole, cols)):
            vector = load(f, address(f, source, whole, dtype), dtype, width, rest)
            store(f, vector, address(f, target, whole, dtype))


def _flip(f: Function, dtype: str, width: int) -> None:
    """``width`` columns by one 128-bit block of rows at a time, transposed in registers."""
    i = Lanes(f)
    block = min(width, 16 // np.dtype(dtype).itemsize)
    last = plus(f, argument("cols"), -1)
    with f.loop(0, argument("room"), width) as along:
        starts = [times(f, smaller(f, plus(f, along.index, lane), last), argument("col")) for lane in range(width)]
        room = i.sub(argument("room"), along.index)
        whole, mask = i.ge(room, width), first_lanes(f, room, width)
        with f.loop(0, argument("rows"), block) as down:
            rest = i.sub(argument("rows"), down.index)
            live = first_lanes(f, rest, block)
            places = [address(f, "%src", plus(f, start, down.index), dtype) for start in starts]
            parts = [load(f, place, dtype, block, live) for place in places]
            lines = transpose(f, [concatenate(f, parts[lane::block]) for lane in range(block)])
            target = plus(f, times(f, down.index, argument("dst_row")), along.index)
            for r, line in enumerate(lines):
                pointer = address(f, "%dst", plus(f, target, times(f, r, argument("dst_row"))), dtype)
                with f.when(i.gt(rest, r)):
                    _store_part(f, line, pointer, whole, mask)


def _store_part(f: Function, line: Value, pointer: str, whole: Value, mask: Value) -> None:
    """Store the lanes in ``mask``; without it where they are all."""
    with f.when(whole):
        store(f, line, pointer)
    with f.when(Lanes(f).not_(whole)):
        store(f, line, pointer, mask)


def _gather(f: Function, dtype: str, width: int) -> None:
    """Element by element."""
    last = plus(f, argument("cols"), -1)
    with f.loop(0, argument("rows")) as down:
        source = address(f, "%src", times(f, down.index, argument("row")), dtype)
        target = address(f, "%dst", times(f, down.index, argument("dst_row")), dtype)
        with f.loop(0, argument("room")) as along:
            at = times(f, smaller(f, along.index, last), argument("col"))
            store(f, load(f, address(f, source, at, dtype), dtype), address(f, target, along.index, dtype))
