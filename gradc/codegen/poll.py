"""A look, now and then, whether the function shall end before its work is done: what all work takes that may be long.

Enters: a loop under construction, or a piece of work.  Leaves: a bool, true where somebody has asked for the end; loops
that end early.
Invariant: only code that the process itself calls looks; the word behind its status word points to what
``i64 @gradc_poll(ptr status, i64 who)`` wants to know, and whoever loads the module provides that function.  It writes
the status word when it says yes, and it is asked so seldom that no loop is the slower for it.  Work that is `LONG`
looks, and work that is not, which is told from its shape alone, carries no instruction for it.

Three ways to look, for three kinds of loops: `emit_poll` where a condition stands anyway; `looking` cuts a counted loop
into chunks and looks before each; a `Meter` adds up what calls of different length cost.  Start at `looks`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

from gradc.codegen.ir import Function, Lanes, Loop, Value, const
from gradc.codegen.status import INTERRUPTED
from gradc.schedule.affine import Var
from gradc.schedule.bodies import Holder
from gradc.schedule.factor import Factor
from gradc.schedule.kernel import (
    Apply,
    Correlation,
    Instruction,
    Load,
    Lookup,
    Nest,
    Product,
    Search,
    Sort,
    Stage,
    Work,
)

#: The symbol of the function that knows whether to go on.
POLL = "gradc_poll"
#: Operations, each of about half a nanosecond, between two looks of a loop whose length nobody knows.
OFTEN = 2**17
#: And between two looks of work of known length: of nests, products, correlations, sorts and searches.
BETWEEN = 2**20
#: Operations that a step of a loop costs besides its own, and what it costs to bring a vector from memory or there.
STEP, ACCESS = 8, 8
#: What a `Meter` is told by a loop around others that tell it more: whoever is to end ends there as well.
AGAIN = 1
#: Work of more operations looks while it is done: some milliseconds.
LONG = 2**23
#: Multiplications with their additions that are one operation, whatever the width of vectors.
MACS = 32
#: What merging one element of a sort costs, or a step of a search.
OF_A_COMPARISON = 8


def polls(ir_text: str) -> bool:
    """Whether a module looks."""
    return f"@{POLL}(" in ir_text


def steps_between(operations: float, between: int = BETWEEN) -> int:
    """How many steps of so many operations each go by between two looks, a power of two."""
    steps = int(between / (operations + STEP))
    return 1 << max(steps.bit_length() - 1, 0)


def emit_poll(f: Function, status: str, index: Value, operations: float, length: int | None) -> Value | None:
    """Whether to end before step ``index`` of a loop of ``length`` steps, each of so many operations.

    None where nobody looks, or where the loop is over before that.
    """
    every = steps_between(operations, OFTEN)
    if not f.module.polls or (length is not None and length <= every):
        return None
    turn = f.let(f"and i64 {index.ref}, {every - 1}")
    due = Value(f.let(f"icmp eq i64 {turn}, {every - 1}"), "bool")
    with f.unless_rare(due, [const(False, "bool")]) as asked:
        asked.next = [ask(f, status)]
    return asked.result[0]


def ask(f: Function, status: str) -> Value:
    """Whether to end now."""
    name = f.module.declare(POLL, "i64", "ptr", "i64")
    answer = f.let(f"call i64 @{name}(ptr {status}, i64 {f.who})")
    return Value(f.let(f"icmp ne i64 {answer}, 0"), "bool")


# -- how much there is to do -------------------------------------------------------------------------------------------


def looks(work: Work) -> bool:
    """Whether the code of some work may look."""
    if isinstance(work, Nest) and any(stage.recur is not None for stage in work.stages):
        return True
    return isinstance(work, Holder | Sort) or operations(work) > LONG


def operations(work: Nest | Product | Correlation | Search | Factor) -> float:
    """Roughly what some work does, in operations of half a nanosecond each."""
    if isinstance(work, Nest):
        return within(work, work.outer)
    if isinstance(work, Product):
        after = within(work.epilogue.nest, work.epilogue.nest.outer) if work.epilogue is not None else 0.0
        moved = work.m * work.k + work.k * work.n + work.m * work.n
        return math.prod(work.batch) * (work.m * work.n * work.k / MACS + moved / 2) + after
    if isinstance(work, Correlation):
        return work.macs / MACS
    if isinstance(work, Factor):
        return work.flops / 2
    return work.rows * work.per_row * of_a_search(work)


def of_a_search(search: Search) -> int:
    """What it costs to find the place of one value."""
    return STEP + search.length.bit_length() * OF_A_COMPARISON


def within(nest: Nest, outer: Sequence[Var]) -> float:
    """What a nest does in all steps of the loops over ``outer``, the innermost ones around its stages."""
    return _steps(nest, outer) * sum(within_stage(nest, stage, stage.inner) for stage in nest.stages)


def within_stage(nest: Nest, stage: Stage, inner: Sequence[Var]) -> float:
    """What a stage does in all steps of the loops over ``inner``, its innermost ones."""
    return _steps(nest, inner) * of_a_step(nest, stage)


def of_a_step(nest: Nest, stage: Stage) -> float:
    """What one step of a stage does."""
    stored = len(stage.stores) + (stage.scan is not None)
    return STEP + ACCESS * stored + len(stage.reduces) + sum(_weight(nest.code[k]) for k in nest.needed(stage))


def _steps(nest: Nest, loops: Sequence[Var]) -> int:
    """How many turns the loops take, a vector of lanes in each."""
    return math.prod(-(-v.extent // nest.lanes) if v == nest.lane else v.extent for v in loops)


def _weight(x: Instruction) -> float:
    if isinstance(x, Apply):
        return x.op.element_cost
    return ACCESS if isinstance(x, Load | Lookup) else 1.0


# -- loops that look ---------------------------------------------------------------------------------------------------


@contextmanager
def looking(
    f: Function, status: str, start: Value | int, stop: Value | int, step: int, operations: float,
    carry: Sequence[Value] = (),
) -> Iterator[Loop]:  # fmt: skip
    """`Function.loop` in chunks of about `BETWEEN` operations, each step of so many; before a chunk it may end."""
    end = stop if isinstance(stop, Value) else const(stop, "int64")
    i, far = Lanes(f), step * steps_between(operations)

    def more(index: Value, _: Sequence[Value]) -> Value:
        return i.and_(i.not_(ask(f, status)), i.lt(index, end))

    with f.loop_while(more, carry, start, far) as chunks:
        if far == step:
            yield chunks
            return
        last = i.min(i.add(chunks.index, far), end)
        with f.loop(chunks.index, last, step, carry=chunks.carry) as loop:
            yield loop
        chunks.next = loop.result
    loop.result = chunks.result


def walking(
    f: Function, status: str, start: Value | int, stop: Value | int, step: int, operations: float, inside: float,
    steps: int, carry: Sequence[Value] = (),
) -> AbstractContextManager[Loop]:  # fmt: skip
    """`looking` if a loop of so many ``steps`` is long and the longest loop ``inside`` it is not; else a plain loop.

    So of loops in one another the outermost looks of those whose steps are short.
    """
    if f.module.polls and operations * steps > BETWEEN and inside <= BETWEEN:
        return looking(f, status, start, stop, step, operations, carry)
    return f.loop(start, stop, step, carry)


@dataclass(frozen=True)
class Meter:
    """What a function has done since it looked last, in memory: for calls in loops, each of known cost.

    None of it where nobody looks: `spending` then costs nothing.
    """

    f: Function
    status: str
    spent: str

    @classmethod
    def of(cls, f: Function, status: str) -> Meter:
        """A meter that stands at zero; to be made where the function begins."""
        spent = f.alloca("i64", 1, 8)
        f.line(f"store i64 0, ptr {spent}, align 8")
        return cls(f, status, spent)

    @contextmanager
    def _spending(self, operations: float) -> Iterator[None]:
        f, i = self.f, Lanes(self.f)
        total = i.add(Value(f.let(f"load i64, ptr {self.spent}, align 8"), "int64"), max(1, math.ceil(operations)))
        with f.unless_rare(i.gt(total, BETWEEN), [const(False, "bool"), total]) as due:
            stop = ask(f, self.status)
            due.next = [stop, i.select(stop, total, 0)]  # who was told once is told again
        stop, left = due.result
        f.line(f"store {left.typed}, ptr {self.spent}, align 8")
        with f.when(i.not_(stop)):
            yield


def spending(meter: Meter | None, operations: float) -> AbstractContextManager[None]:
    """Run what is emitted inside, which takes so many operations, unless the function shall end."""
    return nullcontext() if meter is None else meter._spending(operations)


def going_on(f: Function, status: str, more: Value) -> Value:
    """``more``, and nobody has asked for the end."""
    if not f.module.polls:
        return more
    return Value(f.let(f"and i1 {more.ref}, {_is_fine(f, status)}"), "bool")


@contextmanager
def unless_stopped(f: Function, status: str) -> Iterator[None]:
    """Run what is emitted inside if nobody has asked for the end."""
    if not f.module.polls:
        yield
        return
    with f.when(Value(_is_fine(f, status), "bool")):
        yield


def _is_fine(f: Function, status: str) -> str:
    return f.let(f"icmp ne i64 {f.let(f'load i64, ptr {status}, align 8')}, {INTERRUPTED}")
