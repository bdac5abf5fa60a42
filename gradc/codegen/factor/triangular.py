"""Solving with a triangular matrix.

Enters: T and right-hand sides B; attributes ``lower``, ``transposed`` and ``unit``.  Leaves: T⁻¹B or T⁻ᵀB.
All of them are one solve with a lower triangle: a transposed one is read along its columns, an upper one, and B with
it, from the last row to the first.  Start reading at `aside`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from gradc.codegen.factor.matrices import Matrices
from gradc.codegen.factor.number import absolute, fma, smaller
from gradc.codegen.factor.side import AnyTile, Side, Tile
from gradc.codegen.status import SINGULAR
from gradc.schedule.factor import Factor


def tiles(work: Factor) -> Sequence[int]:
    return work.sources[0].size, work.sources[1].size


def aside(s: Side) -> None:
    t, x = s.source(0), s.source(1)
    attrs = dict(s.work.attrs)
    solve_tile(s, t, x, **attrs)
    bad = None
    if not attrs["unit"]:
        (least,) = s.fold(0, t.rows, [s.number(math.inf)], lambda k, found: [smaller(absolute(t[k, k]), found[0])])
        bad = s.fails_where(least.equals(0.0), SINGULAR)
    s.write(0, x, bad)


def solve_tile(s: Side, t: AnyTile, x: Tile, lower: bool, transposed: bool = False, unit: bool = False) -> None:
    """x becomes T⁻¹x or T⁻ᵀx: row after row solved, and taken out of those that follow."""
    n, first = x.rows, lower != transposed
    for k in s.range(0, n) if first else s.down(n, 0):
        if not unit:
            pivot = t[k, k]
            for c in s.range(0, x.columns):
                x[k, c] = x[k, c] / pivot
        for i in s.range(k + 1, n) if first else s.range(0, k):
            factor = -(t[k, i] if transposed else t[i, k])
            for c in s.range(0, x.columns):
                x[i, c] = fma(factor, x[k, c], x[i, c])


def scratch(work: Factor) -> Sequence[int]:
    return ()


def alone(m: Matrices) -> None:
    (t, right), (x,) = m.sources, m.targets
    n, columns = m.work.sources[1].shape
    assert x is not None
    m.copy(right, x, n, columns)
    m.solve(t, x, n, columns, bool(m.attr("lower")), bool(m.attr("transposed")), bool(m.attr("unit")))
    if not m.attr("unit"):
        bad = m.bench.cell(False, "bool")
        for k in m.bench.range(0, n):
            bad.set(bad.get() | t[k, k].equals(0.0))
        m.fails_where(bad.get(), SINGULAR)
