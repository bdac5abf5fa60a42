"""How threads share a product: which blocks of C each of them computes, by one plan.

Enters: a `Plan`, how many pieces are wanted.  Leaves: a `Cut` of the matrices of a batch, of tiles of rows, or of
panels of columns.
Invariant: k is never cut, and a piece computes its elements as the whole product would, so the bits stay the same.  The
last tile of rows is moved up over the one before it where they do not come out even; then these two stay together.
Start reading at `choose_cut`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from gradc.codegen.gemm.plan import FLIP_COST, Plan, Stage
from gradc.codegen.ir import Function, Lanes, Value


class Along(Enum):
    """What is counted by the steps of a cut."""

    BATCH = "matrices"
    ROWS = "rows"
    COLUMNS = "columns"


@dataclass(frozen=True)
class Cut:
    """``extent`` steps, ``steps`` of them in a piece; each thread has a copy of the plan's scratch."""

    along: Along
    extent: int
    steps: int

    @property
    def pieces(self) -> int:
        return -(-self.extent // self.steps)


@dataclass(frozen=True)
class Part:
    """The steps of one piece, begin … end, inside its function."""

    along: Along
    extent: int
    begin: Value
    end: Value

    def steps(self, f: Function, along: Along, count: int) -> tuple[Value, Value] | None:
        """The part of ``count`` steps along an axis, the last two of which may be one of the cut; None: all of them."""
        if self.along is not along:
            return None
        if count == self.extent:
            return self.begin, self.end
        i = Lanes(f)
        joined = i.select(i.eq(self.end, self.extent), count, self.end)
        return self.begin, joined


def choose_cut(plan: Plan, wanted: int, threads: int) -> Cut | None:
    """The cut after which the slowest of ``threads`` threads is done first; None if there is nothing to share."""
    if wanted < 2:
        return None
    options = list(_options(plan, wanted, threads))
    return min(options, key=lambda option: option[0])[1] if options else None


def _options(plan: Plan, wanted: int, threads: int) -> Iterator[tuple[float, Cut]]:
    g = plan.problem
    for along, extent, again in _axes(plan):
        if extent < 2:
            continue
        pieces = min(extent, threads if again else wanted)
        steps = math.ceil(extent / pieces)
        busiest = steps * math.ceil(math.ceil(extent / steps) / threads)
        work = g.m * g.n * g.k * math.prod(g.batch) / plan.width
        yield work * busiest / extent + again * math.ceil(pieces / threads), Cut(along, extent, steps)


def _axes(plan: Plan) -> Iterator[tuple[Along, int, float]]:
    """Each axis with its steps, and what each piece of it packs that others pack as well, in vector FMAs."""
    g = plan.problem
    yield Along.BATCH, math.prod(g.batch), 0.0
    if plan.stage is not Stage.NONE:
        return
    cost = FLIP_COST / plan.width * math.prod(g.batch)
    yield Along.ROWS, _whole_steps(g.m, plan.rows), cost * g.k * g.n * (plan.pack_b is not None)
    across = -(-g.n // plan.columns) if plan.kernel == "tile" else _whole_steps(g.n, plan.columns)
    yield Along.COLUMNS, across, cost * g.k * g.m * (plan.pack_a is not None)


def _whole_steps(extent: int, size: int) -> int:
    """Pieces of ``size``, of which the last two are one step if the last one is moved up over the other."""
    count = -(-extent // size)
    return count - 1 if extent % size and count > 1 else count
