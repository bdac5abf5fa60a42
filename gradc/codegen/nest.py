"""Nests to loops of instructions.

Enters: a `Nest` and the pointers of its kernel's slots.  Leaves: its loops, in a function under construction.
Invariant: the lane loop takes whole vectors; what is left at its end is one block under a constant mask, so nothing is
read or written outside an array.  A long nest looks whether to end before each chunk of the outermost loop whose steps
are short.  Start reading at `emit_nest`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

from gradc.codegen.carry import Carried
from gradc.codegen.fork import Crew, Piece
from gradc.codegen.gemm.registers import transpose
from gradc.codegen.ir import Function, Lanes, Loop, Value, const
from gradc.codegen.memory import first_lanes, load, offset_pointer
from gradc.codegen.partial import emit_partial_reduction
from gradc.codegen.poll import emit_poll, looks, unless_stopped, walking, within, within_stage
from gradc.codegen.reduce import emit_reduction
from gradc.codegen.reducers import Combining
from gradc.codegen.scalars import Point, Scalars
from gradc.schedule.affine import Var
from gradc.schedule.kernel import Carry, Load, Nest, Recur, Scan, Split, Stage, Staged
from gradc.schedule.pack import in_levels

Step = Callable[[Value, Point], Value]
#: The operations of one step of a loop, and those of the longest loop in it.
Inside = tuple[float, float]


@dataclass(frozen=True)
class Part:
    """The steps ``begin`` … ``end`` of one loop, alone; of the lane axis, ``begin`` starts a vector."""

    axis: Var
    begin: Value
    end: Value


def emit_nest(f: Function, nest: Nest, slots: Sequence[str], status: str) -> None:
    """Emit the loops of ``nest`` into ``f``; ``slots`` and ``status`` are pointers."""
    NestWalk(Scalars(f, nest, slots, status)).run()


def emit_shared_nest(f: Function, nest: Nest, slots: Sequence[str], how: Split | Staged, crew: Crew) -> None:
    """Emit ``nest`` into ``f``, a kernel's function, for several threads to share."""
    if isinstance(how, Staged):
        NestWalk(Scalars(f, nest, slots, "%status"), staged=how, crew=crew).run()
        return

    def body(task: Function, piece: Piece) -> None:
        assert how.axis is not None
        part = Part(how.axis, piece.begin, piece.end)
        NestWalk(Scalars(task, nest, piece.slots, piece.status), part).run()

    crew.fork(f, how, slots, body)


