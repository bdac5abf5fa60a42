"""What happens to a sum on its way into C, and what an epilogue is.

Enters: finished sums in registers, with their place in C.  Leaves: stores, and one function per epilogue.
Invariant: an element of C is read and written only where its mask is set.  Start reading at `Output.write`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from gradc.codegen.builder import Builder
from gradc.codegen.gemm.registers import address, argument, first_lanes, load, plus, storage, store, times
from gradc.codegen.ir import REGISTER, Function, Lanes, Module, Value, const


class Epilogue(Protocol):
    """Elementwise work on C while it is still in the nearest cache, right after a tile of it is finished.

    ``extra_params`` are (IR type with attributes, name without %) of parameters that the product gets behind
    ``%scratch``; ``apply`` may use them as ``%name``.  ``apply`` gets a builder of ``acc.lanes`` lanes, the finished
    elements C[row, col : col + lanes] of the matrix numbered ``%batch`` (int64, in C order over `Gemm.batch`), and
    the bool mask of live lanes, or None when all are live; what it returns is stored.  ``row`` and ``col`` are int64.
    It sees every element once and must not touch memory for dead lanes.
    """

    @property
    def extra_params(self) -> Sequence[tuple[str, str]]: ...

    def apply(self, b: Builder, acc: Value, row: Value, col: Value, mask: Value | None) -> Value: ...


@dataclass(frozen=True)
class Output:
    """How sums enter C: ``add`` to what is there, ``scaled`` by the parameter %alpha."""

    dtype: str
    add: bool = False
    scaled: bool = False

    @property
    def tag(self) -> str:
        """The part of a function's name that tells this output from another."""
        return "scaled" * self.scaled + "add" * self.add

    @property
    def params(self) -> list[tuple[str, str]]:
        """Parameters that a function needs to write such an output."""
        return [(REGISTER[storage(self.dtype)], "alpha")] if self.scaled else []

    def write(self, f: Function, acc: Value, pointer: str, mask: Value | None = None) -> None:
        """Write finished sums to neighbouring elements of C at ``pointer``."""
        b = Lanes(f, acc.lanes)
        alpha = b.splat(argument("alpha", acc.dtype)) if self.scaled else None
        if self.add:
            old = load(f, pointer, self.dtype, acc.lanes, mask)
            acc = add(b, self.dtype, old, acc) if alpha is None else multiply_add(b, self.dtype, acc, alpha, old)
        elif alpha is not None:
            acc = b.and_(acc, alpha) if self.dtype == "bool" else b.mul(acc, alpha)
        store(f, acc, pointer, mask)


def add(b: Lanes, dtype: str, x: Value, y: Value) -> Value:
    """x + y in the arithmetic of ``dtype``; a bool byte adds by or."""
    return b.or_(x, y) if dtype == "bool" else b.add(x, y)


def multiply_add(b: Lanes, dtype: str, x: Value, y: Value, total: Value) -> Value:
    """total + x*y in the arithmetic of ``dtype``: one FMA, wrapping integers, or and-then-or of bool bytes."""
    if dtype == "bool":
        return b.or_(total, b.and_(x, y))
    if total.is_float:
        return b.fma(x, y, total)
    return b.add(total, b.mul(x, y))


BLOCK_PARAMS = [("ptr", "c"), ("i64", "rows"), ("i64", "cols"), ("i64", "row"), ("i64", "col"), ("i64", "batch")]


def emit_epilogue(
    module: Module, name: str, epilogue: Epilogue, dtype: str, strides: tuple[int, int], width: int
) -> None:
    """Add ``@name``: apply the epilogue to a ``rows`` x ``cols`` block of C whose first element is (row, col)."""
    f = Function(module, name, [*BLOCK_PARAMS, *epilogue.extra_params], result="internal void")
    lanes = width if strides[1] == 1 else 1
    rows, cols = argument("rows"), argument("cols")
    whole = Lanes(f).sub(cols, Lanes(f).irem(cols, lanes))
    with f.loop(0, rows) as down:
        line = address(f, "%c", times(f, down.index, strides[0]), dtype)
        row = plus(f, argument("row"), down.index)
        with f.loop(0, whole, lanes) as along:
            _apply(f, epilogue, dtype, address(f, line, times(f, along.index, strides[1]), dtype),
                   row, along.index, lanes, None)  # fmt: skip
        if lanes > 1:
            with f.when(Lanes(f).lt(whole, cols)):
                rest = first_lanes(f, Lanes(f).sub(cols, whole), lanes)
                _apply(f, epilogue, dtype, address(f, line, whole, dtype), row, whole, lanes, rest)
    f.finish()


def _apply(
    f: Function, epilogue: Epilogue, dtype: str, pointer: str, row: Value, along: Value, lanes: int, mask: Value | None
) -> None:
    b = Builder(f, lanes)
    acc = load(f, pointer, dtype, lanes, mask)
    col = plus(f, argument("col"), along)
    if dtype == "bool":
        result = epilogue.apply(b, b.ne(acc, const(0, "uint8", lanes)), row, col, mask)
        acc = Value(f.let(f"zext {result.typed} to {acc.type}"), acc.dtype, lanes)
    else:
        acc = epilogue.apply(b, acc, row, col, mask)
    store(f, acc, pointer, mask)
