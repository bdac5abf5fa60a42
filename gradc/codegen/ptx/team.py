"""Reducing nests: a team of threads for each outer index.

Enters: a `Nest` with reductions.  Leaves: one `Step`, or two where too few teams would leave the device idle: the
first then reduces *parts* of each row, the second joins them.

The members of a team take the elements of its row in turn (member m the elements m, m + members, …).  In a team *along*
the row they are neighbours, so that they read neighbouring elements; in a team *across* rows neighbouring threads work
for neighbouring outer indices, and the members of one team stand a warp apart.

The promise about order, which decides every rounding: a member adds up `BLOCK` of its elements, then joins that to what
it has; members are joined by a binary tree over their numbers, warps and parts likewise.  All of that follows from
shapes and dtypes, never from which thread runs first; no float is added atomically.  The error of a sum is at most
(BLOCK + steps/BLOCK + log2 of members and parts) · eps · Σ|x|.  Start reading at `team_steps`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from gradc.codegen import memory
from gradc.codegen.ir import Value, const
from gradc.codegen.ptx.each import Each
from gradc.codegen.ptx.step import DeviceScalars, Step, blocks, spread
from gradc.codegen.ptx.target import WARP
from gradc.codegen.ptx.thread import Thread
from gradc.codegen.reducers import Reducer, State, reducer_of, tree
from gradc.codegen.scalars import Point
from gradc.schedule.kernel import Nest, Stage

#: Elements that a member adds up before it joins them to the others.
BLOCK = 64
#: Threads that keep a device busy; with fewer, long rows are cut into parts.
BUSY = 1 << 16
#: A member has at least this many elements of a part.
SHORTEST_PART = 32
#: Threads of a team along a row: a warp where there are many rows and they are short, else a block.
MOST_MEMBERS, SHORT_ROW, MANY_ROWS = 256, 1024, 512
#: Threads of a team across rows, and how many teams stand side by side.
MOST_ACROSS, SIDE_BY_SIDE = 16, WARP
SMALLEST_BLOCK = 128
#: Values of at most 8 bytes in a partial result.
STATE_VALUES = 2
ALIGN = 64

States = tuple[State, ...]


@dataclass(frozen=True, slots=True)
class Team:
    """``members`` threads for each outer index, ``together`` teams in a block, ``parts`` teams for each outer index."""

    members: int
    together: int
    along: bool
    parts: int = 1

    @property
    def block(self) -> int:
        return self.members * self.together


def team_steps(nest: Nest, title: str) -> list[Step]:
    """The steps of a reducing nest."""
    looping = [s for s in nest.stages if s.inner]
    if len({s.inner for s in looping}) > 1 or any(s.scan is not None or s.recur is not None for s in nest.stages):
        return [Each(nest, title)]  # the same element may fall to different members
    if not looping:
        return [Each(nest, title)]
    rows = math.prod(v.extent for v in nest.outer)
    length = math.prod(v.extent for v in looping[0].inner)
    team = _team(rows, length, not nest.across)
    if team.parts == 1 or len(looping) > 1 or looping[0] is not nest.stages[0]:
        return [Rows(nest, title, replace(team, parts=1))]
    return [Rows(nest, f"{title}_parts", team), Joined(nest, title, team)]


def _team(rows: int, length: int, along: bool) -> Team:
    if along:
        most = WARP if length <= SHORT_ROW and rows >= MANY_ROWS else MOST_MEMBERS
        members = min(most, _power_below(length))
        together = SMALLEST_BLOCK // members if members <= WARP else 1
    else:
        members, together = 1, SIDE_BY_SIDE
        while members < min(MOST_ACROSS, length // 4) and rows * members < BUSY:
            members *= 2
    threads = blocks(rows, together) * members * together
    steps = blocks(length, members)
    parts = min(blocks(BUSY, threads), steps // SHORTEST_PART)
    return Team(members, together, along, max(1, parts))


def _power_below(n: int) -> int:
    """The largest power of two that is not larger."""
    return 1 << (n.bit_length() - 1)


class _Walk:
    """What both steps share: where the thread stands, and how a team joins what its members have."""

    attributes = ""

    def __init__(self, nest: Nest, title: str, team: Team):
        self.title, self.team = title, team
        self.nest = replace(nest, lanes=1, packs=())
        self.rows = math.prod(v.extent for v in nest.outer)
        self.groups = blocks(self.rows, team.together)
        self.block = team.block
        self.grid = self.groups
        self.looping = next(s for s in nest.stages if s.inner)
        self.length = math.prod(v.extent for v in self.looping.inner)
        self.scratch_bytes = 0

    def parts_bytes(self, parts: int) -> int:
        """Scratch for the partial results of so many parts of each row."""
        return len(self.looping.reduces) * STATE_VALUES * _part_bytes(self.rows * parts)

    def start(self, thread: Thread, slots: Sequence[str], status: str) -> None:
        """Find the team, the member, and the outer index."""
        self.thread, self.f, self.b = thread, thread.f, thread.b
        self.s = DeviceScalars(self.f, self.nest, slots, status)
        self.all = sorted({k for stage in self.nest.stages for k in self.nest.needed(stage)})
        b, t = self.b, thread.number()
        size = self.team.members if self.team.along else self.team.together
        high, low = (b.idiv(t, size), b.irem(t, size)) if size < self.block else (const(0, "uint32"), t)
        self.member, place = (low, high) if self.team.along else (high, low)
        block = thread.block()
        self.part, group = const(0, "uint32"), block
        if self.grid > self.groups:
            self.part, group = b.idiv(block, self.groups), b.irem(block, self.groups)
        self.row = b.add(b.mul(group, self.team.together), place)
        self.active: Value | None = None
        if self.rows % self.team.together:
            self.active = b.lt(self.row, self.rows)
            self.row = b.min(self.row, self.rows - 1)  # others stand at the last row, and walk no element of it
        self.reducers: list[Reducer] = []

    def outer_point(self) -> Point:
        outside = Point()
        self.s.advance(self.all, outside)
        inside = spread(self.b, self.row, self.nest.outer, outside)
        self.s.advance(self.all, inside)
        return inside

    def reducers_of(self, stage: Stage) -> list[Reducer]:
        counter = "int32" if self.length < 2**31 else "int64"
        code = self.nest.code
        return [reducer_of(r.op, self.f, code[r.value].dtype, r.dtype, 1, counter) for r in stage.reduces]

    def first_member(self) -> Value | None:
        """Whether this thread speaks for its team; None: every thread does."""
        if self.team.members == 1:
            return self.active
        first = self.b.eq(self.member, 0)
        return first if self.active is None else self.b.and_(first, self.active)

    def ends(self, stages: Sequence[Stage], point: Point) -> None:
        """Stages without loops, done by one member."""

        def body() -> None:
            inside = point.enter()
            for stage in stages:
                self.s.advance(self.nest.needed(stage), inside)
                for store in stage.stores:
                    self.s.store(store, inside)

        if any(stage.stores for stage in stages):
            self.settle()
            self.thread.guarded(self.first_member(), body)

    def settle(self) -> None:
        """Wait until all have read what the nest is about to write in place, those too that write nothing."""
        if self.block > 1 and not self.nest.loaded <= self.thread.constant:
            self.thread.barrier()

    # -- joining members ---------------------------------------------------------------------------------------------
    def joined(self, reducers: Sequence[Reducer], states: States) -> States:
        """The partial results of all members in one, which every member gets."""
        if not self.team.along:
            return self._by_memory(reducers, states, self.team.members) if self.team.members > 1 else states
        width = min(self.team.members, WARP)
        states = self._in_warp(reducers, states, width)
        if self.team.members > WARP:
            return self._by_memory(reducers, states, self.team.members // WARP)
        if width == 1:
            return states
        first = self.thread.from_first_lane
        return tuple(tuple(first(v, width) for v in state) for state in states)

    def _in_warp(self, reducers: Sequence[Reducer], states: States, width: int) -> States:
        """A tree of shuffles; the result is right in the first lane of each group."""
        distance = width // 2
        while distance:
            further = [tuple(self.thread.from_lane_below(v, distance, width) for v in x) for x in states]
            states = tuple(r.join(x, y) for r, x, y in zip(reducers, states, further, strict=True))
            distance //= 2
        return states

    def _by_memory(self, reducers: Sequence[Reducer], states: States, count: int) -> States:
        """``count`` partial results of each team pass through shared memory; all threads join all of them."""
        b, team = self.b, self.team
        if team.along:
            writes, slot = b.eq(b.and_(self.member, WARP - 1), 0), b.shr(self.member, 5)
            width, column = 1, const(0, "uint32")
            if team.together > 1:
                raise AssertionError("teams of several warps have a block of their own")
        else:
            writes, slot, width = None, self.member, team.together
            column = b.irem(self.thread.number(), team.together)
        flat = [v for state in states for v in state]
        arrays = [self.thread.shared(v.dtype, count * width, k) for k, v in enumerate(flat)]

        def put() -> None:
            at = b.convert(b.add(b.mul(slot, width), column), "int64")
            for v, array in zip(flat, arrays, strict=True):
                memory.store(self.f, v, memory.offset_pointer(self.f, array, at, v.dtype))

        self.thread.barrier()  # what was there before has been read
        self.thread.guarded(writes, put)
        self.thread.barrier()
        parts = []
        for k in range(count):
            at = b.convert(b.add(column, k * width), "int64")
            loaded = iter(
                memory.load(self.f, memory.offset_pointer(self.f, array, at, v.dtype), v.dtype)
                for v, array in zip(flat, arrays, strict=True)
            )
            parts.append(tuple(tuple(next(loaded) for _ in state) for state in states))
        return tree(reducers, parts)


class Rows(_Walk):
    """All stages of a nest; of a nest cut in parts, the first stage alone, whose partial results go to scratch."""

    def __init__(self, nest: Nest, title: str, team: Team):
        super().__init__(nest, title, team)
        self.grid = self.groups * team.parts
        steps = blocks(blocks(self.length, team.parts), team.members)
        self.chunk = steps * team.members if team.parts > 1 else self.length
        self.private = _row_scratch(nest)
        if team.parts > 1:
            self.scratch_bytes = self.parts_bytes(team.parts)
        else:
            self.scratch_bytes = sum(_aligned(self.rows * size) for size in self.private.values())

    def emit(self, thread: Thread, slots: Sequence[str], scratch: str, status: str) -> None:
        self.start(thread, slots, status)
        if self.private:
            self.s.slots = self._with_own_rows(slots, scratch)
        point = self.outer_point()
        if self.team.parts > 1:
            self._store_part(self._reduce(self.looping, point), scratch)
            return
        for k, stage in enumerate(self.nest.stages):
            if stage.reduces:
                states = self._reduce(stage, point)
                reducers = self.reducers_of(stage)
                for at, which in self.nest.totals(stage).items():
                    self.s.set(at, reducers[which].end(states[which]), point)
                self.s.advance(self.all, point)
            elif stage.inner:
                self._pass(stage, point)
            else:
                self.ends(self.nest.stages[k : k + 1], point)

    def _with_own_rows(self, slots: Sequence[str], scratch: str) -> list[str]:
        """``slots``, where each team has its own row of those that hold one row at a time."""
        found, offset = list(slots), 0
        for slot, size in self.private.items():
            first = self.f.let(f"getelementptr i8, ptr {scratch}, i64 {offset}")
            start = self.b.mul(self.b.convert(self.row, "int64"), size)
            found[slot] = self.f.let(f"getelementptr i8, ptr {first}, i64 {start.ref}")
            offset += _aligned(self.rows * size)
        return found

    def _reduce(self, stage: Stage, point: Point) -> States:
        reducers, needed = self.reducers_of(stage), self.nest.needed(stage)

        def take(states: States, at: Value, inside: Point) -> States:
            self.s.advance(needed, inside)
            self._store(stage, inside)
            position = self.b.convert(at, reducers[0].counter)
            return tuple(
                r.step(x, self.s.value(a.value, inside, False), position, None)
                for r, x, a in zip(reducers, states, stage.reduces, strict=True)
            )

        states = tuple(r.start() for r in reducers)
        if not stage.inner:
            return take(states, const(0, "int64"), point.enter())
        return self.joined(reducers, self._accumulated(reducers, states, point, stage, take))

    def _accumulated(
        self, reducers: Sequence[Reducer], states: States, point: Point, stage: Stage,
        take: Callable[[States, Value, Point], States],
    ) -> States:  # fmt: skip
        """The member's own elements, `BLOCK` at a time."""
        b, members = self.b, self.team.members
        begin, end = self._bounds()
        first = b.add(begin, b.convert(self.member, "int64"))

        def stretch(start: Value, stop: Value) -> States:
            with self.f.loop(start, stop, members, carry=_flat(states)) as loop:
                inside = spread(b, self._narrow(loop.index), stage.inner, point)
                loop.next = _flat(take(_shaped(states, loop.carry), loop.index, inside))
            return _shaped(states, loop.result)

        if self.chunk <= BLOCK * members:
            return stretch(first, end)
        with self.f.loop(first, end, BLOCK * members, carry=_flat(states)) as outer:
            stop = b.min(b.add(outer.index, BLOCK * members), end)
            found = stretch(outer.index, stop)
            before = _shaped(states, outer.carry)
            outer.next = _flat(tuple(r.join(x, y) for r, x, y in zip(reducers, before, found, strict=True)))
        return _shaped(states, outer.result)

    def _bounds(self) -> tuple[Value, Value]:
        """The elements of the row that this part has; none for a team without a row."""
        if self.team.parts == 1:
            return const(0, "int64"), self._if_active(const(self.length, "int64"))
        begin = self.b.mul(self.b.convert(self.part, "int64"), self.chunk)
        return begin, self._if_active(self.b.min(self.b.add(begin, self.chunk), self.length))

    def _if_active(self, end: Value) -> Value:
        return end if self.active is None else self.b.select(self.active, end, 0)

    def _narrow(self, index: Value) -> Value:
        """The index in 32 bits where it will be divided and fits."""
        several = len(self.looping.inner) > 1
        return self.b.convert(index, "uint32") if several and self.length < 2**31 else index

    def _pass(self, stage: Stage, point: Point) -> None:
        """A stage that only stores."""
        needed = self.nest.needed(stage)
        _, end = self._bounds()
        with self.f.loop(self.b.convert(self.member, "int64"), end, self.team.members) as loop:
            inside = spread(self.b, self._narrow(loop.index), stage.inner, point)
            self.s.advance(needed, inside)
            self._store(stage, inside)

    def _store(self, stage: Stage, point: Point) -> None:
        if stage.stores and not stage.inner:
            self.settle()
        if stage.stores:
            self.thread.guarded(None if stage.inner else self.active, lambda: self._store_all(stage, point))

    def _store_all(self, stage: Stage, point: Point) -> None:
        for store in stage.stores:
            self.s.store(store, point)

    def _store_part(self, states: States, scratch: str) -> None:
        flat = _flat(states)
        count = self.rows * self.team.parts
        place = self.b.add(self.b.mul(self.b.convert(self.part, "int64"), self.rows), self.b.convert(self.row, "int64"))

        def put() -> None:
            for k, v in enumerate(flat):
                memory.store(self.f, v, _part_pointer(self.thread, scratch, k * _part_bytes(count), place, v.dtype))

        self.thread.guarded(self.first_member(), put)


