"""What a program for one matrix is given: the matrix, where the results go, scratch, and how it fails.

Enters: work, and the number of the matrix in its batch.  Leaves: grids.  Start reading at `Matrices`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from gradc.codegen import memory
from gradc.codegen.factor.number import Index, Number, absolute, fma, larger, select
from gradc.codegen.factor.rows import Bench, Grid
from gradc.codegen.factor.update import LARGE, Update
from gradc.codegen.poll import ACCESS, MACS
from gradc.codegen.target import LINE
from gradc.schedule.factor import Factor, Matrix


def spare(work: Factor, number: int) -> int:
    """Elements of scratch for a result that nobody reads."""
    return work.targets[number].size if work.targets[number].slot < 0 else 0


def grid_elements(work: Factor, rows: int, columns: int) -> int:
    """Elements of scratch for so many rows."""
    return rows * _stride(work, columns)


def _stride(work: Factor, columns: int) -> int:
    """From row to row it is an odd number of cache lines, so that columns do not fall into few sets of a cache."""
    in_line = LINE // np.dtype(work.dtype).itemsize
    return (-(-columns // in_line) | 1) * in_line


def largest(m: Matrices, rows: Index, columns: Callable[[Number], Index]) -> tuple[Number, Number]:
    """The largest size among the first ``columns`` of each row of the operand, and whether all of them are finite."""
    b, (a, *_) = m.bench, m.sources

    def step(i: Number, found: Sequence[Number]) -> Sequence[Number]:
        def inner(j: Number, best: Sequence[Number]) -> list[Number]:
            x = a[i, j]
            return [larger(absolute(x), best[0]), fma(x, 0.0, best[1])]

        return b.fold(0, columns(i), found, inner)

    size, nothing = b.fold(0, rows, [b.number(0.0), b.number(0.0)], step)
    return size, nothing.equals(0.0)


@dataclass(frozen=True)
class Matrices:
    """One matrix of each operand and result, or a vector: element (i, 0) then; a result that nobody reads is None.

    ``pack`` is the scratch of products, ``scratch`` what the program asked for.
    """

    bench: Bench
    update: Update
    work: Factor
    element: Number
    sources: list[Grid]
    targets: list[Grid | None]
    pack: str
    scratch: list[str]

    @classmethod
    def at(cls, bench: Bench, update: Update, work: Factor, element: Number, scratch: Sequence[str]) -> Matrices:
        """Those of matrix number ``element``."""

        def grid(m: Matrix, number: int) -> Grid:
            start = memory.offset_pointer(bench.f, f"%m{number}", (element * m.size).value, m.dtype)
            return Grid(bench, start, m.shape[-1] if len(m.shape) == 2 else 1, 1, m.dtype)

        sources = [grid(m, k) for k, m in enumerate(work.sources)]
        behind = len(sources)
        targets = [grid(m, behind + k) if m.slot >= 0 else None for k, m in enumerate(work.targets)]
        return cls(bench, update, work, element, sources, targets, scratch[0], list(scratch[1:]))

    def attr(self, name: str) -> object:
        return dict(self.work.attrs)[name]

    def grid(self, number: int, columns: int) -> Grid:
        """A piece of scratch of `grid_elements` as rows of so many columns."""
        return Grid(self.bench, self.scratch[number], _stride(self.work, columns))

    def blocks(self, count: int, step: int, operations: float) -> Iterator[tuple[Number, Number]]:
        """Blocks of rows or columns, each as (first, behind the last), with looks between long ones."""
        for first in self.bench.watched(count, step, operations):
            behind = first + step
            yield first, select(behind < count, behind, count)

    def rows(self, count: Index, columns: Index, step: int = 1) -> Iterator[Number]:
        """Rows, each so long, that are only moved; memory that is touched for the first time is slow."""
        if isinstance(count, int) and isinstance(columns, int):
            return self.bench.watched(count, step, ACCESS * step * columns)
        return self.bench.range(0, count, step)

    def copy(self, source: Grid, target: Grid, rows: Index, columns: Index) -> None:
        """target[:rows, :columns] = source[:rows, :columns]."""
        for i in self.rows(rows, columns):
            read, written = source.row(i), target.row(i)
            for chunk in self.bench.across(0, columns):
                written[chunk] = read[chunk]

    def fill(self, target: Grid, rows: Index, columns: Index, x: float) -> None:
        for i in self.rows(rows, columns):
            row = target.row(i)
            for chunk in self.bench.across(0, columns):
                row[chunk] = x

    def solve(
        self, t: Grid, x: Grid, n: Index, columns: Index, lower: bool, transposed: bool = False, unit: bool = False
    ) -> None:
        """x[:n, :columns] becomes T⁻¹x for a triangle of ``t``, or T⁻ᵀx.

        A size that is not known now is that of a block.
        """
        left, b = t.turned if transposed else t, self.bench
        if lower == transposed:  # an upper triangle
            left = left.backwards(n, n)
            x = Grid(b, x.at(b.index(n) - 1), -b.index(x.down))
        if isinstance(n, Number) or isinstance(columns, Number):
            self.update.solve(left, x, n, columns, self.pack, unit)
            return
        for first, stop in self.blocks(n, LARGE, n * columns * LARGE / MACS):
            block, rest = x.from_(first, 0), x.from_(stop, 0)
            self.update.solve(left.from_(first, first), block, stop - first, columns, self.pack, unit)
            with b.when(stop < n):
                self.update.subtract(rest, left.from_(stop, first), block, n - stop, columns, stop - first, self.pack)

    def fails_where(self, bad: Number, kind: int) -> None:
        """Of this matrix all results are NaN if ``bad`` holds; and where failures are told, that is told."""
        b = self.bench
        with b.when(bad):
            for m, target in zip(self.work.targets, self.targets, strict=True):
                if target is not None and m.dtype == self.work.dtype and m.size:
                    self.fill(target, m.size // m.shape[-1], m.shape[-1], math.nan)
        if self.work.node >= 0:
            b.report(bad, kind, self.work.node, self.element)
