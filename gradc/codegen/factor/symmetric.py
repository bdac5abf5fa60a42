"""Eigenvalues, ascending, and eigenvectors of symmetric matrices.

Enters: a matrix, of which the lower triangle is read.  Leaves: eigenvalues; eigenvectors in columns, of any sign.
Invariant: the matrix is scaled by a power of two so that its largest element is near 1: no square overflows, and what
vanishes is far below rounding.  Side by side it is Jacobi's cyclic method (Golub, Van Loan 2013, 8.5.3); alone
reflections make it tridiagonal (8.3.1), each applied together with the product that the next one needs, then implicit
QL steps with Wilkinson's shift (8.3.3; EISPACK's imtql2) bring it to diagonal form.  Start reading at `aside`.
"""

from __future__ import annotations

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
from gradc.codegen.factor.rotations import MOST_WAITING, Rotations, Waiting, in_order, reflector, rotation
from gradc.codegen.factor.rows import Cell, Grid, Row
from gradc.codegen.factor.side import Side, Tile
from gradc.codegen.factor.update import turned, write_square
from gradc.codegen.ir import Lanes
from gradc.codegen.status import NO_CONVERGENCE
from gradc.schedule.factor import Factor

#: Jacobi's method ends after so many sweeps, five to eight of which are enough; so many steps find an eigenvalue.
MOST_SWEEPS, MOST_STEPS = 40, 60

# -- side by side ------------------------------------------------------------------------------------------------------


def tiles(work: Factor) -> Sequence[int]:
    n = work.sources[0].shape[0]
    return n * n, n * n, 1, n, n * n


def aside(s: Side) -> None:
    a, n = s.source(0), s.work.sources[0].shape[0]
    wanted = len(s.work.targets) > 1 and s.work.targets[1].slot >= 0
    scale = _scaled_and_turned_over(s, a)
    v, live = s.tile(n, n), s.tile(1, 1)  # eigenvectors in rows
    for i in s.range(0, n):
        for j in s.range(0, n):
            v[i, j] = 0.0
        v[i, i] = 1.0
    for _ in s.while_(lambda: _is_live(s, a, live), MOST_SWEEPS):
        for p in s.range(0, n):
            for q in s.range(p + 1, n):
                _rotate(s, a, v if wanted else None, p, q, live[0, 0] > 0.0)
    bad = s.fails_where(live[0, 0] > 0.0, NO_CONVERGENCE)
    values, vectors = s.tile(1, n), s.tile(n, n)
    for j in s.range(0, n):
        place = _rank(s, a, n, j)
        s.put(values, 0, place, a[j, j] / scale)
        for k in s.range(0, n):
            s.put(vectors, k, place, v[j, k])
    s.write(0, values, bad)
    if wanted:
        s.write(1, vectors, bad)


def _scaled_and_turned_over(s: Side, a: Tile) -> Number:
    """Scale the lower triangle, and write it above the diagonal too."""

    def largest(i: Index, found: Sequence[Number]) -> Sequence[Number]:
        return s.fold(0, i + 1, found, lambda j, best: [larger(absolute(a[i, j]), best[0])])

    (size,) = s.fold(0, a.rows, [s.number(0.0)], largest)
    scale = power_of_two(size)
    for i in s.range(0, a.rows):
        for j in s.range(0, i + 1):
            x = a[i, j] * scale
            a[i, j] = x
            a[j, i] = x
    return scale


def _is_live(s: Side, a: Tile, live: Tile) -> Number:
    """Whether some matrix has an element above the diagonal that is not yet rounding; ``live`` says which."""

    def largest(i: Index, found: Sequence[Number]) -> Sequence[Number]:
        def step(j: Index, best: Sequence[Number]) -> list[Number]:
            x = a[i, j]
            return [larger(absolute(x), best[0]), fma(x, 0.0, best[1])]

        return s.fold(i + 1, a.rows, [found[0], fma(a[i, i], 0.0, found[1])], step)

    size, nothing = s.fold(0, a.rows, [s.number(0.0), s.number(0.0)], largest)  # NaN if not all is finite
    still = ~(size + nothing <= float(np.finfo(s.dtype).eps) / 8)
    live[0, 0] = select(still, s.number(1.0), 0.0)
    return still.any()


