"""A reducing stage: the loops over the reduced axes.

Enters: a stage of a nest, inside its outer loops.  Leaves: the results, as `Total`s.

The promise about order, which decides every rounding.  The reduced elements are walked with the lane axis (or the last
axis) innermost.  A *step* takes ``interleave`` groups of ``width`` neighbouring elements, each group into its own
accumulator (``width`` is the number of lanes where the lanes run along the reduced axis, else 1).  A *block* is at most
`BLOCK` steps: a part of a long row, or several short rows.  The accumulators of a block are joined by a binary tree,
blocks likewise in the order in which they come (a binary counter of partial results), lanes last.  All of that depends
on shapes, dtypes and the target's vector width only, never on addresses or threads, so the bits are the same in every
run; and the error of a sum is at most (BLOCK + 2 + log2 of the number of accumulators and blocks) · eps · Σ|x|.
Start reading at `emit_reduction`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np

from gradc.codegen.ir import Function, Lanes, Loop, Value, const
from gradc.codegen.memory import first_lanes
from gradc.codegen.poll import looks, walking, within_stage
from gradc.codegen.reducers import Reducer, State, reducer_of, tree
from gradc.codegen.scalars import Point, Scalars
from gradc.process import cached_property
from gradc.schedule.affine import Affine, Var
from gradc.schedule.kernel import Apply, Bounded, Instruction, Lookup, Nest, Stage

#: Steps that one accumulator adds up before blocks are joined.
BLOCK = 64
#: Interleaved accumulators: these hide the latency of an addition, if the body is short.
INTERLEAVE = 4
SHORT_BODY = 12
LOOKUP_WEIGHT = 8.0
#: Lanes of this many bytes are several vectors, which are accumulators enough.
WIDE_BYTES = 128

States = tuple[State, ...]


@dataclass(frozen=True)
class Blocks:
    """Blocks of ``size`` steps of ``axis``: elements of a long row, or short rows; for every index of ``outer``."""

    outer: tuple[Var, ...]
    axis: Var
    size: int

    @property
    def whole(self) -> int:
        """Steps of the axis that fill whole blocks."""
        return self.axis.extent // self.size * self.size

    @property
    def in_row(self) -> int:
        return -(-self.axis.extent // self.size)

    @property
    def total(self) -> int:
        return self.in_row * math.prod(v.extent for v in self.outer)


def emit_reduction(s: Scalars, stage: Stage, needed: Sequence[int], point: Point) -> list[Value]:
    """The result of each reduction of ``stage``, in the lanes of an outer lane axis or as scalars."""
    totals = s.nest.totals(stage)
    with s.f.standing_for(instruction=min(totals, default=-1)):
        return Reduction(s, stage, needed).run(point)


class Reduction:
    """The code of a reducing stage."""

    def __init__(self, s: Scalars, stage: Stage, needed: Sequence[int]):
        self.s, self.f, self.stage, self.needed = s, s.f, stage, needed
        self.totals: Mapping[int, int] = {which: k for k, which in s.nest.totals(stage).items()}
        nest = s.nest
        self.along = nest.lane is not None and bool(stage.inner) and stage.inner[-1] == nest.lane and not nest.across
        self.width = nest.lanes if self.along else 1
        self.counter = "int32" if math.prod(v.extent for v in stage.inner) < 2**31 else "int64"
        self.reducers: list[Reducer] = [
            reducer_of(r.op, self.f, nest.code[r.value].dtype, r.dtype, nest.lanes, self.counter) for r in stage.reduces
        ]
        self.interleave = self._interleave(nest)

    def _interleave(self, nest: Nest) -> int:
        body = sum(_weight(nest.code[k]) for k in self.needed)
        extent = self.stage.inner[-1].extent if self.stage.inner else 1
        widest = max(nest.lanes * np.dtype(nest.code[r.value].dtype).itemsize for r in self.stage.reduces)
        most = INTERLEAVE if body <= SHORT_BODY and widest < WIDE_BYTES else 1
        return next(u for u in (most, 2, 1) if u <= most and (u == 1 or extent >= 2 * u * self.width))

    def run(self, point: Point) -> list[Value]:
        if not self.stage.inner:
            (states,) = self._take([self._start()], [point])
        else:
            states = self._blocks(point)
        return self.ended(states)

    def ended(self, states: States) -> list[Value]:
        """The results: what is left is to join the lanes, where they run along the reduced axis."""
        if self.along:
            states = tuple(r.across(x) for r, x in zip(self.reducers, states, strict=True))
        return [r.end(x) for r, x in zip(self.reducers, states, strict=True)]

    # -- one element (of each lane) ----------------------------------------------------------------------------------
    def _start(self) -> States:
        return tuple(r.start() for r in self.reducers)

    def _take(self, parts: Sequence[States], points: Sequence[Point]) -> list[States]:
        """One step of several accumulators, each at its own point; a mask is that of all."""
        wide = self.s.nest.lanes > 1
        for point in points:
            self.s.advance(self.needed, point)
            for store in self.stage.stores:
                self.s.store(store, point)
        counted = any(r.op.position for r in self.stage.reduces)
        positions = [self._position(p) if counted else None for p in points]
        mask = points[0].mask if self.along else None
        taken = []
        for which, (r, a) in enumerate(zip(self.reducers, self.stage.reduces, strict=True)):
            with self.f.standing_for(instruction=self.totals.get(which, -1)):
                xs = [self.s.value(a.value, p, wide) for p in points]
                taken.append(r.steps([states[which] for states in parts], xs, positions, mask))
        return list(zip(*taken, strict=True))

    def _position(self, point: Point) -> Value:
        """The row-major number of the element in the reduced axes."""
        form, step = Affine(), 1
        for var in reversed(self.stage.inner):
            form, step = form + Affine(0, {var: step}), step * var.extent
        nest = self.s.nest
        if self.along:
            return self.s.form(form, point, True, self.counter)
        return Lanes(self.f, nest.lanes).splat(self.s.form(form, point, False, self.counter))

    # -- rows and blocks ---------------------------------------------------------------------------------------------
    def _blocks(self, point: Point) -> States:
        blocks = self.blocks
        joiner = Joiner(self.f, self.reducers, blocks.total)
        self._nested(blocks.outer, point, lambda p: self._row_of_blocks(p, joiner))
        return joiner.result()

    @cached_property
    def blocks(self) -> Blocks:
        """How the reduced elements are cut into blocks."""
        *outer, last = self.stage.inner
        chunk = self.interleave * self.width
        if last.extent // chunk > BLOCK:
            return Blocks(tuple(outer), last, BLOCK * chunk)
        *outer, across = outer or [Var(-1, 1)]
        return Blocks(tuple(outer), across, max(1, BLOCK // max(1, math.ceil(last.extent / chunk))))

    def _operations(self, rest: Sequence[Var]) -> float:
        """What there is to do inside one of the loops outside a row of blocks, with the loops over ``rest`` in it."""
        inner = self.stage.inner[len(self.blocks.outer) - len(rest) :]
        return within_stage(self.s.nest, self.stage, inner)

    @cached_property
    def of_a_block(self) -> float:
        """What there is to do in one block."""
        return self._operations([]) / self.blocks.in_row

    def loop(
        self, start: Value | int, stop: Value | int, step: int, operations: float, inside: float, steps: int
    ) -> AbstractContextManager[Loop]:
        """A loop around blocks, which looks whether to end if the nest is long, see `walking`."""
        if not looks(self.s.nest):
            return self.f.loop(start, stop, step)
        return walking(self.f, self.s.status, start, stop, step, operations, inside, steps=steps)

    def _row_of_blocks(self, point: Point, joiner: Joiner) -> None:
        whole, size, extent = self.blocks.whole, self.blocks.size, self.blocks.axis.extent
        if whole:
            if whole == size:
                joiner.push(self.block(const(0, "int64"), point))
            else:
                with self.loop(0, whole, size, self.of_a_block, 0, whole // size) as loop:
                    joiner.push(self.block(loop.index, point))
        if whole < extent:
            joiner.push(self.last_block(point))

    def block(self, begin: Value, point: Point) -> States:
        """A whole block from element or row ``begin`` on."""
        axis, size, last = self.blocks.axis, self.blocks.size, self.stage.inner[-1]
        stop = Lanes(self.f).add(begin, size)
        if axis == last:
            return tree(self.reducers, self._stretch(last, begin, stop, self._fresh(), point))
        return tree(self.reducers, self._rows(axis, last, begin, stop, size, point))

    def last_block(self, point: Point) -> States:
        """The block at the end of a row of blocks, which is not whole."""
        axis, whole, last = self.blocks.axis, self.blocks.whole, self.stage.inner[-1]
        if axis == last:
            return tree(self.reducers, self._row(last, whole, self._fresh(), point))
        begin, end = const(whole, "int64"), const(axis.extent, "int64")
        return tree(self.reducers, self._rows(axis, last, begin, end, axis.extent - whole, point))

    def _nested(self, variables: Sequence[Var], point: Point, body: Callable[[Point], None]) -> None:
        if not variables:
            body(point)
            return
        var, *rest = variables
        once = self._operations(rest)
        deeper = once if rest or self.blocks.whole > self.blocks.size else 0
        with self.loop(0, var.extent, 1, once, deeper, var.extent) as loop:
            inside = point.at(var, loop.index)
            self.s.advance(self.needed, inside)
            self._nested(rest, inside, body)

    def _rows(self, across: Var, last: Var, start: Value, stop: Value, count: int, point: Point) -> list[States]:
        """Rows start … stop of ``across``, all into the same accumulators."""
        if count == 1:
            inside = point.at(across, start)
            self.s.advance(self.needed, inside)
            return self._row(last, 0, self._fresh(), inside)
        with self.f.loop(start, stop, carry=_flat(self._fresh())) as loop:
            inside = point.at(across, loop.index)
            self.s.advance(self.needed, inside)
            parts = self._row(last, 0, self._shaped(loop.carry), inside)
            loop.next = _flat(parts)
        return self._shaped(loop.result)

    def _row(self, last: Var, start: int, parts: list[States], point: Point) -> list[States]:
        """Elements start … of the last axis, whole steps and what is left."""
        chunk = self.interleave * self.width
        whole = start + (last.extent - start) // chunk * chunk
        if whole > start:
            parts = self._stretch(last, const(start, "int64"), const(whole, "int64"), parts, point)
        for k, begin in enumerate(range(whole, last.extent, self.width)):
            inside = point.at(last, const(begin, "int64"))
            if last.extent - begin < self.width:
                inside.mask = first_lanes(last.extent - begin, self.width)
            (parts[k],) = self._take([parts[k]], [inside])
        return parts

    def _stretch(self, last: Var, start: Value, stop: Value, parts: list[States], point: Point) -> list[States]:
        """Whole steps."""
        chunk = self.interleave * self.width
        with self.f.loop(start, stop, chunk, carry=_flat(parts)) as loop:
            at = [Lanes(self.f).add(loop.index, k * self.width) if k else loop.index for k in range(self.interleave)]
            parts = self._take(self._shaped(loop.carry), [point.at(last, a) for a in at])
            loop.next = _flat(parts)
        return self._shaped(loop.result)

    # -- accumulators ------------------------------------------------------------------------------------------------
    def _fresh(self) -> list[States]:
        return [self._start() for _ in range(self.interleave)]

    def _shaped(self, flat: Sequence[Value]) -> list[States]:
        values = iter(flat)
        return [tuple(tuple(next(values) for _ in x) for x in self._start()) for _ in range(self.interleave)]


def _weight(x: Instruction) -> float:
    """Roughly how many instructions something takes: what decides whether copies of it are worth their code."""
    if isinstance(x, Apply):
        return x.op.element_cost
    return LOOKUP_WEIGHT if isinstance(x, Lookup | Bounded) else 0.0


def _flat(parts: Sequence[States]) -> list[Value]:
    return [v for states in parts for state in states for v in state]


class Joiner:
    """Blocks joined in pairs as they come: level k of the stack holds the join of 2ᵏ blocks, or nothing."""

    def __init__(self, f: Function, reducers: Sequence[Reducer], total: int, in_memory: bool = False):
        """For ``total`` blocks; a single one needs no memory, unless it is pushed where no value can leave."""
        self.f, self.reducers, self.total = f, reducers, total
        self.in_memory = in_memory or total > 1
        self.single: States | None = None
        if self.in_memory:
            depth = total.bit_length()
            self.stacks = [[(f.alloca("i8", depth * room(v)), v) for v in r.start()] for r in reducers]
            self.counter = f.alloca("i64", 1, 8)
            f.line(f"store i64 0, ptr {self.counter}, align 8")

    def push(self, states: States) -> None:
        if not self.in_memory:
            self.single = states
            return
        f, i = self.f, Lanes(self.f)
        count = Value(f.let(f"load i64, ptr {self.counter}, align 8"), "int64")
        f.module.declare("llvm.cttz.i64", "i64", "i64", "i1")
        level = Value(f.let(f"call i64 @llvm.cttz.i64(i64 {i.not_(count).ref}, i1 false)"), "int64")
        with f.loop(0, level, carry=[v for x in states for v in x]) as loop:
            below = self._shaped(loop.carry)
            pairs = enumerate(zip(self.reducers, below, strict=True))
            loop.next = [v for k, (r, x) in pairs for v in r.join(self._read(k, loop.index), x)]
        for k, state in enumerate(self._shaped(loop.result)):
            for (stack, _), v in zip(self.stacks[k], state, strict=True):
                f.line(f"store {v.typed}, ptr {self._place(stack, v, level)}, align 64")
        f.line(f"store i64 {i.add(count, 1).ref}, ptr {self.counter}, align 8")

    def result(self) -> States:
        """All blocks."""
        return self.single if self.single is not None else self.joined(self.total)

    def joined(self, count: int) -> States:
        """The ``count`` blocks pushed: the levels that hold something, the latest blocks first."""
        levels = [k for k in range(count.bit_length()) if count >> k & 1]
        return tuple(self._down(k, r, levels) for k, r in enumerate(self.reducers))

    def _down(self, k: int, reducer: Reducer, levels: Sequence[int]) -> State:
        state = self._read(k, const(levels[0], "int64"))
        for level in levels[1:]:
            state = reducer.join(self._read(k, const(level, "int64")), state)
        return state

    def _shaped(self, flat: Sequence[Value]) -> list[State]:
        values = iter(flat)
        return [tuple(next(values) for _ in stack) for stack in self.stacks]

    def _read(self, k: int, level: Value) -> State:
        return tuple(
            Value(self.f.let(f"load {v.type}, ptr {self._place(stack, v, level)}, align 64"), v.dtype, v.lanes)
            for stack, v in self.stacks[k]
        )

    def _place(self, stack: str, like: Value, level: Value) -> str:
        offset = Lanes(self.f).mul(level, room(like))
        return self.f.let(f"getelementptr i8, ptr {stack}, i64 {offset.ref}")


def room(v: Value) -> int:
    """Bytes between entries of a stack: whole cache lines, so that each entry is aligned."""
    return -(-v.lanes * max(v.bits // 8, 1) // 64) * 64
