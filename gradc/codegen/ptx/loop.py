"""Loops, branches and calls around kernels, as items of the launch plan.

Enters: a `Repeat`, `Choice` or `Call`, pointers of its kernel's slots, and how bodies and small steps become items.
Leaves: items.  Carries that go back and forth between two homes take two steps at a time, so that every launch has its
pointers for good but for rows, which move by a stride.  Where a number of steps is odd and known, the schedule has put
the first carries into the spare homes.  Rows that do not start at multiples of 16 bytes are copied to where they do.
Start reading at `Loops.repeated`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gradc.codegen import memory
from gradc.codegen.ir import Value, const
from gradc.codegen.ptx.launch import Fork, Item, Launch, Pointer, Steps, Stop
from gradc.codegen.ptx.step import blocks, global_number, threads_for
from gradc.codegen.ptx.thread import Thread
from gradc.schedule.bodies import Body, Call, Choice, Handed, Repeat, Row

#: What a kernel may move at once, if both places are multiples of it: bytes, dtype, how many.
UNITS = ((16, "uint32", 4), (8, "uint64", 1), (4, "uint32", 1), (2, "uint16", 1), (1, "uint8", 1))
ALIGN = 16


@dataclass(frozen=True, slots=True)
class Frame:
    """The pointers of a kernel's slots, inside of ``depth`` loops."""

    slots: Sequence[Pointer]
    depth: int

    def __getitem__(self, slot: int) -> Pointer:
        return self.slots[slot]


#: ``bodies(body, inputs, outputs, arena, depth)``: the items of a body on these pointers
Bodies = Callable[[Body, Sequence[Pointer], Sequence[Pointer], Pointer | None, int], Sequence[Item]]
#: ``small(step, pointers)``: the launch of a step
Small = Callable[["Count | Copied", Sequence[Pointer]], Launch]


class Loops:
    """``spare(size)`` is memory for a row while it is not where it belongs."""

    def __init__(self, bodies: Bodies, small: Small, spare: Callable[[int], Pointer]):
        self.bodies, self.small, self.spare = bodies, small, spare

    def chosen(self, work: Choice, frame: Frame) -> list[Item]:
        """One of two bodies."""
        inputs, outputs = [frame[s] for s in work.operands], [frame[s] for s in work.results]
        arena = _slot(frame, work.arena)
        one, other = (tuple(self.bodies(b, inputs, outputs, arena, frame.depth)) for b in (work.body, work.otherwise))
        return [Fork(frame[work.which], one, other)]

    def called(self, work: Call, frame: Frame) -> list[Item]:
        """A body, where it is called: launches know nothing of functions."""
        inputs, outputs = [frame[s] for s in work.operands], [frame[s] for s in work.results]
        return list(self.bodies(work.body, inputs, outputs, _slot(frame, work.arena), frame.depth))

    def repeated(self, work: Repeat, frame: Frame) -> list[Item]:
        """A body, again and again."""
        loop = _Loop(self, work, frame)
        return loop.counted() if work.again is None else loop.conditional()


