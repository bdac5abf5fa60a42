"""Q R by Householder's reflections, H = I − τ v vᵀ.

Enters: a matrix, m × n; attribute ``complete``.  Leaves: Q with orthonormal columns, and R, upper triangular.
Invariant: signs are LAPACK's (dlarfg): a column that is 0 below the diagonal is not reflected.  Alone, reflections are
made a vector of columns at a time and applied in blocks: of V, whose columns are their vectors, and the triangle S with
S + Sᵀ = VᵀV, the product of the reflections is I − V S⁻¹ Vᵀ (Puglisi 1992; Joffrain and others 2006, ACM TOMS 32,
p. 169).  Start reading at `aside`.
"""

from __future__ import annotations

from collections.abc import Sequence

from gradc.codegen.factor.matrices import Matrices, grid_elements
from gradc.codegen.factor.number import (
    Index,
    Number,
    absolute,
    fma,
    larger,
    power_of_two,
    select,
    smaller,
    sqrt,
    with_sign,
)
from gradc.codegen.factor.rows import Grid, Row
from gradc.codegen.factor.side import AnyTile, Side, Tile
from gradc.codegen.factor.update import LARGE
from gradc.codegen.ir import Lanes
from gradc.schedule.factor import Factor

# -- one reflection ----------------------------------------------------------------------------------------------------


def reflection(head: Number, rest: Number) -> tuple[Number, Number, Number]:
    """τ, what ``head`` becomes, and the divisor that makes v of what is below it, whose squares sum up to ``rest``.

    Both are scaled so that their squares neither overflow nor vanish.
    """
    beta = -with_sign(sqrt(fma(head, head, rest)), head)
    clear = rest.equals(0.0)
    tau = select(clear, 0.0, (beta - head) / select(clear, 1.0, beta))
    return tau, select(clear, head, beta), select(clear, 1.0, head - beta)


# -- side by side ------------------------------------------------------------------------------------------------------


def tiles(work: Factor) -> Sequence[int]:
    (m, n), (_, width) = work.sources[0].shape, work.targets[0].shape
    return m * n, min(m, n), max(n, width), m * width, width * n


def aside(s: Side) -> None:
    (m, n), (_, width) = s.work.sources[0].shape, s.work.targets[0].shape
    a, tau, sums = s.source(0), s.tile(1, min(m, n)), s.tile(1, max(n, width))
    reflect(s, a, tau, sums)
    q, r = s.tile(m, width), s.tile(width, n)
    orthogonal(s, a, tau, sums, q)
    for i in s.range(0, width):
        for j in s.range(0, n):
            r[i, j] = 0.0
    for i in s.range(0, min(m, n)):
        for j in s.range(i, n):
            r[i, j] = a[i, j]
    s.write(0, q)
    s.write(1, r)


def reflect(s: Side, a: AnyTile, tau: Tile, sums: Tile) -> None:
    """a becomes R, and below the diagonal the vectors of the reflections that made it, whose heads are 1."""
    for k in s.range(0, min(a.rows, a.columns)):

        def largest(i: Index, found: Sequence[Number], k: Index = k) -> list[Number]:
            return [larger(absolute(a[i, k]), found[0])]

        (size,) = s.fold(k, a.rows, [s.number(0.0)], largest)
        scale = power_of_two(size)

        def squares(i: Index, found: Sequence[Number], k: Index = k, scale: Number = scale) -> list[Number]:
            x = a[i, k] * scale
            return [fma(x, x, found[0])]

        (rest,) = s.fold(k + 1, a.rows, [s.number(0.0)], squares)
        tau_k, head, divisor = reflection(a[k, k] * scale, rest)
        tau[0, k], a[k, k] = tau_k, head / scale
        for i in s.range(k + 1, a.rows):
            a[i, k] = a[i, k] * scale / divisor
        _apply(s, a, k, tau_k, a, k + 1, a.columns, sums)


def _apply(
    s: Side, v: AnyTile, k: Index, tau: Number, to: AnyTile, first: Index, stop: Index, sums: Tile
) -> None:  # fmt: skip
    """Reflection k, with its vector in column k of ``v``, of the columns from ``first`` to ``stop`` of ``to``."""
    for j in s.range(first, stop):
        sums[0, j] = to[k, j]
    for i in s.range(k + 1, v.rows):
        x = v[i, k]
        for j in s.range(first, stop):
            sums[0, j] = fma(x, to[i, j], sums[0, j])
    for j in s.range(first, stop):
        sums[0, j] = tau * sums[0, j]
        to[k, j] = to[k, j] - sums[0, j]
    for i in s.range(k + 1, v.rows):
        x = -v[i, k]
        for j in s.range(first, stop):
            to[i, j] = fma(x, sums[0, j], to[i, j])


def orthogonal(s: Side, v: AnyTile, tau: Tile, sums: Tile, q: Tile) -> None:
    """The first columns of the product of the reflections: they reflect the identity, the last first."""
    for i in s.range(0, q.rows):
        for j in s.range(0, q.columns):
            q[i, j] = 0.0
    for i in s.range(0, q.columns):
        q[i, i] = 1.0
    for k in s.down(min(v.rows, v.columns), 0):
        _apply(s, v, k, tau[0, k], q, k, q.columns, sums)


# -- alone -------------------------------------------------------------------------------------------------------------


def scratch(work: Factor) -> Sequence[int]:
    (m, n), (_, width) = work.sources[0].shape, work.targets[0].shape
    blocks = (m, LARGE), (LARGE, max(n, width)), (LARGE, LARGE)
    return grid_elements(work, m, n), min(m, n), *(grid_elements(work, *block) for block in blocks)


