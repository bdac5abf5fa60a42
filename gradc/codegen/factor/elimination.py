"""Gaussian elimination with partial pivoting: LU, and what is solved with it.

Enters: a matrix, m × n; for `solve_aside` right-hand sides too.  Leaves: L and U in one matrix and the rows of A in the
order in which they were eliminated, A[rows] = L U; or A⁻¹B.
Invariant: the pivot is the first element of the largest size of what is left of its column, and a column that is 0 is
left as it is.  Alone, columns are eliminated a vector of them at a time, and blocks of those are taken out of what lies
right of them (Golub, Van Loan 2013, Matrix Computations, 3.4.8).  Start reading at `aside`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from gradc.codegen.factor.matrices import Matrices, grid_elements, spare
from gradc.codegen.factor.number import Number, absolute, fma, select, smaller
from gradc.codegen.factor.rows import Chunk, Grid
from gradc.codegen.factor.side import AnyTile, Side, Tile
from gradc.codegen.factor.triangular import solve_tile
from gradc.codegen.factor.update import LARGE
from gradc.codegen.ir import vector_const
from gradc.codegen.status import SINGULAR
from gradc.schedule.factor import Factor

# -- side by side ------------------------------------------------------------------------------------------------------


def tiles(work: Factor) -> Sequence[int]:
    return work.sources[0].size, work.sources[0].shape[0]


def aside(s: Side) -> None:
    a = s.source(0)
    rows = s.tile(1, a.rows)
    for i in s.range(0, a.rows):
        rows[0, i] = s.counted(i)
    eliminate(s, a, rows.turned)
    s.write(0, a)
    s.write(1, rows)


def solve_aside(s: Side) -> None:
    """B goes through the elimination with A: what is left is solved with the upper triangle."""
    transposed = dict(s.work.attrs)["transposed"]
    a, x = s.source(0), s.source(1)
    eliminate(s, a.turned if transposed else a, x)
    _finish_aside(s, a.turned if transposed else a, x)


def inverse_tiles(work: Factor) -> Sequence[int]:
    return work.sources[0].size, work.sources[0].size


def inverse_aside(s: Side) -> None:
    a = s.source(0)
    x = s.tile(a.rows, a.rows)
    for i in s.range(0, a.rows):
        for j in s.range(0, a.rows):
            x[i, j] = 0.0
        x[i, i] = 1.0
    eliminate(s, a, x)
    _finish_aside(s, a, x)


def _finish_aside(s: Side, a: AnyTile, x: Tile) -> None:
    solve_tile(s, a, x, lower=True, unit=True)
    solve_tile(s, a, x, lower=False)
    (least,) = s.fold(0, a.rows, [s.number(math.inf)], lambda k, found: [smaller(absolute(a[k, k]), found[0])])
    s.write(0, x, s.fails_where(least.equals(0.0), SINGULAR))


def eliminate(s: Side, a: AnyTile, moved: AnyTile) -> None:
    """a becomes L and U; the rows of ``moved`` change places with those of a."""
    for k in s.range(0, min(a.rows, a.columns)):

        def better(i: int | Number, best: Sequence[Number], k: int | Number = k) -> list[Number]:
            size = absolute(a[i, k])
            wins = size > best[0]
            return [select(wins, size, best[0]), select(wins, s.counted(i), best[1])]

        _, place = s.fold(k + 1, a.rows, [absolute(a[k, k]), s.counted(k)], better)
        s.exchange(a, k, place)
        s.exchange(moved, k, place)
        pivot = a[k, k]
        divisor = select(pivot.equals(0.0), 1.0, pivot)
        for i in s.range(k + 1, a.rows):
            multiplier = a[i, k] / divisor
            a[i, k] = multiplier
            for j in s.range(k + 1, a.columns):
                a[i, j] = fma(-multiplier, a[k, j], a[i, j])


# -- alone -------------------------------------------------------------------------------------------------------------


def scratch(work: Factor) -> Sequence[int]:
    unread = work.targets[0].slot < 0
    places = 2 * spare(work, 1)  # whole numbers are of eight bytes
    return grid_elements(work, *work.sources[0].shape) if unread else 0, places


def alone(m: Matrices) -> None:
    (a,), (rows_of_a, columns) = m.sources, m.work.sources[0].shape
    packed = m.targets[0] or m.grid(0, columns)
    rows = m.targets[1] or Grid(m.bench, m.scratch[1], 1, 1, "int64")
    m.copy(a, packed, rows_of_a, columns)
    factorise(m, packed, rows, rows_of_a, columns)


def solve_scratch(work: Factor) -> Sequence[int]:
    n, columns = work.sources[1].shape
    return grid_elements(work, n, n), 2 * n, grid_elements(work, n, columns)


def solve_alone(m: Matrices) -> None:
    """P A = L U: x = U⁻¹L⁻¹Pb; and transposed x = PᵀL⁻ᵀU⁻ᵀb."""
    (a, right), (x,) = m.sources, m.targets
    n, columns = m.work.sources[1].shape
    b, transposed = m.bench, bool(m.attr("transposed"))
    assert x is not None
    packed, rows = m.grid(0, n), Grid(b, m.scratch[1], 1, 1, "int64")
    m.copy(a, packed, n, n)
    factorise(m, packed, rows, n, n)
    with b.unless_stopped():
        if transposed:
            y = m.grid(2, columns)
            m.copy(right, y, n, columns)
            m.solve(packed, y, n, columns, lower=False, transposed=True)
            m.solve(packed, y, n, columns, lower=True, transposed=True, unit=True)
            for i in b.range(0, n):
                _copy_row(m, y, i, x, rows[i, 0], columns)
        else:
            for i in b.range(0, n):
                _copy_row(m, right, rows[i, 0], x, i, columns)
            m.solve(packed, x, n, columns, lower=True, unit=True)
            m.solve(packed, x, n, columns, lower=False)
        _fail_if_singular(m, packed, n)


def inverse_scratch(work: Factor) -> Sequence[int]:
    n = work.sources[0].shape[0]
    return grid_elements(work, n, n), 2 * n


def inverse_alone(m: Matrices) -> None:
    (a,), (x,) = m.sources, m.targets
    n, b = m.work.sources[0].shape[0], m.bench
    assert x is not None
    packed, rows = m.grid(0, n), Grid(b, m.scratch[1], 1, 1, "int64")
    m.copy(a, packed, n, n)
    factorise(m, packed, rows, n, n)
    with b.unless_stopped():
        m.fill(x, n, n, 0.0)
        for i in b.range(0, n):
            x[i, rows[i, 0]] = 1.0
        m.solve(packed, x, n, n, lower=True, unit=True)
        m.solve(packed, x, n, n, lower=False)
        _fail_if_singular(m, packed, n)


def _copy_row(m: Matrices, source: Grid, i: Number, target: Grid, to: Number, columns: int) -> None:
    read, written = source.row(i), target.row(to)
    for chunk in m.bench.across(0, columns):
        written[chunk] = read[chunk]


def _fail_if_singular(m: Matrices, packed: Grid, n: int) -> None:
    bad = m.bench.cell(False, "bool")
    for k in m.bench.range(0, n):
        bad.set(bad.get() | packed[k, k].equals(0.0))
    m.fails_where(bad.get(), SINGULAR)


def factorise(m: Matrices, a: Grid, rows: Grid, height: int, width: int) -> None:
    """a becomes L and U, and ``rows`` the order of its rows."""
    b = m.bench
    for i in b.range(0, height):
        rows[i, 0] = i
    for first, stop in m.blocks(min(height, width), LARGE, height * width * LARGE / 32):
        for small in b.range(first, stop, b.lanes):
            end = smaller(small + b.lanes, stop)
            _panel(m, a, rows, small, end, height, width)
            with b.when(end < stop):
                _taken_out(m, a, small, end, height, stop - end)
        with b.when(stop < width):
            _taken_out(m, a, first, stop, height, width - stop)


def _taken_out(m: Matrices, a: Grid, first: Number, stop: Number, height: int, columns: Number) -> None:
    """The columns [first, stop), eliminated, taken out of so many right of them."""
    right = a.from_(first, stop)
    m.update.solve(a.from_(first, first), right, stop - first, columns, m.pack, unit=True)
    below, rest = a.from_(stop, first), a.from_(stop, stop)
    m.update.subtract(rest, below, right, height - stop, columns, stop - first, m.pack)


def _panel(m: Matrices, a: Grid, rows: Grid, first: Number, stop: Number, height: int, width: int) -> None:
    """A few columns, each row of them one vector; rows change places as wide as the matrix is."""
    b = m.bench
    chunk = b.rest(first, stop)
    for q in range(b.lanes):
        k = first + q
        with b.when(k < stop):
            _pivot(m, a, rows, k, height, width)
            row = a.row(k)[chunk]
            behind = Number(b.f, vector_const([lane > q for lane in range(b.lanes)], "bool"))
            here = Number(b.f, vector_const([lane == q for lane in range(b.lanes)], "bool"))
            pivot, row = b.lane(row, q), select(behind, row, 0.0)
            divisor = select(pivot.equals(0.0), 1.0, pivot)
            for i in b.range(k + 1, height):
                _eliminate_row(m, a, i, chunk, row, divisor, q, here)


def _eliminate_row(
    m: Matrices, a: Grid, i: Number, chunk: Chunk, pivots: Number, divisor: Number, q: int, here: Number
) -> None:  # fmt: skip
    row = a.row(i)
    old = row[chunk]
    multiplier = m.bench.wide(m.bench.lane(old, q) / divisor)
    row[chunk] = select(here, multiplier, fma(-multiplier, pivots, old))


def _pivot(m: Matrices, a: Grid, rows: Grid, k: Number, height: int, width: int) -> None:
    """The first row of the largest element of what is left of column k changes places with row k."""
    b = m.bench

    def better(i: Number, best: Sequence[Number]) -> list[Number]:
        size = absolute(a[i, k])
        wins = size > best[0]
        return [select(wins, size, best[0]), select(wins, i, best[1])]

    _, place = b.fold(k + 1, height, [absolute(a[k, k]), k], better)
    with b.when(place.differs(k)):
        upper, lower = a.row(k), a.row(place)
        for chunk in b.across(0, width):
            x, y = upper[chunk], lower[chunk]
            upper[chunk], lower[chunk] = y, x
        first, second = rows[k, 0], rows[place, 0]
        rows[k, 0], rows[place, 0] = second, first
