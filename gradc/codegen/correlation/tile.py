"""The register tile of a correlation: a few rows by a few vectors, summed over all summed axes.

Enters: pointers to the first elements of the tile in a, b and c; everything else is known now.  Leaves: one internal
function per kind of tile.  Start reading at `emit_tile`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gradc.codegen.correlation.plan import Plan
from gradc.codegen.gemm.output import add, multiply_add
from gradc.codegen.gemm.registers import Index, address, extract, load, plus, store, sum_lanes
from gradc.codegen.ir import Function, Lanes, Module, Value, const
from gradc.codegen.memory import first_lanes
from gradc.codegen.poll import walking
from gradc.schedule.kernel import Axis

#: The innermost loop is unrolled up to so many FMAs.
UNROLLED = 60

PARAMS = [("ptr noalias readonly", "a"), ("ptr noalias readonly", "b"), ("ptr noalias", "c")]
#: What a function that looks whether to end gets: the status word, and which thread of a crew runs it.
LOOKING = [("ptr", "status"), ("i64", "who")]


@dataclass(frozen=True)
class Tile:
    """``high`` rows by ``wide`` columns, each of ``vectors`` vectors of the lane axis, from number ``first`` on."""

    plan: Plan
    dtype: str
    a_dtype: str
    b_dtype: str
    high: int
    wide: int
    first: int
    vectors: int
    looks: bool = False  #: whether to end, now and then along the summed axes

    @property
    def parts(self) -> list[tuple[int, int, int]]:
        """(first lane, lanes of the register, live lanes) of each vector along the lane axis."""
        width, extent = self.plan.width, self.plan.lane.extent
        starts = [k * width for k in range(self.first, self.first + self.vectors)]
        return [(s - self.first * width, _power(min(width, extent - s)), min(width, extent - s)) for s in starts]


def _power(live: int) -> int:
    """The smallest power of two that is not smaller."""
    return 1 << (live - 1).bit_length()


Sums = list[Value]
Step = Callable[[Sums, Index, Index], Sums]


def emit_tile(module: Module, tile: Tile, name: str) -> str:
    """Add the function of ``tile`` under ``name``."""
    f = Function(module, name, [*PARAMS, *(LOOKING if tile.looks else [])], result="internal void")
    f.who = "%who" if tile.looks else f.who
    if tile.plan.summed_lane:
        _Inner(f, tile).emit()
    else:
        _Outer(f, tile).emit()
    f.finish()
    return name


def of_a_tile(tile: Tile) -> float:
    """The operations of a tile."""
    plan = tile.plan
    along = plan.lane_vectors if plan.summed_lane else 1
    return along * math.prod(x.extent for x in plan.summed) * _of_a_step(tile.high * tile.wide * tile.vectors)


def _of_a_step(sums: int) -> float:
    return max(1.0, sums / 2)


def _over(
    f: Function, axes: Sequence[Axis], sums: Sums, a: Index, b: Index, step: Step, looks: bool, deeper: int = 1
) -> Sums:  # fmt: skip
    """Carry ``sums`` through the loops over ``axes``; a short innermost one is unrolled.

    If it ``looks`` whether to end, so does the outermost loop whose steps are short; one takes ``deeper`` steps inside.
    """
    if not axes:
        return step(sums, a, b)
    axis, *rest = axes
    if not rest and axis.extent * len(sums) <= UNROLLED:
        for k in range(axis.extent):
            sums = step(sums, plus(f, a, k * axis.left), plus(f, b, k * axis.right))
        return sums
    starts = [x if isinstance(x, Value) else const(x, "int64") for x in (a, b)]
    turns, carried = deeper * math.prod(x.extent for x in rest), [*sums, *starts]
    once = turns * _of_a_step(len(sums))
    longest = once if rest or deeper > 1 else 0
    loops = walking(f, "%status", 0, axis.extent, 1, once, longest, axis.extent, carried)
    with loops if looks else f.loop(0, axis.extent, carry=carried) as loop:
        *inside, a_at, b_at = loop.carry
        inside = _over(f, rest, inside, a_at, b_at, step, looks, deeper)
        loop.next = [*inside, plus(f, a_at, axis.left), plus(f, b_at, axis.right)]
    return loop.result[: len(sums)]


def _masks(tile: Tile) -> list[Value | None]:
    return [first_lanes(live, lanes) if live < lanes else None for _, lanes, live in tile.parts]


class _Outer:
    """Lanes along an axis of the result: elements of a, vectors of b.  Sum number (row, column, part)."""

    def __init__(self, f: Function, tile: Tile):
        self.f, self.tile, self.plan = f, tile, tile.plan
        self.masks = _masks(tile)

    def emit(self) -> None:
        tile, plan = self.tile, self.plan
        zeros = [const(0, tile.dtype, lanes) for _, lanes, _ in tile.parts] * (tile.high * tile.wide)
        sums = iter(_over(self.f, plan.summed, zeros, 0, 0, self._step, tile.looks))
        for r in range(tile.high):
            for c in range(tile.wide):
                corner = r * plan.rows.out + c * plan.columns.out
                for (start, _, _), mask in zip(tile.parts, self.masks, strict=True):
                    store(self.f, next(sums), address(self.f, "%c", corner + start, tile.dtype), mask)

    def _step(self, sums: Sums, a: Index, b: Index) -> Sums:
        f, tile, plan = self.f, self.tile, self.plan
        a_base, b_base = address(f, "%a", a, tile.a_dtype), address(f, "%b", b, tile.b_dtype)
        known: dict[tuple[int, int, int], Value] = {}

        def element(offset: int) -> Value:
            key = (offset, 0, 0)
            if key not in known:
                known[key] = load(f, address(f, a_base, offset, tile.a_dtype), tile.a_dtype)
            return known[key]

        def vector(offset: int, part: int) -> Value:
            start, lanes, _ = tile.parts[part]
            key = (offset, lanes, 1 + part)
            if key not in known:
                place = address(f, b_base, offset + start, tile.b_dtype)
                known[key] = load(f, place, tile.b_dtype, lanes, self.masks[part])
            return known[key]

        found: Sums = []
        for r in range(tile.high):
            for c in range(tile.wide):
                one = element(r * plan.rows.left + c * plan.columns.left)
                for part in range(len(tile.parts)):
                    x = vector(c * plan.columns.right, part)
                    b_lanes = Lanes(f, x.lanes)
                    found.append(multiply_add(b_lanes, tile.dtype, b_lanes.splat(one), x, sums[len(found)]))
        return found


class _Inner:
    """Lanes along a summed axis: vectors of both.  Sum number (row, column)."""

    def __init__(self, f: Function, tile: Tile):
        self.f, self.tile, self.plan = f, tile, tile.plan
        self.masks = _masks(tile)

    def emit(self) -> None:
        tile, plan, width = self.tile, self.plan, self.plan.width
        zeros = [const(0, tile.dtype, width)] * (tile.high * tile.wide)
        whole, live = divmod(plan.lane.extent, width)
        along = (Axis(whole, width, width, 0),) if whole else ()
        tail = first_lanes(live, width) if live else None

        def row(sums: Sums, a: Index, b: Index) -> Sums:
            if along:
                sums = _over(self.f, along, sums, a, b, lambda s, i, j: self._step(s, i, j, None), tile.looks)
            if tail is None:
                return sums
            return self._step(sums, plus(self.f, a, whole * width), plus(self.f, b, whole * width), tail)

        sums = _over(self.f, plan.summed, zeros, 0, 0, row, tile.looks, max(1, whole))
        for r in range(tile.high):
            self._write_row(sums[r * tile.wide : (r + 1) * tile.wide], r)

    def _step(self, sums: Sums, a: Index, b: Index, mask: Value | None) -> Sums:
        f, tile, plan = self.f, self.tile, self.plan

        def lines(base: str, dtype: str, at: Index, count: int, step: int) -> list[Value]:
            corner = address(f, base, at, dtype)
            places = [address(f, corner, k * step, dtype) for k in range(count)]
            return [load(f, place, dtype, plan.width, mask) for place in places]

        rows = lines("%a", tile.a_dtype, a, tile.high, plan.rows.left)
        columns = lines("%b", tile.b_dtype, b, tile.wide, plan.columns.right)
        b_lanes = Lanes(f, plan.width)
        pairs = [(x, y) for x in rows for y in columns]
        return [multiply_add(b_lanes, tile.dtype, x, y, total) for (x, y), total in zip(pairs, sums, strict=True)]

    def _write_row(self, sums: Sums, r: int) -> None:
        """Join the lanes of a row's sums, a power of two of them at a time."""
        f, tile, plan = self.f, self.tile, self.plan
        at = 0
        while at < len(sums):
            count = min(1 << ((len(sums) - at).bit_length() - 1), plan.width)
            joined = sum_lanes(f, sums[at : at + count], lambda b, x, y: add(b, tile.dtype, x, y))
            for k in range(count):
                place = r * plan.rows.out + (at + k) * plan.columns.out
                store(f, extract(f, joined, k), address(f, "%c", place, tile.dtype))
            at += count
