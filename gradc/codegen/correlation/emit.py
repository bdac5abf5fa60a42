"""The loops around the tiles of a correlation.

Enters: a `Correlation` and a `Target`.  Leaves: ``void @name(ptr left, ptr right, ptr out)``; the pointers are those of
the elements with index zero.  A correlation that threads share takes ``i64 %begin, i64 %end`` besides: the steps of its
longest outer loop that are to be done; one that looks whether to end, ``ptr %status, i64 %who`` before them.  Start
reading at `emit_correlation`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from gradc.codegen.correlation.plan import Plan, make_plan, pieces
from gradc.codegen.correlation.tile import LOOKING, Tile, emit_tile, of_a_tile
from gradc.codegen.gemm.registers import Index, address, argument, plus, times
from gradc.codegen.ir import Function, Module
from gradc.codegen.loops import each
from gradc.codegen.poll import AGAIN, BETWEEN, Meter, spending
from gradc.codegen.target import Target
from gradc.schedule.kernel import Axis, Correlation

#: Offsets into a, b and c.
Corner = tuple[Index, Index, Index]


def shared_extent(c: Correlation, target: Target) -> int:
    """The steps of the loop that threads share: the longest of those around the tiles; 1 if there is none."""
    return max((x.extent for x in make_plan(c, target).others), default=1)


def emit_correlation(
    module: Module, c: Correlation, target: Target, name: str, shared: bool = False, looks: bool = False
) -> None:  # fmt: skip
    """Add the function of ``c`` to ``module``."""
    bounds = [("i64", "begin"), ("i64", "end")] if shared else []
    watched = LOOKING if looks else []
    f = Function(module, name, [*(("ptr noalias", p) for p in ("left", "right", "out")), *watched, *bounds])
    meter = None
    if looks:
        f.who, meter = "%who", Meter.of(f, "%status")
    plan = make_plan(c, target)
    cut = max(plan.others, key=lambda x: x.extent) if shared else None
    dtypes = (c.left.dtype, c.right.dtype, c.dtype)
    _Loops(f, plan, (*dtypes[1::-1], c.dtype) if plan.swapped else dtypes, name, cut, meter).emit()
    f.finish()


@dataclass
class _Loops:
    f: Function
    plan: Plan
    dtypes: tuple[str, str, str]  #: of a, b and c
    name: str
    cut: Axis | None  #: the loop that threads share, if any
    meter: Meter | None  #: says when to look whether to end, if anybody looks
    tiles: dict[Tile, str] = field(default_factory=dict)

    def emit(self) -> None:
        if self.cut is None:
            self._others(self.plan.others, (0, 0, 0))
            return
        rest = list(self.plan.others)
        rest.remove(self.cut)
        with self.f.loop(argument("begin"), argument("end")) as loop, spending(self.meter, AGAIN):
            self._others(rest, self._moved(self.cut, loop.index, (0, 0, 0)))

    def _others(self, axes: Sequence[Axis], at: Corner) -> None:
        if axes:
            self._walk(axes[0], 0, axes[0].extent, 1, at, lambda inside: self._others(axes[1:], inside))
        else:
            self._blocks(at)

    def _blocks(self, at: Corner) -> None:
        """Columns outside, rows inside: what is read of b stays near for all rows."""
        plan, column = self.plan, 0
        for wide, count in pieces(plan.columns.extent, plan.wide):
            self._walk(plan.columns, column, count, wide, at, lambda inside, w=wide: self._along(w, inside))  # type: ignore[misc]
            column += wide * count

    def _along(self, wide: int, at: Corner) -> None:
        """Pieces of the lane axis; those of one size that are whole vectors share a loop."""
        plan = self.plan
        if plan.summed_lane:
            self._rows(wide, 0, 1, at)
            return
        first, whole = 0, plan.lane.extent // plan.width
        for vectors, count in pieces(plan.lane_vectors, plan.vectors):
            full = max(0, min(count, (whole - first) // vectors))
            if full:
                start, step = first * plan.width, vectors * plan.width
                walk = Axis(full, 0, 1, 1)
                self._walk(walk, start, full, step, at, lambda inside, v=vectors: self._rows(wide, 0, v, inside))  # type: ignore[misc]
            for k in range(full, count):
                vector = first + k * vectors
                self._rows(wide, vector, vectors, self._moved(plan.lane, vector * plan.width, at))
            first += vectors * count

    def _rows(self, wide: int, first: int, vectors: int, at: Corner) -> None:
        plan, row = self.plan, 0
        for high, count in pieces(plan.rows.extent, plan.high):
            tile = Tile(plan, self.dtypes[2], *self.dtypes[:2], high, wide, first, vectors)
            self._walk(plan.rows, row, count, high, at, lambda inside, t=tile: self._call(t, inside))  # type: ignore[misc]
            row += high * count

    def _walk(self, axis: Axis, start: int, count: int, step: int, at: Corner, body: Callable[[Corner], None]) -> None:
        """``body`` at ``count`` places of ``axis``, ``step`` apart, from ``start`` on."""
        corner = self._moved(axis, start, at)
        if count == 1:
            body(corner)
            return
        with each(self.f, 0, count) as index, spending(self.meter, AGAIN):
            body(self._moved(axis, times(self.f, index, step), corner))

    def _moved(self, axis: Axis, by: Index, at: Corner) -> Corner:
        a, b, c = (
            plus(self.f, x, times(self.f, by, step)) if step and not (isinstance(by, int) and by == 0) else x
            for x, step in zip(at, (axis.left, axis.right, axis.out), strict=True)
        )
        return a, b, c

    def _call(self, tile: Tile, at: Corner) -> None:
        f, operations = self.f, of_a_tile(tile)
        tile = replace(tile, looks=self.meter is not None and operations > BETWEEN)
        if tile not in self.tiles:
            self.tiles[tile] = emit_tile(f.module, tile, f"{self.name}.tile{len(self.tiles)}")
        bases = ("%right", "%left", "%out") if self.plan.swapped else ("%left", "%right", "%out")
        pointers = [address(f, *place) for place in zip(bases, at, self.dtypes, strict=True)]
        watched = [f"ptr {self.meter.status}", f"i64 {f.who}"] if self.meter is not None and tile.looks else []
        with spending(self.meter, operations):
            f.line(f"call void @{self.tiles[tile]}({', '.join([*(f'ptr {p}' for p in pointers), *watched])})")
