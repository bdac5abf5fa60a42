"""Copies of a block into scratch: rows of ``cols`` neighbours, ``dst_row`` elements apart.

Enters: a block with any strides.  Leaves: one internal function per dtype and kind, shared by all products of a module:
``dst[r*dst_row + c] = src[r*row + c*col]`` for r < rows, c < cols.
Invariant: ``dst_row`` and the room for rows are multiples of the vector width, so whole vectors may be written; what is
written outside the block is zero or a repeated element of it, never left-over memory.  Start reading at `emit_pack`.
"""

from __future__ import annotations

from enum import Enum

from gradc.codegen.gemm.registers import (
    address,
    argument,
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

PARAMS = [
    ("ptr noalias readonly", "src"), ("i64", "row"), ("i64", "col"), ("i64", "rows"), ("i64", "cols"),
    ("ptr noalias", "dst"), ("i64", "dst_row"),
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
    """Make sure that the module has this copy; return its name."""
    name = f"gemm.{kind.value}.{dtype}.{width}"
    if name not in module.functions:
        f = Function(module, name, PARAMS, result="internal void")
        {Pack.COPY: _copy, Pack.FLIP: _flip, Pack.GATHER: _gather}[kind](f, storage(dtype), width)
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
    """Squares of width x width; columns behind the last repeat it, rows behind the last are zero."""
    i = Lanes(f)
    last = plus(f, argument("cols"), -1)
    with f.loop(0, argument("cols"), width) as along:
        clamped = [smaller(f, plus(f, along.index, lane), last) for lane in range(width)]
        starts = [times(f, c, argument("col")) for c in clamped]
        with f.loop(0, argument("rows"), width) as down:
            live = first_lanes(f, i.sub(argument("rows"), down.index), width)
            square = [
                load(f, address(f, "%src", plus(f, start, down.index), dtype), dtype, width, live) for start in starts
            ]
            for lane, vector in enumerate(transpose(f, square)):
                at = plus(f, times(f, plus(f, down.index, lane), argument("dst_row")), along.index)
                store(f, vector, address(f, "%dst", at, dtype))


def _gather(f: Function, dtype: str, width: int) -> None:
    """Element by element, up to a whole number of vectors: columns behind the last repeat it."""
    last = plus(f, argument("cols"), -1)
    padded = _round_up(f, argument("cols"), width)
    with f.loop(0, argument("rows")) as down:
        source = address(f, "%src", times(f, down.index, argument("row")), dtype)
        target = address(f, "%dst", times(f, down.index, argument("dst_row")), dtype)
        with f.loop(0, padded) as along:
            at = times(f, smaller(f, along.index, last), argument("col"))
            store(f, load(f, address(f, source, at, dtype), dtype), address(f, target, along.index, dtype))


def _round_up(f: Function, x: Value, width: int) -> Value:
    i = Lanes(f)
    return i.mul(i.idiv(plus(f, x, width - 1), width), width)
