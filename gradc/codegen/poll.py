"""A look, now and then, whether the function shall end before its work is done: what loops of many steps take.

Enters: a loop under construction.  Leaves: a bool, true where somebody has asked for the end.
Invariant: only code that the process itself calls looks; the word behind its status word points to what
``i64 @gradc_poll(ptr status, i64 who)`` wants to know, and whoever loads the module provides that function.  It writes
the status word when it says yes, and it is asked so seldom that no loop is the slower for it.  Start at `emit_poll`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from gradc.codegen.ir import Function, Value, const
from gradc.schedule.bodies import Choice, Repeat
from gradc.schedule.kernel import Nest, Sort, Work

#: The symbol of the function that knows whether to go on.
POLL = "gradc_poll"
#: Kinds in the low byte of the status word: ended early before anything of a donated array was overwritten, or after.
INTERRUPTED, HALF_WRITTEN = 254, 255
#: Operations, each of about half a nanosecond, between two looks.
BETWEEN = 2**17
#: Operations that a step of a loop costs besides its own.
STEP = 8


def polls(ir_text: str) -> bool:
    """Whether a module looks."""
    return f"@{POLL}(" in ir_text


def steps_between(operations: float) -> int:
    """How many steps of so many operations each go by between two looks, a power of two."""
    steps = int(BETWEEN / (operations + STEP))
    return 1 << max(steps.bit_length() - 1, 0)


def emit_poll(f: Function, status: str, index: Value, operations: float, length: int | None) -> Value | None:
    """Whether to end before step ``index`` of a loop of ``length`` steps, each of so many operations.

    None where nobody looks, or where the loop is over before that.
    """
    every = steps_between(operations)
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


def looks(work: Work) -> bool:
    """Whether the code of some work may look."""
    if isinstance(work, Nest):
        return any(stage.recur is not None for stage in work.stages)
    return isinstance(work, Repeat | Choice | Sort)


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
