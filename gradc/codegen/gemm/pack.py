"""Copies of a block into a dense one: ``dst[r*dst_row + c] = src[r*row + c*col]`` for r < rows, c < cols.

Enters: a block with any strides.  Leaves: one internal function per dtypes and kind, which all products share; narrow
floats are copied to float32.
Invariant: those elements alone are written — and behind the last column, where rows are copied as vectors, zeros.
Start reading at `emit_pack`.
"""

from __future__ import annotations

from enum import Enum

import numpy as np

from gradc.codegen.gemm.registers import (
    Index,
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
from gradc.codegen.ir import Function, Lanes, Module

#: Columns that are transposed at once: more are no faster, and those of a narrow operand can share the function.
FLIP_COLUMNS = 8

PARAMS = [
    ("ptr noalias readonly", "src"), ("i64", "row"), ("i64", "col"), ("i64", "rows"), ("i64", "cols"),
    ("ptr noalias", "dst"), ("i64", "dst_row"),
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


def emit_pack(module: Module, kind: Pack, source: str, dtype: str, width: int, rows: Index, cols: Index) -> str:
    """Make sure that the module has this copy from ``source`` to ``dtype``; return its name.

    ``width`` lanes fill a register.
    """
    if kind is Pack.FLIP:
        fewest, width = _block(dtype, width), min(width, FLIP_COLUMNS)
        while isinstance(cols, int) and width > max(cols, fewest):
            width //= 2
        if any(isinstance(count, int) and count < fewest for count in (rows, cols)):
            kind = Pack.GATHER
    name = f"gemm.{kind.value}.{_names(source, dtype)}.{width}"
    if name not in module.functions:
        f = Function(module, name, PARAMS, result="internal void")
        {Pack.COPY: _copy, Pack.FLIP: _flip, Pack.GATHER: _gather}[kind](f, source, storage(dtype), width)
        f.finish()
    return name


def _names(source: str, dtype: str) -> str:
    return dtype if source == dtype else f"{source}.{dtype}"


def emit_panel_pack(module: Module, source_dtype: str, dtype: str, width: int, vectors: int) -> str:
    """Make sure that the module has the copy of whole panels of ``vectors`` registers, ``dst_panel`` elements apart."""
    name = f"gemm.panels.{_names(source_dtype, dtype)}.{vectors}x{width}"
    if name not in module.functions:
        f = Function(module, name, PANEL_PARAMS, result="internal void")
        with f.loop(0, argument("panels"), PANELS) as group:
            count = smaller(f, PANELS, Lanes(f).sub(argument("panels"), group.index))
            with f.loop(0, argument("rows")) as down, f.loop(0, count) as one:
                panel = plus(f, group.index, one.index)
                source = plus(f, times(f, down.index, argument("row")), times(f, panel, vectors * width))
                target = plus(f, times(f, panel, argument("dst_panel")), times(f, down.index, vectors * width))
                for v in range(vectors):
                    place = address(f, "%src", plus(f, source, v * width), source_dtype)
                    vector = load(f, place, source_dtype, width)
                    store(f, vector, address(f, "%dst", plus(f, target, v * width), dtype))
        f.finish()
    return name


def _copy(f: Function, given: str, dtype: str, width: int) -> None:
    cols = argument("cols")
    whole = Lanes(f).sub(cols, Lanes(f).irem(cols, width))
    rest = first_lanes(f, Lanes(f).sub(cols, whole), width)
    with f.loop(0, argument("rows")) as down:
        source = address(f, "%src", times(f, down.index, argument("row")), given)
        target = address(f, "%dst", times(f, down.index, argument("dst_row")), dtype)
        with f.loop(0, whole, width) as along:
            vector = load(f, address(f, source, along.index, given), given, width)
            store(f, vector, address(f, target, along.index, dtype))
        with f.when(Lanes(f).lt(whole, cols)):
            vector = load(f, address(f, source, whole, given), given, width, rest)
            store(f, vector, address(f, target, whole, dtype))


def _flip(f: Function, given: str, dtype: str, width: int) -> None:
    """``width`` columns by one 128-bit block of rows at a time, transposed in registers.

    The last of each is moved up, over what is done already: no masks, and columns that are one step apart.
    """
    i, block = Lanes(f), _block(dtype, width)
    few = i.lt(argument("rows"), block)
    with f.when(i.not_(few)), f.loop(0, argument("cols"), width) as along:
        col = smaller(f, along.index, plus(f, argument("cols"), -width))
        first = address(f, "%src", times(f, col, argument("col")), given)
        with f.loop(0, argument("rows"), block) as down:
            row = smaller(f, down.index, plus(f, argument("rows"), -block))
            parts = [load(f, p, given, block) for p in _steps(f, address(f, first, row, given), "col", given, width)]
            lines = transpose(f, [concatenate(f, parts[lane::block]) for lane in range(block)])
            target = address(f, "%dst", plus(f, times(f, row, argument("dst_row")), col), dtype)
            for line, place in zip(lines, _steps(f, target, "dst_row", dtype, block), strict=True):
                store(f, line, place)
    with f.when(few):
        _gather(f, given, dtype, width)


def _steps(f: Function, place: str, stride: str, dtype: str, count: int) -> list[str]:
    """``count`` places a stride apart, each reached from the one before: no register holds the distance of each."""
    places = [place]
    while len(places) < count:
        places.append(address(f, places[-1], argument(stride), dtype))
    return places


def _block(dtype: str, width: int) -> int:
    """Elements of a column that `_flip` reads at once."""
    return min(width, 16 // np.dtype(dtype).itemsize)


def _gather(f: Function, given: str, dtype: str, width: int) -> None:
    """Element by element."""
    with f.loop(0, argument("rows")) as down:
        source = address(f, "%src", times(f, down.index, argument("row")), given)
        target = address(f, "%dst", times(f, down.index, argument("dst_row")), dtype)
        with f.loop(0, argument("cols")) as along:
            element = load(f, address(f, source, times(f, along.index, argument("col")), given), given)
            store(f, element, address(f, target, along.index, dtype))