class _Blocks:
    """Reflections of one matrix, in the columns of ``a`` below the diagonal."""

    def __init__(self, m: Matrices, rows: int, columns: int, width: int):
        self.m, self.b, self.rows, self.columns = m, m.bench, rows, columns
        self.a, self.tau = m.grid(0, columns), Row(m.bench, m.scratch[1], m.bench.dtype)
        self.v, self.sums, self.s = m.grid(2, LARGE), m.grid(3, max(columns, width)), m.grid(4, LARGE)

    def gather(self, first: Number, stop: Number) -> None:
        """V and S of the reflections [first, stop); one that does nothing has a vector of zeros."""
        b, count, height = self.b, stop - first, self.rows - first
        lane = Number(b.f, Lanes(b.f, b.lanes).lane_index())
        tau = self.tau.from_(first)
        for i in b.range(0, height):
            row, written = self.a.from_(first, first).row(i), self.v.row(i)
            for chunk in b.across(0, count):
                place = chunk.at + lane
                x = select(place < i, row[chunk], select(place > i, b.wide(0.0), 1.0))
                written[chunk] = select(tau[chunk].equals(0.0), 0.0, x)
        self.m.fill(self.s, count, count, 0.0)
        self.m.update.add(self.s, self.v.turned, self.v, count, count, height, self.m.pack)
        for j in b.range(0, count):
            x = tau[j]
            nothing = x.equals(0.0)
            self.s[j, j] = 1.0 / select(nothing, 1.0, x)

    def apply(self, c: Grid, first: Number, count: Number, columns: Number, forward: bool) -> None:
        """c[:, :columns], whose rows are those of the matrix from ``first`` on, times the gathered reflections: the
        first first if ``forward``, else the last."""
        height, update = self.rows - first, self.m.update
        self.m.fill(self.sums, count, columns, 0.0)
        update.add(self.sums, self.v.turned, c, count, columns, height, self.m.pack)
        self.m.solve(self.s, self.sums, count, columns, lower=False, transposed=forward)
        update.subtract(c, self.v, self.sums, height, columns, count, self.m.pack)

    def panel(self, first: Number, stop: Number) -> None:
        """The reflections of a few columns, each row of them one vector."""
        b, chunk = self.b, self.b.rest(first, stop)
        lane = Number(b.f, Lanes(b.f, b.lanes).lane_index())
        for k in b.range(first, stop):
            scale = power_of_two(self._largest(k))

            def terms(i: Number, found: Sequence[Number], k: Number = k, scale: Number = scale) -> list[Number]:
                row = self.a.row(i)
                x = row[k] * scale
                return [fma(x, row[chunk], found[0]), fma(x, x, found[1])]

            sums, rest = b.fold(k + 1, self.rows, [b.wide(0.0), b.number(0.0)], terms)
            head = self.a.row(k)
            top = head[chunk]
            tau, beta, divisor = reflection(head[k] * scale, rest)
            self.tau[k] = tau
            behind, here = lane > k - first, lane.equals(k - first)
            total = select(behind, tau * (top + sums / divisor), 0.0)
            head[chunk] = select(here, beta / scale, top - total)
            for i in b.range(k + 1, self.rows):
                row = self.a.row(i)
                x = row[k] * scale / divisor
                row[chunk] = select(here, x, fma(-x, total, row[chunk]))

    def _largest(self, k: Number) -> Number:
        """The largest size in column k from the diagonal down."""

        def step(i: Number, found: Sequence[Number]) -> list[Number]:
            return [larger(absolute(self.a[i, k]), found[0])]

        (size,) = self.b.fold(k, self.rows, [self.b.number(0.0)], step)
        return size


def alone(m: Matrices) -> None:
    (rows, columns), (_, width) = m.work.sources[0].shape, m.work.targets[0].shape
    b, least, w = m.bench, min(rows, columns), _Blocks(m, rows, columns, width)
    m.copy(m.sources[0], w.a, rows, columns)
    for first, stop in m.blocks(least, LARGE, rows * columns * LARGE / 8):
        for small in b.range(first, stop, b.lanes):
            end = smaller(small + b.lanes, stop)
            w.panel(small, end)
            with b.when(end < stop):
                w.gather(small, end)
                w.apply(w.a.from_(small, end), small, end - small, stop - end, forward=True)
        with b.when(stop < columns):
            w.gather(first, stop)
            w.apply(w.a.from_(first, stop), first, stop - first, columns - stop, forward=True)
    q, r = m.targets
    if r is not None:
        _copy_upper(m, w.a, r, width, columns)
    if q is not None:
        m.fill(q, rows, width, 0.0)
        for i in b.range(0, width):
            q[i, i] = 1.0
        for back, _ in m.blocks(least, LARGE, rows * width * LARGE / 8):
            first = (least - 1) // LARGE * LARGE - back
            stop = smaller(first + LARGE, least)
            w.gather(first, stop)
            w.apply(q.from_(first, first), first, stop - first, width - first, forward=False)


def _copy_upper(m: Matrices, a: Grid, r: Grid, rows: int, columns: int) -> None:
    """R, with zeros below the diagonal; ``a`` has at least as many rows."""
    b = m.bench
    lane = Number(b.f, Lanes(b.f, b.lanes).lane_index())
    for i in m.rows(rows, columns):
        read, written = a.row(i), r.row(i)
        for chunk in b.across(0, columns):
            written[chunk] = select(chunk.at + lane < i, 0.0, read[chunk])