class _Loop:
    def __init__(self, loops: Loops, work: Repeat, frame: Frame):
        self.loops, self.work, self.frame = loops, work, frame
        self.consts = [frame[s] for s in work.consts]
        self.arena = _slot(frame, work.arena)
        self.swaps = any(c.spare >= 0 for c in work.carries)
        self.backwards = work.reverse and work.length is not None

    def counted(self) -> list[Item]:
        """A number of steps that is known; two at a time where carries change places, then the odd one comes first."""
        length = self.work.length or 0
        if not length:
            return []
        if not self.swaps:
            return [*self._count_from(), Steps(length, (*self._step(0, 1, False),))]
        odd = length % 2
        first = self._step(0, 0, True) if odd else []
        pair = (*self._step(odd, 2, False), *self._step(odd + 1, 2, True))
        return [*self._count_from(), *first, *([Steps(length // 2, pair)] if length > 1 else [])]

    def conditional(self) -> list[Item]:
        """While the condition holds; what it says is asked before each step."""
        work, flag = self.work, self.frame[self.work.flag]
        if not self.swaps:
            step = (*self._asked(False), Stop(flag), *self._step(0, 1, False))
            return [*self._count_from(), Steps(work.length, step)]
        home = tuple(self._brought_home())
        pair = (
            *self._asked(False), Stop(flag), *self._step(0, 2, False),
            *self._asked(True), Stop(flag, home), *self._step(1, 2, True),
        )  # fmt: skip
        if work.length is None:
            return [*self._count_from(), Steps(None, pair)]
        items: list[Item] = [*self._count_from(), Steps(work.length // 2, pair)]
        if work.length % 2:  # where the steps before were left, the condition says no once more
            items += [*self._asked(False, inside=False), Fork(flag, (*self._step(work.length - 1, 0, False), *home))]
        return items

    # -- one step ----------------------------------------------------------------------------------------------------
    def _step(self, first: int, each: int, back: bool) -> list[Item]:
        """Step ``first`` + ``each``·t inside of t steps around it, or step ``first`` if ``each`` is 0.

        ``back``: carries go from their spare homes to their homes.
        """
        work, depth = self.work, self.frame.depth + (each > 0)
        items: list[Item] = []
        if work.counter >= 0:
            items.append(self.loops.small(Count(-1 if self.backwards else 1, True), [self.frame[work.counter]]))
        now, then = self._places(back)
        xs, ys = ([self._row(x, first, each) for x in rows] for rows in (work.xs, work.ys))
        near_xs = [self._aligned(x, at) for x, at in zip(work.xs, xs, strict=True)]
        near_ys = [self._aligned(y, at) for y, at in zip(work.ys, ys, strict=True)]
        items += self._moved(work.xs, xs, near_xs)
        items += self.loops.bodies(work.body, [*self.consts, *now, *near_xs], [*then, *near_ys], self.arena, depth)
        return [*items, *self._moved(work.ys, near_ys, ys)]

    def _aligned(self, row: Row, place: Pointer) -> Pointer:
        """Where the body finds a row: at its place, or where it may be read 16 bytes at a time."""
        return place if row.slot < 0 or row.bytes % ALIGN == 0 else self.loops.spare(row.bytes)

    def _moved(self, rows: Sequence[Row], sources: Sequence[Pointer], targets: Sequence[Pointer]) -> list[Item]:
        """Copies of the rows that lie elsewhere for the body."""
        moves = [x for x in zip(rows, sources, targets, strict=True) if x[1] != x[2]]
        return [self.loops.small(Copied(row.bytes), [source, to]) for row, source, to in moves]

    def _row(self, row: Row, first: int, each: int) -> Pointer:
        """Where a step reads or writes a row."""
        if row.slot < 0:
            return self.frame[self.work.counter]
        start, stride = first * row.bytes, each * row.bytes
        if self.backwards:
            start, stride = ((self.work.length or 0) - 1) * row.bytes - start, -stride
        return self.frame[row.slot].moved(start, stride, self.frame.depth)

    def _places(self, back: bool) -> tuple[list[Pointer], list[Pointer]]:
        """Where the carries are before and after a step."""

        def pair(c: Handed) -> tuple[Pointer, Pointer]:
            home, spare = self.frame[c.home], self.frame[c.spare if c.spare >= 0 else c.home]
            return (spare, home) if back else (home, spare)

        places = [pair(c) for c in self.work.carries]
        return [now for now, _ in places], [then for _, then in places]

    def _asked(self, back: bool, inside: bool = True) -> list[Item]:
        """The condition of the carries where they are."""
        work = self.work
        assert work.again is not None
        inputs = [*self.consts, *self._places(back)[0]]
        depth = self.frame.depth + inside
        return list(self.loops.bodies(work.again, inputs, [self.frame[work.flag]], self.arena, depth))

    def _brought_home(self) -> list[Item]:
        """After an odd number of steps the carries that go back and forth are not where they belong."""
        moved = [c for c in self.work.carries if c.spare >= 0 and c.bytes]
        return [self.loops.small(Copied(c.bytes), [self.frame[c.spare], self.frame[c.home]]) for c in moved]

    def _count_from(self) -> list[Item]:
        """The number of the step before the first one."""
        if self.work.counter < 0:
            return []
        before = self.work.length if self.backwards and self.work.length is not None else -1
        return [self.loops.small(Count(before, False), [self.frame[self.work.counter]])]


def _slot(frame: Frame, slot: int) -> Pointer | None:
    return frame[slot] if slot >= 0 else None


# -- small steps -------------------------------------------------------------------------------------------------------


class Count:
    """One thread that sets a counter to ``value``, or ``adds`` that."""

    title = "count"
    grid, block = 1, 32
    scratch_bytes = 0
    attributes = ""

    def __init__(self, value: int, adds: bool):
        self.value, self.adds, self.key = value, adds, (value, adds)

    def emit(self, thread: Thread, slots: Sequence[str], scratch: str, status: str) -> None:
        f, b = thread.f, thread.b

        def write() -> None:
            value = const(self.value, "int64")
            if self.adds:
                value = b.add(memory.load(f, slots[0], "int64"), value)
            memory.store(f, value, slots[0])

        thread.guarded(b.eq(thread.number(), 0), write)


class Copied:
    """``size`` bytes from the first slot to the second one."""

    title = "copy"
    scratch_bytes = 0
    attributes = ""

    def __init__(self, size: int):
        self.key = (size, False)
        unit, self.dtype, self.lanes = next(u for u in UNITS if size % u[0] == 0)
        self.count = size // unit
        self.block = threads_for(self.count)
        self.grid = blocks(self.count, self.block)

    def emit(self, thread: Thread, slots: Sequence[str], scratch: str, status: str) -> None:
        number = global_number(thread, self.block, self.count)

        def move() -> None:
            at = thread.b.mul(thread.b.convert(number, "int64"), self.lanes)
            source, to = (memory.offset_pointer(thread.f, slot, at, self.dtype) for slot in slots)
            value = memory.load(thread.f, source, self.dtype, self.lanes, aligned=True)
            memory.store(thread.f, value, to, aligned=True)

        inside: Value | None = thread.b.lt(number, self.count) if self.count % self.block else None
        thread.guarded(inside, move)