def _rotate(s: Side, a: Tile, v: Tile | None, p: Index, q: Index, live: Number) -> None:
    """Make element (p, q) zero, in the upper triangle."""
    x, head, tail = a[p, q], a[p, p], a[q, q]
    live = live & x.differs(0.0)
    theta = (tail - head) / (2.0 * select(live, x, 1.0))
    t = select(live, with_sign(1.0 / (absolute(theta) + sqrt(fma(theta, theta, 1.0))), theta), 0.0)
    cosine = 1.0 / sqrt(fma(t, t, 1.0))
    sine = t * cosine
    a[p, p], a[q, q] = fma(-t, x, head), fma(t, x, tail)
    a[p, q] = select(live, 0.0, x)

    def rotated(first: Number, second: Number) -> tuple[Number, Number]:
        return fma(cosine, first, -(sine * second)), fma(cosine, second, sine * first)

    for k in s.range(0, p):
        a[k, p], a[k, q] = rotated(a[k, p], a[k, q])
    for k in s.range(p + 1, q):
        a[p, k], a[k, q] = rotated(a[p, k], a[k, q])
    for k in s.range(q + 1, a.rows):
        a[p, k], a[q, k] = rotated(a[p, k], a[q, k])
    if v is not None:
        for k in s.range(0, a.rows):
            v[p, k], v[q, k] = rotated(v[p, k], v[q, k])


def _rank(s: Side, a: Tile, n: int, j: Index) -> Number:
    """How many eigenvalues come before number j."""
    x, own = a[j, j], s.counted(j)

    def step(i: Index, found: Sequence[Number]) -> list[Number]:
        before = (a[i, i] < x) | (a[i, i].equals(x) & (s.counted(i) < own))
        return [found[0] + select(before, s.number(1.0), 0.0)]

    (rank,) = s.fold(0, n, [s.number(0.0)], step)
    return rank


# -- alone -------------------------------------------------------------------------------------------------------------


def scratch(work: Factor) -> Sequence[int]:
    n = work.sources[0].shape[0]
    return (
        grid_elements(work, n + 1, n),
        grid_elements(work, n, n),
        n,
        n,
        n,
        n,
        *[grid_elements(work, MOST_WAITING, n)] * 2,
    )


def alone(m: Matrices) -> None:
    b, n = m.bench, m.work.sources[0].shape[0]
    vectors = m.targets[1] if len(m.targets) > 1 else None
    a, v = m.grid(0, n), m.grid(1, n)
    d, e, tau, w = (Row(b, m.scratch[k], b.dtype) for k in range(2, 6))
    turn = Rotations(m.update.target, b.dtype)
    waiting = Waiting(turn, v, n if vectors is not None else 0, -1, m.grid(6, n), m.grid(7, n))
    size, finite = largest(m, n, lambda i: i + 1)
    bad, scale = b.cell(~finite, "bool"), power_of_two(size)
    with b.when(finite):
        _load(m, a, n, scale)
        _tridiagonal(m, a, d, e, tau, w, n)
        if vectors is not None:
            _reflections(m, a, tau, v, n)
        _diagonal(m, d, e, waiting, n, bad)
        with b.unless_stopped():
            in_order(b, d, n, lambda x, y: x < y, [(v, n)] if vectors is not None else [])
    with b.unless_stopped():
        if m.targets[0] is not None:
            values = Row(b, m.targets[0].pointer, b.dtype)
            for k in b.range(0, n):
                values[k] = d[k] / scale
        if vectors is not None:
            for i in m.rows(n, n, b.lanes):
                for j in b.range(0, n, b.lanes):
                    write_square(b, vectors, j, i, n, n, turned(b, v, i, j, n, n))
        m.fails_where(bad.get(), NO_CONVERGENCE)


def _load(m: Matrices, a: Grid, n: int, scale: Number) -> None:
    """The whole symmetric matrix, scaled, and behind it a row of zeros."""
    b, (source,) = m.bench, m.sources
    lane = Number(b.f, Lanes(b.f, b.lanes).lane_index())
    for i in m.rows(n, n):
        read, row = source.row(i), a.row(i)
        for chunk in b.across(0, i + 1):
            row[chunk] = read[chunk] * scale
    for i in m.rows(n, n, b.lanes):
        for j in b.range(0, i, b.lanes):
            write_square(b, a, j, i, n, n, turned(b, a, i, j, n, n))
        square = [Number(b.f, x) for x in turned(b, a, i, i, n, n)]
        for r, upper in enumerate(square):
            with b.when(i + r < n):
                row, chunk = a.row(i + r), b.rest(i, b.index(n))
                row[chunk] = select(lane <= r, row[chunk], upper)
    m.fill(a.from_(n, 0), 1, n, 0.0)