class Joined(_Walk):
    """The second step of a nest cut in parts: their partial results joined, and the stages that follow."""

    def __init__(self, nest: Nest, title: str, team: Team):
        rows = math.prod(v.extent for v in nest.outer)
        members = min(MOST_MEMBERS, _power_below(team.parts)) if team.along else 1
        if team.along:
            together = SMALLEST_BLOCK // members if members <= WARP else 1
        else:
            together = min(SMALLEST_BLOCK, blocks(rows, WARP) * WARP)
        super().__init__(nest, title, Team(members, together, team.along))
        self.parts = team.parts
        self.scratch_bytes = self.parts_bytes(team.parts)

    def emit(self, thread: Thread, slots: Sequence[str], scratch: str, status: str) -> None:
        self.start(thread, slots, status)
        point = self.outer_point()
        reducers = self.reducers_of(self.looping)
        states = tuple(r.start() for r in reducers)
        b, size = self.b, _part_bytes(self.rows * self.parts)
        row = b.convert(self.row, "int64")
        with self.f.loop(b.convert(self.member, "int64"), self.parts, self.team.members, carry=_flat(states)) as loop:
            place = b.add(b.mul(loop.index, self.rows), row)
            loaded = [
                memory.load(self.f, _part_pointer(thread, scratch, k * size, place, v.dtype), v.dtype)
                for k, v in enumerate(_flat(states))
            ]
            before = _shaped(states, loop.carry)
            joins = zip(reducers, before, _shaped(states, loaded), strict=True)
            loop.next = _flat(tuple(r.join(x, y) for r, x, y in joins))
        states = self.joined(reducers, _shaped(states, loop.result))
        for at, which in self.nest.totals(self.looping).items():
            self.s.set(at, reducers[which].end(states[which]), point)
        self.s.advance(self.all, point)
        self.ends(self.nest.stages[1:], point)


def _part_bytes(count: int) -> int:
    """Bytes for one value of each of ``count`` partial results."""
    return _aligned(8 * count)


def _aligned(size: int) -> int:
    return blocks(size, ALIGN) * ALIGN


def _part_pointer(thread: Thread, scratch: str, offset: int, place: Value, dtype: str) -> str:
    first = thread.f.let(f"getelementptr i8, ptr {scratch}, i64 {offset}")
    return memory.offset_pointer(thread.f, first, place, dtype)


def _row_scratch(nest: Nest) -> dict[int, int]:
    """Slots that hold one row at a time, written where no outer variable counts, and the bytes of that row."""
    outer = {v for v in nest.outer if v.extent > 1}
    found: dict[int, int] = {}
    for s in nest.stores:
        if outer and not s.terms and not outer & s.offset.variables:
            size = (s.offset.high + 1) * np.dtype(s.dtype).itemsize
            found[s.slot] = max(found.get(s.slot, 0), blocks(size, 16) * 16)
    return found


def _flat(states: States) -> list[Value]:
    return [v for state in states for v in state]


def _shaped(like: States, flat: Sequence[Value]) -> States:
    values = iter(flat)
    return tuple(tuple(next(values) for _ in state) for state in like)
