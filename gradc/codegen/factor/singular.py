"""Singular values, descending, and singular vectors.

Enters: a matrix; attribute ``full``.  Leaves: U, the values, and Vᵀ, the vectors of any sign.
Invariant: the matrix is tall, or its transpose is factorised and the vectors change sides; it is scaled by a power of
two so that its largest element is near 1.  Side by side it is Hestenes' one-sided Jacobi method (Golub, Van Loan 2013,
8.6.3): columns are rotated until they are orthogonal, and their QR factorisation gives U, of columns that are 0 too.
Alone, reflections from both sides make it bidiagonal (5.4.8) and implicit QR steps diagonal (8.6.2; LINPACK's dsvdc).
Start reading at `aside`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from gradc.codegen.factor.matrices import Matrices, grid_elements, largest
from gradc.codegen.factor.number import (
    Index,
    Number,
    absolute,
    fma,
    larger,
    power_of_two,
    select,
    sqrt,
    with_sign,
)
from gradc.codegen.factor.orthogonal import orthogonal, reflect
from gradc.codegen.factor.rotations import MOST_WAITING, Rotations, Waiting, in_order, reflector, rotation
from gradc.codegen.factor.rows import Cell, Chunk, Grid, Row
from gradc.codegen.factor.side import AnyTile, Side, Tile
from gradc.codegen.factor.update import turned, write_square
from gradc.codegen.status import NO_CONVERGENCE
from gradc.schedule.factor import Factor

#: Jacobi's method ends after so many sweeps; so many steps for each singular value find it.
MOST_SWEEPS, MOST_STEPS = 40, 60
#: Vectors of columns that are summed side by side.
SIDE = 4


def _sides(work: Factor) -> tuple[int, int, int]:
    """Rows and columns of the matrix or of its transpose, whichever is tall, and how many left vectors there are."""
    m, n = work.sources[0].shape
    if len(work.targets) == 1:
        return max(m, n), min(m, n), min(m, n)
    u, _, v = work.targets
    return max(m, n), min(m, n), u.shape[1] if m >= n else v.shape[0]


def _wanted(work: Factor) -> tuple[bool, bool]:
    """Whether anybody reads the left and the right vectors of what is tall."""
    if len(work.targets) == 1:
        return False, False
    u, _, v = (t.slot >= 0 for t in work.targets)
    m, n = work.sources[0].shape
    return (u, v) if m >= n else (v, u)


def _values(work: Factor) -> int:
    """Which result the singular values are."""
    return 1 if len(work.targets) == 3 else 0


# -- side by side ------------------------------------------------------------------------------------------------------


def tiles(work: Factor) -> Sequence[int]:
    m, n, left = _sides(work)
    return m * n, n * n, 2, n, m * n, n * n, n, n, max(n, left), m * left, max(m * left, n * n)


def aside(s: Side) -> None:
    source = s.source(0)
    a: AnyTile = source if source.rows >= source.columns else source.turned
    m, n, left = _sides(s.work)
    v, state, norms = s.tile(n, n), s.tile(1, 2), s.tile(1, n)
    scale = _scaled(s, a)
    _identity(s, v)
    state[0, 0] = state[0, 1] = 1.0
    for _ in s.while_(lambda: (state[0, 1] > 0.0).any(), MOST_SWEEPS):
        state[0, 0], state[0, 1] = state[0, 1], 0.0
        for p in s.range(0, n):
            for q in s.range(p + 1, n):
                _rotate(s, a, v, p, q, state)
    bad = s.fails_where(state[0, 1] > 0.0, NO_CONVERGENCE)
    for j in s.range(0, n):
        (square,) = s.fold(0, m, [s.number(0.0)], lambda i, found, j=j: [fma(a[i, j], a[i, j], found[0])])  # type: ignore[misc]
        norms[0, j] = sqrt(square)
    sorted_a, sorted_v, values = s.tile(m, n), s.tile(n, n), s.tile(1, n)
    for j in s.range(0, n):
        place = _rank(s, norms, j)
        s.put(values, 0, place, norms[0, j] / scale)
        for i in s.range(0, m):
            s.put(sorted_a, i, place, a[i, j])
        for i in s.range(0, n):
            s.put(sorted_v.turned, i, place, v[j, i])
    s.write(_values(s.work), values, bad)
    _write_vectors(s, sorted_a, sorted_v, left, bad)


def _scaled(s: Side, a: AnyTile) -> Number:
    def largest(i: Index, found: Sequence[Number]) -> Sequence[Number]:
        return s.fold(0, a.columns, found, lambda j, best: [larger(absolute(a[i, j]), best[0])])

    (size,) = s.fold(0, a.rows, [s.number(0.0)], largest)
    scale = power_of_two(size)
    for i in s.range(0, a.rows):
        for j in s.range(0, a.columns):
            a[i, j] = a[i, j] * scale
    return scale


def _identity(s: Side, v: Tile) -> None:
    for i in s.range(0, v.rows):
        for j in s.range(0, v.columns):
            v[i, j] = 0.0
        v[i, i] = 1.0


def _rotate(s: Side, a: AnyTile, v: Tile, p: Index, q: Index, state: Tile) -> None:
    """Make columns p and q orthogonal, unless they are to rounding; the rows of v turn with them."""

    def sums(i: Index, found: Sequence[Number]) -> list[Number]:
        x, y = a[i, p], a[i, q]
        return [fma(x, x, found[0]), fma(y, y, found[1]), fma(x, y, found[2])]

    zero, info = s.number(0.0), np.finfo(s.dtype)
    first, second, both = s.fold(0, a.rows, [zero, zero, zero], sums)
    rounding = math.sqrt(a.rows) * float(info.eps)
    apart = absolute(both) <= fma(sqrt(first) * sqrt(second), rounding, float(info.tiny / info.eps))
    live = ~apart & (state[0, 0] > 0.0)
    zeta = (second - first) / (2.0 * select(live, both, 1.0))
    t = select(live, with_sign(1.0 / (absolute(zeta) + sqrt(fma(zeta, zeta, 1.0))), zeta), 0.0)
    cosine = 1.0 / sqrt(fma(t, t, 1.0))
    sine = t * cosine
    state[0, 1] = select(live, 1.0, state[0, 1])

    def rotated(x: Number, y: Number) -> tuple[Number, Number]:
        return fma(cosine, x, -(sine * y)), fma(cosine, y, sine * x)

    for i in s.range(0, a.rows):
        a[i, p], a[i, q] = rotated(a[i, p], a[i, q])
    for i in s.range(0, v.columns):
        v[p, i], v[q, i] = rotated(v[p, i], v[q, i])


def _rank(s: Side, norms: Tile, j: Index) -> Number:
    """How many columns come before column j: larger ones, and equal ones left of it."""
    x, own = norms[0, j], s.counted(j)

    def step(i: Index, found: Sequence[Number]) -> list[Number]:
        before = (norms[0, i] > x) | (norms[0, i].equals(x) & (s.counted(i) < own))
        return [found[0] + select(before, s.number(1.0), 0.0)]

    (rank,) = s.fold(0, norms.columns, [s.number(0.0)], step)
    return rank


def _write_vectors(s: Side, a: Tile, v: Tile, left: int, bad: Number | None) -> None:
    """U from the orthogonal columns of ``a``: their QR factorisation, with R's diagonal made positive."""
    tau, sums, q = s.tile(1, a.columns), s.tile(1, max(a.columns, left)), s.tile(a.rows, left)
    spare = s.tile(1, max(a.rows * left, a.columns**2)).pointer
    wants_left, wants_right = _wanted(s.work)
    tall = s.work.sources[0].shape[0] >= s.work.sources[0].shape[1]
    if wants_left:
        reflect(s, a, tau, sums)
        orthogonal(s, a, tau, sums, q)
        for j in s.range(0, a.columns):
            sign = with_sign(s.number(1.0), a[j, j])
            for i in s.range(0, a.rows):
                q[i, j] = q[i, j] * sign
        s.write(0 if tall else 2, q if tall else _turned_into(s, q, spare), bad)
    if wants_right:
        s.write(2 if tall else 0, v if tall else _turned_into(s, v, spare), bad)