class NestWalk:
    """A nest, or ``part`` of one; its stages may be ``staged`` for a crew."""

    def __init__(self, s: Scalars, part: Part | None = None, staged: Staged | None = None, crew: Crew | None = None):
        nest = s.nest
        self.s, self.f, self.nest, self.part = s, s.f, nest, part
        self.staged, self.crew = staged, crew
        self.long = looks(nest)
        needed = [nest.needed(stage) for stage in nest.stages]
        self.all, *self.needed = in_levels(nest, [sorted({k for part in needed for k in part}), *needed])

    def run(self) -> None:
        point = Point()
        self.s.advance(self.all, point)
        self.outer(self.nest.outer, point)

    def outer(self, variables: Sequence[Var], point: Point) -> None:
        """Loop over ``variables``, the outer ones that have no value at ``point``, and do the stages inside."""
        if not variables:
            for stage, needed in zip(self.nest.stages, self.needed, strict=True):
                self._stage(stage, needed, point)
                self.s.near.update(needed)
                self.s.advance(self.all, point)
            return
        var, *rest = variables
        if var == self.nest.lane and self.nest.lanes > 1:
            self._vectors(var, point, self._innermost, self._around([]))
            return
        with self._steps(var, self._around(rest)) as index:
            inside = point.at(var, index)
            self.s.advance(self.all, inside)
            self.outer(rest, inside)

    def _innermost(self, point: Point) -> None:
        """Inside all outer loops."""
        self.s.advance(self.all, point)
        self.outer((), point)

    # -- what there is to do inside a loop, and inside the longest loop in it ------------------------------------------
    def _around(self, rest: Sequence[Var]) -> Inside:
        """Inside an outer loop, with the loops over ``rest`` in it."""
        nest = self.nest
        inside = within(nest, rest)
        stages = [within_stage(nest, stage, stage.inner) for stage in nest.stages if stage.inner]
        return inside, inside if rest else max(stages, default=0)

    def _in_stage(self, stage: Stage, rest: Sequence[Var]) -> Inside:
        """Inside a loop of a stage, with the loops over ``rest`` in it."""
        inside = within_stage(self.nest, stage, rest)
        return inside, inside if rest else 0

    @contextmanager
    def _steps(self, var: Var, inside: Inside) -> Iterator[Value]:
        """Every step of a loop, or those of the part."""
        if self.part is not None and var == self.part.axis:
            with self._loop(self.part.begin, self.part.end, 1, inside, var.extent) as loop:
                yield loop.index
        elif var.extent == 1:
            yield const(0, "int64")
        else:
            with self._loop(0, var.extent, 1, inside, var.extent) as loop:
                yield loop.index

    def _loop(
        self, start: Value | int, stop: Value | int, step: int, inside: Inside, steps: int, carry: Sequence[Value] = ()
    ) -> AbstractContextManager[Loop]:
        """A loop, which looks whether to end if the nest is long."""
        if not self.long:
            return self.f.loop(start, stop, step, carry)
        return walking(self.f, self.s.status, start, stop, step, *inside, steps, carry)

    def _vectors(self, var: Var, point: Point, body: Callable[[Point], None], inside: Inside) -> None:
        """Whole vectors along the lane axis, and a masked one at its end; or those of the part."""
        i, lanes = Lanes(self.f), self.nest.lanes
        whole = var.extent // lanes * lanes
        part = self.part if self.part is not None and var == self.part.axis else None
        if part is not None:
            with self._loop(part.begin, i.min(part.end, whole), lanes, inside, whole // lanes) as loop:
                body(point.at(var, loop.index))
        elif whole == lanes:
            body(point.at(var, const(0, "int64")))
        elif whole:
            with self._loop(0, whole, lanes, inside, whole // lanes) as loop:
                body(point.at(var, loop.index))
        if var.extent > whole:
            last = point.at(var, const(whole, "int64"))
            last.mask = first_lanes(var.extent - whole, lanes)
            with self.f.when(i.gt(part.end, whole)) if part is not None else nullcontext():
                body(last)

    # -- stages ------------------------------------------------------------------------------------------------------
    def _stage(self, stage: Stage, needed: Sequence[int], point: Point) -> None:
        split = self.staged.stages[self.nest.stages.index(stage)] if self.staged is not None else None
        if stage.reduces:
            self._reduce(stage, needed, point, split)
        elif split is not None:
            self._share_stores(stage, needed, point, split)
        elif stage.scan is not None:
            self._scan(stage.scan, stage, needed, point)
        elif stage.recur is not None:
            self._recur(stage.recur, stage, needed, point)
        elif stage.inner and stage.inner[-1] == self.nest.lane and self.nest.lanes > 1:
            self._store_along(stage, needed, stage.inner, point)
        elif point.mask is None and (far := self._far_loads(stage)):
            self._square(stage, needed, far, point)
        else:
            self._store(stage, needed, stage.inner, point)

    # -- squares -----------------------------------------------------------------------------------------------------
    def _far_loads(self, stage: Stage) -> list[int]:
        """Loads whose lanes lie apart, but whose inner axis lies in a row, in a square of lanes by inner steps."""
        nest = self.nest
        if len(stage.inner) != 1 or stage.inner[0].extent != nest.lanes or nest.lane is None:
            return []
        (inner,) = stage.inner
        loads = ((k, x.offset) for k, x in enumerate(nest.code) if isinstance(x, Load))
        return [k for k, f in loads if f.coefficient(nest.lane) not in (0, 1, None) and f.coefficient(inner) == 1]

    def _square(self, stage: Stage, needed: Sequence[int], far: Sequence[int], point: Point) -> None:
        """Read far loads by rows, transpose them in registers, then take the inner axis step by step."""
        (inner,), lanes = stage.inner, self.nest.lanes
        start = point.at(inner, const(0, "int64"))
        columns = {}
        for k in far:
            with self.f.standing_for(instruction=k):
                columns[k] = transpose(self.f, [self._row(k, row, start) for row in range(lanes)])
        for step in range(lanes):
            inside = point.at(inner, const(step, "int64"))
            for k in far:
                with self.f.standing_for(instruction=k):
                    self.s.set(k, columns[k][step], inside)
            self._store(stage, needed, (), inside)

    def _row(self, k: int, row: int, point: Point) -> Value:
        """The elements of load ``k`` along the inner axis, for lane ``row``."""
        x, lane = self.nest.code[k], self.nest.lane
        assert isinstance(x, Load) and lane is not None
        offset = x.offset + (x.offset.coefficient(lane) or 0) * row
        pointer = offset_pointer(self.f, self.s.slots[x.slot], self.s.form(offset, point, False), x.dtype)
        return load(self.f, pointer, x.dtype, self.nest.lanes)

    # -- plain and running stores ------------------------------------------------------------------------------------
    def _store(self, stage: Stage, needed: Sequence[int], variables: Sequence[Var], point: Point) -> None:
        if not variables:
            self.s.advance(needed, point)
            for store in stage.stores:
                self.s.store(store, point)
            return
        var, *rest = variables
        with self._steps(var, self._in_stage(stage, rest)) as index:
            inside = point.at(var, index)
            self.s.advance(needed, inside)
            self._store(stage, needed, rest, inside)

    def _store_along(self, stage: Stage, needed: Sequence[int], variables: Sequence[Var], point: Point) -> None:
        """Stores whose lanes run along the last inner axis."""
        var, *rest = variables
        if rest:
            with self._steps(var, self._in_stage(stage, rest)) as index:
                inside = point.at(var, index)
                self.s.advance(needed, inside)
                self._store_along(stage, needed, rest, inside)
            return
        each = self._in_stage(stage, [])
        self._vectors(var, point, lambda inside: self._store(stage, needed, (), inside), each)

    def _share_stores(self, stage: Stage, needed: Sequence[int], point: Point, split: Split) -> None:
        """The stores of a stage, one of whose loops is cut."""
        assert self.crew is not None
        carried = Carried.of(self.s, point)

        def body(f: Function, piece: Piece) -> None:
            there, inside = carried.resumed(f, self.s, piece, self.all)
            assert split.axis is not None
            part = Part(split.axis, piece.begin, piece.end)
            NestWalk(there, part)._stage(stage, needed, inside)

        self.crew.fork(self.f, split, [*self.s.slots, *carried.pointers], body)

    def _reduce(self, stage: Stage, needed: Sequence[int], point: Point, split: Split | None) -> None:
        results = None
        if split is not None and self.crew is not None:
            results = emit_partial_reduction(self.s, stage, needed, point, self.crew, split)
        if results is None:
            results = emit_reduction(self.s, stage, needed, point)
        for k, which in self.nest.totals(stage).items():
            with self.f.standing_for(instruction=k):
                self.s.set(k, results[which], point)

    def _scan(self, scan: Scan, stage: Stage, needed: Sequence[int], point: Point) -> None:
        """One element after another; every partial result is stored."""
        lanes = self.nest.lanes
        first = self.nest.code[scan.value].dtype
        running = Combining(scan.op, self.f, first, first, lanes)
        (total,) = running.start()

        def step(total: Value, inside: Point) -> Value:
            self.s.advance(needed, inside)
            x = self.s.value(scan.value, inside, lanes > 1)
            with self.f.standing_for(slot=scan.store.slot):
                (total,) = running.step((total,), x, None, None)
            self.s.write_scan(scan.store, total, inside)
            return total

        self._along(stage, stage.inner, total, point, step)

    def _recur(self, recur: Recur, stage: Stage, needed: Sequence[int], point: Point) -> None:
        """Steps one after another; what they hand on stays in registers."""
        (var,), s, code = stage.inner, self.s, self.nest.code
        wide = self.nest.lanes > 1
        start = [s.value(k, point, wide) for k in recur.starts]
        slots = {x.which: k for k, x in enumerate(code) if isinstance(x, Carry)}
        inside = Point()

        def more(index: Value, carried: Sequence[Value]) -> Value:
            nonlocal inside
            inside = point.at(var, index)
            for which, k in slots.items():
                s.set(k, carried[which], inside)
            steps = s.one.lt(index, const(var.extent, "int64"))
            if (stop := emit_poll(self.f, s.status, index, len(needed), var.extent)) is not None:
                steps = s.one.and_(steps, s.one.not_(stop))
            if recur.again is None:
                return steps
            s.advance(self.nest.behind([recur.again]), inside)
            return s.one.and_(steps, s.value(recur.again, inside, False))

        with unless_stopped(self.f, s.status):
            with self.f.loop_while(more, start) as loop:
                s.advance(needed, inside)
                for store in stage.stores:
                    s.store(store, inside)
                loop.next = [s.value(k, inside, wide) for k in recur.nexts]
            for store in recur.ends:
                carried = code[store.value]
                assert isinstance(carried, Carry)
                s.write_scan(store, loop.result[carried.which], point)

    def _along(self, stage: Stage, variables: Sequence[Var], total: Value, point: Point, step: Step) -> Value:
        """Carry ``total`` through the loops over ``variables``."""
        if not variables:
            return step(total, point)
        var, *rest = variables
        with self._loop(0, var.extent, 1, self._in_stage(stage, rest), var.extent, [total]) as loop:
            inside = point.at(var, loop.index)
            loop.next = [self._along(stage, rest, loop.carry[0], inside, step)]
        return loop.result[0]