def _tridiagonal(m: Matrices, a: Grid, d: Row, e: Row, tau: Row, w: Row, n: int) -> None:
    """Row after row, from the last: the reflection that leaves one element beside the diagonal.

    In each step the matrix is changed by the reflection before, v wᵀ + w vᵀ, while its product with the new vector is
    taken.  The vector of row i lies in it, with its head, 1, at i − 1.
    """
    b = m.bench
    zeros = a.row(n)
    for chunk in b.across(0, n):
        w[chunk] = zeros[chunk]
    e[n - 1] = 0.0
    for back in b.watched(n, 1, n * n / 4):
        i = n - 1 - back
        row, before = a.row(i), a.row(i + 1)
        x, y = b.wide(-before[i]), b.wide(-w[i])
        for chunk in b.across(0, i + 1):
            row[chunk] = fma(y, before[chunk], fma(x, w[chunk], row[chunk]))
        d[i] = row[i]
        with b.when(i > 0):
            _reflected(m, a, row, before, i, e, tau, w)


def _reflected(m: Matrices, a: Grid, row: Row, before: Row, i: Number, e: Row, tau: Row, w: Row) -> None:
    b = m.bench
    scale, e[i - 1] = reflector(b, row, i - 1, 0, i - 1)
    tau[i] = scale
    products = Row(b, m.scratch[6], b.dtype)
    for r in b.range(0, i):
        other, x, y = a.row(r), b.wide(-before[r]), b.wide(-w[r])

        def changed(c: object, other: Row = other, x: Number = x, y: Number = y) -> tuple[Number, Number]:
            new = fma(y, before[c], fma(x, w[c], other[c]))  # type: ignore[index]
            other[c] = new  # type: ignore[index]
            return new, row[c]  # type: ignore[index]

        products[r] = scale * b.dot(0, i, changed)
    along = b.dot(0, i, lambda c: (products[c], row[c])) * scale * -0.5
    for chunk in b.across(0, i):
        w[chunk] = fma(b.wide(along), row[chunk], products[chunk])


def _reflections(m: Matrices, a: Grid, tau: Row, v: Grid, n: int) -> None:
    """The transposed product of the reflections."""
    b, turn = m.bench, Rotations(m.update.target, m.bench.dtype)
    m.fill(v, n, n, 0.0)
    for i in b.range(0, n):
        v[i, i] = 1.0
    for k in b.watched(n - 1, 1, n * n / 4):
        turn.reflect(v, k + 1, a.row(k + 1), k + 1, tau[k + 1])


def _diagonal(m: Matrices, d: Row, e: Row, waiting: Waiting, n: int, bad: Cell) -> None:
    """QL steps until nothing is left beside the diagonal; the vectors turn with them."""
    b = m.bench
    steps, end = b.cell(0, "int64"), b.cell(0, "int64")
    for first in b.watched(n, 1, 16 * n * n):
        steps.set(b.index(0))

        def more(first: Number = first) -> Number:
            """Whether the block that begins at ``first`` has not become a single element; ``end`` is its last one."""
            end.set(first)
            for _ in b.while_(lambda: (end.get() < n - 1) & ~_is_small(d, e, end.get())):
                end.set(end.get() + 1)
            return end.get().differs(first)

        for _ in b.while_(more, MOST_STEPS):
            steps.set(steps.get() + 1)
            last = end.get()
            _step(m, d, e, first, last, *waiting.next)
            if waiting.width:
                waiting.take(last, last - first)
        bad.set(bad.get() | (steps.get() >= MOST_STEPS))
    waiting.done()


def _is_small(d: Row, e: Row, k: Number) -> Number:
    """Whether element k beside the diagonal is rounding of those on it."""
    info = np.finfo(d.dtype)
    size = absolute(d[k]) + absolute(d[k + 1])
    return absolute(e[k]) <= fma(size, float(info.eps), float(info.tiny / info.eps))


def _step(m: Matrices, d: Row, e: Row, first: Number, last: Number, cosines: Row, sines: Row) -> None:
    """One implicit QL step of the block [first, last]; its rotations, from the last on, are kept."""
    b = m.bench
    gap = (d[first + 1] - d[first]) / (2.0 * e[first])
    start = d[last] - d[first] + e[first] / (gap + with_sign(sqrt(fma(gap, gap, 1.0)), gap))

    def chase(t: Number, carried: Sequence[Number]) -> list[Number]:
        s, c, p, g = carried
        i = last - 1 - t
        f, beside = s * e[i], c * e[i]
        e[i + 1], c, s = rotation(g, f)
        head = d[i + 1] - p
        turned_by = fma(d[i] - head, s, 2.0 * c * beside)
        p = s * turned_by
        d[i + 1] = head + p
        cosines[t], sines[t] = c, s
        return [s, c, p, fma(c, turned_by, -beside)]

    one, zero = b.number(1.0), b.number(0.0)
    _, _, p, g = b.fold(0, last - first, [one, one, zero, start], chase)
    d[first] = d[first] - p
    e[first] = g
    e[last] = 0.0
