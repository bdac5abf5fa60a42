"""Cholesky's factor.

Enters: a symmetric matrix, of which the lower triangle is read.  Leaves: L with LLᵀ = A.
Each alone, it is the upper factor, U = Lᵀ, that is made where L will be: then all that is solved and subtracted lies
along rows (Golub, Van Loan 2013, Matrix Computations, algorithm 4.2.2, by blocks).  Start reading at `aside`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from gradc.codegen.factor.matrices import Matrices
from gradc.codegen.factor.number import Number, fma, select, smaller, sqrt
from gradc.codegen.factor.rows import Cell, Grid
from gradc.codegen.factor.side import Side
from gradc.codegen.factor.update import LARGE, SMALL, turned, write_square
from gradc.codegen.ir import Lanes
from gradc.codegen.status import NOT_POSITIVE
from gradc.schedule.factor import Factor


def tiles(work: Factor) -> Sequence[int]:
    return (work.sources[0].size,)


def aside(s: Side) -> None:
    """Column after column, each taken out of those behind it."""
    a, n = s.source(0), s.work.sources[0].shape[0]
    for k in s.range(0, n):
        root = sqrt(a[k, k])
        a[k, k] = root
        for i in s.range(k + 1, n):
            a[i, k] = a[i, k] / root
        for i in s.range(k + 1, n):
            factor = -a[i, k]
            for j in s.range(k + 1, i + 1):
                a[i, j] = fma(factor, a[j, k], a[i, j])
    for i in s.range(0, n):
        for j in s.range(i + 1, n):
            a[i, j] = 0.0
    (least,) = s.fold(0, n, [s.number(math.inf)], lambda k, found: [smaller(found[0], a[k, k])])
    s.write(0, a, s.fails_where(~(least > 0.0), NOT_POSITIVE))


def scratch(work: Factor) -> Sequence[int]:
    return ()


def alone(m: Matrices) -> None:
    """Blocks of rows of U: each factorised, solved with, and taken out of what is below."""
    (a,), (u,) = m.sources, m.targets
    n, b = m.work.sources[0].shape[0], m.bench
    assert u is not None
    _turned_over(m, a, u, n)
    bad = b.cell(False, "bool")
    for first, stop in m.blocks(n, LARGE, n * n * LARGE / 32):
        _diagonal_block(m, u, first, stop, bad)
        with b.when(stop < n):
            left, right = u.from_(first, first).turned, u.from_(first, stop)
            m.update.solve(left, right, stop - first, n - stop, m.pack)
            below = u.from_(stop, stop)
            m.update.subtract(below, right.turned, right, n - stop, n - stop, stop - first, m.pack, half=True)
    with b.unless_stopped():
        _turned_back(m, u, n)
        m.fails_where(bad.get(), NOT_POSITIVE)


def _diagonal_block(m: Matrices, u: Grid, first: Number, stop: Number, bad: Cell) -> None:
    """The block [first, stop) of rows and columns, a few rows at a time."""
    b = m.bench
    for small in b.range(first, stop, SMALL):
        end = smaller(small + SMALL, stop)
        for k in b.range(small, end):
            row = u.row(k)
            pivot = row[k]
            bad.set(bad.get() | ~(pivot > 0))
            root = b.wide(sqrt(pivot))
            for chunk in b.across(k, stop):
                row[chunk] = row[chunk] / root
            for i in b.range(k + 1, end):
                factor, below = b.wide(row[i]), u.row(i)
                for chunk in b.across(i, stop):
                    below[chunk] = below[chunk] - factor * row[chunk]
        with b.when(end < stop):
            right, below_block = u.from_(small, end), u.from_(end, end)
            m.update.subtract(below_block, right.turned, right, stop - end, stop - end, end - small, m.pack, half=True)


def _turned_over(m: Matrices, a: Grid, u: Grid, n: int) -> None:
    """Write the transposed lower triangle of a."""
    b = m.bench
    for i in m.rows(n, n, b.lanes):
        for j in b.range(0, i + 1, b.lanes):
            write_square(b, u, j, i, n, n, turned(b, a, i, j, n, n))


def _turned_back(m: Matrices, u: Grid, n: int) -> None:
    """Transpose in place the upper triangle, and leave zeros where it was."""
    b = m.bench
    zeros = [b.wide(0.0).value] * b.lanes
    for i in m.rows(n, n, b.lanes):
        square = [Number(b.f, x) for x in turned(b, u, i, i, n, n)]
        lanes = Number(b.f, Lanes(b.f, b.lanes).lane_index())
        lower = [select(lanes <= r, row, 0.0) for r, row in enumerate(square)]
        write_square(b, u, i, i, n, n, [x.value for x in lower])
        for j in b.range(i + b.lanes, n, b.lanes):
            write_square(b, u, j, i, n, n, turned(b, u, i, j, n, n))
            write_square(b, u, i, j, n, n, zeros)
