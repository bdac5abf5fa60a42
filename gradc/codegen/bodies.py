"""Loops, branches and calls around kernels: pointers that move, and calls of functions.

Enters: a `Repeat`, `Choice` or `Call`, the pointers of its kernel's slots, and how the function of an inner kernel is
found.  Leaves: the loop, in a function under construction.  A step costs its kernels, and for each row an addition.
Start reading at `emit_repeat`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext

from gradc.codegen.ir import Function, Lanes, Value, const
from gradc.codegen.memory import copy_bytes, load, offset_pointer
from gradc.codegen.poll import LONG, ask, emit_poll, going_on, looking, unless_stopped
from gradc.schedule.bodies import Body, Call, Choice, Handed, Repeat
from gradc.schedule.kernel import Kernel, Place

FunctionOf = Callable[[Kernel], str]
#: Bytes of a large carry that are copied between two looks whether to end.
COPIED = 2**18


def emit_repeat(f: Function, work: Repeat, slots: Sequence[str], function: FunctionOf) -> None:
    """The loop of ``work``; ``function`` names the function of a kernel of its bodies."""
    _Loop(f, work, slots, function).emit()


def emit_choice(f: Function, work: Choice, slots: Sequence[str], function: FunctionOf) -> None:
    """The branch of ``work``."""
    inputs, outputs = [slots[s] for s in work.operands], [slots[s] for s in work.results]
    which, b = load(f, slots[work.which], "bool"), Lanes(f)
    for taken, body in ((which, work.body), (b.not_(which), work.otherwise)):
        with f.when(taken):
            call_kernels(f, body, inputs, outputs, _slot(slots, work.arena), function)


def emit_call(f: Function, work: Call, slots: Sequence[str], function: FunctionOf) -> None:
    """The body of ``work``, unless the function shall end: so calls in calls end one after another."""
    with unless_stopped(f, "%status"):
        inputs, outputs = [slots[s] for s in work.operands], [slots[s] for s in work.results]
        call_kernels(f, work.body, inputs, outputs, _slot(slots, work.arena), function)


def call_kernels(
    f: Function, body: Body, inputs: Sequence[str], outputs: Sequence[str], arena: str, function: FunctionOf
) -> None:
    """The kernels of a body on pointers to its inputs, outputs and temporaries; between long ones the body may end."""
    taken = {j: i for i, j in body.donated}
    known: dict[int, str] = {}

    def pointer(number: int) -> str:
        if number not in known:
            b = body.buffers[number]
            if b.place is Place.INPUT:
                known[number] = inputs[b.at]
            elif b.place is Place.OUTPUT:
                known[number] = inputs[taken[b.at]] if b.at in taken else outputs[b.at]
            else:
                known[number] = offset_pointer(f, arena, b.at, "uint8")
        return known[number]

    since, looked = 0.0, False  # what is done since the last look
    for kernel in body.kernels:
        arguments = ", ".join(f"ptr {p}" for p in [*map(pointer, kernel.slots), "%scratch", "%status"])
        operations = kernel.flops + kernel.bytes / 8
        if f.module.polls and since + operations > LONG:
            ask(f, "%status")
            since, looked = 0.0, True
        since += operations
        with unless_stopped(f, "%status") if looked else nullcontext():
            f.line(f"call void @{function(kernel)}({arguments})")


def _slot(slots: Sequence[str], slot: int) -> str:
    return slots[slot] if slot >= 0 else "null"


class _Loop:
    def __init__(self, f: Function, work: Repeat, slots: Sequence[str], function: FunctionOf):
        self.f, self.work, self.slots, self.function = f, work, slots, function
        self.b = Lanes(f)
        self.consts = [slots[s] for s in work.consts]
        self.arena = _slot(slots, work.arena)
        self.now: list[str] = []  # pointers to the carries of this step
        self.then: list[str] = []  # and to those of the next one

    def emit(self) -> None:
        work = self.work
        with self.f.loop_while(self._more) as loop:
            row = loop.index
            if work.reverse and work.length is not None:
                row = self.b.sub(const(work.length - 1, "int64"), row)
            self._step(row)
        if work.again is not None:
            self._bring_home(loop.index)

    def _more(self, index: Value, _: Sequence[Value]) -> Value:
        """Whether there is one more step; also says where its carries are."""
        work, b = self.work, self.b
        pairs = [self._places(c, index) for c in work.carries]
        self.now, self.then = [p for p, _ in pairs], [p for _, p in pairs]
        inside = b.lt(index, const(work.length, "int64")) if work.length is not None else const(True, "bool")
        stop = emit_poll(self.f, "%status", index, work.operations, work.length)
        if stop is not None:
            inside = going_on(self.f, "%status", b.and_(inside, b.not_(stop)))
        if work.again is None:
            return inside
        call_kernels(self.f, work.again, [*self.consts, *self.now], [self.slots[work.flag]], self.arena, self.function)
        holds = load(self.f, self.slots[work.flag], "bool")
        fine = b.eq(Value(self.f.let("load i64, ptr %status, align 8"), "int64"), 0)
        return b.and_(inside, b.and_(holds, fine))

    def _places(self, carry: Handed, index: Value) -> tuple[str, str]:
        """Where a carry is before and after step ``index``."""
        home = self.slots[carry.home]
        if carry.spare < 0:
            return home, home
        first, second = home, self.slots[carry.spare]
        if self.work.again is None and self.work.steps % 2:  # so that the last step ends at home
            first, second = second, first
        odd = self.f.let(f"trunc i64 {index.ref} to i1")
        now = self.f.let(f"select i1 {odd}, ptr {second}, ptr {first}")
        return now, self.f.let(f"select i1 {odd}, ptr {first}, ptr {second}")

    def _step(self, row: Value) -> None:
        work = self.work
        if work.counter >= 0:
            self.f.line(f"store i64 {row.ref}, ptr {self.slots[work.counter]}, align 8")
        xs = [self._row(x.slot, x.bytes, row) if x.slot >= 0 else self.slots[work.counter] for x in work.xs]
        ys = [self._row(y.slot, y.bytes, row) for y in work.ys]
        inputs = [*self.consts, *self.now, *xs]
        call_kernels(self.f, work.body, inputs, [*self.then, *ys], self.arena, self.function)

    def _row(self, slot: int, size: int, row: Value) -> str:
        if not size:
            return self.slots[slot]
        return offset_pointer(self.f, self.slots[slot], self.b.mul(row, size), "uint8")

    def _bring_home(self, steps: Value) -> None:
        """After an odd number of steps the carries that go back and forth are not where they belong."""
        moved = [c for c in self.work.carries if c.spare >= 0]
        if moved:
            with self.f.when(Value(self.f.let(f"trunc i64 {steps.ref} to i1"), "bool")):
                for carry in moved:
                    self._copy(self.slots[carry.spare], self.slots[carry.home], carry.bytes)

    def _copy(self, source: str, target: str, size: int) -> None:
        if not self.f.module.polls or size <= LONG:
            copy_bytes(self.f, source, target, size)
            return
        whole = size // COPIED * COPIED
        with looking(self.f, "%status", 0, whole, COPIED, COPIED) as loop:
            here, there = (offset_pointer(self.f, p, loop.index, "uint8") for p in (source, target))
            copy_bytes(self.f, here, there, COPIED)
        here, there = (offset_pointer(self.f, p, whole, "uint8") for p in (source, target))
        copy_bytes(self.f, here, there, size - whole)