def _turned_into(s: Side, source: Tile, pointer: str) -> Tile:
    to = Tile(s, source.columns, source.rows, pointer)
    for i in s.range(0, to.rows):
        for j in s.range(0, to.columns):
            to[i, j] = source[j, i]
    return to


# -- alone -------------------------------------------------------------------------------------------------------------


def scratch(work: Factor) -> Sequence[int]:
    m, n, left = _sides(work)
    wants_left, wants_right = _wanted(work)
    vectors = grid_elements(work, left * wants_left, m), grid_elements(work, n * wants_right, n)
    return grid_elements(work, m, n), *vectors, n + 1, n + 1, n, n, m, m, *[grid_elements(work, MOST_WAITING, n)] * 4


class _Bidiagonal:
    """The matrix at hand: rows ``m``, columns ``n``, and the vectors that turn with it, as rows."""

    def __init__(self, m: Matrices):
        self.m, self.b = m, m.bench
        self.rows, self.columns, self.left_count = _sides(m.work)
        self.wants_left, self.wants_right = _wanted(m.work)
        self.a, self.left, self.right = m.grid(0, self.columns), m.grid(1, self.rows), m.grid(2, self.columns)
        rows = [Row(self.b, m.scratch[k], self.b.dtype) for k in range(3, 9)]
        self.d, self.e, self.left_tau, self.right_tau, self.w, self.v = rows
        self.turn, n = Rotations(m.update.target, self.b.dtype), self.columns
        widths = self.rows * self.wants_left, n * self.wants_right
        self.to_left = Waiting(self.turn, self.left, widths[0], 1, m.grid(9, n), m.grid(10, n))
        self.to_right = Waiting(self.turn, self.right, widths[1], 1, m.grid(11, n), m.grid(12, n))

    # -- to bidiagonal form ------------------------------------------------------------------------------------------
    def reduce(self) -> None:
        """Reflections from the left and from the right in turn; their vectors stay in what they clear."""
        b, n = self.b, self.columns
        self.e[n - 1] = 0.0
        for k in b.watched(n, 1, self.rows * n):
            self._from_left(k)
            with b.when(k + 1 < n):
                self._from_right(k)

    def _from_left(self, k: Number) -> None:
        b, a = self.b, self.a
        for i in b.range(k, self.rows):
            self.v[i] = a[i, k]
        tau, self.d[k] = reflector(b, self.v, k, k + 1, self.rows)
        self.left_tau[k] = tau
        for i in b.range(k + 1, self.rows):
            a[i, k] = self.v[i]
        top = a.row(k)
        for j in b.range(k + 1, self.columns, SIDE * b.lanes):
            chunks = [b.rest(j + v * b.lanes, b.index(self.columns)) for v in range(SIDE)]

            def sums(i: Number, found: Sequence[Number], chunks: list[Chunk] = chunks) -> list[Number]:
                x, row = b.wide(a[i, k]), a.row(i)
                return [fma(x, row[c], total) for c, total in zip(chunks, found, strict=True)]

            for c, total in zip(chunks, b.fold(k + 1, self.rows, [top[c] for c in chunks], sums), strict=True):
                self.w[c] = total * tau

    def _from_right(self, k: Number) -> None:
        """The reflection of row k; the one from the left is applied on the way."""
        b, a, n, w = self.b, self.a, self.columns, self.w
        row = a.row(k)
        for c in b.across(k + 1, n):
            row[c] = row[c] - w[c]
        tau, self.e[k] = reflector(b, row, k + 1, k + 2, n)
        self.right_tau[k] = tau
        for i in b.range(k + 1, self.rows):
            other, x = a.row(i), b.wide(-a[i, k])

            def changed(c: Chunk, other: Row = other, x: Number = x) -> tuple[Number, Number]:
                new = fma(x, w[c], other[c])
                other[c] = new
                return new, row[c]

            along = b.wide(-(tau * b.dot(k + 1, n, changed)))
            for c in b.across(k + 1, n):
                other[c] = fma(along, row[c], other[c])

    def vectors(self) -> None:
        """The transposed products of the reflections from the left, and from the right."""
        b, n = self.b, self.columns
        if self.wants_left:
            self._identity(self.left, self.left_count, self.rows)
            for back in b.watched(n, 1, self.rows * n):
                k = n - 1 - back
                for i in b.range(k + 1, self.rows):
                    self.v[i] = self.a[i, k]
                self.v[k] = 1.0
                block = self.left.from_(k, k)
                self.turn.reflect(block, self.left_count - k, self.v.from_(k), self.rows - k, self.left_tau[k])
        if self.wants_right:
            self._identity(self.right, n, n)
            for back in b.watched(max(n - 1, 0), 1, n * n):
                k = n - 1 - back  # of row k − 1
                block, v = self.right.from_(k, k), self.a.row(k - 1).from_(k)
                self.turn.reflect(block, n - k, v, n - k, self.right_tau[k - 1])

    def _identity(self, g: Grid, rows: int, columns: int) -> None:
        self.m.fill(g, rows, columns, 0.0)
        for i in self.b.range(0, rows):
            g[i, i] = 1.0

    # -- to diagonal form --------------------------------------------------------------------------------------------
    def diagonalise(self, bad: Cell) -> None:
        """QR steps on the last block that is not diagonal; ``end`` is behind it."""
        b, n = self.b, self.columns
        end, start, zero = b.cell(n, "int64"), b.cell(0, "int64"), b.cell(0, "int64")
        most = MOST_STEPS * n
        for _ in b.watched(most, 1, 8 * n * n):
            with b.when(end.get() > 0):
                self._find_start(end.get(), start)
                last = end.get() - 1
                with b.when(start.get().equals(last)):
                    end.set(last)
                with b.when(start.get() < end.get() - 1):
                    self._find_zero(end.get(), start.get(), zero)
                    self._work(start.get(), end.get(), zero.get())
        bad.set(bad.get() | (end.get() > 0))
        self.to_left.done()
        self.to_right.done()
        for k in b.range(0, n):
            self._made_positive(k)

    def _find_start(self, end: Number, start: Cell) -> None:
        """Where the block begins: behind the last element beside the diagonal that is rounding, which becomes 0."""
        b, d, e, info = self.b, self.d, self.e, np.finfo(self.b.dtype)
        start.set(end - 1)

        def goes_on() -> Number:
            k = select(start.get() > 0, start.get() - 1, 0)
            size = absolute(d[k]) + absolute(d[k + 1])
            small = absolute(e[k]) <= fma(size, float(info.eps), float(info.tiny / info.eps))
            return (start.get() > 0) & ~small

        for _ in b.while_(goes_on):
            start.set(start.get() - 1)
        with b.when(start.get() > 0):
            e[start.get() - 1] = 0.0

    def _find_zero(self, end: Number, start: Number, zero: Cell) -> None:
        """The last element of the block's diagonal that is rounding, or ``end``; it becomes 0."""
        b, d, e, info = self.b, self.d, self.e, np.finfo(self.b.dtype)
        zero.set(end)
        for back in b.range(0, end - start):
            k = end - 1 - back
            before = select(k > start, absolute(e[select(k > 0, k - 1, 0)]), 0.0)
            size = before + select(k < end - 1, absolute(e[k]), 0.0)
            small = absolute(d[k]) <= fma(size, float(info.eps), float(info.tiny / info.eps))
            with b.when(small & zero.get().equals(end)):
                zero.set(k)
                d[k] = 0.0

    def _made_positive(self, k: Number) -> None:
        """A singular value is made positive."""
        b = self.b
        with b.when(self.d[k] < 0.0):
            self.d[k] = -self.d[k]
            if self.wants_right:
                row = self.right.row(k)
                for c in b.across(0, self.columns):
                    row[c] = -row[c]

    def _work(self, start: Number, end: Number, zero: Number) -> None:
        b = self.b
        with b.when(zero.equals(end)):
            self._step(start, end)
        with b.when(zero.equals(end - 1)):
            self._last_is_zero(start, end)
        with b.when(zero < end - 1):
            self._inner_is_zero(zero, end)

    def _last_is_zero(self, start: Number, end: Number) -> None:
        """The last element of the diagonal is 0: take away the one above it, from the right."""
        b, d, e = self.b, self.d, self.e
        f = b.cell(e[end - 2])
        e[end - 2] = 0.0
        for back in b.range(0, end - 1 - start):
            j = end - 2 - back
            r, cosine, sine = rotation(d[j], f.get())
            d[j] = r
            with b.when(j > start):
                f.set(-(sine * e[j - 1]))
                e[j - 1] = cosine * e[j - 1]
            if self.wants_right:
                self.to_right.pair(j, end - 1, cosine, sine)

    def _inner_is_zero(self, zero: Number, end: Number) -> None:
        """An element of the diagonal is 0: take away the one right of it, from the left."""
        b, d, e = self.b, self.d, self.e
        f = b.cell(e[zero])
        e[zero] = 0.0
        for j in b.range(zero + 1, end):
            r, cosine, sine = rotation(d[j], f.get())
            d[j] = r
            f.set(-(sine * e[j]))
            e[j] = cosine * e[j]
            if self.wants_left:
                self.to_left.pair(j, zero, cosine, sine)

    def _shift(self, start: Number, end: Number) -> tuple[Number, Number]:
        """The first column of BᵀB − σ² I, σ² the eigenvalue of its last two rows and columns nearest to the last."""
        d, e = self.d, self.e
        size = absolute(d[end - 1])
        for x in (d[end - 2], e[end - 2], d[start], e[start]):
            size = larger(absolute(x), size)
        last, before, beside = d[end - 1] / size, d[end - 2] / size, e[end - 2] / size
        b = fma(before + last, before - last, beside * beside) / 2.0
        c = (last * beside) * (last * beside)
        none = b.equals(0.0) & c.equals(0.0)
        root = with_sign(sqrt(fma(b, b, c)), b)
        shift = select(none, 0.0, c / select(none, 1.0, b + root))
        head, right = d[start] / size, e[start] / size
        return fma(head + last, head - last, shift), head * right

    def _step(self, start: Number, end: Number) -> None:
        """One implicit QR step; its rotations are kept and applied to the vectors after it."""
        b, d, e = self.b, self.d, self.e
        (left_c, left_s), (right_c, right_s) = self.to_left.next, self.to_right.next
        first = self._shift(start, end)

        def chase(t: Number, carried: Sequence[Number]) -> list[Number]:
            j = start + t
            r, c, s = rotation(*carried)
            right_c[t], right_s[t] = c, s
            with b.when(t > 0):
                e[j - 1] = r
            head, beside, below = d[j], e[j], d[j + 1]
            f = fma(c, head, s * beside)
            beside, g, below = fma(c, beside, -(s * head)), s * below, c * below
            r, c, s = rotation(f, g)
            left_c[t], left_s[t] = c, s
            d[j] = r
            d[j + 1] = fma(c, below, -(s * beside))
            right = e[j + 1]
            e[j + 1] = c * right
            return [fma(c, beside, s * below), s * right]

        f, _ = b.fold(0, end - 1 - start, list(first), chase)
        e[end - 2] = f
        if self.wants_right:
            self.to_right.take(start, end - 1 - start)
        if self.wants_left:
            self.to_left.take(start, end - 1 - start)


