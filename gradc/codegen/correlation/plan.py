"""How a correlation is computed: which axis runs through the lanes, which two axes a register tile spans, how far.

Enters: a `Correlation` and a `Target`.  Leaves: a `Plan`, from shapes, strides and the target alone.
Start reading at `make_plan`.

Operand b does not change along the rows of a tile, and along its columns a does not, or b does not either.  With the
lanes along an axis of the result, a is read element by element and b in vectors; with the lanes along a summed axis,
both are read in vectors.  Costs are estimates in cycles of a core that loads two registers and multiplies two.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from gradc.codegen.target import Target
from gradc.schedule.kernel import Axis, Correlation

#: Most rows of a tile, and most vectors of one row of it.
MOST_ROWS, MOST_VECTORS = 16, 6
#: What a tile costs besides its sums: the call, clearing and writing its registers; joining the lanes of one element.
TILE_COST, JOIN_COST = 30.0, 6.0
#: Independent FMA chains that hide the latency of one.
CHAINS = 8
UNIT = Axis(1, 0, 0, 0)


@dataclass(frozen=True)
class Plan:
    """A tile spans ``high`` steps of ``rows`` by ``wide`` steps of ``columns``, of at most ``vectors`` vectors each.

    ``lane`` is an axis of the result, then a vector is a piece of it; or, if ``summed_lane``, a summed one.  ``others``
    are the axes of the result that loops outside a tile walk, ``summed`` those that loops inside it do, without the
    lane.  ``swapped`` says that a is the right operand; axes here have ``left`` for a and ``right`` for b.
    """

    swapped: bool
    lane: Axis
    summed_lane: bool
    rows: Axis
    columns: Axis
    others: tuple[Axis, ...]
    summed: tuple[Axis, ...]
    width: int
    high: int
    wide: int
    vectors: int
    cost: float

    @property
    def lane_vectors(self) -> int:
        """Vectors that cover the lane axis."""
        return -(-self.lane.extent // self.width)


def make_plan(c: Correlation, target: Target) -> Plan:
    """The cheapest way to compute ``c`` on ``target``."""
    width = min(16, target.lanes(c.dtype))
    kept, summed = _merged(c.kept), _merged(c.summed)
    ways = [
        replace(plan, swapped=swapped)
        for swapped, k, s in ((False, kept, summed), (True, _swapped(kept), _swapped(summed)))
        for plan in _ways(k, s, width, target.vector_registers)
    ]
    return min(ways, key=lambda plan: plan.cost)


def _swapped(axes: tuple[Axis, ...]) -> tuple[Axis, ...]:
    return tuple(replace(x, left=x.right, right=x.left) for x in axes)


def _merged(axes: tuple[Axis, ...]) -> tuple[Axis, ...]:
    """Neighbours become one axis wherever one step of the outer is as far as all steps of the inner."""
    merged: list[Axis] = []
    for inner in axes:
        outer = merged[-1] if merged else None
        if outer is not None and all(o == i * inner.extent for o, i in zip(_steps(outer), _steps(inner), strict=True)):
            merged[-1] = replace(inner, extent=outer.extent * inner.extent)
        else:
            merged.append(inner)
    return tuple(merged)


def _steps(x: Axis) -> tuple[int, int, int]:
    return x.left, x.right, x.out


def _ways(kept: tuple[Axis, ...], summed: tuple[Axis, ...], width: int, registers: int) -> Iterator[Plan]:
    for lane in kept:
        if _steps(lane) == (0, 1, 1):
            rest = tuple(x for x in kept if x is not lane)
            yield from _tiled(lane, False, rest, summed, width, registers)
    for lane in summed:
        if (lane.left, lane.right) == (1, 1):
            rest = tuple(x for x in summed if x is not lane)
            yield from _tiled(lane, True, kept, rest, width, registers)


def _tiled(
    lane: Axis, summed_lane: bool, kept: tuple[Axis, ...], summed: tuple[Axis, ...], width: int, registers: int
) -> Iterator[Plan]:
    """Every choice of the two axes that a tile spans, each with its best extents."""
    rows = [x for x in kept if x.right == 0] or [UNIT]
    columns = [x for x in kept if x.left == 0 or (x.right == 0 and not summed_lane)] or [UNIT]
    spans = [(row, column) for row in rows for column in columns if row is not column]
    for row, column in spans or [(rows[0], UNIT)]:  # one axis that fits both ways, or none at all
        others = tuple(x for x in kept if x is not row and x is not column)
        start = Plan(False, lane, summed_lane, row, column, others, summed, width, 1, 1, 1, math.inf)
        yield min(_sizes(start, registers), key=lambda plan: plan.cost)


def _sizes(plan: Plan, registers: int) -> Iterator[Plan]:
    for high in range(1, min(plan.rows.extent, MOST_ROWS) + 1):
        for wide in range(1, min(plan.columns.extent, MOST_ROWS) + 1):
            most = 1 if plan.summed_lane else min(plan.lane_vectors, MOST_VECTORS)
            for vectors in range(1, most + 1):
                sized = replace(plan, high=high, wide=wide, vectors=vectors)
                if (high, wide, vectors) == (1, 1, 1) or _fits(sized, registers):
                    yield replace(sized, cost=_cost(sized))


def _fits(plan: Plan, registers: int) -> bool:
    """Whether the sums, a row of vectors of b and one operand of a stay in registers."""
    across = plan.vectors * (plan.wide if plan.columns.right else 1)
    return plan.high * plan.wide * plan.vectors + across + 1 <= registers


def _cost(plan: Plan) -> float:
    steps = math.prod(x.extent for x in plan.summed)
    total = 0.0
    for high, times_high in pieces(plan.rows.extent, plan.high):
        for wide, times_wide in pieces(plan.columns.extent, plan.wide):
            for vectors, times in _lane_pieces(plan):
                sums = high * wide * vectors
                loads = high * (wide if plan.columns.left else 1) + vectors * (wide if plan.columns.right else 1)
                if plan.summed_lane:
                    work = steps * plan.lane_vectors * _step_cost(sums, loads) + JOIN_COST * sums
                else:
                    work = steps * _step_cost(sums, loads) + sums
                total += times_high * times_wide * times * (work + TILE_COST)
    return total * math.prod(x.extent for x in plan.others)


def _step_cost(sums: int, loads: int) -> float:
    return max(sums, CHAINS, loads) / 2


def _lane_pieces(plan: Plan) -> list[tuple[int, int]]:
    return [(1, 1)] if plan.summed_lane else pieces(plan.lane_vectors, plan.vectors)


def pieces(extent: int, size: int) -> list[tuple[int, int]]:
    """(size, count) of the even pieces of at most ``size`` that cover ``extent``, the larger ones first."""
    count = -(-extent // size)
    small, larger = divmod(extent, count)
    return [piece for piece in ((small + 1, larger), (small, count - larger)) if piece[1]]
