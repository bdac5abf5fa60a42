"""What happens to a sum on its way into C, and what an epilogue is.

Enters: finished sums in registers, with their place in C.  Leaves: stores, and one function per epilogue.
Invariant: an element of C is read and written only where its mask is set.  Start reading at `Output.write`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

from gradc.codegen.builder import Builder
from gradc.codegen.gemm.registers import address, argument, first_lanes, load, plus, storage, store, times
from gradc.codegen.ir import REGISTER, Function, Lanes, Module, Value, const


class Epilogue(Protocol):
    """Elementwise work on C while it is still in the nearest cache, right after a tile of it is finished.

    ``extra_params`` are (scalar IR type with attributes, name without %) of parameters that the product gets behind
    ``%scratch``; ``apply`` may use them as ``%name``.  The names a, b, c, scratch, source, rows, cols, row, col, batch
    and alpha are taken.  ``apply`` gets a builder of ``acc.lanes`` lanes, the finished
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

    def unless_done(self, f: Function, name: str, place: int) -> AbstractContextManager[None]:
        """Guard of a piece that counts from %name on: written twice, sums stay what they are, unless they are added."""
        return f.when(Lanes(f).le(argument(name), place)) if self.add else nullcontext()

    def write(self, f: Function, acc: Value, pointer: str, mask: Value | None = None) -> None:
        """Write finished sums to neighbouring elements of C at ``pointer``."""
        store(f, self.joined(f, acc, pointer, mask), pointer, mask)

    def joined(self, f: Function, acc: Value, pointer: str, mask: Value | None) -> Value:
        """What is to be stored at ``pointer``: the sums, scaled, and added to what is there."""
        b = Lanes(f, acc.lanes)
        alpha = b.splat(argument("alpha", acc.dtype)) if self.scaled else None
        if self.add:
            old = load(f, pointer, self.dtype, acc.lanes, mask)
            return add(b, self.dtype, old, acc) if alpha is None else multiply_add(b, self.dtype, acc, alpha, old)
        if alpha is not None:
            return b.and_(acc, alpha) if self.dtype == "bool" else b.mul(acc, alpha)
        return acc


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


@dataclass(frozen=True)
class Finisher:
    """The function of an epilogue: takes a block of sums from ``source`` to C.

    ``source`` has rows ``source_row`` apart; it is C itself if that is None.  Only where C has unit stride along its
    rows are there several lanes.
    """

    name: str
    epilogue: Epilogue
    output: Output
    lanes: int
    c_strides: tuple[int, int]
    source_row: int | None = None

    @property
    def params(self) -> list[tuple[str, str]]:
        """The block starts at element (row, col) of matrix number ``batch``, and so do both pointers."""
        block = [("i64", name) for name in ("rows", "cols", "row", "col", "batch")]
        return [("ptr", "source"), ("ptr", "c"), *block, *self.output.params, *self.epilogue.extra_params]

    def emit(self, module: Module) -> None:
        f = Function(module, self.name, self.params, result="internal void")
        cols, lanes = argument("cols"), self.lanes
        whole = Lanes(f).and_(cols, -lanes)
        rest = first_lanes(f, Lanes(f).sub(cols, whole), lanes) if lanes > 1 else None
        with f.loop(0, argument("rows")) as down:
            with f.loop(0, whole, lanes) as along:
                self._step(f, down.index, along.index, None)
            if rest is not None:
                with f.when(Lanes(f).lt(whole, cols)):
                    self._step(f, down.index, whole, rest)
        f.finish()

    def _step(self, f: Function, down: Value, along: Value, mask: Value | None) -> None:
        """One register, or one element."""
        dtype, (c_row, c_col) = self.output.dtype, self.c_strides
        row, col = plus(f, argument("row"), down), plus(f, argument("col"), along)
        target = address(f, "%c", plus(f, times(f, down, c_row), times(f, along, c_col)), dtype)
        source = target
        if self.source_row is not None:
            source = address(f, "%source", plus(f, times(f, down, self.source_row), along), dtype)
        acc = self.output.joined(f, load(f, source, dtype, self.lanes, mask), target, mask)
        store(f, self._applied(Builder(f, self.lanes), acc, row, col, mask), target, mask)

    def _applied(self, b: Builder, acc: Value, row: Value, col: Value, mask: Value | None) -> Value:
        if self.output.dtype != "bool":
            return self.epilogue.apply(b, acc, row, col, mask)
        result = self.epilogue.apply(b, b.ne(acc, const(0, "uint8", acc.lanes)), row, col, mask)
        return Value(b.f.let(f"zext {result.typed} to {acc.type}"), acc.dtype, acc.lanes)