def alone(m: Matrices) -> None:
    b, w = m.bench, _Bidiagonal(m)
    n = w.columns
    height, width = m.work.sources[0].shape
    size, finite = largest(m, height, lambda _: width)
    bad, scale = b.cell(~finite, "bool"), power_of_two(size)
    with b.when(finite):
        _load(m, w, scale)
        if n:
            w.reduce()
        w.vectors()
        if n:
            w.diagonalise(bad)
        with b.unless_stopped():
            rows = [(w.left, w.rows)] if w.wants_left else []
            rows += [(w.right, n)] if w.wants_right else []
            in_order(b, w.d, n, lambda x, y: x > y, rows)
    with b.unless_stopped():
        values = m.targets[_values(m.work)]
        if values is not None:
            for k in b.range(0, n):
                values[k, 0] = w.d[k] / scale
        _write(m, w)
        m.fails_where(bad.get(), NO_CONVERGENCE)


def _load(m: Matrices, w: _Bidiagonal, scale: Number) -> None:
    """The matrix, or its transpose, scaled."""
    b, (source,), (rows, columns) = m.bench, m.sources, m.work.sources[0].shape
    if rows >= columns:
        m.copy(source, w.a, rows, columns)
    else:
        _turn(m, source, w.a, rows, columns)
    for i in m.rows(w.rows, w.columns):
        row = w.a.row(i)
        for c in b.across(0, w.columns):
            row[c] = row[c] * scale


def _turn(m: Matrices, source: Grid, target: Grid, rows: int, columns: int) -> None:
    """target[:columns, :rows] is the transpose of source[:rows, :columns]."""
    b = m.bench
    for i in m.rows(rows, columns, b.lanes):
        for j in b.range(0, columns, b.lanes):
            write_square(b, target, j, i, columns, rows, turned(b, source, i, j, rows, columns))


def _write(m: Matrices, w: _Bidiagonal) -> None:
    """The vectors, each on its side."""
    if len(m.targets) == 1:
        return
    rows, columns = m.work.sources[0].shape
    u, _, v = m.targets
    left, right = (w.left, w.left_count, w.rows), (w.right, w.columns, w.columns)
    for_u, for_v = (left, right) if rows >= columns else (right, left)
    if u is not None:
        _turn(m, for_u[0], u, for_u[1], for_u[2])
    if v is not None:
        m.copy(for_v[0], v, for_v[1], for_v[2])
